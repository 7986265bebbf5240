"""What the vendors' backends say in the same words where a CRM has not what is asked for, or can't do it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from crm_mcp.errors import InvalidArgument, Unsupported, choices
from crm_mcp.model import DealFilter, LeadFilter, Option, RecordKind, fold


def no_record(kind: str, record: str) -> str:
    """Return what a 404 about a record means."""
    return f'there is no {kind} "{record[:80]}"'


def unknown(kind: str, given: str, valid: Iterable[str]) -> InvalidArgument:
    """Return the error for a value that is none of the valid ones; nothing was written."""
    return InvalidArgument(no_record(kind, given), choices(given, valid), wrote=False)


def meant(kind: str, given: str, options: Sequence[Option]) -> Option:
    """Return the option with this id, else the one with this name, without regard to case.

    Raises:
        InvalidArgument: there is none; the valid ones are named.
    """
    for each in (*(each for each in options if each.id == given), *options):
        if each.id == given or fold(each.name) == fold(given):
            return each
    raise unknown(kind, given, [each.name for each in options])


def refuse_filters(vendor: str, what: str, wanted: LeadFilter | DealFilter, able: Collection[str]) -> None:
    """Raise Unsupported where something is filtered by that a CRM can't filter by; the order is no filter."""
    for name in wanted.shown():
        if name != "sort" and name not in able:
            able_to = ", ".join(sorted(each for each in able if each != "sort"))
            raise Unsupported(f"{vendor} can't filter {what} by {name}", f"it can by {able_to}")


def refuse_sort(sort: str | None, valid: Sequence[str]) -> None:
    """Raise InvalidArgument where leads are wanted in an order that there is not."""
    if sort and sort not in valid:
        raise InvalidArgument(f'sort is "{sort[:80]}"', choices(sort, valid))


def refuse_deleting(vendor: str, kind: RecordKind, able: Collection[RecordKind]) -> None:
    """Raise Unsupported where a CRM can't delete such records."""
    if kind not in able:
        raise Unsupported(f"{vendor} can't delete a {kind}", f"it can delete: {', '.join(sorted(able))}", wrote=False)
