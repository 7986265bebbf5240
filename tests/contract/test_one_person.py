"""One person is one person, in every CRM: nobody is taken for somebody else, and nobody's name or address is lost."""

from __future__ import annotations

import pytest

from crm_mcp.backends.base import Backend, FindsLeads, ImportsLeads, WritesLeads
from crm_mcp.errors import Conflict
from crm_mcp.model import IfExists, ImportRow, LeadDraft, LeadFilter, LeadUpdate

from .conftest import Unwritten
from .reading import every

SWITCHBOARD = "+493090182000"
NINA = LeadDraft(first_name="Nina", last_name="Falk", email="nina@falk.example", phone=SWITCHBOARD, company="Falk Co")
OTTO = NINA.model_copy(update={"first_name": "Otto", "email": "otto@falk.example"})
PIA = NINA.model_copy(update={"first_name": "Pia", "email": "pia@falk.example"})
COLLEAGUES = (NINA, OTTO, PIA)
IF_EXISTS: tuple[IfExists, ...] = ("skip", "update", "error")


class Crm(ImportsLeads, WritesLeads, FindsLeads, Backend):
    """What these tests need."""


def rows(*drafts: LeadDraft) -> list[ImportRow]:
    return [ImportRow(draft=each) for each in drafts]


async def everybody(crm: FindsLeads) -> list[tuple[str | None, str | None, str | None]]:
    """Return name, address and number of everybody, by name."""
    found = await every(lambda part: crm.search_leads(LeadFilter(), part))
    return sorted(((each.name, each.email, each.phone) for each in found), key=str)


def shown(*drafts: LeadDraft) -> list[tuple[str | None, str | None, str | None]]:
    return sorted(((f"{each.first_name} {each.last_name}", each.email, each.phone) for each in drafts), key=str)


@pytest.mark.parametrize("if_exists", IF_EXISTS)
async def test_colleagues_with_one_switchboard_are_three_people(crm: Crm, if_exists: IfExists):
    planned = await crm.plan_import(rows(*COLLEAGUES), if_exists)

    found = await crm.import_leads(rows(*COLLEAGUES), if_exists)

    assert [each.outcome for each in planned] == [each.outcome for each in found] == ["created"] * 3
    assert await everybody(crm) == shown(*COLLEAGUES)


@pytest.mark.parametrize("if_exists", IF_EXISTS)
async def test_a_colleague_of_somebody_who_is_there_is_new(crm: Crm, if_exists: IfExists):
    nina = await crm.create_lead(NINA)

    (found,) = await crm.import_leads(rows(OTTO), if_exists)

    assert found.outcome == "created"
    assert await crm.get_lead(nina.id) == nina
    assert await everybody(crm) == shown(NINA, OTTO)


async def test_a_family_with_one_telephone_and_no_address_are_several_people(crm: Crm):
    nina, otto = (each.model_copy(update={"email": None}) for each in (NINA, OTTO))

    first = await crm.import_leads(rows(nina, otto), "update")
    again = await crm.import_leads(rows(otto, nina), "update")

    assert [each.outcome for each in (*first, *again)] == ["created", "created", "updated", "updated"]
    assert await everybody(crm) == shown(nina, otto)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Do Nguyen", "Le Nguyen"),
        ("Minh Do", "Minh Le"),
        ("Al Jones", "Bob Jones"),
        ("Herr Roth", "Frau Roth"),
        ("John Smith Jr", "John Smith Sr"),
    ],
)
@pytest.mark.parametrize("if_exists", IF_EXISTS)
async def test_whose_names_differ_in_one_word_at_one_number_are_two_people(
    crm: Crm, if_exists: IfExists, one: str, other: str
):
    given = rows(*(LeadDraft(name=each, phone=SWITCHBOARD, company="Falk Co") for each in (one, other)))

    planned = await crm.plan_import(given, if_exists)
    found = await crm.import_leads(given, if_exists)

    assert [each.outcome for each in planned] == [each.outcome for each in found] == ["created"] * 2
    assert len(await everybody(crm)) == 2


async def test_a_title_that_one_of_two_names_lacks_tells_nobody_apart(crm: Crm):
    given = rows(*(LeadDraft(name=name, phone=SWITCHBOARD, company="Falk Co") for name in ("Roth", "Dr. Roth")))

    assert [each.outcome for each in await crm.import_leads(given, "update")] == ["created", "updated"]


@pytest.mark.parametrize("if_exists", IF_EXISTS)
async def test_a_first_name_beside_a_name_tells_colleagues_apart(crm: Crm, if_exists: IfExists):
    """Two of the CRMs refuse such a row, and GetSales knows such people by name and company: none becomes another."""
    given = rows(
        *(LeadDraft(name="Roth", first_name=first, phone=SWITCHBOARD, company="Falk Co") for first in ("Hans", "Eva"))
    )

    await crm.plan_import(given, if_exists)
    found = await crm.import_leads(given, if_exists)

    made = [each.id for each in found if each.outcome == "created"]
    assert "updated" not in [each.outcome for each in found]
    assert [(await crm.get_lead(lead or "")).first_name for lead in made] == ["Hans", "Eva"][: len(made)]
    assert len(await everybody(crm)) == len(made)


