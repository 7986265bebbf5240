"""`python -m benchmarks [SUBJECT ...] [--quick]`: measures, prints a table a subject, and always exits with 0.

A target that is missed is said, and is no failure: a timing is never a test.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from benchmarks import guards, imports, records, search, start, tokens, vendors
from benchmarks.report import FULL, QUICK, show

SUBJECTS = {
    "start": start,
    "search": search,
    "imports": imports,
    "tokens": tokens,
    "guards": guards,
    "records": records,
    "vendors": vendors,
}


def main() -> None:
    """Measure what the command line names, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure crm-mcp against baselines.")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; all without any")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    given = parser.parse_args()
    unknown = [each for each in given.subjects if each not in SUBJECTS]
    if unknown:
        parser.error(f"no subject {unknown[0]}; there are {', '.join(SUBJECTS)}")
    print(f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores")
    missed = 0
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="crm-mcp-bench-") as folder:
        for name in given.subjects or SUBJECTS:
            room = Path(folder) / name
            room.mkdir()
            subject = SUBJECTS[name]
            missed += show(subject.TITLE, subject.measure(QUICK if given.quick else FULL, room))
    print(f"\n{missed or 'No'} target{'' if missed == 1 else 's'} missed; {time.perf_counter() - started:.0f} s")


main()
