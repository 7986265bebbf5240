"""Who must not be contacted, and who set an address: whatever lead or connection they belong to.

A block is a row of a channel and an address. That of `EVERY` channel holds on all that there are, and on those that a
later version adds; where the address has a row of a channel as well, that one decides for its channel: so one channel
can be lifted, and the block goes on for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, false, insert, or_, select, update

from crm_mcp.address import address_key
from crm_mcp.channels import CHANNELS, EVERY, Blocked, Channel
from crm_mcp.store.audit import Audit
from crm_mcp.store.database import Database
from crm_mcp.store.records import Action, Address, Written
from crm_mcp.store.tables import actions, blocks, dedup_keys
from crm_mcp.store.tables import addresses as written
from crm_mcp.store.threads import Part, Threads, in_thread

NOTHING_HAPPENED = ("failed", "blocked", "cancelled", "declined", "expired")
"""How an action may have ended that wrote no address after all."""

AT_ONCE = 500
"""How many addresses one query asks for: databases take only so many values."""

_c = blocks.c
_w = written.c


class Contacts(Part):
    """The do-not-contact list and what stands beside it."""

    def __init__(self, threads: Threads, database: Database, clock: Callable[[], datetime], audit: Audit) -> None:
        super().__init__(threads, database, clock)
        self._audit = audit

    async def block(self, addresses: Mapping[Blocked, str], reason: str | None, by: str) -> None:
        """Put addresses on the do-not-contact list; a new reason replaces the old one."""
        await self.block_many([addresses], [reason], by)

    @in_thread
    def block_many(self, several: Sequence[Mapping[Blocked, str]], reasons: Sequence[str | None], by: str) -> None:
        """Put the addresses of several people on the do-not-contact list, all or none, each with a reason of their own.

        What is on it stays, with the new reason where one is given.
        """
        wanted = [(each, reason) for each, reason in zip(several, reasons, strict=True) if each]
        if not wanted:
            return
        with self.database.writing() as connection:
            moment = self._clock()
            present = _present(connection, [address for each, _ in wanted for address in each.values()])
            new: dict[tuple[str, str], dict[str, Any]] = {}
            for addresses, reason in wanted:
                values: dict[str, Any] = {"reason": reason, "blocked_by": by, "blocked_at": moment}
                for channel, address in addresses.items():
                    key = channel, address_key(address)
                    same = update(blocks).where(_c.channel == channel, _c.address == key[1])
                    if key not in present:
                        earlier = new.get(key, {}).get("reason")
                        new[key] = values | {"channel": channel, "address": key[1], "reason": reason or earlier}
                        continue
                    row = present[key]
                    if row.lifted_at is not None:
                        connection.execute(same.values(values | {"lifted_at": None, "lifted_by": None}))
                    elif reason not in (None, row.reason):
                        connection.execute(same.values(reason=reason))
                    present[key] = _Row(None, reason or row.reason)
            if new:
                connection.execute(insert(blocks), [*new.values()])
            _lift_no_more(connection, {each[EVERY] for each, _ in wanted if EVERY in each})
            # Whoever asks for it writes the reason: it is no word of ours, and is kept as an argument is.
            self._audit.extend(
                connection,
                moment,
                [
                    {
                        "event": "do_not_contact",
                        "addresses": dict(addresses),
                        "reason": self._audit.redact({"reason": reason})["reason"],
                        "by": by,
                    }
                    for addresses, reason in wanted
                ],
            )

    @in_thread
    def unblock(self, addresses: Mapping[Blocked, str], by: str) -> None:
        """Take addresses off the do-not-contact list. That it was lifted, and when, is kept."""
        if not addresses:
            return
        with self.database.writing() as connection:
            moment = self._clock()
            present = _present(connection, list(addresses.values()))
            lifted = {"lifted_at": moment, "lifted_by": by}
            for channel, address in addresses.items():
                here = and_(_c.address == address_key(address), _c.lifted_at.is_(None))
                of = here if channel == EVERY else and_(here, _c.channel == channel)
                connection.execute(update(blocks).where(of).values(lifted))
                every = present.get((EVERY, address_key(address)))
                if every is None or every.lifted_at is not None or (channel, address_key(address)) in present:
                    continue
                # The block of every channel goes on for the others.
                row = {"channel": channel, "address": address_key(address), "reason": every.reason}
                connection.execute(insert(blocks), row | {"blocked_by": by, "blocked_at": moment} | lifted)
            told = {"event": "do_not_contact_lifted", "addresses": dict(addresses), "by": by}
            self._audit.append(connection, moment, told)

    @in_thread
    def blocked(self, addresses: Mapping[Channel, str]) -> dict[Channel, str]:
        """Return which of these are on the do-not-contact list, with the reason ("" where none was given)."""
        with self.database.reading() as connection:
            present = _present(connection, list(addresses.values()))
        found: dict[Channel, _Row | None] = {each: _deciding(present, each, addresses[each]) for each in addresses}
        return {channel: row.reason or "" for channel, row in found.items() if row and row.lifted_at is None}

    @in_thread
    def lifted(self, addresses: Mapping[Channel, str]) -> dict[Channel, datetime]:
        """Return of which of these a block was lifted, and when: a STOP from before that blocks no more."""
        with self.database.reading() as connection:
            present = _present(connection, list(addresses.values()))
        found: dict[Channel, _Row | None] = {each: _deciding(present, each, addresses[each]) for each in addresses}
        return {channel: row.lifted_at for channel, row in found.items() if row and row.lifted_at is not None}

    @in_thread
    def written(self, addresses: Sequence[Address], since: datetime) -> tuple[Written, ...]:
        """Return who has set these addresses since then, the last one of each, in the order of `addresses`."""
        each = (and_(_w.channel == one.channel, _w.address == address_key(one.address)) for one in addresses)
        # A job that was called off had begun, and what failed may have written a part: that is there.
        stopped = and_(actions.c.status == "cancelled", actions.c.started_at.is_not(None))
        partly = and_(actions.c.status == "failed", actions.c.touched_kinds != "")
        wrote = or_(actions.c.status.not_in(NOTHING_HAPPENED), stopped, partly)
        happened = select(actions.c.id).where(actions.c.id == _w.action, wrote)
        wanted = and_(or_(false(), *each), _w.at >= since, happened.exists())
        query = select(written).where(wanted).order_by(_w.no)
        with self.database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        last = {(row["channel"], row["address"]): row for row in rows}
        keys = dict.fromkeys((one.channel, address_key(one.address)) for one in addresses)
        names = tuple(Written.model_fields)
        return tuple(Written.model_validate({name: last[key][name] for name in names}) for key in keys if key in last)

    @in_thread
    def approved_facts(self, channels: Sequence[str], address: str) -> tuple[dict[str, Any], ...]:
        """Return the facts of the newest 100 actions that reached an address on one of these channels, or that may
        have, after a person had seen them and said yes."""
        person = or_(actions.c.approved_by.in_(("elicitation", "cli")), actions.c.approved_by.startswith("approval"))
        reached = and_(
            dedup_keys.c.action == actions.c.id,
            dedup_keys.c.channel.in_(channels),
            dedup_keys.c.address == address,
            dedup_keys.c.at.is_not(None),
            dedup_keys.c.state != "released",
        )
        query = select(actions.c.facts).where(person, select(dedup_keys.c.no).where(reached).exists())
        with self.database.reading() as connection:
            return tuple(connection.execute(query.order_by(actions.c.no.desc()).limit(100)).scalars())


def now_blocked(connection: Connection, reached: Sequence[tuple[str | None, str | None]]) -> str | None:
    """Return the first of these channels on which its address is blocked; None: none is.

    An enrolment is none of them: its deduplication key does not tell which channels the sequence uses, so whoever
    enrols looks.
    """
    present = _present(connection, [address for _, address in reached if address is not None])
    for channel, address in reached:
        row = _deciding(present, channel, address) if channel in CHANNELS and address is not None else None
        if row and row.lifted_at is None:
            return channel
    return None


def keep_written(connection: Connection, action: Action, writes: Sequence[Address], moment: datetime) -> None:
    """Record which addresses an action writes."""
    by = {"by": action.caller, "tool": action.tool, "action": action.id, "at": moment}
    rows = [{"channel": each.channel, "address": address_key(each.address), **by} for each in writes]
    if rows:
        connection.execute(insert(written), rows)


class _Row(NamedTuple):
    lifted_at: datetime | None
    """Since when it is off the list; None: it is on it."""
    reason: str | None


def _present(connection: Connection, addresses: Sequence[str]) -> dict[tuple[str, str], _Row]:
    """Return what is or was on the list at these addresses, by channel and address."""
    keys = sorted({address_key(each) for each in addresses})
    found: dict[tuple[str, str], _Row] = {}
    for start in range(0, len(keys), AT_ONCE):
        wanted = _c.address.in_(keys[start : start + AT_ONCE])
        rows = connection.execute(select(_c.channel, _c.address, _c.lifted_at, _c.reason).where(wanted))
        found |= {(row.channel, row.address): _Row(row.lifted_at, row.reason) for row in rows}
    return found


def _deciding(present: Mapping[tuple[str, str], _Row], channel: str, address: str) -> _Row | None:
    """Return the row that decides for a channel: its own, else that of every channel."""
    key = address_key(address)
    own, every = present.get((channel, key)), present.get((EVERY, key))
    if own is None or every is None or own.lifted_at is None or every.lifted_at is None:
        return own or every
    return own if own.lifted_at > every.lifted_at else every


def _lift_no_more(connection: Connection, addresses: Collection[str]) -> None:
    """Forget what was lifted at these addresses by channel: a block of every channel has been made since."""
    keys = sorted({address_key(each) for each in addresses})
    for start in range(0, len(keys), AT_ONCE):
        here = _c.address.in_(keys[start : start + AT_ONCE])
        connection.execute(delete(blocks).where(here, _c.channel != EVERY, _c.lifted_at.is_not(None)))
