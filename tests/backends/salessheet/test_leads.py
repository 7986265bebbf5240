from __future__ import annotations

from typing import Any

import pytest

from crm_mcp import __version__
from crm_mcp.backends.salessheet import SalesSheet
from crm_mcp.errors import Conflict, InvalidArgument, NotFound, OutcomeUnknown, SettingsError, Unsupported, VendorError
from crm_mcp.model import LeadDraft, LeadFilter, LeadUpdate, Slice
from crm_mcp.sandbox.emulator import identity
from crm_mcp.sandbox.salessheet import SalesSheetEmulator

from .conftest import Emulated

Opened = tuple[SalesSheetEmulator, SalesSheet]
JANE = LeadDraft(
    first_name="Jane",
    last_name="Whitfield",
    email="Jane@ACME.example",
    phone="+1 212 555 0100",
    company="Acme",
    title="Buyer",
    status="new",
    owner="Robin",
    custom_fields={"cf_seats": 3},
)


async def test_creating_looks_for_the_address_and_the_number_and_posts_what_is_given(opened: Opened):
    vendor, crm = opened

    made = await crm.create_lead(JANE)

    by_mail, by_phone, by_digits, by_words, posted = vendor.journal
    assert (by_mail.method, by_mail.path) == ("GET", "/v1/contacts")
    assert by_mail.query == {"email": "Jane@acme.example", "page": "1", "per_page": "100"}
    assert by_phone.query == {"phone": "+12125550100", "page": "1", "per_page": "100"}
    assert by_digits.query == {"phone": "2125550100", "page": "1", "per_page": "100"}
    assert by_words.query == {"search": "0100", "page": "1", "per_page": "100"}
    assert (posted.method, posted.path, posted.query) == ("POST", "/v1/contacts", {})
    assert posted.headers["authorization"] == f"Bearer {vendor.key}"
    assert posted.headers["content-type"] == "application/json"
    assert posted.headers["user-agent"] == f"crm-mcp/{__version__}"
    assert posted.body == {
        "first_name": "Jane",
        "last_name": "Whitfield",
        "email": "Jane@acme.example",
        "phone": "+12125550100",
        "company": "Acme",
        "title": "Buyer",
        "status": "new",
        "owner": "Robin",
        "custom_fields": {"cf_seats": 3},
    }
    assert made.id == identity(1, 1)
    assert made.model_dump(include=set(LeadDraft.model_fields), exclude={"name"}, exclude_none=True) == {
        **JANE.model_dump(exclude={"name"}, exclude_none=True),
        "email": "Jane@acme.example",
        "phone": "+12125550100",
    }
    assert made.name == "Jane Whitfield"
    assert await crm.get_lead(made.id) == made


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("Jane", {"first_name": "Jane"}),
        ("Jane Whitfield", {"first_name": "Jane", "last_name": "Whitfield"}),
        ("Mary Ann Whitfield", {"first_name": "Mary Ann", "last_name": "Whitfield"}),
    ],
)
async def test_a_name_is_sent_as_first_and_last_name(opened: Opened, name: str, sent: dict[str, str]):
    vendor, crm = opened

    made = await crm.create_lead(LeadDraft(name=name))

    assert vendor.journal[-1].body == sent
    assert made.name == name


async def test_a_name_that_is_not_made_of_its_parts_is_kept_beside_them(opened: Opened):
    vendor, crm = opened

    made = await crm.create_lead(LeadDraft(name="The Boss", first_name="Ann"))
    renamed = await crm.update_lead(made.id, LeadUpdate(last_name="Brown"))
    called = await crm.update_lead(made.id, LeadUpdate(name="Chief"))

    assert (made.name, renamed.name, called.name) == ("The Boss", "The Boss", "Chief")
    assert [each.body for each in vendor.calls("PATCH")] == [{"last_name": "Brown"}, {"name": "Chief"}]


