"""What happened with a lead and what is to be done: notes, calls, messages, tasks, and all of it in one list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from collections.abc import Sequence as Seq
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from crm_mcp.backends.activities import of_call, of_message, of_note, of_task, refuse_duration, refuse_kinds
from crm_mcp.backends.base import LOOKED_THROUGH, KeepsTasks, LogsNotes, ReadsActivity, ReadsCalls, ReadsMessages
from crm_mcp.backends.dialsheet.api import (
    CALLS,
    EMAILS,
    NOTES,
    PAGE,
    SMS,
    TASK,
    TASKS,
    DialsheetApi,
    made_like,
    told,
    whole_answer,
)
from crm_mcp.backends.dialsheet.codec import note_content
from crm_mcp.backends.http import after_write, at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.lists import at_once, merged, part_of
from crm_mcp.backends.refusals import no_record
from crm_mcp.backends.remote import refuse_clearing, text
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Activity, ActivityKind, Call, Message, Note, NoteDraft, Page, Slice, Task, TaskFields, rfc3339

CLEARABLE = {"due_at": "due_date", "priority": "priority"}
"""What can be emptied, with null, which is inferred."""
_NEVER = datetime.max.replace(tzinfo=UTC)
_MOST_CALLS = 1_000


class DialsheetActivity(ReadsActivity, LogsNotes, ReadsCalls, ReadsMessages, DialsheetApi):
    """Histories come whole, filtered by lead (documented); their order is not documented and made here."""

    activity_kinds: ClassVar[tuple[ActivityKind, ...]] = ("note", "call", "message", "task")
    hears: ClassVar[frozenset[Channel]] = frozenset(("sms",))
    """Of e-mails only sent ones are kept (documented)."""

    async def list_activity(
        self, lead: str, kinds: Seq[ActivityKind], since: datetime | None, part: Slice
    ) -> Page[Activity]:
        """List all of it, newest first; a task stands where it was created, else where it is due. One to five calls."""
        refuse_kinds(kinds, self.activity_kinds)
        histories: dict[ActivityKind, Callable[[str], Awaitable[list[Activity]]]] = {
            "note": self._note_history,
            "call": self._call_history,
            "message": self._message_history,
            "task": self._task_history,
        }
        sources = {
            kind: at_once(partial(histories[kind], lead)) for kind in dict.fromkeys(kinds or self.activity_kinds)
        }
        page = await merged(sources, since, part)
        if not page.items and part.position is None:
            await self._lead_record(lead)
        return page

    async def log_note(self, lead: str, draft: NoteDraft) -> Note:
        """Log a note (documented: lead, content, and the outcome of a call).

        Dialsheet keeps no kind, direction, duration or time of its own: they become the first line of the content, as
        "Call, outbound, 7 min.", and are read from there again.
        """
        refuse_duration(draft.duration_seconds)
        at("{}", lead)
        body: dict[str, Any] = {"lead_id": lead, "content": note_content(draft)}
        if draft.outcome:
            body["outcome"] = draft.outcome
        answer = await self._api.write("POST", NOTES, body, missing=no_record("lead", lead))
        record = told(answer, "note")
        refuse_written_other(lead, text(record.get("lead_id")))
        if not whole_answer(record, body):
            with after_write():
                listed = await self._of_lead(NOTES, lead, sure=True)
            found = text(record.get("id"))
            record = listed.find("note", found) if found else made_like(listed.rows, body, "note")
        return self._records.note(record)

    async def list_notes(self, lead: str, part: Slice) -> Page[Note]:
        """List a lead's notes, newest first."""
        listed = await self._of_lead(NOTES, lead)
        return part_of(self._newest(listed, self._records.note, _note_at), part, total=listed.total)

    async def get_note(self, note: str) -> Note:
        """Read one note; there is no way to read a single one, so it is found among all."""
        return self._records.note((await self._listed(NOTES)).find("note", note))

    async def get_call(self, call: str) -> Call:
        """Read one call; it is found among the newest, at most 1,000. A transcript is there where the record has one,
        which is not documented."""
        listed = await self._listed(CALLS, {"limit": PAGE})
        if listed.cut and not any(text(row.get("id")) == call for row in listed.rows):
            with suppress(InvalidArgument):  # a limit as high as that may not be taken
                listed = await self._listed(CALLS, {"limit": min(listed.total or PAGE, _MOST_CALLS)})
        return self._records.call(listed.find("call", call))

    async def list_calls(self, lead: str, part: Slice) -> Page[Call]:
        """List a lead's calls, newest first, without transcripts; at most the newest 100."""
        listed = await self._of_lead(CALLS, lead, {"limit": PAGE})
        rows = self._newest(listed, lambda row: self._records.call(row, whole=False), _call_at)
        return part_of(rows, part, total=listed.total)

    async def list_messages(self, lead: str, part: Slice) -> Page[Message]:
        """List a lead's e-mails, of which only sent ones are kept (documented), and SMS, newest first."""
        found = await self._messages(lead)
        if not found:
            await self._lead_record(lead)
        return part_of(found, part)

    async def inbound_messages(self, lead: str, channel: Channel) -> tuple[Message, ...]:
        """Return the SMS that a lead has written, newest first."""
        texts = await self._texts(lead) if channel in self.hears else ()
        return tuple(each for each in texts[:LOOKED_THROUGH] if each.direction != "outbound")

    async def _messages(self, lead: str) -> list[Message]:
        emails = self._newest(await self._of_lead(EMAILS, lead, sure=True), self._records.email, _message_at)
        both = [*emails, *await self._texts(lead)]
        return sorted(both, key=lambda each: (each.sent_at is not None, each.sent_at), reverse=True)

    async def _texts(self, lead: str) -> list[Message]:
        return self._newest(await self._of_lead(SMS, lead, sure=True), self._records.sms, _message_at)

    async def _note_history(self, lead: str) -> list[Activity]:
        listed = await self._of_lead(NOTES, lead, sure=True)
        return [of_note(each) for each in self._newest(listed, self._records.note, _note_at)]

    async def _call_history(self, lead: str) -> list[Activity]:
        listed = await self._of_lead(CALLS, lead, {"limit": PAGE}, sure=True)
        return [of_call(each) for each in self._newest(listed, self._records.call, _call_at)]

    async def _message_history(self, lead: str) -> list[Activity]:
        return [of_message(each) for each in await self._messages(lead)]

    async def _task_history(self, lead: str) -> list[Activity]:
        def decode(row: Any) -> Activity:
            task = self._records.task(row)
            moment = self._records.made_at(row) or task.due_at
            return of_task(task, moment)

        return self._newest(await self._of_lead(TASKS, lead, sure=True), decode, lambda each: each.at)


