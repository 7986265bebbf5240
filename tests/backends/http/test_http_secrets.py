"""The key is in no log, error, traceback or file, whatever the vendor repeats of it."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from crm_mcp.backends.http import Api, ApiProfile
from crm_mcp.errors import CrmError

from .conftest import KEY, Talk, answer, raw, saying

Client = Callable[..., AbstractAsyncContextManager[Api]]
ODD = "tv/can+ary'\"\\key=0123456789~"


def everything(error: BaseException, log: str) -> str:
    """Return all that could be shown of an error."""
    shown = "".join(traceback.format_exception(error))
    return "\n".join([str(error), repr(error), str(vars(error)), getattr(error, "detail", ""), shown, log])


def loud(caplog: pytest.LogCaptureFixture) -> None:
    """Log all that the HTTP library can log."""
    for name in ("", *logging.Logger.manager.loggerDict):
        if name.startswith(("httpx2", "httpcore2", "crm_mcp")) or not name:
            caplog.set_level(logging.DEBUG, logger=name)


@pytest.mark.parametrize("key", [KEY, ODD])
@pytest.mark.parametrize(
    ("status", "told"), [*product([302, 400, 401, 422, 429, 500, 503], [True, False]), (200, False)]
)
async def test_a_key_that_the_vendor_repeats_is_shown_nowhere(
    client: Client, caplog: pytest.LogCaptureFixture, key: str, status: int, told: bool
):
    loud(caplog)
    php = json.dumps({"key": key, "data": {key: [key]}}).replace("/", "\\/")
    body = (php if told else f"{'x' * 490} {key} {quote(key, safe='')} {php} {key!r}").encode()
    head = f"HTTP/1.1 {status} Odd {key}\r\nX-Echo: {key}\r\nLocation: /?key={quote(key, safe='')}"
    async with raw(saying(answer(body, head.encode()))) as there, client(there.url, key=key) as api:
        for call in (api.read("GET", "/rows"), api.write("POST", "/rows", {"name": "x"})):
            with pytest.raises(CrmError) as raised:
                await call

            shown = everything(raised.value, caplog.text)
            assert key not in shown
            assert quote(key, safe="") not in shown
            assert key[:12] not in shown.replace("\\", "")
        assert there.requests


async def test_a_failure_to_connect_shows_no_key(client: Client, caplog: pytest.LogCaptureFixture):
    loud(caplog)
    async with raw(saying(b"")) as there, client(there.url) as api:
        for call in (api.read("GET", "/rows"), api.write("POST", "/rows", {"name": "x"})):
            with pytest.raises(CrmError) as raised:
                await call
            assert KEY not in everything(raised.value, caplog.text)


async def test_the_library_logs_what_happens_without_the_key(talk: Talk, caplog: pytest.LogCaptureFixture):
    loud(caplog)

    await talk.api.read("GET", "/rows", {"echo": KEY})

    assert "send_request_headers" in caplog.text
    assert KEY not in caplog.text


async def test_the_client_lets_go_of_the_librarys_loggers(talk: Talk):
    logger = logging.getLogger("httpx2")
    before = [*logger.filters]  # those of clients of other tests in this process
    await talk.api.read("GET", "/rows")
    [own] = [each for each in logger.filters if each not in before]

    await talk.api.aclose()

    assert own not in logger.filters


def test_terms_show_no_key():
    profile = ApiProfile("Tiny", "https://crm.example", SecretStr(KEY))

    assert KEY not in f"{profile} {profile!r}"


async def test_the_client_shows_no_key(talk: Talk):
    await talk.api.read("GET", "/rows")

    assert repr(talk.api) == f"Api(Tiny, {talk.url})"


def written(folder: Path) -> list[bytes]:
    """Return what all files in a folder have."""
    return [each.read_bytes() for each in folder.rglob("*") if each.is_file()]


async def test_no_file_has_the_key(talk: Talk, tmp_path: Path):
    await talk.api.read("GET", "/rows")

    assert written(tmp_path) != []
    assert [each for each in written(tmp_path) if KEY.encode() in each] == []
