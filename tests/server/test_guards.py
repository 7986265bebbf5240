"""Guards over stdio, in each era: nothing goes out, is deleted or unblocked without a yes to exactly that."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest

from .conftest import Start
from .talk import CANCEL, DECLINE, ERAS, NO, YES, Era, Talk, text_in

REFUSALS = [
    pytest.param(NO, id="confirm-false"),
    pytest.param(types.ElicitResult(action="accept", content={"confirm": "true"}), id="confirm-a-string"),
    pytest.param(types.ElicitResult(action="accept", content={}), id="accept-without-confirm"),
    pytest.param(types.ElicitResult(action="accept", content={"yes": True}), id="accept-something-else"),
    pytest.param(DECLINE, id="decline"),
    pytest.param(CANCEL, id="cancel"),
]


def sms(lead: str) -> dict[str, Any]:
    return {"lead": lead, "message": "Shall we talk at 3 pm?"}


def email(lead: str) -> dict[str, Any]:
    return {"lead": lead, "subject": "The quote", "body": "Hello,\n\nhere it is."}


def enrolment(lead: str) -> dict[str, Any]:
    return {"sequence": "Follow-up", "leads": [lead]}


def deletion(lead: str) -> dict[str, Any]:
    return {"kind": "lead", "id": lead}


def lifting(lead: str) -> dict[str, Any]:
    return {"lead": lead, "blocked": False}


GUARDED: dict[str, Callable[[str], dict[str, Any]]] = {
    "send_sms": sms,
    "send_email": email,
    "enroll_in_sequence": enrolment,
    "delete_record": deletion,
    "set_do_not_contact": lifting,
}


def prepared(crm: Talk, tool: str) -> str:
    """Return a lead that the tool can act on."""
    lead = crm.lead()
    if tool == "set_do_not_contact":
        crm.ok("set_do_not_contact", lead=lead, blocked=True)
    return lead


def happened(crm: Talk, tool: str, lead: str) -> int:
    """Return how often a guarded tool has acted on a lead."""
    match tool:
        case "delete_record":
            return int(crm.call("get_lead", lead=lead).is_error or 0)
        case "set_do_not_contact":
            return int("do_not_contact" not in crm.read(lead)["lead"])
        case "enroll_in_sequence":
            return len(crm.ok("unenroll_from_sequence", sequence="Follow-up", leads=[lead])["succeeded"])
        case _:
            return len(crm.sent(lead))


# Asked


@pytest.mark.parametrize("tool", GUARDED)
def test_after_a_yes_it_happens_once_and_the_record_says_who_approved_it(crm: Talk, tool: str) -> None:
    lead = prepared(crm, tool)

    done = crm.ok(tool, **GUARDED[tool](lead))

    assert done["status"] == "done"
    assert len(crm.user.asked) == 1
    assert lead in crm.user.asked[0]
    assert happened(crm, tool, lead) == 1
    recorded = next(a for a in crm.ok("list_actions")["actions"] if a["action_id"] == done["action_id"])
    assert recorded["approved_by"] == "elicitation"


@pytest.mark.parametrize("answer", REFUSALS)
@pytest.mark.parametrize("tool", GUARDED)
def test_after_anything_else_nothing_happens(crm: Talk, tool: str, answer: types.ElicitResult) -> None:
    lead = prepared(crm, tool)
    crm.user.answer = answer

    result = crm.ok(tool, **GUARDED[tool](lead))

    assert result["status"] == "declined"
    assert "crm-mcp call" in result["reason"]
    assert len(crm.user.asked) == 1
    assert happened(crm, tool, lead) == 0


def test_the_question_shows_the_address_and_the_whole_text(crm: Talk) -> None:
    lead = crm.lead(name="Ada Byron")
    found = crm.read(lead)["lead"]
    crm.user.answer = DECLINE
    long = "word " * 300

    crm.ok("send_sms", lead=lead, message="Hello €")
    crm.ok("send_email", lead=lead, subject="The quote", body=long)

    text, mail = crm.user.asked
    assert f'SMS to {found["phone"]}, "Ada Byron" ({lead}): "Hello €"' in text
    assert "1 segment (GSM-7)" in text
    assert f'E-mail to {found["email"]}, "Ada Byron" ({lead}) from sales@northwind-supply.example' in mail
    assert 'subject "The quote"' in mail
    assert long in mail


def test_a_deletion_says_what_goes_with_it_and_is_void_when_that_grows(crm: Talk) -> None:
    lead = crm.lead()
    crm.ok("log_note", lead=lead, content="Only this")

    async def another_note() -> None:
        await crm.client.call_tool("log_note", {"lead": lead, "content": "And this"})

    crm.user.meanwhile = another_note
    result = crm.ok("delete_record", kind="lead", id=lead)

    assert "with it 1 note" in crm.user.asked[0]
    assert happened(crm, "delete_record", lead) == 0
    assert result["status"] == "expired"


@pytest.mark.parametrize("tool", ["send_sms", "send_email"])
def test_an_address_that_changes_while_the_question_is_open_voids_the_answer(crm: Talk, tool: str) -> None:
    lead = crm.lead(phone="+14152000001", email=f"before-{tool}-{crm.era}@acme.example")
    after = {"phone": "+14152000002"} if tool == "send_sms" else {"email": f"after-{tool}-{crm.era}@acme.example"}
    before = crm.read(lead)["lead"]

    async def change() -> None:
        await crm.client.call_tool("update_lead", {"lead": lead, **after})

    crm.user.meanwhile = change
    result = crm.ok(tool, **GUARDED[tool](lead))
    crm.ok("update_lead", lead=lead, clear=["phone"])

    [(field, value)] = after.items()
    assert result["status"] == "expired"
    assert before[field] in result["reason"]
    assert value in result["reason"]
    assert crm.sent(lead) == []


# Answers of the modern protocol, driven by hand


modern_only = pytest.mark.parametrize("shared", ["modern"], indirect=True)


def asked(crm: Talk, tool: str, arguments: dict[str, Any]) -> str:
    """Make the first round; returns the state that the second gives back."""
    question = crm.round(tool, arguments)
    assert isinstance(question, types.InputRequiredResult)
    assert question.request_state
    return question.request_state


def answered(crm: Talk, tool: str, arguments: dict[str, Any], answer: types.ElicitResult, state: str) -> Any:
    result = crm.round(tool, arguments, answer, state)
    assert isinstance(result, types.CallToolResult)
    return result


@modern_only
def test_an_accepted_answer_given_twice_sends_once(crm: Talk) -> None:
    lead = crm.lead()
    state = asked(crm, "send_sms", sms(lead))

    first = answered(crm, "send_sms", sms(lead), YES, state)
    second = answered(crm, "send_sms", sms(lead), YES, state)

    assert first.structured_content["status"] == "done"
    assert second.structured_content["status"] == "duplicate"
    assert second.structured_content["result"] == first.structured_content["result"]
    assert len(crm.sent(lead)) == 1


@modern_only
@pytest.mark.parametrize("first", [NO, DECLINE, CANCEL])
def test_a_refusal_cannot_be_turned_into_a_yes(crm: Talk, first: types.ElicitResult) -> None:
    lead = crm.lead()
    state = asked(crm, "send_sms", sms(lead))

    answered(crm, "send_sms", sms(lead), first, state)
    second = answered(crm, "send_sms", sms(lead), YES, state)

    assert second.structured_content["status"] == "declined"
    assert crm.sent(lead) == []


@modern_only
def test_the_answer_to_another_call_is_refused(crm: Talk) -> None:
    lead, other = crm.lead(), crm.lead()
    state = asked(crm, "send_sms", sms(lead))

    for tool, arguments in (
        ("send_sms", sms(other)),
        ("send_sms", sms(lead) | {"message": "Something else"}),
        ("send_email", email(lead)),
        ("delete_record", deletion(lead)),
    ):
        result = answered(crm, tool, arguments, YES, state)
        assert result.is_error
        assert text_in(result).startswith("forbidden: this answer belongs to another call")

    assert crm.sent(lead) == crm.sent(other) == []


@modern_only
@pytest.mark.parametrize("state", ["", "made up", "A" * 5000])
def test_an_answer_to_a_question_that_was_never_asked_sends_nothing(crm: Talk, state: str) -> None:
    lead = crm.lead()

    result = crm.round("send_sms", sms(lead), YES, state)

    assert not isinstance(result, types.CallToolResult) or result.is_error
    assert crm.sent(lead) == []


@modern_only
def test_an_answer_without_its_state_is_asked_again(crm: Talk) -> None:
    lead = crm.lead()
    asked(crm, "send_sms", sms(lead))

    assert isinstance(crm.round("send_sms", sms(lead), YES), types.InputRequiredResult)
    assert crm.sent(lead) == []


@modern_only
def test_a_state_without_an_answer_is_asked_again(crm: Talk) -> None:
    lead = crm.lead()
    state = asked(crm, "send_sms", sms(lead))

    again = crm.round("send_sms", sms(lead), None, state)

    assert isinstance(again, types.InputRequiredResult)
    assert again.request_state == state
    assert crm.sent(lead) == []


@modern_only
def test_asking_twice_is_one_question_and_one_message(crm: Talk) -> None:
    lead = crm.lead()

    states = {asked(crm, "send_sms", sms(lead)) for _ in range(2)}
    for state in states:
        answered(crm, "send_sms", sms(lead), YES, state)

    assert len(states) == 1
    assert len(crm.sent(lead)) == 1


@modern_only
def test_a_question_is_asked_anew_once_its_record_has_changed(crm: Talk) -> None:
    lead = crm.lead()
    old = asked(crm, "send_sms", sms(lead))
    crm.ok("update_lead", lead=lead, phone="+14152000003")

    new = asked(crm, "send_sms", sms(lead))
    void = answered(crm, "send_sms", sms(lead), YES, old)

    assert new != old
    assert void.structured_content["status"] == "cancelled"
    assert answered(crm, "send_sms", sms(lead), YES, new).structured_content["status"] == "done"
    assert len(crm.sent(lead)) == 1
    crm.ok("update_lead", lead=lead, clear=["phone"])


# Not asked: tokens


TOKENS = [tool for tool in GUARDED if tool != "set_do_not_contact"]


@pytest.mark.parametrize("tool", TOKENS)
def test_a_client_that_cannot_ask_hands_the_summary_back_word_for_word(mute: Talk, tool: str) -> None:
    lead = prepared(mute, tool)

    waiting = mute.ok(tool, **GUARDED[tool](lead))
    assert waiting["status"] == "confirmation_required"
    assert {"action_id", "summary", "preview", "expires_at"} <= set(waiting)
    assert waiting["preview"].startswith(waiting["summary"])
    [listed] = [a for a in mute.ok("list_actions")["actions"] if a["action_id"] == waiting["action_id"]]
    assert listed["status"] == "confirmation_required"

    done = mute.ok("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])

    assert (done["status"], done["action_id"]) == ("done", waiting["action_id"])
    [listed] = [a for a in mute.ok("list_actions")["actions"] if a["action_id"] == waiting["action_id"]]
    assert listed["approved_by"] == "token"
    assert happened(mute, tool, lead) == 1


@pytest.mark.parametrize("tool", TOKENS)
def test_without_the_summary_nothing_happens(mute: Talk, tool: str) -> None:
    lead = prepared(mute, tool)
    waiting = mute.ok(tool, **GUARDED[tool](lead))
    words = waiting["summary"]

    for wrong in ("", "yes", words[:-1], words + ".", words.upper(), words.replace(" ", "", 1), words[1:]):
        line = mute.refused("confirm_action", action_id=waiting["action_id"], summary=wrong)
        assert line.startswith("invalid_argument: summary is not the action's own, word for word")

    assert happened(mute, tool, lead) == 0


def test_white_space_in_a_summary_does_not_matter_but_within_a_quotation(mute: Talk) -> None:
    waiting = mute.ok("send_sms", lead=mute.lead(), message="On my way")
    parts = waiting["summary"].split('"')
    spaced = "\n " + '"'.join(part if n % 2 else part.replace(" ", "  \n") for n, part in enumerate(parts)) + "\t"

    other = mute.call(
        "confirm_action", action_id=waiting["action_id"], summary=waiting["summary"].replace("my way", "my  way")
    )

    assert "summary is not the action's own, word for word" in text_in(other)
    assert mute.ok("confirm_action", action_id=waiting["action_id"], summary=spaced)["status"] == "done"


def test_the_summary_stands_in_the_text_form_word_for_word(mute: Talk) -> None:
    lead = mute.lead(name='Ada "A|B; c, d" Byron')
    result = mute.call("send_sms", lead=lead, message='She said: "yes"; or | no,\nmaybe')
    [line] = [line for line in text_in(result).splitlines() if line.startswith("summary: ")]

    assert line == f"summary: {result.structured_content['summary']}"
    done = mute.ok(
        "confirm_action", action_id=result.structured_content["action_id"], summary=line.removeprefix("summary: ")
    )
    assert done["status"] == "done"


def test_a_long_text_is_named_by_its_first_200_characters_its_length_and_its_fingerprint(mute: Talk) -> None:
    body = "word " * 200

    waiting = mute.ok("send_email", lead=mute.lead(), subject="Long", body=body)

    digits = hashlib.sha256(body.encode()).hexdigest()[:32]
    assert waiting["summary"].endswith(f'"{body[:200]}" ... (1,000 characters in all, fingerprint {digits})')
    assert body in waiting["preview"]


def test_a_confirmation_serves_once_and_gives_the_earlier_result_afterwards(mute: Talk) -> None:
    lead = mute.lead()
    waiting = mute.ok("send_sms", **sms(lead))
    token = {"action_id": waiting["action_id"], "summary": waiting["summary"]}

    first, second = mute.ok("confirm_action", **token), mute.ok("confirm_action", **token)

    assert (first["status"], second["status"]) == ("done", "duplicate")
    assert second["result"] == first["result"]
    assert len(mute.sent(lead)) == 1


def test_a_confirmation_is_void_when_the_number_has_changed_since(mute: Talk) -> None:
    lead = mute.lead()
    old = mute.read(lead)["lead"]["phone"]
    waiting = mute.ok("send_sms", **sms(lead))
    mute.ok("update_lead", lead=lead, phone="+14152000004")

    result = mute.ok("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])

    assert result["status"] == "expired"
    assert old in result["reason"]
    assert "+14152000004" in result["reason"]
    assert mute.sent(lead) == []
    mute.ok("update_lead", lead=lead, clear=["phone"])


def test_a_confirmation_is_void_once_the_lead_must_not_be_contacted(mute: Talk) -> None:
    lead = mute.lead()
    waiting = mute.ok("send_sms", **sms(lead))
    mute.ok("set_do_not_contact", lead=lead, blocked=True)

    result = mute.ok("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])

    assert result["status"] == "blocked"
    assert "do-not-contact" in result["reason"]
    assert mute.sent(lead) == []


def test_only_the_same_caller_can_confirm_or_undo(mute: Talk, start: Start) -> None:
    lead = mute.lead()
    waiting = mute.ok("send_sms", **sms(lead))
    mine = mute.ok("update_lead", lead=lead, title="CTO")
    stranger = start(mute.era, folder=mute.folder, asked=False, name="stranger")

    line = stranger.refused("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])
    assert line.startswith("not_found: ")
    assert stranger.refused("undo_action", action_id=mine["action_id"]).startswith("not_found: ")

    assert mute.sent(lead) == []
    assert mute.read(lead)["lead"]["title"] == "CTO"


def test_a_caller_is_not_tied_to_a_process(mute: Talk, start: Start) -> None:
    lead = mute.lead()
    waiting = mute.ok("send_sms", **sms(lead))
    again = start(mute.era, folder=mute.folder, asked=False)

    assert again.ok("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])["status"] == "done"
    assert len(mute.sent(lead)) == 1


@modern_only
def test_a_question_to_a_person_is_not_answered_by_a_token(crm: Talk) -> None:
    lead = crm.lead()
    state = asked(crm, "send_sms", sms(lead))
    listed = crm.ok("list_actions", lead=lead)["actions"][0]

    line = crm.refused("confirm_action", action_id=listed["action_id"], summary=listed["summary"])

    assert line.startswith("forbidden: ")
    assert crm.sent(lead) == []
    assert state


# Blocked


@pytest.mark.parametrize("tool", ["send_sms", "send_email", "enroll_in_sequence"])
def test_nobody_is_asked_about_a_lead_that_must_not_be_contacted(crm: Talk, tool: str) -> None:
    lead = crm.lead()
    crm.ok("set_do_not_contact", lead=lead, blocked=True, reason="asked us to stop")

    result = crm.ok(tool, **GUARDED[tool](lead))

    assert result["status"] == "blocked"
    assert "do-not-contact" in result["reason"]
    assert crm.user.asked == []
    assert happened(crm, tool, lead) == 0


def test_do_not_contact_holds_for_the_address_whoever_has_it(crm: Talk) -> None:
    first, second = crm.lead(), crm.lead()
    address = crm.read(first)["lead"]["email"]
    crm.ok("set_do_not_contact", lead=first, blocked=True)
    crm.ok("delete_record", kind="lead", id=first)
    crm.ok("update_lead", lead=second, email=address.upper())

    assert crm.ok("send_email", **email(second))["status"] == "blocked"
    assert crm.ok("send_sms", **sms(second))["status"] == "done"


@pytest.mark.parametrize(("tool", "missing"), [("send_sms", "phone"), ("send_email", "email")])
def test_without_an_address_on_file_a_message_is_blocked(crm: Talk, tool: str, missing: str) -> None:
    lead = crm.lead(**{missing: None})

    result = crm.ok(tool, **GUARDED[tool](lead))

    assert result["status"] == "blocked"
    assert "no address on file" in result["reason"]
    assert crm.user.asked == []
    assert crm.sent(lead) == []


def test_do_not_contact_is_lifted_by_a_person_only_never_by_a_token(mute: Talk) -> None:
    lead = prepared(mute, "set_do_not_contact")

    result = mute.ok("set_do_not_contact", lead=lead, blocked=False)

    assert result["status"] == "pending_approval"
    assert "crm-mcp approvals approve" in result["reason"]
    line = mute.call("confirm_action", action_id=result["action_id"], summary=result["summary"])
    assert line.structured_content is None or line.structured_content["status"] == "pending_approval"
    assert happened(mute, "set_do_not_contact", lead) == 0


def test_enrolling_asks_about_those_who_can_be_and_names_the_rest(crm: Talk) -> None:
    good, blocked, mute_lead = crm.lead(), crm.lead(), crm.lead(email=None, phone=None)
    crm.ok("set_do_not_contact", lead=blocked, blocked=True)

    trial = crm.ok("enroll_in_sequence", sequence="Follow-up", leads=[good, blocked], dry_run=True)
    assert trial["status"] == "dry_run"
    assert crm.user.asked == []
    done = crm.ok("enroll_in_sequence", sequence="Follow-up", leads=[good, blocked, mute_lead, "L999999"])

    assert done["succeeded"] == [good]
    assert {each["item"] for each in done["failed"]} == {blocked, mute_lead, "L999999"}
    assert "Enrol 1 in the sequence" in crm.user.asked[0]
    assert "do-not-contact" in crm.user.asked[0]


def test_an_import_is_confirmed_once_the_last_hour_reaches_100(start: Start) -> None:
    crm = start(asked=False)
    rows = [{"name": f"Row {n}", "email": f"row{n}@import.example"} for n in range(150)]

    assert crm.ok("import_leads", leads=rows[:99])["counts"]["created"] == 99
    waiting = crm.ok("import_leads", leads=rows[99:])
    assert waiting["status"] == "confirmation_required"
    assert "99 were imported within the last hour" in waiting["preview"]
    assert crm.ok("search_leads", limit=1)["total"] == 300 + 99

    done = crm.ok("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])
    assert (done["status"], done["counts"]["created"]) == ("done", 51)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("fields", [20, 1])
def test_a_write_with_long_values_is_confirmed_by_its_summary_and_done_whole(
    start: Start, tmp_path: Path, era: Era, fields: int
) -> None:
    (tmp_path / "confirm.toml").write_text('[policy]\nwrite = "confirm"\n')
    crm = start(era, asked=False, settings={"config": str(tmp_path / "confirm.toml")})
    custom = {f"Field {n}": f"start {n} " + "x" * 700 + f" end {n}" for n in range(fields)}

    waiting = crm.ok("create_lead", name="Lena Long", email="lena-long@example.com", custom_fields=custom)
    other = crm.ok(
        "create_lead", name="Lena Long", email="lena-long@example.com", custom_fields=custom | {"Z": "x" * 9}
    )
    done = crm.ok("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])

    assert (waiting["status"], done["status"]) == ("confirmation_required", "done")
    assert other["action_id"] != waiting["action_id"]
    assert len(waiting["summary"]) <= 3_500
    assert 'name: "Lena Long"' in waiting["summary"]
    marked = re.search(r"[\d,]+ characters in all, fingerprint [0-9a-f]{32}\)+$", waiting["summary"])
    assert (bool(marked), "end 0" in waiting["summary"]) == (True, False)
    assert crm.read(done["lead"]["id"])["lead"]["custom_fields"] == custom


def test_who_is_asked_sees_every_value_whole(start: Start, tmp_path: Path) -> None:
    (tmp_path / "confirm.toml").write_text('[policy]\nwrite = "confirm"\n')
    crm = start(settings={"config": str(tmp_path / "confirm.toml")})
    custom = {f"Field {n}": f"start {n} " + "x" * 700 + f" end {n}" for n in range(20)} | {"Last": "short"}

    made = crm.ok("create_lead", name="Lena Long", email="lena-long@example.com", custom_fields=custom)

    assert made["status"] == "done"
    assert len(made["lead"]["custom_fields"]) == 21
    for value in custom.values():
        assert f'"{value}"' in crm.user.asked[0]
    changed = crm.ok("update_lead", lead=made["lead"]["id"], custom_fields={"Field 0": "new"})
    crm.ok("undo_action", action_id=changed["action_id"])
    assert f'"{custom["Field 0"]}"' in crm.user.asked[-1]
