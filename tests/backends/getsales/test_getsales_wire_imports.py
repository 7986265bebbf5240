"""Imports: what goes out in arrays and what row by row, and what became of each row."""

from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.errors import Busy, Unauthorized
from crm_mcp.model import ImportRow, LeadDraft

from .conftest import Opened, Work

SEARCH, LOOKUP = "/leads/api/leads/search", "/leads/api/leads/lookup-one"
CREATE, UPSERT = "/leads/api/leads", "/leads/api/leads/upsert"

UNKNOWN = (
    "a lead needs something to be known by; give at least one of name, first_name, last_name, email, phone, company"
)

NAMELESS = (
    "GetSales knows a lead by its e-mail address, its LinkedIn profile, or its name and company; "
    "give email, custom_fields.linkedin, or name and company"
)


def row(**fields: Any) -> ImportRow:
    return ImportRow(draft=LeadDraft.model_validate(fields))


def mail(number: int, **fields: Any) -> ImportRow:
    return row(**{"name": f"Lead {number}", "email": f"l{number}@acme.example", **fields})


def sent(work: Work, path: str) -> list[Any]:
    return [each.body for each in work.there.journal if (each.method, each.path) == ("POST", path)]


async def test_new_rows_go_out_in_one_array_after_two_looks(work: Work):
    rows = [
        mail(1, company="Acme", title="CTO", tags=("vip",), custom_fields={"budget": 3}),
        mail(2, list="spring conference"),
        mail(3, email="three@other.example"),
    ]

    outcomes = await work.crm.import_leads(rows, "skip")

    inbound, spring = (one["uuid"] for one in work.there.rows("list"))
    assert [each.outcome for each in outcomes] == ["created"] * 3
    assert [each.id for each in outcomes] == [
        one["uuid"] for name in ("Lead 1", "Lead 2", "Lead 3") for one in work.there.rows("lead", name=name)
    ]
    assert sent(work, SEARCH) == [
        {
            "filter": {"work_email_domain": ["acme.example", "other.example"]},
            "limit": 100,
            "offset": 0,
            "order_field": "created_at",
            "order_type": "asc",
        },
        {"filter": {}, "limit": 100, "offset": 0, "order_field": "created_at", "order_type": "desc"},
    ]
    assert sent(work, CREATE) == [
        {
            "list_uuid": inbound,
            "leads": [
                {
                    "name": "Lead 1",
                    "company_name": "Acme",
                    "position": "CTO",
                    "work_email": "l1@acme.example",
                    "tags": ["vip"],
                    "custom_fields": {"budget": "3"},
                },
                {"name": "Lead 3", "work_email": "three@other.example"},
            ],
        },
        {"list_uuid": spring, "leads": [{"name": "Lead 2", "work_email": "l2@acme.example"}]},
    ]
    lead = await work.crm.get_lead(outcomes[0].id or "")
    assert (lead.tags, (lead.custom_fields or {})["budget"]) == (("vip",), "3")


async def test_known_rows_follow_what_is_asked_for(work: Work):
    made = await work.crm.create_lead(LeadDraft(name="Jane", email="Jane@a.example", phone="+12125550101"))
    rows = [row(name="Jane M", email="jane@A.example"), row(name="Jane", phone="+12125550101")]

    skipped = await work.crm.import_leads(rows, "skip")
    failed = await work.crm.import_leads(rows, "error")
    assert await work.crm.get_lead(made.id) == made
    updated = await work.crm.import_leads(rows, "update")

    assert [(each.outcome, each.id) for each in skipped] == [("skipped", made.id)] * 2
    assert [(each.outcome, each.id) for each in failed] == [("failed", made.id)] * 2
    assert [each.reason for each in failed] == [
        f"{made.id} (Jane) has this {word} already" for word in ("e-mail address", "number")
    ]
    assert [(each.outcome, each.id) for each in updated] == [("updated", made.id)] * 2
    assert len(work.there.rows("lead")) == 1
    assert sent(work, CREATE) == []


async def test_rows_of_one_batch_with_one_address_are_one_lead(work: Work):
    rows = [
        row(name="Ann A", email="a@a.example", phone="+12125550101"),
        row(name="Ann B", email="A@a.example", company="Acme"),
        row(name="Ann", phone="+12125550101"),
    ]

    skipped = await work.crm.import_leads(rows, "skip")
    updated = await work.crm.import_leads([mail(1), row(name="D Lead", email="l1@acme.example")], "update")

    assert [each.outcome for each in skipped] == ["created", "skipped", "skipped"]
    assert {each.id for each in skipped} == {skipped[0].id}
    assert [each.outcome for each in updated] == ["created", "updated"]
    assert {each["name"] for each in work.there.rows("lead")} == {"Ann A", "D Lead"}


