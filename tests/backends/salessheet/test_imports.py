from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from crm_mcp.backends.rate_limit import bulk_work
from crm_mcp.backends.salessheet import SalesSheet
from crm_mcp.errors import OutcomeUnknown
from crm_mcp.model import IfExists, ImportRow, LeadDraft, LeadFilter, LeadUpdate, Slice
from crm_mcp.sandbox.emulator import Call, Fault
from crm_mcp.sandbox.salessheet import SalesSheetEmulator

from .conftest import Emulated

Opened = tuple[SalesSheetEmulator, SalesSheet]


def row(**fields: Any) -> ImportRow:
    return ImportRow(draft=LeadDraft.model_validate(fields))


def numbered(count: int, first: int = 0) -> list[ImportRow]:
    return [row(name=f"Lead {n}", email=f"lead{n}@acme.example") for n in range(first, first + count)]


@dataclass
class SecondBatch(Fault):
    """A fault that lets the first request pass."""

    passed: int = 0

    def strikes(self, call: Call) -> bool:
        strikes = super().strikes(call)
        self.passed += strikes
        return strikes and self.passed > 1


def known(vendor: SalesSheetEmulator, count: int) -> None:
    """Contacts that are there already."""
    for n in range(count):
        vendor.records["contacts"][f"k{n}"] = {"id": f"k{n}", "first_name": f"K{n}", "email": f"k{n}@acme.example"}


async def test_a_batch_is_an_array_of_contacts(opened: Opened):
    vendor, crm = opened
    rows = [
        row(name="Jane Whitfield", email="jane@acme.example", phone="+12125550100", company="Acme", title="CTO"),
        row(first_name="Bob", owner="Robin", status="new", custom_fields={"cf_seats": 3}),
    ]

    outcomes = await crm.import_leads(rows, "skip")

    listed, posted = vendor.journal
    assert (listed.method, listed.path) == ("GET", "/v1/contacts")
    assert listed.query == {"sort_by": "created_at", "sort_order": "asc", "page": "1", "per_page": "100"}
    assert (posted.method, posted.path) == ("POST", "/v1/contacts/batch")
    assert posted.body == [
        {
            "first_name": "Jane",
            "last_name": "Whitfield",
            "email": "jane@acme.example",
            "phone": "+12125550100",
            "company": "Acme",
            "title": "CTO",
        },
        {"first_name": "Bob", "status": "new", "owner": "Robin", "custom_fields": {"cf_seats": 3}},
    ]
    assert [each.outcome for each in outcomes] == ["created", "created"]
    assert [each.id for each in outcomes] == list(vendor.records["contacts"])


@pytest.mark.parametrize("if_exists", ["skip", "error", "update"])
async def test_ten_thousand_leads_are_a_hundred_batches_and_one_read(emulated: Emulated, if_exists: IfExists):
    vendor, crm = emulated(plan="enterprise")  # whose limit a hundred calls do not reach, so that none has to wait

    outcomes: list[str] = []
    with bulk_work():
        for start in range(0, 10_000, crm.import_size):
            outcomes += [each.outcome for each in await crm.import_leads(numbered(100, start), if_exists)]

    assert outcomes == ["created"] * 10_000
    assert len(vendor.calls("POST", "/v1/contacts/batch")) == 100
    assert len(vendor.journal) == 101
    assert len(vendor.records["contacts"]) == 10_000


async def test_what_is_there_is_read_once_for_an_import_a_hundred_a_request(emulated: Emulated):
    vendor, crm = emulated()
    known(vendor, 250)

    for start in (0, 100, 200):
        await crm.import_leads(numbered(100, start), "skip")

    assert [each.method for each in vendor.journal] == ["GET", "GET", "GET", "POST", "POST", "POST"]


