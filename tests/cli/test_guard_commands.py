"""`approvals`, `outbound` and `audit`: what a person decides and looks up, while agents only wait."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client

from crm_mcp.config import PolicySettings, Settings
from crm_mcp.server.app import Application

from .running import run, run_afresh

ANN = {"name": "Ann Bell", "email": "ann@example.com", "phone": "+14155550123"}
BY_DAY: dict[str, Any] = {"quiet_hours": "off"}
QUEUE: dict[str, Any] = {**BY_DAY, "outward": "approve"}


def agent(folder: Path, policy: Mapping[str, Any], *calls: tuple[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make the calls of an agent, whose host says yes to every question; returns the structured results."""

    async def yes(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"confirm": True})

    async def talk() -> list[dict[str, Any]]:
        server = Application(Settings(data_dir=folder / "crm", policy=PolicySettings.model_validate(policy))).server
        async with Client(server, elicitation_callback=yes) as client:
            return [(await client.call_tool(tool, dict(given))).structured_content or {} for tool, given in calls]

    return anyio.run(talk)


def sms(*messages: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [("send_sms", {"lead": "L1", "message": each}) for each in messages]


def sent(folder: Path) -> list[str]:
    [found] = agent(folder, BY_DAY, ("get_lead", {"lead": "L1", "include": ["messages"]}))
    return [each["body"] for each in found["messages"]]


def test_what_waits_is_listed_and_done_or_declined_by_its_id(tmp_path: Path):
    (tmp_path / "guards.toml").write_text('[policy]\noutward = "approve"\nquiet_hours = "off"\n')
    queue = {"CRM_MCP_CONFIG": str(tmp_path / "guards.toml")}
    _, yes, no, left = agent(tmp_path, QUEUE, ("create_lead", ANN), *sms("Hello 0", "Hello 1", "Hello 2"))
    assert {yes["status"], no["status"], left["status"]} == {"pending_approval"}

    listed = run_afresh(tmp_path, "approvals", **queue)
    approved = run(tmp_path, "approvals", "approve", "--yes", yes["action_id"], "a_nonesuch", **queue)
    declined = run(tmp_path, "approvals", "decline", no["action_id"], **queue)
    again = run(tmp_path, "approvals", "approve", "--yes", yes["action_id"], no["action_id"], **queue)

    assert (listed.returncode, listed.stderr) == (0, "")
    ids = [line.split()[0] for line in listed.stdout.splitlines() if line.startswith("a_")]
    assert ids == [each["action_id"] for each in (yes, no, left)]
    assert '    SMS to +14155550123, "Ann Bell" (L1): "Hello 0"\n' in listed.stdout
    assert approved.returncode == 1, "one of the two is no action"
    assert f"{yes['action_id']}  done\n" in approved.stdout
    assert "a_nonesuch  not found: see `crm-mcp approvals`\n" in approved.stdout
    assert (declined.returncode, declined.stdout) == (0, f"{no['action_id']}  declined\n")
    assert again.returncode == 1
    assert f"{yes['action_id']}  done: it does not wait for approval\n" in again.stdout
    assert re.search(rf"{no['action_id']}  declined: it does not wait for approval: declined by \S", again.stdout)
    assert sent(tmp_path) == ["Hello 0"]
    [found] = agent(tmp_path, QUEUE, ("list_actions", {}))
    by = {each["action_id"]: each.get("approved_by", "") for each in found["actions"]}
    assert by[yes["action_id"]].startswith("approval: ")
    assert run(tmp_path, "approvals", "list", **queue).stdout.startswith(left["action_id"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aprove", "a_1"], '"aprove" is none of its commands; valid: list, approve, decline; nearest: "approve"'),
        (["approve"], "`approvals approve` takes the ids of the actions"),
        (["list", "a_1"], "`approvals list` takes no ids"),
    ],
)
def test_approvals_says_what_it_takes(tmp_path: Path, words: list[str], said: str):
    result = run(tmp_path, "approvals", *words)

    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"crm-mcp: {said}\n")


