"""A second process on the same state. It says `"ready"`, waits for a line, then does what it is told."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import alembic.command
import anyio
import anyio.to_thread

import crm_mcp.store.actions
import crm_mcp.store.contacts
from crm_mcp.store import Store

from .conftest import asked

assert alembic.command
assert crm_mcp.store.actions
assert crm_mcp.store.contacts


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def go() -> None:
    say("ready")
    await anyio.to_thread.run_sync(sys.stdin.readline)


async def claim(store: Store, ids: list[str]) -> None:
    await go()
    say([each for each in ids if await store.claim(each, "ops", "token") is not None])


async def propose(store: Store, digests: list[str]) -> None:
    await go()
    say([(await store.propose(asked(digest=digest), timedelta(minutes=10))).id for digest in digests])


async def undo(store: Store, ids: list[str]) -> None:
    await go()
    say([each for each in ids if await store.mark_undone(each, "ops")])


async def create(store: Store, _: list[str]) -> None:
    await go()
    say((await store.begin(asked(), "policy")).id)


async def write(store: Store, counts: list[str]) -> None:
    await go()
    ids: list[str] = []
    for _ in range(int(counts[0])):
        action = await store.begin(asked(), "policy")
        await store.settle(action.id, "done", touched=(("lead", "1"),))
        ids.append(action.id)
    say(ids)


async def begin(store: Store, _: list[str]) -> None:
    await go()
    say((await store.begin(asked(), "policy")).id)
    await anyio.sleep_forever()


async def main() -> None:
    work = {each.__name__: each for each in (claim, propose, undo, create, write, begin)}[sys.argv[1]]
    store = Store(Path(sys.argv[2]))
    await work(store, sys.argv[3:])
    await store.aclose()


anyio.run(main)
