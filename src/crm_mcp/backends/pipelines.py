"""Sums over deals and leads where a CRM gives lists alone: they are read, and summed here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from crm_mcp.backends.base import SumsPipeline
from crm_mcp.backends.remote import Remote, grouped, worth_of_leads
from crm_mcp.errors import Unsupported
from crm_mcp.model import Deal, Grouping, Lead, Pipeline, StageOwner


class SumsLists(SumsPipeline, Remote):
    """Groups what is read of two lists."""

    groupings: ClassVar[Mapping[StageOwner, tuple[Grouping, ...]]]
    counts_as_open: ClassVar[tuple[str | None, ...]] = ("open", None)
    """The statuses of a deal that is open; None: it has none."""

    async def pipeline(self, of: StageOwner, by: Grouping) -> Pipeline:
        """Group deals or leads, `partial` where there are more than are read.

        `value` sums the group's deals (of leads: their open ones), in whatever currency. Months are those in which
        leads were created and deals close.

        Raises:
            Unsupported: the grouping is none that this CRM has.
        """
        if by not in self.groupings[of]:
            able = ", ".join(self.groupings[of])
            what = "" if self.groupings["deals"] == self.groupings["leads"] else f"group {of} "
            raise Unsupported(f"{self.called} can't group {of} by {by}", f"it can {what}by {able}")
        order = await self._order(of, by)
        deals, total, whole = await self._every_deal()
        if of == "deals":
            groups = grouped(((_group(each, by), each.value or 0.0) for each in deals), order)
            return Pipeline(groups=groups, total=total, partial=not whole)
        worth = worth_of_leads(each for each in deals if each.status in self.counts_as_open)
        leads, total, all_of_them = await self._every_lead()
        groups = grouped(((_group(each, by), worth.get(each.id, 0.0)) for each in leads), order)
        return Pipeline(groups=groups, total=total, partial=not (whole and all_of_them))

    @abstractmethod
    async def _order(self, of: StageOwner, by: Grouping) -> Sequence[str]:
        """Return the names of groups that have an order, as a stage has."""

    @abstractmethod
    async def _every_deal(self) -> tuple[Sequence[Deal], int, bool]:
        """Return the deals, how many there are as far as is known, and whether these are all."""

    @abstractmethod
    async def _every_lead(self) -> tuple[Sequence[Lead], int, bool]:
        """Return the leads, how many there are as far as is known, and whether these are all."""


def _group(each: Deal | Lead, by: Grouping) -> str | None:
    if by == "month":
        when = each.closes_at if isinstance(each, Deal) else each.created_at
        return when.strftime("%Y-%m") if when else None
    found: str | None = getattr(each, by)
    return found
