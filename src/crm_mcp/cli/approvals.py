"""`crm-mcp approvals` and `crm-mcp outbound`: what a person decides of actions that wait, and of all that goes out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from crm_mcp.config import operating_system_user
from crm_mcp.errors import CrmError
from crm_mcp.model import rfc3339
from crm_mcp.server.app import Application
from crm_mcp.store import Action
from crm_mcp.text import neutral

APPROVED = frozenset({"done", "scheduled", "running", "undone"})
DECLINED = frozenset({"declined"})


async def list_waiting(application: Application) -> int:
    """Print what waits for a person, the oldest first, each with all that is known of it."""
    async with _closing(application):
        rows = await _waiting(application)
    if not rows:
        print("nothing waits for approval")
    for row in rows:
        until = f", until {rfc3339(row.expires_at)}" if row.expires_at else ""
        print(f"{row.id}  {row.tool} on {row.connection}, asked by {neutral(row.caller)}{until}")
        for line in neutral(row.preview or row.summary).splitlines():
            print(f"    {line}")
    return 0


async def decide(application: Application, ids: list[str], *, approve: bool) -> int:
    """Approve or decline actions by their ids, each on its own; returns 1 where one did not end as it was wanted."""
    person = operating_system_user()
    well = True
    async with _closing(application):
        for action_id in dict.fromkeys(ids):
            try:
                result = await _decided(application, action_id, person, approve=approve)
            except CrmError as error:
                result = {"status": "not decided", "reason": f"{error.code}: {error}"}
            well = well and result["status"] in (APPROVED if approve else DECLINED)
            reason = f": {result['reason']}" if result.get("reason") else ""
            print(f"{action_id}  {result['status']}{neutral(reason)}")
    return 0 if well else 1


async def _decided(application: Application, action_id: str, person: str, *, approve: bool) -> dict[str, Any]:
    row = await application.store.get(action_id)
    if row is None:
        return {"status": "not found", "reason": "see `crm-mcp approvals`"}
    if row.status != "pending_approval":
        return {
            "status": row.status,
            "reason": "it does not wait for approval" + (f": {row.reason}" if row.reason else ""),
        }
    if not approve:
        ended = await application.store.call_off(row.id, None, "declined", f"declined by {person}", by=person)
        return {"status": ended.status} if ended else {"status": "not decided", "reason": "somebody else was first"}
    desk = application.desks.get(row.connection)
    if desk is None:
        return {"status": "not decided", "reason": f"the connection {row.connection} is not configured here"}
    print(f"{row.id}  {neutral(row.summary)}")
    return await desk.approve(row, person)


async def _waiting(application: Application) -> list[Action]:
    rows: list[Action] = []
    after: str | None = None
    while True:
        page, after = await application.store.list_actions(
            caller=None, status="pending_approval", lead=None, after=after, limit=100
        )
        rows += page
        if after is None:
            return rows[::-1]


async def switch_outbound(application: Application, wanted: str | None) -> int:
    """Turn the kill switch, which every process on this state reads before every send; `wanted` None: say how it is."""
    async with _closing(application):
        if wanted:
            await application.store.set_outbound(wanted == "on", operating_system_user())
        off = await application.store.outbound()
    if application.settings.policy.outbound == "off":
        print("outbound is off: policy.outbound in the settings file says so, and only a change there lifts it")
        return 1 if wanted == "on" else 0
    print(f"outbound is off: {neutral(off)}; nothing goes out" if off else "outbound is on")
    return 0


@asynccontextmanager
async def _closing(application: Application) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await application.aclose()
