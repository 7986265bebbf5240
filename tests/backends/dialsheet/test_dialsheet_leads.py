from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    SettingsError,
    Unauthorized,
    Unsupported,
    VendorError,
)
from crm_mcp.model import IfExists, ImportRow, Lead, LeadDraft, LeadFilter, LeadUpdate, Slice

from .conftest import JANE, Opened, Sheet


def row(**fields: Any) -> ImportRow:
    return ImportRow(draft=LeadDraft.model_validate(fields))


async def test_a_search_asks_for_a_page_with_the_key_in_the_header(sheet: Sheet):
    lead = sheet.put(**JANE, source="fair", score=7, extra={"a": [1]})
    sheet.put(name="Bob", status="new")

    page = await sheet.crm.search_leads(LeadFilter(query="acme", status="new"), Slice(limit=5))

    (call,) = sheet.there.journal
    assert (call.method, call.path) == ("GET", "/api/v1/leads")
    assert call.query == {"search": "acme", "status": "new", "page": "1", "limit": "5"}
    assert call.headers["authorization"] == "Bearer ds_key_of_the_sandbox"
    assert call.headers["accept"] == "application/json"
    assert call.body is None
    (found,) = page.items
    assert (page.total, page.next) == (1, None)
    assert found == Lead(
        id=lead,
        name="Jane Whitfield",
        email="jane@acme.example",
        phone="+12125550101",
        company="Acme",
        status="new",
        created_at=found.created_at,
        updated_at=found.created_at,
        custom_fields={"source": "fair", "score": 7, "extra": '{"a": [1]}'},
    )
    assert found.created_at


async def test_pages_follow_each_other_without_gap_or_double(sheet: Sheet):
    made = [sheet.put(name=f"Lead {number}") for number in range(7)]

    first = await sheet.crm.search_leads(LeadFilter(), Slice(limit=3))
    second = await sheet.crm.search_leads(LeadFilter(), Slice(limit=3, position=first.next))
    third = await sheet.crm.search_leads(LeadFilter(), Slice(limit=3, position=second.next))

    assert [each.id for page in (first, second, third) for each in page.items] == made[::-1]
    assert (third.next, third.total) == (None, 7)
    assert [each.query for each in sheet.there.journal] == [{"page": str(n), "limit": "3"} for n in (1, 2, 3)]


async def test_pages_that_are_counted_from_0_are_read_with_a_corrected_key(opened: Opened):
    async with opened(first_page=0, keys={"first_page": "0"}) as sheet:
        made = [sheet.put(name=f"Lead {number}") for number in range(3)]

        first = await sheet.crm.search_leads(LeadFilter(), Slice(limit=2))
        second = await sheet.crm.search_leads(LeadFilter(), Slice(limit=2, position=first.next))

        assert [each.id for each in (*first.items, *second.items)] == made[::-1]
        assert [each.query["page"] for each in sheet.there.journal] == ["0", "1"]


@pytest.mark.parametrize(
    ("keys", "named"), [({"deal_nmae": "title"}, 'nearest: "deal_name"'), ({"first_page": "2"}, "valid: 0, 1")]
)
async def test_a_correction_that_corrects_nothing_stops_the_start(opened: Opened, keys: dict[str, str], named: str):
    with pytest.raises(SettingsError, match=named):
        async with opened(keys=keys):
            pass


async def test_a_page_that_is_cut_by_the_vendor_is_no_gap(opened: Opened):
    async with opened(most=2) as sheet:
        made = [sheet.put(name=f"Lead {number}") for number in range(5)]

        seen: list[str] = []
        position = None
        while True:
            page = await sheet.crm.search_leads(LeadFilter(), Slice(limit=4, position=position))
            seen.extend(each.id for each in page.items)
            if (position := page.next) is None:
                break

        assert seen == made[::-1]


