"""What the guards cost: a send with all of them beside the CRM's own part of it; and how fast the log is verified."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import anyio

from benchmarks.report import FULL, Figure, Size, median, ms
from crm_mcp.actions.intent import Answer, Question
from crm_mcp.backends.local import Local
from crm_mcp.config import Fallback, PolicySettings, Settings
from crm_mcp.model import LeadDraft, now
from crm_mcp.server.app import Application
from crm_mcp.store import FILE_NAME
from crm_mcp.store.audit import Audit
from crm_mcp.store.database import Database
from crm_mcp.store.threads import Threads

TITLE = "Guards: a send on the embedded CRM and SQLite"
ADDED = 0.010
"""Seconds that policy, rules, row, fingerprint and log may add to a send, p50."""
ENTRIES = 50_000
"""Entries that a second of verifying must do."""


WARM_UPS = 5


class _Nobody:
    """A client that can't be asked."""

    caller = "benchmark"
    fallback: Fallback = "deny"
    request: str | None = None
    answering: str | None = None
    can_be_asked = False

    async def ask(self, question: Question) -> Answer:
        del question
        return "silence"

    async def progress(self, done: int, total: int) -> None:
        """Nobody wants to know."""


def measure(size: Size, folder: Path) -> Iterator[Figure]:
    """Send many texts with and without the guards, in turn; then verify a long log."""
    yield anyio.run(_sends, folder, size.rounds)
    yield _verified(folder / "log", 60_000 if size.rounds >= FULL.rounds else 20_000)


async def _sends(folder: Path, rounds: int) -> Figure:
    policy = PolicySettings.model_validate({"outward": "allow", "quiet_hours": "off"})
    application = Application(Settings(data_dir=folder, policy=policy))
    (pipeline,) = application.pipelines.values()
    context, crm = pipeline.context, application.backends[pipeline.context.connection]
    assert isinstance(crm, Local)
    tool = application.tools["send_sms"]
    lead = await crm.create_lead(LeadDraft(name="Ann Example", phone="+14155550171"))
    client = _Nobody()

    async def guarded(text: str) -> None:
        answer = await pipeline.act(
            tool.intent(context, tool.check({"lead": lead.id, "message": text}), client), client
        )
        if answer["status"] != "done":
            raise RuntimeError(f"the send ended as {answer}")

    async def bare(text: str) -> None:
        await crm.send_sms(await context.lead(lead.id), text)

    with_guards: list[float] = []
    without: list[float] = []
    try:
        for number in range(rounds + WARM_UPS):
            with_guards.append(await _seconds(guarded(f"guarded {number}")))
            without.append(await _seconds(bare(f"bare {number}")))
    finally:
        await application.aclose()
    whole, own = median(with_guards[WARM_UPS:]), median(without[WARM_UPS:])
    target = f"<= {ADDED * 1000:.0f} ms more"
    return Figure(
        "send_sms beside the CRM's own part, p50", ms(whole), ms(own), whole / own, target, whole - own <= ADDED
    )


def _verified(folder: Path, entries: int) -> Figure:
    database = Database(folder / FILE_NAME, 1)
    audit = Audit(Threads(), database, now, lambda: b"k" * 32, dict)
    event = {"event": "started", "caller": "ann via client", "tool": "send_sms", "arguments": {"lead": "L1" * 60}}
    with database.writing() as connection:
        for _ in range(entries):
            audit.append(connection, now(), event)
    started = time.perf_counter()
    found = anyio.run(audit.verify)
    rate = entries / (time.perf_counter() - started)
    database.close()
    if found.faults or found.entries != entries:
        raise RuntimeError(f"the log is not as it was written: {found}")
    return Figure(
        f"audit --verify, {entries:,} entries", f"{rate:,.0f} a second", "", None, f">= {ENTRIES:,}", rate >= ENTRIES
    )


async def _seconds(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started
