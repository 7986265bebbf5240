from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_args

import pytest

from crm_mcp.backends.base import (
    Backend,
    FindsLeads,
    ListsOptions,
    MovesDeals,
    ReadsDeals,
    SumsPipeline,
    WritesDeals,
    WritesLeads,
)
from crm_mcp.errors import InvalidArgument, NotFound, Unsupported
from crm_mcp.model import Deal, DealFields, DealFilter, Grouping, StageOwner, fold, now

from .conftest import Unwritten
from .reading import every, someone, unless_refused
from .vendors import Vendor

NOON = now().replace(hour=12, minute=0, second=0, microsecond=0)
GIVEN: dict[str, Any] = {"value": 1234.5, "currency": "EUR", "closes_at": NOON + timedelta(days=30)}
FIELDS: dict[str, Callable[[Deal], str | None]] = {
    "stage": lambda deal: deal.stage,
    "lead": lambda deal: deal.lead_id,
    "status": lambda deal: deal.status or "open",
    "owner": lambda deal: deal.owner,
}
"""What a filter by one value looks at."""
VALUES = {"closes_before": now(), "status": "open"}


class Reading(ReadsDeals, FindsLeads, ListsOptions, Backend):
    """What the tests of lists need."""


class Writing(ReadsDeals, WritesDeals, WritesLeads, Backend):
    """What the tests of new deals need."""


class Moving(ReadsDeals, WritesDeals, MovesDeals, ListsOptions, Backend):
    """What the tests of stages need."""


class Summing(SumsPipeline, ReadsDeals, FindsLeads, Backend):
    """What the tests of the pipeline need."""


async def found(crm: ReadsDeals, **wanted: Any) -> list[Deal]:
    return await every(lambda part: crm.list_deals(DealFilter.model_validate(wanted), part))


async def test_a_created_deal_is_read_back(crm: Writing):
    lead = await crm.create_lead(someone(1))

    deal = await crm.create_deal(lead.id, DealFields(name="Pilot", value=1234.5), None)

    assert await crm.get_deal(deal.id) == deal
    assert (deal.lead_id, deal.name, deal.value) == (lead.id, "Pilot", 1234.5)
    assert deal.status in ("open", None)
    assert await found(crm) == [deal]


async def test_a_field_of_a_deal_is_kept_or_refused(crm: Writing, vendor: Vendor, unwritten: Unwritten):
    for name, value in GIVEN.items():
        fields = DealFields.model_validate({"name": "Pilot", name: value})
        if name in vendor.deals_lack:
            with unwritten(), pytest.raises(Unsupported, match=name):
                await crm.create_deal(None, fields, None)
            continue
        deal = await crm.create_deal(None, fields, None)
        assert getattr(deal, name) == value
        assert await crm.get_deal(deal.id) == deal


async def test_a_field_of_a_deal_is_changed_and_nothing_else(crm: Writing, vendor: Vendor, unwritten: Unwritten):
    deal = await crm.create_deal(None, DealFields(name="Pilot"), None)

    for name, value in {"name": "Rollout", **GIVEN}.items():
        change = DealFields.model_validate({name: value})
        if name in vendor.deals_lack:
            with unwritten(), pytest.raises(Unsupported, match=name):
                await crm.update_deal(deal.id, change)
            continue
        after = await crm.update_deal(deal.id, change)
        assert after == deal.model_copy(update={name: value})
        deal = after


@pytest.mark.parametrize(
    "wrong", [{"value": float("nan")}, {"value": float("inf")}, {"name": None}, {"name": None, "value": 5}]
)
async def test_a_deal_that_makes_no_sense_is_refused(crm: Writing, unwritten: Unwritten, wrong: dict[str, object]):
    with unwritten(), pytest.raises(InvalidArgument, match=r"value|name"):
        await crm.create_deal(None, DealFields.model_validate({"name": "Pilot", **wrong}), None)


async def test_the_value_of_a_deal_is_cleared(crm: Writing, unwritten: Unwritten):
    deal = await crm.create_deal(None, DealFields(name="Pilot", value=5), None)

    cleared = await crm.update_deal(deal.id, DealFields(), ["value"])

    assert cleared == deal.model_copy(update={"value": None})
    with unwritten():
        with pytest.raises(InvalidArgument, match="valid: "):
            await crm.update_deal(deal.id, DealFields(), ["name"])
        with pytest.raises(InvalidArgument, match="both"):
            await crm.update_deal(deal.id, DealFields(value=7), ["value"])


async def test_an_update_of_nothing_changes_nothing(crm: Writing, unwritten: Unwritten):
    deal = await crm.create_deal(None, DealFields(name="Pilot", value=5), None)

    with unwritten():
        assert await crm.update_deal(deal.id, DealFields()) == deal


async def test_deals_come_newest_first(crm: Writing):
    made = [(await crm.create_deal(None, DealFields(name=f"Deal {n}"), None)).id for n in range(4)]

    assert [each.id for each in await found(crm)] == made[::-1]


