"""What the fault tests found, for whoever wants to read it: tables of counts.

With `CRM_MCP_TEST_REPORT=FILE`, each test adds lines of JSON to FILE, and the tables are shown at the end of the run;
`python -m tests.faults.report FILE` shows them again.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "CRM_MCP_TEST_REPORT"


class Report:
    """Collects what one test found."""

    def __init__(self, test: str) -> None:
        self._test = test
        self._lines: list[dict[str, Any]] = []

    def cells(self, counts: Mapping[tuple[str, str, str, str], int], slowest: float) -> None:
        """Add cells, by tool, fault, vendor and end; and the seconds of the slowest answer."""
        for (tool, fault, vendor, end), count in counts.items():
            self._add("cells", tool=tool, fault=fault, vendor=vendor, end=end, count=count)
        self._add("slowest", seconds=round(slowest, 2))

    def kills(self, counts: Mapping[tuple[str, str, str, str], int]) -> None:
        """Add kill points, by database, flow, step and end."""
        for (database, flow, step, end), count in counts.items():
            self._add("kills", database=database, flow=flow, step=step, end=end, count=count)

    def runs(self, what: str, **counts: Any) -> None:
        """Add a count of anything else."""
        self._add("runs", what=what, **counts)

    def _add(self, table: str, **values: Any) -> None:
        self._lines.append({"test": self._test, "table": table, **values})

    def write(self) -> None:
        """Append what was found to the file, where there is to be one."""
        path = os.environ.get(VARIABLE)
        if path and self._lines:
            text = "".join(json.dumps(each) + "\n" for each in self._lines)
            with Path(path).open("a", encoding="utf-8") as file:  # one write: several processes append
                file.write(text)


def shown(lines: list[dict[str, Any]]) -> str:
    """Return the tables of a report."""
    by: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in lines:
        by[each["table"]].append(each)
    parts = [
        _counts("Cells by vendor and tool", by["cells"], ("vendor", "tool")),
        _counts("Cells by fault", by["cells"], ("fault",)),
        _counts("Kill points by database and flow", by["kills"], ("database", "flow")),
        _counts("Kill points by step", by["kills"], ("database", "step")),
    ]
    if by["slowest"]:
        parts.append(f"slowest answer: {max(each['seconds'] for each in by['slowest'])} s (a request gives up after 1)")
    parts += [
        ", ".join(f"{name}: {value}" for name, value in each.items() if name not in ("table", "test"))
        for each in by["runs"]
    ]
    return "\n\n".join(part for part in parts if part)


def _counts(title: str, lines: list[dict[str, Any]], keys: tuple[str, ...]) -> str:
    """Return one table: a row for each group, with how often each end came about."""
    if not lines:
        return ""
    groups: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for each in lines:
        groups[tuple(str(each[key]) for key in keys)][each["end"]] += each["count"]
    rows = [f"{title} ({sum(sum(each.values()) for each in groups.values())})"]
    for group, ends in sorted(groups.items()):
        told = ", ".join(f"{end} {count}" for end, count in ends.most_common())
        rows.append(f"  {' '.join(group):45} {sum(ends.values()):5}  {told}")
    return "\n".join(rows)


def read(path: Path) -> str:
    """Return the tables of a file."""
    return shown([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


def pytest_configure(config: pytest.Config) -> None:
    """Begin a new file: once a run, whatever processes it has."""
    if (path := os.environ.get(VARIABLE)) and not hasattr(config, "workerinput"):
        Path(path).unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the tables at the end of the run."""
    path = os.environ.get(VARIABLE)
    if path and Path(path).exists():
        terminalreporter.section("what the fault tests found")
        terminalreporter.write_line(read(Path(path)))


if __name__ == "__main__":
    sys.stdout.write(read(Path(sys.argv[1])) + "\n")
