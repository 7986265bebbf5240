"""What `crm-mcp import` shows: what it will do, how far it is, what became of the rows; and the files that it makes."""

from __future__ import annotations

import csv
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from crm_mcp.actions.imports.columns import Columns
from crm_mcp.actions.imports.csv_reader import CsvTable
from crm_mcp.actions.imports.lead_import import label
from crm_mcp.actions.imports.rows import BadRow, GoodRow
from crm_mcp.cli.terminal import MARGIN, folded, printable
from crm_mcp.model import IfExists, ImportOutcome

SAMPLED_ROWS = 3
SHOWN_REASONS = 3
SHOWN_COLUMNS = 20
SHOWN_ROWS = 20
"""Rows of one kind that are listed on the terminal, each with its reason."""

_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_KNOWN_ROWS = {
    "skip": "rows that exist already are skipped",
    "update": "rows that exist already update their lead",
    "error": "rows that exist already are rejected",
}


@dataclass(slots=True)
class ListedRows:
    """Rows of one kind: how many there are, and the first of them in words."""

    count: int = 0
    first: list[str] = field(default_factory=list[str])

    def add(self, text: str) -> None:
        """Add one."""
        self.count += 1
        if len(self.first) < SHOWN_ROWS:
            self.first.append(text)


@dataclass(slots=True)
class Totals:
    """What became of the rows of a file."""

    created: int = 0
    updated: int = 0
    skipped: int = 0
    rejected: int = 0
    ready: int = 0
    """Of a dry run: rows that could be imported."""
    seconds: float = 0.0
    line: int = 0
    """The line of the last row that was dealt with."""
    interrupted: bool = False
    refused: bool = False
    """The question before the import was answered with no."""
    rejects: Path | None = None
    """Where the rejected rows are, where there are any and they could be written."""
    skipped_rows: Path | None = None
    """Where the skipped rows are, where they are more than are listed."""
    reasons: list[str] = field(default_factory=list[str])
    """The first few reasons."""
    changes: ListedRows = field(default_factory=ListedRows)
    """Who was changed, or would be."""
    skips: ListedRows = field(default_factory=ListedRows)
    """The rows that were skipped."""
    remarks: ListedRows = field(default_factory=ListedRows)
    """The rows that were imported, and of which something is to be said."""
    blocked: int = 0
    """Rows that say that they must not be contacted."""

    def note(self, row: GoodRow, outcome: ImportOutcome) -> None:
        """Count a row that could be read; one that failed is counted with the rejected ones."""
        match outcome.outcome:
            case "created":
                self.created += 1
            case "updated":
                self.updated += 1
                self.changes.add(f"line {row.line} ({label(row.row)}) changes {outcome.whom or outcome.id or 'a lead'}")
            case "skipped":
                self.skipped += 1
                if outcome.reason:
                    self.skips.add(f"line {row.line} ({label(row.row)}): {outcome.reason}")
            case "failed":
                return
        self.blocked += bool(row.row.blocked)
        told = [outcome.reason] if outcome.reason and outcome.outcome != "skipped" else []
        said = [*told, *row.row.remarks]
        if said:
            self.remarks.add(f"line {row.line} ({label(row.row)}): {'; '.join(said)}")

    @property
    def rows(self) -> int:
        """Return how many rows were dealt with."""
        return self.created + self.updated + self.skipped + self.rejected + self.ready

    @property
    def exit_code(self) -> int:
        """Return 130 after Ctrl-C, 1 where every row was rejected, else 0."""
        if self.interrupted:
            return 130
        return 1 if self.rejected and self.rejected == self.rows else 0


class RowsAside:
    """The file beside the input that takes the rejected rows, or the skipped ones, made with the first of them that is
    more than `besides`: so many are listed on the terminal.

    Where it can't be written, every row is said on the terminal instead: none is lost silently.
    """

    def __init__(
        self, path: Path, kind: str, table: CsvTable, console: Console, *, wanted: bool, besides: int = 0
    ) -> None:
        self.path = path.with_name(f"{path.stem}.{kind}.csv")
        self.written: Path | None = None
        self._kind = kind
        self._besides = besides
        self._waiting: list[BadRow] = []
        self._table = table
        self._console = console
        self._wanted = wanted
        self._file: TextIO | None = None
        self._writer: Any = None
        self._failed = False

    def __enter__(self) -> Self:
        if self._wanted and not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            self._fail("no permission")
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # each batch was flushed: there is nothing left that could be lost
                self._file.close()

    def add(self, rows: Sequence[BadRow]) -> None:
        """Write rows: the cells of each, the line and the reason, then cells for which there is no column."""
        self._waiting += rows if self._wanted else ()
        if len(self._waiting) <= self._besides:
            return
        rejected, self._waiting, self._besides = self._waiting, [], 0
        if not self._failed:
            try:
                self._write(rejected)
            except OSError as error:
                self._fail(error.strerror or "it can't be written")
        if self._failed:
            for each in rejected:
                say(self._console, f"line {each.line}: {each.reason}")

    def _write(self, rejected: Sequence[BadRow]) -> None:
        width = len(self._table.header)
        if self._file is None:
            encoding = "utf-8-sig" if self._table.encoding == "utf-8-sig" else "utf-8"
            self._file = self.path.open("w", encoding=encoding, errors="surrogatepass", newline="")
            self._writer = csv.writer(self._file, delimiter=self._table.delimiter)
            self._writer.writerow([*self._table.header, "line", "reason"])
            self.written = self.path
        for each in rejected:
            cells = [*each.cells[:width], *[""] * (width - len(each.cells))]
            self._writer.writerow([*cells, each.line, each.reason, *each.cells[width:]])
        self._file.flush()

    def _fail(self, why: str) -> None:
        self._failed = True
        say(self._console, f"File {self.path} can't be written ({why}): {self._kind} rows are listed here.")


