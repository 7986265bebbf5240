"""A process without settings: no variable of ours, and an empty home, which is the working directory too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crm_mcp.config import PREFIX, load
from crm_mcp.errors import SettingsError
from crm_mcp.server.app import Application

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a settings file and name it in CRM_MCP_CONFIG."""

    def write(text: str) -> Path:
        path = tmp_path / "crm.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("CRM_MCP_CONFIG", str(path))
        return path

    return write


def refusal() -> str:
    """Return the one line that the start stops with."""
    with pytest.raises(SettingsError) as stopped:
        Application(load())
    text = str(stopped.value)
    assert "\n" not in text
    return text
