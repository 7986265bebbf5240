"""Fields of a vendor's record that say that somebody must not be contacted: read, and not to be taken away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import pytest

from crm_mcp.backends.base import FindsLeads, ImportsLeads, WritesLeads
from crm_mcp.backends.dialsheet import Dialsheet
from crm_mcp.backends.getsales import GetSales
from crm_mcp.backends.opt_out_fields import refused_channels
from crm_mcp.backends.remote import Remote
from crm_mcp.backends.salespulse import SalesPulse
from crm_mcp.backends.salessheet import SalesSheet
from crm_mcp.channels import CHANNELS
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import ImportRow, LeadDraft, LeadUpdate
from crm_mcp.sandbox.dialsheet import DialsheetEmulator
from crm_mcp.sandbox.emulator import Emulator
from crm_mcp.sandbox.getsales import GetSalesEmulator
from crm_mcp.sandbox.salespulse import SalesPulseEmulator
from crm_mcp.sandbox.salessheet import SalesSheetEmulator

ALL = tuple(sorted(CHANNELS))
JANE = LeadDraft(first_name="Jane", last_name="Smith", email="jane@acme.example", company="Acme")
FLAG = "do_not_contact"
CHANGES = (
    LeadUpdate(custom_fields={FLAG: False}),
    LeadUpdate(custom_fields={FLAG: "no"}),
    LeadUpdate(custom_fields={FLAG: None}),
    LeadUpdate(clear=(f"custom_fields.{FLAG}",)),
    LeadUpdate(clear=("custom_fields",)),
    LeadUpdate(title="CTO", custom_fields={FLAG: ""}),
)

Opened = Callable[..., AbstractAsyncContextManager[tuple[Any, str]]]


class Crm(FindsLeads, WritesLeads, ImportsLeads, Remote):
    """What the tests need of a vendor's adapter."""


class Work(NamedTuple):
    """An adapter and what it talks to."""

    crm: Crm
    there: Emulator

    def writes(self) -> list[Any]:
        """Return the requests that may have changed something."""
        reading = r".*/(search|lookup-one|list|count)"
        return [each for each in self.there.calls("POST|PUT|PATCH") if each not in self.there.calls(path=reading)]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["dialsheet", "salessheet", "salespulse", "getsales"])
async def work(request: pytest.FixtureRequest, adapter_on: Opened) -> AsyncGenerator[Work]:
    there, adapter, more = _vendor(request.param)
    async with adapter_on(there, adapter, key=there.key, per_minute=10_000, **more) as (crm, _):
        yield Work(crm, there)


def _vendor(name: str) -> tuple[Emulator, type[Remote], dict[str, Any]]:
    if name == "dialsheet":
        return DialsheetEmulator(per_minute=10_000), Dialsheet, {}
    if name == "salessheet":
        return SalesSheetEmulator(plan="enterprise", custom_fields=None), SalesSheet, {}
    if name == "salespulse":
        return SalesPulseEmulator(), SalesPulse, {}
    account = GetSalesEmulator(per_minute=10_000)
    account.make("custom_field", name=FLAG, object="lead", order=9)
    return account, GetSales, {"list": "Inbound"}


@pytest.mark.parametrize(
    ("name", "value", "channels"),
    [
        ("do_not_contact", True, ALL),
        ("doNotCall", "yes", ("call", "sms")),
        ("Do not e-mail", "1", ("email",)),
        ("DNC", "true", ALL),
        ("sms_opt_out", 1, ("sms",)),
        ("has_opted_out_of_email", "X", ("email",)),
        ("unsubscribed_at", "2026-05-01T10:00:00Z", ALL),
        ("isUnsubscribed", "TRUE", ALL),
        ("do_not_contact", False, None),
        ("do_not_contact", " No ", None),
        ("unsubscribed_at", None, None),
        ("sms_opt_in", True, None),
        ("email_status", "unsubscribed", None),
        ("dnc_status", "clean", None),
        ("contact", "x", None),
        ("do_not_contact_reason", "moved", None),
    ],
)
def test_a_flag_is_known_by_its_name_and_what_it_says(name: str, value: object, channels: object):
    assert refused_channels({name: value, "seats": 3}) == channels


async def test_a_lead_with_a_flag_must_not_be_contacted(work: Work):
    made = await work.crm.create_lead(JANE.model_copy(update={"custom_fields": {FLAG: "yes"}}))
    free = await work.crm.create_lead(JANE.model_copy(update={"first_name": "Ann", "email": "ann@acme.example"}))

    read = await work.crm.get_lead(made.id)

    assert made.do_not_contact == read.do_not_contact == ALL
    assert (await work.crm.get_lead(free.id)).do_not_contact is None


async def test_no_change_takes_the_flag_away(work: Work):
    lead = await work.crm.create_lead(JANE.model_copy(update={"custom_fields": {FLAG: "yes"}}))
    before = work.writes()

    for change in CHANGES:
        with pytest.raises(InvalidArgument, match=r"do_not_contact.*must not be contacted") as refused:
            await work.crm.update_lead(lead.id, change)
        assert refused.value.wrote is False

    assert work.writes() == before
    assert (await work.crm.get_lead(lead.id)).do_not_contact == ALL


async def test_an_import_does_not_take_it_away_either_and_changes_the_others(work: Work):
    lead = await work.crm.create_lead(JANE.model_copy(update={"custom_fields": {FLAG: "yes"}}))
    ann = JANE.model_copy(update={"first_name": "Ann", "email": "ann@acme.example"})
    free = await work.crm.create_lead(ann)
    before = len(work.writes())
    rows = [
        ImportRow(draft=each.model_copy(update={"title": "CTO", "custom_fields": {FLAG: "no"}})) for each in (JANE, ann)
    ]

    refused, changed = await work.crm.import_leads(rows, "update")

    assert (refused.outcome, changed.outcome) == ("failed", "updated")
    assert "must not be contacted" in (refused.reason or "")
    assert not [each for each in work.writes()[before:] if lead.id in f"{each.path} {each.body}"]
    assert (await work.crm.get_lead(lead.id)).do_not_contact == ALL
    assert (await work.crm.get_lead(lead.id)).title is None
    assert (await work.crm.get_lead(free.id)).title == "CTO"


async def test_what_says_nothing_of_the_flag_is_written_and_it_can_be_set(work: Work):
    lead = await work.crm.create_lead(JANE.model_copy(update={"custom_fields": {FLAG: "yes"}}))
    free = await work.crm.create_lead(JANE.model_copy(update={"first_name": "Ann", "email": "ann@acme.example"}))

    changed = await work.crm.update_lead(lead.id, LeadUpdate(title="CTO", custom_fields={FLAG: "true"}))
    blocked = await work.crm.update_lead(free.id, LeadUpdate(custom_fields={FLAG: "yes"}))

    assert (changed.title, changed.do_not_contact, blocked.do_not_contact) == ("CTO", ALL, ALL)
