"""Deleted records as they were: an image that is read before, and the way back from it.

An image is JSON: `{"form": 1, "kind": "lead", "labels": [["tag", "vip"]], "rows": {"leads": [{"n": 12, ...}], ...}}`.
Rows have all their columns, but labels (statuses, owners, tags, lists) stand there by name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, cast

from crm_mcp.backends.base import RestoresRecords
from crm_mcp.backends.identity import People
from crm_mcp.backends.local import labels, rows
from crm_mcp.backends.local.database import File
from crm_mcp.backends.local.leads import person_at, sharing
from crm_mcp.backends.local.words import index_lead
from crm_mcp.errors import Conflict, InvalidArgument
from crm_mcp.model import RecordKind

FORM = 1
_LETTERS = {"leads": "L", "notes": "N", "calls": "C", "messages": "M", "tasks": "T", "deals": "D"}
_LABELLED: Mapping[str, Mapping[str, labels.LabelKind]] = {
    "leads": {"status": "status", "owner": "owner"},
    "deals": {"owner": "owner"},
}
"""The columns that are labels."""
_OF_LEAD = ("notes", "calls", "messages", "tasks", "deals", "enrolments")

Row = dict[str, Any]


class LocalImages(RestoresRecords):
    """Records of every kind come back as they were: with their ids, times, labels, and words to find them by."""

    _file: File

    async def image(self, kind: RecordKind, record: str) -> dict[str, Any]:
        """Return a record, and of a lead all that is its own. Blocked addresses are no part of it: they stay."""
        return await self._file.read(lambda db: _image(db, kind, record))

    async def restore(self, kind: RecordKind, image: Mapping[str, Any]) -> None:
        """Bring back what an image has. A status, tag or list that nobody has any more is made again."""
        await self._file.write(lambda db: _Restoring(db, kind, image).run())


def _image(db: sqlite3.Connection, kind: RecordKind, record: str) -> dict[str, Any]:
    n = rows.existing(db, kind, record)
    table = rows.TABLES[kind]
    image: dict[str, Any] = {"form": FORM, "kind": kind, "rows": {table: _rows(db, table, "n", n)}}
    if kind == "lead":
        image["rows"] |= {each: found for each in _OF_LEAD if (found := _rows(db, each, "lead", n))}
        image["labels"] = [
            [row["kind"], row["name"]]
            for row in db.execute(
                "SELECT b.kind, b.name FROM lead_labels x JOIN labels b ON b.n = x.label WHERE x.lead = ?"
                " ORDER BY b.kind, b.folded",
                (n,),
            )
        ]
    if kind == "note":  # a lead's last contact may be this note
        (lead,) = image["rows"][table]
        image["contacted"] = db.execute("SELECT last_contacted_at FROM leads WHERE n = ?", (lead["lead"],)).fetchone()[
            0
        ]
    return image


def _rows(db: sqlite3.Connection, table: str, column: str, n: int) -> list[Row]:
    found = [dict(row) for row in db.execute(f"SELECT * FROM {table} WHERE {column} = ? ORDER BY n", (n,))]
    for row in found:
        for name in _LABELLED.get(table, {}):
            if row[name] is not None:
                row[name] = db.execute("SELECT name FROM labels WHERE n = ?", (row[name],)).fetchone()[0]
    return found


class _Restoring:
    """One record on its way back, in one transaction."""

    def __init__(self, db: sqlite3.Connection, kind: RecordKind, image: Mapping[str, Any]) -> None:
        self.db = db
        self.kind: RecordKind = kind
        self.image = image
        self.known: labels.Known = {}

    def run(self) -> None:
        """Write all rows."""
        table = rows.TABLES[self.kind]
        held = self._checked(table)
        record = held[table][0]
        if self.kind == "lead":
            self._refuse_taken(record)
        elif record.get("lead") is not None:
            self._refuse_without_lead(record["lead"])
        for name in (table, *(each for each in _OF_LEAD if each != table)):
            for row in held.get(name, ()):
                self._insert(name, row)
        if self.kind == "lead":
            self._label(record["n"])
            index_lead(self.db, record["n"])
        elif self.kind == "note":
            index_lead(self.db, record["lead"])
            self.db.execute(
                "UPDATE leads SET last_contacted_at = max(last_contacted_at, ?) WHERE n = ?",
                (self.image.get("contacted") or 0, record["lead"]),
            )

    def _checked(self, table: str) -> dict[str, list[Row]]:
        """Return the rows by table. Raises InvalidArgument where it is no image of one record of this kind."""
        held = self.image.get("rows")
        if (self.image.get("form"), self.image.get("kind")) == (FORM, self.kind) and isinstance(held, dict):
            found = cast("dict[str, list[Row]]", held)
            allowed = {table, *_OF_LEAD} if self.kind == "lead" else {table}
            if len(found.get(table, ())) == 1 and found.keys() <= allowed:
                return found
        raise InvalidArgument(f"this is no image of a {self.kind}", "give one as it was read", wrote=False)

    def _refuse_taken(self, lead: Row) -> None:
        person = person_at(lead)
        same = People(sharing(self.db, person, besides=lead["n"])).alike(person)
        if same.people:
            raise _conflict(f"its {same.by} belongs to {same.people[0].label} now")
        again = self.db.execute("SELECT n FROM leads WHERE origin = ? AND n <> ?", (lead["origin"], lead["n"]))
        if row := again.fetchone():
            raise _conflict(f"it was imported again meanwhile, as L{row[0]}")

    def _refuse_without_lead(self, lead: int) -> None:
        if self.db.execute("SELECT 1 FROM leads WHERE n = ?", (lead,)).fetchone() is None:
            raise _conflict(f"the lead that it belongs to, L{lead}, is gone")

    def _insert(self, table: str, row: Row) -> None:
        columns = [each[1] for each in self.db.execute(f"PRAGMA table_info({table})")]
        if set(columns) != row.keys():
            raise InvalidArgument(f"this is no image of a {self.kind}", "give one as it was read", wrote=False)
        if self.db.execute(f"SELECT 1 FROM {table} WHERE n = ?", (row["n"],)).fetchone():
            raise _conflict(f"{_LETTERS.get(table, 'enrolment ')}{row['n']} is there already")
        values = {**row}
        for name, kind in _LABELLED.get(table, {}).items():
            if row[name] is not None:
                values[name] = labels.label(self.db, kind, row[name], self.known)
        marks = ", ".join("?" * len(columns))
        try:
            self.db.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", [values[each] for each in columns]
            )
        except sqlite3.IntegrityError:
            raise _conflict("a stage or sequence that it had is gone") from None

    def _label(self, lead: int) -> None:
        pairs = cast("list[tuple[labels.LabelKind, str]]", self.image.get("labels") or [])
        for kind, name in pairs:
            labels.put_labels(self.db, lead, kind, [name], self.known)


def _conflict(what: str) -> Conflict:
    return Conflict(f"it can't be brought back: {what}", "nothing was written; make a new record", wrote=False)
