"""Reads are made again where that helps, writes only where they can't have been done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any

import pytest

from crm_mcp.backends import http
from crm_mcp.backends.http import Api
from crm_mcp.backends.rate_limit import bulk_work
from crm_mcp.errors import Busy, OutcomeUnknown, Unreachable, VendorError

from .conftest import Raw, Talk, answer, raw, saying

Client = Callable[..., AbstractAsyncContextManager[Api]]
READ_AGAIN: list[tuple[str, dict[str, Any]]] = [
    ("status", {"status": 408}),
    ("status", {"status": 429}),
    ("status", {"status": 502}),
    ("status", {"status": 503}),
    ("status", {"status": 504}),
    ("drop_before", {}),
    ("drop_after", {}),
    ("cut", {}),
    ("malformed", {}),
    ("empty", {}),
]


@pytest.mark.parametrize(("kind", "how"), READ_AGAIN)
async def test_a_read_is_made_again(talk: Talk, kind: Any, how: dict[str, Any]):
    talk.vendor.fail(kind, times=http.TRIES - 1, **how)

    assert await talk.api.read("GET", "/rows") == {"rows": [], "query": {}}

    assert len(talk.vendor.journal) == http.TRIES


@pytest.mark.parametrize(("kind", "how"), READ_AGAIN)
async def test_a_read_is_given_up_after_so_many_tries(talk: Talk, kind: Any, how: dict[str, Any]):
    talk.vendor.fail(kind, times=99, **how)

    with pytest.raises(Exception, match="Tiny") as given_up:
        await talk.api.read("GET", "/rows")

    assert given_up.value.__class__.__name__ in ("Busy", "TimedOut", "VendorError", "Unreachable")
    assert given_up.value.__cause__ is None
    assert len(talk.vendor.journal) == http.TRIES


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 500, 501])
async def test_a_read_that_is_refused_for_good_is_not_made_again(talk: Talk, status: int):
    talk.vendor.fail("status", status=status)

    with pytest.raises(Exception, match="Tiny"):
        await talk.api.read("GET", "/rows")

    assert talk.statuses() == [status]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *(("status", {"status": status}) for status in (408, 500, 502, 503, 504)),
        *((kind, {}) for kind in ("drop_before", "drop_after", "cut", "malformed")),
        ("html", {"status": 500}),
        ("html", {"status": 200}),
    ],
)
async def test_a_write_that_may_have_been_done_is_never_made_again(talk: Talk, kind: Any, how: dict[str, Any]):
    talk.vendor.fail(kind, **how)

    with pytest.raises(OutcomeUnknown) as unknown:
        await talk.api.write("POST", "/rows", {"name": "Jane"})

    assert len(talk.vendor.journal) == 1
    assert unknown.value.wrote is None


async def test_a_write_that_was_refused_for_the_limit_is_made_again(talk: Talk):
    talk.vendor.fail("status", status=429, times=2)

    await talk.api.write("POST", "/rows", {"name": "Jane"})

    assert talk.statuses() == [429, 429, 201]
    assert list(talk.vendor.rows) == ["1"]


async def test_a_write_that_never_got_a_connection_is_made_again(client: Client):
    """The port is closed at first, and open when the client tries again."""
    async with raw(saying(answer(b"{}"))) as there:
        url = there.url
    opened: list[asyncio.Server] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b'{"id": "1"}'))
        writer.close()

    async def open_late() -> None:
        await asyncio.sleep(0.02)
        opened.append(await asyncio.start_server(serve, "127.0.0.1", int(url.rpartition(":")[2])))

    async with client(url) as api:
        api.first_pause = 0.1
        late = asyncio.create_task(open_late())

        assert await api.write("POST", "/rows", {"name": "Jane"}) == {"id": "1"}

        await late
        opened[0].close()


async def test_a_write_on_a_connection_that_the_vendor_has_closed_goes_over_a_new_one(client: Client):
    """A kept connection that ended in the meantime is seen to be closed before anything is sent."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Raw) -> None:
        there.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with raw(once) as there, client(there.url) as api:
        await api.read("GET", "/rows")
        await asyncio.sleep(0.05)

        assert await api.write("POST", "/rows") == {}
        assert there.connections == 2


