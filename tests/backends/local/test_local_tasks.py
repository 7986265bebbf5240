"""Tasks of the embedded CRM."""

from __future__ import annotations

from datetime import timedelta

from crm_mcp.backends.local import Local
from crm_mcp.model import LeadDraft, Slice, TaskFields, now


async def test_tasks_come_by_date_and_those_without_one_last(crm: Local):
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


async def test_pages_of_tasks_hold_each_once(crm: Local):
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
