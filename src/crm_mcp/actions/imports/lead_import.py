"""One import, from what is given to what became of each row: read, planned, written batch by batch, told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards.addresses import addresses_in
from crm_mcp.actions.imports.columns import IDENTIFYING, map_columns
from crm_mcp.actions.imports.csv_reader import read_csv
from crm_mcp.actions.imports.opt_outs import (
    Places,
    count_refusing,
    of_refused,
    places_in,
    refused_by_object,
)
from crm_mcp.actions.imports.rows import BadRow, fingerprint, phone_of, refuse_undecided, rows
from crm_mcp.actions.intent import Outcome
from crm_mcp.actions.summary import escape_markup
from crm_mcp.address import email_address
from crm_mcp.backends.base import ImportsLeads
from crm_mcp.backends.identity import called
from crm_mcp.channels import CHANNELS
from crm_mcp.errors import CrmError, InvalidArgument
from crm_mcp.model import IfExists, ImportOutcome, ImportRow, LeadDraft
from crm_mcp.store import Address

MOST_ROWS = 1000
MOST_NAMED = 200
"""Leads that a question names as those that would be changed."""
KINDS = ("created", "updated", "skipped", "failed")


@dataclass(frozen=True)
class Given:
    """The rows that can be imported, each with what it is called; those that can't; what becomes of the columns."""

    good: list[tuple[str, ImportRow]]
    bad: list[tuple[str, str]]
    columns: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    refused: list[Places] = field(default_factory=list[Places])
    """Where the people of rows that can't be imported are reached, of those who must not be contacted."""
    dropped: list[str] = field(default_factory=list[str])
    """The columns that are left out and say, in some rows, that they must not be contacted, in words."""

    @property
    def rows(self) -> list[ImportRow]:
        """The rows that can be imported."""
        return [row for _, row in self.good]

    @property
    def not_taken(self) -> list[str]:
        """The columns that nothing is known of."""
        return [each["column"] for each in self.columns if each["became"].startswith("not taken")]

    @property
    def blocked(self) -> str:
        """How many rows say on which channels that they must not be contacted; empty where none does."""
        said = [*(row.blocked for row in self.rows), *({on for on, _ in places} for places in self.refused)]
        counts = {channel: sum(channel in each for each in said) for channel in CHANNELS}
        return ", ".join(f"{channel} {count}" for channel, count in counts.items() if count)


