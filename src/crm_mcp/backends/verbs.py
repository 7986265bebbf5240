"""What the verbs of the capability protocols do, said where each is declared.

A verb without a mark only reads: whoever adds one that writes, sends or deletes marks it, and a test walks every verb
of every CRM to see that no unmarked one writes.
"""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar

from crm_mcp.channels import Channel

F = TypeVar("F", bound=Callable[..., Any])

Way = Channel | Literal["enrolment"]
"""How somebody is reached: on a channel, or by a sequence, which uses channels of its own."""
VerbEffect = Literal["write", "outward", "destructive", "operation"]


@dataclass(frozen=True, slots=True)
class Does:
    """What one verb does."""

    effect: VerbEffect
    """`operation`: as the catalogue says of the operation that it is given."""
    channel: Way | None = None
    """How it reaches the lead that it is given; None: it reaches nobody by itself."""
    record: str | None = None
    """The kind of record that it writes; `any` where an argument says it."""
    field: str | None = None
    """The field that it writes, where its arguments do not name one."""


class Capability(ABC):
    """The root of the protocols: what inherits it directly is a capability."""


def does(
    effect: VerbEffect, *, channel: Way | None = None, record: str | None = None, field: str | None = None
) -> Callable[[F], F]:
    """Mark a verb with what it does."""

    def mark(verb: F) -> F:
        verb.__does__ = Does(effect, channel, record, field)  # type: ignore[attr-defined]
        return verb

    return mark


@cache
def verbs_of(crm: type) -> Mapping[str, Does | None]:
    """Return every name that the protocols of a CRM declare, with what it does; None: it only reads, or is a value."""
    found: dict[str, Does | None] = {}
    for protocol in reversed(crm.__mro__):
        if Capability in protocol.__bases__:
            declared = {**vars(protocol).get("__annotations__", {}), **vars(protocol)}
            found |= {name: getattr(each, "__does__", None) for name, each in declared.items() if name[0] != "_"}
    return found


@cache
def signature(crm: type, verb: str) -> inspect.Signature:
    """Return the signature of a verb as its protocol declares it, without `self`."""
    for protocol in crm.__mro__:
        if Capability in protocol.__bases__ and verb in vars(protocol):
            given = inspect.signature(vars(protocol)[verb])
            return given.replace(parameters=[*given.parameters.values()][1:])
    raise AttributeError(f"no protocol of {crm.__name__} declares {verb}")
