"""`crm-mcp import --crm`: into one of several connections, or into a vendor's CRM."""

from __future__ import annotations

from pathlib import Path

from crm_mcp.sandbox.salespulse import SalesPulseEmulator
from crm_mcp.sandbox.serving import serving

from .running import answer_of, names, run, write_csv

ROWS = [["name", "email"], ["Ada Import", "ada@example.com"], ["Bo Import", "bo@example.com"]]


def several(folder: Path, url: str) -> str:
    """Write settings of two connections; returns the file."""
    (folder / "two.toml").write_text(
        f'[connections.calls]\nvendor = "salespulse"\napi_key = "env:CALLS_KEY"\nbase_url = "{url}"\n'
        "[connections.home]\n"
    )
    return str(folder / "two.toml")


def test_rows_go_into_the_connection_that_is_named(tmp_path: Path):
    write_csv(tmp_path / "leads.csv", ROWS)
    emulator = SalesPulseEmulator()
    with serving(emulator) as url:
        settings = {"CRM_MCP_CONFIG": several(tmp_path, url), "CALLS_KEY": emulator.key}
        into_calls = run(tmp_path, "import", "leads.csv", "--crm", "calls", **settings)
        of_calls = [each["email"] for each in emulator.contacts.values()]
        before = names(tmp_path)
        into_home = run(tmp_path, "import", "leads.csv", "--crm", "home", **settings)
        actions = answer_of(run(tmp_path, "call", "list_actions", "--output", "json", **settings))["actions"]

    assert (into_calls.returncode, into_home.returncode) == (0, 0), into_calls.stderr + into_home.stderr
    assert sorted(of_calls) == ["ada@example.com", "bo@example.com"]
    assert before == []
    assert names(tmp_path) == ["Ada Import", "Bo Import"]
    assert len(emulator.contacts) == 2
    assert [(each["crm"], each["tool"], each["status"]) for each in actions] == [
        ("home", "import_leads", "done"),
        ("calls", "import_leads", "done"),
    ]


def test_with_several_the_connection_must_be_named(tmp_path: Path):
    write_csv(tmp_path / "leads.csv", ROWS)
    settings = {"CRM_MCP_CONFIG": several(tmp_path, "http://127.0.0.1:9/api/v1"), "CALLS_KEY": "sp_live_x"}

    unnamed = run(tmp_path, "import", "leads.csv", **settings)
    unknown = run(tmp_path, "import", "leads.csv", "--crm", "hom", **settings)

    assert (unnamed.returncode, unnamed.stdout) == (2, "")
    assert unnamed.stderr == "crm-mcp: which connection? give --crm; valid: calls, home\n"
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == 'crm-mcp: there is no connection "hom"; valid: calls, home; nearest: "home"\n'
    assert names(tmp_path) == []


def test_with_one_its_name_may_be_given(tmp_path: Path):
    write_csv(tmp_path / "leads.csv", ROWS)

    named = run(tmp_path, "import", "leads.csv", "--crm", "local")
    other = run(tmp_path, "import", "leads.csv", "--crm", "home")

    assert named.returncode == 0
    assert other.stderr == 'crm-mcp: there is no connection "home"; valid: local\n'
    assert names(tmp_path) == ["Ada Import", "Bo Import"]
