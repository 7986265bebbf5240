"""The actions: written before anything happens, ended once, read in the order of asking or of finishing."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Update, and_, bindparam, case, func, insert, literal, select, update

from crm_mcp.errors import Conflict, NotFound
from crm_mcp.store import marks
from crm_mcp.store.audit import Audit
from crm_mcp.store.contacts import keep_written, now_blocked, switched_off
from crm_mcp.store.database import Database
from crm_mcp.store.items import call_off
from crm_mcp.store.reading import Reading, action_of, reads_as
from crm_mcp.store.records import (
    HELD,
    LEASE,
    OPEN,
    Action,
    Address,
    Bound,
    Ended,
    NewAction,
    Repeated,
    Status,
    Stopped,
    Terms,
)
from crm_mcp.store.tables import UtcMillis, actions, counters, items

LATEST = timedelta(hours=24)
"""How long after its time a scheduled action may still start."""
AHEAD = 4 * LEASE
"""A lease that ends later than this was given before the clock was set back: it is none."""

_c = actions.c
# Made once: to build a statement takes longer than to run it.
_ONE = select(actions).where(_c.id == bindparam("wanted"))
_LOCKED = _ONE.with_for_update()
_INSERTED = insert(actions).returning(actions)
_NEXT = (
    update(counters).where(counters.c.name == "finished").values(value=counters.c.value + 1).returning(counters.c.value)
)
_WORKED = ("scheduled", "sending", "running", "unknown")


class Actions(Reading):
    """The actions of all callers, as `owner` works on them."""

    def __init__(self, database: Database, clock: Callable[[], datetime], audit: Audit, owner: str) -> None:
        super().__init__(database, clock)
        self._audit = audit
        self._owner = owner

    # The life of an action

    def propose(self, new: NewAction, ttl: timedelta, status: Status) -> Action:
        """Return the open row of the same caller and digest, or a new one."""
        if status not in {"proposed", "pending_approval"}:
            raise ValueError(f"{status} is no way to propose an action")
        # The search is part of the write: of two at once, one finds the other's.
        with self._writing() as (connection, moment):
            same = and_(_c.caller == new.caller, _c.digest == new.digest, reads_as(status, moment))
            found = connection.execute(select(actions).where(same).order_by(_c.no).limit(1)).mappings().one_or_none()
            if found is not None:
                return action_of(found, moment)
            made = self._insert(connection, new, status, moment, expires_at=moment + ttl)
            self._tell(connection, moment, status, made, self._asked(new))
            return made

    def begin(self, new: NewAction, approved_by: str, terms: Terms) -> Action | Stopped | Repeated:
        """Write a row that starts, or waits for its time."""
        with self._writing() as (connection, moment):
            refused = self._refused(connection, moment, terms, terms.marks, new.connection)
            if refused is not None:
                return refused
            status, values = self._started(terms, moment)
            action = self._insert(connection, new, status, moment, approved_by=approved_by, fence=1, **values)
            self._follow(connection, moment, action, terms)
            return action

    def claim(
        self, action_id: str, approved_by: str | None, terms: Terms, caller: str | None
    ) -> Action | Stopped | Repeated | None:
        """Start what is held, where it is still open."""
        with self._writing() as (connection, moment):
            row = _row(connection, action_id, locked=True)
            if row is None or caller not in {None, row["caller"]} or action_of(row, moment).status not in HELD:
                return None
            if terms.digest not in {None, row["digest"]}:
                return None
            given = {mark.key for mark in terms.marks}
            own = (*terms.marks, *(mark for mark in marks.of(connection, action_id) if mark.key not in given))
            refused = self._refused(connection, moment, terms, own, row["connection"], action_id)
            if refused is not None:
                return refused
            status, values = self._started(terms, moment)
            values |= {"status": status, "fence": _c.fence + 1}
            if approved_by is not None:
                values["approved_by"] = approved_by
            action = action_of(_changed(connection, action_id, values), moment)
            self._follow(connection, moment, action, terms)
            return action

    def note(self, new: NewAction, status: Status, reason: str | None) -> Action:
        """Write a row that has ended."""
        _must_end(status)
        with self._writing() as (connection, moment):
            ended = {"finished_at": moment, "finished_no": _next_finished(connection)}
            action = self._insert(connection, new, status, moment, reason=reason, **ended)
            self._tell(connection, moment, "ended", action, self._asked(new) | _outcome(action))
            return action

    def settle(self, action_id: str, ended: Ended, fence: int | None) -> Action:
        """End an open action, or say what became of an unknown one, or what a job did before it was called off."""
        _must_end(ended.status)
        with self._writing() as (connection, moment):
            row = _present(connection, action_id, locked=True)
            last_word = ended.status == row["status"] == "cancelled" and row["owner"] and fence == row["fence"]
            if not last_word:
                _must_take(row, ended.status, fence, moment)
            action = action_of(_changed(connection, action_id, _ending(connection, ended, moment)), moment)
            if last_word or ended.status in {"done", "unknown"}:
                marks.last_on(connection, action_id, moment)
                marks.release(connection, action_id, ended.released)
            else:
                marks.release(connection, action_id)
            self._tell(connection, moment, "ended", action, _outcome(action))
            return action

    def call_off(
        self,
        action_id: str,
        caller: str | None,
        status: Status,
        reason: str,
        jobs: bool,
        by: str | None = None,
        approved_by: str | None = None,
    ) -> Action | None:
        """End what has not left yet, or stop a running job."""
        if status in {*OPEN, "undone", "done", "unknown"}:
            raise ValueError(f"{status} is no way to call off an action")
        with self._writing() as (connection, moment):
            row = _row(connection, action_id, locked=True)
            if row is None or caller not in {None, row["caller"]}:
                return None
            before = action_of(row, moment).status
            stale = before == "expired" and row["status"] in HELD and status == "expired"
            if before not in HELD and not stale and not (jobs and row["status"] == "running"):
                return None
            ending = _ending(connection, Ended(status, reason=reason), moment)
            ending |= {"approved_by": approved_by} if approved_by else {}
            if row["status"] == "running":  # what it did stays done, and its worker may still say so
                ending = {name: value for name, value in ending.items() if name not in {"owner", "lease_until"}}
            if row["status"] != "running" or not _has_items(connection, action_id):
                marks.release(connection, action_id)
            action = action_of(_changed(connection, action_id, ending), moment)
            call_off(connection, action_id)
            self._tell(connection, moment, "ended", action, _outcome(action) | {"by": by, "approved_by": approved_by})
            return action

    def put_off(self, action_id: str, due: datetime, reason: str, fence: int, late: bool) -> bool:
        """Give a scheduled action another time."""
        with self._writing() as (connection, moment):
            mine = and_(_c.id == action_id, _c.fence == fence, reads_as("scheduled", moment))
            values = {"due_at": due, "reason": reason, "owner": None, "lease_until": None}
            values |= {} if late else {"expires_at": due + LATEST}
            before = _row(connection, action_id)
            if not _changes_one(connection, update(actions).where(mine).values(values)):
                return False
            if not late or before is None or reason != before["reason"]:  # it may be tried every minute of a day
                action = action_of(_present(connection, action_id), moment)
                self._tell(connection, moment, "put_off", action, {"reason": reason, "due_at": due})
            return True

    def look_again(self, action_id: str, at: datetime | None, fence: int) -> bool:
        """Count a look at the history, and set the next."""
        mine = and_(_c.id == action_id, _c.fence == fence, _c.status == "unknown")
        values = {"looks": _c.looks + 1, "due_at": at, "owner": None, "lease_until": None}
        with self.database.claiming() as connection:
            return _changes_one(connection, update(actions).where(mine).values(values))

    def hold(self, action_id: str, fence: int) -> bool:
        """Renew a lease."""
        mine = and_(_c.id == action_id, _c.fence == fence, _c.owner == self._owner)
        with self.database.claiming() as connection:
            lease = update(actions).where(mine).values(lease_until=self._clock() + LEASE)
            return _changes_one(connection, lease)

    def take(self, connections: Sequence[str]) -> Action | None:
        """Claim one action of these connections that nobody works on."""
        with self.database.claiming() as connection:
            moment = self._clock()
            ready = _ready_at(moment)
            query = select(_c.id).where(_c.connection.in_(connections), _c.status.in_(_WORKED), ready <= moment)
            query = query.order_by(ready, _c.no).limit(1)
            found = connection.execute(query.with_for_update(skip_locked=True)).scalar_one_or_none()
            if found is None:
                return None
            lease = {"owner": self._owner, "lease_until": moment + LEASE, "fence": _c.fence + 1}
            row = _changed(connection, found, lease)
            return action_of(row, moment, self.progress(connection, [row]))

    def next_due(self, connections: Sequence[str]) -> datetime | None:
        """Return the earliest time of what waits."""
        with self.database.reading() as connection:
            earliest = select(func.min(_ready_at(self._clock()))).where(
                _c.connection.in_(connections), _c.status.in_(_WORKED)
            )
            return connection.execute(earliest).scalar_one()

    def keep_undo(self, action_id: str, undo: Mapping[str, Any]) -> None:
        """Keep the way back of what is under way."""
        with self._writing() as (connection, _):
            mine = and_(_c.id == action_id, _c.status == "sending")
            connection.execute(update(actions).where(mine).values(undo=dict(undo)))

    def add_written(self, action: Action, writes: Sequence[Address]) -> None:
        """Record addresses that an action under way writes."""
        with self._writing() as (connection, moment):
            keep_written(connection, action, writes, moment)

    def take_turn(self, action_id: str, given: str, terms: Terms, fence: int) -> Stopped | Repeated | None:
        """Test the terms of one item of a job, whose marks count from now on."""
        with self._writing() as (connection, moment):
            row = _present(connection, action_id, locked=True)
            if row["status"] != "running" or row["fence"] != fence:
                return Stopped("not done: the job was called off")
            if any(marks.named_twice(connection, action_id, given, mark.key) for mark in terms.marks):
                return Repeated(action_of(row, moment))
            # What the item has counted for since its job began, it does not count for twice.
            marks.release(connection, action_id, [given, *(mark.key for mark in terms.marks)])
            refused = self._refused(connection, moment, terms, terms.marks, row["connection"], action_id)
            if refused is None:
                marks.renew(connection, action_id, row["connection"], terms.marks, moment)
            return refused

    def let_go(self, action_id: str, keys: Sequence[str]) -> None:
        """Let marks stop no repeat any more."""
        with self.database.claiming() as connection:
            marks.let_go(connection, action_id, keys)

    def mark_undone(self, action_id: str, caller: str) -> bool:
        """Turn done into undone, once. Its place in the order of finishing stays."""
        mine = and_(_c.id == action_id, _c.caller == caller, _c.status == "done")
        return self._turn(action_id, update(actions).where(mine).values(status="undone"), undone=True)

    def unmark_undone(self, action_id: str) -> None:
        """Turn undone into done."""
        undone = and_(_c.id == action_id, _c.status == "undone")
        self._turn(action_id, update(actions).where(undone).values(status="done"), undone=False)

    # What is known of marks

    def held_by(self, keys: Sequence[str]) -> dict[str, Action]:
        """Return who holds these marks."""
        moment = self._clock()
        with self.database.reading() as connection:
            held = marks.holders(connection, keys, moment)
            rows = {each: _present(connection, each) for each in set(held.values())}
            progress = self.progress(connection, list(rows.values()))
        return {key: action_of(rows[each], moment, progress) for key, each in held.items()}

    def keys_of(self, action_id: str) -> tuple[str, ...]:
        """Return the keys of an action's marks."""
        with self.database.reading() as connection:
            return marks.keys_of(connection, action_id)

    def counted(self, bounds: Sequence[Bound]) -> str | None:
        """Return the first limit that is reached."""
        with self.database.reading() as connection:
            return marks.counted(connection, bounds)

    # How it is written

    @contextmanager
    def _writing(self) -> Generator[tuple[Connection, datetime]]:
        # The clock is read under the lock: a call that waited for it can't act on a moment that has passed.
        with self.database.writing() as connection:
            yield connection, self._clock()

    def _refused(
        self,
        connection: Connection,
        moment: datetime,
        terms: Terms,
        own: Sequence[marks.Mark],
        of: str,
        action_id: str = "",
    ) -> Stopped | Repeated | None:
        """Test the terms of a claim, in their order. What is to wait for its time meets the limits only then."""
        off = switched_off(connection) if terms.outward else None
        if off is not None:
            return Stopped(f"kill switch: outbound was {off}")
        said_no = now_blocked(connection, [(mark.channel, mark.address) for mark in own if mark.address])
        if said_no is not None:
            return Stopped(f"do-not-contact: this address was blocked on {said_no}")
        held = marks.holders(connection, [mark.key for mark in own], moment, action_id, terms.resend_of or "")
        for mark in own:
            if mark.key in held:
                row = _present(connection, held[mark.key])
                return Repeated(action_of(row, moment, self.progress(connection, [row])))
        reached = None if terms.due is not None else marks.counted(connection, terms.bounds, own, of)
        return None if reached is None else Stopped(reached)

    def _started(self, terms: Terms, moment: datetime) -> tuple[Status, dict[str, Any]]:
        """Return the status and values of a row that starts, or waits for its time."""
        if terms.due is not None:
            due = {"due_at": terms.due, "expires_at": terms.due + LATEST}
            return "scheduled", {"owner": None, "lease_until": None} | due
        lease = {"owner": self._owner, "lease_until": moment + LEASE}
        return "running" if terms.job else "sending", {"started_at": moment, "due_at": None} | lease

    def _follow(self, connection: Connection, moment: datetime, action: Action, terms: Terms) -> None:
        """Write what goes with a claim: marks, addresses, and the entry of the log."""
        waits = terms.due is not None
        if terms.resend_of is not None:
            marks.pass_on(connection, terms.resend_of, action.id, [mark.key for mark in terms.marks])
        marks.keep(connection, action.id, action.connection, terms.marks, None if waits else moment)
        keep_written(connection, action, terms.writes, moment)
        told = self._asked(action) | {"approved_by": action.approved_by, "resend_of": terms.resend_of}
        self._tell(connection, moment, "scheduled" if waits else "started", action, told | {"due_at": terms.due})

    def _turn(self, action_id: str, change: Update, *, undone: bool) -> bool:
        with self._writing() as (connection, moment):
            if not _changes_one(connection, change):
                return False
            marks.take_back(connection, action_id, undone=undone)
            action = action_of(_present(connection, action_id), moment)
            self._tell(connection, moment, "undone" if undone else "undo_failed", action, {})
            return True

    def _insert(
        self, connection: Connection, new: NewAction, status: Status, moment: datetime, **more: object
    ) -> Action:
        action_id = "a_" + base64.b32encode(secrets.token_bytes(10)).decode().lower()
        given = new.model_dump(include=set(NewAction.model_fields))
        made = {"id": action_id, "status": status, "created_at": moment, "touched": (), "touched_kinds": ""}
        row = connection.execute(_INSERTED, given | made | more).mappings().one()
        return action_of(row, moment)

    def _asked(self, new: NewAction) -> dict[str, Any]:
        """Return what the log keeps of a call. Summaries hold texts, so they are not in it."""
        return {
            "effect": new.effect,
            "arguments": self._audit.redact(new.arguments),
            "lead": new.lead,
            "verdict": new.verdict,
            "rule": new.rule,
            "request": new.request,
        }

    def _tell(
        self, connection: Connection, moment: datetime, what: str, action: Action, more: Mapping[str, Any]
    ) -> None:
        who = {"action": action.id, "caller": action.caller, "connection": action.connection, "tool": action.tool}
        self._audit.append(connection, moment, {"event": what, **who, **more})


