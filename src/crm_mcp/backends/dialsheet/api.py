"""What all of Dialsheet's verbs share: how it is spoken to, its lists, and what a write's answer says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from crm_mcp.backends.dialsheet.codec import Records, identity, mapping, unkept
from crm_mcp.backends.dialsheet.keys import Keys
from crm_mcp.backends.http import ApiProfile, after_write, at
from crm_mcp.backends.http_errors import refuse_other
from crm_mcp.backends.lists import EARLIEST, Leaf, gathered, pages
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.refusals import no_record
from crm_mcp.backends.remote import Access, Remote, overridden, record_in, refuse_unkept, rows_in, text, total_in
from crm_mcp.errors import NotFound, OutcomeUnknown, SettingsError
from crm_mcp.model import Account

R = TypeVar("R")

# Documented paths.
LEADS = "/api/v1/leads"
LEAD = "/api/v1/leads/{}"
ACCOUNTS = "/api/v1/email-accounts"
EMAILS = "/api/v1/emails"
SMS = "/api/v1/sms"
TASKS = "/api/v1/tasks"
TASK = "/api/v1/tasks/{}"
NOTES = "/api/v1/notes"
CALLS = "/api/v1/calls"
DEALS = "/api/v1/opportunities"
DEAL = "/api/v1/opportunities/{}"
TAGS = "/api/v1/tags"
SEQUENCES = "/api/v1/sequences"
ENROLL = "/api/v1/sequences/{}/enroll"

NAMES: Mapping[str, tuple[str, ...]] = {
    LEADS: ("leads",),
    ACCOUNTS: ("email_accounts", "accounts"),
    EMAILS: ("emails",),
    SMS: ("sms", "messages"),
    TASKS: ("tasks",),
    NOTES: ("notes",),
    CALLS: ("calls",),
    DEALS: ("opportunities", "deals"),
    TAGS: ("tags",),
    SEQUENCES: ("sequences", "campaigns"),
}
"""What a list's rows stand under: `leads` is documented, the others are inferred; any one list is taken."""
PAGE = 100
"""Rows asked for at once: a maximum is not documented."""


@dataclass(frozen=True)
class Listed:
    """The rows of a list, and how many there are in all where Dialsheet says it."""

    rows: list[dict[str, Any]]
    total: int | None

    @property
    def cut(self) -> bool:
        """Whether there are more than were listed."""
        return self.total is not None and self.total > len(self.rows)

    def find(self, kind: str, record: str) -> dict[str, Any]:
        """Return the row with this id, for kinds that can't be read one by one.

        Raises:
            NotFound: it is not among the rows.
        """
        for row in self.rows:
            if text(row.get("id")) == record:
                return row
        why = "the id may be wrong, or the record deleted"
        if self.cut:
            why = f"Dialsheet lists {len(self.rows)} of {self.total}, and it is not among those"
        raise NotFound(no_record(kind, record), why)


