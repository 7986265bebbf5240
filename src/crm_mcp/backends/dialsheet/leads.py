"""Leads: found, created, changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from crm_mcp.backends.base import FindsLeads, WritesLeads
from crm_mcp.backends.dialsheet.sheet import LEAD, LEADS, PAGE, Sheet, told, whole_answer
from crm_mcp.backends.http import after_write, at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.identity import find_same, person_of, refuse_other_person, refuse_same, refuse_there
from crm_mcp.backends.lead_fields import addresses_in, unknown_person
from crm_mcp.backends.opt_out_fields import refuse_lifting
from crm_mcp.backends.remote import ONE_CUSTOM, refuse_clearing, text, ways_to_write, window
from crm_mcp.channels import Channel
from crm_mcp.errors import (
    InvalidArgument,
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
_MOST_AT_ADDRESS = 10


class DialsheetLeads(FindsLeads, WritesLeads, Sheet):
    """Leads. A lead has one name, a company as a string, and a status; tags can't be put on it (documented absence)."""

    lead_filters: ClassVar[frozenset[str]] = frozenset({"query", "status"})
    lead_sorts: ClassVar[tuple[str, ...]] = ("-created_at",)

    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        """Find leads by words and status, in Dialsheet's own order: it documents none and can't be asked for one."""
        for name in wanted.model_fields_set - {"sort"}:
            if getattr(wanted, name) is not None and name not in self.lead_filters:
                raise Unsupported(f"dialsheet can't filter leads by {name}", "it can by query, status")
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
        if channel == "linkedin" or not address.strip():
            return ()
        found: dict[str, Lead] = {}
        for words in [address] if channel == "email" else ways_to_write(address):
            for lead in await self._searched(words):
                if self.same_address(lead.address(channel), address):
                    found[lead.id] = lead
        return tuple(found.values())[:_MOST_AT_ADDRESS]

    async def _searched(self, words: str) -> list[Lead]:
        found: list[Lead] = []
        for number in range(1, _MOST_PAGES + 1):
            rows, total = await self._leads_page({"search": words}, number, PAGE)
            found.extend(map(self._records.lead, rows))
            if not rows or (len(found) >= total if total is not None else len(rows) < PAGE):
                break
        return found

    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create one. Dialsheet has no upsert: of two creations at the same moment neither sees the other.

        `custom_fields` go to the top level under their own names. A field that the vendor did not keep is a
        `VendorError` that says so.
        """
        body = self._new(draft)
        there = await refuse_same(self, draft.model_copy(update=addresses_of(body)))
        made = await self._post(body)
        refuse_there(made.id, there)
        return made

    async def update_lead(self, lead: str, change: LeadUpdate) -> Lead:
        """Change one; sends what changes alone. Fields are emptied with null, which is inferred."""
        if change.clear or change.custom_fields or change.email or change.phone:
            before = await self.get_lead(lead)
            body = self._changes(change, before)
            await refuse_same(self, change.model_copy(update=addresses_of(body)), before)
        else:
            before, body = None, self._changes(change, None)
        return await self._put(lead, body) if body else before or await self.get_lead(lead)

    def _new(self, draft: LeadDraft) -> dict[str, Any]:
        """Return what a new lead is sent as. Raises InvalidArgument where nothing says who it is."""
        body = self._body(draft, new=True)
        if not any(body.get(name) for name in IDENTIFYING):
            raise unknown_person()
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
        for each in change.clear:
            if each == "custom_fields":
                body |= dict.fromkeys(custom)
            elif each.startswith(ONE_CUSTOM):
                body |= {name: None for name in custom if name == each.removeprefix(ONE_CUSTOM)}
            elif getattr(before, each) is not None:
                body[self._keys.lead_title if each == "title" else each] = None
        if change.clear and not any(body.get(name, getattr(before, name)) for name in IDENTIFYING):
            raise unknown_person()
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
        for name in UNHELD:
            if getattr(fields, name) is not None:
                raise Unsupported(f"dialsheet can't keep {name} of a lead", f"it keeps {', '.join(HELD)}", wrote=False)
        for name in fields.custom_fields or {}:
            if name in self._records.lead_fields:
                raise InvalidArgument(f'"{name}" is no custom field', f"{name} is a field of its own", wrote=False)
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
                made = await find_same(self, LeadFields(name=body.get("name"), **addresses_of(body)))
            if made is None:
                what = "Dialsheet took the lead and did not say which record it made"
                raise OutcomeUnknown(what, "look for it with search_leads")
            lead = made.id
        made = await self._as_written(lead, body, record)
        refuse_other_person(LeadFields(name=body.get("name"), **addresses_of(body)), person_of(made))
        return made

    async def _put(self, lead: str, body: dict[str, Any]) -> Lead:
        """Change a lead by fields that are checked."""
        answer = await self._api.write("PUT", at(LEAD, lead), body, missing=f'there is no lead "{lead[:80]}"')
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


def addresses_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the address and the number of what is sent, in their normal forms."""
    return {"email": body.get("email"), "phone": body.get("phone")}


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
