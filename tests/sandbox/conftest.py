"""A small emulator on a port of its own, and a plain client that knows nothing of ours."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, ClassVar, NamedTuple

import httpx2
import pytest

from crm_mcp.sandbox.emulator import Answer, Call, Emulator, Refusal, Window, route
from crm_mcp.sandbox.serving import serving


class Small(Emulator):
    """A vendor with one table."""

    vendor: ClassVar[str] = "small"
    prefix: ClassVar[str] = "/api"
    key: ClassVar[str] = "small_key"
    choices: ClassVar[Mapping[str, Any]] = {"envelope": "named", "per_minute": 1000}

    def begin(self) -> None:
        """Begin with one row, and a second in the sample."""
        self.rows = {"1": "first", **({"2": "second"} if self.sample else {})}
        self.window = Window(int(self.switches["per_minute"]), self.minute)

    def admit(self, call: Call) -> dict[str, str]:
        """Check key and limit."""
        if call.headers.get("authorization") != f"Bearer {self.key}":
            raise Refusal(401, "who are you")
        if not self.window.take(self.clock()):
            raise Refusal(429, "too many", headers={"retry-after": "9"})
        return {"x-left": str(self.window.remaining(self.clock()))}

    def worded(self, refusal: Refusal) -> Any:
        """Word an error."""
        return {"error": refusal.message, **refusal.more}

    @route("GET", "/api/rows")
    async def every(self, call: Call) -> Answer:
        """List the rows."""
        rows = list(self.rows.values())[: call.whole("limit", 100)]
        return Answer({"rows": rows} if self.switches["envelope"] == "named" else rows)

    @route("GET", "/api/rows/{id}")
    def a_row(self, call: Call, row: str) -> Answer:
        """Answer one, by an id that may have any character."""
        if row not in self.rows:
            raise Refusal(404, "no such row", row=row)
        return Answer(self.rows[row])

    @route("GET", "/api/rows/count")
    def z_count(self, call: Call) -> Answer:
        """Count; a path that an id could stand in as well."""
        return Answer(len(self.rows))

    @route("PUT", "/api/rows/{id}")
    @route("PATCH", "/api/rows/{id}")
    def keep(self, call: Call, row: str) -> Answer:
        """Keep a row."""
        self.rows[row] = call.body
        return Answer(None, 204, {"x-kept": row})


class Served(NamedTuple):
    """The emulator, its address and a client that has the key."""

    there: Small
    url: str
    http: httpx2.Client


@pytest.fixture
def small() -> Generator[Served]:
    there = Small()
    with (
        serving(there) as url,
        httpx2.Client(base_url=url, headers={"authorization": "Bearer small_key"}, timeout=5, trust_env=False) as http,
    ):
        yield Served(there, url, http)
