"""What the four vendors' backends share: what they are given, pages, merged histories, and the long tail."""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from crm_mcp.address import address_key, phone_number
from crm_mcp.backends.base import Backend, HasOperations
from crm_mcp.backends.catalog import Catalog, Operation, load
from crm_mcp.backends.http import Api, ApiProfile, Method, at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.rate_limit import MINUTE, Limits, RateLimit
from crm_mcp.errors import InvalidArgument, SettingsError, VendorError, choices
from crm_mcp.model import Activity, Budget, CustomValue, Deal, Group, Page, Record, Slice, fold

_POSITIONS = TypeAdapter(dict[str, tuple[str | None, Annotated[int, Field(ge=0)]]])
R = TypeVar("R", bound=Record)
K = TypeVar("K")
Fetch = Callable[[Slice], Awaitable[Page[Activity]]]
ONE_CUSTOM = "custom_fields."
"""Before the name of a single custom field to empty."""
NAMELESS = "(none)"
"""The group of what has no value to be grouped by."""
SMALLEST_MAXIMUM = 10
"""No vendor is known whose pages have fewer rows at most."""
Rows = Callable[[int, int], Awaitable[tuple[list[Any], int | None]]]
"""Fetches page N (from 1) of so many rows: the rows, and how many there are in all where the vendor says it."""


@dataclass(frozen=True)
class Access:
    """What a connection is given by the settings."""

    key: SecretStr
    rate_limit_file: Path
    base_url: str | None = None
    """Another address than the vendor's."""
    country: str | None = None
    """Of national phone numbers."""
    team_id: str | None = None
    mailbox: str | None = None
    sender: str | None = None
    list: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    """Corrections of inferred keys."""
    per_minute: int | None = None
    """Another limit of calls than the vendor's; what the vendor says does not raise it."""
    minute: float = MINUTE
    """The length of a minute, in seconds: an emulator may run on a faster clock."""


class Remote(Backend, HasOperations):
    """A vendor's CRM behind its REST API."""

    base_url: ClassVar[str]
    limits: ClassVar[Limits]

    def __init__(self, access: Access) -> None:
        limits = replace(self.limits, per_minute=access.per_minute or self.limits.per_minute)
        address = (access.base_url or self.base_url).rstrip("/")
        account = f"{self.vendor} {address} {access.key.get_secret_value()}"
        pace = RateLimit(account, limits, access.rate_limit_file, most=access.per_minute, minute=access.minute)
        self._access = access
        self._api = Api(self.profile(address, access), pace)

    @classmethod
    @abstractmethod
    def profile(cls, address: str, access: Access) -> ApiProfile:
        """Return how this vendor's API is spoken to."""

    @property
    def catalog(self) -> Catalog:
        """Every documented operation."""
        return load(self.vendor)

    async def budget(self) -> tuple[Budget, ...]:
        """Say how many calls are left."""
        return self._api.budget()

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._api.aclose()

    async def operate(self, operation: Operation, arguments: Mapping[str, Any]) -> Any:
        """Carry out an operation of the catalogue."""
        rest = dict(arguments)
        place = {each.name: each.place for each in operation.parameters}
        names = re.findall(r"{(\w+)}", operation.path)
        path = at(re.sub(r"{\w+}", "{}", operation.path), *(str(rest.pop(name)) for name in names))
        # What is not described goes where the method has its arguments.
        asks = ("query", "filter", None) if operation.method == "GET" else ("query", "filter")
        query = {
            f"filter[{name}]" if place.get(name) == "filter" else name: _in_query(rest.pop(name))
            for name in list(rest)
            if place.get(name) in asks
        }
        items = next((name for name in rest if place.get(name) == "items"), None)
        body: Any = rest[items] if items else (rest or None)
        method: Method = operation.method
        if operation.effect_of(arguments) == "read":
            return await self._api.read(method, path, query, body)
        answer = await self._api.write(method, path, body, query, bulk=operation.bulk)
        if method in ("PUT", "PATCH") and (own := re.fullmatch(r"[^{}]*{(\w+)}", operation.path)):
            refuse_written_other(str(arguments[own[1]]), shown_in(answer))
        return answer

    def number(self, text: object) -> str | None:
        """Return a phone number of the vendor's in E.164; as it is where it is none."""
        if not isinstance(text, str) or not text.strip():
            return None
        try:
            return phone_number(text, self._access.country)
        except InvalidArgument:
            return text.strip()

    def same_address(self, one: str | None, other: str) -> bool:
        """Whether two ways to write an address or number mean the same."""
        return one is not None and address_key(one) == address_key(other)


