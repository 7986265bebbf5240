"""One action: proposed, claimed, settled, called off, undone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from crm_mcp.errors import Conflict, NotFound
from crm_mcp.store import Action, ClaimConditions, Ended, Status, Store

from .conftest import PLAIN, Clock, Start, State, asked, at_once, begun, sending, sms

TTL = timedelta(minutes=10)
DONE = Ended("done")


async def test_a_proposal_is_kept_word_for_word(store: Store, clock: Clock) -> None:
    new = asked(
        facts={"email": "zoë@example.com"},
        preview="Zoë <zoë@example.com>",
        lead="l1",
        size=3,
        asked="token",
        verdict="confirm",
        rule="policy.outward",
        request="r7",
    )

    action = await store.actions.propose(new, TTL)

    assert re.fullmatch(r"a_[a-z2-7]{16}", action.id)
    assert action.model_dump(include=set(type(new).model_fields)) == new.model_dump()
    assert (action.status, action.created_at, action.expires_at) == ("proposed", clock.moment, clock.moment + TTL)
    assert (action.approved_by, action.started_at, action.finished_at, action.touched) == (None, None, None, ())
    assert (action.due_at, action.fencing_token, action.looks, action.progress) == (None, 0, 0, None)
    assert await store.actions.get(action.id) == action


async def test_what_no_database_likes_in_a_text_is_kept_or_left_out(store: Store) -> None:
    hostile = "a\0b\ud800c\U0001f600"

    action = await begun(store, arguments={"text": hostile}, summary=hostile, lead=hostile)
    settled = await store.actions.complete(action.id, Ended("done", reason=hostile, result={hostile: [hostile]}))

    assert (settled.arguments, settled.result) == ({"text": hostile}, {hostile: [hostile]})
    assert settled.summary == settled.reason == settled.lead == "ab?c\U0001f600"
    listed, _ = await store.actions.page(caller=None, status=None, lead=hostile, after=None, limit=5)
    assert [row.id for row in listed] == [action.id]


async def test_the_same_proposal_is_one_row_with_what_was_seen_first(store: Store, clock: Clock) -> None:
    first = await store.actions.propose(asked(facts={"email": "old@example.com"}), TTL)
    clock.advance(minutes=9)

    again = await store.actions.propose(asked(facts={"email": "new@example.com"}), TTL)

    assert again == first


@pytest.mark.parametrize("another", [{"caller": "someone"}, {"digest": "d2"}])
async def test_another_caller_or_digest_is_another_proposal(store: Store, another: dict[str, Any]) -> None:
    first = await store.actions.propose(asked(), TTL)

    assert (await store.actions.propose(asked(**another), TTL)).id != first.id


async def test_what_waits_in_the_queue_is_another_row_than_what_a_client_is_asked(store: Store) -> None:
    proposed = await store.actions.propose(asked(), TTL)

    queued = await store.actions.propose(asked(), timedelta(hours=72), "pending_approval")
    again = await store.actions.propose(asked(), TTL, "pending_approval")

    assert (queued.status, queued.id != proposed.id, again) == ("pending_approval", True, queued)
    with pytest.raises(ValueError, match="no way to propose"):
        await store.actions.propose(asked(), TTL, "scheduled")


async def test_a_proposal_that_ended_is_not_found_again(store: Store, clock: Clock) -> None:
    claimed = await store.actions.propose(asked(), TTL)
    assert await store.actions.claim(claimed.id, "token", PLAIN)

    expired = await store.actions.propose(asked(), TTL)
    clock.advance(minutes=10)
    fresh = await store.actions.propose(asked(), TTL)

    assert len({claimed.id, expired.id, fresh.id}) == 3


async def test_two_processes_that_propose_the_same_get_one_row(state: State, start: Start) -> None:
    workers = start(2, "propose", state, *(f"d{number}" for number in range(30)))

    ids = at_once(workers)

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 30


@pytest.mark.parametrize("status", ["proposed", "pending_approval"])
async def test_a_claim_starts_what_was_confirmed_once(store: Store, clock: Clock, status: Status) -> None:
    proposed = await store.actions.propose(asked(), TTL, status)
    clock.advance(minutes=9, seconds=59.999)

    claimed = await store.actions.claim(proposed.id, "elicitation", PLAIN)

    assert isinstance(claimed, Action)
    assert (claimed.status, claimed.approved_by, claimed.started_at) == ("sending", "elicitation", clock.moment)
    assert claimed.fencing_token == 1
    assert await store.actions.claim(proposed.id, "elicitation", PLAIN) is None


async def test_a_claim_is_refused_to_other_callers_and_unknown_ids(store: Store) -> None:
    proposed = await store.actions.propose(asked(), TTL)

    assert await store.actions.claim(proposed.id, "token", PLAIN, caller="someone") is None
    assert await store.actions.claim("a_nothing", "token", PLAIN) is None
    assert await store.actions.get(proposed.id) == proposed
    assert await store.actions.claim(proposed.id, "token", PLAIN, caller="ops")


async def test_of_two_processes_exactly_one_claims_each_proposal(state: State, start: Start) -> None:
    store = state.store()  # on the real clock, as the workers
    ids = [(await store.actions.propose(asked(digest=f"d{number}"), TTL)).id for number in range(30)]
    workers = start(2, "claim", state, *ids)

    won = at_once(workers)

    assert sorted(won[0] + won[1]) == sorted(ids)
    await store.aclose()


async def test_tasks_of_one_process_claim_once_too(store: Store) -> None:
    proposed = await store.actions.propose(asked(), TTL)
    won: list[object] = []

    async def claim() -> None:
        won.append(await store.actions.claim(proposed.id, "token", PLAIN))

    async with anyio.create_task_group() as group:
        for _ in range(12):
            group.start_soon(claim)

    assert len([each for each in won if each]) == 1


@pytest.mark.parametrize("status", ["proposed", "pending_approval"])
async def test_what_nobody_confirms_expires_by_itself(store: Store, clock: Clock, status: Status) -> None:
    proposed = await store.actions.propose(asked(), TTL, status)
    clock.advance(minutes=10)

    found = await store.actions.get(proposed.id)

    assert found is not None
    assert found.status == "expired"
    assert await store.actions.claim(proposed.id, "token", PLAIN) is None
    assert await store.actions.call_off(proposed.id, "ops", "declined", "no") is None
    with pytest.raises(Conflict, match="has ended already: expired"):
        await store.actions.complete(proposed.id, Ended("declined"))
    ended = await store.actions.call_off(proposed.id, "ops", "expired", "nobody answered")
    assert ended is not None
    assert (ended.status, ended.reason, ended.finished_at) == ("expired", "nobody answered", clock.moment)


@pytest.mark.parametrize(("job", "status"), [(False, "sending"), (True, "running")])
async def test_begin_writes_a_row_that_is_at_work(store: Store, clock: Clock, job: bool, status: str) -> None:
    action = await begun(store, ClaimConditions(job=job))

    assert (action.status, action.approved_by, action.started_at) == (status, "policy", clock.moment)
    assert (action.expires_at, action.fencing_token) == (None, 1)


async def test_settling_keeps_what_became_of_it(store: Store, clock: Clock) -> None:
    action = await begun(store)
    clock.advance(seconds=2)

    settled = await store.actions.complete(
        action.id,
        Ended(
            "done",
            summary="created Zoë",
            result={"lead": {"id": "7", "at": datetime(2026, 1, 2, tzinfo=UTC)}},
            undo={"delete": "7"},
            lead="7",
            touched=(("lead", "7"), ("task", "8")),
            size=2,
        ),
    )

    assert settled == await store.actions.get(action.id)
    assert settled == action.model_copy(
        update={
            "status": "done",
            "summary": "created Zoë",
            "result": {"lead": {"id": "7", "at": "2026-01-02T00:00:00Z"}},
            "undo": {"delete": "7"},
            "lead": "7",
            "touched": (("lead", "7"), ("task", "8")),
            "size": 2,
            "finished_at": clock.moment,
        }
    )


async def test_what_settling_leaves_out_stays(store: Store) -> None:
    action = await begun(store, lead="l1", size=4)

    failed = await store.actions.complete(action.id, Ended("failed", reason="the key is wrong", error="unauthorized"))

    assert (failed.summary, failed.lead, failed.size) == (action.summary, "l1", 4)
    assert (failed.reason, failed.error, failed.result) == ("the key is wrong", "unauthorized", None)


async def test_settling_twice_changes_nothing(store: Store) -> None:
    action = await begun(store)
    done = await store.actions.complete(action.id, Ended("done", result={"id": "7"}))

    with pytest.raises(Conflict, match=f"{action.id} has ended already: done"):
        await store.actions.complete(action.id, Ended("failed", error="internal"))

    assert await store.actions.get(action.id) == done


async def test_settling_what_is_not_there_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match="a_nothing"):
        await store.actions.complete("a_nothing", DONE)


@pytest.mark.parametrize("status", ["proposed", "pending_approval", "scheduled", "sending", "running", "undone"])
async def test_settling_takes_only_ways_to_end(store: Store, status: Any) -> None:
    action = await begun(store)

    with pytest.raises(ValueError, match="no way for an action to end"):
        await store.actions.complete(action.id, Ended(status))
    with pytest.raises(ValueError, match="no way for an action to end"):
        await store.actions.note(asked(), status, None)


@pytest.mark.parametrize("status", ["done", "unknown"])
async def test_what_was_not_claimed_can_not_have_happened(store: Store, status: Status) -> None:
    proposed = await store.actions.propose(asked(), TTL)

    with pytest.raises(Conflict, match="has not started: proposed"):
        await store.actions.complete(proposed.id, Ended(status))

    assert await store.actions.get(proposed.id) == proposed


async def test_an_unknown_action_can_still_be_found_out(store: Store, clock: Clock) -> None:
    action = await begun(store)
    look_at = clock.moment + timedelta(minutes=1)
    unknown = await store.actions.complete(action.id, Ended("unknown", reason="no answer", look_at=look_at))
    assert (unknown.status, unknown.due_at, unknown.finished_at) == ("unknown", look_at, clock.moment)
    with pytest.raises(Conflict, match="has ended already: unknown"):
        await store.actions.complete(action.id, Ended("unknown"))
    _, position, _ = await store.actions.changes(since=None, kinds=(), after=None, limit=5)

    clock.advance(minutes=1)
    done = await store.actions.complete(action.id, Ended("done", touched=(("lead", "1"),)))

    assert (done.status, done.due_at, done.finished_at) == ("done", None, clock.moment)
    rows, _, _ = await store.actions.changes(since=None, kinds=(), after=position, limit=5)
    assert rows == (done,)  # whoever has read past the unknown one sees it now


async def test_note_writes_a_row_that_has_ended(store: Store, clock: Clock) -> None:
    noted = await store.actions.note(asked(), "blocked", "do not contact")

    assert (noted.status, noted.reason, noted.finished_at) == ("blocked", "do not contact", clock.moment)
    with pytest.raises(Conflict):
        await store.actions.complete(noted.id, DONE)


@pytest.mark.parametrize("status", ["cancelled", "declined", "expired", "blocked", "failed"])
async def test_what_has_not_left_can_be_called_off(store: Store, clock: Clock, status: Status) -> None:
    due = clock.moment + timedelta(hours=1)
    held = [
        await store.actions.propose(asked(), TTL),
        await store.actions.propose(asked(), TTL, "pending_approval"),
        await begun(store, sending(sms(), due=due)),
    ]

    ended = [await store.actions.call_off(each.id, "ops", status, "not now") for each in held]

    assert [(each.status, each.reason, each.due_at) for each in ended if each] == [(status, "not now", None)] * 3
    assert [await store.actions.call_off(each.id, None, status, "again") for each in held] == [None] * 3
    assert await store.actions.held_by([sms().key]) == {}


async def test_what_has_left_or_is_of_another_caller_can_not_be_called_off(store: Store) -> None:
    action = await begun(store)
    proposed = await store.actions.propose(asked(), TTL)

    assert await store.actions.call_off(action.id, "ops", "cancelled", "no") is None
    assert await store.actions.call_off(proposed.id, "someone", "cancelled", "no") is None
    assert await store.actions.call_off("a_nothing", None, "cancelled", "no") is None
    assert (await store.actions.get(action.id), await store.actions.get(proposed.id)) == (action, proposed)
    with pytest.raises(ValueError, match="no way to call off"):
        await store.actions.call_off(proposed.id, None, "done", "no")


@pytest.mark.parametrize("job", [False, True])
async def test_what_nobody_ends_reads_as_unknown_two_minutes_after_its_lease(
    store: Store, clock: Clock, job: bool
) -> None:
    action = await begun(store, ClaimConditions(job=job))
    clock.advance(seconds=15 + 120)
    found = await store.actions.get(action.id)
    assert found is not None
    assert found.status == action.status

    clock.advance(milliseconds=1)
    found = await store.actions.get(action.id)

    assert found is not None
    assert (found.status, found.reason) == ("unknown", "the program ended before the outcome was recorded")
    assert (await store.actions.complete(action.id, DONE)).reason is None


async def test_only_its_caller_marks_a_done_action_undone_and_once(store: Store) -> None:
    action = await begun(store)
    assert not await store.actions.mark_undone(action.id, "ops")
    await store.actions.complete(action.id, DONE)

    assert not await store.actions.mark_undone(action.id, "someone")
    assert await store.actions.mark_undone(action.id, "ops")
    assert not await store.actions.mark_undone(action.id, "ops")

    found = await store.actions.get(action.id)
    assert found is not None
    assert found.status == "undone"


async def test_an_undo_that_failed_can_be_tried_again(store: Store) -> None:
    action = await begun(store, sending(sms()))
    done = await store.actions.complete(action.id, DONE)
    assert await store.actions.mark_undone(action.id, "ops")
    assert await store.actions.held_by([sms().key]) == {}

    await store.actions.unmark_undone(action.id)

    assert await store.actions.get(action.id) == done
    assert await store.actions.held_by([sms().key]) == {sms().key: done}
    assert await store.actions.mark_undone(action.id, "ops")


async def test_of_two_processes_exactly_one_undoes(store: Store, state: State, start: Start) -> None:
    ids = [(await store.actions.complete((await begun(store)).id, DONE)).id for _ in range(20)]
    workers = start(2, "undo", state, *ids)

    won = at_once(workers)

    assert sorted(won[0] + won[1]) == sorted(ids)


async def test_a_killed_process_leaves_a_row_that_is_sent_and_then_is_unknown(state: State, start: Start) -> None:
    (worker,) = start(1, "begin", state)
    worker.go()
    action_id = worker.line()

    worker.process.kill()
    worker.process.wait(timeout=5)

    store = state.store()
    left = await store.actions.get(action_id)
    assert left is not None
    assert left.status == "sending"
    await store.aclose()
    later = state.store(clock=lambda: left.created_at + timedelta(minutes=3))
    unknown = await later.actions.get(action_id)
    assert unknown is not None
    assert unknown.status == "unknown"
    await later.aclose()


async def test_imports_of_the_last_hour_are_summed(store: Store, clock: Clock) -> None:
    async def imported(size: int, **values: Any) -> str:
        return (await begun(store, tool="import_leads", size=size, **values)).id

    await imported(1000)
    clock.advance(hours=1)
    since = clock.moment
    undone = await imported(50)
    await store.actions.complete(undone, Ended("done", size=40))
    assert await store.actions.mark_undone(undone, "ops")
    await store.actions.complete(await imported(7), Ended("failed"))
    await store.actions.complete(await imported(200), Ended("unknown"))
    await imported(3)
    await imported(500, caller="someone")
    await begun(store, size=9)
    await store.actions.propose(asked(tool="import_leads", size=100), TTL)

    assert await store.limits.written_since("ops", "import_leads", since) == 243
    assert await store.limits.written_since("nobody", "import_leads", since) == 0


async def test_times_are_stored_as_whole_milliseconds(store: Store, state: State, clock: Clock) -> None:
    clock.moment = datetime(2026, 3, 20, 12, 0, 0, 7999, tzinfo=UTC)

    action = await begun(store)

    assert action.created_at == datetime(2026, 3, 20, 12, 0, 0, 7000, tzinfo=UTC)
    assert state.sql("SELECT created_at FROM actions") == [(1774008000007,)]


async def test_the_way_back_is_kept_before_a_send_leaves(store: Store) -> None:
    action = await begun(store)

    await store.actions.keep_undo(action.id, {"verb": "lead", "id": "7"})
    settled = await store.actions.complete(action.id, DONE)
    await store.actions.keep_undo(action.id, {"verb": "none"})

    assert settled.undo == {"verb": "lead", "id": "7"}
    assert await store.actions.get(action.id) == settled
