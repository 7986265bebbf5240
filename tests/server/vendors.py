"""A server process for each vendor in front of its emulator over real HTTP, and what is known of the sample there."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mcp_types as types
from anyio.from_thread import BlockingPortal

from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.emulator import Emulator, Entry, FaultKind, Receive, Scope, Send
from crm_mcp.sandbox.serving import serving

from .talk import CANCEL, DECLINE, NO, YES, Era, Talk, talking

MINUTE = 0.5
"""Seconds that a limit's minute lasts here."""
READING = ("search_leads", "get_lead", "list_activity", "list_changes")
ALWAYS = (
    "set_do_not_contact",
    "import_leads",
    "delete_record",
    "confirm_action",
    "undo_action",
    "list_actions",
    "list_options",
    "crm_status",
    "find_operation",
    "read_operation",
    "call_operation",
)
TOOLS: dict[str, frozenset[str]] = {
    "dialsheet": frozenset({
        *READING, "create_lead", "update_lead", "log_note", "get_call", "list_tasks", "create_task", "update_task",
        "list_deals", "get_pipeline", "create_deal", "update_deal", "move_stage", "send_email", "send_sms",
        "enroll_in_sequence", *ALWAYS,
    }),
    "salessheet": frozenset({
        *READING, "create_lead", "update_lead", "log_note", "get_call", "list_tasks", "create_task", "update_task",
        "list_deals", "get_pipeline", "create_deal", "update_deal", "move_stage", *ALWAYS,
    }),
    "salespulse": frozenset({
        *READING, "create_lead", "update_lead", "get_call", "list_deals", "get_pipeline", "move_stage", "start_call",
        *ALWAYS,
    }),
    "getsales": frozenset({
        *READING, "create_lead", "update_lead", "tag_lead", "log_note", "get_pipeline", "move_stage", "send_email",
        "send_linkedin_message", "enroll_in_sequence", "unenroll_from_sequence", "get_metrics", *ALWAYS,
    }),
}  # fmt: skip
"""The tools of each vendor: they change only in a visible diff."""
ALL_TOOLS: frozenset[str] = frozenset(tool for tools in TOOLS.values() for tool in tools)
VENDORS = tuple(TOOLS)


@dataclass(frozen=True)
class Sample:
    """What a vendor calls things, and where the emulator keeps them."""

    people: Callable[[Any], list[dict[str, Any]]]
    """The leads that the emulator has now."""
    jane: str
    """Her id."""
    number_of: str
    """The path of a lead, with an id of this form in it."""
    found_at: tuple[str, str]
    """How leads are listed: method and path."""
    made_at: str
    """Where a lead is created."""
    changed_by: str
    """The method that changes a lead."""
    fields: tuple[str, str, str]
    """Its names for id, e-mail address and title."""
    filters: str
    """The filters that an error names."""
    new: dict[str, Any]
    """What else a new lead needs."""


FIRST = "00000001-0000-4000-8000-000000000001"
SAMPLE = {
    "dialsheet": Sample(
        people=lambda there: there.tables["leads"],
        jane=FIRST,
        number_of="/api/v1/leads/{}",
        found_at=("GET", "/api/v1/leads"),
        made_at="/api/v1/leads",
        changed_by="PUT",
        fields=("id", "email", "title"),
        filters="query, status",
        new={},
    ),
    "salessheet": Sample(
        people=lambda there: list(there.records["contacts"].values()),
        jane="00000001-0000-4000-8000-000000000002",
        number_of="/v1/contacts/{}",
        found_at=("GET", "/v1/contacts"),
        made_at="/v1/contacts",
        changed_by="PATCH",
        fields=("id", "email", "title"),
        filters="owner, query, status",
        new={},
    ),
    "salespulse": Sample(
        people=lambda there: list(there.contacts.values()),
        jane="ctn_000001",
        number_of="/api/v1/contacts/{}",
        found_at=("GET", "/api/v1/contacts"),
        made_at="/api/v1/contacts",
        changed_by="PATCH",
        fields=("id", "email", "title"),
        filters="query",
        new={},
    ),
    "getsales": Sample(
        people=lambda there: there.rows("lead"),
        jane=FIRST,
        number_of="/leads/api/leads/{}",
        found_at=("POST", "/leads/api/leads/search"),
        made_at="/leads/api/leads/upsert",
        changed_by="PUT",
        fields=("uuid", "work_email", "position"),
        filters="created_after, list, query, stage, status, tag",
        new={"list": "Inbound"},
    ),
}
# What asks and changes nothing, although it is a POST.
_ASKING = re.compile(r"/leads/api/leads/(search|lookup-one|count|metrics)|/flows/api/flows-leads/list|.*/group-counts")


