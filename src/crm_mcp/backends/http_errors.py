"""What a vendor's answer says, in words of ours: its JSON, the meaning of its status, and the fields that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from crm_mcp.errors import (
    Conflict,
    CrmError,
    Forbidden,
    InvalidArgument,
    NotFound,
    OtherRecord,
    OtherWritten,
    PaymentRequired,
    TimedOut,
    Unauthorized,
    Unsupported,
    VendorError,
)

MEANING: dict[int, tuple[type[CrmError], str, str]] = {
    400: (InvalidArgument, "{name} does not accept the request", "check the values"),
    401: (Unauthorized, "{name} does not accept the key", "check CRM_MCP_API_KEY: it may be wrong, revoked or too new"),
    402: (PaymentRequired, "{name} wants to be paid for this", "the plan or its credits do not cover it"),
    403: (Forbidden, "{name} does not allow this to the key", "its plan, scope or user may not have the right"),
    404: (NotFound, "{name} does not have this", "the id may be wrong, or the record deleted"),
    405: (Unsupported, "{name} does not offer this operation", "see crm_status for what it can do"),
    408: (TimedOut, "{name} says that the request took too long", "try again"),
    409: (Conflict, "{name} says that this conflicts with what is there", "read the record again"),
    410: (NotFound, "{name} does not have this any more", "the record was deleted"),
    412: (Conflict, "{name} says that the record has changed", "read the record again"),
    413: (InvalidArgument, "{name} finds the request too large", "send less at once"),
    415: (VendorError, "{name} does not accept JSON here", ""),
    422: (InvalidArgument, "{name} does not accept the values", "check them"),
    423: (Conflict, "{name} says that the record is locked", "try again later"),
}
"""What a status means, what is wrong and what to do about it."""

_MAIL = re.compile(r"[^\s@]+@[^\s@]+")
_OTHER = "the CRM answered with another record than the one asked for"

DEEPEST = 100
"""Levels of an answer: what is nested deeper can be read, and not be passed on or logged."""
MOST_SAID = 1_000_000
"""Bytes of an error that are looked into."""
MOST_WORDS = 20_000
"""Characters of the words of an error in which the names of fields are looked for, one after the other."""
_OPTED_OUT = re.compile(
    r"(?i)(?<!not )(?<!never )(?:\bopted[\s_-]?out\b|\bunsubscribed\b)|\b21610\b"
    r"|\bdo[\s_-]?not[\s_-]?(?:contact|text|e?mail)\b"
    r"|\bon (?:the|a|an|your|our) (?:suppression|block|black|deny|opt-out)[\s_-]?list"
)
"""How a provider of messages refuses one to somebody who has said no (21610 is the code of a large one)."""
_MAPS = ("data", "details", "detail", "errors", "fields")
"""Under these an answer has a map from fields to what is wrong with them."""
_NAMING = ("attribute", "field", "loc", "param", "parameter", "path", "property")
"""These say which field an entry is about."""


def refuse_other(asked: str, shown: str | None) -> None:
    """Raise where the record that came is not the one that was asked for: a proxy, a cache or a vendor that guesses may
    bring somebody else's. Ids are compared as text, exactly.

    Raises:
        OtherRecord: nothing was written yet; within `after_write` it becomes OtherWritten.
    """
    if shown != asked:
        fix = "read it again, or look at it in the CRM itself"
        raise OtherRecord(_OTHER, fix, shown=shown or "", detail=_both(asked, shown))


def refuse_written_other(asked: str | None, shown: str | None) -> None:
    """Raise where the answer to a write shows another record than the one that was to be written, or one of another
    lead. An answer that says nothing of it shows none.

    Raises:
        OtherWritten: they differ.
    """
    if asked is not None and shown is not None and shown != asked:
        raise written_other(shown, _both(asked, shown))


def written_other(shown: str, detail: str) -> OtherWritten:
    """Return the error for a write after which another record is shown: which one was written is not known."""
    what = f"{_OTHER}, after it was written to; it is not known which one was written"
    return OtherWritten(what, shown, detail=detail)


def shows_another(record: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Whether what a batch's answer says of one lead has another e-mail address than was sent: it is somebody else."""
    mails = {name: value for name, value in sent.items() if isinstance(value, str) and _MAIL.fullmatch(value)}
    shown = {name: record.get(name) for name in mails}
    return any(
        isinstance(each, str) and each.strip().casefold() != mails[name].casefold() for name, each in shown.items()
    )


def _both(asked: str, shown: str | None) -> str:
    return f"asked for {asked[:200]!r}, shown {(shown or '')[:200]!r}"


def parsed(body: bytes | str) -> Any:
    """Return the JSON of a body.

    Raises:
        ValueError: it is none, not in UTF-8, or nested too deeply.
        RecursionError: it is nested more deeply still.
    """
    text = body if isinstance(body, str) else body.decode("utf-8-sig")
    found = json.loads(text, parse_constant=_no_number)
    if re.search(r"\\u[dD][89a-fA-F]", text):
        # Half an emoji, as a program leaves it that cuts text by its length, is no text that could be passed on.
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    _refuse_depth(found)
    return found


def _refuse_depth(found: Any) -> None:
    level = [found]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each) if isinstance(inner, dict | list)]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def told_in(said: str) -> Any:
    """Return the JSON of an error; None where there is none."""
    try:
        return parsed(said)
    except (ValueError, RecursionError):
        return None


def says_opted_out(told: Any) -> bool:
    """Whether the refusal of a message says that its recipient has opted out. What the words of vendors are is not
    documented: these are what providers of messages write."""
    try:
        return _OPTED_OUT.search(" ".join(_texts(told))[:MOST_WORDS]) is not None
    except RecursionError:
        return False


def faulty(told: Any, sent: Any) -> list[str]:
    """Return the fields of `sent` that an error complains about: no word of the vendor's is among them."""
    ours = {name for name in _names(sent) if re.fullmatch(r"[\w.\[\]-]{1,60}", name)}
    try:
        named = {part for name in _complained(told) for part in (name, *re.split(r"\W+", name))}
        if not ours & named:
            words = " ".join(_texts(told))[:MOST_WORDS]
            named = {name for name in ours if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words)}
    except RecursionError:
        return []
    return sorted(ours & named)[:10]


def _complained(told: Any) -> Iterator[str]:
    """Yield what stands where answers name fields."""
    if isinstance(told, list):
        for each in cast("list[Any]", told):
            yield from _complained(each)
    elif isinstance(told, dict):
        for name, each in cast("dict[str, Any]", told).items():
            if name in _MAPS and isinstance(each, dict):
                yield from cast("dict[str, Any]", each)
            if name in _NAMING:
                yield from map(str, cast("list[Any]", each if isinstance(each, list) else [each]))
            yield from _complained(each)


def _texts(told: Any) -> Iterator[str]:
    if isinstance(told, str | int):
        yield str(told)
    elif isinstance(told, list | dict):
        for each in cast("dict[str, Any]", told).values() if isinstance(told, dict) else cast("list[Any]", told):
            yield from _texts(each)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in cast("dict[str, Any]", value).items():
            yield name
            yield from _names(each)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _names(each)
