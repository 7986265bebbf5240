"""Many leads at once: looked up in bulk, written in bulk, one transaction a call."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from typing import Any, ClassVar

from crm_mcp.address import address_key
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.local import labels, rows
from crm_mcp.backends.local.database import File
from crm_mcp.backends.local.leads import (
    INSERT,
    PLAIN,
    apply,
    complete,
    custom_json,
    first_stage,
    insert_values,
    next_number,
    tag_names,
)
from crm_mcp.backends.local.words import lead_words
from crm_mcp.errors import CrmError
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, LeadDraft


class LocalImports(ImportsLeads):
    """Imports by key, address and number."""

    import_size: ClassVar[int] = 1_000
    repeatable: ClassVar[bool] = True

    _file: File

    async def import_leads(self, rows: Seq[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows whose addresses are in their normal form."""
        return await self._file.write(lambda db: _Import(db, rows, if_exists).run())


class _Import:
    """One batch: what is known already, what is new, and what became of each row."""

    def __init__(self, db: sqlite3.Connection, given: Seq[ImportRow], if_exists: IfExists) -> None:
        self.db = db
        self.given = given
        self.if_exists: IfExists = if_exists
        self.known: labels.Known = {}
        self.at = rows.present()
        self.stage = first_stage(db)
        self.next = next_number(db)
        self.by_key = self._numbers("origin", (row.key for row in given))
        self.by_email = self._numbers("email_key", (_key(row.draft.email) for row in given))
        self.by_phone = self._numbers("phone", (row.draft.phone for row in given))
        self.leads: list[tuple[Any, ...]] = []
        self.words: list[tuple[int, str]] = []
        self.labelled: list[tuple[int, int]] = []

    def _numbers(self, column: str, values: Iterable[str | None]) -> dict[str, int]:
        asked = json.dumps([each for each in values if each])
        # The lowest row number wins where several leads share an address.
        found = self.db.execute(
            f"SELECT {column}, n FROM leads WHERE {column} IN (SELECT value FROM json_each(?)) ORDER BY n DESC",
            (asked,),
        )
        return dict(found.fetchall())

    def run(self) -> tuple[ImportOutcome, ...]:
        """Write all rows and return their outcomes."""
        outcomes = tuple(map(self._row, self.given))
        self._flush()
        return outcomes

    def _row(self, row: ImportRow) -> ImportOutcome:
        draft = row.draft
        key = _key(draft.email)
        imported = self.by_key.get(row.key) if row.key else None
        at_email = self.by_email.get(key) if key else None
        at_phone = self.by_phone.get(draft.phone) if draft.phone else None
        n = imported or at_email or at_phone
        try:
            if n is None:
                return self._create(row, draft, key)
            if self.if_exists == "update":
                return self._update(n, row)
        except CrmError as error:
            return ImportOutcome(outcome="failed", id=rows.lead_id(n), reason=str(error))
        if self.if_exists == "error" and imported is None:
            what = "address" if at_email else "number"
            return ImportOutcome(outcome="failed", id=f"L{n}", reason=f"L{n} has this {what} already")
        return ImportOutcome(outcome="skipped", id=f"L{n}", reason="imported before" if imported else None)

    def _create(self, row: ImportRow, draft: LeadDraft, key: str | None) -> ImportOutcome:
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
        self._remember(n, row, key)
        return ImportOutcome(outcome="created", id=f"L{n}")

    def _update(self, n: int, row: ImportRow) -> ImportOutcome:
        self._flush()
        draft = row.draft
        before = self.db.execute("SELECT email_key, phone FROM leads WHERE n = ?", (n,)).fetchone()
        apply(self.db, n, draft, (), self.known)
        if draft.email and before["email_key"] != _key(draft.email):
            self.by_email.pop(before["email_key"], None)
        if draft.phone and before["phone"] != draft.phone:
            self.by_phone.pop(before["phone"], None)
        origin = row.key if row.key and row.key not in self.by_key else None
        self.db.execute(
            "UPDATE leads SET updated_at = max(?, updated_at), origin = COALESCE(origin, ?) WHERE n = ?",
            (self.at, origin, n),
        )
        self._remember(n, row, _key(draft.email))
        return ImportOutcome(outcome="updated", id=f"L{n}")

    def _remember(self, n: int, row: ImportRow, key: str | None) -> None:
        if row.key:
            self.by_key.setdefault(row.key, n)
        if key:
            self.by_email.setdefault(key, n)
        if row.draft.phone:
            self.by_phone.setdefault(row.draft.phone, n)

    def _flush(self) -> None:
        """Write what is new; before an update too, which may be one of a row of this batch."""
        if not self.leads:
            return
        self.db.executemany(INSERT, self.leads)
        self.db.executemany("INSERT INTO lead_words (rowid, words) VALUES (?, ?)", self.words)
        self.db.executemany("INSERT OR IGNORE INTO lead_labels (label, lead) VALUES (?, ?)", self.labelled)
        self.leads.clear()
        self.words.clear()
        self.labelled.clear()


def _key(email: str | None) -> str | None:
    return address_key(email) if email else None
