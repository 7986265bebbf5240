"""An embedded CRM in a folder of its own, and a small disk to fill."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from crm_mcp.backends.local import Local


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def crm(tmp_path: Path) -> AsyncGenerator[Local]:
    opened = Local(tmp_path / "data", country="US")
    yield opened
    await opened.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
