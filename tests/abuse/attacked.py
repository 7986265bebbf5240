"""A server in this process with a client in front of it, the CRM behind it, and what has really happened there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import mcp_types as types
from anyio.from_thread import BlockingPortal
from mcp import Client
from pydantic import SecretStr

from crm_mcp.config import AuditSettings, Settings
from crm_mcp.model import now
from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.serving import serving
from crm_mcp.server.app import Application
from tests.harness.app import Process
from tests.harness.settings import rules, settings
from tests.server.talk import MODES, NO, YES, Era, Talk, User, text_in

SEAL = "seal-7f1c2a9be04d5516"
"""The key of the audit log."""


@dataclass
class Told(User):
    """A person who says yes to what begins like their task, and to nothing else."""

    tasks: tuple[str, ...] = ()
    always: bool = False
    """A host that answers by itself, without showing anybody."""

    async def __call__(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.answer = YES if self.always or params.message.startswith(self.tasks or ("\0",)) else NO
        return await super().__call__(context, params)


class Sent(NamedTuple):
    """Something that reached somebody, or will."""

    channel: str
    to: str | None
    text: str


@dataclass
class HeardTalk(Talk):
    """A client, the server, and all that the client was ever told."""

    application: Application = field(kw_only=True)
    heard: list[str] = field(default_factory=list[str], kw_only=True)

    def call(self, tool: str, /, **arguments: Any) -> types.CallToolResult:
        result = super().call(tool, **arguments)
        self.heard += [text_in(result), str(result.structured_content)]
        return result

    def answer(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool; returns its structured result, empty where it has none."""
        fields: dict[str, Any] = self.call(tool, **arguments).structured_content or {}
        return fields

    def resource(self, uri: str) -> str:
        """Read a resource."""
        [content] = self.run(self.client.read_resource, uri).contents
        assert isinstance(content, types.TextResourceContents)
        self.heard.append(content.text)
        return content.text


@contextmanager
def opened(
    portal: BlockingPortal,
    given: Settings,
    era: Era = "modern",
    *,
    user: User | None = None,
    asked: bool = True,
    name: str = "agent",
    clock: Callable[[], datetime] = now,
) -> Generator[HeardTalk]:
    """Start a server in this process and connect a client to it."""

    async def start() -> Process:
        return Process(given, clock)

    application = portal.call(start).application
    user = user or User()
    client = Client(
        application.server,
        mode=MODES[era],
        client_info=types.Implementation(name=name, version="1"),
        elicitation_callback=user if asked else None,
    )
    with portal.wrap_async_context_manager(client):
        crm = given.connections[0].name
        yield HeardTalk(client, era, given.data_dir, user, portal, crm, application=application)


# The CRM, and what has happened in it


class AttackedCrm:
    """One CRM: where strangers write, and what has left it."""

    vendor: str
    kinds: tuple[str, ...]
    """The fields that a stranger can fill."""

    def given(self, folder: Path, **more: Any) -> Settings:
        """Return the settings of a server in front of it, with secrets in them."""
        audit = AuditSettings(key=SecretStr(SEAL))
        given: dict[str, Any] = {"policy": rules(), "sample": True, "audit": audit, **more}
        return settings(folder, self.vendor, **given)

    def plant(self, kind: str, place: int, text: str) -> None:
        """Write a text into a field of the lead in this place, or of something that belongs to it."""
        raise NotImplementedError

    def leads(self) -> list[dict[str, Any]]:
        """Return the leads as the CRM has them, each with `id`, `email` and `phone`."""
        raise NotImplementedError

    def sent(self) -> list[Sent]:
        """Return what has gone out, or will by itself, because of a call."""
        raise NotImplementedError

    def records(self) -> dict[str, set[str]]:
        """Return the ids of what could be deleted, by kind."""
        raise NotImplementedError


