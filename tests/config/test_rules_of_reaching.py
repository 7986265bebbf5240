"""What the settings file says of when and how often people are reached, of sizes and connections, and of the audit."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, time
from pathlib import Path

import pytest

from crm_mcp.config import LimitSettings, QuietWindow, Sizes, Stricter, load

from .conftest import refusal

Write = Callable[[str], Path]
KEY = "canary-4711-of-the-audit"

WHOLE = """
[connections.work]
time_zone = "Europe/Berlin"

[policy]
write = "approve"
quiet_hours = "20:00 - 9:30"
blackout_dates = [2026-12-25, "2027-01-01"]
outbound = "off"

[policy.daily_limits]
sms = 100
enrolments = 20

[policy.contact_limits]
messages = 3

[policy.require_consent]
sms = "sms_opt_in"
call = " Calls allowed "

[policy.connections.work]
write = "deny"

[policy.sizes]
confirm_from = 10
approve_from = 100

[audit]
reads = true
attribution = true
key = "env:AUDIT_KEY"
"""


def test_the_file_says_when_and_how_often_people_are_reached(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AUDIT_KEY", KEY)
    write(WHOLE)

    settings = load()

    assert settings.connections[0].time_zone == "Europe/Berlin"
    policy = settings.policy
    assert (policy.quiet_hours, policy.quiet_window) == ("20:00-09:30", QuietWindow(time(20), time(9, 30)))
    assert policy.blackout_dates == (date(2026, 12, 25), date(2027, 1, 1))
    assert (policy.write, policy.outbound) == ("approve", "off")
    assert (policy.daily_limits, policy.contact_limits) == (
        LimitSettings(sms=100, enrolments=20),
        LimitSettings(messages=3),
    )
    assert policy.require_consent == {"sms": "sms_opt_in", "call": "Calls allowed"}
    assert policy.connections == {"work": Stricter(write="deny")}
    assert policy.sizes == Sizes(confirm_from=10, approve_from=100)
    assert (settings.audit.reads, settings.audit.bodies, settings.audit.attribution) == (True, False, True)
    assert settings.audit.key is not None
    assert settings.audit.key.get_secret_value() == KEY
    assert KEY not in repr(settings)


def test_quiet_hours_can_be_off(write: Write):
    write('[policy]\nquiet_hours = "off"\n')

    policy = load().policy

    assert (policy.quiet_hours, policy.quiet_window) == ("off", None)


def test_without_a_file_nobody_is_woken_up_and_nothing_is_limited():
    policy = load().policy

    assert policy.quiet_window == QuietWindow(time(21), time(8))
    assert (policy.daily_limits, policy.contact_limits, policy.blackout_dates) == (LimitSettings(), LimitSettings(), ())


@pytest.mark.parametrize(
    ("channel", "limits"),
    [
        ("sms", [("sms", ("sms",), 1), ("messages", ("email", "sms", "linkedin"), 5)]),
        ("email", [("messages", ("email", "sms", "linkedin"), 5)]),
        ("call", [("call", ("call",), 3)]),
        ("enrolment", [("enrolment", ("enrolment",), 7)]),
    ],
)
def test_a_channel_has_its_own_limit_and_that_of_all_messages(channel: str, limits: list[tuple[str, object, int]]):
    assert LimitSettings(sms=1, call=3, messages=5, enrolments=7).of(channel) == limits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[policy]\nquiet_hours = "9pm-8am"\n', 'policy.quiet_hours: "9pm-8am" is no part of a day; give its start'),
        ('[policy]\nquiet_hours = "of"\n', 'policy.quiet_hours: "of" is no part of a day; give its start and end'),
        ('[policy]\nquiet_hours = "21:00"\n', 'policy.quiet_hours: "21:00" is no part of a day'),
        (
            '[policy]\nquiet_hours = "21:00-25:00"\n',
            'policy.quiet_hours: "25:00" is no time of day; valid: 00:00-23:59; n',
        ),
        ('[policy]\nquiet_hours = "21:60-08:00"\n', 'policy.quiet_hours: "21:60" is no time of day; '),
        ('[policy]\nquiet_hours = "08:00-8:00"\n', 'policy.quiet_hours: "08:00-8:00" begins and ends at the same time'),
        ("[policy]\nquiet_hours = 21:00:00\n", "policy.quiet_hours: input should be a valid string"),
        (
            '[policy]\nblackout_dates = ["2026-02-30"]\n',
            'policy.blackout_dates.0: "2026-02-30" is no date; give one as',
        ),
        ('[policy]\nblackout_dates = ["25.12.2026"]\n', 'policy.blackout_dates.0: "25.12.2026" is no date; '),
        ("[policy]\nblackout_dates = [2026-12-25, 1]\n", 'policy.blackout_dates.1: "1" is no date; '),
        (
            "[policy]\nblackout_dates = [2026-12-25T00:00:00Z]\n",
            'policy.blackout_dates.0: "2026-12-25 00:00:00+00:00" is',
        ),
        ('[policy]\nblackout_dates = "2026-12-25"\n', "policy.blackout_dates: input should be a valid"),
        ('[policy]\noutbound = "of"\n', 'policy.outbound: "of" is none of its values; valid: on, off; nearest: "off"'),
        ("[policy]\noutbound = false\n", "policy.outbound: input should be 'on' or 'off'"),
        ("[policy.daily_limits]\nsms = -1\n", "policy.daily_limits.sms: input should be greater than or equal to 1"),
        ("[policy.daily_limits]\nsms = 0\n", "policy.daily_limits.sms: input should be greater than or equal to 1"),
        ("[policy.daily_limits]\nsms = true\n", "policy.daily_limits.sms: input should be a valid integer"),
        ('[policy.daily_limits]\nsms = "3"\n', "policy.daily_limits.sms: input should be a valid integer"),
        ("[policy.daily_limits]\nsmss = 3\n", "policy.daily_limits.smss is no setting; valid: email, sms, call, "),
        ("[policy.contact_limits]\nmessage = 3\n", "policy.contact_limits.message is no setting; valid: email, sms, "),
        (
            '[policy.require_consent]\nsmss = "x"\n',
            "policy.require_consent.smss is no setting; valid: email, sms, call, ",
        ),
        ('[policy.require_consent]\nsms = " "\n', "policy.require_consent.sms is empty; give the name of a field"),
        ("[policy.require_consent]\nsms = true\n", "policy.require_consent.sms: input should be a valid string"),
        ("[policy.sizes]\nconfirm_from = 0\n", "policy.sizes.confirm_from: input should be greater"),
        (
            "[policy.sizes]\nconfirm_form = 1\n",
            "policy.sizes.confirm_form is no setting; valid: confirm_from, approve_fr",
        ),
        (
            '[policy.connections.local]\nwrte = "deny"\n',
            "policy.connections.local.wrte is no setting; valid: read, write",
        ),
        (
            '[policy.connections.local]\nread = "confirm"\n',
            'policy.connections.local.read: "confirm" is none of its val',
        ),
        ("[audit]\nreads = 1\n", "audit.reads: input should be a valid boolean"),
        ("[audit]\nread = true\n", "audit.read is no setting; valid: reads, bodies, attribution, key; "),
    ],
)
def test_what_is_wrong_stops_the_start_by_its_name(write: Write, text: str, said: str):
    write(text)

    assert refusal().startswith(f"crm.toml: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[policy.connections.wrk]\nwrite = "deny"\n[connections.work]\n',
            'policy.connections: "wrk" is no connection; valid: work; nearest: "work"',
        ),
        (
            '[policy.connections.local]\noutward = "allow"\n',
            'policy.connections.local.outward: "allow" is looser than policy.outward, which is "confirm", and a',
        ),
        (
            '[connections.work]\ntime_zone = "Europe/Berln"\n',
            'connections.work.time_zone: "Europe/Berln" is no time zone; valid: Africa/Abidjan, ',
        ),
        (
            '[connections.work]\ntime_zone = "../localtime"\n',
            'connections.work.time_zone: "../localtime" is no time zone',
        ),
        ('[audit]\nkey = "0123456789abcdef"\n', 'audit.key is given as "env:NAME", "keyring:SERVICE/USER" or "file:PA'),
        ('[audit]\nkey = "env:NO_SUCH_KEY"\n', "audit.key names NO_SUCH_KEY, which is not set"),
    ],
)
def test_what_does_not_fit_together_stops_the_start(write: Write, text: str, said: str):
    write(text)

    assert refusal().startswith(said)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ('[policy]\nquiet_hour = "off"\n', "quiet_hours"),
        ("[policy]\nblackout_date = []\n", "blackout_dates"),
        ('[policy]\noutbound = "of"\n', "off"),
        ('[policy]\nquiet_hours = "21:00-24:00"\n', "00:00"),
        ("[policy.daily_limits]\nenrollments = 3\n", "enrolments"),
        ('[policy.require_consent]\nsmss = "x"\n', "sms"),
        ("[policy.sizes]\nconfirm_form = 1\n", "confirm_from"),
        ('[policy.connections.local]\nwrte = "deny"\n', "write"),
        ('[connections.work]\ntime_zone = "Europe/Berln"\n', "Europe/Berlin"),
        ('[connections.work]\ntimezone = "Europe/Berlin"\n', "time_zone"),
        ("[audit]\nread = true\n", "reads"),
    ],
)
def test_the_nearest_valid_one_is_named(write: Write, text: str, nearest: str):
    write(text)

    assert refusal().endswith(f'nearest: "{nearest}"')


def test_a_key_of_the_audit_log_that_can_be_guessed_is_refused_without_being_shown(
    write: Write, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AUDIT_KEY", "hunter2")
    write('[audit]\nkey = "env:AUDIT_KEY"\n')

    text = refusal()

    assert text == "audit.key leads to a key that is too short; give one of at least 16 characters"


def test_a_verdict_for_a_connection_that_the_environment_leaves_out_is_no_mistake(
    write: Write, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CRM_MCP_VENDOR", "dialsheet")
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)
    write('[connections.work]\n[policy.connections.work]\nwrite = "deny"\n')

    assert [each.name for each in load().connections] == ["dialsheet"]


@pytest.mark.parametrize(
    "name", ["crm-mcp.toml", "config.toml", "crm.toml", ".crm-mcp/config.toml", ".config/crm-mcp.toml"]
)
def test_a_file_planted_in_the_working_directory_changes_nothing(home: Path, name: str):
    before = load()
    planted = home / name
    planted.parent.mkdir(exist_ok=True)
    planted.write_text('[policy]\noutward = "allow"\nquiet_hours = "off"\n[policy.tools]\nsend_sms = "allow"\n')

    assert load() == before


def test_the_settings_that_the_readme_shows_are_settings(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"```toml\n(.*?)```", readme.split("## Settings")[1], re.DOTALL)
    (tmp_path / "audit").write_text(KEY)
    monkeypatch.setenv("SALESSHEET_API_KEY", "key")
    write("\n".join(shown).replace("/run/secrets/audit", str(tmp_path / "audit")))

    settings = load()

    assert len(shown) == 2
    assert settings.connections[0].time_zone == "Europe/Berlin"
    assert (settings.policy.sizes.confirm_from, settings.audit.reads) == (50, True)
