"""Whether what a lead wrote asks for no more messages, or may. Pure.

Of an SMS the whole text counts: one of the words, whatever case, punctuation, courtesy and signature stand around it.
Of an e-mail its first line that quotes nothing does, in the same way. A text that has such a word among others is no
such wish, but may be: that is for a person to read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator

from crm_mcp.model import Channel, Lead
from crm_mcp.text import normal, unescaped

STOP_WORDS = frozenset(("stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"))
HEARD: tuple[Channel, ...] = ("sms", "email")
"""The channels on which a word ends messages."""
LONGEST_WORD = 10_000
"""Characters of the longest text that can be a single word: nobody writes more punctuation around one."""

_COURTESY = frozenset(
    (
        *("please", "pls", "plz", "kindly", "thanks", "thank", "you", "thx", "ty", "tnx", "cheers", "sorry"),
        *("very", "much", "many"),
        *("hi", "hello", "hey", "dear", "sir", "madam", "bye", "best", "kind", "warm", "regards", "sincerely", "yours"),
        *("bitte", "danke", "merci", "svp", "gracias", "grazie", "obrigado", "obrigada"),
    )
)
_NO_NAMES = frozenset(
    (
        *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
        *("january", "february", "march", "july", "september", "october", "november", "december"),
        *("yes", "no", "not", "wait", "ok", "okay", "go", "never", "now", "just", "it", "that", "this", "me"),
    )
)
"""Words of which a capital letter makes nobody's name: what begins with one below a STOP is no signature."""
_SIGNED_LINES = 4
"""Lines of the longest signature that is known by its look alone."""
_SIGNED_BELOW = 8
"""Lines of the longest that stands below an empty line, and begins with a name."""

_MARKUP = re.compile(
    r"(?i)<(?:br|p|div|html|head|body|blockquote|span|table|tr|td|h\d|hr|b|i|u|a|em|strong|font|center|ul|ol|li|pre)\b"
)
_COMMENT = re.compile(r"(?s)<!--.*?(?:-->|\Z)")
_UNREAD = re.compile(r"(?is)<(style|script|title)\b.*?(?:</\1\s*>|\Z)")
_QUOTE = re.compile(r"(?i)(<blockquote\b[^<>]*>|</blockquote\s*>)")
_BREAK = re.compile(r"(?i)</?(?:br|p|div|li|ul|ol|tr|td|th|table|hr|h\d|pre|center|head|body|html)\b[^<>]*>")
_TAG = re.compile("<[^<>]*>")

_REPLY = re.compile(r"(?i)\s*(?:re|aw|sv|antw|fwd?|wg|tr|rv|res)\s*(?:\[\d{1,3}\])?\s*:")
"""What the subject of an answer begins with: the rest of it is what was sent to them."""
_EARLIER = re.compile(
    r"(?i)-{2,}\s*(?:original|forwarded|urspr\S{1,12}|weitergeleitete)\b.{0,60}-|_{10,}$"
    r"|(?:on|am|le|el|il|op|den)\b.{1,300}?\b(?:wrote|schrieb|[eé]crit|escribi[oó]|scritto|schreef|skrev)\b.{0,80}:$"
)
"""The line below which an e-mail repeats an earlier one without marking its lines."""
_BEGUN = re.compile(r"(?i)(?:on|am|le|el|il|op|den)\b[^:]*[\d@]")
"""The first of two lines that introduce what is quoted: the second ends it, as "wrote:" does."""
_HEADER = re.compile(r"(?i)(?:from|von|de|da|van)\s?: ?\S")
_NEXT_HEADER = re.compile(
    r"(?i)(?:sent|date|to|gesendet|datum|an|envoy\S|enviado|para|inviato|a|verzonden|aan)\s?: ?\S"
)
_DEVICE = re.compile(
    r"(?i)(?:sent (?:from|via)|get outlook|(?:von|aus) mein\S{0,2} .{1,40} ge(?:sendet|schickt)"
    r"|gesendet (?:von|mit)|envoy\S (?:de|depuis)|enviado d|inviato da|verzonden v)\b"
)
_RULE = re.compile(r"[-\u2010-\u2015_=*~]{2,}$")
_NAME = r"[^\W\d_a-z][\w.'\u2019]{0,29}"
_NAMES = re.compile(rf"(?:{_NAME})(?:[ ,]{{1,2}}{_NAME}){{0,3}}[.,]?")
_SHOUTED = re.compile(r"[^\W\d_]{3,}")
_APPENDED = re.compile(r"[-\u2010-\u2015~/|,]\s{0,3}([^-\u2010-\u2015~/|,]{1,80})$")
"""A name behind a dash or a comma."""
_REACHED_AT = re.compile(r"[+(]?[\d][\d ().-]{5,20}|\S{1,64}@\S{1,255}|(?:https?://|www\.)\S{1,200}")
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_CONTAINS = re.compile(
    r"(?<!\w)(?:stop|stopall|un-?subscribe|cancel|end|quit|revoke|opt(?:[\s\-_\u2010-\u2015]{0,3})out)(?!\w)"
)


