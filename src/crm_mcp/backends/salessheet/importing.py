"""Many contacts at once, through the batch endpoint: 100 a request, as documented."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.remote import Access, text, window
from crm_mcp.backends.salessheet.api import BATCH, CONTACTS
from crm_mcp.backends.salessheet.decoding import Json, identity, part_in
from crm_mcp.backends.salessheet.leads import SalesSheetLeads
from crm_mcp.errors import CrmError, InvalidArgument, OutcomeUnknown
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, Lead, Slice, address_key

FEW = 10
"""Rows that are looked up one by one where reading all contacts would take more requests."""
IDLE, LONGEST = 60.0, 600.0
"""Seconds without an import, and since it was read, after which the index of addresses is read anew."""
MOST_SPLITS = 40
"""Requests that are spent on finding the rows at fault, where the answer does not name them."""

_SILENT = "SalesSheet took the batch and did not say what became of its rows"
_LOOK = "look for them with search_leads; run again with if_exists skip, what is there stays as it is"


@dataclass
class Index:
    """Which lead has an address or number, as far as it was read."""

    ids: dict[str, str] = field(default_factory=dict[str, str])
    read_at: float = 0.0
    used_at: float = 0.0

    def holders(self, item: Item) -> list[str]:
        """Return the leads that have an item's address or number, each once."""
        return list(dict.fromkeys(self.ids[each] for each in item.addresses if each in self.ids))

    def add(self, addresses: Sequence[str], lead: str) -> None:
        """Remember addresses; the lead that was first at one stays."""
        for each in addresses:
            self.ids.setdefault(each, lead)


@dataclass(frozen=True)
class Item:
    """One row as it is sent; `known` is the lead that it changes."""

    place: int
    body: Json
    addresses: tuple[str, ...]
    known: str | None = None

    @property
    def sent(self) -> Json:
        """The item of the batch."""
        return {"id": self.known, **self.body} if self.known else self.body


