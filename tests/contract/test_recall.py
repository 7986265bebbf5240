"""What went out is found again in the CRM's own history: that one message or call, and no other."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_mcp.backends.base import (
    Backend,
    ImportsLeads,
    ReadsMessages,
    RecallsCalls,
    RecallsMessages,
    RunsSequences,
    SendsEmail,
    SendsLinkedIn,
    SendsSms,
    StartsCalls,
    WritesLeads,
)
from crm_mcp.channels import CHANNELS
from crm_mcp.errors import CrmError
from crm_mcp.model import ImportRow, Lead, LeadDraft, Slice, now
from crm_mcp.sandbox.emulator import Emulator, FaultKind

from .conftest import Unwritten
from .reading import someone

BODY = 'How are you?\n\n  2 < 3 & so on, it\'s "fine"\u00a0really'
SPACED = ' How are you? 2 < 3 & so on,\tit\'s "fine" really\n'
NONE: frozenset[str] = frozenset()


class Mailing(SendsEmail, RecallsMessages, WritesLeads, Backend):
    """What the tests of e-mail need."""


class Texting(SendsSms, RecallsMessages, ReadsMessages, WritesLeads, Backend):
    """What the tests of SMS need."""


class Linking(SendsLinkedIn, RecallsMessages, ReadsMessages, WritesLeads, Backend):
    """What the tests of LinkedIn need."""


class Calling(StartsCalls, RecallsCalls, WritesLeads, Backend):
    """What the tests of calls need."""


class Running(RunsSequences, WritesLeads, Backend):
    """What the test of sequences needs."""


class Reading(ReadsMessages, WritesLeads, Backend):
    """What the test of messages that come in needs."""


class Importing(ImportsLeads, Backend):
    """What the test of imports needs."""


async def mail(crm: Mailing, lead: Lead, subject: str, body: str) -> str:
    (mailbox, *_) = await crm.mailboxes()
    return (await crm.send_email(lead, mailbox, subject, body, None)).message.id


async def test_an_e_mail_that_went_out_is_found_by_its_text_whatever_its_white_space(
    crm: Mailing, unwritten: Unwritten
):
    lead, before = await crm.create_lead(someone(1)), now()
    with unwritten():
        assert await crm.sent_message(lead, "email", BODY, "Hello", before, NONE) is None
    sent = await mail(crm, lead, "Hello", BODY)

    with unwritten():
        found = await crm.sent_message(lead, "email", SPACED, " Hello ", before, NONE)
        any_subject = await crm.sent_message(lead, "email", BODY, None, before, NONE)

    assert found
    assert any_subject
    assert found.id == any_subject.id == sent
    assert (found.lead_id, found.channel, found.direction) == (lead.id, "email", "outbound")


async def test_another_e_mail_is_not_taken_for_it(crm: Mailing):
    lead, other = [await crm.create_lead(someone(n)) for n in range(2)]
    before = now()
    sent = await mail(crm, lead, "Hello", BODY)
    later = now() + timedelta(hours=1)

    for whose, channel, text, subject, since, known in (
        (other, "email", BODY, "Hello", before, NONE),
        (lead, "sms", BODY, None, before, NONE),
        (lead, "linkedin", BODY, None, before, NONE),
        (lead, "call", BODY, None, before, NONE),
        (lead, "email", f"{BODY} and more", "Hello", before, NONE),
        (lead, "email", BODY, "Another", before, NONE),
        (lead, "email", BODY, "Hello", later, NONE),
        (lead, "email", BODY, "Hello", before, frozenset({sent})),
    ):
        assert channel in CHANNELS
        assert await crm.sent_message(whose, channel, text, subject, since, known) is None


async def test_of_two_alike_the_newest_is_found_that_is_not_known(crm: Mailing):
    lead, before = await crm.create_lead(someone(1)), now()
    first, second = [await mail(crm, lead, "Hello", BODY) for _ in range(2)]

    either = await crm.sent_message(lead, "email", BODY, "Hello", before, NONE)
    fresh = await crm.sent_message(lead, "email", BODY, "Hello", before, frozenset({first}))

    assert either
    assert either.id in (first, second)  # where a CRM has seconds alone they are of one moment
    assert fresh
    assert fresh.id == second


async def test_an_sms_that_went_out_is_found_and_one_that_came_in_is_not(crm: Texting, there: Emulator | None):
    lead, before = await crm.create_lead(someone(1)), now()
    if there:
        there.receive("sms", lead.id, "Call me")
    assert await crm.sent_message(lead, "sms", "Call me", None, before, NONE) is None
    sent = (await crm.send_sms(lead, "Call me")).message.id

    found = await crm.sent_message(lead, "sms", "Call  me", None, before, NONE)

    assert found
    assert (found.id, found.body, found.direction) == (sent, "Call me", "outbound")


async def test_a_linkedin_message_that_was_queued_is_found_and_one_that_came_in_is_not(crm: Linking, there: Emulator):
    lead = await crm.create_lead(someone(1, custom_fields={"linkedin": "https://www.linkedin.com/in/ann-sandbox"}))
    before = now()
    (sender, *_) = await crm.senders()
    there.switch(delivery="held")
    there.receive("linkedin", lead.id, "Good to meet you.")
    assert await crm.sent_message(lead, "linkedin", "Good to meet you.", None, before, NONE) is None
    sent = (await crm.send_linkedin_message(lead, sender, "Good to meet you.")).message.id

    queued = await crm.sent_message(lead, "linkedin", "Good to meet you.", None, before, NONE)
    there.switch(delivery="at_once")
    gone = await crm.sent_message(lead, "linkedin", "Good to meet you.", None, before, NONE)

    assert queued
    assert gone
    assert queued.id == gone.id == sent


async def test_a_call_that_was_started_is_found_and_no_earlier_one(crm: Calling, unwritten: Unwritten):
    lead, other = [await crm.create_lead(someone(n)) for n in range(2)]
    before = now()
    with unwritten():
        assert await crm.started_call(lead, before) is None
    call = await crm.start_call(lead)

    with unwritten():
        found = await crm.started_call(lead, before)
        assert await crm.started_call(lead, now() + timedelta(seconds=2)) is None
        assert await crm.started_call(other, before) is None

    assert found
    assert (found.id, found.direction) == (call.id, "outbound")


@pytest.mark.parametrize("kind", ["drop_after", "cut", "malformed", "status_after"])
async def test_an_sms_whose_answer_was_lost_is_found_once(crm: Texting, there: Emulator | None, kind: FaultKind):
    if there is None:
        return  # the embedded CRM gives no answers that could be lost
    lead, before = await crm.create_lead(someone(1)), now()
    there.fail(kind, method="POST", path=".*/sms", status=500)

    with pytest.raises(CrmError) as lost:
        await crm.send_sms(lead, "Call me")
    found = await crm.sent_message(lead, "sms", "Call me", None, before, NONE)

    assert lost.value.wrote is not False
    assert [each.record for each in there.sent("sms", lead.id, "Call me")] == [found and found.id]


@pytest.mark.parametrize("kind", ["drop_after", "cut", "malformed", "status_after"])
async def test_a_call_whose_answer_was_lost_is_found_once(crm: Calling, there: Emulator, kind: FaultKind):
    lead, before = await crm.create_lead(someone(1)), now()
    there.fail(kind, method="POST", path=".*/calls/initiate", status=500)

    with pytest.raises(CrmError) as lost:
        await crm.start_call(lead)
    found = await crm.started_call(lead, before)

    assert lost.value.wrote is not False
    assert [each.record for each in there.sent("call", lead.id)] == [found and found.id]


async def test_who_is_in_a_sequence_is_told_rightly_or_not_at_all(crm: Running, unwritten: Unwritten):
    lead, other = [await crm.create_lead(someone(n)) for n in range(2)]
    sequence = next(each for each in await crm.sequences() if each.name != "Reactivation")
    with unwritten():
        before = await crm.enrolled(sequence.id, lead.id)
    await crm.enroll(sequence.id, lead.id)

    told = [before, await crm.enrolled(sequence.id, lead.id), await crm.enrolled(sequence.id, other.id)]

    assert told in ([False, True, False], [None, None, None])


async def test_a_row_that_is_imported_again_by_its_key_is_not_created_again_where_that_is_said(crm: Importing):
    if not crm.repeatable:
        return
    rows = [ImportRow(draft=LeadDraft(name=f"Nobody {n}"), key=f"file:{n}") for n in range(3)]

    first = await crm.import_leads(rows[:2], "error")
    again = await crm.import_leads(rows, "error")

    assert [each.outcome for each in first] == ["created", "created"]
    assert [each.outcome for each in again] == ["skipped", "skipped", "created"]
    assert [each.id for each in again[:2]] == [each.id for each in first]


async def test_what_came_in_is_told_as_such_with_its_time_and_text(crm: Reading, there: Emulator | None):
    lead = await crm.create_lead(someone(1))
    came = 0
    for channel in CHANNELS if there else ():
        before = now() - timedelta(seconds=1)
        try:
            message = there.receive(channel, lead.id, "STOP", "Re: offer") if there else ""
        except ValueError:
            continue  # a channel that the vendor's API has no messages of
        came += 1
        listed = {each.id: each for each in (await crm.list_messages(lead.id, Slice())).items}
        found = listed[message]
        assert (found.channel, found.direction, found.body) == (channel, "inbound", "STOP")
        assert found.sent_at
        assert before.replace(microsecond=0) <= found.sent_at <= now() + timedelta(seconds=1)

    assert came or not there
