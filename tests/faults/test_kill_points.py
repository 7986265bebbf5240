"""A process is killed at each step of an action, and at hundreds of other moments; then its state is found again.

Whatever moment it was: nothing goes out twice, nothing is done that was not said yes to, and nothing is lost without
a row that says so. `CRM_MCP_TEST_SEED` chooses other moments.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from queue import Queue
from typing import Any

import anyio
import pytest

from crm_mcp.backends.local import Local
from crm_mcp.model import LeadDraft
from tests.databases import TEMPLATE, database

from .killing import FLOWS, Flow, Point, Result, ended
from .report import Report
from .served import CONFIRMED, ENDED, WAITING, copied, made_state
from .wire import Wires

ROOT = Path(__file__).parents[2]
SEED = os.environ.get("CRM_MCP_TEST_SEED", "1")
KILLERS = 2
"""Processes that try points at the same time."""
RANDOM = 32
"""Random moments for each flow."""
DATABASES = ("sqlite", "postgresql")


@dataclass
class Killings:
    """Where points are tried."""

    wires: Wires
    template: Path
    folder: Path
    server: str | None
    """The PostgreSQL server; None: the state is a file."""
    killers: Queue[subprocess.Popen[str]]
    numbers: Any

    def tried(self, point: Point) -> tuple[Result, Counter[Any]]:
        """Try one point; returns what became of it, and the ledger."""
        flow = FLOWS[point.flow]
        name = f"p{next(self.numbers)}"
        folder = copied(self.template, self.folder / name)
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            if self.server:
                point = replace(point, database=stack.enter_context(database(self.server, TEMPLATE)))
            if flow.vendor == "local":
                result = self._killed(replace(point, folder=str(folder)))
                return result, kept(folder)
            wire, url = self.wires.open(name, flow.vendor)
            stack.callback(self.wires.close, name)
            wire.there.clock = ended(flow).seconds
            result = self._killed(replace(point, folder=str(folder), base_url=url, key=wire.there.key))
            return result, wire.taken

    def _killed(self, point: Point) -> Result:
        killer = self.killers.get()
        try:
            assert killer.stdin is not None
            assert killer.stdout is not None
            killer.stdin.write(json.dumps(asdict(point)) + "\n")
            killer.stdin.flush()
            line = killer.stdout.readline()
            assert line, f"the process that kills has ended itself at {point}"
            return Result(**json.loads(line))
        finally:
            self.killers.put(killer)


def kept(folder: Path) -> Counter[Any]:
    """Return the ledger of the embedded CRM: its messages, and its leads."""
    with closing(sqlite3.connect(folder / "crm.sqlite3")) as db:
        messages = db.execute("SELECT 'message', count(*) FROM messages").fetchall()
        leads = db.execute(
            "SELECT email, count(*) FROM leads WHERE email LIKE '%rows.example' GROUP BY email"
        ).fetchall()
    return +Counter(dict([*messages, *leads]))


@pytest.fixture(scope="module")
def killers(
    wires: Wires, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Queue[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tests.faults.killing"]
    with ExitStack() as stack:
        waiting: Queue[subprocess.Popen[str]] = Queue()
        for _ in range(KILLERS):
            killer = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(killer)
            waiting.put(killer)
        warm = Killings(wires, template, tmp_path_factory.mktemp("warm"), None, waiting, count())
        with ThreadPoolExecutor(KILLERS) as threads:
            list(threads.map(warm.tried, [Point("allowed", "", warm=True)] * KILLERS))
        yield waiting
        for killer in list(waiting.queue):
            assert killer.stdin is not None
            killer.stdin.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_state(tmp_path_factory.mktemp("template")).parent

    async def one_lead() -> None:
        crm = Local(folder)
        made = await crm.create_lead(LeadDraft(name="Jane Whitfield", phone="+12125550100", email="jane@acme.example"))
        assert made.id == "L1"
        await crm.aclose()

    anyio.run(one_lead)
    return folder


@pytest.fixture(params=DATABASES)
def killings(
    request: pytest.FixtureRequest,
    wires: Wires,
    template: Path,
    tmp_path: Path,
    killers: Queue[subprocess.Popen[str]],
) -> Killings:
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    return Killings(wires, template, tmp_path, server, killers, count())


def points_of(name: str, seconds: float) -> list[Point]:
    """Return the points of a flow that takes so long: each step, each with another process beside, random moments."""
    flow = FLOWS[name]
    steps = [Point(name, "", step=step) for step in flow.steps]
    beside = [replace(each, beside=True) for each in steps] if flow.prepare is None else []
    chance = random.Random(f"{SEED} {name}")
    # Most of the time goes into looking; what is written, is written from the second moment on.
    whenever = [Point(name, "", after=chance.uniform(0, seconds)) for _ in range(RANDOM // 3)]
    since = flow.steps[0].partition(":")[0]
    working = [
        Point(name, "", after=chance.uniform(0, seconds / 2), since=since) for _ in range(RANDOM - len(whenever))
    ]
    return [*steps, *beside, *whenever, *working]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", FLOWS)
def test_a_kill_at_any_moment_leaves_at_most_one_effect_and_a_row_that_says_so(
    killings: Killings, report: Report, name: str
) -> None:
    flow = FLOWS[name]
    unkilled, whole = killings.tried(Point(name, ""))
    assert judged(flow, unkilled, whole, whole) == []
    points = points_of(name, unkilled.seconds)

    with ThreadPoolExecutor(KILLERS) as threads:
        results = list(threads.map(killings.tried, points))

    wrong: dict[str, list[str]] = {}
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for point, (result, taken) in zip(points, results, strict=True):
        if found := judged(flow, result, taken, whole):
            wrong[f"seed {SEED}: {point} killed at {result.step}: {result.rows}"] = found
        if point.step and not point.beside and not result.killed:
            wrong[str(point)] = ["the step was never reached"]
        ends = "+".join(sorted({row["status"] for row in result.rows if row["tool"] == flow.tool})) or "nothing written"
        moment = result.step if result.killed else "not killed"
        counts["postgresql" if killings.server else "sqlite", name, moment, ends] += 1
    report.kills(counts)
    assert wrong == {}


def judged(flow: Flow, result: Result, taken: Counter[Any], whole: Counter[Any]) -> list[str]:
    """Return what must not be, in words; empty where all holds."""
    wrong = list(result.faults)
    rows = [row for row in result.rows if row["tool"] == flow.tool]
    done = [row for row in rows if row["status"] == "done"]
    unknown = [row for row in rows if row["status"] == "unknown"]
    if twice := {key: times for key, times in taken.items() if times > whole[key]}:
        wrong.append(f"taken more than once: {twice}")
    if len(done) > 1:
        wrong.append(f"{len(done)} actions are done")
    if done and taken != whole:
        wrong.append(f"false done: {dict(taken)} was taken")
    if taken == whole and not (done or unknown):
        wrong.append("all was taken, and no action says so")
    if taken != whole and not unknown and flow.again is None:
        wrong.append("asked for again, and neither done nor unknown")
    if any(said["status"] == "done" for said in result.before) and not done:
        wrong.append("the client was told done, and no action is")
    return [*wrong, *_told(flow, result)]


def _told(flow: Flow, result: Result) -> list[str]:
    """Return what is wrong with what the actions say, and with what the client was told."""
    ids = {row["id"] for row in result.rows}
    wrong = [f"{row['tool']} is still {row['status']}" for row in result.rows if row["status"] not in ENDED | WAITING]
    wrong += [
        f"{row['tool']} was approved by {row['approved_by']}"
        for row in result.rows
        if row["started_at"] and row["approved_by"] != CONFIRMED[flow.by]
    ]
    wrong += [
        f"the action {said['action']}, of which the client was told, is lost"
        for said in [*result.before, *result.after]
        if said["action"] and said["action"] not in ids
    ]
    if flow.again is None and result.after[-1]["status"] not in ("done", "duplicate"):
        wrong.append(f"after all that the client is told {result.after[-1]['status']}: {result.after[-1]['line']}")
    return wrong
