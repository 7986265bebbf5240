"""Leases and fences of actions, marks, items of jobs, the kill switch, written addresses, the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(sa.Text(), "postgresql")
LAST_WORD = 8 * 60 * 1000
"""After its start: what runs in a state of 0001 had no lease, and was lost ten minutes after it began."""


def upgrade() -> None:
    """Add columns and tables; what was running becomes `sending`."""
    added = (
        sa.Column("verdict", sa.String(), nullable=False, server_default="allow"),
        sa.Column("rule", sa.String(), nullable=False, server_default=""),
        sa.Column("request", sa.String()),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("owner", sa.String(32)),
        sa.Column("lease_until", sa.BigInteger()),
        sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("looks", sa.BigInteger(), nullable=False, server_default="0"),
    )
    for column in added:
        op.add_column("actions", column)
    op.execute(
        f"UPDATE actions SET status = 'sending', lease_until = started_at + {LAST_WORD} WHERE status = 'running'"
    )
    op.add_column("do_not_contact", sa.Column("lifted_at", sa.BigInteger()))
    op.add_column("do_not_contact", sa.Column("lifted_by", sa.String()))
    _make_marks()
    _make_the_rest()


def _make_marks() -> None:
    op.create_table(
        "marks",
        sa.Column("no", NUMBER, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("action", sa.String(18), nullable=False),
        sa.Column("channel", sa.String(16)),
        sa.Column("address", sa.String()),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("seconds", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger()),
        sa.Column("until", sa.BigInteger()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("passed_to", sa.String(18)),
        sa.PrimaryKeyConstraint("no", name="pk_marks"),
    )
    op.create_index("ix_marks_key", "marks", ["key"])
    op.create_index("ix_marks_action", "marks", ["action"])
    op.create_index("ix_marks_passed_to", "marks", ["passed_to"])
    op.create_index("ix_marks_address_at", "marks", ["address", "at"])
    op.create_index("ix_marks_connection_channel_at", "marks", ["connection", "channel", "at"])


def _make_the_rest() -> None:
    op.create_table(
        "items",
        sa.Column("action", sa.String(18), nullable=False),
        sa.Column("no", sa.BigInteger(), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("result", JSON),
        sa.PrimaryKeyConstraint("action", "no", name="pk_items"),
    )
    op.create_index("ix_items_action_status_no", "items", ["action", "status", "no"])
    op.create_table(
        "addresses",
        sa.Column("no", NUMBER, nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("action", sa.String(18), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_addresses"),
    )
    op.create_index("ix_addresses_channel_address_at", "addresses", ["channel", "address", "at"])
    op.create_table(
        "switches",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.String(16), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_switches"),
    )
    op.create_table(
        "audit",
        sa.Column("no", NUMBER, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(8), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("mac", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])


def downgrade() -> None:
    """Drop them; what is not ended and unknown to 0001 becomes unknown."""
    for table in ("audit", "switches", "addresses", "items", "marks"):
        op.drop_table(table)
    op.execute("UPDATE actions SET status = 'running' WHERE status = 'sending'")
    op.execute("UPDATE actions SET status = 'cancelled' WHERE status IN ('pending_approval', 'scheduled')")
    op.execute("DELETE FROM do_not_contact WHERE lifted_at IS NOT NULL")
    for column in ("lifted_at", "lifted_by"):
        op.drop_column("do_not_contact", column)
    for column in ("verdict", "rule", "request", "due_at", "owner", "lease_until", "fence", "looks"):
        op.drop_column("actions", column)
