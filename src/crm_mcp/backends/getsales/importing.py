"""Many leads at once: arrays where e-mail addresses tell who is new, upserts elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, ClassVar

from crm_mcp.address import address_key
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.getsales.finding import Before, full_name, joined
from crm_mcp.backends.getsales.records import EMAILS, handle, has_address, has_profile, parts
from crm_mcp.backends.getsales.wire import LEADS, PAGE, SEARCH, UPSERT, more_after, records
from crm_mcp.backends.getsales.writing import Leads, unidentified, unsubscribed
from crm_mcp.backends.people import IDENTIFYING, lifted_channels, refuse_lifting, unknown_person
from crm_mcp.backends.remote import record_in, rows_in, text
from crm_mcp.errors import (
    Busy,
    CrmError,
    Forbidden,
    InvalidArgument,
    OutcomeUnknown,
    PaymentRequired,
    TimedOut,
    Unauthorized,
    Unreachable,
    Unsupported,
    VendorError,
)
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, LeadDraft, LeadUpdate, fold

FEW = 25
"""Rows that are so few that each number is searched for."""
_MOST_PAGES = 5
"""Pages of leads with the e-mail domains of a batch that are read; beyond, each address is looked up."""
_STOPS = (Busy, Forbidden, PaymentRequired, TimedOut, Unauthorized, Unreachable)
"""What would stop every further row as well."""
_KNOWN = "GetSales has this person already"
_UNSURE = "not known whether it was imported: look for it before trying again"


@dataclass(frozen=True)
class Row:
    """A row as it goes out."""

    draft: LeadDraft
    list_id: str
    fields: dict[str, Any]
    values: dict[str, str | None]

    @property
    def profile(self) -> str | None:
        """The LinkedIn profile."""
        return text((self.draft.custom_fields or {}).get("linkedin"))

    @property
    def identities(self) -> list[str]:
        """What makes two rows one lead."""
        draft = self.draft
        given = (
            address_key(draft.email) if draft.email else None,
            draft.phone,
            handle(self.profile).casefold() if self.profile else None,
        )
        return [each for each in given if each]


@dataclass
class Batch:
    """One call: its rows, what was there before, and what became of each."""

    if_exists: IfExists
    rows: dict[int, Row] = field(default_factory=dict[int, Row])
    done: dict[int, ImportOutcome] = field(default_factory=dict[int, ImportOutcome])
    before: Before = field(default_factory=Before)
    made: set[str] = field(default_factory=set[str])
    """The ids of the leads that it made."""

    @property
    def open(self) -> dict[int, Row]:
        """The rows without an outcome."""
        return {index: row for index, row in self.rows.items() if index not in self.done}

    def fail(self, index: int, reason: str, lead: str | None = None) -> None:
        """Note that a row was not imported."""
        self.done[index] = ImportOutcome(outcome="failed", id=lead, reason=reason)

    def met(self, index: int, lead: str) -> None:
        """Note that the lead of a row was there."""
        if self.if_exists == "error":
            self.fail(index, _KNOWN, lead)
        else:
            outcome = "updated" if self.if_exists == "update" else "skipped"
            self.done[index] = ImportOutcome(outcome=outcome, id=lead)

    def answered(self, index: int, lead: Mapping[str, Any]) -> None:
        """Note the lead that the vendor answered a row with: new, or older than the batch."""
        key = str(lead["uuid"])
        if key in self.made or self.before.had(lead):
            self.met(index, key)
        else:
            self.done[index] = ImportOutcome(outcome="created", id=key)
            self.made.add(key)

    def stop(self, error: CrmError) -> None:
        """Leave the rest untried. Raises the error where nothing was written yet."""
        if not any(each.outcome in ("created", "updated") or each.reason == _UNSURE for each in self.done.values()):
            raise error
        for index in self.open:
            self.fail(index, f"not tried: {error}")


class Imports(ImportsLeads, Leads):
    """Imports by arrays and upserts."""

    import_size: ClassVar[int] = 100

    async def import_leads(self, rows: Seq[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows into their lists, else the connection's default list.

        What an array does with leads that are there is not documented, so in arrays go only rows that an e-mail address
        shows to be new: all leads with the e-mail domains of the batch are read before, or, where these fill more than
        five pages, each address is looked up. The other rows, and all with `update`, are upserts, one call a row: the
        vendor knows people by LinkedIn profile, e-mail address, or name and company, and its answer's `created_at` says
        whether the lead is older than the batch. Numbers are searched for in batches of at most 25 rows and for rows
        that have nothing else, at three calls each. An array that is refused goes row by row.
        """
        batch = Batch(if_exists)
        for index, row in enumerate(rows):
            try:
                batch.rows[index] = await self._ready(row)
            except (InvalidArgument, Unsupported) as error:
                batch.fail(index, str(error))
        twins = _twins(batch.rows) if if_exists != "update" else {}
        for index in twins:
            del batch.rows[index]
        try:
            await self._run(batch)
        except _STOPS as error:
            batch.stop(error)
        for index, first in twins.items():
            _follow(batch, index, batch.done[first])
        return tuple(batch.done[index] for index in range(len(rows)))

    async def _ready(self, row: ImportRow) -> Row:
        draft = self._normal(row.draft)
        if not any(getattr(draft, each) for each in IDENTIFYING):
            raise unknown_person()
        fields, values = await self.written(draft)
        return Row(draft, await self.list_id(draft.list), fields, values)

    async def _run(self, batch: Batch) -> None:
        if not batch.rows:
            return
        batch.before = await self._before()
        await self._by_number(batch)
        if batch.if_exists == "update":
            await self._keep_unsubscribed(batch)
        else:
            await self._by_email(batch)
            plain = {index: row for index, row in batch.open.items() if row.draft.email and not row.profile}
            for list_id in dict.fromkeys(row.list_id for row in plain.values()):
                await self._array(batch, list_id, {i: row for i, row in plain.items() if row.list_id == list_id})
        for index, row in batch.open.items():
            await self._upserted(batch, index, row)

    async def _by_number(self, batch: Batch) -> None:
        """Find the rows whose number a lead has, which is nothing that the vendor knows people by."""
        few = len(batch.rows) <= FEW
        for index, row in batch.open.items():
            draft = row.draft
            if not draft.phone or not (few or not (draft.email or row.profile)):
                continue
            found = await self.leads_at("sms", draft.phone)
            if len(found) > 1 and batch.if_exists == "update":
                batch.fail(index, f"its number belongs to several leads: {', '.join(each.id for each in found)}")
                continue
            if found and batch.if_exists == "update":
                fields = draft.model_dump(exclude_none=True, exclude={"list"})
                try:
                    await self.update_lead(found[0].id, LeadUpdate.model_validate(fields))
                except OutcomeUnknown:
                    batch.fail(index, _UNSURE, found[0].id)
                    continue
                except _STOPS:
                    raise
                except CrmError as error:
                    batch.fail(index, str(error), found[0].id)
                    continue
            if found:
                batch.met(index, found[0].id)

    async def _keep_unsubscribed(self, batch: Batch) -> None:
        """Refuse the rows that would take the flag from a lead: a custom one, or, by a new address, `unsubscribed`.

        Who has unsubscribed is read before, in at most five pages; where they are more, or can't be asked for, the lead
        of each row is looked for.
        """
        gone = await self._unsubscribed() if any(row.draft.email for row in batch.open.values()) else []
        for index, row in batch.open.items():
            look = lifted_channels(row.values) or (gone is None and row.draft.email)
            leads = await self._same(row.draft, by_name=True) if look else []
            if gone is None:
                gone_here = [each for each in leads if "email" in (each.do_not_contact or ())]
            else:
                gone_here = await self._leads([each for each in gone if _means(row, parts(each)[0])])
            try:
                for lead in leads:
                    refuse_lifting(lead, row.values)
                for lead in gone_here:
                    if row.draft.email not in (None, lead.email):
                        raise unsubscribed(lead)
            except InvalidArgument as error:
                batch.fail(index, str(error))

    async def _unsubscribed(self) -> list[dict[str, Any]] | None:
        """Return the leads that have unsubscribed, as the vendor has them; None where they can't all be read."""
        found: list[dict[str, Any]] = []
        for _ in range(_MOST_PAGES):
            order = {"order_field": "created_at", "order_type": "asc"}
            body = {"filter": {"email_status": "unsubscribed"}, "limit": PAGE, "offset": len(found), **order}
            try:
                answer = await self._api.read("POST", SEARCH, body=body)
            except (InvalidArgument, VendorError):
                return None
            rows = records(answer)
            more = more_after(answer, len(found), len(rows))
            found += rows
            if not more:
                return [each for each in found if parts(each)[0].get("email_status") == "unsubscribed"]
        return None

    async def _by_email(self, batch: Batch) -> None:
        """Find the rows whose e-mail address a lead has."""
        wanted = {address_key(row.draft.email): index for index, row in batch.open.items() if row.draft.email}
        known = await self._at_domains(sorted({each.rpartition("@")[2] for each in wanted})) if wanted else {}
        for address, index in wanted.items():
            if known is None:
                row = await self._looked_up(email=address)
                lead = parts(row)[0] if row else None
                found = str(lead["uuid"]) if lead and has_address(lead, address) else None
            else:
                found = known.get(address)
            if found:
                batch.met(index, found)

    async def _at_domains(self, domains: Seq[str]) -> dict[str, str] | None:
        """Return the leads with these e-mail domains by address; None where they are too many to read."""
        found: dict[str, str] = {}
        offset = 0
        for _ in range(_MOST_PAGES):
            order = {"order_field": "created_at", "order_type": "asc"}
            body = {"filter": {"work_email_domain": domains}, "limit": PAGE, "offset": offset, **order}
            answer = await self._api.read("POST", SEARCH, body=body)
            rows = records(answer)
            for lead in (parts(row)[0] for row in rows):
                found |= {address_key(each): str(lead["uuid"]) for name in EMAILS if (each := text(lead.get(name)))}
            if not more_after(answer, offset, len(rows)):
                return found
            offset += len(rows)
        return None

    async def _array(self, batch: Batch, list_id: str, rows: Mapping[int, Row]) -> None:
        """Create leads in one call; where it is refused as a whole, the rows stay open."""
        leads = [{**row.fields, **({"custom_fields": row.values} if row.values else {})} for row in rows.values()]
        try:
            answer = await self._api.write("POST", LEADS, {"list_uuid": list_id, "leads": leads}, bulk=True)
            made = [parts(record_in(each))[0] for each in rows_in(answer)]
        except InvalidArgument:
            return
        except (OutcomeUnknown, VendorError):
            for index in rows:
                batch.fail(index, _UNSURE)
            return
        # What came back without an address may be any of the rows.
        told = len(made) < len(rows) and all(any(text(each.get(name)) for name in EMAILS) for each in made)
        for index, row in rows.items():
            lead = next((each for each in made if row.draft.email and has_address(each, row.draft.email)), None)
            if lead is None:
                batch.fail(index, "GetSales did not take it" if told else _UNSURE)
            else:
                batch.answered(index, lead)

    async def _upserted(self, batch: Batch, index: int, row: Row) -> None:
        update = batch.if_exists == "update"
        body = {"lead": row.fields, "list_uuid": row.list_id, "update_if_exists": update, "move_to_list": False}
        try:
            answer = await self._api.write(
                "POST", UPSERT, {**body, **({"custom_fields": row.values} if row.values else {})}
            )
            batch.answered(index, parts(record_in(answer))[0])
        except InvalidArgument as error:
            found = [] if update else await self._same(row.draft, by_name=True)
            if found:
                batch.met(index, found[0].id)
            else:
                batch.fail(index, str(unidentified(row.draft, error) or error))
        except (OutcomeUnknown, VendorError):
            batch.fail(index, _UNSURE)
        except _STOPS:
            raise
        except CrmError as error:
            batch.fail(index, str(error))