class SalesSheetImports(SalesSheetLeads, ImportsLeads):
    """Imports through `POST /contacts/batch`, which creates or updates; by which key it recognises a contact is not
    documented."""

    import_size: ClassVar[int] = 100

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._index: Index | None = None

    async def import_leads(self, rows: Sequence[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows, 100 a request.

        The batch would overwrite what it recognises, so it is known before what is there: all contacts are read once,
        100 a request, and an index of their addresses and numbers is kept for the length of an import (until a minute
        passes without one, at most ten minutes). 10,000 leads for an empty CRM take 101 requests; for one with N
        contacts, 100 + N / 100. At most ten rows are looked up one by one where that takes fewer requests.

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
        index = await self._addresses(waiting) if waiting else Index()
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
        index.used_at = time.monotonic()
        return tuple(outcomes[place] for place in range(len(rows)))

    def _forget(self) -> None:
        self._index = None

    def _items(self, rows: Sequence[ImportRow], outcomes: dict[int, ImportOutcome]) -> list[Item]:
        items: list[Item] = []
        for place, row in enumerate(rows):
            try:
                body = self._contact_body(row.draft)
            except CrmError as error:
                outcomes[place] = ImportOutcome(outcome="failed", reason=str(error))
                continue
            found = (body.get(self._keys.email), body.get(self._keys.phone))
            items.append(Item(place, body, tuple(address_key(each) for each in found if each)))
        return items

    async def _addresses(self, items: Sequence[Item]) -> Index:
        """Return the index of all addresses, or one of these items' alone where that takes fewer requests."""
        now = time.monotonic()
        index = self._index
        if index and now - index.used_at < IDLE and now - index.read_at < LONGEST:
            return index
        self._index = None
        index = Index(read_at=now)
        fetch = self._rows(CONTACTS, {}, self._keys.created_at)
        position: str | None = None
        seen: set[str] = set()
        while True:
            page = await window(fetch, self._lead, Slice(limit=self.limits.page, position=position), self.limits.page)
            fresh = [each for each in page.items if each.id not in seen]
            seen.update(each.id for each in fresh)
            for each in fresh:
                index.add(_addresses_of(each), each.id)
            position = page.next
            if position is None or not fresh:
                break
            wanted = {each for item in items for each in item.addresses}
            pages = (page.total or 0) // self.limits.page
            if len(seen) <= self.limits.page and len(items) <= FEW and pages > len(wanted):
                return await self._looked_up(items)
        self._index = index
        return index

    async def _looked_up(self, items: Sequence[Item]) -> Index:
        index = Index()
        for item in items:
            for each in await self._holders(item.body):
                index.add(_addresses_of(each), each.id)
        return index

    def _wave(
        self, items: Sequence[Item], index: Index, if_exists: IfExists, outcomes: dict[int, ImportOutcome]
    ) -> tuple[list[Item], list[Item]]:
        """Return what can be sent now, and what must wait because an item before it has its address."""
        wave: list[Item] = []
        later: list[Item] = []
        taken: set[str] = set()
        for item in items:
            holders = index.holders(item)
            if taken & {*item.addresses, *holders}:
                later.append(item)
                taken.update(item.addresses)
                continue
            if not holders or (if_exists == "update" and len(holders) == 1):
                wave.append(Item(item.place, item.body, item.addresses, holders[0] if holders else None))
                taken.update((*item.addresses, *holders))
            elif if_exists == "skip":
                outcomes[item.place] = ImportOutcome(outcome="skipped", id=holders[0])
            elif if_exists == "error":
                reason = f"{' and '.join(holders)} has this address or number already"
                outcomes[item.place] = ImportOutcome(outcome="failed", id=holders[0], reason=reason)
            else:
                reason = f"its address and number belong to several leads: {', '.join(holders)}"
                outcomes[item.place] = ImportOutcome(outcome="failed", id=holders[0], reason=reason)
        return wave, later

    async def _send(self, items: Sequence[Item], index: Index, outcomes: dict[int, ImportOutcome]) -> None:
        """Send items, those at fault once; groups wait in `left` where a batch was refused as a whole."""
        left = [list(items)]
        requests = 0
        while left:
            group = left.pop(0)
            try:
                answer = await self._api.write("POST", BATCH, [each.sent for each in group], bulk=True)
            except InvalidArgument as error:
                bad = _faults(error.told, len(group))
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

    def _take(self, group: Sequence[Item], answer: Any, index: Index, outcomes: dict[int, ImportOutcome]) -> None:
        """Take in what became of each item of a batch."""
        told = _results(answer, len(group))
        if told is None:
            raise OutcomeUnknown(_SILENT, _LOOK)
        for number, item in enumerate(group):
            result = told.get(number)
            if result is None:
                reason = "SalesSheet took the batch and did not say what became of this row: it may be there"
                outcomes[item.place] = ImportOutcome(outcome="failed", reason=reason)
            elif _at_fault(result):
                outcomes[item.place] = self._refused(item, result.get("errors") or result.get("error"))
            else:
                outcomes[item.place] = self._done(item, result, index)

    def _done(self, item: Item, result: Json, index: Index) -> ImportOutcome:
        record = part_in(result, "data", "contact", "record")
        lead = identity(record) or identity(result) or text(result.get("contact_id")) or item.known
        if lead:
            index.add(item.addresses, lead)
        if item.known and lead != item.known:
            reason = f"SalesSheet changed or made {lead} instead of changing {item.known}"
            return ImportOutcome(outcome="created", id=lead, reason=reason)
        said = str(result.get("status") or result.get("action") or result.get("result") or "").casefold()
        updated = said in ("updated", "200") if said in ("created", "201", "updated", "200") else item.known is not None
        if updated and not item.known:
            return ImportOutcome(outcome="updated", id=lead, reason="SalesSheet recognised a contact and changed it")
        return ImportOutcome(outcome="updated" if updated else "created", id=lead)

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


def _addresses_of(lead: Lead) -> tuple[str, ...]:
    return tuple(address_key(each) for each in (lead.email, lead.phone) if each)


def _results(answer: Any, size: int) -> dict[int, Json] | None:
    """Return what an answer to a batch says of each item, by its number; None where it says nothing.

    Documented is only that it says which items failed. Read are: one list with an entry for each item, with or without
    `index`; and a list of records beside a list of errors, which have an `index`.
    """
    if isinstance(answer, list):
        return _numbered(cast("list[Any]", answer), range(size))
    if not isinstance(answer, dict):
        return None
    body = cast("Json", answer)
    faults = {number: {"error": told} for number, told in _faults(body, size, inside=("errors", "failed")).items()}
    for name in ("results", "items", "data", "contacts", "created"):
        if isinstance(rows := body.get(name), list):
            good = [number for number in range(size) if number not in faults]
            found = cast("list[Any]", rows)
            places: Sequence[int] = range(size) if len(found) == size else good
            return {**_numbered(found, places), **faults}
    return faults or None


def _numbered(rows: Sequence[Any], places: Sequence[int]) -> dict[int, Json]:
    """Return entries by their `index`, else by their place in the list, which then must be as long as it should be."""
    entries = [cast("Json", each) for each in rows if isinstance(each, dict)]
    if all(_number(each) is not None for each in entries):
        return {cast("int", _number(each)): each for each in entries}
    return dict(zip(places, entries, strict=True)) if len(entries) == len(rows) == len(places) else {}


def _faults(
    told: object, size: int, inside: Sequence[str] = ("errors", "failed", "details", "results", "items")
) -> dict[int, object]:
    """Return what an answer complains about, by the number of the item."""
    if not isinstance(told, dict):
        return {}
    body = cast("Json", told)
    found: dict[int, object] = {}
    for name in (*inside, "error"):
        part = body.get(name)
        if isinstance(part, dict) and name == "error":
            found |= _faults(cast("Json", part), size, inside)
        elif isinstance(part, dict):
            found |= {int(k): v for k, v in cast("Json", part).items() if k.isdecimal() and len(k) < 6}
        elif isinstance(part, list):
            entries = [cast("Json", each) for each in cast("list[Any]", part) if isinstance(each, dict)]
            # A list of all items has those at fault marked; one of faults has nothing else in it.
            marked = name in ("results", "items")
            found |= {n: e for e in entries if (n := _number(e)) is not None and (not marked or _at_fault(e))}
    return {number: each for number, each in found.items() if 0 <= number < size}


def _number(entry: Mapping[str, Any]) -> int | None:
    value = entry.get("index")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _at_fault(entry: Mapping[str, Any]) -> bool:
    status = entry.get("status")
    failed = status >= 400 if isinstance(status, int) else str(status).casefold() in ("error", "failed", "invalid")
    return failed or bool(entry.get("error") or entry.get("errors"))
