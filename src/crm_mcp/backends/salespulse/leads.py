"""Contacts: found, created, changed, moved through the stages, deleted."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar

from crm_mcp.backends.base import DeletesRecords, FindsLeads, ListsOptions, MovesLeads, WritesLeads
from crm_mcp.backends.http import Method, after_write, at
from crm_mcp.backends.http_errors import refuse_other, refuse_written_other
from crm_mcp.backends.identity import find_same, person_of, refuse_other_person, refuse_same, refuse_there
from crm_mcp.backends.remote import (
    Access,
    Remote,
    overridden,
    record_in,
    rows_in,
    text,
    total_in,
    ways_to_write,
    window,
)
from crm_mcp.backends.salespulse.bodies import body_of, changes_of
from crm_mcp.backends.salespulse.shapes import NAME, WORDS, Keys, Names, identified, key_of, lead_of, needs_names
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, OutcomeUnknown, SettingsError, Unsupported, choices
from crm_mcp.model import Lead, LeadDraft, LeadFilter, LeadUpdate, Option, OptionKind, Page, RecordKind, Slice

PAGE = 100
"""Contacts that are asked for at once; the reference gives no maximum, a smaller one of the vendor's is borne."""
MOST_AT_ADDRESS = 10
MOST_HITS = 10
"""Pages of a search that are looked through for an address."""
MOST_PAGES = 10
"""Pages of calls or of deals that are read for one answer."""
STAGES_KEPT = 60.0
"""Seconds for which the list of stages is not read again."""
VERBS: tuple[Method, ...] = ("PATCH", "PUT", "POST")
"""Of a stage move, in the order in which they are tried."""


