"""Two fixtures: `crm`, an empty one, and `stocked`, one with its sample; each once for every backend that serves all
that the test's annotation asks for."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from crm_mcp.backends.base import Backend
from crm_mcp.backends.http import Api
from crm_mcp.backends.remote import Remote
from crm_mcp.sandbox.emulator import Emulator, Entry
from crm_mcp.sandbox.serving import serving

from .vendors import VENDORS, Vendor

Unwritten = Callable[[], AbstractContextManager[None]]
Hosts = Callable[[Vendor], tuple[Emulator, str]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name in ("crm", "stocked"):
        if name in metafunc.fixturenames and name in (
            hints := get_type_hints(metafunc.function, vars(sys.modules[metafunc.function.__module__]))
        ):
            needed: type[Backend] = hints[name]
            able = [
                each
                for each, vendor in VENDORS.items()
                if set(needed.capabilities()) <= set(vendor.backend.capabilities())
            ]
            assert able, f"{metafunc.function.__name__} asks for what no backend has"
            metafunc.parametrize("vendor", able, indirect=True)


@pytest.fixture
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Api, "first_pause", 0.01)


@pytest.fixture(scope="session")
def hosts() -> Generator[Hosts]:
    """The emulators, each started once: to start one takes longer than most tests."""
    with ExitStack() as stack:
        running: dict[str, tuple[Emulator, str]] = {}

        def host(vendor: Vendor) -> tuple[Emulator, str]:
            if vendor.name not in running:
                assert vendor.emulator
                there = vendor.emulator()
                running[vendor.name] = there, stack.enter_context(serving(there))
            return running[vendor.name]

        yield host


@contextmanager
def _begun(vendor: Vendor, hosts: Hosts, *, sample: bool) -> Generator[str]:
    """Let a vendor's emulator begin anew; gives its base URL."""
    if vendor.emulator is None:
        yield ""
        return
    there, url = hosts(vendor)
    there.sample = sample
    there.reset()
    yield url


@pytest.fixture
def there(vendor: Vendor, hosts: Hosts) -> Emulator | None:
    """What is behind the backend, None for the embedded CRM."""
    return hosts(vendor)[0] if vendor.emulator else None


@pytest.fixture
async def crm(vendor: Vendor, hosts: Hosts, tmp_path: Path) -> AsyncGenerator[Backend]:
    with _begun(vendor, hosts, sample=False) as url:
        opened = vendor.opened(tmp_path, url, False)
        yield opened
        await opened.aclose()


@pytest.fixture
async def stocked(vendor: Vendor, hosts: Hosts, tmp_path: Path) -> AsyncGenerator[Backend]:
    with _begun(vendor, hosts, sample=True) as url:
        opened = vendor.opened(tmp_path, url, True)
        yield opened
        await opened.aclose()


@pytest.fixture
async def unwritten(crm: Backend, there: Emulator | None, tmp_path: Path) -> Unwritten:
    """Holds that nothing is written while its block lasts."""
    await crm.check()  # the embedded CRM makes its file at the first call

    def written() -> Any:
        if there is None:
            (file,) = tmp_path.glob("data/*.sqlite3")
            return _rows(file)
        assert isinstance(crm, Remote)
        return [(each.method, each.path, each.body) for each in there.journal if _writes(crm, there, each)]

    @contextmanager
    def holding() -> Generator[None]:
        before = written()
        yield
        assert written() == before

    return holding


def _rows(file: Path) -> dict[str, list[Any]]:
    """Return all rows of the embedded CRM by table."""
    db = sqlite3.connect(file)
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'")
    found = {name: db.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in tables.fetchall()}
    db.close()
    return found


def _writes(crm: Remote, there: Emulator, entry: Entry) -> bool:
    """Whether a request changed something: by the catalogue it is one that does, and it was not refused."""
    path = entry.path.removeprefix(there.prefix)
    reads = any(
        each.method == entry.method
        and each.effect == "read"
        and re.fullmatch(re.sub(r"{\w+}", "[^/]+", each.path), path)
        for each in crm.catalog.operation
    )
    return not reads and entry.status < 400
