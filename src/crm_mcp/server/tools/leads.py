"""The toolset `leads`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.guards.addresses import addresses_in
from crm_mcp.actions.guards.new_addresses import unheld
from crm_mcp.actions.intent import Outcome, Preview
from crm_mcp.actions.offload import offload
from crm_mcp.actions.summary import full_texts, humanize_fields, quote_label
from crm_mcp.actions.undo.undo import note_of, told
from crm_mcp.address import is_doubtful, phone_number
from crm_mcp.backends.base import (
    FindsLeads,
    KeepsTasks,
    LogsNotes,
    ReadsCalls,
    ReadsDeals,
    ReadsMessages,
    TagsLeads,
    WritesLeads,
)
from crm_mcp.backends.identity import OTHER_NAME, Found, People, holders, person_in, person_of
from crm_mcp.backends.import_engine import only_empty
from crm_mcp.errors import Conflict, InvalidArgument, Unsupported, choices
from crm_mcp.model import DealFilter, IfExists, Lead, LeadDraft, LeadFilter, LeadUpdate, Line, Record, Slice, fold
from crm_mcp.server.arguments import Cursor, CustomFields, Email, LeadKey, Limit, Phone, Tags, When
from crm_mcp.server.pagination import listed
from crm_mcp.server.rendering import page_of, shorten_rows
from crm_mcp.server.tool import Arguments, tool
from crm_mcp.store import Action

Included = Literal["notes", "tasks", "deals", "messages", "calls"]
INCLUDES: dict[Included, type] = {
    "notes": LogsNotes,
    "tasks": KeepsTasks,
    "deals": ReadsDeals,
    "messages": ReadsMessages,
    "calls": ReadsCalls,
}
WRITTEN = (
    "name",
    "first_name",
    "last_name",
    "email",
    "phone",
    "company",
    "title",
    "status",
    "owner",
    "tags",
    "custom_fields",
)


@tool(Effect.READ, needs=FindsLeads, across="leads")
async def search_leads(
    context: Context,
    query: Annotated[
        str | None, Field(description="words, parts of words, e-mail, phone or its last digits", max_length=200)
    ] = None,
    status: Line | None = None,
    stage: Line | None = None,
    tag: Line | None = None,
    owner: Line | None = None,
    list: Line | None = None,
    created_after: When | None = None,
    not_contacted_since: Annotated[When | None, Field(description="last contact before this, or never")] = None,
    sort: Annotated[str | None, Field(description="as -last_contacted_at; default -created_at", max_length=40)] = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> dict[str, Any]:
    """Find leads by words and filters; all given ones must match. Newest first.

    For one lead whose id, e-mail or phone you know, use get_lead. To count by stage or owner, use get_pipeline.
    """
    crm = context.crm(FindsLeads)
    wanted = LeadFilter(
        query=query,
        status=status,
        stage=stage,
        tag=tag,
        owner=owner,
        list=list,
        created_after=created_after,
        not_contacted_since=not_contacted_since,
        sort=sort,
    )
    given = wanted.shown()
    for name in given:
        if name != "sort" and name not in crm.lead_filters:
            raise Unsupported(
                f"{context.vendor} can't filter leads by {name}",
                f"it can by {', '.join(sorted(crm.lead_filters - {'sort'}))}",
            )
    if sort and sort not in crm.lead_sorts:
        raise InvalidArgument(f'sort is "{sort}"', choices(sort, crm.lead_sorts))
    return await listed(
        context,
        "leads",
        {search_leads.name: given},
        limit,
        cursor,
        lambda part: crm.search_leads(wanted, part),
        counted=True,
    )


@tool(Effect.READ, needs=FindsLeads)
async def get_lead(context: Context, lead: LeadKey, include: list[Included] | None = None) -> dict[str, Any]:
    """Read one lead, and on request its newest notes, tasks, deals, messages or calls.

    For everything that happened in order of time, use list_activity.
    """
    able = [name for name, needs in INCLUDES.items() if context.can(needs)]
    if lacking := [name for name in include or () if name not in able]:
        some = f"include can have {', '.join(able)}" if able else "leave include out"
        raise Unsupported(f"{context.vendor} has no {lacking[0]} of a lead", some)
    found = await context.lead(lead)
    result: dict[str, Any] = {"lead": found.shown()}
    part = Slice(limit=10)
    for name in dict.fromkeys(include or ()):
        match name:
            case "notes":
                page = await context.crm(LogsNotes).list_notes(found.id, part)
            case "tasks":
                page = await context.crm(KeepsTasks).list_tasks(found.id, None, None, part)
            case "deals":
                page = await context.crm(ReadsDeals).list_deals(DealFilter(lead=found.id), part)
            case "messages":
                page = await context.crm(ReadsMessages).list_messages(found.id, part)
            case "calls":
                page = await context.crm(ReadsCalls).list_calls(found.id, part)
        rows = [{k: v for k, v in item.shown().items() if k != "lead_id"} for item in page.items]
        result[name] = shorten_rows(rows, ("content", "body"), f"read {page_of(context.root, found.id)}/activity")
    return result


class LeadArguments(Arguments):
    name: Line | None = None
    first_name: Line | None = None
    last_name: Line | None = None
    email: Email | None = None
    phone: Phone | None = None
    company: Line | None = None
    title: Line | None = None
    status: Line | None = None


class CreateLead(LeadArguments):
    tags: Tags | None = None
    list: Line | None = None
    custom_fields: CustomFields | None = None
    if_exists: Annotated[IfExists, Field(description="a lead with this e-mail or phone")] = "error"

    def draft(self, context: Context) -> LeadDraft:
        """Return the lead that is to come."""
        return LeadDraft.model_validate(_fields(context, self, LeadDraft) | {"tags": self.tags or None})


async def ask_create_lead(context: Context, call: CreateLead) -> Preview:
    """Say which lead would come, or which one is there already."""
    draft, if_exists = call.draft(context), call.if_exists
    given = draft.shown()
    # Where nobody is shown anything, the CRM itself refuses a lead that exists: no look-up is spent on it here.
    looks = if_exists != "error" or context.shows(create_lead)
    known, found = await _known(context, draft) if looks else (None, Found())
    written = only_empty(draft, known).shown() if known and found.other_name else given
    named_so = humanize_fields(written) or "nothing"
    remarks = [full_texts(given), *_doubtful(draft.phone)]
    if known is None:
        writes = await offload(given, addresses_in, given, context.settings.country)
        return Preview(f"Create a lead, {named_so}", "\n".join(filter(None, remarks)), writes=writes, written=given)
    if if_exists == "error":
        raise Conflict(f"{known.label} ({known.id}) has this {found.by}", "update that lead, or give if_exists")
    what = f"{'Update' if if_exists == 'update' else 'Skip'} {quote_label(known.label)} ({known.id})"
    if found.other_name and if_exists == "update":
        what += f", who has this {found.by} and another name: only what is empty is filled"
    return Preview(
        f"{what}: {named_so}",
        "\n".join(filter(None, remarks)),
        facts={"lead": known.shown(), **({OTHER_NAME: True} if found.other_name else {})},
        also=(update_lead.name,) if if_exists == "update" else (),
        lead_read=known,
        written=given,
        writes=await offload(written, unheld, context, known, written) if if_exists == "update" else (),
    )


async def reconcile_create_lead(context: Context, call: CreateLead, row: Action) -> Outcome | None:
    """Look for the one lead that has the address, and was created since."""
    draft = call.draft(context)
    lead = await reconcile.created_lead(context, draft, reconcile.begun(row))
    wanted = draft.shown() | {"list": None}
    if lead is None or not reconcile.has(context, lead, wanted):
        return None
    shown = {"lead": lead.shown(), "outcome": "created"}
    return Outcome(f"created {lead.label} ({lead.id})", shown, lead.id, (("lead", lead.id),))


@tool(
    Effect.WRITE,
    needs=(FindsLeads, WritesLeads),
    creates="lead",
    writes_addresses=True,
    ask=ask_create_lead,
    reconcile=reconcile_create_lead,
    decides=True,
)
async def create_lead(context: Context, call: CreateLead, shown: Preview) -> Outcome:
    """Create one lead. Search first; for many at once use import_leads."""
    draft = call.draft(context)
    if known := shown.lead_read:
        if call.if_exists == "skip":
            return Outcome(
                f"skipped: {known.label} ({known.id}) exists",
                {"lead": known.shown(), "outcome": "skipped"},
                lead=known.id,
            )
        other = bool(shown.facts.get(OTHER_NAME))
        filled = only_empty(draft, known) if other else draft
        if not filled.shown():
            nothing = (
                f"skipped: {known.label} ({known.id}) has the address and another name, and nothing of it is empty"
            )
            return Outcome(nothing, {"lead": known.shown(), "outcome": "skipped"}, lead=known.id)
        done = await _update(context, known, LeadUpdate(**filled.model_dump(exclude_none=True)))
        said_so = done.summary + ("; other name: only what was empty was filled" * other)
        return Outcome(said_so, {"lead": done.fields["lead"], "outcome": "updated"}, done.lead, done.touched, done.undo)
    lead = await context.crm(WritesLeads).create_lead(draft)
    fields = {"lead": lead.shown(), "outcome": "created"}
    said_so = "; ".join([f"created {lead.label} ({lead.id})", *_doubtful(draft.phone)])
    return Outcome(said_so, fields, lead.id, (("lead", lead.id),))


class UpdateLead(LeadArguments):
    lead: LeadKey
    owner: Line | None = None
    tags: Annotated[Tags | None, Field(description="replaces all tags; to add some use tag_lead")] = None
    custom_fields: CustomFields | None = None
    clear: Annotated[list[str] | None, Field(description='fields to empty, as ["title"]')] = None

    def change(self, context: Context) -> LeadUpdate:
        """Return what is to be changed.

        Raises:
            InvalidArgument: it is nothing.
        """
        change = LeadUpdate.model_validate(_fields(context, self, LeadUpdate))
        if not change.shown().keys() - {"clear"} and not self.clear:
            raise InvalidArgument("nothing to change is given", f"give one of {', '.join(WRITTEN)}, clear")
        return change


async def ask_update_lead(context: Context, call: UpdateLead) -> Preview:
    """Read the lead: which of its fields would change, and which addresses it would get."""
    change = call.change(context)
    found = await context.lead(call.lead)
    new = {name: value for name, value in change.shown().items() if value}
    return Preview(
        f"{update_lead.name}: {quote_label(found.label)} ({found.id}), {humanize_fields(new)}",
        "\n".join(filter(None, [full_texts(new), *_doubtful(change.phone)])),
        facts={"lead": found.shown()},
        lead=found.id,
        lead_read=found,
        written=change.shown(),
        writes=await offload(new, unheld, context, found, change.shown()),
    )


async def reconcile_update_lead(context: Context, call: UpdateLead, row: Action) -> Outcome | None:
    """Look whether the lead is as it was to be."""
    change = call.change(context)
    found = await context.lead(row.lead or call.lead)
    values = {name: value for name, value in change.shown().items() if name not in ("clear", "list")}
    # What of a custom field is to be emptied stands there as its name after a dot.
    emptied = {name for name in change.clear if "." not in name}
    if not reconcile.has(context, found, values | dict.fromkeys(emptied)) or len(emptied) != len(change.clear):
        return None
    return _changed(row.facts.get("lead"), found)


@tool(
    Effect.WRITE,
    needs=(FindsLeads, WritesLeads),
    writes_addresses=True,
    ask=ask_update_lead,
    reconcile=reconcile_update_lead,
    decides=True,
    idempotent=True,
)
async def update_lead(context: Context, call: UpdateLead, shown: Preview) -> Outcome:
    """Change fields of a lead; those left out stay. The stage is changed by move_stage. Can be undone."""
    change = call.change(context)
    done = await _update(context, shown.lead_read or await context.lead(call.lead), change)
    return replace(done, summary="; ".join([done.summary, *_doubtful(change.phone)]))


class TagLead(Arguments):
    lead: LeadKey
    add: Tags | None = None
    remove: Tags | None = None


async def reconcile_tag_lead(context: Context, call: TagLead, row: Action) -> Outcome | None:
    """Look whether the lead has the tags that it was to have, and no longer the others."""
    found = await context.lead(row.lead or call.lead)
    tags = {fold(each) for each in found.tags or ()}
    if {fold(each) for each in call.add or ()} <= tags and tags.isdisjoint(fold(each) for each in call.remove or ()):
        return _tagged(found, None)
    return None


@tool(Effect.WRITE, needs=(FindsLeads, TagsLeads), reconcile=reconcile_tag_lead, idempotent=True)
async def tag_lead(context: Context, call: TagLead) -> Outcome:
    """Add tags to a lead or take them off; new tags are created. Can be undone."""
    if not call.add and not call.remove:
        raise InvalidArgument("nothing to change is given", "give add or remove")
    before = await context.lead(call.lead)
    after = await context.crm(TagsLeads).tag_lead(before.id, call.add or [], call.remove or [])
    return _tagged(after, note_of("tags", before, after, ("tags",)))


def _tagged(lead: Lead, kept: Mapping[str, Any] | None) -> Outcome:
    tags = [*(lead.tags or ())]
    said_so = f"{lead.label} ({lead.id}) has the tags: {', '.join(tags) or 'none'}"
    return Outcome(said_so, {"lead": lead.id, "tags": tags}, lead.id, (("lead", lead.id),), kept)


def _fields(context: Context, call: CreateLead | UpdateLead, of: type[Record]) -> dict[str, Any]:
    """Return what a call gives for a record: its fields by name, the number as the CRM takes it."""
    given = {name: value for name in of.model_fields if (value := getattr(call, name, None)) is not None}
    return given | {"phone": phone_number(call.phone, context.settings.country) if call.phone else None}


async def _update(context: Context, before: Lead, change: LeadUpdate) -> Outcome:
    was, after = before.shown(), await context.crm(WritesLeads).update_lead(before.id, change)
    return await offload(was, _changed, was, after)


def _changed(was: Mapping[str, Any] | None, after: Lead) -> Outcome:
    """Say what differs; where it is not known what a lead was like, what it is like."""
    if was is None:
        return Outcome(f"changed {after.label} ({after.id})", {"lead": after.shown()}, after.id, (("lead", after.id),))
    before = Lead.model_validate(was)
    kept = note_of("lead", before, after, WRITTEN)
    return Outcome(
        f"changed {after.label} ({after.id}): {told(kept)}",
        {"lead": after.shown(), "changed": list(kept["after"]) if kept else []},
        after.id,
        (("lead", after.id),),
        kept,
    )


async def _known(context: Context, draft: LeadDraft) -> tuple[Lead | None, Found]:
    """Return the one lead that is the draft's person already, and how that is known.

    Raises:
        Conflict: it can't be told which of several it is.
    """
    there = {each.id: each for each in await holders(context.crm(FindsLeads), draft.email, draft.phone)}
    found = People(map(person_of, there.values())).alike(person_in(draft))
    if len(found.people) > 1:
        who = ", ".join(each.label for each in found.people[:5])
        raise Conflict(f"several leads have this {found.by}: {who}", "use update_lead on one of them")
    return (there[found.people[0].id] if found.people else None), found


def _doubtful(phone: str | None) -> list[str]:
    """Say that a number may not exist, where it is in no range of its country that is known."""
    return [f"{phone} is doubtful: no such number is known in its country"] if phone and is_doubtful(phone) else []


TOOLS = (search_leads, get_lead, create_lead, update_lead, tag_lead)
