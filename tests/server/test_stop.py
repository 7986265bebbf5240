"""What people wrote to be left alone, over real vendors' lists: it blocks, or a person is asked; never a token."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Shop
from .talk import ERAS
from .vendors import FIRST, Vendor


@pytest.fixture(params=ERAS)
def mute(request: pytest.FixtureRequest, shop: Shop) -> Vendor:
    """A client of Dialsheet that can't ask its user."""
    return shop("dialsheet", request.param, asked=False)


@pytest.fixture
def getsales(shop: Shop) -> Vendor:
    return shop("getsales", asked=False)


def text(crm: Vendor, lead: str, message: str = "Hello") -> dict[str, Any]:
    return crm.ok("send_sms", lead=lead, message=message)


def marks(crm: Vendor, lead: str) -> list[bool]:
    """Return which messages of a lead are marked, the newest first."""
    items = crm.ok("list_activity", lead=lead, kinds=["message"], limit=100)["items"]
    return [each.get("opt_out_suspected", False) for each in items]


@pytest.mark.parametrize(
    "wrote", ["STOP please", "opt out", "stop jane whitfield", "Stop\n-- \nJ. W.\n+1 415 555 0171"]
)
def test_a_stop_counts_with_courtesy_and_a_signature_and_behind_newer_messages(mute: Vendor, wrote: str) -> None:
    mute.there.receive("sms", FIRST, wrote)
    for number in range(30):
        mute.there.receive("sms", FIRST, f"Number {number}")

    result = text(mute, FIRST)

    assert (result["status"], mute.left) == ("blocked", [])
    assert "STOP word" in result["reason"]


def test_a_stop_counts_for_all_who_have_the_number(mute: Vendor) -> None:
    jane = mute.ok("get_lead", lead=FIRST)["lead"]
    other = mute.done("create_lead", name="John Roe", phone=jane["phone"], email="john@roe.example")["lead"]["id"]
    mute.there.receive("sms", FIRST, "STOP")

    assert text(mute, other)["status"] == "blocked"


def test_a_wish_that_is_no_stop_is_marked_and_a_person_decides(mute: Vendor) -> None:
    mute.there.receive("sms", FIRST, "please stop texting me")
    mute.there.receive("sms", FIRST, "Are you there?")

    result = text(mute, FIRST)
    shown = mute.ok("list_actions", status="pending_approval")["actions"][0]

    assert marks(mute, FIRST)[:2] == [False, True]
    assert (result["status"], mute.left) == ("pending_approval", [])
    assert shown["action_id"] == result["action_id"]


def test_the_user_who_is_asked_reads_what_was_written(shop: Shop) -> None:
    crm = shop("dialsheet")
    crm.there.receive("sms", FIRST, "please stop\ntexting me")

    result = text(crm, FIRST)

    assert result["status"] == "done"
    assert '"please stop texting me"' in crm.talk.user.asked[-1]


@pytest.mark.parametrize(
    ("wrote", "status"),
    [
        ("Unsubscribe please\nThanks", "blocked"),
        ("Hello,\nplease take me off your list, I want to unsubscribe", "pending_approval"),
        ("Sounds good", "confirmation_required"),
    ],
)
def test_of_an_e_mail_the_text_counts_that_its_list_leaves_out(getsales: Vendor, wrote: str, status: str) -> None:
    getsales.there.receive("email", FIRST, wrote, "Re: Hello")

    result = getsales.ok("send_email", lead=FIRST, subject="Hello", body="Are you there?")
    box = getsales.there.rows("mailbox")[0]["uuid"]
    mail = {
        "mailbox_uuid": box,
        "to": [{"to_email": getsales.there.find("lead", FIRST)["work_email"]}],
        "cc": [],
        "subject": "Offer",
        "body": "<p>See you</p>",
        "lead_uuid": FIRST,
    }
    operation = getsales.ok("call_operation", operation="send_email_with_copies", arguments=mail)

    assert (result["status"], operation["status"], getsales.left) == (status, status, [])
    assert marks(getsales, FIRST)[0] is (status == "pending_approval")


@pytest.mark.parametrize(
    ("status", "body", "blocks"),
    [
        (400, {"error": {"code": 21610, "message": "Attempt to send to unsubscribed recipient"}}, True),
        (422, {"message": "The number has opted out of messages"}, True),
        (403, {"detail": "+14155550100 is on your suppression list"}, True),
        (422, {"message": "The number has not opted out, but is no mobile"}, False),
        (400, {"message": "message is too long"}, False),
        (500, {"message": "recipient opted out"}, False),
    ],
)
def test_a_provider_s_answer_that_somebody_has_opted_out_blocks(
    shop: Shop, status: int, body: dict[str, Any], blocks: bool
) -> None:
    crm = shop("dialsheet")
    crm.there.fail("status", method="POST", path="/api/v1/sms", status=status, body=body)

    result: dict[str, Any] = crm.talk.call("send_sms", lead=FIRST, message="Hello").structured_content
    again = text(crm, FIRST, "Hello once more")

    assert (result["status"] == "blocked", again["status"] == "blocked") == (blocks, blocks)
    if blocks:
        assert "opted out" in result["reason"]
        assert "opted out" in again["reason"]
