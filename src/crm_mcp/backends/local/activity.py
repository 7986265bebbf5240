"""What happened with a lead: notes, calls, messages, and all of it in one list."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from collections.abc import Sequence as Seq
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from crm_mcp.backends.base import LOOKED_THROUGH, LogsNotes, ReadsActivity, ReadsCalls, ReadsMessages
from crm_mcp.backends.local import rows
from crm_mcp.backends.local.database import File
from crm_mcp.backends.local.words import index_lead
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Activity, ActivityKind, Call, Message, Note, NoteDraft, Page, Slice

R = TypeVar("R")

_LONGEST_CALL = 10 * 24 * 3600
"""How much of a transcript the list of all activity shows."""

# Each kind by its moment, and in the columns of `Activity`: rank, number, moment, text, channel, direction, outcome,
# completed.
_ACTIVITY: dict[ActivityKind, tuple[str, str]] = {
    "note": ("occurred_at", "0, n, occurred_at, content, kind, direction, outcome, NULL FROM notes"),
    "call": ("started_at", "1, n, started_at, transcript, 'call', direction, outcome, NULL FROM calls"),
    "message": (
        "sent_at",
        "2, n, sent_at, COALESCE(subject || char(10), '') || body, channel, direction, status, NULL FROM messages",
    ),
    "task": ("created_at", "3, n, created_at, title, NULL, NULL, NULL, completed FROM tasks"),
}
_KINDS: tuple[ActivityKind, ...] = tuple(_ACTIVITY)
_LETTERS: dict[ActivityKind, str] = {"note": "N", "call": "C", "message": "M", "task": "T"}


class LocalActivity(ReadsActivity, LogsNotes, ReadsCalls, ReadsMessages):
    """The history of leads in the file."""

    activity_kinds: ClassVar[tuple[ActivityKind, ...]] = _KINDS
    hears: ClassVar[frozenset[Channel]] = frozenset(("email", "sms"))

    _file: File

    async def list_activity(
        self, lead: str, kinds: Seq[ActivityKind], since: datetime | None, part: Slice
    ) -> Page[Activity]:
        """List all of it, newest first; a task stands where it was created. No kinds are all kinds."""
        return await self._file.read(lambda db: _activity(db, lead, kinds, since, part))

    async def log_note(self, lead: str, draft: NoteDraft) -> Note:
        """Log a note; a call, e-mail or meeting counts as contact at its time."""
        return await self._file.write(lambda db: _log(db, lead, draft))

    async def list_notes(self, lead: str, part: Slice) -> Page[Note]:
        """List a lead's notes, newest first."""
        return await self._file.read(lambda db: _listed(db, "notes", "occurred_at", lead, part, _notes))

    async def get_note(self, note: str) -> Note:
        """Read one note."""
        n = rows.number("note", note)
        return await self._file.read(lambda db: _one(db, "note", n, _notes))

    async def get_call(self, call: str) -> Call:
        """Read one call, with its transcript."""
        n = rows.number("call", call)
        return await self._file.read(lambda db: _one(db, "call", n, _whole_calls))

    async def list_calls(self, lead: str, part: Slice) -> Page[Call]:
        """List a lead's calls, newest first, without transcripts."""
        return await self._file.read(lambda db: _listed(db, "calls", "started_at", lead, part, _calls))

    async def list_messages(self, lead: str, part: Slice) -> Page[Message]:
        """List a lead's messages, newest first."""
        return await self._file.read(lambda db: _listed(db, "messages", "sent_at", lead, part, messages))

    async def inbound_messages(self, lead: str, channel: Channel) -> tuple[Message, ...]:
        """Return what a lead has written on a channel, newest first."""
        return await self._file.read(lambda db: _inbound(db, lead, channel))


def _notes(found: Seq[sqlite3.Row]) -> list[Note]:
    return [
        Note(
            id=f"N{row['n']}",
            lead_id=f"L{row['lead']}",
            content=row["content"],
            kind=row["kind"],
            outcome=row["outcome"],
            occurred_at=rows.moment(row["occurred_at"]),
            duration_seconds=row["duration_seconds"],
            direction=row["direction"],
        )
        for row in found
    ]


def _calls(found: Seq[sqlite3.Row], *, whole: bool = False) -> list[Call]:
    return [
        Call(
            id=f"C{row['n']}",
            lead_id=f"L{row['lead']}",
            direction=row["direction"],
            duration_seconds=row["duration_seconds"],
            outcome=row["outcome"],
            started_at=rows.moment(row["started_at"]),
            recording_url=row["recording_url"],
            transcript=row["transcript"] if whole else None,
        )
        for row in found
    ]


def _whole_calls(found: Seq[sqlite3.Row]) -> list[Call]:
    return _calls(found, whole=True)


def messages(found: Seq[sqlite3.Row]) -> list[Message]:
    """Return rows as messages."""
    return [
        Message(
            id=f"M{row['n']}",
            lead_id=f"L{row['lead']}",
            channel=row["channel"],
            direction=row["direction"],
            subject=row["subject"],
            body=row["body"],
            status=row["status"],
            sent_at=rows.moment(row["sent_at"]),
        )
        for row in found
    ]


