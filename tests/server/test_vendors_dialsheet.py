"""The tools of Dialsheet that not all vendors have, in each era: what they answer, and what arrived at the emulator."""

from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.sandbox.emulator import FaultKind, identity

from .conftest import Shop
from .talk import ERAS, JANE, NO, YES
from .vendors import FIRST, Vendor

JANES_DEAL = identity(8, 1)
JANES_TASK = identity(5, 1)
JANES_CALL = identity(7, 6)
SALES = identity(2, 1)
COLD = identity(10, 1)
TEXT = "Hello Jane | one; two\nümläut 🚀"


@pytest.fixture(params=ERAS)
def crm(request: pytest.FixtureRequest, shop: Shop) -> Vendor:
    return shop("dialsheet", request.param)


def row(crm: Vendor, kind: str, record: str) -> dict[str, Any]:
    """Return a record as the emulator has it."""
    return next(each for each in crm.there.tables[kind] if each["id"] == record)


def test_leads_are_filtered_by_status(crm: Vendor) -> None:
    found = crm.ok("search_leads", status="qualified")

    assert (found["total"], {each["status"] for each in found["leads"]}) == (3, {"qualified"})


def test_a_call_that_took_place_is_a_note_with_its_outcome(crm: Vendor) -> None:
    note = crm.done("log_note", lead=JANE, content=TEXT, kind="call", outcome="interested", direction="outbound")[
        "note"
    ]

    [(method, path, body)] = crm.written
    assert (method, path, body["lead_id"], body["outcome"]) == ("POST", "/api/v1/notes", FIRST, "interested")
    assert body["content"].endswith(TEXT)
    assert (note["kind"], note["content"], note["outcome"]) == ("call", TEXT, "interested")
    newest = crm.ok("list_activity", lead=JANE, kinds=["note", "call"], limit=1)["items"][0]
    assert newest["id"] == note["id"]


def test_a_call_is_read(crm: Vendor) -> None:
    call = crm.ok("get_call", call=JANES_CALL)["call"]

    assert (call["lead_id"], call["duration_seconds"], call["outcome"]) == (FIRST, 412, "interested")
    assert "transcript" not in call


def test_tasks_are_listed_created_changed_and_put_back(crm: Vendor) -> None:
    open_ones = crm.pages("list_tasks", "tasks", 2, completed=False)
    made = crm.done("create_task", title="Ring back", lead=JANE, due_at="2030-01-02T10:00:00Z", priority="high")["task"]

    assert len(open_ones) == 4
    assert [each["due_at"] for each in open_ones] == sorted(each["due_at"] for each in open_ones)
    assert [each["id"] for each in crm.ok("list_tasks", lead=JANE)["tasks"]] == [JANES_TASK, made["id"]]
    assert row(crm, "tasks", made["id"])["title"] == "Ring back"
    changed = crm.done("update_task", task=JANES_TASK, completed=True, priority="low")
    assert (row(crm, "tasks", JANES_TASK)["completed"], row(crm, "tasks", JANES_TASK)["priority"]) == (True, "low")
    crm.undo(changed)
    assert (row(crm, "tasks", JANES_TASK)["completed"], row(crm, "tasks", JANES_TASK)["priority"]) == (False, "high")
    assert [(method, path) for method, path, _ in crm.written] == [
        ("POST", "/api/v1/tasks"),
        *[("PUT", f"/api/v1/tasks/{JANES_TASK}")] * 2,
    ]


def test_deals_are_listed_created_changed_and_put_back(crm: Vendor) -> None:
    assert len(crm.pages("list_deals", "deals", 3)) == 7
    assert [each["id"] for each in crm.ok("list_deals", lead=JANE)["deals"]] == [JANES_DEAL]
    assert crm.ok("list_deals", stage="proposal")["total"] == 2
    assert [each["name"] for each in crm.ok("list_deals", status="won")["deals"]] == ["Booking desk"]
    assert crm.ok("list_deals", status="open")["total"] == 5

    made = crm.done("create_deal", name="Pilot", lead=JANE, value=1234.5, stage="Proposal")["deal"]
    changed = crm.done("update_deal", deal=made["id"], value=99, name="Pilot two")

    kept = row(crm, "opportunities", made["id"])
    assert (kept["lead_id"], kept["stage"], kept["value"], kept["name"]) == (FIRST, "Proposal", 99, "Pilot two")
    crm.undo(changed)
    assert (kept["value"], kept["name"]) == (1234.5, "Pilot")
    for name, value in (("owner", "x"), ("closes_before", "2030-01-01")):
        line = crm.refused("list_deals", **{name: value})
        assert line == f"unsupported: dialsheet can't filter deals by {name}; it can by lead, stage, status"


