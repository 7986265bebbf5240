from __future__ import annotations

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_mcp.backends.base import Backend, DeletesRecords, FindsLeads, ImportsLeads, WritesLeads
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, LeadDraft, LeadFilter

from .conftest import Unwritten
from .reading import every, someone
from .vendors import Vendor

IF_EXISTS: tuple[IfExists, ...] = ("skip", "update", "error")
MET = {"skip": "skipped", "update": "updated", "error": "failed"}
"""What becomes of a row whose lead is there."""
NOBODY = LeadDraft(title="Buyer")
numbers = count(1, 10)


class Crm(ImportsLeads, FindsLeads, Backend):
    """What these tests need."""


class Writing(ImportsLeads, WritesLeads, FindsLeads, Backend):
    """What the tests with leads that are there need."""


class Deleting(ImportsLeads, DeletesRecords, FindsLeads, Backend):
    """What the test of deleted leads needs."""


def rows(*drafts: LeadDraft) -> list[ImportRow]:
    return [ImportRow(draft=each) for each in drafts]


def outcomes(found: tuple[ImportOutcome, ...]) -> list[str]:
    return [each.outcome for each in found]


async def people(crm: FindsLeads) -> dict[str | None, str]:
    """Return everybody's id by address."""
    found = await every(lambda part: crm.search_leads(LeadFilter(), part))
    assert len({each.email for each in found}) == len(found)
    return {each.email: each.id for each in found}


async def test_new_rows_become_leads_with_all_their_fields(crm: Crm, vendor: Vendor):
    extra = {"title": "CTO", "status": "working", "owner": "Tom", "tags": ("vip",)}
    given = someone(1, **{name: value for name, value in extra.items() if name in vendor.holds})
    given = given.model_copy(update={"custom_fields": dict(vendor.custom)})

    (outcome,) = await crm.import_leads(rows(given), "skip")

    (lead,) = await crm.leads_at("email", given.email or "")
    assert (outcome.outcome, outcome.id) == ("created", lead.id if vendor.names_imported else None)
    assert lead.name == "Ann1 Vale1"
    for name in {"phone", "company", "title", "status", "owner", "tags"} & vendor.holds:
        assert getattr(lead, name) == getattr(given, name), name
    assert vendor.custom.items() <= (lead.custom_fields or {}).items()


@pytest.mark.parametrize("if_exists", IF_EXISTS)
@pytest.mark.parametrize("known_by", ["email", "phone"])
async def test_a_row_whose_lead_is_there_follows_what_is_asked_for(crm: Writing, if_exists: IfExists, known_by: str):
    made = await crm.create_lead(someone(1))
    row = someone(1, first_name="A.", phone="+12125550199")
    if known_by == "phone":
        row = someone(1, first_name="A.", email=None)

    (planned,) = await crm.plan_import(rows(row), if_exists)
    (outcome,) = await crm.import_leads(rows(row), if_exists)

    after = await crm.get_lead(made.id)
    assert (outcome.outcome, outcome.id) == (planned.outcome, planned.id) == (MET[if_exists], made.id)
    word = "e-mail address" if known_by == "email" else "number"
    assert outcome.reason == (None if if_exists == "update" else f"{made.id} (Ann1 Vale1) has this {word} already")
    assert after.name == ("A. Vale1" if if_exists == "update" else "Ann1 Vale1")
    if if_exists != "update":
        assert after == made
    assert len(await people(crm)) == 1


@pytest.mark.parametrize("if_exists", IF_EXISTS)
async def test_the_same_rows_again_make_no_second_lead(crm: Crm, vendor: Vendor, if_exists: IfExists):
    given = rows(*(someone(n) for n in range(12)))

    first = await crm.import_leads(given, if_exists)
    there = await people(crm)
    again = await crm.import_leads(given, if_exists)

    assert outcomes(first) == ["created"] * 12
    assert outcomes(again) == [MET[if_exists]] * 12
    for each, lead in zip(again, (there[someone(n).email] for n in range(12)), strict=True):
        assert each.id == lead or (each.id is None and not vendor.names_imported)
    assert await people(crm) == there


@pytest.mark.parametrize("if_exists", IF_EXISTS)
async def test_rows_of_one_batch_with_one_address_are_one_lead(crm: Crm, if_exists: IfExists):
    third, last = someone(1, email="ANN1@crowd1.example", company="B"), someone(1, phone=None, company="C")

    found = await crm.import_leads(rows(someone(1), someone(2), third, last), if_exists)

    (lead,) = await crm.leads_at("email", "ann1@crowd1.example")
    assert outcomes(found) == ["created", "created", MET[if_exists], MET[if_exists]]
    assert lead.company == ("C" if if_exists == "update" else "Company 1")
    assert len(await people(crm)) == 2


