"""From a CSV to leads: what is read, what is refused and why, and that no row is lost or invented."""

from __future__ import annotations

import csv
import io
import string
from pathlib import Path

import email_validator
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crm_mcp.actions.imports import csv_reader
from crm_mcp.actions.imports.columns import map_columns
from crm_mcp.actions.imports.csv_reader import open_csv, read_csv
from crm_mcp.actions.imports.rows import BadRow, GoodRow, rows
from crm_mcp.address import email_address
from crm_mcp.errors import InvalidArgument

NOBODY = "has none of name, first_name, last_name, email, phone, company"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LATIN = st.text("ab'é ßÿ,;|\t\"\r\n", max_size=12)


def taken(text: str, *wanted: str, country: str | None = None) -> list[GoodRow | BadRow]:
    table = read_csv(text)
    return list(rows(table, map_columns(table.header, wanted), country))


def good(row: GoodRow | BadRow) -> GoodRow:
    assert isinstance(row, GoodRow), row
    return row


def reason(row: GoodRow | BadRow) -> str:
    assert isinstance(row, BadRow), row
    return row.reason


def written(table: list[list[str]], delimiter: str, *, quoted: bool = False) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows(table)
    return out.getvalue()


def fields(header: str, *wanted: str) -> dict[str, str]:
    names = next(csv.reader([header]))
    return {names[target.index]: target.field for target in map_columns(names, wanted).targets}


def tables(cell: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    return st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6)
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    drawn=st.one_of(
        st.tuples(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), tables(TEXT)),
        st.tuples(st.just("latin-1"), tables(LATIN)),
    ),
    delimiter=st.sampled_from(csv_reader.DELIMITERS),
    quoted=st.booleans(),
)
def test_what_any_csv_writer_wrote_is_read_back_row_for_row(
    tmp_path: Path, drawn: tuple[str, list[list[str]]], delimiter: str, quoted: bool
):
    encoding, body = drawn
    header = ["Name", *(f"c{number}" for number in range(1, len(body[0])))]
    delimiter = delimiter if len(header) > 1 else ","  # one column alone does not show it
    body = [as_prose(row, delimiter) for row in body]
    path = tmp_path / "in.csv"
    path.write_bytes(written([header, *body], delimiter, quoted=quoted).encode(encoding))

    with open_csv(path) as table:
        found = list(rows(table, map_columns(table.header), None))

    wanted = [row for row in body if any(cell and not cell.isspace() for cell in row)]
    assert (list(table.header), table.delimiter) == (header, delimiter)
    assert [[strip(cell, quoted=quoted) for cell in row.cells] for row in found] == [
        [strip(cell, quoted=quoted) for cell in row] for row in wanted
    ]


def as_prose(row: list[str], delimiter: str) -> list[str]:
    """Text with line breaks has blanks behind its delimiters, else it would be taken for rows."""
    broken = any("\n" in cell or "\r" in cell for cell in row)
    return [cell.replace(delimiter, f"{delimiter} ") for cell in row] if broken else row


def strip(cell: str, *, quoted: bool) -> str:
    """Blanks in front of an unquoted cell are not kept."""
    return cell if quoted else cell.lstrip(" ")


@settings(deadline=None)
@given(st.text("ab ,\"'\n\r;\t\0é", max_size=40))
def test_whatever_follows_good_rows_never_takes_them_along(rubbish: str):
    start = written([["name", "b"], ["Ann", "1"], ["Bob", "2"]], ",")

    found = taken(start + rubbish)

    assert [good(row).row.draft.name for row in found[:2]] == ["Ann", "Bob"]


CONTENTS = st.tuples(st.text('ab=1:, "', max_size=5).map("n".__add__), st.text('=1:, c"', max_size=5))


