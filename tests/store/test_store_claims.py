"""What must hold at the moment of a claim: the kill switch, no repeat, the limits; and whom a claim reaches."""

from __future__ import annotations

import contextlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_mcp.errors import Conflict
from crm_mcp.server.tools import TOOLS
from crm_mcp.store import Action, Address, ClaimConditions, DedupKey, Ended, Quota, Repeated, Status, Stopped, Store

from .conftest import Clock, Start, State, asked, at_once, begun, sending, sms

DONE = Ended("done")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


async def refused(store: Store, conditions: ClaimConditions) -> Stopped | Repeated | None:
    got = await store.actions.begin(asked(), "policy", conditions)
    return None if isinstance(got, Action) else got


async def repeats(store: Store, *dedup_keys: DedupKey, **more: Any) -> str | None:
    """The id of the earlier action that a claim repeats."""
    got = await refused(store, sending(*dedup_keys, **more))
    assert not isinstance(got, Stopped)
    return got.earlier.id if got else None


def at_most(most: int, **more: Any) -> Quota:
    return Quota.model_validate(
        {"message": f"the limit of {most}", "channels": ("sms",), "most": most, "since": EPOCH} | more
    )


async def test_what_is_another_call_by_now_is_not_claimed(store: Store) -> None:
    proposed = await store.actions.propose(asked(), DAY)

    assert await store.actions.claim(proposed.id, "token", sending(sms(), digest="of another call")) is None
    assert await store.actions.get(proposed.id) == proposed
    assert isinstance(await store.actions.claim(proposed.id, "token", sending(sms(), digest=proposed.digest)), Action)


# The kill switch


async def test_the_kill_switch_stops_what_goes_out_and_nothing_else(store: Store, clock: Clock) -> None:
    proposed = await store.actions.propose(asked(), DAY)
    await store.limits.set_outbound(False, "jo")

    words = "kill switch: outbound was turned off by jo at 2026-03-20T10:00:00.123Z"
    assert await refused(store, sending(sms())) == Stopped(words)
    assert await store.actions.claim(proposed.id, "token", sending(sms())) == Stopped(words)
    assert await store.actions.get(proposed.id) == proposed
    assert await store.actions.keys_of(proposed.id) == ()
    assert await refused(store, ClaimConditions(dedup_keys=(sms(),))) is None


async def test_what_is_deferred_stops_at_the_kill_switch_when_it_is_due(store: Store, clock: Clock) -> None:
    waiting = await begun(store, sending(sms(), due=clock.moment + DAY))
    await store.limits.set_outbound(False, "jo")
    clock.advance(days=1)

    stopped = await store.actions.claim(waiting.id, None, sending(sms()))
    await store.limits.set_outbound(True, "jo")
    sent = await store.actions.claim(waiting.id, None, sending(sms()))

    assert isinstance(stopped, Stopped)
    assert isinstance(sent, Action)
    assert (sent.status, sent.approved_by) == ("sending", "policy")


# No repeat


async def test_a_message_is_a_repeat_until_its_time_has_passed_since_it_was_done(store: Store, clock: Clock) -> None:
    first = await begun(store, sending(sms()))
    assert await repeats(store, sms()) == first.id
    clock.advance(seconds=20)
    await store.actions.complete(first.id, DONE)

    clock.advance(days=1, milliseconds=-1)
    assert await repeats(store, sms()) == first.id
    assert await repeats(store, sms("another text")) is None
    clock.advance(milliseconds=1)

    assert await repeats(store, sms()) is None


async def test_a_repeat_of_what_waits_to_be_claimed_is_refused_and_leaves_it_open(store: Store) -> None:
    proposed = await store.actions.propose(asked(), DAY)
    first = await begun(store, sending(sms()))

    got = await store.actions.claim(proposed.id, "token", sending(sms()))

    assert got == Repeated(first)
    assert await store.actions.get(proposed.id) == proposed


