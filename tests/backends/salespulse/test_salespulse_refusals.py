from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from crm_mcp.errors import (
    Busy,
    CrmError,
    Forbidden,
    InvalidArgument,
    OutcomeUnknown,
    PaymentRequired,
    Unauthorized,
    VendorError,
)
from crm_mcp.model import LeadDraft, LeadFilter, Slice
from crm_mcp.sandbox.salespulse import SalesPulseEmulator

from .conftest import JANE, Opened, Pulse


@pytest.mark.parametrize("key", ["sp_live_wrong", "ds_0000sandbox0000", SalesPulseEmulator.revoked])
async def test_a_key_that_is_not_accepted_says_where_keys_are_made(opened: Opened, key: str):
    async with opened(key=key) as pulse:
        with pytest.raises(Unauthorized, match="begins with sp_live_") as caught:
            await pulse.crm.check()

    assert "Missing or invalid" not in str(caught.value)
    assert key not in f"{caught.value} {caught.value.detail}"
    assert len(pulse.there.journal) == 1


async def test_every_answer_has_the_limit_in_its_headers(pulse: Pulse):
    pulse.put(**JANE)
    await pulse.crm.check()
    await pulse.crm.leads_at("email", "jane@acme.example")

    (budget, bulk) = await pulse.crm.budget()

    assert (budget.name, budget.limit, budget.remaining) == ("minute", 100, 97)
    assert (bulk.name, bulk.limit, bulk.remaining) == ("bulk", 10, 10)


@pytest.mark.parametrize("status", [301, 308])
async def test_a_redirect_to_another_scheme_is_not_followed(opened: Opened, status: int):
    async with opened(plain_http=status) as pulse:
        with pytest.raises(VendorError, match="redirects to another address") as read:
            await pulse.crm.check()
        with pytest.raises(VendorError, match="redirects to another address"):
            await pulse.crm.operate(pulse.crm.catalog.get("create_contact"), {"first_name": "Jane"})

    assert read.value.wrote is False
    assert [each.method for each in pulse.there.journal] == ["GET", "POST"]
    assert pulse.there.contacts == {}


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, InvalidArgument), (402, PaymentRequired), (403, Forbidden), (422, InvalidArgument), (500, OutcomeUnknown)],
)
async def test_each_refusal_of_a_write_is_told_in_our_words(pulse: Pulse, status: int, error: type[CrmError]):
    body = {"error": {"message": "Canary: email is invalid"}}
    pulse.there.fail("status", method="POST", status=status, body=body)

    with pytest.raises(error) as caught:
        await pulse.crm.create_lead(LeadDraft(name="Jane", email="jane@acme.example"))

    assert "Canary" not in str(caught.value)
    assert "Canary" in caught.value.detail
    assert ("email" in str(caught.value)) == (status in (400, 422))
    assert len(pulse.there.calls("POST")) == 1


@pytest.mark.parametrize("kind", ["html", "malformed", "empty", "cut", "drop_before"])
async def test_a_read_that_was_answered_with_nonsense_once_is_made_again(pulse: Pulse, kind: Any):
    pulse.put(**JANE)
    status = {"status": 503} if kind == "html" else {}
    pulse.there.fail(kind, path=".*/contacts", **status)

    page = await pulse.crm.search_leads(LeadFilter(), Slice())

    assert page.total == 1
    assert len(pulse.there.calls("GET", "/api/v1/contacts")) == 2


async def test_a_server_error_in_html_is_the_vendor_s(pulse: Pulse):
    pulse.there.fail("html", status=500)

    with pytest.raises(VendorError, match=r"SalesPulse failed \(500\)"):
        await pulse.crm.check()


@pytest.mark.parametrize(
    "body", [{"data": "none"}, "text", {"data": [{"first_name": "Jane"}]}, {"data": [7]}, {"ok": True}]
)
async def test_an_answer_that_makes_no_sense_is_the_vendor_s_error(pulse: Pulse, body: Any):
    pulse.there.fail("status", status=200, body=body, times=9)

    with pytest.raises(VendorError) as caught:
        await pulse.crm.search_leads(LeadFilter(), Slice())

    assert "Jane" not in str(caught.value)


