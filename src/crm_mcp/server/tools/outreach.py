"""The toolset `outreach`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from pydantic import Field

from crm_mcp.actions.approval import Client, Done, Preview, quoted
from crm_mcp.actions.desk import Desk, meant
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
from crm_mcp.errors import Ambiguous, Conflict, CrmError, InvalidArgument, NotFound, Unsupported, choices
from crm_mcp.model import CHANNELS, Channel, Delivery, Lead, Line, Rejected, Sequence
from crm_mcp.server.arguments import Body, Email, LeadKey, Leads, LinkedIn, Sms, Subject
from crm_mcp.server.tool import tool

OF_ONE = (NotFound, Ambiguous, InvalidArgument, Conflict, Unsupported)
"""What can be wrong with one lead of several; other errors are the CRM's."""
Mailbox = Annotated[
    str | None, Field(description="id or address; may be left out where there is one or a default", max_length=320)
]


async def ask_send_email(
    desk: Desk, lead: str, subject: str, body: str, mailbox: str | None, reply_to: str | None
) -> Preview:
    """Read the lead and the mailbox: what the person confirms is who it really goes to."""
    found = await desk.lead(lead)
    return await preview_email(desk, found, await choose_mailbox(desk, mailbox), subject, body, reply_to)


@tool(Effect.OUTWARD, needs=(FindsLeads, SendsEmail), ask=ask_send_email)
async def send_email(
    desk: Desk,
    shown: Preview,
    lead: LeadKey,
    subject: Subject,
    body: Body,
    mailbox: Mailbox = None,
    reply_to: Email | None = None,
) -> Done:
    """Send one plain-text e-mail to a lead, to the address on file. The user is asked first.

    To note an e-mail that was sent elsewhere, use log_note.
    """
    found = shown.lead_read or await desk.lead(lead)
    chosen = await choose_mailbox(desk, mailbox)
    delivery = await desk.crm(SendsEmail).send_email(found, chosen, subject, body, reply_to)
    return _sent(found, delivery, f'e-mail "{subject}" to {found.label} <{found.email}>')


async def ask_send_sms(desk: Desk, lead: str, message: str) -> Preview:
    """Read the lead: what the person confirms is who it really goes to."""
    return await preview_sms(desk, await desk.lead(lead), message)


@tool(Effect.OUTWARD, needs=(FindsLeads, SendsSms), ask=ask_send_sms)
async def send_sms(desk: Desk, shown: Preview, lead: LeadKey, message: Sms) -> Done:
    """Send one SMS to a lead, to the number on file. The user is asked first."""
    found = shown.lead_read or await desk.lead(lead)
    return _sent(found, await desk.crm(SendsSms).send_sms(found, message), f"SMS to {found.label} at {found.phone}")


async def ask_send_linkedin_message(desk: Desk, lead: str, message: str, sender: str | None) -> Preview:
    """Read the lead and the sender: what the person confirms is who it really goes to, and from whom."""
    return await preview_linkedin(desk, await desk.lead(lead), await choose_sender(desk, sender), message)


@tool(Effect.OUTWARD, needs=(FindsLeads, SendsLinkedIn), ask=ask_send_linkedin_message)
async def send_linkedin_message(
    desk: Desk,
    shown: Preview,
    lead: LeadKey,
    message: LinkedIn,
    sender: Annotated[
        str | None, Field(description="id or name; may be left out where there is one or a default", max_length=320)
    ] = None,
) -> Done:
    """Send one LinkedIn message to a lead, to the profile on file. The user is asked first.

    It reaches people who are connected with the sender.
    """
    found = shown.lead_read or await desk.lead(lead)
    chosen = await choose_sender(desk, sender)
    delivery = await desk.crm(SendsLinkedIn).send_linkedin_message(found, chosen, message)
    return _sent(found, delivery, f"LinkedIn message to {found.label} at {found.address('linkedin')}")


async def ask_start_call(desk: Desk, lead: str) -> Preview:
    """Read the lead: what the person confirms is whose telephone will ring."""
    return await preview_call(desk, await desk.lead(lead))


@tool(Effect.OUTWARD, needs=(FindsLeads, StartsCalls), ask=ask_start_call)
async def start_call(desk: Desk, shown: Preview, lead: LeadKey) -> Done:
    """Ring a lead now, on the number on file, from the account's own. The user is asked first.

    To write down a call that took place, use log_note.
    """
    found = shown.lead_read or await desk.lead(lead)
    call = await desk.crm(StartsCalls).start_call(found)
    return Done(
        f"started a call to {found.label} at {found.phone}",
        {"result": {"call": call.shown()}},
        found.id,
        (("lead", found.id),),
    )


