"""The toolset `bulk`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

from anyio import to_thread
from pydantic import Field, ValidationError

from crm_mcp.actions import history
from crm_mcp.actions.addresses import addresses_in, moves_clock
from crm_mcp.actions.approval import Client, Done, Preview
from crm_mcp.actions.contact import keep_at, refuse_consent_fields
from crm_mcp.actions.csv_source import read_csv
from crm_mcp.actions.desk import Desk
from crm_mcp.actions.importing import IDENTIFYING, BadRow, fingerprint, map_columns, rows
from crm_mcp.actions.jobs import Bulk, Told
from crm_mcp.actions.policy import Effect
from crm_mcp.address import email_address, phone_number
from crm_mcp.backends.base import FindsLeads, ImportsLeads
from crm_mcp.errors import CrmError, InvalidArgument
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, LeadDraft, Rejected
from crm_mcp.server.refusal import refused
from crm_mcp.server.tool import tool
from crm_mcp.store import Action, Address, Bound, Item

MOST_ROWS = 1000
MOST_TEXT = 1_000_000
LONGEST = 50.0
"""Seconds that a call waits for a vendor's limit: longer, and clients give up. What is left is told, row by row."""
A_MINUTE = 75.0
"""Seconds that a job waits for a vendor's limit, with some to spare: nobody waits for its answer."""
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


async def ask_import_leads(
    desk: Desk, client: Client, leads: list[dict[str, Any]] | None, csv: str | None, if_exists: IfExists, dry_run: bool
) -> Preview:
    """Count what would be imported; many within an hour are confirmed."""
    await refuse_consent_fields(desk, {"leads": leads, "csv": csv})
    good, bad = await to_thread.run_sync(_read, desk, leads, csv)
    # What a column is called in the text says less than what was made of it.
    fields = {name for _, row in good for name in (*row.draft.shown(), *(row.draft.custom_fields or ()))}
    await refuse_consent_fields(desk, dict.fromkeys(sorted(fields)))
    names = ", ".join(_label(row) for _, row in good[:5]) + (" ..." if len(good) > 5 else "")
    since = desk.clock() - HOUR
    recent = await desk.store.imported_since(client.caller, since)
    many = recent + len(good) >= FREE_AN_HOUR
    # Whoever sets the time zone of a lead that exists decides when a text or a call may reach it.
    zoned = if_exists == "update" and any(moves_clock(row.draft.custom_fields) for _, row in good)
    # Counted once more when it begins: two that begin at the same moment must not pass together either.
    together = Bound(
        said=f"limit: another import began just now, and with it those of the last hour reach {FREE_AN_HOUR}; make the "
        "call again, and the user is asked",
        channels=(),
        most=FREE_AN_HOUR - 1,
        since=since,
        importer=client.caller,
        size=len(good),
    )
    refused = "\n".join(f"not {each.item}: {each.reason}" for each in bad[:10])
    return Preview(
        summary=f"Import {len(good)} leads ({names or 'none'}); those that exist: {if_exists}; "
        f"{len(bad)} can't be imported",
        details=refused
        + (f"\n{recent} were imported within the last hour" if recent else "")
        + ("\nit sets the time zone of leads that exist, and with it when they may be texted or called" * zoned),
        facts={
            "rows": len(good),
            "keys": fingerprint([("key", row.key or "") for _, row in good]),
            "left out": [[each.item, each.reason] for each in bad],
        },
        size=len(good),
        confirm=many or zoned,
        rule="imports_per_hour" if many else "time_zone" if zoned else "",
        bounds=() if many else (together,),
        writes=await to_thread.run_sync(_addresses, desk, [row for _, row in good]),
        bulk=len(good) > await _most_inline(desk),
        also=("update_lead",) if if_exists == "update" else (),
    )


async def _most_inline(desk: Desk) -> int:
    """Return how many rows are imported while the caller waits: a CRM with a limit of calls soon makes it wait long."""
    limited = bool(await desk.backend.budget())
    return min(MOST_INLINE, 2 * desk.crm(ImportsLeads).import_size) if limited else MOST_INLINE


