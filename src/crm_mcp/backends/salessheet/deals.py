"""SalesSheet's deals, the pipelines that they are in, and the sums over them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from crm_mcp.backends.base import ListsOptions, MovesDeals, ReadsDeals, WritesDeals
from crm_mcp.backends.http import at
from crm_mcp.backends.http_errors import refuse_other
from crm_mcp.backends.kept import Kept
from crm_mcp.backends.pipelines import SumsLists
from crm_mcp.backends.remote import (
    Access,
    key_of,
    number_in,
    record_in,
    refuse_clearing,
    refuse_unkept,
    rows_in,
    text,
)
from crm_mcp.backends.salessheet import codec
from crm_mcp.backends.salessheet.api import (
    CONTACTS,
    DEALS,
    NAME,
    PIPELINES,
    SalesSheetApi,
    refuse_partly_made,
    refuse_unchanged,
)
from crm_mcp.backends.salessheet.codec import Json, Stage, stage_of
from crm_mcp.errors import InvalidArgument, Unsupported, choices
from crm_mcp.model import (
    Deal,
    DealFields,
    DealFilter,
    Grouping,
    Lead,
    Option,
    OptionKind,
    Page,
    Slice,
    StageOwner,
    fold,
    rfc3339,
)

CLEARABLE = ("value", "closes_at")
_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)
_STAGES_GOOD_FOR = 300.0
"""Seconds after which the names of stages are read anew."""
_STATUSES = ("open", "won", "lost")


class SalesSheetDeals(ReadsDeals, WritesDeals, MovesDeals, SumsLists, ListsOptions, SalesSheetApi):
    """Deals; stages sit on them, and are part of the pipelines."""

    deal_filters: ClassVar[frozenset[str]] = frozenset(DealFilter.model_fields)
    option_kinds: ClassVar[tuple[OptionKind, ...]] = ("stages",)
    groupings: ClassVar[Mapping[StageOwner, tuple[Grouping, ...]]] = {
        "deals": ("stage", "status", "owner", "month"),
        "leads": ("status", "owner", "month"),
    }
    counts_as_open: ClassVar[tuple[str | None, ...]] = ("open",)

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._stages = Kept(self._read_stages, _STAGES_GOOD_FOR)

    async def list_options(self, kind: OptionKind) -> tuple[Option, ...]:
        """List the stages of all pipelines, in their order; the API gives no way to any other values."""
        if kind not in self.option_kinds:
            raise Unsupported(f"SalesSheet's API does not list {kind}", "it lists stages")
        stages = await self._stages.get(anew=True)
        return tuple(Option(id=each.id, name=each.name, of="deals") for each in stages.values())

    async def list_deals(self, wanted: DealFilter, part: Slice) -> Page[Deal]:
        """List deals, newest first. The CRM is asked by stage and contact; all else is sifted here, where the words
        are not documented."""
        keys = self._keys
        stages = await self._stages.get()
        at_stage = _meant(stages, wanted.stage) if wanted.stage else None
        asked = {keys.deal_stage: at_stage and at_stage.id, keys.contact: wanted.lead}
        query = {name: value for name, value in asked.items() if value}
        if wanted.status and wanted.status not in _STATUSES:
            raise InvalidArgument(f'"{wanted.status[:40]}" is no status of deals', choices(wanted.status, _STATUSES))

        def fits(each: Deal) -> bool:
            return (
                (at_stage is None or each.stage == at_stage.name)
                and (wanted.lead is None or each.lead_id == wanted.lead)
                and (wanted.status is None or each.status == wanted.status)
                and (wanted.owner is None or fold(each.owner or "") == fold(wanted.owner))
                and (
                    wanted.closes_before is None
                    or (each.closes_at is not None and each.closes_at < wanted.closes_before)
                )
            )

        fetch = self._rows(DEALS, query, f"-{keys.created_at}")
        if not wanted.shown():
            return await self._page(fetch, self._decoder(stages), part)
        page = await self._sifted(fetch, self._decoder(stages), fits, part, narrow="give stage or lead")
        if wanted.lead is not None and not page.items:
            await self._one(CONTACTS, wanted.lead)
        return page

    async def get_deal(self, deal: str) -> Deal:
        """Read one deal."""
        return await self._named(await self._one(DEALS, deal))

    async def create_deal(self, lead: str | None, fields: DealFields, stage: str | None) -> Deal:
        """Create a deal, in the first stage of the first pipeline where none is given."""
        if not fields.name:
            raise InvalidArgument("a deal needs a name", "give one", wrote=False)
        body = self._deal_body(fields)
        stages = await self._stages.get()
        if stage:
            body[self._keys.deal_stage] = (await self._stage(stage)).id
        elif stages:
            body[self._keys.deal_stage] = next(iter(stages))
        if lead is not None:
            await self._one(CONTACTS, lead)
            body[self._keys.contact] = lead
        made = await self._named(await self._made(DEALS, body))
        refuse_partly_made(made, fields, lead)
        return made

    async def update_deal(self, deal: str, fields: DealFields, clear: Sequence[str] = ()) -> Deal:
        """Change a deal: what differs is sent."""
        refuse_clearing(fields.model_dump(), clear, CLEARABLE)
        body = self._deal_body(fields)
        before = await self._named(await self._one(DEALS, deal))
        wanted = {**fields.model_dump(exclude_none=True), **dict.fromkeys(clear)}
        wanted = {name: value for name, value in wanted.items() if getattr(before, name) != value}
        if not wanted:
            return before
        keys = {name: str(getattr(self._keys, f"deal_{name}")) for name in wanted}
        after = await self._named(await self._changed(DEALS, deal, {key: body.get(key) for key in keys.values()}))
        refuse_unchanged(before, after, wanted, f"deal {deal}")
        return after

    async def move_deal(self, deal: str, stage: str) -> Deal:
        """Move a deal by changing its stage: there is no endpoint for it (inferred).

        Raises:
            VendorError: the CRM took the request and left the deal where it was.
        """
        to = await self._stage(stage)
        record = await self._changed(DEALS, deal, {self._keys.deal_stage: to.id})
        after = await self._named(record)
        there = to.id == stage_of(record, self._keys) or after.stage == to.name
        refuse_unkept(NAME, [] if there else ["stage"], f"deal {deal}")
        return after

    async def _order(self, of: StageOwner, by: Grouping) -> list[str]:
        stages = await self._stages.get(anew=True)
        return [each.name for each in stages.values()] if (of, by) == ("deals", "stage") else []

    async def _every_deal(self) -> tuple[list[Deal], int, bool]:
        """At most the newest 1,000 are read, as of leads."""
        fetch = self._rows(DEALS, {}, f"-{self._keys.created_at}")
        stages = await self._stages.get()
        found = await self._looked_through(fetch, self._decoder(stages), lambda _: True, cut=True)
        return found.items, len(found.items), found.whole

    async def _every_lead(self) -> tuple[list[Lead], int, bool]:
        fetch = self._rows(CONTACTS, {}, f"-{self._keys.created_at}")
        found = await self._looked_through(fetch, self._as_lead, lambda _: True, cut=True)
        return found.items, len(found.items), found.whole

    def _as_lead(self, row: Json) -> Lead:
        return codec.lead(row, self._keys, self.number)

    def _decoder(self, stages: Mapping[str, Stage]) -> Callable[[Json], Deal]:
        return lambda row: codec.deal(row, self._keys, stages)

    async def _named(self, record: Json) -> Deal:
        """Return a deal with the name of its stage."""
        stages = await self._stages.get()
        at_stage = stage_of(record, self._keys)
        if at_stage and at_stage not in stages:
            stages = await self._stages.get(anew=True)
        return codec.deal(record, self._keys, stages)

    async def _stage(self, stage: str) -> Stage:
        """Return the stage with this id. Raises InvalidArgument where there is none."""
        stages = await self._stages.get()
        if stage not in stages:
            stages = await self._stages.get(anew=True)
        if stage not in stages:
            names = [f"{each.id} ({each.name})" for each in stages.values()]
            raise InvalidArgument(f'there is no stage with the id "{stage[:80]}"', choices(stage, names), wrote=False)
        return stages[stage]

    async def _read_stages(self) -> dict[str, Stage]:
        answer = await self._api.read("GET", PIPELINES, {"page": 1, "per_page": self.limits.page})
        found: list[tuple[str, str, str]] = []
        for each in rows_in(answer, "pipelines"):
            pipeline = cast("Json", each) if isinstance(each, dict) else {}
            name, number = text(pipeline.get("name")) or "", key_of(pipeline)
            inside = pipeline.get(self._keys.stages)
            if inside is None and number:  # a list may leave out what each pipeline has
                pipeline = record_in(await self._api.read("GET", at(PIPELINES + "/{}", number)), "pipeline")
                refuse_other(number, key_of(pipeline))
                inside = pipeline.get(self._keys.stages)
            listed = cast("list[Any]", inside) if isinstance(inside, list) else []
            rows = [cast("Json", row) for row in listed if isinstance(row, dict)]
            rows.sort(key=lambda row: number_in(row.get("position")) or 0.0)
            found += [(id_, text(row.get("name")) or id_, name) for row in rows if (id_ := key_of(row))]
        names = [fold(name) for _, name, _ in found]
        return {
            id_: Stage(id_, f"{pipeline}: {name}" if names.count(fold(name)) > 1 else name)
            for id_, name, pipeline in found
        }

    def _deal_body(self, fields: DealFields) -> Json:
        keys = self._keys
        if fields.value is not None and not math.isfinite(fields.value):
            raise InvalidArgument("the value is no number", "give a finite amount", wrote=False)
        if fields.currency is not None and not _CURRENCY.fullmatch(fields.currency):
            raise InvalidArgument(f'"{fields.currency[:40]}" is no currency', "give a code such as USD", wrote=False)
        body = {
            keys.deal_name: fields.name,
            keys.deal_value: fields.value,
            keys.deal_currency: fields.currency.upper() if fields.currency else None,
            keys.deal_status: fields.status,
            keys.deal_closes_at: rfc3339(fields.closes_at) if fields.closes_at else None,
        }
        return {name: value for name, value in body.items() if value is not None}


def _meant(stages: Mapping[str, Stage], named: str) -> Stage:
    """Return the stage with this id or name."""
    if named in stages:
        return stages[named]
    for each in stages.values():
        if fold(each.name) == fold(named):
            return each
    raise InvalidArgument(f'there is no stage "{named[:80]}"', choices(named, [each.name for each in stages.values()]))
