"""Contacts, which GetSales' API calls leads: found, created and changed, with their tags and stages."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any, ClassVar, TypeVar

from crm_mcp.address import known_profile
from crm_mcp.backends.base import FindsLeads, MovesLeads, TagsLeads, WritesLeads
from crm_mcp.backends.getsales.api import (
    FIELD_VALUES,
    LEAD,
    PAGE,
    SEARCH,
    UPSERT,
    GetSalesApi,
    all_of,
    cannot,
    more_after,
    records,
    shown_lead,
    since,
)
from crm_mcp.backends.getsales.codec import (
    EMAILS,
    PHONES,
    PLAIN,
    PROFILE,
    WRITABLE,
    Before,
    Custom,
    Names,
    changes_address,
    cleared_by,
    full_name,
    handle_of,
    handles,
    has_address,
    has_profile,
    is_address,
    is_called,
    lacks,
    lead_of,
    made_in,
    moved_only,
    parts,
    said_of,
    status_meant,
    tag_ids,
    tag_names,
    taken_by,
    unidentified,
    unsubscribed,
)
from crm_mcp.backends.http import after_write, at
from crm_mcp.backends.http_errors import refuse_written_other
from crm_mcp.backends.identity import People, Person, email_key, person_in, person_of, refuse_other_person
from crm_mcp.backends.lead_fields import IDENTIFYING, PARTS, addresses_in, parts_after, unknown_person, whole_name
from crm_mcp.backends.lists import whole
from crm_mcp.backends.opt_out_fields import refuse_lifting
from crm_mcp.backends.refusals import no_record, refuse_filters, refuse_sort
from crm_mcp.backends.remote import MOST_AT_ADDRESS, moment, record_in, text, ways_to_write
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, NotFound, VendorError, choices
from crm_mcp.model import CustomValue, Lead, LeadDraft, LeadFields, LeadFilter, LeadUpdate, Page, Slice, fold, now

F = TypeVar("F", bound=LeadFields)

MOST_FOUND = 10_000
"""Where the vendor's search ends: beyond, it answers HTTP 500 (found in public clients)."""


