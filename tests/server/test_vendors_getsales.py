"""The tools of GetSales that not all vendors have, in each era: what they answer, and what arrived there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_mcp.sandbox.emulator import FaultKind

from .conftest import Shop
from .talk import ERAS, JANE
from .vendors import FIRST, Vendor

TEXT = "Hello Jane | one; two\nümläut 🚀 <b>"
UNMARKED = "ümläut 🚀 < b>"
"""What a person who is asked sees of it: nothing there begins a tag."""
HOT = "00000004-0000-4000-8000-000000000001"


@pytest.fixture(params=ERAS)
def crm(request: pytest.FixtureRequest, shop: Shop) -> Vendor:
    return shop("getsales", request.param)


def jane(crm: Vendor) -> dict[str, Any]:
    return crm.there.tables["lead"][FIRST]


def test_leads_are_filtered_and_sorted(crm: Vendor) -> None:
    assert {tuple(each["tags"]) for each in crm.ok("search_leads", tag="hot")["leads"]} == {("hot",)}
    assert {each["stage"] for each in crm.ok("search_leads", stage="replied")["leads"]} == {"Replied"}
    assert crm.ok("search_leads", list="Inbound")["total"] == 6
    week_ago = (datetime.now(UTC) - timedelta(days=7)).isoformat()
    assert len(crm.ok("search_leads", created_after=week_ago)["leads"]) == 2
    assert 'nearest: "Replied"' in crm.refused("search_leads", stage="Replid")
    names = [each["name"] for each in crm.pages("search_leads", "leads", 5, sort="name")]

    assert names == sorted(names)
    assert len(names) == 12


def test_tags_are_put_on_and_taken_off_and_back_again(crm: Vendor) -> None:
    tagged = crm.done("tag_lead", lead=JANE, add=["newsletter", f"fair {crm.talk.era}"], remove=["hot"])

    names = {each["uuid"]: each["name"] for each in crm.there.rows("tag")}
    assert {names[each] for each in jane(crm)["tags"]} == {"newsletter", f"fair {crm.talk.era}"} == {*tagged["tags"]}
    crm.undo(tagged)
    assert {names[each] for each in jane(crm)["tags"]} == {"hot"}


def test_a_note_is_logged_and_deleted(crm: Vendor) -> None:
    note = crm.done("log_note", lead=JANE, content=TEXT)["note"]

    assert [(each["object_uuid"], each["note"]) for each in crm.there.rows("note")][-1] == (FIRST, TEXT)
    assert note["content"] == TEXT
    assert crm.ok("list_activity", lead=JANE, kinds=["note"])["items"][0]["id"] == note["id"]
    crm.done("delete_record", kind="note", id=note["id"])
    assert note["id"] not in crm.there.tables["note"]


def test_a_lead_is_moved_to_a_stage_and_back(crm: Vendor) -> None:
    stages = {each["name"]: each["uuid"] for each in crm.there.rows("stage", object="lead")}

    moved = crm.done("move_stage", lead=JANE, stage="demo booked")

    assert [moved[name] for name in ("moved", "id", "from_stage", "to_stage")] == ["lead", FIRST, "New", "Demo booked"]
    assert jane(crm)["pipeline_stage_uuid"] == stages["Demo booked"]
    assert [(method, path) for method, path, _ in crm.written] == [("PUT", "/leads/api/leads/mass-action")]
    assert crm.left[0].body["filter"] == {"ids": [FIRST], "all": False, "excludeIds": []}
    crm.undo(moved)
    assert jane(crm)["pipeline_stage_uuid"] == stages["New"]


def test_leads_are_counted_by_group(crm: Vendor) -> None:
    by_stage = crm.ok("get_pipeline", of="leads")
    by_tag = crm.ok("get_pipeline", of="leads", group_by="tag")

    assert (by_stage["total"], [each["count"] for each in by_stage["groups"]]) == (12, [2] * 6)
    assert {each["name"]: each["count"] for each in by_tag["groups"]}["hot"] == 3
    assert crm.ok("get_pipeline") == by_stage
    assert crm.refused("get_pipeline", of="deals").startswith("unsupported: GetSales can't sum deals; it has none: ")
    assert crm.left == []


def test_an_email_is_asked_for_and_exactly_that_is_sent(crm: Vendor) -> None:
    shown = ("Jane Whitfield", JANE, "Your quote", UNMARKED)

    sent = crm.asked("send_email", *shown, lead=JANE, subject="Your quote", body=TEXT)

    [(method, path, body)] = crm.written
    assert (method, path) == ("POST", "/emails/api/emails/send-email")
    assert body["to"] == [{"to_email": JANE, "to_name": "Jane Whitfield"}]
    assert (body["subject"], body["lead_uuid"]) == ("Your quote", FIRST)
    assert "ümläut 🚀 &lt;b&gt;" in body["body"]
    assert sent["result"]["message"]["id"] == crm.there.rows("email")[-1]["uuid"]
    other: dict[str, Any] = {"lead": JANE, "subject": "x", "body": "x"}
    assert crm.ok("send_email", **other, reply_to="me@crm.example")["status"] == "blocked"
    assert crm.refused("send_email", **other, reply_to="robin@sandbox.example").startswith("unsupported: ")


def test_a_linkedin_message_is_asked_for_and_exactly_that_is_queued(crm: Vendor) -> None:
    shown = ("Jane Whitfield", "jane-whitfield-sandbox", "Robin Sender", UNMARKED)

    sent = crm.asked("send_linkedin_message", *shown, lead=JANE, message=TEXT)

    sender = crm.there.rows("sender", status="enabled")[0]["uuid"]
    wanted = {"sender_profile_uuid": sender, "lead_uuid": FIRST, "text": TEXT}
    assert crm.written == [("POST", "/flows/api/linkedin-messages", wanted)]
    assert "queued" in sent["result"]["note"]
    assert sent["summary"].startswith("handed over: LinkedIn message to Jane Whitfield at https://www.linkedin.com/in/")
    assert "; queued: " in sent["summary"]
    line = crm.refused("send_linkedin_message", lead=JANE, message="Hello", sender="Sasha Sender")
    assert line.startswith('invalid_argument: there is no sender "Sasha Sender"')
    assert "Robin Sender" in line


@pytest.mark.parametrize(
    ("tool", "path", "arguments"),
    [
        ("send_email", "/emails/api/emails/send-email", {"subject": "Hi", "body": "Hello"}),
        ("send_linkedin_message", "/flows/api/linkedin-messages", {"message": "Hello"}),
    ],
)
@pytest.mark.parametrize(("fault", "status"), [("drop_after", "done"), ("drop_before", "unknown")])
def test_a_message_whose_answer_is_lost_is_looked_up_and_sent_at_most_once(
    crm: Vendor, tool: str, path: str, arguments: dict[str, Any], fault: FaultKind, status: str
) -> None:
    crm.there.fail(fault, method="POST", path=path, times=9)

    result = crm.ok(tool, lead=JANE, **arguments)
    again = crm.ok(tool, lead=JANE, **arguments)

    assert result["status"] == status
    assert (again["status"], again["action_id"]) == ("duplicate", result["action_id"])
    assert [each.path for each in crm.left] == [path]


def test_an_enrolment_is_asked_for_and_can_be_ended(crm: Vendor) -> None:
    flow = crm.there.rows("flow", name="Welcome")[0]["uuid"]

    enrolled = crm.asked("enroll_in_sequence", "Jane Whitfield", sequence="welcome", leads=[JANE, "nobody"])

    assert (enrolled["succeeded"], [each["item"] for each in enrolled["failed"]]) == ([FIRST], ["nobody"])
    assert [(method, path) for method, path, _ in crm.written] == [("POST", f"/flows/api/flows/{flow}/leads/{FIRST}")]
    assert [each["status"] for each in crm.there.rows("flow_lead", lead_uuid=FIRST)] == ["in_progress"]
    again = crm.ok("enroll_in_sequence", sequence="Welcome", leads=[JANE])
    assert (again["status"], again["action_id"]) == ("duplicate", enrolled["action_id"])
    stopped = crm.done("enroll_in_sequence", sequence="Reactivation", leads=[JANE])
    assert stopped["failed"][0]["reason"].startswith("the sequence is stopped")
    assert len(crm.left) == 1
    ended = crm.done("unenroll_from_sequence", sequence="Welcome", leads=[JANE, "nobody"])
    assert (ended["succeeded"], len(ended["failed"])) == ([FIRST], 1)
    assert "in_progress" not in [each["status"] for each in crm.there.rows("flow_lead", lead_uuid=FIRST)]


def test_blocking_goes_to_the_vendors_blacklist_and_lifting_takes_it_off(crm: Vendor) -> None:
    crm.done("set_do_not_contact", lead=JANE, blocked=True, reason="asked")

    entries = crm.there.rows("lead_block")
    assert {(each.get("email"), each.get("linkedin")) for each in entries} == {
        (JANE, None),
        (None, "jane-whitfield-sandbox"),
    }
    for tool, given in (("send_email", {"subject": "x", "body": "x"}), ("send_linkedin_message", {"message": "x"})):
        assert crm.ok(tool, lead=JANE, **given)["status"] == "blocked"
    crm.done("set_do_not_contact", lead=JANE, blocked=False)
    assert crm.there.rows("lead_block") == []
    assert {each.path.split("/")[3] for each in crm.left} == {"leads-blacklist"}


def test_custom_fields_are_written_and_put_back(crm: Vendor) -> None:
    changed = crm.done("update_lead", lead=JANE, custom_fields={"budget": "5000", "headline": "Robots"})

    lead = crm.ok("get_lead", lead=JANE)["lead"]
    assert (lead["custom_fields"]["budget"], lead["custom_fields"]["headline"]) == ("5000", "Robots")
    crm.undo(changed)
    assert "budget" not in crm.ok("get_lead", lead=JANE)["lead"]["custom_fields"]
    line = crm.refused("update_lead", lead=JANE, custom_fields={"budgt": "1"})
    assert line.startswith('invalid_argument: there is no custom field "budgt"; valid: ')
    assert 'nearest: "budget"' in line


def test_a_new_lead_needs_a_list_and_the_error_names_them(crm: Vendor) -> None:
    line = crm.refused("create_lead", name="Ada Byron", email="ada@byron.example")

    assert line.startswith("invalid_argument: GetSales needs a list for a new lead; give list; valid: ")
    assert "Inbound, Spring conference" in line
    assert crm.left == []


def test_a_lead_is_not_moved_to_another_list_by_the_way(crm: Vendor) -> None:
    given = {"email": JANE, "title": "COO", "if_exists": "update"}

    line = crm.refused("create_lead", **given, list="Spring conference")

    assert line.startswith("unsupported: GetSales can't move a lead to another list; ")
    assert crm.left == []
    assert crm.done("create_lead", **given, list="Inbound")["outcome"] == "updated"


def test_outreach_is_counted(crm: Vendor) -> None:
    metrics = crm.ok("get_metrics")["metrics"]

    assert (metrics["linkedin_sent_count"], metrics["email_sent_count"]) == (6, 6)
    assert crm.ok("get_metrics", since="2020-01-01", until="2020-02-01")["metrics"]["email_sent_count"] == 0
    assert crm.refused("get_metrics", since="2026-02-01", until="2026-01-01").startswith("invalid_argument: ")


def test_options_are_those_of_the_workspace(crm: Vendor) -> None:
    expected = {
        "lists": ["Inbound", "Spring conference"],
        "senders": ["Robin Sender"],
        "mailboxes": ["robin@sandbox.example"],
        "sequences": ["Reactivation", "Welcome"],
        "tags": ["hot", "newsletter"],
        "custom_fields": ["budget", "industry_focus"],
    }

    assert {
        kind: [each["name"] for each in crm.ok("list_options", kind=kind)["options"]] for kind in expected
    } == expected


def test_an_operation_without_a_tool_is_called_and_seen_at_once(crm: Vendor) -> None:
    assert len(crm.ok("list_options", kind="lists")["options"]) == 2

    done = crm.done("call_operation", operation="create_list", arguments={"name": "Autumn"})

    assert done["result"]["answer"]["name"] == "Autumn"
    assert [each["name"] for each in crm.there.rows("list")][-1] == "Autumn"
    assert "Autumn" in [each["name"] for each in crm.ok("list_options", kind="lists")["options"]]


def test_enrichment_without_credits_is_payment_required(crm: Vendor) -> None:
    crm.there.switch(credits=0)
    crm.there.credits = 0

    result = crm.talk.call("call_operation", operation="enrich_leads", arguments={"uuids": [FIRST]})

    assert result.is_error
    assert result.structured_content["error"] == "payment_required"
    assert "the credits of the workspace do not cover it" in result.structured_content["reason"]
