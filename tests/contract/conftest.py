"""One fixture: `crm`, once for every backend that serves all that the test's annotation of it asks for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import get_type_hints

import pytest

from crm_mcp.backends.base import Backend

from .vendors import VENDORS


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "crm" in metafunc.fixturenames:
        needed: type[Backend] = get_type_hints(metafunc.function)["crm"]
        able = [
            name for name, each in VENDORS.items() if set(needed.capabilities()) <= set(each.backend.capabilities())
        ]
        metafunc.parametrize("crm", able, indirect=True)


@pytest.fixture
async def crm(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Backend]:
    async with VENDORS[request.param].opened(tmp_path) as opened:
        yield opened
