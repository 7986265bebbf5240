"""Leads in sequences: who can be enrolled and who can't, each of them once, and how they get out again."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context, meant
from crm_mcp.actions.guards import do_not_contact, inbound, new_addresses, rules
from crm_mcp.actions.guards.rules import ENROLMENT
from crm_mcp.actions.intent import DOUBT, DOUBTED, Client, Decision, Outcome, Preview, Reach
from crm_mcp.actions.summary import escape_markup, quote, quote_label
from crm_mcp.address import email_address, phone_number
from crm_mcp.backends.base import EndsSequences, RunsSequences
from crm_mcp.channels import CHANNELS, ROWS, Channel
from crm_mcp.errors import Ambiguous, Conflict, CrmError, InvalidArgument, NotFound, Unsupported, choices
from crm_mcp.model import Lead, Rejected
from crm_mcp.model import Sequence as Steps
from crm_mcp.store import Action, DedupKey, Quota

OF_ONE = (NotFound, Ambiguous, InvalidArgument, Conflict, Unsupported)
"""What can be wrong with one lead of several; other errors are the CRM's."""
ENROLLED_FOR = 30 * 24 * 60 * 60
"""Seconds that an enrolment stops another into the same sequence, where the CRM does not tell that it is over."""
MOST_INLINE = 100
"""Leads of a call that are enrolled at once; more are a job."""
MOST_READ = 10
"""Leads of a call that are all read before it is asked where the CRM limits the calls that it takes."""
SAMPLE = 5
"""Of more than those, how many are; each of the others is looked at when it is its turn."""
SHOWN = 100
"""Leads, and reasons why one is left out, that a preview lists."""
SHOWS_WITHIN = timedelta(minutes=1)
"""How long after an enrolment a CRM may not tell it yet."""
ARRIVES_WITHIN = timedelta(minutes=10)
"""How long a request whose answer was lost may be on its way."""
OF_ALL = ("kill_switch", "blackout", "daily_limit")
"""Rules that forbid an enrolment now because of what day it is, not because of the lead."""


def enrolment_key(connection: str, sequence: str, lead: str) -> str:
    """Return the fingerprint of an enrolment."""
    return "enrolment:" + hashlib.sha256(f"{connection}\n{sequence}\n{lead}".encode()).hexdigest()


def given_key(context: Context, sequence: str, given: Sequence[str | None]) -> str:
    """Return the fingerprint that a job begins with for one of its items: of the lead, or of what the call names it by
    where it is not read yet."""
    name = str(given[0])
    if len(given) == 1:
        name = rules.reached_at(context, _by_its_name(context, name), ENROLMENT) or name
    return enrolment_key(context.connection, sequence, name)


def enrolment_dedup_key(key: str, address: str | None) -> DedupKey:
    """Return the deduplication key of an enrolment."""
    return DedupKey(key=key, seconds=ENROLLED_FOR, channel=ENROLMENT, address=address)


async def find_sequence(context: Context, name: str) -> Steps:
    """Return the sequence with this id or name; raises NotFound with the valid ones."""
    sequences = await context.crm(RunsSequences).sequences()
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
    unread: dict[str, str] = field(default_factory=dict[str, str])
    """Leads that are read when it is their turn: what the call names them by, under the deduplication keys."""
    decisions: dict[str, Decision] = field(default_factory=dict[str, Decision])
    """What the rules say of those who are able."""
    quotas: dict[Quota, None] = field(default_factory=dict[Quota, None])
    forbidden: Decision | None = None
    """What forbids it for all of them now."""
    remarks: list[str] = field(default_factory=list[str])
    """Why a person is asked even where the policy allows it."""
    person: list[str] = field(default_factory=list[str])
    """Why only a person may say yes: no token serves."""
    doubts: list[str] = field(default_factory=list[str])
    """The ids of messages in which one of them may have asked for no more."""

    @property
    def size(self) -> int:
        """How many may be enrolled."""
        return len(self.able) + len(self.unread)


