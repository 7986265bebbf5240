"""A vendor's adapter in front of its emulator, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from crm_mcp.backends.http import Api
from crm_mcp.backends.remote import Access, Remote
from crm_mcp.sandbox.emulator import Emulator
from crm_mcp.sandbox.serving import serving


@pytest.fixture
def adapter_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractAsyncContextManager[tuple[Any, str]]]:
    """Serves an emulator, and gives an adapter that talks to it without long pauses, and the address."""
    monkeypatch.setattr(Api, "first_pause", 0.01)

    @asynccontextmanager
    async def open_one(
        there: Emulator,
        adapter: type[Remote],
        *,
        key: str,
        keys: Mapping[str, str] | None = None,
        country: str | None = "US",
        **more: Any,
    ) -> AsyncGenerator[tuple[Remote, str]]:
        with serving(there) as url:
            crm = adapter(
                Access(
                    key=SecretStr(key),
                    rate_limit_file=tmp_path / "pace.sqlite3",
                    base_url=url,
                    country=country,
                    keys=keys or {},
                    minute=there.minute,
                    **more,
                )
            )
            try:
                yield crm, url
            finally:
                await crm.aclose()

    return open_one