@settings(deadline=None)
@given(CONTENTS, CONTENTS, st.permutations(["name", "company", "notes"]))
def test_two_rows_have_one_key_exactly_where_what_is_imported_is_the_same(
    one: tuple[str, str], two: tuple[str, str], order: list[str]
):
    cells = [{"name": name, "company": company, "notes": str(n)} for n, (name, company) in enumerate((one, two))]
    usual = taken(written([list(cells[0]), *(list(each.values()) for each in cells)], ","))
    other = taken(written([order, *([each[name] for name in order] for each in cells)], ";"))

    keys = [good(row).row.key for row in usual]

    assert (keys[0] == keys[1]) == ([text.strip() for text in one] == [text.strip() for text in two])
    assert [good(row).row.key for row in other] == keys


@settings(deadline=None)
@given(
    st.one_of(
        st.emails(),
        st.from_regex(r"[A-Za-z0-9_+.-]{1,9}@[A-Za-z0-9.-]{1,12}\.[A-Za-z0-9]{1,5}", fullmatch=True),
        st.tuples(
            st.sampled_from(["Info", "a", "POSTMASTER", "a.b+c", "-a", "a-"]),
            st.sampled_from(["Example.COM", "x.test", "xn--a.com", "ab--c.de", "local", "a.local", "a.co-m", "a.c1"]),
        ).map("@".join),
        st.text("aZ0@.-_+ \n", max_size=12),
    )
)
@example("a@" + "b" * 59 + ".com")
@example("a@" + ".".join(["b"] * 30) + ".com")
@example("jane@example.com\n")
def test_the_quick_look_at_an_address_says_what_the_full_validation_says(text: str):
    try:
        wanted = email_validator.validate_email(text.strip(), check_deliverability=False).normalized
    except email_validator.EmailNotValidError:
        with pytest.raises(InvalidArgument, match="is no e-mail address"):
            email_address(text)
    else:
        assert email_address(text) == wanted


@pytest.mark.parametrize("name", email_validator.SPECIAL_USE_DOMAIN_NAMES)
def test_a_reserved_domain_is_no_address(name: str):
    for domain in (name, f"mail.{name}", name.upper()):
        with pytest.raises(InvalidArgument):
            email_address(f"jane@{domain}")


def test_columns_are_found_by_the_words_of_many_programs():
    assert fields("First Name,Last Name,E-Mail,Phone Number,Company Name,Job Title,Lead Owner") == {
        "First Name": "first_name", "Last Name": "last_name", "E-Mail": "email", "Phone Number": "phone",
        "Company Name": "company", "Job Title": "title", "Lead Owner": "owner",
    }  # fmt: skip
    assert fields("VORNAME,Nachname,E-Mail-Adresse,Telefon,Firma") == {
        "VORNAME": "first_name", "Nachname": "last_name", "E-Mail-Adresse": "email", "Telefon": "phone",
        "Firma": "company",
    }  # fmt: skip
    assert fields("full_name,email_address,MOBILE,organisation,Labels,List,lead-status") == {
        "full_name": "name", "email_address": "email", "MOBILE": "phone", "organisation": "company",
        "Labels": "tags", "List": "list", "lead-status": "status",
    }  # fmt: skip


def test_a_field_is_guessed_once_and_the_best_word_wins():
    mapping = map_columns(["Personal Email", "Email", "E-mail", "Shoe size"])

    assert [(target.index, target.field) for target in mapping.targets] == [(1, "email")]
    assert mapping.ignored == (0, 2, 3)


def test_map_names_a_column_by_header_or_number_and_wins_over_guessing():
    header = "Email,Other,Budget,Name,a=b"

    assert fields(header, "other=email", "3=custom_fields.Budget", "Name=", "a=b=company") == {
        "Other": "email", "Budget": "custom_fields.Budget", "a=b": "company",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["Emial=email"], 'no column "Emial"; valid: Email, Name, Name; nearest: "Email"; or its number'),
        (["Email=mial"], '"mial" is no field; valid: name, first_name'),
        (["Email=phome"], 'nearest: "phone"'),
        (["Name=name"], '2 columns are named "Name"; give a number: 2, 3'),
        (["9=name"], 'no column "9"'),
        (["0=name"], 'no column "0"'),
        (["Email"], '"Email" maps nothing; write column=field'),
        (["1=email", "2=email"], 'two columns are mapped to "email"'),
        (["1=email", "Email=name"], 'column "Email" is mapped twice'),
        (["1=custom_fields."], '"custom_fields." is no field; its label'),
    ],
)
def test_a_mapping_that_cannot_be_says_what_can(wanted: list[str], said: str):
    with pytest.raises(InvalidArgument) as caught:
        map_columns(["Email", "Name", "Name"], wanted)

    assert said in str(caught.value)


