"""What is wrong with the settings, as a person at the terminal sees it: one line, exit code 2, in every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

KEY = "sk-canary-4711"
FILES = {
    "malformed.toml": "[policy",
    "two.toml": "[connections.work]\n[connections.home]\n",
    "keyless.toml": '[connections.work]\nvendor = "dialsheet"\n',
    "tool.toml": '[policy.tools]\nimport_lead = "deny"\n',
    "key.toml": f'[connections.work]\napi_key = "{KEY}"\n',
}
WRONG = {
    "CRM_MCP_READONLY=1": 'CRM_MCP_READONLY is no setting; valid: .*; nearest: "CRM_MCP_READ_ONLY"',
    "CRM_MCP_VENDOR=dialshet": '"dialshet" is no vendor; valid: local, .*; nearest: "dialsheet"',
    "CRM_MCP_VENDOR=dialsheet": "the connection dialsheet .dialsheet. has no key; give CRM_MCP_API_KEY, or api_key",
    "CRM_MCP_BASE_URL=http://crm.example.com": "CRM_MCP_BASE_URL is http://, which would send the key in the clear",
    "CRM_MCP_TEST_MINUTE=soon": "CRM_MCP_TEST_MINUTE: give seconds, as 0.5",
    "CRM_MCP_TOOLS=get_led": 'CRM_MCP_TOOLS: "get_led" is no tool; .*; nearest: "get_lead"',
    "CRM_MCP_CONFIRM_FALLBACK=approve": 'CRM_MCP_CONFIRM_FALLBACK: "approve" is none of its values; valid: token, a',
    f"CRM_MCP_DATABASE_URL=mysql://{KEY}@db": "CRM_MCP_DATABASE_URL is no postgresql:// address; give one as ",
    "CRM_MCP_CONFIG=malformed.toml": "malformed.toml can't be read: ",
    "CRM_MCP_CONFIG=two.toml": "several connections are local, which would be one CRM under several names",
    "CRM_MCP_CONFIG=keyless.toml": "the connection work .dialsheet. has no key; give CRM_MCP_API_KEY, or api_key",
    "CRM_MCP_CONFIG=tool.toml": 'policy.tools: "import_lead" is no tool; .*; nearest: "import_leads"',
    "CRM_MCP_CONFIG=key.toml": 'connections.work.api_key is given as "env:NAME", "keyring:SERVICE/USER" or "file:PATH"',
}


def run(home: Path, setting: str, *command: str) -> subprocess.CompletedProcess[str]:
    for name, text in FILES.items():
        (home / name).write_text(text)
    (home / "leads.csv").write_text("name\nAnn\n")
    name, _, value = setting.partition("=")
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "crm_mcp", *command],
        env={**os.environ, "CRM_MCP_DATA_DIR": str(home / "crm"), name: value},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=home,
    )


def assert_refused(result: subprocess.CompletedProcess[str], home: Path, said: str) -> None:
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("crm-mcp: ")
    assert re.search(said, result.stderr), result.stderr
    assert KEY not in result.stderr
    assert not (home / "crm").exists()


@pytest.mark.parametrize("setting", WRONG)
def test_check_stops_with_one_line(home: Path, setting: str):
    assert_refused(run(home, setting, "check"), home, WRONG[setting])


@pytest.mark.parametrize(
    "command",
    [[], ["serve", "--http", "127.0.0.1:1"], ["tools"], ["call", "crm_status"], ["import", "leads.csv"]],
)
def test_every_command_stops_with_the_same_line(home: Path, command: list[str]):
    setting = "CRM_MCP_CONFIG=tool.toml"

    assert_refused(run(home, setting, *command), home, WRONG[setting])
