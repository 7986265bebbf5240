"""Finding leads: which way is fast depends on how many there are, so that is found out first.

Few matches of the text: they are read and sorted. Few leads that fit the filters: those are asked for the text. Many of
both: the index is walked in the wanted order until the page is full, and counted up to `COUNTED`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

from crm_mcp.backends.local import labels, rows
from crm_mcp.backends.local.words import INDEXED_PREFIX, Term, cut_short, holding, match, terms
from crm_mcp.channels import CHANNELS, Channel
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Lead, LeadFilter, Page, Slice

COUNTED = 10_000
"""The highest total that is counted."""
NARROW = 1_000
"""Up to how many matches are read before they are sorted."""

SORTS = ("-created_at", "created_at", "name", "-updated_at", "-last_contacted_at", "last_contacted_at")
_COLUMNS = {
    "created_at": "n",
    "name": "sort_name",
    "updated_at": "updated_at",
    "last_contacted_at": "last_contacted_at",
}
_INDEXES = {
    "sort_name": "leads_by_name",
    "updated_at": "leads_by_update",
    "last_contacted_at": "leads_by_contact",
}

_AMONG = "SELECT l.n FROM leads l WHERE l.n IN (SELECT value FROM json_each(?))"

Place = tuple[Any, ...] | None
"""The key that a page starts after."""

LEAD = """l.n, l.name, l.first_name, l.last_name, l.email, l.email_key, l.phone, l.company, l.title, l.custom_fields,
    l.sort_name, l.created_at, l.updated_at, l.last_contacted_at,
    (SELECT name FROM labels b WHERE b.n = l.status) AS status,
    (SELECT name FROM labels b WHERE b.n = l.owner) AS owner,
    (SELECT name FROM stages s WHERE s.n = l.stage) AS stage,
    (SELECT json_group_array(name) FROM (
        SELECT b.name FROM lead_labels x JOIN labels b ON b.n = x.label
        WHERE x.lead = l.n AND b.kind = 'tag' ORDER BY b.folded
    )) AS tags"""


@dataclass(frozen=True)
class Condition:
    """A filter in SQL, written to be led by its index (`leads`), and to be tested row by row (`tests`)."""

    leads: str
    tests: str
    value: int


@dataclass(frozen=True)
class Order:
    """A sort: a column of `leads`, and then the row number, both ascending or both descending."""

    column: str
    down: bool

    def after(self, place: Place, n: str = "l.n") -> tuple[str, tuple[Any, ...]]:
        """Return the condition for what comes after a position, and its values."""
        if place is None:
            return "1", ()
        sign = "<" if self.down else ">"
        if self.column == "n":
            return f"{n} {sign} ?", place
        return f"(l.{self.column}, l.n) {sign} (?, ?)", place

    def by(self, n: str = "l.n", sign: str = "") -> str:
        """Return the ORDER BY clause; the sign `+` keeps an index from being walked for it."""
        way = "DESC" if self.down else "ASC"
        first = "" if self.column == "n" else f"{sign}l.{self.column} {way}, "
        return f"ORDER BY {first}{sign}{n} {way}"

    def key(self, row: sqlite3.Row) -> tuple[int | str, ...]:
        """Return the position of a row."""
        return (row["n"],) if self.column == "n" else (row[self.column], row["n"])


def read_leads(db: sqlite3.Connection, found: Seq[sqlite3.Row]) -> list[Lead]:
    """Return rows of `LEAD` as leads."""
    asked = {address for row in found for address in (row["email_key"], row["phone"], f"L{row['n']}") if address}
    blocked: dict[str, set[str]] = {}
    for address, channel in db.execute(
        "SELECT address, channel FROM blocked WHERE address IN (SELECT value FROM json_each(?))",
        (json.dumps(list(asked)),),
    ):
        blocked.setdefault(address, set()).add(channel)
    return [_lead(row, blocked) for row in found]


def _lead(row: sqlite3.Row, blocked: dict[str, set[str]]) -> Lead:
    return Lead(
        id=f"L{row['n']}",
        name=row["name"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        email=row["email"],
        phone=row["phone"],
        company=row["company"],
        title=row["title"],
        status=row["status"],
        stage=row["stage"],
        tags=tuple(json.loads(row["tags"])) or None,
        owner=row["owner"],
        created_at=rows.moment(row["created_at"]),
        updated_at=rows.moment(row["updated_at"]),
        last_contacted_at=rows.moment(row["last_contacted_at"]),
        do_not_contact=_blocked(row, blocked),
        custom_fields=json.loads(row["custom_fields"]) if row["custom_fields"] else None,
    )


def _blocked(row: sqlite3.Row, blocked: dict[str, set[str]]) -> tuple[Channel, ...] | None:
    if not blocked:
        return None
    found = blocked.get(f"L{row['n']}", set()) | blocked.get(row["email_key"], set()) | blocked.get(row["phone"], set())
    return tuple(sorted(each for each in CHANNELS if each in found)) or None


def lead_by_number(db: sqlite3.Connection, n: int) -> Lead:
    """Return a lead. Raises NotFound."""
    row = db.execute(f"SELECT {LEAD} FROM leads l WHERE l.n = ?", (n,)).fetchone()
    if row is None:
        raise rows.missing("lead", f"L{n}")
    return read_leads(db, [row])[0]


def search(db: sqlite3.Connection, wanted: LeadFilter, part: Slice) -> Page[Lead]:
    """Return the leads that fit."""
    order = _order(wanted.sort)
    kinds = (int,) if order.column == "n" else (str, int) if order.column == "sort_name" else (int, int)
    place = rows.position(part, *kinds)
    conditions = _conditions(db, wanted)
    if wanted.query is None or not wanted.query.strip():
        found, total = _by_filters(db, conditions, order, place, part.limit + 1)
    else:
        text = terms(wanted.query)
        if text is None:
            return Page(total=0)
        found, total = _by_text(db, text, conditions, order, place, part.limit + 1)
    listed = db.execute(
        f"SELECT {LEAD} FROM leads l WHERE l.n IN (SELECT value FROM json_each(?)) {order.by(sign='+')}",
        (json.dumps(found),),
    ).fetchall()
    return rows.paged(listed, part, lambda shown: read_leads(db, shown), order.key, total)


def _order(sort: str | None) -> Order:
    wanted = sort or SORTS[0]
    if wanted not in SORTS:
        raise InvalidArgument(f'"{wanted[:80]}" is no sort', choices(wanted, SORTS))
    return Order(_COLUMNS[wanted.removeprefix("-")], wanted.startswith("-"))


def _conditions(db: sqlite3.Connection, wanted: LeadFilter) -> list[Condition]:
    found: list[Condition] = []
    if wanted.status:
        found.append(_equal("status", labels.find(db, "status", wanted.status)))
    if wanted.owner:
        found.append(_equal("owner", labels.find(db, "owner", wanted.owner)))
    if wanted.stage:
        found.append(_equal("stage", labels.stage_by_name(db, "leads", wanted.stage)))
    if wanted.tag:
        found.append(_labelled(labels.find(db, "tag", wanted.tag)))
    if wanted.list:
        found.append(_labelled(labels.find(db, "list", wanted.list)))
    if wanted.created_after:
        found.append(Condition("l.created_at > ?", "+l.created_at > ?", rows.millis(wanted.created_after)))
    if wanted.not_contacted_since:
        found.append(
            Condition("l.last_contacted_at < ?", "+l.last_contacted_at < ?", rows.millis(wanted.not_contacted_since))
        )
    return found


def _equal(column: str, value: int) -> Condition:
    return Condition(f"l.{column} = ?", f"+l.{column} = ?", value)


def _labelled(label: int) -> Condition:
    return Condition(
        "l.n IN (SELECT lead FROM lead_labels WHERE label = ?)",
        "EXISTS (SELECT 1 FROM lead_labels x WHERE x.label = ? AND x.lead = l.n)",
        label,
    )


def _where(conditions: Iterable[Condition], led: bool) -> tuple[str, tuple[int, ...]]:
    found = list(conditions)
    sql = " AND ".join(each.leads if led else each.tests for each in found) or "1"
    return sql, tuple(each.value for each in found)


Found = tuple[list[int], int | None]
"""The row numbers of a page, and the total where it is counted."""


def _by_filters(db: sqlite3.Connection, conditions: Seq[Condition], order: Order, place: Place, limit: int) -> Found:
    sql, values = _where(conditions, led=True)
    count = db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM leads l WHERE {sql} LIMIT {COUNTED + 1})", values
    ).fetchone()[0]
    # So many that fit that walking in order meets them soon; else the filter's index leads, and its few are sorted.
    walks = count > COUNTED or not conditions
    if walks:
        sql, values = _where(conditions, led=False)
    after, key = order.after(place)
    clause = order.by(sign="" if walks else "+")
    found = db.execute(f"SELECT l.n FROM leads l WHERE {sql} AND {after} {clause} LIMIT ?", (*values, *key, limit))
    return [row[0] for row in found], _total(count)


def _total(count: int) -> int | None:
    return count if count <= COUNTED else None


def _by_text(
    db: sqlite3.Connection, text: Seq[Term], conditions: Seq[Condition], order: Order, place: Place, limit: int
) -> Found:
    few = _few(db, text, conditions)
    if few is None:
        return _by_broad_text(db, match(text), conditions, order, place, limit)
    if conditions:
        sql, values = _where(conditions, led=False)
        few = [row[0] for row in db.execute(f"{_AMONG} AND {sql}", (json.dumps(few), *values))]
    return _ordered(db, few, order, place, limit)


def _ordered(db: sqlite3.Connection, all_found: list[int], order: Order, place: Place, limit: int) -> Found:
    """Return the page of row numbers that are known already."""
    if order.column == "n":
        rest = sorted(n for n in all_found if place is None or (n < place[0] if order.down else n > place[0]))
        return rest[::-1][:limit] if order.down else rest[:limit], len(all_found)
    after, key = order.after(place)
    page = db.execute(f"{_AMONG} AND {after} {order.by(sign='+')} LIMIT ?", (json.dumps(all_found), *key, limit))
    return [row[0] for row in page], len(all_found)


def _few(db: sqlite3.Connection, text: Seq[Term], conditions: Seq[Condition]) -> list[int] | None:
    """Return the row numbers of all matches of the text (or of text and filters) where they are few, else None."""
    short = cut_short(text)
    # Long prefixes of common words are slow in the index, short ones never are: those find, the words decide.
    found = _matching(db, match(text, INDEXED_PREFIX))
    if len(found) <= NARROW:
        return _holding(db, text, found) if short else found
    if conditions:
        sql, values = _where(conditions, led=True)
        fit = db.execute(f"SELECT l.n FROM leads l WHERE {sql} LIMIT {NARROW + 1}", values).fetchall()
        if len(fit) <= NARROW:
            return _holding(db, text, [row[0] for row in fit])
    if short:
        found = _matching(db, match(text))
    return found if len(found) <= NARROW else None


def _matching(db: sqlite3.Connection, query: str) -> list[int]:
    """Return the row numbers of the matches, at most one more than are few."""
    limited = f"SELECT rowid FROM lead_words WHERE lead_words MATCH ? LIMIT {NARROW + 1}"
    return [row[0] for row in db.execute(limited, (query,))]


def _holding(db: sqlite3.Connection, text: Seq[Term], numbers: list[int]) -> list[int]:
    """Return those of the row numbers whose words hold the text."""
    # The words are read where the index keeps them: asking the index by row number takes twice as long.
    said = db.execute(
        "SELECT id, c0 FROM lead_words_content WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(numbers),)
    )
    fits = holding(text)
    return [row[0] for row in said if fits(row[1])]


def _by_broad_text(
    db: sqlite3.Connection, query: str, conditions: Seq[Condition], order: Order, place: Place, limit: int
) -> Found:
    sql, values = _where(conditions, led=False)
    joined = "lead_words f CROSS JOIN leads l ON l.n = f.rowid"
    counted = joined if conditions else "lead_words f"
    # What is counted is kept: matching and testing the filters is what takes the time, and it is not done twice.
    matches = db.execute(
        f"SELECT f.rowid FROM {counted} WHERE f.lead_words MATCH ? AND {sql} LIMIT {COUNTED + 1}", (query, *values)
    )
    known = [row[0] for row in matches]
    if len(known) <= COUNTED:
        return _ordered(db, known, order, place, limit)
    if order.column == "n":
        after, key = order.after(place, "f.rowid")
        walk = f"SELECT f.rowid FROM {counted} WHERE f.lead_words MATCH ? AND {sql} AND {after} {order.by('f.rowid')}"
    else:
        after, key = order.after(place)
        among = "l.n IN (SELECT rowid FROM lead_words WHERE lead_words MATCH ?)"
        where = f"FROM leads l INDEXED BY {_INDEXES[order.column]} WHERE {among}"
        walk = f"SELECT l.n {where} AND {sql} AND {after} {order.by()}"
    page = db.execute(f"{walk} LIMIT ?", (query, *values, *key, limit))
    return [row[0] for row in page], None
