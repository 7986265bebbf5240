"""Whom an operation of the long tail reaches: read from the CRM, on file there, and under every rule of a tool.

Everybody is: those whom it names as its own recipients, copies, and whoever else an address or an id in its arguments
may lead to. What is not exactly an address on file of one of them, or one of ours, is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from crm_mcp.actions import rules, whose
from crm_mcp.actions.approval import bare, called
from crm_mcp.actions.contact import NEW_ADDRESS, fresh, replied
from crm_mcp.actions.desk import Desk
from crm_mcp.actions.heard import DOUBT, DOUBTED
from crm_mcp.actions.places import Named, named_in, unnamed, values_at
from crm_mcp.backends.base import FindsLeads
from crm_mcp.errors import Forbidden, InvalidArgument, NotFound
from crm_mcp.model import CHANNELS, Channel, Lead
from crm_mcp.store import Bound
from crm_mcp.text import in_quotes

if TYPE_CHECKING:  # a catalogue is read when it is used; start-up counts
    from crm_mcp.backends.catalog import Operation

SENDING: Mapping[Channel, str] = {
    "email": "send_email",
    "sms": "send_sms",
    "call": "start_call",
    "linkedin": "send_linkedin_message",
}
"""The tools whose work an operation on this channel does: their verdicts count for it."""
ENROLLING = "enroll_in_sequence"
MOST_PEOPLE = 100
IN_THE_SUMMARY = 5
MOST_LOOKED_UP = 20
"""Values that are looked up because they may be the ids of leads."""
YEAR = timedelta(days=366)

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_WORD: Mapping[Channel, str] = {
    "email": "e-mail address",
    "sms": "phone number",
    "call": "phone number",
    "linkedin": "LinkedIn profile",
}


@dataclass(frozen=True)
class Reached:
    """The people of one call, as the CRM has them now."""

    leads: tuple[Lead, ...] = ()
    channels: tuple[Channel, ...] = ()
    """Where they may be reached; none where they are only touched."""
    enrols: bool = False
    """They are put into a sequence, whose steps are not told."""
    blocked: str | None = None
    rule: str = ""
    """The rule that forbids it now, or why it is asked."""
    until: datetime | None = None
    """When all of what forbids it now has ended by itself."""
    bounds: tuple[Bound, ...] = ()
    remarks: tuple[str, ...] = ()
    confirm: bool = False
    """A person is asked even where policy allows it."""
    person_only: bool = False
    """Only a person may say yes: no token serves."""
    zones: tuple[str, ...] = ()
    """The time zones that they may be in, where the time there matters."""
    doubts: tuple[str, ...] = ()
    """The ids of messages in which one of them may have asked for no more."""
    at: datetime | None = None
    """When the CRM reaches them, where the call says so."""

    @property
    def facts(self) -> dict[str, Any]:
        """Every value of theirs that a person is shown."""
        rows = [[each.id, each.label, *_addresses(each, self.channels)] for each in self.leads]
        known = {"leads": rows, "time zones": [*self.zones], DOUBTED: [*self.doubts]}
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
        addresses = "".join(f"{bare(each)}, " for each in _addresses(lead, self.channels))
        return f"{addresses}{called(lead.label)} ({lead.id})"


async def reached(desk: Desk, operation: Operation, arguments: Mapping[str, Any], *, allowed: bool) -> Reached:
    """Return whom an outward operation reaches. `allowed`: the policy names it, although it can't name them.

    Each must have an address on file, and not be blocked.

    Raises:
        InvalidArgument: it reaches people whom it does not name, or too many.
        Forbidden: it is one that can't name them.
        NotFound: a lead is not there.
    """
    named = operation.recipient
    if named is None or not (named.lead or named.address):
        return await _unnamed(desk, operation, arguments, allowed=allowed)
    where = " or ".join(each for each in (named.lead, named.address) if each)
    if wider := unnamed(operation, arguments):
        raise InvalidArgument(f"{wider} reaches people whom {operation.name} does not name", f"name them in {where}")
    akin = operation.akin_to(arguments)
    channels = _channels(named.channel, akin)
    given = named_in(operation, arguments)
    leads = await _leads(desk, operation, given.leads)
    if not leads and not given.addresses:
        raise InvalidArgument(f"{operation.name} does not name whom it reaches", f"name the leads in {where}")
    _refuse_many(operation, given.addresses)
    everybody, strangers = await _everybody(desk, operation, given, leads, channels)
    if not everybody and not strangers:
        raise InvalidArgument(f"{operation.name} names nobody but us", f"name the leads in {where}")
    people = Reached(everybody, channels, ENROLLING in akin, at=_planned(operation, arguments))
    return await _looked_at(desk, people, strangers)


async def _unnamed(desk: Desk, operation: Operation, arguments: Mapping[str, Any], *, allowed: bool) -> Reached:
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
    if off := await rules.kill_switch(desk):
        return Reached(blocked=off, rule="kill_switch")
    everybody, strangers = await _everybody(desk, operation, named_in(operation, arguments), (), CHANNELS)
    people = await _looked_at(desk, Reached(everybody, CHANNELS if everybody else ()), strangers)
    remark = "it reaches people whom it does not name: neither do-not-contact nor another rule is tested for them"
    return replace(people, remarks=(remark, *people.remarks))


async def touched(desk: Desk, operation: Operation, arguments: Mapping[str, Any]) -> Reached:
    """Return the leads that an operation names although it reaches nobody: a deletion, for example.

    Raises:
        InvalidArgument: they are too many.
        NotFound: one is not there.
    """
    named = operation.recipient
    leads = await _leads(desk, operation, values_at(arguments, named.lead if named else None))
    wider = unnamed(operation, arguments)
    return Reached(leads, remarks=(f"{bare(wider)}: it touches records that are not named here",) if wider else ())


async def _leads(desk: Desk, operation: Operation, given: Sequence[Any]) -> tuple[Lead, ...]:
    """Read the leads with these ids."""
    if any(isinstance(each, bool) or not isinstance(each, str | int) or not str(each).strip() for each in given):
        raise InvalidArgument(f"{operation.name} can't be told whom it reaches", "give ids or addresses as text")
    ids = list(dict.fromkeys(map(str, given)))
    _refuse_many(operation, ids)
    leads = tuple([await desk.crm(FindsLeads).get_lead(each) for each in ids])
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
    desk: Desk, operation: Operation, given: Named, leads: tuple[Lead, ...], channels: tuple[Channel, ...]
) -> tuple[tuple[Lead, ...], list[str]]:
    """Return whom a call reaches in all, and what in it is nobody's address."""
    texts = [*given.addresses, *given.further, *given.people]
    _refuse_many(operation, texts)
    ours = await whose.ours(desk) if texts or given.senders else ()
    people = {each.id: each for each in leads}

    def is_known(text: str) -> bool:
        return whose.is_among(text, ours) or whose.holder(desk, text, people.values(), channels) is not None

    strangers = [*given.wrong, *(text for text in given.senders if not whose.is_among(text, ours))]
    if leads:  # whoever is named by id is written to at an address of its own, and at no other lead's
        strangers += [text for text in given.addresses if not is_known(text)]
    for text in [*given.further, *given.people] if leads else texts:
        if is_known(text):
            continue
        lead = await whose.found(desk, text, channels)
        if lead is None and text in given.people:
            lead = await _lead_if_any(desk, text)
        if lead:
            people[lead.id] = lead
        else:
            strangers.append(text)
    if operation.recipient:
        for lead in await _looked_up(desk, operation, [each for each in given.ids if each not in people]):
            people[lead.id] = lead
    _refuse_many(operation, [*people])
    return tuple(people.values()), strangers


