"""Whether what a lead wrote asks for no more messages, or may. Pure.

Of an SMS the whole text counts: one of the words, whatever case, punctuation, courtesy and signature stand around it.
Of an e-mail its first line that quotes nothing does, in the same way. A text that has such a word among others is no
such wish, but may be: that is for a person to read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Literal

from crm_mcp.channels import HEARD, Channel
from crm_mcp.model import Lead
from crm_mcp.text import neutral, normal, rendered

STOP_WORDS = frozenset(("stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"))
"""The channels on which a word ends messages."""
LONGEST_WORD = 10_000
"""Characters of the longest text that can be a single word: nobody writes more punctuation around one."""

_WHOLE = frozenset(("stopall", "unsubscribe", "optout"))
"""Words that say all: whatever name stands behind or below is a signature."""
_ENDING = frozenset(("cancel", "end"))
"""Words that mostly end something: a name behind is a signature only where it is the writer's, or set off."""
_COURTESY = frozenset(
    (
        *("please", "pls", "plz", "kindly", "thanks", "thank", "you", "thx", "ty", "tnx", "cheers", "sorry"),
        *("very", "much", "many"),
        *("hi", "hello", "hey", "dear", "sir", "madam", "bye", "best", "kind", "warm", "regards", "sincerely", "yours"),
        *("bitte", "danke", "merci", "svp", "gracias", "grazie", "obrigado", "obrigada"),
    )
)
_CLOSING = frozenset(
    (
        *("thanks", "you", "thx", "ty", "tnx", "cheers", "bye", "best", "regards", "sincerely", "yours"),
        *("danke", "merci", "gracias", "grazie", "obrigado", "obrigada"),
    )
)
"""Courtesy that ends a message: a name may follow it."""
_NO_NAMES = frozenset(
    (
        *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
        *("january", "february", "march", "july", "september", "october", "november", "december"),
        *("yes", "no", "not", "wait", "ok", "okay", "go", "never", "now", "just", "it", "that", "this", "me"),
        *("the", "my", "our", "your", "all", "next", "today", "tonight", "tomorrow"),
    )
)
"""Words of which a capital letter makes nobody's name: what begins with one behind a STOP is no signature."""
_WORD_LINES = 4
"""Lines over which a word and its courtesy may be spread."""
_SIGNED_LINES = 8
"""Lines of the longest signature that is known by its look."""
_STROKES = 6
"""So many dashes and commas of a line are looked at for one that a name stands behind."""

_EARLIER = re.compile(
    r"(?i)-{2,}\s*(?:original|forwarded|urspr\S{1,12}|weitergeleitete)\b.{0,60}-|_{10,}$"
    r"|(?:on|am|le|el|il|op|den)\b.{1,300}?\b(?:wrote|schrieb|[eé]crit|escribi[oó]|scritto|schreef|skrev)\b.{0,80}:$"
)
"""The line below which an e-mail repeats an earlier one without marking its lines."""
_BY_ADDRESS = re.compile(r"[<(\[](?:mailto:)?[^\s<>()@]{1,64}@[^\s<>()@]{1,255}[>)\]]")
_WHEN = re.compile(r"(?<!\d)(?:\d{4}|\d{1,2}[:.h]\d\d)(?!\d)")
"""A year, or a time of day."""
_LONGEST_INTRODUCTION = 500
_COLONS = (":", "\uff1a")
_BEGUN = re.compile(r"(?i)(?:on|am|le|el|il|op|den|em|dne|dnia|în)\b[^:]*[\d@]")
"""The first of two lines that introduce what is quoted: the second ends it, as "wrote:" does."""
_DEVICE = re.compile(
    r"(?i)(?:sent (?:from|via)|get outlook|(?:von|aus) mein\S{0,2} .{1,40} ge(?:sendet|schickt)"
    r"|gesendet (?:von|mit)|envoy\S (?:de|depuis)|enviado d|inviato da|verzonden v)\b"
)
_RULE = re.compile(r"[-\u2010-\u2015_=*~]{2,}$")
_NAME = r"[^\W\d_a-z][\w.'\u2019]{0,29}"
_NAMES = re.compile(rf"(?:{_NAME})(?:[ ,]{{1,2}}{_NAME}){{0,3}}[.,]?")
_SHOUTED = re.compile(r"[^\W\d_]{3,}")
_STROKE = re.compile(r"[-\u2010-\u2015~/|,]")
_MAIL = re.compile(r"\S{1,64}@\S{1,255}")
_PAGE = re.compile(r"(?:https?://|www\.)\S{1,200}")
_NUMBER = re.compile(r"(?=(?:\D{0,3}\d){7})(?:[+(]\d|\d{1,5}[ ().-])[\d ().-]{4,20}")
"""A telephone number: a row of digits alone may be that of an order."""
_DATE = re.compile(r"\d{1,4}[ ./-]{1,2}\d{1,2}[ ./-]{1,2}\d{1,4}\.?")
_BLANKS = str.maketrans(dict.fromkeys("\u2122\u2120\u115f\u1160\u3164\uffa0", " "))
"""Signs that would become letters, and letters that are seen as blanks."""
_ALIKE = str.maketrans(
    "АВЕІКОРСТЅԚӀаеіорсѕтԁԛѵкӏгΑΒΕΙΚΝΟΡΤΑαινορτκυϲıİɑꜱᴛᴏᴘᴀʟᴜɴʙᴄʀɪᴇᴅᴠᴋ",
    "ABEIKOPCTSQlaeiopcstdqvklrABEIKNOPTAaivoptkuciIastopalunbcriedvk",
)
"""Letters of other scripts, and small capitals, that look like those of which the words are made."""


