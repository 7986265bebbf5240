"""What is known of a tool without knowing the tool: it is said once, where the tool stands, and asked for here.

The rest of the program never decides by a tool's name. It asks what a tool creates, whom it reaches or whether it
deletes, and so a tool that is added later is judged, taken back and counted as it says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any, Literal

from crm_mcp.backends.verbs import Way
from crm_mcp.model import RecordKind


class Effect(StrEnum):
    """What a tool does to the world; annotations, verdict, confirmation and record follow from it."""

    READ = "read"
    WRITE = "write"
    OUTWARD = "outward"
    """Somebody outside is reached: a message, a call, an enrolment."""
    DESTRUCTIVE = "destructive"
    """Something is lost that can't be brought back."""


Created = RecordKind | Literal["any"]
"""A kind of record; `any`: which one is known of the call alone."""


@dataclass(frozen=True)
class Declared:
    """One tool, as the rest of the program knows it."""

    name: str
    effect: Effect
    _: KW_ONLY
    creates: Created | None = None
    """The kind of record that it makes: done twice, it is there twice."""
    idempotent: bool = False
    """Done twice, it shows once: the record has the values that it was given."""
    many: bool = False
    """It makes many of them in one call."""
    writes_addresses: bool = False
    """It puts addresses into the CRM, and so does a vendor's operation that is akin to it."""
    deletes: bool = False
    """It deletes a record."""
    reaches: Way | None = None
    """The channel on which it reaches somebody, or by enrolling them."""
    resends: bool = False
    """What it sends may be sent again on purpose, with `resend_of`."""
    ends_enrolments: bool = False
    """It takes somebody out of a sequence."""
    undoes: bool = False
    """It takes back what another action did."""
    answers: bool = False
    """It gives the answer to a question, and is never itself one."""
    by_action: bool = False
    """It names an action, and with it the connection that the action belongs to."""
    instead: str | Callable[[Mapping[str, Any]], str] = ""
    """What to do about an action of it that keeps nothing to go back to; may depend on its arguments."""


class Tools:
    """All tools, as they are declared."""

    def __init__(self, declared: Iterable[Declared]) -> None:
        self._declared = {each.name: each for each in declared}

    def __iter__(self) -> Iterator[str]:
        """Return their names."""
        return iter(self._declared)

    def get(self, name: str) -> Declared | None:
        """Return the tool of this name; None: there is none, or no longer."""
        return self._declared.get(name)

    def of(self, names: Iterable[str]) -> tuple[Declared, ...]:
        """Return those of these names that there are."""
        return tuple(self._declared[name] for name in names if name in self._declared)

    def enrols(self, name: str) -> bool:
        """Whether the tool of this name brings leads into sequences."""
        return any(each.reaches == "enrolment" for each in self.of((name,)))

    def that(self, is_so: Callable[[Declared], bool]) -> tuple[str, ...]:
        """Return the names of those of which it is so."""
        return tuple(name for name, each in self._declared.items() if is_so(each))

    def one(self, is_so: Callable[[Declared], bool]) -> Declared:
        """Return the only one of which it is so."""
        [name] = self.that(is_so)
        return self._declared[name]
