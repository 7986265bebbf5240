"""What the vendors' backends share about what happened with a lead: records in the shape of a history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Activity, ActivityKind, Call, Message, Note, Task, fold

LONGEST_CALL = 10 * 24 * 3600
NOT_SENT = frozenset(
    (
        *("failed", "error", "bounced", "rejected", "undelivered", "undeliverable"),
        *("draft", "canceled", "cancelled", "deleted", "discarded", "skipped"),
    )
)
"""The statuses, as vendors of messages have them, of one that did not reach anybody and won't."""


@dataclass(frozen=True)
class Wanted:
    """A message that is looked for in a history, as `RecallsMessages` describes it."""

    lead: str
    channel: Channel
    text: str
    subject: str | None
    since: datetime
    known: frozenset[str]

    def newest(self, history: Iterable[Message]) -> Message | None:
        """Return the newest of a history that is this one."""
        found = [each for each in history if self.may_be(each) and self.reads(each)]
        return max(found, key=lambda each: each.sent_at or self.since, default=None)

    def may_be(self, message: Message) -> bool:
        """Whether a message can be this one, by all but its text, which a list may leave out."""
        return (
            (message.lead_id, message.channel, message.direction) == (self.lead, self.channel, "outbound")
            and message.id not in self.known
            and fold(message.status or "") not in NOT_SENT
            and message.sent_at is not None
            and message.sent_at >= whole_second(self.since)
            and (not self.subject or not message.subject or _spaced(message.subject) == _spaced(self.subject))
        )

    def reads(self, message: Message) -> bool:
        """Whether a message has this text."""
        return _spaced(message.body or "") == _spaced(self.text)


def whole_second(moment: datetime) -> datetime:
    """Return a moment without its fraction of a second: many a vendor's times have none."""
    return moment.replace(microsecond=0)


def _spaced(text: str) -> str:
    return " ".join(text.split())


def refuse_kinds(kinds: Sequence[ActivityKind], valid: Sequence[ActivityKind]) -> None:
    """Raise InvalidArgument where one of the kinds asked for is none that this CRM has."""
    for kind in kinds:
        if kind not in valid:
            raise InvalidArgument(f'"{str(kind)[:40]}" is no kind of activity', choices(kind, valid))


def refuse_duration(seconds: int | None) -> None:
    """Raise InvalidArgument where a call can't have lasted so long."""
    if seconds is not None and not 0 <= seconds <= LONGEST_CALL:
        raise InvalidArgument("the duration is not possible", f"give 0 to {LONGEST_CALL} seconds", wrote=False)


def of_note(note: Note) -> Activity:
    """Return a note as an activity."""
    return Activity(
        kind="note",
        id=note.id,
        at=note.occurred_at,
        text=note.content,
        channel=note.kind,
        direction=note.direction,
        outcome=note.outcome,
    )


def of_call(call: Call) -> Activity:
    """Return a call as an activity."""
    return Activity(
        kind="call",
        id=call.id,
        at=call.started_at,
        text=call.transcript,
        channel="call",
        direction=call.direction,
        outcome=call.outcome,
    )


def of_message(message: Message) -> Activity:
    """Return a message as an activity."""
    return Activity(
        kind="message",
        id=message.id,
        at=message.sent_at,
        text="\n".join(each for each in (message.subject, message.body) if each) or None,
        channel=message.channel,
        direction=message.direction,
        outcome=message.status,
    )


def of_task(task: Task, at: datetime | None) -> Activity:
    """Return a task as an activity of a moment, as tasks have none of their own."""
    return Activity(kind="task", id=task.id, at=at, text=task.title, completed=task.completed)
