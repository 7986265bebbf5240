"""One import for every CRM behind an API: who is there, what is new, whom a row changes, and what became of each.

A vendor says in its own room how a row is sent, who is there, and how several leads are written; who is the same person
as whom is decided here, for all of them alike (see `identity`).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from crm_mcp.backends.base import FindsLeads, ImportsLeads, KeepsBlocklist, WritesLeads
from crm_mcp.backends.identity import (
    OTHER_NAME,
    Found,
    People,
    Person,
    holders,
    person_in,
    person_of,
    unlike,
    was_there,
)
from crm_mcp.backends.opt_out_fields import lifted_channels, still_refused
from crm_mcp.errors import (
    Busy,
    CrmError,
    Forbidden,
    InvalidArgument,
    OutcomeUnknown,
    PaymentRequired,
    TimedOut,
    Unauthorized,
    Unreachable,
    Unsupported,
)
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, Lead, LeadDraft, LeadUpdate

STOPS = (Busy, Forbidden, PaymentRequired, TimedOut, Unauthorized, Unreachable)
"""What would stop every further row as well."""
UNSURE = "not known whether it was imported; look for it before trying again"
_NO_ID = "a row before it made a lead with this address or number, and the CRM did not say its id"


@dataclass(frozen=True)
class Item:
    """One row as it is sent."""

    place: int
    draft: LeadDraft
    """Its addresses are in their normal form."""
    body: Any
    """What the vendor's room made of it."""
    person: Person
    known: Person | None = None
    """Whom it changes; None: it makes a new lead."""
    other_name: bool = False
    """It has another name altogether: only what is empty is filled."""
    shares: bool = False
    """Somebody else, there or coming, has its number: whoever is known by a number alone would be taken for it."""


class KeptPeople(People):
    """Those who are there, as they were read for an import and are kept for the calls that follow."""

    def __init__(self, writes: int = 0, idle: float = 60.0, longest: float = 600.0) -> None:
        """`writes` is how many single leads this program had written when the reading began: it is old once there are
        more. `idle` and `longest` are the seconds without a use, and since the reading, after which it is old."""
        super().__init__()
        self.writes = writes
        self._idle = idle
        self._longest = longest
        self._read = self._used = time.monotonic()

    def fits(self, writes: int) -> bool:
        """Whether it can still be used after so many writes; this counts as a use."""
        before = self._used
        self.use()
        return writes == self.writes and self._used - before < self._idle and self._used - self._read < self._longest

    def use(self) -> None:
        """Note that it is in use."""
        self._used = time.monotonic()


