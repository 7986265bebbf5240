from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crm_mcp.errors import InvalidArgument, NotFound, OutcomeUnknown, Unsupported
from crm_mcp.model import DealFilter, Group, LeadDraft, Slice, now

from .conftest import JANE, Opened, Pulse


async def test_the_calls_of_a_lead_are_asked_for_by_its_id_and_come_newest_first(pulse: Pulse):
    jane, bob = pulse.put(**JANE), pulse.put(email="bob@acme.example")
    old = pulse.there.add_call(jane, days_ago=3, seconds=182, disposition="interested", transcript="Jane: Hello.")
    new = pulse.there.add_call(jane, days_ago=1, seconds=0, disposition="no_answer")
    pulse.there.add_call(bob, days_ago=2, seconds=9, disposition="busy")

    page = await pulse.crm.list_calls(jane, Slice(limit=1))
    rest = await pulse.crm.list_calls(jane, Slice(limit=1, position=page.next))

    assert pulse.there.journal[0].query == {"contact_id": jane}
    assert ([each.id for each in page.items], page.total) == ([new], 2)
    (first,) = rest.items
    assert (first.id, first.lead_id, first.direction) == (old, jane, "outbound")
    assert (first.duration_seconds, first.outcome, first.transcript) == (182, "interested", None)
    assert rest.next is None


@pytest.mark.parametrize("form", ["text", "turns"])
async def test_a_call_has_recording_and_transcript_once_they_are_made(opened: Opened, form: str):
    async with opened(transcript_form=form) as pulse:
        jane = pulse.put(**JANE)
        done = pulse.there.add_call(
            jane, days_ago=1, seconds=60, disposition="sold", transcript="Jane: Yes.\nTom: Good."
        )
        fresh = pulse.there.add_call(jane, days_ago=0, seconds=60, disposition="sold", transcript="Jane: Yes.")

        call = await pulse.crm.get_call(done)
        unprocessed = await pulse.crm.get_call(fresh)

    assert pulse.wire() == [("GET", f"/calls/{done}"), ("GET", f"/calls/{fresh}")]
    assert call.transcript == "Jane: Yes.\nTom: Good."
    assert call.recording_url == f"https://recordings.salespulse.example/{done}.mp3"
    assert (unprocessed.transcript, unprocessed.recording_url) == (None, None)


@pytest.mark.parametrize("nobody", ["empty", "missing"])
async def test_calls_that_are_not_there_are_not_found(opened: Opened, nobody: str):
    async with opened(calls_of_nobody=nobody) as pulse:
        jane = pulse.put(**JANE)

        assert (await pulse.crm.list_calls(jane, Slice())).items == ()
        with pytest.raises(NotFound):
            await pulse.crm.list_calls("ctn_9", Slice())
        with pytest.raises(NotFound):
            await pulse.crm.list_activity("ctn_9", (), None, Slice())
        with pytest.raises(NotFound, match='there is no call "call_9"'):
            await pulse.crm.get_call("call_9")


async def test_activity_is_the_calls_since_a_moment_asked_for_a_day_early(pulse: Pulse):
    jane = pulse.put(**JANE)
    for days in (5, 2.5, 1):
        pulse.there.add_call(jane, days_ago=days, seconds=10, disposition="reached")
    since = now() - timedelta(days=2)

    everything = await pulse.crm.list_activity(jane, (), None, Slice(limit=2))
    rest = await pulse.crm.list_activity(jane, ("call",), None, Slice(limit=2, position=everything.next))
    recent = await pulse.crm.list_activity(jane, ("call",), since, Slice())

    assert [each.id for each in (*everything.items, *rest.items)] == ["call_000003", "call_000002", "call_000001"]
    (item,) = recent.items
    assert (item.kind, item.id, item.outcome, item.direction) == ("call", "call_000003", "reached", "outbound")
    early = (since.astimezone(UTC) - timedelta(days=1)).date().isoformat()
    assert pulse.there.journal[-1].query == {"contact_id": jane, "from": early}
    with pytest.raises(InvalidArgument, match="valid: call"):
        await pulse.crm.list_activity(jane, ("note",), None, Slice())


