"""What surrounds the server fails: another process holds the state's file for half a minute, the disk is full, the
PostgreSQL server drops every connection, or goes down. Nothing is sent without a row; what was sent is written down
once that can be.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from pydantic import SecretStr

from crm_mcp.store import FILE_NAME
from tests.databases import GIVEN, Server, database, own_server
from tests.harness.clock import RunningClock
from tests.harness.settings import settings

from .cells import calls_of
from .report import Report
from .served import Said, Served, all_by, copied, made_state, started
from .wire import Wire, Wires

ROOT = Path(__file__).parents[2]
HELD = 30.0
"""Seconds for which another process holds the file."""
WITHIN = 25.0
"""Seconds within which a call is answered, whatever happens."""
SMS = calls_of("dialsheet")["send_sms"]
SENDS = ("POST", "/api/v1/sms")

HOLDING = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
db.execute("ROLLBACK")
db.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_state(tmp_path / "state").parent


@contextmanager
def held(folder: Path, seconds: float) -> Generator[subprocess.Popen[str]]:
    """Let another process hold the state's file."""
    command = [sys.executable, "-c", HOLDING, str(folder / FILE_NAME), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.wait(timeout=seconds + 5)


async def recorded(served: Served, within: float = 30.0) -> list[str]:
    """Wait until nothing is under way any more; returns the statuses of all actions."""
    give_up = time.monotonic() + within
    while True:
        statuses = [row.status for row in await served.rows()]
        if not {"sending", "running"} & set(statuses):
            return statuses
        assert time.monotonic() < give_up, statuses
        await anyio.sleep(0.1)


@pytest.mark.timeout(150)
async def test_a_file_that_another_process_holds_for_half_a_minute_lets_nothing_out_and_loses_nothing(
    wires: Wires, folder: Path, tmp_path: Path, report: Report
) -> None:
    said: dict[str, list[Said]] = {"before": [], "after": []}

    async def sent_while_held(when: str, moment: str) -> Wire:
        mine = copied(folder, tmp_path / when)
        wire, url = wires.open(when, "dialsheet")
        given = settings(mine, "dialsheet", all_by("allow"), url=url, key=wire.there.key)
        async with started(given, "allow") as served:
            await served.store.limits.outbound()
            holder: list[Any] = []

            def at(step: str) -> None:
                if step == moment and not holder:
                    holder.append(held(mine, HELD))
                    holder[0].__enter__()

            served.outbox.at = at
            ended = time.monotonic() + HELD
            at("start")
            while not said[when] or time.monotonic() < ended:
                said[when] += await served.ask("send_sms", SMS)
                if time.monotonic() < ended - 1:
                    assert wire.taken[SENDS] == (1 if when == "after" else 0)
            await anyio.to_thread.run_sync(holder[0].__exit__, None, None, None)
            said[when] += await served.ask("send_sms", SMS)
            assert await recorded(served) == ["done"]
            assert (await served.store.audit.verify()).faults == ()
        return wire

    async def both(when: str, moment: str, used: list[Wire]) -> None:
        used.append(await sent_while_held(when, moment))

    used: list[Wire] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(both, "before", "start", used)
        tasks.start_soon(both, "after", "claimed", used)

    assert [wire.taken[SENDS] for wire in used] == [1, 1]
    assert max(each.seconds for each in [*said["before"], *said["after"]]) < WITHIN
    refused = [each for each in said["before"] if each.status == "error"]
    assert refused[0] is said["before"][0]
    assert all("is in use" in each.line or "is busy" in each.line for each in refused), refused
    assert said["after"][0].status in ("done", "running")
    report.runs("state held by another process", seconds=HELD, calls=len(said["before"]) + len(said["after"]))


FILLING = """
import json, resource, signal, sys
from pathlib import Path
import anyio
from tests.faults.cells import calls_of
from tests.faults.served import all_by, started
from tests.harness.settings import settings

folder, url, key, moment = Path(sys.argv[1]), *sys.argv[2:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)


async def main():
    sms = calls_of("dialsheet")["send_sms"]
    async with started(settings(folder, "dialsheet", all_by("allow"), url=url, key=key), "allow") as served:
        await served.store.limits.outbound()
        filled = []

        def at(step):
            if step == moment and not filled:
                filled.append(step)
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

        served.outbox.at = at
        at("start")
        said = [each for _ in range(2) for each in await served.ask("send_sms", sms)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        said += await served.ask("send_sms", sms)
        with anyio.fail_after(30):
            while any(row.status == "sending" for row in await served.rows()):
                await anyio.sleep(0.1)
        rows = [row.status for row in await served.rows()]
        print(json.dumps([[each.status for each in said], rows, max(each.seconds for each in said)]))


anyio.run(main)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("moment", ["start", "beginning", "claimed", "answered"])
def test_a_disk_that_takes_no_more_lets_nothing_out_and_what_was_out_is_written_down_when_it_does_again(
    wires: Wires, folder: Path, report: Report, moment: str
) -> None:
    wire, url = wires.open(f"full-{moment}", "dialsheet")

    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(folder), url, wire.there.key, moment],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    from json import loads

    said, rows, slowest = loads(done.stdout)
    assert rows == ["done"], (said, rows)
    assert wire.taken[SENDS] == 1
    assert slowest < WITHIN
    if moment in ("start", "beginning"):
        assert said == ["error", "error", "done"]
    else:
        assert said[0] == "done"
        assert said[-1] == "duplicate"
    report.runs("disk full", moment=moment, answers=" ".join(said))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("moment", ["start", "beginning", "claimed", "answered", "settled"])
async def test_a_database_server_that_drops_every_connection_costs_no_message_and_doubles_none(
    wires: Wires, tmp_path: Path, report: Report, postgres_url: str, moment: str
) -> None:
    wire, url = wires.open(f"dropped-{moment}", "dialsheet")
    given = settings(
        tmp_path, "dialsheet", all_by("allow"), url=url, key=wire.there.key, database_url=SecretStr(postgres_url)
    )
    clock = RunningClock()
    wire.there.clock = clock.seconds
    async with started(given, "allow", clock) as served:
        await served.store.limits.outbound()
        dropped: list[str] = []

        def at(step: str) -> None:
            if step == moment and not dropped:
                dropped.append(step)
                drop_all(postgres_url)

        served.outbox.at = at
        at("start")
        said = [each for _ in range(3) for each in await served.ask("send_sms", SMS)]
        await served.recover(rounds=1)
        said += await served.ask("send_sms", SMS)
        statuses = await recorded(served)
        faults = (await served.store.audit.verify()).faults

    assert (statuses, wire.taken[SENDS], faults) == (["done"], 1, ())
    assert said[-1].status == "duplicate"
    assert max(each.seconds for each in said) < WITHIN
    report.runs("PostgreSQL connections dropped", moment=moment, answers=" ".join(each.status for each in said))


@pytest.fixture(scope="module")
def postgres() -> Generator[Server]:
    """A server that may be stopped: no other test uses it."""
    if os.environ.get(GIVEN):
        pytest.skip("this machine has a server for the tests, and none that can be stopped")
    with own_server() as server:
        yield server


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("moment", "statuses"),
    [
        ("beginning", ["unreachable", "done", "duplicate"]),
        ("claimed", ["done", "duplicate", "duplicate"]),
        ("answered", ["done", "duplicate", "duplicate"]),
    ],
)
async def test_a_database_server_that_goes_down_and_comes_back_costs_no_message_and_doubles_none(
    wires: Wires, tmp_path: Path, report: Report, postgres: Server, moment: str, statuses: list[str]
) -> None:
    wire, url = wires.open(f"down-{moment}", "dialsheet")
    said: list[Said] = []
    with database(postgres.url, "template0") as state:
        given = settings(
            tmp_path, "dialsheet", all_by("allow"), url=url, key=wire.there.key, database_url=SecretStr(state)
        )
        clock = RunningClock()
        wire.there.clock = clock.seconds
        async with started(given, "allow", clock) as served:
            await served.store.limits.outbound()

            def at(step: str) -> None:
                if step == moment and postgres.runs and not said:
                    postgres.stop()

            served.outbox.at = at
            said += await served.ask("send_sms", SMS)
            postgres.start()
            said += await served.ask("send_sms", SMS)
            await served.recover(rounds=1)
            said += await served.ask("send_sms", SMS)
            ended = await recorded(served)
            faults = (await served.store.audit.verify()).faults

    told = [each.line.partition(":")[0] if each.status == "error" else each.status for each in said]
    assert (told, ended, wire.taken[SENDS], faults) == (statuses, ["done"], 1, ())
    assert max(each.seconds for each in said) < WITHIN
    report.runs("PostgreSQL goes down and comes back", moment=moment, answers=" ".join(told))


def drop_all(url: str) -> None:
    """Let the server end all connections to this database but this one."""
    with closing(psycopg.connect(url, autocommit=True)) as db:
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
