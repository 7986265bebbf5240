"""The ways round a guard that a clever agent would try, through a real client, where the policy itself allows all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from .talk import DECLINE, ERAS, YES, Era, Talk, number, talking
from .vendors import FIRST, Vendor, connected

LOOSE = """
[policy]
write = "allow"
outward = "allow"
destructive = "allow"
[policy.require_consent]
call = "call_opt_in"
"""
_texts = (f"Text number {n}" for n in count(1))


def settled_by(folder: Path, policy: str) -> Path:
    """Write a settings file."""
    file = folder / "crm-mcp" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(policy)
    return folder


@pytest.fixture(scope="module", params=ERAS)
def open_house(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Talk]:
    folder = settled_by(tmp_path_factory.mktemp("loose"), LOOSE)
    with talking(portal, folder, request.param) as talk:
        yield talk


@pytest.fixture(scope="module")
def strangers(open_house: Talk) -> Iterator[dict[str, Any]]:
    """Leads whose addresses no tool wrote, one after the other."""
    found = [
        each
        for page in _pages(open_house)
        for each in page
        if each.get("email") and each.get("phone") and not each.get("do_not_contact")
    ]
    return iter(found)


def _pages(crm: Talk) -> Iterator[list[dict[str, Any]]]:
    cursor: dict[str, str] = {}
    for _ in range(5):
        page = crm.ok("search_leads", limit=100, **cursor)
        yield page["leads"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


@pytest.fixture
def crm(open_house: Talk) -> Talk:
    open_house.user.answer, open_house.user.meanwhile = YES, None
    open_house.user.asked.clear()
    return open_house


@pytest.fixture
def lead(strangers: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """A lead that nobody in these tests has had before."""
    return next(strangers)


def wrote(crm: Talk, lead: str, channel: str, text: str) -> None:
    """Let a lead have answered just now."""
    at = int(datetime.now(UTC).timestamp() * 1000)
    with closing(sqlite3.connect(crm.folder / "crm.sqlite3")) as db, db:
        db.execute(
            "INSERT INTO messages (lead, channel, direction, body, status, sent_at) VALUES (?, ?, 'inbound', ?, ?, ?)",
            (int(lead[1:]), channel, text, "received", at),
        )


def sms(crm: Talk, lead: str) -> dict[str, Any]:
    """Send an SMS that nobody has sent before."""
    return crm.ok("send_sms", lead=lead, message=next(_texts))


# A new address


def test_what_the_policy_allows_goes_out_without_a_question_where_no_tool_wrote_the_address(
    crm: Talk, lead: dict[str, Any]
) -> None:
    done = sms(crm, lead["id"])

    assert (done["status"], crm.user.asked) == ("done", [])


@pytest.mark.parametrize("way", ["update", "create", "import", "undo"])
def test_an_address_that_a_tool_wrote_is_confirmed_and_the_person_sees_who_set_it_and_when(
    crm: Talk, lead: dict[str, Any], way: str
) -> None:
    person, phone = lead["id"], number()
    match way:
        case "create":
            person = crm.ok("create_lead", name="Somebody New", phone=phone)["lead"]["id"]
        case "import":
            row = {"email": lead["email"], "phone": phone}
            assert crm.ok("import_leads", leads=[row], if_exists="update")["counts"]["updated"] == 1
        case "undo":
            cleared = crm.ok("update_lead", lead=person, clear=["phone"])
            crm.ok("undo_action", action_id=cleared["action_id"])
            phone = lead["phone"]
        case _:
            crm.ok("update_lead", lead=person, phone=phone)
    crm.user.answer = DECLINE

    result = sms(crm, person)

    assert result["status"] == "declined"
    tool = {"update": "update_lead", "create": "create_lead", "import": "import_leads", "undo": "undo_action"}[way]
    assert f"the phone number {phone} was set by " in crm.user.asked[0]
    assert f" with {tool} 0 min ago (2" in crm.user.asked[0]
    assert all(each["direction"] == "inbound" or "Text number" not in each["body"] for each in crm.sent(person))


def test_an_enrolment_reaches_new_addresses_as_well(crm: Talk, lead: dict[str, Any]) -> None:
    crm.ok("update_lead", lead=lead["id"], email=f"new{lead['id']}@else.example")
    crm.user.answer = DECLINE

    result = crm.ok("enroll_in_sequence", sequence="Follow-up", leads=[lead["id"]])

    assert result["status"] == "declined"
    assert f"the e-mail address new{lead['id']}@else.example was set by " in crm.user.asked[0]


def test_after_a_reply_the_next_enrolment_is_confirmed(crm: Talk, strangers: Iterator[dict[str, Any]]) -> None:
    silent, other = next(strangers)["id"], next(strangers)["id"]
    wrote(crm, other, "email", "Who are you?")
    crm.user.answer = DECLINE

    free = crm.ok("enroll_in_sequence", sequence="Follow-up", leads=[silent])
    asked = crm.ok("enroll_in_sequence", sequence="Follow-up", leads=[other])

    assert (free["status"], asked["status"]) == ("done", "declined")
    assert len(crm.user.asked) == 1


# Do-not-contact


def by_update(crm: Talk, lead: dict[str, Any]) -> str:
    crm.ok("update_lead", lead=lead["id"], phone=number())
    return lead["id"]


def by_emptying_first(crm: Talk, lead: dict[str, Any]) -> str:
    crm.ok("update_lead", lead=lead["id"], clear=["phone"])
    crm.ok("update_lead", lead=lead["id"], phone=number())
    return lead["id"]


def by_import(crm: Talk, lead: dict[str, Any]) -> str:
    crm.ok("import_leads", leads=[{"email": lead["email"], "phone": number()}], if_exists="update")
    return lead["id"]


def by_create_or_update(crm: Talk, lead: dict[str, Any]) -> str:
    crm.ok("create_lead", email=lead["email"], phone=number(), if_exists="update")
    return lead["id"]


def by_undo(crm: Talk, lead: dict[str, Any]) -> str:
    moved = crm.ok("update_lead", lead=lead["id"], phone=number())
    crm.ok("undo_action", action_id=moved["action_id"])
    return lead["id"]


def by_deletion(crm: Talk, lead: dict[str, Any]) -> str:
    crm.ok("delete_record", kind="lead", id=lead["id"])
    return crm.ok("create_lead", name="Somebody Else", phone=lead["phone"])["lead"]["id"]


def by_deletion_and_import(crm: Talk, lead: dict[str, Any]) -> str:
    crm.ok("delete_record", kind="lead", id=lead["id"])
    crm.ok("import_leads", csv=f"name,phone\nSomebody Else,{lead['phone']}\n")
    return crm.ok("get_lead", lead=lead["phone"])["lead"]["id"]


def by_deletion_and_undo(crm: Talk, lead: dict[str, Any]) -> str:
    deleted = crm.ok("delete_record", kind="lead", id=lead["id"])
    crm.ok("undo_action", action_id=deleted["action_id"])
    return lead["id"]


def by_a_second_lead(crm: Talk, lead: dict[str, Any]) -> str:
    crm.ok("update_lead", lead=lead["id"], phone=number())
    return crm.ok("create_lead", name="Second", phone=lead["phone"])["lead"]["id"]


def by_a_tag(crm: Talk, lead: dict[str, Any]) -> str:
    crm.ok("tag_lead", lead=lead["id"], add=["opted in"], remove=["do not contact"])
    return lead["id"]


ROUNDABOUT: list[Callable[[Talk, dict[str, Any]], str]] = [
    by_update,
    by_emptying_first,
    by_import,
    by_create_or_update,
    by_undo,
    by_deletion,
    by_deletion_and_import,
    by_deletion_and_undo,
    by_a_second_lead,
    by_a_tag,
]


@pytest.mark.parametrize("said_no", ["by a person", "by a STOP"])
@pytest.mark.parametrize("way", ROUNDABOUT)
def test_no_way_round_lifts_a_block(
    crm: Talk, lead: dict[str, Any], way: Callable[[Talk, dict[str, Any]], str], said_no: str
) -> None:
    if said_no == "by a STOP":
        wrote(crm, lead["id"], "sms", "Stop!")
    else:
        crm.ok("set_do_not_contact", lead=lead["id"], blocked=True, channels=["sms"])

    person = way(crm, lead)
    result = sms(crm, person)

    assert result["status"] == "blocked"
    assert result["reason"].startswith("do-not-contact: ")


def test_a_change_after_the_block_is_taken_back_and_the_address_before_stays_blocked(
    crm: Talk, lead: dict[str, Any]
) -> None:
    moved = crm.ok("update_lead", lead=lead["id"], phone=number())
    crm.ok("set_do_not_contact", lead=lead["id"], blocked=True, channels=["sms"])

    crm.ok("undo_action", action_id=moved["action_id"])

    assert crm.read(lead["id"])["lead"]["phone"] == lead["phone"]
    assert sms(crm, lead["id"])["status"] == "blocked"


def test_a_stop_by_e_mail_blocks_e_mail_alone(crm: Talk, lead: dict[str, Any]) -> None:
    wrote(crm, lead["id"], "email", "Unsubscribe\n\n> Good morning,")

    mail = crm.ok("send_email", lead=lead["id"], subject="Hello", body=next(_texts))
    text = sms(crm, lead["id"])

    assert (mail["status"], text["status"]) == ("blocked", "done")


def test_lifting_takes_a_person_and_counts_for_the_stop_before_it(crm: Talk, lead: dict[str, Any]) -> None:
    wrote(crm, lead["id"], "sms", "STOP")
    assert sms(crm, lead["id"])["status"] == "blocked"
    crm.user.answer = DECLINE

    no = crm.ok("set_do_not_contact", lead=lead["id"], blocked=False)
    still = sms(crm, lead["id"])
    crm.user.answer = YES
    yes = crm.ok("set_do_not_contact", lead=lead["id"], blocked=False)
    free = sms(crm, lead["id"])

    assert [each["status"] for each in (no, still, yes, free)] == ["declined", "blocked", "done", "done"]
    assert len(crm.user.asked) == 2


def test_a_client_that_can_t_ask_gets_no_token_for_lifting(portal: BlockingPortal, tmp_path: Path) -> None:
    with talking(portal, settled_by(tmp_path, LOOSE), "modern", asked=False) as crm:
        person = crm.lead()
        crm.ok("set_do_not_contact", lead=person, blocked=True)

        lifting = crm.ok("set_do_not_contact", lead=person, blocked=False)
        confirmed = crm.ok("confirm_action", action_id=lifting["action_id"], summary=lifting["summary"])

        assert (lifting["status"], confirmed["status"]) == ("pending_approval", "pending_approval")
        assert sms(crm, person)["status"] == "blocked"


# Consent


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("create_lead", {"name": "New", "custom_fields": {"call_opt_in": True}}),
        ("update_lead", {"custom_fields": {"Call Opt-In": "yes"}}),
        ("update_lead", {"clear": ["custom_fields.call_opt_in"]}),
        ("import_leads", {"leads": [{"name": "New", "custom_fields": {"callOptIn": 1}}]}),
        ("import_leads", {"csv": "name,phone,call_opt_in\nNew,+14155550123,yes\n"}),
    ],
)
def test_no_tool_writes_the_field_that_holds_consent(
    crm: Talk, lead: dict[str, Any], tool: str, arguments: dict[str, Any]
) -> None:
    given = {"lead": lead["id"]} if tool == "update_lead" else {}

    line = crm.refused(tool, **given, **arguments)

    assert line.startswith('forbidden: "call_opt_in" holds the consent to be reached by call')
    assert "call_opt_in" not in str(crm.read(lead["id"])["lead"])


# Other operations of the vendor


@pytest.fixture(scope="module", params=ERAS)
def begun(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Vendor]:
    era: Era = request.param
    needed = LOOSE.replace("call =", "linkedin =").replace("call_opt_in", "industry_focus")
    folder = settled_by(tmp_path_factory.mktemp("vendor"), needed)
    with connected(portal, folder, "getsales", era) as vendor:
        yield vendor


@pytest.fixture
def shop(begun: Vendor) -> Vendor:
    begun.talk.user.answer = YES
    begun.talk.user.asked.clear()
    return begun


def mail(shop: Vendor, lead: dict[str, Any], body: str, **more: Any) -> dict[str, Any]:
    """Send an e-mail by an operation that no tool serves."""
    box = shop.ok("list_options", kind="mailboxes")["options"][0]["id"]
    arguments = {
        "mailbox_uuid": box,
        "to": [{"to_email": lead["work_email"], "to_name": lead["name"]}],
        "cc": [],
        "subject": "The quote",
        "body": body,
        "lead_uuid": lead["uuid"],
    }
    return shop.ok("call_operation", operation="send_email_with_copies", arguments={**arguments, **more})


def someone(shop: Vendor, place: int) -> dict[str, Any]:
    """Return a lead as the vendor has it."""
    return shop.there.rows("lead")[place]


def mails(shop: Vendor) -> int:
    return len([each for each in shop.left if each.path.endswith("/send-email")])


def test_what_a_tool_has_sent_no_operation_sends_again(shop: Vendor) -> None:
    lead, before = someone(shop, 6), mails(shop)

    sent = shop.ok("send_email", lead=lead["uuid"], subject="The quote", body="Hello,\nhere it is.")
    again = mail(shop, lead, "<p>Hello,<br>here it is.</p>")

    assert (sent["status"], again["status"]) == ("done", "duplicate")
    assert again["action_id"] == sent["action_id"]
    assert mails(shop) == before + 1


def test_an_operation_reaches_nobody_who_is_blocked_or_a_stranger(shop: Vendor) -> None:
    lead, before = someone(shop, 7), mails(shop)
    stranger = mail(shop, lead, "one", cc=[{"to_email": "me@else.example"}])
    shop.ok("set_do_not_contact", lead=lead["uuid"], blocked=True, channels=["email"])

    blocked = mail(shop, lead, "two")

    assert (stranger["status"], blocked["status"]) == ("blocked", "blocked")
    assert stranger["reason"].startswith('no address on file: "me@else.example"')
    assert blocked["reason"].startswith("do-not-contact: ")
    assert mails(shop) == before


def test_an_operation_stops_at_the_lead_s_own_stop(shop: Vendor) -> None:
    lead, before = someone(shop, 8), mails(shop)
    box = shop.there.rows("mailbox")[0]
    shop.there.make_email(
        box,
        type="inbox",
        subject="Re: The quote",
        body="<p>Unsubscribe</p><blockquote>Hello</blockquote>",
        from_email=lead["work_email"],
        to_email=box["email"],
        lead_uuid=lead["uuid"],
        sent_at=(datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )

    result = mail(shop, lead, "three")

    assert (result["status"], mails(shop)) == ("blocked", before)
    assert "STOP word" in result["reason"]


@pytest.mark.parametrize("named", ["name", "id"])
def test_no_operation_writes_the_field_that_holds_consent(shop: Vendor, named: str) -> None:
    [field] = shop.there.rows("custom_field", name="industry_focus")
    before = len(shop.left)
    payload = {"custom_field_uuid" if named == "id" else "name": field["uuid" if named == "id" else "name"]}
    arguments = {
        "type": "contact_change_custom_field",
        "filter": {"ids": [FIRST]},
        "payload": {**payload, "value": "yes"},
    }

    line = shop.refused("call_operation", operation="mass_action_on_leads", arguments=arguments)

    assert line.startswith('forbidden: "industry_focus" holds the consent')
    assert len(shop.left) == before


def test_a_new_address_is_confirmed_for_an_operation_as_well(shop: Vendor) -> None:
    lead = someone(shop, 9)
    shop.ok("update_lead", lead=lead["uuid"], email="new.one@else.example")
    shop.talk.user.answer = DECLINE

    result = mail(shop, someone(shop, 9), "four")

    assert result["status"] == "declined"
    assert "the e-mail address new.one@else.example was set by " in shop.talk.user.asked[0]


def test_a_deletion_by_an_operation_keeps_what_the_vendor_had_marked(shop: Vendor) -> None:
    lead = someone(shop, 10)
    lead["email_status"] = "unsubscribed"
    address, gone = lead["work_email"], {"type": "contact_delete", "filter": {"ids": [lead["uuid"]]}}

    shop.ok("call_operation", operation="mass_action_on_leads", arguments=gone)
    made = shop.ok("create_lead", name="Somebody Else", email=address, list="Inbound")["lead"]
    result = shop.ok("send_email", lead=made["id"], subject="Hello", body="five")

    assert result["status"] == "blocked"
    assert "the CRM's own mark" in result["reason"]
