"""What SalesPulse's answer to a bulk creation says of each contact.

The reference says that up to 1,000 contacts are taken, and shows no answer. Inferred, and all of them understood: one
item for each contact (with a status, or with its id), a list of errors by index (from 0) beside a count of what was
created, or a count alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from typing import Any, cast

from crm_mcp.backends.http_errors import faulty, shows_another
from crm_mcp.backends.remote import count_in, text
from crm_mcp.backends.salespulse.shapes import NAME
from crm_mcp.model import ImportOutcome

Told = ImportOutcome | None
"""What became of one contact; None where the answer does not say it."""

_DONE = ("created", "ok", "success", "imported", "inserted", "200", "201")
_DOUBLE = re.compile(r"duplicat|already|exist", re.IGNORECASE)


def told_by(answer: Any, bodies: Seq[Mapping[str, Any]]) -> list[Told]:
    """Return what an answer says of each contact that was sent, in order."""
    if isinstance(answer, dict):
        found = cast("dict[str, Any]", answer)
        inner = found.get("data")
        if isinstance(inner, dict):
            found = cast("dict[str, Any]", inner)
        for name in ("results", "items", "contacts", "data", "created"):
            if _one_each(found.get(name), bodies):
                return [_item(item, body) for item, body in zip(found[name], bodies, strict=True)]
        return _by_errors(found, bodies)
    if _one_each(answer, bodies):
        return [_item(item, body) for item, body in zip(answer, bodies, strict=True)]
    return [None] * len(bodies)


def faults_in(told: Any, count: int) -> dict[int, Any]:
    """Return what a refusal of a whole batch says of each contact, by its index; empty where it names none."""
    found = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    error = found.get("error")
    inner = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    return _errors(inner.get("errors") or found.get("errors"), count) or {}


def refused(body: Mapping[str, Any], said: Any = None) -> ImportOutcome:
    """Return the outcome of a contact that was not taken: why, in our words, and the fields that are named."""
    words = json.dumps(said)
    if _DOUBLE.search(words):
        reason = f"{NAME} has one with this address or number already"
    else:
        named = faulty(said, body)
        reason = f"{NAME} does not accept it" + (f": {', '.join(named)}" if named else "")
    return ImportOutcome(outcome="failed", reason=reason)


def _one_each(value: Any, bodies: Seq[Mapping[str, Any]]) -> bool:
    if not isinstance(value, list):
        return False
    items = cast("list[Any]", value)
    return len(items) == len(bodies) and all(isinstance(each, dict) for each in items)


def _item(item: dict[str, Any], body: Mapping[str, Any]) -> Told:
    contact = item.get("contact")
    within = cast("dict[str, Any]", contact) if isinstance(contact, dict) else item
    if shows_another(within, body):
        return None
    lead = text(within.get("id")) or text(item.get("contact_id"))
    status = (text(item.get("status")) or "").casefold()
    said = item.get("error") or item.get("message") or item.get("errors")
    if status in _DONE or (lead and not said and not status):
        return ImportOutcome(outcome="created", id=lead)
    if status or said:
        return refused(body, [status, said])
    return None


def _by_errors(found: Mapping[str, Any], bodies: Seq[Mapping[str, Any]]) -> list[Told]:
    count = len(bodies)
    created, failed = count_in(found.get("created")), count_in(found.get("failed"))
    errors = _errors(found.get("errors"), count)
    if errors is None:  # which ones they are about is not told
        errors = {}
        failed = max(1, failed or 0)
    told: list[Told] = [None] * count
    for index, said in errors.items():
        told[index] = refused(bodies[index], said)
    rest = count - len(errors)
    if created == 0 and rest == failed:
        return [each or refused(body) for each, body in zip(told, bodies, strict=True)]
    if created == rest or (created is None and failed == len(errors) and errors):
        return [each or ImportOutcome(outcome="created") for each in told]
    return told


def _errors(value: Any, count: int) -> dict[int, Any] | None:
    """Return what is said of each index; None where something is said of no index that there is."""
    found: dict[int, Any] = {}
    for each in cast("list[Any]", value) if isinstance(value, list) else []:
        index = cast("dict[str, Any]", each).get("index") if isinstance(each, dict) else None
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
            return None
        found[index] = each
    return found
