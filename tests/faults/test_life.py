"""The life of actions as a state machine: whatever is asked, answered, broken and repeated in whatever order, the
ledger of what reached people shows no message twice, none to the wrong address or at night, none without its yes, and
every row tells the truth.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, cast
from zoneinfo import ZoneInfo

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from crm_mcp.actions import outbox
from crm_mcp.actions.action_result import result_of_repeat
from crm_mcp.actions.intent import Answer, Question
from crm_mcp.backends.local import Local, rows
from crm_mcp.config import PolicySettings, Settings
from crm_mcp.errors import Conflict, CrmError, OutcomeUnknown
from crm_mcp.model import Delivery, Lead, LeadDraft, LeadUpdate
from crm_mcp.server.app import Application
from crm_mcp.store import Action
from tests.harness.clock import CrmClock
from tests.harness.person import Person

from .report import Report
from .served import ENDED, WAITING, made_state

RUNS = int(os.environ.get("CRM_MCP_TEST_RUNS", "100"))
STEPS = 30
ONCE = timedelta(hours=24)
NUMBERS = ("+12125550100", "+12125550101", "+12125550102")
TEXTS = ("On my way", "On  my way ", "Shall we say ten?")
ZONE = ZoneInfo("America/New_York")
CRASHES = ("beginning", "claiming", "claimed", "answered", "settled", "proposed")
Confirmation = Literal["yes", "no", "dismissed", "silence", "token", "approval"]


class Crash(BaseException):
    """The process is no more."""


@dataclass
class Accepted:
    """One message that was taken, as the ledger has it."""

    to: str
    text: str
    at: datetime
    action: str
    resend: bool


@dataclass
class Outside:
    """What is outside of every process: the clock, the people, the ledger, and what goes wrong next."""

    folder: Path
    moment: datetime = field(default_factory=lambda: datetime(2026, 3, 20, 15, 0, tzinfo=UTC))
    ledger: list[Accepted] = field(default_factory=list[Accepted])
    confirmed: set[str] = field(default_factory=set[str])
    """Actions that somebody who may has said yes to."""
    wrong: list[str] = field(default_factory=list[str])
    fault: str = ""
    """What happens to the next message: it is lost before or after it is taken."""
    crash: str = ""
    """The next step at which the process ends."""
    off: bool = False
    blocked: set[str] = field(default_factory=set[str])

    def clock(self) -> datetime:
        """Return the moment, which goes on by a little each time it is looked at."""
        self.moment += timedelta(milliseconds=1)
        return self.moment

    def at(self, step: str) -> None:
        """End the process where it is to end."""
        if step == self.crash:
            self.crash = ""
            raise Crash(step)


class Witnessed(Person):
    """Whoever is in front of a client; what they say yes to is kept."""

    def __init__(self, outside: Outside, by: Confirmation) -> None:
        answer: Answer = "silence" if by in ("token", "approval") else by
        super().__init__(answer, fallback="approval" if by == "approval" else "token")
        self.can_be_asked = by not in ("token", "approval")
        self._outside = outside

    async def ask(self, question: Question) -> Answer:
        answer = await super().ask(question)
        if answer == "yes":
            self._outside.confirmed.add(question.id)
        return answer


class Watched(Local):
    """The embedded CRM, whose messages are written into the ledger, and lost on the way where that is wanted."""

    outside: Outside
    application: Application

    async def send_sms(self, lead: Lead, text: str) -> Delivery:
        outside, fault = self.outside, self.outside.fault
        outside.fault = ""
        if fault == "before":
            raise OutcomeUnknown("the request left and no answer came")
        delivery = await super().send_sms(lead, text)
        await self._note(lead.phone or "", text)
        if fault == "after":
            raise OutcomeUnknown("the request left and no answer came")
        return delivery

    async def _note(self, to: str, text: str) -> None:
        outside = self.outside
        found, _ = await self.application.store.actions.page(
            caller=None, status="sending", lead=None, after=None, limit=100
        )
        mine = [row for row in found if row.arguments["message"] == text]
        if not mine:
            outside.wrong.append(f"{text!r} went to {to} with no row that is being sent")
            return
        row = max(mine, key=lambda each: each.started_at or each.created_at)
        outside.ledger.append(
            Accepted(to, " ".join(text.split()), outside.moment, row.id, "resend_of" in row.arguments)
        )
        current = (await self.get_lead(row.lead or "")).phone
        local = outside.moment.astimezone(ZONE)
        if row.id not in outside.confirmed:
            outside.wrong.append(f"{row.id} went out and nobody has said yes to it (approved_by {row.approved_by})")
        if to != current:
            outside.wrong.append(f"{row.id} went to {to}, and the lead has {current}")
        if to in outside.blocked:
            outside.wrong.append(f"{row.id} went to {to}, which is blocked")
        if outside.off:
            outside.wrong.append(f"{row.id} went out while the kill switch was off")
        if local.hour >= 21 or local.hour < 8:
            outside.wrong.append(f"{row.id} went out at {local:%H:%M} there")


class Life(RuleBasedStateMachine):
    """Two processes on one state, two leads, and everything that can happen to them."""

    portal: BlockingPortal
    template: Path
    runs = 0
    sent = 0
    ends: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        fast = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=fast if fast.is_dir() else None))
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        self.outside = Outside(self.folder)
        self.dead: list[Application] = []
        self.tokens: list[tuple[str, str]] = []
        self.processes = [self._started(), self._started()]
        rows.datetime = CrmClock(lambda: self.outside.moment)  # pyright: ignore[reportAttributeAccessIssue]

    def teardown(self) -> None:
        if hasattr(self, "outside"):
            Life.runs += 1
            Life.sent += len(self.outside.ledger)
            Life.ends.update(row.status for row in self._rows())
            for each in [*self.dead, *self.processes]:
                self.portal.call(each.aclose)
            shutil.rmtree(self.folder)

    def _started(self) -> Application:
        rules = PolicySettings.model_validate({"outward": "confirm", "quiet_hours": "21:00-08:00"})
        crm = Watched(self.folder)
        application = Application(
            Settings(data_dir=self.folder, policy=rules), opened=lambda _settings, _connection: crm
        )
        application.store.clock = self.outside.clock
        application.outbox.at = self.outside.at
        application.outbox.result_of = not_awaited
        crm.outside, crm.application = self.outside, application
        return application

    def _in(self, which: int, what: Any, *arguments: Any) -> None:
        """Do something in one of the processes, which may end there."""
        application = self.processes[which]

        async def done() -> bool:
            try:
                with anyio.fail_after(20):
                    await what(application, *arguments)
            except BaseException as error:
                if not _crashed(error):
                    raise
                return False
            return True

        if not self.portal.call(done):
            self.dead.append(application)
            self.processes[which] = self._started()

    # What agents and people do

    @rule(
        which=st.integers(0, 1),
        lead=st.sampled_from(("L1", "L2")),
        text=st.sampled_from(TEXTS),
        by=st.sampled_from(("yes", "yes", "yes", "token", "token", "approval", "no", "dismissed", "silence")),
        defer=st.booleans(),
    )
    def send(self, which: int, lead: str, text: str, by: Confirmation, defer: bool) -> None:
        given = {"lead": lead, "message": text} | ({"defer": True} if defer else {})
        self._in(which, self._call, by, given)

    @rule(which=st.integers(0, 1), lead=st.sampled_from(("L1", "L2")), text=st.sampled_from(TEXTS))
    def send_and_say_yes(self, which: int, lead: str, text: str) -> None:
        self._in(which, self._call, "yes", {"lead": lead, "message": text})

    @rule(which=st.integers(0, 1), place=st.integers(0, 20), by=st.sampled_from(("yes", "yes", "no", "token")))
    def send_again_on_purpose(self, which: int, place: int, by: Confirmation) -> None:
        if sent := [row for row in self._rows() if row.status in ("done", "unknown")]:
            row = sent[place % len(sent)]
            given = {"lead": row.lead, "message": row.arguments["message"], "resend_of": row.id}
            self._in(which, self._call, by, given)

    async def _call(self, application: Application, by: Confirmation, given: Mapping[str, Any]) -> None:
        pipeline, person = application.pipelines["local"], Witnessed(self.outside, by)
        tool = application.tools["send_sms"]
        try:
            result = await pipeline.act(tool.intent(pipeline.context, tool.check(given), person), person)
        except CrmError as error:
            if error.code not in ("not_found", "invalid_argument", "forbidden", "unreachable"):
                raise
            return
        if result["status"] == "confirmation_required":
            self.tokens.append((result["action_id"], result["summary"]))

    @precondition(lambda self: self.tokens)
    @rule(which=st.integers(0, 1), newest=st.integers(1, 3), twice=st.booleans())
    def confirm(self, which: int, newest: int, twice: bool) -> None:
        token = self.tokens[-min(newest, len(self.tokens))]
        for _ in range(1 + twice):
            self.outside.confirmed.add(token[0])
            self._in(which, self._redeemed, *token)

    @rule(which=st.integers(0, 1), lead=st.sampled_from(("L1", "L2")))
    def confirm_two_that_are_the_same(self, which: int, lead: str) -> None:
        for text in TEXTS[:2]:
            self._in(which, self._call, "token", {"lead": lead, "message": text})
        for token in self.tokens[-2:]:
            self.outside.confirmed.add(token[0])
            self._in(1 - which, self._redeemed, *token)

    async def _redeemed(self, application: Application, action: str, summary: str) -> None:
        await application.pipelines["local"].redeem(action, summary, Witnessed(self.outside, "token"))

    @rule(which=st.integers(0, 1), place=st.integers(0, 20), answer=st.sampled_from(("yes", "yes", "no")))
    def answer_the_queue(self, which: int, place: int, answer: str) -> None:
        if waiting := [row for row in self._rows() if row.status == "pending_approval"]:
            self._in(which, self._decided, waiting[place % len(waiting)], answer)

    async def _decided(self, application: Application, row: Action, answer: str) -> None:
        if answer == "yes":
            self.outside.confirmed.add(row.id)
            await application.pipelines["local"].approve(row, "Ann")
        else:
            await application.store.actions.call_off(row.id, None, "declined", "Ann said no")

    # What happens meanwhile

    @rule(
        what=st.sampled_from(("number", "block", "unblock", "off", "on", "restart", "morning", "clock", "clock")),
        which=st.integers(0, 1),
        phone=st.sampled_from(NUMBERS),
        hours=st.sampled_from((1.0, -1.0, 24.5, 0.02, 0.2, 12.0)),
    )
    def something_changes(self, what: str, which: int, phone: str, hours: float) -> None:
        if what == "number":
            self._another_number(f"L{which + 1}", phone)
        elif what in ("block", "unblock"):
            self._block(phone, what == "block")
        elif what in ("off", "on"):
            self._kill_switch(what == "on")
        elif what == "restart":
            self.dead.append(self.processes[which])
            self.processes[which] = self._started()
        elif what == "morning":  # everybody may be reached again
            self.outside.moment = (self.outside.moment + timedelta(hours=24)).replace(hour=15)
            self._kill_switch(True)
        else:
            self.outside.moment += timedelta(hours=hours)

    def _another_number(self, lead: str, phone: str) -> None:
        async def change(application: Application) -> None:
            with suppress(Conflict):  # the other one has it
                await cast("Watched", application.backends["local"]).update_lead(lead, LeadUpdate(phone=phone))

        self._in(0, change)

    def _block(self, phone: str, on: bool) -> None:
        async def change(application: Application) -> None:
            if on:
                await application.store.contacts.block({"sms": phone}, "said so", "Ann")
            else:
                await application.store.contacts.unblock({"sms": phone}, "Ann")

        self._in(0, change)
        (self.outside.blocked.add if on else self.outside.blocked.discard)(phone)

    def _kill_switch(self, on: bool) -> None:
        async def turn(application: Application) -> None:
            await application.store.limits.set_outbound(on, "Ann")

        self._in(1, turn)
        self.outside.off = not on

    @rule(fault=st.sampled_from(("before", "after", "after")))
    def next_is_lost(self, fault: str) -> None:
        self.outside.fault = fault

    @rule(step=st.sampled_from(CRASHES))
    def next_crashes(self, step: str) -> None:
        self.outside.crash = step

    @rule(which=st.integers(0, 1), later=st.booleans())
    def work(self, which: int, later: bool) -> None:
        if later:
            self.outside.moment += timedelta(seconds=20)

        async def work(application: Application) -> None:
            for _ in range(5):
                if not await application.worker.work_once(("local",)):
                    break

        self._in(which, work)

    # What must hold

    def _rows(self) -> list[Action]:
        async def read(application: Application) -> list[Action]:
            found, _ = await application.store.actions.page(caller=None, status=None, lead=None, after=None, limit=100)
            return list(found)

        return self.portal.call(read, self.processes[0])

    @invariant()
    def nothing_is_wrong(self) -> None:
        if not hasattr(self, "outside"):
            return
        assert self.outside.wrong == []
        rows = {row.id: row for row in self._rows()}
        taken = [each.action for each in self.outside.ledger]
        assert len(taken) == len(set(taken)), "one action went out twice"
        for each in self.outside.ledger:
            row = rows[each.action]
            assert row.status in ("done", "unknown", "sending"), f"{row.id} went out and is {row.status}"
            assert row.approved_by in ("elicitation", "token", "approval: Ann"), row.approved_by
        for row in rows.values():
            assert row.status in ENDED | WAITING | {"scheduled", "sending"}
            if row.status == "done":
                assert row.id in taken, f"{row.id} is done, and nothing went out: {row.reason}"
        self._once()

    def _once(self) -> None:
        """The same text goes to the same number once a day, but for who says on purpose that it shall go again."""
        last: dict[tuple[str, str], datetime] = {}
        for each in self.outside.ledger:
            before = last.get((each.to, each.text))
            if before is not None and not each.resend:
                assert each.at - before > ONCE - timedelta(minutes=2), f"{each.text!r} went to {each.to} twice"
            last[each.to, each.text] = each.at


async def not_awaited(earlier: Action) -> dict[str, Any]:
    """Say at once what is known of an earlier action: the process that does it can't go on while this one waits."""
    return result_of_repeat(earlier)


def _crashed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_crashed(each) for each in error.exceptions)  # type: ignore[reportUnknownVariableType]
    return isinstance(error, Crash)


@contextmanager
def _portal() -> Generator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.mark.timeout(600)
def test_whatever_happens_in_whatever_order_the_ledger_and_the_rows_agree(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_state(tmp_path / "template").parent
    monkeypatch.setattr(rows, "datetime", rows.datetime)  # put back afterwards
    monkeypatch.setattr(outbox, "LOOK_PAUSES", (0.0,))
    Life.template, Life.runs, Life.sent = folder, 0, 0
    Life.ends.clear()
    chosen = settings(
        max_examples=RUNS,
        stateful_step_count=STEPS,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )
    with _portal() as portal:
        Life.portal = portal

        async def two_leads() -> None:
            crm = Local(folder)
            for name, phone in (("Jane", NUMBERS[0]), ("Kim", NUMBERS[1])):
                await crm.create_lead(LeadDraft(name=name, phone=phone))
            await crm.aclose()

        portal.call(two_leads)
        run_state_machine_as_test(Life, settings=chosen)
    report.runs("state machine", runs=Life.runs, steps_each=STEPS, sent=Life.sent, **Life.ends)
    assert Life.sent > Life.runs  # it gets somewhere
