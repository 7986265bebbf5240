"""What a person says yes to is what was shown, whole: no other action, and no other text."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.cli.approvals import approve
from crm_mcp.config import PolicySettings, Settings
from crm_mcp.server.app import Application
from tests.hostile import FORGED, WORST, lines_of

from .running import LONGEST, command, environment, run, typed_in
from .test_guard_commands import ANN, QUEUE, agent, sent, sms

LONG = "Dear Ann,\n" + "\n".join(f"line {number} of the offer" for number in range(25)) + "\nyours, Bob"


def waiting(folder: Path, *messages: str) -> list[str]:
    """Let an agent ask for messages; returns the ids of what waits."""
    _, *rows = agent(folder, QUEUE, ("create_lead", ANN), *sms(*messages))
    return [row["action_id"] for row in rows]


def asked_for(folder: Path, ids: list[str], answer: Callable[[str], bool]) -> tuple[int, str, str]:
    """Approve as the command does, with these answers; returns the exit code, what was shown, and what was told."""
    settings = Settings(data_dir=folder / "crm", policy=PolicySettings.model_validate(QUEUE))
    seen, out = io.StringIO(), io.StringIO()
    with redirect_stderr(seen), redirect_stdout(out):
        code = anyio.run(approve, Application(settings), ids, answer)
    return code, seen.getvalue(), out.getvalue()


def test_each_action_is_shown_whole_and_asked_about(tmp_path: Path):
    ids = waiting(tmp_path, "Hello", LONG)
    questions: list[str] = []

    def answer(question: str) -> bool:
        questions.append(question)
        return question == f"Approve {ids[1]}?"

    code, seen, out = asked_for(tmp_path, ids, answer)

    assert questions == [f"Approve {each}?" for each in ids]
    heading = rf'^{ids[0]}  send_sms on local, asked by "\S+ via mcp", since 20\S+Z, until 20\S+Z$'
    assert re.search(heading, seen, re.MULTILINE)
    assert all(f"\n    | {line}\n" in seen for line in LONG.splitlines())
    assert (code, out.splitlines()) == (
        3,
        [f"{ids[0]}  pending_approval: not approved; it goes on waiting", f"{ids[1]}  done"],
    )
    assert sent(tmp_path) == [LONG]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("arguments", json.dumps({"lead": "L1", "message": "Something else"})),
        ("preview", "something else"),
        ("summary", "something else"),
        ("caller", "somebody else"),
    ],
)
def test_what_has_changed_since_it_was_shown_is_not_run(tmp_path: Path, column: str, value: str):
    [waits] = waiting(tmp_path, "Hello")

    def meanwhile(_: str) -> bool:
        with closing(sqlite3.connect(tmp_path / "crm" / "state.sqlite3")) as db, db:
            db.execute(f"UPDATE actions SET {column} = ? WHERE id = ?", (value, waits))
        return True

    code, _, out = asked_for(tmp_path, [waits], meanwhile)

    assert (code, out) == (1, f"{waits}  not decided: it has changed since it was shown; look at it again\n")
    assert sent(tmp_path) == []


def test_what_another_decided_meanwhile_is_told(tmp_path: Path):
    [waits] = waiting(tmp_path, "Hello")

    def meanwhile(_: str) -> bool:
        return run(tmp_path, "approvals", "decline", waits).returncode == 0

    code, _, out = asked_for(tmp_path, [waits], meanwhile)

    assert code == 1
    assert out.startswith(f"{waits}  declined: it does not wait for approval: declined by ")
    assert sent(tmp_path) == []


def queue(folder: Path) -> dict[str, str]:
    (folder / "guards.toml").write_text('[policy]\noutward = "approve"\nquiet_hours = "off"\n')
    return {"CRM_MCP_CONFIG": str(folder / "guards.toml")}


def test_without_a_terminal_nothing_runs_but_with_yes(tmp_path: Path):
    [waits] = waiting(tmp_path, "Hello")

    refused = run(tmp_path, "approvals", "approve", waits, answer="y\n", **queue(tmp_path))
    nothing = sent(tmp_path)
    done = run(tmp_path, "approvals", "approve", "--yes", waits, **queue(tmp_path))

    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "this is no terminal; with --yes it runs" in refused.stderr
    assert nothing == []
    assert (done.returncode, done.stderr) == (0, "")
    heading, *preview, told = done.stdout.splitlines()
    assert heading.startswith(f"{waits}  send_sms on local, asked by ")
    assert preview[0] == '    SMS to +14155550123, "Ann Bell" (L1): "Hello"'
    assert told == f"{waits}  done"
    assert sent(tmp_path) == ["Hello"]


@pytest.mark.parametrize("verdict", ["list", "decline"])
def test_yes_goes_with_approve_alone(tmp_path: Path, verdict: str):
    refused = run(tmp_path, "approvals", verdict, *(["a_1"] if verdict == "decline" else []), "--yes")

    assert (refused.returncode, refused.stderr) == (2, "crm-mcp: --yes goes with approve\n")


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"n\n", 3), (b"\n", 3), (b"\x03", 130)])
def test_on_a_terminal_it_is_asked_and_answered(tmp_path: Path, typed: bytes, code: int):
    [waits] = waiting(tmp_path, "Hello")
    ended, seen = typed_in(tmp_path, typed, "approvals", "approve", waits, **queue(tmp_path))

    assert f"Approve {waits}? [y/N] " in seen
    assert '    SMS to +14155550123, "Ann Bell" (L1): "Hello"\n' in seen
    assert ended == code
    assert sent(tmp_path) == (["Hello"] if code == 0 else [])


def test_no_line_of_the_queue_begins_with_what_a_record_or_text_says_however_narrow_the_terminal_is(tmp_path: Path):
    ann: dict[str, Any] = {**ANN, "name": "Ann " + " ".join(FORGED)[:150]}
    text = "Hello\n" + "\n".join(f"{' ' * 40}{forged}" for forged in FORGED) + "x" * 300 + FORGED[0]
    _, row = agent(tmp_path, QUEUE, ("create_lead", ann), *sms(text))
    terminal, far_end = pty.openpty()
    listing = subprocess.Popen(
        ["sh", "-c", 'stty cols 47; exec "$@"', "sh", *command("approvals")],
        env=environment(tmp_path, **queue(tmp_path)),
        stdin=far_end,
        stdout=far_end,
        stderr=far_end,
        cwd=tmp_path,
    )
    os.close(far_end)

    seen = b""
    try:
        while chunk := os.read(terminal, 10_000):
            seen += chunk
    except OSError:  # how a terminal says that its other end is closed
        pass
    listing.wait(LONGEST)
    os.close(terminal)

    lines = lines_of(seen.decode().replace("\r\n", "\n"))
    assert [line.split()[0] for line in lines if not line.startswith("    ")] == [row["action_id"]]
    assert all(len(line) <= 47 for line in lines)
    assert len(lines) > 30


def test_ids_from_elsewhere_are_one_line_each(tmp_path: Path):
    result = run(tmp_path, "approvals", "decline", WORST.replace("\x00", "").replace("\ud800", ""), "a_1")

    assert [line.split()[0] for line in lines_of(result.stdout)][1:] == ["a_1"]
    assert result.returncode == 1
