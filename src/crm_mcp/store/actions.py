"""The actions: written before anything happens, ended once, read in the order of asking or of finishing."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    String,
    Update,
    and_,
    cast,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from crm_mcp.errors import Conflict, InvalidArgument, NotFound
from crm_mcp.store import Action, NewAction, Status
from crm_mcp.store.database import Database
from crm_mcp.store.tables import actions, counters

LOST_AFTER = timedelta(minutes=10)
LOST = "the program ended before the outcome was recorded"
OPEN = ("proposed", "running")
HIGHEST = 2**63 - 1

_c = actions.c


class Actions:
    """The actions of all callers."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self.database = database
        self._clock = clock

    def propose(self, new: NewAction, ttl: timedelta) -> Action:
        """Return the open proposal of the same caller and digest, or a new one."""
        moment = self._clock()
        same = and_(_c.caller == new.caller, _c.digest == new.digest, _reads_as("proposed", moment))
        with (
            self.database.writing() as connection
        ):  # the search is part of the write: of two at once, one finds the other's
            found = connection.execute(select(actions).where(same).order_by(_c.no).limit(1)).mappings().one_or_none()
            if found is not None:
                return _action(found, moment)
            return self._insert(connection, new, "proposed", moment, expires_at=moment + ttl)

    def begin(self, new: NewAction, approved_by: str) -> Action:
        """Write a row that runs."""
        with self._writing() as (connection, moment):
            return self._insert(connection, new, "running", moment, approved_by=approved_by, started_at=moment)

    def note(self, new: NewAction, status: Status, reason: str | None) -> Action:
        """Write a row that has ended."""
        _must_end(status)
        with self._writing() as (connection, moment):
            ended = {"finished_at": moment, "finished_no": _next_finished(connection)}
            return self._insert(connection, new, status, moment, reason=reason, **ended)

    def get(self, action_id: str) -> Action | None:
        """Return one action, as it reads now."""
        with self.database.reading() as connection:
            row = _row(connection, action_id)
        return None if row is None else _action(row, self._clock())

    def claim(self, action_id: str, caller: str, approved_by: str) -> Action | None:
        """Turn a proposal into a running action, where it is still open."""
        with self._writing() as (connection, moment):
            mine = and_(_c.id == action_id, _c.caller == caller, _reads_as("proposed", moment))
            started = {"status": "running", "approved_by": approved_by, "started_at": moment}
            if not _changes_one(connection, update(actions).where(mine).values(started)):
                return None
            return _action(_present(connection, action_id), moment)

    def settle(
        self, action_id: str, status: Status, values: dict[str, Any], touched: tuple[tuple[str, str], ...]
    ) -> Action:
        """End an open action."""
        _must_end(status)
        with self._writing() as (connection, moment):
            before = _action(_present(connection, action_id), moment)
            stale = before.status == "expired" and before.finished_at is None
            lost = before.status == "unknown" and before.finished_at is None
            if before.status not in OPEN and not lost and not (stale and status == "expired"):
                raise Conflict(
                    f"the action {action_id} has ended already: {before.status}", "look at it in list_actions"
                )
            ended = {"status": status, "finished_at": moment, "finished_no": _next_finished(connection)}
            if touched:
                ended |= {"touched": touched, "touched_kinds": _kinds(touched)}
            if status == "done" and before.started_at is None:
                ended["started_at"] = moment
            connection.execute(update(actions).where(_c.id == action_id).values(values | ended))
            return _action(_present(connection, action_id), moment)

    def mark_undone(self, action_id: str, caller: str) -> bool:
        """Turn done into undone, once. Its place in the order of finishing stays."""
        mine = and_(_c.id == action_id, _c.caller == caller, _c.status == "done")
        with self.database.writing() as connection:
            return _changes_one(connection, update(actions).where(mine).values(status="undone"))

    def unmark_undone(self, action_id: str) -> None:
        """Turn undone into done."""
        undone = and_(_c.id == action_id, _c.status == "undone")
        with self.database.writing() as connection:
            connection.execute(update(actions).where(undone).values(status="done"))

    def list_actions(
        self,
        caller: str | None,
        status: Status | None,
        lead: str | Mapping[str, str] | None,
        connection: str | None,
        after: str | None,
        limit: int,
    ) -> tuple[tuple[Action, ...], str | None]:
        """Return a page, newest first."""
        moment = self._clock()
        query = select(actions).order_by(_c.no.desc()).limit(limit + 1)
        if caller is not None:
            query = query.where(_c.caller == caller)
        if status is not None:
            query = query.where(_reads_as(status, moment))
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
        return tuple(_action(row, moment) for row in shown), str(shown[-1]["no"]) if len(rows) > limit else None

    def changes(
        self, since: datetime | None, kinds: tuple[str, ...], of: str | None, after: str | None, limit: int
    ) -> tuple[tuple[Action, ...], str, bool]:
        """Return a page in the order of finishing."""
        moment = self._clock()
        each = (_c.touched_kinds.contains(f"|{kind}|", autoescape=True) for kind in kinds)
        wanted = or_(false(), *each) if kinds else _c.touched_kinds != ""
        query = select(actions).where(_c.status.in_(("done", "undone")), wanted)
        if of is not None:
            query = query.where(_c.connection == of)
        with self.database.reading() as connection:
            newest = _finished(connection)  # read first: rows up to this number are there, whatever finishes meanwhile
            start = self._start(connection, since, after, newest)
            query = query.where(_c.finished_no > start, _c.finished_no <= newest)
            rows = connection.execute(query.order_by(_c.finished_no).limit(limit + 1)).mappings().all()
        shown = tuple(_action(row, moment) for row in rows[:limit])
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

    def imported_since(self, caller: str, since: datetime) -> int:
        """Return the sum of the sizes of the caller's imports since then."""
        mine = and_(_c.caller == caller, _c.tool == "import_leads", _c.started_at >= since)
        query = select(func.coalesce(func.sum(_c.size), 0)).where(mine, _c.status.in_(("running", "done")))
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    @contextmanager
    def _writing(self) -> Generator[tuple[Connection, datetime]]:
        # The clock is read under the lock: a call that waited for it can't act on a moment that has passed.
        with self.database.writing() as connection:
            yield connection, self._clock()

    def _insert(
        self, connection: Connection, new: NewAction, status: Status, moment: datetime, **more: object
    ) -> Action:
        action_id = "a_" + base64.b32encode(secrets.token_bytes(10)).decode().lower()
        given = new.model_dump(include=set(NewAction.model_fields))
        made = {"id": action_id, "status": status, "created_at": moment, "touched": (), "touched_kinds": ""}
        connection.execute(insert(actions).values(given | made | more))
        return _action(_present(connection, action_id), moment)


