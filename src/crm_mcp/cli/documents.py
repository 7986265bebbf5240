"""What README, manifest and docs have of the tools and catalogues is made from them, so that it can't drift."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from crm_mcp.backends.catalog import Operation, load
from crm_mcp.cli.terminal import complain, say
from crm_mcp.config import VENDORS
from crm_mcp.server.app import Application
from crm_mcp.server.tools import TOOLS

BEGIN, END = "<!-- tools: made by `crm-mcp tools --write` -->", "<!-- end of tools -->"


def listed(application: Application) -> list[dict[str, Any]]:
    """Return the served tools with everything that follows from their declaration."""
    result: list[dict[str, Any]] = []
    for each in application.tools.values():
        shown = application.described(each).model_dump(mode="json", by_alias=True, exclude_none=True)
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
    made = (("README.md", _readme), ("manifest.json", _manifest), ("docs/operations.md", _operations))
    for path, make in ((folder / name, make) for name, make in made):
        if not path.is_file():
            complain(f"{path.name} is not here; run this in a checkout")
            return 2
        present = path.read_text(encoding="utf-8")
        wanted = make(present)
        if present != wanted:
            stale.append(path.name)
            if write:
                path.write_text(wanted, encoding="utf-8")
    if stale and not write:
        complain(f"out of date: {', '.join(stale)}; run `crm-mcp tools --write`")
        return 1
    say("written: " + ", ".join(stale) if stale else "up to date")
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


def _operations(present: str) -> str:
    """Return the list of all operations, below the page's own words."""
    parts = [BEGIN]
    for vendor in VENDORS[1:]:
        catalog = load(vendor)
        head = (
            f"## {vendor}: {len(catalog.operation)} operations\n\n| operation | request | effect | why | reached by |"
        )
        rows = [
            f"| `{each.name}` | `{each.method} {each.path}` | {_effect(each)} | {_why(each)} | {_reached_by(each)} |"
            for each in catalog.operation
        ]
        parts.append("\n".join([head, "|---|---|---|---|---|", *rows]))
    table = "\n\n".join([*parts, END])
    return re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: table, present, flags=re.DOTALL)


def _effect(operation: Operation) -> str:
    return operation.effect if isinstance(operation.effect, str) else f"by `{operation.effect['by']}`"


def _why(operation: Operation) -> str:
    """Return the reason of an effect; where an argument decides it, each with the values that have it."""
    if isinstance(operation.why, str):
        return operation.why
    values: dict[str, list[str]] = {}
    for value, why in operation.why.items():
        if value != "by":
            values.setdefault(f"{operation.effect_of({operation.why['by']: value})}, {why}", []).append(
                f"`{value}`" if value else "left out"
            )
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in values.items())


def _reached_by(operation: Operation) -> str:
    reads = operation.effect == "read"
    ways = f"`{operation.tool}`" if operation.tool else "`read_operation`" if reads else "`call_operation`"
    if operation.tool and reads:
        ways += " or `read_operation`"
    if operation.off:
        return f"{ways}, when allowed by name ({operation.off})"
    return f"{ways}, when allowed by name (it can't name whom it reaches)" if operation.names_nobody else ways


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.])\s", text.replace("\n", " "), maxsplit=1)[0].rstrip(".")
