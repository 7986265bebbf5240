from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.errors import OutcomeUnknown, PaymentRequired, Unauthorized
from crm_mcp.model import IfExists, ImportRow, LeadDraft, LeadFilter, LeadUpdate, Slice

from .conftest import JANE, Opened, Pulse

BULK = "/api/v1/contacts/bulk"


def row(**fields: Any) -> ImportRow:
    return ImportRow(draft=LeadDraft.model_validate(fields))


def many(count: int, start: int = 0) -> list[ImportRow]:
    return [row(name=f"Lead {n}", email=f"l{n}@acme.example") for n in range(start, start + count)]


async def test_ten_thousand_leads_are_created_in_ten_bulk_requests_and_one_look(opened: Opened):
    async with opened() as pulse:
        outcomes = [
            each
            for start in range(0, 10_000, pulse.crm.import_size)
            for each in await pulse.crm.import_leads(many(1000, start), "skip")
        ]

    assert {each.outcome for each in outcomes} == {"created"}
    assert len(pulse.there.contacts) == len(outcomes) == 10_000
    assert pulse.wire() == [("GET", "/contacts"), *[("POST", "/contacts/bulk")] * 10]


async def test_a_bulk_request_has_the_contacts_under_the_inferred_key(opened: Opened):
    rows = [row(name="Jane Smith", email="jane@acme.example", phone="+12125550101", custom_fields={"state": "FL"})]
    async with opened(keys={"contacts": "people"}, bulk_key="people") as pulse:
        (outcome,) = await pulse.crm.import_leads(rows, "skip")

    (post,) = pulse.there.calls("POST")
    assert (post.path, outcome.outcome) == (BULK, "created")
    assert post.body == {
        "people": [
            {
                "first_name": "Jane",
                "last_name": "Smith",
                "email": "jane@acme.example",
                "phone": "+12125550101",
                "state": "FL",
            }
        ]
    }


async def test_known_leads_follow_what_is_asked_for_and_are_never_doubled(pulse: Pulse):
    jane = pulse.put(**JANE)
    rows = [row(name="Jane M", email="JANE@acme.example"), row(name="Jane", phone="+12125550101")]

    skipped = await pulse.crm.import_leads(rows, "skip")
    failed = await pulse.crm.import_leads(rows, "error")
    before = len(pulse.there.calls("POST|PATCH"))
    updated = await pulse.crm.import_leads(rows, "update")

    assert [(each.outcome, each.id) for each in skipped] == [("skipped", jane)] * 2
    assert [(each.outcome, each.id) for each in failed] == [("failed", jane)] * 2
    assert failed[0].reason == f"{jane} (Jane Smith) has this e-mail address already"
    assert failed[1].reason == skipped[1].reason == f"{jane} (Jane Smith) has this number already"
    assert before == 0
    assert [(each.outcome, each.id) for each in updated] == [("updated", jane)] * 2
    assert [each.body for each in pulse.there.calls("PATCH")] == [
        {"first_name": "Jane", "last_name": "M", "email": "JANE@acme.example"},
        {"first_name": "Jane", "phone": "+12125550101"},
    ]
    assert len(pulse.there.contacts) == 1


async def test_addresses_are_read_once_for_an_import_of_several_calls(pulse: Pulse):
    for number in range(250):
        pulse.put(email=f"l{number}@acme.example")

    first = await pulse.crm.import_leads(many(300, 100), "skip")
    second = await pulse.crm.import_leads(many(300, 200), "skip")

    assert [sum(each.outcome == "created" for each in some) for some in (first, second)] == [150, 100]
    assert pulse.wire() == [*[("GET", "/contacts")] * 3, *[("POST", "/contacts/bulk")] * 2]
    assert len(pulse.there.contacts) == 500


async def test_what_is_deleted_or_changed_between_two_imports_is_seen(pulse: Pulse):
    rows = [row(name="Jane", email="jane@acme.example"), row(name="Bob", email="bob@acme.example")]
    await pulse.crm.import_leads(rows, "skip")
    jane, bob = pulse.there.contacts
    await pulse.crm.delete("lead", jane)
    await pulse.crm.update_lead(bob, LeadUpdate(email="robert@acme.example"))

    again = await pulse.crm.import_leads(rows, "skip")

    assert [each.outcome for each in again] == ["created", "created"]


async def test_few_rows_for_a_large_account_are_searched_for_one_by_one(pulse: Pulse):
    for number in range(500):
        pulse.put(email=f"old{number}@acme.example")

    outcomes = await pulse.crm.import_leads([row(email="old7@acme.example"), row(email="new@acme.example")], "skip")

    assert [each.outcome for each in outcomes] == ["skipped", "created"]
    gets = pulse.there.calls("GET", "/api/v1/contacts")
    assert [each.query.get("search") for each in gets] == [None, "old7@acme.example", "new@acme.example"]


