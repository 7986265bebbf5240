"""`python -m crm_mcp` is `crm-mcp`."""

from crm_mcp.cli import main

main()
