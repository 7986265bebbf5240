"""The way back: what was changed goes back to what it was, once, by its own caller, unless it has changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crm_mcp.actions.guards import new_addresses
from crm_mcp.actions.intent import Outcome, Preview
from crm_mcp.actions.pipeline import intent
from crm_mcp.actions.undo.undo import note_of, preview_undo, undo
from crm_mcp.errors import (
    Busy,
    Conflict,
    CrmError,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Unreachable,
    Unsupported,
    VendorError,
)
from crm_mcp.model import DealFields, LeadUpdate
from crm_mcp.server.tools.admin import undo_action
from crm_mcp.store import Action, ClaimConditions, NewAction
from tests.harness.app import SEQUENCE, App
from tests.harness.clock import Clock
from tests.harness.person import ANN, Person


async def rename(app: App, name: str = "Jane Roe", company: str = "Acme") -> str:
    """Change the lead by an action of Ann's; returns the action's id."""

    async def run() -> Outcome:
        before = await app.crm.get_lead(app.lead.id)
        after = await app.crm.update_lead(app.lead.id, LeadUpdate(name=name, company=company))
        kept = note_of("lead", before, after, ("name", "company", "title"))
        return Outcome(f"renamed to {name}", lead=app.lead.id, undo=kept)

    return (await app.pipeline.act(app.write(run, name=name), Person()))["action_id"]


async def take_back(app: App, action_id: str, caller: str = ANN) -> str:
    """Undo as the tool does; returns the status."""

    async def run(_: Preview) -> Outcome:
        return await undo(app.context, action_id, caller)

    async def ask() -> Preview:
        return await preview_undo(app.context, action_id, caller)

    made = intent(app.context, undo_action, {"action_id": action_id}, run, ask=ask)
    return (await app.pipeline.act(made, Person(caller=caller)))["status"]


async def test_an_undo_puts_the_values_back_and_empties_what_was_empty(app: App):
    action_id = await rename(app)

    status = await take_back(app, action_id)

    lead = await app.crm.get_lead(app.lead.id)
    assert (status, lead.name, lead.company) == ("undone", "Jane Doe", None)
    assert [(row.tool, row.status) for row in await app.rows()] == [("undo_action", "done"), ("log_note", "undone")]


async def test_an_undo_serves_once(app: App):
    action_id = await rename(app)
    await take_back(app, action_id)

    assert await take_back(app, action_id) == "duplicate"
    app.clock.advance(minutes=2)
    with pytest.raises(Conflict, match="is undone, not done"):
        await take_back(app, action_id)


async def test_an_undo_is_refused_with_both_values_where_the_record_has_changed_since(app: App):
    action_id = await rename(app)
    await app.crm.update_lead(app.lead.id, LeadUpdate(name="Jane Poe"))

    with pytest.raises(Conflict, match=r"Jane Poe.*Jane Roe.*nothing was undone"):
        await take_back(app, action_id)

    lead = await app.crm.get_lead(app.lead.id)
    assert (lead.name, lead.company) == ("Jane Poe", "Acme")


async def test_the_action_of_another_is_not_found(app: App):
    action_id = await rename(app)

    with pytest.raises(NotFound, match="of yours"):
        await take_back(app, action_id, "eve via tests")

    assert (await app.crm.get_lead(app.lead.id)).name == "Jane Roe"


async def test_a_job_under_way_is_called_off_and_what_it_did_stays(app: App):
    new = NewAction(
        caller=ANN,
        connection="local",
        tool="import_leads",
        effect="write",
        arguments={},
        digest="1",
        summary="Import 3 leads",
    )
    job = await app.store.actions.begin(new, "policy", ClaimConditions(job=True))
    assert isinstance(job, Action)
    await app.store.items.add(job.id, [{"row": n} for n in range(3)])
    await app.store.items.take(job.id, 1, fencing_token=job.fencing_token)
    await app.store.items.complete(job.id, [(0, "done", None)], fencing_token=job.fencing_token)
    told = await preview_undo(app.context, job.id, ANN)

    done = await undo(app.context, job.id, ANN)

    assert told.unasked
    assert done.cancelled == job.id
    assert done.fields["progress"] == {"done": 1, "total": 3}
    assert await app.store.items.take(job.id, 1, fencing_token=job.fencing_token) == ()
    assert [each.status for each in await app.store.items.all(job.id)] == ["done", "cancelled", "cancelled"]
    with pytest.raises(NotFound, match="of yours"):
        await undo(app.context, job.id, "eve via tests")


async def test_what_is_being_sent_is_not_called_off(app: App):
    new = NewAction(
        caller=ANN,
        connection="local",
        tool="send_sms",
        effect="outward",
        arguments={},
        digest="1",
        summary="SMS",
    )
    sending = await app.store.actions.begin(new, "policy", ClaimConditions())
    assert isinstance(sending, Action)

    with pytest.raises(Conflict, match="is running, not done"):
        await take_back(app, sending.id)


async def test_what_keeps_nothing_cannot_be_undone(app: App):
    sent = await app.pipeline.act(app.sms(), Person("yes"))

    with pytest.raises(Unsupported, match="send_sms can't be undone"):
        await take_back(app, sent["action_id"])


async def test_an_undo_that_fails_leaves_the_action_done(app: App):
    action_id = await rename(app)
    await app.crm.delete("lead", app.lead.id)

    with pytest.raises(NotFound):
        await undo(app.context, action_id, ANN)

    row = await app.store.actions.get(action_id)
    assert row is not None
    assert row.status == "done"
    with pytest.raises(NotFound):
        await take_back(app, action_id)


async def test_an_action_that_changed_nothing_keeps_nothing(app: App):
    lead = await app.crm.get_lead(app.lead.id)

    assert note_of("lead", lead, lead, ("name", "company")) is None


@pytest.mark.parametrize("before", [None, "Europe/Berlin", "nowhere"])
async def test_an_undo_that_changes_the_time_zone_is_told_before_the_lead_is_texted(app: App, before: str | None):
    async def run() -> Outcome:
        old = await app.crm.update_lead(app.lead.id, LeadUpdate(custom_fields={"Time Zone": before, "size": 3}))
        new = await app.crm.update_lead(app.lead.id, LeadUpdate(custom_fields={"Time Zone": "Asia/Tokyo"}))
        return Outcome("moved", lead=app.lead.id, undo=note_of("lead", old, new, ("custom_fields",)))

    action_id = (await app.pipeline.act(app.write(run), Person()))["action_id"]
    assert await new_addresses.fresh(app.context, await app.context.lead(app.lead.id), ["sms"]) == ()

    assert await take_back(app, action_id) == "undone"

    [told] = await new_addresses.fresh(app.context, await app.context.lead(app.lead.id), ["sms"])
    assert "the time zone was set by ann via tests with undo_action" in told


async def test_what_comes_back_in_part_is_told_so_where_the_crm_cannot_be_asked_for_it(
    app: App, monkeypatch: pytest.MonkeyPatch
):
    kept = {"verb": "deleted", "id": "L9", "kind": "lead", "label": "Joe", "fields": {"id": "L9", "email": "j@x.test"}}

    async def run() -> Outcome:
        return Outcome("deleted", undo=kept)

    async def fail(*_: Any) -> None:
        raise VendorError("it refused the stage", wrote=True)

    async def busy(*_: Any) -> None:
        raise Busy("too many calls", retry_after=9)

    action_id = (await app.pipeline.act(app.write(run), Person()))["action_id"]
    monkeypatch.setattr(app.crm, "create_lead", fail)
    monkeypatch.setattr(app.crm, "leads_at", busy)

    assert await take_back(app, action_id) == "failed"

    assert (await app.rows())[0].reason == "it refused the stage; a part was written"


# Enrolments


async def test_who_was_enrolled_anew_by_another_stays_in_when_the_first_enrolment_is_undone(folder: Path, clock: Clock):
    here, bob = App(folder, clock), Person.agreeing(caller="bob via tests")
    leads = await here.new_leads(3)
    first = await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)
    await here.call("unenroll_from_sequence", bob, sequence=SEQUENCE, leads=leads[:2])
    clock.advance(days=1)
    second = await here.call("enroll_in_sequence", bob, sequence=SEQUENCE, leads=leads[:1])

    undone = await here.call("undo_action", action_id=first["action_id"])

    assert undone["status"] == "undone"
    assert undone["result"] == {
        "succeeded": leads[2:],
        "failed": [
            {"item": leads[0], "reason": f"enrolled anew, by action {second['action_id']}"},
            {"item": leads[1], "reason": "no longer enrolled by this action"},
        ],
    }
    assert [await here.crm.enrolled("S1", each) for each in leads] == [True, False, False]
    assert (await here.row(second["action_id"])).status == "done"
    await here.close()


async def test_an_enrolment_that_is_anothers_by_now_is_not_undone(folder: Path, clock: Clock):
    here, bob = App(folder, clock), Person.agreeing(caller="bob via tests")
    leads = await here.new_leads(1)
    first = await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)
    await here.call("unenroll_from_sequence", bob, sequence=SEQUENCE, leads=leads)
    second = await here.call("enroll_in_sequence", bob, sequence=SEQUENCE, leads=leads)

    with pytest.raises(Conflict, match=rf"{leads[0]} is enrolled anew, by action {second['action_id']}; nothing was"):
        await here.call("undo_action", action_id=first["action_id"])

    assert await here.crm.enrolled("S1", leads[0])
    assert (await here.row(first["action_id"])).status == "done"
    await here.close()


# Deals


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidArgument("no such value"), "failed"),
        (Unreachable("it is gone", wrote=False), "failed"),
        (OutcomeUnknown("no answer"), "done"),  # with its stage it has its status: it is looked at
    ],
)
async def test_an_undo_of_a_deal_that_stops_halfway_says_so(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: CrmError, status: str
):
    here = App(folder, clock)
    made = await here.call("create_deal", name="Lamps", value=5)
    won = await here.call("update_deal", deal=made["deal"]["id"], status="won")

    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(here.crm, "update_deal", fail)
    undone = await here.call("undo_action", action_id=won["action_id"])

    deal = await here.crm.get_deal(made["deal"]["id"])
    assert (undone["status"], deal.stage) == (status, made["deal"]["stage"])
    if status == "failed":
        assert undone["reason"] == f"{error}; a part was written"
    await here.close()


async def test_an_undo_of_a_deal_that_fails_at_once_has_written_nothing(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    here = App(folder, clock)
    made = await here.call("create_deal", name="Lamps", value=5)
    changed = await here.call("update_deal", deal=made["deal"]["id"], value=7)

    async def fail(record: str, fields: DealFields, clear: list[str]) -> None:
        del record, fields, clear
        raise InvalidArgument("no such value")

    monkeypatch.setattr(here.crm, "update_deal", fail)
    undone = await here.call("undo_action", action_id=changed["action_id"])

    assert (undone["status"], undone["reason"]) == ("failed", "no such value; nothing was written")
    await here.close()
