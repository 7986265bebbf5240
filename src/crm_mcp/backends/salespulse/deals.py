"""Deals, which can be read alone, and the pipeline of deals and of contacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from crm_mcp.backends.base import ReadsDeals
from crm_mcp.backends.lists import gathered, newest_first, part_of
from crm_mcp.backends.pipelines import SumsLists
from crm_mcp.backends.refusals import meant, no_record, refuse_filters
from crm_mcp.backends.remote import moment
from crm_mcp.backends.salespulse.api import DEALS, MOST_PAGES
from crm_mcp.backends.salespulse.codec import NAME, deal_of
from crm_mcp.backends.salespulse.leads import SalesPulseLeads
from crm_mcp.errors import NotFound
from crm_mcp.model import Deal, DealFilter, Grouping, Lead, Page, Slice, StageOwner


class SalesPulseDeals(SalesPulseLeads, ReadsDeals, SumsLists):
    """The list of deals has no documented parameter: it is read as a whole, and filtered and ordered here."""

    deal_filters: ClassVar[frozenset[str]] = frozenset({"lead", "stage"})
    groupings: ClassVar[Mapping[StageOwner, tuple[Grouping, ...]]] = {"deals": ("stage",), "leads": ("stage",)}

    async def list_deals(self, wanted: DealFilter, part: Slice) -> Page[Deal]:
        """List deals, newest first where the vendor says when they were created; a stage is named by id or name."""
        refuse_filters(NAME, "deals", wanted, self.deal_filters)
        stage = meant("stage", wanted.stage, await self._stages.get()).name if wanted.stage else None
        deals, complete = await self._deals()
        found = [
            each
            for each in deals
            if (stage is None or each.stage == stage) and (wanted.lead is None or each.lead_id == wanted.lead)
        ]
        if wanted.lead is not None and not found:
            await self._contact(wanted.lead)
        return part_of(found, part, complete=complete)

    async def get_deal(self, deal: str) -> Deal:
        """Read one deal, out of the list: there is no other way."""
        for each in (await self._deals())[0]:
            if each.id == deal:
                return each
        raise NotFound(no_record("deal", deal), "list_deals has those that there are")

    async def _order(self, of: StageOwner, by: Grouping) -> list[str]:
        del of, by
        return [each.name for each in await self._stages.get(anew=True)]

    async def _every_deal(self) -> tuple[list[Deal], int, bool]:
        deals, complete = await self._deals()
        return deals, len(deals), complete

    async def _every_lead(self) -> tuple[list[Lead], int, bool]:
        """Contacts are read 100 a call, at most ten times: beyond 1,000 a pipeline is partial."""
        rows, told, last = await gathered(self._pages(most=MOST_PAGES))
        leads = await self._leads(rows)
        return leads, len(leads) if last else max(told or 0, len(leads)), last

    async def _deals(self) -> tuple[list[Deal], bool]:
        rows, complete = await self._history(DEALS, "deals", {})
        names = await self._names(rows)
        rows = newest_first(rows, lambda row: moment(row.get(self._keys.created)))
        return [deal_of(row, self._keys, names) for row in rows], complete