def _outcome(action: Action) -> dict[str, Any]:
    spent = None
    if action.started_at is not None and action.finished_at is not None:
        spent = (action.finished_at - action.started_at) // timedelta(milliseconds=1)
    return {"status": action.status, "reason": action.reason, "error": action.error, "duration_ms": spent}


def _must_end(status: Status) -> None:
    if status in OPEN or status == "undone":
        raise ValueError(f"{status} is no way for an action to end")


def _must_take(row: RowMapping, status: Status, fence: int | None, moment: datetime) -> None:
    """Refuse an end that a row can't take."""
    action_id, stored, reads = row["id"], row["status"], action_of(row, moment).status
    look = "look at it in list_actions"
    if fence is not None and row["fence"] != fence:
        raise Conflict(f"the action {action_id} is worked on by another process", look)
    if stored in HELD and reads in HELD and status in {"done", "unknown"}:
        raise Conflict(f"the action {action_id} has not started: {reads}", look)
    stale = stored in HELD and reads == "expired" and status != "expired"
    again = stored == "unknown" and status == "unknown"
    if stale or again or stored not in (*OPEN, "unknown"):
        raise Conflict(f"the action {action_id} has ended already: {reads}", look)


def _ending(connection: Connection, ended: Ended, moment: datetime) -> dict[str, Any]:
    """Return the values of a row that ends so; what is not given stays."""
    given = {
        "summary": ended.summary,
        "reason": ended.reason,
        "error": ended.error,
        "result": ended.result,
        "undo": ended.undo,
        "lead": ended.lead,
        "size": ended.size,
    }
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    values |= {"status": ended.status, "finished_at": moment, "finished_no": _next_finished(connection)}
    values |= {"due_at": ended.look_at, "owner": None, "lease_until": None}
    if ended.touched:
        kinds = "|" + "|".join(sorted({kind for kind, _ in ended.touched})) + "|"
        values |= {"touched": ended.touched, "touched_kinds": kinds}
    return values


