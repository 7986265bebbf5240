"""A server process for each test, or a folder with the sample for several of them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.backends.local import Local
from tests.harness.app import App
from tests.harness.clock import Clock


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[App]:
    """A process in front of a CRM with one lead."""
    opened = await App(tmp_path).with_jane()
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
async def open_app(tmp_path: Path, clock: Clock) -> AsyncGenerator[Callable[..., App]]:
    """Start processes on one folder, each under a policy of its own."""
    opened: list[App] = []

    def started(policy: dict[str, Any], **settings: Any) -> App:
        opened.append(App(tmp_path, clock, policy, **settings))
        return opened[-1]

    yield started
    for each in opened:
        await each.close()
