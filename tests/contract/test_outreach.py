"""Messages, calls and sequences: each goes out once, to the lead that is meant, and is listed afterwards."""

from __future__ import annotations

import pytest

from crm_mcp.backends.base import (
    Backend,
    EndsSequences,
    KeepsBlocklist,
    ReadsCalls,
    ReadsMessages,
    RunsSequences,
    SendsEmail,
    SendsLinkedIn,
    SendsSms,
    StartsCalls,
    WritesLeads,
)
from crm_mcp.channels import CHANNELS
from crm_mcp.errors import Conflict, InvalidArgument, NotFound
from crm_mcp.model import Delivery, Lead, LeadDraft, LeadUpdate, Mailbox, Message, Sender, Slice

from .conftest import Unwritten
from .reading import someone

PROFILE = "https://www.linkedin.com/in/ann-vale-sandbox"


class Mailing(SendsEmail, ReadsMessages, WritesLeads, Backend):
    """What the tests of e-mail need."""


class Texting(SendsSms, ReadsMessages, WritesLeads, Backend):
    """What the tests of SMS need."""


class Linking(SendsLinkedIn, ReadsMessages, WritesLeads, Backend):
    """What the tests of LinkedIn need."""


class Calling(StartsCalls, ReadsCalls, WritesLeads, Backend):
    """What the tests of calls need."""


class Running(RunsSequences, WritesLeads, Backend):
    """What the tests of sequences need."""


class Ending(EndsSequences, RunsSequences, WritesLeads, Backend):
    """What the tests of leaving a sequence need."""


class Blocking(KeepsBlocklist, WritesLeads, Backend):
    """What the test of the block list needs."""


async def a_mailbox(crm: SendsEmail) -> Mailbox:
    found = await crm.mailboxes()
    return next((each for each in found if each.default), found[0])


def sent(delivery: Delivery) -> Message:
    """Return the message of a delivery that says plainly what became of it."""
    assert delivery.delivered or delivery.note
    assert delivery.message.direction == "outbound"
    return delivery.message


async def messages(crm: ReadsMessages, lead: Lead) -> list[tuple[str | None, str | None]]:
    """Return subject and text of a lead's messages, the newest first."""
    return [(each.subject, each.body) for each in (await crm.list_messages(lead.id, Slice())).items]


async def test_an_e_mail_is_delivered_or_said_not_to_be_and_is_in_the_lead_s_history(crm: Mailing):
    lead, other = [await crm.create_lead(someone(n)) for n in range(2)]

    message = sent(await crm.send_email(lead, await a_mailbox(crm), "Hello", "How are you?\n2 < 3 & so on", None))

    assert (message.lead_id, message.channel) == (lead.id, "email")
    assert (message.subject, message.body) == ("Hello", "How are you?\n2 < 3 & so on")
    (listed,) = (await crm.list_messages(lead.id, Slice())).items
    assert (listed.channel, listed.direction) == ("email", "outbound")
    assert await messages(crm, lead) == [("Hello", "How are you?\n2 < 3 & so on")]
    assert listed.sent_at
    assert await messages(crm, other) == []


async def test_an_e_mail_to_somebody_without_an_address_is_not_sent(crm: Mailing, unwritten: Unwritten):
    lead = await crm.create_lead(someone(1, email=None))

    with unwritten(), pytest.raises(InvalidArgument, match="no e-mail address"):
        await crm.send_email(lead, await a_mailbox(crm), "Hello", "x", None)


async def test_an_e_mail_goes_to_the_address_on_file_or_nowhere(crm: Mailing, unwritten: Unwritten):
    lead = await crm.create_lead(someone(1))
    await crm.update_lead(lead.id, LeadUpdate(email="new@crowd1.example"))

    with unwritten(), pytest.raises(Conflict):
        await crm.send_email(lead, await a_mailbox(crm), "Hello", "x", None)


async def test_a_mailbox_that_is_not_there_sends_nothing(crm: Mailing, unwritten: Unwritten):
    lead = await crm.create_lead(someone(1))

    for mailbox in ("B999", "", "00000001-0000-4000-8000-ffffffffffff"):
        with unwritten(), pytest.raises((NotFound, InvalidArgument), match=r"mailbox|email_account"):
            await crm.send_email(lead, Mailbox(id=mailbox, address="me@evil.example"), "Hello", "x", None)


