"""What SalesSheet's answer to a batch says of each item.

Documented is only that it says which items failed. Read are: one list with an entry for each item, with or without
`index`; a list of records beside a list of errors, which have an `index`; and such errors beside mere counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from crm_mcp.backends.http_errors import shows_another
from crm_mcp.backends.remote import count_in, text
from crm_mcp.backends.salessheet.decoding import Json, identity, part_in

Verdict = Literal["created", "updated", "done", "refused", "unknown"]
"""`done` is created or updated, whichever was asked for."""

_WORDS: dict[str, Verdict] = {
    **dict.fromkeys(("created", "201", "inserted"), "created"),
    **dict.fromkeys(("updated", "200", "merged"), "updated"),
    **dict.fromkeys(("ok", "success", "succeeded"), "done"),
    **dict.fromkeys(("error", "failed", "failure", "invalid", "rejected", "refused"), "refused"),
    **dict.fromkeys(("skipped", "ignored", "duplicate", "conflict"), "refused"),
}
"""What the words of a status mean; others are not known."""


@dataclass(frozen=True)
class Told:
    """What became of one item: the contact where it is named, and what is said where it was refused."""

    verdict: Verdict
    lead: str | None = None
    said: object = None


def told_by(answer: Any, bodies: Sequence[Json], status: str) -> dict[int, Told] | None:
    """Return what an answer says of each item, by its number; None where it says nothing.

    `status` is the key of a contact's own status, which is no word about the batch.
    """
    size = len(bodies)
    if isinstance(answer, list):
        entries = _numbered(cast("list[Any]", answer), range(size))
        return {number: _told(entry, bodies[number], status) for number, entry in entries.items() if 0 <= number < size}
    if not isinstance(answer, dict):
        return None
    body = cast("Json", answer)
    faults = {
        number: Told("refused", said=each) for number, each in faults_in(body, size, ("errors", "failed")).items()
    }
    for name in ("results", "items", "data", "contacts", "created"):
        if isinstance(rows := body.get(name), list):
            good = [number for number in range(size) if number not in faults]
            found = cast("list[Any]", rows)
            entries = _numbered(found, range(size) if len(found) == size else good)
            if entries:
                told = {n: _told(entry, bodies[n], status) for n, entry in entries.items() if 0 <= n < size}
                return {**told, **faults}
    return {**_counted(body, size, faults), **faults} or None


def faults_in(
    told: object, size: int, inside: Sequence[str] = ("errors", "failed", "details", "results", "items")
) -> dict[int, object]:
    """Return what an answer complains about, by the number of the item."""
    if not isinstance(told, dict):
        return {}
    body = cast("Json", told)
    found: dict[int, object] = {}
    for name in (*inside, "error"):
        part = body.get(name)
        if isinstance(part, dict) and name == "error":
            found |= faults_in(cast("Json", part), size, inside)
        elif isinstance(part, dict):
            found |= {int(k): v for k, v in cast("Json", part).items() if k.isdecimal() and len(k) < 6}
        elif isinstance(part, list):
            entries = [cast("Json", each) for each in cast("list[Any]", part) if isinstance(each, dict)]
            # A list of all items has those at fault marked; one of faults has nothing else in it.
            marked = name in ("results", "items")
            found |= {n: e for e in entries if (n := _number(e)) is not None and (not marked or _at_fault(e))}
    return {number: each for number, each in found.items() if 0 <= number < size}


def _told(entry: Json, body: Json, status: str) -> Told:
    record = part_in(entry, "data", "contact", "record")
    lead = identity(record) or identity(entry) or text(entry.get("contact_id"))
    if _at_fault(entry):
        words = [_word(entry), entry.get("errors") or entry.get("error"), entry.get("message")]
        return Told("refused", lead, [each for each in words if each])
    if shows_another(record or entry, body):
        return Told("unknown", lead)
    is_record = not record and any(name in entry for name in body if name != status)
    if (word := _word(entry)) and not (is_record and word not in _WORDS):
        return Told(_WORDS.get(word, "unknown"), lead)
    agreed = entry.get("success") is True or entry.get("ok") is True
    return Told("done" if lead or agreed else "unknown", lead)


def _at_fault(entry: Mapping[str, Any]) -> bool:
    word = _word(entry)
    denied = any(entry.get(name) in (False, "false") for name in ("success", "ok"))
    failed = _WORDS.get(word) == "refused" or (word.isdecimal() and len(word) == 3 and int(word) >= 400)
    return denied or failed or bool(entry.get("error") or entry.get("errors"))


def _word(entry: Mapping[str, Any]) -> str:
    """Return what an entry says in a word, in small letters; empty where it says nothing."""
    found = (text(entry.get(name)) for name in ("status", "action", "result"))
    return next((each.casefold() for each in found if each), "")


def _counted(body: Json, size: int, faults: Mapping[int, Told]) -> dict[int, Told]:
    """Return what mere counts say of the items that are no faults: that they were taken, where it adds up."""
    rest = [number for number in range(size) if number not in faults]
    created, updated, failed = (count_in(body.get(name)) for name in ("created", "updated", "failed"))
    if created is None and updated is None:
        return dict.fromkeys(rest, Told("done")) if faults and failed == len(faults) else {}
    return dict.fromkeys(rest, Told("done")) if (created or 0) + (updated or 0) == len(rest) else {}


def _numbered(rows: Sequence[Any], places: Sequence[int]) -> dict[int, Json]:
    """Return entries by their `index`, else by their place in the list, which then must be as long as it should be."""
    entries = [cast("Json", each) for each in rows if isinstance(each, dict)]
    if all(_number(each) is not None for each in entries):
        return {cast("int", _number(each)): each for each in entries}
    return dict(zip(places, entries, strict=True)) if len(entries) == len(rows) == len(places) else {}


def _number(entry: Mapping[str, Any]) -> int | None:
    value = entry.get("index")
    return value if isinstance(value, int) and not isinstance(value, bool) else None
