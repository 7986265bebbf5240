"""One cell: a tool, a fault, the request it strikes, for how long, and a confirmation; and what must hold after it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from crm_mcp.store import Action
from tests.harness.clock import RunningClock
from tests.harness.settings import settings

from .served import CONFIRMATIONS, CONFIRMED, ENDED, SAID, WAITING, Confirmation, Said, Served, all_by, copied, started
from .wire import FAULTS, Wire, Wires, writes

FIRST = "00000001-0000-4000-8000-000000000001"
JANE = {"dialsheet": FIRST, "getsales": FIRST, "salespulse": "ctn_000001", "salessheet": FIRST[:-1] + "2"}
QUIET = {"dialsheet": FIRST[:-1] + "c", "getsales": FIRST[:-1] + "c"}
"""Leads from whom nothing has come: to enrol one who has replied is always asked for."""
NEW = {"name": "Ada Byron", "email": "ada@byron.example", "title": "Countess"}
DEAL = {"dialsheet": "00000008-0000-4000-8000-000000000007", "salessheet": "00000002-0000-4000-8000-000000000007"}
ANSWERS_WITHIN = 25.0
"""Seconds within which a call is answered."""
READING = 1
"""Cells of one tool in which a request that only reads is struck."""
OUTWARD = ("send_sms", "send_email", "send_linkedin_message", "start_call", "enroll_in_sequence")
LASTING = 99


def calls_of(vendor: str) -> dict[str, dict[str, Any]]:
    """Return the tools of a vendor that are tried here, with their arguments."""
    jane = JANE[vendor]
    every: dict[str, dict[str, Any]] = {
        "send_sms": {"lead": jane, "message": "On my way"},
        "send_email": {"lead": jane, "subject": "Tomorrow", "body": "Shall we say ten?"},
        "send_linkedin_message": {"lead": jane, "message": "Nice to meet you"},
        "start_call": {"lead": jane},
        "enroll_in_sequence": {
            "sequence": {"getsales": "Welcome"}.get(vendor, "Cold outreach"),
            "leads": [QUIET.get(vendor, jane)],
        },
        "unenroll_from_sequence": {"sequence": "Welcome", "leads": [FIRST[:-1] + "7"]},
        "log_note": {"lead": jane, "content": "Wants a quote"},
        "create_task": {"title": "Ring back", "lead": jane},
        "create_lead": {**NEW, **({"list": "Inbound"} if vendor == "getsales" else {})},
        "create_deal": {"name": "Robots", "lead": jane, "value": 1000},
        "update_lead": {"lead": jane, "title": "Chief"},
        "tag_lead": {"lead": jane, "add": ["vip"]},
        "move_stage": (
            {"deal": DEAL[vendor], "stage": "Proposal"}
            if vendor in DEAL
            else {"lead": jane, "stage": {"getsales": "Replied"}.get(vendor, "Contacted")}
        ),
        "delete_record": {"kind": "lead", "id": jane},
    }
    if vendor == "dialsheet":
        every["send_email"]["mailbox"] = "sales@crm.example"
    return {tool: every[tool] for tool in TOOLS[vendor]}


_RECORDS = ("log_note", "create_task", "create_lead", "create_deal", "update_lead", "move_stage", "delete_record")
TOOLS: Mapping[str, tuple[str, ...]] = {
    "dialsheet": ("send_sms", "send_email", "enroll_in_sequence", *_RECORDS),
    "getsales": (
        *("send_email", "send_linkedin_message", "enroll_in_sequence", "unenroll_from_sequence", "log_note"),
        *("create_lead", "update_lead", "tag_lead", "move_stage", "delete_record"),
    ),
    "salespulse": ("start_call", "create_lead", "update_lead", "move_stage", "delete_record"),
    "salessheet": _RECORDS,
}
PAIRS = [(vendor, tool) for vendor, tools in TOOLS.items() for tool in tools]


@dataclass(frozen=True)
class Cell:
    """One cell."""

    vendor: str
    tool: str
    fault: str
    strikes: int
    """The request that is struck, from 0; of `connection refused`, the step from which on nothing is reached."""
    lasts: int
    """How many requests are struck."""
    by: Confirmation
    again: int
    """How often the client asks again: at once one after the other, or, from 3 on, all at the same time."""

    def __str__(self) -> str:
        return (
            f"{self.vendor} {self.tool}: {self.fault} at request {self.strikes}"
            f"{' and after' if self.lasts > 1 else ''}, by {self.by}, asked again {self.again}x"
        )


@dataclass
class Outcome:
    """What became of a cell."""

    cell: Cell
    said: list[Said]
    rows: list[Action]
    taken: Counter[tuple[str, str]]
    wrong: list[str]
    slowest: float

    @property
    def ends(self) -> str:
        """The statuses that the actions ended in, as one word for the report."""
        return "+".join(sorted({row.status for row in self.rows})) or "nothing written"


def cells_of(vendor: str, tool: str, requests: Mapping[Confirmation, Sequence[tuple[str, str]]]) -> list[Cell]:
    """Return the cells of a tool: each fault at a request that writes (of what reaches people, alone and lasting), and
    some at those that only read. Confirmations, moments and repetitions take turns from tool to tool."""
    turn = PAIRS.index((vendor, tool))
    writing: list[Cell] = []
    reading: list[Cell] = []
    for place, fault in enumerate(FAULTS):
        for lasts in (1, LASTING) if tool in OUTWARD else ((1, LASTING)[(place + turn) % 2],):
            by = CONFIRMATIONS[(place + turn + (lasts > 1)) % len(CONFIRMATIONS)]
            moments = [number for number, each in enumerate(requests[by]) if writes(*each)]
            strikes = moments[(place // len(CONFIRMATIONS)) % len(moments)]
            # What lasts strikes the look at the history as well.
            writing.append(Cell(vendor, tool, fault, strikes, lasts, by, 1 + (place + turn) % 3))
        by = CONFIRMATIONS[(place + turn) % len(CONFIRMATIONS)]
        for number, each in enumerate(requests[by]):
            if not writes(*each):
                lasts = (1, LASTING)[(place + number) % 2]
                reading.append(Cell(vendor, tool, fault, number, lasts, by, 1 + (place + number) % 3))
    return writing + reading[turn % 7 :: max(len(reading) // READING, 1)][:READING]


@dataclass
class Trials:
    """Where cells are tried: emulators behind wires, and a state to copy."""

    wires: Wires
    template: Path
    folder: Path
    count: int = 0

    async def requests(self, vendor: str, tool: str, by: Confirmation) -> tuple[list[tuple[str, str]], Counter[Any]]:
        """Return the requests that a call makes where nothing goes wrong, and what the emulator takes of it."""
        name, wire, given = self._laid(vendor, by)
        clock = RunningClock()
        wire.there.clock = clock.seconds
        async with started(given, by, clock) as served:
            said = await served.ask(tool, calls_of(vendor)[tool])
            assert said[-1].status == "done", said
        self._cleared(name)
        return wire.seen, wire.taken

    async def tried(self, cell: Cell, whole: Counter[tuple[str, str]]) -> Outcome:
        """Try one cell; `whole` is what a call that succeeds makes the emulator take."""
        name, wire, given = self._laid(cell.vendor, cell.by)
        clock = RunningClock()
        wire.there.clock = clock.seconds
        wire.spoil(FAULTS[cell.fault], cell.strikes, cell.lasts)
        arguments = calls_of(cell.vendor)[cell.tool]
        said: list[Said] = []
        try:
            async with started(given, cell.by, clock) as served:
                said += await served.ask(cell.tool, arguments)
                said += await asked_again(served, cell, arguments)
                wire.heal()
                await served.recover(rounds=2)
                said += await served.ask(cell.tool, arguments)
                await served.recover(rounds=1)
                rows = await served.rows()
                log = await served.store.audit.verify()
        finally:
            self._cleared(name)
        wrong = [*judged(cell.by, said, rows, wire.taken, whole), *log.faults]
        return Outcome(cell, said, rows, wire.taken, wrong, max(each.seconds for each in said))

    def _laid(self, vendor: str, by: Confirmation) -> tuple[str, Wire, Any]:
        self.count += 1
        name = f"w{self.count}"
        wire, url = self.wires.open(name, vendor)
        folder = copied(self.template, self.folder / name)
        return name, wire, settings(folder, vendor, all_by(by), url=url, key=wire.there.key)

    def _cleared(self, name: str) -> None:
        self.wires.close(name)
        shutil.rmtree(self.folder / name)

    async def all(
        self, cells: Sequence[Cell], wholes: Mapping[Confirmation, Counter[Any]], at_once: int = 12
    ) -> list[Outcome]:
        """Try many cells, some of them at the same time."""
        limit = anyio.CapacityLimiter(at_once)
        outcomes: list[Outcome] = []

        async def one(cell: Cell) -> None:
            async with limit:
                outcomes.append(await self.tried(cell, wholes[cell.by]))

        async with anyio.create_task_group() as tasks:
            for cell in cells:
                tasks.start_soon(one, cell)
        return sorted(outcomes, key=lambda each: str(each.cell))


async def asked_again(served: Served, cell: Cell, arguments: Mapping[str, Any]) -> list[Said]:
    """Ask for the very same, as a client does that has lost its answer."""
    said: list[Said] = []
    if cell.again < 3:
        for _ in range(cell.again):
            said += await served.ask(cell.tool, arguments)
        return said

    async def once() -> None:
        said.extend(await served.ask(cell.tool, arguments))

    async with anyio.create_task_group() as tasks:
        for _ in range(cell.again):
            tasks.start_soon(once)
    return said


def judged(
    by: Confirmation,
    said: Sequence[Said],
    rows: Sequence[Action],
    taken: Counter[Any],
    whole: Counter[Any],
    times: int = 1,
) -> list[str]:
    """Return what must not be, in words; empty where all holds.

    `whole` is the ledger of one call that succeeds; `times` is how often the same may be done, because it is another
    thing by then.
    """
    wrong: list[str] = []
    part = sum(1 for row in rows if "a part was written" in (row.reason or ""))
    done = [row for row in rows if row.status == "done" and (row.result or {}).get("succeeded") != []]
    unknown = [row for row in rows if row.status == "unknown"]
    most = {key: (count + part) * times for key, count in whole.items()}
    if twice := {key: count for key, count in taken.items() if count > most.get(key, 0)}:
        wrong.append(f"taken more than once: {twice}")
    if len(done) > times:
        wrong.append(f"{len(done)} actions are done")
    if done and any(taken[key] < count for key, count in whole.items()):
        wrong.append(f"false done: only {dict(taken)} was taken")
    if taken and not (done or unknown or part):
        wrong.append(f"{dict(taken)} was taken, and no action says so")
    return [*wrong, *_told(by, said, rows, done)]


def _told(by: Confirmation, said: Sequence[Said], rows: Sequence[Action], done: Sequence[Action]) -> list[str]:
    """Return what is wrong with what the actions say, and with what the client was told."""
    wrong = [f"{row.id} is still {row.status}" for row in rows if row.status not in ENDED | WAITING]
    wrong += [
        f"{row.id} is {row.status}, and was approved by {row.approved_by}"
        for row in rows
        if row.started_at and row.approved_by != CONFIRMED[by]
    ]
    wrong += [f"an answer took {each.seconds:.1f} s" for each in said if each.seconds > ANSWERS_WITHIN]
    ids = {row.id for row in rows}
    for each in said:
        if each.status not in SAID | {"error"}:
            wrong.append(f"the client was told {each.status}")
        if each.action and each.action not in ids:
            wrong.append(f"the action {each.action}, of which the client was told, is lost")
        if each.status == "done" and not done and each.fields.get("succeeded") != []:
            wrong.append("the client was told done, and no action is")
    return wrong


def table(outcomes: Sequence[Outcome]) -> Counter[tuple[str, str, str, str]]:
    """Count outcomes by tool, fault, vendor and end, for the report."""
    return Counter((each.cell.tool, each.cell.fault, each.cell.vendor, each.ends) for each in outcomes)
