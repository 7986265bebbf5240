"""What leads have written: who has asked for no more messages, and who may have.

An address is one person's, whichever leads have it: what one of them has written counts for all.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards.opt_out import is_stop, may_be_stop, names_of
from crm_mcp.actions.intent import DOUBTED, Doubt
from crm_mcp.actions.offload import offload
from crm_mcp.actions.summary import quote
from crm_mcp.backends.base import FindsLeads, ReadsMessages
from crm_mcp.backends.http_errors import says_opted_out
from crm_mcp.channels import HEARD, OPTS_OUT, Channel, address_of
from crm_mcp.errors import CrmError
from crm_mcp.model import Activity, Lead, Message
from crm_mcp.store import DedupKey, Store

R = TypeVar("R")

ENROLMENT = "enrolment"
"""The channel of the deduplication key of an enrolment, whose messages may go out on any."""
OPTED_OUT = "the CRM says that this address has opted out"
"""The channels on which a CRM may say so."""
SHOWN = 200
"""Characters of such a message that a question shows."""

SAME_FOR = timedelta(minutes=1)
"""How long those who have an address are taken to be the same: between a question and its answer, mostly."""
_at_address: weakref.WeakKeyDictionary[Context, dict[tuple[Channel, str], tuple[datetime, tuple[Lead, ...]]]] = (
    weakref.WeakKeyDictionary()
)
_read: dict[int, dict[str, tuple[Any, ...]]] = {}
"""What each lead that has been read has written, and who shares its addresses, for as long as what was read of the lead
is used."""


async def stops(context: Context, lead: Lead, channel: Channel) -> list[Message]:
    """Return what a lead has written that is a STOP on a channel, newest first.

    Raises:
        CrmError: what it has written can't be read.
    """
    if not _is_heard(context, channel):
        return []
    written, names = await _written(context, lead, channel), names_of(lead)
    return await offload(
        [each.body for each in written],
        lambda: [each for each in written if is_stop(each.body or "", channel, each.subject, names)],
    )


async def doubt(context: Context, lead: Lead, channel: Channel) -> Doubt | None:
    """Return the newest message in which a lead, or another that has its address, may have asked for no more on a
    channel; None: there is none.

    Raises:
        CrmError: what they have written can't be read.
    """
    if not _is_heard(context, channel):
        return None
    found: list[Message] = []
    for each in (lead, *await sharing(context, lead, channel)):
        written = [one for one in await _written(context, each, channel) if one.direction == "inbound"]
        found += await offload([one.body for one in written], _newest_doubtful, written, channel, names_of(each))
    if not found:
        return None
    newest = max(found, key=_at)
    on = f" on {newest.sent_at:%Y-%m-%d}" if newest.sent_at else ""
    text = quote(newest.body or newest.subject or "", most=SHOWN, start=SHOWN)
    said = f"{channel} came in{on} that may ask for no more: {text}"
    return Doubt(newest.id, said, await _is_settled(context, lead, channel, newest.id))


async def all_written(context: Context, lead: Lead) -> list[Message]:
    """Return what a lead has written, on every channel of which its CRM tells it."""
    crm = context.crm_if(ReadsMessages)
    channels = sorted(crm.hears) if crm else ()
    return [each for channel in channels for each in await _written(context, lead, channel)]


async def marked(lead: Lead, happened: Sequence[Activity]) -> tuple[Activity, ...]:
    """Return what happened with a lead, with a mark on each message that came in and may ask for no more of them."""
    names = names_of(lead)
    return await offload([each.text for each in happened], lambda: tuple(_marked(each, names) for each in happened))


def _marked(each: Activity, names: frozenset[str]) -> Activity:
    came_in = each.kind == "message" and each.direction == "inbound"
    doubtful = any(came_in and each.channel == on and _is_doubtful(each.text or "", on, names) for on in HEARD)
    return each.model_copy(update={"opt_out_suspected": True}) if doubtful else each


def _is_doubtful(text: str, channel: Channel, names: frozenset[str]) -> bool:
    subject: str | None = None
    if channel == "email" and not is_stop(text, channel, None, names):
        subject, _, text = text.partition("\n")  # its subject, if it has one, is the first line
    return may_be_stop(text, channel, subject, names)


async def sharing(context: Context, lead: Lead, channel: Channel) -> tuple[Lead, ...]:
    """Return the other leads that have a lead's address on a channel, where what they write on it can be read."""
    address = lead.address(channel)
    if address is None or not _is_heard(context, channel):
        return ()
    key = address_of(channel, address, context.settings.country)
    at = await _once(lead, f"at {channel}", lambda: _leads_at(context, channel, key))
    return tuple(each for each in at if each.id != lead.id)