def writes_in(there: Emulator) -> list[Entry]:
    """Return what arrived and could have changed something."""
    return [each for each in there.journal if each.method != "GET" and not _ASKING.fullmatch(each.path)]


def log_of(talk: Talk) -> str:
    """Return what the servers of this folder have written to stderr."""
    return "".join(each.read_text() for each in talk.folder.glob("stderr-*"))


@dataclass
class Vendor:
    """One client of a server that is connected to one vendor's emulator."""

    name: str
    talk: Talk
    there: Any
    """The emulator."""

    @property
    def sample(self) -> Sample:
        return SAMPLE[self.name]

    @property
    def left(self) -> list[Entry]:
        """What arrived and could have changed something."""
        return writes_in(self.there)

    @property
    def written(self) -> list[tuple[str, str, Any]]:
        """The same as method, path and body."""
        return [(each.method, each.path, each.body) for each in self.left]

    def ok(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that succeeds."""
        return self.talk.ok(tool, **arguments)

    def done(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that does something, and did it."""
        result = self.talk.ok(tool, **arguments)
        assert {"action_id", "status", "summary"} < set(result), result
        assert result["status"] == "done", result
        assert "\n" not in result["summary"]
        return result

    def refused(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that fails; returns its one line."""
        return self.talk.refused(tool, **arguments)

    def asked(self, tool: str, /, *shown: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that asks: nothing leaves after a no, and what the person is shown is there; then say yes."""
        for answer in (NO, DECLINE, CANCEL):
            self.talk.user.answer = answer
            assert self.ok(tool, **arguments)["status"] == "declined"
            assert self.left == []
        self.talk.user.answer = YES
        result = self.done(tool, **arguments)
        for each in shown:
            assert each in self.talk.user.asked[-1]
        return result

    def undo(self, done: dict[str, Any]) -> None:
        """Take an action back."""
        undone = self.ok("undo_action", action_id=done["action_id"])
        assert (undone["status"], undone["action_id"]) == ("undone", done["action_id"])

    def pages(self, tool: str, name: str, /, limit: int, **arguments: Any) -> list[dict[str, Any]]:
        """Read a list to its end by its cursors; returns its rows."""
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        for _ in range(100):
            page = self.ok(tool, limit=limit, **arguments, **cursor)
            assert len(page[name]) <= limit
            rows += page[name]
            if page["next_cursor"] is None:
                return rows
            cursor = {"cursor": page["next_cursor"]}
        raise AssertionError("the list has no end")

    def person(self, lead: str) -> dict[str, Any] | None:
        """Return a lead as the emulator has it."""
        key = self.sample.fields[0]
        return next((each for each in self.sample.people(self.there) if each[key] == lead), None)

    def title(self, lead: str) -> Any:
        """Return the title of a lead, as the emulator has it."""
        person = self.person(lead)
        assert person is not None
        return person.get(self.sample.fields[2])

    def place(self, lead: str) -> str:
        """Return the path of a lead."""
        return self.sample.number_of.format(lead)


@contextmanager
def connected(
    portal: BlockingPortal,
    folder: Path,
    name: str,
    era: Era = "modern",
    *,
    asked: bool = True,
    there: Emulator | None = None,
    **settings: str,
) -> Generator[Vendor]:
    """Serve a vendor's emulator and, in a process of its own, the server that is connected to it."""
    emulator = there or emulator_of(name)(sample=True, minute=MINUTE)
    with serving(emulator) as url:
        given = {"vendor": name, "api_key": emulator.key, "base_url": url, "test_minute": str(MINUTE), **settings}
        with talking(portal, folder, era, asked=asked, settings=given) as talk:
            yield Vendor(name, talk, emulator)


def begun_anew(vendor: Vendor) -> Vendor:
    """Put emulator and user back to where they began; and the state, which would know a call of an earlier test again:
    the records there have the same ids and addresses once more."""
    vendor.there.reset()
    vendor.talk.user.answer, vendor.talk.user.meanwhile = YES, None
    vendor.talk.user.asked.clear()
    if (state := vendor.talk.folder / "state.sqlite3").exists():
        with closing(sqlite3.connect(state, timeout=20)) as db, db:
            for table in ("marks", "addresses", "blocks"):
                db.execute(f"DELETE FROM {table}")
            db.execute("UPDATE actions SET status = 'cancelled' WHERE status NOT IN ('sending', 'running')")
    return vendor


def acts_on(lead: str) -> dict[str, dict[str, Any]]:
    """Return a call of each tool that does something about a lead, and can be made wherever the tool is."""
    return {
        "update_lead": {"lead": lead, "title": "COO"},
        "tag_lead": {"lead": lead, "add": ["vip"]},
        "log_note": {"lead": lead, "content": "Spoke"},
        "create_task": {"title": "Ring back", "lead": lead},
        "create_deal": {"name": "Pilot", "lead": lead},
        "send_email": {"lead": lead, "subject": "Hi", "body": "Hello"},
        "send_sms": {"lead": lead, "message": "Hello"},
        "send_linkedin_message": {"lead": lead, "message": "Hello"},
        "start_call": {"lead": lead},
        "set_do_not_contact": {"lead": lead, "blocked": True},
    }


class Street:
    """Many emulators behind one address, each under a path of its own."""

    prefix = ""

    def __init__(self, emulators: Mapping[str, Emulator]) -> None:
        self.emulators = emulators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].split("/")[1]
        path = scope["raw_path"].removeprefix(f"/{name}".encode())
        await self.emulators[name](
            {**scope, "path": scope["path"].removeprefix(f"/{name}"), "raw_path": path}, receive, send
        )


@dataclass(frozen=True)
class Plot:
    """One connection of a server that has many."""

    vendor: str
    key: str = ""
    """Another one than the emulator accepts."""
    team: str = ""
    address: str = ""
    """Another one than the emulator's."""
    fault: FaultKind | None = None
    """What goes wrong with every request to `path` by `method`."""
    how: Mapping[str, Any] = field(default_factory=dict[str, Any])
    method: str = ".*"
    path: str = ".*"
    switches: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def built(self) -> Emulator:
        """Return the emulator."""
        there = emulator_of(self.vendor)(sample=True, minute=MINUTE, **self.switches)
        if self.fault:
            there.fail(self.fault, **{"times": 99, "method": self.method, "path": self.path, **self.how})
        return there


@dataclass
class Town:
    """One client of a server with many connections."""

    talk: Talk
    emulators: Mapping[str, Any]

    def each(self, tool: str, arguments: Callable[[str], dict[str, Any]]) -> dict[str, types.CallToolResult]:
        """Call a tool on every connection at once."""
        with ThreadPoolExecutor(len(self.emulators)) as threads:
            waiting = {
                name: threads.submit(self.talk.call, tool, crm=name, **arguments(name)) for name in self.emulators
            }
            return {name: each.result() for name, each in waiting.items()}

    def writes(self, name: str) -> list[Entry]:
        """What arrived at an emulator and could have changed something."""
        return writes_in(self.emulators[name])


@contextmanager
def town(portal: BlockingPortal, folder: Path, plots: Mapping[str, Plot], **settings: str) -> Generator[Town]:
    """Serve an emulator for each connection and, in a process of its own, one server that has them all."""
    emulators = {name: each.built() for name, each in plots.items()}
    with serving(cast("Emulator", Street(emulators))) as url:
        parts: list[str] = []
        for name, each in plots.items():
            (folder / f"{name}.key").write_text(each.key or emulators[name].key)
            team = f'team_id = "{each.team}"\n' if each.team else ""
            parts.append(
                f'[connections.{name}]\nvendor = "{each.vendor}"\napi_key = "file:{folder / name}.key"\n{team}'
                f'base_url = "{each.address or f"{url}/{name}{emulators[name].prefix}"}"\n'
            )
        (folder / "town.toml").write_text("".join(parts))
        given = {"config": str(folder / "town.toml"), "test_minute": str(MINUTE), **settings}
        with talking(portal, folder, "modern", settings=given) as talk:
            yield Town(talk, emulators)
