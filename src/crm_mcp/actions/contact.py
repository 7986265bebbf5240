"""Who said no, which addresses are new, and which fields no tool may write.

A block belongs to an address, whichever lead has it, and to the lead that had it when the block was made, whichever
address it is given later: neither a new address, nor an empty one, nor another lead, a deletion, an import or an undo
shakes it off. A CRM's own mark and a STOP word in its history become such blocks before a tool changes the lead that
they stand on. Only `lift` takes one away.
"""

from __future__ import annotations

import contextlib
import json
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from crm_mcp.actions import heard
from crm_mcp.actions.addresses import address_of, addresses_in, empties_custom_fields, kept_before, moves_clock
from crm_mcp.actions.approval import bare
from crm_mcp.actions.context import Context
from crm_mcp.actions.intent import under_way
from crm_mcp.actions.zones import field_key
from crm_mcp.address import address_key
from crm_mcp.backends.base import FindsLeads, ListsOptions
from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.errors import Forbidden
from crm_mcp.model import CHANNELS, Channel, Lead, LeadFields, rfc3339
from crm_mcp.store import Address

STOPPED_BY = "the lead's own STOP"
INHERITED = "inherited from the address before"
KEPT = "the CRM's own mark, kept before a change"
FLAGGED = "a field of the lead says so"
FRESH_FOR = timedelta(hours=24)
"""How long an address that a tool wrote is confirmed before it is used."""
_JSON = re.compile(r"\s*[\[{]")

_field_ids: weakref.WeakKeyDictionary[Context, tuple[datetime, dict[str, str]]] = weakref.WeakKeyDictionary()
"""The folded names of each CRM's custom fields by their folded ids, and when they were read."""
_KNOWN_FOR = timedelta(minutes=10)


# Who said no


async def blocked(context: Context, lead: Lead, channel: Channel) -> str | None:
    """Return why this lead must not be contacted on this channel, else None.

    What counts is our own list, the CRM's mark, and a STOP word among all that the lead has written, which is put on
    our list at once; and the same of every other lead that has the address.

    Raises:
        CrmError: the history can't be read: who can't be asked what the lead said can't send to it either.
    """
    reason = (await listed(context, lead, (channel,))).get(channel)
    if reason is None and channel in (lead.do_not_contact or ()):
        reason = ""
    if reason is None:
        reason = await _stopped(context, lead, channel)
    for other in await heard.sharing(context, lead, channel) if reason is None else ():
        if channel in (other.do_not_contact or ()):
            reason = f"{bare(other.label)} ({other.id}), who has the same address, is marked so in the CRM"
        else:
            reason = await _stopped(context, other, channel)
        if reason is not None:
            break
    return None if reason is None else no_contact(lead, channel, reason)


def no_contact(lead: Lead, channel: Channel, reason: str) -> str:
    """Say that a lead must not be contacted on a channel; `reason` may be empty."""
    return f"do-not-contact: {bare(lead.label)} must not be reached by {channel}" + (
        f" ({bare(reason)})" if reason else ""
    )


async def listed(context: Context, lead: Lead, channels: Sequence[Channel] = CHANNELS) -> dict[Channel, str]:
    """Return on which of these channels a lead is on our own list, by an address or by itself, with the reason."""
    found: dict[Channel, str] = {}
    for keys in _keys(context, lead, channels):
        found = await context.store.contacts.blocked(keys) | found
    return found


async def block(context: Context, lead: Lead, channels: Iterable[Channel], reason: str | None, by: str) -> None:
    """Put a lead's addresses on these channels, and the lead itself, on our list."""
    for keys in _keys(context, lead, channels):
        await context.store.contacts.block(keys, reason, by)


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
        await _stopped(context, lead, channel)
    for keys in _keys(context, lead, on):
        await context.store.contacts.unblock(keys, by)


async def replied(context: Context, lead: Lead) -> bool:
    """Whether a lead has written since it was last enrolled through this server, as far as the CRM's history tells."""
    answers = [each for each in await heard.all_written(context, lead) if each.direction == "inbound"]
    if not answers:
        return False
    rows, _ = await context.store.actions.page(
        caller=None,
        status=None,
        lead={context.connection: lead.id},
        after=None,
        limit=100,
        connection=context.connection,
    )
    # A job that was called off had enrolled those whom it touched.
    did = (row for row in rows if row.status == "done" or (row.status == "cancelled" and row.touched))
    enrolled = next((row.finished_at for row in did if context.tools.enrols(row.tool)), None)
    return enrolled is None or any(each.sent_at is None or each.sent_at > enrolled for each in answers)


async def _stopped(context: Context, lead: Lead, channel: Channel) -> str | None:
    """Return that the lead itself said no on this channel, after the last time that somebody lifted a block of it."""
    said = await heard.stops(context, lead, channel)
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


