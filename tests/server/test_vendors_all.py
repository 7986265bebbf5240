"""What all four vendors' tools do, in each era: asked of a real server, and seen in what arrived at the emulator."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from mcp_types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from .conftest import Shop
from .talk import ERAS, JANE, NO, YES, inside
from .vendors import ALL_TOOLS, SAMPLE, TOOLS, VENDORS, Plot, Vendor, acts_on, connected, town

NOBODY = "00000000-0000-4000-8000-00000000dead"
ACTS = {"action_id", "status", "summary"}
INCLUDES: dict[str, dict[str, int]] = {
    "dialsheet": {"notes": 2, "tasks": 1, "deals": 1, "messages": 3, "calls": 1},
    "salessheet": {"notes": 4, "tasks": 1, "deals": 1, "messages": 1, "calls": 1},
    "salespulse": {"deals": 1, "calls": 2},
    "getsales": {"notes": 1, "messages": 3},
}
"""What can be included, and how many the sample's Jane has."""
RESOURCES: dict[str, set[str]] = {
    "dialsheet": {"crm://pipeline", "crm://sequences", "crm://status"},
    "salessheet": {"crm://pipeline", "crm://status"},
    "salespulse": {"crm://pipeline", "crm://status"},
    "getsales": {"crm://pipeline", "crm://sequences", "crm://status"},
}
OPERATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "dialsheet": ("list_tags", {}, "fair"),
    "salessheet": ("get_me", {}, "Fern and Field"),
    "salespulse": ("list_calls", {}, "call_000001"),
    "getsales": ("list_ai_templates", {}, "First hello"),
}
"""An operation that only reads, and what is in its answer."""


@pytest.fixture(params=[f"{name}-{era}" for name in VENDORS for era in ERAS])
def crm(request: pytest.FixtureRequest, shop: Shop) -> Vendor:
    name, era = request.param.split("-")
    return shop(name, era)


@pytest.fixture(params=["dialsheet-modern", "salessheet-legacy", "salespulse-modern", "getsales-legacy"])
def mute(request: pytest.FixtureRequest, shop: Shop) -> Vendor:
    name, era = request.param.split("-")
    return shop(name, era, asked=False)


def test_the_tools_of_a_vendor_change_only_in_a_visible_diff(crm: Vendor) -> None:
    tools = crm.talk.tools()

    assert set(tools) == TOOLS[crm.name]
    for each in tools.values():
        assert each.annotations
        assert None not in (each.annotations.read_only_hint, each.annotations.destructive_hint)


def test_a_tool_that_the_vendor_can_not_serve_is_unsupported(crm: Vendor) -> None:
    for tool in ALL_TOOLS - TOOLS[crm.name]:
        line = crm.refused(tool)
        assert line == f"unsupported: {crm.name} can't do {tool}; see crm_status for what it can do"

    assert crm.left == []


# Finding and reading


def test_leads_are_found_page_by_page_and_all_of_them(crm: Vendor) -> None:
    people = {each[crm.sample.fields[0]] for each in crm.sample.people(crm.there)}

    rows = crm.pages("search_leads", "leads", 5)

    assert len(rows) == len(people)
    assert {each["id"] for each in rows} == people
    assert crm.ok("search_leads", limit=1)["total"] == len(people)
    assert crm.left == []


def test_leads_are_found_by_words(crm: Vendor) -> None:
    found = crm.ok("search_leads", query="Whitfield")["leads"]

    assert [each["id"] for each in found] == [crm.sample.jane]
    assert crm.ok("search_leads", query="nobodyhasthisname")["leads"] == []


def test_a_lead_is_read_by_id_address_and_number(crm: Vendor) -> None:
    for key in (crm.sample.jane, JANE, JANE.upper(), "+12125550100", "+1 (212) 555-0100"):
        lead = crm.ok("get_lead", lead=key)["lead"]
        assert (lead["id"], lead["name"], lead["email"]) == (crm.sample.jane, "Jane Whitfield", JANE)
        assert (lead["phone"], lead["company"], lead["title"]) == (
            "+12125550100",
            "Acme Robotics",
            "Head of Operations",
        )


