"""Ids, moments, positions and pages: how rows become nouns and back."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from collections.abc import Sequence as Seq
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from crm_mcp.errors import InvalidArgument, NotFound
from crm_mcp.model import Page, Slice

R = TypeVar("R")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_LARGEST = 2**63

# The letter of an id, and where to look for a right one.
KINDS = {
    "lead": ("L", "find it with search_leads"),
    "deal": ("D", "list_deals has the ids"),
    "task": ("T", "list_tasks has the ids"),
    "note": ("N", "list_activity has the ids"),
    "call": ("C", "list_activity has the ids"),
    "sequence": ("S", "list_options has the sequences"),
    "mailbox": ("B", "list_options has the mailboxes"),
}
TABLES = {"lead": "leads", "deal": "deals", "task": "tasks", "note": "notes", "call": "calls", "sequence": "sequences"}


def missing(kind: str, record: str) -> NotFound:
    """Return the error for an id that isn't there."""
    return NotFound(f'there is no {kind} "{record[:40]}"', KINDS[kind][1], wrote=False)


def number(kind: str, record: str) -> int:
    """Return the row number of an id such as `L12`. Raises NotFound where it is none."""
    if record[:1] != KINDS[kind][0] or not _NUMBER.fullmatch(record[1:]):
        raise missing(kind, record)
    return int(record[1:])


def existing(db: sqlite3.Connection, kind: str, record: str) -> int:
    """Return the row number of an id that exists. Raises NotFound otherwise."""
    n = number(kind, record)
    if db.execute(f"SELECT 1 FROM {TABLES[kind]} WHERE n = ?", (n,)).fetchone() is None:
        raise missing(kind, record)
    return n


def lead_id(n: int | None) -> str | None:
    """Return the id of a lead's row, None for none."""
    return None if n is None else f"L{n}"


def millis(moment: datetime) -> int:
    """Return a moment as milliseconds since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def optional_millis(moment: datetime | None) -> int | None:
    """Return a moment as milliseconds since 1970, None for none."""
    return None if moment is None else millis(moment)


def moment(value: int | None) -> datetime | None:
    """Return the moment of a column; None for none and for 0, which stands for never."""
    return _EPOCH + timedelta(milliseconds=value) if value else None


def present() -> int:
    """Return the present moment in milliseconds since 1970."""
    return millis(datetime.now(UTC))


def position(part: Slice, *kinds: type) -> tuple[Any, ...] | None:
    """Return the key that a page starts after, None at the beginning.

    Raises:
        InvalidArgument: the position is not one that this list gave out.
    """
    if part.position is None:
        return None
    try:
        found: Any = json.loads(part.position)
    except (ValueError, RecursionError):
        found = None
    values = cast("list[Any]", found) if isinstance(found, list) else []
    if len(values) != len(kinds) or any(type(each) is not kind for each, kind in zip(values, kinds, strict=True)):
        raise _bad_cursor()
    for each in values:
        if isinstance(each, int) and not -_LARGEST <= each < _LARGEST:
            raise _bad_cursor()
        if isinstance(each, str) and not each.isascii() and not _encodes(each):
            raise _bad_cursor()
    return tuple(values)


def _bad_cursor() -> InvalidArgument:
    return InvalidArgument("the cursor is not one that this list gave out", "start again without a cursor")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def paged(
    rows: Seq[sqlite3.Row],
    part: Slice,
    make: Callable[[Seq[sqlite3.Row]], Seq[R]],
    key: Callable[[sqlite3.Row], Seq[int | str]],
    total: int | None = None,
) -> Page[R]:
    """Return a page of rows, of which one more than wanted was read."""
    shown = rows[: part.limit]
    following = json.dumps(list(key(shown[-1])), separators=(",", ":")) if len(rows) > part.limit else None
    return Page(items=tuple(make(shown)), next=following, total=total)
