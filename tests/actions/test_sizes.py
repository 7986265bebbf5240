"""How many records an action is about: never fewer than it names, whatever place and form they stand in."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_mcp.actions.vendor_operations.sizes import MORE_THAN_ANY, records_of
from crm_mcp.backends.catalog import load
from crm_mcp.config import VENDORS, PolicySettings
from tests.harness.app import SEQUENCE, App
from tests.harness.clock import Clock
from tests.harness.person import Person
from tests.harness.small_vendor import VendorApp, emulated_vendor

REMOTE = tuple(each for each in VENDORS if each != "local")
OPERATIONS = [(vendor, each) for vendor in REMOTE for each in load(vendor).operation if each.effect != "read"]
COMPOSED = ("object", "array", "any", "string")
PROPERTY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

IDS = (
    st.uuids().map(str)
    | st.integers(1, 10**9).map(str)
    | st.integers(1, 10**6).map("ctn_{}".format)
    | st.integers(1, 10**6).map("jane{}@crm.example".format)
)


@st.composite
def listed(draw: st.DrawFn, ids: list[str]) -> Any:
    """Return JSON that lists these records in one of the ways that a CRM may take."""
    half = len(ids) // 2
    ways = (
        lambda: [*ids],
        lambda: [{"id": each, "name": "x"} for each in ids],
        lambda: [ids[:half], ids[half:]],
        lambda: {"ids": [*ids]},
        lambda: {"some": ids[:half], "more": [[each] for each in ids[half:]]},
        lambda: dict.fromkeys(ids, True),
        lambda: {each: {"stage": "won"} for each in ids},
        lambda: [{each: None} for each in ids],
        lambda: draw(st.sampled_from([",", ", ", ";", "|", "\n", "\t", " "])).join(ids),
        lambda: json.dumps(ids),
        lambda: {"ids": json.dumps({"of": ids})},
        lambda: [",".join(ids)],
    )
    made: Any = draw(st.sampled_from(ways))()
    for _ in range(draw(st.integers(0, 2))):
        made = draw(st.sampled_from([{"payload": made}, [made], {"also": 1, "records": made}]))
    return made


@PROPERTY
@given(
    st.integers(0, len(OPERATIONS) - 1),
    st.lists(IDS, min_size=2, max_size=30, unique=True).flatmap(lambda ids: st.tuples(st.just(ids), listed(ids))),
    st.data(),
)
def test_an_operation_is_about_at_least_as_many_records_as_it_names_anywhere(
    operation: int, records: tuple[list[str], Any], data: st.DataObject
) -> None:
    _, each = OPERATIONS[operation]
    texts = {one.split(".")[0] for one in (each.text, *each.prose) if one}
    able = [one.name for one in each.parameters if one.type in COMPOSED and one.name not in texts]
    place = data.draw(st.sampled_from([*able, "undocumented"]))

    assert records_of(each, {place: records[1]}) >= len(records[0])


@given(st.integers(0, len(OPERATIONS) - 1), st.integers(1, 400), st.integers(1, 400))
def test_two_lists_count_together(operation: int, some: int, more: int) -> None:
    given = {"one": [f"a{n}" for n in range(some)], "other": ",".join(f"b{n}" for n in range(more))}

    assert records_of(OPERATIONS[operation][1], given) >= some + (more if more > 1 else 0)


@pytest.mark.parametrize(
    ("vendor", "name", "arguments", "size"),
    [
        ("getsales", "create_list", {"name": "Fair"}, 1),
        ("getsales", "create_note", {"object": "lead", "object_uuid": "l1", "note": "Hi, a, b; c\nd"}, 1),
        ("getsales", "set_custom_field_value", {"object_uuid": "l1", "value": "blue"}, 1),
        ("getsales", "create_companies", {"companies": [{"name": "A", "tags": ["x", "y"]}, {"name": "B"}]}, 3),
        ("getsales", "cancel_lead_from_all_flows", {"lead": "l1"}, 1),
        ("getsales", "mass_action_on_leads", {"type": "contact_mark_read", "filter": {"ids": ["a"] * 500}}, 500),
        ("salessheet", "batch_deals", {"items": [{"name": f"D{n}", "value": n} for n in range(80)]}, 80),
        ("getsales", "mass_action_on_leads", {"type": "contact_mark_read", "filter": {"all": True}}, MORE_THAN_ANY),
        ("getsales", "mass_action_on_leads", {"type": "contact_delete"}, MORE_THAN_ANY),
        ("getsales", "enrich_leads", {}, MORE_THAN_ANY),
        ("getsales", "enrich_leads", {"filter": {"list_uuid": "l"}}, MORE_THAN_ANY),
        ("getsales", "enrich_leads", {"uuids": ["a", "b"]}, 2),
        ("getsales", "import_companies_from_upload", {"upload": "u", "columns": []}, MORE_THAN_ANY),
        ("getsales", "delete_tag", {"tag": "t"}, MORE_THAN_ANY),
        ("getsales", "update_ai_template", {"template": "t", "body": "Hi"}, MORE_THAN_ANY),
    ],
)
def test_sizes(vendor: str, name: str, arguments: dict[str, Any], size: int) -> None:
    assert records_of(load(vendor).get(name), arguments) == size


# What the policy makes of it

SIZES: dict[str, Any] = {"confirm_from": 3, "approve_from": 50}


@pytest.fixture
async def getsales(tmp_path: Path) -> AsyncGenerator[VendorApp]:
    policy = {"sizes": SIZES, "outward": "allow", "destructive": "allow", "quiet_hours": "off"}
    async with emulated_vendor("getsales", tmp_path, policy) as app:
        yield app


@pytest.mark.parametrize(
    ("name", "arguments", "status", "rule"),
    [
        ("create_companies", {"companies": [{"name": "A"}, {"name": "B"}]}, "done", "policy.write"),
        ("create_companies", {"companies": [{"name": f"C{n}"} for n in range(3)]}, "declined", "confirm_from"),
        (
            "create_companies",
            {"companies": [{"name": f"C{n}"} for n in range(500)]},
            "pending_approval",
            "approve_from",
        ),
        ("export_leads", {"filter": {"ids": ["a", "b"]}}, "done", "policy.write"),
        ("export_leads", {"filter": {"ids": ["a"] * 60}}, "pending_approval", "approve_from"),
        ("export_leads", {"filter": {"all": True}}, "pending_approval", "approve_from"),
        ("delete_tag", {"tag": "t"}, "pending_approval", "approve_from"),
        (
            "mass_action_on_companies",
            {"type": "company_add_tags", "filter": {"ids": "a,b,c"}},
            "declined",
            "confirm_from",
        ),
    ],
)
async def test_an_operation_is_asked_about_by_the_records_that_it_names(
    getsales: VendorApp, name: str, arguments: dict[str, Any], status: str, rule: str
) -> None:
    result = await getsales.call(Person("no"), name, **arguments)

    [row] = (await getsales.store.actions.page(caller=None, status=None, lead=None, after=None, limit=9))[0]
    assert result["status"] == status
    assert row.rule.removeprefix("policy.sizes.") == rule
    assert len(getsales.left) == int(status == "done")


def sized(folder: Path, confirm_from: int) -> App:
    """Return a process that asks from so many records on, and else about nothing."""
    policy = {"outward": "allow", "destructive": "allow", "sizes": {"confirm_from": confirm_from}}
    return App(folder, Clock(), sample=True, policy=PolicySettings.model_validate(policy))


async def test_taking_leads_out_of_a_sequence_is_about_each_of_them(tmp_path: Path) -> None:
    app = sized(tmp_path, 3)
    leads = [f"L{n}" for n in range(40, 43)]
    quiet, person = Person("no"), Person("no")

    await app.call("unenroll_from_sequence", quiet, sequence=SEQUENCE, leads=leads[:2])
    many = await app.call("unenroll_from_sequence", person, sequence=SEQUENCE, leads=[*leads, "L999999"])
    await app.close()

    assert (quiet.asked, many["status"]) == ([], "declined")
    assert person.asked[0].text.startswith(f'Take 3 leads out of the sequence "{SEQUENCE}": "')
    assert all(f"({lead})" in person.asked[0].text for lead in leads)
    assert "\nnot L999999: there is no lead " in person.asked[0].text


@pytest.mark.parametrize(("confirm_from", "status"), [(4, "declined"), (400, "done")])
async def test_a_deletion_is_about_what_goes_with_it_too(tmp_path: Path, confirm_from: int, status: str) -> None:
    app = sized(tmp_path, confirm_from)
    for n in range(3):
        await app.call("log_note", lead="L5", content=f"note {n}")

    asked = await app.call("delete_record", Person("no"), kind="lead", id="L5")
    await app.close()

    assert asked["status"] == status
