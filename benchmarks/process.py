"""Processes that are measured: the real command, spoken to in JSON lines on its pipes, with no client library."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

COMMAND = str(Path(sys.executable).with_name("crm-mcp"))
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
}
_POLL_SECONDS = 0.02


def environment(folder: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a measured process: its data in `folder`, no settings of the user, and compiled
    bytecode, as an installed program has it, kept beside the data.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CRM_MCP_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {
        **kept,
        "CRM_MCP_DATA_DIR": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPYCACHEPREFIX": str(folder.parent / "bytecode"),
        **(settings or {}),
    }


class Server:
    """A server on stdio."""

    def __init__(self, command: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._ids = itertools.count(1)
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(folder, settings), bufsize=0
        )
        assert self._child.stdin
        assert self._child.stdout
        self._to = self._child.stdin
        self._from = os.fdopen(os.dup(self._child.stdout.fileno()), "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._to.close()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._from.close()

    def notify(self, method: str) -> None:
        """Send what has no answer."""
        self._to.write(_line({"jsonrpc": "2.0", "method": method}))

    def request(self, method: str, params: Mapping[str, Any]) -> bytes:
        """Return the line that answers a request. Raises RuntimeError where the server has gone."""
        self._to.write(_line({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}))
        while line := self._from.readline():
            if b'"id"' in line:  # not a notification
                return line
        raise RuntimeError(f"the server ended before it answered {method}")

    def call(self, tool: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """Call a tool in the modern era; return its structured result, and the seconds until its line was there.

        Raises:
            RuntimeError: the tool failed.
        """
        params = {"name": tool, "arguments": arguments, "_meta": META}
        started = time.perf_counter()
        line = self.request("tools/call", params)
        seconds = time.perf_counter() - started
        answer = json.loads(line)
        result = cast("dict[str, Any]", answer.get("result") or {})
        if not result or result.get("isError"):
            raise RuntimeError(f"{tool} {dict(arguments)}: {line[:500].decode()}")
        return result["structuredContent"], seconds

    def peak(self) -> int | None:
        """Return its largest memory so far, in KiB."""
        return peak_of(self._child.pid)


def peak_of(pid: int) -> int | None:
    """Return the largest resident memory of a running process in KiB; None where /proc does not tell it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), None)


@dataclass(frozen=True)
class Cost:
    """What a process took from its start to its end."""

    seconds: float
    cpu: float
    """Seconds that it was computing: the same on a machine that is busy with other things."""
    peak: int | None
    """Its largest memory in KiB."""


def run(command: Sequence[str], folder: Path) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; its output is in the message.
    """
    log = folder / "output"
    peak: int | None = None
    before = os.times()
    with log.open("wb") as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment(folder)
        )
        # The peak only grows, so the last look before the end is the one that counts.
        while child.poll() is None:
            peak = peak_of(child.pid) or peak
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - started
    if child.returncode:
        raise RuntimeError(f"{command} ended with {child.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(seconds, cpu, peak)


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
