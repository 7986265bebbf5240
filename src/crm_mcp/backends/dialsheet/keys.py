"""What Dialsheet's documentation leaves open: the names of fields, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """What Dialsheet's documentation does not give, and is inferred; `keys` in the settings corrects each.

    Documented are: of a lead `id`, `name`, `email`, `company`, `phone`, `status`; of a task `title`, `lead_id`,
    `due_date`, `priority`; of a note `lead_id`, `content`, `outcome`; of an e-mail `email_account_id`, `to_email`,
    `subject`, `body_text`, `lead_id`; of an SMS `lead_id`, `message`.
    """

    first_page: str = "1"
    """The number of the first page of leads."""
    created_at: str = "created_at"
    updated_at: str = "updated_at"
    lead_title: str = "title"
    lead_first_name: str = "first_name"
    lead_last_name: str = "last_name"
    lead_owner: str = "owner"
    lead_tags: str = "tags"
    lead_contacted_at: str = "last_contacted_at"
    task_completed: str = "completed"
    priority_low: str = "low"
    priority_normal: str = "medium"
    priority_high: str = "high"
    call_direction: str = "direction"
    call_duration: str = "duration"
    call_outcome: str = "outcome"
    call_started_at: str = "started_at"
    call_recording: str = "recording_url"
    call_transcript: str = "transcript"
    message_sent_at: str = "sent_at"
    message_status: str = "status"
    message_direction: str = "direction"
    deal_lead: str = "lead_id"
    deal_name: str = "name"
    deal_value: str = "value"
    deal_stage: str = "stage"
    deal_status: str = "status"
    deal_currency: str = "currency"
    deal_closes_at: str = "close_date"
    deal_owner: str = "owner"
    option_name: str = "name"
    """Of a tag and of a sequence."""
    mailbox_address: str = "email"
    mailbox_default: str = "is_default"
    enroll_lead: str = "lead_id"


ALSO: Mapping[str, tuple[str, ...]] = {
    "task_completed": ("is_completed", "completed_at"),
    "call_duration": ("duration_seconds",),
    "call_started_at": ("created_at",),
    "message_sent_at": ("created_at",),
    "deal_name": ("title", "name"),
    "deal_closes_at": ("expected_close_date", "closes_at"),
    "lead_owner": ("assigned_to",),
    "mailbox_address": ("email_address", "address"),
}
"""Where else a value may stand, as inferred as the keys are; only for reading."""
