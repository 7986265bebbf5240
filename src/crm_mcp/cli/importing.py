"""The terminal side of `crm-mcp import`: what it will do, how far it is, what became of each row."""

from __future__ import annotations

import csv
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self, TextIO

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from crm_mcp.actions.audit import open_store
from crm_mcp.actions.csv_source import CsvTable, open_csv
from crm_mcp.actions.importing import BadRow, GoodRow, Mapping, map_columns, rows
from crm_mcp.backends import open_backend
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.pace import bulk_work
from crm_mcp.config import Connection, Settings, operating_system_user
from crm_mcp.errors import Conflict, CrmError, CrmMcpError, Forbidden, Unsupported
from crm_mcp.model import IfExists, ImportOutcome, ImportRow
from crm_mcp.store import LEASE, Action, Ended, NewAction, Store, Terms

log = logging.getLogger("crm_mcp")

Sink = Callable[[Sequence[ImportRow]], Awaitable[tuple[ImportOutcome, ...]]]
"""Writes one batch, all of it or nothing, and says what became of each row."""

BATCH_CHARACTERS = 4 * 1024 * 1024
"""A batch is cut short at this size, so that a file of long cells needs no more memory than another."""
SAMPLED_ROWS = 3
SHOWN_REASONS = 3
SHOWN_COLUMNS = 20

_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_KNOWN_ROWS = {
    "skip": "rows that exist already are skipped",
    "update": "rows that exist already update their lead",
    "error": "rows that exist already are rejected",
}


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
    reasons: list[str] = field(default_factory=list[str])
    """The first few reasons."""

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


async def import_file(
    settings: Settings,
    connection: Connection,
    path: Path,
    mappings: Sequence[str],
    if_exists: IfExists,
    dry_run: bool,
    ask: Callable[[str], bool] | None,
    console: Console,
) -> Totals:
    """Import a CSV file into the configured CRM, and record it as one action.

    Raises:
        CrmError: as `run_import`; Forbidden where the settings forbid writing, Unsupported where the CRM takes none.
        SettingsError: there is no such vendor.
    """
    if settings.read_only or settings.policy.tools.get("import_leads", settings.policy.write) == "deny":
        raise Forbidden("these settings forbid imports", "see CRM_MCP_READ_ONLY and [policy]")
    store = open_store(settings)
    backend = open_backend(settings, connection)
    if not isinstance(backend, ImportsLeads):
        raise Unsupported(f"{connection.vendor} takes no import")
    crm = backend
    new = NewAction(
        caller=f"{operating_system_user()} via crm-mcp import",
        connection=connection.name,
        tool="import_leads",
        effect="write",
        arguments={"file": path.name, "if_exists": if_exists, "map": list(mappings)},
        digest="",
        summary=f"import {path.name}",
    )

    async def write(batch: Sequence[ImportRow]) -> tuple[ImportOutcome, ...]:
        with bulk_work():
            return await crm.import_leads(batch, if_exists)

    recorded = _Recorded(store, new, write)
    try:
        async with recorded.held():
            return await run_import(
                path,
                mappings,
                if_exists,
                sink=recorded.take,
                batch=crm.import_size,
                country=settings.country,
                console=console,
                ask=ask,
                dry_run=dry_run or settings.dry_run,
            )
    finally:
        await backend.aclose()
        await store.aclose()


