"""An answer that comes with the call: it is heard whatever has changed since the question, and serves once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crm_mcp.errors import Forbidden
from crm_mcp.store import Action

from .offices import AT_NIGHT, FREE, Office
from .roads import Left, Person, leave

pytestmark = pytest.mark.anyio
LATE = {"quiet_hours": "21:00-08:00"}


async def put(office: Office, client: Person, lead: str) -> dict[str, Any]:
    tool = office.application.tools["send_sms"]
    checked = tool.check({"lead": lead, "message": "On my way"})
    return await office.pipeline.act(tool.intent(office.context, checked, client), client)


async def asked(office: Office, lead: str) -> Action:
    """Make the call up to its question."""
    person = Person("yes")
    person.before_the_answer = leave
    with pytest.raises(Left):
        await put(office, person, lead)
    return await office.newest()


async def answered(office: Office, lead: str, row: Action, answer: Any) -> dict[str, Any]:
    """Make the call again with the answer to that question."""
    person = Person(answer)
    person.answering = row.id
    return await put(office, person, lead)


async def status(office: Office, row: Action) -> str:
    found = await office.store.actions.get(row.id)
    assert found is not None
    return found.status


@pytest.mark.parametrize(("answer", "ends"), [("no", "declined"), ("yes", "blocked")])
async def test_an_answer_that_comes_while_a_rule_forbids_it_is_used_up(
    offices: Callable[..., Office], answer: str, ends: str
) -> None:
    office = offices({})
    lead = await office.lead()
    row = await asked(office, lead)
    await office.store.limits.set_outbound(on=False, by="ann")

    result = await answered(office, lead, row, answer)
    await office.store.limits.set_outbound(on=True, by="ann")
    again = await answered(office, lead, row, "yes")

    assert (result["status"], again["status"], await status(office, row)) == (ends, ends, ends)
    assert await office.messages(lead) == 0


@pytest.mark.parametrize(
    ("answer", "result", "ends"), [("no", "declined", "declined"), ("yes", "pending_approval", "cancelled")]
)
async def test_an_answer_that_comes_once_the_policy_wants_an_approval_is_used_up(
    offices: Callable[..., Office], answer: str, result: str, ends: str
) -> None:
    before = offices({})
    lead = await before.lead()
    row = await asked(before, lead)

    office = offices({"outward": "approve"})
    told = await answered(office, lead, row, answer)

    assert (told["status"], await status(office, row), await office.messages(lead)) == (result, ends, 0)


async def test_what_is_given_back_as_a_token_is_no_question_that_a_client_answers(
    offices: Callable[..., Office],
) -> None:
    office = offices({})
    lead = await office.lead()
    waits = await office.call("send_sms", lead=lead, message="On my way")
    row = await office.newest()

    with pytest.raises(Forbidden, match="belongs to another call"):
        await answered(office, lead, row, "yes")

    log = [each.body for each in await office.store.audit.entries(None, 0, 10)]
    assert (waits["status"], await office.messages(lead)) == ("confirmation_required", 0)
    assert [each["event"] for each in log] == ["proposed", "denied"]


async def test_a_time_zone_that_is_moved_after_the_question_voids_the_answer(offices: Callable[..., Office]) -> None:
    office = offices(LATE)
    lead = await office.lead()
    row = await asked(office, lead)
    await office.call("update_lead", lead=lead, custom_fields={"Time zone": "Europe/Lisbon"})

    result = await answered(office, lead, row, "yes")

    assert (result["status"], await office.messages(lead)) == ("expired", 0)
    assert 'time zone was "America/Los_Angeles" and is "Europe/Lisbon"' in result["reason"]


async def test_a_time_zone_that_is_moved_while_a_message_waits_voids_it(offices: Callable[..., Office]) -> None:
    office = offices(AT_NIGHT)
    lead = await office.lead()
    waits = await office.call("send_sms", lead=lead, message="On my way", defer=True)
    await office.call("update_lead", lead=lead, custom_fields={"Time zone": "Asia/Tokyo"})

    office.clock.advance(hours=14)
    await offices(FREE).work()

    ended = await office.store.actions.get(waits["action_id"])
    assert ended is not None
    assert (ended.status, await office.messages(lead)) == ("blocked", 0)


async def test_what_was_allowed_and_is_to_be_confirmed_by_now_is_not_sent(offices: Callable[..., Office]) -> None:
    office = offices(AT_NIGHT)
    lead = await office.lead()
    waits = await office.call("send_sms", lead=lead, message="On my way", defer=True)
    office.clock.advance(hours=13, minutes=30)
    await office.call("update_lead", lead=lead, phone="+14155550199")
    await office.call("update_lead", lead=lead, phone="+14155550171")

    await offices(FREE | LATE).work()
    office.clock.advance(hours=9)
    await offices(FREE | LATE).work()

    ended = await office.store.actions.get(waits["action_id"])
    assert ended is not None
    assert (ended.status, await office.messages(lead)) == ("blocked", 0)
    assert "to be confirmed by now" in (ended.reason or "")


async def test_a_process_that_slept_between_looking_and_claiming_sends_nothing(offices: Callable[..., Office]) -> None:
    office = offices(FREE)
    lead = await office.lead()
    office.application.outbox.at = lambda step: office.clock.advance(hours=3) if step == "beginning" else None

    result = await office.call("send_sms", lead=lead, message="On my way")

    assert (result["status"], await office.messages(lead)) == ("failed", 0)
    assert "nothing was written" in result["reason"]


async def test_who_said_yes_is_kept_where_a_rule_stops_it_then(offices: Callable[..., Office]) -> None:
    office = offices({"outward": "approve"})
    lead = await office.lead()
    await office.call("send_sms", lead=lead, message="On my way")
    row = await office.newest()
    await office.store.limits.set_outbound(on=False, by="ann")

    result = await office.pipeline.approve(row, "bob")

    ended = await office.newest()
    [*_, entry] = [each.body for each in await office.store.audit.entries(None, 0, 10)]
    assert (result["status"], ended.approved_by) == ("blocked", "approval: bob")
    assert (entry["status"], entry["approved_by"]) == ("blocked", "approval: bob")


async def test_an_answer_that_comes_too_late_is_told_so_and_is_in_the_log(offices: Callable[..., Office]) -> None:
    office = offices({})
    lead = await office.lead()
    waits = await office.call("send_sms", lead=lead, message="On my way")
    office.clock.advance(minutes=11)

    told = [await office.pipeline.redeem(waits["action_id"], waits["summary"], Person()) for _ in range(2)]

    log = [each.body for each in await office.store.audit.entries(None, 0, 10)]
    assert [each["status"] for each in told] == ["expired", "expired"]
    assert "make the call again" in told[0]["reason"]
    assert [(each["event"], each.get("status")) for each in log] == [("proposed", None), ("ended", "expired")]
