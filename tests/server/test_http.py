"""Over HTTP, on a loopback address, through a real process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.from_thread import BlockingPortal
from mcp import Client

from .talk import ERAS, JANE, MODES, VERSIONS, Era, Talk, User, environment

BOTH = pytest.mark.parametrize("era", ERAS)


@dataclass
class Served:
    """A server over HTTP, and how to talk to it."""

    url: str
    folder: Path
    portal: BlockingPortal

    def talk(self, era: Era, *, asked: bool) -> Any:
        user = User()
        client = Client(self.url, mode=MODES[era], elicitation_callback=user if asked else None)
        return self.portal.wrap_async_context_manager(client), Talk(client, era, self.folder, user, self.portal)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_until_it_listens(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert process.poll() is None, "the server has ended"
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server does not listen")


@pytest.fixture(scope="module", params=["127.0.0.1", "127.0.0.2"])
def served(
    portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Generator[Served]:
    folder, port, host = tmp_path_factory.mktemp("http"), free_port(), request.param
    with (folder / "stderr").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "crm_mcp", "serve", "--http", f"{host}:{port}"],
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            wait_until_it_listens(process, host, port)
            yield Served(f"http://{host}:{port}/mcp", folder, portal)
        finally:
            process.terminate()
            out, _ = process.communicate(timeout=20)
    assert out == b""


@BOTH
def test_tools_are_listed_and_called(served: Served, era: Era) -> None:
    opened, crm = served.talk(era, asked=True)
    with opened:
        assert crm.client.protocol_version == VERSIONS[era]
        assert "search_leads" in crm.tools()
        assert crm.ok("search_leads", query="acme")["leads"]
        assert crm.ok("log_note", lead=JANE, content=f"Over HTTP, {era}")["status"] == "done"
        assert crm.refused("get_lead", lead="L999999").startswith("not_found: ")
        [newest, *_] = crm.ok("list_actions")["actions"]
        assert newest["caller"].startswith("loopback via ")


@BOTH
def test_a_client_that_can_ask_its_user_is_asked(served: Served, era: Era) -> None:
    opened, crm = served.talk(era, asked=True)
    with opened:
        lead = crm.lead()
        assert crm.ok("send_sms", lead=lead, message="Hello")["status"] == "done"
        assert len(crm.user.asked) == len(crm.sent(lead)) == 1


@BOTH
def test_what_a_client_that_cannot_ask_wants_waits_for_a_person(served: Served, era: Era) -> None:
    opened, crm = served.talk(era, asked=False)
    with opened:
        assert "confirm_action" not in crm.tools()
        lead = crm.lead()
        result = crm.ok("send_sms", lead=lead, message="Hello")
        assert result["status"] == "pending_approval"
        assert "crm-mcp approvals approve" in result["reason"]
        [newest, *_] = crm.ok("list_actions", lead=lead)["actions"]
        assert (newest["action_id"], newest["status"]) == (result["action_id"], "pending_approval")
        assert crm.sent(lead) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_foreign_host_or_origin_is_refused(served: Served, headers: dict[str, str], status: int) -> None:
    call: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accepted = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}

    answer = httpx2.post(served.url, content=json.dumps(call), headers={**accepted, **headers}, timeout=10)

    assert answer.status_code == status
    assert "search_leads" not in answer.text


@pytest.mark.parametrize("address", ["0.0.0.0:8000", "[::]:8000", "example.com:8000", "127.0.0.1:0"])
def test_what_is_no_loopback_address_is_refused_at_the_start(tmp_path: Path, address: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "crm_mcp", "serve", "--http", address],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert ended.returncode == 2
    assert "loopback" in ended.stderr or "HOST:PORT" in ended.stderr
    assert "Traceback" not in ended.stderr
