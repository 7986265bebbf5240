from __future__ import annotations

import socket
from asyncio import WriteTransport
from collections.abc import Generator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from crm_mcp.backends.local import Local
from crm_mcp.backends.local.smtp import Post, keep_password
from crm_mcp.errors import InvalidArgument, SettingsError, TimedOut, Unreachable, VendorError
from crm_mcp.model import Delivery, Lead, LeadDraft, Message, Slice

SECRET = "hunter2-very-secret"


class Server:
    """Takes mail, or answers what it is told to."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.rcpt = self.data = ""
        self.vanish = False

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.rcpt:
            return self.rcpt
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data:
            return self.data
        self.taken.append(envelope)
        if self.vanish:
            assert isinstance(server.transport, WriteTransport)
            server.transport.abort()
        return "250 OK"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _checked(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data.login == b"user" and data.password == SECRET.encode(), handled=False)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def smtp(server: Server) -> Generator[Controller]:
    controller = Controller(
        server, hostname="127.0.0.1", port=_free_port(), authenticator=_checked, auth_require_tls=False,
        enable_SMTPUTF8=True,
    )  # fmt: skip
    controller.start()
    yield controller
    controller.stop()


def read(envelope: Envelope) -> EmailMessage:
    assert isinstance(envelope.content, bytes)
    found = message_from_bytes(envelope.content, policy=default)
    assert isinstance(found, EmailMessage)
    return found


def url(controller: Controller, user: str = "") -> str:
    return f"smtp://{user}127.0.0.1:{controller.port}?from=sales@acme.example"


async def send(crm: Local, subject: str = "Grüße", body: str = "Hallo\n.\nÄöü", **lead: str) -> Delivery:
    made = await _lead(crm, **lead)
    (mailbox, *_) = await crm.mailboxes()
    return await crm.send_email(made, mailbox, subject, body, "boss@acme.example")


async def _lead(crm: Local, **lead: str) -> Lead:
    found = await crm.leads_at("email", lead.get("email", "jane@a.example"))
    return (
        found[0] if found else await crm.create_lead(LeadDraft(name="Jane", email=lead.get("email", "jane@a.example")))
    )


async def history(crm: Local) -> list[Message]:
    return list((await crm.list_messages((await _lead(crm)).id, Slice())).items)


async def test_mail_reaches_a_real_server_as_it_was_written(tmp_path: Path, smtp: Controller, server: Server):
    crm = Local(tmp_path, smtp_url=url(smtp))

    delivery = await send(crm)

    (envelope,) = server.taken
    mail = read(envelope)
    assert (envelope.mail_from, envelope.rcpt_tos) == ("sales@acme.example", ["jane@a.example"])
    assert (mail["From"], mail["To"], mail["Reply-To"]) == ("sales@acme.example", "jane@a.example", "boss@acme.example")
    assert mail["Subject"] == "Grüße"
    assert mail.get_content().splitlines() == ["Hallo", ".", "Äöü"]
    assert mail["Message-ID"].endswith("@acme.example>")
    assert mail["Date"]
    assert (delivery.delivered, delivery.message.status, delivery.note) == (True, "sent", None)
    assert await history(crm) == [delivery.message]
    assert (await _lead(crm)).last_contacted_at
    await crm.aclose()


async def test_a_subject_can_not_smuggle_a_header(tmp_path: Path, smtp: Controller, server: Server):
    crm = Local(tmp_path, smtp_url=url(smtp))

    await send(crm, subject="Hello\r\nBcc: evil@b.example\nX: y")

    mail = read(server.taken[0])
    assert mail["Subject"] == "Hello Bcc: evil@b.example X: y"
    assert mail["Bcc"] is None
    assert server.taken[0].rcpt_tos == ["jane@a.example"]
    await crm.aclose()


async def test_a_subject_that_looks_encoded_brings_no_header_and_no_text(
    tmp_path: Path, smtp: Controller, server: Server
):
    crm = Local(tmp_path, smtp_url=url(smtp))
    subject = "=?utf-8?q?Hello=0D=0ABcc:_evil@b.example=0D=0A=0D=0AAnother_text?="

    await send(crm, subject=subject, body="Hello")

    mail = read(server.taken[0])
    assert mail["Subject"] == subject
    assert [*mail] == [
        *("From", "To", "Reply-To", "Subject", "Date", "Message-ID"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    ]
    assert mail.get_content().splitlines() == ["Hello"]
    assert server.taken[0].rcpt_tos == ["jane@a.example"]
    await crm.aclose()


async def test_an_address_that_others_would_read_otherwise_gets_nothing(
    tmp_path: Path, smtp: Controller, server: Server
):
    crm = Local(tmp_path, smtp_url=url(smtp))
    odd = "=?utf-8?q?jane=40evil.example?=@a.example"

    with pytest.raises(InvalidArgument, match="can't be written so that") as caught:
        await send(crm, email=odd)

    assert caught.value.wrote is False
    assert server.taken == []
    lead = await _lead(crm, email=odd)
    assert (await crm.list_messages(lead.id, Slice())).items == ()
    assert lead.last_contacted_at is None
    await crm.aclose()


async def test_an_address_beyond_ascii_is_reached(tmp_path: Path, smtp: Controller, server: Server):
    crm = Local(tmp_path, smtp_url=url(smtp))

    assert (await send(crm, email="jörg@bücher.example")).delivered
    assert server.taken[0].rcpt_tos == ["jörg@bücher.example"]
    await crm.aclose()


async def test_the_password_is_used_and_never_shown(tmp_path: Path, smtp: Controller, server: Server):
    good = Local(tmp_path, smtp_url=url(smtp, f"user:{SECRET}@"))
    bad = Local(tmp_path, smtp_url=url(smtp, f"other:{SECRET}@"))

    assert (await send(good)).delivered
    with pytest.raises(VendorError) as caught:
        await send(bad)

    assert SECRET not in f"{caught.value} {caught.value.detail} {Post.at(url(smtp, f'other:{SECRET}@'))!r}"
    assert [each.status for each in await history(good)] == ["failed", "sent"]
    await good.aclose()
    await bad.aclose()


@pytest.mark.parametrize("answers", [{"rcpt": "550 no such user <secret words>"}, {"data": "554 looks like spam"}])
async def test_a_refusal_is_an_error_and_nothing_counts_as_sent(
    tmp_path: Path, smtp: Controller, server: Server, answers: dict[str, str]
):
    vars(server).update(answers)
    crm = Local(tmp_path, smtp_url=url(smtp))

    with pytest.raises(VendorError, match="code 55") as caught:
        await send(crm)

    assert caught.value.wrote is False
    assert "secret words" not in str(caught.value)
    assert [each.status for each in await history(crm)] == ["failed"]
    assert (await _lead(crm)).last_contacted_at is None
    await crm.aclose()


async def test_silence_after_the_text_is_an_unknown_outcome(tmp_path: Path, smtp: Controller, server: Server):
    server.vanish = True
    crm = Local(tmp_path, smtp_url=url(smtp))

    with pytest.raises(TimedOut, match="may have been sent") as caught:
        await send(crm)

    assert caught.value.wrote is None
    assert [each.status for each in await history(crm)] == ["unknown"]
    await crm.aclose()


async def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path):
    crm = Local(tmp_path, smtp_url=f"smtp://user:{SECRET}@127.0.0.1:{_free_port()}")

    with pytest.raises(Unreachable, match="nothing was sent") as caught:
        await send(crm)

    assert caught.value.wrote is False
    assert SECRET not in f"{caught.value} {caught.value.detail}"
    assert [each.status for each in await history(crm)] == ["failed"]
    await crm.aclose()


async def test_a_caller_who_goes_away_does_not_leave_the_outcome_open(tmp_path: Path, smtp: Controller, server: Server):
    crm = Local(tmp_path, smtp_url=url(smtp))
    lead = await _lead(crm)
    (mailbox,) = await crm.mailboxes()

    async with anyio.create_task_group() as group:
        group.start_soon(crm.send_email, lead, mailbox, "Hello", "x", None)
        with anyio.fail_after(5):
            while not await history(crm):
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    sent = [each.status for each in await history(crm)]
    assert sent == ["sent"] * len(server.taken) or sent == ["sending"]
    await crm.aclose()


async def test_without_a_server_mail_is_recorded_and_the_result_says_so(tmp_path: Path):
    crm = Local(tmp_path)

    delivery = await send(crm)

    assert (delivery.delivered, delivery.message.status) == (False, "recorded")
    assert "CRM_MCP_SMTP_URL" in (delivery.note or "")
    assert [each.address for each in await crm.mailboxes()] == ["crm@localhost"]
    await crm.aclose()


async def test_the_mailbox_comes_from_the_settings(tmp_path: Path):
    by_user = Local(tmp_path / "a", smtp_url="smtp://me%40acme.example:x@mail.example")
    first = Local(tmp_path / "b", mailbox="one@acme.example")
    await first.mailboxes()
    second = Local(tmp_path / "b", mailbox="two@acme.example")

    assert [(each.address, each.default) for each in await by_user.mailboxes()] == [("me@acme.example", True)]
    assert [(each.address, each.default) for each in await second.mailboxes()] == [
        ("two@acme.example", True),
        ("one@acme.example", False),
    ]
    for each in (by_user, first, second):
        await each.aclose()


@pytest.mark.parametrize(
    "wrong", ["mail.example", "http://mail.example", "smtp://", f"smtp://u:{SECRET}@h:port", "smtp://h?from=x"]
)
def test_an_smtp_url_that_is_none_stops_the_start_without_showing_it(tmp_path: Path, wrong: str):
    with pytest.raises(SettingsError) as caught:
        Local(tmp_path, smtp_url=wrong)
    assert SECRET not in str(caught.value)


def test_a_password_never_leaves_unencrypted_for_another_machine():
    with pytest.raises(VendorError, match="no encryption"):
        keep_password(Post.at(f"smtp://user:{SECRET}@mail.example"), encrypted=False)
    keep_password(Post.at(f"smtp://user:{SECRET}@mail.example"), encrypted=True)
    keep_password(Post.at(f"smtp://user:{SECRET}@127.0.0.1"), encrypted=False)
