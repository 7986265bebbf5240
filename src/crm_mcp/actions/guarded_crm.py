"""The CRM that tools get: it carries its own guards.

A verb that writes, sends or deletes passes only while an action is carried out whose effect covers it. One that reaches
somebody passes only for a person, an address and a channel that the rules have passed for that very action. One that
writes a lead goes through one hook: consent fields are refused, blocks are kept before and follow after, new addresses
are noted. A tool, command, job or resource that has forgotten to ask fails here, before anything leaves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar, cast

from anyio import to_thread

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards import consent, do_not_contact, new_addresses
from crm_mcp.actions.guards.addresses import addresses_in
from crm_mcp.actions.guards.policy import Policy
from crm_mcp.actions.guards.rules import reached_at
from crm_mcp.actions.imports.lead_import import addresses
from crm_mcp.actions.imports.opt_outs import block_addresses, block_leads
from crm_mcp.actions.intent import BY_HAND, Decision, Execution, Reach, under_way
from crm_mcp.actions.offload import offload
from crm_mcp.backends.base import Backend, FindsLeads
from crm_mcp.backends.verbs import Does, VerbEffect, Way, signature, verbs_of
from crm_mcp.config import Connection, Settings
from crm_mcp.errors import Forbidden, saying
from crm_mcp.model import Account, Budget, IfExists, ImportOutcome, ImportRow, Lead, LeadFields, Record
from crm_mcp.store import Address, Store

C = TypeVar("C")

COVERS: Mapping[str, tuple[VerbEffect, ...]] = {
    "write": ("write",),
    "outward": ("write", "outward"),
    "destructive": ("write", "destructive"),
}
"""The effects of verbs that an action of each effect covers."""
_REMEMBERED = (FindsLeads.get_lead.__name__, FindsLeads.leads_at.__name__)
"""What reads leads one by one: what is known of them is not read a second time."""


class GuardedCrm:
    """One CRM behind its guards."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._context: Context | None = None

    def belongs_to(self, context: Context) -> None:
        """Say which connection it is the CRM of."""
        self._context = context

    @property
    def vendor(self) -> str:
        """The name of its vendor."""
        return self._backend.vendor

    def offers(self, capability: type) -> bool:
        """Whether it has this capability."""
        return isinstance(self._backend, capability)

    def served(self, capability: type[C]) -> C:
        """Return it as one that has this capability: with the names that its protocols declare, and no others."""
        assert self._context is not None
        return cast("C", _Verbs(self._backend, self._context, capability))

    def capabilities(self) -> tuple[str, ...]:
        """Return the names of its capabilities."""
        return self._backend.capabilities()

    async def check(self) -> Account:
        """Make one cheap read and say what is there."""
        return await self._backend.check()

    async def budget(self) -> tuple[Budget, ...]:
        """Say how many calls are left."""
        return await self._backend.budget()


def open_context(settings: Settings, connection: Connection, backend: Backend, store: Store, policy: Policy) -> Context:
    """Return what may be looked up on a connection, its CRM behind the guards."""
    crm = GuardedCrm(backend)
    context = Context(settings, connection, store, policy, crm)
    crm.belongs_to(context)
    return context


class _Verbs:
    """The verbs of a CRM, each behind its guard."""

    def __init__(self, backend: Backend, context: Context, capability: type) -> None:
        self._backend = backend
        self._context = context
        self._capability = capability

    def __repr__(self) -> str:
        return f"<{self._backend.vendor}, which {self._capability.__name__}>"

    def __getattr__(self, name: str) -> Any:
        declared = verbs_of(type(self._backend))
        if name not in declared:
            raise AttributeError(f"no capability of {self._backend.vendor} has {name}")
        found = getattr(self._backend, name)
        if (mark := declared[name]) is not None:
            return partial(self._act, name, mark, found)
        return partial(_remember, found) if name in _REMEMBERED else found

    async def _act(
        self, name: str, does: Does, verb: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any
    ) -> Any:
        quota = signature(type(self._backend), name).bind(*arguments, **named)
        quota.apply_defaults()
        given: Mapping[str, Any] = quota.arguments
        effect: str = does.effect
        if effect == "operation":
            effect = given["operation"].effect_of(given["arguments"])
        if effect == "read":
            return await verb(*arguments, **named)
        work = under_way.get()
        if why := _forbidden(self._context, does, effect, given, work):
            raise Forbidden(
                f"{name} was not carried out: {why}",
                "this program is at fault, and not the call",
                wrote=bool(work and work.did),
            )
        assert work is not None

        async def act() -> Any:
            work.did.append(name)
            return await verb(*arguments, **named)

        if does.record not in ("lead", "any"):
            return await act()
        return await _LeadWrite(self._context, self._backend, work, does, effect, given).through(act)


