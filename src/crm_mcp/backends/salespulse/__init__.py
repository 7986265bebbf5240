"""SalesPulse: people are contacts, a stage belongs to the person, deals can be read and not written.

Source: the vendor's API reference. Paths are documented; of the verbs all but those of the stage move and of the list
of deals are. There are no notes, tasks, tags, sequences, e-mail or SMS in it.
"""

from __future__ import annotations

from typing import ClassVar

from crm_mcp.backends.http import ApiProfile
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.remote import Access, rows_in, total_in
from crm_mcp.backends.salespulse.calls import SalesPulseCalls
from crm_mcp.backends.salespulse.deals import SalesPulseDeals
from crm_mcp.backends.salespulse.importing import SalesPulseImports
from crm_mcp.backends.salespulse.shapes import NAME, Keys
from crm_mcp.model import Account

__all__ = ["Keys", "SalesPulse"]


class SalesPulse(SalesPulseImports, SalesPulseCalls, SalesPulseDeals):
    """SalesPulse behind its REST API: contacts and their import, calls, deals.

    Documented: 100 requests a minute, 10 of them to the bulk endpoint with up to 1,000 contacts each; plain HTTP is
    redirected, which is not followed.
    """

    vendor: ClassVar[str] = "salespulse"
    base_url: ClassVar[str] = "https://salespulse.app/api/v1"
    limits: ClassVar[Limits] = Limits(per_minute=100, bulk_per_minute=10, batch=1000)

    @classmethod
    def profile(cls, address: str, access: Access) -> ApiProfile:
        """Return how SalesPulse is spoken to: a Bearer key that begins with `sp_live_` (documented)."""
        hints = {401: "check CRM_MCP_API_KEY: it begins with sp_live_ and is made under Settings, API Keys"}
        return ApiProfile(NAME, address, access.key, hints=hints)

    async def check(self) -> Account:
        """Read one contact: the cheapest request there is, as no endpoint tells of the account."""
        answer = await self._api.read("GET", "/contacts", {"limit": 1})
        total = total_in(answer)
        if total is None:
            return Account(found="at least one contact" if rows_in(answer, "contacts") else "no contacts")
        return Account(found=f"{total:,} contact{'' if total == 1 else 's'}")
