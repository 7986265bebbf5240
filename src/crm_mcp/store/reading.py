"""Actions as they are read: one, a page of a list, the feed of changes. What nobody ended in time reads as ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Text,
    and_,
    bindparam,
    false,
    func,
    or_,
    select,
    type_coerce,
)

from crm_mcp.errors import InvalidArgument, NotFound
from crm_mcp.store import dedup
from crm_mcp.store.dedup import LOST_AFTER
from crm_mcp.store.records import HELD, LOST, Action, Status
from crm_mcp.store.tables import actions, counters, items
from crm_mcp.store.threads import Part, in_thread

HIGHEST = 2**63 - 1

_c = actions.c
# Made once: to build a statement takes longer than to run it.
_ONE = select(actions).where(_c.id == bindparam("wanted"))
_LOCKED = _ONE.with_for_update()
_STORED = tuple(name for name in Action.model_fields if name != "progress")


class Reading(Part):
    """What is known of actions."""

    @in_thread
    def get(self, action_id: str) -> Action | None:
        """Return one action, or None where there is none of that id."""
        with self.database.reading() as connection:
            row = row_of(connection, action_id)
            return None if row is None else action_of(row, self._clock(), self.progress(connection, [row]))

    @in_thread
    def held_by(self, keys: Sequence[str]) -> dict[str, Action]:
        """Return for each of these deduplication keys the action that has, or is having, this effect; without those
        that nobody has."""
        moment = self._clock()
        with self.database.reading() as connection:
            held = dedup.holders(connection, keys, moment)
            rows = {each: present(connection, each) for each in set(held.values())}
            progress = self.progress(connection, list(rows.values()))
        return {key: action_of(rows[each], moment, progress) for key, each in held.items()}

    @in_thread
    def keys_of(self, action_id: str) -> tuple[str, ...]:
        """Return the deduplication keys, also of those that have run out."""
        with self.database.reading() as connection:
            return dedup.keys_of(connection, action_id)

    @in_thread
    def page(
        self,
        *,
        caller: str | None,
        status: Status | None,
        lead: str | Mapping[str, str] | None,
        after: str | None,
        limit: int,
        connection: str | None = None,
    ) -> tuple[tuple[Action, ...], str | None]:
        """Return actions, of one connection or of all, newest first, and the position of what follows (None: the end).

        `lead` is a lead's id, or its id in each connection, because the same id may be another lead elsewhere.

        Raises:
            InvalidArgument: `after` is no position.
        """
        moment = self._clock()
        query = select(actions).order_by(_c.no.desc()).limit(limit + 1)
        if caller is not None:
            query = query.where(_c.caller == caller)
        if status is not None:
            query = query.where(reads_as(status, moment))
        if isinstance(lead, str):
            query = query.where(_of(lead))
        elif lead is not None:
            of_each = (and_(_c.connection == name, _of(each)) for name, each in lead.items())
            query = query.where(or_(false(), *of_each))
        if connection is not None:
            query = query.where(_c.connection == connection)
        if after is not None:
            query = query.where(_c.no < _position(after))
        with self.database.reading() as db:
            rows = db.execute(query).mappings().all()
            shown = rows[:limit]
            progress = self.progress(db, shown)
        page = tuple(action_of(row, moment, progress) for row in shown)
        return page, str(shown[-1]["no"]) if len(rows) > limit else None

    @in_thread
    def changes(
        self,
        *,
        since: datetime | None,
        kinds: tuple[str, ...],
        after: str | None,
        limit: int,
        connection: str | None = None,
    ) -> tuple[tuple[Action, ...], str, bool]:
        """Return finished actions that changed records, oldest first; the next position; whether more wait.

        No `kinds` means all. Whoever goes on from each position sees every change once. `after` wins over `since`;
        without both there are no rows and the position is now.

        Raises:
            InvalidArgument: `after` is no position of this state.
        """
        moment = self._clock()
        each = (_c.touched_kinds.contains(f"|{kind}|", autoescape=True) for kind in kinds)
        wanted = or_(false(), *each) if kinds else _c.touched_kinds != ""
        # Said by what is left out, so that the index on the order of finishing is used, and not that on the status.
        query = select(actions).where(_c.status.not_in(("failed", "unknown")), wanted)
        if connection is not None:
            query = query.where(_c.connection == connection)
        with self.database.reading() as db:
            newest = _finished(db)  # read first: rows up to this number are there, whatever finishes meanwhile
            start = self._start(db, since, after, newest)
            query = query.where(_c.finished_no > start, _c.finished_no <= newest)
            rows = db.execute(query.order_by(_c.finished_no).limit(limit + 1)).mappings().all()
        shown = tuple(action_of(row, moment) for row in rows[:limit])
        if len(rows) > limit:
            return shown, str(rows[limit - 1]["finished_no"]), True
        return shown, str(newest), False

    def _start(self, connection: Connection, since: datetime | None, after: str | None, newest: int) -> int:
        if after is not None:
            start = _position(after)
            if start > newest:
                raise InvalidArgument(f'"{after}" is no position of this state', "start again without a cursor")
            return start
        if since is None:
            return newest
        # A moment becomes a number once, so that a clock that is set back later hides nothing.
        first = connection.execute(select(func.min(_c.finished_no)).where(_c.finished_at >= since)).scalar_one()
        return newest if first is None else first - 1

    def progress(self, connection: Connection, rows: Sequence[RowMapping]) -> dict[str, dict[str, int]]:
        """Return for each job among these that runs how many of its items have ended, of how many."""
        jobs = {row["id"]: row["size"] for row in rows if row["status"] == "running"}
        found: dict[str, dict[str, int]] = {}
        if jobs:
            i = items.c
            query = select(i.action, i.status, func.count()).where(i.action.in_(jobs)).group_by(i.action, i.status)
            for job, status, count in connection.execute(query):
                far = found.setdefault(job, {"done": 0, "total": 0})
                far["total"] += count
                far["done"] += 0 if status in {"waiting", "sending"} else count
        # Its items are made a moment after it has begun: one for each record.
        return {job: found.get(job, {"done": 0, "total": size}) for job, size in jobs.items()}


def row_of(connection: Connection, action_id: str, *, locked: bool = False) -> RowMapping | None:
    """Return the row of an action, `locked` to be changed; None: there is none."""
    # Leases are renewed without the right to write: what is read to be changed is locked as well.
    query = _LOCKED if locked else _ONE
    return connection.execute(query, {"wanted": action_id}).mappings().one_or_none()


def present(connection: Connection, action_id: str, *, locked: bool = False) -> RowMapping:
    """Return the row of an action that must be there."""
    row = row_of(connection, action_id, locked=locked)
    if row is None:
        raise NotFound(f'there is no action "{action_id[:40]}"', "list_actions shows those there are")
    return row


def reads_as(status: Status, moment: datetime) -> ColumnElement[bool]:
    """Return the condition for rows that `action_of` gives this status."""
    stored = _c.status == status
    if status in HELD:
        return and_(stored, _c.expires_at > moment)
    if status in {"sending", "running"}:  # both are under way, and are told as running
        under_way = _c.status.in_(("sending", "running")) if status == "running" else stored
        return and_(under_way, _c.lease_until >= moment - LOST_AFTER)
    if status == "expired":
        return or_(stored, and_(_c.status.in_(HELD), _c.expires_at <= moment))
    if status == "unknown":
        return or_(stored, and_(_c.status.in_(("sending", "running")), _c.lease_until < moment - LOST_AFTER))
    return stored


def action_of(row: RowMapping, moment: datetime, progress: Mapping[str, dict[str, int]] | None = None) -> Action:
    """Return a row as it reads now: what nobody ended in time has ended by itself."""
    values: dict[str, Any] = {name: row[_c[name]] for name in _STORED}
    if row["status"] in HELD and row["expires_at"] <= moment:
        values["status"] = "expired"
    elif row["status"] in {"sending", "running"} and row["lease_until"] < moment - LOST_AFTER:
        values |= {"status": "unknown", "reason": LOST}
    return Action.model_validate(values | {"progress": (progress or {}).get(row["id"])})


def _of(lead: str) -> ColumnElement[bool]:
    """Return the condition that an action is about a lead, alone or among others."""
    among = f'["lead",{json.dumps(lead)}]'  # as the column is written
    return or_(_c.lead == lead, type_coerce(_c.touched, Text).contains(among, autoescape=True))


def _finished(connection: Connection) -> int:
    return connection.execute(select(counters.c.value).where(counters.c.name == "finished")).scalar_one()


def _position(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > HIGHEST:
        raise InvalidArgument(f'"{text[:40]}" is no position in this list', "give the one of the page before, as it is")
    return int(text)
