"""The toolset `bulk`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

from anyio import to_thread
from pydantic import Field

from crm_mcp.actions import reconcile
from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.guards.addresses import moves_clock
from crm_mcp.actions.imports import lead_import
from crm_mcp.actions.imports.lead_import import MOST_NAMED, MOST_ROWS, Given, Report, read_given
from crm_mcp.actions.imports.rows import fingerprint
from crm_mcp.actions.intent import Bulk, Client, ItemResult, Outcome, Preview
from crm_mcp.actions.summary import escape_markup, quote_label, text_fingerprint
from crm_mcp.backends.base import FindsLeads, ImportsLeads
from crm_mcp.errors import Busy, CrmError
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, LeadDraft
from crm_mcp.server.tool import Arguments, tool
from crm_mcp.server.tools.leads import update_lead
from crm_mcp.store import Action, Item, Quota

MOST_TEXT = 1_000_000
LONGEST = 50.0
"""Seconds that a call waits for a vendor's limit: longer, and clients give up. What is left is told, row by row."""
A_MINUTE = 75.0
"""Seconds that a job waits for a vendor's limit, with some to spare: nobody waits for its answer."""
PLANNED_WITHIN = 20.0
"""Seconds that a question waits for a vendor's limit while it looks up who would be changed."""
FREE_AN_HOUR = 100
"""How many imports of a caller within an hour are confirmed: all that do not go beyond it go without asking."""
HOUR = timedelta(hours=1)
MOST_INLINE = 100
"""Rows of a call that are imported at once; more are a job."""

Csv = Annotated[str | None, Field(description="CSV text with a header line, never a path", max_length=MOST_TEXT)]
Items = Annotated[
    list[dict[str, Any]] | None,
    Field(
        description="objects with name, first_name, last_name, email, phone, company, title, status, owner, tags, "
        "list, custom_fields",
        max_length=MOST_ROWS,
    ),
]
Map = Annotated[
    dict[str, str] | None,
    Field(
        description='of csv: column to field, as {"Mobil": "phone", "Budget": "custom_fields.Budget", "Foo": ""}; '
        "do_not_contact, do_not_email, do_not_call, do_not_sms block",
        max_length=500,
    ),
]


class ImportLeads(Arguments):
    leads: Items = None
    csv: Csv = None
    map: Map = None
    if_exists: Annotated[IfExists, Field(description="a lead that is this person, by e-mail or number")] = "skip"
    dry_run: bool = False

    def read(self, country: str | None) -> Given:
        """Return the rows that are given; takes long for many."""
        return read_given(self.leads, self.csv, self.map, country)

    def text(self) -> str:
        """Return what is given as one text: no two imports have the same."""
        text = json.dumps(self.leads, ensure_ascii=False, sort_keys=True) if self.csv is None else self.csv
        return f"{json.dumps(self.map, ensure_ascii=False)}\n{text}" if self.map else text


