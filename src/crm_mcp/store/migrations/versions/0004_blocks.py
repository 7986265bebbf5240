"""A block on all channels is one row, which holds for channels that come later.

The table has a new name: a process of an older version would not see the blocks that such a row is, and must fail
instead of sending.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

EVERY = "every"
CHANNELS = ("email", "sms", "call", "linkedin")
"""All that there were."""
OF_ONE_ADDRESS = (frozenset(("email",)), frozenset(("sms", "call")), frozenset(("linkedin",)))
"""The channels that used one address."""
ONE_BLOCK = 10_000
"""Milliseconds within which the rows of one block were written: of its addresses first, of the lead last."""


def upgrade() -> None:
    """Make the rows of each block on all channels one row an address; every other block stays as it is."""
    old, new = _table("do_not_contact"), _make("blocks")
    rows = [dict(row) for row in op.get_bind().execute(sa.select(old)).mappings()]
    blocks = [*_joined(rows)]
    if blocks:
        op.bulk_insert(new, blocks)
    op.drop_table("do_not_contact")


def downgrade() -> None:
    """Make a row of each channel again of every one that holds for all."""
    old, new = _table("blocks"), _make("do_not_contact")
    rows = [dict(row) for row in op.get_bind().execute(sa.select(old)).mappings()]
    own = {(row["channel"], row["address"]): row for row in rows if row["channel"] != EVERY}
    for row in rows:
        for channel in CHANNELS if row["channel"] == EVERY else ():
            own.setdefault((channel, row["address"]), row | {"channel": channel})
    if own:
        op.bulk_insert(new, [*own.values()])
    op.drop_table("blocks")


def _table(name: str) -> sa.TableClause:
    names = ("channel", "address", "reason", "blocked_by", "blocked_at", "lifted_at", "lifted_by")
    return sa.table(name, *map(sa.column, names))


def _make(name: str) -> sa.Table:
    return op.create_table(
        name,
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("blocked_by", sa.String(), nullable=False),
        sa.Column("blocked_at", sa.BigInteger(), nullable=False),
        sa.Column("lifted_at", sa.BigInteger()),
        sa.Column("lifted_by", sa.String()),
        sa.PrimaryKeyConstraint("channel", "address", name=f"pk_{name}"),
    )


def _joined(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows as they are from now on."""
    by_block: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["lifted_at"] is None:
            by_block[row["blocked_by"], row["reason"]].append(row)
        else:
            yield row
    for several in by_block.values():
        yield from _of_one_hand(several)


def _of_one_hand(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield those that one hand has written for one reason."""
    channels: dict[int, set[str]] = defaultdict(set)
    at: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        channels[row["blocked_at"]].add(row["channel"])
        at[row["address"]][row["channel"]] = row
    on_all = sorted(moment for moment, each in channels.items() if each == {*CHANNELS})
    for by_channel in at.values():
        last = max(row["blocked_at"] for row in by_channel.values())
        place = bisect_left(on_all, last)
        near = place < len(on_all) and on_all[place] - last <= ONE_BLOCK
        whole = by_channel.keys() == {*CHANNELS} or frozenset(by_channel) in OF_ONE_ADDRESS
        if whole and near:
            yield next(iter(by_channel.values())) | {"channel": EVERY}
        else:
            yield from by_channel.values()
