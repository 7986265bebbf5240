"""Whose an address is that a call names: ours, a lead's, or nobody's that is known.

It is compared as it is written. Another way to write a mailbox may be the same for one mail system and another one, or
a second one, for the next; who is reached must not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterable

from crm_mcp.actions.context import Context
from crm_mcp.address import E164, email_address, one_email
from crm_mcp.backends.base import FindsLeads, SendsEmail
from crm_mcp.channels import Channel, address_of, kept_as
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Lead


async def ours(context: Context) -> tuple[str, ...]:
    """Return `own_addresses` of the connection, and the addresses of its mailboxes."""
    crm = context.crm_if(SendsEmail)
    mailboxes = await crm.mailboxes() if crm else ()
    return (*context.own_addresses, *(each.address for each in mailboxes))


def is_among(text: str, addresses: Iterable[str]) -> bool:
    """Whether a text is exactly one of these addresses."""
    return any(_same(text, each) for each in addresses)


def holder(context: Context, text: str, leads: Iterable[Lead], channels: Iterable[Channel]) -> Lead | None:
    """Return the first of these leads that is reached at exactly this address on one of these channels."""
    ways = tuple(channels)
    for lead in leads:
        for each in ways:
            address = lead.address(each)
            if address and (_same(text, address) or (kept_as(each) == "sms" and _is_number_of(context, text, address))):
                return lead
    return None


async def found(context: Context, text: str, channels: Iterable[Channel]) -> Lead | None:
    """Return the one lead of the CRM that is reached at exactly this address on one of these channels; None where
    nobody has it, or where several have."""
    ways = tuple(channels)
    channel: Channel | None = None
    if "email" in ways and _is_email(text):
        channel = "email"
    elif E164.fullmatch(text):
        channel = next((each for each in ways if kept_as(each) == "sms"), None)
    if channel is None:
        return None
    leads = await context.crm(FindsLeads).leads_at(channel, address_of(channel, text, context.settings.country))
    return holder(context, text, leads, ways) if len(leads) == 1 else None


def _is_email(text: str) -> bool:
    try:
        return one_email(text) and bool(email_address(text)) and text == text.strip()
    except InvalidArgument:
        return False


def _is_number_of(context: Context, text: str, address: str) -> bool:
    return E164.fullmatch(text) is not None and address_of("sms", address, context.settings.country) == text


def _same(text: str, address: str) -> bool:
    """Whether a text is this very address: the case of Latin letters alone makes no difference."""
    return text == address or (text.isascii() and address.isascii() and text.casefold() == address.casefold())