async def test_rows_that_an_address_does_not_tell_are_upserts_that_do_not_update(work: Work):
    made = await work.crm.create_lead(
        LeadDraft(name="Jane", company="Acme", email="jane@acme.example", custom_fields={"linkedin": "jane-w"})
    )
    before = len(sent(work, UPSERT))
    rows = [
        row(name="Other", custom_fields={"linkedin": "https://www.linkedin.com/in/jane-w"}),
        row(name="Jane", company="Acme"),
        row(name="New", company="Acme"),
    ]

    outcomes = await work.crm.import_leads(rows, "skip")

    assert [each.outcome for each in outcomes] == ["skipped", "skipped", "created"]
    assert outcomes[0].id == outcomes[1].id == made.id
    assert await work.crm.get_lead(made.id) == made
    assert [each["update_if_exists"] for each in sent(work, UPSERT)[before:]] == [False] * 3
    assert sent(work, CREATE) == []


async def test_whom_the_vendor_refuses_because_it_knows_them_is_skipped(opened: Opened):
    async with opened(upsert_existing="refuse") as work:
        made = await work.crm.create_lead(LeadDraft(name="Jane", company="Acme", email="jane@acme.example"))

        (outcome,) = await work.crm.import_leads([row(name="Jane", company="Acme")], "skip")

        assert (outcome.outcome, outcome.id) == ("skipped", made.id)


@pytest.mark.parametrize("reading", ["refuse", "keep"])
async def test_three_bad_rows_of_a_hundred_lose_no_others(opened: Opened, reading: str):
    async with opened(create_partial=reading) as work:
        rows = [mail(number) for number in range(97)]
        rows[10:10] = [row(title="nobody"), row(name="X", email="no address"), row(name="Only a name")]

        outcomes = await work.crm.import_leads(rows, "skip")

        assert [index for index, each in enumerate(outcomes) if each.outcome == "failed"] == [10, 11, 12]
        assert all(each.outcome == "created" for index, each in enumerate(outcomes) if index not in (10, 11, 12))
        assert [each.reason for each in outcomes[10:13]] == [
            UNKNOWN,
            '"no address" is no e-mail address; give one such as jane@example.com',
            NAMELESS,
        ]
        assert len(work.there.rows("lead")) == 97


async def test_an_array_that_is_refused_goes_row_by_row(work: Work):
    refusal = {"error": {"reason": "validation_error", "data": {"leads.1.x": ["bad"]}}, "code": 422}
    work.there.fail("status", path=CREATE, status=422, body=refusal)

    outcomes = await work.crm.import_leads([mail(1), mail(2)], "skip")

    assert [each.outcome for each in outcomes] == ["created", "created"]
    assert len(sent(work, UPSERT)) == 2


async def test_a_row_that_the_answer_lacks_is_not_called_created(work: Work):
    work.there.fail("status", path=CREATE, status=200, body=[{"uuid": "u1", "work_email": "l1@acme.example"}])

    outcomes = await work.crm.import_leads([mail(1), mail(2)], "skip")

    assert [(each.outcome, each.id) for each in outcomes] == [("created", "u1"), ("failed", None)]
    assert outcomes[1].reason == "GetSales did not take it"


async def test_rows_whose_leads_show_no_address_are_told_as_not_known(opened: Opened):
    async with opened(written_leads="brief") as work:
        outcomes = await work.crm.import_leads([mail(1), mail(2)], "skip")

        assert [each.outcome for each in outcomes] == ["failed", "failed"]
        assert all((each.reason or "").startswith("not known whether it was imported") for each in outcomes)
        assert len(work.there.rows("lead")) == 2


async def test_a_lead_with_another_address_in_the_answer_does_not_tell_that_a_row_was_refused(work: Work):
    body = [{"uuid": f"u{number}", "work_email": f"l{number}@other.example"} for number in (1, 2)]
    work.there.fail("status", path=CREATE, status=200, body=body)

    outcomes = await work.crm.import_leads([mail(1), mail(2)], "skip")

    assert all((each.reason or "").startswith("not known whether it was imported") for each in outcomes)


async def test_a_number_of_several_leads_says_of_none_that_it_is_the_one_to_update(work: Work):
    names = ("Ann A", "Ann B")
    leads = [work.there.make("lead", name=name, work_phone_number="+12125550101", tags=[])["uuid"] for name in names]
    rows = [row(phone="+12125550101", title="CEO"), row(name="C", phone="+12125550102", company="Acme")]

    outcomes = await work.crm.import_leads(rows, "update")

    assert [each.outcome for each in outcomes] == ["failed", "created"]
    told = f"several leads have this number: {leads[0]} (Ann A), {leads[1]} (Ann B); change one of them by its id"
    assert outcomes[0].reason == told
    assert [each for each in work.wire() if each[0] == "PUT"] == []


