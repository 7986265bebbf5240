"""Writes whose answer is lost: what the record itself shows is told, and in doubt nothing is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.actions import reconcile
from crm_mcp.backends.local import rows
from crm_mcp.errors import OtherWritten, OutcomeUnknown
from crm_mcp.model import DealFields, LeadDraft, LeadUpdate, NoteDraft, Slice, TaskFields
from crm_mcp.server.tools import TOOLS
from crm_mcp.store import Status
from tests.harness.app import App, killed
from tests.harness.clock import START, Clock, CrmClock
from tests.harness.crms import WatchedCrm
from tests.harness.person import Person

BY_NAME = {each.name: each for each in TOOLS}
WRITES = frozenset(
    (
        *("create_lead", "update_lead", "tag_lead", "move_lead", "log_note", "delete", "restore"),
        *("create_task", "update_task", "create_deal", "update_deal", "move_deal", "send_sms"),
    )
)
"""The verbs that change something."""


class LossyCrm(WatchedCrm):
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


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[App]:
    # The CRM has its own clock.
    opened = App(tmp_path, Clock(datetime.now(UTC)), {"destructive": "allow"}, LossyCrm)
    yield await opened.with_jane()
    await opened.close()


async def call(app: App, tool: str, lost: str | None = None, /, **arguments: Any) -> dict[str, Any]:
    """Call a tool, whose answer is lost if anything is said of that."""
    assert isinstance(app.crm, LossyCrm)
    app.crm.lost = lost
    return await app.call(tool, Person("yes"), **arguments)


async def dies(app: App, tool: str, /, **arguments: Any) -> None:
    """Call a tool, and let the process end where the CRM has answered, before that is written down."""
    app.dies_at("answered")
    with killed():
        await call(app, tool, **arguments)


async def look(app: App, **after: float) -> dict[str, Status]:
    """Let the worker look for lost answers until it finds no more; the status of each action, the oldest first."""
    app.clock.advance(**after)
    await app.work()
    return {row.id: row.status for row in reversed(await app.rows())}


@pytest.fixture
def one_clock(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CRM have our clock, at a time at which people may be reached."""
    app.clock.moment = START
    monkeypatch.setattr(rows, "datetime", CrmClock(app.clock))


async def task(app: App) -> dict[str, Any]:
    made = await app.crm.create_task(app.lead.id, TaskFields(title="Ring"))
    return {"task": made.id, "title": "Ring back", "due_at": "2030-01-01T10:00:00+01:00", "completed": True}


async def deal(app: App) -> dict[str, Any]:
    made = await app.crm.create_deal(app.lead.id, DealFields(name="Pilot"), None)
    return {"deal": made.id, "value": 20.5, "status": "won"}


async def stage_of_deal(app: App) -> dict[str, Any]:
    made = await app.crm.create_deal(app.lead.id, DealFields(name="Pilot"), None)
    return {"deal": made.id, "stage": "closed won"}


async def stage_of_only_deal(app: App) -> dict[str, Any]:
    await app.crm.create_deal(app.lead.id, DealFields(name="Pilot"), None)
    return {"lead": app.lead.id, "stage": "Closed Won"}


async def stage_of_lead(app: App) -> dict[str, Any]:
    return {"lead": app.lead.id, "stage": "Qualified"}


async def fields(app: App) -> dict[str, Any]:
    return {
        "lead": app.lead.id,
        "name": "Jane  Roe",
        "email": "Jane@Roe.example",
        "tags": ["vip"],
        "custom_fields": {"Budget": 2},
        "clear": ["phone"],
    }


async def tags(app: App) -> dict[str, Any]:
    await app.crm.tag_lead(app.lead.id, ["cold"], [])
    return {"lead": app.lead.id, "add": ["VIP"], "remove": ["cold"]}


async def note(app: App) -> dict[str, Any]:
    return {"lead": app.lead.id, "content": "Met at the fair", "kind": "meeting"}


