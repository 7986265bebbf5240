"""What tests of every room may ask for."""

from __future__ import annotations

from .databases import bare_postgres_url, postgres_server, postgres_url
from .faults.report import pytest_configure, pytest_terminal_summary

__all__ = [
    "bare_postgres_url",
    "postgres_server",
    "postgres_url",
    "pytest_configure",
    "pytest_terminal_summary",
]
