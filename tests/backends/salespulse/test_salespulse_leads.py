from __future__ import annotations

import time
from typing import Any

import pytest

from crm_mcp.errors import Conflict, InvalidArgument, NotFound, OutcomeUnknown, SettingsError, Unsupported
from crm_mcp.model import DealFilter, Lead, LeadDraft, LeadFilter, LeadUpdate, Option, Slice

from .conftest import JANE, Opened, Pulse

STAGES = ["New Lead", "Contacted", "Quoted", "Application", "Issued", "Lost"]


async def test_a_search_asks_for_a_page_with_the_key_in_the_header(pulse: Pulse):
    lead = pulse.put(**JANE)

    page = await pulse.crm.search_leads(LeadFilter(query="jane smith"), Slice(limit=5))

    first, stages = pulse.there.journal
    assert (first.method, first.path) == ("GET", "/api/v1/contacts")
    assert first.query == {"page": "1", "limit": "5", "search": "jane smith"}
    assert first.headers["authorization"] == "Bearer sp_live_0000sandbox0000"
    assert first.body is None
    assert (stages.method, stages.path, stages.query) == ("GET", "/api/v1/pipeline/stages", {})
    assert (page.total, page.next) == (1, None)
    (found,) = page.items
    assert found == Lead(
        id=lead,
        name="Jane Smith",
        first_name="Jane",
        last_name="Smith",
        email="jane@acme.example",
        phone="+12125550101",
        stage="New Lead",
        created_at=found.created_at,
        updated_at=found.created_at,
        custom_fields={"state": "FL", "product_interest": "final_expense"},
    )
    assert found.created_at


async def test_pages_follow_each_other_without_gap_or_double(pulse: Pulse):
    made = [pulse.put(email=f"l{number}@acme.example") for number in range(7)]

    first = await pulse.crm.search_leads(LeadFilter(), Slice(limit=3))
    second = await pulse.crm.search_leads(LeadFilter(), Slice(limit=3, position=first.next))
    third = await pulse.crm.search_leads(LeadFilter(), Slice(limit=3, position=second.next))

    assert [each.id for page in (first, second, third) for each in page.items] == made[::-1]
    assert (bool(first.next), bool(second.next), third.next, third.total) == (True, True, None, 7)


async def test_a_look_at_the_next_page_does_not_lose_the_names_of_stages(opened: Opened):
    async with opened(envelope="bare") as pulse:
        for number in range(15):
            pulse.put(first_name=f"L{number}")

        page = await pulse.crm.search_leads(LeadFilter(), Slice(limit=20))

    assert {each.stage for each in page.items} == {"New Lead"}
    assert (len(page.items), page.next) == (15, None)


@pytest.mark.parametrize("envelope", ["data", "named", "bare"])
async def test_each_inferred_envelope_is_understood(opened: Opened, envelope: str):
    async with opened(envelope=envelope) as pulse:
        lead = pulse.put(**JANE)

        page = await pulse.crm.search_leads(LeadFilter(), Slice())
        read = await pulse.crm.get_lead(lead)
        made = await pulse.crm.create_lead(LeadDraft(name="Bob"))
        stages = await pulse.crm.list_options("stages")
        checked = await pulse.crm.check()

    assert page.items == (read,)
    assert (read.id, read.name) == (lead, "Jane Smith")
    assert made.id != lead
    assert [each.name for each in stages] == STAGES
    assert checked.found == ("at least one contact" if envelope == "bare" else "2 contacts")


@pytest.mark.parametrize("form", ["stage_id", "stage", "object"])
async def test_each_form_of_a_stage_is_its_name(opened: Opened, form: str):
    async with opened(stage_form=form) as pulse:
        lead = pulse.put(**JANE)

        read = await pulse.crm.get_lead(lead)
        moved = await pulse.crm.move_lead(lead, "stg_3")

    assert (read.stage, moved.stage) == ("New Lead", "Quoted")
    assert "stage" not in (read.custom_fields or {})


async def test_the_list_of_stages_is_read_once_a_minute(pulse: Pulse):
    lead = pulse.put(**JANE)

    for _ in range(3):
        await pulse.crm.get_lead(lead)

    assert pulse.wire().count(("GET", "/pipeline/stages")) == 1