def test_the_pipeline_is_counted_and_summed(crm: Vendor) -> None:
    pipeline = crm.ok("get_pipeline")

    groups = {each["name"]: (each["count"], each["value"]) for each in pipeline["groups"]}
    assert pipeline["total"] == 7
    assert groups["Negotiation"] == (1, 48_000)
    assert groups["Discovery"] == (2, 71_200)
    assert crm.refused("get_pipeline", of="leads").startswith("unsupported: ")


def test_a_lead_stands_for_its_only_open_deal_when_a_stage_is_moved(crm: Vendor) -> None:
    moved = crm.done("move_stage", lead=JANE, stage="proposal")

    assert [moved[name] for name in ("moved", "id", "from_stage", "to_stage")] == [
        *("deal", JANES_DEAL, "Negotiation", "Proposal")
    ]
    assert crm.written == [("PUT", f"/api/v1/opportunities/{JANES_DEAL}", {"stage": "Proposal"})]
    crm.undo(moved)
    assert row(crm, "opportunities", JANES_DEAL)["stage"] == "Negotiation"
    assert crm.done("move_stage", deal=JANES_DEAL, stage="Closed Won")["to_stage"] == "Closed Won"
    line = crm.refused("move_stage", lead="omar.haddad@acme-robotics.example", stage="Proposal")
    assert line.startswith("not_found: Omar Haddad")
    assert "create_deal" in line


def test_an_email_is_asked_for_and_exactly_that_is_sent(crm: Vendor) -> None:
    mail = {"lead": JANE, "subject": "Your quote", "body": TEXT, "mailbox": "sales@crm.example"}

    sent = crm.asked("send_email", "Jane Whitfield", JANE, "Your quote", TEXT.splitlines()[0], **mail)

    wanted = {"email_account_id": SALES, "to_email": JANE, "subject": "Your quote", "body_text": TEXT, "lead_id": FIRST}
    assert crm.written == [("POST", "/api/v1/emails", wanted)]
    assert sent["result"]["delivered"] is True
    assert sent["result"]["message"]["id"] == crm.there.tables["emails"][-1]["id"]
    assert crm.ok("send_email", **mail, reply_to="me@crm.example")["status"] == "duplicate"
    other = {**mail, "subject": "Another", "reply_to": "me@crm.example"}
    assert crm.ok("send_email", **other)["status"] == "blocked"
    assert crm.refused("send_email", **other | {"reply_to": "sales@crm.example"}).startswith("unsupported: ")
    line = crm.refused("send_email", **{**mail, "mailbox": "sale@crm.example"})
    assert 'nearest: "sales@crm.example"' in line
    assert len(crm.left) == 1


def test_an_sms_is_asked_for_and_exactly_that_is_sent(crm: Vendor) -> None:
    sent = crm.asked("send_sms", "Jane Whitfield", "+12125550100", TEXT.splitlines()[0], lead=JANE, message=TEXT)

    assert crm.written == [("POST", "/api/v1/sms", {"lead_id": FIRST, "message": TEXT})]
    assert sent["result"]["message"]["body"] == TEXT
    assert crm.there.tables["sms"][-1]["message"] == TEXT


def test_an_enrolment_is_asked_for_and_happens_once(crm: Vendor) -> None:
    enrolled = crm.asked("enroll_in_sequence", "Jane Whitfield", JANE, sequence="cold outreach", leads=[JANE, "nobody"])
    again = crm.ok("enroll_in_sequence", sequence=COLD, leads=[FIRST])

    assert (enrolled["succeeded"], [each["item"] for each in enrolled["failed"]]) == ([FIRST], ["nobody"])
    assert (again["status"], again["action_id"]) == ("duplicate", enrolled["action_id"])
    assert crm.written == [("POST", f"/api/v1/sequences/{COLD}/enroll", {"lead_id": FIRST})]
    assert len(crm.there.tables["enrolments"]) == 1


def test_an_enrolment_whose_answer_is_lost_is_unknown(crm: Vendor) -> None:
    crm.there.fail("drop_after", method="POST", path=".*/enroll")

    result = crm.ok("enroll_in_sequence", sequence="After the fair", leads=[JANE])

    assert result["status"] == "unknown"
    assert len(crm.there.tables["enrolments"]) == 1
    assert len(crm.left) == 1


def test_an_enrolment_of_several_is_found_by_each_of_them(crm: Vendor) -> None:
    leads = [identity(1, n) for n in (3, 4, 5)]

    done = crm.done("enroll_in_sequence", sequence=COLD, leads=leads)

    assert (done["succeeded"], done["failed"]) == (leads, [])
    for lead in leads:
        assert done["action_id"] in [each["action_id"] for each in crm.ok("list_actions", lead=lead)["actions"]]


