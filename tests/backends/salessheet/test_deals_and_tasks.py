from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_mcp.backends.salessheet import SalesSheet
from crm_mcp.errors import InvalidArgument, NotFound, Unsupported, VendorError
from crm_mcp.model import DealFields, DealFilter, LeadDraft, Slice, TaskFields, now
from crm_mcp.sandbox.emulator import identity
from crm_mcp.sandbox.salessheet import SalesSheetEmulator

from .conftest import Emulated

Opened = tuple[SalesSheetEmulator, SalesSheet]
AT = datetime(2026, 12, 20, 10, tzinfo=UTC)


async def stages(crm: SalesSheet) -> dict[str, str]:
    return {each.name: each.id for each in await crm.list_options("stages")}


async def test_a_deal_is_posted_with_its_stage_and_contact(opened: Opened):
    vendor, crm = opened
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    proposal = (await stages(crm))["Proposal"]

    deal = await crm.create_deal(
        lead.id, DealFields(name="Pilot", value=1234.5, currency="eur", closes_at=AT), proposal
    )

    posted = vendor.journal[-1]
    assert (posted.method, posted.path) == ("POST", "/v1/deals")
    assert posted.body == {
        "name": "Pilot",
        "value": 1234.5,
        "currency": "EUR",
        "close_date": "2026-12-20T10:00:00Z",
        "stage_id": proposal,
        "contact_id": lead.id,
    }
    assert (deal.lead_id, deal.value, deal.currency, deal.closes_at) == (lead.id, 1234.5, "EUR", AT)
    assert (deal.stage, deal.status) == ("Proposal", "open")
    assert await crm.get_deal(deal.id) == deal


async def test_a_deal_without_a_stage_begins_in_the_first(opened: Opened):
    _, crm = opened

    deal = await crm.create_deal(None, DealFields(name="Pilot"), None)

    assert (deal.stage, deal.lead_id) == ("Discovery", None)


async def test_a_move_patches_the_stage_and_nothing_else(opened: Opened):
    vendor, crm = opened
    by_name = await stages(crm)
    deal = await crm.create_deal(None, DealFields(name="Pilot"), None)

    moved = await crm.move_deal(deal.id, by_name["Closed Won"])

    patched = vendor.calls("PATCH")[-1]
    assert (patched.path, patched.body) == (f"/v1/deals/{deal.id}", {"stage_id": by_name["Closed Won"]})
    assert (moved.stage, moved.status) == ("Closed Won", "won")


async def test_a_move_that_the_crm_ignores_is_not_claimed(emulated: Emulated):
    _, crm = emulated(fields="ignored", keys={"deal_stage": "step"})
    deal = await crm.create_deal(None, DealFields(name="Pilot"), None)

    with pytest.raises(VendorError, match="did not keep stage") as told:
        await crm.move_deal(deal.id, (await stages(crm))["Proposal"])

    assert told.value.wrote is True


async def test_an_unknown_stage_is_refused_before_anything_is_written(opened: Opened):
    vendor, crm = opened
    deal = await crm.create_deal(None, DealFields(name="Pilot"), None)

    for stage in ("nothing", "", identity(6, 99)):
        with pytest.raises(InvalidArgument, match="there is no stage"):
            await crm.move_deal(deal.id, stage)
    with pytest.raises(InvalidArgument, match="there is no stage"):
        await crm.create_deal(None, DealFields(name="x"), "nothing")

    assert vendor.calls("PATCH") == []
    assert len(vendor.calls("POST")) == 1


@pytest.mark.parametrize("nested", [True, False])
async def test_stages_of_several_pipelines_are_told_apart_where_their_names_clash(emulated: Emulated, nested: bool):
    _, crm = emulated(pipelines=2, nested_stages=nested)

    options = await crm.list_options("stages")

    assert [(each.name, each.of) for each in options] == [
        ("Discovery", "deals"),
        ("Sales: Proposal", "deals"),
        ("Negotiation", "deals"),
        ("Closed Won", "deals"),
        ("Closed Lost", "deals"),
        ("Contacted", "deals"),
        ("Partners: Proposal", "deals"),
        ("Signed", "deals"),
    ]
    deal = await crm.create_deal(None, DealFields(name="x"), None)
    moved = await crm.move_deal(deal.id, {each.name: each.id for each in options}["Partners: Proposal"])
    assert moved.stage == "Partners: Proposal"


async def test_other_options_are_not_listed(opened: Opened):
    _, crm = opened

    for kind in ("owners", "custom_fields", "statuses", "tags", "sequences"):
        with pytest.raises(Unsupported, match="it lists stages"):
            await crm.list_options(kind)  # type: ignore[arg-type]


