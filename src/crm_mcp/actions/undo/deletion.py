"""What a deletion keeps, and how the record comes back.

Where the CRM brings back records, an image of the record and of all that goes with it is kept, and it comes back as it
was. Elsewhere its fields are kept, and it is created anew: under another id, and without what went with it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ValidationError

from crm_mcp.actions.confirmation import digest
from crm_mcp.actions.context import Context
from crm_mcp.actions.guards import consent, do_not_contact
from crm_mcp.actions.guards.addresses import addresses_in
from crm_mcp.actions.intent import Outcome, Preview
from crm_mcp.actions.outbox import write_dedup_key
from crm_mcp.actions.reconcile import created_lead, read_record
from crm_mcp.actions.summary import escape_markup, full_texts, humanize_fields, name_record
from crm_mcp.backends.base import (
    FindsLeads,
    KeepsTasks,
    ListsOptions,
    LogsNotes,
    MovesLeads,
    RestoresRecords,
    WritesDeals,
    WritesLeads,
)
from crm_mcp.errors import Conflict, CrmError, Forbidden, InvalidArgument, NotFound, Unsupported, saying
from crm_mcp.model import DealFields, Lead, LeadDraft, LeadUpdate, NoteDraft, RecordKind, TaskFields, uncrowded
from crm_mcp.store import Action, DedupKey

VERB = "deleted"
MOST_KEPT = 1_000_000
"""Characters of an image, as JSON: what is larger is not kept."""
YEAR = 365 * 24 * 60 * 60
CREATES: Mapping[RecordKind, type] = {
    "lead": WritesLeads,
    "task": KeepsTasks,
    "deal": WritesDeals,
    "note": LogsNotes,
}
CORE = ("name", "first_name", "last_name", "email", "phone", "list")
"""What every CRM takes of a lead: the rest is written one by one where it does not take all at once."""
_REST = ("company", "title", "status", "owner", "tags", "custom_fields")
_OF_THE_CRM = frozenset({"id", "url", "created_at", "updated_at", "last_contacted_at", "do_not_contact"})


class Back(NamedTuple):
    """What came back: the id of the record, what it is called, and what of it did not, in words."""

    id: str
    label: str
    lost: tuple[str, ...]


# Before the deletion


async def keep(
    context: Context, kind: RecordKind, record: str, fields: Mapping[str, Any], label: str
) -> dict[str, Any] | None:
    """Return what a deletion keeps for its undo, read now; None: nothing that would be of use, or too much.

    `fields` is the record as it is served.
    """
    kept: dict[str, Any] = {"verb": VERB, "id": record, "kind": kind, "label": label, "fields": dict(fields)}
    size = len(json.dumps(kept, ensure_ascii=False))
    if context.can(RestoresRecords):
        image = json.dumps(
            await context.crm(RestoresRecords).image(kind, record), ensure_ascii=False, separators=(",", ":")
        )
        size += len(image)
        # Actions are listed with what they keep: an image is mostly repetition.
        kept["image"] = base64.b64encode(zlib.compress(image.encode())).decode()
    elif not context.can(CREATES[kind]):
        return None
    return kept if size <= MOST_KEPT else None


def way_back(context: Context, kind: RecordKind, kept: Mapping[str, Any] | None, along: Mapping[str, int]) -> str:
    """Return in words, for the preview of a deletion, whether it can be undone."""
    if kept is None:
        able = context.can(RestoresRecords) or context.can(CREATES[kind])
        return "can't be undone" + (": with all that goes with it, it is too large to be kept (1 MB)" if able else "")
    if "image" in kept:
        return "can be undone with undo_action"
    lost = f"its {counted(along)} would be lost" if along else "what the CRM keeps with it would be lost"
    return f"undo_action can bring back its fields under a new id; {lost}"


def counted(along: Mapping[str, int]) -> str:
    """Return what goes with a record in words, as `3 notes and 1 deal`."""
    words = [f"{count} {name if count > 1 else name.removesuffix('s')}" for name, count in along.items()]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# The way back


async def preview(context: Context, row: Action) -> Preview:
    """Say what would come back of what was deleted.

    Raises:
        Unsupported: the CRM can't create it.
    """
    kept = _of(row)
    kind, fields = _kind(kept), _fields(kept)
    name = name_record(kind, kept["id"], escape_markup(kept["label"]))
    along = counted(row.facts.get("with it") or {})
    writes = addresses_in(fields, context.settings.country)
    if "image" in kept:
        what = f"Undo delete_record: {name} comes back as it was" + (f", with {along}" if along else "")
        size = 1 + sum(map(int, cast("dict[str, int]", row.facts.get("with it") or {}).values()))
        return Preview(what, lead=row.lead, size=size, also=creating(context, kind), writes=writes)
    if not context.can(CREATES[kind]):
        raise Unsupported(f"{context.vendor} can't bring back a {kind}", "make it again by hand, in the CRM")
    closed = await _consent_in(context, fields)
    shown = {each: value for each, value in fields.items() if each not in _OF_THE_CRM and each not in closed}
    lost = ["its id", *([f"its {along}"] if along else []), *sorted(closed)]
    return Preview(
        f"Undo delete_record: create {name} anew, under a new id, with {humanize_fields(shown)}; "
        f"lost: {', '.join(lost)}",
        full_texts(shown),
        facts={"fields": fields},
        lead=row.lead,
        also=creating(context, kind),
        writes=writes,
        # A second one would be another record, and nothing would tell them apart.
        dedup_keys=(undo_dedup_key(context, row), DedupKey(key=f"undo:{row.id}", seconds=YEAR)),
    )


def undo_dedup_key(context: Context, row: Action) -> DedupKey:
    """Return the deduplication key that every call has which undoes an action: the same call again is the same one."""
    undoing = context.tools.one(lambda each: each.undoes)
    return write_dedup_key(row.caller, digest(undoing.name, context.connection, {"action_id": row.id}))


def creating(context: Context, kind: RecordKind) -> tuple[str, ...]:
    """Return the tools whose work it is to create one record of this kind anew."""
    return context.tools.that(lambda each: each.creates == kind and not each.many)


async def bring_back(context: Context, row: Action, caller: str) -> Back:
    """Bring back what was deleted.

    Raises:
        Conflict: its id, address or number is taken meanwhile; nothing was written.
        Unsupported: the CRM does not take it; nothing was written.
    """
    kept = _of(row)
    kind, fields = _kind(kept), _fields(kept)
    if "image" in kept:
        image = json.loads(zlib.decompress(base64.b64decode(kept["image"])))
        await context.crm(RestoresRecords).restore(kind, image)
        return Back(kept["id"], kept["label"], ())
    gone = [f"its {counted(along)}"] if (along := row.facts.get("with it")) else []
    match kind:
        case "lead":
            back = await _lead(context, fields, caller)
        case "task":
            back = await _task(context, fields)
        case "deal":
            back = await _deal(context, fields)
        case "note":
            back = await _note(context, fields)
    return back._replace(label=kept["label"], lost=(f"its id {kept['id']}", *gone, *back.lost))


async def reconcile_restored(context: Context, row: Action, since: datetime) -> Back | None:
    """Look whether what was deleted is back; None: not as far as can be told.

    `since` is when it was to come back.
    """
    kept = _of(row)
    kind, fields = _kind(kept), _fields(kept)
    if "image" in kept:
        try:
            await read_record(context, kind, kept["id"])
        except NotFound:
            return None
        return Back(kept["id"], kept["label"], ())
    if kind != "lead":
        return None
    known_by = {name: fields.get(name) for name in ("name", "email", "phone")}
    found = await created_lead(context, LeadDraft.model_construct(**known_by), since)
    if found is None:
        return None
    return Back(found.id, kept["label"], (f"its id {kept['id']}", *_lost(fields, found.shown())))


def done(row: Action, back: Back) -> Outcome:
    """Say that it came back."""
    kept = _of(row)
    kind = _kind(kept)
    result = {"kind": kind, "id": back.id, "not_restored": list(back.lost)}
    summary = f"undone: {name_record(kind, back.id, escape_markup(back.label))} is back"
    if back.lost:
        summary += f", created anew; not restored: {', '.join(back.lost)}"
    of = back.id if kind == "lead" else _fields(kept).get("lead_id")
    return Outcome(summary, {"result": result}, of, ((kind, back.id),), undone=row.id)


async def _lead(context: Context, fields: Mapping[str, Any], caller: str) -> Back:
    """Create a lead with as much of this as the CRM takes."""
    crm = context.crm(WritesLeads)
    closed = await _consent_in(context, fields)
    wanted = {name: fields[name] for name in (*CORE, *_REST) if name in fields and name not in closed}
    if "custom_fields" in wanted:
        wanted["custom_fields"] = {
            name: value for name, value in wanted["custom_fields"].items() if f"custom_fields.{name}" not in closed
        }
    wanted = _taken(LeadDraft, wanted | await _list_in(context, fields))
    core = {name: wanted[name] for name in CORE if name in wanted} or wanted
    try:
        lead, left = await _created(context, wanted), dict[str, Any]()
    except (InvalidArgument, Unsupported) as error:
        if core == wanted:
            raise Unsupported(f"it can't be created anew: {error.what}", "create it with create_lead") from None
        lead, left = await _created(context, core), {name: wanted[name] for name in wanted if name not in core}
    for name, value in left.items():
        each_alone = [{each: one} for each, one in value.items()] if name == "custom_fields" else [value]
        for part in each_alone:
            with contextlib.suppress(CrmError):  # what the lead has not is told as not restored
                lead = await crm.update_lead(lead.id, LeadUpdate.model_validate({name: part}))
    lead = await _staged(context, lead, fields.get("stage"))
    # Whoever said no said it to the one who was deleted, too.
    with saying(wrote=True):
        for channel, reason in (await do_not_contact.blocks_of(context, Lead.model_validate(fields))).items():
            await do_not_contact.block(context, lead, (channel,), reason or None, caller)
    return Back(lead.id, lead.label, tuple(_lost(fields, lead.shown())))


async def _list_in(context: Context, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the list that one of a lead's fields names, where the CRM has lists."""
    crm = context.crm_if(ListsOptions)
    if crm is None or "lists" not in crm.option_kinds:
        return {}
    custom: Mapping[str, Any] = fields.get("custom_fields") or {}
    values = {each for each in custom.values() if isinstance(each, str)}
    named_so = [each.id for each in await crm.list_options("lists") if each.id in values]
    return {"list": named_so[0]} if named_so else {}


