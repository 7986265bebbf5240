from __future__ import annotations

import time
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from crm_mcp.backends.dialsheet import Dialsheet
from crm_mcp.errors import (
    Busy,
    Conflict,
    CrmError,
    Forbidden,
    InvalidArgument,
    PaymentRequired,
    Unauthorized,
    Unreachable,
    Unsupported,
    VendorError,
)
from crm_mcp.model import LeadDraft, LeadFilter, LeadUpdate, Slice
from crm_mcp.sandbox.dialsheet import FREE_KEY, REVOKED_KEY, DialsheetEmulator
from crm_mcp.sandbox.serving import serving

from .conftest import JANE, Opened, Sheet

CANARY = "vendor text 4711"


def test_the_class_line_is_what_dialsheet_documents():
    assert Dialsheet.capabilities() == (
        "DeletesRecords",
        "FindsLeads",
        "HasOperations",
        "ImportsLeads",
        "KeepsTasks",
        "ListsOptions",
        "LogsNotes",
        "MovesDeals",
        "ReadsActivity",
        "ReadsCalls",
        "ReadsDeals",
        "ReadsMessages",
        "RecallsMessages",
        "RunsSequences",
        "SendsEmail",
        "SendsSms",
        "SumsPipeline",
        "WritesDeals",
        "WritesLeads",
    )
    assert Dialsheet.base_url == "https://www.dialsheet.io"
    assert Dialsheet.limits.per_minute == 60


async def test_check_reads_one_lead(sheet: Sheet):
    sheet.put(**JANE)
    sheet.put(name="Bob")

    account = await sheet.crm.check()

    assert account.found == "2 leads"
    assert sheet.last() == ("GET", "/api/v1/leads", {"page": "1", "limit": "1"}, None)


@pytest.mark.parametrize("key", [REVOKED_KEY, "ds_unheard_of", "sk_other_form"])
async def test_a_key_that_is_not_accepted_is_unauthorized(opened: Opened, key: str):
    async with opened(key=key) as sheet:
        with pytest.raises(Unauthorized, match="begins with ds_") as raised:
            await sheet.crm.check()
        with pytest.raises(Unauthorized):
            await sheet.crm.delete("lead", "1")

        assert key not in f"{raised.value} {raised.value.detail}"


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (402, PaymentRequired)])
async def test_an_account_without_the_pro_plan_is_told_so(opened: Opened, status: int, error: type[CrmError]):
    async with opened(key=FREE_KEY, plan_status=status) as sheet:
        with pytest.raises(error, match="Pro plan"):
            await sheet.crm.search_leads(LeadFilter(), Slice())


async def test_the_limit_is_told_by_no_header_and_lifted_with_the_minute(opened: Opened):
    async with opened(per_minute=2) as sheet:
        sheet.there.clock = lambda: 1_000_000.0
        await sheet.crm.check()
        await sheet.crm.check()

        with pytest.raises(Busy, match="limit of calls is used up"):
            await sheet.crm.check()
        assert {each.status for each in sheet.there.journal[2:]} == {429}
        assert not {name for name in raw_headers(sheet) if name.startswith(("x-ratelimit", "retry-after"))}

        sheet.there.clock = lambda: 1_000_060.0
        assert (await sheet.crm.check()).found == "0 leads"


def raw_headers(sheet: Sheet) -> set[str]:
    """Return the names of the headers of a 429."""
    address = urlsplit(sheet.url)
    connection = HTTPConnection(address.hostname or "", address.port)
    connection.request("GET", "/api/v1/leads", headers={"Authorization": f"Bearer {sheet.there.key}"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 429
    return {name.lower() for name, _ in answer.getheaders()}


async def test_a_refusal_for_the_limit_is_repeated_for_reads_and_writes_after_a_pause(sheet: Sheet):
    sheet.there.fail("status", status=429, times=2, body={"error": CANARY})
    lead = sheet.put(**JANE)

    began = time.monotonic()
    changed = await sheet.crm.update_lead(lead, LeadUpdate(status="qualified"))

    assert changed.status == "qualified"
    assert [each.status for each in sheet.there.journal] == [429, 429, 200]
    first, second, third = (each.at for each in sheet.there.journal)
    assert first < second < third
    assert time.monotonic() - began < 5


async def test_a_limit_that_stays_used_up_is_busy_with_the_seconds(sheet: Sheet):
    sheet.there.fail("status", status=429, times=99, body={"error": CANARY})

    with pytest.raises(Busy) as raised:
        await sheet.crm.check()

    assert raised.value.retry_after > 0
    assert CANARY not in str(raised.value)


async def test_without_headers_about_a_limit_the_chosen_one_is_kept(sheet: Sheet):
    await sheet.crm.check()

    (budget,) = await sheet.crm.budget()
    assert (budget.name, budget.limit, budget.remaining) == ("minute", 1000, 999)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidArgument),
        (405, Unsupported),
        (409, Conflict),
        (422, InvalidArgument),
        (418, VendorError),
        (500, VendorError),
    ],
)
async def test_no_word_of_the_vendor_s_reaches_a_caller(sheet: Sheet, status: int, error: type[CrmError]):
    sheet.there.fail("status", status=status, body={"error": CANARY})

    with pytest.raises(error) as raised:
        await sheet.crm.check()

    assert CANARY not in str(raised.value)
    assert CANARY in raised.value.detail
    assert raised.value.wrote is False


