"""A thousand tiny sends, and fifty of the same at one moment: limits count them all, and one message goes out once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal

from crm_mcp.config import PolicySettings
from crm_mcp.sandbox import emulator_of
from crm_mcp.sandbox.serving import serving
from tests.harness.app import App
from tests.harness.clock import Clock
from tests.harness.person import Person
from tests.harness.settings import rules
from tests.server.talk import Talk, talking

from .attacked import AttackedLocal

OPEN = '[policy]\noutward = "allow"\nwrite = "allow"\nquiet_hours = "off"\n'
LIMIT = 20


class Crowd:
    """Two processes on one state, each in a thread of its own, whose callers all send at once."""

    def __init__(self, folder: Path, policy: PolicySettings) -> None:
        self.folder, self.policy, self.clock = folder, policy, Clock()
        self.crm = AttackedLocal(folder)
        self.said: Counter[str] = Counter()

    def begin(self) -> list[str]:
        """Make the state; returns leads that can be written to."""

        async def made() -> list[str]:
            app = App(self.folder, self.clock, sample=True, policy=self.policy)
            leads = await app.new_leads(50)
            await app.close()
            return leads

        leads = anyio.run(made)
        self.crm.began()
        return leads

    def send(self, calls: list[dict[str, Any]]) -> None:
        """Make these calls, every other one in another process, ten callers at a time in each."""
        threads = [threading.Thread(target=anyio.run, args=(self._process, calls[each::2])) for each in (0, 1)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    async def _process(self, calls: list[dict[str, Any]]) -> None:
        app = App(self.folder, self.clock, sample=True, policy=self.policy)
        waiting = iter(calls)

        async def caller(number: int) -> None:
            for arguments in waiting:
                said = await app.call("send_email", Person(caller=f"agent {number}"), **arguments)
                self.said[said["status"]] += 1

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(caller, number)
        await app.close()


def mails(leads: list[str], count: int) -> list[dict[str, Any]]:
    return [{"lead": leads[n % len(leads)], "subject": "Tiny", "body": f"Number {n}"} for n in range(count)]


def test_of_a_thousand_tiny_sends_exactly_the_limit_goes_out(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, rules(outward="allow", daily_limits={"email": LIMIT}))
    leads = crowd.begin()

    crowd.send(mails(leads, 1_000))

    assert crowd.said == {"done": LIMIT, "blocked": 1_000 - LIMIT}
    assert len(crowd.crm.sent()) == LIMIT


def test_to_one_address_exactly_its_limit_goes_out_whoever_sends_under_whatever_name(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, rules(outward="allow", contact_limits={"messages": 3}))
    [one, two, *_] = crowd.begin()
    crowd.crm.ask("UPDATE leads SET email = (SELECT UPPER(email) FROM leads WHERE n = ?) WHERE n = ?", one[1:], two[1:])

    crowd.send(mails([one, two], 100))

    assert crowd.said == {"done": 3, "blocked": 97}
    assert len(crowd.crm.sent()) == 3


def test_a_limit_is_none_the_larger_for_enrolling_in_small_lots(tmp_path: Path) -> None:
    policy = rules(outward="allow", daily_limits={"enrolments": LIMIT})
    crowd = Crowd(tmp_path, policy)
    leads = crowd.begin()

    async def enrol() -> list[str]:
        app = App(tmp_path, crowd.clock, sample=True, policy=policy)
        said = [await app.call("enroll_in_sequence", sequence="Follow-up", leads=[each]) for each in leads]
        await app.close()
        return [each["status"] for each in said]

    assert Counter(anyio.run(enrol)) == {"done": LIMIT, "blocked": len(leads) - LIMIT}
    assert len(crowd.crm.sent()) == LIMIT


# The race


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def state(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The settings of a state that two processes share."""
    return {} if request.param == "SQLite" else {"database_url": request.getfixturevalue("postgres_url")}


@pytest.fixture
def race(portal: BlockingPortal, tmp_path: Path, state: Mapping[str, str]) -> Iterator[tuple[Any, list[Talk]]]:
    """An emulator, and two processes of a server in front of it."""
    there = emulator_of("dialsheet")(sample=True, minute=0.05)
    config = tmp_path / "crm-mcp" / "config.toml"
    config.parent.mkdir()
    config.write_text(OPEN)
    with ExitStack() as stack:
        url = stack.enter_context(serving(there))
        given = {"vendor": "dialsheet", "api_key": there.key, "base_url": url, "test_minute": "0.05", **state}
        talks = [
            stack.enter_context(talking(portal, tmp_path, "modern", name=name, asked=False, settings=given))
            for name in ("one", "two")
        ]
        yield there, talks


def test_of_fifty_identical_sends_over_two_processes_one_goes_out_and_all_are_told_of_it(
    race: tuple[Any, list[Talk]],
) -> None:
    there, talks = race
    lead = there.tables["leads"][0]["id"]
    answers: list[Any] = []

    async def send(talk: Talk, text: str) -> None:
        answers.append(await talk.client.call_tool("send_sms", {"lead": lead, "message": text}))

    async def all_at_once() -> None:
        async with anyio.create_task_group() as tasks:
            for n in range(50):
                # White space does not make another message of it.
                tasks.start_soon(send, talks[n % 2], "See  you" if n % 3 else "See you ")

    talks[0].run(all_at_once)

    assert [each.text for each in there.ledger] == ["See you"]
    said = [each.structured_content for each in answers]
    assert len({each["action_id"] for each in said}) == 1
    assert Counter(each["status"] for each in said) == {"done": 1, "duplicate": 49}
    assert {str(each["result"]) for each in said} == {str(said[0]["result"])}