def test_a_file_without_a_column_that_names_a_lead_is_refused_with_its_columns():
    with pytest.raises(InvalidArgument, match='no column says who the leads are; the file has "Colour", "Size"'):
        map_columns(["Colour", "Size"])


@pytest.mark.parametrize("line", ["Jane,jane@example.com", "Jane Doe,+1 (415) 555-0123"])
def test_a_file_whose_first_line_is_a_row_has_no_header(line: str):
    with pytest.raises(InvalidArgument, match="the file has no header line"):
        taken(f"{line}\nBob,x\n")


def test_dates_and_handles_as_headers_are_no_row():
    assert fields("Name,2024-01-01,@handle") == {"Name": "name"}


@pytest.mark.parametrize("text", ["", "\n\r\n\n", "\ufeff", " , ,\n"])
def test_an_empty_file_is_refused(text: str):
    with pytest.raises(InvalidArgument, match='"csv" is empty; the first line must be a header'):
        read_csv(text)


def test_a_header_alone_has_no_rows():
    assert taken("name,email\n") == []


def test_rows_become_leads_in_their_normal_form():
    text = (
        'name,email,phone,company,tags,Budget\n Jane Doe ,Jane@EXAMPLE.com,(415) 555-0123,"Acme, Inc",a; b|a,\n,,,,,\n'
    )

    (found,) = taken(text, "Budget=custom_fields.Budget", country="US")

    assert good(found).row.draft.shown() == {
        "name": "Jane Doe", "email": "Jane@example.com", "phone": "+14155550123", "company": "Acme, Inc",
        "tags": ["a", "b"],
    }  # fmt: skip
    assert (found.line, len(good(found).row.key or "")) == (2, 32)


def test_custom_fields_are_kept_under_their_labels():
    (row,) = taken("name,Budget\nJane,5000\n", "Budget=custom_fields.Annual budget")

    assert good(row).row.draft.custom_fields == {"Annual budget": "5000"}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("Jane,foo@,,", 'email: "foo@" is no e-mail address'),
        ("Jane,x@,y,", 'email: "x@" is no e-mail address'),
        (f"{'n' * 10_000},,,", "name: 10,000 characters, at most 200"),
        (f"Jane,{'e' * 10_000}@example.com,,", "email: 10,012 characters, at most 254"),
        ("Ja\0ne,,,", "name: has the control character U+0000"),
        ("Jane,,,a\0b", "custom_fields.notes: has the control character U+0000"),
        (f"Jane,,,{'x' * 1_048_576}", "custom_fields.notes: 1,048,576 characters, at most 20,000"),
        (",,banana,only notes", 'phone left out: "banana" is no phone number; ' + NOBODY),
        (",,,only notes", NOBODY),
        ("Jane,j@example.com", "2 of 4 columns: cut off?"),
        ("Jane,,,a,b", "5 cells for 4 columns: a cell with the delimiter in it must be quoted"),
        ('"Jane" Doe,,,', 'text after a closing quote; a quote within a cell is written ""'),
    ],
)
def test_a_bad_row_is_refused_with_its_reason_and_the_next_is_taken(cells: str, said: str):
    found = taken(f"name,email,phone,notes\n{cells}\nBob,,,\n", "notes=custom_fields.notes")

    assert (reason(found[0]), found[0].line) == (said, 2)
    assert good(found[1]).row.draft.name == "Bob"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("banana", 'phone left out: "banana" is no phone number'),
        ("030 1234567", 'phone left out: "030 1234567" is a national number and no country is set'),
        ("+1" + "4" * 10_000, "phone left out: 10,002 characters, at most 100"),
        ("+10000000000", 'phone left out: "+10000000000" is no phone number of a person'),
    ],
)
def test_a_number_that_is_refused_is_left_out_and_told_and_the_row_is_taken(cell: str, said: str):
    (row,) = taken(f"name,phone\nJane,{cell}\n")

    assert good(row).row.draft.shown() == {"name": "Jane"}
    assert good(row).row.remarks == (said,)


