"""Messages, blocks and sequences of the embedded CRM."""

from __future__ import annotations

from crm_mcp.backends.local import Local
from crm_mcp.channels import CHANNELS
from crm_mcp.model import LeadDraft, LeadUpdate, Slice

JANE = LeadDraft(name="Jane", email="jane@acme.example", phone="+14155552671")


async def test_a_message_that_was_sent_is_in_the_lead_s_history(crm: Local):
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


async def test_a_block_belongs_to_the_address_and_is_lifted_by_it(crm: Local):
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


async def test_a_lead_without_addresses_can_be_blocked_itself(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Nobody"))
    other = await crm.create_lead(LeadDraft(name="Other"))

    await crm.block(lead, CHANNELS, None)
    blocked = await crm.get_lead(lead.id)
    await crm.unblock(lead, CHANNELS)

    assert blocked.do_not_contact == tuple(sorted(CHANNELS))
    assert (await crm.get_lead(other.id)).do_not_contact is None
    assert (await crm.get_lead(lead.id)).do_not_contact is None


async def test_a_lead_is_enrolled_once_and_taken_out_once(crm: Local):
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
