"""Outreach: flows, who is in them, sender profiles, and tasks, which are scheduled outreach and no to-dos."""

from __future__ import annotations

from typing import Any, cast

from crm_mcp.sandbox.emulator import Answer, Call, Refusal, route
from crm_mcp.sandbox.getsales.account import Row, given_in, invalid
from crm_mcp.sandbox.getsales.leads import Leads

FLOW = {
    "name": "required|string",
    "use_sender_schedule": "required|boolean",
    "schedule": "required|object",
    "description": "string",
    "priority": "integer",
    "is_public": "boolean",
    "flow_workspace_uuid": "exists:workspace",
}
SCHEDULE: Row = {
    "timezone": "Europe/Berlin",
    "use_lead_timezone": False,
    "timeblocks": [{"dow": 1, "min": 540, "max": 1080}],
}
TASK_FILTERS = frozenset({
    "uuid", "flow_uuid", "status", "type", "automation", "lead_uuid", "sender_profile_uuid", "flow_node_id",
    "executed_at", "schedule_at",
})  # fmt: skip
TASK_TYPES = (
    "linkedin_send_message,linkedin_send_connection_request,linkedin_send_inmail,linkedin_like_latest_post,"
    "linkedin_endorse_skills,linkedin_withdraw_connection_request,email_send_message,"
    "trigger_linkedin_connection_request_accepted"
)


