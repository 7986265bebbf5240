"""To-dos."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence as Seq
from datetime import datetime
from typing import Any

from crm_mcp.backends.base import KeepsTasks
from crm_mcp.backends.local import rows
from crm_mcp.backends.local.database import File
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Page, Slice, Task, TaskFields

CLEARABLE = ("due_at", "priority")
_NEVER = 2**53 - 1
"""Stands for the date of a task that has none, so that it comes last."""
_DUE = f"COALESCE(due_at, {_NEVER})"
_TASK = f"SELECT n, lead, title, due_at, priority, completed, {_DUE} AS due FROM tasks"


class LocalTasks(KeepsTasks):
    """Tasks in the file, with a lead or without."""

    _file: File

    async def list_tasks(
        self, lead: str | None, completed: bool | None, due_before: datetime | None, part: Slice
    ) -> Page[Task]:
        """List tasks, the one due first first, those without a date last."""
        return await self._file.read(lambda db: _list(db, lead, completed, due_before, part))

    async def get_task(self, task: str) -> Task:
        """Read one task."""
        n = rows.number("task", task)
        return await self._file.read(lambda db: _task(db, n))

    async def create_task(self, lead: str | None, fields: TaskFields) -> Task:
        """Create a task."""
        return await self._file.write(lambda db: _create(db, lead, fields))

    async def update_task(self, task: str, fields: TaskFields, clear: Seq[str] = ()) -> Task:
        """Change a task; `due_at` and `priority` can be cleared."""
        return await self._file.write(lambda db: _update(db, task, fields, clear))


def _nouns(found: Seq[sqlite3.Row]) -> list[Task]:
    return [
        Task(
            id=f"T{row['n']}",
            lead_id=rows.lead_id(row["lead"]),
            title=row["title"],
            due_at=rows.moment(row["due_at"]),
            priority=row["priority"],
            completed=bool(row["completed"]),
        )
        for row in found
    ]


def _task(db: sqlite3.Connection, n: int) -> Task:
    found = db.execute(f"{_TASK} WHERE n = ?", (n,)).fetchall()
    if not found:
        raise rows.missing("task", f"T{n}")
    return _nouns(found)[0]


def _list(
    db: sqlite3.Connection, lead: str | None, completed: bool | None, due_before: datetime | None, part: Slice
) -> Page[Task]:
    place = rows.position(part, int, int)
    where: list[str] = ["1"]
    values: list[Any] = []
    if lead is not None:
        where.append("lead = ?")
        values.append(rows.existing(db, "lead", lead))
    if completed is not None:
        where.append("completed = ?")
        values.append(int(completed))
    if due_before is not None:
        where.append(f"{_DUE} < ?")
        values.append(rows.millis(due_before))
    total = db.execute(f"SELECT count(*) FROM tasks WHERE {' AND '.join(where)}", values).fetchone()[0]
    if place is not None:
        where.append(f"({_DUE}, n) > (?, ?)")
        values.extend(place)
    found = db.execute(
        f"{_TASK} WHERE {' AND '.join(where)} ORDER BY {_DUE}, n LIMIT ?", (*values, part.limit + 1)
    ).fetchall()
    return rows.paged(found, part, _nouns, lambda row: (row["due"], row["n"]), total)


def _create(db: sqlite3.Connection, lead: str | None, fields: TaskFields) -> Task:
    if not fields.title:
        raise InvalidArgument("a task needs a title", "give one", wrote=False)
    n = None if lead is None else rows.existing(db, "lead", lead)
    made = db.execute(
        "INSERT INTO tasks (lead, title, due_at, priority, completed, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (n, fields.title, rows.optional_millis(fields.due_at), fields.priority, int(fields.completed or False),
         rows.present()),
    )  # fmt: skip
    return _task(db, made.lastrowid or 0)


def _update(db: sqlite3.Connection, task: str, fields: TaskFields, clear: Seq[str]) -> Task:
    n = rows.existing(db, "task", task)
    values: dict[str, Any] = {
        "title": fields.title or None,
        "due_at": rows.optional_millis(fields.due_at),
        "priority": fields.priority,
        "completed": None if fields.completed is None else int(fields.completed),
    }
    values = {name: value for name, value in values.items() if value is not None}
    for each in clear:
        if each not in CLEARABLE:
            raise InvalidArgument(f'"{each[:80]}" is no field to clear', choices(each, CLEARABLE), wrote=False)
        if each in values:
            raise InvalidArgument(f'"{each}" is both set and cleared', "do one of the two", wrote=False)
        values[each] = None
    if values:
        assigned = ", ".join(f"{column} = ?" for column in values)
        db.execute(f"UPDATE tasks SET {assigned} WHERE n = ?", (*values.values(), n))
    return _task(db, n)
