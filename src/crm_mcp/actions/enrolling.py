"""Leads in sequences: who can be enrolled and who can't, each of them once, and how they get out again."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from crm_mcp.actions import contact, history, rules
from crm_mcp.actions.approval import Client, Done, Preview, bare, quoted
from crm_mcp.actions.desk import Desk, meant
from crm_mcp.actions.jobs import PATIENCE, Bulk, Told
from crm_mcp.actions.policy import Effect
from crm_mcp.actions.rules import ENROLMENT
from crm_mcp.backends.base import EndsSequences, FindsLeads, RunsSequences
from crm_mcp.errors import Ambiguous, Conflict, CrmError, InvalidArgument, NotFound, Unsupported, choices
from crm_mcp.model import CHANNELS, Channel, Lead, Rejected
from crm_mcp.model import Sequence as Steps
from crm_mcp.store import Action, Bound, Item, Mark

OF_ONE = (NotFound, Ambiguous, InvalidArgument, Conflict, Unsupported)
"""What can be wrong with one lead of several; other errors are the CRM's."""
ENROLLED_FOR = 30 * 24 * 60 * 60
"""Seconds that an enrolment stops another into the same sequence, where the CRM does not tell that it is over."""
MOST_INLINE = 100
"""Leads of a call that are enrolled at once; more are a job."""
SHOWN = 100
"""Leads, and reasons why one is left out, that a preview lists."""
SHOWS_WITHIN = timedelta(minutes=1)
"""How long after an enrolment a CRM may not tell it yet."""
ARRIVES_WITHIN = timedelta(minutes=10)
"""How long a request whose answer was lost may be on its way."""
OF_ALL = ("kill_switch", "blackout", "daily_limit")
"""Rules that forbid an enrolment now because of what day it is, not because of the lead."""
COUNTED = ("daily_limit", "contact_limit")
"""Rules that were counted for all leads when a job began."""


def enrolment_key(connection: str, sequence: str, lead: str) -> str:
    """Return the fingerprint of an enrolment."""
    return "enrolment:" + hashlib.sha256(f"{connection}\n{sequence}\n{lead}".encode()).hexdigest()


async def find_sequence(desk: Desk, name: str) -> Steps:
    """Return the sequence with this id or name; raises NotFound with the valid ones."""
    sequences = await desk.crm(RunsSequences).sequences()
    if found := meant(sequences, name):
        return found
    raise NotFound(f'there is no sequence "{name}"', choices(name, [each.name for each in sequences]))


@dataclass
class _People:
    """The leads of one call, sorted."""

    able: dict[str, Lead] = field(default_factory=dict[str, Lead])
    unable: list[Rejected] = field(default_factory=list[Rejected])
    held: dict[str, Action] = field(default_factory=dict[str, Action])
    """Leads that are enrolled already, with the action that did it."""
    addresses: dict[str, str | None] = field(default_factory=dict[str, str | None])
    bounds: dict[Bound, None] = field(default_factory=dict[Bound, None])
    forbidden: rules.Finding | None = None
    """What forbids it for all of them now."""
    remarks: list[str] = field(default_factory=list[str])
    """Why a person is asked even where the policy allows it."""


async def preview(desk: Desk, name: str, keys: Sequence[str], *, dry_run: bool = False) -> Preview:
    """Read the sequence and the leads: who would be enrolled, and who would not and why."""
    chosen = await find_sequence(desk, name)
    channels = _channels(chosen.shown().get("steps", ()))
    people = await _sorted(desk, channels, keys)
    await _leave_out_enrolled(desk, chosen.id, people, dry_run=dry_run)
    await _look_at_all(desk, channels, people)
    able = [*people.able.values()]
    left_out = [f"not {bare(each.item)}: {bare(each.reason)}" for each in people.unable]
    sample = ", ".join(map(_named, able[:5])) + (" ..." if len(able) > 5 else "")
    forbidden = people.forbidden
    nobody = "none of the leads can be enrolled: " + "; ".join(left_out[:10])
    return Preview(
        summary=f'Enrol {len(able)} in the sequence "{bare(chosen.name)}": {sample or "none"}'
        + (f"; {len(left_out)} left out" if left_out else ""),
        details=f"{_details(chosen, people, left_out)}\n{_way_back(desk)}",
        facts={
            "sequence": {"id": chosen.id, "name": chosen.name, "steps": chosen.shown().get("steps", [])},
            "leads": [_as_shown(each) for each in able],
            "left out": [[each.item, each.reason] for each in people.unable],
        },
        lead=able[0].id if len(able) == 1 else None,
        size=max(len(able), 1),
        blocked=(forbidden.reason if forbidden else None) if able else nobody,
        rule=forbidden.rule if forbidden else "asks_anew" if people.remarks else "",
        until=forbidden.until if forbidden and able else None,
        confirm=bool(people.remarks),
        marks=tuple(
            Mark(
                key=enrolment_key(desk.connection, chosen.id, each.id),
                seconds=ENROLLED_FOR,
                channel=ENROLMENT,
                address=people.addresses.get(each.id),
            )
            for each in able
        ),
        bounds=tuple(people.bounds),
        bulk=len(able) > MOST_INLINE,
        repeats=_repeated(people),
    )


