"""Wherever an address is put into what goes out, and however it is spelt: it reaches nobody who is not on file, not
blocked and named in the question."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from crm_mcp.actions.vendor_operations.places import may_be_address, may_be_mail, named_in, tells_people
from crm_mcp.backends.catalog import Catalog, Operation, Parameter, load
from crm_mcp.config import VENDORS, PolicySettings
from crm_mcp.errors import CrmError, InvalidArgument
from crm_mcp.sandbox.people import PEOPLE
from tests.harness.person import Person
from tests.harness.settings import OURS
from tests.harness.small_vendor import CATALOG, VendorApp, emulated_vendor, small_vendor

REMOTE = tuple(each for each in VENDORS if each != "local")
BEN = "00000001-0000-4000-8000-00000000000c"
BENS = "ben.carter@lumen-optics.example"
OMAR = "00000001-0000-4000-8000-000000000002"
OMARS = "omar.haddad@acme-robotics.example"
NOBODY = "stranger@else.example"
JANE = PEOPLE[0]
PROPERTY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
POLICY: dict[str, Any] = {"outward": "allow", "quiet_hours": "off"}


def outward(catalog: Catalog) -> list[tuple[Operation, dict[str, Any]]]:
    """Return the operations of a vendor that may go out, each with the arguments that decide it."""
    found: list[tuple[Operation, dict[str, Any]]] = []
    for each in catalog.operation:
        if isinstance(each.effect, dict):
            kinds = [value for value, effect in each.effect.items() if effect == "outward"]
            found += [(each, {each.effect["by"]: kind}) for kind in kinds]
        elif each.effect == "outward":
            found.append((each, {}))
    return found


OUTWARD = [(vendor, *each) for vendor in REMOTE for each in outward(load(vendor))]
SENDS = [(vendor, each, by) for vendor, each, by in OUTWARD if each.recipient and not each.tool]


def right(operation: Operation, by: dict[str, Any], lead: str = BEN, email: str = BENS) -> dict[str, Any]:
    """Return arguments that are as they should be, to Ben or another lead."""
    named = operation.recipient
    values: dict[str, Any] = {"string": "x", "integer": 1, "boolean": True, "object": {}, "array": [], "any": "x"}
    given = {each.name: (each.values or (values[each.type],))[0] for each in operation.parameters if each.required}
    if operation.at:
        given[operation.at] = "2030-01-02T10:00:00Z"
    if named and named.lead:
        first, _, inner = named.lead.partition(".")
        given[first] = {inner: [lead]} if inner else lead
    if named and named.address:
        first, _, inner = named.address.partition(".")
        given[first] = [{inner: email}] if inner else email
    return {**given, **by}


@pytest.fixture
async def getsales(tmp_path: Path) -> AsyncGenerator[VendorApp]:
    allowed = {each.name: "allow" for each in load("getsales").operation if each.names_nobody or each.off}
    async with emulated_vendor("getsales", tmp_path, {**POLICY, "operations": allowed}) as app:
        await app.store.contacts.block({"email": OMARS, "linkedin": "omar-haddad"}, "said so", "somebody")
        yield app


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[VendorApp]:
    policy = PolicySettings.model_validate({**POLICY, "operations": {"start_flow": "allow"}})
    async with small_vendor(tmp_path, policy) as opened:
        await opened.store.contacts.block({"email": OMARS, "sms": PEOPLE[1].phone}, "said so", "somebody")
        yield opened


# Spellings


def wrapped(address: str) -> list[str]:
    """Return an address in the spellings that some mail system may read as it."""
    local, _, domain = address.partition("@")
    return [
        address,
        f"{address} (work)",
        f'"B" <{address}> (x)',
        f"{address}, nonsense",
        f"nonsense; {address}",
        f"{BENS}, {address}",
        f"{BENS};{address}",
        f"{BENS} {address}",
        f"{BENS}\n{address}",
        f"B <{address}>",
        f"<{address}>",
        f"group: {address};",
        f"(comment) {address}",
        f"mailto:{address}",
        f"mailto:{local}%40{domain}",
        f"=?utf-8?q?{local}=40{domain}?=",
        f'"{local}"@{domain}',
        f'"{BENS}"@else.example',
        f"{local}@localhost",
        f"{local}@[127.0.0.1]",
        f"{local}@xn--else-0za.example",
        f"{address}.",
        f" {address}",
        f"{address}\t",
        f"{local}\uff20{domain}",
        f"{local}\ufe6b{domain}",
        address.replace(".", "\u3002"),
        f"{local}%40{domain}",
        f"{local}%2540{domain}",
        f"{local}&#64;{domain}",
        f"{local}&#x40;{domain}",
        f"{local}&amp;commat;{domain}",
        f"{local}\\u0040{domain}",
        f"{local}\\x40{domain}",
        f"{local}=40{domain}",
        f"{local}+AEA-{domain}",
        json.dumps([address]),
        json.dumps({"email": address}).replace("@", "\\u0040"),
    ]


MAILS = st.sampled_from([*wrapped(NOBODY), *wrapped(OMARS), *(each.upper() for each in wrapped(OMARS)[:2])])
NUMBERS = st.sampled_from(
    [
        *("+1 415 555 0199", "0014155550199", "tel:+14155550199", "(415) 555-0199", "4155550199", "+1-800-FLOWERS"),
        *("\uff0b14155550199", "415.555.0199, 415.555.0198", "sms:4155550199", "call 415-555-0199 ext. 7"),
    ]
)
PROFILES = st.sampled_from(
    ["https://www.linkedin.com/in/stranger", "linkedin.com/in/stranger", "lnkd.in/abc", "urn:li:person:abc"]
)
NAMES = st.sampled_from(
    [
        *("also", "cc", "bcc", "reply_to", "replyTo", "attendees", "participants", "contacts", "emails", "guests"),
        *("watchers", "notify", "from", "sender", "x", "value", "to", "recipients", "phone", "linkedin_url", "meta"),
    ]
)


def nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return JSON that has such a text somewhere, as a value or as a name."""

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        beside = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers(0, 99), max_size=2)
        return (
            st.tuples(beside, NAMES, inner).map(lambda each: {**each[0], each[1]: each[2]})
            | inner.map(lambda each: [each])
            | inner.map(lambda each: [None, [each]])
            | inner.map(json.dumps)
        )

    named = st.tuples(leaf.filter(lambda each: isinstance(each, str)), st.sampled_from(["B", True, None, 1])).map(
        lambda each: {each[0]: each[1]}
    )
    return st.recursive(leaf | named, around, max_leaves=2)


