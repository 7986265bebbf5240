"""One person is one person: whether a lead that comes, by an import or an upsert, is somebody who is there already.

The e-mail address decides, and the LinkedIn profile where a CRM keeps them. A number alone decides only where neither
e-mail nor name says otherwise: colleagues share a switchboard, and families a telephone. Whoever is known by an address
and has another name altogether keeps name and addresses: only what is empty is filled.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from crm_mcp.backends.base import FindsLeads
from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.channels import Channel
from crm_mcp.errors import Conflict, OtherWritten
from crm_mcp.model import IfExists, ImportOutcome, Lead, LeadFields, fold

By = Literal["e-mail address", "LinkedIn profile", "number", "name and company"]

OTHER_NAME = "other name"
_SHOWN = 5
_LONGEST_NAME = 500
"""Characters of a name that are compared: to compare two takes the product of their words."""
_MANY = 16
"""People at one number from which on they are looked up by their names, and not compared one by one."""
_WORD = re.compile(r"[^\W_]+")
_TITLES = frozenset(
    (
        *("mr", "mrs", "ms", "miss", "mx", "dr", "prof", "sir", "dame", "herr", "frau", "ing", "dipl", "mba"),
        *("phd", "md", "jr", "sr", "ii", "iii", "iv", "esq", "sra", "srta", "mme", "mlle", "dott", "dottssa"),
    )
)
"""What is nobody's name: whether somebody has one tells nobody apart, another one does (`Herr Roth`, `Frau Roth`)."""
_COMMON = _TITLES | frozenset(
    (
        *("and", "und", "the", "of", "de", "del", "della", "di", "da", "do", "dos", "das", "du", "des", "la", "le"),
        *("el", "al", "van", "von", "vom", "zu", "zum", "zur", "der", "den", "ter", "ten", "bin", "ibn", "bint", "af"),
        "mag",
    )
)
"""What stands in many people's names, so that two who have it may have nothing else in common; of a few it is all that
tells them apart (`Do Nguyen`, `Le Nguyen`)."""


@dataclass(frozen=True, slots=True)
class Person:
    """What somebody is known by, as it is compared. `id` is empty where the CRM has not told it."""

    id: str
    name: str = ""
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    profile: str = ""
    """As the CRM compares it; empty where it knows nobody by one."""
    company: str = ""
    refused: frozenset[Channel] = frozenset()
    """Where flags of the CRM's own say that they must not be contacted."""
    record: Lead | None = field(default=None, compare=False, repr=False)
    """The lead, where it was read whole and is worth keeping."""

    @property
    def label(self) -> str:
        """The id, with what a person calls them."""
        called = self.name or self.company or next(iter((*self.emails, *self.phones)), "")
        known = self.id or "a row before it"
        return f"{known} ({called})" if called else known

    def changed(self, by: Person) -> Person:
        """Return what they are known by once they were given what another one is known by."""
        emails = (*by.emails, *(each for each in self.emails if each not in by.emails))
        return replace(
            self,
            name=by.name or self.name,
            emails=emails,
            phones=by.phones or self.phones,
            profile=by.profile or self.profile,
            company=by.company or self.company,
        )


class Found(NamedTuple):
    """Whom somebody who comes may be; nobody where they are new."""

    people: tuple[Person, ...] = ()
    by: By = "e-mail address"
    other_name: bool = False
    """The address is theirs, and no word of the two names is the same."""
    apart: bool = False
    """The LinkedIn profile is theirs, and e-mail address and name are another person's: nothing of it is theirs."""

    def decided(self, if_exists: IfExists) -> ImportOutcome | Person | None:
        """Return what becomes of an import's row: its outcome, whom it changes, or None where it makes a new lead."""
        person = next(iter(self.people), None)
        if person is None:
            return None
        if len(self.people) > 1:
            who = ", ".join(each.label for each in self.people[:_SHOWN])
            reason = f"several leads have this {self.by}: {who}"
            if if_exists == "skip":
                return ImportOutcome(outcome="skipped", reason=reason)
            return ImportOutcome(outcome="failed", reason=f"{reason}; change one of them by its id")
        if if_exists == "update" and not self.apart:
            return person
        reason = f"{person.label} has this {self.by} already"
        reason += (", and another e-mail address" * self.apart) + (f"; {OTHER_NAME}" if self.other_name else "")
        outcome = "skipped" if if_exists == "skip" else "failed"
        return ImportOutcome(outcome=outcome, id=person.id or None, reason=reason, whom=person.label)


