"""Leads: created, changed, tagged and moved."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any, ClassVar

from crm_mcp.address import address_key, email_address, phone_number
from crm_mcp.backends.base import FindsLeads, MovesLeads, TagsLeads, WritesLeads
from crm_mcp.backends.identity import Person, email_key, person_in, person_of, refuse_found
from crm_mcp.backends.lead_fields import PARTS, parts_after, whole_name
from crm_mcp.backends.local import labels, rows
from crm_mcp.backends.local.database import File
from crm_mcp.backends.local.search import LEAD, SORTS, lead_by_number, read_leads, search
from crm_mcp.backends.local.words import index_lead
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import CustomValue, Lead, LeadDraft, LeadFields, LeadFilter, LeadUpdate, Page, Slice, crowded

PLAIN = ("name", "first_name", "last_name", "email", "phone", "company", "title")
"""The fields that are columns of text."""
CLEARABLE = (
    *("name", "first_name", "last_name", "email", "phone", "company", "title"),
    "status",
    "owner",
    "tags",
    "custom_fields",
)
_ONE_CUSTOM = "custom_fields."
_MOST_AT_ADDRESS = 10
_LONGEST_TAG = 200

_KNOWN_BY = ("name", "first_name", "last_name", "email", "phone", "company")
KNOWN_BY = ", ".join(("n", *_KNOWN_BY))
"""The columns that tell who a lead is."""
_PEOPLE = f"SELECT {KNOWN_BY} FROM leads WHERE"
INSERT = """INSERT INTO leads (n, name, first_name, last_name, email, phone, company, title, email_key, sort_name,
    status, owner, stage, custom_fields, origin, created_at, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class LocalLeads(FindsLeads, WritesLeads, TagsLeads, MovesLeads):
    """Leads in the file; a stage is the lead's own, beside those of its deals."""

    lead_filters: ClassVar[frozenset[str]] = frozenset(LeadFilter.model_fields)
    lead_sorts: ClassVar[tuple[str, ...]] = SORTS

    _file: File
    _country: str | None

    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        """Find leads; `total` is exact up to 10,000 and None beyond."""
        return await self._file.read(lambda db: search(db, wanted, part))

    async def get_lead(self, lead: str) -> Lead:
        """Read one lead."""
        n = rows.number("lead", lead)
        return await self._file.read(lambda db: lead_by_number(db, n))

    async def leads_at(self, channel: Channel, address: str) -> tuple[Lead, ...]:
        """Return the leads that have this address or number."""
        return await self._file.read(lambda db: _at(db, channel, address))

    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create one, in the stage New."""
        return await self._file.write(lambda db: _create(db, draft, self._country))

    async def update_lead(self, lead: str, change: LeadUpdate) -> Lead:
        """Change one; custom fields are merged, and a value of None takes that field away."""
        return await self._file.write(lambda db: _update(db, lead, change, self._country))

    async def tag_lead(self, lead: str, add: Seq[str], remove: Seq[str]) -> Lead:
        """Change the tags; what is both added and removed is removed."""
        return await self._file.write(lambda db: _tag(db, lead, add, remove))

    async def move_lead(self, lead: str, stage: str) -> Lead:
        """Move a lead to a stage of leads."""
        return await self._file.write(lambda db: _move(db, lead, stage))


def _at(db: sqlite3.Connection, channel: Channel, address: str) -> tuple[Lead, ...]:
    if channel == "linkedin":
        return ()
    column, key = ("email_key", address_key(address)) if channel == "email" else ("phone", address)
    found = db.execute(
        f"SELECT {LEAD} FROM leads l WHERE l.{column} = ? ORDER BY l.n LIMIT ?",
        (key.encode("utf-8", "replace").decode(), _MOST_AT_ADDRESS),
    ).fetchall()
    return tuple(read_leads(db, found))


def complete(fields: dict[str, Any]) -> None:
    """Fill in the name from its parts. Raises InvalidArgument where nothing says who the lead is."""
    if not fields["name"]:
        fields["name"] = whole_name(fields["first_name"], fields["last_name"])
    if not any(fields[each] for each in ("name", "email", "phone", "company")):
        raise InvalidArgument(
            "a lead needs something to be known by",
            "give at least one of name, first_name, last_name, email, phone, company",
            wrote=False,
        )


def sort_name(fields: Mapping[str, Any]) -> str:
    """Return what a lead is sorted by: its name, else its company or an address."""
    return labels.folded(fields["name"] or fields["company"] or fields["email"] or fields["phone"] or "")


def custom_json(values: Mapping[str, CustomValue] | None) -> str | None:
    """Return custom fields as they are kept. Raises InvalidArgument for a number that is none."""
    kept = {name: value for name, value in (values or {}).items() if value is not None}
    for name, value in kept.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidArgument(
                f'the custom field "{name}" is no number', "give a finite number or text", wrote=False
            )
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")) if kept else None


def first_stage(db: sqlite3.Connection) -> int:
    """Return the stage of new leads."""
    return int(labels.stage_rows(db, "leads")[0]["n"])


def next_number(db: sqlite3.Connection) -> int:
    """Return the row number of the next new lead."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'leads'").fetchone()
    return int(row[0]) + 1 if row else 1


