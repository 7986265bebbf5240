"""The audit log: entries that are only ever added, each sealed together with the seal of the one before it.

The seal is an HMAC with a key that is kept outside the database: who can write the database but has not the key can't
alter, remove, reorder or put in an entry without being found out. What a chain can't show by itself, a cut tail, is
found by whoever kept the seal of an earlier last entry, its head.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple, cast

from pydantic_core import to_jsonable_python
from sqlalchemy import Connection, insert, select

from crm_mcp.store.database import Database
from crm_mcp.store.records import Entry, Verified
from crm_mcp.store.tables import audit, millis, moment_of
from crm_mcp.store.threads import Part, Threads, in_thread

MOST_NAMED = 20
"""How many faults a verification names; the rest it counts."""
AT_ONCE = 10_000

_c = audit.c
_LAST = select(_c.no, _c.mac).order_by(_c.no.desc()).limit(1)
_ADDED = insert(audit)
_NO_TAIL = "that the newest entries were not cut off, or all of it replaced by someone who has the key"
_NO_KEY = "anything: the log is sealed without a key"


class Audit(Part):
    """The log. `key` gives the secret of the seals, `redact` the form in which arguments are written down, and `reword`
    that of reasons."""

    def __init__(
        self,
        threads: Threads,
        database: Database,
        clock: Callable[[], datetime],
        key: Callable[[], bytes],
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        reword: Callable[[str], str] = str,
    ) -> None:
        super().__init__(threads, database, clock)
        self.redact = redact
        self._reword = reword
        self._given = key

    @cached_property
    def _key(self) -> bytes:
        return self._given()

    @cached_property
    def _key_id(self) -> str:
        return sha256(self._key).hexdigest()[:8]

    def append(self, connection: Connection, at: datetime, event: Mapping[str, Any]) -> None:
        """Add an entry in a transaction that has the right to write. What is None is left out."""
        self.extend(connection, at, [event])

    def extend(self, connection: Connection, at: datetime, events: Sequence[Mapping[str, Any]]) -> None:
        """Add entries, in this order, as `append` does."""
        last = connection.execute(_LAST).one_or_none()
        mac, no = ("", 0) if last is None else (last.mac, last.no)
        added: list[dict[str, Any]] = []
        for event in events:
            reason = event.get("reason")
            told = {**event, "reason": self._reword(reason)} if isinstance(reason, str) else event
            body = _canonical({name: value for name, value in told.items() if value is not None})
            no += 1
            mac = seal(self._key, mac, no, millis(at), self._key_id, body)
            added.append({"no": no, "at": millis(at), "key_id": self._key_id, "body": body, "mac": mac})
        connection.execute(_ADDED, added)

    @in_thread
    def record(self, event: Mapping[str, Any]) -> None:
        """Append an entry that belongs to no action: a call that was denied, or a read, where reads are recorded."""
        if isinstance(given := event.get("arguments"), Mapping):
            event = {**event, "arguments": self.redact(cast("Mapping[str, Any]", given))}
        with self.database.writing() as connection:
            self.append(connection, self._clock(), event)

    @in_thread
    def entries(self, since: datetime | None, after: int, limit: int) -> tuple[Entry, ...]:
        """Return entries of the log after number `after`, oldest first."""
        query = select(_c.no, _c.at, _c.body, _c.mac).where(_c.no > after).order_by(_c.no).limit(limit)
        if since is not None:
            query = query.where(_c.at >= millis(since))
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return tuple(Entry(row.no, moment_of(row.at), _read(row.body), row.mac) for row in rows)

    async def verify(self, head: str | None = None) -> Verified:
        """Look for altered, removed and reordered entries; with the `head` of an earlier time also for a cut tail."""
        return await self.threads.run(lambda: self._verified(head), within=math.inf)

    def _verified(self, head: str | None) -> Verified:
        # Seals every entry again, in one state of the log, for as long as that takes.
        with self.database.reading() as connection:
            return _checked(_raw(connection), self._key, self._key_id, head and head.strip().lower())


class _Row(NamedTuple):
    no: int
    at: int
    key_id: str
    body: str
    mac: str


def _canonical(event: Mapping[str, Any]) -> str:
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=to_jsonable_python)
    # JSON writes NUL as an escape; halves of surrogate pairs are no text in any database.
    return text if text.isascii() else text.encode(errors="replace").decode()


def seal(key: bytes, before: str, no: int, at: int, key_id: str, body: str) -> str:
    """Return the seal of an entry that follows one with the seal `before`."""
    sealed = f"{before}|{no}|{at}|{key_id}|{body}".encode(errors="surrogatepass")
    return hmac.digest(key, sealed, "sha256").hex()


def _read(body: str) -> Mapping[str, Any]:
    """Return what an entry says; one that was altered may be anything."""
    try:
        event: Any = json.loads(body)
    except (TypeError, ValueError):
        event = None
    return cast("dict[str, Any]", event) if isinstance(event, dict) else {"unreadable": str(body)}


def _raw(connection: Connection) -> Generator[Iterable[_Row]]:
    """Yield all rows in their order, many at a time, as the database has them."""
    last: int | None = None
    while True:
        query = select(_c.no, _c.at, _c.key_id, _c.body, _c.mac).order_by(_c.no).limit(AT_ONCE)
        rows = connection.execute(query if last is None else query.where(_c.no > last)).all()
        if not rows:
            return
        yield [_Row(*row) for row in rows]
        last = rows[-1].no


def _checked(chunks: Iterable[Iterable[_Row]], key: bytes, key_id: str, head: str | None) -> Verified:
    faults = _Faults()
    foreign: dict[str, list[int]] = {}
    entries, last, before, found = 0, 0, "", False
    for chunk in chunks:
        for row in chunk:
            no, mac = row.no, row.mac
            entries += 1
            if no != last + 1:
                faults.missing(last + 1, no - 1)
            if row.key_id != key_id:
                foreign.setdefault(str(row.key_id), []).append(no)
            elif mac != seal(key, before, no, row.at, row.key_id, row.body):
                faults.unsealed(no, after_gap=no != last + 1)
            found = found or mac == head
            last, before = no, str(mac)
    if head and not found:
        faults.add("the head that was given is not in it: the tail was cut off, or the log replaced")
    for other, numbers in foreign.items():
        # Whoever alters an entry could name another key: what can't be tested is not taken for good.
        faults.add(
            f"{len(numbers)} {'entry' if len(numbers) == 1 else 'entries'}, the first is {numbers[0]}, sealed with "
            f"another key ({other[:8]}): altered, or written by a server with another key; verify with that key"
        )
    return Verified(entries, before if entries else None, faults.told(), _unproven(key, head))


def _unproven(key: bytes, head: str | None) -> tuple[str, ...]:
    unproven = [_NO_KEY] if not key else []
    if not head:
        unproven.append(_NO_TAIL)
    return tuple(unproven)


class _Faults:
    """What is wrong, in words, not more of it than anyone reads."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._more = 0

    def add(self, fault: str) -> None:
        if len(self._named) < MOST_NAMED:
            self._named.append(fault)
        else:
            self._more += 1

    def missing(self, first: int, last: int) -> None:
        if first > last:
            self.add(f"an entry numbered {last + 1} was put in")
        else:
            self.add(f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing")

    def unsealed(self, no: int, *, after_gap: bool) -> None:
        # After a gap the seal can't fit, whatever else was done: the gap has been named.
        if not after_gap:
            self.add(f"entry {no} was altered, moved or put in, or the one before it was")

    def told(self) -> tuple[str, ...]:
        return (*self._named, f"and {self._more} more") if self._more else tuple(self._named)
