"""The names and values by which CRMs say that somebody must not be contacted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.backends.opt_out_fields import opt_out_field
from crm_mcp.model import CHANNELS

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
        # In other languages
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
    ],
)  # fmt: skip
def test_a_field_of_consent_is_known_by_its_name(name: str, channels: tuple[str, ...]):
    found = opt_out_field(name)

    assert found
    assert (set(found.channels), found.consent) == (set(channels), True)


@pytest.mark.parametrize(
    "name",
    [
        *("Name", "Email", "Phone No", "Contact No.", "Mobile No", "No. of Calls", "No Calls", "Text", "Message"),
        *("Fax Opt Out", "HasOptedOutOfFax", "Do not allow Faxes", "donotpostalmail", "WhatsApp Opt Out"),
        *("Unsubscribe link", "Unsubscribe Reason", "do_not_contact_reason", "Unsubscribed Mode", "GDPR consent date"),
        *("Email Status", "Lead Status", "Marketing contact status", "Newsletter", "Notes", "Domain", "Not contacted"),
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
        *((each, None) for each in ("maybe", "2024-01-05", "pending", "call first", "2", "??")),
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
def test_a_date_is_a_yes_in_a_field_that_holds_the_time_of_it(value: str):
    dated, plain = opt_out_field("Opted Out At"), opt_out_field("Opted Out")

    assert dated
    assert plain
    assert (dated.refuses(value), plain.refuses(value)) == (True, None)


@given(st.text(max_size=200), st.text(max_size=40))
def test_any_name_and_value_is_read_without_a_fault(name: str, value: str):
    field = opt_out_field(name)

    assert field is None or (field.channels and field.refuses(value) in (True, False, None))
