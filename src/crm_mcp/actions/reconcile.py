"""What the CRM's own history says of an action whose answer was lost.

Each function only reads. It returns what happened, as the tool would have told it, or None where the history does not
show it: then it stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from crm_mcp.actions.context import Context
from crm_mcp.actions.intent import Outcome, under_way
from crm_mcp.actions.summary import escape_markup
from crm_mcp.backends.base import (
    FindsLeads,
    KeepsTasks,
    LogsNotes,
    ReadsDeals,
    RecallsCalls,
    RecallsMessages,
    RunsSequences,
)
from crm_mcp.backends.identity import find_same
from crm_mcp.channels import ROWS, Channel, address_of
from crm_mcp.errors import InvalidArgument, NotFound
from crm_mcp.model import Deal, Delivery, Lead, LeadDraft, Note, NoteKind, RecordKind, Slice, Task, fold
from crm_mcp.store import Action, Status

FOLDED = frozenset({"status", "owner", "stage", "priority"})
"""Fields of which case and accents do not matter."""
LONGEST_NOTE = 20_000
CLOCKS_APART = timedelta(minutes=2)
"""How much earlier than ours the CRM's clock may put a message. What is older was sent by another action."""


async def message(
    context: Context, row: Action, channel: Channel, text: str, subject: str | None = None
) -> Outcome | None:
    """Look for a message that went out."""
    crm = context.crm_if(RecallsMessages)
    if crm is None or row.lead is None:
        return None
    lead = await context.lead(row.lead)
    known = await _made(context, row, "message", lead.id)
    found = await crm.sent_message(lead, channel, text, subject, since(row), known)
    return sent(lead, Delivery(message=found, delivered=True), channel) if found else None


async def call(context: Context, row: Action) -> Outcome | None:
    """Look for a call that was started."""
    crm = context.crm_if(RecallsCalls)
    if crm is None or row.lead is None:
        return None
    lead = await context.lead(row.lead)
    found = await crm.started_call(lead, since(row))
    return started(lead, found.shown()) if found else None


async def enrolments(context: Context, sequence: str, leads: Sequence[str]) -> bool:
    """Whether all of these leads are enrolled in a sequence now, as far as the CRM tells it."""
    crm = context.crm(RunsSequences)
    for each in leads:
        if not await crm.enrolled(sequence, each):
            return False
    return True


# What was written


async def read_record(context: Context, kind: RecordKind, record: str) -> Lead | Task | Deal | Note:
    """Read a record of any kind by its id. Raises NotFound where it is not there."""
    match kind:
        case "lead":
            return await context.crm(FindsLeads).get_lead(record)
        case "task":
            return await context.crm(KeepsTasks).get_task(record)
        case "deal":
            return await context.crm(ReadsDeals).get_deal(record)
        case "note":
            return await context.crm(LogsNotes).get_note(record)


async def is_gone(context: Context, kind: RecordKind, record: str) -> bool:
    """Whether there is no record of this id any more."""
    try:
        await read_record(context, kind, record)
    except NotFound:
        return True
    return False


def has(context: Context, record: Lead | Task | Deal, wanted: Mapping[str, Any]) -> bool:
    """Whether a record has these values now: JSON values, None for what is to be empty.

    A value that the CRM may show otherwise than it was given counts as another one.
    """
    found = record.shown()
    return all(_same(context, name, value, found.get(name)) for name, value in wanted.items())


def _same(context: Context, name: str, wanted: Any, found: Any) -> bool:
    if wanted in (None, [], {}):
        return found in (None, [], {})
    if found is None:
        return False
    if name == "tags":
        return {fold(each) for each in wanted} == {fold(each) for each in found}
    if name == "custom_fields":
        # Of the names that stand here one is an address of ours; the others are the account's, whatever they are.
        named = {each: each if each == "linkedin" else "" for each in wanted}
        return all(_same(context, named[each], value, found.get(each)) for each, value in wanted.items())
    if name == "linkedin" and isinstance(wanted, str) and isinstance(found, str):
        return address_of("linkedin", wanted, None) == address_of("linkedin", found, None)
    if name in ("email", "phone"):
        channel: Channel = "email" if name == "email" else "sms"
        country = context.settings.country
        return address_of(channel, wanted, country) == address_of(channel, found, country)
    if name in FOLDED:
        return fold(wanted) == fold(found)
    if name.endswith("_at"):
        return datetime.fromisoformat(wanted) == datetime.fromisoformat(found)
    return _spaced(wanted) == _spaced(found)


