"""The toolset `tasks`."""

from __future__ import annotations

from typing import Any

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.intent import Outcome
from crm_mcp.actions.undo.undo import note_of, told
from crm_mcp.backends.base import KeepsTasks
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Line, Priority, TaskFields, rfc3339
from crm_mcp.server.arguments import Cursor, Id, LeadKey, Limit, When
from crm_mcp.server.pagination import listed
from crm_mcp.server.tool import Arguments, tool


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
    query = {list_tasks.name: of, "completed": completed, "due_before": due_before and rfc3339(due_before)}
    return await listed(
        context, "tasks", query, limit, cursor, lambda part: crm.list_tasks(of, completed, due_before, part)
    )


@tool(Effect.WRITE, needs=KeepsTasks, creates="task")
async def create_task(
    context: Context,
    title: Line,
    lead: LeadKey | None = None,
    due_at: When | None = None,
    priority: Priority | None = None,
) -> Outcome:
    """Create a to-do, for a lead or for nobody in particular. Nothing is sent when it falls due."""
    of = await context.lead(lead) if lead else None
    fields = TaskFields(title=title, due_at=due_at, priority=priority)
    task = await context.crm(KeepsTasks).create_task(of.id if of else None, fields)
    about = f" for {of.label} ({of.id})" if of else ""
    touched = (("task", task.id), *((("lead", of.id),) if of else ()))
    return Outcome(f'created the task "{title}"{about}', {"task": task.shown()}, task.lead_id, touched)


class UpdateTask(Arguments):
    task: Id
    title: Line | None = None
    due_at: When | None = None
    priority: Priority | None = None
    completed: bool | None = None

    def fields(self) -> TaskFields:
        """Return what is to be changed."""
        return TaskFields(title=self.title, due_at=self.due_at, priority=self.priority, completed=self.completed)


async def reconcile_update_task(context: Context, call: UpdateTask) -> Outcome | None:
    """Look whether the task is as it was to be."""
    found = await context.crm(KeepsTasks).get_task(call.task)
    if not reconcile.has(context, found, call.fields().shown()):
        return None
    said = f'changed the task "{found.title}" ({found.id})'
    return Outcome(said, {"task": found.shown()}, found.lead_id, (("task", found.id),))


@tool(Effect.WRITE, needs=KeepsTasks, reconcile=reconcile_update_task, idempotent=True)
async def update_task(context: Context, call: UpdateTask) -> Outcome:
    """Change a to-do, or complete it with completed: true. Can be undone."""
    fields = call.fields()
    if not fields.shown():
        raise InvalidArgument("nothing to change is given", "give title, due_at, priority or completed")
    crm = context.crm(KeepsTasks)
    before = await crm.get_task(call.task)
    after = await crm.update_task(call.task, fields)
    kept = note_of("task", before, after, ("title", "due_at", "priority", "completed"))
    return Outcome(
        f'changed the task "{after.title}" ({after.id}): {told(kept)}',
        {"task": after.shown()},
        after.lead_id,
        (("task", after.id),),
        kept,
    )


TOOLS = (list_tasks, create_task, update_task)
