"""`python -m benchmarks.emulator VENDOR MINUTE [NAME=JSON ...]`: an emulator as a process, until its stdin ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx2

from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.serving import serving


@contextmanager
def emulated(vendor: str, minute: float, **switches: Any) -> Generator[str]:
    """Run an emulator whose minute lasts so many seconds; gives its base URL."""
    words = [f"{name}={json.dumps(value)}" for name, value in switches.items()]
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.emulator", vendor, str(minute), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin
    assert child.stdout
    try:
        yield child.stdout.readline().strip()
    finally:
        child.stdin.close()
        child.wait(10)
        child.stdout.close()


def statuses(url: str, path: str = "") -> list[int]:
    """Return the statuses that requests got, of those whose path has `path` in it."""
    origin = httpx2.URL(url).copy_with(path="/_sandbox/journal")
    journal = httpx2.get(origin, trust_env=False, timeout=30).json()
    return [each["status"] for each in journal if path in each["path"]]


def main() -> None:
    """Serve until stdin ends."""
    vendor, minute, *words = sys.argv[1:]
    switches = {name: json.loads(value) for name, _, value in (word.partition("=") for word in words)}
    with serving(emulator_of(vendor)(sample=True, minute=float(minute), **switches)) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
