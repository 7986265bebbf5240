"""Filters and orders of leads, on the sample: what fits is found, all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from crm_mcp.backends.base import Backend, FindsLeads, ListsOptions, MovesLeads, WritesLeads
from crm_mcp.errors import InvalidArgument, Unsupported
from crm_mcp.model import Lead, LeadFilter, Slice, fold, now

from .reading import every, someone, unless_refused
from .vendors import Vendor

FIELDS: dict[str, Callable[[Lead], Iterable[str]]] = {
    "status": lambda lead: [lead.status] if lead.status else [],
    "stage": lambda lead: [lead.stage] if lead.stage else [],
    "owner": lambda lead: [lead.owner] if lead.owner else [],
    "tag": lambda lead: lead.tags or (),
}
"""What a filter by one value looks at."""
VALUES = {"created_after": now(), "not_contacted_since": now()}


class Crm(FindsLeads, Backend):
    """What most tests need."""


class Writing(FindsLeads, WritesLeads, Backend):
    """What the tests of new leads need."""


class Moving(FindsLeads, WritesLeads, MovesLeads, ListsOptions, Backend):
    """What the test of stages needs."""


async def found(crm: FindsLeads, **wanted: Any) -> list[Lead]:
    return await every(lambda part: crm.search_leads(LeadFilter.model_validate(wanted), part))


def ids(leads: Iterable[Lead]) -> set[str]:
    return {each.id for each in leads}


async def test_a_filter_finds_the_leads_that_fit_and_no_others(stocked: Crm):
    everyone = await found(stocked)

    for name in sorted(FIELDS.keys() & stocked.lead_filters):
        values = sorted({value for lead in everyone for value in FIELDS[name](lead)})
        assert values, f"no lead of the sample has a {name}"
        for value in values[:4]:
            fitting = [lead for lead in everyone if value in FIELDS[name](lead)]
            assert ids(await found(stocked, **{name: value})) == ids(fitting), (name, value)
            assert ids(await found(stocked, **{name: value.upper()})) == ids(fitting), (name, value)


async def test_filters_narrow_each_other(stocked: Crm):
    names = sorted(FIELDS.keys() & stocked.lead_filters)
    everyone = await found(stocked)

    for first, second in pairwise(names):
        lead = next(each for each in everyone if [*FIELDS[first](each)] and [*FIELDS[second](each)])
        one, other = next(iter(FIELDS[first](lead))), next(iter(FIELDS[second](lead)))
        fitting = [each for each in everyone if one in FIELDS[first](each) and other in FIELDS[second](each)]
        assert ids(await found(stocked, **{first: one, second: other})) == ids(fitting)


async def test_leads_created_after_a_moment_are_found(stocked: Crm):
    if "created_after" not in stocked.lead_filters:
        with pytest.raises(Unsupported, match="created_after"):
            await found(stocked, created_after=now())
        return
    everyone = await found(stocked)
    middle = sorted(each.created_at for each in everyone if each.created_at)[len(everyone) // 2]

    newer = await found(stocked, created_after=middle)

    assert ids(newer) == ids(each for each in everyone if each.created_at and each.created_at > middle)
    assert await found(stocked, created_after=now() + timedelta(days=3)) == []


async def test_leads_without_contact_since_a_moment_are_found(stocked: Crm):
    if "not_contacted_since" not in stocked.lead_filters:
        with pytest.raises(Unsupported, match="not_contacted_since"):
            await found(stocked, not_contacted_since=now())
        return
    everyone, moment = await found(stocked), now() - timedelta(days=7)

    silent = await found(stocked, not_contacted_since=moment)

    assert ids(silent) == ids(x for x in everyone if x.last_contacted_at is None or x.last_contacted_at < moment)


async def test_words_find_a_lead_by_its_name_and_address(crm: Writing):
    made = [await crm.create_lead(someone(n, first_name=f"Quill{n}x")) for n in range(3)]

    for lead in made:
        for query in (lead.first_name or str(lead.name).split()[0], lead.email, str(lead.name).upper()):
            assert ids(await found(crm, query=query)) == {lead.id}, query
    assert await found(crm, query="nobody-has-this-word") == []


@pytest.mark.parametrize(
    "query", ['"', "*", "a:b", "(", "-x", "' OR 1=1", "%", "a&b=c", "?", "#", "NOT", "\n", "é" * 300, "\u202e"]
)
async def test_nothing_that_is_typed_into_a_search_breaks_it(crm: Writing, query: str):
    await crm.create_lead(someone(1))

    assert len(await found(crm, query=query)) <= 1


async def test_a_list_filter_finds_those_that_were_put_there(crm: Writing, vendor: Vendor):
    if "list" not in crm.lead_filters:
        with pytest.raises(Unsupported, match="list"):
            await found(crm, list="Fair")
        return
    first, second = [await crm.create_lead(someone(n, list=name)) for n, name in enumerate(vendor.lists)]

    assert ids(await found(crm, list=vendor.lists[0].upper())) == {first.id}
    assert ids(await found(crm, list=vendor.lists[1])) == {second.id}


async def test_a_stage_filter_finds_those_that_were_moved_there(crm: Moving):
    first, second, *_ = [each for each in await crm.list_options("stages") if each.of == "leads"]
    made, other = [await crm.create_lead(someone(n)) for n in range(2)]
    moved = await crm.move_lead(made.id, second.id)

    if "stage" not in crm.lead_filters:
        with pytest.raises(Unsupported, match="stage"):
            await found(crm, stage=second.name)
        return
    assert await found(crm, stage=second.name) == [moved]
    assert ids(await found(crm, stage=first.name)) == {other.id}


async def test_a_value_that_does_not_exist_is_refused_or_finds_nobody(crm: Writing):
    await crm.create_lead(someone(1))

    for name in sorted({"status", "stage", "tag", "owner", "list"} & crm.lead_filters):
        assert not await unless_refused(found(crm, **{name: "wo-unheard-of"}), "there "), name


async def test_a_filter_that_a_backend_can_not_do_is_refused(crm: Crm):
    for name in sorted(set(LeadFilter.model_fields) - {"sort"} - crm.lead_filters):
        with pytest.raises(Unsupported, match=name):
            await crm.search_leads(LeadFilter.model_validate({name: VALUES.get(name, "x")}), Slice())


async def test_a_sort_that_a_backend_can_not_do_is_refused_with_the_valid_ones(crm: Crm):
    with pytest.raises((InvalidArgument, Unsupported), match=crm.lead_sorts[0]):
        await crm.search_leads(LeadFilter(sort="colour"), Slice())


async def test_every_sort_is_an_order_of_everybody(stocked: Crm):
    everyone = await found(stocked)

    for sort in stocked.lead_sorts:
        rows = await found(stocked, sort=sort)
        field = sort.removeprefix("-")
        keys = [fold(each.label) if field == "name" else getattr(each, field) for each in rows]
        known = [each for each in keys if each is not None]
        assert ids(rows) == ids(everyone)
        assert len(rows) == len(everyone)
        assert known == sorted(known, reverse=sort.startswith("-")), sort
    assert [each.id for each in everyone] == [each.id for each in await found(stocked, sort=stocked.lead_sorts[0])]


async def test_new_leads_come_first(crm: Writing):
    made = [(await crm.create_lead(someone(n))).id for n in range(4)]

    page = await crm.search_leads(LeadFilter(), Slice())

    assert crm.lead_sorts[0] == "-created_at"
    assert [each.id for each in page.items] == made[::-1]