@pytest.mark.parametrize("names", ["resource", "other", "data"])
async def test_lists_are_read_whatever_their_rows_stand_under(opened: Opened, names: str):
    async with opened(names=names, sample=True) as sheet:
        lead = (await sheet.crm.leads_at("email", "jane.whitfield@acme-robotics.example"))[0].id

        assert len((await sheet.crm.list_activity(lead, (), None, Slice())).items) == 2 + 1 + 3 + 1
        assert [each.name for each in await sheet.crm.list_options("sequences")] == ["After the fair", "Cold outreach"]
        assert len(await sheet.crm.mailboxes()) == 2


async def test_a_lead_is_read_by_its_id_which_can_not_change_the_path(sheet: Sheet):
    lead = sheet.put(**JANE)

    assert (await sheet.crm.get_lead(lead)).name == "Jane Whitfield"
    with pytest.raises(NotFound, match='there is no lead "a/b"'):
        await sheet.crm.get_lead("a/b")
    assert sheet.last()[:3] == ("GET", "/api/v1/leads/a%2Fb", {})
    for wrong in ("", ".", "..", "a/../b", "\ud800"):
        with pytest.raises(NotFound):
            await sheet.crm.get_lead(wrong)
    assert len(sheet.there.journal) == 2


@pytest.mark.parametrize("kept", ["+12125550101", "+1-212-555-0101", "(212) 555-0101", "2125550101"])
@pytest.mark.parametrize("search", ["text", "digits"])
async def test_a_number_is_found_however_it_is_kept_and_searched(opened: Opened, kept: str, search: str):
    async with opened(phone_search=search) as sheet:
        lead = sheet.put(name="Jane", phone=kept)
        sheet.put(name="Other", phone="+13125550101")

        (found,) = await sheet.crm.leads_at("sms", "+12125550101")

        assert (found.id, found.phone) == (lead, "+12125550101")
        assert await sheet.crm.leads_at("call", "+12125550102") == ()


async def test_only_exact_addresses_count_as_found(sheet: Sheet):
    lead = sheet.put(name="Jane", email="Jane@Acme.example")
    sheet.put(name="Mary", email="mary-jane@acme.example")
    sheet.put(name="jane@acme.example")

    assert [each.id for each in await sheet.crm.leads_at("email", "jane@acme.example")] == [lead]
    assert await sheet.crm.leads_at("email", "jane@acme") == ()
    assert await sheet.crm.leads_at("linkedin", "jane") == ()


async def test_an_exact_address_is_found_behind_a_page_of_others(sheet: Sheet):
    lead = sheet.put(name="Jane", email="a@acme.example")
    for number in range(120):
        sheet.put(name=f"{number}", email=f"{number}a@acme.example")

    assert [each.id for each in await sheet.crm.leads_at("email", "a@acme.example")] == [lead]
    assert [each.query["page"] for each in sheet.there.journal] == ["1", "2"]


async def test_a_created_lead_is_sent_in_documented_fields_after_a_look(sheet: Sheet):
    draft = LeadDraft(
        first_name="Jane",
        last_name="Whitfield",
        email="Jane@ACME.example",
        phone="(212) 555-0101",
        company="Acme",
        status="qualified",
        title="CTO",
        custom_fields={"source": "fair", "none": None},
    )

    made = await sheet.crm.create_lead(draft)

    assert sheet.last() == (
        "POST",
        "/api/v1/leads",
        {},
        {
            "name": "Jane Whitfield",
            "email": "Jane@acme.example",
            "phone": "+12125550101",
            "company": "Acme",
            "status": "qualified",
            "title": "CTO",
            "source": "fair",
        },
    )
    assert [each.query["search"] for each in sheet.there.journal[:-1]] == [
        "Jane@acme.example",
        "+12125550101",
        "2125550101",
        "0101",
    ]
    assert (made.name, made.title, made.custom_fields) == ("Jane Whitfield", "CTO", {"source": "fair"})
    assert await sheet.crm.get_lead(made.id) == made


