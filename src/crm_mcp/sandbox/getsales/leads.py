"""Contacts: search, look-up, creation, upsert, mass actions, counts, metrics, enrichment."""

from __future__ import annotations

import re
from typing import Any, cast

from crm_mcp.sandbox.emulator import Answer, Call, Refusal, route
from crm_mcp.sandbox.getsales.account import Account, Row, given_in, instant, invalid

LEAD_FIELDS: dict[str, str] = {
    **dict.fromkeys(
        (
            "first_name", "last_name", "name", "company_name", "position", "headline", "about", "work_phone_number",
            "personal_phone_number", "raw_address", "linkedin_id", "linkedin", "facebook", "twitter", "avatar",
            "domain", "ln_id", "sn_id",
        ),
        "string",
    ),
    **dict.fromkeys(("work_email", "personal_email", "email"), "email"),
}  # fmt: skip
"""What can be written: found in public clients; `email`, `domain`, `ln_id` and `sn_id` are older names."""

LEAD_FILTERS = frozenset({
    "q", "list_uuid", "company_name", "company_uuid", "pipeline_stage_uuid", "sender_profile_uuid", "tags", "status",
    "linkedin_status", "email_status", "work_email_domain", "data_source_uuid", "created_at", "updated_at", "name",
})  # fmt: skip
LEAD_TEXT = ("name", "work_email", "personal_email", "position", "headline", "about")
"""Where `q` looks: found in a public client."""
LEAD_NUMBERS = ("work_phone_number", "personal_phone_number")
"""Where it may look as well, by switch."""

METRICS = (
    "linkedin_connection_request_sent_count", "linkedin_connection_request_accepted_count", "linkedin_sent_count",
    "linkedin_opened_count", "linkedin_inbox_count", "linkedin_inmail_sent_count", "linkedin_inmail_replied_count",
    "linkedin_positive_count", "email_sent_count", "email_opened_count", "email_clicked_count", "email_bounced_count",
    "email_unsubscribed_count", "email_inbox_count", "email_positive_count",
)  # fmt: skip

COUNTED_ACTIVITIES = (
    "linkedin_connection_request_sent", "linkedin_connection_request_accepted", "linkedin_positive", "email_opened",
    "email_clicked", "email_bounced", "email_unsubscribed", "email_positive",
)  # fmt: skip

TAG_ACTIONS = {
    "add_tags": ("contact_add_tags", "contact_remove_tags", "contact_replace_tags", "contact_change_list"),
    "assign_tag": ("contact_assign_tag", "contact_remove_tag", "contact_replace_tags", "contact_move_to_list"),
}
"""Two sources name these mass actions differently."""
ACTIONS = (
    "contact_change_pipeline_stage", "contact_change_custom_field", "contact_add_to_flow", "contact_cancel_from_flows",
    "contact_delete", "contact_export_csv", "contact_mark_read",
)  # fmt: skip


