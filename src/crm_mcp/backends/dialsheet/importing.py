"""Many leads at once: one by one, since there is no bulk endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from crm_mcp.backends.dialsheet.leads import DialsheetLeads
from crm_mcp.backends.identity import People, holders, person_of
from crm_mcp.backends.import_engine import Batch, ImportEngine, Item, change_of
from crm_mcp.backends.lead_fields import readdressed
from crm_mcp.model import ImportOutcome, LeadDraft


class DialsheetImports(DialsheetLeads, ImportEngine):
    """Each row is looked up by its address and number (two to four calls, more than a search could save), then created
    or changed.

    A row without either is known where a lead of exactly this name and company has neither: so a second import of a
    file makes no second lead. Row keys have no place in Dialsheet.
    """

    import_size: ClassVar[int] = 5
    plan_size: ClassVar[int] = 10
    known_by_name: ClassVar[bool] = True

    async def _prepared(self, draft: LeadDraft) -> tuple[LeadDraft, dict[str, Any]]:
        body = self._new(draft)
        return readdressed(draft, body), body

    async def _people_among(self, items: Sequence[Item]) -> People:
        people = People(names=True)
        looked: set[str] = set()
        for item in items:
            email, phone = (each if each not in looked else None for each in (item.draft.email, item.draft.phone))
            looked.update(each for each in (email, phone) if each)
            if item.draft.email or item.draft.phone:
                found = await holders(self, email, phone)
            else:
                found = await self._searched(item.person.name or item.person.company)
            for lead in found:
                people.add(replace(person_of(lead), record=lead))
        return people

    async def _write(self, batch: Batch, items: Sequence[Item]) -> None:
        await self._each(batch, items, self._write_one)

    async def _write_one(self, batch: Batch, item: Item) -> ImportOutcome:
        del batch
        if item.known is None:
            return ImportOutcome(outcome="created", id=(await self._post(item.body)).id)
        before = item.known.record or await self.get_lead(item.known.id)
        await self._put(before.id, self._changes(change_of(item.draft), before))
        return ImportOutcome(outcome="updated", id=before.id)
