"""What an e-mail address and a phone number are, in their normal forms, and how two of them are compared.

No network is asked: a mailbox or a line need not exist. The libraries are imported late, because start-up counts.
"""

from __future__ import annotations

import re
from functools import cache

from crm_mcp.errors import InvalidArgument

_PLAIN_ADDRESS = re.compile(
    r"([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)@((?:[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\.)+[A-Za-z]{2,})"
)
"""What most addresses look like: nothing in them that the full validation would judge, but the two sets below."""


@cache
def _special() -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names before the @ that are case-insensitive and the ends of domains that are reserved."""
    from email_validator import SPECIAL_USE_DOMAIN_NAMES
    from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

    return frozenset(CASE_INSENSITIVE_MAILBOX_NAMES), tuple(f".{name}" for name in SPECIAL_USE_DOMAIN_NAMES)


def email_address(text: str) -> str:
    """Return an e-mail address in its normal form (no DNS is asked).

    Raises:
        InvalidArgument: it is no address.
    """
    address = text.strip()
    plain = _PLAIN_ADDRESS.fullmatch(address) if len(address) <= 64 else None
    if plain:  # an import validates many: this is ten times as fast, and a test holds that it says the same
        mailboxes, reserved = _special()
        domain = plain[2].lower()
        if plain[1].lower() not in mailboxes and not f".{domain}".endswith(reserved):
            return f"{plain[1]}@{domain}"
    import email_validator

    try:
        return email_validator.validate_email(address, check_deliverability=False).normalized
    except email_validator.EmailNotValidError:
        raise InvalidArgument(f'"{text[:80]}" is no e-mail address', "give one such as jane@example.com") from None


def address_key(address: str) -> str:
    """Return an e-mail address or phone number for comparing: two ways to write one mailbox are one."""
    return address.strip().casefold()


def phone_number(text: str, country: str | None) -> str:
    """Return a phone number in E.164, as `+14155550123`; national numbers are read with `country`, as `US`.

    Raises:
        InvalidArgument: it is no possible number, or a national one and no country is set.
    """
    import phonenumbers

    shown = text.strip()[:40]
    try:
        number = phonenumbers.parse(text.strip(), country)
    except phonenumbers.NumberParseException as error:
        if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE and not text.strip().startswith(
            "+"
        ):
            raise InvalidArgument(
                f'"{shown}" is a national number and no country is set',
                "give it with + and the country code, as +14155550123, or set CRM_MCP_COUNTRY",
            ) from None
        raise InvalidArgument(f'"{shown}" is no phone number', "give one such as +14155550123") from None
    if not phonenumbers.is_possible_number(number) or number.extension:
        raise InvalidArgument(f'"{shown}" is no possible phone number', "give one such as +14155550123")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
