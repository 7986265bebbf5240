"""Once a person has turned it off, nothing leaves: what waits, what is queued, and what is racing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.errors import CrmError
from tests.harness.app import App
from tests.harness.clock import Clock
from tests.harness.person import Person
from tests.harness.settings import rules

from .attacked import AttackedLocal

OPEN = {"outward": "allow"}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[App]:
    made = App(tmp_path, Clock(), sample=True, policy=rules(**OPEN))
    await made.new_leads(40)
    yield made
    await made.close()


def here(app: App) -> AttackedLocal:
    attacked = AttackedLocal(app.settings.data_dir)
    attacked.began()
    return attacked


async def mail(app: App, lead: int, client: Person | None = None, **more: Any) -> dict[str, Any]:
    fields = {"lead": f"L{lead}", "subject": "Hello", "body": f"Number {lead}", **more}
    return await app.call("send_email", client or Person(), **fields)


async def test_what_waits_for_a_yes_does_not_leave(app: App, tmp_path: Path) -> None:
    asking = App(tmp_path, app.clock, policy=rules())
    queueing = App(tmp_path, app.clock, policy=rules(outward="approve"))
    token, queued = await mail(asking, 301), await mail(queueing, 302)
    attacked = here(app)
    asked = Person("yes")
    asked.before_the_answer = lambda: app.store.limits.set_outbound(False, "Ann")

    said = [
        await mail(asking, 303, asked),
        await asking.pipeline.redeem(token["action_id"], token["summary"], Person()),
        await queueing.pipeline.approve(await app.row(queued["action_id"]), "Ann"),
        await app.call("enroll_in_sequence", sequence="Follow-up", leads=["L304"]),
        await mail(app, 305, resend_of=None),
        await mail(app, 306, defer=True),
    ]

    await asking.close()
    await queueing.close()
    assert {each["status"] for each in said} == {"blocked"}, said
    assert all("kill switch" in each["reason"] for each in said)
    assert attacked.sent() == []


@pytest.mark.parametrize("hours", [6.5, 31, 60])
async def test_what_is_queued_does_not_leave_when_it_comes_due(tmp_path: Path, hours: float) -> None:
    clock = Clock()
    night = rules(outward="allow", blackout_dates=["2026-03-20"])
    app = App(tmp_path, clock, sample=True, policy=night)
    await app.new_leads(10)
    attacked = here(app)
    queued = [await mail(app, 301 + n, defer=True) for n in range(6)]
    await app.store.limits.set_outbound(False, "Ann")

    clock.advance(hours=hours)
    worked = [await app.worker.work_once(("local",)) for _ in range(len(queued) + 1)]
    clock.advance(minutes=5)
    worked.append(await app.worker.work_once(("local",)))

    rows = [await app.row(each["action_id"]) for each in queued]
    await app.close()
    assert {each["status"] for each in queued} == {"scheduled"}
    assert worked == [True] * len(queued) + [False, False]
    said = "kill switch" if hours < 30 else "nothing was sent"
    assert {row.status for row in rows} == {"blocked" if hours < 30 else "expired"}
    assert all(said in str(row.reason) for row in rows)
    assert attacked.sent() == []


async def test_of_sends_that_race_with_the_switch_none_begins_after_it(app: App, tmp_path: Path) -> None:
    other = App(tmp_path, app.clock, policy=rules(**OPEN))
    attacked, statuses = here(app), list[str]()
    begun, started = set[str](), anyio.Event()

    async def send(lead: int) -> None:
        statuses.append((await mail(other if lead % 2 else app, lead))["status"])
        if statuses.count("done") == 3:
            started.set()

    async def turn() -> None:
        await started.wait()
        await app.store.limits.set_outbound(False, "Ann")
        rows, _ = await app.store.actions.page(caller=None, status=None, lead=None, after=None, limit=100)
        begun.update(row.id for row in rows if row.status in ("sending", "done"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        for lead in range(301, 341):
            tasks.start_soon(send, lead)

    rows, _ = await app.store.actions.page(caller=None, status="done", lead=None, after=None, limit=100)
    await other.close()
    assert {row.id for row in rows} <= begun
    assert len(attacked.sent()) == len(rows) == statuses.count("done")
    assert set(statuses) <= {"done", "blocked"}


async def test_no_tool_turns_it_on_again(app: App) -> None:
    await app.store.limits.set_outbound(False, "Ann")
    attacked = here(app)

    sent = await mail(app, 301)
    undone = [each for each in await _undo_all(app) if each.get("status") == "undone"]
    again = await mail(app, 302)

    assert (sent["status"], again["status"], undone) == ("blocked", "blocked", [])
    assert attacked.sent() == []
    assert await app.store.limits.outbound() is not None


async def _undo_all(app: App) -> list[dict[str, Any]]:
    rows, _ = await app.store.actions.page(caller=None, status=None, lead=None, after=None, limit=100)
    said: list[dict[str, Any]] = []
    for row in rows:
        try:
            said.append(await app.call("undo_action", Person(), action_id=row.id))
        except CrmError:
            continue
    return said


async def test_what_the_settings_file_turns_off_stays_off(tmp_path: Path) -> None:
    app = App(tmp_path, Clock(), sample=True, policy=rules(**OPEN, outbound="off"))
    await app.new_leads(2)
    attacked = here(app)
    await app.store.limits.set_outbound(True, "Ann")

    said = await mail(app, 301)

    await app.close()
    assert (said["status"], attacked.sent()) == ("blocked", [])
    assert "settings file" in said["reason"]
