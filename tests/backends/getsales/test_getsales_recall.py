"""What GetSales' histories tell of what went out, and of who has unsubscribed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_mcp.errors import InvalidArgument
from crm_mcp.model import ImportRow, Lead, LeadDraft, LeadUpdate, now

from .conftest import Opened, Work

NONE: frozenset[str] = frozenset()
JANE = LeadDraft(
    first_name="Jane",
    last_name="Smith",
    company="Acme",
    email="jane@acme.example",
    phone="+12125550101",
    custom_fields={"linkedin": "https://www.linkedin.com/in/jane-sandbox"},
)


async def queued(work: Work, lead: Lead, text: str) -> str:
    (sender, *_) = await work.crm.senders()
    return (await work.crm.send_linkedin_message(lead, sender, text)).message.id


def stamped(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def test_a_message_that_waits_is_found_behind_many_that_were_synced(opened: Opened):
    async with opened(most_rows=10, delivery="held") as work:
        lead = await work.crm.create_lead(JANE)
        sender = work.there.rows("sender")[0]["uuid"]
        before = now()
        sent = await queued(work, lead, "Hello")
        for number in range(25):
            fields: dict[str, Any] = {"type": "inbox", "status": "done", "sent_at": stamped(-5)}
            work.there.make_message(sender_profile_uuid=sender, lead_uuid=lead.id, text=f"{number}", **fields)

        found = await work.crm.sent_message(lead, "linkedin", "Hello", None, before, NONE)

    assert found
    assert found.id == sent


async def test_the_search_ends_where_the_list_is_older_than_the_message(opened: Opened):
    async with opened(most_rows=10, delivery="held") as work:
        lead = await work.crm.create_lead(JANE)
        sender = work.there.rows("sender")[0]["uuid"]
        for _ in range(25):
            fields: dict[str, Any] = {"status": "done", "sent_at": stamped(-60), "created_at": stamped(-60)}
            work.there.make_message(sender_profile_uuid=sender, lead_uuid=lead.id, text="Hello", **fields)
        start = len(work.there.journal)

        found = await work.crm.sent_message(lead, "linkedin", "Hello", None, now(), NONE)

    assert found is None
    assert work.wire(start) == [("GET", "/flows/api/linkedin-messages")]


async def test_a_message_that_failed_did_not_go_out(opened: Opened):
    async with opened() as work:
        before = now()
        lead = await work.crm.create_lead(JANE.model_copy(update={"custom_fields": None}))
        await queued(work, lead, "Hello")  # to nobody whom LinkedIn knows

        found = await work.crm.sent_message(lead, "linkedin", "Hello", None, before, NONE)

    assert work.there.rows("message")[0]["status"] == "failed"
    assert found is None


async def test_of_e_mails_the_text_of_those_alone_is_read_that_may_be_it(work: Work):
    lead, before = await work.crm.create_lead(JANE), now()
    (mailbox, *_) = await work.crm.mailboxes()
    for subject in ("Other", "Hello", "Other"):
        await work.crm.send_email(lead, mailbox, subject, f"{subject},\n<b>1 & 2</b>", None)
    work.there.receive("email", lead.id, "Hello,\n<b>1 & 2</b>", "Hello")
    start = len(work.there.journal)

    found = await work.crm.sent_message(lead, "email", "Hello, <b>1 & 2</b>", "Hello", before, NONE)

    assert found
    assert found.body == "Hello,\n<b>1 & 2</b>"
    assert work.wire(start) == [("GET", "/emails/api/emails"), ("GET", f"/emails/api/emails/{found.id}")]


@pytest.mark.parametrize(
    ("status", "told"), [("in_progress", True), ("paused", True), ("finished", False), ("canceled", False)]
)
async def test_who_may_be_in_a_sequence_still_counts_as_in_it(work: Work, status: str, told: bool):
    lead = await work.crm.create_lead(JANE)
    flow = work.there.rows("flow", status="on")[0]["uuid"]
    work.there.make("flow_lead", flow_uuid=flow, lead_uuid=lead.id, status=status)

    assert await work.crm.enrolled(flow, lead.id) is told


async def test_an_enrolment_without_a_status_is_not_told(work: Work):
    lead = await work.crm.create_lead(JANE)
    flow = work.there.rows("flow", status="on")[0]["uuid"]
    work.there.make("flow_lead", flow_uuid=flow, lead_uuid=lead.id, status=None)

    assert await work.crm.enrolled(flow, lead.id) is None


@pytest.mark.parametrize(
    "change",
    [
        LeadUpdate(email="new@acme.example"),
        LeadUpdate(email="JANE@acme.example"),
        LeadUpdate(clear=("email",)),
        LeadUpdate(custom_fields={"personal_email": "jane@home.example"}),
    ],
)
async def test_who_has_unsubscribed_gets_no_other_address(work: Work, change: LeadUpdate):
    lead = await work.crm.create_lead(JANE)
    work.there.find("lead", lead.id)["email_status"] = "unsubscribed"
    before = len(work.there.calls("PUT|POST", r"/leads/api/(leads/[0-9a-f-]{36}|leads/upsert|leads)"))

    with pytest.raises(InvalidArgument, match="Jane Smith has unsubscribed"):
        await work.crm.update_lead(lead.id, change)

    assert len(work.there.calls("PUT|POST", r"/leads/api/(leads/[0-9a-f-]{36}|leads/upsert|leads)")) == before
    assert (await work.crm.get_lead(lead.id)).do_not_contact == ("email",)


async def test_who_has_unsubscribed_stays_so_when_other_fields_change(work: Work):
    lead = await work.crm.create_lead(JANE)
    work.there.find("lead", lead.id)["email_status"] = "unsubscribed"

    changed = await work.crm.update_lead(lead.id, LeadUpdate(title="CTO", email="jane@acme.example"))
    with pytest.raises(InvalidArgument, match="no custom field"):
        await work.crm.update_lead(lead.id, LeadUpdate(custom_fields={"email_status": "ok"}))

    assert (changed.title, changed.do_not_contact) == ("CTO", ("email",))


@pytest.mark.parametrize("many", [False, True])
async def test_no_import_gives_another_address_to_who_has_unsubscribed(opened: Opened, many: bool):
    async with opened(most_rows=1) as work:
        for number in range(6 if many else 1):  # more than are read beforehand
            fields: dict[str, Any] = {"work_email": f"x{number}@old.example", "email_status": "unsubscribed"}
            work.there.make("lead", name=f"X {number}", tags=[], **fields)
        lead = await work.crm.create_lead(JANE)
        free = await work.crm.create_lead(JANE.model_copy(update={"company": "Other", **_ANN}))
        work.there.find("lead", lead.id)["email_status"] = "unsubscribed"
        drafts = [
            JANE.model_copy(update={"email": "new@acme.example", "phone": None}),
            JANE.model_copy(update={"email": "two@acme.example", "phone": None, "custom_fields": None}),
            JANE.model_copy(update={"company": "Other", **_ANN, "email": "ann@new.example"}),
            JANE.model_copy(update={"title": "CTO", "phone": None}),
        ]

        outcomes = await work.crm.import_leads([ImportRow(draft=each) for each in drafts], "update")

        kept, changed = await work.crm.get_lead(lead.id), await work.crm.get_lead(free.id)
    assert [each.outcome for each in outcomes] == ["failed", "failed", "updated", "updated"]
    assert "has unsubscribed" in (outcomes[0].reason or "")
    assert f"takes it for {lead.id} (Jane Smith)" in (outcomes[1].reason or "")
    assert (kept.email, kept.do_not_contact, kept.title) == ("jane@acme.example", ("email",), "CTO")
    assert changed.email == "ann@new.example"


_ANN = {"email": "ann@other.example", "phone": None, "custom_fields": {"linkedin": "https://www.linkedin.com/in/ann"}}
