"""Imports and enrolments of many: item by item, resumed after a kill, called off, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.actions.enrolment.run import enrolment_key
from crm_mcp.config import PolicySettings
from crm_mcp.errors import Busy, OutcomeUnknown, Unreachable, VendorError
from crm_mcp.model import LeadUpdate
from crm_mcp.store.items import Items
from tests.harness.app import SEQUENCE, App, killed
from tests.harness.clock import Clock
from tests.harness.crms import UntoldCrm, WatchedCrm
from tests.harness.person import Person

STEPS = ("items added", "items taken", "items done", "items settled")
ENDING = "@jobs.example"
LEASE_OVER = {"seconds": 16}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"name": f"Row {n}", "email": f"row{n}{ENDING}"} for n in range(count)]


def addresses(count: int) -> list[str]:
    return sorted(each["email"] for each in rows(count))


def counts(created: int, failed: int = 0) -> dict[str, int]:
    return {"created": created, "updated": 0, "skipped": 0, "failed": failed}


# Done


async def test_a_hundred_rows_are_imported_at_once_and_one_more_as_a_job(folder: Path, clock: Clock):
    here, ann = App(folder, clock), Person.agreeing()

    few = await here.call("import_leads", ann, leads=rows(100))
    many = await here.call("import_leads", ann, leads=rows(250))

    assert (few["status"], few["counts"], few["failed"]) == ("done", counts(100), [])
    assert await here.store.items.all(few["action_id"]) == ()
    assert (many["status"], many["counts"]) == ("done", counts(150) | {"skipped": 100})
    assert Counter(each.status for each in await here.ended(many["action_id"])) == {"done": 250}
    assert ann.told[-3:] == [(100, 250), (200, 250), (250, 250)]
    assert sorted(await here.with_email(ENDING)) == addresses(250)
    await here.close()


async def test_every_row_has_a_result_and_what_is_wrong_with_it_is_told(folder: Path, clock: Clock):
    here = App(folder, clock)
    given = [*rows(120), {"title": "Nobody"}, {"name": "Bad", "email": "no address"}]

    first = await here.call("import_leads", leads=given)
    again = await here.call("import_leads", leads=given, if_exists="error")

    assert first["counts"] == counts(120, 2)
    assert [each["row"] for each in first["failed"]] == ["item 121", "item 122"]
    assert (again["status"], again["counts"]["skipped"], len(again["failed"])) == ("done", 120, 2)
    await here.close()


async def test_more_than_a_hundred_leads_are_enrolled_one_after_the_other(folder: Path, clock: Clock):
    here, ann = App(folder, clock), Person.agreeing()
    leads = await here.new_leads(120)
    await here.store.contacts.block({"email": "person7@many.example"}, "asked us to stop", "ann")

    done = await here.call("enroll_in_sequence", ann, sequence=SEQUENCE, leads=[*leads, "L999999"])

    assert "Enrol 119 in the sequence" in ann.asked[0].text
    assert f"not {leads[7]}: do-not-contact" in ann.asked[0].text
    assert (done["status"], done["succeeded"]) == ("done", [each for each in leads if each != leads[7]])
    assert [each["item"] for each in done["failed"]] == [leads[7], "L999999"]
    assert here.crm.enrolling == done["succeeded"]
    assert ann.told[-1] == (119, 119)
    await here.close()


async def test_a_call_is_answered_while_its_job_goes_on_and_its_action_shows_how_far_it_is(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("crm_mcp.actions.pipeline.ANSWERS_WITHIN", 2.0)
    here, go = App(folder, clock), anyio.Event()
    here.crm.first = go.wait

    with anyio.fail_after(10):
        async with here.worker.working():
            answer = await here.call("import_leads", leads=rows(150))
            go.set()

    assert (answer["status"], answer["progress"]) == ("running", {"done": 0, "total": 150})
    row = await here.row(answer["action_id"])
    # The program ended: it finished the batch that it was at, and left the rest to whoever finds it.
    assert (row.status, row.progress) == ("running", {"done": 100, "total": 150})
    clock.advance(**LEASE_OVER)
    there = App(folder, clock)
    assert await there.worker.work_once(("local",))
    assert ((await there.row(row.id)).result or {})["counts"] == counts(150)
    assert sorted(await there.with_email(ENDING)) == addresses(150)
    await here.close()
    await there.close()


# Killed


@pytest.mark.parametrize(
    ("step", "after"), [("items added", 1), *((step, after) for step in STEPS[1:] for after in (1, 2))]
)
async def test_an_import_that_was_killed_is_resumed_and_no_row_is_imported_twice(
    folder: Path, clock: Clock, step: str, after: int
):
    here = App(folder, clock)
    here.dies_at(step, after)
    with killed():
        await here.call("import_leads", leads=rows(250))
    there = App(folder, clock)

    assert not await there.worker.work_once(("local",)), "its lease has not run out"
    clock.advance(**LEASE_OVER)
    assert await there.worker.work_once(("local",))

    row = await there.newest()
    assert row.status == "done"
    assert row.result is not None
    assert row.result["counts"]["created"] + row.result["counts"]["skipped"] == 250
    assert sorted(await there.with_email(ENDING)) == addresses(250)
    assert Counter(each.status for each in await there.ended(row.id)) == {"done": 250}
    assert not await there.worker.work_once(("local",))
    await here.close()
    await there.close()


@pytest.mark.parametrize("step", STEPS)
async def test_an_enrolment_that_was_killed_is_resumed_and_nobody_is_enrolled_twice(
    folder: Path, clock: Clock, step: str
):
    here = App(folder, clock)
    leads = await here.new_leads(110)
    here.dies_at(step, 1 if step == "items added" else 40)
    with killed():
        await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)
    clock.advance(**LEASE_OVER)
    there = App(folder, clock)

    assert await there.worker.work_once(("local",))

    row = await there.newest()
    assert (row.status, row.result) == ("done", {"succeeded": leads, "failed": []})
    assert sorted([*here.crm.enrolling, *there.crm.enrolling]) == sorted(leads)
    await here.close()
    await there.close()


@pytest.mark.parametrize(("step", "unknown"), [("items taken", 50), ("items done", 0)])
async def test_rows_that_may_have_been_imported_are_looked_up_and_never_imported_blindly_again(
    folder: Path, clock: Clock, step: str, unknown: int
):
    here = App(folder, clock, crm=UntoldCrm)
    here.dies_at(step, 2)
    with killed():
        await here.call("import_leads", leads=rows(150))
    clock.advance(**LEASE_OVER)
    there = App(folder, clock, crm=UntoldCrm)

    assert await there.worker.work_once(("local",))

    row = await there.newest()
    assert row.result is not None
    assert (row.status, row.result["counts"]["created"], len(row.result["failed"])) == ("done", 150 - unknown, unknown)
    assert all("not known whether" in each["reason"] for each in row.result["failed"])
    asked = Counter([*here.crm.imported, *there.crm.imported])
    assert set(asked.values()) == {1}
    await here.close()
    await there.close()


async def test_an_enrolment_that_may_have_happened_stays_unknown_and_keeps_its_mark(folder: Path, clock: Clock):
    here = App(folder, clock, crm=UntoldCrm)
    leads = await here.new_leads(110)
    here.dies_at("items done", 5)
    with killed():
        await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)
    clock.advance(**LEASE_OVER)
    there = App(folder, clock, crm=UntoldCrm)

    assert await there.worker.work_once(("local",))
    again = await there.call("enroll_in_sequence", sequence=SEQUENCE, leads=[leads[4]])

    row = await there.newest()
    first = await there.row(again["action_id"])
    assert first.result is not None
    assert [each["item"] for each in first.result["failed"]] == [leads[4]]
    assert (again["status"], row.id) == ("duplicate", first.id)
    assert Counter([*here.crm.enrolling, *there.crm.enrolling])[leads[4]] == 1
    await here.close()
    await there.close()


@pytest.mark.parametrize("kind", [WatchedCrm, UntoldCrm])
async def test_a_process_that_was_slow_and_not_dead_settles_nothing_any_more(
    folder: Path, clock: Clock, kind: type[WatchedCrm]
):
    here, there = App(folder, clock, crm=kind), App(folder, clock, crm=kind)
    begun, go = anyio.Event(), anyio.Event()

    async def wait() -> None:
        begun.set()
        await go.wait()

    here.crm.first = wait
    answers: list[dict[str, Any]] = []

    async def slow() -> None:
        answers.append(await here.call("import_leads", leads=rows(150)))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(slow)
            await begun.wait()
            clock.advance(**LEASE_OVER)
            assert await there.worker.work_once(("local",))
            go.set()

    row = await there.newest()
    assert row.status == "done"
    assert answers[0]["action_id"] == row.id
    found = Counter(await there.with_email(ENDING))
    assert set(found.values()) == {1}
    assert max(Counter([*here.crm.imported, *there.crm.imported]).values()) == (2 if kind is WatchedCrm else 1)
    assert Counter(each.status for each in await there.ended(row.id)).total() == 150
    await here.close()
    await there.close()


async def test_a_job_that_is_under_way_goes_on_where_the_clock_jumps(folder: Path, clock: Clock):
    here, ann = App(folder, clock, crm=UntoldCrm), Person.agreeing()

    async def jump() -> None:
        clock.advance(hours=1)
        assert await here.worker.work_once(("local",))

    here.crm.first = jump

    done = await here.call("import_leads", ann, leads=rows(120))

    assert (done["status"], done["counts"]["created"]) == ("done", 120)
    assert set(Counter(here.crm.imported).values()) == {1}
    await here.close()


# Stopped


async def test_a_job_that_is_called_off_stops_after_the_items_it_is_at(folder: Path, clock: Clock):
    here, ann = App(folder, clock), Person.agreeing()

    async def call_off() -> None:
        row = await here.newest()
        assert await here.store.actions.call_off(row.id, ann.caller, "cancelled", "taken back")

    ann.once_told = call_off
    result = await here.call("import_leads", ann, leads=rows(250))

    assert (result["status"], result["reason"], result["counts"]["created"]) == ("cancelled", "taken back", 100)
    assert len(await here.with_email(ENDING)) == 100
    assert Counter(each.status for each in await here.ended(result["action_id"])) == {"done": 100, "cancelled": 150}
    row = await here.row(result["action_id"])
    assert (row.result or {})["counts"]["created"] == 100
    assert [kind for kind, _ in row.touched] == ["lead"]
    clock.advance(minutes=5)
    assert not await here.worker.work_once(("local",))
    await here.close()


@pytest.mark.parametrize(("step", "enrolled"), [("items added", 0), ("items settled", 1)])
async def test_an_enrolment_that_is_called_off_after_its_worker_died_holds_nobody_who_was_not_enrolled(
    folder: Path, clock: Clock, step: str, enrolled: int
):
    here, there = App(folder, clock), App(folder, clock)
    leads = await here.new_leads(105)
    here.dies_at(step)
    with killed():
        await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)
    row = await there.newest()

    assert await there.store.actions.call_off(row.id, row.caller, "cancelled", "taken back")

    keys = {enrolment_key("local", "S1", each): each for each in leads}
    assert {keys[key] for key in await there.store.actions.held_by([*keys])} == set(leads[:enrolled])
    await here.close()
    await there.close()


async def test_a_job_that_is_called_off_before_it_has_items_does_nothing(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    here = App(folder, clock)
    leads = await here.new_leads(105)
    add = Items.add

    async def late(items: Items, action_id: str, payloads: Sequence[Mapping[str, Any]]) -> None:
        row = await here.newest()
        assert await here.store.actions.call_off(row.id, row.caller, "cancelled", "taken back")
        await add(items, action_id, payloads)

    monkeypatch.setattr(Items, "add", late)
    result = await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)

    assert (result["status"], result["reason"], here.crm.enrolling) == ("cancelled", "taken back", [])
    assert (await here.row(result["action_id"])).touched == ()
    assert await here.store.actions.held_by([enrolment_key("local", "S1", each) for each in leads]) == {}
    await here.close()


async def test_the_kill_switch_stops_an_enrolment_and_who_was_not_enrolled_can_be_later(folder: Path, clock: Clock):
    here, ann = App(folder, clock), Person.agreeing()
    leads = await here.new_leads(105)

    async def off() -> None:
        await here.store.limits.set_outbound(False, "bob")

    ann.once_told = off
    stopped = await here.call("enroll_in_sequence", ann, sequence=SEQUENCE, leads=leads)
    while_off = await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)
    await here.store.limits.set_outbound(True, "bob")
    rest = await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)

    assert stopped["succeeded"] == leads[:1]
    assert {each["item"] for each in stopped["failed"]} == set(leads[1:])
    assert stopped["failed"][0]["reason"].startswith("not done: kill switch: outbound was turned off by bob")
    assert (while_off["status"], rest["status"], rest["succeeded"]) == ("blocked", "done", leads[1:])
    await here.close()


async def test_a_limit_of_the_crm_is_waited_for_and_nothing_is_lost(folder: Path, clock: Clock):
    here, refusals = App(folder, clock, crm=UntoldCrm), [0.05, 0.01]

    async def busy() -> None:
        if refusals:
            raise Busy("too many calls", retry_after=refusals.pop())

    here.crm.first = busy
    done = await here.call("import_leads", leads=rows(150))

    assert (done["status"], done["counts"]["created"], refusals) == ("done", 150, [])
    await here.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unreachable("the CRM can't be reached", wrote=False), "not done: the CRM can't be reached"),
        (OutcomeUnknown("no answer"), "not known whether it was done: no answer"),
        (VendorError("it broke"), "not known whether it was done: it broke"),
    ],
)
async def test_a_crm_that_fails_three_times_in_a_row_is_not_asked_any_more(
    folder: Path, clock: Clock, error: VendorError | Unreachable, said: str
):
    here = App(folder, clock, crm=UntoldCrm)

    async def broken() -> None:
        raise error

    here.crm.first = broken
    result = await here.call("import_leads", leads=rows(200))

    assert (result["status"], len(here.crm.imported)) == ("done", 150)
    assert Counter(each["reason"] for each in result["failed"]) == {said: 150, "not tried": 50}
    await here.close()


async def test_one_answer_that_is_lost_stops_nobody_else(folder: Path, clock: Clock):
    here = App(folder, clock, crm=UntoldCrm)
    leads = await here.new_leads(105)

    async def once() -> None:
        if here.crm.enrolling == [leads[0]]:
            raise OutcomeUnknown("no answer")

    here.crm.first = once
    result = await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)

    assert (result["status"], result["succeeded"]) == ("done", leads[1:])
    assert result["failed"] == [{"item": leads[0], "reason": "not known whether it was done: no answer"}]
    await here.close()


async def test_each_lead_of_a_job_meets_every_rule_when_its_turn_comes(folder: Path, clock: Clock):
    here, ann = App(folder, clock), Person.agreeing()
    leads = await here.new_leads(105)

    async def meanwhile() -> None:
        await here.store.contacts.block({"email": "person50@many.example"}, None, "ann")
        await here.crm.update_lead(leads[60], LeadUpdate(email="other@many.example"))

    ann.once_told = meanwhile
    result = await here.call("enroll_in_sequence", ann, sequence=SEQUENCE, leads=leads)

    told = {each["item"]: each["reason"] for each in result["failed"]}
    assert set(told) == {leads[50], leads[60]}
    assert "do-not-contact" in told[leads[50]]
    assert told[leads[60]] == "its name or an address has changed since it was shown"
    keys = [enrolment_key("local", "S1", each) for each in (leads[50], leads[60])]
    assert await here.store.actions.held_by(keys) == {}
    await here.close()


# Limits


@pytest.mark.parametrize(("count", "status"), [(110, "done"), (111, "blocked")])
async def test_the_daily_limit_holds_for_all_of_a_job_together(folder: Path, clock: Clock, count: int, status: str):
    policy = PolicySettings.model_validate({"outward": "allow", "daily_limits": {"enrolments": 110}})
    here = App(folder, clock, policy=policy)
    leads = await here.new_leads(count)

    result = await here.call("enroll_in_sequence", sequence=SEQUENCE, leads=leads)

    assert (result["status"], len(here.crm.enrolling)) == (status, count if status == "done" else 0)
    await here.close()


async def test_imports_that_begin_at_the_same_moment_do_not_pass_the_limit_together(folder: Path, clock: Clock):
    here, there = App(folder, clock), App(folder, clock)
    new = {"first": rows(60), "second": [{"name": f"Other {n}"} for n in range(60)]}
    results: list[dict[str, Any]] = []

    async def call(app: App, which: str) -> None:
        silent = Person.agreeing()
        silent.can_be_asked = False
        results.append(await app.call("import_leads", silent, leads=new[which]))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(call, here, "first")
            group.start_soon(call, there, "second")

    first, second = sorted(results, key=lambda each: each["status"] == "done")
    assert (second["status"], second["counts"]["created"]) == ("done", 60)
    assert first["status"] in ("blocked", "confirmation_required")
    await here.close()
    await there.close()


async def test_small_imports_again_and_again_are_confirmed_from_the_hundredth_of_an_hour(folder: Path, clock: Clock):
    here, bot = App(folder, clock), Person.agreeing()
    bot.can_be_asked = False

    first = await here.call("import_leads", bot, leads=rows(99))
    second = await here.call("import_leads", bot, leads=[{"name": "One more"}])
    clock.advance(minutes=61)
    third = await here.call("import_leads", bot, leads=[{"name": "One more"}])

    assert (first["status"], second["status"], third["status"]) == ("done", "confirmation_required", "done")
    await here.close()


async def test_a_running_import_counts_with_all_its_rows(folder: Path, clock: Clock):
    here, bot = App(folder, clock), Person.agreeing()
    here.dies_at("items added")
    with killed():
        await here.call("import_leads", leads=rows(101))
    bot.can_be_asked = False
    here.outbox.at = lambda _: None

    result = await here.call("import_leads", bot, leads=[{"name": "One more"}])

    assert result["status"] == "confirmation_required"
    await here.close()


async def test_a_fault_of_the_program_ends_a_job_as_unknown_and_nobody_does_it_again(folder: Path, clock: Clock):
    here, failures = App(folder, clock), [ZeroDivisionError()]

    async def fail() -> None:
        if failures:
            raise failures.pop()

    here.crm.first = fail
    result = await here.call("import_leads", leads=rows(150))
    clock.advance(minutes=5)

    assert (result["status"], result["error"]) == ("unknown", "internal")
    assert not await here.worker.work_once(("local",))
    assert len(here.crm.imported) == 100
    items = Counter((each.status, (each.result or {})["reason"]) for each in await here.ended(result["action_id"]))
    lost = "not known whether it was done: the program failed"
    assert items == {("unknown", lost): 100, ("failed", "not tried"): 50}
    await here.close()