def overridden(keys: K, given: Mapping[str, str], vendor: str) -> K:
    """Return a table of inferred keys with the settings' corrections.

    Raises:
        SettingsError: the table has no such key; the valid ones are named.
    """
    valid = [each.name for each in fields(cast("Any", keys))]
    for name in given:
        if name not in valid:
            raise SettingsError(f'keys of {vendor}: "{name}" is none; {choices(name, valid)}')
    return replace(cast("Any", keys), **given)


async def window(fetch: Rows, decode: Callable[[Any], R], part: Slice, most: int = 100) -> Page[R]:
    """Return the rows after an offset from a vendor that counts pages.

    The position is `40:20`: the offset, and the size of the pages, which stays what the first call showed that the
    vendor really gives, whatever is asked for later. A page may therefore have fewer rows than `part.limit`.
    """
    place, _, known = (None, "", "") if part.position is None else part.position.partition(":")
    offset, size = whole(place), whole(known or None)
    first: tuple[list[Any], int | None] | None = None
    if not size:
        size, first = await _first_page(fetch, min(part.limit, most))
    number = offset // size + 1
    rows, total = first if first and number == 1 else await fetch(number, size)
    start = offset - (number - 1) * size
    wanted = rows[start : start + part.limit]
    end = offset + len(wanted)
    more = end < total if total is not None else start + len(wanted) < len(rows) or len(rows) >= size
    following = f"{end}:{size}" if more and wanted else None
    return Page[R](items=tuple(decode(row) for row in wanted), next=following, total=total)


async def _first_page(fetch: Rows, asked: int) -> tuple[int, tuple[list[Any], int | None]]:
    """Return the size that a vendor's pages really have, and the first page.

    A page that is shorter than was asked for is the last one, or the vendor's own maximum. Where no total tells them
    apart, the next page does; it is looked at only where the number could be a maximum.
    """
    rows, total = await fetch(1, asked)
    found = len(rows)
    if found > asked:
        # It does not heed the size; without a total, it is taken not to heed the page either: these are all.
        return (found, (rows, total)) if total is not None else (found + 1, (rows, found))
    capped = 0 < found < asked and total is not None and total > found
    if total is None and SMALLEST_MAXIMUM <= found < asked and found % 5 == 0:
        following, _ = await fetch(2, asked)
        capped = bool(following) and following != rows
    return (found if capped else asked), (rows, total)


def part_of(rows: Sequence[R], part: Slice, *, total: int | None = None) -> Page[R]:
    """Return a part of a list that the vendor gives as a whole; the position is an offset."""
    offset = whole(part.position)
    items = tuple(rows[offset : offset + part.limit])
    end = offset + len(items)
    return Page[R](items=items, next=str(end) if end < len(rows) else None, total=len(rows) if total is None else total)


