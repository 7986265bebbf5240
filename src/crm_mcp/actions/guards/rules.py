"""May this person be reached on this channel now? One answer, from every rule, with the reason in words.

It is asked when an action is previewed and again in the moment of sending; limits are counted a third time in the
transaction that claims the action (`Decision.quotas`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards import quiet_hours
from crm_mcp.actions.guards.do_not_contact import no_contact_reason
from crm_mcp.actions.guards.inbound import ENROLMENT, doubt
from crm_mcp.actions.guards.quiet_hours import Zones
from crm_mcp.actions.intent import Decision
from crm_mcp.actions.summary import escape_markup
from crm_mcp.backends.verbs import Way
from crm_mcp.channels import CHANNELS, ROWS, Channel, address_of
from crm_mcp.model import Lead, rfc3339
from crm_mcp.store import Quota

WEEK = timedelta(days=7)
_NO = frozenset({"", "0", "no", "n", "false", "off", "none"})
_SEVERAL = {**{name: row.several for name, row in ROWS.items()}, "messages": "messages", ENROLMENT: "enrolments"}


async def decide(
    context: Context, lead: Lead, channel: Way, *, steps: Sequence[Channel] = (), at: datetime | None = None
) -> Decision:
    """Return whether a lead may be reached on a channel now.

    `steps` are the channels that a sequence uses; where the CRM does not tell them, it may use any. `at` is when the
    CRM reaches them, where that is later than now: the quiet hours and blackout dates are those of then.
    """
    if why := await kill_switch(context):
        return Decision(why, "kill_switch", lead=lead.id, way=channel)
    return await decide_on_person(context, lead, channel, steps=steps, at=at)


async def decide_on_person(
    context: Context, lead: Lead, channel: Way, *, steps: Sequence[Channel] = (), at: datetime | None = None
) -> Decision:
    """Return what all the rules but the kill switch say of one person, as `look` does."""
    return replace(await _decided(context, lead, channel, steps, at), lead=lead.id, way=channel)


async def _decided(
    context: Context, lead: Lead, channel: Way, steps: Sequence[Channel], at: datetime | None
) -> Decision:
    used: Sequence[Channel] = [channel] if channel != ENROLMENT else steps
    address = reached_at(context, lead, channel)
    # Where a sequence does not tell its steps, one address serves, and all that there are may be used.
    for each in used:
        if why := no_address(lead, each):
            return Decision(why, "no_address")
    if not used and lead.email and (why := no_address(lead, "email")):
        return Decision(why, "no_address")
    if address is None:
        return Decision("no address on file", "no_address")
    for each in used or CHANNELS:
        if why := await no_contact_reason(context, lead, each):
            return Decision(why, "do_not_contact", address=address)
    for each in used or [each for each in CHANNELS if lead.address(each)]:
        if why := _no_consent(context, lead, each):
            return Decision(why, "consent", address=address)
    doubts = [found for each in used or CHANNELS if (found := await doubt(context, lead, each))]
    return replace(await _when(context, lead, channel, address, at), doubts=tuple(doubts))


async def kill_switch(context: Context) -> str | None:
    """Return why nothing may go out at all, else None."""
    if context.settings.policy.outbound == "off":
        return "kill switch: outbound is off in the settings file; only a person can change it, there"
    if turned := await context.store.limits.outbound():
        return f"kill switch: outbound was {turned}; a person can turn it on again with `crm-mcp outbound on`"
    return None


def reached_at(context: Context, lead: Lead, channel: Way) -> str | None:
    """Return where a lead is reached on a channel, as it is compared. An enrolment reaches its first address."""
    for each in (channel,) if channel != ENROLMENT else CHANNELS:
        if address := lead.address(each):
            return address_of(each, address, context.settings.country)
    return None


def no_address(lead: Lead, channel: Channel) -> str | None:
    """Return why there is no address that this channel could use, else None."""
    row, address = ROWS[channel], lead.address(channel)
    if not address:
        return f"no address on file: the lead has no {row.address}"
    why = row.unusable(address)
    return f"no address on file: {escape_markup(address)} {why}" if why else None


def _no_consent(context: Context, lead: Lead, channel: Channel) -> str | None:
    """Return that the lead's consent to this channel is missing, else None."""
    name = context.settings.policy.require_consent.get(channel)
    if name is None:
        return None
    fields: list[tuple[str, Any]] = [*lead, *(lead.custom_fields or {}).items()]
    found = [value for each, value in fields if quiet_hours.field_key(each) == quiet_hours.field_key(name)]
    # Of two fields that are spelt alike one may be somebody's trick: all must say yes.
    if found and all(_is_yes(value) for value in found):
        return None
    return (
        f'consent: the lead\'s field "{name}" must be set before it is reached by {channel}, and is not; '
        "only a person can set it, in the CRM"
    )


def _is_yes(value: Any) -> bool:
    return value.strip().casefold() not in _NO if isinstance(value, str) else bool(value)


# When


