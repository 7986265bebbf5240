"""What an e-mail address, a phone number and a LinkedIn profile are, in their normal forms, and how two are compared.

No network is asked: a mailbox, a line or a profile need not exist. The libraries are imported late, because start-up
counts.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from crm_mcp.errors import InvalidArgument

E164 = re.compile(r"\+[1-9]\d{6,14}")
"""An international number, as it is compared."""
EMAIL = re.compile(r"[^\s<>()\[\]{},;:\"|\\@]{1,64}@[^\s<>()\[\]{},;:\"|\\@]{1,255}")
"""What may be an e-mail address, in a text."""
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
_DAY = re.compile(r"(?:19|20)\d\d[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.](?:19|20)\d\d")
"""A date, of which a number can be made."""
_NORTH_AMERICA = 1
_LONGEST_PROFILE = 2_000
_LONGEST_HANDLE = 200
_IN = re.compile(r"(?:(?:https?:)?//)?(?:[a-z0-9-]+\.)*linkedin\.com\.?(?::443)?/in/|/?in/", re.IGNORECASE | re.ASCII)
"""What stands before a handle: LinkedIn's own host, or one of its countries', and the path of people."""
_SIGNS = frozenset("-_.~'")
"""ASCII characters of a handle besides letters and digits."""
_WRITTEN = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No", "So", "Sk"))
PLACEHOLDERS = frozenset(
    (
        *("none", "null", "nil", "nan", "undefined", "unknown", "n-a", "na", "tbd", "tba", "test", "example", "empty"),
        *("yes", "no", "true", "false", "in", "me", "pub", "feed", "company", "profile", "linkedin", "school", "jobs"),
        *("search", "sales", "private", "pending", "missing", "username", "unavailable", "notavailable"),
        *("not-available", "no-profile", "not-found", "none-found", "profile-not-found"),
    )
)
"""What stands in such a column, or in an address that a program has made, where there is no profile: pages of the
site's own, and words for nothing."""
_ALONE = re.compile(r"[^\W_]+[-.][^\W_].*|(?=.*\d)(?=.*[^\W\d_]).{3,}|AC[ow]AA.*", re.DOTALL)
"""What a handle looks like that stands alone: a word may be anything, as "pending" is, and then names a stranger."""
_MEMBER = re.compile(r"AC[ow]AA[\w-]+", re.ASCII)


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


def linkedin_profile(text: str) -> str:
    """Return the handle of a person's public LinkedIn profile, as `ann-lee`: what stands right behind `/in/` in its
    address, decoded, in lower case; a handle alone is taken too, where it is no single word, and so is a member's id
    (`ACoAA...`), as it is.

    What follows the handle, a language or a part of the page, is the same profile. Another site, a company, a contact
    of the sales product and whatever a browser would read otherwise than it looks are none: a guess could name a
    stranger.

    Raises:
        InvalidArgument: it is no profile.
    """
    given = text.strip()
    plain = re.split("[?#]", given, maxsplit=1)[0]
    before = _IN.match(plain)
    handle, _, rest = plain[before.end() :].partition("/") if before else (plain.rstrip("/"), "", "")
    # A browser leaves out line ends and takes \ for /; a dot alone may be a site's name.
    if (
        len(plain) <= _LONGEST_PROFILE
        and not re.search(r"[\s\\\x00-\x1f\x7f]", plain)
        and (before or not set(".?#") & set(given))
    ):
        found = _decoded(handle)
        alone = found is not None and before is None and not _ALONE.fullmatch(found)
        if found and not alone and not any(unquote(each) in (".", "..") for each in rest.split("/")):
            return found
    raise InvalidArgument(
        f'"{given[:80]}" is no LinkedIn profile of a person', "give one such as https://www.linkedin.com/in/jane-lee"
    )


def _decoded(handle: str) -> str | None:
    """Return a handle without percent-encoding, in lower case; None where it is none."""
    try:
        found = unicodedata.normalize("NFC", unquote(handle, errors="strict"))
    except UnicodeDecodeError:
        return None
    if not 0 < len(found) <= _LONGEST_HANDLE or not any(map(str.isalnum, found)):
        return None
    if not all(map(_is_of_handle, found)):
        return None
    lower = unicodedata.normalize("NFC", found.lower())
    return None if lower in PLACEHOLDERS else found if _MEMBER.fullmatch(found) else lower


def _is_of_handle(sign: str) -> bool:
    """Whether a character may stand in a handle: letters of every script, their marks and joiners, digits, pictures."""
    if sign.isascii():
        return sign.isalnum() or sign in _SIGNS
    return unicodedata.category(sign) in _WRITTEN or sign in "\u200c\u200d"


def known_profile(text: str) -> str | None:
    """Return a LinkedIn profile as `linkedin_profile` does; None where it is none."""
    try:
        return linkedin_profile(text)
    except InvalidArgument:
        return None


def profile_key(text: str) -> str | None:
    """Return a LinkedIn profile as blocks are kept by it, in which look-alike ones are one: `stra\u00dfe`, `strasse`;
    None where it is no profile. Who somebody is, `linkedin_profile` says."""
    profile = known_profile(text)
    return None if profile is None else unicodedata.normalize("NFC", address_key(profile))


def same_profile(one: str, other: str) -> bool:
    """Whether two texts are the same LinkedIn profile; in members' ids the case counts."""
    profile = known_profile(one)
    return profile is not None and profile == known_profile(other)


def one_email(text: str) -> bool:
    """Whether a text is one e-mail address and nothing else, as far as it can be told apart from several."""
    return EMAIL.fullmatch(text.strip()) is not None


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
    if _DAY.fullmatch(given):
        raise InvalidArgument(f'"{shown}" is no phone number', _AS)
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
    if number.extension or (abroad and not possible) or _is_spelt(given, number):
        raise InvalidArgument(f'"{shown}" is no possible phone number', _AS)
    if _is_nobodys(number):
        raise InvalidArgument(f'"{shown}" is no phone number of a person', _AS)
    if not abroad and not (possible and phonenumbers.is_valid_number(number)):
        raise InvalidArgument(f'"{shown}" is no valid phone number of {country}', _with_plus(given))
    return number


def _is_spelt(given: str, number: PhoneNumber) -> bool:
    """Whether letters of it were read as digits, as in "030 123456 (work)": only where all numbers have one length, as
    in "1-800-FLOWERS", can that be no other number."""
    first = next((place for place, c in enumerate(given) if c.isdecimal()), 0)
    return number.country_code != _NORTH_AMERICA and any(c.isascii() and c.isalpha() for c in given[first:])


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
