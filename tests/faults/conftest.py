"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .report import Report
from .wire import Wires, wired


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def wires() -> Generator[Wires]:
    """All four vendors, each behind a wire of its own."""
    with wired() as made:
        yield made


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Generator[Report]:
    made = Report(request.node.nodeid)
    yield made
    made.write()
