"""Resources, completion and prompts, in each era."""

from __future__ import annotations

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from .conftest import Start
from .talk import JANE, Talk, inside


def read(crm: Talk, uri: str) -> str:
    [content] = crm.run(crm.client.read_resource, uri).contents
    assert isinstance(content, TextResourceContents)
    assert (content.uri, content.mime_type) == (uri, "text/markdown")
    return inside(content.text) + "\n"


def prompt(crm: Talk, name: str, arguments: dict[str, str]) -> str:
    [message] = crm.run(crm.client.get_prompt, name, arguments).messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


def complete(crm: Talk, value: str, argument: str = "lead") -> list[str]:
    reference = ResourceTemplateReference(uri="crm://leads/{lead}")
    return crm.run(crm.client.complete, reference, {"name": argument, "value": value}).completion.values


def test_resources_and_templates_are_listed(crm: Talk) -> None:
    resources = crm.run(crm.client.list_resources).resources
    templates = crm.run(crm.client.list_resource_templates).resource_templates

    assert {each.uri for each in resources} == {"crm://pipeline", "crm://sequences", "crm://status"}
    assert {each.uri_template for each in templates} == {
        "crm://leads/{lead}",
        "crm://leads/{lead}/activity",
        "crm://deals/{deal}",
        "crm://actions/{action_id}",
    }
    assert all(each.description and each.name for each in (*resources, *templates))


def test_every_listed_resource_can_be_read(crm: Talk) -> None:
    for each in crm.run(crm.client.list_resources).resources:
        assert read(crm, each.uri).startswith("# ")

    assert "| Negotiation |" in read(crm, "crm://pipeline")
    assert "Follow-up" in read(crm, "crm://sequences")
    assert "policy: read=allow" in read(crm, "crm://status")


@pytest.mark.parametrize(
    "key", ["L181", JANE, "jane.whitfield%40acme-robotics.example", "+14155550171", "%2B14155550171"]
)
def test_a_lead_is_read_by_id_address_or_number(crm: Talk, key: str) -> None:
    page = read(crm, f"crm://leads/{key}")

    assert page.startswith("# Jane Whitfield\n")
    assert "- company: Acme Robotics" in page


def test_activity_is_whole_there_and_marked_where_a_list_cuts_it(crm: Talk) -> None:
    lead = crm.lead()
    crm.ok("log_note", lead=lead, content="start " + "x" * 19_000 + " end")

    [item] = crm.ok("list_activity", lead=lead)["items"]

    assert f"more characters: read crm://leads/{lead}/activity]" in item["text"]
    page = read(crm, f"crm://leads/{lead}/activity")
    assert "start " in page
    assert " end" in page


def test_deals_and_actions_are_read(crm: Talk) -> None:
    action = crm.ok("create_deal", name="Pilot", lead=crm.lead(), value=10)

    assert read(crm, f"crm://deals/{action['deal']['id']}").startswith("# Deal Pilot\n")
    page = read(crm, f"crm://actions/{action['action_id']}")
    for line in ("- status: done", "- tool: create_deal", "- approved_by: policy", "- effect: write"):
        assert line in page


@pytest.mark.parametrize(
    "uri",
    [
        "crm://nothing",
        "crm://leads/L999999",
        "crm://leads/L999999/activity",
        "crm://leads/",
        "crm://leads/L181/secrets",
        "crm://deals/D999999",
        "crm://actions/none",
        "file:///etc/passwd",
        "crm://leads/..%2F..%2Fetc",
    ],
)
def test_an_unknown_resource_is_an_error_in_words(crm: Talk, uri: str) -> None:
    with pytest.raises(MCPError, match=r"^(not_found|invalid_argument): ") as raised:
        crm.run(crm.client.read_resource, uri)

    assert raised.value.code == -32602
    assert "Traceback" not in str(raised.value)


def test_a_lead_is_completed_by_name_address_or_id(crm: Talk) -> None:
    assert JANE in complete(crm, "jane whit")
    assert JANE in complete(crm, "jane.whitfield@")
    assert complete(crm, "L181") == ["L181"]
    assert complete(crm, "nobody at all") == []
    assert 0 < len(complete(crm, "")) <= 100
    assert complete(crm, "D", "deal") == []


def test_the_lead_of_a_prompt_is_completed_too(crm: Talk) -> None:
    done = crm.run(crm.client.complete, PromptReference(name="follow_up"), {"name": "lead", "value": "whitf"})

    assert JANE in done.completion.values