# The longest patterns are built when they are needed: start-up counts.


@cache
def _wrote() -> re.Pattern[str]:
    """What somebody did whose words are quoted."""
    words = (
        *("wrote", "schrieb", "[eé]crit", "escribi[oó]", "scritto", "schreef", "skrev", "escreveu", "napisał"),
        *("kirjoitti", "napsal", "írta", "a scris", "yazdı", "έγραψε", "написал", "пише"),
    )
    return re.compile(rf"(?i)\b(?:{'|'.join(words)})|書きました|のメール|写道|寫道|작성")


@cache
def _headers() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The first and the second line of those that stand above an earlier e-mail: who sent it, and when or to whom."""
    first = (
        *("from", "von", "de", "da", "van", "od", "från", "fra", "lähettäjä", "от", "від", "kimden", "feladó", "de la"),
        *("από", "差出人", "发件人", "寄件者", "보낸 사람"),
    )
    second = (
        *("sent", "date", "to", "gesendet", "datum", "an", r"envoy\S", "enviado", "para", "inviato", "a", "verzonden"),
        *("aan", "data", "wysłano", "skickat", "sendt", "lähetetty", "отправлено", "дата", "кому", "надіслано"),
        "tarih",
        *("gönderildi", "elküldve", "dátum", "trimis", "στάλθηκε", "odesláno"),
        *("送信日時", "日期", "发送时间", "寄件日期", "보낸 날짜"),
    )
    begun, further = (re.compile(rf"(?i)(?:{'|'.join(each)})\s?[:\uff1a] ?\S") for each in (first, second))
    return begun, further


@cache
def _reply() -> re.Pattern[str]:
    """What the subject of an answer begins with: the rest of it is what was sent to them."""
    words = (
        *("re", "aw", "antw", "antwort", "fwd?", "fw", "wg", "tr", "rv", "res", "r[eé]f", "rif", "r", "i", "odp", "pd"),
        *("sv", "vs", "vb", "vl", "ynt", "ilt", "vá", "απ", "σχετ", "πρθ", "отв", "ответ", "на", "пересл", "enc"),
        *("doorst", "回复", "回覆", "答复", "答覆", "转发", "轉寄", "返信", "転送", "답장", "회신", "전달"),
    )
    outside, count = r"(?:\[[^\[\]]{1,20}\]\s?)?", r"\s?(?:[\[(]\d{1,3}[\])])?\s?"
    return re.compile(rf"(?i)(?:\s*{outside}(?:{'|'.join(words)}){count}[:\uff1a])+")


@cache
def _contains() -> re.Pattern[str]:
    """One of the words among others: also with signs between its letters, spelt out, or bent as "opting out" is.

    Only letters make it another word, as in "weekend".
    """
    sign, letter = r"(?:_|[^\w\s])", r"[^\W\d_]"
    whole = [each for each in sorted(STOP_WORDS) if each != "optout"]
    broken = (f"{sign}{{0,2}}".join(each) for each in whole)
    spelt = (r"[\W_]{1,3}".join(each) for each in (*whole, "optout"))
    bent = (
        "unsubscrib(?:es|ed|ing)",
        rf"opt(?:s|ed|ing)?(?:[\W\d_]{{1,3}}{letter}{{1,12}}){{0,3}}[\W\d_]{{0,3}}out",
    )
    first = "".join(sorted({each[0] for each in STOP_WORDS}))
    return re.compile(rf"(?<!{letter})(?=[{first}])(?:{'|'.join((*broken, *spelt, *bent))})(?!{letter})")


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
        line = subject if subject and not _reply().match(subject) else line
    return len(line) <= LONGEST_WORD and _is_word(line, names)


def may_be_stop(text: str, channel: Channel, subject: str | None = None, names: Collection[str] = ()) -> bool:
    """Whether an inbound message of this text is none that `is_stop` knows, and has such a word all the same."""
    if channel not in HEARD:
        return False
    said = text
    if channel == "email":
        own = list(_unquoted(text))
        # Where nothing is left, what the writer has added stands among what is repeated.
        said = "\n".join(own or _lines(text))
        answered = _reply().match(subject) if subject else None
        if subject and not answered:
            said = f"{subject}\n{said}"
        elif answered and subject and _says_nothing(own[0] if own else ""):
            rest = subject[answered.end() :][:LONGEST_WORD]
            said = f"{rest}\n{said}" if _is_word(rest, names) else said
    # Few texts have such a word, and to look for one is less work than to read the text.
    return _has_word(said) and not is_stop(text, channel, subject, names)


def names_of(lead: Lead) -> frozenset[str]:
    """Return the words that a lead may sign a message with, in small letters."""
    given = (lead.name, lead.first_name, lead.last_name, lead.company)
    words = {word for each in given if each for word in _words(_seen(each[:200]))}
    return frozenset(words - STOP_WORDS - _NO_NAMES)


# What of a message its writer has said


def _lines(text: str) -> list[str]:
    """Return the lines of an e-mail that say something, without those that are marked as quoted, nor what introduces
    those."""
    lines = [line.strip() for line in rendered(text).splitlines()]
    lines = [line for line in lines if line]
    said: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if line.startswith(">"):
            continue
        # Of "Please stop sending me this:" nobody may think that it only introduces what is quoted.
        introduces = line.endswith(_COLONS) and following.startswith(">")
        if not introduces or (_has_word(line) and not _introduces(line)):
            said.append(line)
        elif said and _is_begun(said[-1], line):
            said.pop()
    return said


def _unquoted(text: str) -> Iterator[str]:
    """Yield the lines of an e-mail that are its writer's own."""
    lines = _lines(text)
    sender, sent = _headers()
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if _introduces(line) or (sender.match(line) and sent.match(following)):
            return
        if _BEGUN.match(line) and _introduces(f"{line} {following}") and _is_begun(line, following):
            return
        earlier = _EARLIER.match(line)
        if not earlier or _has_word(line):
            yield line
        if earlier:
            return


