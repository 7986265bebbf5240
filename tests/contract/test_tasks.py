from __future__ import annotations

from datetime import timedelta

import pytest

from crm_mcp.backends.base import Backend, KeepsTasks, WritesLeads
from crm_mcp.errors import InvalidArgument, NotFound
from crm_mcp.model import LeadDraft, Slice, TaskFields, now


class Crm(KeepsTasks, WritesLeads, Backend):
    """What these tests need."""


async def test_a_created_task_is_read_back(crm: Crm):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    due = now() + timedelta(days=1)

    task = await crm.create_task(lead.id, TaskFields(title="Call", due_at=due, priority="high"))

    assert await crm.get_task(task.id) == task
    assert (task.lead_id, task.title, task.due_at, task.priority) == (lead.id, "Call", due, "high")
    assert task.completed is False


async def test_tasks_come_by_date_and_those_without_one_last(crm: Crm):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    undated = await crm.create_task(None, TaskFields(title="Some day"))
    late = await crm.create_task(lead.id, TaskFields(title="Late", due_at=now() + timedelta(days=9)))
    soon = await crm.create_task(None, TaskFields(title="Soon", due_at=now() - timedelta(days=1)))
    done = await crm.update_task(late.id, TaskFields(completed=True))

    everything = await crm.list_tasks(None, None, None, Slice())
    of_lead = await crm.list_tasks(lead.id, None, None, Slice())
    still_open = await crm.list_tasks(None, False, None, Slice())
    overdue = await crm.list_tasks(None, None, now(), Slice())

    assert everything.items == (soon, done, undated)
    assert of_lead.items == (done,)
    assert still_open.items == (soon, undated)
    assert overdue.items == (soon,)


async def test_a_task_is_changed_and_its_fields_cleared(crm: Crm):
    task = await crm.create_task(None, TaskFields(title="Call", due_at=now(), priority="low"))

    changed = await crm.update_task(task.id, TaskFields(title="Write", completed=True), ["due_at", "priority"])
    opened = await crm.update_task(task.id, TaskFields(completed=False))

    assert (changed.title, changed.completed, changed.due_at, changed.priority) == ("Write", True, None, None)
    assert opened.completed is False
    with pytest.raises(InvalidArgument, match="valid: "):
        await crm.update_task(task.id, TaskFields(), ["title"])
    with pytest.raises(InvalidArgument, match="both"):
        await crm.update_task(task.id, TaskFields(priority="low"), ["priority"])


async def test_a_task_without_a_title_or_with_an_unknown_lead_is_refused(crm: Crm):
    with pytest.raises(InvalidArgument):
        await crm.create_task(None, TaskFields(priority="low"))
    with pytest.raises(NotFound):
        await crm.create_task("L999", TaskFields(title="Call"))
    with pytest.raises(NotFound):
        await crm.list_tasks("L999", None, None, Slice())
    for wrong in ("T1", "L1", ""):
        with pytest.raises(NotFound):
            await crm.get_task(wrong)


async def test_pages_of_tasks_hold_each_once(crm: Crm):
    dates = [now() + timedelta(days=i % 2) if i % 3 else None for i in range(8)]
    made = {(await crm.create_task(None, TaskFields(title=f"Task {i}", due_at=at))).id for i, at in enumerate(dates)}

    seen: list[str] = []
    position = None
    while True:
        page = await crm.list_tasks(None, None, None, Slice(limit=3, position=position))
        seen.extend(each.id for each in page.items)
        position = page.next
        if position is None:
            break

    assert len(seen) == 8
    assert set(seen) == made
