"""A value that is read anew only after a while: names that stand behind ids cost a call."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """What a call reads, for some seconds from when it was read."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._found: tuple[float, T] | None = None

    @property
    def last(self) -> T | None:
        """What was read last, however long ago; None: nothing was."""
        return self._found[1] if self._found else None

    async def get(self, *, anew: bool = False) -> T:
        """Return it, read again where it is older, or is wanted `anew`."""
        if anew or self._found is None or time.monotonic() - self._found[0] > self._seconds:
            found = await self._read()
            self._found = (time.monotonic(), found)
        return self._found[1]
