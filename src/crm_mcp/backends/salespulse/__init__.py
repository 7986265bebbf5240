"""SalesPulse: people are contacts, a stage belongs to the person, deals can be read and not written.

Source: the vendor's API reference. Paths are documented; of the verbs all but those of the stage move and of the list
of deals are. There are no notes, tasks, tags, sequences, e-mail or SMS in it.
"""

from __future__ import annotations

from crm_mcp.backends import base
from crm_mcp.backends.salespulse.activity import SalesPulseActivity
from crm_mcp.backends.salespulse.deals import SalesPulseDeals
from crm_mcp.backends.salespulse.importing import SalesPulseImports
from crm_mcp.backends.salespulse.keys import Keys

__all__ = ["Keys", "SalesPulse"]


class SalesPulse(
    SalesPulseImports,
    SalesPulseActivity,
    SalesPulseDeals,
    base.ImportsLeads,
    base.FindsLeads,
    base.WritesLeads,
    base.MovesLeads,
    base.ListsOptions,
    base.DeletesRecords,
    base.ReadsDeals,
    base.SumsPipeline,
    base.HasOperations,
    base.ReadsActivity,
    base.ReadsCalls,
    base.StartsCalls,
    base.RecallsCalls,
):
    """SalesPulse behind its REST API: contacts and their import, calls, deals."""
