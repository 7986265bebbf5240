"""The backends that the contract is tested on, each with the way to an empty one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from crm_mcp.backends.base import Backend
from crm_mcp.backends.local import Local


class Vendor(NamedTuple):
    """A backend: its class says what it can do, `opened` gives one to work with."""

    backend: type[Backend]
    opened: Callable[[Path], AbstractAsyncContextManager[Backend]]


@asynccontextmanager
async def _local(folder: Path) -> AsyncGenerator[Backend]:
    crm = Local(folder / "data", country="US")
    try:
        yield crm
    finally:
        await crm.aclose()


VENDORS: dict[str, Vendor] = {"local": Vendor(Local, _local)}
