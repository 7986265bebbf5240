"""An emulator of SalesSheet's REST API.

Documented, and so not a choice: Bearer keys and their 401, the base path, plain HTTP being rejected, the five resources
with GET, POST, PUT, PATCH and DELETE, `GET /me`, `page`, `per_page`, filters named like fields, `sort_by`,
`sort_order`, batches of at most 100 as an array, which create or update and say which items failed, validation of
required fields, e-mail addresses, stages and custom-field ids, 100 or 500 calls a minute and 5,000 or 50,000 a day by
key, and the three `X-RateLimit` headers on every answer. Everything else is inferred; where two readings are likely, a
switch chooses.

What its present API page describes instead, MCP over JSON-RPC, is left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from crm_mcp.sandbox.emulator import Answer, Call, Emulator, Refusal, Window, identity, route
from crm_mcp.sandbox.salessheet.sample import fill

Json = dict[str, Any]

RESOURCES = {"contacts": 1, "deals": 2, "tasks": 3, "activities": 4, "pipelines": 5}
"""Each with the number that its ids begin with."""
STAGE_KIND = 6
SINGULAR = {"contacts": "contact", "deals": "deal", "tasks": "task", "activities": "activity", "pipelines": "pipeline"}
FIELDS: Mapping[str, tuple[str, ...]] = {
    "contacts": (
        *("first_name", "last_name", "name", "email", "phone", "company", "title", "type"),
        *("status", "owner", "custom_fields", "last_contacted_at"),
    ),
    "deals": ("name", "value", "currency", "stage_id", "pipeline_id", "contact_id", "status", "close_date", "owner"),
    "tasks": ("title", "due_date", "priority", "status", "contact_id", "owner"),
    "activities": (
        *("type", "contact_id", "subject", "body", "occurred_at", "outcome", "direction", "duration_seconds"),
        *("status", "recording_url", "transcript"),
    ),
    "pipelines": ("name", "stages"),
}
REQUIRED = {"deals": ("name",), "tasks": ("title",), "activities": ("type",), "pipelines": ("name",)}
DEFAULTS: Mapping[str, Json] = {"tasks": {"status": "open"}, "deals": {"status": "open", "currency": "USD"}}
STAGES = ("Discovery", "Proposal", "Negotiation", "Closed Won", "Closed Lost")
PARTNER_STAGES = ("Contacted", "Proposal", "Signed")
TYPES = ("note", "call", "email", "meeting")
PLANS = {"pro": (100, 5_000), "enterprise": (500, 50_000)}
MOST_IN_BATCH = 100
PARAMETERS = ("page", "per_page", "sort_by", "sort_order")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_LISTS = tuple(RESOURCES)


def _each(method: str, form: str) -> Any:
    """Mark a method as the one for a path of all resources."""

    def mark(function: Any) -> Any:
        for name in _LISTS:
            function = route(method, form.format(name))(function)
        return function

    return mark


class SalesSheetEmulator(Emulator):
    """SalesSheet.ai at `/v1`. See the module for what is documented; `choices` names the readings that a switch has."""

    vendor: ClassVar[str] = "salessheet"
    prefix: ClassVar[str] = "/v1"
    key: ClassVar[str] = "ss_live_sandbox-key-with-full-access-000000000000000"
    read_only_key: ClassVar[str] = "ss_live_sandbox-key-for-reading-only-00000000000000"
    free_key: ClassVar[str] = "ss_live_sandbox-key-of-a-free-plan-0000000000000000"
    new_key: ClassVar[str] = "ss_live_sandbox-key-not-yet-active-0000000000000000"
    revoked_key: ClassVar[str] = "ss_live_sandbox-key-that-was-revoked-00000000000000"
    choices: ClassVar[Mapping[str, Any]] = {
        "envelope": "data",  # of lists and records: data, named (contacts, contact), bare
        "counted": True,  # whether lists have total, page and per_page; never where they are bare
        "errors": "message",  # {error: {message}}; text: {error: ""}; list: {errors: [...]}
        "invalid": 422,  # status of a validation error: or 400
        "answers": "whole",  # to writes; id: the id alone; empty: nothing
        "created": 201,  # status of a creation: or 200
        "deleted": 204,  # status of a deletion: or 200 with a body
        "plan": "pro",  # or enterprise
        "sliding": False,  # whether windows of limits slide
        "per_page": 100,  # the largest page
        "search": "honoured",  # the parameter `search` of contacts; or ignored
        "filters": "honoured",  # those named like fields; or ignored
        "sorts": "honoured",  # or ignored, or refused
        "fields": "kept",  # what a body has beyond the known ones; or ignored, or refused
        "custom_fields": ("cf_industry", "cf_seats", "cf_source"),  # the ids that there are; None: any
        "custom_patch": "merged",  # what PATCH does with the object of custom fields; or replaced
        "required": (),  # fields that a contact must have
        "batch": "partial",  # 207 with a result for each item; all_or_nothing: 422 with those at fault; silent: 422
        "batch_match": "email",  # by what a batch recognises a contact, beside its id; or nothing
        "batch_update": "merged",  # what a batch does to fields that an item leaves out; or replaced
        "references": "checked",  # whether contact_id must exist; or unchecked
        "pipelines": 1,  # or 2, with a stage name in both
        "nested_stages": True,  # whether the list of pipelines has their stages
        "free_plan": 403,  # status for a key of a free plan: or 402
        "activates_after": math.inf,  # seconds until the new key works
        "plain_http": "accepted",  # the vendor rejects it, with 403 here: refused; this emulator itself is plain HTTP
        "me": "plain",  # telling: with plan and scope
    }

    records: dict[str, dict[str, Json]]

    def begin(self) -> None:
        """Make the pipeline that every account has, and in the sample twelve people and what happened with them."""
        self.records = {name: {} for name in RESOURCES}
        self._made = dict.fromkeys(RESOURCES, 0)
        self._windows: dict[str, tuple[Window, Window]] = {}
        self._started = self.clock()
        for name, stages in (("Sales", STAGES), ("Partners", PARTNER_STAGES))[: int(self.switches["pipelines"])]:
            self._insert("pipelines", {"name": name, "stages": [{"name": each} for each in stages]}, self.clock())
        if self.sample:
            fill(self._insert, list(self._stages()), self.clock())

    def admit(self, call: Call) -> dict[str, str]:
        """Check the key and count the call; the three headers are on every answer."""
        key = call.headers.get("authorization", "").partition("Bearer ")[2]
        now = self.clock()
        minute, day = self.limits_of(key)
        taken = minute.remaining(now) > 0 and day.take(now) and minute.take(now)
        headers = {
            "X-RateLimit-Limit": str(minute.calls),
            "X-RateLimit-Remaining": str(minute.remaining(now)),
            "X-RateLimit-Reset": str(math.ceil(minute.resets(now))),
        }

        def refuse(status: int, message: str) -> None:
            raise Refusal(status, message, headers=headers)

        if not taken:
            refuse(429, "Too many requests")
        if self.switches["plain_http"] == "refused" and call.headers.get("x-forwarded-proto") != "https":
            refuse(403, "HTTPS is required")
        late = now - self._started >= self.switches["activates_after"]
        valid = (self.key, self.read_only_key, self.free_key)
        if key not in valid and not (key == self.new_key and late):
            refuse(401, "Invalid API key")
        if key == self.free_key:
            refuse(self.switches["free_plan"], "API access requires a Pro or Enterprise plan")
        if key == self.read_only_key and call.method != "GET":
            refuse(403, "This API key is read-only")
        has_body = call.method in ("POST", "PUT", "PATCH")
        if has_body and not call.headers.get("content-type", "").startswith("application/json"):
            refuse(415, "Content-Type must be application/json")
        return headers

    def worded(self, refusal: Refusal) -> Any:
        """Return an error in the form that the switch chooses; the vendor's is not documented."""
        faults = refusal.more.get("faults")
        match self.switches["errors"]:
            case "text":
                return {"error": refusal.message, **({"details": faults} if faults else {})}
            case "list":
                return {"errors": faults or [{"message": refusal.message}]}
            case _:
                return {"error": {"message": refusal.message, **({"details": faults} if faults else {})}}

    @route("GET", "/v1/me")
    def me(self, _: Call) -> Answer:
        """Answer the user and the organisation of the key."""
        telling = self.switches["me"] == "telling"
        user = {"id": identity(7, 1), "name": "Robin Vale", "email": "robin.vale@fern-and-field.example"}
        organization = {"id": identity(8, 1), "name": "Fern and Field", **({"plan": "Pro"} if telling else {})}
        return self._enveloped(
            {"user": user, "organization": organization, **({"scope": "full"} if telling else {})}, ""
        )

    @_each("GET", "/v1/{}")
    def list_records(self, call: Call) -> Answer:
        """List records, filtered, sorted and paged."""
        name = _resource(call)
        rows = self._sorted(name, call, [row for row in self.records[name].values() if self._fits(name, row, call)])
        page, size = call.whole("page", 1), min(call.whole("per_page", 25), self.switches["per_page"])
        if page < 1 or size < 1:
            raise self._invalid("page and per_page must be positive", [{"field": "page"}])
        shown = [self._shown(name, row, listed=True) for row in rows[(page - 1) * size : page * size]]
        if self.switches["envelope"] == "bare":
            return Answer(shown)
        place = {"page": page, "per_page": size, "total": len(rows)} if self.switches["counted"] else {}
        return Answer({name if self.switches["envelope"] == "named" else "data": shown, **place})

    @_each("POST", "/v1/{}")
    def create(self, call: Call) -> Answer:
        """Create a record."""
        name = _resource(call)
        body = self._checked(name, call.body)
        return self._written(name, self._insert(name, body, self.clock()), self.switches["created"])

    @_each("GET", "/v1/{}/{{id}}")
    def read(self, call: Call, record: str) -> Answer:
        """Answer one record."""
        name = _resource(call)
        return self._enveloped(self._shown(name, self._existing(name, record)), SINGULAR[name])

    @_each("PUT", "/v1/{}/{{id}}")
    def replace(self, call: Call, record: str) -> Answer:
        """Replace a record: what the body leaves out is emptied (inferred)."""
        name = _resource(call)
        row = self._existing(name, record)
        body = self._checked(name, call.body)
        row["custom_fields"] = None
        self._write(name, row, {**dict.fromkeys(FIELDS[name]), **DEFAULTS.get(name, {}), **body})
        return self._written(name, row, 200)

    @_each("PATCH", "/v1/{}/{{id}}")
    def update(self, call: Call, record: str) -> Answer:
        """Change the fields that the body has (inferred)."""
        name = _resource(call)
        row = self._existing(name, record)
        self._write(name, row, self._checked(name, call.body, row))
        return self._written(name, row, 200)

    @_each("DELETE", "/v1/{}/{{id}}")
    def delete(self, call: Call, record: str) -> Answer:
        """Delete a record, and nothing with it (inferred)."""
        name = _resource(call)
        self._existing(name, record)
        del self.records[name][record]
        return Answer(None, 204) if self.switches["deleted"] == 204 else Answer({"deleted": True})

    def receive(self, channel: str, lead: str, text: str, subject: str | None = None) -> str:
        """Let an e-mail of a contact come in, which is logged as an activity (inferred)."""
        if channel != "email":
            return super().receive(channel, lead, text, subject)
        self._existing("contacts", lead)
        fields = {"type": "email", "contact_id": lead, "direction": "inbound", "subject": subject, "body": text}
        return str(self._insert("activities", fields, self.clock())["id"])

    @route("POST", "/v1/contacts/batch")
    @route("POST", "/v1/deals/batch")
    @route("POST", "/v1/tasks/batch")
    @route("POST", "/v1/activities/batch")
    def batch(self, call: Call) -> Answer:
        """Create or update up to 100 records; only that of contacts is documented by name."""
        name = _resource(call)
        body: Any = call.body
        if not isinstance(body, list):
            raise self._invalid("The body must be an array")
        items = cast("list[Any]", body)
        if len(items) > MOST_IN_BATCH:
            raise self._invalid(f"A batch has at most {MOST_IN_BATCH} items")
        rows = self.records["contacts"].values()
        self._by_email: dict[str, str] = {str(row["email"]).casefold(): row["id"] for row in rows if row["email"]}
        faults: dict[int, list[Json]] = {}
        ready: dict[int, tuple[Json | None, Json]] = {}
        for index, item in enumerate(items):
            try:
                row = self._recognised(name, item)
                ready[index] = (row, self._checked(name, _without_id(item), row))
            except Refusal as refusal:
                faults[index] = refusal.more.get("faults") or [{"message": refusal.message}]
        if faults and self.switches["batch"] != "partial":
            told = [{"index": index, **each} for index, found in faults.items() for each in found]
            raise self._invalid("Some items are invalid", told if self.switches["batch"] == "all_or_nothing" else None)
        results = [
            self._kept(name, index, *ready[index])
            if index in ready
            else {"index": index, "status": "error", "errors": faults[index]}
            for index in range(len(items))
        ]
        if self.switches["answers"] == "empty":
            return Answer(None)
        return Answer({"results": results}, 207 if faults else 200)

    def _kept(self, name: str, index: int, row: Json | None, body: Json) -> Json:
        """Write one item of a batch; returns what the answer says of it."""
        if row is None and (row := self._recognised(name, body)) is None:
            made = self._insert(name, body, self.clock())["id"]
            self._by_email[str(body.get("email") or "").casefold()] = made
            return {"index": index, "status": "created", "id": made}
        replaced = dict.fromkeys(FIELDS[name]) if self.switches["batch_update"] == "replaced" else {}
        self._write(name, row, {**replaced, **body})
        return {"index": index, "status": "updated", "id": row["id"]}

    def _recognised(self, name: str, item: Any) -> Json | None:
        """Return the record that an item of a batch is about."""
        if not isinstance(item, dict):
            raise self._invalid("An item must be an object")
        given = cast("Json", item)
        if given.get("id") is not None:
            return self._existing(name, str(given["id"]))
        email = str(given.get("email") or "").casefold()
        if name != "contacts" or not email or self.switches["batch_match"] != "email":
            return None
        return self.records[name].get(self._by_email.get(email, ""))

    def limits_of(self, key: str) -> tuple[Window, Window]:
        """Return what a key has used up of its minute and of its day."""
        plan = self.switches["plan"]
        per_minute, per_day = PLANS[plan]
        if f"{plan} {key}" not in self._windows:
            sliding = bool(self.switches["sliding"])
            self._windows[f"{plan} {key}"] = (
                Window(per_minute, self.minute, sliding=sliding),
                Window(per_day, self.minute * 1440, sliding=sliding),
            )
        return self._windows[f"{plan} {key}"]

    def _existing(self, name: str, record: str) -> Json:
        if record not in self.records[name]:
            raise Refusal(404, f"{SINGULAR[name].capitalize()} not found")
        return self.records[name][record]

    def _invalid(self, message: str, faults: list[Json] | None = None) -> Refusal:
        return Refusal(self.switches["invalid"], message, faults=faults)

    def _insert(self, name: str, body: Json, at: float) -> Json:
        self._made[name] += 1
        moment = _time(at)
        row: Json = {"id": identity(RESOURCES[name], self._made[name]), **dict.fromkeys(FIELDS[name])}
        row |= {**DEFAULTS.get(name, {}), "created_at": moment, "updated_at": moment}
        if name == "activities":
            row["occurred_at"] = moment
        self._write(name, row, body)
        row["updated_at"] = moment
        if name == "deals" and row["stage_id"] is None:
            self._write(name, row, {"stage_id": next(iter(self._stages()), None)})
        self.records[name][row["id"]] = row
        return row

    def _write(self, name: str, row: Json, body: Json) -> None:
        if self.switches["fields"] == "ignored":
            body = {key: value for key, value in body.items() if key in FIELDS[name]}
        new = dict(body)
        if isinstance(new.get("custom_fields"), dict):
            held = row.get("custom_fields") if self.switches["custom_patch"] == "merged" else None
            merged: Json = {**cast("Json", held or {}), **cast("Json", new["custom_fields"])}
            new["custom_fields"] = {key: value for key, value in merged.items() if value is not None}
        if isinstance(new.get("stages"), list):
            new["stages"] = self._numbered(cast("list[Json]", new["stages"]))
        row.update(new)
        row["updated_at"] = _time(self.clock())
        stage = self._stages().get(str(row.get("stage_id"))) if name == "deals" and "stage_id" in body else None
        if stage:
            row["pipeline_id"] = stage["pipeline_id"]
            closing = {"Closed Won": "won", "Closed Lost": "lost"}.get(stage["name"], "open")
            row["status"] = body.get("status") or closing

    def _numbered(self, stages: list[Json]) -> list[Json]:
        """Return the stages of a pipeline, with ids for those that are new."""
        self._made.setdefault("stages", 0)
        numbered: list[Json] = []
        for position, each in enumerate(stages):
            if not each.get("id"):
                self._made["stages"] += 1
            number = each.get("id") or identity(STAGE_KIND, self._made["stages"])
            numbered.append({"id": number, "name": each.get("name"), "position": position})
        return numbered

    def _stages(self) -> dict[str, Json]:
        return {
            stage["id"]: {**stage, "pipeline_id": each["id"]}
            for each in self.records["pipelines"].values()
            for stage in each["stages"] or ()
        }

    def _checked(self, name: str, body: Any, present: Json | None = None) -> Json:
        """Return a body that is valid, alone or as changes to a record."""
        if not isinstance(body, dict):
            raise self._invalid("The body must be an object")
        given = cast("Json", body)
        after = {**(present or {}), **given}
        faults = [{"field": key, "message": f"{key} is required"} for key in self._lacking(name, after)]
        email = given.get("email")
        if name == "contacts" and email is not None and not _EMAIL.fullmatch(str(email)):
            faults.append({"field": "email", "message": "email is not a valid address"})
        if given.get("stage_id") is not None and given["stage_id"] not in self._stages():
            faults.append({"field": "stage_id", "message": "stage_id references no stage"})
        checked = self.switches["references"] == "checked" and given.get("contact_id") is not None
        if checked and given["contact_id"] not in self.records["contacts"]:
            faults.append({"field": "contact_id", "message": "contact_id references no contact"})
        ids, custom = self.switches["custom_fields"], given.get("custom_fields")
        if custom is not None and not isinstance(custom, dict):
            faults.append({"field": "custom_fields", "message": "custom_fields must be an object"})
        elif ids is not None and (unknown := set(cast("Json", custom or {})) - set(ids)):
            faults.append({"field": "custom_fields", "message": f"unknown custom field id {min(unknown)}"})
        if name == "activities" and given.get("type") is not None and given["type"] not in TYPES:
            faults.append({"field": "type", "message": f"type must be one of {', '.join(TYPES)}"})
        if self.switches["fields"] == "refused":
            faults += [{"field": key, "message": "unknown field"} for key in set(given) - set(FIELDS[name])]
        if faults:
            raise self._invalid("Validation failed", faults)
        return given

    def _lacking(self, name: str, after: Json) -> list[str]:
        if name != "contacts":
            return [key for key in REQUIRED[name] if after.get(key) in (None, "")]
        lacking = [key for key in self.switches["required"] if after.get(key) in (None, "")]
        if not any(after.get(key) for key in ("first_name", "last_name", "name", "email", "phone", "company")):
            lacking.append("first_name")
        return lacking

    def _fits(self, name: str, row: Json, call: Call) -> bool:
        for key, value in call.query.items():
            if key == "search" and name == "contacts":
                told = json.dumps([each for key, each in row.items() if key != "id"], ensure_ascii=False).casefold()
                words = value.casefold().split()
                if self.switches["search"] == "honoured" and not all(word in told for word in words):
                    return False
            elif self.switches["filters"] != "honoured" or key not in FIELDS[name] or key in PARAMETERS:
                continue
            elif str(row.get(key) or "").casefold() != value.casefold():
                return False
        return True

    def _sorted(self, name: str, call: Call, rows: list[Json]) -> list[Json]:
        key, order = call.query.get("sort_by"), call.query.get("sort_order", "asc")
        if key is None or self.switches["sorts"] == "ignored":
            return rows
        valid = {*FIELDS[name], "created_at", "updated_at"}
        if self.switches["sorts"] == "refused" or key not in valid or order not in ("asc", "desc"):
            raise self._invalid("sort_by or sort_order is not valid", [{"field": "sort_by"}])
        # Rows stand in the order of their creation, which decides between equals; what has no value comes last.
        rows = rows[::-1] if order == "desc" else rows
        filled = [row for row in rows if _sortable(row, key) is not None]
        filled.sort(key=lambda row: _sortable(row, key), reverse=order == "desc")
        return filled + [row for row in rows if _sortable(row, key) is None]

    def _shown(self, name: str, row: Json, *, listed: bool = False) -> Json:
        left = {"stages"} if name == "pipelines" and listed and not self.switches["nested_stages"] else set[str]()
        return {key: value for key, value in row.items() if key not in left}

    def _written(self, name: str, row: Json, status: int) -> Answer:
        match self.switches["answers"]:
            case "empty":
                return Answer(None, status)
            case "id":
                return self._enveloped({"id": row["id"]}, SINGULAR[name], status)
            case _:
                return self._enveloped(self._shown(name, row), SINGULAR[name], status)

    def _enveloped(self, record: Json, singular: str, status: int = 200) -> Answer:
        match self.switches["envelope"]:
            case "bare":
                return Answer(record, status)
            case "named":
                return Answer({singular: record} if singular else record, status)
            case _:
                return Answer({"data": record}, status)


def _resource(call: Call) -> str:
    return call.path.split("/")[2]


def _without_id(item: Any) -> Any:
    return {key: value for key, value in cast("Json", item).items() if key != "id"} if isinstance(item, dict) else item


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sortable(row: Json, key: str) -> Any:
    value = row.get(key)
    if key == "name" and value is None:
        value = " ".join(row[each] for each in ("first_name", "last_name") if row.get(each)) or None
    if isinstance(value, dict | list):
        return None
    return None if value is None else (isinstance(value, str), value.casefold() if isinstance(value, str) else value)
