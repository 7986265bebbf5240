"""The way back: what an action keeps of the values before it, and how they are put back.

What has not begun, or is a job under way, is called off. Changes of fields (updates, stage moves, tags, task changes)
keep the values before and after, and are undone only while the record still has the values after; else they are refused
with both. What was deleted comes back (see `deleted`), who was enrolled is taken out. An undo never does what nobody
may do without being asked for it: it lifts no block, writes no consent, and reaches nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from pydantic import ValidationError

from crm_mcp.actions import reconcile
from crm_mcp.actions.action_result import SERVED
from crm_mcp.actions.context import Context
from crm_mcp.actions.enrolment import run
from crm_mcp.actions.guards import new_addresses
from crm_mcp.actions.intent import Outcome, Preview
from crm_mcp.actions.offload import offload
from crm_mcp.actions.outbox import NOTHING_WRITTEN
from crm_mcp.actions.summary import escape_markup, full_texts, humanize, name_record
from crm_mcp.actions.undo import deletion
from crm_mcp.backends.base import (
    DeletesRecords,
    EndsSequences,
    KeepsTasks,
    MovesDeals,
    MovesLeads,
    ReadsDeals,
    RunsSequences,
    TagsLeads,
    WritesDeals,
    WritesLeads,
)
from crm_mcp.backends.lead_fields import PARTS
from crm_mcp.errors import Conflict, CrmError, NotFound, OutcomeUnknown, Unsupported, saying
from crm_mcp.model import Deal, DealFields, Lead, LeadUpdate, RecordKind, Rejected, Task, TaskFields
from crm_mcp.store import HELD, Action

Values = Mapping[str, Any]


def note_of(
    verb: str, before: Lead | Deal | Task, after: Lead | Deal | Task, fields: tuple[str, ...]
) -> dict[str, Any] | None:
    """Return what an action keeps for its undo: the fields of `fields` that differ; None where none does.

    `verb` is one of WAYS: `lead`, `tags`, `lead_stage`, `deal_stage`, `deal`, `task`.
    """
    old, new = before.shown(), after.shown()
    changed = [name for name in fields if old.get(name) != new.get(name)]
    if not changed:
        return None
    return {
        "verb": verb,
        "id": before.id,
        "before": {name: old.get(name) for name in changed},
        "after": {name: new.get(name) for name in changed},
    }


def told(kept: Values | None) -> str:
    """Return what an action changed, in words, from what it keeps for its undo."""
    if kept is None:
        return "nothing was different"
    before, after = kept["before"], kept["after"]
    return ", ".join(f"{name} from {humanize(before[name])} to {humanize(after[name])}" for name in after)


async def preview_undo(context: Context, action_id: str, caller: str) -> Preview:
    """Say what would be called off, put back, brought back or ended.

    Raises:
        NotFound: the caller has no such action.
        Unsupported: an action of this kind can't be taken back.
        Conflict: it is not done, or the record has changed since; both values are named.
        Forbidden: it would write what no tool may write.
    """
    row = await _mine(context, action_id, caller)
    if _can_be_called_off(row):
        # Nobody is reached and nothing is written: no rule has a reason to ask.
        return Preview(f"Cancel action {row.id}: {row.summary}", lead=row.lead, unasked=True)
    if row.status != "done":
        now = SERVED.get(row.status, row.status)
        raise Conflict(f"action {row.id} is {now}, not done", "only what was done can be undone")
    if context.tools.enrols(row.tool):
        return await _preview_unenrol(context, row)
    if not row.undo or row.undo["verb"] not in (deletion.VERB, *WAYS):
        raise Unsupported(f"{row.tool} can't be undone", _instead(context, row))
    if row.undo["verb"] == deletion.VERB:
        return await deletion.preview(context, row)
    way, record, current = await _look(context, row)
    _refuse_changed(row, current)
    before = row.undo["before"]
    writes, given = (), None
    if isinstance(record, Lead):
        change = _change_of(record, before) if row.undo["verb"] == "lead" else None
        given = change.shown() if change else dict.fromkeys(before)
        writes = await offload(given, new_addresses.unheld, context, record, given) if change else ()
    back = ", ".join(f"{name} back to {humanize(before[name])}" for name in before)
    label = name_record(
        way.kind, record.id, getattr(record, "label", None) or getattr(record, "name", None) or record.id
    )
    return Preview(
        f"Undo {row.tool} of {label}: {back}",
        full_texts(before),
        facts={"current": current, "back": before},
        lead=row.lead,
        also=(row.tool,),
        writes=writes,
        written=given,
    )


async def undo(context: Context, action_id: str, caller: str, *, waits: bool = False) -> Outcome:
    """Take an action back, once. `waits`: nobody was asked, because it had not been done when it was looked at.

    It counts as undone only after it is: what ends in between is found by `look_undone`.
    """
    row = await _mine(context, action_id, caller)
    if _can_be_called_off(row):
        return await _call_off(context, row, caller)
    if waits:
        raise Conflict(f"action {row.id} was {row.status} in the meantime", "call undo_action again to take that back")
    if row.status == "done" and context.tools.enrols(row.tool):
        return await _unenrol(context, row)
    if row.status != "done" or row.undo is None:
        raise Conflict(f"action {row.id} can't be undone any more: it is {row.status}", "see list_actions")
    if row.undo["verb"] == deletion.VERB:
        done = deletion.done(row, await deletion.bring_back(context, row, caller))
    else:
        way, _, current = await _look(context, row)
        _refuse_changed(row, current)
        await way.write(context, row.undo["id"], row.undo["before"])
        done = _put_back(row)
    await _dedup_key(context, row)
    return done


async def reconcile_undo(context: Context, action_id: str, undoing: Action) -> Outcome | None:
    """Say whether the action `undoing` has taken another back, by what the records are like now; None: not known."""
    row = await _mine(context, action_id, undoing.caller)
    if row.status == "cancelled":
        return Outcome(f"cancelled: {row.summary}", lead=row.lead, cancelled=row.id)
    if row.status not in ("done", "undone"):
        return None
    if context.tools.enrols(row.tool):
        sequence, leads = _enrolled_by(row)
        others = await _not_by(context, row) if row.status == "done" else {}
        leads = [each for each in leads if each not in others]
        inside = [await context.crm(RunsSequences).enrolled(sequence, each) for each in leads]
        done = _put_back(row) if leads and not any(each is not False for each in inside) else None
    elif row.undo is None:
        done = None
    elif row.undo["verb"] == deletion.VERB:
        back = await deletion.reconcile_restored(context, row, reconcile.begun(undoing))
        done = deletion.done(row, back) if back else None
    else:
        current = (await _look(context, row))[2]
        before = row.undo["before"]
        same = all(current.get(name) == before[name] for name in before)
        done = _put_back(row) if same else None
    if done and row.status == "done":
        await context.store.actions.mark_undone(row.id, row.caller)
    return done


async def _mine(context: Context, action_id: str, caller: str) -> Action:
    row = await context.store.actions.get(action_id)
    if row is None or row.caller != caller or row.connection != context.connection:
        raise NotFound(f'there is no action "{action_id}" of yours', "see list_actions")
    return row


async def _dedup_key(context: Context, row: Action) -> None:
    try:
        await context.store.actions.mark_undone(row.id, row.caller)
    except CrmError as error:
        what = "it was taken back, but that could not be recorded"
        raise OutcomeUnknown(what, "see list_actions", detail=str(error)) from error


def _put_back(row: Action) -> Outcome:
    return Outcome(f"undone: {row.summary}", lead=row.lead, touched=row.touched, undone=row.id)


def _instead(context: Context, row: Action) -> str:
    """Return what to do about an action that keeps nothing."""
    kind = row.creates
    if kind and kind != "any" and (row.result or {}).get("outcome") not in ("updated", "skipped"):
        if context.can(DeletesRecords) and kind in context.crm(DeletesRecords).deletes:
            return "delete_record deletes what it made, and asks the user"
        return f"{context.vendor} can't delete a {kind}"
    tool = context.tools.get(row.tool)
    if tool and tool.instead:
        return tool.instead if isinstance(tool.instead, str) else tool.instead(row.arguments)
    if tool and tool.reaches:
        return "what has reached somebody can't be called back"
    return "it kept nothing to go back to; change it by hand"


# What has not happened yet


def _can_be_called_off(row: Action) -> bool:
    return row.status in HELD or row.status == "running"


async def _call_off(context: Context, row: Action, caller: str) -> Outcome:
    reason = "taken back by its own caller"
    ended = await context.store.actions.call_off(row.id, caller, "cancelled", reason, by=caller)
    if ended is None:
        raise Conflict(f"action {row.id} can't be cancelled any more: it has begun or ended", "see list_actions")
    fields: dict[str, Any] = {}
    summary = f"cancelled: {row.summary}"
    if row.status == "running":
        items = await context.store.items.all(row.id)
        over = sum(1 for each in items if each.status not in ("waiting", "cancelled"))
        stay = "; unenroll_from_sequence takes them out" if context.tools.enrols(row.tool) else ""
        summary += f"; {over} of {len(items)} were done before and stay as they are{stay}"
        fields["progress"] = {"done": over, "total": len(items)}
    return Outcome(summary, {"reason": reason, **fields}, row.lead, cancelled=row.id)


# Enrolments


async def _preview_unenrol(context: Context, row: Action) -> Preview:
    if not context.can(EndsSequences):
        raise Unsupported(
            f"{context.vendor} can't take leads out of a sequence through its API",
            "a person can do it in the CRM; set_do_not_contact keeps messages of this server from them",
        )
    sequence, leads = _enrolled_by(row)
    if not leads:
        raise Unsupported("it enrolled nobody", "there is nothing to undo")
    others = await _not_by(context, row)
    leads = _without(leads, others)
    named_so = ", ".join(leads[:20]) + (" ..." if len(leads) > 20 else "")
    return Preview(
        f"Undo {row.tool}: take {len(leads)} leads out of the sequence {escape_markup(sequence)} ({named_so})",
        "\n".join(
            ["messages that were sent already can't be called back"]
            + [f"not {escape_markup(lead)}: {why}" for lead, why in others.items()]
        ),
        facts={"sequence": sequence, "leads": leads},
        lead=row.lead,
        size=len(leads),
        also=context.tools.that(lambda each: each.ends_enrolments),
    )


async def _unenrol(context: Context, row: Action) -> Outcome:
    """Take out whoever was enrolled, and is so by this action still. It is undone where none of them is left."""
    crm = context.crm(EndsSequences)
    sequence, leads = _enrolled_by(row)
    others = await _not_by(context, row)
    leads = _without(leads, others)
    out: list[str] = []
    gone: list[str] = []
    failed = [Rejected(item=lead, reason=why) for lead, why in others.items()]
    for place, lead in enumerate(leads):
        try:
            why = await crm.unenroll(sequence, lead)
        except NotFound as error:
            gone.append(lead)
            failed.append(Rejected(item=lead, reason=str(error)))
        except CrmError as error:
            if not out and not gone:
                raise
            failed.append(Rejected(item=lead, reason=str(error)))
            failed += [Rejected(item=each, reason="not tried") for each in leads[place + 1 :]]
            break
        else:
            (gone if why else out).append(lead)
            if why:
                failed.append(Rejected(item=lead, reason=why))
    fields = {"result": {"succeeded": out, "failed": [each.shown() for each in failed]}}
    touched = (("sequence", sequence), *(("lead", each) for each in out))
    said_so = f"took {len(out)} of {len(leads)} leads out of the sequence {escape_markup(sequence)}"
    if len(out) + len(gone) == len(leads):
        await _dedup_key(context, row)
        return Outcome(f"undone: {said_so}", fields, row.lead, touched, undone=row.id, size=max(len(out), 1))
    # Some are in it still, as far as is known: the rest can be tried again, at once.
    with saying(wrote=bool(out)):
        await run.let_go(context, sequence, [*out, *gone])
    again = (deletion.undo_dedup_key(context, row).key,)
    said_so += f"; action {row.id} is not undone as a whole"
    return Outcome(said_so, fields, row.lead, touched, size=max(len(out), 1), released=again)


async def _not_by(context: Context, row: Action) -> dict[str, str]:
    """Return whom an action had enrolled and has not any more, each with the reason: what is another's stays."""
    sequence, leads = _enrolled_by(row)
    keys = {lead: run.enrolment_key(context.connection, sequence, lead) for lead in leads}
    held = await context.store.actions.held_by([*keys.values()])
    others: dict[str, str] = {}
    for lead, key in keys.items():
        holder = held.get(key)
        if holder is None:
            others[lead] = "no longer enrolled by this action"
        elif holder.id != row.id:
            others[lead] = f"enrolled anew, by action {holder.id}"
    return others


