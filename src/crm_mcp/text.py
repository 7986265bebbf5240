"""Text from outside: without what is not seen but changes what is read.

What leads, notes, messages and transcripts contain was written by strangers. A screen does not show all of it: escape
sequences hide or move text, marks turn its direction, characters without width or from the block of tags carry whole
sentences that a model reads and a person does not see. `neutral` takes all that out; `unseen` finds it in what an agent
writes, where it is refused instead. Both go by the one definition here. `rendered` reads HTML as a browser shows it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from itertools import pairwise
from typing import Any, Literal, cast

# What Unicode calls default-ignorable (shown as nothing where it is not understood), and the rest that is no text:
# controls but tab and line feed, deprecated marks, annotations, halves of surrogate pairs, noncharacters.
_CONTROLS = "\x00-\x08\x0e-\x1f\x7f-\x9f"
_MARKS = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_NO_CHARACTERS = "\ud800-\udfff\ufdd0-\ufdef" + "".join(
    f"{chr(plane << 16 | 0xFFFE)}-{chr(plane << 16 | 0xFFFF)}" for plane in range(17)
)
_UNSEEN = _CONTROLS + _MARKS + _NO_CHARACTERS
_BREAKS = "\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
"""What ends a line in some eyes, besides the line feed."""

DOT = "\u00b7"
"""Stands where a character is that is not seen."""

# Joiners stay between two characters of those scripts and emoji that are written with them, one at a time; a selector
# stays behind one character that it can select a form of. So neither carries more than the look of what is seen.
_JOINED = f"[^{_UNSEEN}\x00-\u05ff\u1e00-\u218f\u3000]"
_SELECTED = (
    f"(?:{_JOINED}|[\u00a9\u00ae\u203c\u2049\u2122\u2139])[\ufe00-\ufe0f]"
    "|[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd][\U000e0100-\U000e01ef]"
    "|[\u1820-\u18aa][\u180b-\u180d\u180f]"
    "|[0-9#*]\ufe0f(?=\u20e3)"
)
_NEEDED = f"(?:{_SELECTED}|{_JOINED})[\u200c\u200d](?={_JOINED})|{_SELECTED}"

# Escape sequences, whole: a string up to its terminator, a control with its parameters, a change of alphabet. A lone
# escape, or a byte of another encoding that looks like one, takes nothing along that is seen.
_STRING = "(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x08\x0a-\x1f\x7f-\x9f]{0,4096}(?:\x07|\x1b\\\\|\x9c)"
_ESCAPE = f"{_STRING}|\x1b\\[[0-?]*[ -/]*[@-~]|\x9b[0-?]+[ -/]*[@-~]|\x1b(?:[!-/]{{1,2}}[0-~]|[78=>])"

_CROWD = re.compile(r"(?:[^\w\s\x00-\x7f]|[\uff9e\uff9f]){32}")
"""So many in a row of which each may be a mark on the letter before it, or become one."""
_ZEROS = re.compile("&#0+(?=[0-9])")
_LONG_NUMBER = re.compile("&#[1-9][0-9]{7,}")
"""A reference to no character, of as many digits as somebody likes."""
_BLOCKS = frozenset(
    (
        *("html", "head", "body", "address", "article", "aside", "blockquote", "br", "caption", "center", "dd", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6"),
        *("header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tbody", "td", "tfoot", "th"),
        *("thead", "tr", "ul"),
    )
)
"""The elements of HTML that begin and end a line."""
_UNREAD = ("script", "style", "title")
_WITHIN = ("a", "b", "code", "em", "font", "i", "img", "link", "meta", "s", "span", "strong", "u", *_UNREAD)
"""Further ones by which a text is known for HTML."""
_QUOTED = re.compile(r"(?m)^[ \t]*>")
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(:])")


def neutral(text: str) -> str:
    """Return a text without what is not seen but changes what is read; the line ends of other systems become ours.

    What is seen stays, and so do the joiners and selectors that scripts and emoji need.
    """
    return _found().sub(_kept, text) if _is_suspect(text) else text


def neutral_json(value: Any) -> Any:
    """Return a JSON value whose texts are all neutral: the names of fields, too. No field is lost by it."""
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, list | tuple):
        return [neutral_json(each) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields: dict[Any, Any] = {}
    alike: dict[Any, int] = {}
    for given, each in cast("dict[Any, Any]", value).items():
        name = seen = neutral(given) if isinstance(given, str) else given
        while name in fields:  # two that look the same are two still
            alike[seen] = alike.get(seen, 1) + 1
            name = f"{seen} ({alike[seen]})"
        fields[name] = neutral_json(each)
    return fields


def unseen(text: str) -> str | None:
    """Return the first character of a text that a person would not see; None where all is seen.

    Line ends are seen, and so are joiners and selectors where they are needed.
    """
    for found in _found().finditer(text) if _is_suspect(text) else ():
        if not found["needed"] and found[0] not in ("\r\n", "\r", "\u2028", "\u2029"):
            return found[0][0]
    return None


def one_line(text: str) -> str:
    """Return a text neutral and in one line, its white space as single spaces."""
    return " ".join(neutral(text).split())


def in_quotes(text: str, most: int) -> str:
    """Return a name from outside in quotation marks: one line, cut to `most` characters, that can't end them."""
    line = one_line(text).replace('"', "'")
    return f'"{line}"' if len(line) <= most else f'"{one_line(line[:most])}..."'