def _ready_at(moment: datetime) -> Any:
    """Return when a row needs work: NULL where it never does by itself."""
    free = case(
        (_c.lease_until > moment + AHEAD, literal(moment, UtcMillis)),
        else_=func.coalesce(_c.lease_until, literal(moment, UtcMillis)),
    )
    later = case((and_(_c.lease_until.is_not(None), free > _c.due_at), free), else_=_c.due_at)
    return case((_c.status.in_(("sending", "running")), free), (_c.status.in_(("scheduled", "unknown")), later))


def _row(connection: Connection, action_id: str, *, locked: bool = False) -> RowMapping | None:
    # Leases are renewed without the right to write: what is read to be changed is locked as well.
    query = _LOCKED if locked else _ONE
    return connection.execute(query, {"wanted": action_id}).mappings().one_or_none()


def _changed(connection: Connection, action_id: str, values: Mapping[str, Any]) -> RowMapping:
    """Give a row these values, and return it."""
    return (
        connection.execute(update(actions).where(_c.id == action_id).values(values).returning(actions)).mappings().one()
    )


def _present(connection: Connection, action_id: str, *, locked: bool = False) -> RowMapping:
    row = _row(connection, action_id, locked=locked)
    if row is None:
        raise NotFound(f'there is no action "{action_id[:40]}"', "list_actions shows those there are")
    return row


def _has_items(connection: Connection, action_id: str) -> bool:
    wanted = select(items.c.no).where(items.c.action == action_id).limit(1)
    return connection.execute(wanted).scalar_one_or_none() is not None


def _changes_one(connection: Connection, change: Update) -> bool:
    return connection.execute(change).rowcount == 1


def _next_finished(connection: Connection) -> int:
    # The counter's row stays locked until the commit: numbers become visible in their order, so a reader skips none.
    return connection.execute(_NEXT).scalar_one()
