"""The tables, as the newest migration leaves them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic_core import to_jsonable_python
from sqlalchemy import BigInteger, Boolean, Column, Dialect, Index, Integer, MetaData, String, Table, Text, false
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

HEAD = "0004"
"""The newest migration. A state at this revision is opened without loading the migration library."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# What a CRM answered is recorded even where it is no plain JSON (dates, for example): a send must not lose its outcome.
# Everything but ASCII is escaped, so that no character, NUL and half a surrogate pair included, is refused.
written = partial(json.dumps, default=to_jsonable_python, separators=(",", ":"))


def millis(moment: datetime) -> int:
    """Return a moment as whole milliseconds since 1970."""
    return (moment - _EPOCH) // _MILLISECOND


def moment_of(stored: int) -> datetime:
    """Return the moment that is so many milliseconds after 1970."""
    return _EPOCH + stored * _MILLISECOND


class UtcMillis(TypeDecorator[datetime]):
    """A moment as whole milliseconds since 1970: the same, and in the same order, in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return what is stored."""
        return None if value is None else millis(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return what was meant."""
        return None if value is None else moment_of(value)


class Words(TypeDecorator[str]):
    """Text of any length, without what PostgreSQL can't keep: NUL, and halves of surrogate pairs."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return what is stored."""
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.replace("\0", "").encode(errors="replace").decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return what is stored."""
        return value


class Name(Words):
    """Short text."""

    impl = String
    cache_ok = True


class _DeclaredJson(UserDefinedType[str]):
    """What the first SQLite files call their columns of JSON."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "JSON"


class Json(TypeDecorator[Any]):
    """JSON as text, None as NULL: a server's own type would refuse a NUL that a vendor sent."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the column."""
        return _DeclaredJson() if dialect.name == "sqlite" else super().load_dialect_impl(dialect)

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return what is stored."""
        return None if value is None else written(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return what was meant."""
        return None if value is None else json.loads(value)


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
    Column("id", Name(18), nullable=False, unique=True),
    Column("caller", Name, nullable=False),
    Column("connection", Name, nullable=False),
    Column("tool", Name, nullable=False),
    Column("effect", Name, nullable=False),
    Column("arguments", Json, nullable=False),
    Column("digest", Name, nullable=False),
    Column("summary", Words, nullable=False),
    Column("facts", Json, nullable=False),
    Column("preview", Words),
    Column("status", Name(16), nullable=False),
    Column("approved_by", Name),
    Column("reason", Words),
    Column("error", Name),
    Column("result", Json),
    Column("undo", Json),
    Column("lead", Name),
    Column("touched", Json, nullable=False),
    Column("touched_kinds", Name, nullable=False),  # "|deal|lead|", for finding; empty when nothing was touched
    Column("size", BigInteger, nullable=False),
    Column("asked", Name(16), nullable=False),
    Column("created_at", UtcMillis, nullable=False),
    Column("expires_at", UtcMillis),
    Column("started_at", UtcMillis),
    Column("finished_at", UtcMillis),
    Column("finished_no", BigInteger, unique=True),  # the order of finishing, without gaps for readers
    Column("verdict", Name, nullable=False, server_default="allow"),
    Column("rule", Name, nullable=False, server_default=""),
    Column("request", Name),
    Column("due_at", UtcMillis),
    Column("owner", Name(32)),  # the process that works on it, until `lease_until`
    Column("lease_until", UtcMillis),
    Column("fence", BigInteger, key="fencing_token", nullable=False, server_default="0"),
    Column("looks", BigInteger, nullable=False, server_default="0"),
    Column("creates", Name(16)),
    Column("repeatable", Boolean, nullable=False, server_default=false()),
    Column("deletes", Boolean, nullable=False, server_default=false()),
)
Index(None, actions.c.caller, actions.c.digest)
Index(None, actions.c.caller, actions.c.no)
Index(None, actions.c.caller, actions.c.tool, actions.c.started_at)
Index(None, actions.c.lead, actions.c.no)
Index(None, actions.c.status, actions.c.no)
Index(None, actions.c.finished_at)

dedup_keys = Table(
    "marks",
    metadata,
    Column("no", _Number, primary_key=True),
    Column("key", Name, nullable=False),
    Column("action", Name(18), nullable=False),
    Column("channel", Name(16)),
    Column("address", Name),
    Column("connection", Name, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("at", UtcMillis),  # when it was claimed to be sent: it counts for the limits from then on
    Column("until", UtcMillis),
    # live: it stops a repeat; passed: it has lost that to a resend (`passed_to`), and still counts for the limits;
    # undone: likewise, because the action was taken back; over: likewise, because its effect has ended, as that of an
    # enrolment does; released: its effect did not happen.
    Column("state", Name(16), nullable=False),
    Column("passed_to", Name(18)),
)
Index(None, dedup_keys.c.key)
Index(None, dedup_keys.c.action)
Index(None, dedup_keys.c.passed_to)
Index(None, dedup_keys.c.address, dedup_keys.c.at)
Index(None, dedup_keys.c.connection, dedup_keys.c.channel, dedup_keys.c.at)

items = Table(
    "items",
    metadata,
    Column("action", Name(18), primary_key=True),
    Column("no", BigInteger, primary_key=True, autoincrement=False),
    Column("payload", Json, nullable=False),
    Column("status", Name(16), nullable=False),
    Column("result", Json),
)
Index(None, items.c.action, items.c.status, items.c.no)

counters = Table(
    "counters",
    metadata,
    Column("name", Name(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

blocks = Table(
    "blocks",
    metadata,
    Column("channel", Name(16), primary_key=True),  # or `every`: see `contacts.py`
    Column("address", Name, primary_key=True),
    Column("reason", Words),
    Column("blocked_by", Name, nullable=False),
    Column("blocked_at", UtcMillis, nullable=False),
    Column("lifted_at", UtcMillis),  # since when it is off the list; None: it is on it
    Column("lifted_by", Name),
)

addresses = Table(
    "addresses",
    metadata,
    Column("no", _Number, primary_key=True),
    Column("channel", Name(16), nullable=False),
    Column("address", Name, nullable=False),
    Column("by", Name, nullable=False),
    Column("tool", Name, nullable=False),
    Column("action", Name(18), nullable=False),
    Column("at", UtcMillis, nullable=False),
)
Index(None, addresses.c.channel, addresses.c.address, addresses.c.at)

switches = Table(
    "switches",
    metadata,
    Column("name", Name(32), primary_key=True),
    Column("value", Name(16), nullable=False),
    Column("by", Name, nullable=False),
    Column("at", UtcMillis, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("no", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),  # milliseconds since 1970, as they are sealed
    Column("key_id", Name(8), nullable=False),
    Column("body", Text, nullable=False),
    Column("mac", Name(64), nullable=False),
)
Index(None, audit.c.at)
