"""Many contacts at once: known addresses are found out first, new contacts are created in bulk, 1,000 a call."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Sequence as Seq
from contextlib import aclosing
from typing import Any, ClassVar

import anyio

from crm_mcp.address import address_key
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.http import at
from crm_mcp.backends.people import AddressBook, keys_of
from crm_mcp.backends.remote import Access, record_in, text, ways_to_write
from crm_mcp.backends.salespulse.bodies import body_of
from crm_mcp.backends.salespulse.bulk import Told, faults_in, refused, told_by
from crm_mcp.backends.salespulse.leads import SalesPulseLeads
from crm_mcp.backends.salespulse.shapes import NAME, identified
from crm_mcp.errors import Conflict, CrmError, InvalidArgument, NotFound, OutcomeUnknown, Unsupported
from crm_mcp.model import Channel, IfExists, ImportOutcome, ImportRow

BATCH = 1000
PARTS = 9
"""Into how many a refused batch is taken apart: with the refused call these are the ten of a minute."""
SINGLY = 120
"""Up to how many contacts of a refused batch are created one by one: about a minute's calls."""
KEPT_IDLE = 120.0
"""Seconds after its last use for which the index of addresses is kept."""
KEPT_AT_MOST = 1800.0

Body = Mapping[str, Any]
ONE_ROW = (InvalidArgument, NotFound, Conflict, Unsupported, OutcomeUnknown)
"""What goes wrong with one contact and says nothing about the next."""
NOT_TOLD = f"{NAME} did not say whether it was created"


def keys(body: Body) -> list[str]:
    """Return what a contact is recognised by: its address and its number."""
    return keys_of((body.get("email"), body.get("phone")))


