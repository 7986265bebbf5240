"""The guards stand at the CRM: what a hasty author of a tool, a resource or a job forgets fails there, with any CRM."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect, Tools
from crm_mcp.actions.guarded_crm import COVERS, open_context
from crm_mcp.actions.guards.do_not_contact import block
from crm_mcp.actions.guards.new_addresses import fresh
from crm_mcp.actions.guards.policy import Policy
from crm_mcp.actions.intent import Client, Decision, Execution, Intent, Outcome, Preview, Reach, passed, under_way
from crm_mcp.actions.messages import preview_sms
from crm_mcp.actions.pipeline import Pipeline
from crm_mcp.backends.base import (
    Backend,
    DeletesRecords,
    FindsLeads,
    HasOperations,
    RunsSequences,
    SendsEmail,
    SendsLinkedIn,
    SendsSms,
    StartsCalls,
    TagsLeads,
    WritesLeads,
)
from crm_mcp.backends.verbs import Does, signature, verbs_of
from crm_mcp.config import Connection, PolicySettings, Settings
from crm_mcp.errors import CrmError, Forbidden, OutcomeUnknown
from crm_mcp.model import (
    CustomValue,
    DealFields,
    DealFilter,
    ImportOutcome,
    ImportRow,
    Lead,
    LeadDraft,
    LeadFilter,
    LeadUpdate,
    Mailbox,
    NoteDraft,
    Sender,
    Slice,
    TaskFields,
    now,
)
from crm_mcp.server.arguments import LeadKey
from crm_mcp.server.tool import Arguments, Tool, tool
from crm_mcp.server.tools import TOOLS
from crm_mcp.store import Action, ClaimConditions, NewAction, Store

from .conftest import Unwritten

NUMBER, OTHER = "+14155550171", "+14155550172"
CONSENT = "sms consent"
BY = "ann via tests"
DRAFT = LeadDraft(name="Jane Doe", email="jane@doe.example", phone=NUMBER)
RULES: dict[str, Any] = {
    "outward": "allow",
    "destructive": "allow",
    "require_consent": {"sms": CONSENT},
    "quiet_hours": "00:00-23:59",
}
"""It is night there, a consent is missing, and nobody has to be asked."""


class Caller:
    """A client that nobody sits in front of."""

    caller = BY
    fallback = "deny"
    request = None
    answering = None
    can_be_asked = False

    async def ask(self, question: object) -> Any:
        raise AssertionError(f"nobody can be asked {question}")

    async def progress(self, done: int, total: int) -> None:
        """Nobody wants to know."""


class Crm(FindsLeads, WritesLeads, Backend):
    """Any."""


class Deleting(Crm, DeletesRecords):
    """One that deletes."""


class Tagging(Crm, TagsLeads):
    """One that has tags."""


class Operating(Crm, HasOperations):
    """One with a long tail."""


class Texting(Crm, SendsSms):
    """One that sends SMS."""


@dataclass
class House:
    """One connection with its road."""

    context: Context
    pipeline: Pipeline
    crm: Backend
    lead: Lead

    async def call(self, one: Tool, **arguments: Any) -> dict[str, Any]:
        """Call a tool as the server does."""
        client: Client = Caller()  # type: ignore[assignment]
        checked = one.check(arguments)
        if one.effect is Effect.READ:
            return await one.call(checked, (self.context,), client)
        return await self.pipeline.act(one.intent(self.context, checked, client), client)

    async def under(
        self, effect: str | None, do: Callable[[], Awaitable[Any]], seen: Preview | None = None, by: str = "policy"
    ) -> Any:
        """Do something in the name of an action of this effect; None: of none."""
        if effect is None:
            return await do()
        new = NewAction(
            caller=BY,
            connection=self.context.connection,
            tool="log_note",
            effect=effect,
            arguments={"of": str(now())},
            digest=f"{effect} {now()}",
            summary="a test",
        )
        row = await self.context.store.actions.begin(new, by, ClaimConditions())
        assert isinstance(row, Action)
        token = under_way.set(Execution(row, seen or Preview("a test"), lambda: row.fencing_token))
        try:
            return await do()
        finally:
            under_way.reset(token)


def _never(context: Context, name: str, arguments: Mapping[str, Any], client: Client) -> Intent:
    raise AssertionError((context, name, arguments, client))


@pytest.fixture
async def house(crm: Crm, tmp_path: Path) -> AsyncGenerator[House]:
    settings = Settings(data_dir=tmp_path, policy=PolicySettings.model_validate(RULES))
    store = Store(tmp_path / "state")
    context = open_context(settings, Connection(), crm, store, Policy(settings.policy, Tools(TOOLS)))
    lead = await crm.create_lead(DRAFT)
    yield House(context, Pipeline(context, _never), crm, lead)
    await store.aclose()


# Four hasty tools, a reading one that deletes, and a resource that sends


async def _send(context: Context, lead: Lead) -> None:
    """Send something by whatever the CRM has for it, as it would be sent."""
    if sms := context.crm_if(SendsSms):
        await sms.send_sms(lead, "Hello")
    elif mails := context.crm_if(SendsEmail):
        await mails.send_email(lead, Mailbox(id="1", address="me@ours.example", default=True), "Hi", "Hello", None)
    elif linked := context.crm_if(SendsLinkedIn):
        await linked.send_linkedin_message(lead, Sender(id="1", name="Me", default=True), "Hello")
    elif calls := context.crm_if(StartsCalls):
        await calls.start_call(lead)
    elif sequences := context.crm_if(RunsSequences):
        await sequences.enroll("1", lead.id)
    else:
        tail = context.crm(HasOperations)
        await tail.operate(tail.catalog.operation[0].model_copy(update={"effect": "outward"}), {})


@tool(Effect.WRITE, needs=FindsLeads)
async def hasty_write(context: Context, lead: LeadKey) -> Outcome:
    """Send without asking anybody."""
    await _send(context, await context.lead(lead))
    return Outcome("sent")


@tool(Effect.READ, needs=FindsLeads)
async def hasty_read(context: Context, lead: LeadKey) -> dict[str, Any]:
    """Send while reading."""
    await _send(context, await context.lead(lead))
    return {}


@tool(Effect.READ, needs=(FindsLeads, DeletesRecords))
async def hasty_delete(context: Context, lead: LeadKey) -> dict[str, Any]:
    """Delete while reading."""
    await context.crm(DeletesRecords).delete("lead", (await context.lead(lead)).id)
    return {}


async def ask_hastily(context: Context, lead: str) -> Preview:
    """Look at no rule."""
    return Preview(f"send to {(await context.lead(lead)).label}")


async def ask_untruly(context: Context, lead: str) -> Reach:
    """Promise what the rules found, and return none of it."""
    return Reach(f"send to {(await context.lead(lead)).label}")


@tool(Effect.OUTWARD, needs=FindsLeads, reaches="sms", ask=ask_untruly)
async def hasty_send(context: Context, lead: LeadKey) -> Outcome:
    """Send after a question that no rule was asked for."""
    await _send(context, await context.lead(lead))
    return Outcome("sent")


left_behind: list[asyncio.Task[None]] = []
may_go: list[asyncio.Event] = []


@tool(Effect.WRITE, needs=(FindsLeads, WritesLeads))
async def hasty_task(context: Context, lead: LeadKey) -> Outcome:
    """Leave something to be done behind it."""
    over = asyncio.Event()
    may_go.append(over)

    async def later() -> None:
        await over.wait()
        await context.crm(WritesLeads).update_lead(lead, LeadUpdate(title="Boss"))

    left_behind.append(asyncio.create_task(later()))
    return Outcome("done")


async def look_hastily(context: Context, lead: str) -> Outcome:
    """Write while looking."""
    await context.crm(WritesLeads).update_lead(lead, LeadUpdate(title="Boss"))
    return Outcome("found")


@tool(Effect.WRITE, needs=(FindsLeads, WritesLeads), reconcile=look_hastily)
async def hasty_look(context: Context, lead: LeadKey) -> Outcome:
    """Lose the answer."""
    raise OutcomeUnknown(f"the answer of {lead} is lost for {context.connection}", "look at it")


@tool(Effect.WRITE, needs=(FindsLeads, WritesLeads))
async def hasty_change(context: Context, lead: LeadKey, phone: str | None = None, consent: bool = False) -> Outcome:
    """Change a lead without a thought of its blocks."""
    fields: dict[str, CustomValue] | None = {CONSENT: "yes"} if consent else None
    after = await context.crm(WritesLeads).update_lead(lead, LeadUpdate(phone=phone, custom_fields=fields))
    return Outcome(f"changed {after.id}")


async def test_a_tool_that_writes_and_sends_is_stopped_and_told_what_it_lacks(
    house: House, crm: Crm, unwritten: Unwritten
):
    with unwritten():
        answer = await house.call(hasty_write, lead=house.lead.id)

    assert (answer["status"], answer["error"]) == ("failed", "forbidden")
    assert "its effect is outward, which that of the action (write) does not cover" in answer["reason"]
    assert "nothing was written" in answer["reason"]


async def test_a_tool_that_only_reads_can_not_send(house: House, crm: Crm, unwritten: Unwritten):
    with unwritten(), pytest.raises(Forbidden, match="no action is under way") as stopped:
        await house.call(hasty_read, lead=house.lead.id)

    assert stopped.value.wrote is False


async def test_a_tool_that_only_reads_can_not_delete(house: House, crm: Deleting, unwritten: Unwritten):
    with unwritten(), pytest.raises(Forbidden, match="delete was not carried out: its effect is destructive"):
        await house.call(hasty_delete, lead=house.lead.id)


async def test_a_resource_can_not_send(house: House, crm: Crm, unwritten: Unwritten):
    async def resource(context: Context) -> str:
        await _send(context, await context.lead(house.lead.id))
        return "# Sent"

    with unwritten(), pytest.raises(Forbidden, match="no action is under way"):
        await resource(house.context)


def test_an_outward_tool_whose_question_asks_no_rule_is_refused_as_it_is_declared():
    async def send_hastily(context: Context, lead: LeadKey) -> Outcome:
        """Send."""
        raise AssertionError((context, lead))

    with pytest.raises(TypeError, match="send_hastily is outward, and ask_hastily must return a Reach: what the rules"):
        tool(Effect.OUTWARD, needs=FindsLeads, ask=ask_hastily)(send_hastily)


def test_an_outward_tool_that_does_not_say_how_it_reaches_somebody_is_refused_as_it_is_declared():
    async def send_hastily(context: Context, lead: LeadKey) -> Outcome:
        """Send."""
        raise AssertionError((context, lead))

    with pytest.raises(TypeError, match="send_hastily is outward and must say with reaches= how it reaches somebody"):
        tool(Effect.OUTWARD, needs=FindsLeads, ask=ask_untruly)(send_hastily)


async def test_an_outward_tool_reaches_nobody_whom_the_rules_have_not_passed(
    house: House, crm: Crm, unwritten: Unwritten
):
    with unwritten():
        answer = await house.call(hasty_send, lead=house.lead.id)

    assert (answer["status"], answer["error"]) == ("failed", "forbidden")
    assert "the rules have not passed" in answer["reason"]


async def test_what_a_tool_leaves_behind_does_nothing_in_its_name(house: House, crm: Crm, unwritten: Unwritten):
    with unwritten():
        answer = await house.call(hasty_task, lead=house.lead.id)
        may_go[-1].set()
        with pytest.raises(Forbidden, match="the action in whose name it comes is over") as stopped:
            await left_behind[-1]

    assert answer["status"] == "done"
    assert stopped.value.wrote is False


async def test_after_an_action_its_caller_has_none_of_its_rights(house: House, crm: Crm, unwritten: Unwritten):
    answer = await house.call(hasty_change, lead=house.lead.id, phone=OTHER)

    assert answer["status"] == "done"
    assert under_way.get() is None
    with unwritten(), pytest.raises(Forbidden, match="no action is under way"):
        await house.context.crm(WritesLeads).update_lead(house.lead.id, LeadUpdate(title="Boss"))


async def test_who_looks_what_became_of_a_lost_answer_writes_nothing(house: House, crm: Crm, unwritten: Unwritten):
    with unwritten():
        answer = await house.call(hasty_look, lead=house.lead.id)

    assert answer["status"] == "unknown"


@pytest.mark.parametrize(
    ("effect", "said", "wrong"),
    [
        (Effect.WRITE, {"reaches": "sms"}, "send_hastily is write and reaches somebody"),
        (Effect.WRITE, {"deletes": True}, "send_hastily is write and deletes"),
        (Effect.READ, {"deletes": True}, "send_hastily is read and deletes"),
        (Effect.WRITE, {"bulk": ask_hastily}, "send_hastily is for many, and must say with decides="),
        (Effect.OUTWARD, {"answers": True, "reaches": "sms"}, "its ask must return a Reach"),
        (Effect.DESTRUCTIVE, {}, "send_hastily is destructive and must say with ask="),
    ],
)
def test_a_declaration_that_does_not_fit_together_is_refused(effect: Effect, said: dict[str, Any], wrong: str):
    async def send_hastily(context: Context, lead: LeadKey) -> Outcome:
        """Send."""
        raise AssertionError((context, lead))

    with pytest.raises(TypeError, match=wrong):
        tool(effect, needs=FindsLeads, **said)(send_hastily)


class Lasting(Arguments):
    lead: LeadKey
    note: str = "none"


class Listing(Lasting):
    list: str | None = None
    leads: list[str] | None = None  # pyright: ignore[reportInvalidTypeForm, reportUnknownVariableType]


@tool(Effect.WRITE, needs=FindsLeads)
async def inheriting(context: Context, call: Listing) -> Outcome:
    """Say what it was given."""
    return Outcome(f"{call.note}, {call.list}, {call.leads}, {context.connection}")  # pyright: ignore[reportUnknownMemberType]


async def test_arguments_that_are_inherited_keep_their_defaults_and_their_types(house: House, crm: Crm):
    answer = await house.call(inheriting, lead=house.lead.id, leads=["a"])

    assert inheriting.schema["required"] == ["lead"]
    assert answer["summary"].startswith("none, None, ['a'],")


async def test_a_hasty_change_goes_through_the_hook(house: House, crm: Crm):
    await block(house.context, house.lead, ("sms",), "said so", BY)

    answer = await house.call(hasty_change, lead=house.lead.id, phone=OTHER)

    after = await house.context.lead(house.lead.id)
    assert (answer["status"], after.phone) == ("done", OTHER)
    assert await house.context.store.contacts.blocked({"sms": OTHER}) != {}
    [remark] = await fresh(house.context, after, ("sms",))
    assert f"was set by {BY} with hasty_change" in remark


async def test_a_hasty_change_writes_no_consent(house: House, crm: Crm, unwritten: Unwritten):
    with unwritten():
        answer = await house.call(hasty_change, lead=house.lead.id, consent=True)

    assert (answer["status"], answer["error"]) == ("failed", "forbidden")
    assert f'"{CONSENT}" holds the consent' in answer["reason"]


async def test_a_tag_or_a_stage_that_bears_a_mark_keeps_the_block(house: House, crm: Tagging):
    marked = house.lead.model_copy(update={"do_not_contact": ("email",)})

    async def change() -> None:
        work = under_way.get()
        assert work is not None
        work.read[marked.id] = marked
        await house.context.crm(TagsLeads).tag_lead(marked.id, ["vip"], [])

    await house.under("write", change)

    assert set(await house.context.store.contacts.blocked({"email": "jane@doe.example"})) == {"email"}


# Every verb, by every effect


ARGUMENTS: dict[str, Any] = {
    "change": LeadUpdate(title="Boss"),
    "draft": LeadDraft(name="New"),
    "rows": (ImportRow(draft=LeadDraft(name="Row")),),
    "if_exists": "skip",
    "add": ("vip",),
    "remove": (),
    "fields": TaskFields(title="Call"),
    "task": "1",
    "deal": "1",
    "stage": "1",
    "sequence": "1",
    "mailbox": Mailbox(id="1", address="me@ours.example", default=True),
    "sender": Sender(id="1", name="Me", default=True),
    "subject": "Hi",
    "body": "Hello",
    "text": "Hello",
    "message": "Hello",
    "reply_to": None,
    "channels": ("email",),
    "reason": None,
    "kind": "task",
    "record": "1",
    "image": {},
    "clear": (),
}
OF_A_VERB: dict[str, dict[str, Any]] = {
    "log_note": {"draft": NoteDraft(content="Hello")},
    "create_deal": {"fields": DealFields(name="Big")},
    "update_deal": {"fields": DealFields(name="Big")},
}


def _given(crm: Backend, verb: str, lead: Lead) -> dict[str, Any]:
    """Return arguments of a verb that does something."""
    parameters = signature(type(crm), verb).parameters
    known = ARGUMENTS | OF_A_VERB.get(verb, {}) | {"lead": _named(parameters, lead)}
    return {name: known[name] for name in parameters}


def _named(parameters: Mapping[str, inspect.Parameter], lead: Lead) -> Lead | str:
    """Return a lead as a verb is given it: read, or by its id."""
    return lead if "lead" in parameters and "Lead" in str(parameters["lead"].annotation) else lead.id


def _finding(house: House, does: Does, address: str | None) -> Decision:
    return Decision(lead=house.lead.id, way=does.channel, address=address)


async def test_every_verb_passes_only_under_an_effect_that_covers_it(
    house: House, crm: Crm, monkeypatch: pytest.MonkeyPatch
):
    marks = {name: does for name, does in verbs_of(type(crm)).items() if does and does.effect != "operation"}
    assert len(marks) > 5
    done: list[str] = []
    for verb, does in marks.items():

        async def record(*_: Any, verb: str = verb, does: Does = does, **__: Any) -> Any:
            done.append(verb)
            if verb == "import_leads":
                return (ImportOutcome(outcome="created", id="1"),)
            return house.lead if does.record == "lead" else None

        monkeypatch.setattr(crm, verb, record)
    for verb, does in marks.items():
        arguments = _given(crm, verb, house.lead)
        for effect in (None, *COVERS):
            done.clear()
            call: Callable[..., Awaitable[Any]] = getattr(house.context.crm(_protocol(crm, verb)), verb)
            try:
                await house.under(effect, lambda: call(**arguments))  # noqa: B023
            except Forbidden:
                went = False
            else:
                went = True
            covered = effect is not None and does.effect in COVERS[effect]
            assert went is (covered and does.effect != "outward"), (verb, effect)
            assert done == [verb] * went


async def test_a_verb_that_reaches_somebody_passes_for_whom_the_rules_have_passed_alone(
    house: House, crm: Crm, monkeypatch: pytest.MonkeyPatch
):
    reaching = {name: does for name, does in verbs_of(type(crm)).items() if does and does.channel}
    done: list[str] = []
    for verb, does in reaching.items():

        async def record(*_: Any, verb: str = verb, **__: Any) -> None:
            done.append(verb)

        monkeypatch.setattr(crm, verb, record)
        lead = house.lead.model_copy(update={"custom_fields": {"linkedin": "https://www.linkedin.com/in/jane-doe"}})
        arguments = _given(crm, verb, lead)
        call: Callable[..., Awaitable[Any]] = getattr(house.context.crm(_protocol(crm, verb)), verb)
        at = {"email": "jane@doe.example", "linkedin": "jane-doe"}.get(str(does.channel), NUMBER)
        right = _finding(house, does, at)
        wrong = [
            Decision(lead="another", way=does.channel, address=at),
            Decision(lead=lead.id, way="email" if does.channel != "email" else "sms", address=at),
            Decision("quiet hours", lead=lead.id, way=does.channel, address=at),
        ]
        if isinstance(arguments["lead"], Lead):
            wrong.append(_finding(house, does, "+14155550199"))
        for each in wrong:
            with pytest.raises(Forbidden):
                await house.under("outward", lambda: call(**arguments), Reach("x", decisions=(each,)))  # noqa: B023
        assert done == []
        await house.under("outward", lambda: call(**arguments), Reach("x", decisions=(right,)))  # noqa: B023

        async def one_more() -> None:
            with passed(right):  # noqa: B023
                await call(**arguments)  # noqa: B023
                with pytest.raises(Forbidden, match="what the rules found serves once"):
                    await call(**arguments)  # noqa: B023

        await house.under("outward", one_more)
        assert done == [verb] * 2
        done.clear()


async def test_an_operation_passes_by_what_its_catalogue_says_it_does(
    house: House, crm: Operating, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []

    async def record(operation: Any, _: Any) -> None:
        done.append(operation.name)

    monkeypatch.setattr(crm, "operate", record)
    call = house.context.crm(HasOperations).operate
    looked: set[str] = set()
    for operation in crm.catalog.operation:
        if not isinstance(operation.effect, str) or operation.effect in looked:
            continue
        looked.add(operation.effect)
        for effect in (None, *COVERS):
            done.clear()
            with monkeypatch.context() as no_people:
                no_people.setattr("crm_mcp.actions.vendor_operations.recipients.touched", _nobody)
                try:
                    await house.under(effect, lambda: call(operation, {}))  # noqa: B023
                except Forbidden:
                    went = False
                else:
                    went = True
            covered = effect is not None and operation.effect in COVERS[effect]
            allowed = operation.effect == "read" or (covered and operation.effect != "outward")
            assert went is allowed, (operation.name, operation.effect, effect)
            assert done == [operation.name] * went
            if operation.effect == "outward" and effect == "outward":
                seen = Reach("x", operation=operation.name, given={"to": "somebody"})
                with pytest.raises(Forbidden, match="the rules have not passed this operation with these arguments"):
                    await house.under(effect, lambda: call(operation, {"to": "else"}), seen)  # noqa: B023
                await house.under(effect, lambda: call(operation, {"to": "somebody"}), seen)  # noqa: B023
    assert looked >= {"read", "write"}


async def _nobody(*_: Any) -> Any:
    from crm_mcp.actions.vendor_operations.recipients import Reached

    return Reached()


async def test_what_only_reads_writes_nothing(house: House, crm: Crm, unwritten: Unwritten):
    reading = {
        "wanted": LeadFilter(),
        "part": Slice(limit=5),
        "channel": "email",
        "address": "jane@doe.example",
        "kinds": (),
        "since": None,
        "until": None,
        "note": "1",
        "call": "1",
        "completed": None,
        "due_before": None,
        "of": "leads",
        "by": "status",
        "known": frozenset[str](),
        "kind": "lead",
        "record": house.lead.id,
        "rows": (ImportRow(draft=LeadDraft(name="Row", list="Fair")),),
    }
    of_a_verb: dict[str, dict[str, Any]] = {
        "list_deals": {"wanted": DealFilter()},
        "list_options": {"kind": "stages"},
        "sent_message": {"since": now()},
        "started_call": {"since": now()},
    }
    looked: list[str] = []
    with unwritten():
        for verb, does in verbs_of(type(crm)).items():
            if does is not None or not inspect.iscoroutinefunction(getattr(type(crm), verb, None)):
                continue
            parameters = signature(type(crm), verb).parameters
            known = ARGUMENTS | reading | of_a_verb.get(verb, {}) | {"lead": _named(parameters, house.lead)}
            try:
                await getattr(crm, verb)(**{name: known[name] for name in parameters})
            except CrmError:
                continue
            looked.append(verb)
    assert len(looked) > 5


def _protocol(crm: Backend, verb: str) -> type[Any]:
    return next(each for each in type(crm).__mro__ if verb in vars(each) and each.__module__.endswith("backends.base"))


# What the hook does not ask twice


async def test_what_the_rules_have_passed_is_sent(house: House, crm: Texting):
    async def ask() -> Reach:
        return await preview_sms(house.context, house.lead, "Hello")

    found = await ask()

    assert [each.rule for each in found.decisions] == ["consent"]
    assert (found.decisions[0].lead, found.decisions[0].way) == (house.lead.id, "sms")
