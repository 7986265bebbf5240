"""One server in this process with a real client in front of it, on a clock of its own, and what is asked of both."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
import mcp_types as types
from mcp import Client

from crm_mcp.config import Settings
from crm_mcp.errors import CrmError
from crm_mcp.model import now
from crm_mcp.server.app import Application
from crm_mcp.store import FILE_NAME, Action, Status
from tests.harness.app import Process
from tests.harness.clock import RunningClock

Confirmation = Literal["allow", "yes", "legacy", "token", "approval"]
CONFIRMATIONS: tuple[Confirmation, ...] = ("allow", "yes", "token", "approval", "legacy")
"""How an action gets its confirmation: by the policy, a question in each era of the protocol, a token, the queue."""
VERDICTS: Mapping[Confirmation, str] = {
    "allow": "allow",
    "yes": "confirm",
    "legacy": "confirm",
    "token": "confirm",
    "approval": "approve",
}
CONFIRMED: Mapping[Confirmation, str] = {
    "allow": "policy",
    "yes": "elicitation",
    "legacy": "elicitation",
    "token": "token",
    "approval": "approval: Ann",
}
"""What stands as `approved_by` of whatever was confirmed so."""
ENDED: frozenset[Status] = frozenset(
    {"done", "failed", "declined", "expired", "cancelled", "blocked", "undone", "unknown"}
)
WAITING: frozenset[Status] = frozenset({"proposed", "pending_approval"})
"""States in which a person has yet to say something: nothing has left, and everybody can see it."""
SAID = frozenset(
    (
        *("done", "confirmation_required", "pending_approval", "scheduled", "running", "declined", "expired"),
        *("cancelled", "blocked", "duplicate", "unknown", "failed", "undone"),
    )
)
"""What an action result may say."""
SETTLED_WITHIN = 30.0
"""Seconds within which everything is settled once the faults have stopped."""
YES = types.ElicitResult(action="accept", content={"confirm": True})
AGENT = types.Implementation(name="faults", version="1")


@dataclass
class Said:
    """What a client was told."""

    status: str
    """Of the action result, or `error`."""
    action: str | None
    line: str
    seconds: float
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Served(Process):
    """A server and its client, whose actions all get their confirmation in one way."""

    client: Client

    def __init__(self, given: Settings, by: Confirmation, clock: RunningClock) -> None:
        super().__init__(given, clock)
        self.clock = clock
        self.by = by
        self.connection = self.context.connection

    async def call(self, tool: str, /, **arguments: Any) -> Said:
        """Make one call, without whatever it needs beyond."""
        began = now()
        result = await self.client.call_tool(tool, arguments)
        line = "\n".join(each.text for each in result.content if isinstance(each, types.TextContent))
        fields: dict[str, Any] = result.structured_content or {}
        status = fields.get("status") or ("error" if result.is_error else "read")
        return Said(status, fields.get("action_id"), line, (now() - began).total_seconds(), fields)

    async def ask(self, tool: str, arguments: Mapping[str, Any]) -> list[Said]:
        """Make a call, and say yes to it wherever somebody has to."""
        said = [await self.call(tool, **arguments)]
        if said[-1].status == "confirmation_required":
            given = {"action_id": said[-1].action, "summary": said[-1].fields["summary"]}
            said.append(await self.call("confirm_action", **given))
        elif said[-1].status == "pending_approval":
            said.append(await self.approve(said[-1].action or ""))
        return said

    async def approve(self, action: str) -> Said:
        """Say yes to what waits in the queue."""
        began = now()
        row = await self.row(action)
        try:
            fields = await self.pipeline.approve(row, "Ann")
        except CrmError as error:
            return Said("error", action, f"{error.code}: {error}", (now() - began).total_seconds())
        return Said(fields["status"], fields.get("action_id"), "", (now() - began).total_seconds(), fields)

    async def recover(self, rounds: int = 6) -> None:
        """Work on what waits, with the clock put forward to the time of each, until all is settled or only looked at
        in vain."""
        self.clock.advance(seconds=20)
        for _ in range(rounds):
            await self.work()
            due = await self.store.actions.next_due((self.connection,))
            if due is None:
                break
            self.clock.advance(seconds=max((due - self.clock()).total_seconds(), 0) + 0.1)
        await self.until(lambda rows: all(row.status in ENDED | WAITING for row in rows))

    async def until(self, holds: Callable[[list[Action]], bool], within: float = SETTLED_WITHIN) -> None:
        """Wait until something holds of all actions, or the time is over: who judges them says what is wrong then."""
        with anyio.move_on_after(within):
            while not holds(await self.rows()):  # noqa: ASYNC110 - it happens in the state: nobody tells of it
                await anyio.sleep(0.1)


def all_by(by: Confirmation) -> dict[str, Any]:
    """Return a policy under which every effect gets its confirmation in this way, at any hour."""
    return {**dict.fromkeys(("write", "outward", "destructive"), VERDICTS[by]), "quiet_hours": "off"}


@asynccontextmanager
async def started(given: Settings, by: Confirmation, clock: RunningClock | None = None) -> AsyncGenerator[Served]:
    """Start a server, and a client whose confirmations come in this way."""
    served = Served(given, by, clock or RunningClock())
    async with talking(served.application, by) as served.client:
        yield served


@asynccontextmanager
async def talking(application: Application, by: Confirmation) -> AsyncGenerator[Client]:
    """Connect a client, whose person says yes where it can be asked."""

    async def yes(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        return YES

    asked = yes if by in ("yes", "legacy") else None
    mode: Any = "legacy" if by == "legacy" else "auto"
    async with Client(application.server, mode=mode, client_info=AGENT, elicitation_callback=asked) as client:
        yield client


def made_state(folder: Path) -> Path:
    """Make a state file at the newest layout, to be copied: making one takes longer than everything else here."""
    from crm_mcp.store.database import Database

    folder.mkdir(parents=True, exist_ok=True)
    database = Database(folder / FILE_NAME, 1)
    with database.reading():
        pass
    database.close()
    return folder / FILE_NAME


def copied(template: Path, folder: Path) -> Path:
    """Return a new folder with a copy of a folder's files."""
    shutil.copytree(template, folder)
    return folder