class People:
    """Those who are there, by what they are known by.

    With `names`, whoever has neither address nor number is known by name and company: where a CRM has no other place to
    recognise a row that is imported again.
    """

    def __init__(self, people: Iterable[Person] = (), *, names: bool = False) -> None:
        self.names = names
        self._people: dict[str, Person] = {}
        self._count = 0
        self._at: dict[tuple[By, str], list[str]] = {}
        self._called: dict[str, tuple[int, dict[str, list[str]]]] = {}
        """Of a number that many have: how many of them stand here, and they by each word of their name, those without
        a name by an empty word."""
        for each in people:
            self.add(each)

    def add(self, person: Person) -> None:
        """Add somebody, or say anew what somebody of this id is known by."""
        self._count += 1
        key = person.id or f"#{self._count}"
        if person.id:  # what was added of them while their id was not told is told now
            untold = [each for by in self._known_by(person) for each in self._at.get(by, ()) if each.startswith("#")]
            for each in untold:
                if each in self._people and _may_be(self._people[each], person):
                    del self._people[each]
        self._people[key] = person
        for address in self._known_by(person):
            self._at.setdefault(address, []).append(key)

    def put(self, before: Person, now: Person) -> None:
        """Say anew what somebody is known by of whom no id was told."""
        for key in {each for by in self._known_by(before) for each in self._at.get(by, ())}:
            if self._people.get(key) == before:
                del self._people[key]
        self.add(now)

    def get(self, lead: str) -> Person | None:
        """Return the one with this id; None where there is none."""
        return self._people.get(lead)

    def alike(self, person: Person) -> Found:
        """Return whom a person may be: one, or several where it can't be told which."""
        for by, address in self._known_by(person):
            if by == "number":
                continue
            if found := self._among(self._at.get((by, address), ()), by, address):
                apart = [each for each in found if _are_apart(each, person)]
                namesakes = [each for each in found if each not in apart and not are_others(each.name, person.name)]
                agreeing = [each for each in found if names_agree(each.name, person.name)]
                likeliest = agreeing if len(agreeing) == 1 else namesakes or found
                return Found(tuple(likeliest), by, other_name=not namesakes, apart=len(apart) == len(found))
        for phone in person.phones:
            held = [each for each in self._at_number(phone, person.name) if _may_be(each, person)]
            if held:
                return Found(_called_so(held, person.name), "number")
        return Found()

    def has_number(self, phone: str) -> bool:
        """Whether anybody has this number."""
        return ("number", phone) in self._at

    def _at_number(self, phone: str, name: str) -> list[Person]:
        """Return who has a number: of many, where a name is given, only those with a word of it or without a name."""
        keys = self._at.get(("number", phone), [])
        if len(keys) <= _MANY or not (words := name_words(name)):
            return self._among(keys, "number", phone)
        counted, called = self._called.get(phone, (0, {}))
        for key in keys[counted:]:
            for word in name_words(self._people[key].name if key in self._people else "") or ("",):
                called.setdefault(word, []).append(key)
        self._called[phone] = len(keys), called
        return self._among([key for word in (*words, "") for key in called.get(word, ())], "number", phone)

    def _among(self, keys: Iterable[str], by: By, address: str) -> list[Person]:
        """Return those of these people who have an address still, each once, the first who was added first."""
        people = (self._people[key] for key in dict.fromkeys(keys) if key in self._people)
        return [each for each in people if (by, address) in self._known_by(each)]

    def _known_by(self, person: Person) -> list[tuple[By, str]]:
        """Return what decides who somebody is, in this order."""
        found: list[tuple[By, str]] = []
        found.extend(("e-mail address", each) for each in person.emails)
        if person.profile:
            found.append(("LinkedIn profile", person.profile))
        found.extend(("number", each) for each in person.phones)
        if self.names and not found and (person.name or person.company):
            found.append(("name and company", f"{fold(person.name)}\n{fold(person.company)}"))
        return found


