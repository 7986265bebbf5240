"""What an action makes or deletes, and whether it may be repeated on purpose: its row says it, not its tool's name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CREATED = {
    "create_lead": "lead",
    "import_leads": "lead",
    "create_task": "task",
    "create_deal": "deal",
    "log_note": "note",
    "call_operation": "any",
}
"""The tools up to now, and what they made."""
REPEATABLE = ("send_email", "send_sms", "send_linkedin_message")
DELETING = ("delete_record",)


def upgrade() -> None:
    """Add the columns, and fill them for the tools that there were."""
    op.add_column("actions", sa.Column("creates", sa.String(16)))
    for flag in ("repeatable", "deletes"):
        op.add_column("actions", sa.Column(flag, sa.Boolean(), nullable=False, server_default=sa.false()))
    actions = sa.table("actions", *map(sa.column, ("tool", "creates", "repeatable", "deletes")))
    for tool, kind in CREATED.items():
        op.execute(sa.update(actions).where(actions.c.tool == tool).values(creates=kind))
    op.execute(sa.update(actions).where(actions.c.tool.in_(REPEATABLE)).values(repeatable=sa.true()))
    op.execute(sa.update(actions).where(actions.c.tool.in_(DELETING)).values(deletes=sa.true()))


def downgrade() -> None:
    """Drop them."""
    for column in ("creates", "repeatable", "deletes"):
        op.drop_column("actions", column)
