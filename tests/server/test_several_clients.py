"""Several processes on one data directory, and clients that answer late or leave."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import anyio
import mcp_types as types
import pytest
from mcp import Client

from crm_mcp.config import PolicySettings, Settings
from crm_mcp.server import callers
from crm_mcp.server.app import Application

from .conftest import Start
from .talk import JANE, Talk

EACH = 15
BY_DAY = PolicySettings(quiet_hours="off")
"""No test depends on the time of the day."""


Calls = list[tuple[str, dict[str, Any]]]


def at_once(*talks: Talk, calls: list[Calls]) -> list[dict[str, Any]]:
    """Make each talk's calls, one after another, all talks at the same time; returns all results."""

    def one(talk: Talk, its: Calls) -> list[dict[str, Any]]:
        return [talk.ok(tool, **arguments) for tool, arguments in its]

    with ThreadPoolExecutor() as threads:
        work = [threads.submit(one, talk, its) for talk, its in zip(talks, calls, strict=True)]
        return [result for each in work for result in each.result(timeout=50)]


def test_two_servers_that_start_on_one_empty_folder_lose_no_write(start: Start) -> None:
    first, second = start("modern", name="first"), start("legacy", name="second")
    opening = at_once(first, second, calls=[[("crm_status", {}), ("list_actions", {})]] * 2)
    assert "300 leads" in opening[0]["connections"][0]["found"]
    lead = first.lead()

    both: list[Calls] = [
        [
            call
            for n in range(EACH)
            for call in (
                ("tag_lead", {"lead": lead, "add": [f"{who} {n}"]}),
                ("update_lead", {"lead": lead, "custom_fields": {f"{who} {n}": n}}),
                ("create_lead", {"name": f"{who} {n}", "email": f"{who}{n}@both.example"}),
                ("send_sms", {"lead": lead, "message": f"{who} {n}"}),
            )
        ]
        for who in ("a", "b")
    ]
    results = at_once(first, second, calls=both)

    assert {each["status"] for each in results} == {"done"}
    everything = {f"{who} {n}" for who in ("a", "b") for n in range(EACH)}
    found = second.read(lead)["lead"]
    assert set(found["tags"]) == everything
    assert set(found["custom_fields"]) == everything
    assert first.ok("search_leads", limit=1)["total"] == 300 + 1 + 2 * EACH
    activity = second.ok("list_activity", lead=lead, kinds=["message"], limit=100)["items"]
    assert {each["text"] for each in activity} == everything
    assert len(activity) == 2 * EACH


def test_of_two_that_create_the_same_lead_at_once_one_is_told_of_the_other(start: Start) -> None:
    first, second = start("modern", name="first"), start("modern", name="second")
    same = [("create_lead", {"name": "Same", "email": f"same{n}@both.example", "if_exists": "skip"}) for n in range(10)]

    def outcome(talk: Talk, call: tuple[str, dict[str, Any]]) -> str:
        result = talk.call(call[0], **call[1])
        return "conflict" if result.is_error else result.structured_content["outcome"]

    with ThreadPoolExecutor() as threads:
        outcomes = [
            sorted(each.result(timeout=50) for each in [threads.submit(outcome, t, call) for t in (first, second)])
            for call in same
        ]

    assert all(each in (["created", "skipped"], ["conflict", "created"]) for each in outcomes)
    assert first.ok("search_leads", limit=1)["total"] == 310


def test_a_cursor_serves_in_another_process_on_the_same_folder(start: Start) -> None:
    first, second = start("modern"), start("legacy")
    cursor = first.ok("search_leads", limit=5)["next_cursor"]

    assert second.ok("search_leads", limit=5, cursor=cursor)["leads"][0]["id"] == "L295"


def in_memory(folder: Path, fallback: Literal["deny"] | None = None) -> Application:
    return Application(Settings(data_dir=folder, sample=True, confirm_fallback=fallback, policy=BY_DAY))


@pytest.mark.parametrize(
    ("fallback", "wanted", "reason"),
    [
        (None, "pending_approval", "crm-mcp approvals approve"),
        ("deny", "expired", "nobody answered in time"),
    ],
)
async def test_in_the_older_protocol_a_question_without_an_answer_waits_for_a_person_or_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fallback: Literal["deny"] | None, wanted: str, reason: str
) -> None:
    monkeypatch.setattr(callers, "ANSWER_WITHIN", 0.1)
    asked = anyio.Event()

    async def silence(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        asked.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with Client(in_memory(tmp_path, fallback).server, mode="legacy", elicitation_callback=silence) as client:
        result = await client.call_tool("send_sms", {"lead": JANE, "message": "Anybody there?"})
        messages = await client.call_tool("get_lead", {"lead": JANE, "include": ["messages"]})

    assert asked.is_set()
    assert result.structured_content["status"] == wanted
    assert reason in result.structured_content["reason"]
    assert "Anybody there?" not in str(messages.structured_content)


async def test_a_client_that_gives_up_while_its_user_thinks_has_sent_nothing(tmp_path: Path) -> None:
    asked = anyio.Event()

    async def thinking(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        asked.set()
        await anyio.sleep_forever()
        raise AssertionError

    async with Client(in_memory(tmp_path).server, mode="legacy", elicitation_callback=thinking) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "send_sms", {"lead": JANE, "message": "Anybody there?"})
            with anyio.fail_after(10):
                await asked.wait()
            tasks.cancel_scope.cancel()
        messages = await client.call_tool("get_lead", {"lead": JANE, "include": ["messages"]})

    assert "Anybody there?" not in str(messages.structured_content)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_fault_of_the_program_is_an_error_without_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    application = in_memory(tmp_path)

    async def broken(key: str) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(application.contexts["local"], "lead", broken)
    async with Client(application.server, mode=mode) as client:
        for tool, arguments in (("get_lead", {"lead": JANE}), ("log_note", {"lead": JANE, "content": "x"})):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert [part.text for part in result.content if isinstance(part, types.TextContent)] == [
                "internal: the program failed; its log on stderr says why"
            ]
        actions = await client.call_tool("list_actions", {"status": "unknown"})

    # Where a program fails at its work it can't know what it has done.
    assert "secret detail" not in str(actions.structured_content)
    assert [each["tool"] for each in actions.structured_content["actions"]] == ["log_note"]


async def test_what_waits_and_makes_the_program_fail_does_not_end_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, failed = in_memory(tmp_path), anyio.Event()

    async def broken(connections: tuple[str, ...]) -> bool:
        failed.set()
        raise RuntimeError("secret detail")

    monkeypatch.setattr(application.worker, "work_once", broken)
    async with Client(application.server) as client:
        await client.call_tool("log_note", {"lead": JANE, "content": "x"})
        with anyio.fail_after(20):
            await failed.wait()
        result = await client.call_tool("get_lead", {"lead": JANE})

    assert not result.is_error
