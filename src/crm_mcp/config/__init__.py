"""The only reader of environment, settings files and keys; everything else is given values.

Environment variables (`CRM_MCP_...`) configure one connection; a TOML file may name it and set the policy. Environment
wins over file. What is unknown stops the start with a `SettingsError` that names it and the nearest valid one.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from crm_mcp.address import email_address
from crm_mcp.config.keys import audit_key, sealing_key
from crm_mcp.config.policy import (
    AuditSettings,
    Closed,
    Fallback,
    LimitSettings,
    PolicySettings,
    QuietWindow,
    Sizes,
    Stricter,
    Verdict,
    ZoneName,
    postgres_url,
    time_zone,
)
from crm_mcp.errors import InvalidArgument, SettingsError, choices
from crm_mcp.text import one_line

__all__ = [
    "MINUTE",
    "PREFIX",
    "RESERVED",
    "TOOLSETS",
    "VENDORS",
    "AuditSettings",
    "Connection",
    "Defaults",
    "Fallback",
    "LimitSettings",
    "PolicySettings",
    "QuietWindow",
    "Settings",
    "Sizes",
    "Stricter",
    "Verdict",
    "audit_key",
    "child_environment",
    "is_loopback",
    "load",
    "operating_system_user",
    "sealing_key",
    "time_zone",
    "variables",
]

PREFIX = "CRM_MCP_"
RESERVED = "CRM_MCP_TEST_"
TOOLSETS = ("leads", "activity", "tasks", "deals", "outreach", "bulk", "admin", "vendor")
VENDORS = ("local", "dialsheet", "salessheet", "salespulse", "getsales")
MINUTE = 60.0

SHORTEST_KEY = 16
"""Characters of a key that seals the audit log: a shorter one can be guessed."""


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def _one_word(value: str) -> str:
    """Check what goes into a header: a line break in it would begin another one."""
    word = value.strip()
    if not re.fullmatch("[!-~]+", word):
        raise ValueError("is empty, or has characters that it can't have")
    return word


def _key(key: SecretStr) -> SecretStr:
    return SecretStr(_one_word(key.get_secret_value()))


def _safe_address(url: str) -> str:
    try:
        host, port = urlsplit(url).hostname, urlsplit(url).port
    except ValueError:
        host, port = "", None
    # Looked at as it is written, too: what one parser of URLs passes over, another may take for the host.
    if not re.fullmatch(r"https?://[!-~]+", url) or set(url) & set("@?#\\") or not host or port == 0:
        raise ValueError("is no base URL; give one as https://api.example.com")
    if url.startswith("http:") and not is_loopback(host):
        raise ValueError("is http://, which would send the key in the clear; use https://")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _mail_addresses(given: tuple[str, ...]) -> tuple[str, ...]:
    """Check addresses of ours, each alone; the library that does is loaded by those alone who set one."""
    for each in given:
        try:
            email_address(each)
        except InvalidArgument as error:
            raise ValueError(str(error)) from None
    return tuple(each.strip() for each in given)


class Defaults(Closed):
    """What is taken where a call leaves it out."""

    mailbox: str | None = None
    list: str | None = None
    sender: str | None = None


class _Entry(Closed):
    """What stands under `[connections.NAME]`."""

    vendor: str = "local"
    api_key: Annotated[SecretStr, AfterValidator(_key)] | None = None
    base_url: Annotated[str, AfterValidator(_safe_address)] | None = None
    team_id: Annotated[str, AfterValidator(_one_word)] | None = None
    per_minute: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    """Another limit of calls than the vendor's documented one."""
    corrections: Annotated[dict[str, str], Field(alias="keys")] = Field(default_factory=dict)
    """`keys` in the file: corrections of the names that a vendor does not document; see its page in docs/."""
    defaults: Defaults = Defaults()
    own_addresses: Annotated[tuple[str, ...], AfterValidator(_mail_addresses)] = ()
    """E-mail addresses of ours, besides its mailboxes, that may stand where an answer goes and among copies."""
    time_zone: ZoneName | None = None
    """Where its day begins and ends; None: in the zone of this machine."""


class Connection(_Entry):
    """One CRM."""

    name: str = "local"
    key_from: str = "nowhere"
    """The setting that gave the key."""
    minute: float = MINUTE
    """The seconds that a limit's minute lasts: the emulator of a test may run on a faster clock."""


class _File(Closed):
    connections: dict[str, dict[str, Any]] = Field(default_factory=dict)
    policy: PolicySettings = PolicySettings()
    audit: AuditSettings = AuditSettings()