class AttackedLocal(AttackedCrm):
    """The embedded CRM."""

    vendor = "local"
    kinds = (
        *("name", "company", "title", "tag", "custom_field", "note", "email", "sms"),
        *("call", "task", "deal", "status"),
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = 0
        self.enrolled = 0

    def began(self) -> None:
        """Remember what is there before anybody acts."""
        [[self.first]] = self.ask("SELECT COALESCE(MAX(n), 0) FROM messages")
        [[self.enrolled]] = self.ask("SELECT COALESCE(MAX(n), 0) FROM enrolments")

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "crm.sqlite3", timeout=20)) as db, db:
            return db.execute(query, values).fetchall()

    def contents(self) -> list[tuple[Any, ...]]:
        """Return all that stands in the CRM."""
        tables = ("leads", "notes", "messages", "tasks", "deals", "calls", "enrolments", "lead_labels", "blocked")
        return [row for each in tables for row in self.ask(f"SELECT '{each}', * FROM {each}")]

    def plant(self, kind: str, place: int, text: str) -> None:
        lead = place + 1
        at = int((now().timestamp() - 3600) * 1000)
        match kind:
            case "tag" | "status":
                unique = f"{text} {lead}"
                self.ask("INSERT OR IGNORE INTO labels (kind, name, folded) VALUES (?, ?, ?)", kind, unique, unique)
                [[label]] = self.ask("SELECT n FROM labels WHERE kind = ? AND folded = ?", kind, unique)
                if kind == "tag":
                    self.ask("INSERT OR IGNORE INTO lead_labels (label, lead) VALUES (?, ?)", label, lead)
                else:
                    self.ask("UPDATE leads SET status = ? WHERE n = ?", label, lead)
            case "custom_field":
                self.ask("UPDATE leads SET custom_fields = json_object('About us', ?) WHERE n = ?", text, lead)
            case "note":
                self.ask(
                    "INSERT INTO notes (lead, content, kind, occurred_at) VALUES (?, ?, 'note', ?)", lead, text, at
                )
            case "email" | "sms":
                self.ask(
                    "INSERT INTO messages (lead, channel, direction, subject, body, status, sent_at) "
                    "VALUES (?, ?, 'inbound', 'Re: your offer', ?, 'received', ?)",
                    *(lead, kind, text, at),
                )
            case "call":
                self.ask(
                    "INSERT INTO calls (lead, direction, started_at, transcript) VALUES (?, 'inbound', ?, ?)",
                    *(lead, at, text),
                )
            case "task":
                self.ask("INSERT INTO tasks (lead, title, created_at) VALUES (?, ?, ?)", lead, text, at)
            case "deal":
                self.ask(
                    "INSERT INTO deals (lead, name, stage, status, created_at, updated_at) "
                    "VALUES (?, ?, 5, 'open', ?, ?)",
                    *(lead, text, at, at),
                )
            case _:
                self.ask(f"UPDATE leads SET {kind} = ? WHERE n = ?", text, lead)

    def leads(self) -> list[dict[str, Any]]:
        rows = self.ask("SELECT 'L' || n, email, phone FROM leads ORDER BY n")
        return [{"id": lead, "email": email, "phone": phone} for lead, email, phone in rows]

    def sent(self) -> list[Sent]:
        out = self.ask(
            "SELECT channel, recipient, COALESCE(subject, '') || ' ' || body FROM messages "
            "WHERE direction = 'outbound' AND n > ? ORDER BY n",
            self.first,
        )
        put = self.ask("SELECT 'enrolment', 'L' || lead, '' FROM enrolments WHERE n > ?", self.enrolled)
        return [Sent(*each) for each in [*out, *put]]

    def records(self) -> dict[str, set[str]]:
        tables = ("leads", "tasks", "deals", "notes", "blocked")
        return {
            each: {str(row[0]) for row in self.ask(f"SELECT {'address' if each == 'blocked' else 'n'} FROM {each}")}
            for each in tables
        }


class AttackedVendor(AttackedCrm):
    """A vendor's emulator over real HTTP."""

    def __init__(self, url: str, there: Any) -> None:
        self.url = url
        self.there = there
        self.before = self.enrolled()

    def enrolled(self) -> list[Sent]:
        """Return who is in which sequence."""
        return []

    def given(self, folder: Path, **more: Any) -> Settings:
        return super().given(folder, url=self.url, key=self.there.key, **more)

    def sent(self) -> list[Sent]:
        new = [each for each in self.enrolled() if each not in self.before]
        return [*(Sent(each.channel, each.to or each.lead, each.text) for each in self.there.ledger), *new]


