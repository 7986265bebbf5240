from __future__ import annotations

import pytest

from crm_mcp.backends.base import (
    Backend,
    FindsLeads,
    KeepsBlocklist,
    ReadsMessages,
    RunsSequences,
    SendsEmail,
    SendsSms,
    WritesLeads,
)
from crm_mcp.errors import Conflict, InvalidArgument, NotFound
from crm_mcp.model import CHANNELS, LeadDraft, LeadUpdate, Mailbox, Slice


class Sending(SendsEmail, SendsSms, ReadsMessages, WritesLeads, FindsLeads, Backend):
    """What the tests of messages need."""


class Blocking(KeepsBlocklist, WritesLeads, FindsLeads, Backend):
    """What the tests of the block list need."""


class Running(RunsSequences, WritesLeads, Backend):
    """What the tests of sequences need."""


JANE = LeadDraft(name="Jane", email="jane@acme.example", phone="+14155552671")


async def test_a_message_that_was_sent_is_in_the_lead_s_history(crm: Sending):
    lead = await crm.create_lead(JANE)
    mailbox = next(each for each in await crm.mailboxes() if each.default)

    mail = await crm.send_email(lead, mailbox, "Hello", "How are you?", None)
    text = await crm.send_sms(lead, "Call me")

    listed = await crm.list_messages(lead.id, Slice())
    assert {each.id for each in listed.items} == {mail.message.id, text.message.id}
    assert (mail.message.subject, mail.message.body, mail.message.channel) == ("Hello", "How are you?", "email")
    assert (text.message.subject, text.message.body, text.message.channel) == (None, "Call me", "sms")
    assert all(each.direction == "outbound" and each.sent_at for each in listed.items)
    assert mail.delivered or mail.note
    assert text.delivered or text.note
    assert (await crm.get_lead(lead.id)).last_contacted_at


async def test_a_message_goes_to_the_address_on_file_or_nowhere(crm: Sending):
    lead = await crm.create_lead(JANE)
    nameless = await crm.create_lead(LeadDraft(name="Nobody"))
    (mailbox, *_) = await crm.mailboxes()
    await crm.update_lead(lead.id, LeadUpdate(email="new@acme.example", clear=("phone",)))

    with pytest.raises(Conflict):
        await crm.send_email(lead, mailbox, "Hello", "x", None)
    with pytest.raises(Conflict):
        await crm.send_sms(lead, "x")
    with pytest.raises(InvalidArgument):
        await crm.send_email(nameless, mailbox, "Hello", "x", None)
    with pytest.raises(InvalidArgument):
        await crm.send_sms(nameless, "x")
    assert (await crm.list_messages(lead.id, Slice())).items == ()


async def test_a_mailbox_that_is_not_there_sends_nothing(crm: Sending):
    lead = await crm.create_lead(JANE)

    with pytest.raises(NotFound):
        await crm.send_email(lead, Mailbox(id="B999", address="me@evil.example"), "Hello", "x", None)
    assert (await crm.list_messages(lead.id, Slice())).items == ()


async def test_a_block_belongs_to_the_address_and_is_lifted_by_it(crm: Blocking):
    lead = await crm.create_lead(JANE)

    await crm.block(lead, ["sms", "email"], "asked for it")
    await crm.block(lead, ["email"], None)
    blocked = await crm.get_lead(lead.id)
    moved = await crm.update_lead(lead.id, LeadUpdate(email="other@acme.example"))
    heir = await crm.create_lead(LeadDraft(name="Heir", email="JANE@acme.example"))
    await crm.unblock(moved, ["sms"])

    assert blocked.do_not_contact == ("email", "sms")
    assert moved.do_not_contact == ("sms",)
    assert heir.do_not_contact == ("email",)
    assert (await crm.get_lead(lead.id)).do_not_contact is None


async def test_a_lead_without_addresses_can_be_blocked_itself(crm: Blocking):
    lead = await crm.create_lead(LeadDraft(name="Nobody"))
    other = await crm.create_lead(LeadDraft(name="Other"))

    await crm.block(lead, CHANNELS, None)
    blocked = await crm.get_lead(lead.id)
    await crm.unblock(lead, CHANNELS)

    assert blocked.do_not_contact == tuple(sorted(CHANNELS))
    assert (await crm.get_lead(other.id)).do_not_contact is None
    assert (await crm.get_lead(lead.id)).do_not_contact is None


async def test_a_lead_is_enrolled_once_and_taken_out_once(crm: Running):
    lead = await crm.create_lead(JANE)
    sequence = (await crm.sequences())[0]

    outcomes = [await crm.enroll(sequence.id, lead.id), await crm.enroll(sequence.id, lead.id)]
    active = (await crm.sequences())[0].active
    outcomes += [await crm.unenroll(sequence.id, lead.id), await crm.unenroll(sequence.id, lead.id)]
    again = await crm.enroll(sequence.id, lead.id)

    assert [each is None for each in outcomes] == [True, False, True, False]
    assert active == 1
    assert again is None
    assert [step.position for step in sequence.steps] == sorted({step.position for step in sequence.steps})


async def test_an_unknown_sequence_or_lead_is_not_found(crm: Running):
    lead = await crm.create_lead(JANE)
    sequence = (await crm.sequences())[0]

    for wrong in ((sequence.id, "L999"), ("S999", lead.id), ("", "")):
        with pytest.raises(NotFound):
            await crm.enroll(*wrong)
        with pytest.raises(NotFound):
            await crm.unenroll(*wrong)