async def _created(context: Context, values: Mapping[str, Any]) -> Lead:
    """Create a lead; one that the CRM has taken, but not whole, is found by its address."""
    draft = LeadDraft.model_validate(values)
    try:
        return await context.crm(WritesLeads).create_lead(draft)
    except CrmError as error:
        if not error.wrote:
            raise
        crm = context.crm(FindsLeads)
        found = ()
        with contextlib.suppress(CrmError):  # what is told then is that a part was written
            found = await crm.leads_at("email", draft.email) if draft.email else ()
            if not found and draft.phone:
                found = await crm.leads_at("sms", draft.phone)
        if len(found) != 1:
            raise
        return found[0]


async def _staged(context: Context, lead: Lead, stage: str | None) -> Lead:
    if not stage or lead.stage == stage or not context.can(MovesLeads):
        return lead
    with contextlib.suppress(CrmError):  # told as not restored
        return await context.crm(MovesLeads).move_lead(lead.id, (await context.stage(stage, "leads")).id)
    return lead


async def _task(context: Context, fields: Mapping[str, Any]) -> Back:
    crm = context.crm(KeepsTasks)
    wanted = _taken(TaskFields, {name: fields[name] for name in TaskFields.model_fields if name in fields})
    if "title" not in wanted:
        raise Unsupported("the task had no title, and can't be created anew", "create it with create_task")
    task = await crm.create_task(fields.get("lead_id"), TaskFields.model_validate(wanted))
    if wanted.get("completed") and not task.completed:
        with contextlib.suppress(CrmError):  # told as not restored
            task = await crm.update_task(task.id, TaskFields(completed=True))
    return Back(task.id, task.title or task.id, tuple(_lost(fields, task.shown())))