async def test_a_few_rows_are_looked_up_one_by_one_in_a_large_crm(emulated: Emulated):
    vendor, crm = emulated()
    known(vendor, 900)

    skipped, created = await crm.import_leads(
        [row(name="K", email="K7@acme.example"), row(name="New", email="new@acme.example", phone="+12125550199")],
        "skip",
    )

    assert (skipped.outcome, skipped.id, created.outcome) == ("skipped", "k7", "created")
    asked = [{key: each.query[key] for key in each.query if "page" not in key} for each in vendor.calls("GET")]
    assert asked[1:] == [
        {"email": "K7@acme.example"},
        {"email": "new@acme.example"},
        {"phone": "+12125550199"},
        {"phone": "2125550199"},
        {"search": "0199"},
    ]


@pytest.mark.parametrize("match", ["email", "nothing"])
async def test_known_rows_follow_what_is_asked_for(emulated: Emulated, match: str):
    vendor, crm = emulated(batch_match=match)
    made = await crm.create_lead(LeadDraft(name="Jane", email="Jane@a.example", phone="+12125550100"))
    rows = [row(name="Jane M", email="jane@A.example"), row(name="Jane", phone="+12125550100")]

    skipped = await crm.import_leads(rows, "skip")
    failed = await crm.import_leads(rows, "error")
    assert vendor.calls("POST", ".*/batch") == []
    assert await crm.get_lead(made.id) == made
    updated = await crm.import_leads(rows, "update")

    assert [(each.outcome, each.id) for each in skipped] == [("skipped", made.id)] * 2
    assert [(each.outcome, each.id, each.reason) for each in failed] == [
        ("failed", made.id, f"{made.id} (Jane) has this {word} already") for word in ("e-mail address", "number")
    ]
    assert [(each.outcome, each.id) for each in updated] == [("updated", made.id)] * 2
    sent = [each.body[0] for each in vendor.calls("POST", ".*/batch")]
    assert [each["id"] for each in sent] == [made.id] * 2
    assert (await crm.get_lead(made.id)).name == "Jane M"


async def test_rows_of_one_batch_with_one_address_are_one_lead(opened: Opened):
    vendor, crm = opened
    rows = [row(name=name, email=f"{at}@a.example") for name, at in (("Ann A", "a"), ("Ann B", "A"), ("C", "c"))]

    skipped = await crm.import_leads(rows, "skip")
    updated = await crm.import_leads(rows, "update")

    assert [each.outcome for each in skipped] == ["created", "skipped", "created"]
    assert skipped[1].id == skipped[0].id
    assert [each.outcome for each in updated] == ["updated"] * 3
    assert sorted(each.get("last_name") or "" for each in vendor.records["contacts"].values()) == ["", "B"]


async def test_colleagues_are_not_left_to_what_the_batch_recognises_contacts_by(emulated: Emulated):
    vendor, crm = emulated(batch_match="phone")
    people = [row(name=f"{name} Falk", email=f"{name}@a.example", phone="+12125550100") for name in ("Nina", "Otto")]

    outcomes = await crm.import_leads([*people, row(name="Zoe", email="zoe@a.example")], "update")

    assert [each.outcome for each in outcomes] == ["created"] * 3
    assert [len(each.body) for each in vendor.calls("POST", ".*/batch")] == [2]
    assert [each.body["first_name"] for each in vendor.calls("POST", "/v1/contacts")] == ["Otto"]


def with_three_bad() -> list[ImportRow]:
    rows = numbered(100)
    rows[3] = row(name="Bad mail", email="bad@acme.example")
    rows[41] = row(name="Bad field", email="x41@acme.example", custom_fields={"cf_nothing": 1})
    rows[99] = row(name="Nobody", tags=("vip",))
    return rows


