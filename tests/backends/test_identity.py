"""Who is the same person as whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.backends.identity import People, Person, are_others, called, names_agree, person_in
from crm_mcp.model import LeadFields

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
        ("Do Nguyen", "Le Nguyen", False, False),
        ("Minh Do", "Minh Le", False, False),
        ("Minh Do", "Minh", False, True),
        ("Mag Jones", "Al Jones", False, False),
        ("Al Jones", "Bob Jones", False, False),
        ("Al Jones", "A. Jones", False, True),
        ("Herr Roth", "Frau Roth", False, False),
        ("John Smith Jr", "John Smith Sr.", False, False),
        ("John Smith Jr.", "JOHN SMITH JR", False, True),
        ("Mr John Smith", "Dr John Smith", False, False),
        ("Dr. Roth", "Roth", False, True),
        ("Herr Roth", "Herr Dr. Roth", False, True),
        ("Dr. Roth", "Anna Roth", False, True),
        ("Bram de Vries", "Bram Vries", False, True),
        ("Jan van der Berg", "Jan v. d. Berg", False, True),
    ],
)
def test_names_are_compared_by_the_words_that_tell_people_apart(one: str, other: str, others: bool, agree: bool):
    assert are_others(one, other) == are_others(other, one) == others
    assert names_agree(one, other) == names_agree(other, one) == agree


@pytest.mark.parametrize(
    ("name", "first", "last", "whole"),
    [
        ("Roth", "Hans", None, "Hans Roth"),
        ("Hans", None, "Roth", "Hans Roth"),
        ("Hans Roth", "Hans", "Roth", "Hans Roth"),
        ("ROTH, Hans", "Hans", "Roth", "ROTH, Hans"),
        ("Bob Roth", "Robert", "Roth", "Robert Bob Roth"),
        ("Evans", "Eva", None, "Eva Evans"),
        (None, "Hans", "Roth", "Hans Roth"),
        (None, None, None, ""),
    ],
)
def test_somebody_is_called_all_that_is_said_of_their_name(
    name: str | None, first: str | None, last: str | None, whole: str
):
    fields = LeadFields(name=name, first_name=first, last_name=last)

    assert called(fields) == person_in(fields).name == whole


@pytest.mark.parametrize("theirs", ["Dr John Smith", "John Smith", "John Smith Jr"])
def test_where_the_address_is_the_same_a_title_makes_no_other_name(theirs: str):
    there = People([Person("L1", "Mr John Smith", ("smith@a.example",), (NUMBER,))])

    found = there.alike(Person("", theirs, ("smith@a.example",)))

    assert ([each.id for each in found.people], found.other_name) == (["L1"], False)


@pytest.mark.parametrize(
    ("name", "emails", "other_name", "apart"),
    [
        ("Lou Lam", ("lou@b.example",), True, True),
        ("Zed Quist", ("zed@b.example",), True, True),
        ("Lou Lam", (), False, False),
        ("Zed Quist", (), True, False),
        ("Lou Lam", ("kim@a.example",), False, False),
        ("Kim Lam", ("kim@b.example",), False, False),
        ("", ("kim@b.example",), False, False),
    ],
)
def test_a_profile_alone_is_nobodys_where_address_and_name_are_anothers(
    name: str, emails: tuple[str, ...], other_name: bool, apart: bool
):
    there = People([Person("L1", "Kim Lam", ("kim@a.example",), profile="lam")])

    found = there.alike(Person("", name, emails, profile="lam"))

    assert [each.id for each in found.people] == ["L1"]
    assert (found.other_name, found.apart) == (other_name, apart)


def test_letters_that_fold_to_the_same_are_two_addresses_and_capitals_are_one():
    there = People([person_in(LeadFields(name="A Weg", email="Info@fu\u00df.example"))])

    assert not there.alike(person_in(LeadFields(name="B Gasse", email="info@fuss.example"))).people
    assert there.alike(person_in(LeadFields(email="info@FU\u00df.example"))).people


def test_of_those_at_one_number_the_one_of_just_this_name_is_meant():
    there = People(
        [Person(f"L{n}", name, (), (NUMBER,)) for n, name in enumerate(("Nguyen", "Do Nguyen", "Dr. Nguyen"))]
    )

    found = [there.alike(Person("", name, (), (NUMBER,))).people for name in ("Do Nguyen", "Nguyen", "Mr Nguyen")]

    assert [[each.id for each in people] for people in found] == [["L1"], ["L0"], ["L0"]]


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
