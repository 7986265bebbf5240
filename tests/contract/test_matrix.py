from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest

from crm_mcp.backends import base
from crm_mcp.backends.base import (
    Backend,
    Capability,
    DeletesRecords,
    FindsLeads,
    ImportsLeads,
    ListsOptions,
    ReadsActivity,
    ReadsDeals,
    SendsEmail,
)
from crm_mcp.config import VENDORS as NAMES
from crm_mcp.errors import Unsupported
from crm_mcp.model import ActivityKind, DealFilter, LeadFilter, OptionKind, RecordKind

from .vendors import VENDORS

MATRIX = {
    "local": (
        "DeletesRecords",
        "EndsSequences",
        "FindsLeads",
        "ImportsLeads",
        "KeepsBlocklist",
        "KeepsTasks",
        "ListsOptions",
        "LogsNotes",
        "MovesDeals",
        "MovesLeads",
        "PlansSteps",
        "ReadsActivity",
        "ReadsCalls",
        "ReadsDeals",
        "ReadsMessages",
        "RecallsMessages",
        "RestoresRecords",
        "RunsSequences",
        "SendsEmail",
        "SendsSms",
        "SumsPipeline",
        "TagsLeads",
        "WritesDeals",
        "WritesLeads",
    ),
    "dialsheet": (
        "DeletesRecords",
        "FindsLeads",
        "HasOperations",
        "ImportsLeads",
        "KeepsTasks",
        "ListsOptions",
        "LogsNotes",
        "MovesDeals",
        "ReadsActivity",
        "ReadsCalls",
        "ReadsDeals",
        "ReadsMessages",
        "RecallsMessages",
        "RunsSequences",
        "SendsEmail",
        "SendsSms",
        "SumsPipeline",
        "WritesDeals",
        "WritesLeads",
    ),
    "salessheet": (
        "DeletesRecords",
        "FindsLeads",
        "HasOperations",
        "ImportsLeads",
        "KeepsTasks",
        "ListsOptions",
        "LogsNotes",
        "MovesDeals",
        "ReadsActivity",
        "ReadsCalls",
        "ReadsDeals",
        "ReadsMessages",
        "SumsPipeline",
        "WritesDeals",
        "WritesLeads",
    ),
    "salespulse": (
        "DeletesRecords",
        "FindsLeads",
        "HasOperations",
        "ImportsLeads",
        "ListsOptions",
        "MovesLeads",
        "ReadsActivity",
        "ReadsCalls",
        "ReadsDeals",
        "RecallsCalls",
        "StartsCalls",
        "SumsPipeline",
        "WritesLeads",
    ),
    "getsales": (
        "DeletesRecords",
        "EndsSequences",
        "FindsLeads",
        "GivesMetrics",
        "HasOperations",
        "ImportsLeads",
        "KeepsBlocklist",
        "ListsOptions",
        "LogsNotes",
        "MovesLeads",
        "ReadsActivity",
        "ReadsMessages",
        "RecallsMessages",
        "RunsSequences",
        "SendsEmail",
        "SendsLinkedIn",
        "SumsPipeline",
        "TagsLeads",
        "WritesLeads",
    ),
}
LISTS: dict[str, dict[str, set[str]]] = {
    "local": {
        "lead_filters": {
            *("query", "status", "stage", "tag", "owner", "list", "created_after", "not_contacted_since", "sort"),
        },
        "deal_filters": {"stage", "lead", "status", "owner", "closes_before"},
        "activity_kinds": {"note", "call", "message", "task"},
        "deletes": {"lead", "task", "deal", "note"},
        "option_kinds": {"stages", "statuses", "tags", "sequences", "mailboxes", "lists", "custom_fields", "owners"},
        "open_kinds": set(),
    },
    "dialsheet": {
        "lead_filters": {"query", "status"},
        "deal_filters": {"stage", "lead", "status"},
        "activity_kinds": {"note", "call", "message", "task"},
        "deletes": {"lead", "task"},
        "option_kinds": {"stages", "statuses", "tags", "sequences", "mailboxes"},
        "open_kinds": {"stages", "statuses"},
    },
    "salessheet": {
        "lead_filters": {"query", "status", "owner", "sort"},
        "deal_filters": {"stage", "lead", "status", "owner", "closes_before"},
        "activity_kinds": {"note", "call", "message", "task"},
        "deletes": {"lead", "task", "deal", "note"},
        "option_kinds": {"stages"},
        "open_kinds": set(),
    },
    "salespulse": {
        "lead_filters": {"query"},
        "deal_filters": {"stage", "lead"},
        "activity_kinds": {"call"},
        "deletes": {"lead"},
        "option_kinds": {"stages"},
        "open_kinds": set(),
    },
    "getsales": {
        "lead_filters": {"query", "status", "stage", "tag", "list", "created_after", "sort"},
        "activity_kinds": {"note", "message"},
        "deletes": {"lead", "note"},
        "option_kinds": {
            *("stages", "statuses", "tags", "sequences", "mailboxes", "senders", "lists", "custom_fields"),
        },
        "open_kinds": set(),
    },
}
VALID: dict[str, set[str]] = {
    "lead_filters": set(LeadFilter.model_fields),
    "deal_filters": set(DealFilter.model_fields),
    "activity_kinds": {*get_args(ActivityKind)},
    "deletes": {*get_args(RecordKind)},
    "option_kinds": {*get_args(OptionKind)},
    "open_kinds": {*get_args(OptionKind)},
}
OWNERS: dict[str, type[Capability]] = {
    "lead_filters": FindsLeads,
    "lead_sorts": FindsLeads,
    "deal_filters": ReadsDeals,
    "activity_kinds": ReadsActivity,
    "deletes": DeletesRecords,
    "option_kinds": ListsOptions,
    "import_size": ImportsLeads,
    "repeatable": ImportsLeads,
}


