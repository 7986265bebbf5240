"""Leads are SalesSheet's contacts: found, read, created and changed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from crm_mcp.address import email_address, phone_number
from crm_mcp.backends.base import FindsLeads, WritesLeads
from crm_mcp.backends.identity import person_of, refuse_other_person, refuse_same, refuse_there
from crm_mcp.backends.lead_fields import IDENTIFYING, addresses_in, readdressed, refuse_nobody
from crm_mcp.backends.opt_out_fields import refuse_lifting
from crm_mcp.backends.refusals import refuse_filters, refuse_sort
from crm_mcp.backends.remote import (
    MOST_AT_ADDRESS,
    ONE_CUSTOM,
    refuse_clearing,
    refuse_unkept,
    text,
    ways_to_write,
)
from crm_mcp.backends.salessheet import codec
from crm_mcp.backends.salessheet.api import CONTACTS, NAME, SalesSheetApi
from crm_mcp.backends.salessheet.codec import Json
from crm_mcp.backends.salessheet.keys import Keys
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, Unsupported
from crm_mcp.model import CustomValue, Lead, LeadDraft, LeadFields, LeadFilter, LeadUpdate, Page, Slice, fold

F = TypeVar("F", bound=LeadFields)

PLAIN = ("first_name", "last_name", "email", "phone", "company", "title", "status", "owner")
"""The fields that are one key each."""
CLEARABLE = ("name", *PLAIN, "custom_fields")
_LEAST_DIGITS = 3


class SalesSheetLeads(FindsLeads, WritesLeads, SalesSheetApi):
    """Contacts as leads. Companies are contacts as well (documented), and come among them."""

    lead_filters: ClassVar[frozenset[str]] = frozenset({"query", "status", "owner", "sort"})
    lead_sorts: ClassVar[tuple[str, ...]] = (
        "-created_at",
        "created_at",
        "name",
        "-name",
        "updated_at",
        "-updated_at",
    )

    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        """Find contacts; every one that is given really fits, whether or not the CRM knew the parameter.

        Raises:
            Unsupported: the CRM ignored the filter, and has more than 1,000 contacts to look through.
        """
        refuse_filters(NAME, "leads", wanted, self.lead_filters)
        refuse_sort(wanted.sort, self.lead_sorts)
        query, fits = self._criteria(wanted)
        sort = wanted.sort or self.lead_sorts[0]
        key: str = getattr(self._keys, sort.lstrip("-"))
        fetch = self._rows(CONTACTS, query, f"-{key}" if sort.startswith("-") else key, asked=bool(wanted.sort))
        if not query:
            return await self._page(fetch, self._lead, part)
        narrow = "give the exact e-mail address or the lead's id"
        return await self._sifted(fetch, self._lead, fits, part, narrow=narrow)

    async def get_lead(self, lead: str) -> Lead:
        """Read one contact."""
        return self._lead(await self._one(CONTACTS, lead))

    async def leads_at(self, channel: Channel, address: str) -> tuple[Lead, ...]:
        """Return the contacts with exactly this address or number.

        The CRM is asked by a filter named like the field: for a number in E.164, then for its national digits, and
        then by words for its last four digits, as it may be kept as it was typed. Where an answer shows that the filter
        was ignored, every contact was looked at, and nothing more is asked.
        """
        if channel == "linkedin":
            return ()
        keys = self._keys
        if channel == "email":
            asked = [(keys.email, address)]
        else:
            *whole, last = ways_to_write(address)
            asked = [*((keys.phone, each) for each in whole), (keys.search if whole else keys.phone, last)]
        found: dict[str, Lead] = {}
        ignored = False

        def fits(each: Lead) -> bool:
            nonlocal ignored
            same = self.same_address(each.address(channel), address)
            ignored = ignored or not same
            return same

        narrow = "give the lead's id; keys in the settings can correct the filter's name"
        for place, (name, value) in enumerate(asked):
            fetch = self._rows(CONTACTS, {name: value})
            try:
                page = await self._sifted(fetch, self._lead, fits, Slice(limit=MOST_AT_ADDRESS), narrow=narrow)
            except Unsupported:
                if not place:
                    raise
                break  # the filter did its work, and the search by words does not
            found |= {each.id: each for each in page.items}
            if ignored:
                break
        return tuple(found.values())[:MOST_AT_ADDRESS]

    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create a contact, after looking whether its address or number is there."""
        body = self._contact_body(draft)
        there = await refuse_same(self, self._readdressed(draft, body))
        self._writes += 1
        made = self._lead(await self._made(CONTACTS, body))
        refuse_there(made.id, there)
        refuse_other_person(self._readdressed(draft, body), person_of(made))
        lost = [each for each in PLAIN if getattr(draft, each) and getattr(made, each) is None]
        if draft.name and fold(made.name or "") != fold(" ".join(draft.name.split())):
            lost.append("name")
        kept = made.custom_fields or {}
        lost += [ONE_CUSTOM + k for k, v in (draft.custom_fields or {}).items() if v is not None and k not in kept]
        refuse_unkept(NAME, lost, f"{made.label} ({made.id}), which it created,")
        return made

    async def update_lead(self, lead: str, change: LeadUpdate) -> Lead:
        """Change a contact: what differs is sent, and custom fields as a whole; None takes one of them away."""
        record = await self._one(CONTACTS, lead)
        before = self._lead(record)
        changes = self._changes(record, before, change)
        if not changes:
            return before
        await refuse_same(self, self._readdressed(change, changes), before)
        self._writes += 1
        after = self._lead(await self._changed(CONTACTS, lead, changes))
        refuse_unkept(NAME, _unkept(before, after, change), f"{after.label} ({after.id})")
        return after

    def _lead(self, record: Json) -> Lead:
        return codec.lead(record, self._keys, self.number)

    def _criteria(self, wanted: LeadFilter) -> tuple[dict[str, str], Callable[[Lead], bool]]:
        """Return the parameters of a search, and what tells whether a lead fits."""
        keys = self._keys
        query: dict[str, str] = {}
        words = (wanted.query or "").split()
        if words:
            name, value = self._asked_for(" ".join(words))
            query[name] = value
        if wanted.status:
            query[keys.status] = wanted.status
        if wanted.owner:
            query[keys.owner] = wanted.owner

        def fits(found: Lead) -> bool:
            return (
                (not wanted.status or fold(found.status or "") == fold(wanted.status))
                and (not wanted.owner or fold(found.owner or "") == fold(wanted.owner))
                and _has_words(found, words)
            )

        return query, fits

    def _asked_for(self, words: str) -> tuple[str, str]:
        """Return the parameter for words: an exact address or number has one of its own."""
        try:
            if "@" in words:
                return self._keys.email, email_address(words)
            if sum(map(str.isdigit, words)) >= 7 and not any(map(str.isalpha, words)):
                return self._keys.phone, phone_number(words, self._access.country)
        except InvalidArgument:
            pass
        return self._keys.search, words

    def _contact_body(self, fields: LeadFields) -> Json:
        """Return a new contact as it is sent.

        Raises:
            InvalidArgument: nothing says who it is, or an address or number is none.
            Unsupported: it has tags or a list, which SalesSheet's API has not.
        """
        keys = self._keys
        given = self._values(fields)
        if fields.name and not (fields.first_name or fields.last_name):
            given["first_name"], given["last_name"] = _split(fields.name)
        body: Json = {getattr(keys, each): given[each] for each in PLAIN if given.get(each)}
        if fields.name and fields.name != codec.joined_name(body, keys):
            body[keys.name] = fields.name
        if custom := {name: value for name, value in (fields.custom_fields or {}).items() if value is not None}:
            body[keys.custom_fields] = custom
        refuse_nobody(given)
        return body

    def _values(self, fields: LeadFields) -> dict[str, Any]:
        """Return the plain fields that are given, addresses and numbers in their normal form."""
        if fields.tags or fields.list:
            what = "tags" if fields.tags else "lists"
            raise Unsupported(
                f"SalesSheet's API has no {what}",
                f"it has {', '.join(CLEARABLE)}; a custom field may serve",
                wrote=False,
            )
        for name, value in (fields.custom_fields or {}).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidArgument(f'the custom field "{name}" is no number', "give a finite one", wrote=False)
        given = {each: getattr(fields, each) for each in PLAIN}
        given["email"], given["phone"] = addresses_in(fields, self._access.country)
        return given

    def _readdressed(self, fields: F, body: Mapping[str, Any]) -> F:
        return readdressed(fields, body, self._keys.email, self._keys.phone)

    def _changes(self, record: Json, before: Lead, change: LeadUpdate) -> Json:
        """Return the keys of a contact that differ from what is wanted, with their new values."""
        keys = self._keys
        custom = before.custom_fields or {}
        wanted = self._values(change)
        refuse_clearing(change.model_dump(), change.clear, CLEARABLE)
        cleared = set(change.clear)
        now = {each: None if each in cleared else wanted[each] or getattr(before, each) for each in PLAIN}
        name = None if "name" in cleared else change.name
        if name and not (change.first_name or change.last_name):
            now["first_name"], now["last_name"] = _split(name)
        elif "name" in cleared:
            now["first_name"] = now["last_name"] = None
        changes: Json = {getattr(keys, each): now[each] for each in PLAIN if now[each] != getattr(before, each)}
        own = text(record.get(keys.name))
        apart = own is not None and own != codec.joined_name(record, keys)
        if name and apart and not (change.first_name or change.last_name):
            changes = {k: v for k, v in changes.items() if k not in (keys.first_name, keys.last_name)}
        after = {**record, **changes}
        if name and (own is not None or name != codec.joined_name(after, keys)) and name != own:
            changes[keys.name] = name
        elif own is not None and "name" in cleared:
            changes[keys.name] = None
        left = {**record, **changes}
        refuse_nobody({each: text(left.get(getattr(keys, each))) for each in IDENTIFYING})
        single = [each.removeprefix(ONE_CUSTOM) for each in change.clear if each.startswith(ONE_CUSTOM)]
        gone = custom if "custom_fields" in cleared else single
        new = {**dict.fromkeys(gone), **(change.custom_fields or {})}
        refuse_lifting(before, new)
        return {**changes, **_custom_changes(record, custom, new, keys)}


