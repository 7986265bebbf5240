"""The toolset `tasks`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from crm_mcp.actions import history
from crm_mcp.actions.context import Context
from crm_mcp.actions.intent import Done
from crm_mcp.actions.policy import Effect
from crm_mcp.actions.undo import note_of, told
from crm_mcp.backends.base import KeepsTasks
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Line, Priority, TaskFields, rfc3339
from crm_mcp.server.arguments import Cursor, Id, LeadKey, Limit, When
from crm_mcp.server.listing import listed
from crm_mcp.server.tool import tool
from crm_mcp.store import Action


@tool(Effect.READ, needs=KeepsTasks, across="tasks")
async def list_tasks(
    context: Context,
    lead: LeadKey | None = None,
    completed: bool | None = None,
    due_before: When | None = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> dict[str, Any]:
    """List to-dos of one lead or of all, in the order in which they fall due; completed: false hides those done."""
    crm = context.crm(KeepsTasks)
    of = (await context.lead(lead)).id if lead else None
    query = {"list_tasks": of, "completed": completed, "due_before": due_before and rfc3339(due_before)}
    return await listed(
        context, "tasks", query, limit, cursor, lambda part: crm.list_tasks(of, completed, due_before, part)
    )


@tool(Effect.WRITE, needs=KeepsTasks)
async def create_task(
    context: Context,
    title: Line,
    lead: LeadKey | None = None,
    due_at: When | None = None,
    priority: Priority | None = None,
) -> Done:
    """Create a to-do, for a lead or for nobody in particular. Nothing is sent when it falls due."""
    of = await context.lead(lead) if lead else None
    fields = TaskFields(title=title, due_at=due_at, priority=priority)
    task = await context.crm(KeepsTasks).create_task(of.id if of else None, fields)
    about = f" for {of.label} ({of.id})" if of else ""
    touched = (("task", task.id), *((("lead", of.id),) if of else ()))
    return Done(f'created the task "{title}"{about}', {"task": task.shown()}, task.lead_id, touched)


async def look_update_task(
    context: Context,
    row: Action,
    task: str,
    title: str | None,
    due_at: datetime | None,
    priority: Priority | None,
    completed: bool | None,
) -> Done | None:
    """Look whether the task is as it was to be."""
    del row
    found = await context.crm(KeepsTasks).get_task(task)
    wanted = TaskFields(title=title, due_at=due_at, priority=priority, completed=completed).shown()
    if not history.has(context, found, wanted):
        return None
    said = f'changed the task "{found.title}" ({found.id})'
    return Done(said, {"task": found.shown()}, found.lead_id, (("task", found.id),))


@tool(Effect.WRITE, needs=KeepsTasks, look=look_update_task, idempotent=True)
async def update_task(
    context: Context,
    task: Id,
    title: Line | None = None,
    due_at: When | None = None,
    priority: Priority | None = None,
    completed: bool | None = None,
) -> Done:
    """Change a to-do, or complete it with completed: true. Can be undone."""
    fields = TaskFields(title=title, due_at=due_at, priority=priority, completed=completed)
    if not fields.shown():
        raise InvalidArgument("nothing to change is given", "give title, due_at, priority or completed")
    crm = context.crm(KeepsTasks)
    before = await crm.get_task(task)
    after = await crm.update_task(task, fields)
    kept = note_of("task", before, after, ("title", "due_at", "priority", "completed"))
    return Done(
        f'changed the task "{after.title}" ({after.id}): {told(kept)}',
        {"task": after.shown()},
        after.lead_id,
        (("task", after.id),),
        kept,
    )


TOOLS = (list_tasks, create_task, update_task)
