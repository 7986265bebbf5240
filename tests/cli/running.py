"""The commands as a person runs them: real processes, with a data directory and a home of their own."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crm_mcp.backends.local import Local
from crm_mcp.config import PREFIX
from crm_mcp.model import Lead, LeadDraft, LeadFilter, Slice
from tests import warm

LONGEST = 45
"""Seconds that any command may take."""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    own = {
        "CRM_MCP_DATA_DIR": str(folder / "crm"),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return {**plain, **own, "COLUMNS": "120", "PYTHONUNBUFFERED": "1", **settings}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "crm_mcp", *arguments]


def run(folder: Path, *arguments: str, answer: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one command in `folder`, in a process that has loaded the program; `answer` is what stands on its stdin."""
    return _ran(warm.command(*arguments), folder, answer, settings)


def run_afresh(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one command in `folder` by an interpreter that starts with it, as a person's does."""
    return _ran(command(*arguments), folder, "", settings)


def typed_in(folder: Path, typed: bytes, *arguments: str, **settings: str) -> tuple[int, str]:
    """Run one command in front of a terminal and answer its question; return its exit code and what was seen."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        words = command(*arguments)
        os.execve(words[0], words, environment(folder, **settings))
    seen = b""
    try:
        while b"[y/N] " not in seen:
            seen += os.read(terminal, 10_000)
        os.write(terminal, typed)
        while chunk := os.read(terminal, 10_000):
            seen += chunk
    except OSError:  # how a terminal says that its other end is closed
        pass
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), seen.decode().replace("\r\n", "\n")


def _ran(command: list[str], folder: Path, answer: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command,
        env=environment(folder, **settings),
        input=answer,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
        cwd=folder,
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


def start(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        env=environment(folder, **settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def answer_of(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object that stdout must be."""
    assert result.stdout.count("\n") == 1, result.stdout
    return json.loads(result.stdout)


def leads(folder: Path) -> list[Lead]:
    """Return the leads of the embedded CRM (of many, the newest 100), the oldest first."""

    async def read() -> list[Lead]:
        crm = Local(folder / "crm")
        try:
            return list((await crm.search_leads(LeadFilter(), Slice(limit=100))).items)[::-1]
        finally:
            await crm.aclose()

    return asyncio.run(read())


def fill(folder: Path, *names: str) -> None:
    """Make leads in the embedded CRM, without a command."""

    async def create() -> None:
        crm = Local(folder / "crm")
        for name in names:
            await crm.create_lead(LeadDraft(name=name))
        await crm.aclose()

    asyncio.run(create())


def names(folder: Path) -> list[str | None]:
    return [each.name for each in leads(folder)]


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path
