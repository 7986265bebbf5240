"""Whom an import says must not be contacted: put on our list before their rows are written, and the leads after it."""

from __future__ import annotations

from collections.abc import Sequence

from crm_mcp.actions.addresses import address_of
from crm_mcp.address import address_key
from crm_mcp.model import Channel, ImportOutcome, ImportRow
from crm_mcp.store import Store

REASON = "an import says that they must not be contacted"


async def block_addresses(store: Store, rows: Sequence[ImportRow], country: str | None, by: str) -> None:
    """Block the addresses of the rows that say so: before anything is written, so that no moment lies between."""
    if found := [_addresses(row, country) for row in rows if row.blocked]:
        await store.block_many(found, [REASON] * len(found), by)


async def block_leads(
    store: Store, connection: str, rows: Sequence[ImportRow], outcomes: Sequence[ImportOutcome], by: str
) -> None:
    """Block the leads that these rows made, changed or met, whatever address they have or are given later."""
    found: list[dict[Channel, str]] = [
        dict.fromkeys(row.blocked, f"lead:{connection}:{outcome.id}")
        for row, outcome in zip(rows, outcomes, strict=True)
        if row.blocked and outcome.id
    ]
    if found:
        await store.block_many(found, [REASON] * len(found), by)


def _addresses(row: ImportRow, country: str | None) -> dict[Channel, str]:
    """Return where a row's person is reached on the channels that it rules out, as it is compared."""
    profile = (row.draft.custom_fields or {}).get("linkedin")
    known: dict[Channel, str] = {}
    if row.draft.email:
        known["email"] = address_key(row.draft.email)
    if row.draft.phone:
        known |= {"sms": row.draft.phone, "call": row.draft.phone}
    if isinstance(profile, str) and profile:
        known["linkedin"] = address_of("linkedin", profile, country)
    found: dict[Channel, str] = {}
    for channel in row.blocked:
        if channel in known:
            found[channel] = known[channel]
    return found