async def preview(context: Context, name: str, keys: Sequence[str], *, dry_run: bool = False) -> Reach:
    """Read the sequence and the leads: who would be enrolled, and who would not and why."""
    chosen = await find_sequence(context, name)
    channels = channels_of(chosen.shown().get("steps", ()))
    keys = [*dict.fromkeys(each.strip() for each in keys)]
    sampled = len(keys) > MOST_READ and bool(await context.account.budget())
    people = await _sorted(context, channels, keys[:SAMPLE] if sampled else keys)
    if sampled:
        await _look_at_unread(context, chosen.id, channels, people, keys[SAMPLE:])
    await _leave_out_enrolled(context, chosen.id, people, dry_run=dry_run)
    await _look_at_all(context, channels, people)
    able = [*people.able.values()]
    left_out = [f"not {escape_markup(each.item)}: {escape_markup(each.reason)}" for each in people.unable]
    forbidden = people.forbidden
    nobody = "none of the leads can be enrolled: " + "; ".join(left_out[:10])
    return Reach(
        summary=f"Enrol {people.size} in the sequence {quote(chosen.name)}: {_some_of(people)}"
        + (f"; {len(left_out)} left out" if left_out else ""),
        details=f"{_details(chosen, people, left_out)}\n{_way_back(context)}",
        facts={
            "sequence": {"id": chosen.id, "name": chosen.name, "steps": chosen.shown().get("steps", [])},
            "leads": [*map(as_shown, able), *([each] for each in people.unread.values())],
            "left out": [[each.item, each.reason] for each in people.unable],
            **({DOUBTED: people.doubts} if people.doubts else {}),
        },
        lead=able[0].id if able and people.size == 1 else None,
        size=max(people.size, 1),
        blocked=(forbidden.reason if forbidden else None) if people.size else nobody,
        rule=forbidden.rule if forbidden else DOUBT if people.person else "asks_anew" if people.remarks else "",
        until=forbidden.until if forbidden and people.size else None,
        confirm=bool(people.remarks or people.person),
        person_only=bool(people.person),
        dedup_keys=(
            *(
                enrolment_dedup_key(
                    enrolment_key(context.connection, chosen.id, each.id), people.decisions[each.id].address
                )
                for each in able
            ),
            *(enrolment_dedup_key(each, None) for each in people.unread),
        ),
        quotas=tuple(people.quotas),
        bulk=sampled or people.size > MOST_INLINE,
        repeats=await _repeated(context, people),
        decisions=tuple(people.decisions[each.id] for each in able),
    )


async def _sorted(context: Context, channels: Sequence[Channel], keys: Sequence[str]) -> _People:
    """Tell the leads that can be enrolled from those that can't, and why."""
    people = _People()
    if off := await rules.kill_switch(context):
        people.forbidden = Decision(off, "kill_switch")
    seen: set[str] = set()
    for key in keys:
        try:
            lead = await context.lead(key)
        except OF_ONE as error:
            people.unable.append(Rejected(item=key, reason=str(error)))
            continue
        if lead.id in seen:
            continue
        seen.add(lead.id)
        found = await rules.decide_on_person(context, lead, ENROLMENT, steps=channels)
        if found.reason and found.rule not in OF_ALL:
            people.unable.append(Rejected(item=lead.id, reason=found.reason))
            continue
        if found.reason and people.forbidden is None:
            people.forbidden = found
        people.able[lead.id] = lead
        people.decisions[lead.id] = found
        people.quotas |= dict.fromkeys(found.quotas)
        people.person += [f"{_named(lead)}: {each}" for each in found.person]
        people.doubts += found.facts.get(DOUBTED, ())
    return people


async def _look_at_unread(
    context: Context, sequence: str, channels: Sequence[Channel], people: _People, keys: Sequence[str]
) -> None:
    """Look at what is known here of leads that are not read: whether they are on our own list."""
    seen = {*people.able, *(each.item for each in people.unable)}
    for key in keys:
        if key in seen:
            continue
        try:
            lead = _by_its_name(context, key)
        except InvalidArgument as error:
            people.unable.append(Rejected(item=key, reason=str(error)))
            continue
        if said_no := await on_our_list(context, lead, channels):
            people.unable.append(Rejected(item=key, reason=said_no))
        else:
            people.unread.setdefault(given_key(context, sequence, [key]), key)