async def _sorted(desk: Desk, channels: Sequence[Channel], keys: Sequence[str]) -> _People:
    """Tell the leads that can be enrolled from those that can't, and why."""
    people = _People()
    if off := await rules.kill_switch(desk):
        people.forbidden = rules.Finding(off, "kill_switch")
    seen: set[str] = set()
    for key in keys:
        try:
            lead = await desk.lead(key)
        except OF_ONE as error:
            people.unable.append(Rejected(item=key, reason=str(error)))
            continue
        if lead.id in seen:
            continue
        seen.add(lead.id)
        found = await rules.of_person(desk, lead, ENROLMENT, steps=channels)
        if found.reason and found.rule not in OF_ALL:
            people.unable.append(Rejected(item=lead.id, reason=found.reason))
            continue
        if found.reason and people.forbidden is None:
            people.forbidden = found
        people.able[lead.id] = lead
        people.addresses[lead.id] = found.address
        people.bounds |= dict.fromkeys(found.bounds)
    return people


async def _leave_out_enrolled(desk: Desk, sequence: str, people: _People, *, dry_run: bool) -> None:
    """Leave out those whom an earlier action has enrolled, unless the CRM says that they are out again."""
    keys = {enrolment_key(desk.connection, sequence, lead): lead for lead in people.able}
    crm = desk.crm(RunsSequences)
    held = await desk.store.held_by([*keys])
    for key, lead in keys.items():
        if (holder := held.get(key)) is None:
            continue
        late = SHOWS_WITHIN if holder.status == "done" else ARRIVES_WITHIN
        settled = holder.finished_at is not None and holder.finished_at < desk.clock() - late
        if settled and await crm.enrolled(sequence, lead) is False:
            if not (dry_run or desk.settings.dry_run):
                await desk.store.let_go(holder.id, [key])
            continue
        people.held[lead] = holder
        del people.able[lead]
        people.unable.append(Rejected(item=lead, reason=f"enrolled already, by action {holder.id}"))


async def _look_at_all(desk: Desk, channels: Sequence[Channel], people: _People) -> None:
    """Look at what makes a person be asked, and whether the limits leave room for all of them together."""
    together = [
        each.model_copy(update={"most": each.most - len(people.able) + 1}) for each in people.bounds if not each.address
    ]
    if people.able and people.forbidden is None and (full := await desk.store.counted(together)):
        people.forbidden = rules.Finding(f"{full}: no room for {len(people.able)} more", "daily_limit")
    for lead in people.able.values():
        people.remarks += await contact.fresh(desk, lead, channels or CHANNELS)
    size = len(people.able)
    judged = desk.policy.judge(contact.ENROLLING, Effect.OUTWARD, connection=desk.connection, size=max(size, 1))
    if judged.verdict == "allow" and size <= MOST_INLINE:
        for lead in people.able.values():
            if await contact.replied(desk, lead):
                people.remarks.append(f"{_named(lead)} has answered since the last enrolment")


def _details(chosen: Steps, people: _People, left_out: Sequence[str]) -> str:
    steps = [
        f"step {step.position}, {step.channel}, {step.after_days} days on: "
        + " ".join(filter(None, [bare(step.subject or ""), quoted(step.body)]))
        for step in chosen.steps
    ] or ["its steps are not told by this CRM: look at them there before you say yes"]
    listed = [
        f"{_named(lead)}: "
        + ", ".join(dict.fromkeys(bare(each) for channel in CHANNELS if (each := lead.address(channel))))
        for lead in people.able.values()
    ]
    return "\n".join([*people.remarks, *_some(listed), *_some(left_out), *steps])


def _named(lead: Lead) -> str:
    # In quotation marks: a line that begins with a name must not look like one of ours.
    return f'"{bare(lead.label)}" ({lead.id})'


