"""The toolset `admin`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from crm_mcp import __version__
from crm_mcp.actions.approval import Client, Done, Preview, named
from crm_mcp.actions.desk import Desk, shown
from crm_mcp.actions.policy import Effect
from crm_mcp.actions.undo import preview_undo, undo
from crm_mcp.backends.base import DeletesRecords, FindsLeads, KeepsTasks, ListsOptions, LogsNotes, ReadsDeals
from crm_mcp.errors import CrmError, Unsupported
from crm_mcp.model import OptionKind, RecordKind, rfc3339
from crm_mcp.server.arguments import Cursor, Id, LeadKey, Limit
from crm_mcp.server.listing import fitted, seal, unseal
from crm_mcp.server.tool import tool

ActionStatus = Literal[
    "done",
    "failed",
    "confirmation_required",
    "declined",
    "expired",
    "cancelled",
    "blocked",
    "running",
    "unknown",
    "undone",
]


async def ask_delete_record(desk: Desk, kind: RecordKind, id: str) -> Preview:
    """Read the record and count what goes with it."""
    crm = desk.crm(DeletesRecords)
    if kind not in crm.deletes:
        raise Unsupported(
            f"{desk.backend.vendor} can't delete a {kind}", f"it can delete: {', '.join(sorted(crm.deletes))}"
        )
    label, lead, facts = await _look(desk, kind, id)
    along = {name: count for name, count in (await crm.goes_with(kind, id)).items() if count}
    with_it = ", ".join(f"{count} {name if count > 1 else name.removesuffix('s')}" for name, count in along.items())
    return Preview(
        summary=f"Delete {named(kind, id, label)}" + (f" and with it {with_it}" if with_it else ""),
        details="can't be undone",
        facts={**facts, "with it": along},
        lead=lead,
    )


@tool(Effect.DESTRUCTIVE, needs=DeletesRecords, ask=ask_delete_record, idempotent=True)
async def delete_record(desk: Desk, kind: RecordKind, id: Id) -> Done:
    """Delete a lead, task, deal or note, and what belongs to it. The user is asked first. Can't be undone."""
    label, lead, _ = await _look(desk, kind, id)
    await desk.crm(DeletesRecords).delete(kind, id)
    return Done(f"deleted {named(kind, id, label)}", lead=lead, touched=((kind, id),))


@tool(Effect.DESTRUCTIVE, direct=True)
async def confirm_action(
    desk: Desk,
    client: Client,
    action_id: Id,
    summary: Annotated[str, Field(description="the action's summary, word for word", max_length=4000)],
) -> dict[str, Any]:
    """Carry out an action that answered confirmation_required, after the user has seen its summary and said yes."""
    return await desk.redeem(action_id, summary, client)


async def ask_undo_action(desk: Desk, client: Client, action_id: str) -> Preview:
    """Say what would be put back."""
    return await preview_undo(desk, action_id, client.caller)


@tool(Effect.WRITE, ask=ask_undo_action, decides=True)
async def undo_action(desk: Desk, client: Client, action_id: Id) -> Done:
    """Take back an update, stage move, tag or task change of your own, unless the record has changed since."""
    return await undo(desk, action_id, client.caller)


@tool(Effect.READ, always=True)
async def list_actions(
    desk: Desk,
    status: ActionStatus | None = None,
    lead: LeadKey | None = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> dict[str, Any]:
    """List what was done or tried through this server, newest first: who, what, when, outcome."""
    of = await _lead_or_former(desk, lead) if lead else None
    query = {"list_actions": of, "status": status}
    after = unseal(desk, query, cursor) if cursor else None
    stored = "proposed" if status == "confirmation_required" else status

    async def build(most: int) -> dict[str, Any]:
        rows, following = await desk.store.list_actions(caller=None, status=stored, lead=of, after=after, limit=most)
        actions = [
            {
                **{
                    name: value
                    for name, value in shown(row).items()
                    if name in ("action_id", "status", "summary", "reason")
                },
                "tool": row.tool,
                "at": rfc3339(row.created_at),
                "caller": row.caller,
                **({"approved_by": row.approved_by} if row.approved_by else {}),
                **({"lead_id": row.lead} if row.lead else {}),
            }
            for row in rows
        ]
        return {"actions": actions, "next_cursor": seal(desk, query, following) if following else None}

    return await fitted(limit, build)


@tool(Effect.READ, needs=ListsOptions, always=True)
async def list_options(desk: Desk, kind: OptionKind) -> dict[str, Any]:
    """List the values of a field, with their ids.

    New statuses, tags, owners, lists and custom fields come into being when they are written.
    """
    crm = desk.crm(ListsOptions)
    if kind not in crm.option_kinds:
        raise Unsupported(f"{desk.backend.vendor} has no {kind}", f"it has {', '.join(crm.option_kinds)}")
    return {"options": [each.shown() for each in await crm.list_options(kind)]}


@tool(Effect.READ)
async def crm_status(desk: Desk) -> dict[str, Any]:
    """Say which CRM is connected, whether it answers, what it can do, and what the policy asks for."""
    connection: dict[str, Any] = {"crm": desk.connection, "vendor": desk.backend.vendor}
    try:
        account = await desk.backend.check()
    except CrmError as error:
        connection |= {"status": "error", "error": f"{error.code}: {error}"}
    else:
        connection |= {"status": "ok", "found": account.found, **({"user": account.user} if account.user else {})}
    connection["capabilities"] = list(desk.backend.capabilities())
    connection["rate_budget"] = "unlimited" if desk.backend.vendor == "local" else "unknown"
    policy: dict[str, Any] = dict(desk.policy.shown())
    policy |= {"read_only": desk.settings.read_only, "dry_run": desk.settings.dry_run}
    return {"connections": [connection], "policy": policy, "version": __version__}


async def _look(desk: Desk, kind: RecordKind, record: str) -> tuple[str, str | None, dict[str, Any]]:
    """Return what a record is called, the lead it belongs to, and what is known of it."""
    match kind:
        case "lead":
            lead = await desk.crm(FindsLeads).get_lead(record)
            return lead.label, lead.id, lead.shown()
        case "task":
            task = await desk.crm(KeepsTasks).get_task(record)
            return task.title or task.id, task.lead_id, task.shown()
        case "deal":
            deal = await desk.crm(ReadsDeals).get_deal(record)
            return deal.name or deal.id, deal.lead_id, deal.shown()
        case "note":
            note = await desk.crm(LogsNotes).get_note(record)
            return f'"{(note.content or "")[:60]}"', note.lead_id, note.shown()


async def _lead_or_former(desk: Desk, key: str) -> str:
    """Return a lead's id; the actions of a lead that is gone can be listed by its id still."""
    try:
        return (await desk.lead(key)).id
    except CrmError:
        if "@" in key or key.startswith("+"):
            raise
        return key


TOOLS = (delete_record, confirm_action, undo_action, list_actions, list_options, crm_status)
