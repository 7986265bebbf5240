"""What the vendors' backends share: pages and histories in which no row is lost or given twice, and the long tail."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import CoroutineType
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from crm_mcp.backends.catalog import Operation, Parameter
from crm_mcp.backends.http import ApiProfile
from crm_mcp.backends.lists import Fetch, Rows, merged, part_of, whole, window
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.remote import (
    Access,
    Remote,
    moment,
    number_in,
    others,
    overridden,
    record_in,
    rows_in,
    text,
    total_in,
)
from crm_mcp.errors import InvalidArgument, NotFound, OutcomeUnknown, SettingsError, VendorError
from crm_mcp.model import Account, Activity, Option, Page, Slice
from crm_mcp.sandbox.emulator import Answer, Call, Emulator, Refusal, route
from crm_mcp.sandbox.serving import serving

T = TypeVar("T")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def now(work: CoroutineType[Any, Any, T]) -> T:
    """Run a coroutine that never really waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


# Pages


def paging(count: int, *, most: int = 1000, total: bool = True, heeds: bool = True) -> tuple[Rows, list[int]]:
    """Return a vendor with so many rows, which gives at most so many at once, and the sizes that it is asked for."""
    asked: list[int] = []

    async def fetch(number: int, size: int) -> tuple[list[Any], int | None]:
        assert number >= 1
        assert size >= 1
        asked.append(size)
        size = min(size, most)
        rows = list(range(count))[(number - 1) * size : number * size] if heeds else list(range(count))
        return rows, count if total else None

    return fetch, asked


def option(row: int) -> Option:
    return Option(id=str(row), name="x")


def through(fetch: Rows, limits: list[int], most: int = 100) -> list[int]:
    """Read a list to its end, with these limits in turn."""
    found: list[int] = []
    position: str | None = None
    for number in range(400):
        limit = limits[number % len(limits)]
        page = now(window(fetch, option, Slice(limit=limit, position=position), most))
        assert len(page.items) <= limit
        found += [int(each.id) for each in page.items]
        position = page.next
        if position is None:
            return found
        assert page.items
    raise AssertionError("there is no end")


LIMITS = st.lists(st.integers(1, 100), min_size=1, max_size=6)


@given(count=st.integers(0, 260), limits=LIMITS, total=st.booleans())
def test_pages_of_any_size_give_every_row_once_in_order(count: int, limits: list[int], total: bool):
    fetch, asked = paging(count, total=total)

    assert through(fetch, limits) == list(range(count))
    assert max(asked) <= 100


@given(count=st.integers(0, 260), limits=LIMITS, most=st.integers(1, 60))
def test_a_vendor_whose_pages_are_smaller_than_asked_for_loses_no_row(count: int, limits: list[int], most: int):
    fetch, _ = paging(count, most=most)

    assert through(fetch, limits) == list(range(count))


@given(count=st.integers(0, 260), limits=LIMITS, most=st.sampled_from([10, 15, 20, 25, 30, 50, 100]))
def test_so_does_one_that_tells_no_total(count: int, limits: list[int], most: int):
    fetch, _ = paging(count, most=most, total=False)

    assert through(fetch, limits) == list(range(count))


@given(count=st.integers(0, 60), limits=LIMITS, total=st.booleans())
def test_a_vendor_that_gives_all_rows_whatever_is_asked_for_is_read_once(count: int, limits: list[int], total: bool):
    assume(total or count != limits[0])  # as many as were asked for, and no word of how many there are: who knows
    fetch, _ = paging(count, total=total, heeds=False)

    assert through(fetch, limits) == list(range(count))


@given(count=st.integers(0, 120), limits=LIMITS, most=st.integers(1, 100))
def test_no_page_is_larger_than_the_vendor_documents(count: int, limits: list[int], most: int):
    fetch, asked = paging(count, total=False)

    assert through(fetch, limits, most) == list(range(count))
    assert max(asked) <= most


def test_each_page_costs_one_call():
    fetch, asked = paging(100)

    through(fetch, [20])

    assert asked == [20] * 5


def test_a_short_list_without_a_total_costs_one_call():
    for count in (0, 1, 7, 19):
        fetch, asked = paging(count, total=False)

        through(fetch, [20])

        assert asked == [20]


def test_a_list_that_has_shrunk_ends():
    fetch, _ = paging(10)

    page = now(window(fetch, option, Slice(limit=5, position="40:5")))

    assert page == Page[Option](items=(), total=10)


@pytest.mark.parametrize("position", ["x", "-1", "1.5", "5:x", "5:-2", "9" * 10, "5:5:5", "²"])
def test_a_position_that_is_none_of_a_list_is_refused(position: str):
    fetch, _ = paging(10)

    with pytest.raises(InvalidArgument, match="cursor is not one of this list"):
        now(window(fetch, option, Slice(limit=5, position=position)))


