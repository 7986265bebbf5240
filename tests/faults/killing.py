"""A process that is killed at work, again and again: `python -m tests.faults.killing`.

It imports everything once and has no threads. For each point, a line of JSON on stdin, it forks a child that goes one
way with a server of its own, and kills it at a step of the action, or after some microseconds; then it finds the same
state itself, does what a server does after a start, and what a client does that has heard nothing. What was said and
written goes to stdout, a line for each point. The emulators live elsewhere, and keep their ledgers.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
from pydantic import SecretStr

from crm_mcp import store

if __name__ == "__main__":  # before the rooms that use it are imported: who waits beside a dead one, waits less
    store.LEASE = timedelta(seconds=2)

from crm_mcp.actions import outbox
from tests.harness.clock import RunningClock
from tests.harness.settings import settings

from .served import Confirmation, Said, Served, all_by, started

NIGHT = 23
"""The hour in New York at which what is deferred is asked for."""
MORNING = 10
"""Hours after that when it may go."""
LEADS = 130
"""Rows of an import that runs as a job."""


@dataclass(frozen=True)
class Point:
    """Where a child is killed: at a step, or after some time, or (neither) not at all."""

    flow: str
    folder: str
    base_url: str = ""
    key: str = ""
    database: str | None = None
    step: str | None = None
    """A step of the outbox, with the time of its coming: `claimed:2` is the second."""
    after: float | None = None
    """Seconds after the flow has begun, or after the first `since`."""
    since: str | None = None
    beside: bool = False
    """Another process on the same state asks for the same at the same time."""
    warm: bool = False
    """It is gone in the parent itself, unkilled, so that the children find made what takes time to make."""


@dataclass
class Result:
    """What became of a point."""

    killed: bool
    step: str
    """The last step that was reached."""
    seconds: float
    """How long the child was at work."""
    before: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    after: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    faults: list[str] = field(default_factory=list[str])


Prepared = Any
Prepare = Callable[[Served], Awaitable[Prepared]]
Act = Callable[[Served, Prepared], Awaitable[list[Said]]]


@dataclass(frozen=True)
class Flow:
    """One way of an action, from where the killing begins."""

    vendor: str
    by: Confirmation
    tool: str
    arguments: dict[str, Any]
    steps: tuple[str, ...]
    prepare: Prepare | None = None
    act: Act | None = None
    """None: the call, with whatever yes it needs."""
    again: Act | None = None
    """What the client does after the restart; None: the same call."""
    night: bool = False
    """It begins when nobody may be reached, and is killed the morning after."""


JANE = "00000001-0000-4000-8000-000000000001"
SMS = {"lead": JANE, "message": "On my way"}
MAIL = {"lead": JANE, "subject": "Tomorrow", "body": "Ten?", "mailbox": "sales@crm.example"}
ITEMS = tuple(f"items {what}:{n}" for n in (1, 2) for what in ("taken", "done", "settled"))
RUNS = ("claimed:1", "answered:1", "settled:1")


async def _queued(served: Served) -> str:
    said = await served.call("send_sms", **SMS)
    assert said.status == "pending_approval", said
    return said.action or ""


async def _approved(served: Served, action: str) -> list[Said]:
    return [await served.approve(action)]


async def _proposed(served: Served) -> Said:
    said = await served.call("send_sms", **SMS)
    assert said.status == "confirmation_required", said
    return said


async def _confirmed(served: Served, said: Said) -> list[Said]:
    return [await served.call("confirm_action", action_id=said.action, summary=said.fields["summary"])]


async def _deferred(served: Served) -> None:
    said = await served.call("send_sms", **SMS, defer=True)
    assert said.status == "scheduled", said


async def _morning(served: Served, _: object) -> list[Said]:
    served.clock.advance(hours=MORNING)
    while await served.worker.work_once((served.connection,)):
        pass
    return []


async def _changed(served: Served) -> str:
    said = await served.call("update_lead", lead=JANE, title="Chief")
    assert said.status == "done", said
    return said.action or ""


async def _undone(served: Served, action: str) -> list[Said]:
    return [await served.call("undo_action", action_id=action)]


async def _nothing(_ground: Served, _: object) -> list[Said]:
    return []


FLOWS = {
    "allowed": Flow("dialsheet", "allow", "send_sms", SMS, ("beginning:1", *RUNS)),
    "asked": Flow("dialsheet", "yes", "send_email", MAIL, ("proposed:1", "proposed:2", "claiming:1", *RUNS)),
    "token": Flow("dialsheet", "token", "send_sms", SMS, ("claiming:1", *RUNS), _proposed, _confirmed),
    "approved": Flow("dialsheet", "approval", "send_sms", SMS, ("claiming:1", *RUNS), _queued, _approved),
    "deferred": Flow(
        "dialsheet", "allow", "send_sms", SMS, ("claiming:1", *RUNS), _deferred, _morning, _nothing, night=True
    ),
    "undone": Flow("dialsheet", "allow", "undo_action", {}, ("beginning:1", *RUNS), _changed, _undone, _nothing),
    "call": Flow("salespulse", "allow", "start_call", {"lead": "ctn_000001"}, ("beginning:1", *RUNS)),
    "enrolled": Flow(
        "getsales",
        "yes",
        "enroll_in_sequence",
        {"sequence": "Welcome", "leads": [JANE]},
        ("proposed:1", "claiming:1", *RUNS),
    ),
    "embedded": Flow("local", "allow", "send_sms", {**SMS, "lead": "L1"}, ("beginning:1", *RUNS)),
    "job": Flow(
        "local",
        "yes",
        "import_leads",
        {"leads": [{"name": f"Row {n}", "email": f"row{n}@rows.example"} for n in range(LEADS)]},
        ("proposed:1", "claiming:1", "items added:1", *ITEMS, "settled:1"),
    ),
}


def begun(flow: Flow) -> RunningClock:
    """Return a clock on which a flow can begin."""
    clock = RunningClock()
    if flow.night:
        local = clock().astimezone(ZoneInfo("America/New_York"))
        clock.advance(hours=(NIGHT - local.hour) % 24)
    return clock


def ended(flow: Flow) -> RunningClock:
    """Return the clock on which it ends, as the CRM has it."""
    clock = begun(flow)
    clock.advance(hours=MORNING if flow.night else 0)
    return clock


def server_of(point: Point, flow: Flow, clock: RunningClock) -> Any:
    """Return the server of a point, not yet started."""
    policy = all_by(flow.by) | ({"quiet_hours": "21:00-08:00"} if flow.night else {})
    more: dict[str, Any] = {"database_url": SecretStr(point.database)} if point.database else {}
    given = settings(Path(point.folder), flow.vendor, policy, url=point.base_url, key=point.key, **more)
    return started(given, flow.by, clock)


async def acting(point: Point, tell: Callable[[str], None]) -> None:
    """Go a flow's way, up to where this process is killed."""
    flow = FLOWS[point.flow]
    wanted, _, nth = (point.step or "").partition(":")
    seen = 0

    def at(step: str) -> None:
        nonlocal seen
        tell(f"step {step}")
        seen += step == wanted
        if step == wanted and seen == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    async with server_of(point, flow, begun(flow)) as served:
        prepared = await flow.prepare(served) if flow.prepare else None
        await served.store.limits.outbound()  # the state is open: what is killed is work, not the start
        served.outbox.at = at
        tell("go")
        said = await flow.act(served, prepared) if flow.act else await served.ask(flow.tool, flow.arguments)
        tell("said " + json.dumps([asdict(each) for each in said]))