async def test_what_a_search_can_not_do_is_refused_before_anything_is_asked(pulse: Pulse):
    with pytest.raises(Unsupported, match="can't filter leads by stage; it can by query"):
        await pulse.crm.search_leads(LeadFilter(stage="stg_1"), Slice())
    with pytest.raises(InvalidArgument, match="-created_at"):
        await pulse.crm.search_leads(LeadFilter(sort="name"), Slice())
    with pytest.raises(Unsupported, match="no tags"):
        await pulse.crm.list_options("tags")
    with pytest.raises(InvalidArgument, match="cursor"):
        await pulse.crm.search_leads(LeadFilter(), Slice(position="x"))
    assert pulse.there.journal == []


@pytest.mark.parametrize("search", ["words", "any"])
async def test_only_the_leads_with_exactly_this_address_are_at_it(opened: Opened, search: str):
    async with opened(search=search) as pulse:
        jane = pulse.put(**JANE)
        pulse.put(email="not-jane@acme.example", phone="+12125550102")
        pulse.put(first_name="jane@acme.example", company="Acme")

        by_mail = await pulse.crm.leads_at("email", "Jane@ACME.example")
        by_number = await pulse.crm.leads_at("sms", "+12125550101")
        nobody = await pulse.crm.leads_at("call", "+1212555010")
        profile = await pulse.crm.leads_at("linkedin", "jane")

    assert [each.id for each in by_mail] == [jane]
    assert [each.id for each in by_number] == [jane]
    assert (nobody, profile) == ((), ())
    assert pulse.there.calls("GET", "/api/v1/contacts")[0].query == {
        "page": "1",
        "limit": "100",
        "search": "Jane@ACME.example",
    }


async def test_an_address_is_found_behind_a_hundred_fuzzy_hits(opened: Opened):
    async with opened(search="any") as pulse:
        jane = pulse.put(**JANE)
        for number in range(130):
            pulse.put(email=f"l{number}@acme.example")

        found = await pulse.crm.leads_at("email", "jane@acme.example")

    assert [each.id for each in found] == [jane]
    assert [each.query["page"] for each in pulse.there.calls("GET", "/api/v1/contacts")] == ["1", "2"]


async def test_a_lead_is_created_after_a_search_for_its_address_and_number(pulse: Pulse):
    draft = LeadDraft(
        name="Jane Smith",
        email="jane@ACME.example",
        phone="(212) 555-0101",
        company="Acme",
        custom_fields={"state": "FL", "none": None},
    )

    made = await pulse.crm.create_lead(draft)

    *_, create, _stages = pulse.there.journal
    assert pulse.wire()[:5] == [("GET", "/contacts")] * 4 + [("POST", "/contacts")]
    words = [each.query["search"] for each in pulse.there.journal[:4]]
    assert words == ["jane@acme.example", "+12125550101", "2125550101", "0101"]
    assert create.headers["content-type"] == "application/json"
    assert create.body == {
        "first_name": "Jane",
        "last_name": "Smith",
        "email": "jane@acme.example",
        "phone": "+12125550101",
        "company": "Acme",
        "state": "FL",
    }
    assert made == await pulse.crm.get_lead(made.id)
    assert (made.name, made.company, made.custom_fields) == ("Jane Smith", "Acme", {"state": "FL"})


@pytest.mark.parametrize(
    "same", [{"name": "Else", "email": "JANE@acme.example"}, {"name": "Jane", "phone": "+12125550101"}]
)
async def test_a_second_lead_at_an_address_is_a_conflict_and_nothing_is_written(pulse: Pulse, same: dict[str, str]):
    lead = pulse.put(**JANE)

    with pytest.raises(Conflict, match=rf"{lead} \(Jane Smith\)") as caught:
        await pulse.crm.create_lead(LeadDraft.model_validate(same))

    assert caught.value.wrote is False
    assert pulse.there.calls("POST") == []


