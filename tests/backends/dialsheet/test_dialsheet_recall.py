"""What Dialsheet's histories tell of what went out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from crm_mcp.errors import NotFound
from crm_mcp.model import Lead, Message, Slice, now

from .conftest import JANE, Sheet

NONE: frozenset[str] = frozenset()


async def recalled(sheet: Sheet, **fields: Any) -> Message | None:
    """Return the SMS "Call me" to Jane of the last minute, where her history has one with these fields."""
    lead = sheet.put(**JANE)
    sheet.put("sms", 0.0, lead_id=lead, message="Call me", **fields)
    jane = await sheet.crm.get_lead(lead)
    return await sheet.crm.sent_message(jane, "sms", "Call me", None, now() - timedelta(minutes=1), NONE)


@pytest.mark.parametrize("way", ["outbound", "Outgoing", "outbound-api", "outbound-reply", "sent"])
async def test_an_sms_that_went_out_is_found_however_that_is_said(sheet: Sheet, way: str):
    assert await recalled(sheet, direction=way, status="queued")


@pytest.mark.parametrize("way", ["inbound", "received", "sideways", None])
async def test_an_sms_that_came_in_or_that_tells_no_direction_is_not_ours(sheet: Sheet, way: str | None):
    assert await recalled(sheet, direction=way, status="received") is None


@pytest.mark.parametrize("status", ["failed", "Undelivered", "draft", "canceled"])
async def test_an_sms_that_failed_did_not_go_out(sheet: Sheet, status: str):
    assert await recalled(sheet, direction="outbound", status=status) is None


async def test_a_message_of_the_same_second_counts_and_one_from_before_it_does_not(sheet: Sheet):
    lead, moment = sheet.put(**JANE), now().replace(microsecond=700_000)
    jane = await sheet.crm.get_lead(lead)
    second = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    earlier = (moment - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.900Z")
    sheet.put("emails", 0.0, lead_id=lead, subject="A", body_text="Hello", sent_at=earlier)
    assert await sheet.crm.sent_message(jane, "email", "Hello", "A", moment, NONE) is None
    sheet.put("emails", 0.0, lead_id=lead, subject="A", body_text="Hello", sent_at=second)

    assert await sheet.crm.sent_message(jane, "email", "Hello", "A", moment, NONE)


async def test_a_record_that_does_not_name_the_lead_is_not_taken_for_its_own(sheet: Sheet):
    lead = sheet.put(**JANE)
    jane = await sheet.crm.get_lead(lead)
    row = sheet.there.add("emails", lead_id=lead, subject="A", body_text="Hello", sent_at=sheet.there.time())
    before = await sheet.crm.sent_message(jane, "email", "Hello", "A", now() - timedelta(minutes=1), NONE)
    row["lead_id"] = None

    assert before
    assert await sheet.crm.sent_message(jane, "email", "Hello", "A", now() - timedelta(minutes=1), NONE) is None


async def test_who_is_not_there_has_no_history(sheet: Sheet):
    with pytest.raises(NotFound):
        await sheet.crm.sent_message(Lead(id="nobody"), "sms", "Call me", None, now(), NONE)


async def test_dialsheet_does_not_tell_who_is_in_a_sequence(sheet: Sheet):
    lead = sheet.put(**JANE)
    (sequence, *_) = await sheet.crm.sequences()
    await sheet.crm.enroll(sequence.id, lead)

    assert await sheet.crm.enrolled(sequence.id, lead) is None


async def test_an_e_mail_that_says_that_it_came_in_is_believed(sheet: Sheet):
    lead = sheet.put(**JANE)
    sheet.put("emails", 0.0, lead_id=lead, subject="A", body_text="Hello", direction="inbound")

    (listed,) = (await sheet.crm.list_messages(lead, Slice())).items

    assert listed.direction == "inbound"
