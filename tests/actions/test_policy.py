"""Which verdict a call gets: by its effect, its tool, its connection and its size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.actions.declared import Declared, Effect, Tools
from crm_mcp.actions.guards.policy import Judged, Policy
from crm_mcp.config import PolicySettings, Verdict
from crm_mcp.errors import SettingsError

VERDICTS: tuple[Verdict, ...] = ("allow", "confirm", "approve", "deny")
NAMED = Tools(
    (
        Declared("send_sms", Effect.OUTWARD),
        Declared("get_lead", Effect.READ),
        Declared("confirm_action", Effect.DESTRUCTIVE, answers=True),
    )
)
DEFAULTS = {"read": "allow", "write": "allow", "outward": "confirm", "destructive": "confirm"}


@pytest.mark.parametrize("effect", Effect)
def test_without_settings_only_what_reaches_out_or_destroys_is_confirmed(effect: Effect):
    assert Policy(PolicySettings(), NAMED).verdict("any_tool", effect) == DEFAULTS[effect.value]


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("effect", [Effect.WRITE, Effect.OUTWARD, Effect.DESTRUCTIVE])
def test_the_verdict_of_an_effect_holds_for_that_effect_alone(effect: Effect, verdict: Verdict):
    policy = Policy(PolicySettings.model_validate({effect.value: verdict}), NAMED)

    found = {each.value: policy.verdict("any_tool", each) for each in Effect}

    assert found == {**DEFAULTS, effect.value: verdict}


@pytest.mark.parametrize("own", VERDICTS)
@pytest.mark.parametrize("general", VERDICTS)
@pytest.mark.parametrize("effect", [Effect.WRITE, Effect.OUTWARD, Effect.DESTRUCTIVE])
def test_the_verdict_of_a_tool_wins_for_that_tool_alone(effect: Effect, general: Verdict, own: Verdict):
    settings: dict[str, Any] = {effect.value: general, "tools": {"send_sms": own}}

    policy = Policy(PolicySettings.model_validate(settings), NAMED)

    assert policy.verdict("send_sms", effect) == own
    assert policy.verdict("send_email", effect) == general


def test_a_rule_for_a_tool_that_does_not_exist_is_refused_with_the_nearest():
    policy = Policy(PolicySettings(tools={"send_smss": "deny"}), NAMED)

    with pytest.raises(
        SettingsError, match='"send_smss" is no tool; valid: send_sms, get_lead, confirm_action; nearest: "send_sms"'
    ):
        policy.check()


@pytest.mark.parametrize("verdict", ["confirm", "approve"])
def test_what_only_reads_is_never_asked_about(verdict: Verdict):
    policy = Policy(PolicySettings(tools={"get_lead": verdict}), NAMED)

    with pytest.raises(SettingsError, match="get_lead only reads, and is never confirmed; valid: allow, deny"):
        policy.check()


@pytest.mark.parametrize("verdict", ["confirm", "approve"])
def test_the_tool_that_answers_a_question_is_never_one(verdict: Verdict):
    policy = Policy(PolicySettings(tools={"confirm_action": verdict}), NAMED)

    with pytest.raises(SettingsError, match="confirm_action gives an answer, and is never asked about"):
        policy.check()


def test_what_fits_together_is_taken():
    tools: dict[str, Verdict] = {"send_sms": "approve", "get_lead": "deny", "confirm_action": "deny"}
    settings = {"tools": tools, "connections": {"work": {"outward": "confirm", "write": "allow", "read": "deny"}}}

    Policy(PolicySettings.model_validate(settings), NAMED).check()


def test_a_call_is_about_one_record_unless_it_says_otherwise():
    policy = Policy(PolicySettings.model_validate({"sizes": {"confirm_from": 2}}), NAMED)

    assert policy.judge("update_lead", Effect.WRITE, connection="work").verdict == "allow"


def judged(policy: dict[str, Any], **call: Any) -> Judged:
    """Return verdict and rule of a call of update_lead on the connection `work`, unless it says otherwise."""
    of: dict[str, Any] = {"tool": "update_lead", "effect": Effect.WRITE, "connection": "work", "size": 1, **call}
    return Policy(PolicySettings.model_validate(policy), NAMED).judge(**of)


@pytest.mark.parametrize(
    ("policy", "call", "expected"),
    [
        ({}, {}, ("allow", "policy.write")),
        ({}, {"effect": Effect.OUTWARD}, ("confirm", "policy.outward")),
        ({"write": "approve"}, {}, ("approve", "policy.write")),
        ({"write": "deny", "tools": {"update_lead": "allow"}}, {}, ("allow", "policy.tools.update_lead")),
        ({"connections": {"work": {"write": "approve"}}}, {}, ("approve", "policy.connections.work.write")),
        ({"connections": {"home": {"write": "approve"}}}, {}, ("allow", "policy.write")),
        (
            {"connections": {"work": {"read": "deny"}}},
            {"effect": Effect.READ},
            ("deny", "policy.connections.work.read"),
        ),
        (
            {"tools": {"update_lead": "allow"}, "connections": {"work": {"write": "confirm"}}},
            {},
            ("confirm", "policy.connections.work.write"),
        ),
        ({"sizes": {"confirm_from": 10}}, {"size": 9}, ("allow", "policy.write")),
        ({"sizes": {"confirm_from": 10}}, {"size": 10}, ("confirm", "policy.sizes.confirm_from")),
        ({"sizes": {"confirm_from": 10, "approve_from": 50}}, {"size": 50}, ("approve", "policy.sizes.approve_from")),
        ({"sizes": {"approve_from": 50}}, {"size": 500, "effect": Effect.READ}, ("allow", "policy.read")),
        ({"sizes": {"confirm_from": 1}}, {"effect": Effect.OUTWARD}, ("confirm", "policy.outward")),
        ({"write": "deny", "sizes": {"approve_from": 1}}, {}, ("deny", "policy.write")),
        ({"tools": {"tag_lead": "deny"}}, {"also": ("tag_lead",)}, ("deny", "policy.tools.tag_lead")),
        ({"operations": {"merge": "approve"}}, {"operation": "merge"}, ("approve", "policy.operations.merge")),
        ({"operations": {"merge": "allow"}, "write": "confirm"}, {"operation": "merge"}, ("confirm", "policy.write")),
        ({"operations": {"merge": "deny"}}, {"operation": "split"}, ("allow", "policy.write")),
        ({"tools": {"tag_lead": "allow"}, "write": "confirm"}, {"also": ("tag_lead",)}, ("confirm", "policy.write")),
    ],
)
def test_the_strictest_of_all_counts_and_is_named(
    policy: dict[str, Any], call: dict[str, Any], expected: tuple[str, str]
):
    assert judged(policy, **call) == expected


verdicts = st.sampled_from(VERDICTS)


@given(verdicts, st.none() | verdicts, st.none() | verdicts, st.none() | st.integers(1, 4), st.integers(1, 4))
def test_connection_and_size_never_loosen_what_effect_and_tool_say(
    effect: Verdict, tool: Verdict | None, connection: Verdict | None, confirm_from: int | None, size: int
):
    settings: dict[str, Any] = {
        "write": effect,
        "tools": {"update_lead": tool} if tool else {},
        "connections": {"work": {"write": connection}} if connection else {},
        "sizes": {"confirm_from": confirm_from},
    }

    verdict, _ = judged(settings, size=size)

    by_size: Verdict = "confirm" if confirm_from and size >= confirm_from else "allow"
    alone: tuple[Verdict, ...] = (tool or effect, connection or "allow", by_size)
    assert VERDICTS.index(verdict) == max(VERDICTS.index(each) for each in alone)


@pytest.mark.parametrize(("general", "own"), [("confirm", "allow"), ("deny", "approve"), ("approve", "confirm")])
def test_a_connection_that_would_loosen_a_verdict_is_refused(general: Verdict, own: Verdict):
    settings = PolicySettings.model_validate({"outward": general, "connections": {"work": {"outward": own}}})

    with pytest.raises(SettingsError, match=f'policy.connections.work.outward: "{own}" is looser than policy.outward'):
        Policy(settings, NAMED).check()


def test_the_status_shows_effects_and_tools():
    policy = Policy(PolicySettings(tools={"move_stage": "confirm"}), NAMED)

    assert policy.shown() == {**DEFAULTS, "move_stage": "confirm"}
