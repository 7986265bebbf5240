"""Commands in processes that have the program loaded already.

Each is a process of its own, with an environment, a folder and streams of its own. It is forked from one that has
imported everything: the same program, without the second that its libraries take to load.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "pytest",
        "rich.progress",
        "sqlalchemy",
        "alembic.command",
        "crm_mcp.backends.http",
        "crm_mcp.server.app",
        "crm_mcp.cli.commands",
        "crm_mcp.cli.importing",
        "crm_mcp.cli.talking",
        "tests.cli.warm",
    ]
)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, answer: str, longest: float
) -> subprocess.CompletedProcess[str]:
    """Run one command in `folder` to its end; `answer` is what stands on its stdin.

    Raises:
        subprocess.TimeoutExpired: it took longer than `longest` seconds.
    """
    with TemporaryDirectory() as place:
        streams = [Path(place, name) for name in ("in", "out", "err")]
        streams[0].write_text(answer, encoding="utf-8")
        process = _context.Process(target=_command, args=(arguments, dict(environment), folder, streams))
        process.start()
        process.join(longest)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), longest)
        out, err = (each.read_text(encoding="utf-8") for each in streams[1:])
        return subprocess.CompletedProcess(list(arguments), process.exitcode, out, err)


def _command(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, streams: Sequence[Path]) -> None:
    from crm_mcp.cli import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in enumerate(streams):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False), encoding="utf-8")  # noqa: SIM115 - a descriptor
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(number, "wb", 0, closefd=False), encoding="utf-8", write_through=True)  # noqa: SIM115
        for number in (1, 2)
    )
    sys.argv = ["crm-mcp", *arguments]
    warnings.simplefilter("error")
    main()
