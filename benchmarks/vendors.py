"""The vendors' side, against emulators in processes of their own: what a call costs, bursts, large imports."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import httpx2
from pydantic import SecretStr

from benchmarks.emulator import emulated, statuses
from benchmarks.process import COMMAND, Server
from benchmarks.report import Figure, Size, median, ms
from crm_mcp.backends import open_backend
from crm_mcp.backends.base import Backend, FindsLeads, ImportsLeads
from crm_mcp.backends.rate_limit import bulk_work
from crm_mcp.config import Connection, Settings
from crm_mcp.model import ImportRow, LeadDraft, LeadFilter, Slice
from crm_mcp.sandbox import emulator_of

TITLE = "Vendors: against emulators"
MOST_OVERHEAD = 0.002
LEAST_THROUGHPUT = 0.95
CALLS = 500
WORKERS = 25
FAST = 0.02
"""The same where no limit is to be felt."""
BURSTS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("dialsheet", 60, {}),
    ("salessheet", 100, {}),
    ("salespulse", 100, {}),
    ("getsales", 300, {}),
)
IMPORTS = (("salessheet", "/contacts/batch", 100), ("salespulse", "/contacts/bulk", 10))


def measure(size: Size, folder: Path) -> Iterator[Figure]:
    """Measure overhead, bursts and imports."""
    yield _overhead(size, folder)
    yield from anyio.run(_bursts, size.minute, folder)
    for vendor, path, most in IMPORTS:
        yield from anyio.run(_import, vendor, path, most, size, folder)


def _overhead(size: Size, folder: Path) -> Figure:
    """Compare get_lead through the real server with the bare request that it makes."""
    key = emulator_of("salespulse").key
    bare: list[float] = []
    ours: list[float] = []
    with emulated("salespulse", FAST) as url:
        settings = {
            "CRM_MCP_VENDOR": "salespulse",
            "CRM_MCP_BASE_URL": url,
            "CRM_MCP_API_KEY": key,
            "CRM_MCP_TEST_MINUTE": str(FAST),
        }
        headers = {"Authorization": f"Bearer {key}"}
        with httpx2.Client(headers=headers, trust_env=False) as client, Server([COMMAND], folder, settings) as server:
            lead = client.get(f"{url}/contacts").json()["data"][0]["id"]
            for _ in range(size.rounds + 5):
                started = time.perf_counter()
                client.get(f"{url}/contacts/{lead}").json()
                bare.append(time.perf_counter() - started)
                ours.append(server.call("get_lead", {"lead": lead})[1])
    over = median(ours[5:]) - median(bare[5:])
    name, target = "get_lead beside the bare request, p50", f"<= {ms(MOST_OVERHEAD)} more"
    return Figure(name, ms(median(ours[5:])), ms(median(bare[5:])), None, target, over <= MOST_OVERHEAD)


async def _bursts(minute: float, folder: Path) -> list[Figure]:
    figures: dict[str, Figure] = {}

    async def one(vendor: str, limit: int, switches: dict[str, Any]) -> None:
        with emulated(vendor, minute, **switches) as url:
            crm = cast("FindsLeads", _opened(vendor, url, folder, minute))
            lead = (await crm.search_leads(LeadFilter(), Slice(limit=1))).items[0].id
            before = len(statuses(url))
            waiting = iter(range(CALLS))
            await anyio.sleep(2 * minute - time.time() % minute)  # the calls made so far do not count any more
            started = time.perf_counter()

            async def worker() -> None:
                for _ in waiting:
                    await crm.get_lead(lead)

            async with anyio.create_task_group() as tasks:
                for _ in range(WORKERS):
                    tasks.start_soon(worker)
            took = time.perf_counter() - started
            await cast("Backend", crm).aclose()
            made = statuses(url)[before:]
            refused = made.count(429)
        # Lists of names are read again once a minute: what counts is how many requests there were.
        allowed = (math.ceil(len(made) / limit) - 1) * minute
        part = allowed / took
        name = f"burst of {CALLS}, {vendor}, {limit} a minute"
        told = f"{took * 60 / minute:.0f} s, {refused} refused"
        figures[vendor] = Figure(
            name,
            told,
            f"{allowed * 60 / minute:.0f} s",
            part,
            f">= {LEAST_THROUGHPUT}, 0 refused",
            part >= LEAST_THROUGHPUT and refused == 0,
        )

    async with anyio.create_task_group() as tasks:
        for burst in BURSTS:
            tasks.start_soon(one, *burst)
    return [figures[vendor] for vendor, _, _ in BURSTS]


async def _import(vendor: str, path: str, most: int, size: Size, folder: Path) -> list[Figure]:
    """Import leads in batches, and see how the memory grows after the first tenth."""
    with emulated(vendor, FAST * 100) as url:
        backend = _opened(vendor, url, folder, FAST * 100)
        crm = cast("ImportsLeads", backend)
        created = 0
        tracemalloc.start()
        early = 0
        started = time.perf_counter()
        with bulk_work():
            for start in range(0, size.few, crm.import_size):
                rows = [_row(number) for number in range(start, min(start + crm.import_size, size.few))]
                created += sum(each.outcome == "created" for each in await crm.import_leads(rows, "skip"))
                early = early or tracemalloc.get_traced_memory()[1]
        took = time.perf_counter() - started
        late = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await backend.aclose()
        found = statuses(url, path)
        all_of_them = statuses(url)
    most = math.ceil(most * size.few / 10_000)
    fine = len(found) <= most and created == size.few and 429 not in all_of_them
    told = f"{len(found)} requests, {created:,} created"
    return [
        Figure(f"import of {size.few:,}, {vendor}", told, f"{len(all_of_them)} in all", None, f"<= {most}", fine),
        Figure(f"import, {vendor}: time", f"{took:.1f} s"),
        Figure(
            f"import, {vendor}: peak memory beside that of the first batch",
            f"{late / 1e6:.1f} MB",
            f"{early / 1e6:.1f} MB",
            late / early,
        ),
    ]


def _row(number: int) -> ImportRow:
    draft = LeadDraft(first_name="Test", last_name=f"Number {number}", email=f"test{number}@import.example")
    return ImportRow(draft=draft, key=str(number))


def _opened(vendor: str, url: str, folder: Path, minute: float) -> Backend:
    connection = Connection(vendor=vendor, base_url=url, api_key=SecretStr(emulator_of(vendor).key), minute=minute)
    settings = Settings(connections=(connection,), data_dir=folder, rate_limit_file=folder / f"pace-{vendor}.sqlite3")
    return open_backend(settings, connection)
