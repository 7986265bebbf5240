"""Messages to people: to whom, whether they may be reached, and what a person is shown before it goes."""

from __future__ import annotations

from crm_mcp.actions.approval import SUMMARY_TEXT, Preview, plain, quoted
from crm_mcp.actions.desk import Desk
from crm_mcp.backends.base import SendsEmail
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Lead, Mailbox, fold

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
    to = lead.phone or "no number on file"
    return Preview(
        summary=f"SMS to {to}, {quoted(lead.label)} ({lead.id}): {quoted(message)}",
        details=f"{count} segment{'s' if count > 1 else ''} ({alphabet}); can't be undone{_whole(message)}",
        facts={"name": lead.label, "phone": lead.phone},
        lead=lead.id,
        lead_read=lead,
        blocked=await desk.blocked(lead, "sms") if lead.phone else "no address on file: the lead has no phone number",
    )


async def preview_email(
    desk: Desk, lead: Lead, mailbox: Mailbox, subject: str, body: str, reply_to: str | None
) -> Preview:
    """Say who would get which mail, from which mailbox."""
    to = lead.email or "no address on file"
    answers = f", replies to {reply_to}" if reply_to else ""
    return Preview(
        summary=f"E-mail to {to}, {quoted(lead.label)} ({lead.id}) from {mailbox.address}{answers}, "
        f"subject {quoted(subject)}: {quoted(body)}",
        details=f"can't be undone{_whole(body)}",
        facts={"name": lead.label, "email": lead.email, "mailbox": mailbox.address},
        lead=lead.id,
        lead_read=lead,
        blocked=await desk.blocked(lead, "email")
        if lead.email
        else "no address on file: the lead has no e-mail address",
    )


def _whole(text: str) -> str:
    """The summary has the whole of a short text; of a long one the preview must."""
    return "" if len(plain(text)) <= SUMMARY_TEXT else f"; the whole text:\n{text}"


async def choose_mailbox(desk: Desk, wanted: str | None) -> Mailbox:
    """Return the mailbox with this id or address; without one, the only or the default one.

    Raises:
        InvalidArgument: it does not exist, or there are several and none is the default; they are listed.
    """
    mailboxes = await desk.crm(SendsEmail).mailboxes()
    listed = [each.address for each in mailboxes]
    wanted = wanted or desk.settings.connection.defaults.mailbox
    if wanted is None:
        for each in mailboxes:
            if each.default or len(mailboxes) == 1:
                return each
        raise InvalidArgument("mailbox is missing, and there are several", f"valid: {', '.join(listed) or 'none'}")
    for each in mailboxes:
        if each.id == wanted or fold(each.address) == fold(wanted):
            return each
    raise InvalidArgument(f'there is no mailbox "{wanted}"', choices(wanted, listed))
