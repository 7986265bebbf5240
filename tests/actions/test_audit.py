"""What stands in the audit log: who, which rule and which records, but no text that somebody wrote, and no key."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from crm_mcp.actions.audit import open_store, redactor, reworder
from crm_mcp.actions.intent import Answer, Question
from crm_mcp.backends.local.database import FILE
from crm_mcp.config import AuditSettings, Connection, Settings
from crm_mcp.model import LeadDraft
from tests.harness.app import App
from tests.harness.person import Person
from tests.harness.settings import FREE

ILL = "she told me of her illness"
KEY = "sk-0123456789abcdef"


def hidden(text: str) -> str:
    """Return a text as the log has it."""
    return redactor(False)({"text": text})["text"]


async def jane(app: App) -> str:
    """Return the id of a new lead, who can be reached by e-mail."""
    return (await app.crm.create_lead(LeadDraft(name="Jane", email="jane@doe.example"))).id


# Reasons


async def test_why_somebody_is_blocked_is_told_in_the_results_and_not_in_the_log(
    open_app: Callable[..., App],
) -> None:
    here = open_app(FREE)
    lead = await jane(here)
    await here.call("set_do_not_contact", lead=lead, blocked=True, channels=["email"], reason=ILL)

    sent = await here.call("send_email", lead=lead, subject="Hello", body="Are you well?")

    log = await here.log()
    assert ILL in sent["reason"]
    assert ILL not in json.dumps(log)
    assert {each["reason"] for each in log if each["event"] == "do_not_contact"} == {hidden(ILL)}
    assert log[-1]["reason"] == f"do-not-contact: Jane must not be reached by email ({hidden(ILL)})"


async def test_a_log_that_keeps_texts_keeps_reasons_too(open_app: Callable[..., App]) -> None:
    here = open_app(FREE, audit=AuditSettings(bodies=True))
    lead = await jane(here)
    await here.call("set_do_not_contact", lead=lead, blocked=True, channels=["email"], reason=ILL)

    await here.call("send_email", lead=lead, subject="Hello", body="Are you well?")

    log = await here.log()
    assert {each["reason"] for each in log if each["event"] == "do_not_contact"} == {ILL}
    assert log[-1]["reason"].endswith(f"({ILL})")


@pytest.mark.parametrize("note", ["short words", "words of some length, as people write them down after a call"])
async def test_what_a_record_said_that_has_changed_is_not_in_the_log(
    open_app: Callable[..., App], tmp_path: Path, note: str
) -> None:
    class Slow(Person):
        async def ask(self, question: Question) -> Answer:
            with sqlite3.connect(tmp_path / FILE) as db:
                db.execute("UPDATE notes SET content = 'other words'")
            return await super().ask(question)

    here = open_app({})
    made = await here.call("log_note", lead=await jane(here), content=note)

    result = await here.call("delete_record", Slow("yes"), kind="note", id=made["note"]["id"])

    log = await here.log()
    assert (result["status"], log[-1]["event"], log[-1].get("by")) == ("expired", "ended", None)
    assert note in result["reason"]
    assert log[-1]["reason"].startswith("void, because it has changed since it was shown: content was ")
    assert note not in json.dumps(log)
    assert "other words" not in json.dumps(log)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ('content was "a b" and is "c", name was "Jo" and is "Al"; again', 'content was "{}" and is "{}", name was '),
        ('notes is "a b", it was "c" after the action', 'notes is "{}", it was "{}" after the action'),
    ],
)
def test_a_text_in_a_reason_is_hidden_by_the_name_of_its_field(reason: str, told: str) -> None:
    assert reworder(False)(reason).startswith(told.format(hidden("a b"), hidden("c")))
    assert reworder(True)(reason) == reason


def test_what_a_reason_quotes_is_hidden_where_it_is_long_and_kept_where_it_names_something() -> None:
    reword, long = reworder(False), "x" * 41

    assert reword(f'the stage "Won" is no "{long}"; see a_1') == f'the stage "Won" is no "{hidden(long)}"; see a_1'
    assert reword("quiet hours: it is 03:00 for +1415") == "quiet hours: it is 03:00 for +1415"
    assert long not in reword(f'answered 500: {{"error: {long}')  # a quotation that does not end


def test_of_several_who_are_blocked_each_is_told_without_why() -> None:
    said = "do-not-contact: {} must not be reached by sms ({})"
    reason = f"{said.format('Jane', 'ill (she said); ask again')}; {said.format('Omar', 'moved')}; limit: 3 SMS a day"

    assert reworder(False)(reason) == "; ".join(
        [
            said.format("Jane", hidden("ill (she said); ask again")),
            said.format("Omar", hidden("moved); limit: 3 SMS a day")),
        ]
    )


# Arguments


@pytest.mark.parametrize(
    "name",
    [
        "body",
        "body_text",
        "messageBody",
        "HTMLBody",
        "note-2",
        "email.subject",
        "lostReason",
        "notes",
        "csv_rows",
        "summary",
    ],
)
def test_an_argument_whose_name_says_that_it_is_a_text_is_hidden(name: str) -> None:
    redact = redactor(False)

    assert redact({name: "Dear Bob"}) == {name: hidden("Dear Bob")}
    assert redact({"payload": {name: [{"html": "Dear Bob"}]}}) == {"payload": {name: [{"html": hidden("Dear Bob")}]}}
    assert redactor(True)({name: "Dear Bob"}) == {name: "Dear Bob"}


def test_an_argument_that_names_a_record_or_a_choice_is_kept() -> None:
    kept = {
        "message_id": "m-1",
        "note_uuids": ["n1"],
        "context": "a",
        "messenger": "x",
        "lead": "lead_1",
        "channel": "sms",
    }

    assert redactor(False)(kept) == kept
    assert redactor(False)({"text_id": "Dear Bob"}) == {"text_id": hidden("Dear Bob")}


@pytest.mark.parametrize("bodies", [True, False])
async def test_the_key_of_a_connection_is_in_no_entry(tmp_path: Path, *, bodies: bool) -> None:
    connection = Connection(vendor="dialsheet", name="work", api_key=SecretStr(KEY))
    store = open_store(Settings(data_dir=tmp_path, connections=(connection,), audit=AuditSettings(bodies=bodies)))
    arguments = {"email_account_id": KEY, "options": [f"Bearer {KEY}"]}

    await store.audit.record({"event": "denied", "arguments": arguments, "reason": f"{KEY} is no id"})

    [entry] = await store.audit.entries(None, 0, 10)
    assert entry.body["arguments"] == {"email_account_id": "***", "options": ["Bearer ***"]}
    assert entry.body["reason"] == "*** is no id"
    await store.aclose()
