"""The toolset `outreach`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from crm_mcp.actions import contact, enrolling, history, turns
from crm_mcp.actions.approval import named, quoted
from crm_mcp.actions.context import Context
from crm_mcp.actions.intent import Bulk, Client, Done, Preview, Reach
from crm_mcp.actions.outreach import (
    choose_mailbox,
    choose_sender,
    preview_call,
    preview_email,
    preview_linkedin,
    preview_sms,
)
from crm_mcp.actions.policy import Effect
from crm_mcp.backends.base import (
    EndsSequences,
    FindsLeads,
    KeepsBlocklist,
    RunsSequences,
    SendsEmail,
    SendsLinkedIn,
    SendsSms,
    StartsCalls,
)
from crm_mcp.errors import Conflict, InvalidArgument, saying
from crm_mcp.model import CHANNELS, Channel, Lead, Line
from crm_mcp.server.arguments import Body, Email, LeadKey, Leads, LinkedIn, Sms, Subject
from crm_mcp.server.tool import tool
from crm_mcp.store import Action

Mailbox = Annotated[
    str | None, Field(description="id or address; may be left out where there is one or a default", max_length=320)
]


ResendOf = Annotated[
    str | None, Field(description="the earlier action, to send the same text again on purpose", max_length=64)
]
Defer = Annotated[bool, Field(description="where a rule forbids it now, send it at the next allowed time")]


async def ask_send_email(
    context: Context,
    lead: str,
    subject: str,
    body: str,
    mailbox: str | None,
    reply_to: str | None,
    resend_of: str | None,
    defer: bool,
) -> Reach:
    """Read the lead and the mailbox: what the person confirms is who it really goes to."""
    found = await context.lead(lead)
    chosen = await choose_mailbox(context, mailbox)
    return await preview_email(context, found, chosen, subject, body, reply_to, resend_of=resend_of, defer=defer)


async def look_send_email(context: Context, row: Action, subject: str, body: str, **_: object) -> Done | None:
    """Look for the e-mail among those that went out."""
    return await history.message(context, row, "email", body, subject)


@tool(Effect.OUTWARD, needs=(FindsLeads, SendsEmail), ask=ask_send_email, look=look_send_email)
async def send_email(
    context: Context,
    shown: Preview,
    lead: LeadKey,
    subject: Subject,
    body: Body,
    mailbox: Mailbox = None,
    reply_to: Email | None = None,
    resend_of: ResendOf = None,
    defer: Defer = False,
) -> Done:
    """Send one plain-text e-mail to a lead, to the address on file. The user is asked first.

    To note an e-mail that was sent elsewhere, use log_note.
    """
    found = shown.lead_read or await context.lead(lead)
    chosen = await choose_mailbox(context, mailbox)
    delivery = await context.crm(SendsEmail).send_email(found, chosen, subject, body, reply_to)
    return history.sent(found, delivery, "email", subject)


async def ask_send_sms(context: Context, lead: str, message: str, resend_of: str | None, defer: bool) -> Reach:
    """Read the lead: what the person confirms is who it really goes to."""
    return await preview_sms(context, await context.lead(lead), message, resend_of=resend_of, defer=defer)


async def look_send_sms(context: Context, row: Action, message: str, **_: object) -> Done | None:
    """Look for the SMS among those that went out."""
    return await history.message(context, row, "sms", message)


@tool(Effect.OUTWARD, needs=(FindsLeads, SendsSms), ask=ask_send_sms, look=look_send_sms)
async def send_sms(
    context: Context, shown: Preview, lead: LeadKey, message: Sms, resend_of: ResendOf = None, defer: Defer = False
) -> Done:
    """Send one SMS to a lead, to the number on file. The user is asked first."""
    found = shown.lead_read or await context.lead(lead)
    return history.sent(found, await context.crm(SendsSms).send_sms(found, message), "sms")


async def ask_send_linkedin_message(
    context: Context, lead: str, message: str, sender: str | None, resend_of: str | None, defer: bool
) -> Reach:
    """Read the lead and the sender: what the person confirms is who it really goes to, and from whom."""
    found, chosen = await context.lead(lead), await choose_sender(context, sender)
    return await preview_linkedin(context, found, chosen, message, resend_of=resend_of, defer=defer)


async def look_send_linkedin_message(context: Context, row: Action, message: str, **_: object) -> Done | None:
    """Look for the message among those that went out."""
    return await history.message(context, row, "linkedin", message)


@tool(
    Effect.OUTWARD,
    needs=(FindsLeads, SendsLinkedIn),
    ask=ask_send_linkedin_message,
    look=look_send_linkedin_message,
)
async def send_linkedin_message(
    context: Context,
    shown: Preview,
    lead: LeadKey,
    message: LinkedIn,
    sender: Annotated[
        str | None, Field(description="id or name; may be left out where there is one or a default", max_length=320)
    ] = None,
    resend_of: ResendOf = None,
    defer: Defer = False,
) -> Done:
    """Send one LinkedIn message to a lead, to the profile on file. The user is asked first.

    It reaches people who are connected with the sender.
    """
    found = shown.lead_read or await context.lead(lead)
    chosen = await choose_sender(context, sender)
    delivery = await context.crm(SendsLinkedIn).send_linkedin_message(found, chosen, message)
    return history.sent(found, delivery, "linkedin")


async def ask_start_call(context: Context, lead: str) -> Reach:
    """Read the lead: what the person confirms is whose telephone will ring."""
    return await preview_call(context, await context.lead(lead))


async def look_start_call(context: Context, row: Action, **_: object) -> Done | None:
    """Look for the call among those that were started."""
    return await history.call(context, row)


@tool(Effect.OUTWARD, needs=(FindsLeads, StartsCalls), ask=ask_start_call, look=look_start_call)
async def start_call(context: Context, shown: Preview, lead: LeadKey) -> Done:
    """Ring a lead now, on the number on file, from the account's own. The user is asked first.

    To write down a call that took place, use log_note.
    """
    found = shown.lead_read or await context.lead(lead)
    return history.started(found, (await context.crm(StartsCalls).start_call(found)).shown())


async def ask_enroll(context: Context, client: Client, sequence: str, leads: list[str], dry_run: bool) -> Reach:
    """Read the sequence and the leads: who would be enrolled, and who would not and why."""
    return await enrolling.preview(context, sequence, leads, dry_run=dry_run)


async def look_enroll(context: Context, row: Action, **_: object) -> Done | None:
    """Look whether the leads are in the sequence now."""
    return await enrolling.look(context, row)


async def bulk_enroll(context: Context, client: Client, **_: object) -> Bulk:
    """Enrol many leads one after the other."""
    return turns.bulk(context, client)


@tool(Effect.OUTWARD, needs=(FindsLeads, RunsSequences), ask=ask_enroll, look=look_enroll, bulk=bulk_enroll)
async def enroll_in_sequence(
    context: Context, client: Client, shown: Preview, sequence: Line, leads: Leads, dry_run: bool = False
) -> Done:
    """Enrol leads in a sequence (a series of messages). The user is asked first.

    Sequences are listed by list_options. Many leads may go on behind the answer (`running`).
    """
    return await enrolling.enrol(context, client, shown)


async def ask_unenroll(context: Context, client: Client, sequence: str, leads: list[str]) -> Preview:
    """Count whom it is about; where somebody is asked, read them."""
    del client
    return await enrolling.preview_unenrol(context, sequence, leads)


@tool(Effect.WRITE, needs=(FindsLeads, RunsSequences, EndsSequences), ask=ask_unenroll, decides=True, idempotent=True)
async def unenroll_from_sequence(context: Context, client: Client, sequence: Line, leads: Leads) -> Done:
    """Take leads out of a sequence: they get no more of its messages."""
    return await enrolling.unenrol(context, sequence, leads, client)


async def ask_set_do_not_contact(
    context: Context, client: Client, lead: str, blocked: bool, channels: list[Channel] | None, reason: str | None
) -> Preview:
    """Blocking is free; lifting it reaches somebody who said no, so only a person may."""
    found = await context.lead(lead)
    on = _channels(channels)
    what = "Block" if blocked else "Lift the block of"
    kind: type[Preview] = Preview if blocked else Reach  # to lift a block is asked as if it reached somebody
    return kind(
        summary=f"{what} {named('lead', found.id, found.label)} on {', '.join(on)}"
        + (f": {quoted(reason)}" if reason else ""),
        details="" if blocked else "can't be undone with undo_action; blocking again is free",
        facts={"name": found.label, **_keys(found, CHANNELS)},
        lead=found.id,
        confirm=not blocked,
        person_only=not blocked,
        effect=Effect.WRITE if blocked else Effect.OUTWARD,
    )


@tool(Effect.WRITE, needs=FindsLeads, ask=ask_set_do_not_contact, decides=True, idempotent=True)
async def set_do_not_contact(
    context: Context,
    client: Client,
    lead: LeadKey,
    blocked: bool,
    channels: Annotated[list[Channel] | None, Field(description="default all")] = None,
    reason: Line | None = None,
) -> Done:
    """Block a lead's addresses, at once and for every lead that has them.

    Lifting it (blocked: false) always asks the user.
    """
    found = await context.lead(lead)
    on = _channels(channels)
    crm = context.crm_if(KeepsBlocklist)
    if blocked:
        if not _keys(found, on) and crm is None:
            what = f"{found.label} ({found.id}) has no address on these channels, so there is nothing to block"
            raise Conflict(what, "give the lead an address there first, or block other channels")
        await contact.block(context, found, on, reason, client.caller)
        if crm:
            with saying(wrote=True):  # the block is kept here, whatever the CRM does with it
                await crm.block(found, on, reason)
    else:
        if crm:
            await crm.unblock(found, on)
        await contact.lift(context, found, on, client.caller)
    own = await contact.listed(context, found)
    still = sorted({*own, *((await context.lead(found.id)).do_not_contact or ())})
    return Done(
        f"{found.label} ({found.id}) is blocked on: {', '.join(still) or 'nothing'}",
        {"channels": still},
        found.id,
        (("lead", found.id),),
        # Blocking and lifting change the same: after the one, the other again is no repeat.
        {"verb": "block", "id": found.id, "after": dict.fromkeys(on, blocked)},
    )


def _keys(lead: Lead, channels: tuple[Channel, ...]) -> dict[Channel, str]:
    """Return the lead's addresses on these channels."""
    return {channel: address for channel in channels if (address := lead.address(channel))}


def _channels(given: list[Channel] | None) -> tuple[Channel, ...]:
    if given is not None and not given:
        raise InvalidArgument("channels is empty", f"leave it out for all, or give some of {', '.join(CHANNELS)}")
    return tuple(dict.fromkeys(given)) if given else CHANNELS


TOOLS = (
    send_email,
    send_sms,
    send_linkedin_message,
    start_call,
    enroll_in_sequence,
    unenroll_from_sequence,
    set_do_not_contact,
)
