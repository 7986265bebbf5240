"""Creating and changing leads: fields, custom values, tags, stages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any, NamedTuple

from crm_mcp.address import linkedin_profile
from crm_mcp.backends.base import MovesLeads, TagsLeads, WritesLeads
from crm_mcp.backends.getsales.finding import Finding, full_name
from crm_mcp.backends.getsales.records import (
    EMAILS,
    PHONES,
    PROFILE,
    WRITABLE,
    Names,
    lead_of,
    parts,
    tag_ids,
)
from crm_mcp.backends.getsales.wire import FIELD_VALUES, LEAD, TAGS, UPSERT, cannot, no_lead, shown_lead, since
from crm_mcp.backends.http import after_write, at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.identity import Person, email_key, refuse_other_person
from crm_mcp.backends.lead_fields import IDENTIFYING, PARTS, parts_after, unknown_person, whole_name
from crm_mcp.backends.opt_out_fields import refuse_lifting
from crm_mcp.backends.remote import ONE_CUSTOM, record_in, set_and_cleared, text
from crm_mcp.errors import Conflict, InvalidArgument, OutcomeUnknown, VendorError, choices, saying
from crm_mcp.model import CustomValue, Lead, LeadDraft, LeadUpdate, fold

PLAIN = {
    "name": "name",
    "first_name": "first_name",
    "last_name": "last_name",
    "company": "company_name",
    "title": "position",
}
CLEARABLE = ("name", "first_name", "last_name", "email", "phone", "company", "title", "tags", "custom_fields")
_COLOUR = "#9e9e9e"
"""Of a tag that is made here: a colour belongs to a tag."""
_LONGEST_TAG = 200


class Custom(NamedTuple):
    """Custom fields as the vendor takes them: its own further fields, and values by the name of their field."""

    own: dict[str, CustomValue]
    values: dict[str, str | None]


class Leads(Finding, WritesLeads, TagsLeads, MovesLeads):
    """Stages and tags sit on leads, by id; a lead belongs to one list."""

    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create one in its list, else in the connection's default list.

        It is an upsert that must not update: whatever the vendor takes for the same person stays as it is, and is a
        Conflict. The vendor knows people by LinkedIn profile, e-mail address, or name and company; that a lead was
        there is told by the newest ones, which are read before.
        """
        draft = self._normal(draft)
        body = await self._upsert_body(draft)
        if found := await self._alike(draft, by_name=draft.email is None):
            raise _taken(found)
        before = await self._before()
        try:
            answer = await self._api.write("POST", UPSERT, body)
        except InvalidArgument as error:
            await self._explain(draft, error)
            raise
        made = _made(answer)
        if before.had(parts(made)[0]):
            raise _taken(await self._leads([made]))
        refuse_other_person(draft, self._person_shown(made))
        with after_write():
            return await self._shown(made, draft)

    async def update_lead(self, lead: str, change: LeadUpdate) -> Lead:
        """Change one.

        Standard fields are put; custom fields are written one by one, since a put drops them silently (documented for
        the sister product); tags are changed by mass actions. What then does not show raises OutcomeUnknown.
        """
        row = await self._lead_row(lead)
        before = (await self._leads([row]))[0]
        change = self._normal(change)
        if change.list and await self.list_id(change.list) != parts(row)[0].get("list_uuid"):
            raise cannot("move a lead to another list", "update_lead leaves the list; mass_action_on_leads changes it")
        cleared = _cleared(change, before, self._field_names().values())
        custom = await self._custom({**dict.fromkeys(cleared.custom), **(change.custom_fields or {})})
        refuse_lifting(before, custom.values)
        body = {**self._changed(change, cleared.fields, before), **self._own(custom, self._keys.handle)}
        if parts(row)[0].get("email_status") == "unsubscribed" and _readdressed(parts(row)[0], body):
            raise unsubscribed(before)
        self._known_by(before, change, cleared.fields)
        if taken := await self._alike(_moved(change, before), before, by_name=False):
            raise _taken(taken)
        tags = () if "tags" in cleared.fields else change.tags
        names = None if tags is None else _tag_names(tags)
        if body:
            answer = await self._api.write("PUT", at(LEAD, lead), body, missing=no_lead(lead))
            refuse_written_other(lead, shown_lead(answer))
        await self._write_values(lead, custom.values, wrote=bool(body))
        wrote = bool(body or custom.values)
        with since(wrote):
            row = await self._settled(lead, "custom fields", lambda found: self._has_values(found, custom.values))
            if names is not None:
                kept = {fold(each) for each in names}
                off = [each for each in before.tags or () if fold(each) not in kept]
                row = await self._retagged(lead, row, names, off, wrote=wrote)
            return (await self._leads([row]))[0]

    async def tag_lead(self, lead: str, add: Seq[str], remove: Seq[str]) -> Lead:
        """Add tags and take them off by mass actions, one tag a call; what is both added and removed is removed.

        The sources contradict each other about the names of these actions (`keys` corrects them), so the lead is read
        again: tags that it does not show then raise OutcomeUnknown.
        """
        names = _tag_names(add)
        row = await self._lead_row(lead)
        return (await self._leads([await self._retagged(lead, row, names, list(remove))]))[0]

    async def move_lead(self, lead: str, stage: str) -> Lead:
        """Move a lead to a stage by a mass action, and see that it is there."""
        chosen = await self._meant("stages", stage)
        row = await self._lead_row(lead)
        if parts(row)[0].get("pipeline_stage_uuid") != chosen.id:
            await self._mass_action(lead, self._keys.stage_action, {"pipeline_stage_uuid": chosen.id})
            row = await self._settled(
                lead, "stage", lambda found: parts(found)[0].get("pipeline_stage_uuid") == chosen.id
            )
        return (await self._leads([row]))[0]

    # What the verbs share

    def _person_shown(self, row: Mapping[str, Any]) -> Person:
        """Return what the lead of an answer is known by, with all of its addresses."""
        lead = parts(row)[0]
        known = self.person(lead_of(row, Names({}, {}, {}), self.number))
        emails = (email_key(found) for name in EMAILS if (found := text(lead.get(name))))
        return replace(known, emails=tuple(emails), phones=tuple(each for each in self._numbers(lead) if each))

    async def _upsert_body(self, draft: LeadDraft) -> dict[str, Any]:
        if not any(getattr(draft, each) for each in IDENTIFYING):
            raise unknown_person()
        lead, values = await self.written(draft)
        body = {"lead": lead, "list_uuid": await self.list_id(draft.list), "update_if_exists": False}
        return {**body, "move_to_list": False, **({"custom_fields": values} if values else {})}

    async def written(self, draft: LeadDraft) -> tuple[dict[str, Any], dict[str, str | None]]:
        """Return a draft as the vendor takes it: its fields, and custom values by name."""
        custom = await self._custom(draft.custom_fields or {})
        lead = {theirs: value for ours, theirs in PLAIN.items() if (value := getattr(draft, ours))}
        if draft.email:
            lead[self._keys.email] = draft.email
        if draft.phone:
            lead[self._keys.phone] = draft.phone
        if draft.tags:
            lead["tags"] = _tag_names(draft.tags)
        own = {name: value for name, value in self._own(custom, self._keys.profile).items() if value is not None}
        return {**lead, **own}, {name: value for name, value in custom.values.items() if value is not None}

    def _own(self, custom: Custom, profile: str) -> dict[str, Any]:
        """Return the vendor's own further fields; `profile` is where a LinkedIn profile goes: as a handle or
        as its address, as which every form of it would be read (documented).

        Raises:
            InvalidArgument: what is given for one is none.
        """
        found = dict(custom.own)
        if "linkedin" in found:
            given = text(found.pop("linkedin"))
            handle = _handle(given) if given else None
            found[profile] = f"{PROFILE}{handle}" if handle and profile != self._keys.handle else handle
        return found

    async def _custom(self, given: Mapping[str, CustomValue]) -> Custom:
        """Sort custom fields into the vendor's own fields and the account's.

        Raises:
            InvalidArgument: there is no such field; the valid ones are named.
        """
        custom = Custom({}, {})
        for name, value in given.items():
            if name in WRITABLE:
                custom.own[name] = value
            elif field := await self._find("custom_fields", name):
                custom.values[field.name] = _said(value)
            else:
                valid = [*(each.name for each in await self._named("custom_fields")), *WRITABLE]
                raise InvalidArgument(f'there is no custom field "{name[:80]}"', choices(name, valid), wrote=False)
        return custom

    def _changed(self, change: LeadUpdate, cleared: frozenset[str], before: Lead) -> dict[str, Any]:
        """Return the standard fields that change, as the vendor has them; an empty one is null (inferred)."""
        body: dict[str, Any] = {PLAIN[name]: None for name in cleared if name in PLAIN}
        body |= {PLAIN[name]: value for name in PLAIN if (value := getattr(change, name))}
        body |= {key: None for key in EMAILS[:2] if "email" in cleared}
        body |= {key: None for key in PHONES if "phone" in cleared}
        if change.email:
            body[self._keys.email] = change.email
        if change.phone:
            body[self._keys.phone] = change.phone
        held = {each: getattr(before, each) for each in PARTS}
        now = {each: body.get(each, part) for each, part in held.items()}
        if change.name:
            body = parts_after(change.name, before.name, held) | body
        elif "name" not in body and before.name == whole_name(*held.values()) != whole_name(*now.values()):
            body["name"] = whole_name(*now.values())
        return body

    def _known_by(self, before: Lead, change: LeadUpdate, cleared: frozenset[str]) -> None:
        if cleared and not any(
            getattr(change, each) or (getattr(before, each) and each not in cleared) for each in IDENTIFYING
        ):
            raise InvalidArgument(
                "nothing would be left to know the lead by", f"keep one of {', '.join(IDENTIFYING)}", wrote=False
            )

    async def _write_values(self, lead: str, values: Mapping[str, str | None], *, wrote: bool) -> None:
        for name, value in values.items():
            with since(wrote):
                field = await self._meant("custom_fields", name)
                body = {"custom_field_uuid": field.id, "object_type": "lead", "object_uuid": lead, "value": value}
                await self._api.write("POST", FIELD_VALUES, body)
            wrote = True

    def _has_values(self, row: Mapping[str, Any], values: Mapping[str, str | None]) -> bool:
        """Whether a lead shows custom values; one that shows none at all, flat as it is, can't tell."""
        if not values or parts(row)[1] is None:
            return True
        shown = lead_of(row, Names({}, {}, self._field_names()), self.number).custom_fields or {}
        return all(_said(shown.get(name)) == (value or None) for name, value in values.items())

    def _field_names(self) -> dict[str, str]:
        kept = self._kept.get("custom_fields")
        return {str(row.get("uuid")): str(row.get("name")) for row in (kept[1] if kept else ())}

    async def _retagged(
        self, lead: str, row: dict[str, Any], add: Seq[str], remove: Seq[str], *, wrote: bool = False
    ) -> dict[str, Any]:
        """Change the tags of a lead that was just read; returns it as it is then."""
        has = set(tag_ids(parts(row)[0]))
        unwanted = {fold(each.strip()) for each in remove}
        off = {found.id for each in remove if (found := await self._find("tags", each.strip()))}
        on: set[str] = set()
        for name in (each for each in add if fold(each) not in unwanted):
            tag = await self._find("tags", name)
            if tag is None:
                with since(wrote):
                    on.add(await self._new_tag(name))
                wrote = True
            else:
                on.add(tag.id)
        changes = [(self._keys.add_tag_action, each) for each in sorted(on - has)]
        changes += [(self._keys.remove_tag_action, each) for each in sorted(off & has)]
        for action, tag_id in changes:
            with since(wrote):
                await self._mass_action(lead, action, {self._keys.tag: tag_id})
            wrote = True
        if not changes:
            return row
        return await self._settled(
            lead, "tags", lambda found: on <= (shown := set(tag_ids(parts(found)[0]))) and not off & shown
        )

    async def _new_tag(self, name: str) -> str:
        self._forget("tags")
        answer = await self._api.write("POST", TAGS, {"name": name, "color": _COLOUR})
        made = text(record_in(answer).get("uuid")) if isinstance(answer, dict) else None
        if made is None:
            raise OutcomeUnknown(f'GetSales took the new tag "{name}" and did not say its id', "try again")
        return made

    async def _shown(self, row: dict[str, Any], draft: LeadDraft) -> Lead:
        """Return the lead that an upsert answers with; it is read again where the answer does not show all of it.

        Raises:
            VendorError: the lead was written, and does not show all that was sent.
        """
        lead = str(parts(row)[0]["uuid"])
        if draft.tags:
            self._forget("tags")
        found = (await self._leads([row]))[0]
        if draft.tags or draft.custom_fields or _lacks(found, draft):
            found = (await self._leads([await self._lead_row(lead)]))[0]
        missing = _lacks(found, draft)
        if tags := {fold(each) for each in draft.tags or ()} - {fold(each) for each in found.tags or ()}:
            missing.append(f"the tags {', '.join(sorted(tags))}")
        if missing:
            raise VendorError(
                f"GetSales wrote the lead {lead}, and it does not show {', '.join(missing)}",
                "read it again, and add what it lacks with update_lead",
                wrote=True,
            )
        return found

    async def _explain(self, draft: LeadDraft, error: InvalidArgument) -> None:
        """Say more of why the vendor does not accept a new lead, where it can be known.

        Raises:
            Conflict: it has this person.
            InvalidArgument: nothing identifies the lead.
        """
        if found := await self._alike(draft, by_name=True):
            raise _taken(found) from error
        if nameless := unidentified(draft, error):
            raise nameless from error


