"""What a client calls itself is a name in a line: in the queue, the log, the lists, over stdio and over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import mcp_types as types
import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import example, given
from mcp import Client

from crm_mcp.server.callers import NAME_MOST, UNNAMED, client_name
from tests import warm
from tests.hostile import FORGED, WORST, lines_of, values

from .conftest import Start
from .talk import ERAS, MODES, Era, Talk, User, environment
from .test_http import free_port, wait_until_it_listens

HOSTILE = WORST.replace("\ud800", "")
FORGING = f'ops"\n\n{FORGED[0]}\n{FORGED[1]}\n'
NAMES = pytest.mark.parametrize(
    "name", [HOSTILE, FORGING, " \n\t", "x" * 5_000], ids=["all", "forging", "empty", "long"]
)
BOTH = pytest.mark.parametrize("era", ERAS)


@given(name=values)
@example(name=WORST)
@example(name="x" * 79 + "\U0001f469\u200d\U0001f527")
def test_a_name_is_one_line_of_at_most_80_characters_and_stays_what_it_is(name: str):
    clean = client_name(name)

    assert lines_of(f"{clean}\n") == [clean]
    assert 0 < len(clean) <= NAME_MOST
    assert client_name(clean) == clean
    assert "  " not in clean


@pytest.mark.parametrize(
    ("name", "clean"),
    [("Claude  Desktop\n", "Claude Desktop"), ("", UNNAMED), ("\u202e\x1b[2J", UNNAMED), ("a" * 90, "a" * 80)],
)
def test_what_becomes_of_a_name(name: str, clean: str):
    assert client_name(name) == clean


def command(folder: Path, settings: dict[str, str], *words: str) -> list[str]:
    """Return the lines that a command prints on the state of a server."""
    done = subprocess.run(
        warm.command(*words), env=environment(folder, settings), capture_output=True, text=True, check=True, timeout=40
    )
    assert done.stderr == ""
    return lines_of(done.stdout)


def headings(lines: list[str]) -> list[str]:
    return [line for line in lines if line and not line.startswith("    ")]


def told(folder: Path, settings: dict[str, str], crm: Talk, action: str, who: str) -> None:
    """Look at everything that tells who asked for the one action that waits."""
    [heading] = headings(command(folder, settings, "approvals"))
    [newest, *_] = crm.ok("list_actions")["actions"]
    entries = command(folder, settings, "audit")
    objects = [json.loads(line) for line in command(folder, settings, "audit", "--json")]
    declined = command(folder, settings, "approvals", "decline", action)

    assert heading.startswith(f'{action}  send_sms on local, asked by "{who}')
    assert newest["caller"].startswith(who)
    assert [newest["caller"]] == newest["caller"].splitlines()
    assert [line.split()[0] for line in entries] == [str(each["no"]) for each in objects]
    assert {each["caller"] for each in objects if each.get("action") == action} == {newest["caller"]}
    assert declined == [f"{action}  declined"]


@NAMES
@BOTH
def test_over_stdio_a_name_forges_nothing(start: Start, tmp_path: Path, era: Era, name: str) -> None:
    (tmp_path / "guards.toml").write_text('[policy]\noutward = "approve"\n')
    settings = {"config": str(tmp_path / "guards.toml")}
    crm = start(era, name=name, settings=settings)

    waits = crm.ok("send_sms", lead=crm.lead(), message="Hello")

    assert waits["status"] == "pending_approval"
    told(tmp_path, settings, crm, waits["action_id"], "")


@BOTH
def test_a_client_is_the_same_caller_in_another_process(start: Start, era: Era) -> None:
    crm, again, other = start(era, name=FORGING), start(era, name=FORGING), start(era, name="another")
    made = crm.ok("create_task", title="Ring Ann")["action_id"]

    assert "of yours" in other.refused("undo_action", action_id=made)
    assert again.refused("undo_action", action_id=made).startswith("unsupported: ")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, Path]]:
    folder, port = tmp_path_factory.mktemp("http"), free_port()
    with (folder / "stderr").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "crm_mcp", "serve", "--http", f"127.0.0.1:{port}"],
            env=environment(folder),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            wait_until_it_listens(process, "127.0.0.1", port)
            yield f"http://127.0.0.1:{port}/mcp", folder
        finally:
            process.terminate()
            process.communicate(timeout=20)


@NAMES
@BOTH
def test_over_http_a_name_forges_nothing(url: tuple[str, Path], portal: BlockingPortal, era: Era, name: str) -> None:
    address, folder = url
    client = Client(address, mode=MODES[era], client_info=types.Implementation(name=name, version="1"))

    with portal.wrap_async_context_manager(client):
        crm = Talk(client, era, folder, User(), portal)
        waits = crm.ok("send_sms", lead=crm.lead(), message="Hello")

        assert waits["status"] == "pending_approval"
        told(folder, {}, crm, waits["action_id"], "loopback via ")


def test_over_http_the_log_has_lines_of_ours_alone(url: tuple[str, Path]) -> None:
    import socket

    address, folder = url
    with socket.create_connection(("127.0.0.1", int(address.split(":")[2].split("/")[0]))) as rude:
        rude.sendall(b"GET /\x1b[2K\r\nforged \x85 HTTP/9\r\n\r\n")
        rude.recv(1000)

    lines = (folder / "stderr").read_text().splitlines()
    assert lines[0].startswith("crm-mcp: serving on http://127.0.0.1:")
    assert any(" WARNING uvicorn.error: Invalid HTTP request received." in line for line in lines)
    assert all(line[:2] == "20" or line.startswith("    ") for line in lines[1:])
