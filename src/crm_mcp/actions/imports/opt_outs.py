"""Whom an import says must not be contacted: put on our list before their rows are written, and the leads after it.

A row says so in a column that is for it, or by a value of another one, as a status "Do Not Contact". What it says holds
for every address in it, and also where the row itself can't be imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from crm_mcp.actions.guards.addresses import addresses_in
from crm_mcp.actions.imports.columns import Columns, OptOutColumn
from crm_mcp.address import profile_key
from crm_mcp.backends.opt_out_fields import opt_out_field, refusal_in
from crm_mcp.channels import CHANNELS, EVERY, Blocked, Channel, in_order, with_addresses_of
from crm_mcp.errors import Undecided
from crm_mcp.model import ImportOutcome, ImportRow, LeadDraft
from crm_mcp.store import Store

_ADDRESS = re.compile(r"[@\d]")
REASON = "an import says that they must not be contacted"
Places = tuple[tuple[Blocked, str], ...]
"""Where somebody is reached: the address on each channel that is blocked, or on every one, as it is compared."""
MOST_VALUES = 10
"""Values of one column that are named where they can't be read."""

_PLAIN = ("status", "tags", "list", "owner")
"""The fields of an object of which a value may refuse by itself, besides its custom ones."""


async def block_addresses(store: Store, refused: Iterable[Places], by: str) -> None:
    """Block where the people of rows are reached that say so: before anything is written, so that no moment lies
    between."""
    found: list[dict[Blocked, str]] = [{channel: address} for places in refused for channel, address in places]
    if found:
        await store.contacts.block_many(found, [REASON] * len(found), by)


async def block_leads(
    store: Store, connection: str, rows: Sequence[ImportRow], outcomes: Sequence[ImportOutcome], by: str
) -> None:
    """Block the leads that these rows made, changed or met, whatever address they have or are given later."""
    found: list[dict[Blocked, str]] = [
        dict.fromkeys(_on(row.blocked), f"lead:{connection}:{outcome.id}")
        for row, outcome in zip(rows, outcomes, strict=True)
        if row.blocked and outcome.id
    ]
    if found:
        await store.contacts.block_many(found, [REASON] * len(found), by)


def refused_by_cells(cells: Sequence[str], columns: Columns) -> tuple[tuple[Channel, ...], OptOutColumn | None]:
    """Return the channels on which a row of a table says that they must not be contacted, and the first column that is
    for it and says neither yes nor no, where that is not settled.

    Of a row that has more or fewer cells than there are columns, any cell that says yes may be meant.
    """
    shifted = len(cells) < len(columns.header) or any(cells[len(columns.header) :])
    found: set[Channel] = set()
    odd: OptOutColumn | None = None
    for each in columns.opt_outs:
        said = [each.field.refuses(cell) for cell in (cells if shifted else cells[each.index : each.index + 1])]
        if any(said):
            found.update(each.field.channels)
        elif None in said and not each.settled:
            odd = odd or each
    for index in columns.telling:
        if index < len(cells) and (cell := cells[index]):
            found.update(refusal_in(cell.strip(), columns.header[index]))
    for index in columns.reaching:  # what stands there instead of an address
        if index < len(cells) and (cell := cells[index]) and not _ADDRESS.search(cell):
            found.update(refusal_in(cell.strip(), columns.header[index]))
    return in_order(found), odd


def refused_by_object(item: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Channel, ...]]:
    """Return an object of an import without the fields of its own that say who must not be contacted, as
    `do_not_contact`, and the channels on which it says so, in those or in others.

    Raises:
        Undecided: a field that is for it says neither yes nor no.
    """
    given = item.get("custom_fields")
    custom = dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else {}
    said: dict[str, Any] = {
        name: value for name, value in item.items() if name not in LeadDraft.model_fields and opt_out_field(name)
    }
    found: set[Channel] = set()
    odd: dict[str, list[str]] = {}
    for name, value in (custom | said).items():
        if (field := opt_out_field(name)) is None:
            found.update(_refused_in(value, name))
        elif isinstance(value, list | tuple):  # as a lead is shown with them
            named = cast("Sequence[Any]", value)
            if set(named) <= set(CHANNELS):
                found.update(cast("Sequence[Channel]", named) if not field.consent else ())
            else:
                odd[name] = [str(each) for each in named]
        elif (refuses := field.refuses(value)) is None:
            odd[name] = [str(value)]
        else:
            found.update(field.channels if refuses else ())
    if odd:
        raise undecided(odd)
    for name in _PLAIN:
        found.update(_refused_in(item.get(name), name))
    return {name: value for name, value in item.items() if name not in said}, in_order(found)


def _refused_in(value: Any, name: str) -> Iterator[Channel]:
    for text in cast("Sequence[Any]", value) if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str):
            yield from refusal_in(text.strip(), name)


def count_refusing(rows: Iterable[Sequence[str]], column: OptOutColumn) -> int:
    """Return how many rows of a table say in this column that they must not be contacted."""
    return sum(bool(column.field.refuses(cells[column.index])) for cells in rows if column.index < len(cells))


def places_in(given: Any, channels: Sequence[Channel], country: str | None) -> Places:
    """Return every address in what is given, a text, a list or an object, on these channels."""
    found: dict[tuple[Blocked, str], None] = {}
    for each in addresses_in(given, country) if channels else ():
        if each.channel == "linkedin" and profile_key(each.address) is None:
            continue
        for channel in _on([one for one in with_addresses_of(each.channel) if one in channels], of=channels):
            found[channel, each.address] = None
    return tuple(found)


def _on(channels: Sequence[Channel], of: Sequence[Channel] | None = None) -> Sequence[Blocked]:
    """Return what is blocked: these channels, or every one where they are, or are a part `of`, all that there are."""
    return (EVERY,) if set(CHANNELS) <= set(channels if of is None else of) else channels


def of_refused(channels: Sequence[Channel], places: Places) -> str:
    """Say of a row that is not imported what becomes of its refusal; empty where it says none."""
    if not channels:
        return ""
    kept = ", ".join(dict.fromkeys(address for _, address in places))
    if kept:
        return f"that they must not be contacted ({', '.join(channels)}) is kept for {kept}"
    return f"that they must not be contacted ({', '.join(channels)}) is NOT kept: no address can be read"


def undecided(odd: Mapping[str, Sequence[str]]) -> Undecided:
    """Return the error for values, by the name of their column or field, that say neither yes nor no."""
    said = "; ".join(
        f'"{name[:80]}" has '
        + ", ".join(f'"{value[:40]}"' for value in values[:MOST_VALUES])
        + (" and others" if len(values) > MOST_VALUES else "")
        for name, values in odd.items()
    )
    name = next(iter(odd))[:40]
    return Undecided(
        f"it can't be read who must not be contacted: {said}",
        f'leave the column out with --skip "{name}" (in a call: map {{"{name}": ""}}), keep it as a field that blocks '
        f'only where it says yes with --map "{name}=custom_fields.{name}", or correct the values; nothing was imported',
        wrote=False,
    )