@dataclass
class Batch:
    """One call: what is asked for, and what became of each row so far, by its place."""

    if_exists: IfExists
    done: dict[int, ImportOutcome] = field(default_factory=dict[int, ImportOutcome])
    remarks: dict[int, str] = field(default_factory=dict[int, str])
    """What of a row could not be taken, by its place."""

    def outcomes(self) -> tuple[ImportOutcome, ...]:
        """Return what became of each row, in order, with what is to be said of it."""
        return tuple(self._told(self.done[place], self.remarks.get(place)) for place in sorted(self.done))

    @staticmethod
    def _told(outcome: ImportOutcome, remark: str | None) -> ImportOutcome:
        reason = "; ".join(filter(None, (outcome.reason, remark)))
        return outcome.model_copy(update={"reason": reason}) if remark else outcome

    def fail(self, item: Item, reason: str, lead: str | None = None) -> None:
        """Note that a row was not imported."""
        self.done[item.place] = ImportOutcome(outcome="failed", id=lead, reason=reason)

    def wave(self, items: Sequence[Item], people: People) -> tuple[list[Item], list[Item]]:
        """Decide what can be decided; return what is to be written now, and what must wait because a row before it may
        be the same person."""
        now: list[Item] = []
        later: list[Item] = []
        coming = People(names=people.names)
        changing: set[str] = set()
        for item in items:
            found = people.alike(item.person)
            if coming.alike(item.person).people or changing.intersection(each.id for each in found.people):
                later.append(item)
                coming.add(item.person)
                continue
            decided = found.decided(self.if_exists)
            if isinstance(decided, ImportOutcome):
                self.done[item.place] = decided
            elif decided is None:
                shares = any(each.has_number(phone) for each in (people, coming) for phone in item.person.phones)
                now.append(replace(item, shares=shares))
                coming.add(item.person)
            elif why := _lifts(item.draft, decided):
                self.fail(item, why, decided.id or None)
            else:
                now.append(replace(item, known=decided, other_name=found.other_name))
                changing.add(decided.id)
                coming.add(item.person)
        return now, later

    def doubt_made(self, items: Sequence[Item], people: People) -> None:
        """Doubt what is told as created with the id of somebody who was there, or of a row before it: the CRM may have
        changed them instead."""
        made: set[str] = set()
        for item in items:
            outcome = self.done.get(item.place)
            if outcome is None or outcome.outcome != "created" or not outcome.id:
                continue
            if outcome.id in made or people.get(outcome.id):
                self.fail(item, f"{UNSURE}: {was_there(outcome.id)}")
            made.add(outcome.id)

    def stop(self, error: CrmError, items: Sequence[Item]) -> None:
        """Leave what has no outcome untried. Raises the error where nothing was written yet."""
        if not any(each.outcome in ("created", "updated") or _is_unsure(each) for each in self.done.values()):
            raise error
        reason = (
            f"{UNSURE}: {error}" if error.wrote is None and isinstance(error, OutcomeUnknown) else f"not tried: {error}"
        )
        for item in items:
            if item.place not in self.done:
                self.fail(item, reason, item.known.id if item.known else None)


