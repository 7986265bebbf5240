"""Addresses that a tool wrote of late: whoever sends to one is told who wrote it, and when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards.addresses import addresses_in, moves_clock
from crm_mcp.actions.summary import escape_markup
from crm_mcp.address import address_key
from crm_mcp.channels import CHANNELS, ROWS, Channel, address_of, kept_as
from crm_mcp.model import Lead, rfc3339
from crm_mcp.store import Address

FRESH_FOR = timedelta(hours=24)
"""How long an address that a tool wrote is confirmed before it is used."""


async def fresh(context: Context, lead: Lead, channels: Iterable[Channel]) -> tuple[str, ...]:
    """Return, in words, which of the addresses that these channels use were written by a tool of late, and by whom."""
    shown: dict[Address, str] = {}
    for channel in channels:
        if address := lead.address(channel):
            key = address_of(channel, address, context.settings.country)
            shown[Address(channel=kept_as(channel), address=key)] = address
        if ROWS[channel].wakes:
            shown[_zone_of(context, lead)] = ""
    if not shown:
        return ()
    now = context.clock()
    remarks: list[str] = []
    for each in await context.store.contacts.written(list(shown), now - FRESH_FOR):
        address = shown[Address(channel=each.channel, address=each.address)]
        minutes = max(0, int((now - each.at).total_seconds() // 60))
        ago = f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"
        what = f"{ROWS[each.channel].address} {escape_markup(address)}" if address else "time zone"
        remarks.append(
            f"the {what} was set by {escape_markup(each.by)} "
            f"with {each.tool} {ago} ago "
            f"({rfc3339(each.at)}): make sure that it is right"
        )
    return tuple(remarks)


def unheld(context: Context, lead: Lead, arguments: Any) -> tuple[Address, ...]:
    """Return those addresses in the arguments of a call that changes a lead which the lead does not have yet.

    Its time zone counts as one: who sets it decides when a text or a call may reach the lead.
    """
    country = context.settings.country
    held = {each: address_of(each, found, country) for each in CHANNELS if (found := lead.address(each))}
    found = tuple(each for each in addresses_in(arguments, country) if held.get(each.channel) != each.address)
    return (*found, _zone_of(context, lead)) if moves_clock(arguments) else found


def _zone_of(context: Context, lead: Lead) -> Address:
    # As the store has it: it keeps no case.
    return Address(channel="sms", address=address_key(f"zone:{context.connection}:{lead.id}"))
