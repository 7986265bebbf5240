"""What must hold for one item of a job at its turn, and what it counts for from then on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from crm_mcp.store import Action, ClaimConditions, DedupKey, Quota, Repeated, Stopped, Store

from .conftest import Clock, begun, sending

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CALLED_OFF = Stopped("not done: the job was called off")


def enrolment(key: str, address: str | None = None) -> DedupKey:
    return DedupKey(key=key, seconds=86400, channel="enrolment", address=address)


def at_most(most: int, since: datetime = EPOCH, address: str | None = None) -> Quota:
    return Quota(message=f"the limit of {most}", channels=("enrolment",), most=most, since=since, address=address)


async def job(store: Store, *keys: str, digest: str = "d1") -> Action:
    """A job that runs, with a mark for each of its items."""
    return await begun(store, sending(*map(enrolment, keys), job=True), digest=digest)


async def turn(
    store: Store, row: Action, given: str, dedup_key: DedupKey, *quotas: Quota, fencing_token: int = 1
) -> Stopped | Repeated | None:
    return await store.actions.claim_item(row.id, given, sending(dedup_key, quotas=quotas), fencing_token=fencing_token)


async def test_an_item_takes_its_mark_once_it_is_known_whose_it_is(store: Store) -> None:
    row = await job(store, "jane@x.example", "L2")

    assert await turn(store, row, "jane@x.example", enrolment("L1", "jane@x.example")) is None
    assert await turn(store, row, "jane@x.example", enrolment("L1", "jane@x.example")) is None, "it is resumed"

    assert set(await store.actions.held_by(["L1", "L2", "jane@x.example"])) == {"L1", "L2"}
    assert await store.limits.counted([at_most(2)]) == "the limit of 2"
    assert await store.limits.counted([at_most(3), at_most(2, address="bob@x.example")]) is None
    assert await store.limits.counted([at_most(1, address="jane@x.example")])


async def test_what_another_action_or_another_item_has_is_refused(store: Store) -> None:
    earlier = await begun(store, sending(enrolment("L1")), digest="d0")
    row = await job(store, "L2", "one@x.example", "two@x.example", "three@x.example")

    other = await turn(store, row, "one@x.example", enrolment("L1"))
    twice = await turn(store, row, "two@x.example", enrolment("L2"))
    itself = await turn(store, row, "L2", enrolment("L2"))

    assert isinstance(other, Repeated)
    assert isinstance(twice, Repeated)
    assert (other.earlier.id, twice.earlier.id, itself) == (earlier.id, row.id, None)


async def test_a_limit_leaves_out_what_the_item_has_counted_for_and_counts_by_the_day_of_its_turn(
    store: Store, clock: Clock
) -> None:
    row = await job(store, "L1", "L2", "L3")

    assert await turn(store, row, "L1", enrolment("L1"), at_most(3)) is None
    assert await turn(store, row, "L2", enrolment("L2"), at_most(2)) == Stopped("the limit of 2")
    clock.advance(days=1)
    today = clock.moment - timedelta(hours=1)
    assert await turn(store, row, "L2", enrolment("L2"), at_most(1, today)) is None
    assert await turn(store, row, "L3", enrolment("L3"), at_most(1, today)) == Stopped("the limit of 1")


async def test_nothing_takes_its_turn_once_it_is_forbidden_or_the_job_is_another_s(
    store: Store, other: Store, clock: Clock
) -> None:
    row, second = await job(store, "L1"), await job(store, "L2", digest="d2")
    clock.advance(seconds=15)
    assert await other.actions.take(["work"])

    assert await turn(store, row, "L1", enrolment("L1")) == CALLED_OFF
    assert await turn(other, row, "L1", enrolment("L1"), fencing_token=2) is None
    await store.limits.set_outbound(False, "jo")
    stopped = await turn(other, row, "L1", enrolment("L1"), fencing_token=2)
    await store.actions.call_off(second.id, "ops", "cancelled", "taken back")

    assert isinstance(stopped, Stopped)
    assert stopped.reason.startswith("kill switch: outbound was turned off by jo")
    assert await turn(store, second, "L2", enrolment("L2")) == CALLED_OFF
    assert await store.actions.claim_item(second.id, "L2", ClaimConditions(), fencing_token=1) == CALLED_OFF
