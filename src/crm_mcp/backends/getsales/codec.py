"""What GetSales' records say, in our nouns, and ours in its fields."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from crm_mcp.address import address_key, email_address, linkedin_profile, same_profile
from crm_mcp.backends.lead_fields import whole_name
from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.backends.remote import ONE_CUSTOM, moment, others, record_in, set_and_cleared, text
from crm_mcp.channels import Channel
from crm_mcp.errors import Conflict, InvalidArgument, OutcomeUnknown, VendorError, choices, saying
from crm_mcp.model import (
    CustomValue,
    Direction,
    Lead,
    LeadDraft,
    LeadFields,
    LeadUpdate,
    Mailbox,
    Message,
    Note,
    NoteDraft,
    NoteKind,
    fold,
    rfc3339,
)
from crm_mcp.text import rendered

STATUSES = ("ok", "failed_validation", "no_contact_data", "duplicate")
"""What GetSales says of a contact's data (found); it sets them by itself."""
PLAIN = {
    "name": "name",
    "first_name": "first_name",
    "last_name": "last_name",
    "company": "company_name",
    "title": "position",
}
CLEARABLE = ("name", "first_name", "last_name", "email", "phone", "company", "title", "tags", "custom_fields")
_LONGEST_TAG = 200
EMAILS = ("work_email", "personal_email", "email")
"""Where a lead has e-mail addresses: ours is the first that is there."""
PHONES = ("work_phone_number", "personal_phone_number")
WRITABLE = (
    *("linkedin", "headline", "about", "personal_email", "personal_phone_number", "raw_address", "facebook", "twitter"),
    *("avatar", "domain"),
)
"""The vendor's own fields that no field of ours takes and that can be written, as custom fields (found)."""
_TAKEN = frozenset(
    (
        *("uuid", "name", "first_name", "last_name", "company_name", "position", "status", "pipeline_stage_uuid"),
        *("tags", "created_at", "updated_at", "linkedin", "linkedin_id", "custom_fields", *EMAILS, *PHONES),
        # Plumbing, and histories that would fill every list; `read_operation` has them.
        *("team_id", "user_id", "unread_counts", "posts", "experience", "educations"),
    )
)
PROFILE = "https://www.linkedin.com/in/"
_LOGGED = re.compile(
    r"\((call|email|meeting|note)(?:, (inbound|outbound))?(?:, (\d{1,9}) seconds)?"
    r"(?:, at ([^,)]+))?(?:, outcome: (.+))?\)"
)
"""The last line that `note_text` writes."""


@dataclass(frozen=True)
class Names:
    """What the ids in a lead stand for."""

    stages: Mapping[str, str]
    tags: Mapping[str, str]
    fields: Mapping[str, str]


