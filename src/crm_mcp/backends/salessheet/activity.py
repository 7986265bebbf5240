"""Notes, calls and e-mails are SalesSheet's activities; with its tasks they are a lead's history.

Tasks are to-dos, of a contact or of nobody in particular.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from crm_mcp.backends.activities import of_task, refuse_duration, refuse_kinds
from crm_mcp.backends.base import KeepsTasks, LogsNotes, ReadsActivity, ReadsCalls, ReadsMessages
from crm_mcp.backends.lists import Fetch, Row, Rows, as_row, merged, part_of
from crm_mcp.backends.refusals import no_record
from crm_mcp.backends.remote import moment, refuse_clearing, refuse_unkept
from crm_mcp.backends.salessheet import codec
from crm_mcp.backends.salessheet.api import (
    ACTIVITIES,
    CONTACTS,
    NAME,
    TASKS,
    SalesSheetApi,
    refuse_partly_made,
    refuse_unchanged,
)
from crm_mcp.backends.salessheet.codec import Json
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, NotFound
from crm_mcp.model import (
    Activity,
    ActivityKind,
    Call,
    Message,
    Note,
    NoteDraft,
    Page,
    Record,
    Slice,
    Task,
    TaskFields,
    rfc3339,
)

CLEARABLE = ("due_at", "priority")
R = TypeVar("R", bound=Record)

KINDS: tuple[ActivityKind, ...] = ("note", "call", "message", "task")
_NARROW = "the key of an activity's contact may be another: correct it with keys, as docs/salessheet.md says"


class SalesSheetActivity(ReadsActivity, LogsNotes, ReadsCalls, ReadsMessages, SalesSheetApi):
    """Activities log e-mails, calls and meetings (documented); `note` as a type of theirs is inferred."""

    activity_kinds: ClassVar[tuple[ActivityKind, ...]] = KINDS
    hears: ClassVar[frozenset[Channel]] = frozenset(("email",))

    async def list_activity(
        self, lead: str, kinds: Sequence[ActivityKind], since: datetime | None, part: Slice
    ) -> Page[Activity]:
        """List activities and tasks, newest first; a task stands where it was created."""
        refuse_kinds(kinds, KINDS)
        wanted = set(kinds or KINDS)
        sources: dict[str, Fetch] = {}
        if wanted - {"task"}:
            sources["activities"] = lambda at: self._history(
                lead, lambda row: codec.kind_of(row, self._keys) in wanted, self._activity, at
            )
        if "task" in wanted:
            sources["tasks"] = lambda at: self._tasks_of(lead, at)
        page = await merged(sources, since, part)
        if not page.items:
            await self._one(CONTACTS, lead)
        return page

    async def log_note(self, lead: str, draft: NoteDraft) -> Note:
        """Log an activity of the draft's kind; nothing is sent to anybody."""
        refuse_duration(draft.duration_seconds)
        await self._one(CONTACTS, lead)
        keys = self._keys
        body = {
            keys.activity_type: getattr(keys, f"activity_{draft.kind}"),
            keys.contact: lead,
            keys.activity_body: draft.content,
            keys.activity_at: rfc3339(draft.occurred_at) if draft.occurred_at else None,
            keys.activity_outcome: draft.outcome,
            keys.activity_duration: draft.duration_seconds,
            keys.activity_direction: draft.direction,
        }
        sent = {name: value for name, value in body.items() if value is not None}
        made = codec.note(await self._made(ACTIVITIES, sent), keys)
        given = draft.model_dump(exclude_none=True)
        refuse_unkept(NAME, [each for each in given if getattr(made, each) is None], f"{made.id}, which it created,")
        return made

    async def list_notes(self, lead: str, part: Slice) -> Page[Note]:
        """List a lead's activities of every type, newest first; `kind` tells them apart."""
        return await self._known(lead, await self._history(lead, lambda _: True, self._note, part))

    async def get_note(self, note: str) -> Note:
        """Read one activity."""
        return self._note(await self._one(ACTIVITIES, note))

    async def get_call(self, call: str) -> Call:
        """Read one activity of the type call, with recording and transcript where the CRM has them."""
        record = await self._one(ACTIVITIES, call, "call")
        if codec.kind_of(record, self._keys) != "call":
            raise NotFound(no_record("call", call), "it is another activity; list_activity shows which are calls")
        return codec.call(record, self._keys, whole=True)

    async def list_calls(self, lead: str, part: Slice) -> Page[Call]:
        """List a lead's activities of the type call (inferred), newest first, without transcripts."""
        page = await self._history(
            lead, self._of_kind("call"), lambda row: codec.call(row, self._keys, whole=False), part
        )
        return await self._known(lead, page)

    async def list_messages(self, lead: str, part: Slice) -> Page[Message]:
        """List a lead's activities of the type e-mail (inferred), newest first."""
        page = await self._history(lead, self._of_kind("message"), lambda row: codec.message(row, self._keys), part)
        return await self._known(lead, page)

    async def inbound_messages(self, lead: str, channel: Channel) -> tuple[Message, ...]:
        """Return the e-mails that a lead has written, newest first: of its newest 1,000 activities."""
        if channel not in self.hears:
            return ()
        when = self._keys.activity_at
        mine = self._of_lead(lead, self._of_kind("message"))
        found = await self._looked_through(self._rows_of(ACTIVITIES, lead, when), as_row, mine, cut=True)
        written = [codec.message(each.row, self._keys) for each in _sorted(found.items, when)]
        return tuple(each for each in written if each.direction != "outbound")

    def _note(self, row: Json) -> Note:
        return codec.note(row, self._keys)

    def _activity(self, row: Json) -> Activity:
        return codec.activity(row, self._keys)

    def _of_kind(self, kind: codec.HistoryKind) -> Callable[[Json], bool]:
        return lambda row: codec.kind_of(row, self._keys) == kind

    async def _known(self, lead: str, page: Page[R]) -> Page[R]:
        """Return a page; raises NotFound where it is empty because there is no such lead."""
        if not page.items:
            await self._one(CONTACTS, lead)
        return page

    async def _history(
        self, lead: str, fits: Callable[[Json], bool], decode: Callable[[Json], R], part: Slice
    ) -> Page[R]:
        """Return a lead's activities that fit, newest first: sorted here where all of them fit in ten pages."""
        keys = self._keys
        return await self._newest(ACTIVITIES, lead, keys.activity_at, fits, decode, part)

    async def _tasks_of(self, lead: str, part: Slice) -> Page[Activity]:
        keys = self._keys

        def decode(row: Json) -> Activity:
            return of_task(codec.task(row, keys), moment(row.get(keys.created_at)))

        return await self._newest(TASKS, lead, keys.created_at, lambda _: True, decode, part)

    async def _newest(
        self,
        path: str,
        lead: str,
        when: str,
        fits: Callable[[Json], bool],
        decode: Callable[[Json], R],
        part: Slice,
    ) -> Page[R]:
        fetch, mine = self._rows_of(path, lead, when), self._of_lead(lead, fits)
        found = await self._looked_through(fetch, as_row, mine)
        if found.whole:
            page = part_of(_sorted(found.items, when), part)
        else:
            page = await self._sifted(fetch, as_row, mine, part, narrow=_NARROW)
        return Page[R](
            items=tuple(decode(each.row) for each in page.items),
            next=page.next,
            total=page.total,
        )

    def _rows_of(self, path: str, lead: str, when: str) -> Rows:
        return self._rows(path, {self._keys.contact: lead}, f"-{when}")

    def _of_lead(self, lead: str, fits: Callable[[Json], bool]) -> Callable[[Row], bool]:
        return lambda each: codec.contact_of(each.row, self._keys) == lead and fits(each.row)


