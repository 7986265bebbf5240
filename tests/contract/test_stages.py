"""Stages and tags of leads."""

from __future__ import annotations

import pytest

from crm_mcp.backends.base import Backend, FindsLeads, ListsOptions, MovesLeads, SumsPipeline, TagsLeads, WritesLeads
from crm_mcp.errors import InvalidArgument, NotFound
from crm_mcp.model import LeadFilter, LeadUpdate, Option

from .conftest import Unwritten
from .reading import every, someone


class Moving(MovesLeads, WritesLeads, FindsLeads, ListsOptions, Backend):
    """What the tests of stages need."""


class Summing(SumsPipeline, MovesLeads, FindsLeads, ListsOptions, Backend):
    """What the test of the pipeline needs."""


class Tagging(TagsLeads, WritesLeads, FindsLeads, Backend):
    """What the tests of tags need."""


async def stages(crm: ListsOptions) -> list[Option]:
    return [each for each in await crm.list_options("stages") if each.of == "leads"]


async def test_a_lead_begins_in_the_first_stage_and_moves_to_any(crm: Moving):
    known = await stages(crm)
    made = await crm.create_lead(someone(1))
    other = await crm.create_lead(someone(2))
    assert made.stage in (known[0].name, None)

    for stage in [*known[::-1], known[-1], known[-1]]:
        moved = await crm.move_lead(made.id, stage.id)
        assert moved.stage == stage.name
        assert moved.model_dump(exclude={"stage", "updated_at"}) == made.model_dump(exclude={"stage", "updated_at"})
        assert await crm.get_lead(made.id) == moved
    assert await crm.get_lead(other.id) == other


async def test_a_stage_that_is_none_of_leads_is_refused(crm: Moving, unwritten: Unwritten):
    made = await crm.create_lead(someone(1))
    of_deals = [each.id for each in await crm.list_options("stages") if each.of == "deals"]

    with unwritten():
        for stage in (*of_deals, "G999", "wo-unheard-of", "", "../x"):
            with pytest.raises((InvalidArgument, NotFound)):
                await crm.move_lead(made.id, stage)
    assert await crm.get_lead(made.id) == made


async def test_a_pipeline_of_leads_counts_each_stage_in_its_order(stocked: Summing):
    everyone = await every(lambda part: stocked.search_leads(LeadFilter(), part))
    known = [each.name for each in await stages(stocked)]

    answer = await stocked.pipeline("leads", "stage")

    assert [each.name for each in answer.groups] == known
    assert [each.count for each in answer.groups] == [sum(lead.stage == name for lead in everyone) for name in known]
    assert (answer.total, answer.partial) == (len(everyone), False)


async def test_tags_are_added_and_taken_off_without_regard_to_case(crm: Tagging):
    made = await crm.create_lead(someone(1, tags=("VIP", "Straße")))
    other = await crm.create_lead(someone(2, tags=("VIP",)))

    tagged = await crm.tag_lead(made.id, ["vip", "fair"], ["STRASSE", "never there"])
    again = await crm.tag_lead(made.id, ["fair"], [])
    emptied = await crm.tag_lead(made.id, [], ["Fair", "Vip"])

    assert made.tags == ("Straße", "VIP")
    assert tagged.tags == again.tags == ("fair", "VIP")
    assert emptied.tags is None
    assert await crm.get_lead(made.id) == emptied
    assert await crm.get_lead(other.id) == other


async def test_tags_are_replaced_and_cleared(crm: Tagging):
    made = await crm.create_lead(someone(1, tags=("a", "b")))

    replaced = await crm.update_lead(made.id, LeadUpdate(tags=("b", "new")))
    emptied = await crm.update_lead(made.id, LeadUpdate(clear=("tags",)))

    assert replaced.tags == ("b", "new")
    assert emptied.tags is None


async def test_an_empty_tag_is_refused_and_none_is_added(crm: Tagging, unwritten: Unwritten):
    made = await crm.create_lead(someone(1))

    with unwritten(), pytest.raises(InvalidArgument):
        await crm.tag_lead(made.id, ["good", "  "], [])
    assert await crm.get_lead(made.id) == made
