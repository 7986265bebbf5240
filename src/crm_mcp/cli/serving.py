"""`crm-mcp serve`: on stdio, or over HTTP on a loopback address."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import anyio

from crm_mcp.cli.terminal import complain
from crm_mcp.config import Settings, is_loopback, load
from crm_mcp.errors import SettingsError

if TYPE_CHECKING:
    from crm_mcp.server.app import Application


def serve_stdio() -> int:
    """Serve on stdin and stdout until stdin closes; returns the exit code. Everything else goes to stderr."""
    try:
        settings = load()
        from crm_mcp.server.app import Application

        application = Application(settings)
        _kill_where_told(application)
    except SettingsError as error:
        complain(str(error))
        return 2
    from mcp.server.stdio import stdio_server

    async def serve() -> None:
        async with stdio_server() as (incoming, outgoing):
            options = application.server.create_initialization_options()
            await application.server.run(incoming, outgoing, options)

    try:
        anyio.run(serve)
    except KeyboardInterrupt:
        return 130
    return 0


def serve_http(settings: Settings, address: str) -> None:
    """Serve over streamable HTTP at `/mcp` until it is stopped.

    Raises:
        SettingsError: the address is malformed, or not loopback.
    """
    host, port = _loopback(address)
    import uvicorn
    from mcp.server.transport_security import TransportSecuritySettings

    from crm_mcp.server.app import Application

    application = Application(settings, "http")
    _kill_where_told(application)
    shown = f"[{host}]" if ":" in host else host
    # Said here for every loopback address: the SDK arms these checks by itself for the commonest three only.
    names = sorted({shown, "127.0.0.1", "localhost", "[::1]"})
    served = application.server.streamable_http_app(
        host=host,
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=[f"{name}:*" for name in names],
            allowed_origins=[f"http://{name}:*" for name in names],
        ),
    )
    complain(f"serving on http://{shown}:{port}/mcp")
    # Without a set-up of its own, what it logs is written as everything else is.
    uvicorn.run(served, host=host, port=port, log_config=None, log_level="warning", access_log=False)


def _kill_where_told(application: Application) -> None:
    """Let this process end at a step of an action as in a crash, where a test says so."""
    if application.settings.kill_at is None:
        return
    wanted, number = application.settings.kill_at
    left = number

    def at(step: str) -> None:
        nonlocal left
        left -= step == wanted
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    application.outbox.at = at


def _loopback(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise SettingsError(f'"{address}" is no address; give HOST:PORT, as 127.0.0.1:8000')
    if not is_loopback(host):
        raise SettingsError(
            f"{host} is not a loopback address; this version has no callers to tell apart, so it serves this machine "
            "alone: use 127.0.0.1, ::1 or localhost"
        )
    return host, int(port)