@dataclass
class Report:
    """What became of each row."""

    told: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    changed: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """The rows that change somebody, whom, and what is to be said of it."""

    def add(self, item: str, outcome: ImportOutcome, remarks: Sequence[str] = ()) -> None:
        """Note the outcome of a row, with what of it could not be taken."""
        reason = "; ".join(filter(None, [outcome.reason, *remarks]))
        lead = {"lead": outcome.id} if outcome.id else {}
        self.told[outcome.outcome].append({"row": item, **lead, **({"reason": reason} if reason else {})})
        if outcome.outcome == "updated" and outcome.whom:
            self.changed.append((item, outcome.whom, reason))

    def fail(self, item: str, reason: str) -> None:
        """Note that a row was not imported."""
        self.told["failed"].append({"row": item, "reason": reason})

    @property
    def counts(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        return {kind: len(found) for kind, found in self.told.items()}

    def fields(self, columns: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """Return the fields of the result."""
        columned = {"columns": [dict(each) for each in columns]} if columns else {}
        return {"counts": self.counts, **self.told, **columned}

    def done(self, columns: Sequence[Mapping[str, str]]) -> Outcome:
        """Say what was done."""
        counts = self.counts
        first = next((each["lead"] for kind in KINDS[:2] for each in self.told[kind] if "lead" in each), None)
        return Outcome(
            "imported leads: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()),
            self.fields(columns),
            touched=(("lead", first),) if first else (),
            size=counts["created"] + counts["updated"],
        )


def read_given(
    leads: Sequence[Mapping[str, Any]] | None, csv: str | None, fields: Mapping[str, str] | None, country: str | None
) -> Given:
    """Read what is given.

    Raises:
        InvalidArgument: it is neither or both of the two, has more than 1,000 rows, a column that is named does not
            exist, or no row can be imported.
        Undecided: it can't be read who must not be contacted.

    Where people of rows that can't be imported are reached stands in the first row that can.
    """
    if (leads is None) == (csv is None):
        raise InvalidArgument("give either leads or csv", "csv is text with a header line")
    if fields and csv is None:
        raise InvalidArgument("map goes with csv: leads are objects, whose fields have names", "leave map out")
    given = _objects(leads or [], country) if csv is None else _table(csv, fields, country)
    if not given.good:
        why = "; ".join(f"{item}: {reason}" for item, reason in given.bad[:3])
        lost = "; nobody was blocked: set_do_not_contact does that" if given.refused else ""
        raise InvalidArgument(
            "there is nothing to import" + (f": {why}" if why else "") + lost, "give at least one good row"
        )
    if given.refused:  # who can't be imported is blocked with the first one who can
        item, first = given.good[0]
        refused = (*first.refused, *(each for places in given.refused for each in places))
        given.good[0] = item, first.model_copy(update={"refused": refused})
    return given


def _table(csv: str, fields: Mapping[str, str] | None, country: str | None) -> Given:
    columns = map_columns(read_csv(csv).header, fields=fields)
    if columns.opt_outs:
        refuse_undecided(read_csv(csv), columns)
    given = Given([], [], columns.became())
    for column in columns.dropped:
        if count := count_refusing((record.cells for record in read_csv(csv)), column):
            given.dropped.append(f'"{columns.name(column.index)[:80]}" is left out, and says so of {count}')
    for each in rows(read_csv(csv), columns, country):
        if isinstance(each, BadRow):
            given.bad.append((f"line {each.line}", each.reason))
            given.refused.extend([each.refused] if each.refused else [])
        else:
            given.good.append((f"line {each.line}", each.row))
        if len(given.good) + len(given.bad) > MOST_ROWS:
            raise InvalidArgument(
                f"csv has more than {MOST_ROWS} rows", "split it, or run `crm-mcp import` in a terminal"
            )
    return given


def _objects(leads: Sequence[Mapping[str, Any]], country: str | None) -> Given:
    from crm_mcp.actions.imports.columns import plain_faults

    given = Given([], [])
    for number, item in enumerate(leads, 1):
        name = f"item {number}"
        fields, blocked = refused_by_object(item)
        refused = places_in(fields, blocked, country)
        try:
            row = _object(fields, country)
        except ValidationError as error:
            reason = "; ".join(plain_faults(error))
        except CrmError as error:
            reason = str(error)
        else:
            given.good.append((name, row.model_copy(update={"blocked": blocked, "refused": refused})))
            continue
        given.bad.append((name, "; ".join(filter(None, (reason, of_refused(blocked, refused))))))
        given.refused.extend([refused] if refused else [])
    return given


def _object(item: Mapping[str, Any], country: str | None) -> ImportRow:
    draft = LeadDraft.model_validate(item)
    number, remarks = phone_of(draft.phone, country) if draft.phone else (None, [])
    email = email_address(draft.email) if draft.email else None
    normal = draft.model_copy(update={"email": email, "phone": number})
    if not IDENTIFYING.intersection(normal.shown()):
        lacks = f"it needs one of {', '.join(sorted(IDENTIFYING))}"
        raise InvalidArgument("; ".join([*remarks, lacks]))
    key = fingerprint(sorted((name, str(value)) for name, value in normal.shown().items()))
    return ImportRow(draft=normal, key=key, remarks=tuple(remarks))


async def plan(context: Context, given: Given, if_exists: IfExists) -> Report:
    """Look up what would become of each row; nothing is written. Where a CRM leaves no room for so many look-ups while
    somebody waits, only the first rows are looked up, and the report has no others."""
    crm = context.crm(ImportsLeads)
    asked = given.good[: crm.plan_size]
    report = Report()
    outcomes = await crm.plan_import([row for _, row in asked], if_exists)
    for (item, row), outcome in zip(asked, outcomes, strict=True):
        report.add(item, outcome, row.remarks)
    for item, reason in given.bad:
        report.fail(item, reason)
    return report


def overwritten(given: Given, report: Report) -> list[str]:
    """Return, in words, the leads that a plan would change."""
    names = {item: label(row) for item, row in given.good}
    return [
        f"{escape_markup(whom)} by {item} ({escape_markup(names[item])})"
        + (f": {escape_markup(reason)}" if reason else "")
        for item, whom, reason in report.changed
    ]


async def write(
    context: Context, batch: Sequence[ImportRow], if_exists: IfExists, patience: float
) -> tuple[ImportOutcome, ...]:
    """Import one batch."""
    from crm_mcp.backends.rate_limit import bulk_work  # start-up counts

    with bulk_work(patience):
        return await context.crm(ImportsLeads).import_leads(batch, if_exists)


def addresses(context: Context, rows: Iterable[ImportRow]) -> tuple[Address, ...]:
    """Return the addresses that the rows give to leads: none stands in any other field."""
    given = [each.draft.model_dump(include={"email", "phone", "custom_fields"}) for each in rows]
    return addresses_in(given, context.settings.country)


def label(row: ImportRow) -> str:
    """Return what a person calls a row."""
    draft = row.draft
    return called(draft) or draft.company or draft.email or draft.phone or "nobody"
