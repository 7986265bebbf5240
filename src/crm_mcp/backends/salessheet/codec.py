"""From SalesSheet's records to ours. A value that is not what it should be is left out; only an id must be there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.backends.remote import identified, key_of, moment, number_in, others, text, transcript_of
from crm_mcp.backends.salessheet.keys import Keys
from crm_mcp.model import (
    Activity,
    Call,
    CustomValue,
    Deal,
    DealStatus,
    Direction,
    Lead,
    Message,
    Note,
    NoteKind,
    Priority,
    Task,
    fold,
)

Json = dict[str, Any]
HistoryKind = Literal["note", "call", "message"]

_PRIORITIES: dict[str, Priority] = {
    "low": "low",
    "normal": "normal",
    "medium": "normal",
    "high": "high",
    "urgent": "high",
}
"""Words that are understood beside those of the keys."""
_DIRECTIONS: dict[str, Direction] = {
    "inbound": "inbound",
    "incoming": "inbound",
    "received": "inbound",
    "outbound": "outbound",
    "outgoing": "outbound",
    "sent": "outbound",
}


@dataclass(frozen=True)
class Stage:
    """A stage of a pipeline; `name` has the pipeline's before it where several pipelines have a stage so called."""

    id: str
    name: str


def known_by(record: object) -> str:
    """Return a record's id.

    Raises:
        VendorError: it has none.
    """
    return identified("SalesSheet", record)


def lead(record: Json, keys: Keys, number: Callable[[object], str | None]) -> Lead:
    """Return a contact as a lead; what no field of ours takes is in `custom_fields`."""
    custom = record.get(keys.custom_fields)
    inside = cast("Json", custom) if isinstance(custom, dict) else {}
    left = others(record, known_of_contacts(keys))
    fields: dict[str, CustomValue] = {**(left or {}), **(others(inside, frozenset()) or {})}
    return Lead(
        id=known_by(record),
        name=text(record.get(keys.name)) or joined_name(record, keys),
        first_name=text(record.get(keys.first_name)),
        last_name=text(record.get(keys.last_name)),
        email=text(record.get(keys.email)),
        phone=number(record.get(keys.phone)),
        company=_named(record.get(keys.company)),
        title=text(record.get(keys.title)),
        status=text(record.get(keys.status)),
        owner=_named(record.get(keys.owner)),
        created_at=moment(record.get(keys.created_at)),
        updated_at=moment(record.get(keys.updated_at)),
        last_contacted_at=moment(record.get(keys.last_contacted_at)),
        do_not_contact=refused_channels(fields),
        custom_fields=fields or None,
    )


def known_of_contacts(keys: Keys) -> frozenset[str]:
    """Return the keys of a contact that fields of ours take."""
    return frozenset(
        {
            "id",
            *(keys.name, keys.first_name, keys.last_name, keys.email, keys.phone, keys.company, keys.title),
            *(keys.status, keys.owner, keys.custom_fields),
            *(keys.created_at, keys.updated_at, keys.last_contacted_at),
        }
    )


def joined_name(record: Mapping[str, Any], keys: Keys) -> str | None:
    """Return first and last name of a contact as one."""
    parts = (text(record.get(each)) for each in (keys.first_name, keys.last_name))
    return " ".join(each for each in parts if each) or None


def deal(record: Json, keys: Keys, stages: Mapping[str, Stage]) -> Deal:
    """Return a deal; its stage by name where `stages` has it, else as the CRM gives it."""
    at = _linked(record, keys.deal_stage)
    stage = stages[at].name if at and at in stages else _named(record.get("stage")) or at
    return Deal(
        id=known_by(record),
        lead_id=_linked(record, keys.contact),
        name=text(record.get(keys.deal_name)),
        value=number_in(record.get(keys.deal_value)),
        currency=text(record.get(keys.deal_currency)),
        stage=stage,
        status=_deal_status(text(record.get(keys.deal_status)), stage),
        closes_at=moment(record.get(keys.deal_closes_at)),
        owner=_named(record.get(keys.deal_owner)),
    )


def stage_of(record: Json, keys: Keys) -> str | None:
    """Return the id of the stage that a deal is in."""
    return _linked(record, keys.deal_stage)


def task(record: Json, keys: Keys) -> Task:
    """Return a task."""
    status = fold(text(record.get(keys.task_status)) or "")
    done = record.get("completed") is True or status in (fold(keys.task_completed), "completed", "done", "closed")
    return Task(
        id=known_by(record),
        lead_id=_linked(record, keys.contact),
        title=text(record.get(keys.task_title)),
        due_at=moment(record.get(keys.task_due_at)),
        priority=_priority(record, keys),
        completed=done,
    )


