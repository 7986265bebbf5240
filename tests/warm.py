"""`crm-mcp` in processes that have it loaded already: the same program, without the second that its libraries take.

`command("serve")` is a command line that starts one, with the environment, the folder and the streams that it is given,
as the interpreter would. It is forked from a process that has imported everything (`python -m tests.warm PLACE`), and
lives and dies with the small one that was started (`warm_start.py`). Tests of the loading itself start it afresh.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import marshal
import os
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

STARTER = Path(__file__).with_name("warm_start.py")
LOADED = (
    "alembic.command",
    "anyio._backends._asyncio",
    "email_validator",
    "phonenumbers",
    "rich.progress",
    "sqlalchemy.dialects.sqlite",
    "uvicorn",
    "crm_mcp.backends.dialsheet",
    "crm_mcp.backends.getsales",
    "crm_mcp.backends.local",
    "crm_mcp.backends.salespulse",
    "crm_mcp.backends.salessheet",
    "crm_mcp.cli.commands",
    "crm_mcp.cli.importing",
    "crm_mcp.cli.serving",
    "crm_mcp.cli.talking",
    "crm_mcp.store.actions",
    "crm_mcp.store.audit",
    "crm_mcp.store.contacts",
    "crm_mcp.store.items",
)


def command(*arguments: str) -> list[str]:
    """Return the command line that starts `crm-mcp` with these arguments."""
    return [sys.executable, "-S", "-E", str(STARTER), _place(), *arguments]


@cache
def _place() -> str:
    """Return where the process listens that has everything loaded; it is started once for each test process."""
    folder = TemporaryDirectory(prefix="warm-")
    place = str(Path(folder.name) / "socket")
    command = [sys.executable, "-W", "error", "-m", "tests.warm", place]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        process.communicate(timeout=10)
        folder.cleanup()

    atexit.register(end)
    return place


class Loaded:
    """The process that has everything loaded: forks one for each that is asked for."""

    def __init__(self, place: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(place)
        self._listening.listen(100)
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)
        signal.signal(signal.SIGCHLD, _heard)
        signal.set_wakeup_fd(self._wakes)
        self._selector = selectors.DefaultSelector()
        for each in (0, self._woken, self._listening):
            self._selector.register(each, selectors.EVENT_READ)
        self._children: dict[int, socket.socket | None] = {}
        """The starters, by the process that is theirs; None: it was killed."""

    def next(self) -> tuple[list[str], dict[str, str], str, list[int]] | None:
        """Return, in a new process, what it is started with; None in this one, when it is not needed any more."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    for pid in self._children:
                        os.kill(pid, signal.SIGKILL)
                    self._leave()
                    return None
                if key.fileobj == self._woken:
                    os.read(self._woken, 4096)
                    self._tell_ends()
                elif key.fileobj is self._listening:
                    if given := self._accept():
                        return given
                else:
                    self._pass_on(key.data)

    def _accept(self) -> tuple[list[str], dict[str, str], str, list[int]] | None:
        starter, _ = self._listening.accept()
        size, streams, _, _ = socket.recv_fds(starter, 8, 3)
        text = b""
        while len(text) < int.from_bytes(size):
            text += starter.recv(1 << 20)
        pid = os.fork()
        if pid == 0:
            self._leave()
            starter.close()
            arguments, environment, folder = marshal.loads(text)
            return arguments, environment, folder, streams
        for each in streams:
            os.close(each)
        self._children[pid] = starter
        self._selector.register(starter, selectors.EVENT_READ, pid)
        return None

    def _tell_ends(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if starter := self._children.pop(pid):
                self._selector.unregister(starter)
                with starter, suppress(BrokenPipeError):  # it may be killed just now
                    starter.sendall((os.waitstatus_to_exitcode(status) % 512).to_bytes(2))

    def _pass_on(self, pid: int) -> None:
        """Pass a signal on that a starter got; where it was killed, so is its process."""
        starter = self._children.get(pid)
        if starter is None:
            return
        number = starter.recv(1)
        os.kill(pid, number[0] if number else signal.SIGKILL)
        if not number:
            self._selector.unregister(starter)
            starter.close()
            self._children[pid] = None

    def _leave(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._listening.close()
        os.close(self._woken)
        os.close(self._wakes)
        for each in filter(None, self._children.values()):
            each.close()


def _heard(number: int, frame: object) -> None:
    """What wakes the process up is enough."""


def main() -> None:
    """Fork until nobody needs it; in a fork, be `crm-mcp`."""
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    loaded = Loaded(sys.argv[1])
    os.write(1, b"ready\n")
    if given := loaded.next():
        _become(*given)


def _become(arguments: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> NoReturn:
    from crm_mcp.cli import main as crm_mcp

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    opened: list[Any] = []
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
        raw = open(number, "rb" if number == 0 else "wb", -1 if number == 0 else 0, closefd=False)  # noqa: SIM115
        opened.append(io.TextIOWrapper(raw, encoding="utf-8", write_through=number > 0))
    sys.stdin, sys.stdout, sys.stderr = opened
    sys.argv = ["crm-mcp", *arguments]
    sys.modules["__main__"].__package__ = None  # it is no part of the tests
    crm_mcp()
    sys.exit()


if __name__ == "__main__":
    main()
