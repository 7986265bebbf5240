"""Enrolments item by item: each lead meets every rule once more when it is its turn, and is enrolled just after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from crm_mcp.actions.context import Context
from crm_mcp.actions.enrolment.run import (
    OF_ONE,
    as_shown,
    channels_of,
    enrolled,
    enrolment_dedup_key,
    enrolment_key,
    given_key,
    is_over,
    on_our_list,
)
from crm_mcp.actions.guards import inbound, new_addresses, rules
from crm_mcp.actions.guards.rules import ENROLMENT
from crm_mcp.actions.intent import DOUBTED, Bulk, Client, Decision, ItemResult, Outcome, passed, under_way
from crm_mcp.actions.jobs import PATIENCE
from crm_mcp.backends.base import FindsLeads, RunsSequences
from crm_mcp.channels import CHANNELS
from crm_mcp.errors import saying
from crm_mcp.model import Lead, Rejected
from crm_mcp.store import Action, ClaimConditions, Item, Stopped

COUNTED = ("daily_limit", "contact_limit")
"""Rules that are counted as an item takes its turn: what the job has counted for it already is left out then."""


def bulk(context: Context, client: Client) -> Bulk:
    """Enrol lead after lead, each under every rule at the moment of its turn."""
    crm = context.crm(RunsSequences)
    taken: dict[int, str] = {}
    """The deduplication keys that items have taken at their turn."""

    async def do(row: Action, items: Sequence[Item]) -> Sequence[ItemResult]:
        from crm_mcp.backends.rate_limit import bulk_work  # start-up counts

        with bulk_work(PATIENCE):
            return [await _enrol_one(context, row, each, taken) for each in items]

    async def look_up(row: Action, item: Item) -> ItemResult | None:
        lead = await _lead_of(context, item)
        if await crm.enrolled(row.facts["sequence"]["id"], lead.id):
            return _not_enrolled(item, lead.id)
        return ItemResult("waiting", {}) if crm.enrols_once else None

    def sum_up(row: Action, items: Sequence[Item]) -> Outcome:
        failed = [
            Rejected(item=_name(each), reason=(each.result or {}).get("reason") or "not tried")
            for each in items
            if each.status != "done"
        ]
        return enrolled(row.facts, [_name(each) for each in items if each.status == "done"], failed)

    def dedup_keys(row: Action, item: Item) -> tuple[str, ...]:
        first = given_key(context, row.facts["sequence"]["id"], item.payload["lead"])
        return tuple({first, taken.get(item.no, first)})

    return Bulk(
        items=lambda row: [{"lead": each} for each in row.facts["leads"]],
        at_once=1,
        do=do,
        reconcile=look_up,
        sum_up=sum_up,
        dedup_keys=dedup_keys,
        stopped=lambda: rules.kill_switch(context),
        progress=client.progress,
    )


def _name(item: Item) -> str:
    """Return what an item is called in results: the id of its lead, where that is known."""
    return (item.result or {}).get("lead") or item.payload["lead"][0]


def _not_enrolled(item: Item, lead: str, why: str | None = None) -> ItemResult:
    found: Mapping[str, str] = {} if lead == item.payload["lead"][0] else {"lead": lead}
    return ItemResult("failed", {"reason": why, **found}) if why else ItemResult("done", found)


async def _lead_of(context: Context, item: Item) -> Lead:
    """Read an item's lead: by its id where it was shown, else by what the call names it by."""
    given = item.payload["lead"]
    return await (context.lead(given[0]) if len(given) == 1 else context.crm(FindsLeads).get_lead(given[0]))


async def _enrol_one(context: Context, row: Action, item: Item, taken: dict[int, str]) -> ItemResult:
    """Enrol one lead of a job, if it is still the one that was shown, and may be reached."""
    lead = str(item.payload["lead"][0])
    try:
        with saying(wrote=False):  # it is only looked at
            found = await _lead_of(context, item)
            lead = found.id
            why, decision = await _why_not(context, row, item, found, taken)
        if why is None:
            with passed(decision):
                why = await context.crm(RunsSequences).enroll(row.facts["sequence"]["id"], lead)
    except OF_ONE as error:
        why = str(error)
    return _not_enrolled(item, lead, why)


def _changed(item: Item, lead: Lead) -> str | None:
    """Return that a lead is no longer as it was shown, where it was."""
    given = item.payload["lead"]
    same = len(given) == 1 or as_shown(lead) == given
    return None if same else "its name or an address has changed since it was shown"


async def _why_not(
    context: Context, row: Action, item: Item, lead: Lead, taken: dict[int, str]
) -> tuple[str | None, Decision]:
    """Return why a lead is not enrolled at its turn, and what the rules say of it; None: it may be, and its
    deduplication key is taken."""
    if changed := _changed(item, lead):
        return changed, Decision()
    channels = channels_of(row.facts["sequence"]["steps"])
    found = await rules.decide_on_person(context, lead, ENROLMENT, steps=channels)
    if why := await _forbidden(context, row, item, lead, found):
        return why, found
    # Where a limit forbids it, the claim of the turn has counted it anew, without what this job has counted already.
    why = await _take(context, row, item, lead, found, taken)
    return why, replace(found, reason=None) if found.rule in COUNTED else found


async def _forbidden(context: Context, row: Action, item: Item, lead: Lead, found: Decision) -> str | None:
    """Return what the rules say against a lead's turn."""
    unread = len(item.payload["lead"]) == 1
    if found.reason and found.rule not in COUNTED:
        return found.reason
    channels = channels_of(row.facts["sequence"]["steps"])
    # Whoever confirmed the job has said yes to what was shown to be new, and to nothing that was not.
    if unread or row.approved_by == "policy":
        if new := await new_addresses.fresh(context, lead, channels or CHANNELS):
            return f"{new[0]}, and enrol it on its own"
        if await inbound.replied(context, lead):
            return "it has answered since the last enrolment: enrol it on its own, and the user is asked"
    if found.person and not {*found.facts[DOUBTED]} <= {*row.facts.get(DOUBTED, ())}:
        return f"{found.person[0]}; enrol it on its own, and the user is asked"
    return None


async def _take(
    context: Context, row: Action, item: Item, lead: Lead, found: Decision, taken: dict[int, str]
) -> str | None:
    """Take the deduplication key of an enrolment, in the transaction that tests kill switch, duplicates and limits once
    more."""
    sequence = row.facts["sequence"]["id"]
    key = enrolment_key(context.connection, sequence, lead.id)
    holder = (await context.store.actions.held_by([key])).get(key)
    if holder and holder.id != row.id and await is_over(context, sequence, lead.id, holder):
        await context.store.actions.let_go(holder.id, [key])
    # Once more, because the CRM was asked for much since: the claim can't tell which channels the sequence uses.
    if said_no := await on_our_list(context, lead, channels_of(row.facts["sequence"]["steps"])):
        return said_no
    conditions = ClaimConditions(
        outward=True, dedup_keys=(enrolment_dedup_key(key, found.address),), quotas=found.quotas
    )
    first = given_key(context, sequence, item.payload["lead"])
    got = await context.store.actions.claim_item(row.id, first, conditions, fencing_token=_fencing_token(row))
    if got is None:
        taken[item.no] = key
        return None
    if isinstance(got, Stopped):
        return got.reason
    if got.earlier.id == row.id:
        return "the call names the same lead twice"
    return f"enrolled already, by action {got.earlier.id}"


def _fencing_token(row: Action) -> int:
    """Return the fencing token that this process holds the job by now."""
    work = under_way.get()
    return work.fencing_token() if work else row.fencing_token
