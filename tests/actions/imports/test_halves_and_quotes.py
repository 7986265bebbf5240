"""From the headers and lines of a CSV: halves of names, and rows that a stray quote took in."""

from __future__ import annotations

import pytest

from crm_mcp.actions.imports.csv_reader import read_csv
from crm_mcp.actions.imports.rows import BadRow

from .test_csv import fields, reason, taken, written


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("Vorname,Name", ["first_name", "last_name"]),
        ("Name,Vorname,Name 2", ["last_name", "first_name", None]),
        ("Pr\u00e9nom,Nom", ["first_name", "last_name"]),
        ("Voornaam,Naam", ["first_name", "last_name"]),
        ("Voornaam,Achternaam,Naam", ["first_name", "last_name", "name"]),
        ("Nome,Cognome", ["first_name", "last_name"]),
        ("Vorname,Nachname,Name", ["first_name", "last_name", "name"]),
        ("Nom,Email", ["name", "email"]),
        ("Nome,Email", ["name", "email"]),
        ("Naam,Email", ["name", "email"]),
        ("First Name,Name", ["first_name", "name"]),
        ("Vorname,Full Name", ["first_name", "name"]),
    ],
)
def test_a_name_beside_a_first_name_is_the_last_one(header: str, wanted: list[str | None]):
    names = header.split(",")

    assert fields(header) == {name: field for name, field in zip(names, wanted, strict=True) if field}


def test_what_is_mapped_to_name_is_the_name():
    assert fields("Vorname,Name", "Name=name") == {"Vorname": "first_name", "Name": "name"}


ROWS: tuple[str, ...] = (
    "Ann Lee,ann@a.example,,urgent,9",
    "Bob Ray,bob@a.example,Yes,call at 6,8",
    "Cas Dee,cas@a.example,,likes tea,7",
    "Dan Fox,dan@a.example,,size 6,6",
    "Eve Fox,eve@a.example,,ok,5",
)


@pytest.mark.parametrize(("opened", "closed"), [(0, 1), (0, 2), (0, 4), (1, 2), (1, 4), (3, 4)])
@pytest.mark.parametrize("column", ["urgent", "9"])
def test_a_quote_that_takes_in_whole_rows_costs_one_row(opened: int, closed: int, column: str):
    lines = [*ROWS]
    at = ROWS[0].split(",").index(column)
    first, last = lines[opened].split(","), lines[closed].split(",")
    first[at], last[at] = f'"{first[at]}', f'{last[at]}"'
    lines[opened], lines[closed] = ",".join(first), ",".join(last)

    found = taken("\n".join(["Name,Email,Do Not Call,Notes,n", *lines]))

    assert [row.line for row in found if isinstance(row, BadRow)] == [opened + 2]
    assert reason(found[opened]).startswith("a quote opens here and takes in the rows after it")
    assert [row.cells[0] for row in found] == [row.split(",")[0] for row in ROWS]
    assert isinstance(found[1], BadRow) or found[1].row.blocked == ("sms", "call")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "note",
    [
        "called, left a message\nwants: tea, milk, sugar, bread, butter\nsize 6",
        "Hi Ann,\n\nplease call, if you can, at 6,\nBob",
        "one\ntwo",
        "12 Main St,London\nUK",
        "lines:\na,b,c,d,e\nand no more\nof these",
    ],
)
@pytest.mark.parametrize("at", range(4))
def test_a_cell_with_line_breaks_and_a_few_delimiters_is_one_cell(note: str, at: int, delimiter: str):
    cells = ["x", "", "", ""]
    cells[at] = note

    found = list(read_csv(written([["Name", "Notes", "More", "Most"], cells, ["Bob", "", "", ""]], delimiter)))

    assert [(each.fault, each.cells) for each in found] == [(None, cells), (None, ["Bob", "", "", ""])]
