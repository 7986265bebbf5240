"""SalesSheet's REST API as its help article describes it: terms, lists, and filters that may have been ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from crm_mcp.backends.http import ApiProfile, Query, after_write
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.lists import Rows, as_row, whole, window
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.remote import (
    Access,
    Remote,
    key_of,
    overridden,
    part_in,
    record_if_shown,
    record_in,
    refuse_unkept,
    rows_in,
    text,
    total_in,
)
from crm_mcp.backends.salessheet.codec import Json, contact_of, known_by
from crm_mcp.backends.salessheet.keys import Keys
from crm_mcp.errors import InvalidArgument, OutcomeUnknown, Unsupported
from crm_mcp.model import Account, Deal, DealFields, Page, Record, Slice, Task, TaskFields

R = TypeVar("R", bound=Record)

NAME = "SalesSheet"
CONTACTS, DEALS, TASKS, ACTIVITIES, PIPELINES, ME = (
    "/contacts",
    "/deals",
    "/tasks",
    "/activities",
    "/pipelines",
    "/me",
)
BATCH = f"{CONTACTS}/batch"
SINGULAR = {CONTACTS: "contact", DEALS: "deal", TASKS: "task", ACTIVITIES: "activity", PIPELINES: "pipeline"}
OURS = {CONTACTS: "lead", DEALS: "deal", TASKS: "task", ACTIVITIES: "note"}

PAGE = 100
"""The documented size of a batch, and so, inferred, of a page: neither maximum nor default of `per_page` is given."""
MOST_PAGES = 10
"""How many pages are looked through where the CRM does not do it."""

_HINTS = {
    401: "check CRM_MCP_API_KEY: a new one needs a few seconds to become active, a revoked one never"
    " works again, and each stops working with the user who made it",
    402: "SalesSheet's API needs a Pro or Enterprise plan",
    403: "the key may be read-only, its user may lack the right, or the plan may be a free one: the API needs Pro or"
    " Enterprise",
}

_PLANS = {100: "Pro", 500: "Enterprise"}


@dataclass(frozen=True)
class Looked(Generic[R]):
    """What was found in a list that was looked through; `whole` is False where there is more than ten pages."""

    items: list[R]
    whole: bool


class SalesSheetApi(Remote):
    """How SalesSheet is spoken to. Documented: Bearer key, HTTPS, JSON, the limits of both plans and their headers."""

    vendor: ClassVar[str] = "salessheet"
    called: ClassVar[str] = NAME
    base_url: ClassVar[str] = "https://api.salessheets.ai/v1"
    limits: ClassVar[Limits] = Limits(
        per_minute=100, per_day=5_000, plans=((100, 5_000), (500, 50_000)), page=PAGE, batch=100
    )

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._keys = overridden(Keys(), access.keys, self.vendor)

    @classmethod
    def profile(cls, address: str, access: Access) -> ApiProfile:
        """Return what is documented of the API's manners."""
        return ApiProfile(NAME, address, access.key, hints=_HINTS)

    async def check(self) -> Account:
        """Read `GET /me`: user and organisation (documented); scope and plan as far as it tells them.

        The plan is else told by the limit of calls a minute, which every answer gives (documented): 100 is Pro, 500
        Enterprise.
        """
        told = record_in(await self._api.read("GET", ME))
        user, organisation = part_in(told, "user"), part_in(told, "organization", "organisation")
        key = part_in(told, "api_key", "key")
        plan = next((found for each in (organisation, told) if (found := text(each.get("plan")))), None)
        limit = next((each.limit for each in self._api.budget() if each.name == "minute"), 0)
        scope = next((found for each in (key, told) if (found := text(each.get("scope")))), None)
        known = [each for each in (plan or _PLANS.get(limit), scope) if each]
        name = text(organisation.get("name"))
        return Account(
            user=text(user.get("email")) or text(user.get("name")) or text(told.get("email")) or text(told.get("name")),
            found=f"organisation {name}" if name else "the key works",
            plan=", ".join(known) or None,
        )

    def _rows(self, path: str, query: Query, sort: str = "", *, asked: bool = False) -> Rows:
        """Return what fetches the pages of a list.

        `sort` is a key, with `-` before it for descending. Which fields can be sorted by is not documented: an order
        that nobody has `asked` for is given up where the CRM refuses it.
        """
        order = {"sort_by": sort.lstrip("-"), "sort_order": "desc" if sort.startswith("-") else "asc"} if sort else {}

        async def fetch(number: int, size: int) -> tuple[list[Any], int | None]:
            place = {"page": number, "per_page": size}
            try:
                answer = await self._api.read("GET", path, {**query, **order, **place})
            except InvalidArgument:
                if asked or not order:
                    raise
                order.clear()
                answer = await self._api.read("GET", path, {**query, **place})
            return rows_in(answer, path[1:]), _total(answer)

        return fetch

    async def _page(self, fetch: Rows, decode: Callable[[Json], R], part: Slice) -> Page[R]:
        """Return a part of a list. What is no record in it counts for the position, and is left out."""
        page = await window(fetch, as_row, part, PAGE)
        records = tuple(decode(each.row) for each in page.items if each.row)
        return Page[R](items=records, next=page.next, total=page.total)

    async def _one(self, path: str, record: str, kind: str = "") -> Json:
        """Read one record. Raises NotFound in our words."""
        return await self._record(path + "/{}", record, kind or OURS[path], SINGULAR[path], known_by)

    async def _made(self, path: str, body: Mapping[str, Any]) -> Json:
        """Create a record and return it as it is now.

        Raises:
            OutcomeUnknown: the answer does not say which record was made.
        """
        singular = SINGULAR[path]
        answer = await self._api.write("POST", path, body)
        if isinstance(answer, dict) and (link := body.get(self._keys.contact)):
            refuse_written_other(str(link), contact_of(record_in(cast("Json", answer), singular), self._keys))
        if found := _whole_record(answer, singular, body):
            return found
        record = key_of(record_if_shown(answer, singular))
        if record is None:
            what = f"SalesSheet took the {OURS[path]} and did not say which record it made of it"
            raise OutcomeUnknown(what, "look for it in SalesSheet before trying again")
        with after_write():
            return await self._one(path, record)

    async def _changed(self, path: str, record: str, changes: Mapping[str, Any]) -> Json:
        """Change fields of a record and return it as it is now.

        With PATCH: both verbs are documented and their difference is not, so PUT may empty what it does not name.
        """
        shown = await self._written_to("PATCH", path + "/{}", record, OURS[path], SINGULAR[path], changes)
        if key_of(shown) and changes.keys() <= shown.keys():
            return shown
        with after_write():
            return await self._one(path, record)

    async def _sifted(
        self, fetch: Rows, decode: Callable[[Json], R], fits: Callable[[R], bool], part: Slice, *, narrow: str
    ) -> Page[R]:
        """Return the part of a list that fits. The position is the offset in what the CRM gives.

        A parameter that the CRM does not know it may ignore: every row is looked at, and up to ten pages are, where
        the first ones have too few that fit.

        Raises:
            Unsupported: none of a thousand rows fits and there are more; `narrow` says what works instead.
        """
        kept: list[R] = []
        position, total, honoured = part.position, None, True
        for _ in range(MOST_PAGES):
            page = await window(fetch, as_row, Slice(limit=PAGE, position=position), PAGE)
            start = whole(position.partition(":")[0] if position else None)
            _, colon, size = (page.next or position or "").partition(":")
            total = page.total
            for index, each in enumerate(page.items):
                if not each.row:
                    continue
                item = decode(each.row)
                if not fits(item):
                    honoured = False
                elif len(kept) == part.limit:
                    return Page[R](
                        items=tuple(kept), next=f"{start + index}{colon}{size}", total=total if honoured else None
                    )
                else:
                    kept.append(item)
            position = page.next
            if position is None:
                first = part.position is None
                return Page[R](items=tuple(kept), total=len(kept) if first else (total if honoured else None))
            if len(kept) == part.limit:
                break
        if not kept:
            raise Unsupported(
                f"SalesSheet does not filter by this as far as its answer shows, and has more than"
                f" {MOST_PAGES * PAGE:,} records to look through",
                narrow,
            )
        return Page[R](items=tuple(kept), next=position, total=total if honoured else None)

    async def _looked_through(
        self, fetch: Rows, decode: Callable[[Json], R], fits: Callable[[R], bool], *, cut: bool = False
    ) -> Looked[R]:
        """Read a list to its end, or ten pages of it, and return what fits.

        A list that is known to be longer is read no further than its first page, unless a part of it, `cut`, serves.
        """
        items: list[R] = []
        position: str | None = None
        for _ in range(MOST_PAGES):
            page = await self._page(fetch, decode, Slice(limit=PAGE, position=position))
            items.extend(each for each in page.items if fits(each))
            position = page.next
            if position is None:
                return Looked(items, whole=True)
            if not cut and page.total is not None and page.total > MOST_PAGES * PAGE:
                break
        return Looked(items, whole=False)


