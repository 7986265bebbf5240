"""Imports point left, and what is exclusive stays where it belongs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crm_mcp.config import VENDORS

from .sources import ROOMS, served

OUTSIDE_ROOMS = ("", "__main__")
"""The version stands in the package itself; `python -m crm_mcp` starts the commands."""

EXCLUSIVE = {
    "mcp": ("server", "cli"),
    "mcp_types": ("server", "cli"),
    "sqlalchemy": ("store",),
    "alembic": ("store",),
    "psycopg": ("store",),
    "sqlite3": ("store", "backends.local", "backends.rate_limit"),
    "httpx": (),
    "httpx2": ("backends.http",),
    "stamina": ("backends.http",),
    "platformdirs": ("config",),
    "keyring": ("config",),
    "pydantic_settings": ("config",),
    "rich": ("cli",),
    "typer": ("cli",),
    "uvicorn": ("cli", "sandbox"),
}

LATE = (
    "sqlalchemy",
    "alembic",
    "psycopg",
    "phonenumbers",
    "email_validator",
    "typer",
    "rich",
    "platformdirs",
    "keyring",
    "stamina",
    "crm_mcp.backends.http",
    "crm_mcp.backends.catalog",
    "crm_mcp.backends.rate_limit",
    "crm_mcp.actions.vendor_operations.call",
    "crm_mcp.sandbox",
)
"""What a server that waits for its first call has not loaded.

sqlite3 is loaded: the rooms of the embedded CRM are made of it; and uvicorn: the SDK loads it with its HTTP transport.
"""


def test_every_file_stands_in_a_room():
    strays = [each.shown for each in served() if each.room not in ROOMS and each.module not in OUTSIDE_ROOMS]

    assert strays == []


def test_imports_point_left_from_room_to_room():
    wrong = [
        f"{source.shown}:{line} imports {name}"
        for source in served()
        if source.room in ROOMS
        for line, name in source.imports()
        if name.startswith("crm_mcp.")
        and (room := name.split(".")[1]) in ROOMS
        and ROOMS.index(room) > ROOMS.index(source.room)
    ]

    assert wrong == []


def test_no_files_import_each_other_in_a_ring():
    """Imports within functions and for types alone count too."""
    files = {source.module for source in served()}

    def file_of(name: str) -> str:
        while name and name not in files:
            name = name.rpartition(".")[0]
        return name

    imported = {
        source.module: {
            found
            for _, name in source.imports()
            if name.startswith("crm_mcp.")
            and (found := file_of(name.removeprefix("crm_mcp."))) not in ("", source.module)
        }
        for source in served()
    }
    while leaves := [each for each, others in imported.items() if not others & imported.keys()]:
        for each in leaves:
            del imported[each]

    assert {each: sorted(others & imported.keys()) for each, others in imported.items()} == {}


def test_the_sandbox_stands_alone_and_only_the_commands_start_it():
    wrong = [
        f"{source.shown}:{line} imports {name}"
        for source in served()
        for line, name in source.imports()
        if name.startswith("crm_mcp.")
        and (
            (source.room == "sandbox" and name.split(".")[1] not in ("sandbox", "model"))
            or (source.room not in ("sandbox", "cli") and name.split(".")[1] == "sandbox")
        )
    ]

    assert wrong == []


def test_a_backend_never_imports_another():
    def wing(name: str) -> str:
        own = name.split(".")[1] if name.startswith("backends.") else ""
        return own if own in VENDORS else ""

    wrong = [
        f"{source.shown}:{line} imports {name}"
        for source in served()
        if (own := wing(source.module))
        for line, name in source.imports()
        if wing(name.removeprefix("crm_mcp.")) not in ("", own)
    ]

    assert wrong == []


@pytest.mark.parametrize("library", EXCLUSIVE)
def test_a_library_is_imported_in_its_own_rooms_alone(library: str):
    wrong = [
        f"{source.shown}:{line} imports {name}"
        for source in served()
        for line, name in source.imports()
        if name.split(".")[0] == library
        and not any(f"{source.module}.".startswith(f"{room}.") for room in EXCLUSIVE[library])
    ]

    assert wrong == []


def test_a_server_that_waits_has_not_loaded_what_only_a_call_needs():
    program = (
        "import sys; from pathlib import Path; from crm_mcp.config import Settings;"
        "from crm_mcp.server.app import Application; Application(Settings(data_dir=Path('nowhere')));"
        f"print([name for name in {LATE} if name in sys.modules])"
    )

    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True, timeout=20
    )

    assert loaded.stdout.strip() == "[]"


def test_importing_the_command_loads_neither_the_server_nor_the_command_line_library():
    program = "import sys, crm_mcp.cli; print([name for name in ('mcp', 'typer', 'pydantic') if name in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True, timeout=20
    )

    assert loaded.stdout.strip() == "[]"
