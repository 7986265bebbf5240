"""The tools of SalesSheet that not all vendors have, in each era: what they answer, and what arrived there."""

from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.sandbox.emulator import identity

from .conftest import Shop
from .talk import ERAS, JANE
from .vendors import SAMPLE, Vendor

JANE_ID = SAMPLE["salessheet"].jane
JANES_DEAL = identity(2, 1)
JANES_TASK = identity(3, 1)
JANES_CALL = identity(4, 2)
STAGE = {
    name: identity(6, n)
    for n, name in enumerate(("Discovery", "Proposal", "Negotiation", "Closed Won", "Closed Lost"), 1)
}


@pytest.fixture(params=ERAS)
def crm(request: pytest.FixtureRequest, shop: Shop) -> Vendor:
    return shop("salessheet", request.param)


def row(crm: Vendor, kind: str, record: str) -> dict[str, Any]:
    """Return a record as the emulator has it."""
    return crm.there.records[kind][record]


def test_leads_are_filtered_and_sorted(crm: Vendor) -> None:
    assert {each["status"] for each in crm.ok("search_leads", status="customer")["leads"]} == {"customer"}
    assert {each["owner"] for each in crm.ok("search_leads", owner="Noor Aziz")["leads"]} == {"Noor Aziz"}
    names = [each["name"] for each in crm.pages("search_leads", "leads", 5, sort="name")]

    assert names == sorted(names)
    assert len(names) == 13


@pytest.mark.parametrize("kind", ["note", "call", "email", "meeting"])
def test_what_took_place_is_logged_as_an_activity(crm: Vendor, kind: str) -> None:
    given = {"content": "Spoke | twice\nümläut", "kind": kind, "outcome": "interested"}

    note = crm.done("log_note", lead=JANE, **given)["note"]

    [(method, path, body)] = crm.written
    assert (method, path, body["type"], body["contact_id"]) == ("POST", "/v1/activities", kind, JANE_ID)
    assert (note["kind"], note["content"], note["outcome"]) == (kind, given["content"], "interested")
    assert row(crm, "activities", note["id"])["body"] == given["content"]
    newest = crm.ok("list_activity", lead=JANE, limit=1)["items"][0]
    assert newest["id"] == note["id"]
    crm.done("delete_record", kind="note", id=note["id"])
    assert note["id"] not in crm.there.records["activities"]


def test_a_call_is_read_with_recording_and_transcript(crm: Vendor) -> None:
    call = crm.ok("get_call", call=JANES_CALL)["call"]

    assert (call["lead_id"], call["direction"], call["duration_seconds"]) == (JANE_ID, "outbound", 240)
    assert call["recording_url"].startswith("https://recordings.")
    assert "Two parts work" in call["transcript"]
    assert crm.refused("get_call", call=identity(4, 1)).startswith("not_found: ")


def test_tasks_are_listed_created_changed_and_put_back(crm: Vendor) -> None:
    open_ones = crm.pages("list_tasks", "tasks", 2, completed=False)
    made = crm.done("create_task", title="Ring back", lead=JANE, due_at="2030-01-02T10:00:00Z", priority="high")["task"]

    assert len(open_ones) == 5
    assert [each["id"] for each in crm.ok("list_tasks", lead=JANE)["tasks"]] == [JANES_TASK, made["id"]]
    assert row(crm, "tasks", made["id"])["contact_id"] == JANE_ID
    changed = crm.done("update_task", task=JANES_TASK, completed=True, title="Sent")
    assert (row(crm, "tasks", JANES_TASK)["status"], row(crm, "tasks", JANES_TASK)["title"]) == ("completed", "Sent")
    crm.undo(changed)
    assert row(crm, "tasks", JANES_TASK)["status"] == "open"
    assert row(crm, "tasks", JANES_TASK)["title"] == "Send the revised offer"
    crm.done("delete_record", kind="task", id=JANES_TASK)
    assert JANES_TASK not in crm.there.records["tasks"]


def test_deals_are_listed_created_changed_put_back_and_deleted(crm: Vendor) -> None:
    assert len(crm.pages("list_deals", "deals", 3)) == 7
    assert [each["id"] for each in crm.ok("list_deals", lead=JANE)["deals"]] == [JANES_DEAL]
    assert {each["stage"] for each in crm.ok("list_deals", stage="proposal")["deals"]} == {"Proposal"}
    assert {each["status"] for each in crm.ok("list_deals", status="won")["deals"]} == {"won"}
    assert len(crm.ok("list_deals", closes_before="2020-01-01")["deals"]) == 0

    made = crm.done("create_deal", name="Pilot", lead=JANE, value=1234.5, stage="Proposal", currency="eur")["deal"]
    changed = crm.done("update_deal", deal=made["id"], value=99, status="won", closes_at="2030-01-02")

    kept = row(crm, "deals", made["id"])
    assert (kept["contact_id"], kept["stage_id"], kept["currency"]) == (JANE_ID, STAGE["Proposal"], "EUR")
    assert (kept["value"], kept["status"], kept["close_date"][:10]) == (99, "won", "2030-01-02")
    crm.undo(changed)
    assert (kept["value"], kept["status"], kept["close_date"]) == (1234.5, "open", None)
    crm.done("delete_record", kind="deal", id=made["id"])
    assert made["id"] not in crm.there.records["deals"]


