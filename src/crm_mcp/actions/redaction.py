"""What of a vendor's answer is shown: no secrets, and no more than a result has room for."""

from __future__ import annotations

import json
import re
from typing import Any, cast

MASK = "***"
DEEPEST = 50
LONGEST_TEXT = 4_000
"""Characters of one text."""

_SECRET = re.compile(
    "token|secret|passw|passphrase|credential|authori[sz]ation|cookie|apikey|privatekey|accesskey|jwt|bearer"
)
"""What makes a name that of a secret, wherever in it: of names in lower case and without separators."""
_SECRET_ENDS = frozenset({"key", "keys", "pwd", "auth", "otp"})
"""What does so as the last word alone: not in `monkey`, `author` or `key_facts`."""
_LABELS = ("name", "key", "header", "field")
"""Under these names stands, beside a `value`, what the value is."""


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).casefold())
    return bool(_SECRET.search("".join(words)) or _SECRET_ENDS.intersection(words[-1:]))


def masked(value: Any, key: str | None = None, depth: int = 0) -> Any:
    """Return JSON with the values of secret-named fields masked at any depth, and `key` wherever it stands.

    Nothing, true and false stay: that there is a secret is none. What is nested deeper than anybody reads is left out.
    """
    if depth > DEEPEST:
        return "..."
    if isinstance(value, dict):
        record = cast("dict[str, Any]", value)
        # Of a pair such as {"key": "Authorization", "value": "..."} the one field says what the other is.
        labels = [name for name in _LABELS if "value" in record and isinstance(record.get(name), str)]
        of_secret = any(is_secret(record[name]) for name in labels)
        return {
            name: MASK
            if _tells(each) and ((is_secret(name) and name not in labels) or (name == "value" and of_secret))
            else masked(each, key, depth + 1)
            for name, each in record.items()
        }
    if isinstance(value, list):
        return [masked(each, key, depth + 1) for each in cast("list[Any]", value)]
    return value.replace(key, MASK) if key and isinstance(value, str) else value


def _tells(value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and value not in ("", [], {})


def part_of(value: Any, most: int) -> Any:
    """Return as much of JSON as fits into about `most` characters: lists and texts end early, and say so.

    The plain fields of a record come before its lists, so that a total or a cursor after a long list is not lost.
    """
    return _Part(most).of(value)


class _Part:
    """What is left of the room while a value is walked through, once, and no further than there is room."""

    def __init__(self, most: int) -> None:
        self._left = most

    def of(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._record(cast("dict[str, Any]", value))
        if isinstance(value, list):
            return self._list(cast("list[Any]", value))
        if isinstance(value, str) and len(value) > (most := min(LONGEST_TEXT, max(self._left, 100))):
            value = f"{value[:most]}... [{len(value) - most} more characters]"
        self._left -= len(json.dumps(value, ensure_ascii=False)) + 1
        return value

    def _record(self, record: dict[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for nested in (False, True):
            for name, each in record.items():
                if isinstance(each, dict | list) == nested and self._left > 0:
                    self._left -= len(name) + 4
                    kept[name] = self.of(each)
        in_order = {name: kept[name] for name in record if name in kept}
        return in_order | _left_out(len(record) - len(kept), "fields")

    def _list(self, several: list[Any]) -> list[Any]:
        kept: list[Any] = []
        for each in several:
            if self._left <= 0:
                return [*kept, _left_out(len(several) - len(kept), "rows")]
            kept.append(self.of(each))
        return kept


def _left_out(count: int, what: str) -> dict[str, Any]:
    return {"left_out": f"{count} more {what}: ask for fewer at once"} if count else {}