@pytest.mark.parametrize("page_size", [100, 30])
async def test_a_smaller_page_than_asked_for_is_not_the_end(opened: Opened, page_size: int):
    async with opened(page_size=page_size, envelope="bare") as pulse:
        for number in range(70):
            pulse.put(email=f"l{number}@acme.example")

        outcomes = await pulse.crm.import_leads(many(80), "skip")

    assert [each.outcome for each in outcomes] == ["skipped"] * 70 + ["created"] * 10


@pytest.mark.parametrize("if_exists", ["skip", "update", "error"])
@pytest.mark.parametrize("answer", ["counts", "items"])
async def test_rows_of_one_batch_with_one_address_are_one_lead(opened: Opened, if_exists: IfExists, answer: str):
    rows = [row(name="Ann A", email="a@acme.example"), row(name="Ann B", email="A@acme.example"), row(name="C")]
    async with opened(bulk_answer=answer) as pulse:
        outcomes = await pulse.crm.import_leads(rows, if_exists)

        names = [each.name for each in (await pulse.crm.search_leads(LeadFilter(), Slice())).items]

    second = {"skip": "skipped", "update": "updated", "error": "failed"}[if_exists]
    assert [each.outcome for each in outcomes] == ["created", second, "created"]
    assert names == ["C", "Ann B" if if_exists == "update" else "Ann A"]


@pytest.mark.parametrize("answer", ["counts", "items", "contacts", "bare", "silent", "refuse", "refuse_blind"])
async def test_three_bad_rows_of_a_hundred_are_reported_in_each_shape_of_the_answer(opened: Opened, answer: str):
    rows = many(100)
    for index in (3, 50, 99):
        bad = {"state": "Florida", "seats": index}
        rows[index] = row(name=f"Bad {index}", email=f"l{index}@acme.example", custom_fields=bad)
    async with opened(bulk_answer=answer, per_minute=1000) as pulse:
        pulse.there.general.calls = 1000

        outcomes = await pulse.crm.import_leads(rows, "skip")

    failed = {index: each.reason or "" for index, each in enumerate(outcomes) if each.outcome == "failed"}
    assert list(failed) == [3, 50, 99]
    assert {each.outcome for index, each in enumerate(outcomes) if index not in failed} == {"created"}
    assert len(pulse.there.contacts) == 97
    reasons = set(failed.values())
    if answer in ("counts", "items", "refuse"):
        assert reasons == {"SalesPulse does not accept it: state"}
    elif answer == "refuse_blind":
        assert reasons == {"SalesPulse does not accept the values: state; check them"}
    else:
        assert all("did not say whether it was created, and it is not found there" in each for each in reasons)
    if answer in ("items", "refuse_blind", "contacts", "bare", "silent"):
        assert [each.id for each in outcomes if each.outcome == "created"] == list(pulse.there.contacts)


async def test_a_count_of_all_says_that_all_were_created(opened: Opened):
    async with opened(bulk_answer="bare") as pulse:
        outcomes = await pulse.crm.import_leads(many(3), "skip")

    assert [(each.outcome, each.id) for each in outcomes] == [("created", None)] * 3
    assert pulse.wire() == [("GET", "/contacts"), ("POST", "/contacts/bulk")]


async def test_created_contacts_in_the_answer_give_their_ids(opened: Opened):
    async with opened(bulk_answer="contacts") as pulse:
        outcomes = await pulse.crm.import_leads(many(3), "skip")

    assert [each.id for each in outcomes] == list(pulse.there.contacts)
    assert len(pulse.there.journal) == 2


async def test_a_doubled_address_that_the_vendor_finds_is_said_in_our_words(opened: Opened):
    async with opened(duplicates="refuse") as pulse:
        await pulse.crm.import_leads(many(2), "skip")
        pulse.put(email="l5@acme.example")

        outcomes = await pulse.crm.import_leads(many(3, 4), "skip")

    assert [each.outcome for each in outcomes] == ["created", "failed", "created"]
    assert outcomes[1].reason == "SalesPulse has one with this address or number already"


async def test_a_large_batch_that_is_refused_whole_is_taken_apart(opened: Opened):
    rows = many(300)
    rows[42] = row(name="Bad", email="bad@acme.example", custom_fields={"state": "Florida"})
    async with opened(bulk_answer="refuse_blind") as pulse:
        outcomes = await pulse.crm.import_leads(rows, "skip")

    assert [index for index, each in enumerate(outcomes) if each.outcome != "created"] == [42]
    assert len(pulse.there.contacts) == 299
    assert len(pulse.there.calls("POST", BULK)) == 10
    assert len(pulse.there.calls("POST", "/api/v1/contacts")) == 34


async def test_a_refusal_that_names_the_bad_rows_costs_one_call_more(opened: Opened):
    rows = many(300)
    rows[42] = row(name="Bad", email="bad@acme.example", custom_fields={"state": "Florida"})
    async with opened(bulk_answer="refuse") as pulse:
        outcomes = await pulse.crm.import_leads(rows, "skip")

    assert [(index, each.reason) for index, each in enumerate(outcomes) if each.outcome != "created"] == [
        (42, "SalesPulse does not accept it: state")
    ]
    assert len(pulse.there.calls("POST")) == 2