class _Environment(BaseSettings):
    """The variables of the contract's table that this version knows."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    vendor: str | None = None
    api_key: SecretStr | None = None
    base_url: str | None = None
    team_id: str | None = None
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None
    config: Path | None = None
    data_dir: Path | None = None
    database_url: Annotated[SecretStr, AfterValidator(postgres_url)] | None = None
    sample: bool = False
    smtp_url: SecretStr | None = None
    read_only: bool = False
    toolsets: Names | None = None
    tools: Names = ()
    exclude_tools: Names = ()
    dry_run: bool = False
    confirm_fallback: Fallback | None = None


_OF_ONE = ("vendor", "api_key", "base_url", "team_id")
"""The variables that configure a connection."""


class Settings(Closed):
    """Everything that the program is told."""

    connections: tuple[Connection, ...] = (Connection(),)
    policy: PolicySettings = PolicySettings()
    audit: AuditSettings = AuditSettings()
    data_dir: Path
    database_url: SecretStr | None = None
    """The PostgreSQL database that several servers share their state in; None: a file in the data directory."""
    rate_limit_file: Path | None = None
    """Where the calls of each key are counted, by all processes of this user; None: in the data directory."""
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
    """What guards a client that cannot ask its user; None: `token` on stdio, `approval` on HTTP."""
    kill_at: tuple[str, int] | None = None
    """A step of an action, and the how manyth, at which the process kills itself: tests look at what a crash leaves."""


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
    connections = _connections(env, file)
    known = dict.fromkeys([*(each.name for each in connections), *file.connections])
    for name in file.policy.connections:
        if name not in known:
            raise SettingsError(f'policy.connections: "{name}" is no connection; {choices(name, known)}')
    return Settings(
        connections=connections,
        policy=file.policy,
        audit=_audit(file.audit),
        data_dir=_expanded(env.data_dir or _user_folder("data")).absolute(),
        rate_limit_file=_user_folder("cache") / "pace.sqlite3",
        toolsets=_toolsets(env.toolsets),
        kill_at=_kill_at(),
        **env.model_dump(exclude={*_OF_ONE, "config", "data_dir", "toolsets"}),
    )


def variables() -> list[str]:
    """Return the names of the environment variables that are settings."""
    return [PREFIX + name.upper() for name in _Environment.model_fields]


@cache
def operating_system_user() -> str:
    """Return the name of the OS user that this process runs as, in one line; the system takes time to look it up."""
    import getpass

    try:
        return one_line(getpass.getuser())
    except (KeyError, OSError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with changes, for a server that it starts as a child."""
    return {**os.environ, **changes}


def _user_folder(kind: Literal["data", "config", "cache"]) -> Path:
    import platformdirs

    folder = {
        "data": platformdirs.user_data_path,
        "config": platformdirs.user_config_path,
        "cache": platformdirs.user_cache_path,
    }[kind]
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


def _connections(env: _Environment, file: _File) -> tuple[Connection, ...]:
    """Return the connections of the file, or the one that the environment names.

    Variables change the file's only connection, or its only one to their vendor, and are then the only connection.
    Where the file has none to that vendor they are a connection of their own: what the file says of one vendor, its key
    above all, is never given to another.
    """
    given: dict[str, Any] = {name: value for name in _OF_ONE if (value := getattr(env, name)) is not None}
    named: dict[str, dict[str, Any]] = file.connections or {env.vendor or "local": {}}
    if env.vendor is not None:
        fitting = {name: each for name, each in named.items() if each.get("vendor", "local") == env.vendor}
        if len(fitting) > 1 and env.api_key is None:
            raise SettingsError(
                f"{PREFIX}VENDOR: the file names {', '.join(fitting)} to {env.vendor}, and one is meant; "
                f"set {PREFIX}API_KEY as well, or take the variable away"
            )
        named = fitting if len(fitting) == 1 else {env.vendor: {}}
    elif given and len(named) > 1:
        one = ", ".join(PREFIX + name.upper() for name in given)
        raise SettingsError(f"{one} is for one connection and the file names several; set {PREFIX}VENDOR as well")
    connections = tuple(_connection(name, each, given) for name, each in named.items())
    if sum(each.vendor == "local" for each in connections) > 1:
        raise SettingsError("several connections are local, which would be one CRM under several names")
    return connections


def _connection(name: str, of_file: Mapping[str, Any], of_environment: Mapping[str, Any]) -> Connection:
    vendor: object = of_environment.get("vendor", of_file.get("vendor", "local"))
    if isinstance(vendor, str) and vendor not in VENDORS:
        raise SettingsError(f'"{vendor[:60]}" is no vendor; {choices(vendor, VENDORS)}')
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", name):
        raise SettingsError(f'"{name[:60]}" is no connection name; use up to 32 of a-z, 0-9, - and _')
    wanted = dict(of_file)
    if "api_key" not in of_environment and isinstance(key := of_file.get("api_key"), str):
        wanted["api_key"] = _read_key(key, f"connections.{name}.api_key")
    try:
        entry = _Entry.model_validate(wanted | dict(of_environment))
    except ValidationError as error:
        raise SettingsError(_explain(error, _Entry, lambda where: _shown_as(name, where, of_environment))) from None
    if entry.vendor != "local" and entry.api_key is None:
        raise SettingsError(f"the connection {name} ({entry.vendor}) has no key; give {PREFIX}API_KEY, or api_key")
    key_from = _shown_as(name, "api_key", of_environment)
    return Connection(name=name, key_from=key_from, minute=_minute(entry.base_url), **entry.model_dump(by_alias=True))


