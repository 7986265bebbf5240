"""Calls: read, and started. A call is all that SalesPulse tells of what happened with a contact."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from crm_mcp.backends.activities import of_call, refuse_kinds, whole_second
from crm_mcp.backends.base import ReadsActivity, ReadsCalls, RecallsCalls, StartsCalls
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.lists import at_once, merged, newest_first, part_of
from crm_mcp.backends.refusals import no_record
from crm_mcp.backends.remote import key_of, record_if_shown
from crm_mcp.backends.salespulse.api import CALL, CALLS, START_CALL
from crm_mcp.backends.salespulse.codec import NAME, call_of, identity
from crm_mcp.backends.salespulse.leads import SalesPulseLeads
from crm_mcp.errors import InvalidArgument, OutcomeUnknown
from crm_mcp.model import Activity, ActivityKind, Call, Lead, Page, Slice, now


class SalesPulseActivity(SalesPulseLeads, ReadsActivity, ReadsCalls, StartsCalls, RecallsCalls):
    """The calls of the account's number."""

    activity_kinds: ClassVar[tuple[ActivityKind, ...]] = ("call",)

    async def list_activity(
        self, lead: str, kinds: Seq[ActivityKind], since: datetime | None, part: Slice
    ) -> Page[Activity]:
        """List a contact's calls, newest first."""
        refuse_kinds(kinds, self.activity_kinds)

        async def calls() -> list[Activity]:
            return [of_call(each) for each in (await self._calls_of(lead, since))[0]]

        return await merged({"call": at_once(calls)}, since, part)

    async def get_call(self, call: str) -> Call:
        """Read one call; recording and transcript are there once the vendor has made them."""
        return call_of(await self._record(CALL, call, "call", "call", identity), self._keys, whole=True)

    async def list_calls(self, lead: str, part: Slice) -> Page[Call]:
        """List a contact's calls, newest first, without transcripts."""
        calls, complete = await self._calls_of(lead, None)
        return part_of(calls, part, complete=complete)

    async def start_call(self, lead: Lead) -> Call:
        """Ring a contact from the account's own SalesPulse number: an answer that it was taken means that it rings."""
        if not lead.phone:
            raise InvalidArgument(f"{lead.label} has no phone number", "set one with update_lead", wrote=False)
        to = lead.id if self._keys.call_to.endswith("_id") else lead.phone
        started = now()
        body, missing = {self._keys.call_to: to}, no_record("lead", lead.id)
        row = record_if_shown(await self._api.write("POST", START_CALL, body, missing=missing), "call")
        if not key_of(row, "id", "call_id"):
            raise OutcomeUnknown(
                f"{NAME} took the call to {lead.label} and did not say its id; it probably rings",
                "list_activity has the call once it is there",
            )
        call = call_of(row, self._keys)
        refuse_written_other(lead.id, call.lead_id)
        return call.model_copy(
            update={"lead_id": lead.id, "direction": "outbound", "started_at": call.started_at or started}
        )

    async def started_call(self, lead: Lead, since: datetime) -> Call | None:
        """Return the newest outbound call of the contact since then, whoever of the account started it."""
        calls, _ = await self._calls_of(lead.id, since)
        first = whole_second(since)
        began = (each for each in calls if each.direction == "outbound" and each.started_at)
        return next((each for each in began if each.started_at and each.started_at >= first), None)

    async def _calls_of(self, lead: str, since: datetime | None) -> tuple[list[Call], bool]:
        """Return a contact's calls, newest first, and whether these are all.

        `from` is a date (its format is inferred); it is asked for a day early, as the vendor's time zone is not known,
        and `since` is held exactly by who calls this.
        """
        earliest = (since.astimezone(UTC) - timedelta(days=1)).date().isoformat() if since else None
        rows, complete = await self._history(CALLS, "calls", {"contact_id": lead, "from": earliest})
        calls = [call_of(row, self._keys) for row in rows]
        calls = [each for each in calls if each.lead_id in (None, lead)]
        if not calls:
            await self._contact(lead)  # an id that isn't there may have no calls rather than be not found
        return newest_first(calls, lambda each: each.started_at), complete
