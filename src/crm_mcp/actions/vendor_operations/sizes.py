"""How many records an operation is about, for `[policy.sizes]`: at least as many as its arguments name. Pure.

A list is as long as it is, whatever it is called, however deep it stands and however it is written: as an array, as
the names of an object's fields, as one text with separators, as JSON within a text. What selects its records by a
filter, by a file, or by being all of something is about more than any limit.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from crm_mcp.actions.vendor_operations.places import Place, texts_of, unnamed, values_at

if TYPE_CHECKING:  # a catalogue is read when it is used; start-up counts
    from crm_mcp.backends.catalog import Operation

MORE_THAN_ANY = 1_000_000_000
"""Records of what does not say how many it is about."""
_MOST_FIELDS = 50
"""An object with more fields than this is a list of records by their names."""
_FIELD = re.compile(r"[A-Za-z]+(?:[_ .-][A-Za-z]+)*")
"""What a field is called; with a digit or a sign in it, it may be an id."""


def records_of(operation: Operation, arguments: Mapping[str, Any]) -> int:
    """Return how many records a call is about: at least one, never less than it names, and rather more."""
    given = [value for each in operation.records for value in values_at(arguments, each)]
    if operation.every or operation.names_nobody or unnamed(operation, arguments) or (operation.records and not given):
        return MORE_THAN_ANY
    texts = texts_of(operation)
    return max(1, sum(_count(value, (name,), texts) for name, value in arguments.items()))


def _count(value: Any, place: Place, texts: frozenset[Place]) -> int:
    """Return how many records a value lists; a plain one lists none."""
    if isinstance(value, list):
        return sum(max(1, _count(each, place, texts)) for each in cast("list[Any]", value))
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        listed = sum(
            max(0 if _FIELD.fullmatch(name) else 1, _count(each, (*place, name), texts))
            for name, each in fields.items()
        )
        return max(listed, len(fields) if len(fields) > _MOST_FIELDS else 0)
    if isinstance(value, str) and place not in texts:
        return _listed(value)
    return 0


def _listed(text: str) -> int:
    """Return how many records one text lists."""
    if text.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            return _count(json.loads(text), (), frozenset())
    parts = sum(1 for part in re.split(r"[,;|\n\r\t]", text) if part.strip())
    with_digits = sum(1 for word in text.split() if re.search(r"\d", word))
    most = max(parts, with_digits)
    return most if most > 1 else 0
