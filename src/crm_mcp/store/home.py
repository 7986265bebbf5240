"""Where the state lives: what a file and a server must both be able to do for `database.Database`."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from sqlalchemy import Connection, Engine

PATIENCE = 5.0
"""How many seconds a call waits for a connection, and for its turn to write."""


class Fault(NamedTuple):
    """What is wrong with a database, and what to do about it."""

    what: str
    fix: str


class Home(Protocol):
    """A file or a server."""

    name: str
    """As errors call it."""
    elsewhere: str
    """What else can be done where it can't be used, as errors say it."""

    claims_write: bool
    """Whether a transaction that claims needs the only right to write as well."""

    def engine(self, connections: int) -> Engine:
        """Return what makes connections."""
        ...

    def begun(self, connection: Connection, kind: str, patience: float) -> None:
        """Make a transaction that has just begun what its kind wants, within so many seconds."""
        ...

    def migrating(self, connection: Connection) -> None:
        """Prepare a transaction that migrates."""
        ...

    def fault(self, error: BaseException | None) -> Fault | None:
        """Return what is wrong with the database, if that is what the driver's error says."""
        ...

    def commit_is_certain(self) -> bool:
        """Whether a commit that failed has left nothing."""
        ...