@pytest.mark.parametrize(("batch", "requests"), [("partial", 1), ("all_or_nothing", 2), ("silent", 36)])
@pytest.mark.parametrize(("errors", "invalid"), [("message", 422), ("text", 400), ("list", 422)])
async def test_of_a_hundred_rows_three_bad_ones_are_told_and_the_others_written(
    emulated: Emulated, batch: str, requests: int, errors: str, invalid: int
):
    vendor, crm = emulated(batch=batch, errors=errors, invalid=invalid, custom_fields=())
    vendor.switch(required=("last_name",))
    rows = with_three_bad()
    rows[3] = row(first_name="Lonely", email="x3@acme.example")

    outcomes = await crm.import_leads(rows, "skip")

    failed = {number: each.reason for number, each in enumerate(outcomes) if each.outcome == "failed"}
    assert list(failed) == [3, 41, 99]
    assert failed[99] is not None
    assert failed[99].startswith("SalesSheet's API has no tags")
    if batch == "silent":
        assert failed[3] == failed[41] == "SalesSheet does not accept this row"
    else:
        assert failed[3] == "SalesSheet requires more of it: last_name"
        assert failed[41] == "SalesSheet does not accept its custom_fields"
    assert sum(each.outcome == "created" for each in outcomes) == len(vendor.records["contacts"]) == 97
    assert len(vendor.calls("POST")) <= requests


async def test_a_bad_field_that_all_rows_have_costs_few_requests(emulated: Emulated):
    vendor, crm = emulated(batch="silent", required=("title",))

    outcomes = await crm.import_leads(numbered(100), "skip")

    assert {each.outcome for each in outcomes} == {"failed"}
    assert all(each.reason for each in outcomes)
    assert len(vendor.calls("POST")) < 60


@pytest.mark.parametrize("fault", ["empty", "malformed", "drop_after"])
async def test_a_batch_without_an_answer_is_not_known_and_read_again_before_the_next(opened: Opened, fault: Any):
    vendor, crm = opened
    vendor.fail(fault, path=".*/batch")

    with pytest.raises(OutcomeUnknown):
        await crm.import_leads(numbered(3), "skip")
    again = await crm.import_leads(numbered(3), "skip")

    assert [each.outcome for each in again] == ["skipped"] * 3
    assert len(vendor.records["contacts"]) == 3


async def test_rows_that_were_written_keep_their_outcomes_when_the_next_request_fails(opened: Opened):
    vendor, crm = opened
    vendor.switch(batch="all_or_nothing")
    await crm.import_leads(numbered(1), "skip")
    two = [row(name="C", email="c@a.example"), row(name="C D", email="c@a.example")]
    vendor.faults.append(SecondBatch("status", path=".*/batch", status=402, body={"error": "pay"}))

    first, second = await crm.import_leads(two, "update")

    assert first.outcome == "created"
    assert (second.outcome, second.reason) == (
        "failed",
        "not tried: SalesSheet wants to be paid for this; SalesSheet's API needs a Pro or Enterprise plan",
    )


async def test_an_address_that_was_freed_meanwhile_is_free(opened: Opened):
    _, crm = opened
    (first,) = await crm.import_leads([row(name="Jane", email="jane@a.example")], "skip")
    assert first.id

    await crm.update_lead(first.id, LeadUpdate(email="new@a.example"))
    freed, taken = await crm.import_leads(
        [row(name="Other", email="jane@a.example"), row(name="J", email="new@a.example")], "skip"
    )
    await crm.delete("lead", first.id)
    (again,) = await crm.import_leads([row(name="J", email="new@a.example")], "skip")

    assert (freed.outcome, taken.outcome, taken.id) == ("created", "skipped", first.id)
    assert again.outcome == "created"


async def test_rows_without_an_address_are_new_each_time(opened: Opened):
    _, crm = opened

    first = await crm.import_leads([row(name="Jane")], "skip")
    second = await crm.import_leads([row(name="Jane")], "skip")

    assert [each.outcome for each in (*first, *second)] == ["created", "created"]
    assert (await crm.search_leads(LeadFilter(), Slice())).total == 2


async def test_contacts_are_read_where_the_crm_has_smaller_pages_and_counts_nothing(emulated: Emulated):
    vendor, crm = emulated(per_page=50, envelope="bare")
    known(vendor, 120)

    (outcome,) = await crm.import_leads([row(name="K", email="k119@acme.example")], "skip")

    assert (outcome.outcome, outcome.id) == ("skipped", "k119")


async def test_an_empty_import_makes_no_call(opened: Opened):
    vendor, crm = opened

    assert await crm.import_leads([], "skip") == ()
    assert vendor.journal == []


