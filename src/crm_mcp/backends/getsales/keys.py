"""What is inferred of GetSales' API, or what its sources contradict each other about, in one table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """What is inferred, or what sources contradict each other about; each can be corrected in the settings."""

    email: str = "work_email"
    """Where an e-mail address is written; found in a public client, an older form is `email`."""
    phone: str = "work_phone_number"
    created: str = "created_at"
    """The search filter by day of creation, `{from, to}`."""
    date_form: str = "from_to"
    """How a filter gives a period: `from_to`, or `operators` as in the sister product."""
    stage_form: str = "brackets"
    """How stages are filtered by what they belong to: `brackets`, or `json` as in the sister product."""
    count_form: str = "leadFilter"
    """How leads are counted: by a filter with a `leadFilter` in it, or with `all` and a filter beside each other, as in
    the sister product."""
    stage_action: str = "contact_change_pipeline_stage"
    add_tag_action: str = "contact_add_tags"
    """A later source says `contact_assign_tag`."""
    remove_tag_action: str = "contact_remove_tags"
    """A later source says `contact_remove_tag`."""
    tag: str = "tag_uuid"
    """The payload of both tag actions, one tag at a time."""
    note_lead: str = "object_uuid"
    """The filter of notes by lead."""
    note_id: str = "uuid"
    """The filter of notes by their own id: there is no operation that reads one."""
    profile: str = "linkedin_id"
    """Where a LinkedIn profile is written at creation, in any form."""
    handle: str = "linkedin"
    """Where it is written in an update, as the last part of the profile's address."""
    blacklist: str = "/leads/api/leads-blacklist"
    """A public client of the sister product calls `/leads/api/blacklist/leads`."""
    send_linkedin: str = "/flows/api/linkedin-messages"
    """The quick start says `/flows/api/messages`; every reference and client says this."""
    lookup: str = "/leads/api/leads/lookup-one"
    """An older reference says `find-one`."""
    email_form: str = "mailbox"
    """How an e-mail names its sender: `mailbox` (`mailbox_uuid` and `to`), or `sender` (`sender_profile_uuid`,
    `from_email` and `to_email`), as older sources have it."""
    in_flow: str = "in_progress"
    """The statuses of a lead that is in a sequence now, with spaces between (sister product)."""
    out_of_flow: str = "finished canceled cancelled"
    """Those of one to whom no more of it goes out; with any other status it may still be in the sequence."""


FORMS = {
    "date_form": ("from_to", "operators"),
    "stage_form": ("brackets", "json"),
    "count_form": ("leadFilter", "all"),
    "email_form": ("mailbox", "sender"),
}
"""The keys that choose between two forms, and their values."""
PATHS = ("blacklist", "send_linkedin", "lookup")
"""The keys that are paths."""
