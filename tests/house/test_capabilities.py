"""A CRM's class statement is the list of what it can do."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest

from crm_mcp.backends.base import Backend
from crm_mcp.config import VENDORS

from .sources import PACKAGE, Source


def _named(vendor: str) -> tuple[str, set[str]]:
    """Return the name of a vendor's class, and what its statement names."""
    source = Source(PACKAGE / "backends" / vendor / "__init__.py")
    classes = [node for node in source.tree.body if isinstance(node, ast.ClassDef)]
    (stated,) = (each for each in classes if each.name.casefold() == vendor)
    return stated.name, {ast.unparse(each).rpartition(".")[2] for each in stated.bases}


@pytest.mark.parametrize("vendor", [each for each in VENDORS if each != "local"])
def test_a_vendor_s_class_statement_names_every_capability_that_it_serves(vendor: str):
    name, stated = _named(vendor)
    crm: type[Backend] = getattr(import_module(f"crm_mcp.backends.{vendor}"), name)

    assert set(crm.capabilities()) - stated == set()
