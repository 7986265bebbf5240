"""What tests of every room may ask for."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import suppress

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


# A shell starts what runs behind it with Ctrl-C ignored, and commands that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def portal() -> Generator[BlockingPortal]:
    """One loop for the clients of a test process."""
    with start_blocking_portal() as portal:
        yield portal


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker begin with its share of the tests that take long: at the end they would leave others idle."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [each for each in items if "tests/faults/" in each.nodeid]
    short = [each for each in items if "tests/faults/" not in each.nodeid]
    items[:] = [
        each
        for worker in range(workers)
        for some in (long, short)
        for each in some[len(some) * worker // workers : len(some) * (worker + 1) // workers]
    ]
