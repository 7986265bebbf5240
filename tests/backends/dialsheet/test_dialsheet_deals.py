from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.errors import InvalidArgument, NotFound, Unsupported, VendorError
from crm_mcp.model import Deal, DealFields, DealFilter, Group, Slice

from .conftest import JANE, Opened, Sheet


async def test_a_deal_is_created_read_changed_and_moved(sheet: Sheet):
    lead = sheet.put(**JANE)

    deal = await sheet.crm.create_deal(lead, DealFields(name="Pilot", value=1234.5), "Proposal")

    body = {"name": "Pilot", "value": 1234.5, "stage": "Proposal", "lead_id": lead}
    assert sheet.last() == ("POST", "/api/v1/opportunities", {}, body)
    assert deal == Deal(id=deal.id, lead_id=lead, name="Pilot", value=1234.5, stage="Proposal")
    assert await sheet.crm.get_deal(deal.id) == deal
    assert sheet.last() == ("GET", "/api/v1/opportunities", {}, None)

    changed = await sheet.crm.update_deal(deal.id, DealFields(value=99))
    assert sheet.last() == ("PUT", f"/api/v1/opportunities/{deal.id}", {}, {"value": 99.0})
    assert changed.value == 99

    emptied = await sheet.crm.update_deal(deal.id, DealFields(name="Rollout"), ["value"])
    assert sheet.last()[3] == {"name": "Rollout", "value": None}
    assert (emptied.name, emptied.value) == ("Rollout", None)

    won = await sheet.crm.move_deal(deal.id, "Closed Won")
    assert sheet.last() == ("PUT", f"/api/v1/opportunities/{deal.id}", {}, {"stage": "Closed Won"})
    assert (won.stage, won.status) == ("Closed Won", "won")


@pytest.mark.parametrize("answers", ["bare", "id", "empty"])
async def test_a_deal_is_found_again_where_the_answer_lacks_it(opened: Opened, answers: str):
    async with opened(answers=answers) as sheet:
        deal = await sheet.crm.create_deal(None, DealFields(name="Pilot", value=5), None)
        moved = await sheet.crm.move_deal(deal.id, "Proposal")

        assert (deal.name, deal.value, moved.stage) == ("Pilot", 5, "Proposal")


async def test_inferred_names_of_a_deal_are_corrected_by_keys(opened: Opened):
    keys = {"deal_name": "title", "deal_lead": "contact_id"}
    async with opened(deal_name="title", deal_lead="contact_id", keys=keys) as sheet:
        lead = sheet.put(**JANE)

        deal = await sheet.crm.create_deal(lead, DealFields(name="Pilot"), None)

        assert sheet.last()[3] == {"title": "Pilot", "contact_id": lead}
        assert (deal.name, deal.lead_id) == ("Pilot", lead)
    async with opened(deal_name="title") as sheet:
        with pytest.raises(InvalidArgument, match="does not accept the request") as raised:
            await sheet.crm.create_deal(None, DealFields(name="Pilot"), None)

        assert raised.value.wrote is False


async def test_a_stage_that_is_not_taken_is_refused_and_one_that_is_not_kept_is_told(opened: Opened):
    async with opened(stages="fixed", invalid_status=422) as sheet:
        deal = sheet.put("opportunities", name="Pilot", stage="Discovery", value=5)

        with pytest.raises(InvalidArgument, match="does not accept the values: stage"):
            await sheet.crm.move_deal(deal, "Propsal")
        with pytest.raises(InvalidArgument, match="empty"):
            await sheet.crm.move_deal(deal, " ")
        assert (await sheet.crm.get_deal(deal)).stage == "Discovery"

        kept = {"id": deal, "name": "Pilot", "stage": "Discovery"}
        sheet.there.fail("status", method="PUT", status=200, body={"opportunity": kept})
        with pytest.raises(VendorError, match="did not keep stage"):
            await sheet.crm.move_deal(deal, "Proposal")
        sheet.there.fail("status", method="PUT", status=200, body={"opportunity": {**kept, "stage": "closed_won"}})
        assert (await sheet.crm.move_deal(deal, "Closed Won")).stage == "closed_won"


