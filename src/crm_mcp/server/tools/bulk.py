"""The toolset `bulk`."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, ValidationError

from crm_mcp.actions.approval import Client, Done, Preview
from crm_mcp.actions.csv_source import read_csv
from crm_mcp.actions.desk import Desk
from crm_mcp.actions.importing import IDENTIFYING, BadRow, fingerprint, map_columns, rows
from crm_mcp.actions.policy import Effect
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.errors import CrmError, InvalidArgument
from crm_mcp.model import IfExists, ImportRow, LeadDraft, Rejected, email_address, now, phone_number
from crm_mcp.server.refusal import refused
from crm_mcp.server.tool import tool

MOST_ROWS = 1000
MOST_TEXT = 1_000_000
LONGEST = 50.0
"""Seconds that a call waits for a vendor's limit: longer, and clients give up. What is left is told, row by row."""
FREE_AN_HOUR = 100
"""Imports of a caller within an hour that go without asking."""

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
    good, bad = _read(desk, leads, csv)
    names = ", ".join(_label(row) for _, row in good[:5]) + (" ..." if len(good) > 5 else "")
    recent = await desk.store.imported_since(client.caller, now() - timedelta(hours=1))
    refused = "\n".join(f"not {each.item}: {each.reason}" for each in bad[:10])
    return Preview(
        summary=f"Import {len(good)} leads ({names or 'none'}); those that exist: {if_exists}; "
        f"{len(bad)} can't be imported",
        details=refused + (f"\n{recent} were imported within the last hour" if recent else ""),
        facts={"rows": len(good), "keys": fingerprint([("key", row.key or "") for _, row in good])},
        size=len(good),
        confirm=recent + len(good) >= FREE_AN_HOUR,
        also=("update_lead",) if if_exists == "update" else (),
    )


@tool(Effect.WRITE, needs=ImportsLeads, ask=ask_import_leads, may_confirm=True, decides=True, idempotent=True)
async def import_leads(
    desk: Desk,
    client: Client,
    leads: Items = None,
    csv: Csv = None,
    if_exists: Annotated[IfExists, Field(description="a lead with this e-mail or phone")] = "skip",
    dry_run: bool = False,
) -> Done:
    """Create up to 1,000 leads in one call, from objects or from CSV text. From 100 an hour on, the user is asked.

    For a large file the user runs `crm-mcp import FILE.csv` in a terminal.
    """
    good, failed = _read(desk, leads, csv)
    crm = desk.crm(ImportsLeads)
    counts = {"created": 0, "updated": 0, "skipped": 0}
    first: str | None = None
    from crm_mcp.backends.pace import bulk_work  # start-up counts

    give_up = time.monotonic() + LONGEST
    for start in range(0, len(good), crm.import_size):
        batch = good[start : start + crm.import_size]
        try:
            with bulk_work(max(1.0, give_up - time.monotonic())):
                outcomes = await crm.import_leads([row for _, row in batch], if_exists)
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
                continue
            counts[outcome.outcome] += 1
            if outcome.outcome != "skipped":
                first = first or outcome.id
        await client.progress(start + len(batch), len(good))
    written = counts["created"] + counts["updated"]
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    return Done(
        f"imported leads: {said}, {len(failed)} failed",
        {**counts, "failed": [each.shown() for each in failed]},
        touched=(("lead", first),) if first else (),
        size=written,
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