KINDS: dict[str, type] = {"object": dict, "array": list, "string": str, "any": object}


@pytest.mark.parametrize("text", [*wrapped(NOBODY), "=?utf-8?b?c3RyYW5nZXI=?=", "root@", "@", "a@b"])
def test_what_may_be_read_as_an_e_mail_address_is_seen(text: str) -> None:
    assert may_be_mail(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "Welcome", "2026-03-20", "2026-03-20T10:00:00Z", "2026-03-20T10:00:00+02:00", BEN, "p1", "t-17"),
        *(
            "Acme, Inc.",
            "linkedin",
            "linkedin_send_message",
            "https://crm.example/path",
            "50 %",
            "a=b",
            "#ff5733",
            "42",
        ),
    ],
)
def test_what_is_no_address_is_not_taken_for_one(text: str) -> None:
    assert not may_be_address(text)


@given(NUMBERS | PROFILES | MAILS)
def test_numbers_and_profiles_are_seen_too(text: str) -> None:
    assert may_be_address(text)


# The arguments of what goes out


HIDING = {"getsales": outward(load("getsales")), "small": outward(CATALOG)}
REFUSED = ("blocked", "invalid_argument", "not_found", "unsupported")


async def outcome(app: VendorApp, name: str, arguments: dict[str, Any]) -> str:
    """Make a call to which everybody says yes; returns the status, or the code of the error."""
    try:
        return str((await app.call(Person("yes"), name, **arguments))["status"])
    except CrmError as error:
        return error.code


