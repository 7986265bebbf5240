"""Lists of the four vendors, in the pages that are asked for: those that count pages, those that come whole, several
that become one."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Activity, Page, Record, Slice

_POSITIONS = TypeAdapter(dict[str, tuple[str | None, Annotated[int, Field(ge=0)]]])
R = TypeVar("R", bound=Record)
T = TypeVar("T")
Fetch = Callable[[Slice], Awaitable[Page[Activity]]]
SMALLEST_MAXIMUM = 10
"""No vendor is known whose pages have fewer rows at most."""
Rows = Callable[[int, int], Awaitable[tuple[list[Any], int | None]]]
"""Fetches page N (from 1) of so many rows: the rows, and how many there are in all where the vendor says it."""

EARLIEST = datetime.min.replace(tzinfo=UTC)


class Row(Record):
    """A row of a list before it is decoded; empty where the CRM gives what is no record."""

    row: dict[str, Any]


def as_row(row: object) -> Row:
    """Return a row of a list."""
    return Row.model_construct(row=row if isinstance(row, dict) else {})


class Leaf(NamedTuple):
    """A page of a list as it was read."""

    rows: list[Any]
    total: int | None
    """How many there are in all, where it is told."""
    last: bool
    """Whether the list ends with it."""


async def pages(
    fetch: Callable[[int], Awaitable[tuple[list[Any], int | None]]],
    key: Callable[[Any], str],
    *,
    most: int | None = None,
    size: float = 0,
) -> AsyncGenerator[Leaf]:
    """Yield the rows of a list page by page (from 1, at most so many), each row once.

    The end is where the number of rows that is told is reached, or a page has nothing new: a short page may be the
    vendor's maximum. Where no number is told, a page with fewer rows than `size` is the last one too.
    """
    seen: set[str] = set()
    number, last = 0, False
    while not last and (most is None or number < most):
        number += 1
        rows, total = await fetch(number)
        new = [row for row in rows if key(row) not in seen]
        seen.update(map(key, new))
        last = not new or (len(seen) >= total if total is not None else len(rows) < size)
        yield Leaf(new, total, last)


async def gathered(found: AsyncGenerator[Leaf]) -> Leaf:
    """Return all pages of a list as one."""
    rows: list[Any] = []
    told: int | None = None
    last = False
    async with aclosing(found):
        async for new, total, last in found:  # noqa: B007 - the last one says it
            rows += new
            told = told if total is None else max(told or 0, total)
    return Leaf(rows, told, last)


def at_once(read: Callable[[], Awaitable[Sequence[Activity]]]) -> Fetch:
    """Return what fetches the parts of a history that comes whole; it is read once, where a part is wanted."""
    found: Sequence[Activity] | None = None

    async def fetch(wanted: Slice) -> Page[Activity]:
        nonlocal found
        found = await read() if found is None else found
        return part_of(found, wanted)

    return fetch


def newest_first(items: Iterable[T], when: Callable[[T], datetime | None]) -> list[T]:
    """Return items by their moment, those without one last."""
    return sorted(items, key=lambda each: when(each) or EARLIEST, reverse=True)


async def window(fetch: Rows, decode: Callable[[Any], R], part: Slice, most: int = 100) -> Page[R]:
    """Return the rows after an offset from a vendor that counts pages.

    The position is `40:20`: the offset, and the size of the pages, which stays what the first call showed that the
    vendor really gives, whatever is asked for later. A page may therefore have fewer rows than `part.limit`.
    """
    place, _, known = (None, "", "") if part.position is None else part.position.partition(":")
    offset, size = whole(place), whole(known or None)
    first: tuple[list[Any], int | None] | None = None
    if not size:
        size, first = await _first_page(fetch, min(part.limit, most))
    number = offset // size + 1
    rows, total = first if first and number == 1 else await fetch(number, size)
    start = offset - (number - 1) * size
    wanted = rows[start : start + part.limit]
    end = offset + len(wanted)
    more = end < total if total is not None else start + len(wanted) < len(rows) or len(rows) >= size
    following = f"{end}:{size}" if more and wanted else None
    return Page[R](items=tuple(decode(row) for row in wanted), next=following, total=total)


async def _first_page(fetch: Rows, asked: int) -> tuple[int, tuple[list[Any], int | None]]:
    """Return the size that a vendor's pages really have, and the first page.

    A page that is shorter than was asked for is the last one, or the vendor's own maximum. Where no total tells them
    apart, the next page does; it is looked at only where the number could be a maximum.
    """
    rows, total = await fetch(1, asked)
    found = len(rows)
    if found > asked:
        # It does not heed the size; without a total, it is taken not to heed the page either: these are all.
        return (found, (rows, total)) if total is not None else (found + 1, (rows, found))
    capped = 0 < found < asked and total is not None and total > found
    if total is None and SMALLEST_MAXIMUM <= found < asked and found % 5 == 0:
        following, _ = await fetch(2, asked)
        capped = bool(following) and following != rows
    return (found if capped else asked), (rows, total)


def part_of(rows: Sequence[R], part: Slice, *, total: int | None = None, complete: bool = True) -> Page[R]:
    """Return a part of a list that the vendor gives as a whole; the position is an offset.

    There are `total` rows, else as many as are given; of a list that is not `complete` it is not known.
    """
    offset = whole(part.position)
    items = tuple(rows[offset : offset + part.limit])
    end = offset + len(items)
    known = (len(rows) if total is None else total) if complete else None
    return Page[R](items=items, next=str(end) if end < len(rows) else None, total=known)


async def merged(sources: Mapping[str, Fetch], since: datetime | None, part: Slice) -> Page[Activity]:
    """Merge histories that are newest first each into one that is.

    The position keeps, for each source, the position of its page (null at its end) and how many rows of that page have
    been given.
    """
    places = _places(sources, part.position)
    pages: dict[str, Page[Activity]] = {}

    async def head(name: str) -> Activity | None:
        while (position := places[name][0]) is not None:
            if name not in pages:
                pages[name] = await sources[name](Slice(limit=100, position=position or None))
            page, given = pages[name], places[name][1]
            if given < len(page.items):
                return page.items[given]
            places[name] = (page.next if page.next != position else None, 0)
            del pages[name]
        return None

    taken: list[Activity] = []
    while True:
        heads = {name: found for name in sources if (found := await head(name))}
        newest = max(heads, key=lambda each: _at(heads[each]), default=None)
        if newest is None or (since and _at(heads[newest]) < since):
            return Page[Activity](items=tuple(taken))
        if len(taken) == part.limit:
            return Page[Activity](items=tuple(taken), next=json.dumps(places))
        taken.append(heads[newest])
        places[newest] = (places[newest][0], places[newest][1] + 1)


def whole(position: str | None) -> int:
    """Return the offset that a position stands for."""
    if position is None:
        return 0
    if not position.isdecimal() or len(position) > 9:
        raise InvalidArgument("cursor is not one of this list", "leave it out to start anew")
    return int(position)


def _at(item: Activity) -> datetime:
    return item.at or EARLIEST


def _places(sources: Mapping[str, Fetch], position: str | None) -> dict[str, tuple[str | None, int]]:
    if position is None:
        return dict.fromkeys(sources, ("", 0))
    try:
        given = _POSITIONS.validate_json(position)
    except ValidationError:
        given = {}
    if given.keys() != sources.keys():
        raise InvalidArgument("cursor is not one of this list", "leave it out to start anew")
    return given
