"""What changes what, when or to whom something that runs will send is outward, and says why; each operation does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crm_mcp.actions.vendor_operations.sizes import MORE_THAN_ANY
from crm_mcp.backends.catalog import Operation, load
from crm_mcp.config import VENDORS, PolicySettings
from crm_mcp.errors import Forbidden, InvalidArgument
from tests.harness.person import Person
from tests.harness.settings import OURS
from tests.harness.small_vendor import emulated_vendor

REMOTE = tuple(each for each in VENDORS if each != "local")
BEN = "00000001-0000-4000-8000-00000000000c"
OMAR = "00000001-0000-4000-8000-000000000002"
OMARS = "omar.haddad@acme-robotics.example"

ASKING_BY_POST = {
    *("check_team_limits", "search_leads_by_filter", "look_up_lead", "count_leads", "get_lead_metrics"),
    *("get_enrichment_metrics", "search_companies", "look_up_companies", "get_company_leads", "get_list_metrics"),
    *("get_tag_metrics", "download_export", "get_data_source_metrics", "get_flow_metrics", "get_flow_node_statistics"),
    *("get_flow_source_statistics", "list_flow_leads", "count_outreach_tasks", "count_linkedin_messages"),
    *("get_latest_emails", "get_email_thread_as_text", "list_linkedin_browsers"),
}
"""What only reads, although its method is none that does: searches, counts and texts that are there."""

CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("update_ai_template", {"template": "t", "body": "Buy now, {{first_name}}!", "prompt": "Be loud."}),
    ("update_flow", {"flow": "f", "schedule": {"timezone": "UTC", "timeblocks": []}}),
    ("update_sender_profile", {"sender": "s", "schedule": {"timezone": "UTC"}}),
    ("update_ai_agent", {"agent": "a", "classification_prompt": "Everybody wants more."}),
    ("update_custom_field", {"field": "c", "name": "first_name"}),
    ("create_data_source", {"type": "ln_leads_search", "list_uuid": "l", "payload": {"search": "everybody"}}),
    ("update_data_source", {"source": "d", "list_uuid": "l"}),
    ("import_leads_from_upload", {"upload": "u", "columns": [], "list_uuid": "l"}),
    ("upsert_lead_into_list", {"lead": {"first_name": "Ben"}, "list_uuid": "l", "move_to_list": True}),
]


def effects(operation: Operation) -> dict[str, str]:
    """Return the effects that an operation may have, by the value that decides them."""
    if isinstance(operation.effect, str):
        return {"": operation.effect}
    return {value: effect for value, effect in operation.effect.items() if value != "by"}


@pytest.mark.parametrize("vendor", REMOTE)
def test_everything_that_is_not_read_says_why_it_has_its_effect(vendor: str) -> None:
    silent: list[str] = []
    for each in load(vendor).operation:
        for value, effect in effects(each).items():
            by = {each.effect["by"]: value} if isinstance(each.effect, dict) else {}
            why = each.why_of(by)
            if effect != "read" and (len(why) < 10 or why.endswith(".")):
                silent.append(f"{each.name} {value}: {why!r}")
        if isinstance(each.why, dict) and each.why.keys() != {"by", *effects(each)}:
            silent.append(f"{each.name}: other values than its effect has")

    assert silent == []


def test_what_reads_by_another_method_than_get_is_known_one_by_one() -> None:
    every = [each for vendor in REMOTE for each in load(vendor).operation]

    assert {each.name for each in every if each.effect == "read" and each.method != "GET"} == ASKING_BY_POST


def test_what_starts_sends_tests_or_lets_go_on_is_no_write() -> None:
    verbs = ("activate", "enable", "start", "resume", "continue", "retry", "run", "send", "test", "complete", "skip")
    wrong = [
        each.name
        for vendor in REMOTE
        for each in load(vendor).operation
        if set(each.name.split("_")) & set(verbs) and set(effects(each).values()) & {"read", "write"}
    ]

    assert wrong == []


def test_what_a_template_flow_sender_or_agent_is_changed_by_is_outward() -> None:
    of_what_runs = ("flow", "template", "sender", "agent", "mailbox", "browser", "source", "webhook")
    changes = {
        each.name: each.effect
        for each in load("getsales").operation
        if each.name.startswith(("update_", "set_")) and not each.tool
        if any(part in each.name for part in of_what_runs)
    }

    assert {name for name, effect in changes.items() if effect != "outward"} == {
        "update_flow_workspace",  # a folder
        "set_linkedin_browser_proxy",  # where from, and neither what, when nor to whom
    }


@pytest.mark.parametrize(("name", "arguments"), CHANGES, ids=lambda each: each if isinstance(each, str) else "")
async def test_such_a_change_is_refused_until_a_person_allows_it_by_name(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    async with emulated_vendor("getsales", tmp_path, PolicySettings(write="allow", outward="allow")) as app:
        with pytest.raises(Forbidden) as refused:
            await app.call(Person("yes"), name, **arguments)

        assert f"{name} reaches people whom it does not name (" in str(refused.value)
        assert load("getsales").get(name).why_of({}) in str(refused.value)
        assert f'{name} = "confirm" in [policy.operations]' in str(refused.value)
        assert app.left == []


@pytest.mark.parametrize(("name", "arguments"), CHANGES, ids=lambda each: each if isinstance(each, str) else "")
async def test_what_is_allowed_by_name_is_asked_with_all_of_its_text(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    long = {key: f"{value} " * 60 for key, value in arguments.items() if key in ("body", "prompt")}
    policy = PolicySettings.model_validate({"operations": {name: "confirm"}, "quiet_hours": "off"})
    async with emulated_vendor("getsales", tmp_path, policy) as app:
        person = Person("no")
        result = await app.call(person, name, **arguments | long)
        [row] = (await app.store.actions.page(caller=None, status=None, lead=None, after=None, limit=9))[0]
        await app.store.limits.set_outbound(False, "a person")
        off = await app.call(Person("yes"), name, **arguments)

    assert (result["status"], off["status"], app.left) == ("declined", "blocked", [])
    assert (row.effect, row.size) == ("outward", MORE_THAN_ANY)
    text = person.asked[0].text
    assert "it reaches people whom it does not name" in text
    assert load("getsales").get(name).why_of({}) in text
    for each in long.values():
        assert f"| {each}".rstrip() in text


@pytest.mark.parametrize(
    "kind", ["contact_add_tags", "contact_change_list", "contact_change_pipeline_stage", "contact_change_custom_field"]
)
async def test_what_may_bring_leads_into_a_flow_names_them_and_tests_every_rule(tmp_path: Path, kind: str) -> None:
    async with emulated_vendor("getsales", tmp_path, PolicySettings(quiet_hours="off")) as app:
        person = Person("no", "no")
        call: dict[str, Any] = {"type": kind, "filter": {"ids": [BEN, OMAR]}, "payload": {"list_uuid": "l"}}

        declined = await app.call(person, "mass_action_on_leads", **call)
        await app.store.contacts.block({"email": OMARS}, "said so", "somebody")
        blocked = await app.call(person, "mass_action_on_leads", **call)
        with pytest.raises(InvalidArgument, match=r"filter\.all reaches people"):
            await app.call(person, "mass_action_on_leads", **call | {"filter": {"all": True}})

        assert (declined["status"], blocked["status"], app.left) == ("declined", "blocked", [])
        assert all(shown in person.asked[0].text for shown in (f'"Ben Carter" ({BEN})', f'"Omar Haddad" ({OMAR})'))
        assert "do-not-contact: Omar Haddad must not be reached by email (said so)" in blocked["reason"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("update_company", {"company": "c", "pipeline_stage_uuid": "s"}),
        ("mass_action_on_companies", {"type": "company_change_pipeline_stage", "filter": {"ids": ["c"]}}),
    ],
)
async def test_what_a_flow_may_follow_for_all_that_is_known_is_asked(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    async with emulated_vendor("getsales", tmp_path) as app:
        asked = await app.call(Person("no"), name, **arguments)
        left_out = await app.call(Person(), "update_company", company="c", name="Acme")

        assert (asked["status"], left_out["status"], len(app.left)) == ("declined", "failed", 1)


async def test_the_same_change_of_a_record_is_one_for_a_minute_and_not_for_a_day(tmp_path: Path) -> None:
    policy = PolicySettings(quiet_hours="off", outward="allow")
    async with emulated_vendor("getsales", tmp_path, policy) as app:
        tag = (await app.backend.list_options("tags"))[0].id
        call: dict[str, Any] = {"filter": {"ids": [BEN]}, "payload": {"tag_uuid": tag}}
        person = Person("yes", "yes", "yes")

        first = await app.call(person, "mass_action_on_leads", type="contact_add_tags", **call)
        again = await app.call(person, "mass_action_on_leads", type="contact_add_tags", **call)
        app.clock.advance(minutes=2)
        later = await app.call(person, "mass_action_on_leads", type="contact_add_tags", **call)

        assert [each["status"] for each in (first, again, later)] == ["done", "duplicate", "done"]


@pytest.mark.parametrize("name", ["stop_flow", "archive_flow", "disable_sender_profile", "deactivate_mailbox"])
async def test_what_only_stops_is_done_without_a_question(tmp_path: Path, name: str) -> None:
    async with emulated_vendor("getsales", tmp_path, PolicySettings(outbound="off")) as app:
        kind = {"flow": "flow", "profile": "sender", "mailbox": "mailbox"}[name.rpartition("_")[2]]

        done = await app.call(Person(), name, **{kind: app.emulator.rows(kind)[0]["uuid"]})

        assert (done["status"], len(app.left)) == ("done", 1)


@pytest.mark.parametrize("name", ["create_webhook", "test_webhook", "share_linkedin_browser", "create_mailbox"])
async def test_what_is_off_says_so_first(tmp_path: Path, name: str) -> None:
    async with emulated_vendor("getsales", tmp_path) as app:
        with pytest.raises(Forbidden, match=f"{name} is refused: it touches "):
            await app.call(Person("yes"), name)

        assert app.left == []


async def test_a_logged_in_account_is_shared_with_our_own_addresses_alone(tmp_path: Path) -> None:
    policy = PolicySettings.model_validate({"operations": {"share_linkedin_browser": "allow"}, "outward": "allow"})
    async with emulated_vendor("getsales", tmp_path, policy) as app:
        wrong = await app.call(Person("yes"), "share_linkedin_browser", browser="1", recipients=["eve@else.example"])
        right = await app.call(Person("yes"), "share_linkedin_browser", browser="1", recipients=[OURS])

        assert (wrong["status"], right["status"]) == ("blocked", "done")
        assert len(app.left) == 1