@st.composite
def hiding(draw: st.DrawFn, vendor: str, *whom: str) -> tuple[str, dict[str, Any]]:
    """Return a call of an operation that goes out, right but for an address that is hidden somewhere in it."""
    operation, by = HIDING[vendor][draw(st.integers(0, len(HIDING[vendor]) - 1))]
    arguments, named = right(operation, by, *whom), operation.recipient
    texts = {each.split(".")[0] for each in (operation.text, *operation.prose) if each}
    able = [each for each in operation.parameters if not each.values and each.place != "path"]
    able = [each for each in able if each.type in KINDS and each.name not in {*texts, *by}]
    if operation.more:
        able.append(Parameter.model_validate({"name": draw(NAMES), "in": "body", "type": "any"}))
    assume(able)
    parameter = able[draw(st.integers(0, len(able) - 1))]
    # Where ids are declared, a number is an id that nobody has; what names nobody may have numbers of other things.
    other = named is not None and parameter.type != "string" and not (named.lead or "").startswith(parameter.name)
    hidden = draw(MAILS if parameter.type == "string" else nested(MAILS | NUMBERS | PROFILES if other else MAILS))
    assume(isinstance(hidden, KINDS[parameter.type]))
    arguments[parameter.name] = hidden
    return operation.name, arguments


@PROPERTY
@given(call=hiding("getsales"))
async def test_an_address_that_is_hidden_anywhere_in_what_goes_out_passes_nowhere(
    getsales: VendorApp, call: tuple[str, dict[str, Any]]
) -> None:
    getsales.emulator.journal.clear()

    status = await outcome(getsales, *call)

    assert (status in REFUSED, getsales.left) == (True, []), status


@PROPERTY
@given(call=hiding("small", "p1", JANE.email))
async def test_nor_in_what_is_not_documented(app: VendorApp, call: tuple[str, dict[str, Any]]) -> None:
    app.emulator.journal.clear()

    status = await outcome(app, *call)

    assert (status in REFUSED, app.left) == (True, []), status


@pytest.mark.parametrize("vendor", REMOTE)
async def test_what_a_tool_sends_is_sent_by_no_operation(tmp_path: Path, vendor: str) -> None:
    async with emulated_vendor(vendor, tmp_path, POLICY) as app:
        served = [(each, by) for each, by in outward(app.backend.catalog) if each.tool]

        found = {await outcome(app, each.name, right(each, by)) for each, by in served}

        assert (found <= {"unsupported"}, app.left) == (True, [])


@pytest.mark.parametrize(("vendor", "operation", "by"), SENDS, ids=lambda each: getattr(each, "name", str(each)))
async def test_what_is_right_leaves_whatever_its_text_says(
    getsales: VendorApp, vendor: str, operation: Operation, by: dict[str, Any]
) -> None:
    arguments = right(operation, by)
    if operation.text:
        arguments[operation.text] = f"Write to {NOBODY}, mailto:{OMARS} or +1 415 555 0199"

    status = await outcome(getsales, operation.name, arguments)

    assert status in ("done", "failed"), status  # the vendor may not have the flow, mailbox or template that is named
    assert len(getsales.left) == 1


MAIL: dict[str, Any] = {
    "mailbox_uuid": "m",
    "to": [{"to_email": BENS, "to_name": "Ben Carter"}],
    "subject": "Hi",
    "body": f"<p>Write to {NOBODY}</p>",
    "lead_uuid": BEN,
    "cc": [],
}


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncGenerator[VendorApp]:
    async with emulated_vendor("getsales", tmp_path, PolicySettings(quiet_hours="off")) as app:
        mailboxes = await app.backend.mailboxes()
        MAIL["mailbox_uuid"] = mailboxes[0].id
        yield app


