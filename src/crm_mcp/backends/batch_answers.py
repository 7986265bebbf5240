"""What a CRM's answer to many leads at once says of each of them.

No vendor shows such an answer. Read are: one list with an entry for each item (with a status, or with its id), with or
without `index` (from 0); a list of records beside a list of errors, which have an `index`; such errors beside counts of
what was taken; and counts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from crm_mcp.backends.http_errors import shows_another
from crm_mcp.backends.remote import count_in, key_of, part_in, text

Json = dict[str, Any]
Verdict = Literal["created", "updated", "done", "refused", "unknown"]
"""`done` is created or updated, whichever was asked for."""

WORDS: Mapping[str, Verdict] = {
    **dict.fromkeys(("created", "201", "inserted", "imported"), "created"),
    **dict.fromkeys(("updated", "200", "merged"), "updated"),
    **dict.fromkeys(("ok", "success", "succeeded"), "done"),
    **dict.fromkeys(("error", "failed", "failure", "invalid", "rejected", "refused"), "refused"),
    **dict.fromkeys(("skipped", "ignored", "duplicate", "conflict"), "refused"),
}
"""What the words of a status mean; others are not known."""


@dataclass(frozen=True)
class ItemAnswer:
    """What became of one item: the lead where it is named, and what is said where it was refused."""

    verdict: Verdict
    lead: str | None = None
    said: object = None


def told_by(
    answer: Any, bodies: Sequence[Json], status: str = "", words: Mapping[str, Verdict] = WORDS
) -> dict[int, ItemAnswer] | None:
    """Return what an answer says of each item, by its number; None where it says nothing.

    `status` is the key of a lead's own status, which is no word about the batch; `words` are those that mean something.
    """
    size = len(bodies)
    if isinstance(answer, list):
        entries = _numbered(cast("list[Any]", answer), range(size))
        return {
            number: _told(entry, bodies[number], status, words)
            for number, entry in entries.items()
            if 0 <= number < size
        }
    if not isinstance(answer, dict):
        return None
    found = cast("Json", answer)
    body = part_in(found, "data") or found
    faults = {
        number: ItemAnswer("refused", said=each) for number, each in faults_in(body, size, ("errors", "failed")).items()
    }
    for name in ("results", "items", "data", "contacts", "created"):
        if isinstance(rows := body.get(name), list):
            good = [number for number in range(size) if number not in faults]
            listed = cast("list[Any]", rows)
            entries = _numbered(listed, range(size) if len(listed) == size else good)
            if entries:
                told = {n: _told(entry, bodies[n], status, words) for n, entry in entries.items() if 0 <= n < size}
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


def _told(entry: Json, body: Json, status: str, meant: Mapping[str, Verdict]) -> ItemAnswer:
    record = part_in(entry, "data", "contact", "record")
    lead = key_of(record) or key_of(entry, "id", "contact_id")
    if _at_fault(entry):
        words = [_word(entry), entry.get("errors") or entry.get("error"), entry.get("message")]
        return ItemAnswer("refused", lead, [each for each in words if each])
    if shows_another(record or entry, body):
        return ItemAnswer("unknown", lead)
    is_record = not record and any(name in entry for name in body if name != status)
    if (word := _word(entry)) and not (is_record and word not in meant):
        return ItemAnswer(meant.get(word, "unknown"), lead)
    agreed = entry.get("success") is True or entry.get("ok") is True
    return ItemAnswer("done" if lead or agreed else "unknown", lead)


def _at_fault(entry: Mapping[str, Any]) -> bool:
    word = _word(entry)
    denied = any(entry.get(name) in (False, "false") for name in ("success", "ok"))
    failed = WORDS.get(word) == "refused" or (word.isdecimal() and len(word) == 3 and int(word) >= 400)
    return denied or failed or bool(entry.get("error") or entry.get("errors"))


def _word(entry: Mapping[str, Any]) -> str:
    """Return what an entry says in a word, in small letters; empty where it says nothing."""
    found = (text(entry.get(name)) for name in ("status", "action", "result"))
    return next((each.casefold() for each in found if each), "")


def _counted(body: Json, size: int, faults: Mapping[int, ItemAnswer]) -> dict[int, ItemAnswer]:
    """Return what mere counts say of the items that are no faults: that all of them were taken, or none, where it adds
    up."""
    rest = [number for number in range(size) if number not in faults]
    created, updated, failed = (count_in(body.get(name)) for name in ("created", "updated", "failed"))
    if created == 0 and not updated and failed == size:
        return dict.fromkeys(rest, ItemAnswer("refused"))
    if created is None and updated is None:
        return dict.fromkeys(rest, ItemAnswer("done")) if faults and failed == len(faults) else {}
    return dict.fromkeys(rest, ItemAnswer("done")) if (created or 0) + (updated or 0) == len(rest) else {}


def _numbered(rows: Sequence[Any], places: Sequence[int]) -> dict[int, Json]:
    """Return entries by their `index`, else by their place in the list, which then must be as long as it should be."""
    entries = [cast("Json", each) for each in rows if isinstance(each, dict)]
    if all(_number(each) is not None for each in entries):
        return {cast("int", _number(each)): each for each in entries}
    return dict(zip(places, entries, strict=True)) if len(entries) == len(rows) == len(places) else {}


def _number(entry: Mapping[str, Any]) -> int | None:
    value = entry.get("index")
    return value if isinstance(value, int) and not isinstance(value, bool) else None
