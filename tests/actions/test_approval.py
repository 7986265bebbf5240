"""What a person is shown, and what the answer is bound to: digests, quotations, SMS segments."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.actions.confirmation import digest
from crm_mcp.actions.intent import Preview
from crm_mcp.actions.messages import segments
from crm_mcp.actions.summary import SUMMARY_MOST, differences, fit_summary, full_texts, humanize, humanize_fields, quote
from crm_mcp.text import one_line

GSM = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCÄÖÑÜ§¿abcäöñüà"
DOUBLE = "^{}\\[~]|€"
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", (1, "GSM-7")),
        ("a" * 160, (1, "GSM-7")),
        ("a" * 161, (2, "GSM-7")),
        ("a" * 306, (2, "GSM-7")),
        ("a" * 307, (3, "GSM-7")),
        ("€" * 80, (1, "GSM-7")),
        ("€" * 80 + "a", (2, "GSM-7")),
        ("à" * 160, (1, "GSM-7")),
        ("á" + "a" * 69, (1, "UCS-2")),
        ("á" + "a" * 70, (2, "UCS-2")),
        ("á" * 134, (2, "UCS-2")),
        ("á" * 135, (3, "UCS-2")),
        ("😀" * 35, (1, "UCS-2")),
        ("😀" * 35 + "a", (2, "UCS-2")),
        ("“quoted”", (1, "UCS-2")),
    ],
)
def test_segments_at_the_borders_of_both_alphabets(text: str, wanted: tuple[int, str]):
    assert segments(text) == wanted


@given(plain_part=st.text(GSM, max_size=400), double=st.text(DOUBLE, max_size=200))
def test_a_text_of_the_gsm_alphabet_is_counted_in_septets(plain_part: str, double: str):
    length = len(plain_part) + 2 * len(double)

    count, alphabet = segments(plain_part + double)

    assert alphabet == "GSM-7"
    assert count == 1 if length <= 160 else (count - 1) * 153 < length <= count * 153


@given(st.text(max_size=400), st.sampled_from("áλ😀中“"))
def test_one_foreign_character_makes_the_whole_text_ucs_2(text: str, foreign: str):
    length = sum(1 + (ord(each) > 0xFFFF) for each in text + foreign)

    count, alphabet = segments(text + foreign)

    assert alphabet == "UCS-2" or foreign in GSM
    assert count == 1 if length <= 70 else (count - 1) * 67 < length <= count * 67


@given(ARGUMENTS, st.randoms(use_true_random=False))
def test_a_digest_does_not_depend_on_the_order_of_arguments(arguments: dict[str, Any], random: Any):
    mixed = list(arguments.items())
    random.shuffle(mixed)

    assert digest("tool", "crm", dict(mixed)) == digest("tool", "crm", arguments)


@given(ARGUMENTS, ARGUMENTS)
def test_a_digest_depends_on_every_argument(one: dict[str, Any], other: dict[str, Any]):
    same = repr(sorted(one.items())) == repr(sorted(other.items()))

    if same or one != other:
        assert (digest("tool", "crm", one) == digest("tool", "crm", other)) == same


def test_a_digest_depends_on_tool_and_connection():
    assert len({digest(tool, crm, {}) for tool in ("a", "b", "ab") for crm in ("a", "b", "")}) == 9


def marked(text: str, digits: int) -> str:
    """Return what tells a text from all others that look the same."""
    return f"{len(text):,} characters in all, fingerprint {hashlib.sha256(text.encode()).hexdigest()[:digits]}"


def test_a_text_is_quoted_whole_up_to_500_characters_and_else_by_its_start_length_and_fingerprint():
    long = "x" * 200 + "y" * 1301

    assert quote("x" * 500) == f'"{"x" * 500}"'
    assert quote(long) == f'"{"x" * 200}" ... ({marked(long, 32)})'
    assert marked(long, 32) == "1,501 characters in all, fingerprint d51cc44a8186dc97a2827cafaf70de36"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hi\n\n  Jane \t!", "Hi Jane !"),
        ("Hi  Jane", "Hi Jane"),
        ("Hi\u00a0Jane", "Hi Jane"),
        ('say "hi"', "say 'hi'"),
        ("<b>Hi</b>", "< b>Hi< /b>"),
        ("Hi ", "Hi"),
    ],
)
def test_a_text_that_is_not_shown_as_it_is_says_which_one_it_is(text: str, shown: str):
    assert quote(text) == f'"{shown}" ({marked(text, 10)})'
    assert quote(shown) == f'"{shown}"'


@given(st.text(max_size=600))
def test_a_quotation_is_one_line_that_survives_normalising(text: str):
    shown = quote(text)

    assert one_line(shown) == shown
    assert "\n" not in shown


def test_differences_name_each_value_that_is_another():
    then = {"name": "Jane", "phone": "+1", "gone": 1}

    assert differences(then, dict(then)) == ""
    assert differences(then, {"name": "Jane", "phone": "+2", "new": 2}).startswith(
        'phone was "+1" and is "+2", gone was 1'
    )


def test_a_long_text_in_a_value_is_said_in_part_and_is_whole_in_the_details():
    short, long = "a" * 500, "b" * 501
    values = {"note": short, "custom": {"Story": long, "Size": 7}, "lines": ["c", long]}
    part = f'"{"b" * 200}" ... ({marked(long, 32)})'

    assert humanize_fields(values) == f'note: "{short}", custom: (Story: {part}, Size: 7), lines: "c", {part}'
    assert humanize(values) == f"({humanize_fields(values)})"
    assert full_texts(values) == f'all of Story: "{long}"\nall of lines: "{long}"'
    assert full_texts({"note": short}) == ""


@pytest.mark.parametrize("size", [SUMMARY_MOST, SUMMARY_MOST + 1, 100_000])
def test_a_summary_can_be_given_back_and_what_it_has_no_room_for_is_in_the_details(size: int):
    preview = fit_summary(Preview("s" * size, "can't be undone"))

    assert len(preview.summary) <= SUMMARY_MOST
    assert "s" * size in preview.text
    assert preview.text.endswith("\ncan't be undone")
    assert preview.summary.endswith(f" ... (cut: {marked('s' * size, 32)})") == (size > SUMMARY_MOST)