def _spaced(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


async def created_lead(context: Context, draft: LeadDraft, at: datetime) -> Lead | None:
    """Return the one lead that is the draft's person, where it was created at or after a moment."""
    lead = await find_same(context.crm(FindsLeads), draft)
    return lead if lead and lead.created_at and lead.created_at >= at else None


async def is_of_another(context: Context, row: Action, done: Outcome, *, idempotent: bool) -> bool:
    """Whether what was found is, or may be, what another action has done that asked for the same: the CRM can't tell
    whose it is, and one effect is not the success of two.

    `idempotent`: what the tool does may be done twice and shows once, so that nothing is told of one that is unknown.
    """
    if not done.touched:
        return False
    began, chain = _began(row), await _repeated(context, row)
    # In the order in which an action takes them: none slips through.
    for status in ("sending", "done") if idempotent else ("sending", "unknown", "done"):
        # Of which lead a write is, is not known before it is done.
        for each in await _others(context, row, status, done.lead if status == "done" else None):
            if each.tool != row.tool:
                continue
            if status == "done":
                same = each.touched[:1] == done.touched[:1] and (each.finished_at or began) >= began
            else:
                same = _began(each) >= since(row) and (
                    each.digest == row.digest or not chain.isdisjoint(await _repeated(context, each))
                )
            if same:
                return True
    return False


async def _others(context: Context, row: Action, status: Status, lead: str | None) -> list[Action]:
    """Return the newest other actions of this status, of one lead or of any."""
    rows, _ = await context.store.actions.page(
        caller=None,
        status=status,
        lead={context.connection: lead} if lead else None,
        after=None,
        limit=100,
        connection=context.connection,
    )
    return [each for each in rows if each.id != row.id]


async def _repeated(context: Context, row: Action) -> frozenset[str]:
    """Return an action and those that it repeats on purpose, by their ids."""
    chain, named = {row.id}, row.arguments.get("resend_of")
    while isinstance(named, str) and named not in chain:
        earlier = await context.store.actions.get(named)
        chain.add(named)
        named = earlier.arguments.get("resend_of") if earlier else None
    return frozenset(chain)


async def _made(context: Context, row: Action, kind: Literal["note", "message"], lead: str) -> frozenset[str]:
    """Return the records of a kind that other actions are known to have made for the lead: those are not this one's."""
    others = await _others(context, row, "done", lead)
    return frozenset(record for each in others for of, record in each.touched if of == kind)


async def logged_note(context: Context, row: Action, content: str, kind: NoteKind, at: datetime | None) -> Note | None:
    """Return the note of this text that was logged for the action's lead since it began; `at`: the time it was given.

    Those that other actions have logged are not this one's.
    """
    lead = (await context.lead(row.lead or str(row.arguments["lead"]))).id
    known = await _made(context, row, "note", lead)
    found = [
        each
        for each in (await context.crm(LogsNotes).list_notes(lead, Slice(limit=100))).items
        if each.id not in known
        and _spaced(each.content or "") == _spaced(content)
        and each.kind in (kind, None)
        and each.occurred_at is not None
        and (each.occurred_at == at if at else each.occurred_at >= since(row))
    ]
    return found[0] if len(found) == 1 else None


# What is said of it


def signed(context: Context, content: str, row: Action | None = None) -> str:
    """Return the text of a note as a tool writes it: where the settings want it, with who wrote it.

    `row` is the action that writes it; without one it is the one under way.

    Raises:
        InvalidArgument: with that it is too long.
    """
    work = under_way.get()
    row = row or (work.row if work else None)
    if not context.settings.audit.attribution or row is None:
        return content
    line = f"\n\nby agent {escape_markup(row.caller)}, action {row.id}"
    if len(content) + len(line) > LONGEST_NOTE:
        most = LONGEST_NOTE - len(line)
        raise InvalidArgument(
            f"content has {len(content)} characters", f"give at most {most}: the note names its writer", wrote=False
        )
    return content + line


def sent(lead: Lead, delivery: Delivery, channel: Channel, subject: str | None = None) -> Outcome:
    """Say that a message was sent."""
    to = lead.address(channel)
    row = ROWS[channel]
    sends = f'{row.sends} "{subject}"' if subject else row.sends
    what = f"{sends} to {row.to.format(name=lead.label, address=to)}"
    if not delivery.delivered:
        said = f"recorded, not delivered: {what}"
    else:
        said = f"handed over: {what}; {delivery.note}" if delivery.note else f"sent {what}"
    touched = (("message", delivery.message.id), ("lead", lead.id))
    return Outcome(said, {"result": delivery.shown()}, lead.id, touched)


def started(lead: Lead, call: dict[str, Any]) -> Outcome:
    """Say that a call was started."""
    said = f"started a call to {lead.label} at {lead.phone}"
    return Outcome(said, {"result": {"call": call}}, lead.id, (("lead", lead.id),))


def since(row: Action) -> datetime:
    """Return the moment before which nothing is an action's doing, as the CRM's clock may have it."""
    return _began(row) - CLOCKS_APART


def begun(row: Action) -> datetime:
    """Return when an action began, in whole seconds as a CRM may keep them: for what another may have done shortly
    before."""
    return _began(row).replace(microsecond=0) - timedelta(seconds=1)


def _began(row: Action) -> datetime:
    return row.started_at or row.created_at
