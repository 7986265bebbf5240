"""The file of the embedded CRM: opened on first use, worked on by one thread, each verb one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from crm_mcp.backends.local.schema import APPLICATION_ID, MIGRATIONS
from crm_mcp.errors import CrmError, Internal, Unreachable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

FILE = "crm.sqlite3"
BUSY_SECONDS = 5.0
CACHE_KIB = 16_000
WAL_BYTES = 64_000_000


class _TakenBackError(Exception):
    """Ends a transaction of which nothing is to stay."""


class File:
    """One SQLite file and the thread that works on it.

    `prepare` runs inside the transaction that opens the file, after the migrations; `needed` says, by reading alone,
    whether it has anything to do.
    """

    def __init__(self, folder: Path, needed: Work[bool], prepare: Work[None]) -> None:
        self.path = folder / FILE
        self._needed = needed
        self._prepare = prepare
        self._db: sqlite3.Connection | None = None
        self._turn: anyio.CapacityLimiter | None = None

    async def read(self, work: Work[T]) -> T:
        """Return what `work` reads, all of it from one moment."""
        return await self._run(work, "BEGIN")

    async def write(self, work: Work[T]) -> T:
        """Return what `work` returns, once all that it wrote is on the disk; when it raises, nothing is written."""
        return await self._run(work, "BEGIN IMMEDIATE")

    async def try_out(self, work: Work[T]) -> T:
        """Return what `work` would return if it wrote; nothing is written, and a file that is not there is not made."""
        return await anyio.to_thread.run_sync(self._tried, work, limiter=self._limiter())

    async def aclose(self) -> None:
        """Close the file."""
        await anyio.to_thread.run_sync(self._close, limiter=self._limiter())

    def _limiter(self) -> anyio.CapacityLimiter:
        if self._turn is None:
            self._turn = anyio.CapacityLimiter(1)
        return self._turn

    async def _run(self, work: Work[T], begin: str) -> T:
        # A cancelled call still runs to its commit or rollback in the thread: no transaction is ever left open.
        return await anyio.to_thread.run_sync(self._transact, work, begin, limiter=self._limiter())

    def _transact(self, work: Work[T], begin: str) -> T:
        with explained(self.path):
            if self._db is None:
                self._db = self._open()
            db = self._db
            with _transaction(db, begin):
                return work(db)

    def _tried(self, work: Work[T]) -> T:
        if self._db is None and not self.path.exists():
            from tempfile import TemporaryDirectory  # twenty milliseconds, and start-up counts

            with TemporaryDirectory(prefix="crm-mcp-") as folder:
                aside = File(Path(folder), self._needed, self._prepare)
                try:
                    return aside._transact(work, "BEGIN IMMEDIATE")
                finally:
                    aside._close()
        found: list[T] = []

        def then_back(db: sqlite3.Connection) -> None:
            found.append(work(db))
            raise _TakenBackError

        with suppress(_TakenBackError):
            self._transact(then_back, "BEGIN IMMEDIATE")
        return found[0]

    def _close(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made here, not by SQLite: what is in it is nobody else's business, whatever the umask says.
        self.path.touch(mode=0o600, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            db.row_factory = sqlite3.Row
            self._refuse_others(db)
            _use_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
            if _version(db) < len(MIGRATIONS) or self._needed(db):
                self._bring_up(db)
        except BaseException:
            db.close()
            raise
        return db

    def _bring_up(self, db: sqlite3.Connection) -> None:
        """Migrate and prepare; another process that does the same waits here, and finds it done."""
        with _transaction(db, "BEGIN IMMEDIATE"):
            self._refuse_others(db)
            for version in range(_version(db), len(MIGRATIONS)):
                for statement in _statements(MIGRATIONS[version]):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {version + 1}")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            if self._needed(db):
                self._prepare(db)

    def _refuse_others(self, db: sqlite3.Connection) -> None:
        version = _version(db)
        if version > len(MIGRATIONS):
            raise Unreachable(
                f"{self.path} was written by a newer version of crm-mcp (format {version}, known: {len(MIGRATIONS)})",
                "upgrade crm-mcp, or set CRM_MCP_DATA_DIR to another folder",
                wrote=False,
            )
        ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        if not ours and (version or db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()):
            raise Unreachable(
                f"{self.path} is a database of another program",
                "move it away, or set CRM_MCP_DATA_DIR to another folder",
                wrote=False,
            )


@contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Generator[None]:
    """Commit what is done inside, or, when it raises, none of it."""
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; `executescript` would commit before it starts."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite does not wait for another process here, so this does."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


_EXPLAINED: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: ("is held by another process", "try again; nothing was written"),
    sqlite3.SQLITE_LOCKED: ("is held by another process", "try again; nothing was written"),
    sqlite3.SQLITE_READONLY: ("can't be written", "make the file and its folder writable; nothing was written"),
    sqlite3.SQLITE_PERM: ("can't be written", "make the file and its folder writable; nothing was written"),
    sqlite3.SQLITE_AUTH: ("can't be opened", "make the file and its folder readable and writable"),
    sqlite3.SQLITE_CANTOPEN: ("can't be opened", "make the file and its folder readable and writable"),
    sqlite3.SQLITE_FULL: ("does not fit on the disk any more", "free some space; nothing was written"),
    sqlite3.SQLITE_IOERR: ("can't be read or written: the disk fails or is full", "check it; nothing was written"),
    sqlite3.SQLITE_NOTADB: ("is no SQLite database", "move it away, or set CRM_MCP_DATA_DIR to another folder"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "restore it from a backup, or set CRM_MCP_DATA_DIR to another folder"),
}


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Turn what the file or its folder can do wrong into words."""
    try:
        yield
    except sqlite3.Error as error:
        # An overflow or a wrong use of the driver has no code: that is a fault of this program.
        code = getattr(error, "sqlite_errorcode", None)
        known = _EXPLAINED.get(code & 0xFF) if isinstance(code, int) else None
        if known is None:
            raise Internal("the embedded CRM failed", "see the log", detail=repr(error), wrote=False) from error
        raise Unreachable(f"{path} {known[0]}", known[1], detail=repr(error), wrote=False) from error
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> CrmError:
    """Return the error for a folder or file that can't be made."""
    words = (error.strerror or "it can't be opened").lower()
    return Unreachable(
        f"{path} can't be opened: {words}",
        "set CRM_MCP_DATA_DIR to a folder that can be written",
        detail=repr(error),
        wrote=False,
    )
