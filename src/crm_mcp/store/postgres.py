"""The state in a database of PostgreSQL: how it is reached, begun, and what its faults are in words.

Nothing that the server or the driver says reaches anyone: it may hold the password, and it comes in any language.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from crm_mcp.errors import Unreachable
from crm_mcp.store.home import PATIENCE, Fault

WAIT_MS = round(PATIENCE * 1000)
"""How long a lock is waited for."""
WORK_MS = 8000
"""How long a statement may take, the wait for a lock included."""
WRITER = 0x63726D2D6D6370
"""The number of the lock that the one writer holds: "crm-mcp" in ASCII."""
SETTING = "CRM_MCP_DATABASE_URL"

_OPTIONS = {
    "connect_timeout": round(PATIENCE),
    "application_name": "crm-mcp",
    # The row of a send must outlast a crash of the server, whatever the server's own setting is.
    "options": f"-c lock_timeout={WAIT_MS} -c statement_timeout={WORK_MS} "
    "-c idle_in_transaction_session_timeout=30000 -c synchronous_commit=on",
    # A server that is cut off is noticed: else a call would wait for its answer for hours.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 2 * WAIT_MS,
}

_AGAIN = "try again in a moment"
_CHECK = f"check the server and {SETTING}"
_DOWN = Fault("can't be reached", _CHECK)
_CROWDED = Fault("has too many connections", f"{_AGAIN}, or let the server take more")

# By the whole SQLSTATE, else by its class.
_FAULTS = {
    "08": _DOWN,
    "57P": _DOWN,
    "25P03": _DOWN,
    "25006": Fault("can't be written: it is read-only", f"name the primary server in {SETTING}"),
    "53100": Fault("can't be written: the disk is full", "free some space on the server"),
    "53300": _CROWDED,
    "53": Fault("has not the means for it", "look after the server"),
    "55P03": Fault("is in use by another program", _AGAIN),
    "57014": Fault("takes too long to answer", _AGAIN),
    "40": Fault("is in use by another program", _AGAIN),
    "42501": Fault("refuses this user", "give the user of the URL the right to make and change tables"),
    "28": Fault("refuses the user or the password", f"check {SETTING}"),
    "3D000": Fault("does not exist", f"create it, or check {SETTING}"),
    "58": Fault("can't be read or written: the disk fails", "look after the server"),
    "XX": Fault("is damaged", "restore it from a backup"),
}

# Before a connection stands the driver gives words alone. Those of a server in another language are `_DOWN`.
_SAID = {
    "password authentication failed": _FAULTS["28"],
    "no password supplied": _FAULTS["28"],
    "pg_hba.conf": _FAULTS["28"],
    "peer authentication failed": _FAULTS["28"],
    "too many clients": _CROWDED,
    "too many connections": _CROWDED,
    "remaining connection slots": _CROWDED,
    'role "': _FAULTS["28"],
    'database "': _FAULTS["3D000"],
    "starting up": Fault("is starting", _AGAIN),
}


class Server:
    """One database of a server, shared by all who are given its URL."""

    claims_write = False
    elsewhere = f"or give another database in {SETTING}"

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError) as error:
            raise Unreachable(
                f"{SETTING} is no URL", "write it as postgresql://user:password@host/name", wrote=False
            ) from error
        port = f":{self._url.port}" if self._url.port else ""
        self.name = f'the database "{self._url.database or ""}" at {self._url.host or "this machine"}{port}'

    def engine(self, connections: int) -> Engine:
        """Return what makes connections. One that broke while nobody used it is replaced."""
        given = {name: value for name, value in _OPTIONS.items() if name not in self._url.query}
        return create_engine(
            self._url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=PATIENCE,
            pool_pre_ping=True,
            connect_args={**given, "prepare_threshold": None},  # poolers between us and the server lose them
            hide_parameters=True,
            # Whatever the server's own default is: a writer must see what was written while it waited for its turn.
            isolation_level="READ COMMITTED",
        )

    def begun(self, connection: Connection, kind: str, patience: float) -> None:
        """Make a transaction what its kind wants: one writer at a time, or one state of the database throughout."""
        if kind == "reading":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        elif kind == "writing":
            if patience < PATIENCE - 0.1:  # much of it was spent on other threads of this process
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {patience * 1000:.0f}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER})")

    def migrating(self, connection: Connection) -> None:
        """Let statements of this transaction take as long as they take."""
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")

    def fault(self, error: BaseException | None) -> Fault | None:
        """Return what is wrong with the database; None: nothing, a statement is at fault."""
        import psycopg

        if not isinstance(error, psycopg.Error):
            return None
        state = error.sqlstate
        if state is not None:
            return _FAULTS.get(state) or _FAULTS.get(state[:3]) or _FAULTS.get(state[:2])
        if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return None
        said = str(error)
        return next((fault for words, fault in _SAID.items() if words in said), _DOWN)

    def commit_is_certain(self) -> bool:
        """Whether a commit that failed has left nothing. It may have happened before the answer was lost."""
        return False
