"""Where the answers to an e-mail go: to us, or to somebody on file who may be reached, whom the question names."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.config import PolicySettings
from crm_mcp.model import Mailbox
from tests.harness.app import App
from tests.harness.clock import Clock
from tests.harness.person import Person
from tests.harness.settings import OURS

MAIL: dict[str, Any] = {"lead": "L1", "subject": "The quote", "body": "Here it is."}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[App]:
    made = App(tmp_path, Clock(), sample=True)
    yield made
    await made.close()


async def lead(app: App, key: str) -> Any:
    return await app.context.lead(key)


async def test_answers_may_go_to_our_own_addresses(app: App) -> None:
    crm: Any = app.crm
    mailboxes: tuple[Mailbox, ...] = await crm.mailboxes()

    for n, own in enumerate((OURS, OURS.upper(), mailboxes[0].address)):
        person = Person("yes")
        done = await app.call("send_email", person, **MAIL | {"subject": f"Quote {n}"}, reply_to=own)

        assert done["status"] in ("done", "recorded")
        assert f", replies to {own}, subject ".casefold() in person.asked[0].text.casefold()


@pytest.mark.parametrize("wrong", ["eve@else.example", f"{OURS}.example", f"x{OURS}", "me+x@crm.example"])
async def test_answers_go_to_nobody_else(app: App, wrong: str) -> None:
    person = Person("yes")

    result = await app.call("send_email", person, **MAIL, reply_to=wrong)

    assert (result["status"], person.asked) == ("blocked", [])
    assert result["reason"] == (
        f"no address on file: replies can't go to {wrong}, which is neither that of one lead nor ours; leave reply_to "
        "out, or let a person add it to own_addresses of the connection in the settings"
    )


async def test_a_lead_who_would_get_the_answers_is_named(app: App) -> None:
    other, person = await lead(app, "L2"), Person("no")

    await app.call("send_email", person, **MAIL, reply_to=other.email)

    assert f', replies to {other.email}, "{other.label}" (L2), subject ' in person.asked[0].text


async def test_a_lead_who_would_get_the_answers_is_under_every_rule(app: App) -> None:
    other, person = await lead(app, "L2"), Person("yes")
    await app.call("set_do_not_contact", lead="L2", blocked=True, channels=["email"], reason="said so")

    result = await app.call("send_email", person, **MAIL, reply_to=other.email)

    assert (result["status"], person.asked) == ("blocked", [])
    assert result["reason"] == f"do-not-contact: {other.label} must not be reached by email (said so)"


async def test_who_is_blocked_while_the_question_stands_gets_no_answers(app: App) -> None:
    other, person = await lead(app, "L2"), Person("yes")

    async def block() -> None:
        await app.store.contacts.block({"email": other.email}, "said so", "somebody")

    person.before_the_answer = block
    result = await app.call("send_email", person, **MAIL, reply_to=other.email)

    assert result["status"] == "blocked"
    assert result["reason"].startswith("do-not-contact: ")


async def test_an_address_for_answers_that_a_tool_wrote_of_late_is_confirmed(tmp_path: Path) -> None:
    app = App(tmp_path, Clock(), sample=True, policy=PolicySettings(outward="allow"))
    await app.call("update_lead", lead="L2", email="new@else.example")
    person = Person("no")

    result = await app.call("send_email", person, **MAIL, reply_to="new@else.example")
    await app.close()

    assert result["status"] == "declined"
    assert "the e-mail address new@else.example was set by ann via tests with update_lead" in person.asked[0].text


async def test_a_lead_whose_address_has_moved_on_voids_the_yes(app: App) -> None:
    other, person = await lead(app, "L2"), Person("yes")

    async def rename() -> None:
        await app.call("update_lead", lead="L2", name="Somebody Else")

    person.before_the_answer = rename
    result = await app.call("send_email", person, **MAIL, reply_to=other.email)

    assert result["status"] == "expired"
    assert "Somebody Else" in result["reason"]


async def test_answers_may_go_to_the_recipient_itself(app: App) -> None:
    person = Person("no")

    result = await app.call("send_email", person, **MAIL, reply_to=(await lead(app, "L1")).email)

    assert result["status"] == "declined"
    assert person.asked[0].text.count("(L1)") == 2
