"""The records that travel the one road of everything that is not read: what is wanted, what a person is shown of it,
what the rules have found, what is under way, and what was done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from threading import Event
from typing import Any, Literal, NamedTuple, Protocol

from crm_mcp.actions.declared import Declared, Effect
from crm_mcp.backends.verbs import Way
from crm_mcp.config import Fallback
from crm_mcp.model import Lead
from crm_mcp.store import Action, Address, DedupKey, Item, ItemStatus, Quota

DOUBT = "opt_out_suspected"
"""The rule that has a person asked after a message that may ask for no more of them."""
DOUBTED = "may ask for no more messages"
"""The fact of a question that names such messages by their ids: whoever says yes has seen them."""
NEW_ADDRESS = "new_address"
"""The rule that has an address confirmed which a tool wrote of late."""

# What the rules have found


@dataclass(frozen=True)
class Doubt:
    """A message in which somebody may have asked for no more of them on its channel."""

    message: str
    """Its id."""
    said: str
    """When and what was written, in words."""
    settled: bool
    """Whether a person has seen it, and said yes to a message all the same."""


@dataclass(frozen=True)
class Decision:
    """What the rules say of reaching one person in one way."""

    reason: str | None = None
    """Why this person can't be reached now; None: they may be."""
    rule: str = ""
    """The rule that forbids it: `kill_switch`, `no_address`, `do_not_contact`, `consent`, `no_time_zone`, `blackout`,
    `quiet_hours`, `daily_limit` or `contact_limit`."""
    until: datetime | None = None
    """When it is allowed next, where that comes by itself."""
    remarks: tuple[str, ...] = ()
    """What the person who is asked should know: what time it is there, and how that is known."""
    quotas: tuple[Quota, ...] = ()
    """The limits to count again when the action is claimed."""
    address: str | None = None
    """Where they are reached, as it is compared."""
    zones: tuple[str, ...] = ()
    """The time zones that they may be in, where the time there matters."""
    lead: str | None = None
    """Whom it is about, by the id of the lead; None: nobody, and nobody may be reached by it."""
    way: Way | None = None
    doubts: tuple[Doubt, ...] = ()
    """Messages in which they may have asked for no more."""

    @property
    def person(self) -> tuple[str, ...]:
        """Why only a person may say yes now, whatever the policy allows: no token serves."""
        return tuple(f"only a person may decide this: {each.said}" for each in self.doubts if not each.settled)

    @property
    def facts(self) -> dict[str, list[str]]:
        """What of it a confirmation is bound to: whoever moves somebody to another time zone voids it, and a new
        message that may ask for no more does."""
        zones = {"time zone": [*self.zones]} if self.zones else {}
        return zones | ({DOUBTED: [each.message for each in self.doubts]} if self.doubts else {})


# What is shown