def is_stop(text: str, channel: Channel, subject: str | None = None, names: Collection[str] = ()) -> bool:
    """Whether an inbound message of this text asks for no more of them on its channel.

    `subject` is that of an e-mail, which counts where its text says nothing, and where it is "unsubscribe" itself;
    `names` are the writer's own, in small letters, as `names_of` has them: what it may sign with. Other channels than
    SMS and e-mail have no such word.
    """
    if channel == "sms":
        return len(text) <= LONGEST_WORD and _is_word(text, names)
    if channel != "email":
        return False
    if subject and _is_word(subject[:LONGEST_WORD], ()) and "unsubscribe" in subject.casefold():
        return True  # as programs write it that unsubscribe for somebody
    line = next(_unquoted(text), "")
    if _says_nothing(line):
        line = subject if subject and not _REPLY.match(subject) else line
    return len(line) <= LONGEST_WORD and _is_word(line, names)


def may_be_stop(text: str, channel: Channel, subject: str | None = None, names: Collection[str] = ()) -> bool:
    """Whether an inbound message of this text is none that `is_stop` knows, and has such a word all the same."""
    if channel not in HEARD:
        return False
    said = text
    if channel == "email":
        # Where nothing is left, what the writer has added stands among what is repeated.
        said = "\n".join(_unquoted(text)) or "\n".join(_lines(text))
        said = said if not subject or _REPLY.match(subject) else f"{subject}\n{said}"
    # Few texts have such a word, and to look for one is less work than to read the text.
    return _CONTAINS.search(_seen(said).casefold()) is not None and not is_stop(text, channel, subject, names)


def names_of(lead: Lead) -> frozenset[str]:
    """Return the words that a lead may sign a message with, in small letters."""
    given = (lead.name, lead.first_name, lead.last_name, lead.company)
    words = {word for each in given if each for word in _words(each[:200])}
    return frozenset(words - STOP_WORDS)


def flat(text: str) -> str:
    """Return HTML as text, without what it quotes; other text as it is."""
    if not _MARKUP.search(text):
        return text
    own: list[str] = []
    depth = 0
    for part in _QUOTE.split(_UNREAD.sub("\n", _COMMENT.sub("", text))):
        if _QUOTE.fullmatch(part):
            depth = max(0, depth + (-1 if part.startswith("</") else 1))
            own.append("\n")
        elif depth == 0:
            own.append(part)
    return unescaped(_TAG.sub("", _BREAK.sub("\n", "".join(own))))


# What of a message its writer has said


def _lines(text: str) -> list[str]:
    """Return the lines of an e-mail that say something, without those that are marked as quoted, nor what introduces
    those."""
    lines = [line.strip() for line in flat(text).splitlines()]
    lines = [line for line in lines if line]
    said: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if line.startswith(">"):
            continue
        if not (line.endswith(":") and following.startswith(">")):
            said.append(line)
        elif said and not _BEGUN.match(line) and _BEGUN.match(said[-1]):
            said.pop()
    return said


