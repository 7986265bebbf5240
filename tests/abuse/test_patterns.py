"""No pattern of the program takes for ever on a text that nearly fits it.

A pattern that can part one text in many ways tries them all before it says no: twice the ways for each letter more.
Each is given its own signs, alone and in pairs, many times over, with an end that does not fit.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest

import crm_mcp

TIMES = 40
"""Tried in every way, a text of so many parts takes years."""
MOST_SIGNS = 10
ENDS = ("", "\0", "!", "a", "1")
LIKELY = "a1 .-_@,:/<>\"'\n"


def patterns() -> dict[str, re.Pattern[str]]:
    """Return every pattern that a module has in its hands, and every one that a function of it spells out."""
    found: dict[str, re.Pattern[str]] = {}
    for module in pkgutil.walk_packages(crm_mcp.__path__, "crm_mcp."):
        if "migrations" in module.name or module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        found |= {f"{module.name}: {each.pattern}"[:200]: each for each in held_by(vars(loaded))}
        for text in spelt_out(Path(str(loaded.__file__))):
            found.setdefault(f"{module.name}: {text}"[:200], re.compile(text))
    return found


def held_by(value: object) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        pattern = cast("re.Pattern[Any]", value)
        if isinstance(pattern.pattern, str):
            yield pattern
    elif isinstance(value, Mapping):
        for each in cast("Mapping[Any, Any]", value).values():
            yield from held_by(each)
    elif isinstance(value, tuple | list | frozenset):
        for each in cast("tuple[Any, ...]", value):
            yield from held_by(each)


def spelt_out(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re")), args=[ast.Constant(value=str(text)), *rest]):
                if not any("VERBOSE" in ast.unparse(each) for each in rest):
                    yield text
            case _:
                pass


def signs_of(pattern: re.Pattern[str]) -> list[str]:
    """Return some of the signs that a pattern takes: those that it names, and likely ones that it has a place for."""
    own = dict.fromkeys(each for each in re.sub(r"\\[A-Za-z]|[\\()\[\]{}|?*+^$]", "", pattern.pattern) if each != "\0")
    likely = [each for each in LIKELY if each not in own]
    return [*list(own)[:MOST_SIGNS], *likely]


PATTERNS = patterns()


def test_there_are_patterns() -> None:
    assert len(PATTERNS) > 100


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_comes_to_an_end(name: str) -> None:
    pattern = PATTERNS[name]
    signs = signs_of(pattern)

    for seed in [*signs, *map("".join, product(signs, signs))]:
        for end in ENDS:
            text = seed * TIMES + end
            pattern.match(text)
            pattern.fullmatch(text)
            pattern.search(text)
