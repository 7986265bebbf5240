"""A server process without a client: several of them on one folder are several processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from crm_mcp.actions.intent import Client, Execution, Intent, Outcome, Preview, under_way
from crm_mcp.actions.pipeline import intent
from crm_mcp.backends import open_backend
from crm_mcp.backends.base import Backend, WritesLeads
from crm_mcp.backends.local import Local
from crm_mcp.backends.local.database import FILE
from crm_mcp.channels import Channel
from crm_mcp.config import Connection, Settings
from crm_mcp.model import ImportRow, Lead, LeadDraft, LeadFilter, LeadUpdate, Slice
from crm_mcp.server.app import Application
from crm_mcp.server.tools import TOOLS
from crm_mcp.server.tools.activity import log_note
from crm_mcp.store import Action, ClaimConditions, Item, NewAction

from .clock import Clock
from .crms import WatchedCrm
from .person import ANN, Person
from .settings import OURS, Policy, settings

T = TypeVar("T")
NUMBER = "+14155550171"
BY_NAME = {each.name: each for each in TOOLS}
SEQUENCE = "Follow-up"
"""A sequence of the sample."""


class Killed(BaseException):
    """The process dies here."""


@contextmanager
def killed() -> Generator[None]:
    """The process dies within."""
    with pytest.raises(BaseExceptionGroup) as died:
        yield
    assert died.group_contains(Killed)


class Process:
    """A real application on a clock, whose tools are called in this process: those of its first connection."""

    def __init__(
        self,
        given: Settings,
        clock: Callable[[], Any] | None = None,
        opened: Callable[[Settings, Connection], Backend] = open_backend,
    ) -> None:
        self.settings = given
        self.application = Application(given, opened=opened)
        self.store = self.application.store
        self.outbox = self.application.outbox
        self.worker = self.application.worker
        self.pipeline = self.application.pipelines[given.connections[0].name]
        self.context = self.pipeline.context
        if clock:
            self.store.clock = clock

    def intent(self, tool: str, client: Client | None = None, /, **arguments: Any) -> Intent:
        """Return the call of a tool, as the server makes it, also of one that it does not serve."""
        known = BY_NAME[tool]
        return known.intent(self.context, known.check(arguments), client or Person())

    async def work(self) -> None:
        """Do all that waits and is due."""
        while await self.worker.work_once((self.context.connection,)):
            pass

    def dies_at(self, step: str, after: int = 1) -> None:
        """Let the process die when this step is reached for the `after`-th time."""
        left = after

        def at(reached: str) -> None:
            nonlocal left
            left -= reached == step
            if reached == step and left == 0:
                raise Killed

        self.outbox.at = at

    async def row(self, action_id: str) -> Action:
        """Return an action."""
        found = await self.store.actions.get(action_id)
        assert found is not None
        return found

    async def rows(self) -> list[Action]:
        """Return all actions, the newest first."""
        found, _ = await self.store.actions.page(caller=None, status=None, lead=None, after=None, limit=100)
        return list(found)

    async def newest(self) -> Action:
        """Return the newest action."""
        return (await self.rows())[0]

    async def ended(self, action_id: str) -> list[Item]:
        """Return the items of a job, all of which have ended."""
        items = [*await self.store.items.all(action_id)]
        assert not [each for each in items if each.status in ("waiting", "sending")]
        return items

    async def log(self) -> list[dict[str, Any]]:
        """Return the entries of the audit log."""
        return [dict(each.body) for each in await self.store.audit.entries(None, 0, 1000)]

    async def close(self) -> None:
        await self.application.aclose()


class App(Process):
    """A process in front of the embedded CRM, which is empty unless its settings want the sample."""

    def __init__(
        self,
        folder: Path,
        clock: Clock | None = None,
        policy: Policy = None,
        crm: type[WatchedCrm] = WatchedCrm,
        **more: Any,
    ) -> None:
        given = settings(folder, policy=policy, own=(OURS,), **more)
        self.clock = clock or Clock()
        self.crm = crm(folder, sample=given.sample)
        """The CRM without its guards: what somebody does in it by hand."""
        self.lead = Lead(id="")
        """The lead that a test is about."""
        super().__init__(given, self.clock, lambda _, __: self.crm)

    async def call(self, tool: str, client: Client | None = None, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool, as a client whose person says yes unless another is given."""
        client = client or Person.agreeing()
        return await self.pipeline.act(self.intent(tool, client, **arguments), client)

    async def preview(self, tool: str, /, **arguments: Any) -> tuple[Mapping[str, Any], Preview]:
        """Return the arguments of a call as they would run, and what a person would be shown of it."""
        intent = self.intent(tool, **arguments)
        return intent.arguments, await intent.preview(True)

    # Who is in the CRM

    async def with_jane(self) -> App:
        """Make the lead that a test is about: she has a telephone number, and nothing else."""
        self.lead = await self.crm.create_lead(LeadDraft(name="Jane Doe", phone=NUMBER))
        return self

    async def new_lead(self, number: str = NUMBER) -> str:
        """Return the id of a new lead, who has a telephone number and an e-mail address."""
        draft = LeadDraft(name="Jane Doe", phone=number, email=f"jane{number}@doe.example")
        return (await self.crm.create_lead(draft)).id

    async def new_leads(self, count: int) -> list[str]:
        """Return the ids of new leads that can be enrolled."""
        rows = [ImportRow(draft=LeadDraft(name=f"Person {n}", email=f"person{n}@many.example")) for n in range(count)]
        outcomes = await Local.import_leads(self.crm, rows, "error")
        return [each.id for each in outcomes if each.id]

    async def move_number(self, phone: str = "+14155550199") -> None:
        """Let somebody change the lead's number in the CRM."""
        await self.crm.update_lead(self.lead.id, LeadUpdate(phone=phone))

    async def with_email(self, ending: str) -> list[str]:
        """Return the addresses of the leads that end so, each as often as a lead has it."""
        found: list[str] = []
        offset: str | None = None
        while True:
            page = await self.crm.search_leads(LeadFilter(), Slice(limit=100, position=offset))
            found += [each.email for each in page.items if each.email and each.email.endswith(ending)]
            if page.next is None:
                return found
            offset = page.next

    # What is written to them, and by them

    def sms(self, message: str = "On my way") -> Intent:
        """Return the call that sends an SMS to the lead."""
        return self.intent("send_sms", lead=self.lead.id, message=message)

    async def sent(self, lead: str | None = None) -> list[str | None]:
        """Return the messages of a lead, or of the one that the test is about."""
        page = await self.crm.list_messages(lead or self.lead.id, Slice(limit=100))
        return [each.body for each in page.items]

    def receives(
        self, lead: str, text: str, channel: Channel = "sms", subject: str | None = None, **before: float
    ) -> None:
        """Let a lead have written this, an hour ago unless another time is given."""
        at = self.clock() - timedelta(**(before or {"hours": 1}))
        with sqlite3.connect(self.settings.data_dir / FILE) as db:
            db.execute(
                "INSERT INTO messages (lead, channel, direction, subject, body, status, sent_at)"
                " VALUES (?, ?, 'inbound', ?, ?, 'received', ?)",
                (int(lead[1:]), channel, subject, text, int(at.timestamp() * 1000)),
            )
        db.close()

    # What no tool does

    def write(self, run: Callable[[], Awaitable[Outcome]], **arguments: Any) -> Intent:
        """Return the call of a tool that does this, with the generic preview."""

        async def given(_: Preview) -> Outcome:
            return await run()

        return intent(self.context, log_note, arguments, given)

    async def under(self, run: Callable[[], Awaitable[T]], effect: str = "write", by: str = "policy") -> T:
        """Do something in the name of an action of this effect that is under way."""
        new = NewAction(
            caller=ANN, connection="local", tool="log_note", effect=effect, arguments={}, digest="", summary="a test"
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
