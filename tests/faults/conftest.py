"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .report import Report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Generator[Report]:
    made = Report(request.node.nodeid)
    yield made
    made.write()
