"""`crm-mcp import` as a real command into the embedded CRM: good files, bad ones, and ones that are interrupted."""

from __future__ import annotations

import csv
import os
import pty
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from .running import LONGEST, answer_of, command, environment, leads, names, run, run_afresh, start, write_csv

PEOPLE = [["Name", "Mail", "Budget"], ["Ann", "ann@example.com", "5"], ["Bob", "bob@example.com", "6"]]
MANY = 20_000


def counts(folder: Path) -> tuple[int, int]:
    """Return how many leads there are, and how many different addresses they have."""
    with closing(sqlite3.connect(folder / "crm" / "crm.sqlite3")) as db:
        return db.execute("SELECT count(*), count(DISTINCT email) FROM leads").fetchone()


def test_a_file_is_imported_and_a_column_kept_by_map(tmp_path: Path):
    path = write_csv(tmp_path / "leads.csv", PEOPLE)

    result = run_afresh(tmp_path, "import", str(path), "--map", "Budget=custom_fields.Budget")

    ann, bob = leads(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "leads.csv: 2 created, 0 updated, 0 skipped, 0 rejected; " in result.stdout
    assert (ann.name, ann.email, ann.custom_fields) == ("Ann", "ann@example.com", {"Budget": "5"})
    assert bob.custom_fields == {"Budget": "6"}


def test_the_import_is_listed_as_done_by_the_person_at_the_terminal(tmp_path: Path):
    run(tmp_path, "import", str(write_csv(tmp_path / "leads.csv", PEOPLE)))

    (action,) = answer_of(run(tmp_path, "call", "list_actions", "--output", "json"))["actions"]

    assert (action["tool"], action["status"], action["approved_by"]) == ("import_leads", "done", "cli")
    assert action["caller"].endswith(" via crm-mcp import")
    assert action["summary"] == "import leads.csv: 2 created, 0 updated, 0 skipped, 0 failed"


@pytest.mark.parametrize("rows", [PEOPLE, [["name"], ["Ann"], ["Bob"]]], ids=["addresses", "names alone"])
def test_a_file_imported_twice_makes_no_duplicates(tmp_path: Path, rows: list[list[str]]):
    path = write_csv(tmp_path / "leads.csv", rows)
    run(tmp_path, "import", str(path))

    again = run(tmp_path, "import", str(path))

    assert again.returncode == 0
    assert "0 created, 0 updated, 2 skipped, 0 rejected" in again.stdout
    assert names(tmp_path) == ["Ann", "Bob"]


def test_a_lead_that_exists_is_updated_or_refused_as_wished(tmp_path: Path):
    run(tmp_path, "import", str(write_csv(tmp_path / "leads.csv", PEOPLE)))
    newer = write_csv(
        tmp_path / "newer.csv", [["name", "email"], ["Ann A.", "ann@example.com"], ["Cid", "c@example.com"]]
    )

    refused = run(tmp_path, "import", str(newer), "--if-exists", "error")
    before = names(tmp_path)
    updated = run(tmp_path, "import", str(newer), "--if-exists", "update")

    with (tmp_path / "newer.rejected.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert "1 created, 0 updated, 0 skipped, 1 rejected" in refused.stdout
    assert (header, row[:3]) == (["name", "email", "line", "reason"], ["Ann A.", "ann@example.com", "2"])
    assert "L1" in row[3]
    assert before == ["Ann", "Bob", "Cid"]
    assert (refused.returncode, updated.returncode) == (0, 0)
    assert "0 created, 2 updated, 0 skipped, 0 rejected" in updated.stdout
    assert names(tmp_path) == ["Ann A.", "Bob", "Cid"]


def reasons_in(rejects: Path) -> list[str]:
    """Return why rows were rejected; nothing where there is no such file."""
    if not rejects.exists():
        return []
    csv.field_size_limit(2_000_000)
    with rejects.open(encoding="utf-8", newline="") as file:
        return [row["reason"] for row in csv.DictReader(file)]


def killed_in_the_middle(folder: Path, path: Path, number: signal.Signals) -> tuple[int, str, str]:
    """Send a signal to an import once it has said that a tenth is done; returns exit code, stdout and stderr."""
    importing = start(folder, "import", str(path))
    assert importing.stdout is not None
    seen = ""
    for line in importing.stdout:
        seen += line
        if line.startswith("10%: "):
            break
    importing.send_signal(number)
    out, error = importing.communicate(timeout=LONGEST)
    return importing.returncode, seen + out, error


@pytest.fixture
def many(tmp_path: Path) -> Path:
    rows = [["name", "email"], *([f"Lead {each}", f"lead{each}@example.com"] for each in range(MANY))]
    return write_csv(tmp_path / "many.csv", rows)


def test_an_import_that_was_killed_goes_on_and_every_row_is_there_once(tmp_path: Path, many: Path):
    code, _, _ = killed_in_the_middle(tmp_path, many, signal.SIGKILL)
    part, different = counts(tmp_path)

    again = run(tmp_path, "import", str(many))

    assert code == -signal.SIGKILL
    assert 0 < part < MANY
    assert part == different
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{MANY - part:,} created, 0 updated, {part:,} skipped, 0 rejected" in again.stdout
    assert counts(tmp_path) == (MANY, MANY)


def test_ctrl_c_stops_after_a_batch_and_says_how_to_go_on(tmp_path: Path, many: Path):
    code, shown, error = killed_in_the_middle(tmp_path, many, signal.SIGINT)
    part, _ = counts(tmp_path)

    (action,) = answer_of(run(tmp_path, "call", "list_actions", "--output", "json"))["actions"]

    assert (code, error) == (130, "")
    assert 0 < part < MANY
    assert part % 1000 == 0
    assert f"Interrupted after line {part + 1}. Running it again goes on there, without duplicates." in shown
    assert action["summary"] == f"import many.csv: {part} created, 0 updated, 0 skipped, 0 failed"


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", ".* is empty"),
    "without a header": (b"Ann,ann@example.com\n", "the file has no header line"),
    "without a known column": (b"colour\nred\n", "no column says who the leads are"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_list_of_leads_is_refused_in_one_line(tmp_path: Path, kind: str):
    content, said = BAD[kind]
    (tmp_path / "leads.csv").write_bytes(content)

    result = run(tmp_path, "import", "leads.csv")

    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert re.match(f"crm-mcp: invalid_argument: {said}", result.stderr), result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["leads.csv"]


ODD: dict[str, tuple[bytes, list[str], list[str]]] = {
    "Latin-1": ("name,company\nJos\u00e9,Caf\u00e9 Ca\u00f1a\n".encode("latin-1"), ["Jos\u00e9"], []),
    "with a BOM": ("name,company\nJos\u00e9,A\n".encode("utf-8-sig"), ["Jos\u00e9"], []),
    "with semicolons": (b'name;company\n"Bell; Ann";A\n', ["Bell; Ann"], []),
    "200 columns": (
        ("name," + ",".join(f"c{each}" for each in range(199)) + "\nAnn" + ",x" * 199 + "\n").encode(),
        ["Ann"],
        [],
    ),
    "a field of 1 MB": (
        b"name,company\nAnn,A\nBob," + b"x" * 1_000_000 + b"\nCid,C\n",
        ["Ann", "Cid"],
        ["company: 1,000,000 characters, at most 200"],
    ),
    "cut in the middle": (
        b'name,email\nAnn,ann@example.com\nBob,"bob@exa',
        ["Ann"],
        ["a quote opens here and never closes"],
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_read_and_what_cannot_be_read_of_it_is_rejected(tmp_path: Path, kind: str):
    content, wanted, reasons = ODD[kind]
    (tmp_path / "leads.csv").write_bytes(content)

    result = run(tmp_path, "import", "leads.csv")

    assert (result.returncode, result.stderr) == (0, "")
    assert names(tmp_path) == wanted
    assert reasons_in(tmp_path / "leads.rejected.csv") == reasons


def test_an_import_is_refused_where_only_reading_is_allowed(tmp_path: Path):
    path = write_csv(tmp_path / "leads.csv", PEOPLE)
    (tmp_path / "deny.toml").write_text('[policy.tools]\nimport_leads = "deny"\n')
    (tmp_path / "here.toml").write_text('[policy.connections.local]\nwrite = "deny"\n')

    read_only = run(tmp_path, "import", str(path), CRM_MCP_READ_ONLY="true")
    denied = run(tmp_path, "import", str(path), CRM_MCP_CONFIG="deny.toml")
    denied_here = run(tmp_path, "import", str(path), CRM_MCP_CONFIG="here.toml")

    for result in (read_only, denied, denied_here):
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("crm-mcp: forbidden: these settings forbid imports")
    assert not (tmp_path / "crm").exists()


def test_an_import_that_updates_is_refused_where_updates_are(tmp_path: Path):
    path = write_csv(tmp_path / "leads.csv", PEOPLE)
    (tmp_path / "deny.toml").write_text('[policy.tools]\nupdate_lead = "deny"\n')

    updating = run(tmp_path, "import", str(path), "--yes", "--if-exists", "update", CRM_MCP_CONFIG="deny.toml")
    creating = run(tmp_path, "import", str(path), "--yes", CRM_MCP_CONFIG="deny.toml")

    assert (updating.returncode, creating.returncode) == (1, 0)
    assert "these settings forbid imports; policy.tools.update_lead is deny" in updating.stderr


def test_an_import_that_another_person_is_to_approve_is_refused_and_a_large_one_by_its_size(tmp_path: Path):
    path = write_csv(tmp_path / "leads.csv", PEOPLE)
    (tmp_path / "approve.toml").write_text('[policy]\nwrite = "approve"\n')
    (tmp_path / "sizes.toml").write_text("[policy.sizes]\napprove_from = 2\n")

    approved = run(tmp_path, "import", str(path), "--yes", CRM_MCP_CONFIG="approve.toml")
    large = run(tmp_path, "import", str(path), "--yes", CRM_MCP_CONFIG="sizes.toml")

    for result in (approved, large):
        assert result.returncode == 1
        assert "wants the approval of another person" in result.stderr
    assert names(tmp_path) == []


def test_a_dry_run_writes_nothing(tmp_path: Path):
    path = write_csv(tmp_path / "leads.csv", PEOPLE)

    result = run(tmp_path, "import", str(path), CRM_MCP_DRY_RUN="true")

    assert result.returncode == 0
    assert "2 could be imported, 0 rejected" in result.stdout
    assert not (tmp_path / "crm").exists()


def test_a_crm_that_fails_is_said_in_one_line(tmp_path: Path):
    (tmp_path / "crm").mkdir()
    (tmp_path / "crm" / "crm.sqlite3").write_text("no database" * 1000)

    result = run(tmp_path, "import", str(write_csv(tmp_path / "leads.csv", PEOPLE)))

    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("crm-mcp: unreachable: ")
    (tmp_path / "crm" / "crm.sqlite3").unlink()
    (action,) = answer_of(run(tmp_path, "call", "list_actions", "--output", "json"))["actions"]
    assert action["status"] == "failed"
    assert "is no SQLite database" in action["reason"]


def test_on_a_terminal_the_import_is_asked_for_first(tmp_path: Path):
    path = write_csv(tmp_path / "leads.csv", PEOPLE)
    terminal, far_end = pty.openpty()
    asking = subprocess.Popen(
        command("import", str(path)),
        env=environment(tmp_path),
        stdin=far_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    os.close(far_end)
    assert asking.stderr is not None
    assert asking.stderr.readline() == "Import it?\n"

    os.write(terminal, b"n\n")
    asking.communicate(timeout=LONGEST)
    os.close(terminal)

    assert asking.returncode == 0
    assert not (tmp_path / "crm").exists()