async def _looked_up(desk: Desk, operation: Operation, ids: Sequence[str]) -> list[Lead]:
    """Return the leads that have one of these ids, of which most are probably something else's."""
    if len(ids) > MOST_LOOKED_UP:
        raise InvalidArgument(
            f"{operation.name} has {len(ids)} values that may be ids of leads", f"give at most {MOST_LOOKED_UP}"
        )
    return [lead for each in ids if (lead := await _lead_if_any(desk, each))]


async def _lead_if_any(desk: Desk, text: str) -> Lead | None:
    """Return the lead whose id a text may be."""
    try:
        return await desk.crm(FindsLeads).get_lead(text)
    except (NotFound, InvalidArgument):
        return None


def _channels(declared: Channel, akin: tuple[str, ...]) -> tuple[Channel, ...]:
    """Return the channels that an operation may use, which is akin to these tools."""
    if ENROLLING in akin:  # the steps are not told
        return CHANNELS
    return tuple(each for each in CHANNELS if SENDING[each] in akin) or (declared,)


def _addresses(lead: Lead, channels: Iterable[Channel]) -> list[str]:
    """Return where a lead is reached on these channels, each once."""
    return list(dict.fromkeys(found for each in channels if (found := lead.address(each))))


async def _looked_at(desk: Desk, people: Reached, strangers: list[str]) -> Reached:
    """Return the people with what every rule says of each of them."""
    wrong = [_nobodys([*dict.fromkeys(strangers)])] if strangers else []
    allowed: list[rules.Finding] = []
    remarks: list[str] = []
    zones: list[str] = []
    person: list[str] = []
    doubts: list[str] = []
    for lead in people.leads:
        whose_it_is = f'"{bare(lead.label)}": ' if len(people.leads) > 1 else ""
        for finding in await _findings(desk, lead, people):
            (wrong if finding.reason else allowed).append(finding)
            zones += finding.zones
            doubts += finding.facts.get(DOUBTED, ())
            person += [f"{whose_it_is}{each}" for each in finding.person]
            remarks += [f"{whose_it_is}{each}" for each in finding.remarks]
    new = [remark for lead in people.leads for remark in await fresh(desk, lead, people.channels)]
    if people.enrols:
        new += [
            f'"{bare(lead.label)}" has answered since the last enrolment'
            for lead in people.leads
            if await replied(desk, lead)
        ]
    bounds = [bound for each in allowed for bound in each.bounds]
    if not wrong and (full := await desk.store.counted(_together(bounds))):
        wrong = [rules.Finding(f"{full}; this would reach {len(people.leads)}", "daily_limit")]
    ends = [each.until for each in wrong if each.until]
    return replace(
        people,
        blocked="; ".join(dict.fromkeys(str(each.reason) for each in wrong[:10])) or None,
        rule=wrong[0].rule if wrong else DOUBT if person else NEW_ADDRESS if new else "",
        until=max(ends) if ends and len(ends) == len(wrong) else None,
        bounds=tuple(dict.fromkeys(bounds)),  # counted with the marks of all when it is claimed
        remarks=tuple(dict.fromkeys([*person, *new, *remarks])),
        confirm=bool(new or person),
        person_only=bool(person),
        doubts=tuple(dict.fromkeys(doubts)),
        zones=tuple(dict.fromkeys(zones)),
    )


