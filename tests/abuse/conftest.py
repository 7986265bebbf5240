"""One loop for the clients of a test process."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def portal() -> Generator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal
