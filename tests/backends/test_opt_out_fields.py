"""The names and values by which CRMs say that somebody must not be contacted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.backends.opt_out_fields import opt_out_field, refusal_in
from crm_mcp.channels import CHANNELS

ALL = CHANNELS
CALL = ("sms", "call")
EMAIL, SMS = ("email",), ("sms",)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        # Salesforce, and those that call them alike
        ("Do Not Call", CALL), ("DoNotCall", CALL), ("Email Opt Out", EMAIL), ("HasOptedOutOfEmail", EMAIL),
        # HubSpot
        ("Unsubscribed from all email", EMAIL), ("Opted out of email: Marketing Information", EMAIL),
        ("hs_email_optout", EMAIL),
        # Dynamics
        ("Do not allow Emails", EMAIL), ("Do not allow Bulk Emails", EMAIL), ("Do not allow Phone Calls", CALL),
        ("donotbulkemail", EMAIL), ("donotphone", CALL), ("Do not send marketing materials", ALL),
        # Outreach, Salesloft, GoHighLevel, Zoho, EspoCRM, Mailchimp, Brevo
        ("Opted Out", ALL), ("Email Opted Out", EMAIL), ("Calls Opted Out", CALL), ("Opted Out At", ALL),
        ("Do Not Contact", ALL), ("DND", ALL), ("DND SMS", SMS), ("DND Email", EMAIL), ("Unsubscribed Time", ALL),
        ("Email Address is Opted Out", EMAIL), ("Phone Number is Opted Out", CALL), ("UNSUB_TIME", ALL),
        ("EMAIL_BLACKLISTED", EMAIL), ("SMS Opt-Out", SMS), ("LinkedIn Opt Out", ("linkedin",)),
        # As people write them
        ("do_not_contact", ALL), ("Do not e-mail", EMAIL), ("Do Not Text", SMS), ("DO NOT CALL OR TEXT", CALL),
        ("Person - Email Opt Out", EMAIL), ("Opt out (Y/N)", ALL), ("Opt-Out Email (Legacy)", EMAIL), ("DNC", ALL),
        ("No Emails", EMAIL), ("isUnsubscribed", ALL), ("Do Not Contact Until", ALL), ("Suppressed", ALL),
        ("Contact: Do Not Call", CALL), ("Lead: Email Opt Out", EMAIL), ("E-mail: unsubscribed", ALL),
        ("Opt-Outs", ALL), ("Optouts", ALL), ("Un-subscribed", ALL), ("D.N.C.", ALL), ("D N D", ALL),
        ("D N C E-mail", EMAIL),
        ("Black list", ALL), ("Block-listed", ALL), ("Blocked", ALL), ("Consent Withdrawn", ALL),
        ("SMS consent revoked", SMS),
        ("No calls", CALL), ("No phone calls", CALL), ("No SMS please", SMS), ("No texting", SMS), ("Never call", CALL),
        ("Must not be contacted", ALL), ("Should not be called", CALL), ("Not to be contacted", ALL),
        ("No longer contact", ALL), ("Never contact again", ALL), ("Don\u2019t text", SMS),
        ("Please do not email", EMAIL),
        ("Exclude from email", EMAIL), ("Remove from list", ALL), ("No cold calls", CALL), ("Do_Not_Call__c", CALL),
        ("Does not want to be contacted", ALL), ("Do not contact by phone", CALL), ("Asked not to be called", CALL),
        ("Individual: Don't Process", ALL), ("Contact Restrictions", ALL),
        # What says that there is no consent
        ("No consent", ALL), ("Not subscribed", ALL), ("Email not allowed", EMAIL), ("No opt-in", ALL),
        ("Not opted in", ALL), ("Consent not given", ALL), ("No SMS consent", SMS), ("Does not consent", ALL),
        ("Not callable", CALL), ("No longer subscribed", ALL), ("Calls not allowed", CALL), ("Not OK to email", EMAIL),
        ("Keine Einwilligung", ALL), ("Einwilligung widerrufen", ALL),
        # In other languages, with words around them
        ("Von allen E-Mails abgemeldet", EMAIL), ("Darf nicht kontaktiert werden", ALL),
        ("E-Mails nicht zulassen", EMAIL),
        ("Keine Telefonanrufe", CALL), ("Newsletter abbestellt", EMAIL), ("Ne plus appeler", CALL),
        ("Ne pas contacter par email", EMAIL), ("No enviar correos", EMAIL), ("Dado de baja de todos los correos", ALL),
        ("Disiscritto da tutte le email", EMAIL), ("Niet meer bellen", CALL), ("Geen e-mails", EMAIL),
        ("N\u00e3o enviar emails", EMAIL), ("Desinscrito", ALL),
        ("Kein Anruf", CALL), ("Bitte nicht anrufen", CALL), ("Abgemeldet am", ALL), ("Keine E-Mails", EMAIL),
        ("Nicht anrufen", CALL), ("Keine Werbung", ALL), ("Ne pas contacter", ALL),
        ("D\u00e9sabonn\u00e9", ALL), ("No llamar", CALL), ("Niet bellen", CALL), ("Non contattare", ALL),
    ],
)  # fmt: skip
def test_a_field_that_says_no_is_known_by_its_name(name: str, channels: tuple[str, ...]):
    found = opt_out_field(name)

    assert found
    assert (set(found.channels), found.consent) == (set(channels), False)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("Email Marketing Consent", EMAIL), ("SMS consent", SMS), ("GDPR Consent", ALL), ("Opt-in", ALL),
        ("sms_opt_in", SMS), ("Accepts Email Marketing", EMAIL), ("Accepts Marketing", ALL), ("Subscribed", ALL),
        ("Person - Marketing status", ALL), ("Subscription status", ALL), ("Can call", CALL), ("Einwilligung", ALL),
        ("TCPA consent", ALL), ("Consentement RGPD", ALL), ("Consenso privacy", ALL),
        ("Receive marketing emails", EMAIL),
        ("Not on DNC", ALL), ("DNC clean", ALL), ("Not opted out", ALL), ("Not unsubscribed", ALL), ("Non DNC", ALL),
        ("OK to call", CALL), ("Okay to contact?", ALL), ("Can be contacted", ALL), ("Contactable", ALL),
        ("May be emailed", EMAIL), ("Double Opt-in", ALL), ("Email subscription", EMAIL),
        ("Einwilligung E-Mail", EMAIL),
        ("Send Marketing Materials", ALL), ("Email_Opt_In__c", EMAIL),
    ],
)  # fmt: skip
def test_a_field_of_consent_is_known_by_its_name(name: str, channels: tuple[str, ...]):
    found = opt_out_field(name)

    assert found
    assert (set(found.channels), found.consent) == (set(channels), True)


@pytest.mark.parametrize(
    "name",
    [
        *("Name", "Email", "Phone No", "Contact No.", "Mobile No", "No. of Calls", "No. Calls", "No. Phone", "Text"),
        *(
            "Message",
            "Contacted",
            "Called",
            "Last contacted",
            "Emailed",
            "No of calls",
            "Number of emails sent",
            "Block",
        ),
        *(
            "No show",
            "No reply",
            "Street No",
            "Never married",
            "Subscription",
            "Send date",
            "Allowed discount",
            "Remove",
        ),
        *("Fax Opt Out", "HasOptedOutOfFax", "Do not allow Faxes", "donotpostalmail", "WhatsApp Opt Out"),
        *("Unsubscribe link", "Unsubscribe Reason", "do_not_contact_reason", "Unsubscribed Mode", "GDPR consent date"),
        *("Email Status", "Lead Status", "Marketing contact status", "Newsletter", "Notes", "Domain", "Not contacted"),
        *("Do not allow Mails", "Follow Email Activity", "HasOptedOutTracking", "Credit Blocked", "DNC Scrub Date"),
        *("Exclude from reports", "Opted out of auto-renewal", "UNSUB_CAMPAIGN_TITLE", "UNSUB_CAMPAIGN_ID"),
        *("", "   ", "42", "\u738b\u5c0f\u660e", "x" * 5_000),
    ],
)
def test_other_fields_say_nothing_of_it(name: str):
    assert opt_out_field(name) is None


@pytest.mark.parametrize(
    ("value", "refuses"),
    [
        *(
            (each, True)
            for each in ("1", "yes", "TRUE", "x", "Y", "\u2713", "Opted-out", "Unsubscribed", "DNC", True, 1)
        ),
        *((each, True) for each in ("Do Not Allow", "do not call", "Ja", "s\u00ed")),
        *(
            (each, False)
            for each in ("0", "no", "False", "", None, "-", "N/A", "none", False, 0, "Allow", "subscribed")
        ),
        *((each, None) for each in ("maybe", "2024-01-05", "pending", "call first", "2", "??", "never", "never again")),
    ],
)
def test_what_a_field_says_is_read_strictly(value: object, refuses: bool | None):
    field = opt_out_field("Email Opt Out")

    assert field
    assert field.refuses(value) is refuses


@pytest.mark.parametrize(
    ("value", "refuses"),
    [
        *(
            (each, True)
            for each in ("no", "0", "false", "Denied", "withdrawn", "Unsubscribed", "opted out", "No consent")
        ),
        *((each, False) for each in ("yes", "1", "Granted", "opted in", "", None, "n/a", "Subscribed")),
        *((each, None) for each in ("pending", "legitimate interest", "2024-01-05")),
    ],
)
def test_consent_refuses_on_an_explicit_no_alone(value: object, refuses: bool | None):
    field = opt_out_field("Email consent")

    assert field
    assert field.refuses(value) is refuses


@pytest.mark.parametrize("value", ["2024-01-05", "2024-01-05T10:00:00Z", "5/1/2024", "05.01.2024 10:00", "1704450000"])
@pytest.mark.parametrize("name", ["Opted Out At", "Abgemeldet am", "D\u00e9sabonn\u00e9 le"])
def test_a_date_is_a_yes_in_a_field_that_holds_the_time_of_it(name: str, value: str):
    dated, plain = opt_out_field(name), opt_out_field(name.rpartition(" ")[0])

    assert dated
    assert plain
    assert (dated.refuses(value), plain.refuses(value)) == (True, None)


@pytest.mark.parametrize("name", ["No phone", "No Tel", "STOP", "SMS STOP", "TPS registered"])
def test_a_name_that_may_mean_something_else_blocks_on_a_plain_yes_and_asks_nobody(name: str):
    field = opt_out_field(name)

    assert field
    assert [field.refuses(each) for each in ("yes", "x", "no", "", "+1 415 555 0100", "12")] == [
        True,
        True,
        *[False] * 4,
    ]


@pytest.mark.parametrize(
    ("value", "name", "channels"),
    [
        ("Do Not Contact", "Lead Status", ALL), ("Unsubscribed", "Email Status", EMAIL), ("DNC", "Tag", ALL),
        ("opted-out", "SMS status", SMS), ("Do not disturb!", "Notes", ALL), ("Please do not call", "Notes", CALL),
        ("Never contact again", "Remarks", ALL), ("Nicht kontaktieren", "Status", ALL), ("Do not call", "Phone", CALL),
        ("Removed from list", "x", ALL), ("No marketing", "x", ALL),
        ("Closed - Do Not Contact", "Lead Status", ALL), ("Not Interested / DNC", "Status", ALL),
        ("DNC-2023", "Tag", ALL),
        ("Requested DNC", "Disposition", ALL), ("Unsubscribed by user", "Status", ALL), ("No llamar", "Estado", CALL),
        ("Dado de baja", "Estado", ALL), ("Not interested, do not call", "Status", CALL),
        ("Opted Out (reply)", "x", ALL),
        ("Asked not to be contacted", "Notes", ALL), ("Abgemeldet (Newsletter)", "Status", ALL),
        ("Not on DNC", "Status", ()), ("DNC clean", "Status", ()), ("Do not allow", "Follow Email Activity", ()),
        ("Unsubscribed by user", "Notes", ()), ("Gesperrt", "Status", ()),
        ("New", "Status", ()), ("Blocked", "Status", ()), ("No contact", "Lead Status", ()), ("No email", "Email", ()),
        ("No", "Do not", ()), ("Stop", "x", ()), ("Call back", "Next step", ()), ("Do not call before 9", "Notes", ()),
        ("Opted in", "Status", ()), ("Subscribed", "Status", ()), ("Unsubscribed", "WhatsApp status", ()),
        ("No answer", "Outcome", ()), ("Email", "Preferred channel", ()), ("Consent given", "x", ()),
        ("x" * 5_000, "x", ()),
    ],
)  # fmt: skip
def test_a_value_that_refuses_by_itself_is_known_whatever_its_field_is_for(
    value: str, name: str, channels: tuple[str, ...]
):
    assert set(refusal_in(value, name)) == set(channels)


@pytest.mark.parametrize("name", ["Subscription Status", "TCPA consent"])
def test_a_consent_that_may_be_something_else_stops_nothing(name: str):
    field = opt_out_field(name)

    assert field
    assert [field.refuses(each) for each in ("no", "Unsubscribed", "yes", "Active", "Trialing", "")] == [True] * 2 + [
        False
    ] * 4


@given(st.text(max_size=200), st.text(max_size=40))
def test_any_name_and_value_is_read_without_a_fault(name: str, value: str):
    field = opt_out_field(name)

    assert field is None or (field.channels and field.refuses(value) in (True, False, None))
    assert set(refusal_in(value, name)) <= set(ALL)
