"""Deals, which can be read alone, and the pipeline of deals and of contacts."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import ClassVar

from crm_mcp.backends.base import ReadsDeals, SumsPipeline
from crm_mcp.backends.remote import grouped, moment, part_of, worth_of_leads
from crm_mcp.backends.salespulse.leads import SalesPulseLeads
from crm_mcp.backends.salespulse.shapes import NAME, deal_of, identified
from crm_mcp.errors import InvalidArgument, NotFound, Unsupported, choices
from crm_mcp.model import Deal, DealFilter, Grouping, Lead, Page, Pipeline, Slice, StageOwner, fold

MOST_COUNTED = 10
"""Pages of contacts that are counted; beyond them a pipeline is partial."""


class SalesPulseDeals(SalesPulseLeads, ReadsDeals, SumsPipeline):
    """The list of deals has no documented parameter: it is read as a whole, and filtered and ordered here."""

    deal_filters: ClassVar[frozenset[str]] = frozenset({"lead", "stage"})

    async def list_deals(self, wanted: DealFilter, part: Slice) -> Page[Deal]:
        """List deals, newest first where the vendor says when they were created; a stage is named by id or name."""
        for name in wanted.shown():
            if name not in self.deal_filters:
                raise Unsupported(f"{NAME} can't filter deals by {name}", "it can by lead, stage")
        stage = await self._stage_name(wanted.stage) if wanted.stage else None
        deals, complete = await self._deals()
        found = [
            each
            for each in deals
            if (stage is None or each.stage == stage) and (wanted.lead is None or each.lead_id == wanted.lead)
        ]
        if wanted.lead is not None and not found:
            await self._contact(wanted.lead)
        page = part_of(found, part)
        return page if complete else page.model_copy(update={"total": None})

    async def get_deal(self, deal: str) -> Deal:
        """Read one deal, out of the list: there is no other way."""
        for each in (await self._deals())[0]:
            if each.id == deal:
                return each
        raise NotFound(f'there is no deal "{deal[:80]}"', "list_deals has those that there are")

    async def pipeline(self, of: StageOwner, by: Grouping) -> Pipeline:
        """Count deals or contacts by stage; `value` sums the deals, of contacts their deals that are not won or lost.

        Contacts are read 100 a call, at most ten times: beyond 1,000 the answer is partial.

        Raises:
            Unsupported: the grouping is not by stage.
        """
        if by != "stage":
            raise Unsupported(f"{NAME} can't group {of} by {by}", "it can by stage")
        stages = [each.name for each in await self._listed_stages(fresh=True)]
        deals, complete = await self._deals()
        if of == "deals":
            groups = grouped(((each.stage, each.value or 0.0) for each in deals), stages)
            return Pipeline(groups=groups, total=len(deals), partial=not complete)
        worth = worth_of_leads(each for each in deals if each.status not in ("won", "lost"))
        leads, total, all_of_them = await self._counted()
        groups = grouped(((each.stage, worth.get(each.id, 0.0)) for each in leads), stages)
        return Pipeline(groups=groups, total=total, partial=not (complete and all_of_them))

    async def _counted(self) -> tuple[list[Lead], int, bool]:
        """Return the contacts of the first ten pages, how many there are as far as is known, and if these are all."""
        leads: list[Lead] = []
        ended, told = False, 0
        async with aclosing(self._pages(most=MOST_COUNTED)) as pages:
            async for rows, total in pages:
                names = await self._names(rows)
                leads += [self._decoded(row, names) for row in rows]
                told = max(told, total or 0)
                ended = not rows or (total is not None and len(leads) >= total)
        return leads, len(leads) if ended else max(told, len(leads)), ended

    async def _deals(self) -> tuple[list[Deal], bool]:
        rows, complete = await self._history("/pipeline/deals", {}, "deals")
        names = await self._names(rows)
        first = datetime.min.replace(tzinfo=UTC)
        found = sorted(
            map(identified, rows), key=lambda row: moment(row.get(self._keys.created)) or first, reverse=True
        )
        return [deal_of(row, self._keys, names) for row in found], complete

    async def _stage_name(self, stage: str) -> str:
        stages = await self._listed_stages()
        for each in stages:
            if stage == each.id or fold(stage) == fold(each.name):
                return each.name
        raise InvalidArgument(f'there is no stage "{stage[:80]}"', choices(stage, [each.name for each in stages]))
