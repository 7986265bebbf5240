"""What must survive a crash: every write and send an agent asked for, and who must not be contacted.

This module is light: the records, and a `Store` that opens nothing and imports no database library before its first
call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from crm_mcp.model import Channel, Moment, Record, now

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from crm_mcp.store.actions import Actions
    from crm_mcp.store.contacts import Contacts

Status = Literal[
    "proposed",
    "running",
    "done",
    "failed",
    "declined",
    "expired",
    "cancelled",
    "blocked",
    "undone",
    "unknown",
]
"""As stored; `proposed` is served as `confirmation_required`."""

FILE_NAME = "state.sqlite3"
WORKERS = 4
"""How many calls work at once, and how many connections are kept: SQLite has one writer, readers are quick."""

T = TypeVar("T")


class NewAction(Record):
    """A write or send that an agent asks for, before the store has given it an id."""

    caller: str
    connection: str
    tool: str
    effect: str
    """`write`, `outward` or `destructive`."""
    arguments: dict[str, Any]
    digest: str
    """Of tool, connection and arguments: the same call has the same digest."""
    summary: str
    facts: dict[str, Any] = Field(default_factory=dict[str, Any])
    """What the preview showed and the action uses."""
    preview: str | None = None
    lead: str | None = None
    """The lead it is about."""
    size: int = 1
    """How many records it writes."""
    asked: Literal["elicitation", "token"] = "elicitation"
    """How its confirmation is given, if it needs one."""


class Action(NewAction):
    """A write or send, with what became of it."""

    id: str
    status: Status
    approved_by: str | None
    """`policy`, `elicitation`, `token` or `cli`."""
    reason: str | None
    error: str | None
    """The contract's code of a failure."""
    result: dict[str, Any] | None
    undo: dict[str, Any] | None
    """What is needed to take it back."""
    touched: tuple[tuple[str, str], ...]
    """Kind and id of each record that it changed."""
    created_at: Moment
    expires_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None


class Store:
    """The state in one folder. Each method is one transaction, done in a worker thread."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] = now) -> None:
        self._folder = folder
        self._clock = clock
        self._opening = threading.Lock()
        self._rooms: tuple[Actions, Contacts] | None = None
        self._limiter: CapacityLimiter | None = None

    async def propose(self, new: NewAction, ttl: timedelta) -> Action:
        """Return the open proposal of the same caller and digest as it is, or a new one that expires after `ttl`."""
        return await self._act(lambda actions: actions.propose(new, ttl))

    async def begin(self, new: NewAction, approved_by: str) -> Action:
        """Record that an action starts now, before anything happens."""
        return await self._act(lambda actions: actions.begin(new, approved_by))

    async def note(self, new: NewAction, status: Status, reason: str | None) -> Action:
        """Record an action that has ended before it began, as one that a rule blocks."""
        return await self._act(lambda actions: actions.note(new, status, reason))

    async def get(self, action_id: str) -> Action | None:
        """Return one action, or None where there is none of that id."""
        return await self._act(lambda actions: actions.get(action_id))

    async def claim(self, action_id: str, caller: str, approved_by: str) -> Action | None:
        """Start a proposal: once, for its own caller, before it expires. None where that can't be."""
        return await self._act(lambda actions: actions.claim(action_id, caller, approved_by))

    async def settle(
        self,
        action_id: str,
        status: Status,
        *,
        summary: str | None = None,
        reason: str | None = None,
        error: str | None = None,
        result: dict[str, Any] | None = None,
        undo: dict[str, Any] | None = None,
        lead: str | None = None,
        touched: tuple[tuple[str, str], ...] = (),
        size: int | None = None,
    ) -> Action:
        """Record how an action ended. What is None stays as it was.

        Raises:
            Conflict: it has ended before; nothing was changed.
            NotFound: there is no such action.
        """
        given = {
            "summary": summary,
            "reason": reason,
            "error": error,
            "result": result,
            "undo": undo,
            "lead": lead,
            "size": size,
        }
        values = {name: value for name, value in given.items() if value is not None}
        return await self._act(lambda actions: actions.settle(action_id, status, values, touched))

    async def mark_undone(self, action_id: str, caller: str) -> bool:
        """Turn the caller's own action from done to undone. Only one call ever gets True."""
        return await self._act(lambda actions: actions.mark_undone(action_id, caller))

    async def unmark_undone(self, action_id: str) -> None:
        """Turn an action back from undone to done, when taking it back failed."""
        await self._act(lambda actions: actions.unmark_undone(action_id))

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

    async def imported_since(self, caller: str, since: datetime) -> int:
        """Return how many records the caller's imports have written, or are writing, since then."""
        return await self._act(lambda actions: actions.imported_since(caller, since))

    async def block(self, addresses: Mapping[Channel, str], reason: str | None, by: str) -> None:
        """Put normalised addresses on the do-not-contact list; a new reason replaces the old one."""
        await self._contact(lambda contacts: contacts.block(addresses, reason, by))

    async def unblock(self, addresses: Mapping[Channel, str]) -> None:
        """Take normalised addresses off the do-not-contact list."""
        await self._contact(lambda contacts: contacts.unblock(addresses))

    async def blocked(self, addresses: Mapping[Channel, str]) -> dict[Channel, str]:
        """Return which of these are on the do-not-contact list, with the reason ("" where none was given)."""
        return await self._contact(lambda contacts: contacts.blocked(addresses))

    async def aclose(self) -> None:
        """Close all connections, also where the caller has been cancelled."""
        from anyio import CancelScope, to_thread

        with CancelScope(shield=True):
            await to_thread.run_sync(self._close)

    async def _act(self, work: Callable[[Actions], T]) -> T:
        return await self._in_thread(lambda: work(self._opened()[0]))

    async def _contact(self, work: Callable[[Contacts], T]) -> T:
        return await self._in_thread(lambda: work(self._opened()[1]))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        from anyio import CapacityLimiter, to_thread

        if self._limiter is None:
            self._limiter = CapacityLimiter(WORKERS)
        return await to_thread.run_sync(work, limiter=self._limiter)

    def _opened(self) -> tuple[Actions, Contacts]:
        # Runs in a worker thread: the database library takes a tenth of a second to import.
        with self._opening:
            if self._rooms is None:
                from crm_mcp.store.actions import Actions
                from crm_mcp.store.contacts import Contacts
                from crm_mcp.store.database import Database

                database = Database(self._folder / FILE_NAME, WORKERS)
                self._rooms = Actions(database, self._clock), Contacts(database, self._clock)
            return self._rooms

    def _close(self) -> None:
        with self._opening:
            if self._rooms is not None:
                self._rooms[0].database.close()


def open_store(folder: Path) -> Store:
    """Return the store in `folder`. Nothing is read or made before its first call."""
    return Store(folder)
