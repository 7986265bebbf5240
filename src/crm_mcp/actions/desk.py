"""The one path of every call: find, check, ask, record, act, record.

A tool is handed the desk and says what it wants of it; whether that may happen, who is asked first and what is written
down is decided here, once, for all tools.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import anyio

from crm_mcp.actions.approval import (
    GOOD_FOR,
    SUMMARY_TEXT,
    Client,
    Done,
    Preview,
    Question,
    bounded,
    digest,
    named,
    plain,
    quoted,
    said,
)
from crm_mcp.actions.policy import Effect, Policy
from crm_mcp.backends.base import Backend, FindsLeads, KeepsTasks, ListsOptions, ReadsDeals
from crm_mcp.config import Connection, Settings
from crm_mcp.errors import (
    Ambiguous,
    Conflict,
    CrmError,
    Forbidden,
    Internal,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    TimedOut,
    Unsupported,
    choices,
)
from crm_mcp.model import (
    Channel,
    Deal,
    DealFilter,
    Lead,
    Option,
    Sequence,
    Slice,
    StageOwner,
    email_address,
    fold,
    phone_number,
    rfc3339,
)
from crm_mcp.store import Action, NewAction, Status, Store

C = TypeVar("C")
N = TypeVar("N", Option, Sequence)

DECLINED = (
    "the person said no or closed the question, or this client declines by itself without showing it; in that case the "
    "user can approve such an action by running it in a terminal with `crm-mcp call`"
)
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


@dataclass(frozen=True)
class Job:
    """One call of one tool that is not read: how it is previewed, and how it is done."""

    tool: str
    effect: Effect
    arguments: Mapping[str, Any]
    """As they were validated, as JSON: exactly these run."""
    run: Callable[[Preview], Awaitable[Done]]
    """Does it; is given the preview that was made of it a moment before."""
    ask: Callable[[], Awaitable[Preview]] | None
    """Reads the records and says what would happen; None: the generic preview serves."""
    always_ask: bool = True
    """The preview decides something, and is made even where the policy allows the effect."""
    dry_run: bool = False


class Desk:
    """Everything that a tool may use, and the road that its writes take."""

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        backend: Backend,
        store: Store,
        policy: Policy,
        jobs: Callable[[Desk, str, Mapping[str, Any], Client], Job],
    ) -> None:
        self.settings = settings
        self.defaults = connection.defaults
        self.connection = connection.name
        """The name of the connection."""
        self.backend = backend
        self.store = store
        self.policy = policy
        self.root = f"crm://{connection.name}" if len(settings.connections) > 1 else "crm:/"
        """What the addresses of this connection's resources begin with."""
        self._jobs = jobs

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
        address = lead.address(channel)
        reason = (await self.store.blocked({channel: address})).get(channel) if address else None
        if reason is None and channel not in (lead.do_not_contact or ()):
            return None
        return f"do-not-contact: {lead.label} must not be reached by {channel}" + (f" ({reason})" if reason else "")

    def shows(self, tool: str, effect: Effect) -> bool:
        """Whether a call of this tool is shown to somebody, instead of or before being done."""
        return self.settings.dry_run or self.policy.verdict(tool, effect) == "confirm"

    # Acting

    async def act(self, job: Job, client: Client) -> dict[str, Any]:
        """Take a call that is not read down the whole road; returns the action result.

        Raises:
            CrmError: nothing was tried: an argument is wrong, a record is missing, or the policy denies it.
        """
        dry = job.dry_run or self.settings.dry_run
        preview = bounded(await self._preview(job, whole=job.dry_run or self.shows(job.tool, job.effect)))
        verdict = self.policy.strictest(job.tool, preview.effect or job.effect, preview.also)
        if verdict == "deny":
            raise Forbidden(f"the policy denies {job.tool}", "a person can change [policy] in the settings file")
        new = self._new(job, preview, client)
        if dry:
            return {"status": "dry_run", "summary": preview.summary, "preview": preview.text} | _reason(preview.blocked)
        if preview.blocked:
            return shown(await self.store.note(new, "blocked", preview.blocked))
        # An answer is heard even where nobody would be asked any more: a no stays a no.
        if verdict == "confirm" or preview.confirm or client.answering:
            return await self._confirmed(new, preview, job, client)
        # What goes out is looked at once more; a write needs no second look at what was read a moment ago.
        seen = preview if new.effect == Effect.WRITE else None
        return await self._run(await self.store.begin(new, "policy"), job, seen)

    async def redeem(self, action_id: str, summary: str, client: Client) -> dict[str, Any]:
        """Run the action that waits for `confirm_action`, if `summary` is its summary word for word."""
        row = await self.store.get(action_id)
        if row is None or row.caller != client.caller or row.connection != self.connection:
            raise NotFound(f'there is no action "{action_id}" of yours', "see list_actions")
        if row.status != "proposed":
            return again(row)
        if row.asked != "token":
            raise Forbidden("this action waits for an answer of the user", "it can't be confirmed with confirm_action")
        if plain(summary) != plain(row.summary):
            raise InvalidArgument(
                "summary is not the action's own, word for word", "show the user the summary and give it back unchanged"
            )
        job = self._jobs(self, row.tool, row.arguments, client)
        if self.settings.dry_run:
            return {"status": "dry_run", "summary": row.summary, "preview": row.preview or row.summary}
        return await self._redeem(row, job, "token")

    async def _preview(self, job: Job, *, whole: bool) -> Preview:
        if job.ask and (whole or job.always_ask):
            return await job.ask()
        listed = ", ".join(f"{name}={quoted(str(value))}" for name, value in job.arguments.items())
        summary = f"{job.tool}: {listed}"
        return await self._generic(job, summary) if whole else Preview(summary)

    async def _generic(self, job: Job, summary: str) -> Preview:
        """Return the preview of a write that has none of its own: its arguments, and the records that they name."""
        facts: dict[str, Any] = {}
        lead: str | None = None
        if key := job.arguments.get("lead"):
            found = await self.lead(key)
            lead, facts["lead"] = found.id, found.shown()
            summary += f" [{named('lead', found.id, found.label)}]"
        if key := job.arguments.get("deal"):
            deal = await self.crm(ReadsDeals).get_deal(key)
            lead, facts["deal"] = deal.lead_id, deal.shown()
            summary += f" [{named('deal', deal.id, deal.name or deal.id)}]"
        if key := job.arguments.get("task"):
            task = await self.crm(KeepsTasks).get_task(key)
            lead, facts["task"] = task.lead_id, task.shown()
            summary += f" [{named('task', task.id, task.title or task.id)}]"
        long = [f"{name}:\n{value}" for name, value in job.arguments.items() if len(plain(str(value))) > SUMMARY_TEXT]
        return Preview(summary, "\n".join(long), facts, lead)

    def _new(self, job: Job, preview: Preview, client: Client) -> NewAction:
        return NewAction(
            caller=client.caller,
            connection=self.connection,
            tool=job.tool,
            effect=preview.effect or job.effect,
            arguments=dict(job.arguments),
            digest=digest(job.tool, self.connection, job.arguments),
            summary=preview.summary,
            facts=dict(preview.facts),
            preview=preview.text,
            lead=preview.lead,
            size=preview.size,
            asked="elicitation" if client.can_be_asked else "token",
        )

    async def _confirmed(self, new: NewAction, preview: Preview, job: Job, client: Client) -> dict[str, Any]:
        if not client.can_be_asked:
            if client.fallback == "deny" or preview.person_only:
                why = "only a person may approve it" if preview.person_only else "unconfirmed actions are denied here"
                return shown(await self.store.note(new, "blocked", f"{why}, and this client cannot ask its user"))
            return shown(await self._propose(new, preview))
        if client.answering:
            row = await self._answered(client.answering, new)
            if row.status != "proposed":
                return again(row)
        else:
            row = await self._propose(new, preview)
        match await client.ask(Question(row.id, row.preview or row.summary)):
            case "yes":
                return await self._redeem(row, job, "elicitation")
            case "silence":
                return await self._end(row, "expired", "nobody answered in time")
            case _:
                return await self._end(row, "declined", DECLINED)

    async def _propose(self, new: NewAction, preview: Preview) -> Action:
        row = await self.store.propose(new, GOOD_FOR)
        if row.facts == new.facts and row.summary == preview.summary and row.asked == new.asked:
            return row
        # The record has changed since this was first asked: that question is void, a new one takes its place.
        await self._end(row, "cancelled", "asked anew, because a value that it showed has changed")
        return await self.store.propose(new, GOOD_FOR)

    async def _answered(self, action_id: str, new: NewAction) -> Action:
        row = await self.store.get(action_id)
        if row is None or row.caller != new.caller or row.digest != new.digest:
            raise Forbidden("this answer belongs to another call", "make the call again without it")
        return row

    async def _redeem(self, row: Action, job: Job, approved_by: str) -> dict[str, Any]:
        claimed = await self.store.claim(row.id, row.caller, approved_by)
        if claimed is None:
            return again(await self.store.get(row.id) or row)
        return await self._run(claimed, job)

    async def _end(self, row: Action, status: Status, reason: str) -> dict[str, Any]:
        """End a proposed action without doing it; where it has ended meanwhile, say how."""
        try:
            return shown(await self.store.settle(row.id, status, reason=reason))
        except Conflict:
            return again(await self.store.get(row.id) or row)

    async def _run(self, row: Action, job: Job, seen: Preview | None = None) -> dict[str, Any]:
        # Whoever called may leave; what was begun is finished and written down all the same.
        outcome: list[dict[str, Any]] = []
        with anyio.CancelScope(shield=True):
            outcome.append(await self._finish(row, job, seen))
        return outcome[0]

    async def _finish(self, row: Action, job: Job, seen: Preview | None) -> dict[str, Any]:
        try:
            # Every rule and every value is looked at once more, after the claim and just before it happens.
            fresh = seen or await self._preview(job, whole=bool(row.facts))
            if fresh.blocked:
                return await self._settled(row, "blocked", reason=fresh.blocked)
            # What policy allows was shown to nobody, and is done to the record as it is now.
            if row.approved_by != "policy" and (changed := differences(row.facts, fresh.facts)):
                reason = f"void, because it has changed since it was shown: {changed}; make the call again"
                return await self._settled(row, "expired", reason=reason)
            done = await job.run(fresh)
        except CrmError as error:
            return await self._failed(row, error)
        except Exception as error:
            await self._failed(row, Internal("the program failed", detail=repr(error)))
            raise
        result = await self._settled(
            row,
            "done",
            summary=plain(done.summary),
            result=dict(done.fields),
            undo=dict(done.undo) if done.undo else None,
            lead=done.lead,
            touched=done.touched,
            size=done.size,
        )
        if done.undone:
            return {"action_id": done.undone, "status": "undone", "summary": done.summary, "undone_by": row.id}
        return result

    async def _settled(self, row: Action, status: Status, **fields: Any) -> dict[str, Any]:
        """Write down what became of an action. What has happened is told even where it can't be written down."""
        try:
            return shown(await self.store.settle(row.id, status, **fields))
        except CrmError as error:
            reason = f"{fields['reason']}; " if "reason" in fields else ""
            happened = row.model_copy(
                update={
                    **fields,
                    "status": status,
                    "reason": f"{reason}this could not be recorded ({error}): do not repeat it",
                }
            )
            return shown(happened)

    async def _failed(self, row: Action, error: CrmError) -> dict[str, Any]:
        if isinstance(error, OutcomeUnknown | TimedOut) and error.wrote is None:
            return await self._settled(row, "unknown", reason=f"{error}; it may have happened")
        if error.wrote or (error.wrote is None and error.code not in NOTHING_WRITTEN):
            wrote = "it is not known whether anything was written" if error.wrote is None else "a part was written"
        else:
            wrote = "nothing was written"
        reason = str(error) if wrote in str(error) else f"{error}; {wrote}"
        return await self._settled(row, "failed", reason=reason, error=error.code)


