"""The ways to reach somebody. A channel is one row: what tells it from the others stands here, and nowhere else.

To add one: its name in `Channel`, its row in `ROWS`, and the limits that people may set for it
(`config/policy.py`); then the capability that sends on it, and the tool.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal

from crm_mcp.address import E164, address_key, email_address, one_email, phone_number, profile_key
from crm_mcp.errors import InvalidArgument

Channel = Literal["email", "sms", "call", "linkedin"]
EVERY: Final = "every"
"""In place of a channel: all that there are, and all that come to be."""
Blocked = Channel | Literal["every"]
"""What somebody can be blocked on."""
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Row:
    """What is known of one channel."""

    sends: str
    """What goes out, one of it."""
    several: str
    """What goes out, in words for many."""
    to: str
    """How one names who gets it: `{name}` and `{address}` stand for both."""
    address: str
    """What its address is called."""
    field: str
    """The field of a lead that has the address; `custom_fields.NAME` is one of its custom fields."""
    compared: Callable[[str, str | None], str]
    """Returns an address as it is compared, given a country for national numbers; what can't be read as it is
    written."""
    unusable: Callable[[str], str | None]
    """Returns why an address that a lead has can't be used, None where it can: one that can't be compared could not be
    found on a list either."""
    words: frozenset[str]
    """The words that name it in what a CRM calls its fields, in small letters."""
    kept_as: Channel | None = None
    """The channel whose addresses these are, where it has none of its own."""
    found_by: bool = True
    """Whether a CRM finds leads by the address."""
    wakes: bool = False
    """Whether it wakes people up: quiet hours are about these."""
    stop_word: bool = False
    """Whether a word in answer ends it, as STOP does."""
    opts_out: bool = False
    """Whether a CRM refuses what goes out on it because the recipient has opted out."""
    carries_text: bool = True
    """Whether a text goes out on it, which counts for the limits of messages."""
    repeat_seconds: int = DAY
    """How long the same to the same address is a repeat."""


def _email(text: str, _country: str | None) -> str:
    try:
        return address_key(email_address(text))
    except InvalidArgument:
        # A domain is the same with the dot of the root behind it, which the validation refuses.
        return address_key(text).rstrip(".")


def _number(text: str, country: str | None) -> str:
    try:
        return text if E164.fullmatch(text) else phone_number(text, country)
    except InvalidArgument:
        return address_key(text)


def _profile(text: str, _country: str | None) -> str:
    return profile_key(text) or address_key(text)


def _no_email(text: str) -> str | None:
    # Two addresses in one field, or one with a name around it, would be reached and never be found on a list.
    return None if one_email(text) else "is not one e-mail address"


def _no_number(text: str) -> str | None:
    if E164.fullmatch(text):
        return None
    return "is no international number; set CRM_MCP_COUNTRY, or correct it to one such as +14155550123"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROWS: Final[dict[Channel, Row]] = {
    "email": Row(
        sends="e-mail",
        several="e-mails",
        to="{name} <{address}>",
        address="e-mail address",
        field="email",
        compared=_email,
        unusable=_no_email,
        words=_words(
            "email emails emailing emailed emailable mail mails mailing mailings mailed mailable newsletter correo"
            " courriel"
        ),
        stop_word=True,
        opts_out=True,
    ),
    "sms": Row(
        sends="SMS",
        several="SMS",
        to="{name} at {address}",
        address="phone number",
        field="phone",
        compared=_number,
        unusable=_no_number,
        words=_words("sms text texts texting texted textable message messages messaging mms"),
        wakes=True,
        stop_word=True,
        opts_out=True,
    ),
    "call": Row(
        sends="call",
        several="calls",
        to="{name} at {address}",
        address="phone number",
        field="phone",
        compared=_number,
        unusable=_no_number,
        words=_words(
            "call calls calling called callable phone phones phoned telephone tel mobile cell voice dial telefon anruf"
            " anrufe telefonanrufe telefono telefonata appel appels llamada llamadas chiamata chiamate telefoon"
        ),
        kept_as="sms",
        wakes=True,
        opts_out=True,
        carries_text=False,
        repeat_seconds=120,
    ),
    "linkedin": Row(
        sends="LinkedIn message",
        several="LinkedIn messages",
        to="{name} at {address}",
        address="LinkedIn profile",
        field="custom_fields.linkedin",
        compared=_profile,
        unusable=lambda _: None,
        words=_words("linkedin inmail"),
        found_by=False,
    ),
}
CHANNELS: Final[tuple[Channel, ...]] = tuple(ROWS)
"""All of them, in the order in which they are told."""
MESSAGES: Final[tuple[Channel, ...]] = tuple(name for name, row in ROWS.items() if row.carries_text)
"""The channels on which a text goes out."""
HEARD: Final[tuple[Channel, ...]] = tuple(name for name, row in ROWS.items() if row.stop_word)
"""The channels that a word in answer ends."""
OPTS_OUT: Final[tuple[Channel, ...]] = tuple(name for name, row in ROWS.items() if row.opts_out)
"""The channels on which a CRM may refuse to reach somebody who has opted out."""


def in_order(channels: Collection[str]) -> tuple[Channel, ...]:
    """Return channels in the order in which they are told, each once."""
    return tuple(each for each in CHANNELS if each in channels) if channels else ()


def kept_as(channel: Channel) -> Channel:
    """Return the channel under which the addresses of this one are known."""
    return ROWS[channel].kept_as or channel


def with_addresses_of(channel: Channel) -> tuple[Channel, ...]:
    """Return the channels that an address of this one serves."""
    return tuple(each for each in CHANNELS if kept_as(each) == kept_as(channel))


def address_of(channel: Channel, address: str, country: str | None) -> str:
    """Return an address, number or profile as it is compared; what can't be read is compared as it is written."""
    return ROWS[channel].compared(address, country)