def _means(row: Row, lead: Mapping[str, Any]) -> bool:
    """Whether an upsert of a row may be of this lead: by its profile, an address, or its name and company."""
    draft = row.draft
    name, company = full_name(draft), draft.company
    return bool(
        (row.profile and has_profile(lead, row.profile))
        or (draft.email and has_address(lead, draft.email))
        or (name and company and (fold(name), fold(company)) == _known_as(lead))
    )


def _known_as(lead: Mapping[str, Any]) -> tuple[str, str]:
    name = text(lead.get("name")) or joined(text(lead.get("first_name")), text(lead.get("last_name")))
    return fold(name or ""), fold(text(lead.get("company_name")) or "")


def _twins(rows: Mapping[int, Row]) -> dict[int, int]:
    """Return the rows that are an earlier one's lead, each with the first."""
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for index, row in rows.items():
        earlier = next((first[each] for each in row.identities if each in first), None)
        if earlier is not None:
            found[index] = earlier
        for each in row.identities:
            first.setdefault(each, index if earlier is None else earlier)
    return found


def _follow(batch: Batch, index: int, first: ImportOutcome) -> None:
    """Note what became of a row that is an earlier one's lead."""
    if first.id is None:
        batch.fail(index, f"an earlier row has this address, number or profile, and failed: {first.reason}")
    else:
        batch.met(index, first.id)
