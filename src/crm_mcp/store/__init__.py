"""What must survive a crash: every write and send an agent asked for, who must not be contacted, and the audit log.

It lives in SQLite in the data directory, or in PostgreSQL where several servers share it; everything here holds for
both. This module is light: a `Store` opens nothing and imports no database library before its first call.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crm_mcp.model import now
from crm_mcp.store.records import (
    HELD,
    LEASE,
    LOST,
    OPEN,
    Action,
    Address,
    ClaimConditions,
    DedupKey,
    Ended,
    Entry,
    Item,
    ItemStatus,
    NewAction,
    Quota,
    Repeated,
    Status,
    Stopped,
    Verified,
    Written,
)
from crm_mcp.store.threads import Threads

if TYPE_CHECKING:
    from crm_mcp.store.actions import Actions
    from crm_mcp.store.audit import Audit
    from crm_mcp.store.contacts import Contacts
    from crm_mcp.store.database import Database
    from crm_mcp.store.items import Items
    from crm_mcp.store.limits import Limits

__all__ = [
    "FILE_NAME",
    "HELD",
    "LEASE",
    "LOST",
    "OPEN",
    "Action",
    "Address",
    "ClaimConditions",
    "DedupKey",
    "Ended",
    "Entry",
    "Item",
    "ItemStatus",
    "NewAction",
    "Quota",
    "Repeated",
    "Status",
    "Stopped",
    "Store",
    "Verified",
    "Written",
]

FILE_NAME = "state.sqlite3"
CONNECTIONS = 4
"""How many are kept: there is one writer at a time, and readers are quick."""


def unredacted(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return arguments as they are."""
    return arguments


class Store:
    """The state in one folder, or in the PostgreSQL database at `url`. Each call of a part of it is one transaction,
    done in a worker thread; what changes an action writes its entry of the audit log in the same transaction.

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
        self._threads = Threads()
        self._opening = threading.Lock()
        self._database: Database | None = None
        self.actions: Actions = self._part("actions")
        """What was asked for, from the asking to the end of it."""
        self.items: Items = self._part("items")
        """The items of jobs."""
        self.contacts: Contacts = self._part("contacts")
        """The do-not-contact list, and what is known of addresses."""
        self.limits: Limits = self._part("limits")
        """The kill switch, and what is counted."""
        self.audit: Audit = self._part("audit")
        """The audit log."""

    @property
    def opened(self) -> bool:
        """Whether anything has been asked of it yet."""
        return self._database is not None

    async def anything_waits(self) -> bool:
        """Whether there may be work for `take`, looked up without loading the database library."""
        return True if self._url else await self._threads.run(self._peek)

    async def aclose(self) -> None:
        """Close all connections, also where the caller has been cancelled."""
        from anyio import CancelScope, to_thread

        with CancelScope(shield=True):
            await to_thread.run_sync(self._close)

    def _part(self, name: str) -> Any:
        async def opened() -> Any:
            if not self.opened:
                await self._threads.run(self._open)
            return getattr(self, name)

        return _Unopened(opened)

    def _open(self) -> None:
        # Runs in a worker thread: the database library takes a tenth of a second to import.
        with self._opening:
            if self._database is not None:
                return
            from crm_mcp.store.actions import Actions
            from crm_mcp.store.audit import Audit
            from crm_mcp.store.contacts import Contacts
            from crm_mcp.store.database import Database
            from crm_mcp.store.items import Items
            from crm_mcp.store.limits import Limits

            database = Database(self._url or self._folder / FILE_NAME, CONNECTIONS)
            own = self._threads, database, self.clock
            self.audit = Audit(*own, self._key, self._redact, self._reword)
            self.actions = Actions(*own, self.audit, self.owner)
            self.items = Items(*own)
            self.contacts = Contacts(*own, self.audit)
            self.limits = Limits(*own, self.audit)
            self._database = database

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
            if self._database is not None:
                self._database.close()


class _Unopened:
    """A part of the store before the first call of any, which opens it: in a worker thread, as all that it does."""

    __slots__ = ("_opened",)

    def __init__(self, opened: Callable[[], Awaitable[Any]]) -> None:
        self._opened = opened

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await getattr(await self._opened(), method)(*args, **kwargs)

        return call