def test_a_lead_is_read_with_what_the_vendor_has_of_it_and_the_rest_is_named(crm: Vendor) -> None:
    able = INCLUDES[crm.name]

    found = crm.ok("get_lead", lead=crm.sample.jane, include=list(able))

    assert {name: len(found[name]) for name in able} == able
    for name in {"notes", "tasks", "deals", "messages", "calls"} - set(able):
        line = crm.refused("get_lead", lead=crm.sample.jane, include=[name])
        assert line == f"unsupported: {crm.name} has no {name} of a lead; include can have {', '.join(able)}"


def test_a_filter_that_the_vendor_has_not_is_refused_with_those_that_it_has(crm: Vendor) -> None:
    given = {"status": "x", "tag": "x", "stage": "x", "owner": "x", "list": "x", "created_after": "2026-01-01"}
    able = set(crm.sample.filters.split(", "))
    assert set(given) - able

    for name in set(given) - able:
        line = crm.refused("search_leads", **{name: given[name]})
        assert line == f"unsupported: {crm.name} can't filter leads by {name}; it can by {crm.sample.filters}"
    assert crm.refused("search_leads", sort="colour").startswith(
        'invalid_argument: sort is "colour"; valid: -created_at'
    )
    assert crm.there.journal == []


def test_what_is_not_there_is_not_found(crm: Vendor) -> None:
    for tool, arguments in (
        ("get_lead", {"lead": NOBODY}),
        ("get_lead", {"lead": "nobody@nowhere.example"}),
        ("get_lead", {"lead": "+12125559999"}),
        ("update_lead", {"lead": NOBODY, "title": "CTO"}),
        ("list_activity", {"lead": NOBODY}),
        ("delete_record", {"kind": "lead", "id": NOBODY}),
        ("set_do_not_contact", {"lead": NOBODY, "blocked": True}),
        ("move_stage", {"lead": NOBODY, "stage": "x"}),
        ("get_call", {"call": NOBODY}),
        ("update_task", {"task": NOBODY, "completed": True}),
        ("update_deal", {"deal": NOBODY, "value": 1}),
        ("undo_action", {"action_id": "a_none"}),
    ):
        if tool in TOOLS[crm.name]:
            assert crm.refused(tool, **arguments).startswith("not_found: "), tool

    assert crm.left == []
    assert crm.talk.user.asked == []


def test_ids_can_not_leave_their_place_in_a_path(crm: Vendor) -> None:
    for wrong in ("../me", "..", "x/../../me", "a?b=1", "a#b", "%2e%2e%2f"):
        line = crm.refused("get_lead", lead=wrong)
        assert line.startswith("not_found: "), line

    form = crm.sample.number_of.removesuffix("{}")
    assert all(each.path.startswith(form) and each.path.count("/") == form.count("/") for each in crm.there.journal)


# Writing


def test_a_lead_is_created_once_and_then_is_a_conflict_skipped_or_updated(crm: Vendor) -> None:
    new = {"name": "Ada Byron", "email": "ada@byron.example", "phone": "+12125550190", **crm.sample.new}

    made = crm.done("create_lead", **new)

    assert made["outcome"] == "created"
    assert (made["lead"]["name"], made["lead"]["email"], made["lead"]["phone"]) == (*list(new.values())[:3],)
    assert [(method, path) for method, path, _ in crm.written] == [("POST", crm.sample.made_at)]
    person = crm.person(made["lead"]["id"])
    assert person is not None
    assert person[crm.sample.fields[1]] == "ada@byron.example"
    same = crm.ok("create_lead", **new)
    assert (same["status"], same["lead"]["id"]) == ("duplicate", made["lead"]["id"])
    for twin in ({**new, "title": "Poet"}, {**new, "phone": None}, {**new, "email": None, "name": "Ada"}):
        given = {name: value for name, value in twin.items() if value}
        line = crm.refused("create_lead", **given)
        assert line.startswith("conflict: ")
        assert made["lead"]["id"] in line
        assert line.endswith("nothing was written")
        assert crm.done("create_lead", **given, if_exists="skip")["outcome"] == "skipped"
    assert len(crm.left) == 1
    updated = crm.done("create_lead", **new, title="Countess", if_exists="update")
    assert (updated["outcome"], updated["lead"]["id"]) == ("updated", made["lead"]["id"])
    assert crm.title(made["lead"]["id"]) == "Countess"


