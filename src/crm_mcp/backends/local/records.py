"""The valid values of fields, and the deletion of records."""

from __future__ import annotations

import sqlite3
from typing import ClassVar

from crm_mcp.backends.base import DeletesRecords, ListsOptions
from crm_mcp.backends.local import labels, rows
from crm_mcp.backends.local.activity import recount_contact
from crm_mcp.backends.local.database import File
from crm_mcp.backends.local.outreach import mailboxes
from crm_mcp.backends.local.smtp import Post
from crm_mcp.backends.local.words import index_lead
from crm_mcp.errors import Unsupported
from crm_mcp.model import Option, OptionKind, RecordKind, StageOwner

_OWNERS: tuple[StageOwner, ...] = ("leads", "deals")
_LABELS: dict[OptionKind, labels.LabelKind] = {"statuses": "status", "tags": "tag", "lists": "list", "owners": "owner"}
_GOES_WITH_LEAD = ("notes", "deals", "tasks", "calls", "messages", "enrolments")


class LocalRecords(ListsOptions, DeletesRecords):
    """What can be chosen, and what can be deleted."""

    option_kinds: ClassVar[tuple[OptionKind, ...]] = (
        "stages", "statuses", "tags", "sequences", "mailboxes", "lists", "custom_fields", "owners",
    )  # fmt: skip
    deletes: ClassVar[frozenset[RecordKind]] = frozenset(("lead", "task", "deal", "note"))

    _file: File
    _post: Post | None

    async def list_options(self, kind: OptionKind) -> tuple[Option, ...]:
        """List the values; what has no id of its own goes by its name. Stages of leads come before those of deals."""
        if kind not in self.option_kinds:
            raise Unsupported(f"the embedded CRM has no {kind}", f"it has {', '.join(self.option_kinds)}")
        return await self._file.read(lambda db: _options(db, kind, self._post))

    async def goes_with(self, kind: RecordKind, record: str) -> dict[str, int]:
        """Count what a deletion takes along; only a lead takes anything."""
        return await self._file.read(lambda db: _goes_with(db, kind, record))

    async def delete(self, kind: RecordKind, record: str) -> None:
        """Delete a record and what goes with it; blocked addresses stay blocked."""
        await self._file.write(lambda db: _delete(db, kind, record))


def _options(db: sqlite3.Connection, kind: OptionKind, at: Post | None) -> tuple[Option, ...]:
    if kind == "stages":
        return tuple(
            Option(id=f"G{row['n']}", name=row["name"], of=owner)
            for owner in _OWNERS
            for row in labels.stage_rows(db, owner)
        )
    if kind == "sequences":
        found = db.execute("SELECT n, name FROM sequences ORDER BY folded")
        return tuple(Option(id=f"S{row['n']}", name=row["name"]) for row in found)
    if kind == "mailboxes":
        return tuple(Option(id=each.id, name=each.address) for each in mailboxes(db, at))
    if kind == "custom_fields":
        found = db.execute(
            "SELECT DISTINCT j.key FROM leads l, json_each(l.custom_fields) j WHERE l.custom_fields IS NOT NULL"
        )
        names = sorted((row[0] for row in found), key=labels.folded)
    else:
        names = labels.names(db, _LABELS[kind])
    return tuple(Option(id=name, name=name) for name in names)


def _goes_with(db: sqlite3.Connection, kind: RecordKind, record: str) -> dict[str, int]:
    n = rows.existing(db, kind, record)
    if kind != "lead":
        return {}
    counts = {
        table: int(db.execute(f"SELECT count(*) FROM {table} WHERE lead = ?", (n,)).fetchone()[0])
        for table in _GOES_WITH_LEAD
    }
    return {table: count for table, count in counts.items() if count}


def _delete(db: sqlite3.Connection, kind: RecordKind, record: str) -> None:
    n = rows.existing(db, kind, record)
    lead = db.execute("SELECT lead, kind FROM notes WHERE n = ?", (n,)).fetchone() if kind == "note" else None
    db.execute(f"DELETE FROM {rows.TABLES[kind]} WHERE n = ?", (n,))
    if kind == "lead":
        db.execute("DELETE FROM lead_words WHERE rowid = ?", (n,))
    if lead is not None:
        index_lead(db, lead["lead"])
        if lead["kind"] != "note":
            recount_contact(db, lead["lead"])