def _introduces(line: str) -> bool:
    """Whether a line says when somebody wrote what stands below it: with the address, or the word in some language.

    One that has a stop word does not, unless it has the address: a name may be made of such a word.
    """
    if not line.endswith(_COLONS) or len(line) > _LONGEST_INTRODUCTION or not _WHEN.search(line):
        return False
    return bool(_BY_ADDRESS.search(line) or (_wrote().search(line) and not _has_word(line)))


def _is_begun(line: str, following: str) -> bool:
    """Whether what introduces a quotation is written over these two lines."""
    begun = _BEGUN.match(line) and not _BEGUN.match(following)
    return bool(begun or (not _introduces(following) and _introduces(f"{line} {following}"))) and not _has_word(line)


def _says_nothing(line: str) -> bool:
    """Whether a line is empty, or a signature's."""
    return not _words(line[:LONGEST_WORD]) or _RULE.match(line) is not None or _DEVICE.match(line) is not None


def _has_word(text: str) -> bool:
    """Whether one of the words stands in a text: one with an accent is not it, and yet may have been meant."""
    return _contains().search(_seen(text, "NFKD").casefold()) is not None


def _is_word(text: str, names: Collection[str]) -> bool:
    """Whether a short text is one of the words, with what courtesy and a signature add."""
    text = _seen(text)
    if _stop_words(text, names):
        return True
    lines = [each.strip() for each in text.strip().splitlines()]
    written = [place for place, line in enumerate(lines) if line][:_WORD_LINES]
    for place in written:
        head, below = "\n".join(lines[: place + 1]), lines[place + 1 :]
        words = _stop_words(head, names)
        whole = _WHOLE.issuperset(words)
        if words and _is_signature(below, names, apart=_closes(head), of_any_name=whole):
            return True
    return any(_is_signed(lines[: place + 1], lines[place + 1 :], names) for place in written)


def _is_signed(lines: list[str], below: list[str], names: Collection[str]) -> bool:
    """Whether these lines are one of the words and, behind a dash or a comma in the last of them, a name."""
    for stroke in list(_STROKE.finditer(lines[-1]))[: -_STROKES - 1 : -1]:
        head = "\n".join([*lines[:-1], lines[-1][: stroke.start()]])
        if words := _stop_words(head, names):
            behind = lines[-1][stroke.end() :].strip()
            most = 4 if _WHOLE.issuperset(words) or _closes(head) else 1 if _ENDING.isdisjoint(words) else 0
            known = _is_own(behind, names) or (_is_name(behind) and len(_words(behind)) <= most)
            return known and (not below or _is_signature(below, names, apart=True))
    return False