async def test_deals_are_asked_for_by_stage_and_contact_and_sifted_by_the_rest(opened: Opened):
    vendor, crm = opened
    by_name = await stages(crm)
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    soon = DealFields(name="Soon", closes_at=now() + timedelta(days=1))
    first = await crm.create_deal(lead.id, soon, by_name["Proposal"])
    second = await crm.create_deal(None, DealFields(name="Later"), by_name["Closed Won"])

    async def ids(**wanted: object) -> list[str]:
        page = await crm.list_deals(DealFilter.model_validate(wanted), Slice())
        assert page.total == len(page.items)
        return [each.id for each in page.items]

    assert await ids() == [second.id, first.id]
    assert vendor.journal[-1].query == {
        "sort_by": "created_at",
        "sort_order": "desc",
        "page": "1",
        "per_page": "20",
    }
    assert await ids(stage="proposal", lead=lead.id) == [first.id]
    assert vendor.journal[-1].query["stage_id"] == by_name["Proposal"]
    assert vendor.journal[-1].query["contact_id"] == lead.id
    assert await ids(stage=by_name["Proposal"]) == [first.id]
    assert await ids(status="won") == [second.id]
    assert await ids(closes_before=now() + timedelta(days=2)) == [first.id]
    vendor.switch(filters="ignored")
    assert await ids(stage="proposal", lead=lead.id) == [first.id]


@pytest.mark.parametrize("wrong", [{"status": "opne"}, {"stage": "Propsal"}])
async def test_a_filter_value_that_does_not_exist_is_refused(opened: Opened, wrong: dict[str, str]):
    with pytest.raises(InvalidArgument, match="valid: "):
        await opened[1].list_deals(DealFilter.model_validate(wrong), Slice())


async def test_fields_of_a_deal_are_changed_and_cleared(opened: Opened):
    vendor, crm = opened
    deal = await crm.create_deal(None, DealFields(name="Pilot", value=5, closes_at=AT), None)

    changed = await crm.update_deal(deal.id, DealFields(name="Rollout", status="lost"), ["value", "closes_at"])
    same = await crm.update_deal(deal.id, DealFields(name="Rollout"))

    (patched,) = vendor.calls("PATCH")
    assert patched.body == {"name": "Rollout", "status": "lost", "value": None, "close_date": None}
    assert (changed.name, changed.status, changed.value, changed.closes_at) == ("Rollout", "lost", None, None)
    assert same == changed
    with pytest.raises(InvalidArgument, match="valid: value, closes_at"):
        await crm.update_deal(deal.id, DealFields(), ["name"])


@pytest.mark.parametrize("wrong", [{"value": float("nan")}, {"currency": "dollars"}, {"name": None}])
async def test_a_deal_that_makes_no_sense_is_refused_before_any_call(opened: Opened, wrong: dict[str, object]):
    vendor, crm = opened

    with pytest.raises(InvalidArgument):
        await crm.create_deal(None, DealFields.model_validate({"name": "Pilot", **wrong}), None)

    assert vendor.journal == []


async def test_the_pipeline_counts_and_sums(emulated: Emulated):
    _, crm = emulated(sample=True)

    by_stage = await crm.pipeline("deals", "stage")
    by_status = await crm.pipeline("deals", "status")
    leads = await crm.pipeline("leads", "owner")

    assert [(each.name, each.count, each.value) for each in by_stage.groups] == [
        ("Discovery", 2, 17_800),
        ("Proposal", 2, 76_500),
        ("Negotiation", 1, 48_000),
        ("Closed Won", 1, 30_000),
        ("Closed Lost", 1, 5_400),
    ]
    assert (by_stage.total, by_stage.partial) == (7, False)
    assert [(each.name, each.count) for each in by_status.groups] == [("lost", 1), ("open", 5), ("won", 1)]
    assert [(each.name, each.count, each.value) for each in leads.groups] == [
        ("Noor Aziz", 6, 0),
        ("Robin Vale", 6, 142_300),
        ("(none)", 1, 0),
    ]
    for of, by in (("deals", "tag"), ("leads", "stage")):
        with pytest.raises(Unsupported, match="can group"):
            await crm.pipeline(of, by)  # type: ignore[arg-type]


async def test_a_pipeline_of_more_than_ten_pages_is_partial(opened: Opened):
    vendor, crm = opened
    stage = (await stages(crm))["Proposal"]
    for n in range(1_001):
        vendor.records["deals"][f"d{n}"] = {"id": f"d{n}", "name": "x", "value": 1, "stage_id": stage}
    vendor.journal.clear()

    found = await crm.pipeline("deals", "stage")

    assert (found.total, found.partial) == (1_000, True)
    assert len(vendor.calls("GET", "/v1/deals")) == 10


