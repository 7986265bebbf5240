"""Ids that nothing has, and nonsense in the place of one: every verb says that it is not found, and writes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_mcp.backends.base import (
    Backend,
    Capability,
    DeletesRecords,
    EndsSequences,
    FindsLeads,
    KeepsTasks,
    ListsOptions,
    LogsNotes,
    MovesDeals,
    MovesLeads,
    ReadsActivity,
    ReadsCalls,
    ReadsDeals,
    ReadsMessages,
    RunsSequences,
    SendsSms,
    StartsCalls,
    TagsLeads,
    WritesDeals,
    WritesLeads,
)
from crm_mcp.errors import CrmError, InvalidArgument, NotFound
from crm_mcp.model import DealFields, DealFilter, Lead, LeadUpdate, NoteDraft, Slice, TaskFields

from .conftest import Unwritten
from .reading import someone

Verb = Callable[[Any, str], Awaitable[object]]
"""A verb, called on a backend with the id of a record."""


async def a_sequence(crm: Any) -> str:
    return (await crm.sequences())[0].id


async def a_stage(crm: Any) -> str:
    stages = await crm.list_options("stages")
    return stages[0].id if stages else "Proposal"


async def moves_deal(crm: Any, wrong: str) -> None:
    of_deals = [each.id for each in await crm.list_options("stages") if each.of == "deals"]
    await crm.move_deal(wrong, of_deals[0] if of_deals else "Proposal")


async def moves_lead(crm: Any, wrong: str) -> None:
    (first, *_) = [each.id for each in await crm.list_options("stages") if each.of == "leads"]
    await crm.move_lead(wrong, first)


async def enrolls(crm: Any, wrong: str) -> None:
    await crm.enroll(await a_sequence(crm), wrong)


async def unenrolls(crm: Any, wrong: str) -> None:
    await crm.unenroll(await a_sequence(crm), wrong)


def nobody(wrong: str) -> Lead:
    return Lead(id=wrong, name="Nobody", email="nobody@acme.example", phone="+12125550199")


OF_LEADS: Mapping[type[Capability], Mapping[str, Verb]] = {
    FindsLeads: {"get_lead": lambda crm, wrong: crm.get_lead(wrong)},
    WritesLeads: {"update_lead": lambda crm, wrong: crm.update_lead(wrong, LeadUpdate(title="Buyer"))},
    TagsLeads: {"tag_lead": lambda crm, wrong: crm.tag_lead(wrong, ["hot"], [])},
    MovesLeads: {"move_lead": moves_lead},
    ReadsActivity: {"list_activity": lambda crm, wrong: crm.list_activity(wrong, (), None, Slice())},
    LogsNotes: {
        "log_note": lambda crm, wrong: crm.log_note(wrong, NoteDraft(content="x")),
        "list_notes": lambda crm, wrong: crm.list_notes(wrong, Slice()),
    },
    ReadsCalls: {"list_calls": lambda crm, wrong: crm.list_calls(wrong, Slice())},
    ReadsMessages: {"list_messages": lambda crm, wrong: crm.list_messages(wrong, Slice())},
    KeepsTasks: {
        "list_tasks": lambda crm, wrong: crm.list_tasks(wrong, None, None, Slice()),
        "create_task": lambda crm, wrong: crm.create_task(wrong, TaskFields(title="Call")),
    },
    ReadsDeals: {"list_deals": lambda crm, wrong: crm.list_deals(DealFilter(lead=wrong), Slice())},
    WritesDeals: {"create_deal": lambda crm, wrong: crm.create_deal(wrong, DealFields(name="Pilot"), None)},
    RunsSequences: {"enroll": enrolls},
    EndsSequences: {"unenroll": unenrolls},
    SendsSms: {"send_sms": lambda crm, wrong: crm.send_sms(nobody(wrong), "x")},
    StartsCalls: {"start_call": lambda crm, wrong: crm.start_call(nobody(wrong))},
    DeletesRecords: {
        "delete": lambda crm, wrong: crm.delete("lead", wrong),
        "goes_with": lambda crm, wrong: crm.goes_with("lead", wrong),
    },
}
OF_OTHERS: Mapping[type[Capability], Mapping[str, Verb]] = {
    LogsNotes: {"get_note": lambda crm, wrong: crm.get_note(wrong)},
    ReadsCalls: {"get_call": lambda crm, wrong: crm.get_call(wrong)},
    KeepsTasks: {
        "get_task": lambda crm, wrong: crm.get_task(wrong),
        "update_task": lambda crm, wrong: crm.update_task(wrong, TaskFields(title="Write")),
    },
    ReadsDeals: {"get_deal": lambda crm, wrong: crm.get_deal(wrong)},
    WritesDeals: {"update_deal": lambda crm, wrong: crm.update_deal(wrong, DealFields(name="Pilot"))},
    MovesDeals: {"move_deal": moves_deal},
}
NO_TEXT = "\ud800"
"""Half of a pair, which can't be sent: that may be said of it as well."""
WRONG = (
    *("", " ", ".", "..", "../x", "a/b", "a\\..\\b", "x?y=1", "x#y", "a%2Fb", "%2e%2e", "x&y=1", "{id}", "null", "0"),
    *(
        "L0",
        "L999",
        "D0",
        "D999",
        "T1",
        "12",
        "Jane",
        "L12; DROP",
        "L１",
        "Ü",
        "\u202e",
        "a\nb",
        "a\x00b",
        "\x7f",
        NO_TEXT,
    ),
    *("x" * 200, "9" * 300, "L" + "9" * 40, "00000001-0000-4000-8000-ffffffffffff", "stg_999", "ctn_ffffff"),
)


