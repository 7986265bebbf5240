"""A small vendor to talk to, and a server that answers byte for byte what a test gives it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from pydantic import SecretStr

from crm_mcp.backends.http import Api, ApiProfile
from crm_mcp.backends.rate_limit import Limits, RateLimit
from crm_mcp.sandbox.emulator import Answer, Call, Emulator, Refusal, route
from crm_mcp.sandbox.serving import serving

KEY = "tv_canary_key_0123456789"


class Tiny(Emulator):
    """A vendor with one table, which says everything that it is told to."""

    vendor: ClassVar[str] = "tiny"
    key: ClassVar[str] = KEY

    def begin(self) -> None:
        """Begin with nothing."""
        self.rows: dict[str, Any] = {}
        self.headers: dict[str, str] = {}

    def admit(self, call: Call) -> dict[str, str]:
        """Take the one key."""
        if call.headers.get("authorization") != f"Bearer {self.key}":
            raise Refusal(401, "no such key")
        return self.headers

    def worded(self, refusal: Refusal) -> Any:
        """Word an error."""
        return {"error": refusal.message}

    @route("GET", "/rows/{id}")
    def one(self, call: Call, row: str) -> Answer:
        """Answer what arrived."""
        return Answer({"id": row, "query": call.query})

    @route("GET", "/rows")
    def every(self, call: Call) -> Answer:
        """Answer all rows."""
        return Answer({"rows": list(self.rows.values()), "query": call.query})

    @route("POST", "/rows")
    def add(self, call: Call) -> Answer:
        """Keep a row."""
        row: dict[str, Any] = {"id": str(len(self.rows) + 1), **(call.body or {})}
        self.rows[row["id"]] = row
        return Answer(row, 201)

    @route("DELETE", "/rows/{id}")
    def drop(self, call: Call, row: str) -> Answer:
        """Forget a row."""
        self.rows.pop(row, None)
        return Answer(None, 204)


class Talk(NamedTuple):
    """A client and the vendor that it talks to."""

    api: Api
    vendor: Tiny
    url: str

    def statuses(self) -> list[int]:
        """Return the statuses of all requests; 0 is none."""
        return [each.status for each in self.vendor.journal]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractAsyncContextManager[Api]]:
    """Opens a client of an address."""
    monkeypatch.setattr(Api, "first_pause", 0.01)

    @asynccontextmanager
    async def open_one(url: str, *, key: str = KEY) -> AsyncGenerator[Api]:
        pace = RateLimit(key, Limits(per_minute=1000), tmp_path / "pace.sqlite3", minute=0.6)
        api = Api(ApiProfile("Tiny", url, SecretStr(key), hints={402: "buy more"}), pace)
        try:
            yield api
        finally:
            await api.aclose()

    return open_one


@pytest.fixture
async def talk(client: Callable[..., AbstractAsyncContextManager[Api]]) -> AsyncGenerator[Talk]:
    vendor = Tiny()
    with serving(vendor) as url:
        async with client(url) as api:
            yield Talk(api, vendor, url)


class Raw:
    """A server that does with each connection what it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.requests: list[bytes] = []


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Raw], Any]


@asynccontextmanager
async def raw(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Raw]:
    """Serve a script, which is called for each connection."""
    there = Raw()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer, there)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    there.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield there
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(*parts: bytes, pause: float = 0.0) -> Script:
    """Answer every request with these bytes, a pause before each part, and close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Raw) -> None:
        there.requests.append(await reader.readuntil(b"\r\n\r\n"))
        for part in parts:
            await asyncio.sleep(pause)
            writer.write(part)
            await writer.drain()

    return script


def answer(body: bytes, head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json") -> bytes:
    """Return a whole answer."""
    return head + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