def behind(margin: str, text: str) -> str:
    """Return a text neutral and with each of its lines behind a margin: so none can look like a line of ours."""
    return "\n".join(f"{margin}{line}" for line in neutral(text).splitlines())


def dotted(text: str) -> str:
    """Return a text in one line in which a dot stands for each character that is not seen, so that it shows."""
    shown = _found().sub(lambda found: found["needed"] or _suspect().sub(DOT, found[0]), text)
    return shown.replace("\n", DOT).replace("\t", DOT)


def json_line(value: Any, indent: int | None = None) -> str:
    """Return JSON that says the same to a program, and hides nothing from a person: what is not seen is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _suspect().sub(lambda found: json.dumps(found[0])[1:-1], text)


def unmarked(text: str) -> str:
    """Return a text in which nothing begins that a page would render instead of show: no tag or comment, no entity, no
    link or picture. A space breaks it up; all that was there is read still."""
    return _MARKUP.sub(r"\g<0> ", text)


def normal(form: Literal["NFC", "NFKC", "NFKD"], text: str) -> str:
    """Return a text in a normal form of Unicode.

    The marks on one letter are sorted, for which the library takes the square of their number: of more than anybody
    writes, each few are sorted by themselves. So the time grows with the text alone.
    """
    if text.isascii():
        return text
    ends = [0, *(found.end() for found in _CROWD.finditer(text)), len(text)]
    return "".join(unicodedata.normalize(form, text[a:b]) for a, b in pairwise(ends))


def unescaped(text: str) -> str:
    """Return the text of HTML without tags: with the characters that its references stand for."""
    import html

    if "&" not in text:
        return text
    # The library reads the number first, of which Python refuses very long ones.
    return html.unescape(_LONG_NUMBER.sub("&#99999999", _ZEROS.sub("&#", text)))


def rendered(text: str) -> str:
    """Return HTML as the lines that a browser shows, with "> " before those that it quotes; of other text only the
    references are read.

    Each character is looked at a few times at most, whatever strangers write. (The library's parser is no help here: of
    a tag or comment that never ends it takes the square of the length, and some declarations raise an error.)
    """
    if not _html().search(text):
        return unescaped(text)
    page, pieces = _Page(), _piece().split(text)
    for shown, ends, tag, inside in zip(pieces[::4], pieces[1::4], pieces[2::4], pieces[3::4], strict=False):
        if shown:
            page.line.append(shown)
        if tag and (name := tag.lower()) in _BLOCKS:
            page.block(name, inside or "", ends=bool(ends))
    page.line.append(pieces[-1])
    page.end_line()
    return "\n".join(page.lines).strip()


class _Page:
    """The lines of HTML, as its blocks are read."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line: list[str] = []
        """What of the next line has been read, as it is written."""
        self.quotes: list[bool] = []
        """Of each block that may quote and is open, whether it does."""
        self.depth = 0
        """How many of them do."""
        self.as_set = False
        """Whether line ends are shown."""

    def block(self, tag: str, inside: str, *, ends: bool) -> None:
        """Begin or end a block; `inside` is what its tag has besides its name."""
        if tag == "br":
            self.end_line(always=True)
        elif self.line:
            self.end_line()
        if tag == "pre":
            self.as_set = not ends
        elif tag == "blockquote" and not ends:
            self.quotes.append(not _indents(inside))
            self.depth += self.quotes[-1]
        elif tag == "blockquote" and self.quotes:
            self.depth -= self.quotes.pop()

    def end_line(self, *, always: bool = False) -> None:
        """End the line; an empty one is none, unless `always`."""
        text = unescaped("".join(self.line))
        self.line.clear()
        # In a text with a tag among its words quoted lines have their mark, and line ends are meant.
        if text.strip() and (self.as_set or _QUOTED.search(text)):
            lines = text.strip("\r\n").splitlines()
        elif (line := _one_spaced(text)) or always:
            lines = [line]
        else:
            return
        self.lines += [f"> {each}" for each in lines] if self.depth else lines


