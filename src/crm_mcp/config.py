"""The only reader of environment, settings files and keys; everything else is given values.

Environment variables (`CRM_MCP_...`) configure one connection; a TOML file may name it and set the policy. Environment
wins over file. What is unknown stops the start with a `SettingsError` that names it and the nearest valid one.
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from crm_mcp.errors import SettingsError, Unreachable, choices

PREFIX = "CRM_MCP_"
RESERVED = "CRM_MCP_TEST_"
TOOLSETS = ("leads", "activity", "tasks", "deals", "outreach", "bulk", "admin")

Verdict = Literal["allow", "confirm", "deny"]
Fallback = Literal["token", "deny"]


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Defaults(_Closed):
    """What is taken where a call leaves it out."""

    mailbox: str | None = None


class _Entry(_Closed):
    """What stands under `[connections.NAME]`."""

    vendor: str = "local"
    api_key: SecretStr | None = None
    defaults: Defaults = Defaults()


class Connection(_Entry):
    """One CRM."""

    name: str = "local"


class PolicySettings(_Closed):
    """The verdict of each effect, and of single tools."""

    read: Literal["allow", "deny"] = "allow"
    write: Verdict = "allow"
    outward: Verdict = "confirm"
    destructive: Verdict = "confirm"
    tools: dict[str, Verdict] = Field(default_factory=dict)


class _File(_Closed):
    connections: dict[str, dict[str, Any]] = Field(default_factory=dict)
    policy: PolicySettings = PolicySettings()


class _Environment(BaseSettings):
    """The variables of the contract's table that this version knows."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    vendor: str | None = None
    api_key: SecretStr | None = None
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None
    config: Path | None = None
    data_dir: Path | None = None
    sample: bool = False
    smtp_url: SecretStr | None = None
    read_only: bool = False
    toolsets: Names | None = None
    tools: Names = ()
    exclude_tools: Names = ()
    dry_run: bool = False
    confirm_fallback: Fallback | None = None


class Settings(_Closed):
    """Everything that the program is told."""

    connection: Connection = Connection()
    policy: PolicySettings = PolicySettings()
    data_dir: Path
    country: str | None = None
    sample: bool = False
    smtp_url: SecretStr | None = None
    read_only: bool = False
    toolsets: tuple[str, ...] | None = None
    """None: not set, which means all unless single tools are named."""
    tools: tuple[str, ...] = ()
    exclude_tools: tuple[str, ...] = ()
    dry_run: bool = False
    confirm_fallback: Fallback | None = None
    """What guards a client that cannot ask its user; None: `token` on stdio, `deny` on HTTP."""


def load() -> Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: something is unknown, malformed, or can't be read.
    """
    _refuse_unknown(os.environ)
    try:
        env = _Environment()
    except ValidationError as error:
        raise SettingsError(_explain(error, _Environment, lambda where: f"{PREFIX}{where.upper()}")) from None
    _check_country(env.country)
    file = _read_file(env.config)
    return Settings(
        connection=_connection(env, file),
        policy=file.policy,
        data_dir=_expanded(env.data_dir or _user_folder("data")).absolute(),
        toolsets=_toolsets(env.toolsets),
        **env.model_dump(exclude={"vendor", "api_key", "config", "data_dir", "toolsets"}),
    )


def variables() -> list[str]:
    """Return the names of the environment variables that are settings."""
    return [PREFIX + name.upper() for name in _Environment.model_fields]


@functools.lru_cache(maxsize=8)
def sealing_key(folder: Path) -> bytes:
    """Return the secret that seals cursors, made on the first use and kept in the data directory (mode 0600).

    Raises:
        Unreachable: it can be neither read nor written.
    """
    path = folder / "key"
    try:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written aside and linked into place, so that two processes that start together agree on one whole key.
        draft = folder / f"key.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_bytes(os.urandom(32))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_bytes()
    except OSError as error:
        raise Unreachable(
            f"the data directory {folder} can't be used ({error.strerror})", "see CRM_MCP_DATA_DIR"
        ) from None


def operating_system_user() -> str:
    """Return the name of the OS user that this process runs as."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with changes, for a server that it starts as a child."""
    return {**os.environ, **changes}