async def on_our_list(context: Context, lead: Lead, channels: Sequence[Channel]) -> str | None:
    """Return that our own list forbids a sequence of these channels, else None; where they are not told, any counts."""
    if said := await do_not_contact.blocks_of(context, lead, channels or CHANNELS):
        [(channel, reason), *_] = said.items()
        return do_not_contact.no_contact(lead, channel, reason)
    return None


def _by_its_name(context: Context, key: str) -> Lead:
    """Return what is known of a lead by what a call names it by, as `Context.lead` takes it.

    Raises:
        InvalidArgument: it is no address.
    """
    if "@" in key:
        return Lead(id=key, email=email_address(key))
    if key.startswith("+"):
        return Lead(id=key, phone=phone_number(key, context.settings.country))
    return Lead(id=key)


async def _leave_out_enrolled(context: Context, sequence: str, people: _People, *, dry_run: bool) -> None:
    """Leave out those whom an earlier action has enrolled, unless the CRM says that they are out again."""
    keys = {enrolment_key(context.connection, sequence, lead): lead for lead in people.able}
    held = await context.store.actions.held_by([*keys, *people.unread])
    for key, lead in keys.items():
        if (holder := held.get(key)) is None:
            continue
        if await is_over(context, sequence, lead, holder):
            if not (dry_run or context.settings.dry_run):
                await context.store.actions.let_go(holder.id, [key])
            continue
        people.held[lead] = holder
        del people.able[lead]
        people.unable.append(Rejected(item=lead, reason=f"enrolled already, by action {holder.id}"))
    for key, lead in [*people.unread.items()]:
        if holder := held.get(key):
            people.held[lead] = holder
            del people.unread[key]
            hint = f"of at most {MOST_READ} leads it is asked whether they are out again"
            people.unable.append(Rejected(item=lead, reason=f"enrolled already, by action {holder.id}; {hint}"))


async def is_over(context: Context, sequence: str, lead: str, holder: Action) -> bool:
    """Whether the CRM says that a lead which this action has enrolled is out of the sequence again."""
    late = SHOWS_WITHIN if holder.status == "done" else ARRIVES_WITHIN
    if holder.finished_at is None or holder.finished_at >= context.clock() - late:
        return False
    return await context.crm(RunsSequences).enrolled(sequence, lead) is False


async def _look_at_all(context: Context, channels: Sequence[Channel], people: _People) -> None:
    """Look at what makes a person be asked, and whether the limits leave room for all of them together."""
    together = [
        each.model_copy(update={"most": each.most - people.size + 1}) for each in people.quotas if not each.address
    ]
    if people.size and people.forbidden is None and (full := await context.store.limits.counted(together)):
        people.forbidden = Decision(f"{full}: no room for {people.size} more", "daily_limit")
    for lead in people.able.values():
        people.remarks += await new_addresses.fresh(context, lead, channels or CHANNELS)
    size = people.size
    enrolling = context.tools.one(lambda each: each.reaches == ENROLMENT)
    if context.verdict(enrolling, max(size, 1)) == "allow" and (people.unread or size <= MOST_INLINE):
        for lead in people.able.values():
            if await inbound.replied(context, lead):
                people.remarks.append(f"{_named(lead)} has answered since the last enrolment")


def _details(chosen: Steps, people: _People, left_out: Sequence[str]) -> str:
    steps = [
        f"step {step.position}, {step.channel}, {step.after_days} days on: "
        + " ".join(filter(None, [escape_markup(step.subject or ""), quote(step.body)]))
        for step in chosen.steps
    ] or ["its steps are not told by this CRM: look at them there before you say yes"]
    listed = [
        f"{_named(lead)}: "
        + ", ".join(dict.fromkeys(escape_markup(each) for channel in CHANNELS if (each := lead.address(channel))))
        for lead in people.able.values()
    ]
    return "\n".join([*people.person, *people.remarks, *_some(listed), *_later(people), *_some(left_out), *steps])