async def _leads_at(context: Context, channel: Channel, key: str) -> tuple[Lead, ...]:
    """Return the leads that have an address; who they are is asked once a minute, since it may cost several calls, and
    what they write each time."""
    known, now = _at_address.setdefault(context, {}), context.clock()
    if (kept := known.get((channel, key))) is None or now - kept[0] > SAME_FOR:
        for old in [each for each, (since, _) in known.items() if now - since > SAME_FOR]:
            del known[old]
        kept = known[channel, key] = now, await context.crm(FindsLeads).leads_at(channel, key)
    return tuple(each.model_copy() for each in kept[1])


async def block_opted_out(store: Store, dedup_keys: Sequence[DedupKey], error: CrmError) -> str | None:
    """Block the address of which a CRM says, in refusing a message, that who has it wants no more; returns the reason.

    `dedup_keys` are those of the message; where it was for several, it is not known of whom that is said.
    """
    reached = {(each.channel, each.address) for each in dedup_keys}
    if len(reached) != 1 or not says_opted_out(error.told):
        return None
    [(channel, address)] = reached
    if address is None or channel not in OPTS_OUT:
        return None
    await store.contacts.block({channel: address}, OPTED_OUT, OPTED_OUT)
    return f"do-not-contact: {OPTED_OUT}, so it is blocked on this channel from now on; nothing was sent"


def _is_heard(context: Context, channel: Channel) -> bool:
    """Whether a word ends messages on a channel, and this CRM tells what leads write on it."""
    return channel in HEARD and context.can(ReadsMessages) and channel in context.crm(ReadsMessages).hears


async def _written(context: Context, lead: Lead, channel: Channel) -> tuple[Message, ...]:
    return await _once(lead, channel, lambda: context.crm(ReadsMessages).inbound_messages(lead.id, channel))


async def _once(lead: Lead, what: str, read: Callable[[], Awaitable[tuple[R, ...]]]) -> tuple[R, ...]:
    """Return what is read of a lead: once for each time that the lead itself is read."""
    if (kept := _read.get(id(lead))) is None:
        kept = _read[id(lead)] = {}
        weakref.finalize(lead, _read.pop, id(lead), None).atexit = False
    if what not in kept:
        kept[what] = await read()
    return kept[what]


def _newest_doubtful(written: list[Message], channel: Channel, names: frozenset[str]) -> list[Message]:
    doubtful = (each for each in written if may_be_stop(each.body or "", channel, each.subject, names))
    return [each for each in [next(doubtful, None)] if each]


async def _is_settled(context: Context, lead: Lead, channel: Channel, message: str) -> bool:
    """Whether a person has said yes to something that reached the lead's address, and had this message before them."""
    address = lead.address(channel)
    if address is None or not message:  # one without an id can't be told from the next
        return False
    key = address_of(channel, address, context.settings.country)
    seen = await context.store.contacts.approved_facts((channel, ENROLMENT), key)
    return any(message in facts.get(DOUBTED, ()) for facts in seen)


def _at(message: Message) -> datetime:
    """Return when a message was written; one without a time may be the newest."""
    return message.sent_at or datetime.max.replace(tzinfo=UTC)


async def replied(context: Context, lead: Lead) -> bool:
    """Whether a lead has written since it was last enrolled through this server, as far as the CRM's history tells."""
    answers = [each for each in await all_written(context, lead) if each.direction == "inbound"]
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
