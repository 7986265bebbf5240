from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_mcp.errors import InvalidArgument, NotFound, OutcomeUnknown, VendorError
from crm_mcp.model import Activity, Call, Message, Note, NoteDraft, Slice, Task, TaskFields, now

from .conftest import JANE, Opened, Sheet

AT = datetime(2026, 3, 20, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, ""),
        ({"kind": "call"}, "Call.\n"),
        ({"kind": "call", "direction": "outbound", "duration_seconds": 420}, "Call, outbound, 7 min.\n"),
        ({"kind": "call", "duration_seconds": 450}, "Call, 7 min 30 s.\n"),
        ({"kind": "call", "direction": "inbound", "duration_seconds": 0}, "Call, inbound, 0 s.\n"),
        ({"kind": "meeting", "occurred_at": AT}, "Meeting, 2026-03-20T10:00:00Z.\n"),
        ({"kind": "email", "duration_seconds": 5, "occurred_at": AT}, "E-mail, 5 s, 2026-03-20T10:00:00Z.\n"),
        ({"occurred_at": AT}, "Note, 2026-03-20T10:00:00Z.\n"),
        ({"content": "Call, inbound.\nquoted"}, "Note.\n"),
    ],
)
async def test_what_a_note_has_no_field_for_stands_in_its_first_line_and_is_read_from_there(
    sheet: Sheet, given: dict[str, Any], line: str
):
    lead = sheet.put(**JANE)
    draft = NoteDraft.model_validate({"content": "Spoke.\nVery interested", "outcome": "interested", **given})

    note = await sheet.crm.log_note(lead, draft)

    body = {"lead_id": lead, "content": line + draft.content, "outcome": "interested"}
    assert sheet.last() == ("POST", "/api/v1/notes", {}, body)
    assert len(sheet.there.journal) == 1
    told = note.model_dump(exclude={"id", "lead_id", "occurred_at"})
    assert told == draft.model_dump(exclude={"occurred_at"})
    assert note.occurred_at == (draft.occurred_at or note.occurred_at)
    assert await sheet.crm.get_note(note.id) == note
    assert (await sheet.crm.list_notes(lead, Slice())).items == (note,)


async def test_a_note_of_nobody_or_of_an_impossible_length_is_refused(sheet: Sheet):
    lead = sheet.put(**JANE)

    with pytest.raises(NotFound, match='there is no lead "nobody"'):
        await sheet.crm.log_note("nobody", NoteDraft(content="x"))
    for seconds in (-1, 10**30):
        with pytest.raises(InvalidArgument, match="duration"):
            await sheet.crm.log_note(lead, NoteDraft(content="x", duration_seconds=seconds))
    assert sheet.there.tables["notes"] == []


@pytest.mark.parametrize("answers", ["bare", "id", "empty"])
async def test_a_note_and_a_task_are_found_again_where_the_answer_lacks_them(opened: Opened, answers: str):
    async with opened(answers=answers) as sheet:
        lead = sheet.put(**JANE)
        sheet.put("notes", lead_id=lead, content="Another")

        note = await sheet.crm.log_note(lead, NoteDraft(content="Talked", kind="call"))
        task = await sheet.crm.create_task(lead, TaskFields(title="Call", due_at=AT, priority="high"))
        done = await sheet.crm.update_task(task.id, TaskFields(completed=True))

        assert (note.id, note.content, note.kind) == (sheet.there.tables["notes"][1]["id"], "Talked", "call")
        assert (task.title, task.due_at, task.priority, done.completed) == ("Call", AT, "high", True)
        assert len(sheet.there.calls("POST")) == 2


async def test_a_note_that_can_not_be_told_from_its_like_is_of_unknown_outcome(opened: Opened):
    async with opened(answers="empty") as sheet:
        lead = sheet.put(**JANE)
        sheet.put("notes", lead_id=lead, content="Talked")

        with pytest.raises(OutcomeUnknown, match="did not say which record"):
            await sheet.crm.log_note(lead, NoteDraft(content="Talked"))


