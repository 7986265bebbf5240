"""Which column of a file is which field, and which say that somebody must not be contacted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter, ValidationError

from crm_mcp.address import email_address
from crm_mcp.backends.opt_out_fields import OptOutField, opt_out_field, words_of
from crm_mcp.channels import CHANNELS, Channel
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Line, fold

CUSTOM = "custom_fields."
IDENTIFYING = frozenset({"name", "first_name", "last_name", "email", "phone", "company"})
"""A row, and a file, needs one of these."""
_WHO = frozenset({"name", "first_name", "last_name", "company", "title"})
"""The fields of which no value says anything but what it is."""
ADDRESSES = ("email", "phone")

_WORDS: dict[str, str] = {
    "name": "name, full name, contact name, lead name, display name, contact, contact person, person, lead,"
    " customer name, vollständiger name, ansprechpartner, nom complet, nombre completo, nome completo, nom, naam,"
    " nome",
    "first_name": "first name, given name, forename, first, fname, vorname, prénom, nombre, voornaam",
    "last_name": "last name, surname, family name, last, lname, nachname, familienname, apellido, apellidos, cognome,"
    " nom de famille, achternaam, sobrenome",
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
_HALVES = (
    ("name, nom, naam", "last_name", "vorname, prénom, voornaam"),
    ("nome", "first_name", "cognome, sobrenome"),
)
"""Words of a whole name that are half of one, and which, where a column beside them has one of these words: not in
English, in which as many write the whole name beside the first one."""
FIELDS = tuple(_WORDS)
BLOCKS: Mapping[str, tuple[Channel, ...]] = {
    "do_not_contact": CHANNELS,
    "do_not_email": ("email",),
    "do_not_call": ("sms", "call"),
    "do_not_sms": ("sms",),
}
"""What a column can be mapped to that says that somebody must not be contacted, and on which channels."""
_EMAIL = frozenset({"email", "emails", "mail"})
_PHONE = frozenset({"phone", "telephone", "tel", "mobile", "cell", "telefon", "telefono", "handy", "mobil"})
_NOT_THEIRS = frozenset(
    (
        *("owner", "company", "corporate", "account", "rep", "manager", "assistant", "hq", "switchboard", "office"),
        *("assigned", "created", "modified", "by", "status", "type", "opt", "count", "sent", "last", "domain", "valid"),
    )
)
"""Words of a column whose addresses are somebody else's, several people's, or none."""
_MARKS_IN_HEADERS = re.compile(r"[\W_]+")
_NUMBER_LIKE = re.compile(r"\+?[\d\s()./\-]{7,40}")


@dataclass(frozen=True, slots=True)
class Target:
    """A column that is imported, and the field that it goes to."""

    index: int
    field: str


@dataclass(frozen=True, slots=True)
class OptOutColumn:
    """A column that says whether somebody may be contacted."""

    index: int
    field: OptOutField
    settled: bool = False
    """Somebody has said what becomes of it: a value that can't be read blocks nobody and stops nothing."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What becomes of the columns of a file. `targets` are in the order of their fields, the others in the file's."""

    header: tuple[str, ...]
    targets: tuple[Target, ...]
    opt_outs: tuple[OptOutColumn, ...]
    skipped: tuple[int, ...]
    """Left out because somebody said so."""
    ignored: tuple[int, ...]
    """Left out because nothing is known of them."""
    spare: tuple[Target, ...] = ()
    """Further columns of addresses, which another column is taken for."""
    dropped: tuple[OptOutColumn, ...] = ()
    """Of those that are left out, such as say whether somebody may be contacted."""
    telling: tuple[int, ...] = ()
    """Those of which a value may refuse by itself, whatever they are for."""
    reaching: tuple[int, ...] = ()
    """Those that are taken for an address."""

    def name(self, index: int) -> str:
        """Return what a person calls a column: its name, else its number."""
        return self.header[index] or f"column {index + 1}"

    def became(self) -> list[dict[str, str]]:
        """Return for each column, in the file's order, what becomes of it, in words."""
        said = {target.index: target.field for target in self.targets}
        for each in self.opt_outs:
            blocks = f"blocks {', '.join(each.field.channels)} where it says {'no' if each.field.consent else 'yes'}"
            said[each.index] = f"{said[each.index]}; {blocks}" if each.index in said else blocks
        said |= dict.fromkeys(self.skipped, "left out, as asked")
        said |= dict.fromkeys(self.ignored, "not taken: no field is known for it")
        return [{"column": self.name(index), "became": said[index]} for index in range(len(self.header))]