# What a tool's change must not shake off


async def keep_blocks(context: Context, lead: Lead, by: str) -> None:
    """Put on our list what a lead is blocked on: by its CRM, by its own STOP, or by an address that it has now.

    Called before a tool changes, imports over or deletes it.
    """
    on_list = await listed(context, lead)
    for channel, reason in on_list.items():
        await block(context, lead, (channel,), reason or None, by)
    marked: list[Channel] = [each for each in lead.do_not_contact or () if each not in on_list]
    if marked:
        await block(context, lead, marked, KEPT, by)
    for channel in heard.HEARD:
        if channel not in on_list and channel not in marked:
            await _stopped(context, lead, channel)


async def follow_blocks(context: Context, before: Lead, after: Lead, by: str) -> None:
    """Block the addresses that a tool has given to a lead on channels on which it is blocked."""
    moved: list[Channel] = [each for each in CHANNELS if after.address(each) not in (None, before.address(each))]
    on_list = await listed(context, before, moved) if moved else {}
    for channel in on_list:
        await block(context, after, (channel,), INHERITED, by)


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
        if each.channel == "linkedin":
            continue
        for lead in await context.crm(FindsLeads).leads_at(each.channel, each.address):
            if lead.id not in seen:
                seen.add(lead.id)
                await keep_blocks(context, lead, by)


# New addresses


async def fresh(context: Context, lead: Lead, channels: Iterable[Channel]) -> tuple[str, ...]:
    """Return, in words, which of the addresses that these channels use were written by a tool of late, and by whom."""
    shown: dict[Address, str] = {}
    for channel in channels:
        if address := lead.address(channel):
            key = address_of(channel, address, context.settings.country)
            shown[Address(channel="sms" if channel == "call" else channel, address=key)] = address
        if channel in ("sms", "call"):
            shown[_zone_of(context, lead)] = ""
    if not shown:
        return ()
    now = context.clock()
    remarks: list[str] = []
    for each in await context.store.contacts.written(list(shown), now - FRESH_FOR):
        address = shown[Address(channel=each.channel, address=each.address)]
        minutes = max(0, int((now - each.at).total_seconds() // 60))
        ago = f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"
        remarks.append(
            f"the {f'{_CALLED[each.channel]} {bare(address)}' if address else 'time zone'} was set by {bare(each.by)} "
            f"with {each.tool} {ago} ago "
            f"({rfc3339(each.at)}): make sure that it is right"
        )
    return tuple(remarks)


_CALLED: Mapping[Channel, str] = {
    "email": "e-mail address",
    "sms": "phone number",
    "call": "phone number",
    "linkedin": "LinkedIn profile",
}


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


# Fields that no tool may write


async def refuse_consent_fields(context: Context, arguments: Any) -> None:
    """Refuse arguments of a writing call that name a field which holds consent, by its name or by its id.

    Raises:
        Forbidden: they do.
    """
    needed = context.settings.policy.require_consent
    names = {field_key(field): field for field in needed.values()}
    if not names:
        return
    given = {part for text in _named(arguments) for part in map(field_key, (text, *re.split(r"[.\[\]/]", text)))}
    if empties_custom_fields(arguments):
        given |= names.keys()
    for key in sorted({*names, *(ids := await _ids_of(context, names))} & given):
        field = names.get(key) or names[ids[key]]
        channels = " and ".join(channel for channel, each in needed.items() if each == field)
        raise Forbidden(
            f'"{field}" holds the consent to be reached by {channels}, and no tool can write it',
            "a person sets it in the CRM",
        )


def _named(value: Any) -> Iterator[str]:
    """Return what could name a field: keys, short texts, the columns of a table, and the same within JSON as text."""
    if isinstance(value, Mapping):
        for name, inner in cast("Mapping[str, Any]", value).items():
            yield name
            yield from _named(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[Any]", value):
            yield from _named(inner)
    elif isinstance(value, str):
        if _JSON.match(value):
            with contextlib.suppress(ValueError, RecursionError):
                yield from _named(json.loads(value))
        first, _, rest = value.lstrip("\ufeff\r\n").partition("\n")
        yield first
        if rest:
            yield from (column.strip(" \r\"'") for column in re.split("[,;\t|]", first))


async def _ids_of(context: Context, names: Iterable[str]) -> dict[str, str]:
    """Return the folded names of these custom fields by their folded ids, where the CRM lists its fields."""
    crm = context.crm_if(ListsOptions)
    if crm is None or "custom_fields" not in crm.option_kinds:
        return {}
    known = _field_ids.get(context)
    if known is None or context.clock() - known[0] > _KNOWN_FOR:
        options = await crm.list_options("custom_fields")
        known = _field_ids[context] = context.clock(), {field_key(each.id): field_key(each.name) for each in options}
    return {key: name for key, name in known[1].items() if name in names}
