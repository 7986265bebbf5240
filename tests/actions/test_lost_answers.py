"""Writes whose answer is lost: what the record itself shows is told, and in doubt nothing is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context
from crm_mcp.actions.intent import Client, Intent
from crm_mcp.backends.local import Local, rows
from crm_mcp.config import PolicySettings
from crm_mcp.errors import OtherWritten, OutcomeUnknown
from crm_mcp.model import DealFields, LeadDraft, LeadUpdate, NoteDraft, Slice, TaskFields
from crm_mcp.server.tools import TOOLS
from crm_mcp.store import Status

from .roads import Clock, Person, Road

BY_NAME = {each.name: each for each in TOOLS}
WRITES = frozenset(
    (
        *("create_lead", "update_lead", "tag_lead", "move_lead", "log_note", "delete", "restore"),
        *("create_task", "update_task", "create_deal", "update_deal", "move_deal", "send_sms"),
    )
)
"""The verbs that change something."""


class Losing(Local):
    """The embedded CRM, of which an answer is lost: before it does what it is asked, or after."""

    lost: str | None = None

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name not in WRITES:
            return found

        async def write(*given: Any, **named: Any) -> Any:
            when, self.lost = self.lost, None
            if when == "before":
                raise OutcomeUnknown("no answer came", "look what became of it")
            if when == "another":
                raise OtherWritten("another one came", "L77")
            answer = await found(*given, **named)
            if when == "after":
                raise OutcomeUnknown("no answer came", "look what became of it")
            return answer

        return write


class Died(BaseException):
    """The process ends here."""


class LossyRoad(Road):
    """A road on which answers are lost."""

    def __init__(self, folder: Path) -> None:
        self.losing = Losing(folder)
        super().__init__(folder, PolicySettings(destructive="allow"), crm=self.losing)
        # The CRM has its own clock.
        self.clock.moment = datetime.now(UTC)

    def _made(self, context: Context, tool: str, arguments: Mapping[str, Any], client: Client) -> Intent:
        one = BY_NAME[tool]
        return one.intent(context, one.check(arguments), client)

    async def call(self, tool: str, lost: str | None = None, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool as its client does."""
        self.losing.lost = lost
        return await self.pipeline.act(self._made(self.context, tool, arguments, Person("yes")), Person("yes"))

    async def dies(self, tool: str, /, lost: str | None = None, **arguments: Any) -> None:
        """Call a tool, and let the process end where the CRM has answered, before that is written down."""

        def end(step: str) -> None:
            if step == "answered":
                raise Died

        self.outbox.at = end
        with pytest.raises(BaseExceptionGroup):
            await self.call(tool, lost, **arguments)
        self.outbox.at = lambda _: None

    async def look(self, **after: float) -> dict[str, Status]:
        """Let the worker look for lost answers until it finds no more; the status of each action, the oldest first."""
        self.clock.advance(**after)
        while await self.worker.work_once((self.context.connection,)):
            pass
        return {row.id: row.status for row in reversed(await self.rows())}


@pytest.fixture
async def way(tmp_path: Path) -> AsyncGenerator[LossyRoad]:
    opened = LossyRoad(tmp_path)
    await opened.open()
    yield opened
    await opened.close()


async def task(way: LossyRoad) -> dict[str, Any]:
    made = await way.crm.create_task(way.lead.id, TaskFields(title="Ring"))
    return {"task": made.id, "title": "Ring back", "due_at": "2030-01-01T10:00:00+01:00", "completed": True}


async def deal(way: LossyRoad) -> dict[str, Any]:
    made = await way.crm.create_deal(way.lead.id, DealFields(name="Pilot"), None)
    return {"deal": made.id, "value": 20.5, "status": "won"}


async def stage_of_deal(way: LossyRoad) -> dict[str, Any]:
    made = await way.crm.create_deal(way.lead.id, DealFields(name="Pilot"), None)
    return {"deal": made.id, "stage": "closed won"}


async def stage_of_only_deal(way: LossyRoad) -> dict[str, Any]:
    await way.crm.create_deal(way.lead.id, DealFields(name="Pilot"), None)
    return {"lead": way.lead.id, "stage": "Closed Won"}


async def stage_of_lead(way: LossyRoad) -> dict[str, Any]:
    return {"lead": way.lead.id, "stage": "Qualified"}


async def fields(way: LossyRoad) -> dict[str, Any]:
    return {
        "lead": way.lead.id,
        "name": "Jane  Roe",
        "email": "Jane@Roe.example",
        "tags": ["vip"],
        "custom_fields": {"Budget": 2},
        "clear": ["phone"],
    }


async def tags(way: LossyRoad) -> dict[str, Any]:
    await way.crm.tag_lead(way.lead.id, ["cold"], [])
    return {"lead": way.lead.id, "add": ["VIP"], "remove": ["cold"]}


