"""Something breaks at a step of an action and is mended later: the CRM can't be reached, a file is locked or full, the
clock jumps an hour. Each tool of each CRM, at each step, on the roads where that step comes.
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

from .cells import TOOLS, Cell, Outcome, calls_of, judged, table
from .ground import Clock, Road, Said, copied, made_state, settings, standing
from .report import Report
from .steps import HAPPENINGS, LOCAL_TOOLS, ROADS_OF, Happening, Mend, changed, embedded
from .wire import Street

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

    street: Street
    template: Path
    folder: Path
    count: int = 0

    async def gone(
        self, vendor: str, tool: str, road: Road, happening: Happening | None = None, step: str = "", again: int = 1
    ) -> tuple[Outcome, list[str]]:
        """Let one call go its way; returns what became of it, and the steps that it took."""
        self.count += 1
        name, clock, steps = f"s{self.count}", Clock(), list[str]()
        folder = copied(self.template, self.folder / name)
        arguments = LOCAL_TOOLS[tool] if vendor == "local" else calls_of(vendor)[tool]
        wire, url = self.street.open(name, vendor) if vendor != "local" else (None, "")
        given = settings(folder, vendor, road, url=url, key=wire.there.key if wire else "")
        if wire:
            wire.there.clock = clock.seconds
        before = Counter[Any]() if wire else embedded(folder)
        said: list[Said] = []
        mends: list[Mend] = []
        async with standing(given, road, clock) as ground:
            await ground.application.store.limits.outbound()

            def at(passed: str) -> None:
                steps.append(passed)
                if happening and passed == step and not mends:
                    mends.append(happening.breaks(ground))

            ground.application.outbox.at = at
            at("start")
            said += await ground.ask(tool, arguments)
            for _ in range(again if happening else 0):
                said += await ground.ask(tool, arguments)
            for mend in mends:
                mend()
            if any(each.status == "done" for each in said):  # what could not be written down is, a moment later
                await ground.until(lambda rows: any(row.status in ("done", "undone") for row in rows), within=8)
            await ground.recover(rounds=1)
            said += await ground.ask(tool, arguments)
            rows = await ground.rows()
            log = await ground.application.store.audit.verify()
        taken = wire.taken if wire else changed(before, embedded(folder))
        if wire:
            self.street.close(name)
        shutil.rmtree(folder)
        cell = Cell(vendor, tool, f"{happening.name if happening else 'nothing'} at {step}", 0, 1, road, again)
        slowest = max(each.seconds for each in said)
        return Outcome(cell, said, rows, taken, list(log.faults), slowest), steps


@pytest.fixture
def stage(lane: Street, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    for room in (sqlite, state):
        monkeypatch.setattr(room, "PATIENCE", PATIENT)
    monkeypatch.setattr(database, "BUSY_SECONDS", PATIENT)
    monkeypatch.setattr(pipeline, "ANSWERS_WITHIN", 4.0)
    monkeypatch.setattr(Api, "first_pause", 0.02)
    monkeypatch.setattr(outbox, "LOOK_PAUSES", (0.0, 0.3))
    return Stage(lane, template, tmp_path)


def cases_of(vendor: str) -> list[tuple[Happening, str, Road, int]]:
    """Return what happens to a tool of this vendor, when, and on which road: spread, so that all come about."""
    found: list[tuple[Happening, str, Road, int]] = []
    for place, happening in enumerate(each for each in HAPPENINGS if vendor in (each.vendors or (vendor,))):
        for number, step in enumerate(happening.steps):
            roads = ROADS_OF[step]
            for turn, road in enumerate(roads):
                if vendor == "local" or turn == (place + number) % len(roads):
                    found.append((happening, step, road, 1 + (place + number + turn) % 2))
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

    async def one(happening: Happening, step: str, road: Road, again: int) -> None:
        async with limit:
            outcome, steps = await stage.gone(vendor, tool, road, happening, step, again)
        times = 3 if happening.name == LATER and tool not in RECOGNISED else 1
        outcome.wrong += judged(road, outcome.said, outcome.rows, outcome.taken, plain.taken, times)
        if step not in steps:
            outcome.wrong.append(f"the step was never reached, only {steps}")
        outcomes.append(outcome)

    async with anyio.create_task_group() as tasks:
        for case in mine:
            tasks.start_soon(one, *case)

    report.cells(table(outcomes), slowest=max(each.slowest for each in outcomes))
    assert {str(each.cell): each.wrong for each in outcomes if each.wrong} == {}
