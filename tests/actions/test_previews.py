"""What a person is shown of a message before it goes, what keeps it from going twice, and how it is repeated."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.actions.intent import Preview
from crm_mcp.actions.messages import message_key, preview_call, preview_email, preview_linkedin, preview_sms
from crm_mcp.config import PolicySettings
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Lead, Mailbox, Sender
from crm_mcp.store import Action, ClaimConditions, DedupKey, Ended, NewAction
from tests.harness.app import NUMBER, App

BOX = Mailbox(id="1", address="sales@example.com")
SENDER = Sender(id="7", name="Ann")
PROFILE = "https://www.linkedin.com/in/jane"


def jane(**fields: Any) -> Lead:
    whole: dict[str, Any] = {"id": "L1", "name": "Jane Doe", "phone": NUMBER, "email": "Jane@Example.com"}
    return Lead.model_validate({**whole, "custom_fields": {"linkedin": PROFILE}, **fields})


async def mail(app: App, lead: Lead, subject: str = "Hello", body: str = "How are you?", **more: Any) -> Preview:
    return await preview_email(app.context, lead, BOX, subject, body, None, **more)


async def sent(app: App, preview: Preview) -> Action:
    """Record that what a preview shows was sent."""
    new = NewAction(
        caller="somebody else",
        connection="other",
        tool="send_sms",
        effect="outward",
        arguments={},
        digest="x",
        summary=preview.summary,
    )
    begun = await app.store.actions.begin(
        new, "policy", ClaimConditions(outward=True, dedup_keys=preview.dedup_keys, resend_of=preview.resend_of)
    )
    assert isinstance(begun, Action)
    return await app.store.actions.complete(begun.id, Ended("done"))


async def test_a_message_has_one_mark_for_a_day_of_channel_address_and_text(app: App):
    by_sms = await preview_sms(app.context, jane(), "Hi")
    by_mail = await mail(app, jane())
    by_linkedin = await preview_linkedin(app.context, jane(), SENDER, "Hi")

    assert by_sms.dedup_keys == (
        DedupKey(key=message_key("sms", NUMBER, "Hi"), seconds=86_400, channel="sms", address=NUMBER),
    )
    assert [each.address for each in by_mail.dedup_keys] == ["jane@example.com"]
    assert [(each.channel, each.address) for each in by_linkedin.dedup_keys] == [("linkedin", "jane")]
    assert not by_sms.confirm


@pytest.mark.parametrize(
    ("one", "other"),
    [("On my way", " On  my\nway\t"), ("Café", "Cafe\u0301"), ("a\u00a0b", "a b"), ("Hi\r\nthere", "Hi there")],
)
async def test_a_text_is_the_same_however_its_white_space_and_accents_are_written(app: App, one: str, other: str):
    first, second = await preview_sms(app.context, jane(), one), await preview_sms(app.context, jane(), other)

    assert first.dedup_keys == second.dedup_keys


async def test_an_address_is_the_same_however_it_is_written(app: App):
    first, second = await mail(app, jane()), await mail(app, jane(email="jane@EXAMPLE.com"))

    assert first.dedup_keys == second.dedup_keys


@given(st.lists(st.text(max_size=5), min_size=2, max_size=2), st.lists(st.text(max_size=5), min_size=2, max_size=2))
def test_different_mails_have_different_marks(one: list[str], other: list[str]):
    def shown(texts: list[str]) -> list[list[str]]:
        return [unicodedata.normalize("NFC", each).split() for each in texts]

    same = message_key("email", "a@example.com", *one) == message_key("email", "a@example.com", *other)

    assert same is (shown(one) == shown(other)) or any("\0" in each for each in one + other)


@pytest.mark.parametrize(
    "changed", [{"subject": "Hello!"}, {"body": "how are you?"}, {"subject": "Hello How", "body": "are you?"}]
)
async def test_another_text_is_another_message(app: App, changed: dict[str, str]):
    assert (await mail(app, jane())).dedup_keys != (await mail(app, jane(), **changed)).dedup_keys


async def test_a_call_has_a_mark_for_two_minutes(app: App):
    shown = await preview_call(app.context, jane())

    assert shown.dedup_keys == (DedupKey(key=f"call:{NUMBER}", seconds=120, channel="call", address=NUMBER),)
    assert "it is 11:00 there (America/Los_Angeles, the number's zone)" in shown.details


async def test_what_is_blocked_says_by_which_rule_and_until_when(app: App):
    app.clock.advance(hours=12)

    at_night = await preview_sms(app.context, jane(), "Hi", defer=True)
    nowhere = await preview_sms(app.context, jane(phone=None), "Hi")

    assert (at_night.rule, at_night.until, at_night.defer) == (
        "quiet_hours",
        app.clock.moment + timedelta(hours=9),
        True,
    )
    assert at_night.blocked is not None
    assert at_night.dedup_keys
    assert (nowhere.rule, nowhere.until, nowhere.dedup_keys, nowhere.defer) == ("no_address", None, (), False)


async def test_limits_are_given_on_to_be_counted_again(tmp_path: Path):
    limits = {"daily_limits": {"sms": 5}, "contact_limits": {"messages": 3}}
    app = await App(tmp_path, policy=PolicySettings.model_validate(limits)).with_jane()
    try:
        shown = await preview_sms(app.context, jane(), "Hi")
    finally:
        await app.close()

    assert [(each.most, each.channels) for each in shown.quotas] == [(5, ("sms",)), (3, ("email", "sms", "linkedin"))]
    assert shown.blocked is None


async def test_a_repeat_on_purpose_names_what_it_repeats_and_is_asked_about(app: App):
    earlier = await sent(app, await preview_sms(app.context, jane(), "Hi"))

    again = await preview_sms(app.context, jane(), " Hi ", resend_of=earlier.id)

    assert (again.confirm, again.resend_of, again.rule) == (True, earlier.id, "resend_of")
    assert f"a repeat, on purpose, of {earlier.id} (done) of 2026-03-20T18:00:00Z" in again.text


@pytest.mark.parametrize(
    ("phone", "text"), [(NUMBER, "Ho"), ("+14155550199", "Hi")], ids=["another text", "another number"]
)
async def test_only_this_very_message_can_be_repeated(app: App, phone: str, text: str):
    earlier = await sent(app, await preview_sms(app.context, jane(), "Hi"))

    with pytest.raises(InvalidArgument, match=f'resend_of: "{earlier.id}" is no action that sent this very message'):
        await preview_sms(app.context, jane(phone=phone), text, resend_of=earlier.id)


async def test_a_message_on_another_channel_is_no_repeat(app: App):
    earlier = await sent(app, await preview_sms(app.context, jane(), "Hi"))

    with pytest.raises(InvalidArgument, match="leave it out"):
        await preview_linkedin(app.context, jane(), SENDER, "Hi", resend_of=earlier.id)


async def test_a_repeat_of_nothing_is_told_what_there_is(app: App):
    with pytest.raises(InvalidArgument, match="leave it out: it was not sent in the last 24 hours"):
        await preview_sms(app.context, jane(), "Hi", resend_of="a0")

    earlier = await sent(app, await preview_sms(app.context, jane(), "Hi"))

    with pytest.raises(InvalidArgument, match=f"the last one was {earlier.id}"):
        await preview_sms(app.context, jane(), "Hi", resend_of="a0")


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("jane@ex\u0430mple.com", "jane@xn--exmple-4nf.com"),
        ("j\u0430ne@example.com", "j\\u0430ne@example.com"),
        ("jane@b\u00fccher.example", "jane@xn--bcher-kva.example"),
    ],
)
async def test_an_address_whose_letters_look_like_others_is_shown_in_plain_ones(app: App, address: str, plain: str):
    shown = await mail(app, jane(email=address))

    assert f"to {address} (its letters may look like others; in plain ones {plain}), " in shown.summary


async def test_a_profile_whose_letters_look_like_others_is_shown_in_plain_ones(app: App):
    shown = await preview_linkedin(
        app.context, jane(custom_fields={"linkedin": "linkedin.com/in/j\u0430ne"}), SENDER, "Hi"
    )

    assert "in plain ones linkedin.com/in/j\\u0430ne)" in shown.summary


async def test_a_text_that_grows_too_long_for_the_summary_by_what_breaks_its_markup_is_whole_below(app: App):
    text = "<b " * 150 + "the end"

    shown = await preview_sms(app.context, jane(), text)

    assert "the end" not in shown.summary
    assert shown.details.endswith(f"the whole text:\n| {'< b ' * 150}the end")


@pytest.mark.parametrize("text", ['Hello Jane,\n\nsee "it"', "two  spaces"])
async def test_a_text_that_one_line_can_t_show_as_it_is_stands_below_line_by_line(app: App, text: str):
    shown = await preview_sms(app.context, jane(), text)
    plain = await preview_sms(app.context, jane(), "Hello Jane, see it")

    assert shown.details.endswith("the whole text:\n" + "\n".join(f"| {line}" for line in text.split("\n")))
    assert "the whole text" not in plain.details


async def test_a_plain_address_is_shown_as_it_is(app: App):
    assert "E-mail to Jane@Example.com, " in (await mail(app, jane())).summary
