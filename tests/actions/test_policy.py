"""Which verdict a call gets: by its effect, or by a rule for that one tool."""

from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.actions.policy import Effect, Policy
from crm_mcp.config import PolicySettings, Verdict
from crm_mcp.errors import SettingsError

VERDICTS: tuple[Verdict, ...] = ("allow", "confirm", "deny")
DEFAULTS = {"read": "allow", "write": "allow", "outward": "confirm", "destructive": "confirm"}


@pytest.mark.parametrize("effect", Effect)
def test_without_settings_only_what_reaches_out_or_destroys_is_confirmed(effect: Effect):
    assert Policy(PolicySettings()).verdict("any_tool", effect) == DEFAULTS[effect.value]


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("effect", [Effect.WRITE, Effect.OUTWARD, Effect.DESTRUCTIVE])
def test_the_verdict_of_an_effect_holds_for_that_effect_alone(effect: Effect, verdict: Verdict):
    policy = Policy(PolicySettings.model_validate({effect.value: verdict}))

    found = {each.value: policy.verdict("any_tool", each) for each in Effect}

    assert found == {**DEFAULTS, effect.value: verdict}


@pytest.mark.parametrize("own", VERDICTS)
@pytest.mark.parametrize("general", VERDICTS)
@pytest.mark.parametrize("effect", [Effect.WRITE, Effect.OUTWARD, Effect.DESTRUCTIVE])
def test_the_verdict_of_a_tool_wins_for_that_tool_alone(effect: Effect, general: Verdict, own: Verdict):
    settings: dict[str, Any] = {effect.value: general, "tools": {"send_sms": own}}

    policy = Policy(PolicySettings.model_validate(settings))

    assert policy.verdict("send_sms", effect) == own
    assert policy.verdict("send_email", effect) == general


TOOLS = {"send_sms": Effect.OUTWARD, "get_lead": Effect.READ}


def test_a_rule_for_a_tool_that_does_not_exist_is_refused_with_the_nearest():
    policy = Policy(PolicySettings(tools={"send_smss": "deny"}))

    with pytest.raises(SettingsError, match='"send_smss" is no tool; valid: send_sms, get_lead; nearest: "send_sms"'):
        policy.check(TOOLS)


def test_what_only_reads_is_never_confirmed():
    policy = Policy(PolicySettings(tools={"get_lead": "confirm"}))

    with pytest.raises(SettingsError, match="get_lead only reads"):
        policy.check(TOOLS)


@pytest.mark.parametrize(("own", "other", "expected"), [("allow", "deny", "deny"), ("confirm", "allow", "confirm")])
def test_the_strictest_verdict_of_all_that_a_call_does_counts(own: Verdict, other: Verdict, expected: Verdict):
    policy = Policy(PolicySettings(tools={"create_lead": own, "update_lead": other}))

    assert policy.strictest("create_lead", Effect.WRITE, ("update_lead",)) == expected


def test_the_status_shows_effects_and_tools():
    policy = Policy(PolicySettings(tools={"move_stage": "confirm"}))

    assert policy.shown() == {**DEFAULTS, "move_stage": "confirm"}
