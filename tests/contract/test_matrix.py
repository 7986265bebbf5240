from __future__ import annotations

import inspect

import pytest

from crm_mcp.backends import base
from crm_mcp.backends.base import Backend, Capability, FindsLeads, ListsOptions
from crm_mcp.errors import InvalidArgument, Unsupported
from crm_mcp.model import LeadFilter, OptionKind, Slice

from .vendors import VENDORS

MATRIX = {
    "local": (
        "DeletesRecords",
        "FindsLeads",
        "ImportsLeads",
        "KeepsBlocklist",
        "KeepsTasks",
        "ListsOptions",
        "LogsNotes",
        "MovesDeals",
        "MovesLeads",
        "ReadsActivity",
        "ReadsCalls",
        "ReadsDeals",
        "ReadsMessages",
        "RunsSequences",
        "SendsEmail",
        "SendsSms",
        "SumsPipeline",
        "TagsLeads",
        "WritesDeals",
        "WritesLeads",
    )
}
VALUES = {"created_after": "2026-01-01T00:00:00Z", "not_contacted_since": "2026-01-01T00:00:00Z", "sort": "name"}
KINDS: tuple[OptionKind, ...] = (
    "stages",
    "statuses",
    "tags",
    "sequences",
    "mailboxes",
    "senders",
    "lists",
    "custom_fields",
    "owners",
)


class Finds(FindsLeads, Backend):
    """What these tests need."""


class Lists(ListsOptions, Backend):
    """What these tests need."""


def test_capabilities_change_only_in_a_visible_diff():
    assert {name: vendor.backend.capabilities() for name, vendor in VENDORS.items()} == MATRIX


@pytest.mark.parametrize("name", VENDORS)
def test_a_backend_has_no_verb_of_a_capability_that_it_does_not_list(name: str):
    backend = VENDORS[name].backend
    lacking = [
        each
        for each in vars(base).values()
        if inspect.isclass(each) and issubclass(each, Capability) and each.__name__ not in backend.capabilities()
    ]
    verbs = [verb for each in lacking for verb in vars(each) if inspect.iscoroutinefunction(vars(each)[verb])]

    assert [verb for verb in verbs if hasattr(backend, verb)] == []


async def test_check_says_what_is_there(crm: Backend):
    assert (await crm.check()).found


async def test_a_filter_that_a_backend_can_not_do_is_refused(crm: Finds):
    for name in sorted(set(LeadFilter.model_fields) - crm.lead_filters):
        with pytest.raises(Unsupported):
            await crm.search_leads(LeadFilter.model_validate({name: VALUES.get(name, "x")}), Slice())


async def test_a_sort_that_a_backend_can_not_do_is_refused_with_the_valid_ones(crm: Finds):
    with pytest.raises((InvalidArgument, Unsupported), match=crm.lead_sorts[0]):
        await crm.search_leads(LeadFilter(sort="colour"), Slice())


async def test_kinds_of_options_are_served_as_listed(crm: Lists):
    for kind in KINDS:
        if kind in crm.option_kinds:
            assert all(each.id and each.name for each in await crm.list_options(kind))
        else:
            with pytest.raises(Unsupported):
                await crm.list_options(kind)