def _way_back(desk: Desk) -> str:
    if isinstance(desk.backend, EndsSequences):
        return "undo_action takes them out again; what was sent by then can't be undone"
    return "can't be undone: this CRM takes nobody out of a sequence through its API"


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"... and {more} more"] if more > 0 else [])]


def _repeated(people: _People) -> Action | None:
    """Return the one action that has done all of this before, as far as it can be done."""
    ids = {each.id for each in people.held.values()}
    if people.able or len(ids) != 1:
        return None
    holder = next(iter(people.held.values()))
    others = {each.item for each in people.unable if each.item not in people.held}
    return holder if others <= {item for item, _ in holder.facts.get("left out", ())} else None


def _as_shown(lead: Lead) -> list[str | None]:
    """Return what of a lead is confirmed: what it is called, and every address."""
    return [lead.id, lead.label, *(lead.address(channel) for channel in CHANNELS)]


def _channels(steps: Sequence[Mapping[str, Any]]) -> list[Channel]:
    """Return the channels that a sequence uses; none where its steps are not told."""
    return list(dict.fromkeys(each["channel"] for each in steps))


# Doing it


async def enrol(desk: Desk, client: Client, seen: Preview) -> Done:
    """Enrol those whom the preview has found to be able."""
    crm, facts = desk.crm(RunsSequences), seen.facts
    sequence = facts["sequence"]["id"]

    async def one(lead: str) -> tuple[str, str | None]:
        return lead, await crm.enroll(sequence, lead)

    leads = [each[0] for each in facts["leads"]]
    try:
        done = await one_by_one(leads, one, client)
    except CrmError as error:
        if error.wrote is not False:  # the row may become unknown, and keeps the marks: of the first alone
            await let_go(desk, sequence, leads[1:])
        raise
    kept = {*done.succeeded, *done.lost}
    released = tuple(enrolment_key(desk.connection, sequence, each) for each in leads if each not in kept)
    return _enrolled(facts, done.succeeded, done.failed, released)


async def look(desk: Desk, row: Action) -> Done | None:
    """Say that all were enrolled, where the CRM tells it of each."""
    facts = row.facts
    leads = [each[0] for each in facts.get("leads", ())]
    if not leads or not await history.enrolments(desk, facts["sequence"]["id"], leads):
        return None
    return _enrolled(facts, leads, [])


def bulk(desk: Desk, client: Client) -> Bulk:
    """Enrol lead after lead, each under every rule at the moment of its turn."""
    crm = desk.crm(RunsSequences)

    async def do(row: Action, taken: Sequence[Item]) -> Sequence[Told]:
        from crm_mcp.backends.pace import bulk_work  # start-up counts

        with bulk_work(PATIENCE):
            return [await _turn(desk, row, each.payload["lead"]) for each in taken]

    async def look_up(row: Action, item: Item) -> Told | None:
        enrolled = await crm.enrolled(row.facts["sequence"]["id"], item.payload["lead"][0])
        if enrolled:
            return Told("done", {})
        return Told("waiting", {}) if crm.enrols_once else None

    def sum_up(row: Action, ended: Sequence[Item]) -> Done:
        failed = [
            Rejected(item=each.payload["lead"][0], reason=(each.result or {}).get("reason") or "not tried")
            for each in ended
            if each.status != "done"
        ]
        return _enrolled(row.facts, [each.payload["lead"][0] for each in ended if each.status == "done"], failed)

    def marks(row: Action, item: Item) -> tuple[str, ...]:
        return (enrolment_key(desk.connection, row.facts["sequence"]["id"], item.payload["lead"][0]),)

    return Bulk(
        items=lambda row: [{"lead": each} for each in row.facts["leads"]],
        at_once=1,
        do=do,
        look=look_up,
        sum_up=sum_up,
        marks=marks,
        stopped=lambda: rules.kill_switch(desk),
        progress=client.progress,
    )


async def _turn(desk: Desk, row: Action, given: list[str | None]) -> Told:
    """Enrol one lead of a job, if it is still the one that was shown, and may still be reached."""
    sequence = row.facts["sequence"]
    try:
        try:
            why = await _why_not(desk, row, given, _channels(sequence["steps"]))
        except CrmError as error:
            error.wrote = False  # it was only looked at
            raise
        why = why or await desk.crm(RunsSequences).enroll(sequence["id"], str(given[0]))
    except OF_ONE as error:
        why = str(error)
    return Told("failed", {"reason": why}) if why else Told("done", {})


