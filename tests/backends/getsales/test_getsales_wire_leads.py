"""What the adapter says about leads, and how it reads the answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_mcp.backends.getsales import GetSales
from crm_mcp.errors import Conflict, InvalidArgument, NotFound, OutcomeUnknown, Unsupported, VendorError
from crm_mcp.model import CustomValue, Lead, LeadDraft, LeadFilter, LeadUpdate, Slice

from .conftest import Opened, Work

SEARCH, LOOKUP = "/leads/api/leads/search", "/leads/api/leads/lookup-one"
UPSERT, MASS = "/leads/api/leads/upsert", "/leads/api/leads/mass-action"
STAGES, TAGS = "/leads/api/pipeline-stages", "/leads/api/tags"
LISTS, FIELDS = "/leads/api/lists", "/leads/api/custom-fields"
VALUES = "/leads/api/custom-field-values"
NEWEST = {"order_field": "created_at", "order_type": "desc"}
JANE = LeadDraft(first_name="Jane", last_name="Whitfield", email="Jane@ACME.example", phone="+1 212 555 0101")


def sent(work: Work, method: str, path: str) -> list[Any]:
    """Return the bodies of the requests to a path."""
    return [each.body for each in work.there.journal if (each.method, each.path) == (method, path)]


def one(work: Work, kind: str, **equal: Any) -> str:
    """Return the id of the only record with these values."""
    (row,) = work.there.rows(kind, **equal)
    return str(row["uuid"])


def stage(work: Work, name: str) -> str:
    return one(work, "stage", name=name, object="lead")


# Headers


async def test_every_request_has_the_key_and_the_team_that_the_key_names(work: Work):
    await work.crm.check()

    (call,) = work.there.journal
    assert call.headers["authorization"] == f"Bearer {work.there.key}"
    assert call.headers["team-id"] == "4711"
    assert call.headers["accept"] == "application/json"
    assert call.headers["user-agent"].startswith("crm-mcp/")


async def test_a_team_of_the_settings_goes_before_that_of_the_key(opened: Opened):
    async with opened(team_id="4711") as work:
        account = await work.crm.check()

        assert work.there.journal[0].headers["team-id"] == "4711"
        assert (account.user, account.found) == ("robin@sandbox.example", "the workspace 4711")


# Finding


async def test_a_search_asks_for_the_newest_first_and_reads_names_once(work: Work):
    made = await work.crm.create_lead(JANE)
    start = len(work.there.journal)

    first = await work.crm.search_leads(LeadFilter(), Slice(limit=5))
    second = await work.crm.search_leads(LeadFilter(query="jane"), Slice(limit=5))

    assert first.items == second.items == (made,)
    assert (first.total, first.next) == (1, None)
    assert work.wire(start) == [("POST", SEARCH)] * 2
    assert [each.body for each in work.there.journal[start:]] == [
        {"filter": {}, "limit": 5, "offset": 0, **NEWEST},
        {"filter": {"q": "jane"}, "limit": 5, "offset": 0, **NEWEST},
    ]


async def test_filters_by_name_go_out_as_ids(opened: Opened):
    async with opened(sample=True) as work:
        wanted = LeadFilter(stage="new", tag="HOT", list="inbound", status="OK", query="jane", sort="name")

        page = await work.crm.search_leads(wanted, Slice())

        assert [each.name for each in page.items] == ["Jane Whitfield"]
        assert sent(work, "POST", SEARCH) == [
            {
                "filter": {
                    "q": "jane",
                    "status": "ok",
                    "pipeline_stage_uuid": stage(work, "New"),
                    "tags": [one(work, "tag", name="hot")],
                    "list_uuid": one(work, "list", name="Inbound"),
                },
                "limit": 20,
                "offset": 0,
                "order_field": "name",
                "order_type": "asc",
            }
        ]
        (asked,) = [each for each in work.there.journal if each.path == STAGES]
        assert asked.query == {
            "limit": "100",
            "offset": "0",
            "order_field": "created_at",
            "order_type": "asc",
            "filter[object]": "lead",
        }


async def test_a_search_by_creation_gives_days_and_takes_out_what_is_older(opened: Opened):
    async with opened(sample=True) as work:
        newest = (await work.crm.search_leads(LeadFilter(), Slice(limit=3))).items
        after = newest[2].created_at
        assert after is not None

        page = await work.crm.search_leads(LeadFilter(created_after=after), Slice())

        assert page.items == newest[:2]
        assert page.total is None
        given = sent(work, "POST", SEARCH)[-1]["filter"]["created_at"]
        assert given["from"] == after.date().isoformat()
        assert given["to"] == (datetime.now(UTC) + timedelta(days=1)).date().isoformat()


async def test_a_period_goes_out_as_operators_where_the_settings_say_so(opened: Opened):
    async with opened(sample=True, date_filters="operators", keys={"date_form": "operators"}) as work:
        page = await work.crm.search_leads(LeadFilter(created_after=datetime(2020, 1, 1, tzinfo=UTC)), Slice())

        assert len(page.items) == 12
        assert list(sent(work, "POST", SEARCH)[0]["filter"]["created_at"]) == [">=", "<="]


@pytest.mark.parametrize("has_more", ["lists", "everywhere"])
async def test_pages_follow_each_other_to_the_end(opened: Opened, has_more: str):
    async with opened(sample=True, has_more=has_more) as work:
        seen: list[str] = []
        position = None
        for _ in range(4):
            page = await work.crm.search_leads(LeadFilter(sort="created_at"), Slice(limit=5, position=position))
            seen += [each.id for each in page.items]
            position = page.next
            if position is None:
                break

        assert len(seen) == len(set(seen)) == 12
        assert [each["offset"] for each in sent(work, "POST", SEARCH)] == [0, 5, 10]


async def test_the_end_of_the_vendor_s_search_is_told_and_not_asked_for(opened: Opened):
    async with opened() as work:
        last = await work.crm.search_leads(LeadFilter(), Slice(limit=20, position="9990"))

        with pytest.raises(InvalidArgument, match="10,000 leads; narrow it by stage, tag, list or query"):
            await work.crm.search_leads(LeadFilter(), Slice(position="10000"))

        assert last.items == ()
        assert [each["limit"] for each in sent(work, "POST", SEARCH)] == [10]


@pytest.mark.parametrize("field", ["stage", "tag", "list", "status"])
async def test_a_name_that_the_account_does_not_know_is_refused_with_the_valid_ones(work: Work, field: str):
    valid = {"stage": "Engaging", "tag": "newsletter", "list": "Inbound", "status": "duplicate"}[field]

    with pytest.raises(InvalidArgument, match=f'there is no {field} "{valid}x".*nearest: "{valid}"'):
        await work.crm.search_leads(LeadFilter.model_validate({field: f"{valid}x"}), Slice())

    assert sent(work, "POST", SEARCH) == []


async def test_a_name_that_is_new_is_found_although_others_are_remembered(work: Work):
    await work.crm.list_options("tags")
    work.there.make("tag", name="fresh", color=None)

    page = await work.crm.search_leads(LeadFilter(tag="fresh"), Slice())

    assert page.items == ()
    assert work.wire().count(("GET", TAGS)) == 2


async def test_a_filter_or_order_that_it_lacks_is_refused(work: Work):
    with pytest.raises(Unsupported, match="can't filter leads by owner; it can by created_after, list"):
        await work.crm.search_leads(LeadFilter(owner="Robin"), Slice())
    with pytest.raises(InvalidArgument, match="valid: -created_at"):
        await work.crm.search_leads(LeadFilter(sort="colour"), Slice())
    assert work.there.journal == []


@pytest.mark.parametrize("shape", ["wrapped", "flat"])
async def test_a_lead_is_read_in_both_shapes(opened: Opened, shape: str):
    async with opened(sample=True, lead_items=shape, single_lead=shape) as work:
        row = work.there.rows("lead", name="Jane Whitfield")[0]

        lead = await work.crm.get_lead(row["uuid"])
        listed = (await work.crm.search_leads(LeadFilter(sort="created_at"), Slice(limit=1))).items[0]

        assert lead == listed
        custom = lead.custom_fields or {}
        assert custom["linkedin"] == "https://www.linkedin.com/in/jane-whitfield-sandbox"
        assert custom.get("industry_focus") == ("robotics" if shape == "wrapped" else None)
        assert lead.model_copy(update={"created_at": None, "updated_at": None, "custom_fields": None}) == Lead(
            id=row["uuid"],
            name="Jane Whitfield",
            first_name="Jane",
            last_name="Whitfield",
            email="jane.whitfield@acme-robotics.example",
            phone="+12125550100",
            company="Acme Robotics",
            title="Head of Operations",
            status="ok",
            stage="New",
            tags=("hot",),
        )


async def test_an_unsubscribed_address_must_not_be_contacted(opened: Opened):
    async with opened(sample=True) as work:
        row = work.there.rows("lead")[0]
        row["email_status"] = "unsubscribed"

        assert (await work.crm.get_lead(row["uuid"])).do_not_contact == ("email",)


async def test_leads_are_found_at_exactly_their_address(work: Work):
    made = await work.crm.create_lead(JANE.model_copy(update={"custom_fields": {"linkedin": "jane-whitfield"}}))
    start = len(work.there.journal)

    assert await work.crm.leads_at("email", "JANE@acme.example") == (made,)
    assert await work.crm.leads_at("sms", "+12125550101") == (made,)
    assert await work.crm.leads_at("linkedin", "https://www.linkedin.com/in/Jane-Whitfield/") == (made,)
    assert await work.crm.leads_at("sms", "+1212555010") == ()
    assert await work.crm.leads_at("email", "jane@acme.exampl") == ()
    searched = {"limit": 100, "offset": 0, **NEWEST, "order_type": "asc"}
    assert [(each.path, each.body) for each in work.there.journal[start:]] == [
        (LOOKUP, {"email": "JANE@acme.example"}),
        *((SEARCH, {"filter": {"q": words}, **searched}) for words in ("+12125550101", "2125550101", "0101")),
        (LOOKUP, {"linkedin_id": "https://www.linkedin.com/in/jane-whitfield"}),
        *((SEARCH, {"filter": {"q": words}, **searched}) for words in ("+1212555010", "212555010", "5010")),
        (LOOKUP, {"email": "jane@acme.exampl"}),
    ]


async def test_a_number_is_found_in_each_form_that_it_may_be_written_in(work: Work):
    forms = ("+12125550101", "2125550101", "(212) 555-0101", "(212) 555-0102", "0101")
    for number in forms:
        work.there.make("lead", name=number, work_phone_number=number, tags=[])

    found = await work.crm.leads_at("sms", "+12125550101")

    assert [each.name for each in found] == ["+12125550101", "2125550101", "(212) 555-0101"]


async def test_the_path_of_the_look_up_can_be_corrected(opened: Opened):
    async with opened(lookup_path="second", keys={"lookup": "/leads/api/leads/find-one"}) as work:
        assert await work.crm.leads_at("email", "nobody@acme.example") == ()
        assert work.wire() == [("POST", "/leads/api/leads/find-one")]


# Creating


async def test_a_lead_is_created_by_an_upsert_that_must_not_update(work: Work):
    custom = {"budget": 3, "linkedin": "https://www.linkedin.com/in/jane-whitfield", "headline": "Robots"}
    draft = JANE.model_copy(update={"company": "Acme", "title": "CEO", "tags": ("vip",), "custom_fields": custom})

    made = await work.crm.create_lead(draft)

    assert sent(work, "POST", UPSERT) == [
        {
            "lead": {
                "first_name": "Jane",
                "last_name": "Whitfield",
                "company_name": "Acme",
                "position": "CEO",
                "work_email": "Jane@acme.example",
                "work_phone_number": "+12125550101",
                "tags": ["vip"],
                "headline": "Robots",
                "linkedin_id": "https://www.linkedin.com/in/jane-whitfield",
            },
            "list_uuid": one(work, "list", name="Inbound"),
            "update_if_exists": False,
            "move_to_list": False,
            "custom_fields": {"budget": "3"},
        }
    ]
    assert made == await work.crm.get_lead(made.id)
    assert (made.name, made.email, made.phone) == ("Jane Whitfield", "Jane@acme.example", "+12125550101")
    assert (made.stage, made.tags, (made.custom_fields or {})["budget"]) == ("New", ("vip",), "3")


async def test_a_new_lead_needs_a_list_and_the_lists_are_named(opened: Opened):
    async with opened(list_name=None) as work:
        with pytest.raises(InvalidArgument, match="needs a list for a new lead; give list; valid: Inbound, Spring"):
            await work.crm.create_lead(JANE)
        with pytest.raises(InvalidArgument, match=r'there is no list "Inbond".*nearest: "Inbound"'):
            await work.crm.create_lead(JANE.model_copy(update={"list": "Inbond"}))
        made = await work.crm.create_lead(JANE.model_copy(update={"list": "spring conference"}))

        assert len(sent(work, "POST", UPSERT)) == 1
        assert (made.custom_fields or {})["list_uuid"] == one(work, "list", name="Spring conference")


@pytest.mark.parametrize(
    "same", [{"name": "Someone Else", "email": "JANE@acme.example"}, {"name": "Jane", "phone": "+12125550101"}]
)
async def test_a_second_lead_at_one_address_is_a_conflict_and_nothing_is_written(work: Work, same: dict[str, str]):
    made = await work.crm.create_lead(JANE)

    with pytest.raises(Conflict, match=f"{made.id} .Jane Whitfield") as caught:
        await work.crm.create_lead(LeadDraft.model_validate({"company": "Acme", **same}))

    assert caught.value.wrote is False
    assert len(sent(work, "POST", UPSERT)) == 1


@pytest.mark.parametrize("known", [{"email": "jane@acme.example"}, {"phone": "+12125550101", "company": "Acme"}])
async def test_a_new_lead_whose_answer_shows_no_address_is_no_conflict(opened: Opened, known: dict[str, str]):
    async with opened(written_leads="brief") as work:
        await work.crm.create_lead(LeadDraft(name="Bob", email="bob@acme.example"))

        made = await work.crm.create_lead(LeadDraft.model_validate({"name": "Jane", **known}))

        assert made == await work.crm.get_lead(made.id)
        assert {name: getattr(made, name) for name in known} == known


async def test_a_lead_whose_answer_does_not_show_what_was_sent_is_told(opened: Opened):
    async with opened(keys={"phone": "unheard_of"}) as work:
        with pytest.raises(VendorError, match="it does not show phone; read it again") as caught:
            await work.crm.create_lead(JANE)

        assert caught.value.wrote is True


@pytest.mark.parametrize("reading", ["untouched", "refuse"])
async def test_whom_the_vendor_knows_by_name_and_company_is_a_conflict(opened: Opened, reading: str):
    async with opened(upsert_existing=reading) as work:
        made = await work.crm.create_lead(JANE.model_copy(update={"company": "Acme"}))
        twin = LeadDraft(first_name="Jane", last_name="Whitfield", company="Acme", email="other@acme.example")

        with pytest.raises(Conflict, match=made.id):
            await work.crm.create_lead(twin)

        assert await work.crm.get_lead(made.id) == made


async def test_a_lead_that_nothing_identifies_is_refused_in_our_words(work: Work):
    with pytest.raises(InvalidArgument, match="at least one of name"):
        await work.crm.create_lead(LeadDraft(title="Buyer"))
    with pytest.raises(InvalidArgument, match=r"give email, custom_fields.linkedin, or name and company"):
        await work.crm.create_lead(LeadDraft(name="Jane"))
    assert work.there.rows("lead") == []


@pytest.mark.parametrize(("field", "value"), [("status", "ok"), ("owner", "Robin")])
async def test_what_the_vendor_sets_by_itself_is_refused(work: Work, field: str, value: str):
    with pytest.raises(Unsupported, match=f"set the {field}"):
        await work.crm.create_lead(JANE.model_copy(update={field: value}))
    assert work.there.journal == []


async def test_an_unknown_custom_field_is_refused_with_the_valid_ones(work: Work):
    with pytest.raises(InvalidArgument, match=r'"budgt".*nearest: "budget"'):
        await work.crm.create_lead(JANE.model_copy(update={"custom_fields": {"budgt": 3}}))
    assert sent(work, "POST", UPSERT) == []


# Changing


async def test_an_update_puts_what_changes_and_writes_custom_fields_one_by_one(work: Work):
    made = await work.crm.create_lead(JANE.model_copy(update={"company": "Acme", "custom_fields": {"budget": "1"}}))
    start = len(work.there.journal)
    custom: dict[str, CustomValue] = {
        "Budget": 9,
        "industry_focus": None,
        "linkedin": "https://www.linkedin.com/in/jane-w/",
    }

    changed = await work.crm.update_lead(
        made.id, LeadUpdate(last_name="Ray", custom_fields=custom, clear=("company", "phone"))
    )

    lead = f"/leads/api/leads/{made.id}"
    assert work.wire(start) == [
        ("GET", lead), ("POST", LOOKUP), ("PUT", lead), ("POST", VALUES), ("POST", VALUES), ("GET", lead),
    ]  # fmt: skip
    assert sent(work, "PUT", lead) == [
        {
            "company_name": None,
            "work_phone_number": None,
            "personal_phone_number": None,
            "last_name": "Ray",
            "name": "Jane Ray",
            "linkedin": "jane-w",
        }
    ]
    value = {"custom_field_uuid": one(work, "custom_field", name="budget"), "object_type": "lead"}
    assert sent(work, "POST", VALUES)[0] == {**value, "object_uuid": made.id, "value": "9"}
    assert sent(work, "POST", VALUES)[1]["value"] is None
    assert (changed.name, changed.company, changed.phone) == ("Jane Ray", None, None)
    assert (changed.custom_fields or {})["budget"] == "9"
    assert (changed.custom_fields or {})["linkedin"] == "https://www.linkedin.com/in/jane-w"


async def test_a_lead_can_not_take_the_address_of_another(work: Work):
    await work.crm.create_lead(JANE)
    other = await work.crm.create_lead(LeadDraft(name="Bob", email="bob@acme.example"))

    with pytest.raises(Conflict):
        await work.crm.update_lead(other.id, LeadUpdate(name="Robert", email="jane@acme.example"))
    assert await work.crm.get_lead(other.id) == other


async def test_what_can_not_be_cleared_is_refused(work: Work):
    made = await work.crm.create_lead(JANE)

    with pytest.raises(InvalidArgument, match='nearest: "company"'):
        await work.crm.update_lead(made.id, LeadUpdate(clear=("compny",)))
    with pytest.raises(InvalidArgument, match="both"):
        await work.crm.update_lead(made.id, LeadUpdate(title="CEO", clear=("title",)))
    with pytest.raises(InvalidArgument, match="nothing would be left"):
        await work.crm.update_lead(made.id, LeadUpdate(clear=("first_name", "last_name", "name", "email", "phone")))
    assert await work.crm.get_lead(made.id) == made


async def test_tags_are_changed_one_action_a_tag_and_new_ones_are_made(work: Work):
    made = await work.crm.create_lead(JANE.model_copy(update={"tags": ("hot",)}))

    tagged = await work.crm.tag_lead(made.id, ["Straße", "newsletter"], ["HOT", "never there"])
    replaced = await work.crm.update_lead(made.id, LeadUpdate(tags=("strasse",)))
    emptied = await work.crm.update_lead(made.id, LeadUpdate(clear=("tags",)))

    assert (tagged.tags, replaced.tags, emptied.tags) == (("newsletter", "Straße"), ("Straße",), None)
    assert sent(work, "POST", TAGS) == [{"name": "Straße", "color": "#9e9e9e"}]
    ids = {name: one(work, "tag", name=name) for name in ("Straße", "newsletter", "hot")}
    only = {"ids": [made.id], "all": False, "excludeIds": []}
    assert sorted((each["type"], each["payload"]["tag_uuid"]) for each in sent(work, "PUT", MASS)) == sorted(
        [
            ("contact_add_tags", ids["newsletter"]),
            ("contact_add_tags", ids["Straße"]),
            ("contact_remove_tags", ids["hot"]),
            ("contact_remove_tags", ids["newsletter"]),
            ("contact_remove_tags", ids["Straße"]),
        ]
    )
    assert all(each["filter"] == only for each in sent(work, "PUT", MASS))


async def test_the_names_of_tag_actions_can_be_corrected(opened: Opened):
    keys = {"add_tag_action": "contact_assign_tag", "remove_tag_action": "contact_remove_tag"}
    async with opened(tag_actions="assign_tag", keys=keys) as work:
        made = await work.crm.create_lead(JANE.model_copy(update={"tags": ("hot",)}))

        assert (await work.crm.tag_lead(made.id, ["newsletter"], ["hot"])).tags == ("newsletter",)


async def test_tag_actions_of_other_names_are_refused_and_nothing_is_claimed(opened: Opened):
    async with opened(tag_actions="assign_tag") as work:
        made = await work.crm.create_lead(JANE)

        with pytest.raises(InvalidArgument) as caught:
            await work.crm.tag_lead(made.id, ["hot"], [])

        assert caught.value.wrote is False
        assert (await work.crm.get_lead(made.id)).tags is None


async def test_a_change_that_does_not_show_is_not_claimed(work: Work, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(GetSales, "settle", 0.0)
    made = await work.crm.create_lead(JANE)
    for method in ("PUT", "POST"):
        work.there.fail("status", method=method, path=f"{MASS}|{VALUES}", status=200, body={}, times=9)

    with pytest.raises(OutcomeUnknown, match="change of tags"):
        await work.crm.tag_lead(made.id, ["hot"], [])
    with pytest.raises(OutcomeUnknown, match="change of stage"):
        await work.crm.move_lead(made.id, stage(work, "Replied"))
    with pytest.raises(OutcomeUnknown, match="change of custom fields"):
        await work.crm.update_lead(made.id, LeadUpdate(custom_fields={"budget": "9"}))


async def test_a_lead_moves_by_a_mass_action_and_is_seen_there(work: Work):
    made = await work.crm.create_lead(JANE)

    moved = await work.crm.move_lead(made.id, stage(work, "Replied"))
    again = await work.crm.move_lead(made.id, stage(work, "Replied"))

    assert moved == again
    assert moved.stage == "Replied"
    assert sent(work, "PUT", MASS) == [
        {
            "type": "contact_change_pipeline_stage",
            "filter": {"ids": [made.id], "all": False, "excludeIds": []},
            "payload": {"pipeline_stage_uuid": stage(work, "Replied")},
        }
    ]


async def test_a_stage_or_lead_that_is_not_there_moves_nothing(work: Work):
    made = await work.crm.create_lead(JANE)

    with pytest.raises(InvalidArgument, match="valid: New, Approaching"):
        await work.crm.move_lead(made.id, "G999")
    with pytest.raises(NotFound, match='there is no lead "L999"'):
        await work.crm.move_lead("L999", stage(work, "Replied"))
    assert sent(work, "PUT", MASS) == []


async def test_stages_are_asked_for_in_json_where_the_settings_say_so(opened: Opened):
    async with opened(stage_filter="json", keys={"stage_form": "json"}) as work:
        options = await work.crm.list_options("stages")

        assert [each.name for each in options][:2] == ["New", "Approaching"]
        assert work.there.journal[0].query["filter"] == '{"object": "lead"}'


async def test_tags_that_a_new_lead_does_not_show_are_told(work: Work):
    shown = {"name": "Jane", "work_email": "Jane@acme.example", "work_phone_number": "+12125550101"}
    shown["uuid"] = "00000001-0000-4000-8000-000000000001"
    work.there.fail("status", method="GET", path="/leads/api/leads/.*", status=200, body=shown)

    with pytest.raises(VendorError, match="does not show the tags vip") as caught:
        await work.crm.create_lead(JANE.model_copy(update={"tags": ("vip",)}))

    assert caught.value.wrote is True