async def test_a_status_is_set_only_where_the_record_has_one(opened: Opened):
    async with opened() as sheet:
        deal = await sheet.crm.create_deal(None, DealFields(name="Pilot"), None)

        with pytest.raises(Unsupported, match="move the deal there with move_stage"):
            await sheet.crm.update_deal(deal.id, DealFields(status="won"))
        with pytest.raises(Unsupported):
            await sheet.crm.create_deal(None, DealFields(name="Pilot", status="won"), None)
        assert sheet.there.calls("PUT") == []
    async with opened(deal_status=True) as sheet:
        deal = await sheet.crm.create_deal(None, DealFields(name="Pilot"), None)

        won = await sheet.crm.update_deal(deal.id, DealFields(status="won"))

        assert (deal.status, won.status, sheet.last()[3]) == ("open", "won", {"status": "won"})


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": None}, InvalidArgument),
        ({"value": float("nan")}, InvalidArgument),
        ({"value": float("inf")}, InvalidArgument),
        ({"currency": "EUR"}, Unsupported),
        ({"closes_at": "2026-05-01T00:00:00Z"}, Unsupported),
    ],
)
async def test_a_deal_that_can_not_be_held_is_refused(sheet: Sheet, fields: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        await sheet.crm.create_deal(None, DealFields.model_validate({"name": "Pilot", **fields}), None)

    assert sheet.there.journal == []


async def test_a_deal_or_lead_that_is_not_there_is_not_found(sheet: Sheet):
    sheet.put("opportunities", name="Pilot", stage="Discovery")

    for wrong in ("nothing", ""):
        with pytest.raises(NotFound):
            await sheet.crm.get_deal(wrong)
        with pytest.raises(NotFound):
            await sheet.crm.update_deal(wrong, DealFields(name="x"))
        with pytest.raises(NotFound):
            await sheet.crm.move_deal(wrong, "Proposal")
        with pytest.raises(NotFound):
            await sheet.crm.create_deal(wrong, DealFields(name="x"), None)
        with pytest.raises(NotFound):
            await sheet.crm.list_deals(DealFilter(lead=wrong), Slice())
    assert len(sheet.there.tables["opportunities"]) == 1


async def test_deals_are_listed_newest_first_by_each_filter(opened: Opened):
    async with opened(order="oldest") as sheet:
        lead = sheet.put(**JANE)
        first = sheet.put("opportunities", 9, lead_id=lead, name="A", stage="Proposal", value=1)
        second = sheet.put("opportunities", 5, name="B", stage="Closed Won", value="2.50")
        third = sheet.put("opportunities", 1, lead_id=lead, title="C", stage={"id": "s1", "name": "Lost"})

        async def ids(**wanted: Any) -> tuple[list[str], dict[str, str]]:
            page = await sheet.crm.list_deals(DealFilter.model_validate(wanted), Slice())
            assert page.total == len(page.items)
            return [each.id for each in page.items], sheet.last()[2]

        assert await ids() == ([third, second, first], {})
        assert await ids(stage="proposal") == ([first], {"stage": "proposal"})
        assert await ids(lead=lead) == ([third, first], {"lead_id": lead})
        assert await ids(status="open") == ([first], {})
        assert await ids(status="won") == ([second], {})
        assert (await sheet.crm.get_deal(second)).value == 2.5
        assert (await sheet.crm.get_deal(third)).model_dump(include={"name", "stage", "status"}) == {
            "name": "C",
            "stage": "Lost",
            "status": "lost",
        }
        page = await sheet.crm.list_deals(DealFilter(), Slice(limit=2))
        rest = await sheet.crm.list_deals(DealFilter(), Slice(limit=2, position=page.next))
        assert ([each.id for each in rest.items], rest.next, rest.total) == ([first], None, 3)
        for name in ("owner", "closes_before"):
            with pytest.raises(Unsupported, match="lead, stage, status"):
                await sheet.crm.list_deals(DealFilter.model_validate({name: "2026-01-01T00:00:00Z"}), Slice())
        with pytest.raises(InvalidArgument, match='nearest: "open"'):
            await sheet.crm.list_deals(DealFilter(status="opne"), Slice())


async def test_the_pipeline_counts_and_sums_deals_in_one_call(opened: Opened):
    async with opened(sample=True) as sheet:
        by_stage = await sheet.crm.pipeline("deals", "stage")
        by_status = await sheet.crm.pipeline("deals", "status")

        assert by_stage.groups == (
            Group(name="Closed Lost", count=1, value=5400),
            Group(name="Closed Won", count=1, value=12000),
            Group(name="Discovery", count=2, value=71200),
            Group(name="Negotiation", count=1, value=48000),
            Group(name="Proposal", count=2, value=50500),
        )
        assert (by_stage.total, by_stage.partial) == (7, False)
        assert [(each.name, each.count) for each in by_status.groups] == [("open", 5), ("won", 1), ("lost", 1)]
        assert sheet.wire() == [("GET", "/opportunities")] * 2
        assert [each.name for each in (await sheet.crm.pipeline("deals", "owner")).groups] == ["(none)"]
        with pytest.raises(Unsupported, match="stage, status, owner, month"):
            await sheet.crm.pipeline("deals", "tag")


async def test_leads_are_counted_by_status_and_partly_where_they_are_many(opened: Opened):
    async with opened(most=20) as sheet:
        for number in range(30):
            lead = sheet.put(name=f"{number}", status="new" if number % 3 else "qualified")
            sheet.put("opportunities", lead_id=lead, name="x", stage="Closed Won" if number % 2 else "Open", value=10)

        found = await sheet.crm.pipeline("leads", "status")

        assert found.groups == (Group(name="new", count=20, value=100), Group(name="qualified", count=10, value=50))
        assert (found.total, found.partial) == (30, False)
        with pytest.raises(Unsupported, match="by status"):
            await sheet.crm.pipeline("leads", "stage")

        sheet.there.switch(most=2)
        part = await sheet.crm.pipeline("leads", "status")
        assert (sum(each.count for each in part.groups), part.total, part.partial) == (20, 30, True)


async def test_deals_that_are_not_all_listed_are_counted_partly(sheet: Sheet):
    row = {"id": "1", "name": "A", "stage": "Open", "value": 3}
    sheet.there.fail("status", status=200, times=2, body={"opportunities": [row], "total": 9})

    found = await sheet.crm.pipeline("deals", "stage")

    assert (found.groups, found.total, found.partial) == ((Group(name="Open", count=1, value=3),), 9, True)
    with pytest.raises(NotFound, match="lists 1 of 9"):
        await sheet.crm.get_deal("2")
