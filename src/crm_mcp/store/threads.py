"""Where the work of the store is done: in worker threads, so many at once, each waited for so long."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from crm_mcp.errors import Unreachable

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from crm_mcp.store.database import Database

THREADS = 32
"""How many calls wait at once for a connection, or for their turn to write, each for a few seconds at most."""
ANSWER = 12.0
"""Seconds after which a call is answered even where the database says nothing at all, as a server that hangs."""

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """The threads of one store."""

    def __init__(self) -> None:
        self._limiter: CapacityLimiter | None = None

    async def run(self, work: Callable[[], T], within: float | None = None) -> T:
        """Return what `work` returns, done in a thread.

        Raises:
            Unreachable: it took longer than `within` seconds, or `ANSWER`; it may go on, and be done.
        """
        from anyio import CapacityLimiter, lowlevel, move_on_after, to_thread

        await lowlevel.checkpoint_if_cancelled()  # for whom nobody waits any more, nothing is begun
        if self._limiter is None:
            self._limiter = CapacityLimiter(THREADS)
        # Whoever is cancelled meanwhile is so afterwards: what was written is not left without a word.
        with move_on_after(ANSWER if within is None else within, shield=True):
            return await to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        fix = "look up whether it was written, and try again in a moment"
        raise Unreachable("the database of the state does not answer", fix)


class Part:
    """A part of the store: what it has `in_thread` is called from the event loop, each call one transaction."""

    def __init__(self, threads: Threads, database: Database, clock: Callable[[], datetime]) -> None:
        self.threads = threads
        self.database = database
        self._clock = clock


A = TypeVar("A", bound=Part)


def in_thread(work: Callable[Concatenate[A, P], T]) -> Callable[Concatenate[A, P], Coroutine[Any, Any, T]]:
    """Make a method of a part one to be awaited, which is done in a worker thread.

    As it was it stands under `__wrapped__`, for whoever is in a thread already.
    """

    @wraps(work)
    async def awaited(part: A, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await part.threads.run(lambda: work(part, *args, **kwargs))

    return awaited
