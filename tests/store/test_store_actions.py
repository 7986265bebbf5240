"""One action: proposed, claimed, settled, undone."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.errors import Conflict, NotFound
from crm_mcp.store import FILE_NAME, Action, Store

from .conftest import Clock, Start, asked

TTL = timedelta(minutes=10)


async def test_a_proposal_is_kept_word_for_word(store: Store, clock: Clock) -> None:
    new = asked(facts={"email": "zoë@example.com"}, preview="Zoë <zoë@example.com>", lead="l1", size=3, asked="token")

    action = await store.propose(new, TTL)

    assert re.fullmatch(r"a_[a-z2-7]{16}", action.id)
    assert action.model_dump(include=set(type(new).model_fields)) == new.model_dump()
    assert (action.status, action.created_at, action.expires_at) == ("proposed", clock.moment, clock.moment + TTL)
    assert (action.approved_by, action.started_at, action.finished_at, action.touched) == (None, None, None, ())
    assert await store.get(action.id) == action


async def test_the_same_proposal_is_one_row_with_what_was_seen_first(store: Store, clock: Clock) -> None:
    first = await store.propose(asked(facts={"email": "old@example.com"}), TTL)
    clock.advance(minutes=9)

    again = await store.propose(asked(facts={"email": "new@example.com"}), TTL)

    assert again == first


@pytest.mark.parametrize("other", [{"caller": "someone"}, {"digest": "d2"}])
async def test_another_caller_or_digest_is_another_proposal(store: Store, other: dict[str, Any]) -> None:
    first = await store.propose(asked(), TTL)

    assert (await store.propose(asked(**other), TTL)).id != first.id


async def test_a_proposal_that_ended_is_not_found_again(store: Store, clock: Clock) -> None:
    claimed = await store.propose(asked(), TTL)
    assert await store.claim(claimed.id, "ops", "token")

    expired = await store.propose(asked(), TTL)
    clock.advance(minutes=10)
    fresh = await store.propose(asked(), TTL)

    assert len({claimed.id, expired.id, fresh.id}) == 3


async def test_two_processes_that_propose_the_same_get_one_row(store: Store, folder: Path, start: Start) -> None:
    workers = start(2, "propose", folder, *(f"d{number}" for number in range(30)))

    for worker in workers:
        worker.go()
    ids = [worker.line() for worker in workers]

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 30


async def test_a_claim_starts_a_proposal_once(store: Store, clock: Clock) -> None:
    proposed = await store.propose(asked(), TTL)
    clock.advance(minutes=9, seconds=59.999)

    claimed = await store.claim(proposed.id, "ops", "elicitation")

    assert claimed is not None
    assert (claimed.status, claimed.approved_by, claimed.started_at) == ("running", "elicitation", clock.moment)
    assert await store.claim(proposed.id, "ops", "elicitation") is None


async def test_a_claim_is_refused_to_other_callers_and_unknown_ids(store: Store) -> None:
    proposed = await store.propose(asked(), TTL)

    assert await store.claim(proposed.id, "someone", "token") is None
    assert await store.claim("a_nothing", "ops", "token") is None
    assert await store.get(proposed.id) == proposed


async def test_of_two_processes_exactly_one_claims_each_proposal(store: Store, folder: Path, start: Start) -> None:
    store = Store(folder)  # on the real clock, as the workers
    ids = [(await store.propose(asked(digest=f"d{number}"), TTL)).id for number in range(50)]
    workers = start(2, "claim", folder, *ids)

    for worker in workers:
        worker.go()
    won = [worker.line() for worker in workers]

    assert sorted(won[0] + won[1]) == sorted(ids)
    await store.aclose()


async def test_tasks_of_one_process_claim_once_too(store: Store) -> None:
    proposed = await store.propose(asked(), TTL)
    won: list[Action | None] = []

    async def claim() -> None:
        won.append(await store.claim(proposed.id, "ops", "token"))

    async with anyio.create_task_group() as group:
        for _ in range(12):
            group.start_soon(claim)

    assert len([each for each in won if each]) == 1


async def test_a_proposal_expires_by_itself(store: Store, clock: Clock) -> None:
    proposed = await store.propose(asked(), TTL)
    clock.advance(minutes=10)

    found = await store.get(proposed.id)

    assert found is not None
    assert found.status == "expired"
    assert await store.claim(proposed.id, "ops", "token") is None
    with pytest.raises(Conflict, match="has ended already: expired"):
        await store.settle(proposed.id, "declined")
    assert (await store.settle(proposed.id, "expired", reason="nobody answered")).finished_at == clock.moment


async def test_begin_writes_a_running_row(store: Store, clock: Clock) -> None:
    action = await store.begin(asked(), "policy")

    assert (action.status, action.approved_by, action.started_at) == ("running", "policy", clock.moment)
    assert action.expires_at is None


async def test_settling_keeps_what_became_of_it(store: Store, clock: Clock) -> None:
    begun = await store.begin(asked(), "policy")
    clock.advance(seconds=2)

    settled = await store.settle(
        begun.id,
        "done",
        summary="created Zoë",
        result={"lead": {"id": "7", "at": datetime(2026, 1, 2, tzinfo=UTC)}},
        undo={"delete": "7"},
        lead="7",
        touched=(("lead", "7"), ("task", "8")),
        size=2,
    )

    assert settled == await store.get(begun.id)
    assert settled.model_dump(exclude={"id", "status", "summary", "started_at", "arguments"}) == asked().model_dump(
        exclude={"summary", "arguments"}
    ) | {
        "approved_by": "policy",
        "reason": None,
        "error": None,
        "result": {"lead": {"id": "7", "at": "2026-01-02T00:00:00Z"}},
        "undo": {"delete": "7"},
        "lead": "7",
        "touched": (("lead", "7"), ("task", "8")),
        "size": 2,
        "created_at": begun.created_at,
        "expires_at": None,
        "finished_at": clock.moment,
    }
    assert (settled.status, settled.summary, settled.started_at) == ("done", "created Zoë", begun.started_at)


async def test_what_settling_leaves_out_stays(store: Store) -> None:
    begun = await store.begin(asked(lead="l1", size=4), "policy")

    failed = await store.settle(begun.id, "failed", reason="the key is wrong", error="unauthorized")

    assert (failed.summary, failed.lead, failed.size) == (begun.summary, "l1", 4)
    assert (failed.reason, failed.error, failed.result) == ("the key is wrong", "unauthorized", None)


async def test_settling_twice_changes_nothing(store: Store) -> None:
    begun = await store.begin(asked(), "policy")
    done = await store.settle(begun.id, "done", result={"id": "7"})

    with pytest.raises(Conflict, match=f"{begun.id} has ended already: done"):
        await store.settle(begun.id, "failed", error="internal")

    assert await store.get(begun.id) == done


async def test_settling_what_is_not_there_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match="a_nothing"):
        await store.settle("a_nothing", "done")


@pytest.mark.parametrize("status", ["proposed", "running", "undone"])
async def test_settling_takes_only_ways_to_end(store: Store, status: Any) -> None:
    begun = await store.begin(asked(), "policy")

    with pytest.raises(ValueError, match="no way for an action to end"):
        await store.settle(begun.id, status)
    with pytest.raises(ValueError, match="no way for an action to end"):
        await store.note(asked(), status, None)


async def test_a_proposal_can_be_declined_or_done_without_a_claim(store: Store, clock: Clock) -> None:
    declined = await store.settle((await store.propose(asked(), TTL)).id, "declined", reason="the user said no")
    done = await store.settle((await store.propose(asked(), TTL)).id, "done")

    assert (declined.status, declined.started_at, declined.finished_at) == ("declined", None, clock.moment)
    assert (done.status, done.started_at) == ("done", clock.moment)


async def test_note_writes_a_row_that_has_ended(store: Store, clock: Clock) -> None:
    noted = await store.note(asked(), "blocked", "do not contact")

    assert (noted.status, noted.reason, noted.finished_at) == ("blocked", "do not contact", clock.moment)
    with pytest.raises(Conflict):
        await store.settle(noted.id, "done")


async def test_a_running_row_reads_as_unknown_after_ten_minutes(store: Store, clock: Clock) -> None:
    begun = await store.begin(asked(), "policy")
    clock.advance(minutes=10)
    assert await store.get(begun.id) == begun

    clock.advance(milliseconds=1)
    found = await store.get(begun.id)

    assert found is not None
    assert (found.status, found.reason) == ("unknown", "the program ended before the outcome was recorded")
    assert (await store.settle(begun.id, "done")).reason is None


async def test_only_its_caller_marks_a_done_action_undone_and_once(store: Store) -> None:
    begun = await store.begin(asked(), "policy")
    assert not await store.mark_undone(begun.id, "ops")
    await store.settle(begun.id, "done")

    assert not await store.mark_undone(begun.id, "someone")
    assert await store.mark_undone(begun.id, "ops")
    assert not await store.mark_undone(begun.id, "ops")

    found = await store.get(begun.id)
    assert found is not None
    assert found.status == "undone"


async def test_an_undo_that_failed_can_be_tried_again(store: Store) -> None:
    begun = await store.begin(asked(), "policy")
    done = await store.settle(begun.id, "done")
    assert await store.mark_undone(begun.id, "ops")

    await store.unmark_undone(begun.id)

    assert await store.get(begun.id) == done
    assert await store.mark_undone(begun.id, "ops")


async def test_of_two_processes_exactly_one_undoes(store: Store, folder: Path, start: Start) -> None:
    ids = [(await store.settle((await store.begin(asked(), "policy")).id, "done")).id for _ in range(20)]
    workers = start(2, "undo", folder, *ids)

    for worker in workers:
        worker.go()
    won = [worker.line() for worker in workers]

    assert sorted(won[0] + won[1]) == sorted(ids)


async def test_a_killed_process_leaves_a_row_that_runs_and_then_is_unknown(folder: Path, start: Start) -> None:
    (worker,) = start(1, "begin", folder)
    worker.go()
    action_id = worker.line()

    worker.process.kill()
    worker.process.wait(timeout=5)

    store = Store(folder)
    running = await store.get(action_id)
    assert running is not None
    assert running.status == "running"
    await store.aclose()
    later = Store(folder, clock=lambda: running.created_at + timedelta(minutes=11))
    unknown = await later.get(action_id)
    assert unknown is not None
    assert unknown.status == "unknown"
    await later.aclose()


async def test_imports_of_the_last_hour_are_summed(store: Store, clock: Clock) -> None:
    async def imported(size: int, **values: Any) -> str:
        return (await store.begin(asked(tool="import_leads", size=size, **values), "policy")).id

    await imported(1000)
    clock.advance(hours=1)
    since = clock.moment
    await store.settle(await imported(50), "done", size=40)
    await store.settle(await imported(7), "failed")
    await imported(3)
    await imported(500, caller="someone")
    await store.begin(asked(size=9), "policy")
    await store.propose(asked(tool="import_leads", size=100), TTL)

    assert await store.imported_since("ops", since) == 43
    assert await store.imported_since("nobody", since) == 0


async def test_times_are_stored_as_whole_milliseconds(store: Store, folder: Path, clock: Clock) -> None:
    clock.moment = datetime(2026, 3, 20, 12, 0, 0, 7999, tzinfo=UTC)

    action = await store.begin(asked(), "policy")

    assert action.created_at == datetime(2026, 3, 20, 12, 0, 0, 7000, tzinfo=UTC)
    with sqlite3.connect(folder / FILE_NAME) as raw:
        assert raw.execute("SELECT created_at FROM actions").fetchone() == (1774008000007,)
    raw.close()