def person_of(lead: Lead) -> Person:
    """Return what a lead is known by."""
    return replace(_person(lead, lead.id), refused=frozenset(refused_channels(lead.custom_fields) or ()))


def person_in(fields: LeadFields) -> Person:
    """Return what somebody who comes is known by; the addresses must be in their normal form."""
    return _person(fields, "")


async def holders(crm: FindsLeads, email: str | None, phone: str | None) -> list[Lead]:
    """Return the leads that have this address or this number, each once."""
    looked: tuple[tuple[Channel, str | None], ...] = (("email", email), ("sms", phone))
    found: dict[str, Lead] = {}
    for channel, address in looked:
        if address:
            found |= {each.id: each for each in await crm.leads_at(channel, address)}
    return list(found.values())


async def find_same(crm: FindsLeads, fields: LeadFields) -> Lead | None:
    """Return the one lead that is this person, by an address or number in its normal form; None: there is none, or it
    can't be told which."""
    there = {each.id: each for each in await holders(crm, fields.email, fields.phone)}
    same = People(map(person_of, there.values())).alike(person_in(fields)).people
    return there[same[0].id] if len(same) == 1 else None


async def refuse_same(crm: FindsLeads, fields: LeadFields, before: Lead | None = None) -> frozenset[str]:
    """Raise Conflict where what is about to be written makes a lead somebody who is there already; return the ids of
    the others who have the address or number.

    `fields` has addresses in their normal form, those alone that are new; `before` is the lead that is changed.
    """
    there = [each for each in await holders(crm, fields.email, fields.phone) if before is None or each.id != before.id]
    if there:
        person = person_in(fields) if before is None else person_of(before).changed(person_in(fields))
        refuse_found(map(person_of, there), person)
    return frozenset(each.id for each in there)


def refuse_found(there: Iterable[Person], person: Person) -> None:
    """Raise Conflict where one of these is this person."""
    same = People(there).alike(person)
    if same.people:
        who = ", ".join(each.label for each in same.people[:_SHOWN])
        raise Conflict(f"this {same.by} belongs to {who}", "update that lead instead", wrote=False)


def refuse_other_person(draft: LeadFields, made: Person) -> None:
    """Raise where the answer to a creation shows somebody else than was to be created: the vendor may have taken them
    for one who was there, and changed them.

    Raises:
        OtherWritten: the e-mail address is another one, or no word of the names is the same; where neither is known,
            the number is another one.
    """
    person = _person(draft, "")
    if (
        _differ(person.emails, made.emails)
        or are_others(person.name, made.name)
        or (not person.emails and not person.name and _differ(person.phones, made.phones))
    ):
        what = "the CRM took the new lead and answered with another person"
        raise OtherWritten(what, made.id, detail=f"shown: {made.id[:200]}")


def refuse_there(made: str, there: Collection[str]) -> None:
    """Raise where the answer to a creation has the id of somebody who was there before.

    Raises:
        OtherWritten: it has; whether there is a new lead, and who was changed, is not known.
    """
    if made in there:
        raise was_there(made)


def was_there(made: str) -> OtherWritten:
    """Return the error for a new lead that was answered with the id of somebody who was there before."""
    return OtherWritten(
        "the CRM took the new lead and answered with one that was there before", made, detail=made[:200]
    )


def are_others(one: str, other: str) -> bool:
    """Whether two names are those of two people: both are there, and no word of them is the same. An initial is no
    word, but where a name has nothing else, and then it may stand for one."""
    words, theirs = sorted(
        (_long(name_words(one)), _long(name_words(other))), key=lambda each: max(map(len, each), default=0)
    )
    if not words or not theirs or words & theirs or _letters(one) == _letters(other):
        return False
    return not all(any(_is_initial(word, each) for each in theirs) for word in words)


