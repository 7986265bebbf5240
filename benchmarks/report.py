"""Figures: what was measured, against what, and whether the target is met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COLUMNS = ("figure", "measured", "baseline", "ratio", "target", "")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    leads: int
    """Of the CRM that is searched, and of the larger import."""
    few: int
    """Rows of the smaller import."""
    starts: int
    """Of each server in each era."""
    rounds: int
    """Calls of each query."""
    imports: int
    """Of each file."""
    minute: float
    """Seconds that a minute of an emulator's limit lasts: the shorter, the more the machine's own speed shows."""


FULL = Size(leads=100_000, few=10_000, starts=15, rounds=100, imports=3, minute=12.0)
QUICK = Size(leads=10_000, few=1_000, starts=3, rounds=15, imports=1, minute=4.0)


@dataclass(frozen=True)
class Figure:
    """One line of the table. `ok` is None where there is no target."""

    name: str
    measured: str
    baseline: str = ""
    ratio: float | None = None
    target: str = ""
    ok: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the line as text."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        verdict = "" if self.ok is None else "ok" if self.ok else "miss"
        return (self.name, self.measured, self.baseline, ratio, self.target, verdict)


def quantile(values: Sequence[float], part: float) -> float:
    """Return the smallest value that `part` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return quantile(values, 0.5)


def ms(seconds: float) -> str:
    """Return a duration in milliseconds."""
    thousand = seconds * 1000
    return f"{thousand:.0f} ms" if thousand >= 100 else f"{thousand:.1f} ms"


def mib(kib: int | None) -> str:
    """Return an amount of memory; "unknown" where the system does not tell it."""
    return "unknown" if kib is None else f"{kib / 1024:.0f} MiB"


def show(title: str, figures: Iterable[Figure]) -> int:
    """Print a table of Markdown and return how many targets were missed."""
    shown = list(figures)
    lines = [COLUMNS, *(each.cells() for each in shown)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(COLUMNS))]
    print(f"\n## {title}\n")
    for place, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if place == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|", flush=True)
    return sum(each.ok is False for each in shown)