def insert_values(
    n: int,
    fields: dict[str, Any],
    status: int | None,
    owner: int | None,
    stage: int,
    custom: str | None,
    origin: str | None,
    at: int,
) -> tuple[Any, ...]:
    """Return the values of `INSERT`."""
    email = fields["email"]
    return (
        n,
        *(fields[name] for name in PLAIN),
        address_key(email) if email else None,
        sort_name(fields),
        status,
        owner,
        stage,
        custom,
        origin,
        at,
        at,
    )


def _addresses(change: LeadFields, country: str | None) -> tuple[str | None, str | None]:
    email = email_address(change.email) if change.email and change.email.strip() else None
    phone = phone_number(change.phone, country) if change.phone and change.phone.strip() else None
    return email, phone


def _create(db: sqlite3.Connection, draft: LeadDraft, country: str | None) -> Lead:
    fields = {name: getattr(draft, name) or None for name in PLAIN}
    fields["email"], fields["phone"] = _addresses(draft, country)
    complete(fields)
    person = person_at({"n": 0, **fields})
    refuse_found(sharing(db, person, besides=0), person)
    known: labels.Known = {}
    status = labels.label(db, "status", draft.status, known) if draft.status else None
    owner = labels.label(db, "owner", draft.owner, known) if draft.owner else None
    n = next_number(db)
    custom = custom_json(draft.custom_fields)
    db.execute(INSERT, insert_values(n, fields, status, owner, first_stage(db), custom, None, rows.present()))
    labels.put_labels(db, n, "tag", tag_names(draft.tags or ()), known)
    labels.put_labels(db, n, "list", [draft.list] if draft.list else [], known)
    index_lead(db, n)
    return lead_by_number(db, n)


def person_at(row: sqlite3.Row | Mapping[str, Any]) -> Person:
    """Return what a row of leads is known by."""
    fields = LeadFields.model_construct(**{name: row[name] for name in _KNOWN_BY})
    return replace(person_in(fields), id=f"L{row['n']}")


def sharing(db: sqlite3.Connection, person: Person, besides: int) -> list[Person]:
    """Return the other leads that may be this person: they have an address or number of theirs."""
    found: list[sqlite3.Row] = []
    for email in person.emails:
        found += db.execute(f"{_PEOPLE} email_key = ? AND n <> ?", (address_key(email), besides)).fetchall()
    # Whoever has an e-mail address is no other one who has an address: a switchboard has many.
    apart = " AND email_key IS NULL" if person.emails else ""
    for phone in person.phones:
        found += db.execute(f"{_PEOPLE} phone = ? AND n <> ?{apart}", (phone, besides)).fetchall()
    return [*map(person_at, found)]


def tag_names(given: Seq[str]) -> list[str]:
    """Return tags without blanks around them. Raises InvalidArgument for one that is empty or very long."""
    found = [" ".join(each.split()) for each in given]
    if any(not 0 < len(each) <= _LONGEST_TAG for each in found):
        raise InvalidArgument("a tag is empty or too long", f"give 1 to {_LONGEST_TAG} characters", wrote=False)
    return found


def _tag(db: sqlite3.Connection, lead: str, add: Seq[str], remove: Seq[str]) -> Lead:
    n = rows.existing(db, "lead", lead)
    before = lead_by_number(db, n)
    labels.put_labels(db, n, "tag", tag_names(add), {})
    labels.take_labels(db, n, "tag", remove)
    return _touched(db, n, before)


def _touched(db: sqlite3.Connection, n: int, before: Lead) -> Lead:
    after = lead_by_number(db, n)
    if after == before:
        return before
    db.execute("UPDATE leads SET updated_at = max(?, updated_at) WHERE n = ?", (rows.present(), n))
    return lead_by_number(db, n)


