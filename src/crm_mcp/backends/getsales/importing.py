"""Many leads at once: arrays where e-mail addresses tell who is new, upserts elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from crm_mcp.address import known_profile
from crm_mcp.backends.getsales.api import LEADS, PAGE, SEARCH, UPSERT, more_after, records
from crm_mcp.backends.getsales.codec import EMAILS, Before, has_address, parts, unidentified
from crm_mcp.backends.getsales.leads import GetSalesLeads
from crm_mcp.backends.identity import People, Person, refuse_other_person
from crm_mcp.backends.import_engine import UNSURE, Batch, ImportEngine, Item, change_of
from crm_mcp.backends.lead_fields import IDENTIFYING, unknown_person
from crm_mcp.backends.remote import record_in, rows_in, text
from crm_mcp.errors import InvalidArgument, OutcomeUnknown, VendorError
from crm_mcp.model import ImportOutcome, Lead, LeadDraft
from crm_mcp.text import in_quotes

FEW = 25
"""Rows that are so few that each number is searched for."""
_MOST_PAGES = 5
"""Pages of leads with the e-mail domains of a batch that are read; beyond, each address is looked up."""


@dataclass(frozen=True)
class Body:
    """A row as it goes out."""

    list_id: str
    fields: dict[str, Any]
    values: dict[str, str | None]

    @property
    def custom(self) -> dict[str, Any]:
        """The custom values, where there are any."""
        return {"custom_fields": self.values} if self.values else {}


@dataclass
class Answers:
    """What tells whether a lead that the vendor answers with is new."""

    before: Before
    made: set[str] = field(default_factory=set[str])
    """The ids of the leads that were made since."""

    def was_there(self, lead: Mapping[str, Any]) -> bool:
        """Whether a lead was there; it is from now on."""
        key = str(lead["uuid"])
        there = key in self.made or self.before.had(lead)
        self.made.add(key)
        return there


class GetSalesImports(GetSalesLeads, ImportEngine):
    """Imports by arrays and upserts.

    What an array does with leads that are there is not documented, so in arrays go only rows that an e-mail address
    shows to be new, and none with `update`: all leads with the e-mail domains of the batch are read before, or, where
    these fill more than five pages, each address is looked up. Other new rows are upserts that must not update, one
    call a row: the vendor knows people by LinkedIn profile, e-mail address, or name and company, and its answer's
    `created_at` says whether the lead is older than the batch. Whoever is there is changed by id, as `update_lead` does
    it, and never by an upsert, which could take somebody else for them. Numbers are searched for in batches of at most
    25 rows and for rows that have nothing else, at three calls each. An array that is refused goes row by row.
    """

    import_size: ClassVar[int] = 100
    plan_size: ClassVar[int] = 1_000

    async def _prepared(self, draft: LeadDraft) -> tuple[LeadDraft, Body]:
        normal = self._normal(draft)
        if not any(getattr(normal, each) for each in IDENTIFYING):
            raise unknown_person()
        fields, values = await self.written(normal)
        return normal, Body(await self.list_id(normal.list), fields, values)

    def _readable(self, draft: LeadDraft) -> tuple[LeadDraft, str | None]:
        """Leave out what is no LinkedIn profile: the rest of the row says who it is."""
        custom = dict(draft.custom_fields or {})
        given = text(custom.get("linkedin"))
        if not given or known_profile(given):
            return draft, None
        del custom["linkedin"]
        said = f"LinkedIn profile left out: {in_quotes(given, 80)} is none of a person"
        return draft.model_copy(update={"custom_fields": custom or None}), said

    def _person(self, draft: LeadDraft) -> Person:
        return self.person(draft)

    def _person_of(self, lead: Lead) -> Person:
        return self.person(lead)

    async def _people_among(self, items: Seq[Item]) -> People:
        wanted = sorted({each for item in items for each in item.person.emails})
        domains = sorted({each.rpartition("@")[2] for each in wanted})
        rows = await self._at_domains(domains) if domains else []
        if rows is None:
            looked = [await self._looked_up(email=each) for each in wanted]
            rows = [each for each in looked if each]
        leads = [*await self._leads(rows)]
        few = len(items) <= FEW
        numbers = {
            item.draft.phone: None
            for item in items
            if item.draft.phone and (few or not (item.person.emails or item.person.profile))
        }
        for number in numbers:
            leads += await self.leads_at("sms", number)
        return People(replace(self.person(each), record=each) for each in leads)

    async def _at_domains(self, domains: Seq[str]) -> list[Any] | None:
        """Return the leads with these e-mail domains; None where they are too many to read."""
        found: list[Any] = []
        for _ in range(_MOST_PAGES):
            order = {"order_field": "created_at", "order_type": "asc"}
            body = {"filter": {"work_email_domain": domains}, "limit": PAGE, "offset": len(found), **order}
            answer = await self._api.read("POST", SEARCH, body=body)
            rows = records(answer)
            more = more_after(answer, len(found), len(rows))
            found += rows
            if not more:
                return found
        return None

    async def _write(self, batch: Batch, items: Seq[Item]) -> None:
        await self._each(batch, [each for each in items if each.known], self._update_known)
        new = [each for each in items if each.known is None]
        if not new:
            return
        answers = Answers(await self._before())
        plain = [each for each in new if each.person.emails and not each.person.profile]
        plain = [] if batch.if_exists == "update" else plain
        for list_id in dict.fromkeys(each.body.list_id for each in plain):
            await self._array(batch, [each for each in plain if each.body.list_id == list_id], answers)

        async def upsert(batch: Batch, item: Item) -> ImportOutcome:
            return await self._upserted(batch, item, answers)

        await self._each(batch, [each for each in new if each.place not in batch.done], upsert)

    async def _update_known(self, batch: Batch, item: Item) -> ImportOutcome:
        del batch
        assert item.known is not None
        await self.update_lead(item.known.id, change_of(item.draft))
        return ImportOutcome(outcome="updated", id=item.known.id)

    async def _array(self, batch: Batch, items: Seq[Item], answers: Answers) -> None:
        """Create leads in one call; where it is refused as a whole, the rows stay open."""
        leads = [{**each.body.fields, **each.body.custom} for each in items]
        try:
            body = {"list_uuid": items[0].body.list_id, "leads": leads}
            answer = await self._api.write("POST", LEADS, body, bulk=True)
            made = [record_in(each) for each in rows_in(answer)]
            found = [parts(each)[0] for each in made]
        except InvalidArgument:
            return
        except (OutcomeUnknown, VendorError):
            for each in items:
                batch.fail(each, UNSURE)
            return
        # What came back without an address may be any of the rows.
        told = len(found) < len(items) and all(any(text(each.get(name)) for name in EMAILS) for each in found)
        for item in items:
            email = item.draft.email or ""
            row = next((row for row, lead in zip(made, found, strict=True) if has_address(lead, email)), None)
            if row is None:
                batch.fail(item, "GetSales did not take it" if told else UNSURE)
            else:
                batch.done[item.place] = await self._answered(batch, item, row, answers)

    async def _upserted(self, batch: Batch, item: Item, answers: Answers) -> ImportOutcome:
        row: Body = item.body
        body = {"lead": row.fields, "list_uuid": row.list_id, "update_if_exists": False, "move_to_list": False}
        try:
            answer = await self._api.write("POST", UPSERT, {**body, **row.custom})
            made = record_in(answer)
            parts(made)
        except InvalidArgument as error:
            found = await self._alike(item.draft, by_name=True)
            if found:
                return await self._met(batch, item, found[0])
            raise unidentified(item.draft, error) or error from None
        except VendorError as error:
            raise OutcomeUnknown(str(error), detail=error.detail) from None
        return await self._answered(batch, item, made, answers)

    async def _answered(self, batch: Batch, item: Item, row: dict[str, Any], answers: Answers) -> ImportOutcome:
        """Return what became of a row that the vendor answered with a lead: new, or older than this call."""
        lead = parts(row)[0]
        if not answers.was_there(lead):
            refuse_other_person(item.draft, self._person_shown(row))
            return ImportOutcome(outcome="created", id=str(lead["uuid"]))
        return await self._met(batch, item, (await self._leads([row]))[0])