class SalesPulseImports(SalesPulseLeads, ImportsLeads):
    """Imports through the bulk endpoint, which creates and does nothing else."""

    import_size: ClassVar[int] = BATCH

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._index: AddressBook | None = None
        self._importing = anyio.Lock()

    async def import_leads(self, rows: Seq[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows: new ones in one bulk call, known ones by `if_exists`, an update with one call each.

        Known is who has the address or number. All contacts are read once, 100 a call, and their addresses are kept
        while calls follow within two minutes and nothing else is written (at most half an hour): 10,000 rows for an
        account of 500 contacts take 5 calls to read and 10 to create. Where reading would take more calls than to
        search for each address (one) and number (three), they are searched for instead. What others add or delete
        meanwhile is not seen. A contact has no place for a row's key, so a row without address and number can't be
        recognised: it is created each time.

        A batch that is refused as a whole (400 and 422 are documented; they are taken to mean that nothing was
        written) goes again without the contacts that the answer names, by index; where it names none it is taken
        apart, in nine parts, and those that are refused again go one by one. Contacts of which the answer says nothing
        are looked for afterwards; those that are not found are reported as failed, in words that say that it is not
        known.
        """
        async with self._importing:
            work = _Import(rows, if_exists)
            for index, row in enumerate(rows):
                try:
                    work.bodies[index] = body_of(row.draft, self._keys, self._access.country)
                except (InvalidArgument, Unsupported) as error:
                    work.outcomes[index] = ImportOutcome(outcome="failed", reason=str(error))
            known = await self._known_among(list(work.bodies.values()))
            new, twins = work.sorted_out(known)
            made = await self._create_many([work.bodies[index] for index in new])
            for index, outcome in zip(new, made, strict=True):
                work.outcomes[index] = outcome
                if outcome.outcome == "created":
                    known.add(keys(work.bodies[index]), outcome.id or "")
            work.follow(twins, known)
            await self._update_known(work, known)
            return work.result()

    async def _update_known(self, work: _Import, known: AddressBook) -> None:
        async def update(index: int) -> ImportOutcome:
            body = work.bodies[index]
            lead = work.updates[index] or await self._id_at(body)
            known.refuse_lifting(lead, body)
            await self._api.write("PATCH", at("/contacts/{}", lead), body, missing=f'there is no lead "{lead}"')
            known.add(keys(body), lead)
            return ImportOutcome(outcome="updated", id=lead)

        order = list(work.updates)
        for index, outcome in zip(order, await _one_by_one(order, update), strict=True):
            work.outcomes[index] = outcome

    async def _id_at(self, body: Body) -> str:
        """Return the id of the contact with this address or number; empty where it is not found."""
        return next((each.id for each in await self._holders(body)), "")

    # Creating

    async def _create_many(self, bodies: Seq[Body], *, first: bool = True) -> list[ImportOutcome]:
        """Create contacts in one bulk call; where it is refused and says for whom, the others in a second one."""
        if not bodies:
            return []
        told: list[Told] = [None] * len(bodies)
        try:
            answer = await self._api.write("POST", "/contacts/bulk", {self._keys.contacts: list(bodies)}, bulk=True)
            told = told_by(answer, bodies)
        except OutcomeUnknown:
            pass  # it left: what became of it is looked for
        except (InvalidArgument, Conflict) as error:
            faults = faults_in(error.told, len(bodies)) if first else {}
            if not faults:
                return await self._taken_apart(bodies)
            rest = [body for index, body in enumerate(bodies) if index not in faults]
            made = iter(await self._create_many(rest, first=False))
            return [
                refused(body, faults[index]) if index in faults else next(made) for index, body in enumerate(bodies)
            ]
        return await self._settled(bodies, told)

    async def _taken_apart(self, bodies: Seq[Body]) -> list[ImportOutcome]:
        """Create contacts of which some are refused, with all the others, in smaller parts."""
        if len(bodies) <= SINGLY:
            return await _one_by_one(bodies, self._create_one)
        size = math.ceil(len(bodies) / PARTS)
        done: list[ImportOutcome] = []
        for start in range(0, len(bodies), size):
            part = bodies[start : start + size]
            try:
                done += await self._create_many(part)
            except CrmError as error:
                if not any(each.outcome == "created" for each in done):
                    raise
                rest = ImportOutcome(outcome="failed", reason=f"not tried: {error}")
                return done + [rest] * (len(bodies) - len(done))
        return done

    async def _create_one(self, body: Body) -> ImportOutcome:
        answer = await self._api.write("POST", "/contacts", body)
        row = record_in(answer, "contact") if isinstance(answer, dict) else {}
        return ImportOutcome(outcome="created", id=text(row.get("id")))

    async def _settled(self, bodies: Seq[Body], told: Seq[Told]) -> list[ImportOutcome]:
        """Look for the contacts of which an answer says nothing: who is there now was created."""
        unknown = [body for body, each in zip(bodies, told, strict=True) if each is None]
        known = AddressBook()
        if unknown:
            self._index = None
            try:
                known = await self._known_among(unknown)
            except CrmError:
                self._index = None
        return [each or _found(body, known) for body, each in zip(bodies, told, strict=True)]

    # Knowing who is there

    async def _known_among(self, bodies: Seq[Body]) -> AddressBook:
        """Return an index that says of each of these contacts whether it is there, by the cheaper of the two ways."""
        addresses: dict[str, Channel] = {body["email"]: "email" for body in bodies if body.get("email")}
        addresses |= {body["phone"]: "sms" for body in bodies if body.get("phone")}
        searches = sum(1 if channel == "email" else len(ways_to_write(each)) for each, channel in addresses.items())
        if self._index is None or not self._index.fits(self._writes):
            self._index = await self._read_all(most=searches) if searches > 1 else None
        if self._index is not None:
            return self._index
        found = self._book()
        for address, channel in addresses.items():
            for lead in await self.leads_at(channel, address):
                found.add([address_key(address)], lead.id)
                found.note(lead.id, lead.custom_fields)
        return found

    def _book(self) -> AddressBook:
        return AddressBook(self._writes, KEPT_IDLE, KEPT_AT_MOST)

    async def _read_all(self, most: int) -> AddressBook | None:
        """Read the addresses of all contacts, or None where that takes more than so many calls."""
        index, calls = self._book(), 0
        async with aclosing(self._pages()) as pages:
            async for rows, total in pages:
                calls += 1
                for row in map(identified, rows):
                    index.add(keys_of((row.get("email"), self.number(row.get("phone")))), str(row["id"]))
                    index.note(str(row["id"]), row)
                needed = calls if total is None else math.ceil(total / max(len(rows), 1)) if calls == 1 else calls
                if needed > most:
                    return None
        return index


class _Import:
    """One batch: its rows, the bodies of those that are valid, and what became of each."""

    def __init__(self, rows: Seq[ImportRow], if_exists: IfExists) -> None:
        self.rows = rows
        self.if_exists: IfExists = if_exists
        self.bodies: dict[int, dict[str, Any]] = {}
        self.updates: dict[int, str] = {}
        """The rows that change a contact, and its id."""
        self.outcomes: dict[int, ImportOutcome] = {}

    def sorted_out(self, known: AddressBook) -> tuple[list[int], list[int]]:
        """Return the rows that are new, and those that share an address with one of these; the others are decided."""
        new: list[int] = []
        twins: list[int] = []
        coming = AddressBook()
        for index, body in self.bodies.items():
            if there := known.at(keys(body)):
                self._decide(index, there)
            elif coming.at(keys(body)):
                twins.append(index)
            else:
                coming.add(keys(body), "")
                new.append(index)
        return new, twins

    def follow(self, twins: Seq[int], known: AddressBook) -> None:
        """Decide about the rows that share an address with a new one, now that this is there or was refused."""
        for index in twins:
            if there := known.at(keys(self.bodies[index])):
                self._decide(index, there)
            else:
                reason = "the row before it with this address or number was not created"
                self.outcomes[index] = ImportOutcome(outcome="failed", reason=reason)

    def _decide(self, index: int, there: Seq[str]) -> None:
        lead = there[0] or None
        if self.if_exists == "skip":
            self.outcomes[index] = ImportOutcome(outcome="skipped", id=lead)
        elif self.if_exists == "error":
            reason = f"{lead or 'a row before it'} has this address or number already"
            self.outcomes[index] = ImportOutcome(outcome="failed", id=lead, reason=reason)
        elif len(there) > 1:
            reason = f"its address and number belong to several leads: {', '.join(there)}"
            self.outcomes[index] = ImportOutcome(outcome="failed", reason=reason)
        else:
            self.updates[index] = there[0]

    def result(self) -> tuple[ImportOutcome, ...]:
        """Return the outcomes, one a row, in order."""
        return tuple(self.outcomes[index] for index in range(len(self.rows)))


def _found(body: Body, known: AddressBook) -> ImportOutcome:
    if there := known.at(keys(body)):
        return ImportOutcome(outcome="created", id=there[0] or None)
    why = "it is not found there" if keys(body) else "without address and number it can't be looked for"
    return ImportOutcome(outcome="failed", reason=f"{NOT_TOLD}, and {why}; look before importing it again")


async def _one_by_one(items: Seq[Any], work: Callable[[Any], Awaitable[ImportOutcome]]) -> list[ImportOutcome]:
    """Do one item after the other; what fails for all of them ends it, and the rest is reported as not tried."""
    done: list[ImportOutcome] = []
    for each in items:
        try:
            done.append(await work(each))
        except ONE_ROW as error:
            done.append(_failed(str(error)))
        except CrmError as error:
            done.append(_failed(str(error)))
            return done + [_failed(f"not tried: {error}")] * (len(items) - len(done))
    return done


def _failed(reason: str) -> ImportOutcome:
    return ImportOutcome(outcome="failed", reason=reason)
