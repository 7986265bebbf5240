"""After a message that may ask for no more, the next one on its channel needs a person: never a token, nor a policy."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from crm_mcp.actions.guards.inbound import marked
from crm_mcp.actions.intent import DOUBT, DOUBTED
from crm_mcp.backends.base import ReadsActivity
from crm_mcp.channels import Channel
from crm_mcp.config import Fallback, PolicySettings
from crm_mcp.model import Activity, LeadDraft, Slice
from tests.harness.app import NUMBER, App
from tests.harness.person import Person


@pytest.fixture
async def allowing(tmp_path: Path) -> AsyncGenerator[App]:
    """A process whose policy lets messages go out."""
    app = await App(tmp_path / "allowing", policy=PolicySettings(outward="allow")).with_jane()
    yield app
    await app.close()


@pytest.mark.parametrize("fallback", ["token", "approval"])
async def test_who_can_t_be_asked_waits_for_an_approval(app: App, fallback: Fallback) -> None:
    app.receives(app.lead.id, "please stop texting me")

    result = await app.pipeline.act(app.sms(), Person(fallback=fallback))

    assert result["status"] == "pending_approval"
    (row,) = await app.rows()
    assert (row.rule, row.asked, len(row.facts[DOUBTED])) == (DOUBT, "approval", 1)
    assert row.preview
    assert '"please stop texting me"' in row.preview
    assert await app.sent() == ["please stop texting me"]


async def test_who_is_denied_without_a_question_is_denied(app: App) -> None:
    app.receives(app.lead.id, "please stop texting me")

    result = await app.pipeline.act(app.sms(), Person(fallback="deny"))

    assert (result["status"], await app.sent()) == ("blocked", ["please stop texting me"])


async def test_an_allowed_message_is_asked_about_all_the_same(allowing: App) -> None:
    allowing.receives(allowing.lead.id, "please stop texting me")
    person = Person("yes")

    result = await allowing.pipeline.act(allowing.sms(), person)

    assert (result["status"], len(person.asked)) == ("done", 1)
    assert "only a person may decide this" in person.asked[0].text


async def test_one_yes_of_a_person_is_enough_until_the_next_such_message(allowing: App) -> None:
    allowing.receives(allowing.lead.id, "please stop texting me", days=2)
    waiting = await allowing.pipeline.act(allowing.sms("First"), Person())
    (row,) = await allowing.rows()
    approved = await allowing.pipeline.approve(row, "ann")

    after = await allowing.pipeline.act(allowing.sms("Second"), Person())
    allowing.receives(allowing.lead.id, "I said stop it!")
    again = await allowing.pipeline.act(allowing.sms("Third"), Person())

    assert [each["status"] for each in (waiting, approved, after, again)] == [
        "pending_approval",
        "done",
        "done",
        "pending_approval",
    ]


async def test_a_token_that_was_given_before_the_message_came_is_worth_nothing(app: App) -> None:
    client = Person()
    proposed = await app.pipeline.act(app.sms(), client)
    assert proposed["status"] == "confirmation_required"
    app.receives(app.lead.id, "please stop texting me")

    result = await app.pipeline.redeem(proposed["action_id"], proposed["summary"], client)

    assert result["status"] == "blocked"
    assert "only a person" in result["reason"]
    assert await app.sent() == ["please stop texting me"]


async def test_a_yes_that_was_given_before_the_message_came_is_void(app: App) -> None:
    async def comes() -> None:
        app.receives(app.lead.id, "please stop texting me")

    person = Person("yes")
    person.before_the_answer = comes

    result = await app.pipeline.act(app.sms(), person)

    assert (result["status"], await app.sent()) == ("expired", ["please stop texting me"])


async def test_an_approval_covers_only_what_it_showed(app: App) -> None:
    app.receives(app.lead.id, "please stop texting me", days=2)
    await app.pipeline.act(app.sms(), Person())
    (row,) = await app.rows()
    app.receives(app.lead.id, "quit it please, now")

    result = await app.pipeline.approve(row, "ann")

    assert result["status"] == "expired"


async def test_two_messages_that_wait_can_both_be_approved(app: App) -> None:
    app.receives(app.lead.id, "please stop texting me", days=2)
    for text in ("First", "Second"):
        await app.pipeline.act(app.sms(text), Person())

    results = [await app.pipeline.approve(row, "ann") for row in reversed(await app.rows())]

    assert [each["status"] for each in results] == ["done", "done"]


async def test_what_another_lead_with_the_number_wrote_counts(app: App) -> None:
    other = await app.crm.create_lead(LeadDraft(name="John Roe", phone=NUMBER))
    app.receives(other.id, "please stop texting me")

    assert (await app.pipeline.act(app.sms(), Person()))["status"] == "pending_approval"


async def test_another_channel_is_not_held_up(app: App) -> None:
    app.receives(app.lead.id, "Please stop the e-mails", "email")

    assert (await app.pipeline.act(app.sms(), Person()))["status"] == "confirmation_required"


@pytest.mark.parametrize(
    ("channel", "text", "expected"),
    [
        ("sms", "please stop texting me", True),
        ("sms", "STOP please", None),
        ("sms", "See you", None),
        ("email", "Hello\nI want to opt out", True),
        ("email", "Re: Stop losing leads\nGood idea", None),
        ("email", "Question\nUnsubscribe", None),
        ("email", "Re: STOP", True),
        ("email", "Re: Stop losing leads\nFine\n> Reply STOP to end this", None),
        ("email", "unsubscribe", None),
        ("linkedin", "please stop", None),
    ],
)
async def test_such_a_message_is_marked(app: App, channel: Channel, text: str, expected: bool | None) -> None:
    came = Activity(kind="message", id="M1", channel=channel, direction="inbound", text=text)
    went = came.model_copy(update={"direction": "outbound"})
    note = came.model_copy(update={"kind": "note"})

    found = await marked(app.lead, [came, went, note])

    assert [each.opt_out_suspected for each in found] == [expected, None, None]


async def test_the_mark_stands_in_the_list(app: App) -> None:
    app.receives(app.lead.id, "please stop texting me")

    page = await app.context.crm(ReadsActivity).list_activity(app.lead.id, (), None, Slice())
    (item,) = await marked(app.lead, page.items)

    assert item.shown()["opt_out_suspected"] is True
