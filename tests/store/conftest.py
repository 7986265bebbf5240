"""What the tests of the store share: a clock that is set, an empty store, and a second process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.store import FILE_NAME, Action, NewAction, Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 20, 10, 0, 0, 123000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, **by: float) -> None:
        self.moment += timedelta(**by)


class Worker:
    """Another process on the same state: ready and waiting once this exists, at work after `go`."""

    def __init__(self, command: str, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.store.store_worker", command, str(folder), *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> Any:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, f"the worker ended with {self.process.wait(timeout=5)}"
        return json.loads(text)

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=5)


Start = Callable[..., list[Worker]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start workers with one command; all have their imports behind them when it returns."""
    workers: list[Worker] = []

    def start_all(count: int, command: str, folder: Path, *arguments: str) -> list[Worker]:
        started = [Worker(command, folder, *arguments) for _ in range(count)]
        workers.extend(started)
        assert [worker.line() for worker in started] == ["ready"] * count
        return started

    yield start_all
    for worker in workers:
        worker.end()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file at the newest layout, to be copied where a test is not about making one."""
    from crm_mcp.store.database import Database

    path = tmp_path_factory.mktemp("template") / FILE_NAME
    database = Database(path, 1)
    with database.reading():
        pass
    database.close()
    return path


@pytest.fixture
def folder(tmp_path: Path, template: Path) -> Path:
    shutil.copy(template, tmp_path)
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(folder: Path, clock: Clock) -> AsyncIterator[Store]:
    store = Store(folder, clock=clock)
    yield store
    await store.aclose()


def asked(**values: Any) -> NewAction:
    plain: dict[str, Any] = {
        "caller": "ops",
        "connection": "work",
        "tool": "create_lead",
        "effect": "write",
        "arguments": {"name": "Zoë", "tags": ["a", None, 1.5]},
        "digest": "d1",
        "summary": "create the lead Zoë",
    }
    return NewAction.model_validate(plain | values)


async def all_pages(
    store: Store, limit: int, caller: str | None = None, status: Any = None, lead: str | None = None
) -> list[Action]:
    rows: list[Action] = []
    after: str | None = None
    while True:
        page, after = await store.list_actions(caller=caller, status=status, lead=lead, after=after, limit=limit)
        rows += page
        assert len(page) == limit or after is None
        if after is None:
            return rows