def test_the_pipeline_is_counted_and_summed(crm: Vendor) -> None:
    pipeline = crm.ok("get_pipeline")

    groups = {each["name"]: (each["count"], each["value"]) for each in pipeline["groups"]}
    assert list(groups) == list(STAGE)
    assert (pipeline["total"], groups["Proposal"]) == (7, (2, 76_500))
    assert crm.refused("get_pipeline", of="leads").startswith("unsupported: ")


def test_a_lead_stands_for_its_only_open_deal_when_a_stage_is_moved(crm: Vendor) -> None:
    moved = crm.done("move_stage", lead=JANE, stage="proposal")

    assert [moved[name] for name in ("moved", "id", "from_stage", "to_stage")] == [
        *("deal", JANES_DEAL, "Negotiation", "Proposal")
    ]
    assert crm.written == [("PATCH", f"/v1/deals/{JANES_DEAL}", {"stage_id": STAGE["Proposal"]})]
    crm.undo(moved)
    assert row(crm, "deals", JANES_DEAL)["stage_id"] == STAGE["Negotiation"]
    line = crm.refused("move_stage", lead="anita.desai@lumen-optics.example", stage="Proposal")
    assert line.startswith("ambiguous: Anita Desai has 2 open deals: ")
    assert 'nearest: "Proposal"' in crm.refused("move_stage", deal=JANES_DEAL, stage="Propsal")


def test_custom_fields_go_by_their_ids_and_an_unknown_one_is_refused(crm: Vendor) -> None:
    changed = crm.done("update_lead", lead=JANE, custom_fields={"cf_seats": 5})

    assert row(crm, "contacts", JANE_ID)["custom_fields"] == {"cf_source": "fair", "cf_seats": 5}
    crm.undo(changed)
    assert row(crm, "contacts", JANE_ID)["custom_fields"] == {"cf_source": "fair"}
    line = crm.refused("update_lead", lead=JANE, custom_fields={"cf_colour": "red"})
    assert line.startswith("invalid_argument: SalesSheet does not accept the values: ")
    assert line.endswith("nothing was written")


def test_a_batch_with_bad_rows_is_told_row_by_row(crm: Vendor) -> None:
    rows = [{"name": f"Person {n}", "email": f"person{n}@many.example"} for n in range(99)]
    for n in (3, 30, 60):
        rows[n]["custom_fields"] = {"cf_colour": "red"}  # type: ignore[assignment]

    done = crm.done("import_leads", leads=rows)

    assert (done["counts"]["created"], [each["row"] for each in done["failed"]]) == (
        96,
        ["item 4", "item 31", "item 61"],
    )
    assert [each.path for each in crm.left] == ["/v1/contacts/batch"]
    assert len(crm.there.records["contacts"]) == 13 + 96


def test_the_rate_budget_has_minute_and_day(crm: Vendor) -> None:
    crm.ok("get_lead", lead=JANE_ID)

    budgets = crm.ok("crm_status")["connections"][0]["rate_budget"]

    assert [(each["name"], each["limit"]) for each in budgets] == [("minute", 100), ("day", 5000)]


def test_a_write_whose_answer_is_lost_is_unknown_and_made_once(crm: Vendor) -> None:
    crm.there.fail("drop_after", method="POST", path="/v1/deals", times=9)

    result = crm.ok("create_deal", name="Pilot", lead=JANE)

    assert (result["status"], len(crm.left), len(crm.there.records["deals"])) == ("unknown", 1, 8)


def test_an_operation_without_a_tool_is_called(crm: Vendor) -> None:
    found = crm.ok("find_operation", query="create pipeline")["operations"]

    assert "create_pipeline" in [each["name"] for each in found]
    done = crm.done(
        "call_operation", operation="create_pipeline", arguments={"name": "Partners", "stages": [{"name": "Signed"}]}
    )
    assert done["result"]["answer"]["data"]["name"] == "Partners"
    assert len(crm.there.records["pipelines"]) == 2
