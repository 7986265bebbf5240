"""Many contacts at once, through the batch endpoint: 100 a request, as documented."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from crm_mcp.backends.identity import People, person_of, refuse_other_person
from crm_mcp.backends.import_engine import Batch, ImportEngine, Item, KeptPeople
from crm_mcp.backends.remote import ways_to_write
from crm_mcp.backends.salessheet.api import BATCH, CONTACTS
from crm_mcp.backends.salessheet.batches import Told, faults_in, told_by
from crm_mcp.backends.salessheet.decoding import Json
from crm_mcp.backends.salessheet.leads import SalesSheetLeads
from crm_mcp.errors import InvalidArgument, OutcomeUnknown
from crm_mcp.model import ImportOutcome, LeadDraft, Slice

FEW = 10
"""Rows that are looked up one by one where reading all contacts would take more requests."""
MOST_SPLITS = 40
"""Requests that are spent on finding the rows at fault, where the answer does not name them."""

_UNTOLD = Told("unknown")
_SILENT = "SalesSheet took the batch and did not say what became of its rows"
_LOOK = "look for them with search_leads; run again with if_exists skip, what is there stays as it is"


class SalesSheetImports(SalesSheetLeads, ImportEngine):
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
    """

    import_size: ClassVar[int] = 100

    async def _prepared(self, draft: LeadDraft) -> tuple[LeadDraft, Json]:
        body = self._contact_body(draft)
        return draft.model_copy(update=self._addresses(body)), body

    async def _people_among(self, items: Sequence[Item]) -> People:
        """Return everybody, or those with these items' addresses alone where that takes fewer requests."""
        if self._there and self._there.fits(self._writes):
            return self._there
        self._there = None
        people = KeptPeople(self._writes)
        fetch = self._rows(CONTACTS, {}, self._keys.created_at)
        position: str | None = None
        seen: set[str] = set()
        while True:
            page = await self._page(fetch, self._lead, Slice(limit=self.limits.page, position=position))
            fresh = [each for each in page.items if each.id not in seen]
            seen.update(each.id for each in fresh)
            for each in fresh:
                people.add(person_of(each))
            position = page.next
            if position is None or not fresh:
                break
            wanted = {each for item in items for each in (*item.person.emails, *item.person.phones)}
            requests = sum(1 if "@" in each else len(ways_to_write(each)) for each in wanted)
            pages = (page.total or 0) // self.limits.page
            if len(seen) <= self.limits.page and len(items) <= FEW and pages > requests:
                return People([person_of(each) for item in items for each in await self._holders(item.body)])
        self._there = people
        return people

    async def _write(self, batch: Batch, items: Sequence[Item]) -> None:
        """Send items, those at fault once; groups wait in `left` where a batch was refused as a whole.

        A batch that recognises contacts by number would take colleagues for one: new ones who share a number are
        created one by one.
        """
        apart = [each for each in items if each.shares]
        together = [each for each in items if not each.shares]
        left = [together[start : start + self.import_size] for start in range(0, len(together), self.import_size)]
        requests = 0
        while left:
            group = left.pop(0)
            try:
                answer = await self._api.write("POST", BATCH, [self._sent(each) for each in group], bulk=True)
            except InvalidArgument as error:
                bad = faults_in(error.told, len(group))
                for number, told in bad.items():
                    batch.done[group[number].place] = self._refused(group[number], told)
                if bad:
                    rest = [each for number, each in enumerate(group) if number not in bad]
                    left[:0] = [rest] if rest else []
                elif len(group) == 1:
                    batch.done[group[0].place] = self._refused(group[0], error.told)
                elif requests >= MOST_SPLITS:
                    for each in group:
                        reason = "SalesSheet refused the batch that it was in, and did not say because of which row"
                        batch.fail(each, reason)
                else:
                    middle = len(group) // 2
                    left[:0] = [group[:middle], group[middle:]]
            else:
                self._take(batch, group, answer)
            requests += 1
        await self._each(batch, apart, self._create)

    async def _create(self, batch: Batch, item: Item) -> ImportOutcome:
        del batch
        made = self._lead(await self._made(CONTACTS, item.body))
        refuse_other_person(item.draft, person_of(made))
        return ImportOutcome(outcome="created", id=made.id)

    def _sent(self, item: Item) -> Json:
        return {self._keys.batch_id: item.known.id, **item.body} if item.known else item.body

    def _take(self, batch: Batch, group: Sequence[Item], answer: Any) -> None:
        """Take in what became of each item of a batch."""
        told = told_by(answer, [each.body for each in group], self._keys.status)
        if told is None:
            raise OutcomeUnknown(_SILENT, _LOOK)
        for number, item in enumerate(group):
            result = told.get(number, _UNTOLD)
            if result.verdict == "refused":
                batch.done[item.place] = self._refused(item, result.said)
            elif result.verdict == "unknown":
                reason = "SalesSheet took the batch and did not say what became of this row: it may be there"
                batch.fail(item, reason, result.lead)
            else:
                batch.done[item.place] = _done(item, result)

    def _refused(self, item: Item, told: object) -> ImportOutcome:
        """Return why an item was not taken: our words for it, chosen by the names and words of the answer."""
        keys = self._keys
        said = json.dumps(told).casefold()
        names = [
            ours
            for ours in ("email", "phone", "first_name", "last_name", "name", "company", "title", "status", "owner")
            if re.search(rf"\b{re.escape(getattr(keys, ours).casefold())}\b", said)
        ]
        if re.search(r"custom.?field", said):
            names.append("custom_fields")
        whose = " and ".join(names) if names else "row"
        if re.search(r"\b(required|missing|blank)\b", said):
            reason = (
                f"SalesSheet requires more of it: {whose}" if names else "SalesSheet requires a field that it lacks"
            )
        elif re.search(r"\b(taken|exists|duplicate)\b", said):
            reason = f"SalesSheet says that its {whose} is there already"
        else:
            reason = f"SalesSheet does not accept its {whose}" if names else "SalesSheet does not accept this row"
        return ImportOutcome(outcome="failed", id=item.known.id if item.known else None, reason=reason)


def _done(item: Item, told: Told) -> ImportOutcome:
    """Return the outcome of an item that was taken."""
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
