"""What imports by a vendor's bulk endpoint share: everybody who is there is read once, and a batch that is refused as a
whole goes again without those at fault."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import ClassVar

import anyio

from crm_mcp.backends.batch_answers import ItemAnswer, faults_in
from crm_mcp.backends.identity import People, Person, person_of
from crm_mcp.backends.import_engine import Batch, ImportEngine, Item, KeptPeople
from crm_mcp.backends.remote import Access, Remote, ways_to_write
from crm_mcp.channels import Channel
from crm_mcp.errors import CrmError, InvalidArgument
from crm_mcp.model import IfExists, ImportOutcome, ImportRow

_UNTOLD = ItemAnswer("unknown")
MOST_SPLITS = 40
"""Requests that are spent on finding the rows at fault, where the answers do not name them."""


class BulkImports(ImportEngine, Remote):
    """Imports that know everybody before they write, and write many leads in one call.

    Who is there is read once, and kept, where that takes fewer calls than to look for each address.
    """

    kept_idle: ClassVar[float] = 60.0
    """Seconds after their last use for which they are kept."""
    kept_longest: ClassVar[float] = 600.0
    """Seconds since they were read for which they are kept."""
    few: ClassVar[int] = 1_000_000
    """Up to how many rows are looked for by their addresses at all."""
    least: ClassVar[int] = -1
    """Up to how many searches these are made without reading anybody first."""

    singly: ClassVar[int] = 1
    """Up to how many rows of a batch that is refused go one by one."""
    parts: ClassVar[int] = 2
    """Into how many a refused batch is taken apart that is larger."""
    refusals: ClassVar[tuple[type[CrmError], ...]] = (InvalidArgument,)
    """What it means of a batch that nothing of it was written."""

    _writes: int
    """How many times a single lead was written: what is remembered of leads is old then."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._importing = anyio.Lock()

    async def import_leads(self, rows: Sequence[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows, one call after the other: each must see whom the one before has made."""
        async with self._importing:
            return await super().import_leads(rows, if_exists)

    @abstractmethod
    def _everybody(self) -> AsyncGenerator[tuple[list[Person], int]]:
        """Yield who is there, call by call, with how many calls all of them take as far as that is known."""

    async def _people_among(self, items: Sequence[Item]) -> People:
        """Return everybody, or those with these items' addresses alone, by the cheaper of the two ways."""
        if self._there is not None and self._there.fits(self._writes):
            return self._there
        addresses: dict[str, Channel] = {item.draft.email: "email" for item in items if item.draft.email}
        addresses |= {item.draft.phone: "sms" for item in items if item.draft.phone}
        searches = sum(1 if channel == "email" else len(ways_to_write(each)) for each, channel in addresses.items())
        most = searches if len(items) <= self.few else None
        self._there = None
        self._there = await self._read(most) if searches > self.least or most is None else None
        if self._there is not None:
            return self._there
        found = [await self.leads_at(channel, address) for address, channel in addresses.items()]
        return People(person_of(lead) for leads in found for lead in leads)

    async def _read(self, most: int | None) -> KeptPeople | None:
        """Read who is there, or None where that takes more than so many calls."""
        people = KeptPeople(self._writes, self.kept_idle, self.kept_longest)
        async with aclosing(self._everybody()) as calls:
            async for some, needed in calls:
                for each in some:
                    people.add(each)
                if most is not None and needed > most:
                    return None
        return people

    @abstractmethod
    async def _send(self, batch: Batch, items: Sequence[Item]) -> None:
        """Send items in one call, and note what became of each; raises one of `refusals` where nothing was written."""

    @abstractmethod
    async def _write_one(self, batch: Batch, item: Item) -> ImportOutcome:
        """Write one item alone."""

    async def _one_by_one(self, batch: Batch, items: Sequence[Item], error: CrmError) -> None:
        """Write items whose batch was refused, none of them by its number, one by one."""
        del error
        await self._each(batch, items, self._write_one)

    def _settle(
        self, batch: Batch, items: Sequence[Item], told: Mapping[int, ItemAnswer]
    ) -> list[tuple[Item, str | None]]:
        """Note what an answer says of the items that were sent, by their number; return those of which it does not say
        it, each with the lead that it names for it."""
        silent: list[tuple[Item, str | None]] = []
        for number, item in enumerate(items):
            found = told.get(number, _UNTOLD)
            if found.verdict == "unknown":
                silent.append((item, found.lead))
            else:
                refused = found.verdict == "refused"
                batch.done[item.place] = self._refused(item, found.said) if refused else self._taken(item, found)
        return silent

    def _taken(self, item: Item, told: ItemAnswer) -> ImportOutcome:
        """Return the outcome of an item that was taken."""
        del item
        return ImportOutcome(outcome="created", id=told.lead)

    @abstractmethod
    def _refused(self, item: Item, said: object) -> ImportOutcome:
        """Return the outcome of an item that was not taken, by what the answer says of it."""

    async def _in_batches(self, batch: Batch, items: Sequence[Item]) -> None:
        """Send items in batches; what of a refused one is to be sent again waits in `left`."""
        left = self._taken_apart(items, self.import_size)
        requests = 0
        while left:
            group = left.pop(0)
            try:
                await self._send(batch, group)
            except self.refusals as error:
                left[:0] = await self._again(batch, group, error, requests)
            requests += 1

    async def _again(self, batch: Batch, group: Sequence[Item], error: CrmError, requests: int) -> list[Sequence[Item]]:
        """Return what of a refused batch is sent again: it without the items that the answer names, else its parts."""
        faults = faults_in(error.told, len(group))
        for number, said in faults.items():
            batch.done[group[number].place] = self._refused(group[number], said)
        if faults:
            rest = [each for number, each in enumerate(group) if number not in faults]
            return [rest] if rest else []
        if len(group) <= self.singly:
            await self._one_by_one(batch, group, error)
        elif requests < MOST_SPLITS:
            return self._taken_apart(group, math.ceil(len(group) / self.parts))
        else:
            for each in group:
                reason = f"{self.called} refused the batch that it was in, and did not say because of which row"
                batch.fail(each, reason)
        return []

    @staticmethod
    def _taken_apart(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
        return [items[start : start + size] for start in range(0, len(items), size)]
