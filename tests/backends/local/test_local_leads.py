"""Leads of the embedded CRM, where it promises more than every CRM does."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_mcp.backends.local import Local
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import LeadDraft, LeadFilter, LeadUpdate, NoteDraft, Slice, now

JANE = LeadDraft(first_name="Jane", last_name="Whitfield", email="Jane@ACME.example", phone="+1 415 555 2671")


async def test_a_created_lead_is_read_back_in_the_normal_form(crm: Local):
    made = await crm.create_lead(JANE)

    assert await crm.get_lead(made.id) == made
    assert (made.name, made.email, made.phone) == ("Jane Whitfield", "Jane@acme.example", "+14155552671")
    assert made.created_at
    assert made.updated_at
    assert (made.last_contacted_at, made.do_not_contact, made.tags, made.custom_fields) == (None, None, None, None)


async def test_an_update_changes_what_it_names_and_nothing_else(crm: Local):
    made = await crm.create_lead(
        JANE.model_copy(update={"company": "Acme", "custom_fields": {"plan": "a", "seats": 3}})
    )

    changed = await crm.update_lead(made.id, LeadUpdate(title="Buyer", custom_fields={"plan": None, "vat": True}))

    assert changed == await crm.get_lead(made.id)
    assert changed.custom_fields == {"seats": 3, "vat": True}
    assert changed.model_copy(
        update={"title": None, "custom_fields": made.custom_fields, "updated_at": made.updated_at}
    ) == (made)


async def test_an_update_renames_where_the_name_comes_from_its_parts(crm: Local):
    made = await crm.create_lead(JANE)
    named = await crm.create_lead(LeadDraft(name="The Boss", first_name="Ann"))

    assert (await crm.update_lead(made.id, LeadUpdate(last_name="Brown"))).name == "Jane Brown"
    assert (await crm.update_lead(named.id, LeadUpdate(last_name="Brown"))).name == "The Boss"


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Jo Green", "Jo", "Green"),
        ("Jane Green", "Jane", "Green"),
        ("Jane  van der Berg", "Jane", None),
        ("Jo", None, None),
        ("Dr. Green", None, None),
        ("Green, Jo", None, None),
        ("JANE WHITFIELD", "Jane", "Whitfield"),
        ("Dr. Jane Mary Whitfield", "Jane", "Whitfield"),
        ("Whitfield Jane", "Jane", "Whitfield"),
    ],
)
async def test_the_parts_follow_a_name_that_was_made_of_them(crm: Local, name: str, first: str, last: str):
    made = await crm.create_lead(JANE)

    renamed = await crm.update_lead(made.id, LeadUpdate(name=name))

    assert (renamed.name, renamed.first_name, renamed.last_name) == (name, first, last)


async def test_parts_that_are_given_or_were_no_parts_of_the_name_stay(crm: Local):
    made = await crm.create_lead(JANE)
    apart = await crm.create_lead(LeadDraft(name="The Boss", first_name="Ann"))

    one = await crm.update_lead(made.id, LeadUpdate(name="Jo Green", first_name="Josephine"))
    other = await crm.update_lead(apart.id, LeadUpdate(name="Jo Green"))

    assert (one.name, one.first_name, one.last_name) == ("Jo Green", "Josephine", "Green")
    assert (other.name, other.first_name, other.last_name) == ("Jo Green", "Ann", None)


async def test_cleared_fields_are_empty_and_found_no_more(crm: Local):
    made = await crm.create_lead(JANE.model_copy(update={"company": "Acme", "custom_fields": {"plan": "a", "x": 1}}))

    changed = await crm.update_lead(made.id, LeadUpdate(clear=("company", "phone", "custom_fields.plan")))

    assert (changed.company, changed.phone, changed.custom_fields) == (None, None, {"x": 1})
    assert await crm.leads_at("sms", "+14155552671") == ()
    assert (await crm.search_leads(LeadFilter(query="2671"), Slice())).items == ()


async def test_filters_find_the_leads_that_fit_and_no_others(crm: Local):
    jane = await crm.create_lead(LeadDraft(name="Jane", status="working", owner="Tom", tags=("vip",), list="Fair"))
    bob = await crm.create_lead(LeadDraft(name="Bob", status="nurturing", owner="Ann", tags=("b",), list="Web"))

    for wanted in ({"status": "Working"}, {"owner": "TOM"}, {"tag": "Vip"}, {"list": "fair"}, {"query": "ja"}):
        if set(wanted) <= crm.lead_filters:
            found = await crm.search_leads(LeadFilter.model_validate(wanted), Slice())
            assert (found.items, found.total) == ((jane,), 1), wanted
    both = await crm.search_leads(LeadFilter(tag="b", status="working"), Slice())
    everyone = await crm.search_leads(LeadFilter(), Slice())
    assert both.items == ()
    assert everyone.items == (bob, jane)


@pytest.mark.parametrize("field", ["status", "stage", "tag", "owner", "list"])
async def test_a_value_that_does_not_exist_is_refused_with_the_valid_ones(crm: Local, field: str):
    draft = LeadDraft(name="Jane", status="working", owner="wolfgang", tags=("wooden",), list="wool")
    await crm.create_lead(draft)

    with pytest.raises(InvalidArgument, match="valid: "):
        await crm.search_leads(LeadFilter.model_validate({field: "wo-unheard-of"}), Slice())


async def test_leads_without_contact_since_a_moment_are_found(crm: Local):
    never = await crm.create_lead(LeadDraft(name="Never"))
    old = await crm.create_lead(LeadDraft(name="Old"))
    recent = await crm.create_lead(LeadDraft(name="Recent"))
    await crm.log_note(old.id, NoteDraft(content="talked", kind="call", occurred_at=now() - timedelta(days=30)))
    await crm.log_note(recent.id, NoteDraft(content="talked", kind="call"))
    await crm.log_note(never.id, NoteDraft(content="only thought of"))

    found = await crm.search_leads(LeadFilter(not_contacted_since=now() - timedelta(days=7)), Slice())
    longest = await crm.search_leads(LeadFilter(sort="last_contacted_at"), Slice())

    assert [each.id for each in found.items] == [old.id, never.id]
    assert [each.id for each in longest.items] == [never.id, old.id, recent.id]


async def test_a_lead_moves_between_the_stages_of_leads(crm: Local):
    stages = {each.name: each for each in await _stages(crm)}
    names = list(stages)
    made = await crm.create_lead(LeadDraft(name="Jane"))

    moved = await crm.move_lead(made.id, stages[names[1]].id)

    assert made.stage == names[0]
    assert moved.stage == names[1]
    assert (await crm.search_leads(LeadFilter(stage=names[1].upper()), Slice())).items == (moved,)


async def _stages(crm: Local):
    from crm_mcp.backends.base import ListsOptions

    assert isinstance(crm, ListsOptions)
    return [each for each in await crm.list_options("stages") if each.of == "leads"]


@pytest.mark.parametrize(
    "position", ["", "x", "[]", "{}", '["1"]', "[1,2]", "[null]", "[9e99]", "[" * 5000, f"[{2**70}]"]
)
async def test_a_position_that_was_never_given_out_is_refused(crm: Local, position: str):
    with pytest.raises(InvalidArgument, match="cursor"):
        await crm.search_leads(LeadFilter(), Slice(position=position))


async def test_pages_hold_each_lead_once_while_others_are_added(crm: Local):
    made = [await crm.create_lead(LeadDraft(name=f"Lead {i % 3}", email=f"l{i}@a.example")) for i in range(11)]
    for sort in crm.lead_sorts:
        seen: list[str] = []
        part = Slice(limit=3)
        while True:
            page = await crm.search_leads(LeadFilter(sort=sort), part)
            seen.extend(each.id for each in page.items)
            await crm.create_lead(LeadDraft(name=f"Late {len(seen)} {sort}"))
            if page.next is None or len(seen) > 100:
                break
            part = Slice(limit=3, position=page.next)
        assert len(seen) == len(set(seen)), sort
        assert {each.id for each in made} <= set(seen), sort
