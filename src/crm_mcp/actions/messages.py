"""Messages to people: to whom, whether they may be reached, and what a person is shown before it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards.new_addresses import fresh
from crm_mcp.actions.guards.rules import decide
from crm_mcp.actions.intent import DOUBTED, Decision, Preview, Reach
from crm_mcp.actions.summary import escape_markup, indent_block, is_cut, quote, quote_label
from crm_mcp.actions.vendor_operations import whose
from crm_mcp.backends.base import SendsEmail, SendsLinkedIn
from crm_mcp.channels import ROWS, Channel
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Lead, Mailbox, Sender, fold, rfc3339
from crm_mcp.store import DedupKey
from crm_mcp.text import normal

S = TypeVar("S", Mailbox, Sender)
"""Seconds within which the same message, or another call to one address, is a repeat."""

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


async def preview_sms(
    context: Context, lead: Lead, message: str, resend_of: str | None = None, defer: bool = False
) -> Reach:
    """Say who would get which text, on which number, in how many segments.

    Raises:
        InvalidArgument: `resend_of` is no earlier send of this message.
    """
    count, alphabet = segments(message)
    to = escape_markup(lead.phone or "no number on file")
    shown = Preview(
        summary=f"SMS to {to}, {quote_label(lead.label)} ({lead.id}): {quote(message)}",
        details=f"{count} segment{'s' if count > 1 else ''} ({alphabet}); can't be undone",
        facts={"name": lead.label, "phone": lead.phone},
    )
    return await _message(context, lead, "sms", shown, (message,), resend_of, defer)


async def preview_email(
    context: Context,
    lead: Lead,
    mailbox: Mailbox,
    subject: str,
    body: str,
    reply_to: str | None,
    resend_of: str | None = None,
    defer: bool = False,
) -> Reach:
    """Say who would get which mail, from which mailbox, and who would get the answer.

    Raises:
        InvalidArgument: `resend_of` is no earlier send of this mail.
    """
    to = _to(lead.email, "no address on file")
    answers = await _answers(context, lead, mailbox, reply_to) if reply_to else _Answers()
    shown = Preview(
        summary=f"E-mail to {to}, {quote_label(lead.label)} ({lead.id}) from {escape_markup(mailbox.address)}"
        f"{answers.said}, subject {quote(subject)}: {quote(body)}",
        details="can't be undone",
        facts={"name": lead.label, "email": lead.email, "mailbox": mailbox.address, **answers.facts},
    )
    return await _message(context, lead, "email", shown, (subject, body), resend_of, defer, answers)


async def preview_linkedin(
    context: Context, lead: Lead, sender: Sender, message: str, resend_of: str | None = None, defer: bool = False
) -> Reach:
    """Say who would get which LinkedIn message, at which profile, from whom.

    Raises:
        InvalidArgument: `resend_of` is no earlier send of this message.
    """
    to = lead.address("linkedin")
    shown = Preview(
        summary=f"LinkedIn message to {_to(to, 'no profile on file')}, {quote_label(lead.label)} ({lead.id}) "
        f"from {quote(sender.name)}: {quote(message)}",
        details="can't be undone",
        facts={"name": lead.label, "linkedin": to, "sender": sender.id},
    )
    return await _message(context, lead, "linkedin", shown, (message,), resend_of, defer)


async def preview_call(context: Context, lead: Lead) -> Reach:
    """Say whose telephone would ring."""
    decision = await decide(context, lead, "call")
    new = await fresh(context, lead, ("call",))
    dedup_key = DedupKey(
        key=f"call:{decision.address}",
        seconds=ROWS["call"].repeat_seconds,
        channel="call",
        address=decision.address,
    )
    shown = Preview(
        summary=f"Call {escape_markup(lead.phone or 'no number on file')}, {quote_label(lead.label)} ({lead.id}), now",
        details="; ".join(["it rings at once; can't be undone", *new, *decision.remarks]),
        there="; ".join(decision.remarks),
        facts={"name": lead.label, "phone": lead.phone, **decision.facts},
        lead=lead.id,
        lead_read=lead,
        dedup_keys=(dedup_key,) if decision.address else (),
    )
    return Reach.of(shown, [decision], new=new)


def message_key(channel: Channel, address: str, *texts: str) -> str:
    """Return the fingerprint of a message: the same text to the same address, however its white space is set.

    `address` is as it is compared; of an e-mail the texts are subject and body.
    """
    compared = [" ".join(normal("NFC", text).split()) for text in texts]
    return "message:" + hashlib.sha256("\0".join([channel, address, *compared]).encode()).hexdigest()


@dataclass(frozen=True)
class _Answers:
    """Where the answers to an e-mail go."""

    said: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    decision: Decision | None = None
    """What the rules say of that they go there."""
    new: tuple[str, ...] = ()


async def _answers(context: Context, lead: Lead, mailbox: Mailbox, reply_to: str) -> _Answers:
    """Say whose address it is that answers would go to: ours, or that of one lead, under every rule.

    The answer, and what it quotes, reaches whoever has that address.
    """
    said = f", replies to {_to(reply_to, '')}"
    other = whose.holder(context, reply_to, (lead,), ("email",))
    if other is None:
        if whose.is_among(reply_to, (mailbox.address, *await whose.ours(context))):
            return _Answers(said)
        other = await whose.found(context, reply_to, ("email",))
    if other is None:
        why = (
            f"no address on file: replies can't go to {escape_markup(reply_to)}, "
            "which is neither that of one lead nor ours"
        )
        fix = "leave reply_to out, or let a person add it to own_addresses of the connection in the settings"
        return _Answers(said, decision=Decision(f"{why}; {fix}", "no_address"))
    return _Answers(
        f"{said}, {quote_label(other.label)} ({other.id})",
        {"replies to": [other.id, other.label, other.email]},
        await decide(context, other, "email"),
        await fresh(context, other, ("email",)),
    )


async def _message(
    context: Context,
    lead: Lead,
    channel: Channel,
    shown: Preview,
    texts: tuple[str, ...],
    resend_of: str | None,
    defer: bool,
    answers: _Answers | None = None,
) -> Reach:
    """Add to the preview of a message what the rules say, and what keeps it from going out twice."""
    decision = await decide(context, lead, channel)
    new = await fresh(context, lead, (channel,))
    decisions = [decision]
    if answers:
        new = tuple(dict.fromkeys((*new, *answers.new)))
        decisions += [answers.decision] if answers.decision else []
    person = [each for found in decisions for each in found.person]
    remarks = [shown.details, *person, *new, *decision.remarks]
    dedup_keys: tuple[DedupKey, ...] = ()
    if decision.address is not None:
        key = message_key(channel, decision.address, *texts)
        seconds = ROWS[channel].repeat_seconds
        dedup_keys = (DedupKey(key=key, seconds=seconds, channel=channel, address=decision.address),)
        if resend_of is not None:
            remarks.append(await _repeats(context, resend_of, key))
    doubts = [doubt.message for found in decisions for doubt in found.doubts]
    shown = replace(
        shown,
        there="; ".join(decision.remarks),
        facts={**shown.facts, **decision.facts, **({DOUBTED: doubts} if doubts else {})},
        lead=lead.id,
        lead_read=lead,
        dedup_keys=dedup_keys,
        confirm=resend_of is not None,
        resend_of=resend_of,
        defer=defer,
    )
    found = Reach.of(shown, decisions, new=new, rule="resend_of" if resend_of else "")
    if defer and found.until:
        remarks.append(f"goes out later: {found.blocked}")
    return replace(found, details="; ".join(remarks) + _whole(texts[-1]))


async def _repeats(context: Context, action_id: str, key: str) -> str:
    """Say which earlier action a message repeats on purpose.

    Raises:
        InvalidArgument: that action did not send this very message.
    """
    earlier = await context.store.actions.get(action_id)
    if earlier is None or key not in await context.store.actions.keys_of(action_id):
        holder = (await context.store.actions.held_by([key])).get(key)
        raise InvalidArgument(
            f"resend_of: {quote(action_id)} is no action that sent this very message to this address",
            f"the last one was {holder.id}" if holder else "leave it out: it was not sent in the last 24 hours",
        )
    return f"a repeat, on purpose, of {earlier.id} ({earlier.status}) of {rfc3339(earlier.created_at)}"


def _to(address: str | None, none: str) -> str:
    """Return an address for a summary: in plain letters as well where it has others, because some look alike."""
    if address is None or address.isascii():
        return escape_markup(address or none)
    local, at, domain = normal("NFC", address).rpartition("@")
    if at:
        labels = domain.casefold().split(".")
        domain = ".".join(each if each.isascii() else "xn--" + each.encode("punycode").decode() for each in labels)
    in_plain_letters = f"{local}{at}{domain}".encode("ascii", "backslashreplace").decode()
    return (
        f"{escape_markup(address)} (its letters may look like others; in plain ones {escape_markup(in_plain_letters)})"
    )


def _whole(text: str) -> str:
    """The summary has a short text of one line as it is; of any other the preview must."""
    return f"; the whole text:\n{indent_block(text)}" if is_cut(text) or escape_markup(text) != text else ""


async def choose_mailbox(context: Context, wanted: str | None) -> Mailbox:
    """Return the mailbox with this id or address; without one, the only or the default one.

    Raises:
        InvalidArgument: it does not exist, or there are several and none is the default; they are listed.
    """
    mailboxes = await context.crm(SendsEmail).mailboxes()
    return _chosen("mailbox", [(each.address, each) for each in mailboxes], wanted or context.defaults.mailbox)


async def choose_sender(context: Context, wanted: str | None) -> Sender:
    """Return the sender profile with this id or name; without one, the only or the default one.

    Raises:
        InvalidArgument: it does not exist, or there are several and none is the default; they are listed.
    """
    senders = await context.crm(SendsLinkedIn).senders()
    return _chosen("sender", [(each.name, each) for each in senders], wanted or context.defaults.sender)


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
