"""What the audit log has of a call: who, what, with what result; no key, and texts by their length and fingerprint."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from pydantic import BaseModel

from crm_mcp.actions.redaction import masked
from crm_mcp.config import Settings, audit_key
from crm_mcp.store import Action, Store

TEXTS = frozenset({"body", "message", "content", "subject", "text", "csv", "reason", "note", "summary"})
"""Words in the names of arguments that hold what somebody wrote: they are in the log by length and fingerprint, unless
it is told to keep them."""
MOST = 200
"""Characters of any other text that the log keeps."""
MOST_QUOTED = 40
"""Characters of what a reason quotes that the log keeps: a name or a stage, no text."""

_IDS = frozenset({"id", "ids", "uuid", "uuids"})
_ID = re.compile(r"\S{1,64}")
_FIELD = re.compile(r"(?<![\w-])([\w-]+) (?:was|is) ")
"""How a reason tells which field has which value."""
_ON_LIST = re.compile(r"(must not be reached by \w+ \()(.+?)(\)(?=; do-not-contact: |\Z)|\Z)", re.DOTALL)
"""Where a reason has that of a block, which somebody wrote. Where it ends can be told only from what follows."""


def open_store(settings: Settings) -> Store:
    """Return the state that these settings name, its log sealed and redacted as they say. Nothing is opened yet."""
    url = settings.database_url.get_secret_value() if settings.database_url else None
    bodies = settings.audit.bodies
    keys = [each.api_key.get_secret_value() for each in settings.connections if each.api_key]
    redact, reword = redactor(bodies, keys), reworder(bodies, keys)
    return Store(
        settings.data_dir,
        url=url,
        key=lambda: audit_key(settings.audit.key, settings.data_dir),
        redact=redact,
        reword=reword,
    )


def redactor(bodies: bool, keys: Iterable[str] = ()) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return what makes arguments fit for the log, without these keys; `bodies`: texts are kept as they are."""

    def redact(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", _short(_without(keys, dict(arguments)), bodies))

    return redact


def reworder(bodies: bool, keys: Iterable[str] = ()) -> Callable[[str], str]:
    """Return what makes a reason fit for the log: our words stay, what they quote from records and callers does not
    where it is a text. `bodies`: all of it stays but these keys."""

    def reword(reason: str) -> str:
        reason = cast("str", _without(keys, reason))
        return reason if bodies else _unquoted(_ON_LIST.sub(lambda found: f"{found[1]}{_told(found[2])})", reason))

    return reword


def denied(
    caller: str, tool: str, arguments: Mapping[str, Any] | None, reason: str, request: str | None
) -> dict[str, Any]:
    """Return the entry of a call that was refused before it was looked at."""
    return {
        "event": "denied",
        "caller": caller,
        "tool": tool,
        "arguments": dict(arguments or {}),
        "reason": reason,
        "request": request,
    }


def repeated(
    caller: str, tool: str, arguments: Mapping[str, Any], earlier: Action, request: str | None
) -> dict[str, Any]:
    """Return the entry of a call that repeats an earlier action, and did nothing."""
    return {
        "event": "repeated",
        "action": earlier.id,
        "caller": caller,
        "connection": earlier.connection,
        "tool": tool,
        "arguments": dict(arguments),
        "request": request,
    }


def read_of(caller: str, tool: str, checked: BaseModel, connections: list[str], request: str | None) -> dict[str, Any]:
    """Return the entry of a call that only read."""
    return {
        "event": "read",
        "caller": caller,
        "tool": tool,
        "connection": ", ".join(connections),
        "arguments": checked.model_dump(mode="json", exclude_none=True, exclude_unset=True),
        "request": request,
    }


def _without(keys: Iterable[str], value: Any) -> Any:
    """Return JSON without what is secret by its name, and without these keys."""
    value = masked(value)
    for each in keys:
        value = masked(value, each)
    return value


def _told(text: str) -> str:
    return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _words(name: str) -> list[str]:
    """Return the words of a name, however they are put together: body_text, messageBody, HTMLBody, notes."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.findall(r"[a-z]+", apart.casefold())


def _holds_text(name: str) -> bool:
    return any(each in TEXTS or each.removesuffix("s") in TEXTS for each in _words(name))


def _unquoted(reason: str) -> str:
    """Return a reason with each text that it quotes by length and fingerprint, and with what is no text as it is."""
    parts = reason.split('"')
    if len(parts) % 2 == 0:  # a quotation without an end: nobody knows where our words go on
        parts = [parts[0], '"'.join(parts[1:]), ""]
    text = False
    for place, part in enumerate(parts):
        if place % 2 == 0:
            fields = [each for each in _FIELD.findall(part) if each not in ("and", "it")]
            text = _holds_text(fields[-1]) if fields else text
        elif part and (text or len(part) > MOST_QUOTED):
            parts[place] = _told(part)
    return '"'.join(parts)


def _short(value: Any, bodies: bool, name: str = "", text: bool = False) -> Any:
    """Return a value as the log has it; `text`: it stands in what holds a text."""
    text = text or _holds_text(name)
    if isinstance(value, Mapping):
        return {each: _short(inner, bodies, each, text) for each, inner in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        several = cast("list[Any]", value)
        return [_short(each, bodies, name, text) for each in several[:100]] + (
            [f"{len(several)} in all"] if len(several) > 100 else []
        )
    if not isinstance(value, str) or bodies or _is_id(name, value):
        return value
    return _told(value) if text or len(value) > MOST else value


def _is_id(name: str, value: str) -> bool:
    """Whether it tells of which record a text is, as `message_id` does."""
    return bool(_IDS.intersection(_words(name)[-1:]) and _ID.fullmatch(value))