def parts(row: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return a lead and its custom values: both stand in a wrapper (found), or the lead stands alone (sister product).

    Raises:
        VendorError: it has no id.
    """
    inner = row.get("lead")
    lead = cast("dict[str, Any]", inner if isinstance(inner, dict) else row)
    if not text(lead.get("uuid")):
        raise VendorError("GetSales' answer has a lead without an id", "try again", detail=repr(row)[:300])
    return lead, row.get("custom_fields", lead.get("custom_fields"))


def lead_of(row: Mapping[str, Any], names: Names, number: Callable[[object], str | None]) -> Lead:
    """Return a lead. `do_not_contact` is what its record says: an unsubscribed address; the blacklist is not in it."""
    lead, values = parts(row)
    first, last = text(lead.get("first_name")), text(lead.get("last_name"))
    email = next((found for name in EMAILS if (found := text(lead.get(name)))), None)
    phone = next((found for name in PHONES if (found := number(lead.get(name)))), None)
    custom: dict[str, CustomValue] = {**(others(lead, _TAKEN) or {}), **custom_values(values, names.fields)}
    if profile := profile_of(lead):
        custom["linkedin"] = profile
    for name, shown in (("personal_email", email), ("personal_phone_number", phone)):
        value = number(lead.get(name)) if name in PHONES else text(lead.get(name))
        if value and value != shown:
            custom[name] = value
    tags = sorted((names.tags.get(each, each) for each in tag_ids(lead)), key=fold)
    stage = text(lead.get("pipeline_stage_uuid"))
    return Lead(
        id=str(lead["uuid"]),
        name=text(lead.get("name")) or whole_name(first, last),
        first_name=first,
        last_name=last,
        email=email,
        phone=phone,
        company=text(lead.get("company_name")),
        title=text(lead.get("position")),
        status=text(lead.get("status")),
        stage=names.stages.get(stage) if stage else None,
        tags=tuple(tags) or None,
        created_at=moment(lead.get("created_at")),
        updated_at=moment(lead.get("updated_at")),
        do_not_contact=_refused(lead, custom),
        custom_fields=custom or None,
    )


def _refused(lead: Mapping[str, Any], custom: Mapping[str, CustomValue]) -> tuple[Channel, ...] | None:
    """Return the channels that an unsubscribed address (found), or a custom field of such a name, rules out."""
    own: tuple[Channel, ...] = ("email",) if lead.get("email_status") == "unsubscribed" else ()
    return tuple(sorted({*own, *(refused_channels(custom) or ())})) or None


def tag_ids(lead: Mapping[str, Any]) -> list[str]:
    """Return the ids of a lead's tags; a tag may be given as an object."""
    given = lead.get("tags")
    rows = cast("list[Any]", given) if isinstance(given, list) else []
    ids = [text(cast("dict[str, Any]", each).get("uuid") if isinstance(each, dict) else each) for each in rows]
    return [each for each in ids if each]


def custom_values(given: Any, fields: Mapping[str, str]) -> dict[str, CustomValue]:
    """Return custom values by the name of their field.

    They come as an object by name or id, or as a list of values; no source shows which, so each is read.
    """
    pairs: list[tuple[str | None, Any]] = []
    if isinstance(given, dict):
        pairs = [*cast("dict[str, Any]", given).items()]
    elif isinstance(given, list):
        rows = [cast("dict[str, Any]", each) for each in cast("list[Any]", given) if isinstance(each, dict)]
        pairs = [(text(row.get("name")) or text(row.get("custom_field_uuid")), row) for row in rows]
    found: dict[str, CustomValue] = {}
    for name, value in pairs:
        inner = cast("dict[str, Any]", value).get("value") if isinstance(value, dict) else value
        if name and isinstance(inner, str | int | float | bool) and inner != "":
            found[fields.get(name, name)] = inner
    return found


def profile_of(lead: Mapping[str, Any]) -> str | None:
    """Return the address of a lead's LinkedIn profile: the vendor keeps its last part, or all of it."""
    known = text(lead.get("linkedin")) or text(lead.get("linkedin_id"))
    if known is None:
        return None
    return known if "/" in known else f"{PROFILE}{known}"


def handles(profile: str) -> tuple[str, ...]:
    """Return how the vendor may have the handle of a profile: in its normal form, percent-encoded, and as it is written
    here; which one it compares is not documented. Nothing for what is no profile."""
    try:
        handle = linkedin_profile(profile)
    except InvalidArgument:
        return ()
    written = re.split("[/?#]", re.split(r"(?i)\bin/", profile.strip(), maxsplit=1)[-1])[0]
    same = (written,) if same_profile(f"{PROFILE}{written}", profile) else ()
    return tuple(dict.fromkeys((handle, quote(handle, safe="'~"), *same)))


def has_address(lead: Mapping[str, Any], email: str) -> bool:
    """Whether one of a lead's addresses is exactly this one."""
    return any(address_key(found) == address_key(email) for name in EMAILS if (found := text(lead.get(name))))


def has_profile(lead: Mapping[str, Any], profile: str) -> bool:
    """Whether one of a lead's LinkedIn ids is exactly this one."""
    members = [each for name in ("ln_id", "sn_id") if (each := text(lead.get(name))) and each.startswith("AC")]
    shown = (profile_of(lead), text(lead.get("linkedin_id")))
    return any(same_profile(each, profile) for each in (*shown, *members) if each)


def note_text(draft: NoteDraft) -> str:
    """Return what a note says, with a last line for what GetSales has no field for."""
    said = [
        draft.kind,
        draft.direction,
        f"{draft.duration_seconds} seconds" if draft.duration_seconds is not None else None,
        f"at {rfc3339(draft.occurred_at)}" if draft.occurred_at else None,
        f"outcome: {draft.outcome}" if draft.outcome else None,
    ]
    if said == ["note", None, None, None, None] and not _LOGGED.fullmatch(_last_line(draft.content)):
        return draft.content
    return f"{draft.content}\n\n({', '.join(each for each in said if each)})"


def note_of(row: Mapping[str, Any]) -> Note:
    """Return a note; the last line that `note_text` writes is read back."""
    content = text(row.get("note")) or ""
    last = _last_line(content)
    found = _LOGGED.fullmatch(last)
    kind, direction, seconds, at, outcome = found.groups() if found else (None,) * 5
    return Note(
        id=text(row.get("uuid")) or "",
        lead_id=text(row.get("object_uuid")),
        content=content.removesuffix(last).rstrip("\n") if found else content,
        kind=cast("NoteKind", kind or "note"),
        direction=cast("Direction | None", direction),
        duration_seconds=int(seconds) if seconds else None,
        outcome=outcome,
        occurred_at=moment(at) or moment(row.get("created_at")),
    )


def _last_line(content: str) -> str:
    return content.rpartition("\n")[2]


def linkedin_of(row: Mapping[str, Any]) -> Message:
    """Return a LinkedIn message. `created_at` is when it was synced (documented), and serves until it is sent."""
    return _message_of(row, "linkedin", text(row.get("text")))


def email_of(row: Mapping[str, Any]) -> Message:
    """Return an e-mail, its HTML as text; lists may leave the body out."""
    given = row.get("body")
    body = text(cast("dict[str, Any]", given).get("body") if isinstance(given, dict) else given)
    return _message_of(row, "email", (rendered(body).strip() or None) if body else None)


def _message_of(row: Mapping[str, Any], channel: Channel, body: str | None) -> Message:
    return Message(
        id=text(row.get("uuid")) or "",
        lead_id=text(row.get("lead_uuid")),
        channel=channel,
        direction=_direction(row),
        subject=text(row.get("subject")),
        body=body,
        status=text(row.get("status")),
        sent_at=moment(row.get("sent_at")) or moment(row.get("created_at")),
    )


def marked_up(body: str) -> str:
    """Return text as HTML."""
    return html.escape(body, quote=False).replace("\r\n", "\n").replace("\n", "<br>\n")


def mailbox_of(row: Mapping[str, Any], default: str | None) -> Mailbox:
    """Return a mailbox; `default` is the id or address of the one that is taken where none is named."""
    key, address = text(row.get("uuid")) or "", text(row.get("email")) or ""
    return Mailbox(id=key, address=address or key, default=default is not None and default in (key, address))


def _direction(row: Mapping[str, Any]) -> Direction | None:
    """Return the direction: `type` is inbox or outbox (documented)."""
    directions: dict[str | None, Direction] = {"inbox": "inbound", "outbox": "outbound"}
    return directions.get(text(row.get("type")))


class Custom(NamedTuple):
    """Custom fields as the vendor takes them: its own further fields, and values by the name of their field."""

    own: dict[str, CustomValue]
    values: dict[str, str | None]


class Cleared(NamedTuple):
    """What is to be emptied: fields, and custom fields by name."""

    fields: frozenset[str]
    custom: tuple[str, ...]


def cleared_by(change: LeadUpdate, before: Lead, fields_there: Collection[str]) -> Cleared:
    """Return what a change empties; raises InvalidArgument for what can't be emptied, or is given a value as well."""
    fields: set[str] = set()
    custom: list[str] = []
    for name in change.clear:
        if name.startswith(ONE_CUSTOM):
            custom.append(name.removeprefix(ONE_CUSTOM))
        elif name == "custom_fields":
            custom += [each for each in before.custom_fields or {} if each in fields_there]
        elif name not in CLEARABLE:
            raise InvalidArgument(f'"{name[:80]}" can\'t be cleared', choices(name, CLEARABLE), wrote=False)
        elif getattr(change, name) is not None:
            raise set_and_cleared(name)
        else:
            fields.add(name)
    return Cleared(frozenset(fields), tuple(custom))


def unidentified(draft: LeadDraft, error: InvalidArgument) -> InvalidArgument | None:
    """Return what it means that the vendor does not accept a lead that nothing identifies (inferred), else None."""
    profile = (draft.custom_fields or {}).get("linkedin")
    if draft.email or profile or (full_name(draft) and draft.company):
        return None
    return InvalidArgument(
        "GetSales knows a lead by its e-mail address, its LinkedIn profile, or its name and company",
        "give email, custom_fields.linkedin, or name and company",
        detail=error.detail,
        wrote=False,
    )


def made_in(answer: Any) -> dict[str, Any]:
    """Return the lead that an upsert answers with.

    Raises:
        OutcomeUnknown: there is none in the answer.
    """
    try:
        row = record_in(answer)
        parts(row)
    except VendorError as error:
        what = "GetSales took the lead and did not say its id"
        raise OutcomeUnknown(what, "look for it with search_leads", detail=error.detail) from None
    return row


def lacks(lead: Lead, draft: LeadDraft) -> list[str]:
    """Return the fields that were sent and of which a lead shows nothing."""
    return [each for each in ("email", "phone", "company", "title") if getattr(draft, each) and not getattr(lead, each)]


def tag_names(given: Seq[str]) -> list[str]:
    """Return tags, each once; raises InvalidArgument for one that is empty or too long."""
    found = [" ".join(each.split()) for each in given]
    if any(not 0 < len(each) <= _LONGEST_TAG for each in found):
        raise InvalidArgument("a tag is empty or too long", f"give 1 to {_LONGEST_TAG} characters", wrote=False)
    return list({fold(each): each for each in found}.values())


def moved_only(change: LeadUpdate, before: Lead) -> LeadUpdate:
    """Return the change with those addresses alone that are new."""
    same = {name: None for name in ("email", "phone") if getattr(change, name) == getattr(before, name)}
    return change.model_copy(update=same)


def changes_address(lead: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Whether a change gives a lead another e-mail address, if only in its spelling, or takes one away."""
    had = {text(lead.get(name)) for name in EMAILS}
    new = {name: text(value) for name, value in body.items() if name in EMAILS}
    return any(value not in had if value else bool(text(lead.get(name))) for name, value in new.items())


def unsubscribed(lead: Lead) -> InvalidArgument:
    """Return the error for a new address of somebody who has unsubscribed: GetSales keeps that by lead, and what a new
    address does to it is not known."""
    return InvalidArgument(
        f"{lead.label} has unsubscribed, and another e-mail address could lift that",
        "a person can change it, in GetSales itself",
        wrote=False,
    )


def taken_by(found: Seq[Lead]) -> Conflict:
    """Return the error for a person who is there already."""
    who = ", ".join(f"{each.id} ({each.label})" for each in found[:5])
    return Conflict(f"GetSales has this person already: {who}", "update that lead instead", wrote=False)


def handle_of(profile: str) -> str:
    """Return the last part of a profile's address; raises InvalidArgument, with nothing written, where it is none."""
    with saying(wrote=False):
        return linkedin_profile(profile)


def said_of(value: CustomValue) -> str | None:
    """Return a custom value as GetSales keeps it, which is text."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Before:
    """The leads there were before a write: the answer to it does not say whether a lead is new."""

    ids: frozenset[str] = frozenset()
    """Of the newest ones."""
    newest: datetime | None = None
    """When, by the vendor's own clock, the newest was made."""

    def had(self, lead: Mapping[str, Any]) -> bool:
        """Whether a lead that the vendor answers with was there."""
        made = moment(lead.get("created_at"))
        return str(lead["uuid"]) in self.ids or bool(made and self.newest and made < self.newest)


def status_meant(given: str) -> str:
    """Return a status as it is searched for; raises InvalidArgument where it is none."""
    status = given.strip().lower()
    if status not in STATUSES:
        raise InvalidArgument(f'there is no status "{given[:80]}"', choices(given, STATUSES))
    return status


def is_address(text: str) -> bool:
    """Whether this is an e-mail address: GetSales refuses to look for what is none, and nobody has it."""
    try:
        return bool(email_address(text))
    except InvalidArgument:
        return False


def is_called(lead: Lead, name: str, company: str) -> bool:
    """Whether a lead has just this name and company."""
    names = {fold(each) for each in (lead.name, whole_name(lead.first_name, lead.last_name)) if each}
    return fold(name) in names and fold(lead.company or "") == fold(company)


def full_name(fields: LeadFields) -> str | None:
    """Return the name, else first and last as one."""
    return fields.name or whole_name(fields.first_name, fields.last_name)