@pytest.mark.parametrize("answers", ["wrapped", "bare", "id", "empty"])
@pytest.mark.parametrize("status", [200, 201])
async def test_a_write_is_understood_whatever_it_answers(opened: Opened, answers: str, status: int):
    async with opened(answers=answers, created_status=status) as sheet:
        made = await sheet.crm.create_lead(LeadDraft(name="Jane", email="jane@acme.example"))
        changed = await sheet.crm.update_lead(made.id, LeadUpdate(company="Acme"))
        await sheet.crm.delete("lead", made.id)

        assert (made.name, changed.company, changed.email) == ("Jane", "Acme", "jane@acme.example")
        assert len(sheet.there.calls("POST")) == len(sheet.there.calls("PUT")) == 1
        assert sheet.there.tables["leads"] == []


async def test_a_lead_that_can_not_be_told_from_others_is_of_unknown_outcome(opened: Opened):
    async with opened(answers="empty") as sheet:
        with pytest.raises(OutcomeUnknown) as raised:
            await sheet.crm.create_lead(LeadDraft(name="Jane"))

        assert raised.value.wrote is None


@pytest.mark.parametrize("same", [{"email": "JANE@acme.example"}, {"name": "Jane", "phone": "+1 212 555 0101"}])
async def test_a_second_lead_at_one_address_is_a_conflict_and_not_sent(sheet: Sheet, same: dict[str, str]):
    lead = sheet.put(**JANE)
    other = sheet.put(name="Bob")

    with pytest.raises(Conflict, match=rf"{lead} \(Jane Whitfield\)"):
        await sheet.crm.create_lead(LeadDraft.model_validate({"name": "Other", **same}))
    with pytest.raises(Conflict, match=lead):
        await sheet.crm.update_lead(other, LeadUpdate.model_validate(same))
    await sheet.crm.update_lead(lead, LeadUpdate.model_validate(same))

    assert [method for method, _ in sheet.wire() if method != "GET"] == ["PUT"]


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"title": "CTO"}, InvalidArgument, "at least one"),
        ({"name": "x", "email": "jane at acme"}, InvalidArgument, "no e-mail address"),
        ({"name": "x", "phone": "12"}, InvalidArgument, "phone number"),
        ({"name": "x", "tags": ("a",)}, Unsupported, "it keeps name, email, phone, company, title, status"),
        ({"name": "x", "owner": "Tom"}, Unsupported, "owner"),
        ({"name": "x", "list": "Fair"}, Unsupported, "list"),
        ({"name": "x", "custom_fields": {"email": "b@b.example"}}, InvalidArgument, "a field of its own"),
        ({"name": "Jane Doe", "last_name": "Smith"}, Unsupported, "one name"),
    ],
)
async def test_what_can_not_be_held_is_refused_before_anything_is_sent(
    sheet: Sheet, fields: dict[str, Any], error: type[Exception], said: str
):
    with pytest.raises(error, match=said):
        await sheet.crm.create_lead(LeadDraft.model_validate(fields))

    assert sheet.there.journal == []


async def test_an_update_sends_what_changes_and_nothing_else(sheet: Sheet):
    lead = sheet.put(**JANE, source="fair", score=7)

    changed = await sheet.crm.update_lead(lead, LeadUpdate(status="qualified"))
    assert sheet.wire() == [("PUT", f"/leads/{lead}")]
    assert sheet.last()[3] == {"status": "qualified"}
    assert changed.status == "qualified"

    merged = await sheet.crm.update_lead(
        lead, LeadUpdate(clear=("company",), custom_fields={"source": "fair", "score": None, "vat": True})
    )
    assert sheet.last()[3] == {"company": None, "score": None, "vat": True}
    assert (merged.company, merged.custom_fields) == (None, {"source": "fair", "vat": True})

    emptied = await sheet.crm.update_lead(lead, LeadUpdate(clear=("custom_fields", "title")))
    assert sheet.last()[3] == {"source": None, "vat": None}
    assert emptied.custom_fields is None

    before = len(sheet.there.calls("PUT"))
    same = await sheet.crm.update_lead(lead, LeadUpdate(clear=("custom_fields.vat", "title")))
    assert same == emptied
    assert len(sheet.there.calls("PUT")) == before


