"""The secrets that seal cursors and the audit log: made once, whoever is first, and nobody else's business."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from crm_mcp.config import AuditSettings, Settings, audit_key, sealing_key
from crm_mcp.errors import Unreachable

PROGRAM = (
    "import sys; from pathlib import Path; from crm_mcp.config import sealing_key;"
    "print('ready', flush=True); sys.stdin.readline(); print(sealing_key(Path(sys.argv[1])).hex())"
)


def test_it_is_the_same_for_processes_that_start_together(tmp_path: Path):
    folder = tmp_path / "data"
    racing = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for each in racing:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"

    for each in racing:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    keys = {each.communicate(timeout=20)[0].strip() for each in racing}

    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert [each.name for each in folder.iterdir()] == ["key"]


def test_it_is_kept_for_its_owner_alone(tmp_path: Path):
    folder = tmp_path / "data"

    key = sealing_key(folder)

    assert (folder / "key").read_bytes() == key
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_it_differs_from_folder_to_folder(tmp_path: Path):
    assert sealing_key(tmp_path / "a") != sealing_key(tmp_path / "b")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(Unreachable, match="CRM_MCP_DATA_DIR"):
        sealing_key(tmp_path / "file" / "data")


def test_the_audit_log_has_a_key_of_its_own_that_is_kept_for_its_owner_alone(tmp_path: Path):
    settings = Settings(data_dir=tmp_path / "data")

    key = audit_key(settings.audit.key, settings.data_dir)

    kept = tmp_path / "data" / "audit.key"
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (key, 0o600)
    assert key != sealing_key(tmp_path / "data")
    assert audit_key(settings.audit.key, settings.data_dir) == key


def test_the_key_of_the_audit_log_that_is_set_is_taken_and_nothing_is_written(tmp_path: Path):
    settings = Settings(data_dir=tmp_path / "data", audit=AuditSettings(key=SecretStr("a key of somewhere else")))

    assert audit_key(settings.audit.key, settings.data_dir) == b"a key of somewhere else"
    assert not (tmp_path / "data").exists()