def _custom_changes(
    record: Json, present: Mapping[str, CustomValue], new: Mapping[str, CustomValue], keys: Keys
) -> Json:
    """Return what is sent for custom fields: those of the object whole, since it may be replaced or merged.

    A field that the contact has beside the object, because no field of ours takes it, is sent where it stands.
    """
    held = record.get(keys.custom_fields)
    inside = cast("Json", held) if isinstance(held, dict) else {}
    known = codec.known_of_contacts(keys)
    differing = {name: value for name, value in new.items() if present.get(name) != value}
    beside = {name for name in differing if name not in inside and name in record and name not in known}
    changes: Json = {name: differing[name] for name in differing if name in beside}
    if within := {name: value for name, value in differing.items() if name not in beside}:
        changes[keys.custom_fields] = {**inside, **within}
    return changes


def _unkept(before: Lead, after: Lead, change: LeadUpdate) -> list[str]:
    """Return the fields that should differ now and do not."""
    old, new = before.model_dump(), after.model_dump()
    asked = {each: getattr(change, each) for each in ("name", *PLAIN) if getattr(change, each)}
    asked |= {each: None for each in change.clear if each in asked or each in ("name", *PLAIN)}
    lost = [each for each, value in asked.items() if old[each] == new[each] and _differs(each, old[each], value)]
    had, has = before.custom_fields or {}, after.custom_fields or {}
    custom = change.custom_fields or {}
    return lost + [
        ONE_CUSTOM + name for name, value in custom.items() if had.get(name) == has.get(name) and had.get(name) != value
    ]


def _differs(field: str, old: str | None, wanted: str | None) -> bool:
    if field == "phone" and old and wanted:  # it may have been given in another form
        return not re.sub(r"\D", "", old).endswith(re.sub(r"\D", "", wanted).lstrip("0"))
    return fold(old or "") != fold(" ".join((wanted or "").split()))


def _split(name: str) -> tuple[str, str | None]:
    """Return first and last name: the last word, where there are several, is the last name."""
    *first, last = name.split()
    return (" ".join(first), last) if first else (last, None)


def _has_words(found: Lead, words: list[str]) -> bool:
    """Whether every word is in some field of a lead, digits also as a part of its number."""
    told = found.model_dump(exclude={"id", "created_at", "updated_at", "last_contacted_at", "custom_fields"})
    values = [*told.values(), *(found.custom_fields or {}).values()]
    everything = fold(" ".join(str(each) for each in values if each is not None))
    number = re.sub(r"\D", "", found.phone or "")
    return all(fold(word) in everything or _in_number(word, number) for word in words)


def _in_number(word: str, number: str) -> bool:
    digits = re.sub(r"\D", "", word)
    return len(digits) >= _LEAST_DIGITS and not any(map(str.isalpha, word)) and digits in number
