"""Undo over stdio: fields go back to what they were, unless somebody else has changed them meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from .talk import Talk

Change = tuple[str, dict[str, Any]]
Look = Callable[[], dict[str, Any]]


def lead_update(crm: Talk) -> tuple[Change, Look, Change]:
    lead = crm.lead(title="CEO", tags=["vip"], custom_fields={"Budget": 1})
    change = {
        "lead": lead,
        "title": "CTO",
        "company": "Acme",
        "tags": ["cold"],
        "custom_fields": {"Budget": 2, "New": 3},
    }
    return ("update_lead", change), lambda: crm.read(lead)["lead"], ("update_lead", {"lead": lead, "title": "CFO"})


def lead_tags(crm: Talk) -> tuple[Change, Look, Change]:
    lead = crm.lead(tags=["vip"])
    change = {"lead": lead, "add": ["cold", "hot"], "remove": ["vip"]}
    return ("tag_lead", change), lambda: crm.read(lead)["lead"], ("tag_lead", {"lead": lead, "remove": ["hot"]})


def lead_stage(crm: Talk) -> tuple[Change, Look, Change]:
    lead = crm.lead()
    later = ("move_stage", {"lead": lead, "stage": "Customer"})
    return ("move_stage", {"lead": lead, "stage": "Qualified"}), lambda: crm.read(lead)["lead"], later


def deal_stage(crm: Talk) -> tuple[Change, Look, Change]:
    lead = crm.lead()
    deal = crm.ok("create_deal", name="Pilot", lead=lead)["deal"]["id"]
    later = ("move_stage", {"deal": deal, "stage": "Proposal"})
    return ("move_stage", {"deal": deal, "stage": "Closed Won"}), lambda: crm.read(lead, "deals")["deals"][0], later


def deal_update(crm: Talk) -> tuple[Change, Look, Change]:
    lead = crm.lead()
    deal = crm.ok("create_deal", name="Pilot", lead=lead, value=10)["deal"]["id"]
    change = {"deal": deal, "name": "Pilot 2", "value": 20.5, "closes_at": "2030-01-01"}
    later = ("update_deal", {"deal": deal, "value": 30})
    return ("update_deal", change), lambda: crm.read(lead, "deals")["deals"][0], later


def deal_won(crm: Talk) -> tuple[Change, Look, Change]:
    lead = crm.lead()
    deal = crm.ok("create_deal", name="Pilot", lead=lead)["deal"]["id"]
    later = ("update_deal", {"deal": deal, "status": "lost"})
    return ("update_deal", {"deal": deal, "status": "won"}), lambda: crm.read(lead, "deals")["deals"][0], later


def task_update(crm: Talk) -> tuple[Change, Look, Change]:
    lead = crm.lead()
    task = crm.ok("create_task", title="Ring", lead=lead)["task"]["id"]
    change = {"task": task, "title": "Ring back", "due_at": "2030-01-01", "priority": "high", "completed": True}
    later = ("update_task", {"task": task, "priority": "low"})
    return ("update_task", change), lambda: crm.read(lead, "tasks")["tasks"][0], later


WAYS = [lead_update, lead_tags, lead_stage, deal_stage, deal_update, deal_won, task_update]


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({"name": None, "first_name": "Jane", "last_name": "Roe"}, {"name": "Jo Green"}),
        ({"name": None, "first_name": "Jane", "last_name": "Roe"}, {"name": "Jane van der Berg"}),
        ({"name": None, "first_name": "Jane", "last_name": "Roe"}, {"last_name": "Green"}),
        ({"name": "The Boss", "first_name": "Ann"}, {"name": "Ann"}),
        ({"name": "The Boss"}, {"first_name": "Ann", "last_name": "Lee", "name": "Ann Lee"}),
    ],
)
def test_a_name_and_its_parts_are_taken_back_together(
    crm: Talk, before: dict[str, str | None], change: dict[str, str]
) -> None:
    lead = crm.lead(**before)
    names = ("name", "first_name", "last_name")
    was = {each: crm.read(lead)["lead"].get(each) for each in names}

    done = crm.ok("update_lead", lead=lead, **change)
    assert {each: done["lead"].get(each) for each in names} != was
    crm.ok("undo_action", action_id=done["action_id"])

    assert {each: crm.read(lead)["lead"].get(each) for each in names} == was


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    return {name: sorted(v) if name == "tags" else v for name, v in record.items() if name != "updated_at"}


@pytest.mark.parametrize("way", WAYS)
def test_a_change_is_taken_back_whole_and_once(crm: Talk, way: Callable[[Talk], tuple[Change, Look, Change]]) -> None:
    (tool, arguments), look, _ = way(crm)
    before = look()
    action = crm.ok(tool, **arguments)["action_id"]
    assert comparable(look()) != comparable(before)

    undone = crm.ok("undo_action", action_id=action)

    assert (undone["status"], undone["action_id"]) == ("undone", action)
    assert comparable(look()) == comparable(before)
    assert crm.ok("undo_action", action_id=action)["status"] == "duplicate"
    assert comparable(look()) == comparable(before)
    listed = {each["action_id"]: each["status"] for each in crm.ok("list_actions", limit=3)["actions"]}
    assert listed[action] == "undone"


@pytest.mark.parametrize("way", WAYS)
def test_after_a_later_change_nothing_is_taken_back_and_both_values_are_named(
    crm: Talk, way: Callable[[Talk], tuple[Change, Look, Change]]
) -> None:
    (tool, arguments), look, (later, other) = way(crm)
    action = crm.ok(tool, **arguments)["action_id"]
    crm.ok(later, **other)
    after = look()

    line = crm.refused("undo_action", action_id=action)

    assert line.startswith("conflict: the record has changed since: ")
    assert ", it was " in line
    assert "nothing was undone" in line
    assert look() == after


def test_the_same_change_again_can_be_undone_once_the_later_one_is(crm: Talk) -> None:
    lead = crm.lead(title="one")
    first = crm.ok("update_lead", lead=lead, title="two")["action_id"]
    second = crm.ok("update_lead", lead=lead, title="three")["action_id"]
    assert crm.refused("undo_action", action_id=first).startswith("conflict: ")

    for action, title in ((second, "two"), (first, "one")):
        crm.ok("undo_action", action_id=action)
        assert crm.read(lead)["lead"]["title"] == title


def test_a_change_of_other_fields_does_not_stand_in_the_way(crm: Talk) -> None:
    lead = crm.lead(title="one")
    action = crm.ok("update_lead", lead=lead, title="two")["action_id"]
    crm.ok("update_lead", lead=lead, company="Acme")
    crm.ok("log_note", lead=lead, content="x")

    crm.ok("undo_action", action_id=action)

    found = crm.read(lead)["lead"]
    assert (found["title"], found["company"]) == ("one", "Acme")


def test_what_was_empty_is_empty_again(crm: Talk) -> None:
    lead = crm.lead(phone=None)
    before = crm.read(lead)["lead"]
    action = crm.ok("update_lead", lead=lead, title="CTO", company="Acme", tags=["x"], custom_fields={"A": 1})[
        "action_id"
    ]

    crm.ok("undo_action", action_id=action)

    assert comparable(crm.read(lead)["lead"]) == comparable(before)


def test_what_was_cleared_comes_back(crm: Talk) -> None:
    lead = crm.lead(title="CTO", tags=["vip"])
    before = crm.read(lead)["lead"]
    action = crm.ok("update_lead", lead=lead, clear=["title", "phone", "tags"])["action_id"]
    assert not {"title", "phone", "tags"} & set(crm.read(lead)["lead"])

    crm.ok("undo_action", action_id=action)

    assert comparable(crm.read(lead)["lead"]) == comparable(before)


def test_an_update_through_create_lead_can_be_undone_too(crm: Talk) -> None:
    lead = crm.lead(title="CEO")
    address = crm.read(lead)["lead"]["email"]
    action = crm.ok("create_lead", email=address, title="CTO", if_exists="update")["action_id"]

    crm.ok("undo_action", action_id=action)

    assert crm.read(lead)["lead"]["title"] == "CEO"


def test_what_cannot_be_undone_says_what_can(crm: Talk) -> None:
    lead = crm.lead()
    actions = {
        "log_note": {"lead": lead, "content": "x"},
        "send_sms": {"lead": lead, "message": "x"},
        "create_lead": {"name": f"Nobody {uuid4()}"},
        "create_deal": {"name": "x"},
        "create_task": {"title": "x"},
        "set_do_not_contact": {"lead": lead, "blocked": True},
    }
    instead = {
        "send_sms": "what has reached somebody can't be called back",
        "set_do_not_contact": "set_do_not_contact with blocked: false lifts it, and always asks a person",
    }
    for tool, arguments in actions.items():
        line = crm.refused("undo_action", action_id=crm.ok(tool, **arguments)["action_id"])
        what = instead.get(tool, "delete_record deletes what it made, and asks the user")
        assert line == f"unsupported: {tool} can't be undone; {what}"

    undo = crm.ok("undo_action", action_id=crm.ok("update_lead", lead=lead, title="x")["action_id"])
    assert crm.refused("undo_action", action_id=undo["undone_by"]).startswith("unsupported: ")


def test_undoing_the_change_of_a_deleted_record_is_not_found(crm: Talk) -> None:
    lead = crm.lead()
    action = crm.ok("update_lead", lead=lead, title="x")["action_id"]
    crm.ok("delete_record", kind="lead", id=lead)

    assert crm.refused("undo_action", action_id=action).startswith("not_found: ")


def test_undoing_needs_no_yes_where_the_change_needed_none_and_asks_nobody(crm: Talk) -> None:
    action = crm.ok("update_lead", lead=crm.lead(), title="x")["action_id"]

    crm.ok("undo_action", action_id=action)

    assert crm.user.asked == []


def test_a_name_where_there_was_none_goes_again(crm: Talk) -> None:
    lead = crm.ok("create_lead", company=f"Nameless {uuid4()}")["lead"]["id"]
    named = crm.ok("update_lead", lead=lead, name="Xavier")

    assert crm.ok("undo_action", action_id=named["action_id"])["status"] == "undone"
    assert "name" not in crm.read(lead)["lead"]