async def _why_not(desk: Desk, row: Action, given: list[str | None], channels: Sequence[Channel]) -> str | None:
    lead = await desk.crm(FindsLeads).get_lead(str(given[0]))
    if _as_shown(lead) != given:
        return "its name or an address has changed since it was shown"
    found = await rules.of_person(desk, lead, ENROLMENT, steps=channels)
    if found.reason and found.rule not in COUNTED:
        return found.reason
    # Whoever confirmed the job was shown the new addresses, and said yes to all.
    if row.approved_by == "policy":
        if await contact.fresh(desk, lead, channels or CHANNELS):
            return "its address is new: enrol it by itself, and the user is asked"
        if await contact.replied(desk, lead):
            return "it has answered since the last enrolment: enrol it by itself, and the user is asked"
    return None


async def unenrol(desk: Desk, name: str, keys: Sequence[str], client: Client) -> Done:
    """Take leads out of a sequence; they can be enrolled again."""
    chosen = await find_sequence(desk, name)

    async def one(key: str) -> tuple[str, str | None]:
        lead = await desk.lead(key)
        return lead.id, await desk.crm(EndsSequences).unenroll(chosen.id, lead.id)

    done = await one_by_one(keys, one, client)
    await let_go(desk, chosen.id, done.succeeded)
    summary = f'took {len(done.succeeded)} of {len(keys)} leads out of "{bare(chosen.name)}"'
    return _batch(summary, chosen.id, done.succeeded, done.failed)


async def let_go(desk: Desk, sequence: str, leads: Sequence[str]) -> None:
    """Let these leads be enrolled in a sequence again: they are in it no more."""
    held = await desk.store.held_by([enrolment_key(desk.connection, sequence, each) for each in leads])
    for action in {each.id for each in held.values()}:
        await desk.store.let_go(action, [key for key, holder in held.items() if holder.id == action])


@dataclass
class _Each:
    """What became of leads that something was done for, one after the other."""

    succeeded: list[str] = field(default_factory=list[str])
    failed: list[Rejected] = field(default_factory=list[Rejected])
    lost: list[str] = field(default_factory=list[str])
    """Those of `failed` of which it is not known whether it was done."""


async def one_by_one(
    keys: Sequence[str], do: Callable[[str], Awaitable[tuple[str, str | None]]], client: Client
) -> _Each:
    """Do something for each lead: which were done, and why the others were not.

    What is wrong with one lead is told of that one. What is wrong with the CRM ends it: the rest is not tried.

    Raises:
        CrmError: the CRM failed before any was done, or may have done the first.
    """
    done = _Each()
    for place, key in enumerate(keys):
        try:
            lead, why = await do(key)
        except OF_ONE as error:
            done.failed.append(Rejected(item=key, reason=str(error)))
        except CrmError as error:
            if not done.succeeded:
                raise
            known = "not done" if error.wrote is False else "not known whether it was done"
            if error.wrote is not False:
                done.lost.append(key)
            done.failed.append(Rejected(item=key, reason=f"{known}: {error}"))
            done.failed += [Rejected(item=each, reason="not tried") for each in keys[place + 1 :]]
            break
        else:
            if why:
                done.failed.append(Rejected(item=lead, reason=why))
            else:
                done.succeeded.append(lead)
        await client.progress(place + 1, len(keys))
    return done


def _enrolled(
    facts: Mapping[str, Any], succeeded: list[str], failed: list[Rejected], released: tuple[str, ...] = ()
) -> Done:
    """Say who was enrolled, with those who were left out before."""
    sequence = facts["sequence"]
    unable = [Rejected(item=item, reason=reason) for item, reason in facts["left out"]]
    total = len(facts["leads"]) + len(unable)
    summary = f'enrolled {len(succeeded)} of {total} leads in "{bare(sequence["name"])}"'
    return _batch(summary, sequence["id"], succeeded, [*unable, *failed], released)


def _batch(
    summary: str, sequence: str, succeeded: list[str], failed: list[Rejected], released: tuple[str, ...] = ()
) -> Done:
    fields: dict[str, Any] = {"succeeded": succeeded, "failed": [each.shown() for each in failed]}
    touched = (("sequence", sequence), *(("lead", each) for each in succeeded))
    lead = succeeded[0] if len(succeeded) == 1 else None
    # In and out of a sequence change the same: after the one, the other again is no repeat.
    kept = {"verb": "enrolment", "id": sequence, "after": dict.fromkeys(succeeded)} if succeeded else None
    return Done(summary, fields, lead, touched, kept, size=max(len(succeeded), 1), released=released)
