"""Lists: cursors that can't be forged, and as many rows as a result has room for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from crm_mcp.actions.context import Context
from crm_mcp.actions.offload import offload
from crm_mcp.config import sealing_key
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Page, Record, Slice
from crm_mcp.server.rendering import MOST, fits, size

R = TypeVar("R", bound=Record)
_SEAL = 12


def seal(context: Context, query: Mapping[str, Any], position: str) -> str:
    """Return a cursor for this query: opaque, and valid for nothing else."""
    body = position.encode()
    return base64.urlsafe_b64encode(_mac(context, query, body) + body).decode().rstrip("=")


def unseal(context: Context, query: Mapping[str, Any], cursor: str) -> str:
    """Return the position that a cursor of this query stands for.

    Raises:
        InvalidArgument: the cursor was altered, or belongs to another query.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raw = b""
    body = raw[_SEAL:]
    if not body or not hmac.compare_digest(raw[:_SEAL], _mac(context, query, body)):
        raise InvalidArgument(
            "cursor is not one of this list with these filters",
            "leave it out to start anew, or repeat the first call's filters",
        )
    return body.decode()


async def listed(
    context: Context,
    name: str,
    query: Mapping[str, Any],
    limit: int,
    cursor: str | None,
    fetch: Callable[[Slice], Awaitable[Page[R]]],
    *,
    counted: bool = False,
    shape: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: rows,
) -> dict[str, Any]:
    """Return a part of a list as the contract has it: the rows under `name`, `next_cursor`, and `total` (null where
    it is not known) where it is `counted`.

    `query` is what the cursor is bound to: the tool and its filters. Fewer rows come where they would be too large.
    """
    position = unseal(context, query, cursor) if cursor else None

    async def build(most: int) -> dict[str, Any]:
        page = await fetch(Slice(limit=most, position=position))
        rows = shape([item.shown() for item in page.items])
        result: dict[str, Any] = {name: rows, "next_cursor": seal(context, query, page.next) if page.next else None}
        return result | {"total": page.total} if counted else result

    return await fitted(limit, build)


def only_connection(contexts: Sequence[Context]) -> str | None:
    """Return the connection that is meant where several are configured and one was named; else None."""
    chosen = contexts[0]
    return chosen.connection if len(contexts) < len(chosen.settings.connections) else None


async def fitted(limit: int, build: Callable[[int], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Return what `build` makes of as many rows, up to `limit`, as a result has room for.

    Each try may cost calls of a vendor's limit, so that the next one is sized by what did not fit.
    """
    while True:
        result = await build(limit)
        if limit == 1 or fits(result):
            return result
        limit = max(1, min(limit * 2 // 3, int(limit * 0.95 * MOST / await offload(result, size, result))))


def _mac(context: Context, query: Mapping[str, Any], body: bytes) -> bytes:
    bound = json.dumps([context.connection, query], sort_keys=True, default=str, ensure_ascii=False).encode()
    return hashlib.blake2b(
        body,
        key=sealing_key(context.settings.data_dir),
        digest_size=_SEAL,
        salt=hashlib.blake2b(bound, digest_size=16).digest(),
    ).digest()
