"""What SalesPulse's requests and answers look like: its inferred keys in one table, and the decoders.

The reference names the fields of a contact (`first_name last_name phone email state product_interest`) and, in the
sample of a webhook, those of a call (`call_id contact_id direction duration_seconds recording_url disposition`). It
shows no other body and no answer, so each other key is inferred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from crm_mcp.backends.lead_fields import whole_name
from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.backends.remote import moment, number_in, others, text
from crm_mcp.errors import VendorError
from crm_mcp.model import Call, Deal, Lead

NAME = "SalesPulse"
WORDS = ("first_name", "last_name", "email", "phone")
"""Fields of a contact that the reference names and that a lead has by the same name."""

Names = Mapping[str, str]
"""The names of the stages, by their ids."""


@dataclass(frozen=True)
class Keys:
    """What the reference does not spell out, all of it inferred; a connection's settings can correct each."""

    contacts: str = "contacts"
    """Of the body of a bulk creation."""
    company: str = "company"
    title: str = "title"
    stage: str = "stage_id"
    """Of the body of a stage move, and of the id of a stage in an answer."""
    stage_shown: str = "stage"
    """Of a stage in an answer: its name, or an object with `id` and `name`."""
    stage_verb: str = "PATCH"
    """The verb of a stage move: both captures of the reference lost it."""
    call_to: str = "contact_id"
    """Of the body of a call: a key that ends in `_id` is given the contact's id, another one (`to`) its number."""
    created: str = "created_at"
    updated: str = "updated_at"
    contacted: str = "last_contacted_at"
    call_started: str = "started_at"
    call_transcript: str = "transcript"
    deal_contact: str = "contact"
    deal_name: str = "name"
    deal_value: str = "value"
    deal_currency: str = "currency"
    deal_status: str = "status"
    deal_closes: str = "closes_at"
    deal_owner: str = "owner"

    @property
    def taken(self) -> frozenset[str]:
        """The keys of a contact that no custom field can have."""
        return frozenset(
            {"id", *WORDS, self.company, self.title, self.stage, self.stage_shown}
            | {self.created, self.updated, self.contacted}
        )


def key_of(row: Any) -> str | None:
    """Return the id of a record, of a call also from `call_id` as in the webhook; None where it has none."""
    if not isinstance(row, dict):
        return None
    found = cast("dict[str, Any]", row)
    return text(found.get("id")) or text(found.get("call_id"))


def identified(row: Any) -> dict[str, Any]:
    """Return a record that has an id.

    Raises:
        VendorError: it has none, or is no record.
    """
    if isinstance(row, dict) and text(cast("dict[str, Any]", row).get("id")):
        return cast("dict[str, Any]", row)
    raise VendorError(f"{NAME} gives a record without an id", "try again", detail=repr(cast("object", row))[:300])


def stage_in(row: Mapping[str, Any], keys: Keys, names: Names) -> str | None:
    """Return the name of a record's stage, which stands there as an object, as a name or as an id."""
    shown: Any = row.get(keys.stage_shown)
    if isinstance(shown, dict):
        found = cast("dict[str, Any]", shown)
        shown = text(found.get("name")) or found.get("id")
    stage = text(shown) or text(row.get(keys.stage))
    return names.get(stage, stage) if stage else None


def needs_names(row: Any, keys: Keys) -> bool:
    """Whether the name of a record's stage can be known from the list of stages only."""
    if not isinstance(row, dict):
        return False
    found = cast("dict[str, Any]", row)
    shown: object = found.get(keys.stage_shown)
    if isinstance(shown, dict) and text(cast("dict[str, Any]", shown).get("name")):
        return False
    return shown is not None or bool(found.get(keys.stage))


def lead_of(row: Mapping[str, Any], keys: Keys, names: Names, number: Callable[[object], str | None]) -> Lead:
    """Return a contact as a lead; `number` writes its number in E.164."""
    first, last = text(row.get("first_name")), text(row.get("last_name"))
    custom = others(row, keys.taken)
    return Lead(
        id=str(row["id"]),
        name=whole_name(first, last),
        first_name=first,
        last_name=last,
        email=text(row.get("email")),
        phone=number(row.get("phone")),
        company=text(row.get(keys.company)),
        title=text(row.get(keys.title)),
        stage=stage_in(row, keys, names),
        created_at=moment(row.get(keys.created)),
        updated_at=moment(row.get(keys.updated)),
        last_contacted_at=moment(row.get(keys.contacted)),
        do_not_contact=refused_channels(custom),
        custom_fields=custom,
    )


def call_of(row: Mapping[str, Any], keys: Keys, *, whole: bool = False) -> Call:
    """Return a call that has an id; `whole` takes its transcript along."""
    seconds = number_in(row.get("duration_seconds"))
    direction = text(row.get("direction"))
    return Call(
        id=key_of(row) or "",
        lead_id=text(row.get("contact_id")),
        direction=direction if direction in ("inbound", "outbound") else None,
        duration_seconds=None if seconds is None else round(seconds),
        outcome=text(row.get("disposition")),
        started_at=moment(row.get(keys.call_started)) or moment(row.get(keys.created)),
        recording_url=text(row.get("recording_url")),
        transcript=_transcript(row.get(keys.call_transcript)) if whole else None,
    )


def deal_of(row: Mapping[str, Any], keys: Keys, names: Names) -> Deal:
    """Return a deal."""
    contact = row.get(keys.deal_contact)
    within = cast("dict[str, Any]", contact) if isinstance(contact, dict) else {"id": contact}
    status = (text(row.get(keys.deal_status)) or "").casefold()
    return Deal(
        id=str(row["id"]),
        lead_id=text(row.get("contact_id")) or text(within.get("id")),
        name=text(row.get(keys.deal_name)),
        value=number_in(row.get(keys.deal_value)),
        currency=text(row.get(keys.deal_currency)),
        stage=stage_in(row, keys, names),
        status=status if status in ("open", "won", "lost") else None,
        closes_at=moment(row.get(keys.deal_closes)),
        owner=text(row.get(keys.deal_owner)),
    )


def _transcript(value: Any) -> str | None:
    """Return a transcript, which may come as text or as a list of what each speaker said."""
    if not isinstance(value, list):
        return text(value)
    lines: list[str] = []
    for turn in cast("list[Any]", value):
        if isinstance(turn, dict):
            said = cast("dict[str, Any]", turn)
            parts = (text(said.get("speaker")), text(said.get("text")))
            lines.append(": ".join(part for part in parts if part))
        elif line := text(turn):
            lines.append(line)
    return "\n".join(line for line in lines if line) or None
