"""An address that looks like another one is another one: it is shown as such, and no list takes one for the other."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.actions.guards.policy import Policy
from crm_mcp.actions.guards.rules import no_address
from crm_mcp.model import Lead
from tests.harness.app import App
from tests.harness.clock import Clock
from tests.harness.person import Person
from tests.harness.settings import rules

TRUE = "paula.cox@acme-tools.example"
OTHERS = {
    "Cyrillic in the domain": ("paula.cox@\u0430cme-tools.example", "paula.cox@xn--cme-tools-zyh.example"),
    "Cyrillic before the at": ("p\u0430ula.cox@acme-tools.example", "p\\u0430ula.cox@acme-tools.example"),
    "Cyrillic at the end": ("paula.co\u0445@acme-tools.example", "paula.co\\u0445@acme-tools.example"),
    "Greek in the domain": ("paula.cox@\u03b1cme-tools.example", "paula.cox@xn--cme-tools-pxg.example"),
    "Greek before the at": ("paula.c\u03bfx@acme-tools.example", "paula.c\\u03bfx@acme-tools.example"),
    "Armenian": ("p\u0561ula.cox@acme-tools.example", "p\\u0561ula.cox@acme-tools.example"),
    "Cherokee": ("paula.cox@acme-tools.ex\u13aample", "xn--"),
    "an accent": ("paula.cox@\u00e1cme-tools.example", "paula.cox@xn--cme-tools-z1a.example"),
    "a dot below": ("paula.cox@acme-too\u1e37s.example", "xn--"),
    "full width before the at": ("\uff50aula.cox@acme-tools.example", "\\uff50aula.cox@acme-tools.example"),
    "a small capital": ("paula.cox@acme-tool\ua731.example", "xn--"),
}
"""Addresses that look like the true one, and what shows the difference."""
SAME = {
    "capitals": "Paula.Cox@ACME-tools.example",
    "the dot of the root": "paula.cox@acme-tools.example.",
    "space around it": "  paula.cox@acme-tools.example ",
    "full width in the domain": "paula.cox@\uff41cme-tools.example",
    "another full stop": "paula.cox@acme-tools\u3002example",
}
"""Other ways to write the true one: mail to them arrives in the same box."""
SEVERAL = [
    f"{TRUE}, eve@else.example",
    f"{TRUE};eve@else.example",
    f"{TRUE} eve@else.example",
    f"eve@else.example\n{TRUE}",
    f"Eve <eve@else.example>, {TRUE}",
    f"Paula Cox <{TRUE}>",
    f"mailto:{TRUE}?bcc=eve@else.example",
    f"{TRUE}\r\nBcc: eve@else.example",
    f"{TRUE}@else.example",
    f"(eve@else.example) {TRUE}",
]
"""What stands in a field for one address, and is none."""


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[App]:
    made = App(tmp_path, Clock(), sample=True, policy=rules(outward="allow"))
    await made.new_leads(2)
    yield made
    await made.close()


def addressed(app: App, lead: int, email: str) -> str:
    """Give a lead an address, as a form on a web page does; returns its id."""
    with closing(sqlite3.connect(app.settings.data_dir / "crm.sqlite3", timeout=20)) as db, db:
        db.execute("UPDATE leads SET email = ?, email_key = ?, name = 'Paula Cox' WHERE n = ?", (email, email, lead))
    return f"L{lead}"


async def mail(app: App, lead: str, body: str = "Here it is.") -> dict[str, Any]:
    return await app.call("send_email", Person("no"), lead=lead, subject="The quote", body=body)


@pytest.mark.parametrize("name", OTHERS)
async def test_a_look_alike_is_shown_in_plain_letters(app: App, name: str) -> None:
    address, plain = OTHERS[name]
    person = Person("no")

    app.context.policy = Policy(rules(), app.context.tools)
    await app.call("send_email", person, lead=addressed(app, 1, address), subject="The quote", body="Hello")

    [question] = person.asked
    first = question.text.splitlines()[0]
    assert first.startswith(f"E-mail to {address} (its letters may look like others; in plain ones ")
    assert plain in first
    assert TRUE not in first


async def test_an_answer_to_a_look_alike_is_shown_in_plain_letters_as_well(app: App) -> None:
    person = Person("no")
    app.context.policy = Policy(rules(), app.context.tools)

    fields = {"subject": "The quote", "body": "Hello", "reply_to": OTHERS["Cyrillic in the domain"][0]}
    other = addressed(app, 2, fields["reply_to"])
    await app.call("send_email", person, lead=addressed(app, 1, TRUE), **fields)

    [question] = person.asked
    assert "replies to paula.cox@\u0430cme-tools.example (its letters may look like others" in question.text
    assert f" ({other}), subject " in question.text


async def test_answers_go_to_nobody_whose_address_only_looks_like_one_on_file(app: App) -> None:
    lead = addressed(app, 1, TRUE)

    for name, (look_alike, _) in OTHERS.items():
        fields = {"subject": "The quote", "body": name, "reply_to": look_alike}
        blocked = await app.call("send_email", Person("yes"), lead=lead, **fields)
        assert (blocked["status"], name) == ("blocked", name)
        assert blocked["reason"].startswith("no address on file: replies can't go to ")


@pytest.mark.parametrize("name", OTHERS)
async def test_a_look_alike_is_neither_blocked_nor_freed_by_the_true_one(app: App, name: str) -> None:
    true, other = addressed(app, 1, TRUE), addressed(app, 2, OTHERS[name][0])

    await app.call("set_do_not_contact", lead=true, blocked=True, channels=["email"])
    sent = [(await mail(app, lead))["status"] for lead in (true, other)]
    await app.call("set_do_not_contact", lead=other, blocked=True, channels=["email"])
    await app.call("set_do_not_contact", lead=true, blocked=False, channels=["email"])
    then = [(await mail(app, lead, "And again."))["status"] for lead in (true, other)]

    assert sent == ["blocked", "done"]
    assert then == ["done", "blocked"]


@pytest.mark.parametrize("name", SAME)
async def test_another_way_to_write_an_address_is_no_way_round_its_block(app: App, name: str) -> None:
    true, other = addressed(app, 1, TRUE), addressed(app, 2, SAME[name])

    await app.call("set_do_not_contact", lead=true, blocked=True, channels=["email"])

    assert (await mail(app, other))["status"] == "blocked"


@pytest.mark.parametrize("name", SAME)
async def test_another_way_to_write_an_address_gets_no_message_twice(app: App, name: str) -> None:
    true, other = addressed(app, 1, TRUE), addressed(app, 2, SAME[name])

    assert [(await mail(app, lead))["status"] for lead in (true, other)] == ["done", "duplicate"]


@pytest.mark.parametrize("email", SEVERAL)
async def test_a_field_with_more_than_one_address_reaches_nobody(app: App, email: str) -> None:
    lead = addressed(app, 1, email)

    said = await mail(app, lead)
    enrolled = await app.call("enroll_in_sequence", sequence="Follow-up", leads=[lead])

    assert (said["status"], enrolled["status"]) == ("blocked", "blocked")
    assert "is not one e-mail address" in said["reason"]
    assert no_address(Lead(id="L1", email=email), "email")
