"""What must survive a crash: every write and send an agent asked for, who must not be contacted, and the audit log.

It lives in SQLite in the data directory, or in PostgreSQL where several servers share it; everything here holds for
both. This module is light: a `Store` opens nothing and imports no database library before its first call.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from crm_mcp.errors import Unreachable
from crm_mcp.model import Channel, now
from crm_mcp.store.records import (
    HELD,
    LEASE,
    LOST,
    OPEN,
    Action,
    Address,
    Bound,
    Ended,
    Entry,
    Item,
    ItemStatus,
    Mark,
    NewAction,
    Repeated,
    Status,
    Stopped,
    Terms,
    Verified,
    Written,
)

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from crm_mcp.store.actions import Actions
    from crm_mcp.store.audit import Audit
    from crm_mcp.store.contacts import Contacts
    from crm_mcp.store.items import Items

__all__ = [
    "FILE_NAME",
    "HELD",
    "LEASE",
    "LOST",
    "OPEN",
    "Action",
    "Address",
    "Bound",
    "Ended",
    "Entry",
    "Item",
    "ItemStatus",
    "Mark",
    "NewAction",
    "Repeated",
    "Status",
    "Stopped",
    "Store",
    "Terms",
    "Verified",
    "Written",
]

FILE_NAME = "state.sqlite3"
CONNECTIONS = 4
"""How many are kept: there is one writer at a time, and readers are quick."""
THREADS = 32
"""How many calls wait at once for one of them, or for their turn to write, each for a few seconds at most."""
ANSWER = 12.0
"""Seconds after which a call is answered even where the database says nothing at all, as a server that hangs."""

T = TypeVar("T")


class _Rooms(NamedTuple):
    actions: Actions
    contacts: Contacts
    items: Items
    audit: Audit


def unredacted(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return arguments as they are."""
    return arguments


