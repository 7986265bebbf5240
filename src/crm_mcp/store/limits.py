"""What holds sending back: the kill switch, and what has been done so far where there is a limit to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from crm_mcp.model import rfc3339
from crm_mcp.store import dedup
from crm_mcp.store.audit import Audit
from crm_mcp.store.database import Database
from crm_mcp.store.records import Quota
from crm_mcp.store.tables import switches
from crm_mcp.store.threads import Part, Threads, in_thread

OUTBOUND = "outbound"


class Limits(Part):
    """The kill switch and the counts."""

    def __init__(self, threads: Threads, database: Database, clock: Callable[[], datetime], audit: Audit) -> None:
        super().__init__(threads, database, clock)
        self._audit = audit

    @in_thread
    def outbound(self) -> str | None:
        """Return None while messages may go out, else by whom and when the kill switch was turned, in words."""
        with self.database.reading() as connection:
            return switched_off(connection)

    @in_thread
    def set_outbound(self, on: bool, by: str) -> None:
        """Turn the kill switch."""
        with self.database.writing() as connection:
            moment = self._clock()
            values: dict[str, Any] = {"value": "on" if on else "off", "by": by, "at": moment}
            switch = switches.c.name == OUTBOUND
            if not connection.execute(update(switches).where(switch).values(values)).rowcount:
                connection.execute(insert(switches).values(values | {"name": OUTBOUND}))
            self._audit.append(connection, moment, {"event": "outbound", "value": values["value"], "by": by})

    @in_thread
    def counted(self, quotas: Sequence[Quota]) -> str | None:
        """Return the first of these limits that is reached, in words; None: none is."""
        with self.database.reading() as connection:
            return dedup.counted(connection, quotas)

    @in_thread
    def written_since(self, caller: str, tool: str, since: datetime) -> int:
        """Return how many records a caller's actions of this tool have written, or are writing, since then."""
        with self.database.reading() as connection:
            return dedup.written_by(connection, caller, tool, since)


def switched_off(connection: Connection) -> str | None:
    """Return None while messages may go out, else by whom and when they were stopped, in words."""
    query = select(switches.c.value, switches.c.by, switches.c.at).where(switches.c.name == OUTBOUND)
    row = connection.execute(query).one_or_none()
    return None if row is None or row.value == "on" else f"turned off by {row.by} at {rfc3339(row.at)}"
