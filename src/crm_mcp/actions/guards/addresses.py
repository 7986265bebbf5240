"""Which addresses and time zones a call writes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from crm_mcp.actions.guards.quiet_hours import field_key
from crm_mcp.address import EMAIL, address_key, email_address, phone_number, profile_key
from crm_mcp.channels import Channel, address_of
from crm_mcp.config import time_zone
from crm_mcp.errors import InvalidArgument
from crm_mcp.store import Address

_LONGEST_ZONE = 64
"""Characters of the longest text that is looked at as the name of a time zone, or of its field."""
_NUMBER = re.compile("[+\uff0b]?\\(?\\d[\\d .()/\u00a0\u2010-\u2015-]{5,22}\\d")
_DIGITS = re.compile("[+\uff0b]?\\d{7,15}")
_PROFILE = re.compile(r"(?i)linkedin\.com/[^\s<>\"'|,;]+")
_LONGEST_NUMBER = 40


def kept_before(channel: Channel, address: str) -> str | None:
    """Return how a profile with percent-encoding was compared before that was read: blocks are kept by it still.

    It names nobody else: what names another one than is written was compared as it is written, too.
    """
    if channel != "linkedin":
        return None
    last = re.split(r"[?#]", address_key(address))[0].rstrip("/").rsplit("/", 1)[-1]
    key = profile_key(address)
    return last if key is not None and last != key == profile_key(f"/in/{last}") else None


def addresses_in(arguments: Any, country: str | None) -> tuple[Address, ...]:
    """Return every e-mail address, phone number (national ones where `country` is known) and LinkedIn profile that
    stands anywhere in the arguments of a call that writes leads, each once and as it is compared."""
    found: dict[Address, None] = {}
    for name, text in _texts(arguments):
        for address in _addresses(name, text, country):
            found[address] = None
    return tuple(found)


def moves_clock(arguments: Any) -> bool:
    """Whether a call that changes leads sets or empties a time zone, by the name of its field, whatever is put there,
    or by its value: with it goes when they may be texted or called."""
    short = [whole for _, text in _texts(arguments) if len(whole := text.strip()) <= _LONGEST_ZONE]
    named = any(field_key(each.rpartition(".")[2]) == "timezone" for each in (*_names(arguments), *short))
    return named or empties_custom_fields(arguments) or any(map(time_zone, short))


def empties_custom_fields(arguments: Any) -> bool:
    """Whether a call empties all custom fields of a lead at once, without a word about any of them."""
    return any(name == "clear" and field_key(text) == "customfields" for name, text in _texts(arguments))


def _addresses(name: str, text: str, country: str | None) -> Iterator[Address]:
    whole = text.strip()
    if "@" in text:
        for each in dict.fromkeys((whole[:320], *(match[0].strip(".'`*_") for match in EMAIL.finditer(text)))):
            try:
                yield Address(channel="email", address=address_key(email_address(each)))
            except InvalidArgument:
                continue
    if "linkedin" in field_key(name):
        yield Address(channel="linkedin", address=address_of("linkedin", whole, country))
    for match in _PROFILE.finditer(text):
        profile = match[0].rstrip(".)]}!:*`")  # as it stands in a sentence
        yield Address(channel="linkedin", address=address_of("linkedin", profile, country))
    numbers = [match[0] for pattern in (_NUMBER, _DIGITS) for match in pattern.finditer(text)]
    if len(whole) <= _LONGEST_NUMBER and (whole.startswith("+") or sum(c.isdigit() for c in whole) > 2):
        numbers.append(whole)  # letters can stand for digits
    for each in dict.fromkeys(numbers):
        for form in (each, f"+{each}") if each.isdecimal() else (each,):
            try:
                yield Address(channel="sms", address=phone_number(form, country))
            except InvalidArgument:
                continue


def _names(value: Any) -> Iterator[str]:
    """Return every name in JSON, also one that stands over nothing that is a text."""
    if isinstance(value, Mapping):
        for each, inner in cast("Mapping[str, Any]", value).items():
            yield each
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[Any]", value):
            yield from _names(inner)


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Return the texts in JSON, each with the name that it stands under; whole numbers too, as phone numbers may be."""
    if isinstance(value, Mapping):
        for each, inner in cast("Mapping[str, Any]", value).items():
            yield from _texts(inner, each)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[Any]", value):
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name, value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, str(value)
