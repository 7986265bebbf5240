"""Do-not-contact, and the kill switch."""

from __future__ import annotations

from typing import cast

from crm_mcp.channels import Blocked, Channel
from crm_mcp.store import Store

from .conftest import Clock, State


async def test_nobody_is_blocked_at_first(store: Store) -> None:
    assert await store.contacts.blocked({"email": "jane@example.com", "sms": "+14155550123"}) == {}
    assert await store.contacts.blocked({}) == {}


async def test_blocking_is_by_channel_and_address(store: Store) -> None:
    await store.contacts.block({"sms": "+14155550123", "email": "jane@example.com"}, "asked on the phone", "ops")

    assert await store.contacts.blocked(
        {"sms": "+14155550123", "call": "+14155550123", "email": "joe@example.com"}
    ) == {"sms": "asked on the phone"}


async def test_capitals_and_blanks_make_no_other_address(store: Store) -> None:
    await store.contacts.block({"email": " Jane@Example.com"}, None, "ops")

    assert await store.contacts.blocked({"email": "jane@EXAMPLE.com "}) == {"email": ""}
    await store.contacts.unblock({"email": "JANE@example.com"}, "ops")
    assert await store.contacts.blocked({"email": "jane@example.com"}) == {}


async def test_blocking_again_keeps_the_reason_unless_there_is_a_new_one(store: Store) -> None:
    address = {"linkedin": "https://www.linkedin.com/in/jane"}
    await store.contacts.block({"linkedin": address["linkedin"]}, "first", "ops")

    await store.contacts.block({"linkedin": address["linkedin"]}, None, "ops")
    assert await store.contacts.blocked({"linkedin": address["linkedin"]}) == {"linkedin": "first"}
    await store.contacts.block({"linkedin": address["linkedin"]}, "second", "ops")

    assert await store.contacts.blocked({"linkedin": address["linkedin"]}) == {"linkedin": "second"}


async def test_unblocking_lifts_only_what_is_named(store: Store) -> None:
    both = {"email": "jane@example.com"}
    await store.contacts.block({"sms": "+1", "email": both["email"]}, None, "ops")

    await store.contacts.unblock({"sms": "+1", "call": "+1"}, "ops")
    await store.contacts.unblock({}, "ops")

    assert await store.contacts.blocked({"sms": "+1", "email": both["email"]}) == {"email": ""}


async def test_a_lifted_block_is_remembered_until_there_is_a_new_one(store: Store, clock: Clock) -> None:
    await store.contacts.block({"sms": "+1", "email": "jane@example.com"}, "STOP", "ops")
    clock.advance(hours=1)
    lifted = clock.moment
    await store.contacts.unblock({"sms": "+1"}, "jo")
    clock.advance(hours=1)

    await store.contacts.unblock({"sms": "+1", "call": "+1"}, "jo")
    assert await store.contacts.lifted({"sms": "+1", "call": "+1", "email": "jane@example.com"}) == {"sms": lifted}
    await store.contacts.block({"sms": "+1"}, None, "ops")

    assert await store.contacts.lifted({"sms": "+1"}) == {}
    assert await store.contacts.blocked({"sms": "+1"}) == {"sms": ""}


async def test_the_list_outlives_the_process(store: Store, state: State) -> None:
    await store.contacts.block({"email": "jane@example.com"}, None, "ops")
    await store.aclose()

    again = state.store()
    assert await again.contacts.blocked({"email": "jane@example.com"}) == {"email": ""}
    await again.aclose()


async def test_the_kill_switch_says_who_turned_it(store: Store, other: Store, clock: Clock) -> None:
    assert await store.limits.outbound() is None

    await store.limits.set_outbound(False, "jo")
    assert await other.limits.outbound() == "turned off by jo at 2026-03-20T10:00:00.123Z"
    await other.limits.set_outbound(True, "jo")

    assert await store.limits.outbound() is None


