"""A CRM that mixes up two records, as a cache, a proxy or a look-up that guesses may."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from crm_mcp.sandbox.emulator import Answer, Call, Emulator

How = Literal["reads", "answers", "writes"]


@contextmanager
def mixed_up(there: Emulator, asked: str, shown: str, how: How) -> Generator[list[str]]:
    """Let an emulator take one id for another: in what it reads, in its answers to writes, or in the writes themselves.
    Gives the paths of the requests that were hit."""
    routed = there._routed  # pyright: ignore[reportPrivateUsage]
    hit: list[str] = []

    async def wrong(call: Call) -> Answer:
        if how == "answers":
            answer = await routed(call)
            if call.method == "GET" or asked not in (body := json.dumps(answer.body)):
                return answer
            hit.append(call.path)
            return replace(answer, body=json.loads(body.replace(asked, shown)))
        named = asked in (*call.path.split("/"), *call.query.values())
        if named and (call.method == "GET") == (how == "reads"):
            hit.append(call.path)
            query = {name: value.replace(asked, shown) for name, value in call.query.items()}
            call = replace(call, path=call.path.replace(asked, shown), query=query)
        return await routed(call)

    there._routed = wrong  # pyright: ignore[reportPrivateUsage]
    try:
        yield hit
    finally:
        del there._routed  # pyright: ignore[reportPrivateUsage]
