from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_mcp.backends.salessheet import SalesSheet
from crm_mcp.errors import InvalidArgument, NotFound, VendorError
from crm_mcp.model import LeadDraft, NoteDraft, Slice, TaskFields, now
from crm_mcp.sandbox.emulator import identity
from crm_mcp.sandbox.salessheet import SalesSheetEmulator

from .conftest import Emulated

Opened = tuple[SalesSheetEmulator, SalesSheet]
AT = datetime(2026, 3, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["note", "call", "email", "meeting"])
async def test_a_note_is_posted_as_an_activity_of_its_kind_and_read_back(opened: Opened, kind: Any):
    vendor, crm = opened
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    draft = NoteDraft(
        content="Talked", kind=kind, outcome="reached", occurred_at=AT, duration_seconds=60, direction="inbound"
    )

    note = await crm.log_note(lead.id, draft)

    posted = vendor.journal[-1]
    assert (posted.method, posted.path) == ("POST", "/v1/activities")
    assert posted.body == {
        "type": kind,
        "contact_id": lead.id,
        "body": "Talked",
        "occurred_at": "2026-03-20T10:00:00Z",
        "outcome": "reached",
        "duration_seconds": 60,
        "direction": "inbound",
    }
    assert note.model_dump(exclude={"id", "lead_id"}) == draft.model_dump()
    assert note.lead_id == lead.id
    assert await crm.get_note(note.id) == note
    assert (await crm.list_notes(lead.id, Slice())).items == (note,)


async def test_a_history_asks_for_the_contact_and_the_newest_first(opened: Opened):
    vendor, crm = opened
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    note = await crm.log_note(lead.id, NoteDraft(content="met", occurred_at=AT))
    task = await crm.create_task(lead.id, TaskFields(title="Call"))
    vendor.journal.clear()

    page = await crm.list_activity(lead.id, (), None, Slice())

    activities, tasks = vendor.journal
    asked = {"contact_id": lead.id, "sort_order": "desc", "page": "1", "per_page": "100"}
    assert (activities.path, activities.query) == ("/v1/activities", {**asked, "sort_by": "occurred_at"})
    assert (tasks.path, tasks.query) == ("/v1/tasks", {**asked, "sort_by": "created_at"})
    assert [(each.kind, each.id, each.text, each.completed) for each in page.items] == [
        ("task", task.id, "Call", False),
        ("note", note.id, "met", None),
    ]
    assert page.items[1].at == AT


@pytest.mark.parametrize("filters", ["honoured", "ignored"])
@pytest.mark.parametrize("sorts", ["honoured", "ignored", "refused"])
async def test_a_history_is_the_lead_s_own_and_in_order_whatever_the_crm_does_with_parameters(
    emulated: Emulated, filters: str, sorts: str
):
    _, crm = emulated(sample=True, filters=filters, sorts=sorts)
    jane = identity(1, 2)

    every = await crm.list_activity(jane, (), None, Slice(limit=50))
    calls = await crm.list_calls(jane, Slice())
    mails = await crm.list_messages(jane, Slice())
    recent = await crm.list_activity(jane, ("note", "message"), now() - timedelta(days=2), Slice())

    assert [each.kind for each in every.items] == ["note", "note", "call", "task", "message"]
    assert [each.at for each in every.items] == sorted((each.at for each in every.items if each.at), reverse=True)
    assert [(each.direction, each.duration_seconds, each.transcript) for each in calls.items] == [
        ("outbound", 240, None)
    ]
    assert [(each.channel, each.subject, each.status) for each in mails.items] == [
        ("email", "Our offer for Acme Robotics", "sent")
    ]
    assert [each.text for each in recent.items] == ["Visit to the plant\nSaw line two."]


async def test_pages_of_a_history_hold_each_once(emulated: Emulated):
    _, crm = emulated(sample=True)
    jane = identity(1, 2)

    seen: list[str] = []
    position = None
    while True:
        page = await crm.list_activity(jane, (), None, Slice(limit=2, position=position))
        seen.extend(each.id for each in page.items)
        position = page.next
        if position is None:
            break

    assert len(seen) == len(set(seen)) == 5


