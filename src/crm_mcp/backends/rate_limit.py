"""The rate limit of a key, kept rather than hit, and shared by all processes of this user that use the key.

Every call is counted in a small file before it leaves. No more calls than the limit allows are started within any
window of its length, wherever the window begins: so it holds for vendors that count by the clock and for those that
count back from now. A call that must wait reserves its moment, so that several do not wake for one place; one that
would wait longer than its caller bears is refused with the seconds. Bulk work is spread out, reserves nothing, and
leaves a few calls to the people who wait for an answer.

The file has the hash of the key, never the key. Where it can't be used, the process goes on counting alone.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import anyio
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from crm_mcp.errors import Busy
from crm_mcp.model import Budget

log = logging.getLogger(__name__)
T = TypeVar("T")

MINUTE, DAY = 60.0, 86_400.0
SLOTS = 240
"""Parts of a window that calls are counted by."""
SLACK = 1 / 60
"""How much longer than the vendor's a window is here: calls that leave evenly may arrive less so."""
RESERVE = 0.03
"""The part of a limit that bulk work leaves to others; at least one call."""
PATIENCE = 15.0
"""Seconds that somebody who waits for an answer bears, and so the furthest ahead that a moment is reserved."""
LONGEST_HOLD = DAY
LOCKED = 1.0
"""Seconds that another process may have the file for itself."""

_SCHEMA = "CREATE TABLE IF NOT EXISTS accounts (account TEXT PRIMARY KEY, state TEXT) WITHOUT ROWID"


@dataclass(frozen=True)
class Limits:
    """How much a vendor takes: documented, or chosen with care where nothing is."""

    per_minute: int
    per_day: int | None = None
    plans: tuple[tuple[int, int], ...] = ()
    """Limits a minute and a day that belong together: the first, once seen, tells the second."""
    bulk_per_minute: int | None = None
    """Calls to bulk endpoints, which count as calls as well."""
    page: int = 100
    """Rows that one page of a list may have."""
    batch: int = 1
    """Records that one bulk call takes."""


@dataclass(frozen=True)
class Patience:
    """How patient a caller is, and whether it is bulk work, which comes after everything else."""

    patience: float = PATIENCE
    bulk: bool = False


_SOMEBODY_WAITS = Patience()
_work: ContextVar[Patience] = ContextVar("work", default=_SOMEBODY_WAITS)


@contextmanager
def bulk_work(patience: float = math.inf) -> Generator[None]:
    """Let the calls made inside come after those of people, and wait up to `patience` seconds for each."""
    token = _work.set(Patience(patience, bulk=True))
    try:
        yield
    finally:
        _work.reset(token)


def unhurried() -> bool:
    """Whether this is bulk work, for which nobody waits with a watch."""
    return _work.get().bulk


class _Count(BaseModel):
    """What was counted against one limit, and what the vendor said of it."""

    model_config = ConfigDict(defer_build=True)

    used: dict[int, int] = {}
    """Calls by slot."""
    limit: int = 0
    """As the vendor gives it; 0 where it has not."""
    held_until: FiniteFloat = 0.0
    refusals: int = 0
    """How often in a row the vendor answered 429."""
    paced_at: FiniteFloat = 0.0
    """When bulk work made its last call."""


class _Account(BaseModel):
    """All that the file has about one key."""

    model_config = ConfigDict(defer_build=True)

    seen: FiniteFloat = 0.0
    """When it was last looked at."""
    counts: dict[str, _Count] = {}

    def of(self, bucket: _Bucket) -> _Count:
        return self.counts.setdefault(bucket.name, _Count())

    def free(self, bucket: _Bucket, at: float, work: Patience) -> float:
        """Return the first moment from `at` on at which this limit has a place."""
        count = self.of(bucket)
        calls = places = bucket.places(count)
        paced = work.bulk and bucket.name == "minute"
        if paced and places > 2:
            places -= max(1, math.floor(places * RESERVE))
        at = max(at, count.held_until)
        slots = sorted(slot for slot in count.used if bucket.frees(slot) > at)
        used = sum(count.used[slot] for slot in slots)
        if paced and used >= places / 2:
            # After a first burst bulk work is spread out, so that a person's call finds a place at any time.
            at = max(at, count.paced_at + bucket.window / calls)
        for slot in slots:
            if used < places:
                break
            used -= count.used[slot]
            at = max(at, bucket.frees(slot))
        return at


