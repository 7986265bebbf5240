"""Connections: one from the environment, several from the file, and what makes them wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from crm_mcp.backends import open_backend
from crm_mcp.config import Connection, Settings, load
from crm_mcp.server.app import Application

from .conftest import refusal

Write = Callable[[str], Path]
KEY = "sk-canary-4711"
THREE = """
[connections.work]
vendor = "dialsheet"
api_key = "env:WORK_KEY"
base_url = "http://127.0.0.1:1/api"
team_id = "7"
per_minute = 30
keys = { deal_name = "title" }
defaults = { mailbox = "sales@example.com", list = "Inbound", sender = "Jane Doe" }
own_addresses = ["office@example.com", "\u00e4nne@example.com"]

[connections.calls]
vendor = "salespulse"
api_key = "env:CALLS_KEY"

[connections.home]
vendor = "local"
"""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORK_KEY", f"work-{KEY}")
    monkeypatch.setenv("CALLS_KEY", f"calls-{KEY}")


def named() -> dict[str, str]:
    """Return the vendor of each connection by its name."""
    return {each.name: each.vendor for each in load().connections}


def test_a_file_names_several_connections(write: Write):
    write(THREE)

    work, calls, home = load().connections

    assert (work.name, work.vendor, work.api_key) == ("work", "dialsheet", SecretStr(f"work-{KEY}"))
    assert (work.base_url, work.team_id, work.per_minute) == ("http://127.0.0.1:1/api", "7", 30)
    assert work.corrections == {"deal_name": "title"}
    assert work.defaults.model_dump() == {"mailbox": "sales@example.com", "list": "Inbound", "sender": "Jane Doe"}
    assert work.own_addresses == ("office@example.com", "\u00e4nne@example.com")
    assert (calls.own_addresses, home.own_addresses) == ((), ())
    assert (calls.name, calls.vendor, calls.api_key) == ("calls", "salespulse", SecretStr(f"calls-{KEY}"))
    assert (home.name, home.vendor, home.api_key) == ("home", "local", None)


def test_no_key_is_shown_by_settings_or_backends(write: Write):
    write(THREE)

    settings = load()

    for shown in (repr(settings), settings.model_dump_json(), *(repr(each) for each in settings.connections)):
        assert KEY not in shown
    for each in settings.connections[1:]:
        assert KEY not in repr(vars(open_backend(settings, each)))


def test_variables_change_the_one_connection_of_the_file(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)
    monkeypatch.setenv("CRM_MCP_TEAM_ID", "8")
    write(THREE.partition("[connections.calls]")[0])

    [work] = load().connections

    assert (work.name, work.vendor, work.team_id, work.per_minute) == ("work", "dialsheet", "8", 30)
    assert (work.api_key, work.key_from) == (SecretStr(KEY), "CRM_MCP_API_KEY")


def test_with_several_the_vendor_says_which_one_is_meant_and_it_is_the_only_one(
    write: Write, monkeypatch: pytest.MonkeyPatch
):
    write(THREE)
    monkeypatch.setenv("CRM_MCP_VENDOR", "salespulse")
    of_file = load().connections
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)
    changed = load().connections
    monkeypatch.setenv("CRM_MCP_VENDOR", "local")

    assert [(each.name, each.api_key) for each in of_file] == [("calls", SecretStr(f"calls-{KEY}"))]
    assert [(each.name, each.api_key) for each in changed] == [("calls", SecretStr(KEY))]
    assert named() == {"home": "local"}


@pytest.mark.parametrize("name", ["API_KEY", "BASE_URL", "TEAM_ID"])
def test_with_several_a_variable_without_the_vendor_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str
):
    write(THREE)
    monkeypatch.setenv(f"CRM_MCP_{name}", KEY)

    text = refusal()

    assert text == (f"CRM_MCP_{name} is for one connection and the file names several; set CRM_MCP_VENDOR as well")


def test_what_the_file_says_of_one_vendor_is_never_given_to_another(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_VENDOR", "salespulse")
    write(THREE.partition("[connections.calls]")[0])
    keyless = refusal()
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)

    [own] = load().connections

    assert keyless.startswith("the connection salespulse (salespulse) has no key; ")
    assert own == Connection(name="salespulse", vendor="salespulse", api_key=SecretStr(KEY), key_from="CRM_MCP_API_KEY")


def test_a_vendor_that_several_connections_have_is_refused_unless_a_key_makes_it_its_own(
    write: Write, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CRM_MCP_VENDOR", "salespulse")
    write(THREE.replace('vendor = "dialsheet"', 'vendor = "salespulse"'))
    text = refusal()
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)

    assert text.startswith("CRM_MCP_VENDOR: the file names work, calls to salespulse, and one is meant; ")
    assert named() == {"salespulse": "salespulse"}


@pytest.mark.parametrize("name", ["a", "work-2", "my_crm", "0", "x" * 32, "leads", "actions"])
def test_names_that_a_connection_may_have(write: Write, name: str):
    write(f"[connections.{name}]\n")

    assert named() == {name: "local"}


@pytest.mark.parametrize("name", ["", "My", "a b", "a/b", "-a", "_a", "x" * 33, "a.b", "caf\u00e9", "a:b"])
def test_names_that_a_connection_may_not_have(write: Write, name: str):
    write(f'[connections."{name}"]\n')

    assert refusal() == f'"{name}" is no connection name; use up to 32 of a-z, 0-9, - and _'


def test_a_mistake_in_one_connection_is_told_by_its_name(write: Write):
    write(THREE.replace("per_minute", "per_minuet"))

    text = refusal()

    assert text.startswith("connections.work.per_minuet is no setting; valid: vendor, api_key, base_url, team_id, per_")
    assert text.endswith('nearest: "per_minute"')
    assert "keys, defaults" in text


@pytest.mark.parametrize("wrong", ["sales", "Sales <sales@example.com>", "a@example.com, b@example.com", "a@b", ""])
def test_what_is_no_address_of_ours_stops_the_start(write: Write, wrong: str):
    write(f'[connections.home]\nown_addresses = ["me@example.com", "{wrong}"]\n')

    assert refusal() == (
        f'connections.home.own_addresses: "{wrong}" is no e-mail address; give one such as jane@example.com'
    )


@pytest.mark.parametrize("wrong", ['"sales@example.com"', "7", "[7]", "{ a = 1 }"])
def test_addresses_of_ours_are_a_list_of_texts(write: Write, wrong: str):
    write(f"[connections.home]\nown_addresses = {wrong}\n")

    assert refusal().startswith("connections.home.own_addresses")


def test_two_local_connections_are_refused(write: Write):
    write(f'{THREE}[connections.more]\nvendor = "local"\n')

    assert refusal() == "several connections are local, which would be one CRM under several names"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://api.example.com/v1/",
        "https://api.example.com:8443/v1",
        "http://localhost:8765",
        "http://LOCALHOST/v1",
        "http://127.0.0.1:8765/api/v1",
        "http://127.8.9.1",
        "http://[::1]:8765",
    ],
)
def test_addresses_that_a_base_url_may_be(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("CRM_MCP_BASE_URL", url)

    assert load().connections[0].base_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://localhost./",
        "http://0.0.0.0:8765",
        "http://127.1",
        "http://2130706433",
        "http://[::2]",
        "http://[::ffff:10.0.0.1]",
    ],
)
def test_http_to_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("CRM_MCP_BASE_URL", url)

    assert refusal() == ("CRM_MCP_BASE_URL is http://, which would send the key in the clear; use https://")


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{KEY}@api.example.com",
        f"https://:{KEY}@api.example.com",
        "https://user@api.example.com",
        "http://127.0.0.1@example.com",
        "http://127.0.0.1\\@example.com",
        "http://127.0.0.1\\.example.com",
        "https://api.example.com/?a=b",
        "https://api.example.com/?",
        "https://api.example.com/#",
        "https://api.example.com:port",
        "https://api.example.com:99999",
        "https://api.example.com:0",
        "https://api example.com",
        "https://api.example.com\n",
        "https://caf\u00e9.example",
        "https://[::1",
        "https://",
        "https:///v1",
        "ftp://api.example.com",
        "HTTPS:api.example.com",
        "api.example.com",
        "file:///etc/passwd",
        f"{KEY}",
    ],
)
def test_what_is_no_base_url_is_refused_and_not_shown(write: Write, monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("CRM_MCP_BASE_URL", url)
    of_environment = refusal()
    monkeypatch.delenv("CRM_MCP_BASE_URL")
    escaped = url.replace("\\", "\\\\").replace("\n", "\\n")
    write(f'[connections.work]\nbase_url = "{escaped}"\n')

    assert of_environment == "CRM_MCP_BASE_URL is no base URL; give one as https://api.example.com"
    assert refusal() == "connections.work.base_url is no base URL; give one as https://api.example.com"


def test_a_correction_of_no_key_stops_the_start_with_the_nearest(write: Write):
    write('[connections.calls]\nvendor = "salespulse"\napi_key = "env:CALLS_KEY"\nkeys = { stag = "x" }\n')

    text = refusal()

    assert text.startswith('keys of salespulse: "stag" is none; valid: ')
    assert 'nearest: "stage' in text
    assert KEY not in text


def test_a_correction_of_a_key_is_taken(write: Write):
    write('[connections.calls]\nvendor = "salespulse"\napi_key = "env:CALLS_KEY"\nkeys = { stage = "stage" }\n')

    assert [*Application(load()).contexts] == ["calls"]


@pytest.mark.parametrize("value", ["soon", "-1", "0", "0.0", "nan", "inf", "1e3", "60s", "99999", " 5"])
def test_a_minute_of_the_tests_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("CRM_MCP_TEST_MINUTE", value)

    assert refusal() == "CRM_MCP_TEST_MINUTE: give seconds, as 0.5"


def test_the_minute_of_the_tests_holds_on_loopback_alone(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_TEST_MINUTE", "0.5")
    write(THREE)
    three = [each.minute for each in load().connections]
    write(THREE.replace("http://127.0.0.1:1", "https://api.example.com"))

    assert three == [0.5, 60.0, 60.0]
    assert [each.minute for each in load().connections] == [60.0, 60.0, 60.0]


def test_the_defaults_of_a_connection_reach_its_backend(write: Write, tmp_path: Path):
    write(THREE)
    settings = load()

    access = vars(open_backend(settings, settings.connections[0]))["_access"]

    assert (access.mailbox, access.list, access.sender) == ("sales@example.com", "Inbound", "Jane Doe")
    assert (access.team_id, access.per_minute, dict(access.keys)) == ("7", 30, {"deal_name": "title"})
    assert access.rate_limit_file == settings.rate_limit_file


def test_a_server_of_the_embedded_crm_loads_no_room_of_a_vendor(home: Path):
    program = (
        "import sys; from crm_mcp.config import load; from crm_mcp.server.app import Application; Application(load());"
        "rooms = ('dialsheet', 'salessheet', 'salespulse', 'getsales', 'remote', 'http');"
        "late = ['keyring', 'stamina', *(f'crm_mcp.backends.{each}' for each in rooms)];"
        "print([each for each in late if each in sys.modules])"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)

    assert loaded.stdout == "[]\n"


def test_settings_that_are_given_by_hand_have_one_local_connection(tmp_path: Path):
    [only] = Settings(data_dir=tmp_path).connections

    assert (only.name, only.vendor) == ("local", "local")
