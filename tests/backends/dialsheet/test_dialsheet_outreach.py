from __future__ import annotations

import pytest

from crm_mcp.backends.dialsheet import Dialsheet
from crm_mcp.errors import Conflict, InvalidArgument, NotFound, OutcomeUnknown, Unsupported
from crm_mcp.model import Mailbox, Message, Option, OptionKind, Sequence

from .conftest import JANE, Opened, Sheet


async def test_an_email_is_sent_in_documented_fields_to_the_address_on_file(sheet: Sheet):
    lead = await sheet.crm.get_lead(sheet.put(**JANE))
    sales, support = await sheet.crm.mailboxes()

    sent = await sheet.crm.send_email(lead, support, "Quick intro", "Hi there", None)

    assert [each.address for each in (sales, support)] == ["support@crm.example", "sales@crm.example"]
    assert [each.default for each in (sales, support)] == [False, True]
    assert sheet.wire()[-2:] == [("GET", f"/leads/{lead.id}"), ("POST", "/emails")]
    assert sheet.last()[3] == {
        "email_account_id": support.id,
        "to_email": "jane@acme.example",
        "subject": "Quick intro",
        "body_text": "Hi there",
        "lead_id": lead.id,
    }
    assert (sent.delivered, sent.note) == (True, None)
    assert sent.message == Message(
        id=sheet.there.tables["emails"][0]["id"],
        lead_id=lead.id,
        channel="email",
        direction="outbound",
        subject="Quick intro",
        body="Hi there",
        status="sent",
        sent_at=sent.message.sent_at,
    )
    assert sent.message.sent_at


async def test_an_sms_is_sent_to_the_lead(sheet: Sheet):
    lead = await sheet.crm.get_lead(sheet.put(**JANE))

    sent = await sheet.crm.send_sms(lead, "Hey")

    assert sheet.last() == ("POST", "/api/v1/sms", {}, {"lead_id": lead.id, "message": "Hey"})
    assert (sent.delivered, sent.message.id) == (True, sheet.there.tables["sms"][0]["id"])
    assert (sent.message.channel, sent.message.direction, sent.message.body) == ("sms", "outbound", "Hey")


@pytest.mark.parametrize("answers", ["bare", "id", "empty"])
async def test_a_message_whose_answer_tells_little_is_told_with_what_was_sent(opened: Opened, answers: str):
    async with opened(answers=answers) as sheet:
        lead = await sheet.crm.get_lead(sheet.put(**JANE))

        sent = await sheet.crm.send_sms(lead, "Hey")

        made = sheet.there.tables["sms"][0]["id"]
        assert (sent.delivered, sent.message.body) == (True, "Hey")
        assert sent.message.id == ("(not told)" if answers == "empty" else made)
        assert (sent.note is None) == (answers != "empty")


async def test_a_message_that_failed_is_not_told_as_delivered(sheet: Sheet):
    lead = await sheet.crm.get_lead(sheet.put(**JANE))
    sheet.there.fail("status", method="POST", status=200, body={"sms": {"id": "1", "status": "Failed"}})

    sent = await sheet.crm.send_sms(lead, "Hey")

    assert (sent.delivered, sent.message.status) == (False, "Failed")


async def test_a_message_goes_to_the_address_on_file_or_nowhere(sheet: Sheet):
    lead = await sheet.crm.get_lead(sheet.put(**JANE))
    nobody = await sheet.crm.get_lead(sheet.put(name="Nobody"))
    mailbox = (await sheet.crm.mailboxes())[0]
    sheet.there.tables["leads"][0].update(email="new@acme.example", phone=None)

    with pytest.raises(Conflict, match="has changed"):
        await sheet.crm.send_email(lead, mailbox, "x", "x", None)
    with pytest.raises(Conflict, match="has changed"):
        await sheet.crm.send_sms(lead, "x")
    with pytest.raises(InvalidArgument, match="no e-mail address"):
        await sheet.crm.send_email(nobody, mailbox, "x", "x", None)
    with pytest.raises(InvalidArgument, match="no phone number"):
        await sheet.crm.send_sms(nobody, "x")
    with pytest.raises(Unsupported, match="reply_to"):
        await sheet.crm.send_email(lead, mailbox, "x", "x", "me@acme.example")
    with pytest.raises(NotFound, match='there is no lead "gone"'):
        await sheet.crm.send_sms(lead.model_copy(update={"id": "gone"}), "x")
    assert sheet.there.calls("POST") == []


async def test_a_mailbox_that_is_not_there_sends_nothing(sheet: Sheet):
    lead = await sheet.crm.get_lead(sheet.put(**JANE))

    with pytest.raises(NotFound, match='there is no mailbox "B9"'):
        await sheet.crm.send_email(lead, Mailbox(id="B9", address="me@acme.example"), "x", "x", None)

    assert sheet.there.tables["emails"] == []


async def test_an_sms_that_the_vendor_has_no_number_for_is_refused_by_it(sheet: Sheet):
    lead = sheet.put(name="Nobody")

    with pytest.raises(InvalidArgument, match="does not accept the request") as raised:
        await sheet.crm.operate(sheet.crm.catalog.get("send_sms"), {"lead_id": lead, "message": "x"})

    assert raised.value.wrote is False
    assert sheet.there.journal[-1].status == 400
    assert sheet.there.tables["sms"] == []


@pytest.mark.parametrize("kind", ["drop_after", "cut", "malformed", "html"])
async def test_a_message_whose_answer_is_lost_is_of_unknown_outcome_and_sent_once(sheet: Sheet, kind: str):
    lead = await sheet.crm.get_lead(sheet.put(**JANE))
    sheet.there.fail(kind, method="POST")  # type: ignore[arg-type]

    with pytest.raises(OutcomeUnknown) as raised:
        await sheet.crm.send_sms(lead, "Hey")

    assert raised.value.wrote is None
    assert len(sheet.there.calls("POST")) == 1