def _some_of(people: _People) -> str:
    """Return the first few in one line."""
    able = ", ".join(map(_named, [*people.able.values()][:SAMPLE]))
    if people.unread:
        return (f"{able}, and " if able else "") + f"{len(people.unread)} more, each looked at when it is its turn"
    return able + (" ..." if people.size > SAMPLE else "") or "none"


def _later(people: _People) -> list[str]:
    """Say what becomes of those that are not read yet, and who they are."""
    if not people.unread:
        return []
    more = len(people.unread) - SHOWN
    names = ", ".join(quote_label(each) for each in [*people.unread.values()][:SHOWN])
    return [
        f"and {len(people.unread)} more, each looked at when it is its turn: who may not be reached then, has answered "
        f"since the last enrolment, or has an address that was set of late, is left out: {names}"
        + (f" ... and {more} more" if more > 0 else "")
    ]


def _named(lead: Lead) -> str:
    # In quotation marks: a line that begins with a name must not look like one of ours.
    return f"{quote_label(lead.label)} ({lead.id})"


def _way_back(context: Context) -> str:
    if context.can(EndsSequences):
        return "undo_action takes them out again; what was sent by then can't be undone"
    return "can't be undone: this CRM takes nobody out of a sequence through its API"


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"... and {more} more"] if more > 0 else [])]


async def _repeated(context: Context, people: _People) -> Action | None:
    """Return the one action that has done all of this before, as far as it can be done."""
    ids = {each.id for each in people.held.values()}
    if people.able or len(ids) != 1:
        return None
    holder = next(iter(people.held.values()))
    if holder.status == "cancelled":  # it was called off before it had done all
        return None
    others = {each.item for each in people.unable if each.item not in people.held}
    if not others <= {item for item, _ in holder.facts.get("left out", ())}:
        return None
    if people.unread:
        # Of an address it is not known here whose it is: the job that was given it knows what became of that.
        items = await context.store.items.all(holder.id)
        took = {each.payload["lead"][0] for each in items if each.status not in ("failed", "cancelled")}
        if not took.issuperset(people.unread.values()):
            return None
    return holder


def as_shown(lead: Lead) -> list[str | None]:
    """Return what of a lead is confirmed: what it is called, and every address."""
    return [lead.id, lead.label, *(lead.address(channel) for channel in CHANNELS)]


def _known(shown: Sequence[str | None]) -> Lead:
    """Return what of a lead was shown, as far as our list knows it."""
    fields: dict[str, Any] = {"id": str(shown[0]), "name": shown[1], "custom_fields": {}}
    # What an older version kept has no place for a channel that came later.
    for channel, address in zip(CHANNELS, shown[2:], strict=False):
        field, _, custom = ROWS[channel].field.partition(".")
        (fields[field] if custom else fields)[custom or field] = address
    return Lead.model_validate(fields)


def channels_of(steps: Sequence[Mapping[str, Any]]) -> list[Channel]:
    """Return the channels that a sequence uses; none where its steps are not told."""
    return list(dict.fromkeys(each["channel"] for each in steps))


# Doing it


async def enrol(context: Context, client: Client, seen: Preview) -> Outcome:
    """Enrol those whom the preview has found to be able."""
    crm, facts = context.crm(RunsSequences), seen.facts
    sequence, channels = facts["sequence"]["id"], channels_of(facts["sequence"]["steps"])
    known = {each[0]: _known(each) for each in facts["leads"]}

    async def one(lead: str) -> tuple[str, str | None]:
        # Both are read before each: many take a while, and somebody may say no in the meantime.
        if said_no := await rules.kill_switch(context) or await on_our_list(context, known[lead], channels):
            return lead, f"not done: {said_no}"
        return lead, await crm.enroll(sequence, lead)

    leads = [*known]
    try:
        done = await one_by_one(leads, one, client)
    except CrmError as error:
        if error.wrote is not False:  # the row may become unknown, and keeps the deduplication keys: of the first alone
            await let_go(context, sequence, leads[1:])
        raise
    kept = {*done.succeeded, *done.lost}
    released = tuple(enrolment_key(context.connection, sequence, each) for each in leads if each not in kept)
    return enrolled(facts, done.succeeded, done.failed, released)


