"""The parts of README and manifest that are made from the tools, so that they can't drift."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from crm_mcp.server.app import Application, described
from crm_mcp.server.tools import TOOLS

BEGIN, END = "<!-- tools: made by `crm-mcp tools --write` -->", "<!-- end of tools -->"


def listed(application: Application) -> list[dict[str, Any]]:
    """Return the served tools with everything that follows from their declaration."""
    result: list[dict[str, Any]] = []
    for each in application.tools.values():
        shown = described(each).model_dump(mode="json", by_alias=True, exclude_none=True)
        result.append(
            {
                "name": each.name,
                "toolset": each.toolset,
                "effect": each.effect.value,
                "verdict": application.policy.verdict(each.name, each.effect),
                "tokens": tokens(shown),
                "description": shown["description"],
                "inputSchema": shown["inputSchema"],
                "annotations": shown["annotations"],
            }
        )
    return result


def tokens(shown: dict[str, Any]) -> int:
    """Return about how many tokens a model pays for a tool's name, description and schema, at four characters each."""
    seen = {name: shown[name] for name in ("name", "description", "inputSchema")}
    return round(len(json.dumps(seen, ensure_ascii=False)) / 4)


def settle(folder: Path, *, write: bool) -> int:
    """Compare the generated parts with the tools, or write them; returns the exit code."""
    stale: list[str] = []
    for path, make in ((folder / "README.md", _readme), (folder / "manifest.json", _manifest)):
        if not path.is_file():
            sys.stderr.write(f"crm-mcp: {path.name} is not here; run this in a checkout\n")
            return 2
        present = path.read_text(encoding="utf-8")
        wanted = make(present)
        if present != wanted:
            stale.append(path.name)
            if write:
                path.write_text(wanted, encoding="utf-8")
    if stale and not write:
        sys.stderr.write(f"crm-mcp: out of date: {', '.join(stale)}; run `crm-mcp tools --write`\n")
        return 1
    print("written: " + ", ".join(stale) if stale else "up to date")
    return 0


def _readme(present: str) -> str:
    rows = [
        f"| {each.toolset} | `{each.name}` | {each.effect.value} | {_first_sentence(each.description)} |"
        for each in TOOLS
    ]
    head = ["| toolset | tool | effect | what it is for |", "|---|---|---|---|"]
    table = "\n".join([BEGIN, *head, *rows, END])
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: table, present, flags=re.DOTALL)


def _manifest(present: str) -> str:
    manifest = json.loads(present)
    manifest["tools"] = [{"name": each.name, "description": _first_sentence(each.description)} for each in TOOLS]
    return json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.])\s", text.replace("\n", " "), maxsplit=1)[0].rstrip(".")
