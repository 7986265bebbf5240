"""The long tail over a real server process against the vendors' emulators: reached, and no way round a guard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from crm_mcp.backends.catalog import Operation, load
from crm_mcp.config import Connection, PolicySettings, Settings
from crm_mcp.errors import SettingsError
from crm_mcp.sandbox import EMULATORS, emulator_of
from crm_mcp.sandbox.emulator import Emulator, Entry
from crm_mcp.sandbox.serving import serving
from crm_mcp.server.app import Application
from crm_mcp.server.tools import TOOLS

from .conftest import Shop, Start
from .talk import DECLINE, NO, YES, Era, Talk, text_in

VENDORS = tuple(EMULATORS)
VENDOR_TOOLS = ("find_operation", "read_operation", "call_operation")
BEN = "00000001-0000-4000-8000-00000000000c"
OMAR = "00000001-0000-4000-8000-000000000002"
SENDER = "00000014-0000-4000-8000-000000000001"
LOOKS = ("/search", "/lookup-one")
"""Ends of the paths of what asks, although it is a POST."""
TASK = {
    "lead_uuid": BEN,
    "sender_profile_uuid": SENDER,
    "text": "Hello Ben | how are you?",
    "schedule_at": "2030-01-02T10:00:00Z",
    "type": "linkedin_send_message",
}


class Tail:
    """A server in front of an emulator."""

    def __init__(self, talk: Talk, emulator: Emulator) -> None:
        self.talk = talk
        self.emulator = emulator

    @property
    def left(self) -> list[Entry]:
        """What left for the vendor and could have changed something."""
        return [each for each in self.emulator.journal if each.method != "GET" and not each.path.endswith(LOOKS)]


Begin = Callable[..., Tail]


@pytest.fixture
def begin(start: Start, shop: Shop, tmp_path: Path) -> Generator[Begin]:
    """Give a server in front of an emulator: with settings of its own it is started, else one serves many tests."""
    with ExitStack() as stack:

        def begun(
            vendor: str = "getsales", era: Era = "modern", /, *, asked: bool = True, policy: str = "", **settings: str
        ) -> Tail:
            if not policy and not settings:
                known = shop(vendor, era, asked=asked)
                return Tail(known.talk, known.there)
            emulator = emulator_of(vendor)(sample=True)
            url = stack.enter_context(serving(emulator))
            given = {"vendor": vendor, "api_key": emulator.key, "base_url": url, **settings}
            if policy:
                (tmp_path / "policy.toml").write_text(policy)
                given["config"] = str(tmp_path / "policy.toml")
            return Tail(start(era, asked=asked, settings=given), emulator)

        yield begun


# What the tools are


def test_the_three_tools_are_listed_with_few_tokens_and_true_hints(begin: Begin) -> None:
    tools = begin("dialsheet").talk.tools()

    listed = [tools[name] for name in VENDOR_TOOLS]
    seen = [{"name": each.name, "about": each.description, "schema": each.input_schema} for each in listed]
    assert len(json.dumps(seen)) / 4 < 320
    hints = [each.annotations for each in listed]
    assert [each.read_only_hint for each in hints if each] == [True, True, False]
    assert [each.destructive_hint for each in hints if each] == [False, False, True]
    assert [each.open_world_hint for each in hints if each] == [False, False, True]


def test_the_embedded_crm_has_no_long_tail(crm: Talk) -> None:
    assert not {*VENDOR_TOOLS} & set(crm.tools())


def test_read_only_leaves_finding_and_reading(begin: Begin) -> None:
    tail = begin("dialsheet", read_only="true")

    assert {*VENDOR_TOOLS} & set(tail.talk.tools()) == {"find_operation", "read_operation"}
    assert tail.talk.refused("call_operation", operation="create_tag").startswith("forbidden: ")
    assert tail.left == []


def test_an_excluded_tool_is_gone(begin: Begin) -> None:
    tail = begin("dialsheet", exclude_tools="call_operation")

    assert "call_operation" not in tail.talk.tools()
    assert tail.talk.refused("call_operation", operation="create_tag", arguments={"name": "x"})
    assert tail.left == []


# Dialsheet


@pytest.mark.parametrize("era", get_args(Era))
def test_an_operation_is_found_read_and_called(begin: Begin, era: Era) -> None:
    tail = begin("dialsheet", era)

    found = tail.talk.ok("find_operation", query="tags")["operations"]
    before = tail.talk.ok("read_operation", operation="list_tags")["answer"]
    done = tail.talk.ok("call_operation", operation="create_tag", arguments={"name": "Trade fair | 2030; ümläut"})
    after = tail.talk.ok("read_operation", operation="list_tags", arguments={})["answer"]

    assert [each["name"] for each in found] == ["list_tags", "create_tag"]
    assert found[0]["tool"] == "list_options"
    assert set(found[1]) == {"name", "summary", "method", "path", "effect", "parameters", "note"}
    assert (done["status"], done["result"]["answer"]["tag"]["name"]) == ("done", "Trade fair | 2030; ümläut")
    assert [(each.method, each.path, each.body) for each in tail.left] == [
        ("POST", "/api/v1/tags", {"name": "Trade fair | 2030; ümläut"})
    ]
    assert after["total"] == before["total"] + 1
    assert tail.talk.user.asked == []


@pytest.mark.parametrize(
    ("tool", "arguments", "line"),
    [
        ("call_operation", {"operation": "send_sms", "arguments": {"lead_id": "1"}}, "unsupported: .* use send_sms"),
        ("call_operation", {"operation": "delete_lead"}, "unsupported: .* use delete_record"),
        ("call_operation", {"operation": "list_tags"}, "invalid_argument: list_tags only reads; use read_operation"),
        ("call_operation", {"operation": "creat_tag"}, 'invalid_argument: .*nearest: "create_tag"; find_operation .*'),
        ("call_operation", {"operation": ""}, "invalid_argument: .*"),
        ("call_operation", {"operation": "x" * 300}, "invalid_argument: .*at most 200.*"),
        ("call_operation", {}, "invalid_argument: .*operation is missing.*"),
        ("read_operation", {"operation": "get_lead"}, "invalid_argument: get_lead needs id; give text: id of the lead"),
        ("call_operation", {"operation": "create_tag", "arguments": []}, "invalid_argument: .*"),
        ("call_operation", {"operation": "create_tag", "arguments": "{}"}, "invalid_argument: .*"),
        (
            "call_operation",
            {"operation": "create_tag", "arguments": {"name": 5}},
            "invalid_argument: name is no string.*",
        ),
        (
            "call_operation",
            {"operation": "create_tag", "arguments": {"name": "x" * 60_000}},
            "invalid_argument: .*20000.*",
        ),
        ("call_operation", {"operation": "create_tag", "name": "x"}, 'invalid_argument: .*no parameter "name".*'),
        (
            "read_operation",
            {"operation": "create_tag", "arguments": {"name": "x"}},
            "invalid_argument: .*call_operation",
        ),
        (
            "read_operation",
            {"operation": "get_lead", "arguments": {"id": "../tags"}},
            'invalid_argument: id is "../tags".*',
        ),
        ("read_operation", {"operation": "get_lead", "arguments": {"id": ""}}, "invalid_argument: .*"),
        ("read_operation", {"operation": "get_lead", "arguments": {"id": "a/b"}}, "invalid_argument: .*"),
        ("read_operation", {"operation": "get_lead", "arguments": {"id": 7}}, "invalid_argument: id is no string.*"),
        (
            "read_operation",
            {"operation": "list_leads", "arguments": {"limit": "ten"}},
            "invalid_argument: limit is no in.*",
        ),
        ("find_operation", {"query": " "}, "invalid_argument: .*"),
    ],
)
def test_bad_input_is_told_in_one_line_and_nothing_leaves(
    begin: Begin, tool: str, arguments: dict[str, Any], line: str
) -> None:
    tail = begin("dialsheet")

    told = tail.talk.refused(tool, **arguments)

    assert re.fullmatch(line, told), told
    assert len(told) < 1500
    assert tail.emulator.journal == []
    assert tail.talk.user.asked == []


def test_a_record_that_is_not_there_is_not_found(begin: Begin) -> None:
    tail = begin("dialsheet")

    assert tail.talk.refused("read_operation", operation="get_lead", arguments={"id": "nobody"}).startswith(
        "not_found: "
    )


def test_an_answer_is_masked_and_fits_however_large_it_is(begin: Begin) -> None:
    tail = begin("dialsheet")
    row = {
        "text": "x" * 300,
        "Access-Token": "secret-1",
        "nested": [{"password": "secret-2"}],
        "own": tail.emulator.key,
    }
    tail.emulator.fail("status", status=200, path=".*/tags", body={"tags": [row] * 5000, "total": 5000})

    result = tail.talk.call("read_operation", operation="list_tags")

    whole = text_in(result) + json.dumps(result.structured_content)
    assert "secret-" not in whole
    assert tail.emulator.key not in whole
    answer = result.structured_content["answer"]
    assert answer["total"] == 5000
    assert answer["tags"][0]["nested"] == [{"password": "***"}]
    assert answer["tags"][-1] == {"left_out": f"{5001 - len(answer['tags'])} more rows: ask for fewer at once"}


def test_a_dry_run_does_nothing(begin: Begin) -> None:
    tail = begin("dialsheet", dry_run="true")

    shown = tail.talk.ok("call_operation", operation="create_tag", arguments={"name": "vip"})

    assert (shown["status"], tail.left) == ("dry_run", [])
    assert "POST /api/v1/tags" in shown["preview"]


def test_a_lost_answer_is_unknown_and_nothing_is_repeated(begin: Begin) -> None:
    tail = begin("dialsheet")
    tail.emulator.fail("drop_after", method="POST", times=9)

    result = tail.talk.ok("call_operation", operation="create_tag", arguments={"name": "vip"})

    assert (result["status"], len(tail.left)) == ("unknown", 1)


# GetSales


def test_what_is_found_is_short_however_much_there_is(begin: Begin) -> None:
    tail = begin()

    found = [tail.talk.ok("find_operation", query=words) for words in ("list", "leads", "a", "zeppelin")]

    assert [len(each["operations"]) for each in found] == [15, 15, 15, 0]
    assert [each["left_out"]["operations"] > 0 for each in found[:3]] == [True] * 3
    assert "left_out" not in found[3]
    every = load("getsales").operation
    assert all(15 + each["left_out"]["operations"] <= len(every) for each in found[:3])
    assert tail.emulator.journal == []


@pytest.mark.parametrize("era", get_args(Era))
def test_a_task_that_writes_to_a_lead_is_asked_and_exactly_that_is_sent(begin: Begin, era: Era) -> None:
    tail = begin("getsales", era)
    for answer in (NO, DECLINE):
        tail.talk.user.answer = answer
        assert tail.talk.ok("call_operation", operation="create_outreach_task", arguments=TASK)["status"] == "declined"
    assert tail.left == []

    tail.talk.user.answer = YES
    done = tail.talk.ok("call_operation", operation="create_outreach_task", arguments=TASK)

    assert done["status"] == "done"
    assert [(each.method, each.path, each.body) for each in tail.left] == [("POST", "/flows/api/tasks", TASK)]
    question = tail.talk.user.asked[-1]
    for shown in (
        "Ben Carter",
        "ben-carter-sandbox",
        BEN,
        TASK["text"],
        "POST /flows/api/tasks",
        "2030-01-02T10:00:00Z",
    ):
        assert shown in question


def test_a_client_that_can_t_be_asked_confirms_exactly_what_was_shown_once(begin: Begin) -> None:
    tail = begin(asked=False)

    asked = tail.talk.ok("call_operation", operation="create_outreach_task", arguments=TASK)
    assert (asked["status"], tail.left) == ("confirmation_required", [])
    assert tail.talk.refused("confirm_action", action_id=asked["action_id"], summary="yes, do it")
    assert tail.left == []
    done = tail.talk.ok("confirm_action", action_id=asked["action_id"], summary=asked["summary"])
    again = tail.talk.ok("confirm_action", action_id=asked["action_id"], summary=asked["summary"])

    assert (done["status"], again["status"]) == ("done", "duplicate")
    assert [each.body for each in tail.left] == [TASK]


@pytest.mark.parametrize("asked", [True, False])
def test_call_operation_is_no_way_round_a_guard(begin: Begin, asked: bool) -> None:
    tail = begin(asked=asked)
    everybody = {"type": "contact_add_to_flow", "filter": {"all": True}, "payload": {"flow_uuid": "f"}}
    both = {**everybody, "filter": {"ids": [BEN], "all": True}}
    attempts: list[tuple[str, dict[str, Any], str]] = [
        ("send_linkedin_message_as", {"sender_profile_uuid": SENDER, "lead_uuid": BEN, "text": "x"}, "unsupported"),
        ("send_email_from", {"mailbox_uuid": "m", "to": [], "subject": "x", "body": "x"}, "unsupported"),
        ("add_lead_to_flow", {"lead": BEN, "flow": "f"}, "unsupported"),
        ("cancel_lead_from_flows", {"lead": BEN, "flow_uuids": []}, "unsupported"),
        ("delete_lead_record", {"lead": BEN}, "unsupported"),
        ("update_lead_record", {"lead": BEN, "work_email": "x@else.example"}, "unsupported"),
        ("mass_action_on_leads", everybody, "invalid_argument"),
        ("mass_action_on_leads", both, "invalid_argument"),
        ("mass_action_on_leads", {**everybody, "filter": {"ids": []}}, "invalid_argument"),
        ("mass_action_on_leads", {**everybody, "filter": {"ids": [BEN] * 2 + ["x"]}}, "not_found"),
        ("mass_action_on_leads", {**everybody, "filter": {"ids": [f"x{n}" for n in range(101)]}}, "invalid_argument"),
        ("create_outreach_task", {**TASK, "lead_uuid": "ben.carter@lumen-optics.example"}, "not_found"),
        ("add_new_lead_to_flow", {"flow": "f", "lead": {}, "list_uuid": "l"}, "forbidden"),
        ("start_flow", {"flow": "f"}, "forbidden"),
        ("retry_linkedin_message", {"message": "m"}, "forbidden"),
        ("mass_retry_outreach_tasks", {"uuids": ["t"]}, "forbidden"),
        ("complete_outreach_task", {"task": "t"}, "forbidden"),
        ("mass_skip_outreach_tasks", {"uuids": ["t"]}, "forbidden"),
        ("unblacklist_lead", {"entry": "e"}, "forbidden"),
        ("create_api_key", {"name": "mine"}, "forbidden"),
        ("create_webhook", {"name": "x", "event": "contact_created", "target_url": "https://e.example"}, "forbidden"),
        ("create_mailbox", {}, "forbidden"),
        ("run_linkedin_browser", {"browser": "1"}, "forbidden"),
    ]

    for name, arguments, code in attempts:
        line = tail.talk.refused("call_operation", operation=name, arguments=arguments)
        assert line.startswith(f"{code}: "), (name, line)
    assert tail.talk.refused("read_operation", operation="list_linkedin_browsers").startswith("forbidden: ")
    assert tail.talk.refused("read_operation", operation="start_flow", arguments={"flow": "f"}).startswith("inv")

    assert tail.left == []
    assert tail.talk.user.asked == []


def test_what_a_tool_lacks_of_an_operation_is_asked_and_sent(begin: Begin) -> None:
    tail = begin()
    inmail = {"sender_profile_uuid": SENDER, "lead_uuid": BEN, "text": "Hello Ben", "subject": "Prices"}

    done = tail.talk.ok("call_operation", operation="send_inmail", arguments=inmail)

    assert done["status"] == "done"
    assert [(each.path, each.body) for each in tail.left] == [("/flows/api/linkedin-messages", inmail)]
    assert all(shown in tail.talk.user.asked[-1] for shown in ("Ben Carter", "Hello Ben", "Prices"))


def test_a_copy_goes_to_nobody_whose_address_is_not_that_of_a_lead_named(begin: Begin) -> None:
    tail = begin()
    mailboxes = tail.talk.ok("read_operation", operation="list_mailboxes")["answer"]["data"]
    mailbox = next(each for each in mailboxes if each["status"] == "active")
    to = [{"to_email": "ben.carter@lumen-optics.example"}]
    mail = {"mailbox_uuid": mailbox["uuid"], "to": to, "subject": "Hi", "body": "Hello", "lead_uuid": BEN}

    copied = tail.talk.ok(
        "call_operation", operation="send_email_with_copies", arguments={**mail, "cc": ["x@else.example"]}
    )
    assert (copied["status"], tail.left) == ("blocked", [])
    assert "x@else.example" in copied["reason"]

    plain = tail.talk.ok("call_operation", operation="send_email_with_copies", arguments={**mail, "cc": []})
    assert plain["status"] == "done"
    assert [each.body for each in tail.left] == [{**mail, "cc": []}]


def test_who_must_not_be_contacted_is_not_reached_by_any_operation(begin: Begin) -> None:
    tail = begin()
    tail.talk.ok("set_do_not_contact", lead=BEN, blocked=True, channels=["email"])
    tail.emulator.journal.clear()
    flow = {"type": "contact_add_to_flow", "filter": {"ids": [OMAR, BEN]}, "payload": {"flow_uuid": "f"}}

    enrolled = tail.talk.ok("call_operation", operation="mass_action_on_leads", arguments=flow)
    mail = tail.talk.ok(
        "call_operation", operation="create_outreach_task", arguments={**TASK, "type": "email_send_message"}
    )

    assert (enrolled["status"], mail["status"], tail.left) == ("blocked", "blocked", [])
    assert "do-not-contact: Ben Carter must not be reached by email" in enrolled["reason"]
    assert tail.talk.ok("call_operation", operation="create_outreach_task", arguments=TASK)["status"] == "done"


@pytest.mark.parametrize(
    ("policy", "arguments", "asked"),
    [
        ("", {"type": "contact_mark_read"}, 0),
        ("", {"type": "contact_mark_read", "filter": {"all": True}}, 1),
        ("", {"type": "contact_add_tags", "payload": {"tag_uuids": ["t"]}}, 1),
        ("", {"type": "contact_change_list", "payload": {"list_uuid": "l"}}, 1),
        ('[policy.tools]\nunenroll_from_sequence = "confirm"', {"type": "contact_cancel_from_flows"}, 1),
        ('[policy.operations]\nmass_action_on_leads = "confirm"', {"type": "contact_mark_read"}, 1),
        ("", {"type": "contact_delete"}, 1),
        ("", {"type": "a_type_of_next_year"}, 1),
    ],
)
def test_a_mass_action_is_asked_by_its_type(begin: Begin, policy: str, arguments: dict[str, Any], asked: int) -> None:
    tail = begin(policy=policy)
    tail.talk.user.answer = NO

    tail.talk.call(
        "call_operation", operation="mass_action_on_leads", arguments={"filter": {"ids": [BEN]}, **arguments}
    )

    assert len(tail.talk.user.asked) == asked
    assert len(tail.left) == 1 - asked
    if arguments["type"] == "contact_delete":
        assert "Ben Carter" in tail.talk.user.asked[0]


def test_what_is_off_is_allowed_by_name_and_still_asked(begin: Begin) -> None:
    policy = (
        '[policy.operations]\nlist_linkedin_browsers = "allow"\ncreate_api_key = "allow"\nunblacklist_lead = "allow"'
    )
    tail = begin(policy=policy)

    read = tail.talk.ok("read_operation", operation="list_linkedin_browsers")
    found = tail.talk.ok("find_operation", query="create_api_key")["operations"]
    done = tail.talk.ok("call_operation", operation="create_api_key", arguments={"name": "mine"})

    assert "data" in read["answer"]
    assert "off" not in found[0]
    assert (done["status"], len(tail.talk.user.asked)) == ("done", 1)
    assert done["result"]["answer"]["last_token"] == "***"


# The settings and the catalogues


def settings(folder: Path, vendor: str, operations: dict[str, Any]) -> Settings:
    connection = (Connection(vendor=vendor, name=vendor, api_key=SecretStr("k")),)
    return Settings(data_dir=folder, connections=connection, policy=PolicySettings(operations=operations))


@pytest.mark.parametrize(
    ("vendor", "operations", "says"),
    [
        (
            "getsales",
            {"start_flwo": "allow"},
            'policy.operations: "start_flwo" is no operation; .*nearest: "start_flow"',
        ),
        ("local", {"start_flow": "allow"}, 'policy.operations: "start_flow" is no operation; there are none'),
        (
            "getsales",
            {"list_flow_leads": "confirm"},
            "list_flow_leads only reads, and is never confirmed; valid: allow, deny",
        ),
        ("dialsheet", {"send_sms": "allow"}, "policy.operations: send_sms is done by send_sms; give a verdict in .*"),
    ],
)
def test_a_policy_for_what_is_no_operation_stops_the_start(
    tmp_path: Path, vendor: str, operations: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        Application(settings(tmp_path, vendor, operations))


def test_a_start_without_such_a_policy_reads_no_catalogue(tmp_path: Path) -> None:
    load.cache_clear()

    Application(settings(tmp_path, "getsales", {}))

    assert load.cache_info().currsize == 0


def operations() -> list[tuple[str, Operation]]:
    return [(vendor, each) for vendor in VENDORS for each in load(vendor).operation]


def test_every_operation_has_a_name_of_its_own() -> None:
    for vendor in VENDORS:
        names = [each.name for each in load(vendor).operation]
        assert len(names) == len(set(names)), vendor


def test_every_catalogue_names_its_path_recipients_and_text_by_parameters_that_there_are() -> None:
    wrong: list[str] = []
    for vendor, each in operations():
        known = {one.name for one in each.parameters}
        inside = {part.partition("}")[0] for part in each.path.split("{")[1:]}
        required = {one.name for one in each.parameters if one.place == "path" and one.required}
        named = each.recipient
        dotted = [named.lead, named.address] if named else []
        by = [str(one["by"]) for one in (each.effect, each.akin, each.why) if isinstance(one, dict)]
        used = {one.split(".")[0] for one in (*dotted, each.text, *by) if one}
        if inside != required or not used <= known:
            wrong.append(f"{vendor} {each.name}")

    assert wrong == []


def test_every_tool_that_a_catalogue_names_is_one_that_this_vendor_serves(tmp_path: Path) -> None:
    tools = {each.name: each for each in TOOLS}
    wrong: list[str] = []
    for vendor, each in operations():
        chosen = settings(tmp_path, vendor, {})
        context = Application(chosen).contexts[chosen.connections[0].name]
        by = each.akin.items() if isinstance(each.akin, dict) else [("", each.akin)]
        akin = [one for key, found in by if key != "by" for one in ((found,) if isinstance(found, str) else found)]
        wrong += [f"{vendor} {each.name}: {one}" for one in akin if one not in tools]
        if each.tool and not (each.tool in tools and tools[each.tool].served_by(context)):
            wrong.append(f"{vendor} {each.name}: {each.tool}")

    assert wrong == []


def test_every_operation_that_reaches_people_names_them_or_is_refused_by_default() -> None:
    reaching = [
        f"{vendor} {each.name}"
        for vendor, each in operations()
        if each.effect == "outward" and not each.tool and not each.off and each.recipient
    ]

    assert reaching == [
        f"getsales {name}"
        for name in (
            "add_lead_to_flow_source",
            "create_outreach_task",
            "continue_automation",
            "send_inmail",
            "send_linkedin_template",
            "send_linkedin_attachments",
            "send_linkedin_message_by_messenger",
            "send_email_with_copies",
            "send_email_template",
            "reply_to_email",
            "send_email_in_thread",
        )
    ]
