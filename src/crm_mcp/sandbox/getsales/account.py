"""What every part of the GetSales emulator stands on: tables, admission, errors, checks, lists, filters."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, cast

from crm_mcp.sandbox.emulator import Answer, Call, Emulator, Handler, Refusal, Window, identity, route

Row = dict[str, Any]

KINDS: tuple[str, ...] = (
    "lead", "company", "list", "tag", "custom_field", "custom_value", "stage", "note", "activity", "lead_block",
    "company_block", "file_import", "file_export", "data_source", "enrichment", "flow", "flow_version", "flow_lead",
    "workspace", "sender", "task", "message", "conversation", "email", "email_body", "mailbox", "mailbox_error",
    "attachment", "webhook", "agent", "template", "account",
)  # fmt: skip
"""The tables; the place of a name is what its ids begin with."""

WINDOW = 10_000
"""Where the search engine ends: found in public clients."""

SECOND_PATHS: Mapping[str, tuple[str, str]] = {
    "messages_path": ("/flows/api/linkedin-messages", "/flows/api/messages"),
    "webhooks_path": ("/integrations/api/webhooks", "/integrations/c1/api/webhooks"),
    "lead_blacklist_path": ("/leads/api/leads-blacklist", "/leads/api/blacklist/leads"),
    "company_blacklist_path": ("/leads/api/companies-blacklist", "/leads/api/blacklist/companies"),
    "agents_path": ("/flows/api/ai-agents", "/ai/api/agents"),
    "templates_path": ("/flows/api/ai-templates", "/ai/api/templates"),
    "lookup_path": ("/leads/api/leads/lookup-one", "/leads/api/leads/find-one"),
}
"""Switches between two paths that sources name for the same thing: `first`, `second` or `both`."""

REASONS = {
    400: "bad_request",
    401: "auth_exception",
    402: "payment_required",
    403: "access_denied",
    404: "not_found",
    405: "method_not_allowed",
    422: "validation_error",
    429: "too_many_requests",
}
"""400 to 403 and 422 are documented; the others are real, and their words here are inferred."""

_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "string": (lambda value: isinstance(value, str), "must be a string"),
    "integer": (lambda value: isinstance(value, int) and not isinstance(value, bool), "must be an integer"),
    "boolean": (lambda value: isinstance(value, bool) or value in (0, 1), "must be true or false"),
    "array": (lambda value: isinstance(value, list), "must be an array"),
    "object": (lambda value: isinstance(value, dict), "must be an object"),
    "email": (
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value)),
        "must be a valid email address",
    ),
    "url": (lambda value: isinstance(value, str) and value.startswith(("http://", "https://")), "must be a valid URL"),
    "date": (lambda value: instant(value) is not None, "is not a valid date"),
}


def token(jti: str, team: int) -> str:
    """Return a key in the vendor's form, a JWT with the team in `specific_team_id`; nobody has signed it."""
    parts = ({"typ": "JWT", "alg": "RS256"}, {"sub": "20", "jti": jti, "specific_team_id": team}, "of the sandbox")
    return ".".join(
        base64.urlsafe_b64encode(
            json.dumps(part, separators=(",", ":")).encode() if isinstance(part, dict) else part.encode()
        )
        .decode()
        .rstrip("=")
        for part in parts
    )


def each_of(method: str, paths: Iterable[str], rest: str = "") -> Callable[[Handler], Handler]:
    """Mark a method as the one that answers several paths, each followed by `rest`."""

    def mark(function: Handler) -> Handler:
        for path in paths:
            function = route(method, path + rest)(function)
        return function

    return mark


