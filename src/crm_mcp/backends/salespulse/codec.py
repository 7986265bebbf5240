"""SalesPulse's records in and out: what a contact, a call and a deal say, and what is written of a contact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crm_mcp.backends.lead_fields import (
    addresses_in,
    first_and_last,
    refuse_nobody,
    refuse_taken,
    refuse_unheld,
    whole_name,
)
from crm_mcp.backends.opt_out_fields import refuse_lifting, refused_channels
from crm_mcp.backends.remote import (
    cleared_of,
    emptied,
    identified,
    key_of,
    moment,
    number_in,
    others,
    read,
    text,
    transcript_of,
)
from crm_mcp.backends.salespulse.keys import Keys
from crm_mcp.model import Call, Deal, Lead, LeadDraft, LeadFields, LeadUpdate

NAME = "SalesPulse"
UNHELD = ("status", "owner", "tags", "list")
"""Fields of a lead that a contact does not have."""
CLEARABLE = ("name", "first_name", "last_name", "email", "phone", "company", "title", "custom_fields")

Row = Mapping[str, Any]
Names = Mapping[str, str]
"""The names of the stages, by their ids."""


def identity(row: Any) -> str:
    """Return the id of a record, of a call also from `call_id` as in the webhook.

    Raises:
        VendorError: it has none, or is no record.
    """
    return identified(NAME, row, "id", "call_id")


def stage_in(row: Row, keys: Keys, names: Names) -> str | None:
    """Return the name of a record's stage, which stands there as an object, as a name or as an id."""
    shown: Any = row.get(keys.stage_shown)
    stage = (key_of(shown, "name", "id") if isinstance(shown, dict) else text(shown)) or text(row.get(keys.stage))
    return names.get(stage, stage) if stage else None


def needs_names(row: Row, keys: Keys) -> bool:
    """Whether the name of a record's stage can be known from the list of stages only."""
    shown: Any = row.get(keys.stage_shown)
    return key_of(shown, "name") is None and (shown is not None or bool(row.get(keys.stage)))


def lead_of(row: Row, keys: Keys, names: Names, number: Callable[[object], str | None]) -> Lead:
    """Return a contact as a lead; `number` writes its number in E.164."""
    custom = others(row, keys.taken)
    return Lead(
        id=identity(row),
        name=whole_name(text(row.get("first_name")), text(row.get("last_name"))),
        **read(row, text, first_name="first_name", last_name="last_name", email="email"),
        **read(row, text, company=keys.company, title=keys.title),
        **read(row, moment, created_at=keys.created, updated_at=keys.updated, last_contacted_at=keys.contacted),
        phone=number(row.get("phone")),
        stage=stage_in(row, keys, names),
        do_not_contact=refused_channels(custom),
        custom_fields=custom,
    )


def call_of(row: Row, keys: Keys, *, whole: bool = False) -> Call:
    """Return a call; `whole` takes its transcript along."""
    seconds, direction = number_in(row.get("duration_seconds")), text(row.get("direction"))
    return Call(
        id=identity(row),
        **read(row, text, lead_id="contact_id", outcome="disposition", recording_url="recording_url"),
        direction=direction if direction in ("inbound", "outbound") else None,
        duration_seconds=None if seconds is None else round(seconds),
        started_at=moment(row.get(keys.call_started)) or moment(row.get(keys.created)),
        transcript=transcript_of(row.get(keys.call_transcript)) if whole else None,
    )


def deal_of(row: Row, keys: Keys, names: Names) -> Deal:
    """Return a deal."""
    contact = row.get(keys.deal_contact)
    status = (text(row.get(keys.deal_status)) or "").casefold()
    return Deal(
        id=identity(row),
        lead_id=text(row.get("contact_id")) or key_of(contact) or text(contact),
        **read(row, text, name=keys.deal_name, currency=keys.deal_currency, owner=keys.deal_owner),
        value=number_in(row.get(keys.deal_value)),
        stage=stage_in(row, keys, names),
        status=status if status in ("open", "won", "lost") else None,
        closes_at=moment(row.get(keys.deal_closes)),
    )


def body_of(draft: LeadDraft, keys: Keys, country: str | None) -> dict[str, Any]:
    """Return the body of a new contact.

    Raises:
        InvalidArgument: an address or number is none, a custom field has the name of another field, or nothing says
            who the lead is.
        Unsupported: a field is one that a contact can't hold.
    """
    body = {name: value for name, value in _written(draft, keys, country).items() if value is not None}
    refuse_nobody(body, keys.identifying)
    return body


def changes_of(change: LeadUpdate, before: Lead, row: Row, keys: Keys, country: str | None) -> dict[str, Any]:
    """Return the body of a change: what differs from the contact as it is; null empties a field.

    Raises:
        InvalidArgument: as `body_of`; or a field can't be cleared, is both set and cleared, or is a flag that says that
            the contact must not be contacted, and would not any more.
        Unsupported: a field is one that a contact can't hold.
    """
    nulls = emptied(
        cleared_of(change, before, CLEARABLE), before.custom_fields or (), lambda name: getattr(keys, name, name)
    )
    wanted = {**nulls, **_written(change, keys, country)}
    now, empty = {**row, "email": before.email, "phone": before.phone}, (None, "")
    body = {
        name: value
        for name, value in wanted.items()
        if now.get(name) != value and not (now.get(name) in empty and value in empty)
    }
    refuse_nobody({**row, **body}, keys.identifying)
    refuse_lifting(before, body)
    return body


def _written(fields: LeadFields, keys: Keys, country: str | None) -> dict[str, Any]:
    """Return what is given of a lead by the vendor's keys."""
    fix = f"it takes {', '.join(CLEARABLE)}; stages are set with move_stage"
    refuse_unheld(fields, UNHELD, f"{NAME}'s contacts have no {{name}}", fix)
    refuse_taken(fields, keys.taken)
    email, phone = addresses_in(fields, country)
    given = {"email": email, "phone": phone, keys.company: fields.company, keys.title: fields.title}
    plain = {name: value for name, value in given.items() if value}
    return {**first_and_last(fields, NAME), **plain, **(fields.custom_fields or {})}