async def ask_import_leads(context: Context, call: ImportLeads, client: Client) -> Preview:
    """Count what would be imported, and name whom it would change; many within an hour are confirmed."""
    given, if_exists = await to_thread.run_sync(call.read, context.settings.country), call.if_exists
    # What a column is called in the text says less than what was made of it.
    fields = {name for row in given.rows for name in (*row.draft.shown(), *(row.draft.custom_fields or ()))}
    count = len(given.good)
    since = context.clock() - HOUR
    recent = await context.store.limits.written_since(client.caller, import_leads.name, since)
    many = recent + count >= FREE_AN_HOUR
    # Whoever sets the time zone of a lead that exists decides when a text or a call may reach it.
    zoned = if_exists == "update" and any(moves_clock(row.draft.custom_fields) for row in given.rows)
    # Counted once more when it begins: two that begin at the same moment must not pass together either.
    together = Quota(
        message=f"limit: another import began just now, and with it those of the last hour reach {FREE_AN_HOUR}; "
        f"make the call again, and the user is asked",
        channels=(),
        most=FREE_AN_HOUR - 1,
        since=since,
        caller=client.caller,
        tool=import_leads.name,
        size=count,
    )
    dry = call.dry_run or context.settings.dry_run
    asked = many or zoned or context.shows(import_leads)
    report = await _planned(context, given, if_exists, dry=dry) if dry or asked else None
    changed = lead_import.overwritten(given, report) if report else []
    return Preview(
        summary=f"{_summary(given, if_exists, report, changed)}; given: {text_fingerprint(call.text())}",
        details=_details(given, report, changed, recent, zoned=zoned),
        facts={
            "rows": count,
            "keys": fingerprint([("key", row.key or "") for row in given.rows]),
            "left out": [[*each] for each in given.bad],
            **({"changed": changed} if changed else {}),
        },
        size=count,
        confirm=many or zoned or bool(given.dropped),
        rule="imports_per_hour" if many else "time_zone" if zoned else "opt_outs_left_out" if given.dropped else "",
        quotas=() if many else (together,),
        writes=await to_thread.run_sync(lead_import.addresses, context, given.rows),
        written={"leads": call.leads, "csv": call.csv, "map": call.map, "fields": sorted(fields)},
        bulk=count > await _most_inline(context),
        also=(update_lead.name,) if if_exists == "update" else (),
        would=report.fields(given.columns) if report else {},
    )


async def _planned(context: Context, given: Given, if_exists: IfExists, *, dry: bool) -> Report | None:
    """Return what would become of the rows; None where the CRM leaves no room for looking, and nobody asked for it."""
    from crm_mcp.backends.rate_limit import bulk_work  # start-up counts

    if not dry and (if_exists != "update" or len(given.good) > context.crm(ImportsLeads).plan_size):
        return None
    try:
        with bulk_work(PLANNED_WITHIN):
            return await lead_import.plan(context, given, if_exists)
    except Busy:
        if dry:
            raise
        return None


def _summary(given: Given, if_exists: IfExists, report: Report | None, changed: Sequence[str]) -> str:
    names = ", ".join(quote_label(lead_import.label(row)) for row in given.rows[:5]) + (
        " ..." if len(given.good) > 5 else ""
    )
    said = f"Import {len(given.good)} leads ({names or 'none'}); those that exist: {if_exists}"
    if changed:
        said += f", {len(changed)} of them: {', '.join(changed[:5])}" + (" ..." if len(changed) > 5 else "")
    elif if_exists == "update" and report is None:
        said += " (who that would be is not looked up before: there are too many for the CRM's limit of calls)"
    return f"{said}; {len(given.bad)} can't be imported"


def _details(given: Given, report: Report | None, changed: Sequence[str], recent: int, *, zoned: bool) -> str:
    lines = [f"not {item}: {escape_markup(reason)}" for item, reason in given.bad[:10]]
    lines += [f"changes {each}" for each in changed[:MOST_NAMED]]
    lines += [f"and {len(changed) - MOST_NAMED} more"] if len(changed) > MOST_NAMED else []
    lines += [f"blocks who must not be contacted: {given.blocked}"] if given.blocked else []
    lines += [f"who must not be contacted: {each}" for each in given.dropped]
    lines += [f"not taken: {', '.join(map(escape_markup, given.not_taken))}"] if given.not_taken else []
    if report and (rest := len(given.good) + len(given.bad) - sum(report.counts.values())):
        lines.append(f"{rest} rows are not looked up before: there are too many for the CRM's limit of calls")
    lines += [f"{recent} were imported within the last hour"] if recent else []
    lines += ["it sets the time zone of leads that exist, and with it when they may be texted or called"] * zoned
    return "\n".join(lines)


async def _most_inline(context: Context) -> int:
    """Return how many rows are imported while the caller waits: a CRM with a limit of calls soon makes it wait long."""
    limited = bool(await context.account.budget())
    return min(MOST_INLINE, 2 * context.crm(ImportsLeads).import_size) if limited else MOST_INLINE