@given(count=st.integers(0, 60), limits=LIMITS)
def test_the_parts_of_a_whole_list_are_the_list(count: int, limits: list[int]):
    rows = [option(each) for each in range(count)]
    found: list[Option] = []
    position, number = None, 0
    while number == 0 or position:
        page = part_of(rows, Slice(limit=limits[number % len(limits)], position=position))
        found += page.items
        position, number = page.next, number + 1
        assert page.total == count

    assert found == rows


def test_an_offset_is_a_number():
    assert [whole(None), whole("0"), whole("17")] == [0, 0, 17]
    for wrong in ("", "-1", "1e3", "1" * 10):
        with pytest.raises(InvalidArgument):
            whole(wrong)


# Histories

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def history(name: str, minutes: list[int], most: int, cost: list[str] | None = None) -> Fetch:
    """Return a history of events so many minutes ago, newest first, whose pages have so many."""
    events = [
        Activity(kind="note", id=f"{name}{number}", at=NOON - timedelta(minutes=ago))
        for number, ago in enumerate(sorted(minutes))
    ]

    async def fetch(part: Slice) -> Page[Activity]:
        if cost is not None:
            cost.append(name)
        return part_of(events, Slice(limit=min(part.limit, most), position=part.position))

    return fetch


HISTORIES = st.dictionaries(
    st.sampled_from(["calls", "notes", "mails"]), st.lists(st.integers(0, 200), max_size=25), min_size=1
)


@given(
    histories=HISTORIES,
    limits=LIMITS,
    most=st.integers(1, 12),
    since=st.one_of(st.none(), st.integers(0, 200)),
)
def test_histories_are_merged_newest_first_without_gap_or_double(
    histories: dict[str, list[int]], limits: list[int], most: int, since: int | None
):
    sources = {name: history(name, minutes, most) for name, minutes in histories.items()}
    earliest = None if since is None else NOON - timedelta(minutes=since)
    found: list[Activity] = []
    position, number = None, 0
    while number == 0 or position:
        limit = limits[number % len(limits)]
        page = now(merged(sources, earliest, Slice(limit=limit, position=position)))
        assert len(page.items) == limit or page.next is None
        found += page.items
        position, number = page.next, number + 1

    wanted = [ago for minutes in histories.values() for ago in minutes if since is None or ago <= since]
    assert [each.at for each in found] == [NOON - timedelta(minutes=ago) for ago in sorted(wanted)]
    assert len({each.id for each in found}) == len(found)


def test_only_as_much_is_read_as_is_shown():
    cost: list[str] = []
    sources = {"calls": history("calls", list(range(90)), 10, cost), "notes": history("notes", [500], 10, cost)}

    page = now(merged(sources, None, Slice(limit=5)))

    assert (len(page.items), sorted(cost)) == (5, ["calls", "notes"])


def test_what_has_no_time_comes_last():
    async def fetch(_: Slice) -> Page[Activity]:
        return Page[Activity](items=(Activity(kind="note", id="1"),))

    page = now(merged({"a": fetch, "b": history("b", [1], 5)}, None, Slice()))

    assert [each.id for each in page.items] == ["b0", "1"]


def test_a_vendor_that_answers_the_same_empty_page_for_ever_is_left():
    asked: list[str | None] = []

    async def fetch(part: Slice) -> Page[Activity]:
        asked.append(part.position)
        return Page[Activity](items=(), next="5")

    page = now(merged({"a": fetch}, None, Slice()))

    assert (page.items, asked) == ((), [None, "5"])


@pytest.mark.parametrize(
    "position",
    [
        *("", "x", "[]", "{}", "null", '{"a": []}', '{"a": ["5", -1]}', '{"a": ["5", "x"]}', '{"a": ["", 1e999]}'),
        *('{"b": ["", 0]}', '{"a": ["", 0], "b": ["", 0]}'),
    ],
)
def test_a_position_of_another_history_is_refused(position: str):
    with pytest.raises(InvalidArgument, match="cursor is not one of this list"):
        now(merged({"a": history("a", [1], 5)}, None, Slice(position=position)))


# Answers


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        ([1], [1]),
        ({"leads": [1], "tags": [2]}, [1]),
        ({"data": [1], "tags": [2]}, [1]),
        ({"items": [1], "total": 4}, [1]),
        ({"leads": []}, []),
    ],
)
def test_the_rows_of_a_list_are_found(answer: Any, rows: list[Any]):
    assert rows_in(answer, "leads") == rows


@pytest.mark.parametrize("answer", [None, 5, "CANARY", {}, {"a": [1], "b": [2]}, {"CANARY": {}}])
def test_an_answer_without_a_list_is_no_list(answer: Any):
    with pytest.raises(VendorError, match="has no list") as raised:
        rows_in(answer, "leads")

    assert "CANARY" not in str(raised.value)


