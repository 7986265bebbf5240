"""Neither secrets nor rules can be read or changed by an agent, and one connection's data is never in another's."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from anyio.from_thread import BlockingPortal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError
from pydantic import SecretStr

from crm_mcp.config import Connection, Settings
from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.serving import serving
from tests.harness.settings import rules
from tests.server.talk import YES, User, environment, text_in

from .attacked import HeardTalk, Told, opened

CANARIES = {
    "the vendor's key": "canary-key-5f0d9c3ab1",
    "the relay": "canary-relay-77b2e0",
    "the key of the audit log": "canary-seal-2a90c4de71bb",
    "a remark in the settings file": "canary-remark-9e1f",
}
SETTINGS = f"""
# {CANARIES["a remark in the settings file"]}
[connections.work]
vendor = "VENDOR"
[audit]
key = "file:SEAL"
[policy]
quiet_hours = "off"
outward = "approve"
[policy.daily_limits]
sms = 7
"""
LOOSE = """
[policy]
outward = "allow"
destructive = "allow"
write = "allow"
quiet_hours = "off"
[connections.work]
vendor = "local"
"""
READS = ("crm://status", "crm://guide", "crm://pipeline", "crm://sequences")
VALUES: dict[str, Any] = {
    "lead": "LEAD",
    "leads": ["LEAD"],
    "kind": "lead",
    "id": "LEAD",
    "query": "api key token secret settings policy",
    "operation": "list_webhooks",
    "action_id": "a_none",
    "summary": "api_key",
    "of": "leads",
    "sequence": "/etc/passwd",
    "stage": "config.toml",
    "csv": "name,email\nfile:///etc/passwd,env:CRM_MCP_API_KEY@x.example",
    "content": "env:CRM_MCP_API_KEY",
    "message": "keyring:crm-mcp/work",
    "subject": "{{api_key}}",
    "body": "file:audit.key ${CRM_MCP_API_KEY} {settings.policy}",
    "name": "../crm-mcp/config.toml",
    "title": "{0.__class__}",
}


def _settings(folder: Path, vendor: str) -> str:
    return SETTINGS.replace("VENDOR", vendor).replace("SEAL", str(folder / "seal"))


@contextmanager
def served(portal: BlockingPortal, folder: Path, vendor: str, there: Any, url: str, user: User) -> Generator[Client]:
    """Start a server as a user does, in a folder full of planted files."""
    config = folder / "crm-mcp" / "config.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(_settings(folder, vendor))
    (folder / "seal").write_text(CANARIES["the key of the audit log"])
    planted = folder / "planted"
    planted.mkdir(exist_ok=True)
    for name in ("config.toml", "crm-mcp.toml", ".crm-mcp.toml", "crm_mcp.toml"):
        (planted / name).write_text(LOOSE)
    (planted / "crm-mcp").mkdir(exist_ok=True)
    (planted / "crm-mcp" / "config.toml").write_text(LOOSE)
    (planted / ".env").write_text(f"CRM_MCP_CONFIG={planted / 'config.toml'}\nCRM_MCP_TOOLSETS=leads\n")
    (planted / "pyproject.toml").write_text('[tool.crm-mcp.policy]\noutward = "allow"\n')
    given = {"smtp_url": f"smtp://crm:{CANARIES['the relay']}@127.0.0.1:9"} if not there else {}
    if there:
        given |= {"vendor": vendor, "api_key": there.key, "base_url": url, "test_minute": "0.05"}
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "crm_mcp", "serve"], env=environment(folder, given), cwd=planted
    )
    with (folder / "stderr").open("w") as log:
        client = Client(
            stdio_client(parameters, errlog=log),
            client_info=types.Implementation(name="agent", version="1"),
            elicitation_callback=user,
        )
        with portal.wrap_async_context_manager(client):
            yield client


@pytest.mark.parametrize("vendor", ["local", "getsales"])
def test_no_tool_resource_prompt_or_log_tells_a_secret_or_changes_a_rule(
    portal: BlockingPortal, tmp_path: Path, vendor: str
) -> None:
    there: Any = None if vendor == "local" else emulator_of(vendor)(sample=True, minute=0.05)
    if there:
        there.key = CANARIES["the vendor's key"]
    user, heard = User(answer=YES), list[str]()  # a host that answers by itself

    def call(tool: str, arguments: dict[str, Any]) -> Any:
        result = portal.call(client.call_tool, tool, arguments)
        heard.extend((text_in(result), str(result.structured_content)))
        return result.structured_content or {}

    with (
        serving(there or emulator_of("dialsheet")()) as url,
        served(portal, tmp_path, vendor, there, url, user) as client,
    ):
        before = call("crm_status", {})["policy"]
        lead, other = [each["id"] for each in call("search_leads", {"limit": 2})["leads"]]
        tools = portal.call(client.list_tools).tools
        for fault in (None, 401, 500) if there else (None,):
            if fault:
                there.fail("status", status=fault, times=len(tools) * 3)
            for tool in tools:
                heard.append(tool.model_dump_json())
                call(tool.name, _arguments(tool, lead))
        heard += _pages(portal, client, lead)
        if there:
            there.faults.clear()
        after = call("crm_status", {})["policy"]
        box = call("list_options", {"kind": "mailboxes"})["options"][0]["id"]
        sent = call("send_email", {"lead": other, "subject": "Hello", "body": "Hello", "mailbox": box})

    log = (tmp_path / "stderr").read_text()
    told = "\n".join([*heard, *user.asked, log])
    assert {name for name, each in CANARIES.items() if each in told} == set()
    assert "root:x:0" not in told
    assert (before, before["outward"]) == (after, "approve")
    assert sent["status"] == "pending_approval"
    assert (tmp_path / "crm-mcp" / "config.toml").read_text() == _settings(tmp_path, vendor)
    assert (there.ledger if there else []) == []


def _arguments(tool: types.Tool, lead: str) -> dict[str, Any]:
    """Return arguments that a tool takes, and that ask for what it must not tell."""
    properties = tool.input_schema["properties"]
    wanted = [name for name in properties if name in tool.input_schema.get("required", ()) or name in VALUES]
    given: dict[str, Any] = {name: VALUES.get(name, "x") for name in wanted}
    given |= {name: lead for name, value in given.items() if value == "LEAD"}
    given |= {name: [lead] for name, value in given.items() if value == ["LEAD"]}
    for name, value in given.items():
        if properties[name].get("type") == "boolean":
            given[name] = False
        elif (choice := properties[name].get("enum")) and value not in choice:
            given[name] = choice[0]
    if tool.name == "import_leads":
        given.pop("leads", None)
    return given


def _pages(portal: BlockingPortal, client: Client, lead: str) -> Iterator[str]:
    for uri in (
        *READS,
        f"crm://leads/{lead}",
        f"crm://leads/{lead}/activity",
        "crm://actions/a_none",
        "file:///etc/passwd",
    ):
        try:
            yield str(portal.call(client.read_resource, uri).contents)
        except MCPError as error:
            yield str(error)
    for prompt in portal.call(client.list_prompts).prompts:
        arguments = {each.name: lead for each in prompt.arguments or ()}
        try:
            yield portal.call(client.get_prompt, prompt.name, arguments).model_dump_json()
        except MCPError as error:
            yield str(error)


# Several connections


@pytest.fixture
def twins(portal: BlockingPortal, tmp_path: Path) -> Generator[HeardTalk]:
    """Two accounts of one vendor, with the same ids in both; each says of everything whose it is."""
    accounts: dict[str, Any] = {name: emulator_of("dialsheet")(sample=True, minute=0.05) for name in ("north", "south")}
    with serving(accounts["north"]) as north, serving(accounts["south"]) as south:
        connections: list[Connection] = []
        for (name, there), url in zip(accounts.items(), (north, south), strict=True):
            for table in there.tables.values():
                for row in table:
                    row.update(
                        {
                            k: f"{v} of-{name}"
                            for k, v in row.items()
                            if k in ("name", "content", "title", "message", "body_text", "transcript", "company")
                        }
                    )
            there.key = f"ds_key_of_{name}_0123456789"
            key = SecretStr(there.key)
            connections.append(Connection(name=name, vendor="dialsheet", api_key=key, base_url=url, minute=0.05))
        given = Settings(connections=tuple(connections), data_dir=tmp_path, policy=rules(outward="allow"))
        with opened(portal, given, user=Told()) as talk:
            yield talk


def test_what_one_connection_has_never_stands_in_the_results_of_another(twins: HeardTalk) -> None:
    for name, other in (("north", "south"), ("south", "north")):
        found = twins.answer("search_leads", crm=name, limit=3)
        leads, cursor = [each["id"] for each in found["leads"]], found["next_cursor"]
        twins.heard.clear()
        for lead in leads:
            twins.call("get_lead", crm=name, lead=lead, include=["notes", "tasks", "deals", "messages"])
            twins.call("list_activity", crm=name, lead=lead)
            twins.call("log_note", crm=name, lead=lead, content=f"Asked for all of {name}")
            twins.resource(f"crm://{name}/leads/{lead}")
            twins.resource(f"crm://{name}/leads/{lead}/activity")
        for tool in ("list_tasks", "list_deals", "search_leads"):
            twins.call(tool, crm=name)
        twins.call("get_pipeline", crm=name, of="deals")
        for kind in ("sequences", "tags", "mailboxes"):
            twins.call("list_options", crm=name, kind=kind)
        twins.call("search_leads", crm=name, query=f"of-{other}")
        twins.call("list_actions", crm=name)
        heard = "\n".join(twins.heard)

        assert f"of-{name}" in heard
        assert f"of-{other}" not in heard
        assert f"all of {other}" not in heard
        stolen = twins.call("search_leads", crm=other, limit=3, cursor=cursor)
        assert stolen.is_error, "a cursor of one connection reads another"


def test_what_was_done_in_one_connection_is_not_undone_or_deleted_in_another(twins: HeardTalk) -> None:
    lead = twins.answer("search_leads", crm="north", limit=1)["leads"][0]["id"]
    done = twins.answer("update_lead", crm="north", lead=lead, title="Changed in the north")

    undone = twins.answer("undo_action", action_id=done["action_id"])
    south = twins.answer("get_lead", crm="south", lead=lead)
    north = twins.answer("get_lead", crm="north", lead=lead)

    assert undone["crm"] == "north"
    assert south["lead"]["title"].endswith("of-south")
    assert north["lead"]["title"].endswith("of-north")
