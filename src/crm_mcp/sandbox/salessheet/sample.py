"""The sample of the SalesSheet emulator: twelve people, a company, and what happened with them in the last weeks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from crm_mcp.sandbox.people import PEOPLE

Insert = Callable[[str, dict[str, Any], float], dict[str, Any]]
"""Creates a record of a resource at a moment; returns it with its id."""

_STATUSES = ("new", "working", "qualified", "customer")
_OWNERS = ("Robin Vale", "Noor Aziz")
_SOURCES = ("fair", "website", "referral")
_DEALS: tuple[tuple[int, str, float, int, int], ...] = (
    # person, name, value, stage, days until it closes
    (0, "Robot cells for line two", 48_000, 2, 21),
    (2, "Cold chain sensors", 12_500, 1, 35),
    (4, "Spring campaign", 8_200, 0, 50),
    (6, "Case archive", 30_000, 3, -9),
    (8, "Greenhouse planning", 5_400, 4, -20),
    (10, "Lens inspection pilot", 64_000, 1, 14),
    (10, "Service contract", 9_600, 0, 60),
)
_TASKS: tuple[tuple[int | None, str, int, str, str], ...] = (
    (0, "Send the revised offer", 1, "high", "open"),
    (2, "Ask for the sensor count", 3, "normal", "open"),
    (4, "Share two references", -2, "low", "open"),
    (6, "Plan the kick-off", 7, "normal", "open"),
    (8, "Ask why it was lost", -10, "low", "completed"),
    (None, "Tidy up the pipeline", 5, "low", "open"),
)
_CALL = (
    "{name}: We looked at the offer. The price is fine, the date is not.\n"
    "Robin: What would suit you?\n"
    "{name}: Delivery before the end of the quarter, in two parts if it must be.\n"
    "Robin: Two parts work. I'll send a new plan by Thursday."
)


def fill(insert: Insert, stages: list[str], now: float) -> None:
    """Create the sample's records, the oldest first; `stages` are the ids of the first pipeline's."""

    def ago(days: float) -> float:
        return now - days * 86_400

    def moment(days: float) -> str:
        """Return a moment so many days from now as text."""
        at = datetime.fromtimestamp(now, UTC) + timedelta(days=days)
        return at.isoformat(timespec="seconds").replace("+00:00", "Z")

    company = {"name": "Acme Robotics", "type": "company", "email": "office@acme-robotics.example"}
    insert("contacts", company, ago(61))
    people: list[str] = []
    for number, person in enumerate(PEOPLE):
        fields = {
            "first_name": person.first,
            "last_name": person.last,
            "email": person.email,
            "phone": person.phone,
            "company": person.company,
            "title": person.title,
            "status": _STATUSES[number % len(_STATUSES)],
            "owner": _OWNERS[number % len(_OWNERS)],
            "custom_fields": {"cf_source": _SOURCES[number % len(_SOURCES)]},
        }
        people.append(insert("contacts", fields, ago(60 - 4 * number))["id"])
    for person, name, value, stage, closes in _DEALS:
        fields = {"name": name, "value": value, "stage_id": stages[stage], "contact_id": people[person]}
        insert("deals", {**fields, "close_date": moment(closes), "owner": _OWNERS[person % 2]}, ago(30 - person))
    for person, title, due, priority, status in _TASKS:
        fields = {"title": title, "due_date": moment(due), "priority": priority, "status": status}
        insert("tasks", {**fields, "contact_id": None if person is None else people[person]}, ago(12))
    for number, person in enumerate(PEOPLE):
        of = {"contact_id": people[number]}
        mail = {
            "type": "email",
            "direction": "outbound",
            "subject": f"Our offer for {person.company}",
            "body": f"Hello {person.first}, here is the offer that we talked about.",
            "status": "sent",
        }
        insert("activities", {**of, **mail, "occurred_at": moment(-20 + number)}, ago(20 - number))
        if number % 2 == 0:
            call = {
                "type": "call",
                "direction": "inbound" if number % 4 else "outbound",
                "duration_seconds": 240 + 30 * number,
                "outcome": "reached",
                "subject": f"Call with {person.name}",
                "recording_url": f"https://recordings.salessheet.example/{number + 1}.mp3",
                "transcript": _CALL.format(name=person.first),
            }
            insert("activities", {**of, **call, "occurred_at": moment(-6 + number / 3)}, ago(6 - number / 3))
        if number % 3 == 0:
            note = {"type": "note", "body": "Wants a decision before the end of the quarter."}
            insert("activities", {**of, **note, "occurred_at": moment(-3)}, ago(3))
    meeting = {"type": "meeting", "subject": "Visit to the plant", "body": "Saw line two.", "contact_id": people[0]}
    insert("activities", {**meeting, "occurred_at": moment(-1)}, ago(1))
