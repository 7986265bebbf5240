"""What may be looked up while a call is judged, shown and carried out: one connection, its CRM and its rules.

Whoever has it can read everything. What it does beyond that goes by the CRM that it hands out, which lets nothing
through that no action under way stands for.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol, TypeVar

from crm_mcp.actions.declared import Declared, Tools
from crm_mcp.actions.guards.policy import ASKS, Policy
from crm_mcp.address import email_address, phone_number
from crm_mcp.backends.base import FindsLeads, ListsOptions, ReadsDeals
from crm_mcp.config import Connection, Settings, Verdict
from crm_mcp.errors import Ambiguous, InvalidArgument, NotFound, Unsupported, choices
from crm_mcp.model import Account, Budget, Deal, DealFilter, Lead, Option, Sequence, Slice, StageOwner, fold
from crm_mcp.store import Store

C = TypeVar("C")
N = TypeVar("N", Option, Sequence)


class Crm(Protocol):
    """The CRM of a connection, behind its guards."""

    @property
    def vendor(self) -> str:
        """The name of its vendor."""
        ...

    def offers(self, capability: type) -> bool:
        """Whether it has this capability."""
        ...

    def served(self, capability: type[C]) -> C:
        """Return it as one that has this capability."""
        ...

    def capabilities(self) -> tuple[str, ...]:
        """Return the names of its capabilities."""
        ...

    async def check(self) -> Account:
        """Make one cheap read and say what is there."""
        ...

    async def budget(self) -> tuple[Budget, ...]:
        """Say how many calls are left."""
        ...


class Context:
    """Everything that may be looked up on one connection."""

    def __init__(self, settings: Settings, connection: Connection, store: Store, policy: Policy, crm: Crm) -> None:
        self.settings = settings
        self.defaults = connection.defaults
        self.own_addresses = connection.own_addresses
        self.connection = connection.name
        """The name of the connection."""
        self.store = store
        self.policy = policy
        self.account = crm
        """The CRM itself: who it is, and what it can do."""
        self.root = f"crm://{connection.name}" if len(settings.connections) > 1 else "crm:/"
        """What the addresses of this connection's resources begin with."""

    def clock(self) -> datetime:
        """Return the present moment, as the store has it."""
        return self.store.clock()

    @property
    def vendor(self) -> str:
        """The name of the CRM's vendor."""
        return self.account.vendor

    def can(self, *capabilities: type) -> bool:
        """Whether the CRM has all of these capabilities."""
        return all(map(self.account.offers, capabilities))

    def crm(self, capability: type[C]) -> C:
        """Return the CRM as one that has this capability. What it does beyond reading needs an action under way whose
        effect covers it.

        Raises:
            Unsupported: it has not.
        """
        if (found := self.crm_if(capability)) is None:
            does = (capability.__doc__ or "").rstrip(".")
            raise Unsupported(
                f"{self.vendor} can't do this: it is no CRM that {does[:1].lower()}{does[1:]}",
                "see crm_status for what it can do",
            )
        return found

    def crm_if(self, capability: type[C]) -> C | None:
        """Return the CRM as one that has this capability, as `crm` does; None: it has not."""
        return self.account.served(capability) if self.account.offers(capability) else None

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

    @property
    def tools(self) -> Tools:
        """What is known of all tools."""
        return self.policy.tools

    def verdict(self, tool: Declared, size: int = 1) -> Verdict:
        """Return the verdict on a call of this tool that is about so many records."""
        return self.policy.judge(tool.name, tool.effect, connection=self.connection, size=size).verdict

    def shows(self, tool: Declared, size: int = 1) -> bool:
        """Whether such a call is shown to somebody, instead of or before being done."""
        return self.settings.dry_run or self.verdict(tool, size) in ASKS


def meant(named_things: Iterable[N], name: str) -> N | None:
    """Return the one with this id or name; case and accents do not matter."""
    wanted = fold(name)
    return next((each for each in named_things if each.id == name or fold(each.name) == wanted), None)
