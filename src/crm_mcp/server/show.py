"""The compact text twin of a structured result, and the cap on the size of both.

A list of records is a table: one line of names, one line a record. What holds a line break or one of the separators is
quoted as a JSON string, so that no text from a record can look like another cell, line or field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

MOST = 17_500
"""Characters that a result may have in its larger form: below 6,000 tokens at three characters a token."""
ROW_TEXT = 600
"""Characters of a long text within a list."""
_SEPARATORS = ("|", "; ", ", ")


def text_of(structured: Mapping[str, Any]) -> str:
    """Return the text form of a structured result: says the same in fewer tokens."""
    return "\n".join(_lines(name, value) for name, value in structured.items())


def fits(structured: Mapping[str, Any]) -> bool:
    """Whether a result is small enough in both forms."""
    return len(as_json(structured)) <= MOST and len(text_of(structured)) <= MOST


def as_json(structured: Mapping[str, Any]) -> str:
    """Return a result as it goes over the wire."""
    return json.dumps(structured, ensure_ascii=False, separators=(",", ":"))


def shorten(text: str, most: int, rest: str) -> str:
    """Return a text cut to `most` characters, with a marker that says how to get the rest."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... [{len(text) - most} more characters: {rest}]"


def shorten_rows(rows: list[dict[str, Any]], fields: tuple[str, ...], rest: str) -> list[dict[str, Any]]:
    """Return records with long texts cut to what a list has room for."""
    return [
        {k: shorten(v, ROW_TEXT, rest) if k in fields and isinstance(v, str) else v for k, v in row.items()}
        for row in rows
    ]


def capped(structured: dict[str, Any], rest: str) -> dict[str, Any]:
    """Return a result that fits: its longest texts are cut, each with a marker that says how to get the rest.

    Where that is not enough the longest list is cut, and `<its name>_left_out` says by how many.
    """
    while not fits(structured):
        place = _longest(structured)
        if place is None:
            lists = {name: cast("list[Any]", value) for name, value in structured.items() if isinstance(value, list)}
            name = max(lists, key=lambda each: len(lists[each]), default="")
            if not name or len(lists[name]) == 1:
                return structured
            kept = lists[name][: len(lists[name]) * 2 // 3]
            left_out = structured.get(f"{name}_left_out", 0) + len(lists[name]) - len(kept)
            structured = {**structured, name: kept, f"{name}_left_out": left_out}
            continue
        owner, key = place
        text = owner[key].partition("... [")[0] if owner[key].endswith("]") else owner[key]
        owner[key] = f"{text[: max(len(text) * 2 // 3, 100)]}... [cut: {rest}]"
    return structured


def _longest(value: Any) -> tuple[Any, Any] | None:
    """Return where the longest string over 200 characters stands: its owner and key."""
    best: tuple[Any, Any] | None = None
    most = 200
    stack: list[Any] = [value]
    while stack:
        owner = stack.pop()
        keys: Iterable[Any] = cast("dict[str, Any]", owner) if isinstance(owner, dict) else range(len(owner))
        for key in keys:
            each: Any = cast("Any", owner)[key]
            if isinstance(each, dict | list):
                stack.append(each)
            elif isinstance(each, str) and len(each) > most:
                best, most = (cast("Any", owner), key), len(each)
    return best


def _lines(name: str, value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in cast("list[Any]", value)):
        return f"{name} ({len(cast('list[Any]', value))}):\n{_table(cast('list[dict[str, Any]]', value))}"
    # A text that has the line to itself is quoted only where it would leave the line: summaries are given back word
    # for word.
    return f"{name}: {_quoted(value, ()) if isinstance(value, str) else _cell(value)}"


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["|".join(columns)]
    lines += ["|".join(_cell(row[column]) if column in row else "" for column in columns) for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name}={_cell(each)}" for name, each in cast("dict[str, Any]", value).items())
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in cast("list[Any]", value)) or "none"
    return _quoted(str(value), _SEPARATORS)


def _quoted(text: str, separators: tuple[str, ...]) -> str:
    unsafe = text.startswith('"') or text != text.strip() or not text or any(ord(c) < 32 for c in text)
    if unsafe or len(text.splitlines()) > 1 or any(mark in text for mark in separators):
        return json.dumps(text, ensure_ascii=False)
    return text
