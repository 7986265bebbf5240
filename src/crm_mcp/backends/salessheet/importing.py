"""Many contacts at once, through the batch endpoint: 100 a request, as documented."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar

from crm_mcp.backends.batch_answers import ItemAnswer, told_by
from crm_mcp.backends.bulk_import import BulkImports
from crm_mcp.backends.identity import Person, person_of, refuse_other_person
from crm_mcp.backends.import_engine import Batch, Item
from crm_mcp.backends.salessheet.api import BATCH, CONTACTS
from crm_mcp.backends.salessheet.codec import Json
from crm_mcp.backends.salessheet.leads import SalesSheetLeads
from crm_mcp.errors import CrmError, OutcomeUnknown
from crm_mcp.model import ImportOutcome, LeadDraft, Slice

_SILENT = "SalesSheet took the batch and did not say what became of its rows"
_LOOK = "look for them with search_leads; run again with if_exists skip, what is there stays as it is"


class SalesSheetImports(SalesSheetLeads, BulkImports):
    """Imports through `POST /contacts/batch`, which creates or updates; by which key it recognises a contact is not
    documented.

    The batch would overwrite what it recognises, so it is known before who is there: all contacts are read once, 100 a
    request, and are kept for the length of an import (until a minute passes without one or a single contact is written,
    at most ten minutes). 10,000 leads for an empty CRM take 101 requests; for one with N contacts, 100 + N / 100. At
    most ten rows are looked up one by one where that takes fewer requests.

    `skip` and `error` send only rows that nobody is known for. `update` sends known ones with the `id` of their
    contact, whatever the batch recognises contacts by; whether fields that a row does not have stay as they are is not
    documented. A row without address and number is always new, and is created again by a second import. A refused batch
    that names the rows at fault is sent again without them; one that does not is halved, for at most 40 requests.
    Documented of the answer is only that it says which items failed.
    """

    import_size: ClassVar[int] = 100
    few: ClassVar[int] = 10

    async def _prepared(self, draft: LeadDraft) -> tuple[LeadDraft, Json]:
        body = self._contact_body(draft)
        return self._readdressed(draft, body), body

    async def _everybody(self) -> AsyncGenerator[tuple[list[Person], int]]:
        fetch = self._rows(CONTACTS, {}, self._keys.created_at)
        position: str | None = None
        seen: set[str] = set()
        while True:
            page = await self._page(fetch, self._lead, Slice(limit=self.limits.page, position=position))
            fresh = [each for each in page.items if each.id not in seen]
            seen.update(each.id for each in fresh)
            position = page.next
            yield [person_of(each) for each in fresh], (page.total or 0) // self.limits.page if position else 0
            if position is None or not fresh:
                break

    async def _write(self, batch: Batch, items: Sequence[Item]) -> None:
        """Send items, those at fault once.

        A batch that recognises contacts by number would take colleagues for one: new ones who share a number are
        created one by one.
        """
        await self._in_batches(batch, [each for each in items if not each.shares])
        await self._each(batch, [each for each in items if each.shares], self._write_one)

    async def _one_by_one(self, batch: Batch, items: Sequence[Item], error: CrmError) -> None:
        """Refuse them: there is one."""
        for each in items:
            batch.done[each.place] = self._refused(each, error.told)

    async def _write_one(self, batch: Batch, item: Item) -> ImportOutcome:
        del batch
        made = self._lead(await self._made(CONTACTS, item.body))
        refuse_other_person(item.draft, person_of(made))
        return ImportOutcome(outcome="created", id=made.id)

    async def _send(self, batch: Batch, items: Sequence[Item]) -> None:
        key = self._keys.batch_id
        sent = [{key: each.known.id, **each.body} if each.known else each.body for each in items]
        answer = await self._api.write("POST", BATCH, sent, bulk=True)
        told = told_by(answer, [each.body for each in items], self._keys.status)
        if told is None:
            raise OutcomeUnknown(_SILENT, _LOOK)
        for item, lead in self._settle(batch, items, told):
            reason = "SalesSheet took the batch and did not say what became of this row: it may be there"
            batch.fail(item, reason, lead)

    def _taken(self, item: Item, told: ItemAnswer) -> ImportOutcome:
        if item.known:
            known = item.known.id
            elsewhere = told.lead != known if told.lead else told.verdict == "created"
            if elsewhere:
                reason = f"SalesSheet changed or made {told.lead or 'a contact'} instead of changing {known}"
                return ImportOutcome(outcome="created", id=told.lead, reason=reason)
            return ImportOutcome(outcome="updated", id=known)
        if told.verdict == "updated":
            reason = "SalesSheet recognised a contact and changed it"
            return ImportOutcome(outcome="updated", id=told.lead, reason=reason)
        return ImportOutcome(outcome="created", id=told.lead)

    def _refused(self, item: Item, said: object) -> ImportOutcome:
        """Return why an item was not taken: our words for it, chosen by the names and words of the answer."""
        keys = self._keys
        words = json.dumps(said).casefold()
        names = [
            ours
            for ours in ("email", "phone", "first_name", "last_name", "name", "company", "title", "status", "owner")
            if re.search(rf"\b{re.escape(getattr(keys, ours).casefold())}\b", words)
        ]
        if re.search(r"custom.?field", words):
            names.append("custom_fields")
        whose = " and ".join(names) if names else "row"
        if re.search(r"\b(required|missing|blank)\b", words):
            reason = (
                f"SalesSheet requires more of it: {whose}" if names else "SalesSheet requires a field that it lacks"
            )
        elif re.search(r"\b(taken|exists|duplicate)\b", words):
            reason = f"SalesSheet says that its {whose} is there already"
        else:
            reason = f"SalesSheet does not accept its {whose}" if names else "SalesSheet does not accept this row"
        return ImportOutcome(outcome="failed", id=item.known.id if item.known else None, reason=reason)
