"""The nouns of a CRM, as an agent sees them: no vendor in them, frozen, times always with a zone.

Absent values are None here and left out of what is served. Ids are strings, as the vendor has them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from crm_mcp.channels import ROWS, Channel
from crm_mcp.text import normal, unseen

RecordKind = Literal["lead", "task", "deal", "note"]
NoteKind = Literal["note", "call", "email", "meeting"]
ActivityKind = Literal["note", "call", "message", "task"]
Direction = Literal["inbound", "outbound"]
Priority = Literal["low", "normal", "high"]
DealStatus = Literal["open", "won", "lost"]
StageOwner = Literal["leads", "deals"]
OptionKind = Literal[
    "stages", "statuses", "tags", "sequences", "mailboxes", "senders", "lists", "custom_fields", "owners"
]
IfExists = Literal["error", "update", "skip"]
Grouping = Literal["stage", "status", "owner", "tag", "month"]

_LINE_BREAK = re.compile(r"[\r\n\t\u2028\u2029]+")


def now() -> datetime:
    """Return the present moment in UTC, to the millisecond."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC, as `2026-03-20T10:00:00Z`; fractions only where there are any."""
    utc = moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds" if utc.microsecond else "seconds").replace("+00:00", "Z")


def _all_seen(text: str) -> str:
    """Refuse what a person who confirms it would not see: it could turn a question, or carry more than is shown."""
    found = unseen(text)
    if found is None:
        return text
    category = unicodedata.category(found)
    if category == "Cs":
        raise ValueError("has half of a surrogate pair, which is no character")
    if category in ("Cc", "Cf"):
        raise ValueError(f"has the control character U+{ord(found):04X}")
    raise ValueError(f"has the character U+{ord(found):04X}, which is not seen here")


def _one_line(text: str) -> str:
    line = _LINE_BREAK.sub(" ", _all_seen(text)).strip()
    if not line:
        raise ValueError("is empty")
    return line


Moment = Annotated[AwareDatetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]
Line = Annotated[str, StringConstraints(max_length=200, min_length=1), AfterValidator(_one_line)]
"""A name: one line of at most 200 characters; what is not seen is refused, line breaks become spaces."""
Text = Annotated[str, StringConstraints(max_length=20_000, min_length=1), AfterValidator(lambda t: _one_line(t) and t)]
"""A note: up to 20,000 characters, without what is not seen but line breaks and tabs."""
CustomValue = (
    Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_all_seen)]
    | int
    | Annotated[float, Field(allow_inf_nan=False)]
    | bool
    | None
)
MOST_FIELDS = 500
MOST_IN_FIELDS = 200_000
"""How many custom fields a lead is given at most, and how many characters in all, names and values. A CRM may have
more: it is read as it is."""


