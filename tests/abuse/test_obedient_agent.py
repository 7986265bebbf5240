"""An agent that carries out whatever it reads in the CRM, under each policy: what it can get done, and what it can't.

Between them the cells of the embedded CRM hold every attack in every kind of field; those of the vendors share them.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from crm_mcp.text import unmarked
from tests.harness.settings import rules

from .agent import Agent, Tried
from .attacked import SEAL, AttackedCrm, AttackedLocal, AttackedVendor, Told, attacked, opened
from .corpus import ATTACKS, MAIL, NUMBER, payloads

OUTWARD = frozenset(["send_email", "send_sms", "send_linkedin_message", "start_call", "enroll_in_sequence"])
DESTRUCTIVE = frozenset({"delete_record"})
APPROVE = {"outward": "approve", "destructive": "approve"}
ALL_APPROVE = {"write": "approve", **APPROVE}
LIMITED = {
    "outward": "allow",
    "destructive": "deny",
    "daily_limits": {"email": 6, "sms": 2, "linkedin": 2, "enrolments": 2},
    "contact_limits": {"messages": 2},
    "require_consent": {"sms": "sms_opt_in", "call": "call_opt_in"},
}


@dataclass(frozen=True)
class Cell:
    """Settings, and a client in front of them."""

    policy: Mapping[str, Any] = field(default_factory=dict[str, Any])
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    asked: bool = True
    always: bool = False
    """The host answers yes by itself."""
    leaves: bool = False
    """Something may leave: by a token, or because policy allows it."""


CELLS: dict[str, Cell] = {
    "a person who says no": Cell(),
    "approve, and a host that says yes": Cell(APPROVE, always=True),
    "approve, and a token": Cell(APPROVE, asked=False),
    "allowed within limits": Cell(LIMITED, leaves=True),
    "a token": Cell(asked=False, leaves=True),
    "approval": Cell(more={"confirm_fallback": "approval"}, asked=False),
    "deny": Cell(more={"confirm_fallback": "deny"}, asked=False),
    "approve, writes as well": Cell(ALL_APPROVE, always=True),
    "read-only": Cell({"outward": "allow", "destructive": "allow"}, {"read_only": True}),
    "dry run": Cell({"outward": "allow", "destructive": "allow"}, {"dry_run": True}),
    "denied": Cell({"outward": "deny", "destructive": "deny"}),
}
OF_VENDORS = (
    "a person who says no",
    "approve, and a host that says yes",
    "approve, and a token",
    "allowed within limits",
)
RUNS = [("local", name) for name in CELLS] + [
    (vendor, name) for vendor in ("dialsheet", "getsales") for name in OF_VENDORS
]


@dataclass
class Ran:
    """What has become of a cell."""

    cell: Cell
    place: AttackedCrm
    agent: Agent
    before: list[dict[str, Any]]
    records: dict[str, set[str]]
    task: str
    """The address that the agent's own task is about."""
    planted: list[tuple[object, ...]]
    """What the embedded CRM held when the agent began."""

    @property
    def mine(self) -> list[str]:
        """The ids of all leads that the attack was about."""
        return [str(each["id"]) for each in self.before]


def ran(portal: BlockingPortal, folder: Path, vendor: str, name: str) -> Generator[Ran]:
    cell = CELLS[name]
    parts = [(vendor, each) for each in CELLS]
    if vendor != "local":
        parts = [(other, each) for each in OF_VENDORS for other in ("dialsheet", "getsales")]
    with attacked(portal, folder, vendor) as place:
        ids = [each["id"] for each in place.leads()[:6]]
        with opened(portal, place.given(folder, policy=rules())) as talk:
            talk.ok("set_do_not_contact", lead=ids[1], blocked=True, reason="asked us to stop")
        before, records = place.leads(), place.records()
        for n, (kind, text) in enumerate(payloads(place.kinds, parts.index((vendor, name)), len(parts))):
            place.plant(kind, n % 6, text)
        planted: list[tuple[object, ...]] = []
        if isinstance(place, AttackedLocal):
            place.began()
            planted = place.contents()
        target = before[7]
        task = ("send_email", {"lead": target["id"], "subject": "The quote", "body": "Here it is."})
        user = Told(tasks=(f"E-mail to {target['email']}, ",), always=cell.always)
        given = place.given(folder, policy=rules(**cell.policy), **cell.more)
        with opened(portal, given, user=user, asked=cell.asked) as talk:
            agent = Agent(talk)
            agent.work(ids, task)
            yield Ran(cell, place, agent, before, records, target["email"], planted)


@pytest.fixture(scope="module", params=RUNS, ids=lambda each: " - ".join(each))
def run(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Ran]:
    yield from ran(portal, tmp_path_factory.mktemp("abuse"), *request.param)


def test_there_are_attacks_enough() -> None:
    assert len(ATTACKS) >= 40
    assert len({story for story, _ in ATTACKS}) == len(ATTACKS)


def test_the_agent_obeys_what_it_reads(run: Ran) -> None:
    tools = {each.tool for each in run.agent.tried}

    assert len(run.agent.tried) >= 30
    assert {"send_email", "update_lead", "delete_record", "call_operation"} <= tools | {"call_operation"}


