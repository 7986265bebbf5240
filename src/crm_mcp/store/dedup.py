"""Marks: what must not happen twice, whom it reached, and the limits that are counted on them.

Everything here is done in a transaction that has the right to write, so that what is tested still holds when the
deduplication key is written: of two equal sends at once, in whatever processes, one finds the other's deduplication
key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    Text,
    and_,
    func,
    insert,
    literal,
    or_,
    select,
    type_coerce,
    update,
)

from crm_mcp.store.records import DedupKey, Quota
from crm_mcp.store.tables import actions, dedup_keys, millis, written

WRITE = "write:"
"""How the keys of writes begin that are one when they are repeated; the others' reach somebody."""
LOST_AFTER = timedelta(minutes=2)
"""How long after its lease an action that nobody ended reads as being done."""
AT_ONCE = 500
"""How many keys one query asks for: databases take only so many values."""

_m = dedup_keys.c
_a = actions.c


def holders(connection: Connection, keys: Sequence[str], moment: datetime, *besides: str) -> dict[str, str]:
    """Return for each key that is held the id of the action that holds it, but for those of `besides`."""
    held: dict[str, str] = {}
    for start in range(0, len(keys), AT_ONCE):
        wanted = _m.key.in_(keys[start : start + AT_ONCE])
        query = (
            select(_m.key, _a.id, _a.creates, _a.status, _a.connection, _a.undo, _a.touched, _a.finished_no)
            .join(actions, _a.id == _m.action)
            .where(wanted, _m.state == "live", _a.id.not_in(besides), _holds(moment))
            .order_by(_m.no.desc())
        )
        for row in connection.execute(query).mappings():
            if row["key"] not in held and not _stale(connection, row):
                held[row["key"]] = row["id"]
    return held


def _holds(moment: datetime) -> ColumnElement[bool]:
    """Return the condition for deduplication keys whose effect is being had, or was had within their time.

    That a deduplication key is dated in the future does not matter: the clock was set back.
    """
    at_work = _a.status.in_(("sending", "running"))  # whatever the clock says: its end is not known
    waiting = and_(_a.status == "scheduled", _a.expires_at > moment)
    recent = and_(_a.status.in_(("done", "unknown")), _m.until > moment)
    # Whom a job had enrolled when it was called off is in the sequence still; it releases the deduplication keys of the
    # others.
    stopped = and_(_a.status == "cancelled", _a.started_at.is_not(None), _m.channel.is_not(None), _m.until > moment)
    return or_(at_work, waiting, recent, stopped)


def _stale(connection: Connection, row: RowMapping) -> bool:
    """Return whether what a write did has been changed since: to do it again is no repeat."""
    if not row["key"].startswith(WRITE) or row["status"] != "done" or not row["touched"]:
        return False
    changed = written(row["touched"][0])  # the others are what it belongs to, as the lead of a note
    later = select(_a.deletes, _a.undo).where(
        _a.connection == row["connection"],
        _a.finished_no > row["finished_no"],
        _a.status == "done",
        type_coerce(_a.touched, Text).contains(changed, autoescape=True),
    )
    return any(_overwrites(row, other) for other in connection.execute(later).mappings())


def _overwrites(row: RowMapping, later: RowMapping) -> bool:
    """Return whether what was done later to the same record is in the way of what was done first."""
    mine: Mapping[str, Any] = row["undo"] or {}
    other: Mapping[str, Any] = later["undo"] or {}
    if "after" not in mine and row["creates"]:
        return bool(later["deletes"])  # done again while it is there, it would be there twice
    if "after" in mine and "after" in other and mine.get("verb") == other.get("verb"):
        return not set(mine["after"]).isdisjoint(other["after"])
    return True


def counted(connection: Connection, quotas: Iterable[Quota], own: Sequence[DedupKey] = (), by: str = "") -> str | None:
    """Return the first quota that would be exceeded, in words.

    `own` are the deduplication keys that are about to count, in the connection `by`; without one that does it is as if
    one did.
    """
    for quota in quotas:
        if quota.caller is not None and quota.tool is not None:
            if written_by(connection, quota.caller, quota.tool, quota.since) + quota.size > quota.most:
                return quota.message
            continue
        new = sum(1 for dedup_key in own if _within(quota, dedup_key, by))
        wanted = and_(_m.state != "released", _m.channel.in_(quota.channels), _m.at >= quota.since)
        if quota.connection is not None:
            wanted = and_(wanted, _m.connection == quota.connection)
        if quota.address is not None:
            wanted = and_(wanted, _m.address == quota.address)
        found = connection.execute(select(func.count()).select_from(dedup_keys).where(wanted)).scalar_one()
        if found + max(new, 1) > quota.most:
            return quota.message
    return None


def written_by(connection: Connection, caller: str, tool: str, since: datetime) -> int:
    """Return how many records a caller's actions of a tool have written, or are writing, since then: also those that
    were taken back."""
    mine = and_(_a.caller == caller, _a.tool == tool, _a.started_at >= since)
    query = select(func.coalesce(func.sum(_a.size), 0)).where(mine, _a.status != "failed")
    return int(connection.execute(query).scalar_one())


def _within(quota: Quota, dedup_key: DedupKey, connection: str) -> bool:
    return (
        dedup_key.channel in quota.channels
        and quota.connection in {None, connection}
        and quota.address in {None, dedup_key.address}
    )


