"""What an emulator took to reach people stands in its ledger, whatever it answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any, NamedTuple

import httpx2
import pytest

from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.dialsheet import DialsheetEmulator
from crm_mcp.sandbox.emulator import FaultKind
from crm_mcp.sandbox.getsales import GetSalesEmulator
from crm_mcp.sandbox.salespulse import SalesPulseEmulator
from crm_mcp.sandbox.serving import serving

from .conftest import Served

SMS = "/api/v1/sms"
BEFORE: tuple[FaultKind, ...] = ("drop_before", "silent_before", "status", "html", "redirect")
AFTER: tuple[FaultKind, ...] = ("drop_after", "silent_after", "status_after", "cut", "malformed", "empty")


class Sheet(NamedTuple):
    """Dialsheet's emulator, a lead of its, and a client that has the key."""

    there: DialsheetEmulator
    lead: str
    http: httpx2.Client

    def text(self, message: str) -> httpx2.Response | None:
        """Send an SMS; None where no answer came."""
        try:
            return self.http.post(SMS, json={"lead_id": self.lead, "message": message})
        except httpx2.HTTPError:
            return None


@pytest.fixture
def sheet() -> Generator[Sheet]:
    there = DialsheetEmulator(per_minute=1000)
    headers = {"authorization": f"Bearer {there.key}"}
    lead = there.add("leads", name="Jane", phone="+12125550101")["id"]
    with (
        serving(there) as url,
        httpx2.Client(base_url=url, headers=headers, timeout=0.5, trust_env=False) as http,
    ):
        yield Sheet(there, lead, http)


def test_a_message_that_was_taken_is_counted_by_lead_and_text(sheet: Sheet):
    for message in ("Call me", "Call  me\n", "Other"):
        sheet.text(message)

    (first, second) = sheet.there.sent("sms", sheet.lead, "Call me")

    assert (first.to, first.text, first.lead) == ("+12125550101", "Call me", sheet.lead)
    assert first.record != second.record
    assert len(sheet.there.sent(lead=sheet.lead)) == 3
    assert sheet.there.sent("email") == sheet.there.sent(lead="nobody") == []


@pytest.mark.parametrize("kind", BEFORE)
def test_what_was_not_processed_is_not_in_the_ledger(sheet: Sheet, kind: FaultKind):
    sheet.there.fail(kind, path=SMS, method="POST")

    answer = sheet.text("Call me")

    assert sheet.there.sent() == []
    assert (answer is None) == kind.endswith("_before")
    assert (sheet.there.journal[-1].status == 0) == kind.endswith("_before")


@pytest.mark.parametrize("kind", AFTER)
def test_what_was_processed_is_in_the_ledger_whatever_was_answered(sheet: Sheet, kind: FaultKind):
    sheet.there.fail(kind, path=SMS, method="POST", status=503)

    answer = sheet.text("Call me")

    assert len(sheet.there.sent("sms", sheet.lead, "Call me")) == 1
    assert (answer is None) == (kind in ("drop_after", "silent_after", "cut"))
    assert answer is None or (answer.status_code == 503) == (kind == "status_after")
    assert sheet.text("Again") is not None


def test_a_request_can_be_processed_after_its_client_has_given_up(sheet: Sheet):
    sheet.there.fail("delay", path=SMS, method="POST", seconds=0.8)

    answer = sheet.text("Call me")
    at_once = sheet.there.sent()
    give_up = time.monotonic() + 5
    while not sheet.there.sent() and time.monotonic() < give_up:
        sheet.http.get(SMS)

    assert answer is None
    assert at_once == []
    assert len(sheet.there.sent("sms", sheet.lead, "Call me")) == 1


def test_silence_ends_by_itself(sheet: Sheet):
    sheet.there.fail("silent_after", path=SMS, method="POST", seconds=0.05)

    with pytest.raises(httpx2.RemoteProtocolError):
        sheet.http.post(SMS, json={"lead_id": sheet.lead, "message": "x"})


