"""The one road of every call that is not read: check, ask, record, act, record.

A tool says what it wants; whether that may happen, who is asked first and what is written down is decided here, once,
for all tools, commands and jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from crm_mcp.actions.action_result import LATE, action_result, result_of_repeat
from crm_mcp.actions.audit import denied, repeated
from crm_mcp.actions.confirmation import APPROVAL_GOOD_FOR, GOOD_FOR, digest
from crm_mcp.actions.context import Context
from crm_mcp.actions.deadlines import ANSWERS_WITHIN, answer_within, in_time
from crm_mcp.actions.declared import Declared, Effect
from crm_mcp.actions.guarded_crm import open_context
from crm_mcp.actions.guards.consent import refuse_consent_fields
from crm_mcp.actions.guards.policy import STRICTNESS, Judged, Policy
from crm_mcp.actions.intent import BY_HAND, Absent, Bulk, Client, Intent, Outcome, Preview, Question, Reach
from crm_mcp.actions.jobs import work_through
from crm_mcp.actions.outbox import Outbox, claim_conditions, write_dedup_key
from crm_mcp.actions.reconcile import is_of_another
from crm_mcp.actions.summary import fit_summary, indent_block, is_cut, name_record, quote, same_words
from crm_mcp.backends.base import Backend, KeepsTasks, ReadsDeals
from crm_mcp.config import Connection, Settings
from crm_mcp.errors import CrmError, Forbidden, Internal, InvalidArgument, NotFound, Unsupported
from crm_mcp.store import Action, DedupKey, NewAction, Status, Store

log = logging.getLogger("crm_mcp")

DECLINED = (
    "the person said no or closed the question, or this client declines by itself without showing it; in that case the "
    "user can approve such an action by running it in a terminal with `crm-mcp call`"
)


def intent(
    context: Context,
    tool: Declared,
    arguments: Mapping[str, Any],
    run: Callable[[Preview], Awaitable[Outcome]],
    *,
    ask: Callable[[], Awaitable[Preview]] | None = None,
    always_ask: bool = True,
    reconcile: Callable[[Action], Awaitable[Outcome | None]] | None = None,
    bulk: Callable[[], Awaitable[Bulk]] | None = None,
    dry_run: bool = False,
) -> Intent:
    """Return a call of a tool as it is taken down the road.

    `ask` reads the records and says what would happen; without one the generic preview serves. `always_ask`: the
    preview decides something, and is made even where the policy allows the effect.
    """

    async def preview(whole: bool) -> Preview:
        began = context.clock()
        with in_time():
            if ask and (whole or always_ask):
                made = await ask()
            else:
                made = await _generic(context, tool.name, arguments, whole=whole)
        return fit_summary(replace(made, looked_at=began))

    async def found(row: Action) -> Outcome | None:
        done = await reconcile(row) if reconcile else None
        if done is None or await is_of_another(context, row, done, idempotent=tool.idempotent):
            return None
        return done

    return Intent(tool, arguments, preview, run, found if reconcile else None, bulk, dry_run)


async def _generic(context: Context, tool: str, arguments: Mapping[str, Any], *, whole: bool) -> Preview:
    """Return the preview of a write that has none of its own: its arguments, and the records that they name."""
    summary = f"{tool}: " + ", ".join(f"{name}={quote(str(value))}" for name, value in arguments.items())
    if not whole:
        return Preview(summary)
    facts: dict[str, Any] = {}
    lead: str | None = None
    if key := arguments.get("lead"):
        found = await context.lead(key)
        lead, facts["lead"] = found.id, found.shown()
        summary += f" [{name_record('lead', found.id, found.label)}]"
    if key := arguments.get("deal"):
        deal = await context.crm(ReadsDeals).get_deal(key)
        lead, facts["deal"] = deal.lead_id, deal.shown()
        summary += f" [{name_record('deal', deal.id, deal.name or deal.id)}]"
    if key := arguments.get("task"):
        task = await context.crm(KeepsTasks).get_task(key)
        lead, facts["task"] = task.lead_id, task.shown()
        summary += f" [{name_record('task', task.id, task.title or task.id)}]"
    texts = [(name, str(value)) for name, value in arguments.items()]
    long = [f"{name}:\n{indent_block(text)}" for name, text in texts if is_cut(text)]
    return Preview(summary, "\n".join(long), facts, lead)


class Pipeline:
    """The road of one connection's calls."""

    def __init__(
        self,
        context: Context,
        made: Callable[[Context, str, Mapping[str, Any], Client], Intent],
        outbox: Outbox | None = None,
    ) -> None:
        """`made` returns the call of a tool, by its name and its arguments."""
        self.context = context
        self.outbox = outbox or Outbox(context.store, work_through)
        self._made = made

    async def act(self, intent: Intent, client: Client) -> dict[str, Any]:
        """Take a call that is not read down the whole road; returns the action result.

        Raises:
            CrmError: nothing was tried: an argument is wrong, a record is missing, or the policy denies it.
        """
        answer_within(ANSWERS_WITHIN)
        dry = intent.dry_run or self.context.settings.dry_run
        if not dry and not client.answering and (earlier := await self._repeated(intent, client)):
            return await self._result_of(earlier, intent, client)
        try:
            whole = dry or client.answering is not None or self.context.shows(intent.tool)
            preview = await self._previewed(intent, whole)
        except Forbidden as error:
            await self.context.store.audit.record(
                denied(client.caller, intent.tool.name, intent.arguments, str(error), client.request)
            )
            raise
        judged = self._judged(intent.tool, preview)
        new = self._new(intent, preview, client, judged)
        if judged.verdict == "deny":
            await self.context.store.actions.note(new, "blocked", f"the policy denies it ({judged.rule})")
            raise Forbidden(
                f"the policy denies {intent.tool.name}", "a person can change [policy] in the settings file"
            )
        if dry:
            return {
                **action_result(await self.context.store.actions.note(new, "dry_run", preview.blocked)),
                **preview.would,
            }
        if client.answering:
            return await self._take_answer(client.answering, new, preview, intent, client, judged)
        if preview.repeats:
            return await self._result_of(preview.repeats, intent, client)
        if preview.blocked and not (preview.defer and preview.until):
            # Whoever lost the answer of a send asks again: it is told of that one, not of the limit that it has filled.
            if earlier := await self._held(preview.dedup_keys, preview):
                return await self._result_of(earlier, intent, client)
            return action_result(await self.context.store.actions.note(new, "blocked", preview.blocked))
        if judged.verdict != "allow" or preview.confirm:
            return await self._confirmed(new, preview, intent, client, queue=judged.verdict == "approve")
        return await self.outbox.start(new, "policy", claim_conditions(new, preview), intent, preview)

    async def _previewed(self, intent: Intent, whole: bool) -> Preview:
        """Return what would happen.

        Raises:
            Forbidden: it writes a field that holds consent.
        """
        preview = await intent.preview(whole)
        await refuse_consent_fields(self.context, preview.written)
        if (preview.effect or intent.tool.effect) is Effect.OUTWARD and not isinstance(preview, Reach):
            raise Internal(
                f"{intent.tool.name} does not say what the rules found of those whom it reaches", wrote=False
            )
        return preview

    def may_by_hand(self, tool: Declared, shown: Preview, *, what: str = "this") -> None:
        """Refuse what a person may not do at a terminal by themselves, which an error calls `what`.

        Raises:
            Forbidden: these settings only read, or the policy denies it, or wants another person's approval.
        """
        if self.context.settings.read_only:
            raise Forbidden(f"these settings forbid {what}", "CRM_MCP_READ_ONLY is set", wrote=False)
        judged = self._judged(tool, shown)
        if judged.verdict == "deny":
            raise Forbidden(f"these settings forbid {what}", f"{judged.rule} is deny", wrote=False)
        if judged.verdict == "approve":
            raise Forbidden(
                f"{judged.rule} wants the approval of another person, and a terminal has none to wait for",
                f"call {tool.name} through a server: it waits for an approval then",
                wrote=False,
            )

    async def by_hand(self, intent: Intent, caller: str) -> dict[str, Any]:
        """Carry out what a person does at a terminal, who has said yes to it there; returns the action result.

        Raises:
            Forbidden: as `may_by_hand`.
        """
        preview = await intent.preview(True)
        self.may_by_hand(intent.tool, preview)
        new = self._new(intent, preview, Absent(caller), Judged("allow", BY_HAND))
        return await self.outbox.start(new, BY_HAND, claim_conditions(new, preview), intent, preview)

    async def redeem(self, action_id: str, summary: str, client: Client) -> dict[str, Any]:
        """Run the action that waits for a token, if `summary` is its summary word for word."""
        answer_within(ANSWERS_WITHIN)
        try:
            row = await self._meant(action_id, summary, client)
            if row.status != "proposed":
                return await self._over(row)
            intent = self._judged_anew(row, self._made(self.context, row.tool, row.arguments, client))
        except CrmError as error:
            tool = self.context.tools.one(lambda each: each.answers).name
            named = {"action_id": action_id}
            await self.context.store.audit.record(denied(client.caller, tool, named, str(error), client.request))
            raise
        if self.context.settings.dry_run:
            return _dry(row)
        return await self.outbox.redeem(row, "token", intent, row.caller)

    async def _meant(self, action_id: str, summary: str, client: Client) -> Action:
        """Return the action that a token is given back for."""
        row = await self.context.store.actions.get(action_id)
        if row is None or row.caller != client.caller or row.connection != self.context.connection:
            raise NotFound(f'there is no action "{action_id}" of yours', "see list_actions")
        if row.status != "proposed":
            return row
        if row.asked != "token":
            raise Forbidden("this action waits for an answer of the user", "it can't be confirmed with confirm_action")
        if not same_words(summary, row.summary):
            raise InvalidArgument(
                "summary is not the action's own, word for word", "show the user the summary and give it back unchanged"
            )
        return row

    async def approve(self, row: Action, person: str) -> dict[str, Any]:
        """Run an action that waits in the queue, because a person said yes to it."""
        if self.context.settings.dry_run:
            return _dry(row)
        return await self.outbox.redeem(row, f"approval: {person}", self.again(row))

    def again(self, row: Action) -> Intent:
        """Return the intent of a row, made anew from what it keeps: in another process, or after a restart."""
        return self._judged_anew(row, self._made(self.context, row.tool, row.arguments, Absent(row.caller)))

    def _judged_anew(self, row: Action, intent: Intent) -> Intent:
        """Return an intent that is stopped where the policy has become stricter than the answer that it was given."""
        by = row.approved_by or row.asked
        most = "allow" if by == "policy" else "approve" if by.startswith("approval") else "confirm"

        async def preview(whole: bool) -> Preview:
            made = await intent.preview(whole)
            judged = self._judged(intent.tool, made)
            if most == "allow" and made.confirm:
                return replace(made, blocked="it is to be confirmed by now; make the call again", until=None)
            if by == "token" and made.person_only:
                why = "only a person may say yes to it by now, and a token proves none; make the call again"
                return replace(made, blocked=why, rule=made.rule, until=None)
            if STRICTNESS.index(judged.verdict) <= STRICTNESS.index(most):
                return made
            why = f"the policy has changed since ({judged.rule}: {judged.verdict}); make the call again"
            return replace(made, blocked=why, rule=judged.rule, until=None)

        return replace(intent, preview=preview)

    async def _repeated(self, intent: Intent, client: Client) -> Action | None:
        """Return the action that this very call has begun a moment ago, if it has: looked for before anything is read,
        because what it did may be what would be refused now."""
        key = write_dedup_key(client.caller, digest(intent.tool.name, self.context.connection, intent.arguments)).key
        return (await self.context.store.actions.held_by((key,))).get(key)

    async def _result_of(self, earlier: Action, intent: Intent, client: Client) -> dict[str, Any]:
        """Return the result for a call that repeats an earlier action; that it was made is in the log."""
        try:
            await self.context.store.audit.record(
                repeated(client.caller, intent.tool.name, intent.arguments, earlier, client.request)
            )
        except CrmError as error:
            log.warning("that %s was repeated could not be recorded: %s", earlier.id, error)
        return await self.outbox.result_of(earlier)

    async def _held(self, dedup_keys: Iterable[DedupKey], preview: Preview) -> Action | None:
        """Return the action that has, or is having, one of these effects, but for one that is repeated on purpose."""
        held = await self.context.store.actions.held_by([each.key for each in dedup_keys])
        return next((each for each in held.values() if each.id != preview.resend_of), None)

    def _judged(self, tool: Declared, preview: Preview) -> Judged:
        judged = self.context.policy.judge(
            tool.name,
            preview.effect or tool.effect,
            connection=self.context.connection,
            size=preview.size,
            also=preview.also,
            operation=preview.operation,
        )
        return Judged("allow", judged.rule) if preview.unasked and judged.verdict != "deny" else judged

    def _new(self, intent: Intent, preview: Preview, client: Client, judged: Judged) -> NewAction:
        return NewAction(
            caller=client.caller,
            connection=self.context.connection,
            tool=intent.tool.name,
            effect=preview.effect or intent.tool.effect,
            arguments=dict(intent.arguments),
            digest=digest(intent.tool.name, self.context.connection, intent.arguments),
            summary=preview.summary,
            facts=dict(preview.facts),
            preview=preview.text,
            lead=preview.lead,
            size=preview.size,
            asked="elicitation" if client.can_be_asked else "token",
            verdict="confirm" if judged.verdict == "allow" and preview.confirm else judged.verdict,
            rule=preview.rule or judged.rule,
            request=client.request,
            creates=intent.tool.creates,
            repeatable=intent.tool.resends,
            deletes=intent.tool.deletes,
        )

    async def _confirmed(
        self, new: NewAction, preview: Preview, intent: Intent, client: Client, *, queue: bool
    ) -> dict[str, Any]:
        """Get a yes to exactly this, from whoever may give it, and run it then."""
        if earlier := await self._held(claim_conditions(new, preview).dedup_keys, preview):
            return await self._result_of(earlier, intent, client)
        if queue:
            return await self._queued(new, preview)
        if client.can_be_asked:
            return await self._asked(await self._propose(new, preview), new, preview, intent, client)
        if client.fallback == "deny":
            why = "unconfirmed actions are denied here, and this client cannot ask its user"
            return action_result(await self.context.store.actions.note(new, "blocked", why))
        if client.fallback == "approval" or preview.person_only:
            return await self._queued(new, preview)
        return action_result(await self._propose(new, preview))

    async def _take_answer(
        self, action_id: str, new: NewAction, preview: Preview, intent: Intent, client: Client, judged: Judged
    ) -> dict[str, Any]:
        """Take the answer that came with this call. A no stays a no, and a yes serves once, whatever forbids it now or
        allows it by itself. What it is about has been looked at just now."""
        row = await self._answered(action_id, new)
        if row.status != "proposed":
            return await self._over(row)
        self.outbox.at("proposed")
        if await client.ask(Question(row.id, row.preview or row.summary)) != "yes":
            return await self.outbox.end(row, "declined", DECLINED)
        if judged.verdict == "approve":
            await self.outbox.end(row, "cancelled", f"it waits for an approval now ({judged.rule})")
            return await self._queued(new, preview)
        return await self.outbox.redeem(row, "elicitation", intent, row.caller, preview)

    async def _asked(
        self, row: Action, new: NewAction, preview: Preview, intent: Intent, client: Client
    ) -> dict[str, Any]:
        self.outbox.at("proposed")
        answer = await client.ask(Question(row.id, row.preview or row.summary))
        answer_within(ANSWERS_WITHIN)
        if answer == "yes":
            return await self.outbox.redeem(row, "elicitation", intent, row.caller)
        if answer == "silence" and client.fallback != "deny":
            await self.outbox.end(row, "expired", "nobody answered in time; it waits for an approval now")
            return await self._queued(new, preview)
        if answer == "silence":
            return await self.outbox.end(row, "expired", "nobody answered in time")
        return await self.outbox.end(row, "declined", DECLINED)

    async def _over(self, row: Action) -> dict[str, Any]:
        """Say how an action has ended for which an answer comes; that it came too late is in the log."""
        return await self.outbox.end(row, "expired", LATE) if row.status == "expired" else result_of_repeat(row)

    async def _queued(self, new: NewAction, preview: Preview) -> dict[str, Any]:
        """Put an action into the queue for a person, or find it there."""
        return action_result(await self._propose(new.model_copy(update={"asked": "approval"}), preview, queue=True))

    async def _propose(self, new: NewAction, preview: Preview, *, queue: bool = False) -> Action:
        status: Status = "pending_approval" if queue else "proposed"
        ttl = APPROVAL_GOOD_FOR if queue else GOOD_FOR
        row = await self.context.store.actions.propose(new, ttl, status)
        if row.facts == new.facts and row.summary == preview.summary and row.asked == new.asked:
            return row
        # The record has changed since this was first asked: that question is void, a new one takes its place.
        await self.outbox.end(row, "cancelled", "asked anew, because a value that it showed has changed")
        return await self.context.store.actions.propose(new, ttl, status)

    async def _answered(self, action_id: str, new: NewAction) -> Action:
        row = await self.context.store.actions.get(action_id)
        mine = row is not None and row.caller == new.caller and row.digest == new.digest
        # What is given back as a token, or waits for a person, is no question that a client could answer.
        if row is None or not mine or (row.status == "proposed" and row.asked != "elicitation"):
            error = Forbidden("this answer belongs to another call", "make the call again without it")
            await self.context.store.audit.record(denied(new.caller, new.tool, new.arguments, str(error), new.request))
            raise error
        return row


def _dry(row: Action) -> dict[str, Any]:
    """Return what a yes would do, where nothing is done: the action waits on."""
    return action_result(row) | {"status": "dry_run", "reason": "nothing is done in a dry run; it waits on"}


def open_pipeline(
    settings: Settings, connection: Connection, backend: Backend, store: Store, policy: Policy
) -> Pipeline:
    """Return the road of one connection on which no tools are called: what a person does at a terminal."""
    return Pipeline(open_context(settings, connection, backend, store, policy), _no_tools)


def _no_tools(*_: object) -> Intent:
    raise Unsupported("no tools are served here", "call it through a server")
