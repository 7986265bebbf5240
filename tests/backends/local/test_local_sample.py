from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import phonenumbers
import pytest

from crm_mcp.address import email_address, phone_number
from crm_mcp.backends.local import Local
from crm_mcp.model import DealFilter, Lead, LeadDraft, LeadFilter, Slice, now


@pytest.fixture
async def sample(tmp_path: Path) -> AsyncGenerator[Local]:
    crm = Local(tmp_path, sample=True)
    yield crm
    await crm.aclose()


async def everyone(crm: Local, **wanted: object) -> list[Lead]:
    part: Slice | None = Slice(limit=100)
    found: list[Lead] = []
    while part:
        page = await crm.search_leads(LeadFilter.model_validate(wanted), part)
        found.extend(page.items)
        part = Slice(limit=100, position=page.next) if page.next else None
    return found


async def test_the_sample_is_there_at_once(sample: Local):
    start = time.perf_counter()
    account = await sample.check()

    assert account.found.startswith("300 leads, 61 deals")
    assert time.perf_counter() - start < 5


async def test_the_lead_of_the_demo_has_her_story(sample: Local):
    (jane,) = (await sample.search_leads(LeadFilter(query="whitfield acme"), Slice())).items
    deals = await sample.list_deals(DealFilter(lead=jane.id, status="open"), Slice())
    (call,) = (await sample.list_calls(jane.id, Slice())).items

    assert (jane.name, jane.company, jane.email) == (
        "Jane Whitfield",
        "Acme Robotics",
        "jane.whitfield@acme-robotics.example",
    )
    assert jane.phone
    assert jane.do_not_contact is None
    assert [(each.name, each.stage) for each in deals.items] == [("Acme Robotics pilot", "Proposal")]
    assert call.transcript is None
    assert "revised quote" in ((await sample.get_call(call.id)).transcript or "")
    assert len((await sample.list_notes(jane.id, Slice())).items) >= 2
    assert jane.last_contacted_at
    assert timedelta(days=8) < now() - jane.last_contacted_at < timedelta(days=10)


async def test_accents_are_no_hurdle(sample: Local):
    assert [each.company for each in await everyone(sample, query="strassenbau muller")] == [
        "Straßenbau Müller & Söhne"
    ]


async def test_nobody_in_the_sample_can_be_reached(sample: Local):
    leads = await everyone(sample)

    assert len(leads) == 300
    for lead in leads:
        assert lead.email is None or (lead.email.endswith(".example") and email_address(lead.email) == lead.email)
        if lead.phone:
            number = phonenumbers.parse(lead.phone)
            assert phone_number(lead.phone, None) == lead.phone
            assert phonenumbers.is_possible_number(number)
            assert "55501" in lead.phone or lead.phone.startswith("+447700900")
    addresses = [each.email for each in leads if each.email] + [each.phone for each in leads if each.phone]
    assert len(addresses) == len(set(addresses))


async def test_the_history_lies_in_the_past_and_in_order(sample: Local):
    leads = await everyone(sample)

    created = [each.created_at for each in leads]
    assert created == sorted(created, reverse=True, key=lambda each: each or now())
    assert all(each.last_contacted_at is None or each.last_contacted_at <= now() for each in leads)
    assert any(each.last_contacted_at is None for each in leads)
    assert any(each.do_not_contact for each in leads)
    assert {each.stage for each in leads} == {"New", "Contacted", "Qualified", "Customer"}


async def test_there_is_work_to_do(sample: Local):
    overdue = await sample.list_tasks(None, False, now(), Slice(limit=100))
    due = await sample.due_steps()
    mailboxes = await sample.mailboxes()
    pipeline = await sample.pipeline("deals", "stage")

    assert overdue.items
    assert due
    assert [each.due_at for each in due] == sorted(each.due_at for each in due)
    assert [each.default for each in mailboxes] == [True, False]
    assert all(each.count for each in pipeline.groups)
    for kind in ("tags", "lists", "owners", "custom_fields"):
        assert len(await sample.list_options(kind)) >= 3


async def test_a_crm_that_has_leads_is_not_filled(tmp_path: Path):
    crm = Local(tmp_path)
    await crm.create_lead(LeadDraft(name="Jane"))
    await crm.aclose()
    again = Local(tmp_path, sample=True)

    assert (await again.check()).found.startswith("1 lead,")
    await again.aclose()


async def test_a_due_step_is_done_by_a_message_on_its_channel(sample: Local):
    step = next(each for each in await sample.due_steps() if each.channel == "email")
    lead = await sample.get_lead(step.lead_id)
    (mailbox, *_) = await sample.mailboxes()

    await sample.send_sms(lead, "Not what the step asks for")
    still_due = [each for each in await sample.due_steps() if each.lead_id == lead.id and each.channel == "email"]
    for _ in still_due:
        await sample.send_email(lead, mailbox, "Hello", "x", None)

    assert step in still_due
    assert step not in await sample.due_steps()


async def test_steps_come_due_by_the_days_since_the_enrolment(sample: Local, tmp_path: Path):
    sequence = next(each for each in await sample.sequences() if each.name == "Follow-up")
    lead = await sample.create_lead(LeadDraft(name="Fresh", email="fresh@a.example"))

    await sample.enroll(sequence.id, lead.id)

    assert [each.after_days for each in sequence.steps] == [1, 3, 7]
    assert lead.id not in {each.lead_id for each in await sample.due_steps()}
    with sqlite3.connect(tmp_path / "crm.sqlite3") as db:
        db.execute("UPDATE enrolments SET enrolled_at = enrolled_at - 86400000 WHERE lead = ?", (lead.id[1:],))
    db.close()
    (due,) = [each for each in await sample.due_steps() if each.lead_id == lead.id]
    assert (due.sequence, due.lead, due.position) == ("Follow-up", "Fresh", 1)
