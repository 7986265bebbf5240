"""What the vendors' backends share about the fields of a lead: what it is known by, in its normal form."""

from __future__ import annotations

from crm_mcp.address import email_address, phone_number
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import LeadFields

IDENTIFYING = ("name", "first_name", "last_name", "email", "phone", "company")
"""A lead needs one of these at least."""


def unknown_person() -> InvalidArgument:
    """Return the error for a lead that nothing says who it is."""
    return InvalidArgument(
        "a lead needs something to be known by", f"give at least one of {', '.join(IDENTIFYING)}", wrote=False
    )


def addresses_in(fields: LeadFields, country: str | None) -> tuple[str | None, str | None]:
    """Return e-mail address and number in their normal forms, None where there is none.

    Raises:
        InvalidArgument: one is none.
    """
    email, phone = (fields.email or "").strip(), (fields.phone or "").strip()
    return email_address(email) if email else None, phone_number(phone, country) if phone else None
