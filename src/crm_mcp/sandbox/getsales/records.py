"""The records beside contacts: what is listed, made, changed and deleted alike stands in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from crm_mcp.sandbox.emulator import Answer, Call, Refusal, route
from crm_mcp.sandbox.getsales.account import Row, each_of, invalid
from crm_mcp.sandbox.getsales.flows import SCHEDULE, Flows

COMPANY = dict.fromkeys(
    (
        "name", "domain", "website", "linkedin", "industry", "employees_range", "hq_raw_address", "phone", "about",
        "facebook", "twitter", "logo_url", "tagline",
    ),
    "string",
) | {"deal_size": "integer", "year_established": "integer"}  # fmt: skip
COMPANY_FILTERS = frozenset({
    "q", "name", "domain", "linkedin", "ln_id", "lists", "tags", "status", "linkedin_status", "pipeline_stage_uuid",
    "data_source_uuid", "deal_size", "industry", "created_at", "updated_at",
})  # fmt: skip
SOURCE_TYPES = (
    "csv_leads,sn_leads_search,sn_leads_saved_search,sn_leads_list,sn_accounts_search,sn_accounts_saved_search,"
    "sn_accounts_list,ln_leads_search,ln_accounts_search,ln_my_network,ln_my_messenger,post_engagement,"
    "recruiter_leads_search"
)


@dataclass(frozen=True)
class Kept:
    """A kind of record that is kept in the same way as others."""

    kind: str
    create: Mapping[str, str]
    """Its fields when it is made, with the rule of each."""
    change: Mapping[str, str]
    filters: tuple[str, ...] = ("q", "uuid", "name")
    initial: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What its fields are where nothing is given."""


KEPT: dict[str, Kept] = {
    "/leads/api/lists": Kept("list", {"name": "required|string"}, {"name": "required|string"}),
    "/leads/api/tags": Kept(
        "tag",
        {"name": "required|string", "color": "string"},
        {"name": "string", "color": "string"},
        initial={"color": None},
    ),
    "/leads/api/custom-fields": Kept(
        "custom_field",
        {"name": "required|string", "object": "required|in:lead,company", "order": "integer"},
        {"name": "string", "order": "integer"},
        ("q", "uuid", "name", "object"),
        {"order": 1},
    ),
    "/leads/api/pipeline-stages": Kept(
        "stage",
        {
            "name": "required|string",
            "object": "required|in:lead,company",
            "category": "required|in:cold,engaging,positive,negative",
            "order": "integer",
        },
        {"name": "string", "category": "in:cold,engaging,positive,negative", "order": "integer"},
        ("object", "type"),
        {"order": 99, "type": "custom"},
    ),
    "/leads/api/notes": Kept(
        "note",
        {"object": "required|in:lead,company", "object_uuid": "required|string", "note": "required|string"},
        {"note": "required|string"},
        ("object", "object_uuid", "uuid", "user_id", "created_at"),
        {"user_id": 20},
    ),
    "/leads/api/data-sources": Kept(
        "data_source",
        {
            "type": f"required|in:{SOURCE_TYPES}",
            "list_uuid": "required|exists:list",
            "payload": "object",
            "tags": "array",
        },
        {"type": f"in:{SOURCE_TYPES}", "list_uuid": "exists:list", "payload": "object", "tags": "array"},
        ("q", "uuid", "type", "status", "list_uuid"),
        {"status": "not_started", "errors": []},
    ),
    "/flows/api/flow-workspaces": Kept(
        "workspace",
        {"name": "required|string", "order": "integer"},
        {"name": "string", "order": "integer"},
        initial={"order": 1},
    ),
    "/flows/api/sender-profiles": Kept(
        "sender",
        {
            "first_name": "required|string",
            "last_name": "required|string",
            "assignee_user_id": "required|integer",
            "label": "string",
            "linkedin_schedule": "object",
            "email_schedule": "object",
        },
        {"first_name": "string", "last_name": "string", "label": "string", "schedule": "object"},
        ("q", "uuid", "status", "label"),
        {
            "label": None,
            "status": "enabled",
            "linkedin_browser_id": None,
            "linkedin_account_uuid": None,
            "mailbox_uuid": None,
            "schedule": SCHEDULE,
            "smart_limits_enabled": True,
        },
    ),
    "/flows/api/ai-agents": Kept(
        "agent",
        {
            "name": "required|string",
            "description": "string",
            "avatar_url": "string",
            "classification_llm_uuid": "string",
            "classification_llm_config": "object",
            "classification_prompt": "string",
        },
        {
            "name": "string",
            "description": "string",
            "avatar_url": "string",
            "classification_llm_uuid": "string",
            "classification_llm_config": "object",
            "classification_prompt": "string",
        },
    ),
    "/flows/api/ai-templates": Kept(
        "template",
        {
            "name": "required|string",
            "type": "required|in:message,connection_note,email,post_comment",
            "is_public": "required|boolean",
            "subject": "string",
            "body": "string",
            "prompt": "string",
            "llm_uuid": "string",
            "llm_config": "object",
            "enable_validation": "boolean",
            "enable_fallback": "boolean",
            "settings": "object",
        },
        {
            "name": "string",
            "subject": "string",
            "body": "string",
            "prompt": "string",
            "llm_uuid": "string",
            "llm_config": "object",
            "enable_validation": "boolean",
            "enable_fallback": "boolean",
            "settings": "object",
        },
        ("q", "uuid", "name", "type"),
    ),
    "/leads/api/leads-blacklist": Kept(
        "lead_block",
        {"linkedin": "string", "email": "email", "name": "string", "company_name": "string"},
        {},
        ("q", "uuid", "name", "email", "linkedin"),
        {"linkedin": None, "email": None, "name": None, "company_name": None, "ln_id": None},
    ),
    "/leads/api/companies-blacklist": Kept(
        "company_block",
        {"linkedin": "string", "domain": "string", "name": "string"},
        {},
        ("q", "uuid", "name", "domain", "linkedin"),
        {"linkedin": None, "domain": None, "name": None, "ln_id": None},
    ),
}