def crowded(fields: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> str | None:
    """Return what is too much where a lead would have these custom fields, None where it may.

    One that had more `before` may keep what it has.
    """

    def characters(of: Mapping[str, Any]) -> int:
        return sum(len(name) + len(str(value)) for name, value in of.items())

    had = before or {}
    if len(fields) > max(MOST_FIELDS, len(had)):
        return f"{len(fields)} fields; give at most {MOST_FIELDS}"
    if (found := characters(fields)) > MOST_IN_FIELDS and found > characters(had):
        return f"{found} characters in all; give at most {MOST_IN_FIELDS}"
    return None


def uncrowded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return as many of these custom fields as a lead may be given, the first ones."""
    kept: dict[str, Any] = {}
    left = MOST_IN_FIELDS
    for name, value in fields.items():
        left -= len(name) + len(str(value))
        if left < 0 or len(kept) == MOST_FIELDS:
            break
        kept[name] = value
    return kept


def _not_crowded(fields: dict[str, Any]) -> dict[str, Any]:
    if too_much := crowded(fields):
        raise ValueError(f"has {too_much}")
    return fields


CustomFields = Annotated[dict[Line, CustomValue], AfterValidator(_not_crowded)]


def fold(text: str) -> str:
    """Return `text` for comparing: case-folded, stripped of accents, so that `strasse` and `Straße` are one."""
    if text.isascii():  # most is, and an import folds much
        return text.lower()
    decomposed = normal("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c)).translate(_PLAIN).casefold()


_PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"})


class Record(BaseModel):
    """The root of all nouns: frozen, and built only when first used (start-up counts)."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def shown(self) -> dict[str, Any]:
        """Return it as it is served: JSON values, absent fields left out."""
        return self.model_dump(mode="json", exclude_none=True)


class Lead(Record):
    """A person, as the CRM has them."""

    id: str
    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None
    company: str | None = None
    title: str | None = None
    status: str | None = None
    stage: str | None = None
    tags: tuple[str, ...] | None = None
    owner: str | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    last_contacted_at: Moment | None = None
    do_not_contact: tuple[Channel, ...] | None = None
    """The channels that are blocked; None where none is."""
    custom_fields: dict[str, str | int | float | bool | None] | None = None
    """As the CRM has them, whatever is in them; what is written is checked, see `LeadFields`."""
    url: str | None = None

    @property
    def label(self) -> str:
        """What a person calls this lead: the name, else the company, an address or the id."""
        return self.name or self.company or self.email or self.phone or self.id

    def address(self, channel: Channel) -> str | None:
        """Where this lead is reached on a channel: an address, a number, or a LinkedIn profile."""
        field, _, custom = ROWS[channel].field.partition(".")
        found = (self.custom_fields or {}).get(custom) if custom else getattr(self, field)
        return found if isinstance(found, str) and (found or not custom) else None


class LeadFields(Record):
    """What can be written of a lead. None leaves a field as it is; see `LeadUpdate.clear` for emptying one."""

    name: Line | None = None
    first_name: Line | None = None
    last_name: Line | None = None
    email: str | None = None
    phone: str | None = None
    company: Line | None = None
    title: Line | None = None
    status: Line | None = None
    owner: Line | None = None
    tags: tuple[Line, ...] | None = None
    custom_fields: CustomFields | None = None
    list: Line | None = None
    """A list to add the lead to."""


class LeadDraft(LeadFields):
    """A lead to be created."""


class LeadUpdate(LeadFields):
    """Changes to a lead; `clear` names the fields to empty."""

    clear: tuple[str, ...] = ()


class LeadFilter(Record):
    """Which leads to find. Each backend says in `lead_filters` which of these it can do."""

    query: str | None = None
    status: str | None = None
    stage: str | None = None
    tag: str | None = None
    owner: str | None = None
    list: str | None = None
    created_after: Moment | None = None
    not_contacted_since: Moment | None = None
    sort: str | None = None


class Note(Record):
    """Something that was said or done."""

    id: str
    lead_id: str | None = None
    content: str | None = None
    kind: NoteKind | None = None
    outcome: str | None = None
    occurred_at: Moment | None = None
    duration_seconds: int | None = None
    direction: Direction | None = None


class NoteDraft(Record):
    """A note to be logged."""

    content: Text
    kind: NoteKind = "note"
    outcome: Line | None = None
    occurred_at: Moment | None = None
    duration_seconds: int | None = None
    direction: Direction | None = None


class Task(Record):
    """A to-do."""

    id: str
    lead_id: str | None = None
    title: str | None = None
    due_at: Moment | None = None
    priority: Priority | None = None
    completed: bool | None = None


class TaskFields(Record):
    """What can be written of a task; None leaves a field as it is."""

    title: Line | None = None
    due_at: Moment | None = None
    priority: Priority | None = None
    completed: bool | None = None


class Deal(Record):
    """A sale in the making."""

    id: str
    lead_id: str | None = None
    name: str | None = None
    value: float | None = None
    currency: str | None = None
    stage: str | None = None
    status: DealStatus | None = None
    closes_at: Moment | None = None
    owner: str | None = None


class DealFields(Record):
    """What can be written of a deal; None leaves a field as it is."""

    name: Line | None = None
    value: float | None = None
    currency: str | None = None
    status: DealStatus | None = None
    closes_at: Moment | None = None


class DealFilter(Record):
    """Which deals to list."""

    stage: str | None = None
    lead: str | None = None
    status: str | None = None
    owner: str | None = None
    closes_before: Moment | None = None


class Call(Record):
    """A phone call, with recording and transcript where there is one."""

    id: str
    lead_id: str | None = None
    direction: Direction | None = None
    duration_seconds: int | None = None
    outcome: str | None = None
    started_at: Moment | None = None
    recording_url: str | None = None
    transcript: str | None = None


class Message(Record):
    """An e-mail, SMS or LinkedIn message."""

    id: str
    lead_id: str | None = None
    channel: Channel | None = None
    direction: Direction | None = None
    subject: str | None = None
    body: str | None = None
    status: str | None = None
    sent_at: Moment | None = None


class Activity(Record):
    """A note, call, message or task of a lead, in one shape."""

    kind: ActivityKind
    id: str
    at: Moment | None = None
    text: str | None = None
    channel: str | None = None
    direction: Direction | None = None
    outcome: str | None = None
    completed: bool | None = None
    opt_out_suspected: bool | None = None
    """Whether a message that came in may ask for no more of them; None: it does not."""


class Mailbox(Record):
    """A mailbox that e-mail can be sent from."""

    id: str
    address: str
    default: bool = False


class Sender(Record):
    """A profile that LinkedIn messages can be sent from."""

    id: str
    name: str
    default: bool = False


class Option(Record):
    """One valid value of a field: a stage, tag, sequence, mailbox ..."""

    id: str
    name: str
    of: StageOwner | None = None
    """For stages: whether they sit on leads or on deals."""


class SequenceStep(Record):
    """One message of a sequence, `after_days` days after the one before."""

    position: int
    after_days: int
    channel: Channel
    subject: str | None = None
    body: str


class DueStep(Record):
    """A step of a sequence that is due for a lead."""

    sequence: str
    lead_id: str
    lead: str
    position: int
    channel: Channel
    due_at: Moment


class Sequence(Record):
    """A series of messages that leads are enrolled in; `active` is how many are now, where the CRM tells it."""

    id: str
    name: str
    active: int | None = None
    steps: tuple[SequenceStep, ...] = ()


class Group(Record):
    """One group of a pipeline: how many, and worth how much."""

    name: str
    count: int
    value: float | None = None


class Pipeline(Record):
    """What `get_pipeline` answers; `partial` where the vendor has too many to count."""

    groups: tuple[Group, ...]
    total: int
    partial: bool = False


class Delivery(Record):
    """What became of a message: `delivered` is False where it was only recorded, and `note` says why."""

    message: Message
    delivered: bool
    note: str | None = None


class Account(Record):
    """What is behind a connection: `found` is one line for people, `plan` the key's plan or scope as far as seen."""

    user: str | None = None
    found: str
    plan: str | None = None


class Budget(Record):
    """How many calls a limit has left now; `resets_in` seconds from now it has all of them again."""

    name: str
    limit: int
    remaining: int
    resets_in: int


T = TypeVar("T")


class Page(Record, Generic[T]):
    """A part of a list: `next` is the backend's own position of what follows, None at the end; `total` is how many
    there are in all, where the backend counts them."""

    items: tuple[T, ...] = ()
    next: str | None = None
    total: int | None = None


class Slice(Record):
    """Which part of a list is wanted: at most `limit` items after `position`."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    position: str | None = None


class Rejected(Record):
    """One item of a batch that was not done, and why."""

    item: str
    reason: str


class ImportRow(Record):
    """One lead of a bulk import. `key` is the fingerprint of its source row: a second import of it is recognised."""

    draft: LeadDraft
    key: str | None = None
    blocked: tuple[Channel, ...] = ()
    """The channels on which the row says that they must not be contacted."""
    refused: tuple[tuple[Channel, str], ...] = ()
    """Where they are reached on those, with every address that the row has, as it is compared."""
    remarks: tuple[str, ...] = ()
    """What of the row could not be taken, and why."""


class ImportOutcome(Record):
    """What became of one row of an import."""

    outcome: Literal["created", "updated", "skipped", "failed"]
    id: str | None = None
    reason: str | None = None
    whom: str | None = None
    """Whom the row met, as a person calls them: the lead as it was."""
