"""Columns that say that somebody must not be contacted: what they block, and what stops an import."""

from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.actions.imports.columns import Columns, map_columns
from crm_mcp.actions.imports.csv_reader import read_csv
from crm_mcp.actions.imports.opt_outs import count_refusing
from crm_mcp.actions.imports.rows import BadRow, GoodRow, refuse_undecided, rows
from crm_mcp.channels import CHANNELS
from crm_mcp.errors import InvalidArgument, Undecided


def columns_of(text: str, *wanted: str, **more: Any) -> Columns:
    return map_columns(read_csv(text).header, wanted, **more)


def blocked(text: str, *wanted: str, **more: Any) -> list[tuple[str, ...]]:
    columns = columns_of(text, *wanted, **more)
    refuse_undecided(read_csv(text), columns)
    found = list(rows(read_csv(text), columns, "US"))
    assert all(isinstance(each, GoodRow) for each in found)
    return [each.row.blocked for each in found if isinstance(each, GoodRow)]


def test_each_column_blocks_its_channels_where_it_says_yes_and_none_where_it_says_no_or_nothing():
    text = "Name,Do Not Call,Email Opt Out\nAnn,1,0\nBob,,yes\nCid,no,\nDan,x,TRUE\n"

    assert blocked(text) == [("sms", "call"), ("email",), (), ("email", "sms", "call")]


def test_a_column_that_names_no_channel_blocks_all_and_consent_on_an_explicit_no():
    assert blocked("Name,DND\nAnn,true\n") == [CHANNELS]
    assert blocked("Name,SMS consent\nAnn,no\nBob,\nCid,yes\n") == [("sms",), (), ()]


def test_what_becomes_of_each_column_is_told():
    columns = columns_of("Name,Budget,Do Not Call,Shoe,Opt-in\n", "Shoe=custom_fields.Shoe", skip=["Budget"])

    assert columns.became() == [
        {"column": "Name", "became": "name"},
        {"column": "Budget", "became": "left out, as asked"},
        {"column": "Do Not Call", "became": "blocks sms, call where it says yes"},
        {"column": "Shoe", "became": "custom_fields.Shoe"},
        {"column": "Opt-in", "became": "blocks email, sms, call, linkedin where it says no"},
    ]
    assert columns_of("Name,Budget\n").became()[1]["became"] == "not taken: no field is known for it"


def test_a_value_that_says_neither_stops_before_the_first_row_naming_column_and_values():
    text = "Name,Email Opt Out,DND\n" + "".join(f"N{n},{'maybe' if n > 500 else ''},ask {n % 12}\n" for n in range(900))

    with pytest.raises(Undecided) as stopped:
        blocked(text)

    said = str(stopped.value)
    assert said.startswith('it can\'t be read who must not be contacted: "DND" has "ask 0", "ask 1"')
    assert '"Email Opt Out" has "maybe"' in said
    assert "and others" in said
    assert "--skip" in said
    assert stopped.value.wrote is False


@pytest.mark.parametrize(
    ("wanted", "more", "found"),
    [
        ((), {"skip": ["Email Opt Out"]}, [(), ()]),
        (("Email Opt Out=",), {}, [(), ()]),
        ((), {"fields": {"Email Opt Out": ""}}, [(), ()]),
        ((), {"fields": {"2": "company"}}, [(), ("email",)]),
        (("Email Opt Out=tags",), {}, [(), ("email",)]),
        (("Email Opt Out=custom_fields.Opted",), {}, [(), ("email",)]),
    ],
)
def test_it_is_settled_by_leaving_the_column_out_or_by_saying_what_it_is(
    wanted: tuple[str, ...], more: dict[str, Any], found: list[tuple[str, ...]]
):
    text = "Name,Email Opt Out\nAnn,maybe\nBob,yes\n"

    assert blocked(text, *wanted, **more) == found


def test_a_column_of_another_name_can_be_said_to_block():
    text = "Name,Sperre,Mailsperre\nAnn,ja,\nBob,nein,ja\n"

    assert blocked(text, "Sperre=do_not_call", "Mailsperre=do_not_email") == [("sms", "call"), ("email",)]
    assert blocked(text, "Sperre=do_not_contact", skip=["Mailsperre"]) == [CHANNELS, ()]
    with pytest.raises(InvalidArgument, match="do_not_contact"):
        columns_of(text, "Sperre=do_not_ring")


def test_a_row_whose_value_changed_since_it_was_looked_at_is_rejected():
    columns = columns_of("Name,DND\nAnn,yes\n")

    (row,) = rows(read_csv("Name,DND\nAnn,maybe\n"), columns, None)

    assert isinstance(row, BadRow)
    assert row.reason == 'DND: "maybe" says neither yes nor no'