async def test_several_people_are_blocked_at_once_each_with_a_reason_and_an_entry_of_the_log(store: Store):
    await store.contacts.block({"email": "ann@example.com"}, "first", "ann")
    await store.contacts.block({"email": "bob@example.com"}, None, "ann")
    await store.contacts.unblock({"email": "bob@example.com"}, "ann")

    await store.contacts.block_many(
        [{"email": "ANN@example.com", "sms": "+1"}, {"email": "bob@example.com"}, {"sms": "+1"}, {}],
        ["again", "came back", None, "nobody"],
        "an import",
    )

    assert await store.contacts.blocked({"email": "ann@example.com", "sms": "+1"}) == {"email": "again", "sms": "again"}
    assert await store.contacts.blocked({"email": "bob@example.com"}) == {"email": "came back"}
    assert await store.contacts.lifted({"email": "bob@example.com"}) == {}
    events = [each.body["event"] for each in await store.audit.entries(None, 0, 100)]
    assert events == ["do_not_contact"] * 2 + ["do_not_contact_lifted"] + ["do_not_contact"] * 3
    assert not (await store.audit.verify(None)).faults


async def test_a_thousand_addresses_are_blocked_in_one_go(store: Store):
    people: list[dict[Blocked, str]] = [{"email": f"p{n}@example.com", "sms": f"+1415555{n:04d}"} for n in range(1_000)]

    await store.contacts.block_many(people, [None] * 1_000, "an import")
    await store.contacts.block_many(people, ["why"] * 1_000, "an import")

    known: dict[Channel, str] = {"email": "p999@example.com", "sms": "+14155550999"}
    assert await store.contacts.blocked(known) == {
        "email": "why",
        "sms": "why",
    }


PHONE: dict[Channel, str] = {"sms": "+1", "call": "+1"}
LATER = cast("Channel", "pigeon")
"""A channel that a later version may have."""


async def test_a_block_of_every_channel_is_one_row_and_holds_for_a_channel_that_comes_later(store: Store):
    await store.contacts.block({"every": "+1"}, "asked us", "ops")

    assert await store.contacts.blocked(PHONE) == {"sms": "asked us", "call": "asked us"}
    assert await store.contacts.blocked({LATER: "+1"}) == {LATER: "asked us"}
    assert await store.contacts.blocked({"sms": "+2", "email": "jane@example.com"}) == {}


async def test_one_channel_can_be_lifted_and_the_block_goes_on_for_the_others(store: Store, clock: Clock):
    await store.contacts.block({"every": "+1"}, "asked us", "ops")
    clock.advance(hours=1)

    await store.contacts.unblock({"sms": "+1"}, "jo")

    assert await store.contacts.blocked(PHONE) == {"call": "asked us"}
    assert await store.contacts.blocked({LATER: "+1"}) == {LATER: "asked us"}
    assert await store.contacts.lifted(PHONE) == {"sms": clock.moment}


async def test_a_block_of_every_channel_ends_what_was_lifted_before(store: Store):
    await store.contacts.block({"sms": "+1"}, None, "ops")
    await store.contacts.unblock({"sms": "+1"}, "jo")
    await store.contacts.block({"every": "+1"}, "again", "ops")

    assert await store.contacts.blocked(PHONE) == {"sms": "again", "call": "again"}
    assert await store.contacts.lifted(PHONE) == {}


async def test_what_is_lifted_for_every_channel_is_lifted_also_where_a_channel_has_a_row(store: Store, clock: Clock):
    await store.contacts.block({"sms": "+1"}, "STOP", "ops")
    await store.contacts.block({"every": "+1"}, None, "ops")
    clock.advance(hours=1)

    await store.contacts.unblock({"every": "+1"}, "jo")

    assert await store.contacts.blocked(PHONE) == {}
    assert await store.contacts.lifted(PHONE) == {"sms": clock.moment, "call": clock.moment}


async def test_the_later_of_two_liftings_counts(store: Store, clock: Clock):
    await store.contacts.block({"every": "+1"}, None, "ops")
    clock.advance(hours=1)
    await store.contacts.unblock({"sms": "+1"}, "jo")
    clock.advance(hours=1)
    await store.contacts.unblock({"every": "+1"}, "jo")

    assert await store.contacts.lifted(PHONE) == {"sms": clock.moment, "call": clock.moment}