def _move(db: sqlite3.Connection, lead: str, stage: str) -> Lead:
    n = rows.existing(db, "lead", lead)
    before = lead_by_number(db, n)
    db.execute("UPDATE leads SET stage = ? WHERE n = ?", (labels.stage_by_id(db, "leads", stage)["n"], n))
    return _touched(db, n, before)


def _update(db: sqlite3.Connection, lead: str, change: LeadUpdate, country: str | None) -> Lead:
    n = rows.existing(db, "lead", lead)
    before = lead_by_number(db, n)
    email, phone = _addresses(change, country)
    normal = change.model_copy(update={"email": email, "phone": phone})
    moved = replace(
        person_of(before).changed(person_in(normal)),
        emails=(email_key(email),) if email and email != before.email else (),
        phones=(phone,) if phone and phone != before.phone else (),
    )
    there = sharing(db, moved, besides=n)
    refuse_found(there, person_of(before).changed(person_in(normal)) if there else moved)
    apply(db, n, normal, change.clear, {})
    return _touched(db, n, before)


def apply(db: sqlite3.Connection, n: int, change: LeadFields, clear: Seq[str], known: labels.Known) -> None:
    """Write changes, whose addresses are in their normal form, to a lead that exists.

    Raises:
        InvalidArgument: `clear` names an unknown field, nothing would be left to know the lead by, or it would have too
            many custom fields.
    """
    row = db.execute("SELECT * FROM leads WHERE n = ?", (n,)).fetchone()
    before: dict[str, CustomValue] = json.loads(row["custom_fields"]) if row["custom_fields"] else {}
    cleared = _cleared(change, clear, before)
    fields: dict[str, Any] = {name: None if name in cleared else getattr(change, name) or row[name] for name in PLAIN}
    held = {name: row[name] for name in PARTS}
    if change.name:
        given = {name for name in PARTS if name in cleared or getattr(change, name)}
        followed = parts_after(change.name, row["name"], held)
        fields |= {name: part for name, part in followed.items() if name not in given}
    elif row["name"] == whole_name(*held.values()) != whole_name(*(fields[each] for each in PARTS)):
        fields["name"] = None
    complete(fields)
    custom = {} if "custom_fields" in cleared else {k: v for k, v in before.items() if _ONE_CUSTOM + k not in cleared}
    custom.update(change.custom_fields or {})
    custom = {name: value for name, value in custom.items() if value is not None}
    if too_much := crowded(custom, before):
        raise InvalidArgument(f"custom_fields would have {too_much}", "clear some first", wrote=False)
    kept, tags = custom_json(custom), tag_names(change.tags or ())
    status, owner = (None if mark in cleared else row[mark] for mark in ("status", "owner"))
    if change.status:
        status = labels.label(db, "status", change.status, known)
    if change.owner:
        owner = labels.label(db, "owner", change.owner, known)
    db.execute(
        "UPDATE leads SET name = ?, first_name = ?, last_name = ?, email = ?, phone = ?, company = ?, title = ?,"
        " email_key = ?, sort_name = ?, status = ?, owner = ?, custom_fields = ? WHERE n = ?",
        (
            *(fields[name] for name in PLAIN),
            address_key(fields["email"]) if fields["email"] else None,
            sort_name(fields),
            status,
            owner,
            kept,
            n,
        ),
    )
    if change.tags is not None or "tags" in cleared:
        labels.take_labels(db, n, "tag", None)
        labels.put_labels(db, n, "tag", tags, known)
    if change.list:
        labels.put_labels(db, n, "list", [change.list], known)
    if any(fields[name] != row[name] for name in PLAIN):
        index_lead(db, n)


def _cleared(change: LeadFields, clear: Seq[str], custom: Mapping[str, CustomValue]) -> set[str]:
    """Return the fields to empty, a single custom field by the name it really has."""
    valid = (*CLEARABLE, *(_ONE_CUSTOM + name for name in custom))
    by_fold = {labels.folded(name): name for name in valid}
    found: set[str] = set()
    for each in clear:
        name = each if each in valid else by_fold.get(labels.folded(each))
        if name is None and each.startswith(_ONE_CUSTOM) and len(each) > len(_ONE_CUSTOM):
            continue  # a custom field that the lead does not have is empty already
        if name is None:
            raise InvalidArgument(f'"{each[:80]}" is no field to clear', choices(each, valid), wrote=False)
        if not name.startswith(_ONE_CUSTOM) and getattr(change, name):
            raise InvalidArgument(f'"{name}" is both set and cleared', "do one of the two", wrote=False)
        found.add(name)
    return found
