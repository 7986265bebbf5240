"""What is taken back besides changes of fields: deletions, enrolments, and what has not happened yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from anyio.from_thread import BlockingPortal

from .conftest import Shop, Start
from .talk import NO, Talk, number
from .vendors import VENDORS, connected


def full_lead(crm: Talk) -> str:
    """Return a lead with something of everything."""
    lead = crm.lead(title="CEO", tags=["vip", "cold"], custom_fields={"Budget": 7}, status="Qualified")
    crm.ok("log_note", lead=lead, content="Met at the fair", kind="call", duration_seconds=60)
    crm.ok("create_task", title="Ring", lead=lead, due_at="2030-01-01", priority="high")
    crm.ok("create_deal", name="Pilot", lead=lead, value=10, currency="EUR")
    crm.ok("send_email", lead=lead, subject="Hello", body="Hi there")
    return lead


def whole(crm: Talk, lead: str) -> dict[str, Any]:
    found = crm.read(lead, "notes", "tasks", "deals", "messages")
    return {name: value for name, value in found.items() if name != "crm"}


# Deletions


def test_a_deleted_lead_comes_back_with_everything(crm: Talk) -> None:
    lead = full_lead(crm)
    before = whole(crm, lead)
    crm.user.asked.clear()
    deleted = crm.ok("delete_record", kind="lead", id=lead)
    assert "can be undone with undo_action" in crm.user.asked[0]
    assert crm.refused("get_lead", lead=lead).startswith("not_found: ")

    undone = crm.ok("undo_action", action_id=deleted["action_id"])

    assert (undone["status"], undone["action_id"]) == ("undone", deleted["action_id"])
    assert undone["result"] == {"kind": "lead", "id": lead, "not_restored": []}
    assert whole(crm, lead) == before
    assert [each["id"] for each in crm.ok("search_leads", query=before["lead"]["email"])["leads"]] == [lead]
    assert len(crm.user.asked) == 1


def test_deleted_tasks_deals_and_notes_come_back_as_they_were(crm: Talk) -> None:
    lead = full_lead(crm)
    before = whole(crm, lead)
    gone = [("note", before["notes"][0]), ("task", before["tasks"][0]), ("deal", before["deals"][0])]
    actions = [crm.ok("delete_record", kind=kind, id=each["id"])["action_id"] for kind, each in gone]
    assert not any(whole(crm, lead)[name] for name in ("notes", "tasks", "deals"))

    for action in actions:
        crm.ok("undo_action", action_id=action)

    after = whole(crm, lead)
    assert {name: after[name] for name in ("notes", "tasks", "deals")} == {
        name: before[name] for name in ("notes", "tasks", "deals")
    }


def test_a_deletion_is_undone_once_and_by_its_own_caller(crm: Talk, start: Start) -> None:
    lead = crm.lead()
    action = crm.ok("delete_record", kind="lead", id=lead)["action_id"]
    other = start(crm.era, folder=crm.folder, name="other")
    assert other.refused("undo_action", action_id=action).startswith("not_found: ")

    crm.ok("undo_action", action_id=action)

    assert crm.ok("undo_action", action_id=action)["status"] == "duplicate"
    assert crm.read(lead)["lead"]["id"] == lead


def test_a_deletion_is_not_undone_where_the_number_is_taken_meanwhile(crm: Talk) -> None:
    phone = number()
    lead = crm.ok("create_lead", name="Ann Example", phone=phone)["lead"]["id"]
    action = crm.ok("delete_record", kind="lead", id=lead)["action_id"]
    other = crm.ok("create_lead", name="Ann", phone=phone)["lead"]["id"]

    line = crm.refused("undo_action", action_id=action)

    assert line.startswith("conflict: ")
    assert other in line
    assert "nothing was written" in line
    listed = {each["action_id"]: each["status"] for each in crm.ok("list_actions", limit=5)["actions"]}
    assert listed[action] == "done"


def test_a_restored_lead_stays_blocked(crm: Talk) -> None:
    lead = crm.lead()
    crm.ok("set_do_not_contact", lead=lead, blocked=True, reason="said no")
    action = crm.ok("delete_record", kind="lead", id=lead)["action_id"]

    crm.ok("undo_action", action_id=action)

    assert crm.ok("send_sms", lead=lead, message="Hi")["status"] == "blocked"
    assert crm.ok("send_email", lead=lead, subject="Hi", body="Hi")["status"] == "blocked"
    assert crm.sent(lead) == []


def test_what_is_too_large_to_be_kept_is_said_before(start: Start) -> None:
    crm = start()
    lead = crm.lead()
    for n in range(60):
        crm.ok("log_note", lead=lead, content=f"{n} " + "x" * 19_000)

    action = crm.ok("delete_record", kind="lead", id=lead)["action_id"]

    assert "can't be undone: with all that goes with it" in crm.user.asked[0]
    assert crm.refused("undo_action", action_id=action).startswith("unsupported: delete_record can't be undone; ")


def test_bringing_back_asks_where_creating_does(start: Start, tmp_path: Path) -> None:
    crm = start()
    lead = crm.lead(name="Jane Doe")
    action = crm.ok("delete_record", kind="lead", id=lead)["action_id"]
    strict = start(settings=policy(tmp_path, '[policy.tools]\ncreate_lead = "confirm"'))
    strict.user.answer = NO

    answer = strict.ok("undo_action", action_id=action)

    assert answer["status"] == "declined"
    assert f"Undo delete_record: lead Jane Doe ({lead}) comes back as it was" in strict.user.asked[0]
    assert strict.refused("get_lead", lead=lead).startswith("not_found: ")


def test_every_preview_of_what_reaches_or_deletes_says_whether_it_can_be_undone(start: Start) -> None:
    crm = start()
    lead = crm.lead()
    records = {
        "lead": lead,
        "task": crm.ok("create_task", title="x")["task"]["id"],
        "deal": crm.ok("create_deal", name="x")["deal"]["id"],
        "note": crm.ok("log_note", lead=lead, content="x")["note"]["id"],
    }
    sequence = crm.ok("list_options", kind="sequences")["options"][0]["name"]
    dry = start(settings={"dry_run": "true"})
    calls: list[tuple[str, dict[str, Any]]] = [
        ("send_email", {"lead": lead, "subject": "x", "body": "x"}),
        ("send_sms", {"lead": lead, "message": "x"}),
        ("enroll_in_sequence", {"sequence": sequence, "leads": [lead]}),
        ("set_do_not_contact", {"lead": lead, "blocked": False}),
        *(("delete_record", {"kind": kind, "id": record}) for kind, record in records.items()),
    ]

    previews = [dry.ok(tool, **arguments)["preview"] for tool, arguments in calls]

    reaching = {name for name, each in dry.tools().items() if each.annotations and not each.annotations.read_only_hint}
    assert reaching >= {tool for tool, _ in calls}
    assert [each for each in previews if "undone" not in each and "undo_action" not in each] == []


def test_the_previews_of_a_vendors_own_tools_and_operations_say_it_too(shop: Shop) -> None:
    vendor = shop("getsales")
    lead = vendor.sample.jane
    vendor.talk.user.answer = NO
    vendor.ok("send_linkedin_message", lead=lead, message="x")
    vendor.ok(
        "enroll_in_sequence", sequence=vendor.ok("list_options", kind="sequences")["options"][0]["id"], leads=[lead]
    )

    assert len(vendor.talk.user.asked) == 2
    assert [each for each in vendor.talk.user.asked if "undone" not in each and "undo_action" not in each] == []


# Deletions in a CRM that brings nothing back


@pytest.mark.parametrize("name", VENDORS)
def test_elsewhere_a_lead_is_created_anew_and_what_is_lost_is_told(shop: Shop, name: str) -> None:
    vendor = shop(name)
    old = vendor.sample.jane
    before = vendor.talk.read(old)["lead"]
    count = len(vendor.sample.people(vendor.there))
    deleted = vendor.done("delete_record", kind="lead", id=old)
    asked = vendor.talk.user.asked[-1]
    assert "undo_action can bring back its fields under a new id; " in asked
    assert ("its 2 notes, 1 task and 1 deal would be lost" in asked) == (name == "dialsheet")

    undone = vendor.ok("undo_action", action_id=deleted["action_id"])

    new, lost = undone["result"]["id"], undone["result"]["not_restored"]
    after = vendor.talk.read(new)["lead"]
    of_the_crm = {"id", "url", "created_at", "updated_at", "last_contacted_at", "custom_fields"}
    assert undone["status"] == "undone"
    assert new != old
    assert f"its id {old}" in lost
    assert {k: v for k, v in after.items() if k not in of_the_crm} == {
        k: v for k, v in before.items() if k not in of_the_crm
    }
    held = after.get("custom_fields", {})
    differing = [k for k, v in before.get("custom_fields", {}).items() if held.get(k) != v]
    assert [each for each in lost if each.startswith("custom_fields.")] == [f"custom_fields.{k}" for k in differing]
    assert len(vendor.sample.people(vendor.there)) == count
    assert vendor.ok("undo_action", action_id=deleted["action_id"])["status"] == "duplicate"


def test_a_lead_that_was_created_anew_stays_blocked(shop: Shop) -> None:
    vendor = shop("dialsheet")
    lead = vendor.ok("create_lead", name="Nora Quist", phone="+14155550123")["lead"]["id"]
    vendor.ok("set_do_not_contact", lead=lead, blocked=True)
    deleted = vendor.ok("delete_record", kind="lead", id=lead)

    new = vendor.ok("undo_action", action_id=deleted["action_id"])["result"]["id"]
    vendor.ok("update_lead", lead=new, phone="+14155550124")

    assert vendor.ok("send_sms", lead=new, message="Hi")["status"] == "blocked"


def test_deals_tasks_and_notes_are_created_anew_too(shop: Shop) -> None:
    vendor = shop("salessheet")
    lead = vendor.sample.jane
    made = [
        ("task", vendor.ok("create_task", title="Ring", lead=lead, due_at="2030-01-01")["task"]),
        ("deal", vendor.ok("create_deal", name="Pilot", lead=lead, value=10)["deal"]),
        ("note", vendor.ok("log_note", lead=lead, content="Met")["note"]),
    ]
    for kind, record in made:
        deleted = vendor.ok("delete_record", kind=kind, id=record["id"])

        result = vendor.ok("undo_action", action_id=deleted["action_id"])["result"]

        found = {each["id"]: each for each in vendor.talk.read(lead, f"{kind}s")[f"{kind}s"]}
        assert record["id"] not in found
        same = {k: v for k, v in record.items() if k not in ("id", "lead_id")}
        assert {k: v for k, v in found[result["id"]].items() if k != "id"} == same


def test_consent_does_not_come_back_where_a_tool_would_have_to_write_it(portal: BlockingPortal, tmp_path: Path) -> None:
    settings = policy(tmp_path, '[policy.require_consent]\nsms = "source"')
    with connected(portal, tmp_path, "dialsheet", "modern", asked=True, there=None, **settings) as vendor:
        assert vendor.talk.read(vendor.sample.jane)["lead"]["custom_fields"] == {"source": "fair"}
        deleted = vendor.done("delete_record", kind="lead", id=vendor.sample.jane)

        undone = vendor.ok("undo_action", action_id=deleted["action_id"])

        assert "custom_fields.source" in undone["result"]["not_restored"]
        assert "custom_fields" not in vendor.talk.read(undone["result"]["id"])["lead"]


# Holes


def test_an_undo_lifts_no_block(crm: Talk) -> None:
    lead = crm.lead(email=f"{uuid4()}@first.example")
    moved = crm.ok("update_lead", lead=lead, email=f"{uuid4()}@second.example", phone=number())
    crm.ok("set_do_not_contact", lead=lead, blocked=True)

    crm.ok("undo_action", action_id=moved["action_id"])

    assert crm.ok("send_email", lead=lead, subject="Hi", body="Hi")["status"] == "blocked"
    assert crm.ok("send_sms", lead=lead, message="Hi")["status"] == "blocked"


def test_an_address_that_an_undo_puts_back_is_confirmed_before_it_is_used(start: Start, tmp_path: Path) -> None:
    crm = start(settings=policy(tmp_path, '[policy]\noutward = "allow"\nquiet_hours = "off"'))
    (lead,) = crm.ok("search_leads", query="jane.whitfield")["leads"]
    changed = crm.ok("update_lead", lead=lead["id"], clear=["phone"])
    crm.ok("undo_action", action_id=changed["action_id"])

    sent = crm.ok("send_sms", lead=lead["id"], message="Hi")

    assert sent["status"] == "done"
    assert "with undo_action" in crm.user.asked[0]


def test_an_undo_writes_no_consent(start: Start, tmp_path: Path) -> None:
    crm = start()
    lead = crm.lead(custom_fields={"sms_opt_in": True})
    changed = crm.ok("update_lead", lead=lead, custom_fields={"sms_opt_in": False})
    strict = start(settings=policy(tmp_path, '[policy.require_consent]\nsms = "sms_opt_in"'))

    line = strict.refused("undo_action", action_id=changed["action_id"])

    assert line.startswith('forbidden: "sms_opt_in" holds the consent')
    assert crm.read(lead)["lead"]["custom_fields"] == {"sms_opt_in": False}


# Enrolments


def test_an_enrolment_is_taken_back_and_can_be_made_again(crm: Talk) -> None:
    sequence = crm.ok("list_options", kind="sequences")["options"][0]["name"]
    leads = [crm.lead(), crm.lead()]
    enrolled = crm.ok("enroll_in_sequence", sequence=sequence, leads=leads)
    assert enrolled["succeeded"] == leads

    undone = crm.ok("undo_action", action_id=enrolled["action_id"])

    assert undone["status"] == "undone"
    assert undone["result"] == {"succeeded": leads, "failed": []}
    assert crm.ok("unenroll_from_sequence", sequence=sequence, leads=leads)["succeeded"] == []
    assert crm.ok("enroll_in_sequence", sequence=sequence, leads=leads)["succeeded"] == leads


def test_who_was_taken_out_already_is_told(crm: Talk) -> None:
    sequence = crm.ok("list_options", kind="sequences")["options"][0]["name"]
    leads = [crm.lead(), crm.lead(), crm.lead()]
    enrolled = crm.ok("enroll_in_sequence", sequence=sequence, leads=leads)
    crm.ok("unenroll_from_sequence", sequence=sequence, leads=leads[:1])
    crm.ok("delete_record", kind="lead", id=leads[1])

    undone = crm.ok("undo_action", action_id=enrolled["action_id"])

    assert undone["status"] == "undone"
    assert undone["result"]["succeeded"] == leads[2:]
    assert [each["item"] for each in undone["result"]["failed"]] == leads[:2]


def test_taking_out_is_not_undone_because_that_would_send(crm: Talk) -> None:
    sequence = crm.ok("list_options", kind="sequences")["options"][0]["name"]
    lead = crm.lead()
    crm.ok("enroll_in_sequence", sequence=sequence, leads=[lead])
    out = crm.ok("unenroll_from_sequence", sequence=sequence, leads=[lead])

    line = crm.refused("undo_action", action_id=out["action_id"])

    assert line.startswith("unsupported: unenroll_from_sequence can't be undone; enroll_in_sequence ")


# What has not happened yet


def test_an_action_that_waits_for_its_confirmation_is_cancelled(mute: Talk) -> None:
    lead = mute.lead()
    waiting = mute.ok("send_sms", lead=lead, message="Hi")
    assert waiting["status"] == "confirmation_required"

    cancelled = mute.ok("undo_action", action_id=waiting["action_id"])

    assert (cancelled["status"], cancelled["action_id"]) == ("cancelled", waiting["action_id"])
    answer = mute.ok("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])
    assert answer["status"] == "cancelled"
    assert mute.sent(lead) == []
    assert mute.ok("undo_action", action_id=waiting["action_id"])["status"] == "duplicate"


def test_an_action_that_waits_for_a_person_is_cancelled(start: Start) -> None:
    crm = start(settings={"confirm_fallback": "approval"}, asked=False)
    lead = crm.lead()
    waiting = crm.ok("delete_record", kind="lead", id=lead)
    assert waiting["status"] == "pending_approval"

    assert crm.ok("undo_action", action_id=waiting["action_id"])["status"] == "cancelled"

    assert [each["status"] for each in crm.ok("list_actions", limit=2)["actions"]] == ["done", "cancelled"]


def test_a_deferred_message_is_withdrawn_and_asks_nobody_even_where_writes_are_confirmed(
    start: Start, tmp_path: Path
) -> None:
    today = datetime.now(UTC).date()
    closed = ", ".join(f'"{today + timedelta(days=n)}"' for n in (-1, 0, 1))
    crm = start(settings=policy(tmp_path, f'[policy]\nblackout_dates = [{closed}]\nwrite = "confirm"'))
    lead = crm.lead(phone="+493012345678", email=None)
    waiting = crm.ok("send_sms", lead=lead, message="Good night", defer=True)
    assert waiting["status"] == "scheduled"
    crm.user.asked.clear()

    cancelled = crm.ok("undo_action", action_id=waiting["action_id"])

    assert (cancelled["status"], cancelled["action_id"]) == ("cancelled", waiting["action_id"])
    assert crm.user.asked == []
    assert crm.sent(lead) == []
    again = crm.ok("send_sms", lead=lead, message="Good night", defer=True)
    assert again["status"] == "scheduled"
    assert again["action_id"] != waiting["action_id"]


def test_what_was_reversed_meanwhile_is_no_repeat(crm: Talk) -> None:
    sequence = crm.ok("list_options", kind="sequences")["options"][0]["name"]
    lead = crm.lead()
    for _ in range(2):
        crm.ok("enroll_in_sequence", sequence=sequence, leads=[lead])
        assert crm.ok("unenroll_from_sequence", sequence=sequence, leads=[lead])["status"] == "done"
    for _ in range(2):
        assert crm.ok("set_do_not_contact", lead=lead, blocked=True)["status"] == "done"
        assert crm.ok("set_do_not_contact", lead=lead, blocked=False)["status"] == "done"


def policy(folder: Path, text: str) -> dict[str, str]:
    """Return the settings that name a file with this policy."""
    file = folder / f"{uuid4()}.toml"
    file.write_text(text + "\n")
    return {"config": str(file)}