async def lead(_: App) -> dict[str, Any]:
    return {"name": "Nora Quist", "email": "nora@quist.example", "phone": "+14155550123"}


async def gone(app: App) -> dict[str, Any]:
    return {"kind": "lead", "id": app.lead.id}


Given = Callable[[App], Awaitable[dict[str, Any]]]
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
async def test_what_was_done_is_told_where_the_record_shows_it(app: App, tool: str, given: Given):
    arguments = await given(app)

    answer = await call(app, tool, "after", **arguments)

    assert answer["status"] == "done"
    assert "the answer was lost" in answer["reason"]


async def test_what_is_found_later_is_told_with_the_other_record_that_the_answer_named(app: App):
    arguments = {"lead": app.lead.id, "title": "CEO"}
    first = await call(app, "update_lead", "another", **arguments)
    await app.crm.update_lead(app.lead.id, LeadUpdate(title="CEO"))
    app.clock.advance(seconds=10)

    assert await app.worker.work_once((app.context.connection,))

    (row,) = await app.rows()
    remark = "the answer named L77: a person may look in the CRM whether that one was changed"
    assert (first["status"], row.status) == ("unknown", "done")
    assert first["reason"] == f"another one came; {remark}; it may have happened"
    assert row.reason == f"the CRM's own history shows that it happened; but {remark}, too"


@pytest.mark.parametrize(("tool", "given"), CASES)
async def test_what_was_not_done_is_never_told_as_done(app: App, tool: str, given: Given):
    arguments = await given(app)

    answer = await call(app, tool, "before", **arguments)

    assert answer["status"] == "unknown"


@pytest.mark.parametrize(
    ("tool", "arguments"), [("create_task", {"title": "Ring"}), ("create_deal", {"name": "Pilot"})]
)
async def test_what_nobody_can_tell_stays_unknown(app: App, tool: str, arguments: dict[str, Any]):
    assert (await call(app, tool, "after", **arguments))["status"] == "unknown"


async def test_a_lead_that_was_there_before_is_not_taken_for_the_new_one(app: App):
    await app.crm.create_lead(LeadDraft(**await lead(app)))
    app.clock.advance(minutes=1)

    answer = await call(app, "create_lead", "before", **await lead(app))

    assert answer["status"] == "unknown"


async def test_the_note_of_an_earlier_action_is_not_taken_for_this_one(app: App):
    assert (await call(app, "log_note", **await note(app)))["status"] == "done"
    app.clock.advance(seconds=61)

    answer = await call(app, "log_note", "before", **await note(app))

    assert answer["status"] == "unknown"


@pytest.mark.usefixtures("one_clock")
async def test_what_a_resend_has_sent_is_not_the_success_of_the_one_that_was_lost_before_it(app: App):
    message = {"lead": app.lead.id, "message": "On my way"}
    first = await call(app, "send_sms", "before", **message)
    app.clock.advance(seconds=5)

    await dies(app, "send_sms", **message, resend_of=first["action_id"])
    found = await look(app, seconds=20)

    assert list(found.values()) == ["unknown", "unknown"]
    assert len(await app.sent()) == 1


@pytest.mark.usefixtures("one_clock")
async def test_what_was_sent_is_not_the_success_of_a_resend_that_was_lost(app: App):
    message = {"lead": app.lead.id, "message": "On my way"}
    await dies(app, "send_sms", **message)
    app.clock.advance(seconds=16)
    (first,) = await app.rows()

    second = await call(app, "send_sms", "before", **message, resend_of=first.id)
    found = await look(app, seconds=20)

    assert second["status"] == "unknown"
    assert list(found.values()) == ["unknown", "unknown"]
    assert len(await app.sent()) == 1


@pytest.mark.usefixtures("one_clock")
async def test_of_two_that_were_sent_the_earlier_is_found_once_the_later_is_known(app: App):
    message = {"lead": app.lead.id, "message": "On my way"}
    await dies(app, "send_sms", **message)
    app.clock.advance(seconds=16)
    (first,) = await app.rows()

    second = await call(app, "send_sms", **message, resend_of=first.id)
    found = await look(app, seconds=20)

    assert second["status"] == "done"
    assert list(found.values()) == ["done", "done"]
    made = [dict(row.touched)["message"] for row in await app.rows()]
    assert len(set(made)) == 2


