"""The adapter and the emulator, with real HTTP between them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from crm_mcp.backends.http import Api
from crm_mcp.backends.remote import Access
from crm_mcp.backends.salessheet import SalesSheet
from crm_mcp.sandbox.salessheet import SalesSheetEmulator
from crm_mcp.sandbox.serving import serving

Emulated = Callable[..., tuple[SalesSheetEmulator, SalesSheet]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Api, "first_pause", 0.01)


@pytest.fixture
def emulated(tmp_path: Path) -> Generator[Emulated]:
    """Opens an emulator with switches, and an adapter for it; the adapter is given `key` and `keys`."""
    with ExitStack() as stack:

        def open_one(
            *, key: str = SalesSheetEmulator.key, keys: dict[str, str] | None = None, **how: Any
        ) -> tuple[SalesSheetEmulator, SalesSheet]:
            vendor = SalesSheetEmulator(**how)
            access = Access(
                key=SecretStr(key),
                rate_limit_file=tmp_path / "pace.sqlite3",
                base_url=stack.enter_context(serving(vendor)),
                country="US",
                keys=keys or {},
                minute=how.get("minute", 60.0),
            )
            return vendor, SalesSheet(access)

        yield open_one


@pytest.fixture
async def opened(emulated: Emulated) -> AsyncGenerator[tuple[SalesSheetEmulator, SalesSheet]]:
    vendor, crm = emulated()
    yield vendor, crm
    await crm.aclose()