@pytest.mark.parametrize(
    "same", [{"name": "Other", "email": "JANE@acme.example"}, {"name": "Jane", "phone": "(212) 555-0100"}]
)
async def test_a_second_contact_at_one_address_is_a_conflict_and_nothing_is_written(
    opened: Opened, same: dict[str, str]
):
    vendor, crm = opened
    made = await crm.create_lead(JANE)

    with pytest.raises(Conflict, match=f"{made.id} .Jane Whitfield"):
        await crm.create_lead(LeadDraft.model_validate(same))

    assert len(vendor.calls("POST")) == 1


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"title": "Buyer"}, InvalidArgument, "at least one of"),
        ({"name": "J", "email": "jane at acme"}, InvalidArgument, "no e-mail address"),
        ({"name": "J", "phone": "12"}, InvalidArgument, "phone number"),
        ({"name": "J", "tags": ("vip",)}, Unsupported, "no tags"),
        ({"name": "J", "list": "Fair"}, Unsupported, "no lists"),
        ({"name": "J", "custom_fields": {"cf_seats": float("inf")}}, Exception, "finite"),
    ],
)
async def test_a_draft_that_can_not_be_written_is_refused_before_any_call(
    opened: Opened, wrong: dict[str, Any], error: type[Exception], text: str
):
    vendor, crm = opened

    with pytest.raises(error, match=text):
        await crm.create_lead(LeadDraft.model_validate(wrong))

    assert vendor.journal == []


async def test_an_update_sends_what_differs_and_nothing_else(opened: Opened):
    vendor, crm = opened
    made = await crm.create_lead(JANE)
    vendor.journal.clear()

    changed = await crm.update_lead(
        made.id,
        LeadUpdate(first_name="Jane", title="CTO", email="new@acme.example", clear=("company",)),
    )

    read, looked, patched = vendor.journal
    assert (read.method, read.path) == ("GET", f"/v1/contacts/{made.id}")
    assert looked.query["email"] == "new@acme.example"
    assert (patched.method, patched.path) == ("PATCH", f"/v1/contacts/{made.id}")
    assert patched.body == {"title": "CTO", "email": "new@acme.example", "company": None}
    assert (changed.title, changed.email, changed.company) == ("CTO", "new@acme.example", None)
    assert changed == await crm.get_lead(made.id)


async def test_an_update_that_changes_nothing_writes_nothing(opened: Opened):
    vendor, crm = opened
    made = await crm.create_lead(JANE)

    same = await crm.update_lead(made.id, LeadUpdate(name="Jane Whitfield", phone="+12125550100", status="new"))

    assert same == made
    assert vendor.calls("PATCH") == []


@pytest.mark.parametrize("custom_patch", ["merged", "replaced"])
async def test_custom_fields_are_changed_alike_whether_the_crm_merges_or_replaces_them(
    emulated: Emulated, custom_patch: str
):
    vendor, crm = emulated(custom_patch=custom_patch)
    made = await crm.create_lead(JANE.model_copy(update={"custom_fields": {"cf_seats": 3, "cf_source": "fair"}}))

    changed = await crm.update_lead(made.id, LeadUpdate(custom_fields={"cf_seats": None, "cf_industry": "robots"}))
    emptied = await crm.update_lead(made.id, LeadUpdate(clear=("custom_fields.cf_industry", "custom_fields.never")))

    first, second = (each.body for each in vendor.calls("PATCH"))
    assert first == {"custom_fields": {"cf_seats": None, "cf_source": "fair", "cf_industry": "robots"}}
    assert second["custom_fields"]["cf_industry"] is None
    assert changed.custom_fields == {"cf_source": "fair", "cf_industry": "robots"}
    assert emptied.custom_fields == {"cf_source": "fair"}


async def test_a_field_of_the_vendor_s_own_is_read_and_written_where_it_stands(opened: Opened):
    vendor, crm = opened
    made = await crm.create_lead(JANE)
    vendor.records["contacts"][made.id]["lead_source"] = "fair"

    read = await crm.get_lead(made.id)
    changed = await crm.update_lead(made.id, LeadUpdate(custom_fields={"lead_source": "web"}))

    assert read.custom_fields == {"lead_source": "fair", "cf_seats": 3}
    assert vendor.journal[-1].body == {"lead_source": "web"}
    assert changed.custom_fields == {"lead_source": "web", "cf_seats": 3}