def instant(value: Any) -> datetime | None:
    """Return a time of a request; a date is its first moment. None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip().replace(" ", "+"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Account(Emulator):
    """Tables, admission, errors and lists; the operations stand in the classes that inherit it.

    Documented: base URL, `Authorization: Bearer` with a key that is a JWT, `Team-ID`, 300 calls a minute and key, the
    envelope of lists and of errors, 100 rows a page. Found in public clients: HTTP 500 beyond 10,000 rows, leads
    wrapped with what belongs to them. Each reading that is inferred, or that sources contradict each other about, is
    a switch.
    """

    vendor = "getsales"
    team: ClassVar[int] = 4711
    key = token("sandbox", 4711)
    revoked_key: ClassVar[str] = token("revoked", 4711)
    """Refused as an expired one is: 401 `auth_exception`."""
    limited_key: ClassVar[str] = token("limited", 4711)
    """A key without access to outreach: `/flows`, `/emails` and `/browsers` answer 403 (inferred)."""
    choices: ClassVar[Mapping[str, Any]] = {
        **{name: "both" if name == "messages_path" else "first" for name in SECOND_PATHS},
        "strict_team": False,  # True: 400 without the header Team-ID
        "per_minute": 300,
        "sliding": False,  # True: the minute of the limit slides
        "retry_after": None,  # seconds: a 429 says when to come again
        "order_names": "underscore",  # hyphen: `order-field`, `order-type`
        "default_order": "desc",  # asc
        "over_limit": "clamp",  # refuse: `limit` above 100 is 422
        "most_rows": 100,  # of a page; fewer: a smaller maximum than the documented one
        "unknown_filter": "fail",  # ignore; refuse: 422
        "date_filters": "from_to",  # operators: {">=": ...}
        "numbers_searched": True,  # False: the `q` of a search does not look at phone numbers
        "has_more": "lists",  # everywhere: searches have it too
        "emails_paging": "nested",  # flat: `has_more` beside `data`
        "email_shape": "mailbox",  # sender: `sender_profile_uuid`, `from_*`, `to_*`; both
        "webhook_answer": "data",  # flat
        "tag_actions": "add_tags",  # assign_tag: the other names of mass actions
        "mass_actions": "at_once",  # behind: done when a lead has been read once more, or by `work()`
        "put_custom_fields": "ignored",  # saved
        "company_lookup": "companies",  # lookups
        "count_shape": "leadFilter",  # all: flat body, `total`
        "lead_items": "wrapped",  # flat
        "single_lead": "wrapped",  # flat
        "stage_filter": "brackets",  # json
        "csv": True,  # False: there is no CSV import or export
        "upsert_existing": "untouched",  # refuse: `update_if_exists` false is 422 where the lead exists
        "upsert_tags": "add",  # replace
        "create_existing": "returned",  # doubled: an array makes a second record of a lead that is there
        "create_partial": "refuse",  # keep: the good ones of an array with a bad one are created
        "written_leads": "whole",  # brief: what is answered to their creation has no addresses
        "enroll_twice": "idempotent",  # refuse
        "in_flow": "in_progress",  # another word: the status of a lead that is in a flow
        "done_answer": "empty",  # message: {"message": ..., "status": ...} where a 204 is documented too
        "deletion": "at_once",  # later: a deleted lead is there until `work()`
        "delivery": "at_once",  # held: messages stay `new` until `work()`
        "credits": 100,
    }

    def switch(self, **switches: Any) -> None:
        """Choose readings; the counted calls are forgotten."""
        super().switch(**switches)
        self._windows: dict[str, Window] = {}

    def begin(self) -> None:
        """Make the tables; literal paths win over those with an id."""
        self._routes.sort(key=lambda each: each[1].groups)
        self._last = 0.0
        self.tables: dict[str, dict[str, Row]] = {kind: {} for kind in KINDS}
        self._made: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.credits: int = int(self.switches["credits"])

    def admit(self, call: Call) -> dict[str, str]:
        """Check key, team and limit. The vendor documents no header about its limit."""
        scheme, _, key = call.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or key not in (self.key, self.limited_key):
            raise Refusal(401, "Unauthenticated.")
        team = call.headers.get("team-id")
        if team is None and self.switches["strict_team"]:
            raise Refusal(400, "The Team-ID header is required.")
        if team is not None and team != str(self.team):
            raise Refusal(403, "You have no access to this team.")
        seconds, now = self.minute, self.clock()
        fresh = Window(self.switches["per_minute"], seconds, sliding=self.switches["sliding"])
        if not self._windows.setdefault(key, fresh).take(now):
            wait = self.switches["retry_after"]
            raise Refusal(429, "Too Many Attempts.", headers={"Retry-After": str(wait)} if wait is not None else {})
        if key == self.limited_key and call.path.startswith(("/flows/", "/emails/", "/browsers/")):
            raise Refusal(403, "You have no access to this resource.")
        if isinstance(call.body, str) and not call.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refusal(400, "Malformed JSON.")
        return {}

    async def _routed(self, call: Call) -> Answer:
        for switch, (first, second) in SECOND_PATHS.items():
            chosen = self.switches[switch]
            if call.path == second or call.path.startswith(second + "/"):
                if chosen == "first":
                    raise Refusal(404, "Not found")
                path = first + call.path.removeprefix(second)
                return await super()._routed(Call(call.method, path, call.query, call.headers, call.body))
            if chosen == "second" and (call.path == first or call.path.startswith(first + "/")):
                raise Refusal(404, "Not found")
        if not self.switches["csv"] and re.match(r"/leads/api/file-(im|ex)ports/", call.path):
            raise Refusal(404, "Not found")
        return await super()._routed(call)

    def worded(self, refusal: Refusal) -> Any:
        """Return the documented envelope; a failure of the server has none (found in public clients)."""
        if refusal.status >= 500:
            return {"message": "Server Error"}
        data: dict[str, list[str]] = refusal.more.get("data", {})
        return {
            "error": {"reason": REASONS[refusal.status], "message": refusal.message, "data": data},
            "message": "Validation failed" if refusal.status == 422 else refusal.message,
            "code": refusal.status,
        }

    def now(self) -> str:
        """Return this moment; no two are the same, so that an order by time is one."""
        self._last = max(self.clock(), self._last + 1e-6)
        return stamp(datetime.fromtimestamp(self._last, UTC))

    def make(self, kind: str, **fields: Any) -> Row:
        """Add a record to a table."""
        self._made[kind] += 1
        at = self.now()
        uuid = identity(KINDS.index(kind) + 1, self._made[kind])
        row: Row = {"uuid": uuid, "team_id": self.team, "created_at": at, "updated_at": at, **fields}
        self.tables[kind][uuid] = row
        return row

    def change(self, row: Row, fields: Mapping[str, Any]) -> Row:
        """Change a record."""
        row.update(fields)
        row["updated_at"] = self.now()
        return row

    def told(self, row: Row) -> Row:
        """Return what is answered to the creation or upsert of a lead."""
        brief = self.switches["written_leads"] == "brief"
        return {name: row[name] for name in ("uuid", "created_at", "updated_at")} if brief else row

    def find(self, kind: str, uuid: str) -> Row:
        """Return a record; 404 where it is not there."""
        if uuid not in self.tables[kind]:
            raise Refusal(404, f"No query results for {kind.replace('_', ' ')}.")
        return self.tables[kind][uuid]

    def drop(self, kind: str, uuid: str) -> Answer:
        """Delete a record; 404 where it is not there."""
        self.find(kind, uuid)
        del self.tables[kind][uuid]
        return self.done("Deleted")

    def done(self, message: str) -> Answer:
        """Return the answer of what has nothing to say: 204 in one source, a message in another."""
        if self.switches["done_answer"] == "message":
            return Answer({"message": message, "status": "success"})
        return Answer(status=204)

    def rows(self, kind: str, **equal: Any) -> list[Row]:
        """Return the records of a table whose fields have these values."""
        found = self.tables[kind].values()
        return [row for row in found if all(row.get(name) == value for name, value in equal.items())]

    def checked(self, body: Any, rules: Mapping[str, str], within: str = "") -> Row:
        """Return the fields of a body that rules name, as `{"name": "required|string", "list_uuid": "exists:list"}`.

        Others are dropped silently, as the vendor does. All faults are reported at once, each under its field.
        """
        given = cast("Row", body) if isinstance(body, dict) else {}
        faults: dict[str, list[str]] = {}
        for name, rule in rules.items():
            said = name.replace("_", " ")
            if given.get(name) in (None, "", []):
                if rule.startswith("required"):
                    faults[within + name] = [f"The {said} field is required."]
            elif fault := self._fault(given[name], rule):
                faults[within + name] = [f"The {said} {fault}."]
        if faults:
            raise invalid(faults)
        return {name: given[name] for name in rules if name in given}

    def _fault(self, value: Any, rule: str) -> str | None:
        for part in rule.split("|"):
            word, _, rest = part.partition(":")
            if word == "in" and value not in rest.split(","):
                return "is invalid"
            if word == "exists" and (not isinstance(value, str) or value not in self.tables[rest]):
                return "is invalid"
            if word == "max" and len(value) > int(rest):
                return f"may not be greater than {rest} characters"
            if word in _CHECKS and not _CHECKS[word][0](value):
                return _CHECKS[word][1]
        return None

    def page(
        self, asked: Mapping[str, Any], rows: list[Row], *, search: bool = False, order: str = "created_at"
    ) -> Row:
        """Return a part of a list in the documented envelope.

        `search` is a list that is asked for with a body, whose answer may lack `has_more`.
        """
        limit, offset = whole(asked, "limit", 20), whole(asked, "offset", 0)
        if limit < 1 or (limit > 100 and self.switches["over_limit"] == "refuse"):
            raise invalid({"limit": ["The limit must be between 1 and 100."]})
        limit = min(limit, self.switches["most_rows"])
        if offset + limit > WINDOW:
            raise Refusal(500, "Result window is too large")
        dash = "-" if self.switches["order_names"] == "hyphen" else "_"
        by = str(asked.get(f"order{dash}field") or order)
        way = str(asked.get(f"order{dash}type") or self.switches["default_order"]).lower()
        if way not in ("asc", "desc"):
            raise invalid({"order_type": ["The selected order type is invalid."]})
        if rows and not any(by in row for row in rows):
            raise Refusal(500, "Unknown column")
        ordered = sorted(rows, key=lambda row: (str(row.get(by) or ""), row["created_at"]), reverse=way == "desc")
        given = ordered[offset : offset + limit]
        envelope = {"data": given, "limit": limit, "offset": offset, "total": len(rows)}
        if not search or self.switches["has_more"] == "everywhere":
            envelope["has_more"] = offset + len(given) < len(rows)
        return envelope

    def asked(self, call: Call, *, json_filter: bool = False) -> Row:
        """Return the filter of a query: `filter[name]=value`, or a JSON string; flat parameters are no filter."""
        found: Row = {}
        if json_filter or call.query.get("filter", "").startswith("{"):
            try:
                given = json.loads(call.query.get("filter") or "null")
            except ValueError:
                given = None
            if not isinstance(given, dict):
                raise invalid({"filter": ["The filter must be a valid JSON string."]})
            return cast("Row", given)
        for name, value in call.query.items():
            if match := re.fullmatch(r"filter\[(\w+)\](?:\[([^\]]*)\])?", name):
                field, inner = match.groups()
                if inner is None:
                    found[field] = value
                elif inner == "" or inner.isdecimal():
                    found.setdefault(field, []).append(value)
                else:
                    found.setdefault(field, {})[inner] = value
        return found

    def selected(
        self, rows: Iterable[Row], wanted: Any, known: Iterable[str], text: Iterable[str] = ("name",)
    ) -> list[Row]:
        """Return the records that a filter selects; `known` are its valid names, `text` is where `q` looks."""
        chosen = list(rows)
        given = cast("Row", wanted) if isinstance(wanted, dict) else {}
        for name, value in given.items():
            if name not in known:
                if self.switches["unknown_filter"] == "ignore":
                    continue
                if self.switches["unknown_filter"] == "refuse":
                    raise invalid({f"filter.{name}": [f"The filter {name} is unknown."]})
                raise Refusal(500, f"Unknown column {name}")
            if name == "q":
                words = str(value or "").lower().split()
                chosen = [row for row in chosen if _mentions(row, words, text)]
            else:
                chosen = [row for row in chosen if self._matches(row.get(name), value, dated=name.endswith("_at"))]
        return chosen

    def _matches(self, value: Any, wanted: Any, *, dated: bool) -> bool:
        if wanted == "is_null":
            return value in (None, "", [])
        if wanted == "is_not_null":
            return value not in (None, "", [])
        if dated:
            return self._within(instant(value), wanted)
        if isinstance(wanted, dict):
            raise Refusal(500, "Unexpected filter")
        several = cast("list[Any]", wanted if isinstance(wanted, list) else [wanted])
        held = cast("list[Any]", value if isinstance(value, list) else [value])
        return any(str(one) == str(each) for one in held for each in several)

    def _within(self, at: datetime | None, wanted: Any) -> bool:
        if isinstance(wanted, str):
            first, _, last = wanted.partition(",")
            bounds: Row = {">=": first, "<=": last or first}
        elif isinstance(wanted, dict):
            bounds = cast("Row", wanted)
            ranges = {"from": ">=", "to": "<="}
            if self.switches["date_filters"] == "from_to":
                if set(bounds) - set(ranges):
                    raise Refusal(500, "Unexpected operator")
                bounds = {ranges[name]: value for name, value in bounds.items()}
        else:
            raise Refusal(500, "Unexpected filter")
        return at is not None and all(_holds(at, sign, value) for sign, value in bounds.items())


def stamp(at: datetime) -> str:
    """Return a time as the vendor writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def invalid(faults: dict[str, list[str]]) -> Refusal:
    """Return the refusal of a body, with the faults of each field."""
    return Refusal(422, next(iter(faults.values()))[0], data=faults)


def given_in(call: Call) -> Row:
    """Return the object of a body; empty where it is none."""
    body = cast("object", call.body)
    return cast("Row", body) if isinstance(body, dict) else {}


def whole(asked: Mapping[str, Any], name: str, default: int) -> int:
    """Return a number of a query or body; 422 where it is none."""
    value = asked.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", str(value)):
        raise invalid({name: [f"The {name} must be an integer."]})
    return int(value)


def _mentions(row: Row, words: list[str], text: Iterable[str]) -> bool:
    """Whether any of the words stands in the record: the vendor's search is a full-text one."""
    told = " ".join(str(row.get(name) or "") for name in text).lower()
    return not words or any(word in told for word in words)


def _holds(at: datetime, sign: str, value: Any) -> bool:
    bound = instant(value)
    if bound is None:
        raise Refusal(500, "Unexpected date")
    if sign == "<=" and len(str(value).strip()) == len("2026-01-01"):
        bound += timedelta(days=1, microseconds=-1)
    signs = {">=": at >= bound, ">": at > bound, "<=": at <= bound, "<": at < bound, "=": at == bound}
    if sign not in signs:
        raise Refusal(500, "Unexpected operator")
    return signs[sign]
