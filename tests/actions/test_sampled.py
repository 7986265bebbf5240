"""Many leads in a CRM that limits the calls it takes: a few are shown, and each of the others is looked at in turn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.actions.enrolment.run import enrolment_key
from crm_mcp.backends.local import Local
from crm_mcp.channels import Channel
from crm_mcp.config import PolicySettings
from crm_mcp.errors import Unreachable
from crm_mcp.model import Budget, Lead, LeadUpdate, Message
from tests.harness.app import SEQUENCE, App, killed
from tests.harness.clock import Clock
from tests.harness.crms import WatchedCrm
from tests.harness.person import Person

ALLOWED = PolicySettings(outward="allow")
MOST = {"enrolments": 12}


class Limited(WatchedCrm):
    """A CRM behind a limit of calls, which remembers whom it was asked about."""

    def __init__(self, folder: Path, *, sample: bool = False) -> None:
        super().__init__(folder, sample=sample)
        self.read: list[str] = []

    async def budget(self) -> tuple[Budget, ...]:
        return (Budget(name="minute", limit=60, remaining=60, resets_in=60),)

    async def get_lead(self, lead: str) -> Lead:
        self.read.append(lead)
        return await super().get_lead(lead)

    async def inbound_messages(self, lead: str, channel: Channel) -> tuple[Message, ...]:
        self.read.append(lead)
        return await super().inbound_messages(lead, channel)


class Unsure(Limited):
    """One that does not tell who is enrolled."""

    enrols_once = False

    async def enrolled(self, sequence: str, lead: str) -> bool | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        del sequence, lead
        return None


def limited(folder: Path, clock: Clock, policy: PolicySettings | None = None, crm: type[WatchedCrm] = Limited) -> App:
    return App(folder, clock, policy, crm)


async def enrol(here: App, leads: list[str], client: Person | None = None, **more: Any) -> dict[str, Any]:
    return await here.call("enroll_in_sequence", client, sequence=SEQUENCE, leads=leads, **more)


def email(n: int) -> str:
    return f"person{n}@many.example"


async def reasons(here: App, result: dict[str, Any]) -> dict[str, str]:
    """Return why leads were not enrolled; every item of the job has ended."""
    await here.ended(result["action_id"])
    return {each["item"]: each["reason"] for each in result["failed"]}


# What is shown


async def test_of_many_leads_a_few_are_read_and_all_are_enrolled_in_their_turn(folder: Path, clock: Clock):
    here, ann = limited(folder, clock), Person.agreeing()
    assert isinstance(here.crm, Limited)
    leads = await here.new_leads(30)

    trial = await enrol(here, leads, dry_run=True)
    read = set(here.crm.read)
    done = await enrol(here, leads, ann)

    assert read == set(leads[:5])
    assert trial["summary"].startswith(f'Enrol 30 in the sequence "{SEQUENCE}": "Person 0" ({leads[0]}), ')
    assert trial["summary"].endswith("and 25 more, each looked at when it is its turn")
    assert f'"{leads[29]}"' in ann.asked[0].text
    assert (done["status"], done["succeeded"], done["failed"]) == ("done", leads, [])
    assert Counter(each.status for each in await here.ended(done["action_id"])) == {"done": 30}
    assert here.crm.enrolling == leads
    await here.close()


async def test_ten_leads_are_all_read_before_anybody_is_asked(folder: Path, clock: Clock):
    here, ann = limited(folder, clock), Person.agreeing()
    leads = await here.new_leads(10)

    done = await enrol(here, leads, ann)

    assert f'"Person 9" ({leads[9]})' in ann.asked[0].text
    assert await here.store.items.all(done["action_id"]) == ()
    await here.close()


async def test_what_needs_no_request_is_tested_for_all_before_anybody_is_asked(folder: Path, clock: Clock):
    here, ann = limited(folder, clock), Person.agreeing()
    assert isinstance(here.crm, Limited)
    leads = await here.new_leads(16)
    first = await enrol(here, [leads[12]])
    await here.store.contacts.block({"email": f"lead:local:{leads[13]}"}, "asked us to stop", "ann")
    await here.store.contacts.block({"email": email(14)}, None, "ann")
    here.crm.read.clear()

    trial = await enrol(here, [*leads[:14], email(14).upper(), email(15), "no@address@at.all"], ann, dry_run=True)

    assert set(here.crm.read) == set(leads[:5])
    assert "Enrol 13 in" in trial["summary"]
    assert f"not {leads[12]}: enrolled already, by action {first['action_id']}" in trial["preview"]
    assert f"not {leads[13]}: do-not-contact: {leads[13]} must not be reached by email (asked us" in trial["preview"]
    assert f"not {email(14).upper()}: do-not-contact" in trial["preview"]
    assert "not no@address@at.all: " in trial["preview"]
    await here.close()


# At its turn


async def test_each_lead_meets_every_rule_at_its_turn(folder: Path, clock: Clock):
    here, ann = limited(folder, clock), Person.agreeing()
    leads = await here.new_leads(20)
    here.receives(leads[8], "STOP", "email")
    here.receives(leads[9], "Tell me more", "email")
    await here.store.contacts.block({"email": email(10)}, None, "ann")
    await Local.update_lead(here.crm, leads[11], LeadUpdate(clear=("email",)))
    clock.advance(days=2)
    new = (await here.call("create_lead", name="New", email="new@fresh.example"))["lead"]["id"]

    done = await enrol(here, [*leads, new, "L999999"], ann)

    told = await reasons(here, done)
    assert set(told) == {*leads[8:12], new, "L999999"}
    assert "STOP word" in told[leads[8]]
    assert told[leads[9]].startswith("it has answered since the last enrolment: enrol it on its own")
    assert told[leads[10]].startswith("do-not-contact")
    assert told[leads[11]].startswith("no address on file")
    assert "e-mail address new@fresh.example was set by ann via tests with create_lead" in told[new]
    assert told[new].endswith("enrol it on its own")
    assert done["succeeded"] == here.crm.enrolling == [*leads[:8], *leads[12:]]
    held = await here.store.actions.held_by([enrolment_key("local", "S1", each) for each in [*leads, new]])
    assert len(held) == 16
    await here.close()


async def test_a_lead_that_is_named_by_its_address_is_found_at_its_turn_and_enrolled_once(folder: Path, clock: Clock):
    here = limited(folder, clock)
    leads = await here.new_leads(12)
    named = [*map(email, range(12)), email(11).title(), leads[3], leads[7], "nobody@many.example"]

    done = await enrol(here, named)
    again = await enrol(here, named)
    other = await enrol(here, leads[6:8])

    told = await reasons(here, done)
    assert sorted(done["succeeded"]) == sorted(here.crm.enrolling) == leads
    assert told[leads[7]] == "the call names the same lead twice"
    assert told["nobody@many.example"].startswith("no lead has")
    assert set(told) == {leads[7], "nobody@many.example"}
    assert (again["status"], other["status"], other["action_id"]) == ("done", "duplicate", done["action_id"])
    assert again["succeeded"] == []
    await here.close()


async def test_the_same_call_again_gets_the_answer_of_the_first(folder: Path, clock: Clock):
    here = limited(folder, clock)
    leads = await here.new_leads(24)
    named = [*leads[:12], *map(email, range(12, 24))]

    first = await enrol(here, named)
    clock.advance(hours=1)
    again = await enrol(here, named)

    assert (again["status"], again["action_id"], again["succeeded"]) == ("duplicate", first["action_id"], leads)
    assert here.crm.enrolling == leads
    await here.close()


async def test_who_could_not_be_enrolled_can_be_later_by_whatever_name(folder: Path, clock: Clock):
    here, errors = limited(folder, clock), [Unreachable("it can't be reached", wrote=False)]
    leads = await here.new_leads(12)

    async def fail() -> None:
        if here.crm.enrolling[-1] == leads[8] and errors:
            raise errors.pop()

    here.crm.first = fail
    first = await enrol(here, [*map(email, range(12))])
    second = await enrol(here, [leads[8]])

    assert await reasons(here, first) == {email(8): "not done: it can't be reached"}
    assert (second["status"], second["succeeded"]) == ("done", [leads[8]])
    await here.close()


async def test_jobs_that_name_the_same_leads_each_in_its_way_enrol_each_once(folder: Path, clock: Clock):
    here, there = limited(folder, clock, ALLOWED, Unsure), limited(folder, clock, ALLOWED, Unsure)
    leads = await here.new_leads(14)
    results: list[dict[str, Any]] = []

    async def call(process: App, named: list[str]) -> None:
        results.append(await enrol(process, named))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(call, here, leads)
            group.start_soon(call, there, [*map(email, reversed(range(14)))])

    assert Counter([*here.crm.enrolling, *there.crm.enrolling]) == Counter(leads)
    assert sorted(each for result in results for each in result.get("succeeded", [])) == leads
    await here.close()
    await there.close()


@pytest.mark.parametrize("step", ["items taken", "items done", "items settled"])
@pytest.mark.parametrize("kind", [Limited, Unsure])
async def test_a_job_of_addresses_that_was_killed_enrols_nobody_twice(
    folder: Path, clock: Clock, step: str, kind: type[WatchedCrm]
):
    here = limited(folder, clock, crm=kind)
    leads = await here.new_leads(12)
    here.dies_at(step, 9)
    with killed():
        await enrol(here, [*map(email, range(12))])
    clock.advance(seconds=16)
    there = limited(folder, clock, crm=kind)

    assert await there.worker.work_once(("local",))

    row = await there.newest()
    assert row.result is not None
    lost = 1 if kind is Unsure and step != "items settled" else 0
    assert (row.status, len(row.result["succeeded"]), len(row.result["failed"])) == ("done", 12 - lost, lost)
    assert max(Counter([*here.crm.enrolling, *there.crm.enrolling]).values()) == 1
    assert lost or sorted([*here.crm.enrolling, *there.crm.enrolling]) == leads
    await here.close()
    await there.close()


# Limits


@pytest.mark.parametrize(("count", "status"), [(12, "done"), (13, "blocked")])
async def test_the_daily_limit_has_room_for_all_or_nothing_begins(folder: Path, clock: Clock, count: int, status: str):
    policy = PolicySettings.model_validate({"outward": "allow", "daily_limits": MOST})
    here = limited(folder, clock, policy)
    leads = await here.new_leads(count + 1)

    result = await enrol(here, leads[:count])
    more = await enrol(here, leads[count:])

    assert (result["status"], len(here.crm.enrolling)) == (status, count if status == "done" else 1)
    assert more["status"] == ("blocked" if status == "done" else "done")
    await here.close()


async def test_a_job_that_lasts_into_another_day_keeps_to_that_day_s_limit(folder: Path, clock: Clock):
    policy = PolicySettings.model_validate({"outward": "allow", "daily_limits": MOST})
    here, ann, others = limited(folder, clock, policy), Person.agreeing(), App(folder, clock, policy=policy)
    leads = await here.new_leads(22)

    async def tomorrow() -> None:
        clock.advance(days=1)
        assert (await enrol(others, leads[12:]))["status"] == "done"

    ann.once_told = tomorrow
    result = await enrol(here, leads[:12], ann)

    told = await reasons(here, result)
    assert result["succeeded"] == leads[:3]
    assert set(told.values()) == {"limit: no more than 12 enrolments a day"}
    await here.close()
    await others.close()


async def test_the_limit_of_an_address_is_counted_when_the_address_is_known(folder: Path, clock: Clock):
    policy = PolicySettings.model_validate({"contact_limits": {"enrolments": 1}})
    here = limited(folder, clock, policy)
    leads = await here.new_leads(12)
    first = await enrol(here, [leads[8]])
    await here.call("unenroll_from_sequence", sequence=SEQUENCE, leads=[leads[8]])

    done = await enrol(here, leads)
    more = await enrol(here, leads[9:10])

    assert await reasons(here, done) == {leads[8]: "limit: no more than 1 enrolments to one address in seven days"}
    assert (first["status"], more["status"]) == ("done", "blocked")
    await here.close()


# Twice confirmed


async def test_of_two_confirmations_of_the_same_enrolment_the_later_one_gets_the_answer_of_the_first(
    folder: Path, clock: Clock
):
    here, bots = limited(folder, clock), (Person.agreeing(), Person.agreeing(caller="eve via tests"))
    leads = await here.new_leads(11)
    asked: list[dict[str, Any]] = []
    for bot in bots:
        bot.can_be_asked = False
        asked.append(await enrol(here, leads, bot))

    first, second = [
        await here.pipeline.redeem(each["action_id"], each["summary"], bot)
        for each, bot in zip(asked, bots, strict=True)
    ]

    assert (first["status"], second["status"], second["action_id"]) == ("done", "duplicate", first["action_id"])
    ended = await here.row(asked[1]["action_id"])
    assert (ended.status, ended.reason) == ("cancelled", f"the same is done as {first['action_id']}")
    assert here.crm.enrolling == leads
    await here.close()


async def test_of_many_answers_to_one_question_one_runs_the_job_and_none_stops_it(folder: Path, clock: Clock):
    here, bot = limited(folder, clock), Person.agreeing()
    bot.can_be_asked = False
    leads = await here.new_leads(20)
    asked = await enrol(here, leads, bot)
    statuses: list[str] = []

    async def redeem(pause: float) -> None:
        await anyio.sleep(pause)
        statuses.append((await here.pipeline.redeem(asked["action_id"], asked["summary"], bot))["status"])

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for place in range(6):
                group.start_soon(redeem, place * 0.02)

    row = await here.row(asked["action_id"])
    assert sorted(statuses) == ["done", *["duplicate"] * 5]
    assert (row.status, (row.result or {})["succeeded"]) == ("done", leads)
    assert here.crm.enrolling == leads
    await here.close()
