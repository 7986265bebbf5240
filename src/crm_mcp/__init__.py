"""crm-mcp: the operations of a CRM for AI agents, behind guards worth trusting."""

__version__ = "0.1.0"