def test_a_lead_is_changed_at_the_vendor_and_back_again(crm: Vendor) -> None:
    jane = crm.sample.jane

    changed = crm.done("update_lead", lead=JANE, title="COO")

    assert (changed["changed"], changed["lead"]["title"], crm.title(jane)) == (["title"], "COO", "COO")
    assert [(method, path) for method, path, _ in crm.written] == [(crm.sample.changed_by, crm.place(jane))]
    assert list(crm.left[0].body.values()) == ["COO"]
    crm.undo(changed)
    assert crm.title(jane) == "Head of Operations"
    assert crm.ok("undo_action", action_id=changed["action_id"])["status"] == "duplicate"
    assert len(crm.left) == 2


def test_a_new_name_is_taken_back_with_its_parts(crm: Vendor) -> None:
    lead = crm.sample.jane
    before = crm.ok("get_lead", lead=lead)["lead"]
    names = ("name", "first_name", "last_name")

    changed = crm.done("update_lead", lead=lead, name="Jo van der Berg")
    assert changed["lead"]["name"] == "Jo van der Berg"
    assert all(changed["lead"].get(each, "Jo van der Berg") in "Jo van der Berg" for each in names)
    crm.undo(changed)

    after = crm.ok("get_lead", lead=lead)["lead"]
    assert [after.get(each) for each in names] == [before.get(each) for each in names]


def test_an_undo_is_refused_with_both_values_when_the_record_has_changed_since(crm: Vendor) -> None:
    changed = crm.done("update_lead", lead=JANE, title="COO")
    person = crm.person(crm.sample.jane)
    assert person is not None
    person[crm.sample.fields[2]] = "CEO"

    line = crm.refused("undo_action", action_id=changed["action_id"])

    assert line.startswith('conflict: the record has changed since: title is "CEO", it was "COO" after the action')
    assert len(crm.left) == 1


def test_another_leads_address_can_not_be_taken(crm: Vendor) -> None:
    line = crm.refused("update_lead", lead=JANE, email="omar.haddad@acme-robotics.example")

    assert line.startswith("conflict: ")
    assert crm.left == []


def test_leads_are_imported_and_every_bad_row_is_told(crm: Vendor) -> None:
    column = f",{','.join(crm.sample.new)}" if crm.sample.new else ""
    value = f",{','.join(crm.sample.new.values())}" if crm.sample.new else ""
    rows = ["Ada Byron,ada@byron.example", "Bob Stone,bob@stone.example", "Bad,no address", f"Jane Whitfield,{JANE}"]
    csv = "\n".join([f"name,email{column}", *(f"{row}{value}" for row in rows)])
    before = len(crm.sample.people(crm.there))

    first = crm.done("import_leads", csv=csv)
    again = crm.done("import_leads", csv=f"{csv}\n")

    assert first["counts"] == {"created": 2, "updated": 0, "skipped": 1, "failed": 1}
    assert [each["row"] for each in first["failed"]] == ["line 4"]
    assert again["counts"] == {"created": 0, "updated": 0, "skipped": 3, "failed": 1}
    addresses = [each.get(crm.sample.fields[1]) for each in crm.sample.people(crm.there)]
    assert len(addresses) == before + 2
    assert {"ada@byron.example", "bob@stone.example"} <= set(addresses)


def test_a_deletion_is_asked_and_happens_once(crm: Vendor) -> None:
    jane = crm.sample.jane

    crm.asked("delete_record", "Jane Whitfield", kind="lead", id=jane)

    assert crm.written == [("DELETE", crm.place(jane), None)]
    assert crm.person(jane) is None
    assert crm.refused("get_lead", lead=jane).startswith("not_found: ")


def test_who_is_blocked_stays_blocked_until_a_person_lifts_it(crm: Vendor) -> None:
    blocked = crm.done("set_do_not_contact", lead=JANE, blocked=True)
    assert "email" in blocked["channels"]
    assert crm.talk.user.asked == []

    crm.talk.user.answer = NO
    assert crm.ok("set_do_not_contact", lead=JANE, blocked=False)["status"] == "declined"
    crm.talk.user.answer = YES
    lifted = crm.done("set_do_not_contact", lead=JANE, blocked=False)

    assert lifted["channels"] == []
    assert len(crm.talk.user.asked) == 2


