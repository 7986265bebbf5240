"""Who must not be contacted: by channel and address, whatever lead or connection they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, false, insert, or_, select, update

from crm_mcp.model import Channel, address_key
from crm_mcp.store.database import Database
from crm_mcp.store.tables import do_not_contact

_c = do_not_contact.c


class Contacts:
    """The do-not-contact list."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self.database = database
        self._clock = clock

    def block(self, addresses: Mapping[Channel, str], reason: str | None, by: str) -> None:
        """Add to the list. What is on it stays, with the new reason where one is given."""
        with self.database.writing() as connection:
            present = {(row.channel, row.address) for row in connection.execute(_listed(addresses))}
            for channel, address in addresses.items():
                key = address_key(address)
                if (channel, key) not in present:
                    row = {"channel": channel, "address": key, "reason": reason, "blocked_by": by}
                    connection.execute(insert(do_not_contact).values(row | {"blocked_at": self._clock()}))
                elif reason is not None:
                    same = and_(_c.channel == channel, _c.address == key)
                    connection.execute(update(do_not_contact).where(same).values(reason=reason))

    def unblock(self, addresses: Mapping[Channel, str]) -> None:
        """Take off the list."""
        with self.database.writing() as connection:
            connection.execute(delete(do_not_contact).where(_any(addresses)))

    def blocked(self, addresses: Mapping[Channel, str]) -> dict[Channel, str]:
        """Return those that are on the list, with the reason."""
        with self.database.reading() as connection:
            found = {row.channel: row.reason or "" for row in connection.execute(_listed(addresses))}
        return {channel: found[channel] for channel in addresses if channel in found}


def _any(addresses: Mapping[Channel, str]) -> ColumnElement[bool]:
    each = (and_(_c.channel == channel, _c.address == address_key(address)) for channel, address in addresses.items())
    return or_(false(), *each)


def _listed(addresses: Mapping[Channel, str]) -> Select[Any, Any, Any]:
    return select(_c.channel, _c.address, _c.reason).where(_any(addresses))
