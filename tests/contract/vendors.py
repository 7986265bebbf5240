"""The backends that the contract is tested on, each with the way to one, and what a test can't ask a backend itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from crm_mcp.backends.base import Backend
from crm_mcp.backends.dialsheet import Dialsheet
from crm_mcp.backends.getsales import GetSales
from crm_mcp.backends.local import Local
from crm_mcp.backends.remote import Access, Remote
from crm_mcp.backends.salespulse import SalesPulse
from crm_mcp.backends.salessheet import SalesSheet
from crm_mcp.model import CustomValue, LeadFields
from crm_mcp.sandbox.dialsheet import DialsheetEmulator
from crm_mcp.sandbox.emulator import Emulator
from crm_mcp.sandbox.getsales import GetSalesEmulator
from crm_mcp.sandbox.salespulse import SalesPulseEmulator
from crm_mcp.sandbox.salessheet import SalesSheetEmulator

MINUTE = 0.25
"""Seconds: so long is a minute of the limits, so that no test waits for one."""
OF_LEADS = frozenset(LeadFields.model_fields) - {"list"}


@dataclass(frozen=True)
class Vendor:
    """A backend: its class says what it can do, `opened` gives one to work with."""

    backend: type[Backend]
    opened: Callable[[Path, str, bool], Backend]
    """Opens one in a folder, at a base URL, with the sample or without."""
    emulator: Callable[[], Emulator] | None = None
    """Makes what is behind it; None where it is a CRM by itself."""
    lacks: frozenset[str] = frozenset()
    """The fields of `LeadFields` that it can't hold, by the documentation of its API."""
    deals_lack: frozenset[str] = frozenset()
    """The fields of `DealFields` that it can't hold, as no source names them."""
    custom: Mapping[str, CustomValue] = field(default_factory=lambda: {"seats": 3, "region": "north"})
    """Two custom fields that it takes, as it gives them back."""
    lists: tuple[str, str] = ("Fair", "Web")
    """Two lists that a lead can be put in."""
    names_imported: bool = True
    """Whether an import tells the ids of new leads; False where the batch's answer is not documented to."""
    checks_rows: bool = True
    """Whether an import looks at addresses; False where the rows must have them in their normal form."""

    @property
    def name(self) -> str:
        """What it is called in the settings."""
        return self.backend.vendor

    @property
    def holds(self) -> frozenset[str]:
        """The fields of a lead that can be written and are read back."""
        return OF_LEADS - self.lacks


def _local(folder: Path, _: str, sample: bool) -> Backend:
    return Local(folder / "data", country="US", sample=sample)


def _remote(backend: type[Remote], emulator: type[Emulator], **settings: Any) -> Callable[[Path, str, bool], Backend]:
    def opened(folder: Path, url: str, _: bool) -> Backend:
        return backend(
            Access(
                key=SecretStr(emulator.key),
                rate_limit_file=folder / "pace.sqlite3",
                base_url=url,
                country="US",
                per_minute=10_000,
                minute=MINUTE,
                **settings,
            )
        )

    return opened


VENDORS: Mapping[str, Vendor] = {
    "local": Vendor(Local, _local, checks_rows=False),
    "dialsheet": Vendor(
        Dialsheet,
        _remote(Dialsheet, DialsheetEmulator),
        lambda: DialsheetEmulator(minute=MINUTE, per_minute=10_000),
        lacks=frozenset({"owner", "tags", "list"}),
        deals_lack=frozenset({"currency", "closes_at"}),
    ),
    "salessheet": Vendor(
        SalesSheet,
        _remote(SalesSheet, SalesSheetEmulator),
        lambda: SalesSheetEmulator(minute=MINUTE, plan="enterprise"),
        lacks=frozenset({"tags", "list"}),
        custom={"cf_seats": 3, "cf_industry": "food"},  # its ids are checked (documented)
    ),
    "salespulse": Vendor(
        SalesPulse,
        _remote(SalesPulse, SalesPulseEmulator),
        lambda: SalesPulseEmulator(minute=MINUTE),
        lacks=frozenset({"status", "owner", "tags", "list"}),
        names_imported=False,
    ),
    "getsales": Vendor(
        GetSales,
        _remote(GetSales, GetSalesEmulator, list="Inbound"),
        lambda: GetSalesEmulator(minute=MINUTE, per_minute=10_000),
        lacks=frozenset({"status", "owner"}),
        custom={"budget": "3", "industry_focus": "food"},  # values are text (found)
        lists=("Spring conference", "Inbound"),
    ),
}
