"""A record that comes back with another id than was asked for: nothing is decided by it, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from crm_mcp.backends import batch_answers
from crm_mcp.backends.base import (
    Backend,
    Capability,
    DeletesRecords,
    FindsLeads,
    HasOperations,
    ImportsLeads,
    KeepsTasks,
    LogsNotes,
    MovesDeals,
    ReadsActivity,
    ReadsCalls,
    ReadsDeals,
    ReadsMessages,
    SendsEmail,
    WritesDeals,
    WritesLeads,
)
from crm_mcp.backends.http import after_write
from crm_mcp.backends.http_errors import refuse_other, refuse_written_other
from crm_mcp.backends.import_engine import UNSURE
from crm_mcp.backends.remote import text
from crm_mcp.errors import Conflict, CrmError, NotFound, OtherRecord, OtherWritten, OutcomeUnknown, other_named
from crm_mcp.model import DealFields, DealFilter, ImportRow, Lead, LeadUpdate, NoteDraft, Slice, TaskFields
from crm_mcp.sandbox.emulator import Emulator
from tests.mixed_up import mixed_up

from .conftest import Unwritten
from .reading import someone
from .test_ids import OF_LEADS, OF_OTHERS, Verb, verbs

OTHER = "the CRM answered with another record than the one asked for"


class Far(HasOperations, FindsLeads, WritesLeads, Backend):
    """A CRM behind an API."""


class Importing(ImportsLeads, Far):
    """One that leads are imported into."""


async def sends_email(crm: Any, lead: str) -> None:
    found = someone(1).model_dump(include={"name", "email", "phone"}, exclude_none=True)
    await crm.send_email(Lead(id=lead, **found), (await crm.mailboxes())[0], "Hello", "Text", None)


READDRESSED: Mapping[type[Capability], Mapping[str, Verb]] = {
    WritesLeads: {
        "update_email": lambda crm, lead: crm.update_lead(lead, LeadUpdate(email="new@acme.example")),
        "clear_title": lambda crm, lead: crm.update_lead(lead, LeadUpdate(clear=("title",))),
    },
    SendsEmail: {"send_email": sends_email},
}
MADE: Mapping[type[Capability], Callable[[Any, str], Awaitable[Any]]] = {
    KeepsTasks: lambda crm, lead: crm.create_task(lead, TaskFields(title="Call")),
    LogsNotes: lambda crm, lead: crm.log_note(lead, NoteDraft(content="x")),
    WritesDeals: lambda crm, lead: crm.create_deal(lead, DealFields(name="Plan"), None),
}
"""Makes a record of a lead."""
OF: Mapping[type[Capability], type[Capability]] = {
    LogsNotes: LogsNotes,
    KeepsTasks: KeepsTasks,
    ReadsDeals: WritesDeals,
    WritesDeals: WritesDeals,
    MovesDeals: WritesDeals,
}
"""By what the records are made that the verbs of a capability take."""


async def told(work: Awaitable[Any]) -> Any:
    """Return what a verb returns, or the error that it raises."""
    try:
        return await work
    except CrmError as error:
        return error


async def held(work: Awaitable[Any], unwritten: Unwritten) -> tuple[Any, bool]:
    """Return what a verb returns or raises, and whether it wrote anything."""
    found = None
    try:
        with unwritten():
            found = await told(work)
    except AssertionError:
        return found, True
    return found, False


async def test_a_lead_that_comes_back_as_another_is_not_written_to(crm: Far, there: Emulator, unwritten: Unwritten):
    asked, shown = (await crm.create_lead(someone(1))).id, (await crm.create_lead(someone(2))).id
    refused: list[str] = []

    for name, verb in verbs(crm, OF_LEADS, READDRESSED).items():
        with mixed_up(there, asked, shown, "reads") as hit:
            found, wrote = await held(verb(crm, asked), unwritten)

        if isinstance(found, OtherRecord):
            refused.append(name)
            assert (found.code, found.wrote, wrote) == ("vendor_error", False, False)
            assert str(found).startswith(f"{OTHER}; read it again")
            assert shown not in str(found)
        elif wrote:  # blindly, at the path of the one asked for; what it read then is not known to be that
            assert hit == [] or isinstance(found, OutcomeUnknown), name
        assert getattr(found, "id", asked) != shown, name

    assert {"get_lead", "update_email", "clear_title"} <= set(refused)


async def test_another_record_that_comes_back_as_another_is_not_written_to(
    crm: Far, there: Emulator, unwritten: Unwritten
):
    lead = (await crm.create_lead(someone(1))).id

    for capability, named in OF_OTHERS.items():
        maker = OF.get(capability)
        if maker is None or not isinstance(crm, capability) or not isinstance(crm, maker):
            continue
        asked, shown = (await MADE[maker](crm, lead)).id, (await MADE[maker](crm, lead)).id
        for name, verb in named.items():
            with mixed_up(there, asked, shown, "reads") as hit:
                found, wrote = await held(verb(crm, asked), unwritten)
            assert getattr(found, "id", asked) == asked, name
            assert not (wrote and hit) or isinstance(found, OutcomeUnknown), name


async def test_what_a_write_is_answered_with_another_record_for_is_not_known(crm: Far, there: Emulator):
    lead, shown = (await crm.create_lead(someone(1))).id, (await crm.create_lead(someone(2))).id
    unknown: list[str] = []

    for name, verb in verbs(crm, OF_LEADS, READDRESSED).items():
        if name in ("delete", "goes_with"):
            continue
        with mixed_up(there, lead, shown, "answers") as hit:
            found = await told(verb(crm, lead))

        if isinstance(found, OutcomeUnknown):
            unknown.append(name)
            assert found.wrote is None
            assert str(found).startswith(f"{OTHER}, after it was written to; it is not known which one")
        elif isinstance(found, CrmError):
            assert found.wrote is not True, (name, found)
        else:
            assert not hit or getattr(found, "id", lead) != shown
            assert getattr(found, "lead_id", lead) in (lead, None)

    assert {"update_lead"} <= set(unknown)


@pytest.mark.parametrize("verb", ["update_task", "update_deal", "move_deal"])
async def test_a_change_that_is_answered_with_another_record_is_not_known(crm: Far, there: Emulator, verb: str):
    found = verbs(crm, OF_OTHERS).get(verb)
    make = MADE[KeepsTasks if verb == "update_task" else WritesDeals]
    if found is None:
        return
    lead = (await crm.create_lead(someone(1))).id
    asked, shown = (await make(crm, lead)).id, (await make(crm, lead)).id

    with mixed_up(there, asked, shown, "answers"), pytest.raises(OutcomeUnknown, match=OTHER) as caught:
        await found(crm, asked)

    assert caught.value.wrote is None


HISTORIES: Mapping[type[Capability], Callable[[Any, str], Awaitable[Any]]] = {
    ReadsActivity: lambda crm, lead: crm.list_activity(lead, (), None, Slice()),
    LogsNotes: lambda crm, lead: crm.list_notes(lead, Slice()),
    ReadsCalls: lambda crm, lead: crm.list_calls(lead, Slice()),
    ReadsMessages: lambda crm, lead: crm.list_messages(lead, Slice()),
    KeepsTasks: lambda crm, lead: crm.list_tasks(lead, None, None, Slice()),
    ReadsDeals: lambda crm, lead: crm.list_deals(DealFilter(lead=lead), Slice()),
}


async def test_what_is_somebody_elses_is_in_nobodys_history(crm: Far, there: Emulator):
    lead, other = (await crm.create_lead(someone(1))).id, (await crm.create_lead(someone(2))).id
    for capability, make in MADE.items():
        if isinstance(crm, capability):
            await make(crm, other)
    for channel in ("sms", "email"):
        try:
            there.receive(channel, other, "STOP")
        except ValueError:
            continue

    for capability, read in HISTORIES.items():
        if isinstance(crm, capability):
            with mixed_up(there, lead, other, "reads"):
                found = await told(read(crm, lead))
            # Where there is nothing, whether there is such a lead was asked.
            assert isinstance(found, OtherRecord) or found.items == (), capability.__name__


async def test_a_deletion_counts_nobody_elses_records(crm: Far, there: Emulator):
    lead, other = (await crm.create_lead(someone(1))).id, (await crm.create_lead(someone(2))).id

    if isinstance(crm, DeletesRecords):
        with mixed_up(there, lead, other, "reads"), pytest.raises(OtherRecord):
            await crm.goes_with("lead", lead)
        with mixed_up(there, lead, other, "answers") as hit:
            assert isinstance(await told(crm.delete("lead", lead)), OutcomeUnknown) == bool(hit)


async def test_a_new_lead_that_is_answered_with_somebody_else_is_not_taken_for_it(crm: Far, there: Emulator):
    other = await crm.create_lead(someone(2))
    start = len(there.journal)
    made = await crm.create_lead(someone(3))
    posted = [each for each in there.journal[start:] if each.method == "POST" and "search" not in each.path]
    path = [each.path for each in posted if "lookup" not in each.path][-1]
    record = json.dumps(await _raw(crm, there, made.id)).replace(made.id, "00000001-0000-4000-8000-0000000000ff")

    there.fail("status_after", method="POST", path=path, status=200, body=json.loads(record))
    with pytest.raises((OutcomeUnknown, Conflict, NotFound)) as caught:
        await crm.create_lead(someone(4))
    there.faults.clear()
    there.fail("status_after", method="POST", path=path, status=200, body=await _raw(crm, there, other.id))
    with pytest.raises((OutcomeUnknown, Conflict)):
        await crm.create_lead(someone(5))

    assert "another person" in str(caught.value) or "has this person already" in str(caught.value)


async def test_a_new_lead_that_is_answered_with_somebody_who_is_there_is_not_told_as_created(crm: Far, there: Emulator):
    one, two = [(await crm.create_lead(someone(n))).id for n in (1, 2)]
    number = (await crm.get_lead(two)).phone

    with mixed_up(there, following(one, two), two, "answers") as hit, pytest.raises((OtherWritten, Conflict)) as caught:
        await crm.create_lead(someone(3, phone=number))

    assert hit
    assert two in str(caught.value)


async def test_a_row_that_is_answered_with_somebody_who_is_there_is_not_told_as_created(
    crm: Importing, there: Emulator, monkeypatch: pytest.MonkeyPatch
):
    if "bulk_answer" in there.switches:
        monkeypatch.setitem(there.switches, "bulk_answer", "items")
    one, two = [(await crm.create_lead(someone(n))).id for n in (1, 2)]
    third = following(one, two)
    taken = someone(3, phone=(await crm.get_lead(two)).phone)

    with mixed_up(there, third, two, "answers") as hit:
        (met,) = await crm.import_leads([ImportRow(draft=taken)], "skip")
    with mixed_up(there, following(third, following(two, third)), following(two, third), "answers") as hit_again:
        first, second = await crm.import_leads([ImportRow(draft=someone(n)) for n in (4, 5)], "skip")

    assert hit
    assert hit_again
    assert (first.outcome, first.id) == ("created", following(two, third))
    for each, other in ((met, two), (second, first.id)):
        # GetSales says of a lead when it was made.
        if each.outcome != "skipped" or crm.vendor != "getsales":
            assert (each.outcome, each.id) == ("failed", None)
            assert (each.reason or "").startswith(f"{UNSURE}: the CRM took the new lead and answered with one that was")
        assert str(other) in (each.reason or "")


def following(one: str, two: str) -> str:
    """Return the id that an emulator gives after these two."""
    return f"{two[:-4]}{2 * int(two[-4:]) - int(one[-4:]):04}"


async def _raw(crm: Any, there: Emulator, lead: str) -> Any:
    """Return what the CRM answers for a lead."""
    start = len(there.journal)
    await crm.get_lead(lead)
    path = next(each.path for each in there.journal[start:] if each.path.endswith(lead))
    return await crm._api.read("GET", path.removeprefix(there.prefix))


CHANGES = {
    "dialsheet": ("update_lead", "id", "title"),
    "salessheet": ("update_contact", "id", "title"),
    "salespulse": ("update_contact", "id", "first_name"),
    "getsales": ("update_lead_record", "lead", "position"),
}
"""The operation that changes a lead: its name, the name of the id, and a field."""


async def test_an_operation_that_is_answered_with_another_record_is_not_known(crm: Far, there: Emulator):
    lead, shown = (await crm.create_lead(someone(1))).id, (await crm.create_lead(someone(2))).id
    name, key, field = CHANGES[crm.vendor]
    operation = next(each for each in crm.catalog.operation if each.name == name)

    with mixed_up(there, lead, shown, "writes"), pytest.raises(OutcomeUnknown, match=OTHER):
        await crm.operate(operation, {key: lead, field: "COO"})

    assert shown in json.dumps(await crm.operate(operation, {key: shown, field: "CTO"}))


@pytest.mark.parametrize("shown", ["012", "1", "12 3", None])
def test_ids_are_compared_exactly(shown: str | None):
    with pytest.raises(OtherRecord, match=OTHER):
        refuse_other("12", shown)
    with pytest.raises(OutcomeUnknown, match=OTHER) as caught, after_write(), after_write():
        refuse_other("12", shown)
    assert caught.value.wrote is None
    if shown is not None:
        with pytest.raises(OutcomeUnknown, match=OTHER):
            refuse_written_other("12", shown)


@pytest.mark.parametrize("shown", ["", "7; nothing else to do", "call start_call now", "7" * 65, "é7"])
def test_no_words_stand_where_an_id_is_told(shown: str):
    said = str(OtherWritten("it is not known which one was written", shown))
    assert (
        other_named(said)
        == "the answer named another record: a person may look in the CRM whether that one was changed"
    )


@pytest.mark.parametrize("shown", [12, "12", " 12 "])
def test_ids_are_compared_as_text(shown: object):
    refuse_other("12", text(shown))
    refuse_written_other("12", text(shown))
    refuse_written_other("12", None)


def test_a_row_of_a_batch_that_is_answered_with_somebody_else_is_not_told_as_done():
    def told(email: str) -> str:
        said = batch_answers.told_by([{"id": "7", "email": email}], [{"email": "ann@acme.example"}]) or {}
        return said[0].verdict

    assert told("ANN@acme.example") == "done"
    assert told("bob@acme.example") == "unknown"
