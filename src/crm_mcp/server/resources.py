"""What a client may read by address, as compact markdown; and the completion of `{lead}`.

Each resource belongs to a tool that tells the same, and is there where that tool is served: `served` has their names.
A page is from outside, and fenced as such. What a record says stays within its line, its cell or its block, whose lines
stand behind a bar; and it begins no tag, link or picture of its own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

import mcp_types as types

from crm_mcp.actions.action_result import action_result
from crm_mcp.actions.context import Context
from crm_mcp.actions.offload import offload
from crm_mcp.backends.base import FindsLeads, PlansSteps, ReadsActivity, ReadsDeals, RunsSequences, SumsPipeline
from crm_mcp.errors import CrmError, NotFound, Unsupported
from crm_mcp.model import Activity, LeadFilter, Slice, rfc3339
from crm_mcp.server.rendering import fenced, lines_of
from crm_mcp.server.tool import Tool
from crm_mcp.server.tools.activity import list_activity
from crm_mcp.server.tools.admin import crm_status, list_actions, list_options
from crm_mcp.server.tools.deals import get_pipeline, list_deals
from crm_mcp.server.tools.leads import get_lead, search_leads
from crm_mcp.text import behind, neutral, neutral_json, one_line, unmarked

MARKDOWN = "text/markdown"
MOST = 100_000
"""Characters of a resource: far more than a tool's result, because the user chose to attach it."""

Reader = Callable[..., Awaitable[str]]
Desks = Mapping[str, Context]
"""The context of each connection, by its name."""


async def lead_page(context: Context, lead: str) -> str:
    """One lead: fields, open deals."""
    found = await context.lead(lead)
    page = f"# {_line(found.label)}\n\n{await _listed(found.shown(), 'name')}\n"
    if not context.can(ReadsDeals):
        return page
    listed_deals = "\n".join(
        f"- {_line(each.name)} ({_line(each.id)}): {_line(each.stage)}"
        + (f", {each.value:,.0f} {_line(each.currency or '')}" if each.value else "")
        for each in await context.open_deals(found.id)
    )
    return f"{page}\n## Open deals\n\n{listed_deals or 'none'}\n"


async def activity_page(context: Context, lead: str) -> str:
    """What happened with a lead, newest first, texts whole."""
    found = await context.lead(lead)
    crm = context.crm(ReadsActivity)
    lines = [f"# Activity of {_line(found.label)} ({_line(found.id)})", ""]
    position: str | None = None
    size = 0
    while size < MOST:
        page = await crm.list_activity(found.id, crm.activity_kinds, None, Slice(limit=100, position=position))
        entries = await offload([item.text for item in page.items], _entries, page.items)
        lines += entries
        size += sum(len(entry) for entry in entries)
        position = page.next
        if position is None:
            return "\n".join(lines) + "\n"
    return "\n".join([*lines, "", "Older entries are left out; list_activity has them."])


async def deal_page(context: Context, deal: str) -> str:
    """One deal."""
    found = await context.crm(ReadsDeals).get_deal(deal)
    return f"# Deal {_line(found.name or found.id)}\n\n{await _listed(found.shown(), 'name')}\n"


async def action_page(context: Context, action_id: str) -> str:
    """One action: who, what, when, outcome."""
    row = await context.store.actions.get(action_id)
    if row is None:
        raise NotFound(f'there is no action "{action_id}"', "see list_actions")
    fields = {
        **action_result(row),
        "tool": row.tool,
        "effect": row.effect,
        "caller": row.caller,
        "approved_by": row.approved_by,
        "at": rfc3339(row.created_at),
    }
    return f"# Action\n\n{await _listed(fields)}\n"


async def pipeline_page(context: Context) -> str:
    """Deals and leads by stage."""
    crm = context.crm(SumsPipeline)
    parts = ["# Pipeline"]
    for of in ("deals", "leads"):
        try:
            pipeline = await crm.pipeline(of, "stage")
        except Unsupported:
            continue
        rows = "\n".join(f"| {_cell(each.name)} | {each.count} | {_amount(each.value)} |" for each in pipeline.groups)
        parts.append(
            f"## {of.capitalize()} by stage ({pipeline.total})\n\n| stage | count | value |\n|---|---|---|\n{rows}"
        )
    return "\n\n".join(parts) + "\n"


async def sequences_page(context: Context) -> str:
    """Sequences with their steps, and the steps that are due."""
    crm = context.crm(RunsSequences)
    parts = ["# Sequences"]
    for each in await crm.sequences():
        steps = "\n".join(
            f"{step.position}. after {step.after_days} days, {step.channel}: {_line(step.subject or step.body[:80])}"
            for step in each.steps
        )
        enrolled = "" if each.active is None else f", {each.active} enrolled"
        parts.append(
            f"## {_line(each.name)} ({_line(each.id)}){enrolled}\n\n{steps or 'its steps are not told by this CRM'}"
        )
    if not (plans := context.crm_if(PlansSteps)):
        return "\n\n".join(parts) + "\n"
    due = await plans.due_steps()
    listed_due = "\n".join(
        f"- {rfc3339(step.due_at)} {_line(step.lead)} ({_line(step.lead_id)}): "
        f"step {step.position} of {_line(step.sequence)}, {step.channel}"
        for step in due
    )
    parts.append(f"## Due now ({len(due)})\n\nThese are shown, not sent.\n\n{listed_due or 'none'}")
    return "\n\n".join(parts) + "\n"


async def status_page(context: Context) -> str:
    """The connection, its capabilities and the policy."""
    return f"# Status\n\n```\n{lines_of(neutral_json(await crm_status.run((context,))))}\n```\n"


