"""What can be chosen, what there is in numbers, and what can be deleted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from crm_mcp.backends.base import DeletesRecords, GivesMetrics, ListsOptions, SumsPipeline
from crm_mcp.backends.getsales.finding import STATUSES
from crm_mcp.backends.getsales.history import History
from crm_mcp.backends.getsales.wire import COUNT, LEAD, METRICS, NOTE, cannot, no_lead
from crm_mcp.backends.http import at
from crm_mcp.backends.remote import number_in, record_in
from crm_mcp.errors import Unsupported, VendorError
from crm_mcp.model import Group, Grouping, Option, OptionKind, Pipeline, RecordKind, StageOwner, now, rfc3339

COUNTED = (
    "linkedin_connection_request_sent_count",
    "linkedin_connection_request_accepted_count",
    "linkedin_sent_count",
    "linkedin_opened_count",
    "linkedin_inbox_count",
    "linkedin_inmail_sent_count",
    "linkedin_inmail_replied_count",
    "email_sent_count",
    "email_opened_count",
    "email_clicked_count",
    "email_bounced_count",
    "email_unsubscribed_count",
    "email_inbox_count",
)
"""The metrics that two sources name."""
MOST_GROUPS = 40
"""Groups that are counted, since each costs a call."""


class Account(ListsOptions, SumsPipeline, GivesMetrics, DeletesRecords, History):
    """What an account holds."""

    option_kinds: ClassVar[tuple[OptionKind, ...]] = (
        *("stages", "statuses", "tags", "sequences", "mailboxes", "senders", "lists", "custom_fields"),
    )
    deletes: ClassVar[frozenset[RecordKind]] = frozenset(("lead", "note"))

    async def list_options(self, kind: OptionKind) -> tuple[Option, ...]:
        """List the values: stages of leads in their order, others by name. Statuses are those that are documented."""
        if kind not in self.option_kinds:
            raise Unsupported(f"GetSales has no {kind}", f"it has {', '.join(self.option_kinds)}")
        if kind == "statuses":
            return tuple(Option(id=each, name=each) for each in STATUSES)
        return await self._named(kind, fresh=True)

    async def pipeline(self, of: StageOwner, by: Grouping) -> Pipeline:
        """Count leads by stage, status or tag, one call a group. There are no deals, and so no values.

        A lead counts in each of its tags.
        """
        if of == "deals":
            raise cannot("sum deals", "it has none: stages sit on leads, so ask for leads")
        fields = {"stage": "pipeline_stage_uuid", "status": "status", "tag": "tags"}
        if by not in fields:
            raise cannot(f"group leads by {by}", f"it can by {', '.join(fields)}")
        kinds: dict[str, OptionKind] = {"stage": "stages", "status": "statuses", "tag": "tags"}
        options = await self.list_options(kinds[by])
        total = await self._count({})
        groups: list[Group] = []
        for each in options[:MOST_GROUPS]:
            wanted: Any = [each.id] if by == "tag" else each.id
            groups.append(Group(name=each.name, count=await self._count({fields[by]: wanted})))
        if by != "tag" and total and len(groups) > 1 and all(each.count == total for each in groups):
            raise VendorError(
                "GetSales counted all leads in every group, so it does not know the filter",
                "count_form under keys in the settings chooses the other form",
                wrote=False,
            )
        return Pipeline(groups=tuple(groups), total=total, partial=len(options) > MOST_GROUPS)

    async def metrics(self, since: datetime | None, until: datetime | None) -> dict[str, float]:
        """Return the whole workspace's counts of a period; without limits the last 30 days."""
        last = until or now()
        first = since or last - timedelta(days=30)
        body = {"period_from": rfc3339(first), "period_to": rfc3339(last), "metrics": list(COUNTED)}
        total = record_in(await self._api.read("POST", METRICS, body=body)).get("total")
        if not isinstance(total, dict):
            raise VendorError("GetSales' answer has no counts", "try again", detail=repr(total)[:300], wrote=False)
        counts: Mapping[str, Any] = record_in(total)
        return {name: found for name, value in counts.items() if (found := number_in(value)) is not None}

    async def goes_with(self, kind: RecordKind, record: str) -> dict[str, int]:
        """Say nothing of what goes along: GetSales does not document what a contact's deletion takes with it."""
        self._refuse_kind(kind)
        await (self._lead_row(record) if kind == "lead" else self.get_note(record))
        return {}

    async def delete(self, kind: RecordKind, record: str) -> None:
        """Delete a lead or note. A job deletes leads (sister product): they may be seen for a while."""
        self._refuse_kind(kind)
        path, missing = (LEAD, no_lead(record)) if kind == "lead" else (NOTE, f'there is no note "{record[:80]}"')
        await self._api.write("DELETE", at(path, record), missing=missing)

    def _refuse_kind(self, kind: RecordKind) -> None:
        if kind not in self.deletes:
            raise cannot(f"delete a {kind}", f"it can delete: {', '.join(sorted(self.deletes))}")

    async def _count(self, wanted: Mapping[str, Any]) -> int:
        both: dict[str, Any] = {"all": True, "filter": dict(wanted)}
        body: dict[str, Any] = (
            both if self._keys.count_form == "all" else {"filter": {"all": True, "leadFilter": dict(wanted)}}
        )
        answer = record_in(await self._api.read("POST", COUNT, body=body))
        for name in ("count", "total"):
            if (found := number_in(answer.get(name))) is not None:
                return int(found)
        raise VendorError("GetSales' answer has no count", "try again", detail=repr(answer)[:300], wrote=False)
