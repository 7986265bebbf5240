"""Where all that the commands say leaves, and where it is asked: each line of it is begun by us.

What stands in a line may be from outside: the name of a client, a record, a file, a vendor's word. Here it is made
neutral and kept within its line; where a terminal would wrap that line, the rest of it stands behind a margin. So
nothing from outside begins a line of its own, in the eyes of a program or of a person. No other file of the commands
writes to stdout or stderr (tests/house holds that), but for tables and bars, whose cells are `printable`.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, TextIO

from crm_mcp.text import behind, dotted, json_line, neutral

MARGIN = "    "
"""Before what belongs to the line above: a preview below its heading, a traceback below what failed."""
NARROWEST = 12
"""Cells of a line below which there is no room for a margin."""
USUAL = 80
"""Cells of a line of a terminal that does not tell its size."""


def say(
    text: str, *, margin: str = "", more: str = MARGIN, err: bool = False, paged: bool = False, now: bool = False
) -> None:
    """Write one line on stdout, or stderr; `more` stands before what a terminal has no room for in it.

    `paged`: it is wrapped for a pager as well; `now`: it leaves at once.
    """
    to = sys.stderr if err else sys.stdout
    line = _flat(text)
    for part in folded(margin + line if line else "", _width(to, paged=paged), margin + more):
        _write(to, part + "\n")
    if now:
        to.flush()


def say_lines(text: str, *, margin: str = "", err: bool = False, paged: bool = False) -> None:
    """Write all lines of a text that has been built by us, or that stands behind a margin."""
    for line in neutral(text).splitlines():
        say(line, margin=margin, err=err, paged=paged)


def say_json(value: Any, indent: int | None = None) -> None:
    """Write JSON on stdout, in which what is not seen is escaped."""
    _write(sys.stdout, json_line(value, indent) + "\n")


def complain(text: str) -> None:
    """Write what is wrong as one line on stderr."""
    say(f"crm-mcp: {text}", err=True)


def can_ask() -> bool:
    """Whether somebody sits in front of this process who could answer."""
    return sys.stdin.isatty()


def ask(question: str, last: str = "Go ahead?") -> bool:
    """Ask on stderr and read the answer; only y and yes are yes. Ctrl-C ends the command at once.

    `question` has been built by us; `last` is its last line. To be called in the main thread, which alone hears Ctrl-C.
    """
    with _interrupted_at_once() as wait:
        say_lines(question, err=True)
        _write(sys.stderr, f"{_flat(last)} [y/N] ")
        sys.stderr.flush()
        wait()
        return sys.stdin.readline().strip().casefold() in ("y", "yes")


def printable(text: str, most: int = 40) -> str:
    """Return a text from outside for a cell: one line of at most `most` characters, a dot for what is not seen."""
    shown = "".join(each if each.isprintable() or _joins(each) else "\u00b7" for each in dotted(text[: most + 1]))
    return shown if len(shown) <= most else shown[: most - 1] + "\u2026"


def folded(line: str, width: int | None, rest: str) -> Iterator[str]:
    """Yield a line in parts that a terminal of `width` cells does not wrap: each but the first begins with `rest`."""
    if width is None or len(line) * 2 <= width:  # no character takes more than two cells
        yield line
        return
    rest = rest if width >= NARROWEST + len(rest) else " "
    begun, start = "", 0
    while start < len(line):
        end, space, room = start, 0, width - len(begun)
        while end < len(line) and (room := room - _cells(line[end])) >= 0:
            end += 1
            # The margin is no place to part a line: the part before it would be empty.
            space = end if line[end - 1] == " " and line[start:end].strip() else space
        if end < len(line):
            end = space or max(end, start + 1)
        yield begun + line[start:end]
        begun, start = rest, end


def shortened(line: str, most: int) -> str:
    """Return a line of at most `most` cells."""
    cells = 0
    for place, each in enumerate(line):
        cells += _cells(each)
        if cells > most - 3 and sum(map(_cells, line[place + 1 :])) + cells > most:
            return f"{line[:place]}..."
    return line


def log_to_stderr() -> None:
    """Let what is logged, warned of, or fails without being caught, leave as lines of ours on stderr."""
    showing = logging.StreamHandler(sys.stderr)
    showing.setFormatter(Lines())
    logging.basicConfig(handlers=[showing], level=logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _failed
    threading.excepthook = lambda failed: _failed(failed.exc_type, failed.exc_value, failed.exc_traceback)


class Lines(logging.Formatter):
    """A record is one line, whatever is in its arguments; a traceback stands behind a margin."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback where there is one."""
        said = f"{self.formatTime(record)} {record.levelname} {record.name}: {record.getMessage()}"
        lines = [*folded(_flat(said), _width(sys.stderr, paged=False), MARGIN)]
        if record.exc_info:
            lines.append(behind(MARGIN, self.formatException(record.exc_info)))
        if record.stack_info:
            lines.append(behind(MARGIN, self.formatStack(record.stack_info)))
        return "\n".join(lines)


def _failed(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
        return
    logging.getLogger("crm_mcp").critical("the program failed", exc_info=(kind, error or kind(), trace))


def _flat(text: str) -> str:
    return neutral(text).replace("\n", " ").replace("\t", " ")


def _write(to: TextIO, text: str) -> None:
    encoding = to.encoding or "utf-8"  # a console may lack a character: that is no reason to fail
    to.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _width(to: TextIO, *, paged: bool) -> int | None:
    """Return how many cells a line has where this is read; None: nothing is known of where."""
    for stream in (to, sys.stderr, sys.stdin) if paged else (to,):
        if stream.isatty():
            try:
                return os.get_terminal_size(stream.fileno()).columns or USUAL
            except (OSError, ValueError):
                return USUAL
    return None


def _cells(character: str) -> int:
    """Return how many cells a terminal may take for a character: the most, where terminals differ."""
    if character.isascii():
        return 1
    category, wide = unicodedata.category(character), unicodedata.east_asian_width(character)
    if wide in "WF" or category[0] == "S" or category in ("Co", "Cn"):
        return 2
    return 2 if wide == "A" and category[0] in "PN" else 1


def _joins(character: str) -> bool:
    """Whether it is a joiner; what is left of them after `dotted` is needed."""
    return character in "\u200c\u200d"


@contextmanager
def _interrupted_at_once() -> Generator[Callable[[], object]]:
    """Let Ctrl-C raise where it is waited for: a loop that runs would only take a note of the first one.

    Yields what waits until a terminal has an answer: a mere read would go on where Ctrl-C came just before it began.
    """
    heard, hears = socket.socketpair()
    hears.setblocking(False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    told_before = signal.set_wakeup_fd(hears.fileno(), warn_on_full_buffer=False)
    try:
        if sys.platform != "win32" and sys.stdin.isatty():
            yield partial(select.select, [sys.stdin, heard], [], [])
        else:
            yield lambda: None
    finally:
        signal.set_wakeup_fd(told_before)
        signal.signal(signal.SIGINT, before)
        heard.close()
        hears.close()
