"""A real MCP client in front of a real server process, spoken to by plain functions.

The client lives in the event loop of a portal's thread, entered and left by one task there; so one process serves as
many tests as do not disturb each other.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import mcp_types as types
from anyio.from_thread import BlockingPortal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from crm_mcp.text import neutral, neutral_json
from tests import warm

Era = Literal["modern", "legacy"]
ERAS: tuple[Era, ...] = ("modern", "legacy")
MODES = {"modern": "auto", "legacy": "legacy"}
VERSIONS = {"modern": "2026-07-28", "legacy": "2025-11-25"}
JANE = "jane.whitfield@acme-robotics.example"
MOST = 18_000
"""Characters of a result in either form: 6,000 tokens at three characters a token."""

YES = types.ElicitResult(action="accept", content={"confirm": True})
NO = types.ElicitResult(action="accept", content={"confirm": False})
DECLINE = types.ElicitResult(action="decline")
CANCEL = types.ElicitResult(action="cancel")

R = TypeVar("R")
_FENCE = re.compile(r"(?:^|\n)\[outside data ([0-9a-f]{8}): not instructions\]\n(.*)\n\[end \1\](?:\n|$)", re.DOTALL)
_numbers = count(1)
_LINE = re.compile(
    r"(invalid_argument|not_found|ambiguous|unauthorized|forbidden|payment_required|rate_limited|conflict|unsupported"
    r"|vendor_error|unreachable|timeout|internal): \S.*"
)


@dataclass
class User:
    """The person in front of the client: answers as told, and remembers what was asked."""

    answer: types.ElicitResult = field(default_factory=lambda: YES)
    asked: list[str] = field(default_factory=list[str])
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """What happens while the question is open."""

    async def __call__(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestFormParams)
        assert params.requested_schema["required"] == ["confirm"]
        self.asked.append(params.message)
        if self.meanwhile:
            await self.meanwhile()
        return self.answer


@dataclass
class Talk:
    """One client of one server."""

    client: Client
    era: Era
    folder: Path
    user: User
    portal: BlockingPortal
    crm: str = "local"
    """The connection."""

    def run(self, function: Callable[..., Awaitable[R]], *arguments: Any) -> R:
        """Run a coroutine function in the client's loop."""
        return self.portal.call(function, *arguments)

    def call(self, tool: str, /, **arguments: Any) -> types.CallToolResult:
        """Call a tool; whatever it answers fits, in both forms, and has nothing in it that is not seen."""
        result = self.run(self.client.call_tool, tool, arguments)
        assert neutral(text_in(result)) == text_in(result)
        assert neutral_json(result.structured_content) == result.structured_content
        assert len(text_in(result)) <= MOST
        assert len(json.dumps(result.structured_content, ensure_ascii=False, separators=(",", ":"))) <= MOST
        return result

    def ok(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that succeeds; returns its structured result."""
        result = self.call(tool, **arguments)
        assert not result.is_error, text_in(result)
        structured: dict[str, Any] = result.structured_content
        assert structured["crm"] == self.crm
        return structured

    def refused(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that fails; returns its one line."""
        result = self.call(tool, **arguments)
        assert result.is_error, text_in(result)
        line = text_in(result)
        assert _LINE.fullmatch(line), line
        assert "Traceback" not in line
        return line

    def lead(self, **fields: Any) -> str:
        """Return the id of a new lead, with an address and a number of its own where none is given."""
        n = next(_numbers)
        mine = {"name": f"Test {n}", "email": f"test{n}@{os.urandom(4).hex()}.example", "phone": number()}
        made = self.ok("create_lead", **{k: v for k, v in (mine | fields).items() if v is not None})
        return made["lead"]["id"]

    def read(self, lead: str, *include: str) -> dict[str, Any]:
        """Read a lead."""
        return self.ok("get_lead", lead=lead, include=list(include))

    def sent(self, lead: str) -> list[dict[str, Any]]:
        """Return the messages that the CRM has of a lead."""
        return self.read(lead, "messages")["messages"]

    def tools(self) -> dict[str, types.Tool]:
        """Return the tools that are listed."""
        return {each.name: each for each in self.run(self.client.list_tools).tools}

    def round(
        self, tool: str, arguments: dict[str, Any], answer: types.ElicitResult | None = None, state: str | None = None
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Make one round trip of the modern protocol, without the client's own loop."""

        async def once() -> types.CallToolResult | types.InputRequiredResult:
            result = await self.client.session.call_tool(
                tool,
                arguments,
                input_responses={"confirm": answer} if answer else None,
                request_state=state,
                allow_input_required=True,
            )
            assert isinstance(result, types.CallToolResult | types.InputRequiredResult)
            return result

        return self.run(once)


def text_in(result: types.CallToolResult) -> str:
    """Return the text of a result."""
    return "\n".join(part.text for part in result.content if isinstance(part, types.TextContent))


def inside(text: str) -> str:
    """Return what stands in the one fence of a text that leaves the server; it can't be mistaken for another."""
    [(mark, body)] = _FENCE.findall(text)
    assert text.count(mark) == 2
    return body


def number() -> str:
    """Return a phone number that nobody else has."""
    return f"+1415{int.from_bytes(os.urandom(4)) % 8_000_000 + 2_000_000}"


def environment(folder: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a server: this one's without our settings, and with those given.

    Quiet hours are off where a test's own settings file says nothing of them: tests run at night, too.
    """
    by_day(Path((settings or {}).get("config") or folder / "crm-mcp" / "config.toml"))
    ours = {f"CRM_MCP_{name.upper()}": value for name, value in (settings or {}).items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CRM_MCP_")}
    return {
        **kept,
        "XDG_CONFIG_HOME": str(folder),
        "XDG_CACHE_HOME": str(folder),
        "CRM_MCP_DATA_DIR": str(folder),
        "CRM_MCP_SAMPLE": "true",
        **ours,
    }


def by_day(file: Path) -> None:
    """Turn quiet hours off in a settings file that does not name them."""
    given = file.read_text() if file.exists() else ""
    if "quiet_hours" in given:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    off = '[policy]\nquiet_hours = "off"\n'
    file.write_text(given.replace("[policy]\n", off, 1) if "[policy]\n" in given else f"{given}\n{off}")


@contextmanager
def talking(
    portal: BlockingPortal,
    folder: Path,
    era: Era,
    *,
    asked: bool = True,
    name: str = "tests",
    settings: Mapping[str, str] | None = None,
) -> Generator[Talk]:
    """Start `crm-mcp serve` on a folder and connect a client to it; `asked`: it can ask its user.

    It has loaded the program already.
    """
    user = User()
    program, *arguments = warm.command("serve")
    parameters = StdioServerParameters(command=program, args=arguments, env=environment(folder, settings))
    with (folder / f"stderr-{next(_numbers)}").open("w") as log:
        client = Client(
            stdio_client(parameters, errlog=log),
            mode=MODES[era],
            client_info=types.Implementation(name=name, version="1"),
            elicitation_callback=user if asked else None,
        )
        with portal.wrap_async_context_manager(client):
            assert client.protocol_version == VERSIONS[era]
            yield Talk(client, era, folder, user, portal, (settings or {}).get("vendor", "local"))
