"""Bad inputs: refused with one line that says what is wrong and what to do about it; nothing is written."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from .talk import JANE, Talk

LISTS: dict[str, dict[str, Any]] = {
    "search_leads": {},
    "list_activity": {"lead": JANE},
    "list_changes": {},
    "list_tasks": {},
    "list_deals": {},
    "list_actions": {},
}
GIVEN_A_LEAD: list[tuple[str, dict[str, Any]]] = [
    ("get_lead", {}),
    ("log_note", {"content": "x"}),
    ("send_sms", {"message": "Hi"}),
    ("update_lead", {"title": "CTO"}),
    ("set_do_not_contact", {"blocked": True}),
]


@pytest.mark.parametrize("tool", LISTS)
@pytest.mark.parametrize("limit", [0, -1, 101, "ten", 1.5, None])
def test_a_limit_is_a_whole_number_from_1_to_100(crm: Talk, tool: str, limit: object) -> None:
    line = crm.refused(tool, **LISTS[tool], limit=limit)

    assert line.startswith("invalid_argument: limit")


def test_an_unknown_parameter_is_named_with_the_nearest(crm: Talk) -> None:
    for name, tool in crm.tools().items():
        valid = list(tool.input_schema["properties"])
        if not valid:
            assert crm.refused(name, verbose=True) == (
                'invalid_argument: crm_status has no parameter "verbose"; there are none'
            )
            continue
        wrong = f"{valid[0]}s"
        line = crm.refused(name, **{wrong: 1})
        assert line.startswith(f'invalid_argument: {name} has no parameter "{wrong}"; valid: {", ".join(valid)}')
        assert line.endswith(f'; nearest: "{valid[0]}"')


def test_missing_parameters_are_all_named(crm: Talk) -> None:
    for name, tool in crm.tools().items():
        if required := tool.input_schema.get("required"):
            said = crm.refused(name).partition(" missing")[0]
            assert all(parameter in said.split() for parameter in required), said


def test_an_unknown_tool_is_a_protocol_error_that_names_the_nearest(crm: Talk) -> None:
    with pytest.raises(MCPError, match='nearest: "search_leads"'):
        crm.call("search_lead", query="acme")


def test_a_forged_or_foreign_cursor_is_refused(crm: Talk) -> None:
    cursor = crm.ok("search_leads", query="a", limit=1)["next_cursor"]
    other = "A" if cursor[0] != "A" else "B"
    made_up = [other + cursor[1:], cursor[:-2], "x", "e30", "é", "MTIz" * 20, "x" * 1999]

    assert len(crm.ok("search_leads", query="a", limit=2, cursor=cursor)["leads"]) == 2
    for forged in made_up:
        assert crm.refused("search_leads", query="a", cursor=forged).startswith("invalid_argument: cursor is not one")
    assert "filters" in crm.refused("search_leads", query="b", cursor=cursor)
    assert "filters" in crm.refused("search_leads", query="a", status="new", cursor=cursor)
    for tool, arguments in LISTS.items():
        if tool != "search_leads":
            assert crm.refused(tool, **arguments, cursor=cursor).startswith("invalid_argument: cursor")
    assert crm.refused("search_leads", query="a", cursor="x" * 3000).startswith("invalid_argument: cursor")


def test_a_number_that_two_leads_share_is_ambiguous_and_lists_both(crm: Talk) -> None:
    first, second = crm.lead(name="Ann One", company="Acme"), crm.lead(name="Bob Two")
    shared = crm.read(first)["lead"]["phone"]
    # No tool gives one number to two leads; a file that other programs have written may.
    with contextlib.closing(sqlite3.connect(crm.folder / "crm.sqlite3", timeout=10)) as file, file:
        file.execute("UPDATE leads SET phone = ? WHERE n = ?", (shared, int(second[1:])))

    for tool, arguments in GIVEN_A_LEAD:
        line = crm.refused(tool, lead=shared, **arguments)
        assert line.startswith(f'ambiguous: "{shared}" fits 2 leads: ')
        for part in (f"{first} Ann One of Acme", f"{second} Bob Two", "give the id of one of them"):
            assert part in line
    assert crm.user.asked == []


@pytest.mark.parametrize(
    ("tool", "arguments", "parts"),
    [
        ("move_stage", {"lead": JANE, "stage": "Negotation"}, ["no stage", "Closed Won", 'nearest: "Negotiation"']),
        ("create_deal", {"name": "x", "stage": "Propsal"}, ["no stage", 'nearest: "Proposal"']),
        ("search_leads", {"stage": "qualifed"}, ['nearest: "Qualified"']),
        ("list_deals", {"stage": "Negotation"}, ['nearest: "Negotiation"']),
        ("list_deals", {"status": "opn"}, ["valid: open, won, lost", 'nearest: "open"']),
        ("list_options", {"kind": "stage"}, ['nearest: "stages"']),
        ("search_leads", {"sort": "created"}, ["valid: ", 'nearest: "created_at"']),
        ("get_lead", {"lead": JANE, "include": ["note"]}, ['nearest: "notes"']),
        ("list_changes", {"kinds": ["leads"]}, ["valid: lead, note"]),
        ("enroll_in_sequence", {"sequence": "Folow-up", "leads": [JANE]}, ['nearest: "Follow-up"']),
        (
            "send_email",
            {"lead": JANE, "subject": "x", "body": "x", "mailbox": "sale@x.example"},
            ["no mailbox", "valid"],
        ),
        ("get_pipeline", {"group_by": "stages"}, ['nearest: "stage"']),
        ("create_task", {"title": "x", "priority": "hi"}, ["valid: low, normal, high"]),
        ("update_lead", {"lead": JANE, "clear": ["titel"]}, ['nearest: "title"']),
        ("create_lead", {"name": "x", "if_exists": "merge"}, ["valid: error, update, skip"]),
        ("list_actions", {"status": "pending"}, ["valid: done, failed, confirmation_required"]),
        ("delete_record", {"kind": "leads", "id": "L1"}, ['nearest: "lead"']),
        ("set_do_not_contact", {"lead": JANE, "blocked": True, "channels": ["phone"]}, ["valid: email, sms, call"]),
    ],
)
def test_a_wrong_choice_is_answered_with_the_valid_ones_and_the_nearest(
    crm: Talk, tool: str, arguments: dict[str, Any], parts: list[str]
) -> None:
    line = crm.refused(tool, **arguments)

    assert line.split(":")[0] in ("invalid_argument", "not_found")
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("tool", "arguments", "start"),
    [
        ("create_lead", {"name": "x", "email": "jane@"}, "invalid_argument: email"),
        ("create_lead", {"name": "x", "phone": "12"}, 'invalid_argument: "12" is a national number'),
        ("create_lead", {"name": "x", "phone": "+1 23"}, 'invalid_argument: "+1 23" is no'),
        ("create_lead", {"name": "x", "phone": "call me"}, 'invalid_argument: "call me" is'),
        ("create_lead", {}, "invalid_argument: "),
        ("create_lead", {"name": ""}, "invalid_argument: name"),
        ("create_lead", {"name": "   "}, "invalid_argument: "),
        ("create_lead", {"name": "x" * 10_000}, "invalid_argument: name"),
        ("create_lead", {"name": "a\0b"}, "invalid_argument: name"),
        ("create_lead", {"name": 5}, "invalid_argument: name"),
        ("create_lead", {"name": ["x"]}, "invalid_argument: name"),
        ("create_lead", {"name": "x", "tags": "vip"}, "invalid_argument: tags"),
        ("create_lead", {"name": "x", "custom_fields": {"a": {"b": 1}}}, "invalid_argument: custom_fields"),
        ("update_lead", {"lead": JANE}, "invalid_argument: nothing to change is given; give one of name"),
        ("update_lead", {"lead": JANE, "email": "not one"}, "invalid_argument: email"),
        ("update_lead", {"lead": "L999999", "title": "x"}, "not_found: "),
        ("tag_lead", {"lead": JANE}, "invalid_argument: nothing to change is given; give add or remove"),
        ("tag_lead", {"lead": JANE, "add": []}, "invalid_argument: nothing to change"),
        ("update_task", {"task": "T1"}, "invalid_argument: nothing to change is given"),
        ("update_task", {"task": "T999999", "completed": True}, "not_found: "),
        ("update_deal", {"deal": "D1"}, "invalid_argument: nothing to change is given"),
        ("update_deal", {"deal": "D1", "value": -1}, "invalid_argument: value"),
        ("create_deal", {"name": "x", "value": 1e13}, "invalid_argument: value"),
        ("create_deal", {"name": "x", "currency": "dollars"}, "invalid_argument: currency"),
        ("create_deal", {"name": "x", "closes_at": "soon"}, "invalid_argument: closes_at"),
        ("create_deal", {"name": "x", "closes_at": "2030-01-01T10:00:00"}, "invalid_argument: closes_at"),
        ("create_task", {"title": "x", "due_at": 1}, "invalid_argument: due_at"),
        ("create_task", {"title": "x", "due_at": "2026-02-30"}, "invalid_argument: due_at"),
        ("get_lead", {"lead": "L999999"}, "not_found: "),
        ("get_lead", {"lead": "nobody@nowhere.example"}, 'not_found: no lead has "nobody@nowhere.example"'),
        ("get_lead", {"lead": "+14155550000"}, 'not_found: no lead has "+14155550000"'),
        ("get_lead", {"lead": "a@b"}, 'invalid_argument: "a@b" is no e-mail address'),
        ("get_lead", {"lead": ""}, "invalid_argument: lead"),
        ("get_lead", {"lead": "x" * 10_000}, "invalid_argument: lead"),
        ("get_lead", {"lead": "' OR 1=1 --"}, "not_found: "),
        ("get_call", {"call": "C999999"}, "not_found: "),
        ("move_stage", {"stage": "New"}, "invalid_argument: give either lead or deal"),
        ("move_stage", {"stage": "New", "lead": JANE, "deal": "D1"}, "invalid_argument: give either lead or deal"),
        ("move_stage", {"stage": "Qualified", "deal": "D1"}, 'invalid_argument: "Qualified" is a stage of leads'),
        ("move_stage", {"stage": "Negotiation", "deal": "D999999"}, "not_found: "),
        ("log_note", {"lead": JANE, "content": ""}, "invalid_argument: content"),
        ("log_note", {"lead": JANE, "content": "x" * 20_001}, "invalid_argument: content"),
        ("log_note", {"lead": JANE, "content": "x", "duration_seconds": -1}, "invalid_argument: duration_seconds"),
        ("send_sms", {"lead": JANE, "message": ""}, "invalid_argument: message"),
        ("send_sms", {"lead": JANE, "message": "\n \t"}, "invalid_argument: message is empty"),
        ("send_email", {"lead": JANE, "subject": "x", "body": " \u00a0"}, "invalid_argument: body is empty"),
        ("log_note", {"lead": JANE, "content": "  "}, "invalid_argument: content is empty"),
        ("send_sms", {"lead": JANE, "message": "x" * 1601}, "invalid_argument: message"),
        ("send_email", {"lead": JANE, "subject": "", "body": "x"}, "invalid_argument: subject"),
        ("send_email", {"lead": JANE, "subject": "x", "body": "x", "reply_to": "me"}, "invalid_argument: reply_to"),
        ("enroll_in_sequence", {"sequence": "Follow-up", "leads": []}, "invalid_argument: leads"),
        ("enroll_in_sequence", {"sequence": "Follow-up", "leads": [JANE] * 1001}, "invalid_argument: leads"),
        ("set_do_not_contact", {"lead": JANE, "blocked": True, "channels": []}, "invalid_argument: channels is empty"),
        ("import_leads", {}, "invalid_argument: give either leads or csv"),
        ("import_leads", {"leads": [], "csv": "name\nx"}, "invalid_argument: give either leads or csv"),
        ("import_leads", {"leads": [{"name": "x"}] * 1001}, "invalid_argument: leads"),
        ("delete_record", {"kind": "lead", "id": "L999999"}, "not_found: "),
        ("undo_action", {"action_id": "none"}, 'not_found: there is no action "none" of yours'),
        ("confirm_action", {"action_id": "none", "summary": "x"}, 'not_found: there is no action "none" of yours'),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_anybody_is_asked(
    crm: Talk, tool: str, arguments: dict[str, Any], start: str
) -> None:
    line = crm.refused(tool, **arguments)

    assert line.startswith(start)
    assert len(line) < 1500
    assert crm.user.asked == []


def test_many_faults_are_told_in_a_line_that_stays_short(crm: Talk) -> None:
    line = crm.refused("tag_lead", lead=JANE, add=[5] * 5000)

    assert line.startswith("invalid_argument: add.0")
    assert line.endswith("; and 4990 more")
    assert len(line) < 1500


def test_a_note_of_the_future_is_refused_with_the_tool_for_it(crm: Talk) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    line = crm.refused("log_note", lead=JANE, content="x", occurred_at=tomorrow)

    assert line.startswith("invalid_argument: occurred_at is in the future")
    assert "create_task" in line


@pytest.mark.parametrize(
    "name",
    ["🚀🚀 Рокет 🚀", "مريم حداد", "שרה כהן", "李小龍", "x" * 200, "e\u0301", "👩\u200d🔧 ❤\ufe0f", "</b>|;,\"'\\"],
)
def test_a_name_of_any_script_comes_back_as_it_was_given(crm: Talk, name: str) -> None:
    lead = crm.lead(name=name)

    assert crm.read(lead)["lead"]["name"] == name
    assert name in str(crm.ok("tag_lead", lead=lead, add=["named"])["summary"])


def test_line_breaks_in_a_name_become_spaces(crm: Talk) -> None:
    assert crm.read(crm.lead(name="Ada\r\nByron\u2028Lovelace"))["lead"]["name"] == "Ada Byron Lovelace"


def test_a_refused_write_says_that_nothing_was_written_and_leaves_no_trace(crm: Talk) -> None:
    lead = crm.lead()
    before = crm.read(lead)["lead"]

    line = crm.refused("update_lead", lead=lead, title="CTO", email=JANE.replace("jane", "no spaces"))

    assert line.startswith("invalid_argument: ")
    assert crm.read(lead)["lead"] == before


def test_an_import_says_of_each_bad_row_what_is_wrong_with_it(crm: Talk) -> None:
    rows = [{"email": "a@"}, {"phone": "call me"}, {}, {"nam": "x"}, {"name": "Good One", "email": "good@one.example"}]

    done = crm.ok("import_leads", leads=rows)

    assert done["counts"]["created"] == 1
    assert [each["row"] for each in done["failed"]] == ["item 1", "item 2", "item 3", "item 4"]
    assert all(each["reason"] for each in done["failed"])


@pytest.mark.parametrize(
    "name",
    [
        *("Jane\u202e (L1) at +1", "a\u0085b", "a\u009b31m", "\u200b", "x\u2066y"),
        *("a\u200db", "a\ufe0f", "Jane\U000e0041\U000e0042", "Ja\u00adne", "\ufeffJane", "\u3164"),
    ],
)
def test_a_name_that_a_person_would_not_see_as_it_is_is_refused(crm: Talk, name: str) -> None:
    assert crm.refused("create_lead", name=name).startswith("invalid_argument: name ")


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_beyond_the_calendar_is_refused(crm: Talk, moment: str) -> None:
    assert crm.refused("create_task", title="x", due_at=moment) == "invalid_argument: due_at is beyond the calendar"
    assert crm.refused("list_tasks", due_before=moment).startswith("invalid_argument: ")
