"""The rules of every tool hold for other operations: one is no way round them."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.actions.enrolment.run import enrolment_key
from crm_mcp.actions.messages import message_key
from crm_mcp.backends.catalog import load
from crm_mcp.errors import Forbidden, InvalidArgument
from crm_mcp.sandbox.people import PEOPLE
from crm_mcp.store import Action, ClaimConditions, DedupKey, Ended, NewAction
from tests.harness.person import Person
from tests.harness.small_vendor import PLAN, VendorApp, small_vendor

JANE, OMAR = PEOPLE[:2]


OUTWARD: dict[str, Any] = {"outward": "allow"}


def ruled(folder: Path, /, **policy: Any) -> AbstractAsyncContextManager[VendorApp]:
    """Return a vendor that may be used outwardly without a question, under these rules."""
    return small_vendor(folder, OUTWARD | policy)


@pytest.mark.parametrize(
    ("policy", "hour", "reason"),
    [
        ({}, 4, f"quiet hours: it is 00:00 for {JANE.phone}"),
        ({"blackout_dates": ["2026-03-20"]}, 18, "blackout date: it is 2026-03-20"),
        ({"require_consent": {"sms": "sms_opt_in"}}, 18, 'consent: the lead\'s field "sms_opt_in" must be set'),
        ({"outbound": "off"}, 18, "kill switch: "),
    ],
)
async def test_the_rules_of_a_send_are_those_of_an_operation(
    tmp_path: Path, policy: dict[str, Any], hour: int, reason: str
) -> None:
    async with ruled(tmp_path, **policy) as app:
        app.clock.moment = app.clock.moment.replace(hour=hour)

        result = await app.call(Person("yes"), "plan_text", **PLAN)

        assert (result["status"], app.left) == ("blocked", [])
        assert result["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("at", "policy", "reason"),
    [
        ("2026-12-25T18:00Z", {"blackout_dates": ["2026-12-25"]}, "blackout date: it will be 2026-12-25 for "),
        ("2026-12-24T06:00:00+02:00", {}, f"quiet hours: it will be 23:00 for {JANE.phone}"),
        ("2026-03-20T19:00:00Z", {"daily_limits": {"sms": 1}}, "limit: no more than 1 SMS a day"),
    ],
)
async def test_what_is_planned_is_judged_by_the_time_that_it_goes_out_and_by_the_limits_of_now(
    tmp_path: Path, at: str, policy: dict[str, Any], reason: str
) -> None:
    async with ruled(tmp_path, **policy) as app:
        await app.call(Person(), "plan_text", lead="p2", message={"body": "Hi"})

        result = await app.call(Person("yes"), "plan_text", **PLAN, send_at=at)

        assert (result["status"], len(app.left)) == ("blocked", 1)
        assert result["reason"].startswith(reason)


@pytest.mark.parametrize("at", ["2026-12-24T18:00:00Z", "2020-01-01T00:00:00Z"])
async def test_what_is_planned_for_an_allowed_time_goes_and_a_time_that_is_over_is_now(tmp_path: Path, at: str) -> None:
    async with ruled(tmp_path, blackout_dates=["2026-12-25"]) as app:
        assert (await app.call(Person(), "plan_text", **PLAN, send_at=at))["status"] == "done"


async def test_at_night_a_message_can_be_planned_for_the_day(tmp_path: Path) -> None:
    async with ruled(tmp_path) as app:
        app.clock.moment = app.clock.moment.replace(hour=4)

        day = await app.call(Person(), "plan_text", **PLAN, send_at="2026-03-20T18:00:00Z")
        over = await app.call(Person(), "plan_text", lead="p2", message={"body": "Hi"}, send_at="2026-03-19T18:00:00Z")

        assert (day["status"], over["status"]) == ("done", "blocked")


async def test_what_is_planned_for_a_forbidden_time_does_not_wait_for_it_to_become_another(tmp_path: Path) -> None:
    async with ruled(tmp_path) as app:
        intent = app.intent(
            "call_operation", operation="plan_text", arguments={**PLAN, "send_at": "2026-12-24T04:00:00Z"}
        )

        shown = await intent.preview(True)

        assert shown.blocked
        assert (shown.rule, shown.until) == ("quiet_hours", None)


@pytest.mark.parametrize(
    "at", ["tomorrow", "", 5, "2026-12-24", "2026-12-24T18:00", "2026-W52-4T18:00Z", "9999-12-31T18:00Z", ["a", "b"]]
)
async def test_a_time_that_is_none_is_refused(tmp_path: Path, at: Any) -> None:
    async with ruled(tmp_path) as app:
        with pytest.raises(InvalidArgument, match="send_at is no time"):
            await app.call(Person("yes"), "plan_text", **PLAN, send_at=at)

        assert app.left == []


def test_every_operation_that_writes_to_people_later_says_where_the_time_stands() -> None:
    later = re.compile("(_at|_on|date|time|delay|when|later)$|schedule")
    found: dict[str, str | None] = {}
    for vendor in ("dialsheet", "getsales", "salespulse", "salessheet"):
        for each in load(vendor).operation:
            effects = each.effect.values() if isinstance(each.effect, dict) else [each.effect]
            if "outward" in effects and each.recipient and any(later.search(one.name) for one in each.parameters):
                found[each.name] = each.at

    assert found == {"create_outreach_task": "schedule_at"}


async def test_the_kill_switch_stops_what_names_nobody_as_well(tmp_path: Path) -> None:
    async with ruled(tmp_path, operations={"start_flow": "allow"}) as app:
        await app.store.limits.set_outbound(False, "a person")

        result = await app.call(Person("yes"), "start_flow", flow="f1")

        assert (result["status"], app.left) == ("blocked", [])
        assert result["reason"].startswith("kill switch: ")


async def test_a_limit_has_room_for_all_of_them_or_for_none(tmp_path: Path) -> None:
    async with ruled(tmp_path, daily_limits={"sms": 3}) as app:
        two = await app.call(Person("yes"), "mass_action", type="wave", filter={"ids": ["p1", "p2"]})
        more = await app.call(Person("yes"), "mass_action", type="wave", filter={"ids": ["p3", "p4"]})
        one = await app.call(Person("yes"), "mass_action", type="wave", filter={"ids": ["p3"]})
        over = await app.call(Person("yes"), "mass_action", type="wave", filter={"ids": ["p4"]})
    async with ruled(tmp_path / "all", daily_limits={"sms": 3}) as app:
        three = await app.call(Person("yes"), "mass_action", type="wave", filter={"ids": ["p1", "p2", "p3"]})

    assert three["status"] == "done"
    assert [each["status"] for each in (two, more, one, over)] == ["done", "blocked", "done", "blocked"]
    assert more["reason"] == "limit: no more than 3 SMS a day; this would reach 2"
    assert over["reason"].startswith("limit: no more than 3 SMS a day")


async def test_a_message_goes_to_an_address_once_a_day_however_the_call_is_written(tmp_path: Path) -> None:
    async with ruled(tmp_path) as app:
        first = await app.call(Person("yes"), "plan_text", **PLAN, at="2026-12-01T10:00:00Z")
        again = await app.call(Person("yes"), "plan_text", lead="p1", message={"body": " See you\n on  Monday "})
        app.clock.advance(hours=25)
        next_day = await app.call(Person("yes"), "plan_text", **PLAN)

        assert (first["status"], again["status"], next_day["status"]) == ("done", "duplicate", "done")
        assert again["action_id"] == first["action_id"]
        assert len(app.left) == 2


async def test_what_a_tool_has_sent_no_operation_sends_again(tmp_path: Path) -> None:
    async with ruled(tmp_path) as app:
        texts = {"plan_text": (message_key("sms", JANE.phone, "See you on Monday"), "sms")}
        texts["mail_copy"] = (message_key("email", JANE.email, "", "Hello\nhere it is"), "email")
        for tool, (key, channel) in texts.items():
            new = NewAction(
                caller="another",
                connection="small",
                tool=tool,
                effect="outward",
                arguments={},
                digest=key,
                summary=tool,
            )
            dedup_key = DedupKey(key=key, seconds=86_400, channel=channel)
            row = await app.store.actions.begin(new, "policy", ClaimConditions(outward=True, dedup_keys=(dedup_key,)))
            assert isinstance(row, Action)
            await app.store.actions.complete(row.id, Ended("done"))

        text = await app.call(Person("yes"), "plan_text", **PLAN)
        mail = await app.call(
            Person("yes"), "mail_copy", to=[{"email": JANE.email}], note="<p>Hello</p>\nhere <b>it</b> is"
        )

        assert (text["status"], mail["status"], app.left) == ("duplicate", "duplicate", [])


async def test_what_has_no_text_is_the_same_where_all_its_arguments_are(tmp_path: Path) -> None:
    async with ruled(tmp_path) as app:
        wave = {"type": "wave", "filter": {"ids": ["p1"]}}
        first = await app.call(Person("yes"), "mass_action", **wave)
        other = await app.call(Person("yes"), "mass_action", **wave, payload={"template": "t2"})
        again = await app.call(Person("yes", caller="bob via tests"), "mass_action", **wave)

        assert [each["status"] for each in (first, other, again)] == ["done", "done", "duplicate"]
        assert len(app.left) == 2


async def test_a_lead_is_enrolled_in_a_sequence_once(tmp_path: Path) -> None:
    async with ruled(tmp_path) as app:
        enrol = {"type": "enrol", "payload": {"flow_uuid": "f1"}}
        first = await app.call(Person("yes"), "mass_action", **enrol, filter={"ids": ["p1", "p2"]})
        again = await app.call(Person("yes"), "mass_action", **enrol, filter={"ids": ["p2", "p3"]})
        other = await app.call(
            Person("yes"), "mass_action", type="enrol", payload={"flow_uuid": "f2"}, filter={"ids": ["p2"]}
        )

        assert [each["status"] for each in (first, again, other)] == ["done", "duplicate", "done"]
        assert await app.store.actions.held_by([enrolment_key("small", "f1", "p2")])


async def test_an_address_that_a_tool_wrote_of_late_is_confirmed_even_where_policy_allows_it(tmp_path: Path) -> None:
    async with ruled(tmp_path, write="allow") as app:
        await app.call(Person(), "rename_folder", folder="f1", name=f"call {JANE.phone}")
        person = Person("no")

        asked = await app.call(person, "plan_text", **PLAN)
        free = await app.call(Person(), "plan_text", **{**PLAN, "lead": "p2"})

        assert (asked["status"], free["status"]) == ("declined", "done")
        assert (
            f"the phone number {JANE.phone} was set by ann via tests with call_operation 0 min ago "
            "(2026-03-20T18:00:00Z): make sure that it is right" in person.asked[0].text
        )


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"name": "X", "options": {"Time zone": "Europe/Berlin"}}, "declined"),
        ({"name": "X", "options": {"time_zone": ""}}, "declined"),
        ({"name": "X", "options": {"field": "f7", "value": "Pacific/Auckland"}}, "declined"),
        ({"name": "X", "options": {"place": "Berlin"}}, "done"),
    ],
)
async def test_an_operation_that_sets_a_time_zone_is_confirmed_even_where_policy_allows_it(
    tmp_path: Path, given: dict[str, Any], status: str
) -> None:
    async with ruled(tmp_path, write="allow") as app:
        result = await app.call(Person("no"), "rename_folder", folder="f1", **given)

        assert (result["status"], len(app.left)) == (status, int(status == "done"))


async def test_an_address_that_is_only_sent_to_is_not_written(tmp_path: Path) -> None:
    async with ruled(tmp_path) as app:
        first = await app.call(Person(), "mail_copy", to=[{"email": JANE.email}], note="one")
        second = await app.call(Person(), "mail_copy", to=[{"email": JANE.email}], note="two")

        assert (first["status"], second["status"]) == ("done", "done")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rename_folder", {"folder": "f1", "name": "X", "options": {"SMS opt-in": True}}),
        ("mass_action", {"type": "add_tag", "filter": {"ids": ["p1"]}, "payload": {"field": "sms_opt_in"}}),
        ("merge_folders", {"folders": ["sms_opt_in"]}),
        ("plan_text", {**PLAN, "sms_opt_in": True}),
    ],
)
async def test_no_operation_writes_a_field_that_holds_consent(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    async with ruled(tmp_path, require_consent={"sms": "sms_opt_in"}) as app:
        with pytest.raises(Forbidden) as refused:
            await app.call(Person("yes"), name, **arguments)

        assert "no tool can write it" in str(refused.value)
        assert app.left == []


async def test_a_deletion_keeps_the_blocks_of_whom_it_deletes(tmp_path: Path) -> None:
    async with small_vendor(tmp_path) as app:
        app.emulator.leads["p1"]["do_not_contact"] = ["sms"]

        done = await app.call(Person("yes"), "mass_action", type="delete", filter={"ids": ["p1"]})

        assert done["status"] == "done"
        assert set(await app.store.contacts.blocked({"sms": JANE.phone, "email": JANE.email})) == {"sms"}


async def test_an_address_written_to_another_lead_takes_its_block_along(tmp_path: Path) -> None:
    async with small_vendor(tmp_path) as app:
        app.emulator.leads["p1"]["do_not_contact"] = ["sms"]

        done = await app.call(Person(), "rename_folder", folder="f1", name=JANE.phone)

        assert done["status"] == "done"
        assert set(await app.store.contacts.blocked({"sms": JANE.phone})) == {"sms"}