class Store:
    """The state in one folder, or in the PostgreSQL database at `url`. Each method is one transaction, done in a
    worker thread; what changes an action writes its entry of the audit log in the same transaction.

    `key` gives the secret that seals the log, which is kept outside the database; `redact` gives an action's arguments
    as the log has them, `reword` a reason.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str | None = None,
        clock: Callable[[], datetime] = now,
        key: Callable[[], bytes] = lambda: b"",
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]] = unredacted,
        reword: Callable[[str], str] = str,
    ) -> None:
        self._folder = folder
        self._url = url
        self.clock = clock
        self.owner = secrets.token_hex(8)
        """This process, as a holder of leases."""
        self._key = key
        self._redact = redact
        self._reword = reword
        self._opening = threading.Lock()
        self._rooms: _Rooms | None = None
        self._limiter: CapacityLimiter | None = None

    @property
    def opened(self) -> bool:
        """Whether anything has been asked of it yet."""
        return self._rooms is not None

    async def anything_waits(self) -> bool:
        """Whether there may be work for `take`, looked up without loading the database library."""
        return True if self._url else await self._in_thread(self._peek)

    # The life of an action

    async def propose(self, new: NewAction, ttl: timedelta, status: Status = "proposed") -> Action:
        """Return the open row of the same caller and digest in this status as it is, or a new one that expires after
        `ttl`. `status` is `proposed` or `pending_approval`."""
        return await self._act(lambda actions: actions.propose(new, ttl, status))

    async def begin(self, new: NewAction, approved_by: str, terms: Terms) -> Action | Stopped | Repeated:
        """Record that an action starts now, before anything happens: `sending`, or as `terms` has it."""
        return await self._act(lambda actions: actions.begin(new, approved_by, terms))

    async def claim(
        self, action_id: str, approved_by: str | None, terms: Terms, *, caller: str | None = None
    ) -> Action | Stopped | Repeated | None:
        """Start what is `proposed`, `pending_approval` or `scheduled`: once, before it expires.

        Only for its own `caller`, where one is given. None where it can't be: it ended, expired, or somebody else was
        first. `approved_by` None leaves what stands there.
        """
        return await self._act(lambda actions: actions.claim(action_id, approved_by, terms, caller))

    async def note(self, new: NewAction, status: Status, reason: str | None) -> Action:
        """Record an action that has ended before it began, as one that a rule blocks."""
        return await self._act(lambda actions: actions.note(new, status, reason))

    async def settle(self, action_id: str, ended: Ended, *, fence: int | None = None) -> Action:
        """Record how an action ended.

        An `unknown` one may still become done or failed, once that is known. With a `fence` the word is taken only
        from the one who claimed it last.

        Raises:
            Conflict: it has ended before, or the fence is an old one; nothing was changed.
            NotFound: there is no such action.
        """
        return await self._act(lambda actions: actions.settle(action_id, ended, fence))

    async def call_off(
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
        return await self._act(
            lambda actions: actions.call_off(action_id, caller, status, reason, jobs, by, approved_by)
        )

    async def put_off(self, action_id: str, due: datetime, reason: str, *, fence: int, late: bool = False) -> bool:
        """Give a scheduled action another time, because a rule forbids it now: it is good for 24 hours after that.

        With `late` it should have gone, and could not; it is good for as long as it was before.
        """
        return await self._act(lambda actions: actions.put_off(action_id, due, reason, fence, late))

    async def look_again(self, action_id: str, at: datetime | None, *, fence: int) -> bool:
        """Say that the history of an unknown action was looked at in vain, and when to look next; None: no more."""
        return await self._act(lambda actions: actions.look_again(action_id, at, fence))

    async def hold(self, action_id: str, *, fence: int) -> bool:
        """Renew the lease of what is being worked on. False: another process has claimed it."""
        return await self._act(lambda actions: actions.hold(action_id, fence))

    async def take(self, connections: Sequence[str]) -> Action | None:
        """Return one action of these connections that needs work now, claimed for this process, with a new fence; None:
        none does.

        That is one that is scheduled and due, one that is sending or running and whose holder has said nothing for the
        time of a lease, or an unknown one whose history is to be looked at.
        """
        return await self._act(lambda actions: actions.take(connections))

    async def next_due(self, connections: Sequence[str]) -> datetime | None:
        """Return when `take` will have something to give, as far as is known; None: nothing waits."""
        return await self._act(lambda actions: actions.next_due(connections))

    async def keep_undo(self, action_id: str, undo: Mapping[str, Any]) -> None:
        """Keep what is needed to take back an action that is being sent: before it leaves, so no crash loses it."""
        await self._act(lambda actions: actions.keep_undo(action_id, undo))

    async def add_written(self, action: Action, writes: Sequence[Address]) -> None:
        """Record addresses that an action under way writes besides those that it was claimed with."""
        await self._act(lambda actions: actions.add_written(action, writes))

    async def let_go(self, action_id: str, keys: Sequence[str]) -> None:
        """Let these marks of an action stop no repeat any more: what it did has ended since, as an enrolment does. They
        still count for the limits."""
        await self._act(lambda actions: actions.let_go(action_id, keys))

    async def mark_undone(self, action_id: str, caller: str) -> bool:
        """Turn the caller's own action from done to undone, and release its marks. Only one call ever gets True."""
        return await self._act(lambda actions: actions.mark_undone(action_id, caller))

    async def unmark_undone(self, action_id: str) -> None:
        """Turn an action back from undone to done, when taking it back failed."""
        await self._act(lambda actions: actions.unmark_undone(action_id))

    # What is known of actions

    async def get(self, action_id: str) -> Action | None:
        """Return one action, or None where there is none of that id."""
        return await self._act(lambda actions: actions.get(action_id))

    async def held_by(self, keys: Sequence[str]) -> dict[str, Action]:
        """Return for each of these marks the action that has, or is having, this effect; without those that nobody
        has."""
        return await self._act(lambda actions: actions.held_by(keys))

    async def keys_of(self, action_id: str) -> tuple[str, ...]:
        """Return the keys of an action's marks, also of those that have run out."""
        return await self._act(lambda actions: actions.keys_of(action_id))

    async def counted(self, bounds: Sequence[Bound]) -> str | None:
        """Return the first of these limits that is reached, in words; None: none is."""
        return await self._act(lambda actions: actions.counted(bounds))

    async def list_actions(
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
        return await self._act(lambda actions: actions.list_actions(caller, status, lead, connection, after, limit))

    async def changes(
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
        return await self._act(lambda actions: actions.changes(since, kinds, connection, after, limit))

    async def written_since(self, caller: str, tool: str, since: datetime) -> int:
        """Return how many records a caller's actions of this tool have written, or are writing, since then."""
        return await self._act(lambda actions: actions.written_since(caller, tool, since))

    # The items of a job

    async def add_items(self, action_id: str, payloads: Sequence[Mapping[str, Any]]) -> None:
        """Give an action its items, in their order, before it is claimed. Items that it has already are kept.

        `marks` in a payload are the keys of its marks: released where the job is called off before its turn.
        """
        await self._item(lambda items: items.add(action_id, payloads))

    async def take_items(self, action_id: str, most: int, *, fence: int) -> tuple[Item, ...]:
        """Return up to `most` waiting items, which are `sending` from now on.

        Empty where none waits, the job was called off, or another process has claimed the job.
        """
        return await self._item(lambda items: items.take(action_id, most, fence))

    async def take_turn(self, action_id: str, given: str, terms: Terms, *, fence: int) -> Stopped | Repeated | None:
        """Test what must hold for one item of a job just before its request leaves; None: all does.

        Its marks are counted from now on, and take the place of the one, of key `given`, that the job began with.
        `Repeated` names the job itself where another of its items has such a mark.
        """
        return await self._act(lambda actions: actions.take_turn(action_id, given, terms, fence))

    async def settle_items(
        self,
        action_id: str,
        ended: Sequence[tuple[int, ItemStatus, Mapping[str, Any] | None]],
        *,
        fence: int,
        released: Sequence[str] = (),
    ) -> bool:
        """Record what became of items that are `sending`; releases these keys of marks of the job.

        False, with nothing written: another process has claimed the job.
        """
        return await self._item(lambda items: items.settle(action_id, ended, fence, released))

    async def items(self, action_id: str, status: ItemStatus | None = None) -> tuple[Item, ...]:
        """Return a job's items, in their order."""
        return await self._item(lambda items: items.all(action_id, status))

    # Who may be contacted

    async def block(self, addresses: Mapping[Channel, str], reason: str | None, by: str) -> None:
        """Put addresses on the do-not-contact list; a new reason replaces the old one."""
        await self._contact(lambda contacts: contacts.block([addresses], [reason], by))

    async def block_many(
        self, several: Sequence[Mapping[Channel, str]], reasons: Sequence[str | None], by: str
    ) -> None:
        """Put the addresses of several people on the do-not-contact list, each with a reason of their own."""
        await self._contact(lambda contacts: contacts.block(several, reasons, by))

    async def unblock(self, addresses: Mapping[Channel, str], by: str) -> None:
        """Take addresses off the do-not-contact list. That it was lifted, and when, is kept."""
        await self._contact(lambda contacts: contacts.unblock(addresses, by))

    async def blocked(self, addresses: Mapping[Channel, str]) -> dict[Channel, str]:
        """Return which of these are on the do-not-contact list, with the reason ("" where none was given)."""
        return await self._contact(lambda contacts: contacts.blocked(addresses))

    async def lifted(self, addresses: Mapping[Channel, str]) -> dict[Channel, datetime]:
        """Return of which of these a block was lifted, and when: a STOP from before that blocks no more."""
        return await self._contact(lambda contacts: contacts.lifted(addresses))

    async def written(self, addresses: Sequence[Address], since: datetime) -> tuple[Written, ...]:
        """Return who has set these addresses since then, the last one of each."""
        return await self._contact(lambda contacts: contacts.written(addresses, since))

    async def approved_facts(self, channels: Sequence[str], address: str) -> tuple[dict[str, Any], ...]:
        """Return the facts of the newest 100 actions that reached an address on one of these channels, or that may
        have, after a person had seen them and said yes."""
        return await self._contact(lambda contacts: contacts.approved_facts(channels, address))

    async def outbound(self) -> str | None:
        """Return None while messages may go out, else by whom and when the kill switch was turned, in words."""
        return await self._contact(lambda contacts: contacts.outbound())

    async def set_outbound(self, on: bool, by: str) -> None:
        """Turn the kill switch."""
        await self._contact(lambda contacts: contacts.set_outbound(on, by))

    # The audit log

    async def record(self, event: Mapping[str, Any]) -> None:
        """Append an entry that belongs to no action: a call that was denied, or a read, where reads are recorded."""
        await self._audit(lambda audit: audit.record(event))

    async def entries(self, since: datetime | None, after: int, limit: int) -> tuple[Entry, ...]:
        """Return entries of the log after number `after`, oldest first."""
        return await self._audit(lambda audit: audit.entries(since, after, limit))

    async def verify(self, head: str | None = None) -> Verified:
        """Look for altered, removed and reordered entries; with the `head` of an earlier time also for a cut tail."""
        return await self._in_thread(lambda: self._open().audit.verify(head), within=math.inf)

    async def aclose(self) -> None:
        """Close all connections, also where the caller has been cancelled."""
        from anyio import CancelScope, to_thread

        with CancelScope(shield=True):
            await to_thread.run_sync(self._close)

    async def _act(self, work: Callable[[Actions], T]) -> T:
        return await self._in_thread(lambda: work(self._open().actions))

    async def _item(self, work: Callable[[Items], T]) -> T:
        return await self._in_thread(lambda: work(self._open().items))

    async def _contact(self, work: Callable[[Contacts], T]) -> T:
        return await self._in_thread(lambda: work(self._open().contacts))

    async def _audit(self, work: Callable[[Audit], T]) -> T:
        return await self._in_thread(lambda: work(self._open().audit))

    async def _in_thread(self, work: Callable[[], T], within: float | None = None) -> T:
        from anyio import CapacityLimiter, lowlevel, move_on_after, to_thread

        await lowlevel.checkpoint_if_cancelled()  # for whom nobody waits any more, nothing is begun
        if self._limiter is None:
            self._limiter = CapacityLimiter(THREADS)
        # Whoever is cancelled meanwhile is so afterwards: what was written is not left without a word.
        with move_on_after(ANSWER if within is None else within, shield=True):
            return await to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        fix = "look up whether it was written, and try again in a moment"
        raise Unreachable("the database of the state does not answer", fix)

    def _open(self) -> _Rooms:
        # Runs in a worker thread: the database library takes a tenth of a second to import.
        with self._opening:
            if self._rooms is None:
                from crm_mcp.store.actions import Actions
                from crm_mcp.store.audit import Audit
                from crm_mcp.store.contacts import Contacts
                from crm_mcp.store.database import Database
                from crm_mcp.store.items import Items

                database = Database(self._url or self._folder / FILE_NAME, CONNECTIONS)
                audit = Audit(database, self.clock, self._key, self._redact, self._reword)
                self._rooms = _Rooms(
                    Actions(database, self.clock, audit, self.owner),
                    Contacts(database, self.clock, audit),
                    Items(database, self.clock),
                    audit,
                )
            return self._rooms

    def _peek(self) -> bool:
        import sqlite3

        path = self._folder / FILE_NAME
        if not path.exists():
            return False
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
                query = (
                    "SELECT 1 FROM actions WHERE status IN ('scheduled', 'sending', 'running') "
                    "OR status = 'unknown' AND due_at IS NOT NULL LIMIT 1"
                )
                return connection.execute(query).fetchone() is not None
        except sqlite3.Error:
            return False  # not at the newest layout, or in use: whoever opens it finds out more

    def _close(self) -> None:
        with self._opening:
            if self._rooms is not None:
                self._rooms.audit.database.close()
