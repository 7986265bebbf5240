"""What is written about the code is the code: the drawn error tree, the paths, the settings, the tools."""

from __future__ import annotations

import inspect
import re

import pytest

from crm_mcp import errors
from crm_mcp.config import variables
from crm_mcp.errors import CrmError, CrmMcpError
from crm_mcp.server.tools import TOOLS

from .sources import ROOMS, ROOT

CODES = {
    "invalid_argument",
    "not_found",
    "ambiguous",
    "unauthorized",
    "forbidden",
    "payment_required",
    "rate_limited",
    "conflict",
    "unsupported",
    "vendor_error",
    "unreachable",
    "timeout",
    "internal",
}
"""Of the contract, section 5."""

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def drawn(text: str) -> dict[str, tuple[str, str]]:
    """Return for each class of the drawn tree its parent and the word that follows it, where that is a code."""
    tree: dict[str, tuple[str, str]] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        if found := re.match(r"( {4,})([A-Z]\w+)(?: +(\w+):)?", line):
            indent, name = len(found[1]), found[2]
            above = [each for each in above if each[0] < indent]
            tree[name] = (above[-1][1] if above else "Exception", found[3] or "")
            above.append((indent, name))
    return tree


def test_the_drawn_error_tree_is_the_classes_and_their_codes():
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, CrmMcpError)]

    real = {
        each.__name__: (
            each.__bases__[0].__name__,
            each.code if issubclass(each, CrmError) and each is not CrmError else "",
        )
        for each in classes
    }

    assert drawn(errors.__doc__ or "") == real


def test_the_codes_are_those_of_the_contract():
    codes = [each.code for each in CrmError.__subclasses__()]

    assert sorted(codes) == sorted(CODES)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_path_that_a_document_names_exists(document: str):
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.~])(?:src|tests|benchmarks|\.ci)/[\w./-]*", text))
    named |= {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}

    missing = sorted(each for each in named if not (ROOT / each.rstrip(".")).exists())

    assert missing == []


def test_the_settings_of_the_readme_are_the_settings():
    table = README.split("## Settings")[1].split("```")[0]

    rows = [
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(CRM_MCP_\w+)`", line.split("|")[1])
    ]

    assert sorted(rows) == sorted(variables())
    assert set(re.findall(r"CRM_MCP_[A-Z_]+", README + CONTRIBUTING)) <= set(variables())


def test_the_rooms_of_the_contributing_page_are_the_rooms():
    told = " <- ".join(ROOMS)

    assert f"`{told}`" in CONTRIBUTING
    for room in ROOMS:
        assert f"`src/crm_mcp/{room}" in CONTRIBUTING, room


def test_the_number_of_tools_in_the_readme_is_theirs():
    told = re.search(r"(\d+) tools in about", README)

    assert told is not None
    assert int(told[1]) == len(TOOLS)
