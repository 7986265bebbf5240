"""What the documentation of SalesSheet leaves open: the names of fields and parameters, in one table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """Inferred names, each of which the settings can correct (`keys = { title = "job_title" }`).

    The help article gives paths, `page`, `per_page`, `sort_by` and `sort_order`, and says that filters are named like
    fields; no field is named anywhere. These are the names that the article's own words suggest.
    """

    search: str = "search"
    """Query parameter for words in contacts."""

    first_name: str = "first_name"
    last_name: str = "last_name"
    name: str = "name"
    """A name of its own beside first and last name; also a company's."""
    email: str = "email"
    phone: str = "phone"
    company: str = "company"
    title: str = "title"
    status: str = "status"
    owner: str = "owner"
    custom_fields: str = "custom_fields"
    """An object of values by the id of the custom field."""
    batch_id: str = "id"
    """Of an item of a batch: the contact that it changes."""
    created_at: str = "created_at"
    updated_at: str = "updated_at"
    last_contacted_at: str = "last_contacted_at"

    contact: str = "contact_id"
    """The contact of a deal, task or activity."""

    deal_name: str = "name"
    deal_value: str = "value"
    deal_currency: str = "currency"
    deal_stage: str = "stage_id"
    deal_status: str = "status"
    deal_closes_at: str = "close_date"
    deal_owner: str = "owner"

    stages: str = "stages"
    """The stages in a pipeline."""

    task_title: str = "title"
    task_due_at: str = "due_date"
    task_priority: str = "priority"
    priority_low: str = "low"
    priority_normal: str = "normal"
    priority_high: str = "high"
    task_status: str = "status"
    task_open: str = "open"
    """The status of a task that is to be done."""
    task_completed: str = "completed"
    """The status of a task that is done."""

    activity_type: str = "type"
    activity_note: str = "note"
    """The type of a note: the article names e-mails, calls and meetings only."""
    activity_call: str = "call"
    activity_email: str = "email"
    activity_meeting: str = "meeting"
    activity_subject: str = "subject"
    activity_body: str = "body"
    activity_at: str = "occurred_at"
    activity_outcome: str = "outcome"
    activity_direction: str = "direction"
    activity_duration: str = "duration_seconds"
    activity_status: str = "status"
    recording_url: str = "recording_url"
    transcript: str = "transcript"
