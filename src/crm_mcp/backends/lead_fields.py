"""What the vendors' backends share about the fields of a lead: what it is known by, in its normal form."""

from __future__ import annotations

import re
from collections.abc import Mapping

from crm_mcp.address import email_address, phone_number
from crm_mcp.backends.identity import name_words
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import LeadFields, fold

IDENTIFYING = ("name", "first_name", "last_name", "email", "phone", "company")
"""A lead needs one of these at least."""
PARTS = ("first_name", "last_name")
_WORD = re.compile(r"[^\W_]+")


def unknown_person() -> InvalidArgument:
    """Return the error for a lead that nothing says who it is."""
    return InvalidArgument(
        "a lead needs something to be known by", f"give at least one of {', '.join(IDENTIFYING)}", wrote=False
    )


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


def addresses_in(fields: LeadFields, country: str | None) -> tuple[str | None, str | None]:
    """Return e-mail address and number in their normal forms, None where there is none.

    Raises:
        InvalidArgument: one is none.
    """
    email, phone = (fields.email or "").strip(), (fields.phone or "").strip()
    return email_address(email) if email else None, phone_number(phone, country) if phone else None
