"""`crm-mcp demo`: one sales morning on sample data.

A real MCP client talks to the real server, and every step is shown.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from mcp import Client
from rich.console import Console
from rich.markup import escape

from crm_mcp.cli.talking import connected, text_in
from crm_mcp.cli.terminal import folded, shortened
from crm_mcp.config import variables
from crm_mcp.model import now, rfc3339
from crm_mcp.server.rendering import set_apart
from crm_mcp.text import neutral, one_line

WIDTH = 80
LEAD = "jane.whitfield@acme-robotics.example"
TEXT = "Hi Jane, the revised quote is in your inbox. Shall we talk at 3 pm tomorrow?"


class _Story:
    """Tells the steps: what the person says, which tool the assistant calls, what comes back."""

    client: Client

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = 0

    async def call(self, said: str, tool: str, most_lines: int = 6, **arguments: Any) -> dict[str, Any]:
        """Tell and take one step; returns the structured result.

        Raises:
            RuntimeError: the tool failed, which ends the demo.
        """
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {escape(said)}[/bold]")
        shown = " ".join(f"{name}={_word(value)}" for name, value in arguments.items())
        self._print(f"{tool} {shown}".strip(), "cyan")
        result = await self.client.call_tool(tool, arguments)
        text = text_in(result)
        if result.is_error:
            raise RuntimeError(f"{tool} failed: {text}")
        lines = neutral(set_apart(text, "  ")).splitlines()
        for line in lines[:most_lines]:
            self._console.print(f"   [dim]{escape(shortened(line, WIDTH - 6))}[/dim]")
        if len(lines) > most_lines:
            self._console.print(f"   [dim](and {len(lines) - most_lines} more)[/dim]")
        return result.structured_content or {}

    async def asked(self, question: str) -> bool:
        """Show what the server asks its user, and answer yes."""
        self._console.print("   [yellow]Before anything goes out, the server asks its user:[/yellow]")
        for line in neutral(question).splitlines():
            self._print(line, "yellow", "   ? ")
        self._console.print("   [green]> yes[/green]  (the demo answers for you)")
        return True

    def _print(self, text: str, style: str, indent: str = "   ") -> None:
        for line in folded(indent + one_line(text), WIDTH - 2, "     "):
            self._console.print(f"[{style}]{escape(line)}[/{style}]")


async def run_demo(console: Console, settings: Mapping[str, str] | None = None) -> int:
    """Run the demo on a CRM that is thrown away afterwards; returns the exit code.

    `settings` are variables that hold for it, and are none of the user's.
    """
    console = Console(file=console.file, width=WIDTH, highlight=False, soft_wrap=False)
    began = time.monotonic()
    console.print("[bold]crm-mcp demo[/bold]: a real server on stdio, an embedded CRM with sample data.")
    console.print("Nothing leaves this machine, and nothing of it stays.")

    story = _Story(console)
    with tempfile.TemporaryDirectory(prefix="crm-mcp-demo-") as folder:
        changes = {
            **dict.fromkeys(variables(), ""),  # whatever is set here: the demo is the same for everyone
            "CRM_MCP_DATA_DIR": folder,
            "CRM_MCP_SAMPLE": "true",
            "CRM_MCP_CONFIG": os.devnull,
            **(settings or {}),
        }
        async with connected(story.asked, changes) as client:
            listed = (await client.list_tools()).tools
            console.print(f"Connected over MCP {client.protocol_version}; {len(listed)} tools.")
            story.client = client
            await _tell(story)
    console.print(
        f"\n[bold]Done[/bold] in {time.monotonic() - began:.1f} s. Next: add it to your assistant, see README."
    )
    return 0


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = ",".join(str(each) for each in cast("list[Any]", value)) if isinstance(value, list) else str(value)
    return f'"{text}"' if " " in text else text


async def _tell(story: _Story) -> None:
    tomorrow = (now() + timedelta(days=1)).replace(hour=15, minute=0, second=0, microsecond=0)
    await story.call("Whom do we know at Acme?", "search_leads", query="acme", limit=3)
    await story.call("Where do we stand with Jane?", "get_lead", lead=LEAD, include=["notes", "deals"], most_lines=8)
    await story.call(
        "I just spoke to her: she wants the revised quote by tomorrow. Log it.",
        "log_note",
        lead=LEAD,
        kind="call",
        content="Wants the revised quote by tomorrow; the board decides on Friday.",
        outcome="interested",
        duration_seconds=420,
    )
    moved = await story.call("Move Acme to negotiation.", "move_stage", lead=LEAD, stage="negotiation")
    await story.call(
        "Remind me to call her tomorrow at three.",
        "create_task",
        title="Call Jane about the revised quote",
        lead=LEAD,
        due_at=rfc3339(tomorrow),
        priority="high",
    )
    # By day it goes out at once. The demo may be run when it is night there: then it is put off until the morning.
    text = {"lead": LEAD, "message": TEXT, "defer": True}
    await story.call("And text her; if it is night there, in the morning.", "send_sms", most_lines=8, **text)
    await story.call("The line dropped: did that go out? Send it again.", "send_sms", most_lines=8, **text)
    await story.call("Wait, the stage was too early. Take that back.", "undo_action", action_id=moved["action_id"])
    await story.call("What did you do this morning?", "list_actions", limit=5, most_lines=8)
    await story.call("And how does the pipeline look?", "get_pipeline", most_lines=9)