def _nobodys(strangers: Sequence[str]) -> rules.Finding:
    """Say what is nobody's address."""
    shown = ", ".join(in_quotes(bare(each), 80) for each in strangers[:IN_THE_SUMMARY])
    more = len(strangers) - IN_THE_SUMMARY
    is_not = "is not that of one lead" if len(strangers) == 1 else "are not those of leads"
    return rules.Finding(
        f"no address on file: {shown}{f' and {more} more' if more > 0 else ''} {is_not}, nor ours, exactly as it "
        "is written; give each address bare, and alone",
        "no_address",
    )


async def _findings(desk: Desk, lead: Lead, people: Reached) -> list[rules.Finding]:
    """Return what the rules say of one lead, for each way in which it may be reached."""
    if not _addresses(lead, people.channels):
        words = " or ".join(dict.fromkeys(_WORD[each] for each in people.channels))
        return [rules.Finding(f"no address on file: {bare(lead.label)} has no {words}", "no_address")]
    ways: list[rules.Reach] = [each for each in people.channels if lead.address(each)]
    if people.enrols:
        ways = [rules.ENROLMENT]
    found = [await rules.look(desk, lead, each, at=people.at) for each in ways]
    if len(people.leads) > 1:
        found = [
            replace(each, reason=f"{bare(lead.label)}: {each.reason}")
            if each.reason and bare(lead.label) not in each.reason and each.rule != "kill_switch"
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


def _together(bounds: list[Bound]) -> tuple[Bound, ...]:
    """Return the limits of one call that reaches several people: each leaves room for all whom it counts."""
    return tuple(bound.model_copy(update={"most": bound.most - count + 1}) for bound, count in Counter(bounds).items())