class AttackedDialsheet(AttackedVendor):
    vendor = "dialsheet"
    kinds = ("name", "company", "title", "note", "email", "sms", "call", "task", "deal", "sequence", "mailbox")

    def plant(self, kind: str, place: int, text: str) -> None:
        tables = self.there.tables
        lead = tables["leads"][place]
        match kind:
            case "note":
                self.there.add("notes", 1, lead_id=lead["id"], content=text)
            case "email":
                fields = {"subject": text[:200], "body_text": text, "status": "received", "direction": "inbound"}
                self.there.add("emails", 1, lead_id=lead["id"], to_email="sales@crm.example", **fields)
            case "sms":
                fields = {"message": text, "direction": "inbound", "status": "received"}
                self.there.add("sms", 1, lead_id=lead["id"], **fields)
            case "call":
                at = self.there.time(-1)
                fields = {"direction": "inbound", "duration": 60, "started_at": at, "transcript": text}
                self.there.add("calls", 1, lead_id=lead["id"], **fields)
            case "task":
                self.there.add("tasks", 1, lead_id=lead["id"], title=text, completed=False)
            case "deal":
                self.there.add("opportunities", 1, lead_id=lead["id"], name=text, stage="Discovery")
            case "sequence":
                self.there.add("sequences", 1, name=text, status="active")
            case "mailbox":
                tables["email_accounts"][1]["name"] = text
            case _:
                lead[kind] = text

    def enrolled(self) -> list[Sent]:
        return [Sent("enrolment", row.get("lead_id"), row["id"]) for row in self.there.tables["enrolments"]]

    def leads(self) -> list[dict[str, Any]]:
        return list(self.there.tables["leads"])

    def records(self) -> dict[str, set[str]]:
        kinds = ("leads", "tasks", "opportunities", "notes")
        return {kind: {row["id"] for row in self.there.tables[kind]} for kind in kinds}


class AttackedGetSales(AttackedVendor):
    vendor = "getsales"
    kinds = (
        "name",
        "company",
        "title",
        "tag",
        "custom_field",
        "note",
        "email",
        "linkedin",
        "stage",
        "sequence",
        "mailbox",
    )

    def plant(self, kind: str, place: int, text: str) -> None:
        lead = self.there.rows("lead")[place]
        match kind:
            case "name" | "company" | "title":
                lead[{"name": "name", "company": "company_name", "title": "position"}[kind]] = text
                if kind == "name":
                    lead["first_name"], lead["last_name"] = text, None
            case "tag":
                lead["tags"] = [self.there.make("tag", name=text, color="#000000")["uuid"]]
            case "custom_field":
                self.there.rows("custom_value", object_uuid=lead["uuid"])[0]["value"] = text
            case "note":
                self.there.make("note", object="lead", object_uuid=lead["uuid"], note=text, user_id=20)
            case "email":
                box = self.there.rows("mailbox")[0]
                fields = {"type": "inbox", "subject": text[:200], "body": text, "from_email": lead["work_email"]}
                self.there.make_email(box, to_email=box["email"], lead_uuid=lead["uuid"], **fields)
            case "linkedin":
                sender = self.there.rows("sender")[0]["uuid"]
                fields = {"text": text, "type": "inbox", "status": "done", "linkedin_type": "message"}
                self.there.make_message(lead_uuid=lead["uuid"], sender_profile_uuid=sender, **fields)
            case "stage":
                self.there.rows("stage")[1]["name"] = text
            case "sequence":
                self.there.rows("flow")[-1]["name"] = text
            case _:
                self.there.rows("mailbox")[1]["sender_name"] = text

    def leads(self) -> list[dict[str, Any]]:
        return [
            {"id": row["uuid"], "email": row["work_email"], "phone": row["work_phone_number"], **row}
            for row in self.there.rows("lead")
        ]

    def enrolled(self) -> list[Sent]:
        return [Sent("enrolment", row["lead_uuid"], row["flow_uuid"]) for row in self.there.rows("flow_lead")]

    def records(self) -> dict[str, set[str]]:
        return {kind: set(self.there.tables[kind]) for kind in ("lead", "note", "flow", "webhook", "list", "tag")}


class AttackedSalesPulse(AttackedVendor):
    vendor = "salespulse"

    def leads(self) -> list[dict[str, Any]]:
        return list(self.there.contacts.values())


ATTACKED = {each.vendor: each for each in (AttackedLocal, AttackedDialsheet, AttackedGetSales, AttackedSalesPulse)}


@contextmanager
def attacked(portal: BlockingPortal, folder: Path, vendor: str) -> Generator[AttackedCrm]:
    """Give a CRM with its sample."""
    if vendor == "local":
        place = AttackedLocal(folder)
        with opened(portal, place.given(folder)) as talk:
            talk.ok("search_leads", limit=1)
        yield place
        return
    there = emulator_of(vendor)(sample=True, minute=0.05)
    kind: Any = ATTACKED[vendor]
    with serving(there) as url:
        yield kind(url, there)