def _without(leads: list[str], others: Mapping[str, str]) -> list[str]:
    """Return the leads that are left.

    Raises:
        Conflict: none is.
    """
    if left := [each for each in leads if each not in others]:
        return left
    why = "; ".join(f"{escape_markup(lead)} is {reason}" for lead, reason in [*others.items()][:10])
    raise Conflict(why, "nothing was undone; unenroll_from_sequence takes out whoever is in a sequence")


def _enrolled_by(row: Action) -> tuple[str, list[str]]:
    """Return the sequence and the leads of an enrolment, as it wrote them down."""
    sequence = next((record for kind, record in row.touched if kind == "sequence"), "")
    leads: list[str] = (row.result or {}).get("succeeded") or [each for kind, each in row.touched if kind == "lead"]
    return sequence, leads


# Fields


def _refuse_changed(row: Action, current: Values) -> None:
    assert row.undo is not None
    after = row.undo["after"]
    moved = [
        f"{name} is {humanize(current.get(name))}, it was {humanize(after[name])} after the action"
        for name in after
        if current.get(name) != after[name]
    ]
    if moved:
        raise Conflict("the record has changed since: " + ", ".join(moved), "nothing was undone; change it by hand")


class _Way:
    """How one kind of change is looked at and put back."""

    def __init__(
        self,
        kind: RecordKind,
        read: Callable[[Context, str], Awaitable[Lead | Deal | Task]],
        write: Callable[[Context, str, Values], Awaitable[object]],
    ) -> None:
        self.kind: RecordKind = kind
        self.read = read
        self.write = write


