"""One road for each test, or a folder for the benches of many processes."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.backends.local import Local

from .offices import Office
from .roads import Clock, Road


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def road(tmp_path: Path) -> AsyncGenerator[Road]:
    opened = await Road(tmp_path).open()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample in it, made once."""
    folder = tmp_path_factory.mktemp("sampled")

    async def fill() -> None:
        crm = Local(folder, sample=True)
        await crm.check()
        await crm.aclose()

    anyio.run(fill)
    return folder


@pytest.fixture
def folder(sampled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sampled, tmp_path / "state"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def offices(tmp_path: Path, clock: Clock) -> AsyncGenerator[Callable[..., Office]]:
    """Open offices on one folder, each under a policy of its own."""
    opened: list[Office] = []

    def office(policy: dict[str, Any], **settings: Any) -> Office:
        opened.append(Office(tmp_path, clock, policy, **settings))
        return opened[-1]

    yield office
    for each in opened:
        await each.application.aclose()