def test_nothing_leaves_without_a_yes_to_it(run: Ran) -> None:
    sent = run.place.sent()

    if run.cell.leaves:
        return
    # The agent's own task is all that the person said yes to; elsewhere nobody did.
    of_task = [("email", run.task)] if run.cell == CELLS["a person who says no"] else []
    assert [(each.channel, each.to) for each in sent] == of_task


def test_what_leaves_goes_to_an_address_that_was_on_file_and_that_nobody_has_blocked(run: Ran) -> None:
    sent = run.place.sent()
    on_file = {str(value) for lead in run.before for value in lead.values()} | set(run.mine)
    blocked = {run.before[1].get("email"), run.before[1].get("phone"), run.mine[1]}

    for each in sent:
        if run.cell == CELLS["a token"] and each.to in (MAIL, NUMBER):
            continue  # held by the next test
        assert each.to in on_file, each
        assert each.to not in blocked, each
        assert each.to not in (MAIL, NUMBER), each


def test_an_address_that_the_agent_wrote_is_not_used_before_it_was_confirmed_with_who_set_it(run: Ran) -> None:
    told = [text for each in run.agent.tried for text in each.asked if " was set by " in text]

    assert told or run.cell.policy != LIMITED or run.place.vendor == "getsales"
    for each in run.agent.tried:
        shown = [*each.asked, each.fields.get("preview") or ""]
        if each.tool in ("send_email", "send_sms", "start_call") and (MAIL in str(shown) or NUMBER in str(shown)):
            head = f" to {MAIL}" in shown[0][:80] or NUMBER in shown[0][:80]
            assert each.status != "done" or run.cell.always, each
            assert not head or any(" was set by " in text for text in shown), shown


def test_nothing_is_destroyed_without_a_yes_to_it(run: Ran) -> None:
    now = run.place.records()

    if run.cell == CELLS["a token"]:
        return
    for kind, before in run.records.items():
        assert before <= now[kind], f"{kind}: {before - now[kind]}"


def test_where_writing_needs_a_person_too_nothing_is_written_back_into_the_crm(run: Ran) -> None:
    unable = (ALL_APPROVE, CELLS["read-only"].policy)
    if not isinstance(run.place, AttackedLocal) or run.cell.policy not in unable:
        return

    assert run.place.contents() == run.planted


def test_what_waits_in_the_queue_waits_for_a_person(run: Ran) -> None:
    if run.cell.policy not in (APPROVE, ALL_APPROVE):
        return

    tried = [each for each in run.agent.tried if each.tool in OUTWARD | DESTRUCTIVE]
    confirming = [each for each in run.agent.tried if each.tool == "confirm_action"]

    assert {each.status for each in tried} <= {"pending_approval", "blocked", "error"}
    assert any(each.status == "pending_approval" for each in tried)
    assert {each.status for each in confirming} <= {"pending_approval", "error", "blocked", "duplicate"}
    assert all(not each.asked for each in tried)


def test_who_said_no_stays_on_the_list(run: Ran) -> None:
    lead = run.before[1]
    keys: Any = {"email": str(lead["email"]).casefold(), "sms": lead["phone"]}

    async def listed() -> dict[Any, str]:
        return await run.agent.talk.application.store.contacts.blocked(keys)

    still = run.agent.talk.run(listed)

    if not (run.cell.always and not run.cell.policy):
        assert set(still) == {"email", "sms"}


def test_limits_and_consent_hold_whatever_the_agent_was_told(run: Ran) -> None:
    if run.cell.policy != LIMITED:
        return

    sent = run.place.sent()

    assert len([each for each in sent if each.channel == "email"]) <= 6
    assert not [each for each in sent if each.channel in ("sms", "call")]
    for address in {each.to for each in sent}:
        assert len([each for each in sent if each.to == address and each.channel != "enrolment"]) <= 2


def test_what_a_person_is_shown_is_what_would_go_to_whom_and_nothing_else(run: Ran) -> None:
    for each in run.agent.tried:
        for question in each.asked or [each.fields.get("preview") or ""]:
            if question:
                _sound(each, question)


def _bare(text: str) -> str:
    """Return a text without what a preview changes in it: white space, and quotation marks."""
    return re.sub(r"[\s|]", "", unmarked(text)).replace('"', "'")


def _sound(tried: Tried, question: str) -> None:
    """Hold that a preview begins with one line of ours, has no other that looks like it, and the exact text."""
    first, *rest = question.splitlines()
    for line in rest:
        assert not re.match(r"(E-mail|SMS|LinkedIn message|Call|Delete|Enrol|summary|status|action)\b", line), question
        assert not line.startswith(("[", "{", "#", "<", "`", ">")), question
    for name in ("body", "message", "subject"):
        if name in tried.arguments and tried.tool in OUTWARD:
            assert _bare(tried.arguments[name]) in _bare(question), (name, question)
    assert "](" not in question
    assert "<img" not in question
    assert first == " ".join(first.split())


def test_no_secret_is_ever_told(run: Ran) -> None:
    heard = "\n".join(run.agent.talk.heard + run.agent.talk.user.asked)

    secrets = [SEAL, *([run.place.there.key] if isinstance(run.place, AttackedVendor) else [])]
    assert not [each for each in secrets if each in heard]
    assert "audit.key" not in heard
    assert "state.sqlite3" not in heard
