"""What goes on behind calls: what waits on the state is found, and worked on, whichever process has left it there.

    sending     Its process has died: its lease has run out. The last step is done for it: the CRM's own history is
                asked. Nothing is sent, for the request may have left.
    unknown     The history is asked again, with longer and longer pauses, and at last no more.
    running     A job whose process has died, or has ended before it, goes on with the items that are left.
    scheduled   A deferred message is due: it is looked at and claimed as after an answer, or put off, or expires.

Any server on the same state that may write does it; of several, the store gives each row to one.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio.lowlevel

from crm_mcp.actions.intent import Intent
from crm_mcp.actions.outbox import AGAIN, LOOKS, Outbox
from crm_mcp.errors import CrmError
from crm_mcp.store import LOST, Action, Ended

log = logging.getLogger("crm_mcp")

FIRST = 1.0
"""Seconds after the start before anything is looked for: a client waits for its first answer."""
POLL = 2.0
"""Seconds between looks for work, where nothing says when there will be some."""
LONGEST = timedelta(days=7)
"""How long a deferred message may be put off, again and again, before it expires."""


class Worker:
    """Works on what waits on the state of an outbox."""

    def __init__(self, outbox: Outbox, known: Callable[[Action], Intent | None]) -> None:
        """`known` makes the intent of a row of any connection anew, None where its tool is not served here."""
        self._outbox = outbox
        self._store = outbox.store
        self._known = known

    @asynccontextmanager
    async def working(self, connections: tuple[str, ...] = ()) -> AsyncGenerator[None]:
        """Let actions go on behind calls that have been answered, and work on what waits on this state for these
        connections. At the end, what was begun is finished."""
        async with self._outbox.behind_calls() as tasks:
            attending = anyio.CancelScope()

            async def attend() -> None:
                with attending:
                    await self._attend(connections)

            if connections:
                tasks.start_soon(attend)
            try:
                yield
            finally:
                attending.cancel()

    async def _attend(self, connections: tuple[str, ...]) -> None:
        pause = FIRST
        while True:
            await anyio.sleep(pause)
            pause = POLL
            try:
                # Whoever only reads pays nothing: the state is not opened before something waits in it.
                if self._store.opened or await self._store.anything_waits():
                    more = True
                    while more:
                        with anyio.CancelScope(shield=True):  # what is claimed is not dropped because the server ends
                            more = await self.work_once(connections)
                        await anyio.lowlevel.checkpoint()
                    if due := await self._store.actions.next_due(connections):
                        pause = min(max((due - self._store.clock()).total_seconds(), 0.05), POLL)
            except Exception as error:
                # At a fault of this program, too, others are worked on all the same, and it is tried again.
                log.warning("what waits can't be worked on: %s", error, exc_info=not isinstance(error, CrmError))

    async def work_once(self, connections: tuple[str, ...]) -> bool:
        """Do one thing that waits on this state; False: nothing does."""
        row = await self._store.actions.take(connections)
        if row is None:
            return False
        if self._outbox.reclaimed(row):
            return True  # ours, and under way: a clock that jumped made its lease look old
        intent = self._known(row)
        if row.status in ("scheduled", "expired"):  # what is due for too long reads as expired, and is told so
            await self._come_due(row, intent)
        elif row.status != "running":
            await self._recover(row, intent)
        elif intent is None:  # its lease runs out: another server on this state may serve its tool
            log.info("%s waits to be resumed, and %s is not served here", row.id, row.tool)
        else:
            await self._outbox.resume(row, intent)
        return True

    async def _recover(self, row: Action, intent: Intent | None) -> None:
        """Find out what became of an action that was being sent when its process ended, or that is unknown.

        Without an intent its tool is not served here: a later look may be that of a server which serves it.
        """
        found = await self._outbox.reconcile(row, intent, row.reason) if intent else None
        if found:
            await self._quietly(row, found)
        elif row.status == "sending":
            looked = intent is not None and intent.reconcile is not None
            reason = f"{LOST}, and the CRM's history does not show it" if looked else f"{LOST}; it may have happened"
            await self._quietly(row, self._outbox.unknown(row, intent, reason))
        else:
            following = row.looks + 1
            more = timedelta(seconds=LOOKS[following]) if following < len(LOOKS) else None
            await self._store.actions.reconcile_at(
                row.id, self._store.clock() + more if more else None, fencing_token=row.fencing_token
            )

    async def _come_due(self, row: Action, intent: Intent | None) -> None:
        """Send a deferred message, if every rule allows it now."""
        now = self._store.clock()
        if row.expires_at and row.expires_at <= now:
            why = row.reason or "no server ran"
            await self._outbox.end(
                row, "expired", f"it could not go within 24 hours of its time ({why}); nothing was sent"
            )
        elif now - row.created_at > LONGEST:
            await self._outbox.end(row, "expired", f"rules forbade it for {LONGEST.days} days; nothing was sent")
        elif intent is None:
            # Another server on this state may serve its tool; where none does, it expires.
            log.info("%s is due, and %s is not served here", row.id, row.tool)
        else:
            try:
                result = await self._outbox.redeem(row, None, intent)
                log.info("%s came due: %s", row.id, result["status"])
            except CrmError as error:
                why = f"it could not be sent when it was due: {error}"
                await self._store.actions.put_off(row.id, now + AGAIN, why, fencing_token=row.fencing_token, late=True)

    async def _quietly(self, row: Action, end: Ended) -> None:
        """Settle what was found out; where its own process has settled it meanwhile, that counts."""
        try:
            await self._store.actions.complete(row.id, end, fencing_token=row.fencing_token)
        except CrmError as error:
            log.info("%s was settled by another: %s", row.id, error)
