"""SalesPulse's API on loopback.

Documented: the paths, the Bearer key that begins with `sp_live_`, `page limit search` of contacts, `contact_id from to`
of calls, up to 1,000 contacts a bulk call, the six fields of a contact, the statuses 200 201 400 401 404 422 429 500
with `error.message`, the envelope of events, plain HTTP that is redirected. Found in a public capture of the same page:
the verbs, PATCH for a contact among them, 100 requests a minute and 10 bulk ones, `X-RateLimit-Limit` and `-Remaining`
on every answer. All the rest is inferred, and a switch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from crm_mcp.model import rfc3339
from crm_mcp.sandbox.emulator import Answer, Call, Refusal, Window, route
from crm_mcp.sandbox.people import PEOPLE
from crm_mcp.sandbox.salespulse_events import Events
from crm_mcp.sandbox.salespulse_sample import CALLS, DEALS, PLACES, STAGES, contact_fields

BULK = 1000
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+[1-9]\d{6,14}")
_STAGE = re.compile(r"/api/v1/contacts/[^/]+/stage")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TEXTS = ("first_name", "last_name", "phone", "email", "state", "product_interest")
_OWN = ("id", "stage", "stage_id", "created_at", "updated_at")
_DAYS = 86_400.0


class SalesPulseEmulator(Events):
    """SalesPulse with contacts, calls, stages and deals; `dialled` has the calls that it would have placed.

    `events` has what its webhooks would tell, in order; `deliver` sends it.
    """

    vendor: ClassVar[str] = "salespulse"
    prefix: ClassVar[str] = "/api/v1"
    key: ClassVar[str] = "sp_live_0000sandbox0000"
    revoked: ClassVar[str] = "sp_live_0000revoked0000"
    """A key of the documented form that is not accepted any more."""
    choices: ClassVar[Mapping[str, Any]] = {
        "plain_http": 0,  # 301 or 308: every request is redirected to HTTPS
        "envelope": "data",  # of lists and records: data, named, bare
        "page_size": 100,  # the most that a page of contacts has
        "over_limit": "clamp",  # a limit beyond it: clamp, refuse
        "list_page": 0,  # calls and deals: 0 is the whole list, else pages of so many
        "search": "words",  # every word must be found; any: one suffices
        "order": "newest",  # of contacts: newest, oldest
        "extra_fields": "keep",  # fields that the reference does not name: keep, drop, refuse
        "duplicates": "allow",  # a second contact at an address: allow, refuse
        "bulk_key": "contacts",
        "bulk_answer": "counts",  # counts, items, contacts, bare, silent; refuse, refuse_blind: all, if one is bad
        "bulk_headers": "bulk",  # which limit the headers of a bulk answer are about: bulk, general
        "bulk_counts": True,  # a bulk call counts as a call as well
        "sliding": False,  # windows that slide, not fixed ones
        "stage_verb": "PATCH",
        "stage_key": "stage_id",
        "stage_form": "stage_id",  # of a stage in an answer: stage_id, stage (its name), object
        "stage_answer": "contact",  # of a move: contact, success
        "call_key": "contact_id",  # of initiate: contact_id, to
        "call_answer": "id",  # of initiate: id, call_id, none
        "calls_of_nobody": "empty",  # calls of a contact that isn't there: empty, missing
        "transcript_form": "text",  # text, turns
        "processed_after": 60.0,  # seconds after a call until there is a recording and a transcript
        "delete_status": 200,  # 200, 204
        "events_twice": False,
        "events_reversed": False,
    }

    def begin(self) -> None:
        """Make the stages of an account, and the sample's records."""
        self.contacts: dict[str, dict[str, Any]] = {}
        self.call_records: dict[str, dict[str, Any]] = {}
        self.deals: list[dict[str, Any]] = []
        self.dialled: list[dict[str, Any]] = []
        self.events = []
        self.stages = {f"stg_{number}": name for number, name in enumerate(STAGES, 1)}
        self._made = 0
        sliding = bool(self.switches["sliding"])
        self.general = Window(100, self.minute, sliding=sliding)
        self.bulk = Window(10, self.minute, sliding=sliding)
        if self.sample:
            self._fill()

    def admit(self, call: Call) -> dict[str, str]:
        """Check scheme, key and limits; every answer has the headers of a limit."""
        if status := int(self.switches["plain_http"]):
            raise Refusal(status, "HTTPS only", headers={"location": f"https://salespulse.example{call.path}"})
        now, bulk = self.clock(), call.path.endswith("/contacts/bulk")
        windows = [self.bulk, *([self.general] if self.switches["bulk_counts"] else [])] if bulk else [self.general]
        told = self.bulk if bulk and self.switches["bulk_headers"] == "bulk" else self.general
        if call.headers.get("authorization") != f"Bearer {self.key}":
            raise Refusal(401, "Missing or invalid API key", headers=_limits(told, now))
        free = all(each.remaining(now) > 0 for each in windows)
        for each in windows if free else ():
            each.take(now)
        if not free:
            raise Refusal(429, "Rate limit exceeded", headers=_limits(told, now))
        return _limits(told, now)

    def worded(self, refusal: Refusal) -> Any:
        """Return `error` with `message`, as documented."""
        return {"error": {"message": refusal.message, **refusal.more}}

    async def _routed(self, call: Call) -> Answer:
        """Answer the stage move by its one configured verb, whose route is that of PATCH."""
        if _STAGE.fullmatch(call.path):
            if call.method != self.switches["stage_verb"]:
                raise Refusal(405, "Method not allowed")
            call = replace(call, method="PATCH")
        return await super()._routed(call)

    # Contacts

    @route("GET", "/api/v1/contacts")
    def list_contacts(self, call: Call) -> Answer:
        """List contacts, or search them."""
        _only(call, "page", "limit", "search")
        page, limit = _positive(call, "page", 1), _positive(call, "limit", 25)
        if limit > self.switches["page_size"]:
            if self.switches["over_limit"] == "refuse":
                raise Refusal(400, f"limit must be at most {self.switches['page_size']}")
            limit = int(self.switches["page_size"])
        found = [each for each in self.contacts.values() if self._matches(each, call.query.get("search", ""))]
        if self.switches["order"] == "newest":
            found.reverse()
        return self._list("contacts", [self._shown(each) for each in found], page, limit)

    @route("POST", "/api/v1/contacts")
    def create_contact(self, call: Call) -> Answer:
        """Create one contact."""
        return Answer(self._one("contact", self._shown(self._create(call.body))), 201)

    @route("POST", "/api/v1/contacts/bulk")
    def create_contacts(self, call: Call) -> Answer:
        """Create up to 1,000 contacts."""
        given = _object(call.body).get(self.switches["bulk_key"])
        if not isinstance(given, list) or len(_object(call.body)) != 1:
            raise Refusal(400, f"{self.switches['bulk_key']} must be an array")
        rows = cast("list[Any]", given)
        if not 1 <= len(rows) <= BULK:
            raise Refusal(422, f"{self.switches['bulk_key']} must have 1 to {BULK} items")
        faults: dict[int, str] = {}
        if str(self.switches["bulk_answer"]).startswith("refuse"):
            self._refuse_bad(rows)
        made: list[dict[str, Any] | None] = []
        for index, row in enumerate(rows):
            try:
                made.append(self._create(row))
            except Refusal as refusal:
                faults[index] = refusal.message
                made.append(None)
        return Answer(self._bulk_body(made, faults), 201)

    @route("GET", "/api/v1/contacts/{id}")
    def get_contact(self, call: Call, contact: str) -> Answer:
        """Read one contact."""
        _only(call)
        return Answer(self._one("contact", self._shown(self._contact(contact))))

    @route("PATCH", "/api/v1/contacts/{id}")
    def update_contact(self, call: Call, contact: str) -> Answer:
        """Change fields of a contact; null empties one."""
        kept, body = self._contact(contact), _object(call.body)
        kept.update(self._checked(body, besides=contact), updated_at=self._now())
        for name in [name for name, value in kept.items() if value is None]:
            del kept[name]
        self.tell("contact.updated", self._shown(kept))
        return Answer(self._one("contact", self._shown(kept)))

    @route("DELETE", "/api/v1/contacts/{id}")
    def delete_contact(self, call: Call, contact: str) -> Answer:
        """Delete a contact, its calls and its deals."""
        _only(call)
        del self.contacts[self._contact(contact)["id"]]
        self.call_records = {key: each for key, each in self.call_records.items() if each["contact_id"] != contact}
        self.deals = [each for each in self.deals if each["contact_id"] != contact]
        status = int(self.switches["delete_status"])
        return Answer(None if status == 204 else {"success": True}, status)

    @route("PATCH", "/api/v1/contacts/{id}/stage")
    def move_contact(self, call: Call, contact: str) -> Answer:
        """Move a contact to a stage."""
        kept, body = self._contact(contact), _object(call.body)
        stage = body.get(self.switches["stage_key"])
        if len(body) != 1 or stage not in self.stages:
            raise Refusal(422, f"{self.switches['stage_key']} is not a stage")
        kept.update(stage_id=stage, updated_at=self._now())
        self.tell("pipeline.stage_changed", {"contact_id": contact, "stage_id": stage})
        if self.switches["stage_answer"] == "success":
            return Answer({"success": True})
        return Answer(self._one("contact", self._shown(kept)))

    # Calls

    @route("GET", "/api/v1/calls")
    def list_calls(self, call: Call) -> Answer:
        """List calls, newest first; both dates are included."""
        _only(call, "contact_id", "from", "to", *(("page", "limit") if self.switches["list_page"] else ()))
        of = call.query.get("contact_id")
        if of is not None and of not in self.contacts and self.switches["calls_of_nobody"] == "missing":
            raise Refusal(404, "Contact not found")
        first, last = _date(call, "from"), _date(call, "to", end=True)
        found = [
            each
            for each in self.call_records.values()
            if of in (None, each["contact_id"])
            and (first is None or each["started_at"] >= first)
            and (last is None or each["started_at"] <= last)
        ]
        found.sort(key=lambda each: each["started_at"], reverse=True)
        rows = [{k: v for k, v in self._call(each).items() if k != "transcript"} for each in found]
        return self._whole("calls", rows, call)

    @route("GET", "/api/v1/calls/{id}")
    def get_call(self, call: Call, record: str) -> Answer:
        """Read one call; recording and transcript are null until they are processed."""
        _only(call)
        if record not in self.call_records:
            raise Refusal(404, "Call not found")
        return Answer(self._one("call", self._call(self.call_records[record])))

    @route("POST", "/api/v1/calls/initiate")
    def initiate_call(self, call: Call) -> Answer:
        """Journal a call instead of dialling."""
        body, key = _object(call.body), str(self.switches["call_key"])
        if set(body) != {key}:
            raise Refusal(422, f"{key} is required")
        contact: dict[str, Any] = {}
        if key == "contact_id":
            contact = self._contact(str(body[key]))
        else:
            contact = next((each for each in self.contacts.values() if each.get("phone") == body[key]), contact)
        phone = contact.get("phone") or (body[key] if key == "to" else None)
        if not phone:
            raise Refusal(422, "The contact has no phone number")
        record = self._ring(contact.get("id"), self.clock(), "outbound", 0, None, "")
        self.dialled.append({"call_id": record["id"], "contact_id": contact.get("id"), "to": phone})
        self.accept("call", contact.get("id"), str(record["id"]), to=phone)
        match self.switches["call_answer"]:
            case "id":
                return Answer(self._one("call", self._call(record)), 201)
            case "call_id":
                return Answer({"call_id": record["id"], "status": "queued"}, 201)
            case _:
                return Answer({"status": "queued"}, 201)

    # Pipeline

    @route("GET", "/api/v1/pipeline/stages")
    def list_stages(self, call: Call) -> Answer:
        """List the stages in their order."""
        _only(call)
        rows = [{"id": key, "name": name, "position": at} for at, (key, name) in enumerate(self.stages.items(), 1)]
        return self._whole("stages", rows, call)

    @route("GET", "/api/v1/pipeline/deals")
    def list_deals(self, call: Call) -> Answer:
        """List the deals with contact and stage."""
        _only(call, *(("page", "limit") if self.switches["list_page"] else ()))
        rows = [
            {
                **self._shown(each),
                "contact": {
                    name: self.contacts[each["contact_id"]].get(name) for name in ("id", "first_name", "last_name")
                },
            }
            for each in self.deals
        ]
        return self._whole("deals", rows, call)

    # What tests and the sample put there

    def put(self, **fields: Any) -> str:
        """Keep a contact; returns its id."""
        return str(self._create(fields)["id"])

    def add_call(self, contact: str, *, days_ago: float, seconds: int, disposition: str, transcript: str = "") -> str:
        """Keep a call that took place; returns its id."""
        record = self._ring(contact, self.clock() - days_ago * _DAYS, "outbound", seconds, disposition, transcript)
        told = ("contact_id", "direction", "duration_seconds", "recording_url", "disposition")
        shown = self._call(record)
        self.tell("call.completed", {"call_id": record["id"], **{name: shown[name] for name in told}})
        return str(record["id"])

    def add_deal(self, contact: str, name: str, value: float, stage: str, status: str = "open") -> str:
        """Keep a deal, the newest of all; returns its id."""
        at = self.clock() - (1000 - len(self.deals)) * 60
        deal = f"deal_{len(self.deals) + 1:06x}"
        self.deals.append(
            {"id": deal, "contact_id": contact, "name": name, "value": value, "currency": "USD", "stage_id": stage}
            | {"status": status, "created_at": rfc3339(datetime.fromtimestamp(at, UTC))}
        )
        return deal

    # What is kept

    def _fill(self) -> None:
        for number, person in enumerate(PEOPLE):
            kept = self._create(contact_fields(person, number))
            kept["stage_id"] = list(self.stages)[PLACES[number]]
        ids = list(self.contacts)
        for person, days, direction, seconds, disposition, transcript in CALLS:
            self._ring(ids[person], self.clock() - days * _DAYS, direction, seconds, disposition, transcript)
        for person, name, value, stage, status in DEALS:
            self.add_deal(ids[person], name, value, list(self.stages)[stage], status)
        self.events = []

    def _contact(self, contact: str) -> dict[str, Any]:
        if contact not in self.contacts:
            raise Refusal(404, "Contact not found")
        return self.contacts[contact]

    def _create(self, body: Any) -> dict[str, Any]:
        fields = {name: value for name, value in self._checked(_object(body)).items() if value is not None}
        if not fields:
            raise Refusal(422, "A contact needs at least one field")
        self._made += 1
        contact = f"ctn_{self._made:06x}"
        kept = {"id": contact, **fields, "stage_id": next(iter(self.stages)), "created_at": self._now()}
        kept["updated_at"] = kept["created_at"]
        self.contacts[contact] = kept
        self.tell("contact.created", self._shown(kept))
        return kept

    def _refuse_bad(self, rows: list[Any]) -> None:
        errors: list[dict[str, Any]] = []
        for index, row in enumerate(rows):
            try:
                self._checked(_object(row))
            except Refusal as refusal:
                errors.append({"index": index, "message": refusal.message})
        if errors:
            named = {} if self.switches["bulk_answer"] == "refuse_blind" else {"errors": errors}
            raise Refusal(422, errors[0]["message"], **named)

    def _checked(self, body: dict[str, Any], besides: str = "") -> dict[str, Any]:
        """Return the fields of a body that are kept; raises Refusal for values that are not as documented."""
        for name, value in body.items():
            if name in _OWN or (name not in _TEXTS and self.switches["extra_fields"] == "refuse"):
                raise Refusal(422, f"{name} is not a field that can be written")
            if name in _TEXTS and value is not None and not isinstance(value, str):
                raise Refusal(422, f"{name} must be a string")
        checks = {"email": _EMAIL, "phone": _PHONE, "state": re.compile("[A-Z]{2}")}
        for name, pattern in checks.items():
            if body.get(name) is not None and not pattern.fullmatch(body[name]):
                raise Refusal(422, f"{name} is invalid")
        if self.switches["duplicates"] == "refuse":
            for name in ("email", "phone"):
                taken = [each for each in self.contacts.values() if body.get(name) and each.get(name) == body[name]]
                if any(each["id"] != besides for each in taken):
                    raise Refusal(422, f"A contact with this {name} already exists")
        keep = self.switches["extra_fields"] == "keep"
        return {name: value for name, value in body.items() if keep or name in _TEXTS}

    def _ring(
        self, contact: str | None, at: float, direction: str, seconds: int, disposition: str | None, transcript: str
    ) -> dict[str, Any]:
        number = len(self.call_records) + 1
        record = {"id": f"call_{number:06x}", "contact_id": contact, "direction": direction, "at": at}
        record |= {"duration_seconds": seconds, "disposition": disposition, "transcript": transcript}
        record["started_at"] = rfc3339(datetime.fromtimestamp(int(at), UTC))
        self.call_records[str(record["id"])] = record
        return record

    def _call(self, record: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in record.items() if name != "at"}
        ready = self.clock() >= record["at"] + record["duration_seconds"] + self.switches["processed_after"]
        there = ready and record["duration_seconds"] > 0
        shown["recording_url"] = f"https://recordings.salespulse.example/{record['id']}.mp3" if there else None
        shown["transcript"] = record["transcript"] or None if there else None
        if shown["transcript"] and self.switches["transcript_form"] == "turns":
            turns = [line.partition(": ") for line in record["transcript"].splitlines()]
            shown["transcript"] = [{"speaker": who, "text": said} for who, _, said in turns]
        return shown

    def _matches(self, contact: dict[str, Any], search: str) -> bool:
        held = " ".join(str(value) for name, value in contact.items() if name not in _OWN).casefold()
        found = [word in held for word in search.casefold().split()]
        if self.switches["search"] == "any":
            parts = [part for part in re.split(r"[^a-z0-9]+", search.casefold()) if len(part) > 2]
            return not search or any(part in held for part in parts)
        return all(found)

    # How it is answered

    def _shown(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Return a contact or deal with its stage in the form that is chosen."""
        stage = kept["stage_id"]
        rest = {name: value for name, value in kept.items() if name != "stage_id"}
        match self.switches["stage_form"]:
            case "stage_id":
                return {**rest, "stage_id": stage}
            case "stage":
                return {**rest, "stage": self.stages[stage]}
            case _:
                return {**rest, "stage": {"id": stage, "name": self.stages[stage]}}

    def _one(self, name: str, record: dict[str, Any]) -> Any:
        match self.switches["envelope"]:
            case "data":
                return {"data": record}
            case "named":
                return {name: record}
            case _:
                return record

    def _list(self, name: str, rows: list[dict[str, Any]], page: int, limit: int) -> Answer:
        part = rows[(page - 1) * limit : page * limit]
        if self.switches["envelope"] == "bare":
            return Answer(part)
        key = "data" if self.switches["envelope"] == "data" else name
        return Answer({key: part, "page": page, "limit": limit, "total": len(rows)})

    def _whole(self, name: str, rows: list[dict[str, Any]], call: Call) -> Answer:
        size = int(self.switches["list_page"])
        if size and name != "stages":
            return self._list(name, rows, _positive(call, "page", 1), size)
        if self.switches["envelope"] == "bare":
            return Answer(rows)
        return Answer({"data" if self.switches["envelope"] == "data" else name: rows})

    def _bulk_body(self, made: list[dict[str, Any] | None], faults: dict[int, str]) -> Any:
        count = len(made) - len(faults)
        match self.switches["bulk_answer"]:
            case "counts":
                errors = [{"index": index, "message": message} for index, message in faults.items()]
                return {"created": count, "failed": len(faults), "errors": errors}
            case "items":
                items = [
                    {"status": "created", "id": each["id"]} if each else {"status": "error", "error": faults[index]}
                    for index, each in enumerate(made)
                ]
                return {"results": items}
            case "contacts":
                return {"data": [self._shown(each) for each in made if each]}
            case "bare":
                return {"created": count}
            case _:
                return None

    def _now(self) -> str:
        return rfc3339(datetime.fromtimestamp(int(self.clock()), UTC))


def _limits(window: Window, now: float) -> dict[str, str]:
    return {"x-ratelimit-limit": str(window.calls), "x-ratelimit-remaining": str(window.remaining(now))}


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object")
    return cast("dict[str, Any]", body)


def _only(call: Call, *names: str) -> None:
    """Refuse a parameter that the reference does not name: an adapter that guesses is caught."""
    for name in call.query:
        if name not in names:
            raise Refusal(400, f"{name} is not a parameter")


def _positive(call: Call, name: str, default: int) -> int:
    value = call.whole(name, 0 if name in call.query else default)
    if value < 1:
        raise Refusal(400, f"{name} must be a positive number")
    return value


def _date(call: Call, name: str, *, end: bool = False) -> str | None:
    """Return a date of the query as a time to compare with; a day's end is its last second."""
    given = call.query.get(name)
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise Refusal(400, f"{name} is not a date") from None
    if end and _DAY.fullmatch(given):
        moment = moment.replace(hour=23, minute=59, second=59)
    return rfc3339(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
