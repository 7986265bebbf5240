"""The wire between a server and a vendor's emulator: it counts requests, spoils the chosen ones, and keeps a ledger.

The ledger says what the emulator has taken and done, whatever was answered to it, or whether anything was.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.emulator import Answer, Call, Emulator, FaultKind, Receive, Scope, Send
from crm_mcp.sandbox.serving import serving

# What asks and changes nothing, although it is a POST.
ASKING = re.compile(r"/leads/api/leads/(search|lookup-one|count|metrics)|/flows/api/flows-leads/list|.*/group-counts")
ONE_TRY = 1.0
"""Seconds for one request here, instead of ten."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request."""

    kind: FaultKind
    how: Mapping[str, Any] = field(default_factory=dict[str, Any])


def _status(status: int, **headers: str) -> Fault:
    return Fault("status", {"status": status, "headers": headers})


FAULTS: Mapping[str, Fault] = {
    "dropped before": Fault("drop_before"),
    "dropped after": Fault("drop_after"),
    "silent before": Fault("silent_before"),
    "silent after": Fault("silent_after"),
    "processed late": Fault("delay", {"seconds": ONE_TRY * 1.3}),
    "429": _status(429),
    "429 for a second": _status(429, **{"retry-after": "1"}),
    "429 for an hour": _status(429, **{"retry-after": "3600"}),
    "429 nonsense": _status(429, **{"retry-after": "soon"}),
    "400": _status(400),
    "500 before": _status(500),
    "500 after": Fault("status_after", {"status": 500}),
    "502 before": _status(502),
    "502 after": Fault("status_after", {"status": 502}),
    "503 before": _status(503),
    "504 after": Fault("status_after", {"status": 504}),
    "page": Fault("html", {"status": 503}),
    "page for 200": Fault("html", {"status": 200}),
    "malformed after": Fault("malformed"),
    "empty after": Fault("empty"),
    "another shape after": Fault("status_after", {"status": 200, "body": ["ok"]}),
    "cut after": Fault("cut"),
    "dripping after": Fault("drip", {"seconds": 0.2}),
}
"""Faults by what a person would say of them; `after`: the emulator has done what was asked."""


class Wire:
    """One emulator, and what came over the wire to it."""

    prefix = ""

    def __init__(self, vendor: str) -> None:
        self.there: Emulator = emulator_of(vendor)(sample=True, minute=0.05)
        self.seen: list[tuple[str, str]] = []
        """Method and path of each request, in the order of their coming."""
        self.taken: Counter[tuple[str, str]] = Counter()
        """The ledger: how often the emulator did what changes something."""
        self._spoils: tuple[Fault, int, float] | None = None
        inner = self.there._answer  # pyright: ignore[reportPrivateUsage]

        async def answer(call: Call) -> Answer:
            answer = await inner(call)
            if writes(call.method, call.path) and answer.status < 400:
                self.taken[call.method, call.path] += 1
            return answer

        self.there._answer = answer  # pyright: ignore[reportPrivateUsage]

    def spoil(self, fault: Fault, first: int, times: float = 1) -> None:
        """Let a fault strike the request with this number (from 0), and those that follow."""
        self._spoils = (fault, first, first + times)

    def heal(self) -> None:
        """Let nothing more go wrong."""
        self._spoils = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        number = len(self.seen)
        self.seen.append((scope["method"], path))
        if self._spoils and self._spoils[1] <= number < self._spoils[2]:
            fault = self._spoils[0]
            self.there.fail(fault.kind, **{**fault.how, "method": scope["method"], "path": re.escape(path)})
        await self.there(scope, receive, send)


def writes(method: str, path: str) -> bool:
    """Whether a request could change something."""
    return method != "GET" and not ASKING.fullmatch(path)


class Wires:
    """Many wires behind one address, each under a path of its own."""

    prefix = ""

    def __init__(self) -> None:
        self.wires: dict[str, Wire] = {}
        self.address = ""

    def open(self, name: str, vendor: str) -> tuple[Wire, str]:
        """Lay a wire to a new emulator; returns it, and the base URL for the settings."""
        wire = self.wires[name] = Wire(vendor)
        return wire, f"{self.address}/{name}{wire.there.prefix}"

    def close(self, name: str) -> None:
        """Take a wire away."""
        del self.wires[name]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request to where it is meant for."""
        if scope["type"] != "http":
            return
        name = scope["path"].split("/")[1]
        if name not in self.wires:
            return
        raw = scope["raw_path"].removeprefix(f"/{name}".encode())
        await self.wires[name](
            {**scope, "path": scope["path"].removeprefix(f"/{name}"), "raw_path": raw}, receive, send
        )


@contextmanager
def wired() -> Generator[Wires]:
    """Serve wires over real HTTP until the block ends."""
    made = Wires()
    with serving(cast("Emulator", made)) as url:
        made.address = url
        yield made
