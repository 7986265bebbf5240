"""While one answer is large, others are answered: the work on it is held here until another has been."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp import Client

from crm_mcp.actions.offload import LARGE, outgrows
from crm_mcp.backends.local import Local
from crm_mcp.config import Settings
from crm_mcp.model import CustomValue, LeadDraft
from crm_mcp.server import app, resources
from crm_mcp.server.app import Application

WITHIN = 10.0
"""Seconds in which everything happens."""


class Held:
    """Work on what is large, held until it may go on."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self._may_go_on = threading.Event()
        self._begun = threading.Event()
        self.was_alone = False

    def __call__(self, value: Any) -> Any:
        if outgrows(value, LARGE):
            self._begun.set()
            # On the event loop this would wait in vain: nobody could be answered, and let it go on.
            self.was_alone = not self._may_go_on.wait(WITHIN)
        return self._work(value)

    async def begun(self) -> None:
        await anyio.to_thread.run_sync(self._begun.wait, WITHIN)

    def go_on(self) -> None:
        self._may_go_on.set()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[Client]:
    """A client of a server whose one lead, L1, is large."""
    application = Application(Settings(data_dir=tmp_path))
    (crm,) = application.backends.values()
    assert isinstance(crm, Local)
    fields: dict[str, CustomValue] = {f"Field {n}": "words\n" * 1_000 for n in range(30)}
    await crm.create_lead(LeadDraft(name="Ann Example", custom_fields=fields))
    async with Client(application.server) as client:
        yield client


async def get_lead(client: Client) -> int:
    return len(str((await client.call_tool("get_lead", {"lead": "L1"})).structured_content))


async def read_lead(client: Client) -> int:
    return len(str((await client.read_resource("crm://leads/L1")).contents[0]))


@pytest.mark.parametrize(
    ("where", "what", "read", "least"),
    [(app, "neutral_json", get_lead, 15_000), (resources, "fenced", read_lead, 180_000)],
    ids=["a tool", "a resource"],
)
async def test_others_are_answered_while_a_large_record_is_rendered(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    what: str,
    read: Callable[[Client], Awaitable[int]],
    least: int,
) -> None:
    held = Held(getattr(where, what))
    monkeypatch.setattr(where, what, held)
    answered: list[Any] = []
    sizes: list[int] = []

    async def meanwhile() -> None:
        await held.begun()
        answered.extend((await client.list_tools()).tools)
        answered.append(await client.call_tool("crm_status", {}))
        held.go_on()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meanwhile)
        sizes.append(await read(client))

    assert not held.was_alone
    assert len(answered) > 1
    assert not answered[-1].is_error
    assert sizes[0] > least


def test_what_is_large_is_known_without_looking_at_it_all() -> None:
    class Endless(list[Any]):
        """A list that is looked into no further than there is room."""

        def __iter__(self) -> Any:
            raise AssertionError

    assert outgrows(Endless([0] * 50_000), LARGE)
    assert outgrows({"a": ["x" * 10_000, {"b": "y" * 10_001}]}, LARGE)
    assert outgrows({"k" * 30_000: None}, LARGE)
    assert not outgrows({"a": ["x" * 10_000, 1, None, True, 2.5]}, LARGE)
