"""LinkedIn profiles: all ways to write one name the same person, and nothing else names anybody."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crm_mcp.address import PLACEHOLDERS, linkedin_profile, profile_key, same_profile
from crm_mcp.errors import InvalidArgument

HOSTS = ("linkedin.com", "www.linkedin.com", "de.linkedin.com", "uk.linkedin.com", "LinkedIn.com", "linkedin.com.")
SCHEMES = ("", "//", "http://", "https://", "HTTPS://")
BEHIND = (
    "",
    "/",
    "//",
    "/de",
    "/en-us/",
    "/zh-cn",
    "/details/experience",
    "/recent-activity/all/",
    "?x=/in/bob",
    "#/in/bob",
)

letters = st.sampled_from("abcxyzABZ019-_äéßñжя中あ")
handles = st.text(letters, min_size=1, max_size=20).filter(
    lambda each: any(map(str.isalnum, each)) and unicodedata.normalize("NFC", each.lower()) not in PLACEHOLDERS
)


@given(handles, st.sampled_from(SCHEMES), st.sampled_from(HOSTS), st.sampled_from(BEHIND), st.booleans(), st.booleans())
def test_all_ways_to_write_a_profile_give_its_handle(
    handle: str, scheme: str, host: str, behind: str, encoded: bool, apart: bool
):
    shown = unicodedata.normalize("NFD", handle) if apart else handle
    shown = quote(shown, safe="").replace("-", "%2D") if encoded else shown
    written = f"  {scheme}{host}/in/{shown}{behind} "

    assert linkedin_profile(written) == unicodedata.normalize("NFC", handle.lower())
    assert profile_key(written) == profile_key(f"/in/{handle}") == profile_key(f"/in/{handle.swapcase()}")
    assert same_profile(written, f"/in/{handle}")
    assert profile_key(handle) in (None, profile_key(written))


@given(st.text(st.sampled_from("abé-.%2DFfC3A9/\\?#@: \tin"), max_size=40) | st.text(max_size=30))
@example("ann/../bob")
@example("ann/%2e%2E/bob")
@example("ann\\..\\..\\bob")
@example("ann%2Fde")
@example("%2e%2e")
@example("ann%252Dl")
@example("ann%ff")
def test_what_is_behind_in_is_the_handle_or_nothing(path: str):
    key = profile_key(f"https://www.linkedin.com/in/{path}")

    if key is not None:
        first = path.strip().partition("?")[0].partition("#")[0].partition("/")[0]
        assert key == profile_key(f"/in/{first}") or "." in first
        assert not set(key) & set("/\\?#%@ \t\n")
        assert profile_key(f"linkedin.com/in/{key}") == key


@given(st.text(st.sampled_from("linkedcom./in@:ev?#\\"), max_size=30), st.sampled_from(["ann", "ann-lee"]))
def test_another_site_names_nobody(before: str, handle: str):
    found = profile_key(f"{before}evil.example/in/{handle}")

    assert found is None or "in/" in before.lower()


@pytest.mark.parametrize(
    "text",
    [
        "https://linkedin.com.evil.example/in/ann",
        "https://evil.example/linkedin.com/in/ann",
        "https://linkedin.com@evil.example/in/ann",
        "https://ann:x@linkedin.com/in/ann",
        "https://evillinkedin.com/in/ann",
        "https://evil.example?linkedin.com/in/ann",
        "https://evil.example#@linkedin.com/in/ann",
        "https://linkedin.com\\@evil.example/in/ann",
        "https://lin\u212aedin.com/in/ann",
        "https://www.linkedin.com/pub/ann-lee/1/2/3",
        "https://www.linkedin.com/company/acme",
        "https://www.linkedin.com/company/../in/ann",
        "https://www.linkedin.com/sales/lead/ACwAAAAA,NAME_SEARCH,x",
        "https://www.linkedin.com/in/",
        "https://www.linkedin.com/in//ann",
        "https://www.linkedin.com/in/an\nn",
        "https://www.linkedin.com/in/ann/\t../bob",
        "https://www.linkedin.com",
        "linkedin.com",
        "evil.example",
        "ann@acme.example",
        "ann lee",
        "ann/de",
        "",
        "..",
        "a" * 201,
        *("-", "--", "_", "\u2013", "n/a", "N/A", "na", "x", "12345", "None", "NULL", "unknown", "undefined", "yes"),
        *("in", "me", "feed", "company", "profile", "linkedin.com/in/me", "/in/in/ann", "linkedin.com/in/undefined"),
        *("annlee", "pending", "private", "missing", "keins", "linkedin.com/in/username", "a-"),
        *("linkedin.com/in/-", "https://www.linkedin.com/in/Unavailable"),
    ],
)
def test_what_is_no_profile_is_refused(text: str):
    with pytest.raises(InvalidArgument, match=r"is no LinkedIn profile of a person; give one such as https://"):
        linkedin_profile(text)
    assert profile_key(text) is None
    assert not same_profile(text, text)


def test_a_members_id_keeps_its_case_which_counts():
    one, other = "https://www.linkedin.com/in/ACoAAbCd_1-x", "ACoAABcD_1-x"

    assert (linkedin_profile(one), linkedin_profile(other)) == ("ACoAAbCd_1-x", "ACoAABcD_1-x")
    assert same_profile(one, "ACoAAbCd_1-x")
    assert not same_profile(one, other)


def test_who_somebody_is_goes_by_the_letters_and_a_block_by_what_looks_alike():
    one, other = "/in/stra\u00dfe", "/in/strasse"

    assert not same_profile(one, other)
    assert profile_key(one) == profile_key(other)


@pytest.mark.parametrize("handle", ["jane-lee", "jane.lee-2", "jane1", "m\u00fcller-x"])
def test_a_handle_alone_is_one_where_it_is_no_single_word(handle: str):
    assert linkedin_profile(handle.replace(".", "")) == handle.replace(".", "")


@pytest.mark.parametrize("handle", ["x", "12345", "\u738b", "annlee"])
def test_a_word_or_a_number_is_a_handle_behind_its_path_alone(handle: str):
    assert linkedin_profile(f"linkedin.com/in/{handle}") == handle
    assert profile_key(handle) is None
