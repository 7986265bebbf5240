"""The TOML file: connection, keys by reference, policy; and everything in it that stops the start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crm_mcp.actions.declared import Effect
from crm_mcp.config import load
from crm_mcp.server.app import Application

from .conftest import refusal

Write = Callable[[str], Path]
KEY = "sk-canary-4711"

WHOLE = """
[connections.work]
vendor = "local"
defaults = { mailbox = "sales@example.com" }

[policy]
outward = "deny"

[policy.tools]
move_stage = "confirm"
"""


def test_a_file_names_the_connection_its_defaults_and_the_policy(write: Write):
    write(WHOLE)

    application = Application(load())

    assert (application.settings.connections[0].name, application.settings.connections[0].defaults.mailbox) == (
        "work",
        "sales@example.com",
    )
    assert application.policy.verdict("send_sms", Effect.OUTWARD) == "deny"
    assert application.policy.verdict("move_stage", Effect.WRITE) == "confirm"
    assert application.policy.verdict("update_lead", Effect.WRITE) == "allow"
    assert application.policy.verdict("delete_record", Effect.DESTRUCTIVE) == "confirm"


def test_the_file_of_the_user_is_read_where_none_is_named(home: Path):
    folder = home / "config" / "crm-mcp"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(WHOLE)

    assert load().connections[0].name == "work"


def test_the_working_directory_is_never_read(home: Path):
    for name in ("config.toml", "crm-mcp.toml", ".env", "crm_mcp.toml"):
        (home / name).write_text('[policy]\noutward = "allow"\n' if name != ".env" else "CRM_MCP_READ_ONLY=true\n")

    settings = load()

    assert (settings.policy.outward, settings.read_only) == ("confirm", False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[polcy]\n", 'crm.toml: polcy is no setting; valid: connections, policy, audit; nearest: "policy"'),
        ('[policy]\noutwards = "deny"\n', "crm.toml: policy.outwards is no setting; valid: read, write, outward"),
        ('[policy]\nwrite = "confrim"\n', 'crm.toml: policy.write: "confrim" is none of its values; valid: allow,'),
        ('[policy]\nread = "confirm"\n', 'crm.toml: policy.read: "confirm" is none of its values; valid: allow, deny'),
        ('[policy]\nread = "approve"\n', 'crm.toml: policy.read: "approve" is none of its values; '),
        ("[policy]\nwrite = 1\n", "crm.toml: policy.write: "),
        ('[policy.tools]\nsend_sms = "ask"\n', 'crm.toml: policy.tools.send_sms: "ask" is none of its values; '),
        ('[policy.tools]\nsend_smss = "deny"\n', 'policy.tools: "send_smss" is no tool; valid: '),
        ('[connections.work]\nvendr = "local"\n', "connections.work.vendr is no setting; valid: vendor, api_key"),
        ('[connections.work]\nname = "home"\n', "connections.work.name is no setting; valid: vendor, api_key"),
        ('[connections.work.defaults]\nmailbx = "a"\n', "connections.work.defaults.mailbx is no setting; valid: mailb"),
        ('[connections.work]\nvendor = "locl"\n', '"locl" is no vendor; valid: local, dialsheet, '),
        ('[connections."my work"]\n', '"my work" is no connection name; '),
        ("[connections]\nwork = 1\n", "crm.toml: connections.work: "),
        ("connections = []\n", "crm.toml: connections: "),
        ("[connections.work]\n[connections.home]\n", "several connections are local, which would be one CRM under"),
        ("[connections.work]\nvendor = 1\n", "connections.work.vendor: "),
        ("[connections.work]\nper_minute = 0\n", "connections.work.per_minute: "),
        ("[connections.work]\nper_minute = true\n", "connections.work.per_minute: "),
        ('[connections.work]\nteam_id = "a b"\n', "connections.work.team_id is empty, or has characters"),
        ("[connections.work]\nkeys = { stage = 1 }\n", "connections.work.keys.stage: "),
        ('[policy.operations]\nx = "ask"\n', 'crm.toml: policy.operations.x: "ask" is none of its values; '),
        ("policy = \n", "crm.toml can't be read: "),
        ("[policy]\n[policy]\n", "crm.toml can't be read: "),
    ],
)
def test_what_is_wrong_in_the_file_stops_the_start_by_its_name(write: Write, text: str, said: str):
    write(text)

    assert refusal().startswith(said)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ('[policy]\noutwards = "deny"\n', "outward"),
        ('[policy]\nwrite = "confrim"\n', "confirm"),
        ('[policy.tools]\nsend_smss = "deny"\n', "send_sms"),
        ('[connections.work]\nvendr = "local"\n', "vendor"),
        ('[connections.work]\nvendor = "locl"\n', "local"),
        ('[connections.work]\nkey = { stage = "x" }\n', "keys"),
        ('[connections.work.defaults]\nmailbx = "a"\n', "mailbox"),
    ],
)
def test_the_nearest_valid_key_or_value_is_named(write: Write, text: str, nearest: str):
    write(text)

    assert refusal().endswith(f'nearest: "{nearest}"')


def test_a_named_file_must_be_there_and_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_CONFIG", str(tmp_path / "none.toml"))
    missing = refusal()
    (tmp_path / "latin.toml").write_bytes("[policy]\n# caf\u00e9\n".encode("latin-1"))
    monkeypatch.setenv("CRM_MCP_CONFIG", str(tmp_path / "latin.toml"))
    latin = refusal()
    monkeypatch.setenv("CRM_MCP_CONFIG", str(tmp_path))

    assert missing == f"CRM_MCP_CONFIG names {tmp_path / 'none.toml'}, which does not exist"
    assert latin.startswith("latin.toml can't be read: ")
    assert refusal().startswith(f"{tmp_path.name} can't be read: ")


def test_a_key_with_another_mistake_beside_it_is_not_shown(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORK_KEY", KEY)
    write('[connections.work]\napi_key = "env:WORK_KEY"\nbasis = "x"\n')

    assert KEY not in refusal()