def _must_end(status: Status) -> None:
    if status in OPEN or status == "undone":
        raise ValueError(f"{status} is no way for an action to end")


def _row(connection: Connection, action_id: str) -> RowMapping | None:
    return connection.execute(select(actions).where(_c.id == action_id)).mappings().one_or_none()


def _present(connection: Connection, action_id: str) -> RowMapping:
    row = _row(connection, action_id)
    if row is None:
        raise NotFound(f'there is no action "{action_id[:40]}"', "list_actions shows those there are")
    return row


def _changes_one(connection: Connection, change: Update) -> bool:
    return connection.execute(change).rowcount == 1


def _reads_as(status: Status, moment: datetime) -> ColumnElement[bool]:
    """Return the condition for rows that `_action` gives this status."""
    stored = _c.status == status
    if status == "proposed":
        return and_(stored, _c.expires_at > moment)
    if status == "running":
        return and_(stored, _c.started_at >= moment - LOST_AFTER)
    if status == "expired":
        return or_(stored, and_(_c.status == "proposed", _c.expires_at <= moment))
    if status == "unknown":
        return or_(stored, and_(_c.status == "running", _c.started_at < moment - LOST_AFTER))
    return stored


def _action(row: RowMapping, moment: datetime) -> Action:
    """Return a row as it reads now: what nobody ended in time has ended by itself."""
    values = {name: row[name] for name in Action.model_fields}
    if row["status"] == "proposed" and row["expires_at"] <= moment:
        values["status"] = "expired"
    elif row["status"] == "running" and row["started_at"] < moment - LOST_AFTER:
        values |= {"status": "unknown", "reason": LOST}
    return Action.model_validate(values)


def _of(lead: str) -> ColumnElement[bool]:
    """Return the condition that an action is about a lead, alone or among others."""
    among = f'["lead",{json.dumps(lead)}]'  # as the column is written
    return or_(_c.lead == lead, cast(_c.touched, String).contains(among, autoescape=True))


def _kinds(touched: tuple[tuple[str, str], ...]) -> str:
    return "|" + "|".join(sorted({kind for kind, _ in touched})) + "|"


def _finished(connection: Connection) -> int:
    return connection.execute(select(counters.c.value).where(counters.c.name == "finished")).scalar_one()


def _next_finished(connection: Connection) -> int:
    # The counter's row stays locked until the commit: numbers become visible in their order, so a reader skips none.
    counted = counters.c.name == "finished"
    connection.execute(update(counters).where(counted).values(value=counters.c.value + 1))
    return _finished(connection)


def _position(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > HIGHEST:
        raise InvalidArgument(f'"{text[:40]}" is no position in this list', "give the one of the page before, as it is")
    return int(text)
