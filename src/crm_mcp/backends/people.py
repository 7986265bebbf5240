"""What the vendors' backends share about leads: their addresses, and who may not be written as what."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from crm_mcp.backends.base import FindsLeads
from crm_mcp.errors import Conflict, InvalidArgument
from crm_mcp.model import Channel, Lead, LeadFields, address_key, email_address, phone_number

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

    def at(self, keys: Iterable[str]) -> list[str]:
        """Return the leads that have one of these addresses, each once."""
        return list(dict.fromkeys(self._ids[key] for key in keys if key in self._ids))
