"""Every tool over stdio, in each era: what it answers is what the contract's table says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mcp_types as types
import pytest

from crm_mcp.channels import CHANNELS
from crm_mcp.model import Lead

from .talk import JANE, Talk, number, text_in

Arguments = Callable[[Talk], dict[str, Any]]

LEAD = {"id", "name", "email", "phone", "created_at", "updated_at"}
READING: dict[str, tuple[Arguments, set[str]]] = {
    "search_leads": (lambda _: {"query": "acme", "limit": 3}, {"leads", "total", "next_cursor"}),
    "get_lead": (
        lambda _: {"lead": JANE, "include": ["notes", "tasks", "deals", "messages", "calls"]},
        {"lead", "notes", "tasks", "deals", "messages", "calls"},
    ),
    "list_activity": (lambda _: {"lead": JANE}, {"items", "next_cursor"}),
    "list_changes": (lambda _: {}, {"changes", "next_cursor", "more"}),
    "get_call": (lambda crm: {"call": crm.read(JANE, "calls")["calls"][0]["id"]}, {"call"}),
    "list_tasks": (lambda _: {"completed": False}, {"tasks", "next_cursor"}),
    "list_deals": (lambda _: {"status": "open"}, {"deals", "total", "next_cursor"}),
    "get_pipeline": (lambda _: {}, {"groups", "total"}),
    "list_actions": (lambda _: {}, {"actions", "next_cursor"}),
    "list_options": (lambda _: {"kind": "stages"}, {"options"}),
    "crm_status": (lambda _: {}, {"connections", "policy", "version"}),
}
ACTING: dict[str, tuple[Arguments, set[str]]] = {
    "create_lead": (lambda _: {"name": "Ada Byron", "tags": ["vip"]}, {"lead", "outcome"}),
    "update_lead": (lambda crm: {"lead": crm.lead(), "title": "CTO"}, {"lead", "changed"}),
    "tag_lead": (lambda crm: {"lead": crm.lead(), "add": ["vip"]}, {"lead", "tags"}),
    "log_note": (lambda crm: {"lead": crm.lead(), "content": "Spoke", "kind": "call"}, {"note"}),
    "create_task": (lambda crm: {"title": "Ring back", "lead": crm.lead()}, {"task"}),
    "update_task": (lambda crm: {"task": task(crm), "completed": True}, {"task"}),
    "create_deal": (lambda crm: {"name": "Pilot", "lead": crm.lead(), "value": 10}, {"deal"}),
    "update_deal": (lambda crm: {"deal": deal(crm), "value": 20}, {"deal"}),
    "move_stage": (lambda crm: {"deal": deal(crm), "stage": "Negotiation"}, {"moved", "id", "from_stage", "to_stage"}),
    "send_email": (lambda crm: {"lead": crm.lead(), "subject": "Hi", "body": "Hello"}, {"result"}),
    "send_sms": (lambda crm: {"lead": crm.lead(), "message": "Hello"}, {"result"}),
    "enroll_in_sequence": (lambda crm: {"sequence": "Follow-up", "leads": [crm.lead()]}, {"succeeded", "failed"}),
    "unenroll_from_sequence": (lambda crm: {"sequence": "Follow-up", "leads": [JANE]}, {"succeeded", "failed"}),
    "set_do_not_contact": (lambda crm: {"lead": crm.lead(), "blocked": True}, {"channels"}),
    "import_leads": (
        lambda _: {"csv": "name,email\nImported One,\n,no address\n", "if_exists": "skip"},
        {"counts", "created", "updated", "skipped", "failed", "columns"},
    ),
    "delete_record": (lambda crm: {"kind": "lead", "id": crm.lead()}, set()),
    "undo_action": (
        lambda crm: {"action_id": crm.ok("update_lead", lead=crm.lead(), title="CTO")["action_id"]},
        set(),
    ),
}


def task(crm: Talk) -> str:
    return crm.ok("create_task", title="Ring back")["task"]["id"]


def deal(crm: Talk) -> str:
    return crm.ok("create_deal", name="Pilot", lead=crm.lead())["deal"]["id"]


@pytest.mark.parametrize("tool", READING)
def test_a_reading_tool_answers_with_the_fields_of_the_contract(crm: Talk, tool: str) -> None:
    arguments, fields = READING[tool]

    result = crm.ok(tool, **arguments(crm))

    assert set(result) == {"crm", *fields}


@pytest.mark.parametrize("tool", ACTING)
def test_any_other_tool_answers_with_an_action_result_and_the_fields_of_the_contract(crm: Talk, tool: str) -> None:
    arguments, fields = ACTING[tool]

    result = crm.ok(tool, **arguments(crm))

    assert set(result) - {"undone_by"} == {"crm", "action_id", "status", "summary", *fields}
    assert result["status"] == ("undone" if tool == "undo_action" else "done")
    assert "\n" not in result["summary"]


def test_confirm_action_answers_with_the_result_of_the_action_that_it_carries_out(mute: Talk) -> None:
    asked = mute.ok("send_sms", lead=mute.lead(), message="Hello")
    assert asked["status"] == "confirmation_required"

    done = mute.ok("confirm_action", action_id=asked["action_id"], summary=asked["summary"])

    assert set(done) == {"crm", "action_id", "status", "summary", "result"}
    assert (done["action_id"], done["status"]) == (asked["action_id"], "done")


def test_the_tables_above_have_every_tool(crm: Talk) -> None:
    assert set(crm.tools()) == {*READING, *ACTING, "confirm_action"}


def test_the_server_says_who_it_is_and_what_it_serves(crm: Talk) -> None:
    client = crm.client

    assert client.server_info
    assert client.server_info.name == "crm-mcp"
    assert "never instructions" in (client.instructions or "")
    for capability in ("tools", "resources", "prompts", "completions"):
        assert getattr(client.server_capabilities, capability) is not None


def test_records_have_the_fields_of_the_contract(crm: Talk) -> None:
    jane = crm.read(JANE, "notes", "tasks", "deals", "messages", "calls")

    lead = jane["lead"]
    assert LEAD < set(lead) <= set(Lead.model_fields)
    assert (lead["company"], lead["stage"], lead["tags"]) == (
        "Acme Robotics",
        "Qualified",
        ["enterprise", "trade-fair"],
    )
    assert {"id", "content", "kind", "occurred_at"} <= set(jane["notes"][0])
    assert set(jane["tasks"][0]) == {"id", "title", "due_at", "priority", "completed"}
    assert {"id", "name", "value", "currency", "stage", "status"} <= set(jane["deals"][0])
    assert {"id", "channel", "direction", "subject", "body", "status", "sent_at"} <= set(jane["messages"][0])
    assert {"id", "direction", "duration_seconds", "outcome", "started_at"} <= set(jane["calls"][0])


def test_a_lead_is_found_by_id_address_or_number_alike(crm: Talk) -> None:
    lead = crm.read(JANE)["lead"]

    for key in (
        lead["id"],
        lead["email"],
        lead["email"].upper(),
        lead["phone"],
        "+1 (415) 555-0171",
        f" {lead['id']} ",
    ):
        assert crm.read(key)["lead"]["id"] == lead["id"]


def test_what_was_written_is_what_is_read(crm: Talk) -> None:
    lead = crm.lead(name="مريم حداد", company="Straßenbau 🚧", tags=["vip"], custom_fields={"Budget": 5000})

    crm.ok("log_note", lead=lead, content="First line\nsecond | line; third, line", kind="meeting", outcome="done")
    crm.ok("create_task", lead=lead, title="Ring back", due_at="2030-01-02", priority="high")
    crm.ok("create_deal", lead=lead, name="Pilot", value=1234.5, currency="EUR", stage="proposal")

    found = crm.read(lead, "notes", "tasks", "deals")
    assert found["lead"]["name"] == "مريم حداد"
    assert found["lead"]["custom_fields"] == {"Budget": 5000}
    assert found["notes"][0]["content"] == "First line\nsecond | line; third, line"
    assert found["tasks"][0]["due_at"] == "2030-01-02T00:00:00Z"
    assert (found["deals"][0]["value"], found["deals"][0]["stage"]) == (1234.5, "Proposal")


def test_a_stage_of_leads_moves_the_lead_and_one_of_deals_its_only_open_deal(crm: Talk) -> None:
    lead = crm.lead()
    pilot = crm.ok("create_deal", name="Pilot", lead=lead)["deal"]["id"]

    moved = crm.ok("move_stage", lead=lead, stage="qualified")
    assert (moved["moved"], moved["id"], moved["to_stage"]) == ("lead", lead, "Qualified")
    moved = crm.ok("move_stage", lead=lead, stage="Negotiation")
    assert (moved["moved"], moved["id"], moved["to_stage"]) == ("deal", pilot, "Negotiation")

    crm.ok("create_deal", name="Second", lead=lead)
    assert crm.refused("move_stage", lead=lead, stage="Proposal").startswith("ambiguous: ")
    line = crm.refused("move_stage", lead=crm.lead(), stage="Negotiation")
    assert line.startswith("not_found: ")
    assert "create_deal" in line


def test_changes_are_followed_by_the_cursor_that_is_always_given(crm: Talk) -> None:
    start = crm.ok("list_changes", kinds=["task"])
    assert start["changes"] == []

    made = [crm.ok("create_task", title=f"Task {n}")["task"]["id"] for n in range(3)]

    first = crm.ok("list_changes", kinds=["task"], cursor=start["next_cursor"], limit=2)
    rest = crm.ok("list_changes", kinds=["task"], cursor=first["next_cursor"])
    assert [each["id"] for each in first["changes"] + rest["changes"]] == made
    assert (first["more"], rest["more"]) == (True, False)
    assert crm.ok("list_changes", kinds=["task"], cursor=rest["next_cursor"])["changes"] == []


def test_a_record_says_who_did_what_and_who_approved_it(crm: Talk) -> None:
    lead = crm.lead()
    crm.ok("send_sms", lead=lead, message="Hello")
    crm.ok("log_note", lead=lead, content="Texted")

    note, sms, *_ = crm.ok("list_actions", lead=lead)["actions"]

    assert (note["tool"], note["approved_by"], note["status"]) == ("log_note", "policy", "done")
    assert (sms["tool"], sms["approved_by"], sms["status"]) == ("send_sms", "elicitation", "done")
    assert sms["caller"].endswith(" via tests")


def test_create_lead_can_skip_or_update_the_lead_that_exists(crm: Talk) -> None:
    lead = crm.lead()
    address = crm.read(lead)["lead"]["email"]

    assert crm.refused("create_lead", name="Twin", email=address).startswith("conflict: ")
    assert crm.ok("create_lead", name="Twin", email=address, if_exists="skip")["outcome"] == "skipped"
    updated = crm.ok("create_lead", name="Twin Test", email=address, if_exists="update")

    assert (updated["outcome"], updated["lead"]["id"], updated["lead"]["name"]) == ("updated", lead, "Twin Test")


def test_create_lead_fills_only_what_is_empty_of_a_lead_with_another_name(crm: Talk) -> None:
    lead = crm.lead()
    before = crm.read(lead)["lead"]

    filled = crm.ok("create_lead", name="Zed Quist", email=before["email"], title="CEO", if_exists="update")
    again = crm.ok("create_lead", name="Zed Quist", email=before["email"], if_exists="update")

    assert (filled["outcome"], filled["lead"]["id"]) == ("updated", lead)
    assert (filled["lead"]["name"], filled["lead"]["title"]) == (before["name"], "CEO")
    assert "other name" in filled["summary"]
    assert (again["outcome"], again["lead"]["id"]) == ("skipped", lead)


def test_colleagues_with_one_number_are_leads_of_their_own(crm: Talk) -> None:
    phone = number()
    names = [("Nina Falk", "nina"), ("Otto Falk", "otto")]

    made = [
        crm.ok("create_lead", name=name, email=f"{at}@{phone[1:]}.example", phone=phone, if_exists="update")
        for name, at in names
    ]

    assert [each["outcome"] for each in made] == ["created", "created"]
    assert [crm.read(each["lead"]["id"])["lead"]["name"] for each in made] == ["Nina Falk", "Otto Falk"]


def test_a_number_that_may_not_exist_is_taken_and_told(crm: Talk) -> None:
    made = crm.ok("create_lead", name="Doubtful", phone="+11234567890")

    assert made["lead"]["phone"] == "+11234567890"
    assert made["summary"].endswith("+11234567890 is doubtful: no such number is known in its country")


def test_the_text_says_what_the_structured_result_says(crm: Talk) -> None:
    result = crm.call("get_lead", lead=JANE, include=["deals"])

    text = text_in(result)
    assert isinstance(result.content[0], types.TextContent)
    for value in ("L181", "Jane Whitfield", JANE, "Acme Robotics pilot", "48000", "enterprise, trade-fair"):
        assert value in text


def test_do_not_contact_names_the_channels_that_are_blocked(crm: Talk) -> None:
    lead = crm.lead()

    assert crm.ok("set_do_not_contact", lead=lead, blocked=True, channels=["sms"])["channels"] == ["sms"]
    assert crm.read(lead)["lead"]["do_not_contact"] == ["sms"]
    assert set(crm.ok("set_do_not_contact", lead=lead, blocked=True)["channels"]) <= set(CHANNELS)
