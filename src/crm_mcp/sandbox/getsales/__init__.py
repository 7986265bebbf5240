"""An emulator of the GetSales API: `GetSalesEmulator`."""

from crm_mcp.sandbox.getsales.workspace import GetSalesEmulator

__all__ = ["GetSalesEmulator"]
