"""The road of a write on real parts: a context, a real store, the embedded CRM, and a client in front of a person."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Tools
from crm_mcp.actions.guarded_crm import open_context
from crm_mcp.actions.guards.policy import Policy
from crm_mcp.actions.intent import Answer, Client, Execution, Intent, Outcome, Preview, Question, under_way
from crm_mcp.actions.jobs import work_through
from crm_mcp.actions.messages import preview_sms
from crm_mcp.actions.outbox import Outbox
from crm_mcp.actions.pipeline import Pipeline, intent
from crm_mcp.actions.worker import Worker
from crm_mcp.backends.base import SendsSms, WritesLeads
from crm_mcp.backends.local import Local
from crm_mcp.backends.local.database import FILE
from crm_mcp.channels import Channel
from crm_mcp.config import Fallback, PolicySettings, Settings
from crm_mcp.model import Lead, LeadDraft, LeadUpdate, Slice
from crm_mcp.server.tools import TOOLS
from crm_mcp.server.tools.activity import log_note
from crm_mcp.server.tools.outreach import send_sms
from crm_mcp.store import Action, ClaimConditions, NewAction, Store

T = TypeVar("T")
NUMBER = "+14155550171"
BY = "ann via tests"


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 20, 18, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, **by: float) -> None:
        self.moment += timedelta(**by)


class Person:
    """A client whose person gives these answers, one after the other; without any it can't be asked."""

    def __init__(self, *answers: Answer, caller: str = "ann via tests", fallback: Fallback = "token") -> None:
        self.caller = caller
        self.fallback: Fallback = fallback
        self.request: str | None = None
        self.answering: str | None = None
        self.can_be_asked = bool(answers)
        self.asked: list[Question] = []
        self.before_the_answer: Callable[[], Awaitable[object]] | None = None
        self._answers = list(answers)

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        if self.before_the_answer:
            await self.before_the_answer()
        return self._answers.pop(0)

    async def progress(self, done: int, total: int) -> None:
        """Nobody wants to know."""


class Left(Exception):
    """A call ended with its question: it is made again with the answer."""


async def leave() -> None:
    """Let a call end with its question."""
    raise Left


class Road:
    """A context, its parts, and the one lead that everything here is about."""

    def __init__(
        self, folder: Path, rules: PolicySettings | None = None, *, dry_run: bool = False, crm: Local | None = None
    ) -> None:
        settings = Settings(data_dir=folder, policy=rules or PolicySettings(), dry_run=dry_run)
        self.clock = Clock()
        self.crm = crm or Local(folder)
        self.store = Store(folder, clock=self.clock)
        self.outbox = Outbox(self.store, work_through)
        self.worker = Worker(self.outbox, lambda row: self.pipeline.again(row))
        policy = Policy(settings.policy, Tools(TOOLS))
        self.context = open_context(settings, settings.connections[0], self.crm, self.store, policy)
        self.pipeline = Pipeline(self.context, self._made, self.outbox)
        self.lead = Lead(id="")

    def _made(self, context: Context, tool: str, arguments: Mapping[str, Any], client: Client) -> Intent:
        assert (context, tool) == (self.context, "send_sms")
        return self.sms(arguments["message"])

    async def open(self) -> Road:
        self.lead = await self.crm.create_lead(LeadDraft(name="Jane Doe", phone=NUMBER))
        return self

    async def close(self) -> None:
        await self.crm.aclose()
        await self.store.aclose()

    def sms(self, message: str = "On my way") -> Intent:
        """Return the call of a tool that sends an SMS to the lead, as the real one does."""

        async def run(shown: Preview) -> Outcome:
            found = shown.lead_read
            assert found is not None
            sent = await self.context.crm(SendsSms).send_sms(found, message)
            return Outcome("sent", {"result": sent.shown()}, found.id, (("message", sent.message.id),))

        async def ask() -> Preview:
            return await preview_sms(self.context, await self.context.lead(self.lead.id), message)

        async def look(row: Action) -> Outcome | None:
            return await reconcile.message(self.context, row, "sms", message)

        given = {"lead": self.lead.id, "message": message}
        return intent(self.context, send_sms, given, run, ask=ask, reconcile=look)

    def write(self, run: Callable[[], Awaitable[Outcome]], **arguments: Any) -> Intent:
        """Return the call of a tool that writes, with the generic preview."""

        async def given(_: Preview) -> Outcome:
            return await run()

        return intent(self.context, log_note, arguments, given)

    async def under(self, run: Callable[[], Awaitable[T]], effect: str = "write", by: str = "policy") -> T:
        """Do something in the name of an action of this effect that is under way."""
        new = NewAction(
            caller=BY, connection="local", tool="log_note", effect=effect, arguments={}, digest="", summary="a test"
        )
        row = await self.store.actions.begin(new, by, ClaimConditions())
        assert isinstance(row, Action)
        token = under_way.set(Execution(row, Preview("a test"), lambda: row.fencing_token))
        try:
            return await run()
        finally:
            under_way.reset(token)

    async def change(self, lead: Lead, change: LeadUpdate) -> Lead:
        """Change a lead as a tool does."""
        return await self.under(lambda: self.context.crm(WritesLeads).update_lead(lead.id, change))

    async def sent(self) -> list[str | None]:
        page = await self.crm.list_messages(self.lead.id, Slice())
        return [each.body for each in page.items]

    async def move_number(self, phone: str = "+14155550199") -> None:
        await self.crm.update_lead(self.lead.id, LeadUpdate(phone=phone))

    async def rows(self) -> list[Action]:
        """Return all actions, the newest first."""
        found, _ = await self.store.actions.page(caller=None, status=None, lead=None, after=None, limit=100)
        return list(found)


class Here(Protocol):
    """Where a lead writes: a road, or a bench."""

    context: Context
    clock: Clock


def said(
    here: Here,
    lead: str,
    text: str,
    channel: Channel = "sms",
    subject: str | None = None,
    **before: float,
) -> None:
    """Let a lead have written this, a while ago."""
    at = here.clock() - timedelta(**(before or {"hours": 1}))
    with sqlite3.connect(here.context.settings.data_dir / FILE) as db:
        db.execute(
            "INSERT INTO messages (lead, channel, direction, subject, body, status, sent_at)"
            " VALUES (?, ?, 'inbound', ?, ?, 'received', ?)",
            (int(lead[1:]), channel, subject, text, int(at.timestamp() * 1000)),
        )
    db.close()
