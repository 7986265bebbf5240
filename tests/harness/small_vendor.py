"""A small vendor with operations beyond the tools, over real HTTP, and a server process in front of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr, TypeAdapter

from crm_mcp.actions.intent import Client
from crm_mcp.backends import open_backend
from crm_mcp.backends.base import Backend, FindsLeads
from crm_mcp.backends.catalog import Catalog
from crm_mcp.backends.http import ApiProfile, at
from crm_mcp.backends.rate_limit import Limits
from crm_mcp.backends.remote import Access, Remote
from crm_mcp.channels import Channel
from crm_mcp.config import Connection, Settings
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Account, Lead, LeadFilter, Page, Slice
from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.emulator import Answer, Call, Emulator, Entry, Refusal, route
from crm_mcp.sandbox.people import PEOPLE
from crm_mcp.sandbox.serving import serving

from .app import Process
from .clock import Clock
from .settings import MINUTE, OURS, Policy, policy_of

PLAN = {"lead": "p1", "message": {"body": "See you on Monday"}}
"""Arguments of `plan_text`, which sends."""
KEY = "small-0123456789abcdef"

CATALOG = TypeAdapter(Catalog).validate_python(
    tomllib.loads(
        """
source = "these tests"

[[operation]]
name = "read_lead"
summary = "Read one lead"
method = "GET"
path = "/leads/{lead}"
effect = "read"
tool = "get_lead"
parameters = [{ name = "lead", in = "path", required = true, about = "id of the lead" }]

[[operation]]
name = "list_folders"
summary = "List folders"
method = "GET"
path = "/folders"
effect = "read"
parameters = [
    { name = "limit", in = "query", type = "integer", about = "1-100" },
    { name = "state", in = "query", values = ["open", "closed"] },
]

[[operation]]
name = "list_api_keys"
summary = "List API keys"
method = "GET"
path = "/keys"
effect = "read"
off = "keys"

[[operation]]
name = "create_api_key"
summary = "Create an API key"
method = "POST"
path = "/keys"
effect = "write"
off = "keys"
parameters = [{ name = "label", in = "body", required = true }]

[[operation]]
name = "rename_folder"
summary = "Rename a folder"
method = "PUT"
path = "/folders/{folder}"
effect = "write"
parameters = [
    { name = "folder", in = "path", required = true, about = "id of the folder" },
    { name = "name", in = "body", required = true },
    { name = "options", in = "body", type = "object" },
]

[[operation]]
name = "merge_folders"
summary = "Merge folders"
method = "POST"
path = "/folders/merge"
parameters = [{ name = "folders", in = "body", type = "array", required = true }]

[[operation]]
name = "text_a_lead"
summary = "Send an SMS"
method = "POST"
path = "/sms"
effect = "outward"
tool = "send_sms"
recipient = { lead = "lead", channel = "sms" }
text = "message"
parameters = [{ name = "lead", in = "body", required = true }, { name = "message", in = "body", required = true }]

[[operation]]
name = "plan_text"
summary = "Plan a text message for later"
method = "POST"
path = "/planned"
effect = "outward"
recipient = { lead = "lead", channel = "sms" }
text = "message.body"
at = "send_at"
more = true
parameters = [
    { name = "lead", in = "body", type = "any" },
    { name = "message", in = "body", type = "object", required = true },
]

[[operation]]
name = "mail_copy"
summary = "Send a copy of a document"
method = "POST"
path = "/copies"
effect = "outward"
recipient = { lead = "lead", address = "to.email", channel = "email" }
text = "note"
parameters = [
    { name = "lead", in = "body" },
    { name = "to", in = "body", type = "array", required = true },
    { name = "cc", in = "body", type = "array" },
    { name = "from", in = "body" },
    { name = "note", in = "body" },
]

[[operation]]
name = "mass_action"
summary = "Do something with many leads"
method = "PUT"
path = "/leads/mass-action"
effect = { by = "type", add_tag = "write", wave = "outward", mail_wave = "outward", enrol = "outward", count = "read" }
akin = { by = "type", add_tag = "tag_lead", mail_wave = "send_email", enrol = "enroll_in_sequence" }
recipient = { lead = "filter.ids", channel = "sms" }
parameters = [
    { name = "type", in = "body", required = true },
    { name = "filter", in = "body", type = "object" },
    { name = "payload", in = "body", type = "object" },
]

[[operation]]
name = "unblock"
summary = "Lift a block"
method = "DELETE"
path = "/blocked/{entry}"
effect = "destructive"
off = "blacklist"
parameters = [{ name = "entry", in = "path", required = true }]

