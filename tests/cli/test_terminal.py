"""Where the commands write: every line is begun by us, whatever stands in it, and however narrow the terminal is."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from crm_mcp.cli.terminal import (
    MARGIN,
    NARROWEST,
    Lines,
    complain,
    folded,
    printable,
    say,
    say_json,
    say_lines,
    shortened,
)
from crm_mcp.server.rendering import set_apart, text_of
from tests.hostile import FORGED, LINE_ENDS, WORST, lines_of, values

WIDE = ("\u5c71", "\U0001f600", "\u2764\ufe0f", "\u00a9", "\u2192")
"""What some terminals take two cells for."""


def written(work: Callable[[], object]) -> str:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        work()
    return out.getvalue()


@given(value=values)
@example(value=WORST)
def test_what_is_said_is_one_line_and_ours_comes_first(value: str):
    [said] = lines_of(written(lambda: say(f"a_1  {value}", margin="  ")))
    [wrong] = lines_of(written(lambda: complain(value)))

    assert said.startswith("  a_1  ")
    assert wrong.startswith("crm-mcp: ")


@given(value=values)
@example(value=WORST)
def test_each_line_of_a_block_stands_behind_its_margin(value: str):
    lines = lines_of(written(lambda: say_lines(value, margin=MARGIN)))

    assert all(line.startswith(MARGIN) or not line for line in lines)


@given(value=values, name=values)
def test_json_is_one_line_that_says_the_same_and_hides_nothing(value: str, name: str):
    [line] = lines_of(written(lambda: say_json({name: [value]})))

    assert json.loads(line) == {name: [value]}


@given(
    text=st.lists(st.sampled_from([*FORGED, *WIDE, "a", " ", "word ", "e\u0301", "x" * 30]), max_size=12).map("".join),
    width=st.integers(4, 90),
    margin=st.sampled_from(["", MARGIN]),
)
def test_no_part_of_a_line_is_wrapped_by_the_terminal_and_nothing_of_it_is_lost(text: str, width: int, margin: str):
    rest = margin + MARGIN

    first, *more = folded(margin + text, width, rest)

    rest = rest if width >= NARROWEST + len(rest) else " "
    assert first.startswith(margin) or width < len(margin)
    assert all(part.startswith(rest) for part in more)
    assert first + "".join(part.removeprefix(rest) for part in more) == margin + text
    assert all(cell_len(part) <= width for part in (first, *more) if len(part) > len(rest) + 1)


@pytest.mark.parametrize("character", WIDE)
def test_a_character_counts_for_as_many_cells_as_any_terminal_takes(character: str):
    parts = [*folded(character * 60 + FORGED[0], 40, MARGIN)]

    assert all(part.count(character) * 2 <= 40 for part in parts)


@given(text=values.map(lambda each: " ".join(each.split())), most=st.integers(8, 40))
def test_a_line_is_cut_to_the_cells_that_there_are(text: str, most: int):
    cut = shortened(text, most)

    assert cut == text or cut.endswith("...")
    assert cell_len(cut) <= most


@given(value=values, most=st.integers(5, 60))
@example(value=WORST, most=1000)
def test_a_cell_is_one_line_that_shows_that_something_is_not_seen(value: str, most: int):
    shown = printable(value, most)

    assert len(shown) <= most
    assert lines_of(f"{shown}\n") == [shown]
    assert printable("a\x1b[2Jb\u202ec\u3164d\ne") == "a\u00b7[2Jb\u00b7c\u00b7d\u00b7e"
    assert printable("\U0001f469\u200d\U0001f527") == "\U0001f469\u200d\U0001f527"


def fail(why: str) -> NoReturn:
    raise RuntimeError(why)


def logged(value: str, **more: Any) -> list[str]:
    """Return the lines of a record of a server that has this value among its arguments."""
    record = logging.LogRecord("crm_mcp", logging.WARNING, "", 0, "%s: %s (%s)", ("send_sms", value, value), None)
    record.__dict__.update(more)
    return lines_of(Lines().format(record) + "\n")


@given(value=values)
@example(value=WORST)
def test_a_record_of_the_log_is_one_line_whatever_is_in_its_arguments(value: str):
    [line] = logged(value)

    assert " WARNING crm_mcp: send_sms: " in line[:60]


@given(value=values)
@example(value=WORST)
def test_a_traceback_can_not_look_like_a_record(value: str):
    with pytest.raises(RuntimeError) as raised:
        fail(value)

    failed = (RuntimeError, raised.value, raised.tb)
    first, *more = logged("x", exc_info=failed, stack_info=f"Stack:\n{value}")

    assert first.endswith("send_sms: x (x)")
    assert len(more) > 3
    assert all(line.startswith(MARGIN) for line in more)


@pytest.mark.parametrize("start", ["import sys; ", "import threading; threading.Thread(target=lambda: "])
def test_what_nobody_caught_leaves_as_a_record_too(start: str):
    fails = "(_ for _ in ()).throw(RuntimeError('x\\nFAULT: forged'))"
    thread = fails + ").start()" if "thread" in start else fails
    program = f"from crm_mcp.cli.terminal import log_to_stderr; log_to_stderr(); {start}{thread}"

    failed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=20)

    first, *more = lines_of(failed.stderr)
    assert first.endswith(" CRITICAL crm_mcp: the program failed")
    assert "    FAULT: forged" in more
    assert all(line.startswith(MARGIN) for line in more)


@pytest.mark.parametrize("end", LINE_ENDS)
def test_every_end_of_a_line_is_known(end: str):
    assert len(f"a{end}b".splitlines()) == 2
    assert written(lambda: say(f"a{end}b")) == "a b\n"


def test_a_character_that_the_console_lacks_is_written_otherwise():
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    with redirect_stdout(console):
        say("Caf\u00e9 \u5c71")
        console.flush()

    assert console.buffer.getvalue() == b"Caf\\xe9 \\u5c71\n"  # type: ignore[attr-defined]


def test_on_a_terminal_a_long_line_goes_on_behind_a_margin(monkeypatch: pytest.MonkeyPatch):
    terminal, far_end = pty.openpty()
    fcntl.ioctl(far_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    seen = b""
    with os.fdopen(far_end, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)

        say("a_1  " + "x " * 30 + FORGED[0] + " the end", now=True)
        while b"the end" not in seen:
            seen += os.read(terminal, 10_000)

    os.close(terminal)
    first, *more = seen.decode().replace("\r\n", "\n").splitlines()
    assert len(more) > 2
    assert all(len(line) <= 40 and line.startswith(MARGIN) for line in more)
    assert first.startswith("a_1  x ")


@given(
    rows=st.lists(st.dictionaries(values, values | st.lists(values, max_size=2), min_size=1, max_size=2), max_size=2),
    name=values,
)
@example(rows=[{"id": WORST, WORST: "x"}], name=WORST)
def test_nothing_of_a_record_begins_a_line_of_a_result(rows: list[dict[str, Any]], name: str):
    lines = set_apart(text_of({"crm": "local", "leads": rows, "lead": {"name": name}, "summary": "found"}), "  ")

    first, begin, *inside, end, last = lines.split("\n")
    assert (first, last) == ("crm: local", "summary: found")
    assert begin.startswith("[outside data ")
    assert end.startswith("[end ")
    assert all(line.startswith("  ") for line in inside)
    assert len(inside) == (len(rows) + 2 if rows else 1) + 1
    assert len("\n".join(inside).splitlines()) == len(inside)