async def test_a_read_that_fails_for_a_moment_is_made_again(sheet: Sheet):
    sheet.put(**JANE)
    sheet.there.fail("html", status=502)
    sheet.there.fail("drop_after")
    sheet.there.fail("malformed")

    assert (await sheet.crm.check()).found == "1 lead"
    assert len(sheet.there.journal) == 4


@pytest.mark.parametrize("kind", ["malformed", "empty", "html"])
async def test_a_read_that_never_makes_sense_is_the_vendor_s_fault(sheet: Sheet, kind: str):
    sheet.there.fail(kind, times=99)  # type: ignore[arg-type]

    with pytest.raises(VendorError):
        await sheet.crm.search_leads(LeadFilter(), Slice())


@pytest.mark.parametrize(
    "body", [{"leads": 3}, {"leads": ["text"]}, {"leads": [{"name": "no id"}]}, {"total": 4}, ["text"], 7]
)
async def test_an_answer_of_another_shape_is_the_vendor_s_fault(sheet: Sheet, body: object):
    sheet.there.fail("status", status=200, body=body, times=2)

    with pytest.raises(VendorError):
        await sheet.crm.search_leads(LeadFilter(), Slice())


@pytest.mark.parametrize("body", [{}, {"lead": None}, {"lead": {"name": "no id"}}, [], "text"])
async def test_a_lead_without_an_id_is_the_vendor_s_fault(sheet: Sheet, body: object):
    sheet.there.fail("status", status=200, body=body)

    with pytest.raises(VendorError):
        await sheet.crm.get_lead("1")


async def test_the_bare_domain_s_redirect_is_not_followed_with_the_key(opened: Opened):
    elsewhere = DialsheetEmulator()
    with serving(elsewhere) as www:
        async with opened(moved_to=www) as sheet:
            with pytest.raises(VendorError, match="redirects to another address") as raised:
                await sheet.crm.check()
            with pytest.raises(VendorError, match="redirects to another address"):
                await sheet.crm.create_lead(LeadDraft(name="Jane"))

            assert "base URL" in str(raised.value)
            assert [each.status for each in sheet.there.journal] == [308, 308]
    assert elsewhere.journal == []


async def test_a_lead_that_was_written_and_can_not_be_read_again_is_told_as_written(opened: Opened):
    async with opened(answers="id") as sheet:
        lead = sheet.put(**JANE)
        sheet.there.fail("status", method="GET", status=500)

        with pytest.raises(VendorError) as raised:
            await sheet.crm.update_lead(lead, LeadUpdate(status="qualified"))

        assert raised.value.wrote is True
        assert sheet.there.tables["leads"][0]["status"] == "qualified"


async def test_a_server_that_is_not_there_is_unreachable(opened: Opened):
    async with opened() as sheet:
        crm = sheet.crm
        sheet.there.fail("drop_before", times=99)

        with pytest.raises(Unreachable):
            await crm.check()


@pytest.mark.parametrize("levels", [150, 900])
async def test_an_answer_that_is_nested_too_deeply_can_t_be_read(sheet: Sheet, levels: int):
    lead = sheet.put(**JANE)
    inside: Any = 1
    for _ in range(levels):
        inside = [inside]
    sheet.there.fail(
        "status", method="GET", path=".*/leads/.*", status=200, body={"lead": {"id": lead, "x": inside}}, times=9
    )

    with pytest.raises(VendorError, match="can't be read"):
        await sheet.crm.get_lead(lead)
