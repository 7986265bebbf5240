"""Reaching out, and the values that can be chosen."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

from crm_mcp.backends.activities import Wanted
from crm_mcp.backends.base import ListsOptions, RecallsMessages, RunsSequences, SendsEmail, SendsSms
from crm_mcp.backends.dialsheet.api import (
    ACCOUNTS,
    DEALS,
    EMAILS,
    ENROLL,
    PAGE,
    SEQUENCES,
    SMS,
    TAGS,
    DialsheetApi,
    told,
)
from crm_mcp.backends.http import at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.refusals import no_record
from crm_mcp.backends.remote import rows_in, text
from crm_mcp.channels import Channel
from crm_mcp.errors import Conflict, InvalidArgument, Unsupported
from crm_mcp.model import Delivery, Lead, Mailbox, Message, Option, OptionKind, Sequence, fold

DOCUMENTED_STATUSES = ("new", "qualified")
"""The two statuses of leads that the documentation shows."""
_FAILED = frozenset({"failed", "error", "bounced", "rejected", "undelivered"})


class DialsheetOutreach(SendsEmail, SendsSms, RecallsMessages, RunsSequences, ListsOptions, DialsheetApi):
    """E-mail by a configured mailbox, SMS by Twilio to the lead's number, enrolment in sequences (all documented)."""

    option_kinds: ClassVar[tuple[OptionKind, ...]] = ("stages", "statuses", "tags", "sequences", "mailboxes")
    open_kinds: ClassVar[frozenset[OptionKind]] = frozenset({"stages", "statuses"})

    async def mailboxes(self) -> tuple[Mailbox, ...]:
        """List the mailboxes that are configured."""
        return tuple(map(self._records.mailbox, (await self._listed(ACCOUNTS)).rows))

    async def send_email(self, lead: Lead, mailbox: Mailbox, subject: str, body: str, reply_to: str | None) -> Delivery:
        """Send plain text to the lead's address, once; the lead is read again just before.

        Raises:
            Conflict: the address on file is not the one given any more.
        """
        if reply_to:
            raise Unsupported(
                "dialsheet can't set a reply address", "replies go to the mailbox: leave reply_to out", wrote=False
            )
        to = await self._on_file(lead, "email")
        sent = {
            "email_account_id": mailbox.id,
            "to_email": to,
            "subject": subject,
            "body_text": body,
            "lead_id": lead.id,
        }
        missing = f'there is no mailbox "{mailbox.id[:80]}"'  # the lead was there a moment ago
        record = told(await self._api.write("POST", EMAILS, sent, missing=missing), "email", "message")
        return self._delivery(record, lead, "email", subject, body)

    async def send_sms(self, lead: Lead, text: str) -> Delivery:
        """Send a text, once. Dialsheet takes the lead and not a number: that it has the number given is looked up just
        before.

        Raises:
            Conflict: the number on file is not the one given any more.
        """
        await self._on_file(lead, "sms")
        sent = {"lead_id": lead.id, "message": text}
        answer = await self._api.write("POST", SMS, sent, missing=no_record("lead", lead.id))
        return self._delivery(told(answer, "sms", "message"), lead, "sms", None, text)

    async def sent_message(
        self, lead: Lead, channel: Channel, text: str, subject: str | None, since: datetime, known: frozenset[str]
    ) -> Message | None:
        """Return the newest such message of the lead's e-mails, which are those that were sent (documented), or SMS.

        That an SMS tells its direction is inferred: one that does not is not taken for ours.
        """
        wanted = Wanted(lead.id, channel, text, subject, since, known)
        if channel == "email":
            return wanted.newest(map(self._records.email, (await self._of_lead(EMAILS, lead.id)).rows))
        if channel == "sms":
            return wanted.newest(map(self._records.sms, (await self._of_lead(SMS, lead.id)).rows))
        return None

    async def _on_file(self, lead: Lead, channel: Channel) -> str:
        """Return the address that is on file now."""
        given = lead.address(channel)
        what = "e-mail address" if channel == "email" else "phone number"
        if not given:
            raise InvalidArgument(f"{lead.label} has no {what}", "set one with update_lead", wrote=False)
        now = self._records.lead(await self._lead_record(lead.id)).address(channel)
        if now is None or not self.same_address(now, given):
            raise Conflict(f"the {what} of {lead.label} has changed", "read the lead again", wrote=False)
        return now

    def _delivery(
        self, record: dict[str, Any], lead: Lead, channel: Channel, subject: str | None, body: str
    ) -> Delivery:
        """Return what became of a message: what was sent, with what the answer says of it."""
        refuse_written_other(lead.id, text(record.get("lead_id")))
        told_of = {"id": "(not told)", **record}
        seen = self._records.email(told_of) if channel == "email" else self._records.sms(told_of)
        message = Message(
            id=seen.id,
            lead_id=lead.id,
            channel=channel,
            direction="outbound",
            subject=subject,
            body=body,
            status=seen.status,
            sent_at=seen.sent_at,
        )
        if fold(seen.status or "") in _FAILED:
            return Delivery(message=message, delivered=False, note="Dialsheet took it and says that sending it failed")
        note = None if record else "Dialsheet took it, and gave no record of it back"
        return Delivery(message=message, delivered=True, note=note)

    async def sequences(self) -> tuple[Sequence, ...]:
        """List the sequences, campaigns among them; their steps can't be read."""
        return tuple(map(self._records.sequence, (await self._listed(SEQUENCES)).rows))

    async def enroll(self, sequence: str, lead: str) -> str | None:
        """Enrol a lead; the name of the lead's id in the body is inferred. There is no way to take it out again."""
        at("{}", lead)
        missing = f'there is no sequence "{sequence[:80]}", or no lead "{lead[:80]}"'
        try:
            await self._api.write("POST", at(ENROLL, sequence), {self._keys.enroll_lead: lead}, missing=missing)
        except Conflict as error:
            if error.status != 409:  # locked, or changed meanwhile
                raise
            return "enrolled already"
        return None

    async def list_options(self, kind: OptionKind) -> tuple[Option, ...]:
        """List the values, by name. Stages are those of the deals that there are; statuses are the two documented ones
        and those of the newest 100 leads."""
        match kind:
            case "stages":
                deals = map(self._records.deal, (await self._listed(DEALS)).rows)
                found = [Option(id=each, name=each, of="deals") for each in _distinct(deal.stage for deal in deals)]
            case "statuses":
                rows, _ = await self._leads_page({}, 1, PAGE)
                seen = (self._records.lead(row).status for row in rows)
                found = [Option(id=each, name=each) for each in _distinct((*DOCUMENTED_STATUSES, *seen))]
            case "tags":
                answer = await self._api.read("GET", TAGS)
                found = [self._records.option(row) for row in rows_in(answer, "tags") if row]
            case "sequences":
                found = [Option(id=each.id, name=each.name) for each in await self.sequences()]
            case "mailboxes":
                found = [Option(id=each.id, name=each.address) for each in await self.mailboxes()]
            case _:
                raise Unsupported(f"dialsheet has no {kind}", f"it has {', '.join(self.option_kinds)}")
        return tuple(sorted(found, key=lambda each: fold(each.name)))


def _distinct(values: Iterable[str | None]) -> list[str]:
    """Return each value once, whatever its case: as it was written first."""
    found: dict[str, str] = {}
    for each in values:
        if each:
            found.setdefault(fold(each), each)
    return list(found.values())
