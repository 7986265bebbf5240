"""SalesSheet.ai, by the REST API that its help article describes.

Its present API page describes another interface, MCP over JSON-RPC, and denies that there is a REST API. The article is
what is built to; the base URL is a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from crm_mcp.backends import base
from crm_mcp.backends.deleting import DeletesAtPaths
from crm_mcp.backends.salessheet.activity import SalesSheetActivity, SalesSheetTasks
from crm_mcp.backends.salessheet.api import ACTIVITIES, CONTACTS, DEALS, TASKS
from crm_mcp.backends.salessheet.deals import SalesSheetDeals
from crm_mcp.backends.salessheet.importing import SalesSheetImports
from crm_mcp.model import RecordKind

__all__ = ["SalesSheet"]

_PATHS: dict[RecordKind, str] = {"lead": CONTACTS, "task": TASKS, "deal": DEALS, "note": ACTIVITIES}


class SalesSheet(
    SalesSheetImports,
    SalesSheetActivity,
    SalesSheetTasks,
    SalesSheetDeals,
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
    base.ListsOptions,
    base.DeletesRecords,
    base.HasOperations,
):
    """SalesSheet.ai: contacts are leads, stages sit on deals, activities are notes, calls and e-mails.

    Not served, because the documentation gives no way: sequences, sending, tags, calls that ring. Nor is an upsert in
    one step: `POST /contacts/batch` creates or updates, but by which key it recognises a contact is not documented, so
    nothing could be promised of it.
    """

    record_paths: ClassVar[Mapping[RecordKind, str]] = {kind: path + "/{}" for kind, path in _PATHS.items()}
    deletes: ClassVar[frozenset[RecordKind]] = frozenset(_PATHS)

    async def _existing(self, kind: RecordKind, record: str) -> object:
        return await self._one(_PATHS[kind], record)
