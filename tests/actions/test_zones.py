"""What time it is for the one who is reached: in every zone, for every country's numbers, on both nights of the year on
which clocks are put."""

from __future__ import annotations

import os
import subprocess
import sys
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_mcp.actions.guards.quiet_hours import (
    Zones,
    blackout_day,
    day_start,
    home,
    local,
    next_allowed,
    quiet,
    zones_of,
)
from crm_mcp.config import QuietWindow, time_zone
from crm_mcp.model import Lead

NIGHT = QuietWindow(time(21), time(8))
ALL = sorted(each for each in zoneinfo.available_timezones() if time_zone(each))
CLOCKS_ARE_PUT = (date(2026, 3, 8), date(2026, 3, 29), date(2026, 4, 5), date(2026, 10, 25), date(2026, 11, 1))
"""Nights on which America, Europe and the south put theirs forward or back."""


def one(name: str) -> Zones:
    return Zones((name,), "the number's zone")


def lead(phone: str | None = None, **fields: str | float | bool | None) -> Lead:
    return Lead(id="L1", phone=phone, custom_fields=fields or None)


def searched(window: QuietWindow | None, dates: set[date], zones: Zones, at: datetime) -> datetime:
    """Return what `next_allowed` must: found by looking at every minute."""
    while (window and quiet(window, zones, at)) or blackout_day(dates, zones, at):
        at = (at + timedelta(minutes=1)).replace(second=0, microsecond=0)
    return at


@pytest.mark.parametrize(
    ("text", "shown"),
    [("21:00-08:00", "21:00-08:00"), (" 9:30 - 17:00 ", "09:30-17:00"), ("00:00-23:59", "00:00-23:59")],
)
def test_a_window_is_read_and_shown(text: str, shown: str):
    assert str(QuietWindow.parse(text)) == shown


@pytest.mark.parametrize("text", ["off", "OFF", " off "])
def test_quiet_hours_can_be_off(text: str):
    assert QuietWindow.parse(text) is None


@pytest.mark.parametrize(
    ("window", "clock", "expected"),
    [
        ("21:00-08:00", time(20, 59, 59, 999999), False),
        ("21:00-08:00", time(21), True),
        ("21:00-08:00", time(0), True),
        ("21:00-08:00", time(7, 59, 59, 999999), True),
        ("21:00-08:00", time(8), False),
        ("12:00-13:00", time(11, 59, 59), False),
        ("12:00-13:00", time(12), True),
        ("12:00-13:00", time(13), False),
        ("00:00-08:00", time(23, 59, 59), False),
        ("00:00-08:00", time(0), True),
        ("21:00-00:00", time(23, 59, 59), True),
        ("21:00-00:00", time(0), False),
    ],
)
def test_the_start_belongs_to_the_window_and_the_end_does_not(window: str, clock: time, expected: bool):
    parsed = QuietWindow.parse(window)

    assert parsed
    assert parsed.has(clock) is expected


@pytest.mark.parametrize("name", ALL)
def test_in_every_zone_it_is_quiet_from_nine_to_eight_whatever_is_done_to_the_clocks(name: str):
    place = zoneinfo.ZoneInfo(name)

    for day in CLOCKS_ARE_PUT:
        for days in (-1, 0, 1):
            for hour, minute, second in ((7, 59, 59), (8, 0, 0), (20, 59, 59), (21, 0, 0)):
                for fold in (0, 1):
                    wall = datetime.combine(day + timedelta(days=days), time(hour, minute, second, fold=fold), place)
                    at = wall.astimezone(UTC)
                    if at.astimezone(place).replace(tzinfo=None) == wall.replace(tzinfo=None):
                        assert quiet(NIGHT, one(name), at) is ((hour, minute) in ((7, 59), (21, 0))), wall


@pytest.mark.parametrize("name", ALL)
def test_in_every_zone_the_next_allowed_time_is_the_very_end_of_the_night(name: str):
    place = zoneinfo.ZoneInfo(name)

    for day in CLOCKS_ARE_PUT:
        evening = datetime.combine(day - timedelta(days=1), time(22, 14, 7), place).astimezone(UTC)
        morning = next_allowed(NIGHT, (), one(name), evening)
        assert morning is not None
        assert not quiet(NIGHT, one(name), morning)
        assert quiet(NIGHT, one(name), morning - timedelta(seconds=1))
        assert local(morning, name).time() == time(8)
        assert timedelta() < morning - evening < timedelta(hours=12)


