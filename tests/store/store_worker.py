"""A second process on the same state. It says `"ready"`, waits for a line, then does what it is told."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import alembic.command
import anyio
import anyio.to_thread
import psycopg

import crm_mcp.store.actions
import crm_mcp.store.items
from crm_mcp.store import Action, Ended, Store

from .conftest import State, asked, begun, sending, sms

assert alembic.command
assert psycopg
assert crm_mcp.store.actions
assert crm_mcp.store.items


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def go() -> None:
    say("ready")
    await anyio.to_thread.run_sync(sys.stdin.readline)


async def claim(store: Store, ids: list[str]) -> None:
    await go()
    say([each for each in ids if await store.actions.claim(each, "token", sending()) is not None])


async def propose(store: Store, digests: list[str]) -> None:
    await go()
    say([(await store.actions.propose(asked(digest=digest), timedelta(minutes=10))).id for digest in digests])


async def undo(store: Store, ids: list[str]) -> None:
    await go()
    say([each for each in ids if await store.actions.mark_undone(each, "ops")])


async def create(store: Store, _: list[str]) -> None:
    await go()
    say((await begun(store)).id)


async def write(store: Store, counts: list[str]) -> None:
    await go()
    ids: list[str] = []
    for _ in range(int(counts[0])):
        action = await begun(store)
        await store.actions.complete(action.id, Ended("done", touched=(("lead", "1"),)))
        ids.append(action.id)
    say(ids)


async def begin(store: Store, _: list[str]) -> None:
    await go()
    say((await begun(store, sending(sms()))).id)
    await anyio.sleep_forever()


async def send(store: Store, texts: list[str]) -> None:
    """Begin a message with each text, several at once."""
    won: list[str] = []

    async def one(text: str) -> None:
        if isinstance(await store.actions.begin(asked(), "policy", sending(sms(text))), Action):
            won.append(text)

    await go()
    async with anyio.create_task_group() as group:
        for text in texts:
            group.start_soon(one, text)
    say(won)


async def take(store: Store, _: list[str]) -> None:
    await go()
    taken: list[str] = []
    while action := await store.actions.take(["work"]):
        taken.append(action.id)
    say(taken)


async def items(store: Store, arguments: list[str]) -> None:
    action_id, fencing_token = arguments
    await go()
    taken: list[int] = []
    while some := await store.items.take(action_id, 3, fencing_token=int(fencing_token)):
        taken += [item.no for item in some]
        assert await store.items.complete(
            action_id, [(item.no, "done", None) for item in some], fencing_token=int(fencing_token)
        )
    say(taken)


async def main() -> None:
    commands = (claim, propose, undo, create, write, begin, send, take, items)
    work = {each.__name__: each for each in commands}[sys.argv[1]]
    store = State(Path(sys.argv[2]), sys.argv[3] or None).store()
    await work(store, sys.argv[4:])
    await store.aclose()


anyio.run(main)
