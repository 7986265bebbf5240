"""The embedded CRM as tests want it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from crm_mcp.backends.local import Local
from crm_mcp.model import IfExists, ImportOutcome, ImportRow


class WatchedCrm(Local):
    """The embedded CRM, which remembers what it was asked, and may be made to wait or fail first."""

    def __init__(self, folder: Path, *, sample: bool = False) -> None:
        super().__init__(folder, sample=sample)
        self.imported: list[str | None] = []
        self.enrolling: list[str] = []
        self.first: Callable[[], Awaitable[object]] | None = None

    async def import_leads(self, rows: Sequence[ImportRow], if_exists: IfExists) -> tuple[ImportOutcome, ...]:
        self.imported += [each.draft.email for each in rows]
        if self.first:
            await self.first()
        return await super().import_leads(rows, if_exists)

    async def enroll(self, sequence: str, lead: str) -> str | None:
        self.enrolling.append(lead)
        if self.first:
            await self.first()
        return await super().enroll(sequence, lead)


class UntoldCrm(WatchedCrm):
    """A CRM that does not recognise what was imported before, nor tells who is enrolled."""

    repeatable = False
    enrols_once = False
    import_size = 50

    async def enrolled(self, sequence: str, lead: str) -> bool | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        del sequence, lead
        return None
