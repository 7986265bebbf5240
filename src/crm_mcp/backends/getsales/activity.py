"""What happened with a lead: notes, LinkedIn messages and e-mails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from collections.abc import Sequence as Seq
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from crm_mcp.backends.activities import Wanted, of_message, of_note, refuse_duration, refuse_kinds, whole_second
from crm_mcp.backends.base import LOOKED_THROUGH, LogsNotes, ReadsActivity, ReadsMessages, RecallsMessages
from crm_mcp.backends.getsales.api import (
    EMAIL,
    EMAILS,
    MESSAGES,
    NOTES,
    PAGE,
    GetSalesApi,
    more_after,
    records,
)
from crm_mcp.backends.getsales.codec import email_of, linkedin_of, note_of, note_text
from crm_mcp.backends.http import Query, at
from crm_mcp.backends.http_errors import refuse_other, refuse_written_other
from crm_mcp.backends.lists import Fetch, merged, whole
from crm_mcp.backends.refusals import no_record
from crm_mcp.backends.remote import moment, record_if_shown, record_in, text
from crm_mcp.channels import Channel
from crm_mcp.errors import NotFound, OutcomeUnknown
from crm_mcp.model import Activity, ActivityKind, Lead, Message, Note, NoteDraft, Page, Slice, now

_NOTES_SEARCHED = 5
"""Pages of notes that are looked through for one: there is no operation that reads one."""
_BODIES = 10
"""E-mails of a page whose text is read: a list leaves it out, so that each costs a call."""
LONGEST_KEPT = 20_000
"""Characters of the text of an e-mail that are kept, of which what its writer says is the beginning."""
MOST_KEPT = 1_000
"""Texts of e-mails that are kept."""
_RECALLED = 5
"""Pages of messages that are looked through for one that went out."""


class GetSalesActivity(ReadsActivity, LogsNotes, ReadsMessages, RecallsMessages, GetSalesApi):
    """Notes are the vendor's; calls are none. Messages are LinkedIn's and e-mails, in one order by `sent_at`."""

    activity_kinds: ClassVar[tuple[ActivityKind, ...]] = ("note", "message")
    hears: ClassVar[frozenset[Channel]] = frozenset(("email", "linkedin"))

    async def list_activity(
        self, lead: str, kinds: Seq[ActivityKind], since: datetime | None, part: Slice
    ) -> Page[Activity]:
        """List notes and messages, newest first; of e-mails that were sent the subject alone, since lists leave the
        text out, and to read it costs a call each."""
        refuse_kinds(kinds, self.activity_kinds)
        wanted = kinds or self.activity_kinds
        sources: dict[str, Fetch] = {}
        mails: dict[str, Message] = {}
        if "note" in wanted:
            sources["note"] = partial(self._activity, self._notes, of_note, lead)
        if "message" in wanted:
            sources["linkedin"] = partial(self._activity, self._linkedin, of_message, lead)
            sources["email"] = partial(self._activity, self._emails, of_message, lead, seen=mails)
        page = await merged(sources, since, part)
        await self._known(lead, page, part)
        came_in = {key: mail for key, mail in mails.items() if mail.direction == "inbound"}
        items = [
            of_message(await self._with_text(came_in[each.id])) if each.id in came_in else each for each in page.items
        ]
        return page.model_copy(update={"items": tuple(items)})

    async def log_note(self, lead: str, draft: NoteDraft) -> Note:
        """Log a note. GetSales has text alone: kind, direction, duration, time and outcome become its last line."""
        refuse_duration(draft.duration_seconds)
        at("{}", lead)  # it goes into the body, and must be an id there as well
        body = {"object": "lead", "object_uuid": lead, "note": note_text(draft)}
        answer = await self._api.write("POST", NOTES, body, missing=no_record("lead", lead))
        row = record_if_shown(answer)
        refuse_written_other(lead, text(row.get("object_uuid")))
        if not text(row.get("uuid")):
            raise OutcomeUnknown("GetSales took the note and did not say its id", "look for it with list_activity")
        note = note_of({"object_uuid": lead, "note": body["note"], **row})
        return note if note.occurred_at else note.model_copy(update={"occurred_at": now()})

    async def list_notes(self, lead: str, part: Slice) -> Page[Note]:
        """List a lead's notes, newest first."""
        page = await self._notes(lead, part)
        await self._known(lead, page, part)
        return page

    async def get_note(self, note: str) -> Note:
        """Read one note: it is looked for by its id, and where that filter does nothing, among the newest 500."""
        offset = 0
        for _ in range(_NOTES_SEARCHED):
            query = {"filter[object]": "lead", f"filter[{self._keys.note_id}]": note}
            answer = await self._api.read("GET", NOTES, _newest(query, "created_at", PAGE, offset))
            rows = records(answer)
            for row in rows:
                if text(row.get("uuid")) == note:
                    return note_of(row)
            if not more_after(answer, offset, len(rows)):
                break
            offset += len(rows)
        raise NotFound(no_record("note", note), "the id may be wrong, or the note deleted")

    async def list_messages(self, lead: str, part: Slice) -> Page[Message]:
        """List LinkedIn messages and e-mails, newest first; the text of the first ten e-mails is read."""
        seen: dict[str, Message] = {}
        sources: dict[str, Fetch] = {
            "linkedin": partial(self._activity, self._linkedin, of_message, lead, seen=seen),
            "email": partial(self._activity, self._emails, of_message, lead, seen=seen),
        }
        page = await merged(sources, None, part)
        await self._known(lead, page, part)
        found = [seen[each.id] for each in page.items]
        mails = [each.id for each in found if each.channel == "email" and each.body is None][:_BODIES]
        whole_ones = {mail: await self._mail(mail) for mail in mails}
        items = tuple(
            each.model_copy(update={"body": whole_ones[each.id].body}) if each.id in whole_ones else each
            for each in found
        )
        return Page[Message](items=items, next=page.next)

    async def inbound_messages(self, lead: str, channel: Channel) -> tuple[Message, ...]:
        """Return what a lead has written on a channel, newest first; a list leaves the text of e-mails out, so that
        each costs a call, once."""
        if channel not in self.hears:
            return ()
        fetch = self._linkedin if channel == "linkedin" else self._emails
        found: list[Message] = []
        part = Slice(limit=PAGE)
        for _ in range(LOOKED_THROUGH // PAGE):
            page = await fetch(lead, part)
            found += [each for each in page.items if each.direction != "outbound"]
            if page.next is None:
                break
            part = Slice(limit=PAGE, position=page.next)
        return tuple([await self._with_text(each) if channel == "email" else each for each in found])

    async def _with_text(self, mail: Message) -> Message:
        """Return an e-mail with its text. What somebody has written stays as it is, and is read once."""
        if mail.body is not None:
            return mail
        mine = mail.id, mail.sent_at
        if (kept := self._texts.get(mine)) is None:
            kept = self._texts[mine] = ((await self._mail(mail.id)).body or "")[:LONGEST_KEPT]
            if len(self._texts) > MOST_KEPT:
                del self._texts[next(iter(self._texts))]
        return mail.model_copy(update={"body": kept})

    async def sent_message(
        self, lead: Lead, channel: Channel, text: str, subject: str | None, since: datetime, known: frozenset[str]
    ) -> Message | None:
        """Return the newest such message; of e-mails the text of each that may be it is read, at a call each.

        A LinkedIn message that is queued (status `new`) counts: GetSales has it, and sends it by itself.
        """
        wanted = Wanted(lead.id, channel, text, subject, since, known)
        if channel == "linkedin":
            return wanted.newest([each async for each in self._since(MESSAGES, wanted, linkedin_of)])
        if channel != "email":
            return None
        mails = [each async for each in self._since(EMAILS, wanted, email_of)]
        for mail in sorted(mails, key=_when, reverse=True):
            body = mail.body or (await self._mail(mail.id)).body
            whole_one = mail.model_copy(update={"body": body})
            if wanted.reads(whole_one):
                return whole_one
        return None

    async def _mail(self, mail: str) -> Message:
        """Read one e-mail with its text."""
        found = email_of(record_in(await self._api.read("GET", at(EMAIL, mail))))
        refuse_other(mail, found.id)
        return found

    async def _since(
        self, path: str, wanted: Wanted, decode: Callable[[Mapping[str, Any]], Message]
    ) -> AsyncGenerator[Message]:
        """Yield the messages that may be the one that is wanted, those that came into the list last first.

        That is their order by `created_at`, when a message was queued or synced, which no message has from before it
        was sent. By `sent_at` one that waits in the queue has no place.
        """
        first, offset = whole_second(wanted.since), 0
        query = {"filter[lead_uuid]": wanted.lead}
        for _ in range(_RECALLED):
            answer = await self._api.read("GET", path, _newest(query, "created_at", PAGE, offset))
            rows = records(answer)
            for message in map(decode, rows):
                if wanted.may_be(message):
                    yield message
            made = [found for row in rows if (found := moment(row.get("created_at")))]
            if not more_after(answer, offset, len(rows)) or (made and min(made) < first):
                return
            offset += len(rows)

    async def _activity(
        self,
        fetch: Callable[[str, Slice], Any],
        shaped: Callable[[Any], Activity],
        lead: str,
        part: Slice,
        *,
        seen: dict[str, Message] | None = None,
    ) -> Page[Activity]:
        page: Page[Any] = await fetch(lead, part)
        if seen is not None:
            seen.update({each.id: each for each in page.items})
        return Page[Activity](items=tuple(map(shaped, page.items)), next=page.next)

    async def _notes(self, lead: str, part: Slice) -> Page[Note]:
        query = {"filter[object]": "lead", f"filter[{self._keys.note_lead}]": lead}
        return await self._part(NOTES, query, "created_at", part, note_of, lead)

    async def _linkedin(self, lead: str, part: Slice) -> Page[Message]:
        return await self._part(MESSAGES, {"filter[lead_uuid]": lead}, "sent_at", part, linkedin_of, lead)

    async def _emails(self, lead: str, part: Slice) -> Page[Message]:
        return await self._part(EMAILS, {"filter[lead_uuid]": lead}, "sent_at", part, email_of, lead)

    async def _part(
        self, path: str, query: Query, order: str, part: Slice, decode: Callable[[Mapping[str, Any]], Any], lead: str
    ) -> Page[Any]:
        """Return a part of a list that is filtered by lead.

        A filter that the vendor does not know may be ignored silently, so what is another lead's is taken out here.
        """
        offset = whole(part.position)
        answer = await self._api.read("GET", path, _newest(query, order, part.limit, offset))
        rows = records(answer)
        own = [item for item in map(decode, rows) if item.lead_id == lead]
        own.sort(key=_when, reverse=True)
        more = more_after(answer, offset, len(rows), part.limit)
        return Page[Any](items=tuple(own), next=str(offset + len(rows)) if more else None)

    async def _known(self, lead: str, page: Page[Any], part: Slice) -> None:
        """Raise NotFound for a lead that is not there: a list of nothing does not say it."""
        if not page.items and part.position is None:
            await self._lead_row(lead)


def _newest(query: Query, order: str, limit: int, offset: int) -> Query:
    return {**query, "limit": limit, "offset": offset, "order_field": order, "order_type": "desc"}


def _when(item: Note | Message) -> datetime:
    moment = item.occurred_at if isinstance(item, Note) else item.sent_at
    return moment or datetime.min.replace(tzinfo=UTC)
