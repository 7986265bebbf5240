"""Messages: LinkedIn, e-mail, mailboxes, attachments."""

from __future__ import annotations

import html
import re
from typing import Any, cast

from crm_mcp.sandbox.emulator import Answer, Call, identity, route
from crm_mcp.sandbox.getsales.account import Row, given_in, invalid
from crm_mcp.sandbox.getsales.records import Records

MESSAGE_FILTERS = frozenset({
    "q", "lead_uuid", "sender_profile_uuid", "linkedin_account_uuid", "linkedin_conversation_uuid", "type", "status",
    "automation", "linkedin_type", "template_uuid", "user_id", "sent_at", "created_at",
})  # fmt: skip
EMAIL_FILTERS = frozenset({
    "lead_uuid", "type", "flow_uuid", "mailbox_uuid", "from_email", "to_email", "status", "sent_at", "thread_uuid",
    "template_uuid", "folder", "flow_node_id",
})  # fmt: skip
MAILBOX = {
    "sender_name": "string",
    "automation_daily_limit": "integer",
    "automation_task_interval": "integer",
    "connection_settings": "object",
}


class Inbox(Records):
    """The groups LinkedIn messages, E-mails, Mailboxes and Attachments."""

    @route("GET", "/flows/api/linkedin-messages")
    def list_messages(self, call: Call) -> Answer:
        """List LinkedIn messages; `created_at` is when one was synced, `sent_at` when it was sent."""
        if self.switches["delivery"] == "at_once":
            self.deliver()
        rows = self.selected(self.rows("message"), self.asked(call), MESSAGE_FILTERS, ("text", "subject"))
        return Answer(self.page(call.query, rows))

    @route("POST", "/flows/api/linkedin-messages")
    def send_message(self, call: Call) -> Answer:
        """Queue a LinkedIn message: 201 with the status `new`, which is not delivered."""
        given = self.checked(
            call.body,
            {
                "sender_profile_uuid": "required|exists:sender",
                "lead_uuid": "required|exists:lead",
                "text": "string|max:8000",
                "subject": "string|max:511",
                "template_uuid": "exists:template",
                "linkedin_messenger_type": "in:basic,sn",
                "attachments": "array",
            },
        )
        if not given.get("text") and not given.get("template_uuid"):
            raise invalid({"text": ["The text field is required when template uuid is not present."]})
        if self.find("sender", given["sender_profile_uuid"])["status"] != "enabled":
            raise invalid({"sender_profile_uuid": ["The sender profile is disabled."]})
        row = self.make_message(**given)
        profile = self.find("lead", given["lead_uuid"]).get("linkedin")
        text = str(given.get("text") or "")
        self.accept("linkedin", given["lead_uuid"], row["uuid"], to=profile, text=text, subject=given.get("subject"))
        return Answer(row, 201)

    @route("DELETE", "/flows/api/linkedin-messages/{message}")
    def delete_message(self, _: Call, message: str) -> Answer:
        """Delete the record of a message."""
        return self.drop("message", message)

    @route("PUT", "/flows/api/linkedin-messages/{message}/retry")
    def retry_message(self, _: Call, message: str) -> Answer:
        """Send a message that failed once more."""
        row = self.find("message", message)
        if row["status"] != "failed":
            raise invalid({"status": ["Only failed messages can be retried."]})
        return Answer(self.change(row, {"status": "new", "fail_reason": None}))

    @route("POST", "/flows/api/linkedin-messages/group-counts")
    def count_messages(self, call: Call) -> Answer:
        """Count messages by a field."""
        fields = "status,type,sender_profile_uuid,linkedin_account_uuid"
        given = self.checked(call.body, {"group_field": f"required|in:{fields}", "filter": "object"})
        found: dict[str, int] = {}
        for row in self.selected(self.rows("message"), given.get("filter"), MESSAGE_FILTERS):
            value = str(row.get(given["group_field"]))
            found[value] = found.get(value, 0) + 1
        return Answer(found)

    @route("GET", "/flows/api/linkedin-conversations")
    def list_conversations(self, call: Call) -> Answer:
        """List LinkedIn conversations."""
        known = ("linkedin_account_uuid", "lead_uuid")
        return Answer(self.page(call.query, self.selected(self.rows("conversation"), self.asked(call), known)))

    @route("GET", "/emails/api/emails")
    def list_emails(self, call: Call) -> Answer:
        """List e-mails both ways; the body of one stands in a record of its own."""
        rows = self.selected(self.rows("email"), self.asked(call), EMAIL_FILTERS)
        envelope = self.page(call.query, rows, order="sent_at")
        if self.switches["emails_paging"] == "flat":
            return Answer(envelope)
        return Answer({"data": envelope.pop("data"), "pagination": envelope})

    @route("GET", "/emails/api/emails/{email}")
    def get_email(self, _: Call, email: str) -> Answer:
        """Read one e-mail, with its body (inferred from "full details")."""
        row = self.find("email", email)
        return Answer({**row, "body": self.tables["email_body"][row["email_body_uuid"]]["body"]})

    @route("DELETE", "/emails/api/emails/{email}")
    def delete_email(self, _: Call, email: str) -> Answer:
        """Delete the record of an e-mail."""
        return self.drop("email", email)

    @route("POST", "/emails/api/emails/send-email")
    def send_email(self, call: Call) -> Answer:
        """Send an e-mail; two sources give two shapes of the body."""
        shape = self.switches["email_shape"]
        given = given_in(call)
        if shape == "sender" or (shape == "both" and "sender_profile_uuid" in given):
            return self._from_sender(given)
        given = self.checked(
            given,
            {
                "mailbox_uuid": "required|exists:mailbox",
                "to": "required|array",
                "subject": "required|string",
                "body": "required|string",
                "cc": "array",
                "bcc": "array",
                "lead_uuid": "exists:lead",
                "template_uuid": "exists:template",
                "thread_uuid": "string",
                "in_reply_to_email_uuid": "exists:email",
            },
        )
        to = [
            self.checked(each, {"to_email": "required|email", "to_name": "string"}, f"to.{place}.")
            for place, each in enumerate(cast("list[Any]", given.pop("to")))
        ]
        mailbox = self.find("mailbox", given.pop("mailbox_uuid"))
        if mailbox["status"] != "active":
            raise invalid({"mailbox_uuid": ["The mailbox is not active."]})
        replied = given.pop("in_reply_to_email_uuid", None)
        return self._taken(self.make_email(mailbox, **{**to[0], **given}, replied_to_uuid=replied))

    @route("GET", "/emails/api/email-bodies")
    def list_email_bodies(self, call: Call) -> Answer:
        """List the bodies of e-mails."""
        words = call.query.get("search", "").lower()
        rows = [row for row in self.rows("email_body") if words in f"{row['subject']} {row['body']}".lower()]
        return Answer(self.page(call.query, rows))

    @route("GET", "/emails/api/email-bodies/{body}")
    def get_email_body(self, _: Call, body: str) -> Answer:
        """Read the body of an e-mail."""
        return Answer(self.find("email_body", body))

    @route("GET", "/emails/api/emails/{email}/thread")
    def get_thread(self, _: Call, email: str) -> Answer:
        """Return the thread of an e-mail."""
        row = self.find("email", email)
        return Answer({"data": self.rows("email", lead_uuid=row["lead_uuid"])})

    @route("POST", "/emails/api/emails/latest-by-leads")
    def latest_emails(self, call: Call) -> Answer:
        """Return each contact's latest e-mail."""
        leads = cast("list[str]", self.checked(call.body, {"lead_uuids": "required|array"})["lead_uuids"])
        held = {lead: self.rows("email", lead_uuid=lead) for lead in leads}
        return Answer({lead: max(rows, key=lambda row: str(row["sent_at"])) for lead, rows in held.items() if rows})

    @route("POST", "/emails/api/emails/llm-thread")
    def thread_for_models(self, call: Call) -> Answer:
        """Return a correspondence as text."""
        given = self.checked(
            call.body,
            {
                "sender_profile_uuid": "required|exists:sender",
                "lead_uuid": "required|exists:lead",
                "lead_name": "required|string",
                "limit": "string",
                "sent_at_recency_in_days": "integer",
            },
        )
        rows = self.rows("email", lead_uuid=given["lead_uuid"])
        return Answer({"thread": "\n".join(f"{row['from_email']}: {row['subject']}" for row in rows)})

    @route("GET", "/emails/api/mailboxes")
    def list_mailboxes(self, call: Call) -> Answer:
        """List mailboxes."""
        rows = self.selected(self.rows("mailbox"), self.asked(call), ("q", "uuid", "status"), ("email", "sender_name"))
        return Answer(self.page(call.query, rows))

    @route("POST", "/emails/api/mailboxes")
    def create_mailbox(self, call: Call) -> Answer:
        """Connect a mailbox, with the credentials of its servers."""
        rules = {
            "email": "required|email",
            "sender_profile_uuid": "required|exists:sender",
            "provider": "string",
            **MAILBOX,
            "sender_name": "required|string",
        }
        return Answer(self.make_mailbox(**self.checked(call.body, rules)), 201)

    @route("GET", "/emails/api/mailboxes/{mailbox}")
    def get_mailbox(self, _: Call, mailbox: str) -> Answer:
        """Read one mailbox."""
        return Answer(self.find("mailbox", mailbox))

    @route("PUT", "/emails/api/mailboxes/{mailbox}")
    def update_mailbox(self, call: Call, mailbox: str) -> Answer:
        """Change a mailbox."""
        rules = {**MAILBOX, "custom_tracking_domain_uuid": "string"}
        return Answer(self.change(self.find("mailbox", mailbox), self.checked(call.body, rules)))

    @route("DELETE", "/emails/api/mailboxes/{mailbox}")
    def delete_mailbox(self, call: Call, mailbox: str) -> Answer:
        """Disconnect a mailbox."""
        rules = {"automation_reassign_mailboxes": "boolean", "automation_mailbox_to_reassign": "exists:mailbox"}
        self.checked(call.body, rules)
        return self.drop("mailbox", mailbox)

    @route("PUT", "/emails/api/mailboxes/{mailbox}/activate")
    def activate_mailbox(self, _: Call, mailbox: str) -> Answer:
        """Let a mailbox send."""
        return Answer(self.change(self.find("mailbox", mailbox), {"status": "active"}))

    @route("PUT", "/emails/api/mailboxes/{mailbox}/deactivate")
    def deactivate_mailbox(self, _: Call, mailbox: str) -> Answer:
        """Keep a mailbox from sending."""
        return Answer(self.change(self.find("mailbox", mailbox), {"status": "inactive"}))

    @route("GET", "/emails/api/mailbox-errors")
    def list_mailbox_errors(self, call: Call) -> Answer:
        """List what went wrong with mailboxes."""
        return Answer(self.page(call.query, self.rows("mailbox_error")))

    @route("GET", "/flows/api/attachments")
    def list_attachments(self, call: Call) -> Answer:
        """List files that can be attached."""
        return Answer(self.page(call.query, self.rows("attachment")))

    @route("POST", "/flows/api/attachments")
    def upload_attachment(self, call: Call) -> Answer:
        """Take a file, which comes as multipart/form-data."""
        if not call.headers.get("content-type", "").startswith("multipart/form-data"):
            raise invalid({"attachment": ["The attachment field is required."]})
        return Answer(self.make("attachment", user_id=20, payload={"name": "file"}, body=None), 201)

    @route("GET", "/flows/api/attachments/{attachment}")
    def get_attachment(self, _: Call, attachment: str) -> Answer:
        """Read about one file."""
        return Answer(self.find("attachment", attachment))

    @route("DELETE", "/flows/api/attachments/{attachment}")
    def delete_attachment(self, _: Call, attachment: str) -> Answer:
        """Delete a file."""
        return self.drop("attachment", attachment)

    def receive(self, channel: str, lead: str, text: str, subject: str | None = None) -> str:
        """Let an e-mail or a LinkedIn message of a contact come in, to the first mailbox or sender."""
        row = self.find("lead", lead)
        if channel == "linkedin":
            sender = self.rows("sender")[0]["uuid"]
            fields: Row = {"type": "inbox", "automation": "synced", "status": "done", "sent_at": self.now()}
            made = self.make_message(sender_profile_uuid=sender, lead_uuid=lead, text=text, subject=subject, **fields)
        elif channel == "email":
            mailbox = self.rows("mailbox")[0]
            names: Row = {"from_name": row["name"], "from_email": row["work_email"], "to_email": mailbox["email"]}
            said = f"<div>{html.escape(text, quote=False)}</div>".replace("\n", "<br>")
            fields = {"type": "inbox", "status": "received", "lead_uuid": lead, "subject": subject or "Re:", **names}
            made = self.make_email(mailbox, body=said, **fields)
        else:
            return super().receive(channel, lead, text, subject)
        return str(made["uuid"])

    def deliver(self) -> None:
        """Do what the sender's browser does: `new` messages become `done`, or `failed` where nobody is connected.

        Only connected contacts can be written to (found in a public client); here a contact that LinkedIn does not
        know, or that is `blocked`, is not connected.
        """
        for row in self.rows("message", status="new"):
            lead = self.tables["lead"].get(row["lead_uuid"], {})
            known = (lead.get("linkedin") or lead.get("ln_id") or lead.get("sn_id")) and (
                lead.get("linkedin_status") != "blocked"
            )
            if known:
                self.change(row, {"status": "done", "sent_at": self.now()})
                self.happened(lead, "linkedin_message_sent", {"sender_profile_uuid": row["sender_profile_uuid"]})
            else:
                self.change(row, {"status": "failed", "fail_reason": "not_connected"})

    def make_message(self, **fields: Any) -> Row:
        """Add a LinkedIn message, in the conversation of its contact and sender."""
        sender = self.find("sender", fields["sender_profile_uuid"])
        account = sender["linkedin_account_uuid"]
        held = self.rows("conversation", lead_uuid=fields["lead_uuid"], linkedin_account_uuid=account)
        talk = held[0] if held else self.make(
            "conversation", lead_uuid=fields["lead_uuid"], linkedin_account_uuid=account, event_count=0
        )  # fmt: skip
        initial: Row = {
            "type": "outbox", "automation": "manual", "linkedin_type": "inmail" if fields.get("subject") else "message",
            "status": "new", "fail_reason": None, "read_at": None, "sent_at": None, "subject": None, "text": None,
            "template_uuid": None, "attachments": [], "user_id": 20,
        }  # fmt: skip
        return self.make(
            "message",
            **{**initial, **fields},
            linkedin_account_uuid=account,
            linkedin_conversation_uuid=talk["uuid"],
        )

    def make_email(self, mailbox: Row, *, body: str, **fields: Any) -> Row:
        """Add an e-mail and its body."""
        held = self.make("email_body", body=body, subject=fields["subject"], attachments=[])
        thread = fields.get("thread_uuid") or identity(255, self._made["email"] + 1)
        initial: Row = {
            "type": "outbox", "status": "sent", "from_name": mailbox["sender_name"], "from_email": mailbox["email"],
            "to_name": None, "lead_uuid": None, "flow_uuid": None, "cc": [], "bcc": [], "template_uuid": None,
            "replied_to_uuid": None, "sent_at": self.now(), "user_id": 20,
        }  # fmt: skip
        links = {
            "mailbox_uuid": mailbox["uuid"],
            "sender_profile_uuid": mailbox["sender_profile_uuid"],
            "email_body_uuid": held["uuid"],
            "thread_uuid": thread,
        }
        return self.make("email", **{**initial, **fields, **links})

    def make_mailbox(self, **fields: Any) -> Row:
        """Add a mailbox."""
        initial: Row = {
            "provider": "smtp", "status": "active", "automation_daily_limit": 50, "automation_task_interval": 120,
            "custom_tracking_domain_uuid": None, "connection_settings": {}, "user_id": 20,
        }  # fmt: skip
        return self.make("mailbox", **{**initial, **fields})

    def _from_sender(self, given: Row) -> Answer:
        names = ("from_name", "to_name", "subject")
        given = self.checked(
            given,
            {
                "sender_profile_uuid": "required|exists:sender",
                "lead_uuid": "required|exists:lead",
                "from_email": "required|email",
                "to_email": "required|email",
                **dict.fromkeys(names, "required|string"),
                "body": "string",
                "cc": "array",
                "bcc": "array",
                "attachments": "array",
            },
        )
        sender = given.pop("sender_profile_uuid")
        held = self.rows("mailbox", sender_profile_uuid=sender, email=given["from_email"])
        if not held:
            raise invalid({"from_email": ["The sender profile has no such mailbox."]})
        return self._taken(self.make_email(held[0], **{"body": "", **given}))

    def _taken(self, row: Row) -> Answer:
        body = self.tables["email_body"][row["email_body_uuid"]]
        text = html.unescape(re.sub("<[^<>]*>", "", body["body"]))
        self.accept("email", row["lead_uuid"], row["uuid"], to=row["to_email"], text=text, subject=row["subject"])
        if row["lead_uuid"]:
            self.happened(self.find("lead", row["lead_uuid"]), "email_sent", {"email_uuid": row["uuid"]})
        return Answer({"emailDomain": row, "emailBodyDomain": body}, 201)
