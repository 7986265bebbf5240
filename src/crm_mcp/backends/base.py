"""What a CRM must offer, as small protocols by capability.

A backend inherits the protocols it can serve: its class line is the list of its capabilities, and a missing verb fails
in the type checker and at construction. Tools name the protocol that they need and appear only where it is inherited.

A verb that does more than read says with `@does` what.

Shared by all verbs: ids are strings as the vendor has them; a verb raises `NotFound` for an id that isn't there,
`InvalidArgument` (with the valid values) for a value that the CRM does not know, `Unreachable` where the CRM can't be
reached and `VendorError` where it fails. Lists take a `Slice` and return a `Page` whose `next` is the backend's own
position: a number, an offset, a key, whatever it needs, as text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from crm_mcp.backends.verbs import Capability, does
from crm_mcp.channels import Channel
from crm_mcp.model import (
    Account,
    Activity,
    ActivityKind,
    Budget,
    Call,
    Deal,
    DealFields,
    DealFilter,
    Delivery,
    DueStep,
    Grouping,
    IfExists,
    ImportOutcome,
    ImportRow,
    Lead,
    LeadDraft,
    LeadFilter,
    LeadUpdate,
    Mailbox,
    Message,
    Note,
    NoteDraft,
    Option,
    OptionKind,
    Page,
    Pipeline,
    RecordKind,
    Sender,
    Sequence,
    Slice,
    StageOwner,
    Task,
    TaskFields,
)

if TYPE_CHECKING:  # a catalogue is read when it is used; start-up counts
    from crm_mcp.backends.catalog import Catalog, Operation


class Backend(ABC):
    """One CRM behind one connection. Construction does no I/O; the first verb connects."""

    vendor: ClassVar[str]

    async def budget(self) -> tuple[Budget, ...]:
        """Say how many calls are left; empty where there is no limit."""
        return ()

    @abstractmethod
    async def check(self) -> Account:
        """Make one cheap authenticated read and say what is there."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of what is open; the backend is not used again."""

    @classmethod
    def capabilities(cls) -> tuple[str, ...]:
        """Return the names of the protocols that this backend serves, sorted."""
        return tuple(sorted(each.__name__ for each in cls.__mro__ if Capability in each.__bases__))


class FindsLeads(Capability):
    """Finds and reads leads."""

    lead_filters: ClassVar[frozenset[str]]
    """The fields of `LeadFilter` that it can do."""
    lead_sorts: ClassVar[tuple[str, ...]]
    """The valid values of `LeadFilter.sort`, the default first; `-` before a name is descending."""

    @abstractmethod
    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        """Find leads; newest first where no sort is given."""

    @abstractmethod
    async def get_lead(self, lead: str) -> Lead:
        """Read one lead by its id."""

    @abstractmethod
    async def leads_at(self, channel: Channel, address: str) -> tuple[Lead, ...]:
        """Return the leads that have exactly this address (`email`) or E.164 number (`sms`, `call`); at most 10."""