@pytest.mark.parametrize(
    ("draft", "error", "words"),
    [
        ({"title": "Buyer"}, InvalidArgument, "at least one of"),
        ({"name": "J", "tags": ("vip",)}, Unsupported, "no tags; it takes name"),
        ({"name": "J", "status": "new"}, Unsupported, "no status.*move_stage"),
        ({"name": "J", "owner": "Tom"}, Unsupported, "no owner"),
        ({"name": "J", "list": "Fair"}, Unsupported, "no list"),
        ({"name": "J", "email": "jane at acme"}, InvalidArgument, "no e-mail address"),
        ({"name": "J", "phone": "12"}, InvalidArgument, "phone number"),
        ({"name": "The Boss", "first_name": "Ann"}, Unsupported, "first_name and last_name"),
        ({"name": "J", "custom_fields": {"email": "x"}}, InvalidArgument, "no custom field"),
        ({"name": "J", "custom_fields": {"stage_id": "stg_2"}}, InvalidArgument, "no custom field"),
    ],
)
async def test_a_draft_that_can_not_be_held_is_refused(
    pulse: Pulse, draft: dict[str, Any], error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        await pulse.crm.create_lead(LeadDraft.model_validate(draft))
    assert pulse.there.journal == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"name": "Ana Maria Souza"}, {"first_name": "Ana", "last_name": "Maria Souza"}),
        ({"name": "Ana Maria Souza", "first_name": "Ana Maria"}, {"first_name": "Ana Maria", "last_name": "Souza"}),
        ({"name": "Ana Souza", "last_name": "Souza"}, {"first_name": "Ana", "last_name": "Souza"}),
        ({"name": "Ana"}, {"first_name": "Ana"}),
        ({"last_name": "Souza"}, {"last_name": "Souza"}),
    ],
)
async def test_a_whole_name_becomes_first_and_last(pulse: Pulse, given: dict[str, str], sent: dict[str, str]):
    await pulse.crm.create_lead(LeadDraft.model_validate(given))

    assert [each.body for each in pulse.there.calls("POST")] == [sent]


async def test_a_created_lead_is_read_again_where_the_answer_lacks_a_field(opened: Opened):
    async with opened(extra_fields="drop") as pulse:
        made = await pulse.crm.create_lead(LeadDraft(name="Jane", company="Acme", custom_fields={"seats": 3}))

    assert (made.company, made.custom_fields) == (None, None)
    assert ("GET", f"/contacts/{made.id}") in pulse.wire()


async def test_a_creation_whose_answer_has_no_id_is_found_by_its_address_or_left_open(pulse: Pulse):
    pulse.there.fail("empty", method="POST")
    made = await pulse.crm.create_lead(LeadDraft(name="Jane", email="jane@acme.example"))
    pulse.there.fail("empty", method="POST")
    with pytest.raises(OutcomeUnknown, match="did not say its id"):
        await pulse.crm.create_lead(LeadDraft(name="Bob"))

    assert (made.name, made.email) == ("Jane", "jane@acme.example")
    assert len(pulse.there.calls("POST")) == 2


async def test_an_update_sends_what_differs_with_patch_and_nothing_else(pulse: Pulse):
    lead = pulse.put(**JANE, company="Acme")

    changed = await pulse.crm.update_lead(
        lead,
        LeadUpdate(
            first_name="Jane",
            phone="212 555 0101",
            title="Buyer",
            custom_fields={"state": "TX", "product_interest": None, "vat": False},
            clear=("company",),
        ),
    )

    (patch,) = pulse.there.calls("PATCH")
    assert patch.path == f"/api/v1/contacts/{lead}"
    assert patch.body == {"title": "Buyer", "state": "TX", "product_interest": None, "vat": False, "company": None}
    assert changed == await pulse.crm.get_lead(lead)
    assert (changed.title, changed.company, changed.custom_fields) == ("Buyer", None, {"state": "TX", "vat": False})


async def test_an_update_that_changes_nothing_is_not_sent(pulse: Pulse):
    lead = pulse.put(**JANE)

    same = await pulse.crm.update_lead(lead, LeadUpdate(name="Jane Smith", email="jane@acme.example"))

    assert same.name == "Jane Smith"
    assert pulse.there.calls("PATCH") == []