async def test_an_sms_is_delivered_or_said_not_to_be_and_is_in_the_lead_s_history(crm: Texting):
    lead, other = [await crm.create_lead(someone(n)) for n in range(2)]

    message = sent(await crm.send_sms(lead, "Call me"))

    assert (message.lead_id, message.channel, message.body) == (lead.id, "sms", "Call me")
    assert await messages(crm, lead) == [(None, "Call me")]
    assert await messages(crm, other) == []


async def test_an_sms_goes_to_the_number_on_file_or_nowhere(crm: Texting, unwritten: Unwritten):
    lead, silent = await crm.create_lead(someone(1)), await crm.create_lead(someone(2, phone=None))
    await crm.update_lead(lead.id, LeadUpdate(phone="+12125550199"))

    with unwritten():
        with pytest.raises(Conflict):
            await crm.send_sms(lead, "x")
        with pytest.raises(InvalidArgument, match="no phone number"):
            await crm.send_sms(silent, "x")


async def test_a_linkedin_message_is_queued_and_in_the_lead_s_history(crm: Linking):
    lead = await crm.create_lead(someone(1, custom_fields={"linkedin": PROFILE}))
    (sender, *_) = await crm.senders()

    delivery = await crm.send_linkedin_message(lead, sender, "Good to meet you.")

    message = sent(delivery)
    assert (message.lead_id, message.channel, message.body) == (lead.id, "linkedin", "Good to meet you.")
    assert await messages(crm, lead) == [(None, "Good to meet you.")]


async def test_a_sender_that_is_not_there_sends_nothing(crm: Linking, unwritten: Unwritten):
    lead = await crm.create_lead(someone(1, custom_fields={"linkedin": PROFILE}))

    for sender in ("", "00000001-0000-4000-8000-ffffffffffff"):
        with unwritten(), pytest.raises((NotFound, InvalidArgument)):
            await crm.send_linkedin_message(lead, Sender(id=sender, name="Nobody"), "x")


async def test_a_call_is_started_once_and_listed(crm: Calling):
    lead, other = [await crm.create_lead(someone(n)) for n in range(2)]

    call = await crm.start_call(lead)

    assert (call.lead_id, call.direction) == (lead.id, "outbound")
    assert [each.id for each in (await crm.list_calls(lead.id, Slice())).items] == [call.id]
    assert (await crm.get_call(call.id)).lead_id == lead.id
    assert (await crm.list_calls(other.id, Slice())).items == ()


async def test_somebody_without_a_number_is_not_called(crm: Calling, unwritten: Unwritten):
    lead = await crm.create_lead(someone(1, phone=None))

    with unwritten(), pytest.raises(InvalidArgument, match="no phone number"):
        await crm.start_call(lead)


async def test_a_lead_is_enrolled_once(crm: Running):
    lead, other = [await crm.create_lead(someone(n)) for n in range(2)]
    sequence = next(each for each in await crm.sequences() if each.name != "Reactivation")

    outcomes = [await crm.enroll(sequence.id, each.id) for each in (lead, lead, other)]

    assert outcomes[0] is None
    assert outcomes[1]
    assert outcomes[2] is None


async def test_a_lead_is_taken_out_once_and_may_come_again(crm: Ending):
    lead = await crm.create_lead(someone(1))
    sequence = next(each for each in await crm.sequences() if each.name != "Reactivation")

    outcomes = [await crm.unenroll(sequence.id, lead.id), await crm.enroll(sequence.id, lead.id)]
    outcomes += [await crm.unenroll(sequence.id, lead.id), await crm.unenroll(sequence.id, lead.id)]
    outcomes += [await crm.enroll(sequence.id, lead.id)]

    assert [each is None for each in outcomes] == [False, True, True, False, True]


async def test_blocking_and_unblocking_twice_are_no_errors(crm: Blocking):
    lead, bare = await crm.create_lead(someone(1)), await crm.create_lead(LeadDraft(name="Bob", company="Acme"))

    for each in (lead, bare):
        await crm.unblock(each, CHANNELS)
        await crm.block(each, ["email", "sms"], "asked for it")
        await crm.block(each, CHANNELS, None)
        await crm.unblock(each, CHANNELS)
        await crm.unblock(each, CHANNELS)
