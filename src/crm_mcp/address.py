"""What an e-mail address and a phone number are, in their normal forms, and how two of them are compared.

No network is asked: a mailbox or a line need not exist. The libraries are imported late, because start-up counts.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from crm_mcp.errors import InvalidArgument

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

_PLUS = ("+", "\uff0b")
_AS = "give one such as +14155550123"
LONGEST = 320
"""Characters of the longest e-mail address: 64, the sign and 255. To judge more takes the square of their number."""
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

    if len(address) > LONGEST:
        raise InvalidArgument(f'"{text[:80]}" is no e-mail address', "give one such as jane@example.com")
    try:
        return email_validator.validate_email(address, check_deliverability=False).normalized
    except email_validator.EmailNotValidError:
        raise InvalidArgument(f'"{text[:80]}" is no e-mail address', "give one such as jane@example.com") from None


def address_key(address: str) -> str:
    """Return an e-mail address or phone number for comparing: two ways to write one mailbox are one."""
    return address.strip().casefold()


def phone_number(text: str, country: str | None) -> str:
    """Return a phone number in E.164, as `+14155550123`; national numbers are read with `country`, as `US`.

    With `+` (or the country's own prefix for calls abroad) a possible number is taken: new ranges come faster than the
    library's tables, see `is_doubtful`. A national one must be valid, because digits that lack their `+` would become
    another country's number. One digit repeated, and short and emergency numbers, are nobody's.

    Raises:
        InvalidArgument: it is none of these, or a national one and no country is set.
    """
    import phonenumbers

    return phonenumbers.format_number(_read(text, country), phonenumbers.PhoneNumberFormat.E164)


def phone_and_doubt(text: str, country: str | None) -> tuple[str, bool]:
    """Return a phone number as `phone_number` does, and whether it is doubtful."""
    import phonenumbers

    number = _read(text, country)
    doubtful = not phonenumbers.is_valid_number(number)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), doubtful


def is_doubtful(number: str) -> bool:
    """Whether a number in E.164 is possible but in no range of its country that is known: it may not exist."""
    import phonenumbers

    try:
        return not phonenumbers.is_valid_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return True


def _read(text: str, country: str | None) -> PhoneNumber:
    import phonenumbers
    from phonenumbers import CountryCodeSource, ValidationResult

    given = text.strip()
    shown = given[:40]
    try:
        number = phonenumbers.parse(given, country, keep_raw_input=True)
    except phonenumbers.NumberParseException as error:
        no_country = error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE
        if no_country and not given.startswith(_PLUS):
            raise InvalidArgument(
                f'"{shown}" is a national number and no country is set',
                "give it with + and the country code, as +14155550123, or set CRM_MCP_COUNTRY",
            ) from None
        raise InvalidArgument(f'"{shown}" is no phone number', _AS) from None
    abroad = number.country_code_source in (
        CountryCodeSource.FROM_NUMBER_WITH_PLUS_SIGN,
        CountryCodeSource.FROM_NUMBER_WITH_IDD,
    )
    possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    if number.extension or (abroad and not possible):
        raise InvalidArgument(f'"{shown}" is no possible phone number', _AS)
    if _is_nobodys(number):
        raise InvalidArgument(f'"{shown}" is no phone number of a person', _AS)
    if not abroad and not (possible and phonenumbers.is_valid_number(number)):
        raise InvalidArgument(f'"{shown}" is no valid phone number of {country}', _with_plus(given))
    return number


def _is_nobodys(number: PhoneNumber) -> bool:
    """Whether it is one digit repeated, as people write where a number is asked for, or a short or emergency number."""
    from phonenumbers import is_valid_short_number, national_significant_number

    digits = national_significant_number(number)
    if len(set(digits)) == 1:
        return True
    # To look a long number up among short ones takes a third of the reading, in vain.
    return len(digits) <= _longest_short(number.country_code or 0) and is_valid_short_number(number)


@cache
def _longest_short(country_code: int) -> int:
    """Return how many digits the longest short number has in the regions of a calling code."""
    from phonenumbers import PhoneMetadata, region_codes_for_country_code

    known = [PhoneMetadata.short_metadata_for_region(each) for each in region_codes_for_country_code(country_code)]
    lengths = [each.general_desc.possible_length for each in known if each and each.general_desc]
    return max((length for each in lengths for length in each), default=0)


def _with_plus(given: str) -> str:
    """Say how a number is written that is no valid national one; where its digits are one with `+`, which."""
    import phonenumbers

    digits = "+" + "".join(str(int(c)) for c in given if c.isdecimal())
    try:
        known = phonenumbers.is_valid_number(phonenumbers.parse(digits))
    except phonenumbers.NumberParseException:
        known = False
    return f"if it is {digits}, write it so" if known else "give it with + and the country code, as +14155550123"
