"""The toolset `deals`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.intent import Outcome, Preview
from crm_mcp.actions.summary import escape_markup, quote_label, show_exactly
from crm_mcp.actions.undo.undo import note_of, told
from crm_mcp.backends.base import (
    ListsOptions,
    MovesDeals,
    MovesLeads,
    ReadsDeals,
    SumsPipeline,
    WritesDeals,
)
from crm_mcp.errors import Ambiguous, InvalidArgument, NotFound, Unsupported, choices
from crm_mcp.model import (
    Deal,
    DealFields,
    DealFilter,
    DealStatus,
    Grouping,
    Lead,
    Line,
    Option,
    Slice,
    StageOwner,
    fold,
)
from crm_mcp.server.arguments import Cursor, Id, LeadKey, Limit, When
from crm_mcp.server.pagination import listed
from crm_mcp.server.tool import Arguments, tool
from crm_mcp.store import Action

Value = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Currency = Annotated[str, StringConstraints(to_upper=True, pattern="^[A-Za-z]{3}$"), Field(description="as USD")]


@tool(Effect.READ, needs=ReadsDeals, across="deals")
async def list_deals(
    context: Context,
    stage: Line | None = None,
    lead: LeadKey | None = None,
    status: DealStatus | None = None,
    owner: Line | None = None,
    closes_before: When | None = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> dict[str, Any]:
    """List deals, newest first. For counts and sums use get_pipeline."""
    crm = context.crm(ReadsDeals)
    # Where stages sit on leads, a deal's stage is one of them.
    of: StageOwner = "deals" if context.can(MovesDeals) else "leads"
    wanted = DealFilter(
        stage=(await context.stage(stage, of)).id if stage else None,
        lead=(await context.lead(lead)).id if lead else None,
        status=status,
        owner=owner,
        closes_before=closes_before,
    )
    given = wanted.shown()
    for name in given:
        if name not in crm.deal_filters:
            raise Unsupported(
                f"{context.vendor} can't filter deals by {name}",
                f"it can by {', '.join(sorted(crm.deal_filters))}",
            )
    return await listed(
        context,
        "deals",
        {list_deals.name: given},
        limit,
        cursor,
        lambda part: crm.list_deals(wanted, part),
        counted=True,
    )


@tool(Effect.READ, needs=SumsPipeline)
async def get_pipeline(
    context: Context,
    of: Annotated[StageOwner | None, Field(description="default deals, where the CRM has them")] = None,
    group_by: Grouping = "stage",
) -> dict[str, Any]:
    """Count all deals or leads by group and sum their value, in one call. Of leads, value sums their open deals."""
    of = of or ("deals" if context.can(ReadsDeals) else "leads")
    answer = (await context.crm(SumsPipeline).pipeline(of, group_by)).shown()
    return answer if answer["partial"] else {name: answer[name] for name in ("groups", "total")}


@tool(Effect.WRITE, needs=WritesDeals, creates="deal")
async def create_deal(
    context: Context,
    name: Line,
    lead: LeadKey | None = None,
    value: Value | None = None,
    stage: Annotated[Line | None, Field(description="default the first")] = None,
    currency: Currency | None = None,
    closes_at: When | None = None,
) -> Outcome:
    """Create a deal, usually for a lead."""
    of = await context.lead(lead) if lead else None
    at = (await context.stage(stage, "deals")).id if stage else None
    fields = DealFields(name=name, value=value, currency=currency, closes_at=closes_at)
    deal = await context.crm(WritesDeals).create_deal(of.id if of else None, fields, at)
    touched = (("deal", deal.id), *((("lead", of.id),) if of else ()))
    return Outcome(f'created the deal "{name}" ({deal.id})', {"deal": deal.shown()}, deal.lead_id, touched)


class UpdateDeal(Arguments):
    deal: Id
    name: Line | None = None
    value: Value | None = None
    status: DealStatus | None = None
    closes_at: When | None = None

    def fields(self) -> DealFields:
        """Return what is to be changed."""
        return DealFields(name=self.name, value=self.value, status=self.status, closes_at=self.closes_at)


async def reconcile_update_deal(context: Context, call: UpdateDeal) -> Outcome | None:
    """Look whether the deal is as it was to be."""
    found = await context.crm(ReadsDeals).get_deal(call.deal)
    if not reconcile.has(context, found, call.fields().shown()):
        return None
    said = f'changed the deal "{found.name}" ({found.id})'
    return Outcome(said, {"deal": found.shown()}, found.lead_id, (("deal", found.id),))


@tool(Effect.WRITE, needs=(ReadsDeals, WritesDeals), reconcile=reconcile_update_deal, idempotent=True)
async def update_deal(context: Context, call: UpdateDeal) -> Outcome:
    """Change a deal. Its stage is changed by move_stage. Can be undone."""
    fields = call.fields()
    if not fields.shown():
        raise InvalidArgument("nothing to change is given", "give name, value, status or closes_at")
    before = await context.crm(ReadsDeals).get_deal(call.deal)
    after = await context.crm(WritesDeals).update_deal(call.deal, fields)
    kept = note_of("deal", before, after, ("name", "value", "status", "closes_at", "stage"))
    return Outcome(
        f'changed the deal "{after.name}" ({after.id}): {told(kept)}',
        {"deal": after.shown()},
        after.lead_id,
        (("deal", after.id),),
        kept,
    )


class MoveStage(Arguments):
    stage: Line
    lead: LeadKey | None = None
    deal: Id | None = None


async def ask_move_stage(context: Context, call: MoveStage) -> Preview:
    """Find what would be moved, and from where to where."""
    before, target = await _find_move(context, call)
    kind, label = ("lead", before.label) if isinstance(before, Lead) else ("deal", before.name or before.id)
    return Preview(
        f"Move {kind} {quote_label(label)} ({before.id}) from {escape_markup(before.stage or 'no stage')} "
        f"to {show_exactly(target.name)}",
        facts={kind: before.shown()},
        lead=before.id if isinstance(before, Lead) else before.lead_id,
    )


async def reconcile_move_stage(context: Context, call: MoveStage, row: Action) -> Outcome | None:
    """Look whether what was to be moved is in the stage."""
    lead, deal = call.lead, call.deal
    target = await _stage(context, call.stage)
    moved: Lead | Deal | None
    if lead and target.of == "leads":
        moved = await context.lead(row.lead or lead)
    elif deal:
        moved = await context.crm(ReadsDeals).get_deal(deal)
    else:
        # A lead stood for its only open deal, which may be open no more: it is known where there is no other.
        page = await context.crm(ReadsDeals).list_deals(
            DealFilter(lead=(await context.lead(lead or "")).id), Slice(limit=2)
        )
        moved = page.items[0] if len(page.items) == 1 else None
    if moved is None or fold(moved.stage or "") != fold(target.name):
        return None
    before = row.facts.get("lead" if isinstance(moved, Lead) else "deal")
    if isinstance(moved, Lead):
        was = Lead.model_validate(before) if before else moved
        return _moved("lead", was, moved, moved.label, moved.id, (("lead", moved.id),))
    was = Deal.model_validate(before) if before else moved
    touched = (("deal", moved.id), *((("lead", moved.lead_id),) if moved.lead_id else ()))
    return _moved("deal", was, moved, f'"{moved.name}"', moved.lead_id, touched)


@tool(Effect.WRITE, needs=ListsOptions, ask=ask_move_stage, reconcile=reconcile_move_stage, idempotent=True)
async def move_stage(context: Context, call: MoveStage) -> Outcome:
    """Move a lead or a deal to a stage, as "Negotiation".

    Give lead or deal, not both; a lead may stand for its only open deal. list_options has the stages. Can be undone,
    but not what the CRM's own automations do on a move.
    """
    before, target = await _find_move(context, call)
    if isinstance(before, Lead):
        return await _move_lead(context, before, target)
    return await _move_deal(context, before, target)


async def _find_move(context: Context, call: MoveStage) -> tuple[Lead | Deal, Option]:
    """Return the lead or deal that is meant, and the stage."""
    stage, lead, deal = call.stage, call.lead, call.deal
    if deal and not lead:
        if not context.can(MovesDeals):
            raise Unsupported(f"in {context.vendor} stages sit on leads", "give lead")
        target = await _stage(context, stage)
        if target.of == "leads":
            names = [each.name for each in await context.stages("deals")]
            raise InvalidArgument(f'"{target.name}" is a stage of leads', choices(stage, names))
        return await context.crm(ReadsDeals).get_deal(deal), target
    if deal or not lead:
        raise InvalidArgument("give either lead or deal", "lead may stand for its only open deal")
    found = await context.lead(lead)
    target = await _stage(context, stage)
    return (found if target.of == "leads" else await _only_open_deal(context, found)), target


async def _stage(context: Context, name: str) -> Option:
    movable: set[StageOwner] = set()
    if context.can(MovesLeads):
        movable.add("leads")
    if context.can(MovesDeals):
        movable.add("deals")
    if not movable:
        raise Unsupported(f"{context.vendor} has no stages that can be moved", "see crm_status for what it can do")
    return await context.stage(name, None if len(movable) == 2 else movable.pop())


async def _only_open_deal(context: Context, lead: Lead) -> Deal:
    deals = await context.open_deals(lead.id)
    if not deals:
        raise NotFound(f"{lead.label} ({lead.id}) has no open deal", "create one with create_deal")
    first, *others = deals
    if others:
        listed_deals = ", ".join(f"{each.id} {each.name} ({each.stage})" for each in deals)
        raise Ambiguous(f"{lead.label} has {len(deals)} open deals: {listed_deals}", "give deal")
    return first


async def _move_deal(context: Context, before: Deal, target: Option) -> Outcome:
    after = await context.crm(MovesDeals).move_deal(before.id, target.id)
    touched = (("deal", after.id), *((("lead", after.lead_id),) if after.lead_id else ()))
    return _moved("deal", before, after, f'"{after.name}"', after.lead_id, touched)


async def _move_lead(context: Context, before: Lead, target: Option) -> Outcome:
    after = await context.crm(MovesLeads).move_lead(before.id, target.id)
    return _moved("lead", before, after, after.label, after.id, (("lead", after.id),))


def _moved(
    kind: str,
    before: Lead | Deal,
    after: Lead | Deal,
    label: str,
    lead: str | None,
    touched: tuple[tuple[str, str], ...],
) -> Outcome:
    unchanged = fold(before.stage or "") == fold(after.stage or "")
    summary = (
        f"{label} ({after.id}) is in {after.stage}"
        if unchanged
        else f"moved {label} ({after.id}) from {before.stage} to {after.stage}"
    )
    fields = {"moved": kind, "id": after.id, "from_stage": before.stage, "to_stage": after.stage}
    return Outcome(summary, fields, lead, touched, note_of(f"{kind}_stage", before, after, ("stage",)))


TOOLS = (list_deals, get_pipeline, create_deal, update_deal, move_stage)
