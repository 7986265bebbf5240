"""Deals, their stages, and the sums over them."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Sequence as Seq
from typing import Any, ClassVar, get_args

from crm_mcp.backends.base import MovesDeals, ReadsDeals, SumsPipeline, WritesDeals
from crm_mcp.backends.local import labels, rows
from crm_mcp.backends.local.database import File
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Deal, DealFields, DealFilter, DealStatus, Group, Grouping, Page, Pipeline, Slice, StageOwner

STATUSES: tuple[str, ...] = get_args(DealStatus)
CLEARABLE = ("value", "closes_at")
DEFAULT_CURRENCY = "USD"
NONE = "(none)"

_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)
_DEAL = """SELECT d.n, d.lead, d.name, d.value, d.currency, d.status, d.closes_at, s.name AS stage, b.name AS owner
    FROM deals d JOIN stages s ON s.n = d.stage LEFT JOIN labels b ON b.n = d.owner"""


class LocalDeals(ReadsDeals, WritesDeals, MovesDeals, SumsPipeline):
    """Deals in the file. Closed Won and Closed Lost decide the status, and a status moves the deal there."""

    deal_filters: ClassVar[frozenset[str]] = frozenset(DealFilter.model_fields)

    _file: File

    async def list_deals(self, wanted: DealFilter, part: Slice) -> Page[Deal]:
        """List deals; `total` is exact."""
        return await self._file.read(lambda db: _list(db, wanted, part))

    async def get_deal(self, deal: str) -> Deal:
        """Read one deal."""
        n = rows.number("deal", deal)
        return await self._file.read(lambda db: _deal(db, n))

    async def create_deal(self, lead: str | None, fields: DealFields, stage: str | None) -> Deal:
        """Create a deal: open, in Discovery and in USD where nothing else is said, and of its lead's owner."""
        return await self._file.write(lambda db: _create(db, lead, fields, stage))

    async def update_deal(self, deal: str, fields: DealFields, clear: Seq[str] = ()) -> Deal:
        """Change a deal; won and lost move it to the stage that closes it so."""
        return await self._file.write(lambda db: _update(db, deal, fields, clear))

    async def move_deal(self, deal: str, stage: str) -> Deal:
        """Move a deal to a stage of deals; the status follows."""
        return await self._file.write(lambda db: _move(db, deal, stage))

    async def pipeline(self, of: StageOwner, by: Grouping) -> Pipeline:
        """Group all deals or leads. `value` sums the group's deals (of leads: their open ones), in whatever currency.

        Months are those in which leads were created and deals close. A lead counts in each of its tags, but once in
        `total`.
        """
        return await self._file.read(lambda db: _pipeline(db, of, by))


def _nouns(found: Seq[sqlite3.Row]) -> list[Deal]:
    return [
        Deal(
            id=f"D{row['n']}",
            lead_id=rows.lead_id(row["lead"]),
            name=row["name"],
            value=row["value"],
            currency=row["currency"],
            stage=row["stage"],
            status=row["status"],
            closes_at=rows.moment(row["closes_at"]),
            owner=row["owner"],
        )
        for row in found
    ]


def _deal(db: sqlite3.Connection, n: int) -> Deal:
    found = db.execute(f"{_DEAL} WHERE d.n = ?", (n,)).fetchall()
    if not found:
        raise rows.missing("deal", f"D{n}")
    return _nouns(found)[0]


def _list(db: sqlite3.Connection, wanted: DealFilter, part: Slice) -> Page[Deal]:
    place = rows.position(part, int)
    where: list[str] = ["1"]
    values: list[Any] = []
    if wanted.stage:
        where.append("d.stage = ?")
        values.append(labels.stage_by_name(db, "deals", wanted.stage))
    if wanted.lead is not None:
        where.append("d.lead = ?")
        values.append(rows.existing(db, "lead", wanted.lead))
    if wanted.status:
        where.append("d.status = ?")
        values.append(_status(wanted.status))
    if wanted.owner:
        where.append("d.owner = ?")
        values.append(labels.find(db, "owner", wanted.owner))
    if wanted.closes_before:
        where.append("d.closes_at < ?")
        values.append(rows.millis(wanted.closes_before))
    sql = " AND ".join(where)
    total = db.execute(f"SELECT count(*) FROM deals d WHERE {sql}", values).fetchone()[0]
    after, key = ("1", ()) if place is None else ("d.n < ?", place)
    found = db.execute(
        f"{_DEAL} WHERE {sql} AND {after} ORDER BY d.n DESC LIMIT ?", (*values, *key, part.limit + 1)
    ).fetchall()
    return rows.paged(found, part, _nouns, lambda row: (row["n"],), total)


def _status(text: str) -> str:
    status = labels.folded(text.strip())
    if status not in STATUSES:
        raise InvalidArgument(f'"{text[:80]}" is no status of deals', choices(text, STATUSES))
    return status


def _checked(fields: DealFields) -> dict[str, Any]:
    """Return the given fields as they are kept."""
    found: dict[str, Any] = {}
    if fields.name:
        found["name"] = fields.name
    if fields.value is not None:
        if not math.isfinite(fields.value):
            raise InvalidArgument("the value is no number", "give a finite amount", wrote=False)
        found["value"] = fields.value
    if fields.currency is not None:
        if not _CURRENCY.fullmatch(fields.currency):
            raise InvalidArgument(f'"{fields.currency[:40]}" is no currency', "give a code such as USD", wrote=False)
        found["currency"] = fields.currency.upper()
    if fields.status is not None:
        found["status"] = fields.status
    if fields.closes_at is not None:
        found["closes_at"] = rows.millis(fields.closes_at)
    return found


