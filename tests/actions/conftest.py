"""One road for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from .roads import Road


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def road(tmp_path: Path) -> AsyncGenerator[Road]:
    opened = await Road(tmp_path).open()
    yield opened
    await opened.close()