async def test_calls_are_listed_without_and_read_with_what_the_record_has(opened: Opened):
    async with opened(transcripts=True) as sheet:
        lead = sheet.put(**JANE)
        fields: dict[str, Any] = {
            "lead_id": lead,
            "direction": "outgoing",
            "duration": 412,
            "outcome": "interested",
            "started_at": "2026-03-20T10:00:00Z",
            "recording_url": "https://rec.example/1",
            "transcript": "Hello.",
        }
        call = sheet.put("calls", **fields)
        sheet.put("calls", lead_id=sheet.put(name="Bob"))

        page = await sheet.crm.list_calls(lead, Slice())
        listing = sheet.last()
        read = await sheet.crm.get_call(call)

        whole = Call(
            id=call,
            lead_id=lead,
            direction="outbound",
            duration_seconds=412,
            outcome="interested",
            started_at=AT,
            recording_url="https://rec.example/1",
            transcript="Hello.",
        )
        assert listing == ("GET", "/api/v1/calls", {"lead_id": lead, "limit": "100"}, None)
        assert page.items == (whole.model_copy(update={"transcript": None}),)
        assert page.total == 1
        assert read == whole
        assert sheet.last() == ("GET", "/api/v1/calls", {"limit": "100"}, None)


async def test_a_transcript_that_the_record_lacks_is_none(opened: Opened):
    async with opened(sample=True) as sheet:
        call = sheet.there.tables["calls"][0]["id"]

        assert (await sheet.crm.get_call(call)).transcript is None


@pytest.mark.parametrize(
    ("over", "most", "found"), [("clamp", 1000, True), ("clamp", 100, False), ("refuse", 100, False)]
)
async def test_an_old_call_is_looked_for_among_more(opened: Opened, over: str, most: int, found: bool):
    async with opened(over_most=over, most=most) as sheet:
        old = sheet.put("calls")
        for _ in range(130):
            sheet.put("calls")

        if found:
            assert (await sheet.crm.get_call(old)).id == old
        else:
            with pytest.raises(NotFound, match="Dialsheet lists 100 of 131"):
                await sheet.crm.get_call(old)
        assert [each.query["limit"] for each in sheet.there.journal] == ["100", "131"]


async def test_messages_of_both_kinds_come_newest_first(sheet: Sheet):
    lead = sheet.put(**JANE)
    mail = sheet.put(
        "emails", lead_id=lead, subject="Hi", body_text="There", status="sent", sent_at="2026-03-20T10:00:00Z"
    )
    text = sheet.put("sms", lead_id=lead, message="Yes", direction="inbound", sent_at="2026-03-21T10:00:00Z")

    page = await sheet.crm.list_messages(lead, Slice())

    assert [(each.method, each.path, each.query) for each in sheet.there.journal] == [
        ("GET", "/api/v1/emails", {"lead_id": lead}),
        ("GET", "/api/v1/sms", {"lead_id": lead}),
    ]
    first = Message(
        id=text, lead_id=lead, channel="sms", direction="inbound", body="Yes", sent_at=AT + timedelta(days=1)
    )
    second = Message(
        id=mail, lead_id=lead, channel="email", direction="outbound", subject="Hi", body="There", status="sent",
        sent_at=AT,
    )  # fmt: skip
    assert page.items == (first, second)


async def test_what_a_lead_has_written_are_its_sms_and_those_of_no_direction(sheet: Sheet):
    lead = sheet.put(**JANE)
    sheet.put("emails", lead_id=lead, subject="Hi", body_text="There")
    for number in range(150):
        sheet.put("sms", number, lead_id=lead, message=f"n{number}", direction="outbound")
    sheet.put("sms", 200, lead_id=lead, message="Stop please", direction="inbound")
    sheet.put("sms", 190, lead_id=lead, message="Who is this?")

    written = await sheet.crm.inbound_messages(lead, "sms")

    assert [(each.body, each.direction) for each in written] == [("Who is this?", None), ("Stop please", "inbound")]
    assert [each.path for each in sheet.there.journal] == ["/api/v1/sms"]
    assert await sheet.crm.inbound_messages(lead, "email") == ()


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_all_activity_comes_newest_first_and_each_once(opened: Opened, order: str):
    async with opened(order=order) as sheet:
        lead = sheet.put(**JANE)
        notes = [sheet.put("notes", 20 - number, lead_id=lead, content=f"n{number}") for number in range(5)]
        mail = sheet.put("emails", 3, lead_id=lead, subject="Hi", body_text="There")
        task = sheet.put("tasks", 2, lead_id=lead, title="Call", completed=True)
        call = sheet.put("calls", 1, lead_id=lead, outcome="no answer")

        seen: list[Activity] = []
        position = None
        while True:
            page = await sheet.crm.list_activity(lead, (), None, Slice(limit=3, position=position))
            seen.extend(page.items)
            if (position := page.next) is None:
                break
        recent = await sheet.crm.list_activity(lead, ("note", "task"), now() - timedelta(days=10), Slice())

        assert [each.id for each in seen] == [call, task, mail, *notes[::-1]]
        assert [(each.kind, each.text, each.outcome, each.completed) for each in seen[:3]] == [
            ("call", None, "no answer", None),
            ("task", "Call", None, True),
            ("message", "Hi\nThere", None, None),
        ]
        assert [each.id for each in recent.items] == [task]


