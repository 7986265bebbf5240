"""Settings decide what is served, and the server says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client

from crm_mcp.backends.local import Local
from crm_mcp.config import load
from crm_mcp.server.app import Application
from crm_mcp.server.tools import TOOLS

from .conftest import Start
from .talk import DECLINE, JANE, Talk, environment
from .test_every_tool import ACTING, READING

COMMON = {"list_actions", "list_options"}


def of(*toolsets: str) -> set[str]:
    """Return the tools of these toolsets that the embedded CRM can serve."""
    return {
        each.name
        for each in TOOLS
        if each.toolset in toolsets and all(issubclass(Local, capability) for capability in each.needs)
    }


def test_read_only_serves_reading_tools_alone(start: Start) -> None:
    crm = start(settings={"read_only": "true"})

    assert set(crm.tools()) == set(READING)
    assert all(each.annotations and each.annotations.read_only_hint for each in crm.tools().values())
    for tool in ("create_lead", "send_sms", "confirm_action", "undo_action"):
        assert crm.refused(tool, lead=JANE).startswith(f"forbidden: {tool} is not served")
    assert crm.ok("crm_status")["policy"]["read_only"] is True


@pytest.mark.parametrize(
    ("settings", "served"),
    [
        ({"toolsets": "leads,tasks"}, of("leads", "tasks") | COMMON),
        ({"toolsets": "outreach"}, of("outreach") | COMMON | {"confirm_action"}),
        ({"toolsets": "leads", "tools": "send_sms"}, of("leads") | COMMON | {"send_sms", "confirm_action"}),
        ({"tools": "get_lead, log_note"}, {"get_lead", "log_note"}),
        ({"tools": "get_lead,log_note", "read_only": "true"}, {"get_lead"}),
        (
            {"toolsets": "tasks", "exclude_tools": "update_task,list_options"},
            {"list_tasks", "create_task", "list_actions"},
        ),
        ({"tools": "send_sms", "exclude_tools": "confirm_action"}, {"send_sms"}),
        ({"tools": "send_sms", "confirm_fallback": "deny"}, {"send_sms"}),
    ],
)
async def test_toolsets_and_single_tools_are_chosen_and_exclusion_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], served: set[str]
) -> None:
    for name, value in ({"data_dir": str(tmp_path)} | settings).items():
        monkeypatch.setenv(f"CRM_MCP_{name.upper()}", value)

    async with Client(Application(load()).server) as client:
        assert {each.name for each in (await client.list_tools()).tools} == served


def test_a_dry_run_says_what_would_happen_and_does_nothing(start: Start) -> None:
    crm = start(settings={"dry_run": "true"})
    jane = crm.read(JANE, "notes", "tasks", "deals", "messages")
    found = crm.ok("crm_status")["connections"]
    arguments = {
        "create_lead": {"name": "x"},
        "update_lead": {"lead": JANE, "title": "x"},
        "tag_lead": {"lead": JANE, "add": ["x"]},
        "log_note": {"lead": JANE, "content": "x"},
        "create_task": {"title": "x", "lead": JANE},
        "update_task": {"task": jane["tasks"][0]["id"], "completed": True},
        "create_deal": {"name": "x", "lead": JANE},
        "update_deal": {"deal": jane["deals"][0]["id"], "value": 1},
        "move_stage": {"lead": JANE, "stage": "Negotiation"},
        "send_email": {"lead": JANE, "subject": "x", "body": "x"},
        "send_sms": {"lead": JANE, "message": "x"},
        "enroll_in_sequence": {"sequence": "Follow-up", "leads": [JANE]},
        "unenroll_from_sequence": {"sequence": "Follow-up", "leads": [JANE]},
        "set_do_not_contact": {"lead": JANE, "blocked": True},
        "import_leads": {"leads": [{"name": "x"}] * 200},
        "delete_record": {"kind": "lead", "id": jane["lead"]["id"]},
    }
    assert {*arguments, "undo_action"} == set(ACTING)

    told: list[str] = []
    for tool, given in arguments.items():
        result = crm.ok(tool, **given)
        assert result["status"] == "dry_run", tool
        assert result["preview"].startswith(result["summary"])
        told.append(result["action_id"])

    assert crm.user.asked == []
    assert crm.read(JANE, "notes", "tasks", "deals", "messages") == jane
    listed = crm.ok("list_actions", limit=100)["actions"]
    assert [(each["action_id"], each["status"]) for each in listed] == [(each, "dry_run") for each in told[::-1]]
    assert crm.ok("crm_status")["connections"] == found


def test_a_dry_run_refuses_what_would_be_refused(start: Start) -> None:
    crm = start(settings={"dry_run": "true"})

    assert crm.refused("update_lead", lead="L999999", title="x").startswith("not_found: ")
    assert crm.refused("create_lead", name="x", email="nope").startswith("invalid_argument: ")


def test_denied_where_nobody_can_be_asked(start: Start) -> None:
    crm = start(asked=False, settings={"confirm_fallback": "deny"})
    assert "confirm_action" not in crm.tools()

    for tool, arguments in (
        ("send_sms", {"lead": JANE, "message": "x"}),
        ("delete_record", {"kind": "lead", "id": "L1"}),
    ):
        result = crm.ok(tool, **arguments)
        assert result["status"] == "blocked"
        assert "unconfirmed actions are denied here" in result["reason"]
    assert crm.refused("confirm_action", action_id=result["action_id"], summary="x").startswith("forbidden: ")

    assert "outbound" in {each["direction"] for each in crm.sent(JANE)}
    assert all(each.get("body") != "x" for each in crm.sent(JANE))
    assert crm.read("L1")["lead"]["id"] == "L1"


@pytest.fixture
def policy(tmp_path: Path, start: Start) -> Talk:
    """A server with a policy of its own."""
    file = tmp_path / "settings.toml"
    file.write_text(
        '[connections.work]\nvendor = "local"\ndefaults = { mailbox = "support@northwind-supply.example" }\n'
        '[policy]\ndestructive = "deny"\noutward = "allow"\n'
        '[policy.tools]\nmove_stage = "confirm"\ncreate_deal = "deny"\n'
    )
    return start("legacy", settings={"config": str(file)})


def test_the_policy_of_the_settings_file_holds(policy: Talk) -> None:
    def ok(tool: str, **arguments: object) -> dict[str, object]:
        result = policy.call(tool, **arguments)
        assert not result.is_error
        assert result.structured_content["crm"] == "work"
        return result.structured_content

    assert {"delete_record", "create_deal"} & set(policy.tools()) == set()
    assert policy.refused("delete_record", kind="lead", id="L1").startswith("forbidden: ")
    assert policy.refused("create_deal", name="x").startswith("forbidden: ")

    policy.user.answer = DECLINE
    assert ok("move_stage", lead=JANE, stage="Negotiation")["status"] == "declined"
    assert "Acme Robotics pilot" in policy.user.asked[0]
    assert "Negotiation" in policy.user.asked[0]
    sent = ok("send_email", lead=JANE, subject="Hi", body="Hello")
    assert sent["status"] == "done"
    assert len(policy.user.asked) == 1

    assert ok("crm_status")["policy"] == {
        "read": "allow",
        "write": "allow",
        "outward": "allow",
        "destructive": "deny",
        "move_stage": "confirm",
        "create_deal": "deny",
        "read_only": False,
        "dry_run": False,
    }


def test_lifting_do_not_contact_is_asked_even_where_the_policy_allows_it(policy: Talk) -> None:
    policy.call("set_do_not_contact", lead=JANE, blocked=True)
    policy.user.answer = DECLINE

    result = policy.call("set_do_not_contact", lead=JANE, blocked=False)

    assert result.structured_content["status"] == "declined"
    assert len(policy.user.asked) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"toolset": "leads"}, "CRM_MCP_TOOLSET is no setting"),
        ({"toolsets": "lead"}, 'nearest: "leads"'),
        ({"exclude_tools": "send_smss"}, 'nearest: "send_sms"'),
    ],
)
def test_a_wrong_setting_stops_the_start_and_names_the_right_one(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "crm_mcp", "serve"],
        env=environment(tmp_path, settings),
        input="",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_verdict_on_a_tool_holds_for_those_that_do_its_work(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[policy.tools]\nupdate_lead = "deny"\nmove_stage = "confirm"\nconfirm_action = "deny"\n')
    crm = start("modern", settings={"config": str(file)})
    lead = crm.lead(name="Ada", email="ada-by-way@example.com")

    upsert = {"email": "ada-by-way@example.com", "title": "CEO", "if_exists": "update"}
    assert crm.refused("create_lead", **upsert).startswith("forbidden: the policy denies create_lead")
    assert crm.refused("import_leads", leads=[{"name": "Ada"}], if_exists="update").startswith("forbidden: ")
    moved = crm.ok("move_stage", lead=lead, stage="Contacted")
    crm.user.answer = DECLINE
    assert crm.ok("undo_action", action_id=moved["action_id"])["status"] == "declined"
    assert crm.read(lead)["lead"]["stage"] == "Contacted"
    assert "title" not in crm.read(lead)["lead"]
    assert "confirm_action" not in crm.tools()