async def test_a_list_that_says_it_has_more_is_read_on(opened: Opened):
    async with opened(list_page=2) as pulse:
        jane = pulse.put(**JANE)
        for days in range(5):
            pulse.there.add_call(jane, days_ago=days, seconds=10, disposition="reached")
        for number in range(3):
            pulse.there.add_deal(jane, f"D{number}", 10.0, "stg_1")

        calls = await pulse.crm.list_calls(jane, Slice())
        deals = await pulse.crm.list_deals(DealFilter(), Slice())

    assert (len(calls.items), calls.total, len(deals.items), deals.total) == (5, 5, 3, 3)
    assert [each.query.get("page") for each in pulse.there.calls("GET", ".*/calls")] == [None, "2", "3"]


@pytest.mark.parametrize("answer", ["id", "call_id"])
async def test_a_call_is_started_by_the_contact_s_id(opened: Opened, answer: str):
    async with opened(call_answer=answer) as pulse:
        lead = await pulse.crm.get_lead(pulse.put(**JANE))

        call = await pulse.crm.start_call(lead)

    (post,) = pulse.there.calls("POST")
    assert (post.path, post.body) == ("/api/v1/calls/initiate", {"contact_id": lead.id})
    assert (call.id, call.lead_id, call.direction) == ("call_000001", lead.id, "outbound")
    assert call.started_at
    assert abs((call.started_at - datetime.now(UTC)).total_seconds()) < 10
    assert pulse.there.dialled == [{"call_id": "call_000001", "contact_id": lead.id, "to": "+12125550101"}]


async def test_a_call_is_started_by_the_number_where_the_key_is_corrected(opened: Opened):
    async with opened(keys={"call_to": "to"}, call_key="to") as pulse:
        lead = await pulse.crm.get_lead(pulse.put(**JANE))

        call = await pulse.crm.start_call(lead)

    assert pulse.there.calls("POST")[0].body == {"to": "+12125550101"}
    assert (call.id, call.lead_id) == ("call_000001", lead.id)


async def test_a_call_whose_answer_names_none_is_said_to_be_unknown(opened: Opened):
    async with opened(call_answer="none") as pulse:
        lead = await pulse.crm.get_lead(pulse.put(**JANE))

        with pytest.raises(OutcomeUnknown, match="took the call to Jane Smith and did not say its id"):
            await pulse.crm.start_call(lead)

    assert len(pulse.there.dialled) == 1


async def test_a_call_is_rung_once_or_not_at_all(pulse: Pulse):
    jane = await pulse.crm.get_lead(pulse.put(**JANE))
    silent = await pulse.crm.get_lead(pulse.put(email="bob@acme.example"))
    gone = jane.model_copy(update={"id": "ctn_9"})
    changed = silent.model_copy(update={"phone": "+12125550109"})
    pulse.there.fail("drop_after", method="POST")

    with pytest.raises(OutcomeUnknown):
        await pulse.crm.start_call(jane)
    with pytest.raises(InvalidArgument, match="no phone number"):
        await pulse.crm.start_call(silent)
    with pytest.raises(NotFound):
        await pulse.crm.start_call(gone)
    with pytest.raises(InvalidArgument):
        await pulse.crm.start_call(changed)

    assert [each["contact_id"] for each in pulse.there.dialled] == [jane.id]
    assert len(pulse.there.calls("POST")) == 3


@pytest.mark.parametrize("form", ["stage_id", "stage", "object"])
async def test_deals_are_read_as_a_whole_and_filtered_here(opened: Opened, form: str):
    async with opened(stage_form=form) as pulse:
        jane, bob = pulse.put(**JANE), pulse.put(email="bob@acme.example")
        first = pulse.there.add_deal(jane, "Term life", 1140.0, "stg_3")
        second = pulse.there.add_deal(bob, "Annuity", 80000.0, "stg_5", "won")

        everything = await pulse.crm.list_deals(DealFilter(), Slice())
        hers = await pulse.crm.list_deals(DealFilter(lead=jane), Slice())
        quoted = await pulse.crm.list_deals(DealFilter(stage="quoted"), Slice())
        issued = await pulse.crm.list_deals(DealFilter(stage="stg_5"), Slice())
        one = await pulse.crm.get_deal(first)

    assert [each.id for each in everything.items] == [second, first]
    assert [each.query for each in pulse.there.calls("GET", "/api/v1/pipeline/deals")] == [{}] * 5
    assert (hers.items, hers.total, quoted.items) == ((one,), 1, (one,))
    assert [each.id for each in issued.items] == [second]
    assert (one.lead_id, one.name, one.value, one.currency) == (jane, "Term life", 1140.0, "USD")
    assert (one.stage, one.status) == ("Quoted", "open")