def _create(db: sqlite3.Connection, lead: str | None, fields: DealFields, stage: str | None) -> Deal:
    given = _checked(fields)
    if "name" not in given:
        raise InvalidArgument("a deal needs a name", "give one", wrote=False)
    n = None if lead is None else rows.existing(db, "lead", lead)
    if stage:
        at = labels.stage_by_id(db, "deals", stage)
        status = given.get("status") or at["closes"] or "open"
    else:
        status = given.get("status", "open")
        at = _closing(db, status) or labels.stage_rows(db, "deals")[0]
    now = rows.present()
    made = db.execute(
        "INSERT INTO deals (lead, name, value, currency, stage, status, closes_at, owner, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT owner FROM leads WHERE n = ?), ?, ?)",
        (n, given["name"], given.get("value"), given.get("currency", DEFAULT_CURRENCY), at["n"], status,
         given.get("closes_at"), n, now, now),
    )  # fmt: skip
    return _deal(db, made.lastrowid or 0)


def _closing(db: sqlite3.Connection, status: str) -> sqlite3.Row | None:
    return db.execute(
        "SELECT * FROM stages WHERE owner = 'deals' AND closes = ? ORDER BY position LIMIT 1", (status,)
    ).fetchone()


def _set(db: sqlite3.Connection, n: int, values: dict[str, Any]) -> Deal:
    changes = {**values, "updated_at": rows.present()}
    assigned = ", ".join(f"{column} = ?" for column in changes)
    db.execute(f"UPDATE deals SET {assigned} WHERE n = ?", (*changes.values(), n))
    return _deal(db, n)


def _update(db: sqlite3.Connection, deal: str, fields: DealFields, clear: Seq[str]) -> Deal:
    n = rows.existing(db, "deal", deal)
    values = _checked(fields)
    for each in clear:
        if each not in CLEARABLE:
            raise InvalidArgument(f'"{each[:80]}" is no field to clear', choices(each, CLEARABLE), wrote=False)
        if each in values:
            raise InvalidArgument(f'"{each}" is both set and cleared', "do one of the two", wrote=False)
        values[each] = None
    closing = _closing(db, values["status"]) if "status" in values else None
    if closing is not None:
        values["stage"] = closing["n"]
    return _set(db, n, values) if values else _deal(db, n)


def _move(db: sqlite3.Connection, deal: str, stage: str) -> Deal:
    n = rows.existing(db, "deal", deal)
    to = labels.stage_by_id(db, "deals", stage)
    return _set(db, n, {"stage": to["n"], "status": to["closes"] or "open"})


# What a group is called, by what is grouped; `x` is the deal or lead.
_NAMES: dict[tuple[StageOwner, Grouping], str] = {
    ("leads", "status"): "(SELECT name FROM labels b WHERE b.n = x.status)",
    ("deals", "status"): "x.status",
    ("leads", "month"): "strftime('%Y-%m', x.created_at / 1000, 'unixepoch')",
    ("deals", "month"): "strftime('%Y-%m', x.closes_at / 1000, 'unixepoch')",
}
_VALUE: dict[StageOwner, str] = {
    "deals": "x.value",
    "leads": "(SELECT sum(d.value) FROM deals d WHERE d.lead = x.n AND d.status = 'open')",
}


def _pipeline(db: sqlite3.Connection, of: StageOwner, by: Grouping) -> Pipeline:
    total = db.execute(f"SELECT count(*) FROM {of}").fetchone()[0]
    name, joined = _grouping(of, by)
    found = db.execute(
        f"SELECT {name} AS name, count(*) AS count, TOTAL({_VALUE[of]}) AS value FROM {of} x {joined} GROUP BY 1"
    ).fetchall()
    by_name = {row["name"]: Group(name=row["name"] or NONE, count=row["count"], value=row["value"]) for row in found}
    if by == "stage":
        shown = [row["name"] for row in labels.stage_rows(db, of)]
        groups = [by_name.get(each) or Group(name=each, count=0, value=0.0) for each in shown]
    elif by == "status" and of == "deals":
        groups = [by_name[each] for each in STATUSES if each in by_name]
    else:
        groups = [by_name[each] for each in sorted(by_name, key=lambda each: (each is None, labels.folded(each or "")))]
    return Pipeline(groups=tuple(groups), total=total)


def _grouping(of: StageOwner, by: Grouping) -> tuple[str, str]:
    """Return what a group is called and what is joined for it."""
    if by == "stage":
        return "s.name", "JOIN stages s ON s.n = x.stage"
    if by == "owner":
        return "b.name", "LEFT JOIN labels b ON b.n = x.owner"
    if by == "tag":
        lead = "x.n" if of == "leads" else "x.lead"
        tags = "SELECT y.lead, b.name FROM lead_labels y JOIN labels b ON b.n = y.label WHERE b.kind = 'tag'"
        return "t.name", f"LEFT JOIN ({tags}) t ON t.lead = {lead}"
    return _NAMES[of, by], ""
