"""How SalesPulse's emulator sends its events: plain posts without a signature, as none is documented."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError

import anyio.to_thread


async def post_all(target: str, events: Sequence[dict[str, Any]]) -> list[int]:
    """Post one event after the other to an `http` address; returns the statuses.

    Raises:
        OSError: the address can't be reached.
    """
    return [await anyio.to_thread.run_sync(_post, target, each) for each in events]


def _post(target: str, event: dict[str, Any]) -> int:
    body = json.dumps(event).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(target, body, headers)  # noqa: S310 - the address is the tester's own
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