async def test_deals_that_are_not_there_are_said_so(pulse: Pulse):
    jane = pulse.put(**JANE)

    assert (await pulse.crm.list_deals(DealFilter(lead=jane), Slice())).items == ()
    with pytest.raises(NotFound):
        await pulse.crm.list_deals(DealFilter(lead="ctn_9"), Slice())
    with pytest.raises(NotFound, match='there is no deal "deal_9"'):
        await pulse.crm.get_deal("deal_9")
    with pytest.raises(InvalidArgument, match="valid: New Lead"):
        await pulse.crm.list_deals(DealFilter(stage="Quotted"), Slice())
    with pytest.raises(Unsupported, match="it can by lead, stage"):
        await pulse.crm.list_deals(DealFilter(status="open"), Slice())


async def test_the_pipeline_counts_by_stage_in_the_order_of_the_stages(pulse: Pulse):
    jane, bob = pulse.put(**JANE), pulse.put(email="bob@acme.example")
    pulse.there.add_deal(jane, "Term life", 100.0, "stg_3")
    pulse.there.add_deal(jane, "Final expense", 50.0, "stg_3", "lost")
    pulse.there.add_deal(bob, "Annuity", 7.0, "stg_5")
    await pulse.crm.move_lead(bob, "stg_2")

    deals = await pulse.crm.pipeline("deals", "stage")
    leads = await pulse.crm.pipeline("leads", "stage")

    assert [each.name for each in deals.groups] == ["New Lead", "Contacted", "Quoted", "Application", "Issued", "Lost"]
    assert (deals.groups[2], deals.groups[4]) == (
        Group(name="Quoted", count=2, value=150.0),
        Group(name="Issued", count=1, value=7.0),
    )
    assert (deals.total, deals.partial, leads.total, leads.partial) == (3, False, 2, False)
    assert leads.groups[:2] == (
        Group(name="New Lead", count=1, value=100.0),
        Group(name="Contacted", count=1, value=7.0),
    )
    with pytest.raises(Unsupported, match="it can by stage"):
        await pulse.crm.pipeline("deals", "owner")


@pytest.mark.parametrize(
    ("contacts", "partial", "counted", "envelope"),
    [(1000, False, 1000, "data"), (1001, True, 1000, "data"), (300, False, 300, "bare")],
)
async def test_leads_are_counted_up_to_ten_pages(
    opened: Opened, contacts: int, partial: bool, counted: int, envelope: str
):
    async with opened(envelope=envelope) as pulse:
        for number in range(contacts):
            pulse.put(first_name=f"L{number}")

        found = await pulse.crm.pipeline("leads", "stage")

    assert (found.total, found.partial, found.groups[0].count) == (contacts, partial, counted)
    assert len(pulse.there.calls("GET", "/api/v1/contacts")) <= 10


async def test_the_sample_is_fit_for_a_first_try(opened: Opened):
    async with opened(sample=True) as pulse:
        (jane,) = await pulse.crm.leads_at("email", "jane.whitfield@acme-robotics.example")

        calls = await pulse.crm.list_calls(jane.id, Slice())
        spoken = await pulse.crm.get_call(calls.items[0].id)
        deals = await pulse.crm.pipeline("deals", "stage")
        checked = await pulse.crm.check()
        made = await pulse.crm.create_lead(LeadDraft(name="New One"))

    assert (jane.stage, len(calls.items), checked.found) == ("Quoted", 2, "12 contacts")
    assert "final expense" in (spoken.transcript or "")
    assert deals.total == 7
    assert made.stage == "New Lead"
