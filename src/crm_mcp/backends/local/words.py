"""What free text finds leads by: the words of a lead, folded, and the terms of a query.

Words are runs of letters and digits, cut here on both sides, so that the index (whose tokenizer leaves them as they
are) and a query can't differ, and nothing that a user writes is ever syntax.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from functools import lru_cache

from crm_mcp.backends.local.labels import folded

Term = tuple[tuple[str, ...], ...]
"""Alternatives, one of which must hold: each some prefixes, all of which must be there."""

NOTES = 20_000
"""How many characters of a lead's newest notes are found."""
INDEXED_PREFIX = 5
"""The longest prefix that the index answers without merging, see `prefix` in the schema."""

LEAST_WITH_PREFIX = 5
"""How many digits a number has at least that is written with a prefix of zeros."""

_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"(?<!\w)\d[\d\s().\-/]{2,}\d(?!\w)")
_TRUNK = re.compile(r"\(0\)")
_NOT_DIGIT = re.compile(r"[^0-9]")


def tokens(text: str) -> list[str]:
    """Return the words of a text, folded."""
    return _WORD.findall(folded(text))


@lru_cache(maxsize=1)
def _calling_codes() -> frozenset[str]:
    import phonenumbers

    return frozenset(str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def number_tokens(phone: str) -> tuple[str, ...]:
    """Return what an E.164 number is found by: all digits, the national ones, the last 7 and the last 4."""
    digits = phone[1:]
    codes = _calling_codes()
    code = next((size for size in (1, 2, 3) if digits[:size] in codes), 0)
    return (digits, digits[code:], digits[-7:], digits[-4:])


def lead_words(texts: Iterable[str | None], phone: str | None, notes: str = "") -> str:
    """Return the words that a lead is found by, each once."""
    found = tokens(" ".join(text for text in texts if text))
    if phone:
        found.extend(number_tokens(phone))
    if notes:
        found.extend(tokens(notes))
    return " ".join(dict.fromkeys(found))


def terms(query: str) -> list[Term] | None:
    """Return the terms of a query, all of which must hold; None where it has nothing to look for."""
    found: list[Term] = []
    start = 0
    for run in _NUMBER.finditer(query):
        found.extend(((word,),) for word in tokens(query[start : run.start()]))
        words = tuple(tokens(run[0]))
        # Zeros in front are a trunk or an international prefix, which E.164 does not have; of the last few digits of
        # a number they are a part.
        digits = _NOT_DIGIT.sub("", _TRUNK.sub("", run[0]))
        if len(digits.lstrip("0")) >= LEAST_WITH_PREFIX:
            digits = digits.lstrip("0")
        found.append((words, (digits,)) if digits and (digits,) != words else (words,))
        start = run.end()
    found.extend(((word,),) for word in tokens(query[start:]))
    return [term for term in dict.fromkeys(found) if any(term)] or None


def match(wanted: Seq[Term], longest: int | None = None) -> str:
    """Return the query in the index's syntax, each prefix cut to at most `longest` characters."""

    def prefix(word: str) -> str:
        return f'"{word[:longest]}"*'

    def term(alternatives: Term) -> str:
        return " OR ".join("(" + " AND ".join(map(prefix, words)) + ")" for words in alternatives)

    return " AND ".join(f"({term(each)})" for each in wanted)


def cut_short(wanted: Seq[Term]) -> bool:
    """Return whether `match` with the indexed length finds more than it should."""
    return any(len(word) > INDEXED_PREFIX for term in wanted for words in term for word in words)


def holding(wanted: Seq[Term]) -> Callable[[str], bool]:
    """Return the test whether the words of a lead hold all terms."""
    spaced = [[[f" {word}" for word in part] for part in term] for term in wanted]
    # Nearly all terms are one word, and a thousand leads are tested at a time.
    plain = [term[0][0] for term in spaced if len(term) == len(term[0]) == 1]
    others = [term for term in spaced if not len(term) == len(term[0]) == 1]

    def holds(words: str) -> bool:
        said = f" {words}"
        for word in plain:
            if word not in said:
                return False
        return not others or all(any(all(word in said for word in part) for part in term) for term in others)

    return holds


def index_lead(db: sqlite3.Connection, lead: int) -> None:
    """Write the words of a lead, which exists in the index or not, anew."""
    row = db.execute(
        "SELECT name, first_name, last_name, email, company, phone FROM leads WHERE n = ?", (lead,)
    ).fetchone()
    notes: list[str] = []
    left = NOTES
    for note in db.execute("SELECT content FROM notes WHERE lead = ? ORDER BY occurred_at DESC, n DESC", (lead,)):
        notes.append(note[0][:left])
        left -= len(note[0])
        if left <= 0:
            break
    text = lead_words(row[:5], row[5], "\n".join(notes))
    db.execute("INSERT OR REPLACE INTO lead_words (rowid, words) VALUES (?, ?)", (lead, text))