def meant(named_things: Iterable[N], name: str) -> N | None:
    """Return the one with this id or name; case and accents do not matter."""
    wanted = fold(name)
    return next((each for each in named_things if each.id == name or fold(each.name) == wanted), None)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what differs between the values shown and those found now, in words; empty where nothing does."""
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return ", ".join(f"{name} was {said(then.get(name))} and is {said(now.get(name))}" for name in changed)


def shown(row: Action) -> dict[str, Any]:
    """Return the action result of the contract."""
    status = "confirmation_required" if row.status == "proposed" else row.status
    result: dict[str, Any] = {"action_id": row.id, "status": status, "summary": row.summary}
    if row.status == "proposed":
        result["preview"] = row.preview
        if row.expires_at:
            result["expires_at"] = rfc3339(row.expires_at)
    if row.error:
        result["error"] = row.error
    return {**result, **_reason(row.reason), **(row.result or {})}


def again(row: Action) -> dict[str, Any]:
    """Return the result for a confirmation that has been used, or can't be used any more."""
    if row.status not in ("done", "running"):
        return shown(row)
    earlier = shown(row)
    return {**earlier, "status": "duplicate", "reason": f"it was confirmed once and is {row.status}"}


def _reason(reason: str | None) -> dict[str, Any]:
    return {"reason": reason} if reason else {}
