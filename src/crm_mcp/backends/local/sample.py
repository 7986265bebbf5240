"""Sample data: about 300 fictional leads with a history of twelve months that ends now.

The same every time but for the dates, which count back from the present. All mail domains end in `.example`, all
numbers lie in ranges kept free for fiction.
"""

from __future__ import annotations

import json
import random
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from crm_mcp.backends.local import labels, rows
from crm_mcp.backends.local import sample_words as words
from crm_mcp.backends.local.leads import INSERT, insert_values, next_number
from crm_mcp.backends.local.outreach import put_mailbox
from crm_mcp.backends.local.words import index_lead

LEADS = 300
DEALS = 60
CALLS = 80
TASKS = 80
DAY = 86_400_000

_STAGE_WEIGHTS = (38, 30, 18, 14)
_STATUSES = {"New": ("new",), "Contacted": ("working", "nurturing", "unresponsive", "disqualified")}
_OUTCOMES = ("reached", "voicemail", "no answer", "reached", "call back later")


@dataclass
class _Person:
    """A lead of the sample, before it is written."""

    n: int
    fields: dict[str, Any]
    stage: str
    owner: str
    created_at: int
    contacted_at: int = 0
    tags: tuple[str, ...] = ()
    listed: str | None = None
    status: str = "new"
    custom: dict[str, Any] = field(default_factory=dict[str, Any])

    def said(self, text: str) -> str:
        """Return a text with the people's names in it."""
        f = self.fields
        return text.format(first=f["first_name"], owner=self.owner.split()[0], company=f["company"])


def fill(db: sqlite3.Connection) -> None:
    """Fill an empty CRM."""
    _Sample(db).fill()


