"""`crm-mcp sandbox`: emulators of the vendors' APIs, and the settings that lead to them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from crm_mcp.cli.terminal import say
from crm_mcp.errors import SettingsError, choices
from crm_mcp.sandbox import EMULATORS, emulator_of
from crm_mcp.sandbox.emulator import Emulator
from crm_mcp.sandbox.serving import serving

HIGHEST_PORT = 65_535


def run_sandbox(vendors: Sequence[str], port: int, *, sample: bool, switches: Sequence[str]) -> None:
    """Serve the emulators until Ctrl-C; with `port` 0 each takes a free one.

    Raises:
        SettingsError: there is no such vendor or switch, or a port is taken.
    """
    names = list(dict.fromkeys(vendors)) or list(EMULATORS)
    for name in names:
        if name not in EMULATORS:
            raise SettingsError(f'there is no emulator of "{name}"; {choices(name, EMULATORS)}')
    if not 0 <= port <= HIGHEST_PORT - len(names) + 1:
        raise SettingsError(f"--port {port} is no port; give 0 for any free one, or one up to {HIGHEST_PORT}")
    emulators = [emulator_of(name)(sample=sample) for name in names]
    for each in switches:
        _choose(emulators, each)
    try:
        with ExitStack() as stack:
            for place, emulator in enumerate(emulators):
                wanted = port + place if port else 0
                try:
                    url = stack.enter_context(serving(emulator, wanted))
                except OSError as error:
                    why = error.strerror or "it is taken"
                    raise SettingsError(f"port {wanted} can't be used ({why}); give another with --port") from None
                say(f"{emulator.vendor} at {url}")
                for each in _settings(emulator, url):
                    say(each, margin="  ")
            say("Ctrl-C ends it.", now=True)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        return


def _choose(emulators: Sequence[Emulator], given: str) -> None:
    """Set a switch, as NAME=VALUE, in every emulator that has it."""
    name, equals, text = given.partition("=")
    if not equals:
        raise SettingsError(f'"{given}" is no switch; write NAME=VALUE')
    able = [each for each in emulators if name in each.choices]
    if not able:
        valid = sorted({switch for each in emulators for switch in each.choices})
        raise SettingsError(f'there is no switch "{name}"; {choices(name, valid)}')
    for each in able:
        each.switch(**{name: _as(each.choices[name], name, text)})


def _as(first: object, name: str, text: str) -> Any:
    """Return a switch's value, of the kind that its first one has."""
    if isinstance(first, str):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    number = isinstance(first, int | float) and not isinstance(first, bool)
    fits = isinstance(value, int | float) and not isinstance(value, bool) if number else type(value) is type(first)
    if first is not None and not fits:
        raise SettingsError(f"--switch {name}: give a value such as {json.dumps(first)}")
    return value


def _settings(emulator: Emulator, url: str) -> tuple[str, ...]:
    return (
        f"export CRM_MCP_VENDOR={emulator.vendor}",
        f"export CRM_MCP_BASE_URL={url}",
        f"export CRM_MCP_API_KEY={emulator.key}",
        f"what arrives: {url.removesuffix(emulator.prefix)}/_sandbox/journal",
        "",
    )
