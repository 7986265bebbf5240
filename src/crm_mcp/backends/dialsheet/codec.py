"""From Dialsheet's records to ours, and a note's content from what it has no field for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast, get_args

from crm_mcp.backends.dialsheet.keys import ALSO, Keys
from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.backends.remote import identified, moment, number_in, others, text, transcript_of
from crm_mcp.errors import VendorError
from crm_mcp.model import (
    Call,
    Deal,
    DealStatus,
    Direction,
    Lead,
    Mailbox,
    Message,
    Note,
    NoteDraft,
    NoteKind,
    Option,
    Priority,
    Sequence,
    Task,
    fold,
    rfc3339,
)

_DIRECTIONS: Mapping[str, Direction] = {
    **dict.fromkeys(("inbound", "incoming", "in", "received"), "inbound"),
    **dict.fromkeys(("outbound", "outgoing", "out", "sent"), "outbound"),
    # What Twilio, which is behind its SMS (documented) and calls, has in place of the second.
    **dict.fromkeys(("outbound-api", "outbound-call", "outbound-reply", "outbound-dial"), "outbound"),
}
_PRIORITIES: Mapping[str, Priority] = {"low": "low", "normal": "normal", "medium": "normal", "high": "high"}
_STATUSES: tuple[DealStatus, ...] = get_args(DealStatus)
_KIND_WORDS: Mapping[NoteKind, str] = {"note": "Note", "call": "Call", "email": "E-mail", "meeting": "Meeting"}
_HEAD = re.compile(
    r"(Note|Call|E-mail|Meeting)(?:, (inbound|outbound))?(?:, (?=\d+ (?:min|s))(?:(\d+) min ?)?(?:(\d+) s)?)?"
    r"(?:, (\d{4}-\d\d-\d\dT[\d:.]+Z))?\.\n"
)
"""The first line that `note_content` writes."""


@dataclass(frozen=True)
class Records:
    """The decoders, with the names to read by; `number` puts a phone number into its normal form."""

    keys: Keys
    number: Callable[[object], str | None]

    def value(self, record: Mapping[str, Any], field: str) -> Any:
        """Return the value that stands under a name of `Keys`, or where else it may stand."""
        for name in (getattr(self.keys, field), *ALSO.get(field, ())):
            if record.get(name) not in (None, ""):
                return record[name]
        return None

    @property
    def lead_fields(self) -> frozenset[str]:
        """The fields of a lead's record that a field of ours takes."""
        keys = self.keys
        named = {"id", "name", "email", "phone", "company", "status", keys.created_at, keys.updated_at}
        named |= {keys.lead_title, keys.lead_first_name, keys.lead_last_name, keys.lead_owner, keys.lead_tags}
        return frozenset(named | {keys.lead_contacted_at, *ALSO["lead_owner"]})

    def lead(self, row: object) -> Lead:
        """Return a lead; what no field of ours takes stands in `custom_fields`."""
        record = mapping(row)
        custom = others(record, self.lead_fields)
        return Lead(
            id=identity(record),
            name=text(record.get("name")),
            first_name=text(self.value(record, "lead_first_name")),
            last_name=text(self.value(record, "lead_last_name")),
            email=text(record.get("email")),
            phone=self.number(record.get("phone")),
            company=label(record.get("company")),
            title=text(self.value(record, "lead_title")),
            status=label(record.get("status")),
            tags=_labels(self.value(record, "lead_tags")),
            owner=label(self.value(record, "lead_owner")),
            created_at=moment(self.value(record, "created_at")),
            updated_at=moment(self.value(record, "updated_at")),
            last_contacted_at=moment(self.value(record, "lead_contacted_at")),
            do_not_contact=refused_channels(custom),
            custom_fields=custom,
        )

    def note(self, row: object) -> Note:
        """Return a note; what `note_content` put into its first line is taken out of it again."""
        record = mapping(row)
        kind, direction, seconds, at, content = _parsed(str(record.get("content") or ""))
        return Note(
            id=identity(record),
            lead_id=text(record.get("lead_id")),
            content=content or None,
            kind=kind,
            outcome=text(record.get("outcome")),
            occurred_at=at or moment(self.value(record, "created_at")),
            duration_seconds=seconds,
            direction=direction,
        )

    def call(self, row: object, *, whole: bool = True) -> Call:
        """Return a call, with its transcript where `whole` and where the record has one."""
        record = mapping(row)
        seconds = number_in(self.value(record, "call_duration"))
        return Call(
            id=identity(record),
            lead_id=text(record.get("lead_id")),
            direction=_DIRECTIONS.get(fold(text(self.value(record, "call_direction")) or "")),
            duration_seconds=None if seconds is None else int(seconds),
            outcome=label(self.value(record, "call_outcome")),
            started_at=moment(self.value(record, "call_started_at")),
            recording_url=text(self.value(record, "call_recording")),
            transcript=transcript_of(self.value(record, "call_transcript")) if whole else None,
        )

    def email(self, row: object) -> Message:
        """Return an e-mail: the history has those that were sent (documented), unless a record says otherwise."""
        record = mapping(row)
        way = self._direction(record) or "outbound"
        return self._message(record, "email", text(record.get("subject")), text(record.get("body_text")), way)

    def sms(self, row: object) -> Message:
        """Return an SMS."""
        record = mapping(row)
        return self._message(record, "sms", None, text(record.get("message")), self._direction(record))

    def _direction(self, record: Mapping[str, Any]) -> Direction | None:
        return _DIRECTIONS.get(fold(text(self.value(record, "message_direction")) or ""))

    def _message(
        self, record: Mapping[str, Any], channel: str, subject: str | None, body: str | None, way: Direction | None
    ) -> Message:
        return Message(
            id=identity(record),
            lead_id=text(record.get("lead_id")),
            channel="email" if channel == "email" else "sms",
            direction=way,
            subject=subject,
            body=body,
            status=text(self.value(record, "message_status")),
            sent_at=moment(self.value(record, "message_sent_at")),
        )

    def task(self, row: object) -> Task:
        """Return a task."""
        record = mapping(row)
        done = self.value(record, "task_completed")
        return Task(
            id=identity(record),
            lead_id=text(record.get("lead_id")),
            title=text(record.get("title")),
            due_at=moment(record.get("due_date")),
            priority=self._priority(text(record.get("priority"))),
            completed=None if done is None and self.keys.task_completed not in record else _true(done),
        )

    def _priority(self, word: str | None) -> Priority | None:
        known = fold(word or "")
        ours = {fold(self.keys.priority_low): "low", fold(self.keys.priority_normal): "normal"}
        return cast("Priority | None", ours.get(known) or _PRIORITIES.get(known))

    def deal(self, row: object) -> Deal:
        """Return a deal. Its status is the record's own, else what its stage says: won, lost, or nothing."""
        record = mapping(row)
        stage = label(self.value(record, "deal_stage"))
        return Deal(
            id=identity(record),
            lead_id=text(self.value(record, "deal_lead")),
            name=text(self.value(record, "deal_name")),
            value=number_in(self.value(record, "deal_value")),
            currency=text(self.value(record, "deal_currency")),
            stage=stage,
            status=_status(text(record.get(self.keys.deal_status)), _STATUSES) or _status(stage, ("won", "lost")),
            closes_at=moment(self.value(record, "deal_closes_at")),
            owner=label(self.value(record, "deal_owner")),
        )

    def mailbox(self, row: object) -> Mailbox:
        """Return a mailbox."""
        record = mapping(row)
        address = text(self.value(record, "mailbox_address")) or identity(record)
        return Mailbox(id=identity(record), address=address, default=_true(self.value(record, "mailbox_default")))

    def option(self, row: object) -> Option:
        """Return a tag, which may be a mere word."""
        if word := text(row):
            return Option(id=word, name=word)
        record = mapping(row)
        name = text(self.value(record, "option_name")) or identity(record)
        return Option(id=text(record.get("id")) or name, name=name)

    def sequence(self, row: object) -> Sequence:
        """Return a sequence; its steps and who is enrolled are not told."""
        record = mapping(row)
        return Sequence(id=identity(record), name=text(self.value(record, "option_name")) or identity(record))

    def made_at(self, row: object) -> datetime | None:
        """Return when a record was made."""
        return moment(self.value(mapping(row), "created_at"))


