"""To-dos."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from datetime import UTC, datetime
from typing import Any

from crm_mcp.backends.base import KeepsTasks
from crm_mcp.backends.dialsheet.sheet import TASK, TASKS, Sheet, made_like, told, whole_answer
from crm_mcp.backends.http import after_write, at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.remote import part_of, refuse_clearing, text
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Page, Slice, Task, TaskFields, rfc3339

CLEARABLE = {"due_at": "due_date", "priority": "priority"}
"""What can be emptied, with null, which is inferred."""
_NEVER = datetime.max.replace(tzinfo=UTC)


class DialsheetTasks(KeepsTasks, Sheet):
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
            missing = f'there is no lead "{lead[:80]}"'
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
        answer = await self._api.write("PUT", at(TASK, task), body, missing=f'there is no task "{task[:80]}"')
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
        if not whole_answer(record, sent):
            with after_write():
                listed = await self._listed(TASKS)
                found = listed.find("task", task) if task else None
            record = found or made_like(listed.rows, sent, "task")
        emptied = [name for name, value in sent.items() if value is None]
        self._refuse_unkept(sent, record, [*emptied, self._keys.task_completed])
        return self._records.task(record)