async def test_a_lead_is_enrolled_once(opened: Opened):
    async with opened() as sheet:
        lead = sheet.put(**JANE)
        sequences = await sheet.crm.sequences()
        assert sequences == (
            Sequence(id=sequences[0].id, name="After the fair"),
            Sequence(id=sequences[1].id, name="Cold outreach"),
        )

        first = await sheet.crm.enroll(sequences[1].id, lead)
        again = await sheet.crm.enroll(sequences[1].id, lead)

        assert sheet.last() == ("POST", f"/api/v1/sequences/{sequences[1].id}/enroll", {}, {"lead_id": lead})
        assert (first, again) == (None, "enrolled already")
        for wrong in ((sequences[0].id, "nobody"), ("nothing", lead), ("", lead), (sequences[0].id, "")):
            with pytest.raises(NotFound):
                await sheet.crm.enroll(*wrong)
        assert len(sheet.there.tables["enrolments"]) == 1


async def test_the_other_readings_of_an_enrolment(opened: Opened):
    async with opened(enroll_lead="leadId", enrolled_twice=200, keys={"enroll_lead": "leadId"}) as sheet:
        lead = sheet.put(**JANE)
        sequence = (await sheet.crm.sequences())[0].id

        assert [await sheet.crm.enroll(sequence, lead) for _ in range(2)] == [None, None]
        assert sheet.last()[3] == {"leadId": lead}
        assert len(sheet.there.tables["enrolments"]) == 1
    async with opened(enroll_lead="leadId") as sheet:
        with pytest.raises(InvalidArgument):
            await sheet.crm.enroll((await sheet.crm.sequences())[0].id, sheet.put(**JANE))


async def test_options_are_listed_as_far_as_they_can_be_seen(opened: Opened):
    async with opened(sample=True) as sheet:
        statuses = await sheet.crm.list_options("statuses")
        tags = await sheet.crm.list_options("tags")
        stages = await sheet.crm.list_options("stages")
        mailboxes = await sheet.crm.list_options("mailboxes")

        assert [each.name for each in statuses] == ["contacted", "new", "qualified"]
        assert [each.name for each in tags] == ["fair", "inbound", "vip"]
        assert stages[0] == Option(id="Closed Lost", name="Closed Lost", of="deals")
        assert [each.id for each in stages] == ["Closed Lost", "Closed Won", "Discovery", "Negotiation", "Proposal"]
        assert [each.name for each in mailboxes] == ["sales@crm.example", "support@crm.example"]
        assert sheet.wire() == [
            ("GET", "/leads"),
            ("GET", "/tags"),
            ("GET", "/opportunities"),
            ("GET", "/email-accounts"),
        ]
        for kind in ("senders", "lists", "custom_fields", "owners"):
            lacking: OptionKind = kind
            with pytest.raises(Unsupported, match="stages, statuses, tags, sequences, mailboxes"):
                await sheet.crm.list_options(lacking)
        assert {"stages", "statuses"} == Dialsheet.open_kinds


async def test_tags_that_are_mere_words_are_listed(sheet: Sheet):
    sheet.there.fail("status", status=200, body={"tags": ["vip", "fair"], "total": 2})

    assert await sheet.crm.list_options("tags") == (Option(id="fair", name="fair"), Option(id="vip", name="vip"))


async def test_a_tag_is_created_by_its_operation_alone(sheet: Sheet):
    answer = await sheet.crm.operate(sheet.crm.catalog.get("create_tag"), {"name": "vip"})

    assert answer["tag"]["name"] == "vip"
    assert sheet.last() == ("POST", "/api/v1/tags", {}, {"name": "vip"})


async def test_a_lead_is_deleted_after_what_it_has_was_counted(opened: Opened):
    async with opened(sample=True) as sheet:
        lead = sheet.there.tables["leads"][0]["id"]

        assert await sheet.crm.goes_with("lead", lead) == {"notes": 2, "tasks": 1, "deals": 1}
        await sheet.crm.delete("lead", lead)

        assert sheet.last() == ("DELETE", f"/api/v1/leads/{lead}", {}, None)
        with pytest.raises(NotFound, match=f'there is no lead "{lead}"'):
            await sheet.crm.delete("lead", lead)
        with pytest.raises(NotFound):
            await sheet.crm.goes_with("lead", lead)


async def test_only_leads_and_tasks_are_deleted(sheet: Sheet):
    task = sheet.put("tasks", title="x", completed=False)

    assert await sheet.crm.goes_with("task", task) == {}
    for kind in ("deal", "note"):
        with pytest.raises(Unsupported, match="it can delete: lead, task"):
            await sheet.crm.delete(kind, "1")
        with pytest.raises(Unsupported):
            await sheet.crm.goes_with(kind, "1")
    await sheet.crm.delete("task", task)
    with pytest.raises(NotFound, match=f'there is no task "{task}"'):
        await sheet.crm.delete("task", task)
    with pytest.raises(NotFound):
        await sheet.crm.goes_with("task", task)


@pytest.mark.parametrize(("status", "said"), [(412, "has changed"), (423, "is locked")])
async def test_what_is_locked_or_has_changed_is_not_enrolled_already(sheet: Sheet, status: int, said: str):
    lead = sheet.put(**JANE)
    sequence = (await sheet.crm.sequences())[0].id
    sheet.there.fail("status", method="POST", path=".*/enroll", status=status, body={"error": "no"})

    with pytest.raises(Conflict, match=said):
        await sheet.crm.enroll(sequence, lead)
