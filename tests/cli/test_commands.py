"""`demo`, `check`, `tools` and the start of a server, as real commands."""

from __future__ import annotations

import io
import json
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from rich.console import Console

from crm_mcp import __version__
from crm_mcp.cli.demo import run_demo
from crm_mcp.cli.documents import settle
from crm_mcp.cli.serving import serve_http
from crm_mcp.config import Settings
from crm_mcp.errors import SettingsError

from .contract_table import ALL
from .running import run, run_afresh

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    result = run_afresh(tmp_path_factory.mktemp("tools"), "tools", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_the_demo_shows_the_main_job_whatever_is_set_here(tmp_path: Path):
    (tmp_path / "config.toml").write_text('[policy]\nwrite = "deny"\n')
    mine = {"CRM_MCP_READ_ONLY": "true", "CRM_MCP_CONFIG": str(tmp_path / "config.toml"), "CRM_MCP_TOOLSETS": "deals"}
    began = time.monotonic()

    result = run_afresh(tmp_path, "demo", **mine)

    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - began < 20
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert "\x1b" not in result.stdout
    for told in (
        "Before anything goes out, the server asks its user:",
        "? SMS to +14155550171, ",
        "> yes",
        "undo_action",
        "   status: duplicate",
        "   status: undone",
    ):
        assert told in result.stdout
    assert not (tmp_path / "crm").exists()


def test_the_demo_puts_its_message_off_where_it_is_night(tmp_path: Path):
    there = datetime.now(ZoneInfo("America/Los_Angeles"))
    night = f"{there - timedelta(hours=2):%H:%M}-{there + timedelta(hours=2):%H:%M}"
    (tmp_path / "night.toml").write_text(f'[policy]\nquiet_hours = "{night}"\n')
    told = io.StringIO()

    code = anyio.run(run_demo, Console(file=told), {"CRM_MCP_CONFIG": str(tmp_path / "night.toml")})

    assert code == 0
    assert "goes out later: quiet hours: it is" in " ".join(told.getvalue().replace("?", "").split())
    assert "   status: scheduled" in told.getvalue()
    assert "   status: duplicate" in told.getvalue()


def test_check_says_what_it_found(tmp_path: Path):
    result = run_afresh(tmp_path, "check", CRM_MCP_SAMPLE="true")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("local (local): ok\n  300 leads, ")
    assert "\n  can: DeletesRecords, EndsSequences, FindsLeads, " in result.stdout


def test_check_fails_where_the_data_directory_is_a_file(tmp_path: Path):
    (tmp_path / "crm").touch()

    result = run(tmp_path, "check")

    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("local (local): FAILED\n  unreachable: ")
    assert "CRM_MCP_DATA_DIR" in result.stdout


def test_check_fails_where_the_file_is_no_database_and_leaves_it_alone(tmp_path: Path):
    (tmp_path / "crm").mkdir()
    (tmp_path / "crm" / "crm.sqlite3").write_text("my diary\n" * 1000)

    result = run(tmp_path, "check")

    assert (result.returncode, result.stderr) == (1, "")
    assert "is no SQLite database" in result.stdout
    assert (tmp_path / "crm" / "crm.sqlite3").read_text() == "my diary\n" * 1000


def test_the_tools_are_those_of_the_contract(listed: list[dict[str, Any]]):
    served = {
        each["name"]: (
            each["toolset"],
            frozenset(
                name if name in each["inputSchema"].get("required", []) else f"{name}?"
                for name in each["inputSchema"]["properties"]
            ),
            each["effect"],
        )
        for each in listed
    }

    assert served == ALL


def test_each_listed_tool_has_effect_verdict_size_and_schema(listed: list[dict[str, Any]]):
    verdicts = {"read": "allow", "write": "allow", "outward": "confirm", "destructive": "confirm"}

    for each in listed:
        assert set(each) == {
            "name",
            "toolset",
            "effect",
            "verdict",
            "tokens",
            "description",
            "inputSchema",
            "annotations",
        }
        assert each["verdict"] == verdicts[each["effect"]]
        assert 20 < each["tokens"] < 600
        assert each["inputSchema"]["type"] == "object"
        assert len(each["annotations"]) == 4


def test_the_table_for_people_has_every_tool_and_the_sum(tmp_path: Path, listed: list[dict[str, Any]]):
    result = run(tmp_path, "tools", CRM_MCP_READ_ONLY="true")

    rows = [line.split() for line in result.stdout.splitlines() if line.strip()][1:]
    reading = [each["name"] for each in listed if each["effect"] == "read"]
    assert [row[0] for row in rows[:-1]] == reading
    assert rows[-1][:3] == [str(len(reading)), "tools", "about"]
    assert result.returncode == 0


def test_the_documents_are_checked_and_written(tmp_path: Path):
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "manifest.json", "docs/operations.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    fresh = settle(tmp_path, write=False)
    readme, manifest = tmp_path / "README.md", tmp_path / "manifest.json"
    before = readme.read_text(), manifest.read_text()
    readme.write_text(before[0].replace("| `send_sms` | outward |", "| `send_sms` | read |"))
    manifest.write_text(before[1].replace('"send_sms"', '"send_smss"'))

    stale = run(tmp_path, "tools", "--check")
    written = settle(tmp_path, write=True)

    assert (fresh, written) == (0, 0)
    assert (stale.returncode, stale.stdout) == (1, "")
    assert stale.stderr == "crm-mcp: out of date: README.md, manifest.json; run `crm-mcp tools --write`\n"
    assert (readme.read_text(), manifest.read_text()) == before


def test_the_documents_can_only_be_checked_in_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert settle(tmp_path, write=False) == 2
    assert capsys.readouterr().err == "crm-mcp: README.md is not here; run this in a checkout\n"


def test_a_server_whose_input_closes_ends_well_and_writes_nothing(tmp_path: Path):
    result = run_afresh(tmp_path, "serve")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not (tmp_path / "crm").exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("8000", '"8000" is no address; give HOST:PORT'),
        ("127.0.0.1:http", '"127.0.0.1:http" is no address'),
        ("127.0.0.1:70000", '"127.0.0.1:70000" is no address'),
        ("0.0.0.0:8000", "0.0.0.0 is not a loopback address"),
        ("crm.example.com:8000", "crm.example.com is not a loopback address"),
    ],
)
def test_http_is_served_on_loopback_alone(tmp_path: Path, address: str, said: str):
    with pytest.raises(SettingsError) as refused:
        serve_http(Settings(data_dir=tmp_path), address)

    assert str(refused.value).startswith(said)


def test_the_manifest_has_the_version_of_the_package():
    manifest = json.loads((ROOT / "manifest.json").read_text())

    assert manifest["version"] == __version__
