"""A server's parts with its real tools, on a folder: several benches on one folder are several processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Tools
from crm_mcp.actions.guarded_crm import open_context
from crm_mcp.actions.guards.policy import Policy
from crm_mcp.actions.intent import Answer, Client, Intent, Preview
from crm_mcp.actions.jobs import work_through
from crm_mcp.actions.outbox import Outbox
from crm_mcp.actions.pipeline import Pipeline
from crm_mcp.actions.worker import Worker
from crm_mcp.backends.local import Local
from crm_mcp.config import Connection, PolicySettings, Settings
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, LeadDraft, LeadFilter, Slice
from crm_mcp.server.tools import TOOLS
from crm_mcp.store import Action, Item, Store

from .roads import Clock, Person

SEQUENCE = "Follow-up"
OURS = "me@crm.example"
"""An address of ours, besides the mailbox."""
_BY_NAME = {each.name: each for each in TOOLS}


class Killed(BaseException):
    """The process dies here."""


class Watcher(Person):
    """A person who says yes, is told how far a job is, and may do something about it."""

    def __init__(self, *, caller: str = "ann via tests") -> None:
        yes: list[Answer] = ["yes"] * 20
        super().__init__(*yes, caller=caller)
        self.told: list[tuple[int, int]] = []
        self.then: Callable[[], Awaitable[object]] | None = None

    async def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))
        if self.then:
            then, self.then = self.then, None
            await then()


class Crm(Local):
    """The embedded CRM, which remembers what it was asked, and may be made to wait or fail first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, sample=True)
        self.imported: list[str | None] = []
        self.enrolling: list[str] = []
        self.first: Callable[[], Awaitable[object]] | None = None

    async def import_leads(self, rows: Sequence[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        self.imported += [each.draft.email for each in rows]
        if self.first:
            await self.first()
        return await super().import_leads(rows, if_exists)

    async def enroll(self, sequence: str, lead: str) -> str | None:
        self.enrolling.append(lead)
        if self.first:
            await self.first()
        return await super().enroll(sequence, lead)


class Untold(Crm):
    """A CRM that does not recognise what was imported before, nor tells who is enrolled."""

    repeatable = False
    enrols_once = False
    import_size = 50

    async def enrolled(self, sequence: str, lead: str) -> bool | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        del sequence, lead
        return None


class Bench:
    """One process."""

    def __init__(self, folder: Path, clock: Clock, crm: type[Crm] = Crm, policy: PolicySettings | None = None) -> None:
        ours = (Connection(own_addresses=(OURS,)),)
        self.settings = Settings(connections=ours, data_dir=folder, policy=policy or PolicySettings())
        self.clock = clock
        self.crm = crm(folder)
        self.store = Store(folder, clock=clock)
        self.outbox = Outbox(self.store, work_through)
        self.worker = Worker(self.outbox, lambda row: self.pipeline.again(row))
        judge = Policy(self.settings.policy, Tools(TOOLS))
        connection = self.settings.connections[0]
        self.context = open_context(self.settings, connection, self.crm, self.store, judge)
        self.pipeline = Pipeline(self.context, self._made, self.outbox)

    def _made(self, context: Context, tool: str, arguments: Mapping[str, Any], client: Client) -> Intent:
        known = _BY_NAME[tool]
        return known.intent(context, known.check(arguments), client)

    async def call(self, tool: str, client: Client | None = None, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool, as a client whose person says yes."""
        client = client or Watcher()
        return await self.pipeline.act(self._made(self.context, tool, arguments, client), client)

    async def preview(self, tool: str, /, **arguments: Any) -> tuple[Mapping[str, Any], Preview]:
        """Return the arguments of a call as they would run, and what a person would be shown of it."""
        intent = self._made(self.context, tool, arguments, Person())
        return intent.arguments, await intent.preview(True)

    def dies_at(self, step: str, after: int = 1) -> None:
        """Let the process die when this step is reached for the `after`-th time."""
        left = after

        def at(reached: str) -> None:
            nonlocal left
            left -= reached == step
            if reached == step and left == 0:
                raise Killed

        self.outbox.at = at

    async def leads(self, count: int) -> list[str]:
        """Return the ids of new leads that can be enrolled."""
        rows = [ImportRow(draft=LeadDraft(name=f"Person {n}", email=f"person{n}@many.example")) for n in range(count)]
        outcomes = await Local.import_leads(self.crm, rows, "error")
        return [each.id for each in outcomes if each.id]

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

    async def row(self, action_id: str) -> Action:
        found = await self.store.actions.get(action_id)
        assert found is not None
        return found

    async def newest(self) -> Action:
        rows, _ = await self.store.actions.page(caller=None, status=None, lead=None, after=None, limit=1)
        return rows[0]

    async def ended(self, action_id: str) -> list[Item]:
        """Return the items of a job, all of which have ended."""
        items = [*await self.store.items.all(action_id)]
        assert not [each for each in items if each.status in ("waiting", "sending")]
        return items

    async def close(self) -> None:
        await self.crm.aclose()
        await self.store.aclose()
