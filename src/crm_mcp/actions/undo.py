"""The way back: what an action keeps of the values before it, and how they are put back.

Only changes of fields can be taken back here: updates, stage moves, tags and task changes. Every one keeps the values
before and after; it is undone only while the record still has the values after, and refused with both otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from crm_mcp.actions.approval import Done, Preview, named, said, whole
from crm_mcp.actions.desk import Desk
from crm_mcp.backends.base import KeepsTasks, MovesDeals, MovesLeads, ReadsDeals, TagsLeads, WritesDeals, WritesLeads
from crm_mcp.errors import Conflict, NotFound, Unsupported
from crm_mcp.model import Deal, DealFields, Lead, LeadUpdate, RecordKind, Task, TaskFields
from crm_mcp.store import Action

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
    return ", ".join(f"{name} from {said(before[name])} to {said(after[name])}" for name in after)


async def preview_undo(desk: Desk, action_id: str, caller: str) -> Preview:
    """Say what would be put back.

    Raises:
        NotFound: the caller has no such action.
        Unsupported: an action of this kind can't be taken back.
        Conflict: it isn't done, or the record has changed since; both values are named.
    """
    row = await desk.store.get(action_id)
    if row is None or row.caller != caller or row.connection != desk.connection:
        raise NotFound(f'there is no action "{action_id}" of yours', "see list_actions")
    if row.status != "done":
        raise Conflict(f"action {action_id} is {row.status}, not done", "only what was done can be undone")
    if not row.undo:
        raise Unsupported(f"{row.tool} can't be undone", "updates, stage moves, tags and task changes can")
    way, record, current = await _look(desk, row)
    _refuse_changed(row, current)
    before = row.undo["before"]
    back = ", ".join(f"{name} back to {said(before[name])}" for name in before)
    label = named(way.kind, record.id, getattr(record, "label", None) or getattr(record, "name", None) or record.id)
    return Preview(
        f"Undo {row.tool} of {label}: {back}",
        whole(before),
        facts={"current": current, "back": before},
        lead=row.lead,
        also=(row.tool,),
    )


async def undo(desk: Desk, action_id: str, caller: str) -> Done:
    """Put the values back, once."""
    row = await desk.store.get(action_id)
    if row is None or row.undo is None or not await desk.store.mark_undone(action_id, caller):
        raise Conflict(f"action {action_id} can't be undone any more", "see list_actions")
    put_back = False
    try:
        way, _, current = await _look(desk, row)
        _refuse_changed(row, current)
        await way.write(desk, row.undo["id"], row.undo["before"])
        put_back = True
    finally:
        if not put_back:
            await desk.store.unmark_undone(action_id)
    return Done(f"undone: {row.summary}", lead=row.lead, touched=row.touched, undone=action_id)


def _refuse_changed(row: Action, current: Values) -> None:
    assert row.undo is not None
    after = row.undo["after"]
    moved = [
        f"{name} is {said(current.get(name))}, it was {said(after[name])} after the action"
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
        read: Callable[[Desk, str], Awaitable[Lead | Deal | Task]],
        write: Callable[[Desk, str, Values], Awaitable[object]],
    ) -> None:
        self.kind: RecordKind = kind
        self.read = read
        self.write = write


async def _look(desk: Desk, row: Action) -> tuple[_Way, Lead | Deal | Task, dict[str, Any]]:
    assert row.undo is not None
    way = WAYS[row.undo["verb"]]
    record = await way.read(desk, row.undo["id"])
    values = record.shown()
    return way, record, {name: values.get(name) for name in row.undo["after"]}


async def _lead(desk: Desk, record: str) -> Lead:
    return await desk.lead(record)


async def _deal(desk: Desk, record: str) -> Deal:
    return await desk.crm(ReadsDeals).get_deal(record)


async def _task(desk: Desk, record: str) -> Task:
    return await desk.crm(KeepsTasks).get_task(record)


async def _write_lead(desk: Desk, record: str, values: Values) -> None:
    fields = {name: value for name, value in values.items() if name != "custom_fields"}
    clear = tuple(name for name, value in fields.items() if value is None)
    given = {name: value for name, value in fields.items() if value is not None}
    if "custom_fields" in values:
        # Only those that differ: some of what a vendor shows beside our fields can't be written.
        before: dict[str, Any] = values["custom_fields"] or {}
        present = (await desk.lead(record)).custom_fields or {}
        given["custom_fields"] = {
            name: before.get(name) for name in {**present, **before} if present.get(name) != before.get(name)
        }
    try:
        change = LeadUpdate(clear=clear, **given)
    except ValidationError as error:
        fields_of_it = ", ".join(str(each["loc"][0]) for each in error.errors())
        raise Unsupported(f"the values before can't be written back: {fields_of_it}", "write others by hand") from None
    await desk.crm(WritesLeads).update_lead(record, change)


async def _write_tags(desk: Desk, record: str, values: Values) -> None:
    present = set((await _lead(desk, record)).tags or ())
    wanted = set(values["tags"] or ())
    await desk.crm(TagsLeads).tag_lead(record, sorted(wanted - present), sorted(present - wanted))


async def _write_lead_stage(desk: Desk, record: str, values: Values) -> None:
    await desk.crm(MovesLeads).move_lead(record, (await desk.stage(values["stage"], "leads")).id)


async def _write_deal_stage(desk: Desk, record: str, values: Values) -> None:
    await desk.crm(MovesDeals).move_deal(record, (await desk.stage(values["stage"], "deals")).id)


async def _write_deal(desk: Desk, record: str, values: Values) -> None:
    if values.get("stage"):
        await _write_deal_stage(desk, record, values)
    fields = {name: value for name, value in values.items() if name != "stage"}
    clear = [name for name, value in fields.items() if value is None]
    given = {name: value for name, value in fields.items() if value is not None}
    if fields:
        await desk.crm(WritesDeals).update_deal(record, DealFields(**given), clear)


async def _write_task(desk: Desk, record: str, values: Values) -> None:
    clear = [name for name, value in values.items() if value is None]
    given = {name: value for name, value in values.items() if value is not None}
    await desk.crm(KeepsTasks).update_task(record, TaskFields(**given), clear)


WAYS: dict[str, _Way] = {
    "lead": _Way("lead", _lead, _write_lead),
    "tags": _Way("lead", _lead, _write_tags),
    "lead_stage": _Way("lead", _lead, _write_lead_stage),
    "deal_stage": _Way("deal", _deal, _write_deal_stage),
    "deal": _Way("deal", _deal, _write_deal),
    "task": _Way("task", _task, _write_task),
}
