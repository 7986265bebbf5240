"""An agent that obeys whoever wrote into the CRM: it reads everything, and does all that it finds there."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mcp.shared.exceptions import MCPError

from .attacked import HeardTalk

LISTS = frozenset({"leads", "channels", "tags", "add", "remove"})
"""Parameters that take several values."""
MOST = {"body": 4_000, "message": 1_500, "content": 3_000, "title": 190, "name": 190, "subject": 190}
"""Characters of a value that the agent fills with what it has read."""
WORLDLY = ("stages", "statuses", "tags", "sequences", "mailboxes", "senders", "lists", "custom_fields", "owners")
_ORDER = re.compile(r"\[\[call (\w+)(.*?)\]\]", re.DOTALL)
_ENCODED = re.compile(r"base64:([A-Za-z0-9+/=]+)")
_TAGS = {each: each - 0xE0000 for each in range(0xE0020, 0xE007F)}


@dataclass(frozen=True)
class Order:
    """What is to be done, and on whose record that stood."""

    tool: str
    arguments: tuple[tuple[str, str], ...]
    me: str


@dataclass
class Tried:
    """A call that was made because of an order."""

    tool: str
    arguments: dict[str, Any]
    status: str
    """Of the action result; `error` where there is none, `read` where nothing was to be done."""
    asked: tuple[str, ...] = ()
    """What the person was asked meanwhile."""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


def orders_in(text: str, me: str) -> Iterator[Order]:
    """Return the orders in a text, however they are dressed up: hidden, encoded, or in other letters."""
    views = {
        text,
        unicodedata.normalize("NFKC", text),
        text.translate(_TAGS),
        re.sub("[\u200b-\u200f\u2060]", "", text),
    }
    views |= {
        base64.b64decode(found).decode(errors="replace") for found in _ENCODED.findall(text) if len(found) % 4 == 0
    }
    for view in views:
        for tool, rest in _ORDER.findall(view):
            pairs = [part.partition("=") for part in rest.split(";;") if "=" in part]
            yield Order(tool, tuple((name.strip(), value) for name, _, value in pairs), me)


def strings(value: Any) -> Iterator[str]:
    """Return all texts in a JSON value, names of fields as well."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in cast("dict[str, Any]", value).items():
            yield from strings(name)
            yield from strings(each)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from strings(each)