# What was done, what there is


def test_what_was_done_is_listed_page_by_page(crm: Vendor) -> None:
    start = crm.ok("list_changes")["next_cursor"]
    done = [crm.done("update_lead", lead=JANE, title=f"Title {n}") for n in range(3)]

    actions = crm.ok("list_actions", lead=JANE, limit=3)
    changes = crm.ok("list_changes", cursor=start)["changes"]

    assert [each["action_id"] for each in actions["actions"]] == [each["action_id"] for each in reversed(done)]
    assert {each["lead_id"] for each in actions["actions"]} == {crm.sample.jane}
    assert [each["id"] for each in changes] == [crm.sample.jane] * 3


def test_the_history_of_a_lead_is_listed_page_by_page(crm: Vendor) -> None:
    whole = crm.pages("list_activity", "items", 2, lead=JANE)

    times = [each["at"] for each in whole]
    assert times == sorted(times, reverse=True)
    assert len({each["id"] for each in whole}) == len(whole) >= 2
    kind = whole[0]["kind"]
    chosen = crm.ok("list_activity", lead=JANE, kinds=[kind])["items"]
    assert [each["id"] for each in chosen] == [each["id"] for each in whole if each["kind"] == kind]


def test_options_are_listed_and_kinds_that_the_vendor_has_not_are_refused(crm: Vendor) -> None:
    kinds = ("stages", "statuses", "tags", "sequences", "mailboxes", "senders", "lists", "custom_fields", "owners")
    lacking: list[str] = []

    for kind in kinds:
        result = crm.talk.call("list_options", kind=kind)
        if result.is_error:
            lacking.append(kind)
            assert crm.refused("list_options", kind=kind).startswith(f"unsupported: {crm.name} has no {kind}; it has ")
        else:
            assert all(each["id"] and each["name"] for each in result.structured_content["options"])
            assert result.structured_content["options"]

    assert lacking == {
        "dialsheet": ["senders", "lists", "custom_fields", "owners"],
        "salessheet": list(kinds[1:]),
        "salespulse": list(kinds[1:]),
        "getsales": ["owners"],
    }[crm.name]  # fmt: skip


def test_the_state_of_the_connection_is_told(crm: Vendor) -> None:
    status = crm.ok("crm_status")

    [connection] = status["connections"]
    assert (connection["crm"], connection["vendor"], connection["status"]) == (crm.name, crm.name, "ok")
    assert connection["rate_budget"][0]["name"] == "minute"
    assert 0 < connection["rate_budget"][0]["remaining"] <= connection["rate_budget"][0]["limit"]
    assert "FindsLeads" in connection["capabilities"]
    assert crm.there.key not in str(status)


def test_the_long_tail_is_found_and_read(crm: Vendor) -> None:
    operation, arguments, inside = OPERATIONS[crm.name]

    found = crm.ok("find_operation", query=operation)["operations"]
    answer = crm.ok("read_operation", operation=operation, arguments=arguments)["answer"]

    assert found[0]["name"] == operation
    assert inside in str(answer)
    assert crm.refused("call_operation", operation=operation, arguments=arguments).startswith("invalid_argument: ")
    assert crm.left == []


# Resources, completion, prompts


def read(crm: Vendor, uri: str) -> str:
    [content] = crm.talk.run(crm.talk.client.read_resource, uri).contents
    assert isinstance(content, TextResourceContents)
    return inside(content.text)


def test_resources_are_listed_and_read(crm: Vendor) -> None:
    listed = {each.uri for each in crm.talk.run(crm.talk.client.list_resources).resources}

    assert listed == RESOURCES[crm.name]
    pages = {uri: read(crm, uri) for uri in listed}
    assert all(page.startswith("# ") for page in pages.values())
    assert (
        "| Negotiation |" in pages["crm://pipeline"]
        or "| Quoted |" in pages["crm://pipeline"]
        or ("| Demo booked |" in pages["crm://pipeline"])
    )
    assert crm.there.key not in "".join(pages.values())
    lead = read(crm, f"crm://leads/{JANE}")
    assert lead.startswith("# Jane Whitfield\n")
    assert ("## Open deals" in lead) == ("list_deals" in TOOLS[crm.name])
    assert len(read(crm, f"crm://leads/{crm.sample.jane}/activity").splitlines()) > 3


