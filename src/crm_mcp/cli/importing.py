"""The terminal side of `crm-mcp import`: what it will do, how far it is, what became of each row."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from rich.console import Console

from crm_mcp.actions.audit import open_store
from crm_mcp.actions.declared import Tools
from crm_mcp.actions.guards.policy import Policy
from crm_mcp.actions.imports.columns import Columns, map_columns
from crm_mcp.actions.imports.csv_reader import CsvTable, count_lines, open_csv
from crm_mcp.actions.imports.opt_outs import Places, block_addresses
from crm_mcp.actions.imports.rows import BadRow, GoodRow, refuse_undecided, rows
from crm_mcp.actions.intent import Outcome, Preview
from crm_mcp.actions.pipeline import Pipeline, intent, open_pipeline
from crm_mcp.backends import open_backend
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.rate_limit import bulk_work
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
from crm_mcp.errors import CrmError, CrmMcpError, OutcomeUnknown
from crm_mcp.model import IfExists, ImportOutcome, ImportRow
from crm_mcp.server.tools import TOOLS
from crm_mcp.server.tools.bulk import import_leads
from crm_mcp.server.tools.leads import update_lead
from crm_mcp.store import DedupKey
from crm_mcp.text import one_line

Sink = Callable[[Sequence[ImportRow]], Awaitable[tuple[ImportOutcome, ...]]]
"""Writes one batch, all of it or nothing, and says what became of each row."""
Work = Callable[[], Awaitable[None]]
"""Writes all that there is to write."""
Carry = Callable[[Work, int], Awaitable[None]]
"""Carries the work out, which is for about so many rows, as one action."""
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
    store = open_store(settings)
    backend = open_backend(settings, connection)
    pipeline = open_pipeline(settings, connection, backend, store, Policy(settings.policy, Tools(TOOLS)))
    also = (update_lead.name,) if if_exists == "update" else ()
    pipeline.may_by_hand(import_leads, Preview(path.name, also=also), what="imports")
    context = pipeline.context
    crm = context.crm(ImportsLeads)
    arguments = {"if_exists": if_exists, "map": list(mappings), "skip": list(skip)}
    recorded = _Recorded(pipeline, path.name, arguments, also)

    async def write(batch: Sequence[ImportRow]) -> tuple[ImportOutcome, ...]:
        with bulk_work():
            return recorded.counted(await crm.import_leads(batch, if_exists))

    async def plan(batch: Sequence[ImportRow]) -> tuple[ImportOutcome, ...]:
        with bulk_work():
            return await crm.plan_import(batch, if_exists)

    try:
        return await run_import(
            path,
            mappings,
            if_exists,
            skip=skip,
            sink=write,
            carry=recorded.carry,
            block=partial(block_addresses, store, by=recorded.caller),
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
    """The writing of a file as one action, which goes the road of all actions."""

    def __init__(self, pipeline: Pipeline, file: str, arguments: Mapping[str, Any], also: tuple[str, ...]) -> None:
        """`also` names other tools whose verdict holds for it."""
        self._also = also
        self.caller = f"{operating_system_user()} via crm-mcp import"
        self._pipeline = pipeline
        self._summary = f"import {one_line(file)}"
        self._arguments = {"file": file, **arguments}
        self._counts = {"created": 0, "updated": 0, "skipped": 0, "failed": 0}
        self._first: str | None = None

    def counted(self, outcomes: tuple[ImportOutcome, ...]) -> tuple[ImportOutcome, ...]:
        """Count what became of rows."""
        for each in outcomes:
            self._counts[each.outcome] += 1
            if each.outcome in ("created", "updated"):
                self._first = self._first or each.id
        return outcomes

    async def carry(self, work: Work, size: int) -> None:
        """Do the work, of about so many rows, as an action; raises what stops it, after that was written down."""
        stopped: list[BaseException] = []

        async def preview() -> Preview:
            # The same file again is no repeat: it goes on where it stopped.
            return Preview(
                self._summary,
                size=size,
                also=self._also,
                dedup_keys=(DedupKey(key=f"import:{token_hex(8)}", seconds=1),),
            )

        async def run(_: Preview) -> Outcome:
            try:
                await work()
            except (CrmMcpError, OSError, KeyboardInterrupt) as error:
                stopped.append(error)
                if isinstance(error, CrmError) and not (self._counts["created"] or self._counts["updated"]):
                    error.detail = ""  # the command says what is wrong, once
                    error.wrote = None if isinstance(error, OutcomeUnknown) else False
                    raise
            return self._done(stopped)

        made = intent(self._pipeline.context, import_leads, self._arguments, run, ask=preview)
        await self._pipeline.by_hand(made, self.caller)
        for each in stopped:
            raise each

    def _done(self, stopped: Sequence[BaseException]) -> Outcome:
        said = ", ".join(f"{count} {name}" for name, count in self._counts.items())
        why = [f"stopped: {error}" if str(error) else "interrupted: the batch under way may be" for error in stopped]
        return Outcome(
            "; ".join([f"{self._summary}: {said}", *why]),
            dict(self._counts),
            touched=(("lead", self._first),) if self._first else (),
            size=self._counts["created"] + self._counts["updated"],
        )


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
    carry: Carry | None = None,
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
                    batches = _Batches(table, rows(table, columns, country), batch)
                    go = partial(work.run, batches, stop, bar)
                    await (go() if dry_run or carry is None else carry(go, count_lines(path)))
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