def test_a_limit_is_a_status_with_its_headers(sheet: Sheet):
    sheet.there.fail("status", status=429, headers={"retry-after": "3"}, body={"error": "Too many requests"})

    answer = sheet.text("Call me")

    assert answer
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert sheet.there.sent() == []


def test_the_ledger_is_told_over_http_and_begins_anew(sheet: Sheet):
    sheet.text("Call me")

    (told,) = sheet.http.get("/_sandbox/ledger").json()
    sheet.http.post("/_sandbox/reset")

    assert (told["channel"], told["lead"], told["text"]) == ("sms", sheet.lead, "Call me")
    assert sheet.http.get("/_sandbox/ledger").json() == []


def test_a_message_can_be_let_in_over_http(sheet: Sheet):
    letter: dict[str, Any] = {"channel": "sms", "lead": sheet.lead, "text": "STOP"}
    made = sheet.http.post("/_sandbox/inbound", json=letter).json()
    refused = [
        sheet.http.post("/_sandbox/inbound", json={**letter, **wrong}).status_code
        for wrong in ({"lead": "nobody"}, {"channel": "email"}, {"odd": 1})
    ]

    (row,) = sheet.http.get(SMS).json()["sms"]
    assert (row["id"], row["message"], row["direction"]) == (made["id"], "STOP", "inbound")
    assert refused == [400, 400, 400]
    assert sheet.there.sent() == []


@pytest.mark.parametrize("vendor", ["dialsheet", "salessheet", "salespulse", "getsales"])
def test_what_a_sample_begins_with_was_not_sent_now(vendor: str):
    assert emulator_of(vendor)(sample=True).ledger == []


def test_every_way_to_reach_people_is_in_the_ledger():
    crm = GetSalesEmulator(sample=True)
    lead, sender = crm.rows("lead")[0], crm.rows("sender")[0]["uuid"]
    flow, mailbox = crm.rows("flow", status="on")[0]["uuid"], crm.rows("mailbox")[0]["uuid"]
    to = [{"to_email": lead["work_email"], "to_name": lead["name"]}]
    mail = {"mailbox_uuid": mailbox, "to": to, "subject": "Hi", "body": "1 &lt; 2<br>\nso", "lead_uuid": lead["uuid"]}
    message = {"sender_profile_uuid": sender, "lead_uuid": lead["uuid"], "text": "Hello"}
    pulse = SalesPulseEmulator()
    contact = pulse.put(first_name="Jane", phone="+12125550101")
    with serving(crm) as url, serving(pulse) as other, httpx2.Client(trust_env=False) as http:
        key = {"authorization": f"Bearer {crm.key}"}
        http.post(f"{url}/emails/api/emails/send-email", json=mail, headers=key)
        http.post(f"{url}/flows/api/linkedin-messages", json=message, headers=key)
        for _ in range(2):
            http.post(f"{url}/flows/api/flows/{flow}/leads/{lead['uuid']}", json={}, headers=key)
        pulse_key = {"authorization": f"Bearer {pulse.key}"}
        http.post(f"{other}/calls/initiate", json={"contact_id": contact}, headers=pulse_key)

    taken = [(each.channel, each.lead, each.text) for each in crm.ledger]
    assert taken == [
        ("email", lead["uuid"], "1 < 2 so"),
        ("linkedin", lead["uuid"], "Hello"),
        ("enrolment", lead["uuid"], flow),
    ]
    assert [(each.lead, each.to) for each in pulse.sent("call")] == [(contact, "+12125550101")]


def test_a_fault_is_for_as_many_requests_as_it_says_also_at_the_same_moment(small: Served):
    small.there.fail("status_after", status=500, times=3)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(small.http.get("/rows").status_code)) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(5)

    assert sorted(found) == [200, 200, 200, 500, 500, 500]