class DialsheetApi(Remote):
    """Dialsheet's API (documented: base URL, bearer key `ds_...`, `{"error": "text"}`; limits are not)."""

    vendor: ClassVar[str] = "dialsheet"
    called: ClassVar[str] = "dialsheet"
    base_url: ClassVar[str] = "https://www.dialsheet.io"
    limits: ClassVar[Limits] = Limits(per_minute=60)

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._keys = overridden(Keys(), access.keys, self.vendor)
        if self._keys.first_page not in ("0", "1"):
            raise SettingsError(f'keys of dialsheet: first_page is "{self._keys.first_page}"; valid: 0, 1')
        self._records = Records(self._keys, self.number)

    @classmethod
    def profile(cls, address: str, access: Access) -> ApiProfile:
        """Return how Dialsheet is spoken to; that 402 and 403 are about the plan is inferred."""
        plan = "its API is part of the Pro plan (documented): this account or key may not have it"
        return ApiProfile(
            name="Dialsheet",
            base_url=address,
            key=access.key,
            hints={
                401: "check CRM_MCP_API_KEY: a key begins with ds_ and is made under Settings, API Keys",
                402: plan,
                403: plan,
            },
        )

    async def check(self) -> Account:
        """Read one lead, as there is no cheaper way to try a key, and say how many there are."""
        rows, total = await self._leads_page({}, 1, 1)
        count = total if total is not None else len(rows)
        return Account(found=f"{count:,} lead" + ("" if count == 1 else "s"))

    async def _listed(self, path: str, query: Mapping[str, str | int | None] | None = None) -> Listed:
        """Read a list, which comes as a whole where no paging is documented."""
        answer = await self._api.read("GET", path, query)
        return Listed([mapping(row) for row in rows_in(answer, *NAMES[path])], total_in(answer))

    async def _of_lead(
        self, path: str, lead: str, query: Mapping[str, str | int | None] | None = None, *, sure: bool = False
    ) -> Listed:
        """Read a list of one lead's records. An empty one may mean that there is no such lead: it is asked for then,
        unless the caller is `sure` or does so."""
        at("{}", lead)
        answer = await self._api.read("GET", path, {"lead_id": lead, **(query or {})}, missing=no_record("lead", lead))
        rows = [mapping(row) for row in rows_in(answer, *NAMES[path])]
        own = [row for row in rows if text(row.get("lead_id")) in (None, lead)]
        if not own and not sure:
            await self._lead_record(lead)
        return Listed(own, total_in(answer) if len(own) == len(rows) else None)

    async def _leads_page(
        self, query: Mapping[str, str | int | None], number: int, size: int
    ) -> tuple[list[Any], int | None]:
        """Read page `number`, from 1, of the leads."""
        page = number - 1 + int(self._keys.first_page)
        answer = await self._api.read("GET", LEADS, {**query, "page": page, "limit": size})
        return rows_in(answer, *NAMES[LEADS]), total_in(answer)

    async def _leads_read(self, query: Mapping[str, str | int | None], most: int) -> Leaf:
        """Return the leads of the first pages."""
        fetch = partial(self._leads_page, query, size=PAGE)
        return await gathered(pages(fetch, lambda row: identity(mapping(row)), most=most, size=PAGE))

    async def _lead_record(self, lead: str) -> dict[str, Any]:
        answer = await self._api.read("GET", at(LEAD, lead), missing=no_record("lead", lead))
        found = told(answer, "lead") or mapping(answer)
        refuse_other(lead, identity(found))
        return found

    async def _as_it_is(
        self, path: str, kind: str, record: dict[str, Any], known: str | None, sent: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return a record after a write: as the answer shows it, where that has all, else out of the list. `known` is
        its id, where it is known.

        Raises:
            OutcomeUnknown: the answer does not say which record was made.
        """
        if whole_answer(record, sent):
            return record
        with after_write():
            listed = await self._listed(path)
            found = listed.find(kind, known) if known else None
        return found or made_like(listed.rows, sent, kind)

    def _newest(self, listed: Listed, decode: Callable[[Any], R], when: Callable[[R], datetime | None]) -> list[R]:
        """Return records newest first: by their own moment, then by when they were made."""
        made = [(decode(row), self._records.made_at(row) or EARLIEST) for row in listed.rows]
        made.sort(key=lambda each: (when(each[0]) or EARLIEST, each[1]), reverse=True)
        return [record for record, _ in made]

    def _refuse_unkept(self, sent: Mapping[str, Any], record: Mapping[str, Any], inferred: Iterable[str]) -> None:
        """Say so where Dialsheet took a field whose name is not documented, and did not keep it.

        Raises:
            VendorError: a part of what was sent is not in the record.
        """
        unsure = {name: sent[name] for name in inferred if name in sent}
        refuse_unkept("Dialsheet", unkept(unsure, record))


def told(answer: Any, *names: str) -> dict[str, Any]:
    """Return the record that an answer holds: wrapped (documented for a lead), or alone; empty where it has none."""
    if not isinstance(answer, dict):
        return {}
    found = record_in(answer, *names)
    if "id" in found:
        return found
    inner = [cast("dict[str, Any]", each) for each in found.values() if isinstance(each, dict)]
    return inner[0] if len(inner) == 1 and "id" in inner[0] else {}


def whole_answer(record: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Whether the answer to a write holds the record: its id and everything that was sent."""
    return bool(text(record.get("id"))) and sent.keys() <= record.keys()


def made_like(rows: Iterable[dict[str, Any]], sent: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the one row that has what was sent, where Dialsheet did not say which it made.

    Raises:
        OutcomeUnknown: none has, or several have.
    """
    shared = [(row, sent.keys() & row.keys()) for row in rows]
    alike = [row for row, names in shared if names and not unkept({name: sent[name] for name in names}, row)]
    if len(alike) == 1:
        return alike[0]
    what = f"Dialsheet took the {kind} and did not say which record it made"
    raise OutcomeUnknown(what, "look for it in Dialsheet before trying again")
