"""`crm-mcp check` with several connections: each is told by itself, and what to do where it fails."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from crm_mcp.sandbox.dialsheet import DialsheetEmulator
from crm_mcp.sandbox.salespulse import SalesPulseEmulator
from crm_mcp.sandbox.serving import serving

from .running import run

WRONG = "ds_canary_of_a_wrong_key"
NOBODY = "http://127.0.0.1:9/api/v1"


@pytest.fixture
def dialsheet() -> Generator[tuple[DialsheetEmulator, str]]:
    emulator = DialsheetEmulator(sample=True)
    with serving(emulator) as url:
        yield emulator, url


def parts(output: str) -> dict[str, list[str]]:
    """Return the lines below the head of each connection."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        if line.startswith("  "):
            found[list(found)[-1]].append(line.strip())
        else:
            found[line] = []
    return found


def test_each_connection_is_told_and_one_that_fails_makes_it_exit_1(
    tmp_path: Path, dialsheet: tuple[DialsheetEmulator, str]
):
    emulator, url = dialsheet
    (tmp_path / "wrong.key").write_text(WRONG)
    (tmp_path / "crm.toml").write_text(
        f'[connections.right]\nvendor = "dialsheet"\napi_key = "env:RIGHT_KEY"\nbase_url = "{url}"\n'
        f'[connections.wrong]\nvendor = "dialsheet"\napi_key = "file:{tmp_path}/wrong.key"\nbase_url = "{url}"\n'
        f'[connections.away]\nvendor = "salespulse"\napi_key = "env:RIGHT_KEY"\nbase_url = "{NOBODY}"\n'
        "[connections.home]\n"
    )

    result = run(
        tmp_path, "check", CRM_MCP_CONFIG=str(tmp_path / "crm.toml"), CRM_MCP_SAMPLE="true", RIGHT_KEY=emulator.key
    )

    assert (result.returncode, result.stderr) == (1, "")
    told = parts(result.stdout)
    assert list(told) == [
        "right (dialsheet): ok",
        "wrong (dialsheet): FAILED",
        "away (salespulse): FAILED",
        "home (local): ok",
    ]
    right, wrong, away, home = told.values()
    assert (right[0], right[1]) == ("12 leads", "reached: yes; key: accepted")
    assert "can: DeletesRecords, FindsLeads, " in right[2]
    assert right[3] == "limits: 59 of 60 calls left in the minute"
    assert wrong[0].startswith("unauthorized: Dialsheet does not accept the key; ")
    assert wrong[1] == "reached: yes; key: not accepted (it comes from connections.wrong.api_key)"
    assert away[0].startswith("unreachable: SalesPulse can't be reached: ")
    assert "check the base URL" in away[0]
    assert away[1] == "reached: no; key: not tried"
    assert away[3].endswith("10 of 10 bulk calls left in the minute")
    assert home[0].startswith("300 leads, ")
    assert home[2] == "limits: none"
    assert WRONG not in result.stdout
    assert emulator.key not in result.stdout


def test_all_that_is_right_exits_0(tmp_path: Path, dialsheet: tuple[DialsheetEmulator, str]):
    emulator, url = dialsheet

    result = run(tmp_path, "check", CRM_MCP_VENDOR="dialsheet", CRM_MCP_API_KEY=emulator.key, CRM_MCP_BASE_URL=url)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("dialsheet (dialsheet): ok\n  12 leads\n  reached: yes; key: accepted\n")


def test_a_wrong_key_of_the_environment_is_told_as_that(tmp_path: Path):
    with serving(SalesPulseEmulator()) as url:
        result = run(tmp_path, "check", CRM_MCP_VENDOR="salespulse", CRM_MCP_API_KEY=WRONG, CRM_MCP_BASE_URL=url)

    assert result.returncode == 1
    assert "\n  reached: yes; key: not accepted (it comes from CRM_MCP_API_KEY)\n" in result.stdout
    assert WRONG not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "reached: yes; key: without the right, or not covered by the plan"),
        (402, "reached: yes; key: without the right, or not covered by the plan"),
        (500, "reached: yes; key: not known, as the answer made no sense"),
    ],
)
def test_a_vendor_that_refuses_or_fails_is_told_as_that(
    tmp_path: Path, dialsheet: tuple[DialsheetEmulator, str], status: int, said: str
):
    emulator, url = dialsheet
    emulator.fail("html", status=status)

    result = run(tmp_path, "check", CRM_MCP_VENDOR="dialsheet", CRM_MCP_API_KEY=emulator.key, CRM_MCP_BASE_URL=url)

    assert result.returncode == 1
    assert f"\n  {said}\n" in result.stdout
    assert "html" not in result.stdout


def test_the_tools_of_several_connections_are_their_union(tmp_path: Path):
    (tmp_path / "crm.toml").write_text(
        '[connections.away]\nvendor = "salespulse"\napi_key = "env:AWAY_KEY"\n[connections.home]\n'
    )

    result = run(tmp_path, "tools", "--json", CRM_MCP_CONFIG=str(tmp_path / "crm.toml"), AWAY_KEY=WRONG)

    assert (result.returncode, result.stderr) == (0, "")
    tools = {each["name"]: each["inputSchema"]["properties"] for each in json.loads(result.stdout)}
    assert {"start_call", "tag_lead"} <= set(tools)
    assert tools["get_lead"]["crm"]["enum"] == ["away", "home"]
    assert "crm" not in tools["undo_action"]
    assert WRONG not in result.stdout
