"""A vendor that answers with another record than was asked for, through a real client: no tool writes, and says why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mixed_up import mixed_up

from .conftest import Shop
from .talk import text_in
from .vendors import TOOLS, VENDORS, Vendor, acts_on

OTHER = "vendor_error: the CRM answered with another record than the one asked for; read it again"


@pytest.fixture(params=VENDORS)
def crm(request: pytest.FixtureRequest, shop: Shop) -> Vendor:
    return shop(request.param)


def somebody_else(crm: Vendor) -> str:
    """Return the id of another lead than Jane."""
    keys = (str(each[crm.sample.fields[0]]) for each in crm.sample.people(crm.there))
    return next(each for each in keys if each != crm.sample.jane)


def named(other: str) -> str:
    """Return what is told of the record that was answered with."""
    return f"the answer named {other}: a person may look in the CRM whether that one was changed"


def test_no_tool_writes_to_a_lead_that_comes_back_as_another(crm: Vendor) -> None:
    jane = crm.sample.jane
    reads = ("get_lead", "list_activity")
    acts: dict[str, dict[str, Any]] = {
        **acts_on(jane),
        "delete_record": {"kind": "lead", "id": jane},
    }
    before = [dict(each) for each in crm.sample.people(crm.there)]

    with mixed_up(crm.there, jane, somebody_else(crm), "reads"):
        for tool in reads:
            assert crm.refused(tool, lead=jane).startswith(OTHER)
        for tool in acts.keys() & TOOLS[crm.name]:
            result = crm.talk.call(tool, **acts[tool])
            told: dict[str, Any] = result.structured_content or {}
            line = str(told.get("reason") or text_in(result))
            assert told.get("status") != "done", tool
            assert OTHER.removeprefix("vendor_error: ") in line, (tool, line)
            assert line.count("nothing was written") == 1, line

    assert crm.left == []
    assert crm.talk.user.asked == []
    assert crm.sample.people(crm.there) == before


def test_a_change_that_reached_another_lead_is_not_told_as_done(crm: Vendor) -> None:
    jane, other = crm.sample.jane, somebody_else(crm)

    with mixed_up(crm.there, jane, other, "writes") as hit:
        told = crm.ok("update_lead", lead=jane, title="Chief of Staff")

    assert hit
    assert told["status"] == "unknown", told
    assert told["reason"].startswith(
        "the CRM answered with another record than the one asked for, after it was written to; "
        f"it is not known which one was written; {named(other)}"
    )


@pytest.mark.parametrize("tool", ["update_lead", "log_note", "send_sms", "send_email", "send_linkedin_message"])
def test_what_the_history_shows_is_done_and_the_other_record_is_named(crm: Vendor, tool: str) -> None:
    if tool not in TOOLS[crm.name]:
        return
    jane, other = crm.sample.jane, somebody_else(crm)

    with mixed_up(crm.there, jane, other, "answers") as hit:
        told = crm.done(tool, **acts_on(jane)[tool])
    again = crm.ok(tool, **acts_on(jane)[tool])

    assert hit
    assert len(crm.left) == 1
    assert told["reason"] == f"the CRM's own history shows that it happened; but {named(other)}, too"
    assert again["status"] == "duplicate"
    assert named(other) in again["reason"]


@pytest.mark.parametrize("tool", ["create_task", "create_deal"])
def test_what_no_history_shows_is_unknown_and_the_other_record_is_named(crm: Vendor, tool: str) -> None:
    if tool not in TOOLS[crm.name]:
        return
    jane, other = crm.sample.jane, somebody_else(crm)

    with mixed_up(crm.there, jane, other, "answers"):
        told = crm.ok(tool, **acts_on(jane)[tool])

    assert told["status"] == "unknown"
    assert named(other) in told["reason"]