async def _deal(context: Context, fields: Mapping[str, Any]) -> Back:
    crm = context.crm(WritesDeals)
    wanted = _taken(DealFields, {name: fields[name] for name in DealFields.model_fields if name in fields})
    status = wanted.pop("status", None)
    if "name" not in wanted:
        raise Unsupported("the deal had no name, and can't be created anew", "create it with create_deal")
    stage = (await context.stage(fields["stage"], "deals")).id if fields.get("stage") else None
    deal = await crm.create_deal(fields.get("lead_id"), DealFields.model_validate(wanted), stage)
    if status and deal.status != status:
        with contextlib.suppress(CrmError):  # told as not restored
            deal = await crm.update_deal(deal.id, DealFields(status=status))
    return Back(deal.id, deal.name or deal.id, tuple(_lost(fields, deal.shown())))


async def _note(context: Context, fields: Mapping[str, Any]) -> Back:
    lead = fields.get("lead_id")
    wanted = _taken(NoteDraft, {name: fields[name] for name in NoteDraft.model_fields if name in fields})
    if lead is None or "content" not in wanted:
        raise Unsupported("the note can't be written anew", "write it again with log_note")
    note = await context.crm(LogsNotes).log_note(lead, NoteDraft.model_validate(wanted))
    return Back(note.id, note.id, tuple(_lost(fields, note.shown())))


