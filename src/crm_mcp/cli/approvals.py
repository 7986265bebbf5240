"""`crm-mcp approvals` and `crm-mcp outbound`: what a person decides of actions that wait, and of all that goes out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from crm_mcp.cli.terminal import MARGIN, say, say_lines
from crm_mcp.config import operating_system_user
from crm_mcp.errors import CrmError
from crm_mcp.model import rfc3339
from crm_mcp.server.app import Application
from crm_mcp.store import Action
from crm_mcp.text import in_quotes, one_line

Ask = Callable[[str], bool]
"""Asks the person, with these words last; what it is about has been shown."""

APPROVED = frozenset({"done", "scheduled", "running", "undone"})
WAITS = "not approved; it goes on waiting"
CALLER_MOST = 160
SHOWN = ("caller", "connection", "tool", "effect", "arguments", "summary", "preview", "facts", "created_at")
"""What a person is shown of an action, and what runs after a yes: a yes is to exactly these."""


async def list_waiting(application: Application) -> int:
    """Print what waits for a person, the oldest first, each with all that is known of it."""
    async with _closing(application):
        rows = await _waiting(application)
    if not rows:
        say("nothing waits for approval")
    for row in rows:
        show(row)
    return 0


async def approve(application: Application, ids: Sequence[str], ask: Ask | None) -> int:
    """Show actions whole, one after the other, and run each that the person says yes to; without `ask` all of them.

    Returns the exit code: 1 where one did not end as it was wanted, 3 where the person said no to one.
    """
    person = operating_system_user()
    code = 0
    async with _closing(application):
        for action_id in dict.fromkeys(ids):
            try:
                result = await _approved(application, action_id, person, ask)
            except CrmError as error:
                result = {"status": "not decided", "reason": f"{error.code}: {error}"}
            _tell(action_id, result)
            refused = result.get("reason") == WAITS
            code = max(code, 3 if refused else int(result["status"] not in APPROVED))
    return code


async def decline(application: Application, ids: Sequence[str]) -> int:
    """Decline actions by their ids, each on its own; returns 1 where one is not declined."""
    person = operating_system_user()
    well = True
    async with _closing(application):
        for action_id in dict.fromkeys(ids):
            try:
                result = await _declined(application, action_id, person)
            except CrmError as error:
                result = {"status": "not decided", "reason": f"{error.code}: {error}"}
            _tell(action_id, result)
            well = well and result["status"] == "declined"
    return 0 if well else 1


def show(row: Action, *, err: bool = False) -> None:
    """Write an action whole: a heading of ours, and below it, behind a margin, the whole preview."""
    until = f", until {rfc3339(row.expires_at)}" if row.expires_at else ""
    who = f"asked by {in_quotes(row.caller, CALLER_MOST)}, since {rfc3339(row.created_at)}{until}"
    heading = f"{row.id}  {one_line(row.tool)[:80]} on {one_line(row.connection)}, {who}"
    say(heading, more=2 * MARGIN, err=err, paged=True)  # where it is wrapped, it is no line of the preview either
    say_lines(row.preview or row.summary, margin=MARGIN, err=err, paged=True)


def _tell(action_id: str, result: dict[str, Any]) -> None:
    reason = f": {one_line(result['reason'])}" if result.get("reason") else ""
    say(f"{one_line(action_id)[:80]}  {result['status']}{reason}")


async def _found(application: Application, action_id: str) -> Action | dict[str, Any]:
    """Return an action that waits for approval, or what is to be told of it instead."""
    row = await application.store.actions.get(action_id)
    if row is None:
        return {"status": "not found", "reason": "see `crm-mcp approvals`"}
    if row.status != "pending_approval":
        why = "it does not wait for approval" + (f": {row.reason}" if row.reason else "")
        return {"status": row.status, "reason": why}
    return row


async def _approved(application: Application, action_id: str, person: str, ask: Ask | None) -> dict[str, Any]:
    row = await _found(application, action_id)
    if isinstance(row, dict):
        return row
    pipeline = application.pipelines.get(row.connection)
    if pipeline is None:
        return {"status": "not decided", "reason": f"the connection {row.connection} is not configured here"}
    show(row, err=ask is not None)  # where it is asked, whatever becomes of stdout: a yes is to what was seen
    if ask:
        if not ask(f"Approve {row.id}?"):
            return {"status": row.status, "reason": WAITS}
        now = await _found(application, action_id)
        if isinstance(now, dict):
            return now
        if any(getattr(now, name) != getattr(row, name) for name in SHOWN):
            return {"status": "not decided", "reason": "it has changed since it was shown; look at it again"}
    return await pipeline.approve(row, person)


async def _declined(application: Application, action_id: str, person: str) -> dict[str, Any]:
    row = await _found(application, action_id)
    if isinstance(row, dict):
        return row
    ended = await application.store.actions.call_off(row.id, None, "declined", f"declined by {person}", by=person)
    return {"status": ended.status} if ended else {"status": "not decided", "reason": "somebody else was first"}


async def _waiting(application: Application) -> list[Action]:
    rows: list[Action] = []
    after: str | None = None
    while True:
        page, after = await application.store.actions.page(
            caller=None, status="pending_approval", lead=None, after=after, limit=100
        )
        rows += page
        if after is None:
            return rows[::-1]


async def switch_outbound(application: Application, wanted: str | None) -> int:
    """Turn the kill switch, which every process on this state reads before every send; `wanted` None: say how it is."""
    async with _closing(application):
        if wanted:
            await application.store.limits.set_outbound(wanted == "on", operating_system_user())
        off = await application.store.limits.outbound()
    if application.settings.policy.outbound == "off":
        say("outbound is off: policy.outbound in the settings file says so, and only a change there lifts it")
        return 1 if wanted == "on" else 0
    say(f"outbound is off: {off}; nothing goes out" if off else "outbound is on")
    return 0


@asynccontextmanager
async def _closing(application: Application) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await application.aclose()
