"""From a CSV to leads: which column is which field, and which rows can't be imported and why.

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

from crm_mcp.actions.csv_source import CsvTable, Record
from crm_mcp.address import email_address, phone_number
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import ImportRow, LeadDraft, Line, Text, fold

CUSTOM = "custom_fields."
IDENTIFYING = frozenset({"name", "first_name", "last_name", "email", "phone", "company"})
"""A row, and a file, needs one of these."""
LONGEST_ADDRESS = 254
LONGEST_NUMBER = 100

_WORDS: dict[str, str] = {
    "name": "name, full name, contact name, lead name, display name, contact, contact person, person, lead,"
    " customer name, vollständiger name, ansprechpartner, nom complet, nombre completo",
    "first_name": "first name, given name, forename, first, fname, vorname, prénom, nombre",
    "last_name": "last name, surname, family name, last, lname, nachname, familienname, apellido, apellidos, cognome",
    "email": "email, email address, primary email, work email, business email, mail, email 1, email 1 value,"
    " contact email, mail address, e mail adresse, correo, correo electrónico, courriel, personal email, email 2",
    "phone": "phone, phone number, mobile, mobile phone, mobile number, cell, cell phone, telephone,"
    " telephone number, tel, primary phone, work phone, direct phone, phone 1, phone 1 value, telefon, telefonnummer,"
    " handy, mobil, teléfono, téléphone, telefono, home phone, phone 2",
    "company": "company, company name, organization, organisation, organization name, organisation name, account,"
    " account name, firm, employer, business, business name, firma, unternehmen, empresa, société, entreprise, azienda",
    "title": "title, job title, position, role, job, function, designation, berufsbezeichnung, funktion, cargo",
    "status": "status, lead status, contact status",
    "owner": "owner, lead owner, contact owner, account owner, assigned to, assignee, owner email, sales rep, rep",
    "tags": "tags, tag, labels, label, keywords, categories",
    "list": "list, list name, lists, group",
}
FIELDS = tuple(_WORDS)
_MARKS_IN_HEADERS = re.compile(r"[\W_]+")
_TAG_BREAK = re.compile(r"[;,|]")
_NUMBER_LIKE = re.compile(r"\+?[\d\s()./\-]{7,40}")


@dataclass(frozen=True, slots=True)
class Target:
    """A column that is imported, and the field that it goes to."""

    index: int
    field: str


@dataclass(frozen=True, slots=True)
class Mapping:
    """What becomes of the columns of a file. `targets` are in the order of their fields, `ignored` in the file's."""

    header: tuple[str, ...]
    targets: tuple[Target, ...]
    ignored: tuple[int, ...]

    def column(self, index: int) -> str:
        """Return what a person calls a column: its name, else its number."""
        return self.header[index] or f"column {index + 1}"


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


def map_columns(header: Sequence[str], wanted: Iterable[str] = ()) -> Mapping:
    """Decide which column is which field: what `wanted` says, as `Mail=email`, and for the rest by the header's words.

    A column is named by its header or its number, from 1. `Mail=` leaves a column out. Columns that nothing is known
    of are ignored.

    Raises:
        InvalidArgument: a column or field of `wanted` does not exist, a field is named twice, there is no header, or no
            column says who a lead is.
    """
    names = tuple(header)
    fixed = _wanted(names, wanted)
    taken = {field for field in fixed.values() if field}
    guessed = _guessed(names, set(fixed), taken)
    _check_header(names, bool(guessed))
    fields = {index: field for index, field in (fixed | guessed).items() if field}
    if not IDENTIFYING.intersection(fields.values()):
        example = next((name[:40] for name in names if name), "1")
        shown = ", ".join(f'"{name[:40]}"' for name in names[:25]) + (" ..." if len(names) > 25 else "")
        raise InvalidArgument(
            f"no column says who the leads are; the file has {shown}",
            f'name one of {", ".join(sorted(IDENTIFYING))}, as --map "{example}=name"',
        )
    targets = sorted((Target(index, field) for index, field in fields.items()), key=lambda each: each.field)
    return Mapping(names, tuple(targets), tuple(index for index in range(len(names)) if index not in fields))