def _taken(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those values that may be written: a CRM can hold what no tool may, and more of it."""
    left = dict(values)
    if custom := left.get("custom_fields"):
        left["custom_fields"] = uncrowded(custom)
    try:
        model.model_validate(left)
    except ValidationError as error:
        places = {each["loc"][:2] for each in error.errors(include_url=False)}
        for name, part in list(left.items()):
            if isinstance(part, dict) and (name,) not in places:
                inner = cast("dict[str, Any]", part)
                left[name] = {key: value for key, value in inner.items() if (name, key) not in places}
            elif any(place[0] == name for place in places):
                del left[name]
    return left


def _lost(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields that did not come back."""
    lost: list[str] = []
    for name, value in before.items():
        if name in _OF_THE_CRM or now.get(name) == value:
            continue
        if name == "tags" and set(value) == set(now.get("tags") or ()):
            continue
        if name == "custom_fields":
            held: Mapping[str, Any] = now.get(name) or {}
            lost += [f"custom_fields.{each}" for each, one in value.items() if held.get(each) != one]
        else:
            lost.append(name)
    return lost


async def _consent_in(context: Context, fields: Mapping[str, Any]) -> set[str]:
    """Return the fields among these that no tool may write; of custom ones as `custom_fields.NAME`."""
    if not context.settings.policy.require_consent:
        return set()
    names = {name: name for name in fields if name != "custom_fields"}
    names |= {f"custom_fields.{name}": name for name in fields.get("custom_fields") or ()}
    closed: set[str] = set()
    for path, name in names.items():
        try:
            await consent.refuse_consent_fields(context, {name: None})
        except Forbidden:
            closed.add(path)
    return closed


def _of(row: Action) -> Mapping[str, Any]:
    if row.undo is None:
        raise Conflict(f"action {row.id} keeps nothing to bring back", "see list_actions")
    return row.undo


def _kind(kept: Mapping[str, Any]) -> RecordKind:
    return cast("RecordKind", kept["kind"])


def _fields(kept: Mapping[str, Any]) -> dict[str, Any]:
    return dict(kept["fields"])
