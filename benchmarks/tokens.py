"""What the list of tools costs a model, in tokens of o200k, beside the usual guess of four characters each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.process import COMMAND, META, Server
from benchmarks.report import Figure, Size

TITLE = "Tokens: the list of tools"
LARGEST_SHOWN = 3


def measure(size: Size, folder: Path) -> Iterator[Figure]:  # noqa: ARG001 - a list is as long for any size
    """Count what a served list of tools has."""
    with Server([COMMAND], folder) as server:
        tools: list[dict[str, Any]] = json.loads(server.request("tools/list", {"_meta": META}))["result"]["tools"]
    count = _counter()
    texts = {each["name"]: _shown(each) for each in tools}
    whole = json.dumps(tools, ensure_ascii=False, separators=(",", ":"))
    seen = "\n".join(texts.values())
    yield _figure(f"{len(tools)} tools: names, descriptions, schemas", count, seen)
    yield _figure(f"{len(tools)} tools: all of the answer, with annotations", count, whole)
    for name in sorted(texts, key=lambda each: -count(texts[each]))[:LARGEST_SHOWN]:
        yield _figure(f"largest: {name}", count, texts[name])


def _shown(tool: dict[str, Any]) -> str:
    """Return what a host hands to a model."""
    seen = {name: tool[name] for name in ("name", "description", "inputSchema")}
    return json.dumps(seen, ensure_ascii=False, separators=(",", ":"))


def _figure(name: str, count: Callable[[str], int], text: str) -> Figure:
    tokens, guess = count(text), len(text) / 4
    return Figure(name, f"{tokens:,}", f"{guess:,.0f}", tokens / guess)


def _counter() -> Callable[[str], int]:
    encoding: Any = import_module("rs_bpe.bpe").openai.o200k_base()  # has no types
    return lambda text: int(encoding.count(text))
