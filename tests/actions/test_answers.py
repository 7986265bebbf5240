"""An answer that comes with the call: it is heard whatever has changed since the question, and serves once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crm_mcp.errors import Forbidden
from crm_mcp.store import Action
from tests.harness.app import App
from tests.harness.person import Left, Person, leave
from tests.harness.settings import AT_NIGHT, FREE

pytestmark = pytest.mark.anyio
LATE = {"quiet_hours": "21:00-08:00"}


async def put(app: App, client: Person, lead: str) -> dict[str, Any]:
    tool = app.application.tools["send_sms"]
    checked = tool.check({"lead": lead, "message": "On my way"})
    return await app.pipeline.act(tool.intent(app.context, checked, client), client)


async def asked(app: App, lead: str) -> Action:
    """Make the call up to its question."""
    person = Person("yes")
    person.before_the_answer = leave
    with pytest.raises(Left):
        await put(app, person, lead)
    return await app.newest()


async def answered(app: App, lead: str, row: Action, answer: Any) -> dict[str, Any]:
    """Make the call again with the answer to that question."""
    person = Person(answer)
    person.answering = row.id
    return await put(app, person, lead)


async def status(app: App, row: Action) -> str:
    found = await app.store.actions.get(row.id)
    assert found is not None
    return found.status


@pytest.mark.parametrize(("answer", "ends"), [("no", "declined"), ("yes", "blocked")])
async def test_an_answer_that_comes_while_a_rule_forbids_it_is_used_up(
    open_app: Callable[..., App], answer: str, ends: str
) -> None:
    app = open_app({})
    lead = await app.new_lead()
    row = await asked(app, lead)
    await app.store.limits.set_outbound(on=False, by="ann")

    result = await answered(app, lead, row, answer)
    await app.store.limits.set_outbound(on=True, by="ann")
    again = await answered(app, lead, row, "yes")

    assert (result["status"], again["status"], await status(app, row)) == (ends, ends, ends)
    assert len(await app.sent(lead)) == 0


@pytest.mark.parametrize(
    ("answer", "result", "ends"), [("no", "declined", "declined"), ("yes", "pending_approval", "cancelled")]
)
async def test_an_answer_that_comes_once_the_policy_wants_an_approval_is_used_up(
    open_app: Callable[..., App], answer: str, result: str, ends: str
) -> None:
    before = open_app({})
    lead = await before.new_lead()
    row = await asked(before, lead)

    app = open_app({"outward": "approve"})
    told = await answered(app, lead, row, answer)

    assert (told["status"], await status(app, row), len(await app.sent(lead))) == (result, ends, 0)


async def test_what_is_given_back_as_a_token_is_no_question_that_a_client_answers(
    open_app: Callable[..., App],
) -> None:
    app = open_app({})
    lead = await app.new_lead()
    waits = await app.call("send_sms", Person(), lead=lead, message="On my way")
    row = await app.newest()

    with pytest.raises(Forbidden, match="belongs to another call"):
        await answered(app, lead, row, "yes")

    log = [each.body for each in await app.store.audit.entries(None, 0, 10)]
    assert (waits["status"], len(await app.sent(lead))) == ("confirmation_required", 0)
    assert [each["event"] for each in log] == ["proposed", "denied"]


async def test_a_time_zone_that_is_moved_after_the_question_voids_the_answer(open_app: Callable[..., App]) -> None:
    app = open_app(LATE)
    lead = await app.new_lead()
    row = await asked(app, lead)
    await app.call("update_lead", Person(), lead=lead, custom_fields={"Time zone": "Europe/Lisbon"})

    result = await answered(app, lead, row, "yes")

    assert (result["status"], len(await app.sent(lead))) == ("expired", 0)
    assert 'time zone was "America/Los_Angeles" and is "Europe/Lisbon"' in result["reason"]


async def test_a_time_zone_that_is_moved_while_a_message_waits_voids_it(open_app: Callable[..., App]) -> None:
    app = open_app(AT_NIGHT)
    lead = await app.new_lead()
    waits = await app.call("send_sms", Person(), lead=lead, message="On my way", defer=True)
    await app.call("update_lead", Person(), lead=lead, custom_fields={"Time zone": "Asia/Tokyo"})

    app.clock.advance(hours=14)
    await open_app(FREE).work()

    ended = await app.store.actions.get(waits["action_id"])
    assert ended is not None
    assert (ended.status, len(await app.sent(lead))) == ("blocked", 0)


async def test_what_was_allowed_and_is_to_be_confirmed_by_now_is_not_sent(open_app: Callable[..., App]) -> None:
    app = open_app(AT_NIGHT)
    lead = await app.new_lead()
    waits = await app.call("send_sms", Person(), lead=lead, message="On my way", defer=True)
    app.clock.advance(hours=13, minutes=30)
    await app.call("update_lead", Person(), lead=lead, phone="+14155550199")
    await app.call("update_lead", Person(), lead=lead, phone="+14155550171")

    await open_app(FREE | LATE).work()
    app.clock.advance(hours=9)
    await open_app(FREE | LATE).work()

    ended = await app.store.actions.get(waits["action_id"])
    assert ended is not None
    assert (ended.status, len(await app.sent(lead))) == ("blocked", 0)
    assert "to be confirmed by now" in (ended.reason or "")


async def test_a_process_that_slept_between_looking_and_claiming_sends_nothing(open_app: Callable[..., App]) -> None:
    app = open_app(FREE)
    lead = await app.new_lead()
    app.application.outbox.at = lambda step: app.clock.advance(hours=3) if step == "beginning" else None

    result = await app.call("send_sms", Person(), lead=lead, message="On my way")

    assert (result["status"], len(await app.sent(lead))) == ("failed", 0)
    assert "nothing was written" in result["reason"]


async def test_who_said_yes_is_kept_where_a_rule_stops_it_then(open_app: Callable[..., App]) -> None:
    app = open_app({"outward": "approve"})
    lead = await app.new_lead()
    await app.call("send_sms", Person(), lead=lead, message="On my way")
    row = await app.newest()
    await app.store.limits.set_outbound(on=False, by="ann")

    result = await app.pipeline.approve(row, "bob")

    ended = await app.newest()
    [*_, entry] = [each.body for each in await app.store.audit.entries(None, 0, 10)]
    assert (result["status"], ended.approved_by) == ("blocked", "approval: bob")
    assert (entry["status"], entry["approved_by"]) == ("blocked", "approval: bob")


async def test_an_answer_that_comes_too_late_is_told_so_and_is_in_the_log(open_app: Callable[..., App]) -> None:
    app = open_app({})
    lead = await app.new_lead()
    waits = await app.call("send_sms", Person(), lead=lead, message="On my way")
    app.clock.advance(minutes=11)

    told = [await app.pipeline.redeem(waits["action_id"], waits["summary"], Person()) for _ in range(2)]

    log = [each.body for each in await app.store.audit.entries(None, 0, 10)]
    assert [each["status"] for each in told] == ["expired", "expired"]
    assert "make the call again" in told[0]["reason"]
    assert [(each["event"], each.get("status")) for each in log] == [("proposed", None), ("ended", "expired")]
