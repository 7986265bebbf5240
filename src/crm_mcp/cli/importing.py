"""The terminal side of `crm-mcp import`: what it will do, how far it is, what became of each row."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from rich.console import Console

from crm_mcp.actions.audit import open_store
from crm_mcp.actions.imports.columns import Columns, map_columns
from crm_mcp.actions.imports.csv_reader import CsvTable, open_csv
from crm_mcp.actions.imports.opt_outs import Places, block_addresses, block_leads
from crm_mcp.actions.imports.rows import BadRow, GoodRow, refuse_undecided, rows
from crm_mcp.backends import open_backend
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.pace import bulk_work
from crm_mcp.cli.import_output import (
    SHOWN_REASONS,
    SHOWN_ROWS,
    Bar,
    RowsAside,
    Stop,
    Totals,
    counted,
    say,
    show_changes,
    show_end,
    show_plan,
)
from crm_mcp.config import Connection, Settings, operating_system_user
from crm_mcp.errors import Conflict, CrmError, CrmMcpError, Forbidden, Unsupported
from crm_mcp.model import IfExists, ImportOutcome, ImportRow
from crm_mcp.store import LEASE, Action, Ended, NewAction, Store, Terms
from crm_mcp.text import one_line

log = logging.getLogger("crm_mcp")

Sink = Callable[[Sequence[ImportRow]], Awaitable[tuple[ImportOutcome, ...]]]
"""Writes one batch, all of it or nothing, and says what became of each row."""
Block = Callable[[Sequence[Places]], Awaitable[None]]
"""Blocks where those are reached who can't be imported, and must not be contacted."""

BATCH_CHARACTERS = 4 * 1024 * 1024
"""A batch is cut short at this size, so that a file of long cells needs no more memory than another."""


