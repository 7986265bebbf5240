"""Contacts: found, created, changed, moved through the stages, deleted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, ClassVar

from crm_mcp.backends.base import FindsLeads, ListsOptions, MovesLeads, WritesLeads
from crm_mcp.backends.deleting import DeletesAtPaths
from crm_mcp.backends.http import after_write
from crm_mcp.backends.identity import find_same, person_of, refuse_other_person, refuse_same, refuse_there
from crm_mcp.backends.kept import Kept
from crm_mcp.backends.lead_fields import readdressed
from crm_mcp.backends.lists import as_row, window
from crm_mcp.backends.refusals import refuse_filters, refuse_sort, unknown
from crm_mcp.backends.remote import Access, key_of, record_if_shown, text
from crm_mcp.backends.salespulse.api import CONTACT, CONTACTS, MOST_PAGES, PAGE, STAGE, STAGES, VERBS, SalesPulseApi
from crm_mcp.backends.salespulse.codec import NAME, Names, body_of, changes_of, identity, lead_of, needs_names
from crm_mcp.backends.salespulse.keys import WORDS
from crm_mcp.channels import Channel
from crm_mcp.errors import OutcomeUnknown, Unsupported
from crm_mcp.model import Lead, LeadDraft, LeadFilter, LeadUpdate, Option, OptionKind, Page, RecordKind, Slice

STAGES_KEPT = 60.0
"""Seconds for which the list of stages is not read again."""


class SalesPulseLeads(FindsLeads, WritesLeads, MovesLeads, ListsOptions, DeletesAtPaths, SalesPulseApi):
    """Leads are contacts; what a contact has beyond the fields of a lead are its custom fields, at the top level."""

    lead_filters: ClassVar[frozenset[str]] = frozenset({"query"})
    lead_sorts: ClassVar[tuple[str, ...]] = ("-created_at",)
    """The reference has no parameter for an order: this one is the vendor's own, and inferred."""
    option_kinds: ClassVar[tuple[OptionKind, ...]] = ("stages",)
    deletes: ClassVar[frozenset[RecordKind]] = frozenset({"lead"})
    record_paths: ClassVar[Mapping[RecordKind, str]] = {"lead": CONTACT}
    shows_deleted: ClassVar[bool] = True

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._stages = Kept(self._read_stages, STAGES_KEPT)

    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        """Find contacts by text, in the vendor's own order; its search may be fuzzy: its hits are given as they are."""
        refuse_filters(NAME, "leads", wanted, self.lead_filters)
        refuse_sort(wanted.sort, self.lead_sorts)
        page = await window(partial(self._contacts, wanted.query), as_row, part, PAGE)
        leads = await self._leads([each.row for each in page.items])
        return Page[Lead](items=tuple(leads), next=page.next, total=page.total)

    async def get_lead(self, lead: str) -> Lead:
        """Read one contact."""
        return await self._lead(await self._contact(lead))

    async def leads_at(self, channel: Channel, address: str) -> tuple[Lead, ...]:
        """Return those of a search's hits that have exactly this address or number, which is searched for in several
        forms: how SalesPulse keeps and searches numbers is not documented."""
        return await self._searched_at(channel, address, self._hits)

    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create a contact, after a search for its address and number: the vendor is not known to refuse a second one.

        `company` and `title` are not in the reference; they are passed on, as custom fields are.
        """
        body = body_of(draft, self._keys, self._access.country)
        draft = readdressed(draft, body)
        there = await refuse_same(self, draft)
        self._writes += 1
        answer = await self._api.write("POST", CONTACTS, body)
        with after_write():
            row = record_if_shown(answer, "contact")
            if lead := key_of(row):
                refuse_there(lead, there)
                new = await (self._lead(row) if body.keys() <= row.keys() else self.get_lead(lead))
                refuse_other_person(draft, person_of(new))
                return new
            if made := await find_same(self, draft):
                refuse_there(made.id, there)
                return made
        raise OutcomeUnknown(f"{NAME} took the lead and did not say its id", "look for it with search_leads")

    async def update_lead(self, lead: str, change: LeadUpdate) -> Lead:
        """Change a contact (PATCH, found in a public capture of the reference): only what differs is sent.

        A field is emptied by null, which is inferred.
        """
        row = await self._contact(lead)
        before = await self._lead(row)
        body = changes_of(change, before, row, self._keys, self._access.country)
        if not body:
            return before
        await refuse_same(self, readdressed(change, body), before)
        self._writes += 1
        shown = await self._written_to("PATCH", CONTACT, lead, "lead", "contact", body)
        emptied = {name for name, value in body.items() if value is None}
        with after_write():
            return await self._as_it_is(shown, before.id, (row.keys() | body.keys()) - emptied)

    async def move_lead(self, lead: str, stage: str) -> Lead:
        """Move a contact to a stage. The verb of the path is not known: PATCH, and after a 405 alone PUT and POST."""
        stages = await self._stages.get()
        if stage not in [each.id for each in stages]:
            raise unknown("stage", stage, [each.name for each in stages])
        row: dict[str, Any] = {}
        for verb in (verbs := sorted(VERBS, key=lambda each: each != self._verb)):
            try:
                row = await self._written_to(verb, STAGE, lead, "lead", "contact", {self._keys.stage: stage})
            except Unsupported:  # 405: nothing was done
                if verb == verbs[-1]:
                    raise
            else:
                self._verb = verb
                break
        with after_write():
            return await self._as_it_is(row, lead, WORDS, staged=True)

    async def _existing(self, kind: RecordKind, record: str) -> object:
        del kind
        return await self._contact(record)

    async def list_options(self, kind: OptionKind) -> tuple[Option, ...]:
        """List the stages, in the vendor's order."""
        if kind != "stages":
            raise Unsupported(f"{NAME} has no {kind} that its API could list", "it has stages")
        return await self._stages.get(anew=True)

    async def _read_stages(self) -> tuple[Option, ...]:
        rows, _ = await self._rows(STAGES, "stages", {})
        found = [(identity(row), text(row.get("name"))) for row in rows]
        return tuple(Option(id=stage, name=name or stage, of="leads") for stage, name in found)

    async def _hits(self, words: str) -> AsyncGenerator[list[Lead]]:
        """Yield the contacts that a search finds, page by page: at most ten of these."""
        async with aclosing(self._pages(words, MOST_PAGES)) as pages:
            async for page in pages:
                yield await self._leads(page.rows)

    async def _names(self, rows: Iterable[Mapping[str, Any]]) -> Names:
        """Return the names of the stages, if a record has a stage by its id."""
        wanted = any(needs_names(row, self._keys) for row in rows)
        return {each.id: each.name for each in await self._stages.get()} if wanted else {}

    async def _leads(self, rows: Sequence[Mapping[str, Any]]) -> list[Lead]:
        names = await self._names(rows)
        return [lead_of(row, self._keys, names, self.number) for row in rows]

    async def _lead(self, row: Mapping[str, Any]) -> Lead:
        return (await self._leads([row]))[0]

    async def _as_it_is(self, row: dict[str, Any], lead: str, known: Iterable[str], *, staged: bool = False) -> Lead:
        """Return a lead after a write: as it was shown, if that has all that is `known` of the record, else read."""
        whole = key_of(row) == lead and set(known) <= row.keys()
        if whole and (not staged or row.get(self._keys.stage) or row.get(self._keys.stage_shown)):
            return await self._lead(row)
        return await self.get_lead(lead)