@pytest.mark.parametrize(
    ("window", "at", "expected"),
    [
        # In New York the clocks go from 02:00 to 03:00 on 2026-03-08 at 07:00 UTC: 02:30 never comes.
        ("21:00-02:30", "2026-03-08T05:00:00", "2026-03-08T07:00:00"),
        ("21:00-03:00", "2026-03-08T05:00:00", "2026-03-08T07:00:00"),
        ("02:15-02:45", "2026-03-08T06:59:59", "2026-03-08T06:59:59"),
        # On 2026-11-01 they go from 02:00 back to 01:00 at 06:00 UTC: 01:30 comes twice, at 05:30 and at 06:30 UTC.
        ("21:00-01:30", "2026-11-01T03:00:00", "2026-11-01T05:30:00"),
        ("21:00-01:30", "2026-11-01T06:10:00", "2026-11-01T06:30:00"),
        ("01:30-02:30", "2026-11-01T05:30:00", "2026-11-01T06:00:00"),
        ("01:00-02:00", "2026-11-01T05:00:00", "2026-11-01T07:00:00"),
    ],
)
def test_a_boundary_in_the_hour_that_is_missing_or_comes_twice_is_exact(window: str, at: str, expected: str):
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)

    found = next_allowed(QuietWindow.parse(window), (), one("America/New_York"), moment)

    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("seconds", range(7))
def test_the_moment_at_which_clocks_are_put_is_found_to_the_second(seconds: int):
    at = datetime(2026, 3, 8, 5, tzinfo=UTC) + timedelta(seconds=seconds)

    found = next_allowed(QuietWindow.parse("21:00-02:30"), (), one("America/New_York"), at)

    assert found == datetime(2026, 3, 8, 7, tzinfo=UTC)