async def test_what_can_not_be_cleared_is_refused_with_what_can(opened: Opened):
    vendor, crm = opened
    made = await crm.create_lead(LeadDraft(email="jane@acme.example"))

    with pytest.raises(InvalidArgument, match='nearest: "company"'):
        await crm.update_lead(made.id, LeadUpdate(clear=("compny",)))
    with pytest.raises(InvalidArgument, match="both"):
        await crm.update_lead(made.id, LeadUpdate(title="x", clear=("title",)))
    with pytest.raises(InvalidArgument, match="at least one of"):
        await crm.update_lead(made.id, LeadUpdate(clear=("email",)))

    assert vendor.calls("PATCH") == []


async def test_a_contact_can_not_take_the_address_of_another(opened: Opened):
    vendor, crm = opened
    await crm.create_lead(JANE)
    bob = await crm.create_lead(LeadDraft(name="Bob", email="bob@acme.example"))

    with pytest.raises(Conflict, match="Jane Whitfield"):
        await crm.update_lead(bob.id, LeadUpdate(email="jane@acme.example"))

    assert vendor.calls("PATCH") == []


async def test_a_field_that_the_crm_ignores_is_not_claimed_to_be_written(emulated: Emulated):
    _, crm = emulated(keys={"title": "job_title"}, fields="ignored")
    plain = await crm.create_lead(LeadDraft(name="Jane"))

    with pytest.raises(VendorError, match="did not keep title") as created:
        await crm.create_lead(LeadDraft(name="Bob", title="CTO"))
    with pytest.raises(VendorError, match="did not keep title") as updated:
        await crm.update_lead(plain.id, LeadUpdate(title="CTO"))

    assert (created.value.wrote, updated.value.wrote) == (True, True)
    assert "job_title" not in str(created.value)


@pytest.mark.parametrize("answers", ["whole", "id"])
@pytest.mark.parametrize("envelope", ["data", "named", "bare"])
async def test_every_envelope_is_read(emulated: Emulated, envelope: str, answers: str):
    _, crm = emulated(envelope=envelope, answers=answers)

    made = await crm.create_lead(JANE)
    changed = await crm.update_lead(made.id, LeadUpdate(title="CTO"))
    page = await crm.search_leads(LeadFilter(), Slice())

    assert (made.name, made.title) == ("Jane Whitfield", "Buyer")
    assert changed.title == "CTO"
    assert page.items == (changed,)
    assert page.total == (None if envelope == "bare" else 1)


async def test_a_creation_whose_answer_is_empty_is_not_known(emulated: Emulated):
    _, crm = emulated(answers="empty")

    with pytest.raises(OutcomeUnknown, match="did not say which"):
        await crm.create_lead(LeadDraft(name="Jane"))


async def test_an_update_whose_answer_is_empty_is_read_again(opened: Opened):
    vendor, crm = opened
    made = await crm.create_lead(JANE)
    vendor.switch(answers="empty")

    changed = await crm.update_lead(made.id, LeadUpdate(title="CTO"))

    assert changed.title == "CTO"
    assert [each.method for each in vendor.journal[-2:]] == ["PATCH", "GET"]


async def test_addresses_are_found_exactly_even_where_the_filter_is_ignored(emulated: Emulated):
    vendor, crm = emulated(sample=True, filters="ignored")

    by_mail = await crm.leads_at("email", "OMAR.haddad@acme-robotics.example")
    by_phone = await crm.leads_at("call", "+12125550101")

    assert [each.name for each in by_mail] == ["Omar Haddad"]
    assert by_phone == by_mail
    assert await crm.leads_at("email", "omar.haddad@acme-robotics.exampl") == ()
    assert await crm.leads_at("linkedin", "x") == ()
    assert {each.path for each in vendor.journal} == {"/v1/contacts"}


async def test_a_search_sends_words_filters_order_and_page(opened: Opened):
    vendor, crm = opened

    await crm.search_leads(LeadFilter(query=" acme  buyer ", status="new", owner="Robin", sort="name"), Slice())
    await crm.search_leads(LeadFilter(), Slice(limit=30, position="30:30"))
    await crm.search_leads(LeadFilter(query="jane@acme.example"), Slice())
    await crm.search_leads(LeadFilter(query="(212) 555-0100"), Slice())

    filtered, paged, mail, phone = (each.query for each in vendor.journal)
    order = {"sort_by": "created_at", "sort_order": "desc"}
    assert filtered == {
        "search": "acme buyer",
        "status": "new",
        "owner": "Robin",
        "sort_by": "name",
        "sort_order": "asc",
        "page": "1",
        "per_page": "100",
    }
    assert paged == {**order, "page": "2", "per_page": "30"}
    assert mail == {"email": "jane@acme.example", **order, "page": "1", "per_page": "100"}
    assert phone == {"phone": "+12125550100", **order, "page": "1", "per_page": "100"}