async def test_what_became_of_a_batch_whose_answer_was_lost_is_looked_for(pulse: Pulse):
    rows = [*many(3), row(name="Nameless")]
    pulse.there.fail("drop_after", method="POST", path=BULK)

    outcomes = await pulse.crm.import_leads(rows, "skip")
    again = await pulse.crm.import_leads(many(3), "skip")

    assert [(each.outcome, each.id) for each in outcomes[:3]] == [
        ("created", lead) for lead in list(pulse.there.contacts)[:3]
    ]
    assert outcomes[3].outcome == "failed"
    assert "did not say" in (outcomes[3].reason or "")
    assert [each.outcome for each in again] == ["skipped"] * 3
    assert len(pulse.there.calls("POST", BULK)) == 1


async def test_a_batch_that_was_lost_on_its_way_is_not_claimed(pulse: Pulse):
    pulse.there.fail("drop_before", method="POST", path=BULK)

    outcomes = await pulse.crm.import_leads(many(2), "skip")

    assert [each.outcome for each in outcomes] == ["failed", "failed"]
    assert all("look before importing it again" in (each.reason or "") for each in outcomes)
    assert pulse.there.contacts == {}


async def test_an_update_that_fails_leaves_the_outcomes_of_the_others(pulse: Pulse):
    ids = [pulse.put(email=f"l{number}@acme.example") for number in range(4)]
    pulse.there.fail("status", method="PATCH", path=f".*{ids[0]}", status=422)
    pulse.there.fail("drop_after", method="PATCH", path=f".*{ids[1]}")

    outcomes = await pulse.crm.import_leads([*many(5)], "update")

    assert [each.outcome for each in outcomes] == ["failed", "failed", "updated", "updated", "created"]
    assert "does not accept the values" in (outcomes[0].reason or "")
    assert "no answer came" in (outcomes[1].reason or "")


async def test_what_fails_for_every_row_is_not_tried_for_each(pulse: Pulse):
    for number in range(5):
        pulse.put(email=f"l{number}@acme.example")
    pulse.there.fail("status", method="PATCH", status=402)

    with pytest.raises(PaymentRequired):
        await pulse.crm.import_leads(many(5), "update")
    pulse.there.fail("status", method="PATCH", path=".*000003", status=402, times=9)
    outcomes = await pulse.crm.import_leads(many(5), "update")

    assert [each.outcome for each in outcomes] == ["updated", "updated", *["failed"] * 3]
    assert [(each.reason or "").startswith("not tried") for each in outcomes[2:]] == [False, True, True]
    assert len(pulse.there.calls("PATCH")) == 4


async def test_rows_that_can_not_be_held_fail_alone(pulse: Pulse):
    for company in ("A", "B"):
        pulse.put(phone="+12125550101", company=company)
    rows = [
        row(name="T", tags=("vip",)),
        row(title="CTO"),
        row(name="Both", phone="+12125550101"),
        row(name="Good"),
    ]

    outcomes = await pulse.crm.import_leads(rows, "update")

    assert [each.outcome for each in outcomes] == ["failed", "failed", "failed", "created"]
    assert "no tags" in (outcomes[0].reason or "")
    assert "at least one of" in (outcomes[1].reason or "")
    assert outcomes[2].reason == (
        "several leads have this number: ctn_000002 (B), ctn_000001 (A); change one of them by its id"
    )


async def test_an_import_that_can_not_begin_raises_and_writes_nothing(opened: Opened):
    async with opened(key="sp_live_wrong") as pulse:
        with pytest.raises(Unauthorized):
            await pulse.crm.import_leads(many(3), "skip")
        assert await pulse.crm.import_leads([], "skip") == ()
    async with opened() as pulse:
        pulse.there.fail("status", method="POST", status=402)
        with pytest.raises(PaymentRequired):
            await pulse.crm.import_leads(many(3), "skip")
    assert pulse.there.contacts == {}


async def test_the_bulk_limit_is_a_bucket_of_its_own(opened: Opened):
    async with opened(minute=2.0) as pulse:
        for start in range(12):
            await pulse.crm.import_leads(many(1, start), "skip")

    posts = pulse.there.calls("POST", BULK)
    assert [each.status for each in posts] == [201] * 12
    assert posts[-1].at - posts[0].at >= 1.7


@pytest.mark.parametrize("headers", ["bulk", "general"])
async def test_headers_of_a_bulk_answer_do_not_spoil_the_general_limit(opened: Opened, headers: str):
    async with opened(bulk_headers=headers) as pulse:
        await pulse.crm.import_leads(many(5), "skip")

        budget = {each.name: (each.limit, each.remaining) for each in await pulse.crm.budget()}

    assert budget == {"minute": (100, 98), "bulk": (10, 9)}


async def test_a_lost_single_creation_is_not_repeated(pulse: Pulse):
    pulse.there.fail("drop_after", method="POST")

    with pytest.raises(OutcomeUnknown):
        await pulse.crm.create_lead(LeadDraft(name="Jane", email="jane@acme.example"))

    assert len(pulse.there.calls("POST")) == 1
