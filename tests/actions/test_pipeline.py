"""The one way of a write, with a real store and the embedded CRM: asked, bound, once, and written down."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from crm_mcp.actions.intent import Answer, Outcome
from crm_mcp.backends.base import StartsCalls
from crm_mcp.config import PolicySettings
from crm_mcp.errors import (
    Busy,
    Conflict,
    CrmError,
    Forbidden,
    InvalidArgument,
    NotFound,
    TimedOut,
    Unsupported,
    VendorError,
)
from crm_mcp.model import LeadUpdate
from tests.harness.app import NUMBER, App
from tests.harness.person import Person


async def test_a_yes_sends_what_was_shown_and_is_recorded(app: App):
    ann = Person("yes")

    result = await app.pipeline.act(app.sms(), ann)

    (row,) = await app.rows()
    assert ann.asked[0].text == (
        f'SMS to {NUMBER}, "Jane Doe" (L1): "On my way"\n'
        "1 segment (GSM-7); can't be undone; it is 11:00 there (America/Los_Angeles, the number's zone)"
    )
    assert (result["status"], result["action_id"]) == ("done", row.id)
    assert (row.status, row.approved_by, row.caller, row.effect) == ("done", "elicitation", "ann via tests", "outward")
    assert await app.sent() == ["On my way"]


@pytest.mark.parametrize(("answer", "status"), [("no", "declined"), ("dismissed", "declined"), ("silence", "expired")])
async def test_everything_but_yes_sends_nothing(app: App, answer: Answer, status: str):
    result = await app.pipeline.act(app.sms(), Person(answer, fallback="deny"))

    assert result["status"] == status
    assert [row.status for row in await app.rows()] == [status]
    assert await app.sent() == []


async def test_a_question_that_nobody_answers_waits_for_an_approval(app: App):
    result = await app.pipeline.act(app.sms(), Person("silence"))

    assert result["status"] == "pending_approval"
    assert [row.status for row in await app.rows()] == ["pending_approval", "expired"]
    assert await app.sent() == []


async def test_a_question_that_is_put_again_is_the_same_action(app: App):
    bot = Person()

    first = await app.pipeline.act(app.sms(), bot)
    second = await app.pipeline.act(app.sms(), bot)
    other = await app.pipeline.act(app.sms("Another text"), bot)

    assert first["status"] == second["status"] == "confirmation_required"
    assert first["action_id"] == second["action_id"] != other["action_id"]
    assert len(await app.rows()) == 2


async def test_a_question_whose_values_have_changed_is_asked_anew(app: App):
    bot = Person()
    first = await app.pipeline.act(app.sms(), bot)
    await app.move_number()

    second = await app.pipeline.act(app.sms(), bot)

    assert second["action_id"] != first["action_id"]
    assert "+14155550199" in second["summary"]
    assert [row.status for row in await app.rows()] == ["proposed", "cancelled"]


async def test_a_yes_is_void_when_a_value_has_changed_while_the_person_thought(app: App):
    ann = Person("yes")
    ann.before_the_answer = app.move_number

    result = await app.pipeline.act(app.sms(), ann)

    assert result["status"] == "expired"
    assert NUMBER in result["reason"]
    assert "+14155550199" in result["reason"]
    assert await app.sent() == []


async def test_a_token_is_void_when_a_value_has_changed(app: App):
    bot = Person()
    asked = await app.pipeline.act(app.sms(), bot)
    await app.crm.update_lead(app.lead.id, LeadUpdate(name="Jane Roe"))

    result = await app.pipeline.redeem(asked["action_id"], asked["summary"], bot)

    assert result["status"] == "expired"
    assert await app.sent() == []


async def test_a_token_serves_once(app: App):
    bot = Person()
    asked = await app.pipeline.act(app.sms(), bot)

    first = await app.pipeline.redeem(asked["action_id"], f"  {asked['summary']}\n", bot)
    second = await app.pipeline.redeem(asked["action_id"], asked["summary"], bot)

    (row,) = await app.rows()
    assert (first["status"], second["status"]) == ("done", "duplicate")
    assert (row.approved_by, await app.sent()) == ("token", ["On my way"])


async def test_of_many_that_redeem_one_token_at_once_one_sends(app: App):
    bot = Person()
    asked = await app.pipeline.act(app.sms(), bot)
    statuses: list[str] = []

    async def redeem() -> None:
        statuses.append((await app.pipeline.redeem(asked["action_id"], asked["summary"], bot))["status"])

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(redeem)

    assert sorted(statuses) == ["done", *["duplicate"] * 7]
    assert await app.sent() == ["On my way"]


@pytest.mark.parametrize(("minutes", "status"), [(9.9, "done"), (10.1, "expired")])
async def test_a_token_is_good_for_ten_minutes(app: App, minutes: float, status: str):
    bot = Person()
    asked = await app.pipeline.act(app.sms(), bot)
    app.clock.advance(minutes=minutes)

    result = await app.pipeline.redeem(asked["action_id"], asked["summary"], bot)

    assert result["status"] == status
    assert len(await app.sent()) == (1 if status == "done" else 0)


async def test_an_answer_that_comes_too_late_sends_nothing(app: App):
    ann = Person("yes")

    async def think() -> None:
        app.clock.advance(minutes=11)

    ann.before_the_answer = think
    result = await app.pipeline.act(app.sms(), ann)

    assert result["status"] == "expired"
    assert await app.sent() == []


async def test_another_caller_can_neither_redeem_nor_learn_of_it(app: App):
    asked = await app.pipeline.act(app.sms(), Person())

    with pytest.raises(NotFound) as refused:
        await app.pipeline.redeem(asked["action_id"], asked["summary"], Person(caller="eve via tests"))
    with pytest.raises(NotFound) as unknown:
        await app.pipeline.redeem("a_none", asked["summary"], Person(caller="eve via tests"))

    assert str(refused.value).replace(asked["action_id"], "a_none") == str(unknown.value)
    assert await app.sent() == []


async def test_a_token_needs_the_summary_word_for_word(app: App):
    bot = Person()
    asked = await app.pipeline.act(app.sms(), bot)

    for wrong in ("", asked["summary"][:-1], asked["summary"].lower()):
        with pytest.raises(InvalidArgument, match="word for word"):
            await app.pipeline.redeem(asked["action_id"], wrong, bot)

    assert [row.status for row in await app.rows()] == ["proposed"]


async def test_a_question_for_the_user_cannot_be_answered_by_a_token(app: App):
    ann = Person("yes")
    texts: list[str] = []

    async def redeem_meanwhile() -> None:
        (row,) = await app.rows()
        with pytest.raises(Forbidden) as refused:
            await app.pipeline.redeem(row.id, row.summary, Person())
        texts.append(str(refused.value))

    ann.before_the_answer = redeem_meanwhile
    result = await app.pipeline.act(app.sms(), ann)

    assert (result["status"], len(texts)) == ("done", 1)
    assert await app.sent() == ["On my way"]


async def test_an_answer_to_another_call_is_refused(app: App):
    asked = await app.pipeline.act(app.sms(), Person())
    for ann in (Person("yes"), Person("yes", caller="eve via tests")):
        ann.answering = asked["action_id"]
        with pytest.raises(Forbidden, match="belongs to another call"):
            await app.pipeline.act(app.sms("Another text"), ann)

    assert await app.sent() == []


async def test_where_unconfirmed_actions_are_denied_a_client_without_a_user_is_blocked(app: App):
    result = await app.pipeline.act(app.sms(), Person(fallback="deny"))

    assert result["status"] == "blocked"
    assert "this client cannot ask its user" in result["reason"]
    assert [row.status for row in await app.rows()] == ["blocked"]


async def test_do_not_contact_blocks_before_and_after_the_question(app: App):
    ann = Person("yes")

    async def block() -> None:
        await app.store.contacts.block({"sms": NUMBER}, "asked us to stop", app.lead.id)

    ann.before_the_answer = block
    late = await app.pipeline.act(app.sms(), ann)
    early = await app.pipeline.act(app.sms(), Person("yes"))

    assert (late["status"], early["status"]) == ("blocked", "blocked")
    assert early["reason"] == "do-not-contact: Jane Doe must not be reached by sms (asked us to stop)"
    assert await app.sent() == []


async def test_an_allowed_write_runs_at_once_by_policy(app: App):
    async def run() -> Outcome:
        return Outcome("logged", {"note": {"id": "N1"}}, app.lead.id, (("note", "N1"),))

    result = await app.pipeline.act(app.write(run, lead="L1", content="x"), Person())

    (row,) = await app.rows()
    assert (result["status"], result["note"]) == ("done", {"id": "N1"})
    assert (row.approved_by, row.touched, row.lead) == ("policy", (("note", "N1"),), "L1")


async def test_a_dry_run_does_nothing_and_is_recorded_as_that(tmp_path: Path):
    app = await App(tmp_path, dry_run=True).with_jane()

    result = await app.pipeline.act(app.sms(), Person("yes"))

    [row] = await app.rows()
    assert (result["status"], row.status, await app.sent()) == ("dry_run", "dry_run", [])
    assert (result["action_id"], row.started_at) == (row.id, None)
    assert "On my way" in result["preview"]
    await app.close()


async def test_what_policy_denies_is_refused_and_what_it_confirms_is_asked(tmp_path: Path):
    app = await App(tmp_path, policy=PolicySettings(outward="deny", tools={"log_note": "confirm"})).with_jane()
    ann, ran = Person("yes"), list[str]()

    async def run() -> Outcome:
        ran.append("ran")
        return Outcome("logged")

    with pytest.raises(Forbidden, match="the policy denies send_sms"):
        await app.pipeline.act(app.sms(), Person("yes"))
    result = await app.pipeline.act(app.write(run, lead=NUMBER, content="Hi\nthere"), ann)

    assert (result["status"], ran) == ("done", ["ran"])
    assert "Jane Doe (L1)" in ann.asked[0].text
    assert "Hi there" in ann.asked[0].text
    await app.close()


FAILURES: dict[str, tuple[CrmError, str, str]] = {
    "refused": (Conflict("it has changed", "read it again"), "failed", "nothing was written"),
    "busy": (Busy("too many calls", retry_after=7), "failed", "nothing was written"),
    "in part": (VendorError("it broke", wrote=True), "failed", "a part was written"),
    "nobody knows": (VendorError("it broke", "try again"), "unknown", "it broke; it may have happened"),
    "silence": (TimedOut("no answer"), "unknown", "it may have happened"),
    "silence before it was sent": (TimedOut("no answer", wrote=False), "failed", "nothing was written"),
}


@pytest.mark.parametrize("kind", FAILURES)
async def test_a_run_that_fails_is_recorded_with_what_was_written(app: App, kind: str):
    error, status, said = FAILURES[kind]

    async def run() -> Outcome:
        raise error

    result = await app.pipeline.act(app.write(run), Person())

    (row,) = await app.rows()
    assert (result["status"], row.status) == (status, status)
    assert result["reason"] == row.reason
    assert result["reason"].endswith(said)
    assert row.error == (error.code if status == "failed" else None)


async def test_a_fault_of_this_program_is_recorded_and_not_told(app: App):
    async def run() -> Outcome:
        raise ZeroDivisionError("secret detail")

    with pytest.raises(ZeroDivisionError):
        await app.pipeline.act(app.write(run), Person())

    (row,) = await app.rows()
    assert row.status == "unknown"
    assert "secret" not in (row.reason or "")


async def test_a_caller_who_leaves_while_it_runs_changes_nothing(app: App):
    begun, go_on = anyio.Event(), anyio.Event()

    async def run() -> Outcome:
        begun.set()
        await go_on.wait()
        return Outcome("logged")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(app.pipeline.act, app.write(run), Person())
            await begun.wait()
            group.cancel_scope.cancel()
            go_on.set()

    assert [row.status for row in await app.rows()] == ["done"]


async def test_what_the_crm_cannot_do_is_said_in_plain_words(app: App):
    with pytest.raises(Unsupported) as refused:
        app.context.crm(StartsCalls)

    assert str(refused.value) == (
        "local can't do this: it is no CRM that rings people; see crm_status for what it can do"
    )
