"""Work that outlives a call: leases, fences, due times, looks at the history, and the items of jobs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_mcp.errors import Conflict
from crm_mcp.store import Action, ClaimConditions, Ended, Item, Store

from .conftest import PLAIN, Clock, Start, State, asked, at_once, begun, sending, sms

DONE = Ended("done")
DAY = timedelta(days=1)
JOB = ClaimConditions(job=True)
SECOND = timedelta(seconds=1)
LEASE = 15 * SECOND
WORK = ["work"]


async def taken(store: Store) -> Action:
    action = await store.actions.take(WORK)
    assert action is not None
    return action


# What needs work


async def test_what_is_under_way_is_taken_once_its_holder_says_nothing_more(
    store: Store, other: Store, clock: Clock
) -> None:
    action = await begun(store)
    clock.advance(seconds=10)
    assert await store.actions.renew_lease(action.id, fencing_token=action.fencing_token)
    assert await other.actions.next_due(WORK) == clock.moment + LEASE
    clock.advance(seconds=14.999)
    assert await other.actions.take(WORK) is None

    clock.advance(milliseconds=1)
    found = await taken(other)

    assert (found.id, found.status, found.fencing_token) == (action.id, "sending", 2)
    assert await store.actions.take(WORK) is None
    assert not await store.actions.renew_lease(action.id, fencing_token=1)
    assert not await store.actions.renew_lease(action.id, fencing_token=2)  # its own word, not another's
    assert await other.actions.renew_lease(action.id, fencing_token=2)


async def test_an_old_fence_settles_nothing(store: Store, other: Store, clock: Clock) -> None:
    action = await begun(store)
    clock.advance(seconds=15)
    found = await taken(other)

    with pytest.raises(Conflict, match="worked on by another process"):
        await store.actions.complete(action.id, DONE, fencing_token=action.fencing_token)
    settled = await other.actions.complete(action.id, Ended("unknown"), fencing_token=found.fencing_token)

    assert settled.status == "unknown"
    assert (
        await store.actions.complete(action.id, DONE)
    ).status == "done"  # who sent it knows best, and needs no fence


async def test_what_is_scheduled_is_taken_when_it_is_due(store: Store, other: Store, clock: Clock) -> None:
    due = clock.moment + DAY
    waiting = await begun(store, sending(sms(), due=due))
    assert (waiting.status, waiting.due_at, waiting.started_at) == ("scheduled", due, None)
    assert (await store.actions.next_due(WORK), await store.actions.take(WORK)) == (due, None)
    clock.advance(days=1)

    found = await taken(other)

    assert (found.id, found.status, found.fencing_token) == (waiting.id, "scheduled", 2)
    assert (await store.actions.take(WORK), await store.actions.next_due(WORK)) == (None, clock.moment + LEASE)
    clock.advance(seconds=15)  # it died before it claimed
    assert (await taken(store)).id == waiting.id


async def test_what_is_confirmed_for_later_is_scheduled_and_claimed_once(store: Store, clock: Clock) -> None:
    proposed = await store.actions.propose(asked(), DAY)
    due = clock.moment + 2 * DAY

    scheduled = await store.actions.claim(proposed.id, "token", sending(sms(), due=due))
    assert isinstance(scheduled, Action)
    assert (scheduled.status, scheduled.due_at, scheduled.expires_at) == ("scheduled", due, due + DAY)
    clock.advance(days=2)
    started = await store.actions.claim(proposed.id, None, sending(sms()))

    assert isinstance(started, Action)
    assert (started.status, started.approved_by, started.due_at) == ("sending", "token", None)
    assert await store.actions.claim(proposed.id, None, sending(sms())) is None


async def test_what_came_due_while_nothing_ran_is_taken_to_be_expired(store: Store, clock: Clock) -> None:
    waiting = await begun(store, sending(sms(), due=clock.moment + DAY))
    clock.advance(days=2)

    found = await taken(store)

    assert (found.id, found.status) == (waiting.id, "expired")
    assert await store.actions.claim(waiting.id, None, sending(sms())) is None
    ended = await store.actions.complete(
        waiting.id, Ended("expired", reason="nothing ran"), fencing_token=found.fencing_token
    )
    assert (ended.status, ended.finished_at) == ("expired", clock.moment)
    assert (await store.actions.take(WORK), await store.actions.next_due(WORK)) == (None, None)


async def test_what_a_rule_forbids_is_put_off(store: Store, clock: Clock) -> None:
    waiting = await begun(store, sending(sms(), due=clock.moment))
    found = await taken(store)
    later = clock.moment + DAY

    assert not await store.actions.put_off(waiting.id, later, "quiet hours", fencing_token=found.fencing_token - 1)
    assert await store.actions.put_off(waiting.id, later, "quiet hours", fencing_token=found.fencing_token)

    row = await store.actions.get(waiting.id)
    assert row is not None
    assert (row.status, row.due_at, row.expires_at, row.reason) == ("scheduled", later, later + DAY, "quiet hours")
    assert (await store.actions.take(WORK), await store.actions.next_due(WORK)) == (None, later)
    clock.advance(days=2)
    assert not await store.actions.put_off(waiting.id, later, "too late", fencing_token=found.fencing_token)


async def test_what_could_not_go_is_good_for_as_long_as_it_was_before(store: Store, clock: Clock) -> None:
    waiting = await begun(store, sending(sms(), due=clock.moment))
    found = await taken(store)

    assert await store.actions.put_off(
        waiting.id, clock.moment + 60 * SECOND, "it is away", fencing_token=found.fencing_token, late=True
    )

    row = await store.actions.get(waiting.id)
    assert row is not None
    assert (row.due_at, row.expires_at) == (clock.moment + 60 * SECOND, clock.moment + DAY)
    before = await store.audit.entries(None, 0, 100)
    clock.advance(seconds=60)
    found = await taken(store)
    assert await store.actions.put_off(
        waiting.id, clock.moment + 60 * SECOND, "it is away", fencing_token=found.fencing_token, late=True
    )
    assert await store.audit.entries(None, 0, 100) == before  # it says nothing new


async def test_the_history_of_an_unknown_action_is_looked_at_when_it_is_time(store: Store, clock: Clock) -> None:
    action = await begun(store)
    await store.actions.complete(action.id, Ended("unknown", look_at=clock.moment + 30 * SECOND))
    assert (await store.actions.take(WORK), await store.actions.next_due(WORK)) == (None, clock.moment + 30 * SECOND)
    clock.advance(seconds=30)

    found = await taken(store)
    assert (found.status, found.looks) == ("unknown", 0)
    assert not await store.actions.reconcile_at(action.id, None, fencing_token=found.fencing_token - 1)
    assert await store.actions.reconcile_at(action.id, clock.moment + 60 * SECOND, fencing_token=found.fencing_token)
    assert await store.actions.next_due(WORK) == clock.moment + 60 * SECOND
    clock.advance(seconds=60)
    again = await taken(store)
    assert await store.actions.reconcile_at(action.id, None, fencing_token=again.fencing_token)

    row = await store.actions.get(action.id)
    assert row is not None
    assert (row.status, row.looks, row.due_at) == ("unknown", 2, None)
    assert (await store.actions.take(WORK), await store.actions.next_due(WORK)) == (None, None)


async def test_work_is_taken_in_its_order_and_of_the_connections_that_are_served(store: Store, clock: Clock) -> None:
    later = await begun(store, ClaimConditions(due=clock.moment + 2 * SECOND))
    home = await begun(store, ClaimConditions(due=clock.moment + SECOND), connection="home")
    first = await begun(store, ClaimConditions(due=clock.moment + SECOND))
    await begun(store, ClaimConditions(due=clock.moment + DAY))
    clock.advance(seconds=5)

    assert [(await taken(store)).id for _ in range(2)] == [first.id, later.id]
    assert await store.actions.take(WORK) is None
    assert (await store.actions.take([]), await store.actions.next_due([])) == (None, None)
    found = await store.actions.take(["home", "work"])
    assert found is not None
    assert found.id == home.id


async def test_a_lease_from_before_the_clock_was_set_back_is_none(store: Store, other: Store, clock: Clock) -> None:
    action = await begun(store)
    clock.advance(hours=-1)
    assert await store.actions.renew_lease(action.id, fencing_token=1)
    assert await other.actions.take(WORK) is None  # its holder is alive, and has said so since

    clock.advance(hours=-1)

    assert (await taken(other)).id == action.id
    assert await other.actions.take(WORK) is None


async def test_of_two_processes_one_takes_each_thing(state: State, start: Start) -> None:
    store = state.store()
    past = (await begun(store)).created_at - SECOND
    ids = [(await begun(store, ClaimConditions(due=past), digest=str(number))).id for number in range(30)]
    workers = start(2, "take", state)

    won = at_once(workers)

    assert sorted(won[0] + won[1]) == sorted(ids)
    await store.aclose()


# Jobs


async def job(store: Store, count: int = 5, *keys: str) -> Action:
    """A job that runs, with items."""
    proposed = await store.actions.propose(asked(), DAY)
    await store.items.add(proposed.id, [{"lead": str(number)} for number in range(count)])
    dedup_keys = tuple(sms(key) for key in keys)
    action = await store.actions.claim(proposed.id, "token", ClaimConditions(job=True, dedup_keys=dedup_keys))
    assert isinstance(action, Action)
    return action


def numbers(items: tuple[Item, ...]) -> list[int]:
    return [item.no for item in items]


async def progress(store: Store, action_id: str) -> dict[str, int] | None:
    action = await store.actions.get(action_id)
    return action.progress if action else None


async def test_a_job_goes_through_its_items(store: Store) -> None:
    running = await job(store)
    assert (running.status, await progress(store, running.id)) == ("running", {"done": 0, "total": 5})

    first = await store.items.take(running.id, 3, fencing_token=1)
    assert (numbers(first), first[1].payload, first[0].status) == ([0, 1, 2], {"lead": "1"}, "sending")
    told = [(0, "done", {"id": "7"}), (1, "failed", {"reason": "no"}), (4, "done", None)]
    assert await store.items.complete(running.id, told, fencing_token=1)  # type: ignore[arg-type]

    assert [item.status for item in await store.items.all(running.id)] == [
        "done", "failed", "sending", "waiting", "waiting",
    ]  # fmt: skip
    assert (await store.items.all(running.id))[0].result == {"id": "7"}
    assert numbers(await store.items.all(running.id, "waiting")) == [3, 4]
    rows, _ = await store.actions.page(caller=None, status="running", lead=None, after=None, limit=5)
    assert rows[0].progress == {"done": 2, "total": 5}
    assert numbers(await store.items.take(running.id, 9, fencing_token=1)) == [3, 4]
    assert await store.items.take(running.id, 9, fencing_token=1) == ()
    assert (await store.actions.complete(running.id, DONE, fencing_token=1)).progress is None


async def test_items_are_added_once(store: Store) -> None:
    running = await job(store, 2)
    await store.items.take(running.id, 1, fencing_token=1)

    await store.items.add(running.id, [{"lead": "x"}, {"lead": "y"}, {"lead": "z"}])

    assert [(item.payload["lead"], item.status) for item in await store.items.all(running.id)] == [
        ("0", "sending"),
        ("1", "waiting"),
        ("z", "waiting"),
    ]
    await store.items.add(running.id, [])


async def test_who_takes_over_a_job_finds_what_was_under_way_and_shuts_the_other_out(
    store: Store, other: Store, clock: Clock
) -> None:
    running = await job(store)
    await store.items.take(running.id, 2, fencing_token=1)
    clock.advance(seconds=15)

    found = await taken(other)

    assert (found.id, found.status, found.progress) == (running.id, "running", {"done": 0, "total": 5})
    assert await store.items.take(running.id, 2, fencing_token=1) == ()
    assert not await store.items.complete(running.id, [(0, "done", None)], fencing_token=1)
    assert numbers(await other.items.all(running.id, "sending")) == [0, 1]
    assert await other.items.complete(
        running.id, [(0, "unknown", None), (1, "done", None)], fencing_token=found.fencing_token
    )
    assert numbers(await other.items.take(running.id, 9, fencing_token=found.fencing_token)) == [2, 3, 4]


async def test_a_job_that_is_called_off_stops_after_the_item_it_is_at(store: Store, clock: Clock) -> None:
    running = await job(store)
    await store.items.take(running.id, 2, fencing_token=1)

    ended = await store.actions.call_off(running.id, "ops", "cancelled", "enough")

    assert ended is not None
    assert (ended.status, ended.reason, ended.finished_at) == ("cancelled", "enough", clock.moment)
    assert await store.items.take(running.id, 2, fencing_token=1) == ()
    assert await store.actions.renew_lease(running.id, fencing_token=1)
    assert await store.items.complete(running.id, [(0, "done", None)], fencing_token=1)
    with pytest.raises(Conflict, match="has ended already: cancelled"):
        await store.actions.complete(running.id, DONE, fencing_token=1)
    assert [item.status for item in await store.items.all(running.id)] == [
        "done", "sending", "cancelled", "cancelled", "cancelled",
    ]  # fmt: skip
    assert await store.actions.take(WORK) is None
    clock.advance(minutes=3)  # its worker has died
    assert [item.no for item in await store.items.all(running.id, "unknown")] == [1]


async def test_a_job_that_is_called_off_gives_the_marks_back_of_what_waits(store: Store, clock: Clock) -> None:
    keys = [sms(each).key for each in "abcd"]
    running = await begun(store, ClaimConditions(job=True, dedup_keys=tuple(map(sms, "abcd"))))
    await store.items.add(running.id, [{"lead": key, "marks": [key]} for key in keys])
    first = await store.items.take(running.id, 3, fencing_token=1)
    assert [item.payload for item in first] == [{"lead": key} for key in keys[:3]]
    assert await store.items.complete(
        running.id, [(0, "done", None), (1, "waiting", {"marks": [keys[1]]})], fencing_token=1
    )

    assert await store.actions.call_off(running.id, "ops", "cancelled", "enough")
    assert set(await store.actions.held_by(keys)) == {keys[0], keys[2]}, "one was done, and one is under way"
    # Its worker puts back what it has in its hands: nobody does it any more.
    assert await store.items.complete(running.id, [(2, "waiting", {"marks": [keys[2]]})], fencing_token=1)

    assert set(await store.actions.held_by(keys)) == {keys[0]}
    assert [item.status for item in await store.items.all(running.id)] == [
        "done",
        "cancelled",
        "cancelled",
        "cancelled",
    ]


async def test_a_job_that_is_called_off_before_it_has_items_gets_none(store: Store) -> None:
    running = await begun(store, ClaimConditions(job=True, dedup_keys=(sms(),)))

    assert await store.actions.call_off(running.id, "ops", "cancelled", "enough")
    await store.items.add(running.id, [{"lead": "1", "marks": [sms().key]}])

    assert await store.items.all(running.id) == ()
    assert await store.actions.held_by([sms().key]) == {}


async def test_a_job_that_was_called_off_says_once_what_it_did_before(store: Store) -> None:
    running = await begun(store, ClaimConditions(job=True, dedup_keys=(sms("a"), sms("b"))))
    await store.items.add(running.id, [{"lead": "1"}])
    _, position, _ = await store.actions.changes(since=None, kinds=(), after=None, limit=5)
    last = Ended("cancelled", result={"created": 1}, touched=(("lead", "1"),), released=(sms("b").key,))
    assert await store.actions.call_off(running.id, "ops", "cancelled", "enough")
    with pytest.raises(Conflict):
        await store.actions.complete(running.id, last)  # without a fence, nobody knows who says so
    with pytest.raises(Conflict):
        await store.actions.complete(running.id, last, fencing_token=2)

    said = await store.actions.complete(running.id, last, fencing_token=1)

    assert (said.status, said.reason, said.result) == ("cancelled", "enough", {"created": 1})
    rows, _, _ = await store.actions.changes(since=None, kinds=(), after=position, limit=5)
    assert [row.id for row in rows] == [running.id]
    assert list(await store.actions.held_by([sms("a").key, sms("b").key])) == [sms("a").key]
    with pytest.raises(Conflict, match="has ended already"):
        await store.actions.complete(running.id, last, fencing_token=1)


async def test_items_give_their_marks_back_where_nothing_happened(store: Store) -> None:
    running = await job(store, 2, "a", "b")
    await store.items.take(running.id, 2, fencing_token=1)
    ended = [(0, "done", None), (1, "failed", None)]

    assert await store.items.complete(running.id, ended, fencing_token=1, released=(sms("b").key,))  # type: ignore[arg-type]

    assert list(await store.actions.held_by([sms("a").key, sms("b").key])) == [sms("a").key]


async def test_two_processes_never_take_one_item_twice(state: State, start: Start) -> None:
    store = state.store()
    running = await job(store, 40)
    workers = start(2, "items", state, running.id, "1")

    won = at_once(workers)

    assert sorted(won[0] + won[1]) == list(range(40))
    assert {item.status for item in await store.items.all(running.id)} == {"done"}
    await store.aclose()


async def test_an_action_without_items_has_none(store: Store) -> None:
    action = await begun(store, PLAIN)

    assert await store.items.all(action.id) == ()
    assert await store.items.take(action.id, 1, fencing_token=1) == ()
    assert await store.items.take("a_nothing", 1, fencing_token=1) == ()
    assert not await store.items.complete("a_nothing", [], fencing_token=1)
