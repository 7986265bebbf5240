"""A yes serves once, for who was asked, for ten minutes, and for exactly what was shown: whatever else is tried.

The attempts are counted; none may change anything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.from_thread import BlockingPortal
from mcp_types import CallToolResult, InputRequiredResult

from crm_mcp.actions.intent import Client
from crm_mcp.errors import CrmError, Forbidden, InvalidArgument, NotFound
from crm_mcp.model import LeadUpdate
from crm_mcp.store import Action
from tests.harness.app import App
from tests.harness.clock import Clock
from tests.harness.person import Person
from tests.harness.settings import OURS, rules
from tests.server.talk import YES, text_in

from .attacked import AttackedCrm, attacked, opened

ME = "ann via tests"
ASKING = {"write": "confirm", "outward": "confirm", "destructive": "confirm", "quiet_hours": "off"}
CALLS: dict[str, dict[str, Any]] = {
    "send_email": {"lead": "L1", "subject": "The quote", "body": "Here it is.", "reply_to": OURS},
    "send_sms": {"lead": "L1", "message": "Shall we talk at 3 pm?"},
    "enroll_in_sequence": {"sequence": "Follow-up", "leads": ["L3", "L4"]},
    "unenroll_from_sequence": {"sequence": "Follow-up", "leads": ["L30"]},
    "delete_record": {"kind": "lead", "id": "L5"},
    "create_lead": {"name": "Ann", "email": "ann@new.example", "tags": ["vip"], "custom_fields": {"Size": "9"}},
    "update_lead": {"lead": "L6", "title": "CTO", "email": "cto@new.example", "custom_fields": {"Size": "9"}},
    "tag_lead": {"lead": "L7", "add": ["vip"]},
    "log_note": {"lead": "L8", "content": "Spoke.", "kind": "call", "duration_seconds": 60},
    "create_task": {"title": "Ring", "lead": "L9", "priority": "high"},
    "update_task": {"task": "T1", "title": "Ring her"},
    "create_deal": {"name": "Pilot", "lead": "L10", "value": 100, "currency": "USD"},
    "update_deal": {"deal": "D1", "value": 7},
    "move_stage": {"stage": "Qualified", "lead": "L12"},
    "import_leads": {"leads": [{"name": "Ann", "email": "ann@import.example"}], "if_exists": "update"},
}
"""A call of each guarded tool of the embedded CRM."""
MORE: dict[str, dict[str, Any]] = {
    "send_email": {"mailbox": "sales@northwind-supply.example", "defer": True},
    "send_sms": {"defer": True},
    "delete_record": {},
    "update_lead": {"clear": ["phone"]},
    "tag_lead": {"remove": ["inbound"]},
    "update_task": {"completed": True},
    "update_deal": {"status": "won"},
}
"""What could be added to a call after it was shown."""
LOOK_ALIKES = str.maketrans(
    "aeopcxyAEOPCTL1", "\u0430\u0435\u043e\u0440\u0441\u0445\u0443\u0410\u0415\u041e\u0420\u0421\u0422\u2160\u0661"
)


@dataclass
class Attempts:
    """What was tried, and what of it was accepted."""

    tried: int = 0
    accepted: list[str] = field(default_factory=list[str])

    async def refused(self, what: str, attempt: Callable[[], Any], *errors: type[CrmError]) -> None:
        """Make an attempt that must be refused with one of these errors."""
        self.tried += 1
        try:
            result = await attempt()
        except errors:
            return
        self.accepted.append(f"{what}: {result}")


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[App]:
    opened_now = App(tmp_path, Clock(), sample=True, policy=rules(**ASKING))
    await opened_now.crm.update_lead("L1", LeadUpdate(phone="+14155550142"))
    yield opened_now
    await opened_now.close()


def state_of(app: App) -> list[str]:
    """Return all that the CRM holds."""
    with closing(sqlite3.connect(app.settings.data_dir / "crm.sqlite3", timeout=20)) as db:
        return list(db.iterdump())


async def asked_for(app: App, tool: str, client: Client | None = None) -> Action:
    """Make a call that waits for a token; returns its action."""
    said = await app.call(tool, client or Person(), **CALLS[tool])
    assert said["status"] == "confirmation_required", said
    return await app.row(said["action_id"])


async def all_asked_for(app: App) -> dict[str, Action]:
    return {tool: await asked_for(app, tool) for tool in CALLS}


def altered(summary: str) -> Iterator[str]:
    """Return a summary with one thing in it changed."""
    places = range(0, len(summary), max(1, len(summary) // 20))
    for n in places:
        yield summary[:n] + chr(ord(summary[n]) ^ 1) + summary[n + 1 :]
        yield summary[:n] + summary[n + 1 :] if summary[n] != " " else summary[:n] + "_" + summary[n + 1 :]
        yield f"{summary[:n]}\u200b{summary[n:]}"
        yield f"{summary[:n]}\u202e{summary[n:]}"
        yield f"{summary[:n]}{chr(0xE0041)}{summary[n:]}"
        swapped = summary[n:].translate(LOOK_ALIKES)
        if swapped != summary[n:]:
            yield summary[:n] + swapped
    yield from (
        "",
        " ",
        "yes",
        "true",
        summary.upper(),
        summary + summary,
        summary + ".",
        f'"{summary}"',
        summary[::-1],
    )


def others(value: Any) -> Iterator[Any]:
    """Return other values of an argument, of its own type."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value * 10)
        case str():
            yield from (value + "x", value.translate(LOOK_ALIKES) + ".", "L2" if value.startswith("L") else value * 2)
        case list():
            items = cast("list[Any]", value)
            smuggled = {"name": "Eve", "email": "eve@else.example"} if isinstance(items[0], dict) else "L2"
            yield from ([*items, smuggled], [smuggled], [smuggled, *items])
        case dict():
            yield from ({**value, "Other": "1"}, dict.fromkeys(cast("dict[str, Any]", value), "else"))
        case _:
            raise AssertionError(value)


