"""Who said no: our list of whom nobody may reach, and how what a tool changes does not shake it off.

A block belongs to an address, whichever lead has it, and to the lead that had it when the block was made, whichever
address it is given later: neither a new address, nor an empty one, nor another lead, a deletion, an import or an undo
shakes it off. A CRM's own mark and a STOP word in its history become such blocks before a tool changes the lead that
they stand on. Only `lift` takes one away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards import inbound
from crm_mcp.actions.guards.addresses import kept_before
from crm_mcp.actions.intent import under_way
from crm_mcp.actions.summary import escape_markup
from crm_mcp.address import address_key
from crm_mcp.backends.base import FindsLeads
from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.channels import CHANNELS, EVERY, HEARD, ROWS, Blocked, Channel, address_of
from crm_mcp.errors import Forbidden
from crm_mcp.model import Lead, LeadFields
from crm_mcp.store import Address

STOPPED_BY = "the lead's own STOP"
INHERITED = "inherited from the address before"
KEPT = "the CRM's own mark, kept before a change"
FLAGGED = "a field of the lead says so"


# Who said no


async def no_contact_reason(context: Context, lead: Lead, channel: Channel) -> str | None:
    """Return why this lead must not be contacted on this channel, else None.

    What counts is our own list, the CRM's mark, and a STOP word among all that the lead has written, which is put on
    our list at once; and the same of every other lead that has the address.

    Raises:
        CrmError: the history can't be read: who can't be asked what the lead said can't send to it either.
    """
    reason = (await blocks_of(context, lead, (channel,))).get(channel)
    if reason is None and channel in (lead.do_not_contact or ()):
        reason = ""
    if reason is None:
        reason = await _said_stop(context, lead, channel)
    for other in await inbound.sharing(context, lead, channel) if reason is None else ():
        if channel in (other.do_not_contact or ()):
            reason = f"{escape_markup(other.label)} ({other.id}), who has the same address, is marked so in the CRM"
        else:
            reason = await _said_stop(context, other, channel)
        if reason is not None:
            break
    return None if reason is None else no_contact(lead, channel, reason)


def no_contact(lead: Lead, channel: Channel, reason: str) -> str:
    """Say that a lead must not be contacted on a channel; `reason` may be empty."""
    return f"do-not-contact: {escape_markup(lead.label)} must not be reached by {channel}" + (
        f" ({escape_markup(reason)})" if reason else ""
    )


async def blocks_of(context: Context, lead: Lead, channels: Sequence[Channel] = CHANNELS) -> dict[Channel, str]:
    """Return on which of these channels a lead is on our own list, by an address or by itself, with the reason."""
    found: dict[Channel, str] = {}
    for keys in _keys(context, lead, channels):
        found = await context.store.contacts.blocked(keys) | found
    return found


async def block(context: Context, lead: Lead, channels: Iterable[Channel], reason: str | None, by: str) -> None:
    """Put a lead's addresses on these channels, and the lead itself, on our list."""
    keys = _blocked_keys(context, lead, tuple(channels))
    await context.store.contacts.block_many(keys, [reason] * len(keys), by)


async def lift(context: Context, lead: Lead, channels: Iterable[Channel], by: str) -> None:
    """Take a lead's addresses on these channels, and the lead itself, off our list.

    A STOP that it has sent already is put on the list first: so it is known to be lifted, and blocks no more.

    Raises:
        Forbidden: it is not done in the name of an action that a person has said yes to.
    """
    work = under_way.get()
    if why := work.no_person if work else "no action is under way":
        raise Forbidden(f"the block was not lifted: {why}", "this program is at fault, and not the call", wrote=False)
    on = tuple(channels)
    for channel in on:
        await _said_stop(context, lead, channel)
    for keys in _blocked_keys(context, lead, on):
        await context.store.contacts.unblock(keys, by)


