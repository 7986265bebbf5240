"""SalesPulse's adapter at work on its emulator, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from crm_mcp.backends.salespulse import SalesPulse
from crm_mcp.sandbox.salespulse import SalesPulseEmulator

JANE: dict[str, Any] = {
    "first_name": "Jane",
    "last_name": "Smith",
    "phone": "+12125550101",
    "email": "jane@acme.example",
    "state": "FL",
    "product_interest": "final_expense",
}


class Pulse(NamedTuple):
    """The adapter and what it talks to."""

    crm: SalesPulse
    there: SalesPulseEmulator

    def put(self, **fields: Any) -> str:
        """Keep a contact as if it had been there before; returns its id."""
        return self.there.put(**fields)

    def wire(self, start: int = 0) -> list[tuple[str, str]]:
        """Return method and path of what arrived, without the prefix."""
        return [(each.method, each.path.removeprefix("/api/v1")) for each in self.there.journal[start:]]


Opened = Callable[..., AbstractAsyncContextManager[Pulse]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def opened(adapter_on: Callable[..., AbstractAsyncContextManager[tuple[Any, str]]]) -> Opened:
    """Opens an adapter with other keys or switches than usual."""

    @asynccontextmanager
    async def open_one(
        *,
        sample: bool = False,
        key: str = SalesPulseEmulator.key,
        keys: dict[str, str] | None = None,
        minute: float = 60.0,
        per_minute: int | None = None,
        **switches: Any,
    ) -> AsyncGenerator[Pulse]:
        there = SalesPulseEmulator(sample=sample, minute=minute, **switches)
        async with adapter_on(there, SalesPulse, key=key, keys=keys, per_minute=per_minute) as (crm, _):
            yield Pulse(crm, there)

    return open_one


@pytest.fixture
async def pulse(opened: Opened) -> AsyncGenerator[Pulse]:
    async with opened() as each:
        yield each