def _shown_as(name: str, where: str, of_environment: Mapping[str, Any]) -> str:
    """Return what a setting of a connection is called, where it was given."""
    return PREFIX + where.upper() if where in of_environment else f"connections.{name}.{where}"


def _minute(base_url: str | None) -> float:
    """Return how long a limit's minute is: a vendor's own is never shortened, that of an emulator of a test may be."""
    name = f"{RESERVED}MINUTE"
    given = os.environ.get(name, "")
    if not given:
        return MINUTE
    if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", given, re.ASCII) or not float(given):
        raise SettingsError(f"{name}: give seconds, as 0.5")
    return float(given) if base_url and is_loopback(urlsplit(base_url).hostname or "") else MINUTE


def _kill_at() -> tuple[str, int] | None:
    name = f"{RESERVED}KILL_AT"
    given = os.environ.get(name, "")
    if not given:
        return None
    if not re.fullmatch(r"[a-z ]{1,30}(:[1-9]\d{0,3})?", given, re.ASCII):
        raise SettingsError(f"{name}: give a step and its number, as claimed:2")
    step, _, number = given.partition(":")
    return step, int(number or 1)


def _audit(given: AuditSettings) -> AuditSettings:
    if given.key is None:
        return given
    key = _read_key(given.key.get_secret_value(), "audit.key")
    if len(key) < SHORTEST_KEY:
        raise SettingsError(
            f"audit.key leads to a key that is too short; give one of at least {SHORTEST_KEY} characters"
        )
    return given.model_copy(update={"key": SecretStr(key)})


def _read_key(reference: str, where: str) -> str:
    """Return the key that a reference leads to. Only what can't be a key is repeated in an error."""
    kind, _, rest = reference.partition(":")
    if kind == "env" and rest:
        if value := os.environ.get(rest):
            return value
        variable = rest if re.fullmatch("[A-Z][A-Z0-9_]*", rest) else "a variable"
        raise SettingsError(f"{where} names {variable}, which is not set")
    if kind == "file" and rest:
        try:
            return _expanded(Path(rest)).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise SettingsError(f"{where} names a file that can't be read: {type(error).__name__}") from None
    service, slash, user = rest.rpartition("/")
    if kind == "keyring" and slash and service and user:
        return _key_in_keyring(service, user, where)
    raise SettingsError(
        f'{where} is given as "env:NAME", "keyring:SERVICE/USER" or "file:PATH", so that no key stands in the file'
    )


def _key_in_keyring(service: str, user: str, where: str) -> str:
    import keyring
    from keyring.errors import KeyringError

    try:
        found = keyring.get_password(service, user)
    # The latter ones come from the choice of a keyring by the environment or its own settings.
    except (KeyringError, ImportError, AttributeError, RuntimeError, OSError, ValueError) as error:
        raise SettingsError(f"{where} names a keyring that can't be read: {type(error).__name__}") from None
    if not found:
        raise SettingsError(
            f"{where} names {service}/{user}, which the keyring does not have; "
            f"store it with `keyring set {service} {user}`"
        )
    return found


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


_OF_KEY = "[key]"
"""What pydantic calls the place of a key of a table, as against its value."""


def _explain(error: ValidationError, owner: type[BaseModel], name: Callable[[str], str]) -> str:
    """Say what is wrong with the first bad setting, without its value, which may be a key, where it is free text."""
    first = error.errors(include_url=False)[0]
    where = name(".".join(str(part) for part in first["loc"] if part != _OF_KEY))
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        valid = re.findall("'([^']*)'", first.get("ctx", {})["expected"])
        if first["loc"][-1] == _OF_KEY:
            return f"{where} is no setting; {choices(first['input'], valid)}"
        return f'{where}: "{first["input"]}" is none of its values; {choices(first["input"], valid)}'
    if first["type"] == "value_error":
        said = first["msg"].removeprefix("Value error, ")
        return f"{where}: {said}" if said.startswith('"') else f"{where} {said}"
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg'].lower()}"
    for part in first["loc"][:-1]:
        owner = _model_at(owner, str(part))
    valid = [field.alias or name for name, field in owner.model_fields.items()]
    return f"{where} is no setting; {choices(str(first['loc'][-1]), valid)}"


def _model_at(owner: type[BaseModel], part: str) -> type[BaseModel]:
    """Return the model under a key, or under each name of a table of models; `owner` where there is none."""
    inner = owner.model_fields[part].annotation if part in owner.model_fields else None
    of_each = get_args(inner)[-1] if get_origin(inner) is dict else inner
    return of_each if isinstance(of_each, type) and issubclass(of_each, BaseModel) else owner
