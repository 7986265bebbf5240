"""Who is the same person as whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.backends.identity import People, Person, are_others, names_agree

NUMBER = "+493090182000"
NAMES = st.sampled_from(["", "Nina Falk", "Otto Falk", "N. Falk", "Nina", "Zed Quist", "Dr. Nina Falk"])
EMAILS = st.sampled_from([(), ("nina@a.example",), ("otto@a.example",)])
PEOPLE = st.builds(
    Person, st.integers(1, 5).map(lambda n: f"L{n}"), NAMES, EMAILS, st.booleans().map(lambda has: (NUMBER,) * has)
)


@pytest.mark.parametrize(
    ("one", "other", "others", "agree"),
    [
        ("Nina Falk", "Otto Falk", False, False),
        ("Nina Falk", "Nina", False, True),
        ("N. Falk", "Nina Falk", False, True),
        ("N.", "Nina", False, False),
        ("Falk, Nina", "Nina Falk", False, True),
        ("Jos\u00e9 Ruiz", "Jose Ruiz", False, True),
        ("Dr. Ann Lee", "Dr. Bob Ray", True, False),
        ("A. Smith", "A. Jones", True, False),
        ("Bram de Vries", "Anna de Boer", True, False),
        ("Jane R. Poe", "Jane Rose Poe", False, True),
        ("\u738b\u5c0f\u660e", "\u738b \u5c0f\u660e", False, False),
        ("", "Nina", False, True),
        ("", "", False, True),
        ("Mr.", "Dr.", True, False),
    ],
)
def test_names_are_compared_by_the_words_that_tell_people_apart(one: str, other: str, others: bool, agree: bool):
    assert are_others(one, other) == are_others(other, one) == others
    assert names_agree(one, other) == names_agree(other, one) == agree


@given(st.lists(PEOPLE, max_size=6, unique_by=lambda each: each.id), PEOPLE)
def test_nobody_is_found_whose_address_or_name_says_otherwise(there: list[Person], who: Person):
    found = People(there).alike(who)

    for each in found.people:
        by_email = bool({*each.emails} & {*who.emails})
        by_number = bool({*each.phones} & {*who.phones})
        assert by_email or by_number
        if not by_email:
            assert not (each.emails and who.emails)
            assert names_agree(each.name, who.name)
    if any({*each.emails} & {*who.emails} for each in there):
        assert found.people
        assert found.by == "e-mail address"


@given(st.lists(PEOPLE, max_size=6, unique_by=lambda each: each.id), PEOPLE)
def test_whom_is_found_does_not_hang_on_the_order_in_which_they_were_added(there: list[Person], who: Person):
    one, other = People(there).alike(who), People(reversed(there)).alike(who)

    assert {each.id for each in one.people} == {each.id for each in other.people}
    assert (one.by, one.other_name) == (other.by, other.other_name)


def test_a_thousand_colleagues_at_one_number_are_told_apart_without_comparing_each_with_each():
    people = People()

    for n in range(5_000):
        who = Person("", f"Person{n} Name{n}", (f"p{n}@a.example",), (NUMBER,))
        assert not people.alike(who).people
        people.add(Person(f"L{n}", who.name, who.emails, who.phones))


def test_whoever_was_given_another_number_has_the_first_no_more():
    people = People([Person("L1", "Nina", (), (NUMBER,))])

    people.add(Person("L1", "Nina", (), ("+493090182001",)))

    assert not people.alike(Person("", "Nina", (), (NUMBER,))).people


def test_whoever_had_no_id_yet_is_one_with_whom_the_id_was_told_of():
    people = People([Person("", "Nina Falk", ("nina@a.example",))])

    people.add(Person("L1", "Nina Falk", ("nina@a.example",)))

    assert [each.id for each in people.alike(Person("", "Nina Falk", ("nina@a.example",))).people] == ["L1"]
