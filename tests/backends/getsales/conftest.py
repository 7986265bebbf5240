"""GetSales' emulator over real HTTP: asked by hand, and with the adapter at work on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import httpx2
import pytest

from crm_mcp.backends.getsales import GetSales
from crm_mcp.sandbox.getsales import GetSalesEmulator
from crm_mcp.sandbox.serving import serving

Row = dict[str, Any]


class Host(NamedTuple):
    """The emulator, and a client that says what it is told to."""

    there: GetSalesEmulator
    client: httpx2.Client

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Make a request with the accepted key; a header's name has underscores here."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"Authorization": f"Bearer {self.there.key}", **names}
        return self.client.request(method, path, json=body, headers=given)

    def first(self, kind: str, **equal: Any) -> Row:
        """Return the first record of a table with these values."""
        return self.there.rows(kind, **equal)[0]

    def lead(self, **fields: Any) -> Row:
        """Add a lead as a client does; returns it."""
        given = {"lead": {"first_name": "Jane", **fields}, "list_uuid": self.first("list")["uuid"]}
        answer = self.ask("POST", "/leads/api/leads/upsert", given)
        assert answer.status_code == 200, answer.text
        return answer.json()


class Work(NamedTuple):
    """The adapter and what it talks to."""

    crm: GetSales
    there: GetSalesEmulator

    def wire(self, start: int = 0) -> list[tuple[str, str]]:
        """Return method and path of what arrived."""
        return [(each.method, each.path) for each in self.there.journal[start:]]


Started = Callable[..., Host]
Opened = Callable[..., AbstractAsyncContextManager[Work]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def hosts() -> Generator[Callable[[int], Host]]:
    """Emulators that run as long as the tests do, by number: to start one takes longer than a test."""
    with ExitStack() as stack:
        running: list[Host] = []

        def numbered(number: int) -> Host:
            while len(running) <= number:
                there = GetSalesEmulator()
                url = stack.enter_context(serving(there))
                running.append(Host(there, stack.enter_context(httpx2.Client(base_url=url, trust_env=False))))
            return running[number]

        yield numbered


@pytest.fixture
def started(hosts: Callable[[int], Host]) -> Started:
    """Gives an emulator that begins anew, with other switches than usual; each call of a test another one."""
    numbers = count()

    def start(**how: Any) -> Host:
        host = hosts(next(numbers))
        GetSalesEmulator.__init__(host.there, **how)
        return host

    return start


@pytest.fixture
def host(started: Started) -> Host:
    return started()


@pytest.fixture
def opened(adapter_on: Callable[..., AbstractAsyncContextManager[tuple[Any, str]]]) -> Opened:
    """Opens an adapter with other settings or switches than usual."""

    @asynccontextmanager
    async def open_one(
        *,
        sample: bool = False,
        key: str = GetSalesEmulator.key,
        keys: dict[str, str] | None = None,
        minute: float = 60.0,
        per_minute: int | None = None,
        team_id: str | None = None,
        list_name: str | None = "Inbound",
        mailbox: str | None = None,
        sender: str | None = None,
        **switches: Any,
    ) -> AsyncGenerator[Work]:
        there = GetSalesEmulator(sample=sample, minute=minute, **switches)
        access: dict[str, Any] = {"team_id": team_id, "list": list_name, "mailbox": mailbox, "sender": sender}
        async with adapter_on(there, GetSales, key=key, keys=keys, per_minute=per_minute, **access) as (
            crm,
            _,
        ):
            yield Work(crm, there)

    return open_one


@pytest.fixture
async def work(opened: Opened) -> AsyncGenerator[Work]:
    async with opened() as one:
        yield one