@pytest.mark.parametrize("search", ["honoured", "ignored"])
async def test_only_what_has_the_words_is_found_whether_or_not_the_crm_looks_for_them(emulated: Emulated, search: str):
    _, crm = emulated(sample=True, search=search, filters=search)

    acme = await crm.search_leads(LeadFilter(query="acme robotics"), Slice())
    operations = await crm.search_leads(LeadFilter(query="acme operat", status="NEW"), Slice())
    digits = await crm.search_leads(LeadFilter(query="0103"), Slice())

    assert [each.name for each in acme.items] == ["Omar Haddad", "Jane Whitfield", "Acme Robotics"]
    assert [each.name for each in operations.items] == ["Jane Whitfield"]
    assert [each.name for each in digits.items] == ["Tom Okafor"]
    assert acme.total == 3


@pytest.mark.parametrize("search", ["honoured", "ignored"])
@pytest.mark.parametrize("per_page", [100, 7])
async def test_pages_of_a_search_hold_each_once(emulated: Emulated, search: str, per_page: int):
    _, crm = emulated(sample=True, search=search, per_page=per_page)

    seen: list[str | None] = []
    position = None
    while True:
        page = await crm.search_leads(LeadFilter(query="a"), Slice(limit=4, position=position))
        seen.extend(each.name for each in page.items)
        position = page.next
        if position is None:
            break

    assert len(seen) == len(set(seen)) == 13


@pytest.mark.parametrize("per_page", [100, 5])
async def test_pages_without_filters_hold_each_once(emulated: Emulated, per_page: int):
    _, crm = emulated(sample=True, per_page=per_page)

    for limit in (3, 5, 20):
        seen: list[str] = []
        position = None
        while True:
            page = await crm.search_leads(LeadFilter(), Slice(limit=limit, position=position))
            seen.extend(each.id for each in page.items)
            position = page.next
            if position is None:
                break
        assert len(seen) == len(set(seen)) == 13


def many(vendor: SalesSheetEmulator, count: int) -> None:
    for number in range(count):
        vendor.records["contacts"][f"c{number}"] = {"id": f"c{number}", "first_name": f"Lead {number}", "email": None}


async def test_a_crm_that_ignores_the_words_and_has_too_many_contacts_is_said_to_be_so(emulated: Emulated):
    vendor, crm = emulated(search="ignored")
    many(vendor, 1_001)

    with pytest.raises(Unsupported, match="exact e-mail"):
        await crm.search_leads(LeadFilter(query="unheard-of"), Slice())

    assert len(vendor.journal) == 10


@pytest.mark.parametrize("sorts", ["ignored", "refused"])
async def test_an_order_that_nobody_asked_for_is_given_up_where_it_is_refused(emulated: Emulated, sorts: str):
    vendor, crm = emulated(sample=True, sorts=sorts)

    page = await crm.search_leads(LeadFilter(), Slice())

    assert page.total == 13
    assert len(vendor.journal) == (2 if sorts == "refused" else 1)
    if sorts == "refused":
        with pytest.raises(InvalidArgument, match="sort_by"):
            await crm.search_leads(LeadFilter(sort="name"), Slice())


async def test_filters_and_orders_that_are_not_there_are_refused_with_those_that_are(opened: Opened):
    vendor, crm = opened

    for name in ("stage", "tag", "list"):
        with pytest.raises(Unsupported, match="owner, query, status"):
            await crm.search_leads(LeadFilter.model_validate({name: "x"}), Slice())
    with pytest.raises(InvalidArgument, match="-created_at, created_at, name"):
        await crm.search_leads(LeadFilter(sort="colour"), Slice())
    for position in ("x", "[1]", "1:x", "-1"):
        with pytest.raises(InvalidArgument, match="cursor"):
            await crm.search_leads(LeadFilter(), Slice(position=position))

    assert vendor.journal == []


