"""One pooled client for a connection's life: addresses, redirects, time-outs, sizes, and what answers mean."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.to_thread
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.backends import http
from crm_mcp.backends.http import Api, after_write, at
from crm_mcp.backends.http_errors import parsed
from crm_mcp.errors import (
    Conflict,
    CrmError,
    Forbidden,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    PaymentRequired,
    TimedOut,
    Unauthorized,
    Unreachable,
    Unsupported,
    VendorError,
)
from crm_mcp.sandbox.serving import serving

from .conftest import Raw, Talk, Tiny, answer, raw, saying

Client = Callable[..., AbstractAsyncContextManager[Api]]


# One client


async def test_a_request_has_key_query_and_body_and_gives_the_json(talk: Talk):
    row = await talk.api.write("POST", "/rows", {"name": "Zoë", "tags": None}, {"notify": "false", "left": None})
    found = await talk.api.read("GET", at("/rows/{}", row["id"]), {"page": 2, "word": "a b&c", "left": None})

    assert row == {"id": "1", "name": "Zoë", "tags": None}
    assert found == {"id": "1", "query": {"page": "2", "word": "a b&c"}}
    first, second = talk.vendor.journal
    assert (first.method, first.path, first.query, first.body) == (
        "POST",
        "/rows",
        {"notify": "false"},
        {"name": "Zoë", "tags": None},
    )
    assert first.headers["authorization"] == f"Bearer {Tiny.key}"
    assert first.headers["content-type"] == first.headers["accept"] == "application/json"
    assert first.headers["user-agent"].startswith("crm-mcp/")
    assert "content-type" not in second.headers


async def test_calls_share_their_connections(client: Client):
    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Raw) -> None:
        while True:
            there.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with raw(keep) as there, client(there.url) as api:
        for _ in range(10):
            await api.read("GET", "/rows")

        assert (there.connections, len(there.requests)) == (1, 10)


async def test_nothing_is_connected_before_the_first_call_or_after_the_last(client: Client):
    async with raw(saying(answer(b"{}"))) as there:
        async with client(there.url) as api:
            await asyncio.sleep(0)
            assert there.connections == 0
            await api.read("GET", "/rows")
        await api.aclose()

        assert there.connections == 1


async def test_an_empty_answer_to_a_write_is_none(talk: Talk):
    assert await talk.api.write("DELETE", "/rows/1") is None


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_to_another_host_is_not_followed(talk: Talk, status: int, method: Any):
    other = Tiny()
    with serving(other) as elsewhere:
        talk.vendor.fail("redirect", status=status, headers={"location": f"{elsewhere}/rows"})

        with pytest.raises((VendorError, OutcomeUnknown)) as refused:
            await (talk.api.read(method, "/rows") if method == "GET" else talk.api.write(method, "/rows", {}))

        assert other.journal == []
    assert len(talk.vendor.journal) == 1
    assert elsewhere not in str(refused.value)


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_a_write_that_is_sent_elsewhere_was_not_done(talk: Talk, status: int):
    talk.vendor.fail("redirect", status=status, headers={"location": "/rows/2"})

    with pytest.raises(VendorError) as refused:
        await talk.api.write("POST", "/rows", {})

    assert refused.value.wrote is False
    assert len(talk.vendor.journal) == 1


@pytest.mark.parametrize("status", [300, 302, 303])
async def test_a_write_that_is_answered_with_see_there_may_have_been_done(talk: Talk, status: int):
    talk.vendor.fail("redirect", status=status, headers={"location": "/rows/2"})

    with pytest.raises(OutcomeUnknown):
        await talk.api.write("POST", "/rows", {})

    assert len(talk.vendor.journal) == 1


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1:{port}/rows",
        "//localhost:{port}/rows",
        "http://127.0.0.1:1/",
        "http://u:p@127.0.0.1:{port}/",
        *("", "http://[", "http://\x7f", "ftp://x", "http://127.0.0.1:99999999/"),
    ],
)
async def test_no_odd_location_is_followed(talk: Talk, location: str):
    port = talk.url.rpartition(":")[2]
    talk.vendor.fail("redirect", status=302, headers={"location": location.format(port=port)})

    with pytest.raises(VendorError, match="redirects to another address"):
        await talk.api.read("GET", "/rows")

    assert len(talk.vendor.journal) == 1


async def test_a_read_follows_a_redirect_on_the_same_server_as_it_stands(talk: Talk):
    talk.vendor.fail("redirect", status=307, headers={"location": "/rows/7?page=3"})

    found = await talk.api.read("GET", "/rows", {"page": 2})

    assert found == {"id": "7", "query": {"page": "3"}}


async def test_redirects_in_a_ring_end_and_each_counts_as_a_call(talk: Talk):
    talk.vendor.fail("redirect", status=302, times=100, headers={"location": "/rows"})

    with pytest.raises(VendorError):
        await talk.api.read("GET", "/rows")

    assert len(talk.vendor.journal) == 1 + http.MOST_REDIRECTS
    assert talk.api.budget()[0].remaining == 1000 - len(talk.vendor.journal)


# Time-outs


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ONE_TRY", 0.3)
    monkeypatch.setattr(http, "ALL_TRIES", 0.8)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Raw) -> None:
    """Accept, read, and never answer."""
    while data := await reader.read(1000):
        there.requests.append(data)


DRIP = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *([b" "] * 1000)]
SLOW_HEAD = [b"HTTP/1.1 200 OK\r\n", *(f"X-{n}: y\r\n".encode() for n in range(1000))]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "script",
    [silent, saying(*DRIP, pause=0.05), saying(*SLOW_HEAD, pause=0.05)],
    ids=["silence", "a dripping body", "a dripping head"],
)
async def test_who_answers_too_slowly_is_given_up_on(client: Client, script: Any):
    async with raw(script) as there, client(there.url) as api:
        began = time.monotonic()
        with pytest.raises(TimedOut) as read:
            await api.read("GET", "/rows")
        with pytest.raises(OutcomeUnknown):
            await api.write("POST", "/rows", {"name": "x"})

        assert time.monotonic() - began < 2
        assert read.value.wrote is False
        assert there.connections == 2


@pytest.mark.usefixtures("hasty")
async def test_a_write_of_many_records_has_more_time(client: Client):
    slow = saying(answer(b'{"created": 1000}'), pause=0.5)
    async with raw(slow) as there, client(there.url) as api:
        assert await api.write("POST", "/bulk", [1], bulk=True) == {"created": 1000}


@pytest.mark.usefixtures("hasty")
async def test_a_read_with_all_its_repetitions_has_an_end(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Api, "first_pause", 0.5)
    async with raw(saying(b"")) as there, client(there.url) as api:
        began = time.monotonic()
        with pytest.raises((TimedOut, Unreachable)):
            await api.read("GET", "/rows")

        assert time.monotonic() - began < 1.2


async def test_a_refused_connection_is_unreachable(client: Client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

    async with client(url) as api:
        for call in (api.read("GET", "/rows"), api.write("POST", "/rows", {})):
            with pytest.raises(Unreachable, match="Tiny can't be reached: the connection is refused") as refused:
                await call
            assert refused.value.wrote is False


async def test_a_name_that_does_not_resolve_is_unreachable(client: Client):
    async with client("https://crm.invalid") as api:
        for call in (api.read("GET", "/rows"), api.write("POST", "/rows", {})):
            with pytest.raises(Unreachable, match="its name can't be resolved"):
                await call


async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(client: Client):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate: Any = trustme.CA().issue_cert("127.0.0.1")
    certificate.configure_cert(tls)

    async with raw(saying(answer(b"{}")), tls=tls) as there, client(there.url) as api:
        for call in (api.read("GET", "/rows"), api.write("POST", "/rows", {})):
            with pytest.raises(Unreachable, match="certificate is not trusted") as refused:
                await call
            assert refused.value.wrote is False
        assert there.requests == []


async def test_a_server_that_speaks_no_tls_is_unreachable(client: Client):
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Raw) -> None:
        there.requests.append(await reader.read(1000))
        writer.write(answer(b"{}"))

    async with raw(greet) as there, client(there.url.replace("http:", "https:")) as api:
        with pytest.raises(Unreachable, match="TLS failed"):
            await api.write("POST", "/rows", {})

        assert b"canary" not in b"".join(there.requests)


# Sizes


@pytest.mark.parametrize("declared", [True, False])
async def test_an_answer_that_is_too_large_is_not_read(talk: Talk, declared: bool):
    headers = {"content-length": str(60_000_000 + 12)} if declared else {}
    talk.vendor.fail("huge", times=2, headers=headers)

    with pytest.raises(VendorError, match="larger than 10 MB"):
        await talk.api.read("GET", "/rows")
    with pytest.raises(OutcomeUnknown):
        await talk.api.write("POST", "/rows", {})


def bomb(layers: int) -> bytes:
    body = b"0" * 50_000_000
    for _ in range(layers):
        body = gzip.compress(body, 9)
    coding = b", ".join([b"gzip"] * layers)
    return answer(body, b"HTTP/1.1 200 OK\r\nContent-Encoding: " + coding)


@pytest.mark.parametrize("layers", [1, 2])
async def test_an_answer_that_swells_is_not_unpacked(client: Client, layers: int):
    packed = bomb(layers)
    async with raw(saying(packed)) as there, client(there.url) as api:
        tracemalloc.start()
        try:
            with pytest.raises(VendorError, match="larger than 10 MB"):
                await api.read("GET", "/rows")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 3 * http.MOST_BYTES


async def test_a_packed_answer_is_unpacked(client: Client):
    packed = answer(gzip.compress(b'{"a": 1}'), b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip")
    async with raw(saying(packed)) as there, client(there.url) as api:
        assert await api.read("GET", "/rows") == {"a": 1}
        assert b"gzip" in there.requests[0].lower()


# What answers mean


SHAPES = [
    {"error": "CANARY is wrong"},
    {"error": {"message": "CANARY", "code": "CANARY"}},
    {"success": False, "type": "CANARY", "message": "CANARY", "data": {"CANARY": ["CANARY"]}},
    "<html>CANARY</html>",
    [["CANARY"]],
    None,
]
MEANINGS: dict[int, type[CrmError]] = {
    400: InvalidArgument,
    401: Unauthorized,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    405: Unsupported,
    406: VendorError,
    408: TimedOut,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    413: InvalidArgument,
    415: VendorError,
    418: VendorError,
    422: InvalidArgument,
    423: Conflict,
    451: VendorError,
    500: VendorError,
    501: VendorError,
    502: VendorError,
    503: VendorError,
    504: VendorError,
    599: VendorError,
}


@pytest.mark.parametrize("status", MEANINGS)
async def test_a_status_means_the_same_in_every_shape_of_error(talk: Talk, status: int):
    for body in SHAPES:
        talk.vendor.faults.clear()
        talk.vendor.fail("status", status=status, body=body, times=99, headers={"x-canary": "CANARY"})

        with pytest.raises(CrmError) as read:
            await talk.api.read("GET", "/rows")
        with pytest.raises(CrmError) as wrote:
            await talk.api.write("POST", "/rows", {"name": "x"})

        assert type(read.value) is MEANINGS[status]
        unclear = status >= 500 or status == 408
        assert type(wrote.value) is (OutcomeUnknown if unclear else MEANINGS[status])
        assert wrote.value.wrote is (None if unclear else False)
        for raised in (read.value, wrote.value):
            assert "CANARY" not in str(raised).upper()
            assert "\n" not in str(raised)
            assert str(status) in raised.detail or status == 408


async def test_html_is_never_passed_on(talk: Talk):
    for status, kind in ((500, VendorError), (403, Forbidden)):
        talk.vendor.fail("html", status=status)
        with pytest.raises(kind) as raised:
            await talk.api.read("GET", "/rows")
        assert "<" not in str(raised.value)


async def test_what_a_404_means_is_said_in_our_words(talk: Talk):
    talk.vendor.fail("status", status=404, body={"error": "CANARY"})

    with pytest.raises(NotFound, match=r'^there is no lead "7"; the id may be wrong'):
        await talk.api.read("GET", "/rows", missing='there is no lead "7"')


async def test_a_vendors_own_hint_says_what_to_do(talk: Talk):
    talk.vendor.fail("status", status=402)

    with pytest.raises(PaymentRequired, match=r"; buy more$"):
        await talk.api.read("GET", "/rows")


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"type": "validation_error", "data": {"email": ["CANARY"], "CANARY": ["x"]}}, "email"),
        ({"errors": {"lead.email": ["bad"], "tags": ["bad"]}, "message": "CANARY"}, "email, tags"),
        ({"errors": [{"field": "phone", "message": "CANARY"}, {"field": "CANARY"}]}, "phone"),
        ({"detail": [{"loc": ["body", 0, "email"], "msg": "CANARY"}]}, "email"),
        ({"error": "email is not CANARY"}, "email"),
        ({"error": {"message": "CANARY: phone, email"}}, "email, phone"),
        ({"error": {"message": "the CANARY"}, "code": 4}, ""),
        ({"error": "emails and telephones"}, ""),
    ],
)
async def test_only_fields_of_ours_are_named(talk: Talk, said: Any, named: str):
    talk.vendor.fail("status", status=422, body=said)
    body: dict[str, Any] = {"email": "x", "phone": "y", "tags": [], "message": "z", "odd name\n": 1}

    with pytest.raises(InvalidArgument) as refused:
        await talk.api.write("POST", "/rows", body)

    assert str(refused.value) == f"Tiny does not accept the values{': ' if named else ''}{named}; check them"
    assert refused.value.told == said


async def test_an_error_that_breaks_off_means_what_its_status_says(client: Client):
    cut = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 500\r\n\r\n" + b'{"error'
    async with raw(saying(cut)) as there, client(there.url) as api:
        for call in (api.read("GET", "/rows"), api.write("POST", "/rows", {})):
            with pytest.raises(Forbidden):
                await call


DEEP = b"[" * 200_000


@pytest.mark.parametrize(
    "body",
    [b"<html>CANARY</html>", b'{"a": ', b"", b"   ", DEEP, b'{"a": NaN}', b'{"a": "\xff"}', b"9" * 5000, b"\x00"],
)
async def test_a_good_status_with_a_senseless_body_is_no_answer(client: Client, body: bytes):
    async with raw(saying(answer(body))) as there, client(there.url) as api:
        with pytest.raises(VendorError, match="can't be read") as read:
            await api.read("GET", "/rows")
        assert there.connections == http.TRIES
        assert "CANARY" not in str(read.value)
        if body.strip():
            with pytest.raises(OutcomeUnknown, match="its answer can't be read"):
                await api.write("POST", "/rows", {})
            assert there.connections == http.TRIES + 1


async def test_an_error_nested_without_end_is_an_error(client: Client):
    bad = answer(b'{"data":' * 900 + b"1" + b"}" * 900, b"HTTP/1.1 422 No")
    async with raw(saying(bad)) as there, client(there.url) as api:
        with pytest.raises(InvalidArgument):
            await api.write("POST", "/rows", {"name": "x"})


async def test_null_is_no_answer_to_a_read(client: Client):
    async with raw(saying(answer(b"null"))) as there, client(there.url) as api:
        with pytest.raises(VendorError, match="answered nothing"):
            await api.read("GET", "/rows")


async def test_text_that_a_program_cut_in_the_middle_of_an_emoji_is_mended(client: Client):
    body = b'\xef\xbb\xbf{"name": "Jane \\ud83d", "whole": "\\ud83d\\ude00", "\\uDC00": 1}'
    async with raw(saying(answer(body))) as there, client(there.url) as api:
        found = await api.read("GET", "/rows")

    assert found == {"name": "Jane ?", "whole": "😀", "?": 1}
    json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": "\ud800"}])
async def test_what_can_not_be_sent_is_refused_before_it_is(talk: Talk, body: Any):
    with pytest.raises(InvalidArgument, match="can't be sent") as refused:
        await talk.api.write("POST", "/rows", body)

    assert refused.value.wrote is False
    assert talk.vendor.journal == []


@pytest.mark.parametrize("query", [{"a": "\ud800"}, {"a": "x" * 100_000}])
async def test_a_query_that_can_not_be_sent_is_refused_before_it_is(talk: Talk, query: dict[str, Any]):
    with pytest.raises(InvalidArgument, match="can't be sent"):
        await talk.api.read("GET", "/rows", query)

    assert talk.vendor.journal == []


async def test_what_fails_after_a_write_says_that_something_was_written(talk: Talk):
    talk.vendor.fail("status", status=404)

    with pytest.raises(NotFound) as failed, after_write():
        await talk.api.read("GET", "/rows/1")

    assert failed.value.wrote is True


async def test_a_cancelled_call_leaves_the_client_usable(talk: Talk):
    talk.vendor.fail("delay", seconds=0.5)
    with anyio.move_on_after(0.1):
        await talk.api.read("GET", "/rows")

    assert (await talk.api.read("GET", "/rows"))["rows"] == []


async def test_other_calls_go_on_while_a_large_answer_is_read(talk: Talk, monkeypatch: pytest.MonkeyPatch):
    await talk.api.write("POST", "/rows", {"text": "x" * 200_000})
    begun, may_go_on = threading.Event(), threading.Event()
    on_time: list[bool] = []

    def held(body: bytes) -> Any:
        if len(body) > http.LARGE:
            begun.set()
            on_time.append(may_go_on.wait(5))  # on the event loop it would wait in vain
        return parsed(body)

    monkeypatch.setattr(http, "parsed", held)

    async def meanwhile() -> None:
        await anyio.to_thread.run_sync(begun.wait, 5)
        assert (await talk.api.read("GET", "/rows/7"))["id"] == "7"
        may_go_on.set()

    found: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meanwhile)
        found.append(await talk.api.read("GET", "/rows"))

    assert on_time == [True]
    assert len(found[0]["rows"][0]["text"]) == 200_000


# Ids in paths


@given(st.text(min_size=1, max_size=220))
def test_nothing_in_an_id_can_change_the_path(text: str):
    try:
        path = at("/rows/{}/notes", text)
    except NotFound:
        return

    assert path.isascii()
    before, between, after = path.partition("/rows/")
    part, _, rest = after.partition("/")
    assert (before, between, rest) == ("", "/rows/", "notes")
    assert not set(part) & set("/?#\\ ;&")
    assert unquote(part) == text


@pytest.mark.parametrize("text", ["", ".", "..", "../keys", "a/../../keys", "..\\keys", "a\nb", "x" * 201, "\ud800"])
def test_an_id_that_no_record_could_have_is_not_found(text: str):
    with pytest.raises(NotFound, match=r"^there is no record with .*id as the CRM has it$"):
        at("/rows/{}", text)


@pytest.mark.parametrize("text", ["a/b", "a b", "?x=1", "%2e%2e", "é", "{0}", "a.b", "...", "#", "a;b", "+"])
async def test_an_id_arrives_as_it_is(talk: Talk, text: str):
    assert await talk.api.read("GET", at("/rows/{}", text)) == {"id": text, "query": {}}


@pytest.mark.parametrize(
    "text",
    ["a&b=c", "a\r\nX-Evil: 1\r\n\r\n{}", "a#b", "a?b", "%0d%0a", "é", "😀", "a b+c", "=", "", "\0", ";", "\u2028"],
)
async def test_a_query_and_a_body_arrive_as_they_are(talk: Talk, text: str):
    await talk.api.write("POST", "/rows", {"word": text, f"n{text}": "v"}, {"word": text, f"n{text}": "v"})

    (call,) = talk.vendor.journal
    assert call.path == "/rows"
    assert call.query == call.body == {"word": text, f"n{text}": "v"}
    assert "x-evil" not in call.headers
