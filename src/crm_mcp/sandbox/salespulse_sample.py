"""The sample of SalesPulse's emulator: an agency that sells insurance; its people are those of the other samples."""

from __future__ import annotations

from typing import Any, NamedTuple

STAGES = ("New Lead", "Contacted", "Quoted", "Application", "Issued", "Lost")
STATES = ("FL", "TX", "GA", "NC", "OH", "AZ")
PRODUCTS = ("final_expense", "term_life", "medicare_supplement", "whole_life", "annuity")


class SampleCall(NamedTuple):
    """A call of the sample, so many days ago."""

    person: int
    days: float
    direction: str
    seconds: int
    disposition: str
    transcript: str


CALLS = (
    SampleCall(
        0, 1.1, "outbound", 312, "interested",
        "Agent: Hello Jane, you asked about final expense cover.\n"
        "Jane: Yes. What would ten thousand cost a month?\n"
        "Agent: For a non-smoker of your age about forty-one dollars.\n"
        "Jane: Send me the quote, and call me on Thursday after four.",
    ),
    SampleCall(
        0, 8.4, "inbound", 95, "callback",
        "Jane: I saw your card at the library. Do you do burial insurance?\n"
        "Agent: We do. May I call you back with a quote?\nJane: Please do.",
    ),
    SampleCall(
        1, 2.3, "outbound", 0, "no_answer", "",
    ),
    SampleCall(
        2, 3.2, "outbound", 641, "application",
        "Agent: You chose the twenty-year term with two hundred and fifty thousand.\n"
        "Ines: Yes, and my sister is the beneficiary.\nAgent: Then I need your doctor's name for the application.",
    ),
    SampleCall(
        3, 5.5, "inbound", 188, "question",
        "Tom: Does the supplement pay for the deductible of part B?\n"
        "Agent: Plan G does not, and costs less for it.\nTom: I will talk to my wife.",
    ),
    SampleCall(5, 6.0, "outbound", 41, "not_interested", "Louis: I have cover through my guild. Please no more calls."),
    SampleCall(
        6, 0.4, "outbound", 274, "interested",
        "Agent: The annuity pays from sixty-five on.\nGreta: And if I die before that?\n"
        "Agent: Then your heirs get what is in it.\nGreta: Good. Send me the illustration.",
    ),
    SampleCall(8, 12.2, "outbound", 402, "sold", "Carla: I have signed.\nAgent: Then your policy is issued on Monday."),
)  # fmt: skip

DEALS: tuple[tuple[int, str, float, int, str], ...] = (
    (0, "Final expense, 10,000", 492.0, 2, "open"),
    (2, "Term life, 250,000 over 20 years", 1_140.0, 3, "open"),
    (3, "Medicare supplement, plan G", 1_872.0, 1, "open"),
    (5, "Whole life, 50,000", 960.0, 5, "lost"),
    (6, "Annuity, 80,000 at once", 80_000.0, 2, "open"),
    (8, "Final expense, 15,000", 738.0, 4, "won"),
    (9, "Term life, 100,000 over 10 years", 396.0, 1, "open"),
)
"""Who, what, for how much a year, in which stage, and how it stands."""

PLACES = (2, 1, 3, 1, 0, 5, 2, 0, 4, 1, 0, 0)
"""The stage of each person."""


def contact_fields(person: Any, number: int) -> dict[str, Any]:
    """Return what the emulator keeps of a person of the sample."""
    return {
        "first_name": person.first,
        "last_name": person.last,
        "phone": person.phone,
        "email": person.email,
        "state": STATES[number % len(STATES)],
        "product_interest": PRODUCTS[number % len(PRODUCTS)],
        "company": person.company,
        "title": person.title,
    }