async def import_file(
    settings: Settings,
    connection: Connection,
    path: Path,
    mappings: Sequence[str],
    skip: Sequence[str],
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
    caller = f"{operating_system_user()} via crm-mcp import"
    given = {"file": path.name, "if_exists": if_exists, "map": list(mappings), "skip": list(skip)}

    async def write(batch: Sequence[ImportRow]) -> tuple[ImportOutcome, ...]:
        with bulk_work():
            await block_addresses(store, [row.refused for row in batch], caller)
            outcomes = await crm.import_leads(batch, if_exists)
            await block_leads(store, connection.name, batch, outcomes, caller)
            return outcomes

    async def plan(batch: Sequence[ImportRow]) -> tuple[ImportOutcome, ...]:
        with bulk_work():
            return await crm.plan_import(batch, if_exists)

    recorded = _Recorded(store, _new_action(caller, connection.name, given), write)
    try:
        async with recorded.held():
            return await run_import(
                path,
                mappings,
                if_exists,
                skip=skip,
                sink=recorded.take,
                block=partial(block_addresses, store, by=caller),
                plan=Plan(plan, crm.plan_size),
                batch=crm.import_size,
                country=settings.country,
                console=console,
                ask=ask,
                dry_run=dry_run or settings.dry_run,
            )
    finally:
        await backend.aclose()
        await store.aclose()


def _new_action(caller: str, connection: str, given: dict[str, Any]) -> NewAction:
    """Return what is recorded of an import."""
    return NewAction(
        caller=caller,
        connection=connection,
        tool="import_leads",
        effect="write",
        arguments=given,
        digest="",
        summary=f"import {one_line(given['file'])}",
    )


@dataclass
class Plan:
    """Says what would become of rows, and of how many there is room to ask."""

    ask: Sink
    left: int

    async def take(self, batch: Sequence[ImportRow]) -> tuple[ImportOutcome, ...] | None:
        """Return what would become of a batch; None where it is not looked up any more."""
        self.left -= len(batch)
        return await self.ask(batch) if self.left >= 0 else None


class _Recorded:
    """Writes batches as one action of the store: begun before the first row is written, ended with the counts."""

    def __init__(self, store: Store, new: NewAction, write: Sink) -> None:
        self._store = store
        self._new = new
        self._write = write
        self._action: Action | None = None
        self.counted = {"created": 0, "updated": 0, "skipped": 0, "failed": 0}
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
            self.counted[each.outcome] += 1
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
        said = ", ".join(f"{count} {name}" for name, count in self.counted.items())
        ended = Ended(
            "failed" if failure else "done",
            summary=f"{self._new.summary}: {said}",
            reason=str(failure) or "interrupted: the batch under way may be imported" if failure else None,
            error=failure.code if isinstance(failure, CrmError) else None,
            result=dict(self.counted),
            touched=(("lead", self._first),) if self._first else (),
            size=self.counted["created"] + self.counted["updated"],
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
    skip: Sequence[str] = (),
    block: Block | None = None,
    plan: Plan | None = None,
    ask: Callable[[str], bool] | None = None,
    dry_run: bool = False,
) -> Totals:
    """Import a CSV file, `batch` rows at a time; Ctrl-C stops after the batch under way.

    Raises:
        InvalidArgument: the file or a mapping is not usable; nothing is written.
        Undecided: it can't be read who must not be contacted; nothing is written.
        CrmError: the CRM failed; what was written before stays, and running it again goes on there.
    """
    totals = Totals()
    with open_csv(path) as table:
        columns = map_columns(table.header, mappings, skip)
        show_plan(console, table, columns, if_exists)
        if not table.peek(1):
            console.print("The file has a header and no rows: there is nothing to import.")
            return totals
        if columns.opt_outs:  # the whole file, before its first row is written
            with open_csv(path) as beforehand:
                refuse_undecided(beforehand, columns)
        if ask is not None and not dry_run:
            if plan is not None and if_exists == "update":
                await _show_changed(path, columns, country, plan, batch, console)
            if not ask("Import it?"):
                totals.refused = True
                return totals
        started = time.perf_counter()
        writes = sink if not dry_run else plan.take if plan else None
        aside = partial(RowsAside, path, table=table, console=console, wanted=not dry_run)
        with aside("rejected") as rejects, aside("skipped", besides=SHOWN_ROWS) as skips, Stop() as stop:
            work = _Work(totals, rejects, skips, writes, None if dry_run else block)
            try:
                with Bar(console, table.size) as bar:
                    await work.run(_Batches(table, rows(table, columns, country), batch), stop, bar)
            except CrmError:
                say(console, f"Stopped after line {totals.line}: {counted(totals)}. Running it again goes on there.")
                raise
            finally:
                totals.seconds = time.perf_counter() - started
        totals.rejects, totals.skipped_rows = rejects.written, skips.written
    show_end(console, path, totals, dry_run=dry_run)
    if not totals.rejected and rejects.path.exists():
        say(console, f"File {rejects.path} is of an earlier run.")
    return totals


async def _show_changed(
    path: Path, columns: Columns, country: str | None, plan: Plan, batch: int, console: Console
) -> None:
    """Look up who would be changed, and show them before anybody is asked."""
    totals = Totals()
    with open_csv(path) as table:
        batches = _Batches(table, rows(table, columns, country), batch)
        while (taken := batches.take()) is not None and (outcomes := await plan.take([r.row for r in taken.good])):
            for good, outcome in zip(taken.good, outcomes, strict=True):
                totals.note(good, outcome)
        show_changes(console, totals, whole=taken is None)


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

    def __init__(
        self,
        totals: Totals,
        rejects: RowsAside,
        skips: RowsAside,
        sink: Callable[[Sequence[ImportRow]], Awaitable[tuple[ImportOutcome, ...] | None]] | None,
        block: Block | None,
    ) -> None:
        self._totals = totals
        self._rejects = rejects
        self._skips = skips
        self._sink = sink
        self._block = block

    async def run(self, batches: _Batches, stop: Stop, bar: Bar) -> None:
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
        refused = [each.refused for each in rejected if each.refused]
        totals.blocked += len(refused)
        if refused and self._block:
            await self._block(refused)
        outcomes = await self._sink([each.row for each in batch.good]) if self._sink and batch.good else None
        if outcomes is None:
            totals.ready += len(batch.good)
        skipped: list[BadRow] = []
        for good, outcome in zip(batch.good, outcomes or (), strict=outcomes is not None):
            totals.note(good, outcome)
            reason = outcome.reason or "the CRM refused it"
            told = BadRow(good.line, good.cells, good.size, reason)
            if outcome.outcome == "failed":
                rejected.append(told)
            elif outcome.outcome == "skipped":
                skipped.append(told)
        rejected.sort(key=lambda each: each.line)
        totals.rejected += len(rejected)
        room = SHOWN_REASONS - len(totals.reasons)
        totals.reasons.extend(f"line {each.line}: {each.reason}" for each in rejected[:room])
        totals.line = max(each[-1].line for each in (batch.good, rejected) if each)
        self._rejects.add(rejected)
        self._skips.add(skipped)
