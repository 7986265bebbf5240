"""The one place where a request leaves: pool, time-outs, pace, retries, errors, redaction.

What can be repeated without harm is: reads after 429, 502, 503, 504, a lost connection or an answer that is none, with
growing pauses; writes only where the CRM can't have processed them, which is after 429 and before the first byte was
sent. A write that left and got no clear answer raises `OutcomeUnknown`.

The key goes into one header, to one host. No redirect is followed to another host or scheme. What the vendor says in an
error stays in `detail`, without the key.
"""

from __future__ import annotations

import logging
import math
import re
import socket
import ssl
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any, Literal
from urllib.parse import quote

import anyio
import httpx2
import stamina
from anyio import to_thread
from pydantic import SecretStr

from crm_mcp import __version__
from crm_mcp.backends.http_errors import MEANING, MOST_SAID, faulty, parsed, told_in, written_other
from crm_mcp.backends.rate_limit import RateLimit, retry_after, unhurried
from crm_mcp.errors import (
    Busy,
    CrmError,
    InvalidArgument,
    NotFound,
    OtherRecord,
    OtherWritten,
    OutcomeUnknown,
    TimedOut,
    Unreachable,
    VendorError,
)
from crm_mcp.model import Budget

log = logging.getLogger(__name__)
stamina.instrumentation.set_on_retry_hooks(())  # what is tried again is logged here, in words

MOST_BYTES = 10_000_000
"""Size of an answer, unpacked, that is still read."""
LARGE = 100_000
"""Size from which on an answer is decoded in a thread."""
ONE_TRY = 10.0
"""Seconds for one request, from the first byte sent to the last byte read."""
MANY = 60.0
"""The same for a write of many records."""
ALL_TRIES = 20.0
"""Seconds for a read with its repetitions, waits for the limit included."""
MOST_ASKED = 60.0
"""Seconds that a vendor may ask for before the next try of a read, where nobody waits for it."""
TRIES = 4
FIRST_PAUSE = 0.5
MOST_REDIRECTS = 3
POOL = httpx2.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=30)
CONNECT = 5.0
TALKATIVE = ("httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.proxy")
"""The loggers of the HTTP library, which log the vendor's headers."""

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Query = Mapping[str, str | int | None]


@dataclass(frozen=True)
class ApiProfile:
    """How a vendor's API is spoken to."""

    name: str
    """What the vendor is called in errors."""
    base_url: str
    key: SecretStr
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further headers of every request."""
    hints: Mapping[int, str] = field(default_factory=dict[int, str])
    """What to do about a status, where this vendor's meaning of it is known."""


