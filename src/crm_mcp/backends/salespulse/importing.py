"""Many contacts at once: known addresses are found out first, new contacts are created in bulk, 1,000 a call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from contextlib import aclosing
from typing import Any, ClassVar

import anyio

from crm_mcp.backends.http import at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.identity import People, Person, email_key, person_of, refuse_other_person
from crm_mcp.backends.import_engine import Batch, ImportEngine, Item, KeptPeople
from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.backends.remote import Access, record_in, text, ways_to_write
from crm_mcp.backends.salespulse.bodies import body_of
from crm_mcp.backends.salespulse.bulk import Told, faults_in, refused, told_by
from crm_mcp.backends.salespulse.leads import SalesPulseLeads, addresses_of
from crm_mcp.backends.salespulse.shapes import NAME, identified
from crm_mcp.channels import Channel
from crm_mcp.errors import Conflict, CrmError, InvalidArgument, OutcomeUnknown
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, LeadDraft

BATCH = 1000
PARTS = 9
"""Into how many a refused batch is taken apart: with the refused call these are the ten of a minute."""
SINGLY = 120
"""Up to how many contacts of a refused batch are created one by one: about a minute's calls."""
KEPT_IDLE = 120.0
"""Seconds after its last use for which those who are there are kept."""
KEPT_AT_MOST = 1800.0
NOT_TOLD = f"{NAME} did not say whether it was created"


