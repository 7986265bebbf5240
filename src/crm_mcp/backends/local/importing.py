"""Many leads at once: looked up in bulk, written in bulk, one transaction a call."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any, ClassVar

from crm_mcp.address import address_key
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.identity import OTHER_NAME, Found, People, Person, is_still, person_in
from crm_mcp.backends.import_engine import only_empty
from crm_mcp.backends.local import labels, rows
from crm_mcp.backends.local.database import File
from crm_mcp.backends.local.leads import (
    INSERT,
    KNOWN_BY,
    PLAIN,
    apply,
    complete,
    custom_json,
    first_stage,
    insert_values,
    next_number,
    person_at,
    tag_names,
)
from crm_mcp.backends.local.search import lead_by_number
from crm_mcp.backends.local.words import lead_words
from crm_mcp.channels import Channel
from crm_mcp.errors import CrmError
from crm_mcp.model import IfExists, ImportOutcome, ImportRow

_BEFORE = "this very row was imported before"


class LocalImports(ImportsLeads):
    """Imports by key, and by who is the same person."""

    import_size: ClassVar[int] = 1_000
    repeatable: ClassVar[bool] = True

    _file: File

    async def import_leads(self, rows: Seq[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows whose addresses are in their normal form."""
        return await self._file.write(lambda db: _Import(db, rows, if_exists).run())

    async def plan_import(self, rows: Seq[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows, and take it back."""
        there = await self._file.try_out(lambda db: _Import(db, rows, if_exists).run())
        return tuple(each.model_copy(update={"id": None}) if each.outcome == "created" else each for each in there)


class _Import:
    """One batch: who is there already, what is new, and what became of each row."""

    def __init__(self, db: sqlite3.Connection, given: Seq[ImportRow], if_exists: IfExists) -> None:
        self.db = db
        self.given = given
        self.if_exists: IfExists = if_exists
        self.known: labels.Known = {}
        self.at = rows.present()
        self.stage = first_stage(db)
        self.next = next_number(db)
        made = self._having("origin", (row.key for row in given))
        self.by_key: dict[str, str] = {row["origin"]: f"L{row['n']}" for row in made}
        at_email = self._having("email_key", (address_key(row.draft.email) for row in given if row.draft.email))
        at_phone = self._having("phone", (row.draft.phone for row in given))
        self.people = People({row["n"]: person_at(row) for row in (*made, *at_email, *at_phone)}.values())
        self.leads: list[tuple[Any, ...]] = []
        self.words: list[tuple[int, str]] = []
        self.labelled: list[tuple[int, int]] = []
        self.blocked: list[tuple[str, Channel, str, int]] = []

    def _having(self, column: str, values: Iterable[str | None]) -> list[sqlite3.Row]:
        asked = json.dumps([each for each in values if each])
        wanted = f"{column} IN (SELECT value FROM json_each(?)) ORDER BY n DESC"
        return self.db.execute(f"SELECT {KNOWN_BY}, origin FROM leads WHERE {wanted}", (asked,)).fetchall()

    def run(self) -> tuple[ImportOutcome, ...]:
        """Write all rows and return their outcomes."""
        outcomes = tuple(map(self._row, self.given))
        self._flush()
        return outcomes

    def _row(self, row: ImportRow) -> ImportOutcome:
        person = person_in(row.draft)
        found = self.people.alike(person)
        made = self.people.get(self.by_key.get(row.key, "")) if row.key else None
        decided = found.decided(self.if_exists) if made is None else self._again(made, person, found)
        n = rows.number("lead", decided.id) if decided is not None and decided.id else None
        try:
            if isinstance(decided, ImportOutcome):
                return self._block(n, row, decided)
            return self._create(row, person) if n is None else self._update(n, row, fill=found.other_name)
        except CrmError as error:
            return ImportOutcome(outcome="failed", id=rows.lead_id(n), reason=str(error))

    def _again(self, made: Person, person: Person, found: Found) -> ImportOutcome | Person:
        """Return what becomes of a row that was imported before: its key says which lead it made, and not that this
        lead is that person still."""
        met = made.id in (each.id for each in found.people)
        still = met or is_still(made, person)
        if self.if_exists == "update":
            decided = made if met else found.decided("update")
            if decided is not None or still:
                return decided or made
        if still:
            return ImportOutcome(outcome="skipped", id=made.id, reason=_BEFORE)
        whom = found.people[0].id if len(found.people) == 1 else None
        return ImportOutcome(outcome="skipped", id=whom, reason=f"{_BEFORE}, and {made.label} is somebody else now")

    def _create(self, row: ImportRow, person: Person) -> ImportOutcome:
        draft = row.draft
        fields = {name: getattr(draft, name) or None for name in PLAIN}
        complete(fields)
        custom = custom_json(draft.custom_fields)
        tags = tag_names(draft.tags) if draft.tags else ()
        db, n = self.db, self.next
        status = labels.label(db, "status", draft.status, self.known) if draft.status else None
        owner = labels.label(db, "owner", draft.owner, self.known) if draft.owner else None
        self.leads.append(insert_values(n, fields, status, owner, self.stage, custom, row.key, self.at))
        texts = (fields["name"], fields["first_name"], fields["last_name"], fields["email"], fields["company"])
        self.words.append((n, lead_words(texts, fields["phone"])))
        self.labelled.extend((labels.label(db, "tag", tag, self.known), n) for tag in tags)
        if draft.list:
            self.labelled.append((labels.label(db, "list", draft.list, self.known), n))
        self.next += 1
        self._remember(replace(person, id=f"L{n}"), row)
        return self._block(n, row, ImportOutcome(outcome="created", id=f"L{n}"))

    def _update(self, n: int, row: ImportRow, *, fill: bool) -> ImportOutcome:
        self._flush()
        draft, whom = row.draft, self._person(n).label
        reason: str | None = None
        if fill:
            draft = only_empty(draft, lead_by_number(self.db, n))
            reason = f"{whom}: {OTHER_NAME}; "
            if not draft.shown():
                reason += "nothing of it is empty"
                return self._block(n, row, ImportOutcome(outcome="skipped", id=f"L{n}", reason=reason, whom=whom))
            reason += f"filled: {', '.join(draft.shown())}"
        apply(self.db, n, draft, (), self.known)
        origin = row.key if row.key and row.key not in self.by_key else None
        self.db.execute(
            "UPDATE leads SET updated_at = max(?, updated_at), origin = COALESCE(origin, ?) WHERE n = ?",
            (self.at, origin, n),
        )
        self._remember(self._person(n), row)
        return self._block(n, row, ImportOutcome(outcome="updated", id=f"L{n}", reason=reason, whom=whom))

    def _person(self, n: int) -> Person:
        return person_at(self.db.execute(f"SELECT {KNOWN_BY} FROM leads WHERE n = ?", (n,)).fetchone())

    def _remember(self, person: Person, row: ImportRow) -> None:
        if row.key:
            self.by_key.setdefault(row.key, person.id)
        self.people.add(person)

    def _block(self, n: int | None, row: ImportRow, outcome: ImportOutcome) -> ImportOutcome:
        """Put on the list what a row says of who must not be contacted, whatever became of it otherwise."""
        for channel in row.blocked:
            address = address_key(row.draft.email or "") if channel == "email" else row.draft.phone or ""
            on = address if channel != "linkedin" else ""
            for each in filter(None, (on, rows.lead_id(n))):
                self.blocked.append((each, channel, "import", self.at))
        return outcome

    def _flush(self) -> None:
        """Write what is new; before an update too, which may be one of a row of this batch."""
        self.db.executemany(
            "INSERT INTO blocked (address, channel, reason, blocked_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (address, channel) DO NOTHING",
            self.blocked,
        )
        self.blocked.clear()
        if not self.leads:
            return
        self.db.executemany(INSERT, self.leads)
        self.db.executemany("INSERT INTO lead_words (rowid, words) VALUES (?, ?)", self.words)
        self.db.executemany("INSERT OR IGNORE INTO lead_labels (label, lead) VALUES (?, ?)", self.labelled)
        self.leads.clear()
        self.words.clear()
        self.labelled.clear()
