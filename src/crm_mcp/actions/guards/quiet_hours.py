"""The clocks of those who are reached: which time zones a lead may be in, and when it is night there.

Pure: a moment is given, never asked of this machine's clock. Moments are aware, results are in UTC. Where a lead may be
in several zones, what must not happen in one of them must not happen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from crm_mcp.config import QuietWindow, time_zone
from crm_mcp.model import Lead, fold

DAY = timedelta(days=1)
SEARCHED = 14
"""How many days on an allowed time is looked for."""
MIDNIGHT = time()


class Zones(NamedTuple):
    """The time zones that somebody may be in, and how they are known, in words.

    Without names it is the zone of this machine.
    """

    names: tuple[str, ...]
    source: str


def zones_of(lead: Lead) -> Zones | None:
    """Return the zones that a lead may be in: its own, else those of its number; None where neither has any."""
    own = {
        value.strip()
        for name, value in (lead.custom_fields or {}).items()
        if field_key(name) == "timezone" and isinstance(value, str) and time_zone(value.strip())
    }
    if own:
        return Zones(tuple(sorted(own)), "its own time zone" if len(own) == 1 else f"its own {len(own)} time zones")
    of_number = _of_number(lead.phone) if lead.phone else ()
    if not of_number:
        return None
    if len(of_number) == 1:
        return Zones(of_number, "the number's zone")
    return Zones(of_number, f"the strictest of the number's {len(of_number)} zones")


def home(name: str | None) -> Zones:
    """Return the zone of a connection, which is that of this machine where none is set."""
    return Zones((name,), "the connection's zone") if name else Zones((), "this machine's zone")


def field_key(name: str) -> str:
    """Return the name of a field for comparing: without case, accents and what separates its words."""
    return re.sub(r"[\s_-]+", "", fold(name))


def quiet(window: QuietWindow, zones: Zones, at: datetime) -> bool:
    """Whether it is quiet in any of the zones."""
    return quiet_place(window, zones, at) is not None


def quiet_place(window: QuietWindow, zones: Zones, at: datetime) -> tuple[str, datetime] | None:
    """Return the first zone in which it is quiet ("" for that of this machine), and the time there; None: in none."""
    for name in zones.names or ("",):
        there = local(at, name)
        if window.has(there.time()):
            return name, there
    return None


def blackout_day(dates: Collection[date], zones: Zones, at: datetime) -> date | None:
    """Return the first of these dates that it is in any of the zones, None where it is none of them."""
    today = {local(at, name).date() for name in zones.names or ("",)}
    return min(today.intersection(dates), default=None)


def next_allowed(window: QuietWindow | None, dates: Collection[date], zones: Zones, at: datetime) -> datetime | None:
    """Return the first moment from `at` on that is neither quiet nor on one of the dates in any of the zones.

    None where there is none within 14 days.
    """

    def allowed(moment: datetime) -> bool:
        if window and quiet(window, zones, moment):
            return False
        return not (dates and blackout_day(dates, zones, moment))

    if allowed(at):
        return at.astimezone(UTC)
    edges = {MIDNIGHT, window.start, window.end} if window else {MIDNIGHT}
    for number in range(SEARCHED):
        start = at + number * DAY
        # What is allowed changes at these moments alone, so the first that is allowed is the boundary itself.
        changes = {each for name in zones.names or ("",) for each in _changes(name, edges, start)}
        for moment in sorted(changes):
            if allowed(moment):
                return moment
    return None


def day_start(at: datetime, zones: Zones, days: int = 0) -> datetime:
    """Return when the local day began that it is in the first zone, or the day that many days later."""
    name = zones.names[0] if zones.names else ""
    return _moments(local(at, name).date() + days * DAY, MIDNIGHT, name)[0]


def local(at: datetime, zone: str) -> datetime:
    """Return a moment as the clocks of a zone show it; "" is the zone of this machine."""
    return at.astimezone(_place(zone))


@lru_cache(maxsize=1024)
def _place(zone: str) -> tzinfo | None:
    return time_zone(zone) if zone else None


@lru_cache(maxsize=4096)
def _of_number(number: str) -> tuple[str, ...]:
    # Loaded by the first call that needs it: start-up counts.
    from phonenumbers import NumberParseException, parse
    from phonenumbers.timezone import UNKNOWN_TIMEZONE, time_zones_for_geographical_number, time_zones_for_number

    try:
        parsed = parse(number)
    except NumberParseException:
        return ()
    names = time_zones_for_number(parsed)
    if UNKNOWN_TIMEZONE in names:  # of no known kind: all the zones that numbers with this beginning may be in
        names = time_zones_for_geographical_number(parsed)
    return tuple(each for each in names if time_zone(each))


def _changes(zone: str, edges: Collection[time], start: datetime) -> Iterator[datetime]:
    """Yield the moments of the 24 hours after `start` at which a zone's clocks pass one of the edges, or are put."""
    end = start + DAY
    first, last = local(start, zone), local(end, zone)
    day = first.date() - DAY
    while day <= last.date():
        for edge in edges:
            yield from (each for each in _moments(day, edge, zone) if start < each <= end)
        day += DAY
    if first.utcoffset() != last.utcoffset():
        yield _put(zone, start, end)


def _moments(day: date, clock: time, zone: str) -> tuple[datetime, datetime]:
    """Return when the clocks of a zone show a time: twice the same, unless they are put forward or back over it."""
    wall = datetime.combine(day, clock, _place(zone))
    return wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)


def _put(zone: str, start: datetime, end: datetime) -> datetime:
    """Return the moment, to the second, at which the clocks of a zone are put between `start` and `end`."""
    low, high = int(start.timestamp()), int(end.timestamp())
    before = local(start, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if local(datetime.fromtimestamp(middle, UTC), zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
