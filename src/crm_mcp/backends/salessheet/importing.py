"""Many contacts at once, through the batch endpoint: 100 a request, as documented."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.people import AddressBook, keys_of
from crm_mcp.backends.remote import Access, ways_to_write
from crm_mcp.backends.salessheet.api import BATCH, CONTACTS
from crm_mcp.backends.salessheet.batches import Told, faults_in, told_by
from crm_mcp.backends.salessheet.decoding import Json
from crm_mcp.backends.salessheet.leads import SalesSheetLeads
from crm_mcp.errors import CrmError, InvalidArgument, OutcomeUnknown
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, Lead, Slice

FEW = 10
"""Rows that are looked up one by one where reading all contacts would take more requests."""
MOST_SPLITS = 40
"""Requests that are spent on finding the rows at fault, where the answer does not name them."""

_UNTOLD = Told("unknown")
_SILENT = "SalesSheet took the batch and did not say what became of its rows"
_LOOK = "look for them with search_leads; run again with if_exists skip, what is there stays as it is"


@dataclass(frozen=True)
class Item:
    """One row as it is sent; `known` is the lead that it changes."""

    place: int
    body: Json
    addresses: list[str]
    known: str | None = None


class SalesSheetImports(SalesSheetLeads, ImportsLeads):
    """Imports through `POST /contacts/batch`, which creates or updates; by which key it recognises a contact is not
    documented."""

    import_size: ClassVar[int] = 100

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._index: AddressBook | None = None

    async def import_leads(self, rows: Sequence[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows, 100 a request.

        The batch would overwrite what it recognises, so it is known before what is there: all contacts are read once,
        100 a request, and an index of their addresses and numbers is kept for the length of an import (until a minute
        passes without one or a single contact is written, at most ten minutes). 10,000 leads for an empty CRM take 101
        requests; for one with N contacts, 100 + N / 100. At most ten rows are looked up one by one where that takes
        fewer requests.

        `skip` and `error` send only rows that nobody is known for. `update` sends known ones with the `id` of their
        contact, whatever the batch recognises contacts by; whether fields that a row does not have stay as they are is
        not documented. Rows of one call with one address go one after the other. A row without address and number is
        always new, and is created again by a second import. A refused batch that names the rows at fault is sent again
        without them; one that does not is halved, for at most 40 requests.

        Raises:
            OutcomeUnknown: the CRM took the first batch and did not say what became of it.
        """
        outcomes: dict[int, ImportOutcome] = {}
        waiting = self._items(rows, outcomes)
        index = await self._addresses(waiting) if waiting else AddressBook()
        try:
            while waiting:
                wave, waiting = self._wave(waiting, index, if_exists, outcomes)
                for start in range(0, len(wave), self.import_size):
                    await self._send(wave[start : start + self.import_size], index, outcomes)
        except CrmError as error:
            self._index = None
            if not any(each.outcome in ("created", "updated") for each in outcomes.values()):
                raise
            for place in range(len(rows)):
                outcomes.setdefault(place, ImportOutcome(outcome="failed", reason=str(error)))
        index.use()
        return tuple(outcomes[place] for place in range(len(rows)))

    def _items(self, rows: Sequence[ImportRow], outcomes: dict[int, ImportOutcome]) -> list[Item]:
        items: list[Item] = []
        for place, row in enumerate(rows):
            try:
                body = self._contact_body(row.draft)
            except CrmError as error:
                outcomes[place] = ImportOutcome(outcome="failed", reason=str(error))
                continue
            found = (body.get(self._keys.email), body.get(self._keys.phone))
            items.append(Item(place, body, keys_of(found)))
        return items

    async def _addresses(self, items: Sequence[Item]) -> AddressBook:
        """Return the index of all addresses, or one of these items' alone where that takes fewer requests."""
        if self._index and self._index.fits(self._writes):
            return self._index
        self._index = None
        index = AddressBook(self._writes)
        fetch = self._rows(CONTACTS, {}, self._keys.created_at)
        position: str | None = None
        seen: set[str] = set()
        while True:
            page = await self._page(fetch, self._lead, Slice(limit=self.limits.page, position=position))
            fresh = [each for each in page.items if each.id not in seen]
            seen.update(each.id for each in fresh)
            for each in fresh:
                index.add(_addresses_of(each), each.id)
                index.note(each.id, each.custom_fields)
            position = page.next
            if position is None or not fresh:
                break
            wanted = {each for item in items for each in item.addresses}
            requests = sum(1 if "@" in each else len(ways_to_write(each)) for each in wanted)
            pages = (page.total or 0) // self.limits.page
            if len(seen) <= self.limits.page and len(items) <= FEW and pages > requests:
                return await self._looked_up(items)
        self._index = index
        return index

    async def _looked_up(self, items: Sequence[Item]) -> AddressBook:
        index = AddressBook()
        for item in items:
            for each in await self._holders(item.body):
                index.add(_addresses_of(each), each.id)
                index.note(each.id, each.custom_fields)
        return index

    def _wave(
        self, items: Sequence[Item], index: AddressBook, if_exists: IfExists, outcomes: dict[int, ImportOutcome]
    ) -> tuple[list[Item], list[Item]]:
        """Return what can be sent now, and what must wait because an item before it has its address."""
        wave: list[Item] = []
        later: list[Item] = []
        taken: set[str] = set()
        for item in items:
            holders = index.at(item.addresses)
            if taken & {*item.addresses, *holders}:
                later.append(item)
                taken.update(item.addresses)
                continue
            if if_exists == "update" and (why := self._lifts(item, holders, index)):
                outcomes[item.place] = ImportOutcome(outcome="failed", id=holders[0], reason=why)
            elif not holders or (if_exists == "update" and len(holders) == 1 and holders[0]):
                wave.append(Item(item.place, item.body, item.addresses, holders[0] if holders else None))
                taken.update((*item.addresses, *holders))
            elif if_exists == "skip":
                outcomes[item.place] = ImportOutcome(outcome="skipped", id=holders[0] or None)
            elif if_exists == "error":
                names = " and ".join(each or "a row before it" for each in holders)
                reason = f"{names} has this address or number already"
                outcomes[item.place] = ImportOutcome(outcome="failed", id=holders[0] or None, reason=reason)
            elif holders == [""]:
                reason = "SalesSheet made a lead of a row before it with this address, and did not say its id"
                outcomes[item.place] = ImportOutcome(outcome="failed", reason=reason)
            else:
                names = ", ".join(each for each in holders if each)
                reason = f"its address and number belong to several leads: {names}"
                outcomes[item.place] = ImportOutcome(outcome="failed", id=holders[0] or None, reason=reason)
        return wave, later

    def _lifts(self, item: Item, holders: Sequence[str], index: AddressBook) -> str | None:
        """Return why an item can't change its lead: a flag would no more say that it must not be contacted."""
        try:
            for lead in holders:
                index.refuse_lifting(lead, cast("Json", item.body.get(self._keys.custom_fields) or {}))
        except InvalidArgument as error:
            return str(error)
        return None

    def _sent(self, item: Item) -> Json:
        return {self._keys.batch_id: item.known, **item.body} if item.known else item.body

    async def _send(self, items: Sequence[Item], index: AddressBook, outcomes: dict[int, ImportOutcome]) -> None:
        """Send items, those at fault once; groups wait in `left` where a batch was refused as a whole."""
        left = [list(items)]
        requests = 0
        while left:
            group = left.pop(0)
            try:
                answer = await self._api.write("POST", BATCH, [self._sent(each) for each in group], bulk=True)
            except InvalidArgument as error:
                bad = faults_in(error.told, len(group))
                for number, told in bad.items():
                    outcomes[group[number].place] = self._refused(group[number], told)
                if bad:
                    rest = [each for number, each in enumerate(group) if number not in bad]
                    left[:0] = [rest] if rest else []
                elif len(group) == 1:
                    outcomes[group[0].place] = self._refused(group[0], error.told)
                elif requests >= MOST_SPLITS:
                    for each in group:
                        reason = "SalesSheet refused the batch that it was in, and did not say because of which row"
                        outcomes[each.place] = ImportOutcome(outcome="failed", reason=reason)
                else:
                    middle = len(group) // 2
                    left[:0] = [group[:middle], group[middle:]]
            else:
                self._take(group, answer, index, outcomes)
            requests += 1

    def _take(self, group: Sequence[Item], answer: Any, index: AddressBook, outcomes: dict[int, ImportOutcome]) -> None:
        """Take in what became of each item of a batch."""
        told = told_by(answer, [each.body for each in group], self._keys.status)
        if told is None:
            raise OutcomeUnknown(_SILENT, _LOOK)
        for number, item in enumerate(group):
            result = told.get(number, _UNTOLD)
            if result.verdict == "refused":
                outcomes[item.place] = self._refused(item, result.said)
            elif result.verdict == "unknown":
                reason = "SalesSheet took the batch and did not say what became of this row: it may be there"
                outcomes[item.place] = ImportOutcome(outcome="failed", id=result.lead, reason=reason)
            else:
                index.add(item.addresses, result.lead or item.known or "")
                outcomes[item.place] = _done(item, result)

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
        return ImportOutcome(outcome="failed", id=item.known, reason=reason)


def _addresses_of(lead: Lead) -> list[str]:
    return keys_of((lead.email, lead.phone))


def _done(item: Item, told: Told) -> ImportOutcome:
    """Return the outcome of an item that was taken."""
    elsewhere = told.lead != item.known if told.lead else told.verdict == "created"
    if item.known and elsewhere:
        reason = f"SalesSheet changed or made {told.lead or 'a contact'} instead of changing {item.known}"
        return ImportOutcome(outcome="created", id=told.lead, reason=reason)
    if item.known:
        return ImportOutcome(outcome="updated", id=item.known)
    if told.verdict == "updated":
        reason = "SalesSheet recognised a contact and changed it"
        return ImportOutcome(outcome="updated", id=told.lead, reason=reason)
    return ImportOutcome(outcome="created", id=told.lead)
