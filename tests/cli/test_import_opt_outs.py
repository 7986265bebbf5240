"""`crm-mcp import` of people who must not be contacted, who share a number, or who are there already."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

from .running import answer_of, leads, run, write_csv

OPTED = [
    ["Name", "Email", "Phone", "Do Not Call", "Email Opt Out"],
    ["Op Ted", "op@example.com", "+1 415 555 0198", "1", ""],
    ["Un Subbed", "un@example.com", "+1 415 555 0197", "0", "yes"],
    ["Fr Ee", "free@example.com", "+1 415 555 0196", "", "no"],
]


def sent(folder: Path, tool: str, lead: str) -> str:
    words = f"Hello {uuid4()}"
    text = [f"message={words}"] if tool == "send_sms" else ["subject=Hi", f"body={words}"]
    policy = folder / "config.toml"
    policy.write_text('[policy]\nquiet_hours = "off"\n', encoding="utf-8")
    made = run(folder, "call", tool, f"lead={lead}", *text, "--yes", "--output", "json", CRM_MCP_CONFIG=str(policy))
    return str(answer_of(made)["status"])


def imported(folder: Path, rows: list[list[Any]], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "import", str(write_csv(folder / "leads.csv", rows)), "--yes", *arguments, CRM_MCP_COUNTRY="US")


def test_whoever_a_column_says_no_for_is_not_reached(tmp_path: Path):
    result = imported(tmp_path, OPTED)

    assert result.returncode == 0
    assert "blocks sms, call where it says yes" in result.stdout
    assert "2 of them must not be contacted" in result.stdout
    reached = {
        (lead, tool): sent(tmp_path, tool, f"{lead}@example.com")
        for lead in ("op", "un", "free")
        for tool in ("send_sms", "send_email")
    }
    stopped = {each for each, status in reached.items() if status == "blocked"}
    assert stopped == {("op", "send_sms"), ("un", "send_email")}
    assert [each.do_not_contact for each in leads(tmp_path)] == [("call", "sms"), ("email",), None]


def test_a_second_import_does_not_lift_and_a_later_opt_out_blocks_whom_it_meets(tmp_path: Path):
    free = [[*row[:3], *(["", ""] if n else row[3:])] for n, row in enumerate(OPTED)]
    imported(tmp_path, free)
    assert sent(tmp_path, "send_email", "un@example.com") == "done"

    imported(tmp_path, OPTED)
    imported(tmp_path, free, "--if-exists", "update")

    assert sent(tmp_path, "send_email", "un@example.com") == "blocked"


def test_a_value_that_says_neither_stops_with_code_3_before_anything_is_written(tmp_path: Path):
    rows = [*OPTED, ["Ma Ybe", "maybe@example.com", "", "", "ask me"]]

    stopped = imported(tmp_path, rows)
    skipped = imported(tmp_path, rows, "--skip", "Email Opt Out")

    assert (stopped.returncode, skipped.returncode) == (3, 0)
    assert '"Email Opt Out" has "ask me"' in stopped.stderr
    assert "Left out, as asked: Email Opt Out." in skipped.stdout
    assert "4 created" in skipped.stdout


def test_a_dry_run_stops_for_it_as_well(tmp_path: Path):
    stopped = imported(tmp_path, [*OPTED, ["Ma Ybe", "maybe@example.com", "", "", "ask me"]], "--dry-run")

    assert stopped.returncode == 3
    assert not (tmp_path / "crm").exists()


def test_who_would_be_changed_is_named_before_anybody_is_asked_and_by_a_dry_run(tmp_path: Path):
    people = [
        ["Name", "Email", "Title"],
        ["Nina Falk", "nina@example.com", "CTO"],
        ["Otto Falk", "otto@example.com", ""],
    ]
    imported(tmp_path, people)
    newer = [people[0], ["Nina F.", "nina@example.com", "CEO"], ["Zed Quist", "otto@example.com", "Boss"]]

    dry = imported(tmp_path, newer, "--if-exists", "update", "--dry-run")
    done = imported(tmp_path, newer, "--if-exists", "update")

    assert "line 2 (Nina F.) changes L1 (Nina Falk)" in dry.stdout
    assert "line 3 (Zed Quist) changes L2 (Otto Falk)" in dry.stdout
    assert "other name" in dry.stdout
    assert "(0 would be created, 2 updated, 0 skipped)" in dry.stdout
    assert "line 3 (Zed Quist): L2 (Otto Falk): other name; filled: title" in done.stdout
    assert "Leads that it changed:\n  line 2 (Nina F.) changes L1 (Nina Falk)" in done.stdout
    assert [(each.name, each.title) for each in leads(tmp_path)] == [("Nina F.", "CEO"), ("Otto Falk", "Boss")]


def test_skipped_rows_are_listed_with_the_reason_and_all_of_them_in_a_file_where_they_are_many(tmp_path: Path):
    people = [["Name", "Email"], *([f"Person {n}", f"p{n}@example.com"] for n in range(30))]
    imported(tmp_path, people)
    again = [["Name", "Email", "Title"], *([*row, "CTO"] for row in people[1:])]

    few = imported(tmp_path, again[:4])
    many = imported(tmp_path, again)

    assert "line 2 (Person 0): L1 (Person 0) has this e-mail address already" in few.stdout
    assert "and 10 more" in many.stdout
    listed = (tmp_path / "leads.skipped.csv").read_text(encoding="utf-8").splitlines()
    assert len(listed) == 31
    assert listed[30] == "Person 29,p29@example.com,CTO,31,L30 (Person 29) has this e-mail address already"


def test_a_row_that_was_imported_before_is_listed_as_well(tmp_path: Path):
    people = [["Name", "Email"], ["Ann Lee", "ann@example.com"], ["Ann Lee", "ann@example.com"]]

    first, again = imported(tmp_path, people), imported(tmp_path, people)

    assert "line 3 (Ann Lee): this very row was imported before" in first.stdout
    assert "line 2 (Ann Lee): this very row was imported before" in again.stdout


def test_what_settles_a_column_that_can_t_be_read_is_said_and_does(tmp_path: Path):
    people = [["Name", "Email", "DND"], ["Ann Lee", "ann@example.com", "SMS"]]

    stopped = imported(tmp_path, people)
    kept = imported(tmp_path, people, "--map", "DND=custom_fields.DND")

    assert stopped.returncode == 3
    assert '--skip "DND"' in stopped.stderr
    assert 'map {"DND": ""}' in stopped.stderr
    assert '--map "DND=custom_fields.DND"' in stopped.stderr
    assert "do_not_contact" not in stopped.stderr
    assert (kept.returncode, [each.do_not_contact for each in leads(tmp_path)]) == (0, [None])


def test_a_refused_number_is_left_out_and_told(tmp_path: Path):
    result = imported(tmp_path, [["Name", "Email", "Phone"], ["Uma One", "uma@example.com", "1111111111"]])

    assert 'line 2 (Uma One): phone left out: "1111111111" is no phone number of a person' in result.stdout
    assert [each.phone for each in leads(tmp_path)] == [None]


def test_a_rejected_row_keeps_its_no_and_every_column_that_is_not_taken_is_named(tmp_path: Path):
    imported(tmp_path, [["Name", "Email", "Phone"], ["Re Jected", "re@example.com", "+1 415 555 0181"]])
    odd = [f"Odd {n}" for n in range(45)]
    rows = [["Name", "Email", "Phone", "Do Not Call", *odd], ["Re Jected", "re@@example", "+1 415 555 0181", "1", *odd]]

    result = imported(tmp_path, rows)

    assert result.returncode == 1
    assert "that they must not be contacted (sms, call) is kept for +14155550181" in result.stdout
    assert "1 of them must not be contacted" in result.stdout
    assert all(f"{each}," in result.stdout or f"{each}." in result.stdout for each in odd)
    assert sent(tmp_path, "send_sms", "re@example.com") == "blocked"


def test_a_status_that_says_so_blocks(tmp_path: Path):
    rows = [["Name", "Email", "Lead Status"], ["Sta Tus", "status@example.com", "Do Not Contact"]]

    assert imported(tmp_path, rows).returncode == 0
    assert sent(tmp_path, "send_email", "status@example.com") == "blocked"


def test_colleagues_of_a_german_file_at_one_switchboard_are_two_people(tmp_path: Path):
    people = [
        ["Vorname", "Name", "Telefon", "Firma"],
        ["Hans", "M\u00fcller", "+493012345678", "Beta"],
        ["Eva", "M\u00fcller", "+493012345678", "Beta"],
    ]

    imported(tmp_path, people)
    again = imported(tmp_path, people, "--if-exists", "update")

    assert "line 3 (Eva M\u00fcller) changes L2 (Eva M\u00fcller)" in again.stdout
    assert [each.name for each in leads(tmp_path)] == ["Hans M\u00fcller", "Eva M\u00fcller"]


def test_people_of_a_french_file_who_share_a_first_name_are_two(tmp_path: Path):
    imported(tmp_path, [["Pr\u00e9nom", "Nom"], ["Marie", "Martin"], ["Marie", "Durand"]])

    assert [each.name for each in leads(tmp_path)] == ["Marie Martin", "Marie Durand"]


def test_a_stray_quote_loses_neither_the_rows_after_it_nor_their_no(tmp_path: Path):
    path = tmp_path / "leads.csv"
    path.write_text(
        "Name,Email,Do Not Call,Phone,Notes\n"
        'Ann Lee,ann@example.com,Yes,+14155550123,"urgent\n'
        "Bob Ray,bob@example.com,Yes,+14155550124,call at 6\n"
        'Dan Fox,dan@example.com,,+14155550126,size 6"\n'
        "Eve Fox,eve@example.com,,+14155550127,ok\n",
        encoding="utf-8",
    )

    result = run(tmp_path, "import", str(path), "--yes")

    assert "3 created" in result.stdout
    assert [each.name for each in leads(tmp_path)] == ["Bob Ray", "Dan Fox", "Eve Fox"]
    assert sent(tmp_path, "send_sms", "bob@example.com") == "blocked"
    rejected = (tmp_path / "leads.rejected.csv").read_text(encoding="utf-8")
    assert "a quote opens here and takes in the rows after it" in rejected
    assert "Ann Lee" in rejected
