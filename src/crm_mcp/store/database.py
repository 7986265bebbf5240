"""The state's file: opening, transactions, migrations, and faults in plain words. All that is SQLite's own is here."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pydantic_core import to_jsonable_python
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from crm_mcp.errors import Unreachable
from crm_mcp.store.tables import HEAD

# What a CRM answered is recorded even where it is no plain JSON (dates, for example): a send must not lose its outcome.
_JSON = partial(json.dumps, default=to_jsonable_python, separators=(",", ":"))

BUSY_MS = 5000
SMALLEST = 512
"""Bytes of the smallest page. SQLite takes a shorter file for an empty one, whatever is in it, and writes over it."""
PRAGMAS = (f"PRAGMA busy_timeout={BUSY_MS}", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON")
MIGRATIONS = Path(__file__).parent / "migrations"
ELSEWHERE = "or set CRM_MCP_DATA_DIR to another folder"

# By primary result code (the low byte): what is wrong with the file, and what to do about it.
_FAULTS = {
    sqlite3.SQLITE_NOTADB: ("is no database of crm-mcp", f"move it away, {ELSEWHERE}"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", f"restore it from a backup, move it away, {ELSEWHERE}"),
    sqlite3.SQLITE_FULL: ("can't be written: the disk is full", f"free some space, {ELSEWHERE}"),
    sqlite3.SQLITE_READONLY: ("can't be written: it is read-only", f"make it writable, {ELSEWHERE}"),
    sqlite3.SQLITE_CANTOPEN: ("can't be opened", f"check that the folder is there and writable, {ELSEWHERE}"),
    sqlite3.SQLITE_PERM: ("can't be opened", f"check that the folder is there and writable, {ELSEWHERE}"),
    sqlite3.SQLITE_IOERR: ("can't be read or written: the disk fails", f"check the disk, {ELSEWHERE}"),
    sqlite3.SQLITE_BUSY: ("is in use by another program", "try again in a moment"),
    sqlite3.SQLITE_LOCKED: ("is in use by another program", "try again in a moment"),
}


class Database:
    """One file. It is opened, and brought to the newest layout, at the first transaction."""

    def __init__(self, path: Path, connections: int) -> None:
        self._path = path
        self._connections = connections
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Open a transaction that sees one state of the file throughout."""
        with self._plain_faults(), self._opened().begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Open a transaction that holds the only right to write from its start."""
        with self._plain_faults(), _writing(self._opened()) as connection:
            yield connection

    def close(self) -> None:
        """Close all connections. A later transaction opens the file again."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _opened(self) -> Engine:
        with self._opening:
            if self._engine is None:
                engine = self._made()
                try:
                    self._bring_up_to_date(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _made(self) -> Engine:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            # Names, addresses and texts are in it: for this user alone. SQLite gives its side files the same mode.
            self._path.touch(mode=0o600)
        elif 0 < self._path.stat().st_size < SMALLEST and self._path.is_file():
            what, fix = _FAULTS[sqlite3.SQLITE_NOTADB]
            raise Unreachable(f"the state file {self._path} {what}", fix, wrote=False)
        url = URL.create("sqlite", database=str(self._path))
        engine = create_engine(url, pool_size=self._connections, max_overflow=0, json_serializer=_JSON)
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        return engine

    def _bring_up_to_date(self, engine: Engine) -> None:
        with engine.begin() as connection:
            if _revision(connection) == HEAD:
                return
        with _writing(engine) as connection:  # another process may be doing the same: one waits, and finds it done
            found = _revision(connection)
            if found is None and inspect(connection).get_table_names():
                fix = f"move it away, {ELSEWHERE}"
                raise Unreachable(f"the state file {self._path} is of another program", fix, wrote=False)
            if found != HEAD:
                self._migrate(connection, found)

    def _migrate(self, connection: Connection, found: str | None) -> None:
        # Loaded here only: it takes longer to import than everything else in the store.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise Unreachable(
                f"the state file {self._path} was made by a newer crm-mcp",
                f"update crm-mcp, {ELSEWHERE}",
                detail=f"revision {found!r}, known up to {HEAD!r}",
                wrote=False,
            )
        command.upgrade(config, "head")

    @contextmanager
    def _plain_faults(self) -> Generator[None]:
        """Turn faults of the file into words. Each transaction is all or nothing, so nothing was written."""
        try:
            yield
        except DBAPIError as error:
            self._say(error.orig, error)
            raise
        except sqlite3.Error as error:  # from setting up a connection
            self._say(error, error)
            raise
        except OSError as error:
            what = f"the state file {self._path} can't be made"
            fix = f"check that the folder is there and writable, {ELSEWHERE}"
            raise Unreachable(what, fix, detail=str(error), wrote=False) from error

    def _say(self, fault: BaseException | None, cause: Exception) -> None:
        code = getattr(fault, "sqlite_errorcode", None)
        words = _FAULTS.get(code & 0xFF) if isinstance(code, int) else None
        if words is not None:
            what = f"the state file {self._path} {words[0]}"
            raise Unreachable(what, words[1], detail=repr(fault), wrote=False) from cause


@contextmanager
def _writing(engine: Engine) -> Generator[Connection]:
    with engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
        yield connection


def _set_up(raw: sqlite3.Connection, _record: object) -> None:
    """Prepare a new connection; transactions are begun by `_begin`, never by the driver."""
    try:
        raw.isolation_level = None
        for pragma in PRAGMAS:
            raw.execute(pragma)
        _use_wal(raw)
    except BaseException:
        raw.close()
        raise


def _use_wal(raw: sqlite3.Connection) -> None:
    """Switch to the write-ahead log: readers and the writer don't wait for each other."""
    give_up = time.monotonic() + BUSY_MS / 1000
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
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
