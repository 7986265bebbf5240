from __future__ import annotations

from datetime import timedelta

import pytest

from crm_mcp.backends.base import Backend, FindsLeads, KeepsTasks, WritesLeads
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import LeadFilter, Priority, Slice, TaskFields, now

from .conftest import Unwritten
from .reading import every, someone

NOON = now().replace(hour=12, minute=0, second=0, microsecond=0)


class Crm(KeepsTasks, Backend):
    """What most tests need."""


class Writing(KeepsTasks, WritesLeads, Backend):
    """What the tests with leads need."""


class Decision(KeepsTasks, FindsLeads, Backend):
    """What the test on the sample needs."""


async def test_a_created_task_is_read_back(crm: Writing):
    lead = await crm.create_lead(someone(1))
    due = NOON + timedelta(days=1)

    task = await crm.create_task(lead.id, TaskFields(title="Call", due_at=due, priority="high"))

    assert await crm.get_task(task.id) == task
    assert (task.lead_id, task.title, task.due_at, task.priority) == (lead.id, "Call", due, "high")
    assert task.completed is False


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
async def test_every_priority_is_kept(crm: Crm, priority: Priority):
    task = await crm.create_task(None, TaskFields(title="Call", priority=priority))

    assert (task.priority, task.lead_id, task.due_at) == (priority, None, None)
    assert await crm.get_task(task.id) == task


async def test_tasks_come_by_date_and_those_without_one_last(crm: Writing):
    lead = await crm.create_lead(someone(1))
    undated = await crm.create_task(None, TaskFields(title="Some day"))
    late = await crm.create_task(lead.id, TaskFields(title="Late", due_at=NOON + timedelta(days=9)))
    soon = await crm.create_task(None, TaskFields(title="Soon", due_at=NOON - timedelta(days=1)))
    done = await crm.update_task(late.id, TaskFields(completed=True))

    everything = await crm.list_tasks(None, None, None, Slice())
    of_lead = await crm.list_tasks(lead.id, None, None, Slice())
    still_open = await crm.list_tasks(None, False, None, Slice())
    finished = await crm.list_tasks(None, True, None, Slice())
    overdue = await crm.list_tasks(None, None, NOON, Slice())

    assert everything.items == (soon, done, undated)
    assert of_lead.items == (done,)
    assert still_open.items == (soon, undated)
    assert finished.items == (done,)
    assert overdue.items == (soon,)


async def test_a_task_is_changed_in_what_is_named_and_nothing_else(crm: Crm):
    task = await crm.create_task(None, TaskFields(title="Call", due_at=NOON, priority="low"))
    changes: tuple[dict[str, object], ...] = (
        {"title": "Write"}, {"due_at": NOON + timedelta(days=1)}, {"priority": "high"}, {"completed": True},
        {"completed": False},
    )  # fmt: skip

    for change in changes:
        after = await crm.update_task(task.id, TaskFields.model_validate(change))
        assert after == task.model_copy(update=change)
        assert await crm.get_task(task.id) == after
        task = after


async def test_fields_of_a_task_are_cleared(crm: Crm, unwritten: Unwritten):
    task = await crm.create_task(None, TaskFields(title="Call", due_at=NOON, priority="low"))

    with unwritten():
        with pytest.raises(InvalidArgument, match="valid: "):
            await crm.update_task(task.id, TaskFields(), ["title"])
        with pytest.raises(InvalidArgument, match="both"):
            await crm.update_task(task.id, TaskFields(priority="low"), ["priority"])
    changed = await crm.update_task(task.id, TaskFields(title="Write"), ["due_at", "priority"])

    assert changed == task.model_copy(update={"title": "Write", "due_at": None, "priority": None})


async def test_a_task_without_a_title_is_refused(crm: Crm, unwritten: Unwritten):
    with unwritten(), pytest.raises(InvalidArgument, match="title"):
        await crm.create_task(None, TaskFields(priority="low"))


async def test_an_update_of_nothing_changes_nothing(crm: Crm, unwritten: Unwritten):
    task = await crm.create_task(None, TaskFields(title="Call"))

    with unwritten():
        assert await crm.update_task(task.id, TaskFields()) == task


async def test_the_tasks_of_a_lead_are_its_own(stocked: Decision):
    everything = await every(lambda part: stocked.list_tasks(None, None, None, part))
    dates = [each.due_at for each in everything if each.due_at]

    assert dates == sorted(dates)
    for lead in (await stocked.search_leads(LeadFilter(), Slice(limit=12))).items:
        page = await stocked.list_tasks(lead.id, None, None, Slice(limit=100))
        assert {each.id for each in page.items} == {each.id for each in everything if each.lead_id == lead.id}
