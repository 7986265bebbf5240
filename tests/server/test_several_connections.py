"""Several connections behind one server: which one a call is for, and what each answer says of it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from crm_mcp.config import Connection, Settings
from crm_mcp.errors import NotFound
from crm_mcp.sandbox.dialsheet import DialsheetEmulator
from crm_mcp.sandbox.people import PEOPLE
from crm_mcp.sandbox.salespulse import SalesPulseEmulator
from crm_mcp.server.app import Application
from crm_mcp.server.resources import read as read_resource

from .conftest import Start
from .several import Several, several
from .talk import ERAS, JANE, NO, Era, inside, text_in

NAMES = ["work", "calls", "home"]
ACROSS = {
    "search_leads",
    "list_activity",
    "list_changes",
    "list_tasks",
    "list_deals",
    "list_actions",
    "list_options",
    "crm_status",
}
INES = PEOPLE[2]
"""Somebody whom both vendors' samples have."""
IVAN = "ivan.laurent@north-quay-shipping.example"
"""Somebody whom the embedded CRM's sample alone has."""


@pytest.fixture(scope="module")
def crms(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Generator[Several]:
    """`work` (Dialsheet), `calls` (SalesPulse) and `home` (embedded), with a client that can't ask its user."""
    emulators = {
        "work": DialsheetEmulator(sample=True, minute=0.5),
        "calls": SalesPulseEmulator(sample=True, minute=0.5),
    }
    with several(portal, tmp_path_factory.mktemp("several"), emulators, asked=False) as crms:
        yield crms


# Which connection


def test_the_tools_are_those_that_any_connection_can_serve(crms: Several) -> None:
    served = set(crms.talk.tools())

    assert {"start_call", "find_operation"} <= served, "of SalesPulse"
    assert {"tag_lead", "set_do_not_contact"} <= served, "of the embedded CRM"
    assert {"create_task", "send_email", "confirm_action", "undo_action"} <= served
    assert "send_linkedin_message" not in served


def test_every_tool_takes_crm_but_those_that_name_an_action(crms: Several) -> None:
    for name, tool in crms.talk.tools().items():
        schema = tool.input_schema
        if name in ("confirm_action", "undo_action"):
            assert "crm" not in schema["properties"], name
            continue
        assert (schema["properties"]["crm"]["type"], schema["properties"]["crm"]["enum"]) == ("string", NAMES), name
        assert ("crm" in schema.get("required", [])) == (name not in ACROSS), name


def test_without_crm_a_tool_that_needs_it_lists_the_names(crms: Several) -> None:
    for tool in set(crms.talk.tools()) - ACROSS - {"confirm_action", "undo_action"}:
        assert crms.refused(tool) == "invalid_argument: crm is missing: which connection?; valid: work, calls, home"


@pytest.mark.parametrize(
    ("crm", "shown"), [("hme", "hme"), ("", ""), (7, "7"), (["home"], "['home']"), ("x" * 500, "x" * 60)]
)
def test_an_unknown_crm_lists_the_names(crms: Several, crm: Any, shown: str) -> None:
    for tool, arguments in (("get_lead", {"lead": JANE}), ("search_leads", {})):
        line = crms.refused(tool, crm=crm, **arguments)
        assert line.startswith(f'invalid_argument: there is no connection "{shown}"; valid: work, calls, home')
    assert crms.refused("get_lead", crm="hme", lead=JANE).endswith('; nearest: "home"')


def test_a_connection_that_lacks_a_tool_names_those_that_have_it(crms: Several) -> None:
    assert crms.refused("start_call", crm="home", lead=JANE) == (
        "unsupported: home (local) can't do start_call; it can in calls"
    )
    assert crms.refused("create_task", crm="calls", title="x") == (
        "unsupported: calls (salespulse) can't do create_task; it can in work, home"
    )
    assert crms.refused("list_tasks", crm="calls").startswith("unsupported: calls (salespulse) can't do list_tasks; ")


def test_each_connection_has_its_own_leads_and_says_so(crms: Several) -> None:
    for name in NAMES:
        email = IVAN if name == "home" else INES.email
        found = crms.ok("get_lead", crm=name, lead=email)
        listed = crms.ok("search_leads", crm=name, query=email)

        assert (found["crm"], found["lead"]["email"]) == (name, email)
        assert (listed["crm"], [each["email"] for each in listed["leads"]]) == (name, [email])
        assert "connections" not in listed
    assert crms.refused("get_lead", crm="work", lead=IVAN).startswith("not_found: ")


def test_a_write_goes_to_its_connection_alone(crms: Several) -> None:
    before = crms.ok("search_leads", crm="home")["total"], crms.ok("search_leads", crm="calls")["total"]

    made = crms.ok("create_lead", crm="work", name="Ada Only", email="ada-only@example.com", phone="+12125550150")

    assert (made["crm"], made["status"]) == ("work", "done")
    assert crms.emulators["work"].calls("POST", ".*/leads")
    assert (crms.ok("search_leads", crm="home")["total"], crms.ok("search_leads", crm="calls")["total"]) == before
    assert crms.ok("search_leads", query="ada-only@example.com")["leads"][0]["crm"] == "work"


def test_the_same_write_in_two_connections_is_two_writes(crms: Several) -> None:
    person = {"name": "Bo Both", "email": "bo-both@example.com"}

    made = [crms.ok("create_lead", crm=name, **person) for name in NAMES]
    again = crms.ok("create_lead", crm="work", **person)
    other = crms.refused("create_lead", crm="work", **person, title="CEO")

    assert [(each["crm"], each["status"]) for each in made] == [(name, "done") for name in NAMES]
    assert (again["crm"], again["status"]) == ("work", "duplicate")
    assert again["lead"] in [each["lead"] for each in made]
    assert other.startswith("conflict: ")
    assert [each["crm"] for each in crms.ok("search_leads", query=person["email"])["leads"]] == NAMES


# Actions


def test_an_action_is_confirmed_and_undone_in_its_own_connection(crms: Several) -> None:
    for place, name in enumerate(NAMES):
        email = f"{name}-undo@example.com"
        lead = crms.ok("create_lead", crm=name, name="Una Undo", email=email)["lead"]["id"]

        renamed = crms.ok("update_lead", crm=name, lead=lead, phone=f"+1646555018{place}")
        undone = crms.ok("undo_action", action_id=renamed["action_id"])
        asked = crms.ok("delete_record", crm=name, kind="lead", id=lead)
        deleted = crms.ok("confirm_action", action_id=asked["action_id"], summary=asked["summary"])

        assert (renamed["crm"], undone["crm"], undone["status"]) == (name, name, "undone")
        assert (asked["crm"], asked["status"]) == (name, "confirmation_required")
        assert (deleted["crm"], deleted["status"]) == (name, "done")
        assert crms.refused("get_lead", crm=name, lead=email).startswith("not_found: ")


def test_an_action_that_there_is_not_is_said_so(crms: Several) -> None:
    for tool, more in (("undo_action", {}), ("confirm_action", {"summary": "x"})):
        assert crms.refused(tool, action_id="a_none", **more).startswith("not_found: there is no action ")
        assert crms.refused(tool, action_id="a_none", crm="home", **more).startswith("invalid_argument: ")
        assert crms.refused(tool, **more).startswith("invalid_argument: ")


def test_actions_and_changes_are_listed_over_all_and_of_one(crms: Several) -> None:
    start = crms.ok("list_changes")["next_cursor"]
    made = {name: crms.ok("create_lead", crm=name, name="Li", email=f"li-{name}@example.com") for name in NAMES}

    changes = crms.ok("list_changes", cursor=start)
    of_one = crms.ok("list_changes", crm="calls", since="2020-01-01")
    actions = crms.ok("list_actions", limit=3)

    assert [(each["crm"], each["action_id"]) for each in changes["changes"]] == [
        (name, made[name]["action_id"]) for name in NAMES
    ]
    assert (of_one["crm"], of_one["changes"][-1]["action_id"]) == ("calls", made["calls"]["action_id"])
    assert not {made[name]["action_id"] for name in ("work", "home")} & {
        each["action_id"] for each in of_one["changes"]
    }
    assert all("crm" not in each for each in of_one["changes"])
    assert [each["crm"] for each in actions["actions"]] == NAMES[::-1]
    for name in NAMES:
        newest = crms.ok("list_actions", crm=name, limit=1)
        assert newest["crm"] == name
        assert newest["actions"][0]["action_id"] == made[name]["action_id"]
        pages = crms.pages("list_actions", "actions", 2, crm=name)
        assert len({each["action_id"] for page in pages for each in page["actions"]}) == sum(
            len(page["actions"]) for page in pages
        )


def test_the_actions_of_a_lead_are_found_in_every_connection_that_has_it(crms: Several) -> None:
    person = {"name": "Kim", "email": "kim-actions@example.com"}
    made = {name: crms.ok("create_lead", crm=name, **person) for name in ("work", "home")}
    crms.ok("update_lead", crm="home", lead=made["home"]["lead"]["id"], title="CEO")

    of_both = crms.ok("list_actions", lead="kim-actions@example.com")
    of_id = crms.ok("list_actions", lead=made["home"]["lead"]["id"])
    of_one = crms.ok("list_actions", crm="work", lead="kim-actions@example.com")

    assert [(each["crm"], each["tool"]) for each in of_both["actions"]] == [
        ("home", "update_lead"),
        ("home", "create_lead"),
        ("work", "create_lead"),
    ]
    assert [each["crm"] for each in of_id["actions"]] == ["home", "home"]
    assert [each["action_id"] for each in of_one["actions"]] == [made["work"]["action_id"]]
    assert crms.refused("list_actions", lead="nobody-at-all@example.com").startswith("not_found: ")


def test_a_cursor_belongs_to_its_connection(crms: Several) -> None:
    of_home = crms.ok("search_leads", crm="home", limit=1)["next_cursor"]
    of_all = crms.ok("search_leads", limit=3)["next_cursor"]

    for arguments in ({"cursor": of_home}, {"cursor": of_home, "crm": "work"}, {"cursor": of_all, "crm": "home"}):
        assert crms.refused("search_leads", **arguments).startswith("invalid_argument: cursor is not one of this list")


@pytest.mark.parametrize("era", ERAS)
def test_a_client_that_can_ask_is_asked_about_the_right_connection(
    portal: BlockingPortal, tmp_path: Path, era: Era
) -> None:
    emulator = DialsheetEmulator(sample=True, minute=0.5)
    with several(portal, tmp_path, {"work": emulator}, era=era) as crms:
        sent = crms.ok("send_sms", crm="work", lead=INES.email, message="Hello")
        crms.talk.user.answer = NO
        declined = crms.ok("send_sms", crm="home", lead=JANE, message="Hello")

    assert (sent["crm"], sent["status"]) == ("work", "done")
    assert (declined["crm"], declined["status"]) == ("home", "declined")
    assert len(crms.talk.user.asked) == 2
    assert INES.phone in crms.talk.user.asked[0]


# Resources and prompts


def read(crms: Several, uri: str) -> str:
    [content] = crms.talk.run(crms.talk.client.read_resource, uri).contents
    assert isinstance(content, TextResourceContents)
    return inside(content.text)


def test_resources_and_templates_name_their_connection(crms: Several) -> None:
    resources = {each.uri: each.name for each in crms.talk.run(crms.talk.client.list_resources).resources}
    listed = crms.talk.run(crms.talk.client.list_resource_templates).resource_templates
    templates = [each.uri_template for each in listed]

    assert resources["crm://home/pipeline"] == "Pipeline in home"
    assert {"crm://work/status", "crm://calls/status", "crm://home/status"} <= set(resources)
    assert "crm://calls/sequences" not in resources
    assert not {"crm://pipeline", "crm://sequences", "crm://status"} & set(resources)
    for name in NAMES:
        assert f"crm://{name}/leads/{{lead}}" in templates
    assert templates.count("crm://actions/{action_id}") == 1
    assert "crm://leads/{lead}" not in templates


def test_resources_are_read_by_their_connection(crms: Several) -> None:
    action = crms.ok("create_lead", crm="work", name="Re Source", email="re-source@example.com")["action_id"]

    assert read(crms, f"crm://home/leads/{JANE}").startswith("# Jane Whitfield\n")
    for name in ("work", "calls"):
        assert read(crms, f"crm://{name}/leads/{INES.email}").startswith(f"# {INES.name}\n")
        assert read(crms, f"crm://{name}/leads/{INES.email}/activity").startswith(f"# Activity of {INES.name}")
        assert f"{name}|" in read(crms, f"crm://{name}/status")
        assert "home|" not in read(crms, f"crm://{name}/status")
    assert "- tool: create_lead" in read(crms, f"crm://actions/{action}")
    for uri in (f"crm://leads/{JANE}", "crm://pipeline", "crm://nowhere/pipeline", f"crm://work/leads/{IVAN}"):
        with pytest.raises(MCPError, match=r"^not_found: "):
            read(crms, uri)


async def test_a_connection_may_be_called_as_a_resource_is(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, connections=(Connection(name="leads"), Connection(name="actions")))
    application = Application(settings)

    for name in ("leads", "actions"):
        page = await read_resource(application.contexts, application.tools, f"crm://{name}/pipeline")
        assert inside(page).startswith("# Pipeline\n")
    with pytest.raises(NotFound, match='there is no lead "pipeline"'):
        await read_resource(application.contexts, application.tools, "crm://leads/leads/pipeline")
    with pytest.raises(NotFound, match='there is no action "a_none"'):
        await read_resource(application.contexts, application.tools, "crm://actions/a_none")
    await application.aclose()


def test_what_a_list_cuts_is_found_in_the_connection(crms: Several) -> None:
    crms.ok("log_note", crm="home", lead=JANE, content="start " + "x" * 3_000 + " end")

    items = crms.ok("list_activity", lead=JANE)["items"]

    cut = next(each for each in items if "start " in each.get("text", ""))
    assert cut["crm"] == "home"
    assert "more characters: read crm://home/leads/L181/activity]" in cut["text"]


def complete(crms: Several, reference: Any, value: str, argument: str = "lead", **given: str) -> list[str]:
    wanted = {"name": argument, "value": value}
    return crms.talk.run(crms.talk.client.complete, reference, wanted, given or None).completion.values


def test_leads_are_completed_in_the_connection_that_is_meant(crms: Several) -> None:
    def template(name: str) -> ResourceTemplateReference:
        return ResourceTemplateReference(uri=f"crm://{name}/leads/{{lead}}")

    prompt = PromptReference(name="follow_up")

    assert JANE in complete(crms, template("home"), "jane whit")
    assert complete(crms, template("work"), "acme-robotics") != complete(crms, template("home"), "acme-robotics")
    assert INES.email in complete(crms, template("calls"), INES.last)
    assert JANE in complete(crms, prompt, "jane whit", crm="home")
    assert complete(crms, prompt, INES.last, crm="calls") == [INES.email]
    assert complete(crms, prompt, "", "crm") == NAMES
    assert complete(crms, prompt, "w", "crm") == ["work"]


def test_a_completion_that_a_vendor_fails_is_empty(crms: Several) -> None:
    crms.emulators["calls"].fail("status", status=403, path=".*/contacts.*", times=9)

    found = complete(crms, ResourceTemplateReference(uri="crm://calls/leads/{lead}"), INES.last)
    crms.emulators["calls"].faults.clear()

    assert found == []


def test_prompts_take_the_connection(crms: Several) -> None:
    async def get(arguments: dict[str, str]) -> str:
        [message] = (await crms.talk.client.get_prompt("follow_up", arguments)).messages
        assert isinstance(message.content, TextContent)
        return message.content.text

    for each in crms.talk.run(crms.talk.client.list_prompts).prompts:
        [crm] = [argument for argument in each.arguments or () if argument.name == "crm"]
        assert crm.required
    assert f"Activity of {INES.name}" in inside(crms.talk.run(get, {"lead": INES.email, "crm": "calls"}))
    assert "Follow up with the lead L181" in crms.talk.run(get, {"lead": JANE, "crm": "home"})
    with pytest.raises(MCPError, match="crm is missing; follow_up takes lead, goal, crm"):
        crms.talk.run(get, {"lead": JANE})
    with pytest.raises(MCPError, match='there is no connection "hme"; valid: work, calls, home; nearest: "home"'):
        crms.talk.run(get, {"lead": JANE, "crm": "hme"})


# One connection


def test_with_one_connection_nothing_of_this_shows(start: Start, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("[connections.home]\n")
    crm = start(settings={"config": str(tmp_path / "one.toml")})

    assert all("crm" not in each.input_schema["properties"] for each in crm.tools().values())
    for tool, arguments in (("get_lead", {"lead": JANE}), ("search_leads", {}), ("list_actions", {})):
        assert crm.refused(tool, crm="home", **arguments).startswith("invalid_argument: ")
    found = crm.call("search_leads", limit=1)
    assert found.structured_content["crm"] == "home"
    assert "connections" not in found.structured_content
    assert "crm" not in found.structured_content["leads"][0]
    for each in crm.run(crm.client.list_prompts).prompts:
        assert "crm" not in {argument.name for argument in each.arguments or ()}
    assert {each.uri for each in crm.run(crm.client.list_resources).resources} == {
        "crm://pipeline",
        "crm://sequences",
        "crm://status",
    }


def test_an_action_of_a_connection_that_is_gone_is_not_undone_in_another(
    start: Start, tmp_path: Path, portal: BlockingPortal
) -> None:
    with several(portal, tmp_path, {"work": DialsheetEmulator(sample=True, minute=0.5)}, local=False) as crms:
        changed = crms.ok("update_lead", lead=INES.email, title="CEO")
    crm = start()

    assert crm.refused("undo_action", action_id=changed["action_id"]).startswith("not_found: there is no action ")
    assert "CEO" not in text_in(crm.call("search_leads", query=INES.email))