async def test_a_task_is_posted_read_changed_and_completed(opened: Opened):
    vendor, crm = opened
    lead = await crm.create_lead(LeadDraft(name="Jane"))

    task = await crm.create_task(lead.id, TaskFields(title="Call", due_at=AT, priority="high"))
    done = await crm.update_task(task.id, TaskFields(completed=True, title="Call"), ["priority"])
    again = await crm.update_task(task.id, TaskFields(completed=False))

    posted, (first, second) = vendor.calls("POST")[-1], vendor.calls("PATCH")
    assert (posted.path, posted.body) == (
        "/v1/tasks",
        {"title": "Call", "due_date": "2026-12-20T10:00:00Z", "priority": "high", "contact_id": lead.id},
    )
    assert (first.path, first.body) == (f"/v1/tasks/{task.id}", {"status": "completed", "priority": None})
    assert second.body == {"status": "open"}
    assert (task.lead_id, task.due_at, task.priority, task.completed) == (lead.id, AT, "high", False)
    assert (done.completed, done.priority, again.completed) == (True, None, False)
    assert await crm.get_task(task.id) == again


@pytest.mark.parametrize("filters", ["honoured", "ignored"])
async def test_tasks_come_by_date_and_those_without_one_last(emulated: Emulated, filters: str):
    vendor, crm = emulated(filters=filters)
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    undated = await crm.create_task(None, TaskFields(title="Some day"))
    late = await crm.create_task(lead.id, TaskFields(title="Late", due_at=now() + timedelta(days=9)))
    soon = await crm.create_task(None, TaskFields(title="Soon", due_at=now() - timedelta(days=1)))
    done = await crm.update_task(late.id, TaskFields(completed=True))

    assert (await crm.list_tasks(None, None, None, Slice())).items == (soon, done, undated)
    assert vendor.journal[-1].query == {
        "sort_by": "due_date",
        "sort_order": "asc",
        "page": "1",
        "per_page": "100",
    }
    assert (await crm.list_tasks(lead.id, None, None, Slice())).items == (done,)
    assert vendor.journal[-1].query["contact_id"] == lead.id
    assert (await crm.list_tasks(None, False, None, Slice())).items == (soon, undated)
    assert (await crm.list_tasks(None, None, now(), Slice())).items == (soon,)


async def test_tasks_that_are_not_possible_are_refused(opened: Opened):
    vendor, crm = opened

    with pytest.raises(InvalidArgument, match="title"):
        await crm.create_task(None, TaskFields(priority="low"))
    with pytest.raises(NotFound, match='no lead "nobody"'):
        await crm.create_task("nobody", TaskFields(title="x"))
    with pytest.raises(NotFound, match='no lead "nobody"'):
        await crm.list_tasks("nobody", None, None, Slice())
    with pytest.raises(NotFound, match='no task "nothing"'):
        await crm.update_task("nothing", TaskFields(title="x"))
    with pytest.raises(InvalidArgument, match="valid: due_at, priority"):
        await crm.update_task("nothing", TaskFields(), ["title"])

    assert vendor.calls("POST") + vendor.calls("PATCH") == []


async def test_deals_that_are_not_there_are_not_found(opened: Opened):
    _, crm = opened
    stage = (await stages(crm))["Proposal"]

    for wrong in ("nothing", ""):
        with pytest.raises(NotFound):
            await crm.get_deal(wrong)
        with pytest.raises(NotFound):
            await crm.update_deal(wrong, DealFields(name="x"))
        with pytest.raises(NotFound):
            await crm.move_deal(wrong, stage)
    with pytest.raises(NotFound, match='no lead "nobody"'):
        await crm.create_deal("nobody", DealFields(name="x"), None)
    with pytest.raises(NotFound, match='no lead "nobody"'):
        await crm.list_deals(DealFilter(lead="nobody"), Slice())


@pytest.mark.parametrize("stages", [5, True, "Won", {"id": "s1"}, [5, None]])
async def test_stages_that_are_no_list_are_none(opened: Opened, stages: Any):
    vendor, crm = opened
    deal = await crm.create_deal(None, DealFields(name="Robots"), None)
    body = {"data": [{"id": "p1", "name": "Sales", "stages": stages}]}
    vendor.fail("status", method="GET", path="/v1/pipelines", status=200, body=body, times=9)

    pipeline = await crm.pipeline("deals", "stage")
    changed = await crm.update_deal(deal.id, DealFields(value=5.0))

    assert await crm.list_options("stages") == ()
    assert [each.count for each in pipeline.groups] == [1]
    assert changed.value == 5.0


async def test_the_words_of_a_priority_are_those_of_the_keys(emulated: Emulated):
    vendor, crm = emulated(keys={"priority_high": "p1", "priority_normal": "p2", "priority_low": "p3"})

    made = [await crm.create_task(None, TaskFields(title="Call", priority=each)) for each in ("high", "normal", "low")]

    assert [each.body["priority"] for each in vendor.calls("POST")] == ["p1", "p2", "p3"]
    assert [each.priority for each in made] == ["high", "normal", "low"]