class Leads(Account):
    """The group Contacts, which the API calls leads."""

    @route("GET", "/leads/api/leads")
    def list_leads(self, call: Call) -> Answer:
        """List contacts (found in public scripts only)."""
        rows = self.selected(self.rows("lead"), self.asked(call), LEAD_FILTERS, self._searched())
        return Answer(self._leads(self.page(call.query, rows), call.query))

    @route("POST", "/leads/api/leads/search")
    def search_leads(self, call: Call) -> Answer:
        """Search contacts."""
        body = self.checked(
            call.body,
            {
                "filter": "object",
                "limit": "integer",
                "offset": "integer",
                "order_field": "string",
                "order_type": "in:asc,desc",
                "disable_aggregation": "boolean",
            },
        )
        rows = [{**row, "work_email_domain": _domain(row)} for row in self.rows("lead")]
        chosen = self.selected(rows, body.get("filter"), LEAD_FILTERS, self._searched())
        return Answer(self._leads(self.page(body, chosen, search=True), body))

    @route("POST", "/leads/api/leads/lookup-one")
    def look_up(self, call: Call) -> Answer:
        """Find one contact by LinkedIn id, e-mail address, or name and company."""
        rules = {"linkedin_id": "string", "email": "email", "name": "string", "company_name": "string"}
        given = self.checked(call.body, rules)
        if not (given.get("linkedin_id") or given.get("email") or (given.get("name") and given.get("company_name"))):
            raise invalid({"linkedin_id": ["Give linkedin_id, email, or name and company_name."]})
        found = self._twin({name: value for name, value in given.items() if value})
        if found is None:
            raise Refusal(404, "No query results for lead.")
        return Answer(self._single(found, given_in(call)))

    @route("GET", "/leads/api/leads/{lead}")
    def get_lead(self, call: Call, lead: str) -> Answer:
        """Read one contact."""
        answer = Answer(self._single(dict(self.find("lead", lead)), call.query))
        self.finish_actions()
        return answer

    @route("POST", "/leads/api/leads")
    def create_leads(self, call: Call) -> Answer:
        """Create contacts in a list."""
        body = self.checked(
            call.body, {"list_uuid": "required|string|exists:list", "leads": "required|array", "source": "string"}
        )
        faults: dict[str, list[str]] = {}
        good: list[tuple[Row, Any]] = []
        for place, each in enumerate(cast("list[Any]", body["leads"])):
            try:
                fields = self._writable(each, f"leads.{place}.")
                self._identified(fields, f"leads.{place}.")
            except Refusal as refusal:
                faults |= refusal.more["data"]
            else:
                good.append((fields, each))
        if faults and (self.switches["create_partial"] == "refuse" or not good):
            raise invalid(faults)
        return Answer([self.told(self._made_or_there(fields, each, body["list_uuid"])) for fields, each in good])

    @route("POST", "/leads/api/leads/upsert")
    def upsert_lead(self, call: Call) -> Answer:
        """Create a contact, or update the one that is there."""
        return Answer(self.told(self.upserted(call.body)[0]))

    @route("PUT", "/leads/api/leads/{lead}")
    def update_lead(self, call: Call, lead: str) -> Answer:
        """Change a contact's standard fields. Custom fields, tags and the stage are ignored, or not, by switch."""
        row = self.find("lead", lead)
        given = given_in(call)
        self.written(row, self._writable(given))
        if self.switches["put_custom_fields"] == "saved":
            self.save_custom(row, given.get("custom_fields"))
        return Answer(row)

    @route("DELETE", "/leads/api/leads/{lead}")
    def delete_lead(self, _: Call, lead: str) -> Answer:
        """Delete a contact; a job in the background does it, which may take its time."""
        self.find("lead", lead)
        self.leaving.append(lead)
        if self.switches["deletion"] == "at_once":
            self.finish_deletions()
        return self.done("Lead deleted")

    @route("PUT", "/leads/api/leads/mass-action")
    def mass_action(self, call: Call) -> Answer:
        """Do something with many contacts. The answer's body is not documented: there is none."""
        valid = (*ACTIONS, *TAG_ACTIONS[self.switches["tag_actions"]])
        body = self.checked(
            call.body, {"type": f"required|in:{','.join(valid)}", "filter": "required|object", "payload": "object"}
        )
        payload = cast("Row", body.get("payload") or {})
        for row in self._meant(cast("Row", body["filter"])):
            self.waiting.append((body["type"], row, payload))
        if self.switches["mass_actions"] == "at_once":
            self.finish_actions()
        return Answer()

    @route("POST", "/leads/api/leads/count")
    def count_leads(self, call: Call) -> Answer:
        """Count contacts; two sources give two shapes."""
        given = given_in(call)
        if self.switches["count_shape"] == "all":
            if not given.get("all") and not given.get("ids"):
                raise invalid({"ids": ["The ids field is required when all is false."]})
            chosen = self._meant({"all": given.get("all"), "ids": given.get("ids")})
            return Answer({"total": len(self.selected(chosen, given.get("filter"), LEAD_FILTERS, self._searched()))})
        wanted = self.checked(given, {"filter": "required|object"})["filter"]
        chosen = self.selected(self._meant(wanted), wanted.get("leadFilter"), LEAD_FILTERS, self._searched())
        return Answer({"count": len(chosen)})

    @route("POST", "/leads/api/leads/metrics")
    def lead_metrics(self, call: Call) -> Answer:
        """Count what outreach achieved in a period."""
        body = self.checked(
            call.body,
            {
                "period_from": "required|date",
                "period_to": "required|date",
                "metrics": "required|array",
                "flows": "array",
            },
        )
        for name in body["metrics"]:
            if name not in METRICS:
                raise invalid({"metrics": ["The selected metrics is invalid."]})
        first, last = instant(body["period_from"]), instant(body["period_to"])
        assert first is not None
        assert last is not None
        counted: dict[str, int] = dict.fromkeys(METRICS, 0)
        for name, at, flow in self._counted():
            moment = instant(at)
            if moment and first <= moment <= last and (not body.get("flows") or flow in body["flows"]):
                counted[name] += 1
        return Answer({"total": {name: counted[name] for name in body["metrics"]}})

    @route("PUT", "/leads/api/leads/advanced-enrichment")
    def enrich_leads(self, call: Call) -> Answer:
        """Queue enrichment, which costs a credit a contact; 402 without."""
        body = self.checked(call.body, {"uuids": "array", "filter": "object"})
        if not body.get("uuids") and not body.get("filter"):
            raise invalid({"uuids": ["The uuids field is required when filter is not present."]})
        chosen = self._meant({"ids": body.get("uuids")} if body.get("uuids") else cast("Row", body["filter"]))
        self.pay(len(chosen))
        for row in chosen:
            self.make("enrichment", object="lead", object_uuid=row["uuid"], status="queued")
        return Answer({"count": len(chosen)})

    def pay(self, cost: int) -> None:
        """Take credits; 402 where there are too few."""
        if cost > self.credits:
            raise Refusal(402, "Insufficient credits.")
        self.credits -= cost

    def upserted(self, body: Any) -> tuple[Row, bool]:
        """Create a contact or update it; returns it and whether it was there."""
        asked = self.checked(
            body,
            {
                "lead": "required|object",
                "list_uuid": "required|string|exists:list",
                "custom_fields": "object",
                "update_if_exists": "boolean",
                "move_to_list": "boolean",
            },
        )
        given = cast("Row", asked["lead"])
        fields = self._writable(given, "lead.")
        self._identified(fields, "lead.")
        twin = self._twin(fields)
        if twin is None:
            return self._saved(
                fields, {**given, "custom_fields": asked.get("custom_fields")}, asked["list_uuid"]
            ), False
        if asked.get("update_if_exists", True):
            self.written(twin, fields)
            if self.switches["upsert_tags"] == "replace" and given.get("tags"):
                twin["tags"] = []
            self._tag(twin, given.get("tags"))
            self.save_custom(twin, asked.get("custom_fields"))
        elif self.switches["upsert_existing"] == "refuse":
            raise invalid({"lead": ["The lead already exists."]})
        if asked.get("move_to_list"):
            self.change(twin, {"list_uuid": asked["list_uuid"]})
        return twin, True

    def written(self, row: Row, fields: Row) -> None:
        """Write a contact's fields, and what follows from them."""
        if not fields.get("name") and ("first_name" in fields or "last_name" in fields):
            both = (fields.get(name, row.get(name)) for name in ("first_name", "last_name"))
            fields = {**fields, "name": " ".join(part for part in both if part) or None}
        had = row.get("work_email"), row.get("personal_email")
        self.change(row, fields)
        company = next((each for each in self.rows("company") if each["name"] == row.get("company_name")), None)
        row["company_uuid"] = company["uuid"] if company else None
        has = row.get("work_email"), row.get("personal_email")
        if has != had or row.get("email_status") is None:  # that a new address begins anew is inferred
            row["email_status"] = "ok" if any(has) else "need_search"

    def save_custom(self, row: Row, values: Any) -> None:
        """Write custom fields by their names; unknown names are dropped (inferred)."""
        for name, value in cast("Row", values if isinstance(values, dict) else {}).items():
            for field in self.rows("custom_field", object="lead", name=name):
                self.set_custom(field["uuid"], "lead", row["uuid"], value)

    def set_custom(self, field: str, kind: str, uuid: str, value: Any) -> Row:
        """Write or clear the value of a custom field."""
        held = self.rows("custom_value", custom_field_uuid=field, object_type=kind, object_uuid=uuid)
        if held:
            return self.change(held[0], {"value": value})
        return self.make("custom_value", custom_field_uuid=field, object_type=kind, object_uuid=uuid, value=value)

    def finish_actions(self) -> None:
        """Do the mass actions that wait."""
        waiting, self.waiting = self.waiting, []
        for action, row, payload in waiting:
            self._act(action, row, payload)

    def finish_deletions(self) -> None:
        """Do what the background job of deletions does: the contact and what belongs to it."""
        for lead in self.leaving:
            self.tables["lead"].pop(lead, None)
            for kind, name in (
                ("note", "object_uuid"),
                ("activity", "object_uuid"),
                ("custom_value", "object_uuid"),
                ("flow_lead", "lead_uuid"),
                ("message", "lead_uuid"),
                ("email", "lead_uuid"),
                ("task", "lead_uuid"),
            ):
                for row in self.rows(kind, **{name: lead}):
                    del self.tables[kind][row["uuid"]]
        self.leaving.clear()

    def enroll(self, flow: Row, lead: Row) -> None:
        """Put a contact into a flow; `flows` does it."""
        raise NotImplementedError

    def cancel(self, lead: Row, flows: list[str] | None) -> None:
        """Take a contact out of flows, None: of all; `flows` does it."""
        raise NotImplementedError

    def begin(self) -> None:
        """Begin with nothing that waits to be done."""
        super().begin()
        self.leaving: list[str] = []
        self.waiting: list[tuple[str, Row, Row]] = []

    def _writable(self, given: Any, within: str = "") -> Row:
        if not isinstance(given, dict):
            raise invalid({within.rstrip(".") or "lead": ["The lead must be an object."]})
        fields = self.checked(cast("Row", given), LEAD_FIELDS, within)
        if "email" in fields:
            fields["work_email"] = fields.pop("email")
        if fields.get("linkedin_id"):
            fields |= _linkedin(fields.pop("linkedin_id"))
        return fields

    def _identified(self, fields: Row, within: str) -> None:
        """Refuse a contact that nothing identifies; which identifiers suffice is inferred."""
        known = ("ln_id", "sn_id", "linkedin", "work_email", "personal_email")
        name = fields.get("name") or fields.get("first_name") or fields.get("last_name")
        if not any(fields.get(each) for each in known) and not (name and fields.get("company_name")):
            raise invalid({f"{within}linkedin_id": ["The linkedin id field is required."]})

    def _twin(self, fields: Row) -> Row | None:
        """Return the contact that these fields mean, in the order that the sister platform documents."""
        fields = dict(fields)
        if fields.get("linkedin_id"):
            fields |= _linkedin(fields.pop("linkedin_id"))
        if email := fields.pop("email", None):
            fields |= {"work_email": email, "personal_email": email}
        for name in ("ln_id", "sn_id", "linkedin", "work_email", "personal_email"):
            wanted = str(fields.get(name) or "").lower()
            if wanted and (found := [r for r in self.rows("lead") if str(r.get(name) or "").lower() == wanted]):
                return found[0]
        both = " ".join(fields[each] for each in ("first_name", "last_name") if fields.get(each))
        name, company = fields.get("name") or both, fields.get("company_name")
        found = self.rows("lead", name=name, company_name=company) if name and company else []
        return found[0] if found else None

    def _made_or_there(self, fields: Row, given: Row, list_uuid: str) -> Row:
        """Return a contact of an array: what becomes of one that is there is not documented."""
        twin = self._twin(fields) if self.switches["create_existing"] == "returned" else None
        return self._saved(fields, given, list_uuid) if twin is None else twin

    def _saved(self, fields: Row, given: Row, list_uuid: str) -> Row:
        stages = self.rows("stage", object="lead")
        empty = dict.fromkeys((*LEAD_FIELDS, "user_id", "sender_profile_uuid", "data_source_uuid", "company_uuid"))
        for older in ("email", "linkedin_id", "avatar"):
            del empty[older]
        row = self.make(
            "lead",
            **empty,
            avatar_url=None,
            list_uuid=list_uuid,
            pipeline_stage_uuid=stages[0]["uuid"] if stages else None,
            status="ok",
            linkedin_status="need_enrichment" if fields.get("linkedin") else "no_data",
            **{name: [] for name in ("tags", "experience", "educations", "skills", "posts", "unread_counts")},
        )
        self.written(row, fields)
        row["updated_at"] = row["created_at"]
        self._tag(row, given.get("tags"))
        self.save_custom(row, given.get("custom_fields"))
        return row

    def _tag(self, row: Row, names: Any) -> None:
        """Add tags by name; those that are missing are created (found in a public client)."""
        for name in cast("list[Any]", names if isinstance(names, list) else []):
            held = self.rows("tag", name=name) or [self.make("tag", name=str(name), color=None)]
            if held[0]["uuid"] not in row["tags"]:
                row["tags"] = [*row["tags"], held[0]["uuid"]]

    def _meant(self, wanted: Row) -> list[Row]:
        excluded = cast("list[Any]", wanted.get("excludeIds") or [])
        ids = cast("list[Any]", wanted.get("ids") or [])
        return [
            row
            for row in self.rows("lead")
            if (wanted.get("all") or row["uuid"] in ids) and row["uuid"] not in excluded
        ]

    def _act(self, action: str, row: Row, payload: Row) -> None:
        match action:
            case "contact_change_pipeline_stage":
                stage = self.checked(payload, {"pipeline_stage_uuid": "required|exists:stage"}, "payload.")
                was = row["pipeline_stage_uuid"]
                self.change(row, stage)
                moved = {"old_pipeline_stage_uuid": was, "new_pipeline_stage_uuid": row["pipeline_stage_uuid"]}
                self.happened(row, "pipeline_stage_changed", moved)
            case "contact_change_list" | "contact_move_to_list":
                self.change(row, self.checked(payload, {"list_uuid": "required|exists:list"}, "payload."))
            case "contact_change_custom_field":
                rules = {"custom_field_uuid": "required|exists:custom_field", "value": "string"}
                given = self.checked(payload, rules, "payload.")
                self.set_custom(given["custom_field_uuid"], "lead", row["uuid"], given.get("value"))
            case "contact_add_to_flow":
                flow = self.checked(payload, {"flow_uuid": "required|exists:flow"}, "payload.")["flow_uuid"]
                self.enroll(self.find("flow", flow), row)
            case "contact_cancel_from_flows":
                flows = self.checked(payload, {"flow_uuids": "required|array"}, "payload.")["flow_uuids"]
                self.cancel(row, cast("list[str]", flows))
            case "contact_delete":
                self.leaving.append(row["uuid"])
                if self.switches["deletion"] == "at_once":
                    self.finish_deletions()
            case "contact_mark_read":
                self.change(row, {"unread_counts": []})
            case "contact_export_csv":
                self.make("file_export", type=action, filter={"ids": [row["uuid"]]}, status="queued", file_name=None)
            case _:
                self.tagged(action, row, payload)

    def tagged(self, action: str, row: Row, payload: Row) -> Row:
        """Add, remove or replace the tags of a contact or company, as the mass action says."""
        if "replace" in action:
            return self.change(row, {"tags": list(cast("list[str]", payload.get("tag_uuids") or []))})
        tag = self.checked(payload, {"tag_uuid": "required|exists:tag"}, "payload.")["tag_uuid"]
        kept = [each for each in row["tags"] if each != tag]
        return self.change(row, {"tags": kept if "remove" in action else [*kept, tag]})

    def happened(self, row: Row, kind: str, payload: Row) -> Row:
        """Add to the activity feed of a contact."""
        return self.make(
            "activity", object_type="lead", object_uuid=row["uuid"], lead_uuid=row["uuid"], type=kind, payload=payload
        )

    def _counted(self) -> list[tuple[str, str, str | None]]:
        """Return what is counted: the metric, when it happened, in which flow."""
        found: list[tuple[str, str, str | None]] = []
        for row in self.rows("message"):
            kind = "linkedin_inmail" if row["linkedin_type"] == "inmail" else "linkedin"
            word = ("sent" if row["status"] == "done" else "") if row["type"] == "outbox" else "inbox"
            word = "replied" if (kind, word) == ("linkedin_inmail", "inbox") else word
            if word and row["sent_at"]:
                found.append((f"{kind}_{word}_count", row["sent_at"], None))
            if row["read_at"] and row["type"] == "outbox":
                found.append(("linkedin_opened_count", row["read_at"], None))
        for row in self.rows("email"):
            word = "sent" if row["type"] == "outbox" else "inbox"
            found.append((f"email_{word}_count", row["sent_at"], row["flow_uuid"]))
        found += [
            (f"{row['type']}_count", row["created_at"], row["payload"].get("flow_uuid"))
            for row in self.rows("activity")
            if row["type"] in COUNTED_ACTIVITIES
        ]
        return found

    def _searched(self) -> tuple[str, ...]:
        return (*LEAD_TEXT, *LEAD_NUMBERS) if self.switches["numbers_searched"] else LEAD_TEXT

    def _single(self, row: Row, asked: Row | dict[str, str]) -> Row:
        return row if self.switches["single_lead"] == "flat" else self._wrapped(row, asked)

    def _leads(self, envelope: Row, asked: Row | dict[str, str]) -> Row:
        rows = [{name: value for name, value in row.items() if name != "work_email_domain"} for row in envelope["data"]]
        if self.switches["lead_items"] == "wrapped":
            rows = [self._wrapped(row, asked) for row in rows]
        return {**envelope, "data": rows}

    def _wrapped(self, row: Row, asked: Row | dict[str, str]) -> Row:
        """Return a contact with what belongs to it, which `disable_aggregation` leaves out."""
        if str(asked.get("disable_aggregation", "")).lower() in ("1", "true"):
            return {"lead": row}
        names = {field["uuid"]: field["name"] for field in self.rows("custom_field", object="lead")}
        values = self.rows("custom_value", object_type="lead", object_uuid=row["uuid"])
        sent = [
            each["sent_at"] for kind in ("message", "email") for each in self.rows(kind, lead_uuid=row["uuid"])
            if each["type"] == "outbox" and each["sent_at"]
        ]  # fmt: skip
        return {
            "lead": row,
            "markers": {"last_messaging_activity_at": max(sent, default=None)},
            "flows": [
                {"uuid": each["flow_uuid"], "status": each["status"]}
                for each in self.rows("flow_lead", lead_uuid=row["uuid"])
            ],
            "custom_fields": {
                names[each["custom_field_uuid"]]: each["value"]
                for each in values
                if each["custom_field_uuid"] in names and each["value"] is not None
            },
        }


def _domain(row: Row) -> str | None:
    return str(row["work_email"]).partition("@")[2] if row.get("work_email") else None


def _linkedin(text: str) -> Row:
    """Return the field that a LinkedIn reference fills: any form of it is taken (documented)."""
    last = re.sub(r"[?#].*", "", text.strip()).rstrip("/").rpartition("/")[2].partition(",")[0]
    if last.startswith("ACwAA") or "/sales/" in text:
        return {"sn_id": last}
    return {"ln_id": last} if last.startswith("ACoAA") else {"linkedin": last}
