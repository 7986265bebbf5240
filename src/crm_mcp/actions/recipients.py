"""Whom an operation of the long tail reaches: read from the CRM, on file there, and under every rule of a tool."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from crm_mcp.actions import rules
from crm_mcp.actions.addresses import address_of
from crm_mcp.actions.approval import bare, plain, quoted
from crm_mcp.actions.contact import NEW_ADDRESS, fresh, replied
from crm_mcp.actions.desk import Desk
from crm_mcp.backends.base import FindsLeads
from crm_mcp.errors import Forbidden, InvalidArgument, NotFound
from crm_mcp.model import CHANNELS, Channel, Lead
from crm_mcp.store import Bound

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
YEAR = timedelta(days=366)
Place = tuple[str, ...]

_ADDRESS = re.compile(r"(?:[^<>@]*<)?\s*([^\s<>@,;]+@[^\s<>@,;]+\.[^\s<>@,;]+)\s*>?|((?:\+|00)[\d\s().-]{7,20})")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_SENDERS = frozenset({"from", "sender", "mailbox", "reply"})
"""What a field is called that says who sends: nobody is reached by it."""
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
    zones: tuple[str, ...] = ()
    """The time zones that they may be in, where the time there matters."""
    at: datetime | None = None
    """When the CRM reaches them, where the call says so."""

    @property
    def facts(self) -> dict[str, Any]:
        """Every value of theirs that a person is shown."""
        rows = [[each.id, each.label, *_addresses(each, self.channels)] for each in self.leads]
        return ({"leads": rows} if rows else {}) | ({"time zones": [*self.zones]} if self.zones else {})

    @property
    def shown(self) -> str:
        """The people in one line, the first few by name."""
        more = len(self.leads) - IN_THE_SUMMARY
        return "; ".join(map(self._named, self.leads[:IN_THE_SUMMARY])) + (f"; and {more} more" if more > 0 else "")

    @property
    def listed(self) -> list[str]:
        """The people whom the one line has no room for."""
        return [self._named(each) for each in self.leads[IN_THE_SUMMARY:]]

    def _named(self, lead: Lead) -> str:
        addresses = "".join(f"{plain(each)}, " for each in _addresses(lead, self.channels))
        return f"{addresses}{quoted(lead.label)} ({lead.id})"


async def reached(desk: Desk, operation: Operation, arguments: Mapping[str, Any], *, allowed: bool) -> Reached:
    """Return whom an outward operation reaches. `allowed`: the policy names it, although it can't name them.

    Each must be named by the arguments, have an address on file, and not be blocked.

    Raises:
        InvalidArgument: it reaches people whom it does not name, or too many.
        Forbidden: it is one that can't name them.
        NotFound: a lead is not there.
    """
    named = operation.recipient
    if named is None or not (named.lead or named.address):
        if allowed:
            off = await rules.kill_switch(desk)
            remarks = ("it reaches people whom it does not name: neither do-not-contact nor another rule is tested",)
            return Reached(blocked=off, rule="kill_switch" if off else "", remarks=remarks)
        raise Forbidden(
            f"{operation.name} reaches people whom it does not name, so that do-not-contact can't be tested",
            "a person can allow it by name in [policy.operations] of the settings",
        )
    where = " or ".join(each for each in (named.lead, named.address) if each)
    if wider := unnamed(operation, arguments):
        raise InvalidArgument(f"{wider} reaches people whom {operation.name} does not name", f"name them in {where}")
    akin = operation.akin_to(arguments)
    channels = _channels(named.channel, akin)
    leads = await _leads(desk, operation, arguments)
    addresses = _texts(operation.name, values_at(arguments, named.address))
    if not leads and not addresses:
        raise InvalidArgument(f"{operation.name} does not name whom it reaches", f"name the leads in {where}")
    strangers: list[str] = []
    if not leads:
        leads, strangers = await _found_by(desk, named.channel, addresses)
    else:
        strangers = _not_on_file(desk, leads, channels, addresses)
    strangers += _not_on_file(desk, leads, channels, _others(operation, arguments))
    people = Reached(leads, channels, ENROLLING in akin, at=_planned(operation, arguments))
    return await _looked_at(desk, people, strangers)


async def touched(desk: Desk, operation: Operation, arguments: Mapping[str, Any]) -> Reached:
    """Return the leads that an operation names although it reaches nobody: a deletion, for example.

    Raises:
        InvalidArgument: they are too many.
        NotFound: one is not there.
    """
    leads = await _leads(desk, operation, arguments)
    wider = unnamed(operation, arguments)
    return Reached(leads, remarks=(f"{wider}: it touches records that are not named here",) if wider else ())


def values_at(arguments: Mapping[str, Any], dotted: str | None) -> list[Any]:
    """Return the values at a dotted name; lists on the way, and at its end, are gone through."""
    found: list[Any] = [arguments] if dotted else []
    for name in (dotted or "").split("."):
        found = [
            each[name]
            for value in found
            for each in (cast("list[Any]", value) if isinstance(value, list) else [value])
            if isinstance(each, Mapping) and name in each
        ]
    flat = [each for value in found for each in (cast("list[Any]", value) if isinstance(value, list) else [value])]
    return [each for each in flat if each is not None]


async def _leads(desk: Desk, operation: Operation, arguments: Mapping[str, Any]) -> tuple[Lead, ...]:
    named = operation.recipient
    ids = _texts(operation.name, values_at(arguments, named.lead if named else None))
    leads = tuple([await desk.crm(FindsLeads).get_lead(each) for each in ids])
    for given, lead in zip(ids, leads, strict=True):
        if lead.id != given:  # what is sent must be what was read
            raise NotFound(f'there is no lead "{given[:80]}"', f"the id of {lead.label} is {lead.id}")
    return leads


async def _found_by(desk: Desk, channel: Channel, addresses: list[str]) -> tuple[tuple[Lead, ...], list[str]]:
    """Return the leads that have these addresses, and the addresses that not exactly one has."""
    leads: dict[str, Lead] = {}
    strangers: list[str] = []
    for each in addresses:
        found = await desk.crm(FindsLeads).leads_at(channel, _normal(desk, each)) if channel != "linkedin" else ()
        if len(found) == 1:
            leads[found[0].id] = found[0]
        else:
            strangers.append(each)
    return tuple(leads.values()), strangers


def _channels(declared: Channel, akin: tuple[str, ...]) -> tuple[Channel, ...]:
    """Return the channels that an operation may use, which is akin to these tools."""
    if ENROLLING in akin:  # the steps are not told
        return CHANNELS
    return tuple(each for each in CHANNELS if SENDING[each] in akin) or (declared,)


def _addresses(lead: Lead, channels: Iterable[Channel]) -> list[str]:
    """Return where a lead is reached on these channels, each once."""
    return list(dict.fromkeys(found for each in channels if (found := lead.address(each))))


def _not_on_file(desk: Desk, leads: tuple[Lead, ...], channels: tuple[Channel, ...], addresses: list[str]) -> list[str]:
    """Return those addresses at which none of the leads is reached on these channels."""
    own = {_normal(desk, address) for lead in leads for address in _addresses(lead, channels)}
    return [each for each in addresses if _normal(desk, each) not in own]


async def _looked_at(desk: Desk, people: Reached, strangers: list[str]) -> Reached:
    """Return the people with what every rule says of each of them."""
    wrong = [
        rules.Finding(
            f'no address on file: "{each[:80]}" is not that of one lead named here; name the lead', "no_address"
        )
        for each in strangers
    ]
    allowed: list[rules.Finding] = []
    remarks: list[str] = []
    zones: list[str] = []
    for lead in people.leads:
        for finding in await _findings(desk, lead, people):
            (wrong if finding.reason else allowed).append(finding)
            zones += finding.zones
            remarks += [f'"{bare(lead.label)}": {each}' if len(people.leads) > 1 else each for each in finding.remarks]
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
        rule=wrong[0].rule if wrong else NEW_ADDRESS if new else "",
        until=max(ends) if ends and len(ends) == len(wrong) else None,
        bounds=tuple(dict.fromkeys(bounds)),  # counted with the marks of all when it is claimed
        remarks=tuple(dict.fromkeys([*new, *remarks])),
        confirm=bool(new),
        zones=tuple(dict.fromkeys(zones)),
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


def _texts(name: str, values: list[Any]) -> list[str]:
    """Return ids or addresses as text, each once."""
    for each in values:
        if isinstance(each, bool) or not isinstance(each, str | int) or not str(each).strip():
            raise InvalidArgument(f"{name} can't be told whom it reaches", "give ids or addresses as text")
    found = list(dict.fromkeys(str(each) for each in values))
    if len(found) > MOST_PEOPLE:
        raise InvalidArgument(f"{name} would reach {len(found)} people", f"name at most {MOST_PEOPLE} at once")
    return found


def sequences_in(arguments: Mapping[str, Any]) -> list[str]:
    """Return the sequences that an enrolment names."""
    found = [
        str(value)
        for place, value in _leaves(arguments)
        if place and re.search("flow|sequence", place[-1].casefold()) and isinstance(value, str | int) and value
    ]
    return list(dict.fromkeys(found))


def unnamed(operation: Operation, arguments: Mapping[str, Any]) -> str | None:
    """Return the argument that selects records otherwise than by naming them, a filter or all; None where none does."""
    own = _own(operation)
    for place, value in _leaves(arguments):
        parts = [part.casefold() for part in place]
        filters = [part for part in parts if "filter" in part]
        # An empty filter leaves nobody out; an empty choice within a filter chooses nobody.
        empty = not value and not (value == {} and filters[-1:] == parts[-1:])
        if place not in own and not empty and (filters or {"all", "everyone"}.intersection(parts)):
            return ".".join(place)
    return None


def _others(operation: Operation, arguments: Mapping[str, Any]) -> list[str]:
    """Return the addresses that stand somewhere else in the arguments: a copy goes to people, too."""
    found: list[str] = []
    for place, value in _leaves(arguments):
        words = {word for part in place for word in re.findall(r"[a-z]+", part.casefold())}
        if not isinstance(value, str) or place in _own(operation) or words & _SENDERS:
            continue
        parts = [part for part in re.split("[,;]", value) if part.strip()]
        matches = [_ADDRESS.fullmatch(part.strip()) for part in parts]
        found += [match[1] or match[2] for match in matches if match] if all(matches) else []
    return list(dict.fromkeys(found))


def _own(operation: Operation) -> set[Place]:
    """Return where the arguments name people, and where the text stands."""
    named = operation.recipient
    dotted = (named.lead, named.address, operation.text) if named else ()
    return {tuple(each.split(".")) for each in dotted if each}


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, Mapping) and value:
        for name, each in cast("Mapping[str, Any]", value).items():
            yield from _leaves(each, (*place, name))
    elif isinstance(value, list) and value:
        for each in cast("list[Any]", value):
            yield from _leaves(each, place)
    else:
        yield place, value


def _normal(desk: Desk, address: str) -> str:
    """Return an address, number or profile as it is compared."""
    channel: Channel = "email" if "@" in address else "linkedin" if "/" in address else "sms"
    return address_of(channel, address, desk.settings.country)
