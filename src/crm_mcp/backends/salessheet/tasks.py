"""SalesSheet's tasks: to-dos, of a contact or of nobody in particular."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from crm_mcp.backends.base import KeepsTasks
from crm_mcp.backends.remote import part_of, refuse_clearing, refuse_unkept
from crm_mcp.backends.salessheet import decoding
from crm_mcp.backends.salessheet.api import CONTACTS, NAME, TASKS, SalesSheetApi
from crm_mcp.backends.salessheet.decoding import Json
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Page, Slice, Task, TaskFields, rfc3339

CLEARABLE = ("due_at", "priority")


class SalesSheetTasks(SalesSheetApi, KeepsTasks):
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
        given = fields.model_dump(exclude_none=True)
        lost = [each for each in given if getattr(made, each) is None]
        lost += ["lead"] if lead and made.lead_id is None else []
        refuse_unkept(NAME, lost, f"{made.id}, which it created,")
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
        lost = [each for each in wanted if getattr(after, each) == getattr(before, each)]
        refuse_unkept(NAME, lost, f"task {task}")
        return after

    def _task(self, row: Json) -> Task:
        return decoding.task(row, self._keys)

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


def _by_date(task: Task) -> tuple[bool, float]:
    return task.due_at is None, task.due_at.timestamp() if task.due_at else 0.0
