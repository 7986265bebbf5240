"""The tools of the contract (section 3), as the embedded CRM serves them: toolset, parameters, effect.

Transcribed from the contract's table. It serves no start_call, send_linkedin_message, get_metrics and no toolset
`vendor`.
"""

from __future__ import annotations

TABLE = """
leads | search_leads | query? status? stage? tag? owner? list? created_after? not_contacted_since? sort? limit? cursor? | read
leads | get_lead | lead include? | read
leads | create_lead | name? first_name? last_name? email? phone? company? title? status? tags? list? custom_fields? if_exists? | write
leads | update_lead | lead name? first_name? last_name? email? phone? company? title? status? owner? tags? custom_fields? clear? | write
leads | tag_lead | lead add? remove? | write
activity | log_note | lead content kind? outcome? occurred_at? duration_seconds? direction? | write
activity | list_activity | lead kinds? since? limit? cursor? | read
activity | list_changes | since? kinds? limit? cursor? | read
activity | get_call | call | read
tasks | list_tasks | lead? completed? due_before? limit? cursor? | read
tasks | create_task | title lead? due_at? priority? | write
tasks | update_task | task title? due_at? priority? completed? | write
deals | list_deals | stage? lead? status? owner? closes_before? limit? cursor? | read
deals | get_pipeline | of? group_by? | read
deals | create_deal | name lead? value? stage? currency? closes_at? | write
deals | update_deal | deal name? value? status? closes_at? | write
deals | move_stage | stage lead? deal? | write
outreach | send_email | lead subject body mailbox? reply_to? resend_of? defer? | outward
outreach | send_sms | lead message resend_of? defer? | outward
outreach | enroll_in_sequence | sequence leads dry_run? | outward
outreach | unenroll_from_sequence | sequence leads | write
outreach | set_do_not_contact | lead blocked channels? reason? | write
bulk | import_leads | leads? csv? map? if_exists? dry_run? | write
admin | delete_record | kind id | destructive
admin | confirm_action | action_id summary | destructive
admin | undo_action | action_id | write
admin | list_actions | status? lead? limit? cursor? | read
admin | list_options | kind | read
admin | crm_status | | read
"""  # noqa: E501 - the rows are those of the contract

ALL = {
    name: (toolset, frozenset(parameters.split()), effect)
    for toolset, name, parameters, effect in (
        [cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()
    )
}