async def ask_enroll(desk: Desk, sequence: str, leads: list[str], dry_run: bool) -> Preview:
    """Read the sequence and the leads: who would be enrolled, and who would not and why."""
    chosen = await find_sequence(desk, sequence)
    able, unable = await _sort_out(desk, chosen, leads)
    steps = [
        f"step {step.position}, {step.channel}, {step.after_days} days on: {step.subject or ''} {quoted(step.body)}"
        for step in chosen.steps
    ] or ["its steps are not told by this CRM: look at them there before you say yes"]
    people = [f"{lead.label} ({lead.id}): {', '.join(dict.fromkeys(_keys(lead, CHANNELS).values()))}" for lead in able]
    sample = ", ".join(f"{lead.label} ({lead.id})" for lead in able[:5]) + (" ..." if len(able) > 5 else "")
    left_out = [f"not {each.item}: {each.reason}" for each in unable]
    return Preview(
        summary=f'Enrol {len(able)} in the sequence "{chosen.name}": {sample or "none"}'
        + (f"; {len(unable)} left out" if unable else ""),
        details="\n".join([*people, *left_out, *steps]),
        facts={
            "sequence": chosen.shown()["steps"],
            "leads": [[lead.id, lead.label, *(lead.address(channel) for channel in CHANNELS)] for lead in able],
        },
        lead=able[0].id if len(able) == 1 else None,
        size=max(len(able), 1),
        blocked=None if able else "none of the leads can be enrolled: " + "; ".join(left_out[:10]),
    )


@tool(Effect.OUTWARD, needs=(FindsLeads, RunsSequences), ask=ask_enroll)
async def enroll_in_sequence(desk: Desk, sequence: Line, leads: Leads, dry_run: bool = False) -> Done:
    """Enrol leads in a sequence (a series of messages). The user is asked first.

    Sequences are listed by list_options.
    """
    chosen = await find_sequence(desk, sequence)
    able, unable = await _sort_out(desk, chosen, leads)

    async def enroll(lead: str) -> tuple[str, str | None]:
        return lead, await desk.crm(RunsSequences).enroll(chosen.id, lead)

    succeeded, failed = await _one_by_one([lead.id for lead in able], enroll)
    summary = f'enrolled {len(succeeded)} of {len(leads)} leads in "{chosen.name}"'
    return _batch(summary, chosen, succeeded, [*unable, *failed])


@tool(Effect.WRITE, needs=(FindsLeads, RunsSequences, EndsSequences), idempotent=True)
async def unenroll_from_sequence(desk: Desk, sequence: Line, leads: Leads) -> Done:
    """Take leads out of a sequence: they get no more of its messages."""
    chosen = await find_sequence(desk, sequence)

    async def unenroll(key: str) -> tuple[str, str | None]:
        lead = await desk.lead(key)
        return lead.id, await desk.crm(EndsSequences).unenroll(chosen.id, lead.id)

    succeeded, failed = await _one_by_one(leads, unenroll)
    return _batch(f'took {len(succeeded)} of {len(leads)} leads out of "{chosen.name}"', chosen, succeeded, failed)


async def _one_by_one(
    keys: list[str], do: Callable[[str], Awaitable[tuple[str, str | None]]]
) -> tuple[list[str], list[Rejected]]:
    """Do something for each lead: which were done, and why the others were not.

    What is wrong with one lead is told of that one. What is wrong with the CRM ends it: the rest is not tried.

    Raises:
        CrmError: the CRM failed before any was done, or may have done the first.
    """
    done: list[str] = []
    failed: list[Rejected] = []
    for place, key in enumerate(keys):
        try:
            lead, why = await do(key)
        except OF_ONE as error:
            failed.append(Rejected(item=key, reason=str(error)))
        except CrmError as error:
            if not done:
                raise
            known = "not done" if error.wrote is False else "not known whether it was done"
            failed.append(Rejected(item=key, reason=f"{known}: {error}"))
            failed += [Rejected(item=each, reason="not tried") for each in keys[place + 1 :]]
            break
        else:
            if why:
                failed.append(Rejected(item=lead, reason=why))
            else:
                done.append(lead)
    return done, failed


