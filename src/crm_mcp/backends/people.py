"""What the vendors' backends share about leads: their addresses, and who may not be written as what."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from crm_mcp.address import address_key, email_address, phone_number
from crm_mcp.backends.base import FindsLeads
from crm_mcp.errors import Conflict, InvalidArgument
from crm_mcp.model import CHANNELS, Channel, Lead, LeadFields, fold

IDENTIFYING = ("name", "first_name", "last_name", "email", "phone", "company")
"""A lead needs one of these at least."""


_ON = "contact|e?mails?|sms|texts?|messages?|calls?|phone|linkedin"
_FLAG = re.compile(
    rf"(?:is|has|lead|contact)*"
    rf"(?:(?:donot|dont)(?P<what>{_ON}|disturb)|(?P<before>{_ON})?(?:opt(?:ed)?out|unsubscribed?|dnc|dnd|blacklisted)"
    rf"(?:of|from|for)?(?P<after>{_ON})?)(?:at|on|date|flag)?"
)
"""The name of a field that says that somebody must not be contacted, in its letters alone: `doNotCall`, `sms_opt_out`,
`unsubscribed_at`. No vendor here documents one, and none is likely to call it otherwise."""
_CHANNEL: Mapping[str, Channel] = {
    **dict.fromkeys(("email", "emails", "mail", "mails"), "email"),
    **dict.fromkeys(("sms", "text", "texts", "message", "messages"), "sms"),
    **dict.fromkeys(("call", "calls", "phone"), "call"),
    "linkedin": "linkedin",
}
_NO = frozenset(("", "false", "no", "n", "0", "0.0", "off", "none", "null", "never"))


def refused_channels(fields: Mapping[str, object] | None) -> tuple[Channel, ...] | None:
    """Return the channels that flags among a lead's further fields rule out; None where none does."""
    found: set[Channel] = set()
    for name, value in (fields or {}).items():
        if (channels := _flagged(name)) and _says_yes(value):
            found.update(channels)
    return tuple(sorted(found)) or None


def lifted_channels(written: Mapping[str, object]) -> dict[str, tuple[Channel, ...]]:
    """Return the flags among fields that are about to be written as not set, with their channels."""
    return {name: channels for name, value in written.items() if (channels := _flagged(name)) and not _says_yes(value)}


def refuse_lifting(before: Lead, written: Mapping[str, object]) -> None:
    """Raise where a write of further fields would take away a flag that says that a lead must not be contacted.

    Raises:
        InvalidArgument: it would; nothing is written then.
    """
    for name, channels in lifted_channels(written).items():
        if set(channels) & set(refused_channels(before.custom_fields) or ()):
            raise still_refused(name, before.label)


def still_refused(name: str, who: str) -> InvalidArgument:
    """Return the error for a flag that would be taken away."""
    return InvalidArgument(
        f'"{name[:80]}" says that {who} must not be contacted', "a person can lift that, in the CRM itself", wrote=False
    )


@lru_cache(maxsize=1024)
def _flagged(name: str) -> tuple[Channel, ...]:
    """Return the channels that a flag of this name is about; none where it is no flag."""
    found = _FLAG.fullmatch("".join(each for each in fold(name) if each.isalpha()))
    if found is None:
        return ()
    channel: Channel | None = next((_CHANNEL[each] for each in found.groupdict().values() if each in _CHANNEL), None)
    return (channel,) if channel else CHANNELS


def _says_yes(value: object) -> bool:
    return value is not None and str(value).strip().casefold() not in _NO


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


async def holders(crm: FindsLeads, email: str | None, phone: str | None) -> list[Lead]:
    """Return the leads that have this address or this number, each once."""
    looked: tuple[tuple[Channel, str | None], ...] = (("email", email), ("sms", phone))
    found: dict[str, Lead] = {}
    for channel, address in looked:
        if address:
            found |= {each.id: each for each in await crm.leads_at(channel, address)}
    return list(found.values())


def refuse_taken(found: Iterable[Lead], besides: str | None = None) -> None:
    """Raise Conflict where leads other than one have the address or number that would be written."""
    if taken := [each for each in found if each.id != besides]:
        who = ", ".join(f"{each.id} ({each.label})" for each in taken[:5])
        raise Conflict(f"this address or number belongs to {who}", "update that lead instead", wrote=False)


def keys_of(addresses: Iterable[object]) -> list[str]:
    """Return addresses and numbers, those that there are, as they are compared."""
    return [address_key(str(each)) for each in addresses if each]


@dataclass
class AddressBook:
    """Whose an address or number is, as it was read for an import; an empty id is a lead whose id was not told."""

    writes: int = 0
    """How many single leads this program had written when the reading began: it is old once there are more."""
    idle: float = 60.0
    longest: float = 600.0
    """Seconds without a use, and since the reading, after which it is old."""
    refused: dict[str, frozenset[Channel]] = field(default_factory=dict[str, frozenset[Channel]])
    """The leads that must not be contacted on some channels, by flags of theirs."""
    _ids: dict[str, str] = field(default_factory=dict[str, str])
    _read: float = field(default_factory=time.monotonic)
    _used: float = field(default_factory=time.monotonic)

    def fits(self, writes: int) -> bool:
        """Whether it can still be used after so many writes; this counts as a use."""
        before = self._used
        self.use()
        return writes == self.writes and self._used - before < self.idle and self._used - self._read < self.longest

    def use(self) -> None:
        """Note that it is in use."""
        self._used = time.monotonic()

    def add(self, keys: Iterable[str], lead: str) -> None:
        """Remember addresses; the lead that was first at one stays."""
        for key in keys:
            self._ids[key] = self._ids.get(key) or lead

    def note(self, lead: str, fields: Mapping[str, object] | None) -> None:
        """Remember what flags among a lead's further fields say."""
        if channels := refused_channels(fields):
            self.refused[lead] = frozenset(channels)

    def refuse_lifting(self, lead: str, written: Mapping[str, object]) -> None:
        """Raise InvalidArgument where a write would take away such a flag, as `refuse_lifting` does."""
        for name, channels in lifted_channels(written).items():
            if self.refused.get(lead, frozenset()) & set(channels):
                raise still_refused(name, lead)

    def at(self, keys: Iterable[str]) -> list[str]:
        """Return the leads that have one of these addresses, each once."""
        return list(dict.fromkeys(self._ids[key] for key in keys if key in self._ids))
