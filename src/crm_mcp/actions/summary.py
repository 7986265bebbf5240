"""What a person is asked, in words: no record passes for more than it is, and no two texts look the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from crm_mcp.actions.intent import Preview
from crm_mcp.model import RecordKind
from crm_mcp.text import behind, neutral, one_line, unmarked

_PLAIN_NAME = re.compile(r"\w[\w .-]*")
"""A name that needs no quotation marks."""


SUMMARY_TEXT = 500
"""Characters of a text that a summary has whole."""
SUMMARY_START = 200
"""Characters that it has of a longer one."""
SUMMARY_MOST = 3_500
"""Characters of a whole summary: `confirm_action` takes it back word for word, and takes 4,000."""
HIDDEN_DIGITS = 32
"""Digits of the fingerprint of a text of which a part is not shown: who proposes it may look for two texts that share
a fingerprint, and of 10 digits a program finds them in two seconds."""
SEEN_DIGITS = 10
"""Those of a text that is shown to its end: they tell apart what differs in white space or quotation marks."""


def escape_markup(text: str) -> str:
    """Return a text from a record for a place without quotation marks, as an address: it begins no quotation of its
    own, and nothing that a client would render instead of show."""
    return unmarked(one_line(text)).replace('"', "'")


def quote(text: str, most: int = SUMMARY_TEXT, start: int = SUMMARY_START) -> str:
    """Return a text for a summary: up to 500 characters whole, else its first 200.

    No two texts give the same: where not all of it is shown as it is, its length and its fingerprint follow.
    """
    # Quotation marks inside become apostrophes: what is quoted can't end its own quotation and go on as something else.
    shown = escape_markup(text)
    if len(shown) > most:
        return f'"{shown[:start]}" ... ({text_fingerprint(text)})'
    return f'"{shown}"' if shown == text else f'"{shown}" ({text_fingerprint(text, SEEN_DIGITS)})'


def quote_json(text: str) -> str:
    """Return JSON for a summary, its quotation marks as apostrophes: where it has none of these, no doubt is left."""
    shown = text.replace('"', "'")
    return f'"{shown}"' if "'" not in text and shown == escape_markup(text) and not is_cut(text) else quote(text)


def show_exactly(text: str) -> str:
    """Return what an agent named for a place without quotation marks; no two give the same."""
    shown = escape_markup(text)
    return shown if shown == text else f"{shown} ({text_fingerprint(text, SEEN_DIGITS)})"


def quote_label(label: str) -> str:
    """Return what a record is called, in quotation marks: its id, which stands beside it, tells it from others."""
    name = escape_markup(label)
    return f'"{name}"' if len(name) <= SUMMARY_TEXT else f'"{name[:SUMMARY_START]}..."'


def text_fingerprint(text: str, digits: int = HIDDEN_DIGITS) -> str:
    """Return what tells a text from all others that look the same in a summary: its length and its fingerprint."""
    fingerprint = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:digits]
    return f"{len(text):,} characters in all, fingerprint {fingerprint}"


def is_cut(text: str) -> bool:
    """Whether a summary has the beginning of a text alone: then the details must have the whole."""
    return len(escape_markup(text)) > SUMMARY_TEXT


def same_words(given: str, own: str) -> bool:
    """Whether a summary is given back word for word: white space between the words of ours may be another, that within
    quotation marks may not. Characters that are not seen are a difference: they can turn what a permission prompt
    shows."""
    return _words(given) == _words(own)


def _words(summary: str) -> list[str]:
    parts = summary.strip().split('"')
    return [part if place % 2 else re.sub(r"\s+", " ", part) for place, part in enumerate(parts)]


def indent_block(text: str) -> str:
    """Return a long text for the details, each line of it marked: none can look like one of ours."""
    return behind("| ", unmarked(neutral(text)))


def humanize(value: Any) -> str:
    """Return a value as a person reads it in a summary; no two values give the same, but for what means nothing."""
    if value is None or value == [] or value == {}:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(humanize(each) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        return f"({humanize_fields(cast('dict[str, Any]', value))})"
    return quote(value) if isinstance(value, str) else str(value)


def humanize_fields(values: Mapping[str, Any]) -> str:
    """Return values with their names, as a person reads them in a summary."""
    return ", ".join(f"{_name(name)}: {humanize(each)}" for name, each in values.items())


def _name(name: str) -> str:
    """Return the name of a value, quoted where it could pass for more than a name: agents name fields."""
    return name if _PLAIN_NAME.fullmatch(name) and one_line(name) == name else quote(name)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what differs between the values shown and those found now, in words; empty where nothing does. Of a record
    only the fields that differ are told."""
    told: list[str] = []
    for name in {**then, **now}:
        old, new = then.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = differences(cast("dict[str, Any]", old), cast("dict[str, Any]", new))
            told += [inner] if inner else []
        elif old != new:
            told.append(f"{_name(name)} was {humanize(old)} and is {humanize(new)}")
    return ", ".join(told)


def full_texts(values: Mapping[str, Any]) -> str:
    """Return in full, a line each, the texts of which `said` shows the beginning; empty where it shows all."""
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += filter(None, [full_texts(cast("dict[str, Any]", value))])
        texts: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        lines += [
            f'all of {_name(name)}: "{escape_markup(each)}"' for each in texts if isinstance(each, str) and is_cut(each)
        ]
    return "\n".join(lines)


def fit_summary(preview: Preview) -> Preview:
    """Return a preview whose summary is one line that can be given back: where that is too long, its whole is in the
    details. What is not seen is in neither."""
    summary = one_line(preview.summary)
    preview = replace(preview, summary=summary, details=neutral(preview.details))
    if len(summary) <= SUMMARY_MOST:
        return preview
    rest = f" ... (cut: {text_fingerprint(summary)})"
    short = summary[: SUMMARY_MOST - len(rest)] + rest
    return replace(preview, summary=short, details="\n".join(filter(None, [f"in full: {summary}", preview.details])))


def name_record(kind: RecordKind, record: str, label: str) -> str:
    """Return how a record is called in a summary."""
    return f"{kind} {escape_markup(label)} ({record})" if label != record else f"{kind} {record}"