def _forbidden(
    context: Context, does: Does, effect: str, given: Mapping[str, Any], work: Execution | None
) -> str | None:
    """Return what a verb lacks that does more than read; None: it may pass, and what the rules found for it is used."""
    if work is None:
        return f"its effect is {effect}, and no action is under way: whoever only reads can't do it"
    if work.over.is_set():
        return f"its effect is {effect}, and the action in whose name it comes is over"
    if work.row.connection != context.connection:
        return f"the action under way is one of {work.row.connection}, and not of {context.connection}"
    if effect not in COVERS.get(work.row.effect, ()):
        return f"its effect is {effect}, which that of the action ({work.row.effect}) does not cover"
    if effect != "outward":
        return None
    if does.effect == "operation":
        return _unpassed_operation(given, work)
    if does.channel is None:
        return work.no_person  # it lets somebody be reached again who has said no
    return _unpassed_lead(context, does.channel, given, work)


def _unpassed_lead(context: Context, way: Way, given: Mapping[str, Any], work: Execution) -> str | None:
    lead = given["lead"]
    key = lead.id if isinstance(lead, Lead) else str(lead)
    found = (*(work.seen.decisions if isinstance(work.seen, Reach) else ()), *work.passed)
    passed = [each for each in found if each.lead == key and each.way == way and each.reason is None]
    of_it = [each for each in passed if not _is_used(each, work)]
    if passed and not of_it:
        return f"lead {key[:80]} was reached on {way} already: what the rules found serves once"
    if not of_it:
        return f"the rules have not passed lead {key[:80]} for {way}: its ask= must return what they found"
    if isinstance(lead, Lead):
        at = reached_at(context, lead, way)
        of_it = [each for each in of_it if each.address == at]
    if not of_it:
        return f"the address of lead {key[:80]} is not the one that the rules have passed"
    work.used.append(of_it[0])
    return None


def _unpassed_operation(given: Mapping[str, Any], work: Execution) -> str | None:
    seen = work.seen
    same = isinstance(seen, Reach) and seen.operation == given["operation"].name and seen.given == given["arguments"]
    if not isinstance(seen, Reach) or not same:
        return "the rules have not passed this operation with these arguments"
    if _is_used(seen, work):
        return "this operation was carried out already: what the rules found serves once"
    if why := next((each.reason for each in seen.decisions if each.reason), None):
        return why
    work.used.append(seen)
    return None


def _is_used(found: Decision | Reach, work: Execution) -> bool:
    # By identity: a job that looks at somebody anew finds the same, and that serves once again.
    return any(each is found for each in work.used)


