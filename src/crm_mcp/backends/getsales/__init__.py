"""GetSales: contacts with stages, outreach by LinkedIn and e-mail, over its REST API.

What is known of that API, and from where, stands beside each fact: *documented* is the vendor's own reference, *found*
is a public client of GetSales, *sister product* is a deployment of the same platform under another name.
"""

from __future__ import annotations

from crm_mcp.backends.getsales.importing import Imports
from crm_mcp.backends.getsales.options import Account
from crm_mcp.backends.getsales.outreach import Outreach
from crm_mcp.backends.getsales.wire import Keys

__all__ = ["GetSales", "Keys"]


class GetSales(Imports, Account, Outreach):
    """People are contacts, called leads; a stage belongs to the person. There are no deals, calls, SMS or to-dos: what
    GetSales calls a task is outreach with a date."""