async def merged(sources: Mapping[str, Fetch], since: datetime | None, part: Slice) -> Page[Activity]:
    """Merge histories that are newest first each into one that is.

    The position keeps, for each source, the position of its page (null at its end) and how many rows of that page have
    been given.
    """
    places = _places(sources, part.position)
    pages: dict[str, Page[Activity]] = {}

    async def head(name: str) -> Activity | None:
        while (position := places[name][0]) is not None:
            if name not in pages:
                pages[name] = await sources[name](Slice(limit=100, position=position or None))
            page, given = pages[name], places[name][1]
            if given < len(page.items):
                return page.items[given]
            places[name] = (page.next if page.next != position else None, 0)
            del pages[name]
        return None

    taken: list[Activity] = []
    while True:
        heads = {name: found for name in sources if (found := await head(name))}
        newest = max(heads, key=lambda each: _at(heads[each]), default=None)
        if newest is None or (since and _at(heads[newest]) < since):
            return Page[Activity](items=tuple(taken))
        if len(taken) == part.limit:
            return Page[Activity](items=tuple(taken), next=json.dumps(places))
        taken.append(heads[newest])
        places[newest] = (places[newest][0], places[newest][1] + 1)


def whole(position: str | None) -> int:
    """Return the offset that a position stands for."""
    if position is None:
        return 0
    if not position.isdecimal() or len(position) > 9:
        raise InvalidArgument("cursor is not one of this list", "leave it out to start anew")
    return int(position)


def rows_in(answer: Any, *names: str) -> list[Any]:
    """Return the rows of a list, which stand under one of `names`, `data`, the one key that has a list, or alone.

    Raises:
        VendorError: there is no list in it.
    """
    if isinstance(answer, list):
        return cast("list[Any]", answer)
    if isinstance(answer, dict):
        found = cast("dict[str, Any]", answer)
        for name in (*names, "data"):
            if isinstance(found.get(name), list):
                return cast("list[Any]", found[name])
        lists = [cast("list[Any]", each) for each in found.values() if isinstance(each, list)]
        if len(lists) == 1:
            return lists[0]
    raise VendorError("the CRM's answer has no list", "try again", detail=_outline(answer), wrote=False)