def test_a_lead_is_completed_and_prompts_are_filled_in(crm: Vendor) -> None:
    client, run = crm.talk.client, crm.talk.run

    for reference in (ResourceTemplateReference(uri="crm://leads/{lead}"), PromptReference(name="follow_up")):
        values = run(client.complete, reference, {"name": "lead", "value": "whitf"}).completion.values
        assert values == [JANE]
    for name, arguments in (("follow_up", {"lead": JANE}), ("log_call", {"lead": JANE, "notes": "She wants {it}"})):
        [message] = run(client.get_prompt, name, arguments).messages
        assert isinstance(message.content, TextContent)
        assert f"Jane Whitfield ({crm.sample.jane})" in inside(message.content.text)
    assert crm.left == []


# Clients that can't be asked, settings, several servers


def test_a_client_that_can_not_be_asked_confirms_exactly_what_was_shown_once(mute: Vendor) -> None:
    jane = mute.sample.jane

    asked = mute.ok("delete_record", kind="lead", id=jane)
    assert (asked["status"], mute.left) == ("confirmation_required", [])
    assert {*ACTS, "preview", "expires_at"} <= set(asked)
    assert mute.refused("confirm_action", action_id=asked["action_id"], summary="yes").startswith("invalid_argument: ")
    assert mute.left == []
    done = mute.ok("confirm_action", action_id=asked["action_id"], summary=asked["summary"])
    again = mute.ok("confirm_action", action_id=asked["action_id"], summary=asked["summary"])

    assert (done["status"], again["status"]) == ("done", "duplicate")
    assert mute.written == [("DELETE", mute.place(jane), None)]
    assert mute.person(jane) is None


def test_a_dry_run_leaves_nothing_at_any_vendor(portal: BlockingPortal, tmp_path: Path) -> None:
    with town(portal, tmp_path, {name: Plot(name) for name in VENDORS}, dry_run="true") as there:
        for name in VENDORS:
            sample = SAMPLE[name]
            acts: dict[str, dict[str, Any]] = {
                "create_lead": {"name": "Ada Byron", "email": "ada@byron.example", **sample.new},
                **acts_on(JANE),
                "import_leads": {"leads": [{"name": "Ada Byron", **sample.new}]},
                "delete_record": {"kind": "lead", "id": sample.jane},
            }

            for tool in acts.keys() & TOOLS[name]:
                result = there.talk.call(tool, crm=name, **acts[tool]).structured_content
                assert (result["status"], result["crm"]) == ("dry_run", name), tool
                assert result["preview"]

            assert there.writes(name) == []
        assert there.talk.user.asked == []


def test_read_only_settings_serve_reading_tools_alone(portal: BlockingPortal, tmp_path: Path) -> None:
    with town(portal, tmp_path, {name: Plot(name) for name in VENDORS}, read_only="true") as there:
        tools = there.talk.tools()

        assert set(tools) < ALL_TOOLS
        assert all(each.annotations and each.annotations.read_only_hint for each in tools.values())
        for name in VENDORS:
            found = there.talk.call("get_lead", crm=name, lead=JANE).structured_content
            assert found["lead"]["id"] == SAMPLE[name].jane
            assert there.talk.refused("update_lead", crm=name, lead=JANE, title="x").startswith("forbidden: ")
            assert there.writes(name) == []


def test_two_servers_on_one_folder_and_key_do_not_disturb_each_other(portal: BlockingPortal, tmp_path: Path) -> None:
    with (
        connected(portal, tmp_path, "salespulse") as one,
        connected(portal, tmp_path, "salespulse", "legacy", there=one.there) as other,
        ThreadPoolExecutor() as threads,
    ):
        waiting = [
            threads.submit(crm.done, "create_lead", name=f"Ada {n}", email=f"ada{n}{crm.talk.era}@byron.example")
            for n in range(10)
            for crm in (one, other)
        ]
        made = {each.result()["lead"]["id"] for each in waiting}

        assert len(made) == 20
        assert made <= {each["id"] for each in one.sample.people(one.there)}
        assert len(one.left) == 20
        assert len(one.ok("list_actions", limit=100)["actions"]) == 20
        assert 429 not in {each.status for each in one.there.journal}
