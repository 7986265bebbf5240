"""What a deletion takes along in the embedded CRM."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_mcp.backends.local import Local
from crm_mcp.errors import NotFound
from crm_mcp.model import DealFields, DealFilter, LeadDraft, LeadFilter, NoteDraft, RecordKind, Slice, TaskFields, now


async def test_a_lead_takes_its_records_along_and_nobody_else_s(crm: Local):
    jane, bob = [await crm.create_lead(LeadDraft(name=name)) for name in ("Jane", "Bob")]
    for lead in (jane, bob):
        await crm.log_note(lead.id, NoteDraft(content="x"))
        await crm.log_note(lead.id, NoteDraft(content="y"))
        await crm.create_deal(lead.id, DealFields(name="z"), None)
        await crm.create_task(lead.id, TaskFields(title="t"))

    counted = await crm.goes_with("lead", jane.id)
    await crm.delete("lead", jane.id)

    assert counted == {"notes": 2, "deals": 1, "tasks": 1}
    with pytest.raises(NotFound):
        await crm.get_lead(jane.id)
    assert [each.lead_id for each in (await crm.list_deals(DealFilter(), Slice())).items] == [bob.id]
    assert [each.lead_id for each in (await crm.list_tasks(None, None, None, Slice())).items] == [bob.id]
    assert [each.id for each in (await crm.search_leads(LeadFilter(query="x"), Slice())).items] == [bob.id]


async def test_the_words_and_the_contact_of_a_deleted_note_are_gone(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    day = now() - timedelta(days=1)
    await crm.log_note(lead.id, NoteDraft(content="first", kind="call", occurred_at=day))
    note = await crm.log_note(lead.id, NoteDraft(content="xylophone", kind="call"))

    await crm.delete("note", note.id)

    assert (await crm.search_leads(LeadFilter(query="xylophone"), Slice())).items == ()
    assert (await crm.get_lead(lead.id)).last_contacted_at == day


async def test_single_records_are_deleted_and_take_nothing_along(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    records: list[tuple[RecordKind, str]] = [
        ("note", (await crm.log_note(lead.id, NoteDraft(content="x"))).id),
        ("task", (await crm.create_task(lead.id, TaskFields(title="x"))).id),
        ("deal", (await crm.create_deal(lead.id, DealFields(name="x"), None)).id),
    ]
    for kind, record in records:
        assert kind in crm.deletes
        assert await crm.goes_with(kind, record) == {}
        await crm.delete(kind, record)
        with pytest.raises(NotFound):
            await crm.delete(kind, record)
        with pytest.raises(NotFound):
            await crm.goes_with(kind, record)
    assert await crm.goes_with("lead", lead.id) == {}


async def test_a_block_outlives_the_lead(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane", email="jane@acme.example"))
    await crm.block(lead, ["email"], "asked for it")

    await crm.delete("lead", lead.id)
    again = await crm.create_lead(LeadDraft(name="Jane", email="jane@acme.example"))

    assert again.id != lead.id
    assert again.do_not_contact == ("email",)
