"""Importing a CSV with the real command, beside reading it and inserting its rows into a table without indexes."""

from __future__ import annotations

import csv
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import people
from benchmarks.process import COMMAND, Cost, run
from benchmarks.report import FULL, Figure, Size, median, mib

TITLE = "Import: crm-mcp import FILE.csv"
LEAST = 5_000
FLAT = 1.25
COLUMNS = ("name", "email", "phone", "company", "title", "tags")


def measure(size: Size, folder: Path) -> Iterator[Figure]:
    """Import a small and a large file, each into an empty CRM."""
    files = {count: folder / f"{count}.csv" for count in (size.few, size.leads)}
    for count, file in files.items():
        people.write(file, count, COLUMNS)
    costs: dict[int, list[Cost]] = {count: [] for count in files}
    plain: dict[int, list[float]] = {count: [] for count in files}
    _import(files[size.few], folder)  # compiles the bytecode
    for _ in range(size.imports):
        for count, file in files.items():
            plain[count].append(_plain(file, folder))
            costs[count].append(_import(file, folder))
    for count in files:
        ours, bare = count / min(each.seconds for each in costs[count]), count / min(plain[count])
        target, ok = (f">= {LEAST:,} rows/s", ours >= LEAST) if count >= FULL.leads else ("", None)
        yield Figure(f"{count:,} rows, best", f"{ours:,.0f} rows/s", f"{bare:,.0f} rows/s", ours / bare, target, ok)
        computed = count / median([each.cpu for each in costs[count]])
        yield Figure(f"{count:,} rows, by processor time", f"{computed:,.0f} rows/s")
    few, many = (max((each.peak for each in costs[count] if each.peak), default=None) for count in files)
    growth = many / few if few and many else None
    name = f"peak memory, {size.leads:,} rows beside {size.few:,}"
    ok = None if growth is None else growth <= FLAT
    yield Figure(name, mib(many), mib(few), growth, f"<= {FLAT} x", ok)


def _import(file: Path, folder: Path) -> Cost:
    """Import into an empty CRM; the cost is that of the whole process, from its start to its end."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    return run([COMMAND, "import", str(file), "--yes"], folder)


def _plain(file: Path, folder: Path) -> float:
    target = folder / "plain.sqlite3"
    target.unlink(missing_ok=True)
    names = ", ".join(COLUMNS)
    marks = ", ".join(f":{column}" for column in COLUMNS)
    started = time.perf_counter()
    db = sqlite3.connect(target)
    with file.open(encoding="utf-8", newline="") as opened, db:
        db.execute(f"CREATE TABLE leads ({names})")
        db.executemany(f"INSERT INTO leads ({names}) VALUES ({marks})", csv.DictReader(opened))
    db.close()
    return time.perf_counter() - started