def test_the_log_has_the_outline_of_an_answer_and_not_its_values():
    with pytest.raises(VendorError) as raised:
        rows_in({"name": "SECRET", "id": 1})

    assert raised.value.detail == "an object with name, id"


def test_a_record_is_found_under_its_name_or_alone():
    assert record_in({"lead": {"id": 1}}, "lead") == record_in({"data": {"id": 1}}) == record_in({"id": 1}) == {"id": 1}


@pytest.mark.parametrize("answer", [None, [], "x", 5])
def test_an_answer_without_a_record_is_none(answer: Any):
    with pytest.raises(VendorError, match="has no record"):
        record_in(answer, "lead")


@pytest.mark.parametrize(("answer", "total"), [({"total": 5}, 5), ({"total": "5"}, None), ({"total": -1}, None)])
def test_a_total_is_a_number(answer: Any, total: int | None):
    assert total_in(answer) == total
    assert total_in([answer]) is None
    assert total_in({"total": True}) is None


def test_values_are_read_whatever_they_are():
    assert [text(" a "), text(5), text(""), text(None), text([1]), text({}), text(True)] == ["a", "5"] + [None] * 5
    assert [number_in(5), number_in("5.5"), number_in(True), number_in("x"), number_in(None)] == [5, 5.5] + [None] * 3


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, "1e999", "nan", -(10**400)])
def test_numbers_without_sense_are_none(value: Any):
    assert number_in(value) is None
    assert moment(value) is None


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_no_value_of_a_vendor_breaks_a_decoder(value: Any):
    found = moment(value)
    assert found is None or found.tzinfo is not None
    assert number_in(value) is None or abs(number_in(value) or 0) < 1e15
    assert text(value) is None or text(value)


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01T12:00:00", NOON),
        ("2026-01-01 13:00:00+01:00", NOON),
        ("2026-01-01", NOON.replace(hour=0)),
        (NOON.timestamp(), NOON),
        (int(NOON.timestamp() * 1000), NOON),
        ("yesterday", None),
        (True, None),
    ],
)
def test_times_are_read(value: Any, at: datetime | None):
    assert moment(value) == at


def test_fields_that_no_field_of_ours_takes_are_kept():
    record: dict[str, Any] = {"id": 1, "size": "big", "tags": ["é"], "none": None, "empty": {}, "ok": False}

    assert others(record, frozenset({"id"})) == {"size": "big", "tags": '["é"]', "ok": False}
    assert others({"id": 1}, frozenset({"id"})) is None


@dataclass(frozen=True)
class Keys:
    value: str = "value"
    stage: str = "stage_id"


def test_inferred_keys_are_corrected_by_name():
    assert overridden(Keys(), {"stage": "stage"}, "tiny") == Keys("value", "stage")
    with pytest.raises(SettingsError, match=r'keys of tiny: "stagee" is none; .*nearest: "stage"'):
        overridden(Keys(), {"stagee": "stage"}, "tiny")


# The long tail


class Tiny(Remote):
    """A CRM of which only the long tail is reached."""

    vendor: ClassVar[str] = "tiny"
    base_url: ClassVar[str] = "https://tiny.example"
    limits: ClassVar[Limits] = Limits(per_minute=1000, bulk_per_minute=10)

    @classmethod
    def profile(cls, address: str, access: Access) -> ApiProfile:
        """Speak plainly."""
        return ApiProfile("Tiny", address, access.key)

    async def check(self) -> Account:
        """Is not needed here."""
        raise NotImplementedError


class TinyEmulator(Emulator):
    """Answers everything with what arrived."""

    vendor: ClassVar[str] = "tiny"
    key: ClassVar[str] = "key"

    def begin(self) -> None:
        """Begin with nothing."""

    def admit(self, call: Call) -> dict[str, str]:
        """Admit everybody."""
        return {}

    def worded(self, refusal: Refusal) -> Any:
        """Word an error."""
        return {"error": refusal.message}

    @route("GET", "/rows/{id}/notes/{note}")
    @route("POST", "/rows/{id}/notes/{note}")
    def one(self, call: Call, row: str, note: str) -> Answer:
        """Answer the ids."""
        return Answer([row, note])

    @route("GET", "/rows")
    @route("POST", "/rows")
    @route("DELETE", "/rows")
    def rows(self, call: Call) -> Answer:
        """Answer something."""
        return Answer({"ok": True})


@pytest.fixture
async def tiny(tmp_path: Path) -> AsyncGenerator[tuple[Tiny, TinyEmulator]]:
    vendor = TinyEmulator()
    with serving(vendor) as url:
        crm = Tiny(Access(SecretStr("key"), tmp_path / "pace.sqlite3", base_url=url, per_minute=500))
        yield crm, vendor
        await crm.aclose()


