"""What is not seen goes, what is seen stays, over all that a text can be made of."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crm_mcp.model import fold
from crm_mcp.text import neutral, neutral_json, normal, one_line, unescaped, unmarked, unseen

ALL = "".join(map(chr, range(0x110000)))
JOINERS = "\u200c\u200d"
SELECTORS = "\ufe00\ufe0e\ufe0f\U000e0100\U000e01ef\u180b\u180f"
AWKWARD = (
    *JOINERS,
    *SELECTORS,
    *(
        "\x1b",
        "\x1b[",
        "\x1b]8;;",
        "\x9b",
        "\x9d",
        "\x07",
        "\x1b\\",
        "31m",
        "\x9c",
        "\r",
        "\n",
        "\r\n",
        "\u2028",
        "\x85",
    ),
    *("\u200b", "\u202e", "\u2066", "\U000e0041", "\ufff9", "\ud800", "\ufdd0", "\U0010ffff", "\u00ad", "\u3164"),
    *("a", "1", "\u20e3", "é", "क", "\u094d", "ا", "李", "👩", "🔧", "❤", "©", "\u1820", " ", ";", "\\", "["),
)
ESCAPES = {*"\x1b\x90\x98\x9b\x9d\x9e\x9f"}
SEEN = {c for c in ALL if neutral(c) == c and c != "\n"}
awkward = st.lists(st.sampled_from(AWKWARD) | st.characters(), max_size=12).map("".join)
# One character each of what an attacker writes with.
FORBIDDEN = [
    *map(chr, [*range(9), *range(0x0E, 0x1C), 0x1F, *range(0x7F, 0x85), *range(0x86, 0xA0)]),
    *("\u00ad", "\u034f", "\u061c", "\u115f", "\u1160", "\u180e", "\u3164", "\ufeff", "\uffa0"),
    *map(chr, [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFFF9, 0xFFFC)]),
    *map(chr, [*range(0xFE00, 0xFE10), *range(0xE0000, 0xE0080), *range(0xE0100, 0xE01F0)]),
    *map(chr, [0xD800, 0xDFFF, 0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF]),
]
NEEDED = (
    *(
        "👩\u200d🔧",
        "👨\u200d👩\u200d👧",
        "🧑🏽\u200d🤝\u200d🧑🏻",
        "❤\ufe0f\u200d🔥",
        "👁\ufe0f\u200d🗨\ufe0f",
        "🏴\u200d☠\ufe0f",
    ),
    *("1\ufe0f\u20e3", "#\ufe0f\u20e3", "ℹ\ufe0f", "™\ufe0f", "☎\ufe0e"),
    *("می\u200cخواهم", "ශ\u0dca\u200dර\u0dd3", "क\u094d\u200dष", "葛\U000e0100", "e\u0301", "\u1820\u180b", "שָׁלוֹם"),
)


@given(awkward)
@example("\x1b\x1b[31m[31m")
@example("a\ufe0f\u200dé")
@example("👩\u200b\u200d\u200b🔧")
def test_what_is_neutral_stays_as_it_is(text: str) -> None:
    once = neutral(text)

    assert neutral(once) == once
    assert unseen(once) is None
    once.encode()


@given(awkward.filter(lambda text: not {*text} & ESCAPES))
def test_nothing_that_is_seen_goes(text: str) -> None:
    assert [c for c in neutral(text) if c in SEEN] == [c for c in text if c in SEEN]


def test_every_character_that_has_a_look_stays() -> None:
    lost = [c for c in ALL if c not in SEEN and unicodedata.category(c)[0] in "LNPSMZ"]

    # Fillers, selectors and joiners are letters or marks to Unicode, and nothing to the eye.
    blank = [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2028, 0x2029, 0x3164, 0xFFA0]
    assert lost == [*map(chr, sorted([*blank, *range(0xFE00, 0xFE10)])), *map(chr, range(0xE0100, 0xE01F0))]


@pytest.mark.parametrize("character", FORBIDDEN, ids=ascii)
def test_what_is_not_seen_goes_and_is_found(character: str) -> None:
    text = f"Jane{character} Doe"

    assert neutral(text) == "Jane Doe"
    assert unseen(text) == character


@pytest.mark.parametrize("text", NEEDED)
def test_scripts_and_emoji_keep_what_they_are_written_with(text: str) -> None:
    assert neutral(text) == text
    assert neutral(f"x{text} y") == f"x{text} y"
    assert unseen(text) is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\u200db", "ab"),
        ("о\u200dп", "оп"),
        ("👩\u200d\u200d🔧", "👩🔧"),
        ("👩\u200d", "👩"),
        ("❤\ufe0f\ufe0f\ufe01", "❤\ufe0f"),
        ("😀" + "".join(chr(0xE0100 + n) for n in b"send it to"), "😀"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴"),
    ],
)
def test_what_they_do_not_need_goes_even_there(text: str, left: str) -> None:
    assert neutral(text) == left
    assert unseen(text) is not None


@pytest.mark.parametrize(
    "sequence",
    [
        *("\x1b[31m", "\x1b[2J", "\x1b[38;5;1m", "\x1b[?25l", "\x9b31m", "\x1b(B", "\x1b7"),
        *("\x1b]0;title\x07", "\x1b]8;;https://a.example\x1b\\", "\x9d52;c;aGk=\x9c", "\x1bPq#0\x1b\\", "\x1b_x\x9c"),
    ],
    ids=ascii,
)
def test_an_escape_sequence_goes_whole(sequence: str) -> None:
    assert neutral(f"a{sequence}b") == "ab"
    assert neutral(f"{sequence}\n{sequence}é{sequence}") == "\né"


def test_what_a_sequence_without_an_end_would_swallow_stays() -> None:
    assert neutral("\x1b]0;the rest of the note") == "]0;the rest of the note"
    assert neutral("\x1b]0;first\nsecond\x07") == "]0;first\nsecond"
    assert neutral("\x1bJane \x9bDoe\x9b") == "Jane Doe"


@pytest.mark.parametrize(
    "end", ["\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"], ids=ascii
)
def test_every_end_of_a_line_becomes_ours(end: str) -> None:
    assert neutral(f"a{end}b") == "a\nb"
    assert one_line(f"a{end} \tb\n") == "a b"


def test_line_ends_that_are_written_are_seen() -> None:
    assert unseen("one\r\ntwo\rthree\u2028four\tfive\n") is None
    assert unseen("one\x0btwo") == "\x0b"


def test_a_value_is_neutral_in_every_text_and_name_of_it() -> None:
    given = {"na\u200bme": ["x\x1b[1m", ("y\u202e", 1, None, True, 2.5)], "name": {"\ufeff": "\U000e0041"}}

    assert neutral_json(given) == {"name": ["x", ["y", 1, None, True, 2.5]], "name (2)": {"": ""}}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("![x](https://a.example/?q)", "![x] (https://a.example/?q)"),
        ("[here](javascript:x)", "[here] (javascript:x)"),
        ("[x]: https://a.example", "[x] : https://a.example"),
        ("<img src=x>", "< img src=x>"),
        ("</p><!-- hidden -->", "< /p>< !-- hidden -->"),
        ("<https://a.example>", "< https://a.example>"),
        ("&#x202e;&rlm;", "& #x202e;& rlm;"),
        ("5 < 6 & a[1] <3 AT&T", "5 < 6 & a[1] <3 AT&T"),
    ],
)
def test_nothing_begins_that_a_page_would_render(text: str, left: str) -> None:
    assert unmarked(text) == left
    assert unmarked(left) == left


def test_fields_that_look_the_same_are_counted() -> None:
    given = {"a": 1, "a (3)": 2, "a\u200b": 3, "a\u200c": 4, "a\u200b\u200b": 5}

    assert neutral_json(given) == {"a": 1, "a (3)": 2, "a (2)": 3, "a (4)": 4, "a (5)": 5}


marked = st.text(st.sampled_from("aé漢가ᄀ\uff76\uff9e\u0301\u0316\u0327\u0344\u05b0 =") | st.characters(), max_size=60)


@given(marked, st.sampled_from(["NFC", "NFKC", "NFKD"]))
def test_a_normal_form_is_that_of_the_library(text: str, form: Literal["NFC", "NFKC", "NFKD"]) -> None:
    few = re.sub(r"(?:[^\w\s]|[\uff9e\uff9f]){31,}", " ", text)

    assert normal(form, few) == unicodedata.normalize(form, few)


@given(marked)
def test_folding_a_text_takes_its_marks_away_however_many_they_are(text: str) -> None:
    many = text + "\u0316\u0301" * 40

    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    assert fold(many) == fold(text) == fold(plain)


@given(st.text(st.sampled_from("&#x0123456789abg;lt ") | st.characters(), max_size=40))
def test_references_are_what_the_library_says(text: str) -> None:
    assert unescaped(text) == html.unescape(text)


def test_a_reference_of_many_digits_is_no_character() -> None:
    assert unescaped(f"a&#{'9' * 5000};b&#{'0' * 5000}65;c") == "a\ufffdbAc"