def rows(table: CsvTable, mapping: Mapping, country: str | None) -> Iterator[GoodRow | BadRow]:
    """Read a table's rows, each of them good or bad; rows without any text are left out."""
    for record in table:
        if any(cell and not cell.isspace() for cell in record.cells):
            yield _row(record, mapping, country)


def fingerprint(values: Iterable[tuple[str, str]]) -> str:
    """Return the key of a row: of its fields and their text, in the order given; no two contents share one."""
    digest = blake2b(digest_size=16)
    digest.update("".join([f"{field}={len(text)}:{text}" for field, text in values]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _row(record: Record, mapping: Mapping, country: str | None) -> GoodRow | BadRow:
    cells = record.cells
    reason = record.fault
    if reason is None and len(cells) != len(mapping.header):
        reason = _wrong_width(cells, len(mapping.header))
    if reason is not None:
        return BadRow(record.line, cells, record.size, reason)
    values = [(target.field, text) for target in mapping.targets if (text := cells[target.index].strip())]
    draft = _draft(values, country)
    if isinstance(draft, str):
        return BadRow(record.line, cells, record.size, draft)
    return GoodRow(record.line, cells, record.size, ImportRow.model_construct(draft=draft, key=fingerprint(values)))


def _wrong_width(cells: Sequence[str], width: int) -> str | None:
    if len(cells) < width:
        return f"{len(cells)} of {width} columns: cut off?"
    if any(cells[width:]):
        return f"{len(cells)} cells for {width} columns: a cell with the delimiter in it must be quoted"
    return None  # delimiters at the end, with nothing after them: nothing is lost


def _draft(values: Sequence[tuple[str, str]], country: str | None) -> LeadDraft | str:
    """Return the lead that a row describes, or why there is none."""
    given: dict[str, Any] = {}
    custom: dict[str, str] = {}
    faults: list[str] = []
    for field, text in values:
        try:
            if field.startswith(CUSTOM):
                custom[field.removeprefix(CUSTOM)] = _text().validate_python(text)
            else:
                given[field] = _value(field, text, country)
        except InvalidArgument as error:
            faults.append(f"{field}: {error.what}")
        except ValidationError as error:
            faults.extend(_plain(error, field))
    if custom:
        given["custom_fields"] = custom
    try:
        draft = LeadDraft.model_validate(given)
    except ValidationError as error:
        faults.extend(_plain(error))
        return "; ".join(faults)
    if not faults and IDENTIFYING.isdisjoint(given):
        faults.append(f"has none of {', '.join(name for name in FIELDS if name in IDENTIFYING)}")
    return "; ".join(faults) or draft


def _value(field: str, text: str, country: str | None) -> str | tuple[str, ...]:
    if field == "email":
        return _address(text)
    if field == "phone":
        return _number(text, country)
    if field == "tags":
        return tuple(dict.fromkeys(tag for part in _TAG_BREAK.split(text) if (tag := part.strip())))
    return text


def _address(text: str) -> str:
    if len(text) > LONGEST_ADDRESS:  # normalising a very long one is slow
        raise InvalidArgument(_too_long(text, LONGEST_ADDRESS))
    return email_address(text)


def _number(text: str, country: str | None) -> str:
    if len(text) > LONGEST_NUMBER:
        raise InvalidArgument(_too_long(text, LONGEST_NUMBER))
    return phone_number(text, country)


def _too_long(text: str, most: int) -> str:
    return f"{len(text):,} characters, at most {most:,}"


@cache
def _text() -> TypeAdapter[str]:
    return TypeAdapter(Text)


@cache
def _line() -> TypeAdapter[str]:
    return TypeAdapter(Line)


def _plain(error: ValidationError, field: str | None = None) -> Iterator[str]:
    """Say what a validation found, without its jargon."""
    for each in error.errors(include_url=False):
        where = field or str(each["loc"][0])
        context = each.get("ctx", {})
        if each["type"] == "string_too_long":
            yield f"{where}: {_too_long(each['input'], context['max_length'])}"
        else:
            yield f"{where}: {context.get('error', each['msg'])}"


def _folded(header: str) -> str:
    return _MARKS_IN_HEADERS.sub("", fold(header))


@cache
def _ranks() -> dict[str, tuple[str, int]]:
    """Return for each known header word its field and how good a match it is (0 the best)."""
    return {
        _folded(word): (field, rank) for field, words in _WORDS.items() for rank, word in enumerate(words.split(","))
    }


def _guessed(header: Sequence[str], settled: set[int], taken: set[str]) -> dict[int, str]:
    """Return the columns whose header names a field; each field once, the best word first, then the first column."""
    ranks = _ranks()
    found = sorted(
        (ranks[word][1], index, ranks[word][0])
        for index, name in enumerate(header)
        if index not in settled and (word := _folded(name)) in ranks
    )
    guessed: dict[int, str] = {}
    for _, index, field in found:
        if field not in taken:
            taken.add(field)
            guessed[index] = field
    return guessed


def _check_header(header: Sequence[str], recognised: bool) -> None:
    """Refuse a first line that is a row: the file has no header, and that row would be lost."""
    for cell in header:
        number = not recognised and _NUMBER_LIKE.fullmatch(cell) and sum(map(str.isdigit, cell)) >= 7
        if number or ("@" in cell and _is_address(cell)):
            raise InvalidArgument(
                f'the file has no header line: its first line has "{cell[:80]}"',
                "put a line with the names of the columns first, as name,email,phone",
            )


def _is_address(cell: str) -> bool:
    try:
        _address(cell)
    except InvalidArgument:
        return False
    return True


def _wanted(header: Sequence[str], wanted: Iterable[str]) -> dict[int, str]:
    """Return the field of each column that `wanted` names, an empty one for a column to leave out."""
    fixed: dict[int, str] = {}
    for each in wanted:
        index, field = _split(header, each)
        if field:
            field = _field(field)
            if field in fixed.values():
                raise InvalidArgument(f'two columns are mapped to "{field}"', "map one column to each field")
        if index in fixed:
            raise InvalidArgument(f'column "{header[index]}" is mapped twice', "map each column once")
        fixed[index] = field
    return fixed


def _split(header: Sequence[str], text: str) -> tuple[int, str]:
    """Return column and field of `column=field`; either may have `=` in its name."""
    breaks = [found.start() for found in re.finditer("=", text)]
    if not breaks:
        raise InvalidArgument(f'"{text[:80]}" maps nothing', 'write column=field, as --map "E-Mail=email"')
    for at in breaks:
        if (index := _column(header, text[:at].strip())) is not None:
            return index, text[at + 1 :].strip()
    named = text[: breaks[0]].strip()
    raise InvalidArgument(
        f'the file has no column "{named[:80]}"', choices(named, [name for name in header if name]) + "; or its number"
    )


def _column(header: Sequence[str], named: str) -> int | None:
    word = _folded(named)
    exact = [index for index, name in enumerate(header) if name and name == named]
    alike = [index for index, name in enumerate(header) if word and _folded(name) == word]
    if found := exact or alike:
        if len(found) > 1:
            numbers = ", ".join(str(index + 1) for index in found)
            raise InvalidArgument(f'{len(found)} columns are named "{named[:80]}"', f"give a number: {numbers}")
        return found[0]
    if named.isascii() and named.isdigit() and 1 <= int(named) <= len(header):
        return int(named) - 1
    return None


def _field(named: str) -> str:
    if named.startswith(CUSTOM):
        label = named.removeprefix(CUSTOM).strip()
        try:
            return CUSTOM + _line().validate_python(label)
        except ValidationError as error:
            raise InvalidArgument(f'"{named[:80]}" is no field', "; ".join(_plain(error, "its label"))) from None
    field = fold(named).replace("-", "_").replace(" ", "_")
    if field not in FIELDS:
        raise InvalidArgument(f'"{named[:80]}" is no field', choices(named, [*FIELDS, f"{CUSTOM}LABEL"]))
    return field