async def _when(context: Context, lead: Lead, channel: Way, address: str, planned: datetime | None) -> Decision:
    """Return whether now, or a later time that is planned, is one at which this address may be reached, and whether the
    limits leave room for it now."""
    policy, now = context.settings.policy, context.clock()
    at = max(now, planned or now)
    it_is = "it will be" if at > now else "it is"
    window = policy.quiet_window if channel != ENROLMENT and ROWS[channel].wakes else None
    here = _here(context)
    # A number's zones are looked up where something depends on them: the tables take a while to load.
    there = quiet_hours.zones_of(lead) if window or policy.blackout_dates else None
    if window and there is None:
        return Decision(
            f"no time zone is known for {escape_markup(lead.phone or lead.label)}, so it may be night there; "
            f"set the lead's time_zone, as America/New_York",
            "no_time_zone",
            address=address,
        )
    places = there or here
    known = there.names if there else ()
    remarks = (f"{it_is} {_time_there(places, at)}",) if window else ()
    quotas = _bounds(context, channel, address, quiet_hours.day_start(now, here), now)

    def forbidden(what: str, rule: str, start: datetime) -> Decision:
        until = quiet_hours.next_allowed(window, policy.blackout_dates, places, start)
        following = f"the next allowed time is {rfc3339(until)}" if until else "no time in the next 14 days is allowed"
        # A time that is planned does not become another one by waiting.
        ends = None if start == at > now else until
        return Decision(f"{what}; {following}", rule, ends, remarks, quotas, address, known)

    to = escape_markup(lead.address(channel if channel != ENROLMENT else "email") or lead.label)
    if policy.blackout_dates and (day := quiet_hours.blackout_day(policy.blackout_dates, places, at)):
        return forbidden(f"blackout date: {it_is} {day} for {to} ({_known(places)})", "blackout", at)
    if window and (night := quiet_hours.quiet_place(window, places, at)):
        name, clock = night
        return forbidden(f"quiet hours: {it_is} {clock:%H:%M} for {to} ({_known(places, name)})", "quiet_hours", at)
    if quotas and await context.store.limits.counted(quotas):
        # Waiting must do for all that are reached: the one that takes longest is named.
        reached = [each for each in quotas if await context.store.limits.counted([each])] or [quotas[0]]
        ends = [(await _room_at(context, each, here, now), -place) for place, each in enumerate(reached)]
        end, place = max(ends)
        rule = "daily_limit" if reached[-place].address is None else "contact_limit"
        return forbidden(reached[-place].message, rule, end)
    return Decision(None, "", None, remarks, quotas, address, known)


def _here(context: Context) -> Zones:
    """Return where this connection's day begins and ends."""
    of_connection = (each.time_zone for each in context.settings.connections if each.name == context.connection)
    return quiet_hours.home(next(of_connection, None))


def _known(places: Zones, name: str | None = None) -> str:
    """Return a zone and how it is known, as `Europe/Berlin, the number's zone`."""
    zone = name or (places.names[0] if len(places.names) == 1 else "")
    return f"{zone}, {places.source}" if zone else places.source


def _time_there(places: Zones, at: datetime) -> str:
    """Return what time it is in the first and the last of the zones, with how they are known."""
    clocks = sorted((quiet_hours.local(at, name).replace(tzinfo=None), name) for name in places.names)
    (first, name), (last, other) = clocks[0], clocks[-1]
    if len(clocks) == 1:
        return f"{first:%H:%M} there ({_known(places)})"
    return f"{first:%H:%M} in {name} and {last:%H:%M} in {other} ({places.source})"


def _bounds(context: Context, channel: Way, address: str, today: datetime, at: datetime) -> tuple[Quota, ...]:
    """Return the limits that reaching this address counts for."""
    policy = context.settings.policy
    daily = [
        Quota(
            message=f"limit: no more than {most} {_SEVERAL[name]} a day",
            channels=channels,
            most=most,
            since=today,
            connection=context.connection,
        )
        for name, channels, most in policy.daily_limits.of(channel)
    ]
    weekly = [
        Quota(
            message=f"limit: no more than {most} {_SEVERAL[name]} to one address in seven days",
            channels=channels,
            most=most,
            since=at - WEEK,
            address=address,
        )
        for name, channels, most in policy.contact_limits.of(channel)
    ]
    return (*daily, *weekly)


async def _room_at(context: Context, quota: Quota, here: Zones, at: datetime) -> datetime:
    """Return when a limit that is reached will have room again: to the minute, as things stand now."""
    if quota.address is None:
        return quiet_hours.day_start(at, here, days=1)
    # What was sent is told by its count alone: the limit has room once this many of the oldest have dropped out.
    full, free = at - WEEK, at
    while free - full > timedelta(minutes=1):
        middle = full + (free - full) / 2
        if await context.store.limits.counted([quota.model_copy(update={"since": middle})]):
            full = middle
        else:
            free = middle
    return (free + WEEK + timedelta(minutes=1)).replace(second=0, microsecond=0)
