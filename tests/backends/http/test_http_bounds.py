"""What an answer or a setting asks for has bounds: waits, hosts, proxies."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from crm_mcp.backends.http import Api
from crm_mcp.backends.rate_limit import bulk_work
from crm_mcp.errors import Busy, Unreachable, VendorError

from .conftest import Talk

Client = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.mark.parametrize("asked", ["9" * 400, "3600", "86400"])
async def test_a_read_of_bulk_work_does_not_wait_for_as_long_as_a_vendor_likes(talk: Talk, asked: str):
    talk.vendor.fail("status", status=503, headers={"retry-after": asked})

    started = time.monotonic()
    with pytest.raises(VendorError, match=r"try again in \d+ seconds"), bulk_work():
        await talk.api.read("GET", "/rows")

    assert time.monotonic() - started < 5
    assert talk.statuses() == [503]


async def test_a_limit_that_is_held_for_ever_is_held_for_a_day(talk: Talk):
    talk.vendor.fail("status", status=429, headers={"retry-after": "9" * 400})

    with pytest.raises(Busy) as refused:
        await talk.api.read("GET", "/rows")

    assert 0 < refused.value.retry_after <= 86_400


@pytest.mark.parametrize("path", ["rows", ".evil.example/rows", "@evil.example/rows", ":1/rows"])
async def test_a_path_makes_no_other_host(talk: Talk, path: str):
    with pytest.raises(VendorError, match="does not begin with /"):
        await talk.api.read("GET", path)

    assert talk.statuses() == []


async def test_a_proxy_that_can_not_be_used_is_said(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")

    async with client("https://crm.example") as api:
        with pytest.raises(Unreachable, match="proxy"):
            await api.read("GET", "/rows")
