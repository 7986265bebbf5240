"""Many actions: pages of a list, and the feed of changes."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from crm_mcp.errors import InvalidArgument
from crm_mcp.store import Action, ClaimConditions, Ended, Status, Store

from .conftest import PLAIN, Clock, Start, State, all_pages, asked, begun

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TTL = timedelta(minutes=10)
LEADS = (None, "l1", "l2")
CALLERS = ("ops", "someone")
KINDS = ("lead", "task", "deal")

steps = st.tuples(
    st.sampled_from(("propose", "queue", "begin", "job", "defer", "blocked", "done", "unknown", "failed", "undone")),
    st.sampled_from(CALLERS),
    st.sampled_from(LEADS),
    st.sets(st.sampled_from(KINDS)),
    st.sampled_from((0, 0, 1, 400, 100_000)),  # seconds that pass
)


EXAMPLES = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@asynccontextmanager
async def scratch(state: State, clock: Clock) -> AsyncGenerator[Store]:
    """A store for one example: fixtures are made once for all of them."""
    state.empty()
    store = state.store(clock=clock)
    yield store
    await store.aclose()


async def act(store: Store, step: tuple[str, str, str | None, set[str], int], number: int) -> str:
    what, caller, lead, kinds, _ = step
    new: dict[str, Any] = {"caller": caller, "lead": lead, "digest": f"d{number}"}
    if what in {"propose", "queue"}:
        return (
            await store.actions.propose(asked(**new), TTL, "proposed" if what == "propose" else "pending_approval")
        ).id
    if what == "blocked":
        return (await store.actions.note(asked(**new), "blocked", None)).id
    due = store.clock() + timedelta(seconds=1) if what == "defer" else None
    action = await begun(store, ClaimConditions(job=what == "job", due=due), **new)
    if what in {"done", "undone"}:
        await store.actions.complete(action.id, Ended("done", touched=tuple((kind, "1") for kind in sorted(kinds))))
    if what == "undone":
        assert await store.actions.mark_undone(action.id, caller)
    if what in {"failed", "unknown"}:
        await store.actions.complete(
            action.id, Ended("failed" if what == "failed" else "unknown", touched=(("lead", "1"),))
        )
    return action.id


def listed(row: Action, status: Status | None) -> bool:
    """A single action that is under way is told as running."""
    return status in {None, row.status} or (status == "running" and row.status == "sending")


@EXAMPLES
@given(plan=st.lists(steps, max_size=14), limit=st.integers(1, 6), caller=st.sampled_from((None, *CALLERS)))
async def test_pages_hold_every_action_once_newest_first(
    state: State, plan: list[Any], limit: int, caller: str | None
) -> None:
    clock = Clock()
    async with scratch(state, clock) as store:
        ids: list[str] = []
        for number, step in enumerate(plan):
            ids.append(await act(store, step, number))
            clock.advance(seconds=step[4])

        # What a row reads as by itself decides where the filters list it.
        seen = [found for each in reversed(ids) if (found := await store.actions.get(each))]
        for status in (None, *get_args(Status)):
            for lead in LEADS:
                wanted = [
                    row
                    for row in seen
                    if caller in {None, row.caller} and listed(row, status) and lead in {None, row.lead}
                ]
                assert await all_pages(store, limit, caller, status, lead) == wanted


async def test_what_comes_between_two_pages_shifts_nothing(store: Store) -> None:
    ids = [(await begun(store)).id for _ in range(5)]
    first, after = await store.actions.page(caller=None, status=None, lead=None, after=None, limit=2)
    await begun(store)

    second, after = await store.actions.page(caller=None, status=None, lead=None, after=after, limit=3)

    assert [row.id for row in (*first, *second)] == ids[::-1]
    assert after is None


@pytest.mark.parametrize("position", ["", "x", "-1", "1.5", "٣", "9" * 19, "9" * 40])
async def test_a_made_up_position_is_refused(store: Store, position: str) -> None:
    with pytest.raises(InvalidArgument):
        await store.actions.page(caller=None, status=None, lead=None, after=position, limit=1)
    with pytest.raises(InvalidArgument):
        await store.actions.changes(since=None, kinds=(), after=position, limit=1)


async def test_a_position_of_another_state_is_refused(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="no position of this state; start again"):
        await store.actions.changes(since=None, kinds=(), after="1", limit=1)


async def drained(store: Store, position: str, limit: int, kinds: tuple[str, ...] = ()) -> tuple[list[Action], str]:
    rows: list[Action] = []
    more = True
    while more:
        page, position, more = await store.actions.changes(since=None, kinds=kinds, after=position, limit=limit)
        assert len(page) == limit or not more
        rows += page
    return rows, position


@EXAMPLES
@given(
    plan=st.lists(st.one_of(steps, st.none()), max_size=16),
    limit=st.integers(1, 4),
    kinds=st.sets(st.sampled_from(KINDS)).map(sorted).map(tuple),
)
async def test_a_reader_of_changes_sees_each_once_in_order(
    state: State, plan: list[Any], limit: int, kinds: tuple[str, ...]
) -> None:
    clock = Clock()
    async with scratch(state, clock) as store:
        seen: list[str] = []
        expected: list[str] = []
        _, position, _ = await store.actions.changes(since=None, kinds=kinds, after=None, limit=limit)
        for number, step in enumerate([*plan, None]):
            if step is None:
                rows, position = await drained(store, position, limit, kinds)
                seen += [row.id for row in rows]
                continue
            action_id = await act(store, step, number)
            if step[0] in {"done", "undone"} and (step[3] & set(kinds) if kinds else step[3]):
                expected.append(action_id)

        assert seen == expected


async def test_without_since_and_after_the_feed_starts_now(store: Store) -> None:
    action = await begun(store)
    await store.actions.complete(action.id, Ended("done", touched=(("lead", "1"),)))

    rows, position, more = await store.actions.changes(since=None, kinds=(), after=None, limit=5)

    assert (rows, more) == ((), False)
    assert await drained(store, position, 5) == ([], position)


async def test_changes_come_in_the_order_of_finishing_from_a_moment_on(store: Store, clock: Clock) -> None:
    ids = [(await begun(store)).id for _ in range(4)]
    for each in (ids[3], ids[0], ids[2]):
        clock.advance(milliseconds=1)
        await store.actions.complete(each, Ended("done", touched=(("lead", each),)))
    since = clock.moment - timedelta(milliseconds=1)

    rows, position, more = await store.actions.changes(since=since, kinds=("lead",), after=None, limit=1)
    rest, end, _ = await store.actions.changes(since=since, kinds=("lead",), after=position, limit=5)

    assert [row.id for row in (*rows, *rest)] == [ids[0], ids[2]]
    assert more
    assert await store.actions.changes(since=clock.moment + TTL, kinds=(), after=None, limit=5) == ((), end, False)


async def test_a_clock_that_is_set_back_hides_no_change(store: Store, clock: Clock) -> None:
    _, position, _ = await store.actions.changes(since=clock.moment, kinds=(), after=None, limit=5)
    clock.advance(hours=-1)
    action = await begun(store)
    done = await store.actions.complete(action.id, Ended("done", touched=(("lead", "1"),)))

    assert (await drained(store, position, 5))[0] == [done]


async def test_an_undone_change_is_not_shown_again(store: Store) -> None:
    _, position, _ = await store.actions.changes(since=None, kinds=(), after=None, limit=5)
    action = await begun(store)
    await store.actions.complete(action.id, Ended("done", touched=(("lead", "1"),)))
    rows, position = await drained(store, position, 5)
    assert len(rows) == 1

    assert await store.actions.mark_undone(action.id, "ops")

    assert (await drained(store, position, 5))[0] == []


async def test_a_reader_misses_nothing_while_processes_write(store: Store, state: State, start: Start) -> None:
    _, position, _ = await store.actions.changes(since=None, kinds=(), after=None, limit=7)
    workers = start(2, "write", state, "40")
    seen: list[str] = []

    for worker in workers:
        worker.go()
    with anyio.fail_after(20):
        while len(seen) < 80:
            rows, position = await drained(store, position, 7)
            seen += [row.id for row in rows]

    written: list[list[str]] = [worker.line() for worker in workers]
    rows, _ = await drained(store, position, 7)
    assert rows == []
    assert sorted(seen) == sorted(itertools.chain(*written))
    for ids in written:
        assert [each for each in seen if each in set(ids)] == ids


async def test_changes_are_read_in_the_order_of_an_index(folder: Path) -> None:
    state = State(folder)
    store = state.store()
    await begun(store)
    asked_for: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked_for.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        await store.actions.changes(since=EPOCH, kinds=("lead",), after=None, limit=5, connection="work")
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    await store.aclose()

    [query] = [each for each in asked_for if "ORDER BY actions.finished_no" in each]
    with contextlib.closing(sqlite3.connect(state.place)) as file:
        plan = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {query}", ["1"] * query.count("?"))]
    assert len(plan) == 1, plan
    assert "finished_no>" in plan[0]


async def test_actions_and_changes_of_one_connection_or_of_a_lead_in_each(store: Store) -> None:
    ids: list[str] = []
    for connection, lead in (("work", "1"), ("home", "1"), ("work", "2"), ("home", "2"), ("gone", "1")):
        action = await begun(store, PLAIN, connection=connection, lead=lead)
        await store.actions.complete(action.id, Ended("done", touched=(("lead", lead),)))
        ids.append(action.id)

    async def listed(lead: str | dict[str, str] | None, connection: str | None = None) -> list[int]:
        rows, _ = await store.actions.page(
            caller=None, status=None, lead=lead, connection=connection, after=None, limit=9
        )
        return [ids.index(row.id) for row in rows]

    assert await listed(None, "work") == [2, 0]
    assert await listed("1") == [4, 1, 0]
    assert await listed({"work": "1", "home": "2"}) == [3, 0]
    assert await listed({"work": "1", "home": "2"}, "home") == [3]
    assert await listed({}) == []
    changed, _, _ = await store.actions.changes(
        since=datetime.min.replace(tzinfo=UTC), kinds=(), after=None, limit=9, connection="home"
    )
    assert [ids.index(row.id) for row in changed] == [1, 3]