async def bulk_import_leads(
    desk: Desk, client: Client, leads: list[dict[str, Any]] | None, csv: str | None, if_exists: IfExists, **_: object
) -> Bulk:
    """Import batch after batch, in the CRM's own size."""
    crm = desk.crm(ImportsLeads)

    def items(_: Action) -> Sequence[Mapping[str, Any]]:
        good, _bad = _read(desk, leads, csv)
        return [{"item": item, "row": row.model_dump(mode="json", exclude_unset=True)} for item, row in good]

    async def do(_: Action, taken: Sequence[Item]) -> Sequence[Told]:
        batch = [ImportRow.model_validate(each.payload["row"]) for each in taken]
        outcomes = await _import(desk, batch, if_exists, client.caller, A_MINUTE)
        return [_told(each) for each in outcomes]

    async def look(row: Action, item: Item) -> Told | None:
        if crm.repeatable:
            return Told("waiting", {})
        return await _created(desk, row, ImportRow.model_validate(item.payload["row"]).draft)

    def sum_up(row: Action, ended: Sequence[Item]) -> Done:
        failed = [Rejected(item=item, reason=reason) for item, reason in row.facts.get("left out", ())]
        outcomes: list[ImportOutcome] = []
        for each in ended:
            result = each.result or {}
            if each.status == "done":
                outcomes.append(ImportOutcome(outcome=result["outcome"], id=result.get("id")))
            else:
                failed.append(Rejected(item=each.payload["item"], reason=result.get("reason") or "not imported"))
        return _summed(outcomes, failed)

    # Where a row that is imported twice is recognised, small batches cost nothing, and show how far it is.
    at_once = min(crm.import_size, MOST_INLINE) if crm.repeatable else crm.import_size
    return Bulk(items, at_once, do, look, sum_up, progress=client.progress)


@tool(
    Effect.WRITE,
    needs=ImportsLeads,
    ask=ask_import_leads,
    bulk=bulk_import_leads,
    may_confirm=True,
    decides=True,
    idempotent=True,
)
async def import_leads(
    desk: Desk,
    client: Client,
    leads: Items = None,
    csv: Csv = None,
    if_exists: Annotated[IfExists, Field(description="a lead with this e-mail or phone")] = "skip",
    dry_run: bool = False,
) -> Done:
    """Create up to 1,000 leads in one call, from objects or from CSV text. From 100 an hour on, the user is asked.

    Many rows may go on behind the answer (`running`): get their action again to see how far they are.
    For a large file the user runs `crm-mcp import FILE.csv` in a terminal.
    """
    good, failed = await to_thread.run_sync(_read, desk, leads, csv)
    crm = desk.crm(ImportsLeads)
    done: list[ImportOutcome] = []
    give_up = time.monotonic() + LONGEST
    for start in range(0, len(good), crm.import_size):
        batch = good[start : start + crm.import_size]
        try:
            patience = max(1.0, give_up - time.monotonic())
            outcomes = await _import(desk, [row for _, row in batch], if_exists, client.caller, patience)
        except CrmError as error:
            if start == 0:
                raise
            here = "not imported" if error.wrote is False else "not known whether it was imported"
            failed += [Rejected(item=item, reason=f"{here}: {error}") for item, _ in batch]
            failed += [Rejected(item=item, reason="not tried") for item, _ in good[start + len(batch) :]]
            break
        for (item, _), outcome in zip(batch, outcomes, strict=True):
            if outcome.outcome == "failed":
                failed.append(Rejected(item=item, reason=outcome.reason or "refused"))
            else:
                done.append(outcome)
        await client.progress(start + len(batch), len(good))
    return _summed(done, failed)


async def _import(
    desk: Desk, batch: Sequence[ImportRow], if_exists: IfExists, by: str, patience: float
) -> tuple[ImportOutcome, ...]:
    """Import one batch; where it may change leads that are there, their blocks are kept first."""
    from crm_mcp.backends.pace import bulk_work  # start-up counts

    with bulk_work(patience):
        if if_exists == "update" and isinstance(desk.backend, FindsLeads):
            addresses = await to_thread.run_sync(_addresses, desk, batch)
            try:
                await keep_at(desk, addresses, by)
            except CrmError as error:
                error.wrote = False
                raise
        return await desk.crm(ImportsLeads).import_leads(batch, if_exists)


def _addresses(desk: Desk, rows: Sequence[ImportRow]) -> tuple[Address, ...]:
    """Return the addresses that the rows give to leads: none stands in any other field."""
    given = [each.draft.model_dump(include={"email", "phone", "custom_fields"}) for each in rows]
    return addresses_in(given, desk.settings.country)


