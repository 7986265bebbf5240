"""`import_leads` through a client: who must not be contacted, who is who, and what became of each row."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import mcp_types as types
import pytest

from .talk import Talk, number


def mail() -> str:
    return f"{uuid4().hex}@import.example"


def reached(crm: Talk, lead: str) -> dict[str, str]:
    sms = crm.ok("send_sms", lead=lead, message=f"Hello {uuid4()}", defer=True)["status"]
    email = crm.ok("send_email", lead=lead, subject="Hi", body=f"Hello {uuid4()}")["status"]
    return {"sms": "blocked" if sms == "blocked" else "free", "email": "blocked" if email == "blocked" else "free"}


@pytest.mark.parametrize("way", ["csv", "objects", "job"])
def test_whoever_an_import_says_no_for_is_not_reached(crm: Talk, way: str) -> None:
    opted, free = mail(), mail()
    if way == "csv":
        text = f"Name,Email,Phone,Do Not Call\nOp Ted,{opted},{number()},1\nFr Ee,{free},{number()},0\n"
        done = crm.ok("import_leads", csv=text)
    else:
        rows = [
            {"name": "Op Ted", "email": opted, "phone": number(), "custom_fields": {"Do Not Call": "yes"}},
            {"name": "Fr Ee", "email": free, "phone": number(), "custom_fields": {"Do Not Call": "no"}},
        ]
        more = [{"name": f"Other {n}", "email": mail()} for n in range(120 if way == "job" else 0)]
        done = crm.ok("import_leads", leads=[*rows, *more])

    assert done["status"] == "done"
    assert reached(crm, opted) == {"sms": "blocked", "email": "free"}
    assert reached(crm, free)["email"] == "free"
    assert set(crm.read(opted)["lead"]["do_not_contact"]) == {"call", "sms"}


@pytest.mark.parametrize("tool", ["create_lead", "update_lead"])
def test_a_field_that_a_tool_writes_blocks_too(crm: Talk, tool: str) -> None:
    email, fields = mail(), {"Email Opt Out": True}
    if tool == "create_lead":
        crm.ok("create_lead", name="Op Ted", email=email, custom_fields=fields)
    else:
        crm.ok("create_lead", name="Op Ted", email=email)
        crm.ok("update_lead", lead=email, custom_fields=fields)

    assert crm.ok("send_email", lead=email, subject="Hi", body=f"Hello {uuid4()}")["status"] == "blocked"


def test_a_value_that_says_neither_is_refused_until_map_settles_it(crm: Talk) -> None:
    text = f"Name,Email,Email Opt Out\nAnn,{mail()},maybe\n"

    line = crm.refused("import_leads", csv=text)
    done = crm.ok("import_leads", csv=text, map={"Email Opt Out": "custom_fields.Opt Out"})

    assert line.startswith('invalid_argument: it can\'t be read who must not be contacted: "Email Opt Out" has "maybe"')
    assert done["counts"] == {"created": 1, "updated": 0, "skipped": 0, "failed": 0}
    assert crm.read(done["created"][0]["lead"])["lead"]["custom_fields"] == {"Opt Out": "maybe"}
    objects = [{"name": "Ann", "email": mail(), "custom_fields": {"DND": "maybe"}}]
    assert '"DND" has "maybe"' in crm.refused("import_leads", leads=objects)


def test_each_row_and_each_column_is_told(crm: Talk) -> None:
    there, phone = mail(), number()
    lead = crm.ok("create_lead", name="Nina Falk", email=there, phone=phone)["lead"]["id"]
    text = (
        "Name,Email,Phone,Budget,DND\n"
        f"Otto Falk,{mail()},{phone},5,\nNina F.,{there},,6,\nZero,{mail()},0000000000,,no\n,no address,,,\n"
    )

    done = crm.ok("import_leads", csv=text)

    assert done["counts"] == {"created": 2, "updated": 0, "skipped": 1, "failed": 1}
    assert [each["row"] for each in done["created"]] == ["line 2", "line 4"]
    assert done["created"][1]["reason"].startswith('phone left out: "0000000000"')
    assert done["skipped"] == [
        {"row": "line 3", "lead": lead, "reason": f"{lead} (Nina Falk) has this e-mail address already"}
    ]
    assert done["failed"][0]["row"] == "line 5"
    assert {each["column"]: each["became"] for each in done["columns"]}["Budget"].startswith("not taken")


def test_a_dry_run_says_the_same_and_names_whom_it_would_change(crm: Talk) -> None:
    there = mail()
    lead = crm.ok("create_lead", name="Nina Falk", email=there)["lead"]["id"]
    rows: list[dict[str, Any]] = [{"name": "Nina F.", "email": there, "title": "CTO"}, {"name": "New", "email": mail()}]

    dry = crm.ok("import_leads", leads=rows, if_exists="update", dry_run=True)
    done = crm.ok("import_leads", leads=rows, if_exists="update")

    assert dry["status"] == "dry_run"
    assert f"{lead} (Nina Falk) by item 1 (Nina F.)" in dry["summary"]
    assert f"changes {lead} (Nina Falk) by item 1 (Nina F.)" in dry["preview"]
    assert dry["counts"] == done["counts"] == {"created": 1, "updated": 1, "skipped": 0, "failed": 0}
    assert dry["updated"] == done["updated"] == [{"row": "item 1", "lead": lead}]


def test_the_question_names_whom_it_would_change(crm: Talk) -> None:
    there = mail()
    lead = crm.ok("create_lead", name="Nina Falk", email=there)["lead"]["id"]
    rows = [{"name": "Nina F.", "email": there}, *({"name": f"Many {n}", "email": mail()} for n in range(110))]

    crm.ok("import_leads", leads=rows, if_exists="update")

    question = crm.user.asked[-1]
    assert f"1 of them: {lead} (Nina Falk) by item 1 (Nina F.)" in question


def test_the_first_fifty_rows_are_told_and_the_action_has_all(crm: Talk) -> None:
    done = crm.ok("import_leads", leads=[{"name": f"Row {n}", "email": mail()} for n in range(80)])

    assert (len(done["created"]), done["left_out"]["created"]) == (50, 30)
    [page] = crm.run(crm.client.read_resource, f"crm://actions/{done['action_id']}").contents
    assert isinstance(page, types.TextResourceContents)
    assert "item 80" in page.text


@pytest.mark.parametrize("way", ["csv", "objects"])
def test_a_row_that_can_t_be_imported_keeps_its_no(crm: Talk, way: str) -> None:
    there, phone = mail(), number()
    crm.ok("create_lead", name="Re Jected", email=there, phone=phone)
    if way == "csv":
        text = f"Name,Email,Phone,Status,DND\nRe Jected,re@@example,{phone},,1\nFr Ee,{mail()},,New,\n"
        done = crm.ok("import_leads", csv=text)
    else:
        odd = {"name": "Re Jected", "email": "re@@example", "phone": phone, "custom_fields": {"Do Not Call": "yes"}}
        done = crm.ok("import_leads", leads=[odd, {"name": "Fr Ee", "email": mail()}])

    assert done["counts"] == {"created": 1, "updated": 0, "skipped": 0, "failed": 1}
    assert f"is kept for {phone}" in done["failed"][0]["reason"]
    assert reached(crm, there)["sms"] == "blocked"


def test_a_lead_may_be_given_as_it_is_shown_with_whom_not_to_contact(crm: Talk) -> None:
    all_of, some, free = mail(), mail(), mail()
    rows = [
        {"name": "All Of", "email": all_of, "phone": number(), "do_not_contact": True},
        {"name": "So Me", "email": some, "phone": number(), "do_not_contact": ["email"]},
        {"name": "Fr Ee", "email": free, "phone": number(), "opted_out": "no"},
    ]

    done = crm.ok("import_leads", leads=rows)
    line = crm.refused("import_leads", leads=[{"name": "X", "email": mail(), "do_not_contact": "perhaps"}])

    assert done["counts"]["created"] == 3
    assert [reached(crm, each)["email"] for each in (all_of, some, free)] == ["blocked", "blocked", "free"]
    assert set(crm.read(some)["lead"]["do_not_contact"]) == {"email"}
    assert '"do_not_contact" has "perhaps"' in line


def test_a_value_that_refuses_by_itself_blocks(crm: Talk) -> None:
    status, tagged = mail(), mail()

    crm.ok("import_leads", csv=f"Name,Email,Lead Status\nSta Tus,{status},Do Not Contact\n")
    crm.ok("import_leads", leads=[{"name": "Tag Ged", "email": tagged, "tags": ["vip", "unsubscribed"]}])

    assert reached(crm, status)["email"] == reached(crm, tagged)["email"] == "blocked"


def test_a_column_that_is_left_out_and_says_no_is_asked_about(crm: Talk) -> None:
    text = f"Name,Email,Do Not Email\nAnn,{mail()},yes\nBob,{mail()},no\n"

    crm.ok("import_leads", csv=text, map={"Do Not Email": ""})
    asked = crm.user.asked[-1:]
    crm.ok("import_leads", csv=text.replace("yes", "no").replace("Ann", "Cid"), map={"Do Not Email": ""})

    said = 'who must not be contacted: "Do Not Email" is left out, and says so of 1'
    assert [said in each for each in asked] == [True]
    assert sum(said in each for each in crm.user.asked) == 1
