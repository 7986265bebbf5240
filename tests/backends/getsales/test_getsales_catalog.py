"""The catalogue of GetSales' operations, and that the emulator has each of them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from crm_mcp.backends.catalog import Catalog, load
from crm_mcp.errors import InvalidArgument
from crm_mcp.sandbox.getsales import GetSalesEmulator

from .conftest import Opened, Work

GROUPS = (
    "/id/api/users/current",
    "/id/api/teams",
    "/leads/api/leads",
    "/leads/api/companies",
    "/leads/api/lists",
    "/leads/api/tags",
    "/leads/api/custom-fields",
    "/leads/api/pipeline-stages",
    "/leads/api/notes",
    "/leads/api/activities",
    "/leads/api/leads-blacklist",
    "/leads/api/file-imports",
    "/leads/api/file-exports",
    "/leads/api/data-sources",
    "/flows/api/flows",
    "/flows/api/flows-leads",
    "/flows/api/flow-workspaces",
    "/flows/api/sender-profiles",
    "/flows/api/tasks",
    "/flows/api/linkedin-messages",
    "/flows/api/ai-agents",
    "/flows/api/ai-templates",
    "/emails/api/emails",
    "/emails/api/mailboxes",
    "/integrations/api/webhooks",
    "/browsers/api/linkedin-browsers",
)
"""Where the documented groups of operations stand, as far as a path is known."""

SENT: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    (
        "list_pipeline_stages",
        {"object": "lead"},
        ("GET", "/leads/api/pipeline-stages", {"filter[object]": "lead"}, None),
    ),
    (
        "list_activities",
        {"filter": {"type": "email_sent"}, "limit": 5},
        ("GET", "/leads/api/activities", {"filter": '{"type": "email_sent"}', "limit": "5"}, None),
    ),
    (
        "search_companies",
        {"filter": {"q": "acme"}},
        ("POST", "/leads/api/companies/list", {}, {"filter": {"q": "acme"}}),
    ),
    ("create_list", {"name": "Fair"}, ("POST", "/leads/api/lists", {}, {"name": "Fair"})),
    ("run_linkedin_browser", {"browser": "1"}, ("POST", "/browsers/api/linkedin-browsers/1/run", {}, None)),
]

FEEDING = (
    "contact_add_tags",
    "contact_assign_tag",
    "contact_remove_tags",
    "contact_remove_tag",
    "contact_replace_tags",
    "contact_change_list",
    "contact_move_to_list",
    "contact_change_pipeline_stage",
    "contact_change_custom_field",
)
"""Types of mass actions that may bring leads into a running flow, whose sources are filters."""
WRITES = ("contact_cancel_from_flows", "contact_export_csv", "contact_mark_read")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load("getsales")


def shape(path: str) -> str:
    """Return a path without the names of its ids."""
    return re.sub(r"\{\w+\}", "{}", path)


def test_the_catalogue_and_the_emulator_have_the_same_operations(catalog: Catalog):
    routes = {
        (method, shape(path))
        for _, function in inspect.getmembers(GetSalesEmulator, callable)
        for method, path in getattr(function, "routes", [])
    }

    listed = {(each.method, shape(each.path)) for each in catalog.operation}

    assert listed == routes
    assert len(listed) == 177


def test_what_a_tool_does_not_do_of_an_operation_is_one_of_its_own(catalog: Catalog):
    further = {
        each.name: [one.name for one in each.parameters if one.required and one.name not in needed]
        for each in catalog.operation
        for plain in catalog.operation
        if plain.tool and not each.tool and (each.method, each.path) == (plain.method, plain.path)
        for needed in [{one.name for one in plain.parameters if one.required}]
    }
    alike = {each.name: each.akin for each in catalog.operation if each.name in further}
    reaching = {name for name in further if catalog.get(name).effect == "outward"}

    assert further == {
        "upsert_lead_into_list": ["move_to_list"],
        "add_lead_to_flow_source": ["contact_source_id"],
        "send_inmail": ["text", "subject"],
        "send_linkedin_template": ["template_uuid"],
        "send_linkedin_attachments": ["attachments"],
        "send_linkedin_message_by_messenger": ["linkedin_messenger_type"],
        "send_email_with_copies": ["cc"],
        "send_email_template": ["template_uuid"],
        "reply_to_email": ["in_reply_to_email_uuid"],
        "send_email_in_thread": ["thread_uuid"],
    }
    assert all(alike.values())
    assert reaching == further.keys()
    # What moves a lead into a list names nobody who is there already.
    assert {name for name in reaching if not catalog.get(name).recipient} == {"upsert_lead_into_list"}


def test_a_lead_of_any_fields_is_no_plain_write_since_it_might_lift_an_unsubscription(catalog: Catalog):
    free = {
        each.name: each.effect
        for each in catalog.operation
        if not each.tool and any(one.name in ("lead", "leads") and one.place == "body" for one in each.parameters)
    }

    assert {name: effect for name, effect in free.items() if effect != "read"} == {
        "upsert_lead_into_list": "outward",
        "add_new_lead_to_flow": "outward",
    }


@pytest.mark.parametrize("name", ["cancel_outreach_task", "fail_outreach_task", "mass_cancel_outreach_tasks"])
def test_what_ends_a_task_is_asked_since_nobody_says_what_its_flow_does_then(catalog: Catalog, name: str):
    assert catalog.get(name).effect == "destructive"


def test_what_closes_a_task_may_let_its_flow_write_to_people_whom_it_does_not_name(catalog: Catalog):
    for name in ("complete_outreach_task", "mass_complete_outreach_tasks", "mass_skip_outreach_tasks"):
        found = catalog.get(name)

        assert (found.effect, found.akin, found.recipient) == ("outward", ("enroll_in_sequence",), None)


@pytest.mark.parametrize("group", GROUPS)
def test_every_documented_group_has_operations(catalog: Catalog, group: str):
    found = [each.name for each in catalog.operation if each.path == group or each.path.startswith(f"{group}/")]

    assert found


def test_names_are_unique_and_speak(catalog: Catalog):
    names = [each.name for each in catalog.operation]

    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]{3,63}", name)] == []


def test_every_id_of_a_path_is_a_parameter_and_every_parameter_has_one_place(catalog: Catalog):
    wrong = [
        each.name
        for each in catalog.operation
        if set(re.findall(r"\{(\w+)\}", each.path)) != {p.name for p in each.parameters if p.place == "path"}
        or len({p.name for p in each.parameters}) != len(each.parameters)
    ]

    assert wrong == []


def test_only_requests_that_can_carry_a_body_have_one(catalog: Catalog):
    wrong = [
        each.name
        for each in catalog.operation
        for parameter in each.parameters
        if parameter.place == "body" and each.method in ("GET", "DELETE")
    ]

    assert wrong == []


LIFTING = {"unblacklist_lead", "unblacklist_company"}
"""What deletes an entry, and with it lets people be reached again."""


def test_what_deletes_is_destructive_and_what_gets_reads(catalog: Catalog):
    deletes = {each.name: each.effect for each in catalog.operation if each.method == "DELETE"}
    gets = {each.name: each.effect for each in catalog.operation if each.method == "GET"}

    assert {name for name, effect in deletes.items() if effect != "destructive"} == LIFTING
    assert [catalog.get(name).effect for name in sorted(LIFTING)] == ["outward", "outward"]
    assert set(gets.values()) == {"read"}


def test_what_reaches_people_is_outward(catalog: Catalog):
    outward = {each.name for each in catalog.operation if each.effect == "outward"}

    assert outward == {
        *LIFTING,
        "upsert_lead_into_list",
        "update_custom_field",
        "import_leads_from_upload",
        "create_data_source",
        "update_data_source",
        "update_flow",
        "update_sender_profile",
        "connect_external_sender_profile",
        "create_mailbox",
        "update_mailbox",
        "update_ai_agent",
        "update_ai_template",
        "create_linkedin_browser",
        "update_linkedin_browser",
        "share_linkedin_browser",
        "create_webhook",
        "update_webhook",
        "test_webhook",
        "start_flow",
        "create_flow_version",
        "add_lead_to_flow",
        "add_lead_to_flow_source",
        "add_new_lead_to_flow",
        "enable_sender_profile",
        "create_outreach_task",
        "complete_outreach_task",
        "mass_complete_outreach_tasks",
        "mass_skip_outreach_tasks",
        "mass_retry_outreach_tasks",
        "continue_automation",
        "send_linkedin_message_as",
        "send_inmail",
        "send_linkedin_template",
        "send_linkedin_attachments",
        "send_linkedin_message_by_messenger",
        "retry_linkedin_message",
        "send_email_from",
        "send_email_with_copies",
        "send_email_template",
        "reply_to_email",
        "send_email_in_thread",
        "activate_mailbox",
        "run_linkedin_browser",
    }


def test_what_a_mass_action_does_depends_on_its_type(catalog: Catalog):
    action = catalog.get("mass_action_on_leads")

    assert {action.effect_of({"type": each}) for each in WRITES} == {"write"}
    assert {action.effect_of({"type": each}) for each in FEEDING} == {"outward"}
    assert {"enroll_in_sequence" in action.akin_to({"type": each}) for each in FEEDING} == {True}
    assert action.effect_of({"type": "contact_add_to_flow"}) == "outward"
    assert action.effect_of({"type": "contact_delete"}) == "destructive"
    assert action.effect_of({"type": "contact_something_new"}) == "destructive"
    assert action.effect_of({}) == "destructive"


def test_a_mass_action_names_whom_it_is_about(catalog: Catalog):
    found = catalog.get("mass_action_on_leads").recipient

    assert found is not None
    assert (found.lead, found.channel) == ("filter.ids", "linkedin")


def test_a_task_names_whom_it_reaches_and_what_it_says(catalog: Catalog):
    found = catalog.get("create_outreach_task")

    assert found.recipient is not None
    assert (found.recipient.lead, found.recipient.channel, found.text) == ("lead_uuid", "linkedin", "text")


def test_what_touches_keys_credentials_webhooks_browsers_and_blacklists_is_off(catalog: Catalog):
    off: dict[str, set[str]] = {}
    for each in catalog.operation:
        if each.off:
            off.setdefault(each.off, set()).add(each.name)

    browsers = {each.name for each in catalog.operation if each.path.startswith("/browsers/")}
    assert off == {
        "keys": {"create_api_key"},
        "credentials": {"create_mailbox", "update_mailbox"},
        "webhooks": {"create_webhook", "update_webhook", "test_webhook"},
        "browsers": {*browsers, "connect_external_sender_profile"},
        "blacklist": {"unblacklist_lead", "unblacklist_company"},
    }


def test_every_operation_with_a_tool_names_one_that_is_served(catalog: Catalog):
    tools = {each.tool for each in catalog.operation if each.tool}

    assert tools == {
        "crm_status",
        "search_leads",
        "get_lead",
        "create_lead",
        "import_leads",
        "update_lead",
        "delete_record",
        "list_options",
        "enroll_in_sequence",
        "unenroll_from_sequence",
        "send_linkedin_message",
        "send_email",
    }


def test_an_unknown_parameter_is_refused_with_the_valid_ones(catalog: Catalog):
    with pytest.raises(InvalidArgument, match='create_list has no parameter "nam"'):
        catalog.get("create_list").check({"nam": "Inbound"})


@pytest.mark.parametrize(("name", "arguments", "sent"), SENT)
async def test_an_operation_is_sent_as_catalogued(
    work: Work, catalog: Catalog, name: str, arguments: dict[str, Any], sent: tuple[Any, ...]
):
    operation = catalog.get(name)

    await work.crm.operate(operation, operation.check(arguments))

    last = work.there.journal[-1]
    assert (last.method, last.path, last.query, last.body) == sent
    assert last.status // 100 == 2


async def test_every_operation_that_reads_is_answered(opened: Opened, catalog: Catalog):
    async with opened(sample=True) as work:
        there = work.there
        lead, email = there.rows("lead")[0]["uuid"], there.rows("email")[0]
        known: dict[str, Any] = {
            "lead": lead, "company": there.rows("company")[0]["uuid"], "list": there.rows("list")[0]["uuid"],
            "source": there.make("data_source", status="not_started")["uuid"], "flow": there.rows("flow")[0]["uuid"],
            "version": there.rows("flow_version")[0]["uuid"], "sender": there.rows("sender")[0]["uuid"],
            "task": there.rows("task")[0]["uuid"], "email": email["uuid"], "body": email["email_body_uuid"],
            "mailbox": email["mailbox_uuid"], "attachment": there.make("attachment")["uuid"],
            "webhook": there.make("webhook")["uuid"], "agent": there.make("agent")["uuid"],
            "template": there.rows("template")[0]["uuid"], "browser": "1", "team": "4711", "object": "lead",
            "filter": {}, "sender_profile_uuid": email["sender_profile_uuid"],
            "lead_uuid": lead, "lead_name": "Jane", "lead_uuids": [lead], "uuids": [lead], "date": "2026-03-01",
            "node_ids": [2], "contact_source_ids": [1], "sender_profiles_limit": 1, "metrics": ["leads_count"],
            "period_from": "2026-01-01", "period_to": "2026-02-01", "group_field": "status",
            "file_name": there.make("file_export", file_name="contacts-1.csv")["file_name"],
        }  # fmt: skip
        further: dict[str, dict[str, Any]] = {
            "look_up_lead": {"email": there.rows("lead")[0]["work_email"]},
            "look_up_companies": {"companies": [{"name": "Acme Robotics"}]},
            "get_lead_metrics": {"metrics": ["email_sent_count"]},
            "count_leads": {"filter": {"all": True}},
        }

        for operation in (each for each in catalog.operation if each.effect == "read"):
            needed = {each.name: known[each.name] for each in operation.parameters if each.required}
            arguments = operation.check({**needed, **further.get(operation.name, {})})

            assert await work.crm.operate(operation, arguments) is not None, operation.name