LISTED = tuple(path for path in KEPT if path != "/leads/api/pipeline-stages")
BLOCKS = ("/leads/api/leads-blacklist", "/leads/api/companies-blacklist")
READ = (
    "/leads/api/lists", "/leads/api/data-sources", "/flows/api/sender-profiles", "/flows/api/ai-agents",
    "/flows/api/ai-templates",
)  # fmt: skip
"""Which of them have a documented way to read one."""
CHANGED = tuple(path for path in KEPT if path not in BLOCKS)


class Records(Flows):
    """Companies, lists, tags, stages, custom fields, notes, activities, blacklists, data sources, files, AI."""

    @each_of("GET", LISTED)
    def list_kept(self, call: Call) -> Answer:
        """List the records of a kind."""
        kept = KEPT[call.path]
        return Answer(self.page(call.query, self.selected(self.rows(kept.kind), self.asked(call), kept.filters)))

    @each_of("POST", KEPT)
    def create_kept(self, call: Call) -> Answer:
        """Make a record: 201."""
        kept = KEPT[call.path]
        given = self.checked(call.body, kept.create)
        if call.path in BLOCKS and not any(given.get(name) for name in ("linkedin", "email", "domain", "name")):
            raise invalid({"linkedin": ["Give one identifier at least."]})
        if kept.kind == "note":
            self.find(given["object"], given["object_uuid"])
        if kept.kind == "custom_field":
            self._new_field(given)
        return Answer(self.make(kept.kind, **{**kept.initial, **given}), 201)

    @each_of("GET", READ, "/{uuid}")
    def get_kept(self, call: Call, uuid: str) -> Answer:
        """Read one record."""
        return Answer(self.find(_kept(call).kind, uuid))

    @each_of("PUT", CHANGED, "/{uuid}")
    def update_kept(self, call: Call, uuid: str) -> Answer:
        """Change a record."""
        kept = _kept(call)
        return Answer(self.change(self.find(kept.kind, uuid), self.checked(call.body, kept.change)))

    @each_of("DELETE", KEPT, "/{uuid}")
    def delete_kept(self, call: Call, uuid: str) -> Answer:
        """Delete a record; of a data source and a folder the sister platform answers 200."""
        kind = _kept(call).kind
        answer = self.drop(kind, uuid)
        if kind == "tag":
            for row in self.rows("lead"):
                row["tags"] = [each for each in row["tags"] if each != uuid]
        return Answer() if kind in ("data_source", "workspace") else answer

    @route("GET", "/leads/api/pipeline-stages")
    def list_stages(self, call: Call) -> Answer:
        """List stages in their order; the filter by object is required (found in a public client)."""
        wanted = self.asked(call, json_filter=self.switches["stage_filter"] == "json")
        if wanted.get("object") not in ("lead", "company"):
            raise invalid({"filter.object": ["The filter.object field is required."]})
        rows = self.selected(self.rows("stage"), wanted, ("object", "type"))
        return Answer({"data": sorted(rows, key=lambda row: row["order"])})

    @route("POST", "/leads/api/custom-field-values")
    def set_custom_value(self, call: Call) -> Answer:
        """Write the value of a custom field; null clears it."""
        given = self.checked(
            call.body,
            {
                "custom_field_uuid": "required|exists:custom_field",
                "object_type": "required|in:lead,company",
                "object_uuid": "required|string",
                "value": "string",
            },
        )
        self.find(given["object_type"], given["object_uuid"])
        held = self.set_custom(
            given["custom_field_uuid"], given["object_type"], given["object_uuid"], given.get("value")
        )
        return Answer(held, 201)

    @route("GET", "/leads/api/activities")
    def list_activities(self, call: Call) -> Answer:
        """List the activity feed; the filter is a JSON string and required."""
        known = ("type", "lead_uuid", "company_uuid", "object_uuid", "object_type", "created_at")
        return Answer(
            self.page(call.query, self.selected(self.rows("activity"), self.asked(call, json_filter=True), known))
        )

    @route("POST", "/leads/api/activities")
    def create_activity(self, call: Call) -> Answer:
        """Log an activity."""
        given = self.checked(
            call.body,
            {
                "object_uuid": "required|string",
                "object_type": "required|in:lead,company",
                "type": "required|string",
                "payload": "object",
            },
        )
        self.find(given["object_type"], given["object_uuid"])
        link = {f"{given['object_type']}_uuid": given["object_uuid"]}
        return Answer(self.make("activity", **{"payload": {}, **given}, **link), 201)

    @route("POST", "/leads/api/lists/metrics")
    def list_metrics(self, call: Call) -> Answer:
        """Count the contacts of lists."""
        uuids = cast("list[str]", self.checked(call.body, {"uuids": "required|array"})["uuids"])
        return Answer({uuid: {"leads_count": len(self.rows("lead", list_uuid=uuid))} for uuid in uuids})

    @route("POST", "/leads/api/tags/metrics")
    def tag_metrics(self, call: Call) -> Answer:
        """Count what has tags."""
        given = self.checked(call.body, {"uuids": "required|array", "metrics": "required|array"})
        tables = {"leads_count": "lead", "companies_count": "company"}
        return Answer(
            {
                uuid: {
                    name: sum(uuid in row["tags"] for row in self.rows(kind))
                    for name, kind in tables.items()
                    if name in given["metrics"]
                }
                for uuid in cast("list[str]", given["uuids"])
            }
        )

    @route("PUT", "/leads/api/data-sources/metrics")
    def data_source_metrics(self, call: Call) -> Answer:
        """Count what data sources brought."""
        uuids = cast("list[str]", self.checked(call.body, {"uuids": "required|array"})["uuids"])
        names = ("queued_records", "saved_records", "duplicate_records", "blacklisted_records", "error_records")
        return Answer({uuid: dict.fromkeys(names, 0) for uuid in uuids})

    @route("GET", "/leads/api/enrichment-queue")
    def enrichment_queue(self, call: Call) -> Answer:
        """List what is queued for enrichment."""
        return Answer(self.page(call.query, self.rows("enrichment")))

    @route("POST", "/leads/api/enrichment-queue/metrics")
    def enrichment_metrics(self, _: Call) -> Answer:
        """Count this month's enrichments."""
        return Answer({"this_month_count": len(self.rows("enrichment"))})

    @route("GET", "/leads/api/companies")
    def list_companies(self, call: Call) -> Answer:
        """List companies."""
        rows = self.selected(self.rows("company"), self.asked(call), COMPANY_FILTERS, ("name", "domain"))
        return Answer(self.page(call.query, rows))

    @route("POST", "/leads/api/companies/list")
    def search_companies(self, call: Call) -> Answer:
        """Search companies."""
        body = self.checked(
            call.body,
            {
                "filter": "object",
                "limit": "integer",
                "offset": "integer",
                "order_field": "string",
                "order_type": "in:asc,desc",
            },
        )
        rows = self.selected(self.rows("company"), body.get("filter"), COMPANY_FILTERS, ("name", "domain"))
        return Answer(self.page(body, rows, search=True))

    @route("GET", "/leads/api/companies/{company}")
    def get_company(self, _: Call, company: str) -> Answer:
        """Read one company."""
        return Answer(self.find("company", company))

    @route("POST", "/leads/api/companies")
    def create_companies(self, call: Call) -> Answer:
        """Create companies in lists."""
        body = self.checked(
            call.body, {"companies": "required|array", "list_uuids": "array", "data_source_uuid": "exists:data_source"}
        )
        rules = {**COMPANY, "name": "required|string"}
        checked = [
            self.checked(each, rules, f"companies.{place}.")
            for place, each in enumerate(cast("list[Any]", body["companies"]))
        ]
        return Answer([self.make_company(lists=body.get("list_uuids") or [], **each) for each in checked])

    @route("PUT", "/leads/api/companies/{company}")
    def update_company(self, call: Call, company: str) -> Answer:
        """Change a company, its stage too."""
        rules = {**COMPANY, "pipeline_stage_uuid": "exists:stage"}
        return Answer(self.change(self.find("company", company), self.checked(call.body, rules)))

    @route("DELETE", "/leads/api/companies/{company}")
    def delete_company(self, _: Call, company: str) -> Answer:
        """Delete a company."""
        return self.drop("company", company)

    @route("POST", "/leads/api/companies/lookup")
    def look_up_companies(self, call: Call) -> Answer:
        """Find companies by LinkedIn id or page, website, or name; two sources name the key of the body."""
        key = self.switches["company_lookup"]
        wanted = cast("list[Row]", self.checked(call.body, {key: "required|array"})[key])
        names = ("ln_id", "linkedin", "website", "name")
        return Answer(
            [
                row
                for row in self.rows("company")
                if any(each.get(name) and str(each[name]) == str(row.get(name)) for each in wanted for name in names)
            ]
        )

    @route("POST", "/leads/api/companies/leads")
    def company_leads(self, call: Call) -> Answer:
        """Return the contacts of companies."""
        uuids = cast("list[str]", self.checked(call.body, {"uuids": "required|array"})["uuids"])
        return Answer({uuid: self.rows("lead", company_uuid=uuid) for uuid in uuids})

    @route("PUT", "/leads/api/companies/advanced-enrichment")
    def enrich_companies(self, call: Call) -> Answer:
        """Queue enrichment, which costs credits; 402 without."""
        body = self.checked(call.body, {"uuids": "array", "filter": "object"})
        chosen = self._companies({"ids": body["uuids"]} if body.get("uuids") else body.get("filter") or {})
        self.pay(len(chosen))
        return Answer({"count": len(chosen)})

    @route("PUT", "/leads/api/companies/mass-action")
    def company_mass_action(self, call: Call) -> Answer:
        """Do something with many companies."""
        valid = "company_add_tags,company_remove_tags,company_replace_tags,company_change_pipeline_stage,company_delete"
        body = self.checked(
            call.body, {"type": f"required|in:{valid}", "filter": "required|object", "payload": "object"}
        )
        payload = cast("Row", body.get("payload") or {})
        for row in self._companies(body["filter"]):
            match body["type"]:
                case "company_delete":
                    del self.tables["company"][row["uuid"]]
                case "company_change_pipeline_stage":
                    rules = {"pipeline_stage_uuid": "required|exists:stage"}
                    self.change(row, self.checked(payload, rules, "payload."))
                case action:
                    self.tagged(action, row, payload)
        return Answer()

    @route("POST", "/leads/api/file-imports/upload-csv")
    def upload_csv(self, call: Call) -> Answer:
        """Take a CSV file, which comes as multipart/form-data."""
        if not call.headers.get("content-type", "").startswith("multipart/form-data"):
            raise invalid({"file": ["The file field is required."]})
        return Answer(self.make("file_import", type="csv_leads", payload={"delimiter": ","}, status="uploaded"))

    @route("POST", "/leads/api/file-imports/{upload}/import-leads")
    @route("POST", "/leads/api/file-imports/{upload}/import-companies")
    def import_file(self, call: Call, upload: str) -> Answer:
        """Start to import what was uploaded."""
        self.checked(call.body, {"columns": "required|array", "list_uuid": "exists:list", "tags": "array"})
        return Answer(self.change(self.find("file_import", upload), {"status": "in_progress"}))

    @route("POST", "/leads/api/file-exports/leads")
    @route("POST", "/leads/api/file-exports/companies")
    def export_file(self, call: Call) -> Answer:
        """Queue an export; here it is done at once."""
        wanted = self.checked(call.body, {"filter": "required|object"})["filter"]
        kind = "contact" if call.path.endswith("leads") else "account"
        row = self.make("file_export", type=f"{kind}_export_csv", filter=wanted, status="queued")
        return Answer(self.change(row, {"file_name": f"{kind}s-{row['uuid']}.csv"}))

    @route("POST", "/leads/api/file-exports/download")
    def download_export(self, call: Call) -> Answer:
        """Give an export; the emulator speaks JSON alone, so the text stands in a string."""
        name = self.checked(call.body, {"file_name": "required|string"})["file_name"]
        if not self.rows("file_export", file_name=name):
            raise Refusal(404, "File not found.")
        kind = "lead" if name.startswith("contacts") else "company"
        return Answer("\n".join(["name", *(str(row["name"]) for row in self.rows(kind))]))

    @route("POST", "/flows/api/ai-templates/render")
    def render_template(self, call: Call) -> Answer:
        """Fill a template for a contact and a sender profile; nothing is sent."""
        given = self.checked(
            call.body,
            {
                "lead_uuid": "required|exists:lead",
                "sender_profile_uuid": "required|exists:sender",
                "uuid": "exists:template",
                "body": "string",
                "subject": "string",
                "type": "string",
                "prompt": "string",
            },
        )
        lead, template = self.find("lead", given["lead_uuid"]), self.tables["template"].get(given.get("uuid", ""), {})
        body = str(given.get("body") or template.get("body") or "")
        for name in ("first_name", "last_name", "company_name"):
            body = body.replace(f"{{{{{name}}}}}", str(lead.get(name) or ""))
        return Answer({"rendered_body": body, "ai_generated_body": None, "fallback_body": None, "handling_error": None})

    def make_company(self, **fields: Any) -> Row:
        """Add a company."""
        stages = self.rows("stage", object="company")
        initial: Row = {**dict.fromkeys(COMPANY), "lists": [], "tags": [], "status": "ok", "linkedin_status": "ok"}
        return self.make(
            "company", **{**initial, "pipeline_stage_uuid": stages[0]["uuid"] if stages else None, **fields}
        )

    def _companies(self, wanted: Any) -> list[Row]:
        given = cast("Row", wanted)
        ids = cast("list[Any]", given.get("ids") or [])
        excluded = cast("list[Any]", given.get("excludeIds") or [])
        rows = self.rows("company")
        return [row for row in rows if (given.get("all") or row["uuid"] in ids) and row["uuid"] not in excluded]

    def _new_field(self, given: Row) -> None:
        if not given["name"].replace("_", "a").isalnum() or given["name"][0].isdigit():
            raise invalid({"name": ["The name has other signs than letters, digits and underscores."]})
        if len(self.rows("custom_field", object=given["object"])) >= 100:
            raise invalid({"object": ["There may be 100 custom fields of an object."]})


def _kept(call: Call) -> Kept:
    return KEPT[call.path.rpartition("/")[0]]