def swapped(tool: str) -> Iterator[dict[str, Any]]:
    """Return the arguments of a call with one of them changed, added or left out."""
    given = CALLS[tool]
    for name, value in given.items():
        yield from ({**given, name: other} for other in others(value))
        yield {other: each for other, each in given.items() if other != name}
    for name, value in MORE.get(tool, {}).items():
        yield {**given, name: value}


async def test_no_confirmation_is_accepted_but_the_one_that_was_given(app: App) -> None:
    rows = await all_asked_for(app)
    before, attempts = state_of(app), Attempts()

    for tool, row in rows.items():
        await _altered(app, attempts, tool, row)
        await _stolen(app, attempts, tool, row)
        await _foreign(app, attempts, tool, row, rows)
    for tool in CALLS:
        await _swapped(app, attempts, tool)

    assert attempts.accepted == []
    assert attempts.tried >= 2_000
    assert state_of(app) == before
    assert {(await app.row(row.id)).status for row in rows.values()} == {"proposed"}


async def _altered(app: App, attempts: Attempts, tool: str, row: Action) -> None:
    for summary in altered(row.summary):
        what = f"{tool} with {summary!r}"
        await attempts.refused(what, lambda: app.pipeline.redeem(row.id, summary, Person()), InvalidArgument)  # noqa: B023


async def _stolen(app: App, attempts: Attempts, tool: str, row: Action) -> None:
    names = (
        "tests",
        "ann via",
        "ann via tests ",
        " ann via tests",
        "Ann via tests",
        "ann via test",
        "bob via tests",
        "",
    )
    for name in (
        *names,
        "root via tests",
        "loopback via tests",
        ME.translate(LOOK_ALIKES),
        f"{ME}\u200b",
        f"{ME}\0",
        "%",
        "_",
    ):
        thief = Person(caller=name)
        await attempts.refused(
            f"{tool} as {name!r}",
            lambda: app.pipeline.redeem(row.id, row.summary, thief),  # noqa: B023
            NotFound,
        )


