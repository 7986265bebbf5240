"""Something breaks at a step of an action and is mended later: the CRM can't be reached, a file is locked or full, the
clock jumps an hour. Each tool of each CRM, at each step, under the confirmations where that step comes.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.actions import outbox, pipeline
from crm_mcp.backends.http import Api
from crm_mcp.backends.local import Local, database
from crm_mcp.store import database as state
from crm_mcp.store import sqlite
from tests.harness.clock import RunningClock
from tests.harness.settings import settings

from .cells import TOOLS, Cell, Outcome, calls_of, judged, table
from .report import Report
from .served import Confirmation, Said, all_by, copied, made_state, started
from .steps import CONFIRMATIONS_AT, HAPPENINGS, LOCAL_TOOLS, Happening, Mend, changed, embedded
from .wire import Wires

PAIRS = [("local", tool) for tool in LOCAL_TOOLS] + [(vendor, tool) for vendor in TOOLS for tool in TOOLS[vendor]]
MOST = {"local": 12, "other": 2}
LATER = "clock an hour on"
RECOGNISED = ("send_sms", "send_email", "send_linkedin_message", "enroll_in_sequence")
"""What is recognised as the same for longer than an hour; another write is, for a minute, and a call for two."""
PATIENT = 0.3
"""Seconds that a call waits for a locked file here, instead of five."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_state(tmp_path_factory.mktemp("template")).parent

    async def sample() -> None:
        crm = Local(folder, sample=True)
        await crm.get_lead("L1")
        await crm.aclose()

    anyio.run(sample)
    return folder


@dataclass
class Stage:
    """Where actions go their way while something happens."""

    wires: Wires
    template: Path
    folder: Path
    count: int = 0

    async def gone(
        self,
        vendor: str,
        tool: str,
        by: Confirmation,
        happening: Happening | None = None,
        step: str = "",
        again: int = 1,
    ) -> tuple[Outcome, list[str]]:
        """Let one call go its way; returns what became of it, and the steps that it took."""
        self.count += 1
        name, clock, steps = f"s{self.count}", RunningClock(), list[str]()
        folder = copied(self.template, self.folder / name)
        arguments = LOCAL_TOOLS[tool] if vendor == "local" else calls_of(vendor)[tool]
        wire, url = self.wires.open(name, vendor) if vendor != "local" else (None, "")
        given = settings(folder, vendor, all_by(by), url=url, key=wire.there.key if wire else "")
        if wire:
            wire.there.clock = clock.seconds
        before = Counter[Any]() if wire else embedded(folder)
        said: list[Said] = []
        mends: list[Mend] = []
        async with started(given, by, clock) as served:
            await served.store.limits.outbound()

            def at(passed: str) -> None:
                steps.append(passed)
                if happening and passed == step and not mends:
                    mends.append(happening.breaks(served))

            served.outbox.at = at
            at("start")
            said += await served.ask(tool, arguments)
            for _ in range(again if happening else 0):
                said += await served.ask(tool, arguments)
            for mend in mends:
                mend()
            if any(each.status == "done" for each in said):  # what could not be written down is, a moment later
                await served.until(lambda rows: any(row.status in ("done", "undone") for row in rows), within=8)
            await served.recover(rounds=1)
            said += await served.ask(tool, arguments)
            rows = await served.rows()
            log = await served.store.audit.verify()
        taken = wire.taken if wire else changed(before, embedded(folder))
        if wire:
            self.wires.close(name)
        shutil.rmtree(folder)
        cell = Cell(vendor, tool, f"{happening.name if happening else 'nothing'} at {step}", 0, 1, by, again)
        slowest = max(each.seconds for each in said)
        return Outcome(cell, said, rows, taken, list(log.faults), slowest), steps


@pytest.fixture
def stage(wires: Wires, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    for room in (sqlite, state):
        monkeypatch.setattr(room, "PATIENCE", PATIENT)
    monkeypatch.setattr(database, "BUSY_SECONDS", PATIENT)
    monkeypatch.setattr(pipeline, "ANSWERS_WITHIN", 4.0)
    monkeypatch.setattr(Api, "first_pause", 0.02)
    monkeypatch.setattr(outbox, "LOOK_PAUSES", (0.0, 0.3))
    return Stage(wires, template, tmp_path)


def cases_of(vendor: str) -> list[tuple[Happening, str, Confirmation, int]]:
    """Return what happens to a tool of this vendor, when, and how that is confirmed: spread, so that all come about."""
    found: list[tuple[Happening, str, Confirmation, int]] = []
    for place, happening in enumerate(each for each in HAPPENINGS if vendor in (each.vendors or (vendor,))):
        for number, step in enumerate(happening.steps):
            ways = CONFIRMATIONS_AT[step]
            for turn, by in enumerate(ways):
                if vendor == "local" or turn == (place + number) % len(ways):
                    found.append((happening, step, by, 1 + (place + number + turn) % 2))
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("vendor", "tool"), PAIRS)
async def test_whatever_happens_at_a_step_leaves_one_effect_and_the_truth(
    stage: Stage, report: Report, vendor: str, tool: str
) -> None:
    plain, _ = await stage.gone(vendor, tool, "allow")
    assert [row.status for row in plain.rows] == ["done"], plain
    cases = cases_of(vendor)
    number = PAIRS.index((vendor, tool))
    # Every tool takes its part of the cases, beginning elsewhere.
    most = MOST["local" if vendor == "local" else "other"]
    mine = [cases[(number + each * len(cases) // most) % len(cases)] for each in range(min(most, len(cases)))]
    outcomes: list[Outcome] = []
    limit = anyio.CapacityLimiter(4)

    async def one(happening: Happening, step: str, by: Confirmation, again: int) -> None:
        async with limit:
            outcome, steps = await stage.gone(vendor, tool, by, happening, step, again)
        times = 3 if happening.name == LATER and tool not in RECOGNISED else 1
        outcome.wrong += judged(by, outcome.said, outcome.rows, outcome.taken, plain.taken, times)
        if step not in steps:
            outcome.wrong.append(f"the step was never reached, only {steps}")
        outcomes.append(outcome)

    async with anyio.create_task_group() as tasks:
        for case in mine:
            tasks.start_soon(one, *case)

    report.cells(table(outcomes), slowest=max(each.slowest for each in outcomes))
    assert {str(each.cell): each.wrong for each in outcomes if each.wrong} == {}
