"""A real MCP client that starts the real server: what `call` and `demo` talk through."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp import Client, StdioServerParameters

from crm_mcp import __version__
from crm_mcp.config import child_environment

Asked = Callable[[str], Awaitable[bool]]


@asynccontextmanager
async def connected(asked: Asked | None, changes: Mapping[str, str] | None = None) -> AsyncGenerator[Client]:
    """Start `crm-mcp serve` as a child and connect to it over stdio.

    `asked` answers its questions; None: the client says that it can't be asked. `changes` are added to the environment.
    """

    async def answer(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG001
        assert asked is not None
        if await asked(params.message):
            return types.ElicitResult(action="accept", content={"confirm": True})
        return types.ElicitResult(action="decline")

    server = StdioServerParameters(
        command=sys.executable, args=["-m", "crm_mcp", "serve"], env=child_environment(changes or {})
    )
    info = types.Implementation(name="crm-mcp command", version=__version__)
    async with Client(server, client_info=info, elicitation_callback=answer if asked else None) as client:
        yield client


def text_in(result: types.CallToolResult) -> str:
    """Return the text of a result."""
    return "\n".join(part.text for part in result.content if isinstance(part, types.TextContent))


def coerced(schema: Mapping[str, Any], pairs: list[str]) -> dict[str, Any]:
    """Turn `key=value` words into arguments, by the types of a tool's schema; lists are comma-separated.

    Raises:
        ValueError: a word has no `=`, or a value is not of its type.
    """
    import json

    arguments: dict[str, Any] = {}
    properties: Mapping[str, Any] = schema.get("properties", {})
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f'"{pair}" is not key=value')
        kind = properties.get(name, {}).get("type", "string")
        if kind == "string":
            arguments[name] = value
        elif kind == "array" and not value.startswith("["):
            arguments[name] = [part.strip() for part in value.split(",") if part.strip()]
        else:
            try:
                arguments[name] = json.loads(value)
            except ValueError:
                arguments[name] = value
    return arguments