def _stop_words(text: str, names: Collection[str]) -> set[str]:
    """Return the words of a text, where it has nothing else but courtesy and, behind them, the writer's names."""
    for between in ("", " "):  # both "S.T.O.P" and "stop...thanks" are written
        words = _words(text, between)
        if words and all(len(each) == 1 for each in words):  # so is "S T O P"
            words = ["".join(words)]
        words = " ".join(each for each in words if each not in _COURTESY).replace("opt out", "optout").split()
        if words and words[0] in STOP_WORDS and all(each in STOP_WORDS or each in names for each in words):
            return {each for each in words if each in STOP_WORDS}
    return set()


def _closes(text: str) -> bool:
    """Whether a text ends with such courtesy as a name follows."""
    return not _CLOSING.isdisjoint(_words(text)[-1:])


def _is_signature(lines: Sequence[str], names: Collection[str], *, apart: bool, of_any_name: bool = False) -> bool:
    """Whether these lines, which stand below one of the words, are a signature: names and what they are reached at.

    A name that is not the writer's is one where something sets it off (`apart`): an empty line, a rule, courtesy, a
    long dash, an address with the same name; or where any name is. Empty lines are "".
    """
    if "--" in lines:  # whatever stands below it is a signature, if it begins as one
        place = lines.index("--")
        below = [each for each in lines[place + 1 :] if each][:1]
        return _is_signature(lines[:place], names, apart=apart, of_any_name=of_any_name) and (
            bool(below) and _is_signature(below, names, apart=True)
        )
    if sum(map(bool, lines)) > _SIGNED_LINES:
        return any(map(_DEVICE.match, lines[:2]))
    for place, line in enumerate(lines):
        below = [each for each in lines[place:] if each]
        if _DEVICE.match(line):
            return True
        if apart and line and _begins_signature(below):
            return True
        dashed = line.lstrip("~\u2014\u2015 ")
        if _is_own(line, names):  # and so is an empty one, and a rule
            apart = apart or not line or _RULE.match(line) is not None or _closes(line)
        elif _is_name(dashed):
            if not (apart or of_any_name or dashed != line or _has_address(below[1:], dashed)):
                return False
        elif not _is_reached_at(line, place > 0 or apart):
            return False
    return True


def _begins_signature(lines: list[str]) -> bool:
    """Whether these lines are a short block that begins with a name, alone or before a stroke or a comma."""
    no_sentences = not any(each[0].islower() and not re.search(r"@|www\.|://", each) for each in lines)
    first = re.split(r"[|,\u2022\u00b7]", lines[0])[0].strip()
    return no_sentences and len(lines) <= _SIGNED_LINES and _is_name(first)


def _has_address(lines: Sequence[str], name: str) -> bool:
    """Whether an e-mail address with a part of this name stands in these lines."""
    addresses = [each.casefold() for each in lines if _MAIL.fullmatch(each)]
    return any(len(word) > 1 and word in each for word in _words(name) for each in addresses)


def _is_reached_at(line: str, signed: bool) -> bool:
    """Whether a line is an address or a number; a page is one only below a name."""
    if _NUMBER.fullmatch(line) and not _DATE.fullmatch(line):
        return True
    return _MAIL.fullmatch(line) is not None or (signed and _PAGE.fullmatch(line) is not None)


def _is_own(text: str, names: Collection[str]) -> bool:
    """Whether a text has nothing but courtesy and the writer's names, or is their initials."""
    initials = text.isupper() and 1 < len(text) == len(set(text)) < 4
    if initials and {each[0] for each in names}.issuperset(text.casefold()):
        return True
    return all(each in _COURTESY or each in names for each in _words(text))


def _is_name(text: str) -> bool:
    """Whether a text looks like somebody's name: one to four words that begin with a capital, and are no shouting."""
    shouted = any(each.isupper() for each in _SHOUTED.findall(text))
    return _NAMES.fullmatch(text) is not None and not shouted and _NO_NAMES.isdisjoint(_words(text))


def _words(text: str, between: str = " ") -> list[str]:
    """Return the words of a text in small letters, without punctuation and signs, which stand for `between`."""
    signs = {ord(c): between for c in set(text) if unicodedata.category(c)[0] in "PS"}
    return text.translate(signs).casefold().split()


def _seen(text: str, form: Literal["NFKC", "NFKD"] = "NFKC") -> str:
    """Return a text in its plain letters, without what is not seen, and without marks that are no part of a letter: in
    NFKD no accent is."""
    text = normal(form, neutral(text.translate(_BLANKS))).translate(_ALIKE)
    unseen = (c for c in set(text) if unicodedata.category(c)[0] in "CM" and not c.isspace())
    return text.translate(dict.fromkeys(map(ord, unseen)))
