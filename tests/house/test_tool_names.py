"""A tool says of itself what is known of it: no other place decides by its name, and who names one names it right."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from crm_mcp.server.tool import Tool
from crm_mcp.server.tools import TOOLS

from .sources import Source, served

NAMES = {each.name for each in TOOLS}
MAY = re.compile(r"(sandbox(\..+)?|cli\.demo|store\.migrations\..+)")
"""Who may write a tool's name down: the demonstration, emulators, and what past versions have stored."""
A_NAME = re.compile(
    r"(?:use|see|with|from|by|through|call|and|or|of|,) "
    r"((?:add|call|confirm|create|delete|enroll|find|get|import|list|log|move|read|search|send|set|start|tag|undo"
    r"|unenroll|update)_\w+)\b"
)
"""What stands in a sentence where the name of a tool would."""


def _strings(source: Source) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file that are no docstrings."""
    said = {
        id(node.body[0].value)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value


def test_no_name_of_a_tool_stands_outside_its_declaration():
    wrong = [
        f"{source.shown}:{line} {value}"
        for source in served()
        if not MAY.fullmatch(source.module)
        for line, value in _strings(source)
        if value in NAMES and "_" in value
    ]

    assert wrong == []


def test_a_sentence_names_tools_that_there_are():
    named = [
        (f"{source.shown}:{line}", found)
        for source in served()
        if not MAY.fullmatch(source.module)
        for line, value in _strings(source)
        for found in A_NAME.findall(value)
    ]

    assert len(named) > 30
    assert [each for each in named if each[1] not in NAMES] == []


@pytest.mark.parametrize("each", TOOLS, ids=[each.name for each in TOOLS])
def test_a_tool_that_reaches_deletes_or_answers_has_the_effect_of_it(each: Tool):
    if each.reaches:
        assert each.effect == "outward"
    if each.deletes or each.answers:
        assert each.effect == "destructive"
    if each.creates or each.writes_addresses:
        assert each.effect in ("write", "destructive")
    if each.resends:
        assert each.reaches
        assert "resend_of" in each.arguments.model_fields
    if each.by_action:
        assert "action_id" in each.arguments.model_fields


def test_every_tool_that_reaches_somebody_says_how():
    assert [each.name for each in TOOLS if each.effect == "outward" and not each.reaches] == []
