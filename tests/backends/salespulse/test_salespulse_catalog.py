from __future__ import annotations

import inspect

from crm_mcp.backends.catalog import load
from crm_mcp.backends.salespulse import SalesPulse
from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.salespulse import SalesPulseEmulator

from .conftest import JANE, Pulse


def test_the_catalogue_and_the_emulator_have_the_same_operations():
    catalogued = {(each.method, SalesPulseEmulator.prefix + each.path) for each in load("salespulse").operation}

    emulated = {
        found
        for _, each in inspect.getmembers(SalesPulseEmulator, inspect.isfunction)
        for found in getattr(each, "routes", [])
    }

    assert len(load("salespulse").operation) == len(catalogued) == 12
    assert catalogued == emulated
    assert emulator_of("salespulse") is SalesPulseEmulator


def test_the_capabilities_are_those_of_the_vendor_s_reference():
    assert SalesPulse.capabilities() == (
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
    )


def test_every_operation_says_what_it_does_to_people():
    effects = {each.name: each.effect for each in load("salespulse").operation}

    assert {name for name, effect in effects.items() if effect == "outward"} == {"initiate_call"}
    assert {name for name, effect in effects.items() if effect == "destructive"} == {"delete_contact"}
    assert load("salespulse").get("initiate_call").recipient is not None


async def test_operations_reach_the_vendor_as_catalogued(pulse: Pulse):
    lead = pulse.put(**JANE)
    arguments = {
        "list_contacts": {"page": 1, "limit": 2, "search": "jane"},
        "get_contact": {"id": lead},
        "update_contact": {"id": lead, "state": "TX"},
        "move_contact_to_stage": {"id": lead, "stage_id": "stg_2"},
        "create_contact": {"first_name": "Bob", "seats": 3},
        "create_contacts_in_bulk": {"contacts": [{"first_name": "Ann"}]},
        "list_calls": {"contact_id": lead, "from": "2026-03-01"},
        "initiate_call": {"contact_id": lead},
        "get_call": {"id": "call_000001"},
        "list_stages": {},
        "list_deals": {},
        "delete_contact": {"id": lead},
    }

    for name, given in arguments.items():
        operation = pulse.crm.catalog.get(name)
        await pulse.crm.operate(operation, operation.check(given))

    assert {each.status for each in pulse.there.journal} == {200, 201}
    assert set(arguments) == {each.name for each in pulse.crm.catalog.operation}
    assert pulse.there.journal[0].query == {"page": "1", "limit": "2", "search": "jane"}
    assert pulse.there.calls("PATCH", f".*/{lead}")[0].body == {"state": "TX"}
