"""Dialsheet's API, as far as it is documented; what is not is a switch.

Documented: the routes, the bearer key, `search`, `status`, `page`, `limit` of leads, the filters of the other lists,
the fields of the examples, `{"leads": [...], "total": N}`, `{"lead": {...}}`, and `{"error": "text"}` with 401 and 404.
Inferred: everything that a switch decides, every answer to a write but a lead's, the names of times, the cascade.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from crm_mcp.sandbox.dialsheet_sample import fill
from crm_mcp.sandbox.emulator import Answer, Call, Emulator, Refusal, Window, identity, route

FREE_KEY = "ds_key_of_a_free_account"
REVOKED_KEY = "ds_key_that_was_revoked"
ROOT = "/api/v1"
KINDS = (
    *("leads", "email_accounts", "emails", "sms", "tasks", "notes", "calls", "opportunities", "tags", "sequences"),
    "enrolments",
)
ONE = {
    "leads": "lead",
    "emails": "email",
    "sms": "sms",
    "tasks": "task",
    "notes": "note",
    "opportunities": "opportunity",
    "tags": "tag",
    "enrolments": "enrollment",
}
OTHER_NAMES = {"email_accounts": "accounts", "sms": "messages", "opportunities": "deals", "sequences": "campaigns"}
STAGES = ("Discovery", "Proposal", "Negotiation", "Closed Won", "Closed Lost")
LEAD_FIELDS = frozenset({"name", "email", "company", "phone", "status"})
_CLOSED_FIELDS = frozenset({"id", "created_at", "updated_at"})

Row = dict[str, Any]


class DialsheetEmulator(Emulator):
    """Dialsheet. Singles can be read of leads alone; there is no route for what the documentation lacks."""

    vendor: ClassVar[str] = "dialsheet"
    key: ClassVar[str] = "ds_key_of_the_sandbox"
    choices: ClassVar[Mapping[str, Any]] = {
        "invalid_status": 400,  # or 422
        "plan_status": 403,  # or 402
        "per_minute": 60,  # calls; no limit is documented
        "sliding": False,  # the window of the limit slides
        "names": "resource",  # or other, data: what a list's rows stand under
        "answers": "wrapped",  # or bare, id, empty: what a write answers
        "created_status": 201,  # or 200
        "first_page": 1,  # or 0
        "most": 100,  # rows of a page
        "over_most": "clamp",  # or refuse
        "order": "newest",  # or oldest
        "phone_search": "text",  # or digits: whether dashes matter to a search
        "unknown_lead": "empty",  # or missing: a list's filter by a lead that is not there
        "unknown_fields": "keep",  # or ignore, refuse: of leads
        "null": "empties",  # or ignored: what null does to a field
        "normal_priority": "medium",  # or normal
        "completes_by": "completed",  # or done: the field that completes a task
        "deal_name": "name",  # or title
        "deal_lead": "lead_id",  # or contact_id
        "stages": "open",  # or fixed: any text is a stage
        "deal_status": False,  # deals have a status, which can be updated
        "tag_name": "name",  # or label
        "enroll_lead": "lead_id",  # or leadId
        "enrolled_twice": 409,  # or 200
        "transcripts": False,  # calls have one
        "cascade": True,  # what belongs to a lead goes with it
        "moved_to": "",  # the host to which every request is redirected, as the bare domain may
    }

    def begin(self) -> None:
        """Make mailboxes and sequences, and with the sample people and what happened with them."""
        self.tables: dict[str, list[Row]] = {kind: [] for kind in KINDS}
        self._made = dict.fromkeys(KINDS, 0)
        self._window = Window(int(self.switches["per_minute"]), self.minute, sliding=bool(self.switches["sliding"]))
        fill(self, people=self.sample)

    def switch(self, **switches: Any) -> None:
        """Choose readings."""
        super().switch(**switches)
        if {"per_minute", "sliding"} & switches.keys():
            self._window = Window(int(self.switches["per_minute"]), self.minute, sliding=bool(self.switches["sliding"]))

    def admit(self, call: Call) -> dict[str, str]:
        """Redirect, then check key, plan and limit; a 429 has no header that tells when."""
        if self.switches["moved_to"]:
            place = f"{str(self.switches['moved_to']).rstrip('/')}{call.path}"
            raise Refusal(308, "Moved", headers={"location": place})
        scheme, _, key = call.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or key not in (self.key, FREE_KEY):
            raise Refusal(401, "Unauthorized")
        if key == FREE_KEY:
            raise Refusal(int(self.switches["plan_status"]), "API access requires the Pro plan")
        if not self._window.take(self.clock()):
            raise Refusal(429, "Too many requests")
        return {}

    def worded(self, refusal: Refusal) -> Any:
        """Word an error: the text stands under `error`."""
        return {"error": refusal.message}

    # Records

    def add(self, kind: str, days_ago: float = 0.0, /, **fields: Any) -> Row:
        """Keep a new record."""
        self._made[kind] += 1
        at = self.time(-days_ago)
        row = {"id": identity(KINDS.index(kind) + 1, self._made[kind]), **fields, "created_at": at, "updated_at": at}
        self.tables[kind].append(row)
        return row

    def time(self, days: float = 0.0) -> str:
        """Return a moment, so many days from now."""
        moment = datetime.fromtimestamp(self.clock() + days * 86_400, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _row(self, kind: str, record: object, name: str) -> Row:
        found = next((row for row in self.tables[kind] if row["id"] == record), None)
        if found is None:
            raise Refusal(404, f"{name} not found")
        return found

    def _invalid(self, message: str) -> Refusal:
        return Refusal(int(self.switches["invalid_status"]), message)

    def _body(self, call: Call, allowed: Iterable[str], required: Iterable[str] = (), *, more: bool = False) -> Row:
        """Return the body, which has these fields alone."""
        sent: object = call.body
        if not call.headers.get("content-type", "").startswith("application/json") or not isinstance(sent, dict):
            raise self._invalid("A JSON object is required")
        body = cast("Row", sent)
        for name in required:
            if body.get(name) in (None, ""):
                raise self._invalid(f"{name} is required")
        for name in body:
            if name not in allowed and (not more or name in _CLOSED_FIELDS):
                raise self._invalid(f"Unknown field: {name}")
        return body

    def _no_query(self, call: Call) -> None:
        if call.query:
            raise self._invalid(f"Unknown parameter: {next(iter(call.query))}")

    def _changed(self, row: Row, body: Row) -> Row:
        keep = {name: value for name, value in body.items() if value is not None or self.switches["null"] == "empties"}
        row.update(keep, updated_at=self.time())
        return row

    def _written(self, kind: str, row: Row, status: int = 200) -> Answer:
        match self.switches["answers"]:
            case "wrapped":
                return Answer({ONE[kind]: row}, status)
            case "bare":
                return Answer(row, status)
            case "id":
                return Answer({"id": row["id"]}, status)
            case _:
                return Answer(None, status)

    def _created(self, kind: str, row: Row) -> Answer:
        return self._written(kind, row, int(self.switches["created_status"]))

    def _list(self, call: Call, kind: str, allowed: tuple[str, ...], rows: list[Row] | None = None) -> Answer:
        """Answer a list; `page` and `limit` count where they are documented."""
        for name in call.query:
            if name not in allowed:
                raise self._invalid(f"Unknown parameter: {name}")
        rows = self.tables[kind] if rows is None else rows
        if "lead_id" in call.query:
            lead, name = call.query["lead_id"], self._lead_of(kind)
            if self.switches["unknown_lead"] == "missing":
                self._row("leads", lead, "Lead")
            rows = [row for row in rows if row.get(name) == lead]
        if self.switches["order"] == "newest":
            rows = rows[::-1]
        total = len(rows)
        if "limit" in allowed:
            rows = self._page(call, rows)
        named = {"resource": kind, "data": "data"}.get(self.switches["names"]) or OTHER_NAMES.get(kind, kind)
        return Answer({named: rows, "total": total})

    def _lead_of(self, kind: str) -> str:
        return str(self.switches["deal_lead"]) if kind == "opportunities" else "lead_id"

    def _page(self, call: Call, rows: list[Row]) -> list[Row]:
        first, most = int(self.switches["first_page"]), int(self.switches["most"])
        limit, page = call.whole("limit", 50), call.whole("page", first)
        if limit < 1 or page < first or (limit > most and self.switches["over_most"] == "refuse"):
            raise self._invalid("page or limit is out of range")
        start = (page - first) * min(limit, most)
        return rows[start : start + min(limit, most)]

    # Leads

    @route("GET", f"{ROOT}/leads")
    def list_leads(self, call: Call) -> Answer:
        """List leads, by words anywhere in name, address, company and number, and by status."""
        words = call.query.get("search", "").casefold()
        status = call.query.get("status", "").casefold()
        rows = [
            row
            for row in self.tables["leads"]
            if (not words or self._has(row, words)) and (not status or str(row.get("status")).casefold() == status)
        ]
        return self._list(call, "leads", ("search", "status", "page", "limit"), rows)

    def _has(self, row: Row, words: str) -> bool:
        fields = [str(row.get(name) or "") for name in ("name", "email", "company", "phone")]
        if any(words in each.casefold() for each in fields):
            return True
        digits = "".join(filter(str.isdigit, words))
        own = "".join(filter(str.isdigit, fields[3]))
        return self.switches["phone_search"] == "digits" and len(digits) > 3 and digits in own

    @route("POST", f"{ROOT}/leads")
    def create_lead(self, call: Call) -> Answer:
        """Create a lead; the example has name, email, company and phone."""
        body = self._lead_body(call)
        if not any(body.get(name) for name in ("name", "email", "phone", "company")):
            raise self._invalid("name is required")
        return self._created("leads", self.add("leads", **{"status": "new", **body}))

    @route("GET", f"{ROOT}/leads/{{id}}")
    def get_lead(self, call: Call, lead: str) -> Answer:
        """Read a lead."""
        self._no_query(call)
        return Answer({"lead": self._row("leads", lead, "Lead")})

    @route("PUT", f"{ROOT}/leads/{{id}}")
    def update_lead(self, call: Call, lead: str) -> Answer:
        """Change a lead."""
        row = self._row("leads", lead, "Lead")
        return self._written("leads", self._changed(row, self._lead_body(call)))

    @route("DELETE", f"{ROOT}/leads/{{id}}")
    def delete_lead(self, call: Call, lead: str) -> Answer:
        """Delete a lead."""
        self._no_query(call)
        row = self._row("leads", lead, "Lead")
        self.tables["leads"].remove(row)
        if self.switches["cascade"]:
            for kind in ("emails", "sms", "tasks", "notes", "calls", "opportunities", "enrolments"):
                self.tables[kind] = [each for each in self.tables[kind] if each.get(self._lead_of(kind)) != lead]
        return self._gone()

    def _gone(self) -> Answer:
        return Answer(None, 204) if self.switches["answers"] == "empty" else Answer({"success": True})

    def _lead_body(self, call: Call) -> Row:
        reading = self.switches["unknown_fields"]
        body = self._body(call, LEAD_FIELDS, more=reading != "refuse")
        if "email" in body and body["email"] is not None and "@" not in str(body["email"]):
            raise self._invalid("email is invalid")
        return body if reading == "keep" else {name: body[name] for name in body if name in LEAD_FIELDS}

    # E-mails and SMS

    @route("GET", f"{ROOT}/email-accounts")
    def list_email_accounts(self, call: Call) -> Answer:
        """List the mailboxes."""
        return self._list(call, "email_accounts", ())

    @route("POST", f"{ROOT}/emails")
    def send_email(self, call: Call) -> Answer:
        """Send an e-mail by a mailbox; the lead is optional."""
        required = ("email_account_id", "to_email", "subject", "body_text")
        body = self._body(call, (*required, "lead_id"), required)
        self._row("email_accounts", body["email_account_id"], "Email account")
        if body.get("lead_id") is not None:
            self._row("leads", body["lead_id"], "Lead")
        if "@" not in str(body["to_email"]):
            raise self._invalid("to_email is invalid")
        row = self.add("emails", **body, status="sent", sent_at=self.time())
        text = str(body["body_text"])
        self.accept("email", body.get("lead_id"), row["id"], to=body["to_email"], text=text, subject=body["subject"])
        return self._created("emails", row)

    @route("GET", f"{ROOT}/emails")
    def list_emails(self, call: Call) -> Answer:
        """List what was sent."""
        return self._list(call, "emails", ("lead_id",))

    @route("POST", f"{ROOT}/sms")
    def send_sms(self, call: Call) -> Answer:
        """Send an SMS to a lead, on its number."""
        body = self._body(call, ("lead_id", "message"), ("lead_id", "message"))
        phone = self._row("leads", body["lead_id"], "Lead").get("phone")
        if not phone:
            raise self._invalid("Lead has no phone number")
        sent = self.add("sms", **body, direction="outbound", status="sent", sent_at=self.time())
        self.accept("sms", body["lead_id"], sent["id"], to=phone, text=str(body["message"]))
        return self._created("sms", sent)

    def receive(self, channel: str, lead: str, text: str, subject: str | None = None) -> str:
        """Let an SMS come in; of e-mails the API has those that were sent alone."""
        if channel != "sms":
            return super().receive(channel, lead, text, subject)
        self._row("leads", lead, "Lead")
        row = self.add("sms", lead_id=lead, message=text, direction="inbound", status="received", sent_at=self.time())
        return str(row["id"])

    @route("GET", f"{ROOT}/sms")
    def list_sms(self, call: Call) -> Answer:
        """List SMS."""
        return self._list(call, "sms", ("lead_id",))

    # Tasks, notes, calls

    @route("GET", f"{ROOT}/tasks")
    def list_tasks(self, call: Call) -> Answer:
        """List tasks; `completed=false` leaves out what is done."""
        wanted = call.query.get("completed")
        if wanted not in (None, "true", "false"):
            raise self._invalid("completed is invalid")
        done = str(self.switches["completes_by"])
        rows = [row for row in self.tables["tasks"] if wanted is None or bool(row.get(done)) == (wanted == "true")]
        return self._list(call, "tasks", ("lead_id", "completed"), rows)

    @route("POST", f"{ROOT}/tasks")
    def create_task(self, call: Call) -> Answer:
        """Create a task."""
        return self._created("tasks", self.add("tasks", **{self._done: False, **self._task_body(call, ("title",))}))

    @route("PUT", f"{ROOT}/tasks/{{id}}")
    def update_task(self, call: Call, task: str) -> Answer:
        """Change or complete a task."""
        row = self._row("tasks", task, "Task")
        return self._written("tasks", self._changed(row, self._task_body(call, ())))

    @route("DELETE", f"{ROOT}/tasks/{{id}}")
    def delete_task(self, call: Call, task: str) -> Answer:
        """Delete a task."""
        self._no_query(call)
        self.tables["tasks"].remove(self._row("tasks", task, "Task"))
        return self._gone()

    @property
    def _done(self) -> str:
        return str(self.switches["completes_by"])

    def _task_body(self, call: Call, required: tuple[str, ...]) -> Row:
        body = self._body(call, ("title", "lead_id", "due_date", "priority", self._done), required)
        if body.get("lead_id") is not None:
            self._row("leads", body["lead_id"], "Lead")
        if body.get("priority") not in (None, "low", self.switches["normal_priority"], "high"):
            raise self._invalid("priority is invalid")
        if body.get("due_date") is not None and not _utc(body["due_date"]):
            raise self._invalid("due_date is invalid")
        if not isinstance(body.get(self._done, False), bool):
            raise self._invalid(f"{self._done} is invalid")
        return body

    @route("GET", f"{ROOT}/notes")
    def list_notes(self, call: Call) -> Answer:
        """List notes."""
        return self._list(call, "notes", ("lead_id",))

    @route("POST", f"{ROOT}/notes")
    def create_note(self, call: Call) -> Answer:
        """Add a note, with the outcome of a call."""
        body = self._body(call, ("lead_id", "content", "outcome"), ("lead_id", "content"))
        self._row("leads", body["lead_id"], "Lead")
        return self._created("notes", self.add("notes", **body))

    @route("GET", f"{ROOT}/calls")
    def list_calls(self, call: Call) -> Answer:
        """List calls."""
        hidden = () if self.switches["transcripts"] else ("transcript",)
        rows = [{name: row[name] for name in row if name not in hidden} for row in self.tables["calls"]]
        return self._list(call, "calls", ("lead_id", "limit"), rows)

    # Opportunities, tags, sequences

    @route("GET", f"{ROOT}/opportunities")
    def list_opportunities(self, call: Call) -> Answer:
        """List deals by stage."""
        stage = call.query.get("stage", "").casefold()
        rows = [row for row in self.tables["opportunities"] if not stage or str(row["stage"]).casefold() == stage]
        return self._list(call, "opportunities", ("stage", "lead_id"), rows)

    @route("POST", f"{ROOT}/opportunities")
    def create_opportunity(self, call: Call) -> Answer:
        """Create a deal."""
        body = self._deal_body(call, (str(self.switches["deal_name"]),))
        status = {"status": "open"} if self.switches["deal_status"] else {}
        return self._created(
            "opportunities", self.add("opportunities", **{"stage": STAGES[0], "value": None, **status, **body})
        )

    @route("PUT", f"{ROOT}/opportunities/{{id}}")
    def update_opportunity(self, call: Call, deal: str) -> Answer:
        """Change a deal's stage or value."""
        row = self._row("opportunities", deal, "Opportunity")
        return self._written("opportunities", self._changed(row, self._deal_body(call, ())))

    def _deal_body(self, call: Call, required: tuple[str, ...]) -> Row:
        lead, name = str(self.switches["deal_lead"]), str(self.switches["deal_name"])
        status = ("status",) if self.switches["deal_status"] else ()
        body = self._body(call, (lead, name, "value", "stage", *status), required)
        if body.get(lead) is not None:
            self._row("leads", body[lead], "Lead")
        if not isinstance(body.get("value"), int | float | None):
            raise self._invalid("value is invalid")
        if "stage" in body and self.switches["stages"] == "fixed" and body["stage"] not in STAGES:
            raise self._invalid("stage is invalid")
        if body.get("status", "open") not in ("open", "won", "lost"):
            raise self._invalid("status is invalid")
        return body

    @route("GET", f"{ROOT}/tags")
    def list_tags(self, call: Call) -> Answer:
        """List tags."""
        return self._list(call, "tags", ())

    @route("POST", f"{ROOT}/tags")
    def create_tag(self, call: Call) -> Answer:
        """Create a tag."""
        name = str(self.switches["tag_name"])
        return self._created("tags", self.add("tags", **self._body(call, (name,), (name,))))

    @route("GET", f"{ROOT}/sequences")
    def list_sequences(self, call: Call) -> Answer:
        """List sequences and campaigns."""
        return self._list(call, "sequences", ())

    @route("POST", f"{ROOT}/sequences/{{id}}/enroll")
    def enroll(self, call: Call, sequence: str) -> Answer:
        """Enrol a lead."""
        name = str(self.switches["enroll_lead"])
        self._row("sequences", sequence, "Sequence")
        lead = self._row("leads", self._body(call, (name,), (name,))[name], "Lead")["id"]
        fields = {"sequence_id": sequence, "lead_id": lead}
        if any(fields.items() <= row.items() for row in self.tables["enrolments"]):
            if self.switches["enrolled_twice"] == 409:
                raise Refusal(409, "Lead is already enrolled")
            return Answer({"success": True})
        row = self.add("enrolments", **fields)
        self.accept("enrolment", lead, row["id"], text=sequence)
        return self._created("enrolments", row)


def _utc(value: object) -> bool:
    """Whether a date is ISO 8601 in UTC, as the example is."""
    try:
        return isinstance(value, str) and value.endswith("Z") and bool(datetime.fromisoformat(value))
    except ValueError:
        return False