async def note(way: LossyRoad) -> dict[str, Any]:
    return {"lead": way.lead.id, "content": "Met at the fair", "kind": "meeting"}


async def lead(_: LossyRoad) -> dict[str, Any]:
    return {"name": "Nora Quist", "email": "nora@quist.example", "phone": "+14155550123"}


async def gone(way: LossyRoad) -> dict[str, Any]:
    return {"kind": "lead", "id": way.lead.id}


class Told:
    """What the embedded CRM takes for the clock: ours."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self, _zone: object) -> datetime:
        return self._clock()


@pytest.fixture
def one_clock(way: LossyRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CRM have our clock."""
    monkeypatch.setattr(rows, "datetime", Told(way.clock))


Given = Callable[[LossyRoad], Awaitable[dict[str, Any]]]
CASES: list[tuple[str, Given]] = [
    ("update_task", task),
    ("update_deal", deal),
    ("move_stage", stage_of_deal),
    ("move_stage", stage_of_only_deal),
    ("move_stage", stage_of_lead),
    ("update_lead", fields),
    ("tag_lead", tags),
    ("log_note", note),
    ("create_lead", lead),
    ("delete_record", gone),
]


@pytest.mark.parametrize(("tool", "given"), CASES)
async def test_what_was_done_is_told_where_the_record_shows_it(way: LossyRoad, tool: str, given: Given):
    arguments = await given(way)

    answer = await way.call(tool, "after", **arguments)

    assert answer["status"] == "done"
    assert "the answer was lost" in answer["reason"]


async def test_what_is_found_later_is_told_with_the_other_record_that_the_answer_named(way: LossyRoad):
    arguments = {"lead": way.lead.id, "title": "CEO"}
    first = await way.call("update_lead", "another", **arguments)
    await way.crm.update_lead(way.lead.id, LeadUpdate(title="CEO"))
    way.clock.advance(seconds=10)

    assert await way.worker.work_once((way.context.connection,))

    (row,) = await way.rows()
    remark = "the answer named L77: a person may look in the CRM whether that one was changed"
    assert (first["status"], row.status) == ("unknown", "done")
    assert first["reason"] == f"another one came; {remark}; it may have happened"
    assert row.reason == f"the CRM's own history shows that it happened; but {remark}, too"


@pytest.mark.parametrize(("tool", "given"), CASES)
async def test_what_was_not_done_is_never_told_as_done(way: LossyRoad, tool: str, given: Given):
    arguments = await given(way)

    answer = await way.call(tool, "before", **arguments)

    assert answer["status"] == "unknown"


@pytest.mark.parametrize(
    ("tool", "arguments"), [("create_task", {"title": "Ring"}), ("create_deal", {"name": "Pilot"})]
)
async def test_what_nobody_can_tell_stays_unknown(way: LossyRoad, tool: str, arguments: dict[str, Any]):
    assert (await way.call(tool, "after", **arguments))["status"] == "unknown"


async def test_a_lead_that_was_there_before_is_not_taken_for_the_new_one(way: LossyRoad):
    await way.crm.create_lead(LeadDraft(**await lead(way)))
    way.clock.advance(minutes=1)

    answer = await way.call("create_lead", "before", **await lead(way))

    assert answer["status"] == "unknown"


async def test_the_note_of_an_earlier_action_is_not_taken_for_this_one(way: LossyRoad):
    assert (await way.call("log_note", **await note(way)))["status"] == "done"
    way.clock.advance(seconds=61)

    answer = await way.call("log_note", "before", **await note(way))

    assert answer["status"] == "unknown"


@pytest.mark.usefixtures("one_clock")
async def test_what_a_resend_has_sent_is_not_the_success_of_the_one_that_was_lost_before_it(way: LossyRoad):
    message = {"lead": way.lead.id, "message": "On my way"}
    first = await way.call("send_sms", "before", **message)
    way.clock.advance(seconds=5)

    await way.dies("send_sms", **message, resend_of=first["action_id"])
    found = await way.look(seconds=20)

    assert list(found.values()) == ["unknown", "unknown"]
    assert len(await way.sent()) == 1


@pytest.mark.usefixtures("one_clock")
async def test_what_was_sent_is_not_the_success_of_a_resend_that_was_lost(way: LossyRoad):
    message = {"lead": way.lead.id, "message": "On my way"}
    await way.dies("send_sms", **message)
    way.clock.advance(seconds=16)
    (first,) = await way.rows()

    second = await way.call("send_sms", "before", **message, resend_of=first.id)
    found = await way.look(seconds=20)

    assert second["status"] == "unknown"
    assert list(found.values()) == ["unknown", "unknown"]
    assert len(await way.sent()) == 1