@dataclass(frozen=True)
class Preview:
    """What would happen.

    `summary` is one line with everything a person must know to say yes: channel, name, address, text. `details` adds to
    it. `facts` holds every value that the two show or the action uses; a confirmation is void when one has changed.
    """

    summary: str
    details: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lead: str | None = None
    size: int = 1
    blocked: str | None = None
    """The rule that forbids it now, in words."""
    confirm: bool = False
    """It is asked even where the policy allows it."""
    person_only: bool = False
    """Only a person who is asked may approve it: no token."""
    effect: Effect | None = None
    """The effect of this very call, where its arguments decide it."""
    also: tuple[str, ...] = ()
    """Other tools whose work this does: the strictest verdict of them all counts."""
    operation: str | None = None
    """The vendor's operation that it carries out, which may have a verdict of its own."""
    lead_read: Lead | None = None
    """The lead as it was read for this: what is done is done to it as it is here."""
    rule: str = ""
    """The name of the rule that forbids it now, or that asks for a confirmation."""
    until: datetime | None = None
    """When what forbids it now ends by itself."""
    dedup_keys: tuple[DedupKey, ...] = ()
    """Effects that must not happen twice."""
    quotas: tuple[Quota, ...] = ()
    """Limits that are counted once more in the moment of claiming."""
    resend_of: str | None = None
    """The earlier action that this one repeats on purpose."""
    there: str = ""
    """What time it is where it reaches somebody, and how that is known."""
    writes: tuple[Address, ...] = ()
    """Addresses that it puts into the CRM."""
    written: Any = None
    """What it writes, by the names of fields: one that holds consent among them has it refused."""
    defer: bool = False
    """Where a rule forbids it now, it goes at the next allowed time."""
    bulk: bool = False
    """It is done item by item, as a job."""
    unasked: bool = False
    """It only takes away what was to happen: nobody is asked, whatever the policy says."""
    repeats: Action | None = None
    """The earlier action that did all of this."""
    looked_at: datetime | None = None
    """When the looking began."""
    would: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What a dry run tells besides: the fields that the result would have."""

    @property
    def text(self) -> str:
        """The whole preview, as it is shown."""
        return f"{self.summary}\n{self.details}" if self.details else self.summary


@dataclass(frozen=True)
class Reach(Preview):
    """The preview of what reaches somebody: with what the rules have found of each person, on each channel."""

    decisions: tuple[Decision, ...] = ()
    """A verb that reaches somebody passes only where one of these is of that person and that channel."""
    given: Mapping[str, Any] | None = None
    """The arguments of the vendor's operation that they are about, where it is one."""

    @classmethod
    def of(cls, shown: Preview, decisions: Iterable[Decision], *, new: Sequence[str] = (), rule: str = "") -> Reach:
        """Return a preview with what the rules say added to it. `new` tells of addresses that a tool wrote of late;
        `rule` is why it is asked besides."""
        found = tuple(decisions)
        wrong = [each for each in found if each.reason]
        person = any(each.person for each in found)
        ends = [each.until for each in wrong if each.until]
        why = DOUBT if person else rule or (NEW_ADDRESS if new else "")
        given: dict[str, Any] = {each.name: getattr(shown, each.name) for each in fields(shown)}
        return replace(
            cls(**given, decisions=found),
            blocked="; ".join(dict.fromkeys(str(each.reason) for each in wrong[:10])) or None,
            rule=wrong[0].rule if wrong else why,
            until=max(ends) if ends and len(ends) == len(wrong) else None,
            quotas=tuple(dict.fromkeys(quota for each in found for quota in each.quotas)),
            confirm=shown.confirm or bool(new) or person,
            person_only=shown.person_only or person,
        )


@dataclass(frozen=True)
class Outcome:
    """What happened: the fields that the contract's table names for the tool, and what is needed to take it back."""

    summary: str
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lead: str | None = None
    touched: tuple[tuple[str, str], ...] = ()
    undo: Mapping[str, Any] | None = None
    """What this action keeps for its own undo; see `actions.undo`."""
    undone: str | None = None
    """The action that was taken back."""
    cancelled: str | None = None
    """The action that was called off before it began, or while it was under way."""
    size: int = 1
    released: tuple[str, ...] = ()
    """Deduplication keys whose effect did not happen."""


@dataclass(frozen=True)
class Question:
    """A question to the person in front of the client; `id` is that of its action."""

    id: str
    text: str


# Who is asked


Answer = Literal["yes", "no", "dismissed", "silence"]


class Client(Protocol):
    """What is known of the one who calls, and how its user is asked."""

    @property
    def caller(self) -> str:
        """Who calls: stable over processes."""
        ...

    @property
    def fallback(self) -> Fallback:
        """What guards it when it can't be asked."""
        ...

    @property
    def request(self) -> str | None:
        """The id of its request, for the audit log."""
        ...

    @property
    def answering(self) -> str | None:
        """The action whose question this call answers; None for a first call."""
        ...

    @property
    def can_be_asked(self) -> bool:
        """Whether it has declared form elicitation."""
        ...

    async def ask(self, question: Question) -> Answer:
        """Put the question to the user; may end the call and resume when it is made again with the answer."""
        ...

    async def progress(self, done: int, total: int) -> None:
        """Say how far a long call has come."""
        ...


class Absent:
    """The client of an action that is worked on without one that could be asked: after an approval, a restart, when it
    is due, or at a terminal, where the person has said yes already."""

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.fallback: Fallback = "deny"
        self.request: str | None = None
        self.answering: str | None = None
        self.can_be_asked = False

    async def ask(self, question: Question) -> Answer:  # noqa: ARG002 - nobody is there
        """Nobody is there to be asked."""
        return "silence"

    async def progress(self, done: int, total: int) -> None:
        """Nobody is there to be told."""


BY_HAND = "cli"
"""Who approved what a person does at a terminal."""


