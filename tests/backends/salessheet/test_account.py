"""Keys, limits, faults, deletion, and the catalogue."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from typing import Any

import pytest

from crm_mcp.backends.catalog import load
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.salessheet import SalesSheet
from crm_mcp.errors import (
    Busy,
    CrmError,
    Forbidden,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    PaymentRequired,
    Unauthorized,
    Unreachable,
    VendorError,
)
from crm_mcp.model import DealFields, LeadDraft, LeadFilter, NoteDraft, RecordKind, Slice, TaskFields
from crm_mcp.sandbox.emulator import identity
from crm_mcp.sandbox.salessheet import SalesSheetEmulator
from crm_mcp.sandbox.serving import serving

from .conftest import Emulated

Opened = tuple[SalesSheetEmulator, SalesSheet]


def test_the_documented_address_and_limits_are_the_adapter_s():
    assert SalesSheet.base_url == "https://api.salessheets.ai/v1"
    assert SalesSheet.limits == Limits(
        per_minute=100, per_day=5_000, plans=((100, 5_000), (500, 50_000)), page=100, batch=100
    )
    assert SalesSheet.import_size == 100


@pytest.mark.parametrize(
    ("switches", "plan"),
    [({}, "Pro"), ({"plan": "enterprise"}, "Enterprise"), ({"me": "telling"}, "Pro, full")],
)
@pytest.mark.parametrize("envelope", ["data", "named", "bare"])
async def test_a_check_reads_the_user_the_organisation_and_the_plan(
    emulated: Emulated, envelope: str, switches: dict[str, Any], plan: str
):
    vendor, crm = emulated(envelope=envelope, **switches)

    account = await crm.check()

    (asked,) = vendor.journal
    assert (asked.method, asked.path, asked.query) == ("GET", "/v1/me", {})
    assert asked.headers["authorization"] == f"Bearer {vendor.key}"
    assert account.user == "robin.vale@fern-and-field.example"
    assert (account.found, account.plan) == ("organisation Fern and Field", plan)


async def test_the_budget_of_a_day_follows_the_plan(emulated: Emulated):
    _, crm = emulated(plan="enterprise")

    await crm.check()

    assert {each.name: (each.limit, each.remaining) for each in await crm.budget()} == {
        "minute": (500, 499),
        "day": (50_000, 49_999),
    }


@pytest.mark.parametrize("errors", ["message", "text", "list"])
@pytest.mark.parametrize(
    ("key", "switches", "error", "text"),
    [
        ("wrong", {}, Unauthorized, "few seconds to become active"),
        (SalesSheetEmulator.revoked_key, {}, Unauthorized, "revoked"),
        (SalesSheetEmulator.new_key, {}, Unauthorized, "few seconds to become active"),
        (SalesSheetEmulator.free_key, {}, Forbidden, "Pro or Enterprise"),
        (SalesSheetEmulator.free_key, {"free_plan": 402}, PaymentRequired, "Pro or Enterprise"),
        (SalesSheetEmulator.key, {"plain_http": "refused"}, Forbidden, "may be read-only"),
    ],
)
async def test_a_key_that_does_not_serve_is_told_with_what_to_do(
    emulated: Emulated, key: str, switches: dict[str, Any], error: type[CrmError], text: str, errors: str
):
    vendor, crm = emulated(key=key, errors=errors, **switches)

    with pytest.raises(error, match=text) as told:
        await crm.check()

    assert len(vendor.journal) == 1
    assert key == "wrong" or key not in str(told.value) + told.value.detail


async def test_a_new_key_works_once_it_is_active(emulated: Emulated):
    vendor, crm = emulated(key=SalesSheetEmulator.new_key, activates_after=0)

    assert (await crm.check()).found == "organisation Fern and Field"
    assert vendor.journal[-1].status == 200


async def test_a_read_only_key_reads_and_does_not_write(emulated: Emulated):
    vendor, crm = emulated(key=SalesSheetEmulator.read_only_key, sample=True)
    jane = identity(1, 2)

    assert (await crm.get_lead(jane)).name == "Jane Whitfield"
    with pytest.raises(Forbidden, match="read-only"):
        await crm.create_lead(LeadDraft(name="Bob"))
    with pytest.raises(Forbidden, match="read-only"):
        await crm.log_note(jane, NoteDraft(content="x"))
    with pytest.raises(Forbidden, match="read-only"):
        await crm.delete("lead", jane)

    assert len(vendor.records["contacts"]) == 13


@pytest.mark.parametrize("errors", ["message", "text", "list"])
@pytest.mark.parametrize("invalid", [422, 400])
async def test_what_the_crm_does_not_accept_is_told_by_field_and_without_its_words(
    emulated: Emulated, errors: str, invalid: int
):
    _, crm = emulated(errors=errors, invalid=invalid)

    with pytest.raises(InvalidArgument, match="custom_fields") as told:
        await crm.create_lead(LeadDraft(name="Jane", custom_fields={"cf_nothing": 1}))

    assert "unknown custom field id" not in str(told.value)
    assert "unknown custom field id" in told.value.detail
    assert told.value.wrote is False


async def test_a_read_is_made_again_after_a_fault_and_a_write_is_not(opened: Opened):
    vendor, crm = opened
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    for fault in ("drop_before", "malformed", "empty"):
        vendor.fail(fault, method="GET")
        assert (await crm.get_lead(lead.id)).name == "Jane"
    vendor.journal.clear()

    vendor.fail("html", method="POST", status=500)
    with pytest.raises(OutcomeUnknown):
        await crm.create_task(None, TaskFields(title="x"))
    vendor.fail("drop_after", method="POST")
    with pytest.raises(OutcomeUnknown):
        await crm.create_task(None, TaskFields(title="x"))

    assert len(vendor.calls("POST")) == 2


@pytest.mark.parametrize("fault", [{"kind": "html", "status": 500}, {"kind": "malformed"}, {"kind": "empty"}])
async def test_a_read_that_always_fails_is_an_error_in_our_words(opened: Opened, fault: dict[str, Any]):
    vendor, crm = opened
    vendor.fail(times=100, **fault)

    with pytest.raises((VendorError, Unreachable)) as told:
        await crm.search_leads(LeadFilter(), Slice())

    assert "Internal Server Error" not in str(told.value)


async def test_a_list_that_is_none_is_an_error(opened: Opened):
    vendor, crm = opened
    vendor.fail("status", times=100, status=200, body={"message": "hello"})

    with pytest.raises(VendorError, match="no list"):
        await crm.search_leads(LeadFilter(), Slice())


async def test_rows_that_are_none_are_left_out(opened: Opened):
    vendor, crm = opened
    vendor.fail("status", status=200, body={"data": [None, "x", {"id": 7, "first_name": "Jane", "email": {"a": 1}}]})

    page = await crm.search_leads(LeadFilter(), Slice())

    assert [(each.id, each.name, each.email) for each in page.items] == [("7", "Jane", None)]


async def test_the_limit_is_kept_to_and_a_refusal_waited_for(emulated: Emulated):
    vendor, crm = emulated(minute=0.5)
    vendor.fail("status", status=429, headers={"X-RateLimit-Limit": "100"})

    for _ in range(120):
        await crm.get_task((await crm.create_task(None, TaskFields(title="x"))).id)

    statuses = [each.status for each in vendor.journal]
    assert statuses.count(429) == 1
    assert len(statuses) == 241


async def test_a_used_up_limit_is_busy_with_the_seconds(emulated: Emulated):
    vendor, crm = emulated()
    vendor.fail(
        "status", times=100, status=429, headers={"X-RateLimit-Limit": "100", "X-RateLimit-Reset": "99999999999"}
    )

    with pytest.raises(Busy) as told:
        await crm.check()

    assert told.value.retry_after > 60
    assert len(vendor.journal) == 1


def headers_of(url: str, key: str) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers)


def test_every_answer_of_the_emulator_says_what_is_left_and_a_day_ends_as_well():
    vendor = SalesSheetEmulator(clock=lambda: 86_400.0)

    with serving(vendor) as url:
        first, second, wrong = (headers_of(f"{url}{path}", vendor.key) for path in ("/me", "/nothing", "/contacts/x"))
        unknown = headers_of(f"{url}/me", "nobody")
        vendor.clock = lambda: 86_460.0
        minute, day = vendor.limits_of(vendor.key)
        day.calls = 4
        fourth, over = headers_of(f"{url}/me", vendor.key), headers_of(f"{url}/me", vendor.key)

    told = [(status, got["X-RateLimit-Limit"], got["X-RateLimit-Remaining"]) for status, got in (first, second, wrong)]
    assert told == [(200, "100", "99"), (404, "100", "98"), (404, "100", "97")]
    assert first[1]["X-RateLimit-Reset"] == "86460"
    assert (unknown[0], unknown[1]["X-RateLimit-Remaining"]) == (401, "99")
    assert (fourth[0], fourth[1]["X-RateLimit-Remaining"]) == (200, "99")
    assert (over[0], over[1]["X-RateLimit-Remaining"], "Retry-After" in over[1]) == (429, "99", False)
    assert minute.calls == 100


@pytest.mark.parametrize("deleted", [204, 200])
async def test_records_are_deleted_and_those_that_are_not_there_are_not_found(emulated: Emulated, deleted: int):
    vendor, crm = emulated(sample=True, deleted=deleted)
    kinds: dict[RecordKind, str] = {"lead": "contacts", "task": "tasks", "deal": "deals", "note": "activities"}

    for kind, name in kinds.items():
        record = next(iter(vendor.records[name]))
        assert await crm.goes_with(kind, record) == {}
        await crm.delete(kind, record)
        assert (vendor.journal[-1].method, vendor.journal[-1].path) == ("DELETE", f"/v1/{name}/{record}")
        for again in (crm.delete(kind, record), crm.goes_with(kind, record)):
            with pytest.raises(NotFound, match=f'there is no {kind} "{record}"'):
                await again

    assert crm.deletes == set(kinds)


def test_the_catalogue_and_the_emulator_have_the_same_operations():
    vendor = SalesSheetEmulator()
    routes = {
        (method, re.sub(r"\{\w+\}", "{}", path))
        for name in dir(vendor)
        for method, path in getattr(getattr(vendor, name), "routes", [])
    }

    catalogued = {
        (each.method, vendor.prefix + re.sub(r"\{\w+\}", "{}", each.path)) for each in load("salessheet").operation
    }

    assert catalogued == routes
    assert len(catalogued) == 35


async def test_what_no_tool_can_give_is_reached_by_an_operation_of_its_own(opened: Opened):
    vendor, crm = opened
    lead = await crm.create_lead(LeadDraft(name="Jane", company="Acme"))
    deal = await crm.create_deal(None, DealFields(name="Robots"), None)
    task = await crm.create_task(None, TaskFields(title="Call"))
    asked = {
        "create_activity_with_subject": {"type": "meeting", "contact_id": lead.id, "subject": "Visit"},
        "list_contacts_by_company": {"company": "Acme"},
        "update_deal_contact": {"id": deal.id, "contact_id": lead.id},
        "update_deal_owner": {"id": deal.id, "owner": "Robin"},
        "update_task_contact": {"id": task.id, "contact_id": lead.id},
        "update_task_owner": {"id": task.id, "owner": "Robin"},
    }

    told = {name: await crm.operate(crm.catalog.get(name), given) for name, given in asked.items()}

    assert told["create_activity_with_subject"]["data"]["subject"] == "Visit"
    assert [each["id"] for each in told["list_contacts_by_company"]["data"]] == [lead.id]
    assert vendor.records["deals"][deal.id]["contact_id"] == vendor.records["tasks"][task.id]["contact_id"] == lead.id
    assert vendor.records["deals"][deal.id]["owner"] == vendor.records["tasks"][task.id]["owner"] == "Robin"
    for name, given in asked.items():
        operation = crm.catalog.get(name)
        assert operation.tool is None, name
        lacked = [each.name for each in operation.parameters if each.required and each.place != "path"]
        for missing in lacked:
            with pytest.raises(InvalidArgument, match=f"{name} needs"):
                operation.check({key: value for key, value in given.items() if key != missing})


async def test_operations_of_the_catalogue_are_carried_out(opened: Opened):
    vendor, crm = opened
    catalog = crm.catalog

    made = await crm.operate(catalog.get("create_pipeline"), {"name": "Renewals", "stages": [{"name": "Due"}]})
    read = await crm.operate(catalog.get("get_pipeline"), {"id": made["data"]["id"]})
    batch = await crm.operate(catalog.get("batch_tasks"), {"items": [{"title": "a"}, {"due_date": "x"}]})
    listed = await crm.operate(catalog.get("list_tasks"), {"page": 1, "title": "a"})
    replaced = await crm.operate(catalog.get("replace_task"), {"id": listed["data"][0]["id"], "title": "b"})

    assert read["data"]["stages"][0]["name"] == "Due"
    assert [each["status"] for each in batch["results"]] == ["created", "error"]
    assert vendor.calls("GET", "/v1/tasks")[0].query == {"page": "1", "title": "a"}
    assert (replaced["data"]["title"], replaced["data"]["due_date"]) == ("b", None)
