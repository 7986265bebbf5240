"""Work on what is large goes on beside the event loop: other requests are answered meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from anyio import to_thread

LARGE = 20_000
"""Characters from which on a value is worked on in a thread: below it the work takes a few milliseconds, and a thread's
turn nearly one."""

R = TypeVar("R")


async def offload(value: Any, work: Callable[..., R], *arguments: Any) -> R:
    """Return what `work` makes of these arguments; where `value`, JSON or a text that it is about, is large, in a
    thread. It must touch nothing that the loop works on."""
    return await to_thread.run_sync(work, *arguments) if outgrows(value, LARGE) else work(*arguments)


def outgrows(value: Any, most: int) -> bool:
    """Whether JSON surely has more than `most` characters; no more of it is looked at than so much."""
    stack: list[Any] = [value]
    while stack and most >= 0:
        each = stack.pop()
        if isinstance(each, dict | list | tuple):
            several = cast("dict[Any, Any] | list[Any] | tuple[Any, ...]", each)
            most -= len(several)
            if most >= 0:
                most -= sum(map(len, map(str, several))) if isinstance(several, dict) else 0
                stack.extend(several.values() if isinstance(several, dict) else several)
        else:
            most -= len(each) if isinstance(each, str) else 1
    return most < 0
