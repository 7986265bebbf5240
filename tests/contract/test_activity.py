"""What happened with a lead, on the sample: newest first, each lead's own alone, and one record as its list has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from crm_mcp.backends.base import Backend, FindsLeads, LogsNotes, ReadsActivity, ReadsCalls, ReadsMessages
from crm_mcp.channels import CHANNELS
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Activity, Lead, LeadFilter, Page, Slice

from .reading import every

PEOPLE = 15


class Acting(ReadsActivity, FindsLeads, Backend):
    """What the tests of all activity need."""


class Calling(ReadsCalls, FindsLeads, Backend):
    """What the tests of calls need."""


class Messaging(ReadsMessages, FindsLeads, Backend):
    """What the test of messages needs."""


class Noting(LogsNotes, FindsLeads, Backend):
    """What the test of notes needs."""


async def leads(crm: FindsLeads) -> tuple[Lead, ...]:
    return (await crm.search_leads(LeadFilter(), Slice(limit=PEOPLE))).items


async def activity(crm: ReadsActivity, lead: str) -> list[Activity]:
    return await every(lambda part: crm.list_activity(lead, (), None, part))


async def everybody_s(crm: FindsLeads, fetch: Any) -> list[Any]:
    """Return what each lead of the sample has, after looking that it is the lead's own, once, and newest first."""
    found: list[Any] = []
    for lead in await leads(crm):
        page: Page[Any] = await fetch(lead.id, Slice(limit=100))
        moments = [when(each) for each in page.items]
        assert all(each.lead_id == lead.id for each in page.items)
        assert moments == sorted(moments, reverse=True)
        found.extend(page.items)
    assert found, "the sample has none"
    assert len({each.id for each in found}) == len(found)
    return found


def when(item: Any) -> datetime:
    moment = next(getattr(item, name) for name in ("occurred_at", "started_at", "sent_at") if hasattr(item, name))
    assert isinstance(moment, datetime)
    return moment


async def test_calls_are_listed_newest_first_for_their_lead_alone_and_read_one_by_one(stocked: Calling):
    listed = await everybody_s(stocked, stocked.list_calls)

    assert all(each.transcript is None for each in listed)
    whole = [await stocked.get_call(each.id) for each in listed[:8]]
    assert [each.model_copy(update={"transcript": None}) for each in whole] == listed[:8]


async def test_messages_are_listed_newest_first_for_their_lead_alone(stocked: Messaging):
    listed = await everybody_s(stocked, stocked.list_messages)

    assert all(each.channel and each.direction and each.body for each in listed)


async def test_what_a_lead_has_written_is_what_came_in_of_its_messages_with_its_text(stocked: Messaging):
    for lead in await leads(stocked):
        listed = await every(lambda part, lead=lead: stocked.list_messages(lead.id, part))
        for channel in CHANNELS:
            came_in = [each for each in listed if (each.channel, each.direction) == (channel, "inbound")]
            assert channel in stocked.hears or not came_in
            assert [*await stocked.inbound_messages(lead.id, channel)] == came_in
            assert all(each.body for each in came_in)


async def test_notes_are_listed_newest_first_for_their_lead_alone_and_read_one_by_one(stocked: Noting):
    listed = await everybody_s(stocked, stocked.list_notes)

    assert [await stocked.get_note(each.id) for each in listed[:8]] == listed[:8]


async def test_all_activity_comes_newest_first_each_once_and_of_the_lead_alone(stocked: Acting):
    seen: list[tuple[str, str]] = []
    for lead in await leads(stocked):
        found = await activity(stocked, lead.id)
        moments = [each.at for each in found if each.at]
        assert moments == sorted(moments, reverse=True)
        assert {each.kind for each in found} <= {*stocked.activity_kinds}
        seen += [(each.kind, each.id) for each in found]

    assert {kind for kind, _ in seen} == {*stocked.activity_kinds}
    assert len(set(seen)) == len(seen)


async def test_activity_is_what_the_lists_of_its_kinds_have(stocked: Acting):
    for lead in (await leads(stocked))[:6]:
        found = await activity(stocked, lead.id)
        if isinstance(stocked, ReadsCalls):
            calls = await stocked.list_calls(lead.id, Slice(limit=100))
            assert [each.id for each in found if each.kind == "call"] == [each.id for each in calls.items]
        if isinstance(stocked, ReadsMessages):
            sent = await stocked.list_messages(lead.id, Slice(limit=100))
            assert [each.id for each in found if each.kind == "message"] == [each.id for each in sent.items]


async def test_activity_can_be_had_by_kind_and_since_a_moment(stocked: Acting):
    for lead in (await leads(stocked))[:6]:
        everything = await activity(stocked, lead.id)
        for kind in stocked.activity_kinds:
            page = await stocked.list_activity(lead.id, [kind], None, Slice(limit=100))
            assert list(page.items) == [each for each in everything if each.kind == kind]
        both: Sequence[Any] = (*stocked.activity_kinds, *stocked.activity_kinds)
        assert list((await stocked.list_activity(lead.id, both, None, Slice(limit=100))).items) == everything
        dated = [each.at for each in everything if each.at]
        for moment in (dated[len(dated) // 2], dated[0] + timedelta(seconds=1)) if dated else ():
            page = await stocked.list_activity(lead.id, (), moment, Slice(limit=100))
            assert list(page.items) == [each for each in everything if each.at and each.at >= moment]


async def test_a_kind_that_is_none_is_refused_with_the_valid_ones(stocked: Acting):
    (lead, *_) = await leads(stocked)
    lacking = {"note", "call", "message", "task"} - {*stocked.activity_kinds}

    for kind in ("dance", "", *sorted(lacking)):
        with pytest.raises(InvalidArgument, match=f"valid: .*{stocked.activity_kinds[0]}"):
            await stocked.list_activity(lead.id, (kind,), None, Slice())  # type: ignore[arg-type]
