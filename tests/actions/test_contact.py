"""Who said no stays blocked whatever a tool does; new addresses are told; fields that hold consent are left alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.actions.guards.addresses import addresses_in
from crm_mcp.actions.guards.consent import refuse_consent_fields
from crm_mcp.actions.guards.do_not_contact import (
    INHERITED,
    block,
    blocks_of,
    follow_blocks,
    keep_at,
    keep_blocks,
    lift,
    no_contact_reason,
)
from crm_mcp.actions.guards.inbound import replied
from crm_mcp.actions.guards.new_addresses import fresh, unheld
from crm_mcp.channels import CHANNELS, Channel, address_of
from crm_mcp.config import PolicySettings
from crm_mcp.errors import Forbidden, VendorError
from crm_mcp.model import Lead, LeadDraft, LeadUpdate, Option, Page
from crm_mcp.store import Action, Address, ClaimConditions, Ended, NewAction
from tests.harness.app import NUMBER, App
from tests.harness.person import ANN

OTHER = "+14155550199"
EMAIL = "jane@doe.example"


async def lift_by_a_person(app: App, lead: Lead, channels: tuple[Channel, ...]) -> None:
    """Lift a block as a tool does, to which a person has said yes."""
    await app.under(lambda: lift(app.context, lead, channels, ANN), "outward", "elicitation")


NONE: set[tuple[str, str]] = set()


async def jane(app: App) -> Lead:
    """Return the lead as the CRM has it now."""
    return await app.crm.get_lead(app.lead.id)


async def acted(app: App, tool: str, *writes: Address) -> None:
    """Let an action of this tool about the lead have been done."""
    new = NewAction(
        caller=ANN,
        connection=app.context.connection,
        tool=tool,
        effect="write",
        arguments={},
        digest=f"{tool} {writes} {app.clock()}",
        summary=tool,
        lead=app.lead.id,
    )
    row = await app.store.actions.begin(new, "policy", ClaimConditions(writes=writes))
    assert isinstance(row, Action)
    await app.store.actions.complete(row.id, Ended("done"))


@pytest.fixture
async def reached(app: App) -> App:
    """A process whose lead has an e-mail address and a LinkedIn profile as well."""
    await app.crm.update_lead(
        app.lead.id, LeadUpdate(email=EMAIL, custom_fields={"linkedin": "https://www.linkedin.com/in/Jane/"})
    )
    return app


# Blocked


async def test_a_lead_that_nobody_blocked_may_be_reached(reached: App) -> None:
    reached.receives(reached.lead.id, "Sounds good")

    assert [await no_contact_reason(reached.context, await jane(reached), each) for each in CHANNELS] == [None] * 4


@pytest.mark.parametrize(("channel", "others"), [("sms", ("email", "call")), ("email", ("sms", "call", "linkedin"))])
async def test_a_stop_blocks_its_channel_alone_and_is_put_on_our_list(
    reached: App, channel: Channel, others: tuple[Channel, ...]
) -> None:
    reached.receives(reached.lead.id, "STOP!", channel)
    lead = await jane(reached)

    why = await no_contact_reason(reached.context, lead, channel)

    assert why == (
        f"do-not-contact: Jane Doe must not be reached by {channel} (the lead answered with a STOP word on 2026-03-20)"
    )
    assert [await no_contact_reason(reached.context, lead, each) for each in others] == [None] * len(others)
    address = lead.address(channel)
    assert address
    assert channel in await reached.store.contacts.blocked({channel: address})


async def test_an_e_mail_without_text_is_known_by_its_subject(reached: App) -> None:
    reached.receives(reached.lead.id, " ", "email", subject="Unsubscribe")

    assert await no_contact_reason(reached.context, await jane(reached), "email")


async def test_a_stop_that_a_person_has_lifted_blocks_no_more_until_the_next_one(app: App) -> None:
    app.receives(app.lead.id, "STOP")
    assert await no_contact_reason(app.context, await jane(app), "sms")

    await lift_by_a_person(app, await jane(app), ("sms",))
    lifted = await no_contact_reason(app.context, await jane(app), "sms")
    app.clock.advance(days=2)
    app.receives(app.lead.id, "stop", hours=3)
    again = await no_contact_reason(app.context, await jane(app), "sms")

    assert (lifted, bool(again)) == (None, True)


async def test_a_stop_that_nobody_had_noticed_is_lifted_as_well(app: App) -> None:
    app.receives(app.lead.id, "STOP")

    await lift_by_a_person(app, await jane(app), ("sms",))

    assert await no_contact_reason(app.context, await jane(app), "sms") is None


async def test_a_stop_counts_however_much_was_written_and_sent_since(reached: App) -> None:
    reached.receives(reached.lead.id, "Stop please", days=40)
    for n in range(300):
        reached.receives(reached.lead.id, f"Message {n}", days=20, minutes=n)
        reached.receives(reached.lead.id, f"Mail {n}", "email", days=10, minutes=n)

    assert await no_contact_reason(reached.context, await jane(reached), "sms")
    assert await no_contact_reason(reached.context, await jane(reached), "email") is None


async def test_a_lead_signs_a_stop_with_its_name(app: App) -> None:
    app.receives(app.lead.id, "stop jane doe")

    assert await no_contact_reason(app.context, await jane(app), "sms")


async def test_a_stop_counts_for_every_lead_that_has_the_number(app: App) -> None:
    second = await app.crm.create_lead(LeadDraft(name="John Roe", phone=NUMBER))
    third = await app.crm.create_lead(LeadDraft(name="Somebody Else", phone=OTHER))
    app.receives(app.lead.id, "STOP")

    assert await no_contact_reason(app.context, await app.crm.get_lead(second.id), "sms")
    assert await no_contact_reason(app.context, await app.crm.get_lead(second.id), "email") is None
    assert await no_contact_reason(app.context, await app.crm.get_lead(third.id), "sms") is None
    await lift_by_a_person(app, await app.crm.get_lead(second.id), ("sms",))
    assert await no_contact_reason(app.context, await app.crm.get_lead(second.id), "sms") is None


async def test_the_crm_s_mark_of_one_counts_for_every_lead_that_has_the_address(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await app.crm.create_lead(LeadDraft(name="John Roe", phone=NUMBER))
    marked = (await jane(app)).model_copy(update={"do_not_contact": ("sms",)})

    async def leads_at(*_: object) -> tuple[Lead, ...]:
        return marked, second

    monkeypatch.setattr(app.crm, "leads_at", leads_at)
    why = await no_contact_reason(app.context, await app.crm.get_lead(second.id), "sms")

    assert why
    assert "Jane Doe" in why


async def test_what_a_lead_has_written_is_read_once_for_each_time_that_the_lead_is_read(
    reached: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    reading = reached.crm.inbound_messages

    async def counting(lead: str, channel: Channel) -> Any:
        read.append(channel)
        return await reading(lead, channel)

    monkeypatch.setattr(reached.crm, "inbound_messages", counting)
    first = await jane(reached)
    for each in CHANNELS:
        await no_contact_reason(reached.context, first, each)
    await replied(reached.context, first)
    once = sorted(read)
    await no_contact_reason(reached.context, await jane(reached), "sms")

    assert (once, len(read)) == (["email", "sms"], 3)


async def test_a_history_that_can_t_be_read_lets_no_message_pass(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Page[Any]:
        raise VendorError("the CRM has failed", "try again")

    monkeypatch.setattr(app.crm, "inbound_messages", broken)

    with pytest.raises(VendorError):
        await no_contact_reason(app.context, await jane(app), "sms")


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_block_holds_for_every_way_to_write_an_address(reached: App, channel: Channel) -> None:
    ways: dict[Channel, str] = {
        "email": " JANE@doe.example",
        "linkedin": "linkedin.com/in/jane?utm=1",
        "sms": "+1 (415) 555-0171",
        "call": "+1 (415) 555-0171",
    }
    lead = await jane(reached)
    await block(reached.context, lead, (channel,), "said so", ANN)

    twin = lead.model_copy(
        update={
            "id": "L999",
            "email": ways["email"],
            "phone": ways["sms"],
            "custom_fields": {"linkedin": ways["linkedin"]},
        }
    )
    found = await blocks_of(reached.context, twin)

    assert found == {channel: "said so"}


WAYS = (
    "https://www.linkedin.com/in/jane-lee/de",
    "http://de.linkedin.com/in/Jane%2DLee/?trk=x",
    "www.linkedin.com/in/jane-lee/details/experience",
    "jane-lee",
)


@pytest.mark.parametrize("kept", WAYS)
async def test_a_block_of_a_profile_holds_for_every_way_to_write_it_and_for_nobody_else(app: App, kept: str) -> None:
    lead = (await jane(app)).model_copy(update={"custom_fields": {"linkedin": kept}})
    await block(app.context, lead, ("linkedin",), "said so", ANN)

    for way in WAYS:
        twin = lead.model_copy(update={"id": "L999", "custom_fields": {"linkedin": way}})
        assert await blocks_of(app.context, twin) == {"linkedin": "said so"}
    for way in (
        "https://www.linkedin.com/in/de",
        "https://www.linkedin.com/in/bob/de",
        "linkedin.com/company/jane-lee",
    ):
        other = lead.model_copy(update={"id": "L998", "custom_fields": {"linkedin": way}})
        assert await blocks_of(app.context, other) == {}


@pytest.mark.parametrize(
    ("profile", "key"),
    [
        ("https://www.linkedin.com/in/Jane%2DLee", "jane%2dlee"),
        ("https://www.linkedin.com/in/j%C3%BCrgen/", "j%c3%bcrgen"),
        ("https://www.linkedin.com/in/Jane-Lee/", "jane-lee"),
        ("https://www.linkedin.com/in/jane-lee/de", "https://www.linkedin.com/in/jane-lee/de"),
        ("https://www.linkedin.com/company/acme", "https://www.linkedin.com/company/acme"),
    ],
)
async def test_a_block_that_was_kept_before_by_another_key_of_the_profile_holds(
    app: App, profile: str, key: str
) -> None:
    await app.store.contacts.block({"linkedin": key}, "said so", "somebody")
    lead = (await jane(app)).model_copy(update={"custom_fields": {"linkedin": profile}})

    assert await blocks_of(app.context, lead) == {"linkedin": "said so"}
    await lift_by_a_person(app, lead, ("linkedin",))
    assert await blocks_of(app.context, lead) == {}


# What a tool's change must not shake off


async def test_a_new_number_of_a_blocked_lead_is_blocked_too(app: App) -> None:
    lead = await jane(app)
    await block(app.context, lead, ("sms",), "said so", ANN)

    after = await app.change(lead, LeadUpdate(phone=OTHER))

    assert await app.store.contacts.blocked({"sms": OTHER, "call": OTHER}) == {"sms": INHERITED}
    assert await no_contact_reason(app.context, after, "sms")
    assert await no_contact_reason(app.context, after, "call") is None


async def test_a_number_that_was_blocked_by_another_hand_is_kept_as_it_changes(app: App) -> None:
    await app.store.contacts.block({"sms": NUMBER}, "by another server", "somebody")
    lead = await jane(app)

    await app.change(lead, LeadUpdate(phone=OTHER))

    assert await app.store.contacts.blocked({"sms": OTHER}) == {"sms": INHERITED}


async def test_emptying_the_number_and_writing_another_does_not_shake_off_a_block(app: App) -> None:
    await app.store.contacts.block({"sms": NUMBER}, "said so", "somebody")

    bare = await app.change(await jane(app), LeadUpdate(clear=("phone",)))
    after = await app.change(bare, LeadUpdate(phone=OTHER))

    assert bare.phone is None
    assert await no_contact_reason(app.context, after, "sms")
    assert await app.store.contacts.blocked({"sms": OTHER}) == {"sms": INHERITED}


async def test_a_stop_that_nobody_had_noticed_goes_along_with_the_lead(app: App) -> None:
    app.receives(app.lead.id, "STOP")

    await app.change(await jane(app), LeadUpdate(phone=OTHER))

    assert set(await app.store.contacts.blocked({"sms": NUMBER})) == {"sms"}
    assert set(await app.store.contacts.blocked({"sms": OTHER})) == {"sms"}


async def test_the_crm_s_own_mark_is_kept_before_a_change_that_could_lift_it(reached: App) -> None:
    await reached.crm.block(await jane(reached), ("email", "linkedin"), "asked for it")
    marked = await jane(reached)
    assert marked.do_not_contact == ("email", "linkedin")

    after = await reached.change(marked, LeadUpdate(title="Director"))
    await reached.crm.unblock(after, CHANNELS)

    assert (await jane(reached)).do_not_contact is None
    assert await no_contact_reason(reached.context, await jane(reached), "email")
    assert await no_contact_reason(reached.context, await jane(reached), "linkedin")


async def test_a_lead_that_is_deleted_and_made_anew_stays_blocked(app: App) -> None:
    app.receives(app.lead.id, "STOP")
    await keep_blocks(app.context, await jane(app), ANN)

    await app.crm.delete("lead", app.lead.id)
    anew = await app.crm.create_lead(LeadDraft(name="Somebody else", phone=NUMBER))

    assert await no_contact_reason(app.context, anew, "sms")


async def test_whoever_is_given_the_number_of_a_blocked_lead_is_blocked_too(app: App) -> None:
    app.receives(app.lead.id, "STOP")
    second = await app.crm.create_lead(LeadDraft(name="Second"))

    await keep_at(app.context, addresses_in({"phone": NUMBER}, None), ANN, besides=second.id)

    assert set(await blocks_of(app.context, second.model_copy(update={"phone": NUMBER}))) == {"sms"}


async def test_a_change_that_gives_no_address_reads_nothing_more(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> Any:
        raise AssertionError("nothing had to be read")

    monkeypatch.setattr(app.crm, "inbound_messages", never)
    monkeypatch.setattr(app.crm, "leads_at", never)

    after = await app.change(await jane(app), LeadUpdate(title="Director", phone=NUMBER))

    assert after.title == "Director"


async def test_what_could_not_be_kept_stops_the_change(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Page[Any]:
        raise VendorError("the CRM has failed", "try again")

    monkeypatch.setattr(app.crm, "inbound_messages", broken)

    with pytest.raises(VendorError) as refused:
        await app.change(await jane(app), LeadUpdate(phone=OTHER))

    assert refused.value.wrote is False
    assert (await jane(app)).phone == NUMBER


async def test_following_an_address_that_stayed_writes_nothing(app: App) -> None:
    lead = await jane(app)
    await app.store.contacts.block({"sms": NUMBER}, "said so", "somebody")

    await follow_blocks(app.context, lead, lead.model_copy(update={"name": "J. Doe"}), ANN)

    assert await app.store.contacts.blocked({"sms": NUMBER}) == {"sms": "said so"}


# After a reply


async def test_a_lead_that_never_wrote_has_not_replied(app: App) -> None:
    assert not await replied(app.context, await jane(app))


async def test_a_reply_counts_until_the_lead_is_enrolled_again(app: App) -> None:
    app.receives(app.lead.id, "Tell me more", hours=1)
    before = await replied(app.context, await jane(app))

    await acted(app, "enroll_in_sequence")
    after = await replied(app.context, await jane(app))
    app.clock.advance(hours=5)
    app.receives(app.lead.id, "And the price?", hours=1)
    again = await replied(app.context, await jane(app))

    assert (before, after, again) == (True, False, True)


# New addresses


async def test_an_address_that_a_tool_wrote_of_late_is_told_with_who_and_when(reached: App) -> None:
    await acted(reached, "update_lead", *addresses_in({"email": "Jane@Doe.example", "phone": NUMBER}, None))
    reached.clock.advance(minutes=130)

    remarks = await fresh(reached.context, await jane(reached), ("sms", "call", "email"))

    by = "was set by ann via tests with update_lead 2 h ago (2026-03-20T18:00:00Z): make sure that it is right"
    assert remarks == (f"the phone number {NUMBER} {by}", f"the e-mail address {EMAIL} {by}")


async def test_only_the_addresses_that_are_used_are_told(reached: App) -> None:
    await acted(reached, "update_lead", *addresses_in({"email": EMAIL}, None))

    assert await fresh(reached.context, await jane(reached), ("sms", "call", "linkedin")) == ()


@pytest.mark.parametrize(("hours", "told"), [(23.99, 1), (24.01, 0)])
async def test_an_address_is_new_for_a_day(reached: App, hours: float, told: int) -> None:
    await acted(reached, "import_leads", *addresses_in([{"custom_fields": {"linkedin": "jane"}}], None))
    reached.clock.advance(hours=hours)

    assert len(await fresh(reached.context, await jane(reached), ("linkedin",))) == told


@pytest.mark.parametrize(
    ("arguments", "country", "found"),
    [
        ({"email": " Jane@Doe.Example "}, None, {("email", "jane@doe.example")}),
        ({"email": "o'brien@doe.example"}, None, {("email", "o'brien@doe.example")}),
        (
            {"note": "write to <jane@doe.example>, or jo@doe.example."},
            None,
            {("email", EMAIL), ("email", "jo@doe.example")},
        ),
        ({"phone": "+1 (415) 555-0171"}, None, {("sms", NUMBER)}),
        ({"phone": "(415) 555-0171"}, None, NONE),
        ({"phone": "(415) 555-0171"}, "US", {("sms", NUMBER)}),
        ({"phone": "+1 415 555 0171"}, "DE", {("sms", NUMBER)}),
        ({"phone": "+1 800 FLOWERS"}, None, {("sms", "+18003569377")}),
        ({"phone": 14155550171}, None, {("sms", NUMBER)}),
        ({"lead": {"phones": [{"value": NUMBER}]}}, None, {("sms", NUMBER)}),
        ({"custom_fields": {"linkedin": "Jane"}}, None, {("linkedin", "jane")}),
        ({"about": "https://www.linkedin.com/in/Jane/?x=1"}, None, {("linkedin", "jane")}),
        ({"about": "(linkedin.com/in/jane%2Dlee/de)."}, None, {("linkedin", "jane-lee")}),
        (
            {"csv": "name;email;phone\nJane;jane@doe.example;+1 415 555-0171\nJo;jo@doe.example;\n"},
            None,
            {("email", EMAIL), ("email", "jo@doe.example"), ("sms", NUMBER)},
        ),
        ({"title": "Head of 3 teams", "done": True, "score": 7, "none": None}, "US", NONE),
    ],
)
def test_every_address_in_the_arguments_is_found(
    arguments: Any, country: str | None, found: set[tuple[str, str]]
) -> None:
    assert {(each.channel, each.address) for each in addresses_in(arguments, country)} == found


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
        max_leaves=12,
    ),
    st.sampled_from([None, "US", "DE"]),
)
def test_no_arguments_break_the_search_for_addresses(arguments: Any, country: str | None) -> None:
    for each in addresses_in(arguments, country):
        assert address_of(each.channel, each.address, country) == each.address


@given(st.text(max_size=40), st.text(max_size=40))
def test_an_address_is_found_whatever_stands_around_it(before: str, after: str) -> None:
    text = f"{before} <jane@doe.example> {after}"

    assert Address(channel="email", address=EMAIL) in addresses_in({"about": text}, None)


def test_many_rows_are_searched_in_no_time() -> None:
    rows = "\n".join(f"Jane {n},jane{n}@doe.example,+1415{5_000_000 + n}" for n in range(1000))
    begun = perf_counter()

    found = addresses_in({"csv": f"name,email,phone\n{rows}"}, "US")

    assert len(found) >= 2000
    assert perf_counter() - begun < 5


async def test_what_the_lead_has_already_is_no_new_address(reached: App) -> None:
    lead = await jane(reached)

    new = unheld(reached.context, lead, {"email": EMAIL.upper(), "phone": OTHER, "custom_fields": {"linkedin": "jane"}})

    assert new == (Address(channel="sms", address=OTHER),)


# Fields that no tool may write


@pytest.fixture
async def careful(tmp_path: Path) -> AsyncGenerator[App]:
    """A process in which SMS and calls need a consent."""
    needed = PolicySettings.model_validate({"require_consent": {"sms": "sms_opt_in", "call": "sms_opt_in"}})
    opened = await App(tmp_path, policy=needed).with_jane()
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"custom_fields": {"sms_opt_in": True}},
        {"custom_fields": {"SMS Opt-In": "yes"}},
        {"clear": ["custom_fields.sms_opt_in"]},
        {"clear": ["custom_fields", "sms-opt-in"]},
        {"clear": ["title", "custom_fields"]},
        {"leads": [{"name": "Jane"}, {"name": "Jo", "custom_fields": {"smsOptIn": 1}}]},
        {"csv": "name,phone,sms_opt_in\nJane,+14155550171,yes"},
        {"csv": '\ufeff"name";"Sms Opt In"\r\nJane;yes'},
        {"arguments": {"payload": {"field": "sms_opt_in", "value": True}}},
        {"arguments": {"payload": {"path": "lead/custom_fields/sms_opt_in"}}},
        {"arguments": {"body": '{"lead": {"sms_opt_in": true}}'}},
        {"sms_opt_in": None},
    ],
)
async def test_a_field_that_holds_consent_is_written_by_no_tool(careful: App, arguments: dict[str, Any]) -> None:
    with pytest.raises(Forbidden) as refused:
        await refuse_consent_fields(careful.context, arguments)

    assert str(refused.value) == (
        '"sms_opt_in" holds the consent to be reached by sms and call, and no tool can write it; '
        "a person sets it in the CRM"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"custom_fields": {"email_opt_in": True, "notes": "sms_opt_in is not set; ask her"}},
        {"clear": ["title"]},
        {"csv": "name,phone\nsms_opt_in,+14155550171"},
        {"content": "[not JSON"},
    ],
)
async def test_other_fields_are(careful: App, arguments: dict[str, Any]) -> None:
    await refuse_consent_fields(careful.context, arguments)


async def test_where_no_consent_is_needed_every_field_may_be_written(app: App) -> None:
    await refuse_consent_fields(app.context, {"custom_fields": {"sms_opt_in": True}})


async def test_a_field_is_known_by_its_id_as_well(careful: App, monkeypatch: pytest.MonkeyPatch) -> None:
    listed_so_often: list[str] = []

    async def fields(kind: str) -> tuple[Option, ...]:
        listed_so_often.append(kind)
        return (Option(id="cf-17", name="SMS opt-in"), Option(id="cf-18", name="Budget"))

    monkeypatch.setattr(careful.crm, "list_options", fields)

    await refuse_consent_fields(careful.context, {"payload": {"custom_field_uuid": "cf-18", "value": 5}})
    with pytest.raises(Forbidden):
        await refuse_consent_fields(careful.context, {"payload": {"custom_field_uuid": "CF-17", "value": True}})

    assert listed_so_often == ["custom_fields"]


@pytest.mark.parametrize("by", ["policy", "token", None])
async def test_nobody_but_a_person_lifts_a_block(app: App, by: str | None) -> None:
    lead = await jane(app)
    await block(app.context, lead, ("sms",), "said so", ANN)

    async def lifting() -> None:
        await lift(app.context, lead, ("sms",), ANN)

    with pytest.raises(Forbidden, match="the block was not lifted"):
        await (app.under(lifting, "outward", by) if by else lifting())

    assert await blocks_of(app.context, lead) == {"sms": "said so"}
