"""SalesSheet.ai, by the REST API that its help article describes.

Its present API page describes another interface, MCP over JSON-RPC, and denies that there is a REST API. The article is
what is built to; the base URL is a setting.
"""

from __future__ import annotations

from typing import ClassVar

from crm_mcp.backends.base import DeletesRecords
from crm_mcp.backends.http import at
from crm_mcp.backends.remote import record_in, text
from crm_mcp.backends.salessheet.activity import SalesSheetActivity
from crm_mcp.backends.salessheet.api import ACTIVITIES, CONTACTS, DEALS, ME, TASKS
from crm_mcp.backends.salessheet.deals import SalesSheetDeals
from crm_mcp.backends.salessheet.decoding import part_in
from crm_mcp.backends.salessheet.importing import SalesSheetImports
from crm_mcp.backends.salessheet.tasks import SalesSheetTasks
from crm_mcp.model import Account, RecordKind

__all__ = ["SalesSheet"]

_PATHS: dict[RecordKind, str] = {"lead": CONTACTS, "task": TASKS, "deal": DEALS, "note": ACTIVITIES}
_PLANS = {100: "Pro", 500: "Enterprise"}


class SalesSheet(SalesSheetImports, SalesSheetActivity, SalesSheetTasks, SalesSheetDeals, DeletesRecords):
    """SalesSheet.ai: contacts are leads, stages sit on deals, activities are notes, calls and e-mails.

    Not served, because the documentation gives no way: sequences, sending, tags, calls that ring. Nor is an upsert in
    one step: `POST /contacts/batch` creates or updates, but by which key it recognises a contact is not documented, so
    nothing could be promised of it.
    """

    deletes: ClassVar[frozenset[RecordKind]] = frozenset(_PATHS)

    async def check(self) -> Account:
        """Read `GET /me`: user and organisation (documented); scope and plan as far as it tells them.

        The plan is else told by the limit of calls a minute, which every answer gives (documented): 100 is Pro, 500
        Enterprise.
        """
        told = record_in(await self._api.read("GET", ME))
        user, organisation = part_in(told, "user"), part_in(told, "organization", "organisation")
        key = part_in(told, "api_key", "key")
        plan = next((found for each in (organisation, told) if (found := text(each.get("plan")))), None)
        limit = next((each.limit for each in self._api.budget() if each.name == "minute"), 0)
        scope = next((found for each in (key, told) if (found := text(each.get("scope")))), None)
        known = [each for each in (plan or _PLANS.get(limit), scope) if each]
        name = text(organisation.get("name"))
        return Account(
            user=text(user.get("email")) or text(user.get("name")) or text(told.get("email")) or text(told.get("name")),
            found=f"organisation {name}" if name else "the key works",
            plan=", ".join(known) or None,
        )

    async def goes_with(self, kind: RecordKind, record: str) -> dict[str, int]:
        """Return nothing, for a record that exists: what a deletion takes along is not documented."""
        await self._one(_PATHS[kind], record)
        return {}

    async def delete(self, kind: RecordKind, record: str) -> None:
        """Delete a record; a note is an activity, of whatever type."""
        missing = f'there is no {kind} "{record[:80]}"'
        await self._api.write("DELETE", at(_PATHS[kind] + "/{}", record), missing=missing)
        self._writes += 1