def _inbound(db: sqlite3.Connection, lead: str, channel: Channel) -> tuple[Message, ...]:
    written = "lead = ? AND channel = ? AND direction = 'inbound'"
    found = db.execute(
        f"SELECT * FROM messages WHERE {written} ORDER BY sent_at DESC, n DESC LIMIT ?",
        (rows.existing(db, "lead", lead), channel, LOOKED_THROUGH),
    ).fetchall()
    return tuple(messages(found))


def _one(db: sqlite3.Connection, kind: str, n: int, make: Callable[[Seq[sqlite3.Row]], list[R]]) -> R:
    found = db.execute(f"SELECT * FROM {rows.TABLES[kind]} WHERE n = ?", (n,)).fetchall()
    if not found:
        raise rows.missing(kind, f"{rows.KINDS[kind][0]}{n}")
    return make(found)[0]


def _listed(
    db: sqlite3.Connection, table: str, at: str, lead: str, part: Slice, make: Callable[[Seq[sqlite3.Row]], list[R]]
) -> Page[R]:
    """Return a page of one lead's rows, newest first."""
    place = rows.position(part, int, int)
    n = rows.existing(db, "lead", lead)
    total = db.execute(f"SELECT count(*) FROM {table} WHERE lead = ?", (n,)).fetchone()[0]
    after, key = ("1", ()) if place is None else (f"({at}, n) < (?, ?)", place)
    found = db.execute(
        f"SELECT * FROM {table} WHERE lead = ? AND {after} ORDER BY {at} DESC, n DESC LIMIT ?",
        (n, *key, part.limit + 1),
    ).fetchall()
    return rows.paged(found, part, make, lambda row: (row[at], row["n"]), total)


def _activity(
    db: sqlite3.Connection, lead: str, kinds: Seq[ActivityKind], since: datetime | None, part: Slice
) -> Page[Activity]:
    place = rows.position(part, int, int, int)
    n = rows.existing(db, "lead", lead)
    for kind in kinds:
        if kind not in _ACTIVITY:
            raise InvalidArgument(f'"{kind[:40]}" is no kind of activity', choices(kind, _KINDS))
    start = rows.millis(since) if since else -(2**62)
    selects: list[str] = []
    values: list[Any] = []
    for kind in dict.fromkeys(kinds or _KINDS):
        at, select = _ACTIVITY[kind]
        # No source can give more than a page, nor anything newer than where the page starts.
        selects.append(f"SELECT * FROM (SELECT {select} WHERE lead = ? AND {at} >= ? AND {at} <= ? ORDER BY 3 DESC)")
        values.extend((n, start, place[0] if place else 2**62))
    after, key = ("1", ()) if place is None else ("(at, -rank, n) < (?, ?, ?)", place)
    columns = "rank, n, at, text, channel, direction, outcome, completed"
    named = f"WITH happened ({columns}) AS ({' UNION ALL '.join(selects)})"
    found = db.execute(
        f"{named} SELECT * FROM happened WHERE {after} ORDER BY at DESC, -rank DESC, n DESC LIMIT ?",
        (*values, *key, part.limit + 1),
    ).fetchall()
    return rows.paged(found, part, _activities, lambda row: (row["at"], -row["rank"], row["n"]))


def _activities(found: Seq[sqlite3.Row]) -> list[Activity]:
    kinds: list[ActivityKind] = [_KINDS[int(row["rank"])] for row in found]
    return [
        Activity(
            kind=kind,
            id=f"{_LETTERS[kind]}{row['n']}",
            at=rows.moment(row["at"]),
            text=row["text"],
            channel=row["channel"],
            direction=row["direction"],
            outcome=row["outcome"],
            completed=None if row["completed"] is None else bool(row["completed"]),
        )
        for kind, row in zip(kinds, found, strict=True)
    ]


def _log(db: sqlite3.Connection, lead: str, draft: NoteDraft) -> Note:
    if draft.duration_seconds is not None and not 0 <= draft.duration_seconds <= _LONGEST_CALL:
        raise InvalidArgument("the duration is not possible", f"give 0 to {_LONGEST_CALL} seconds", wrote=False)
    n = rows.existing(db, "lead", lead)
    at = rows.millis(draft.occurred_at) if draft.occurred_at else rows.present()
    made = db.execute(
        "INSERT INTO notes (lead, content, kind, outcome, occurred_at, duration_seconds, direction)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (n, draft.content, draft.kind, draft.outcome or None, at, draft.duration_seconds, draft.direction),
    )
    if draft.kind != "note":
        contacted(db, n, min(at, rows.present()))
    index_lead(db, n)
    return _one(db, "note", made.lastrowid or 0, _notes)


def contacted(db: sqlite3.Connection, lead: int, at: int) -> None:
    """Remember that a lead was contacted, never an earlier moment than before."""
    db.execute("UPDATE leads SET last_contacted_at = max(last_contacted_at, ?) WHERE n = ?", (at, lead))


def recount_contact(db: sqlite3.Connection, lead: int) -> None:
    """Find out anew when a lead was last contacted, after something was deleted."""
    db.execute(
        "UPDATE leads SET last_contacted_at = max("
        " COALESCE((SELECT max(occurred_at) FROM notes WHERE lead = leads.n AND kind <> 'note'), 0),"
        " COALESCE((SELECT max(started_at) FROM calls WHERE lead = leads.n), 0),"
        " COALESCE((SELECT max(sent_at) FROM messages WHERE lead = leads.n AND direction = 'outbound'"
        "   AND status IN ('sent', 'recorded')), 0)) WHERE n = ?",
        (lead,),
    )