@pytest.mark.parametrize("wrong", ["", "nobody", "..", "a/b", "\ud800", "x" * 300])
async def test_a_contact_that_is_not_there_is_not_found(opened: Opened, wrong: str):
    _, crm = opened

    with pytest.raises(NotFound, match="there is no"):
        await crm.get_lead(wrong)
    with pytest.raises(NotFound, match="there is no"):
        await crm.update_lead(wrong, LeadUpdate(name="x"))


async def test_inferred_names_can_be_corrected(emulated: Emulated):
    vendor, crm = emulated(keys={"title": "job_title", "search": "q"})

    made = await crm.create_lead(LeadDraft(name="Jane", title="CTO"))
    await crm.search_leads(LeadFilter(query="jane"), Slice())

    assert made.title == "CTO"
    assert vendor.calls("POST")[0].body == {"first_name": "Jane", "job_title": "CTO"}
    assert vendor.journal[-1].query["q"] == "jane"
    with pytest.raises(SettingsError, match=r'"titel" is none.*nearest: "title"'):
        emulated(keys={"titel": "x"})


@pytest.mark.parametrize("kept", ["+12125550101", "+1 212-555-0101", "(212) 555-0101", "2125550101"])
@pytest.mark.parametrize("filters", ["honoured", "ignored"])
async def test_a_number_is_found_however_it_is_kept(emulated: Emulated, kept: str, filters: str):
    vendor, crm = emulated(filters=filters)
    there = vendor.records["contacts"]
    there["c1"] = {"id": "c1", "first_name": "Jane", "phone": kept}
    there["c2"] = {"id": "c2", "first_name": "Other", "phone": "+13125550101"}

    found = await crm.leads_at("sms", "+12125550101")

    assert [(each.id, each.phone) for each in found] == [("c1", "+12125550101")]
    with pytest.raises(Conflict, match=r"belongs to c1 \(Jane\)"):
        await crm.create_lead(LeadDraft(name="Jane", phone="212 555 0101"))
    assert vendor.calls("POST") == []


async def test_a_number_that_two_contacts_have_in_two_spellings_is_of_both(opened: Opened):
    vendor, crm = opened
    vendor.records["contacts"]["c1"] = {"id": "c1", "first_name": "A", "phone": "+12125550101"}
    vendor.records["contacts"]["c2"] = {"id": "c2", "first_name": "B", "phone": "212-555-0101"}

    assert [each.id for each in await crm.leads_at("sms", "+12125550101")] == ["c1", "c2"]


async def test_a_number_is_looked_for_where_the_crm_is_large_and_does_not_search(emulated: Emulated):
    vendor, crm = emulated(search="ignored")
    for n in range(1_050):
        vendor.records["contacts"][f"k{n}"] = {"id": f"k{n}", "first_name": f"K{n}"}

    assert await crm.leads_at("sms", "+12125550101") == ()


async def test_what_is_no_record_counts_as_a_row_and_is_left_out(opened: Opened):
    vendor, crm = opened
    first = [{"id": "c1"}, None, {"id": "c3"}, {"id": "c4"}, {"id": "c5"}]
    vendor.fail("status", path="/v1/contacts", status=200, body={"data": first, "total": 7})
    vendor.fail("status", path="/v1/contacts", status=200, body={"data": [{"id": "c6"}, {"id": "c7"}], "total": 7})

    one = await crm.search_leads(LeadFilter(), Slice(limit=5))
    two = await crm.search_leads(LeadFilter(), Slice(limit=5, position=one.next))

    assert [each.id for each in (*one.items, *two.items)] == ["c1", "c3", "c4", "c5", "c6", "c7"]
    assert [(each.query["page"], each.query["per_page"]) for each in vendor.journal] == [("1", "5"), ("2", "5")]


async def test_a_custom_field_is_not_both_set_and_cleared(opened: Opened):
    vendor, crm = opened
    made = await crm.create_lead(LeadDraft(name="Jane", custom_fields={"cf_seats": 3}))
    change = LeadUpdate(custom_fields={"cf_seats": 4}, clear=("custom_fields.cf_seats",))

    with pytest.raises(InvalidArgument, match="both set and cleared"):
        await crm.update_lead(made.id, change)

    assert vendor.calls("PATCH") == []
