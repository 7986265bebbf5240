"""Servers to talk to: shared ones for tests that do not disturb each other, and `start` for those with settings."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from anyio.from_thread import BlockingPortal

from .talk import ERAS, YES, Era, Talk, talking
from .vendors import Vendor, begun_anew, connected


class Start(Protocol):
    """Starts a server and connects a client; the folder is the test's own where none is given."""

    def __call__(
        self,
        era: Era = "modern",
        /,
        *,
        folder: Path | None = None,
        asked: bool = True,
        name: str = "tests",
        settings: Mapping[str, str] | None = None,
    ) -> Talk: ...


class Shop(Protocol):
    """Gives the client of a vendor's server, which is started once, and its emulator as it is at first."""

    def __call__(self, name: str, era: Era = "modern", /, *, asked: bool = True) -> Vendor: ...


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", params=ERAS)
def shared(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Talk]:
    with talking(portal, tmp_path_factory.mktemp("asked"), request.param) as talk:
        yield talk


@pytest.fixture
def crm(shared: Talk) -> Talk:
    """A client that can ask its user, who says yes; once for each era."""
    shared.user.answer, shared.user.meanwhile = YES, None
    shared.user.asked.clear()
    return shared


@pytest.fixture(scope="session", params=ERAS)
def mute(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Talk]:
    """A client that can't ask its user; once for each era."""
    with talking(portal, tmp_path_factory.mktemp("mute"), request.param, asked=False) as talk:
        yield talk


@pytest.fixture
def start(portal: BlockingPortal, tmp_path: Path) -> Generator[Start]:
    with ExitStack() as stack:

        def started(
            era: Era = "modern",
            /,
            *,
            folder: Path | None = None,
            asked: bool = True,
            name: str = "tests",
            settings: Mapping[str, str] | None = None,
        ) -> Talk:
            return stack.enter_context(
                talking(portal, folder or tmp_path, era, asked=asked, name=name, settings=settings)
            )

        yield started


@pytest.fixture(scope="session")
def shop(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    with ExitStack() as stack:
        open_now: dict[tuple[str, Era, bool], Vendor] = {}

        def opened(name: str, era: Era = "modern", /, *, asked: bool = True) -> Vendor:
            if (name, era, asked) not in open_now:
                folder = tmp_path_factory.mktemp(name)
                open_now[name, era, asked] = stack.enter_context(connected(portal, folder, name, era, asked=asked))
            return begun_anew(open_now[name, era, asked])

        yield opened