def _one_spaced(text: str) -> str:
    """Return a text in one line with single spaces, as HTML is shown."""
    # Most lines are so already; what breaks or tabs is not printable.
    return (text if text.isprintable() and "  " not in text else _space().sub(" ", text)).strip(" ")


def _indents(inside: str) -> bool:
    """Whether a block of quotation is one without a line beside it: so mail programs indent what somebody writes."""
    style = "".join(inside.lower().split())
    return "border:none" in style and "border-left" not in style


# The patterns take ten milliseconds to build: start-up counts.


@cache
def _suspect() -> re.Pattern[str]:
    return re.compile(f"[{_BREAKS}{_UNSEEN}]")


@cache
def _found() -> re.Pattern[str]:
    return re.compile(f"(?P<needed>{_NEEDED})|{_ESCAPE}|(?P<line>\r\n|[{_BREAKS}])|[{_UNSEEN}]")


@cache
def _html() -> re.Pattern[str]:
    return re.compile(rf"(?i)</?(?:{'|'.join(sorted((*_BLOCKS, *_WITHIN)))})(?=[\s/>])[^<>]*>")


@cache
def _piece() -> re.Pattern[str]:
    """What of HTML is not shown: comments, elements whose text is not, declarations, and tags, of which it has the
    stroke, the name and the rest. What only looks like one, as an address in angle brackets, is text."""
    unread = (rf"<{name}(?=[\s/>])[^<>]*(?<!/)>.*?(?:</{name}(?=[\s/>])[^<>]*>|\Z)" for name in _UNREAD)
    # A quotation mark that nothing ends is one of the text.
    inside = """[^<>"']*(?:"[^"]*"[^<>"']*|'[^']*'[^<>"']*)*|[^<>]*"""
    parts = (r"<!--(?:-?>|.*?(?:--!?>|\Z))", *unread, "<[!?][^<>]*>", rf"<(/?)([a-z][a-z0-9:-]*)([\s/](?:{inside}))?>")
    return re.compile(f"(?is){'|'.join(parts)}")


@cache
def _space() -> re.Pattern[str]:
    return re.compile(f"[ \t\n{_BREAKS}]+")


def _is_suspect(text: str) -> bool:
    return not (text.isascii() and text.isprintable()) and _suspect().search(text) is not None


def _kept(found: re.Match[str]) -> str:
    return found["needed"] or ("\n" if found["line"] else "")
