"""Deals, which Dialsheet calls opportunities, and the sums over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any, ClassVar, get_args

from crm_mcp.backends.base import MovesDeals, ReadsDeals, SumsPipeline, WritesDeals
from crm_mcp.backends.dialsheet.api import DEAL, DEALS, DialsheetApi, Listed, told
from crm_mcp.backends.http import at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.lists import part_of
from crm_mcp.backends.refusals import no_record, refuse_filters
from crm_mcp.backends.remote import grouped, refuse_clearing, text, worth_of_leads
from crm_mcp.errors import InvalidArgument, Unsupported, choices
from crm_mcp.model import (
    Deal,
    DealFields,
    DealFilter,
    DealStatus,
    Grouping,
    Page,
    Pipeline,
    Slice,
    StageOwner,
)

STATUSES: tuple[DealStatus, ...] = get_args(DealStatus)
CLEARABLE = ("value",)
_MOST_PAGES = 10
"""Pages of leads that are counted: a sixth of a minute's calls."""


class DialsheetDeals(ReadsDeals, WritesDeals, MovesDeals, SumsPipeline, DialsheetApi):
    """Deals. Documented are the list with its filters, creation, and that stage and value can be updated.

    The names in the bodies are inferred. Whether a deal is won or lost is not documented: it is read from the record's
    status where there is one, else from a stage that says won or lost; any other deal counts as open.
    """

    deal_filters: ClassVar[frozenset[str]] = frozenset({"stage", "lead", "status"})

    async def list_deals(self, wanted: DealFilter, part: Slice) -> Page[Deal]:
        """List deals, newest first. `status` is sifted here."""
        refuse_filters(self.called, "deals", wanted, self.deal_filters)
        if wanted.status and wanted.status not in STATUSES:
            raise InvalidArgument(f'"{wanted.status[:80]}" is no status of deals', choices(wanted.status, STATUSES))
        query = {"stage": wanted.stage or None}
        if wanted.lead is None:
            listed = await self._listed(DEALS, query)
        else:
            listed = await self._of_lead(DEALS, wanted.lead, query)
        deals = [
            each
            for each in self._decoded(listed)
            if (not wanted.status or _status(each) == wanted.status)
            and (wanted.lead is None or each.lead_id in (None, wanted.lead))
        ]
        return part_of(deals, part, total=None if wanted.status else listed.total)

    async def get_deal(self, deal: str) -> Deal:
        """Read one deal; there is no way to read a single one, so it is found among all."""
        return self._records.deal((await self._listed(DEALS)).find("deal", deal))

    async def create_deal(self, lead: str | None, fields: DealFields, stage: str | None) -> Deal:
        """Create a deal; in the stage that Dialsheet chooses where none is given."""
        if not fields.name:
            raise InvalidArgument("a deal needs a name", "give one", wrote=False)
        if fields.status:
            raise self._no_status()
        body = self._deal_body(fields)
        if stage:
            body[self._keys.deal_stage] = stage
        missing = ""
        if lead is not None:
            at("{}", lead)
            body[self._keys.deal_lead] = lead
            missing = no_record("lead", lead)
        record = told(await self._api.write("POST", DEALS, body, missing=missing), "opportunity", "deal")
        refuse_written_other(lead, text(self._records.value(record, "deal_lead")))
        return await self._deal_as_it_is(record, text(record.get("id")), body)

    async def update_deal(self, deal: str, fields: DealFields, clear: Seq[str] = ()) -> Deal:
        """Change name or value. A status is sent only where the deal's record has one: it is not documented."""
        body = self._deal_body(fields)
        refuse_clearing(fields.model_dump(), clear, CLEARABLE)
        if clear:
            body[self._keys.deal_value] = None
        if fields.status:
            record = (await self._listed(DEALS)).find("deal", deal)
            if not text(record.get(self._keys.deal_status)):
                raise self._no_status()
            body[self._keys.deal_status] = fields.status
        return await self._put_deal(deal, body) if body else await self.get_deal(deal)

    async def move_deal(self, deal: str, stage: str) -> Deal:
        """Move a deal to a stage, as it is called: the stages can't be listed, so Dialsheet judges it."""
        if not stage.strip():
            raise InvalidArgument("the stage is empty", "give the name of one", wrote=False)
        return await self._put_deal(deal, {self._keys.deal_stage: stage})

    async def pipeline(self, of: StageOwner, by: Grouping) -> Pipeline:
        """Group all deals, in one call, by stage, status, owner or the month that they close in; or leads by status, at
        most the 1,000 that come first (`partial` then). Stages come by name: their own order can't be read."""
        able = ("stage", "status", "owner", "month") if of == "deals" else ("status",)
        if by not in able:
            raise Unsupported(f"dialsheet can't group {of} by {by}", f"it can by {', '.join(able)}")
        listed = await self._listed(DEALS)
        deals = self._decoded(listed)
        if of == "leads":
            return await self._of_leads(deals)
        names: dict[Grouping, Callable[[Deal], str | None]] = {
            "stage": lambda deal: deal.stage,
            "status": _status,
            "owner": lambda deal: deal.owner,
            "month": lambda deal: deal.closes_at.strftime("%Y-%m") if deal.closes_at else None,
        }
        there = {_status(deal) for deal in deals}
        order = [each for each in STATUSES if each in there] if by == "status" else []
        groups = grouped(((names[by](deal), deal.value or 0.0) for deal in deals), order)
        return Pipeline(groups=groups, total=max(len(deals), listed.total or 0), partial=listed.cut)

    async def _of_leads(self, deals: list[Deal]) -> Pipeline:
        worth = worth_of_leads(deal for deal in deals if _status(deal) == "open")
        rows, total, last = await self._leads_read({}, _MOST_PAGES)
        leads = [self._records.lead(row) for row in rows]
        groups = grouped((lead.status, worth.get(lead.id, 0.0)) for lead in leads)
        return Pipeline(groups=groups, total=max(len(leads), total or 0), partial=not last)

    def _decoded(self, listed: Listed) -> list[Deal]:
        """Return the deals of a list, those made last first."""
        return self._newest(listed, self._records.deal, lambda _: None)

    def _deal_body(self, fields: DealFields) -> dict[str, Any]:
        for name in ("currency", "closes_at"):
            if getattr(fields, name) is not None:
                raise Unsupported(
                    f"dialsheet documents no {name} of a deal", "it takes name, value, stage, lead", wrote=False
                )
        if fields.value is not None and not math.isfinite(fields.value):
            raise InvalidArgument("the value is no number", "give a finite amount", wrote=False)
        body = {self._keys.deal_name: fields.name, self._keys.deal_value: fields.value}
        return {name: value for name, value in body.items() if value is not None}

    @staticmethod
    def _no_status() -> Unsupported:
        return Unsupported(
            "dialsheet documents no status of a deal",
            "where a stage means won or lost, move the deal there with move_stage",
            wrote=False,
        )

    async def _put_deal(self, deal: str, body: dict[str, Any]) -> Deal:
        answer = await self._api.write("PUT", at(DEAL, deal), body, missing=no_record("deal", deal))
        record = told(answer, "opportunity", "deal")
        refuse_written_other(deal, text(record.get("id")))
        return await self._deal_as_it_is(record, deal, body)

    async def _deal_as_it_is(self, record: dict[str, Any], deal: str | None, sent: dict[str, Any]) -> Deal:
        """Return a deal as it is after a write, of which every name is inferred."""
        record = await self._as_it_is(DEALS, "deal", record, deal, sent)
        self._refuse_unkept(sent, record, sent)
        return self._records.deal(record)


def _status(deal: Deal) -> DealStatus:
    return deal.status or "open"