def test_a_number_that_may_not_exist_is_taken_and_told():
    (row,) = taken("name,phone\nJane,+1 123 456 7890\n")

    assert good(row).row.draft.phone == "+11234567890"
    assert good(row).row.remarks == ("phone +11234567890 is doubtful: no such number is known in its country",)


@pytest.mark.parametrize("name", ["😀🎉👩‍👩‍👧", "محمد عبد الله", "שרה כהן", "李小龍", 'O\'Neill; "Jo"'])
def test_a_name_in_any_script_is_a_name(name: str):
    (row,) = taken(written([["name"], [name]], ","))

    assert good(row).row.draft.name == name


def test_a_long_cell_of_a_column_that_is_not_imported_does_no_harm():
    (row,) = taken(f"name,notes\nJane,{'x' * 1_048_576}\n")

    assert good(row).row.draft.name == "Jane"


def test_cells_may_have_line_breaks_and_lines_are_counted_as_an_editor_does():
    first, second = taken('name,company\n"Jane\nDoe","A\r\nB"\nBob,C\n')

    assert (good(first).row.draft.name, good(first).row.draft.company, first.line) == ("Jane Doe", "A B", 2)
    assert (good(second).row.draft.name, second.line) == ("Bob", 5)


def test_a_quote_that_never_closes_costs_one_row_in_the_middle_and_at_the_end():
    found = taken('name,company\nAnn,A\nBob,"B\nCid,C\nDan,"D D"\nEve,"E')

    assert [(row.line, row.reason if isinstance(row, BadRow) else row.row.draft.name) for row in found] == [
        (2, "Ann"), (3, "a quote opens here and never closes"), (4, "Cid"), (5, "Dan"),
        (6, "a quote opens here and never closes"),
    ]  # fmt: skip
    assert (list(found[1].cells), list(found[4].cells)) == (["Bob", "B"], ["Eve", "E"])


def test_a_quote_that_never_closes_in_a_long_file_costs_one_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_reader, "LONGEST_RECORD", 1_000)
    body = "".join(f"Person {n},x\n" for n in range(2_000))

    found = taken(f'name,company\nBob,"B\n{body}')

    assert [row.line for row in found if isinstance(row, BadRow)] == [2]
    assert len(found) == 2_001


def test_a_file_made_to_be_read_again_and_again_ends_in_whole_blocks_of_bad_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_reader, "LONGEST_RECORD", 5_000)

    found = taken("name,company\n" + 'x","\n' * 20_000)

    assert len(found) < 1_000
    assert all(isinstance(row, BadRow) for row in found)
    assert sum("".join(row.cells).count("x") for row in found) == 20_000


def test_a_line_of_endless_length_is_one_bad_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_reader, "LONGEST_RECORD", 1_000)

    found = taken(f"name,company\nAnn,A\n{'x' * 5_000_000}\nBob,B\n")

    assert [row.line for row in found] == [2, 3, 4]
    assert reason(found[1]) == "a line of more than 1,000 characters; only its start is here"


def test_a_header_of_endless_length_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_reader, "LONGEST_RECORD", 1_000)

    with pytest.raises(InvalidArgument, match='the header line of "csv" can\'t be read: a line of more than 1,000'):
        taken("name," * 1_000)


