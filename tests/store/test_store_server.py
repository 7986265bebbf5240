"""The server of PostgreSQL: reached, lost, full, locked, and never its password in any text."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import psycopg
import pytest
from sqlalchemy import make_url

from crm_mcp.errors import Unreachable
from crm_mcp.store import Ended, Store
from crm_mcp.store.database import Database
from tests.databases import PASSWORD

from .conftest import State, begun, sending, sms

SECOND = timedelta(seconds=1)


@pytest.fixture
def server(tmp_path: Path, postgres_url: str) -> State:
    return State(tmp_path, postgres_url)


def changed(server: State, **parts: object) -> State:
    assert server.url is not None
    url = make_url(server.url).set(**parts)  # type: ignore[arg-type]
    return State(server.folder, url.render_as_string(hide_password=False))


def whole(error: BaseException | None) -> str:
    """All that a log or a client may get of an error."""
    parts: list[str] = []
    while error is not None:
        parts += [str(error), repr(error), str(getattr(error, "detail", ""))]
        error = error.__cause__
    return "\n".join(parts)


async def refused(state: State, words: str) -> Unreachable:
    store = state.store()
    with pytest.raises(Unreachable, match=words) as caught:
        await begun(store)
    await store.aclose()
    assert caught.value.wrote is False
    assert PASSWORD not in whole(caught.value)
    assert "s%C3%A9same" not in whole(caught.value)
    return caught.value


def test_a_state_on_a_server_loads_no_driver_before_its_first_call(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, crm_mcp.store; crm_mcp.store.Store(pathlib.Path('x'), url='postgresql://h/d');"
        "print(sorted({'sqlalchemy', 'psycopg', 'sqlite3'} & set(sys.modules)))"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)

    assert ran.stdout.strip() == "[]"


async def test_a_server_that_is_not_there_is_named_without_its_password(server: State) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

        error = await refused(changed(server, port=port), "can't be reached; check the server and CRM_MCP_DATABASE_URL")

    assert f"at 127.0.0.1:{port}" in str(error)


async def test_a_host_that_is_none_is_named(server: State) -> None:
    await refused(changed(server, host="no-such-host.invalid"), "can't be reached")


async def test_a_server_that_says_nothing_is_given_up(server: State) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()

        await refused(changed(server, port=mute.getsockname()[1]), "can't be reached")

    assert time.monotonic() - started < 9


async def test_a_wrong_password_is_named(server: State) -> None:
    await refused(changed(server, password="wrong"), "refuses the user or the password")


async def test_a_user_that_is_none_is_named(server: State) -> None:
    await refused(changed(server, username="nobody-of-ours"), "refuses the user or the password")


async def test_a_database_that_is_none_is_named(server: State) -> None:
    await refused(changed(server, database="not_there"), 'the database "not_there" at .* does not exist; create it')


async def test_what_is_no_url_is_named(tmp_path: Path) -> None:
    await refused(State(tmp_path, "postgresql//nothing"), "CRM_MCP_DATABASE_URL is no URL")


async def test_a_server_that_is_read_only_is_named(server: State) -> None:
    server.sql(f"ALTER DATABASE {name(server)} SET default_transaction_read_only = on")

    await refused(server, "can't be written: it is read-only")


async def test_a_user_without_rights_is_named(server: State) -> None:
    role = f"r_{name(server)}"
    server.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        await refused(changed(server, username=role, password="x"), "refuses this user")
    finally:
        server.sql(f"DROP ROLE {role}")


async def test_too_many_connections_are_named(server: State) -> None:
    role = f"r_{name(server)}"
    server.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    try:
        await refused(changed(server, username=role, password="x"), "has too many connections")
    finally:
        server.sql(f"DROP ROLE {role}")


def name(server: State) -> str:
    assert server.url is not None
    return str(make_url(server.url).database)


@contextlib.contextmanager
def held(server: State, statement: str) -> Generator[None]:
    """Another program that holds what a statement locks."""
    assert server.url is not None
    with psycopg.connect(server.url) as other:
        other.execute(statement.encode())
        yield
        other.rollback()


async def test_a_writer_that_another_holds_up_gives_up_in_time_and_readers_go_on(server: State) -> None:
    from crm_mcp.store.postgres import WRITER

    store = server.store()
    action = await begun(store)
    started = time.monotonic()

    with held(server, f"SELECT pg_advisory_xact_lock({WRITER})"):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(busy, store, action.id)
            await anyio.sleep(0.2)
            assert await store.actions.get(action.id) == action
            assert time.monotonic() - started < 4

    assert 4 < time.monotonic() - started < 8
    assert (await store.actions.complete(action.id, Ended("done"))).status == "done"
    await store.aclose()


async def busy(store: Store, action_id: str) -> None:
    with pytest.raises(Unreachable, match=r"is in use by another program|is busy") as caught:
        await store.actions.complete(action_id, Ended("done"))
    assert caught.value.wrote is False


async def test_leases_are_renewed_and_items_taken_beside_a_writer(server: State) -> None:
    from crm_mcp.store.postgres import WRITER

    store = server.store()
    action = await begun(store)
    with held(server, f"SELECT pg_advisory_xact_lock({WRITER})"):
        with anyio.fail_after(3):
            assert await store.actions.renew_lease(action.id, fencing_token=1)
            assert await store.actions.take(["work"]) is None
            assert await store.items.take(action.id, 1, fencing_token=1) == ()
    await store.aclose()


async def test_connections_that_broke_between_calls_are_replaced(server: State) -> None:
    store = server.store()
    action = await begun(store)

    server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid()"
    )

    assert await store.actions.get(action.id) == action
    assert (await store.actions.complete(action.id, Ended("done"))).status == "done"
    await store.aclose()


async def test_a_transaction_that_is_cut_off_leaves_nothing(server: State) -> None:
    database = Database(server.place, 1)

    def cut() -> None:
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE counters SET value = 7")
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unreachable, match="can't be reached") as caught:
        cut()

    assert caught.value.wrote is False
    assert server.sql("SELECT value FROM counters") == [(0,)]
    database.close()


class Wire:
    """A wire to a server that can be cut: it lets everything through, until it is told to swallow the answers."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._to = port
        self.deaf = threading.Event()
        """Set, no answer comes back any more."""
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (answers and self.deaf.is_set()):
                    sink.sendall(data)

    def cut(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()
        for end in self._ends:
            end.close()


@pytest.fixture
def wire(server: State) -> Iterator[Wire]:
    assert server.url is not None
    wire = Wire(make_url(server.url).port or 0)
    yield wire
    wire.close()


async def test_whether_a_commit_was_done_whose_answer_is_lost_is_not_claimed_to_be_known(
    server: State, wire: Wire
) -> None:
    through = changed(server, port=wire.port)
    database = Database(through.place, 1)

    def write() -> None:
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE counters SET value = 7")
            wire.deaf.set()
            threading.Timer(0.5, wire.cut).start()

    with pytest.raises(Unreachable, match="whether it was written is not known") as caught:
        await anyio.to_thread.run_sync(write)

    assert caught.value.wrote is None
    assert server.sql("SELECT value FROM counters") == [(7,)]
    database.close()


async def test_a_call_is_answered_though_the_server_hangs(
    server: State, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crm_mcp.store.threads.ANSWER", 1.0)
    store = changed(server, port=wire.port).store()
    action = await begun(store)
    wire.deaf.set()

    with anyio.fail_after(5), pytest.raises(Unreachable, match="does not answer"):
        await store.actions.complete(action.id, Ended("done"))

    wire.cut()
    wire.deaf.clear()
    with anyio.fail_after(10):
        assert await store.actions.get(action.id)
    await store.aclose()


async def test_two_stores_with_one_url_share_the_state(server: State) -> None:
    one, two = server.store(), server.store()
    action = await begun(one, sending(sms()))

    assert await two.actions.get(action.id) == action
    assert await two.actions.held_by([sms().key]) == {sms().key: action}
    assert not await two.actions.renew_lease(action.id, fencing_token=1)
    await one.aclose()
    await two.aclose()


@pytest.mark.parametrize("kind", ["writing", "claiming"])
def test_a_writer_sees_what_was_written_while_it_waited_whatever_the_server_is_set_to(server: State, kind: str) -> None:
    assert server.url is not None
    name = make_url(server.url).database
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation TO 'repeatable read'")  # type: ignore[arg-type]

    database = server.database()
    with getattr(database, kind)() as connection:
        used = connection.exec_driver_sql("SHOW transaction_isolation").scalar_one()
    database.close()

    assert used == "read committed"
