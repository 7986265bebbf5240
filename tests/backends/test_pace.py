"""The limit of calls is kept in every window, used nearly whole, and shared fairly. The clock here is a made one."""

from __future__ import annotations

import json
import math
import sqlite3
import tempfile
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from types import CoroutineType
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_mcp.backends.rate_limit import MINUTE, PATIENCE, SLACK, SLOTS, Limits, RateLimit, bulk_work
from crm_mcp.errors import Busy

NOON = 1_790_000_000.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    """A clock that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = NOON
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def alone(work: Callable[[], CoroutineType[Any, Any, None]]) -> None:
    """Run a coroutine function that never really waits."""
    try:
        work().send(None)
    except StopIteration:
        return
    raise AssertionError("it waited for something real")


def paced(folder: Path, clock: Clock, limits: Limits, **more: Any) -> RateLimit:
    return RateLimit("a vendor and a key", limits, folder / "pace.sqlite3", clock=clock, sleep=clock.sleep, **more)


def most_in_a_window(moments: list[float], seconds: float) -> int:
    """Return how many moments stand in the fullest window of so many seconds, wherever it begins."""
    ordered = sorted(moments)
    return max((bisect_right(ordered, each + seconds - 1e-6) - n for n, each in enumerate(ordered)), default=0)


# What never happens


@settings(max_examples=60, deadline=None)
@given(
    pauses=st.lists(
        st.one_of(st.just(0.0), st.floats(0, 0.5), st.floats(0, 20), st.floats(50, 130)), min_size=20, max_size=90
    ),
    per_minute=st.integers(1, 12),
    per_day=st.one_of(st.none(), st.integers(15, 40)),
    bulk=st.one_of(st.none(), st.integers(1, 4)),
    kinds=st.randoms(use_true_random=False),
)
def test_no_window_ever_has_more_calls_than_the_limit(
    pauses: list[float], per_minute: int, per_day: int | None, bulk: int | None, kinds: Any
):
    clock = Clock()
    left: list[float] = []
    left_in_bulk: list[float] = []

    async def call() -> None:
        for pause in pauses:
            clock.now += pause
            patience = kinds.choice([PATIENCE, 200_000.0])
            many = kinds.random() < 0.3
            try:
                if kinds.random() < 0.5:
                    with bulk_work(patience):
                        await pace.slot(bulk=many)
                else:
                    await pace.slot(bulk=many)
            except Busy as busy:
                clock.now += kinds.choice([0.1, busy.retry_after])
                continue
            left.append(clock.now)
            if many:
                left_in_bulk.append(clock.now)

    with tempfile.TemporaryDirectory() as folder:
        pace = paced(Path(folder), clock, Limits(per_minute=per_minute, per_day=per_day, bulk_per_minute=bulk))
        alone(call)
        pace.close()

    assert most_in_a_window(left, MINUTE) <= per_minute
    assert most_in_a_window(left, 86_400) <= (per_day or math.inf)
    assert most_in_a_window(left_in_bulk, MINUTE) <= (bulk or math.inf)


@settings(max_examples=40, deadline=None)
@given(arrivals=st.lists(st.floats(0, 90), min_size=5, max_size=60), per_minute=st.integers(1, 10))
def test_callers_that_wait_at_once_never_leave_for_one_place(arrivals: list[float], per_minute: int):
    """Every reservation is made before any of the calls leaves, as by callers that all wait."""
    clock = Clock()
    left: list[float] = []

    async def not_yet(_: float) -> None: ...

    async def call() -> None:
        for arrival in sorted(arrivals):
            clock.now = NOON + arrival
            try:
                left.append(await pace.slot())
            except Busy:
                continue

    with tempfile.TemporaryDirectory() as folder:
        pace = RateLimit("key", Limits(per_minute=per_minute), Path(folder) / "pace", clock=clock, sleep=not_yet)
        alone(call)
        pace.close()

    assert most_in_a_window(left, MINUTE) <= per_minute


# What is got out of it


@pytest.mark.parametrize("limit", [30, 60, 100, 300])
@pytest.mark.parametrize("bulk", [False, True])
async def test_who_wants_all_gets_95_percent_of_the_limit(tmp_path: Path, limit: int, bulk: bool):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=limit))
    calls = 0

    with bulk_work():
        if bulk:
            while clock.now < NOON + 1200:
                await pace.slot()
                calls += 1
    while not bulk and clock.now < NOON + 1200:
        try:
            await pace.slot()
        except Busy as busy:
            clock.now += min(1.0, busy.retry_after)
            continue
        calls += 1

    assert calls >= limit * 20 * 0.95


async def test_a_window_is_longer_than_the_vendors_by_what_a_call_may_be_late(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=1))
    await pace.slot()
    clock.now += 50

    await pace.slot()

    assert MINUTE * (1 + SLACK) <= clock.now - NOON <= MINUTE * (1 + SLACK + 1 / SLOTS) + 1e-6


# Who goes first


async def test_bulk_work_leaves_places_to_people(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=100))
    with bulk_work():
        while not clock.slept or clock.now < NOON + 200:
            await pace.slot()
    before = clock.now

    for _ in range(3):
        await pace.slot()

    assert clock.now == before


async def test_a_person_goes_before_bulk_work_that_waits(tmp_path: Path):
    """Bulk work that wakes for a place finds it taken by who asked in the meantime, and waits on."""
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=2))
    served: list[str] = []
    asked = False

    async def sleep(seconds: float) -> None:
        nonlocal asked
        if not asked:
            asked = True
            clock.now += 50
            await pace_of_a_person.slot()
            served.append("a person")
            seconds -= 50
        await clock.sleep(seconds)

    pace_of_a_person = paced(tmp_path, clock, Limits(per_minute=2))
    bulk = RateLimit("a vendor and a key", Limits(per_minute=2), tmp_path / "pace.sqlite3", clock=clock, sleep=sleep)
    await pace.slot()
    await pace.slot()

    with bulk_work():
        await bulk.slot()
    served.append("bulk")

    assert served == ["a person", "bulk"]


async def test_bulk_work_is_spread_out_after_its_first_burst(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=60))
    left: list[float] = []

    with bulk_work():
        for _ in range(60):
            await pace.slot()
            left.append(clock.now - NOON)

    assert left[28] == 0
    assert all(0.9 < later - earlier < 1.6 for earlier, later in pairwise(left[30:56]))


# Patience


async def test_a_wait_beyond_patience_is_refused_with_its_seconds_and_takes_no_place(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=3))
    for _ in range(3):
        await pace.slot()
    clock.now += 10

    with pytest.raises(Busy) as refused:
        await pace.slot()

    frees = MINUTE * (1 + SLACK) + MINUTE / SLOTS
    assert refused.value.retry_after == math.ceil(frees - 10)
    assert refused.value.wrote is False
    assert clock.slept == []
    clock.now += refused.value.retry_after
    for _ in range(3):
        await pace.slot()
    assert clock.slept == []


async def test_a_callers_own_patience_counts_where_it_is_less(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=1))
    await pace.slot()
    clock.now += 55

    with pytest.raises(Busy) as refused:
        await pace.slot(patience=2.0)
    await pace.slot(patience=7.0)

    assert refused.value.retry_after == 7


async def test_bulk_work_does_not_wait_longer_in_all_than_it_bears(tmp_path: Path):
    """Others take the place again and again."""
    clock = Clock()
    pace, others = (paced(tmp_path, clock, Limits(per_minute=1)) for _ in range(2))

    async def outrun(seconds: float) -> None:
        clock.now += seconds
        await others.slot()

    bulk = RateLimit("a vendor and a key", Limits(per_minute=1), tmp_path / "pace.sqlite3", clock=clock, sleep=outrun)
    await pace.slot()

    with bulk_work(150), pytest.raises(Busy):
        await bulk.slot()

    assert 120 < clock.now - NOON <= 150


async def test_a_cancelled_wait_gives_its_place_back(tmp_path: Path):
    clock = Clock()

    async def never(_: float) -> None:
        await anyio.sleep_forever()

    pace = paced(tmp_path, clock, Limits(per_minute=1))
    waiting = RateLimit("a vendor and a key", Limits(per_minute=1), tmp_path / "pace.sqlite3", clock=clock, sleep=never)
    await pace.slot()
    clock.now += 50
    with anyio.move_on_after(0.01):
        await waiting.slot()

    await pace.slot()

    assert clock.now - NOON < 62


async def test_a_place_that_was_given_back_twice_is_one_place(tmp_path: Path):
    """A reservation that the file has lost in the meantime leaves no calls below nothing."""
    clock = Clock()
    file = tmp_path / "pace.sqlite3"

    async def forget(_: float) -> None:
        with sqlite3.connect(file) as db:
            db.execute("DELETE FROM accounts")
        db.close()
        raise TimeoutError

    pace = paced(tmp_path, clock, Limits(per_minute=1))
    waiting = RateLimit("a vendor and a key", Limits(per_minute=1), file, clock=clock, sleep=forget)
    await pace.slot()
    clock.now += 50
    with pytest.raises(TimeoutError):
        await waiting.slot()

    await pace.slot()

    with pytest.raises(Busy):
        await pace.slot()


# What the vendor says


def used(remaining: int, limit: int = 100) -> dict[str, str]:
    return {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(remaining)}


async def test_another_limit_is_learned_and_kept_for_all(tmp_path: Path):
    clock = Clock()
    limits = Limits(per_minute=100, per_day=5000, plans=((100, 5000), (500, 50_000)))
    pace = paced(tmp_path, clock, limits)
    await pace.slot()

    pace.learn(used(499, 500))

    shown = {each.name: each.limit for each in paced(tmp_path, clock, limits).budget()}
    assert shown == {"minute": 500, "day": 50_000}


async def test_what_the_settings_allow_is_not_raised_by_the_vendor(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=20), most=20)
    await pace.slot()

    pace.learn(used(60))

    (minute,) = pace.budget()
    # Others have made 39 calls of a hundred, of which we would not take 80.
    assert (minute.limit, minute.remaining) == (20, 19)


async def test_what_others_use_of_the_key_counts_as_well(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=100))
    await pace.slot()
    await pace.slot()

    pace.learn(used(40))

    assert pace.budget()[0].remaining == 40
    pace.learn(used(40))
    assert pace.budget()[0].remaining == 40


async def test_a_slow_answer_is_compared_with_the_calls_at_its_time(tmp_path: Path):
    """What has left the window since is no call of others."""
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=100))
    for _ in range(50):
        await pace.slot()
    clock.now += 58
    left = await pace.slot()
    clock.now += 8

    pace.learn(used(49), left=left)

    assert pace.budget()[0].remaining == 99


async def test_a_bulk_answer_tells_of_the_bulk_limit(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=100, bulk_per_minute=10))
    await pace.slot(bulk=True)

    pace.learn(used(3, 8), bulk=True)
    pace.learn(used(90, 100), bulk=True)

    shown = {each.name: (each.limit, each.remaining) for each in pace.budget()}
    assert shown == {"minute": (100, 90), "bulk": (8, 3)}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-limit": "-5"},
        {"x-ratelimit-limit": "many", "x-ratelimit-remaining": "few"},
        {"x-ratelimit-limit": "0", "x-ratelimit-remaining": "0"},
        {"x-ratelimit-limit": "9" * 5000, "x-ratelimit-remaining": "1"},
        {"x-ratelimit-remaining": "0"},
        {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "11"},
        {},
    ],
)
async def test_headers_without_sense_change_nothing(tmp_path: Path, headers: dict[str, str]):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=10))
    await pace.slot()

    pace.learn(headers)

    assert (pace.budget()[0].limit, pace.budget()[0].remaining) == (10, 9)


def in_http(moment: float) -> str:
    return format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": in_http(NOON + 9)}, 9),
        ({"retry-after": in_http(NOON - 291), "date": in_http(NOON - 300)}, 9),  # a vendor whose clock is slow
        ({"retry-after": in_http(NOON + 9).replace("GMT", "-0000")}, 9),
        ({"x-ratelimit-reset": str(int(NOON) + 12)}, 12),
        ({"retry-after": "5", "x-ratelimit-reset": str(int(NOON) + 12)}, 5),
        ({}, 1),
        ({"retry-after": "0"}, 1),
        ({"retry-after": "-1"}, 1),
        ({"retry-after": "soon"}, 1),
        ({"retry-after": "٣"}, 3),
        ({"retry-after": in_http(NOON - 60)}, 1),
        ({"x-ratelimit-reset": str(int(NOON) - 12)}, 1),
        ({"x-ratelimit-reset": "30"}, 1),
        ({"x-ratelimit-reset": "9" * 5000}, 1),
        ({"retry-after": "3600"}, 3600),
        ({"x-ratelimit-reset": str(int(NOON) + 3600)}, 3600),
        ({"retry-after": "1000000000"}, 86_400),
        ({"retry-after": "9" * 400}, 86_400),
    ],
)
async def test_a_refusal_is_heeded_for_as_long_as_it_asks(tmp_path: Path, headers: dict[str, str], seconds: float):
    clock = Clock()
    pace, other = (paced(tmp_path, clock, Limits(per_minute=100)) for _ in range(2))
    await pace.slot()

    told = pace.refused(headers)

    assert told == pytest.approx(seconds)
    assert other.budget()[0].remaining == 0
    with bulk_work():
        await other.slot()
    assert clock.now - NOON == pytest.approx(seconds)


async def test_refusals_that_give_no_time_double_the_wait_up_to_a_minute(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=100))
    waits: list[float] = []

    with bulk_work():
        for _ in range(8):
            await pace.slot()
            waits.append(pace.refused({}))
        await pace.slot()
    pace.learn({})

    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    assert pace.refused({}) == pytest.approx(1)


async def test_calls_under_way_that_are_refused_at_once_are_one_refusal(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=100))

    waits = [pace.refused({}) for _ in range(10)]

    assert waits == pytest.approx([1.0] * 10)


async def test_a_shorter_wait_does_not_undo_a_longer_one(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=100))
    pace.refused({"retry-after": "60"})

    assert pace.refused({"retry-after": "2"}) == pytest.approx(60)


async def test_who_waits_for_a_place_heeds_a_refusal_that_came_in_the_meantime(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=1))
    told: list[float] = []

    async def sleep(seconds: float) -> None:
        if not told:
            told.append(pace.refused({"retry-after": "14"}))
        await clock.sleep(seconds)

    waiting = RateLimit("a vendor and a key", Limits(per_minute=1), tmp_path / "pace.sqlite3", clock=clock, sleep=sleep)
    await pace.slot()
    clock.now += 55
    asked = clock.now

    await waiting.slot()

    assert clock.now - asked == pytest.approx(14)
    assert pace.budget()[0].remaining == 0


async def test_a_refusal_of_bulk_calls_holds_no_others(tmp_path: Path):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=100, bulk_per_minute=10))
    pace.refused({"retry-after": "30"}, bulk=True)

    await pace.slot()

    assert clock.slept == []
    with pytest.raises(Busy):
        await pace.slot(bulk=True)


# Clocks that jump


@settings(max_examples=60, deadline=None)
@given(
    jumps=st.lists(st.sampled_from([3600.0, -3600.0, -45.0, 45.0, -5.0, -0.3, 0.0]), min_size=1, max_size=5),
    calls=st.integers(1, 8),
    hold=st.booleans(),
)
def test_a_clock_that_jumps_blocks_nobody_longer_than_a_window(jumps: list[float], calls: int, hold: bool):
    clock = Clock()
    waited: list[float] = []

    async def call() -> None:
        for jump in jumps:
            for _ in range(calls):
                try:
                    await pace.slot()
                except Busy:
                    break
            if hold:
                pace.refused({"retry-after": "20"})
            clock.now += jump
            before = clock.now
            with bulk_work():
                await pace.slot()
            waited.append(clock.now - before)

    with tempfile.TemporaryDirectory() as folder:
        pace = paced(Path(folder), clock, Limits(per_minute=4))
        alone(call)
        pace.close()

    assert max(waited) <= MINUTE * (1 + 2 * SLACK + 2 / SLOTS)


@settings(max_examples=60, deadline=None)
@given(pauses=st.lists(st.floats(0, 30), min_size=10, max_size=40), backs=st.lists(st.floats(0, 4000), min_size=40))
def test_a_clock_that_is_set_back_lets_no_more_calls_through(pauses: list[float], backs: list[float]):
    clock = Clock()
    gone = 0.0
    left: list[float] = []

    async def call() -> None:
        nonlocal gone
        for number, pause in enumerate(pauses):
            clock.now += pause
            with bulk_work():
                await pace.slot()
            left.append(clock.now + gone)
            if number % 5 == 4:
                clock.now -= backs[number]
                gone += backs[number]

    with tempfile.TemporaryDirectory() as folder:
        pace = paced(Path(folder), clock, Limits(per_minute=4))
        alone(call)
        pace.close()

    assert most_in_a_window(left, MINUTE) <= 4


# The file


async def test_the_file_has_no_key_and_is_nobody_elses(tmp_path: Path):
    file = tmp_path / "deep" / "pace.sqlite3"
    pace = RateLimit("dialsheet https://crm.example ds_canary_key", Limits(per_minute=5), file)
    await pace.slot()
    pace.close()

    assert b"canary" not in b"".join(each.read_bytes() for each in file.parent.iterdir())
    assert file.stat().st_mode & 0o077 == 0


async def test_keys_do_not_share_a_limit(tmp_path: Path):
    clock = Clock()
    one = paced(tmp_path, clock, Limits(per_minute=1))
    other = RateLimit("another key", Limits(per_minute=1), tmp_path / "pace.sqlite3", clock=clock, sleep=clock.sleep)
    await one.slot()

    await other.slot()

    assert clock.slept == []


async def fails_over(pace: RateLimit, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Hold that a pace counts on by itself, says so once, and never fails."""
    for _ in range(3):
        await pace.slot()
    pace.learn({})
    pace.refused({"retry-after": "1"})
    await pace.slot()
    with pytest.raises(Busy):
        await pace.slot()
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "this process alone" in caplog.text
    clock.now += 62
    await pace.slot()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("broken", ["no database", "a folder", "no folder for it", "another schema"])