async def test_all_leads_at_the_domains_of_a_batch_are_read_from_pages_that_are_smaller_than_asked(opened: Opened):
    async with opened(most_rows=50) as work:
        for number in range(120):
            work.there.make("lead", name=f"Lead {number}", work_email=f"l{number}@acme.example", tags=[])

        outcomes = await work.crm.import_leads([mail(number) for number in range(100)], "skip")

        assert [each.outcome for each in outcomes] == ["skipped"] * 100
        assert [each["offset"] for each in sent(work, SEARCH)] == [0, 50, 100]
        assert sent(work, CREATE) == []


@pytest.mark.parametrize("kind", ["drop_after", "malformed", "empty"])
async def test_an_array_without_an_answer_is_told_as_not_known(work: Work, kind: Any):
    work.there.fail(kind, path=CREATE)

    outcomes = await work.crm.import_leads([mail(1), row(name="N", company="Acme")], "skip")

    assert [each.outcome for each in outcomes] == ["failed", "created"]
    assert (outcomes[0].reason or "").startswith("not known whether it was imported")
    assert len(sent(work, CREATE)) == 1


async def test_one_lost_upsert_loses_no_other_outcome(work: Work):
    work.there.fail("drop_after", path=UPSERT)

    outcomes = await work.crm.import_leads([mail(1), mail(2)], "update")

    assert [each.outcome for each in outcomes] == ["failed", "created"]
    assert len(sent(work, UPSERT)) == 2


async def test_what_stops_everything_is_raised_before_and_told_after_something_was_written(opened: Opened):
    async with opened(key="wrong") as work:
        with pytest.raises(Unauthorized):
            await work.crm.import_leads([mail(1)], "skip")
    async with opened(retry_after=300) as work:
        await work.crm.list_options("lists")
        for name in ("tags", "stages", "custom_fields"):
            await work.crm.list_options(name)
        work.there.switch(per_minute=3)  # two searches, and one lead

        outcomes = await work.crm.import_leads([mail(1), mail(2), mail(3)], "update")

        assert [each.outcome for each in outcomes] == ["created", "failed", "failed"]
        assert (outcomes[2].reason or "").startswith("not tried: ")


async def test_many_leads_at_the_domains_of_a_batch_are_looked_up_one_by_one(work: Work):
    for number in range(501):
        work.there.make("lead", name=f"Old {number}", work_email=f"old{number}@acme.example", tags=[])
    start = len(work.there.journal)

    outcomes = await work.crm.import_leads([mail(1), row(name="O", email="old7@acme.example")], "skip")

    assert [each.outcome for each in outcomes] == ["created", "skipped"]
    looked = [each.body for each in work.there.journal[start:] if each.path == LOOKUP]
    assert looked == [{"email": "l1@acme.example"}, {"email": "old7@acme.example"}]


async def test_an_empty_import_asks_nothing(work: Work):
    assert await work.crm.import_leads([], "skip") == ()
    assert work.there.journal == []


async def test_an_import_into_an_unknown_list_names_the_lists(work: Work):
    outcomes = await work.crm.import_leads([mail(1, list="Inbond"), mail(2)], "skip")

    assert [each.outcome for each in outcomes] == ["failed", "created"]
    assert (outcomes[0].reason or "").startswith('there is no list "Inbond"; valid: Inbound')


async def test_a_limit_that_is_used_up_before_anything_is_written_is_busy(opened: Opened):
    async with opened(retry_after=300) as work:
        work.there.switch(per_minute=0)

        with pytest.raises(Busy) as caught:
            await work.crm.import_leads([mail(1)], "skip")

        assert caught.value.retry_after >= 299


async def test_whom_a_row_says_must_not_be_contacted_goes_on_the_blacklist_once_there(work: Work):
    opted = mail(1, custom_fields={"linkedin": "https://www.linkedin.com/in/lead-one"})
    rows = [opted.model_copy(update={"blocked": ("email", "sms", "linkedin")}), mail(2)]

    outcomes = await work.crm.import_leads(rows, "skip")

    assert [each.outcome for each in outcomes] == ["created", "created"]
    posts = work.there.calls("POST", "/leads/api/leads-blacklist")
    assert [each.body for each in posts] == [{"email": "l1@acme.example"}, {"linkedin": "lead-one"}]


async def test_an_opt_out_that_the_blacklist_does_not_take_is_told(work: Work):
    work.there.fail("status", path="/leads/api/leads-blacklist", status=402)

    (outcome,) = await work.crm.import_leads([mail(1).model_copy(update={"blocked": ("email",)})], "skip")

    assert outcome.outcome == "created"
    assert "blocked here, and not on the CRM's own list" in (outcome.reason or "")
