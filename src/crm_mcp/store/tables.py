"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import JSON, BigInteger, Column, Dialect, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator

HEAD = "0001"
"""The newest migration. A file at this revision is opened without loading the migration library."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class UtcMillis(TypeDecorator[datetime]):
    """A moment as whole milliseconds since 1970: the same, and in the same order, in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return what is stored."""
        return None if value is None else (value - _EPOCH) // _MILLISECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return what was meant."""
        return None if value is None else _EPOCH + value * _MILLISECOND


# SQLite numbers rows by itself only in a column that is exactly INTEGER.
_Number = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

actions = Table(
    "actions",
    metadata,
    Column("no", _Number, primary_key=True),  # the order of asking
    Column("id", String(18), nullable=False, unique=True),
    Column("caller", String, nullable=False),
    Column("connection", String, nullable=False),
    Column("tool", String, nullable=False),
    Column("effect", String, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("digest", String, nullable=False),
    Column("summary", Text, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("preview", Text),
    Column("status", String(16), nullable=False),
    Column("approved_by", String),
    Column("reason", Text),
    Column("error", String),
    Column("result", JSON(none_as_null=True)),
    Column("undo", JSON(none_as_null=True)),
    Column("lead", String),
    Column("touched", JSON, nullable=False),
    Column("touched_kinds", String, nullable=False),  # "|deal|lead|", for finding; empty when nothing was touched
    Column("size", BigInteger, nullable=False),
    Column("asked", String(16), nullable=False),
    Column("created_at", UtcMillis, nullable=False),
    Column("expires_at", UtcMillis),
    Column("started_at", UtcMillis),
    Column("finished_at", UtcMillis),
    Column("finished_no", BigInteger, unique=True),  # the order of finishing, without gaps for readers
)
Index(None, actions.c.caller, actions.c.digest)
Index(None, actions.c.caller, actions.c.no)
Index(None, actions.c.caller, actions.c.tool, actions.c.started_at)
Index(None, actions.c.lead, actions.c.no)
Index(None, actions.c.status, actions.c.no)
Index(None, actions.c.finished_at)

counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

do_not_contact = Table(
    "do_not_contact",
    metadata,
    Column("channel", String(16), primary_key=True),
    Column("address", String, primary_key=True),
    Column("reason", Text),
    Column("blocked_by", String, nullable=False),
    Column("blocked_at", UtcMillis, nullable=False),
)
