"""The pipeline, which is of leads: GetSales has no deals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crm_mcp.backends.base import SumsPipeline
from crm_mcp.backends.getsales.api import COUNT, GetSalesApi, cannot
from crm_mcp.backends.remote import number_in, record_in
from crm_mcp.errors import VendorError
from crm_mcp.model import Group, Grouping, OptionKind, Pipeline, StageOwner

MOST_GROUPS = 40
"""Groups that are counted, since each costs a call."""


class GetSalesPipeline(SumsPipeline, GetSalesApi):
    """Counts leads."""

    async def pipeline(self, of: StageOwner, by: Grouping) -> Pipeline:
        """Count leads by stage, status or tag, one call a group. There are no deals, and so no values.

        A lead counts in each of its tags.
        """
        if of == "deals":
            raise cannot("sum deals", "it has none: stages sit on leads, so ask for leads")
        fields = {"stage": "pipeline_stage_uuid", "status": "status", "tag": "tags"}
        if by not in fields:
            raise cannot(f"group leads by {by}", f"it can by {', '.join(fields)}")
        kinds: dict[str, OptionKind] = {"stage": "stages", "status": "statuses", "tag": "tags"}
        options = await self.list_options(kinds[by])
        total = await self._count({})
        groups: list[Group] = []
        for each in options[:MOST_GROUPS]:
            wanted: Any = [each.id] if by == "tag" else each.id
            groups.append(Group(name=each.name, count=await self._count({fields[by]: wanted})))
        if by != "tag" and total and len(groups) > 1 and all(each.count == total for each in groups):
            raise VendorError(
                "GetSales counted all leads in every group, so it does not know the filter",
                "count_form under keys in the settings chooses the other form",
                wrote=False,
            )
        return Pipeline(groups=tuple(groups), total=total, partial=len(options) > MOST_GROUPS)

    async def _count(self, wanted: Mapping[str, Any]) -> int:
        both: dict[str, Any] = {"all": True, "filter": dict(wanted)}
        body: dict[str, Any] = (
            both if self._keys.count_form == "all" else {"filter": {"all": True, "leadFilter": dict(wanted)}}
        )
        answer = record_in(await self._api.read("POST", COUNT, body=body))
        for name in ("count", "total"):
            if (found := number_in(answer.get(name))) is not None:
                return int(found)
        raise VendorError("GetSales' answer has no count", "try again", detail=repr(answer)[:300], wrote=False)