async def reconcile_enrolment(context: Context, row: Action) -> Outcome | None:
    """Say that all were enrolled, where the CRM tells it of each."""
    facts = row.facts
    leads = [each[0] for each in facts.get("leads", ())]
    if not leads or not await reconcile.enrolments(context, facts["sequence"]["id"], leads):
        return None
    return enrolled(facts, leads, [])


async def preview_unenrol(context: Context, name: str, keys: Sequence[str]) -> Preview:
    """Say who would be taken out of a sequence. They are read where somebody is asked, so that each has its name."""
    asked_for = [*dict.fromkeys(each.strip() for each in keys)]
    if not context.shows(context.tools.one(lambda each: each.ends_enrolments), len(asked_for)):
        return Preview(f"Take {len(asked_for)} leads out of the sequence {quote(name)}", size=len(asked_for))
    chosen = await find_sequence(context, name)
    most = MOST_READ if await context.account.budget() else SHOWN
    shown: list[str] = []
    left_out: list[str] = []
    for key in asked_for[:most]:
        try:
            shown.append(_named(await context.lead(key)))
        except OF_ONE as error:
            left_out.append(f"not {escape_markup(key)}: {escape_markup(str(error))}")
    more = [f'and "{escape_markup(each)}"' for each in asked_for[most:]]
    return Preview(
        f'Take {len(shown) + len(more)} leads out of the sequence "{escape_markup(chosen.name)}": '
        + ", ".join(shown[:SAMPLE])
        + (" ..." if len(shown) + len(more) > SAMPLE else ""),
        "\n".join([*shown, *more, *left_out]),
        facts={"sequence": {"id": chosen.id, "name": chosen.name}, "leads": shown, "left out": left_out},
        size=len(asked_for),
    )


async def unenrol(context: Context, name: str, keys: Sequence[str], client: Client) -> Outcome:
    """Take leads out of a sequence; they can be enrolled again."""
    chosen = await find_sequence(context, name)

    async def one(key: str) -> tuple[str, str | None]:
        lead = await context.lead(key)
        return lead.id, await context.crm(EndsSequences).unenroll(chosen.id, lead.id)

    done = await one_by_one(keys, one, client)
    await let_go(context, chosen.id, done.succeeded)
    summary = f'took {len(done.succeeded)} of {len(keys)} leads out of "{escape_markup(chosen.name)}"'
    return _batch(summary, chosen.id, done.succeeded, done.failed)


async def let_go(context: Context, sequence: str, leads: Sequence[str]) -> None:
    """Let these leads be enrolled in a sequence again: they are in it no more."""
    held = await context.store.actions.held_by([enrolment_key(context.connection, sequence, each) for each in leads])
    for action in {each.id for each in held.values()}:
        await context.store.actions.let_go(action, [key for key, holder in held.items() if holder.id == action])


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


def enrolled(
    facts: Mapping[str, Any], succeeded: list[str], failed: list[Rejected], released: tuple[str, ...] = ()
) -> Outcome:
    """Say who was enrolled, with those who were left out before."""
    sequence = facts["sequence"]
    unable = [Rejected(item=item, reason=reason) for item, reason in facts["left out"]]
    total = len(facts["leads"]) + len(unable)
    summary = f'enrolled {len(succeeded)} of {total} leads in "{escape_markup(sequence["name"])}"'
    return _batch(summary, sequence["id"], succeeded, [*unable, *failed], released)


def _batch(
    summary: str, sequence: str, succeeded: list[str], failed: list[Rejected], released: tuple[str, ...] = ()
) -> Outcome:
    fields: dict[str, Any] = {"succeeded": succeeded, "failed": [each.shown() for each in failed]}
    touched = (("sequence", sequence), *(("lead", each) for each in succeeded))
    lead = succeeded[0] if len(succeeded) == 1 else None
    # In and out of a sequence change the same: after the one, the other again is no repeat.
    kept = {"verb": "enrolment", "id": sequence, "after": dict.fromkeys(succeeded)} if succeeded else None
    return Outcome(summary, fields, lead, touched, kept, size=max(len(succeeded), 1), released=released)
