"""The toolset `activity`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.guards import inbound
from crm_mcp.actions.intent import Outcome
from crm_mcp.backends.base import FindsLeads, LogsNotes, ReadsActivity, ReadsCalls
from crm_mcp.errors import InvalidArgument, Unsupported
from crm_mcp.model import (
    Activity,
    ActivityKind,
    Direction,
    Lead,
    Line,
    Note,
    NoteDraft,
    NoteKind,
    Page,
    Slice,
    Text,
    now,
    rfc3339,
)
from crm_mcp.server.arguments import Cursor, Id, LeadKey, Limit, When
from crm_mcp.server.pagination import fitted, listed, only_connection, seal, unseal
from crm_mcp.server.rendering import page_of, shorten_rows
from crm_mcp.server.tool import Arguments, tool
from crm_mcp.store import Action

CHANGED = ("lead", "note", "task", "deal", "message", "sequence")


class LogNote(Arguments):
    lead: LeadKey
    content: Text
    kind: NoteKind = "note"
    outcome: Annotated[Line | None, Field(description="of a call, as interested, no answer")] = None
    occurred_at: Annotated[When | None, Field(description="default now")] = None
    duration_seconds: Annotated[int | None, Field(ge=0, le=86_400)] = None
    direction: Direction | None = None


async def reconcile_log_note(context: Context, call: LogNote, row: Action) -> Outcome | None:
    """Look for the note among those of the lead."""
    content = reconcile.signed(context, call.content, row)
    note = await reconcile.logged_note(context, row, content, call.kind, call.occurred_at)
    return _logged(await context.lead(call.lead), note, call.kind) if note else None


@tool(Effect.WRITE, needs=(FindsLeads, LogsNotes), creates="note", reconcile=reconcile_log_note)
async def log_note(context: Context, call: LogNote) -> Outcome:
    """Write down what was said or done: a note, or a call, e-mail or meeting that took place. Nothing is sent."""
    found = await context.lead(call.lead)
    if call.occurred_at and call.occurred_at > now():
        raise InvalidArgument("occurred_at is in the future", "for something to be done, use create_task")
    draft = NoteDraft(
        content=reconcile.signed(context, call.content),
        kind=call.kind,
        outcome=call.outcome,
        occurred_at=call.occurred_at,
        duration_seconds=call.duration_seconds,
        direction=call.direction,
    )
    return _logged(found, await context.crm(LogsNotes).log_note(found.id, draft), call.kind)


def _logged(lead: Lead, note: Note, kind: NoteKind) -> Outcome:
    said = f"logged a {kind} for {lead.label} ({lead.id})"
    return Outcome(said, {"note": note.shown()}, lead.id, (("note", note.id), ("lead", lead.id)))


@tool(Effect.READ, needs=(FindsLeads, ReadsActivity), across="items")
async def list_activity(
    context: Context,
    lead: LeadKey,
    kinds: list[ActivityKind] | None = None,
    since: When | None = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> dict[str, Any]:
    """List what happened with a lead, newest first: notes, calls, messages, tasks.

    Long texts are cut. A call's transcript is in get_call.
    """
    crm = context.crm(ReadsActivity)
    found = await context.lead(lead)
    wanted = tuple(kinds or crm.activity_kinds)
    for kind in wanted:
        if kind not in crm.activity_kinds:
            raise Unsupported(f"{context.vendor} has no {kind}s", f"it has {', '.join(crm.activity_kinds)}")
    query = {list_activity.name: found.id, "kinds": sorted(wanted), "since": since and rfc3339(since)}

    def shape(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        whole = f"read {page_of(context.root, found.id)}/activity"
        return [
            each
            for row in rows
            for each in shorten_rows([row], ("text",), f"get_call {row['id']}" if row["kind"] == "call" else whole)
        ]

    async def fetch(part: Slice) -> Page[Activity]:
        page = await crm.list_activity(found.id, wanted, since, part)
        return page.model_copy(update={"items": await inbound.marked(found, page.items)})

    return await listed(context, "items", query, limit, cursor, fetch, shape=shape)


@tool(Effect.READ, across="changes")
async def list_changes(
    contexts: tuple[Context, ...],
    since: When | None = None,
    kinds: Annotated[list[str] | None, Field(description="of lead, note, task, deal, message, sequence")] = None,
    limit: Limit = 20,
    cursor: Annotated[str | None, Field(description="next_cursor of the call before", max_length=2000)] = None,
) -> dict[str, Any]:
    """List what was changed through this server, oldest first.

    To follow changes, keep next_cursor (always given) and call again with it. Without since and cursor it starts now.
    """
    for kind in kinds or ():
        if kind not in CHANGED:
            raise InvalidArgument(f'kinds has "{kind}"', f"valid: {', '.join(CHANGED)}")
    context, connection = contexts[0], only_connection(contexts)
    query = {list_changes.name: sorted(kinds or ()), "crm": connection}
    after = unseal(context, query, cursor) if cursor else None

    async def build(most: int) -> dict[str, Any]:
        rows, position, more = await context.store.actions.changes(
            since=since, kinds=tuple(kinds or ()), after=after, limit=most, connection=connection
        )
        changes = [
            {
                **({"crm": row.connection} if len(contexts) > 1 else {}),
                "at": rfc3339(row.finished_at or row.created_at),
                "kind": kind,
                "id": record,
                "action_id": row.id,
                "tool": row.tool,
                "status": row.status,
                "summary": row.summary,
            }
            for row in rows
            for kind, record in [each for each in row.touched if not kinds or each[0] in kinds][:1]
        ]
        return {"changes": changes, "next_cursor": seal(context, query, position), "more": more}

    return await fitted(limit, build)


@tool(Effect.READ, needs=ReadsCalls)
async def get_call(context: Context, call: Id) -> dict[str, Any]:
    """Read one call, with recording and transcript where there is one. Its id stands in list_activity."""
    return {"call": (await context.crm(ReadsCalls).get_call(call)).shown()}


TOOLS = (log_note, list_activity, list_changes, get_call)