@dataclass(frozen=True)
class _Kind:
    """One kind of resource: its address, its name, the tool that it belongs to, what it needs of the CRM."""

    uri: str
    name: str
    tool: Tool
    needs: type | None
    reader: Reader

    def there(self, context: Context, served: Collection[str]) -> bool:
        return self.tool.name in served and (self.needs is None or context.can(self.needs))


FIXED = (
    _Kind("crm://pipeline", "Pipeline", get_pipeline, SumsPipeline, pipeline_page),
    _Kind("crm://sequences", "Sequences", list_options, RunsSequences, sequences_page),
    _Kind("crm://status", "Status", crm_status, None, status_page),
)
TEMPLATES = (
    _Kind("crm://leads/{lead}", "Lead", get_lead, FindsLeads, lead_page),
    _Kind("crm://leads/{lead}/activity", "Activity of a lead", list_activity, ReadsActivity, activity_page),
    _Kind("crm://deals/{deal}", "Deal", list_deals, ReadsDeals, deal_page),
    _Kind("crm://actions/{action_id}", "Action", list_actions, None, action_page),
)


def listed(contexts: Desks, served: Collection[str]) -> list[types.Resource]:
    """Return the resources that have a fixed address."""
    return [
        types.Resource(uri=_of(context, each.uri), **_told(context, each))
        for context in contexts.values()
        for each in FIXED
        if each.there(context, served)
    ]


def templates(contexts: Desks, served: Collection[str]) -> list[types.ResourceTemplate]:
    """Return the templates."""
    found = {
        _of(context, each.uri): types.ResourceTemplate(uri_template=_of(context, each.uri), **_told(context, each))
        for context in contexts.values()
        for each in TEMPLATES
        if each.there(context, served)
    }
    return list(found.values())


async def read(contexts: Desks, served: Collection[str], uri: str) -> str:
    """Return a resource's text, neutral and in a fence.

    Raises:
        NotFound: there is no such resource, it is not served, or the record it names does not exist.
    """
    for context in contexts.values():
        for each in FIXED:
            if each.tool.name in served and uri == _of(context, each.uri):
                return await framed(await each.reader(context))
    for context in contexts.values():
        for each in TEMPLATES:
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(_of(context, each.uri)))
            if each.tool.name in served and (found := re.fullmatch(pattern, uri)):
                return await framed(await each.reader(context, unquote(next(iter(found.groupdict().values())))))
    raise NotFound(f'there is no resource "{uri[:120]}"', "see resources/list and resources/templates/list")


async def framed(page: str) -> str:
    """Return a page as it leaves: without what is not seen, between the two lines that say where it is from."""
    return await offload(page, lambda: f"{fenced(neutral(page).rstrip())}\n")


async def _listed(fields: Mapping[str, Any], *besides: str) -> str:
    """Return the fields of a record, an item of a list each."""

    def made() -> str:
        told = ((name, value) for name, value in fields.items() if value is not None and name not in besides)
        return "\n".join(f"- {name}: {_value(value)}" for name, value in told)

    return await offload([*fields.values()], made)


async def complete(
    contexts: Desks, served: Collection[str], uri: str, given: Mapping[str, str], argument: str, value: str
) -> list[str]:
    """Return what an argument may be completed to: `{lead}` to the leads that match what was typed, `crm` to the
    connections."""
    if argument == "crm":
        return [name for name in contexts if name.startswith(value)]
    meant = [context for context in contexts.values() if uri.startswith(f"{context.root}/")] or [
        context for name, context in contexts.items() if given.get("crm", name) == name
    ]
    if argument != "lead" or search_leads.name not in served:
        return []
    if not meant or not (crm := meant[0].crm_if(FindsLeads)):
        return []
    try:
        return [one_line(each) for each in await _leads_like(crm, value)]
    except CrmError:
        return []  # what can't be completed now can be typed


async def _leads_like(crm: FindsLeads, value: str) -> list[str]:
    if re.fullmatch(r"\w+", value) and any(c.isdigit() for c in value):
        try:
            return [(await crm.get_lead(value)).id]
        except NotFound:
            pass
    wanted = LeadFilter(query=value.strip() or None)
    return [each.email or each.id for each in (await crm.search_leads(wanted, Slice(limit=20))).items]


def _of(context: Context, uri: str) -> str:
    """Return the address of a resource of this connection; actions belong to all."""
    return uri if uri.startswith("crm://actions/") else uri.replace("crm:/", context.root, 1)


def _told(context: Context, kind: _Kind) -> dict[str, Any]:
    """Return what a list says of a resource besides its address."""
    name = kind.name if len(context.settings.connections) == 1 else f"{kind.name} in {context.connection}"
    return {"name": name, "description": kind.reader.__doc__, "mime_type": MARKDOWN}


def _entries(items: Iterable[Activity]) -> list[str]:
    return [_entry(each) for each in items]


def _entry(item: Activity) -> str:
    about = ", ".join(_line(str(each)) for each in (item.channel, item.direction, item.outcome) if each)
    done = "" if item.completed is None else (" (done)" if item.completed else " (open)")
    at = rfc3339(item.at) if item.at else "without a date"
    text = behind("  | ", _block(item.text or ""))
    return f"- {at} {item.kind} {_line(item.id)}{f' ({about})' if about else ''}{done}\n{text}"


def _amount(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_value(each) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        return "; ".join(f"{_line(str(name))}: {_value(each)}" for name, each in cast("dict[Any, Any]", value).items())
    return _block(str(value)).replace("\n", "\n  | ")


def _line(text: str | None) -> str:
    return unmarked(one_line(text or "none"))


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _block(text: str) -> str:
    return unmarked(neutral(text))
