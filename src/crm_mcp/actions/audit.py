"""What the audit log has of a call: who, what, with what result; no key, and texts by their length and fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import BaseModel

from crm_mcp.actions.masking import masked
from crm_mcp.config import Settings, audit_key
from crm_mcp.store import Action, Store

TEXTS = frozenset({"body", "message", "content", "subject", "text", "csv", "reason", "note"})
"""Arguments that hold what somebody wrote: they are in the log by length and fingerprint, unless it is told to keep
them."""
MOST = 200
"""Characters of any other text that the log keeps."""


def open_store(settings: Settings) -> Store:
    """Return the state that these settings name, its log sealed and redacted as they say. Nothing is opened yet."""
    url = settings.database_url.get_secret_value() if settings.database_url else None
    redact = redactor(settings.audit.bodies)
    return Store(settings.data_dir, url=url, key=lambda: audit_key(settings), redact=redact)


def redactor(bodies: bool) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return what makes arguments fit for the log; `bodies`: texts are kept as they are."""

    def redact(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", _short(masked(dict(arguments), None), bodies))

    return redact


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


def _short(value: Any, bodies: bool, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {each: _short(inner, bodies, each) for each, inner in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        several = cast("list[Any]", value)
        return [_short(each, bodies, name) for each in several[:100]] + (
            [f"{len(several)} in all"] if len(several) > 100 else []
        )
    if isinstance(value, str) and not bodies and (name.casefold() in TEXTS or len(value) > MOST):
        return f"{len(value)} characters, sha256 {hashlib.sha256(value.encode()).hexdigest()[:16]}"
    return value