def test_the_kill_switch_stops_what_goes_out_until_it_is_lifted(tmp_path: Path):
    _, waiting = agent(tmp_path, QUEUE, ("create_lead", ANN), *sms("Hello there"))

    off = run_afresh(tmp_path, "outbound", "off")
    [blocked] = agent(tmp_path, BY_DAY, *sms("Hello"))
    not_yet = run(tmp_path, "approvals", "approve", "--yes", waiting["action_id"])
    how = run(tmp_path, "outbound")
    nothing = sent(tmp_path)
    on = run(tmp_path, "outbound", "on")
    [done] = agent(tmp_path, BY_DAY, *sms("Hello"))

    assert off.stdout.startswith("outbound is off: ")
    assert how.stdout == off.stdout
    assert blocked["status"] == "blocked"
    assert "kill switch" in blocked["reason"]
    assert not_yet.returncode == 1
    assert "kill switch" in not_yet.stdout
    assert nothing == []
    assert (on.returncode, on.stdout) == (0, "outbound is on\n")
    assert done["status"] == "done"
    assert sent(tmp_path) == ["Hello"]


def test_what_the_settings_file_turned_off_no_command_turns_on(tmp_path: Path):
    (tmp_path / "guards.toml").write_text('[policy]\noutbound = "off"\n')
    off = {"CRM_MCP_CONFIG": str(tmp_path / "guards.toml")}

    on = run(tmp_path, "outbound", "on", **off)

    assert (on.returncode, on.stderr) == (1, "")
    assert on.stdout == (
        "outbound is off: policy.outbound in the settings file says so, and only a change there lifts it\n"
    )
    assert run(tmp_path, "outbound", "of").stderr == 'crm-mcp: "of" is neither on nor off\n'


def test_the_log_is_printed_and_found_to_be_as_it_was_written_until_somebody_changes_it(tmp_path: Path):
    agent(tmp_path, {"destructive": "approve"}, ("create_lead", ANN), ("delete_record", {"kind": "lead", "id": "L1"}))

    lines = run_afresh(tmp_path, "audit")
    entries = [json.loads(line) for line in run(tmp_path, "audit", "--json", "--since", "1h").stdout.splitlines()]
    whole = run(tmp_path, "audit", "--verify")
    head = whole.stdout.splitlines()[-1].removeprefix("head: ")
    with_head = run(tmp_path, "audit", "--verify", "--head", head)
    with closing(sqlite3.connect(tmp_path / "crm" / "state.sqlite3")) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        db.execute("DELETE FROM audit WHERE no = (SELECT max(no) FROM audit)")
        db.commit()
    cut = run(tmp_path, "audit", "--verify")
    cut_with_head = run(tmp_path, "audit", "--verify", "--head", head)

    assert "audit" in tables
    assert len(lines.stdout.splitlines()) == len(entries) >= 3
    assert [each["no"] for each in entries] == [*range(1, len(entries) + 1)]
    assert {"create_lead", "delete_record"} <= {each.get("tool") for each in entries}
    assert "approve by policy.destructive" in lines.stdout
    assert (whole.returncode, with_head.returncode) == (0, 0)
    assert f"{len(entries)} entries, each as it was written\n" in whole.stdout
    assert "not proved: " in whole.stdout
    assert cut.returncode == 0, "without a head a cut tail can't be seen, and that is said"
    assert "not proved: " in cut.stdout
    assert cut_with_head.returncode == 1
    assert "FAULT: " in cut_with_head.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--head", "abc"], 2, "--head goes with --verify"),
        (["--verify", "--json"], 2, "--verify looks at the whole log; it takes --head alone"),
        (["--since", "yesterday"], 1, 'invalid_argument: --since: "yesterday" is no time'),
    ],
)
def test_audit_says_what_it_takes(tmp_path: Path, words: list[str], code: int, said: str):
    result = run(tmp_path, "audit", *words)

    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (code, "", 1)
    assert said in result.stderr


def test_where_nothing_was_done_yet_there_is_nothing_to_decide(tmp_path: Path):
    assert run(tmp_path, "approvals").stdout == "nothing waits for approval\n"
    assert run(tmp_path, "outbound").stdout == "outbound is on\n"
