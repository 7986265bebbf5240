"""The tools of SalesPulse that not all vendors have, in each era: what they answer, and what arrived there."""

from __future__ import annotations

import pytest

from crm_mcp.sandbox.emulator import FaultKind

from .conftest import Shop
from .talk import ERAS, JANE
from .vendors import Vendor

JANE_ID = "ctn_000001"
STAGE_OF = "/api/v1/contacts/ctn_000001/stage"


@pytest.fixture(params=ERAS)
def crm(request: pytest.FixtureRequest, shop: Shop) -> Vendor:
    return shop("salespulse", request.param)


def test_a_call_is_read_with_recording_and_transcript(crm: Vendor) -> None:
    newest = crm.ok("list_activity", lead=JANE, kinds=["call"], limit=1)["items"][0]

    call = crm.ok("get_call", call=newest["id"])["call"]

    assert (call["lead_id"], call["direction"], call["duration_seconds"]) == (JANE_ID, "outbound", 312)
    assert call["recording_url"].startswith("https://recordings.")
    assert call["transcript"].endswith("call me on Thursday after four.")


def test_a_call_is_asked_for_and_rings_once(crm: Vendor) -> None:
    started = crm.asked("start_call", "Jane Whitfield", "+12125550100", lead=JANE)

    assert crm.written == [("POST", "/api/v1/calls/initiate", {"contact_id": JANE_ID})]
    assert crm.there.dialled == [
        {"call_id": started["result"]["call"]["id"], "contact_id": JANE_ID, "to": "+12125550100"}
    ]


@pytest.mark.parametrize(("fault", "status", "rings"), [("drop_after", "done", 1), ("drop_before", "unknown", 0)])
def test_a_call_whose_answer_is_lost_is_looked_up_and_rings_at_most_once(
    crm: Vendor, fault: FaultKind, status: str, rings: int
) -> None:
    crm.there.fail(fault, method="POST", times=9)

    result = crm.ok("start_call", lead=JANE)
    again = crm.ok("start_call", lead=JANE)

    assert (result["status"], len(crm.left), len(crm.there.dialled)) == (status, 1, rings)
    assert (again["status"], again["action_id"]) == ("duplicate", result["action_id"])


def test_nobody_is_rung_who_is_blocked_or_has_no_number(crm: Vendor) -> None:
    crm.done("set_do_not_contact", lead=JANE, blocked=True, channels=["call"])
    silent = crm.done("create_lead", name="Ada Byron", email="ada@byron.example")["lead"]["id"]
    crm.there.journal.clear()

    assert crm.ok("start_call", lead=JANE)["status"] == "blocked"
    assert crm.ok("start_call", lead=silent)["status"] == "blocked"
    assert (crm.left, crm.talk.user.asked, crm.there.dialled) == ([], [], [])
    crm.done("set_do_not_contact", lead=JANE, blocked=False)


def test_a_number_that_changed_while_the_question_was_open_is_not_rung(crm: Vendor) -> None:
    async def renumber() -> None:
        crm.there.contacts[JANE_ID]["phone"] = "+12125550177"

    crm.talk.user.meanwhile = renumber

    assert crm.ok("start_call", lead=JANE)["status"] == "expired"
    assert crm.there.dialled == []


def test_a_lead_is_moved_to_a_stage_and_back(crm: Vendor) -> None:
    moved = crm.done("move_stage", lead=JANE, stage="issued")

    assert [moved[name] for name in ("moved", "id", "from_stage", "to_stage")] == ["lead", JANE_ID, "Quoted", "Issued"]
    assert crm.written == [("PATCH", STAGE_OF, {"stage_id": "stg_5"})]
    crm.undo(moved)
    assert crm.written[1:] == [("PATCH", STAGE_OF, {"stage_id": "stg_3"})]
    assert crm.refused("move_stage", deal="deal_000001", stage="Issued").startswith("unsupported: in salespulse stages")
    assert 'nearest: "Issued"' in crm.refused("move_stage", lead=JANE, stage="Isued")


def test_another_verb_of_the_stage_move_is_found(crm: Vendor) -> None:
    crm.there.switch(stage_verb="PUT")

    assert crm.done("move_stage", lead=JANE, stage="Issued")["to_stage"] == "Issued"
    assert [(each.method, each.status) for each in crm.left] == [("PATCH", 405), ("PUT", 200)]


def test_deals_are_listed_and_the_pipeline_is_counted(crm: Vendor) -> None:
    rows = crm.pages("list_deals", "deals", 3)

    assert len(rows) == 7
    assert [each["name"] for each in crm.ok("list_deals", lead=JANE)["deals"]] == ["Final expense, 10,000"]
    assert {each["stage"] for each in crm.ok("list_deals", stage="quoted")["deals"]} == {"Quoted"}
    assert crm.refused("list_deals", status="open").startswith("unsupported: salespulse can't filter deals by status")
    of_deals, of_leads = crm.ok("get_pipeline"), crm.ok("get_pipeline", of="leads")
    assert (of_deals["total"], of_leads["total"]) == (7, 12)
    stages = ["New Lead", "Contacted", "Quoted", "Application", "Issued", "Lost"]
    assert [each["name"] for each in of_leads["groups"]] == stages
    assert [each["name"] for each in crm.ok("list_options", kind="stages")["options"]] == stages


def test_what_the_vendor_has_beside_our_fields_is_read_and_written(crm: Vendor) -> None:
    assert crm.ok("get_lead", lead=JANE)["lead"]["custom_fields"] == {
        "state": "FL",
        "product_interest": "final_expense",
    }

    changed = crm.done("update_lead", lead=JANE, custom_fields={"state": "TX"})

    assert crm.written == [("PATCH", "/api/v1/contacts/ctn_000001", {"state": "TX"})]
    crm.undo(changed)
    assert crm.there.contacts[JANE_ID]["state"] == "FL"
    assert crm.refused("update_lead", lead=JANE, custom_fields={"state": "Texas"}).startswith("invalid_argument: ")
    for name, value in (("tags", ["vip"]), ("owner", "Robin"), ("status", "new")):
        assert crm.refused("update_lead", lead=JANE, **{name: value}).startswith("unsupported: "), name


def test_a_large_import_takes_few_requests(crm: Vendor) -> None:
    rows = "\n".join(f"Person {n},person{n}@many.example" for n in range(600))

    done = crm.done("import_leads", csv=f"name,email\n{rows}\n")

    assert (done["counts"]["created"], done["failed"]) == (600, [])
    assert len(crm.talk.user.asked) == 1
    assert [(each.path, len(each.body["contacts"])) for each in crm.left] == [("/api/v1/contacts/bulk", 600)]
    assert len(crm.there.contacts) == 612


def test_only_leads_can_be_deleted(crm: Vendor) -> None:
    line = crm.refused("delete_record", kind="deal", id="deal_000001")

    assert line.startswith("unsupported: salespulse can't delete a deal; it can delete: lead")
    assert crm.left == []