def total_in(answer: Any) -> int | None:
    """Return how many rows there are in all, where a list says it."""
    found = cast("dict[str, Any]", answer).get("total") if isinstance(answer, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def count_in(value: object) -> int | None:
    """Return how many a batch's answer counts: a number, or a list of as many; None where it is neither."""
    if isinstance(value, list):
        return len(cast("list[Any]", value))
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def record_in(answer: Any, *names: str) -> dict[str, Any]:
    """Return the record of an answer, which stands under one of `names`, `data`, or alone.

    Raises:
        VendorError: there is no record in it.
    """
    if isinstance(answer, dict):
        found = cast("dict[str, Any]", answer)
        # A record may have a field of such a name itself.
        wrapped = () if len(found) > 1 and ("id" in found or "uuid" in found) else (*names, "data")
        for name in wrapped:
            if isinstance(found.get(name), dict):
                return cast("dict[str, Any]", found[name])
        return found
    raise VendorError("the CRM's answer has no record", "try again", detail=_outline(answer))


def shown_in(answer: Any) -> str | None:
    """Return the id of the record that an answer to a write shows, alone or under the name of its kind; None where it
    shows none."""
    found = record_in(answer, "lead") if isinstance(answer, dict) else {}
    inner = list(found.values())
    row = cast("dict[str, Any]", inner[0]) if len(inner) == 1 and isinstance(inner[0], dict) else found
    return text(row.get("id")) or text(row.get("uuid"))


def text(value: object) -> str | None:
    """Return a vendor's value as text; None where it is empty."""
    if value is None or isinstance(value, dict | list | bool):
        return None
    return str(value).strip() or None


def moment(value: object) -> datetime | None:
    """Return a vendor's time: RFC 3339, a date, or Unix seconds; without a zone it is UTC. None where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        except (OverflowError, OSError, ValueError):
            return None
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def refuse_unkept(vendor: str, lost: Sequence[str], what: str = "") -> None:
    """Raise where a write was answered with success and the record shows that fields were not taken.

    Names are inferred: a CRM that ignores what it does not know would otherwise let us claim what is not so.

    Raises:
        VendorError: there are `lost` fields; `what` is the record that was written.
    """
    if lost:
        raise VendorError(
            f"{vendor} took the request{f' for {what}' if what else ''} and did not keep {', '.join(lost)}",
            f"its API may call that otherwise, or not have it: see docs/{vendor.lower()}.md on keys",
            wrote=True,
        )


def refuse_clearing(given: Mapping[str, Any], clear: Sequence[str], valid: Sequence[str]) -> None:
    """Check the names of fields to empty; `custom_fields.NAME` is one where custom fields can be emptied.

    Raises:
        InvalidArgument: one is no such field, or is given a value as well.
    """
    custom = cast("Mapping[str, Any]", given.get("custom_fields") or {})
    for each in clear:
        one = each.removeprefix(ONE_CUSTOM) if each.startswith(ONE_CUSTOM) and "custom_fields" in valid else ""
        if each not in valid and not one:
            raise InvalidArgument(f'"{each[:80]}" is no field to clear', choices(each, valid), wrote=False)
        if given.get(each) not in (None, {}) or one in custom:
            raise set_and_cleared(each)


def set_and_cleared(name: str) -> InvalidArgument:
    """Return the error for a field that is given a value and emptied."""
    return InvalidArgument(f'"{name[:80]}" is both set and cleared', "do one of the two", wrote=False)


def grouped(named: Iterable[tuple[str | None, float]], order: Sequence[str] = ()) -> tuple[Group, ...]:
    """Count and sum by name: first the groups of `order`, empty ones too, then others by name, the nameless last."""
    found: dict[str, tuple[int, float]] = dict.fromkeys(order, (0, 0.0))
    for name, value in sorted(named, key=lambda each: (not each[0], fold(each[0] or ""))):
        count, worth = found.get(name or NAMELESS, (0, 0.0))
        found[name or NAMELESS] = (count + 1, worth + value)
    return tuple(Group(name=name, count=count, value=value) for name, (count, value) in found.items())


def worth_of_leads(deals: Iterable[Deal]) -> dict[str, float]:
    """Return what the deals of each lead come to."""
    worth: dict[str, float] = {}
    for each in deals:
        if each.lead_id:
            worth[each.lead_id] = worth.get(each.lead_id, 0.0) + (each.value or 0.0)
    return worth


def ways_to_write(number: str) -> list[str]:
    """Return what a number in E.164 may be found by: itself, its national digits, and the last four of them.

    A CRM may keep it as it was typed, and no vendor documents how it searches numbers. The last four find any way to
    write it where parts of a number are looked for, and other numbers too: what is found must be compared.
    """
    import phonenumbers  # only a look-up by number needs it; start-up counts

    try:
        national = phonenumbers.national_significant_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return [number]
    return list(dict.fromkeys([number, national, national[-4:]]))


def number_in(value: object) -> float | None:
    """Return a vendor's number, which may be written as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < 1e15 else None


def others(record: Mapping[str, Any], known: frozenset[str]) -> dict[str, CustomValue] | None:
    """Return the fields of a record that no field of ours takes: nothing of the vendor's is lost."""
    found: dict[str, CustomValue] = {
        name: scalar(value)
        for name, value in record.items()
        if name not in known and value is not None and value not in ("", [], {})
    }
    return found or None


def scalar(value: Any) -> str | int | float | bool:
    """Return a vendor's value as a custom field can have it: what is nested, or no finite number, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)


def _outline(answer: Any) -> str:
    """Return what an answer is made of, for the log; its values are not for it."""
    if isinstance(answer, dict):
        return f"an object with {', '.join([*cast('dict[str, Any]', answer)][:20])}"[:300]
    return type(answer).__name__


def _at(item: Activity) -> datetime:
    return item.at or datetime.min.replace(tzinfo=UTC)


def _places(sources: Mapping[str, Fetch], position: str | None) -> dict[str, tuple[str | None, int]]:
    if position is None:
        return dict.fromkeys(sources, ("", 0))
    try:
        given = _POSITIONS.validate_json(position)
    except ValidationError:
        given = {}
    if given.keys() != sources.keys():
        raise InvalidArgument("cursor is not one of this list", "leave it out to start anew")
    return given


def _in_query(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
