"""Time as tests have it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from crm_mcp.model import now

START = datetime(2026, 3, 20, 18, 0, tzinfo=UTC)
"""A Friday, 11:00 in Los Angeles: a time at which people may be reached."""


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, **by: float) -> None:
        """Put it forward, or back."""
        self.moment += timedelta(**by)


class RunningClock(Clock):
    """The clock of this machine, put forward or back."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return now() + self.ahead

    def advance(self, **by: float) -> None:
        self.ahead += timedelta(**by)

    def seconds(self) -> float:
        """The same as Unix seconds, for an emulator."""
        return self().timestamp()


class CrmClock:
    """What the embedded CRM takes for `datetime`: it has the time of somebody else's clock."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    def now(self, _zone: object) -> datetime:
        return self._clock()
