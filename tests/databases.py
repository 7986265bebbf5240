"""A real PostgreSQL server for the tests, shared by all their processes, and a fresh database for each test.

The server is started by the first test that asks for a database, from the binaries of this machine, as a user without
rights where the tests run as root, and ends soon after the last test process. `CRM_MCP_TEST_DATABASE_URL` names another
server instead, with the right to make databases.

`python -m tests.databases FOLDER` is the process that starts and ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

ROOT = Path(__file__).parents[1]
GIVEN = "CRM_MCP_TEST_DATABASE_URL"
PASSWORD = "sésame/@:%"  # what a URL must escape is in it
TEMPLATE = "crm_mcp_template"
HOW = f"install PostgreSQL (Debian: apt-get install postgresql), or set {GIVEN}"
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "500",
    "shared_buffers": "32MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database from which others can be made."""
    given = os.environ.get(GIVEN)
    if given:
        with _locked(Path(tempfile.gettempdir()) / f"crm-mcp-{os.getuid()}.lock"):
            _make_template(given)
        yield given
        return
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "postgres"
    (shared / "users").mkdir(parents=True, exist_ok=True)
    mine = shared / "users" / str(os.getpid())
    with _locked(shared / "lock"):
        mine.touch()
        url = _running(shared) or _start(shared)
        _make_template(url)
    yield url
    mine.unlink()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database of this test alone, at the newest layout and empty."""
    with database(postgres_server, TEMPLATE) as url:
        yield url


@pytest.fixture
def bare_postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database of this test alone, without any tables."""
    with database(postgres_server, "template0") as url:
        yield url


@contextlib.contextmanager
def database(server: str, template: str) -> Generator[str]:
    """Make a database like another, and drop it afterwards."""
    name = f"crm_mcp_{secrets.token_hex(6)}"
    _say(server, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield named(server, name)
    finally:
        _say(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def named(server: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _say(server: str, statement: sql.Composed) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)


def _make_template(server: str) -> None:
    from crm_mcp.store.database import Database

    with contextlib.suppress(psycopg.errors.DuplicateDatabase):
        _say(server, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(TEMPLATE)))
    template = Database(named(server, TEMPLATE), 1)
    with template.reading():
        pass
    template.close()


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _running(shared: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        told = json.loads((shared / "told").read_text())
        os.kill(told["pid"], 0)
        return told["url"]
    return None


def _start(shared: Path) -> str:
    log = (shared / "log").open("w")
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.databases", str(shared)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,  # it outlives this process while others use it
    )
    assert keeper.stdout is not None
    line = keeper.stdout.readline()
    keeper.stdout.close()
    log.close()
    if not line.startswith("{"):
        keeper.wait(timeout=5)
        pytest.fail(f"no PostgreSQL server could be started: {(shared / 'log').read_text()[-2000:]}", pytrace=False)
    (shared / "told").write_text(line)
    keeper.returncode = 0  # nobody waits for it
    return json.loads(line)["url"]


def _keep(shared: Path) -> None:
    """Start a server, say its URL, and end it when no process uses it any more."""
    with own_server() as server:
        sys.stdout.write(json.dumps({"pid": os.getpid(), "url": server.url}) + "\n")
        sys.stdout.close()
        while server.runs and _used(shared):
            time.sleep(0.3)


@contextlib.contextmanager
def own_server() -> Generator[Server]:
    """Start a server for the caller alone, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="crm-mcp-postgres-", ignore_cleanup_errors=True) as made:
        server = Server(Path(made))
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Server:
    """A PostgreSQL server in a folder, which can be stopped and started again."""

    def __init__(self, home: Path) -> None:
        self._binaries = _binaries()
        self._home = home
        user = _user()
        secret = home / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._as: dict[str, Any] = {"cwd": home, "env": {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": str(home)}}
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
            self._as |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": list[int]()}
        make = [self._program("initdb"), "-D", self._data, "-U", "tester", "-A", "scram-sha-256", "-E", "UTF8"]
        subprocess.run([*make, f"--pwfile={secret}", "--no-sync"], check=True, stdout=sys.stderr, **self._as)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        url = make_url("postgresql://tester@127.0.0.1/postgres").set(port=self._port, password=PASSWORD)
        self.url = url.render_as_string(hide_password=False)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _data(self) -> str:
        return str(self._home / "data")

    def _program(self, name: str) -> str:
        return str(self._binaries / name)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [self._program("postgres"), "-D", self._data, "-p", str(self._port), *settings]
        process = subprocess.Popen[bytes](command, stdin=subprocess.DEVNULL, stdout=sys.stderr, **self._as)
        self._process = process
        give_up = time.monotonic() + 20
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.Error as error:
                if process.poll() is not None or time.monotonic() > give_up:
                    process.kill()
                    raise SystemExit(f"the server does not start: {error}") from error
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it at once, as a machine does that goes down."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=20)


def _binaries() -> Path:
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = [Path(found).resolve().parent] if found else debian
    if not places:
        raise SystemExit(f"initdb is not on this machine: {HOW}")
    return places[0]


def _user() -> pwd.struct_passwd | None:
    """Return whom to run it as: the server refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _used(shared: Path) -> bool:
    """Return whether a process that uses the server is alive."""
    for each in (shared / "users").glob("*"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(each.name), 0)
            return True
    return False


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