class Listing(ListsOptions, Backend):
    """What the tests of options need."""


class Mailing(SendsEmail, ListsOptions, Backend):
    """What the test of mailboxes needs."""


def test_every_vendor_is_held_to_the_contract():
    assert set(VENDORS) == {*NAMES}


def test_capabilities_change_only_in_a_visible_diff():
    assert {name: vendor.backend.capabilities() for name, vendor in VENDORS.items()} == MATRIX


def test_what_a_backend_can_do_within_a_capability_changes_only_in_a_visible_diff():
    found: dict[str, dict[str, set[Any]]] = {
        name: {each: set(getattr(vendor.backend, each)) for each in VALID if hasattr(vendor.backend, each)}
        for name, vendor in VENDORS.items()
    }

    assert found == LISTS


def test_whose_imports_recognise_a_row_by_its_key_changes_only_in_a_visible_diff():
    able = [name for name, vendor in VENDORS.items() if getattr(vendor.backend, "repeatable", False)]

    assert able == ["local"]


@pytest.mark.parametrize("name", VENDORS)
def test_a_backend_says_what_it_can_do_of_what_there_is(name: str):
    backend = VENDORS[name].backend

    for each, valid in VALID.items():
        assert set(getattr(backend, each, ())) <= valid
    for each, owner in OWNERS.items():
        assert hasattr(backend, each) == (owner.__name__ in backend.capabilities())
    assert ("sort" in getattr(backend, "lead_filters", ())) == (len(getattr(backend, "lead_sorts", ())) > 1)


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


async def test_kinds_of_options_are_served_as_listed(stocked: Listing):
    for kind in get_args(OptionKind):
        if kind in stocked.option_kinds:
            found = await stocked.list_options(kind)
            assert all(each.id and each.name for each in found)
            assert len({each.id for each in found}) == len(found)
            assert all((each.of in ("leads", "deals")) == (kind == "stages") for each in found)
        else:
            with pytest.raises(Unsupported, match="stages"):
                await stocked.list_options(kind)


async def test_the_sample_has_something_of_every_kind_of_options(stocked: Listing):
    empty = [kind for kind in stocked.option_kinds if not await stocked.list_options(kind)]

    assert empty == []


async def test_at_most_one_mailbox_is_the_default_and_all_are_options(crm: Mailing):
    mailboxes = await crm.mailboxes()

    assert mailboxes
    assert sum(each.default for each in mailboxes) <= 1
    if "mailboxes" in crm.option_kinds:
        assert {each.id for each in mailboxes} <= {each.id for each in await crm.list_options("mailboxes")}
