"""Many contacts at once: known addresses are found out first, new contacts are created in bulk, 1,000 a call."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncGenerator, Mapping
from collections.abc import Sequence as Seq
from contextlib import aclosing, suppress
from typing import Any, ClassVar

from crm_mcp.backends.batch_answers import WORDS, ItemAnswer, Verdict, told_by
from crm_mcp.backends.bulk_import import BulkImports
from crm_mcp.backends.http_errors import faulty
from crm_mcp.backends.identity import People, Person, person_of, refuse_other_person
from crm_mcp.backends.import_engine import Batch, Item
from crm_mcp.backends.lead_fields import readdressed
from crm_mcp.backends.remote import key_of, record_if_shown
from crm_mcp.backends.salespulse.api import BULK, CONTACT, CONTACTS
from crm_mcp.backends.salespulse.codec import NAME, body_of, lead_of
from crm_mcp.backends.salespulse.leads import SalesPulseLeads
from crm_mcp.errors import Conflict, CrmError, InvalidArgument, OutcomeUnknown
from crm_mcp.model import ImportOutcome, LeadDraft

_WORDS: Mapping[str, Verdict] = {**WORDS, "200": "done"}
"""The bulk endpoint creates and does nothing else: a 200 is about a new contact as well."""
_DOUBLE = re.compile(r"duplicat|already|exist", re.IGNORECASE)


class SalesPulseImports(SalesPulseLeads, BulkImports):
    """Imports through the bulk endpoint, which creates and does nothing else: an update is one call each.

    10,000 rows for an account of 500 contacts take 5 calls to read and 10 to create. A contact has no place for a row's
    key, so a row without address and number can't be recognised: it is created each time.

    A batch that is refused as a whole (400 and 422 are documented) is taken not to have been written. The reference
    shows no answer of the bulk endpoint: contacts of which it says nothing are looked for afterwards; those that are
    not found are reported as failed, in words that say that it is not known.
    """

    import_size: ClassVar[int] = 1000
    kept_idle: ClassVar[float] = 120.0
    kept_longest: ClassVar[float] = 1800.0
    least: ClassVar[int] = 1
    singly: ClassVar[int] = 120
    """About a minute's calls."""
    parts: ClassVar[int] = 9
    """With the refused call these are the ten of a minute."""
    refusals: ClassVar[tuple[type[CrmError], ...]] = (InvalidArgument, Conflict)

    async def _prepared(self, draft: LeadDraft) -> tuple[LeadDraft, dict[str, Any]]:
        body = body_of(draft, self._keys, self._access.country)
        return readdressed(draft, body), body

    async def _everybody(self) -> AsyncGenerator[tuple[list[Person], int]]:
        calls = 0
        async with aclosing(self._pages()) as pages:
            async for rows, total, _ in pages:
                calls += 1
                needed = math.ceil(total / max(len(rows), 1)) if total is not None and calls == 1 else calls
                yield [self._person_shown(row) for row in rows], needed

    async def _write(self, batch: Batch, items: Seq[Item]) -> None:
        await self._in_batches(batch, [each for each in items if each.known is None])
        await self._each(batch, [each for each in items if each.known], self._write_one)

    async def _write_one(self, batch: Batch, item: Item) -> ImportOutcome:
        del batch
        if item.known is not None:
            await self._written_to("PATCH", CONTACT, item.known.id, "lead", "contact", item.body)
            return ImportOutcome(outcome="updated", id=item.known.id)
        row = record_if_shown(await self._api.write("POST", CONTACTS, item.body), "contact")
        if key_of(row):
            refuse_other_person(item.draft, self._person_shown(row))
        return ImportOutcome(outcome="created", id=key_of(row))

    async def _send(self, batch: Batch, items: Seq[Item]) -> None:
        """Create contacts in one call; those of which its answer says nothing are looked for: who is there now was
        created."""
        bodies = [each.body for each in items]
        told: dict[int, ItemAnswer] | None = None
        with suppress(OutcomeUnknown):  # it left: what became of it is looked for
            answer = await self._api.write("POST", BULK, {self._keys.contacts: bodies}, bulk=True)
            told = told_by(answer, bodies, words=_WORDS)
        if unknown := [item for item, _ in self._settle(batch, items, told or {})]:
            there, self._there = People(), None
            with suppress(CrmError):
                there = await self._people_among(unknown)
            for item in unknown:
                batch.done[item.place] = _found(item, there)

    def _refused(self, item: Item, said: object) -> ImportOutcome:
        reason = f"{NAME} does not accept it"
        if _DOUBLE.search(json.dumps(said)):
            reason = f"{NAME} has one with this address or number already"
        elif named := faulty(said, item.body):
            reason += f": {', '.join(named)}"
        return ImportOutcome(outcome="failed", reason=reason)

    def _person_shown(self, row: Mapping[str, Any]) -> Person:
        return person_of(lead_of(row, self._keys, {}, self.number))


def _found(item: Item, there: People) -> ImportOutcome:
    if found := there.alike(item.person).people:
        return ImportOutcome(outcome="created", id=found[0].id if len(found) == 1 else None)
    known = item.person.emails or item.person.phones
    why = "it is not found there" if known else "without address and number it can't be looked for"
    reason = f"{NAME} did not say whether it was created, and {why}; look before importing it again"
    return ImportOutcome(outcome="failed", reason=reason)