async def test_a_field_that_can_not_be_cleared_is_refused_with_the_nearest(sheet: Sheet):
    lead = sheet.put(name="Jane")

    with pytest.raises(InvalidArgument, match='nearest: "company"'):
        await sheet.crm.update_lead(lead, LeadUpdate(clear=("compny",)))
    with pytest.raises(InvalidArgument, match="both"):
        await sheet.crm.update_lead(lead, LeadUpdate(status="new", clear=("status",)))
    with pytest.raises(InvalidArgument, match="both"):
        await sheet.crm.update_lead(lead, LeadUpdate(custom_fields={"a": 1}, clear=("custom_fields.a",)))
    with pytest.raises(InvalidArgument, match="known by"):
        await sheet.crm.update_lead(lead, LeadUpdate(clear=("name",)))
    with pytest.raises(Unsupported, match="first_name and last_name together"):
        await sheet.crm.update_lead(lead, LeadUpdate(last_name="Brown"))
    assert sheet.there.calls("PUT") == []


@pytest.mark.parametrize(("switch", "reading"), [("unknown_fields", "ignore"), ("null", "ignored")])
async def test_what_the_vendor_does_not_keep_is_told_as_partly_written(opened: Opened, switch: str, reading: str):
    async with opened(**{switch: reading}) as sheet:
        lead = sheet.put(**JANE)
        more: dict[str, Any] = {"title": "CTO"} if switch == "unknown_fields" else {"clear": ("company",)}
        change = LeadUpdate.model_validate({"status": "qualified", **more})

        with pytest.raises(VendorError, match=r"did not keep (title|company)") as raised:
            await sheet.crm.update_lead(lead, change)

        assert raised.value.wrote is True
        assert sheet.there.tables["leads"][0]["status"] == "qualified"


async def test_a_refused_field_is_named(opened: Opened):
    async with opened(unknown_fields="refuse", invalid_status=422) as sheet:
        with pytest.raises(InvalidArgument, match="does not accept the values: shoe_size") as raised:
            await sheet.crm.create_lead(LeadDraft(name="Jane", custom_fields={"shoe_size": 42}))

        assert raised.value.wrote is False


async def test_a_filter_or_sort_that_it_lacks_is_refused(sheet: Sheet):
    for name in ("stage", "tag", "owner", "list"):
        with pytest.raises(Unsupported, match="it can by query, status"):
            await sheet.crm.search_leads(LeadFilter.model_validate({name: "x"}), Slice())
    with pytest.raises(Unsupported, match="-created_at"):
        await sheet.crm.search_leads(LeadFilter(sort="name"), Slice())
    assert sheet.there.journal == []


@pytest.mark.parametrize(
    ("if_exists", "outcomes", "company"),
    [
        ("skip", ["skipped", "created", "skipped"], "Acme"),
        ("error", ["failed", "created", "failed"], "Acme"),
        ("update", ["updated", "created", "updated"], "Acme 2"),
    ],
)
async def test_imported_rows_follow_what_is_asked_for(
    sheet: Sheet, if_exists: IfExists, outcomes: list[str], company: str
):
    lead = sheet.put(**JANE)
    rows = [
        row(name="Jane", email="JANE@acme.example", company="Acme 2"),
        row(name="Bob", email="bob@acme.example", phone="+12125550102"),
        row(name="Bob R.", phone="+12125550102"),
    ]

    found = await sheet.crm.import_leads(rows, if_exists)

    assert [each.outcome for each in found] == outcomes
    assert found[0].id == lead
    assert found[1].id == found[2].id
    assert len(sheet.there.tables["leads"]) == 2
    assert sheet.there.tables["leads"][0]["company"] == company
    assert sheet.there.tables["leads"][1]["name"] == ("Bob R." if if_exists == "update" else "Bob")


