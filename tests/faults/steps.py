"""What can happen around an action while it goes its way: at a named step something breaks, and later it is mended."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crm_mcp.backends.remote import Remote
from crm_mcp.store import FILE_NAME

from .served import Confirmation, Served

NOBODY = "http://127.0.0.1:9"
"""Where nobody listens."""
Mend = Callable[[], None]


@dataclass(frozen=True)
class Happening:
    """Something that breaks."""

    name: str
    breaks: Callable[[Served], Mend]
    """Breaks it, and returns how it is mended."""
    steps: tuple[str, ...]
    vendors: tuple[str, ...] = ()
    """None: all."""


def unreached(served: Served) -> Mend:
    """Let connections to the CRM be refused."""
    crm = served.application.backends[served.connection]
    assert isinstance(crm, Remote)
    api = crm._api  # pyright: ignore[reportPrivateUsage]
    conditions = api._profile  # pyright: ignore[reportPrivateUsage]
    api._profile = replace(conditions, base_url=NOBODY)  # pyright: ignore[reportPrivateUsage]

    def mend() -> None:
        api._profile = conditions  # pyright: ignore[reportPrivateUsage]

    return mend


def jumped(hours: int) -> Callable[[Served], Mend]:
    """Put the clock forward or back, for good."""

    def jump(served: Served) -> Mend:
        served.clock.advance(hours=hours)
        return lambda: None

    return jump


def locked(name: str) -> Callable[[Served], Mend]:
    """Let somebody else write into a file, and not come to an end."""

    def lock(served: Served) -> Mend:
        db = sqlite3.connect(served.application.settings.data_dir / name, timeout=2, isolation_level=None)
        db.execute("BEGIN EXCLUSIVE")
        return db.close

    return lock


def full(name: str) -> Callable[[Served], Mend]:
    """Let a file take no more pages than it has, as a full disk does."""

    def fill(served: Served) -> Mend:
        engine = _engine(served) if name == FILE_NAME else None
        assert engine is not None
        from sqlalchemy import event

        def most(connection: Any) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # never less than there are

        def any_number(connection: Any) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000000")

        event.listen(engine, "begin", most)

        def mend() -> None:
            event.remove(engine, "begin", most)
            event.listen(engine, "begin", any_number)

        return mend

    return fill


def _engine(served: Served) -> Any:
    assert served.store.opened
    return served.store.audit.database._engine  # pyright: ignore[reportPrivateUsage]


ALL = ("start", "proposed", "beginning", "claiming", "claimed", "answered", "settled")
REMOTE = ("dialsheet", "getsales", "salespulse", "salessheet")
HAPPENINGS = (
    Happening("connection refused", unreached, ("start", "beginning", "claiming", "claimed", "answered"), REMOTE),
    Happening("clock an hour on", jumped(1), ALL),
    Happening("clock an hour back", jumped(-1), ALL),
    Happening("state locked", locked(FILE_NAME), ALL),
    Happening("state full", full(FILE_NAME), ALL),
    Happening("CRM locked", locked("crm.sqlite3"), ALL, ("local",)),
)

JANE = "L181"
LOCAL_TOOLS: Mapping[str, dict[str, Any]] = {
    "send_sms": {"lead": JANE, "message": "On my way"},
    "send_email": {
        "lead": JANE,
        "subject": "Tomorrow",
        "body": "Shall we say ten?",
        "mailbox": "sales@northwind-supply.example",
    },
    "enroll_in_sequence": {"sequence": "Follow-up", "leads": ["L100"]},
    "log_note": {"lead": JANE, "content": "Wants a quote"},
    "create_task": {"title": "Ring back", "lead": JANE},
    "create_lead": {"name": "Ada Byron", "email": "ada@byron.example"},
    "create_deal": {"name": "Robots", "lead": JANE, "value": 1000},
    "update_lead": {"lead": JANE, "title": "Chief"},
    "tag_lead": {"lead": JANE, "add": ["faults"]},
    "move_stage": {"deal": "D61", "stage": "Negotiation"},
    "delete_record": {"kind": "lead", "id": JANE},
}


def embedded(folder: Path) -> Counter[Any]:
    """Return what the embedded CRM has: how many rows of each kind, and the values that tools change."""
    with closing(sqlite3.connect(folder / "crm.sqlite3")) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        plain = [name for name in names if name in TABLES]
        found = Counter({name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in plain})
        for (title,) in db.execute(f"SELECT title FROM leads WHERE n = {JANE[1:]}"):
            found[f"title {title}"] = 1
        for (stage,) in db.execute("SELECT stage FROM deals WHERE n = 61"):
            found[f"stage {stage}"] = 1
        return found


TABLES = ("leads", "deals", "notes", "tasks", "messages", "enrolments", "lead_labels", "calls")


def changed(before: Counter[Any], after: Counter[Any]) -> Counter[Any]:
    """Return the ledger of the embedded CRM: what there is more or less of than before, as things that were done."""
    return Counter(
        {
            f"{name} {'more' if after[name] > before[name] else 'less'}": abs(after[name] - before[name])
            for name in before.keys() | after.keys()
            if after[name] != before[name]
        }
    )


CONFIRMATIONS_AT: Mapping[str, tuple[Confirmation, ...]] = {
    "start": ("allow", "yes", "token", "approval", "legacy"),
    "proposed": ("yes", "legacy"),
    "beginning": ("allow",),
    "claiming": ("yes", "token", "approval", "legacy"),
    "claimed": ("allow", "yes", "token", "approval", "legacy"),
    "answered": ("allow", "yes", "token", "approval", "legacy"),
    "settled": ("allow", "yes", "token", "approval", "legacy"),
}
"""The confirmations at which a step comes."""
