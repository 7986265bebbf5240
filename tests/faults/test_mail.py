"""The embedded CRM's e-mail under each fault of a real mail server, however confirmed, asked for again and again."""

from __future__ import annotations

import socket
from asyncio import WriteTransport, sleep
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import SecretStr

from crm_mcp.actions import outbox
from crm_mcp.backends.local import Local, smtp
from crm_mcp.model import LeadDraft
from tests.harness.settings import settings

from .cells import Cell, Outcome, judged, table
from .report import Report
from .served import CONFIRMATIONS, Confirmation, all_by, copied, made_state, started

MAIL = {"lead": "L1", "subject": "Tomorrow", "body": "Shall we say ten?"}
ANSWERS = {
    "recipient put off": ("rcpt", "450 later"),
    "recipient refused": ("rcpt", "550 no such user"),
    "mail put off": ("data", "451 later"),
    "mail refused": ("data", "554 no"),
    "goes away": ("data", "421 closing"),
}
BROKEN = ("refused connection", "vanished before", "vanished after", "silent before", "silent after")
LATE = 1.0
"""Seconds that a mail server has for an answer here."""


@dataclass
class MailServer:
    """A mail server that fails as it is told, and keeps what it took."""

    fault: str = ""
    times: int = 0
    taken: int = 0

    def struck(self, *faults: str) -> bool:
        """Whether one of these faults happens now."""
        if self.fault not in faults or self.times <= 0:
            return False
        self.times -= 1
        return True

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        for fault, (where, answer) in ANSWERS.items():
            if where == "rcpt" and self.struck(fault):
                return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        for fault, (where, answer) in ANSWERS.items():
            if where == "data" and self.struck(fault):
                return answer
        before, after = self.struck("vanished before", "silent before"), self.struck("vanished after", "silent after")
        self.taken += not before
        if before or after:
            if self.fault.startswith("silent"):
                await sleep(LATE * 1.5)
            assert isinstance(server.transport, WriteTransport)
            server.transport.abort()
        return "250 OK"


@pytest.fixture
def mail_servers() -> Generator[Callable[[], tuple[MailServer, str]]]:
    """Open mail servers."""
    opened: list[Controller] = []

    def open_one() -> tuple[MailServer, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mail_server = MailServer()
        controller = Controller(mail_server, hostname="127.0.0.1", port=port)
        controller.start()
        opened.append(controller)
        return mail_server, f"smtp://127.0.0.1:{port}?from=sales@acme.example"

    yield open_one
    for each in opened:
        each.stop()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    folder = made_state(tmp_path / "template").parent

    async def one_lead() -> None:
        crm = Local(folder)
        await crm.create_lead(LeadDraft(name="Jane Whitfield", email="jane@acme.example"))
        await crm.aclose()

    anyio.run(one_lead)
    return folder


@pytest.mark.timeout(120)
@pytest.mark.parametrize("by", CONFIRMATIONS)
def test_a_mail_server_that_fails_gets_one_mail_at_most(
    mail_servers: Callable[[], tuple[MailServer, str]],
    template: Path,
    tmp_path: Path,
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
    by: Confirmation,
) -> None:
    monkeypatch.setattr(smtp, "SECONDS", LATE)
    monkeypatch.setattr(outbox, "LOOK_PAUSES", (0.0,))
    outcomes: list[Outcome] = []

    async def one(fault: str, times: int, number: int) -> None:
        mail_server, url = mail_servers()
        mail_server.fault, mail_server.times = fault, times
        nobody = "smtp://127.0.0.1:9?from=sales@acme.example"
        folder = copied(template, tmp_path / f"f{number}")
        first = SecretStr(nobody if fault == "refused connection" else url)
        async with started(settings(folder, "local", all_by(by), smtp_url=first), by) as served:
            said = [each for _ in range(2) for each in await served.ask("send_email", MAIL)]
        mail_server.times = 0
        async with started(settings(folder, "local", all_by(by), smtp_url=SecretStr(url)), by, served.clock) as served:
            await served.recover(rounds=1)
            said += await served.ask("send_email", MAIL)
            rows = await served.rows()
        cell = Cell("local", "send_email", f"mail: {fault}", 0, times, by, 1)
        taken, whole = Counter({"mail": mail_server.taken} if mail_server.taken else {}), Counter({"mail": 1})
        wrong = judged(by, said, rows, taken, whole)
        outcomes.append(Outcome(cell, said, rows, Counter(), wrong, max(each.seconds for each in said)))

    async def all_of_them() -> None:
        limit = anyio.CapacityLimiter(5)

        async def limited(fault: str, times: int, number: int) -> None:
            async with limit:
                await one(fault, times, number)

        async with anyio.create_task_group() as tasks:
            for number, (fault, times) in enumerate((f, t) for f in ("", *ANSWERS, *BROKEN) for t in (1, 9)):
                tasks.start_soon(limited, fault, times, number)

    anyio.run(all_of_them)

    report.cells(table(outcomes), slowest=max(each.slowest for each in outcomes))
    assert {str(each.cell): each.wrong for each in outcomes if each.wrong} == {}