class SalesPulseLeads(FindsLeads, WritesLeads, MovesLeads, DeletesRecords, ListsOptions, Remote):
    """Leads are contacts; what a contact has beyond the fields of a lead are its custom fields, at the top level."""

    lead_filters: ClassVar[frozenset[str]] = frozenset({"query"})
    lead_sorts: ClassVar[tuple[str, ...]] = ("-created_at",)
    """The reference has no parameter for an order: this one is the vendor's own, and inferred."""
    option_kinds: ClassVar[tuple[OptionKind, ...]] = ("stages",)
    deletes: ClassVar[frozenset[RecordKind]] = frozenset({"lead"})

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._keys = overridden(Keys(), access.keys, self.vendor)
        if self._keys.stage_verb not in VERBS:
            given = self._keys.stage_verb
            raise SettingsError(f'keys of {self.vendor}: stage_verb is "{given}"; {choices(given, VERBS)}')
        self._verb: Method = self._keys.stage_verb
        self._stages: tuple[Option, ...] = ()
        self._stages_until = 0.0
        self._writes = 0
        """How many times a single contact was written: what is remembered of contacts is old then."""

    # Finding

    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        """Find contacts by text, in the vendor's own order; its search may be fuzzy: its hits are given as they are.

        Raises:
            InvalidArgument: a sort is not the only one there is.
            Unsupported: a filter is not `query`.
        """
        for name in wanted.shown():
            if name not in (*self.lead_filters, "sort"):
                raise Unsupported(f"{NAME} can't filter leads by {name}", "it can by query")
        if wanted.sort and wanted.sort not in self.lead_sorts:
            raise InvalidArgument(f'sort is "{wanted.sort[:80]}"', choices(wanted.sort, self.lead_sorts))

        names: Names = {}

        async def fetch(number: int, size: int) -> tuple[list[Any], int | None]:
            nonlocal names
            query = {"page": number, "limit": size, "search": wanted.query}
            answer = await self._api.read("GET", "/contacts", query)
            rows = rows_in(answer, "contacts")
            names = await self._names(rows) or names
            return rows, total_in(answer)

        return await window(fetch, lambda row: self._decoded(row, names), part, PAGE)

    async def get_lead(self, lead: str) -> Lead:
        """Read one contact."""
        return await self._lead(await self._contact(lead))

    async def leads_at(self, channel: Channel, address: str) -> tuple[Lead, ...]:
        """Return the contacts that have this address or number: those of a search's hits that have exactly it.

        A number is searched for in E.164, by its national digits, and by its last four: how SalesPulse keeps and
        searches numbers is not documented. At most ten pages of hits of each search are looked through.
        """
        if channel == "linkedin":
            return ()
        found: dict[str, Lead] = {}
        for words in [address] if channel == "email" else ways_to_write(address):
            async with aclosing(self._pages(words, most=MOST_HITS)) as pages:
                async for rows, _ in pages:
                    names = await self._names(rows)
                    leads = [self._decoded(row, names) for row in rows]
                    found |= {each.id: each for each in leads if self.same_address(each.address(channel), address)}
                    if len(found) >= MOST_AT_ADDRESS:
                        break
        return tuple(found.values())[:MOST_AT_ADDRESS]

    # Writing

    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create a contact, after a search for its address and number: the vendor is not known to refuse a second one.

        `company` and `title` are not in the reference; they are passed on, as custom fields are.
        """
        body = body_of(draft, self._keys, self._access.country)
        there = await refuse_same(self, draft.model_copy(update=addresses_of(body)))
        self._writes += 1
        answer = await self._api.write("POST", "/contacts", body)
        with after_write():
            row = record_in(answer, "contact") if isinstance(answer, dict) else {}
            if lead := text(row.get("id")):
                refuse_there(lead, there)
                new = await (self._lead(row) if body.keys() <= row.keys() else self.get_lead(lead))
                refuse_other_person(draft.model_copy(update=addresses_of(body)), person_of(new))
                return new
            if made := await find_same(self, draft.model_copy(update=addresses_of(body))):
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
        await refuse_same(self, change.model_copy(update=addresses_of(body)), before)
        self._writes += 1
        answer = await self._api.write("PATCH", at("/contacts/{}", lead), body, missing=_no_lead(lead))
        emptied = {name for name, value in body.items() if value is None}
        with after_write():
            return await self._as_it_is(answer, before.id, (row.keys() | body.keys()) - emptied)

    async def move_lead(self, lead: str, stage: str) -> Lead:
        """Move a contact to a stage. The verb of the path is not known: PATCH, and after a 405 alone PUT and POST."""
        stages = await self._listed_stages()
        if stage not in [each.id for each in stages]:
            raise InvalidArgument(
                f'there is no stage "{stage[:80]}"', choices(stage, [each.name for each in stages]), wrote=False
            )
        path = at("/contacts/{}/stage", lead)
        verbs: tuple[Method, ...] = (self._verb, *(verb for verb in VERBS if verb != self._verb))
        answer: Any = None
        for verb in verbs:
            try:
                answer = await self._api.write(verb, path, {self._keys.stage: stage}, missing=_no_lead(lead))
            except Unsupported:  # 405: nothing was done
                if verb == verbs[-1]:
                    raise
            else:
                self._verb = verb
                break
        with after_write():
            return await self._as_it_is(answer, lead, WORDS, staged=True)

    # Deleting

    async def goes_with(self, kind: RecordKind, record: str) -> dict[str, int]:
        """Count nothing: whether calls and deals of a deleted contact stay is documented nowhere."""
        self._only_leads(kind)
        await self._contact(record)
        return {}

    async def delete(self, kind: RecordKind, record: str) -> None:
        """Delete a contact."""
        self._only_leads(kind)
        self._writes += 1
        answer = await self._api.write("DELETE", at("/contacts/{}", record), missing=_no_lead(record))
        row = record_in(answer, "contact") if isinstance(answer, dict) else {}
        refuse_written_other(record, text(row.get("id")))

    # Options

    async def list_options(self, kind: OptionKind) -> tuple[Option, ...]:
        """List the stages, in the vendor's order."""
        if kind != "stages":
            raise Unsupported(f"{NAME} has no {kind} that its API could list", "it has stages")
        return await self._listed_stages(fresh=True)

    async def _listed_stages(self, *, fresh: bool = False) -> tuple[Option, ...]:
        if fresh or time.monotonic() >= self._stages_until:
            rows = rows_in(await self._api.read("GET", "/pipeline/stages"), "stages")
            found = [identified(row) for row in rows]
            self._stages = tuple(
                Option(id=str(row["id"]), name=text(row.get("name")) or str(row["id"]), of="leads") for row in found
            )
            self._stages_until = time.monotonic() + STAGES_KEPT
        return self._stages

    async def _names(self, rows: Iterable[Any]) -> Names:
        """Return the names of the stages, if a record has a stage by its id."""
        if not any(needs_names(row, self._keys) for row in rows):
            return {}
        return {each.id: each.name for each in await self._listed_stages()}

    # Contacts

    async def _contact(self, lead: str) -> dict[str, Any]:
        answer = await self._api.read("GET", at("/contacts/{}", lead), missing=_no_lead(lead))
        found = identified(record_in(answer, "contact"))
        refuse_other(lead, text(found.get("id")))
        return found

    async def _pages(
        self, search: str | None = None, *, most: int | None = None
    ) -> AsyncGenerator[tuple[list[Any], int | None]]:
        """Yield the contacts page by page, each once, with their number where it is told.

        The end is where that number is reached, or a page has nothing new: a short page may be the vendor's maximum.
        """
        seen: set[str] = set()
        number = 0
        while most is None or number < most:
            number += 1
            query = {"page": number, "limit": PAGE, "search": search}
            answer = await self._api.read("GET", "/contacts", query)
            rows = [row for row in rows_in(answer, "contacts") if str(identified(row)["id"]) not in seen]
            total = total_in(answer)
            seen.update(str(row["id"]) for row in rows)
            yield rows, total
            if not rows or (total is not None and len(seen) >= total):
                return

    async def _history(self, path: str, query: Mapping[str, str | None], name: str) -> tuple[list[Any], bool]:
        """Return all rows of a list whose reference knows no pages, and whether these are all.

        Further pages are asked for (inferred) only where the answer says that there are more rows than it has; at most
        ten.
        """
        rows: list[Any] = []
        seen: set[str] = set()
        for number in range(1, MOST_PAGES + 1):
            pages = {"page": number} if number > 1 else {}
            answer = await self._api.read("GET", path, {**query, **pages})
            more = [row for row in rows_in(answer, name) if (key := key_of(row)) is None or key not in seen]
            seen.update(key for row in more if (key := key_of(row)))
            rows += more
            total = total_in(answer)
            if total is None or len(rows) >= total:
                return rows, True
            if not more:
                break
        return rows, False

    def _decoded(self, row: Any, names: Names) -> Lead:
        return lead_of(identified(row), self._keys, names, self.number)

    async def _lead(self, row: Mapping[str, Any]) -> Lead:
        return self._decoded(row, await self._names([row]))

    async def _as_it_is(self, answer: Any, lead: str, known: Iterable[str], *, staged: bool = False) -> Lead:
        """Return a lead after a write: from its answer, if that has all that is `known` of the record, else read."""
        row = record_in(answer, "contact") if isinstance(answer, dict) else {}
        refuse_written_other(lead, text(row.get("id")))
        whole = text(row.get("id")) == lead and set(known) <= row.keys()
        if whole and (not staged or row.get(self._keys.stage) or row.get(self._keys.stage_shown)):
            return await self._lead(row)
        return await self.get_lead(lead)

    def _only_leads(self, kind: RecordKind) -> None:
        if kind not in self.deletes:
            raise Unsupported(f"{NAME} can't delete a {kind}", "it can delete: lead", wrote=False)


def addresses_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the address and the number of what is sent, in their normal forms."""
    return {"email": body.get("email"), "phone": body.get("phone")}


def _no_lead(lead: str) -> str:
    return f'there is no lead "{lead[:80]}"'
