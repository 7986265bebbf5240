"""Statuses, owners, tags and lists: names that leads share, one spelling each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Literal

from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import StageOwner, fold

LabelKind = Literal["status", "owner", "tag", "list"]
Known = dict[tuple[str, str], int]
"""The labels met so far in one transaction, by kind and folded name."""

_ON_LEAD = "EXISTS (SELECT 1 FROM lead_labels x WHERE x.label = b.n)"
_IN_USE: dict[LabelKind, str] = {
    "status": "(b.starter OR EXISTS (SELECT 1 FROM leads l WHERE l.status = b.n))",
    "owner": "(EXISTS (SELECT 1 FROM leads WHERE owner = b.n) OR EXISTS (SELECT 1 FROM deals WHERE owner = b.n))",
    "tag": _ON_LEAD,
    "list": _ON_LEAD,
}


def folded(text: str) -> str:
    """Return `text` for comparing, as `model.fold`, without its work where plain lower case does."""
    return text.lower() if text.isascii() else fold(text)


def _key(name: str) -> str:
    return folded(name.strip()) or name


def names(db: sqlite3.Connection, kind: LabelKind) -> list[str]:
    """Return the names in use: statuses the starting ones first, others by name."""
    order = "b.starter DESC, CASE WHEN b.starter THEN b.n END, b.folded" if kind == "status" else "b.folded"
    found = db.execute(f"SELECT b.name FROM labels b WHERE b.kind = ? AND {_IN_USE[kind]} ORDER BY {order}", (kind,))
    return [row[0] for row in found]


def find(db: sqlite3.Connection, kind: LabelKind, name: str) -> int:
    """Return the row number of a label in use.

    Raises:
        InvalidArgument: there is none; the text has the valid ones.
    """
    key = _key(name).encode("utf-8", "replace").decode()
    row = db.execute(
        f"SELECT b.n FROM labels b WHERE b.kind = ? AND b.folded = ? AND {_IN_USE[kind]}", (kind, key)
    ).fetchone()
    if row is None:
        raise InvalidArgument(f'there is no {kind} "{name[:80]}"', choices(name, names(db, kind)))
    return int(row[0])


def label(db: sqlite3.Connection, kind: LabelKind, name: str, known: Known) -> int:
    """Return the row number of a label, which is made where there is none; an earlier spelling stays."""
    key = (kind, _key(name))
    if key not in known:
        row = db.execute("SELECT n FROM labels WHERE kind = ? AND folded = ?", key).fetchone()
        if row is None:
            made = db.execute("INSERT INTO labels (kind, name, folded) VALUES (?, ?, ?)", (kind, name.strip(), key[1]))
            known[key] = made.lastrowid or 0
        else:
            known[key] = int(row[0])
    return known[key]


def put_labels(db: sqlite3.Connection, lead: int, kind: LabelKind, added: Iterable[str], known: Known) -> None:
    """Add tags or lists to a lead; those that it has already are no error."""
    rows = [(label(db, kind, name, known), lead) for name in added]
    db.executemany("INSERT OR IGNORE INTO lead_labels (label, lead) VALUES (?, ?)", rows)


def take_labels(db: sqlite3.Connection, lead: int, kind: LabelKind, removed: Iterable[str] | None) -> None:
    """Take tags or lists off a lead, None for all; those that it does not have are no error."""
    ours = "SELECT n FROM labels WHERE kind = ?"
    if removed is None:
        db.execute(f"DELETE FROM lead_labels WHERE lead = ? AND label IN ({ours})", (lead, kind))
        return
    rows = [(lead, kind, _key(name)) for name in removed]
    db.executemany(f"DELETE FROM lead_labels WHERE lead = ? AND label IN ({ours} AND folded = ?)", rows)


def stage_rows(db: sqlite3.Connection, owner: StageOwner) -> list[sqlite3.Row]:
    """Return the stages of leads or deals, in order."""
    return db.execute("SELECT * FROM stages WHERE owner = ? ORDER BY position, n", (owner,)).fetchall()


def stage_by_id(db: sqlite3.Connection, owner: StageOwner, stage: str) -> sqlite3.Row:
    """Return the stage with this id. Raises InvalidArgument, with the valid ones, where there is none."""
    found = stage_rows(db, owner)
    for row in found:
        if stage == f"G{row['n']}":
            return row
    raise InvalidArgument(
        f'"{stage[:80]}" is no stage of {owner}', choices(stage, [f"G{row['n']} ({row['name']})" for row in found])
    )


def stage_by_name(db: sqlite3.Connection, owner: StageOwner, stage: str) -> int:
    """Return the row number of the stage with this name or id. Raises InvalidArgument where there is none."""
    found = stage_rows(db, owner)
    key = _key(stage)
    for row in found:
        if key == row["folded"] or stage == f"G{row['n']}":
            return int(row["n"])
    raise InvalidArgument(f'there is no stage "{stage[:80]}"', choices(stage, [row["name"] for row in found]))