def keep(connection: Connection, action_id: str, of: str, given: Sequence[DedupKey], at: datetime | None) -> None:
    """Give an action its deduplication keys, and start those that it has. Without a moment they only wait for it."""
    present = set(connection.execute(select(_m.key).where(_m.action == action_id)).scalars())
    if at is not None and present:
        mine = and_(_m.action == action_id, _m.state == "live")
        connection.execute(update(dedup_keys).where(mine).values(at=at, until=_end(at)))
        # What a resend has taken while this one waited is its own again: the claim has found nobody who holds it.
        passed = and_(_m.action == action_id, _m.state == "passed")
        lost = set(connection.execute(select(_m.key).where(passed)).scalars())
        renew(connection, action_id, of, [dedup_key for dedup_key in given if dedup_key.key in lost], at)
    rows: dict[str, dict[str, Any]] = {
        dedup_key.key: {
            **dedup_key.model_dump(),
            "action": action_id,
            "connection": of,
            "at": at,
            "until": None if at is None else at + timedelta(seconds=dedup_key.seconds),
            "state": "live",
        }
        for dedup_key in given
        if dedup_key.key not in present
    }
    if rows:
        connection.execute(insert(dedup_keys), list(rows.values()))


def named_twice(connection: Connection, action_id: str, given: str, key: str) -> bool:
    """Whether a job has this deduplication key for another of its items than the one that began with the deduplication
    key `given`."""
    mine = and_(_m.action == action_id, _m.state == "live", _m.key.in_((given, key)))
    return given != key and len(set(connection.execute(select(_m.key).where(mine)).scalars())) == 2


def renew(connection: Connection, action_id: str, of: str, given: Sequence[DedupKey], at: datetime) -> None:
    """Give an action these deduplication keys from now on, also those that it has had before."""
    for dedup_key in given:
        until = at + timedelta(seconds=dedup_key.seconds)
        values = dedup_key.model_dump() | {"at": at, "until": until, "state": "live", "passed_to": None}
        mine = and_(_m.action == action_id, _m.key == dedup_key.key)
        if connection.execute(update(dedup_keys).where(mine).values(values)).rowcount == 0:
            connection.execute(insert(dedup_keys).values(values | {"action": action_id, "connection": of}))


def pass_on(connection: Connection, earlier: str, later: str, keys: Sequence[str]) -> None:
    """Let a resend have those of the earlier action, which still counts for the limits."""
    for start in range(0, len(keys), AT_ONCE):
        his = and_(_m.action == earlier, _m.state == "live", _m.key.in_(keys[start : start + AT_ONCE]))
        connection.execute(update(dedup_keys).where(his).values(state="passed", passed_to=later))


def last_on(connection: Connection, action_id: str, end: datetime) -> None:
    """Let the time in which a repeat is recognised begin at the end of the action."""
    mine = and_(_m.action == action_id, _m.state != "released", or_(_m.until.is_(None), _m.until < _end(end)))
    connection.execute(update(dedup_keys).where(mine).values(until=_end(end)))


def release(connection: Connection, action_id: str, keys: Sequence[str] | None = None) -> None:
    """Forget effects that did not happen, all or those of `keys`; what a resend had taken goes back."""
    mine = _m.action == action_id
    back = and_(_m.passed_to == action_id, _m.state == "passed")
    if keys is None:
        _release(connection, mine, back)
        return
    for start in range(0, len(keys), AT_ONCE):
        some = _m.key.in_(keys[start : start + AT_ONCE])
        _release(connection, and_(mine, some), and_(back, some))


def _release(connection: Connection, mine: ColumnElement[bool], back: ColumnElement[bool]) -> None:
    connection.execute(update(dedup_keys).where(mine).values(state="released"))
    connection.execute(update(dedup_keys).where(back).values(state="live", passed_to=None))


def let_go(connection: Connection, action_id: str, keys: Sequence[str]) -> None:
    """Let these deduplication keys of an action stop no repeat any more; they still count for the limits."""
    for start in range(0, len(keys), AT_ONCE):
        mine = and_(_m.action == action_id, _m.state == "live", _m.key.in_(keys[start : start + AT_ONCE]))
        connection.execute(update(dedup_keys).where(mine).values(state="over"))


def take_back(connection: Connection, action_id: str, *, undone: bool) -> None:
    """Let an undone action stop no repeat; with `undone` false, let it stop them again."""
    old, new = ("live", "undone") if undone else ("undone", "live")
    mine = and_(_m.action == action_id, _m.state == old)
    connection.execute(update(dedup_keys).where(mine).values(state=new))


def of(connection: Connection, action_id: str) -> tuple[DedupKey, ...]:
    """Return the deduplication keys of an action that still stop a repeat."""
    mine = and_(_m.action == action_id, _m.state == "live")
    query = select(_m.key, _m.seconds, _m.channel, _m.address).where(mine).order_by(_m.no)
    return tuple(DedupKey.model_validate(dict(row)) for row in connection.execute(query).mappings())


def keys_of(connection: Connection, action_id: str) -> tuple[str, ...]:
    """Return the deduplication keys."""
    return tuple(connection.execute(select(_m.key).where(_m.action == action_id).order_by(_m.no)).scalars())


def _end(start: datetime) -> ColumnElement[int]:
    return literal(millis(start), BigInteger) + _m.seconds * 1000
