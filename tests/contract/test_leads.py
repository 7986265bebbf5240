from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from crm_mcp.backends.base import Backend, FindsLeads, WritesLeads
from crm_mcp.errors import Conflict, InvalidArgument, Unsupported
from crm_mcp.model import Lead, LeadDraft, LeadFilter, LeadUpdate, Slice, now

from .conftest import Unwritten
from .reading import someone
from .vendors import OF_LEADS, Vendor

JANE = LeadDraft(
    first_name="Jane",
    last_name="Whitfield",
    email="Jane@ACME.example",
    phone="(212) 555-0171",
    company="Acme",
    title="Buyer",
)
NEW: dict[str, Any] = {
    "email": "janet@acme.example",
    "phone": "+12125550199",
    "company": "Bluebird",
    "title": "Head of Sales",
    "status": "qualified",
    "owner": "Tom",
    "tags": ("vip",),
}
"""Another value for each field but names and custom fields."""


class Crm(FindsLeads, WritesLeads, Backend):
    """What these tests need."""


def without(lead: Lead, *fields: str) -> dict[str, Any]:
    """Return a lead's fields but these and the moment of the change."""
    return lead.model_dump(exclude={*fields, "updated_at"})


async def test_a_created_lead_is_read_back_in_the_normal_form(crm: Crm):
    began = now()

    made = await crm.create_lead(JANE)

    assert await crm.get_lead(made.id) == made
    assert (made.name, made.email, made.phone) == ("Jane Whitfield", "Jane@acme.example", "+12125550171")
    assert (made.company, made.title) == ("Acme", "Buyer")
    assert (made.tags, made.do_not_contact, made.last_contacted_at) == (None, None, None)
    assert made.created_at
    assert abs(made.created_at - began) < timedelta(seconds=30)


async def test_every_field_that_is_held_is_read_back(crm: Crm, vendor: Vendor):
    given = {name: NEW[name] for name in NEW if name in vendor.holds}

    made = await crm.create_lead(someone(1, **given, custom_fields=vendor.custom))

    assert {name: getattr(made, name) for name in given} == given
    assert vendor.custom.items() <= (made.custom_fields or {}).items()
    assert await crm.get_lead(made.id) == made


async def test_a_field_that_is_not_held_is_refused_and_nothing_is_written(
    crm: Crm, vendor: Vendor, unwritten: Unwritten
):
    made = await crm.create_lead(someone(1))

    for name in sorted(OF_LEADS - vendor.holds):
        with unwritten():
            with pytest.raises(Unsupported, match=name.removesuffix("s")):
                await crm.create_lead(someone(2, **{name: NEW[name]}))
            with pytest.raises(Unsupported, match=name.removesuffix("s")):
                await crm.update_lead(made.id, LeadUpdate.model_validate({"title": "Buyer", name: NEW[name]}))


async def test_a_lead_is_found_by_its_exact_address_and_number_and_by_nothing_similar(crm: Crm):
    made = await crm.create_lead(JANE)
    for number, email in enumerate(("mary-jane@acme.example", "jane@acme.example.org", "jane@acme-x.example")):
        await crm.create_lead(someone(number, email=email))

    assert await crm.leads_at("email", "jane@acme.EXAMPLE") == (made,)
    assert await crm.leads_at("sms", "+12125550171") == (made,)
    assert await crm.leads_at("call", "+12125550171") == (made,)
    for similar in ("jane@acme.exampl", "ane@acme.example", "jane@acme", "Jane Whitfield", "@acme.example", "%"):
        assert await crm.leads_at("email", similar) == ()
    for similar in ("+1212555017", "+12125550172", "+442125550171", "2125550171x"):
        assert await crm.leads_at("sms", similar) == ()


@pytest.mark.parametrize(
    "same", [{"email": "JANE@acme.example"}, {"phone": "+1 212-555-0171", "email": None, "name": "Jane Whitfield"}]
)
async def test_a_second_lead_at_one_address_is_a_conflict_that_names_the_first(
    crm: Crm, unwritten: Unwritten, same: dict[str, str]
):
    made = await crm.create_lead(JANE)

    with unwritten(), pytest.raises(Conflict, match=re.escape(f"{made.id} (Jane Whitfield)")):
        await crm.create_lead(someone(2, first_name=None, last_name=None, **{"name": "Zed", **same}))


async def test_a_lead_with_addresses_of_two_others_is_a_conflict_about_the_e_mail(crm: Crm, unwritten: Unwritten):
    jane, bob = await crm.create_lead(JANE), await crm.create_lead(someone(1))

    with unwritten(), pytest.raises(Conflict) as refused:
        await crm.create_lead(someone(2, email=jane.email, phone=bob.phone))

    assert jane.id in str(refused.value)


@pytest.mark.parametrize("same", [{"email": "jane@acme.example"}, {"phone": "+12125550171"}])
async def test_a_lead_can_not_take_the_address_of_another(crm: Crm, unwritten: Unwritten, same: dict[str, str]):
    await crm.create_lead(JANE)
    other = await crm.create_lead(LeadDraft(name="Jane", phone="+12125550172", company="Bluebird"))

    with unwritten(), pytest.raises(Conflict):
        await crm.update_lead(other.id, LeadUpdate.model_validate({"title": "Robert", **same}))

    assert await crm.get_lead(other.id) == other


async def test_a_lead_can_be_given_its_own_address_again(crm: Crm):
    made = await crm.create_lead(JANE)

    same = await crm.update_lead(made.id, LeadUpdate(email="jane@ACME.example", phone="212 555 0171", title="CTO"))

    assert (same.id, same.phone, same.title) == (made.id, "+12125550171", "CTO")
    assert (same.email or "").casefold() == "jane@acme.example"