@dataclass(frozen=True)
class _Bucket:
    """One limit, as it is documented or set."""

    name: str
    calls: int
    window: float
    most: int | None = None
    """More than this is not used, whatever the vendor allows."""

    @property
    def grain(self) -> float:
        """Seconds that one slot lasts."""
        return self.window / SLOTS

    def slot(self, moment: float) -> int:
        return math.floor(moment / self.grain)

    def frees(self, slot: int) -> float:
        """Return the moment from which the calls of a slot do not count any more."""
        return (slot + 1) * self.grain + self.window * (1 + SLACK)

    def places(self, count: _Count) -> int:
        """Return how many calls a window has, by what the vendor said."""
        calls = count.limit or self.calls
        return min(calls, self.most) if self.most else calls

    def counted(self, count: _Count, at: float) -> int:
        """Return how many calls count at a moment."""
        return sum(calls for slot, calls in count.used.items() if self.frees(slot) > at)

    def add(self, count: _Count, at: float, calls: int) -> None:
        slot = self.slot(at)
        count.used[slot] = count.used.get(slot, 0) + calls

    def tidy(self, count: _Count, now: float, back: float) -> None:
        """Forget what does not count any more, and follow a clock that was set back."""
        slots = math.floor(back / self.grain)
        # What an answer tells of others' calls is compared with ours at the time that its request left.
        oldest = self.slot(now - self.window * (1 + SLACK + PATIENCE / MINUTE)) - 1
        newest = self.slot(now + PATIENCE) + 1
        count.used = {slot - slots: n for slot, n in count.used.items() if oldest <= slot - slots <= newest}
        count.paced_at = min(count.paced_at - back, now)
        count.held_until = min(count.held_until - back, now + LONGEST_HOLD)


