"""What has changed between asking and doing: the policy, a server beside this one, a job that was called off."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.actions import outbox
from crm_mcp.backends.local.database import FILE
from crm_mcp.errors import InvalidArgument, NotFound, Unreachable, VendorError
from crm_mcp.store.actions import Actions
from tests.harness.app import NUMBER, SEQUENCE, App
from tests.harness.person import Person
from tests.harness.settings import AT_NIGHT, FREE

pytestmark = pytest.mark.anyio


async def test_a_limit_that_a_send_has_filled_does_not_hide_it_from_who_asks_again(
    open_app: Callable[..., App],
) -> None:
    app = open_app(FREE | {"contact_limits": {"messages": 1}})
    lead = await app.new_lead()

    first = await app.call("send_sms", Person(), lead=lead, message="On my way")
    again = await app.call("send_sms", Person(), lead=lead, message="On my way")

    assert (first["status"], again["status"]) == ("done", "duplicate")
    assert again["action_id"] == first["action_id"]


async def test_what_was_allowed_is_not_sent_once_the_policy_asks_for_an_approval(
    open_app: Callable[..., App],
) -> None:
    before = open_app(AT_NIGHT)
    lead = await before.new_lead()
    waits = await before.call("send_sms", Person(), lead=lead, message="On my way", defer=True)

    before.clock.advance(hours=24)
    after = open_app({"outward": "approve"})
    await after.work()

    ended = await after.store.actions.get(waits["action_id"])
    assert ended is not None
    assert (ended.status, len(await after.sent(lead))) == ("blocked", 0)
    assert "policy.outward" in (ended.reason or "")


async def test_a_server_without_the_tool_leaves_what_is_due_to_one_that_has_it(
    open_app: Callable[..., App],
) -> None:
    whole = open_app(AT_NIGHT)
    lead = await whole.new_lead()
    waits = await whole.call("send_sms", Person(), lead=lead, message="On my way", defer=True)

    whole.clock.advance(hours=24)
    await open_app(FREE, exclude_tools=("send_sms",)).work()
    whole.clock.advance(seconds=16)
    await open_app(FREE).work()

    sent = await whole.store.actions.get(waits["action_id"])
    assert sent is not None
    assert (sent.status, len(await whole.sent(lead))) == ("done", 1)


async def test_a_dry_run_approves_nothing(open_app: Callable[..., App]) -> None:
    app = open_app({"outward": "approve"})
    lead = await app.new_lead()
    waits = await app.call("send_sms", Person(), lead=lead, message="On my way")

    dry = open_app({"outward": "approve"}, dry_run=True)
    row = await dry.store.actions.get(waits["action_id"])
    assert row is not None
    result = await dry.pipeline.approve(row, "ann")

    assert (result["status"], len(await app.sent(lead))) == ("dry_run", 0)


async def test_an_undo_that_nobody_was_asked_about_takes_back_nothing_that_was_done_meanwhile(
    open_app: Callable[..., App],
) -> None:
    app = open_app({"write": "confirm"})
    lead = await app.new_lead()
    waits = await app.call("update_lead", Person(), lead=lead, title="Head of Sales")
    begin = app.store.actions.begin

    async def meanwhile(*given: Any) -> Any:
        await app.pipeline.redeem(waits["action_id"], waits["summary"], Person())
        return await begin(*given)

    app.store.actions.begin = meanwhile  # type: ignore[method-assign]
    result = await app.call("undo_action", Person(), action_id=waits["action_id"])

    assert result["status"] == "failed"
    assert (await app.context.lead(lead)).title == "Head of Sales"


async def test_whom_a_job_had_enrolled_when_it_was_called_off_is_not_enrolled_again(
    open_app: Callable[..., App],
) -> None:
    app = open_app(FREE, sample=True)
    crm: Any = app.crm
    leads = [await app.new_lead(f"+1415555{1000 + number}") for number in range(105)]
    asked: list[str] = []

    async def enroll(_: str, lead: str) -> None:
        asked.append(lead)
        if len(asked) == 5:
            await app.store.actions.call_off((await app.newest()).id, None, "cancelled", "taken back")

    crm.enroll = enroll
    stopped = await app.call("enroll_in_sequence", Person(), sequence=SEQUENCE, leads=leads)
    again = await app.call("enroll_in_sequence", Person(), sequence=SEQUENCE, leads=leads[:10])

    assert stopped["status"] == "cancelled"
    assert (again["status"], again["succeeded"]) == ("done", leads[5:10])
    assert asked == leads[:10]


async def test_an_address_that_a_job_wrote_before_it_was_called_off_is_confirmed(
    open_app: Callable[..., App],
) -> None:
    app = open_app(FREE)
    crm: Any = app.crm
    write = crm.import_leads

    async def then_called_off(*given: Any) -> Any:
        outcomes = await write(*given)
        await app.store.actions.call_off((await app.newest()).id, None, "cancelled", "taken back")
        return outcomes

    crm.import_leads = then_called_off
    rows = [{"name": f"Row {number}", "phone": f"+1415555{1000 + number}"} for number in range(150)]
    stopped = await app.call("import_leads", Person("yes"), leads=rows)
    sent = await app.call("send_sms", Person(), lead="+14155551000", message="On my way")

    assert (stopped["status"], sent["status"]) == ("cancelled", "confirmation_required")


async def test_a_stop_is_not_written_over_by_messages_on_another_channel(
    open_app: Callable[..., App], tmp_path: Path
) -> None:
    app = open_app(FREE)
    lead = await app.new_lead()
    at = int((app.clock() - timedelta(hours=1)).timestamp() * 1000)
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute(
            "INSERT INTO messages (lead, channel, direction, body, status, sent_at)"
            " VALUES (?, 'sms', 'inbound', 'STOP', 'received', ?)",
            (int(lead[1:]), at),
        )
    db.close()

    for number in range(20):
        await app.call("send_email", Person(), lead=lead, subject="News", body=f"Number {number}")
    result = await app.call("send_sms", Person(), lead=lead, message="On my way")

    assert result["status"] == "blocked"
    assert "STOP" in result["reason"]


async def test_a_fault_while_a_lease_is_renewed_breaks_off_no_send_and_no_server(
    open_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app(FREE)
    lead = await app.new_lead()
    crm: Any = app.crm
    send, renewed = crm.send_sms, anyio.Event()

    async def hold(*_: Any, **__: Any) -> bool:
        renewed.set()
        raise RuntimeError("a fault of the driver")

    async def slow(*given: Any) -> Any:
        await renewed.wait()
        return await send(*given)

    monkeypatch.setattr(outbox, "LEASE", timedelta(milliseconds=30))
    monkeypatch.setattr(Actions, "renew_lease", hold)
    crm.send_sms = slow
    async with app.application.worker.working():
        result = await app.call("send_sms", Person(), lead=lead, message="On my way")

    assert result["status"] == "done"


async def test_a_refused_call_is_in_the_log_without_its_texts(open_app: Callable[..., App]) -> None:
    app = open_app({"require_consent": {"sms": "sms_opt_in"}})
    lead = await app.new_lead()

    with pytest.raises(Exception, match="no tool can write it"):
        await app.call("update_lead", Person(), lead=lead, custom_fields={"sms_opt_in": "yes", "body": "a long story"})
    [entry] = await app.store.audit.entries(None, 0, 10)

    assert (entry.body["event"], entry.body["tool"]) == ("denied", "update_lead")
    assert "a long story" not in str(entry.body)


async def test_the_kill_switch_stops_an_enrolment_under_way(open_app: Callable[..., App]) -> None:
    app = open_app(FREE, sample=True)
    crm: Any = app.crm
    leads = [await app.new_lead(f"+1415555{1000 + number}") for number in range(3)]

    async def enroll(*_: str) -> None:
        await app.store.limits.set_outbound(on=False, by="ann")

    crm.enroll = enroll
    result = await app.call("enroll_in_sequence", Person(), sequence=SEQUENCE, leads=leads)

    assert result["succeeded"] == leads[:1]
    assert all("kill switch" in each["reason"] for each in result["failed"])


async def test_an_import_that_sets_the_time_zone_of_a_lead_that_exists_is_confirmed(
    open_app: Callable[..., App],
) -> None:
    app = open_app(FREE)
    await app.new_lead()
    row = {"phone": NUMBER, "custom_fields": {"Time zone": "Asia/Tokyo"}}

    updates = await app.call("import_leads", Person(), leads=[row], if_exists="update")
    skips = await app.call("import_leads", Person(), leads=[row])

    assert (updates["status"], skips["status"]) == ("confirmation_required", "done")
    assert "when they may be texted or called" in updates["preview"]


async def test_who_sets_the_time_zone_of_a_lead_is_named_before_it_is_texted(open_app: Callable[..., App]) -> None:
    app = open_app(FREE)
    lead = await app.new_lead()

    await app.call("update_lead", Person(), lead=lead, custom_fields={"Time zone": "Europe/Berlin"})
    asked = await app.call("send_sms", Person(), lead=lead, message="On my way")

    assert asked["status"] == "confirmation_required"
    assert "the time zone was set by ann via tests with update_lead" in asked["preview"]


async def test_who_empties_the_time_zone_of_a_lead_is_named_before_it_is_texted(open_app: Callable[..., App]) -> None:
    app = open_app(FREE)
    lead = await app.new_lead()
    await app.call("update_lead", Person(), lead=lead, custom_fields={"Time zone": "Europe/Berlin"})
    app.clock.advance(hours=25)

    before = await app.call("send_sms", Person(), lead=lead, message="On my way")
    await app.call("update_lead", Person(), lead=lead, clear=["custom_fields.Time zone"])
    after = await app.call("send_sms", Person(), lead=lead, message="I am there")

    assert (before["status"], after["status"]) == ("done", "confirmation_required")
    assert "the time zone was set by ann via tests with update_lead" in after["preview"]


@pytest.mark.parametrize(("wrote", "status"), [(True, "confirmation_required"), (False, "done")])
async def test_an_address_that_a_failed_call_may_have_written_is_confirmed(
    open_app: Callable[..., App], wrote: bool, status: str
) -> None:
    app = open_app(FREE)
    crm: Any = app.crm
    lead = await app.new_lead()
    await app.new_lead("+14155550199")

    async def broken(*_: Any) -> None:
        raise VendorError("it broke in the middle", wrote=wrote)

    crm.update_lead = broken
    failed = await app.call("update_lead", Person(), lead=lead, phone="+14155550199")
    sent = await app.call("send_sms", Person(), lead="jane+14155550199@doe.example", message="On my way")

    assert (failed["status"], sent["status"]) == ("failed", status)


async def test_a_deferred_message_that_the_crm_does_not_take_expires_a_day_after_its_time(
    open_app: Callable[..., App],
) -> None:
    at_night = open_app(AT_NIGHT)
    lead = await at_night.new_lead()
    waits = await at_night.call("send_sms", Person(), lead=lead, message="On my way", defer=True)
    by_day = open_app(FREE)
    crm: Any = by_day.crm

    async def away(_: str) -> None:
        raise Unreachable("the CRM can't be reached")

    crm.get_lead = away
    ends: list[tuple[str, str | None]] = []
    for hours in (14, 22, 3):
        at_night.clock.advance(hours=hours)
        await by_day.work()
        row = await by_day.store.actions.get(waits["action_id"])
        assert row is not None
        ends.append((row.status, row.reason))

    assert [status for status, _ in ends] == ["scheduled", "scheduled", "expired"]
    assert "it could not be sent when it was due: the CRM can't be reached" in str(ends[0])
    assert "it could not go within 24 hours of its time" in str(ends[2])
    assert "the CRM can't be reached" in str(ends[2])


async def test_a_call_that_repeats_another_and_a_false_confirmation_are_in_the_log(
    open_app: Callable[..., App],
) -> None:
    app = open_app({})
    lead = await app.new_lead()
    waits = await app.call("send_sms", Person(), lead=lead, message="On my way")
    for summary in ("another one", waits["summary"]):
        with suppress(InvalidArgument):
            await app.pipeline.redeem(waits["action_id"], summary, Person())
    with pytest.raises(NotFound):
        await app.pipeline.redeem(waits["action_id"], waits["summary"], Person(caller="mallory via tests"))
    again = await app.call("send_sms", Person(), lead=lead, message="On my way")

    log = [each.body for each in await app.store.audit.entries(None, 0, 10)]
    assert again["status"] == "duplicate"
    assert [(each["event"], each["tool"], each["caller"].split()[0]) for each in log] == [
        ("proposed", "send_sms", "ann"),
        ("denied", "confirm_action", "ann"),
        ("started", "send_sms", "ann"),
        ("ended", "send_sms", "ann"),
        ("denied", "confirm_action", "mallory"),
        ("repeated", "send_sms", "ann"),
    ]
    assert "word for word" in log[1]["reason"]
    assert log[-1]["action"] == waits["action_id"]
    assert "On my way" not in str(log)