class Api:
    """One vendor's API behind one connection. Nothing is opened before the first request."""

    first_pause = FIRST_PAUSE
    """Seconds before the first repetition of a read."""

    def __init__(self, profile: ApiProfile, pace: RateLimit) -> None:
        self._profile = profile
        self._pace = pace
        self._client: httpx2.AsyncClient | None = None
        key = profile.key.get_secret_value()
        # As it is, escaped in JSON or by repr(), and in a URL.
        self._secret = re.compile(r"\\*".join(map(re.escape, key)) + "|" + re.escape(quote(key, safe="")))
        self._redaction = _Redaction(self._clean)

    def __repr__(self) -> str:
        return f"Api({self._profile.name}, {self._profile.base_url})"

    async def read(
        self, method: Method, path: str, query: Query | None = None, body: Any = None, *, missing: str = ""
    ) -> Any:
        """Make a request that changes nothing, again where that helps; returns the JSON of the answer.

        `missing` is what a 404 means, in our words.
        """
        call = _Call(method, path, query, body, missing, reads=True)
        with self._deadline():
            answer = await self._repeated(call)
        if answer is None:
            raise VendorError(f"{self._profile.name} answered nothing", "try again", wrote=False)
        return answer

    async def write(
        self,
        method: Method,
        path: str,
        body: Any = None,
        query: Query | None = None,
        *,
        missing: str = "",
        bulk: bool = False,
    ) -> Any:
        """Make a request that changes something, once; returns the JSON of the answer, None where it is empty.

        `bulk` is a call to an endpoint for many records, which may have a limit of its own.

        Raises:
            OutcomeUnknown: it left, and whether it was done is not known.
        """
        return await self._repeated(_Call(method, path, query, body, missing, reads=False, bulk=bulk))

    def budget(self) -> tuple[Budget, ...]:
        """Return how many calls are left."""
        return self._pace.budget()

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
            for name in TALKATIVE:
                logging.getLogger(name).removeFilter(self._redaction)
        self._pace.close()

    @contextmanager
    def _deadline(self) -> Generator[None]:
        try:
            with anyio.fail_after(None if unhurried() else ALL_TRIES):
                yield
        except TimeoutError:
            text = f"{self._profile.name} did not answer in {ALL_TRIES:.0f} seconds"
            raise TimedOut(text, "try again", wrote=False) from None

    async def _repeated(self, call: _Call) -> Any:
        """Make a request as often as it may be made."""
        seconds = None if unhurried() else ALL_TRIES
        end = anyio.current_time() + (seconds or math.inf)
        try:
            async for attempt in stamina.retry_context(
                on=_worth_another,
                attempts=TRIES,
                timeout=seconds,
                wait_initial=self.first_pause,
                wait_jitter=self.first_pause,
            ):
                with attempt:
                    return await self._once(call, end)
        except _Again as last:
            raise last.error from None
        raise AssertionError  # the loop returns or raises

    async def _once(self, call: _Call, end: float) -> Any:
        """Make one request, and follow where it leads; nothing is waited for beyond the moment `end`.

        Raises:
            _Again: it failed, and may be made again.
        """
        answer = await self._led(call, end)
        if answer.status < 300:
            if len(answer.body or b"") < LARGE:
                return self._decoded(call, answer)
            return await to_thread.run_sync(self._decoded, call, answer)  # other calls go on meanwhile
        error = self._refused(call, answer)
        if not call.reads or answer.status not in (408, 502, 503, 504):
            raise error
        asked = retry_after(answer.headers, time())
        if asked is not None and asked > min(end - anyio.current_time(), MOST_ASKED):
            raise type(error)(error.what, f"try again in {math.ceil(asked)} seconds", detail=error.detail, wrote=False)
        raise _Again(error, asked)

    async def _led(self, call: _Call, end: float) -> _Answer:
        """Make one request, follow where it leads, and learn what the answers say of the limit."""
        url = self._at(call.path)
        query = {name: value for name, value in (call.query or {}).items() if value is not None} or None
        redirects = 0
        while True:
            # Made before its turn, so that it leaves when it is counted.
            request = self._request(call, url, query)
            left = await self._pace.slot(bulk=call.bulk, patience=max(0.0, end - anyio.current_time()))
            answer = await self._fetch(call, request)
            if answer.status == 429:
                seconds = self._pace.refused(answer.headers, bulk=call.bulk)
                text = f"{self._profile.name} says that its limit of calls is used up"
                # The wait for the next try is the pace's, which refuses it where it would be too long.
                raise _Again(Busy(text, retry_after=math.ceil(seconds)), pause=0.0)
            self._pace.learn(answer.headers, bulk=call.bulk, left=left)
            following = _following(url, answer) if call.reads and call.method == "GET" else None
            if following is None or redirects == MOST_REDIRECTS:
                return answer
            url, query, redirects = following, None, redirects + 1

    def _at(self, path: str) -> httpx2.URL:
        # A corrected path without its first slash would make another host of ours, which would be given the key.
        if not path.startswith("/"):
            raise VendorError(f"a path of {self._profile.name} does not begin with /", "correct `keys` in the settings")
        return httpx2.URL(self._profile.base_url.rstrip("/") + path)

    def _request(self, call: _Call, url: httpx2.URL, query: Mapping[str, str | int] | None) -> httpx2.Request:
        seconds = _seconds(call)
        timeout = httpx2.Timeout(seconds, connect=min(CONNECT, seconds))
        try:
            return self._opened().build_request(call.method, url, params=query, json=call.body, timeout=timeout)
        except ImportError as error:
            text = f"{self._profile.name} can't be reached: the environment's proxy is of a kind that is not supported"
            raise Unreachable(text, "use an HTTP proxy", detail=self._clean(repr(error)), wrote=False) from None
        except (ValueError, RecursionError, httpx2.InvalidURL) as error:
            text = "a value can't be sent: it is too long, nested too deeply, or no valid text or number"
            raise InvalidArgument(text, "check the values", detail=self._clean(repr(error)), wrote=False) from None

    async def _fetch(self, call: _Call, request: httpx2.Request) -> _Answer:
        """Send one request and read its answer."""
        sent = False

        async def watch(event: str, what: Mapping[str, Any]) -> None:
            nonlocal sent
            # To a proxy, a request to connect goes ahead of ours.
            sent = sent or (event.endswith("send_request_headers.started") and what["request"].method != b"CONNECT")

        request.extensions["trace"] = watch
        try:
            with anyio.fail_after(_seconds(call)):
                response = await self._opened().send(request, stream=True)
                try:
                    return _Answer(response.status_code, response.headers, await _limited(response))
                finally:
                    await response.aclose()
        except (httpx2.TransportError, TimeoutError) as error:
            raise self._lost(call, error, sent=sent) from None
        except httpx2.DecodingError as error:
            raise self._senseless(call, repr(error)) from None

    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            https = self._profile.base_url.startswith("https://")
            self._client = httpx2.AsyncClient(
                headers={
                    "Authorization": f"Bearer {self._profile.key.get_secret_value()}",
                    "Accept": "application/json",
                    "User-Agent": f"crm-mcp/{__version__}",
                    **self._profile.headers,
                },
                limits=POOL,
                follow_redirects=False,
                # A proxy of the environment would be given what goes to a sandbox on this machine.
                trust_env=https,
                # Where there is no TLS the authorities are not read, which takes longer than a call: nobody is trusted.
                verify=True if https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            )
            for name in TALKATIVE:
                logging.getLogger(name).addFilter(self._redaction)
        return self._client

    def _lost(self, call: _Call, error: Exception, *, sent: bool) -> Exception:
        """Return what it means that a request got no answer."""
        name, detail = self._profile.name, self._clean(repr(error))
        if not sent:
            what, fix, lasting = _never_connected(error)
            unreachable = Unreachable(f"{name} can't be reached: {what}", fix, detail=detail, wrote=False)
            return unreachable if lasting else _Again(unreachable)
        if not call.reads:
            return OutcomeUnknown(f"the request left for {name} and no answer came", detail=detail)
        if isinstance(error, TimeoutError | httpx2.TimeoutException):
            text = f"{name} did not answer in {_seconds(call):.0f} seconds"
            return TimedOut(text, "try again", detail=detail, wrote=False)
        return _Again(Unreachable(f"{name} broke off its answer", "try again", detail=detail, wrote=False))

    def _senseless(self, call: _Call, detail: str) -> Exception:
        """Return what it means that an answer is not what it should be."""
        name = self._profile.name
        if not call.reads:
            return OutcomeUnknown(f"{name} took the request, and its answer can't be read", detail=self._clean(detail))
        return _Again(
            VendorError(f"{name}'s answer can't be read", "try again", detail=self._clean(detail), wrote=False)
        )

    def _decoded(self, call: _Call, answer: _Answer) -> Any:
        if answer.body is None:
            raise self._too_large(call)
        if not answer.body.strip():
            if call.reads:
                raise self._senseless(call, f"{answer.status} without a body")
            return None
        try:
            return parsed(answer.body)
        except (ValueError, RecursionError) as error:
            # A vendor may answer `deleted` or nothing to what it did; a page where a record should be is another thing.
            raise self._senseless(call, f"{error}: {self._said(answer)[:500]!r}") from None

    def _too_large(self, call: _Call) -> Exception:
        text = f"{self._profile.name}'s answer is larger than {MOST_BYTES // 1_000_000} MB"
        if call.reads:
            return VendorError(text, "ask for fewer rows or a narrower filter", wrote=False)
        return OutcomeUnknown(text)

    def _refused(self, call: _Call, answer: _Answer) -> CrmError:
        """Return the error of a status that says no."""
        name, status = self._profile.name, answer.status
        said = self._said(answer)
        detail = self._clean(f"{call.method} {call.path}: {status} {said[:500]!r}")
        hint = self._profile.hints.get(status, "")
        if status < 400 and (call.reads or status in (301, 307, 308)):
            return VendorError(
                f"{name} redirects to another address, which is not followed",
                "give the address of the API itself as base URL",
                detail=detail,
                wrote=False,
            )
        if not call.reads and (status < 400 or status == 408 or status >= 500):
            return OutcomeUnknown(f"{name} answered {status}, and may have done it all the same", detail=detail)
        if status >= 500:
            return VendorError(f"{name} failed ({status})", "try again later", detail=detail, wrote=False)
        kind, what, fix = MEANING.get(status, (VendorError, f"{name} refused the request ({status})", ""))
        what = what.format(name=name)
        if status == 404 and call.missing:
            what, fix = call.missing, "the id may be wrong, or the record deleted"
        told = told_in(said)
        if status in (400, 422) and (fields := faulty(told, [call.body, call.query])):
            what += f": {', '.join(fields)}"
        error = kind(what, hint or fix, detail=detail, wrote=False)
        error.status, error.told = status, told
        return error

    def _said(self, answer: _Answer) -> str:
        """Return the text of an answer without the key, of which no part may be left where the text is cut."""
        return self._clean((answer.body or b"")[:MOST_SAID].decode("utf-8", "replace"))

    def _clean(self, text: str) -> str:
        return self._secret.sub("***", text)


