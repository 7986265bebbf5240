"""Phone numbers: what is taken, what is refused with a hint, and what is told as doubtful."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.address import is_doubtful, phone_number
from crm_mcp.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("+1 (415) 555-0123", None, "+14155550123"),
        ("(415) 555-0123", "US", "+14155550123"),
        ("1 415 555 0123", "US", "+14155550123"),
        ("030 901820", "DE", "+4930901820"),
        ("0049 30 901820", "DE", "+4930901820"),
        ("011 49 30 901820", "US", "+4930901820"),
        ("\uff0b\uff11\uff14\uff11\uff15 555 0123", None, "+14155550123"),
        ("604 555 0123", "US", "+16045550123"),  # a neighbour with the same country code
    ],
)
def test_a_number_is_read_as_people_write_it(text: str, country: str | None, number: str):
    assert phone_number(text, country) == number
    assert not is_doubtful(number)


@pytest.mark.parametrize("number", ["+11234567890", "+4512345678"])
def test_a_possible_number_with_a_plus_is_taken_and_is_doubtful_where_no_range_has_it(number: str):
    assert phone_number(number, None) == number
    assert is_doubtful(number)


@pytest.mark.parametrize(
    ("text", "country", "said"),
    [
        ("0000000000", "US", "no phone number of a person"),
        ("1111111111", "US", "no phone number of a person"),
        ("+10000000000", None, "no phone number of a person"),
        ("+45 22 22 22 22", None, "no phone number of a person"),
        ("1234567890", "US", r"no valid phone number of US; give it with \+ and the country code"),
        ("14155550153", "DE", r"no valid phone number of DE; if it is \+14155550153, write it so"),
        ("447911123456", "US", r"no valid phone number of US; if it is \+447911123456, write it so"),
        ("5550123", "US", "no valid phone number of US"),
        ("112", "DE", "no phone number of a person"),
        ("911", "US", "no phone number of a person"),
        ("+49112", None, "no possible phone number|no phone number of a person"),
        ("116117", "DE", "no phone number of a person"),
        ("+49 116117", None, "no phone number of a person"),
        ("+15550123", None, "no possible phone number"),
        ("+1 415", None, "no possible phone number"),
        ("415 555 0123", None, "is a national number and no country is set"),
        ("banana", "US", "is no phone number"),
        ("", "US", "is no phone number"),
    ],
)
def test_what_is_nobodys_number_is_refused_with_the_way_to_write_it(text: str, country: str | None, said: str):
    with pytest.raises(InvalidArgument, match=said):
        phone_number(text, country)


@given(st.sampled_from(["US", "DE", "GB", "IN", "JP", "BR"]), st.from_regex(r"[0-9]{3,15}", fullmatch=True))
def test_digits_without_a_plus_are_a_valid_number_of_the_country_or_nothing(country: str, digits: str):
    try:
        number = phone_number(digits, country)
    except InvalidArgument:
        return

    parsed = phonenumbers.parse(number)
    abroad = phonenumbers.parse(digits, country).country_code != phonenumbers.country_code_for_region(country)
    assert abroad or phonenumbers.is_valid_number(parsed)
    assert len(set(phonenumbers.national_significant_number(parsed))) > 1
    assert not phonenumbers.is_valid_short_number(parsed)


@given(st.sampled_from("0123456789"), st.integers(4, 14), st.sampled_from(["", "+", "+1", "+49", "+45", "+91"]))
def test_one_digit_repeated_is_no_number_in_any_country(digit: str, times: int, before: str):
    for country in ("US", "DE", "DK", "IN"):
        try:
            number = phonenumbers.parse(phone_number(before + digit * times, country))
        except InvalidArgument:
            continue

        assert len(set(phonenumbers.national_significant_number(number))) > 1