def test_a_column_is_skipped_by_its_number_and_one_that_is_not_there_is_told():
    assert columns_of("Name,DND\n", skip=["2"]).skipped == (1,)
    with pytest.raises(InvalidArgument, match='no column "DNDD"; valid: Name, DND; nearest: "DND"'):
        columns_of("Name,DND\n", skip=["DNDD"])


HEADER = "Name,Email,Phone,Phone 2,Status,Do Not Call,Email Opt Out\n"


def refused(line: str) -> tuple[bool, set[tuple[str, str]], str]:
    """Return whether a row is taken, where its person is blocked, and the reason."""
    (row,) = rows(read_csv(HEADER + line), columns_of(HEADER), "US")
    found = row.row.refused if isinstance(row, GoodRow) else row.refused
    return isinstance(row, GoodRow), set(found), "" if isinstance(row, GoodRow) else row.reason


def test_a_refusal_holds_for_every_address_of_the_row():
    line = "Ann,ann@example.com,(415) 555-0101,415 555 0102,,yes,1\n"

    taken, found, _ = refused(line)

    calls = {(on, number) for on in ("sms", "call") for number in ("+14155550101", "+14155550102")}
    assert (taken, found) == (True, calls | {("email", "ann@example.com")})


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("Ann,ann@@example,(415) 555-0101,,,yes,\n", {"+14155550101"}),
        ("Ann,ann@example.com; a2@example.com,,,,,yes\n", {"ann@example.com", "a2@example.com"}),
        ("Ann,ann@example.com,,,Do Not Contact\n", {"ann@example.com"}),
        ("Ann,ann@example.com,,,,,,yes\n", {"ann@example.com"}),
        ("Ann,ann@example.com,Yes,Berlin\n", {"ann@example.com"}),
        ('"Ann"x,ann@example.com,,,,,yes\n', {"ann@example.com"}),
    ],
)
def test_a_row_that_can_t_be_imported_keeps_its_refusal(line: str, kept: set[str]):
    taken, found, reason = refused(line)

    assert not taken
    assert {address for _, address in found} == kept
    assert "that they must not be contacted" in reason
    assert all(each in reason for each in kept)


def test_it_holds_for_addresses_in_columns_that_no_field_is_known_for_but_not_for_those_of_others():
    header = "Name,Email,Work Direct Phone,Secondary Email,Owner Email,Company Phone,Do Not Contact\n"
    line = "Ann,ann@example.com,+14155550101,ann2@example.com,rep@ours.example,+14155550102,yes\n"

    (row,) = rows(read_csv(header + line), columns_of(header), "US")

    assert isinstance(row, GoodRow)
    assert {address for _, address in row.row.refused} == {"ann@example.com", "+14155550101", "ann2@example.com"}


def test_where_no_address_can_be_read_that_it_is_not_kept_is_told():
    taken, found, reason = refused("Ann,ann@@example,,,,,yes\n")

    assert (taken, found) == (False, set())
    assert "is NOT kept: no address can be read" in reason


def test_a_row_that_can_t_be_imported_and_says_nothing_of_it_blocks_nobody():
    assert refused("Ann,ann@@example,(415) 555-0101,,New,no,no\n")[1:] == (
        set(),
        'email: "ann@@example" is no e-mail address',
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Name,Lead Status\nAnn,Do Not Contact\nBob,New\n", [CHANNELS, ()]),
        ("Name,Email Status\nAnn,Unsubscribed\nBob,Valid\n", [("email",), ()]),
        ("Name,Tags\nAnn,vip; unsubscribed\nBob,vip\n", [CHANNELS, ()]),
        ("Name,Phone\nAnn,DO NOT CALL\nBob,+14155550100\n", [("sms", "call"), ()]),
        ("Name,Company\nDo Not Call,DNC\n", [()]),
    ],
)
def test_a_value_that_refuses_by_itself_blocks_in_whatever_column_it_stands(text: str, found: list[tuple[str, ...]]):
    assert blocked(text) == found


def test_a_column_that_is_left_out_and_says_so_is_counted():
    text = "Name,Do Not Call,DND,Shoe\nAnn,1,,4\nBob,x,no,5\nCid,maybe,0,6\n"
    columns = columns_of(text, skip=["Do Not Call", "DND", "Shoe"])

    counts = {
        columns.name(each.index): count_refusing((record.cells for record in read_csv(text)), each)
        for each in columns.dropped
    }

    assert counts == {"Do Not Call": 2, "DND": 0}
