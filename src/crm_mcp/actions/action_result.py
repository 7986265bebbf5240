"""What is told of an action: the action result of the contract."""

from __future__ import annotations

from typing import Any

from crm_mcp.actions.intent import Outcome
from crm_mcp.errors import other_named
from crm_mcp.model import rfc3339
from crm_mcp.store import HELD, Action, Status
from crm_mcp.text import one_line

SERVED: dict[Status, str] = {"proposed": "confirmation_required", "sending": "running"}
"""What a stored status is called in results, where that differs."""
LATE = "its time has passed, and nothing happened; make the call again"
WHY: dict[Status, str] = {
    "pending_approval": "it waits for a person, who sees it with `crm-mcp approvals` and says yes with "
    "`crm-mcp approvals approve {id}`",
    "expired": LATE,
}
"""Why an action is where it is, where no other reason is known."""


def action_result(row: Action) -> dict[str, Any]:
    """Return the action result of the contract."""
    status = SERVED.get(row.status, row.status)
    result: dict[str, Any] = {"action_id": row.id, "status": status, "summary": row.summary}
    if row.status in ("proposed", "pending_approval", "dry_run"):
        result["preview"] = row.preview
    if row.status in HELD and row.expires_at:
        result["expires_at"] = rfc3339(row.expires_at)
    if row.status == "scheduled" and row.due_at:
        result["due_at"] = rfc3339(row.due_at)
    if row.progress and row.status == "running":
        result["progress"] = row.progress
    if row.error:
        result["error"] = row.error
    reason = row.reason or WHY.get(row.status, "").format(id=row.id)
    return {**result, **({"reason": reason} if reason else {}), **(row.result or {})}


def found_in_history(said: str | None) -> str:
    """Return why an action is done that the CRM's own history shows, after what was `said` of its answer before."""
    shows = "the CRM's own history shows that it happened"
    other = other_named(said or "")
    return f"{shows}; but {other}, too" if other else f"the answer was lost; {shows}"


def result_of_repeat(row: Action) -> dict[str, Any]:
    """Return the result for what has been done, or is being done, already; of what has ended otherwise, its own."""
    if row.status not in ("done", "sending", "running", "scheduled", "unknown"):
        return action_result(row)
    earlier = action_result(row)
    status = SERVED.get(row.status, row.status)
    how = f"the same was asked for before and is {status}, as action {row.id}"
    if row.reason:
        how += f": {row.reason}"
    if row.repeatable:
        how += "; to send it again on purpose, say so with resend_of"
    return {**earlier, "status": "duplicate", "reason": how}


def taken_back(done: Outcome, by: Action) -> dict[str, Any]:
    """Return what has become of an action that another one has taken back: the action result of the earlier one."""
    status = "undone" if done.undone else "cancelled"
    earlier = {"action_id": done.undone or done.cancelled, "status": status, "summary": one_line(done.summary)}
    return {**earlier, "undone_by": by.id, **done.fields}