# What is wanted, and how it is done


@dataclass(frozen=True)
class Intent:
    """One call of one tool that is not read: how it is previewed, how it is done, and how its outcome is found."""

    tool: Declared
    arguments: Mapping[str, Any]
    """As they were validated, as JSON: exactly these run."""
    preview: Callable[[bool], Awaitable[Preview]]
    """Reads the records, and says what would happen and what forbids it; True: somebody will be shown it."""
    run: Callable[[Preview], Awaitable[Outcome]]
    """Does it, once; is given the preview that was made of it a moment before."""
    reconcile: Callable[[Action], Awaitable[Outcome | None]] | None = None
    """Asks the CRM's own history whether it was done; None: it does not show it."""
    bulk: Callable[[], Awaitable[Bulk]] | None = None
    """How it is done item by item, where it is for many."""
    dry_run: bool = False


class ItemResult(NamedTuple):
    """What became of one item. `waiting`: surely nothing, and it may be done again."""

    status: ItemStatus
    result: Mapping[str, Any]


async def _nothing_stops() -> str | None:
    return None


async def untold(done: int, total: int) -> None:
    """Nobody is told how far it is."""


@dataclass(frozen=True)
class Bulk:
    """How a call for many is done item by item. Nothing here is kept: it is made anew where a job is resumed."""

    items: Callable[[Action], Sequence[Mapping[str, Any]]]
    """Makes the items, as JSON, of the action's arguments and facts."""
    at_once: int
    """How many items one claim takes: what the CRM writes together."""
    do: Callable[[Action, Sequence[Item]], Awaitable[Sequence[ItemResult]]]
    """Does them, once; says of each what became of it, or raises what is wrong with the CRM."""
    reconcile: Callable[[Action, Item], Awaitable[ItemResult | None]]
    """Asks the CRM what became of an item whose answer is lost; None: it does not show it."""
    sum_up: Callable[[Action, Sequence[Item]], Outcome]
    """Says what became of all of them."""
    dedup_keys: Callable[[Action, Item], tuple[str, ...]] = lambda _row, _item: ()
    """The deduplication keys, which are released where it is not done."""
    stopped: Callable[[], Awaitable[str | None]] = _nothing_stops
    """Says what forbids all that is left, before each claim: the kill switch."""
    progress: Callable[[int, int], Awaitable[None]] = untold
    """Tells the client, while it waits, how many items of how many have ended."""


# What is under way


@dataclass(frozen=True)
class Execution:
    """An action that was claimed and is being carried out: in whose name something may be done, and what."""

    row: Action
    seen: Preview
    """The preview that was made of it a moment before."""
    fencing_token: Callable[[], int]
    """Returns the fencing token that this process holds the row by now."""
    passed: tuple[Decision, ...] = ()
    """Whom it may reach besides those of the preview, and how."""
    did: list[str] = field(default_factory=list[str])
    """The verbs that have passed for it and do more than read."""
    read: dict[str, Lead] = field(default_factory=dict[str, Lead])
    """The leads that were read for it, by their ids."""
    used: list[Decision | Preview] = field(default_factory=list["Decision | Preview"])
    """The decisions that somebody was reached by, and the preview of a vendor's operation: each serves once."""
    over: Event = field(default_factory=Event)
    """Set when it is no longer carried out: a task or thread that it has left behind does nothing in its name."""

    @property
    def no_person(self) -> str | None:
        """Say that no person has said yes to it; None: one has."""
        who = self.row.approved_by or "nobody"
        return f"only a person may say yes to it, and it was {who}" if who in NO_PERSON else None


NO_PERSON = ("policy", "token", "nobody")
"""Who may approve an action and proves no person."""
under_way: ContextVar[Execution | None] = ContextVar("under_way", default=None)
"""What is carried out in this task; None: nothing, and then nothing but reading is done."""


@contextmanager
def nothing_under_way() -> Generator[None]:
    """Let nothing but reading be done within this scope."""
    token = under_way.set(None)
    try:
        yield
    finally:
        under_way.reset(token)


@contextmanager
def passed(decision: Decision) -> Generator[None]:
    """Let one more person be reached within this scope by what is under way: the rules have just passed them."""
    work = under_way.get()
    assert work is not None
    token = under_way.set(replace(work, passed=(*work.passed, decision)))
    try:
        yield
    finally:
        under_way.reset(token)
