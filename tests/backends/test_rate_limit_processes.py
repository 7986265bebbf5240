"""Processes that share a file keep the limit together: counted by a vendor with a faster clock, over real HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest

from crm_mcp.sandbox.emulator import Answer, Call, Emulator, Refusal, Window, route
from crm_mcp.sandbox.serving import serving

LIMIT = 20
MINUTE = 4.0
READER = """
import os
import sys
from contextlib import nullcontext
from pathlib import Path
import anyio
from pydantic import SecretStr
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.http import Api, ApiProfile
from crm_mcp.backends.rate_limit import RateLimit, bulk_work

def opened(url, key, file, limit, minute):
    rate_limit = RateLimit(key, Limits(per_minute=limit), Path(file), minute=minute)
    return Api(ApiProfile("Tiny", url, SecretStr("key")), rate_limit)

async def main(url, file, calls, limit, minute, work):
    # A call that nobody counts: what is loaded by the first one would take a good part of so short a minute.
    first = opened(url, "first", file + ".first", limit, minute)
    await first.read("GET", "/_sandbox/switches")
    await first.aclose()
    api = opened(url, "key", file, limit, minute)
    if work == "stranger":
        os.seteuid(65534)
    print("ready", flush=True)
    sys.stdin.readline()
    with bulk_work() if work == "bulk" else nullcontext():
        for _ in range(calls):
            await api.read("GET", "/rows")
    await api.aclose()

url, file, calls, limit, minute, work = sys.argv[1:]
anyio.run(main, url, file, int(calls), int(limit), float(minute), work)
"""


class Counting(Emulator):
    """A vendor that counts back from now, and gives no header."""

    vendor: ClassVar[str] = "counting"
    key: ClassVar[str] = "key"

    def begin(self) -> None:
        """Begin with an empty window."""
        self.window = Window(LIMIT, self.minute, sliding=True)

    def admit(self, call: Call) -> dict[str, str]:
        """Count a call."""
        if not self.window.take(self.clock()):
            raise Refusal(429, "too many")
        return {}

    def worded(self, refusal: Refusal) -> Any:
        """Word an error."""
        return {"error": refusal.message}

    @route("GET", "/rows")
    def rows(self, call: Call) -> Answer:
        """Answer nothing much."""
        return Answer([])


def at_work(url: str, file: Path, processes: int, calls: int, work: str = "") -> list[str]:
    """Let processes begin at once; returns what they complain of."""
    arguments = [sys.executable, "-c", READER, url, str(file), str(calls), str(LIMIT), str(MINUTE), work]
    readers = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for each in readers:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in readers:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    return [said for each in readers if (said := each.communicate(timeout=30)[1]) or each.returncode]


@pytest.mark.parametrize(("processes", "work", "calls", "seconds"), [(2, "", 40, 4.0), (4, "bulk", 28, 5.6)])
def test_processes_never_exceed_the_limit_together(
    tmp_path: Path, processes: int, work: str, calls: int, seconds: float
):
    """People's calls leave as soon as the window allows; of bulk work, half a limit at once and the rest evenly."""
    vendor = Counting(minute=MINUTE)
    with serving(vendor) as url:
        complaints = at_work(url, tmp_path / "new" / "pace.sqlite3", processes, calls // processes, work)

    assert complaints == []
    assert [each.status for each in vendor.journal] == [200] * calls
    assert seconds <= vendor.journal[-1].at - vendor.journal[0].at < seconds * 1.3


def test_a_file_that_may_only_be_read_is_done_without():
    """Where these tests run as the user to whom everything is allowed, by a process that gives that up."""
    vendor = Counting(minute=MINUTE)
    work = "" if os.geteuid() else "stranger"
    with serving(vendor) as url, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pace.sqlite3"
        assert at_work(url, file, 1, 1) == []
        file.chmod(0o444)
        Path(folder).chmod(0o555)
        (complaint,) = at_work(url, file, 1, 3, work)
        Path(folder).chmod(0o755)

    assert "this process alone" in complaint
    assert "readonly" in complaint or "Permission" in complaint
    assert [each.status for each in vendor.journal] == [200] * 4
