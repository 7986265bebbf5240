"""What the tests of the store share: both databases, a clock that is set, an empty store, and a second process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text

from crm_mcp.store import FILE_NAME, Action, ClaimConditions, DedupKey, NewAction, Store
from crm_mcp.store.database import Database
from crm_mcp.store.tables import metadata

ROOT = Path(__file__).parents[2]
KEY = b"a key that is kept outside"
PLAIN = ClaimConditions()


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


class State(NamedTuple):
    """Where a state lives: a folder, or a server's URL."""

    folder: Path
    url: str | None = None

    @property
    def place(self) -> Path | str:
        return self.url or self.folder / FILE_NAME

    def store(self, **more: Any) -> Store:
        more.setdefault("key", lambda: KEY)
        return Store(self.folder, url=self.url, **more)

    def database(self) -> Database:
        return Database(self.place, 2)

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Do what whoever can write the database can do."""
        database = self.database()
        with database.writing() as connection:
            done = connection.execute(text(statement), values)
            rows = [tuple(row) for row in done] if done.returns_rows else []
        database.close()
        return rows

    def empty(self) -> None:
        database = self.database()
        with database.writing() as connection:
            for table in metadata.sorted_tables:
                if table.name != "counters":
                    connection.execute(table.delete())
            connection.execute(text("UPDATE counters SET value = 0"))
        database.close()


class Worker:
    """Another process on the same state: ready and waiting once this exists, at work after `go`."""

    def __init__(self, command: str, state: State, *arguments: str) -> None:
        place = [str(state.folder), state.url or ""]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.store.store_worker", command, *place, *arguments],
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

    def start_all(count: int, command: str, state: State, *arguments: str) -> list[Worker]:
        started = [Worker(command, state, *arguments) for _ in range(count)]
        workers.extend(started)
        assert [worker.line() for worker in started] == ["ready"] * count
        return started

    yield start_all
    for worker in workers:
        worker.end()


def at_once(workers: list[Worker]) -> list[Any]:
    """Let all go, and return what each says."""
    for worker in workers:
        worker.go()
    return [worker.line() for worker in workers]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file at the newest layout, to be copied where a test is not about making one."""
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


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    """An empty state, in each of the two databases."""
    if request.param == "postgresql":
        return State(tmp_path, request.getfixturevalue("postgres_url"))
    return State(request.getfixturevalue("folder"))


@pytest.fixture(params=["sqlite", "postgresql"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    """A place where there is no state yet."""
    if request.param == "postgresql":
        return State(tmp_path, request.getfixturevalue("bare_postgres_url"))
    return State(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(state: State, clock: Clock) -> AsyncIterator[Store]:
    store = state.store(clock=clock)
    yield store
    await store.aclose()


@pytest.fixture
async def other(state: State, clock: Clock) -> AsyncIterator[Store]:
    """The same state, as another process has it."""
    store = state.store(clock=clock)
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


def sms(text: str = "hello", address: str = "+14155550123", seconds: int = 86400) -> DedupKey:
    return DedupKey(key=f"message:sms:{address}:{text}", seconds=seconds, channel="sms", address=address)


def sending(*dedup_keys: DedupKey, **more: Any) -> ClaimConditions:
    return ClaimConditions(outward=True, dedup_keys=dedup_keys, **more)


async def begun(store: Store, conditions: ClaimConditions = PLAIN, **values: Any) -> Action:
    """Begin an action that nothing forbids."""
    action = await store.actions.begin(asked(**values), "policy", conditions)
    assert isinstance(action, Action)
    return action


async def all_pages(
    store: Store, limit: int, caller: str | None = None, status: Any = None, lead: str | None = None
) -> list[Action]:
    rows: list[Action] = []
    after: str | None = None
    while True:
        page, after = await store.actions.page(caller=caller, status=status, lead=lead, after=after, limit=limit)
        rows += page
        assert len(page) == limit or after is None
        if after is None:
            return rows