@pytest.mark.parametrize("status", ["failed", "cancelled", "declined", "expired", "blocked"])
async def test_what_did_not_happen_stops_no_repeat(store: Store, status: Status) -> None:
    first = await begun(store, sending(sms()))

    await store.actions.complete(first.id, Ended(status))

    assert await store.actions.held_by([sms().key]) == {}
    assert await repeats(store, sms()) is None


async def test_what_may_have_happened_stops_a_repeat(store: Store, clock: Clock) -> None:
    first = await begun(store, sending(sms()))

    await store.actions.complete(first.id, Ended("unknown"))

    clock.advance(hours=23)
    assert await repeats(store, sms()) == first.id


async def test_what_is_being_done_stops_a_repeat_however_short_its_time(store: Store, clock: Clock) -> None:
    call = sms(seconds=2)
    first = await begun(store, sending(call, job=True))

    for _ in range(5):
        clock.advance(seconds=10)
        assert await store.actions.renew_lease(first.id, fencing_token=1)
        assert await repeats(store, call) == first.id
    clock.advance(days=3)  # its process has died, and nobody has found out what became of it
    assert await repeats(store, call) == first.id
    await store.actions.complete(first.id, Ended("unknown"))
    clock.advance(seconds=2)

    assert await repeats(store, call) is None


async def test_what_waits_for_its_time_stops_a_repeat_until_it_expires(store: Store, clock: Clock) -> None:
    waiting = await begun(store, sending(sms(), due=clock.moment + 3 * DAY))
    assert waiting.expires_at == clock.moment + 4 * DAY

    clock.advance(days=3, hours=23)
    assert await repeats(store, sms()) == waiting.id
    clock.advance(hours=1)

    assert await repeats(store, sms()) is None


async def test_effects_that_did_not_happen_are_given_back_one_by_one(store: Store) -> None:
    dedup_keys = (sms("one"), sms("two"), sms("three"))
    first = await begun(store, sending(*dedup_keys))

    await store.actions.complete(first.id, Ended("done", released=(sms("two").key,)))

    assert set(await store.actions.held_by([dedup_key.key for dedup_key in dedup_keys])) == {
        sms("one").key,
        sms("three").key,
    }
    assert await store.actions.keys_of(first.id) == tuple(dedup_key.key for dedup_key in dedup_keys)
    assert await repeats(store, sms("two")) is None
    assert await repeats(store, sms("four"), sms("three")) == first.id


async def test_a_clock_that_is_set_back_makes_no_repeat_a_new_message(store: Store, clock: Clock) -> None:
    first = await begun(store, sending(sms()))
    clock.advance(hours=-1)
    await store.actions.complete(first.id, DONE)

    clock.advance(hours=-5)

    assert await repeats(store, sms()) == first.id


async def test_a_resend_names_the_one_it_repeats_and_takes_its_place(store: Store) -> None:
    first = await begun(store, sending(sms()))
    await store.actions.complete(first.id, DONE)

    second = await begun(store, sending(sms(), resend_of=first.id))

    assert await repeats(store, sms()) == second.id
    assert await repeats(store, sms(), resend_of=first.id) == second.id
    assert await repeats(store, sms(), resend_of=second.id) is None


async def test_what_was_put_off_longer_than_its_resend_counts_stops_a_repeat_again(store: Store, clock: Clock) -> None:
    first = await begun(store, sending(sms(), due=clock.moment + DAY))
    second = await begun(store, sending(sms(), resend_of=first.id))
    await store.actions.complete(second.id, DONE)
    assert await repeats(store, sms()) == second.id
    clock.advance(hours=25)

    assert await store.actions.claim(first.id, None, sending(sms()))
    await store.actions.complete(first.id, DONE)

    assert await repeats(store, sms()) == first.id


async def test_a_resend_that_fails_gives_the_place_back(store: Store) -> None:
    first = await begun(store, sending(sms()))
    second = await begun(store, sending(sms(), resend_of=first.id))
    await store.actions.complete(first.id, DONE)

    await store.actions.complete(second.id, Ended("failed"))

    assert await repeats(store, sms()) == first.id


