"""The toolset `admin`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field

from crm_mcp import __version__
from crm_mcp.actions import reconcile
from crm_mcp.actions.action_result import action_result
from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.intent import Client, Outcome, Preview, under_way
from crm_mcp.actions.pipeline import Pipeline
from crm_mcp.actions.summary import name_record, quote
from crm_mcp.actions.undo import deletion
from crm_mcp.actions.undo.undo import preview_undo, reconcile_undo, undo
from crm_mcp.backends.base import DeletesRecords, GivesMetrics, ListsOptions
from crm_mcp.errors import CrmError, InvalidArgument, NotFound, Unsupported, saying
from crm_mcp.model import Deal, Lead, Note, OptionKind, RecordKind, Task, rfc3339
from crm_mcp.server.arguments import Cursor, Id, LeadKey, Limit, When
from crm_mcp.server.fan_out import ask_each
from crm_mcp.server.pagination import fitted, only_connection, seal, unseal
from crm_mcp.server.tool import Arguments, tool
from crm_mcp.store import Action, Status

ActionStatus = Literal[
    "done",
    "failed",
    "confirmation_required",
    "pending_approval",
    "scheduled",
    "declined",
    "expired",
    "cancelled",
    "blocked",
    "running",
    "unknown",
    "undone",
    "dry_run",
]


NOTE_START = 60
"""Characters of a note by which it is called."""
WITH_IT = "with it"
"""The fact of a deletion that counts what it takes along."""


class DeleteRecord(Arguments):
    kind: RecordKind
    id: Id


async def ask_delete_record(context: Context, call: DeleteRecord) -> Preview:
    """Read the record, count what goes with it, and say whether it could come back."""
    kind, id = call.kind, call.id
    crm = context.crm(DeletesRecords)
    if kind not in crm.deletes:
        raise Unsupported(f"{context.vendor} can't delete a {kind}", f"it can delete: {', '.join(sorted(crm.deletes))}")
    record = await reconcile.read_record(context, kind, id)
    along = {name: count for name, count in (await crm.goes_with(kind, id)).items() if count}
    fields, label = record.shown(), _label(record)
    kept = await deletion.keep(context, kind, record.id, fields, label)
    return Preview(
        summary=f"Delete {name_record(kind, id, label)}" + (f" and with it {deletion.counted(along)}" if along else ""),
        details=deletion.way_back(context, kind, kept, along),
        facts={**fields, WITH_IT: along},
        size=1 + sum(along.values()),
        lead=record.id if isinstance(record, Lead) else record.lead_id,
        lead_read=record if isinstance(record, Lead) else None,
    )


async def reconcile_delete_record(context: Context, call: DeleteRecord, row: Action) -> Outcome | None:
    """Look whether the record is gone."""
    kind, id = call.kind, call.id
    if not await reconcile.is_gone(context, kind, id):
        return None
    label = str(row.undo["label"]) if row.undo else id
    return Outcome(f"deleted {name_record(kind, id, label)}", lead=row.lead, touched=((kind, id),))


@tool(
    Effect.DESTRUCTIVE,
    needs=DeletesRecords,
    deletes=True,
    ask=ask_delete_record,
    reconcile=reconcile_delete_record,
    idempotent=True,
)
async def delete_record(context: Context, call: DeleteRecord, shown: Preview) -> Outcome:
    """Delete a lead, task, deal or note, and what belongs to it. The user is asked first, and told what of it can be
    undone."""
    kind, id = call.kind, call.id
    fields = {name: value for name, value in shown.facts.items() if name != WITH_IT}
    label = _label(shown.lead_read or await reconcile.read_record(context, kind, id))
    with saying(wrote=False):
        kept = await deletion.keep(context, kind, id, fields, label)
        if kept and (work := under_way.get()):
            await context.store.actions.keep_undo(work.row.id, kept)  # before it is gone: then a crash loses nothing
    await context.crm(DeletesRecords).delete(kind, id)
    return Outcome(f"deleted {name_record(kind, id, label)}", lead=shown.lead, touched=((kind, id),), undo=kept)


@tool(Effect.DESTRUCTIVE, answers=True, by_action=True)
async def confirm_action(
    pipeline: Pipeline,
    client: Client,
    action_id: Id,
    summary: Annotated[str, Field(description="the action's summary, word for word", max_length=4000)],
) -> dict[str, Any]:
    """Carry out an action that answered confirmation_required, after the user has seen its summary and said yes."""
    return await pipeline.redeem(action_id, summary, client)


class UndoAction(Arguments):
    action_id: Id


async def ask_undo_action(context: Context, call: UndoAction, client: Client) -> Preview:
    """Say what would be put back."""
    return await preview_undo(context, call.action_id, client.caller)


async def reconcile_undo_action(context: Context, call: UndoAction, row: Action) -> Outcome | None:
    """Look whether it was taken back."""
    return await reconcile_undo(context, call.action_id, row)


@tool(
    Effect.WRITE,
    undoes=True,
    by_action=True,
    instead="make the change again",
    ask=ask_undo_action,
    reconcile=reconcile_undo_action,
    decides=True,
)
async def undo_action(context: Context, call: UndoAction, client: Client, shown: Preview) -> Outcome:
    """Take back an action of your own: a change (unless the record has changed since), a deletion, an enrolment; or
    cancel what waits, is scheduled or runs."""
    return await undo(context, call.action_id, client.caller, waits=shown.unasked)


@tool(Effect.READ, always=True, across="actions")
async def list_actions(
    contexts: tuple[Context, ...],
    status: ActionStatus | None = None,
    lead: LeadKey | None = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> dict[str, Any]:
    """List what was done or tried through this server, newest first: who, what, when, outcome."""
    context, connection = contexts[0], only_connection(contexts)
    of, failed = await _lead_or_former(contexts, lead) if lead else (None, [])
    query = {list_actions.name: lead, "status": status, "crm": connection}
    after = unseal(context, query, cursor) if cursor else None
    stored = cast("Status | None", "proposed" if status == "confirmation_required" else status)

    async def build(most: int) -> dict[str, Any]:
        rows, following = await context.store.actions.page(
            caller=None, status=stored, lead=of, after=after, limit=most, connection=connection
        )
        actions = [
            {
                **({"crm": row.connection} if len(contexts) > 1 else {}),
                **{
                    name: value
                    for name, value in action_result(row).items()
                    if name in ("action_id", "status", "summary", "reason", "expires_at", "due_at", "progress")
                },
                "tool": row.tool,
                "at": rfc3339(row.created_at),
                "caller": row.caller,
                **({"approved_by": row.approved_by} if row.approved_by else {}),
                **({"lead_id": row.lead} if row.lead else {}),
            }
            for row in rows
        ]
        result = {"actions": actions, "next_cursor": seal(context, query, following) if following else None}
        return result | ({"connections": failed} if failed else {})

    return await fitted(limit, build)


@tool(Effect.READ, needs=ListsOptions, always=True, across="options")
async def list_options(context: Context, kind: OptionKind) -> dict[str, Any]:
    """List the values of a field, with their ids.

    New statuses, tags, owners, lists and custom fields come into being when they are written.
    """
    crm = context.crm(ListsOptions)
    if kind not in crm.option_kinds:
        raise Unsupported(f"{context.vendor} has no {kind}", f"it has {', '.join(crm.option_kinds)}")
    return {"options": [each.shown() for each in await crm.list_options(kind)]}


@tool(Effect.READ, across="connections")
async def crm_status(contexts: tuple[Context, ...]) -> dict[str, Any]:
    """Say which CRM is connected, whether it answers, what it can do, what is left of its limits, and what the policy
    asks for."""
    connections = await ask_each(_status, contexts)
    policy: dict[str, Any] = dict(contexts[0].policy.shown())
    policy |= {"read_only": contexts[0].settings.read_only, "dry_run": contexts[0].settings.dry_run}
    return {"connections": connections, "policy": policy, "version": __version__}


@tool(Effect.READ, needs=GivesMetrics)
async def get_metrics(context: Context, since: When | None = None, until: When | None = None) -> dict[str, Any]:
    """Count what outreach achieved in a period: sent, opened, answered, accepted. Default: the last 30 days."""
    if since and until and since >= until:
        raise InvalidArgument("since is not before until", "give a period as since 2026-03-01, until 2026-04-01")
    return {"metrics": await context.crm(GivesMetrics).metrics(since, until)}


async def _status(context: Context) -> dict[str, Any]:
    """Return what is known of one connection."""
    connection: dict[str, Any] = {"crm": context.connection, "vendor": context.vendor}
    try:
        account = await context.account.check()
    except CrmError as error:
        connection |= {"status": "error", "error": f"{error.code}: {error}"}
    else:
        connection |= {"status": "ok", **account.shown()}
    connection["capabilities"] = list(context.account.capabilities())
    budget = await context.account.budget()
    connection["rate_budget"] = [each.shown() for each in budget] or "unlimited"
    return connection


def _label(record: Lead | Task | Deal | Note) -> str:
    """Return what a record is called."""
    match record:
        case Lead():
            return record.label
        case Task():
            return record.title or record.id
        case Note():
            return quote(record.content or "", NOTE_START, NOTE_START)
        case _:
            return record.name or record.id


async def _lead_or_former(contexts: tuple[Context, ...], key: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return a lead's id in each connection that has it, and what is wrong with those that could not be asked.

    The actions of a lead that is gone can be listed by its id still.
    """

    async def find(context: Context) -> str | CrmError:
        try:
            return (await context.lead(key)).id
        except CrmError as error:
            return error if "@" in key or key.startswith("+") else key

    found = dict(zip((each.connection for each in contexts), await ask_each(find, contexts), strict=True))
    ids = {name: each for name, each in found.items() if isinstance(each, str)}
    errors = {name: each for name, each in found.items() if isinstance(each, CrmError)}
    if not ids:
        raise next(iter(errors.values()))
    return ids, [
        {"crm": name, "status": "error", "error": f"{each.code}: {each}"}
        for name, each in errors.items()
        if not isinstance(each, NotFound | Unsupported)
    ]


TOOLS = (delete_record, confirm_action, undo_action, list_actions, list_options, crm_status, get_metrics)
