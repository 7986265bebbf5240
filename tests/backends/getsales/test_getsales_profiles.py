"""LinkedIn profiles in GetSales: however one is written, it is one person, and no stranger."""

from __future__ import annotations

import pytest

from crm_mcp.errors import Conflict, InvalidArgument
from crm_mcp.model import ImportRow, LeadDraft, LeadUpdate

from .conftest import Work

UPSERT = "/leads/api/leads/upsert"
JANE = LeadDraft(first_name="Jane", last_name="Whitfield", email="Jane@ACME.example", phone="+1 212 555 0101")
WAYS = (
    "https://www.linkedin.com/in/jane-lee/de",
    "https://de.linkedin.com/in/Jane%2DLee?trk=x",
    "linkedin.com/in/jane-lee/details/experience/",
    "jane-lee",
)
NO_PROFILES = (
    "https://www.linkedin.com/company/jane-lee",
    "https://linkedin.com.evil.example/in/jane-lee",
    "https://www.linkedin.com/sales/lead/jane-lee",
    "https://www.linkedin.com/in/de/../jane-lee",
)


@pytest.mark.parametrize("way", WAYS)
async def test_a_profile_is_one_person_however_it_is_written(work: Work, way: str):
    stranger = await work.crm.create_lead(JANE.model_copy(update={"email": "de@acme.example", "phone": None}))
    await work.crm.update_lead(stranger.id, LeadUpdate(custom_fields={"linkedin": "linkedin.com/in/de"}))
    fields = {"email": "lee@acme.example", "phone": "+12125550109"}
    made = await work.crm.create_lead(JANE.model_copy(update={**fields, "custom_fields": {"linkedin": way}}))

    assert work.there.rows("lead")[-1]["linkedin"] == "jane-lee"
    for each in WAYS:
        assert await work.crm.leads_at("linkedin", each) == (made,)
    with pytest.raises(Conflict, match=made.id):
        await work.crm.update_lead(stranger.id, LeadUpdate(custom_fields={"linkedin": f"{way}/"}))


@pytest.mark.parametrize("kept", ["jürgen", "j%C3%BCrgen"])
@pytest.mark.parametrize("way", ["https://www.linkedin.com/in/j%c3%bcrgen/de", "/in/ju\u0308rgen"])
async def test_a_profile_with_other_letters_is_found_in_both_forms_that_may_be_kept(work: Work, kept: str, way: str):
    row = work.there.make("lead", name="J", linkedin=kept, tags=[])

    assert [each.id for each in await work.crm.leads_at("linkedin", way)] == [row["uuid"]]


@pytest.mark.parametrize("text", NO_PROFILES)
async def test_what_is_no_profile_is_not_written_and_names_nobody(work: Work, text: str):
    made = await work.crm.create_lead(JANE.model_copy(update={"custom_fields": {"linkedin": "jane-lee"}}))
    start = len(work.there.journal)

    with pytest.raises(InvalidArgument, match="is no LinkedIn profile") as created:
        await work.crm.create_lead(LeadDraft(name="Jo", company="Acme", custom_fields={"linkedin": text}))
    with pytest.raises(InvalidArgument, match="is no LinkedIn profile") as changed:
        await work.crm.update_lead(made.id, LeadUpdate(custom_fields={"linkedin": text}))

    assert (created.value.wrote, changed.value.wrote) == (False, False)
    assert await work.crm.leads_at("linkedin", text) == ()
    assert [each for each in work.wire(start) if each[0] == "PUT" or each[1] == UPSERT] == []


async def test_profiles_that_look_alike_are_two_people(work: Work):
    one = await work.crm.create_lead(
        LeadDraft(name="A Weg", email="a@x.example", custom_fields={"linkedin": "/in/strasse"})
    )
    row = LeadDraft(name="B Gasse", email="b@x.example", custom_fields={"linkedin": "linkedin.com/in/stra\u00dfe"})

    (outcome,) = await work.crm.import_leads([ImportRow(draft=row)], "update")

    assert outcome.outcome == "created"
    assert (await work.crm.get_lead(one.id)).name == "A Weg"


@pytest.mark.parametrize(
    "nothing", ["n/a", "none", "-", "Unknown", "pending", "private", "https://www.linkedin.com/company/acme"]
)
async def test_a_row_with_no_profile_in_its_column_is_taken_without_it(work: Work, nothing: str):
    rows = [
        ImportRow(draft=LeadDraft(name=name, email=f"{name}@x.example", custom_fields={"linkedin": nothing}))
        for name in ("ann", "bob")
    ]

    planned = await work.crm.plan_import(rows, "update")
    outcomes = await work.crm.import_leads(rows, "update")

    assert [each.outcome for each in (*planned, *outcomes)] == ["created"] * 4
    assert all("LinkedIn profile left out" in (each.reason or "") for each in (*planned, *outcomes))
    assert {lead["name"]: lead.get("linkedin") for lead in work.there.rows("lead")} == {"ann": None, "bob": None}


KIM = LeadDraft(name="Kim Lam", email="kim@acme.example", custom_fields={"linkedin": "/in/lam"})


@pytest.mark.parametrize("name", ["Lou Lam", "Zed Quist"])
async def test_a_profile_alone_makes_nobody_whoever_has_another_address_and_name(work: Work, name: str):
    kim = await work.crm.create_lead(KIM)
    fields = {"name": name, "email": "lou@beta.example", "phone": "+12125550109", "title": "CEO"}
    row = ImportRow(draft=KIM.model_copy(update=fields))

    (found,) = await work.crm.import_leads([row], "update")
    (skipped,) = await work.crm.import_leads([row], "skip")

    assert (found.outcome, skipped.outcome) == ("failed", "skipped")
    said = f"{kim.id} (Kim Lam) has this LinkedIn profile already, and another e-mail address; other name"
    assert found.reason == skipped.reason == said
    assert await work.crm.get_lead(kim.id) == kim
    assert len(work.there.rows("lead")) == 1


@pytest.mark.parametrize("name", ["Kim Lam", "K. Lam", "Dr. Kim Lam"])
async def test_whoever_has_the_profile_and_the_name_is_one_person_with_another_address(work: Work, name: str):
    kim = await work.crm.create_lead(KIM)
    row = ImportRow(draft=KIM.model_copy(update={"name": name, "email": "kim@beta.example"}))

    (found,) = await work.crm.import_leads([row], "update")

    assert (found.outcome, found.id) == ("updated", kim.id)
    assert (await work.crm.get_lead(kim.id)).email == "kim@beta.example"