def test_a_key_that_is_refused_is_no_rule_of_ours(crm: Vendor) -> None:
    crm.there.fail("status", method="GET", path=".*/leads.*", status=401, times=9)

    line = crm.refused("enroll_in_sequence", sequence=COLD, leads=[JANE])

    assert line.startswith("unauthorized: ")
    assert crm.left == []


def test_what_has_no_address_can_not_be_blocked(crm: Vendor) -> None:
    nobody = crm.done("create_lead", name="No Address")["lead"]["id"]

    assert crm.refused("set_do_not_contact", lead=nobody, blocked=True).startswith("conflict: No Address")
    assert crm.refused("set_do_not_contact", lead=JANE, blocked=True, channels=["linkedin"]).startswith("conflict: ")


def test_who_is_blocked_gets_nothing(crm: Vendor) -> None:
    crm.done("set_do_not_contact", lead=JANE, blocked=True, channels=["sms"], reason="asked on the phone")

    blocked = crm.ok("send_sms", lead=JANE, message="Hello")

    assert (blocked["status"], crm.left, crm.talk.user.asked) == ("blocked", [], [])
    assert "asked on the phone" in blocked["reason"]
    crm.done("set_do_not_contact", lead=JANE, blocked=False)
    assert crm.done("send_sms", lead=JANE, message="Hello")


@pytest.mark.parametrize(
    ("tool", "path", "arguments"),
    [
        ("send_sms", "/api/v1/sms", {"message": "Hello"}),
        ("send_email", "/api/v1/emails", {"subject": "Hi", "body": "Hello", "mailbox": "sales@crm.example"}),
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


def test_what_has_changed_since_the_question_is_not_sent(crm: Vendor) -> None:
    async def renumber() -> None:
        row(crm, "leads", FIRST)["phone"] = "+12125550177"

    crm.talk.user.meanwhile = renumber

    result = crm.ok("send_sms", lead=JANE, message="Hello")

    assert (result["status"], crm.left) == ("expired", [])
    assert "+12125550177" in result["reason"]


def test_a_task_is_deleted_when_the_person_says_so_and_notes_and_deals_can_not_be(crm: Vendor) -> None:
    crm.asked("delete_record", "Send the quote in two phases", kind="task", id=JANES_TASK)

    assert crm.written == [("DELETE", f"/api/v1/tasks/{JANES_TASK}", None)]
    for kind in ("note", "deal"):
        line = crm.refused("delete_record", kind=kind, id=JANES_DEAL)
        assert line.startswith(f"unsupported: dialsheet can't delete a {kind}; it can delete: lead, task")
    assert len(crm.left) == 1


def test_the_question_before_a_deletion_counts_what_may_go_along(crm: Vendor) -> None:
    crm.talk.user.answer = NO

    crm.ok("delete_record", kind="lead", id=FIRST)

    assert "1 deal" in crm.talk.user.asked[0]
    assert "2 notes" in crm.talk.user.asked[0]


def test_a_lead_gets_no_field_that_can_not_be_kept(crm: Vendor) -> None:
    for name, value in (("tags", ["vip"]), ("owner", "Robin")):
        line = crm.refused("update_lead", lead=JANE, **{name: value})
        assert line.startswith(f"unsupported: dialsheet can't keep {name} of a lead; it keeps name, email")

    made = crm.done("create_lead", first_name="Ada", last_name="Byron", custom_fields={"budget": 5000})["lead"]
    assert crm.left[-1].body == {"name": "Ada Byron", "budget": 5000}
    assert made["custom_fields"] == {"budget": 5000}


def test_an_operation_without_a_tool_is_called(crm: Vendor) -> None:
    crm.talk.user.answer = YES

    done = crm.done("call_operation", operation="create_tag", arguments={"name": "vip"})

    assert done["result"]["answer"]["tag"]["name"] == "vip"
    assert crm.written == [("POST", "/api/v1/tags", {"name": "vip"})]
    assert "vip" in [each["name"] for each in crm.ok("list_options", kind="tags")["options"]]


def test_an_answer_that_comes_with_the_call_is_not_looked_up_for_twice(crm: Vendor) -> None:
    crm.talk.user.answer = YES

    assert crm.done("send_sms", lead=FIRST, message="On my way")["status"] == "done"

    reads = [each for each in crm.there.journal if (each.method, each.path) == ("GET", f"/api/v1/leads/{FIRST}")]
    assert len(reads) == 3  # what is asked, what is claimed, and the number that it goes to