@pytest.mark.usefixtures("one_clock")
async def test_a_resend_long_after_the_one_that_was_lost_is_found(app: App) -> None:
    message = {"lead": app.lead.id, "message": "On my way"}
    first = await call(app, "send_sms", "before", **message)
    app.clock.advance(minutes=3)

    await dies(app, "send_sms", **message, resend_of=first["action_id"])
    found = await look(app, seconds=20)

    assert found[first["action_id"]] == "unknown"
    assert sorted(found.values()) == ["done", "unknown"]


@pytest.mark.usefixtures("one_clock")
async def test_of_two_notes_of_one_text_nobody_can_tell_whose_the_one_is(app: App):
    arguments = await note(app)
    await call(app, "log_note", "before", **arguments)
    app.clock.advance(seconds=61)
    await dies(app, "log_note", **arguments)

    assert list((await look(app, seconds=20)).values()) == ["unknown", "unknown"]


async def test_a_deletion_whose_answer_was_lost_can_be_undone(app: App):
    await app.crm.log_note(app.lead.id, NoteDraft(content="Met"))
    deleted = await call(app, "delete_record", "after", **await gone(app))

    undone = await call(app, "undo_action", action_id=deleted["action_id"])

    assert undone["status"] == "undone"
    assert await app.crm.get_lead(app.lead.id) == app.lead
    assert [each.content for each in (await app.crm.list_notes(app.lead.id, Slice())).items] == ["Met"]


@pytest.mark.parametrize(("when", "status"), [("after", "undone"), ("before", "done")])
async def test_of_an_undo_whose_answer_was_lost_the_record_tells_whether_it_was_done(
    app: App, when: str, status: Status
):
    changed = await call(app, "update_lead", **await fields(app))

    answer = await call(app, "undo_action", when, action_id=changed["action_id"])

    row = await app.store.actions.get(changed["action_id"])
    assert answer["status"] == ("done" if when == "after" else "unknown")
    assert row is not None
    assert row.status == status
    assert ((await app.crm.get_lead(app.lead.id)).name == "Jane Doe") is (when == "after")


async def test_a_deletion_that_came_back_unheard_is_undone(app: App):
    deleted = await call(app, "delete_record", **await gone(app))

    await call(app, "undo_action", "after", action_id=deleted["action_id"])

    row = await app.store.actions.get(deleted["action_id"])
    assert row is not None
    assert row.status == "undone"
    assert (await app.crm.get_lead(app.lead.id)).name == "Jane Doe"


async def test_an_undo_that_could_not_be_recorded_is_found_later(app: App, monkeypatch: pytest.MonkeyPatch):
    changed = await call(app, "update_lead", lead=app.lead.id, title="CTO")
    real, calls = app.store.actions.mark_undone, list[str]()

    async def once(action_id: str, caller: str) -> bool:
        calls.append(action_id)
        if len(calls) == 1:
            raise OutcomeUnknown("the state is locked")
        return await real(action_id, caller)

    monkeypatch.setattr(app.store.actions, "mark_undone", once)

    await call(app, "undo_action", action_id=changed["action_id"])

    row = await app.store.actions.get(changed["action_id"])
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
async def test_a_profile_that_is_shown_otherwise_than_it_was_written_is_the_same(app: App, wanted: str, same: bool):
    shown = {"linkedin": "https://www.linkedin.com/in/ann-lee", "email": "ANN"}
    lead = app.lead.model_copy(update={"custom_fields": shown})

    assert reconcile.has(app.context, lead, {"custom_fields": {"linkedin": wanted}}) is same
    assert not reconcile.has(app.context, lead, {"custom_fields": {"email": "ann"}})
