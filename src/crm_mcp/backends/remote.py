"""What the four vendors' backends share: what they are given, one record and what it says, and the long tail."""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from pydantic import SecretStr

from crm_mcp.address import address_key, phone_number
from crm_mcp.backends.base import Backend, HasOperations
from crm_mcp.backends.catalog import Catalog, Operation, load
from crm_mcp.backends.http import Api, ApiProfile, Method, at
from crm_mcp.backends.http_errors import refuse_other, refuse_written_other
from crm_mcp.backends.rate_limit import MINUTE, Limits, RateLimit
from crm_mcp.backends.refusals import no_record
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, SettingsError, VendorError, choices
from crm_mcp.model import Budget, CustomValue, Deal, Group, Lead, LeadUpdate, fold

K = TypeVar("K")
ONE_CUSTOM = "custom_fields."
"""Before the name of a single custom field to empty."""
NAMELESS = "(none)"
"""The group of what has no value to be grouped by."""
MOST_AT_ADDRESS = 10
"""Leads that are given of those who have an address."""


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

    called: ClassVar[str]
    """Its name, as it is said."""
    base_url: ClassVar[str]
    limits: ClassVar[Limits]

    _writes: int = 0
    """How many times a single lead was written: what is remembered of leads is old then."""

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

    async def _searched_at(
        self, channel: Channel, address: str, search: Callable[[str], AsyncGenerator[Iterable[Lead]]]
    ) -> tuple[Lead, ...]:
        """Return the leads that have exactly this address or number, out of what a search by words finds.

        A number is searched for in E.164, by its national digits, and by its last four.
        """
        found: dict[str, Lead] = {}
        ways = [] if channel == "linkedin" else [address] if channel == "email" else ways_to_write(address)
        for words in ways:
            async with aclosing(search(words)) as pages:
                async for leads in pages:
                    found |= {each.id: each for each in leads if self.same_address(each.address(channel), address)}
                    if len(found) >= MOST_AT_ADDRESS:
                        break
        return tuple(found.values())[:MOST_AT_ADDRESS]

    async def _written_to(
        self, method: Method, path: str, record: str, kind: str, name: str, body: Any = None
    ) -> dict[str, Any]:
        """Write to a record at its own path, and return what the answer shows of it; empty where it shows nothing.

        `kind` is what it is called where it is not there; in the answer it stands under `name`, or alone.

        Raises:
            OtherWritten: the answer shows another record.
        """
        answer = await self._api.write(method, at(path, record), body, missing=no_record(kind, record))
        return written(answer, record, name)

    async def _record(
        self, path: str, record: str, kind: str, name: str, identity: Callable[[Mapping[str, Any]], str | None]
    ) -> dict[str, Any]:
        """Read one record by its id, which must be the one that `identity` finds in the answer.

        `kind` is what it is called where it is not there; in the answer it stands under `name`, or alone.
        """
        answer = await self._api.read("GET", at(path, record), missing=no_record(kind, record))
        found = record_in(answer, name)
        refuse_other(record, identity(found))
        return found


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


def record_if_shown(answer: Any, *names: str) -> dict[str, Any]:
    """Return the record that an answer to a write shows, as `record_in` does; an empty one where it shows none."""
    return record_in(cast("Any", answer), *names) if isinstance(answer, dict) else {}


def written(answer: Any, asked: str | None, *names: str) -> dict[str, Any]:
    """Return the record that an answer to a write shows; empty where it shows none.

    Raises:
        OtherWritten: it is another one than was to be written.
    """
    row = record_if_shown(answer, *names)
    refuse_written_other(asked, key_of(row))
    return row


def part_in(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the object that stands under the first of these names that has one; an empty one where none has."""
    found: list[Any] = [record[name] for name in names if isinstance(record.get(name), dict)]
    return cast("dict[str, Any]", found[0]) if found else {}


def key_of(row: Any, *names: str) -> str | None:
    """Return the id of a record, which stands under the first of `names` (`id` where none is given) that has one; None
    where it has none, or is no record."""
    found = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
    return next((key for name in names or ("id",) if (key := text(found.get(name)))), None)


def identified(vendor: str, row: Any, *names: str) -> str:
    """Return the id of a record, as `key_of` does.

    Raises:
        VendorError: it has none, or is no record.
    """
    if found := key_of(row, *names):
        return found
    raise VendorError(f"{vendor} gives a record without an id", "try again", detail=repr(row)[:300])


def shown_in(answer: Any) -> str | None:
    """Return the id of the record that an answer to a write shows, alone or under the name of its kind; None where it
    shows none."""
    found = record_if_shown(answer, "lead")
    inner = list(found.values())
    row = cast("dict[str, Any]", inner[0]) if len(inner) == 1 and isinstance(inner[0], dict) else found
    return key_of(row, "id", "uuid")


def text(value: object) -> str | None:
    """Return a vendor's value as text; None where it is empty."""
    if value is None or isinstance(value, dict | list | bool):
        return None
    return str(value).strip() or None


def transcript_of(value: Any) -> str | None:
    """Return a transcript, which may come as text or as a list of what each speaker said."""
    if not isinstance(value, list):
        return text(value)
    lines: list[str | None] = []
    for turn in cast("list[Any]", value):
        parts = (key_of(turn, "speaker"), key_of(turn, "text"))
        lines.append(": ".join(part for part in parts if part) if isinstance(turn, dict) else text(turn))
    return "\n".join(line for line in lines if line) or None


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


def cleared_of(change: LeadUpdate, before: Lead, clearable: Sequence[str]) -> list[str]:
    """Return the fields to empty where a CRM has first and last name alone, a single custom field by the name it really
    has; one that the lead does not have is empty already.

    Raises:
        InvalidArgument: a field can't be cleared, or is given a value as well.
    """
    valid = (*clearable, *(ONE_CUSTOM + name for name in before.custom_fields or ()))
    by_fold = {fold(name): name for name in valid}
    named = [each if each in valid else by_fold.get(fold(each), each) for each in change.clear]
    clear = [each for each in named if each in valid or not (each.startswith(ONE_CUSTOM) and each != ONE_CUSTOM)]
    first, last = change.first_name or change.name, change.last_name or change.name
    given = {**change.model_dump(), "first_name": first, "last_name": last, "name": first or last}
    if "custom_fields" in clear:  # those that are given take the place of the others
        given["custom_fields"] = {}
    refuse_clearing(given, clear, valid)
    return [part for each in clear for part in (("first_name", "last_name") if each == "name" else (each,))]


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


def read(row: Mapping[str, Any], reader: Callable[[object], object], **keys: str) -> dict[str, Any]:
    """Return fields of ours as a record has them: each by the key that it stands under, all read alike."""
    return {name: reader(row.get(key)) for name, key in keys.items()}


def emptied(clear: Iterable[str], held: Collection[str], key: Callable[[str], str]) -> dict[str, None]:
    """Return nulls for fields to empty, by their keys; for custom fields, all or one of those that are `held`."""
    found: dict[str, None] = {}
    for each in clear:
        one = each.removeprefix(ONE_CUSTOM)
        alone = [name for name in held if name == one] if each.startswith(ONE_CUSTOM) else [key(each)]
        found |= dict.fromkeys(held if each == "custom_fields" else alone)
    return found


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


def _in_query(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