async def test_fifty_equal_sends_over_two_processes_are_one(state: State, start: Start) -> None:
    texts = ["a"] * 25 + ["b"] * 25
    workers = start(2, "send", state, *texts)

    won = at_once(workers)

    assert sorted(won[0] + won[1]) == ["a", "b"]


async def last_ended(store: Store, sent: list[tuple[str, bool]]) -> str | None:
    """The last one, if it has ended: of one that is repeated while it is under way both are."""
    last = await store.actions.get(sent[-1][0]) if sent else None
    return last.id if last and last.finished_at else None


STEPS = ("send", "send", "done", "unknown", "failed", "resend", "wait")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from("ab")), max_size=16))
async def test_no_text_goes_out_again_within_its_time_unless_it_says_so(
    folder: Path, plan: list[tuple[str, str]]
) -> None:
    clock = Clock()
    state = State(folder)
    state.empty()
    store = state.store(clock=clock)
    sent: dict[str, list[tuple[str, bool]]] = {"a": [], "b": []}
    for what, text in plan:
        if what in {"send", "resend"}:
            of = await last_ended(store, sent[text]) if what == "resend" else None
            got = await store.actions.begin(asked(), "policy", sending(sms(text), resend_of=of))
            if isinstance(got, Action):
                sent[text].append((got.id, of is not None))
        elif what == "wait":
            clock.advance(hours=13)
            for action_id, _ in (*sent["a"], *sent["b"]):
                await store.actions.renew_lease(action_id, fencing_token=1)
        elif sent[text]:
            with contextlib.suppress(Conflict):
                await store.actions.complete(sent[text][-1][0], Ended(what))  # type: ignore[arg-type]

    for text in "ab":
        rows = [(found, again) for each, again in sent[text] if (found := await store.actions.get(each))]
        for (later, again), number in zip(rows, range(len(rows)), strict=True):
            for earlier, _ in rows[: 0 if again else number]:
                assert later.started_at
                assert earlier.finished_at, "two are under way at once"
                happened = earlier.status in {"done", "unknown"}
                assert not happened or later.started_at >= earlier.finished_at + DAY
    await store.aclose()


# Writes


async def test_the_same_write_is_one_until_the_same_fields_were_changed_again(store: Store, clock: Clock) -> None:
    dedup_key = DedupKey(key="write:1", seconds=60)

    async def wrote(key: str, verb: str, record: str, **after: Any) -> str:
        clock.advance(seconds=1)
        action = await begun(store, ClaimConditions(dedup_keys=(DedupKey(key=key, seconds=60),)), tool=f"update_{verb}")
        undo = {"verb": verb, "id": record, "before": {}, "after": after}
        return (await store.actions.complete(action.id, Ended("done", undo=undo, touched=((verb, record),)))).id

    first = await wrote("write:1", "lead", "7", title="CEO", company="A")
    await wrote("write:2", "lead", "8", title="CTO")
    await wrote("write:3", "deal", "7", title="CTO")
    await wrote("write:4", "lead", "7", status="new")
    assert list(await store.actions.held_by([dedup_key.key])) == [dedup_key.key]
    assert isinstance(await refused(store, ClaimConditions(dedup_keys=(dedup_key,))), Repeated)

    await wrote("write:5", "lead", "7", title="CTO")
    second = await wrote("write:1", "lead", "7", title="CEO")

    assert first != second
    assert (await store.actions.held_by([dedup_key.key]))[dedup_key.key].id == second
    clock.advance(seconds=60)
    assert await store.actions.held_by([dedup_key.key]) == {}


def note(verb: str, **after: Any) -> dict[str, Any]:
    return {"verb": verb, "id": "7", "before": {}, "after": after}


LEAD, DEAL, OTHER, NOTE = ("lead", "7"), ("deal", "7"), ("lead", "8"), ("note", "1")
TITLE = ("update_lead", note("lead", title="CEO"), (LEAD,))
DELETED = ("delete_record", {"verb": "deleted"}, (LEAD,))