async def ask_set_do_not_contact(
    desk: Desk, client: Client, lead: str, blocked: bool, channels: list[Channel] | None, reason: str | None
) -> Preview:
    """Blocking is free; lifting it reaches somebody who said no, so only a person may."""
    found = await desk.lead(lead)
    on = _channels(channels)
    what = "Block" if blocked else "Lift the block of"
    return Preview(
        summary=f"{what} {found.label} ({found.id}) on {', '.join(on)}" + (f": {reason}" if reason else ""),
        facts={"name": found.label, **_keys(found, CHANNELS)},
        lead=found.id,
        confirm=not blocked,
        person_only=not blocked,
        effect=Effect.WRITE if blocked else Effect.OUTWARD,
    )


@tool(Effect.WRITE, needs=FindsLeads, ask=ask_set_do_not_contact, decides=True, idempotent=True)
async def set_do_not_contact(
    desk: Desk,
    client: Client,
    lead: LeadKey,
    blocked: bool,
    channels: Annotated[list[Channel] | None, Field(description="default all")] = None,
    reason: Line | None = None,
) -> Done:
    """Block a lead's addresses, at once and for every lead that has them.

    Lifting it (blocked: false) always asks the user.
    """
    found = await desk.lead(lead)
    on = _channels(channels)
    crm = desk.backend
    if blocked:
        if not _keys(found, on) and not isinstance(crm, KeepsBlocklist):
            raise Conflict(f"{found.label} ({found.id}) has no address on these channels, so there is nothing to block")
        await desk.store.block(_keys(found, on), reason, client.caller)
        if isinstance(crm, KeepsBlocklist):
            try:
                await crm.block(found, on, reason)
            except CrmError as error:
                error.wrote = True  # the block is kept here, whatever the CRM does with it
                raise
    else:
        if isinstance(crm, KeepsBlocklist):
            await crm.unblock(found, on)
        await desk.store.unblock(_keys(found, on))
    own = await desk.store.blocked(_keys(found, CHANNELS))
    still = sorted({*own, *((await desk.lead(found.id)).do_not_contact or ())})
    return Done(
        f"{found.label} ({found.id}) is blocked on: {', '.join(still) or 'nothing'}",
        {"channels": still},
        found.id,
        (("lead", found.id),),
    )


async def find_sequence(desk: Desk, name: str) -> Sequence:
    """Return the sequence with this id or name; raises NotFound with the valid ones."""
    sequences = await desk.crm(RunsSequences).sequences()
    if found := meant(sequences, name):
        return found
    raise NotFound(f'there is no sequence "{name}"', choices(name, [each.name for each in sequences]))


async def _sort_out(desk: Desk, sequence: Sequence, keys: list[str]) -> tuple[list[Lead], list[Rejected]]:
    """Tell the leads that can be enrolled from those that can't, and why."""
    able: dict[str, Lead] = {}
    unable: list[Rejected] = []
    for key in keys:
        try:
            lead = await desk.lead(key)
        except OF_ONE as error:
            unable.append(Rejected(item=key, reason=str(error)))
            continue
        if why := await _why_not(desk, lead, sequence):
            unable.append(Rejected(item=lead.id, reason=why))
        else:
            able[lead.id] = lead
    return list(able.values()), unable


async def _why_not(desk: Desk, lead: Lead, sequence: Sequence) -> str | None:
    """Return why a lead can't be enrolled, else None."""
    used: list[Channel] = list(dict.fromkeys(step.channel for step in sequence.steps))
    if not used and not any(lead.address(channel) for channel in CHANNELS):
        return "no address on file"
    # Where the CRM does not tell a sequence's steps, it may use any channel.
    for channel in used or CHANNELS:
        if used and not lead.address(channel):
            return f"no address on file for {channel}"
        if why := await desk.blocked(lead, channel):
            return why
    return None


def _batch(summary: str, sequence: Sequence, succeeded: list[str], failed: list[Rejected]) -> Done:
    fields: dict[str, Any] = {"succeeded": succeeded, "failed": [each.shown() for each in failed]}
    touched = (("sequence", sequence.id), *(("lead", each) for each in succeeded))
    lead = succeeded[0] if len(succeeded) == 1 else None
    return Done(summary, fields, lead, touched, size=max(len(succeeded), 1))


def _sent(lead: Lead, delivery: Delivery, what: str) -> Done:
    result = delivery.shown()
    if not delivery.delivered:
        done = f"recorded, not delivered: {what}"
    else:
        done = f"handed over: {what}; {delivery.note}" if delivery.note else f"sent {what}"
    return Done(done, {"result": result}, lead.id, (("message", delivery.message.id), ("lead", lead.id)))


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