@pytest.mark.parametrize("if_exists", IF_EXISTS)
@pytest.mark.parametrize(
    "names", [("Ann Lee", "Ann Lee", "Ann Lee"), ("Ann Lee", "Anne-Marie Lee-Smith", "Ann Smith")], ids=["same", "new"]
)
async def test_an_address_that_a_batch_has_three_times_is_one_lead(
    crm: Crm, if_exists: IfExists, names: tuple[str, str, str]
):
    # A CRM may not say the id of what it has made: it is one lead all the same, whatever name it is given.
    given = rows(*(LeadDraft(name=each, email="ann@acme.example", company=each) for each in names))

    planned = await crm.plan_import(given, if_exists)
    found = await crm.import_leads(given, if_exists)

    (lead,) = await crm.leads_at("email", "ann@acme.example")
    assert outcomes(found) == outcomes(planned) == ["created", MET[if_exists], MET[if_exists]]
    assert lead.company == (names[2] if if_exists == "update" else names[0])
    assert lead.name == lead.company
    for each in found[1:]:
        assert (each.reason is None) == (if_exists == "update")
        assert if_exists == "update" or (each.reason or "").endswith("(Ann Lee) has this e-mail address already")


async def test_a_row_that_fails_leaves_the_others_and_itself_unwritten(crm: Crm, vendor: Vendor):
    bad = [NOBODY, LeadDraft()]
    bad += [someone(2, email="no address"), someone(3, phone="12")] if vendor.checks_rows else []

    found = await crm.import_leads(rows(someone(1), *bad, someone(4)), "skip")

    assert outcomes(found) == ["created", *["failed"] * len(bad), "created"]
    assert all(each.reason for each in found[1:-1])
    assert {*await people(crm)} == {"ann1@crowd1.example", "ann4@crowd1.example"}


async def test_of_two_leads_with_the_address_and_the_number_of_a_row_the_address_decides(crm: Writing):
    one, two = [await crm.create_lead(someone(n)) for n in (1, 2)]
    row = someone(1, first_name="Ann", phone=two.phone)

    (found,) = await crm.import_leads(rows(row), "update")

    after = await crm.get_lead(one.id)
    assert (found.outcome, found.id) == ("updated", one.id)
    assert (after.email, after.phone, after.name) == (one.email, two.phone, "Ann Vale1")
    assert await crm.get_lead(two.id) == two


async def test_an_update_leaves_what_a_row_does_not_name(crm: Writing):
    made = await crm.create_lead(someone(1, title="Buyer"))

    (found,) = await crm.import_leads(rows(LeadDraft(email=made.email, company="Bluebird")), "update")

    after = await crm.get_lead(made.id)
    assert (found.outcome, found.id) == ("updated", made.id)
    assert (after.company, after.title, after.name, after.phone) == ("Bluebird", "Buyer", made.name, made.phone)


async def test_an_empty_import_is_no_error(crm: Crm, unwritten: Unwritten):
    with unwritten():
        for if_exists in IF_EXISTS:
            assert await crm.import_leads([], if_exists) == ()


async def test_a_lead_that_was_deleted_is_created_again(crm: Deleting):
    await crm.import_leads(rows(someone(1)), "skip")
    there = await people(crm)
    await crm.delete("lead", there["ann1@crowd1.example"])

    (again,) = await crm.import_leads(rows(someone(1)), "skip")

    assert again.outcome == "created"
    assert {*await people(crm)} == {"ann1@crowd1.example"}


@given(
    places=st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=12),
    if_exists=st.sampled_from(IF_EXISTS),
    there=st.integers(0, 3),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
async def test_any_rows_have_one_outcome_each_in_their_order(
    crm: Crm, places: list[int | None], if_exists: IfExists, there: int
):
    first = next(numbers)
    known = set(range(there))
    await crm.import_leads(rows(*(someone(first + n) for n in known)), "error")
    expected: list[str] = []
    for place in places:
        expected.append("failed" if place is None else MET[if_exists] if place in known else "created")
        known |= {place} - {None}
    drafts = [NOBODY if place is None else someone(first + place) for place in places]

    size = crm.import_size
    found = [
        each
        for start in range(0, len(drafts), size)
        for each in await crm.import_leads(rows(*drafts[start : start + size]), if_exists)
    ]

    assert [each.outcome for each in found] == expected
    assert all(each.reason for each in found if each.outcome == "failed")
    everybody = await people(crm)
    assert {someone(first + place).email for place in known if place is not None} <= everybody.keys()
