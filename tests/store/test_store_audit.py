"""The audit log: what is in it, and that nobody changes it unseen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_mcp.store import ClaimConditions, Ended, Entry, Store
from crm_mcp.store.database import Database
from crm_mcp.store.tables import audit

from .conftest import PLAIN, Clock, State, asked, begun, sending, sms

DAY = timedelta(days=1)


async def logged(store: Store) -> list[Mapping[str, Any]]:
    return [entry.body for entry in await store.audit.entries(None, 0, 1000)]


async def filled(store: Store, count: int = 8) -> list[Entry]:
    for number in range(count):
        await store.audit.record({"event": "denied", "number": number})
    return list(await store.audit.entries(None, 0, count))


# What is in it


async def test_each_step_of_an_action_is_an_entry(state: State, clock: Clock) -> None:
    def redact(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict.fromkeys(arguments, "hidden")

    store = state.store(clock=clock, redact=redact)
    new = asked(
        effect="outward", arguments={"message": "secret"}, verdict="confirm", rule="policy.outward", request="r1"
    )
    proposed = await store.actions.propose(new, DAY)
    await store.actions.propose(new, DAY)
    await store.actions.claim(proposed.id, "token", sending(sms(), due=clock.moment + DAY))
    clock.advance(days=1)
    taken = await store.actions.take(["work"])
    assert taken
    assert await store.actions.put_off(
        proposed.id, clock.moment + timedelta(hours=1), "quiet hours", fencing_token=taken.fencing_token
    )
    await store.actions.claim(proposed.id, None, sending(sms()))
    clock.advance(seconds=2)
    await store.actions.complete(proposed.id, Ended("done", summary="secret", result={"text": "secret"}))
    await store.actions.mark_undone(proposed.id, "ops")
    await store.actions.unmark_undone(proposed.id)

    who = {"action": proposed.id, "caller": "ops", "connection": "work", "tool": "create_lead"}
    call = {
        "effect": "outward",
        "arguments": {"message": "hidden"},
        "verdict": "confirm",
        "rule": "policy.outward",
        "request": "r1",
    }
    assert await logged(store) == [
        {"event": "proposed", **who, **call},
        {"event": "scheduled", **who, **call, "approved_by": "token", "due_at": "2026-03-21T10:00:00.123000Z"},
        {"event": "put_off", **who, "reason": "quiet hours", "due_at": "2026-03-21T11:00:00.123000Z"},
        {"event": "started", **who, **call, "approved_by": "token"},
        {"event": "ended", **who, "status": "done", "reason": "quiet hours", "duration_ms": 2000},
        {"event": "undone", **who},
        {"event": "undo_failed", **who},
    ]
    await store.aclose()


async def test_what_was_refused_or_called_off_is_an_entry_too(store: Store, clock: Clock) -> None:
    await store.actions.note(asked(verdict="deny", rule="policy.tools"), "blocked", "the policy denies it")
    queued = await store.actions.propose(asked(), DAY, "pending_approval")
    await store.actions.call_off(queued.id, "ops", "declined", "no", by="jo")
    stopped = await store.actions.propose(asked(), DAY)
    await store.actions.call_off(stopped.id, "ops", "expired", "void")
    failed = await begun(store, caller="x")
    await store.actions.complete(failed.id, Ended("failed", reason="no credit", error="payment_required"))
    await store.audit.record({"event": "denied", "tool": "delete_record", "rule": None})

    said = [{name: body.get(name) for name in ("event", "status", "reason", "by")} for body in await logged(store)]

    assert said == [
        {"event": "ended", "status": "blocked", "reason": "the policy denies it", "by": None},
        {"event": "pending_approval", "status": None, "reason": None, "by": None},
        {"event": "ended", "status": "declined", "reason": "no", "by": "jo"},
        {"event": "proposed", "status": None, "reason": None, "by": None},
        {"event": "ended", "status": "expired", "reason": "void", "by": None},
        {"event": "started", "status": None, "reason": None, "by": None},
        {"event": "ended", "status": "failed", "reason": "no credit", "by": None},
        {"event": "denied", "status": None, "reason": None, "by": None},
    ]
    bodies = await logged(store)
    assert bodies[0]["rule"] == "policy.tools"
    assert bodies[0]["arguments"] == asked().arguments
    assert bodies[6]["error"] == "payment_required"
    assert "rule" not in bodies[7]


async def test_every_reason_is_reworded_and_that_of_a_block_is_redacted(state: State, clock: Clock) -> None:
    def redact(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict.fromkeys(arguments, "hidden")

    store = state.store(clock=clock, redact=redact, reword=str.upper)
    noted = await store.actions.note(asked(), "blocked", "a rule")
    await store.contacts.block({"sms": "+1"}, "she is ill", "ops")
    await store.audit.record({"event": "denied", "reason": "no"})

    assert noted.reason == "a rule"
    assert await store.contacts.blocked({"sms": "+1"}) == {"sms": "she is ill"}
    assert [body["reason"] for body in await logged(store)] == ["A RULE", "HIDDEN", "NO"]
    await store.aclose()


async def test_blocks_and_the_kill_switch_are_entries(store: Store) -> None:
    await store.contacts.block({"sms": "+1"}, "STOP", "ops")
    await store.contacts.unblock({"sms": "+1"}, "jo")
    await store.contacts.block({}, None, "ops")
    await store.limits.set_outbound(False, "jo")

    assert await logged(store) == [
        {"event": "do_not_contact", "addresses": {"sms": "+1"}, "reason": "STOP", "by": "ops"},
        {"event": "do_not_contact_lifted", "addresses": {"sms": "+1"}, "by": "jo"},
        {"event": "outbound", "value": "off", "by": "jo"},
    ]


async def test_a_claim_that_is_refused_leaves_no_entry(store: Store) -> None:
    await begun(store, sending(sms()))
    before = await logged(store)

    await store.actions.begin(asked(), "policy", sending(sms()))

    assert await logged(store) == before


async def test_entries_are_numbered_and_read_from_a_number_or_a_moment_on(store: Store, clock: Clock) -> None:
    first = await filled(store, 3)
    clock.advance(hours=1)
    await store.audit.record({"event": "denied"})

    assert [entry.no for entry in first] == [1, 2, 3]
    assert [entry.no for entry in await store.audit.entries(None, 1, 2)] == [2, 3]
    (last,) = await store.audit.entries(clock.moment, 0, 9)
    assert (last.no, last.at, last.body) == (4, clock.moment, {"event": "denied"})


async def test_any_text_can_be_written_down(store: Store) -> None:
    await store.audit.record({"text": "\0\ud800\u2028é|\U0001f600"})

    assert await logged(store) == [{"text": "\0?\u2028é|\U0001f600"}]
    assert (await store.audit.verify()).faults == ()


# Whether it was changed


async def test_an_untouched_log_has_no_faults_and_says_what_it_can_not_prove(store: Store) -> None:
    empty = await store.audit.verify()
    entries = await filled(store)
    found = await store.audit.verify()

    assert (empty.entries, empty.head, empty.faults) == (0, None, ())
    assert (found.entries, found.head, found.faults) == (8, entries[-1].mac, ())
    assert "newest entries were not cut off" in found.unproven[0]
    assert await store.audit.verify(entries[5].mac.upper() + "\n") == found._replace(unproven=())


SWAP = "UPDATE audit SET {0} = (SELECT {0} FROM audit AS o WHERE o.no = 9 - audit.no) WHERE no IN (4, 5)"
COPY = (
    "INSERT INTO audit (no, at, key_id, body, mac) SELECT 9, at, key_id, body, mac FROM audit WHERE no = 5",
    "9 was altered",
)
TAMPERING = {
    "a body": ('UPDATE audit SET body = \'{"event":"allowed"}\' WHERE no = 5', "entry 5 was altered"),
    "a body that is none": ("UPDATE audit SET body = 'x' WHERE no = 5", "entry 5 was altered"),
    "a moment": ("UPDATE audit SET at = at + 1 WHERE no = 5", "entry 5 was altered"),
    "a seal": ("UPDATE audit SET mac = 'x' WHERE no = 5", "entry 5 was altered"),
    "the first": ("UPDATE audit SET body = '{}' WHERE no = 1", "entry 1 was altered"),
    "the last": ("UPDATE audit SET body = '{}' WHERE no = 8", "entry 8 was altered"),
    "one removed": ("DELETE FROM audit WHERE no = 5", "entry 5 is missing"),
    "some removed": ("DELETE FROM audit WHERE no IN (4, 5)", "entries 4 to 5 are missing"),
    "the first removed": ("DELETE FROM audit WHERE no < 3", "entries 1 to 2 are missing"),
    "one put in the end": COPY,
    "one put in front": (COPY[0].replace("9,", "0,"), "entry numbered 0 was put in"),
    "a number": ("UPDATE audit SET no = 20 WHERE no = 8", "entries 8 to 19 are missing"),
    "bodies exchanged": (SWAP.format("body"), "entry 4 was altered"),
}


@pytest.mark.parametrize("name", TAMPERING)
async def test_what_was_changed_is_found(store: Store, state: State, name: str) -> None:
    await filled(store)
    statement, fault = TAMPERING[name]

    state.sql(statement)

    assert any(fault in each for each in (await store.audit.verify()).faults)
    assert len(await store.audit.entries(None, -1, 100)) >= 6  # it can still be read


async def test_entries_that_were_moved_up_over_a_gap_are_found(store: Store, state: State) -> None:
    await filled(store)

    state.sql("DELETE FROM audit WHERE no = 5")
    state.sql("UPDATE audit SET no = 100 + no WHERE no > 5")
    state.sql("UPDATE audit SET no = no - 101 WHERE no > 100")

    found = await store.audit.verify()
    assert found.entries == 7
    assert "entry 5 was altered, moved or put in" in found.faults[0]


async def test_a_cut_tail_is_found_with_a_head_alone(store: Store, state: State) -> None:
    entries = await filled(store)
    state.sql("DELETE FROM audit WHERE no > 5")

    assert (await store.audit.verify()).faults == ()
    assert (await store.audit.verify(entries[4].mac)).faults == ()
    (fault,) = (await store.audit.verify(entries[7].mac)).faults
    assert "the tail was cut off, or the log replaced" in fault
    await filled(store)  # the log has gone on since
    assert (await store.audit.verify(entries[7].mac)).faults == (fault,)


async def test_without_the_key_nobody_writes_an_entry_that_passes(store: Store, state: State, clock: Clock) -> None:
    await filled(store, 2)
    forger = state.store(clock=clock, key=lambda: b"guessed")
    await filled(forger, 1)
    await filled(store, 1)

    found = await store.audit.verify()

    assert "1 entry, the first is 3, sealed with another key" in found.faults[0]
    assert (await forger.audit.verify()).faults[0].startswith("3 entries, the first is 1, sealed with another key")
    state.sql("UPDATE audit SET key_id = (SELECT key_id FROM audit AS o WHERE o.no = 1) WHERE no = 3")
    assert "entry 3 was altered" in (await store.audit.verify()).faults[0]
    await forger.aclose()


async def test_a_log_without_a_key_proves_nothing_and_says_so(state: State, clock: Clock) -> None:
    store = state.store(clock=clock, key=lambda: b"")
    await filled(store)

    found = await store.audit.verify((await store.audit.entries(None, 7, 1))[0].mac)

    assert found.faults == ()
    assert found.unproven == ("anything: the log is sealed without a key",)
    await store.aclose()


async def test_many_faults_are_counted_not_listed(store: Store, state: State) -> None:
    await filled(store, 30)
    state.sql("UPDATE audit SET body = '{}'")

    faults = (await store.audit.verify()).faults

    assert (len(faults), faults[-1]) == (21, "and 10 more")


Change = Callable[[list[dict[str, Any]], int, int], None]


def alter(rows: list[dict[str, Any]], one: int, _: int) -> None:
    rows[one]["body"] += " "


def remove(rows: list[dict[str, Any]], one: int, _: int) -> None:
    del rows[one]
    for number, row in enumerate(rows[one:], one):
        row["no"] = number + 1


def swap(rows: list[dict[str, Any]], one: int, two: int) -> None:
    rows[one], rows[two] = rows[two] | {"no": one + 1}, rows[one] | {"no": two + 1}


def double(rows: list[dict[str, Any]], one: int, two: int) -> None:
    rows.insert(two, dict(rows[one]))
    for number, row in enumerate(rows):
        row["no"] = number + 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.sampled_from((alter, remove, swap, double)), one=st.integers(0, 7), two=st.integers(0, 7))
async def test_whatever_is_changed_before_the_head_is_found(folder: Any, change: Change, one: int, two: int) -> None:
    state = State(folder)
    state.empty()
    store = state.store(clock=Clock())
    head = (await filled(store))[-1].mac
    database = Database(state.place, 1)
    with database.writing() as connection:
        rows = [dict(row) for row in connection.execute(audit.select().order_by(audit.c.no)).mappings()]
        before = [dict(row) for row in rows]
        change(rows, one, two)
        connection.execute(audit.delete())
        connection.execute(audit.insert(), rows)
    database.close()

    assert bool((await store.audit.verify(head)).faults) == (rows != before)
    await store.aclose()


async def test_processes_that_write_at_once_make_one_chain(store: Store, other: Store) -> None:
    async def write(of: Store, number: int) -> None:
        action = await begun(of, PLAIN, digest=str(number))
        await of.actions.complete(action.id, Ended("done"))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(write, (store, other)[number % 2], number)

    found = await store.audit.verify()
    assert (found.entries, found.faults) == (40, ())


async def test_an_entry_is_written_with_its_action_or_not_at_all(
    state: State, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise RuntimeError("here")

    store = state.store(clock=clock, redact=refuse)

    with pytest.raises(RuntimeError, match="here"):
        await store.actions.begin(asked(), "policy", ClaimConditions(dedup_keys=(sms(),)))

    assert await store.actions.page(caller=None, status=None, lead=None, after=None, limit=1) == ((), None)
    assert await store.actions.held_by([sms().key]) == {}
    await store.aclose()
