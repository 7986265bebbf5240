"""Dialsheet behind its REST API. What is documented, inferred and missing stands in docs/dialsheet.md."""

from __future__ import annotations

from typing import ClassVar

from crm_mcp.backends.base import DeletesRecords
from crm_mcp.backends.dialsheet.activity import DialsheetActivity
from crm_mcp.backends.dialsheet.deals import DialsheetDeals
from crm_mcp.backends.dialsheet.importing import DialsheetImports
from crm_mcp.backends.dialsheet.outreach import DialsheetOutreach
from crm_mcp.backends.dialsheet.records import Keys
from crm_mcp.backends.dialsheet.sheet import DEALS, LEAD, NOTES, TASK, TASKS
from crm_mcp.backends.dialsheet.tasks import DialsheetTasks
from crm_mcp.backends.http import at
from crm_mcp.errors import Unsupported
from crm_mcp.model import Account, RecordKind

__all__ = ["Dialsheet", "Keys"]


class Dialsheet(DialsheetImports, DialsheetActivity, DialsheetTasks, DialsheetDeals, DialsheetOutreach, DeletesRecords):
    """A dialler with a CRM: leads, their history, tasks, deals, e-mail, SMS and sequences."""

    deletes: ClassVar[frozenset[RecordKind]] = frozenset({"lead", "task"})

    async def check(self) -> Account:
        """Read one lead, as there is no cheaper way to try a key, and say how many there are."""
        rows, total = await self._leads_page({}, 1, 1)
        count = total if total is not None else len(rows)
        return Account(found=f"{count:,} lead" + ("" if count == 1 else "s"))

    async def goes_with(self, kind: RecordKind, record: str) -> dict[str, int]:
        """Count the notes, tasks and deals of a lead: whether they go with it is not documented, so they may."""
        self._require_deletable(kind)
        if kind == "task":
            await self.get_task(record)
            return {}
        await self._lead_record(record)
        counted = {
            name: len((await self._of_lead(path, record, sure=True)).rows)
            for name, path in (("notes", NOTES), ("tasks", TASKS), ("deals", DEALS))
        }
        return {name: count for name, count in counted.items() if count}

    async def delete(self, kind: RecordKind, record: str) -> None:
        """Delete a lead or a task; notes and deals can't be deleted (documented absence)."""
        self._require_deletable(kind)
        path = at(LEAD if kind == "lead" else TASK, record)
        await self._api.write("DELETE", path, missing=f'there is no {kind} "{record[:80]}"')

    def _require_deletable(self, kind: RecordKind) -> None:
        if kind not in self.deletes:
            raise Unsupported(
                f"dialsheet can't delete a {kind}", f"it can delete: {', '.join(sorted(self.deletes))}", wrote=False
            )
