"""The toolset `outreach`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.enrolment import job, run
from crm_mcp.actions.guards import do_not_contact
from crm_mcp.actions.intent import Bulk, Client, Outcome, Preview, Reach
from crm_mcp.actions.messages import (
    choose_mailbox,
    choose_sender,
    preview_call,
    preview_email,
    preview_linkedin,
    preview_sms,
)
from crm_mcp.actions.summary import name_record, quote
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
from crm_mcp.channels import CHANNELS, Channel
from crm_mcp.errors import Conflict, InvalidArgument, saying
from crm_mcp.model import Lead, Line
from crm_mcp.server.arguments import Body, Email, LeadKey, Leads, LinkedIn, Sms, Subject
from crm_mcp.server.tool import Arguments, tool
from crm_mcp.store import Action

Mailbox = Annotated[
    str | None, Field(description="id or address; may be left out where there is one or a default", max_length=320)
]


ResendOf = Annotated[
    str | None, Field(description="the earlier action, to send the same text again on purpose", max_length=64)
]
Defer = Annotated[bool, Field(description="where a rule forbids it now, send it at the next allowed time")]


class SendEmail(Arguments):
    lead: LeadKey
    subject: Subject
    body: Body
    mailbox: Mailbox = None
    reply_to: Email | None = None
    resend_of: ResendOf = None
    defer: Defer = False


async def ask_send_email(context: Context, call: SendEmail) -> Reach:
    """Read the lead and the mailbox: what the person confirms is who it really goes to."""
    found = await context.lead(call.lead)
    chosen = await choose_mailbox(context, call.mailbox)
    return await preview_email(
        context, found, chosen, call.subject, call.body, call.reply_to, resend_of=call.resend_of, defer=call.defer
    )


async def reconcile_send_email(context: Context, call: SendEmail, row: Action) -> Outcome | None:
    """Look for the e-mail among those that went out."""
    return await reconcile.message(context, row, "email", call.body, call.subject)


@tool(
    Effect.OUTWARD,
    needs=(FindsLeads, SendsEmail),
    reaches="email",
    resends=True,
    ask=ask_send_email,
    reconcile=reconcile_send_email,
)
async def send_email(context: Context, call: SendEmail, shown: Preview) -> Outcome:
    """Send one plain-text e-mail to a lead, to the address on file. The user is asked first.

    To note an e-mail that was sent elsewhere, use log_note.
    """
    found = shown.lead_read or await context.lead(call.lead)
    chosen = await choose_mailbox(context, call.mailbox)
    delivery = await context.crm(SendsEmail).send_email(found, chosen, call.subject, call.body, call.reply_to)
    return reconcile.sent(found, delivery, "email", call.subject)


class SendSms(Arguments):
    lead: LeadKey
    message: Sms
    resend_of: ResendOf = None
    defer: Defer = False


async def ask_send_sms(context: Context, call: SendSms) -> Reach:
    """Read the lead: what the person confirms is who it really goes to."""
    found = await context.lead(call.lead)
    return await preview_sms(context, found, call.message, resend_of=call.resend_of, defer=call.defer)


async def reconcile_send_sms(context: Context, call: SendSms, row: Action) -> Outcome | None:
    """Look for the SMS among those that went out."""
    return await reconcile.message(context, row, "sms", call.message)


@tool(
    Effect.OUTWARD,
    needs=(FindsLeads, SendsSms),
    reaches="sms",
    resends=True,
    ask=ask_send_sms,
    reconcile=reconcile_send_sms,
)
async def send_sms(context: Context, call: SendSms, shown: Preview) -> Outcome:
    """Send one SMS to a lead, to the number on file. The user is asked first."""
    found = shown.lead_read or await context.lead(call.lead)
    return reconcile.sent(found, await context.crm(SendsSms).send_sms(found, call.message), "sms")


class SendLinkedInMessage(Arguments):
    lead: LeadKey
    message: LinkedIn
    sender: Annotated[
        str | None, Field(description="id or name; may be left out where there is one or a default", max_length=320)
    ] = None
    resend_of: ResendOf = None
    defer: Defer = False


async def ask_send_linkedin_message(context: Context, call: SendLinkedInMessage) -> Reach:
    """Read the lead and the sender: what the person confirms is who it really goes to, and from whom."""
    found, chosen = await context.lead(call.lead), await choose_sender(context, call.sender)
    return await preview_linkedin(context, found, chosen, call.message, resend_of=call.resend_of, defer=call.defer)


async def reconcile_send_linkedin_message(context: Context, call: SendLinkedInMessage, row: Action) -> Outcome | None:
    """Look for the message among those that went out."""
    return await reconcile.message(context, row, "linkedin", call.message)


@tool(
    Effect.OUTWARD,
    needs=(FindsLeads, SendsLinkedIn),
    reaches="linkedin",
    resends=True,
    ask=ask_send_linkedin_message,
    reconcile=reconcile_send_linkedin_message,
)
async def send_linkedin_message(context: Context, call: SendLinkedInMessage, shown: Preview) -> Outcome:
    """Send one LinkedIn message to a lead, to the profile on file. The user is asked first.

    It reaches people who are connected with the sender.
    """
    found = shown.lead_read or await context.lead(call.lead)
    chosen = await choose_sender(context, call.sender)
    delivery = await context.crm(SendsLinkedIn).send_linkedin_message(found, chosen, call.message)
    return reconcile.sent(found, delivery, "linkedin")


class StartCall(Arguments):
    lead: LeadKey


async def ask_start_call(context: Context, call: StartCall) -> Reach:
    """Read the lead: what the person confirms is whose telephone will ring."""
    return await preview_call(context, await context.lead(call.lead))


async def reconcile_start_call(context: Context, row: Action) -> Outcome | None:
    """Look for the call among those that were started."""
    return await reconcile.call(context, row)


@tool(
    Effect.OUTWARD, needs=(FindsLeads, StartsCalls), reaches="call", ask=ask_start_call, reconcile=reconcile_start_call
)
async def start_call(context: Context, call: StartCall, shown: Preview) -> Outcome:
    """Ring a lead now, on the number on file, from the account's own. The user is asked first.

    To write down a call that took place, use log_note.
    """
    found = shown.lead_read or await context.lead(call.lead)
    return reconcile.started(found, (await context.crm(StartsCalls).start_call(found)).shown())


class EnrollInSequence(Arguments):
    sequence: Line
    leads: Leads
    dry_run: bool = False


async def ask_enroll(context: Context, call: EnrollInSequence) -> Reach:
    """Read the sequence and the leads: who would be enrolled, and who would not and why."""
    return await run.preview(context, call.sequence, call.leads, dry_run=call.dry_run)


async def reconcile_enroll(context: Context, row: Action) -> Outcome | None:
    """Look whether the leads are in the sequence now."""
    return await run.reconcile_enrolment(context, row)


async def bulk_enroll(context: Context, client: Client) -> Bulk:
    """Enrol many leads one after the other."""
    return job.bulk(context, client)


@tool(
    Effect.OUTWARD,
    needs=(FindsLeads, RunsSequences),
    reaches="enrolment",
    ask=ask_enroll,
    reconcile=reconcile_enroll,
    bulk=bulk_enroll,
)
async def enroll_in_sequence(
    context: Context,
    call: EnrollInSequence,  # noqa: ARG001 - what is done is what was shown of it
    client: Client,
    shown: Preview,
) -> Outcome:
    """Enrol leads in a sequence (a series of messages). The user is asked first.

    Sequences are listed by list_options. Many leads may go on behind the answer (`running`).
    """
    return await run.enrol(context, client, shown)


class UnenrollFromSequence(Arguments):
    sequence: Line
    leads: Leads


async def ask_unenroll(context: Context, call: UnenrollFromSequence) -> Preview:
    """Count whom it is about; where somebody is asked, read them."""
    return await run.preview_unenrol(context, call.sequence, call.leads)


@tool(
    Effect.WRITE,
    needs=(FindsLeads, RunsSequences, EndsSequences),
    ends_enrolments=True,
    instead=f"{enroll_in_sequence.name} enrols them again, and asks the user",
    ask=ask_unenroll,
    decides=True,
    idempotent=True,
)
async def unenroll_from_sequence(context: Context, call: UnenrollFromSequence, client: Client) -> Outcome:
    """Take leads out of a sequence: they get no more of its messages."""
    return await run.unenrol(context, call.sequence, call.leads, client)


class SetDoNotContact(Arguments):
    lead: LeadKey
    blocked: bool
    channels: Annotated[list[Channel] | None, Field(description="default all")] = None
    reason: Line | None = None


async def ask_set_do_not_contact(context: Context, call: SetDoNotContact) -> Preview:
    """Blocking is free; lifting it reaches somebody who said no, so only a person may."""
    found, blocked = await context.lead(call.lead), call.blocked
    on = _channels(call.channels)
    what = "Block" if blocked else "Lift the block of"
    kind: type[Preview] = Preview if blocked else Reach  # to lift a block is asked as if it reached somebody
    return kind(
        summary=f"{what} {name_record('lead', found.id, found.label)} on {', '.join(on)}"
        + (f": {quote(call.reason)}" if call.reason else ""),
        details="" if blocked else "can't be undone with undo_action; blocking again is free",
        facts={"name": found.label, **_keys(found, CHANNELS)},
        lead=found.id,
        confirm=not blocked,
        person_only=not blocked,
        effect=Effect.WRITE if blocked else Effect.OUTWARD,
    )


@tool(
    Effect.WRITE,
    needs=FindsLeads,
    instead=lambda given: _other_way(blocked=given["blocked"]),
    ask=ask_set_do_not_contact,
    decides=True,
    idempotent=True,
)
async def set_do_not_contact(context: Context, call: SetDoNotContact, client: Client) -> Outcome:
    """Block a lead's addresses, at once and for every lead that has them.

    Lifting it (blocked: false) always asks the user.
    """
    found, reason = await context.lead(call.lead), call.reason
    on = _channels(call.channels)
    crm = context.crm_if(KeepsBlocklist)
    if call.blocked:
        if not _keys(found, on) and crm is None:
            what = f"{found.label} ({found.id}) has no address on these channels, so there is nothing to block"
            raise Conflict(what, "give the lead an address there first, or block other channels")
        await do_not_contact.block(context, found, on, reason, client.caller)
        if crm:
            with saying(wrote=True):  # the block is kept here, whatever the CRM does with it
                await crm.block(found, on, reason)
    else:
        if crm:
            await crm.unblock(found, on)
        await do_not_contact.lift(context, found, on, client.caller)
    own = await do_not_contact.blocks_of(context, found)
    still = sorted({*own, *((await context.lead(found.id)).do_not_contact or ())})
    return Outcome(
        f"{found.label} ({found.id}) is blocked on: {', '.join(still) or 'nothing'}",
        {"channels": still},
        found.id,
        (("lead", found.id),),
        # Blocking and lifting change the same: after the one, the other again is no repeat.
        {"verb": "block", "id": found.id, "after": dict.fromkeys(on, call.blocked)},
    )


def _other_way(*, blocked: bool) -> str:
    if blocked:
        return f"{set_do_not_contact.name} with blocked: false lifts it, and always asks a person"
    return f"{set_do_not_contact.name} with blocked: true blocks again"


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
