"""Do-not-contact, and the kill switch."""

from __future__ import annotations

from crm_mcp.store import Store

from .conftest import Clock, State


async def test_nobody_is_blocked_at_first(store: Store) -> None:
    assert await store.blocked({"email": "jane@example.com", "sms": "+14155550123"}) == {}
    assert await store.blocked({}) == {}


async def test_blocking_is_by_channel_and_address(store: Store) -> None:
    await store.block({"sms": "+14155550123", "email": "jane@example.com"}, "asked on the phone", "ops")

    assert await store.blocked({"sms": "+14155550123", "call": "+14155550123", "email": "joe@example.com"}) == {
        "sms": "asked on the phone"
    }


async def test_capitals_and_blanks_make_no_other_address(store: Store) -> None:
    await store.block({"email": " Jane@Example.com"}, None, "ops")

    assert await store.blocked({"email": "jane@EXAMPLE.com "}) == {"email": ""}
    await store.unblock({"email": "JANE@example.com"}, "ops")
    assert await store.blocked({"email": "jane@example.com"}) == {}


async def test_blocking_again_keeps_the_reason_unless_there_is_a_new_one(store: Store) -> None:
    address = {"linkedin": "https://www.linkedin.com/in/jane"}
    await store.block({"linkedin": address["linkedin"]}, "first", "ops")

    await store.block({"linkedin": address["linkedin"]}, None, "ops")
    assert await store.blocked({"linkedin": address["linkedin"]}) == {"linkedin": "first"}
    await store.block({"linkedin": address["linkedin"]}, "second", "ops")

    assert await store.blocked({"linkedin": address["linkedin"]}) == {"linkedin": "second"}


async def test_unblocking_lifts_only_what_is_named(store: Store) -> None:
    both = {"email": "jane@example.com"}
    await store.block({"sms": "+1", "email": both["email"]}, None, "ops")

    await store.unblock({"sms": "+1", "call": "+1"}, "ops")
    await store.unblock({}, "ops")

    assert await store.blocked({"sms": "+1", "email": both["email"]}) == {"email": ""}


async def test_a_lifted_block_is_remembered_until_there_is_a_new_one(store: Store, clock: Clock) -> None:
    await store.block({"sms": "+1", "email": "jane@example.com"}, "STOP", "ops")
    clock.advance(hours=1)
    lifted = clock.moment
    await store.unblock({"sms": "+1"}, "jo")
    clock.advance(hours=1)

    await store.unblock({"sms": "+1", "call": "+1"}, "jo")
    assert await store.lifted({"sms": "+1", "call": "+1", "email": "jane@example.com"}) == {"sms": lifted}
    await store.block({"sms": "+1"}, None, "ops")

    assert await store.lifted({"sms": "+1"}) == {}
    assert await store.blocked({"sms": "+1"}) == {"sms": ""}


async def test_the_list_outlives_the_process(store: Store, state: State) -> None:
    await store.block({"email": "jane@example.com"}, None, "ops")
    await store.aclose()

    again = state.store()
    assert await again.blocked({"email": "jane@example.com"}) == {"email": ""}
    await again.aclose()


async def test_the_kill_switch_says_who_turned_it(store: Store, other: Store, clock: Clock) -> None:
    assert await store.outbound() is None

    await store.set_outbound(False, "jo")
    assert await other.outbound() == "turned off by jo at 2026-03-20T10:00:00.123Z"
    await other.set_outbound(True, "jo")

    assert await store.outbound() is None
