"""GetSales: contacts with stages, outreach by LinkedIn and e-mail, over its REST API.

What is known of that API, and from where, stands beside each fact: *documented* is the vendor's own reference, *found*
is a public client of GetSales, *sister product* is a deployment of the same platform under another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from crm_mcp.backends import base
from crm_mcp.backends.deleting import DeletesAtPaths
from crm_mcp.backends.getsales.activity import GetSalesActivity
from crm_mcp.backends.getsales.api import LEAD, NOTE
from crm_mcp.backends.getsales.deals import GetSalesPipeline
from crm_mcp.backends.getsales.importing import GetSalesImports
from crm_mcp.backends.getsales.keys import Keys
from crm_mcp.backends.getsales.outreach import GetSalesOutreach
from crm_mcp.model import RecordKind

__all__ = ["GetSales", "Keys"]


class GetSales(
    GetSalesImports,
    GetSalesActivity,
    GetSalesPipeline,
    GetSalesOutreach,
    DeletesAtPaths,
    base.ImportsLeads,
    base.FindsLeads,
    base.WritesLeads,
    base.TagsLeads,
    base.MovesLeads,
    base.ReadsActivity,
    base.LogsNotes,
    base.ReadsMessages,
    base.RecallsMessages,
    base.SumsPipeline,
    base.SendsEmail,
    base.SendsLinkedIn,
    base.RunsSequences,
    base.EndsSequences,
    base.KeepsBlocklist,
    base.GivesMetrics,
    base.ListsOptions,
    base.DeletesRecords,
    base.HasOperations,
):
    """People are contacts, called leads; a stage belongs to the person. There are no deals, calls, SMS or to-dos: what
    GetSales calls a task is outreach with a date."""

    deletes: ClassVar[frozenset[RecordKind]] = frozenset(("lead", "note"))
    """A job deletes leads (sister product): they may be seen for a while."""
    record_paths: ClassVar[Mapping[RecordKind, str]] = {"lead": LEAD, "note": NOTE}

    async def _existing(self, kind: RecordKind, record: str) -> object:
        return await (self._lead_row(record) if kind == "lead" else self.get_note(record))