class SalesPulseImports(SalesPulseLeads, ImportEngine):
    """Imports through the bulk endpoint, which creates and does nothing else.

    New contacts go in one bulk call; an update is one call each. All contacts are read once, 100 a call, and are kept
    while calls follow within two minutes and nothing else is written (at most half an hour): 10,000 rows for an account
    of 500 contacts take 5 calls to read and 10 to create. Where reading would take more calls than to search for each
    address (one) and number (three), they are searched for instead. What others add or delete meanwhile is not seen. A
    contact has no place for a row's key, so a row without address and number can't be recognised: it is created each
    time.

    A batch that is refused as a whole (400 and 422 are documented; they are taken to mean that nothing was written)
    goes again without the contacts that the answer names, by index; where it names none it is taken apart, in nine
    parts, and those that are refused again go one by one. Contacts of which the answer says nothing are looked for
    afterwards; those that are not found are reported as failed, in words that say that it is not known.
    """

    import_size: ClassVar[int] = BATCH

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._importing = anyio.Lock()

    async def import_leads(self, rows: Seq[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows, one call after the other: each must see whom the one before has made."""
        async with self._importing:
            return await super().import_leads(rows, if_exists)

    async def _prepared(self, draft: LeadDraft) -> tuple[LeadDraft, dict[str, Any]]:
        body = body_of(draft, self._keys, self._access.country)
        return draft.model_copy(update=addresses_of(body)), body

    async def _write(self, batch: Batch, items: Seq[Item]) -> None:
        new = [each for each in items if each.known is None]
        for item, outcome in zip(new, await self._create_many(new), strict=True):
            batch.done[item.place] = outcome
        await self._each(batch, [each for each in items if each.known], self._update)

    async def _update(self, batch: Batch, item: Item) -> ImportOutcome:
        del batch
        assert item.known is not None
        lead = item.known.id
        missing = f'there is no lead "{lead}"'
        answer = await self._api.write("PATCH", at("/contacts/{}", lead), item.body, missing=missing)
        row = record_in(answer, "contact") if isinstance(answer, dict) else {}
        refuse_written_other(lead, text(row.get("id")))
        return ImportOutcome(outcome="updated", id=lead)

    # Creating

    async def _create_many(self, items: Seq[Item], *, first: bool = True) -> list[ImportOutcome]:
        """Create contacts in one bulk call; where it is refused and says for whom, the others in a second one."""
        if not items:
            return []
        bodies = [each.body for each in items]
        told: list[Told] = [None] * len(items)
        try:
            answer = await self._api.write("POST", "/contacts/bulk", {self._keys.contacts: bodies}, bulk=True)
            told = told_by(answer, bodies)
        except OutcomeUnknown:
            pass  # it left: what became of it is looked for
        except (InvalidArgument, Conflict) as error:
            faults = faults_in(error.told, len(items)) if first else {}
            if not faults:
                return await self._taken_apart(items)
            rest = [each for number, each in enumerate(items) if number not in faults]
            made = iter(await self._create_many(rest, first=False))
            return [
                refused(body, faults[number]) if number in faults else next(made) for number, body in enumerate(bodies)
            ]
        return await self._settled(items, told)

    async def _taken_apart(self, items: Seq[Item]) -> list[ImportOutcome]:
        """Create contacts of which some are refused, with all the others, in smaller parts."""
        if len(items) <= SINGLY:
            alone = Batch("error")
            try:
                await self._each(alone, items, self._create_one)
            except CrmError as error:
                alone.stop(error, items)
            return [alone.done[each.place] for each in items]
        size = math.ceil(len(items) / PARTS)
        done: list[ImportOutcome] = []
        for start in range(0, len(items), size):
            try:
                done += await self._create_many(items[start : start + size])
            except CrmError as error:
                if not any(each.outcome == "created" for each in done):
                    raise
                rest = ImportOutcome(outcome="failed", reason=f"not tried: {error}")
                return done + [rest] * (len(items) - len(done))
        return done

    async def _create_one(self, batch: Batch, item: Item) -> ImportOutcome:
        del batch
        answer = await self._api.write("POST", "/contacts", item.body)
        row = record_in(answer, "contact") if isinstance(answer, dict) else {}
        if text(row.get("id")):
            refuse_other_person(item.draft, self._known_person(row))
        return ImportOutcome(outcome="created", id=text(row.get("id")))

    async def _settled(self, items: Seq[Item], told: Seq[Told]) -> list[ImportOutcome]:
        """Look for the contacts of which an answer says nothing: who is there now was created."""
        unknown = [item for item, each in zip(items, told, strict=True) if each is None]
        there = People()
        if unknown:
            self._there = None
            try:
                there = await self._people_among(unknown)
            except CrmError:
                self._there = None
        return [each or _found(item, there) for item, each in zip(items, told, strict=True)]

    # Knowing who is there

    async def _people_among(self, items: Seq[Item]) -> People:
        """Return everybody, or those with these items' addresses alone, by the cheaper of the two ways."""
        addresses: dict[str, Channel] = {item.draft.email: "email" for item in items if item.draft.email}
        addresses |= {item.draft.phone: "sms" for item in items if item.draft.phone}
        searches = sum(1 if channel == "email" else len(ways_to_write(each)) for each, channel in addresses.items())
        if self._there is None or not self._there.fits(self._writes):
            self._there = await self._everybody(most=searches) if searches > 1 else None
        if self._there is not None:
            return self._there
        found = [await self.leads_at(channel, address) for address, channel in addresses.items()]
        return People(person_of(lead) for leads in found for lead in leads)

    async def _everybody(self, most: int) -> KeptPeople | None:
        """Read who is there, or None where that takes more than so many calls."""
        people, calls = KeptPeople(self._writes, KEPT_IDLE, KEPT_AT_MOST), 0
        async with aclosing(self._pages()) as pages:
            async for rows, total in pages:
                calls += 1
                for row in map(identified, rows):
                    people.add(self._known_person(row))
                needed = calls if total is None else math.ceil(total / max(len(rows), 1)) if calls == 1 else calls
                if needed > most:
                    return None
        return people

    def _known_person(self, row: Mapping[str, Any]) -> Person:
        """Return what a contact is known by, without making a lead of it: there may be many."""
        phone = self.number(row.get("phone"))
        names = (text(row.get(name)) for name in ("first_name", "last_name"))
        return Person(
            str(row["id"]),
            " ".join(each for each in names if each),
            tuple(email_key(each) for each in (text(row.get("email")),) if each),
            (phone,) if phone else (),
            company=text(row.get(self._keys.company)) or "",
            refused=frozenset(refused_channels(row) or ()),
        )


def _found(item: Item, there: People) -> ImportOutcome:
    if found := there.alike(item.person).people:
        return ImportOutcome(outcome="created", id=found[0].id if len(found) == 1 else None)
    known = item.person.emails or item.person.phones
    why = "it is not found there" if known else "without address and number it can't be looked for"
    return ImportOutcome(outcome="failed", reason=f"{NOT_TOLD}, and {why}; look before importing it again")
