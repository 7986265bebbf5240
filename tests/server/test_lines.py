"""The bare protocol on stdio: JSON lines and nothing else, in the version that a client asks for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .talk import JANE, environment


class Lines:
    """A server process that is spoken to in JSON lines; keeps all that came on its stdout."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.came: list[str] = []
        self.number = 0

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def next(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the server has closed its stdout"
        self.came.append(line)
        return json.loads(line)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and return its response."""
        self.number += 1
        self.send({"id": self.number, "method": method, "params": params})
        while (message := self.next()).get("id") != self.number or "method" in message:
            pass
        return message

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("tools/call", name=tool, arguments=arguments)["result"]

    def initialize(self, version: str, **capabilities: Any) -> dict[str, Any]:
        answer = self.ask(
            "initialize",
            protocolVersion=version,
            capabilities=capabilities,
            clientInfo={"name": "lines", "version": "1"},
        )
        self.send({"method": "notifications/initialized"})
        return answer["result"]

    def end(self) -> tuple[str, str]:
        """Close stdin; returns the rest of stdout, and stderr."""
        out, err = self.process.communicate(timeout=20)
        return out, err


@contextmanager
def lines(folder: Path) -> Generator[Lines]:
    process = subprocess.Popen(
        [sys.executable, "-m", "crm_mcp", "serve"],
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Lines(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("version", ["2025-06-18", "2025-03-26"])
def test_an_older_version_is_spoken_as_it_was_asked_for(tmp_path: Path, version: str) -> None:
    with lines(tmp_path) as crm:
        hello = crm.initialize(version, elicitation={})
        assert hello["protocolVersion"] == version
        assert hello["serverInfo"]["name"] == "crm-mcp"

        tools = crm.ask("tools/list")["result"]["tools"]
        found = crm.call("search_leads", query="acme", limit=2)

        assert "search_leads" in {each["name"] for each in tools}
        assert found["structuredContent"]["leads"]
        assert found["content"][0]["text"].startswith("crm: local\n")
        assert not found.get("isError")


def test_a_question_goes_out_within_the_call_and_its_answer_comes_back(tmp_path: Path) -> None:
    with lines(tmp_path) as crm:
        crm.initialize("2025-06-18", elicitation={})
        crm.send(
            {
                "id": 77,
                "method": "tools/call",
                "params": {"name": "send_sms", "arguments": {"lead": JANE, "message": "Hi"}},
            }
        )
        question = crm.next()
        assert question["method"] == "elicitation/create"
        assert 'SMS to +14155550171, "Jane Whitfield" (L181): "Hi"' in question["params"]["message"]

        crm.send({"id": question["id"], "result": {"action": "accept", "content": {"confirm": True}}})

        answer = crm.next()
        assert (answer["id"], answer["result"]["structuredContent"]["status"]) == (77, "done")


def test_stdout_has_json_lines_alone_whatever_fails(tmp_path: Path) -> None:
    with lines(tmp_path) as crm:
        crm.initialize("2025-06-18")
        assert crm.call("get_lead", lead="L999999")["isError"]
        assert crm.call("create_lead", nam="x")["isError"]
        assert "error" in crm.ask("tools/call", name="nothing", arguments={})
        assert "error" in crm.ask("no/such/method")
        assert "error" in crm.ask("resources/read", uri="crm://nothing")
        # A fault that no tool expects: the file is taken away and something else stands there.
        for file in tmp_path.glob("crm.sqlite3*"):
            file.unlink()
        (tmp_path / "crm.sqlite3").write_bytes(b"no database" * 1000)
        broken = crm.call("search_leads", query="acme")
        assert crm.ask("tools/list")["result"]["tools"]

        rest, _ = crm.end()

        if broken.get("isError"):
            assert broken["content"][0]["text"].split(":")[0] in ("unreachable", "internal", "vendor_error")
            assert "Traceback" not in broken["content"][0]["text"]
        for line in [*crm.came, *rest.splitlines(keepends=True)]:
            assert line.endswith("\n")
            assert json.loads(line)["jsonrpc"] == "2.0"
        assert crm.process.returncode == 0


def test_a_line_that_is_no_json_does_not_end_the_server(tmp_path: Path) -> None:
    with lines(tmp_path) as crm:
        crm.initialize("2025-06-18")
        assert crm.process.stdin
        crm.process.stdin.write("this is no json\n{}\n[]\n")
        crm.process.stdin.flush()

        assert crm.call("crm_status")["structuredContent"]["version"]


def test_it_ends_when_stdin_ends(tmp_path: Path) -> None:
    with lines(tmp_path) as crm:
        crm.initialize("2025-06-18")

        out, err = crm.end()

        assert (crm.process.returncode, out, err) == (0, "", "")
