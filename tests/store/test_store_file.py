"""The file: made, migrated, opened by many, and broken in the ways that files break."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from sqlalchemy.exc import OperationalError

from crm_mcp.errors import Unreachable
from crm_mcp.store import FILE_NAME, Ended, Store
from crm_mcp.store.database import Database

from .conftest import PLAIN, Clock, State, begun


def python(code: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return ran.stdout.strip()


def layout(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as raw:
        found = raw.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'")
        return {" ".join(sql.split()) for (sql,) in found}


def test_importing_and_opening_load_no_database_library(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, crm_mcp.store; crm_mcp.store.Store(pathlib.Path(sys.argv[1]) / 'new');"
        "print(sorted({'sqlalchemy', 'alembic', 'sqlite3', 'psycopg'} & set(sys.modules)))"
    )

    assert python(code, str(tmp_path)) == "[]"
    assert list(tmp_path.iterdir()) == []


def test_a_file_at_the_newest_layout_is_opened_without_the_migration_library(folder: Path) -> None:
    code = (
        "import sys, pathlib, anyio, crm_mcp.store\n"
        "async def main():\n"
        "    store = crm_mcp.store.Store(pathlib.Path(sys.argv[1]))\n"
        "    await store.actions.get('a_x')\n"
        "    await store.aclose()\n"
        "anyio.run(main)\n"
        "print(sorted({'sqlalchemy', 'alembic', 'psycopg'} & set(sys.modules)))"
    )

    assert python(code, str(folder)) == "['sqlalchemy']"


def test_the_first_call_loads_the_database_library_in_another_thread_than_the_event_loop(folder: Path) -> None:
    code = (
        "import sys, pathlib, threading, anyio, crm_mcp.store\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('sqlalchemy', 'crm_mcp.store.limits'):\n"
        "            print(name, threading.current_thread() is threading.main_thread())\n"
        "sys.meta_path.insert(0, Watch())\n"
        "async def main():\n"
        "    store = crm_mcp.store.Store(pathlib.Path(sys.argv[1]))\n"
        "    async with anyio.create_task_group() as group:\n"
        "        group.start_soon(store.actions.get, 'a_x')\n"
        "        group.start_soon(store.limits.outbound)\n"
        "    await store.aclose()\n"
        "anyio.run(main)\n"
    )

    assert sorted(python(code, str(folder)).splitlines()) == ["crm_mcp.store.limits False", "sqlalchemy False"]


async def test_a_new_folder_and_file_are_for_this_user_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "100%" / "état")
    await begun(store)

    folder = tmp_path / "100%" / "état"
    assert (folder / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert {each.stat().st_mode & 0o077 for each in (folder, *folder.iterdir())} == {0}
    await store.aclose()


def test_every_connection_is_set_up(folder: Path) -> None:
    database = Database(folder / FILE_NAME, 2)
    with database.reading() as first, database.reading() as second:
        for connection in (first, second):
            pragmas = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            found = [connection.exec_driver_sql(f"PRAGMA {each}").scalar_one() for each in pragmas]
            assert found == ["wal", 2, 5000, 1]
    database.close()


def test_a_transaction_that_fails_leaves_nothing(folder: Path) -> None:
    database = Database(folder / FILE_NAME, 1)

    def fail() -> None:
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE counters SET value = 7")
            raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        fail()
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT value FROM counters").scalar_one() == 0
    database.close()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as raw:
        raw.execute("CREATE TABLE notes (x)")
    before = layout(tmp_path / FILE_NAME)
    database = Database(tmp_path / FILE_NAME, 1)

    with pytest.raises(Unreachable, match="is of another program"), database.reading():
        pass

    assert layout(tmp_path / FILE_NAME) == before


@pytest.fixture
async def store(folder: Path, clock: Clock) -> AsyncIterator[Store]:
    store = State(folder).store(clock=clock)
    yield store
    await store.aclose()


async def refused(store: Store, words: str) -> Unreachable:
    with pytest.raises(Unreachable, match=words) as caught:
        await begun(store)
    await store.aclose()
    assert caught.value.wrote is False
    assert "CRM_MCP_DATA_DIR" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("content", [b"not a database, but long enough to have a header of a hundred bytes" * 9, b"x"])
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)

    await refused(Store(tmp_path), "is no database of crm-mcp; move it away")

    assert (tmp_path / FILE_NAME).read_bytes() == content


async def test_a_file_of_a_newer_version_is_left_alone(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.commit()
    before = layout(folder / FILE_NAME)

    await refused(Store(folder), "was made by a newer crm-mcp; update crm-mcp")

    assert layout(folder / FILE_NAME) == before


async def test_a_damaged_file_is_named(store: Store, folder: Path) -> None:
    for number in range(40):
        await begun(store, PLAIN, arguments={"text": "x" * 2000, "number": number})
    await store.aclose()
    path = folder / FILE_NAME
    path.write_bytes(path.read_bytes()[:8192] + b"\x7f" * (path.stat().st_size - 8192))

    await refused(Store(folder), "is damaged")


async def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")

    await refused(Store(tmp_path / "state"), "can't be made")


async def test_a_directory_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()

    await refused(Store(tmp_path), "can't be opened")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk needs Linux, root and the right to mount")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


async def begin_many(store: Store) -> None:
    for _ in range(200):
        await begun(store, PLAIN, arguments={"text": "x" * 9000})


async def test_a_full_disk_refuses_and_loses_nothing(small_disk: Path) -> None:
    store = Store(small_disk)
    first = await begun(store)
    ballast = small_disk / "ballast"
    fill(ballast)

    with pytest.raises(Unreachable, match="the disk is full") as caught:
        await begin_many(store)
    assert caught.value.wrote is False

    assert await store.actions.get(first.id) == first
    ballast.unlink()
    assert (await store.actions.complete(first.id, Ended("done"))).status == "done"
    await store.aclose()


async def test_a_new_file_on_a_full_disk_is_refused(small_disk: Path) -> None:
    fill(small_disk / "ballast")

    await refused(Store(small_disk), "the disk is full|can't be opened|the disk fails")


async def test_a_read_only_disk_is_refused(small_disk: Path) -> None:
    store = Store(small_disk)
    await begun(store)
    await store.aclose()
    await anyio.run_process(["mount", "-o", "remount,ro", str(small_disk)])

    await refused(Store(small_disk), "read-only|can't be opened")


async def test_a_store_can_be_used_again_after_closing(store: Store) -> None:
    await store.aclose()
    action = await begun(store)
    await store.aclose()

    assert await store.actions.get(action.id) == action


async def test_a_file_that_another_program_holds_can_be_read_and_is_written_later(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crm_mcp.store.database.PATIENCE", 0.3)
    action = await begun(store)

    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unreachable, match="is in use by another program; try again") as caught:
            await store.actions.complete(action.id, Ended("done"))
        assert caught.value.wrote is False
        assert await store.actions.get(action.id) == action

    assert (await store.actions.complete(action.id, Ended("done"))).status == "done"


@pytest.mark.parametrize("opened", [True, False])
async def test_while_a_file_is_locked_every_call_is_refused_within_seconds(
    store: Store, folder: Path, opened: bool
) -> None:
    if opened:
        await store.actions.get("a_x")
    waited: list[float] = []
    read: list[float] = []

    async def write() -> None:
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            await begun(store)
        assert caught.value.wrote is False
        waited.append(time.monotonic() - started)

    async def reads() -> None:
        started = time.monotonic()
        await store.actions.get("a_x")
        read.append(time.monotonic() - started)

    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(write)
            for _ in range(6):
                group.start_soon(reads)

    assert len(waited) == 12
    assert max(waited) < 7
    assert max(read) < 4
    assert await store.actions.page(caller=None, status=None, lead=None, after=None, limit=1) == ((), None)


async def test_a_faulty_statement_is_no_fault_of_the_file(folder: Path) -> None:
    database = Database(folder / FILE_NAME, 1)

    with pytest.raises(OperationalError, match="no such table"), database.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM missing")

    database.close()
