"""How SalesPulse is spoken to: its terms, its lists, and one contact."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, ClassVar

from crm_mcp.backends.http import ApiProfile, Method, Query
from crm_mcp.backends.lists import Leaf, gathered, pages
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.remote import Access, Remote, overridden, rows_in, total_in
from crm_mcp.backends.salespulse.codec import NAME, identity
from crm_mcp.backends.salespulse.keys import Keys
from crm_mcp.errors import SettingsError, choices
from crm_mcp.model import Account

# Documented paths.
CONTACTS = "/contacts"
CONTACT = "/contacts/{}"
BULK = "/contacts/bulk"
STAGE = "/contacts/{}/stage"
CALLS = "/calls"
CALL = "/calls/{}"
START_CALL = "/calls/initiate"
DEALS = "/pipeline/deals"
STAGES = "/pipeline/stages"

PAGE = 100
"""Contacts that are asked for at once; the reference gives no maximum, a smaller one of the vendor's is borne."""
MOST_PAGES = 10
"""Pages of calls, of deals or of a search that are read for one answer."""
VERBS: tuple[Method, ...] = ("PATCH", "PUT", "POST")
"""Of a stage move, in the order in which they are tried."""


class SalesPulseApi(Remote):
    """Documented: 100 requests a minute, 10 of them to the bulk endpoint with up to 1,000 contacts each; plain HTTP is
    redirected, which is not followed."""

    vendor: ClassVar[str] = "salespulse"
    called: ClassVar[str] = NAME
    base_url: ClassVar[str] = "https://salespulse.app/api/v1"
    limits: ClassVar[Limits] = Limits(per_minute=100, bulk_per_minute=10, batch=1000)

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._keys = overridden(Keys(), access.keys, self.vendor)
        given = self._keys.stage_verb
        if given not in VERBS:
            raise SettingsError(f'keys of {self.vendor}: stage_verb is "{given}"; {choices(given, VERBS)}')
        self._verb: Method = given

    @classmethod
    def profile(cls, address: str, access: Access) -> ApiProfile:
        """Return how SalesPulse is spoken to: a Bearer key that begins with `sp_live_` (documented)."""
        hints = {401: "check CRM_MCP_API_KEY: it begins with sp_live_ and is made under Settings, API Keys"}
        return ApiProfile(NAME, address, access.key, hints=hints)

    async def check(self) -> Account:
        """Read one contact: the cheapest request there is, as no endpoint tells of the account."""
        rows, total = await self._rows(CONTACTS, "contacts", {"limit": 1})
        if total is None:
            return Account(found="at least one contact" if rows else "no contacts")
        return Account(found=f"{total:,} contact{'' if total == 1 else 's'}")

    async def _contact(self, lead: str) -> dict[str, Any]:
        return await self._record(CONTACT, lead, "lead", "contact", identity)

    async def _rows(self, path: str, name: str, query: Query) -> tuple[list[Any], int | None]:
        answer = await self._api.read("GET", path, query)
        return rows_in(answer, name), total_in(answer)

    async def _contacts(self, search: str | None, number: int, size: int = PAGE) -> tuple[list[Any], int | None]:
        return await self._rows(CONTACTS, "contacts", {"page": number, "limit": size, "search": search})

    def _pages(self, search: str | None = None, most: int | None = None) -> AsyncGenerator[Leaf]:
        """Yield the contacts page by page."""
        return pages(partial(self._contacts, search), identity, most=most)

    async def _history(self, path: str, name: str, query: Query) -> tuple[list[Any], bool]:
        """Return the rows of a list whose reference knows no pages, and whether these are all: others are asked for
        (inferred) only where the answer says that there are more."""

        async def fetch(number: int) -> tuple[list[Any], int | None]:
            return await self._rows(path, name, {**query, "page": number} if number > 1 else query)

        rows, total, _ = await gathered(pages(fetch, identity, most=MOST_PAGES, size=math.inf))
        return rows, total is None or len(rows) >= total