def test_what_was_completed_can_be_read(crm: Talk) -> None:
    for value in complete(crm, "a"):
        assert read(crm, f"crm://leads/{value}").startswith("# ")


def test_prompts_are_listed_with_their_arguments(crm: Talk) -> None:
    listed = {each.name: each for each in crm.run(crm.client.list_prompts).prompts}

    arguments = {name: {each.name: each.required for each in listed[name].arguments or ()} for name in listed}
    assert arguments == {
        "follow_up": {"lead": True, "goal": False},
        "log_call": {"lead": True, "notes": True},
    }


def test_prompts_are_filled_in(crm: Talk) -> None:
    follow_up = prompt(crm, "follow_up", {"lead": JANE, "goal": "a signed pilot"})
    for part in ("Follow up with the lead L181.", "My goal: a signed pilot", "it is data"):
        assert part in follow_up.split("[outside data")[0]
    for part in ("# Jane Whitfield", "Steering committee"):
        assert part in inside(follow_up)
    assert "My goal" not in prompt(crm, "follow_up", {"lead": JANE})

    log_call = prompt(crm, "log_call", {"lead": JANE, "notes": "Spoke {5} minutes, she wants {lead}"})
    assert "Spoke {5} minutes, she wants {lead}" in log_call
    assert inside(log_call) == "Jane Whitfield (L181)"


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("follow_up", {}, "invalid_argument: lead is missing; follow_up takes lead, goal"),
        ("log_call", {"lead": JANE}, "invalid_argument: notes is missing"),
        ("follow_up", {"lead": "L999999"}, "not_found: "),
        ("follow_up", {"lead": JANE, "gaol": "x"}, 'nearest: "goal"'),
        ("follow-up", {"lead": JANE}, 'nearest: "follow_up"'),
    ],
)
def test_a_prompt_that_cannot_be_filled_in_says_why(crm: Talk, name: str, arguments: dict[str, str], line: str) -> None:
    with pytest.raises(MCPError) as raised:
        crm.run(crm.client.get_prompt, name, arguments)

    assert raised.value.code == -32602
    assert line in str(raised.value)


HIDDEN = {
    "get_lead": "crm://leads/L181",
    "list_activity": "crm://leads/L181/activity",
    "list_deals": "crm://deals/{deal}",
    "get_pipeline": "crm://pipeline",
    "list_options": "crm://sequences",
    "crm_status": "crm://status",
    "list_actions": "crm://actions/{action}",
}
"""What each tool's exclusion hides."""


def addresses(crm: Talk) -> set[str]:
    resources = crm.run(crm.client.list_resources).resources
    templates = crm.run(crm.client.list_resource_templates).resource_templates
    return {each.uri for each in resources} | {each.uri_template for each in templates}


def test_what_the_settings_deny_is_no_resource_and_no_prompt_either(start: Start) -> None:
    crm = start(settings={"exclude_tools": ",".join([*HIDDEN, "search_leads"])})
    made = crm.ok("create_deal", name="Pilot", lead="L181", value=10)
    names = {"deal": made["deal"]["id"], "action": made["action_id"]}

    assert addresses(crm) == set()
    for address in HIDDEN.values():
        uri = address.format(**names)
        with pytest.raises(MCPError, match=f'^not_found: there is no resource "{uri}"; see resources/list'):
            crm.run(crm.client.read_resource, uri)
    assert crm.run(crm.client.list_prompts).prompts == []
    for name in ("follow_up", "log_call"):
        with pytest.raises(MCPError, match=f'^not_found: there is no prompt "{name}"'):
            prompt(crm, name, {"lead": JANE, "notes": "x"})
    assert complete(crm, "jane whit") == []
    assert complete(crm, "L181") == []


@pytest.mark.parametrize(
    ("tool", "gone", "prompts"),
    [
        ("get_lead", "crm://leads/{lead}", []),
        ("list_activity", "crm://leads/{lead}/activity", ["log_call"]),
        ("get_pipeline", "crm://pipeline", ["follow_up", "log_call"]),
    ],
)
def test_a_tool_that_is_not_served_takes_its_own_resource_along(
    start: Start, crm: Talk, tool: str, gone: str, prompts: list[str]
) -> None:
    less = start(settings={"exclude_tools": tool})

    assert addresses(crm) - addresses(less) == {gone}
    assert [each.name for each in less.run(less.client.list_prompts).prompts] == prompts
    assert JANE in complete(less, "jane whit")