def note_content(draft: NoteDraft) -> str:
    """Return a note's content, with a first line of what Dialsheet has no field for, as `Call, outbound, 7 min.`"""
    parts: list[str] = [_KIND_WORDS[draft.kind]]
    if draft.direction:
        parts.append(draft.direction)
    if draft.duration_seconds is not None:
        minutes, seconds = divmod(draft.duration_seconds, 60)
        spoken = [f"{minutes} min"] if minutes else []
        parts.append(" ".join([*spoken, *([f"{seconds} s"] if seconds or not minutes else [])]))
    if draft.occurred_at:
        parts.append(rfc3339(draft.occurred_at))
    if parts == ["Note"] and not _HEAD.match(draft.content):
        return draft.content
    return f"{', '.join(parts)}.\n{draft.content}"


def unkept(sent: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Return the names of what was sent and does not stand in the record afterwards."""
    return [name for name, value in sent.items() if not _same(value, record.get(name))]


def mapping(row: object) -> dict[str, Any]:
    """Return a row as a record. Raises VendorError where it is none."""
    if not isinstance(row, dict):
        raise VendorError("Dialsheet's answer has a row that is no record", "try again", detail=repr(row)[:300])
    return cast("dict[str, Any]", row)


def identity(record: Mapping[str, Any]) -> str:
    """Return the id of a record. Raises VendorError where it has none."""
    return identified("Dialsheet", record)


def label(value: object) -> str | None:
    """Return what a value is called, which may be a record of its own."""
    if isinstance(value, dict):
        record = cast("dict[str, Any]", value)
        return next((found for name in ("name", "title", "email", "id") if (found := text(record.get(name)))), None)
    return text(value)


def _labels(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return (word,) if (word := text(value)) else None
    return tuple(found for each in cast("list[object]", value) if (found := label(each))) or None


def _true(value: object) -> bool:
    return fold(value) not in ("", "false", "no", "0") if isinstance(value, str) else bool(value)


def _status(words: str | None, valid: tuple[DealStatus, ...]) -> DealStatus | None:
    said = set(re.split(r"[\W_]+", fold(words or "")))
    return next((each for each in valid if each in said), None)


def _parsed(
    content: str,
) -> tuple[NoteKind, Direction | None, int | None, datetime | None, str]:
    """Return kind, direction, seconds and moment of a note, and the rest of its content."""
    found = _HEAD.match(content)
    if not found:
        return "note", None, None, None, content
    word, direction, minutes, seconds, at = found.groups()
    kind: NoteKind = next(kind for kind, each in _KIND_WORDS.items() if each == word)
    lasted = int(minutes or 0) * 60 + int(seconds or 0) if minutes or seconds else None
    return kind, cast("Direction | None", direction), lasted, moment(at), content[found.end() :]


def _same(sent: object, kept: object) -> bool:
    """Whether a value is the one that was sent, however it is written."""
    if sent is None or kept is None:
        return sent in (None, "") and kept in (None, "")
    if sent == kept:
        return True
    one, other = number_in(sent), number_in(kept)
    if one is not None or other is not None:
        return one == other
    return _letters(label(sent) or str(sent)) == _letters(label(kept) or str(kept))


def _letters(value: str) -> str:
    return re.sub(r"[\W_]+", "", fold(value))