async def test_a_second_import_makes_no_second_lead(sheet: Sheet):
    rows = [row(name="Nameless"), row(company="Acme"), row(name="Jane", email="jane@acme.example")]

    first = await sheet.crm.import_leads(rows, "skip")
    again = await sheet.crm.import_leads(rows, "skip")

    assert [each.outcome for each in first] == ["created"] * 3
    assert [(each.outcome, each.id) for each in again] == [("skipped", each.id) for each in first]
    assert await sheet.crm.import_leads([], "skip") == ()


async def test_three_bad_rows_of_a_hundred_lose_no_other(sheet: Sheet):
    rows = [row(name=f"Lead {number}", email=f"l{number}@acme.example") for number in range(100)]
    rows[10], rows[50] = row(title="CTO"), row(name="x", tags=("a",))
    sheet.there.fail("status", method="POST", body={"error": "email is invalid: vendor text"}, status=400)

    outcomes = [
        outcome
        for start in range(0, 100, sheet.crm.import_size)
        for outcome in await sheet.crm.import_leads(rows[start : start + sheet.crm.import_size], "skip")
    ]

    failed = {number: each.reason for number, each in enumerate(outcomes) if each.outcome == "failed"}
    assert failed == {
        0: "Dialsheet does not accept the request: email; check the values",
        10: "a lead needs something to be known by; give at least one of name, first_name, last_name, email, phone, "
        "company",
        50: "dialsheet can't keep tags of a lead; it keeps name, email, phone, company, title, status, custom_fields",
    }
    assert [each.outcome for each in outcomes].count("created") == 97
    assert len(sheet.there.tables["leads"]) == 97


async def test_a_row_that_may_have_been_written_says_so_and_is_not_sent_again(sheet: Sheet):
    sheet.there.fail("drop_after", method="POST")

    lost, made = await sheet.crm.import_leads([row(email="a@acme.example"), row(email="b@acme.example")], "skip")

    assert (lost.outcome, made.outcome) == ("failed", "created")
    assert "not known whether it was imported" in (lost.reason or "")
    assert len(sheet.there.calls("POST")) == 2


async def test_a_number_of_several_leads_says_of_none_that_it_is_theirs(sheet: Sheet):
    sheet.put(name="Ann A", phone="+12125550102")
    sheet.put(name="Ann B", phone="+12125550102")

    (outcome,) = await sheet.crm.import_leads([row(name="Ann", phone="+12125550102")], "update")

    assert outcome.outcome == "failed"
    assert "several leads have this number: " in (outcome.reason or "")
    assert [method for method, _ in sheet.wire() if method != "GET"] == []


async def test_a_key_that_is_refused_ends_an_import_at_once(opened: Opened):
    async with opened(key="ds_unheard_of") as sheet:
        with pytest.raises(Unauthorized):
            await sheet.crm.import_leads([row(email=f"{n}@acme.example") for n in range(5)], "skip")

        assert len(sheet.there.journal) == 1


async def test_a_number_that_two_leads_have_in_two_spellings_is_of_both(sheet: Sheet):
    one = sheet.put(name="Ann A", phone="+12125550123")
    other = sheet.put(name="Ann B", phone="212-555-0123")

    found = await sheet.crm.leads_at("sms", "+12125550123")

    assert {each.id for each in found} == {one, other}
    with pytest.raises(Conflict, match=r"\(Ann A\).*\(Ann B\)|\(Ann B\).*\(Ann A\)"):
        await sheet.crm.create_lead(LeadDraft(name="Ann", phone="+12125550123"))
