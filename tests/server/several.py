"""A server process with several connections: emulated vendors over real HTTP, and the embedded CRM."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal

from crm_mcp.sandbox.emulator import Emulator
from crm_mcp.sandbox.serving import serving

from .talk import Era, Talk, talking, text_in

NOBODY = "http://127.0.0.1:9"
"""Where nothing listens."""


@dataclass
class Several:
    """One client of a server with several connections."""

    talk: Talk
    emulators: Mapping[str, Emulator]

    def ok(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that succeeds; returns its structured result."""
        result = self.talk.call(tool, **arguments)
        assert not result.is_error, text_in(result)
        structured: dict[str, Any] = result.structured_content
        return structured

    def refused(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that fails; returns its one line."""
        return self.talk.refused(tool, **arguments)

    def pages(self, tool: str, name: str, /, *limits: int, **arguments: Any) -> list[dict[str, Any]]:
        """Read a list to its end by its cursors, with these limits in turn; returns the results."""
        found: list[dict[str, Any]] = []
        cursor = {"cursor": arguments.pop("cursor")} if "cursor" in arguments else {}
        while True:
            limit = limits[len(found) % len(limits)]
            page = self.ok(tool, limit=limit, **arguments, **cursor)
            assert len(page[name]) <= limit
            found.append(page)
            if page["next_cursor"] is None:
                return found
            assert len(found) < 100
            cursor = {"cursor": page["next_cursor"]}


@contextmanager
def several(
    portal: BlockingPortal,
    folder: Path,
    emulators: Mapping[str, Emulator],
    *,
    local: bool = True,
    era: Era = "modern",
    asked: bool = True,
    keys: Mapping[str, str] | None = None,
    addresses: Mapping[str, str] | None = None,
    sample: bool = True,
) -> Generator[Several]:
    """Serve the emulators and, in a process of its own, the connections that are named after them, and `home`.

    `keys` and `addresses` are wrong ones, by connection. Emulators are expected on a minute of half a second.
    """
    with ExitStack() as stack:
        parts: list[str] = []
        for name, emulator in emulators.items():
            url = stack.enter_context(serving(emulator))
            (folder / f"{name}.key").write_text((keys or {}).get(name, emulator.key))
            parts.append(
                f'[connections.{name}]\nvendor = "{emulator.vendor}"\napi_key = "file:{folder / name}.key"\n'
                f'base_url = "{(addresses or {}).get(name, url)}"\n'
            )
        parts += ["[connections.home]\n"] if local else []
        (folder / "several.toml").write_text("".join(parts))
        settings = {"config": str(folder / "several.toml"), "test_minute": "0.5", "sample": str(sample).lower()}
        talk = stack.enter_context(talking(portal, folder, era, asked=asked, settings=settings))
        yield Several(talk, emulators)