async def test_a_number_alone_decides_where_neither_address_nor_name_says_otherwise(crm: Crm, unwritten: Unwritten):
    nina = await crm.create_lead(NINA.model_copy(update={"email": None}))
    row = LeadDraft(first_name="N.", last_name="Falk", email="nina@falk.example", phone=SWITCHBOARD, title="CTO")

    with unwritten():
        (planned,) = await crm.plan_import(rows(row), "update")
    (found,) = await crm.import_leads(rows(row), "update")

    after = await crm.get_lead(nina.id)
    assert (found.outcome, found.id) == (planned.outcome, planned.id) == ("updated", nina.id)
    assert (after.email, after.title) == ("nina@falk.example", "CTO")


@pytest.mark.parametrize("if_exists", IF_EXISTS)
async def test_a_number_of_several_says_of_nobody_that_it_is_them(crm: Crm, if_exists: IfExists, unwritten: Unwritten):
    await crm.create_lead(NINA)
    await crm.create_lead(OTTO)

    with unwritten():
        (found,) = await crm.import_leads(rows(LeadDraft(phone=SWITCHBOARD, company="Falk AG")), if_exists)

    assert found.outcome == ("skipped" if if_exists == "skip" else "failed")
    assert "several leads have this number" in (found.reason or "")
    assert "Nina Falk" in (found.reason or "")
    assert "Otto Falk" in (found.reason or "")


async def test_of_somebody_with_the_address_and_another_name_only_what_is_empty_is_filled(crm: Crm):
    nina = await crm.create_lead(NINA.model_copy(update={"phone": None}))
    row = LeadDraft(name="Zed Quist", email="NINA@falk.example", phone=SWITCHBOARD, company="Quist Ltd", title="CEO")

    (planned,) = await crm.plan_import(rows(row), "update")
    (found,) = await crm.import_leads(rows(row), "update")
    (again,) = await crm.import_leads(rows(row), "update")

    after = await crm.get_lead(nina.id)
    assert (found.outcome, found.id) == (planned.outcome, planned.id) == ("updated", nina.id)
    assert all("other name" in (each.reason or "") for each in (planned, found, again))
    assert (after.name, after.email, after.company) == ("Nina Falk", "nina@falk.example", "Falk Co")
    assert (after.phone, after.title) == (SWITCHBOARD, "CEO")
    assert again.outcome == "skipped"


async def test_a_name_of_the_file_does_not_reach_whoever_the_row_before_made(crm: Crm):
    """Two people of one file share an address, as one of a company's."""
    row = LeadDraft(name="Zed Quist", email=NINA.email, title="CEO")

    found = await crm.import_leads(rows(NINA, row), "update")

    assert [each.outcome for each in found] == ["created", "updated"]
    assert "other name" in (found[1].reason or "")
    assert await everybody(crm) == shown(NINA)


async def test_titles_and_particles_make_no_name_the_same(crm: Crm):
    await crm.create_lead(LeadDraft(name="Dr. Ann de Boer", email="praxis@boer.example"))

    (found,) = await crm.import_leads(rows(LeadDraft(name="Dr. Bram de Vries", email="praxis@boer.example")), "update")

    assert "other name" in (found.reason or "")
    assert [name for name, _, _ in await everybody(crm)] == ["Dr. Ann de Boer"]


async def test_a_lead_can_be_made_and_changed_with_the_number_of_a_colleague(crm: Crm):
    nina = await crm.create_lead(NINA)
    otto = await crm.create_lead(OTTO.model_copy(update={"phone": "+493090182001"}))

    changed = await crm.update_lead(otto.id, LeadUpdate(phone=SWITCHBOARD))

    assert changed.phone == SWITCHBOARD
    assert await crm.get_lead(nina.id) == nina


async def test_no_lead_is_made_or_changed_into_somebody_who_is_there(crm: Crm, unwritten: Unwritten):
    await crm.create_lead(NINA)
    otto = await crm.create_lead(OTTO.model_copy(update={"phone": None}))

    with unwritten():
        for same in (NINA, NINA.model_copy(update={"email": None}), LeadDraft(name="Zed", email=NINA.email)):
            with pytest.raises(Conflict, match="Nina Falk"):
                await crm.create_lead(same)
        with pytest.raises(Conflict, match="Nina Falk"):
            await crm.update_lead(otto.id, LeadUpdate(email=NINA.email))


async def test_a_plan_says_what_the_import_does_row_for_row(crm: Crm, unwritten: Unwritten):
    await crm.create_lead(NINA)
    given = rows(OTTO, NINA, LeadDraft(title="nobody"), PIA, OTTO.model_copy(update={"title": "CTO"}))

    with unwritten():
        skipped, planned = [await crm.plan_import(given, if_exists) for if_exists in IF_EXISTS[:2]]
    found = await crm.import_leads(given, "update")

    assert [each.outcome for each in skipped] == ["created", "skipped", "failed", "created", "skipped"]
    assert [each.outcome for each in planned] == ["created", "updated", "failed", "created", "updated"]
    assert [each.outcome for each in found] == [each.outcome for each in planned]
    assert planned[1].id == found[1].id
