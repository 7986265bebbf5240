"""A backend from its first call to its last: what it says of itself, many calls at once, lost answers, the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from crm_mcp.backends.base import Backend, FindsLeads, HasOperations, ImportsLeads, WritesLeads
from crm_mcp.backends.remote import Remote
from crm_mcp.errors import CrmError, InvalidArgument, OutcomeUnknown, TimedOut, VendorError
from crm_mcp.model import Account, Lead, LeadFilter, LeadUpdate, Slice
from crm_mcp.sandbox.emulator import Emulator, FaultKind

from .conftest import Unwritten
from .reading import every, someone

SECRET = "Zyzzyva-of-the-vendor"
"""What a vendor says and no client may see."""


class Decision(FindsLeads, WritesLeads, Backend):
    """What the tests of many calls need."""


class Far(HasOperations, FindsLeads, WritesLeads, ImportsLeads, Backend):
    """What the tests of lost answers need: a CRM behind an API."""


async def test_check_says_what_is_there(crm: Backend):
    account = await crm.check()

    assert isinstance(account, Account)
    assert account.found


async def test_a_budget_is_what_a_limit_has_left(crm: Backend):
    before = await crm.budget()
    await crm.check()
    after = await crm.budget()

    assert {each.name for each in before} == {each.name for each in after}
    assert bool(after) == isinstance(crm, Remote)
    for each in after:
        assert 0 <= each.remaining <= each.limit
        assert each.resets_in >= 0


async def test_nothing_is_asked_before_the_first_verb(crm: Backend, there: Emulator | None):
    await crm.budget()

    assert there is None or there.journal == []


async def test_the_watch_for_writes_sees_every_kind_of_them(crm: Decision, unwritten: Unwritten):
    made = await crm.create_lead(someone(1))
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: crm.create_lead(someone(2)),
        lambda: crm.update_lead(made.id, LeadUpdate(title="CTO")),
    ]

    for write in writes:
        with pytest.raises(AssertionError), unwritten():
            await write()


async def test_closing_twice_is_harmless(crm: Backend):
    await crm.check()

    await crm.aclose()
    await crm.aclose()


async def test_one_that_was_never_used_is_closed(crm: Backend):
    await crm.aclose()


async def test_twenty_reads_at_once_all_answer(crm: Decision):
    made = [await crm.create_lead(someone(n)) for n in range(4)]
    found: list[Lead | None] = [None] * 20

    async def read(place: int) -> None:
        found[place] = await crm.get_lead(made[place % 4].id)

    async with anyio.create_task_group() as tasks:
        for place in range(20):
            tasks.start_soon(read, place)

    assert found == made * 5


async def test_writes_at_once_are_all_there(crm: Decision):
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(crm.create_lead, someone(number))

    found = await every(lambda part: crm.search_leads(LeadFilter(), part))
    assert sorted(each.email or "" for each in found) == sorted(someone(n).email or "" for n in range(10))


@pytest.mark.parametrize("lost", ["drop_after", "cut", "malformed", "html"])
async def test_a_write_whose_answer_is_lost_is_not_known_to_be_done(crm: Far, there: Emulator, lost: FaultKind):
    made = await crm.create_lead(someone(1))
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: crm.create_lead(someone(2)),
        lambda: crm.update_lead(made.id, LeadUpdate(title="CTO")),
    ]

    for write in writes:
        fault = there.fail(lost, method="PUT|PATCH|POST", path="(?!.*(search|lookup|list)).*")
        with pytest.raises(OutcomeUnknown) as unknown:
            await write()
        assert unknown.value.wrote is None
        assert fault.times == 0
        there.faults.clear()


async def test_a_read_that_fails_in_passing_is_made_again(crm: Far, there: Emulator):
    made = await crm.create_lead(someone(1))

    for status in (502, 503, 504, 429):
        there.fail("status", status=status, body={"error": SECRET})
        assert await crm.get_lead(made.id) == made


@pytest.mark.parametrize("status", [400, 401, 402, 403, 405, 409, 422, 500, 503])
async def test_what_a_vendor_says_reaches_no_client(crm: Far, there: Emulator, status: int):
    made = await crm.create_lead(someone(1))
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: crm.get_lead(made.id),
        lambda: crm.search_leads(LeadFilter(query="x"), Slice()),
        lambda: crm.create_lead(someone(2)),
        lambda: crm.update_lead(made.id, LeadUpdate(title="CTO")),
    ]

    for call in calls:
        there.fail(
            "status", status=status, times=1000, body={"error": SECRET, "message": SECRET, "data": {"x": SECRET}}
        )
        with pytest.raises(CrmError) as refused:
            await call()
        there.faults.clear()
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "answer", [[], {}, "text", 7, None, {"data": 1}, [1], {"data": [None]}, {"data": {"id": None}}]
)
async def test_an_answer_that_makes_no_sense_is_an_error_of_the_crm(crm: Far, there: Emulator, answer: Any):
    made = await crm.create_lead(someone(1))

    for call in (lambda: crm.get_lead(made.id), lambda: crm.update_lead(made.id, LeadUpdate(title="CTO"))):
        there.fail("status", status=200, times=1000, body=answer)
        with pytest.raises((VendorError, TimedOut, InvalidArgument)):
            await call()
        there.faults.clear()
