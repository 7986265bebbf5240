"""The settings of a server that tests start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from crm_mcp.config import Connection, PolicySettings, Settings

MINUTE = 0.05
"""Seconds of a minute of the vendors' limits."""
OURS = "me@crm.example"
"""An address of ours, besides the mailbox."""
FREE: dict[str, Any] = {"outward": "allow"}
"""A policy under which messages leave without a question."""
AT_NIGHT: dict[str, Any] = {"outward": "allow", "quiet_hours": "00:00-23:59"}
"""The same, at a time when nobody may be reached."""

Policy = PolicySettings | Mapping[str, Any] | None
"""A policy, its fields, or the one that holds where nothing is set."""


def policy_of(given: Policy) -> PolicySettings:
    return given if isinstance(given, PolicySettings) else PolicySettings.model_validate(given or {})


def rules(**given: Any) -> PolicySettings:
    """Return a policy; quiet hours are off where it does not name them: tests run at night, too."""
    return policy_of({"quiet_hours": "off", **given})


def settings(
    folder: Path,
    vendor: str = "local",
    policy: Policy = None,
    *,
    url: str = "",
    key: str = "",
    own: tuple[str, ...] = (),
    **more: Any,
) -> Settings:
    """Return settings with one connection, named as its vendor is.

    A vendor is at this URL, and takes this key; `own` are addresses of ours.
    """
    remote = {} if vendor == "local" else {"api_key": SecretStr(key), "base_url": url, "minute": MINUTE}
    connection = Connection.model_validate({"name": vendor, "vendor": vendor, "own_addresses": own, **remote})
    return Settings.model_validate(
        {"connections": (connection,), "data_dir": folder, "policy": policy_of(policy), **more}
    )
