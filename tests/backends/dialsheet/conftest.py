"""Dialsheet's adapter at work on its emulator, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from crm_mcp.backends.dialsheet import Dialsheet
from crm_mcp.backends.http import Api
from crm_mcp.backends.remote import Access
from crm_mcp.sandbox.dialsheet import DialsheetEmulator
from crm_mcp.sandbox.serving import serving

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
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens an adapter with other keys or switches than usual."""
    monkeypatch.setattr(Api, "first_pause", 0.01)

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
        with serving(there) as url:
            crm = Dialsheet(
                Access(
                    key=SecretStr(key),
                    pace_file=tmp_path / "pace.sqlite3",
                    base_url=url,
                    country=country,
                    keys=keys or {},
                    per_minute=1000,
                    minute=minute,
                )
            )
            try:
                yield Sheet(crm, there, url)
            finally:
                await crm.aclose()

    return open_one


@pytest.fixture
async def sheet(opened: Opened) -> AsyncGenerator[Sheet]:
    async with opened() as each:
        yield each
