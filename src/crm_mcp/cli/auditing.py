"""`crm-mcp audit`: what was done, by whom, with what result; and whether the log is still as it was written."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from crm_mcp.cli.terminal import say, say_json
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import rfc3339
from crm_mcp.server.app import Application
from crm_mcp.store import Entry
from crm_mcp.text import one_line

AT_ONCE = 1000
_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime) -> datetime:
    """Return the moment that `24h`, `7d`, `2026-03-20` or a full RFC 3339 time means.

    Raises:
        InvalidArgument: it means none.
    """
    if ago := _AGO.fullmatch(text.strip()):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    day = f"{text}T00:00:00Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip()) else text.strip()
    try:
        return TypeAdapter(AwareDatetime).validate_python(day)
    except ValidationError:
        raise InvalidArgument(
            f'--since: "{text[:40]}" is no time', "give one as 24h, 7d or 2026-03-20T10:00:00Z"
        ) from None


async def print_log(application: Application, since: str | None, *, as_json: bool) -> int:
    """Print the entries, oldest first: a line each, or a JSON object each."""
    try:
        start = moment(since, application.store.clock()) if since else None
        after = 0
        while entries := await application.store.audit.entries(start, after, AT_ONCE):
            for each in entries:
                if as_json:
                    say_json({"no": each.no, "at": rfc3339(each.at), **each.body, "seal": each.mac})
                else:
                    say(_as_line(each))
            after = entries[-1].no
    finally:
        await application.aclose()
    return 0


async def print_verified(application: Application, head: str | None) -> int:
    """Verify the whole log and say what was found, and what can't be proved; returns 1 where something is wrong."""
    try:
        found = await application.store.audit.verify(head)
    finally:
        await application.aclose()
    for fault in found.faults:
        say(f"FAULT: {fault}")
    say(f"{found.entries} entries, " + ("not as they were written" if found.faults else "each as it was written"))
    for each in found.unproven:
        say(f"not proved: {each}")
    if found.head:
        say(f"head: {found.head}")
    return 1 if found.faults else 0


def _as_line(entry: Entry) -> str:
    body = entry.body
    words = [str(entry.no), rfc3339(entry.at), str(body.get("caller") or body.get("by") or "")]
    words += [str(body[name]) for name in ("event", "value", "tool", "status", "action") if body.get(name)]
    if rule := body.get("rule"):
        words.append(f"{body.get('verdict', '')} by {rule}")
    if approved := body.get("approved_by"):
        words.append(f"approved by {approved}")
    if reason := body.get("reason"):
        words.append(str(reason))
    return "  ".join(map(one_line, words))