async def test_whoever_gets_a_copy_is_named_in_the_question_with_name_address_and_lead(asking: VendorApp) -> None:
    person = Person("yes")
    own = (await asking.backend.mailboxes())[0].address

    mail = {**MAIL, "cc": [{"to_email": OMARS, "to_name": "Omar"}, OURS], "bcc": [own]}
    done = await asking.call(person, "send_email_with_copies", **mail)

    assert done["status"] == "done"
    for shown in (f'{BENS}, "Ben Carter" ({BEN})', f'{OMARS}, "Omar Haddad" ({OMAR})', OURS, own):
        assert shown in person.asked[0].text
    assert [each.body for each in asking.left] == [mail]
    [row] = (await asking.store.actions.page(caller=None, status=None, lead=None, after=None, limit=9))[0]
    assert {("lead", BEN), ("lead", OMAR)} <= set(row.touched)


@pytest.mark.parametrize("place", ["cc", "bcc"])
async def test_whoever_gets_a_copy_is_under_every_rule(asking: VendorApp, place: str) -> None:
    await asking.store.contacts.block({"email": OMARS}, "said so", "somebody")
    person = Person("yes")

    result = await asking.call(person, "send_email_with_copies", **{**MAIL, place: [OMARS]})

    assert (result["status"], person.asked, asking.left) == ("blocked", [], [])
    assert "do-not-contact: Omar Haddad must not be reached by email (said so)" in result["reason"]


@pytest.mark.parametrize("name", ["send_email_with_copies", "reply_to_email", "send_email_template"])
@pytest.mark.parametrize("copy", wrapped(OMARS))
async def test_an_address_of_a_copy_that_is_not_bare_is_refused_even_where_it_is_on_file(
    asking: VendorApp, name: str, copy: str
) -> None:
    person = Person("no")
    more = {"in_reply_to_email_uuid": "e", "template_uuid": "t"}

    result = await asking.call(person, name, **{**MAIL, **more, "cc": [copy]})

    assert (result["status"], len(person.asked)) == (("declined", 1) if copy == OMARS else ("blocked", 0))
    assert asking.left == []


@pytest.mark.parametrize(
    "copies",
    [
        {"cc": [{OMARS: "Omar"}]},
        {"cc": [{"omar": "Omar"}]},
        {"cc": [["x", [NOBODY]]]},
        {"cc": [14155550199]},
        {"cc": [""]},
        {"cc": ["root"]},
        {"cc": [{"to_name": f"Omar <{NOBODY}>"}]},
        {"to": [{"to_email": BENS, "to_name": "Ben\r\nBcc: root"}]},
        {"to": [{"to_email": BENS, "notify": "root"}]},
        {"to": [[{"to_email": NOBODY}]]},
        {"to": [NOBODY]},
        {"to": [{"to_email": OMARS}]},
    ],
)
async def test_copies_in_any_shape_are_addresses_or_refused(asking: VendorApp, copies: dict[str, Any]) -> None:
    person = Person("yes")

    result = await asking.call(person, "send_email_with_copies", **{**MAIL, **copies})

    assert (result["status"], person.asked, asking.left) == ("blocked", [], [])
    assert result["reason"].startswith("no address on file: ")


async def test_a_subject_is_one_line(asking: VendorApp) -> None:
    with pytest.raises(InvalidArgument, match="subject has several lines"):
        await asking.call(Person("yes"), "send_email_with_copies", **{**MAIL, "subject": "Hi\nBcc: root"})

    assert asking.left == []


@pytest.mark.parametrize(
    "further",
    [
        *({"lead_id": OMAR}, {"also": OMAR}, {"contacts": [[OMAR]]}, {"members": {"id": OMAR}}, {OMAR: True}),
        {"x": {"y": [{"lead": {"uuid": OMAR}}]}},
    ],
)
async def test_a_second_lead_in_whatever_field_is_a_second_person_under_every_rule(
    asking: VendorApp, further: dict[str, Any]
) -> None:
    person = Person("no", "no")
    call = {"type": "contact_add_to_flow", "filter": {"ids": [BEN]}, "payload": {"flow_uuid": "f", **further}}

    declined = await asking.call(person, "mass_action_on_leads", **call)
    await asking.store.contacts.block({"email": OMARS}, None, "somebody")
    blocked = await asking.call(person, "mass_action_on_leads", **call)

    assert (declined["status"], blocked["status"], asking.left) == ("declined", "blocked", [])
    assert f'"Omar Haddad" ({OMAR})' in person.asked[0].text


