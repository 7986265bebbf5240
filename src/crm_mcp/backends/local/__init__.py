"""The embedded CRM: all of a CRM in one SQLite file, without an account or a network."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import ClassVar

from crm_mcp.address import email_address
from crm_mcp.backends.base import Backend
from crm_mcp.backends.local.activity import LocalActivity
from crm_mcp.backends.local.database import File
from crm_mcp.backends.local.deals import LocalDeals
from crm_mcp.backends.local.importing import LocalImports
from crm_mcp.backends.local.leads import LocalLeads
from crm_mcp.backends.local.outreach import LocalOutreach, default_mailbox, put_mailbox
from crm_mcp.backends.local.records import LocalRecords
from crm_mcp.backends.local.restoring import LocalImages
from crm_mcp.backends.local.sequences import LocalSequences
from crm_mcp.backends.local.smtp import Post
from crm_mcp.backends.local.tasks import LocalTasks
from crm_mcp.model import Account

__all__ = ["Local"]


class Local(
    LocalLeads,
    LocalImports,
    LocalActivity,
    LocalTasks,
    LocalDeals,
    LocalOutreach,
    LocalSequences,
    LocalRecords,
    LocalImages,
    Backend,
):
    """The embedded CRM in `folder`; stages sit on leads and on deals, and both have their own.

    `country` reads national phone numbers, `mailbox` becomes the default one, `sample` fills an empty CRM.
    """

    vendor: ClassVar[str] = "local"

    def __init__(
        self,
        folder: Path,
        *,
        country: str | None = None,
        smtp_url: str | None = None,
        sample: bool = False,
        mailbox: str | None = None,
    ) -> None:
        self._country = country
        self._post = Post.at(smtp_url) if smtp_url else None
        self._sample = sample
        self._mailbox = email_address(mailbox) if mailbox else None
        self._file = File(folder, self._unprepared, self._prepare)

    async def check(self) -> Account:
        """Count what is there."""
        leads, deals = await self._file.read(_counts)
        found = f"{leads:,} lead{'' if leads == 1 else 's'}, {deals:,} deal{'' if deals == 1 else 's'}"
        return Account(found=f"{found}; file {self._file.path}")

    async def aclose(self) -> None:
        """Close the file."""
        await self._file.aclose()

    def _unprepared(self, db: sqlite3.Connection) -> bool:
        return (self._sample and _empty(db)) or (
            self._mailbox is not None and (default_mailbox(db) or "").casefold() != self._mailbox.casefold()
        )

    def _prepare(self, db: sqlite3.Connection) -> None:
        if self._sample and _empty(db):
            # Words and names for 300 people are read only where they are wanted.
            from crm_mcp.backends.local.sample import fill

            fill(db)
        if self._mailbox is not None:
            put_mailbox(db, self._mailbox, default=True)


def _empty(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM leads LIMIT 1").fetchone() is None


def _counts(db: sqlite3.Connection) -> tuple[int, int]:
    row = db.execute("SELECT (SELECT count(*) FROM leads), (SELECT count(*) FROM deals)").fetchone()
    return int(row[0]), int(row[1])