async def _look(context: Context, row: Action) -> tuple[_Way, Lead | Deal | Task, dict[str, Any]]:
    assert row.undo is not None
    way = WAYS[row.undo["verb"]]
    record = await way.read(context, row.undo["id"])
    values = record.shown()
    return way, record, {name: values.get(name) for name in row.undo["after"]}


async def _lead(context: Context, record: str) -> Lead:
    return await context.lead(record)


async def _deal(context: Context, record: str) -> Deal:
    return await context.crm(ReadsDeals).get_deal(record)


async def _task(context: Context, record: str) -> Task:
    return await context.crm(KeepsTasks).get_task(record)


async def _write_lead(context: Context, record: str, values: Values) -> None:
    found = await context.lead(record)
    change = _change_of(found, values)
    await context.crm(WritesLeads).update_lead(found.id, change)


def _change_of(lead: Lead, values: Values) -> LeadUpdate:
    """Return the change that gives a lead these values.

    Raises:
        Unsupported: they are none that may be written.
    """
    fields = {name: value for name, value in values.items() if name != "custom_fields"}
    clear = tuple(name for name, value in fields.items() if value is None)
    given = {name: value for name, value in fields.items() if value is not None}
    if "custom_fields" in values:
        # Only those that differ: some of what a vendor shows beside our fields can't be written.
        before: dict[str, Any] = values["custom_fields"] or {}
        present = lead.custom_fields or {}
        given["custom_fields"] = {
            name: before.get(name) for name in {**present, **before} if present.get(name) != before.get(name)
        }
    if "name" in given:
        # What of it had stayed stays: where a CRM lets the parts follow the name they would change by themselves.
        given |= {each: part for each in PARTS if each not in fields and (part := getattr(lead, each))}
    try:
        return LeadUpdate(clear=clear, **given)
    except ValidationError as error:
        fields_of_it = ", ".join(str(each["loc"][0]) for each in error.errors())
        raise Unsupported(f"the values before can't be written back: {fields_of_it}", "write others by hand") from None