class ImportEngine(ImportsLeads, FindsLeads, WritesLeads):
    """Imports, by four hooks of a vendor's room."""

    known_by_name: ClassVar[bool] = False
    """Whether a row without address and number is known by name and company alone."""

    _there: KeptPeople | None = None
    """Those who are there, where all of them were read."""

    async def import_leads(self, rows: Sequence[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows, one outcome a row, in order; rows that may be one person go one after the other.

        Raises:
            CrmError: the CRM failed before anything was written.
        """
        batch = Batch(if_exists)
        waiting = await self._items(rows, batch)
        people = await self._people_among(waiting) if waiting else People()
        while waiting:
            now, waiting = batch.wave(waiting, people)
            try:
                now = [item for item in [await self._told(batch, each, people) for each in now] if item]
                await self._write_wave(batch, now, people)
            except CrmError as error:
                self._there = None
                batch.stop(error, [*now, *waiting])
                break
            for item in now:
                for there in self._known_people(people):
                    _remember(item, batch.done[item.place], there)
        if self._there is not None:
            self._there.use()
        return tuple([await self._on_its_list(row, each) for row, each in zip(rows, batch.outcomes(), strict=True)])

    async def _on_its_list(self, row: ImportRow, outcome: ImportOutcome) -> ImportOutcome:
        """Put who must not be contacted on the CRM's own list, where it keeps one."""
        if not row.blocked or outcome.id is None or not isinstance(self, KeepsBlocklist):
            return outcome
        lead = Lead(id=outcome.id, email=row.draft.email, phone=row.draft.phone, custom_fields=row.draft.custom_fields)
        try:
            await self.block(lead, row.blocked, None)
        except CrmError as error:
            reason = f"blocked here, and not on the CRM's own list: {error}"
            return outcome.model_copy(update={"reason": "; ".join(filter(None, [outcome.reason, reason]))})
        return outcome

    async def plan_import(self, rows: Sequence[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Say what `import_leads` would do; nothing is written."""
        batch = Batch(if_exists)
        waiting = await self._items(rows, batch)
        there = people = People(names=self.known_by_name)
        for place, item in enumerate(waiting):
            if place % self.import_size == 0:
                there = await self._people_among(waiting[place : place + self.import_size])
            found = there.alike(item.person)
            found = found if found.people else people.alike(item.person)
            decided = found.decided(if_exists)
            if isinstance(decided, ImportOutcome):
                batch.done[item.place] = decided
            elif decided is None:
                batch.done[item.place] = ImportOutcome(outcome="created")
                people.add(item.person)
            elif why := _lifts(item.draft, decided):
                batch.fail(item, why, decided.id or None)
            else:
                if not decided.id and not found.other_name:
                    people.put(decided, decided.changed(item.person))
                reason = f"{OTHER_NAME}: only what is empty is filled" if found.other_name else None
                outcome = ImportOutcome(outcome="updated", id=decided.id or None, reason=reason, whom=decided.label)
                batch.done[item.place] = outcome
        return batch.outcomes()

    # What a vendor's room says

    @abstractmethod
    async def _prepared(self, draft: LeadDraft) -> tuple[LeadDraft, Any]:
        """Return a row's draft with its addresses in their normal form, and what is sent for it.

        Raises:
            InvalidArgument, Unsupported: the CRM can't take it.
        """

    @abstractmethod
    async def _people_among(self, items: Sequence[Item]) -> People:
        """Return those who are there, at least those that may be one of these."""

    @abstractmethod
    async def _write(self, batch: Batch, items: Sequence[Item]) -> None:
        """Write these, new ones and such as change somebody (`known`), and note what became of each."""

    # What all share

    async def _items(self, rows: Sequence[ImportRow], batch: Batch) -> list[Item]:
        items: list[Item] = []
        for place, row in enumerate(rows):
            readable, remark = self._readable(row.draft)
            if remark:
                batch.remarks[place] = remark
            try:
                draft, body = await self._prepared(readable)
            except (InvalidArgument, Unsupported) as error:
                batch.done[place] = ImportOutcome(outcome="failed", reason=str(error))
            else:
                items.append(Item(place, draft, body, self._person(draft)))
        return items

    def _readable(self, draft: LeadDraft) -> tuple[LeadDraft, str | None]:
        """Return a row's draft without what can't be read of it and is nobody's, and what is to be said of that."""
        return draft, None

    def _person(self, draft: LeadDraft) -> Person:
        """Return what a row's person is known by."""
        return person_in(draft)

    def _known_people(self, people: People) -> list[People]:
        """Return all that is known of who is there: it may be one thing, or two."""
        return [people, *([self._there] if self._there is not None and self._there is not people else [])]

    async def _write_wave(self, batch: Batch, items: Sequence[Item], people: People) -> None:
        """Write what is to be written now; `people` are those who were there before."""
        plain = [each for each in items if not each.other_name]
        try:
            if plain:
                await self._write(batch, plain)
            await self._each(batch, [each for each in items if each.other_name], self._fill)
        finally:
            batch.doubt_made(items, people)

    async def _told(self, batch: Batch, item: Item, people: People) -> Item | None:
        """Return an item with the id of the lead that it changes: of one that a row before it made it may be untold."""
        if item.known is None or item.known.id:
            return item
        there = await holders(self, item.draft.email, item.draft.phone)
        found = People(map(person_of, there)).alike(item.person)
        if len(found.people) == 1:
            for each in self._known_people(people):  # else they would be there twice, under two names perhaps
                each.put(item.known, found.people[0])
            return replace(item, known=found.people[0])
        batch.fail(item, _NO_ID)
        return None

    async def _each(
        self, batch: Batch, items: Sequence[Item], work: Callable[[Batch, Item], Awaitable[ImportOutcome]]
    ) -> None:
        """Do one item after the other; what would stop every further one is raised."""
        for item in items:
            lead = item.known.id if item.known else None
            try:
                batch.done[item.place] = await work(batch, item)
            except STOPS as error:
                batch.fail(item, str(error), lead)
                raise
            except OutcomeUnknown as error:
                batch.fail(item, f"{UNSURE}: {error}", lead)
            except CrmError as error:
                batch.fail(item, f"{error}; a part was written" if error.wrote else str(error), lead)

    async def _fill(self, batch: Batch, item: Item) -> ImportOutcome:
        """Fill what is empty of somebody who has the address and another name."""
        del batch
        assert item.known is not None
        lead = item.known.record or await self.get_lead(item.known.id)
        return await self._apply_change(lead, only_empty(item.draft, lead), f"{item.known.label}: {OTHER_NAME}")

    async def _met(self, batch: Batch, item: Item, lead: Lead) -> ImportOutcome:
        """Return what becomes of a row that the CRM itself has taken for somebody's who is there, and has not changed:
        where address and name say that they are two people, it does not become theirs."""
        person = self._person_of(lead)
        found = People([person]).alike(item.person)
        if not found.people:
            if another := unlike(person, item.person):
                reason = f"the CRM takes it for {person.label}, who has another {another}"
                outcome = "skipped" if batch.if_exists == "skip" else "failed"
                return ImportOutcome(outcome=outcome, id=lead.id, reason=reason)
            found = Found((person,), "name and company")
        decided = found.decided(batch.if_exists)
        if isinstance(decided, ImportOutcome):
            return decided
        if found.other_name:
            return await self._apply_change(lead, only_empty(item.draft, lead), f"{person.label}: {OTHER_NAME}")
        return await self._apply_change(lead, item.draft, None)

    def _person_of(self, lead: Lead) -> Person:
        """Return what a lead is known by."""
        return person_of(lead)

    async def _apply_change(self, lead: Lead, draft: LeadDraft, reason: str | None) -> ImportOutcome:
        fields = draft.shown()
        if not fields:
            return ImportOutcome(outcome="skipped", id=lead.id, reason=f"{reason}; nothing of it is empty")
        await self.update_lead(lead.id, change_of(draft))
        said = f"{reason}; filled: {', '.join(fields)}" if reason else None
        return ImportOutcome(outcome="updated", id=lead.id, reason=said)


def change_of(draft: LeadDraft) -> LeadUpdate:
    """Return the change that a row is for somebody who is there; the list is for new leads."""
    return LeadUpdate.model_validate(draft.model_dump(exclude_none=True, exclude={"list"}))


def only_empty(draft: LeadDraft, lead: Lead) -> LeadDraft:
    """Return of a row what the lead has nothing of; a name counts as one, whatever its parts are."""
    named = bool(lead.name or lead.first_name or lead.last_name)
    fields = draft.model_dump(exclude_none=True, exclude={"list", "custom_fields"})
    given = {
        name: value
        for name, value in fields.items()
        if not getattr(lead, name) and not (named and name in ("name", "first_name", "last_name"))
    }
    held = lead.custom_fields or {}
    custom = {name: value for name, value in (draft.custom_fields or {}).items() if held.get(name) in (None, "")}
    return LeadDraft.model_validate(given | ({"custom_fields": custom} if custom else {}))


def _remember(item: Item, outcome: ImportOutcome, people: People) -> None:
    """Note who is there now."""
    if outcome.outcome == "created":
        people.add(replace(item.person, id=outcome.id or ""))
    elif outcome.outcome == "updated" and item.known and not item.other_name:
        people.add(replace(item.known.changed(item.person), record=None))
    elif outcome.outcome in ("updated", "skipped") and outcome.id and not item.known:
        people.add(replace(item.person, id=outcome.id))


def _lifts(draft: LeadDraft, person: Person) -> str | None:
    """Return why a row can't change somebody: a flag would no more say that they must not be contacted."""
    for name, channels in lifted_channels(draft.custom_fields or {}).items():
        if person.refused & set(channels):
            return str(still_refused(name, person.label))
    return None


def _is_unsure(outcome: ImportOutcome) -> bool:
    return bool(outcome.reason and outcome.reason.startswith(UNSURE))