async def test_a_file_that_can_not_be_used_is_done_without(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
):
    clock = Clock()
    file = tmp_path / "pace.sqlite3"
    match broken:
        case "no database":
            file.write_text("This is no database. " * 500)
        case "a folder":
            file.mkdir()
        case "another schema":
            with sqlite3.connect(file) as db:
                db.execute("CREATE TABLE accounts (number INTEGER)")
            db.close()
        case _:
            (tmp_path / "file").write_text("")
            file = tmp_path / "file" / "pace.sqlite3"
    pace = RateLimit("key", Limits(per_minute=4), file, clock=clock, sleep=clock.sleep)

    await fails_over(pace, clock, caplog)


async def test_a_locked_file_is_done_without_until_it_is_free(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    clock = Clock()
    pace, other = (paced(tmp_path, clock, Limits(per_minute=4)) for _ in range(2))
    await pace.slot()
    with sqlite3.connect(tmp_path / "pace.sqlite3", isolation_level=None) as locking:
        locking.execute("BEGIN EXCLUSIVE")
        await pace.slot()
        await pace.slot()
        # It goes on from what it knew.
        assert pace.budget()[0].remaining == 1
        locking.execute("ROLLBACK")
    locking.close()
    clock.now += 62

    await pace.slot()

    assert other.budget()[0].remaining == 3
    assert [each.levelname for each in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    "state",
    [
        "",
        "{",
        "[]",
        '{"counts": {"minute": {"used": {"x": 1}}}}',
        '{"seen": NaN}',
        '{"seen": 1e300}',
        json.dumps({"seen": NOON + 10**7, "counts": {"minute": {"held_until": NOON + 10**9}}}),
        json.dumps({"seen": NOON, "counts": {"minute": {"used": {str(4 * int(NOON) + 10**6): 10**6}}}}),
    ],
)
async def test_a_file_with_nonsense_in_it_holds_nobody_up(tmp_path: Path, state: str):
    clock = Clock()
    pace = paced(tmp_path, clock, Limits(per_minute=4))
    await pace.slot()
    with sqlite3.connect(tmp_path / "pace.sqlite3") as db:
        db.execute("UPDATE accounts SET state = ?", (state,))
    db.close()

    with bulk_work():
        await pace.slot()

    assert clock.now - NOON <= 86_400 if "held" in state else clock.slept == []


async def test_a_call_costs_a_small_part_of_a_millisecond(tmp_path: Path):
    import time

    pace = RateLimit("key", Limits(per_minute=1_000_000, per_day=1_000_000), tmp_path / "pace.sqlite3")
    spent: list[float] = []

    for _ in range(200):
        began = time.perf_counter()
        left = await pace.slot()
        pace.learn({"x-ratelimit-limit": "1000000", "x-ratelimit-remaining": "999999"}, left=left)
        spent.append(time.perf_counter() - began)

    assert sorted(spent)[len(spent) // 2] < 0.001


async def test_an_answer_that_says_nothing_is_left_is_heard_among_many_that_say_nothing_new(tmp_path: Path):
    one = paced(tmp_path, Clock(), Limits(per_minute=10))

    for left in (9, 8, 7):
        await one.slot()
        one.learn({"x-ratelimit-limit": "10", "x-ratelimit-remaining": str(left)})
    await one.slot()
    one.learn({"x-ratelimit-limit": "10", "x-ratelimit-remaining": "0"})

    assert one.budget()[0].remaining == 0
