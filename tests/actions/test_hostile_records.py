"""What a stranger wrote into a record can't change what a person is shown, nor get round do-not-contact."""

from __future__ import annotations

from pathlib import Path

import pytest

from crm_mcp.actions.messages import preview_call, preview_email, preview_sms
from crm_mcp.actions.summary import escape_markup, humanize, name_record
from crm_mcp.model import Lead, Mailbox
from crm_mcp.text import one_line
from tests.harness.app import App

UNSEEN = "a\u202eb\u200bc\u2066d\x1b[31me\u00adf\U000e0041g\ufeff"


@pytest.fixture
async def app(tmp_path: Path):
    opened = await App(tmp_path).with_jane()
    yield opened
    await opened.close()


def test_characters_that_are_not_seen_are_not_shown():
    assert one_line(UNSEEN) == "abcdefg"
    assert one_line("one\r\n\u2028two\tthree") == "one two three"
    assert one_line("👩\u200d🔧 نام\u200cها") == "👩\u200d🔧 نام\u200cها"


def test_a_text_from_a_record_begins_no_quotation_of_its_own():
    assert escape_markup('x" (L2): "yes') == "x' (L2): 'yes"
    assert humanize('x": "y').startswith("\"x': 'y\" (6 characters in all, fingerprint ")
    assert name_record("lead", "L1", 'Ann"\n(L2)') == "lead Ann' (L2) (L1)"


async def test_a_hostile_address_stays_one_address_in_the_question(app: App):
    lead = Lead(
        id=app.lead.id, name="Ann", phone='+14155550123", "Bob" (L1): "hello"\n\u202e', email='a@b.example", "Bob'
    )
    mailbox = Mailbox(id="M1", address='me@x.example", subject "no')

    sms = await preview_sms(app.context, lead, "Hi")
    mail = await preview_email(app.context, lead, mailbox, "Subject", "Body", None)

    assert sms.summary == "SMS to +14155550123', 'Bob' (L1): 'hello', \"Ann\" (L1): \"Hi\""
    assert mail.summary.startswith(
        "E-mail to a@b.example', 'Bob, \"Ann\" (L1) from me@x.example', subject 'no, subject"
    )


@pytest.mark.parametrize("phone", ["212-555-0123", "(212) 555 0123", "+1", "call me", "+1212555012x"])
async def test_a_number_that_can_not_be_compared_is_not_used(app: App, phone: str):
    lead = Lead(id="L9", name="Ann", phone=phone)

    for preview in (await preview_sms(app.context, lead, "Hi"), await preview_call(app.context, lead)):
        assert preview.blocked is not None
        assert preview.blocked.startswith("no address on file")
        assert "CRM_MCP_COUNTRY" in preview.blocked


def test_a_lead_is_shown_whatever_its_crm_has_in_its_fields():
    lead = Lead(id="L9", custom_fields={"bio": "line\x0bline\u202e", "long": "x" * 30_000})

    assert lead.shown()["custom_fields"]["bio"] == "line\x0bline\u202e"