class _Recorded:
    """Writes batches as one action of the store: begun before the first row is written, ended with the counts."""

    def __init__(self, store: Store, new: NewAction, write: Sink) -> None:
        self._store = store
        self._new = new
        self._write = write
        self._action: Action | None = None
        self._counts = {"created": 0, "updated": 0, "skipped": 0, "failed": 0}
        self._first: str | None = None

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Keep the action from being taken for one that its process has left, and record at last how it ended."""
        failure: BaseException | None = None
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._hold)
            try:
                yield
            except (CrmMcpError, OSError, KeyboardInterrupt) as error:
                failure = error
            finally:
                beside.cancel_scope.cancel()
        await self._end(failure)
        if failure:
            raise failure

    async def take(self, batch: Sequence[ImportRow]) -> tuple[ImportOutcome, ...]:
        """Write one batch."""
        if self._action is None:
            begun = await self._store.begin(self._new, "cli", Terms())
            assert isinstance(begun, Action)  # nothing stands in its terms that could stop it
            self._action = begun
        outcomes = await self._write(batch)
        for each in outcomes:
            self._counts[each.outcome] += 1
            if each.outcome in ("created", "updated"):
                self._first = self._first or each.id
        return outcomes

    async def _hold(self) -> None:
        while True:
            await anyio.sleep(LEASE.total_seconds() / 3)
            try:
                if self._action is not None:
                    await self._store.hold(self._action.id, fence=self._action.fence)
            except CrmError as error:
                log.warning("that the import goes on could not be recorded: %s", error)

    async def _end(self, failure: BaseException | None) -> None:
        """Record how it ended, if it has begun."""
        if self._action is None:
            return
        said = ", ".join(f"{count} {name}" for name, count in self._counts.items())
        ended = Ended(
            "failed" if failure else "done",
            summary=f"{self._new.summary}: {said}",
            reason=str(failure) or "interrupted: the batch under way may be imported" if failure else None,
            error=failure.code if isinstance(failure, CrmError) else None,
            result=dict(self._counts),
            touched=(("lead", self._first),) if self._first else (),
            size=self._counts["created"] + self._counts["updated"],
        )
        try:
            await self._store.settle(self._action.id, ended)
        except Conflict as error:
            log.warning("how the import ended could not be recorded: %s", error)


async def run_import(
    path: Path,
    mappings: Sequence[str],
    if_exists: IfExists,
    *,
    sink: Sink,
    batch: int,
    country: str | None,
    console: Console,
    ask: Callable[[str], bool] | None = None,
    dry_run: bool = False,
) -> Totals:
    """Import a CSV file, `batch` rows at a time; Ctrl-C stops after the batch under way.

    Raises:
        InvalidArgument: the file or a mapping is not usable; nothing is written.
        CrmError: the CRM failed; what was written before stays, and running it again goes on there.
    """
    totals = Totals()
    with open_csv(path) as table:
        mapping = map_columns(table.header, mappings)
        _show_plan(console, table, mapping, if_exists)
        if not table.peek(1):
            console.print("The file has a header and no rows: there is nothing to import.")
            return totals
        if ask is not None and not dry_run and not ask("Import it?"):
            totals.refused = True
            return totals
        started = time.perf_counter()
        with _Rejects(path, table, console, wanted=not dry_run) as rejects, _Stop() as stop:
            work = _Work(totals, rejects, None if dry_run else sink)
            try:
                with _Bar(console, table.size) as bar:
                    await work.run(_Batches(table, rows(table, mapping, country), batch), stop, bar)
            except CrmError:
                _say(console, f"Stopped after line {totals.line}: {_counts(totals)}. Running it again goes on there.")
                raise
            finally:
                totals.seconds = time.perf_counter() - started
        totals.rejects = rejects.written
    _show_end(console, path, totals, dry_run=dry_run)
    if not totals.rejected and rejects.path.exists():
        _say(console, f"{rejects.path} is of an earlier run.")
    return totals


@dataclass(frozen=True, slots=True)
class _Batch:
    good: list[GoodRow]
    bad: list[BadRow]
    position: int


class _Batches:
    """Cuts the rows of a table into batches of at most `most`."""

    def __init__(self, table: CsvTable, source: Iterator[GoodRow | BadRow], most: int) -> None:
        self._table = table
        self._source = source
        self._most = most

    def take(self) -> _Batch | None:
        """Return the next batch, None at the end."""
        good: list[GoodRow] = []
        bad: list[BadRow] = []
        size = 0
        for row in self._source:
            if isinstance(row, GoodRow):
                good.append(row)
            else:
                bad.append(row)
            size += row.size
            if len(good) + len(bad) >= self._most or size >= BATCH_CHARACTERS:
                break
        return _Batch(good, bad, self._table.position()) if good or bad else None


class _Work:
    """Takes batch after batch and keeps count."""

    def __init__(self, totals: Totals, rejects: _Rejects, sink: Sink | None) -> None:
        self._totals = totals
        self._rejects = rejects
        self._sink = sink

    async def run(self, batches: _Batches, stop: _Stop, bar: _Bar) -> None:
        """Deal with all batches, one after the other.

        Reading the next one in a thread meanwhile was measured and did not pay: both sides want the interpreter's lock.
        """
        while (batch := batches.take()) is not None:
            if stop.asked:
                self._totals.interrupted = True
                return
            await self._deal_with(batch)
            bar.move(batch.position, self._totals.rows)

    async def _deal_with(self, batch: _Batch) -> None:
        totals = self._totals
        rejected = batch.bad
        if self._sink is None:
            totals.ready += len(batch.good)
        elif batch.good:
            outcomes = await self._sink([each.row for each in batch.good])
            for good, outcome in zip(batch.good, outcomes, strict=True):
                if outcome.outcome == "created":
                    totals.created += 1
                elif outcome.outcome == "updated":
                    totals.updated += 1
                elif outcome.outcome == "skipped":
                    totals.skipped += 1
                else:
                    reason = outcome.reason or "the CRM refused it"
                    rejected.append(BadRow(good.line, good.cells, good.size, reason))
        rejected.sort(key=lambda each: each.line)
        totals.rejected += len(rejected)
        room = SHOWN_REASONS - len(totals.reasons)
        totals.reasons.extend(f"line {each.line}: {each.reason}" for each in rejected[:room])
        totals.line = max(each[-1].line for each in (batch.good, rejected) if each)
        self._rejects.add(rejected)


class _Rejects:
    """The file beside the input that takes the rejected rows, made with the first of them.

    Where it can't be written, every rejected row is said on the terminal instead: none is lost silently.
    """

    def __init__(self, path: Path, table: CsvTable, console: Console, *, wanted: bool) -> None:
        self.path = path.with_name(f"{path.stem}.rejected.csv")
        self.written: Path | None = None
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

    def add(self, rejected: Sequence[BadRow]) -> None:
        """Write rejected rows: the cells of each, the line and the reason, then cells for which there is no column."""
        if not rejected or not self._wanted:
            return
        if not self._failed:
            try:
                self._write(rejected)
            except OSError as error:
                self._fail(error.strerror or "it can't be written")
        if self._failed:
            for each in rejected:
                _say(self._console, f"line {each.line}: {each.reason}")

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
        _say(self._console, f"{self.path} can't be written ({why}): rejected rows are listed here.")


class _Stop:
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


class _Bar:
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
            _say(self._console, f"{tenth * 10}%: {count:,} rows")


def _show_plan(console: Console, table: CsvTable, mapping: Mapping, if_exists: IfExists) -> None:
    delimiter = _DELIMITER_NAMES[table.delimiter]
    _say(console, f"{table.name}: {table.encoding}, {delimiter}, {len(table.header)} columns; {_KNOWN_ROWS[if_exists]}")
    sample = [record.cells for record in table.peek(SAMPLED_ROWS) if record.fault is None]
    shown = Table("column", "field", "as in the first rows")
    for target in sorted(mapping.targets, key=lambda each: each.index):
        values = [cells[target.index].strip() for cells in sample if target.index < len(cells)]
        shown.add_row(
            _printable(mapping.column(target.index)),
            _printable(target.field),
            ", ".join(_printable(value, 24) for value in values if value),
        )
    console.print(shown, markup=False)
    if mapping.ignored:
        names = [_printable(mapping.column(index)) for index in mapping.ignored]
        more = f" and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else ""
        keep = next((name for name in names if mapping.header and name in mapping.header), "Budget")
        _say(console, f"Not imported: {', '.join(names[:SHOWN_COLUMNS])}{more}.")
        _say(console, f'To keep one: --map "{keep}=custom_fields.{keep}"')


def _show_end(console: Console, path: Path, totals: Totals, *, dry_run: bool) -> None:
    speed = totals.rows / totals.seconds if totals.seconds else 0
    if totals.interrupted:
        _say(console, f"Interrupted after line {totals.line}. Running it again goes on there, without duplicates.")
    counts = f"{totals.ready:,} could be imported, {totals.rejected:,} rejected" if dry_run else _counts(totals)
    _say(console, f"{path.name}: {counts}; {totals.seconds:.1f} s, {speed:,.0f} rows a second")
    for reason in totals.reasons:
        _say(console, f"  {reason}")
    if totals.rejected > len(totals.reasons):
        _say(console, f"  and {totals.rejected - len(totals.reasons):,} more")
    if totals.rejects:
        _say(console, f"Rejected rows, each with its reason: {totals.rejects}")


def _counts(totals: Totals) -> str:
    parts = ("created", "updated", "skipped", "rejected")
    return ", ".join(f"{getattr(totals, part):,} {part}" for part in parts)


def _say(console: Console, text: str) -> None:
    """Print a line as it is: no markup, no wrapping, and nothing of a file that could move the cursor."""
    console.print(_printable(text, 1_000), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _printable(text: str, most: int = 40) -> str:
    shown = "".join(each if each.isprintable() else "\u00b7" for each in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "\u2026"
