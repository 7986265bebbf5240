"""Jobs through a real client and server, over real HTTP to an emulator: answered in time, and each row once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from .vendors import Vendor, connected

LONGEST = 60.0
ENDING = "@jobs.example"


@pytest.fixture
def sheet(portal: BlockingPortal, tmp_path: Path) -> Generator[Vendor]:
    with connected(portal, tmp_path, "dialsheet") as vendor:
        yield vendor


def rows(count: int) -> list[dict[str, Any]]:
    return [{"name": f"Row {n}", "email": f"row{n}{ENDING}"} for n in range(count)]


def ended(crm: Vendor, answer: dict[str, Any]) -> dict[str, Any]:
    """Return a job's result, waited for behind the call that began it."""
    until = time.monotonic() + LONGEST
    while answer["status"] == "running" and time.monotonic() < until:
        assert 0 <= answer["progress"]["done"] <= answer["progress"]["total"]
        time.sleep(0.2)
        [answer] = [each for each in crm.talk.ok("list_actions")["actions"] if each["action_id"] == answer["action_id"]]
    return answer


def imported(crm: Vendor) -> Counter[str]:
    """Return how often the emulator has each address that was imported."""
    addresses = (str(each.get("email")) for each in crm.sample.people(crm.there))
    return Counter(each for each in addresses if each.endswith(ENDING))


def test_an_enrolment_of_many_keeps_to_the_limit_and_each_lead_has_a_result(sheet: Vendor) -> None:
    there = sheet.there
    added = [there.add("leads", name=f"Row {n}", email=f"row{n}{ENDING}")["id"] for n in range(120)]
    there.add("sms", lead_id=added[60], message="STOP", direction="inbound", status="received")
    named = [*added[:110], *(f"row{n}{ENDING}" for n in range(110, 120)), "nobody@jobs.example"]

    answer = sheet.talk.ok("enroll_in_sequence", sequence="Cold outreach", leads=named)

    assert answer["status"] in ("running", "done")
    assert "Enrol 121 in the sequence" in sheet.talk.user.asked[0]
    assert "and 116 more, each looked at when it is its turn" in sheet.talk.user.asked[0]
    result = ended(sheet, answer)
    assert result["status"] == "done"
    assert result["summary"] == 'enrolled 119 of 121 leads in "Cold outreach"'
    enrolled = Counter(each["lead_id"] for each in there.tables["enrolments"])
    assert enrolled == Counter({*added} - {added[60]})
    assert [each for each in there.journal if each.status == 429] == []


def test_an_import_job_goes_on_through_a_limit_and_an_answer_that_is_lost(sheet: Vendor) -> None:
    sheet.there.fail("status", method="POST", path=".*leads.*", status=429, times=2)
    sheet.there.fail("drop_after", method="POST", path=".*leads.*", times=1)

    answer = sheet.talk.ok("import_leads", leads=rows(120))

    assert answer["status"] in ("running", "done")
    assert "Import 120 leads" in sheet.talk.user.asked[0]
    result = ended(sheet, answer)
    assert result["status"] == "done"
    found = imported(sheet)
    assert set(found.values()) == {1}
    assert len(found) == 120
