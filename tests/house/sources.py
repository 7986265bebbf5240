"""The source as the house rules see it: parsed files, the rooms they stand in, and what each of them imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "crm_mcp"
ROOMS = (
    "errors",
    "text",
    "address",
    "channels",
    "model",
    "config",
    "store",
    "backends",
    "actions",
    "server",
    "sandbox",
    "cli",
)


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path

    @property
    def shown(self) -> str:
        """The path as a message names it."""
        return str(self.path.relative_to(ROOT))

    @cached_property
    def lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse("\n".join(self.lines))

    @property
    def module(self) -> str:
        """Its dotted name below the package, as `server.tools.leads`; empty for the package itself."""
        parts = self.path.relative_to(PACKAGE).with_suffix("").parts
        return ".".join(part for part in parts if part != "__init__")

    @property
    def room(self) -> str:
        return self.module.split(".")[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield line and full name of every import, those within functions too; `from a import b` is `a.b`."""
        package = ["crm_mcp", *self.module.split(".")]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, each.name) for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + (self.path.name == "__init__.py")] if node.level else []
                stem = ".".join([*base, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{stem}.{each.name}") for each in node.names)


@cache
def served() -> tuple[Source, ...]:
    """The files of the package."""
    return tuple(Source(path) for path in sorted(PACKAGE.rglob("*.py")))


@cache
def suite() -> tuple[Source, ...]:
    return tuple(Source(path) for path in sorted((ROOT / "tests").rglob("*.py")))