async def _remember(read: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
    """Read leads, and keep them while the action under way is carried out."""
    found = await read(*arguments, **named)
    if work := under_way.get():
        leads = (found,) if isinstance(found, Lead) else found
        work.read.update({each.id: each for each in leads})
    return found


class _LeadWrite:
    """The hook that every write of a lead goes through."""

    def __init__(
        self, context: Context, backend: Backend, work: Execution, does: Does, effect: str, given: Mapping[str, Any]
    ) -> None:
        self._context = context
        self._backend = backend
        self._work = work
        self._does = does
        self._effect = effect
        self._given = given
        self._fields = next((each for each in given.values() if isinstance(each, LeadFields)), None)
        self._by = work.row.caller

    async def through(self, act: Callable[[], Awaitable[Any]]) -> Any:
        """Write, with everything before and after it that keeps whoever has said no from being reached.

        Raises:
            Forbidden: it writes a field that holds consent.
            CrmError: `wrote` says whether anything was written.
        """
        given = self._given
        if "operation" in given:
            return await self._operation(act)
        if self._does.record == "any" and given["kind"] != "lead":
            return await act()
        if "rows" in given:
            return await self._import(given["rows"], given["if_exists"], act)
        return await self._one(act)

    async def _one(self, act: Callable[[], Awaitable[Any]]) -> Any:
        """Write one lead: a new one, or one that is there, which `lead` or `record` names."""
        written = self._written()
        with self._before_it():
            if self._does.effect != "destructive" and "image" not in self._given:
                await consent.refuse_consent_fields(self._context, written)
            before = await self._before()
            new = await self._new_addresses(written, before)
            if before and self._may_shake_off(before, new):
                await do_not_contact.keep_blocks(self._context, before, self._by)
            if before:
                await do_not_contact.keep_at(self._context, new, self._by, besides=before.id)
            await self._note(new)
        after = await act()
        if isinstance(after, Lead):
            self._work.read[after.id] = after
            with saying(wrote=True):
                if before:
                    await do_not_contact.follow_blocks(self._context, before, after, self._by)
                if self._fields:
                    await do_not_contact.follow_flags(self._context, after, self._fields, self._by)
        return after

    def _before_it(self) -> AbstractContextManager[None]:
        """Let what fails before the write say whether the action has written anything yet."""
        return saying(wrote=bool(self._work.did))

    def _written(self) -> dict[str, Any]:
        """Return what is written, by the names of the fields."""
        written: dict[str, Any] = {self._does.field: None} if self._does.field else {}
        for name, value in self._given.items():
            if isinstance(value, LeadFields):
                written |= value.shown()
            elif name not in ("lead", "kind", "record"):
                written[name] = value.shown() if isinstance(value, Record) else value
        return written

    async def _before(self) -> Lead | None:
        """Return the lead that is changed or deleted, as it was before; None: it is new."""
        lead = self._given.get("lead", self._given.get("record"))
        if lead is None or isinstance(lead, Lead):
            return lead
        seen = self._work.seen.lead_read
        found = self._work.read.get(lead) or (seen if seen and seen.id == lead else None)
        return found or await cast("FindsLeads", self._backend).get_lead(lead)

    async def _new_addresses(self, written: dict[str, Any], before: Lead | None) -> tuple[Address, ...]:
        if self._does.field or self._effect == "destructive":
            return ()
        if before:
            return await offload(written, new_addresses.unheld, self._context, before, written)
        return await offload(written, addresses_in, written, self._context.settings.country)

    def _may_shake_off(self, before: Lead, new: Sequence[Address]) -> bool:
        """Whether a write may take away what the lead is blocked by: an address, a mark, or the lead itself."""
        clear: Sequence[str] = getattr(self._fields, "clear", ())
        emptied = {each.partition(".")[0] for each in clear} & {"email", "phone", "custom_fields"}
        return bool(new or emptied or before.do_not_contact or self._effect == "destructive")

    async def _note(self, new: Sequence[Address]) -> None:
        """Note the addresses that are written and that were not noted when the action was claimed. What a person writes
        with their own hands is not new to them."""
        noted = frozenset(self._work.seen.writes)
        missing = [each for each in dict.fromkeys(new) if each not in noted]
        if missing and self._work.row.approved_by != BY_HAND:
            await self._context.store.actions.add_written(self._work.row, missing)

    async def _import(
        self, rows: Sequence[ImportRow], if_exists: IfExists, act: Callable[[], Awaitable[Any]]
    ) -> tuple[ImportOutcome, ...]:
        """Write many: whom they say must not be contacted is blocked before and after. Where a tool writes them, and
        may change leads that are there, their blocks are kept first."""
        context = self._context
        with self._before_it():
            await block_addresses(context.store, [row.refused for row in rows], self._by)
            if self._work.row.approved_by != BY_HAND:
                await self._before_rows(rows, if_exists)
        outcomes: tuple[ImportOutcome, ...] = await act()
        with saying(wrote=True):
            await block_leads(context.store, context.connection, rows, outcomes, self._by)
        return outcomes

    async def _before_rows(self, rows: Sequence[ImportRow], if_exists: IfExists) -> None:
        context = self._context
        if context.settings.policy.require_consent:
            fields = {name for row in rows for name in (*row.draft.shown(), *(row.draft.custom_fields or ()))}
            await consent.refuse_consent_fields(context, dict.fromkeys(sorted(fields)))
        new = await to_thread.run_sync(addresses, context, rows)
        if if_exists == "update" and context.can(FindsLeads):
            await do_not_contact.keep_at(context, new, self._by)
        await self._note(new)

    async def _operation(self, act: Callable[[], Awaitable[Any]]) -> Any:
        """Carry out an operation of the vendor that writes, sends or deletes: the blocks of the leads that it names are
        kept, and of those that have an address which it writes."""
        from crm_mcp.actions.vendor_operations.recipients import MOST_PEOPLE, touched  # start-up counts

        context, operation, arguments = self._context, self._given["operation"], self._given["arguments"]
        writes = self._work.seen.writes
        with self._before_it():
            await consent.refuse_consent_fields(context, arguments)
            if writes or self._effect == "destructive":
                for lead in (await touched(context, operation, arguments)).leads:
                    await do_not_contact.keep_blocks(context, lead, self._by)
            await do_not_contact.keep_at(context, writes[:MOST_PEOPLE], self._by)
        return await act()