async def test_a_new_name_replaces_both_parts(pulse: Pulse):
    lead = pulse.put(**JANE)

    changed = await pulse.crm.update_lead(lead, LeadUpdate(name="Janet"))
    married = await pulse.crm.update_lead(lead, LeadUpdate(last_name="Brown"))

    assert (changed.name, changed.last_name) == ("Janet", None)
    assert married.name == "Janet Brown"
    assert [each.body for each in pulse.there.calls("PATCH")] == [
        {"first_name": "Janet", "last_name": None},
        {"last_name": "Brown"},
    ]


async def test_a_lead_can_not_take_the_address_of_another_or_be_cleared_away(pulse: Pulse):
    pulse.put(**JANE)
    bob = pulse.put(email="bob@acme.example")

    with pytest.raises(Conflict, match="Jane Smith"):
        await pulse.crm.update_lead(bob, LeadUpdate(email="jane@acme.example"))
    with pytest.raises(InvalidArgument, match="at least one of"):
        await pulse.crm.update_lead(bob, LeadUpdate(clear=("email",)))
    with pytest.raises(InvalidArgument, match='nearest: "company"'):
        await pulse.crm.update_lead(bob, LeadUpdate(clear=("compny",)))
    with pytest.raises(InvalidArgument, match="both set and cleared"):
        await pulse.crm.update_lead(bob, LeadUpdate(title="x", clear=("title",)))
    assert pulse.there.calls("PATCH") == []


async def test_custom_fields_are_cleared_one_or_all(pulse: Pulse):
    lead = pulse.put(**JANE)

    one = await pulse.crm.update_lead(lead, LeadUpdate(clear=("custom_fields.state", "custom_fields.never")))
    none = await pulse.crm.update_lead(lead, LeadUpdate(clear=("custom_fields",)))

    assert (one.custom_fields, none.custom_fields) == ({"product_interest": "final_expense"}, None)
    assert [each.body for each in pulse.there.calls("PATCH")] == [{"state": None}, {"product_interest": None}]


async def test_put_is_not_the_verb_of_an_update(pulse: Pulse):
    lead = pulse.put(**JANE)

    operation = pulse.crm.catalog.get("update_contact").model_copy(update={"method": "PUT"})
    with pytest.raises(Unsupported):
        await pulse.crm.operate(operation, {"id": lead, "first_name": "Ann"})


@pytest.mark.parametrize(
    ("verb", "tried"), [("PATCH", ["PATCH"]), ("PUT", ["PATCH", "PUT"]), ("POST", ["PATCH", "PUT", "POST"])]
)
async def test_a_stage_is_moved_with_the_verb_that_is_allowed(opened: Opened, verb: str, tried: list[str]):
    async with opened(stage_verb=verb) as pulse:
        lead = pulse.put(**JANE)

        moved = await pulse.crm.move_lead(lead, "stg_2")
        again = await pulse.crm.move_lead(lead, "stg_3")

    moves = pulse.there.calls(".*", f"/api/v1/contacts/{lead}/stage")
    assert [each.method for each in moves] == [*tried, verb]
    assert {each.status for each in moves[:-2]} <= {405}
    assert [each.body for each in moves[-2:]] == [{"stage_id": "stg_2"}, {"stage_id": "stg_3"}]
    assert (moved.stage, again.stage) == ("Contacted", "Quoted")


async def test_a_stage_move_that_fails_otherwise_is_not_tried_with_another_verb(pulse: Pulse):
    lead = pulse.put(**JANE)
    pulse.there.fail("status", method="PATCH", status=500)

    with pytest.raises(OutcomeUnknown):
        await pulse.crm.move_lead(lead, "stg_2")

    assert len(pulse.there.calls(".*", ".*/stage")) == 1


async def test_inferred_keys_are_corrected_by_the_settings(opened: Opened):
    keys = {"stage": "to_stage", "stage_verb": "PUT", "company": "employer"}
    async with opened(keys=keys, stage_verb="PUT", stage_key="to_stage") as pulse:
        made = await pulse.crm.create_lead(LeadDraft(name="Jane", company="Acme"))
        await pulse.crm.move_lead(made.id, "stg_2")

    (move,) = pulse.there.calls(".*", ".*/stage")
    assert (move.method, move.body) == ("PUT", {"to_stage": "stg_2"})
    assert made.company == "Acme"
    assert pulse.there.contacts[made.id]["employer"] == "Acme"


