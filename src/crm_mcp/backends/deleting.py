"""Deleting as all four vendors have it: a record is deleted at its own path, and what goes with it is told nowhere."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from crm_mcp.backends.base import DeletesRecords
from crm_mcp.backends.http import at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.refusals import no_record, refuse_deleting
from crm_mcp.backends.remote import Remote, shown_in
from crm_mcp.model import RecordKind


class DeletesAtPaths(DeletesRecords, Remote):
    """Deletes records, each kind at a path of its own."""

    record_paths: ClassVar[Mapping[RecordKind, str]]
    shows_deleted: ClassVar[bool] = False
    """Whether the answer to a deletion may show the record."""

    async def goes_with(self, kind: RecordKind, record: str) -> dict[str, int]:
        """Count nothing, for a record that exists: what a deletion takes along is not documented."""
        refuse_deleting(self.called, kind, self.deletes)
        await self._existing(kind, record)
        return {}

    async def delete(self, kind: RecordKind, record: str) -> None:
        """Delete a record."""
        refuse_deleting(self.called, kind, self.deletes)
        self._writes += 1
        path = at(self.record_paths[kind], record)
        answer = await self._api.write("DELETE", path, missing=no_record(kind, record))
        if self.shows_deleted:
            refuse_written_other(record, shown_in(answer))

    @abstractmethod
    async def _existing(self, kind: RecordKind, record: str) -> object:
        """Read a record. Raises NotFound where it is not there."""
