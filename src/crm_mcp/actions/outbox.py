"""Why a message can't go out twice.

Every write and send is a row of the store before its request leaves, and goes one way only:

    begin or claim    One transaction tests the kill switch, the duplicates and the limits, and turns the row into
                      `sending`. Of two calls, processes or answers that want the same, one gets it; the others are
                      told what became of that one. Nothing leads from `sending` back to where it could be claimed.
    run               The request leaves once. A retry below this room happens only where nothing can have left.
    complete          What the CRM answered is written down: done, or failed where it surely did nothing.
    reconcile         Where the answer is lost, the CRM's own history is asked. It can turn the row into done. Whatever
                      it can't settle stays `unknown`: visible, and never sent again by itself.

While it works, a process holds the row by a lease and renews it every few seconds. Whoever finds a row that is still
`sending` with its lease run out does the last step alone: it looks, and never sends (`worker.py`).

What has the same effect is recognised by content, not by the request: the deduplication keys of a row (a channel, an
address and a text; a sequence and a lead; a caller's whole call) are taken in the transaction that claims it, and are
kept when it is done or unknown. A client that lost its connection and asks again lands on them, and gets the answer of
the first.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import anyio.abc

from crm_mcp.actions.action_result import action_result, found_in_history, result_of_repeat, taken_back
from crm_mcp.actions.deadlines import READS_WITHIN, while_somebody_waits
from crm_mcp.actions.guards.inbound import block_opted_out
from crm_mcp.actions.intent import Execution, Intent, Outcome, Preview, nothing_under_way, under_way
from crm_mcp.actions.summary import differences
from crm_mcp.errors import Conflict, CrmError, Internal, OutcomeUnknown
from crm_mcp.store import LEASE, Action, ClaimConditions, DedupKey, Ended, NewAction, Repeated, Status, Stopped, Store
from crm_mcp.text import one_line

log = logging.getLogger("crm_mcp")

LOOKS = (3, 6, 12, 24, 48, 96, 192)
"""Seconds between the looks at a CRM's history for an action whose outcome is unknown; then it stays so."""
LOOK_PAUSES = (0.0, 1.0)
"""Seconds before each reading of the history in one look: what was sent may show a moment later."""
LOOK_WITHIN = 8.0
"""Seconds that a call may spend on looking: a CRM that does not answer is not asked for ever."""
AGAIN = timedelta(minutes=1)
"""When a deferred message is tried again that could not be looked at, or met a limit in the last moment."""
LOOKING = LEASE + timedelta(seconds=READS_WITHIN)
"""How long after the looking before it a request may leave."""
SLEPT = "the program was stopped before the request left; nothing was written; make the call again"
NOTHING_WRITTEN = frozenset(
    {
        "invalid_argument",
        "not_found",
        "ambiguous",
        "conflict",
        "unsupported",
        "forbidden",
        "unauthorized",
        "rate_limited",
    }
)
"""Refusals of a CRM that say of themselves that nothing was done."""


Job = Callable[["Outbox", Action, Intent, Preview], Awaitable[dict[str, Any]]]
"""Does what is left of a job; returns the action result so far."""