@pytest.mark.usefixtures("one_clock")
async def test_of_two_that_were_sent_the_earlier_is_found_once_the_later_is_known(way: LossyRoad):
    message = {"lead": way.lead.id, "message": "On my way"}
    await way.dies("send_sms", **message)
    way.clock.advance(seconds=16)
    (first,) = await way.rows()

    second = await way.call("send_sms", **message, resend_of=first.id)
    found = await way.look(seconds=20)

    assert second["status"] == "done"
    assert list(found.values()) == ["done", "done"]
    made = [dict(row.touched)["message"] for row in await way.rows()]
    assert len(set(made)) == 2


@pytest.mark.usefixtures("one_clock")
async def test_a_resend_long_after_the_one_that_was_lost_is_found(way: LossyRoad) -> None:
    message = {"lead": way.lead.id, "message": "On my way"}
    first = await way.call("send_sms", "before", **message)
    way.clock.advance(minutes=3)

    await way.dies("send_sms", **message, resend_of=first["action_id"])
    found = await way.look(seconds=20)

    assert found[first["action_id"]] == "unknown"
    assert sorted(found.values()) == ["done", "unknown"]


@pytest.mark.usefixtures("one_clock")
async def test_of_two_notes_of_one_text_nobody_can_tell_whose_the_one_is(way: LossyRoad):
    arguments = await note(way)
    await way.call("log_note", "before", **arguments)
    way.clock.advance(seconds=61)
    await way.dies("log_note", **arguments)

    assert list((await way.look(seconds=20)).values()) == ["unknown", "unknown"]


async def test_a_deletion_whose_answer_was_lost_can_be_undone(way: LossyRoad):
    await way.crm.log_note(way.lead.id, NoteDraft(content="Met"))
    deleted = await way.call("delete_record", "after", **await gone(way))

    undone = await way.call("undo_action", action_id=deleted["action_id"])

    assert undone["status"] == "undone"
    assert await way.crm.get_lead(way.lead.id) == way.lead
    assert [each.content for each in (await way.crm.list_notes(way.lead.id, Slice())).items] == ["Met"]


@pytest.mark.parametrize(("when", "status"), [("after", "undone"), ("before", "done")])
async def test_of_an_undo_whose_answer_was_lost_the_record_tells_whether_it_was_done(
    way: LossyRoad, when: str, status: Status
):
    changed = await way.call("update_lead", **await fields(way))

    answer = await way.call("undo_action", when, action_id=changed["action_id"])

    row = await way.store.actions.get(changed["action_id"])
    assert answer["status"] == ("done" if when == "after" else "unknown")
    assert row is not None
    assert row.status == status
    assert ((await way.crm.get_lead(way.lead.id)).name == "Jane Doe") is (when == "after")


async def test_a_deletion_that_came_back_unheard_is_undone(way: LossyRoad):
    deleted = await way.call("delete_record", **await gone(way))

    await way.call("undo_action", "after", action_id=deleted["action_id"])

    row = await way.store.actions.get(deleted["action_id"])
    assert row is not None
    assert row.status == "undone"
    assert (await way.crm.get_lead(way.lead.id)).name == "Jane Doe"


async def test_an_undo_that_could_not_be_recorded_is_found_later(way: LossyRoad, monkeypatch: pytest.MonkeyPatch):
    changed = await way.call("update_lead", lead=way.lead.id, title="CTO")
    real, calls = way.store.actions.mark_undone, list[str]()

    async def once(action_id: str, caller: str) -> bool:
        calls.append(action_id)
        if len(calls) == 1:
            raise OutcomeUnknown("the state is locked")
        return await real(action_id, caller)

    monkeypatch.setattr(way.store.actions, "mark_undone", once)

    await way.call("undo_action", action_id=changed["action_id"])

    row = await way.store.actions.get(changed["action_id"])
    assert row is not None
    assert row.status == "undone"


@pytest.mark.parametrize(
    ("wanted", "same"),
    [
        ("https://de.linkedin.com/in/Ann%2DLee/de", True),
        ("ann-lee", True),
        ("https://www.linkedin.com/in/ann", False),
        ("https://www.linkedin.com/company/ann-lee", False),
    ],
)
async def test_a_profile_that_is_shown_otherwise_than_it_was_written_is_the_same(road: Road, wanted: str, same: bool):
    shown = {"linkedin": "https://www.linkedin.com/in/ann-lee", "email": "ANN"}
    lead = road.lead.model_copy(update={"custom_fields": shown})

    assert reconcile.has(road.context, lead, {"custom_fields": {"linkedin": wanted}}) is same
    assert not reconcile.has(road.context, lead, {"custom_fields": {"email": "ann"}})
