"""Work on many records, item by item: whoever resumes it does no item twice.

A job is an action that is `running`. Its items are made once, of what was confirmed, and go one way as actions do: each
is taken before anything happens to it, and settled once. Every word on them is given under the fencing token of the one
who claimed the job last, so that a process which was slow, and not dead, takes nothing and settles nothing any more.

What a process that died has left half done is looked up in the CRM. It is done again only where the CRM can't do it
twice; what nobody can tell ends as `unknown`, and is not repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import anyio

from crm_mcp.actions.action_result import action_result
from crm_mcp.actions.deadlines import somebody_waits
from crm_mcp.actions.intent import Bulk, Intent, ItemResult, Preview, untold
from crm_mcp.actions.outbox import LOOK_WITHIN, NOTHING_WRITTEN, Outbox, ended
from crm_mcp.errors import Busy, CrmError
from crm_mcp.store import LOST, Action, Ended, Item, ItemStatus

log = logging.getLogger("crm_mcp")
T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a job waits for a CRM's limit with items in its hands; for longer it puts them back."""
LONGEST_PAUSE = 60.0
"""Seconds that a job waits at most for a CRM's limit before it asks again."""
MOST_FAILURES = 3
"""Claims in a row that the CRM fails: then the rest is not tried."""
AT_ONCE = 500
"""Items of a job that is given up which are settled together."""
STATE_WITHIN = 120.0
"""Seconds that a job waits for a state that is full, locked or out of reach, before it is left to be resumed."""


async def work_through(outbox: Outbox, row: Action, intent: Intent, seen: Preview) -> dict[str, Any]:
    """Do what is left of a job that this process has claimed; returns the action result so far.

    It stops, and is resumed by whoever finds it, where the program ends or the state can't be reached. It ends where it
    was called off.
    """
    del seen  # what was confirmed is in the row: it is there for whoever resumes it
    assert intent.bulk is not None
    work: _JobRun | None = None
    try:
        work = _JobRun(outbox, row, await intent.bulk())
        return await work.through()
    except CrmError as error:
        log.warning("the job %s can't go on here: %s", row.id, error)
        return action_result(row)
    except Exception:
        # A fault of this program, which would be there again for whoever resumes it.
        log.exception("the job %s failed", row.id)
        if work:
            await work.give_up()
        end = Ended("unknown", reason="the program failed; what was done before stays done", error="internal")
        return await outbox.complete(row, end, fencing_token=outbox.fencing_token(row))