def names_agree(one: str, other: str) -> bool:
    """Whether nothing in two names says that they are two people's: one of them is missing, or has only words of the
    other; an initial stands for a word, but not for all of them. Where each has a title that the other lacks, they are
    two people's."""
    words, theirs = sorted((_untitled(one), _untitled(other)), key=len)
    rest, more = words - theirs, theirs - words
    if rest and not (len(rest) < len(words) and all(any(_is_initial(word, each) for each in more) for word in rest)):
        return False
    titles, others = _all_words(one) & _TITLES, _all_words(other) & _TITLES
    return titles <= others or others <= titles


def is_still(one: Person, other: Person) -> bool:
    """Whether somebody who shares no address with what they were once known by may still be that person: by their
    name; where one of them has none, only if no address is another one."""
    if one.name and other.name:
        return names_agree(one.name, other.name)
    return not _differ(one.emails, other.emails) and not _differ(one.phones, other.phones)


def called(fields: Lead | LeadFields) -> str:
    """Return all that somebody is called: the name, and the first and last name that are not in it."""
    name, first, last = fields.name or "", fields.first_name or "", fields.last_name or ""
    if name and (first or last):
        words = _all_words(name[:_LONGEST_NAME])
        first, last = ("" if _all_words(each[:_LONGEST_NAME]) <= words else each for each in (first, last))
    return " ".join(filter(None, (first, name, last)))


def email_key(address: str) -> str:
    """Return an e-mail address as who somebody is is told by it. Blocks go by `address_key`, in which `fuß.example` and
    `fuss.example` are one; they are two people's."""
    return address.strip().lower()


@lru_cache(maxsize=4096)
def name_words(name: str) -> frozenset[str]:
    """Return the words that tell a name apart, folded; all of its words where none of them does."""
    words = _all_words(name)
    return words - _COMMON or words


def _untitled(name: str) -> frozenset[str]:
    """Return the words of a name but for the titles; all of them where there are no others."""
    words = _all_words(name)
    return words - _TITLES or words


@lru_cache(maxsize=4096)
def _all_words(name: str) -> frozenset[str]:
    return frozenset(_WORD.findall(fold(name)))


def _called_so(people: Sequence[Person], name: str) -> tuple[Person, ...]:
    """Return the one of these who has just this name, with its titles or else without; all of them where that says
    nothing."""
    for words in (_all_words, _untitled):
        same = [each for each in people if words(each.name) == words(name)]
        if len(same) == 1:
            return tuple(same)
    return tuple(people)


def _are_apart(one: Person, other: Person) -> bool:
    """Whether both e-mail address and name say that they are two people."""
    return _differ(one.emails, other.emails) and not names_agree(one.name, other.name)


def unlike(one: Person, other: Person) -> Literal["e-mail address", "name"] | None:
    """Return what says that two are two people; None where nothing does."""
    if _differ(one.emails, other.emails):
        return "e-mail address"
    return None if names_agree(one.name, other.name) else "name"


def _may_be(one: Person, other: Person) -> bool:
    """Whether neither e-mail nor name says that two who share a number are two people."""
    return unlike(one, other) is None


def _differ(ones: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether both have addresses, and none is the same."""
    return bool(ones and others) and set(ones).isdisjoint(others)


def _long(words: frozenset[str]) -> frozenset[str]:
    """Return words without initials, unless there is nothing else; a letter that is no ASCII may be a whole name."""
    return frozenset(each for each in words if len(each) > 1 or not each.isascii()) or words


def _letters(name: str) -> str:
    return "".join(_WORD.findall(fold(name)))


def _is_initial(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) == 1 and long.startswith(short)


def _person(fields: Lead | LeadFields, key: str) -> Person:
    return Person(
        key,
        called(fields)[:_LONGEST_NAME],
        (email_key(fields.email),) if fields.email else (),
        (fields.phone.strip(),) if fields.phone else (),
        company=(fields.company or "")[:_LONGEST_NAME],
    )