class Finds(FindsLeads, Backend):
    """What the test of any text needs."""


class Crm(WritesLeads, ListsOptions, Backend):
    """What the test of ids of another kind needs."""


class Deleting(DeletesRecords, Backend):
    """What the test of deletions needs."""


class Running(RunsSequences, WritesLeads, Backend):
    """What the test of sequences needs."""


def verbs(crm: Backend, *tables: Mapping[type[Capability], Mapping[str, Verb]]) -> dict[str, Verb]:
    """Return the verbs of these tables that a backend has."""
    return {
        name: verb
        for table in tables
        for capability, found in table.items()
        if isinstance(crm, capability)
        for name, verb in found.items()
    }


async def not_found(crm: Backend, verb: Verb, wrong: str) -> str:
    """Return what is wrong with a verb's answer to an id that nothing has; empty where it is as it must be."""
    try:
        return f"answered {await verb(crm, wrong)!r}"
    except NotFound as error:
        return "" if error.wrote is not True else "says that it wrote"
    except InvalidArgument as error:
        return "" if wrong == NO_TEXT else f"raised {error!r}"
    except CrmError as error:
        return f"raised {error!r}"


async def test_an_id_that_nothing_has_is_not_found_by_any_verb(crm: Backend, unwritten: Unwritten):
    with unwritten():
        for name, verb in verbs(crm, OF_LEADS, OF_OTHERS).items():
            failed = {wrong: said for wrong in WRONG if (said := await not_found(crm, verb, wrong))}
            assert failed == {}, name


async def test_a_record_of_a_kind_that_is_not_there_is_not_deleted(crm: Deleting, unwritten: Unwritten):
    with unwritten():
        for kind in crm.deletes:
            failed = {
                wrong: said
                for wrong in WRONG
                if (said := await not_found(crm, lambda crm, wrong: crm.delete(kind, wrong), wrong))  # noqa: B023
                or (said := await not_found(crm, lambda crm, wrong: crm.goes_with(kind, wrong), wrong))  # noqa: B023
            }
            assert failed == {}, kind


async def test_an_id_is_good_for_its_own_kind_alone(crm: Crm, unwritten: Unwritten):
    lead = await crm.create_lead(someone(1))
    stage = await a_stage(crm)

    with unwritten():
        for name, verb in verbs(crm, OF_OTHERS).items():
            assert await not_found(crm, verb, lead.id) == "", name
        for name, verb in verbs(crm, OF_LEADS).items():
            assert await not_found(crm, verb, stage) == "", name


@given(wrong=st.text(max_size=40))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
async def test_no_text_is_taken_for_an_id(crm: Finds, wrong: str):
    assert await not_found(crm, lambda crm, wrong: crm.get_lead(wrong), wrong) == ""


async def test_an_unknown_sequence_is_not_found(crm: Running, unwritten: Unwritten):
    lead = (await crm.create_lead(someone(1))).id
    calls: list[Verb] = [lambda crm, wrong: crm.enroll(wrong, lead)]
    if isinstance(crm, EndsSequences):
        calls.append(lambda crm, wrong: crm.unenroll(wrong, lead))

    with unwritten():
        for verb in calls:
            assert {wrong: said for wrong in WRONG if (said := await not_found(crm, verb, wrong))} == {}
