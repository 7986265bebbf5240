"""The items of jobs: each is claimed before anything happens to it, and ended once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, insert, select, update

from crm_mcp.store import dedup
from crm_mcp.store.dedup import LOST_AFTER
from crm_mcp.store.records import OPEN, Item, ItemStatus
from crm_mcp.store.tables import actions, items
from crm_mcp.store.threads import Part, in_thread

MARKS = "marks"
"""The deduplication keys: under this name they come with its payload, and stand in its result while it waits."""

_c = items.c
_JOB = (actions.c.status, actions.c.fencing_token, actions.c.lease_until)


class Items(Part):
    """The items of all jobs."""

    @in_thread
    def add(self, action_id: str, payloads: Sequence[Mapping[str, Any]]) -> None:
        """Give an action its items, numbered from 0 in their order, before it is claimed. What is there under a number
        stays, and an action that has ended, or was called off, gets none.

        `marks` in a payload are the keys of its marks: released where the job is called off before its turn.
        """
        with self.database.writing() as connection:
            job = _job(connection, action_id)
            if job is None or job["status"] not in OPEN:
                return
            present = set(connection.execute(select(_c.no).where(_c.action == action_id)).scalars())
            rows = [
                {
                    "action": action_id,
                    "no": no,
                    "payload": {name: value for name, value in payload.items() if name != MARKS},
                    "status": "waiting",
                    "result": {MARKS: payload[MARKS]} if payload.get(MARKS) else None,
                }
                for no, payload in enumerate(payloads)
                if no not in present
            ]
            if rows:
                connection.execute(insert(items), rows)

    @in_thread
    def take(self, action_id: str, most: int, *, fencing_token: int) -> tuple[Item, ...]:
        """Return up to `most` waiting items, which are `sending` from now on.

        Empty where none waits, the job was called off, or another process has claimed the job.
        """
        with self.database.claiming() as connection:
            job = _job(connection, action_id)
            if job is None or job["status"] != "running" or job[actions.c.fencing_token] != fencing_token:
                return ()
            waiting = select(_c.no).where(_c.action == action_id, _c.status == "waiting").order_by(_c.no).limit(most)
            numbers = connection.execute(waiting.with_for_update(skip_locked=True)).scalars().all()
            taken = and_(_c.action == action_id, _c.no.in_(numbers))
            connection.execute(update(items).where(taken).values(status="sending"))
            return tuple(map(_item, connection.execute(select(items).where(taken).order_by(_c.no)).mappings()))

    @in_thread
    def complete(
        self,
        action_id: str,
        ended: Sequence[tuple[int, ItemStatus, Mapping[str, Any] | None]],
        *,
        fencing_token: int,
        released: Sequence[str] = (),
    ) -> bool:
        """Record what became of items that are `sending`; releases these deduplication keys of the job.

        False, with nothing written: another process has claimed the job.
        """
        with self.database.claiming() as connection:
            job = _job(connection, action_id)
            if job is None or job[actions.c.fencing_token] != fencing_token:
                return False
            for no, status, result in ended:
                claimed = and_(_c.action == action_id, _c.no == no, _c.status == "sending")
                connection.execute(update(items).where(claimed).values(status=status, result=result))
            if released:
                dedup.release(connection, action_id, released)
            if job["status"] not in OPEN:  # what was put back meanwhile is not done by anybody any more
                call_off(connection, action_id)
            return True

    @in_thread
    def all(self, action_id: str, status: ItemStatus | None = None) -> tuple[Item, ...]:
        """Return a job's items, in their order; those that were under way in a job that was called off and died are
        unknown."""
        query = select(items).where(_c.action == action_id).order_by(_c.no)
        with self.database.reading() as connection:
            job = connection.execute(select(*_JOB).where(actions.c.id == action_id)).mappings().one_or_none()
            found = tuple(map(_item, connection.execute(query).mappings()))
        if job is not None and job["status"] not in {"running", "sending"} and self._left(job):
            found = tuple(
                item.model_copy(update={"status": "unknown"}) if item.status == "sending" else item for item in found
            )
        return tuple(item for item in found if status in {None, item.status})

    def _left(self, job: RowMapping) -> bool:
        return job["lease_until"] is None or job["lease_until"] < self._clock() - LOST_AFTER


def call_off(connection: Connection, action_id: str) -> None:
    """Cancel the items of a job that nothing has happened to, and release their deduplication keys."""
    wanted = and_(_c.action == action_id, _c.status == "waiting")
    kept = connection.execute(select(_c.result).where(wanted)).scalars()
    dedup.release(connection, action_id, [key for each in kept if each for key in each.get(MARKS, ())])
    connection.execute(update(items).where(wanted).values(status="cancelled", result=None))


def _job(connection: Connection, action_id: str) -> RowMapping | None:
    # Shared with other workers, and held against whoever would call it off or claim it meanwhile.
    query = select(*_JOB).where(actions.c.id == action_id).with_for_update(read=True)
    return connection.execute(query).mappings().one_or_none()


def _item(row: RowMapping) -> Item:
    return Item.model_validate({name: row[name] for name in Item.model_fields})