async def _said_stop(context: Context, lead: Lead, channel: Channel) -> str | None:
    """Return that the lead itself said no on this channel, after the last time that somebody lifted a block of it."""
    said = await inbound.stops(context, lead, channel)
    lifted: datetime | None = None
    for keys in _keys(context, lead, (channel,)) if said else ():
        at = (await context.store.contacts.lifted(keys)).get(channel)
        lifted = max(filter(None, (lifted, at)), default=None)
    for each in said:
        # One without a time may be of before: what a person has lifted since stays lifted.
        if lifted is None or (each.sent_at is not None and each.sent_at > lifted):
            on = f" on {each.sent_at:%Y-%m-%d}" if each.sent_at else ""
            reason = f"the lead answered with a STOP word{on}"
            await block(context, lead, (channel,), reason, STOPPED_BY)
            return reason
    return None


# How a block is known


def _keys(context: Context, lead: Lead, channels: Iterable[Channel]) -> list[dict[Channel, str]]:
    """Return what a lead is known by on each channel: its address as it is compared, as it is written, and its id."""
    normal: dict[Channel, str] = {}
    written: dict[Channel, str] = {}
    itself: dict[Channel, str] = {}
    for channel in channels:
        itself[channel] = f"lead:{context.connection}:{lead.id}"
        if address := lead.address(channel):
            normal[channel] = address_of(channel, address, context.settings.country)
            if address_key(address) != normal[channel]:
                written[channel] = kept_before(channel, address) or address
    return [each for each in (normal, written, itself) if each]


def _blocked_keys(context: Context, lead: Lead, channels: Collection[Channel]) -> list[dict[Blocked, str]]:
    """Return what a lead is blocked by on these channels; on all of them, that is one row an address for every channel,
    also for one that comes later."""
    keys = _keys(context, lead, channels)
    if not set(CHANNELS) <= set(channels):
        return [{**each} for each in keys]
    return [{EVERY: address} for address in dict.fromkeys(address for each in keys for address in each.values())]


# What a tool's change must not shake off


async def keep_blocks(context: Context, lead: Lead, by: str) -> None:
    """Put on our list what a lead is blocked on: by its CRM, by its own STOP, or by an address that it has now.

    Called before a tool changes, imports over or deletes it.
    """
    on_list = await blocks_of(context, lead)
    for channels, reason in _together(on_list):
        await block(context, lead, channels, reason or None, by)
    marked: list[Channel] = [each for each in lead.do_not_contact or () if each not in on_list]
    if marked:
        await block(context, lead, marked, KEPT, by)
    for channel in HEARD:
        if channel not in on_list and channel not in marked:
            await _said_stop(context, lead, channel)


async def follow_blocks(context: Context, before: Lead, after: Lead, by: str) -> None:
    """Block the addresses that a tool has given to a lead on channels on which it is blocked."""
    moved: list[Channel] = [each for each in CHANNELS if after.address(each) not in (None, before.address(each))]
    on_list = await blocks_of(context, before) if moved else {}
    for channels, _ in _together(on_list):
        if not set(moved).isdisjoint(channels):
            await block(context, after, channels, INHERITED, by)


def _together(on_list: Mapping[Channel, str]) -> list[tuple[Sequence[Channel], str]]:
    """Return on which channels somebody is blocked, and why: on all of them at once, or on one after the other."""
    if set(CHANNELS) <= set(on_list):
        return [(CHANNELS, next(iter(on_list.values())))]
    return [((channel,), reason) for channel, reason in on_list.items()]


async def follow_flags(context: Context, lead: Lead, written: LeadFields, by: str) -> None:
    """Block a lead of which a tool has just written, in a custom field, that it must not be contacted."""
    if channels := refused_channels(written.custom_fields):
        await block(context, lead, channels, FLAGGED, by)


async def keep_at(context: Context, addresses: Sequence[Address], by: str, *, besides: str | None = None) -> None:
    """Keep the blocks of those leads that have one of these addresses already: whoever else is given it has them too.

    `besides` is the lead that is given them.
    """
    seen: set[str | None] = {besides}
    for each in addresses:
        if not ROWS[each.channel].found_by:
            continue
        for lead in await context.crm(FindsLeads).leads_at(each.channel, each.address):
            if lead.id not in seen:
                seen.add(lead.id)
                await keep_blocks(context, lead, by)