class Stop:
    """Turns Ctrl-C into a wish to stop; a second one stops at once, in the middle of a batch."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - how a handler is called
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Bar:
    """A progress bar by bytes read; without a terminal, a line for each tenth of the file."""

    def __init__(self, console: Console, size: int) -> None:
        self._console = console
        self._size = max(size, 1)
        self._tenth = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]:,} rows"), TimeRemainingColumn()
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("import", total=self._size, rows=0)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def move(self, position: int, count: int) -> None:
        """Show that the file is read up to `position`, and how many rows that were."""
        if self._bar:
            self._bar.update(self._task, completed=position, rows=count)
        elif (tenth := position * 10 // self._size) > self._tenth:
            self._tenth = tenth
            say(self._console, f"{tenth * 10}%: {count:,} rows")


def show_plan(console: Console, table: CsvTable, columns: Columns, if_exists: IfExists) -> None:
    """Show how a file is read, and what becomes of its columns: each is named."""
    delimiter = _DELIMITER_NAMES[table.delimiter]
    say(
        console,
        f"File {table.name}: {table.encoding}, {delimiter}, {len(table.header)} columns; {_KNOWN_ROWS[if_exists]}",
    )
    sample = [record.cells for record in table.peek(SAMPLED_ROWS) if record.fault is None]
    shown = Table("column", "field", "as in the first rows")
    became = [each["became"] for each in columns.became()]
    for index in sorted({each.index for each in (*columns.targets, *columns.opt_outs)}):
        values = [cells[index].strip() for cells in sample if index < len(cells)]
        shown.add_row(
            printable(columns.name(index)),
            printable(became[index], 80),
            ", ".join(printable(value, 24) for value in values if value),
        )
    console.print(shown, markup=False)
    for said, indexes in (("Left out, as asked", columns.skipped), ("Not imported", columns.ignored)):
        names = [printable(columns.name(index)) for index in indexes]
        for start in range(0, len(names), SHOWN_COLUMNS):  # each is named, and no line is longer than is printed
            end = "." if start + SHOWN_COLUMNS >= len(names) else ","
            say(console, f"{said if start == 0 else '  and'}: {', '.join(names[start : start + SHOWN_COLUMNS])}{end}")
    if columns.ignored:
        names = [printable(columns.name(index)) for index in columns.ignored]
        keep = next((name for name in names if name in columns.header), "Budget")
        say(console, f'To keep one: --map "{keep}=custom_fields.{keep}"')


def show_changes(console: Console, totals: Totals, *, whole: bool) -> None:
    """Show, before anybody is asked, who would be changed."""
    _show_listed(console, f"It would change {totals.updated:,} leads that are there:", totals.changes)
    if not totals.updated and whole:
        say(console, "It would change no lead that is there.")
    if not whole:
        say(console, "Further rows are not looked up before: there are too many for the CRM's limit of calls.")


def show_end(console: Console, path: Path, totals: Totals, *, dry_run: bool) -> None:
    """Show what became of the rows: each that was not taken, or not whole, with its reason, as far as there is room."""
    speed = totals.rows / totals.seconds if totals.seconds else 0
    if totals.interrupted:
        say(console, f"Interrupted after line {totals.line}. Running it again goes on there, without duplicates.")
    counts = counted(totals)
    if dry_run:
        known = totals.created + totals.updated
        counts = f"{totals.ready + known:,} could be imported, {totals.rejected:,} rejected"
        if known or totals.skipped:
            counts += f" ({totals.created:,} would be created, {totals.updated:,} updated, {totals.skipped:,} skipped)"
    say(console, f"File {path.name}: {counts}; {totals.seconds:.1f} s, {speed:,.0f} rows a second")
    for reason in totals.reasons:
        say(console, f"  {reason}")
    if totals.rejected > len(totals.reasons):
        say(console, f"  and {totals.rejected - len(totals.reasons):,} more")
    _show_listed(console, f"Leads that it {'would change' if dry_run else 'changed'}:", totals.changes)
    _show_listed(console, "Skipped, because they are there:", totals.skips)
    _show_listed(console, "Imported, and to be looked at:", totals.remarks)
    if totals.blocked:
        say(console, f"{totals.blocked:,} of them must not be contacted: what their columns say is kept.")
    if totals.skipped_rows:
        say(console, f"Skipped rows, each with its reason: {totals.skipped_rows}")
    if totals.rejects:
        say(console, f"Rejected rows, each with its reason: {totals.rejects}")


def _show_listed(console: Console, title: str, listed: ListedRows) -> None:
    if not listed.count:
        return
    say(console, title)
    for each in listed.first:
        say(console, f"  {each}")
    if listed.count > len(listed.first):
        say(console, f"  and {listed.count - len(listed.first):,} more")


def counted(totals: Totals) -> str:
    """Return the counts in words."""
    parts = ("created", "updated", "skipped", "rejected")
    return ", ".join(f"{getattr(totals, part):,} {part}" for part in parts)


def say(console: Console, text: str) -> None:
    """Print a line as it is: no markup, no other line in it, and nothing of a file that could move the cursor."""
    width = console.width if console.is_terminal else None
    for part in folded(printable(text, 1_000), width, MARGIN):
        console.print(part, markup=False, highlight=False, emoji=False, soft_wrap=True)