class GetSalesLeads(FindsLeads, WritesLeads, TagsLeads, MovesLeads, GetSalesApi):
    """Stages and tags sit on leads, by id; a lead belongs to one list."""

    lead_filters: ClassVar[frozenset[str]] = frozenset(
        ("query", "status", "stage", "tag", "list", "created_after", "sort")
    )
    lead_sorts: ClassVar[tuple[str, ...]] = (
        *("-created_at", "created_at", "-updated_at", "updated_at", "name", "-name"),
    )

    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        """Find leads by the vendor's search, which is fuzzy about words.

        The vendor's filter by creation knows days only; what was created earlier on that day is taken out here, and no
        total is given then. Its search ends at 10,000 rows; beyond, the error says how to go on.
        """
        refuse_filters(self.called, "leads", wanted, self.lead_filters)
        refuse_sort(wanted.sort, self.lead_sorts)
        sort, offset = wanted.sort or self.lead_sorts[0], whole(part.position)
        limit = min(part.limit, MOST_FOUND - offset)
        if limit <= 0:
            raise InvalidArgument(
                "GetSales' search ends at 10,000 leads",
                "narrow it by stage, tag, list or query; or sort by created_at and give the created_at of the last lead"
                " as created_after",
            )
        order = {"order_field": sort.removeprefix("-"), "order_type": "desc" if sort.startswith("-") else "asc"}
        body = {"filter": await self._filter(wanted), "limit": limit, "offset": offset, **order}
        answer = await self._api.read("POST", SEARCH, body=body)
        rows = records(answer)
        end = offset + len(rows)
        leads = await self._leads(rows)
        if wanted.created_after:
            leads = tuple(each for each in leads if not each.created_at or each.created_at > wanted.created_after)
        more = more_after(answer, offset, len(rows), limit)
        return Page[Lead](
            items=leads, next=str(end) if more else None, total=None if wanted.created_after else all_of(answer)
        )

    async def get_lead(self, lead: str) -> Lead:
        """Read one lead."""
        return (await self._leads([await self._lead_row(lead)]))[0]

    async def leads_at(self, channel: Channel, address: str) -> tuple[Lead, ...]:
        """Return the leads that have an address.

        An e-mail address, work or personal, and a LinkedIn profile are looked up; a number can only be searched for.
        Whether the vendor's search finds it in every form that it may be written in is not documented, so several are
        tried.
        """
        if channel == "email":
            row = await self._looked_up(email=address) if is_address(address) else None
            rows = [row] if row and has_address(parts(row)[0], address) else []
        elif channel == "linkedin":
            rows = []
            for each in handles(address):
                row = await self._looked_up(linkedin_id=f"{PROFILE}{each}")
                rows = [row] if row and has_profile(parts(row)[0], address) else []
                if rows:
                    break
        else:
            found: dict[str, dict[str, Any]] = {}
            for words in ways_to_write(address):
                body = {"filter": {"q": words}, "limit": PAGE, "offset": 0}
                order = {"order_field": "created_at", "order_type": "asc"}
                for row in records(await self._api.read("POST", SEARCH, body={**body, **order})):
                    lead = parts(row)[0]
                    if address in self._numbers(lead):
                        found.setdefault(str(lead["uuid"]), row)
            rows = [*found.values()]
        return await self._leads(rows[:MOST_AT_ADDRESS])

    async def create_lead(self, draft: LeadDraft) -> Lead:
        """Create one in its list, else in the connection's default list.

        It is an upsert that must not update: whatever the vendor takes for the same person stays as it is, and is a
        Conflict. The vendor knows people by LinkedIn profile, e-mail address, or name and company; that a lead was
        there is told by the newest ones, which are read before.
        """
        draft = self._normal(draft)
        body = await self._upsert_body(draft)
        if found := await self._alike(draft, by_name=draft.email is None):
            raise taken_by(found)
        before = await self._before()
        try:
            answer = await self._api.write("POST", UPSERT, body)
        except InvalidArgument as error:
            await self._explain(draft, error)
            raise
        made = made_in(answer)
        if before.had(parts(made)[0]):
            raise taken_by(await self._leads([made]))
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
        cleared = cleared_by(change, before, self._field_names().values())
        custom = await self._custom({**dict.fromkeys(cleared.custom), **(change.custom_fields or {})})
        refuse_lifting(before, custom.values)
        body = {**self._changed(change, cleared.fields, before), **self._own(custom, self._keys.handle)}
        if parts(row)[0].get("email_status") == "unsubscribed" and changes_address(parts(row)[0], body):
            raise unsubscribed(before)
        self._known_by(before, change, cleared.fields)
        if taken := await self._alike(moved_only(change, before), before, by_name=False):
            raise taken_by(taken)
        tags = () if "tags" in cleared.fields else change.tags
        names = None if tags is None else tag_names(tags)
        if body:
            answer = await self._api.write("PUT", at(LEAD, lead), body, missing=no_record("lead", lead))
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
        names = tag_names(add)
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

    async def _leads(self, rows: Seq[Mapping[str, Any]]) -> tuple[Lead, ...]:
        if not rows:
            return ()
        names = Names(await self._names("stages"), await self._names("tags"), await self._names("custom_fields"))
        return tuple(lead_of(row, names, self.number) for row in rows)

    async def _filter(self, wanted: LeadFilter) -> dict[str, Any]:
        """Return a search filter. Raises InvalidArgument for names that the account does not know."""
        found: dict[str, Any] = {}
        if wanted.query:
            found["q"] = wanted.query
        if wanted.status:
            found["status"] = status_meant(wanted.status)
        if wanted.stage:
            found["pipeline_stage_uuid"] = (await self._meant("stages", wanted.stage)).id
        if wanted.tag:
            found["tags"] = [(await self._meant("tags", wanted.tag)).id]
        if wanted.list:
            found["list_uuid"] = (await self._meant("lists", wanted.list)).id
        if wanted.created_after:
            first = wanted.created_after.astimezone(UTC).date().isoformat()
            last = (now() + timedelta(days=1)).date().isoformat()
            operators = self._keys.date_form == "operators"
            found[self._keys.created] = {">=": first, "<=": last} if operators else {"from": first, "to": last}
        return found

    async def _looked_up(self, **by: str) -> dict[str, Any] | None:
        try:
            return record_in(await self._api.read("POST", self._keys.lookup, body=by))
        except NotFound:
            return None

    def _numbers(self, lead: Mapping[str, Any]) -> set[str | None]:
        return {self.number(lead.get(name)) for name in PHONES} - {None}

    async def _before(self) -> Before:
        """Return the newest leads."""
        order = {"order_field": "created_at", "order_type": "desc"}
        body: dict[str, Any] = {"filter": {}, "limit": PAGE, "offset": 0, **order}
        leads = [parts(row)[0] for row in records(await self._api.read("POST", SEARCH, body=body))]
        newest = max((made for lead in leads if (made := moment(lead.get("created_at")))), default=None)
        return Before(frozenset(str(lead["uuid"]) for lead in leads), newest)

    def person(self, fields: Lead | LeadFields) -> Person:
        """Return what somebody is known by: their profile too, and their personal address and number."""
        known = person_of(fields) if isinstance(fields, Lead) else person_in(fields)
        custom = fields.custom_fields or {}
        profile, email = text(custom.get("linkedin")), text(custom.get("personal_email"))
        phone = self.number(custom.get("personal_phone_number"))
        return replace(
            known,
            profile=known_profile(profile or "") or "",
            emails=(*known.emails, *((email_key(email),) if email else ())),
            phones=(*known.phones, *((phone,) if phone else ())),
        )

    async def _alike(self, fields: LeadFields, before: Lead | None = None, *, by_name: bool) -> list[Lead]:
        """Return the leads that are this person by an address, a profile or a number, or, where none is and that is
        asked for, by name and company. `before` is the lead that `fields` change."""
        there: dict[str, Lead] = {}
        profile = (fields.custom_fields or {}).get("linkedin")
        addresses: tuple[tuple[Channel, object], ...] = (
            ("email", fields.email),
            ("linkedin", profile),
            ("sms", fields.phone),
        )
        for channel, address in addresses:
            if isinstance(address, str) and address:
                there |= {each.id: each for each in await self.leads_at(channel, address)}
        person = self.person(fields)
        if before is not None:
            there.pop(before.id, None)
            person = self.person(before).changed(person)
        same = People(map(self.person, there.values())).alike(person).people
        name = full_name(fields)
        if by_name and not same and name and fields.company:
            row = await self._looked_up(name=name, company_name=fields.company)
            # The vendor's look-up may be as fuzzy as its search: somebody else is not this person.
            found = await self._leads([row] if row else [])
            return [each for each in found if is_called(each, name, fields.company)]
        return [there[each.id] for each in same]

    def _normal(self, fields: F) -> F:
        """Return fields with their addresses in the normal form.

        Raises:
            InvalidArgument: an address is none.
            Unsupported: a field is not GetSales'.
        """
        for name, instead in (("status", "it sets the status by itself; see move_stage"), ("owner", "it has none")):
            if getattr(fields, name):
                raise cannot(f"set the {name} of a lead", instead)
        email, phone = addresses_in(fields, self._access.country)
        return fields.model_copy(update={"email": email, "phone": phone})

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
            lead["tags"] = tag_names(draft.tags)
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
            handle = handle_of(given) if given else None
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
                custom.values[field.name] = said_of(value)
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
        return all(said_of(shown.get(name)) == (value or None) for name, value in values.items())

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

    async def _shown(self, row: dict[str, Any], draft: LeadDraft) -> Lead:
        """Return the lead that an upsert answers with; it is read again where the answer does not show all of it.

        Raises:
            VendorError: the lead was written, and does not show all that was sent.
        """
        lead = str(parts(row)[0]["uuid"])
        if draft.tags:
            self._forget("tags")
        found = (await self._leads([row]))[0]
        if draft.tags or draft.custom_fields or lacks(found, draft):
            found = (await self._leads([await self._lead_row(lead)]))[0]
        missing = lacks(found, draft)
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
            raise taken_by(found) from error
        if nameless := unidentified(draft, error):
            raise nameless from error