@pytest.mark.parametrize("reading", ["empty", "missing"])
async def test_the_history_of_nobody_is_not_found(opened: Opened, reading: str):
    async with opened(unknown_lead=reading) as sheet:
        bob = sheet.put(name="Bob")
        sheet.put("notes", lead_id=bob, content="his")
        jane = sheet.put(**JANE)

        for wrong in ("nobody", ""):
            with pytest.raises(NotFound):
                await sheet.crm.list_activity(wrong, (), None, Slice())
            with pytest.raises(NotFound):
                await sheet.crm.list_notes(wrong, Slice())
            with pytest.raises(NotFound):
                await sheet.crm.list_calls(wrong, Slice())
            with pytest.raises(NotFound):
                await sheet.crm.list_messages(wrong, Slice())
            with pytest.raises(NotFound):
                await sheet.crm.list_tasks(wrong, None, None, Slice())
        with pytest.raises(NotFound, match='there is no note "nothing"'):
            await sheet.crm.get_note("nothing")
        with pytest.raises(NotFound, match='there is no call "nothing"'):
            await sheet.crm.get_call("nothing")
        assert (await sheet.crm.list_activity(jane, (), None, Slice())).items == ()
        assert (await sheet.crm.list_notes(jane, Slice())).items == ()
        with pytest.raises(InvalidArgument, match="valid: note, call, message, task"):
            await sheet.crm.list_activity(jane, ("dance",), None, Slice())  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="cursor"):
            await sheet.crm.list_activity(jane, (), None, Slice(position="[1]"))


async def test_a_list_that_is_not_filtered_gives_nobody_else_s_records(sheet: Sheet):
    jane = sheet.put(**JANE)
    rows = [{"id": "1", "lead_id": jane, "content": "hers"}, {"id": "2", "lead_id": "other", "content": "his"}]
    sheet.there.fail("status", status=200, body={"notes": rows, "total": 2})

    page = await sheet.crm.list_notes(jane, Slice())

    assert page.items == (Note(id="1", lead_id=jane, content="hers", kind="note"),)
    assert page.total == 1


async def test_a_task_is_sent_in_documented_fields(sheet: Sheet):
    lead = sheet.put(**JANE)

    task = await sheet.crm.create_task(lead, TaskFields(title="Call", due_at=AT, priority="high"))

    body = {"title": "Call", "due_date": "2026-03-20T10:00:00Z", "priority": "high", "lead_id": lead}
    assert sheet.last() == ("POST", "/api/v1/tasks", {}, body)
    assert task == Task(id=task.id, lead_id=lead, title="Call", due_at=AT, priority="high", completed=False)
    assert await sheet.crm.get_task(task.id) == task

    done = await sheet.crm.update_task(task.id, TaskFields(completed=True))
    assert sheet.last() == ("PUT", f"/api/v1/tasks/{task.id}", {}, {"completed": True})
    assert done.completed is True

    emptied = await sheet.crm.update_task(task.id, TaskFields(title="Write"), ["due_at", "priority"])
    assert sheet.last()[3] == {"title": "Write", "due_date": None, "priority": None}
    assert (emptied.title, emptied.due_at, emptied.priority) == ("Write", None, None)

    await sheet.crm.delete("task", task.id)
    assert sheet.last() == ("DELETE", f"/api/v1/tasks/{task.id}", {}, None)
    assert sheet.there.tables["tasks"] == []