class WritesLeads(Capability):
    """Creates and changes leads."""

    @does("write", record="lead")
    @abstractmethod
    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create one. Raises Conflict where one with this address or number exists; nothing is written then."""

    @does("write", record="lead")
    @abstractmethod
    async def update_lead(self, lead: str, change: LeadUpdate) -> Lead:
        """Change one; returns it as it is now."""


class TagsLeads(Capability):
    """Adds tags to leads and takes them off."""

    @does("write", record="lead", field="tags")
    @abstractmethod
    async def tag_lead(self, lead: str, add: Seq[str], remove: Seq[str]) -> Lead:
        """Change the tags; new ones are created, ones that are not there are no error."""


class ImportsLeads(Capability):
    """Takes many leads at once."""

    import_size: ClassVar[int]
    """How many rows one call takes."""
    plan_size: ClassVar[int] = 100_000
    """How many rows can be planned: as many as the CRM's limit of calls leaves room for while somebody waits."""
    repeatable: ClassVar[bool] = False
    """Whether a row whose `key` was imported already is recognised by it, and not created a second time."""

    @does("write", record="lead")
    @abstractmethod
    async def import_leads(self, rows: Seq[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Import rows, one outcome a row, in order.

        A row whose `key` was imported before, or that is somebody's who is there, follows `if_exists`: the e-mail
        address decides who that is, a number alone only where neither e-mail nor name says otherwise. Of somebody who
        has the address and another name altogether `update` fills only what is empty. What was not created carries the
        reason, with who it is. `blocked` channels of a row are put on the CRM's own list, where it keeps one.

        Raises:
            CrmError: the CRM failed before anything was written.
        """

    @abstractmethod
    async def plan_import(self, rows: Seq[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        """Say what `import_leads` would answer now; nothing is written. A lead that would be created has no id."""


class ReadsActivity(Capability):
    """Reads what happened with a lead."""

    activity_kinds: ClassVar[tuple[ActivityKind, ...]]

    @abstractmethod
    async def list_activity(
        self, lead: str, kinds: Seq[ActivityKind], since: datetime | None, part: Slice
    ) -> Page[Activity]:
        """List notes, calls, messages and tasks in one shape, newest first."""


class LogsNotes(Capability):
    """Writes and reads notes."""

    @does("write", record="note")
    @abstractmethod
    async def log_note(self, lead: str, draft: NoteDraft) -> Note:
        """Log a note, call, e-mail or meeting."""

    @abstractmethod
    async def list_notes(self, lead: str, part: Slice) -> Page[Note]:
        """List a lead's notes, newest first."""

    @abstractmethod
    async def get_note(self, note: str) -> Note:
        """Read one note by its id."""


class ReadsCalls(Capability):
    """Reads calls."""

    @abstractmethod
    async def get_call(self, call: str) -> Call:
        """Read one call, with recording and transcript where there is one."""

    @abstractmethod
    async def list_calls(self, lead: str, part: Slice) -> Page[Call]:
        """List a lead's calls, newest first, without transcripts."""


LOOKED_THROUGH = 1_000
"""How many of a lead's messages are looked through for what it has written: an older STOP has been answered since by
more of them than anybody sends who was asked to stop."""


class ReadsMessages(Capability):
    """Reads e-mails and SMS."""

    hears: ClassVar[frozenset[Channel]]
    """The channels on which it tells what leads write."""

    @abstractmethod
    async def list_messages(self, lead: str, part: Slice) -> Page[Message]:
        """List a lead's messages, newest first."""

    @abstractmethod
    async def inbound_messages(self, lead: str, channel: Channel) -> tuple[Message, ...]:
        """Return what a lead has written on a channel, each with its text, newest first.

        All of it, as far back as its newest `LOOKED_THROUGH` messages tell. One of which the CRM does not tell the
        direction is among them.
        """


class RecallsMessages(Capability):
    """Has a history in which a message that went out is found again."""

    @abstractmethod
    async def sent_message(
        self, lead: Lead, channel: Channel, text: str, subject: str | None, since: datetime, known: frozenset[str]
    ) -> Message | None:
        """Return the newest message with this text that went out to the lead on this channel; None: none is there yet.

        It went out at or after `since`, as far as whole seconds tell it, and its id is not one of `known`. White space
        makes no difference, nor does a subject that is None. One that failed, or that is a draft, did not go out; one
        of which the history does not tell direction or time is none either. Nothing but reading is done.
        """


class RecallsCalls(Capability):
    """Has a history in which a call that was started is found again."""

    @abstractmethod
    async def started_call(self, lead: Lead, since: datetime) -> Call | None:
        """Return the newest call to the lead that began at or after `since`, as far as whole seconds tell it; None:
        none is there yet."""


class KeepsTasks(Capability):
    """Keeps to-dos."""

    @abstractmethod
    async def list_tasks(
        self, lead: str | None, completed: bool | None, due_before: datetime | None, part: Slice
    ) -> Page[Task]:
        """List tasks, the one due first first, those without a date last."""

    @abstractmethod
    async def get_task(self, task: str) -> Task:
        """Read one task."""

    @does("write", record="task")
    @abstractmethod
    async def create_task(self, lead: str | None, fields: TaskFields) -> Task:
        """Create a task; `fields.title` is set."""

    @does("write", record="task")
    @abstractmethod
    async def update_task(self, task: str, fields: TaskFields, clear: Seq[str] = ()) -> Task:
        """Change a task; `clear` names fields to empty."""


class ReadsDeals(Capability):
    """Reads deals."""

    deal_filters: ClassVar[frozenset[str]]

    @abstractmethod
    async def list_deals(self, wanted: DealFilter, part: Slice) -> Page[Deal]:
        """List deals, newest first."""

    @abstractmethod
    async def get_deal(self, deal: str) -> Deal:
        """Read one deal."""


class WritesDeals(Capability):
    """Creates and changes deals."""

    @does("write", record="deal")
    @abstractmethod
    async def create_deal(self, lead: str | None, fields: DealFields, stage: str | None) -> Deal:
        """Create a deal; `fields.name` is set, `stage` is the id of a stage."""

    @does("write", record="deal")
    @abstractmethod
    async def update_deal(self, deal: str, fields: DealFields, clear: Seq[str] = ()) -> Deal:
        """Change a deal; `clear` names fields to empty."""


class MovesDeals(Capability):
    """Moves deals from stage to stage."""

    @does("write", record="deal")
    @abstractmethod
    async def move_deal(self, deal: str, stage: str) -> Deal:
        """Move a deal to the stage with this id."""


class MovesLeads(Capability):
    """Moves leads from stage to stage."""

    @does("write", record="lead", field="stage")
    @abstractmethod
    async def move_lead(self, lead: str, stage: str) -> Lead:
        """Move a lead to the stage with this id."""


class SumsPipeline(Capability):
    """Counts and sums deals or leads by group."""

    @abstractmethod
    async def pipeline(self, of: StageOwner, by: Grouping) -> Pipeline:
        """Group all deals or leads; stages come in their own order.

        `value` sums the deals of the group; of leads, their open deals.
        """


class ListsOptions(Capability):
    """Lists the valid values of fields."""

    option_kinds: ClassVar[tuple[OptionKind, ...]]
    open_kinds: ClassVar[frozenset[OptionKind]] = frozenset()
    """The kinds of which it can't list every valid value: another one is passed on, and the CRM judges it."""

    @abstractmethod
    async def list_options(self, kind: OptionKind) -> tuple[Option, ...]:
        """List the values, stages in their order, others by name."""


class SendsEmail(Capability):
    """Sends e-mail."""

    @abstractmethod
    async def mailboxes(self) -> tuple[Mailbox, ...]:
        """List the mailboxes that can send."""

    @does("outward", channel="email")
    @abstractmethod
    async def send_email(self, lead: Lead, mailbox: Mailbox, subject: str, body: str, reply_to: str | None) -> Delivery:
        """Send plain text to the lead's address, once."""


class SendsSms(Capability):
    """Sends SMS."""

    @does("outward", channel="sms")
    @abstractmethod
    async def send_sms(self, lead: Lead, text: str) -> Delivery:
        """Send a text to the lead's number, once."""


class SendsLinkedIn(Capability):
    """Sends LinkedIn messages."""

    @abstractmethod
    async def senders(self) -> tuple[Sender, ...]:
        """List the profiles that can send."""

    @does("outward", channel="linkedin")
    @abstractmethod
    async def send_linkedin_message(self, lead: Lead, sender: Sender, text: str) -> Delivery:
        """Send a text to the lead's profile, once."""


class StartsCalls(Capability):
    """Rings people."""

    @does("outward", channel="call")
    @abstractmethod
    async def start_call(self, lead: Lead) -> Call:
        """Ring the lead's number from the account's own, once."""


class RunsSequences(Capability):
    """Enrols leads in sequences."""

    enrols_once: ClassVar[bool] = False
    """Whether a lead that is in a sequence is never put into it a second time, however late the request arrives."""

    @abstractmethod
    async def sequences(self) -> tuple[Sequence, ...]:
        """List the sequences, with their steps where the CRM tells them."""

    @does("outward", channel="enrolment")
    @abstractmethod
    async def enroll(self, sequence: str, lead: str) -> str | None:
        """Enrol a lead; returns why it was not done (enrolled already), else None."""

    async def enrolled(self, sequence: str, lead: str) -> bool | None:
        """Say whether a lead is in a sequence now; None: this CRM does not tell."""
        del sequence, lead
        return None


class PlansSteps(Capability):
    """Knows which steps of its sequences are due."""

    @abstractmethod
    async def due_steps(self) -> tuple[DueStep, ...]:
        """Return the steps that are due now, the earliest first, at most 100."""


class EndsSequences(Capability):
    """Takes leads out of sequences."""

    @does("write", record="enrolment")
    @abstractmethod
    async def unenroll(self, sequence: str, lead: str) -> str | None:
        """Take a lead out; returns why it was not done (not enrolled), else None."""


class KeepsBlocklist(Capability):
    """Keeps the addresses that must not be contacted, by itself."""

    @does("write", record="block")
    @abstractmethod
    async def block(self, lead: Lead, channels: Seq[Channel], reason: str | None) -> None:
        """Block a lead's addresses on these channels."""

    @does("outward", record="block")
    @abstractmethod
    async def unblock(self, lead: Lead, channels: Seq[Channel]) -> None:
        """Lift the block."""


class DeletesRecords(Capability):
    """Deletes records."""

    deletes: ClassVar[frozenset[RecordKind]]

    @abstractmethod
    async def goes_with(self, kind: RecordKind, record: str) -> dict[str, int]:
        """Count what a deletion takes along, as `{"notes": 3, "deals": 1}`."""

    @does("destructive", record="any")
    @abstractmethod
    async def delete(self, kind: RecordKind, record: str) -> None:
        """Delete a record and what goes with it."""


class RestoresRecords(Capability):
    """Brings a deleted record back as it was."""

    @abstractmethod
    async def image(self, kind: RecordKind, record: str) -> dict[str, Any]:
        """Return a record and everything that a deletion takes along, as JSON values; read before it is deleted."""

    @does("write", record="any")
    @abstractmethod
    async def restore(self, kind: RecordKind, image: Mapping[str, Any]) -> None:
        """Bring back what an image has, with the same ids and times: all of it or nothing.

        Raises:
            Conflict: an id, address or number is taken meanwhile, or the lead that it belongs to is gone.
            InvalidArgument: it is no image of a record of this kind.
        """


class GivesMetrics(Capability):
    """Counts what outreach achieved."""

    @abstractmethod
    async def metrics(self, since: datetime | None, until: datetime | None) -> dict[str, float]:
        """Return the counts of a period, by name; without limits the last 30 days."""


class HasOperations(Capability):
    """Has operations beyond the tools, each described in its catalogue."""

    @property
    @abstractmethod
    def catalog(self) -> Catalog:
        """Every documented operation."""

    @does("operation", record="any")
    @abstractmethod
    async def operate(self, operation: Operation, arguments: Mapping[str, Any]) -> Any:
        """Carry out an operation with arguments that its catalogue entry has validated; returns the JSON answer."""
