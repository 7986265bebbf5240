"""The actions: written before anything happens, ended once, read in the order of asking or of finishing."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Update, and_, case, func, insert, literal, select, update

from crm_mcp.errors import Conflict
from crm_mcp.store import dedup
from crm_mcp.store.audit import Audit
from crm_mcp.store.contacts import keep_written, now_blocked
from crm_mcp.store.database import Database
from crm_mcp.store.items import call_off
from crm_mcp.store.limits import switched_off
from crm_mcp.store.reading import Reading, action_of, present, reads_as, row_of
from crm_mcp.store.records import (
    HELD,
    LEASE,
    OPEN,
    Action,
    Address,
    ClaimConditions,
    Ended,
    NewAction,
    Repeated,
    Status,
    Stopped,
)
from crm_mcp.store.tables import UtcMillis, actions, counters, items
from crm_mcp.store.threads import Threads, in_thread

LATEST = timedelta(hours=24)
"""How long after its time a scheduled action may still start."""
AHEAD = 4 * LEASE
"""A lease that ends later than this was given before the clock was set back: it is none."""

_c = actions.c
# Made once: to build a statement takes longer than to run it.
_INSERTED = insert(actions).returning(actions)
_NEXT = (
    update(counters).where(counters.c.name == "finished").values(value=counters.c.value + 1).returning(counters.c.value)
)
_WORKED = ("scheduled", "sending", "running", "unknown")


class Actions(Reading):
    """The actions of all callers, as `owner` works on them."""

    def __init__(
        self, threads: Threads, database: Database, clock: Callable[[], datetime], audit: Audit, owner: str
    ) -> None:
        super().__init__(threads, database, clock)
        self._audit = audit
        self._owner = owner

    # The life of an action

    @in_thread
    def propose(self, new: NewAction, ttl: timedelta, status: Status = "proposed") -> Action:
        """Return the open row of the same caller and digest in this status as it is, or a new one that expires after
        `ttl`. `status` is `proposed` or `pending_approval`."""
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

    @in_thread
    def begin(self, new: NewAction, approved_by: str, conditions: ClaimConditions) -> Action | Stopped | Repeated:
        """Record that an action starts now, before anything happens: `sending`, or as `conditions` has it."""
        with self._writing() as (connection, moment):
            refused = self._refused(connection, moment, conditions, conditions.dedup_keys, new.connection)
            if refused is not None:
                return refused
            status, values = self._started(conditions, moment)
            action = self._insert(connection, new, status, moment, approved_by=approved_by, fencing_token=1, **values)
            self._follow(connection, moment, action, conditions)
            return action

    @in_thread
    def claim(
        self, action_id: str, approved_by: str | None, conditions: ClaimConditions, *, caller: str | None = None
    ) -> Action | Stopped | Repeated | None:
        """Start what is `proposed`, `pending_approval` or `scheduled`: once, before it expires.

        Only for its own `caller`, where one is given. None where it can't be: it ended, expired, or somebody else was
        first. `approved_by` None leaves what stands there.
        """
        with self._writing() as (connection, moment):
            row = row_of(connection, action_id, locked=True)
            if row is None or caller not in {None, row["caller"]} or action_of(row, moment).status not in HELD:
                return None
            if conditions.digest not in {None, row["digest"]}:
                return None
            given = {dedup_key.key for dedup_key in conditions.dedup_keys}
            own = (
                *conditions.dedup_keys,
                *(dedup_key for dedup_key in dedup.of(connection, action_id) if dedup_key.key not in given),
            )
            refused = self._refused(connection, moment, conditions, own, row["connection"], action_id)
            if refused is not None:
                return refused
            status, values = self._started(conditions, moment)
            values |= {"status": status, "fencing_token": _c.fencing_token + 1}
            if approved_by is not None:
                values["approved_by"] = approved_by
            action = action_of(_changed(connection, action_id, values), moment)
            self._follow(connection, moment, action, conditions)
            return action

    @in_thread
    def note(self, new: NewAction, status: Status, reason: str | None) -> Action:
        """Record an action that has ended before it began, as one that a rule blocks."""
        _must_end(status)
        with self._writing() as (connection, moment):
            ended = {"finished_at": moment, "finished_no": _next_finished(connection)}
            action = self._insert(connection, new, status, moment, reason=reason, **ended)
            self._tell(connection, moment, "ended", action, self._asked(new) | _outcome(action))
            return action

    @in_thread
    def complete(self, action_id: str, ended: Ended, *, fencing_token: int | None = None) -> Action:
        """Record how an action ended, or what a job did before it was called off.

        An `unknown` one may still become done or failed, once that is known. With a `fencing_token` the word is taken
        only from the one who claimed it last.

        Raises:
            Conflict: it has ended before, or the fencing token is an old one; nothing was changed.
            NotFound: there is no such action.
        """
        _must_end(ended.status)
        with self._writing() as (connection, moment):
            row = present(connection, action_id, locked=True)
            last_word = (
                ended.status == row["status"] == "cancelled" and row["owner"] and fencing_token == row[_c.fencing_token]
            )
            if not last_word:
                _must_take(row, ended.status, fencing_token, moment)
            action = action_of(_changed(connection, action_id, _ending(connection, ended, moment)), moment)
            if last_word or ended.status in {"done", "unknown"}:
                dedup.last_on(connection, action_id, moment)
                dedup.release(connection, action_id, ended.released)
            else:
                dedup.release(connection, action_id)
            self._tell(connection, moment, "ended", action, _outcome(action))
            return action

    @in_thread
    def call_off(
        self,
        action_id: str,
        caller: str | None,
        status: Status,
        reason: str,
        *,
        jobs: bool = True,
        by: str | None = None,
        approved_by: str | None = None,
    ) -> Action | None:
        """End what has not left yet (`HELD`), or, with `jobs`, stop a running job after the item it is at.

        None where it can't be, or where it is not that `caller`'s. `by` is who took it back, for the log; None: nobody,
        a rule or the time ended it. `approved_by` is who had said yes to it.

        `status` is `cancelled`, `declined`, `expired`, `blocked` or `failed`. Waiting items of a job become cancelled.
        """
        if status in {*OPEN, "undone", "done", "unknown"}:
            raise ValueError(f"{status} is no way to call off an action")
        with self._writing() as (connection, moment):
            row = row_of(connection, action_id, locked=True)
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
                dedup.release(connection, action_id)
            action = action_of(_changed(connection, action_id, ending), moment)
            call_off(connection, action_id)
            self._tell(connection, moment, "ended", action, _outcome(action) | {"by": by, "approved_by": approved_by})
            return action

    @in_thread
    def put_off(self, action_id: str, due: datetime, reason: str, *, fencing_token: int, late: bool = False) -> bool:
        """Give a scheduled action another time, because a rule forbids it now: it is good for 24 hours after that.

        With `late` it should have gone, and could not; it is good for as long as it was before.
        """
        with self._writing() as (connection, moment):
            mine = and_(_c.id == action_id, _c.fencing_token == fencing_token, reads_as("scheduled", moment))
            values = {"due_at": due, "reason": reason, "owner": None, "lease_until": None}
            values |= {} if late else {"expires_at": due + LATEST}
            before = row_of(connection, action_id)
            if not _changes_one(connection, update(actions).where(mine).values(values)):
                return False
            if not late or before is None or reason != before["reason"]:  # it may be tried every minute of a day
                action = action_of(present(connection, action_id), moment)
                self._tell(connection, moment, "put_off", action, {"reason": reason, "due_at": due})
            return True

    @in_thread
    def reconcile_at(self, action_id: str, at: datetime | None, *, fencing_token: int) -> bool:
        """Say that the history of an unknown action was looked at in vain, and when to look next; None: no more."""
        mine = and_(_c.id == action_id, _c.fencing_token == fencing_token, _c.status == "unknown")
        values = {"looks": _c.looks + 1, "due_at": at, "owner": None, "lease_until": None}
        with self.database.claiming() as connection:
            return _changes_one(connection, update(actions).where(mine).values(values))

    @in_thread
    def renew_lease(self, action_id: str, *, fencing_token: int) -> bool:
        """Renew the lease of what is being worked on. False: another process has claimed it."""
        mine = and_(_c.id == action_id, _c.fencing_token == fencing_token, _c.owner == self._owner)
        with self.database.claiming() as connection:
            lease = update(actions).where(mine).values(lease_until=self._clock() + LEASE)
            return _changes_one(connection, lease)

    @in_thread
    def take(self, connections: Sequence[str]) -> Action | None:
        """Return one action of these connections that needs work now, claimed for this process, with a new fencing
        token; None: none does.

        That is one that is scheduled and due, one that is sending or running and whose holder has said nothing for the
        time of a lease, or an unknown one whose history is to be looked at.
        """
        with self.database.claiming() as connection:
            moment = self._clock()
            ready = _ready_at(moment)
            query = select(_c.id).where(_c.connection.in_(connections), _c.status.in_(_WORKED), ready <= moment)
            query = query.order_by(ready, _c.no).limit(1)
            found = connection.execute(query.with_for_update(skip_locked=True)).scalar_one_or_none()
            if found is None:
                return None
            lease = {"owner": self._owner, "lease_until": moment + LEASE, "fencing_token": _c.fencing_token + 1}
            row = _changed(connection, found, lease)
            return action_of(row, moment, self.progress(connection, [row]))

    @in_thread
    def next_due(self, connections: Sequence[str]) -> datetime | None:
        """Return when `take` will have something to give, as far as is known; None: nothing waits."""
        with self.database.reading() as connection:
            earliest = select(func.min(_ready_at(self._clock()))).where(
                _c.connection.in_(connections), _c.status.in_(_WORKED)
            )
            return connection.execute(earliest).scalar_one()

    @in_thread
    def keep_undo(self, action_id: str, undo: Mapping[str, Any]) -> None:
        """Keep what is needed to take back an action that is being sent: before it leaves, so no crash loses it."""
        with self._writing() as (connection, _):
            mine = and_(_c.id == action_id, _c.status == "sending")
            connection.execute(update(actions).where(mine).values(undo=dict(undo)))

    @in_thread
    def add_written(self, action: Action, writes: Sequence[Address]) -> None:
        """Record addresses that an action under way writes besides those that it was claimed with."""
        with self._writing() as (connection, moment):
            keep_written(connection, action, writes, moment)

    @in_thread
    def claim_item(
        self, action_id: str, given: str, conditions: ClaimConditions, *, fencing_token: int
    ) -> Stopped | Repeated | None:
        """Test what must hold for one item of a job just before its request leaves; None: all does.

        Its deduplication keys are counted from now on, and take the place of the one, of key `given`, that the job
        began with. `Repeated` names the job itself where another of its items has such a deduplication key.
        """
        with self._writing() as (connection, moment):
            row = present(connection, action_id, locked=True)
            if row["status"] != "running" or row[_c.fencing_token] != fencing_token:
                return Stopped("not done: the job was called off")
            if any(
                dedup.named_twice(connection, action_id, given, dedup_key.key) for dedup_key in conditions.dedup_keys
            ):
                return Repeated(action_of(row, moment))
            # What the item has counted for since its job began, it does not count for twice.
            dedup.release(connection, action_id, [given, *(dedup_key.key for dedup_key in conditions.dedup_keys)])
            refused = self._refused(connection, moment, conditions, conditions.dedup_keys, row["connection"], action_id)
            if refused is None:
                dedup.renew(connection, action_id, row["connection"], conditions.dedup_keys, moment)
            return refused

    @in_thread
    def let_go(self, action_id: str, keys: Sequence[str]) -> None:
        """Let these deduplication keys of an action stop no repeat any more: what it did has ended since, as an
        enrolment does. They still count for the limits."""
        with self.database.claiming() as connection:
            dedup.let_go(connection, action_id, keys)

    @in_thread
    def mark_undone(self, action_id: str, caller: str) -> bool:
        """Turn the caller's own action from done to undone, and release its deduplication keys. Only one call ever gets
        True.

        Its place in the order of finishing stays.
        """
        mine = and_(_c.id == action_id, _c.caller == caller, _c.status == "done")
        return self._turn(action_id, update(actions).where(mine).values(status="undone"), undone=True)

    @in_thread
    def unmark_undone(self, action_id: str) -> None:
        """Turn an action back from undone to done, when taking it back failed."""
        undone = and_(_c.id == action_id, _c.status == "undone")
        self._turn(action_id, update(actions).where(undone).values(status="done"), undone=False)

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
        conditions: ClaimConditions,
        own: Sequence[dedup.DedupKey],
        of: str,
        action_id: str = "",
    ) -> Stopped | Repeated | None:
        """Test the conditions of a claim, in their order. What is to wait for its time meets the limits only then."""
        off = switched_off(connection) if conditions.outward else None
        if off is not None:
            return Stopped(f"kill switch: outbound was {off}")
        said_no = now_blocked(
            connection, [(dedup_key.channel, dedup_key.address) for dedup_key in own if dedup_key.address]
        )
        if said_no is not None:
            return Stopped(f"do-not-contact: this address was blocked on {said_no}")
        held = dedup.holders(
            connection, [dedup_key.key for dedup_key in own], moment, action_id, conditions.resend_of or ""
        )
        for dedup_key in own:
            if dedup_key.key in held:
                row = present(connection, held[dedup_key.key])
                return Repeated(action_of(row, moment, self.progress(connection, [row])))
        reached = None if conditions.due is not None else dedup.counted(connection, conditions.quotas, own, of)
        return None if reached is None else Stopped(reached)

    def _started(self, conditions: ClaimConditions, moment: datetime) -> tuple[Status, dict[str, Any]]:
        """Return the status and values of a row that starts, or waits for its time."""
        if conditions.due is not None:
            due = {"due_at": conditions.due, "expires_at": conditions.due + LATEST}
            return "scheduled", {"owner": None, "lease_until": None} | due
        lease = {"owner": self._owner, "lease_until": moment + LEASE}
        return "running" if conditions.job else "sending", {"started_at": moment, "due_at": None} | lease

    def _follow(self, connection: Connection, moment: datetime, action: Action, conditions: ClaimConditions) -> None:
        """Write what goes with a claim: deduplication keys, addresses, and the entry of the log."""
        waits = conditions.due is not None
        if conditions.resend_of is not None:
            dedup.pass_on(
                connection, conditions.resend_of, action.id, [dedup_key.key for dedup_key in conditions.dedup_keys]
            )
        dedup.keep(connection, action.id, action.connection, conditions.dedup_keys, None if waits else moment)
        keep_written(connection, action, conditions.writes, moment)
        told = self._asked(action) | {"approved_by": action.approved_by, "resend_of": conditions.resend_of}
        self._tell(connection, moment, "scheduled" if waits else "started", action, told | {"due_at": conditions.due})

    def _turn(self, action_id: str, change: Update, *, undone: bool) -> bool:
        with self._writing() as (connection, moment):
            if not _changes_one(connection, change):
                return False
            dedup.take_back(connection, action_id, undone=undone)
            action = action_of(present(connection, action_id), moment)
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


def _must_take(row: RowMapping, status: Status, fencing_token: int | None, moment: datetime) -> None:
    """Refuse an end that a row can't take."""
    action_id, stored, reads = row["id"], row["status"], action_of(row, moment).status
    look = "look at it in list_actions"
    if fencing_token is not None and row[_c.fencing_token] != fencing_token:
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


def _changed(connection: Connection, action_id: str, values: Mapping[str, Any]) -> RowMapping:
    """Give a row these values, and return it."""
    return (
        connection.execute(update(actions).where(_c.id == action_id).values(values).returning(actions)).mappings().one()
    )


def _has_items(connection: Connection, action_id: str) -> bool:
    wanted = select(items.c.no).where(items.c.action == action_id).limit(1)
    return connection.execute(wanted).scalar_one_or_none() is not None


def _changes_one(connection: Connection, change: Update) -> bool:
    return connection.execute(change).rowcount == 1


def _next_finished(connection: Connection) -> int:
    # The counter's row stays locked until the commit: numbers become visible in their order, so a reader skips none.
    return connection.execute(_NEXT).scalar_one()
