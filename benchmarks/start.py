"""From the start of the process to the first list of tools, beside a server with one trivial tool on the bare SDK."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.process import COMMAND, LEGACY, META, Server
from benchmarks.report import Figure, Size, median, ms

TITLE = "Start: process to the first tools/list on stdio"
MOST = 1.25
_WARM_UPS = 2

TRIVIAL = '''
from mcp.server import MCPServer

mcp = MCPServer("trivial")


@mcp.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


mcp.run()
'''


def measure(size: Size, folder: Path) -> Iterator[Figure]:
    """Start both servers in turn."""
    script = folder / "trivial.py"
    script.write_text(TRIVIAL, encoding="utf-8")
    trivial = [sys.executable, str(script)]
    for era, first in (("modern", _modern), ("legacy", _legacy)):
        for _ in range(_WARM_UPS):  # compiles the bytecode of both
            _seconds(trivial, folder, first)
            _seconds([COMMAND], folder, first)
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(size.starts):
            bare.append(_seconds(trivial, folder, first))
            ours.append(_seconds([COMMAND], folder, first))
        for name, of in (("median", median), ("minimum", min)):
            ratio = of(ours) / of(bare)
            yield Figure(f"{era}, {name}", ms(of(ours)), ms(of(bare)), ratio, f"<= {MOST} x", ratio <= MOST)


def _seconds(command: list[str], folder: Path, first: Callable[[Server], bytes]) -> float:
    started = time.perf_counter()
    with Server(command, folder) as server:
        answer = first(server)
        seconds = time.perf_counter() - started
    if b'"tools"' not in answer:
        raise RuntimeError(f"{command} answered {answer[:300].decode()}")
    return seconds


def _modern(server: Server) -> bytes:
    return server.request("tools/list", {"_meta": META})


def _legacy(server: Server) -> bytes:
    client = {"name": "benchmark", "version": "1"}
    server.request("initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client})
    server.notify("notifications/initialized")
    return server.request("tools/list", {})
