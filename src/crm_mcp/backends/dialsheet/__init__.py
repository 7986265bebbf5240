"""Dialsheet behind its REST API. What is documented, inferred and missing stands in docs/dialsheet.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from crm_mcp.backends import base
from crm_mcp.backends.deleting import DeletesAtPaths
from crm_mcp.backends.dialsheet.activity import DialsheetActivity, DialsheetTasks
from crm_mcp.backends.dialsheet.api import DEALS, LEAD, NOTES, TASK, TASKS
from crm_mcp.backends.dialsheet.deals import DialsheetDeals
from crm_mcp.backends.dialsheet.importing import DialsheetImports
from crm_mcp.backends.dialsheet.keys import Keys
from crm_mcp.backends.dialsheet.outreach import DialsheetOutreach
from crm_mcp.model import RecordKind

__all__ = ["Dialsheet", "Keys"]


class Dialsheet(
    DialsheetImports,
    DialsheetActivity,
    DialsheetTasks,
    DialsheetDeals,
    DialsheetOutreach,
    DeletesAtPaths,
    base.ImportsLeads,
    base.FindsLeads,
    base.WritesLeads,
    base.ReadsActivity,
    base.LogsNotes,
    base.ReadsCalls,
    base.ReadsMessages,
    base.KeepsTasks,
    base.ReadsDeals,
    base.WritesDeals,
    base.MovesDeals,
    base.SumsPipeline,
    base.SendsEmail,
    base.SendsSms,
    base.RecallsMessages,
    base.RunsSequences,
    base.ListsOptions,
    base.DeletesRecords,
    base.HasOperations,
):
    """A dialler with a CRM: leads, their history, tasks, deals, e-mail, SMS and sequences."""

    deletes: ClassVar[frozenset[RecordKind]] = frozenset({"lead", "task"})
    """Notes and deals can't be deleted (documented absence)."""
    record_paths: ClassVar[Mapping[RecordKind, str]] = {"lead": LEAD, "task": TASK}

    async def goes_with(self, kind: RecordKind, record: str) -> dict[str, int]:
        """Count the notes, tasks and deals of a lead: whether they go with it is not documented, so they may."""
        await super().goes_with(kind, record)
        if kind == "task":
            return {}
        counted = {
            name: len((await self._of_lead(path, record, sure=True)).rows)
            for name, path in (("notes", NOTES), ("tasks", TASKS), ("deals", DEALS))
        }
        return {name: count for name, count in counted.items() if count}

    async def _existing(self, kind: RecordKind, record: str) -> object:
        return await (self.get_task(record) if kind == "task" else self._lead_record(record))
