"""The one path of every call: find, check, ask, record, act, record.

A tool is handed the desk and says what it wants of it; whether that may happen, who is asked first and what is written
down is decided here, once, for all tools.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from crm_mcp.actions.approval import (
    APPROVAL_GOOD_FOR,
    GOOD_FOR,
    Client,
    Done,
    Preview,
    Question,
    Recorded,
    bounded,
    digest,
    is_cut,
    lined,
    named,
    quoted,
    same_words,
)
from crm_mcp.actions.audit import denied, repeated
from crm_mcp.actions.outbox import Deed, Outbox, terms, write_mark
from crm_mcp.actions.patience import ANSWERS_WITHIN, answer_within, in_time
from crm_mcp.actions.policy import NEVER_ASKED, STRICTNESS, Effect, Judged, Policy
from crm_mcp.actions.results import LATE, again, shown
from crm_mcp.address import email_address, phone_number
from crm_mcp.backends.base import Backend, FindsLeads, KeepsTasks, ListsOptions, ReadsDeals
from crm_mcp.config import Connection, Settings
from crm_mcp.errors import (
    Ambiguous,
    CrmError,
    Forbidden,
    InvalidArgument,
    NotFound,
    Unsupported,
    choices,
)
from crm_mcp.model import Channel, Deal, DealFilter, Lead, Option, Sequence, Slice, StageOwner, fold
from crm_mcp.store import Action, Mark, NewAction, Status, Store

if TYPE_CHECKING:
    from crm_mcp.actions.jobs import Bulk

log = logging.getLogger("crm_mcp")

C = TypeVar("C")
N = TypeVar("N", Option, Sequence)

DECLINED = (
    "the person said no or closed the question, or this client declines by itself without showing it; in that case the "
    "user can approve such an action by running it in a terminal with `crm-mcp call`"
)


class Desk:
    """Everything that a tool may use, and the road that its writes take."""

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        backend: Backend,
        store: Store,
        policy: Policy,
        deeds: Callable[[Desk, str, Mapping[str, Any], Client], Deed],
        outbox: Outbox | None = None,
    ) -> None:
        self.settings = settings
        self.defaults = connection.defaults
        self.own_addresses = connection.own_addresses
        self.connection = connection.name
        """The name of the connection."""
        self.backend = backend
        self.store = store
        self.policy = policy
        self.root = f"crm://{connection.name}" if len(settings.connections) > 1 else "crm:/"
        """What the addresses of this connection's resources begin with."""
        self.outbox = outbox or Outbox(store)
        self._deeds = deeds

    def clock(self) -> datetime:
        """Return the present moment, as the store has it."""
        return self.store.clock()

    def crm(self, capability: type[C]) -> C:
        """Return the CRM as one that has this capability.

        Raises:
            Unsupported: it has not.
        """
        if not isinstance(self.backend, capability):
            does = (capability.__doc__ or "").rstrip(".")
            raise Unsupported(
                f"{self.backend.vendor} can't do this: it is no CRM that {does[:1].lower()}{does[1:]}",
                "see crm_status for what it can do",
            )
        return cast("C", self.backend)

    # Finding what a call names

    async def lead(self, key: str) -> Lead:
        """Return the lead with this id, exact e-mail address or phone number.

        Raises:
            Ambiguous: several leads have the address; they are listed.
            NotFound: none has.
        """
        key = key.strip()
        crm = self.crm(FindsLeads)
        if "@" in key:
            return self._only(key, await crm.leads_at("email", email_address(key)))
        if key.startswith("+"):
            return self._only(key, await crm.leads_at("sms", phone_number(key, self.settings.country)))
        try:
            return await crm.get_lead(key)
        except NotFound:
            number = self._as_number(key)
            if number is None:
                raise
        return self._only(key, await crm.leads_at("sms", number))

    def _as_number(self, key: str) -> str | None:
        if sum(c.isdigit() for c in key) < 7 or any(c.isalpha() for c in key):
            return None
        try:
            return phone_number(key, self.settings.country)
        except InvalidArgument:
            return None

    @staticmethod
    def _only(key: str, found: tuple[Lead, ...]) -> Lead:
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(
                f"{lead.id} {lead.label}" + (f" of {lead.company}" if lead.company else "") for lead in found
            )
            raise Ambiguous(f'"{key}" fits {len(found)} leads: {listed}', "give the id of one of them")
        raise NotFound(f'no lead has "{key}"', "find it with search_leads")

    async def stages(self, of: StageOwner | None = None) -> list[Option]:
        """Return the stages, in their order."""
        options = await self.crm(ListsOptions).list_options("stages")
        return [each for each in options if of is None or each.of == of]

    async def stage(self, name: str, of: StageOwner | None = None) -> Option:
        """Return the stage with this id or name; case and accents do not matter.

        Where the CRM can't list its stages, another name is taken as it is, and the CRM judges it.
        """
        stages = await self.stages(of)
        if found := meant(stages, name):
            return found
        if "stages" in self.crm(ListsOptions).open_kinds:
            return Option(id=name, name=name, of=of)
        raise InvalidArgument(f'there is no stage "{name}"', choices(name, [each.name for each in stages]))

    async def open_deals(self, lead: str) -> list[Deal]:
        """Return a lead's deals that are neither won nor lost, at most 20."""
        crm = self.crm(ReadsDeals)
        wanted = DealFilter(lead=lead, status="open" if "status" in crm.deal_filters else None)
        page = await crm.list_deals(wanted, Slice(limit=20))
        return [each for each in page.items if each.status in ("open", None)]

    async def blocked(self, lead: Lead, channel: Channel) -> str | None:
        """Return why this lead must not be contacted on this channel, else None."""
        from crm_mcp.actions.contact import blocked

        return await blocked(self, lead, channel)

    def shows(self, tool: str, effect: Effect) -> bool:
        """Whether a call of this tool is shown to somebody, instead of or before being done."""
        verdict = self.policy.judge(tool, effect, connection=self.connection, size=1).verdict
        return self.settings.dry_run or verdict in ("confirm", "approve")

    # Acting

    def deed(
        self,
        tool: str,
        effect: Effect,
        arguments: Mapping[str, Any],
        run: Callable[[Preview], Awaitable[Done]],
        *,
        ask: Callable[[], Awaitable[Preview]] | None = None,
        always_ask: bool = True,
        look: Callable[[Action], Awaitable[Done | None]] | None = None,
        bulk: Callable[[], Awaitable[Bulk]] | None = None,
        dry_run: bool = False,
    ) -> Deed:
        """Return a call of a tool as it is taken down the road.

        `ask` reads the records and says what would happen; without one the generic preview serves. `always_ask`: the
        preview decides something, and is made even where the policy allows the effect.
        """

        async def preview(whole: bool) -> Preview:
            began = self.clock()
            with in_time():
                if ask and (whole or always_ask):
                    made = await ask()
                else:
                    made = await self._generic(tool, arguments, whole=whole)
            return bounded(replace(made, looked_at=began))

        async def found(row: Action) -> Done | None:
            from crm_mcp.actions.history import is_of_another

            done = await look(row) if look else None
            return None if done is None or await is_of_another(self, row, done) else done

        return Deed(tool, effect, arguments, preview, run, found if look else None, bulk, dry_run)

    async def act(self, deed: Deed, client: Client) -> dict[str, Any]:
        """Take a call that is not read down the whole road; returns the action result.

        Raises:
            CrmError: nothing was tried: an argument is wrong, a record is missing, or the policy denies it.
        """
        answer_within(ANSWERS_WITHIN)
        dry = deed.dry_run or self.settings.dry_run
        if not dry and not client.answering and (earlier := await self._repeated(deed, client)):
            return await self._outcome(earlier, deed, client)
        try:
            whole = dry or client.answering is not None or self.shows(deed.tool, deed.effect)
            preview = await deed.preview(whole)
        except Forbidden as error:
            await self.store.record(denied(client.caller, deed.tool, deed.arguments, str(error), client.request))
            raise
        judged = self._judged(deed, preview)
        new = self._new(deed, preview, client, judged)
        if judged.verdict == "deny":
            await self.store.note(new, "blocked", f"the policy denies it ({judged.rule})")
            raise Forbidden(f"the policy denies {deed.tool}", "a person can change [policy] in the settings file")
        if dry:
            return {**shown(await self.store.note(new, "dry_run", preview.blocked)), **preview.would}
        if client.answering:
            return await self._heard(client.answering, new, preview, deed, client, judged)
        if preview.repeats:
            return await self._outcome(preview.repeats, deed, client)
        if preview.blocked and not (preview.defer and preview.until):
            # Whoever lost the answer of a send asks again: it is told of that one, not of the limit that it has filled.
            if earlier := await self._held(preview.marks, preview):
                return await self._outcome(earlier, deed, client)
            return shown(await self.store.note(new, "blocked", preview.blocked))
        if judged.verdict != "allow" or preview.confirm:
            return await self._confirmed(new, preview, deed, client, queue=judged.verdict == "approve")
        return await self.outbox.start(new, "policy", terms(new, preview), deed, preview)

    async def redeem(self, action_id: str, summary: str, client: Client) -> dict[str, Any]:
        """Run the action that waits for `confirm_action`, if `summary` is its summary word for word."""
        answer_within(ANSWERS_WITHIN)
        try:
            row = await self._meant(action_id, summary, client)
            if row.status != "proposed":
                return await self._over(row)
            deed = self._judged_anew(row, self._deeds(self, row.tool, row.arguments, client))
        except CrmError as error:
            named = {"action_id": action_id}
            await self.store.record(denied(client.caller, NEVER_ASKED, named, str(error), client.request))
            raise
        if self.settings.dry_run:
            return _dry(row)
        return await self.outbox.redeem(row, "token", deed, row.caller)

    async def _meant(self, action_id: str, summary: str, client: Client) -> Action:
        """Return the action that a token is given back for."""
        row = await self.store.get(action_id)
        if row is None or row.caller != client.caller or row.connection != self.connection:
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
        if self.settings.dry_run:
            return _dry(row)
        return await self.outbox.redeem(row, f"approval: {person}", self.again(row))

    def again(self, row: Action) -> Deed:
        """Return the deed of a row, made anew from what it keeps: in another process, or after a restart."""
        return self._judged_anew(row, self._deeds(self, row.tool, row.arguments, Recorded(row)))

    def _judged_anew(self, row: Action, deed: Deed) -> Deed:
        """Return a deed that is stopped where the policy has become stricter than the answer that it was given."""
        by = row.approved_by or row.asked
        most = "allow" if by == "policy" else "approve" if by.startswith("approval") else "confirm"

        async def preview(whole: bool) -> Preview:
            made = await deed.preview(whole)
            judged = self._judged(deed, made)
            if most == "allow" and made.confirm:
                return replace(made, blocked="it is to be confirmed by now; make the call again", until=None)
            if by == "token" and made.person_only:
                why = "only a person may say yes to it by now, and a token proves none; make the call again"
                return replace(made, blocked=why, rule=made.rule, until=None)
            if STRICTNESS.index(judged.verdict) <= STRICTNESS.index(most):
                return made
            why = f"the policy has changed since ({judged.rule}: {judged.verdict}); make the call again"
            return replace(made, blocked=why, rule=judged.rule, until=None)

        return replace(deed, preview=preview)

    async def _repeated(self, deed: Deed, client: Client) -> Action | None:
        """Return the action that this very call has begun a moment ago, if it has: looked for before anything is read,
        because what it did may be what would be refused now."""
        key = write_mark(client.caller, digest(deed.tool, self.connection, deed.arguments)).key
        return (await self.store.held_by((key,))).get(key)

    async def _outcome(self, earlier: Action, deed: Deed, client: Client) -> dict[str, Any]:
        """Return the result for a call that repeats an earlier action; that it was made is in the log."""
        try:
            await self.store.record(repeated(client.caller, deed.tool, deed.arguments, earlier, client.request))
        except CrmError as error:
            log.warning("that %s was repeated could not be recorded: %s", earlier.id, error)
        return await self.outbox.outcome(earlier)

    async def _held(self, marks: Iterable[Mark], preview: Preview) -> Action | None:
        """Return the action that has, or is having, one of these effects, but for one that is repeated on purpose."""
        held = await self.store.held_by([each.key for each in marks])
        return next((each for each in held.values() if each.id != preview.resend_of), None)

    def _judged(self, deed: Deed, preview: Preview) -> Judged:
        judged = self.policy.judge(
            deed.tool,
            preview.effect or deed.effect,
            connection=self.connection,
            size=preview.size,
            also=preview.also,
            operation=preview.operation,
        )
        return Judged("allow", judged.rule) if preview.unasked and judged.verdict != "deny" else judged

    async def _generic(self, tool: str, arguments: Mapping[str, Any], *, whole: bool) -> Preview:
        """Return the preview of a write that has none of its own: its arguments, and the records that they name."""
        summary = f"{tool}: " + ", ".join(f"{name}={quoted(str(value))}" for name, value in arguments.items())
        if not whole:
            return Preview(summary)
        facts: dict[str, Any] = {}
        lead: str | None = None
        if key := arguments.get("lead"):
            found = await self.lead(key)
            lead, facts["lead"] = found.id, found.shown()
            summary += f" [{named('lead', found.id, found.label)}]"
        if key := arguments.get("deal"):
            deal = await self.crm(ReadsDeals).get_deal(key)
            lead, facts["deal"] = deal.lead_id, deal.shown()
            summary += f" [{named('deal', deal.id, deal.name or deal.id)}]"
        if key := arguments.get("task"):
            task = await self.crm(KeepsTasks).get_task(key)
            lead, facts["task"] = task.lead_id, task.shown()
            summary += f" [{named('task', task.id, task.title or task.id)}]"
        texts = [(name, str(value)) for name, value in arguments.items()]
        long = [f"{name}:\n{lined(text)}" for name, text in texts if is_cut(text)]
        return Preview(summary, "\n".join(long), facts, lead)

    def _new(self, deed: Deed, preview: Preview, client: Client, judged: Judged) -> NewAction:
        return NewAction(
            caller=client.caller,
            connection=self.connection,
            tool=deed.tool,
            effect=preview.effect or deed.effect,
            arguments=dict(deed.arguments),
            digest=digest(deed.tool, self.connection, deed.arguments),
            summary=preview.summary,
            facts=dict(preview.facts),
            preview=preview.text,
            lead=preview.lead,
            size=preview.size,
            asked="elicitation" if client.can_be_asked else "token",
            verdict="confirm" if judged.verdict == "allow" and preview.confirm else judged.verdict,
            rule=preview.rule or judged.rule,
            request=client.request,
        )

    async def _confirmed(
        self, new: NewAction, preview: Preview, deed: Deed, client: Client, *, queue: bool
    ) -> dict[str, Any]:
        """Get a yes to exactly this, from whoever may give it, and run it then."""
        if earlier := await self._held(terms(new, preview).marks, preview):
            return await self._outcome(earlier, deed, client)
        if queue:
            return await self._queued(new, preview)
        if client.can_be_asked:
            return await self._asked(await self._propose(new, preview), new, preview, deed, client)
        if client.fallback == "deny":
            why = "unconfirmed actions are denied here, and this client cannot ask its user"
            return shown(await self.store.note(new, "blocked", why))
        if client.fallback == "approval" or preview.person_only:
            return await self._queued(new, preview)
        return shown(await self._propose(new, preview))

    async def _heard(
        self, action_id: str, new: NewAction, preview: Preview, deed: Deed, client: Client, judged: Judged
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
        return await self.outbox.redeem(row, "elicitation", deed, row.caller, preview)

    async def _asked(self, row: Action, new: NewAction, preview: Preview, deed: Deed, client: Client) -> dict[str, Any]:
        self.outbox.at("proposed")
        answer = await client.ask(Question(row.id, row.preview or row.summary))
        answer_within(ANSWERS_WITHIN)
        if answer == "yes":
            return await self.outbox.redeem(row, "elicitation", deed, row.caller)
        if answer == "silence" and client.fallback != "deny":
            await self.outbox.end(row, "expired", "nobody answered in time; it waits for an approval now")
            return await self._queued(new, preview)
        if answer == "silence":
            return await self.outbox.end(row, "expired", "nobody answered in time")
        return await self.outbox.end(row, "declined", DECLINED)

    async def _over(self, row: Action) -> dict[str, Any]:
        """Say how an action has ended for which an answer comes; that it came too late is in the log."""
        return await self.outbox.end(row, "expired", LATE) if row.status == "expired" else again(row)

    async def _queued(self, new: NewAction, preview: Preview) -> dict[str, Any]:
        """Put an action into the queue for a person, or find it there."""
        return shown(await self._propose(new.model_copy(update={"asked": "approval"}), preview, queue=True))

    async def _propose(self, new: NewAction, preview: Preview, *, queue: bool = False) -> Action:
        status: Status = "pending_approval" if queue else "proposed"
        ttl = APPROVAL_GOOD_FOR if queue else GOOD_FOR
        row = await self.store.propose(new, ttl, status)
        if row.facts == new.facts and row.summary == preview.summary and row.asked == new.asked:
            return row
        # The record has changed since this was first asked: that question is void, a new one takes its place.
        await self.outbox.end(row, "cancelled", "asked anew, because a value that it showed has changed")
        return await self.store.propose(new, ttl, status)

    async def _answered(self, action_id: str, new: NewAction) -> Action:
        row = await self.store.get(action_id)
        mine = row is not None and row.caller == new.caller and row.digest == new.digest
        # What is given back as a token, or waits for a person, is no question that a client could answer.
        if row is None or not mine or (row.status == "proposed" and row.asked != "elicitation"):
            error = Forbidden("this answer belongs to another call", "make the call again without it")
            await self.store.record(denied(new.caller, new.tool, new.arguments, str(error), new.request))
            raise error
        return row


def _dry(row: Action) -> dict[str, Any]:
    """Return what a yes would do, where nothing is done: the action waits on."""
    return shown(row) | {"status": "dry_run", "reason": "nothing is done in a dry run; it waits on"}


def meant(named_things: Iterable[N], name: str) -> N | None:
    """Return the one with this id or name; case and accents do not matter."""
    wanted = fold(name)
    return next((each for each in named_things if each.id == name or fold(each.name) == wanted), None)