@pytest.mark.parametrize(
    ("first", "between", "repeat"),
    [
        (("update_lead", note("lead", tags=["a"]), (LEAD,)), ("tag_lead", note("tags", tags=["b"]), (LEAD,)), False),
        (("update_deal", note("deal", status="won"), (DEAL,)), ("move_stage", note("deal_stage"), (DEAL, LEAD)), False),
        (("update_lead", None, (LEAD,)), TITLE, False),
        (TITLE, ("update_lead", None, (LEAD,)), False),
        (TITLE, ("update_lead", note("lead", title="CEO"), (OTHER,)), True),
        (("create_lead", None, (LEAD,)), DELETED, False),
        (("create_lead", None, (LEAD,)), TITLE, True),
        (("create_deal", None, (DEAL, LEAD)), DELETED, True),
        (("log_note", None, (NOTE, LEAD)), TITLE, True),
        (("call_operation", None, ()), TITLE, True),
    ],
)
async def test_a_write_is_no_repeat_where_what_it_did_was_changed_by_whatever_tool(
    store: Store, first: tuple[str, Any, Any], between: tuple[str, Any, Any], repeat: bool
) -> None:
    for key, (tool, undo, touched) in (("write:1", first), ("write:2", between)):
        [said] = [each for each in TOOLS if each.name == tool]
        kind = {"creates": said.creates, "deletes": said.deletes}
        action = await begun(store, ClaimConditions(dedup_keys=(DedupKey(key=key, seconds=60),)), tool=tool, **kind)
        assert list(await store.actions.held_by([key])) == [key]
        await store.actions.complete(action.id, Ended("done", undo=undo, touched=touched))

    got = await refused(store, ClaimConditions(dedup_keys=(DedupKey(key="write:1", seconds=60),)))

    assert isinstance(got, Repeated) is repeat


# Limits


async def test_a_limit_counts_what_went_out_by_channel_connection_address_and_time(store: Store, clock: Clock) -> None:
    await begun(store, sending(sms("old")))
    clock.advance(hours=1)
    since = clock.moment
    await begun(store, sending(sms("a")))
    await begun(store, sending(sms("b", "+2")))
    await begun(store, sending(sms("c")), connection="home")
    await begun(store, sending(DedupKey(key="m", seconds=9, channel="email", address="+14155550123")))
    ended = await begun(store, sending(sms("d")))
    await store.actions.complete(ended.id, Ended("failed"))
    await begun(store, sending(sms("e"), due=clock.moment + DAY))

    async def count(**more: Any) -> int:
        quotas = [at_most(most, **{"since": since, **more}) for most in range(8)]
        return [await store.limits.counted([quota]) for quota in quotas].index(None) - 1

    assert await count() == 3
    assert await count(since=EPOCH) == 4
    assert await count(connection="work") == 2
    assert await count(address="+2") == 1
    assert await count(channels=("sms", "email")) == 4
    assert await count(channels=("call",)) == 0


async def test_a_claim_over_a_limit_is_stopped_and_leaves_nothing(store: Store, clock: Clock) -> None:
    quotas = (at_most(9), at_most(1, since=clock.moment))
    await begun(store, sending(sms("a"), quotas=quotas))

    assert await refused(store, sending(sms("b"), quotas=quotas)) == Stopped("the limit of 1")
    assert await store.actions.held_by([sms("b").key]) == {}


async def test_a_batch_is_stopped_where_it_would_go_over_the_limit(store: Store) -> None:
    batch = tuple(sms(str(number)) for number in range(5))

    assert await refused(store, sending(*batch, quotas=(at_most(4),))) == Stopped("the limit of 4")
    assert await refused(store, sending(*batch, quotas=(at_most(5),))) is None


async def test_what_is_deferred_counts_from_the_moment_it_is_sent(store: Store, clock: Clock) -> None:
    quotas = (at_most(1),)
    waiting = await begun(store, sending(sms("a"), quotas=quotas, due=clock.moment + DAY))
    other = await begun(store, sending(sms("b"), quotas=quotas, due=clock.moment + DAY))
    clock.advance(days=1)

    sent = await store.actions.claim(waiting.id, None, sending(sms("a"), quotas=quotas))
    stopped = await store.actions.claim(other.id, None, sending(sms("b"), quotas=quotas))

    assert isinstance(sent, Action)
    assert stopped == Stopped("the limit of 1")
    assert await store.limits.counted([at_most(1, since=clock.moment)]) is not None


