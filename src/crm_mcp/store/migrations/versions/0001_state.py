"""Actions, the counter of finished ones, and do-not-contact."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# PostgreSQL would refuse a NUL in JSON; as text it is kept escaped.
JSON = sa.JSON().with_variant(sa.Text(), "postgresql")


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "actions",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String(18), nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("effect", sa.String(), nullable=False),
        sa.Column("arguments", JSON, nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("preview", sa.Text()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("approved_by", sa.String()),
        sa.Column("reason", sa.Text()),
        sa.Column("error", sa.String()),
        sa.Column("result", JSON),
        sa.Column("undo", JSON),
        sa.Column("lead", sa.String()),
        sa.Column("touched", JSON, nullable=False),
        sa.Column("touched_kinds", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("asked", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("started_at", sa.BigInteger()),
        sa.Column("finished_at", sa.BigInteger()),
        sa.Column("finished_no", sa.BigInteger()),
        sa.PrimaryKeyConstraint("no", name="pk_actions"),
        sa.UniqueConstraint("id", name="uq_actions_id"),
        sa.UniqueConstraint("finished_no", name="uq_actions_finished_no"),
    )
    op.create_index("ix_actions_caller_digest", "actions", ["caller", "digest"])
    op.create_index("ix_actions_caller_no", "actions", ["caller", "no"])
    op.create_index("ix_actions_caller_tool_started_at", "actions", ["caller", "tool", "started_at"])
    op.create_index("ix_actions_lead_no", "actions", ["lead", "no"])
    op.create_index("ix_actions_status_no", "actions", ["status", "no"])
    op.create_index("ix_actions_finished_at", "actions", ["finished_at"])
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.bulk_insert(counters, [{"name": "finished", "value": 0}])
    op.create_table(
        "do_not_contact",
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("blocked_by", sa.String(), nullable=False),
        sa.Column("blocked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "address", name="pk_do_not_contact"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("do_not_contact")
    op.drop_table("counters")
    op.drop_table("actions")
