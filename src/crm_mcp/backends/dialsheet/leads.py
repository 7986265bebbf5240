"""Leads: found, created, changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar

from crm_mcp.backends.base import FindsLeads, WritesLeads
from crm_mcp.backends.dialsheet.api import LEAD, LEADS, DialsheetApi, told, whole_answer
from crm_mcp.backends.http import after_write, at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.identity import find_same, person_of, refuse_other_person, refuse_same, refuse_there
from crm_mcp.backends.lead_fields import addresses_in, readdressed, refuse_nobody, refuse_taken, refuse_unheld
from crm_mcp.backends.lists import window
from crm_mcp.backends.opt_out_fields import refuse_lifting
from crm_mcp.backends.refusals import no_record, refuse_filters
from crm_mcp.backends.remote import emptied, refuse_clearing, text
from crm_mcp.channels import Channel
from crm_mcp.errors import (
    OutcomeUnknown,
    Unsupported,
)
from crm_mcp.model import Lead, LeadDraft, LeadFields, LeadFilter, LeadUpdate, Page, Slice, fold

HELD = ("name", "email", "phone", "company", "title", "status", "custom_fields")
"""What can be written of a lead, and emptied; all but the last two names and `title` are documented."""
UNHELD = ("owner", "tags", "list")
IDENTIFYING = ("name", "email", "phone", "company")
_MOST_PAGES = 5
"""Pages of a search that are looked through for an exact address."""


class DialsheetLeads(FindsLeads, WritesLeads, DialsheetApi):
    """Leads. A lead has one name, a company as a string, and a status; tags can't be put on it (documented absence)."""

    lead_filters: ClassVar[frozenset[str]] = frozenset({"query", "status"})
    lead_sorts: ClassVar[tuple[str, ...]] = ("-created_at",)

    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        """Find leads by words and status, in Dialsheet's own order: it documents none and can't be asked for one."""
        refuse_filters(self.called, "leads", wanted, self.lead_filters)
        if wanted.sort and wanted.sort not in self.lead_sorts:
            raise Unsupported("dialsheet can't sort leads", f"valid: {', '.join(self.lead_sorts)}, its own order")
        query = {"search": wanted.query or None, "status": wanted.status or None}
        return await window(lambda number, size: self._leads_page(query, number, size), self._records.lead, part)

    async def get_lead(self, lead: str) -> Lead:
        """Read one lead."""
        return self._records.lead(await self._lead_record(lead))

    async def leads_at(self, channel: Channel, address: str) -> tuple[Lead, ...]:
        """Return the leads that have exactly this address, out of what the search finds (at most 500 rows a way).

        A number is looked for as E.164, by its national digits, and by its last four: how Dialsheet keeps and searches
        numbers is not documented, and the example has dashes.
        """
        return await self._searched_at(channel, address, self._hits) if address.strip() else ()

    async def _hits(self, words: str) -> AsyncGenerator[list[Lead]]:
        yield await self._searched(words)

    async def _searched(self, words: str) -> list[Lead]:
        """Return the leads that a search finds, of its first five pages."""
        return list(map(self._records.lead, (await self._leads_read({"search": words}, _MOST_PAGES)).rows))

    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create one. Dialsheet has no upsert: of two creations at the same moment neither sees the other.

        `custom_fields` go to the top level under their own names. A field that the vendor did not keep is a
        `VendorError` that says so.
        """
        body = self._new(draft)
        there = await refuse_same(self, readdressed(draft, body))
        made = await self._post(body)
        refuse_there(made.id, there)
        return made

    async def update_lead(self, lead: str, change: LeadUpdate) -> Lead:
        """Change one; sends what changes alone. Fields are emptied with null, which is inferred."""
        if change.clear or change.custom_fields or change.email or change.phone:
            before = await self.get_lead(lead)
            body = self._changes(change, before)
            await refuse_same(self, readdressed(change, body), before)
        else:
            before, body = None, self._changes(change, None)
        return await self._put(lead, body) if body else before or await self.get_lead(lead)

    def _new(self, draft: LeadDraft) -> dict[str, Any]:
        """Return what a new lead is sent as. Raises InvalidArgument where nothing says who it is."""
        body = self._body(draft, new=True)
        refuse_nobody(body, IDENTIFYING)
        return body | {name: value for name, value in (draft.custom_fields or {}).items() if value is not None}

    def _changes(self, change: LeadUpdate, before: Lead | None) -> dict[str, Any]:
        """Return what changes in a lead; `before` is there where fields are emptied or custom fields given.

        Raises:
            InvalidArgument: a field can't be cleared, nothing would be left to know the lead by, or a flag says that it
                must not be contacted, and would not any more.
        """
        body = self._body(change, new=False)
        custom = (before.custom_fields if before else None) or {}
        given = change.custom_fields or {}
        refuse_clearing({**change.model_dump(), "name": body.get("name")}, change.clear, HELD)
        there = [each for each in change.clear if getattr(before, each, True) is not None]
        body |= emptied(there, custom, lambda name: self._keys.lead_title if name == "title" else name)
        if change.clear:
            refuse_nobody({name: body.get(name, getattr(before, name)) for name in IDENTIFYING}, IDENTIFYING)
        body |= {name: value for name, value in given.items() if value != custom.get(name)}
        if before:
            refuse_lifting(before, body)
        return body

    def _body(self, fields: LeadFields, *, new: bool) -> dict[str, Any]:
        """Return what is given, but custom fields, as Dialsheet's fields.

        Raises:
            Unsupported: a field that it can't hold is among them.
            InvalidArgument: an address is none, or a custom field has the name of another field.
        """
        refuse_unheld(fields, UNHELD, "dialsheet can't keep {name} of a lead", f"it keeps {', '.join(HELD)}")
        refuse_taken(fields, self._records.lead_fields)
        email, phone = addresses_in(fields, self._access.country)
        body: dict[str, Any] = {
            "name": _one_name(fields, new=new),
            "email": email,
            "phone": phone,
            "company": fields.company,
            "status": fields.status,
            self._keys.lead_title: fields.title,
        }
        return {name: value for name, value in body.items() if value is not None}

    async def _post(self, body: dict[str, Any]) -> Lead:
        """Create a lead whose fields are checked."""
        record = told(await self._api.write("POST", LEADS, body), "lead")
        lead = text(record.get("id"))
        if lead is None:
            # It was taken, and no id was told: the lead is the one that has the address now.
            with after_write():
                made = await find_same(self, readdressed(LeadFields(name=body.get("name")), body))
            if made is None:
                what = "Dialsheet took the lead and did not say which record it made"
                raise OutcomeUnknown(what, "look for it with search_leads")
            lead = made.id
        made = await self._as_written(lead, body, record)
        refuse_other_person(readdressed(LeadFields(name=body.get("name")), body), person_of(made))
        return made

    async def _put(self, lead: str, body: dict[str, Any]) -> Lead:
        """Change a lead by fields that are checked."""
        answer = await self._api.write("PUT", at(LEAD, lead), body, missing=no_record("lead", lead))
        record = told(answer, "lead")
        refuse_written_other(lead, text(record.get("id")))
        return await self._as_written(lead, body, record)

    async def _as_written(self, lead: str, body: Mapping[str, Any], record: dict[str, Any]) -> Lead:
        """Return a lead as it is now: from the answer where that has it all, else read again."""
        with after_write():
            if not whole_answer(record, body):
                record = await self._lead_record(lead)
            documented = ("name", "email", "phone", "company", "status")
            inferred = [name for name, value in body.items() if name not in documented or value is None]
            self._refuse_unkept(body, record, inferred)
            return self._records.lead(record)


def _one_name(fields: LeadFields, *, new: bool) -> str | None:
    """Return the one name that Dialsheet has for a person.

    Raises:
        Unsupported: first and last name say something that it does not hold.
    """
    parts = [each for each in (fields.first_name, fields.last_name) if each]
    if fields.name:
        if lost := [each for each in parts if fold(each) not in fold(fields.name)]:
            raise Unsupported(
                f'dialsheet keeps one name, and "{fields.name}" does not have {", ".join(lost)}',
                "give the whole name as name",
                wrote=False,
            )
        return fields.name
    if len(parts) == 1 and not new:
        raise Unsupported(
            "dialsheet keeps one name of a person", "give name, or first_name and last_name together", wrote=False
        )
    return " ".join(parts) or None
