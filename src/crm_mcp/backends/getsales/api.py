"""How GetSales is spoken to: its paths, pages, and the names behind its ids."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, cast

import anyio
from pydantic import SecretStr

from crm_mcp.backends.base import ListsOptions
from crm_mcp.backends.getsales.codec import STATUSES
from crm_mcp.backends.getsales.keys import FORMS, PATHS, Keys
from crm_mcp.backends.http import ApiProfile, Query, after_write, at
from crm_mcp.backends.http_errors import refuse_other
from crm_mcp.backends.kept import Kept
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.refusals import no_record, unknown
from crm_mcp.backends.remote import (
    Access,
    Remote,
    number_in,
    overridden,
    record_if_shown,
    record_in,
    rows_in,
    text,
    total_in,
)
from crm_mcp.errors import InvalidArgument, OutcomeUnknown, SettingsError, Unsupported, VendorError, choices
from crm_mcp.model import Account, Option, OptionKind, fold

ME = "/id/api/users/current"
LEADS = "/leads/api/leads"
SEARCH = "/leads/api/leads/search"
UPSERT = "/leads/api/leads/upsert"
MASS_ACTION = "/leads/api/leads/mass-action"
COUNT = "/leads/api/leads/count"
METRICS = "/leads/api/leads/metrics"
LEAD = "/leads/api/leads/{}"
STAGES = "/leads/api/pipeline-stages"
TAGS = "/leads/api/tags"
NOTES = "/leads/api/notes"
NOTE = "/leads/api/notes/{}"
FIELD_VALUES = "/leads/api/custom-field-values"
MESSAGES = "/flows/api/linkedin-messages"
EMAILS = "/emails/api/emails"
SEND_EMAIL = "/emails/api/emails/send-email"
EMAIL = "/emails/api/emails/{}"
FLOW = "/flows/api/flows/{}"
FLOW_LEAD = "/flows/api/flows/{}/leads/{}"
CANCEL = "/flows/api/flows/leads/{}/cancel"
FLOW_LEADS = "/flows/api/flows-leads/list"

LISTED: dict[OptionKind, tuple[str, Query]] = {
    "stages": (STAGES, {"filter[object]": "lead"}),
    "tags": (TAGS, {}),
    "lists": ("/leads/api/lists", {}),
    "custom_fields": ("/leads/api/custom-fields", {}),
    "sequences": ("/flows/api/flows", {}),
    "mailboxes": ("/emails/api/mailboxes", {}),
    "senders": ("/flows/api/sender-profiles", {}),
}
"""What has ids behind names, and where it is listed (documented, or found in public clients)."""

UNUSABLE: dict[OptionKind, tuple[str, ...]] = {
    "sequences": ("draft", "archived"),
    "mailboxes": ("inactive", "disabled"),
    "senders": ("disabled",),
}
"""The statuses with which one of a kind can't be chosen."""

PAGE = 100
"""The documented maximum of `limit`."""
MOST_PAGES = 20
"""Pages of one kind of names that are read: 2,000 tags are more than anyone chooses from."""
KEPT = 60.0
"""Seconds that names are kept, so that a search does not cost five requests."""
_COLOUR = "#9e9e9e"
"""Of a tag that is made here: a colour belongs to a tag."""


