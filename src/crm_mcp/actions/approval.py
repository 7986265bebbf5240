"""What a person is asked, and how the answer is bound to exactly that.

A question is a row of the store before it is asked: the row keeps the arguments that will run and every value that the
preview showed or the action uses. The answer serves once, for the same caller, within ten minutes, and only while those
values are still the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, Protocol, cast

from crm_mcp.actions.policy import Effect
from crm_mcp.model import Lead, RecordKind

GOOD_FOR = timedelta(minutes=10)
ANSWER_WITHIN = 45.0
"""Seconds that a client of the older protocol has for its answer: the call stays open meanwhile."""


@dataclass(frozen=True)
class Preview:
    """What would happen.

    `summary` is one line with everything a person must know to say yes: channel, name, address, text. `details` adds to
    it. `facts` holds every value that the two show or the action uses; a confirmation is void when one has changed.
    """

    summary: str
    details: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lead: str | None = None
    size: int = 1
    blocked: str | None = None
    """The rule that forbids it now, in words."""
    confirm: bool = False
    """It is asked even where the policy allows it."""
    person_only: bool = False
    """Only a person who is asked may approve it: no token."""
    effect: Effect | None = None
    """The effect of this very call, where its arguments decide it."""
    also: tuple[str, ...] = ()
    """Other tools whose work this does: the strictest verdict of them all counts."""
    lead_read: Lead | None = None
    """The lead as it was read for this: what is done is done to it as it is here."""

    @property
    def text(self) -> str:
        """The whole preview, as it is shown."""
        return f"{self.summary}\n{self.details}" if self.details else self.summary


@dataclass(frozen=True)
class Done:
    """What happened: the fields that the contract's table names for the tool, and what is needed to take it back."""

    summary: str
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lead: str | None = None
    touched: tuple[tuple[str, str], ...] = ()
    undo: Mapping[str, Any] | None = None
    """What this action keeps for its own undo; see `actions.undo`."""
    undone: str | None = None
    """The action that was taken back."""
    size: int = 1


@dataclass(frozen=True)
class Question:
    """A question to the person in front of the client; `id` is that of its action."""

    id: str
    text: str


SUMMARY_TEXT = 500
SUMMARY_MOST = 3_500
"""Characters of a whole summary: `confirm_action` takes it back word for word, and takes 4,000."""
# Zero-width joiners stay: scripts and emoji are written with them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
Answer = Literal["yes", "no", "dismissed", "silence"]


class Client(Protocol):
    """What is known of the one who calls, and how its user is asked."""

    @property
    def caller(self) -> str:
        """Who calls: stable over processes."""
        ...

    @property
    def fallback(self) -> Literal["token", "deny"]:
        """What guards it when it can't be asked."""
        ...

    @property
    def answering(self) -> str | None:
        """The action whose question this call answers; None for a first call."""
        ...

    @property
    def can_be_asked(self) -> bool:
        """Whether it has declared form elicitation."""
        ...

    async def ask(self, question: Question) -> Answer:
        """Put the question to the user; may end the call and resume when it is made again with the answer."""
        ...

    async def progress(self, done: int, total: int) -> None:
        """Say how far a long call has come."""
        ...


def digest(tool: str, connection: str, arguments: Mapping[str, Any]) -> str:
    """Return the fingerprint that a confirmation is bound to."""
    canonical = json.dumps([tool, connection, arguments], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def plain(text: str) -> str:
    """Return text as it is shown and as summaries are compared: white space normalised, and without the characters
    that are not seen but change what is: controls, marks that turn the direction of what follows, tags."""
    return re.sub(r"\s+", " ", _UNSEEN.sub("", text)).strip()


def bare(text: str) -> str:
    """Return a text from a record for a place without quotation marks, as an address: it can't begin any of its own."""
    return plain(text).replace('"', "'")


def quoted(text: str) -> str:
    """Return a text for a summary: up to 500 characters whole, else its first 200 and its length."""
    # Quotation marks inside become apostrophes: what is quoted can't end its own quotation and go on as something else.
    one_line = bare(text)
    if len(one_line) <= SUMMARY_TEXT:
        return f'"{one_line}"'
    return f'"{one_line[:200]}" ... ({len(text)} characters in all)'


def said(value: Any) -> str:
    """Return a value as a person reads it in a summary."""
    if value is None or value == [] or value == {}:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(said(each) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {said(each)}" for name, each in cast("dict[str, Any]", value).items())
    return quoted(value) if isinstance(value, str) else str(value)


def whole(values: Mapping[str, Any]) -> str:
    """Return in full, a line each, the texts of which `said` shows the beginning; empty where it shows all."""
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += filter(None, [whole(cast("dict[str, Any]", value))])
        texts: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        lines += [
            f'{name}: "{bare(each)}"' for each in texts if isinstance(each, str) and len(bare(each)) > SUMMARY_TEXT
        ]
    return "\n".join(lines)


def bounded(preview: Preview) -> Preview:
    """Return a preview whose summary can be given back: where that is too long, its whole is in the details."""
    summary = preview.summary
    if len(summary) <= SUMMARY_MOST:
        return preview
    short = f"{summary[: SUMMARY_MOST - 60]} ... (cut: {len(summary)} characters in all)"
    return replace(preview, summary=short, details="\n".join(filter(None, [f"in full: {summary}", preview.details])))


def named(kind: RecordKind, record: str, label: str) -> str:
    """Return how a record is called in a summary."""
    return f"{kind} {bare(label)} ({record})" if label != record else f"{kind} {record}"