class DialsheetTasks(KeepsTasks, DialsheetApi):
    """Tasks, with a lead or without. Completing one by its `completed` is inferred from the filter of that name."""

    async def list_tasks(
        self, lead: str | None, completed: bool | None, due_before: datetime | None, part: Slice
    ) -> Page[Task]:
        """List tasks, the one due first first. `completed=false` is asked for (documented), the rest is sifted here."""
        query = {"completed": "false"} if completed is False else {}
        if lead is None:
            listed = await self._listed(TASKS, query)
        else:
            listed = await self._of_lead(TASKS, lead, query)
        tasks = [
            task
            for task in map(self._records.task, listed.rows)
            if (completed is None or bool(task.completed) == completed)
            and (due_before is None or (task.due_at is not None and task.due_at < due_before))
        ]
        tasks.sort(key=lambda each: each.due_at or _NEVER)
        return part_of(tasks, part, total=listed.total if len(tasks) == len(listed.rows) else None)

    async def get_task(self, task: str) -> Task:
        """Read one task; there is no way to read a single one, so it is found among all."""
        return self._records.task((await self._listed(TASKS)).find("task", task))

    async def create_task(self, lead: str | None, fields: TaskFields) -> Task:
        """Create a task."""
        if not fields.title:
            raise InvalidArgument("a task needs a title", "give one", wrote=False)
        body = self._task_body(fields)
        missing = ""
        if lead is not None:
            at("{}", lead)
            body["lead_id"] = lead
            missing = no_record("lead", lead)
        record = told(await self._api.write("POST", TASKS, body, missing=missing), "task")
        refuse_written_other(lead, text(record.get("lead_id")))
        return await self._task_as_it_is(record, text(record.get("id")), body)

    async def update_task(self, task: str, fields: TaskFields, clear: Seq[str] = ()) -> Task:
        """Change a task; `due_at` and `priority` can be cleared."""
        body = self._task_body(fields)
        refuse_clearing(fields.model_dump(), clear, tuple(CLEARABLE))
        body |= {CLEARABLE[each]: None for each in clear}
        if not body:
            return await self.get_task(task)
        answer = await self._api.write("PUT", at(TASK, task), body, missing=no_record("task", task))
        record = told(answer, "task")
        refuse_written_other(task, text(record.get("id")))
        return await self._task_as_it_is(record, task, body)

    def _task_body(self, fields: TaskFields) -> dict[str, Any]:
        keys = self._keys
        words = {"low": keys.priority_low, "normal": keys.priority_normal, "high": keys.priority_high}
        body: dict[str, Any] = {
            "title": fields.title,
            "due_date": rfc3339(fields.due_at) if fields.due_at else None,
            "priority": words[fields.priority] if fields.priority else None,
            keys.task_completed: fields.completed,
        }
        return {name: value for name, value in body.items() if value is not None}

    async def _task_as_it_is(self, record: dict[str, Any], task: str | None, sent: dict[str, Any]) -> Task:
        """Return a task as it is after a write."""
        record = await self._as_it_is(TASKS, "task", record, task, sent)
        emptied = [name for name, value in sent.items() if value is None]
        self._refuse_unkept(sent, record, [*emptied, self._keys.task_completed])
        return self._records.task(record)


def _note_at(note: Note) -> datetime | None:
    return note.occurred_at


def _call_at(call: Call) -> datetime | None:
    return call.started_at


def _message_at(message: Message) -> datetime | None:
    return message.sent_at