async def test_neither_a_resend_nor_an_undo_makes_room_under_a_limit(store: Store) -> None:
    first = await begun(store, sending(sms()))
    await store.actions.complete(first.id, DONE)
    second = await begun(store, sending(sms(), resend_of=first.id))
    await store.actions.complete(second.id, DONE)
    assert await store.actions.mark_undone(second.id, "ops")

    assert await refused(store, sending(sms("x"), quotas=(at_most(2),))) == Stopped("the limit of 2")


async def test_under_a_limit_no_more_go_out_however_many_try_at_once(store: Store, other: Store) -> None:
    got: Counter[str] = Counter()

    async def one(of: Store, number: int) -> None:
        made = await of.actions.begin(asked(), "policy", sending(sms(str(number)), quotas=(at_most(5),)))
        got[type(made).__name__] += 1

    async with anyio.create_task_group() as group:
        for number in range(24):
            group.start_soon(one, (store, other)[number % 2], number)

    assert got == {"Action": 5, "Stopped": 19}


async def test_imports_are_counted_by_their_records_in_the_moment_of_claiming(store: Store, clock: Clock) -> None:
    def conditions(size: int) -> ClaimConditions:
        return ClaimConditions(quotas=(at_most(99, caller="ops", tool="import_leads", size=size, channels=()),))

    done = await begun(store, conditions(60), tool="import_leads", size=60)
    await store.actions.complete(done.id, DONE)
    await begun(store, tool="import_leads", size=500, caller="someone")

    assert await refused(store, conditions(40)) == Stopped("the limit of 99")
    assert await refused(store, conditions(39)) is None


# What has ended since


async def test_an_effect_that_is_over_stops_no_repeat_and_still_counts(store: Store) -> None:
    enrolled = (sms("one"), sms("two"))
    first = await begun(store, sending(*enrolled))
    await store.actions.complete(first.id, DONE)

    await store.actions.let_go(first.id, (sms("one").key,))

    assert await repeats(store, sms("two")) == first.id
    assert await store.limits.counted([at_most(2)]) == "the limit of 2"
    assert await store.actions.mark_undone(first.id, "ops")
    await store.actions.unmark_undone(first.id)
    assert list(await store.actions.held_by([dedup_key.key for dedup_key in enrolled])) == [sms("two").key]


# Addresses


async def test_who_set_an_address_is_remembered(store: Store, clock: Clock) -> None:
    mine = Address(channel="email", address="jane@example.com")
    await begun(store, ClaimConditions(writes=(mine,)), caller="old")
    clock.advance(hours=1)
    later = await begun(store, ClaimConditions(writes=(mine, Address(channel="sms", address="+1"))), tool="update_lead")

    found = await store.contacts.written([mine, Address(channel="sms", address="+2")], clock.moment - DAY)

    assert [(each.by, each.tool, each.at, each.action) for each in found] == [
        ("ops", "update_lead", clock.moment, later.id)
    ]
    assert await store.contacts.written([Address(channel="email", address="Jane@Example.com")], EPOCH) == found
    assert await store.contacts.written([mine], clock.moment + timedelta(milliseconds=1)) == ()
    assert await store.contacts.written([], EPOCH) == ()


async def test_an_address_that_was_blocked_meanwhile_stops_the_claim(store: Store) -> None:
    crowd = tuple(sms(address=f"+1415555{number:04}") for number in range(1200))
    await store.contacts.block({"call": "+14155550007", "sms": "+14155551190"}, "STOP", "ops")

    got = await refused(store, sending(*crowd))
    await store.contacts.unblock({"sms": "+14155551190"}, "jo")

    assert isinstance(got, Stopped)
    assert got.reason.startswith("do-not-contact: ")
    assert await refused(store, sending(*crowd)) is None
