"""From the rows of a CSV to leads: which can't be imported and why, and who of them must not be contacted.

Every row has a key, the fingerprint of what was taken from it: a second import of the same or an edited file recognises
the rows that it did before, which is how an interrupted import goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter, ValidationError

from crm_mcp.actions.imports.columns import CUSTOM, FIELDS, IDENTIFYING, Columns, plain_faults, too_long
from crm_mcp.actions.imports.csv_reader import CsvTable, Record
from crm_mcp.address import email_address, phone_and_doubt
from crm_mcp.backends.opt_out_fields import opt_out_field
from crm_mcp.errors import InvalidArgument, Undecided
from crm_mcp.model import CHANNELS, Channel, ImportRow, LeadDraft, Text

LONGEST_ADDRESS = 254
LONGEST_NUMBER = 100
MOST_VALUES = 10
"""Values of one column that are named where they can't be read."""

_TAG_BREAK = re.compile(r"[;,|]")


@dataclass(frozen=True, slots=True)
class GoodRow:
    """A row that can be imported; `line` is the physical line it begins on."""

    line: int
    cells: Sequence[str]
    size: int
    row: ImportRow


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be imported, and why."""

    line: int
    cells: Sequence[str]
    size: int
    reason: str


def rows(table: CsvTable, columns: Columns, country: str | None) -> Iterator[GoodRow | BadRow]:
    """Read a table's rows, each of them good or bad; rows without any text are left out."""
    for record in table:
        if any(cell and not cell.isspace() for cell in record.cells):
            yield _row(record, columns, country)


def refuse_undecided(table: Iterable[Record], columns: Columns) -> None:
    """Look through a table for values that say neither yes nor no to being contacted.

    Raises:
        Undecided: there are such; columns and values are named.
    """
    asked = [each for each in columns.opt_outs if not each.settled]
    odd: dict[int, dict[str, None]] = {}
    for record in table if asked else ():
        for each in asked:
            cell = record.cells[each.index].strip() if each.index < len(record.cells) else ""
            values = odd.get(each.index, {})
            if cell and cell not in values and len(values) <= MOST_VALUES and each.field.refuses(cell) is None:
                odd.setdefault(each.index, values)[cell] = None
    if odd:
        raise undecided({columns.name(index): [*values] for index, values in odd.items()})


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


def refusals(custom: Mapping[str, Any] | None) -> tuple[Channel, ...]:
    """Return the channels on which the custom fields of a lead say that they must not be contacted.

    Raises:
        Undecided: one of them says neither yes nor no.
    """
    fields = [(name, value, known) for name, value in (custom or {}).items() if (known := opt_out_field(name))]
    if odd := {name: [str(value)] for name, value, known in fields if known.refuses(value) is None}:
        raise undecided(odd)
    found = {channel for _, value, known in fields if known.refuses(value) for channel in known.channels}
    return tuple(each for each in CHANNELS if each in found)


def fingerprint(values: Iterable[tuple[str, str]]) -> str:
    """Return the key of a row: of its fields and their text, in the order given; no two contents share one."""
    digest = blake2b(digest_size=16)
    digest.update("".join([f"{field}={len(text)}:{text}" for field, text in values]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _row(record: Record, columns: Columns, country: str | None) -> GoodRow | BadRow:
    cells = record.cells
    reason = record.fault
    if reason is None and len(cells) != len(columns.header):
        reason = _wrong_width(cells, len(columns.header))
    if reason is not None:
        return BadRow(record.line, cells, record.size, reason)
    values = [(target.field, text) for target in columns.targets if (text := cells[target.index].strip())]
    draft, remarks = _draft(values, country)
    blocked = _blocked(cells, columns) if columns.opt_outs else ()
    if isinstance(blocked, str) or isinstance(draft, str):
        said = [each for each in (draft, blocked) if isinstance(each, str)]
        return BadRow(record.line, cells, record.size, "; ".join(said))
    row = ImportRow.model_construct(draft=draft, key=fingerprint(values), blocked=blocked, remarks=remarks)
    return GoodRow(record.line, cells, record.size, row)


def _blocked(cells: Sequence[str], columns: Columns) -> tuple[Channel, ...] | str:
    """Return the channels on which a row says that they must not be contacted, or what of it can't be read."""
    found: set[Channel] = set()
    for each in columns.opt_outs:
        refuses = each.field.refuses(cells[each.index])
        if refuses:
            found.update(each.field.channels)
        elif refuses is None and not each.settled:
            return f'{columns.name(each.index)}: "{cells[each.index][:40]}" says neither yes nor no'
    channels: tuple[Channel, ...] = tuple(each for each in CHANNELS if each in found)
    return channels


def _wrong_width(cells: Sequence[str], width: int) -> str | None:
    if len(cells) < width:
        return f"{len(cells)} of {width} columns: cut off?"
    if any(cells[width:]):
        return f"{len(cells)} cells for {width} columns: a cell with the delimiter in it must be quoted"
    return None  # delimiters at the end, with nothing after them: nothing is lost


def _draft(values: Sequence[tuple[str, str]], country: str | None) -> tuple[LeadDraft | str, tuple[str, ...]]:
    """Return the lead that a row describes, or why there is none, and what of it could not be taken."""
    given: dict[str, Any] = {}
    custom: dict[str, str] = {}
    faults: list[str] = []
    remarks: list[str] = []
    for field, text in values:
        try:
            if field == "phone":
                number, said = phone_of(text, country)
                given |= {"phone": number} if number else {}
                remarks += said
            elif field.startswith(CUSTOM):
                custom[field.removeprefix(CUSTOM)] = _text().validate_python(text)
            else:
                given[field] = _value(field, text)
        except InvalidArgument as error:
            faults.append(f"{field}: {error.what}")
        except ValidationError as error:
            faults.extend(plain_faults(error, field))
    if custom:
        given["custom_fields"] = custom
    try:
        draft = LeadDraft.model_validate(given)
    except ValidationError as error:
        faults.extend(plain_faults(error))
        return "; ".join(faults), ()
    if not faults and IDENTIFYING.isdisjoint(given):
        lacks = f"has none of {', '.join(name for name in FIELDS if name in IDENTIFYING)}"
        faults = [*remarks, lacks] if remarks else [lacks]
    return "; ".join(faults) or draft, tuple(remarks)


def phone_of(text: str, country: str | None) -> tuple[str | None, list[str]]:
    """Return a number of an import in its normal form, None where it is refused, and what is to be told about it."""
    if len(text) > LONGEST_NUMBER:
        return None, [f"phone left out: {too_long(text, LONGEST_NUMBER)}"]
    try:
        number, doubtful = phone_and_doubt(text, country)
    except InvalidArgument as error:
        return None, [f"phone left out: {error.what}"]
    remark = f"phone {number} is doubtful: no such number is known in its country"
    return number, [remark] if doubtful else []


def _value(field: str, text: str) -> str | tuple[str, ...]:
    if field == "email":
        if len(text) > LONGEST_ADDRESS:  # normalising a very long one is slow
            raise InvalidArgument(too_long(text, LONGEST_ADDRESS))
        return email_address(text)
    if field == "tags":
        return tuple(dict.fromkeys(tag for part in _TAG_BREAK.split(text) if (tag := part.strip())))
    return text


@cache
def _text() -> TypeAdapter[str]:
    return TypeAdapter(Text)