class RateLimit:
    """The limits of one key.

    `minute` is the length of the vendor's minute in seconds: emulators may run on a faster clock. `most` calls a minute
    are made at most, also where the vendor says that it allows more.
    """

    def __init__(
        self,
        account: str,
        limits: Limits,
        file: Path,
        *,
        most: int | None = None,
        minute: float = MINUTE,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._account = blake2b(account.encode(), digest_size=16, person=b"crm-mcp pace").hexdigest()
        self._minute = _Bucket("minute", limits.per_minute, minute, most)
        self._buckets = {"minute": self._minute}
        if limits.per_day:
            self._buckets["day"] = _Bucket("day", limits.per_day, DAY / MINUTE * minute)
        if limits.bulk_per_minute:
            self._buckets["bulk"] = _Bucket("bulk", limits.bulk_per_minute, minute)
        self._plans = dict(limits.plans)
        self._file = file
        self._clock = clock
        self._sleep = sleep
        self._db: sqlite3.Connection | None = None
        self._known = ""
        """The account as this process saw it last: what it goes on with where the file fails."""
        self._alone_until = -math.inf
        self._refused = False
        self._told: dict[tuple[int, bool], _Bucket] = {}
        """What answers have said, of calls to endpoints for many records or not, and the limit that it was about."""
        self._spare: dict[str, int] = {}
        """The places that each limit had left after this process's last call."""

    async def slot(self, *, bulk: bool = False, patience: float = math.inf) -> float:
        """Wait until a call may leave, count it, and return the moment that it was counted at.

        `bulk` is a call to an endpoint for many records. A caller bears `patience` seconds, or less by `bulk_work`.

        Raises:
            Busy: it would wait longer than its caller bears.
        """
        work = _work.get()
        patience = min(work.patience, patience)
        buckets = [each for name, each in self._buckets.items() if name != "bulk" or bulk]

        def reserve(account: _Account, now: float) -> tuple[float, float]:
            at = _reserve(account, buckets, now, work, patience)
            self._spare = {
                each.name: each.places(account.of(each)) - each.counted(account.of(each), at) for each in buckets
            }
            return now, at

        while True:
            now, at = self._do(reserve)
            if at <= now:
                return at
            # What is not reserved may come sooner or later than it looks now.
            seconds = min(at - now, self._minute.window) if work.bulk else at - now
            try:
                await self._sleep(seconds)
            except BaseException:
                if not work.bulk:
                    self._do(lambda account, _: _release(account, buckets, at))  # noqa: B023
                raise
            if not work.bulk and self._do(lambda account, now: _still_free(account, buckets, now, at)):  # noqa: B023
                return at
            patience -= seconds

    def learn(self, headers: Mapping[str, str], *, bulk: bool = False, left: float | None = None) -> None:
        """Take in what an answer says of the limit (`X-RateLimit-Limit`, `-Remaining`).

        `left` is the moment at which its request left, as `turn` returned it.
        """
        limit, remaining = (_whole(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining"))
        if not self._refused and self._knew(limit, remaining, bulk):
            return

        def note(account: _Account, now: float) -> None:
            if self._refused:
                for each in account.counts.values():
                    each.refusals = 0
            if not limit:
                return
            bucket = self._meant(account, limit, bulk)
            count = account.of(bucket)
            if limit != count.limit:
                count.limit = limit
                self._told.clear()
                if bucket is self._minute and "day" in self._buckets and (per_day := self._plans.get(limit)):
                    account.of(self._buckets["day"]).limit = per_day
            if remaining is not None and remaining < limit:
                # Of what others use of the key, only that counts here which leaves less than we would take.
                others = limit - remaining - (limit - bucket.places(count))
                if (more := others - bucket.counted(count, now if left is None else left)) > 0:
                    bucket.add(count, now, more)
            self._told[limit, bulk] = bucket

        self._do(note)
        self._refused = False

    def _knew(self, limit: int | None, remaining: int | None, bulk: bool) -> bool:
        """Whether an answer says nothing of the limit that was not known, and nobody else seems to use the key."""
        if not limit:
            return True
        known = self._told.get((limit, bulk))
        left = limit if remaining is None else remaining
        return known is not None and left >= self._spare.get(known.name, math.inf)

    def refused(self, headers: Mapping[str, str], *, bulk: bool = False) -> float:
        """Take in that the vendor answered 429: nobody calls until the moment it gives, or for twice as long as the
        time before where it gives none. Returns the seconds, at most a day."""

        def note(account: _Account, now: float) -> float:
            bucket = self._meant(account, _whole(headers.get("x-ratelimit-limit")) or 0, bulk)
            count, minute = account.of(bucket), self._minute.window
            if now > count.held_until + 2 * minute:
                count.refusals = 0
            if now >= count.held_until:  # several calls under way that are refused at once are one refusal
                count.refusals += 1
            seconds = retry_after(headers, now) or _reset(headers, now)
            seconds = seconds or min(minute / MINUTE * 2.0 ** min(count.refusals - 1, 10), minute)
            count.held_until = max(count.held_until, now + min(seconds, LONGEST_HOLD))
            return count.held_until - now

        self._refused = True
        return self._do(note)

    def budget(self) -> tuple[Budget, ...]:
        """Return what is left now."""

        def left(account: _Account, now: float, bucket: _Bucket) -> Budget:
            count = account.of(bucket)
            calls, used = bucket.places(count), bucket.counted(count, now)
            free = max(0, calls - used) if count.held_until <= now else 0
            frees = max(count.held_until, bucket.frees(max(count.used)) if used else now)
            return Budget(name=bucket.name, limit=calls, remaining=free, resets_in=max(0, math.ceil(frees - now)))

        return self._do(lambda account, now: tuple(left(account, now, each) for each in self._buckets.values()))

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _meant(self, account: _Account, limit: int, bulk: bool) -> _Bucket:
        """Return the bucket that an answer's limit is about."""
        general = (self._minute.calls, account.of(self._minute).limit or self._minute.calls)
        if bulk and "bulk" in self._buckets and limit not in general:
            return self._buckets["bulk"]
        return self._minute

    def _do(self, work: Callable[[_Account, float], T]) -> T:
        """Do something with the account in one transaction; where the shared file fails, with this process's own."""
        if self._clock() >= self._alone_until:
            try:
                return self._shared(work)
            except (OSError, sqlite3.Error) as error:
                if self._alone_until == -math.inf:
                    log.warning("calls are counted by this process alone: %s can't be used (%s)", self._file, error)
                self._alone_until = self._clock() + self._minute.window
                self.close()
        result, self._known = self._done(self._known, work)
        return result

    def _shared(self, work: Callable[[_Account, float], T]) -> T:
        db = self._opened()
        db.execute("BEGIN IMMEDIATE")
        try:
            row = db.execute("SELECT state FROM accounts WHERE account = ?", (self._account,)).fetchone()
            result, known = self._done(str(row[0]) if row else "", work)
            db.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (self._account, known))
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        self._known, self._alone_until = known, -math.inf
        return result

    def _done(self, known: str, work: Callable[[_Account, float], T]) -> tuple[T, str]:
        """Return what a piece of work gives, and the account after it."""
        try:
            account = _Account.model_validate_json(known) if known else _Account()
        except ValidationError:
            account = _Account()  # half written, or another version's
        # Read under the lock: whoever comes later sees a later moment, unless the clock was set back.
        now = self._clock()
        back = account.seen - now
        if back <= self._minute.window * SLACK:
            back = 0.0
        for bucket in self._buckets.values():
            bucket.tidy(account.of(bucket), now, back)
        account.seen = now if back else max(account.seen, now)
        return work(account, now), account.model_dump_json(exclude_defaults=True)

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file.touch(mode=0o600)
            self._db = sqlite3.connect(self._file, timeout=LOCKED, isolation_level=None, check_same_thread=False)
            # What a crash of the machine loses here is a minute's count. No write-ahead log: to begin one takes a lock
            # that SQLite does not wait for, so that of several processes that start together some would fail.
            self._db.execute("PRAGMA journal_mode = PERSIST")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.execute(_SCHEMA)
        return self._db


def _reserve(account: _Account, buckets: Sequence[_Bucket], now: float, work: Patience, patience: float) -> float:
    """Return when a call may leave. That moment is reserved, but for bulk work that would have to wait."""
    at = now
    while (later := max(account.free(each, at, work) for each in buckets)) > at:
        at = later
    if at - now > patience:
        raise Busy("the CRM's limit of calls is used up", retry_after=math.ceil(at - now))
    if work.bulk and at > now:
        return at
    for each in buckets:
        each.add(account.of(each), at, 1)
    if work.bulk:
        account.of(buckets[0]).paced_at = at
    return at


def _release(account: _Account, buckets: Sequence[_Bucket], at: float) -> None:
    for each in buckets:
        used = account.of(each).used
        if used.get(each.slot(at)):
            used[each.slot(at)] -= 1


def _still_free(account: _Account, buckets: Sequence[_Bucket], now: float, at: float) -> bool:
    """Whether a reserved moment holds: where the vendor refused somebody in the meantime, it is given back."""
    if all(account.of(each).held_until <= now for each in buckets):
        return True
    _release(account, buckets, at)
    return False


def _whole(text: str | None) -> int | None:
    found = text.strip() if text else ""
    return int(found) if found.isdecimal() and len(found) < 12 else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that `Retry-After` asks for, given in seconds or as a date; None where there is none, or it is
    over."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text), LONGEST_HOLD) or None
    return _until(_date(text), headers, now)


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until `X-RateLimit-Reset`, which is in Unix seconds; None where it is over."""
    return _until(_whole(headers.get("x-ratelimit-reset")), headers, now)


def _until(moment: float | None, headers: Mapping[str, str], now: float) -> float | None:
    # The vendor's clock is not ours: its own date says what it calls now.
    there = _date(headers.get("date")) or now
    return moment - there if moment is not None and moment > there else None


def _date(text: str | None) -> float | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() if found else None