async def bulk_import_leads(context: Context, call: ImportLeads, client: Client) -> Bulk:
    """Import batch after batch, in the CRM's own size."""
    crm = context.crm(ImportsLeads)

    def items(_: Action) -> Sequence[Mapping[str, Any]]:
        given = call.read(context.settings.country)
        return [{"item": item, "row": row.model_dump(mode="json", exclude_unset=True)} for item, row in given.good]

    async def do(_: Action, taken: Sequence[Item]) -> Sequence[ItemResult]:
        batch = [ImportRow.model_validate(each.payload["row"]) for each in taken]
        outcomes = await lead_import.write(context, batch, call.if_exists, A_MINUTE)
        return [_told(each) for each in outcomes]

    async def reconcile(row: Action, item: Item) -> ItemResult | None:
        if crm.repeatable:
            return ItemResult("waiting", {})
        return await _created(context, row, ImportRow.model_validate(item.payload["row"]).draft)

    def sum_up(_: Action, ended: Sequence[Item]) -> Outcome:
        given = call.read(context.settings.country)
        report = Report()
        for item, reason in given.bad:
            report.fail(item, reason)
        for each in ended:
            result = each.result or {}
            if each.status == "done":
                outcome = ImportOutcome.model_validate(result)
                report.add(each.payload["item"], outcome, each.payload["row"].get("remarks", ()))
            else:
                report.fail(each.payload["item"], result.get("reason") or "not imported")
        return report.done(given.columns)

    # Where a row that is imported twice is recognised, small batches cost nothing, and show how far it is.
    at_once = min(crm.import_size, MOST_INLINE) if crm.repeatable else crm.import_size
    return Bulk(items, at_once, do, reconcile, sum_up, progress=client.progress)


@tool(
    Effect.WRITE,
    needs=ImportsLeads,
    creates="lead",
    many=True,
    writes_addresses=True,
    ask=ask_import_leads,
    bulk=bulk_import_leads,
    may_confirm=True,
    decides=True,
    idempotent=True,
)
async def import_leads(context: Context, call: ImportLeads, client: Client) -> Outcome:
    """Create up to 1,000 leads in one call, from objects or from CSV text. From 100 an hour on, the user is asked.

    Columns such as "Do Not Call" or "Unsubscribed" block. Many rows may go on behind the answer (`running`): get their
    action again to see how far they are. For a large file the user runs `crm-mcp import FILE.csv` in a terminal.
    """
    given = await to_thread.run_sync(call.read, context.settings.country)
    good, size = given.good, context.crm(ImportsLeads).import_size
    report = Report()
    for item, reason in given.bad:
        report.fail(item, reason)
    give_up = time.monotonic() + LONGEST
    for start in range(0, len(good), size):
        batch = good[start : start + size]
        try:
            patience = max(1.0, give_up - time.monotonic())
            outcomes = await lead_import.write(context, [row for _, row in batch], call.if_exists, patience)
        except CrmError as error:
            if start == 0:
                raise
            here = "not imported" if error.wrote is False else "not known whether it was imported"
            for item, _ in batch:
                report.fail(item, f"{here}: {error}")
            for item, _ in good[start + len(batch) :]:
                report.fail(item, "not tried")
            break
        for (item, row), outcome in zip(batch, outcomes, strict=True):
            report.add(item, outcome, row.remarks)
        await client.progress(start + len(batch), len(good))
    return report.done(given.columns)


def _told(outcome: ImportOutcome) -> ItemResult:
    if outcome.outcome == "failed":
        return ItemResult("failed", {"reason": outcome.reason or "refused"})
    return ItemResult("done", outcome.shown())


async def _created(context: Context, row: Action, draft: LeadDraft) -> ItemResult | None:
    """Look for a lead that an import has created whose answer is lost."""
    if not context.can(FindsLeads) or not (draft.email or draft.phone):
        return None
    lead = await reconcile.created_lead(context, draft, reconcile.since(row))
    return ItemResult("done", {"outcome": "created", "id": lead.id}) if lead else None


TOOLS = (import_leads,)
