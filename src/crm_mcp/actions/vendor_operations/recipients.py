"""Whom an operation of the long tail reaches: read from the CRM, on file there, and under every rule of a tool.

Everybody is: those whom it names as its own recipients, copies, and whoever else an address or an id in its arguments
may lead to. What is not exactly an address on file of one of them, or one of ours, is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards import rules
from crm_mcp.actions.guards.inbound import replied
from crm_mcp.actions.guards.new_addresses import fresh
from crm_mcp.actions.intent import DOUBTED, Decision
from crm_mcp.actions.summary import escape_markup, quote_label
from crm_mcp.actions.vendor_operations import whose
from crm_mcp.actions.vendor_operations.places import Named, named_in, unnamed, values_at
from crm_mcp.backends.base import FindsLeads
from crm_mcp.backends.verbs import Way
from crm_mcp.channels import CHANNELS, ROWS, Channel
from crm_mcp.errors import Forbidden, InvalidArgument, NotFound
from crm_mcp.model import Lead
from crm_mcp.store import Quota
from crm_mcp.text import in_quotes

if TYPE_CHECKING:  # a catalogue is read when it is used; start-up counts
    from crm_mcp.backends.catalog import Operation

MOST_PEOPLE = 100
IN_THE_SUMMARY = 5
MOST_LOOKED_UP = 20
"""Values that are looked up because they may be the ids of leads."""
YEAR = timedelta(days=366)

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True)
class Reached:
    """The people of one call, as the CRM has them now."""

    leads: tuple[Lead, ...] = ()
    channels: tuple[Channel, ...] = ()
    """Where they may be reached; none where they are only touched."""
    enrols: bool = False
    """They are put into a sequence, whose steps are not told."""
    decisions: tuple[Decision, ...] = ()
    """What the rules say of each, in each way, and of what is nobody's."""
    new: tuple[str, ...] = ()
    """Of which of their addresses a person is asked, and why."""
    remarks: tuple[str, ...] = ()
    at: datetime | None = None
    """When the CRM reaches them, where the call says so."""

    @property
    def facts(self) -> dict[str, Any]:
        """Every value of theirs that a person is shown."""
        rows = [[each.id, each.label, *_addresses(each, self.channels)] for each in self.leads]
        zones = dict.fromkeys(zone for each in self.decisions for zone in each.zones)
        doubts = dict.fromkeys(doubt.message for each in self.decisions for doubt in each.doubts)
        known = {"leads": rows, "time zones": [*zones], DOUBTED: [*doubts]}
        return {name: each for name, each in known.items() if each}

    @property
    def shown(self) -> str:
        """The people in one line, the first few by name."""
        more = len(self.leads) - IN_THE_SUMMARY
        return "; ".join(map(self._named, self.leads[:IN_THE_SUMMARY])) + (f"; and {more} more" if more > 0 else "")

    @property
    def listed(self) -> list[str]:
        """The people whom the one line has no room for."""
        return [f"and {self._named(each)}" for each in self.leads[IN_THE_SUMMARY:]]

    def _named(self, lead: Lead) -> str:
        addresses = "".join(f"{escape_markup(each)}, " for each in _addresses(lead, self.channels))
        return f"{addresses}{quote_label(lead.label)} ({lead.id})"


async def reached(context: Context, operation: Operation, arguments: Mapping[str, Any], *, allowed: bool) -> Reached:
    """Return whom an outward operation reaches. `allowed`: the policy names it, although it can't name them.

    Each must have an address on file, and not be blocked.

    Raises:
        InvalidArgument: it reaches people whom it does not name, or too many.
        Forbidden: it is one that can't name them.
        NotFound: a lead is not there.
    """
    named = operation.recipient
    if named is None or not (named.lead or named.address):
        return await _unnamed(context, operation, arguments, allowed=allowed)
    where = " or ".join(each for each in (named.lead, named.address) if each)
    if wider := unnamed(operation, arguments):
        raise InvalidArgument(f"{wider} reaches people whom {operation.name} does not name", f"name them in {where}")
    ways: list[Way | None] = [each.reaches for each in context.tools.of(operation.akin_to(arguments))]
    channels = _channels(named.channel, ways)
    given = named_in(operation, arguments)
    leads = await _leads(context, operation, given.leads)
    if not leads and not given.addresses:
        raise InvalidArgument(f"{operation.name} does not name whom it reaches", f"name the leads in {where}")
    _refuse_many(operation, given.addresses)
    everybody, strangers = await _everybody(context, operation, given, leads, channels)
    if not everybody and not strangers:
        raise InvalidArgument(f"{operation.name} names nobody but us", f"name the leads in {where}")
    people = Reached(everybody, channels, rules.ENROLMENT in ways, at=_planned(operation, arguments))
    return await _looked_at(context, people, strangers)


