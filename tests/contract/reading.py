"""Reading lists to their end, what may be refused, and people to put into a CRM."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from typing import Any, TypeVar

from crm_mcp.errors import InvalidArgument, Unsupported
from crm_mcp.model import LeadDraft, Page, Record, Slice

R = TypeVar("R", bound=Record)
T = TypeVar("T")
Fetch = Callable[[Slice], Awaitable[Page[R]]]
MOST_PAGES = 400


async def every(fetch: Fetch[R], limits: Sequence[int] = (100,)) -> list[R]:
    """Return all rows of a list, read with these limits in turn; no page has more than it may have."""
    found: list[R] = []
    position: str | None = None
    for number, limit in enumerate(cycle(limits)):
        assert number < MOST_PAGES, "the list has no end"
        page = await fetch(Slice(limit=limit, position=position))
        assert len(page.items) <= limit
        found.extend(page.items)
        position = page.next
        if position is None:
            break
    return found


async def unless_refused(answer: Awaitable[T], said: str) -> T | None:
    """Return an answer; None where the CRM can't do it, or does not know a value, and says so in a text with `said`."""
    try:
        return await answer
    except (InvalidArgument, Unsupported) as error:
        if said not in str(error):
            raise
        return None


def someone(number: int = 1, **more: Any) -> LeadDraft:
    """Return one of a thousand people; each has a name, an address and a number of their own."""
    fields: dict[str, Any] = {
        "first_name": f"Ann{number}",
        "last_name": f"Vale{number}",
        "email": f"ann{number}@crowd{number % 3}.example",
        "phone": f"+1{212 + number // 100}555{100 + number % 100:04d}",
        "company": f"Company {number % 3}",
    }
    return LeadDraft.model_validate({**fields, **more})
