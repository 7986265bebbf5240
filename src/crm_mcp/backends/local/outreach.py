"""Reaching out: mailboxes, e-mail, SMS, and who must not be contacted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence as Seq
from datetime import datetime

import anyio
import anyio.to_thread

from crm_mcp.address import address_key, email_address
from crm_mcp.backends.activities import Wanted, whole_second
from crm_mcp.backends.base import KeepsBlocklist, RecallsMessages, SendsEmail, SendsSms
from crm_mcp.backends.local import rows
from crm_mcp.backends.local.activity import contacted, messages
from crm_mcp.backends.local.database import File
from crm_mcp.backends.local.sequences import advance
from crm_mcp.backends.local.smtp import FALLBACK_SENDER, Post, letter, post
from crm_mcp.channels import Channel
from crm_mcp.errors import Conflict, CrmError, InvalidArgument
from crm_mcp.model import Delivery, Lead, Mailbox, Message

NO_SMTP = "recorded, not delivered: no SMTP server is set (CRM_MCP_SMTP_URL)"
NO_GATEWAY = "recorded, not delivered: the embedded CRM has no SMS gateway"
_ONLY = "B0"
"""The id of the mailbox that stands in no table."""


class LocalOutreach(SendsEmail, SendsSms, RecallsMessages, KeepsBlocklist):
    """E-mail goes out by SMTP where a server is set; else it is recorded, as SMS always is, and the result says so."""

    _file: File
    _post: Post | None

    async def mailboxes(self) -> tuple[Mailbox, ...]:
        """List the mailboxes; without any in the file, the one that the SMTP URL speaks for."""
        return await self._file.read(lambda db: mailboxes(db, self._post))

    async def send_email(self, lead: Lead, mailbox: Mailbox, subject: str, body: str, reply_to: str | None) -> Delivery:
        """Send plain text to the lead's address, once.

        Raises:
            Conflict: the lead's address is not the one given any more.
            InvalidArgument: it can't be written so that the receiver reads exactly this.
            Unreachable, VendorError: it was not sent.
            TimedOut: it was handed in, and whether it was sent is not known.
        """
        if not lead.email:
            raise InvalidArgument(f"{lead.label} has no e-mail address", "set one with update_lead", wrote=False)
        reply = email_address(reply_to) if reply_to else None
        at, to = self._post, lead.email
        if at is None:
            sent = await self._file.write(
                lambda db: _keep(db, lead, "email", "recorded", subject, body, _sender(db, mailbox, at))
            )
            return Delivery(message=sent, delivered=False, note=NO_SMTP)
        mail = letter(mailbox.address, to, subject, body, reply)
        # The row is there before the mail server hears of it, whatever happens to this process then.
        kept = await self._file.write(
            lambda db: _keep(db, lead, "email", "sending", subject, body, _sender(db, mailbox, at), mail.message_id)
        )
        done, note = kept, None
        # Once the mail server may have it, what became of it is written down even when the caller has gone.
        with anyio.CancelScope(shield=True):
            try:
                await anyio.to_thread.run_sync(post, at, mail)
            except CrmError as error:
                await self._settle(kept, "failed" if error.wrote is False else "unknown")
                raise
            done, note = await self._settle(kept, "sent")
        return Delivery(message=done, delivered=True, note=note)

    async def _settle(self, kept: Message, status: str) -> tuple[Message, str | None]:
        """Write what became of a message; that the file fails now does not unsend it."""
        try:
            return await self._file.write(lambda db: _settle(db, kept, status)), None
        except CrmError:
            note = "sent, but this could not be noted in the file: there it is still being sent"
            return kept.model_copy(update={"status": status}), note

    async def send_sms(self, lead: Lead, text: str) -> Delivery:
        """Record a text to the lead's number."""
        if not lead.phone:
            raise InvalidArgument(f"{lead.label} has no phone number", "set one with update_lead", wrote=False)
        sent = await self._file.write(lambda db: _keep(db, lead, "sms", "recorded", None, text, None))
        return Delivery(message=sent, delivered=False, note=NO_GATEWAY)

    async def sent_message(
        self, lead: Lead, channel: Channel, text: str, subject: str | None, since: datetime, known: frozenset[str]
    ) -> Message | None:
        """Return the newest message with this text that was sent or recorded.

        One whose row is there and of which the mail server has not said that it took it, is none: nobody knows.
        """
        wanted = Wanted(lead.id, channel, text, subject, since, known)
        return await self._file.read(lambda db: wanted.newest(_gone_out(db, wanted)))

    async def block(self, lead: Lead, channels: Seq[Channel], reason: str | None) -> None:
        """Block the lead's addresses; where it has none for a channel, the lead itself."""
        await self._file.write(lambda db: _block(db, lead, channels, reason))

    async def unblock(self, lead: Lead, channels: Seq[Channel]) -> None:
        """Lift the block of the lead and of its addresses."""
        await self._file.write(lambda db: _unblock(db, lead, channels))