class Flows(Leads):
    """The groups Flows, Flow leads, Sender profiles and Tasks."""

    @route("GET", "/flows/api/flows")
    def list_flows(self, call: Call) -> Answer:
        """List flows."""
        known = ("q", "status", "flow_workspace_uuid", "uuid", "name")
        return Answer(self.page(call.query, self.selected(self.rows("flow"), self.asked(call), known)))

    @route("POST", "/flows/api/flows")
    def create_flow(self, call: Call) -> Answer:
        """Create a flow, a draft without steps."""
        return Answer(self.make_flow(status="draft", **self.checked(call.body, FLOW)), 201)

    @route("GET", "/flows/api/flows/{flow}")
    def get_flow(self, _: Call, flow: str) -> Answer:
        """Read one flow."""
        row = self.find("flow", flow)
        return Answer({**row, "flow_version": self.tables["flow_version"].get(row["flow_version_uuid"])})

    @route("PUT", "/flows/api/flows/{flow}")
    def update_flow(self, call: Call, flow: str) -> Answer:
        """Change a flow's name, description or schedule."""
        rules = {"name": "string", "description": "string", "schedule": "object"}
        return Answer(self.change(self.find("flow", flow), self.checked(call.body, rules)))

    @route("DELETE", "/flows/api/flows/{flow}")
    def delete_flow(self, _: Call, flow: str) -> Answer:
        """Delete a flow."""
        return self.drop("flow", flow)

    @route("POST", "/flows/api/flows/clone")
    def clone_flow(self, call: Call) -> Answer:
        """Copy a flow; the copy is stopped."""
        rules = {"flow_uuid": "required|string", "name": "required|string", "flow_workspace_uuid": "exists:workspace"}
        given = self.checked(call.body, rules)
        old = self.find("flow", given.pop("flow_uuid"))
        kept = {name: old[name] for name in ("use_sender_schedule", "schedule", "description", "flow_workspace_uuid")}
        version = self.tables["flow_version"].get(old["flow_version_uuid"], {})
        sources = version.get("contact_sources", [])
        senders = cast("list[str]", sources[0]["sender_profiles"] if sources else [])
        return Answer(self.make_flow(status="off", senders=senders, **{**kept, **given}), 201)

    @route("PUT", "/flows/api/flows/{flow}/start")
    def start_flow(self, _: Call, flow: str) -> Answer:
        """Start a flow; an archived one is refused."""
        row = self.find("flow", flow)
        if row["status"] == "archived":
            raise invalid({"status": ["An archived automation can not be started."]})
        return Answer(self.change(row, {"status": "on"}))

    @route("PUT", "/flows/api/flows/{flow}/stop")
    def stop_flow(self, _: Call, flow: str) -> Answer:
        """Stop a flow."""
        return Answer(self.change(self.find("flow", flow), {"status": "off"}))

    @route("PUT", "/flows/api/flows/{flow}/archive")
    def archive_flow(self, _: Call, flow: str) -> Answer:
        """Archive a flow."""
        return Answer(self.change(self.find("flow", flow), {"status": "archived"}))

    @route("PUT", "/flows/api/flows/{flow}/unarchive")
    def unarchive_flow(self, _: Call, flow: str) -> Answer:
        """Take a flow out of the archive."""
        return Answer(self.change(self.find("flow", flow), {"status": "off"}))

    @route("POST", "/flows/api/flows/{flow}/leads/{lead}")
    def add_lead(self, call: Call, flow: str, lead: str) -> Answer:
        """Put a contact into a flow: 204 without a body."""
        self.checked(call.body, {"contact_source_id": "integer"})
        self.enroll(self.find("flow", flow), self.find("lead", lead))
        return Answer(status=204)

    @route("POST", "/flows/api/flows/{flow}/add-new-lead")
    def add_new_lead(self, call: Call, flow: str) -> Answer:
        """Create a contact and put it into a flow; 200 with a reason where it was skipped."""
        row = self.find("flow", flow)
        given = given_in(call)
        self._enrollable(row)
        skip = bool(given.get("skip_if_lead_exists"))
        update = bool(given.get("update_lead_if_exists", True)) and not skip
        move = bool(given.get("move_to_list")) and not skip
        lead, known = self.upserted({**given, "update_if_exists": update, "move_to_list": move})
        if known and skip:
            return Answer({"reason": "skipped"})
        self.enroll(row, lead)
        return Answer(status=204)

    @route("PUT", "/flows/api/flows/leads/{lead}/cancel")
    def cancel_flows(self, call: Call, lead: str) -> Answer:
        """Take a contact out of some flows."""
        flows = self.checked(call.body, {"flow_uuids": "required|array"})["flow_uuids"]
        self.cancel(self.find("lead", lead), cast("list[str]", flows))
        return self.done("Lead cancelled from flows")

    @route("PUT", "/flows/api/flows/leads/{lead}/cancel-all")
    def cancel_all_flows(self, _: Call, lead: str) -> Answer:
        """Take a contact out of every flow."""
        self.cancel(self.find("lead", lead), None)
        return self.done("Lead cancelled from all flows")

    @route("DELETE", "/flows/api/flows/leads/{lead}")
    def delete_flow_history(self, _: Call, lead: str) -> Answer:
        """Delete the records of which flows a contact was in."""
        held = self.rows("flow_lead", lead_uuid=lead)
        if not held:
            raise Refusal(404, "No query results for flow lead.")
        for row in held:
            del self.tables["flow_lead"][row["uuid"]]
        return Answer(status=204)

    @route("POST", "/flows/api/flows-leads/list")
    def list_flow_leads(self, call: Call) -> Answer:
        """List who is in which flow; filters are arrays, and there is none by date."""
        body = self.checked(call.body, {"filter": "object", "limit": "integer", "offset": "integer"})
        known = ("flow_uuid", "lead_uuid", "status")
        return Answer(self.page(body, self.selected(self.rows("flow_lead"), body.get("filter"), known)))

    @route("POST", "/flows/api/flows/metrics")
    def flow_metrics(self, call: Call) -> Answer:
        """Count a flow's contacts, and its tasks that wait."""
        uuids = cast("list[str]", self.checked(call.body, {"uuids": "required|array"})["uuids"])
        return Answer({uuid: self._measured(uuid) for uuid in uuids if uuid in self.tables["flow"]})

    @route("POST", "/flows/api/flows/{flow}/statistics/nodes")
    def node_statistics(self, call: Call, flow: str) -> Answer:
        """Count what happened at each step of a flow."""
        self.find("flow", flow)
        ids = cast("list[Any]", self.checked(call.body, {"node_ids": "required|array", "filter": "object"})["node_ids"])
        tasks = self.rows("task", flow_uuid=flow)
        return Answer(
            {
                str(node): {"node_statuses": _counts(tasks, "status", flow_node_id=node), "node_conversions": []}
                for node in ids
            }
        )

    @route("POST", "/flows/api/flows/{flow}/statistics/contact-sources")
    def source_statistics(self, call: Call, flow: str) -> Answer:
        """Count what became of a flow's contacts, by where they came from."""
        self.find("flow", flow)
        ids = cast("list[Any]", self.checked(call.body, {"contact_source_ids": "required|array"})["contact_source_ids"])
        held = self.rows("flow_lead", flow_uuid=flow)
        return Answer({str(each): {"contact_source_statuses": _counts(held, "status")} for each in ids})

    @route("GET", "/flows/api/flows/{flow}/flow-versions")
    def list_flow_versions(self, _: Call, flow: str) -> Answer:
        """List a flow's versions, a bare array."""
        self.find("flow", flow)
        return Answer(self.rows("flow_version", flow_uuid=flow))

    @route("POST", "/flows/api/flows/{flow}/flow-versions")
    def create_flow_version(self, call: Call, flow: str) -> Answer:
        """Save a flow's steps and contact sources as its new version."""
        row = self.find("flow", flow)
        rules = {"nodes": "required|array", "contact_sources": "required|array", "first_common_node_id": "integer"}
        version = self.make("flow_version", flow_uuid=flow, **self.checked(call.body, rules))
        self.change(row, {"flow_version_uuid": version["uuid"]})
        return Answer(version, 201)

    @route("GET", "/flows/api/flow-versions/{version}")
    def get_flow_version(self, _: Call, version: str) -> Answer:
        """Read one version."""
        return Answer(self.find("flow_version", version))

    @route("DELETE", "/flows/api/flow-versions/{version}")
    def delete_flow_version(self, _: Call, version: str) -> Answer:
        """Delete a version; the active one stays."""
        if self.rows("flow", flow_version_uuid=version):
            raise invalid({"uuid": ["Active versions can not be deleted."]})
        return self.drop("flow_version", version)

    @route("POST", "/flows/api/flow-versions/validate-node")
    def validate_node(self, call: Call) -> Answer:
        """Check a step; without `before` and `after` it fails with 500 (a known fault)."""
        given = given_in(call)
        if "before" not in given or "after" not in given:
            raise Refusal(500, "Undefined array key")
        self.checked(given, {"id": "required|integer", "type": "required|string"})
        return Answer(status=204)

    @route("POST", "/flows/api/flow-versions/validate-contact-source")
    def validate_contact_source(self, call: Call) -> Answer:
        """Check a contact source."""
        return Answer(self.checked(call.body, {"id": "required|integer", "type": "string", "options": "object"}))

    @route("PUT", "/flows/api/sender-profiles/{sender}/enable")
    def enable_sender(self, _: Call, sender: str) -> Answer:
        """Let a sender profile send."""
        return Answer(self.change(self.find("sender", sender), {"status": "enabled"}))

    @route("PUT", "/flows/api/sender-profiles/{sender}/disable")
    def disable_sender(self, _: Call, sender: str) -> Answer:
        """Keep a sender profile from sending."""
        return Answer(self.change(self.find("sender", sender), {"status": "disabled"}))

    @route("GET", "/flows/api/tasks")
    def list_tasks(self, call: Call) -> Answer:
        """List tasks."""
        return Answer(self.page(call.query, self.selected(self.rows("task"), self.asked(call), TASK_FILTERS)))

    @route("POST", "/flows/api/tasks")
    def create_task(self, call: Call) -> Answer:
        """Create a manual task, which sends something when it is due."""
        given = self.checked(
            call.body,
            {
                "lead_uuid": "required|exists:lead",
                "sender_profile_uuid": "required|exists:sender",
                "text": "required|string",
                "schedule_at": "required|date",
                "type": f"in:{TASK_TYPES}",
                "note": "string",
                "timezone": "string",
            },
        )
        row = self.make_task(automation="manual", **given)
        channel = "email" if str(row["type"]).startswith("email") else "linkedin"
        self.accept(channel, row["lead_uuid"], row["uuid"], text=str(given["text"]))
        return Answer(row, 201)

    @route("GET", "/flows/api/tasks/{task}")
    def get_task(self, _: Call, task: str) -> Answer:
        """Read one task."""
        return Answer(self.find("task", task))

    @route("PUT", "/flows/api/tasks/{task}/complete")
    def complete_task(self, _: Call, task: str) -> Answer:
        """Close a manual task."""
        return Answer(self._closed(task, "closed"))

    @route("PUT", "/flows/api/tasks/{task}/cancel")
    def cancel_task(self, _: Call, task: str) -> Answer:
        """Cancel a manual task."""
        return Answer(self._closed(task, "canceled"))

    @route("PUT", "/flows/api/tasks/{task}/fail")
    def fail_task(self, _: Call, task: str) -> Answer:
        """Mark a manual task as failed."""
        return Answer(self._closed(task, "failed"))

    @route("PUT", "/flows/api/tasks/mass-cancel")
    @route("PUT", "/flows/api/tasks/mass-complete")
    @route("PUT", "/flows/api/tasks/mass-retry")
    @route("PUT", "/flows/api/tasks/mass-skip")
    def mass_tasks(self, call: Call) -> Answer:
        """Close, skip or try again many manual tasks."""
        become = {"cancel": "canceled", "complete": "closed", "retry": "in_progress", "skip": "skipped"}
        uuids = cast("list[str]", self.checked(call.body, {"uuids": "required|array"})["uuids"])
        for uuid in uuids:
            self._closed(uuid, become[call.path.rpartition("-")[2]])
        return Answer({"count": len(uuids)})

    @route("PUT", "/flows/api/tasks/continue-automation")
    def continue_automation(self, call: Call) -> Answer:
        """Let a paused flow go on for a contact."""
        lead = self.checked(call.body, {"lead_uuid": "required|exists:lead"})["lead_uuid"]
        for row in self.rows("flow_lead", lead_uuid=lead, status="paused"):
            self.change(row, {"status": self.switches["in_flow"]})
        return Answer({"lead_uuid": lead})

    @route("GET", "/flows/api/tasks/schedule")
    def task_schedule(self, call: Call) -> Answer:
        """Show what a sender profile has to do on a day."""
        given = self.checked(call.query, {"sender_profile_uuid": "required|exists:sender", "date": "required|date"})
        tasks = self.rows("task", sender_profile_uuid=given["sender_profile_uuid"])
        return Answer({"data": [row for row in tasks if str(row["schedule_at"]).startswith(given["date"])]})

    @route("POST", "/flows/api/tasks/group-counts")
    def count_tasks(self, call: Call) -> Answer:
        """Count tasks by a field."""
        rules = {"group_field": "required|in:flow_uuid,sender_profile_uuid,type,status", "filter": "object"}
        given = self.checked(call.body, rules)
        chosen = self.selected(self.rows("task"), given.get("filter"), TASK_FILTERS)
        return Answer(_counts(chosen, given["group_field"]))

    def enroll(self, flow: Row, lead: Row) -> None:
        """Put a contact into a flow that is on and has an enabled sender (found in a public client)."""
        sender = self._enrollable(flow)
        barred = {each["email"] for each in self.rows("lead_block") if each.get("email")}
        names = {each["linkedin"] for each in self.rows("lead_block") if each.get("linkedin")}
        if {lead.get("work_email"), lead.get("personal_email")} & barred or lead.get("linkedin") in names:
            raise invalid({"lead_uuid": ["The lead is blacklisted."]})
        status = self.switches["in_flow"]
        held = self.rows("flow_lead", flow_uuid=flow["uuid"], lead_uuid=lead["uuid"], status=status)
        if held:
            if self.switches["enroll_twice"] == "refuse":
                raise invalid({"lead_uuid": ["The lead is in this automation already."]})
            return
        row = self.make("flow_lead", flow_uuid=flow["uuid"], lead_uuid=lead["uuid"], status=status)
        self.accept("enrolment", lead["uuid"], row["uuid"], text=flow["uuid"])
        self.make_task(
            automation="auto",
            type="linkedin_send_connection_request",
            lead_uuid=lead["uuid"],
            sender_profile_uuid=sender,
            flow_uuid=flow["uuid"],
            flow_lead_uuid=row["uuid"],
            flow_node_id=2,
            schedule_at=row["created_at"],
        )

    def cancel(self, lead: Row, flows: list[str] | None) -> None:
        """Take a contact out of flows; its tasks that wait are cancelled."""
        for row in self.rows("flow_lead", lead_uuid=lead["uuid"]):
            if row["status"] not in ("finished", "canceled") and (flows is None or row["flow_uuid"] in flows):
                self.change(row, {"status": "canceled"})
                for task in self.rows("task", flow_lead_uuid=row["uuid"], status="in_progress"):
                    self.change(task, {"status": "canceled"})

    def make_flow(self, *, status: str, senders: list[str] | None = None, **fields: Any) -> Row:
        """Add a flow with one contact source, as the vendor creates one."""
        empty: Row = {"description": None, "flow_workspace_uuid": None, "is_public": True, "priority": 2}
        row = self.make("flow", **{**empty, **fields}, status=status, user_id=20)
        source = {
            "id": 1,
            "name": None,
            "rotation_strategy": "fair",
            "sender_profiles": senders or [],
            "after_id": None,
        }
        version = self.make("flow_version", flow_uuid=row["uuid"], nodes=[], contact_sources=[source])
        row["flow_version_uuid"] = version["uuid"]
        return row

    def make_task(self, *, text: str | None = None, **fields: Any) -> Row:
        """Add a task."""
        empty: Row = {
            "type": "linkedin_send_message", "status": "in_progress", "flow_uuid": None, "flow_lead_uuid": None,
            "flow_node_id": None, "note": None, "timezone": "UTC", "executed_at": None, "attempts": 0,
            "error_msg": None, "user_id": 20,
        }  # fmt: skip
        return self.make("task", **{**empty, **fields}, payload={"template": text, "rendered_text": text})

    def _enrollable(self, flow: Row) -> str:
        """Return the sender that will send; 422 where the flow takes nobody."""
        if flow["status"] != "on":
            raise invalid({"flow_uuid": ["The automation is not active."]})
        sources = self.tables["flow_version"].get(flow["flow_version_uuid"], {}).get("contact_sources", [])
        for sender in (each for source in sources for each in source["sender_profiles"]):
            if self.tables["sender"].get(sender, {}).get("status") == "enabled":
                return sender
        raise invalid({"contact_source_id": ["The contact source has no enabled sender profile."]})

    def _closed(self, task: str, status: str) -> Row:
        row = self.find("task", task)
        if row["automation"] != "manual":
            raise invalid({"uuid": ["Only manual tasks can be changed."]})
        return self.change(row, {"status": status, "executed_at": self.now() if status == "closed" else None})

    def _measured(self, flow: str) -> Row:
        held = self.rows("flow_lead", flow_uuid=flow)
        counts = _counts(held, "status")
        waiting = self.rows("task", flow_uuid=flow, status="in_progress")
        return {
            "leads_count": len(held),
            **{f"{name}_leads_count": counts.get(name, 0) for name in ("in_progress", "finished", "failed")},
            "task_counts": _counts(waiting, "type"),
        }


def _counts(rows: list[Row], name: str, **equal: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        if row.get(name) is not None and all(row.get(field) == value for field, value in equal.items()):
            found[str(row[name])] = found.get(str(row[name]), 0) + 1
    return found
