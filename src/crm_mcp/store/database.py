"""The state's database: opening, transactions, migrations, and faults in plain words, the same for both kinds."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoneFree

from crm_mcp.errors import CrmError, Unreachable
from crm_mcp.store.home import PATIENCE, Home
from crm_mcp.store.sqlite import File
from crm_mcp.store.tables import HEAD

MIGRATIONS = Path(__file__).parent / "migrations"

Kind = Literal["reading", "writing", "claiming"]


class Database:
    """One file, or one database of a PostgreSQL server (its URL).

    It is opened, and brought to the newest layout, at the first transaction.
    """

    def __init__(self, where: Path | str, connections: int) -> None:
        self._home = _home(where)
        self._connections = connections
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._turn = threading.Lock()
        self._failed: tuple[float, Exception] | None = None

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Open a transaction that sees one state of the database throughout."""
        with self._transaction("reading") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Open a transaction that holds the only right to write from its start."""
        with self._transaction("writing") as connection:
            yield connection

    @contextmanager
    def claiming(self) -> Generator[Connection]:
        """Open a transaction that changes rows that it locks, beside others that do.

        It waits for no writer but for one that changes the same row. In SQLite it is one that writes.
        """
        with self._transaction("claiming") as connection:
            yield connection

    def close(self) -> None:
        """Close all connections. A later transaction opens the database again."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    @contextmanager
    def _transaction(self, kind: Kind) -> Generator[Connection]:
        with self._plain_faults(), self._begun(self._opened(), kind) as connection:
            yield connection

    @contextmanager
    def _begun(self, engine: Engine, kind: Kind) -> Generator[Connection]:
        committing = False
        try:
            with self._my_turn(kind) as patience, engine.connect() as connection:
                connection.execution_options(kind=kind, patience=patience)
                with connection.begin():
                    self._home.begun(connection, kind, patience)
                    yield connection
                    committing = True
        except DBAPIError as error:
            if committing and kind != "reading" and not self._home.commit_is_certain():
                what = f"{self._home.name} broke off while it wrote"
                fix = "whether it was written is not known; look it up"
                raise Unreachable(what, fix, detail=repr(error.orig)) from error
            raise

    @contextmanager
    def _my_turn(self, kind: Kind) -> Generator[float]:
        """Wait until no other thread writes; yields the seconds that are left to wait for other processes.

        Who waits here holds no connection: readers go on, whatever holds the writers up.
        """
        if kind == "reading" or (kind == "claiming" and not self._home.claims_write):
            yield PATIENCE
            return
        came = time.monotonic()
        if not self._turn.acquire(timeout=PATIENCE):
            raise Unreachable(f"{self._home.name} is busy", "try again in a moment", wrote=False)
        try:
            yield max(PATIENCE - (time.monotonic() - came), 0.2)
        finally:
            self._turn.release()

    def _opened(self) -> Engine:
        came = time.monotonic()
        with self._opening:
            if self._failed is not None and self._failed[0] >= came:
                # Others have waited for it meanwhile, in vain: each call waits once, however many there are.
                raise self._failed[1]
            if self._engine is None:
                engine = self._home.engine(self._connections)
                try:
                    self._bring_up_to_date(engine)
                except BaseException as error:
                    engine.dispose()
                    if isinstance(error, Exception):
                        self._failed = (time.monotonic(), error)
                    raise
                self._engine = engine
            return self._engine

    def _bring_up_to_date(self, engine: Engine) -> None:
        with self._begun(engine, "reading") as connection:
            if _revision(connection) == HEAD:
                return
        # Another process may be doing the same: one waits, and finds it done.
        with self._begun(engine, "writing") as connection:
            found = _revision(connection)
            if found is None and inspect(connection).get_table_names():
                fix = f"move it away, {self._home.elsewhere}"
                raise Unreachable(f"{self._home.name} is of another program", fix, wrote=False)
            if found != HEAD:
                self._home.migrating(connection)
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
                f"{self._home.name} was made by a newer crm-mcp",
                f"update crm-mcp, {self._home.elsewhere}",
                detail=f"revision {found!r}, known up to {HEAD!r}",
                wrote=False,
            )
        command.upgrade(config, "head")

    @contextmanager
    def _plain_faults(self) -> Generator[None]:
        """Turn faults of the database into words. Each transaction is all or nothing, so nothing was written."""
        try:
            yield
        except CrmError:
            raise
        except DBAPIError as error:
            self._say(error.orig, error)
            raise
        except NoneFree as error:
            what = f"{self._home.name} is busy"
            raise Unreachable(what, "try again in a moment", detail=str(error), wrote=False) from error
        except OSError as error:
            what = f"{self._home.name} can't be made"
            fix = f"check that the folder is there and writable, {self._home.elsewhere}"
            raise Unreachable(what, fix, detail=str(error), wrote=False) from error
        except Exception as error:  # from setting up a connection
            self._say(error, error)
            raise

    def _say(self, fault: BaseException | None, cause: Exception) -> None:
        words = self._home.fault(fault)
        if words is not None:
            raise Unreachable(f"{self._home.name} {words.what}", words.fix, detail=repr(fault), wrote=False) from cause


def _home(where: Path | str) -> Home:
    if isinstance(where, Path):
        return File(where)
    # Where the state is a file, the driver of servers is not loaded.
    from crm_mcp.store.postgres import Server

    return Server(where)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