[[operation]]
name = "start_flow"
summary = "Start a flow"
method = "PUT"
path = "/flows/{flow}/start"
effect = "outward"
parameters = [{ name = "flow", in = "path", required = true, about = "id of the flow" }]
"""
    )
)


class SmallVendor(Emulator):
    """Leads that can be read; everything else is taken as it is."""

    vendor = "small"
    key = KEY
    answer: Any

    def begin(self) -> None:
        self.leads: dict[str, dict[str, Any]] = {
            f"p{n}": {"id": f"p{n}", "name": each.name, "email": each.email, "phone": each.phone}
            for n, each in enumerate(PEOPLE, 1)
        }
        self.answer = {"ok": True}

    def admit(self, call: Call) -> dict[str, str]:
        if call.headers.get("authorization") != f"Bearer {KEY}":
            raise Refusal(401, "no")
        return {}

    def worded(self, refusal: Refusal) -> Any:
        return {"error": refusal.message}

    @route("GET", "/leads/{lead}")
    def lead(self, _: Call, lead: str) -> Answer:
        if lead not in self.leads:
            raise Refusal(404, "no such lead")
        return Answer(self.leads[lead])

    @route("GET", "/leads")
    def find(self, call: Call) -> Answer:
        wanted = call.query["address"]
        return Answer([each for each in self.leads.values() if wanted in (each.get("email"), each.get("phone"))])

    @route("GET", "/folders")
    @route("GET", "/keys")
    @route("POST", "/keys")
    @route("POST", "/folders/merge")
    @route("POST", "/planned")
    @route("POST", "/copies")
    @route("POST", "/sms")
    @route("PUT", "/leads/mass-action")
    @route("DELETE", "/blocked/{entry}")
    @route("PUT", "/folders/{folder}")
    @route("PUT", "/flows/{flow}/start")
    def take(self, _: Call, *__: str) -> Answer:
        return Answer(self.answer)


class SmallVendorCrm(FindsLeads, Remote):
    """The backend of the vendor above."""

    vendor = "small"
    base_url = "https://small.example"
    limits = Limits(per_minute=10_000)
    lead_filters = frozenset()
    lead_sorts = ()

    @classmethod
    def profile(cls, address: str, access: Access) -> ApiProfile:
        return ApiProfile("Small", address, access.key)

    @property
    def catalog(self) -> Catalog:
        return CATALOG

    async def check(self) -> Account:
        raise NotImplementedError

    async def search_leads(self, wanted: LeadFilter, part: Slice) -> Page[Lead]:
        raise NotImplementedError

    async def get_lead(self, lead: str) -> Lead:
        return Lead.model_validate(
            await self._api.read("GET", at("/leads/{}", lead), missing=f'there is no lead "{lead}"')
        )

    async def leads_at(self, channel: Channel, address: str) -> tuple[Lead, ...]:
        if channel == "linkedin":
            raise InvalidArgument("channel is wrong")
        return tuple(Lead.model_validate(each) for each in await self._api.read("GET", "/leads", {"address": address}))


class VendorApp(Process):
    """A process in front of a vendor's emulator, whose operations are called."""

    backend: Any

    def __init__(
        self,
        folder: Path,
        emulator: Emulator,
        connection: Connection,
        policy: Policy = None,
        opened: Callable[[Settings, Connection], Backend] = open_backend,
        **more: Any,
    ) -> None:
        self.emulator: Any = emulator
        self.clock = Clock()
        given = Settings(data_dir=folder, policy=policy_of(policy), connections=(connection,), **more)
        super().__init__(given, self.clock, opened)
        [self.backend] = self.application.backends.values()

    async def call(self, client: Client, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call an operation; returns the action result."""
        call = self.intent("call_operation", client, operation=name, arguments=arguments)
        return await self.pipeline.act(call, client)

    @property
    def left(self) -> list[Entry]:
        """What left for the vendor and was not a look at something, by its catalogue or as a look at leads."""
        looks = [
            (each.method, re.compile(re.sub(r"{\w+}", "[^/]+", each.path)))
            for each in self.backend.catalog.operation
            if each.effect == "read"
        ]
        return [
            each
            for each in self.emulator.journal
            if not any(
                each.method == method and path.fullmatch(each.path.removeprefix(self.emulator.prefix))
                for method, path in looks
            )
        ]


class SmallVendorApp(VendorApp):
    """A process in front of the small vendor, whose other reading operations count as what leaves."""

    @property
    def left(self) -> list[Entry]:
        return [each for each in self.emulator.journal if (each.method, each.path.split("/")[1]) != ("GET", "leads")]


@asynccontextmanager
async def small_vendor(folder: Path, policy: Policy = None, **more: Any) -> AsyncGenerator[VendorApp]:
    """Give a process in front of the small vendor."""
    emulator = SmallVendor()
    with serving(emulator) as url:
        access = Access(key=SecretStr(KEY), rate_limit_file=folder / "pace.sqlite3", base_url=url)
        # Settings know no such vendor: they name another, whose CRM is never opened.
        connection = Connection(vendor="dialsheet", name="small", api_key=SecretStr(KEY), own_addresses=(OURS,))
        app = SmallVendorApp(folder, emulator, connection, policy, lambda _, __: SmallVendorCrm(access), **more)
        try:
            yield app
        finally:
            await app.close()


@asynccontextmanager
async def emulated_vendor(vendor: str, folder: Path, policy: Policy = None) -> AsyncGenerator[VendorApp]:
    """Give a process in front of the emulator of a vendor, with its sample."""
    emulator = emulator_of(vendor)(sample=True, minute=MINUTE)
    with serving(emulator) as url:
        given: dict[str, Any] = {"vendor": vendor, "name": vendor, "base_url": url, "own_addresses": (OURS,)}
        connection = Connection(**given, api_key=SecretStr(emulator.key), minute=MINUTE, per_minute=10_000)
        app = VendorApp(folder, emulator, connection, policy)
        try:
            yield app
        finally:
            await app.close()