def _user_folder(kind: Literal["data", "config"]) -> Path:
    import platformdirs

    folder = platformdirs.user_data_path if kind == "data" else platformdirs.user_config_path
    return folder("crm-mcp", appauthor=False)


def _refuse_unknown(environment: Iterable[str]) -> None:
    valid = variables()
    for name in environment:
        # In whatever case: settings are read without regard to it, so a misspelt one would go unnoticed.
        folded = name.upper()
        if folded.startswith(PREFIX) and not folded.startswith(RESERVED) and name not in valid:
            raise SettingsError(f"{name} is no setting; {choices(name, valid)}")


def _check_country(code: str | None) -> None:
    if code is None:
        return
    # Loaded by those alone who set it; the numbers of that country need it anyway.
    from phonenumbers import SUPPORTED_REGIONS

    if code not in SUPPORTED_REGIONS:
        raise SettingsError(f'{PREFIX}COUNTRY: "{code}" is no country; {choices(code, sorted(SUPPORTED_REGIONS))}')


def _read_file(named: Path | None) -> _File:
    path = _expanded(named) if named else _user_folder("config") / "config.toml"
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if named:
            raise SettingsError(f"CRM_MCP_CONFIG names {named}, which does not exist") from None
        return _File()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path.name} can't be read: {error}") from None
    except ValidationError as error:
        raise SettingsError(_explain(error, _File, lambda where: f"{path.name}: {where}")) from None


def _connection(env: _Environment, file: _File) -> Connection:
    if len(file.connections) > 1:
        raise SettingsError("this version serves one connection; the file names " + ", ".join(file.connections))
    named = file.connections or {env.vendor or "local": {}}
    name, given = next(iter(named.items()))
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", name):
        raise SettingsError(f'"{name}" is no connection name; use up to 32 of a-z, 0-9, - and _')
    wanted = dict(given)
    if env.vendor:
        wanted["vendor"] = env.vendor
    if env.api_key:
        wanted["api_key"] = env.api_key
    elif isinstance(key := given.get("api_key"), str):
        wanted["api_key"] = _read_key(key)
    try:
        return Connection(name=name, **dict(_Entry.model_validate(wanted)))
    except ValidationError as error:
        raise SettingsError(_explain(error, _Entry, lambda where: f"connections.{name}.{where}")) from None


def _read_key(reference: str) -> str:
    kind, _, rest = reference.partition(":")
    if kind == "env" and rest:
        if value := os.environ.get(rest):
            return value
        raise SettingsError(f"api_key names the variable {rest}, which is not set")
    if kind == "file" and rest:
        try:
            return _expanded(Path(rest)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"api_key names a file that can't be read: {type(error).__name__}") from None
    raise SettingsError('api_key is given as "env:NAME" or "file:PATH", so that no key stands in the file')


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise SettingsError(f"{path} is in the home directory of a user that there isn't") from None


def _toolsets(given: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not given:
        raise SettingsError(f"{PREFIX}TOOLSETS names no toolset; {choices('', (*TOOLSETS, 'all'))}")
    for name in given:
        if name not in (*TOOLSETS, "all"):
            raise SettingsError(f'{PREFIX}TOOLSETS: "{name}" is no toolset; {choices(name, (*TOOLSETS, "all"))}')
    return TOOLSETS if "all" in given else given


def _explain(error: ValidationError, owner: type[BaseModel], name: Callable[[str], str]) -> str:
    """Say what is wrong with the first bad setting, without its value, which may be a key, where it is free text."""
    first = error.errors(include_url=False)[0]
    where = name(".".join(str(part) for part in first["loc"]))
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        valid = re.findall("'([^']*)'", first.get("ctx", {})["expected"])
        return f'{where}: "{first["input"]}" is none of its values; {choices(first["input"], valid)}'
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg'].removeprefix('Value error, ').lower()}"
    for part in first["loc"][:-1]:
        inner = owner.model_fields[str(part)].annotation
        owner = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else owner
    return f"{where} is no setting; {choices(str(first['loc'][-1]), owner.model_fields)}"
