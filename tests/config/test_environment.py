"""The environment variables: what each does, and that a wrong one stops the start with its name and the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from crm_mcp.backends import open_backend
from crm_mcp.config import TOOLSETS, Settings, load, variables
from crm_mcp.errors import SettingsError

from .conftest import refusal

KEY = "sk-canary-4711"
DATABASE = f"postgresql://crm:{KEY}@db.example.com:5432/crm"
NONE = dict.fromkeys(("email", "sms", "call", "linkedin", "messages", "enrolments"))


def test_without_any_setting_it_is_the_embedded_crm_in_the_users_data_directory(home: Path):
    settings = load()

    assert (settings.connections[0].vendor, settings.connections[0].name) == ("local", "local")
    assert settings.data_dir == home / "data" / "crm-mcp"
    assert settings.model_dump(exclude={"connections", "data_dir", "policy"}) == {
        "kill_at": None,
        "audit": {"reads": False, "bodies": False, "attribution": False, "key": None},
        "database_url": None,
        "rate_limit_file": home / "cache" / "crm-mcp" / "pace.sqlite3",
        "country": None,
        "sample": False,
        "smtp_url": None,
        "read_only": False,
        "toolsets": None,
        "tools": (),
        "exclude_tools": (),
        "dry_run": False,
        "confirm_fallback": None,
    }
    assert settings.policy.model_dump() == {
        "read": "allow",
        "write": "allow",
        "outward": "confirm",
        "destructive": "confirm",
        "quiet_hours": "21:00-08:00",
        "blackout_dates": (),
        "outbound": "on",
        "tools": {},
        "operations": {},
        "connections": {},
        "sizes": {"confirm_from": None, "approve_from": None},
        "daily_limits": NONE,
        "contact_limits": NONE,
        "require_consent": {},
    }


@pytest.mark.parametrize(
    ("name", "value", "field", "wanted"),
    [
        ("COUNTRY", "US", "country", "US"),
        ("DATA_DIR", "/srv/crm", "data_dir", Path("/srv/crm")),
        ("SAMPLE", "true", "sample", True),
        ("SAMPLE", "0", "sample", False),
        ("SMTP_URL", "smtp://a:b@mail.example.com:587", "smtp_url", SecretStr("smtp://a:b@mail.example.com:587")),
        ("READ_ONLY", "TRUE", "read_only", True),
        ("TOOLSETS", "leads, deals,", "toolsets", ("leads", "deals")),
        ("TOOLSETS", "all", "toolsets", TOOLSETS),
        ("TOOLS", "get_lead,send_sms", "tools", ("get_lead", "send_sms")),
        ("EXCLUDE_TOOLS", " send_sms ", "exclude_tools", ("send_sms",)),
        ("DRY_RUN", "yes", "dry_run", True),
        ("CONFIRM_FALLBACK", "deny", "confirm_fallback", "deny"),
        ("CONFIRM_FALLBACK", "approval", "confirm_fallback", "approval"),
        ("DATABASE_URL", DATABASE, "database_url", SecretStr(DATABASE)),
    ],
)
def test_a_variable_becomes_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, wanted: object
):
    monkeypatch.setenv(f"CRM_MCP_{name}", value)

    assert getattr(load(), field) == wanted


def test_vendor_and_key_belong_to_the_connection(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_VENDOR", "local")
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)

    [connection] = load().connections

    assert (connection.vendor, connection.api_key) == ("local", SecretStr(KEY))


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch):
    plain = load()

    for name in variables():
        monkeypatch.setenv(name, "")

    assert load() == plain


def test_paths_may_begin_with_the_home_directory_and_become_absolute(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_DATA_DIR", "~/crm")
    at_home = load().data_dir

    monkeypatch.setenv("CRM_MCP_DATA_DIR", "crm")

    assert (at_home, load().data_dir) == (home / "crm", home / "crm")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CRM_MCP_READONLY", "CRM_MCP_READ_ONLY"),
        ("CRM_MCP_VENDER", "CRM_MCP_VENDOR"),
        ("CRM_MCP_DATADIR", "CRM_MCP_DATA_DIR"),
        ("CRM_MCP_TESTING", "CRM_MCP_TEAM_ID"),
    ],
)
def test_an_unknown_variable_stops_the_start_with_the_nearest(monkeypatch: pytest.MonkeyPatch, name: str, nearest: str):
    monkeypatch.setenv(name, KEY)

    text = refusal()

    assert text.startswith(f"{name} is no setting; valid: CRM_MCP_VENDOR, ")
    assert f'nearest: "{nearest}"' in text
    assert KEY not in text


def test_the_variables_of_this_projects_tests_are_free(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_TEST_X", "1")

    assert load() == load()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TOOLSETS", "leads,deal", 'CRM_MCP_TOOLSETS: "deal" is no toolset; valid: leads, activity'),
        ("TOOLSETS", "vendors", 'CRM_MCP_TOOLSETS: "vendors" is no toolset; '),
        ("TOOLS", "get_led", 'CRM_MCP_TOOLS: "get_led" is no tool; valid: search_leads'),
        ("EXCLUDE_TOOLS", "send_smss", 'CRM_MCP_EXCLUDE_TOOLS: "send_smss" is no tool; '),
        ("CONFIRM_FALLBACK", "approve", 'CRM_MCP_CONFIRM_FALLBACK: "approve" is none of its values; valid: token'),
        ("DATABASE_URL", f"postgres://crm:{KEY}@db/crm", "CRM_MCP_DATABASE_URL is no postgresql:// address; give one"),
        ("DATABASE_URL", f"mysql://crm:{KEY}@db/crm", "CRM_MCP_DATABASE_URL is no postgresql:// address; give one"),
        ("DATABASE_URL", f"postgresql+psycopg://{KEY}@db", "CRM_MCP_DATABASE_URL is no postgresql:// address; give"),
        ("DATABASE_URL", "postgresql://", "CRM_MCP_DATABASE_URL is no postgresql:// address; give one"),
        ("DATABASE_URL", f"postgresql://crm:{KEY} x@db", "CRM_MCP_DATABASE_URL is no postgresql:// address; give one"),
        ("COUNTRY", "usa", "CRM_MCP_COUNTRY: "),
        ("COUNTRY", "us", "CRM_MCP_COUNTRY: "),
        ("SAMPLE", "maybe", "CRM_MCP_SAMPLE: input should be a valid boolean"),
        ("READ_ONLY", "2", "CRM_MCP_READ_ONLY: input should be a valid boolean"),
        ("DRY_RUN", "on please", "CRM_MCP_DRY_RUN: input should be a valid boolean"),
        ("DATA_DIR", "~nobody-of-that-name/crm", "~nobody-of-that-name/crm is in the home directory of a user"),
        ("CONFIG", "~nobody-of-that-name/crm", "~nobody-of-that-name/crm is in the home directory of a user"),
        ("SMTP_URL", f"http://u:{KEY}@mail", "CRM_MCP_SMTP_URL is not an SMTP address"),
    ],
)
def test_a_value_that_cannot_be_right_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
):
    monkeypatch.setenv(f"CRM_MCP_{name}", value)

    text = refusal()

    assert text.startswith(said)
    assert KEY not in text


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [
        ("TOOLSETS", "outreech", "outreach"),
        ("TOOLS", "get_led", "get_lead"),
        ("EXCLUDE_TOOLS", "import_lead", "import_leads"),
        ("VENDOR", "locale", "local"),
        ("VENDOR", "Dialsheet", "dialsheet"),
        ("VENDOR", "sales pulse", "salespulse"),
    ],
)
def test_the_nearest_valid_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, nearest: str):
    monkeypatch.setenv(f"CRM_MCP_{name}", value)

    assert refusal().endswith(f'nearest: "{nearest}"')


@pytest.mark.parametrize("vendor", ["hubspot", "x", "DIALSHEET", "a b"])
def test_a_vendor_that_there_is_not_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch, vendor: str):
    monkeypatch.setenv("CRM_MCP_VENDOR", vendor)

    text = refusal()

    assert text.startswith(f'"{vendor}" is no vendor; valid: local, dialsheet, salessheet, salespulse, getsales')


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)
    monkeypatch.setenv("CRM_MCP_SMTP_URL", f"smtp://u:{KEY}@mail.example.com")

    settings = load()

    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert KEY not in shown
    assert KEY not in repr(vars(open_backend(settings, settings.connections[0])))


def test_a_secret_is_not_in_the_error_of_another_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)
    monkeypatch.setenv("CRM_MCP_SMTP_URL", f"smtp://u:{KEY}@mail.example.com")
    monkeypatch.setenv("CRM_MCP_SAMPLE", "perhaps")

    with pytest.raises(SettingsError) as stopped:
        load()

    assert KEY not in f"{stopped.value!r}{stopped.value.__cause__!r}"


def test_settings_are_frozen():
    settings = load()

    with pytest.raises(ValueError, match="frozen"):
        settings.sample = True  # pyright: ignore[reportAttributeAccessIssue]

    assert isinstance(settings, Settings)