def _whole_record(answer: Any, singular: str, sent: Mapping[str, Any]) -> Json | None:
    """Return the record in the answer to a write, None where it is not there with all that was sent."""
    if not isinstance(answer, dict):
        return None
    found = record_in(cast("Json", answer), singular)
    return found if key_of(found) and set(sent) <= set(found) else None


def _total(answer: Any) -> int | None:
    """Return how many rows there are, where a list says it: by itself, or in `meta` or `pagination` (inferred)."""
    if (found := total_in(answer)) is not None or not isinstance(answer, dict):
        return found
    inside = cast("Json", answer)
    return next((n for name in ("meta", "pagination") if (n := total_in(inside.get(name))) is not None), None)


def refuse_partly_made(made: Task | Deal, fields: TaskFields | DealFields, lead: str | None) -> None:
    """Raise VendorError where a record was made without a field, or without the lead, that it was given."""
    lost = [each for each in fields.model_dump(exclude_none=True) if getattr(made, each) is None]
    lost += ["lead"] if lead and made.lead_id is None else []
    refuse_unkept(NAME, lost, f"{made.id}, which it created,")


def refuse_unchanged(before: Task | Deal, after: Task | Deal, wanted: Iterable[str], what: str) -> None:
    """Raise VendorError where a field that was to change is as it was; `what` is the record."""
    refuse_unkept(NAME, [each for each in wanted if getattr(after, each) == getattr(before, each)], what)
