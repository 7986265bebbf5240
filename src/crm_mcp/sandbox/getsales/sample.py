"""What an account holds at the beginning, and the invented people of the sample."""

from __future__ import annotations

from datetime import datetime, timedelta

from crm_mcp.sandbox.getsales.account import stamp
from crm_mcp.sandbox.getsales.inbox import Inbox
from crm_mcp.sandbox.people import PEOPLE

STAGES = (
    ("New", "new", "cold"),
    ("Approaching", "approaching", "cold"),
    ("Engaging", "engaging", "engaging"),
    ("Replied", "replied", "engaging"),
    ("Demo booked", "custom", "positive"),
    ("Not interested", "custom", "negative"),
)
"""Four types are the vendor's; the last two stages are of the kind that a team adds."""


def furnish(crm: Inbox) -> None:
    """Make what an account has before anyone is in it."""
    for of in ("lead", "company"):
        for order, (name, kind, category) in enumerate(STAGES, 1):
            crm.make("stage", name=name, object=of, type=kind, category=category, order=order)
    for name in ("Inbound", "Spring conference"):
        crm.make("list", name=name)
    for name, colour in (("hot", "#ff5733"), ("newsletter", "#3366ff")):
        crm.make("tag", name=name, color=colour)
    for order, name in enumerate(("industry_focus", "budget"), 1):
        crm.make("custom_field", name=name, object="lead", order=order)
    crm.make("custom_field", name="segment", object="company", order=1)
    senders = [
        crm.make(
            "sender",
            first_name=first,
            last_name="Sender",
            label=f"{first}'s profile",
            assignee_user_id=20,
            status=status,
            linkedin_account_uuid=f"0000aaaa-0000-4000-8000-00000000000{place}",
            linkedin_browser_id=place,
            smart_limits_enabled=True,
        )
        for place, (first, status) in enumerate((("Robin", "enabled"), ("Sasha", "disabled")), 1)
    ]
    mailboxes = (
        ("robin@sandbox.example", "Robin Sender", "active"),
        ("sasha@sandbox.example", "Sasha Sender", "inactive"),
    )
    for sender, (address, name, status) in zip(senders, mailboxes, strict=True):
        mailbox = crm.make_mailbox(email=address, sender_name=name, status=status, sender_profile_uuid=sender["uuid"])
        sender["mailbox_uuid"] = mailbox["uuid"]
    folder = crm.make("workspace", name="Campaigns", order=1)
    hours = {"timezone": "Europe/Berlin", "timeblocks": [{"dow": 1, "min": 540, "max": 1080}]}
    for name, status in (("Welcome", "on"), ("Reactivation", "off"), ("Last year", "archived")):
        crm.make_flow(
            name=name,
            status=status,
            senders=[senders[0]["uuid"]],
            use_sender_schedule=True,
            schedule=hours,
            flow_workspace_uuid=folder["uuid"],
        )
    crm.make("template", name="First hello", type="message", is_public=1, body="Hi {{first_name}}, good to meet you.")


def populate(crm: Inbox) -> None:
    """Add companies, contacts, notes, messages, e-mails and who is in which flow."""
    lists, stages = crm.rows("list"), crm.rows("stage", object="lead")
    now = datetime.fromisoformat(crm.now())
    for name, domain in dict.fromkeys((person.company, person.domain) for person in PEOPLE):
        crm.make_company(name=name, domain=domain, website=f"https://{domain}", lists=[lists[0]["uuid"]])
    for place, person in enumerate(PEOPLE):
        lead, _ = crm.upserted(
            {
                "lead": {
                    "linkedin_id": f"https://www.linkedin.com/in/{person.first}-{person.last}-sandbox".lower(),
                    "first_name": person.first,
                    "last_name": person.last,
                    "company_name": person.company,
                    "position": person.title,
                    "work_email": person.email,
                    "work_phone_number": person.phone,
                    "tags": ["hot"] if place % 4 == 0 else [],
                },
                "list_uuid": lists[place % 2]["uuid"],
                "custom_fields": {"industry_focus": person.company.rpartition(" ")[2].lower()},
            }
        )
        lead["pipeline_stage_uuid"] = stages[place % len(stages)]["uuid"]
        lead["linkedin_status"] = "ok"
        lead["created_at"] = lead["updated_at"] = stamp(now - timedelta(days=3 * (len(PEOPLE) - place)))
    _talk(crm)


def _talk(crm: Inbox) -> None:
    leads, sender, mailbox = crm.rows("lead"), crm.rows("sender")[0], crm.rows("mailbox")[0]
    now = datetime.fromisoformat(crm.now())
    flow = crm.rows("flow", status="on")[0]
    for place, lead in enumerate(leads[:6]):
        first = now - timedelta(days=10 - place)
        asked = f"{lead['first_name']} asked for prices."
        crm.make("note", object="lead", object_uuid=lead["uuid"], note=asked, user_id=20, created_at=stamp(first))
        for hours, kind, text in ((0, "outbox", f"Hello {lead['first_name']}."), (5, "inbox", "Thanks, tell me more.")):
            crm.make_message(
                sender_profile_uuid=sender["uuid"],
                lead_uuid=lead["uuid"],
                type=kind,
                automation="manual" if kind == "outbox" else "synced",
                status="done",
                text=text,
                sent_at=stamp(first + timedelta(hours=hours)),
            )
        crm.make_email(
            mailbox,
            subject="Our offer",
            body="<p>Good morning,</p><p>here is the offer.</p>",
            to_email=lead["work_email"],
            to_name=lead["name"],
            lead_uuid=lead["uuid"],
            sent_at=stamp(first + timedelta(days=1)),
        )
        crm.happened(lead, "linkedin_connection_request_accepted", {"sender_profile_uuid": sender["uuid"]})
    for lead in leads[6:9]:
        crm.enroll(flow, lead)
