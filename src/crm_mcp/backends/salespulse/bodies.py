"""What is written of a contact: the body of a creation and of a change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crm_mcp.backends.lead_fields import addresses_in, unknown_person, whole_name
from crm_mcp.backends.opt_out_fields import refuse_lifting
from crm_mcp.backends.remote import ONE_CUSTOM, set_and_cleared
from crm_mcp.backends.salespulse.shapes import NAME, Keys
from crm_mcp.errors import InvalidArgument, Unsupported, choices
from crm_mcp.model import Lead, LeadDraft, LeadFields, LeadUpdate, fold

UNHELD = ("status", "owner", "tags", "list")
"""Fields of a lead that a contact does not have."""
CLEARABLE = ("name", "first_name", "last_name", "email", "phone", "company", "title", "custom_fields")


def body_of(draft: LeadDraft, keys: Keys, country: str | None) -> dict[str, Any]:
    """Return the body of a new contact.

    Raises:
        InvalidArgument: an address or number is none, a custom field has the name of another field, or nothing says
            who the lead is.
        Unsupported: a field is one that a contact can't hold.
    """
    body = {name: value for name, value in _written(draft, keys, country).items() if value is not None}
    _known_by(body, keys)
    return body


def changes_of(
    change: LeadUpdate, before: Lead, row: Mapping[str, Any], keys: Keys, country: str | None
) -> dict[str, Any]:
    """Return the body of a change: what differs from the contact as it is; null empties a field.

    Raises:
        InvalidArgument: as `body_of`; or a field can't be cleared, is both set and cleared, or is a flag that says that
            the contact must not be contacted, and would not any more.
        Unsupported: a field is one that a contact can't hold.
    """
    wanted = _written(change, keys, country)
    for name in _cleared(change, before):
        if name == "name":
            wanted.update(first_name=None, last_name=None)
        elif name == "custom_fields":
            wanted.update({each: wanted.get(each) for each in before.custom_fields or ()})
        else:
            wanted[_key(name, keys)] = None
    now = {**row, "email": before.email, "phone": before.phone}
    body = {name: value for name, value in wanted.items() if _differs(now.get(name), value)}
    _known_by({**row, **body}, keys)
    refuse_lifting(before, body)
    return body


def _written(fields: LeadFields, keys: Keys, country: str | None) -> dict[str, Any]:
    """Return what is given of a lead by the vendor's keys."""
    for name in UNHELD:
        if getattr(fields, name):
            fix = "it takes name, first_name, last_name, email, phone, company, title and custom_fields"
            if name == "status":
                fix += "; stages are set with move_stage"
            raise Unsupported(f"{NAME}'s contacts have no {name}", fix, wrote=False)
    body: dict[str, Any] = _names_of(fields)
    email, phone = addresses_in(fields, country)
    body |= {name: value for name, value in (("email", email), ("phone", phone)) if value}
    if fields.company:
        body[keys.company] = fields.company
    if fields.title:
        body[keys.title] = fields.title
    for name, value in (fields.custom_fields or {}).items():
        if name in keys.taken:
            raise InvalidArgument(f'"{name}" is no custom field', "give it by its own parameter", wrote=False)
        body[name] = value
    return body


def _names_of(fields: LeadFields) -> dict[str, Any]:
    """Return first and last name: a contact has these two alone, and a whole name is split at its first blank."""
    first, last = fields.first_name, fields.last_name
    if fields.name is None:
        return {name: value for name, value in (("first_name", first), ("last_name", last)) if value}
    words = fields.name.split()
    whole = " ".join(words)
    if first and not last:
        last = whole[len(first) :].strip() or None
    elif last and not first:
        first = whole[: len(whole) - len(last)].strip() or None
    elif not first and not last:
        first, last = words[0], " ".join(words[1:]) or None
    if fold(whole_name(first, last) or "") != fold(whole):
        raise Unsupported(
            f"{NAME} keeps a name as first_name and last_name, and name is not these two",
            "give name alone, or first_name and last_name",
            wrote=False,
        )
    return {"first_name": first, "last_name": last}


def _cleared(change: LeadUpdate, before: Lead) -> list[str]:
    """Return the fields to empty, a single custom field by the name it really has."""
    valid = (*CLEARABLE, *(ONE_CUSTOM + name for name in before.custom_fields or ()))
    by_fold = {fold(name): name for name in valid}
    given = {name for name in CLEARABLE if getattr(change, name)}
    given |= {ONE_CUSTOM + name for name in change.custom_fields or ()}
    if change.name:
        given |= {"first_name", "last_name"}
    found: list[str] = []
    for each in change.clear:
        name = each if each in valid else by_fold.get(fold(each))
        if name is None and each.startswith(ONE_CUSTOM) and len(each) > len(ONE_CUSTOM):
            continue  # a custom field that the contact does not have is empty already
        if name is None:
            raise InvalidArgument(f'"{each[:80]}" is no field to clear', choices(each, valid), wrote=False)
        parts = {"first_name", "last_name"} if name == "name" else {name}
        if name != "custom_fields" and given & parts:
            raise set_and_cleared(name)
        found.append(name)
    return found


def _key(name: str, keys: Keys) -> str:
    given = {"company": keys.company, "title": keys.title}
    return given.get(name) or name.removeprefix(ONE_CUSTOM)


def _differs(before: Any, after: Any) -> bool:
    empty = (None, "")
    return before != after and not (before in empty and after in empty)


def _known_by(fields: Mapping[str, Any], keys: Keys) -> None:
    if not any(fields.get(name) for name in ("first_name", "last_name", "email", "phone", keys.company)):
        raise unknown_person()
