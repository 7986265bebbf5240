from __future__ import annotations

import re

import pytest

from crm_mcp.backends.catalog import load
from crm_mcp.errors import InvalidArgument
from crm_mcp.sandbox.dialsheet import DialsheetEmulator

from .conftest import JANE, Opened, Sheet


def shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def routes() -> set[tuple[str, str]]:
    marked = [getattr(getattr(DialsheetEmulator, name), "routes", []) for name in dir(DialsheetEmulator)]
    return {(method, shape(path)) for each in marked for method, path in each}


def test_the_catalogue_and_the_emulator_know_the_same_operations():
    catalogued = [(each.method, shape(each.path)) for each in load("dialsheet").operation]

    assert set(catalogued) == routes()
    assert len(set(catalogued)) == 24


def test_every_operation_says_what_it_does_and_has_no_tool_where_none_does_all_of_it():
    operations = load("dialsheet").operation

    assert [each.name for each in operations if not each.tool] == [
        "list_emails",
        "list_sms",
        "list_notes",
        "list_calls",
        "create_tag",
    ]
    assert {each.name: each.effect for each in operations if each.method != "GET"} == {
        "create_lead": "write",
        "update_lead": "write",
        "delete_lead": "destructive",
        "send_email": "outward",
        "send_sms": "outward",
        "create_task": "write",
        "update_task": "write",
        "delete_task": "destructive",
        "create_note": "write",
        "create_opportunity": "write",
        "update_opportunity": "write",
        "create_tag": "write",
        "enroll_lead": "outward",
    }
    assert all(each.effect == "read" for each in operations if each.method == "GET")
    assert all(each.recipient for each in operations if each.effect == "outward")
    for each in operations:
        in_path = [parameter.name for parameter in each.parameters if parameter.place == "path"]
        assert in_path == re.findall(r"{(\w+)}", each.path), each.name


async def test_every_reading_operation_works_on_the_emulator(opened: Opened):
    async with opened(sample=True) as sheet:
        lead = sheet.there.tables["leads"][0]["id"]
        for each in sheet.crm.catalog.operation:
            if each.effect == "read":
                answer = await sheet.crm.operate(each, {"id": lead} if "{id}" in each.path else {})
                assert answer, each.name


async def test_arguments_go_where_the_catalogue_says(sheet: Sheet):
    lead = sheet.put(**JANE)
    catalog = sheet.crm.catalog

    arguments = catalog.get("list_tasks").check({"lead_id": lead, "completed": False})
    await sheet.crm.operate(catalog.get("list_tasks"), arguments)
    assert sheet.last() == ("GET", "/api/v1/tasks", {"lead_id": lead, "completed": "false"}, None)

    await sheet.crm.operate(catalog.get("update_lead"), {"id": lead, "status": "qualified", "seats": 3})
    assert sheet.last() == ("PUT", f"/api/v1/leads/{lead}", {}, {"status": "qualified", "seats": 3})
    with pytest.raises(InvalidArgument, match='nearest: "lead_id"'):
        catalog.get("list_notes").check({"leadid": lead})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/tasks/1", 405),
        ("GET", "/api/v1/notes/1", 404),
        ("DELETE", "/api/v1/opportunities/1", 405),
        ("POST", "/api/v1/leads/1/tags", 404),
        ("PATCH", "/api/v1/leads/1", 405),
        ("GET", "/api/v1/me", 404),
    ],
)
async def test_the_emulator_has_no_route_for_what_is_not_documented(sheet: Sheet, method: str, path: str, status: int):
    operation = sheet.crm.catalog.get("create_tag").model_copy(update={"method": method, "path": path})

    with pytest.raises(Exception, match="Dialsheet does not"):
        await sheet.crm.operate(operation, {})

    assert sheet.there.journal[-1].status == status