class GetSalesApi(ListsOptions, Remote):
    """The ground that all verbs stand on."""

    vendor: ClassVar[str] = "getsales"
    called: ClassVar[str] = "GetSales"
    base_url: ClassVar[str] = "https://amazing.getsales.io"
    limits: ClassVar[Limits] = Limits(per_minute=300, batch=100)
    settle: ClassVar[float] = 0.3
    """Seconds before a lead that does not show a change yet is read again: mass actions may run behind."""

    option_kinds: ClassVar[tuple[OptionKind, ...]] = (
        *("stages", "statuses", "tags", "sequences", "mailboxes", "senders", "lists", "custom_fields"),
    )

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._keys = overridden(Keys(), access.keys, "GetSales")
        for form, valid in FORMS.items():
            given = str(getattr(self._keys, form))
            if given not in valid:
                raise SettingsError(f'keys of GetSales: {form} is "{given}"; {choices(given, valid)}')
        for name in PATHS:  # a path without its first slash would be a part of the host's name
            given = str(getattr(self._keys, name))
            if not re.fullmatch(r"/[A-Za-z0-9/_-]+", given):
                raise SettingsError(f'keys of GetSales: {name} is "{given[:80]}"; give a path such as {LEADS}')
        self._texts: dict[tuple[str, datetime | None], str] = {}
        self._kept: dict[OptionKind, Kept[tuple[dict[str, Any], ...]]] = {}

    @classmethod
    def profile(cls, address: str, access: Access) -> ApiProfile:
        """Return the terms: a Bearer key that is a JWT, and the workspace's id in `Team-ID`.

        The header is documented as required in one place and not mentioned in others; it is sent when it is known.
        """
        team = access.team_id or team_of(access.key)
        return ApiProfile(
            name="GetSales",
            base_url=address,
            key=access.key,
            headers={"Team-ID": team} if team else {},
            hints={
                400: "check the values" if team else "set CRM_MCP_TEAM_ID to the id of the workspace",
                401: "check CRM_MCP_API_KEY: it may be wrong, revoked or expired (Workspace Settings, API Keys)",
                402: "the credits of the workspace do not cover it",
                403: "check CRM_MCP_TEAM_ID: a key belongs to one workspace, and may not have every right there",
            },
        )

    async def check(self) -> Account:
        """Read the user whom the key belongs to."""
        user = record_in(await self._api.read("GET", ME))
        names = " ".join(part for part in (text(user.get("first_name")), text(user.get("last_name"))) if part)
        team = self._access.team_id or team_of(self._access.key) or text(user.get("team_id"))
        return Account(
            user=text(user.get("email")) or names or text(user.get("uuid")),
            found=f"the workspace {team}" if team else "the workspace that the key belongs to",
        )

    async def list_options(self, kind: OptionKind) -> tuple[Option, ...]:
        """List the values: stages of leads in their order, others by name. Statuses are those that are documented."""
        if kind not in self.option_kinds:
            raise Unsupported(f"GetSales has no {kind}", f"it has {', '.join(self.option_kinds)}")
        if kind == "statuses":
            return tuple(Option(id=each, name=each) for each in STATUSES)
        return await self._named(kind, fresh=True)

    async def _listed(self, path: str, query: Query) -> list[dict[str, Any]]:
        """Return all rows of a list."""
        rows: list[dict[str, Any]] = []
        for _ in range(MOST_PAGES):
            asked = {"limit": PAGE, "offset": len(rows), "order_field": "created_at", "order_type": "asc", **query}
            answer = await self._api.read("GET", path, asked)
            found = records(answer)
            more = more_after(answer, len(rows), len(found))
            rows += found
            if not more:
                break
        return rows

    async def _rows(self, kind: OptionKind, *, fresh: bool = False) -> tuple[dict[str, Any], ...]:
        """Return the rows of a kind that names stand for, from memory where they were read less than a minute ago."""
        kept = self._kept.get(kind) or Kept(partial(self._usable, kind), KEPT)
        rows = await kept.get(anew=fresh)
        self._kept[kind] = kept
        return rows

    async def _usable(self, kind: OptionKind) -> tuple[dict[str, Any], ...]:
        """Read the rows of a kind that can be chosen."""
        path, query = LISTED[kind]
        if kind == "stages" and self._keys.stage_form == "json":
            query = {"filter": '{"object": "lead"}'}
        unusable = UNUSABLE.get(kind, ())
        rows = [each for each in await self._listed(path, query) if each.get("object") in (None, "lead")]
        return tuple(each for each in rows if each.get("status") not in unusable)

    async def _named(self, kind: OptionKind, *, fresh: bool = False) -> tuple[Option, ...]:
        """Return what names of a kind stand for: stages in their order, others by name."""
        rows = list(await self._rows(kind, fresh=fresh))
        if kind == "stages":
            rows.sort(key=lambda row: _order(row.get("order")))
            return tuple(Option(id=each.id, name=each.name, of="leads") for each in map(_option, rows))
        return tuple(sorted(map(_option, rows), key=lambda each: fold(each.name)))

    async def _names(self, kind: OptionKind) -> dict[str, str]:
        """Return the names of a kind by id."""
        return {each.id: each.name for each in await self._named(kind)}

    async def _find(self, kind: OptionKind, name: str) -> Option | None:
        """Return the one with this id or name, without regard to case; what is not in memory may be new."""
        for fresh in (False, True):
            remembered = kind in self._kept
            for each in await self._named(kind, fresh=fresh):
                if each.id == name or fold(each.name) == fold(name.strip()):
                    return each
            if not remembered:
                break
        return None

    async def _meant(self, kind: OptionKind, name: str) -> Option:
        """Return the one with this id or name.

        Raises:
            InvalidArgument: there is none; the valid ones are listed.
        """
        if found := await self._find(kind, name):
            return found
        what = kind.removesuffix("s").replace("_", " ")
        valid = [each.name for each in await self._named(kind)]
        raise unknown(what, name, valid)

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

    def _field_names(self) -> dict[str, str]:
        kept = self._kept.get("custom_fields")
        return {str(row.get("uuid")): str(row.get("name")) for row in (kept and kept.last) or ()}

    async def _new_tag(self, name: str) -> str:
        self._forget("tags")
        answer = await self._api.write("POST", TAGS, {"name": name, "color": _COLOUR})
        made = text(record_in(answer).get("uuid")) if isinstance(answer, dict) else None
        if made is None:
            raise OutcomeUnknown(f'GetSales took the new tag "{name}" and did not say its id', "try again")
        return made

    def _forget(self, kind: OptionKind) -> None:
        self._kept.pop(kind, None)

    async def _lead_row(self, lead: str) -> dict[str, Any]:
        """Return a lead as the vendor has it, with what stands beside it."""
        answer = await self._api.read("GET", at(LEAD, lead), missing=no_record("lead", lead))
        if key := shown_lead(answer):  # one without an id is refused where it is read
            refuse_other(lead, key)
        return record_in(answer)

    async def _mass_action(self, lead: str, kind: str, payload: Mapping[str, Any]) -> None:
        """Do something with one lead. Mass actions take ids, so that no other lead can be hit."""
        body = {"type": kind, "filter": {"ids": [lead], "all": False, "excludeIds": []}, "payload": dict(payload)}
        await self._api.write("PUT", MASS_ACTION, body)

    async def _settled(self, lead: str, what: str, shows: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return a lead once it shows what was changed.

        Raises:
            OutcomeUnknown: it does not show it.
        """
        row: dict[str, Any] = {}
        with after_write():
            for pause in (0.0, 1.0, 3.0):
                await anyio.sleep(pause * self.settle)
                row = await self._lead_row(lead)
                if shows(row):
                    return row
        raise OutcomeUnknown(
            f"GetSales took the change of {what}, and the lead {lead} does not show it",
            "read the lead again in a minute before trying anew",
            detail=repr(row)[:300],
        )


def team_of(key: SecretStr) -> str | None:
    """Return the workspace that a key names in its payload, `specific_team_id` (found in a public client of the sister
    product; inferred here). The key is read, not verified: that is the vendor's to do."""
    parts = key.get_secret_value().split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    team = cast("dict[str, Any]", payload).get("specific_team_id") if isinstance(payload, dict) else None
    found = str(team) if isinstance(team, int | str) and not isinstance(team, bool) else ""
    return found if re.fullmatch(r"[A-Za-z0-9-]{1,64}", found) else None


def shown_lead(answer: Any) -> str | None:
    """Return the id of the lead that an answer shows, None where it shows none."""
    row = record_if_shown(answer)
    inner = row.get("lead")
    return text((cast("dict[str, Any]", inner) if isinstance(inner, dict) else row).get("uuid"))


def records(answer: Any) -> list[dict[str, Any]]:
    """Return the rows of a page, each an object.

    Raises:
        VendorError: they are not.
    """
    rows = rows_in(answer)
    if not all(isinstance(each, dict) for each in rows):
        raise VendorError("GetSales' answer has rows that are no records", "try again", detail=repr(rows)[:300])
    return cast("list[dict[str, Any]]", rows)


def more_after(answer: Any, offset: int, count: int, size: int = PAGE) -> bool:
    """Whether a list goes on after a page: by `has_more`, which is missing in searches and may stand in `pagination`
    for e-mails; else by `total`; else where the page is full."""
    for place in places_of(answer):
        if isinstance(place.get("has_more"), bool):
            return bool(place["has_more"]) and count > 0
    total = all_of(answer)
    return offset + count < total and count > 0 if total is not None else count >= size


def all_of(answer: Any) -> int | None:
    """Return how many rows a list has in all, where it says it."""
    return next((total for place in places_of(answer) if (total := total_in(place)) is not None), None)


def places_of(answer: Any) -> list[dict[str, Any]]:
    """Return where a list may speak of its pages."""
    if not isinstance(answer, dict):
        return []
    found = cast("dict[str, Any]", answer)
    nested = found.get("pagination")
    return [found, cast("dict[str, Any]", nested)] if isinstance(nested, dict) else [found]


def since(wrote: bool) -> AbstractContextManager[None]:
    """Mark what fails inside as failing after something was written, where something was."""
    return after_write() if wrote else nullcontext()


def cannot(what: str, instead: str) -> Unsupported:
    """Return the error for what GetSales has no operation for."""
    return Unsupported(f"GetSales can't {what}", instead, wrote=False)


def _option(row: Mapping[str, Any]) -> Option:
    names = " ".join(part for part in (text(row.get("first_name")), text(row.get("last_name"))) if part)
    key = text(row.get("uuid")) or ""
    return Option(id=key, name=text(row.get("name")) or text(row.get("email")) or names or key)


def _order(value: object) -> float:
    found = number_in(value)
    return 1e9 if found is None else found
