"""What a large record costs: the whole answer beside that of one half as large, and the longest that others waited."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
from mcp import Client

from benchmarks.report import FULL, Figure, Size, median, ms
from crm_mcp.backends.local import Local
from crm_mcp.config import Settings
from crm_mcp.model import LeadDraft
from crm_mcp.server.app import Application

TITLE = "Records: get_lead of a large one, on the embedded CRM"
FIELDS = 500
LENGTH = 10_000
WORDS = "What was said on the phone, and more of it.\n"
MOST_RATIO = 2.5
LONGEST_WAIT = 0.25
"""Seconds that another call may have to wait in vain."""


def measure(size: Size, folder: Path) -> Iterator[Figure]:
    """Read two leads in turn, of which one has twice as many custom fields."""
    yield from anyio.run(_reads, folder, 15 if size.rounds >= FULL.rounds else 5)


async def _reads(folder: Path, rounds: int) -> list[Figure]:
    application = Application(Settings(data_dir=folder))
    half, whole = [await _lead(application, folder, fields) for fields in (FIELDS // 2, FIELDS)]
    times: dict[str, list[float]] = {half: [], whole: []}
    waits: list[float] = []
    async with Client(application.server) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(_wait, waits)
        for _ in range(rounds):
            for lead, seconds in times.items():
                started = time.perf_counter()
                await client.call_tool("get_lead", {"lead": lead})
                seconds.append(time.perf_counter() - started)
        tasks.cancel_scope.cancel()
    one, two = median(times[half]), median(times[whole])
    name = f"{FIELDS} fields of {LENGTH:,} characters beside {FIELDS // 2}, p50"
    return [
        Figure(name, ms(two), ms(one), two / one, f"<= {MOST_RATIO} x", two / one <= MOST_RATIO),
        Figure(
            "longest wait of others", ms(max(waits)), "", None, f"<= {ms(LONGEST_WAIT)}", max(waits) <= LONGEST_WAIT
        ),
    ]


async def _lead(application: Application, folder: Path, fields: int) -> str:
    """Return the id of a lead with more custom fields than a tool may write."""
    (crm,) = application.backends.values()
    assert isinstance(crm, Local)
    lead = await crm.create_lead(LeadDraft(name=f"Ann {fields}"))
    custom = {f"Field {n}": (WORDS * (LENGTH // len(WORDS) + 1))[:LENGTH] for n in range(fields)}
    with closing(sqlite3.connect(folder / "crm.sqlite3")) as db, db:
        db.execute("UPDATE leads SET custom_fields = ? WHERE n = ?", (json.dumps(custom), int(lead.id[1:])))
    return lead.id


async def _wait(waits: list[float]) -> None:
    """Note how much later than it asked to be this task is woken."""
    while True:
        started = time.perf_counter()
        await anyio.sleep(0.002)
        waits.append(time.perf_counter() - started - 0.002)
