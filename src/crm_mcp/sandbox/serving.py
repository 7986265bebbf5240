"""Real HTTP around the emulators: each on a port of its own, in threads of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from crm_mcp.sandbox.emulator import Emulator, Receive, Scope, Send


@contextmanager
def serving(emulator: Emulator, port: int = 0, *, within: float = 5.0) -> Generator[str]:
    """Serve an emulator on loopback until the block ends; gives the base URL for the settings.

    Raises:
        OSError: the port is taken.
    """
    connections: dict[tuple[str, int], asyncio.Transport] = {}

    class Droppable(H11Protocol):
        """Connections that an emulator can break off."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections[transport.get_extra_info("peername")[:2]] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            connections.pop(self.transport.get_extra_info("peername")[:2], None)
            super().connection_lost(exc)

    def drop(client: tuple[str, int]) -> None:
        if client in connections:
            connections[client].abort()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["state"] = {"drop": drop}
        await emulator(scope, receive, send)

    config = uvicorn.Config(
        cast("Any", application),
        log_config=None,
        log_level="critical",
        lifespan="off",
        http=Droppable,
        access_log=False,
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    # Named TCP outright: asyncio turns Nagle's delay off for such sockets alone.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    try:
        listening.bind(("127.0.0.1", port))
        thread.start()
        give_up = time.monotonic() + within
        while not server.started:
            if not thread.is_alive() or time.monotonic() > give_up:
                raise OSError("the emulator did not start")
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}{emulator.prefix}"
    finally:
        server.should_exit = True
        if thread.is_alive():
            thread.join(within)
        listening.close()