async def _unnamed(context: Context, operation: Operation, arguments: Mapping[str, Any], *, allowed: bool) -> Reached:
    """Return what is known of those whom an operation reaches that does not say whom. Addresses in its arguments are
    nobody's but ours and those on file."""
    why = operation.why_of(arguments)
    if not allowed:
        raise Forbidden(
            f"{operation.name} reaches people whom it does not name"
            + (f" ({why})" if why else "")
            + ", so that do-not-contact can't be tested",
            f'a person can do it in the CRM itself, or allow it in the settings, with {operation.name} = "confirm" in '
            "[policy.operations], and is then asked each time",
        )
    if off := await rules.kill_switch(context):
        return Reached(decisions=(Decision(off, "kill_switch"),))
    everybody, strangers = await _everybody(context, operation, named_in(operation, arguments), (), CHANNELS)
    people = await _looked_at(context, Reached(everybody, CHANNELS if everybody else ()), strangers)
    remark = "it reaches people whom it does not name: neither do-not-contact nor another rule is tested for them"
    return replace(people, remarks=(remark, *people.remarks))


async def touched(context: Context, operation: Operation, arguments: Mapping[str, Any]) -> Reached:
    """Return the leads that an operation names although it reaches nobody: a deletion, for example.

    Raises:
        InvalidArgument: they are too many.
        NotFound: one is not there.
    """
    named = operation.recipient
    leads = await _leads(context, operation, values_at(arguments, named.lead if named else None))
    wider = unnamed(operation, arguments)
    return Reached(
        leads, remarks=(f"{escape_markup(wider)}: it touches records that are not named here",) if wider else ()
    )


async def _leads(context: Context, operation: Operation, given: Sequence[Any]) -> tuple[Lead, ...]:
    """Read the leads with these ids."""
    if any(isinstance(each, bool) or not isinstance(each, str | int) or not str(each).strip() for each in given):
        raise InvalidArgument(f"{operation.name} can't be told whom it reaches", "give ids or addresses as text")
    ids = list(dict.fromkeys(map(str, given)))
    _refuse_many(operation, ids)
    leads = tuple([await context.crm(FindsLeads).get_lead(each) for each in ids])
    for each, lead in zip(ids, leads, strict=True):
        if lead.id != each:  # what is sent must be what was read
            raise NotFound(f'there is no lead "{each[:80]}"', f"the id of {lead.label} is {lead.id}")
    return leads


def _refuse_many(operation: Operation, given: Sequence[object]) -> None:
    if len(given) > MOST_PEOPLE:
        raise InvalidArgument(
            f"{operation.name} would reach {len(given)} people", f"name at most {MOST_PEOPLE} at once"
        )


async def _everybody(
    context: Context, operation: Operation, given: Named, leads: tuple[Lead, ...], channels: tuple[Channel, ...]
) -> tuple[tuple[Lead, ...], list[str]]:
    """Return whom a call reaches in all, and what in it is nobody's address."""
    texts = [*given.addresses, *given.further, *given.people]
    _refuse_many(operation, texts)
    ours = await whose.ours(context) if texts or given.senders else ()
    people = {each.id: each for each in leads}

    def is_known(text: str) -> bool:
        return whose.is_among(text, ours) or whose.holder(context, text, people.values(), channels) is not None

    strangers = [*given.wrong, *(text for text in given.senders if not whose.is_among(text, ours))]
    if leads:  # whoever is named by id is written to at an address of its own, and at no other lead's
        strangers += [text for text in given.addresses if not is_known(text)]
    for text in [*given.further, *given.people] if leads else texts:
        if is_known(text):
            continue
        lead = await whose.found(context, text, channels)
        if lead is None and text in given.people:
            lead = await _lead_if_any(context, text)
        if lead:
            people[lead.id] = lead
        else:
            strangers.append(text)
    if operation.recipient:
        for lead in await _looked_up(context, operation, [each for each in given.ids if each not in people]):
            people[lead.id] = lead
    _refuse_many(operation, [*people])
    return tuple(people.values()), strangers


async def _looked_up(context: Context, operation: Operation, ids: Sequence[str]) -> list[Lead]:
    """Return the leads that have one of these ids, of which most are probably something else's."""
    if len(ids) > MOST_LOOKED_UP:
        raise InvalidArgument(
            f"{operation.name} has {len(ids)} values that may be ids of leads", f"give at most {MOST_LOOKED_UP}"
        )
    return [lead for each in ids if (lead := await _lead_if_any(context, each))]


