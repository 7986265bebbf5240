"""What the adapter says about messages, sequences, the blacklist, notes and numbers, and how it reads the answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_mcp.actions.guards.opt_out import is_stop, may_be_stop
from crm_mcp.channels import CHANNELS
from crm_mcp.errors import InvalidArgument, NotFound, SettingsError, Unsupported, VendorError
from crm_mcp.model import Lead, LeadDraft, Mailbox, NoteDraft, Option, Sender, Slice

from .conftest import Opened, Work

NOTES, MESSAGES, EMAILS = "/leads/api/notes", "/flows/api/linkedin-messages", "/emails/api/emails"
SEND, COUNT, METRICS = "/emails/api/emails/send-email", "/leads/api/leads/count", "/leads/api/leads/metrics"
BLACKLIST = "/leads/api/leads-blacklist"
JANE = LeadDraft(
    first_name="Jane",
    last_name="Whitfield",
    email="jane@acme.example",
    custom_fields={"linkedin": "https://www.linkedin.com/in/jane-whitfield"},
)


def sent(work: Work, method: str, path: str) -> list[Any]:
    return [each.body for each in work.there.journal if (each.method, each.path) == (method, path)]


def one(work: Work, kind: str, **equal: Any) -> str:
    (row,) = work.there.rows(kind, **equal)
    return str(row["uuid"])


async def first_lead(work: Work) -> Lead:
    """Return the first of the sample."""
    return await work.crm.get_lead(work.there.rows("lead")[0]["uuid"])


# E-mail


async def test_an_email_goes_out_as_html_from_a_mailbox_to_the_lead(work: Work):
    lead = await work.crm.create_lead(JANE)
    (mailbox,) = await work.crm.mailboxes()

    delivery = await work.crm.send_email(lead, mailbox, "Hi <you>", "a & b <c>\r\nline", None)

    assert sent(work, "POST", SEND) == [
        {
            "mailbox_uuid": mailbox.id,
            "to": [{"to_email": "jane@acme.example", "to_name": "Jane Whitfield"}],
            "subject": "Hi <you>",
            "body": "a &amp; b &lt;c&gt;<br>\nline",
            "lead_uuid": lead.id,
        }
    ]
    assert mailbox == Mailbox(id=one(work, "mailbox", status="active"), address="robin@sandbox.example")
    assert (delivery.delivered, delivery.message.body) == (True, "a & b <c>\r\nline")
    assert delivery.message.id == one(work, "email")
    (listed,) = (await work.crm.list_messages(lead.id, Slice())).items
    assert (listed.id, listed.subject, listed.body) == (delivery.message.id, "Hi <you>", "a & b <c>\nline")
    assert (listed.channel, listed.direction, listed.lead_id) == ("email", "outbound", lead.id)


async def test_an_email_names_its_sender_in_the_older_form_where_the_settings_say_so(opened: Opened):
    async with opened(email_shape="sender", keys={"email_form": "sender"}) as work:
        lead = await work.crm.create_lead(JANE)
        (mailbox,) = await work.crm.mailboxes()

        await work.crm.send_email(lead, mailbox, "Hi", "text", None)

        assert sent(work, "POST", SEND) == [
            {
                "sender_profile_uuid": one(work, "sender", status="enabled"),
                "from_name": "Robin Sender",
                "from_email": "robin@sandbox.example",
                "to_name": "Jane Whitfield",
                "to_email": "jane@acme.example",
                "subject": "Hi",
                "body": "text",
                "lead_uuid": lead.id,
            }
        ]


async def test_an_email_in_the_form_that_is_not_taken_is_refused(opened: Opened):
    async with opened(email_shape="sender") as work:
        lead = await work.crm.create_lead(JANE)
        (mailbox,) = await work.crm.mailboxes()

        with pytest.raises(InvalidArgument) as caught:
            await work.crm.send_email(lead, mailbox, "Hi", "text", None)

        assert caught.value.wrote is False
        assert work.there.rows("email") == []


async def test_an_email_without_an_address_or_with_another_reply_address_is_not_tried(work: Work):
    lead = await work.crm.create_lead(JANE)
    (mailbox,) = await work.crm.mailboxes()

    with pytest.raises(Unsupported, match="leave reply_to out"):
        await work.crm.send_email(lead, mailbox, "Hi", "text", "other@acme.example")
    with pytest.raises(InvalidArgument, match="no e-mail address"):
        await work.crm.send_email(lead.model_copy(update={"email": None}), mailbox, "Hi", "text", None)
    assert sent(work, "POST", SEND) == []


async def test_the_mailbox_and_sender_of_the_settings_are_the_default(opened: Opened):
    async with opened(mailbox="robin@sandbox.example", sender="robin sender") as work:
        assert [each.default for each in await work.crm.mailboxes()] == [True]
        assert [each.default for each in await work.crm.senders()] == [True]


# LinkedIn


async def test_a_linkedin_message_is_queued_for_a_sender(work: Work):
    lead = await work.crm.create_lead(JANE)
    (sender,) = await work.crm.senders()

    delivery = await work.crm.send_linkedin_message(lead, sender, "Hello")

    assert sender == Sender(id=one(work, "sender", status="enabled"), name="Robin Sender")
    assert sent(work, "POST", MESSAGES) == [{"sender_profile_uuid": sender.id, "lead_uuid": lead.id, "text": "Hello"}]
    assert (delivery.message.id, delivery.message.status) == (one(work, "message"), "new")
    assert delivery.message.direction == "outbound"
    assert (delivery.note or "").startswith("queued")


async def test_the_path_of_linkedin_messages_can_be_corrected(opened: Opened):
    keys = {"send_linkedin": "/flows/api/messages"}
    async with opened(keys=keys) as work:
        lead = await work.crm.create_lead(JANE)

        await work.crm.send_linkedin_message(lead, (await work.crm.senders())[0], "Hello")

        assert work.wire()[-1] == ("POST", "/flows/api/messages")


async def test_a_linkedin_message_that_is_too_long_is_not_tried(work: Work):
    lead = await work.crm.create_lead(JANE)
    (sender,) = await work.crm.senders()

    with pytest.raises(InvalidArgument, match="8,001 characters; LinkedIn takes 8,000"):
        await work.crm.send_linkedin_message(lead, sender, "x" * 8001)
    assert sent(work, "POST", MESSAGES) == []


# Sequences


async def test_a_lead_is_enrolled_once_and_taken_out_once(work: Work):
    lead = await work.crm.create_lead(JANE)
    sequences = {each.name: each.id for each in await work.crm.sequences()}
    flow = sequences["Welcome"]

    outcomes = [await work.crm.enroll(flow, lead.id), await work.crm.enroll(flow, lead.id)]
    outcomes += [await work.crm.unenroll(flow, lead.id), await work.crm.unenroll(flow, lead.id)]

    assert outcomes == [None, "is in this sequence already", None, "is not in this sequence"]
    assert list(sequences) == ["Welcome", "Reactivation"]
    assert sent(work, "POST", f"/flows/api/flows/{flow}/leads/{lead.id}") == [{}]
    assert sent(work, "PUT", f"/flows/api/flows/leads/{lead.id}/cancel") == [{"flow_uuids": [flow]}]
    assert sent(work, "POST", "/flows/api/flows-leads/list")[0] == {
        "filter": {"flow_uuid": [flow], "lead_uuid": [lead.id]},
        "limit": 100,
        "offset": 0,
    }


@pytest.mark.parametrize(("status", "word"), [
    ("off", "stopped"), ("draft", "a draft"), ("archived", "archived"), ("words of the vendor", "not on"),
])  # fmt: skip
async def test_a_sequence_that_is_not_on_takes_nobody(work: Work, status: str, word: str):
    lead = await work.crm.create_lead(JANE)
    work.there.rows("flow", name="Reactivation")[0]["status"] = status

    why = await work.crm.enroll(one(work, "flow", name="Reactivation"), lead.id)

    assert why == f"the sequence is {word}; start it in GetSales first"
    assert work.there.rows("flow_lead") == []


async def test_who_may_be_in_a_sequence_by_a_status_that_is_not_known_is_taken_out_and_not_enrolled(opened: Opened):
    async with opened(in_flow="active") as work:
        lead = await work.crm.create_lead(JANE)
        flow = one(work, "flow", name="Welcome")

        outcomes = [await work.crm.enroll(flow, lead.id), await work.crm.enroll(flow, lead.id)]
        outcomes += [await work.crm.unenroll(flow, lead.id), await work.crm.unenroll(flow, lead.id)]

        assert outcomes == [None, "may be in this sequence still: take it out first", None, "is not in this sequence"]
        assert [row["status"] for row in work.there.rows("flow_lead")] == ["canceled"]
        assert sent(work, "PUT", f"/flows/api/flows/leads/{lead.id}/cancel") == [{"flow_uuids": [flow]}]


async def test_the_statuses_of_who_is_in_a_sequence_can_be_corrected(opened: Opened):
    async with opened(in_flow="active", keys={"in_flow": "waiting Active", "out_of_flow": "done"}) as work:
        lead = await work.crm.create_lead(JANE)
        flow = one(work, "flow", name="Welcome")
        await work.crm.enroll(flow, lead.id)

        assert await work.crm.enroll(flow, lead.id) == "is in this sequence already"
        work.there.rows("flow_lead")[0]["status"] = "done"
        assert await work.crm.unenroll(flow, lead.id) == "is not in this sequence"


async def test_a_filter_of_sequences_that_is_not_heeded_does_not_keep_a_lead_in_one(work: Work):
    lead = await work.crm.create_lead(JANE)
    flow = one(work, "flow", name="Welcome")
    await work.crm.enroll(flow, lead.id)
    others = {"data": [{"flow_uuid": flow, "lead_uuid": "other", "status": "in_progress"}], "total": 700}
    work.there.fail("status", path="/flows/api/flows-leads/list", status=200, body=others)

    assert await work.crm.unenroll(flow, lead.id) is None
    assert [row["status"] for row in work.there.rows("flow_lead")] == ["canceled"]


async def test_taking_out_may_be_answered_with_a_message(opened: Opened):
    async with opened(done_answer="message") as work:
        lead = await work.crm.create_lead(JANE)
        flow = one(work, "flow", name="Welcome")
        await work.crm.enroll(flow, lead.id)

        assert await work.crm.unenroll(flow, lead.id) is None
        assert [row["status"] for row in work.there.rows("flow_lead")] == ["canceled"]


async def test_an_unknown_sequence_or_lead_is_not_found(work: Work):
    lead = await work.crm.create_lead(JANE)
    flow = one(work, "flow", name="Welcome")

    for wrong in ((flow, "L999"), ("S999", lead.id), ("", "")):
        with pytest.raises(NotFound):
            await work.crm.enroll(*wrong)
        with pytest.raises(NotFound):
            await work.crm.unenroll(*wrong)


# Blacklist


async def test_a_block_names_the_person_of_a_profile_and_no_language(work: Work):
    profile = {"linkedin": "https://de.linkedin.com/in/jane%2Dlee/de"}
    lead = (await work.crm.create_lead(JANE)).model_copy(update={"email": None, "custom_fields": profile})

    await work.crm.block(lead, ["linkedin"], None)
    assert sent(work, "POST", BLACKLIST) == [{"linkedin": "jane-lee"}, {"linkedin": "jane%2Dlee"}]
    await work.crm.unblock(lead, ["linkedin"])
    assert work.there.rows("lead_block") == []


async def test_what_is_no_profile_is_not_put_on_the_blacklist_and_that_is_said(work: Work):
    company = {"linkedin": "https://www.linkedin.com/company/acme"}
    lead = (await work.crm.create_lead(JANE)).model_copy(update={"custom_fields": company})

    with pytest.raises(InvalidArgument, match="is not on GetSales' blacklist") as caught:
        await work.crm.block(lead, CHANNELS, None)

    assert caught.value.wrote
    assert sent(work, "POST", BLACKLIST) == [{"email": "jane@acme.example"}]


async def test_a_block_is_an_entry_for_each_address_and_is_lifted_by_its_own(work: Work):
    lead = await work.crm.create_lead(JANE)
    other = work.there.make("lead_block", email="other@acme.example", linkedin=None, name=None, company_name=None)

    await work.crm.block(lead, CHANNELS, "asked for it")
    entries = [(row["email"], row["linkedin"]) for row in work.there.rows("lead_block")]
    await work.crm.unblock(lead, ["email"])
    await work.crm.unblock(lead, ["linkedin"])

    assert sent(work, "POST", BLACKLIST) == [{"email": "jane@acme.example"}, {"linkedin": "jane-whitfield"}]
    assert entries == [("other@acme.example", None), ("jane@acme.example", None), (None, "jane-whitfield")]
    assert [row["uuid"] for row in work.there.rows("lead_block")] == [other["uuid"]]
    assert [each for each in work.wire() if each[0] == "DELETE"] == [
        ("DELETE", f"{BLACKLIST}/0000000a-0000-4000-8000-000000000002"),
        ("DELETE", f"{BLACKLIST}/0000000a-0000-4000-8000-000000000003"),
    ]


async def test_a_channel_that_the_vendor_has_not_blocks_nothing(work: Work):
    lead = await work.crm.create_lead(JANE)
    start = len(work.there.journal)

    await work.crm.block(lead, ["sms", "call"], None)
    await work.crm.unblock(lead, ["sms", "call"])

    assert work.wire(start) == []


async def test_an_entry_for_more_than_the_address_is_not_taken_away(work: Work):
    lead = await work.crm.create_lead(JANE)
    work.there.make("lead_block", email="jane@acme.example", linkedin=None, name="Jane", company_name=None)

    await work.crm.unblock(lead, ["email"])

    assert len(work.there.rows("lead_block")) == 1


async def test_the_path_of_the_blacklist_can_be_corrected(opened: Opened):
    keys = {"blacklist": "/leads/api/blacklist/leads"}
    async with opened(lead_blacklist_path="second", keys=keys) as work:
        lead = await work.crm.create_lead(JANE)

        await work.crm.block(lead, ["email"], None)
        await work.crm.unblock(lead, ["email"])

        assert work.there.rows("lead_block") == []


# Notes and histories


async def test_a_note_says_in_its_last_line_what_the_vendor_has_no_field_for(work: Work):
    lead = await work.crm.create_lead(JANE)
    at = datetime(2026, 3, 20, 10, 0, tzinfo=UTC)
    draft = NoteDraft(
        content="Talked (long)",
        kind="call",
        outcome="reached, will (maybe) buy",
        occurred_at=at,
        duration_seconds=60,
        direction="inbound",
    )

    note = await work.crm.log_note(lead.id, draft)
    plain = await work.crm.log_note(lead.id, NoteDraft(content="Just this"))

    line = "(call, inbound, 60 seconds, at 2026-03-20T10:00:00Z, outcome: reached, will (maybe) buy)"
    assert sent(work, "POST", NOTES) == [
        {"object": "lead", "object_uuid": lead.id, "note": f"Talked (long)\n\n{line}"},
        {"object": "lead", "object_uuid": lead.id, "note": "Just this"},
    ]
    assert note.model_dump(exclude={"id", "lead_id"}) == draft.model_dump()
    assert (plain.kind, plain.content) == ("note", "Just this")
    assert await work.crm.get_note(note.id) == note
    assert [each.id for each in (await work.crm.list_notes(lead.id, Slice())).items] == [plain.id, note.id]


async def test_notes_are_asked_for_by_lead_newest_first(work: Work):
    lead = await work.crm.create_lead(JANE)
    await work.crm.log_note(lead.id, NoteDraft(content="x"))

    await work.crm.list_notes(lead.id, Slice(limit=7))

    assert work.there.journal[-1].query == {
        "filter[object]": "lead",
        "filter[object_uuid]": lead.id,
        "limit": "7",
        "offset": "0",
        "order_field": "created_at",
        "order_type": "desc",
    }


async def test_a_filter_that_is_ignored_shows_no_other_lead_s_notes(opened: Opened):
    keys = {"note_lead": "unheard_of", "note_id": "unheard_of"}
    async with opened(unknown_filter="ignore", keys=keys) as work:
        jane = await work.crm.create_lead(JANE)
        bob = await work.crm.create_lead(LeadDraft(name="Bob", email="bob@acme.example"))
        hers = await work.crm.log_note(jane.id, NoteDraft(content="hers"))
        await work.crm.log_note(bob.id, NoteDraft(content="his"))

        assert [each.content for each in (await work.crm.list_notes(jane.id, Slice())).items] == ["hers"]
        assert (await work.crm.get_note(hers.id)).content == "hers"
        with pytest.raises(NotFound):
            await work.crm.get_note("N9")


async def test_all_activity_comes_newest_first_and_each_once(opened: Opened):
    async with opened(sample=True) as work:
        lead = await first_lead(work)

        seen: list[tuple[str, str | None, str | None]] = []
        position = None
        for _ in range(5):
            page = await work.crm.list_activity(lead.id, (), None, Slice(limit=1, position=position))
            seen += [(each.kind, each.channel, each.text) for each in page.items]
            position = page.next
            if position is None:
                break
        notes = await work.crm.list_activity(lead.id, ("note",), None, Slice())
        recent = await work.crm.list_activity(lead.id, (), datetime.now(UTC) - timedelta(days=9, hours=12), Slice())

        assert seen == [
            ("message", "email", "Our offer"),
            ("message", "linkedin", "Thanks, tell me more."),
            ("note", "note", "Jane asked for prices."),
            ("message", "linkedin", "Hello Jane."),
        ]
        assert [each.kind for each in notes.items] == ["note"]
        assert [each.text for each in recent.items] == ["Our offer"]


@pytest.mark.parametrize("paging", ["nested", "flat"])
async def test_messages_of_both_kinds_come_in_the_order_in_which_they_were_sent(opened: Opened, paging: str):
    async with opened(sample=True, emails_paging=paging) as work:
        lead = await first_lead(work)
        start = len(work.there.journal)

        first = await work.crm.list_messages(lead.id, Slice(limit=2))
        rest = await work.crm.list_messages(lead.id, Slice(limit=2, position=first.next))

        assert [(each.channel, each.direction, each.body) for each in (*first.items, *rest.items)] == [
            ("email", "outbound", "Good morning,\nhere is the offer."),
            ("linkedin", "inbound", "Thanks, tell me more."),
            ("linkedin", "outbound", "Hello Jane."),
        ]
        assert rest.next is None
        for call in work.there.journal[start : start + 2]:
            assert call.path in (MESSAGES, EMAILS)
            assert call.query == {
                "filter[lead_uuid]": lead.id,
                "limit": "100",
                "offset": "0",
                "order_field": "sent_at",
                "order_type": "desc",
            }


async def test_what_a_lead_has_written_is_read_to_the_first_mail_and_each_text_once(opened: Opened):
    async with opened() as work:
        lead = await work.crm.create_lead(JANE)
        (mailbox,) = await work.crm.mailboxes()
        work.there.receive("email", lead.id, "Stop please", "Re: Hello")
        for _ in range(120):
            await work.crm.send_email(lead, mailbox, "Hello", "Are you there?", None)
        work.there.receive("email", lead.id, "Who is this?", "Re: Hello")
        work.there.receive("linkedin", lead.id, "Hello Robin")
        start = len(work.there.journal)

        written = await work.crm.inbound_messages(lead.id, "email")
        once = work.wire(start)
        start = len(work.there.journal)
        again = await work.crm.inbound_messages(lead.id, "email")
        listed = await work.crm.list_activity(lead.id, ("message",), None, Slice(limit=2))

        assert [each.body for each in written] == ["Who is this?", "Stop please"]
        assert written == again
        assert [path for _, path in once] == [EMAILS, EMAILS, *(f"{EMAILS}/{each.id}" for each in written)]
        assert [path for _, path in work.wire(start)] == [EMAILS, EMAILS, MESSAGES, EMAILS]
        assert [each.text for each in listed.items] == ["Hello Robin", "Re: Hello\nWho is this?"]
        assert [each.body for each in await work.crm.inbound_messages(lead.id, "linkedin")] == ["Hello Robin"]
        assert await work.crm.inbound_messages(lead.id, "sms") == ()


@pytest.mark.parametrize(
    ("body", "first"),
    [
        ('<div dir="ltr">Please STOP<div>Jane</div></div>', "Please STOP"),
        ('<div dir="ltr">Unsubscribe<div>thanks a lot</div></div>', "Unsubscribe"),
        ('<html><body dir="auto">Stop<br id="line"><div>Sent from my iPhone</div></body></html>', "Stop"),
        ('STOP<div class="gmail_quote">On Monday Bob wrote:<blockquote>hello</blockquote></div>', "STOP"),
        ("<table><tr><td>Stop</td><td>Jane</td></tr></table>", "Stop"),
        ("<!-- a > b --><div>STOP</div>", "STOP"),
        ("<b>STOP</b><hr>From: Jane", "STOP"),
        ('<div dir="ltr">Please stop<p>emailing me</p></div>', "Please stop"),
    ],
)
async def test_what_mail_programs_write_as_lines_are_lines(work: Work, body: str, first: str):
    lead = await work.crm.create_lead(JANE)
    box = work.there.rows("mailbox")[0]
    work.there.make_email(box, type="inbox", subject="Re: Hello", body=body, lead_uuid=lead.id)

    (written,) = await work.crm.inbound_messages(lead.id, "email")

    assert (written.body or "").splitlines()[0] == first
    assert is_stop(written.body or "", "email")


async def test_what_a_mail_quotes_is_shown_as_quoted(work: Work):
    lead = await work.crm.create_lead(JANE)
    box = work.there.rows("mailbox")[0]
    body = "<p>Thanks!</p><div>On Monday Bob wrote:<blockquote>Reply STOP<br>to end this</blockquote></div>"
    work.there.make_email(box, type="inbox", subject="Re: Hello", body=body, lead_uuid=lead.id)

    (written,) = await work.crm.inbound_messages(lead.id, "email")

    assert written.body == "Thanks!\nOn Monday Bob wrote:\n> Reply STOP\n> to end this"
    assert not may_be_stop(written.body, "email", written.subject)


async def test_a_history_of_somebody_who_is_not_there_is_not_found(work: Work):
    with pytest.raises(NotFound, match='there is no lead "L9"'):
        await work.crm.list_activity("L9", (), None, Slice())
    with pytest.raises(NotFound):
        await work.crm.list_notes("L9", Slice())
    with pytest.raises(NotFound):
        await work.crm.list_messages("L9", Slice())
    with pytest.raises(NotFound, match='there is no lead "L9"'):
        await work.crm.log_note("L9", NoteDraft(content="x"))


async def test_activity_of_a_kind_that_it_lacks_is_refused(work: Work):
    with pytest.raises(InvalidArgument, match="valid: note, message"):
        await work.crm.list_activity("L9", ("task",), None, Slice())
    assert work.there.journal == []


# Options, numbers, deletion


async def test_options_are_the_account_s(work: Work):
    names = {kind: [each.name for each in await work.crm.list_options(kind)] for kind in work.crm.option_kinds}

    assert names == {
        "stages": ["New", "Approaching", "Engaging", "Replied", "Demo booked", "Not interested"],
        "statuses": ["ok", "failed_validation", "no_contact_data", "duplicate"],
        "tags": ["hot", "newsletter"],
        "sequences": ["Reactivation", "Welcome"],
        "mailboxes": ["robin@sandbox.example"],
        "senders": ["Robin Sender"],
        "lists": ["Inbound", "Spring conference"],
        "custom_fields": ["budget", "industry_focus"],
    }
    stage = (await work.crm.list_options("stages"))[0]
    assert stage == Option(id=work.there.rows("stage", object="lead")[0]["uuid"], name="New", of="leads")
    with pytest.raises(Unsupported, match="it has stages"):
        await work.crm.list_options("owners")


async def test_many_names_are_read_to_the_last_page(work: Work):
    for number in range(120):
        work.there.make("tag", name=f"tag {number:03}", color=None)

    assert len(await work.crm.list_options("tags")) == 122
    assert [each.query["offset"] for each in work.there.journal] == ["0", "100"]


async def test_names_are_read_to_the_last_page_where_pages_are_smaller_than_asked(opened: Opened):
    async with opened(most_rows=50) as work:
        for number in range(118):
            work.there.make("tag", name=f"tag {number:03}", color=None)

        assert len({each.name for each in await work.crm.list_options("tags")}) == 120
        assert [each.query["offset"] for each in work.there.journal] == ["0", "50", "100"]


async def test_a_note_is_found_on_a_later_page_that_is_smaller_than_asked(opened: Opened):
    async with opened(most_rows=50, unknown_filter="ignore", keys={"note_id": "unheard_of"}) as work:
        for number in range(60):
            work.there.make("note", object="lead", object_uuid="x", note=f"note {number}", user_id=20)

        assert (await work.crm.get_note(work.there.rows("note")[0]["uuid"])).content == "note 0"


@pytest.mark.parametrize("order", [pytest.param(10**400, id="huge"), "1e999", None, {}, "2"])
async def test_a_stage_whose_order_is_no_number_breaks_nothing(work: Work, order: Any):
    rows = [{"uuid": "g1", "name": "New", "order": order}, {"uuid": "g2", "name": "Replied", "order": 1}]
    work.there.fail("status", path="/leads/api/pipeline-stages", status=200, body={"data": rows, "total": 2})

    assert [each.name for each in await work.crm.list_options("stages")] == ["Replied", "New"]


async def test_a_note_whose_last_line_has_an_endless_number_is_read(work: Work):
    lead = await work.crm.create_lead(JANE)
    text = f"x\n\n(call, {'9' * 5000} seconds)"
    work.there.make("note", object="lead", object_uuid=lead.id, note=text, user_id=20)

    (note,) = (await work.crm.list_notes(lead.id, Slice())).items

    assert (note.content, note.duration_seconds) == (text, None)


async def test_leads_are_counted_by_stage_one_call_a_group(opened: Opened):
    async with opened(sample=True) as work:
        pipeline = await work.crm.pipeline("leads", "stage")
        by_tag = await work.crm.pipeline("leads", "tag")

        assert [(each.name, each.count) for each in pipeline.groups] == [
            (name, 2) for name in ("New", "Approaching", "Engaging", "Replied", "Demo booked", "Not interested")
        ]
        assert (pipeline.total, pipeline.partial) == (12, False)
        assert [(each.name, each.count) for each in by_tag.groups] == [("hot", 3), ("newsletter", 0)]
        bodies = sent(work, "POST", COUNT)
        stages = work.there.rows("stage", object="lead")
        assert bodies[0] == {"filter": {"all": True, "leadFilter": {}}}
        assert bodies[1] == {"filter": {"all": True, "leadFilter": {"pipeline_stage_uuid": stages[0]["uuid"]}}}


async def test_a_count_in_the_other_form_is_read_where_the_settings_say_so(opened: Opened):
    async with opened(sample=True, count_shape="all", keys={"count_form": "all"}) as work:
        pipeline = await work.crm.pipeline("leads", "status")

        assert (pipeline.groups[0].name, pipeline.groups[0].count) == ("ok", 12)
        assert sent(work, "POST", COUNT)[1] == {"all": True, "filter": {"status": "ok"}}


async def test_a_count_that_does_not_know_the_filter_is_not_shown_as_one(work: Work):
    work.there.fail("status", path=COUNT, status=200, body={"count": 5}, times=9)

    with pytest.raises(VendorError, match="counted all leads in every group"):
        await work.crm.pipeline("leads", "stage")


async def test_deals_and_other_groups_are_refused(work: Work):
    with pytest.raises(Unsupported, match="stages sit on leads"):
        await work.crm.pipeline("deals", "stage")
    with pytest.raises(Unsupported, match="it can by stage, status, tag"):
        await work.crm.pipeline("leads", "month")


async def test_metrics_are_asked_for_by_name_and_period(opened: Opened):
    async with opened(sample=True) as work:
        since, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)

        found = await work.crm.metrics(since, until)
        recent = await work.crm.metrics(None, None)

        (body, month) = sent(work, "POST", METRICS)
        assert (body["period_from"], body["period_to"]) == ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z")
        assert len(body["metrics"]) == 13
        assert list(found) == body["metrics"]
        assert (found["linkedin_sent_count"], found["email_sent_count"]) == (6.0, 6.0)
        assert recent["linkedin_inbox_count"] == 6.0
        days = datetime.fromisoformat(month["period_to"]) - datetime.fromisoformat(month["period_from"])
        assert days == timedelta(days=30)


async def test_leads_and_notes_are_deleted_and_nothing_else(work: Work):
    lead = await work.crm.create_lead(JANE)
    note = await work.crm.log_note(lead.id, NoteDraft(content="x"))

    assert await work.crm.goes_with("lead", lead.id) == {}
    assert await work.crm.goes_with("note", note.id) == {}
    await work.crm.delete("note", note.id)
    await work.crm.delete("lead", lead.id)

    assert [each for each in work.wire() if each[0] == "DELETE"] == [
        ("DELETE", f"{NOTES}/{note.id}"),
        ("DELETE", f"/leads/api/leads/{lead.id}"),
    ]
    for kind in ("lead", "note"):
        with pytest.raises(NotFound, match=f"there is no {kind}"):
            await work.crm.delete(kind, lead.id)
        with pytest.raises(NotFound):
            await work.crm.goes_with(kind, lead.id)
    with pytest.raises(Unsupported, match="it can delete: lead, note"):
        await work.crm.delete("deal", "D1")


async def test_a_deletion_may_be_answered_with_a_message(opened: Opened):
    async with opened(done_answer="message") as work:
        lead = await work.crm.create_lead(JANE)

        await work.crm.delete("lead", lead.id)

        assert work.there.rows("lead") == []


@pytest.mark.parametrize(("keys", "told"), [
    ({"stage_actoin": "x"}, 'nearest: "stage_action"'),
    ({"email_form": "post"}, "valid: mailbox, sender"),
    ({"count_form": "leadfilter"}, 'nearest: "leadFilter"'),
    ({"lookup": "leads/api/leads/find-one"}, 'lookup is "leads/api/leads/find-one"; give a path'),
    ({"blacklist": "@other.example/x"}, "blacklist is .*; give a path"),
    ({"send_linkedin": "/flows/api/messages?x=1"}, "send_linkedin is .*; give a path"),
])  # fmt: skip
async def test_a_correction_that_corrects_nothing_stops_the_start(opened: Opened, keys: dict[str, str], told: str):
    with pytest.raises(SettingsError, match=told):
        async with opened(keys=keys):
            pass
