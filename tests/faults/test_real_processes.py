"""`crm-mcp serve` itself, over stdio: it ends itself at a step, and another one on the folder finds what it left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp.shared.exceptions import MCPError

from tests.server.talk import Talk, talking

from .cells import calls_of
from .report import Report
from .served import made_state
from .wire import Wires

SMS = calls_of("dialsheet")["send_sms"]
SENDS = ("POST", "/api/v1/sms")


@pytest.fixture(scope="module")
def portal() -> Generator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


def statuses(talk: Talk) -> list[str]:
    return [each["status"] for each in talk.ok("list_actions")["actions"]]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("step", "taken", "ends"),
    [
        ("proposed:2", 0, []),
        ("claiming", 0, []),
        ("claimed", 0, ["unknown"]),
        ("answered", 1, ["done"]),
        ("settled", 1, ["done"]),
    ],
)
def test_a_server_that_kills_itself_is_followed_by_one_that_knows(
    portal: BlockingPortal, wires: Wires, tmp_path: Path, report: Report, step: str, taken: int, ends: list[str]
) -> None:
    made_state(tmp_path)
    wire, url = wires.open(step.partition(":")[0], "dialsheet")
    given: dict[str, Any] = {"vendor": "dialsheet", "api_key": wire.there.key, "base_url": url, "test_minute": "0.1"}

    with (
        pytest.raises((MCPError, OSError, anyio.ClosedResourceError, BaseExceptionGroup)),
        talking(portal, tmp_path, "modern", settings={**given, "test_kill_at": step}) as talk,
    ):
        talk.run(_asked, talk)
    killed_with = wire.taken[SENDS]
    with talking(portal, tmp_path, "modern", settings=given) as talk:
        # It waits until the lease of the dead one has run out, and then looks and tells.
        first = talk.ok("send_sms", **SMS)
        again = talk.ok("send_sms", **SMS)
        found = statuses(talk)

    assert killed_with == taken
    if ends:
        assert (first["status"], again["status"], found) == ("duplicate", "duplicate", ends)
    else:
        assert (first["status"], again["status"]) == ("done", "duplicate")
        assert Counter(found)["done"] == 1
    assert wire.taken[SENDS] == (0 if ends == ["unknown"] else 1)
    report.runs("a server killed", step=step, ends=" ".join(found))


async def _asked(talk: Talk) -> None:
    await talk.client.call_tool("send_sms", SMS)