async def recovering(point: Point) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Do what is done after a kill: the client asks again, the server works on what it finds.

    Returns what the client was told, the actions, and what is wrong with the log.
    """
    flow = FLOWS[point.flow]
    clock = ended(flow)
    clock.advance(seconds=20)
    async with server_of(point, flow, clock) as served:
        if flow.again:
            said = await flow.again(served, None)
        else:
            said = await served.ask(flow.tool, flow.arguments)
        await served.recover(rounds=1)
        if not flow.again:
            said += await served.ask(flow.tool, flow.arguments)
        rows = [row.model_dump(mode="json") for row in await served.rows()]
        log = await served.store.audit.verify()
    return [asdict(each) for each in said], rows, list(log.faults)


class Child:
    """A forked process, and what it tells."""

    def __init__(self, work: Callable[[Point, Callable[[str], None]], Awaitable[None]], point: Point) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(reading)
                anyio.run(work, point, partial(_tell, writing))
                code = 0
            except BaseException:  # noqa: BLE001 - a child must never go on as if it were the parent
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        self._told = os.fdopen(reading, "rb")

    def line(self) -> str:
        """Return the next line that it tells; empty: it has ended."""
        return self._told.readline().decode().rstrip("\n")

    def ended(self) -> tuple[int, list[str]]:
        """Wait for its end; returns its exit code (below 0: the signal that killed it) and the rest of its lines."""
        lines = self._told.read().decode().splitlines()
        self._told.close()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), lines


def _tell(pipe: int, line: str) -> None:
    os.write(pipe, line.encode() + b"\n")


def _untold(_: str) -> None:
    """Nobody wants to know."""


def tried(point: Point) -> Result:
    """Kill one child at a point, and let another one find what it left."""
    child = Child(acting, point)
    beside = Child(acting, replace(point, step=None, after=None)) if point.beside else None
    early = [child.line()]
    began = time.monotonic()
    while point.since and early[-1] and early[-1] != f"step {point.since}":
        early.append(child.line())
    if early[-1] and point.after is not None:
        time.sleep(point.after)
        os.kill(child.pid, signal.SIGKILL)
    code, lines = child.ended()
    seconds = time.monotonic() - began
    lines = [*early, *lines]
    if lines[0] != "go" or code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a child ended with {code} at {point}: {lines}")
    steps = [each.removeprefix("step ") for each in lines if each.startswith("step ")]
    said = [json.loads(each.removeprefix("said ")) for each in lines if each.startswith("said ")]
    result = Result(code != 0, steps[-1] if steps else "begun", seconds, [each for some in said for each in some])
    if beside:
        beside.ended()
    result.after, result.rows, result.faults = anyio.run(recovering, point)
    return result


def imported() -> None:
    """Import what the children will need, so that it is not theirs to do."""
    import importlib

    for name in (
        *(
            "sqlalchemy.dialects.sqlite",
            "sqlalchemy.dialects.postgresql",
            "psycopg",
            "phonenumbers",
            "httpx2",
            "uvicorn",
        ),
        *("alembic.command", "anyio._backends._asyncio", "concurrent.futures.thread", "h11", "httpcore2"),
        *("crm_mcp.store.actions", "crm_mcp.store.audit", "crm_mcp.store.contacts", "crm_mcp.store.items"),
        *(
            "crm_mcp.actions.jobs",
            "crm_mcp.actions.guards.rules",
            "crm_mcp.actions.guards.do_not_contact",
            "crm_mcp.actions.undo.undo",
        ),
        *("crm_mcp.backends.local", "crm_mcp.backends.dialsheet", "crm_mcp.backends.getsales"),
        *("crm_mcp.backends.salespulse", "phonenumbers.timezone", "email_validator"),
    ):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            sys.stderr.write(f"{name} is not there\n")


def main() -> None:
    """Try point after point."""
    imported()
    outbox.LOOK_PAUSES = (0.0,)
    for line in sys.stdin:
        point = Point(**json.loads(line))
        result = Result(killed=False, step="", seconds=0.0)
        if point.warm:
            anyio.run(acting, point, _untold)
            anyio.run(recovering, point)
            gc.freeze()
        else:
            for thread in set(threading.enumerate()) - {threading.main_thread()}:
                thread.join(timeout=10)  # of the last recovery, about to end
            assert threading.active_count() == 1, threading.enumerate()
            result = tried(point)
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
