"""Reaching people: e-mail, LinkedIn, sequences, which GetSales calls automations or flows, and the blacklist."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from datetime import datetime, timedelta
from typing import Any, cast

from crm_mcp.address import same_profile
from crm_mcp.backends.base import (
    EndsSequences,
    GivesMetrics,
    KeepsBlocklist,
    RunsSequences,
    SendsEmail,
    SendsLinkedIn,
)
from crm_mcp.backends.getsales.api import (
    CANCEL,
    FLOW,
    FLOW_LEAD,
    FLOW_LEADS,
    METRICS,
    PAGE,
    SEND_EMAIL,
    GetSalesApi,
    cannot,
    more_after,
    records,
    since,
)
from crm_mcp.backends.getsales.codec import handles, has_address, linkedin_of, mailbox_of, marked_up, parts
from crm_mcp.backends.http import at
from crm_mcp.backends.http_errors import refuse_other, refuse_written_other
from crm_mcp.backends.refusals import no_record
from crm_mcp.backends.remote import number_in, record_if_shown, record_in, text
from crm_mcp.channels import Channel
from crm_mcp.errors import Conflict, InvalidArgument, NotFound, VendorError
from crm_mcp.model import Delivery, Lead, Mailbox, Message, Sender, Sequence, fold, now, rfc3339

LONGEST = 8_000
"""Characters of a LinkedIn message (found)."""
NO_ID = "unknown"
"""The id of what was sent where the answer does not say it."""
_STANDING = {"off": "stopped", "draft": "a draft", "archived": "archived"}
"""What the statuses of a sequence mean that is not on."""
_MOST_PAGES = 50
COUNTED = (
    "linkedin_connection_request_sent_count",
    "linkedin_connection_request_accepted_count",
    "linkedin_sent_count",
    "linkedin_opened_count",
    "linkedin_inbox_count",
    "linkedin_inmail_sent_count",
    "linkedin_inmail_replied_count",
    "email_sent_count",
    "email_opened_count",
    "email_clicked_count",
    "email_bounced_count",
    "email_unsubscribed_count",
    "email_inbox_count",
)
"""The metrics that two sources name."""


class GetSalesOutreach(
    SendsEmail, SendsLinkedIn, RunsSequences, EndsSequences, KeepsBlocklist, GivesMetrics, GetSalesApi
):
    """E-mails go out at once; LinkedIn messages are queued for the sender's own browser."""

    async def mailboxes(self) -> tuple[Mailbox, ...]:
        """List the mailboxes that are not switched off."""
        return tuple(mailbox_of(row, self._access.mailbox) for row in await self._rows("mailboxes"))

    async def send_email(self, lead: Lead, mailbox: Mailbox, subject: str, body: str, reply_to: str | None) -> Delivery:
        """Send text, as HTML, to the lead's address, which is read again just before. Replies come to the mailbox.

        Raises:
            Conflict: the lead has another address now.
        """
        if reply_to:
            raise cannot("have replies go elsewhere", "leave reply_to out: they come to the mailbox")
        if not lead.email:
            raise InvalidArgument(f"{lead.label} has no e-mail address", "set one with update_lead", wrote=False)
        if not has_address(parts(await self._lead_row(lead.id))[0], lead.email):
            raise Conflict(f"the address of {lead.label} has changed", "read the lead again", wrote=False)
        message = {"subject": subject, "body": marked_up(body), "lead_uuid": lead.id}
        sent = {**message, **await self._envelope(lead.email, lead.label, mailbox)}
        missing = f'there is no mailbox "{mailbox.address}", or no lead "{lead.id}"'
        answer = await self._api.write("POST", SEND_EMAIL, sent, missing=missing)
        made = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
        inner = made.get("emailDomain")
        row = cast("dict[str, Any]", inner) if isinstance(inner, dict) else made
        refuse_written_other(lead.id, text(row.get("lead_uuid")))
        return Delivery(
            message=Message(
                id=text(row.get("uuid")) or NO_ID,
                lead_id=lead.id,
                channel="email",
                direction="outbound",
                subject=subject,
                body=body,
                status=text(row.get("status")),
                sent_at=now(),
            ),
            delivered=True,
        )

    async def senders(self) -> tuple[Sender, ...]:
        """List the sender profiles that are enabled; those of one name are told apart by their label."""
        rows = await self._rows("senders")
        names = [" ".join(filter(None, (text(row.get("first_name")), text(row.get("last_name"))))) for row in rows]
        wanted = fold(self._access.sender) if self._access.sender else None
        found: list[Sender] = []
        for row, name in zip(rows, names, strict=True):
            key, label = text(row.get("uuid")) or "", text(row.get("label"))
            shown = f"{name} ({label})" if label and names.count(name) > 1 else name or label or key
            found.append(Sender(id=key, name=shown, default=wanted in (fold(shown), fold(name), fold(key))))
        return tuple(found)

    async def send_linkedin_message(self, lead: Lead, sender: Sender, text: str) -> Delivery:
        """Queue a message. It arrives only where lead and sender are connected, and when the sender's browser runs."""
        if len(text) > LONGEST:
            raise InvalidArgument(
                f"the message has {len(text):,} characters", f"LinkedIn takes {LONGEST:,}", wrote=False
            )
        body = {"sender_profile_uuid": sender.id, "lead_uuid": lead.id, "text": text}
        missing = f'there is no sender "{sender.name}", or no lead "{lead.id}"'
        answer = await self._api.write("POST", self._keys.send_linkedin, body, missing=missing)
        given = record_if_shown(answer)
        refuse_written_other(lead.id, _lead_of(given))
        row = {"uuid": NO_ID, "type": "outbox", **given, "lead_uuid": lead.id, "text": text}
        message = linkedin_of(row)
        if message.sent_at is None:
            message = message.model_copy(update={"sent_at": now()})
        queued = message.status != "done"
        note = (
            "queued: GetSales sends it when the sender's browser runs, to people who are connected" if queued else None
        )
        return Delivery(message=message, delivered=True, note=note)

    async def sequences(self) -> tuple[Sequence, ...]:
        """List the sequences that are on, then those that are stopped; drafts and archived ones take nobody.

        Neither steps nor how many are enrolled stand in the vendor's list: `active` is not counted.
        """
        on = {str(row.get("uuid")) for row in await self._rows("sequences") if row.get("status") in ("on", None)}
        named = sorted(await self._named("sequences"), key=lambda each: each.id not in on)
        return tuple(Sequence(id=each.id, name=each.name) for each in named)

    async def enroll(self, sequence: str, lead: str) -> str | None:
        """Enrol a lead; a sequence that is not on takes nobody. The answer is an empty 204 (documented).

        Who may be in it still, by a status that is not known, is not enrolled a second time.
        """
        flow = record_in(await self._api.read("GET", at(FLOW, sequence), missing=_no_sequence(sequence)))
        if key := text(flow.get("uuid")):
            refuse_other(sequence, key)
        if (status := text(flow.get("status"))) not in ("on", None):
            return f"the sequence is {_STANDING.get(status or '', 'not on')}; start it in GetSales first"
        if held := await self._held(sequence, lead):
            known = held & set(fold(self._keys.in_flow).split())
            return "is in this sequence already" if known else "may be in this sequence still: take it out first"
        await self._api.write("POST", at(FLOW_LEAD, sequence, lead), {}, missing=no_record("lead", lead))
        return None

    async def enrolled(self, sequence: str, lead: str) -> bool | None:
        """Say whether a lead is in a sequence, or may be, by a status that is not known; None: no status is told."""
        held = await self._held(sequence, lead)
        return None if held == {""} else bool(held)

    async def unenroll(self, sequence: str, lead: str) -> str | None:
        """Take a lead out of one sequence, wherever it is not known to be out of it."""
        if not await self._held(sequence, lead):
            await self._api.read("GET", at(FLOW, sequence), missing=_no_sequence(sequence))
            await self._lead_row(lead)
            return "is not in this sequence"
        await self._api.write("PUT", at(CANCEL, lead), {"flow_uuids": [sequence]}, missing=no_record("lead", lead))
        return None

    async def block(self, lead: Lead, channels: Seq[Channel], reason: str | None) -> None:
        """Put the e-mail address and the LinkedIn profile on the blacklist, which keeps no reason.

        GetSales sends no SMS and makes no calls: for these there is nothing to block. Whoever is on its blacklist is
        left out of imports and automations altogether.
        """
        del reason
        wrote = False
        for name, address in _addresses(lead, channels):
            try:
                with since(wrote):
                    await self._api.write("POST", self._keys.blacklist, {name: address})
            except InvalidArgument:
                if not any(each == name for _, each in await self._blocked(lead, channels)):
                    raise
            wrote = True
        profile = lead.address("linkedin") if "linkedin" in channels else None
        if profile and not handles(profile):  # kept, as it is written, on our own list
            raise InvalidArgument(
                f"the LinkedIn profile of {lead.label} is none, and is not on GetSales' blacklist",
                "correct custom_fields.linkedin with update_lead",
                wrote=wrote,
            )

    async def unblock(self, lead: Lead, channels: Seq[Channel]) -> None:
        """Take these addresses off the blacklist, and no other entry."""
        for entry, _ in await self._blocked(lead, channels):
            try:
                await self._api.write("DELETE", at(f"{self._keys.blacklist}/{{}}", entry))
            except NotFound:
                continue  # somebody else took it off just now

    async def metrics(self, since: datetime | None, until: datetime | None) -> dict[str, float]:
        """Return the whole workspace's counts of a period; without limits the last 30 days."""
        last = until or now()
        first = since or last - timedelta(days=30)
        body = {"period_from": rfc3339(first), "period_to": rfc3339(last), "metrics": list(COUNTED)}
        total = record_in(await self._api.read("POST", METRICS, body=body)).get("total")
        if not isinstance(total, dict):
            raise VendorError("GetSales' answer has no counts", "try again", detail=repr(total)[:300], wrote=False)
        counts: Mapping[str, Any] = record_in(total)
        return {name: found for name, value in counts.items() if (found := number_in(value)) is not None}

    async def _envelope(self, address: str, name: str, mailbox: Mailbox) -> dict[str, Any]:
        """Return how an e-mail names sender and recipient, in the form that `keys` choose."""
        if self._keys.email_form == "mailbox":
            return {"mailbox_uuid": mailbox.id, "to": [{"to_email": address, "to_name": name}]}
        row = next((each for each in await self._rows("mailboxes") if each.get("uuid") == mailbox.id), None)
        if row is None:
            raise NotFound(f'there is no mailbox "{mailbox.address}"', "list_options names the mailboxes", wrote=False)
        return {
            "sender_profile_uuid": text(row.get("sender_profile_uuid")),
            "from_name": text(row.get("sender_name")) or mailbox.address,
            "from_email": mailbox.address,
            "to_name": name,
            "to_email": address,
        }

    async def _held(self, sequence: str, lead: str) -> set[str]:
        """Return the statuses with which a lead may be in a sequence; an empty one where it is not told."""
        body = {"filter": {"flow_uuid": [sequence], "lead_uuid": [lead]}, "limit": PAGE, "offset": 0}
        answer = await self._api.read("POST", FLOW_LEADS, body=body)
        rows = records(answer)
        own = [row for row in rows if row.get("flow_uuid") in (None, sequence) and row.get("lead_uuid") in (None, lead)]
        found = {fold(text(row.get("status")) or "") for row in own}
        if not own and more_after(answer, 0, len(rows)):  # the filter is not heeded
            found.add("")
        return found - set(fold(self._keys.out_of_flow).split())

    async def _blocked(self, lead: Lead, channels: Seq[Channel]) -> list[tuple[str, str]]:
        """Return the blacklist's entries that are for one of the lead's addresses alone: id and field."""
        wanted = _addresses(lead, channels)
        found: list[tuple[str, str]] = []
        offset = 0
        for _ in range(_MOST_PAGES if wanted else 0):
            query = {"limit": PAGE, "offset": offset, "order_field": "created_at", "order_type": "desc"}
            answer = await self._api.read("GET", self._keys.blacklist, query)
            rows = records(answer)
            found += [entry for row in rows if (entry := _entry(row, wanted))]
            offset += len(rows)
            if not more_after(answer, offset - len(rows), len(rows)):
                break
        return found


def _addresses(lead: Lead, channels: Seq[Channel]) -> list[tuple[str, str]]:
    """Return what the blacklist knows a lead by on these channels."""
    found: list[tuple[str, str]] = []
    if "email" in channels and lead.email:
        found.append(("email", lead.email))
    if "linkedin" in channels:
        found.extend(("linkedin", each) for each in handles(lead.address("linkedin") or ""))
    return found


def _entry(row: Mapping[str, Any], wanted: Seq[tuple[str, str]]) -> tuple[str, str] | None:
    """Return id and field of an entry that has one of these addresses, and nothing else that it is known by."""
    key = text(row.get("uuid"))
    given = [(name, found) for name in ("email", "linkedin", "name", "company_name") if (found := text(row.get(name)))]
    if key is None or len(given) != 1:
        return None
    ((name, address),) = given
    same = same_profile if name == "linkedin" else _same_email
    return (key, name) if any(each == name and same(theirs, address) for each, theirs in wanted) else None


def _same_email(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _lead_of(row: Mapping[str, Any]) -> str | None:
    return text(row.get("lead_uuid"))


def _no_sequence(sequence: str) -> str:
    return f'there is no sequence "{sequence[:80]}"'
