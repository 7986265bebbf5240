"""Sequences: who is enrolled, which step is due, and when a step is done."""

from __future__ import annotations

import sqlite3
from typing import ClassVar

from crm_mcp.backends.base import EndsSequences, PlansSteps, RunsSequences
from crm_mcp.backends.local import rows
from crm_mcp.backends.local.database import File
from crm_mcp.channels import Channel
from crm_mcp.model import DueStep, Sequence, SequenceStep

_MOST_DUE = 100

# The next step of each active enrolment; its time counts from the enrolment on.
_NEXT = """SELECT e.n, e.lead, e.sequence, q.name, s.position, s.channel,
        e.enrolled_at + 86400000 * (
            SELECT sum(t.after_days) FROM steps t WHERE t.sequence = s.sequence AND t.position <= s.position
        ) AS due_at,
        (SELECT min(t.position) FROM steps t WHERE t.sequence = s.sequence AND t.position > s.position) AS following
    FROM enrolments e
    JOIN sequences q ON q.n = e.sequence
    JOIN steps s ON s.sequence = e.sequence AND s.position = (
        SELECT min(t.position) FROM steps t WHERE t.sequence = e.sequence AND t.position > e.done
    )
    WHERE e.ended_at IS NULL"""


class LocalSequences(RunsSequences, EndsSequences, PlansSteps):
    """Sequences in the file. A step is done when a message on its channel goes to the lead while it is due."""

    enrols_once: ClassVar[bool] = True

    _file: File

    async def sequences(self) -> tuple[Sequence, ...]:
        """List the sequences with their steps."""
        return await self._file.read(_sequences)

    async def due_steps(self) -> tuple[DueStep, ...]:
        """Return the next steps that are due now, `sequence` by its name, the earliest first, at most 100."""
        return await self._file.read(_due)

    async def enroll(self, sequence: str, lead: str) -> str | None:
        """Enrol a lead; returns why it was not done."""
        return await self._file.write(lambda db: _enroll(db, sequence, lead))

    async def enrolled(self, sequence: str, lead: str) -> bool:
        """Say whether a lead is in a sequence now."""
        return await self._file.read(lambda db: _enrolled(db, sequence, lead))

    async def unenroll(self, sequence: str, lead: str) -> str | None:
        """Take a lead out; returns why it was not done."""
        return await self._file.write(lambda db: _unenroll(db, sequence, lead))


def _sequences(db: sqlite3.Connection) -> tuple[Sequence, ...]:
    steps: dict[int, list[SequenceStep]] = {}
    for row in db.execute("SELECT * FROM steps ORDER BY sequence, position"):
        step = SequenceStep(
            position=row["position"],
            after_days=row["after_days"],
            channel=row["channel"],
            subject=row["subject"],
            body=row["body"],
        )
        steps.setdefault(row["sequence"], []).append(step)
    active = "SELECT count(*) FROM enrolments e WHERE e.sequence = q.n AND e.ended_at IS NULL"
    found = db.execute(f"SELECT q.n, q.name, ({active}) AS active FROM sequences q ORDER BY q.folded")
    return tuple(
        Sequence(id=f"S{row['n']}", name=row["name"], active=row["active"], steps=tuple(steps.get(row["n"], ())))
        for row in found
    )


def _due(db: sqlite3.Connection) -> tuple[DueStep, ...]:
    label = "SELECT COALESCE(name, company, email, phone) FROM leads l WHERE l.n = x.lead"
    found = db.execute(
        f"SELECT x.*, ({label}) AS label FROM ({_NEXT}) x WHERE due_at <= ? ORDER BY due_at, n LIMIT ?",
        (rows.present(), _MOST_DUE),
    ).fetchall()
    return tuple(
        DueStep(
            sequence=row["name"],
            lead_id=f"L{row['lead']}",
            lead=row["label"],
            position=row["position"],
            channel=row["channel"],
            due_at=at,
        )
        for row in found
        if (at := rows.moment(row["due_at"])) is not None
    )


def advance(db: sqlite3.Connection, lead: int, channel: Channel, at: int) -> None:
    """Note that a message went to a lead: the step due first on this channel is done, and the last one ends it."""
    row = db.execute(
        f"SELECT n, position, following FROM ({_NEXT} AND e.lead = ?) WHERE channel = ? AND due_at <= ?"
        " ORDER BY due_at, n LIMIT 1",
        (lead, channel, at),
    ).fetchone()
    if row is not None:
        ended = at if row["following"] is None else None
        db.execute("UPDATE enrolments SET done = ?, ended_at = ? WHERE n = ?", (row["position"], ended, row["n"]))


def _enroll(db: sqlite3.Connection, sequence: str, lead: str) -> str | None:
    s, n = rows.existing(db, "sequence", sequence), rows.existing(db, "lead", lead)
    made = db.execute(
        "INSERT INTO enrolments (sequence, lead, enrolled_at) VALUES (?, ?, ?)"
        " ON CONFLICT (sequence, lead) WHERE ended_at IS NULL DO NOTHING",
        (s, n, rows.present()),
    )
    return None if made.rowcount else "is enrolled already"


def _enrolled(db: sqlite3.Connection, sequence: str, lead: str) -> bool:
    s, n = rows.existing(db, "sequence", sequence), rows.existing(db, "lead", lead)
    return (
        db.execute("SELECT 1 FROM enrolments WHERE sequence = ? AND lead = ? AND ended_at IS NULL", (s, n)).fetchone()
        is not None
    )


def _unenroll(db: sqlite3.Connection, sequence: str, lead: str) -> str | None:
    s, n = rows.existing(db, "sequence", sequence), rows.existing(db, "lead", lead)
    done = db.execute(
        "UPDATE enrolments SET ended_at = ? WHERE sequence = ? AND lead = ? AND ended_at IS NULL",
        (rows.present(), s, n),
    )
    return None if done.rowcount else "is not enrolled"
