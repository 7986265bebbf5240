"""How long the caller waits: every call is answered in time, whatever the CRM does."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import anyio

from crm_mcp.errors import TimedOut

ANSWERS_WITHIN = 22.0
"""Seconds within which a call is answered: with `running`, where what it began takes longer."""
READS_WITHIN = 20.0
"""Seconds that the looking before a write or send may take where no call waits for it."""

_answer_by: ContextVar[float] = ContextVar("answer_by", default=math.inf)


def answer_within(seconds: float) -> None:
    """Say how long the caller of this task will wait from now on."""
    _answer_by.set(anyio.current_time() + seconds)


def somebody_waits() -> bool:
    """Whether the call that began this has not been answered yet."""
    return anyio.current_time() < _answer_by.get()


def while_somebody_waits() -> anyio.CancelScope:
    """Return a scope that is left, quietly, when the caller has to be answered."""
    return anyio.CancelScope(deadline=_answer_by.get())


@contextmanager
def in_time() -> Generator[None]:
    """Stop what only reads when the caller has to be answered.

    Raises:
        TimedOut: the time is over.
    """
    left = min(_answer_by.get() - anyio.current_time(), READS_WITHIN)
    try:
        with anyio.fail_after(max(left, 0.1)):
            yield
    except TimeoutError:
        raise TimedOut("the CRM did not answer in time, nothing was written", "try again later", wrote=False) from None
