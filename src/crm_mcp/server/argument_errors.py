"""Why arguments were refused, in words that say what to give instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from pydantic import ValidationError

from crm_mcp.errors import InvalidArgument, choices

MOST_SHOWN = 60
MOST_FAULTS = 10
"""Faults of one call that are told at once."""

_WORDS: dict[str, Callable[[Mapping[str, Any], Any], str]] = {
    "greater_than_equal": lambda ctx, given: f"is {_shown(given)}; give at least {ctx['ge']:g}",
    "less_than_equal": lambda ctx, given: f"is {_shown(given)}; give at most {ctx['le']:g}",
    "string_too_long": lambda ctx, given: f"has {len(given)} characters; give at most {ctx['max_length']}",
    "string_too_short": lambda _, __: "is empty",
    "too_long": lambda ctx, given: f"is {len(given)} long; give at most {ctx['max_length']}",
    "too_short": lambda _, __: "is empty",
    "string_pattern_mismatch": lambda ctx, given: f"is {_shown(given)}, which is not of the form {ctx['pattern']}",
    "string_type": lambda _, given: f"is {_shown(given)}; give text",
    "list_type": lambda _, given: f'is {_shown(given)}; give a list, as ["..."]',
    "dict_type": lambda _, given: f'is {_shown(given)}; give an object, as {{"label": "value"}}',
    "timezone_aware": lambda _, given: f"is {_shown(given)}, without a zone; give one, as 2026-03-20T10:00:00Z",
}
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("int_", "is {}; give a whole number"),
    ("float_", "is {}; give a number"),
    ("finite_", "is {}; give a number"),
    ("bool_", "is {}; give true or false"),
    ("datetime_", "is {}; give a time with its zone, as 2026-03-20T10:00:00Z"),
)


def argument_error(what: str, error: ValidationError, valid: Iterable[str]) -> InvalidArgument:
    """Return the error for arguments that are not what they must be: all of them are named.

    `what` is the tool or record they belong to, `valid` its field names.
    """
    valid = list(valid)
    wrong: list[str] = []
    missing: list[str] = []
    for each in error.errors(include_url=False):
        where = ".".join(str(part) for part in each["loc"] if not str(part).startswith(("function-", "constrained-")))
        if each["type"] == "extra_forbidden" and len(each["loc"]) == 1:
            return InvalidArgument(
                f'{what} has no parameter "{where[:MOST_SHOWN]}"', choices(where[:MOST_SHOWN], valid)
            )
        if each["type"] == "missing":
            missing.append(where)
        else:
            wrong.append(f"{where} {_why(each['type'], each.get('ctx') or {}, each['input'], each['msg'])}")
    if missing:
        wrong.insert(0, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    # Of a value that may be of several kinds, each kind says why it is not that one: the first says enough.
    told = [*dict.fromkeys(wrong)]
    more = f"; and {len(told) - MOST_FAULTS} more" if len(told) > MOST_FAULTS else ""
    fix = f"{what} takes {', '.join(valid)}" if missing else ""
    return InvalidArgument("; ".join(told[:MOST_FAULTS]) + more, fix)


def _why(kind: str, ctx: Mapping[str, Any], given: Any, message: str) -> str:
    if kind == "literal_error":
        expected = [word.strip("' ") for word in str(ctx.get("expected", "")).replace(" or ", ",").split(",")]
        return f"is {_shown(given)}; {choices(str(given)[:MOST_SHOWN], expected)}"
    if words := _WORDS.get(kind):
        return words(ctx, given)
    for family, text in _FAMILIES:
        if kind.startswith(family):
            return text.format(_shown(given))
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _shown(given: Any) -> str:
    if isinstance(given, dict | list):
        return f"{'an object' if isinstance(given, dict) else 'a list'} of {len(cast('list[Any]', given))}"
    if isinstance(given, str):
        text = " ".join(given[: MOST_SHOWN + 1].split())
        return f'"{text[:MOST_SHOWN]}"' + ("..." if len(given) > MOST_SHOWN else "")
    return "nothing" if given is None else str(given)[:MOST_SHOWN]