def _unquoted(text: str) -> Iterator[str]:
    """Yield the lines of an e-mail that are its writer's own."""
    lines = _lines(text)
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if _EARLIER.match(line) or (_HEADER.match(line) and _NEXT_HEADER.match(following)):
            return
        yield line


def _says_nothing(line: str) -> bool:
    """Whether a line is empty, or a signature's."""
    return not _words(line[:LONGEST_WORD]) or _RULE.match(line) is not None or _DEVICE.match(line) is not None


def _is_word(text: str, names: Collection[str]) -> bool:
    """Whether a short text is one of the words, with what courtesy and a signature add."""
    return any(_is_only(each, names) for each in _unsigned(_seen(text), names))


def _is_only(text: str, names: Collection[str]) -> bool:
    for between in ("", " "):  # both "S.T.O.P" and "stop...thanks" are written
        words = _words(text, between)
        if words and all(len(each) == 1 for each in words):  # so is "S T O P"
            words = ["".join(words)]
        while words and words[-1] in names:
            words.pop()
        words = [each for each in words if each not in _COURTESY]
        words = " ".join(words).replace("opt out", "optout").split()
        if words and STOP_WORDS.issuperset(words):
            return True
    return False


def _unsigned(text: str, names: Collection[str]) -> Iterator[str]:
    """Yield a text without each signature that may end it, and as it is."""
    yield text
    lines: list[str] = []
    below: set[int] = set()  # those that an empty line stands before
    for each in text.splitlines():
        if line := each.strip():
            lines.append(line)
        else:
            below.add(len(lines))
    for place in range(1, len(lines)):
        line = lines[place]
        apart = place in below and _begins_signature(lines[place:])
        ruled = _RULE.match(line) and (line == "--" or _is_signature(lines[place + 1 :], names))
        if apart or ruled or _DEVICE.match(line) or _signs(line) or _is_signature(lines[place:], names):
            yield "\n".join(lines[:place])
            break
    else:
        place = len(lines)
    last = " ".join(lines[:place])
    if (found := _APPENDED.search(last)) and _is_name(found[1].strip()):
        yield last[: found.start()]


def _signs(line: str) -> bool:
    """Whether a line is a name behind a dash."""
    name = line.lstrip("-\u2010\u2011\u2012\u2013\u2014\u2015~ ")
    return name != line and _is_name(name)


def _begins_signature(lines: list[str]) -> bool:
    """Whether these lines are a short block that begins with a name, alone or before a stroke or a comma."""
    no_sentences = not any(each[0].islower() and not re.search(r"@|www\.|://", each) for each in lines)
    first = re.split(r"[|,\u2022\u00b7]", lines[0])[0].strip()
    return no_sentences and len(lines) <= _SIGNED_BELOW and _is_name(first)


def _is_signature(lines: list[str], names: Collection[str]) -> bool:
    """Whether these lines are a short block of names and what they are reached at."""
    return len(lines) <= _SIGNED_LINES and all(
        _is_name(each)
        or (_REACHED_AT.fullmatch(each) and not _DATE.fullmatch(each))
        or all(word in _COURTESY or word in names for word in _words(each))
        for each in lines
    )


def _is_name(text: str) -> bool:
    """Whether a text looks like somebody's name: one to four words that begin with a capital, and are no shouting."""
    shouted = any(each.isupper() for each in _SHOUTED.findall(text))
    return _NAMES.fullmatch(text) is not None and not shouted and _NO_NAMES.isdisjoint(_words(text))


def _words(text: str, between: str = " ") -> list[str]:
    """Return the words of a text in small letters, without punctuation and signs, which stand for `between`."""
    plain = (between if unicodedata.category(c)[0] in "PS" else c for c in text)
    return "".join(plain).casefold().split()


def _seen(text: str) -> str:
    """Return a text in its plain letters, without what is not seen."""
    plain = (c for c in normal("NFKC", text) if not "\ufe00" <= c <= "\ufe0f")
    return "".join(c for c in plain if c.isspace() or unicodedata.category(c)[0] != "C")