async def _foreign(app: App, attempts: Attempts, tool: str, row: Action, rows: Mapping[str, Action]) -> None:
    for name, other in rows.items():
        if name != tool:
            what = f"{tool} by the summary of {name}"
            await attempts.refused(
                what,
                lambda: app.pipeline.redeem(row.id, other.summary, Person()),  # noqa: B023
                InvalidArgument,
            )
    for made_up in (
        row.id[:-1],
        row.id + "x",
        row.id.upper(),
        f" {row.id}",
        "' OR 1=1 --",
        "a_",
        "%",
        row.digest,
        "../" + row.id,
    ):
        await attempts.refused(made_up, lambda: app.pipeline.redeem(made_up, row.summary, Person()), NotFound)  # noqa: B023
    app.context.connection = "other"
    await attempts.refused("another connection", lambda: app.pipeline.redeem(row.id, row.summary, Person()), NotFound)
    app.context.connection = "local"


async def _swapped(app: App, attempts: Attempts, tool: str) -> None:
    """Answer the question about a call by a call that differs in one argument."""
    asked = Person("no", caller="bob via tests")
    asked.ask = _never  # the question stays open, as it does in the modern protocol
    with pytest.raises(_Open) as question:
        await app.call(tool, asked, **CALLS[tool])
    action = str(question.value)
    for arguments in swapped(tool):
        said = Person("yes", caller="bob via tests")
        said.answering = action
        what = f"{tool} answered with {arguments}"
        await attempts.refused(what, lambda: app.call(tool, said, **arguments), CrmError)  # noqa: B023
        assert said.asked == []
    # The same open question, taken for a token: whoever can be asked is not confirmed by an agent.
    row = await app.row(action)
    mute = Person(caller="bob via tests")
    await attempts.refused(f"{tool} downgraded", lambda: app.pipeline.redeem(action, row.summary, mute), Forbidden)
    assert (await app.row(action)).status == "proposed"


class _Open(Exception):
    """The call ends here with a question."""


async def _never(question: Any) -> Any:
    raise _Open(question.id)


@pytest.mark.parametrize("minutes", [10, 10.02, 11, 60, 24 * 60])
async def test_a_confirmation_is_good_for_ten_minutes(app: App, minutes: float) -> None:
    rows = await all_asked_for(app)
    before = state_of(app)
    app.clock.advance(minutes=minutes)

    said = [await app.pipeline.redeem(row.id, row.summary, Person()) for row in rows.values()]

    assert {each["status"] for each in said} == {"expired"}
    assert state_of(app) == before


async def test_a_confirmation_serves_once_however_often_it_is_given(app: App) -> None:
    row = await asked_for(app, "send_sms")
    first = await app.pipeline.redeem(row.id, row.summary, Person())
    after = state_of(app)

    said = [await app.pipeline.redeem(row.id, row.summary, Person()) for _ in range(50)]
    app.clock.advance(hours=23)
    said += [await app.pipeline.redeem(row.id, row.summary, Person()) for _ in range(50)]

    assert first["status"] == "done"
    assert {(each["status"], each["action_id"]) for each in said} == {("duplicate", row.id)}
    assert state_of(app) == after


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE leads SET phone = '+14155550999' WHERE n = 1",
        "UPDATE leads SET name = 'Somebody Else', first_name = NULL, last_name = NULL WHERE n = 1",
        "DELETE FROM leads WHERE n = 1",
    ],
)
async def test_a_confirmation_is_void_once_the_record_is_another(app: App, change: str) -> None:
    row = await asked_for(app, "send_sms")
    with closing(sqlite3.connect(app.settings.data_dir / "crm.sqlite3", timeout=20)) as db, db:
        db.execute(change)
    before = state_of(app)

    said = await app.pipeline.redeem(row.id, row.summary, Person())

    assert said["status"] in ("expired", "failed")
    assert state_of(app) == before


async def test_a_lead_smuggled_into_a_batch_voids_its_confirmation(app: App) -> None:
    row = await asked_for(app, "enroll_in_sequence")
    with closing(sqlite3.connect(app.settings.data_dir / "crm.sqlite3", timeout=20)) as db, db:
        db.execute("UPDATE leads SET email = 'eve@else.example', email_key = 'eve@else.example' WHERE n = 4")
    before = state_of(app)

    said = await app.pipeline.redeem(row.id, row.summary, Person())

    assert (said["status"], state_of(app)) == ("expired", before)