NOT_SAID = "SalesSheet took the batch and did not say what became of this row: it may be there"
REFUSED = "SalesSheet does not accept this row"


@pytest.mark.parametrize(
    ("entry", "outcome", "reason"),
    [
        ({"success": False, "message": "email is invalid"}, "failed", "SalesSheet does not accept its email"),
        ({"ok": False}, "failed", REFUSED),
        ({"status": "skipped"}, "failed", REFUSED),
        ({"status": "skipped", "id": "c1"}, "failed", REFUSED),
        ({"status": "rejected", "message": "no"}, "failed", REFUSED),
        ({"status": "422"}, "failed", REFUSED),
        ({"action": "queued"}, "failed", NOT_SAID),
        ({"message": "thank you"}, "failed", NOT_SAID),
        ({"success": True}, "created", None),
        ({"status": "ok"}, "created", None),
        ({"status": 201}, "created", None),
        ({"id": "c1"}, "created", None),
        ({"status": "new", "email": "lead0@acme.example", "id": "c1"}, "created", None),
        ({"contact": {"id": "c1", "status": "new"}, "status": "updated"}, "updated", "SalesSheet recognised a contact"),
    ],
)
async def test_a_row_counts_as_written_only_where_the_answer_says_so(
    opened: Opened, entry: dict[str, Any], outcome: str, reason: str | None
):
    vendor, crm = opened
    vendor.fail("status", path=".*/batch", status=207, body={"results": [{"index": 0, **entry}]})

    (told,) = await crm.import_leads(numbered(1), "skip")

    assert told.outcome == outcome
    assert (told.reason or "").startswith(reason) if reason else told.reason is None


@pytest.mark.parametrize(
    ("answer", "outcomes"),
    [
        ({"created": 2, "updated": 0, "failed": [{"index": 1}]}, ["created", REFUSED, "created"]),
        ({"created": 2, "failed": [{"index": 1, "message": "email"}]}, ["created", "its email", "created"]),
        ({"errors": [{"index": 2}], "failed": 1}, ["created", "created", REFUSED]),
        ({"created": 3}, ["created"] * 3),
        ({"created": 1, "failed": [{"index": 1}]}, [NOT_SAID, REFUSED, NOT_SAID]),
        ({"errors": [{"index": 1}]}, [NOT_SAID, REFUSED, NOT_SAID]),
    ],
)
async def test_counts_beside_the_rows_at_fault_are_believed_where_they_add_up(
    opened: Opened, answer: dict[str, Any], outcomes: list[str]
):
    vendor, crm = opened
    vendor.fail("status", path=".*/batch", status=207, body=answer)

    told = await crm.import_leads(numbered(3), "skip")

    assert all(wanted in (each.reason or each.outcome) for each, wanted in zip(told, outcomes, strict=True)), told


@pytest.mark.parametrize(
    ("if_exists", "outcome", "reason"),
    [
        ("skip", "skipped", "a row before it (Lead 0) has this e-mail address already"),
        ("error", "failed", "a row before it (Lead 0) has this e-mail address already"),
        (
            "update",
            "failed",
            "a row before it made a lead with this address or number, and the CRM did not say its id",
        ),
    ],
)
async def test_a_row_like_one_whose_id_was_not_told_is_not_sent_again(
    opened: Opened, if_exists: IfExists, outcome: str, reason: str | None
):
    vendor, crm = opened
    vendor.fail("status", path=".*/batch", status=200, body={"created": 1})

    first, second = await crm.import_leads([*numbered(1), *numbered(1)], if_exists)

    assert (first.outcome, first.id) == ("created", None)
    assert (second.outcome, second.id, second.reason) == (outcome, None, reason)
    assert len(vendor.calls("POST")) == 1


async def test_the_id_of_a_row_that_changes_a_contact_stands_where_the_keys_say(emulated: Emulated):
    vendor, crm = emulated(keys={"batch_id": "contact"})
    known(vendor, 1)

    await crm.import_leads([row(name="K", email="k0@acme.example")], "update")

    assert vendor.calls("POST")[0].body == [{"contact": "k0", "first_name": "K", "email": "k0@acme.example"}]
