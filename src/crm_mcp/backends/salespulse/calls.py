"""Calls: read, and started. A call is all that SalesPulse tells of what happened with a contact."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, cast

from crm_mcp.backends.activities import of_call, refuse_kinds, whole_second
from crm_mcp.backends.base import ReadsActivity, ReadsCalls, RecallsCalls, StartsCalls
from crm_mcp.backends.http import at
from crm_mcp.backends.http_errors import refuse_other, refuse_written_other
from crm_mcp.backends.remote import merged, part_of, record_in
from crm_mcp.backends.salespulse.leads import SalesPulseLeads
from crm_mcp.backends.salespulse.shapes import NAME, call_of, key_of
from crm_mcp.errors import InvalidArgument, OutcomeUnknown, VendorError
from crm_mcp.model import Activity, ActivityKind, Call, Lead, Page, Slice, now


class SalesPulseCalls(SalesPulseLeads, ReadsActivity, ReadsCalls, StartsCalls, RecallsCalls):
    """The calls of the account's number."""

    activity_kinds: ClassVar[tuple[ActivityKind, ...]] = ("call",)

    async def list_activity(
        self, lead: str, kinds: Seq[ActivityKind], since: datetime | None, part: Slice
    ) -> Page[Activity]:
        """List a contact's calls, newest first."""
        refuse_kinds(kinds, self.activity_kinds)
        calls: list[Activity] | None = None

        async def fetch(wanted: Slice) -> Page[Activity]:
            nonlocal calls
            if calls is None:
                calls = [of_call(each) for each in (await self._calls_of(lead, since))[0]]
            return part_of(calls, wanted)

        return await merged({"call": fetch}, since, part)

    async def get_call(self, call: str) -> Call:
        """Read one call; recording and transcript are there once the vendor has made them."""
        answer = await self._api.read("GET", at("/calls/{}", call), missing=f'there is no call "{call[:80]}"')
        row = _called(record_in(answer, "call"))
        refuse_other(call, key_of(row))
        return call_of(row, self._keys, whole=True)

    async def list_calls(self, lead: str, part: Slice) -> Page[Call]:
        """List a contact's calls, newest first, without transcripts."""
        calls, complete = await self._calls_of(lead, None)
        page = part_of(calls, part)
        return page if complete else page.model_copy(update={"total": None})

    async def start_call(self, lead: Lead) -> Call:
        """Ring a contact from the account's own SalesPulse number: an answer that it was taken means that it rings.

        Raises:
            InvalidArgument: the lead has no number.
            OutcomeUnknown: it was taken, but the answer names no call.
        """
        if not lead.phone:
            raise InvalidArgument(f"{lead.label} has no phone number", "set one with update_lead", wrote=False)
        to = lead.id if self._keys.call_to.endswith("_id") else lead.phone
        started = now()
        answer = await self._api.write(
            "POST", "/calls/initiate", {self._keys.call_to: to}, missing=f'there is no lead "{lead.id}"'
        )
        row = record_in(answer, "call") if isinstance(answer, dict) else {}
        if not key_of(row):
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
        rows, complete = await self._history("/calls", {"contact_id": lead, "from": earliest}, "calls")
        calls = [call_of(_called(row), self._keys) for row in rows]
        calls = [each for each in calls if each.lead_id in (None, lead)]
        if not calls:
            await self._contact(lead)  # an id that isn't there may have no calls rather than be not found
        first = datetime.min.replace(tzinfo=UTC)
        return sorted(calls, key=lambda each: each.started_at or first, reverse=True), complete


def _called(row: Any) -> dict[str, Any]:
    if key_of(row):
        return cast("dict[str, Any]", row)
    raise VendorError(f"{NAME} gives a call without an id", "try again", detail=repr(cast("object", row))[:300])