clocks = st.integers(0, 24 * 60 - 1).map(lambda minutes: time(minutes // 60, minutes % 60))
windows = st.tuples(clocks, clocks).filter(lambda ends: ends[0] != ends[1]).map(lambda ends: QuietWindow(*ends))
moments = st.sampled_from(CLOCKS_ARE_PUT).flatmap(
    lambda day: st.integers(-86_400, 2 * 86_400).map(
        lambda seconds: datetime.combine(day, time(), UTC) + timedelta(seconds=seconds)
    )
)


@settings(deadline=None)
@given(windows, st.lists(st.sampled_from(ALL), min_size=1, max_size=2, unique=True), moments, st.booleans())
def test_the_next_allowed_time_is_what_a_search_of_every_minute_finds(
    window: QuietWindow, names: list[str], at: datetime, blackout: bool
):
    zones = Zones(tuple(names), "")
    dates = {at.date()} if blackout else set[date]()
    found = next_allowed(window, dates, zones, at)

    # What is never allowed would be searched for ever: two zones can be quiet by turns.
    if found is None:
        assert all(quiet(window, zones, at + timedelta(minutes=each)) for each in range(2 * 24 * 60, 3 * 24 * 60, 7))
    else:
        assert found == searched(window, dates, zones, at)


def test_a_date_counts_in_the_zone_of_the_recipient():
    christmas = {date(2026, 12, 25)}
    in_kiribati = datetime(2026, 12, 24, 11, tzinfo=UTC)

    assert blackout_day(christmas, one("Pacific/Kiritimati"), in_kiribati) == date(2026, 12, 25)
    assert blackout_day(christmas, one("America/New_York"), in_kiribati) is None
    assert next_allowed(None, christmas, one("Pacific/Kiritimati"), in_kiribati) == datetime(
        2026, 12, 25, 10, tzinfo=UTC
    )


def test_of_several_zones_each_must_allow_it():
    both = Zones(("America/New_York", "America/Los_Angeles"), "the strictest of the number's 2 zones")
    at = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)

    assert not quiet(NIGHT, one("America/New_York"), at)
    assert quiet(NIGHT, both, at)
    assert next_allowed(NIGHT, (), both, at) == datetime(2026, 3, 20, 15, tzinfo=UTC)
    assert next_allowed(NIGHT, {date(2026, 3, 20)}, both, at) == datetime(2026, 3, 21, 15, tzinfo=UTC)


def test_after_fourteen_days_the_search_ends():
    dates = {date(2026, 3, 10) + timedelta(days=each) for each in range(14)}
    at = datetime(2026, 3, 10, tzinfo=UTC)

    assert next_allowed(None, dates, one("UTC"), at) == at + timedelta(days=14)
    assert next_allowed(None, {*dates, date(2026, 3, 24)}, one("UTC"), at) is None


@pytest.mark.parametrize("field", ["time_zone", "timezone", "Time Zone", "TIME-ZONE", "timeZone", "Tíme zone"])
def test_the_zone_of_the_lead_itself_wins_over_that_of_its_number(field: str):
    found = zones_of(lead("+14155550171", **{field: " Europe/Berlin "}))

    assert found == Zones(("Europe/Berlin",), "its own time zone")


@pytest.mark.parametrize(
    "value",
    [
        "PST",
        "Berlin",
        "",
        3,
        True,
        None,
        "../../etc/passwd",
        "right/Europe/Berlin",
        "posixrules",
        "localtime",
        "Europe",
    ],
)
def test_what_is_no_zone_of_the_lead_leaves_that_of_its_number(value: str | int | bool | None):
    found = zones_of(lead("+14155550171", time_zone=value))

    assert found == Zones(("America/Los_Angeles",), "the number's zone")


def test_two_zones_of_a_lead_count_both():
    found = zones_of(lead(time_zone="Asia/Tokyo", Timezone="Europe/Berlin"))

    assert found == Zones(("Asia/Tokyo", "Europe/Berlin"), "its own 2 time zones")


@pytest.mark.parametrize("phone", [None, "", "no number", "+88213300000", "+800 1234 5678", "4155550171"])
def test_without_a_zone_of_its_own_or_of_its_number_none_is_known(phone: str | None):
    assert zones_of(lead(phone)) is None


def test_a_number_without_a_place_has_all_the_zones_of_its_country():
    found = zones_of(lead("+18005550123"))

    assert found is not None
    assert {"America/New_York", "America/Los_Angeles", "Pacific/Honolulu"} < set(found.names)
    assert found.source == f"the strictest of the number's {len(found.names)} zones"


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_numbers_of_every_country_have_zones_that_can_be_looked_up(region: str):
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    number = number or phonenumbers.example_number(region)

    assert number is not None
    found = zones_of(lead(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)))
    assert found is not None
    allowed = next_allowed(NIGHT, (), found, datetime(2026, 6, 1, 12, tzinfo=UTC))
    assert allowed is not None
    assert not any(NIGHT.has(local(allowed, name).time()) for name in found.names)


@pytest.mark.parametrize(
    ("name", "at", "start", "following"),
    [
        ("Europe/Berlin", "2026-03-29T12:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
        ("America/New_York", "2026-11-01T04:30:00", "2026-11-01T04:00:00", "2026-11-02T05:00:00"),
        # In Beirut the day begins at one o'clock when the clocks are put forward.
        ("Asia/Beirut", "2026-03-29T12:00:00", "2026-03-28T22:00:00", "2026-03-29T21:00:00"),
    ],
)
def test_a_day_begins_at_midnight_by_the_clock_on_the_wall(name: str, at: str, start: str, following: str):
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)

    assert day_start(moment, one(name)) == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert day_start(moment, one(name), days=1) == datetime.fromisoformat(following).replace(tzinfo=UTC)


def test_without_a_zone_a_connection_is_in_that_of_the_machine():
    program = (
        "from datetime import UTC, datetime; from crm_mcp.actions.guards.quiet_hours import *;"
        "at = datetime(2026, 3, 29, 12, tzinfo=UTC);"
        "print(day_start(at, home(None)).isoformat(), local(at, '').hour, home(None).source)"
    )

    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "TZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )

    assert told.stdout == "2026-03-28T23:00:00+00:00 14 this machine's zone\n"
    assert home("Asia/Tokyo") == Zones(("Asia/Tokyo",), "the connection's zone")
