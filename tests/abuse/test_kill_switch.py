"""Once a person has turned it off, nothing leaves: what waits, what is queued, and what is racing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.errors import CrmError
from tests.actions.benches import Bench
from tests.actions.roads import Clock, Person

from .ground import LocalWorld, rules

OPEN = {"outward": "allow"}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    made = Bench(tmp_path, Clock(), policy=rules(**OPEN))
    await made.leads(40)
    yield made
    await made.close()


def here(bench: Bench) -> LocalWorld:
    world = LocalWorld(bench.settings.data_dir)
    world.began()
    return world


async def mail(bench: Bench, lead: int, client: Person | None = None, **more: Any) -> dict[str, Any]:
    fields = {"lead": f"L{lead}", "subject": "Hello", "body": f"Number {lead}", **more}
    return await bench.call("send_email", client or Person(), **fields)


async def test_what_waits_for_a_yes_does_not_leave(bench: Bench, tmp_path: Path) -> None:
    asking = Bench(tmp_path, bench.clock, policy=rules())
    queueing = Bench(tmp_path, bench.clock, policy=rules(outward="approve"))
    token, queued = await mail(asking, 301), await mail(queueing, 302)
    world = here(bench)
    asked = Person("yes")
    asked.before_the_answer = lambda: bench.store.limits.set_outbound(False, "Ann")

    said = [
        await mail(asking, 303, asked),
        await asking.pipeline.redeem(token["action_id"], token["summary"], Person()),
        await queueing.pipeline.approve(await bench.row(queued["action_id"]), "Ann"),
        await bench.call("enroll_in_sequence", sequence="Follow-up", leads=["L304"]),
        await mail(bench, 305, resend_of=None),
        await mail(bench, 306, defer=True),
    ]

    await asking.close()
    await queueing.close()
    assert {each["status"] for each in said} == {"blocked"}, said
    assert all("kill switch" in each["reason"] for each in said)
    assert world.sent() == []


@pytest.mark.parametrize("hours", [6.5, 31, 60])
async def test_what_is_queued_does_not_leave_when_it_comes_due(tmp_path: Path, hours: float) -> None:
    clock = Clock()
    night = rules(outward="allow", blackout_dates=["2026-03-20"])
    bench = Bench(tmp_path, clock, policy=night)
    await bench.leads(10)
    world = here(bench)
    queued = [await mail(bench, 301 + n, defer=True) for n in range(6)]
    await bench.store.limits.set_outbound(False, "Ann")

    clock.advance(hours=hours)
    worked = [await bench.worker.work_once(("local",)) for _ in range(len(queued) + 1)]
    clock.advance(minutes=5)
    worked.append(await bench.worker.work_once(("local",)))

    rows = [await bench.row(each["action_id"]) for each in queued]
    await bench.close()
    assert {each["status"] for each in queued} == {"scheduled"}
    assert worked == [True] * len(queued) + [False, False]
    said = "kill switch" if hours < 30 else "nothing was sent"
    assert {row.status for row in rows} == {"blocked" if hours < 30 else "expired"}
    assert all(said in str(row.reason) for row in rows)
    assert world.sent() == []


async def test_of_sends_that_race_with_the_switch_none_begins_after_it(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path, bench.clock, policy=rules(**OPEN))
    world, statuses = here(bench), list[str]()
    begun, started = set[str](), anyio.Event()

    async def send(lead: int) -> None:
        statuses.append((await mail(other if lead % 2 else bench, lead))["status"])
        if statuses.count("done") == 3:
            started.set()

    async def turn() -> None:
        await started.wait()
        await bench.store.limits.set_outbound(False, "Ann")
        rows, _ = await bench.store.actions.page(caller=None, status=None, lead=None, after=None, limit=100)
        begun.update(row.id for row in rows if row.status in ("sending", "done"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        for lead in range(301, 341):
            tasks.start_soon(send, lead)

    rows, _ = await bench.store.actions.page(caller=None, status="done", lead=None, after=None, limit=100)
    await other.close()
    assert {row.id for row in rows} <= begun
    assert len(world.sent()) == len(rows) == statuses.count("done")
    assert set(statuses) <= {"done", "blocked"}


async def test_no_tool_turns_it_on_again(bench: Bench) -> None:
    await bench.store.limits.set_outbound(False, "Ann")
    world = here(bench)

    sent = await mail(bench, 301)
    undone = [each for each in await _undo_all(bench) if each.get("status") == "undone"]
    again = await mail(bench, 302)

    assert (sent["status"], again["status"], undone) == ("blocked", "blocked", [])
    assert world.sent() == []
    assert await bench.store.limits.outbound() is not None


async def _undo_all(bench: Bench) -> list[dict[str, Any]]:
    rows, _ = await bench.store.actions.page(caller=None, status=None, lead=None, after=None, limit=100)
    said: list[dict[str, Any]] = []
    for row in rows:
        try:
            said.append(await bench.call("undo_action", Person(), action_id=row.id))
        except CrmError:
            continue
    return said


async def test_what_the_settings_file_turns_off_stays_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Clock(), policy=rules(**OPEN, outbound="off"))
    await bench.leads(2)
    world = here(bench)
    await bench.store.limits.set_outbound(True, "Ann")

    said = await mail(bench, 301)

    await bench.close()
    assert (said["status"], world.sent()) == ("blocked", [])
    assert "settings file" in said["reason"]