class _Redaction(logging.Filter):
    """Keeps the key out of a log."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        super().__init__()
        self._clean = clean

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._clean(record.getMessage()), None
        return True


@contextmanager
def after_write() -> Generator[None]:
    """Mark what fails inside as failing after something was written. Where another record is shown then, it is not
    known what was."""
    try:
        yield
    except OtherRecord as error:
        raise written_other(error.shown, error.detail) from error
    except OtherWritten:
        raise
    except CrmError as error:
        error.wrote = True
        raise


def at(template: str, *ids: str) -> str:
    """Return a path with ids in it, as `at("/leads/{}", lead)`; nothing in an id can change the path.

    Raises:
        NotFound: an id is none that a path could have.
    """
    for each in ids:
        # A server, or one before it, may take an escaped slash for a slash.
        climbs = any(part in (".", "..") for part in re.split(r"[/\\]", each))
        if not each or climbs or any(ord(c) < 32 for c in each) or len(each) > 200:
            shown = "".join(c for c in each[:80] if c.isprintable())
            raise NotFound(f'there is no record with the id "{shown}"', "give an id as the CRM has it")
    try:
        return template.format(*(quote(each, safe="") for each in ids))
    except UnicodeEncodeError:
        raise NotFound("there is no record with this id", "give an id as the CRM has it") from None


@dataclass(frozen=True)
class _Call:
    method: Method
    path: str
    query: Query | None
    body: Any
    missing: str
    reads: bool
    bulk: bool = False


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes | None
    """None where it was too large to be read."""


def _seconds(call: _Call) -> float:
    return MANY if call.bulk else ONE_TRY


class _Again(Exception):
    """A request failed in a way that allows it to be made again."""

    def __init__(self, error: CrmError, pause: float | None = None) -> None:
        super().__init__(str(error))
        log.info("tried again where that may help: %s (%s)", error, error.detail)
        self.error = error
        self.pause = pause


def _worth_another(error: Exception) -> bool | float:
    if not isinstance(error, _Again):
        return False
    return True if error.pause is None else error.pause


def _following(url: httpx2.URL, answer: _Answer) -> httpx2.URL | None:
    """Return where a redirect leads, if that is the same scheme, host and port: the key goes nowhere else."""
    location = answer.headers.get("location")
    if answer.status not in (301, 302, 307, 308) or not location:
        return None
    try:
        target = url.join(location)
    except (httpx2.InvalidURL, ValueError):
        return None
    same = (target.scheme, target.host, target.port) == (url.scheme, url.host, url.port)
    return target if same and not target.userinfo else None


async def _limited(response: httpx2.Response) -> bytes | None:
    """Return the body, unpacked, or None where it is too large."""
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MOST_BYTES:
        return None
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MOST_BYTES:
                return None
            parts.append(part)
    except (httpx2.TransportError, httpx2.DecodingError):
        if not 400 <= response.status_code < 500:
            raise
        return b""  # the status has said what there is to say
    return b"".join(parts)


def _never_connected(error: Exception) -> tuple[str, str, bool]:
    """Return why no connection came about, what to do, and whether it would be the same at once again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            what, fix = "its certificate is not trusted, or TLS failed", "check the base URL and this machine's clock"
            return what, fix, isinstance(cause, ssl.SSLCertVerificationError)
        if isinstance(cause, socket.gaierror):
            return "its name can't be resolved", "check the base URL and this machine's network", False
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return "no connection in time", "check this machine's network", False
    return "the connection is refused or fails", "check the base URL and this machine's network", False