class _Sample:
    """One filling: its dice, its present and its people."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.dice = random.Random(20)  # noqa: S311 - a sample, no secret
        self.now = rows.present()
        self.known: labels.Known = {}
        self.stages = {row["name"]: row for owner in ("leads", "deals") for row in labels.stage_rows(db, owner)}
        self.people: list[_Person] = []

    def fill(self) -> None:
        """Write everything, leads in the order of their creation."""
        start = next_number(self.db)
        ages = sorted((self.dice.uniform(1, 365) for _ in range(LEADS - 2)), reverse=True)
        for age in ages:
            self.people.append(self._person(start + len(self.people), int(self.now - age * DAY)))
        self.people[40:40] = [self._anna()]
        jane = self._jane()
        self.people[180:180] = [jane]
        for place, person in enumerate(self.people):
            person.n = start + place
        # Those put in between take the time of their neighbour, so that newest first is the order of the rows.
        for put in (40, 180):
            self.people[put].created_at = self.people[put + 1].created_at - 1000
        self._write_leads()
        others = [person for person in self.people if person is not jane]
        self._write_notes(others)
        self._write_calls(others)
        self._write_messages(others)
        self._write_deals(others)
        self._write_tasks(others)
        self._write_jane(jane)
        self._write_outreach(others)
        for person in self.people:
            self.db.execute("UPDATE leads SET last_contacted_at = ?, updated_at = ? WHERE n = ?",
                            (person.contacted_at, max(person.created_at, person.contacted_at), person.n))  # fmt: skip
            index_lead(self.db, person.n)

    def _person(self, n: int, created_at: int) -> _Person:
        dice = self.dice
        first, last = dice.choice(words.FIRST_NAMES), dice.choice(words.LAST_NAMES)
        company = dice.choice(words.COMPANIES)
        domain = f"{labels.folded(company).replace(' ', '-')}.example"
        # The row number makes the address and the number the only ones of their kind.
        local = f"{labels.folded(first)}.{labels.folded(last)}{'' if self._is_new(first, last) else n}"
        fields = {
            "name": f"{first} {last}",
            "first_name": first,
            "last_name": last,
            "email": None if dice.random() < 0.06 else f"{local}@{domain}",
            "phone": None if dice.random() < 0.12 else self._phone(n),
            "company": company,
            "title": dice.choice(words.TITLES) if dice.random() < 0.85 else None,
        }
        stage = dice.choices(("New", "Contacted", "Qualified", "Customer"), _STAGE_WEIGHTS)[0]
        custom: dict[str, Any] = {"industry": dice.choice(words.INDUSTRIES)}
        if dice.random() < 0.4:
            custom["employees"] = dice.choice((8, 15, 40, 120, 300, 900))
        if dice.random() < 0.3:
            custom["sms_opt_in"] = dice.random() < 0.7
        return _Person(
            n=n,
            fields=fields,
            stage=stage,
            owner=dice.choice(words.OWNERS),
            created_at=created_at,
            tags=tuple(sorted(dice.sample(words.TAGS, dice.choice((0, 0, 1, 1, 2, 3))))),
            listed=dice.choice(words.LISTS) if dice.random() < 0.5 else None,
            status=dice.choice(_STATUSES.get(stage, ("working", "nurturing"))),
            custom=custom,
        )

    def _is_new(self, first: str, last: str) -> bool:
        return all((p.fields["first_name"], p.fields["last_name"]) != (first, last) for p in self.people)

    def _phone(self, n: int) -> str:
        """Return a number of the ranges kept for fiction: 555-0100 to 555-0199, and 07700 900000 to 900999."""
        if n % 4 == 0:
            return f"+447700900{n % 1000:03d}"
        return f"+1{words.AREA_CODES[n // 100 % len(words.AREA_CODES)]}55501{n % 100:02d}"

    def _anna(self) -> _Person:
        """Return somebody whose name and company have what plain keyboards lack."""
        person = self._person(0, 0)
        person.fields.update(
            name="Anneliese Größl", first_name="Anneliese", last_name="Größl", company="Straßenbau Müller & Söhne",
            email="anneliese.groessl@strassenbau-mueller.example", phone="+447700900871", title="Geschäftsführerin",
        )  # fmt: skip
        person.stage, person.status = "Contacted", "working"
        return person

    def _jane(self) -> _Person:
        """Return the lead that the demo tells of."""
        person = self._person(0, 0)
        person.fields.update(
            name="Jane Whitfield", first_name="Jane", last_name="Whitfield", company="Acme Robotics",
            email="jane.whitfield@acme-robotics.example", phone="+14155550171", title="Head of Operations",
        )  # fmt: skip
        person.stage, person.status, person.owner = "Qualified", "working", words.OWNERS[0]
        person.tags, person.listed = ("enterprise", "trade-fair"), words.LISTS[0]
        person.custom = {"industry": "manufacturing", "employees": 300, "sms_opt_in": True}
        return person

    def _write_leads(self) -> None:
        for person in self.people:
            status = labels.label(self.db, "status", person.status, self.known)
            owner = labels.label(self.db, "owner", person.owner, self.known)
            stage = self.stages[person.stage]["n"]
            custom = json.dumps(person.custom, separators=(",", ":"))
            self.db.execute(
                INSERT, insert_values(person.n, person.fields, status, owner, stage, custom, None, person.created_at)
            )
            labels.put_labels(self.db, person.n, "tag", person.tags, self.known)
            labels.put_labels(self.db, person.n, "list", [person.listed] if person.listed else [], self.known)

    def _when(self, person: _Person) -> int:
        """Return a moment between a lead's creation and an hour ago."""
        return self.dice.randint(person.created_at, max(person.created_at, self.now - DAY // 24))

    def _contact(self, person: _Person, at: int) -> None:
        person.contacted_at = max(person.contacted_at, at)

    def _note(self, person: _Person, content: str, kind: str, at: int, outcome: str | None = None) -> None:
        self.db.execute(
            "INSERT INTO notes (lead, content, kind, outcome, occurred_at) VALUES (?, ?, ?, ?, ?)",
            (person.n, content, kind, outcome, at),
        )
        if kind != "note":
            self._contact(person, at)

    def _write_notes(self, people: list[_Person]) -> None:
        for person in people:
            for _ in range(self.dice.choice((0, 1, 1, 2, 3))):
                self._note(person, self.dice.choice(words.NOTES), "note", self._when(person))
            if person.stage in ("Qualified", "Customer"):
                self._note(person, self.dice.choice(words.MEETINGS), "meeting", self._when(person), "done")

    def _call(self, person: _Person, at: int, outcome: str, seconds: int, transcript: str | None) -> None:
        number = self.db.execute(
            "INSERT INTO calls (lead, direction, duration_seconds, outcome, started_at, transcript)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                person.n,
                "outbound" if transcript else self.dice.choice(("outbound", "inbound")),
                seconds,
                outcome,
                at,
                transcript,
            ),
        ).lastrowid
        if transcript:
            recording = f"https://recordings.example/{number}.mp3"
            self.db.execute("UPDATE calls SET recording_url = ? WHERE n = ?", (recording, number))
        self._contact(person, at)

    def _write_calls(self, people: list[_Person]) -> None:
        reached = [person for person in people if person.fields["phone"] and person.stage != "New"]
        for person in self.dice.choices(reached, k=CALLS - 1):
            outcome = self.dice.choice(_OUTCOMES)
            talked = outcome == "reached"
            transcript = person.said(self.dice.choice(words.TRANSCRIPTS)) if talked else None
            seconds = self.dice.randint(90, 900) if talked else self.dice.randint(0, 40)
            self._call(person, self._when(person), outcome, seconds, transcript)

    def _message(self, person: _Person, channel: str, direction: str, subject: str | None, body: str, at: int) -> None:
        status = "received" if direction == "inbound" else "sent"
        self.db.execute(
            "INSERT INTO messages (lead, channel, direction, subject, body, status, sent_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (person.n, channel, direction, subject, person.said(body), status, at),
        )
        if direction == "outbound":
            self._contact(person, at)

    def _write_messages(self, people: list[_Person]) -> None:
        for person in people:
            if person.stage == "New":
                continue
            if person.fields["email"] and self.dice.random() < 0.5:
                subject, ours, theirs = self.dice.choice(words.MAILS)
                at = self._when(person)
                self._message(person, "email", "outbound", subject, ours, at)
                if self.dice.random() < 0.6:
                    answered = min(at + self.dice.randint(DAY // 24, 2 * DAY), self.now - 60_000)
                    self._message(person, "email", "inbound", f"Re: {subject}", theirs, answered)
            if person.fields["phone"] and self.dice.random() < 0.2:
                ours, theirs = self.dice.choice(words.TEXTS)
                at = self._when(person)
                self._message(person, "sms", "outbound", None, ours, at)
                if self.dice.random() < 0.7:
                    self._message(person, "sms", "inbound", None, theirs, min(at + DAY // 48, self.now - 60_000))

    def _deal(self, person: _Person, name: str, value: float, stage: str, created_at: int, closes_at: int) -> None:
        row = self.stages[stage]
        owner = labels.label(self.db, "owner", person.owner, self.known)
        self.db.execute(
            "INSERT INTO deals (lead, name, value, currency, stage, status, closes_at, owner, created_at, updated_at)"
            " VALUES (?, ?, ?, 'USD', ?, ?, ?, ?, ?, ?)",
            (person.n, name, value, row["n"], row["closes"] or "open", closes_at, owner, created_at, created_at),
        )

    def _write_deals(self, people: list[_Person]) -> None:
        bought = [person for person in people if person.stage == "Customer"]
        wanted = [person for person in people if person.stage in ("Contacted", "Qualified")]
        chosen = self.dice.sample(bought, k=min(24, len(bought)))
        chosen += self.dice.sample(wanted, k=DEALS - len(chosen))
        for person in sorted(chosen, key=lambda each: each.n):
            stage = "Closed Won"
            if person.stage != "Customer":
                stage = self.dice.choice(
                    ("Discovery", "Discovery", "Proposal", "Proposal", "Negotiation", "Closed Lost")
                )
            closed = stage.startswith("Closed")
            created = self._when(person)
            # Some of the open ones should have been closed by now: that is what a review of the pipeline looks for.
            closes = self.dice.randint(created, self.now) if closed else self.now + self.dice.randint(-20, 90) * DAY
            value = float(self.dice.choice((1_800, 3_500, 4_800, 7_200, 12_000, 18_500, 26_000, 42_000)))
            self._deal(
                person, f"{person.fields['company']} {self.dice.choice(words.DEALS)}", value, stage, created, closes
            )
            if stage == "Closed Lost":
                self._note(person, f"Lost: {self.dice.choice(words.LOST_REASONS)}.", "note", closes)

    def _task(self, person: _Person, title: str, due: int, priority: str, created: int, *, done: bool) -> None:
        self.db.execute(
            "INSERT INTO tasks (lead, title, due_at, priority, completed, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            (person.n, title, due, priority, int(done), created),
        )

    def _write_tasks(self, people: list[_Person]) -> None:
        for _ in range(TASKS):
            person = self.dice.choice(people)
            due = self.now + self.dice.randint(-15, 25) * DAY
            done = due < self.now and self.dice.random() < 0.6
            created = max(person.created_at, min(self.now, due) - self.dice.randint(1, 12) * DAY)
            priority = self.dice.choice(("low", "normal", "normal", "high"))
            self._task(person, self.dice.choice(words.TASKS), due, priority, created, done=done)

    def _write_jane(self, jane: _Person) -> None:
        now, day = self.now, DAY
        self._note(jane, "Met at the spring trade fair. Runs three plants and wants to start with one line as a pilot.",
                   "note", now - 46 * day)  # fmt: skip
        self._note(jane, "Demo for her team on site. The safety officer asked for the risk assessment, which we sent.",
                   "meeting", now - 30 * day, "done")  # fmt: skip
        self._message(jane, "email", "outbound", "Quote for the pilot",
                      "Hello {first},\n\nattached is the quote for the pilot with six robots.\n\nKind regards\n{owner}",
                      now - 16 * day)  # fmt: skip
        self._message(jane, "email", "inbound", "Re: Quote for the pilot",
                      "Hi {owner},\n\nthank you, we will go through it this week. Can you call me?\n\nJane",
                      now - 14 * day)  # fmt: skip
        self._call(jane, now - 9 * day, "reached", 412, jane.said(words.JANE_TRANSCRIPT))
        self._note(jane, "Steering committee decides about the pilot. CFO wants the payment split in two.", "note",
                   now - 9 * day + 600_000)  # fmt: skip
        self._deal(jane, "Acme Robotics pilot", 48_000.0, "Proposal", now - 28 * day, now + 21 * day)
        self._task(jane, "Send the revised quote", now - 2 * day, "high", now - 9 * day, done=False)

    def _write_outreach(self, people: list[_Person]) -> None:
        put_mailbox(self.db, "sales@northwind-supply.example", default=True)
        put_mailbox(self.db, "support@northwind-supply.example", default=False)
        for name, steps in words.SEQUENCES:
            number = self.db.execute(
                "INSERT INTO sequences (name, folded) VALUES (?, ?)", (name, labels.folded(name))
            ).lastrowid
            self.db.executemany(
                "INSERT INTO steps (sequence, position, after_days, channel, subject, body) VALUES (?, ?, ?, ?, ?, ?)",
                [(number, place, *step) for place, step in enumerate(steps, start=1)],
            )
        mailed = [person for person in people if person.fields["email"] and person.fields["phone"]]
        recent = [person for person in mailed if person.created_at < self.now - 10 * DAY][-60:]
        for sequence in (row[0] for row in self.db.execute("SELECT n FROM sequences ORDER BY n").fetchall()):
            for person in self.dice.sample(recent, k=9):
                at = self.now - self.dice.randint(0, 9) * DAY - self.dice.randint(0, DAY)
                done = 1 if at < self.now - 5 * DAY else 0
                self.db.execute(
                    "INSERT INTO enrolments (sequence, lead, enrolled_at, done) VALUES (?, ?, ?, ?)",
                    (sequence, person.n, at, done),
                )
        for person in self.dice.sample(mailed[:200], k=7):
            for address, channel in ((person.fields["email"], "email"), (person.fields["phone"], "sms")):
                if self.dice.random() < 0.7:
                    self.db.execute("INSERT INTO blocked VALUES (?, ?, 'asked not to be contacted', ?)",
                                    (address, channel, self._when(person)))  # fmt: skip
