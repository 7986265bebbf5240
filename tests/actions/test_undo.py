"""The way back: what was changed goes back to what it was, once, by its own caller, unless it has changed since."""

from __future__ import annotations

import pytest

from crm_mcp.actions.approval import Done, Preview
from crm_mcp.actions.policy import Effect
from crm_mcp.actions.undo import note_of, preview_undo, undo
from crm_mcp.errors import Conflict, NotFound, Unsupported
from crm_mcp.model import LeadUpdate
from crm_mcp.store import Action, NewAction, Terms

from .roads import Person, Road

ANN = "ann via tests"


async def rename(road: Road, name: str = "Jane Roe", company: str = "Acme") -> str:
    """Change the lead by an action of Ann's; returns the action's id."""

    async def run() -> Done:
        before = await road.crm.get_lead(road.lead.id)
        after = await road.crm.update_lead(road.lead.id, LeadUpdate(name=name, company=company))
        kept = note_of("lead", before, after, ("name", "company", "title"))
        return Done(f"renamed to {name}", lead=road.lead.id, undo=kept)

    return (await road.desk.act(road.write(run, name=name), Person()))["action_id"]


async def take_back(road: Road, action_id: str, caller: str = ANN) -> str:
    """Undo as the tool does; returns the status."""

    async def run(_: Preview) -> Done:
        return await undo(road.desk, action_id, caller)

    async def ask() -> Preview:
        return await preview_undo(road.desk, action_id, caller)

    deed = road.desk.deed("undo_action", Effect.WRITE, {"action_id": action_id}, run, ask=ask)
    return (await road.desk.act(deed, Person(caller=caller)))["status"]


async def test_an_undo_puts_the_values_back_and_empties_what_was_empty(road: Road):
    action_id = await rename(road)

    status = await take_back(road, action_id)

    lead = await road.crm.get_lead(road.lead.id)
    assert (status, lead.name, lead.company) == ("undone", "Jane Doe", None)
    assert [(row.tool, row.status) for row in await road.rows()] == [("undo_action", "done"), ("log_note", "undone")]


async def test_an_undo_serves_once(road: Road):
    action_id = await rename(road)
    await take_back(road, action_id)

    assert await take_back(road, action_id) == "duplicate"
    road.clock.advance(minutes=2)
    with pytest.raises(Conflict, match="is undone, not done"):
        await take_back(road, action_id)


async def test_an_undo_is_refused_with_both_values_where_the_record_has_changed_since(road: Road):
    action_id = await rename(road)
    await road.crm.update_lead(road.lead.id, LeadUpdate(name="Jane Poe"))

    with pytest.raises(Conflict, match=r"Jane Poe.*Jane Roe.*nothing was undone"):
        await take_back(road, action_id)

    lead = await road.crm.get_lead(road.lead.id)
    assert (lead.name, lead.company) == ("Jane Poe", "Acme")


async def test_the_action_of_another_is_not_found(road: Road):
    action_id = await rename(road)

    with pytest.raises(NotFound, match="of yours"):
        await take_back(road, action_id, "eve via tests")

    assert (await road.crm.get_lead(road.lead.id)).name == "Jane Roe"


async def test_a_job_under_way_is_called_off_and_what_it_did_stays(road: Road):
    new = NewAction(
        caller=ANN,
        connection="local",
        tool="import_leads",
        effect="write",
        arguments={},
        digest="1",
        summary="Import 3 leads",
    )
    job = await road.store.begin(new, "policy", Terms(job=True))
    assert isinstance(job, Action)
    await road.store.add_items(job.id, [{"row": n} for n in range(3)])
    await road.store.take_items(job.id, 1, fence=job.fence)
    await road.store.settle_items(job.id, [(0, "done", None)], fence=job.fence)
    told = await preview_undo(road.desk, job.id, ANN)

    done = await undo(road.desk, job.id, ANN)

    assert told.unasked
    assert done.cancelled == job.id
    assert done.fields["progress"] == {"done": 1, "total": 3}
    assert await road.store.take_items(job.id, 1, fence=job.fence) == ()
    assert [each.status for each in await road.store.items(job.id)] == ["done", "cancelled", "cancelled"]
    with pytest.raises(NotFound, match="of yours"):
        await undo(road.desk, job.id, "eve via tests")


async def test_what_is_being_sent_is_not_called_off(road: Road):
    new = NewAction(
        caller=ANN,
        connection="local",
        tool="send_sms",
        effect="outward",
        arguments={},
        digest="1",
        summary="SMS",
    )
    sending = await road.store.begin(new, "policy", Terms())
    assert isinstance(sending, Action)

    with pytest.raises(Conflict, match="is sending, not done"):
        await take_back(road, sending.id)


async def test_what_keeps_nothing_cannot_be_undone(road: Road):
    sent = await road.desk.act(road.sms(), Person("yes"))

    with pytest.raises(Unsupported, match="send_sms can't be undone"):
        await take_back(road, sent["action_id"])


async def test_an_undo_that_fails_leaves_the_action_done(road: Road):
    action_id = await rename(road)
    await road.crm.delete("lead", road.lead.id)

    with pytest.raises(NotFound):
        await undo(road.desk, action_id, ANN)

    row = await road.store.get(action_id)
    assert row is not None
    assert row.status == "done"
    with pytest.raises(NotFound):
        await take_back(road, action_id)


async def test_an_action_that_changed_nothing_keeps_nothing(road: Road):
    lead = await road.crm.get_lead(road.lead.id)

    assert note_of("lead", lead, lead, ("name", "company")) is None
