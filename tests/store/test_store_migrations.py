"""The layouts: every way to the newest one ends at the same tables, with the rows that were there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from crm_mcp.errors import Unreachable
from crm_mcp.store.database import MIGRATIONS
from crm_mcp.store.tables import HEAD, metadata

from .conftest import Start, State, at_once

NOW = datetime.fromtimestamp(1774000000, UTC)
OLD_ROW: dict[str, Any] = {
    "id": "a_old",
    "caller": "ops",
    "connection": "work",
    "tool": "send_sms",
    "effect": "outward",
    "arguments": '{"message":"hé"}',
    "digest": "d1",
    "summary": "SMS",
    "facts": "{}",
    "status": "running",
    "touched": '[["lead","1"]]',
    "touched_kinds": "|lead|",
    "size": 1,
    "asked": "token",
    "created_at": 1774000000000,
    "started_at": 1774000000000,
}


def config_on(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def engine_of(state: State) -> Engine:
    url = f"sqlite:///{state.place}" if state.url is None else state.url.replace("postgresql:", "postgresql+psycopg:")
    return create_engine(url)


def at_0001(state: State, *rows: dict[str, Any]) -> None:
    """Make a state as the first version did, with these actions."""
    engine = engine_of(state)
    with engine.begin() as connection:
        command.upgrade(config_on(connection), "0001")
        for row in rows:
            names = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO actions ({names}) VALUES ({values})"), row)
        connection.execute(
            text("INSERT INTO do_not_contact (channel, address, blocked_by, blocked_at) VALUES ('sms', '+1', 'jo', 1)")
        )
    engine.dispose()


def layout(connection: Connection) -> dict[str, Any]:
    """What a database says of its tables, in an order of its own."""
    found = inspect(connection)
    return {
        table: (
            {(each["name"], str(each["type"]), each["nullable"], each["default"]) for each in found.get_columns(table)},
            found.get_pk_constraint(table)["constrained_columns"],
            {(each["name"], tuple(each["column_names"])) for each in found.get_indexes(table)},
            {(each["name"], tuple(each["column_names"])) for each in found.get_unique_constraints(table)},
        )
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def test_the_constant_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrating_from_nothing_gives_the_tables(bare: State) -> None:
    engine = engine_of(bare)

    with engine.begin() as connection:
        command.upgrade(config_on(connection), "head")
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        migrated = layout(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        direct = layout(connection)
    engine.dispose()

    assert differences == []
    assert migrated == direct


async def test_a_state_of_the_first_version_keeps_its_rows(bare: State) -> None:
    done = {**OLD_ROW, "id": "a_done", "status": "done", "finished_at": 1774000001000, "finished_no": 1}
    at_0001(bare, OLD_ROW, done)
    store = bare.store(clock=lambda: NOW)

    rows, _ = await store.actions.page(caller="ops", status=None, lead="1", after=None, limit=9)

    assert [(row.id, row.status, row.arguments, row.fencing_token) for row in rows] == [
        ("a_done", "done", {"message": "hé"}, 0),
        ("a_old", "sending", {"message": "hé"}, 0),
    ]
    assert (rows[0].verdict, rows[0].rule, rows[0].request, rows[0].looks) == ("allow", "", None, 0)
    assert await store.contacts.blocked({"sms": "+1"}) == {"sms": ""}
    assert await store.contacts.lifted({"sms": "+1"}) == {}
    await store.aclose()


@pytest.mark.parametrize(
    ("tool", "creates", "repeatable", "deletes"),
    [
        ("send_email", None, True, False),
        ("send_sms", None, True, False),
        ("send_linkedin_message", None, True, False),
        ("start_call", None, False, False),
        ("create_lead", "lead", False, False),
        ("import_leads", "lead", False, False),
        ("create_task", "task", False, False),
        ("create_deal", "deal", False, False),
        ("log_note", "note", False, False),
        ("call_operation", "any", False, False),
        ("update_lead", None, False, False),
        ("delete_record", None, False, True),
    ],
)
async def test_what_an_older_action_made_is_known_from_its_tool(
    bare: State, tool: str, creates: str | None, repeatable: bool, deletes: bool
) -> None:
    at_0001(bare, {**OLD_ROW, "tool": tool})
    store = bare.store(clock=lambda: NOW)

    row = await store.actions.get("a_old")

    assert row
    assert (row.creates, row.repeatable, row.deletes) == (creates, repeatable, deletes)
    await store.aclose()


async def test_what_ran_in_the_first_version_is_lost_ten_minutes_after_it_began(bare: State) -> None:
    at_0001(bare, OLD_ROW)
    moment = NOW
    store = bare.store(clock=lambda: moment)

    async def reads() -> str | None:
        row = await store.actions.get("a_old")
        return row and row.status

    moment = NOW + timedelta(minutes=7, seconds=59)
    assert (await reads(), await store.actions.take(["work"])) == ("sending", None)
    moment = NOW + timedelta(minutes=10)
    assert await reads() == "sending"
    moment += timedelta(milliseconds=1)
    assert await reads() == "unknown"
    taken = await store.actions.take(["work"])

    assert taken
    assert (taken.id, taken.fencing_token) == ("a_old", 1)
    await store.aclose()


BY = {"blocked_by": "ops", "reason": "asked us", "lifted_at": None, "lifted_by": None}
ON_ALL = ("email", "sms", "call", "linkedin")


def before_0004(bare: State, rows: list[dict[str, Any]]) -> None:
    engine = engine_of(bare)
    with engine.begin() as connection:
        command.upgrade(config_on(connection), "0003")
        for row in rows:
            names = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO do_not_contact ({names}) VALUES ({values})"), row)
    engine.dispose()


def blocks_in(bare: State, revision: str, table: str) -> list[tuple[Any, ...]]:
    engine = engine_of(bare)
    with engine.begin() as connection:
        (command.upgrade if table == "blocks" else command.downgrade)(config_on(connection), revision)
        found = connection.execute(text(f"SELECT address, channel, reason, lifted_at FROM {table}")).all()
    engine.dispose()
    return sorted(tuple(row) for row in found)


def test_the_rows_of_a_block_on_all_channels_become_one_and_every_other_block_stays(bare: State) -> None:
    lead = [{"address": "lead:work:1", "channel": each, "blocked_at": 1_020, **BY} for each in ON_ALL]
    number = [{"address": "+1", "channel": each, "blocked_at": 1_000, **BY} for each in ("sms", "call")]
    mail = {"address": "jane@example.com", "channel": "email", "blocked_at": 1_000, **BY}
    half = {"address": "+2", "channel": "sms", "blocked_at": 1_010, **BY}
    other = {"address": "joe@example.com", "channel": "email", "blocked_at": 1_010, **BY, "reason": "STOP"}
    late = {"address": "ann@example.com", "channel": "email", "blocked_at": 99_000, **BY}
    lifted = {"address": "+1", "channel": "linkedin", "blocked_at": 1_000, **BY, "lifted_at": 2_000}
    before_0004(bare, [*lead, *number, mail, half, other, late, lifted])

    assert blocks_in(bare, "head", "blocks") == [
        ("+1", "every", "asked us", None),
        ("+1", "linkedin", "asked us", 2_000),
        ("+2", "sms", "asked us", None),
        ("ann@example.com", "email", "asked us", None),
        ("jane@example.com", "every", "asked us", None),
        ("joe@example.com", "email", "STOP", None),
        ("lead:work:1", "every", "asked us", None),
    ]
    back = blocks_in(bare, "0003", "do_not_contact")
    assert [row[:2] for row in back if row[0] == "lead:work:1"] == sorted(("lead:work:1", each) for each in ON_ALL)
    assert ("+1", "linkedin", "asked us", 2_000) in back


def test_four_rows_of_one_block_of_an_address_become_one(bare: State) -> None:
    at = {"email": "jane@example.com", "sms": "+1", "call": "+1", "linkedin": "jane"}
    before_0004(bare, [{"address": at[each], "channel": each, "blocked_at": 5, **BY} for each in ON_ALL])

    assert blocks_in(bare, "head", "blocks") == [
        ("+1", "every", "asked us", None),
        ("jane", "every", "asked us", None),
        ("jane@example.com", "every", "asked us", None),
    ]


def test_the_way_back_leads_to_the_first_version_again(bare: State) -> None:
    at_0001(bare, OLD_ROW)
    engine = engine_of(bare)

    with engine.begin() as connection:
        first = layout(connection)
        command.upgrade(config_on(connection), "head")
        newest = layout(connection)
        command.downgrade(config_on(connection), "0001")
        assert layout(connection) == first
        assert connection.execute(text("SELECT id, status FROM actions")).all() == [("a_old", "running")]
        command.upgrade(config_on(connection), "head")
        assert layout(connection) == newest
    engine.dispose()


@pytest.mark.parametrize("from_the_first", [False, True])
async def test_processes_that_make_or_migrate_a_state_at_once_all_succeed(
    bare: State, start: Start, from_the_first: bool
) -> None:
    if from_the_first:
        at_0001(bare)
    workers = start(3, "create", bare)

    ids = at_once(workers)

    store = bare.store()
    rows, _ = await store.actions.page(caller=None, status=None, lead=None, after=None, limit=9)
    assert {row.id for row in rows} == set(ids)
    assert len(rows) == 3
    assert (await store.audit.verify()).faults == ()
    await store.aclose()


async def test_a_state_of_a_newer_version_is_left_alone(state: State) -> None:
    state.sql("UPDATE alembic_version SET version_num = '9999'")
    store = state.store()

    with pytest.raises(Unreachable, match="was made by a newer crm-mcp; update crm-mcp"):
        await store.actions.get("a_x")

    engine = engine_of(state)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
    engine.dispose()
    await store.aclose()


async def test_a_database_of_another_program_is_left_alone(bare: State) -> None:
    engine = engine_of(bare)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (x INTEGER)"))
    store = bare.store()

    with pytest.raises(Unreachable, match="is of another program"):
        await store.actions.get("a_x")

    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["notes"]
    engine.dispose()
    await store.aclose()
