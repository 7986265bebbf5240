"""Deals of the embedded CRM: its own stages, statuses that follow them, exact totals."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_mcp.backends.local import Local
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import DealFields, DealFilter, DealStatus, LeadDraft, Slice, now


async def stages(crm: Local) -> dict[str, str]:
    return {each.name: each.id for each in await crm.list_options("stages") if each.of == "deals"}


async def test_a_created_deal_is_read_back(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane", owner="Tom"))
    closes = now() + timedelta(days=30)

    deal = await crm.create_deal(
        lead.id, DealFields(name="Pilot", value=1234.5, currency="eur", closes_at=closes), None
    )

    assert await crm.get_deal(deal.id) == deal
    assert (deal.lead_id, deal.value, deal.currency, deal.closes_at) == (lead.id, 1234.5, "EUR", closes)
    assert (deal.status, deal.stage, deal.owner) == ("open", next(iter(await stages(crm))), "Tom")


async def test_a_deal_moves_through_the_stages_and_its_status_follows(crm: Local):
    by_name = await stages(crm)
    deal = await crm.create_deal(None, DealFields(name="Pilot"), by_name["Proposal"])

    won = await crm.move_deal(deal.id, by_name["Closed Won"])
    back = await crm.move_deal(deal.id, by_name["Negotiation"])
    lost = await crm.update_deal(deal.id, DealFields(status="lost"))
    reopened = await crm.update_deal(deal.id, DealFields(status="open"))

    assert (won.stage, won.status) == ("Closed Won", "won")
    assert (back.stage, back.status) == ("Negotiation", "open")
    assert (lost.stage, lost.status) == ("Closed Lost", "lost")
    assert (reopened.stage, reopened.status) == ("Closed Lost", "open")


async def test_fields_of_a_deal_are_changed_and_cleared(crm: Local):
    deal = await crm.create_deal(None, DealFields(name="Pilot", value=5, closes_at=now()), None)

    changed = await crm.update_deal(deal.id, DealFields(name="Rollout"), ["value", "closes_at"])

    assert (changed.name, changed.value, changed.closes_at) == ("Rollout", None, None)
    with pytest.raises(InvalidArgument, match="valid: "):
        await crm.update_deal(deal.id, DealFields(), ["name"])


async def test_a_currency_that_is_none_is_refused(crm: Local):
    with pytest.raises(InvalidArgument, match="dollars"):
        await crm.create_deal(None, DealFields(name="Pilot", currency="dollars"), None)
    assert (await crm.list_deals(DealFilter(), Slice())).items == ()


async def test_deals_are_listed_newest_first_by_each_filter(crm: Local):
    by_name = await stages(crm)
    lead = await crm.create_lead(LeadDraft(name="Jane", owner="Tom"))
    soon = DealFields(name="Soon", closes_at=now() + timedelta(days=1))
    first = await crm.create_deal(lead.id, soon, by_name["Proposal"])
    second = await crm.create_deal(None, DealFields(name="Later"), by_name["Closed Won"])

    async def ids(**wanted: object) -> list[str]:
        page = await crm.list_deals(DealFilter.model_validate(wanted), Slice())
        assert page.total == len(page.items)
        return [each.id for each in page.items]

    assert await ids() == [second.id, first.id]
    assert await ids(stage="proposal") == [first.id]
    assert await ids(lead=lead.id) == [first.id]
    assert await ids(status="won") == [second.id]
    assert await ids(owner="tom") == [first.id]
    assert await ids(closes_before=now() + timedelta(days=2)) == [first.id]


@pytest.mark.parametrize("wrong", [{"status": "opne"}, {"stage": "Propsal"}, {"owner": "nobody"}])
async def test_a_filter_value_that_does_not_exist_is_refused(crm: Local, wrong: dict[str, str]):
    with pytest.raises(InvalidArgument):
        await crm.list_deals(DealFilter.model_validate(wrong), Slice())


async def test_pages_of_deals_hold_each_once(crm: Local):
    made = [(await crm.create_deal(None, DealFields(name=f"Deal {i}"), None)).id for i in range(7)]

    first = await crm.list_deals(DealFilter(), Slice(limit=3))
    second = await crm.list_deals(DealFilter(), Slice(limit=3, position=first.next))
    third = await crm.list_deals(DealFilter(), Slice(limit=3, position=second.next))

    assert [each.id for page in (first, second, third) for each in page.items] == made[::-1]
    assert third.next is None
    with pytest.raises(InvalidArgument, match="cursor"):
        await crm.list_deals(DealFilter(), Slice(position="[true]"))


async def test_the_pipeline_counts_and_sums_deals_and_of_leads_what_is_open(crm: Local):
    by_name = await stages(crm)
    jane = await crm.create_lead(LeadDraft(name="Jane", owner="Tom", tags=("a", "b")))
    given: list[tuple[str, float, DealStatus | None]] = [("Proposal", 10, None), ("Proposal", 5, None)]
    for stage, value, status in [*given, ("Closed Won", 100, None)]:
        await crm.create_deal(jane.id, DealFields(name="x", value=value, status=status), by_name[stage])
    await crm.create_deal(None, DealFields(name="y"), None)

    by_stage = await crm.pipeline("deals", "stage")
    leads = await crm.pipeline("leads", "tag")
    owners = await crm.pipeline("deals", "owner")

    assert [each.name for each in by_stage.groups] == list(by_name)
    assert {each.name: (each.count, each.value) for each in by_stage.groups if each.count} == {
        "Discovery": (1, 0),
        "Proposal": (2, 15),
        "Closed Won": (1, 100),
    }
    assert by_stage.total == 4
    assert [(each.name, each.count, each.value) for each in leads.groups] == [("a", 1, 15), ("b", 1, 15)]
    assert leads.total == 1
    assert [(each.name, each.count) for each in owners.groups] == [("Tom", 3), ("(none)", 1)]


@pytest.mark.parametrize("of", ["leads", "deals"])
@pytest.mark.parametrize("by", ["stage", "status", "owner", "month"])
async def test_groups_of_a_pipeline_add_up(crm: Local, of: str, by: str):
    lead = await crm.create_lead(LeadDraft(name="Jane", status="working"))
    await crm.create_lead(LeadDraft(name="Bob"))
    await crm.create_deal(lead.id, DealFields(name="x", value=7, closes_at=now()), None)
    await crm.create_deal(lead.id, DealFields(name="y", value=8), None)

    found = await crm.pipeline("leads" if of == "leads" else "deals", by)  # type: ignore[arg-type]

    assert sum(each.count for each in found.groups) == found.total == 2
    assert sum(each.value or 0 for each in found.groups) == 15
