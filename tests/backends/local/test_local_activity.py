"""The history of leads in the embedded CRM."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_mcp.backends.local import Local
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import LeadDraft, LeadFilter, NoteDraft, Slice, TaskFields, now


async def test_a_note_is_read_back(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    at = now() - timedelta(days=2)
    draft = NoteDraft(
        content="Talked", kind="call", outcome="reached", occurred_at=at, duration_seconds=60, direction="inbound"
    )

    note = await crm.log_note(lead.id, draft)

    assert await crm.get_note(note.id) == note
    assert note.model_dump(exclude={"id", "lead_id"}) == draft.model_dump()
    assert (await crm.list_notes(lead.id, Slice())).items == (note,)


async def test_contact_is_remembered_and_never_moves_backwards(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    week, day = now() - timedelta(days=7), now() - timedelta(days=1)

    await crm.log_note(lead.id, NoteDraft(content="thought of her"))
    assert (await crm.get_lead(lead.id)).last_contacted_at is None
    await crm.log_note(lead.id, NoteDraft(content="met", kind="meeting", occurred_at=day))
    await crm.log_note(lead.id, NoteDraft(content="wrote", kind="email", occurred_at=week))
    assert (await crm.get_lead(lead.id)).last_contacted_at == day
    await crm.log_note(lead.id, NoteDraft(content="will meet", kind="meeting", occurred_at=now() + timedelta(days=5)))

    contacted = (await crm.get_lead(lead.id)).last_contacted_at
    assert contacted
    assert day < contacted <= now()


async def test_a_lead_is_found_by_the_words_of_its_notes(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    await crm.log_note(lead.id, NoteDraft(content="Wants a Übergabe before Christmas."))

    found = await crm.search_leads(LeadFilter(query="uberg christ jane"), Slice())

    assert [each.id for each in found.items] == [lead.id]


async def test_all_activity_comes_newest_first_and_each_once(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    old = now() - timedelta(days=3)
    notes = [(await crm.log_note(lead.id, NoteDraft(content=f"n{i}", occurred_at=old))).id for i in range(5)]
    task = await crm.create_task(lead.id, TaskFields(title="Call"))

    seen: list[str] = []
    position = None
    while True:
        page = await crm.list_activity(lead.id, (), None, Slice(limit=2, position=position))
        seen.extend(each.id for each in page.items)
        position = page.next
        if position is None:
            break
    only = await crm.list_activity(lead.id, ("task",), None, Slice())
    recent = await crm.list_activity(lead.id, ("note", "task"), now() - timedelta(days=1), Slice())

    assert seen == [task.id, *notes[::-1]]
    assert [(each.kind, each.text, each.completed) for each in only.items] == [("task", "Call", False)]
    assert [each.id for each in recent.items] == [task.id]


async def test_bad_kinds_durations_and_positions_are_refused(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))

    with pytest.raises(InvalidArgument, match="valid: "):
        await crm.list_activity(lead.id, ("dance",), None, Slice())  # type: ignore[arg-type]
    for seconds in (-1, 10**30):
        with pytest.raises(InvalidArgument):
            await crm.log_note(lead.id, NoteDraft(content="x", duration_seconds=seconds))
    with pytest.raises(InvalidArgument, match="cursor"):
        await crm.list_activity(lead.id, (), None, Slice(position="[1]"))
    assert (await crm.list_notes(lead.id, Slice())).items == ()
