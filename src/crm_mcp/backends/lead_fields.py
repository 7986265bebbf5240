"""What the vendors' backends share about the fields of a lead: what it is known by, in its normal form."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from crm_mcp.address import email_address, phone_number
from crm_mcp.backends.identity import name_words
from crm_mcp.errors import InvalidArgument, Unsupported
from crm_mcp.model import LeadFields, fold

F = TypeVar("F", bound=LeadFields)

IDENTIFYING = ("name", "first_name", "last_name", "email", "phone", "company")
"""A lead needs one of these at least."""
PARTS = ("first_name", "last_name")
_WORD = re.compile(r"[^\W_]+")


def unknown_person() -> InvalidArgument:
    """Return the error for a lead that nothing says who it is."""
    return InvalidArgument(
        "a lead needs something to be known by", f"give at least one of {', '.join(IDENTIFYING)}", wrote=False
    )


def refuse_nobody(fields: Mapping[str, Any], names: Iterable[str] = IDENTIFYING) -> None:
    """Raise InvalidArgument where none of these fields has a value: nothing says who the lead is."""
    if not any(fields.get(name) for name in names):
        raise unknown_person()


def parts_after(name: str, before: str | None, parts: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return what of a lead's first and last name changes with its whole name, where a CRM keeps all three.

    Only where the name was made of its parts do they follow it; a part that is in the new name stays. A name of two
    words, neither of them a title, says which is which; of any other nobody can tell: what is not in it is emptied.
    """
    held = {each: parts[each] for each in PARTS}
    gone = [each for each, part in held.items() if part and _spoken(part) not in _spoken(name)]
    if not gone or before != whole_name(*held.values()):
        return {}
    words, telling = name.split(), name_words(name)
    if len(words) == 2 and "," not in name and all(name_words(each) <= telling for each in words):
        return dict(zip(PARTS, words, strict=True))
    return dict.fromkeys(gone)


def whole_name(first: str | None, last: str | None) -> str | None:
    """Return first and last name as one."""
    return " ".join(each for each in (first, last) if each) or None


def _spoken(name: str) -> str:
    return f" {' '.join(_WORD.findall(fold(name)))} "


def first_and_last(fields: LeadFields, crm: str) -> dict[str, str | None]:
    """Return what is given of a name where a CRM has first and last name alone: a whole one is split at its first
    blank.

    Raises:
        Unsupported: the whole name is not made of the other two.
    """
    first, last = fields.first_name, fields.last_name
    if fields.name is None:
        return {name: value for name, value in (("first_name", first), ("last_name", last)) if value}
    whole = " ".join(fields.name.split())
    if first and not last:
        last = whole[len(first) :].strip()
    elif last and not first:
        first = whole[: len(whole) - len(last)].strip()
    elif not first:
        first, _, last = whole.partition(" ")
    if fold(whole_name(first, last) or "") != fold(whole):
        raise Unsupported(
            f"{crm} keeps a name as first_name and last_name, and name is not these two",
            "give name alone, or first_name and last_name",
            wrote=False,
        )
    return {"first_name": first or None, "last_name": last or None}


def addresses_in(fields: LeadFields, country: str | None) -> tuple[str | None, str | None]:
    """Return e-mail address and number in their normal forms, None where there is none.

    Raises:
        InvalidArgument: one is none.
    """
    email, phone = (fields.email or "").strip(), (fields.phone or "").strip()
    return email_address(email) if email else None, phone_number(phone, country) if phone else None


def readdressed(fields: F, body: Mapping[str, Any], email: str = "email", phone: str = "phone") -> F:
    """Return fields with the address and the number of what is sent for them, which are in their normal forms."""
    return fields.model_copy(update={"email": body.get(email), "phone": body.get(phone)})


def refuse_unheld(fields: LeadFields, names: Iterable[str], what: str, fix: str) -> None:
    """Raise Unsupported where a field is given that a CRM's leads do not have; `what` has a place for `{name}`."""
    for name in names:
        if getattr(fields, name):
            raise Unsupported(what.format(name=name), fix, wrote=False)


def refuse_taken(fields: LeadFields, taken: Collection[str]) -> None:
    """Raise InvalidArgument where a custom field has the name of another field of the CRM's records."""
    for name in fields.custom_fields or {}:
        if name in taken:
            raise InvalidArgument(f'"{name}" is no custom field', f"{name} is a field of its own", wrote=False)
