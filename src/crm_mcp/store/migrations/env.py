"""Runs the migrations on the connection, and in the transaction, that `store.database` hands over."""

from __future__ import annotations

from alembic import context

from crm_mcp.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