async def test_a_filter_finds_the_deals_that_fit_and_no_others(stocked: Reading):
    everything = await found(stocked)

    for name in sorted(FIELDS.keys() & stocked.deal_filters):
        values = sorted({value for each in everything if (value := FIELDS[name](each))})
        assert values, f"no deal of the sample has a {name}"
        for value in values[:4]:
            fitting = [each for each in everything if FIELDS[name](each) == value]
            assert await found(stocked, **{name: value}) == fitting, (name, value)


async def test_deals_that_close_before_a_moment_are_found(stocked: Reading):
    if "closes_before" not in stocked.deal_filters:
        with pytest.raises(Unsupported, match="closes_before"):
            await found(stocked, closes_before=now())
        return
    fitting = [each for each in await found(stocked) if each.closes_at and each.closes_at < now()]

    assert await found(stocked, closes_before=now()) == fitting


async def test_a_stage_is_named_by_its_id_or_its_name_in_any_case(stocked: Reading):
    everything = await found(stocked)
    stages = {each.name: each.id for each in await stocked.list_options("stages")}
    names = sorted({each.stage for each in everything if each.stage})
    assert {*names} <= stages.keys()

    for name in names:
        fitting = [each for each in everything if each.stage == name]
        assert await found(stocked, stage=stages[name]) == fitting
        assert await found(stocked, stage=name.upper()) == fitting


async def test_a_filter_value_that_does_not_exist_is_refused_or_finds_nothing(stocked: Reading):
    for name in sorted({"status", "stage", "owner"} & stocked.deal_filters):
        assert not await unless_refused(found(stocked, **{name: "wo-unheard-of"}), "valid: "), name


async def test_a_filter_that_a_backend_can_not_do_is_refused(stocked: Reading):
    for name in sorted(set(DealFilter.model_fields) - stocked.deal_filters):
        with pytest.raises(Unsupported, match=name):
            await found(stocked, **{name: VALUES.get(name, "x")})


async def test_each_deal_is_read_by_its_id(stocked: Reading):
    for each in (await found(stocked))[:6]:
        assert await stocked.get_deal(each.id) == each


async def test_a_deal_moves_through_the_stages_and_its_status_follows(crm: Moving):
    stages = {each.name: each.id for each in await crm.list_options("stages") if each.of == "deals"}
    stages = stages or {name: name for name in ("Proposal", "Negotiation", "Closed Won", "Closed Lost")}
    deal = await crm.create_deal(None, DealFields(name="Pilot", value=5), stages["Proposal"])
    assert deal.stage == "Proposal"

    for name in ("Closed Won", "Negotiation", "Closed Lost", "Proposal", "Proposal"):
        moved = await crm.move_deal(deal.id, stages[name])
        status = {"Closed Won": "won", "Closed Lost": "lost"}.get(name, "open")
        assert (moved.stage, moved.status or "open") == (name, status)
        assert (moved.id, moved.name, moved.value) == (deal.id, "Pilot", 5)
        assert await crm.get_deal(deal.id) == moved


async def test_an_unknown_stage_is_refused_or_kept_as_it_is_called(crm: Moving, unwritten: Unwritten):
    deal = await crm.create_deal(None, DealFields(name="Pilot"), None)

    if "stages" in crm.open_kinds:  # it has no list of stages: the CRM judges the name, and the deal shows it
        assert (await crm.move_deal(deal.id, "wo-unheard-of")).stage == "wo-unheard-of"
        with unwritten(), pytest.raises(InvalidArgument):
            await crm.move_deal(deal.id, "")
        return
    of_leads = [each.id for each in await crm.list_options("stages") if each.of == "leads"]
    with unwritten():
        for stage in (*of_leads, "wo-unheard-of", "G999", "", "../x"):
            with pytest.raises((InvalidArgument, NotFound)):
                await crm.move_deal(deal.id, stage)
            with pytest.raises((InvalidArgument, NotFound)):
                await crm.create_deal(None, DealFields(name="y"), stage or "x")


async def test_a_pipeline_of_deals_counts_and_sums_each_group(stocked: Summing):
    deals = await found(stocked)
    groupings: tuple[Grouping, ...] = ("stage", "status", "owner")

    for by in groupings:
        key = FIELDS[by]
        answer = await unless_refused(stocked.pipeline("deals", by), by)
        if answer is None:
            assert by != "stage"
            continue
        shown = {each.name: (each.count, each.value) for each in answer.groups if each.count}
        names = {key(each) or "(none)" for each in deals}
        fitting = {name: [each for each in deals if (key(each) or "(none)") == name] for name in names}
        assert {fold(name): count for name, (count, _) in shown.items()} == {
            fold(name): len(group) for name, group in fitting.items()
        }
        for name, group in fitting.items():
            value = next(value for shown_name, (_, value) in shown.items() if fold(shown_name) == fold(name))
            assert value == pytest.approx(sum(each.value or 0 for each in group))
        assert (answer.total, answer.partial) == (len(deals), False)


async def test_a_grouping_that_a_backend_can_not_do_is_refused(stocked: Summing):
    for by in get_args(Grouping):
        for of in get_args(StageOwner):
            answer = await unless_refused(stocked.pipeline(of, by), "it ")
            assert answer is None or by == "tag" or sum(each.count for each in answer.groups) == answer.total
