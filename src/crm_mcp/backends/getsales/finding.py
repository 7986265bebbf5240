"""Finding contacts, which GetSales' API calls leads."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

from crm_mcp.address import email_address, known_profile
from crm_mcp.backends.base import FindsLeads
from crm_mcp.backends.getsales.records import PHONES, PROFILE, Names, handles, has_address, has_profile, lead_of, parts
from crm_mcp.backends.getsales.wire import PAGE, SEARCH, Wire, all_of, cannot, more_after, records
from crm_mcp.backends.identity import People, Person, email_key, person_in, person_of
from crm_mcp.backends.lead_fields import addresses_in, whole_name
from crm_mcp.backends.remote import moment, record_in, text, ways_to_write, whole
from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, NotFound, Unsupported, choices
from crm_mcp.model import Lead, LeadFields, LeadFilter, Page, Slice, fold, now

F = TypeVar("F", bound=LeadFields)

STATUSES = ("ok", "failed_validation", "no_contact_data", "duplicate")
"""What GetSales says of a contact's data (found); it sets them by itself."""
MOST_FOUND = 10_000
"""Where the vendor's search ends: beyond, it answers HTTP 500 (found in public clients)."""
_MOST_AT_ADDRESS = 10


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


class Finding(FindsLeads, Wire):
    """Leads as they are found."""

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
        self._refuse(wanted)
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
            row = await self._looked_up(email=address) if _is_address(address) else None
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
        return await self._leads(rows[:_MOST_AT_ADDRESS])

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
            found["status"] = _status(wanted.status)
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

    def _refuse(self, wanted: LeadFilter) -> None:
        for name, value in wanted:
            if value is not None and name not in self.lead_filters:
                raise Unsupported(
                    f"GetSales can't filter leads by {name}", f"it can by {', '.join(sorted(self.lead_filters))}"
                )
        if wanted.sort is not None and wanted.sort not in self.lead_sorts:
            raise InvalidArgument(f'"{wanted.sort[:40]}" is no order of leads', choices(wanted.sort, self.lead_sorts))

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
            return [each for each in found if _is_called(each, name, fields.company)]
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

    async def list_id(self, wanted: str | None) -> str:
        """Return the id of the list that a new lead comes into.

        Raises:
            InvalidArgument: none is given, or there is none of this name; the lists are named.
        """
        chosen = wanted or self._access.list
        if chosen:
            return (await self._meant("lists", chosen)).id
        valid = [each.name for each in await self._named("lists")]
        fix = f"give list; {choices('', valid)}; defaults.list of the connection sets one for all"
        raise InvalidArgument("GetSales needs a list for a new lead", fix, wrote=False)


def _status(given: str) -> str:
    status = given.strip().lower()
    if status not in STATUSES:
        raise InvalidArgument(f'there is no status "{given[:80]}"', choices(given, STATUSES))
    return status


def _is_address(text: str) -> bool:
    """Whether this is an e-mail address: GetSales refuses to look for what is none, and nobody has it."""
    try:
        return bool(email_address(text))
    except InvalidArgument:
        return False


def _is_called(lead: Lead, name: str, company: str) -> bool:
    names = {fold(each) for each in (lead.name, whole_name(lead.first_name, lead.last_name)) if each}
    return fold(name) in names and fold(lead.company or "") == fold(company)


def full_name(fields: LeadFields) -> str | None:
    """Return the name, else first and last as one."""
    return fields.name or whole_name(fields.first_name, fields.last_name)
