"""What SalesPulse's reference does not spell out, in one table: the names of fields, and the verb of one path.

The reference names the fields of a contact (`first_name last_name phone email state product_interest`) and, in the
sample of a webhook, those of a call (`call_id contact_id direction duration_seconds recording_url disposition`). It
shows no other body and no answer, so each other key is inferred.
"""

from __future__ import annotations

from dataclasses import dataclass

WORDS = ("first_name", "last_name", "email", "phone")
"""Fields of a contact that the reference names and that a lead has by the same name."""


@dataclass(frozen=True)
class Keys:
    """What the reference does not spell out, all of it inferred; a connection's settings can correct each."""

    contacts: str = "contacts"
    """Of the body of a bulk creation."""
    company: str = "company"
    title: str = "title"
    stage: str = "stage_id"
    """Of the body of a stage move, and of the id of a stage in an answer."""
    stage_shown: str = "stage"
    """Of a stage in an answer: its name, or an object with `id` and `name`."""
    stage_verb: str = "PATCH"
    """The verb of a stage move: both captures of the reference lost it."""
    call_to: str = "contact_id"
    """Of the body of a call: a key that ends in `_id` is given the contact's id, another one (`to`) its number."""
    created: str = "created_at"
    updated: str = "updated_at"
    contacted: str = "last_contacted_at"
    call_started: str = "started_at"
    call_transcript: str = "transcript"
    deal_contact: str = "contact"
    deal_name: str = "name"
    deal_value: str = "value"
    deal_currency: str = "currency"
    deal_status: str = "status"
    deal_closes: str = "closes_at"
    deal_owner: str = "owner"

    @property
    def taken(self) -> frozenset[str]:
        """The keys of a contact that no custom field can have."""
        inferred = (self.company, self.title, self.stage, self.stage_shown, self.created, self.updated, self.contacted)
        return frozenset(("id", *WORDS, *inferred))

    @property
    def identifying(self) -> tuple[str, ...]:
        """The keys of a contact of which one at least must have a value."""
        return (*WORDS, self.company)
