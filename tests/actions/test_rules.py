"""May this person be reached now: each rule, what it says, when it ends, and which of them speaks first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from crm_mcp.actions.guards.rules import decide
from crm_mcp.actions.intent import Decision
from crm_mcp.backends.verbs import Way
from crm_mcp.channels import CHANNELS, Channel
from crm_mcp.config import PolicySettings
from crm_mcp.model import Lead
from crm_mcp.store import Action, ClaimConditions, DedupKey, Ended, NewAction
from tests.harness.app import NUMBER, App

Opened = Callable[..., Awaitable[App]]
LOS_ANGELES = "America/Los_Angeles, the number's zone"
EVENING = datetime(2026, 3, 21, 5, 14, tzinfo=UTC)
"""22:14 in Los Angeles."""
PROFILE = "https://www.linkedin.com/in/jane"


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncGenerator[Opened]:
    """Start a process under a policy; it is noon of a Friday in Los Angeles, unless a test says otherwise."""
    apps: list[App] = []

    async def open_one(at: datetime | None = None, **policy: Any) -> App:
        app = App(tmp_path / str(len(apps)), policy=PolicySettings.model_validate(policy))
        app.clock.moment = at or datetime(2026, 3, 20, 19, tzinfo=UTC)
        apps.append(app)
        return await app.with_jane()

    yield open_one
    for each in apps:
        await each.close()


def jane(**fields: Any) -> Lead:
    whole: dict[str, Any] = {"id": "L1", "name": "Jane Doe", "phone": NUMBER, "email": "jane@example.com"}
    return Lead.model_validate({**whole, **fields})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def went_out(app: App, channel: Way, address: str, connection: str = "local") -> None:
    """Record that something reached this address now."""
    key = str(uuid4())
    new = NewAction(
        caller="ann",
        connection=connection,
        tool="send",
        effect="outward",
        arguments={},
        digest=key,
        summary="sent",
    )
    dedup_key = DedupKey(key=key, seconds=60, channel=channel, address=address)
    begun = await app.store.actions.begin(new, "policy", ClaimConditions(outward=True, dedup_keys=(dedup_key,)))
    assert isinstance(begun, Action)
    await app.store.actions.complete(begun.id, Ended("done"))


@pytest.mark.parametrize("channel", CHANNELS)
async def test_by_day_a_lead_with_an_address_may_be_reached(opened: Opened, channel: Channel):
    app = await opened()

    found = await decide(app.context, jane(custom_fields={"linkedin": PROFILE}), channel)

    assert (found.reason, found.rule, found.until, found.quotas) == (None, "", None, ())
    assert found.remarks == ((f"it is 12:00 there ({LOS_ANGELES})",) if channel in ("sms", "call") else ())


@pytest.mark.parametrize("channel", ["sms", "call"])
async def test_at_night_nobody_is_woken_up(opened: Opened, channel: Channel):
    app = await opened(EVENING)

    found = await decide(app.context, jane(), channel)

    assert found.reason == (
        f"quiet hours: it is 22:14 for {NUMBER} ({LOS_ANGELES}); the next allowed time is 2026-03-21T15:00:00Z"
    )
    assert (found.rule, found.until) == ("quiet_hours", at("2026-03-21T15:00:00"))


@pytest.mark.parametrize("channel", ["email", "linkedin", "enrolment"])
async def test_at_night_what_wakes_nobody_goes_out(opened: Opened, channel: Way):
    app = await opened(EVENING)

    found = await decide(app.context, jane(custom_fields={"linkedin": PROFILE}), channel)

    assert found.reason is None


async def test_the_zone_of_the_lead_itself_wins_and_is_named(opened: Opened):
    app = await opened(EVENING)

    in_berlin = await decide(app.context, jane(custom_fields={"Time zone": "Europe/Berlin"}), "sms")
    in_tokyo = await decide(app.context, jane(custom_fields={"Time zone": "Asia/Tokyo"}), "sms")

    assert (in_berlin.rule, in_berlin.until) == ("quiet_hours", at("2026-03-21T07:00:00"))
    assert "it is 06:14 for" in (in_berlin.reason or "")
    assert "(Europe/Berlin, its own time zone)" in (in_berlin.reason or "")
    assert in_tokyo.remarks == ("it is 14:14 there (Asia/Tokyo, its own time zone)",)


async def test_of_a_number_in_many_zones_the_strictest_counts(opened: Opened):
    app = await opened(at("2026-03-20T16:00:00"))

    found = await decide(app.context, jane(phone="+18005550123"), "call")

    assert found.rule == "quiet_hours"
    assert "the strictest of the number's" in (found.reason or "")


@pytest.mark.parametrize("channel", ["sms", "call"])
async def test_without_a_zone_nobody_is_rung_up_until_someone_sets_it(opened: Opened, channel: Channel):
    app = await opened()
    lead = jane(phone="+88213300000")

    unknown = await decide(app.context, lead, channel)
    known = await decide(app.context, lead.model_copy(update={"custom_fields": {"time_zone": "Asia/Tokyo"}}), "email")

    assert unknown.reason == (
        "no time zone is known for +88213300000, so it may be night there; "
        "set the lead's time_zone, as America/New_York"
    )
    assert (unknown.rule, unknown.until) == ("no_time_zone", None)
    assert known.reason is None


async def test_where_quiet_hours_are_off_no_zone_is_needed(opened: Opened):
    app = await opened(EVENING, quiet_hours="off")

    found = await decide(app.context, jane(phone="+88213300000"), "sms")

    assert (found.reason, found.remarks) == (None, ())


@pytest.mark.parametrize("channel", ["sms", "email", "enrolment"])
async def test_on_a_blackout_date_nothing_goes_out(opened: Opened, channel: Way):
    app = await opened(blackout_dates=["2026-03-20", "2026-03-21"])

    found = await decide(app.context, jane(), channel)

    to = NUMBER if channel == "sms" else "jane@example.com"
    hour = "15" if channel == "sms" else "07"
    assert found.reason == (
        f"blackout date: it is 2026-03-20 for {to} ({LOS_ANGELES}); the next allowed time is 2026-03-22T{hour}:00:00Z"
    )
    assert found.rule == "blackout"


async def test_a_lead_without_a_zone_has_the_dates_of_the_connection(opened: Opened):
    app = await opened(at("2026-03-20T23:30:00"), blackout_dates=["2026-03-21"])
    connection = app.context.settings.connections[0].model_copy(update={"time_zone": "Europe/Berlin"})
    app.context.settings = app.context.settings.model_copy(update={"connections": (connection,)})

    found = await decide(app.context, jane(phone=None), "email")

    assert (found.rule, found.until) == ("blackout", at("2026-03-21T23:00:00"))
    assert "(Europe/Berlin, the connection's zone)" in (found.reason or "")


async def test_dates_without_end_are_said(opened: Opened):
    days = [f"2026-03-{day}" for day in range(20, 32)] + [f"2026-04-{day:02}" for day in range(1, 20)]
    app = await opened(blackout_dates=days)

    found = await decide(app.context, jane(), "email")

    assert (found.reason or "").endswith("; no time in the next 14 days is allowed")
    assert found.until is None


async def test_the_kill_switch_of_the_store_stops_everything_until_it_is_turned_on(opened: Opened):
    app = await opened()
    await app.store.limits.set_outbound(False, "ann")
    off = await decide(app.context, jane(), "email")

    await app.store.limits.set_outbound(True, "ann")

    assert off.rule == "kill_switch"
    assert (off.reason or "").startswith("kill switch: outbound was turned off by ann at ")
    assert (await decide(app.context, jane(), "email")).reason is None


async def test_the_kill_switch_of_the_settings_stops_whatever_the_store_says(opened: Opened):
    app = await opened(outbound="off")
    await app.store.limits.set_outbound(True, "ann")

    found = await decide(app.context, jane(), "call")

    assert (found.rule, found.until) == ("kill_switch", None)
    assert "in the settings file" in (found.reason or "")


@pytest.mark.parametrize(
    ("channel", "lead", "said"),
    [
        ("email", jane(email=None), "the lead has no e-mail address"),
        ("sms", jane(phone=None), "the lead has no phone number"),
        ("call", jane(phone="0171 555 01"), "0171 555 01 is no international number; set CRM_MCP_COUNTRY"),
        ("linkedin", jane(), "the lead has no LinkedIn profile"),
    ],
)
async def test_without_an_address_nothing_goes_out(opened: Opened, channel: Channel, lead: Lead, said: str):
    app = await opened()

    found = await decide(app.context, lead, channel)

    assert (found.reason or "").startswith(f"no address on file: {said}")
    assert (found.rule, found.address) == ("no_address", None)


async def test_an_enrolment_needs_an_address_for_each_of_its_steps_and_at_least_one(opened: Opened):
    app = await opened()
    lead = jane(phone=None)

    by_sms = await decide(app.context, lead, "enrolment", steps=("email", "sms"))
    by_mail = await decide(app.context, lead, "enrolment", steps=("email",))
    by_any = await decide(app.context, jane(phone=None, email=None), "enrolment")

    assert (by_sms.rule, by_mail.reason, by_any.rule) == ("no_address", None, "no_address")
    assert by_mail.address == "jane@example.com"


async def test_who_said_no_is_left_alone(opened: Opened):
    app = await opened()
    await app.store.contacts.block({"sms": NUMBER}, "asked us to", "ann")

    by_sms = await decide(app.context, jane(), "sms")
    enrolled = await decide(app.context, jane(), "enrolment", steps=("sms",))
    by_mail = await decide(app.context, jane(), "email")

    assert (by_sms.rule, enrolled.rule, by_mail.rule) == ("do_not_contact", "do_not_contact", "")
    assert "(asked us to)" in (by_sms.reason or "")


@pytest.mark.parametrize("value", ["yes", "2026-01-01", True, 1, "TRUE", "y", 0.5])
@pytest.mark.parametrize("name", ["sms_opt_in", "SMS Opt-In", "Sms opt in"])
async def test_consent_is_a_field_that_is_set(opened: Opened, name: str, value: str | float):
    app = await opened(require_consent={"sms": "sms_opt_in"})

    assert (await decide(app.context, jane(custom_fields={name: value}), "sms")).reason is None


@pytest.mark.parametrize("value", [None, False, "", " ", 0, 0.0, "no", "No", "n", "false", "FALSE", "0", "off", "none"])
async def test_a_consent_that_is_not_given_is_none(opened: Opened, value: str | float | None):
    app = await opened(require_consent={"sms": "sms_opt_in"})

    found = await decide(app.context, jane(custom_fields={"sms_opt_in": value}), "sms")

    assert found.reason == (
        'consent: the lead\'s field "sms_opt_in" must be set before it is reached by sms, and is not; '
        "only a person can set it, in the CRM"
    )
    assert (found.rule, found.until) == ("consent", None)


async def test_consent_to_one_channel_is_none_to_another(opened: Opened):
    app = await opened(require_consent={"sms": "sms_opt_in", "email": "title"})
    lead = jane(custom_fields={"sms_opt_in": "yes"})

    assert (await decide(app.context, lead, "sms")).reason is None
    assert (await decide(app.context, lead, "call")).reason is None
    assert (await decide(app.context, lead, "email")).rule == "consent"
    assert (await decide(app.context, lead, "enrolment", steps=("sms",))).reason is None
    assert (await decide(app.context, lead, "enrolment")).rule == "consent"
    assert (await decide(app.context, lead.model_copy(update={"title": "CEO"}), "email")).reason is None


async def test_a_second_field_that_is_spelt_alike_gives_no_consent(opened: Opened):
    app = await opened(require_consent={"sms": "sms_opt_in"})

    found = await decide(app.context, jane(custom_fields={"sms_opt_in": "no", "SMS opt in": "yes"}), "sms")

    assert found.rule == "consent"


async def test_a_daily_limit_ends_at_the_midnight_of_the_connection_and_then_waits_for_the_morning(opened: Opened):
    app = await opened(daily_limits={"sms": 2})
    connection = app.context.settings.connections[0].model_copy(update={"time_zone": "America/New_York"})
    app.context.settings = app.context.settings.model_copy(update={"connections": (connection,)})
    await went_out(app, "sms", "+14155550172")
    free = await decide(app.context, jane(), "sms")
    app.clock.advance(hours=1)
    await went_out(app, "sms", "+14155550173")

    full = await decide(app.context, jane(), "sms")

    assert free.reason is None
    assert full.reason == "limit: no more than 2 SMS a day; the next allowed time is 2026-03-21T15:00:00Z"
    assert full.rule == "daily_limit"
    assert [(each.most, each.since, each.connection) for each in full.quotas] == [
        (2, at("2026-03-20T04:00:00"), "local")
    ]


async def test_a_daily_limit_counts_neither_other_channels_nor_other_connections_nor_yesterday(opened: Opened):
    app = await opened(daily_limits={"email": 1})
    app.clock.advance(days=-1)
    await went_out(app, "email", "a@example.com")
    app.clock.advance(days=1)
    await went_out(app, "sms", "+14155550172")
    await went_out(app, "email", "b@example.com", connection="other")

    found = await decide(app.context, jane(), "email")

    assert found.reason is None


async def test_the_limit_of_messages_counts_all_but_calls_and_enrolments_over_all_connections(opened: Opened):
    app = await opened(contact_limits={"messages": 2})
    for channel in ("call", "enrolment", "email"):
        await went_out(app, channel, "jane@example.com", connection="other")
    free = await decide(app.context, jane(), "email")
    app.clock.advance(minutes=1)
    await went_out(app, "email", "jane@example.com")

    full = await decide(app.context, jane(), "email")

    assert free.reason is None
    assert full.rule == "contact_limit"
    assert full.reason == (
        "limit: no more than 2 messages to one address in seven days; the next allowed time is 2026-03-27T19:01:00Z"
    )


async def test_a_limit_to_one_address_ends_when_the_oldest_is_seven_days_old(opened: Opened):
    app = await opened(contact_limits={"email": 3})
    for days in (3, 1, 0, 0):
        app.clock.moment = at("2026-03-20T19:00:00") - timedelta(days=days, minutes=days)
        await went_out(app, "email", "jane@example.com")
    full = await decide(app.context, jane(), "email")

    app.clock.moment = full.until or app.clock.moment
    free = await decide(app.context, jane(), "email")
    app.clock.advance(minutes=-3)
    still = await decide(app.context, jane(), "email")

    # Of four the two oldest must drop out: the second is one day and a minute old.
    assert at("2026-03-26T18:59:00") <= (full.until or app.clock.moment) <= at("2026-03-26T19:01:00")
    assert (free.reason, still.rule) == (None, "contact_limit")


async def test_somebody_else_has_a_limit_of_their_own(opened: Opened):
    app = await opened(contact_limits={"email": 1})
    await went_out(app, "email", "john@example.com")

    assert (await decide(app.context, jane(), "email")).reason is None


async def test_enrolments_have_limits_of_their_own(opened: Opened):
    app = await opened(daily_limits={"enrolments": 1}, contact_limits={"enrolments": 5})
    await went_out(app, "enrolment", "john@example.com")

    found = await decide(app.context, jane(), "enrolment")

    assert found.rule == "daily_limit"
    assert [each.channels for each in found.quotas] == [("enrolment",), ("enrolment",)]


FORBIDDEN: dict[str, dict[str, Any]] = {
    "kill_switch": {"outbound": "off"},
    "do_not_contact": {},
    "consent": {"require_consent": {"sms": "sms_opt_in"}},
    "blackout": {"blackout_dates": ["2026-03-20"]},
    "quiet_hours": {"quiet_hours": "12:00-13:00"},
    "daily_limit": {"daily_limits": {"sms": 1}},
}


@pytest.mark.parametrize("lifted", range(len(FORBIDDEN) + 1))
async def test_what_lasts_longest_is_said_first(opened: Opened, lifted: int):
    kept = list(FORBIDDEN)[lifted:]
    app = await opened(**{name: value for each in kept for name, value in FORBIDDEN[each].items()})
    if "do_not_contact" in kept:
        await app.store.contacts.block({"sms": NUMBER}, None, "ann")
    await went_out(app, "sms", "+14155550172")

    found = await decide(app.context, jane(), "sms")

    assert found.rule == (kept[0] if kept else "")


async def test_what_the_rules_say_is_nothing_where_there_are_none(opened: Opened):
    app = await opened(quiet_hours="off")

    assert await decide(app.context, jane(), "sms") == Decision(address=NUMBER, lead="L1", way="sms")
