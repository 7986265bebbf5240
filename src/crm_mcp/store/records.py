"""What the store keeps and what it is asked: light records, without any database in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from pydantic import Field

from crm_mcp.channels import Channel
from crm_mcp.model import Moment, Record

Status = Literal[
    "proposed",
    "pending_approval",
    "scheduled",
    "sending",
    "running",
    "done",
    "failed",
    "declined",
    "expired",
    "cancelled",
    "blocked",
    "undone",
    "unknown",
    "dry_run",
]
"""The life of an action, as stored.

    proposed          asked of the client's user, by elicitation or token; served as `confirmation_required`
    pending_approval  waits in the queue for a person
    scheduled         confirmed or allowed, and waits for its time
    sending           claimed: the request is about to leave, has left, or its answer is being written down
    running           a job: its items are claimed one after the other
    unknown           it left, the answer never came, and the vendor's own history does not settle it
    dry_run           it was only to be shown what would happen
    the others        ended

What is `sending` or `running` belongs to the process that holds its lease. Nothing ever goes from `sending` back to a
state from which it could be sent again.
"""
OPEN: tuple[Status, ...] = ("proposed", "pending_approval", "scheduled", "sending", "running")
LEASE = timedelta(seconds=15)
"""How long what is being worked on belongs to its process after its last word. It says one every few seconds."""
HELD: tuple[Status, ...] = ("proposed", "pending_approval", "scheduled")
"""The states before anything has left: from these alone an action can be claimed or called off."""
LOST = "the program ended before the outcome was recorded"
"""What is known of whatever a process was at when it died."""
ItemStatus = Literal["waiting", "sending", "done", "failed", "unknown", "cancelled"]


class DedupKey(Record):
    """One effect that must not happen twice, and whom it reaches."""

    key: str
    """Its fingerprint: of channel, address and text; of sequence and lead; of a caller's whole call."""
    seconds: int
    """How long a repeat is recognised."""
    channel: str | None = None
    """A `Channel`, or `enrolment`, for the limits; None: nobody is reached."""
    address: str | None = None
    """As it is compared (`model.address_key`)."""


class Quota(Record):
    """A limit that is counted in the moment of claiming: at most `most` deduplication keys on these channels since
    then."""

    message: str
    """The limit in words, as `the daily limit of 100 sms`."""
    channels: tuple[str, ...]
    most: int
    since: Moment
    connection: str | None = None
    """Only those of this connection."""
    address: str | None = None
    """Only those to this address."""
    caller: str | None = None
    """Instead of deduplication keys, the records that this caller has written, or is writing, since then, with this
    `tool`."""
    tool: str | None = None
    size: int = 0
    """How many records the action that is claimed adds to those."""


class Address(Record):
    """An address that an action writes into the CRM."""

    channel: Channel
    """`email`, `sms` (for phone numbers) or `linkedin`."""
    address: str
    """As it is compared."""


class ClaimConditions(Record):
    """What must hold at the very moment in which an action is claimed: tested in the transaction that claims it."""

    outward: bool = False
    """It stops while the kill switch is off."""
    dedup_keys: tuple[DedupKey, ...] = ()
    quotas: tuple[Quota, ...] = ()
    resend_of: str | None = None
    """The one earlier action whose deduplication keys do not stop this one; it loses them to this one."""
    writes: tuple[Address, ...] = ()
    due: Moment | None = None
    """It is not to start now, but to be `scheduled` for then."""
    digest: str | None = None
    """Of the call that was looked at: what has another by now is not claimed."""
    job: bool = False
    """It becomes `running`, worked item by item, instead of `sending`."""


class Stopped(NamedTuple):
    """A claim that was refused, with nothing written: a rule forbids it, in words."""

    reason: str


class Repeated(NamedTuple):
    """A claim that was refused, with nothing written: another action has, or is having, the same effect."""

    earlier: Action


class NewAction(Record):
    """A write or send that an agent asks for, before the store has given it an id."""

    caller: str
    connection: str
    tool: str
    effect: str
    """`write`, `outward` or `destructive`."""
    arguments: dict[str, Any]
    digest: str
    """Of tool, connection and arguments: the same call has the same digest."""
    summary: str
    facts: dict[str, Any] = Field(default_factory=dict[str, Any])
    """What the preview showed and the action uses."""
    preview: str | None = None
    lead: str | None = None
    """The lead it is about."""
    size: int = 1
    """How many records it writes."""
    asked: Literal["elicitation", "token", "approval"] = "elicitation"
    """How its confirmation is given, if it needs one."""
    verdict: str = "allow"
    rule: str = ""
    """The setting or rule that gave the verdict, as `policy.outward`."""
    request: str | None = None
    """The id of the client's request, for the audit alone."""
    creates: str | None = None
    """The kind of record that it makes: done twice, it is there twice. `any`: one that is not known by its kind."""
    repeatable: bool = False
    """What it sends may be sent again on purpose, with `resend_of`."""
    deletes: bool = False
    """It deletes a record: to make that one again is no repeat."""


class Action(NewAction):
    """A write or send, with what became of it."""

    id: str
    status: Status
    approved_by: str | None
    """`policy`, `elicitation`, `token`, `cli`, or `approval: NAME`."""
    reason: str | None
    error: str | None
    """The contract's code of a failure."""
    result: dict[str, Any] | None
    undo: dict[str, Any] | None
    """What is needed to take it back."""
    touched: tuple[tuple[str, str], ...]
    """Kind and id of each record that it changed."""
    created_at: Moment
    expires_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    due_at: Moment | None = None
    """Of a scheduled one: when it is to start. Of an unknown one: when the vendor's history is looked at again."""
    fencing_token: int = 0
    """Counts its claims: who works on it gives it back with each word, and is refused once another has claimed it."""
    looks: int = 0
    """How often the vendor's history has been looked at in vain."""
    progress: dict[str, int] | None = None
    """Of a job: how many items are `done` (ended, whatever way) of how many in `total`."""


class Item(Record):
    """One item of a job."""

    no: int
    payload: dict[str, Any]
    status: ItemStatus
    result: dict[str, Any] | None = None


class Written(Record):
    """Who set an address, with what, and when."""

    channel: Channel
    address: str
    by: str
    tool: str
    at: Moment
    action: str


class Ended(NamedTuple):
    """How an action ended: what the store is told of it. What is None stays as it was."""

    status: Status
    summary: str | None = None
    reason: str | None = None
    error: str | None = None
    result: Mapping[str, Any] | None = None
    undo: Mapping[str, Any] | None = None
    lead: str | None = None
    touched: tuple[tuple[str, str], ...] = ()
    size: int | None = None
    released: tuple[str, ...] = ()
    """Deduplication keys whose effect did not happen. What ends otherwise than done or unknown releases all."""
    look_at: datetime | None = None
    """Of an unknown one: when to look at the vendor's history again."""


class Entry(NamedTuple):
    """One entry of the audit log."""

    no: int
    at: datetime
    body: Mapping[str, Any]
    mac: str


class Verified(NamedTuple):
    """What a verification of the audit log found."""

    entries: int
    head: str | None
    """The last entry's seal; None where there is none."""
    faults: tuple[str, ...]
    """What was altered, removed or reordered, in words; empty where all is well."""
    unproven: tuple[str, ...]
    """What this verification can't prove, in words."""