def map_columns(
    header: Sequence[str],
    wanted: Iterable[str] = (),
    skip: Iterable[str] = (),
    fields: Mapping[str, str] | None = None,
) -> Columns:
    """Decide which column is which field: what `wanted` says, as `Mail=email`, and `fields`, as `{"Mail": "email"}`,
    and for the rest the header's words. Columns of `skip`, and such as are mapped to nothing, are left out.

    A column is named by its header or its number, from 1. Columns that nothing is known of are ignored.

    Raises:
        InvalidArgument: a column or field that is named does not exist, a field is named twice, there is no header, or
            no column says who a lead is.
    """
    names = tuple(header)
    named = [_split(names, each) for each in wanted]
    named += [(_existing(names, column), field.strip()) for column, field in (fields or {}).items()]
    named += [(_existing(names, column), "") for column in skip]
    fixed = _fixed(names, named)
    guessed = _guessed(names, set(fixed), {field for field in fixed.values() if field})
    _check_header(names, bool(guessed))
    targets = {index: field for index, field in (fixed | guessed).items() if field and field not in BLOCKS}
    if not IDENTIFYING.intersection(targets.values()):
        example = next((name[:40] for name in names if name), "1")
        shown = ", ".join(f'"{name[:40]}"' for name in names[:25]) + (" ..." if len(names) > 25 else "")
        raise InvalidArgument(
            f"no column says who the leads are; the file has {shown}",
            f'name one of {", ".join(sorted(IDENTIFYING))}, as --map "{example}=name"',
        )
    opt_outs = tuple(_opt_outs(names, fixed, guessed))
    known = {*targets, *(each.index for each in opt_outs)}
    skipped = tuple(index for index in range(len(names)) if index not in known and index in fixed)
    ignored = tuple(index for index in range(len(names)) if index not in known and index not in fixed)
    silent = {*skipped, *(each.index for each in opt_outs)}
    reaching = tuple(sorted(index for index, field in targets.items() if field in ADDRESSES))
    silent |= {*reaching, *(index for index, field in targets.items() if field in _WHO)}
    left_out = ((index, opt_out_field(names[index])) for index in skipped)
    return Columns(
        names,
        tuple(sorted((Target(index, field) for index, field in targets.items()), key=lambda each: each.field)),
        opt_outs,
        skipped,
        ignored,
        tuple(Target(index, field) for index in ignored for field in _spare(names[index])),
        tuple(OptOutColumn(index, field, settled=True) for index, field in left_out if field),
        tuple(index for index in range(len(names)) if index not in silent),
        reaching,
    )


def _opt_outs(header: Sequence[str], fixed: Mapping[int, str], guessed: Mapping[int, str]) -> Iterator[OptOutColumn]:
    """Yield the columns that say whether somebody may be contacted: by what they are mapped to, else by their names."""
    for index, name in enumerate(header):
        field = fixed.get(index)
        by_name = opt_out_field(name)
        if field is None and by_name and index not in guessed:
            yield OptOutColumn(index, by_name)
        elif field and field in BLOCKS:
            yield OptOutColumn(index, OptOutField(BLOCKS[field]))
        elif field and (known := by_name or opt_out_field(field.removeprefix(CUSTOM))):
            # It is kept as a field, and blocks all the same where it says so.
            yield OptOutColumn(index, known, settled=True)


def _spare(name: str) -> Iterator[str]:
    """Yield the kind of address that a column of this name has, where it is the row's own person's."""
    words = set(words_of(name))
    if not words & _NOT_THEIRS:
        yield from (field for field, known in (("email", _EMAIL), ("phone", _PHONE)) if words & known)


@cache
def _line() -> TypeAdapter[str]:
    return TypeAdapter(Line)


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
    return guessed | _halves(header, guessed, taken)


def _halves(header: Sequence[str], guessed: Mapping[int, str], taken: set[str]) -> dict[int, str]:
    """Return the column that is taken for a whole name, where the one beside it shows that it is half of one."""
    there = set(map(_folded, header))
    for words, half, beside in _HALVES:
        for index, field in guessed.items():
            known = field == "name" and _folded(header[index]) in _folded_words(words)
            if known and half not in taken and there & _folded_words(beside):
                return {index: half}
    return {}


@cache
def _folded_words(words: str) -> frozenset[str]:
    return frozenset(map(_folded, words.split(",")))


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
        return len(cell) <= 254 and bool(email_address(cell))
    except InvalidArgument:
        return False


def _fixed(header: Sequence[str], named: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Return the field of each column that is named, an empty one for a column to leave out."""
    fixed: dict[int, str] = {}
    for index, text in named:
        field = _field(text) if text else ""
        if field and field not in BLOCKS and field in fixed.values():
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
    return _existing(header, text[: breaks[0]]), ""


def _existing(header: Sequence[str], named: str) -> int:
    """Return the column with this name or number. Raises InvalidArgument where there is none."""
    index = _column(header, named.strip())
    if index is None:
        shown = named.strip()[:80]
        raise InvalidArgument(
            f'the file has no column "{shown}"', choices(shown, [name for name in header if name]) + "; or its number"
        )
    return index


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
            raise InvalidArgument(f'"{named[:80]}" is no field', "; ".join(plain_faults(error, "its label"))) from None
    field = fold(named).replace("-", "_").replace(" ", "_")
    if field not in FIELDS and field not in BLOCKS:
        raise InvalidArgument(f'"{named[:80]}" is no field', choices(named, [*FIELDS, *BLOCKS, f"{CUSTOM}LABEL"]))
    return field


def plain_faults(error: ValidationError, field: str | None = None) -> Iterator[str]:
    """Say what a validation found, without its jargon."""
    for each in error.errors(include_url=False):
        where = field or str(each["loc"][0])
        context = each.get("ctx", {})
        if each["type"] == "string_too_long":
            yield f"{where}: {too_long(each['input'], context['max_length'])}"
        else:
            yield f"{where}: {context.get('error', each['msg'])}"


def too_long(text: str, most: int) -> str:
    """Say that a text is too long."""
    return f"{len(text):,} characters, at most {most:,}"