@pytest.mark.parametrize(("reading", "keys"), [("medium", {}), ("normal", {"priority_normal": "normal"})])
async def test_the_middle_priority_is_called_as_the_vendor_does(opened: Opened, reading: str, keys: dict[str, str]):
    async with opened(normal_priority=reading, keys=keys) as sheet:
        made = [await sheet.crm.create_task(None, TaskFields(title="x", priority=each)) for each in ("low", "normal")]

        assert [each.priority for each in made] == ["low", "normal"]
        assert [each.body["priority"] for each in sheet.there.calls("POST")] == ["low", reading]


async def test_a_task_is_completed_by_a_corrected_key(opened: Opened):
    async with opened(completes_by="done", keys={"task_completed": "done"}) as sheet:
        task = sheet.put("tasks", title="Call", done=False)

        done = await sheet.crm.update_task(task, TaskFields(completed=True))

        assert (done.completed, sheet.last()[3]) == (True, {"done": True})
    async with opened(completes_by="done") as sheet:
        task = sheet.put("tasks", title="Call", done=False)

        with pytest.raises(InvalidArgument, match="completed"):
            await sheet.crm.update_task(task, TaskFields(completed=True))


async def test_a_task_that_was_not_completed_is_not_told_as_done(sheet: Sheet):
    task = sheet.put("tasks", title="Call", completed=False)
    sheet.there.fail(
        "status", method="PUT", status=200, body={"task": {"id": task, "title": "Call", "completed": False}}
    )

    with pytest.raises(VendorError, match="did not keep completed") as raised:
        await sheet.crm.update_task(task, TaskFields(completed=True))

    assert raised.value.wrote is True


async def test_tasks_come_by_date_and_those_without_one_last(sheet: Sheet):
    lead = sheet.put(**JANE)
    undated = sheet.put("tasks", title="Some day", completed=False)
    late = sheet.put("tasks", lead_id=lead, title="Late", due_date="2026-04-20T10:00:00Z", completed=True)
    soon = sheet.put("tasks", title="Soon", due_date="2026-03-20T10:00:00Z", completed=False)

    async def ids(
        lead: str | None, completed: bool | None, before: datetime | None
    ) -> tuple[list[str], dict[str, str]]:
        page = await sheet.crm.list_tasks(lead, completed, before, Slice())
        assert page.total == len(page.items)
        return [each.id for each in page.items], sheet.last()[2]

    assert await ids(None, None, None) == ([soon, late, undated], {})
    assert await ids(lead, None, None) == ([late], {"lead_id": lead})
    assert await ids(None, False, None) == ([soon, undated], {"completed": "false"})
    assert await ids(None, True, None) == ([late], {})
    assert await ids(None, None, AT + timedelta(seconds=1)) == ([soon], {})
    first = await sheet.crm.list_tasks(None, None, None, Slice(limit=2))
    second = await sheet.crm.list_tasks(None, None, None, Slice(limit=2, position=first.next))
    assert [each.id for each in (*first.items, *second.items)] == [soon, late, undated]
    assert second.next is None


async def test_a_task_that_makes_no_sense_is_refused(sheet: Sheet):
    task = sheet.put("tasks", title="Call", completed=False)

    with pytest.raises(InvalidArgument, match="title"):
        await sheet.crm.create_task(None, TaskFields(priority="low"))
    with pytest.raises(NotFound, match='there is no lead "nobody"'):
        await sheet.crm.create_task("nobody", TaskFields(title="Call"))
    with pytest.raises(NotFound, match='there is no task "nothing"'):
        await sheet.crm.get_task("nothing")
    with pytest.raises(NotFound, match='there is no task "nothing"'):
        await sheet.crm.update_task("nothing", TaskFields(title="x"))
    with pytest.raises(InvalidArgument, match="valid: due_at, priority"):
        await sheet.crm.update_task(task, TaskFields(), ["title"])
    with pytest.raises(InvalidArgument, match="both"):
        await sheet.crm.update_task(task, TaskFields(priority="low"), ["priority"])