async def test_an_answer_that_makes_no_sense_after_a_write_says_that_it_was_written(pulse: Pulse):
    lead = pulse.put(**JANE)
    pulse.there.fail("status", method="GET", path=f".*/{lead}", status=500)
    pulse.there.fail("empty", method="PATCH")
    await pulse.crm.list_options("stages")

    with pytest.raises(VendorError) as caught:
        await pulse.crm.move_lead(lead, "stg_2")

    assert caught.value.wrote is True
    assert pulse.there.contacts[lead]["stage_id"] == "stg_2"


async def test_a_limit_that_others_used_up_is_waited_for(opened: Opened):
    async with opened(minute=0.6) as pulse:
        pulse.there.fail("status", status=429)

        checked = await pulse.crm.check()

    assert checked.found == "0 contacts"
    assert [each.status for each in pulse.there.journal] == [429, 200]


async def test_a_limit_that_stays_used_up_is_said_with_the_seconds(opened: Opened):
    async with opened(minute=1.0) as pulse:
        pulse.there.fail("status", status=429, times=99)

        with pytest.raises(Busy) as caught:
            await pulse.crm.check()

    assert caught.value.retry_after > 0


async def test_a_hundred_calls_a_minute_go_without_being_refused(opened: Opened):
    async with opened(minute=1.5) as pulse:
        for _ in range(120):
            await pulse.crm.check()

    statuses = [each.status for each in pulse.there.journal]
    assert statuses == [200] * 120
    assert pulse.there.journal[-1].at - pulse.there.journal[0].at >= 1.2


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"from": "2026-03-01", "to": "2026-03-02"}, 200),
        ({"from": "yesterday"}, 400),
        ({"limit": "5"}, 400),
    ],
)
async def test_the_emulator_takes_dates_and_documented_parameters_alone(
    pulse: Pulse, arguments: dict[str, Any], status: int
):
    operation = pulse.crm.catalog.get("list_calls").model_copy(
        update={
            "parameters": tuple(
                pulse.crm.catalog.get("list_calls").parameters[0].model_copy(update={"name": name})
                for name in arguments
            )
        }
    )

    if status == 200:
        assert await pulse.crm.operate(operation, arguments) == {"data": []}
    else:
        with pytest.raises(InvalidArgument):
            await pulse.crm.operate(operation, arguments)


async def test_both_days_of_a_range_are_included(pulse: Pulse):
    lead = pulse.put(**JANE)
    call = pulse.there.add_call(lead, days_ago=1, seconds=10, disposition="reached")
    day = pulse.there.call_records[call]["started_at"][:10]

    answer = await pulse.crm.operate(pulse.crm.catalog.get("list_calls"), {"from": day, "to": day})

    assert [each["id"] for each in answer["data"]] == [call]


@contextmanager
def listening() -> Generator[tuple[str, list[dict[str, Any]]]]:
    """Take what is posted; gives the address, and what came."""
    came: list[dict[str, Any]] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert not [name for name in self.headers if "signature" in name.lower()]
            came.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Taker)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("twice", "turned"), [(False, False), (True, True)])
async def test_events_are_sent_unsigned_in_the_documented_envelope(opened: Opened, twice: bool, turned: bool):
    async with opened(events_twice=twice, events_reversed=turned) as pulse:
        lead = pulse.put(**JANE)
        await pulse.crm.move_lead(lead, "stg_2")
        pulse.there.add_call(lead, days_ago=1, seconds=182, disposition="interested")
        with listening() as (address, came):
            statuses = await pulse.there.deliver(address)

    names = ["contact.created", "pipeline.stage_changed", "call.completed"]
    expected = [name for name in (names[::-1] if turned else names) for _ in range(2 if twice else 1)]
    assert [each["event"] for each in came] == expected
    assert statuses == [202] * len(expected)
    assert {frozenset(each) for each in came} == {frozenset({"event", "timestamp", "data"})}
    call = next(each["data"] for each in came if each["event"] == "call.completed")
    assert (call["contact_id"], call["duration_seconds"], call["disposition"]) == (lead, 182, "interested")