def put_many(vendor: Any, lead: str, count: int, kind: str, **fields: str) -> None:
    """Give a lead this many activities of one type, the oldest first: `a0`, `a1` and so on."""
    for n in range(count):
        vendor.records["activities"][f"a{n}"] = {
            "id": f"a{n}",
            "type": kind,
            "contact_id": lead,
            "body": f"n{n}",
            "occurred_at": f"2026-01-{1 + n // 100:02d}T00:{n % 60:02d}:00Z",
            **fields,
        }


async def test_what_a_lead_has_written_is_found_behind_a_long_history(opened: Opened):
    vendor, crm = opened
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    put_many(vendor, lead.id, 350, "email", direction="outbound")
    vendor.records["activities"]["a0"] |= {"body": "Stop please", "direction": "inbound"}
    vendor.journal.clear()

    written = await crm.inbound_messages(lead.id, "email")

    assert [(each.body, each.direction) for each in written] == [("Stop please", "inbound")]
    assert len(vendor.journal) == 4
    assert await crm.inbound_messages(lead.id, "sms") == ()


async def test_a_long_history_is_read_page_by_page(opened: Opened):
    vendor, crm = opened
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    put_many(vendor, lead.id, 1_050, "note")
    vendor.journal.clear()

    page = await crm.list_notes(lead.id, Slice(limit=100))

    assert len(page.items) == 100
    assert page.total == 1_050
    assert len(vendor.journal) == 2


async def test_a_call_has_recording_and_transcript_and_no_other_activity_is_one(emulated: Emulated):
    vendor, crm = emulated(sample=True)
    rows = vendor.records["activities"].values()
    a_call, a_mail = (next(row for row in rows if row["type"] == kind) for kind in ("call", "email"))

    call = await crm.get_call(a_call["id"])

    assert vendor.journal[-1].path == f"/v1/activities/{a_call['id']}"
    assert call.recording_url == "https://recordings.salessheet.example/1.mp3"
    assert call.transcript
    assert call.transcript.startswith("Jane: We looked at the offer.")
    for wrong in (a_mail["id"], "nothing", ""):
        with pytest.raises(NotFound):
            await crm.get_call(wrong)


async def test_what_is_not_there_is_not_found_and_nothing_is_written(opened: Opened):
    vendor, crm = opened

    with pytest.raises(NotFound, match='there is no lead "nobody"'):
        await crm.log_note("nobody", NoteDraft(content="x"))
    for listing in (
        crm.list_activity("nobody", (), None, Slice()),
        crm.list_notes("nobody", Slice()),
        crm.list_calls("nobody", Slice()),
        crm.list_messages("nobody", Slice()),
    ):
        with pytest.raises(NotFound, match='there is no lead "nobody"'):
            await listing
    with pytest.raises(NotFound, match='there is no note "nothing"'):
        await crm.get_note("nothing")

    assert vendor.calls("POST") == []


async def test_bad_kinds_and_durations_are_refused(opened: Opened):
    vendor, crm = opened

    with pytest.raises(InvalidArgument, match="valid: note, call, message, task"):
        await crm.list_activity("x", ("dance",), None, Slice())  # type: ignore[arg-type]
    for seconds in (-1, 10**30):
        with pytest.raises(InvalidArgument, match="duration"):
            await crm.log_note("x", NoteDraft(content="x", duration_seconds=seconds))

    assert vendor.journal == []


async def test_an_activity_that_loses_its_direction_is_told(emulated: Emulated):
    _, crm = emulated(fields="ignored", keys={"activity_direction": "way"})
    lead = await crm.create_lead(LeadDraft(name="Jane"))

    with pytest.raises(VendorError, match="did not keep direction"):
        await crm.log_note(lead.id, NoteDraft(content="x", direction="inbound"))
