"""Sizes, names and habits of the source."""

from __future__ import annotations

import ast
import re
from collections import Counter

from .sources import Source, served, suite

LONGEST_FILE = 500
LONGEST_FUNCTION = 60
LONGEST_TEST_FILE = 800
VAGUE = {"util", "utils", "helper", "helpers", "common", "manager", "handler", "handlers", "misc"}
EVERYTHING = {"Exception", "BaseException"}
ENVIRONMENT = {"os.environ", "os.getenv", "os.putenv", "os.environb"}


def dotted(node: ast.AST) -> str:
    """Return `a.b` for such an expression, "" for another."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def used(source: Source) -> set[tuple[int, str]]:
    """Return line and dotted name of everything that a file uses by name."""
    named = {(line, name) for line, name in source.imports()}
    return named | {
        (node.lineno, dotted(node)) for node in ast.walk(source.tree) if isinstance(node, ast.Attribute | ast.Name)
    }


def test_a_file_has_at_most_500_lines_and_a_test_file_800():
    long = [f"{each.shown}: {len(each.lines)}" for each in served() if len(each.lines) > LONGEST_FILE]
    long += [f"{each.shown}: {len(each.lines)}" for each in suite() if len(each.lines) > LONGEST_TEST_FILE]

    assert long == []


def test_a_function_has_at_most_60_lines():
    long = [
        f"{source.shown}:{node.lineno} {node.name}: {length}"
        for source in served()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]

    assert long == []


def test_nothing_that_is_served_writes_to_stdout():
    wrong = [
        f"{source.shown}:{line} {name}"
        for source in served()
        if source.room != "cli"
        for line, name in used(source)
        if name in ("print", "sys.stdout", "sys.__stdout__")
    ]

    assert wrong == []


def test_the_commands_write_and_ask_in_one_place():
    wrong = [
        f"{source.shown}:{line} {name}"
        for source in served()
        if source.room == "cli" and source.module != "cli.terminal"
        for line, name in used(source)
        if name in ("print", "input", "sys.stdin", "sys.stdout", "sys.stderr", "typer.echo", "typer.confirm")
    ]

    assert wrong == []


def test_only_config_reads_the_environment():
    wrong = [
        f"{source.shown}:{line} {name}"
        for source in served()
        if source.module != "config"
        for line, name in used(source)
        if name in ENVIRONMENT
    ]

    assert wrong == []


def test_everything_is_caught_in_four_places_only():
    def passes_on(handler: ast.ExceptHandler) -> bool:
        last = handler.body[-1]
        return isinstance(last, ast.Raise) and last.exc is None

    broad = Counter(
        source.shown
        for source in served()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or any(dotted(each) in EVERYTHING for each in ast.walk(node.type)))
        and not passes_on(node)
    )

    # Where a call is answered, and where what goes on behind calls shares a task group with the whole server.
    assert broad == {
        "src/crm_mcp/actions/jobs.py": 1,
        "src/crm_mcp/actions/outbox.py": 4,
        "src/crm_mcp/actions/worker.py": 1,
        "src/crm_mcp/server/app.py": 1,
    }


def test_no_module_has_a_name_that_says_nothing():
    vague = [each.shown for each in (*served(), *suite()) if VAGUE & set(re.split("[_.]", each.path.stem))]

    assert vague == []


def test_nothing_is_left_to_do_in_a_comment():
    marks = re.compile("[T]ODO|[F]IXME")

    left = [
        f"{source.shown}:{number}"
        for source in (*served(), *suite())
        for number, line in enumerate(source.lines, 1)
        if marks.search(line)
    ]

    assert left == []