def test_a_quote_in_the_header_that_never_closes_is_refused():
    with pytest.raises(InvalidArgument, match='the header line of "csv" can\'t be read: a quote opens here'):
        taken('name,"company\nAnn,A\n')


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("name;company, legal;email\nJane;Acme;\n", ";"),
        ("name\tcompany\temail\nJane\tAcme\t\n", "\t"),
        ("name|company|email\nJane|Acme|\n", "|"),
        ('"name","a;b;c;d",email\nJane,Acme,\n', ","),
        ('"name\nof; it; all",company,email\nJane,Acme,\n', ","),
        ('size 5";company;name\nJane;Acme;J\n', ";"),
        ("sep=;\nname;company\nJane;Acme\n", ";"),
        ("\n\nname;company\nJane;Acme\n", ";"),
        ("name\nJane\n", ","),
        ('name, company\nJane, "Acme, Inc"\n', ","),
        ("name,company,,\nJane,Acme,,,,\n", ","),
        ("name,company\rJane,Acme\r", ","),
    ],
)
def test_the_delimiter_is_that_of_the_header(text: str, delimiter: str):
    table = read_csv(text)

    found = list(rows(table, map_columns(table.header, ["1=name"]), None))

    assert (table.delimiter, [good(row).row.draft.name for row in found]) == (delimiter, ["Jane"])


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("name\nJosé\n".encode(), "utf-8"),
        ("name\nJosé\n".encode("utf-8-sig"), "utf-8-sig"),
        ("name\nJosé\n".encode("utf-16"), "utf-16"),
        ("name\nJosé\n".encode("utf-32"), "utf-32"),
        ("name\nJosé\n".encode("latin-1"), "cp1252"),
        ("name\nJosé\x81\n".encode("latin-1"), "latin-1"),
    ],
)
def test_the_encoding_is_found_and_a_mark_is_no_part_of_the_header(tmp_path: Path, content: bytes, encoding: str):
    path = tmp_path / "in.csv"
    path.write_bytes(content)

    with open_csv(path) as table:
        (row,) = rows(table, map_columns(table.header), None)

        assert (table.encoding, table.header) == (encoding, ("name",))
        assert row.cells[0].startswith("José")
        assert table.position() == table.size == len(content)


def test_a_file_that_ends_within_a_character_is_still_utf_8_and_loses_its_last_row_only(tmp_path: Path):
    path = tmp_path / "in.csv"
    path.write_bytes("name,company\nJosé,A\nRenée,Café".encode()[:-1])

    with open_csv(path) as table:
        first, last = rows(table, map_columns(table.header), None)

    assert good(first).row.draft.name == "José"
    assert reason(last) == "bytes that are no utf-8 text: cut off, or damaged"


def test_the_replacement_character_itself_is_text_in_a_sound_file(tmp_path: Path):
    path = tmp_path / "in.csv"
    path.write_text("name\nJos\ufffd\n", encoding="utf-8")

    with open_csv(path) as table:
        (row,) = rows(table, map_columns(table.header), None)

    assert good(row).row.draft.name == "Jos\ufffd"


def test_two_hundred_columns_are_read_and_those_unknown_are_ignored():
    header = ["name", *(f"extra {number}" for number in range(199))]
    table = read_csv(written([header, ["Jane", *string.ascii_letters, *[""] * 147]], ","))

    mapping = map_columns(table.header)

    assert (len(mapping.targets), len(mapping.ignored)) == (1, 199)
    assert good(*rows(table, mapping, None)).row.draft.shown() == {"name": "Jane"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04rest of a workbook", "is a workbook or archive, no CSV; save the sheet as CSV first"),
        ("name,email\nJane,\n".encode("utf-16-le"), "has NUL characters in its first line"),
        (b"", "is empty"),
    ],
)
def test_a_file_that_is_no_csv_says_so(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "in.csv"
    path.write_bytes(content)

    with pytest.raises(InvalidArgument, match=said), open_csv(path):
        pass


def test_a_path_that_is_no_file_says_so(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(InvalidArgument, match="there is no file"), open_csv(path):
            pass


def test_a_path_that_the_system_does_not_take_says_so(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="can't be read: File name too long"), open_csv(tmp_path / ("a" * 300)):
        pass


def test_rows_looked_at_beforehand_are_still_read():
    table = read_csv("name\nAnn\nBob\nCid\n")

    peeked = [record.cells for record in table.peek(2)]

    assert peeked == [["Ann"], ["Bob"]]
    assert [record.cells for record in table] == [["Ann"], ["Bob"], ["Cid"]]