async def _write_tags(context: Context, record: str, values: Values) -> None:
    found = await context.lead(record)
    present, wanted = set(found.tags or ()), set(cast("list[str]", values["tags"] or ()))
    await context.crm(TagsLeads).tag_lead(record, sorted(wanted - present), sorted(present - wanted))


async def _write_lead_stage(context: Context, record: str, values: Values) -> None:
    await context.crm(MovesLeads).move_lead(record, (await context.stage(values["stage"], "leads")).id)


async def _write_deal_stage(context: Context, record: str, values: Values) -> None:
    await context.crm(MovesDeals).move_deal(record, (await context.stage(values["stage"], "deals")).id)


async def _write_deal(context: Context, record: str, values: Values) -> None:
    if values.get("stage"):
        await _write_deal_stage(context, record, values)
    fields = {name: value for name, value in values.items() if name != "stage"}
    clear = [name for name, value in fields.items() if value is None]
    given = {name: value for name, value in fields.items() if value is not None}
    if not fields:
        return
    try:
        await context.crm(WritesDeals).update_deal(record, DealFields(**given), clear)
    except CrmError as error:
        if values.get("stage") and (error.wrote is False or error.code in NOTHING_WRITTEN):
            error.wrote = True  # the stage is back already
        raise


async def _write_task(context: Context, record: str, values: Values) -> None:
    clear = [name for name, value in values.items() if value is None]
    given = {name: value for name, value in values.items() if value is not None}
    await context.crm(KeepsTasks).update_task(record, TaskFields(**given), clear)


WAYS: dict[str, _Way] = {
    "lead": _Way("lead", _lead, _write_lead),
    "tags": _Way("lead", _lead, _write_tags),
    "lead_stage": _Way("lead", _lead, _write_lead_stage),
    "deal_stage": _Way("deal", _deal, _write_deal_stage),
    "deal": _Way("deal", _deal, _write_deal),
    "task": _Way("task", _task, _write_task),
}
