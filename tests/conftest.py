"""What tests of every room may ask for."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from .databases import bare_postgres_url, postgres_server, postgres_url
from .faults.report import pytest_configure, pytest_terminal_summary

__all__ = [
    "bare_postgres_url",
    "postgres_server",
    "postgres_url",
    "pytest_configure",
    "pytest_terminal_summary",
]


@pytest.fixture(scope="session")
def portal() -> Generator[BlockingPortal]:
    """One loop for the clients of a test process."""
    with start_blocking_portal() as portal:
        yield portal
