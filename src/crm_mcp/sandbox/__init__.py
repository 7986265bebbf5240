"""Emulators of the four vendors' APIs on loopback, for trying things without an account and for the tests."""

from __future__ import annotations

from importlib import import_module

from crm_mcp.sandbox.emulator import Emulator

EMULATORS = {
    "dialsheet": "DialsheetEmulator",
    "salessheet": "SalesSheetEmulator",
    "salespulse": "SalesPulseEmulator",
    "getsales": "GetSalesEmulator",
}


def emulator_of(vendor: str) -> type[Emulator]:
    """Return the emulator of a vendor's API; raises KeyError where there is none."""
    found: type[Emulator] = getattr(import_module(f"crm_mcp.sandbox.{vendor}"), EMULATORS[vendor])
    return found
