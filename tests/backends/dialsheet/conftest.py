"""Dialsheet's adapter at work on its emulator, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from crm_mcp.backends.dialsheet import Dialsheet
from crm_mcp.sandbox.dialsheet import DialsheetEmulator

JANE: dict[str, Any] = {
    "name": "Jane Whitfield",
    "email": "jane@acme.example",
    "phone": "+12125550101",
    "company": "Acme",
    "status": "new",
}


class Sheet(NamedTuple):
    """The adapter and what it talks to."""

    crm: Dialsheet
    there: DialsheetEmulator
    url: str

    def put(self, kind: str = "leads", days_ago: float = 0.0, /, **fields: Any) -> str:
        """Keep a record as if it had been there before; returns its id."""
        return str(self.there.add(kind, days_ago, **fields)["id"])

    def wire(self) -> list[tuple[str, str]]:
        """Return method and path of what arrived, without the prefix."""
        return [(each.method, each.path.removeprefix("/api/v1")) for each in self.there.journal]

    def last(self) -> tuple[str, str, dict[str, str], Any]:
        """Return method, path, query and body of the last request."""
        each = self.there.journal[-1]
        return each.method, each.path, each.query, each.body


Opened = Callable[..., AbstractAsyncContextManager[Sheet]]


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
        key: str = DialsheetEmulator.key,
        keys: dict[str, str] | None = None,
        country: str | None = "US",
        minute: float = 0.5,
        **switches: Any,
    ) -> AsyncGenerator[Sheet]:
        switches.setdefault("per_minute", 1000)
        there = DialsheetEmulator(sample=sample, minute=minute, **switches)
        async with adapter_on(there, Dialsheet, key=key, keys=keys, country=country, per_minute=1000) as (
            crm,
            url,
        ):
            yield Sheet(crm, there, url)

    return open_one


@pytest.fixture
async def sheet(opened: Opened) -> AsyncGenerator[Sheet]:
    async with opened() as each:
        yield each
