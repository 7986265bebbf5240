"""Messages to people: to whom, whether they may be reached, and what a person is shown before it goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from crm_mcp.actions.approval import SUMMARY_TEXT, Preview, bare, plain, quoted
from crm_mcp.actions.desk import Desk
from crm_mcp.backends.base import SendsEmail, SendsLinkedIn
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Channel, Lead, Mailbox, Sender, fold

S = TypeVar("S", Mailbox, Sender)
_E164 = re.compile(r"\+[1-9]\d{6,14}")

_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_DOUBLE = frozenset("^{}\\[~]|€\f")


def segments(text: str) -> tuple[int, str]:
    """Return how many SMS segments a text takes, and in which alphabet (GSM 03.38: GSM-7 160/153, UCS-2 70/67)."""
    if all(c in _GSM or c in _GSM_DOUBLE for c in text):
        length = sum(2 if c in _GSM_DOUBLE else 1 for c in text)
        one, more, alphabet = 160, 153, "GSM-7"
    else:
        length = len(text.encode("utf-16-be")) // 2
        one, more, alphabet = 70, 67, "UCS-2"
    return (1 if length <= one else -(-length // more)), alphabet


async def preview_sms(desk: Desk, lead: Lead, message: str) -> Preview:
    """Say who would get which text, on which number, in how many segments."""
    count, alphabet = segments(message)
    to = bare(lead.phone or "no number on file")
    return Preview(
        summary=f"SMS to {to}, {quoted(lead.label)} ({lead.id}): {quoted(message)}",
        details=f"{count} segment{'s' if count > 1 else ''} ({alphabet}); can't be undone{_whole(message)}",
        facts={"name": lead.label, "phone": lead.phone},
        lead=lead.id,
        lead_read=lead,
        blocked=await _no_number(desk, lead, "sms"),
    )


async def preview_email(
    desk: Desk, lead: Lead, mailbox: Mailbox, subject: str, body: str, reply_to: str | None
) -> Preview:
    """Say who would get which mail, from which mailbox."""
    to = bare(lead.email or "no address on file")
    answers = f", replies to {reply_to}" if reply_to else ""
    return Preview(
        summary=f"E-mail to {to}, {quoted(lead.label)} ({lead.id}) from {bare(mailbox.address)}{answers}, "
        f"subject {quoted(subject)}: {quoted(body)}",
        details=f"can't be undone{_whole(body)}",
        facts={"name": lead.label, "email": lead.email, "mailbox": mailbox.address},
        lead=lead.id,
        lead_read=lead,
        blocked=await desk.blocked(lead, "email")
        if lead.email
        else "no address on file: the lead has no e-mail address",
    )


async def preview_linkedin(desk: Desk, lead: Lead, sender: Sender, message: str) -> Preview:
    """Say who would get which LinkedIn message, at which profile, from whom."""
    to = lead.address("linkedin")
    return Preview(
        summary=f"LinkedIn message to {bare(to or 'no profile on file')}, {quoted(lead.label)} ({lead.id}) "
        f"from {quoted(sender.name)}: {quoted(message)}",
        details=f"can't be undone{_whole(message)}",
        facts={"name": lead.label, "linkedin": to, "sender": sender.id},
        lead=lead.id,
        lead_read=lead,
        blocked=await desk.blocked(lead, "linkedin") if to else "no address on file: the lead has no LinkedIn profile",
    )


async def preview_call(desk: Desk, lead: Lead) -> Preview:
    """Say whose telephone would ring."""
    return Preview(
        summary=f"Call {bare(lead.phone or 'no number on file')}, {quoted(lead.label)} ({lead.id}), now",
        details="it rings at once; can't be undone",
        facts={"name": lead.label, "phone": lead.phone},
        lead=lead.id,
        lead_read=lead,
        blocked=await _no_number(desk, lead, "call"),
    )


async def _no_number(desk: Desk, lead: Lead, channel: Channel) -> str | None:
    """Return why this lead's number must not be used, else None."""
    if not lead.phone:
        return "no address on file: the lead has no phone number"
    if not _E164.fullmatch(lead.phone):
        # Do-not-contact is kept by the number: one that can't be compared can't be looked up there.
        return (
            f"no address on file: {bare(lead.phone)} is no international number; set CRM_MCP_COUNTRY, or correct it "
            "to one such as +14155550123"
        )
    return await desk.blocked(lead, channel)


def _whole(text: str) -> str:
    """The summary has the whole of a short text; of a long one the preview must."""
    return "" if len(plain(text)) <= SUMMARY_TEXT else f"; the whole text:\n{text}"


async def choose_mailbox(desk: Desk, wanted: str | None) -> Mailbox:
    """Return the mailbox with this id or address; without one, the only or the default one.

    Raises:
        InvalidArgument: it does not exist, or there are several and none is the default; they are listed.
    """
    mailboxes = await desk.crm(SendsEmail).mailboxes()
    return _chosen("mailbox", [(each.address, each) for each in mailboxes], wanted or desk.defaults.mailbox)


async def choose_sender(desk: Desk, wanted: str | None) -> Sender:
    """Return the sender profile with this id or name; without one, the only or the default one.

    Raises:
        InvalidArgument: it does not exist, or there are several and none is the default; they are listed.
    """
    senders = await desk.crm(SendsLinkedIn).senders()
    return _chosen("sender", [(each.name, each) for each in senders], wanted or desk.defaults.sender)


def _chosen(what: str, known: Sequence[tuple[str, S]], wanted: str | None) -> S:
    names = [name for name, _ in known]
    if wanted is None:
        for _, each in known:
            if each.default or len(known) == 1:
                return each
        raise InvalidArgument(f"{what} is missing, and there are several", f"valid: {', '.join(names) or 'none'}")
    found = [each for _, each in known if each.id == wanted]
    found = found or [each for name, each in known if fold(name) == fold(wanted)]
    if len(found) > 1:
        raise InvalidArgument(f'"{wanted}" fits several', f"give an id: {', '.join(each.id for each in found)}")
    if not found:
        raise InvalidArgument(f'there is no {what} "{wanted}"', choices(wanted, names))
    return found[0]