Both = tuple[Tiny, TinyEmulator]


def operation(method: str, path: str, places: Mapping[str, str], **more: Any) -> Operation:
    parameters = tuple(Parameter.model_validate({"name": name, "in": place}) for name, place in places.items())
    return Operation.model_validate(
        {"name": "x", "summary": "x", "method": method, "path": path, "parameters": parameters, **more}
    )


async def test_each_argument_of_an_operation_goes_to_its_place(tiny: Both):
    crm, vendor = tiny
    places = {"id": "path", "note": "path", "page": "query", "stage": "filter", "name": "body"}
    wanted = operation("POST", "/rows/{id}/notes/{note}", places, effect="write")

    answer = await crm.operate(
        wanted, {"id": "a/b", "note": "{id}", "page": 2, "stage": True, "name": "x", "more": {"y": [1]}}
    )

    (call,) = vendor.journal
    assert answer == ["a/b", "{id}"]
    assert call.query == {"page": "2", "filter[stage]": "true"}
    assert call.body == {"name": "x", "more": {"y": [1]}}


async def test_what_is_not_described_of_a_get_goes_into_its_query(tiny: Both):
    crm, vendor = tiny

    await crm.operate(operation("GET", "/rows", {}, effect="read"), {"word": "x", "ids": [1, 2]})

    assert vendor.journal[0].query == {"word": "x", "ids": "[1, 2]"}
    assert vendor.journal[0].body is None


async def test_a_body_may_be_an_array(tiny: Both):
    crm, vendor = tiny

    await crm.operate(operation("POST", "/rows", {"rows": "items"}, effect="write", bulk=True), {"rows": [{"a": 1}]})

    assert vendor.journal[0].body == [{"a": 1}]
    assert {each.name: each.remaining for each in await crm.budget()} == {"minute": 499, "bulk": 9}


async def test_an_operation_without_arguments_has_no_body(tiny: Both):
    crm, vendor = tiny

    await crm.operate(operation("DELETE", "/rows", {}), {})

    assert (vendor.journal[0].method, vendor.journal[0].query, vendor.journal[0].body) == ("DELETE", {}, None)


async def test_only_an_operation_that_reads_is_made_again(tiny: Both):
    crm, vendor = tiny
    effect = {"by": "type", "look": "read", "keep": "write"}
    wanted = operation("POST", "/rows", {"type": "body"}, effect=effect)
    vendor.fail("status", status=503, headers={"retry-after": "0"})

    await crm.operate(wanted, {"type": "look"})
    vendor.fail("status", status=503)
    for kind in ("keep", "by", "other"):
        with pytest.raises(OutcomeUnknown, match="may have done it"):
            await crm.operate(wanted, {"type": kind})
        vendor.fail("status", status=503)

    assert len(vendor.journal) == 2 + 3


async def test_an_id_of_an_operation_can_not_change_its_path(tiny: Both):
    crm, vendor = tiny

    with pytest.raises(NotFound):
        await crm.operate(
            operation("GET", "/rows/{id}/notes/{note}", {"id": "path", "note": "path"}, effect="read"),
            {"id": "..", "note": "1"},
        )

    assert vendor.journal == []


async def test_another_limit_than_the_vendors_is_kept(tiny: Both):
    crm, _ = tiny

    assert (await crm.budget())[0].limit == 500


def test_a_phone_number_is_given_in_one_form(tmp_path: Path):
    crm = Tiny(Access(SecretStr("key"), tmp_path / "pace", country="US"))

    assert crm.number("(212) 555-0101") == "+12125550101"
    assert [crm.number(each) for each in ("ext. five", " ", None, 5)] == ["ext. five", None, None, None]
    assert crm.same_address("JANE@acme.example", "jane@acme.example")
    assert not crm.same_address(None, "jane@acme.example")


def test_a_moment_at_the_end_of_the_calendar_is_none():
    assert moment("9999-12-31T23:59:59-14:00") is None
    assert moment("0001-01-01T00:00:00+14:00") is None
    assert moment("2026-03-20T10:00:00+02:00") == datetime(2026, 3, 20, 8, tzinfo=UTC)


def test_a_record_with_a_field_called_data_is_not_taken_apart():
    whole = {"id": "1", "email": "a@b.example", "data": {"utm": "x"}}

    assert record_in(whole, "contact") == whole
    assert record_in({"data": {"id": "1"}}) == {"id": "1"}
    assert record_in({"contact": {"id": "1"}, "meta": {}}, "contact") == {"id": "1"}


def test_values_of_fields_that_are_not_ours_are_told_whatever_they_are():
    record = {"id": "1", "score": float("inf"), "tags": ["a"], "note": "x\x0b", "none": None, "empty": []}

    assert others(record, frozenset({"id"})) == {"score": "inf", "tags": '["a"]', "note": "x\x0b"}
