"""The emulator of GetSales: it answers as documented, and in each reading where sources differ."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from crm_mcp.sandbox.getsales import GetSalesEmulator

from .conftest import Host, Started

SEARCH = "/leads/api/leads/search"
UPSERT = "/leads/api/leads/upsert"
LEADS = "/leads/api/leads"
MASS = "/leads/api/leads/mass-action"
MESSAGES = "/flows/api/linkedin-messages"
EMAIL = "/emails/api/emails/send-email"
ME = "/id/api/users/current"


def found(host: Host, **wanted: Any) -> list[str]:
    """Return the names of the leads that a search finds, oldest first."""
    answer = host.ask("POST", SEARCH, {"filter": wanted, "order_type": "asc", "limit": 100})
    assert answer.status_code == 200, answer.text
    return [each["lead"]["name"] for each in answer.json()["data"]]


# Keys, teams, limits


def test_the_key_is_a_jwt_that_tells_its_team():
    head, payload, signature = GetSalesEmulator.key.split(".")

    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))

    assert head
    assert signature
    assert told["specific_team_id"] == 4711


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {GetSalesEmulator.key}"])
def test_another_key_is_401_in_the_documented_envelope(host: Host, given: str):
    answer = host.ask("GET", ME, Authorization=given)

    assert answer.status_code == 401
    assert answer.json() == {
        "error": {"reason": "auth_exception", "message": "Unauthenticated.", "data": {}},
        "message": "Unauthenticated.",
        "code": 401,
    }


def test_a_revoked_key_is_401(host: Host):
    assert host.ask("GET", ME, Authorization=f"Bearer {host.there.revoked_key}").status_code == 401


def test_a_key_without_access_to_outreach_is_403_there_alone(host: Host):
    key = f"Bearer {host.there.limited_key}"

    assert host.ask("GET", "/leads/api/lists", Authorization=key).status_code == 200
    answer = host.ask("GET", "/flows/api/flows", Authorization=key)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "access_denied")


def test_another_team_is_403(host: Host):
    assert host.ask("GET", ME, Team_ID="4711").status_code == 200
    answer = host.ask("GET", ME, Team_ID="12")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "access_denied")


def test_the_team_header_can_be_required(started: Started):
    host = started(strict_team=True)

    answer = host.ask("GET", ME)

    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "bad_request")
    assert host.ask("GET", ME, Team_ID="4711").status_code == 200


def test_the_limit_is_429_without_headers_or_with_one(started: Started):
    host = started(per_minute=2, clock=lambda: 1_800_000_000.0)

    answers = [host.ask("GET", ME) for _ in range(3)]

    assert [each.status_code for each in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == 429
    assert "retry-after" not in answers[2].headers
    host.there.switch(retry_after=7)
    assert [host.ask("GET", ME).status_code for _ in range(2)] == [200, 200]
    assert host.ask("GET", ME).headers["retry-after"] == "7"


def test_a_body_that_is_no_json_is_400(host: Host):
    headers = {"Authorization": f"Bearer {host.there.key}", "Content-Type": "application/json"}

    answer = host.client.post(UPSERT, content=b"{half", headers=headers)

    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "bad_request")


def test_an_unknown_path_is_404_and_another_verb_405(host: Host):
    assert host.ask("GET", "/leads/api/nothing").status_code == 404
    assert host.ask("PATCH", "/leads/api/leads/x", {}).status_code == 405


# Lists and filters


def test_a_list_has_the_documented_envelope(host: Host):
    answer = host.ask("GET", "/leads/api/lists?limit=1").json()

    assert [each["name"] for each in answer.pop("data")] == ["Spring conference"]
    assert answer == {"limit": 1, "offset": 0, "total": 2, "has_more": True}


def test_a_search_may_lack_has_more(started: Started):
    assert "has_more" not in started().ask("POST", SEARCH, {}).json()
    assert started(has_more="everywhere").ask("POST", SEARCH, {}).json()["has_more"] is False


def test_a_limit_above_100_is_clamped_or_refused(started: Started):
    assert started().ask("POST", SEARCH, {"limit": 500}).json()["limit"] == 100
    answer = started(over_limit="refuse").ask("POST", SEARCH, {"limit": 500})
    assert (answer.status_code, list(answer.json()["error"]["data"])) == (422, ["limit"])


def test_beyond_10000_rows_is_500_without_the_envelope(host: Host):
    assert host.ask("POST", SEARCH, {"offset": 9_900, "limit": 100}).status_code == 200
    answer = host.ask("POST", SEARCH, {"offset": 9_901, "limit": 100})
    assert (answer.status_code, answer.json()) == (500, {"message": "Server Error"})


def test_the_order_without_a_direction_is_a_switch(started: Started):
    path = "/leads/api/lists?order_field=created_at"

    assert started().ask("GET", path).json()["data"][0]["name"] == "Spring conference"
    assert started(default_order="asc").ask("GET", path).json()["data"][0]["name"] == "Inbound"


def test_the_names_of_the_order_are_a_switch(started: Started):
    path = "/leads/api/lists?order-field=created_at&order-type=asc"

    assert started().ask("GET", path).json()["data"][0]["name"] == "Spring conference"
    assert started(order_names="hyphen").ask("GET", path).json()["data"][0]["name"] == "Inbound"


def test_filters_stand_in_brackets_and_flat_ones_are_ignored(host: Host):
    assert host.ask("GET", "/flows/api/flows?filter[status]=on").json()["total"] == 1
    assert host.ask("GET", "/flows/api/flows?status=on").json()["total"] == 3


@pytest.mark.parametrize(("reading", "status"), [("fail", 500), ("ignore", 200), ("refuse", 422)])
def test_an_unknown_filter_is_a_switch(started: Started, reading: str, status: int):
    host = started(unknown_filter=reading)

    assert host.ask("POST", SEARCH, {"filter": {"flow_uuid": "x"}}).status_code == status
    assert host.ask("GET", "/flows/api/flows?filter[colour]=red").status_code == status


def test_a_search_finds_by_words_values_and_lists_of_values(started: Started):
    host = started(sample=True)
    stages = [each["uuid"] for each in host.there.rows("stage", object="lead")]

    assert found(host, q="whitfield") == ["Jane Whitfield"]
    assert found(host, work_email_domain="lumen-optics.example") == ["Anita Desai", "Ben Carter"]
    assert found(host, pipeline_stage_uuid=stages[:2], company_name="Acme Robotics") == [
        "Jane Whitfield",
        "Omar Haddad",
    ]
    assert found(host, list_uuid="is_null") == []
    assert len(found(host, list_uuid="is_not_null")) == 12


def test_periods_are_written_in_one_of_two_ways(started: Started):
    host = started(clock=lambda: 1_800_000_000.0)
    host.lead(work_email="jane@acme.example")

    assert found(host, created_at={"from": "2027-01-15", "to": "2027-01-15"}) == ["Jane"]
    assert found(host, created_at={"from": "2027-01-16"}) == []
    assert host.ask("POST", SEARCH, {"filter": {"created_at": {">=": "2027-01-15"}}}).status_code == 500
    host.there.switch(date_filters="operators")
    assert found(host, created_at={">=": "2027-01-15", "<=": "2027-01-15"}) == ["Jane"]


def test_leads_come_wrapped_or_flat(started: Started):
    host = started(sample=True)

    item = host.ask("POST", SEARCH, {"filter": {"q": "jane"}}).json()["data"][0]

    assert sorted(item) == ["custom_fields", "flows", "lead", "markers"]
    assert item["custom_fields"] == {"industry_focus": "robotics"}
    assert list(host.ask("POST", SEARCH, {"disable_aggregation": True}).json()["data"][0]) == ["lead"]
    host.there.switch(lead_items="flat", single_lead="flat")
    assert host.ask("POST", SEARCH, {"filter": {"q": "jane"}}).json()["data"][0] == item["lead"]
    assert host.ask("GET", f"{LEADS}/{item['lead']['uuid']}").json() == item["lead"]


def test_emails_have_their_paging_inside_or_beside(started: Started):
    nested = started(sample=True).ask("GET", "/emails/api/emails?limit=1").json()
    flat = started(sample=True, emails_paging="flat").ask("GET", "/emails/api/emails?limit=1").json()

    assert nested["pagination"] == {"limit": 1, "offset": 0, "total": 6, "has_more": True}
    assert sorted(nested) == ["data", "pagination"]
    assert (flat["total"], flat["has_more"]) == (6, True)


def test_stages_need_to_be_told_what_they_are_of(started: Started):
    host = started()

    assert host.ask("GET", "/leads/api/pipeline-stages").status_code == 422
    answer = host.ask("GET", "/leads/api/pipeline-stages?filter[object]=lead").json()["data"]
    assert [each["name"] for each in answer][:3] == ["New", "Approaching", "Engaging"]
    host.there.switch(stage_filter="json")
    assert host.ask("GET", "/leads/api/pipeline-stages?filter[object]=lead").status_code == 422
    assert host.ask("GET", '/leads/api/pipeline-stages?filter={"object":"lead"}').status_code == 200


def test_activities_take_a_json_filter_alone(started: Started):
    host = started(sample=True)
    lead = host.first("lead")["uuid"]

    answer = host.ask("GET", f'/leads/api/activities?filter={{"lead_uuid":"{lead}"}}').json()

    assert [each["type"] for each in answer["data"]] == ["linkedin_connection_request_accepted"]
    assert host.ask("GET", f"/leads/api/activities?filter[lead_uuid]={lead}").status_code == 422


# Contacts


def test_an_upsert_needs_a_list_and_something_that_identifies(host: Host):
    answer = host.ask("POST", UPSERT, {"lead": {"first_name": "Jane"}})
    unknown = host.ask("POST", UPSERT, {"lead": {"first_name": "Jane"}, "list_uuid": host.first("list")["uuid"]})

    assert answer.status_code == 422
    assert answer.json()["error"]["data"] == {"list_uuid": ["The list uuid field is required."]}
    assert unknown.json()["error"]["data"] == {"lead.linkedin_id": ["The linkedin id field is required."]}
    assert host.there.rows("lead") == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"linkedin_id": "https://www.linkedin.com/in/jane-s/?x=1"}, {"linkedin_id": "jane-s"}),
        ({"linkedin_id": "ACoAA1"}, {"linkedin_id": "ACoAA1", "work_email": "other@acme.example"}),
        ({"work_email": "jane@acme.example"}, {"email": "JANE@acme.example"}),
        ({"personal_email": "jane@home.example"}, {"personal_email": "jane@home.example"}),
        ({"last_name": "S", "company_name": "Acme"}, {"name": "Jane S", "company_name": "Acme"}),
    ],
)
def test_an_upsert_knows_a_lead_again(host: Host, first: dict[str, str], second: dict[str, str]):
    one = host.lead(**first)

    two = host.lead(**second, position="CEO")

    assert two["uuid"] == one["uuid"]
    assert host.there.rows("lead")[0]["position"] == "CEO"


def test_an_upsert_that_may_not_update_leaves_or_refuses(started: Started):
    host = started()
    host.lead(work_email="jane@acme.example")
    again = {
        "lead": {"work_email": "jane@acme.example", "position": "CEO"},
        "list_uuid": host.first("list")["uuid"],
        "update_if_exists": False,
    }

    assert host.ask("POST", UPSERT, again).json()["position"] is None
    host.there.switch(upsert_existing="refuse")
    assert host.ask("POST", UPSERT, again).status_code == 422
    assert host.first("lead")["position"] is None


def test_an_upsert_moves_makes_tags_and_sets_custom_fields(host: Host):
    first, second = host.there.rows("list")
    lead = {"work_email": "jane@acme.example", "tags": ["hot", "brand new"]}

    made = host.ask("POST", UPSERT, {"lead": lead, "list_uuid": first["uuid"], "custom_fields": {"budget": "5"}}).json()
    host.ask("POST", UPSERT, {"lead": lead, "list_uuid": second["uuid"]})
    stayed = host.first("lead")["list_uuid"]
    host.ask("POST", UPSERT, {"lead": lead, "list_uuid": second["uuid"], "move_to_list": True})

    assert [host.there.find("tag", each)["name"] for each in made["tags"]] == ["hot", "brand new"]
    read = host.ask("GET", f"{LEADS}/{made['uuid']}").json()
    assert read["custom_fields"] == {"budget": "5"}
    assert (stayed, read["lead"]["list_uuid"]) == (first["uuid"], second["uuid"])


def test_one_bad_lead_of_an_array_spoils_all_or_is_left_out(started: Started):
    host = started()
    leads = [{"work_email": "a@acme.example"}, {"work_email": "nobody"}, {"first_name": "Jane"}]
    body = {"list_uuid": host.first("list")["uuid"], "leads": leads}

    answer = host.ask("POST", LEADS, body)

    assert answer.status_code == 422
    assert sorted(answer.json()["error"]["data"]) == ["leads.1.work_email", "leads.2.linkedin_id"]
    assert host.there.rows("lead") == []
    host.there.switch(create_partial="keep")
    assert [each["work_email"] for each in host.ask("POST", LEADS, body).json()] == ["a@acme.example"]


def test_an_array_returns_or_doubles_who_is_there(started: Started):
    host = started()
    one = host.lead(work_email="jane@acme.example")
    body = {"list_uuid": host.first("list")["uuid"], "leads": [{"work_email": "jane@acme.example"}]}

    assert host.ask("POST", LEADS, body).json()[0]["uuid"] == one["uuid"]
    host.there.switch(create_existing="doubled")
    assert host.ask("POST", LEADS, body).json()[0]["uuid"] != one["uuid"]


def test_a_look_up_needs_one_way_and_finds_both_addresses(host: Host):
    host.lead(personal_email="jane@home.example")

    assert host.ask("POST", f"{LEADS}/lookup-one", {"name": "Jane"}).status_code == 422
    assert host.ask("POST", f"{LEADS}/lookup-one", {"email": "nobody@home.example"}).status_code == 404
    answer = host.ask("POST", f"{LEADS}/lookup-one", {"email": "jane@home.example", "linkedin_id": None})
    assert answer.json()["lead"]["name"] == "Jane"


def test_an_update_ignores_custom_fields_tags_and_stage(started: Started):
    host = started()
    lead = host.lead(work_email="jane@acme.example")
    stage = host.there.rows("stage", object="lead")[3]["uuid"]
    body = {"position": "CEO", "tags": ["hot"], "pipeline_stage_uuid": stage, "custom_fields": {"budget": "5"}}

    answer = host.ask("PUT", f"{LEADS}/{lead['uuid']}", body).json()

    assert (answer["position"], answer["tags"]) == ("CEO", [])
    assert answer["pipeline_stage_uuid"] == lead["pipeline_stage_uuid"]
    assert host.ask("GET", f"{LEADS}/{lead['uuid']}").json()["custom_fields"] == {}
    host.there.switch(put_custom_fields="saved")
    host.ask("PUT", f"{LEADS}/{lead['uuid']}", body)
    assert host.ask("GET", f"{LEADS}/{lead['uuid']}").json()["custom_fields"] == {"budget": "5"}


def test_a_deletion_is_204_or_a_message_at_once_or_later(started: Started):
    host = started()
    first, second = host.lead(work_email="a@acme.example"), host.lead(work_email="b@acme.example")

    answer = host.ask("DELETE", f"{LEADS}/{first['uuid']}")
    host.there.switch(done_answer="message", deletion="later")
    later = host.ask("DELETE", f"{LEADS}/{second['uuid']}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert host.ask("GET", f"{LEADS}/{first['uuid']}").status_code == 404
    assert (later.status_code, sorted(later.json())) == (200, ["message", "status"])
    assert host.ask("GET", f"{LEADS}/{second['uuid']}").status_code == 200
    host.there.work()
    assert host.ask("GET", f"{LEADS}/{second['uuid']}").status_code == 404


def test_a_mass_action_changes_the_stage_of_those_it_means(started: Started):
    host = started(sample=True)
    stage = host.there.rows("stage", object="lead")[4]["uuid"]
    one, two = (each["uuid"] for each in host.there.rows("lead")[:2])
    body = {
        "type": "contact_change_pipeline_stage",
        "filter": {"ids": [one]},
        "payload": {"pipeline_stage_uuid": stage},
    }

    answer = host.ask("PUT", MASS, body)

    assert (answer.status_code, answer.content) == (200, b"")
    assert host.there.find("lead", one)["pipeline_stage_uuid"] == stage
    assert host.there.find("lead", two)["pipeline_stage_uuid"] != stage
    assert host.ask("PUT", MASS, {**body, "payload": {"pipeline_stage_uuid": "none"}}).status_code == 422
    assert host.ask("PUT", MASS, {**body, "type": "contact_explode"}).status_code == 422


def test_a_mass_action_may_run_behind_its_answer(started: Started):
    host = started(mass_actions="behind")
    lead, stage = host.lead(work_email="jane@acme.example"), host.there.rows("stage", object="lead")[4]["uuid"]
    body = {"filter": {"ids": [lead["uuid"]]}, "payload": {"pipeline_stage_uuid": stage}}

    host.ask("PUT", MASS, {"type": "contact_change_pipeline_stage", **body})
    seen = [host.ask("GET", f"{LEADS}/{lead['uuid']}").json()["lead"]["pipeline_stage_uuid"] for _ in range(2)]

    assert seen == [lead["pipeline_stage_uuid"], stage]


@pytest.mark.parametrize(
    ("reading", "valid", "unknown"),
    [("add_tags", "contact_add_tags", "contact_assign_tag"), ("assign_tag", "contact_assign_tag", "contact_add_tags")],
)
def test_mass_actions_on_tags_have_one_of_two_names(started: Started, reading: str, valid: str, unknown: str):
    host = started(tag_actions=reading)
    lead, tag = host.lead(work_email="jane@acme.example"), host.first("tag")["uuid"]
    body = {"filter": {"ids": [lead["uuid"]]}, "payload": {"tag_uuid": tag}}

    assert host.ask("PUT", MASS, {**body, "type": unknown}).status_code == 422
    assert host.ask("PUT", MASS, {**body, "type": valid}).status_code == 200
    assert host.first("lead")["tags"] == [tag]


def test_a_count_has_one_of_two_shapes(started: Started):
    host = started(sample=True)
    wanted = {"company_name": "Acme Robotics"}

    assert host.ask("POST", f"{LEADS}/count", {"filter": {"all": True, "leadFilter": wanted}}).json() == {"count": 2}
    assert host.ask("POST", f"{LEADS}/count", {"all": True}).status_code == 422
    host.there.switch(count_shape="all")
    assert host.ask("POST", f"{LEADS}/count", {"all": True, "filter": wanted}).json() == {"total": 2}


def test_metrics_count_a_period_and_need_names(started: Started):
    host = started(sample=True, clock=lambda: 1_800_000_000.0)
    asked = {"period_from": "2027-01-01T00:00:00Z", "period_to": "2027-02-01T00:00:00Z"}
    names = ["linkedin_sent_count", "linkedin_inbox_count", "email_sent_count", "email_opened_count"]

    answer = host.ask("POST", f"{LEADS}/metrics", {**asked, "metrics": names})

    assert answer.json() == {"total": dict(zip(names, (6, 6, 6, 0), strict=True))}
    assert host.ask("POST", f"{LEADS}/metrics", asked).json()["error"]["data"] == {
        "metrics": ["The metrics field is required."]
    }
    assert host.ask("POST", f"{LEADS}/metrics", {**asked, "metrics": ["calls"]}).status_code == 422


def test_enrichment_costs_credits_and_is_402_without(started: Started):
    host = started(sample=True, credits=2)
    ids = [each["uuid"] for each in host.there.rows("lead")]

    assert host.ask("PUT", f"{LEADS}/advanced-enrichment", {"uuids": ids[:2]}).json() == {"count": 2}
    answer = host.ask("PUT", f"{LEADS}/advanced-enrichment", {"uuids": ids[:1]})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (402, "payment_required")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/leads/api/leads/x"),
        ("PUT", "/leads/api/leads/x"),
        ("DELETE", "/leads/api/notes/x"),
        ("GET", "/leads/api/companies/x"),
        ("GET", "/flows/api/flows/x"),
        ("PUT", "/flows/api/flows/x/start"),
        ("PUT", "/flows/api/flows/leads/x/cancel-all"),
        ("GET", "/emails/api/emails/x"),
        ("DELETE", "/leads/api/leads-blacklist/x"),
        ("GET", "/integrations/api/webhooks/x"),
        ("GET", "/browsers/api/linkedin-browsers/9"),
        ("GET", "/id/api/teams/12"),
    ],
)
def test_what_is_not_there_is_404_in_the_envelope(host: Host, method: str, path: str):
    answer = host.ask(method, path, {} if method == "PUT" else None)

    assert answer.status_code == 404
    assert answer.json()["error"]["reason"] == "not_found"


# Companies, lists, tags, notes, blacklists, files


@pytest.mark.parametrize("path", ["/leads/api/lists", "/leads/api/tags", "/flows/api/flow-workspaces"])
def test_simple_records_are_made_listed_changed_and_deleted(host: Host, path: str):
    made = host.ask("POST", path, {"name": "Fresh"})

    changed = host.ask("PUT", f"{path}/{made.json()['uuid']}", {"name": "Stale"})
    names = [each["name"] for each in host.ask("GET", path).json()["data"]]
    gone = host.ask("DELETE", f"{path}/{made.json()['uuid']}")

    assert (made.status_code, changed.status_code, gone.status_code // 100) == (201, 200, 2)
    assert "Stale" in names
    assert "Stale" not in [each["name"] for each in host.ask("GET", path).json()["data"]]
    assert host.ask("POST", path, {}).status_code == 422


def test_a_note_belongs_to_a_lead_that_is_there(host: Host):
    lead = host.lead(work_email="jane@acme.example")["uuid"]

    made = host.ask("POST", "/leads/api/notes", {"object": "lead", "object_uuid": lead, "note": "Called."})

    assert (made.status_code, made.json()["note"]) == (201, "Called.")
    assert host.ask("GET", f"/leads/api/notes?filter[object_uuid]={lead}").json()["total"] == 1
    wrong = {"object": "lead", "object_uuid": "none", "note": "Called."}
    assert host.ask("POST", "/leads/api/notes", wrong).status_code == 404


def test_a_custom_field_has_a_proper_name_and_its_value_can_be_cleared(host: Host):
    lead, field = host.lead(work_email="jane@acme.example")["uuid"], host.first("custom_field", name="budget")["uuid"]
    value = {"custom_field_uuid": field, "object_type": "lead", "object_uuid": lead}

    assert host.ask("POST", "/leads/api/custom-fields", {"name": "1st", "object": "lead"}).status_code == 422
    assert host.ask("POST", "/leads/api/custom-field-values", {**value, "value": "9"}).status_code == 201
    assert host.ask("GET", f"{LEADS}/{lead}").json()["custom_fields"] == {"budget": "9"}
    host.ask("POST", "/leads/api/custom-field-values", {**value, "value": None})
    assert host.ask("GET", f"{LEADS}/{lead}").json()["custom_fields"] == {}


def test_companies_are_looked_up_under_one_of_two_names(started: Started):
    host = started(sample=True)
    wanted = [{"website": "https://lumen-optics.example"}]

    assert host.ask("POST", "/leads/api/companies/lookup", {"companies": wanted}).json()[0]["name"] == "Lumen Optics"
    assert host.ask("POST", "/leads/api/companies/lookup", {"lookups": wanted}).status_code == 422
    host.there.switch(company_lookup="lookups")
    assert host.ask("POST", "/leads/api/companies/lookup", {"lookups": wanted}).status_code == 200


def test_a_blacklist_needs_an_identifier_and_bars_from_flows(host: Host):
    lead, flow = host.lead(work_email="jane@acme.example")["uuid"], host.first("flow", status="on")["uuid"]

    assert host.ask("POST", "/leads/api/leads-blacklist", {}).status_code == 422
    barred = host.ask("POST", "/leads/api/leads-blacklist", {"email": "jane@acme.example"})
    assert barred.status_code == 201
    assert host.ask("POST", f"/flows/api/flows/{flow}/leads/{lead}").status_code == 422
    assert host.ask("DELETE", f"/leads/api/leads-blacklist/{barred.json()['uuid']}").status_code == 204
    assert host.ask("POST", f"/flows/api/flows/{flow}/leads/{lead}").status_code == 204


def test_csv_import_and_export_may_not_be_there(started: Started):
    wanted = {"filter": {"all": True}}
    host = started(sample=True)

    name = host.ask("POST", "/leads/api/file-exports/leads", wanted).json()["file_name"]

    assert "Jane Whitfield" in host.ask("POST", "/leads/api/file-exports/download", {"file_name": name}).text
    assert host.ask("POST", "/leads/api/file-imports/upload-csv", {"file": "x"}).status_code == 422
    host.there.switch(csv=False)
    assert host.ask("POST", "/leads/api/file-exports/leads", wanted).status_code == 404


# Flows and tasks


def test_a_lead_enters_a_flow_that_is_on_with_204(host: Host):
    lead, flow = host.lead(work_email="jane@acme.example")["uuid"], host.first("flow", status="on")["uuid"]

    answer = host.ask("POST", f"/flows/api/flows/{flow}/leads/{lead}", {})

    assert (answer.status_code, answer.content) == (204, b"")
    listed = host.ask("POST", "/flows/api/flows-leads/list", {"filter": {"lead_uuid": [lead]}}).json()
    assert [(each["flow_uuid"], each["status"]) for each in listed["data"]] == [(flow, "in_progress")]
    assert host.ask("GET", f"/flows/api/tasks?filter[lead_uuid]={lead}").json()["total"] == 1


def test_a_flow_that_is_off_or_has_no_enabled_sender_takes_nobody(host: Host):
    lead = host.lead(work_email="jane@acme.example")["uuid"]
    on, off = host.first("flow", status="on")["uuid"], host.first("flow", status="off")["uuid"]

    assert host.ask("POST", f"/flows/api/flows/{off}/leads/{lead}").status_code == 422
    host.ask("PUT", f"/flows/api/sender-profiles/{host.first('sender')['uuid']}/disable")
    assert host.ask("POST", f"/flows/api/flows/{on}/leads/{lead}").status_code == 422
    assert host.there.rows("flow_lead") == []


def test_entering_twice_changes_nothing_or_is_refused(started: Started):
    host = started()
    lead, flow = host.lead(work_email="jane@acme.example")["uuid"], host.first("flow", status="on")["uuid"]
    host.ask("POST", f"/flows/api/flows/{flow}/leads/{lead}")

    assert host.ask("POST", f"/flows/api/flows/{flow}/leads/{lead}").status_code == 204
    host.there.switch(enroll_twice="refuse")
    assert host.ask("POST", f"/flows/api/flows/{flow}/leads/{lead}").status_code == 422
    assert len(host.there.rows("flow_lead")) == 1


def test_leaving_a_flow_is_204_or_a_message(started: Started):
    host = started()
    lead, flow = host.lead(work_email="jane@acme.example")["uuid"], host.first("flow", status="on")["uuid"]
    host.ask("POST", f"/flows/api/flows/{flow}/leads/{lead}")

    answer = host.ask("PUT", f"/flows/api/flows/leads/{lead}/cancel", {"flow_uuids": [flow]})
    host.there.switch(done_answer="message")

    assert (answer.status_code, answer.content) == (204, b"")
    assert host.first("flow_lead")["status"] == "canceled"
    assert host.first("task")["status"] == "canceled"
    assert "message" in host.ask("PUT", f"/flows/api/flows/leads/{lead}/cancel-all").json()
    assert host.ask("PUT", f"/flows/api/flows/leads/{lead}/cancel", {}).status_code == 422


def test_a_new_lead_enters_a_flow_and_one_that_is_there_is_skipped(host: Host):
    flow = host.first("flow", status="on")["uuid"]
    body = {
        "lead": {"linkedin_id": "jane-s", "first_name": "Jane"},
        "list_uuid": host.first("list")["uuid"],
        "skip_if_lead_exists": True,
    }

    assert host.ask("POST", f"/flows/api/flows/{flow}/add-new-lead", body).status_code == 204
    again = host.ask("POST", f"/flows/api/flows/{flow}/add-new-lead", body)
    assert (again.status_code, again.json()) == (200, {"reason": "skipped"})


def test_an_archived_flow_is_not_started(host: Host):
    flow = host.first("flow", status="archived")["uuid"]

    assert host.ask("PUT", f"/flows/api/flows/{flow}/start").status_code == 422
    assert host.ask("PUT", f"/flows/api/flows/{flow}/unarchive").json()["status"] == "off"
    assert host.ask("PUT", f"/flows/api/flows/{flow}/start").json()["status"] == "on"


def test_only_manual_tasks_can_be_closed(host: Host):
    lead, flow = host.lead(work_email="jane@acme.example")["uuid"], host.first("flow", status="on")["uuid"]
    host.ask("POST", f"/flows/api/flows/{flow}/leads/{lead}")
    body = {
        "lead_uuid": lead,
        "sender_profile_uuid": host.first("sender")["uuid"],
        "text": "Hello.",
        "schedule_at": "2030-01-01T10:00:00Z",
    }

    made = host.ask("POST", "/flows/api/tasks", body)

    assert (made.status_code, made.json()["automation"]) == (201, "manual")
    assert host.ask("PUT", f"/flows/api/tasks/{made.json()['uuid']}/complete").json()["status"] == "closed"
    automatic = host.first("task", automation="auto")["uuid"]
    assert host.ask("PUT", f"/flows/api/tasks/{automatic}/complete").status_code == 422
    assert sorted(host.ask("POST", "/flows/api/tasks", {}).json()["error"]["data"]) == sorted(body)


# Messages


@pytest.mark.parametrize("path", [MESSAGES, "/flows/api/messages"])
def test_a_linkedin_message_is_queued_then_done(host: Host, path: str):
    lead = host.lead(linkedin_id="jane-s")["uuid"]
    body = {"sender_profile_uuid": host.first("sender")["uuid"], "lead_uuid": lead, "text": "Hello."}

    made = host.ask("POST", path, body)

    assert (made.status_code, made.json()["status"], made.json()["sent_at"]) == (201, "new", None)
    row = host.ask("GET", f"{MESSAGES}?filter[lead_uuid]={lead}&order_field=sent_at").json()["data"][0]
    assert row["status"] == "done"
    assert row["sent_at"] != row["created_at"]


def test_a_message_to_somebody_who_is_not_connected_fails_and_can_be_retried(started: Started):
    host = started(delivery="held")
    body = {
        "sender_profile_uuid": host.first("sender")["uuid"],
        "lead_uuid": host.lead(work_email="jane@acme.example")["uuid"],
        "text": "Hello.",
    }
    message = host.ask("POST", MESSAGES, body).json()["uuid"]

    assert host.ask("GET", MESSAGES).json()["data"][0]["status"] == "new"
    host.there.work()
    assert host.ask("GET", MESSAGES).json()["data"][0]["status"] == "failed"
    assert host.ask("PUT", f"{MESSAGES}/{message}/retry").json()["status"] == "new"


def test_a_message_needs_text_of_8000_characters_at_most_and_an_enabled_sender(host: Host):
    one, disabled = (each["uuid"] for each in host.there.rows("sender"))
    body = {"sender_profile_uuid": one, "lead_uuid": host.lead(linkedin_id="jane-s")["uuid"]}

    assert host.ask("POST", MESSAGES, body).json()["error"]["data"].keys() == {"text"}
    assert host.ask("POST", MESSAGES, {**body, "text": "x" * 8_001}).status_code == 422
    assert host.ask("POST", MESSAGES, {**body, "text": "x", "sender_profile_uuid": disabled}).status_code == 422
    assert host.there.rows("message") == []


def test_an_email_leaves_from_an_active_mailbox(host: Host):
    active, inactive = (each["uuid"] for each in host.there.rows("mailbox"))
    lead = host.lead(work_email="jane@acme.example")["uuid"]
    to = [{"to_email": "jane@acme.example", "to_name": "Jane"}]
    body = {"mailbox_uuid": active, "to": to, "subject": "Hi", "body": "<p>Hello</p>", "lead_uuid": lead}

    made = host.ask("POST", EMAIL, body)

    assert made.status_code == 201
    assert made.json()["emailDomain"]["to_email"] == "jane@acme.example"
    assert made.json()["emailBodyDomain"]["body"] == "<p>Hello</p>"
    assert host.ask("POST", EMAIL, {**body, "mailbox_uuid": inactive}).status_code == 422
    wrong = host.ask("POST", EMAIL, {**body, "to": [{"to_email": "nobody"}]})
    assert wrong.json()["error"]["data"].keys() == {"to.0.to_email"}


def test_an_email_has_one_of_two_shapes(started: Started):
    host = started(email_shape="sender")
    older = {
        "sender_profile_uuid": host.first("sender")["uuid"],
        "lead_uuid": host.lead(work_email="jane@acme.example")["uuid"],
        "from_name": "Robin Sender",
        "from_email": "robin@sandbox.example",
        "to_name": "Jane",
        "to_email": "jane@acme.example",
        "subject": "Hi",
        "body": "Hello",
    }

    assert host.ask("POST", EMAIL, {"mailbox_uuid": "x"}).status_code == 422
    assert host.ask("POST", EMAIL, older).status_code == 201
    host.there.switch(email_shape="mailbox")
    assert host.ask("POST", EMAIL, older).status_code == 422
    host.there.switch(email_shape="both")
    assert host.ask("POST", EMAIL, older).status_code == 201


# Webhooks, browsers, paths


def test_a_webhook_takes_one_known_event_and_answers_in_one_of_two_shapes(started: Started):
    host = started()
    body = {"name": "Replies", "event": "contact_replied_email", "target_url": "https://hook.example/token"}

    wrapped = host.ask("POST", "/integrations/api/webhooks", body)
    host.there.switch(webhook_answer="flat")
    flat = host.ask("POST", "/integrations/api/webhooks", body)

    assert (wrapped.status_code, flat.status_code) == (201, 201)
    assert wrapped.json()["data"]["event"] == flat.json()["event"] == "contact_replied_email"
    assert host.ask("POST", "/integrations/api/webhooks", {**body, "event": "anything"}).status_code == 422
    assert host.ask("DELETE", f"/integrations/api/webhooks/{flat.json()['uuid']}").status_code == 204


def test_the_payload_of_an_event_has_the_contact_and_its_stage(started: Started):
    host = started(sample=True)

    told = host.there.event("contact_replied_email", host.first("lead")["uuid"])

    assert told["event_name"] == "contact_replied_email"
    assert (told["contact"]["name"], told["contact"]["pipeline_stage_name"]) == ("Jane Whitfield", "New")
    assert told["account"]["name"] == "Acme Robotics"


def test_a_browser_starts_and_stops(host: Host):
    assert host.ask("POST", "/browsers/api/linkedin-browsers/1/run").status_code == 204
    assert host.ask("GET", "/browsers/api/linkedin-browsers/1").json()["status"] == "running"


@pytest.mark.parametrize(
    ("switch", "first", "second"),
    [
        ("webhooks_path", "/integrations/api/webhooks", "/integrations/c1/api/webhooks"),
        ("lead_blacklist_path", "/leads/api/leads-blacklist", "/leads/api/blacklist/leads"),
        ("company_blacklist_path", "/leads/api/companies-blacklist", "/leads/api/blacklist/companies"),
        ("agents_path", "/flows/api/ai-agents", "/ai/api/agents"),
        ("templates_path", "/flows/api/ai-templates", "/ai/api/templates"),
    ],
)
def test_sources_name_two_paths_for_some_things(started: Started, switch: str, first: str, second: str):
    host = started()

    assert [host.ask("GET", each).status_code for each in (first, second)] == [200, 404]
    host.there.switch(**{switch: "second"})
    assert [host.ask("GET", each).status_code for each in (first, second)] == [404, 200]
    host.there.switch(**{switch: "both"})
    assert [host.ask("GET", each).status_code for each in (first, second)] == [200, 200]


def test_the_sample_is_the_same_in_every_run(started: Started):
    one, two = (started(sample=True, clock=lambda: 1_800_000_000.0) for _ in range(2))

    assert one.there.tables == two.there.tables
    assert [len(one.there.rows(kind)) for kind in ("lead", "company", "message", "email", "note")] == [12, 6, 12, 6, 6]


def test_an_account_without_the_sample_has_what_is_needed_to_begin(host: Host):
    kinds = ("lead", "list", "stage", "flow", "sender", "mailbox", "tag", "custom_field")

    assert [len(host.there.rows(kind)) for kind in kinds] == [0, 2, 12, 3, 2, 2, 2, 3]
