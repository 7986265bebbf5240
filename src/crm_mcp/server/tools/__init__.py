"""All tools, in the order in which they are listed. The toolset of a tool is the file that it stands in."""

from __future__ import annotations

from crm_mcp.server.tool import Tool
from crm_mcp.server.tools import activity, admin, bulk, deals, leads, outreach, tasks, vendor

TOOLS: tuple[Tool, ...] = (
    *leads.TOOLS,
    *activity.TOOLS,
    *tasks.TOOLS,
    *deals.TOOLS,
    *outreach.TOOLS,
    *bulk.TOOLS,
    *admin.TOOLS,
    *vendor.TOOLS,
)
