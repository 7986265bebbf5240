"""A lead is enrolled in a sequence once while it is in it; again after it is out; never without being asked anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.actions.enrolment import run
from crm_mcp.actions.enrolment.run import enrolment_key
from crm_mcp.backends.local import Local
from crm_mcp.channels import Channel
from crm_mcp.config import PolicySettings
from crm_mcp.errors import OutcomeUnknown, Unreachable
from crm_mcp.model import Message
from tests.harness.app import SEQUENCE, App
from tests.harness.clock import Clock
from tests.harness.crms import UntoldCrm, WatchedCrm
from tests.harness.person import Person

ALLOWED = PolicySettings(outward="allow")


async def enrol(app: App, leads: list[str], client: Person | None = None) -> dict[str, Any]:
    return await app.call("enroll_in_sequence", client, sequence=SEQUENCE, leads=leads)


async def test_the_same_call_again_gets_the_answer_of_the_first_also_from_another_caller(folder: Path, clock: Clock):
    here = App(folder, clock)
    leads = [*await here.new_leads(3), "L999999"]

    first = await enrol(here, leads)
    clock.advance(hours=1)
    again = await enrol(here, leads)
    other = await enrol(here, leads, Person.agreeing(caller="eve via tests"))

    assert (first["status"], again["status"], other["status"]) == ("done", "duplicate", "duplicate")
    assert again["action_id"] == other["action_id"] == first["action_id"]
    assert again["succeeded"] == first["succeeded"] == leads[:3]
    assert here.crm.enrolling == leads[:3]
    await here.close()


async def test_who_is_enrolled_already_is_left_out_and_the_rest_is_enrolled(folder: Path, clock: Clock):
    here, ann = App(folder, clock), Person.agreeing()
    leads = await here.new_leads(3)
    first = await enrol(here, leads[:2])

    result = await enrol(here, leads, ann)

    said = f"enrolled already, by action {first['action_id']}"
    assert f"not {leads[0]}: {said}" in ann.asked[0].text
    assert (result["succeeded"], result["failed"][0]) == (leads[2:], {"item": leads[0], "reason": said})
    await here.close()


async def test_who_was_taken_out_through_this_server_can_be_enrolled_at_once(folder: Path, clock: Clock):
    here = App(folder, clock)
    leads = await here.new_leads(2)
    await enrol(here, leads)

    await here.call("unenroll_from_sequence", sequence=SEQUENCE, leads=leads[:1])
    again = await enrol(here, leads)

    assert (again["status"], again["succeeded"]) == ("done", leads[:1])
    await here.close()


async def test_who_was_taken_out_in_the_crm_can_be_enrolled_once_it_says_so_for_a_minute(folder: Path, clock: Clock):
    here = App(folder, clock)
    [lead] = await here.new_leads(1)
    await enrol(here, [lead])
    await here.crm.unenroll("S1", lead)

    early = await enrol(here, [lead])
    clock.advance(minutes=2)
    trial = await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=[lead], dry_run=True)
    held = await here.store.actions.held_by([enrolment_key("local", "S1", lead)])
    late = await enrol(here, [lead])

    assert (early["status"], trial["status"], late["status"]) == ("duplicate", "dry_run", "done")
    assert held, "a dry run lets nothing go"
    assert here.crm.enrolling == [lead, lead]
    await here.close()


async def test_an_enrolment_that_did_not_happen_stops_no_other(folder: Path, clock: Clock):
    here, errors = App(folder, clock), [Unreachable("it can't be reached", wrote=False)]
    leads = await here.new_leads(3)

    async def fail() -> None:
        if here.crm.enrolling[-1] == leads[1] and errors:
            raise errors.pop()

    here.crm.first = fail
    first = await enrol(here, leads)
    second = await enrol(here, leads)

    assert (first["succeeded"], [each["item"] for each in first["failed"]]) == (leads[:1], leads[1:])
    assert first["failed"][1]["reason"] == "not tried"
    assert second["succeeded"] == leads[1:]
    await here.close()


async def test_of_an_answer_that_is_lost_only_that_lead_is_kept_from_being_enrolled_again(folder: Path, clock: Clock):
    here, errors = App(folder, clock, crm=UntoldCrm), [OutcomeUnknown("no answer")]
    leads = await here.new_leads(3)

    async def fail() -> None:
        if errors:
            raise errors.pop()

    here.crm.first = fail
    first = await enrol(here, leads)
    second = await enrol(here, leads)

    assert first["status"] == "unknown"
    assert (second["status"], second["succeeded"]) == ("done", leads[1:])
    assert second["failed"] == [{"item": leads[0], "reason": f"enrolled already, by action {first['action_id']}"}]
    await here.close()


async def test_an_answer_that_is_lost_is_found_where_the_crm_tells_who_is_enrolled(folder: Path, clock: Clock):
    here = App(folder, clock)
    leads = await here.new_leads(1)

    async def lose() -> None:
        await Local.enroll(here.crm, "S1", leads[0])
        raise OutcomeUnknown("no answer")

    here.crm.first = lose
    result = await enrol(here, leads)

    assert (result["status"], result["succeeded"]) == ("done", leads)
    assert here.crm.enrolling == leads
    await here.close()


async def test_an_address_that_a_tool_wrote_of_late_is_confirmed_even_where_policy_allows(folder: Path, clock: Clock):
    here, ann = App(folder, clock, policy=ALLOWED), Person.agreeing()
    new = {"name": "New", "email": "new@fresh.example"}
    made = await here.call("create_lead", **new)

    fresh = await enrol(here, [made["lead"]["id"]], ann)
    known = await enrol(here, await here.new_leads(1), ann)

    assert (fresh["status"], known["status"], len(ann.asked)) == ("done", "done", 1)
    assert "new@fresh.example was set by ann via tests with create_lead" in ann.asked[0].text
    await here.close()


async def test_the_kill_switch_and_the_limit_forbid_it_for_all(folder: Path, clock: Clock):
    policy = PolicySettings.model_validate({"outward": "allow", "daily_limits": {"enrolments": 2}})
    here = App(folder, clock, policy=policy)
    leads = await here.new_leads(3)

    too_many = await enrol(here, leads)
    two = await enrol(here, leads[:2])
    await here.store.limits.set_outbound(False, "bob")
    off = await enrol(here, leads[2:])

    assert (too_many["status"], two["status"], off["status"]) == ("blocked", "done", "blocked")
    assert "limit: no more than 2 enrolments a day: no room for 3 more" in too_many["reason"]
    assert off["reason"].startswith("kill switch")
    assert here.crm.enrolling == leads[:2]
    await here.close()


async def test_of_many_that_enrol_the_same_leads_at_once_one_does(folder: Path, clock: Clock):
    here, there = App(folder, clock, policy=ALLOWED), App(folder, clock, policy=ALLOWED)
    leads = await here.new_leads(2)
    statuses: list[str] = []

    async def call(app: App) -> None:
        statuses.append((await enrol(app, leads))["status"])

    with anyio.fail_after(15):
        async with anyio.create_task_group() as group:
            for app in (here, there) * 4:
                group.start_soon(call, app)

    assert sorted(statuses) == ["done", *["duplicate"] * 7]
    assert sorted([*here.crm.enrolling, *there.crm.enrolling]) == leads
    await here.close()
    await there.close()


@pytest.mark.parametrize("kind", [WatchedCrm, UntoldCrm])
async def test_an_enrolment_counts_for_the_limits_after_it_has_ended(
    folder: Path, clock: Clock, kind: type[WatchedCrm]
):
    policy = PolicySettings.model_validate({"outward": "allow", "daily_limits": {"enrolments": 1}})
    here = App(folder, clock, policy, kind)
    leads = await here.new_leads(1)
    await enrol(here, leads)
    await here.call("unenroll_from_sequence", sequence=SEQUENCE, leads=leads)

    again = await enrol(here, leads)

    assert again["status"] == "blocked"
    assert "limit: no more than 1 enrolments a day" in again["reason"]
    await here.close()


async def test_who_says_no_while_others_are_enrolled_is_left_out_and_on_another_channel_is_not(
    folder: Path, clock: Clock
):
    here = App(folder, clock, policy=ALLOWED)
    leads = await here.new_leads(4)

    async def meanwhile() -> None:
        await here.store.contacts.block(
            {"email": "person1@many.example", "call": "person2@many.example"}, "asked", "bob"
        )
        await here.store.contacts.block({"email": f"lead:local:{leads[3]}"}, None, "bob")
        await here.store.contacts.block({"sms": f"lead:local:{leads[2]}"}, None, "bob")

    here.crm.first = meanwhile
    result = await enrol(here, leads)

    reasons = {each["item"]: each["reason"] for each in result["failed"]}
    assert (result["status"], result["succeeded"]) == ("done", [leads[0], leads[2]])
    assert set(reasons) == {leads[1], leads[3]}
    assert reasons[leads[1]] == "not done: do-not-contact: Person 1 must not be reached by email (asked)"
    assert here.crm.enrolling == [leads[0], leads[2]]
    assert not await here.store.actions.held_by([enrolment_key("local", "S1", leads[1])])
    await here.close()


async def test_who_says_no_while_the_crm_is_read_for_the_turn_is_left_out_of_a_job(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    here = App(folder, clock)
    leads = await here.new_leads(2)
    monkeypatch.setattr(run, "MOST_INLINE", 1)

    async def meanwhile(lead: str, channel: Channel) -> tuple[Message, ...]:
        if lead == leads[1] and here.crm.enrolling:
            await here.store.contacts.block({"email": "person1@many.example"}, "asked", "bob")
        return await Local.inbound_messages(here.crm, lead, channel)

    monkeypatch.setattr(here.crm, "inbound_messages", meanwhile)
    result = await enrol(here, leads)

    reason = "do-not-contact: Person 1 must not be reached by email (asked)"
    assert (result["succeeded"], result["failed"]) == (leads[:1], [{"item": leads[1], "reason": reason}])
    await here.close()


# Who may have asked for no more


async def test_who_may_have_asked_for_no_more_is_enrolled_by_a_person_alone(folder: Path, clock: Clock):
    here, ann = App(folder, clock, policy=ALLOWED), Person.agreeing()
    leads = await here.new_leads(2)
    here.receives(leads[1], "Please no more, I want to unsubscribe", "email")

    unattended = await here.call("enroll_in_sequence", Person(), sequence=SEQUENCE, leads=leads)
    asked = await here.call("enroll_in_sequence", ann, sequence=SEQUENCE, leads=leads)

    assert (unattended["status"], asked["status"]) == ("pending_approval", "done")
    assert '"Person 1"' in ann.asked[0].text
    assert '"Please no more, I want to unsubscribe"' in ann.asked[0].text
    await here.close()


async def test_who_asks_for_no_more_before_its_turn_is_left_out_of_a_job(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    here = App(folder, clock)
    leads = await here.new_leads(2)
    monkeypatch.setattr(run, "MOST_INLINE", 1)

    async def writes() -> None:
        here.receives(leads[1], "Please no more, I want to unsubscribe", "email")

    here.crm.first = writes
    result = await enrol(here, leads)

    (left_out,) = result["failed"]
    assert (result["succeeded"], left_out["item"]) == (leads[:1], leads[1])
    assert left_out["reason"].startswith("only a person may decide this: ")
    await here.close()
