from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, get_args

import pytest

from crm_mcp.backends.base import Backend, DeletesRecords, FindsLeads, ImportsLeads, WritesLeads
from crm_mcp.errors import NotFound, Unsupported
from crm_mcp.model import DealFields, ImportRow, LeadFilter, NoteDraft, RecordKind, TaskFields

from .conftest import Unwritten
from .reading import every, someone

MAKE: dict[RecordKind, Callable[[Any, str], Awaitable[Any]]] = {
    "note": lambda crm, lead: crm.log_note(lead, NoteDraft(content="x")),
    "task": lambda crm, lead: crm.create_task(lead, TaskFields(title="x")),
    "deal": lambda crm, lead: crm.create_deal(lead, DealFields(name="x"), None),
}
READ: dict[RecordKind, Callable[[Any, str], Awaitable[Any]]] = {
    "note": lambda crm, record: crm.get_note(record),
    "task": lambda crm, record: crm.get_task(record),
    "deal": lambda crm, record: crm.get_deal(record),
    "lead": lambda crm, record: crm.get_lead(record),
}


class Crm(DeletesRecords, WritesLeads, FindsLeads, ImportsLeads, Backend):
    """What these tests need."""


async def test_a_deleted_lead_is_gone_and_nobody_else(crm: Crm):
    jane, bob = [await crm.create_lead(someone(n)) for n in range(2)]

    await crm.delete("lead", jane.id)

    with pytest.raises(NotFound):
        await crm.get_lead(jane.id)
    assert await crm.leads_at("email", jane.email or "") == ()
    assert await every(lambda part: crm.search_leads(LeadFilter(), part)) == [bob]
    assert await crm.get_lead(bob.id) == bob


async def test_a_second_deletion_is_not_found_and_writes_nothing(crm: Crm, unwritten: Unwritten):
    lead = await crm.create_lead(someone(1))

    for kind in sorted(crm.deletes, key=lambda kind: kind == "lead"):
        record = lead.id if kind == "lead" else (await MAKE[kind](crm, lead.id)).id
        assert await crm.goes_with(kind, record) == {}
        await crm.delete(kind, record)
        with unwritten():
            for verb in (crm.delete, crm.goes_with):
                with pytest.raises(NotFound):
                    await verb(kind, record)
            with pytest.raises(NotFound):
                await READ[kind](crm, record)


async def test_what_is_said_to_go_with_a_lead_is_there(crm: Crm):
    lead, other = [(await crm.create_lead(someone(n))).id for n in range(2)]
    made: dict[str, int] = {}
    for kind, make in MAKE.items():
        if hasattr(crm, {"note": "log_note", "task": "create_task", "deal": "create_deal"}[kind]):
            for owner in (lead, lead, other):
                await make(crm, owner)
            made[f"{kind}s"] = 2

    counted = await crm.goes_with("lead", lead)

    assert counted in (made, {})  # nothing where the vendor does not document what goes along


async def test_a_kind_that_can_not_be_deleted_is_refused_with_those_that_can(crm: Crm, unwritten: Unwritten):
    lead = await crm.create_lead(someone(1))

    for kind in {*get_args(RecordKind)} - crm.deletes:
        for verb in (crm.delete, crm.goes_with):
            with unwritten(), pytest.raises(Unsupported, match=f"{kind}.*lead"):
                await verb(kind, lead.id)


async def test_an_address_is_free_once_its_lead_is_deleted(crm: Crm):
    first = await crm.create_lead(someone(1))
    await crm.delete("lead", first.id)

    again = await crm.create_lead(someone(1))
    (met,) = await crm.import_leads([ImportRow(draft=someone(1))], "skip")

    assert again.id != first.id
    assert (met.outcome, met.id) == ("skipped", again.id)
