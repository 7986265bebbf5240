"""The state in a file of SQLite: how it is opened, begun, and what its faults are in words."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event

from crm_mcp.errors import Unreachable
from crm_mcp.store.home import PATIENCE, Fault

SMALLEST = 512
"""Bytes of the smallest page. SQLite takes a shorter file for an empty one, whatever is in it, and writes over it."""
PRAGMAS = ("PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON")
ELSEWHERE = "or set CRM_MCP_DATA_DIR to another folder"


# By primary result code (the low byte).
_FAULTS = {
    sqlite3.SQLITE_NOTADB: Fault("is no database of crm-mcp", f"move it away, {ELSEWHERE}"),
    sqlite3.SQLITE_CORRUPT: Fault("is damaged", f"restore it from a backup, move it away, {ELSEWHERE}"),
    sqlite3.SQLITE_FULL: Fault("can't be written: the disk is full", f"free some space, {ELSEWHERE}"),
    sqlite3.SQLITE_READONLY: Fault("can't be written: it is read-only", f"make it writable, {ELSEWHERE}"),
    sqlite3.SQLITE_CANTOPEN: Fault("can't be opened", f"check that the folder is there and writable, {ELSEWHERE}"),
    sqlite3.SQLITE_PERM: Fault("can't be opened", f"check that the folder is there and writable, {ELSEWHERE}"),
    sqlite3.SQLITE_IOERR: Fault("can't be read or written: the disk fails", f"check the disk, {ELSEWHERE}"),
    sqlite3.SQLITE_BUSY: Fault("is in use by another program", "try again in a moment"),
    sqlite3.SQLITE_LOCKED: Fault("is in use by another program", "try again in a moment"),
}


class File:
    """One file, for this user alone. Only one transaction at a time writes, from its start on."""

    elsewhere = ELSEWHERE
    claims_write = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = f"the state file {path}"

    def engine(self, connections: int) -> Engine:
        """Return what makes connections, and the file where there is none."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            # Names, addresses and texts are in it: for this user alone. SQLite gives its side files the same mode.
            self._path.touch(mode=0o600)
        elif 0 < self._path.stat().st_size < SMALLEST and self._path.is_file():
            what, fix = _FAULTS[sqlite3.SQLITE_NOTADB]
            raise Unreachable(f"{self.name} {what}", fix, wrote=False)
        url = URL.create("sqlite", database=str(self._path))
        engine = create_engine(url, pool_size=connections, max_overflow=0, pool_timeout=PATIENCE)
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        return engine

    def begun(self, connection: Connection, kind: str, patience: float) -> None:
        """Do nothing: `_begin` has begun the transaction as its kind wants."""

    def migrating(self, connection: Connection) -> None:
        """Do nothing: a statement takes as long as it takes."""

    def fault(self, error: BaseException | None) -> Fault | None:
        """Return what is wrong with the file; None: nothing, a statement is at fault."""
        code = getattr(error, "sqlite_errorcode", None)
        return _FAULTS.get(code & 0xFF) if isinstance(code, int) else None

    def commit_is_certain(self) -> bool:
        """Whether a commit that failed has left nothing. It has: there is no wire that could break."""
        return True


def _set_up(raw: sqlite3.Connection, _record: object) -> None:
    """Prepare a new connection; transactions are begun by `_begin`, never by the driver."""
    try:
        raw.isolation_level = None
        raw.execute(f"PRAGMA busy_timeout={PATIENCE * 1000:.0f}")
        for pragma in PRAGMAS:
            raw.execute(pragma)
        _use_wal(raw)
    except BaseException:
        raw.close()
        raise


def _use_wal(raw: sqlite3.Connection) -> None:
    """Switch to the write-ahead log: readers and the writer don't wait for each other."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # Two processes that switch a new file at once: SQLite refuses one of them without waiting.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.005)
        else:
            return


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("kind", "reading") == "reading":
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout={options['patience'] * 1000:.0f}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