def _priority(record: Json, keys: Keys) -> Priority | None:
    word = fold(text(record.get(keys.task_priority)) or "")
    words: dict[str, Priority] = {
        fold(keys.priority_low): "low",
        fold(keys.priority_normal): "normal",
        fold(keys.priority_high): "high",
    }
    return words.get(word) or _PRIORITIES.get(word)


def kind_of(record: Json, keys: Keys) -> HistoryKind:
    """Return what an activity is to us: calls and e-mails are themselves, all else is a note."""
    kind = _note_kind(record, keys)
    return "call" if kind == "call" else "message" if kind == "email" else "note"


def note(record: Json, keys: Keys) -> Note:
    """Return an activity of whatever type as a note; `kind` is None for a type that is none of ours."""
    return Note(
        id=known_by(record),
        lead_id=_linked(record, keys.contact),
        content=_content(record, keys),
        kind=_note_kind(record, keys),
        outcome=text(record.get(keys.activity_outcome)),
        occurred_at=_when(record, keys),
        duration_seconds=_seconds(record.get(keys.activity_duration)),
        direction=_direction(record, keys),
    )


def call(record: Json, keys: Keys, *, whole: bool) -> Call:
    """Return an activity of the type call, with its transcript where `whole`."""
    return Call(
        id=known_by(record),
        lead_id=_linked(record, keys.contact),
        direction=_direction(record, keys),
        duration_seconds=_seconds(record.get(keys.activity_duration)),
        outcome=text(record.get(keys.activity_outcome)),
        started_at=_when(record, keys),
        recording_url=text(record.get(keys.recording_url)),
        transcript=transcript_of(record.get(keys.transcript)) if whole else None,
    )


def message(record: Json, keys: Keys) -> Message:
    """Return an activity of the type e-mail."""
    return Message(
        id=known_by(record),
        lead_id=_linked(record, keys.contact),
        channel="email",
        direction=_direction(record, keys),
        subject=text(record.get(keys.activity_subject)),
        body=text(record.get(keys.activity_body)),
        status=text(record.get(keys.activity_status)),
        sent_at=_when(record, keys),
    )


def activity(record: Json, keys: Keys) -> Activity:
    """Return an activity in the shape of a history."""
    kind = kind_of(record, keys)
    told = _content(record, keys) or (transcript_of(record.get(keys.transcript)) if kind == "call" else None)
    return Activity(
        kind=kind,
        id=known_by(record),
        at=_when(record, keys),
        text=told,
        channel=text(record.get(keys.activity_type)),
        direction=_direction(record, keys),
        outcome=text(record.get(keys.activity_outcome)),
    )


def contact_of(record: Json, keys: Keys) -> str | None:
    """Return the id of the contact that a record belongs to."""
    return _linked(record, keys.contact)


def _linked(record: Json, key: str) -> str | None:
    """Return the id of a linked record, from `contact_id` or from `contact: {id}`."""
    value = record.get(key)
    if value is None:
        value = record.get(key.removesuffix("_id"))
    return key_of(value) if isinstance(value, dict) else text(value)


def _named(value: object) -> str | None:
    """Return what a person, company or stage is called, where it is a record of its own."""
    if isinstance(value, dict):
        return key_of(value, "name", "email", "id")
    return text(value)


def _content(record: Json, keys: Keys) -> str | None:
    parts = (text(record.get(each)) for each in (keys.activity_subject, keys.activity_body))
    return "\n".join(each for each in parts if each) or None


def _when(record: Json, keys: Keys) -> Any:
    return moment(record.get(keys.activity_at)) or moment(record.get(keys.created_at))


def _seconds(value: object) -> int | None:
    found = number_in(value)
    return int(found) if found is not None and found >= 0 else None


def _direction(record: Json, keys: Keys) -> Direction | None:
    return _DIRECTIONS.get(fold(text(record.get(keys.activity_direction)) or ""))


def _note_kind(record: Json, keys: Keys) -> NoteKind | None:
    kinds: dict[str, NoteKind] = {
        fold(keys.activity_note): "note",
        fold(keys.activity_call): "call",
        fold(keys.activity_email): "email",
        fold(keys.activity_meeting): "meeting",
    }
    return kinds.get(fold(text(record.get(keys.activity_type)) or ""))


def _deal_status(status: str | None, stage: str | None) -> DealStatus | None:
    """Return a deal's status; where it has none, by the words of its stage."""
    words = set(re.findall(r"\w+", fold((status or stage or "").replace("_", " "))))
    if "won" in words:
        return "won"
    if "lost" in words:
        return "lost"
    return "open" if status is None or "open" in words else None
