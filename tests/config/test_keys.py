"""Where a connection's key comes from: a variable, a file, a keyring; and that nothing shows it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked
from pydantic import SecretStr

from crm_mcp.config import load

from .conftest import refusal

Write = Callable[[str], Path]
KEY = "sk-canary-4711"


class Kept(KeyringBackend):
    """A keyring that has one key."""

    priority = 1  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def get_password(self, service: str, username: str) -> str | None:
        return f"{KEY}\n" if (service, username) == ("crm-mcp", "work") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


class Locked(Kept):
    """A keyring that nobody unlocks."""

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked(f"locked, and {KEY} with it")


@pytest.fixture(autouse=True)
def no_keyring_yet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("keyring.core._keyring_backend", None)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


def test_a_key_is_read_from_a_variable_a_file_or_a_keyring(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("WORK_KEY", KEY)
    (tmp_path / "secret").write_text(f"{KEY}\n")
    keyring.set_keyring(Kept())

    for reference in ("env:WORK_KEY", f"file:{tmp_path / 'secret'}", "keyring:crm-mcp/work"):
        write(f'[connections.work]\nvendor = "dialsheet"\napi_key = "{reference}"\n')
        settings = load()

        assert settings.connections[0].api_key == SecretStr(KEY)
        assert settings.connections[0].key_from == "connections.work.api_key"
        for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
            assert KEY not in shown


REFERENCE = 'connections.work.api_key is given as "env:NAME", "keyring:SERVICE/USER" or "file:PATH"'


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (f'"{KEY}"', REFERENCE),
        ('""', REFERENCE),
        ('"env:"', REFERENCE),
        ('"file:"', REFERENCE),
        ('"keyring:"', REFERENCE),
        ('"keyring:work"', REFERENCE),
        ('"keyring:/work"', REFERENCE),
        ('"keyring:crm-mcp/"', REFERENCE),
        (f'"vault:{KEY}"', REFERENCE),
        ('"env:NOT_THERE"', "connections.work.api_key names NOT_THERE, which is not set"),
        (f'"env:{KEY}"', "connections.work.api_key names a variable, which is not set"),
        ('"file:/not/there"', "connections.work.api_key names a file that can't be read: FileNotFoundError"),
        ('"file:/"', "connections.work.api_key names a file that can't be read: IsADirectoryError"),
        ('"file:a\\u0000b"', "connections.work.api_key names a file that can't be read: ValueError"),
        ('"keyring:crm-mcp/home"', "connections.work.api_key names crm-mcp/home, which the keyring does not have"),
        ("4711", "connections.work.api_key: "),
        (f'["{KEY}"]', "connections.work.api_key: "),
    ],
)
def test_a_key_that_cannot_be_read_stops_the_start_and_is_not_shown(write: Write, given: str, said: str):
    keyring.set_keyring(Kept())
    write(f'[connections.work]\nvendor = "dialsheet"\napi_key = {given}\n')

    text = refusal()

    assert text.startswith(said)
    assert KEY not in text
    assert "4711" not in text


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("keyring.backends.fail.Keyring", "names a keyring that can't be read: NoKeyringError"),
        ("keyring.backends.null.Keyring", "names crm-mcp/work, which the keyring does not have"),
        ("no.such.Keyring", "names a keyring that can't be read: ModuleNotFoundError"),
        ("keyring.backends.null.Nothing", "names a keyring that can't be read: AttributeError"),
        ("nonsense", "names a keyring that can't be read: ValueError"),
    ],
)
def test_a_keyring_that_cannot_be_used_stops_the_start(
    write: Write, monkeypatch: pytest.MonkeyPatch, backend: str, said: str
):
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", backend)
    write('[connections.work]\nvendor = "dialsheet"\napi_key = "keyring:crm-mcp/work"\n')

    assert said in refusal()


def test_what_a_keyring_says_is_not_repeated(write: Write):
    keyring.set_keyring(Locked())
    write('[connections.work]\nvendor = "dialsheet"\napi_key = "keyring:crm-mcp/work"\n')

    assert refusal() == "connections.work.api_key names a keyring that can't be read: KeyringLocked"


@pytest.mark.parametrize("key", ["two words", "two\nlines", "a\r\nX-Other: b", "schl\u00fcssel", " ", "a\tb", "a\x7fb"])
def test_a_key_that_no_header_can_have_is_refused_and_not_shown(
    write: Write, monkeypatch: pytest.MonkeyPatch, key: str
):
    monkeypatch.setenv("WORK_KEY", key)
    write('[connections.work]\nvendor = "dialsheet"\napi_key = "env:WORK_KEY"\n')
    of_file = refusal()
    monkeypatch.setenv("CRM_MCP_API_KEY", key)
    of_environment = refusal()

    assert of_file == "connections.work.api_key is empty, or has characters that it can't have"
    assert of_environment == "CRM_MCP_API_KEY is empty, or has characters that it can't have"


def test_white_space_around_a_key_is_taken_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_VENDOR", "dialsheet")
    monkeypatch.setenv("CRM_MCP_API_KEY", f" {KEY}\n")

    assert load().connections[0].api_key == SecretStr(KEY)


@pytest.mark.parametrize("vendor", ["dialsheet", "salessheet", "salespulse", "getsales"])
def test_a_vendor_without_a_key_stops_the_start(write: Write, monkeypatch: pytest.MonkeyPatch, vendor: str):
    monkeypatch.setenv("CRM_MCP_VENDOR", vendor)
    by_variable = refusal()
    monkeypatch.delenv("CRM_MCP_VENDOR")
    write(f'[connections.work]\nvendor = "{vendor}"\n[connections.home]\nvendor = "local"\n')

    assert by_variable == f"the connection {vendor} ({vendor}) has no key; give CRM_MCP_API_KEY, or api_key"
    assert refusal().startswith(f"the connection work ({vendor}) has no key; ")


def test_a_keyring_is_loaded_by_those_alone_who_name_one(home: Path, write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRM_MCP_API_KEY", KEY)
    monkeypatch.setenv("CRM_MCP_VENDOR", "dialsheet")
    write('[connections.work]\nvendor = "dialsheet"\napi_key = "keyring:crm-mcp/work"\n')
    program = "import sys; from crm_mcp.config import load; load(); print('keyring' in sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)

    assert loaded.stdout == "False\n"