@pytest.mark.parametrize("keys", [{"stagge": "x"}, {"stage_verb": "MOVE"}])
async def test_a_correction_that_makes_no_sense_stops_the_start(opened: Opened, keys: dict[str, str]):
    with pytest.raises(SettingsError, match=r"stagge|MOVE.*valid: "):
        async with opened(keys=keys):
            pass


async def test_a_move_whose_answer_says_nothing_is_read_again(opened: Opened):
    async with opened(stage_answer="success") as pulse:
        lead = pulse.put(**JANE)

        moved = await pulse.crm.move_lead(lead, "stg_5")

    assert (moved.id, moved.stage) == (lead, "Issued")
    assert pulse.wire()[-1] == ("GET", f"/contacts/{lead}")


async def test_a_stage_that_is_not_there_is_refused_with_the_valid_ones(pulse: Pulse):
    lead = pulse.put(**JANE)

    with pytest.raises(InvalidArgument, match="valid: New Lead, Contacted"):
        await pulse.crm.move_lead(lead, "stg_99")
    assert await pulse.crm.list_options("stages") == tuple(
        Option(id=f"stg_{number}", name=name, of="leads") for number, name in enumerate(STAGES, 1)
    )
    assert pulse.there.calls(".*", ".*/stage") == []


@pytest.mark.parametrize("status", [200, 204])
async def test_a_lead_is_deleted(opened: Opened, status: int):
    async with opened(delete_status=status) as pulse:
        lead = pulse.put(**JANE)

        along = await pulse.crm.goes_with("lead", lead)
        await pulse.crm.delete("lead", lead)

        assert along == {}
        assert pulse.wire()[-1] == ("DELETE", f"/contacts/{lead}")
        with pytest.raises(NotFound, match=f'there is no lead "{lead}"'):
            await pulse.crm.delete("lead", lead)
        with pytest.raises(Unsupported, match="it can delete: lead"):
            await pulse.crm.delete("deal", "deal_1")


@pytest.mark.parametrize("wrong", ["", "ctn_999", "..", "a/b", "x" * 300, "\ud800"])
async def test_an_id_that_is_not_there_is_not_found(pulse: Pulse, wrong: str):
    await pulse.crm.list_options("stages")

    with pytest.raises(NotFound):
        await pulse.crm.get_lead(wrong)
    with pytest.raises(NotFound):
        await pulse.crm.update_lead(wrong, LeadUpdate(name="Jane"))
    with pytest.raises(NotFound):
        await pulse.crm.move_lead(wrong, "stg_1")
    with pytest.raises(NotFound):
        await pulse.crm.goes_with("lead", wrong)


@pytest.mark.parametrize("kept", ["+12125550123", "+1 212-555-0123", "(212) 555-0123", "2125550123"])
async def test_a_number_is_found_however_it_is_kept(pulse: Pulse, kept: str):
    lead, other, twin = (pulse.put(first_name=each) for each in ("Jane", "Other", "Jane M"))
    for each, number in ((lead, kept), (other, "+13125550123"), (twin, "212.555.0123")):
        pulse.there.contacts[each]["phone"] = number  # as an import of the vendor's own may have left it

    found = await pulse.crm.leads_at("sms", "+12125550123")

    assert {(each.id, each.phone) for each in found} == {(lead, "+12125550123"), (twin, "+12125550123")}
    with pytest.raises(Conflict, match=rf"{lead} \(Jane\)"):
        await pulse.crm.create_lead(LeadDraft(name="Jane", phone="212 555 0123"))


async def test_ten_large_pages_of_deals_are_told_apart_in_no_time(pulse: Pulse):
    for page in range(10):
        rows = [{"id": f"d{page}-{number}", "name": "Robots"} for number in range(2_000)]
        body = {"data": [*rows, rows[0]], "total": 100_000}
        pulse.there.fail("status", method="GET", path=".*/pipeline/deals", status=200, body=body)
    started = time.monotonic()

    page = await pulse.crm.list_deals(DealFilter(), Slice(limit=1))

    assert page.items[0].id == "d0-0"
    assert len([each for each in pulse.wire() if each == ("GET", "/pipeline/deals")]) == 10
    assert time.monotonic() - started < 4