class SalesSheetTasks(KeepsTasks, SalesSheetApi):
    """Tasks; whether one is done is told by its status (inferred)."""

    async def list_tasks(
        self, lead: str | None, completed: bool | None, due_before: datetime | None, part: Slice
    ) -> Page[Task]:
        """List tasks, the one due first first. Up to 1,000 are read and sorted here; beyond, as the CRM sorts them.

        The CRM is asked for those of the contact alone: the words of a status are not documented.
        """
        keys = self._keys
        fetch = self._rows(TASKS, {keys.contact: lead} if lead else {}, keys.task_due_at)

        def fits(each: Task) -> bool:
            return (
                (lead is None or each.lead_id == lead)
                and (completed is None or each.completed == completed)
                and (due_before is None or (each.due_at is not None and each.due_at < due_before))
            )

        found = await self._looked_through(fetch, self._task, fits)
        if found.whole:
            page = part_of(sorted(found.items, key=_by_date), part)
        else:
            page = await self._sifted(fetch, self._task, fits, part, narrow="give a lead")
        if lead is not None and not page.items:
            await self._one(CONTACTS, lead)
        return page

    async def get_task(self, task: str) -> Task:
        """Read one task."""
        return self._task(await self._one(TASKS, task))

    async def create_task(self, lead: str | None, fields: TaskFields) -> Task:
        """Create a task."""
        if not fields.title:
            raise InvalidArgument("a task needs a title", "give one", wrote=False)
        if lead is not None:
            await self._one(CONTACTS, lead)
        link = {self._keys.contact: lead} if lead else {}
        made = self._task(await self._made(TASKS, {**self._task_body(fields), **link}))
        refuse_partly_made(made, fields, lead)
        return made

    async def update_task(self, task: str, fields: TaskFields, clear: Sequence[str] = ()) -> Task:
        """Change a task: what differs is sent."""
        given = fields.model_dump(exclude_none=True)
        refuse_clearing(given, clear, CLEARABLE)
        before = self._task(await self._one(TASKS, task))
        wanted = {**given, **dict.fromkeys(clear)}
        wanted = {name: value for name, value in wanted.items() if getattr(before, name) != value}
        if not wanted:
            return before
        cleared = {self._task_key(name): None for name, value in wanted.items() if value is None}
        changes = {**self._task_body(TaskFields.model_validate(wanted)), **cleared}
        after = self._task(await self._changed(TASKS, task, changes))
        refuse_unchanged(before, after, wanted, f"task {task}")
        return after

    def _task(self, row: Json) -> Task:
        return codec.task(row, self._keys)

    def _task_key(self, field: str) -> str:
        """Return the key of a field."""
        return str(getattr(self._keys, f"task_{field}"))

    def _task_body(self, fields: TaskFields) -> Json:
        keys = self._keys
        body: dict[str, Any] = {
            keys.task_title: fields.title,
            keys.task_due_at: rfc3339(fields.due_at) if fields.due_at else None,
            keys.task_priority: getattr(keys, f"priority_{fields.priority}") if fields.priority else None,
        }
        if fields.completed is not None:
            body[keys.task_status] = keys.task_completed if fields.completed else keys.task_open
        return {name: value for name, value in body.items() if value is not None}


def _sorted(rows: list[Row], when: str) -> list[Row]:
    return sorted(rows, key=lambda each: _moment(each.row, when), reverse=True)


def _moment(row: Json, key: str) -> float:
    found = moment(row.get(key)) or moment(row.get("created_at"))
    return found.timestamp() if found else 0.0


def _by_date(task: Task) -> tuple[bool, float]:
    return task.due_at is None, task.due_at.timestamp() if task.due_at else 0.0
