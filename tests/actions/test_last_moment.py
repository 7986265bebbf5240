"""What changes, or fails, between a person's yes and the deed, and after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.config import PolicySettings
from crm_mcp.errors import Unreachable
from crm_mcp.store.actions import Actions
from tests.harness.app import NUMBER, App
from tests.harness.person import Left, Person, leave


def late(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Let a claim take its time: something happens between the last look and the claim."""
    claim = Actions.claim

    async def slowly(actions: Actions, *args: Any, **kwargs: Any) -> object:
        await meanwhile()
        return await claim(actions, *args, **kwargs)

    monkeypatch.setattr(Actions, "claim", slowly)


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full when it comes to writing down what has happened."""

    async def fail(*_: Any, **__: Any) -> None:
        raise Unreachable("the state file does not fit on the disk any more", "free some space", wrote=False)

    monkeypatch.setattr(Actions, "complete", fail)


async def test_a_number_that_changes_after_the_last_look_gets_nothing(app: App, monkeypatch: pytest.MonkeyPatch):
    late(monkeypatch, app.move_number)

    result = await app.pipeline.act(app.sms(), Person("yes"))

    assert result["status"] == "failed"
    assert "changed" in result["reason"]
    assert await app.sent() == []


async def test_a_block_that_comes_after_the_last_look_holds(app: App, monkeypatch: pytest.MonkeyPatch):
    late(monkeypatch, lambda: app.store.contacts.block({"sms": NUMBER}, "STOP", "somebody"))

    result = await app.pipeline.act(app.sms(), Person("yes"))

    assert (result["status"], "do-not-contact" in result["reason"]) == ("blocked", True)
    assert await app.sent() == []


async def test_the_kill_switch_that_is_turned_after_the_last_look_holds(app: App, monkeypatch: pytest.MonkeyPatch):
    late(monkeypatch, lambda: app.store.limits.set_outbound(False, "ann"))

    result = await app.pipeline.act(app.sms(), Person("yes"))

    assert (result["status"], "kill switch" in result["reason"]) == ("blocked", True)
    assert await app.sent() == []


async def test_what_has_happened_is_told_even_where_it_cannot_be_recorded(app: App, monkeypatch: pytest.MonkeyPatch):
    full(monkeypatch)

    result = await app.pipeline.act(app.sms(), Person("yes"))

    assert result["status"] == "done"
    assert "could not be recorded" in result["reason"]
    assert "do not repeat it" in result["reason"]
    assert await app.sent() == ["On my way"]


@pytest.mark.parametrize("outward", ["allow", "confirm"])
async def test_a_no_is_heard_whatever_the_policy_says_by_then(tmp_path: Path, outward: str):
    app = await App(tmp_path).with_jane()
    asked = Person("yes")
    asked.before_the_answer = leave
    with pytest.raises(Left):
        await app.pipeline.act(app.sms(), asked)
    question = (await app.rows())[0].id
    later = App(tmp_path, policy=PolicySettings.model_validate({"outward": outward}))
    later.lead = app.lead
    ann = Person("no")
    ann.answering = question

    result = await later.pipeline.act(later.sms(), ann)

    assert (result["status"], result["action_id"]) == ("declined", question)
    assert await later.sent() == []
    await app.close()
    await later.close()
