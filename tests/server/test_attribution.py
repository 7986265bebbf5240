"""What a CRM's own note says of its writer, where the settings want it."""

from __future__ import annotations

from pathlib import Path

from .conftest import Start
from .talk import Talk


def attributing(start: Start, folder: Path) -> Talk:
    file = folder / "settings.toml"
    file.write_text("[audit]\nattribution = true\n")
    return start(settings={"config": str(file)})


def test_a_note_names_the_agent_and_the_action_that_wrote_it(start: Start, tmp_path: Path) -> None:
    crm = attributing(start, tmp_path)
    lead = crm.lead()

    logged = crm.ok("log_note", lead=lead, content="Met at the fair")

    (note,) = crm.read(lead, "notes")["notes"]
    text, _, line = note["content"].partition("\n\n")
    caller = crm.ok("list_actions", limit=1)["actions"][0]["caller"]
    assert (text, line) == ("Met at the fair", f"by agent {caller}, action {logged['action_id']}")


def test_a_note_that_is_too_long_with_its_writer_is_refused_whole(start: Start, tmp_path: Path) -> None:
    crm = attributing(start, tmp_path)
    lead = crm.lead()

    line = crm.refused("log_note", lead=lead, content="x" * 20_000)

    assert line.startswith("invalid_argument: content has 20000 characters; give at most 19")
    assert "nothing was written" in line
    assert crm.read(lead, "notes")["notes"] == []


def test_a_note_that_comes_back_keeps_its_first_writer(start: Start, tmp_path: Path) -> None:
    crm = attributing(start, tmp_path)
    lead = crm.lead()
    note = crm.ok("log_note", lead=lead, content="Met")["note"]
    deleted = crm.ok("delete_record", kind="note", id=note["id"])

    crm.ok("undo_action", action_id=deleted["action_id"])

    assert crm.read(lead, "notes")["notes"][0]["content"] == note["content"]


def test_without_the_setting_a_note_is_what_was_given(crm: Talk) -> None:
    lead = crm.lead()

    crm.ok("log_note", lead=lead, content="Met")

    assert crm.read(lead, "notes")["notes"][0]["content"] == "Met"