def _told(outcome: ImportOutcome) -> Told:
    if outcome.outcome == "failed":
        return Told("failed", {"reason": outcome.reason or "refused"})
    return Told("done", {"outcome": outcome.outcome, "id": outcome.id})


async def _created(desk: Desk, row: Action, draft: LeadDraft) -> Told | None:
    """Look for a lead that an import has created whose answer is lost."""
    crm = desk.backend
    if not isinstance(crm, FindsLeads) or not (draft.email or draft.phone):
        return None
    at = await (crm.leads_at("email", draft.email) if draft.email else crm.leads_at("sms", draft.phone or ""))
    found = [each for each in at if each.created_at and each.created_at >= history.since(row)]
    return Told("done", {"outcome": "created", "id": found[0].id}) if len(at) == len(found) == 1 else None


def _summed(outcomes: Sequence[ImportOutcome], failed: Sequence[Rejected]) -> Done:
    """Say what became of the rows of an import."""
    counts = {"created": 0, "updated": 0, "skipped": 0}
    for each in outcomes:
        counts[each.outcome] += 1
    first = next((each.id for each in outcomes if each.outcome != "skipped" and each.id), None)
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    return Done(
        f"imported leads: {said}, {len(failed)} failed",
        {**counts, "failed": [each.shown() for each in failed]},
        touched=(("lead", first),) if first else (),
        size=counts["created"] + counts["updated"],
    )


def _read(
    desk: Desk, leads: list[dict[str, Any]] | None, csv: str | None
) -> tuple[list[tuple[str, ImportRow]], list[Rejected]]:
    """Return the rows that can be imported, each with what it is called, and those that can't."""
    if (leads is None) == (csv is None):
        raise InvalidArgument("give either leads or csv", "csv is text with a header line")
    good, bad = _read_items(desk, leads or []) if csv is None else _read_csv(desk, csv)
    if not good:
        why = "; ".join(f"{each.item}: {each.reason}" for each in bad[:3])
        raise InvalidArgument("there is nothing to import" + (f": {why}" if why else ""), "give at least one good row")
    return good, bad


def _read_csv(desk: Desk, csv: str) -> tuple[list[tuple[str, ImportRow]], list[Rejected]]:
    good: list[tuple[str, ImportRow]] = []
    bad: list[Rejected] = []
    table = read_csv(csv)
    for each in rows(table, map_columns(table.header), desk.settings.country):
        if isinstance(each, BadRow):
            bad.append(Rejected(item=f"line {each.line}", reason=each.reason))
        else:
            good.append((f"line {each.line}", each.row))
        if len(good) + len(bad) > MOST_ROWS:
            raise InvalidArgument(
                f"csv has more than {MOST_ROWS} rows", "split it, or run `crm-mcp import` in a terminal"
            )
    return good, bad


def _read_items(desk: Desk, leads: list[dict[str, Any]]) -> tuple[list[tuple[str, ImportRow]], list[Rejected]]:
    good: list[tuple[str, ImportRow]] = []
    bad: list[Rejected] = []
    for number, item in enumerate(leads, 1):
        try:
            draft = LeadDraft.model_validate(item)
            if not IDENTIFYING & draft.model_fields_set:
                raise InvalidArgument(f"it needs one of {', '.join(sorted(IDENTIFYING))}")
            normal = draft.model_copy(
                update={
                    "email": email_address(draft.email) if draft.email else None,
                    "phone": phone_number(draft.phone, desk.settings.country) if draft.phone else None,
                }
            )
        except ValidationError as error:
            bad.append(Rejected(item=f"item {number}", reason=str(refused("a lead", error, LeadDraft.model_fields))))
        except CrmError as error:
            bad.append(Rejected(item=f"item {number}", reason=str(error)))
        else:
            key = fingerprint(sorted((name, str(value)) for name, value in normal.shown().items()))
            good.append((f"item {number}", ImportRow(draft=normal, key=key)))
    return good, bad


def _label(row: ImportRow) -> str:
    draft = row.draft
    named = draft.name or " ".join(part for part in (draft.first_name, draft.last_name) if part)
    return named or draft.company or draft.email or draft.phone or "nobody"


TOOLS = (import_leads,)