async def test_a_lead_needs_something_to_be_known_by(crm: Crm, unwritten: Unwritten):
    for nobody in (LeadDraft(), LeadDraft(title="Buyer"), LeadDraft(email=" ", phone="")):
        with unwritten(), pytest.raises(InvalidArgument, match="at least one"):
            await crm.create_lead(nobody)


@pytest.mark.parametrize(
    "wrong",
    [{"email": "jane at acme"}, {"email": "a@b@c.example"}, {"phone": "12"}, {"phone": "+1 212 555 0171 x12"}],
)
async def test_an_address_that_is_none_is_refused(crm: Crm, unwritten: Unwritten, wrong: dict[str, str]):
    made = await crm.create_lead(JANE)

    with unwritten():
        with pytest.raises(InvalidArgument, match=r"address|number"):
            await crm.create_lead(someone(1, **wrong))
        with pytest.raises(InvalidArgument, match=r"address|number"):
            await crm.update_lead(made.id, LeadUpdate.model_validate({"title": "CTO", **wrong}))


async def test_an_update_changes_what_it_names_and_nothing_else(crm: Crm, vendor: Vendor):
    full = {name: value for name, value in NEW.items() if name in vendor.holds}
    before = await crm.create_lead(someone(1, custom_fields=vendor.custom))

    for name, value in full.items():
        after = await crm.update_lead(before.id, LeadUpdate.model_validate({name: value}))
        assert getattr(after, name) == value
        assert without(after, name) == without(before, name)
        assert await crm.get_lead(before.id) == after
        before = after


async def test_a_custom_field_is_changed_and_the_others_stay(crm: Crm, vendor: Vendor):
    (first, one), (second, two) = vendor.custom.items()
    made = await crm.create_lead(someone(1, custom_fields={first: one}))

    both = await crm.update_lead(made.id, LeadUpdate(custom_fields={second: two}))
    less = await crm.update_lead(made.id, LeadUpdate(custom_fields={first: None}))

    assert {first: one, second: two}.items() <= (both.custom_fields or {}).items()
    assert (less.custom_fields or {}).get(second) == two
    assert first not in (less.custom_fields or {})
    assert without(less, "custom_fields") == without(made, "custom_fields")


@pytest.mark.parametrize("new", [{"name": "Jo Green"}, {"first_name": "Jo", "last_name": "Green"}])
async def test_a_new_name_is_the_name_whole_or_in_its_parts(crm: Crm, new: dict[str, str]):
    made = await crm.create_lead(JANE)

    renamed = await crm.update_lead(made.id, LeadUpdate.model_validate(new))

    assert renamed.name == "Jo Green"
    names = ("name", "first_name", "last_name")
    assert without(renamed, *names) == without(made, *names)
    assert await crm.get_lead(made.id) == renamed


@pytest.mark.parametrize(
    "name", ["Jo Green", "Jo", "Jane van der Berg", "Dr. Green", "Green, Jo", "Jane Mary Whitfield"]
)
async def test_the_parts_of_a_name_do_not_contradict_a_new_one(crm: Crm, name: str):
    made = await crm.create_lead(JANE)

    renamed = await crm.update_lead(made.id, LeadUpdate(name=name))

    assert renamed.name == name
    for part in (renamed.first_name, renamed.last_name):
        assert part is None or part in name


async def test_an_update_that_changes_nothing_writes_nothing(crm: Crm, unwritten: Unwritten):
    made = await crm.create_lead(JANE)

    with unwritten():
        assert await crm.update_lead(made.id, LeadUpdate()) == made


async def test_cleared_fields_are_empty_and_found_no_more(crm: Crm):
    made = await crm.create_lead(JANE)

    changed = await crm.update_lead(made.id, LeadUpdate(clear=("company", "title", "phone")))

    assert (changed.company, changed.title, changed.phone) == (None, None, None)
    assert without(changed, "company", "title", "phone") == without(made, "company", "title", "phone")
    assert await crm.leads_at("sms", "+12125550171") == ()
    assert (await crm.search_leads(LeadFilter(query="0171"), Slice())).items == ()


async def test_one_custom_field_is_cleared_by_its_name(crm: Crm, vendor: Vendor):
    (first, _), (second, two) = vendor.custom.items()
    made = await crm.create_lead(someone(1, custom_fields=vendor.custom))

    changed = await crm.update_lead(made.id, LeadUpdate(clear=(f"custom_fields.{first}",)))

    assert first not in (changed.custom_fields or {})
    assert (changed.custom_fields or {}).get(second) == two


async def test_a_field_that_can_not_be_cleared_is_refused_with_the_nearest(crm: Crm, unwritten: Unwritten):
    made = await crm.create_lead(JANE)

    with unwritten():
        with pytest.raises(InvalidArgument, match='nearest: "company"'):
            await crm.update_lead(made.id, LeadUpdate(title="CTO", clear=("compny",)))
        with pytest.raises(InvalidArgument, match="both"):
            await crm.update_lead(made.id, LeadUpdate(title="CTO", clear=("title",)))


async def test_a_lead_can_not_be_cleared_away(crm: Crm, unwritten: Unwritten):
    made = await crm.create_lead(LeadDraft(email="jane@acme.example"))

    with unwritten(), pytest.raises(InvalidArgument, match="know"):
        await crm.update_lead(made.id, LeadUpdate(clear=("email",)))

    assert await crm.get_lead(made.id) == made