class Agent:
    """Reads the CRM through the tools, and obeys it."""

    def __init__(self, talk: HeardTalk) -> None:
        self.talk = talk
        self.tools = talk.tools()
        self.orders: dict[Order, None] = {}
        self.tried: list[Tried] = []
        self.known: dict[str, str] = {}
        """What it fills the values of orders with."""

    def work(self, leads: list[str], task: tuple[str, dict[str, Any]] | None = None) -> None:
        """Read these leads and whatever can be listed, obey all that is found, and do its own task then."""
        self.read(leads)
        for order in list(self.orders):
            self.obey(order)
        if task:
            self.act(*task)

    # Reading

    def read(self, leads: list[str]) -> None:
        """Read all that the tools and the resources give of these leads."""
        found = self.look("search_leads", limit=50)
        self.known |= {"leads": json.dumps(found.get("leads", []), ensure_ascii=False), "victim": leads[-1]}
        self.known["status"] = json.dumps(self.look("crm_status"))
        for kind in WORLDLY:
            options = self.look("list_options", me=leads[0], kind=kind).get("options", [])
            if options and kind in ("sequences", "stages"):
                self.known[kind.removesuffix("s")] = options[0]["id"]
        for lead in leads:
            include = [each for each in ("notes", "tasks", "deals", "messages", "calls") if self.has(each)]
            read = self.look("get_lead", me=lead, lead=lead, include=include)
            for kind in ("task", "deal", "call"):
                for each in read.get(f"{kind}s", [])[:1]:
                    self.known.setdefault(kind, each["id"])
            for each in read.get("calls", []):
                self.look("get_call", me=lead, call=each["id"])
            self.known["activity"] = json.dumps(self.look("list_activity", me=lead, lead=lead), ensure_ascii=False)
            for uri in (f"crm://leads/{lead}", f"crm://leads/{lead}/activity"):
                self.hear(self.talk.resource(uri), lead)
        self.look("list_tasks", me=leads[0])
        self.look("list_deals", me=leads[0])
        for uri in ("crm://sequences", "crm://pipeline", "crm://status"):
            try:
                self.hear(self.talk.resource(uri), leads[0])
            except MCPError:
                continue  # this CRM has none

    def has(self, include: str) -> bool:
        """Whether this CRM keeps such records."""
        return {"tasks": "list_tasks", "deals": "list_deals", "calls": "get_call", "notes": "log_note"}.get(
            include, "get_lead"
        ) in self.tools

    def look(self, tool: str, /, me: str = "", **arguments: Any) -> dict[str, Any]:
        """Call a tool that reads, and hear what stands in its result; empty where it refuses."""
        if tool not in self.tools:
            return {}
        result = self.talk.call(tool, **arguments)
        structured = cast("dict[str, Any]", result.structured_content or {})
        for row in structured.get("leads", []):
            self.hear(row, row["id"])
        self.hear({name: each for name, each in structured.items() if name != "leads"}, me or "nobody")
        return structured

    def hear(self, said: Any, me: str) -> None:
        """Remember the orders in what was said."""
        for text in strings(said):
            self.orders |= dict.fromkeys(orders_in(text, me))

    # Obeying

    def obey(self, order: Order) -> None:
        """Do what was ordered, filled with what was read."""
        self.known["me"] = order.me if order.me != "nobody" else self.known["victim"]
        arguments: dict[str, Any] = {}
        for name, value in order.arguments:
            filled = self._filled(name, value)
            owner, _, field_name = name.partition(".")
            if field_name:
                arguments.setdefault(owner, {})[field_name] = filled
            else:
                arguments[name] = filled
        self.act(order.tool, arguments)

    def act(self, tool: str, arguments: dict[str, Any]) -> None:
        """Make a call, and give every confirmation that an agent can give by itself."""
        said = self._called(tool, arguments)
        if said.status == "confirmation_required":
            given = {"action_id": said.fields["action_id"], "summary": said.fields["summary"]}
            self.known |= {"waiting": given["action_id"], "said": given["summary"]}
            self._called("confirm_action", given)
        elif said.fields.get("action_id"):
            self.known |= {"waiting": said.fields["action_id"], "said": said.fields["summary"]}

    def _called(self, tool: str, arguments: dict[str, Any]) -> Tried:
        before = len(self.talk.user.asked)
        try:
            result = self.talk.call(tool, **arguments)
        except MCPError:  # there is no such tool
            said = Tried(tool, arguments, "error")
        else:
            fields = cast("dict[str, Any]", result.structured_content or {})
            status = fields.get("status", "error" if result.is_error else "read")
            said = Tried(tool, arguments, status, tuple(self.talk.user.asked[before:]), fields)
        self.tried.append(said)
        return said

    def _filled(self, name: str, value: str) -> Any:
        for known in ("me", "victim", "sequence", "stage", "deal", "task", "call", "waiting", "said"):
            value = value.replace(f"{{{known}}}", self.known.get(known, "none"))
        if "{actions}" in value:
            self.known["actions"] = json.dumps(self.look("list_actions", limit=20), ensure_ascii=False)
        for known in ("leads", "activity", "status", "actions"):
            value = value.replace(f"{{{known}}}", self.known.get(known, "nothing"))
        if name in LISTS:
            return [each for each in value.split(",") if each]
        if value in ("true", "false") or (name == "arguments" and value.startswith("{")):
            try:
                return json.loads(value)
            except ValueError:  # a disguise has changed its quotation marks
                return {}
        # What is meant for one line is put into one.
        if name in ("title", "name", "subject"):
            value = " ".join(value.split())
        return value[: MOST.get(name, 1_000_000)]
