"""The cap on a result: what of it goes where it has no room for all.

How much of each text and list can stay is found by trying, each try a copy that is given up as soon as it is too long:
what is large costs no more than what fits, however large it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from json.encoder import encode_basestring
from math import isqrt
from typing import Any, cast

from crm_mcp.actions.offload import outgrows
from crm_mcp.server.rendering import LEFT_OUT, MOST, fits, size
from crm_mcp.text import neutral

LONG = 200
"""Characters of a text that is worth cutting, and of the longest name."""
MOST_NAMED = 20
"""Lists of which is told how much was left out; of the others, together."""
TRIES = 8


def cap(structured: dict[str, Any], rest: str) -> dict[str, Any]:
    """Return a result that fits, itself where it does.

    Its longest texts are cut, each with a marker that says how to get the rest; where that is not enough, its longest
    lists and records, and `left_out` says of how many items.
    """
    if fits(structured):
        return structured
    marker = f"... [cut: {rest}]"
    room = MOST
    for _ in range(TRIES):
        cut = _as_much_as_fits(structured, marker, room)
        if cut is None:
            break
        if (found := size(cut)) <= MOST:
            return cut
        # The text form is longer than the other: so much less, and a little, goes into both.
        room = room * MOST * 49 // (found * 50)
    return {name: marker if outgrows(each, LONG) else each for name, each in structured.items()}


def _as_much_as_fits(structured: Mapping[str, Any], marker: str, room: int) -> dict[str, Any] | None:
    """Return the largest copy that has at most `room` characters as JSON; None where even the smallest is longer."""

    def tried(text: int, items: int) -> _CappedCopy:
        return _CappedCopy(structured, text, items, marker, room)

    shortest = LONG + len(marker)
    best: _CappedCopy | None = tried(shortest, room)
    if best.made is None:
        best = _most(lambda items: tried(shortest, items), 0, best.longest)
    if best and best.shortened:
        items = best.items
        best = _most(lambda text: tried(text, items), shortest, room) or best
    return best.made if best else None


def _most(tried: Callable[[int], _CappedCopy], low: int, high: int) -> _CappedCopy | None:
    """Return the copy for about the largest number between two that has room for it: `low` has, `high` has not."""
    best: _CappedCopy | None = None
    middle = high - high // 50 - 1  # where one list or text is what is long, this is it
    while high - low > max(1, low // 50):
        copy = tried(max(middle, low + 1))
        if copy.made is None:
            high = max(middle, low + 1)
        else:
            best, low = copy, max(middle, low + 1)
        middle = isqrt(low * high)
    return best


class _NoRoomError(Exception):
    """A copy has no room left."""


class _CappedCopy:
    """A copy of JSON with texts of at most `text` characters and lists of at most `items`, in at most `room`."""

    def __init__(self, structured: Mapping[str, Any], text: int, items: int, marker: str, room: int) -> None:
        self._text = text
        self._marker = marker
        self._room = room
        self._left_out: dict[str, int] = {}
        self.items = items
        self.longest = 0
        """How many items of one list or record were looked at, at most."""
        self.shortened = False
        """Whether a text was."""
        self.made: dict[str, Any] | None = None
        """None where there is no room for it."""
        with suppress(_NoRoomError):
            self.made = self._of_all(structured)

    def _of_all(self, structured: Mapping[str, Any]) -> dict[str, Any]:
        """Return the copy of a result, whose own fields all stay."""
        before = structured.get(LEFT_OUT)
        if isinstance(before, dict):
            self._left_out.update(cast("dict[str, int]", before))
        copied = {name: self._of(each, name) for name, each in structured.items() if name != LEFT_OUT}
        self._spend(sum(len(name) + 4 for name in copied))
        return copied | ({LEFT_OUT: self._told()} if self._left_out else {})

    def _of(self, value: Any, name: str) -> Any:
        """Return the copy of what stands under a name, or in a list that does."""
        if isinstance(value, str):
            return self._short(value)
        if isinstance(value, dict):
            return self._record(cast("dict[str, Any]", value), name)
        if isinstance(value, list):
            return self._list(cast("list[Any]", value), name)
        self._spend(len(repr(value)) + 1)
        return value

    def _short(self, text: str) -> str:
        if len(text) > self._text:
            # The cut may part a joiner from what it joins.
            text = neutral(text[: self._text - len(self._marker)]) + self._marker
            self.shortened = True
        self._spend(len(encode_basestring(text)) + 1)
        return text

    def _list(self, several: list[Any], name: str) -> list[Any]:
        self._count(name, len(several) - self.items)
        self._spend(2)
        kept: list[Any] = []
        try:
            for each in islice(several, self.items):
                kept.append(self._of(each, name))  # noqa: PERF401 - how far it comes is counted
        finally:
            self.longest = max(self.longest, len(kept) + 1)
        return kept

    def _record(self, record: Mapping[str, Any], name: str) -> dict[str, Any]:
        self._count(name, len(record) - self.items)
        self._spend(2)
        kept: dict[str, Any] = {}
        try:
            for given, each in islice(record.items(), self.items):
                field = given if len(given) <= LONG else f"{neutral(given[:LONG])}..."
                while field in kept:  # two that begin alike are two still
                    field = f"{field} (2)"
                self._spend(len(encode_basestring(field)) + 1)
                kept[field] = self._of(each, field)
        finally:
            self.longest = max(self.longest, len(kept) + 1)
        return kept

    def _spend(self, characters: int) -> None:
        self._room -= characters
        if self._room < 0:
            raise _NoRoomError

    def _count(self, name: str, more: int) -> None:
        if more > 0:
            self._left_out[name] = self._left_out.get(name, 0) + more

    def _told(self) -> dict[str, int]:
        """Return of how many items of which lists the copy is."""
        most = sorted(self._left_out, key=lambda name: -self._left_out[name])
        told = {name: self._left_out[name] for name in most[:MOST_NAMED]}
        if others := sum(self._left_out[name] for name in most[MOST_NAMED:]):
            told["others"] = told.get("others", 0) + others
        self._spend(sum(len(encode_basestring(name)) + len(str(number)) + 2 for name, number in told.items()) + 14)
        return told