class Outbox:
    """The actions of one process: begun, held, settled, and looked up where the answer is lost."""

    def __init__(self, store: Store, job: Job) -> None:
        """`job` works through what is done item by item."""
        self.store = store
        self._job = job
        self.at: Callable[[str], None] = lambda _: None
        """Told of every step that an action takes; a test may end the process there."""
        self._tasks: anyio.abc.TaskGroup | None = None
        """Where actions go on behind calls; None: a call is not answered before its action has ended."""
        self._busy: dict[str, int] = {}
        """The actions that are worked on here, each with the fencing token that was given to this process last."""
        self.ending = anyio.Event()
        """The program ends: a job stops after the items it is at, and is resumed by whoever finds it."""

    @asynccontextmanager
    async def behind_calls(self) -> AsyncGenerator[anyio.abc.TaskGroup]:
        """Let actions go on behind calls that have been answered, with whatever else is started in this group. At the
        end, what was begun is finished."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield tasks
            finally:
                self.ending.set()
                self._tasks = None

    # Beginning

    async def start(
        self, new: NewAction, approved_by: str, conditions: ClaimConditions, intent: Intent, seen: Preview
    ) -> dict[str, Any]:
        """Begin an action that needs no answer, and run it."""
        self.at("beginning")
        got = await self.store.actions.begin(new, approved_by, conditions)
        if isinstance(got, Stopped):
            return action_result(await self.store.actions.note(new, "blocked", got.reason))
        if isinstance(got, Repeated):
            return await self.result_of(got.earlier)
        return await self._carry_on(got, intent, seen)

    async def redeem(
        self,
        row: Action,
        approved_by: str | None,
        intent: Intent,
        caller: str | None = None,
        fresh: Preview | None = None,
    ) -> dict[str, Any]:
        """Run what was confirmed, or has come due: looked at once more, claimed once, and only as it was shown.

        `fresh` is its preview where it has been made after the answer, a moment ago.
        """
        row = row.model_copy(update={"approved_by": approved_by or row.approved_by})
        try:
            fresh = fresh or await intent.preview(bool(row.facts))
        except CrmError as error:
            if error.code not in NOTHING_WRITTEN or error.code == "rate_limited":
                raise  # the CRM can't be asked now: the row waits on
            return await self.end(row, "failed", f"{error}; nothing was written")
        if fresh.repeats:  # another call did it, or another answer to the same question
            await self.end(row, "cancelled", f"the same is {fresh.repeats.status} as {fresh.repeats.id}")
            return await self.result_of(fresh.repeats)
        if fresh.blocked and (answer := await self._blocked(row, fresh)):
            return answer
        if changed := differences(row.facts, fresh.facts):
            why = f"void, because it has changed since it was shown: {changed}; make the call again"
            return await self.end(row, "expired", why)
        self.at("claiming")
        got = await self.store.actions.claim(row.id, approved_by, claim_conditions(row, fresh), caller=caller)
        if isinstance(got, Stopped) and row.status == "scheduled":
            # Another was quicker, and took the room: whether it ends or waits on is seen at the next look.
            await self.store.actions.put_off(
                row.id, self.store.clock() + AGAIN, got.reason, fencing_token=row.fencing_token
            )
            return action_result(await self.store.actions.get(row.id) or row)
        if isinstance(got, Stopped):
            return await self.end(row, "blocked", got.reason)
        if isinstance(got, Repeated):
            await self.end(row, "cancelled", f"the same is {got.earlier.status} as {got.earlier.id}")
            return await self.result_of(got.earlier)
        if got is None:
            return result_of_repeat(await self.store.actions.get(row.id) or row)
        return await self._carry_on(got, intent, fresh)

    async def _blocked(self, row: Action, fresh: Preview) -> dict[str, Any] | None:
        """Say what becomes of an action that a rule forbids now; None: it is scheduled for later."""
        if fresh.until and row.status == "scheduled":
            await self.store.actions.put_off(row.id, fresh.until, fresh.blocked or "", fencing_token=row.fencing_token)
            return action_result(await self.store.actions.get(row.id) or row)
        if fresh.until and fresh.defer:
            return None
        if fresh.until and row.status == "pending_approval":
            # The rule ends by itself: the person may say yes again then.
            return {**action_result(row), "reason": f"not now: {fresh.blocked}; it goes on waiting for approval"}
        return await self.end(row, "blocked", fresh.blocked or "")

    async def result_of(self, earlier: Action) -> dict[str, Any]:
        """Return the result for a call that repeats an earlier action: that of the earlier one, awaited for a while."""
        wait = 0.02
        with while_somebody_waits():
            while earlier.status == "sending":
                await anyio.sleep(wait)
                wait = min(wait * 2, 0.5)
                earlier = await self.store.actions.get(earlier.id) or earlier
        return result_of_repeat(earlier)

    # Running

    async def _carry_on(self, row: Action, intent: Intent, seen: Preview, *, called: bool = True) -> dict[str, Any]:
        """Work on what was claimed, behind the call where that takes long; returns the action result so far.

        A fault of this program is raised where it was `called` for; it is in the log, and in the row, in any case.
        """
        if row.status == "scheduled":
            return {**action_result(row), "reason": seen.blocked}
        work = partial(self._job, self) if row.status == "running" else self._send
        ended_as: list[dict[str, Any] | Exception] = []
        finished = anyio.Event()

        async def act() -> None:
            here = Execution(row, seen, lambda: self.fencing_token(row))
            token = under_way.set(here)
            self._busy[row.id] = row.fencing_token
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._keep_lease, row)
                try:
                    ended_as.append(await work(row, intent, seen))
                except Exception as error:
                    log.exception("%s failed", row.tool)
                    ended_as.append(error)
                    try:
                        await self._failed(row, intent, Internal("the program failed"))
                    except Exception:  # the row is found with its lease run out; the others here go on
                        log.exception("what became of %s could not be recorded", row.id)
                finally:
                    here.over.set()
                    under_way.reset(token)
                    self._busy.pop(row.id, None)
                    finished.set()
                    beside.cancel_scope.cancel()

        if self._tasks is None:
            # Whoever called may leave; what was begun is finished and written down all the same.
            with anyio.CancelScope(shield=True):
                await act()
        else:
            self._tasks.start_soon(act)
            with while_somebody_waits():
                await finished.wait()
        if ended_as and isinstance(ended_as[0], Exception) and called:
            raise ended_as[0]
        if not ended_as or isinstance(ended_as[0], Exception):
            return action_result(await self.store.actions.get(row.id) or row)
        return ended_as[0]

    async def resume(self, row: Action, intent: Intent) -> None:
        """Go on with a job that this process has claimed because nobody was at work on it, behind the caller where
        anything goes on behind calls."""
        seen = Preview(row.summary)
        if self._tasks is None:
            await self._carry_on(row, intent, seen)
        else:
            self._tasks.start_soon(partial(self._carry_on, row, intent, seen, called=False))

    async def _send(self, row: Action, intent: Intent, seen: Preview) -> dict[str, Any]:
        self.at("claimed")
        now = self.store.clock()
        if now - (row.started_at or now) > LEASE or now - (seen.looked_at or now) > LOOKING:
            # The process slept in between: what was looked at then says nothing of now.
            return await self.complete(row, Ended("failed", reason=SLEPT, error="timeout"))
        try:
            done = await intent.run(seen)
        except CrmError as error:
            self.at("answered")
            if error.wrote is False and (why := await block_opted_out(self.store, seen.dedup_keys, error)):
                return await self.complete(row, Ended("blocked", reason=why))
            return await self._failed(row, intent, error)
        self.at("answered")
        done = replace(done, fields={**done.fields, "there": seen.there}) if seen.there else done
        result = await self.complete(row, ended(done))
        return taken_back(done, row) if result["status"] == "done" and (done.undone or done.cancelled) else result

    def fencing_token(self, row: Action) -> int:
        """Return the fencing token that this process holds a row by: it may have claimed once more what it is at work
        on."""
        return self._busy.get(row.id, row.fencing_token)

    def reclaimed(self, row: Action) -> bool:
        """Whether a row that this process has claimed is one that it is at work on: it holds that one by the new
        fencing token from now on."""
        if row.id not in self._busy:
            return False
        self._busy[row.id] = row.fencing_token
        return True

    async def _keep_lease(self, row: Action) -> None:
        """Keep the lease of a row while it is worked on."""
        while True:
            await anyio.sleep(LEASE.total_seconds() / 3)
            try:
                await self.store.actions.renew_lease(row.id, fencing_token=self.fencing_token(row))
            except Exception as error:
                # A fault of this program, too: what is being sent is not broken off because its lease is not renewed.
                fault = not isinstance(error, CrmError)
                log.warning("the lease of %s could not be renewed: %s", row.id, error, exc_info=fault)

    # Ending

    async def complete(self, row: Action, end: Ended, *, fencing_token: int | None = None) -> dict[str, Any]:
        """Write down what became of an action. What has happened is told even where it can't be written down.

        With a `fencing_token`, only while no other process has claimed it.
        """
        try:
            result = action_result(await self.store.actions.complete(row.id, end, fencing_token=fencing_token))
        except Conflict:
            return action_result(await self.store.actions.get(row.id) or row)  # found out, or called off, by another
        except CrmError as error:
            if self._tasks is not None:
                self._tasks.start_soon(self._complete_late, row, end, fencing_token)
            reason = f"{end.reason}; " if end.reason else ""
            told = {name: value for name, value in end._asdict().items() if name in Action.model_fields and value}
            told |= {"status": end.status, "reason": f"{reason}this could not be recorded ({error}): do not repeat it"}
            return action_result(row.model_copy(update=told))
        self.at("settled")
        return result

    async def _complete_late(self, row: Action, end: Ended, fencing_token: int | None) -> None:
        """Write down later what could not be written at once: the state was full, locked or out of reach."""
        wait = 0.5
        while True:
            await anyio.sleep(wait)
            wait = min(wait * 2, 5.0)
            try:
                await self.store.actions.complete(row.id, end, fencing_token=fencing_token)
            except CrmError as error:
                if error.code in ("conflict", "not_found") or self.ending.is_set():
                    # Whoever finds the row looks at the CRM's history, as after a crash.
                    log.warning("%s ended as %s, which could not be recorded: %s", row.id, end.status, error)
                    return
            else:
                return

    async def _failed(self, row: Action, intent: Intent, error: CrmError) -> dict[str, Any]:
        if error.detail:
            log.warning("%s: %s (%s)", row.tool, error, error.detail)
        if error.wrote is None and error.code not in NOTHING_WRITTEN:
            # Whatever does not say of itself that nothing was done may have been done.
            found = await self.reconcile(row, intent, str(error))
            # What to do about a failure is often to try again, which nobody should here.
            said = str(error) if isinstance(error, OutcomeUnknown) else error.what
            return await self.complete(row, found or self.unknown(row, intent, f"{said}; it may have happened"))
        wrote = "a part was written" if error.wrote else "nothing was written"
        reason = str(error) if wrote in str(error) else f"{error}; {wrote}"
        # What it touched is not told by the CRM, but it did: its addresses may be there.
        touched = (("lead", row.lead or "?"),) if error.wrote else ()
        return await self.complete(row, Ended("failed", reason=reason, error=error.code, touched=touched))

    async def end(self, row: Action, status: Status, reason: str) -> dict[str, Any]:
        """End an action that has not left; where it has begun or ended meanwhile, say how: a job is not stopped."""
        ended = await self.store.actions.call_off(
            row.id, row.caller, status, reason, jobs=False, approved_by=row.approved_by
        )
        return action_result(ended) if ended else result_of_repeat(await self.store.actions.get(row.id) or row)

    # Finding out

    def unknown(self, row: Action, intent: Intent | None, reason: str) -> Ended:
        """Return how an action ends of which nobody can tell what became of it, and when its history is looked at next.

        Without an intent its tool is not served here: it may have a history for a server which serves it.
        """
        looked = (intent is None or intent.reconcile is not None) and row.looks < len(LOOKS)
        at = self.store.clock() + timedelta(seconds=LOOKS[0]) if looked else None
        return Ended("unknown", reason=reason, look_at=at)

    async def reconcile(self, row: Action, intent: Intent, said: str | None) -> Ended | None:
        """Ask the CRM's own history what became of an action, of whose answer something was said; None: it does not
        show it, or can't be asked."""
        if intent.reconcile is None:
            return None
        with anyio.move_on_after(LOOK_WITHIN):
            for pause in LOOK_PAUSES:
                await anyio.sleep(pause)
                try:
                    with nothing_under_way():
                        done = await intent.reconcile(row)
                except Exception as error:
                    # A fault of this program, too: it must not end the server, and with it what else is under way.
                    fault = not isinstance(error, CrmError)
                    log.warning("what became of %s can't be looked up: %s", row.id, error, exc_info=fault)
                    return None
                if done:
                    return ended(done)._replace(reason=found_in_history(said))
        return None


def write_dedup_key(caller: str, digest: str) -> DedupKey:
    """Return the deduplication key of a caller's whole call: an identical one within a minute is the same one."""
    return DedupKey(key="write:" + hashlib.sha256(f"{caller}\n{digest}".encode()).hexdigest(), seconds=60)


def claim_conditions(new: NewAction, seen: Preview) -> ClaimConditions:
    """Return what must hold when an action is claimed that was looked at just now."""
    return ClaimConditions(
        outward=new.effect == "outward",
        dedup_keys=seen.dedup_keys or (write_dedup_key(new.caller, new.digest),),
        quotas=seen.quotas,
        resend_of=seen.resend_of,
        writes=seen.writes,
        due=seen.until if seen.blocked and seen.defer else None,
        digest=new.digest,
        job=seen.bulk,
    )


def ended(done: Outcome) -> Ended:
    """Return how an action ended that was done."""
    return Ended(
        "done",
        summary=one_line(done.summary),
        result=dict(done.fields),
        undo=dict(done.undo) if done.undo else None,
        lead=done.lead,
        touched=done.touched,
        size=done.size,
        released=done.released,
    )