class _JobRun:
    """One process at work on one job."""

    def __init__(self, outbox: Outbox, row: Action, bulk: Bulk) -> None:
        self._outbox = outbox
        self._store = outbox.store
        self._row = row
        self._bulk = bulk
        self._total = 0
        self._ended = 0
        self._failures = 0

    async def through(self) -> dict[str, Any]:
        await self._begin()
        why: str | None = None
        while not self._outbox.ending.is_set():
            if why is None and (forbidden := await self._state(self._bulk.stopped)):
                why = f"not done: {forbidden}"
            pause = await self._claim(why)
            if pause is None:
                return await self._end()
            if self._failures >= MOST_FAILURES:
                why = "not tried"
            await self._pause(pause)
        return action_result(await self._store.actions.get(self._row.id) or self._row)

    async def give_up(self) -> None:
        """Settle what is left of a job that this program fails at: nobody goes on with it."""
        self._bulk = replace(self._bulk, progress=untold)  # it may be what fails
        lost = ItemResult("unknown", {"reason": "not known whether it was done: the program failed"})
        try:
            items = await self._state(lambda: self._store.items.all(self._row.id, "sending"))
            await self._complete(items, [lost] * len(items))
            while await self._claimed(AT_ONCE, "not tried") is not None:
                pass
        except CrmError as error:
            log.warning("what is left of the job %s can't be settled: %s", self._row.id, error)

    async def _claim(self, why: str | None) -> float | None:
        """Take some items, do them, and settle them; where there is a `why`, all that are left fail for it.

        Returns how many seconds to wait before the next; None: there is nothing more to take here.
        """
        most = self._total if why else self._bulk.at_once
        with anyio.CancelScope(shield=True):  # what was taken is not dropped because the program ends
            return await self._claimed(most, why)
        return None

    async def _claimed(self, most: int, why: str | None) -> float | None:
        taken = await self._fenced(
            lambda fencing_token: self._store.items.take(self._row.id, most, fencing_token=fencing_token)
        )
        if not taken:
            return None
        self._outbox.at("items taken")
        told, pause = ([ItemResult("failed", {"reason": why})] * len(taken), 0.0) if why else await self._do(taken)
        self._outbox.at("items done")
        if not await self._complete(taken, told):
            return None
        self._outbox.at("items settled")
        return pause

    async def _begin(self) -> None:
        """Make the items where there are none, and find out what became of those that somebody has left half done."""
        row = self._row
        items = await self._state(lambda: self._store.items.all(row.id))
        if not items:
            # With each come the deduplication keys: whoever calls the job off releases those of what was not begun.
            payloads = [
                {**each, "marks": self._bulk.dedup_keys(row, Item(no=no, payload=dict(each), status="waiting"))}
                for no, each in enumerate(self._bulk.items(row))
            ]
            await self._state(lambda: self._store.items.add(row.id, payloads))
            self._outbox.at("items added")
            self._total = len(payloads)
            return
        self._total = len(items)
        self._ended = sum(1 for each in items if each.status not in ("waiting", "sending"))
        left = [each for each in items if each.status == "sending"]
        lost = f"not known whether it was done: {LOST}"
        if left:
            await self._complete(
                left, [await self._reconcile(each) or ItemResult("unknown", {"reason": lost}) for each in left]
            )

    async def _do(self, taken: Sequence[Item]) -> tuple[list[ItemResult], float]:
        """Do items that were taken; returns what became of each, and how many seconds to wait before the next."""
        try:
            told = [*await self._bulk.do(self._row, taken)]
        except CrmError as error:
            if isinstance(error, Busy) and error.wrote is False:
                return [ItemResult("waiting", {})] * len(taken), min(error.retry_after, LONGEST_PAUSE)
            if error.detail:
                log.warning("%s: %s (%s)", self._row.tool, error, error.detail)
            self._failures += 1
            return [await self._failed(each, error) for each in taken], 0.0
        self._failures = 0
        return told, 0.0

    async def _failed(self, item: Item, error: CrmError) -> ItemResult:
        if error.wrote is False or (error.wrote is None and error.code in NOTHING_WRITTEN):
            return ItemResult("failed", {"reason": f"not done: {error}"})
        return await self._reconcile(item) or ItemResult(
            "unknown", {"reason": f"not known whether it was done: {error}"}
        )

    async def _reconcile(self, item: Item) -> ItemResult | None:
        with anyio.move_on_after(LOOK_WITHIN):
            try:
                return await self._bulk.reconcile(self._row, item)
            except CrmError as error:
                log.info("what became of item %s of %s can't be looked up: %s", item.no, self._row.id, error)
        return None

    async def _complete(self, items: Sequence[Item], told: Sequence[ItemResult]) -> bool:
        ends: list[tuple[int, ItemStatus, Mapping[str, Any]]] = [
            (
                item.no,
                each.status,
                {"marks": self._bulk.dedup_keys(self._row, item)} if each.status == "waiting" else each.result,
            )
            for item, each in zip(items, told, strict=True)
        ]
        released = [
            key
            for item, each in zip(items, told, strict=True)
            if each.status == "failed"
            for key in self._bulk.dedup_keys(self._row, item)
        ]
        settled = await self._fenced(
            lambda fencing_token: self._store.items.complete(
                self._row.id, ends, fencing_token=fencing_token, released=released
            )
        )
        if settled:
            self._ended += sum(1 for each in told if each.status != "waiting")
            await self._tell()
        return settled

    async def _tell(self) -> None:
        if not somebody_waits():
            return
        try:
            await self._bulk.progress(self._ended, self._total)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError) as error:
            log.info("the client of %s can't be told how far it is: %r", self._row.id, error)

    async def _end(self) -> dict[str, Any]:
        """Settle the job, if nothing of it is left."""
        row = self._row
        items = await self._state(lambda: self._store.items.all(row.id))
        if any(each.status in ("waiting", "sending") for each in items):
            # It was called off, or somebody else has it.
            return action_result(await self._store.actions.get(row.id) or row)
        done = self._bulk.sum_up(row, items)
        end = ended(done)
        if items and all(each.status == "unknown" for each in items):
            end = end._replace(status="unknown", reason="not known whether any of it was done")
        result = await self._outbox.complete(row, end, fencing_token=self._outbox.fencing_token(row))
        if result["status"] != "cancelled":
            return result
        # It stays called off; what it did before is found by whoever asks what has changed.
        left = tuple(key for each in items if each.status == "cancelled" for key in self._bulk.dedup_keys(row, each))
        touched = end.touched if any(each.status == "done" for each in items) else ()
        last = end._replace(status="cancelled", reason=None, undo=None, touched=touched, released=left)
        return {**await self._outbox.complete(row, last, fencing_token=self._outbox.fencing_token(row)), **done.fields}

    async def _fenced(self, ask: Callable[[int], Awaitable[T]]) -> T:
        """Ask the state under the fencing token; once more where it is refused and this process was given another one
        since."""
        fencing_token = self._outbox.fencing_token(self._row)
        answer = await self._state(lambda: ask(fencing_token))
        if not answer:
            await anyio.sleep(0.05)
            if (newer := self._outbox.fencing_token(self._row)) != fencing_token:
                return await self._state(lambda: ask(newer))
        return answer

    async def _state(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the state, again and again for a while, where it is full, locked or out of reach."""
        until, wait = anyio.current_time() + STATE_WITHIN, 0.5
        while True:
            try:
                return await ask()
            except CrmError as error:
                if (
                    error.code in ("conflict", "not_found")
                    or self._outbox.ending.is_set()
                    or anyio.current_time() > until
                ):
                    raise
                log.warning("the job %s waits for the state: %s", self._row.id, error)
            await anyio.sleep(wait)
            wait = min(wait * 2, 5.0)

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._outbox.ending.wait()