def mailboxes(db: sqlite3.Connection, at: Post | None) -> tuple[Mailbox, ...]:
    """Return the mailboxes, the default first."""
    found = db.execute("SELECT n, address, is_default FROM mailboxes ORDER BY is_default DESC, n").fetchall()
    if not found:
        return (Mailbox(id=_ONLY, address=(at.sender if at else None) or FALLBACK_SENDER, default=True),)
    return tuple(Mailbox(id=f"B{row[0]}", address=row[1], default=bool(row[2])) for row in found)


def default_mailbox(db: sqlite3.Connection) -> str | None:
    """Return the address of the default mailbox in the file, None without any."""
    row = db.execute("SELECT address FROM mailboxes WHERE is_default").fetchone()
    return row[0] if row else None


def put_mailbox(db: sqlite3.Connection, address: str, *, default: bool) -> None:
    """Add a mailbox, or find it; the default is only ever one."""
    db.execute("INSERT OR IGNORE INTO mailboxes (address) VALUES (?)", (address,))
    if default:
        db.execute("UPDATE mailboxes SET is_default = (address = ?)", (address,))


def _sender(db: sqlite3.Connection, mailbox: Mailbox, at: Post | None) -> str:
    for each in mailboxes(db, at):
        if (each.id, each.address) == (mailbox.id, mailbox.address):
            return each.address
    raise rows.missing("mailbox", mailbox.id)


def _keep(
    db: sqlite3.Connection,
    lead: Lead,
    channel: Channel,
    status: str,
    subject: str | None,
    body: str,
    sender: str | None,
    message_id: str | None = None,
) -> Message:
    """Write a message down; what is only recorded counts as contact here and now."""
    n = rows.existing(db, "lead", lead.id)
    on_file = db.execute("SELECT email, phone FROM leads WHERE n = ?", (n,)).fetchone()
    to = lead.email if channel == "email" else lead.phone
    if to != on_file[0 if channel == "email" else 1]:
        raise Conflict(f"the address of {lead.label} has changed", "read the lead again", wrote=False)
    made = db.execute(
        "INSERT INTO messages (lead, channel, direction, subject, body, status, sent_at, sender, recipient, message_id)"
        " VALUES (?, ?, 'outbound', ?, ?, ?, ?, ?, ?, ?)",
        (n, channel, subject, body, status, rows.present(), sender, to, message_id),
    )
    message = _message(db, made.lastrowid or 0)
    return _settle(db, message, status) if status == "recorded" else message


def _message(db: sqlite3.Connection, n: int) -> Message:
    found = messages(db.execute("SELECT * FROM messages WHERE n = ?", (n,)).fetchall())
    if not found:
        # The lead was deleted while the mail server was spoken to, and its messages with it.
        raise Conflict("the lead was deleted meanwhile", "there is nothing to do")
    return found[0]


def _settle(db: sqlite3.Connection, kept: Message, status: str) -> Message:
    n, at = int(kept.id[1:]), rows.present()
    db.execute("UPDATE messages SET status = ?, sent_at = ? WHERE n = ?", (status, at, n))
    message = _message(db, n)
    if status in ("sent", "recorded") and kept.lead_id and kept.channel:
        lead = rows.number("lead", kept.lead_id)
        contacted(db, lead, at)
        advance(db, lead, kept.channel, at)
    return message


def _gone_out(db: sqlite3.Connection, wanted: Wanted) -> list[Message]:
    n = rows.existing(db, "lead", wanted.lead)
    return messages(
        db.execute(
            "SELECT * FROM messages WHERE lead = ? AND sent_at >= ? AND status IN ('sent', 'recorded')",
            (n, rows.millis(whole_second(wanted.since))),
        ).fetchall()
    )


def _block(db: sqlite3.Connection, lead: Lead, channels: Seq[Channel], reason: str | None) -> None:
    rows.existing(db, "lead", lead.id)
    at = rows.present()
    db.executemany(
        "INSERT INTO blocked (address, channel, reason, blocked_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (address, channel) DO UPDATE SET reason = COALESCE(excluded.reason, reason)",
        [(_address(lead, channel) or lead.id, channel, reason, at) for channel in channels],
    )


def _unblock(db: sqlite3.Connection, lead: Lead, channels: Seq[Channel]) -> None:
    rows.existing(db, "lead", lead.id)
    db.executemany(
        "DELETE FROM blocked WHERE address IN (?, ?) AND channel = ?",
        [(_address(lead, channel), lead.id, channel) for channel in channels],
    )


def _address(lead: Lead, channel: Channel) -> str | None:
    """Return what a channel reaches the lead by, as it is kept in the list."""
    if channel == "email":
        return address_key(lead.email) if lead.email else None
    return lead.phone if channel in ("sms", "call") else None