class Cleared(NamedTuple):
    """What is to be emptied: fields, and custom fields by name."""

    fields: frozenset[str]
    custom: tuple[str, ...]


def _cleared(change: LeadUpdate, before: Lead, fields_there: Collection[str]) -> Cleared:
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


def _made(answer: Any) -> dict[str, Any]:
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


def _lacks(lead: Lead, draft: LeadDraft) -> list[str]:
    """Return the fields that were sent and of which a lead shows nothing."""
    return [each for each in ("email", "phone", "company", "title") if getattr(draft, each) and not getattr(lead, each)]


def _tag_names(given: Seq[str]) -> list[str]:
    found = [" ".join(each.split()) for each in given]
    if any(not 0 < len(each) <= _LONGEST_TAG for each in found):
        raise InvalidArgument("a tag is empty or too long", f"give 1 to {_LONGEST_TAG} characters", wrote=False)
    return list({fold(each): each for each in found}.values())


def _moved(change: LeadUpdate, before: Lead) -> LeadUpdate:
    """Return the change with those addresses alone that are new."""
    same = {name: None for name in ("email", "phone") if getattr(change, name) == getattr(before, name)}
    return change.model_copy(update=same)


def _readdressed(lead: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
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


def _taken(found: Seq[Lead]) -> Conflict:
    who = ", ".join(f"{each.id} ({each.label})" for each in found[:5])
    return Conflict(f"GetSales has this person already: {who}", "update that lead instead", wrote=False)


def _handle(profile: str) -> str:
    with saying(wrote=False):
        return linkedin_profile(profile)


def _said(value: CustomValue) -> str | None:
    """Return a custom value as GetSales keeps it, which is text."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