async def _lead_if_any(context: Context, text: str) -> Lead | None:
    """Return the lead whose id a text may be."""
    try:
        return await context.crm(FindsLeads).get_lead(text)
    except (NotFound, InvalidArgument):
        return None


def _channels(declared: Channel, ways: Collection[Way | None]) -> tuple[Channel, ...]:
    """Return the channels that an operation may use, which is akin to tools that reach people in these ways."""
    if rules.ENROLMENT in ways:  # the steps are not told
        return CHANNELS
    return tuple(each for each in CHANNELS if each in ways) or (declared,)


def _addresses(lead: Lead, channels: Iterable[Channel]) -> list[str]:
    """Return where a lead is reached on these channels, each once."""
    return list(dict.fromkeys(found for each in channels if (found := lead.address(each))))


async def _looked_at(context: Context, people: Reached, strangers: list[str]) -> Reached:
    """Return the people with what every rule says of each of them."""
    decisions = [_nobodys([*dict.fromkeys(strangers)])] if strangers else []
    remarks: list[str] = []
    person: list[str] = []
    for lead in people.leads:
        whose_it_is = f'"{escape_markup(lead.label)}": ' if len(people.leads) > 1 else ""
        for decision in await _decisions(context, lead, people):
            decisions.append(decision)
            person += [f"{whose_it_is}{each}" for each in decision.person]
            remarks += [f"{whose_it_is}{each}" for each in decision.remarks]
    new = [remark for lead in people.leads for remark in await fresh(context, lead, people.channels)]
    if people.enrols:
        new += [
            f'"{escape_markup(lead.label)}" has answered since the last enrolment'
            for lead in people.leads
            if await replied(context, lead)
        ]
    quotas = [quota for each in decisions for quota in each.quotas]
    nothing_wrong = not any(each.reason for each in decisions)
    if nothing_wrong and (full := await context.store.limits.counted(_together(quotas))):
        decisions.append(Decision(f"{full}; this would reach {len(people.leads)}", "daily_limit"))
    told = tuple(dict.fromkeys([*person, *new, *remarks]))
    return replace(people, decisions=tuple(decisions), new=tuple(new), remarks=told)


def _nobodys(strangers: Sequence[str]) -> Decision:
    """Say what is nobody's address."""
    shown = ", ".join(in_quotes(escape_markup(each), 80) for each in strangers[:IN_THE_SUMMARY])
    more = len(strangers) - IN_THE_SUMMARY
    is_not = "is not that of one lead" if len(strangers) == 1 else "are not those of leads"
    return Decision(
        f"no address on file: {shown}{f' and {more} more' if more > 0 else ''} {is_not}, nor ours, exactly as it "
        "is written; give each address bare, and alone",
        "no_address",
    )


async def _decisions(context: Context, lead: Lead, people: Reached) -> list[Decision]:
    """Return what the rules say of one lead, for each way in which it may be reached."""
    if not _addresses(lead, people.channels):
        words = " or ".join(dict.fromkeys(ROWS[each].address for each in people.channels))
        return [Decision(f"no address on file: {escape_markup(lead.label)} has no {words}", "no_address")]
    ways: list[Way] = [each for each in people.channels if lead.address(each)]
    if people.enrols:
        ways = [rules.ENROLMENT]
    found = [await rules.decide(context, lead, each, at=people.at) for each in ways]
    if len(people.leads) > 1:
        found = [
            replace(each, reason=f"{escape_markup(lead.label)}: {each.reason}")
            if each.reason and escape_markup(lead.label) not in each.reason and each.rule != "kill_switch"
            else each
            for each in found
        ]
    return found


def _planned(operation: Operation, arguments: Mapping[str, Any]) -> datetime | None:
    """Return when what an operation plans goes out; None: it does not say."""
    given = values_at(arguments, operation.at)
    if not given:
        return None
    try:
        # Only what every reader takes for the same moment, and what leaves room to look for the next one.
        [text] = given
        planned = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
        if planned and planned + YEAR:
            return planned
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidArgument(f"{operation.at} is no time", "give RFC 3339 with a time zone, as 2026-03-20T10:00:00Z")


def _together(quotas: list[Quota]) -> tuple[Quota, ...]:
    """Return the limits of one call that reaches several people: each leaves room for all whom it counts."""
    return tuple(quota.model_copy(update={"most": quota.most - count + 1}) for quota, count in Counter(quotas).items())
