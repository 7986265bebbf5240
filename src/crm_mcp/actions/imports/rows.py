"""From the rows of a CSV to leads: which can't be imported and why, and who of them must not be contacted.

Every row has a key, the fingerprint of what was taken from it: a second import of the same or an edited file recognises
the rows that it did before, which is how an interrupted import goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter, ValidationError

from crm_mcp.actions.imports.columns import ADDRESSES, CUSTOM, FIELDS, IDENTIFYING, Columns, plain_faults, too_long
from crm_mcp.actions.imports.csv_reader import CsvRecord, CsvTable
from crm_mcp.actions.imports.opt_outs import MOST_VALUES, Places, of_refused, places_in, refused_by_cells, undecided
from crm_mcp.address import email_address, phone_and_doubt
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import ImportRow, LeadDraft, Text

LONGEST_ADDRESS = 254
LONGEST_NUMBER = 100

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
    refused: Places = ()
    """Where its person is reached, where it says that they must not be contacted."""


def rows(table: CsvTable, columns: Columns, country: str | None) -> Iterator[GoodRow | BadRow]:
    """Read a table's rows, each of them good or bad; rows without any text are left out."""
    for record in table:
        if any(cell and not cell.isspace() for cell in record.cells):
            yield _row(record, columns, country)


def refuse_undecided(table: Iterable[CsvRecord], columns: Columns) -> None:
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


def fingerprint(values: Iterable[tuple[str, str]]) -> str:
    """Return the key of a row: of its fields and their text, in the order given; no two contents share one."""
    digest = blake2b(digest_size=16)
    digest.update("".join([f"{field}={len(text)}:{text}" for field, text in values]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _row(record: CsvRecord, columns: Columns, country: str | None) -> GoodRow | BadRow:
    cells = record.cells
    width = len(columns.header)
    reason = record.fault or (_wrong_width(cells, width) if len(cells) != width else None)
    blocked, odd = refused_by_cells(cells, columns)
    if reason is not None:  # which cell stands for what is not sure
        return _bad(record, reason, blocked, cells, country)
    values = [(target.field, text) for target in columns.targets if (text := cells[target.index].strip())]
    draft, remarks = _draft(values, country)
    addresses = {}
    if blocked:
        read = [each for each in columns.targets if each.field in ADDRESSES or each.field.startswith(CUSTOM)]
        addresses = {f"{each.field} {each.index}": cells[each.index] for each in (*read, *columns.spare)}
    if odd or isinstance(draft, str):
        said = [draft] if isinstance(draft, str) else []
        said += [f'{columns.name(odd.index)}: "{cells[odd.index][:40]}" says neither yes nor no'] if odd else []
        return _bad(record, "; ".join(said), blocked, addresses, country)
    refused = places_in(addresses, blocked, country)
    key = fingerprint(values)
    row = ImportRow.model_construct(draft=draft, key=key, blocked=blocked, refused=refused, remarks=remarks)
    return GoodRow(record.line, cells, record.size, row)


def _bad(record: CsvRecord, reason: str, blocked: Sequence[Channel], addresses: Any, country: str | None) -> BadRow:
    refused = places_in(addresses, blocked, country)
    reason = "; ".join(filter(None, (reason, of_refused(blocked, refused))))
    return BadRow(record.line, record.cells, record.size, reason, refused)


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