async def test_pauses_grow_and_differ(talk: Talk):
    talk.api.first_pause = 0.05
    talk.vendor.fail("status", status=503, times=99)

    with pytest.raises(VendorError):
        await talk.api.read("GET", "/rows")
    first = [each.at for each in talk.vendor.journal]
    with pytest.raises(VendorError):
        await talk.api.read("GET", "/rows")
    second = [each.at for each in talk.vendor.journal[4:]]

    for moments in (first, second):
        pauses = [later - earlier for earlier, later in pairwise(moments)]
        assert all(0.05 * 2**n <= pause <= 0.05 * 2**n + 0.05 + 0.1 for n, pause in enumerate(pauses))
    assert first[1] - first[0] != pytest.approx(second[1] - second[0], abs=1e-4)


async def test_a_failure_that_gives_a_time_is_tried_again_then(talk: Talk):
    talk.vendor.fail("status", status=503, headers={"retry-after": "1"})

    await talk.api.read("GET", "/rows")

    first, second = talk.vendor.journal
    assert 1.0 <= second.at - first.at < 1.5


async def test_a_failure_that_gives_a_time_too_far_off_is_told_at_once(talk: Talk):
    talk.vendor.fail("status", status=503, headers={"retry-after": "120", "x-ratelimit-reset": "1"})
    began = time.monotonic()

    with pytest.raises(VendorError, match="try again in 120 seconds"):
        await talk.api.read("GET", "/rows")

    assert time.monotonic() - began < 1
    assert len(talk.vendor.journal) == 1


async def test_a_limit_that_lifts_too_late_is_told_at_once_with_its_seconds(talk: Talk):
    talk.vendor.fail("status", status=429, headers={"retry-after": "90"})

    for call in (talk.api.read("GET", "/rows"), talk.api.write("POST", "/rows", {})):
        with pytest.raises(Busy) as busy:
            await call
        assert busy.value.retry_after in (89, 90)
        assert busy.value.wrote is False

    assert talk.statuses() == [429]


async def test_a_call_waits_no_longer_for_the_limit_than_its_deadline(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "ALL_TRIES", 2.0)
    limited = answer(b"{}", b"HTTP/1.1 429 No\r\nRetry-After: 5")
    async with raw(saying(limited)) as there, client(there.url) as api:
        began = time.monotonic()
        with pytest.raises(Busy) as busy:
            await api.read("GET", "/rows")

    assert busy.value.retry_after == 5
    assert time.monotonic() - began < 1


async def test_bulk_work_has_no_deadline_but_for_each_try(talk: Talk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "ALL_TRIES", 0.3)
    talk.vendor.fail("status", status=503, headers={"retry-after": "1"})

    with bulk_work():
        assert (await talk.api.read("GET", "/rows"))["rows"] == []


async def test_a_broken_off_limit_is_heeded_all_the_same(client: Client):
    cut = b"HTTP/1.1 429 No\r\nRetry-After: 60\r\nContent-Length: 500\r\n\r\n" + b'{"err'
    async with raw(saying(cut)) as there, client(there.url) as api:
        with pytest.raises(Busy):
            await api.write("POST", "/rows", {})

        assert there.connections == 1


async def test_what_an_answer_says_of_the_limit_is_learned(talk: Talk):
    talk.vendor.headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "20"}

    await talk.api.read("GET", "/rows")

    (minute,) = talk.api.budget()
    assert (minute.limit, minute.remaining) == (50, 20)


async def test_an_unreachable_vendor_says_that_nothing_was_written(client: Client):
    async with raw(saying(b"")) as there:
        url = there.url

    async with client(url) as api:
        with pytest.raises(Unreachable) as unreachable:
            await api.write("POST", "/rows", {})

    assert unreachable.value.wrote is False