@pytest.mark.parametrize("text", ['{"to": ["p2"]}', '["p2"]', '{"p2": true}', json.dumps(json.dumps({"x": "p2"}))])
async def test_a_lead_within_a_text_is_one_too(app: VendorApp, text: str) -> None:
    call = {"type": "wave", "filter": {"ids": ["p1"]}, "payload": {"x": text}}

    result = await app.call(Person("yes"), "mass_action", **call)

    assert (result["status"], app.left) == ("blocked", [])
    assert result["reason"].startswith("do-not-contact: Omar Haddad must not be reached by sms")


@pytest.mark.parametrize("further", [{"to": "root"}, {"contacts": ["Omar"]}, {"notify": "all"}, {"leads": "everyone"}])
async def test_where_people_stand_is_nothing_that_is_neither_a_lead_nor_an_address(
    asking: VendorApp, further: dict[str, Any]
) -> None:
    call = {"type": "contact_add_to_flow", "filter": {"ids": [BEN]}, "payload": {"flow_uuid": "f", **further}}

    result = await asking.call(Person("yes"), "mass_action_on_leads", **call)

    assert (result["status"], asking.left) == ("blocked", [])


async def test_more_values_that_may_be_ids_than_are_looked_up_are_refused(asking: VendorApp) -> None:
    call = {"type": "contact_add_to_flow", "filter": {"ids": [BEN]}, "payload": {"x": [f"i{n}" for n in range(21)]}}

    with pytest.raises(InvalidArgument, match="21 values that may be ids of leads"):
        await asking.call(Person("yes"), "mass_action_on_leads", **call)


@pytest.mark.parametrize(("vendor", "operation", "by"), SENDS, ids=lambda each: getattr(each, "name", str(each)))
def test_every_operation_that_goes_out_says_what_stands_in_each_of_its_parameters(
    vendor: str, operation: Operation, by: dict[str, Any]
) -> None:
    named = operation.recipient
    assert named is not None
    places = (named.lead, named.address, operation.text, *operation.copies, *operation.prose)
    said = {each.split(".")[0] for each in places if each}
    composed = [each for each in operation.parameters if each.type in ("object", "array", "any")]

    assert [each.name for each in composed if each.name not in said and not each.holds] == []
    # What the catalogue says of right arguments is all there is in them.
    found = named_in(operation, right(operation, by))
    assert (found.further, found.senders, found.people, found.ids, found.wrong) == ([], [], [], [], [])


# What is written down


@pytest.mark.parametrize(
    "more",
    [
        {"attendees": ["x@else.example"]},
        {"cc": "x@else.example"},
        {"notify": True},
        {"meeting": {"guests": [{"id": 7}]}},
        {"sendInvites": 1},
        {"notify_watchers": "all"},
        {"send": True},
        {"enroll_in": "s1"},
    ],
)
def test_what_may_tell_people_of_what_is_written_is_seen(more: dict[str, Any]) -> None:
    operation = load("salessheet").get("create_activity_with_subject")

    assert tells_people(operation, {"type": "meeting", "subject": "Talk", **more})


@pytest.mark.parametrize(
    "more", [{}, {"notify": False}, {"attendees": []}, {"followers_count": 7}, {"custom_fields": {"Notify": "Ann"}}]
)
def test_what_tells_nobody_is_left_alone(more: dict[str, Any]) -> None:
    operation = load("salessheet").get("create_activity_with_subject")

    assert tells_people(operation, {"type": "meeting", "subject": "Talk", "body": "notify them", **more}) is None


async def test_what_is_written_down_tells_nobody(tmp_path: Path) -> None:
    async with emulated_vendor("salessheet", tmp_path) as app:
        given: dict[str, Any] = {"type": "meeting", "subject": "Talk", "contact_id": "c1"}
        with pytest.raises(InvalidArgument) as refused:
            await app.call(Person("yes"), "create_activity_with_subject", **given, attendees=[NOBODY])

        assert "attendees may tell people of it, which create_activity_with_subject is not known to do" in str(
            refused.value
        )
        assert app.left == []
