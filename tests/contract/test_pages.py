"""Lists, page by page: each row once, whatever the size of the pages, and no position that was never given out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from crm_mcp.backends.base import (
    Backend,
    FindsLeads,
    ImportsLeads,
    KeepsTasks,
    LogsNotes,
    ReadsActivity,
    ReadsCalls,
    ReadsDeals,
    ReadsMessages,
    WritesDeals,
    WritesLeads,
)
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import DealFields, DealFilter, ImportRow, Lead, LeadFilter, NoteDraft, Slice, TaskFields

from .reading import every, someone

MANY = 13
LIMITS: tuple[tuple[int, ...], ...] = ((1,), (3,), (100,), (5, 1, 3), (1, 100))
NEVER_GIVEN = ("", "x", "-1", "1.5", "[", "[null]", '["1"]', "{}", "5:x", "١٢x", "9" * 30, "[" * 5000)


class Writing(WritesLeads, Backend):
    """What the test of positions needs."""


class Decision(FindsLeads, ImportsLeads, Backend):
    """What the tests of leads need."""


class Noting(LogsNotes, WritesLeads, Backend):
    """What the tests of notes need."""


class Acting(ReadsActivity, LogsNotes, WritesLeads, Backend):
    """What the tests of all activity need."""


class Doing(KeepsTasks, Backend):
    """What the tests of tasks need."""


class Dealing(ReadsDeals, WritesDeals, Backend):
    """What the tests of deals need."""


async def fill(crm: ImportsLeads, numbers: range) -> list[str]:
    """Create leads; returns their addresses, sorted."""
    for start in range(numbers.start, numbers.stop, crm.import_size):
        rows = [ImportRow(draft=someone(n)) for n in range(start, min(start + crm.import_size, numbers.stop))]
        assert {each.outcome for each in await crm.import_leads(rows, "error")} == {"created"}
    return sorted(someone(n).email or "" for n in numbers)


def addresses(leads: list[Lead]) -> list[str]:
    return sorted(each.email or "" for each in leads)


async def test_pages_of_leads_hold_each_once(crm: Decision):
    made = await fill(crm, range(MANY))

    for limits in LIMITS:
        assert addresses(await every(lambda part: crm.search_leads(LeadFilter(), part), limits)) == made


async def test_pages_of_what_a_search_finds_hold_each_once(crm: Decision):
    made = await fill(crm, range(MANY))

    for limits in ((1,), (3,), (2, 100)):
        found = await every(lambda part: crm.search_leads(LeadFilter(query="crowd1"), part), limits)
        assert addresses(found) == [each for each in made if "crowd1" in each]


async def test_an_account_of_exactly_one_full_page_and_of_more_is_read_to_its_end(crm: Decision):
    made = await fill(crm, range(100))

    assert addresses(await every(lambda part: crm.search_leads(LeadFilter(), part))) == made
    more = await fill(crm, range(100, 107))
    assert addresses(await every(lambda part: crm.search_leads(LeadFilter(), part))) == sorted(made + more)


async def test_an_empty_account_has_one_empty_page(crm: Decision):
    page = await crm.search_leads(LeadFilter(), Slice())

    assert (page.items, page.next) == ((), None)
    assert page.total in (0, None)


async def test_pages_of_notes_hold_each_once(crm: Noting):
    lead, other = [(await crm.create_lead(someone(n))).id for n in range(2)]
    made = [(await crm.log_note(lead, NoteDraft(content=f"note {n}"))).id for n in range(MANY)]
    await crm.log_note(other, NoteDraft(content="another's"))

    for limits in LIMITS:
        found = await every(lambda part: crm.list_notes(lead, part), limits)
        assert sorted(each.id for each in found) == sorted(made)
        assert {each.lead_id for each in found} == {lead}


async def test_pages_of_activity_hold_each_once(crm: Acting):
    lead, other = [(await crm.create_lead(someone(n))).id for n in range(2)]
    made = [(await crm.log_note(lead, NoteDraft(content=f"note {n}"))).id for n in range(MANY)]
    await crm.log_note(other, NoteDraft(content="another's"))
    if isinstance(crm, KeepsTasks):
        made += [(await crm.create_task(lead, TaskFields(title=f"Task {n}"))).id for n in range(4)]

    for limits in LIMITS:
        found = await every(lambda part: crm.list_activity(lead, (), None, part), limits)
        assert sorted(each.id for each in found) == sorted(made)


async def test_pages_of_tasks_hold_each_once(crm: Doing):
    made = [(await crm.create_task(None, TaskFields(title=f"Task {n}"))).id for n in range(MANY)]

    for limits in LIMITS:
        found = await every(lambda part: crm.list_tasks(None, None, None, part), limits)
        assert sorted(each.id for each in found) == sorted(made)


async def test_pages_of_deals_hold_each_once(crm: Dealing):
    made = [(await crm.create_deal(None, DealFields(name=f"Deal {n}"), None)).id for n in range(MANY)]

    for limits in LIMITS:
        found = await every(lambda part: crm.list_deals(DealFilter(), part), limits)
        assert sorted(each.id for each in found) == sorted(made)


async def test_a_position_that_was_never_given_out_is_refused_by_every_list(crm: Writing):
    lead = (await crm.create_lead(someone(1))).id
    lists: dict[str, Callable[[Slice], Awaitable[object]]] = {}
    if isinstance(crm, FindsLeads):
        lists["leads"] = lambda part: crm.search_leads(LeadFilter(), part)
    if isinstance(crm, ReadsActivity):
        lists["activity"] = lambda part: crm.list_activity(lead, (), None, part)
    if isinstance(crm, LogsNotes):
        lists["notes"] = lambda part: crm.list_notes(lead, part)
    if isinstance(crm, ReadsCalls):
        lists["calls"] = lambda part: crm.list_calls(lead, part)
    if isinstance(crm, ReadsMessages):
        lists["messages"] = lambda part: crm.list_messages(lead, part)
    if isinstance(crm, KeepsTasks):
        lists["tasks"] = lambda part: crm.list_tasks(None, None, None, part)
    if isinstance(crm, ReadsDeals):
        lists["deals"] = lambda part: crm.list_deals(DealFilter(), part)

    for name, fetch in lists.items():
        for position in NEVER_GIVEN:
            with pytest.raises(InvalidArgument, match="cursor"):
                raise AssertionError(f"{name}, {position[:20]!r}: {await fetch(Slice(position=position))!r}")
