"""`crm-mcp call`: arguments from words, questions on the terminal, results for people and for programs."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.cli.talking import coerced

from .running import LONGEST, answer_of, command, environment, fill, leads, names, run, run_afresh, typed_in

SCHEMA: dict[str, Any] = {
    "properties": {
        "name": {"type": "string"},
        "limit": {"type": "integer"},
        "blocked": {"type": "boolean"},
        "value": {"type": "number"},
        "tags": {"type": "array"},
        "custom_fields": {"type": "object"},
    }
}


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("name=5", "5"),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ("name=true", "true"),
        ("limit=5", 5),
        ("limit=five", "five"),
        ("blocked=true", True),
        ("blocked=false", False),
        ("value=12.5", 12.5),
        ("tags=a, b,", ["a", "b"]),
        ('tags=["a,b", "c"]', ["a,b", "c"]),
        ('custom_fields={"Budget": 5}', {"Budget": 5}),
        ("unknown=5", "5"),
    ],
)
def test_a_word_becomes_a_value_of_the_type_that_the_tool_wants(word: str, wanted: object):
    assert coerced(SCHEMA, [word]) == {word.partition("=")[0]: wanted}


def test_a_word_without_an_equals_sign_is_refused():
    with pytest.raises(ValueError, match='"lead" is not key=value'):
        coerced(SCHEMA, ["lead"])


def test_a_call_writes_and_prints_what_it_did(tmp_path: Path):
    words = ['custom_fields={"Budget": 5000, "Lost": true}', "tags=warm,new", "name=Ann Bell"]

    result = run_afresh(tmp_path, "call", "create_lead", *words)

    (ann,) = leads(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "summary: created Ann Bell (L1)" in result.stdout
    assert (ann.name, set(ann.tags or ())) == ("Ann Bell", {"warm", "new"})
    assert ann.custom_fields == {"Budget": 5000, "Lost": True}


def test_json_output_is_one_object_on_stdout_and_nothing_else(tmp_path: Path):
    result = run(tmp_path, "call", "search_leads", "limit=5", "--output", "json")

    assert (result.returncode, result.stderr) == (0, "")
    assert answer_of(result) == {"crm": "local", "leads": [], "next_cursor": None, "total": 0}


def test_an_error_is_one_object_too_and_the_exit_code_is_1(tmp_path: Path):
    result = run(tmp_path, "call", "get_lead", "--json", '{"lead": "L404"}', "--output", "json")

    assert (result.returncode, result.stderr) == (1, "")
    assert answer_of(result)["error"].startswith("not_found: ")


def test_an_unknown_tool_is_said_with_the_nearest(tmp_path: Path):
    result = run(tmp_path, "call", "get_led", "lead=L1")

    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith('crm-mcp: there is no tool "get_led"; valid: search_leads, get_lead, ')
    assert result.stderr.endswith('nearest: "get_lead"\n')


def test_why_a_tool_is_not_served_is_what_the_server_says(tmp_path: Path):
    result = run(tmp_path, "call", "start_call", "lead=L1")

    assert result.returncode == 1
    assert result.stdout.startswith("unsupported: local can't do start_call; ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "[1]"], "--json is no JSON object"),
        (["--json", '{"lead": '], "--json is no JSON: "),
    ],
)
def test_arguments_that_cannot_be_read_are_said(tmp_path: Path, arguments: list[str], said: str):
    result = run(tmp_path, "call", "get_lead", *arguments)

    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert said in result.stderr


@pytest.fixture
def with_two(tmp_path: Path) -> Path:
    """A folder whose CRM has Ann (L1) and Bob (L2)."""
    fill(tmp_path, "Ann", "Bob")
    return tmp_path


def test_a_guard_asks_and_only_yes_is_yes(with_two: Path):
    refused = run(with_two, "call", "delete_record", "kind=lead", "id=L1", answer="n\n")
    kept = names(with_two)

    agreed = run(with_two, "call", "delete_record", "kind=lead", "id=L1", "--output", "json", answer="y\n")

    assert kept == ["Ann", "Bob"]
    assert refused.stderr == "Delete lead Ann (L1)\ncan be undone with undo_action\nGo ahead? [y/N] "
    assert (refused.returncode, agreed.returncode) == (0, 0)
    assert "status: declined" in refused.stdout
    assert answer_of(agreed)["status"] == "done"
    assert names(with_two) == ["Bob"]


def test_yes_answers_for_the_person(with_two: Path):
    result = run(with_two, "call", "delete_record", "kind=lead", "id=L2", "--yes", "--output", "json")

    assert (result.returncode, result.stderr, answer_of(result)["status"]) == (0, "", "done")
    assert names(with_two) == ["Ann"]


def test_the_question_is_asked_and_answered_on_a_terminal(with_two: Path):
    terminal, far_end = pty.openpty()
    asking = subprocess.Popen(
        command("call", "delete_record", "kind=lead", "id=L1", "--output", "json"),
        env=environment(with_two),
        stdin=far_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=with_two,
    )
    os.close(far_end)
    assert asking.stderr is not None
    asked = [asking.stderr.readline(), asking.stderr.readline()]

    os.write(terminal, b"yes\n")
    out, rest = asking.communicate(timeout=LONGEST)
    os.close(terminal)

    assert asked == ["Delete lead Ann (L1)\n", "can be undone with undo_action\n"]
    assert rest in ("", "Go ahead? [y/N] ")  # without a line's end, it may have been read with the line before
    assert asking.returncode == 0
    assert '"status": "done"' in out
    assert names(with_two) == ["Bob"]


def test_ctrl_c_at_the_question_ends_the_command_and_changes_nothing(with_two: Path):
    code, seen = typed_in(with_two, b"\x03", "call", "delete_record", "kind=lead", "id=L1")

    assert code == 130
    assert "Traceback" not in seen
    assert seen.splitlines()[-1] == "Go ahead? [y/N] ^C"
    assert names(with_two) == ["Ann", "Bob"]
