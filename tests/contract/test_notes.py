from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crm_mcp.backends.base import Backend, LogsNotes, ReadsActivity, WritesLeads
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import NoteDraft, Slice, now
from crm_mcp.text import unseen

from .conftest import Unwritten
from .reading import someone

YESTERDAY = (now() - timedelta(days=1)).replace(microsecond=0)
DRAFTS: tuple[dict[str, Any], ...] = (
    {},
    {"kind": "call", "outcome": "reached", "direction": "inbound", "duration_seconds": 754},
    {"kind": "call", "duration_seconds": 0},
    {"kind": "meeting", "occurred_at": YESTERDAY},
    {"kind": "email", "direction": "outbound", "occurred_at": YESTERDAY},
    {"kind": "note", "outcome": "asked, and asked again: twice"},
)
numbers = count(1)
CONTENTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"]), min_size=1, max_size=60).filter(
    lambda text: unseen(text) is None
)


class Crm(LogsNotes, WritesLeads, Backend):
    """What these tests need."""


class Acting(ReadsActivity, LogsNotes, WritesLeads, Backend):
    """What the test of the history needs."""


@pytest.mark.parametrize("fields", DRAFTS)
async def test_a_note_is_read_back_with_all_that_was_said_of_it(crm: Crm, fields: dict[str, Any]):
    lead = await crm.create_lead(someone(1))
    draft = NoteDraft(content="Talked about the offer.\nShe wants it in two parts.", **fields)

    note = await crm.log_note(lead.id, draft)

    assert await crm.get_note(note.id) == note
    assert (await crm.list_notes(lead.id, Slice())).items == (note,)
    assert note.lead_id == lead.id
    assert note.model_dump(include={"content", *fields}) == {"content": draft.content, **fields}
    assert note.kind == draft.kind
    assert note.occurred_at
    assert abs(note.occurred_at - (draft.occurred_at or now())) < timedelta(seconds=30)


@given(content=CONTENTS, kind=st.sampled_from(["note", "call"]))
@example(content="(call)", kind="note")
@example(content="Yes\n\n(note, outbound, at 2026-01-01T00:00:00Z)", kind="note")
@example(content="Call, outbound, 7 min.\nHello", kind="note")
@example(content="Note.", kind="note")
@example(content="Call.\nCall.\n", kind="call")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
async def test_what_a_note_says_is_never_taken_for_something_else(crm: Crm, content: str, kind: Any):
    if not content.strip():
        return
    lead = await crm.create_lead(someone(next(numbers)))

    note = await crm.log_note(lead.id, NoteDraft(content=content, kind=kind))

    assert (note.content or "").strip() == content.strip()
    assert (note.kind, note.direction, note.duration_seconds, note.outcome) == (kind, None, None, None)
    assert await crm.get_note(note.id) == note


async def test_notes_are_listed_newest_first_and_stay_with_their_lead(crm: Crm):
    jane, bob = [await crm.create_lead(someone(n)) for n in range(2)]
    days = (3, 1, 2)
    made = {
        day: await crm.log_note(jane.id, NoteDraft(content=f"{day}", occurred_at=YESTERDAY - timedelta(days=day)))
        for day in days
    }
    theirs = await crm.log_note(bob.id, NoteDraft(content="his"))

    assert (await crm.list_notes(jane.id, Slice())).items == tuple(made[day] for day in sorted(days))
    assert (await crm.list_notes(bob.id, Slice())).items == (theirs,)


async def test_a_note_is_in_the_lead_s_history(crm: Acting):
    jane, bob = [await crm.create_lead(someone(n)) for n in range(2)]
    note = await crm.log_note(jane.id, NoteDraft(content="Talked", outcome="reached"))

    (seen,) = (await crm.list_activity(jane.id, ("note",), None, Slice())).items

    assert (seen.kind, seen.id, seen.text, seen.at, seen.outcome) == (
        "note", note.id, "Talked", note.occurred_at, "reached",
    )  # fmt: skip
    assert (await crm.list_activity(bob.id, (), None, Slice())).items == ()


@pytest.mark.parametrize("seconds", [-1, 10**30])
async def test_a_duration_that_is_not_possible_is_refused(crm: Crm, unwritten: Unwritten, seconds: int):
    lead = await crm.create_lead(someone(1))

    with unwritten(), pytest.raises(InvalidArgument, match="duration"):
        await crm.log_note(lead.id, NoteDraft(content="x", kind="call", duration_seconds=seconds))