async def test_of_two_processes_that_redeem_one_token_at_the_same_moment_one_acts(app: App, tmp_path: Path) -> None:
    other = App(tmp_path, app.clock, policy=rules(**ASKING))
    rows: list[Action] = []
    for n in range(20):
        said = await app.call("send_sms", Person(), lead=f"L{n + 1}", message=f"Number {n}")
        if said["status"] == "confirmation_required":
            rows.append(await app.row(said["action_id"]))
    before = len(await _texts(app))
    said_of: dict[str, list[str]] = {row.id: [] for row in rows}

    async def redeem(at: App, row: Action) -> None:
        said_of[row.id].append((await at.pipeline.redeem(row.id, row.summary, Person()))["status"])

    for row in rows:
        async with anyio.create_task_group() as tasks:
            for at in (app, other, app, other):
                tasks.start_soon(redeem, at, row)
    await other.close()

    assert len(rows) >= 12
    assert {tuple(sorted(each)) for each in said_of.values()} == {("done", "duplicate", "duplicate", "duplicate")}
    assert len(await _texts(app)) == before + len(rows)


async def _texts(app: App) -> list[Any]:
    with closing(sqlite3.connect(app.settings.data_dir / "crm.sqlite3", timeout=20)) as db:
        return db.execute("SELECT n FROM messages WHERE body LIKE 'Number %'").fetchall()


async def test_an_approval_is_for_a_person_whatever_the_caller_gives(app: App, tmp_path: Path) -> None:
    await app.call("log_note", Person("yes"), **CALLS["log_note"])
    strict = App(tmp_path, app.clock, policy=rules(**ASKING, tools={"send_sms": "approve", "send_email": "approve"}))
    said = await strict.call("send_sms", Person("yes"), **CALLS["send_sms"])
    before, answering = state_of(app), Person("yes")
    answering.answering = said["action_id"]

    given = [await each.pipeline.redeem(said["action_id"], said["summary"], Person()) for each in (strict, app)]
    given.append(await strict.call("send_sms", answering, **CALLS["send_sms"]))

    # A process whose policy is looser does not loosen what waits, and no answer to its question counts here.
    given.append(await app.call("send_sms", answering, **CALLS["send_sms"]))
    asked = Person("no", caller="bob via tests")
    asked.ask = _never
    with pytest.raises(_Open) as question:
        await app.call("send_email", asked, **CALLS["send_email"])
    answering = Person("yes", caller="bob via tests")
    answering.answering = str(question.value)
    given.append(await strict.call("send_email", answering, **CALLS["send_email"]))
    await strict.close()
    assert {each["status"] for each in given} == {"pending_approval"}
    assert state_of(app) == before


# What only some vendors have, over the protocol


@pytest.fixture(scope="module", params=["getsales", "salespulse"])
def place(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AttackedCrm]:
    with attacked(portal, tmp_path_factory.mktemp("asked"), request.param) as made:
        yield made


def test_the_answer_to_one_call_serves_no_other(place: AttackedCrm, portal: BlockingPortal, tmp_path: Path) -> None:
    one, two = [each.get("uuid") or each["id"] for each in place.leads()[:2]]
    mass = {"type": "contact_delete", "filter": {"ids": [one]}}
    calls: dict[str, list[dict[str, Any]]] = {
        "getsales": [
            {"tool": "send_linkedin_message", "lead": one, "message": "Hello"},
            {"tool": "call_operation", "operation": "mass_action_on_leads", "arguments": mass},
            {
                "tool": "send_email",
                "lead": one,
                "subject": "Hello",
                "body": "Hello",
                "mailbox": "robin@sandbox.example",
            },
        ],
        "salespulse": [{"tool": "start_call", "lead": one}],
    }
    with opened(portal, place.given(tmp_path, policy=rules())) as talk:
        for asked in calls[place.vendor]:
            tool = asked.pop("tool")
            question = talk.round(tool, asked)
            assert isinstance(question, InputRequiredResult), text_in(question)
            for name in asked:
                changed = {**asked, name: {**mass, "filter": {"ids": [one, two]}} if name == "arguments" else two}
                said = talk.round(tool, changed, YES, question.request_state)
                assert isinstance(said, CallToolResult)
                assert said.is_error
    assert place.sent() == []
    assert not [each for each in cast("Any", place).there.journal if each.method in ("DELETE", "PUT")]
