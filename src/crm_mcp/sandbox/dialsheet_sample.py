"""What a Dialsheet account has: mailboxes and sequences always, people and what happened with them in the sample."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from crm_mcp.sandbox.people import PEOPLE


class Account(Protocol):
    """What records are made in."""

    def add(self, kind: str, days_ago: float = 0.0, /, **fields: Any) -> dict[str, Any]:
        """Keep a new record."""
        ...

    def time(self, days: float = 0.0) -> str:
        """Return a moment, so many days from now."""
        ...


_STATUSES = ("qualified", "new", "new", "contacted")
_TAGS = ("fair", "inbound", "vip")


class _Deal(NamedTuple):
    person: int
    name: str
    stage: str
    value: int


_DEALS = (
    _Deal(0, "Line 4 retrofit", "Negotiation", 48_000),
    _Deal(2, "Cold chain pilot", "Proposal", 19_500),
    _Deal(4, "Autumn campaign", "Discovery", 7_200),
    _Deal(5, "Booking desk", "Closed Won", 12_000),
    _Deal(6, "Document room", "Proposal", 31_000),
    _Deal(8, "Greenhouse sensors", "Closed Lost", 5_400),
    _Deal(10, "Lens inspection", "Discovery", 64_000),
)
_NOTES = (
    (0, 6, "Wants the quote split into two phases.", "interested"),
    (0, 21, "Met at the fair; asked for references.", None),
    (2, 3, "Will decide after the board meeting on the 12th.", "call back"),
    (6, 9, "Compares us with two others. Price is not the point, support is.", "interested"),
    (10, 1, "Needs a demo for her team of five.", "interested"),
)
_CALLS = (
    (0, 6, 412, "outbound", "interested", "Rep: You asked about phases. Jane: Two would suit our budget years."),
    (1, 5, 0, "outbound", "no answer", None),
    (2, 3, 187, "inbound", "call back", "Ines: The board meets on the 12th; ring me on the 13th."),
    (4, 2, 64, "outbound", "voicemail", None),
    (6, 9, 655, "outbound", "interested", "Greta: Who picks up when something breaks at night?"),
    (10, 1, 305, "outbound", "interested", "Anita: A demo for five people, any morning next week."),
)
_TASKS = (
    (0, 1, "Send the quote in two phases", "high", False),
    (2, 4, "Ring after the board meeting", "medium", False),
    (6, 2, "Send two support references", "high", False),
    (10, 3, "Prepare the demo", "medium", False),
    (5, -8, "Send the contract", "high", True),
)
_EMAILS = (
    (0, 5, "Your quote", "Dear Jane, the quote in two phases is attached."),
    (2, 12, "Cold chain pilot", "Dear Ines, here is the plan of the pilot."),
    (6, 8, "References", "Dear Greta, whom would you like to speak to?"),
)
_SMS = (
    (0, 4, "outbound", "Hi Jane, the quote is in your inbox."),
    (0, 3, "inbound", "Got it, thank you!"),
    (4, 2, "outbound", "Hi Mina, I tried to reach you. When does it suit?"),
)


def fill(account: Account, *, people: bool) -> None:
    """Make the records of the beginning."""
    mailbox = account.add("email_accounts", 400, email="sales@crm.example", name="Sales", is_default=True)
    account.add("email_accounts", 399, email="support@crm.example", name="Support", is_default=False)
    for name in ("Cold outreach", "After the fair"):
        account.add("sequences", 300, name=name, status="active")
    if not people:
        return
    for name in _TAGS:
        account.add("tags", 200, name=name)
    leads = [
        account.add(
            "leads",
            90.0 - 5 * number,
            name=person.name,
            email=person.email,
            phone=person.phone,
            company=person.company,
            title=person.title,
            status=_STATUSES[number % len(_STATUSES)],
            source="fair" if number % 3 == 0 else "website",
        )["id"]
        for number, person in enumerate(PEOPLE)
    ]
    for number, deal in enumerate(_DEALS):
        fields = {"lead_id": leads[deal.person], "name": deal.name, "stage": deal.stage, "value": deal.value}
        account.add("opportunities", 40.0 - 5 * number, **fields)
    for person, days, content, outcome in reversed(_NOTES):
        account.add("notes", days, lead_id=leads[person], content=content, **({"outcome": outcome} if outcome else {}))
    for person, days, seconds, way, outcome, transcript in reversed(_CALLS):
        fields = {"lead_id": leads[person], "direction": way, "duration": seconds, "outcome": outcome}
        account.add("calls", days, **fields, started_at=account.time(-days), transcript=transcript)
    for person, due, title, priority, completed in _TASKS:
        fields = {"lead_id": leads[person], "title": title, "priority": priority, "completed": completed}
        account.add("tasks", 10, **fields, due_date=account.time(due))
    for person, days, subject, body in reversed(_EMAILS):
        fields = {"lead_id": leads[person], "email_account_id": mailbox["id"], "to_email": PEOPLE[person].email}
        texts = {"subject": subject, "body_text": body, "status": "sent"}
        account.add("emails", days, **fields, **texts, sent_at=account.time(-days))
    for person, days, way, message in reversed(_SMS):
        fields = {"lead_id": leads[person], "message": message, "direction": way, "status": "delivered"}
        account.add("sms", days, **fields, sent_at=account.time(-days))
