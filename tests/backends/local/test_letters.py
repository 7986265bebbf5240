"""What was confirmed is what goes: a receiver reads exactly the addresses, the subject and the text that were given."""

from __future__ import annotations

import re
import socket
from base64 import b64decode
from collections.abc import Generator
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import compat32, default
from email.utils import getaddresses
from quopri import decodestring
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from crm_mcp.address import email_address
from crm_mcp.backends.local.smtp import Letter, Post, letter, post
from crm_mcp.errors import InvalidArgument
from crm_mcp.server.arguments import Body, Subject
from crm_mcp.text import neutral

SMUGGLED = (
    "=?utf-8?q?=0D=0ABcc:_evil@b.example?=",
    "=?utf-8?q?Hello=0D=0ABcc:_evil@b.example=0D=0A=0D=0AAnother_text?=",
    "=?utf-8?b?DQpCY2M6IGV2aWxAYi5leGFtcGxlDQoNCkFub3RoZXIgdGV4dA==?=",
    "=?utf-8?q?=3D=3Futf-8=3Fq=3F=3D0D=3D0ABcc=3A_evil=40b=2Eexample=3F=3D?=",
    "=?utf-8?q?one?= =?utf-8?q?two?=",
    "=?utf-8?q?one?==?utf-8?q?two?=",
    "=?utf-16?b?/v8ADQAKAEI=?=",
    "=?unknown-8bit?q?=ff?=",
    "=?x-none?q?a?=",
    "=?utf-8*en?q?a?=",
    "=?utf-8?q?a b?=",
    "=?utf-8?x?a?=",
    "=?utf-8?b?!?=",
    "=?utf-8?q?=",
    "=??q?a?=",
    "(=?utf-8?q?a?=)",
    '"=?utf-8?q?a?="',
    "a=?utf-8?q?a?=b",
)
ODD = "!#$%&'*+-/=?^_`{|}~"

pieces = st.sampled_from(
    (
        *SMUGGLED,
        *(
            "=?utf-8?q?",
            "=?utf-8?b?",
            "?=",
            "=?",
            "=0D=0A",
            "=",
            "?",
            "_",
            ":",
            ";",
            ",",
            "<",
            ">",
            "(",
            '"',
            "\\",
            ".",
        ),
        *(" ", "  ", "\t", "\n", "\r", "\r\n", "\r\n ", "\n\n", "\n.\n", "\r\n.\r\n", ".\r\n", "\r\n..", " \n", "=\n"),
        *("Bcc: evil@b.example", "Subject: two", "From ", "--", "x" * 61, "x" * 199, "word ", "é", "ß" * 40, "漢" * 30),
        *("😀", "👩\u200d🔬", "e\u0301", "\u00a0", "\u2028", "\u2029", "\u0085", "\x00", "\x0b", "\x0c", "\x1b[8m"),
    )
)
texts = st.lists(pieces | st.text(max_size=20), max_size=12).map("".join)
words = st.text(st.sampled_from("abcXYZ019" + ODD) | st.characters(codec="utf-8", min_codepoint=0xC0), min_size=1)
quoted = st.text(st.sampled_from('ab .,:;<>@()[]"\\=?'), max_size=12).map(
    lambda text: '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
)
locals_ = words | st.lists(words, min_size=1, max_size=3).map(".".join) | quoted
domains = st.sampled_from(("acme.example", "a-b.c.example", "bücher.example"))
mailboxes = st.tuples(locals_, domains).map(lambda parts: f"{parts[0][:64]}@{parts[1]}")


class Server:
    """Takes mail."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.taken.append(envelope)
        return "250 OK"


@pytest.fixture(scope="module")
def office() -> Generator[tuple[Server, Post]]:
    server = Server()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    controller = Controller(server, hostname="127.0.0.1", port=port, enable_SMTPUTF8=True)
    controller.start()
    yield server, Post.at(f"smtp://127.0.0.1:{port}")
    controller.stop()


def handed_in(office: tuple[Server, Post], mail: Letter) -> Envelope:
    server, at = office
    server.taken.clear()
    post(at, mail)
    (envelope,) = server.taken
    return envelope


Read = tuple[list[tuple[str, str]], bytes]


def by_the_book(content: bytes) -> Read:
    """Read an e-mail by RFC 5322, 2045 and 2047 alone: its headers, and its text."""
    head, _, text = content.partition(b"\r\n\r\n")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", content)
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    headers: list[tuple[str, str]] = []
    for line in re.sub(rb"\r\n(?=[ \t])", b"", head).decode().split("\r\n"):
        name, value = cast("tuple[str, str]", re.fullmatch(r"([!-9;-~]+): (.*)", line).groups())  # pyright: ignore[reportOptionalMemberAccess]
        value = re.sub(r"(=\?[^? ]+\?[bq]\?[^? ]*\?=)\s+(?==\?)", r"\1", value)
        parts = re.split(r"=\?utf-8\?b\?([A-Za-z0-9+/=]*)\?=", value)
        coded = "".join(b64decode(part).decode() if place % 2 else part for place, part in enumerate(parts))
        headers.append((name, coded))
    assert dict(headers)["Content-Transfer-Encoding"] == "quoted-printable"
    text = re.sub(rb"=\r\n", b"", text)
    return headers, re.sub(rb"=([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), text)


def by_old_programs(content: bytes) -> Read:
    """Read it as programs on Python's older interface do."""
    mail = message_from_bytes(content, policy=compat32)
    said = [(name, re.sub(r"\r?\n(?=[ \t])", "", value)) for name, value in mail.raw_items()]
    headers = [(name, value.encode("utf-8", "surrogateescape").decode()) for name, value in said]
    decoded = [(name, str(make_header(decode_header(value)))) for name, value in headers]
    return decoded, cast("bytes", mail.get_payload(decode=True))


def by_new_programs(content: bytes) -> Read:
    """Read it as programs on Python's newer interface do."""
    mail = message_from_bytes(content, policy=default)
    assert not mail.is_multipart()
    assert all(not value.defects for _, value in mail.items() if str(value).isascii())
    return [(name, str(value)) for name, value in mail.items()], decodestring(cast("str", mail.get_payload()))


def expected(sender: str, to: str, subject: str, body: str, reply_to: str | None, mail: Letter) -> Read:
    text = re.sub(r"\r\n|\r|\n", "\r\n", body)
    headers = {"From": sender, "To": to, **({"Reply-To": reply_to} if reply_to else {})}
    headers["Subject"] = re.sub(r"[\r\n]+", " ", subject)
    headers["Date"] = dict(by_the_book(mail.content)[0])["Date"]
    headers |= {"Message-ID": mail.message_id, "MIME-Version": "1.0", "Content-Type": 'text/plain; charset="utf-8"'}
    headers["Content-Transfer-Encoding"] = "quoted-printable"
    return [*headers.items()], (text if text.endswith("\r\n") else f"{text}\r\n").encode()


def assert_arrives(office: tuple[Server, Post], subject: str, body: str, *addresses: str) -> None:
    sender, to, *more = addresses or ("sales@acme.example", "jane@a.example")
    reply_to = more[0] if more else None
    mail = letter(sender, to, subject, body, reply_to)

    envelope = handed_in(office, mail)

    content = cast("bytes", envelope.content)
    wanted = expected(sender, to, subject, body, reply_to, mail)
    assert content == mail.content
    for read in (by_the_book, by_old_programs, by_new_programs):
        assert read(content) == wanted
    assert (envelope.mail_from, envelope.rcpt_tos) == (sender, [to])


def let_through(kind: Any, text: str, most: int) -> str:
    """Return a text as a tool gets it, where its argument lets it through."""
    try:
        return TypeAdapter[str](kind).validate_python(neutral(text)[:most])
    except ValidationError:
        assume(False)
        raise


@settings(deadline=None)
@given(subject=texts, body=texts)
def test_what_the_tools_let_through_arrives_as_it_is(office: tuple[Server, Post], subject: str, body: str) -> None:
    subject, body = let_through(Subject, subject, 200), let_through(Body, body, 20_000)

    assert_arrives(office, subject, body)


@settings(deadline=None)
@given(subject=texts, body=texts)
def test_whatever_is_written_arrives_as_it_is(office: tuple[Server, Post], subject: str, body: str) -> None:
    assert_arrives(office, subject, body)


@pytest.mark.parametrize("subject", SMUGGLED)
def test_a_subject_that_looks_encoded_is_read_as_these_very_characters(
    office: tuple[Server, Post], subject: str
) -> None:
    assert_arrives(office, subject, "Hello")
    assert_arrives(office, f"Re: {subject} and {subject}", "Hello")


@pytest.mark.parametrize(
    "body", [".", "..", ".\n.", "\n.\n", "a\n.\r\n..\r\n", "\r.\r", "x" * 5000, " \n\t\n", "\0.\n"]
)
def test_dots_and_odd_line_ends_arrive_as_they_are(office: tuple[Server, Post], body: str) -> None:
    assert_arrives(office, "Dots", body)


@settings(deadline=None)
@given(sender=mailboxes, to=mailboxes, reply_to=mailboxes)
def test_addresses_are_exactly_those_or_nothing_leaves(
    office: tuple[Server, Post], sender: str, to: str, reply_to: str
) -> None:
    try:
        mail = letter(sender, to, "Hello", "Text", reply_to)
    except InvalidArgument:
        # What is an address, and is no encoded word to anybody, can be written.
        assert any("=?" in each or not is_address(each) for each in (sender, to, reply_to))
        return

    envelope = handed_in(office, mail)

    old = message_from_bytes(cast("bytes", envelope.content), policy=compat32)
    new = message_from_bytes(cast("bytes", envelope.content), policy=default)
    for name, address in (("From", sender), ("To", to), ("Reply-To", reply_to)):
        raw = [value for each, value in old.raw_items() if each == name]
        assert [each.encode("utf-8", "surrogateescape").decode() for each in raw] == [address]
        assert str(new[name]) == address
        if address.isascii():
            assert getaddresses([old[name]])[0][0] == ""
            assert len(new[name].addresses) == 1
    assert (envelope.mail_from, envelope.rcpt_tos) == (sender, [to])


def is_address(text: str) -> bool:
    try:
        return email_address(text) == text
    except InvalidArgument:
        return False


@pytest.mark.parametrize(
    "address",
    [
        "=?utf-8?q?jane=40evil.example?=@a.example",
        '"=?utf-8?q?jane?="@a.example',
        "jane@a.example, evil@b.example",
        "jane@a.example> BODY=8BITMIME",
        "jane@a.example\r\nBcc: evil@b.example",
        "jane@a.example\r\nRCPT TO:<evil@b.example>",
        "Jane <jane@a.example>",
        "jane(evil@b.example)@a.example",
        "jane@a.example (evil)",
        "all: jane@a.example;",
        "jane@a.\u200bexample",
        "jane\ud800@a.example",
        "jane@a..example",
        "jane",
        "@a.example",
        "jane@",
        "jane@a b.example",
        "jane@a.example\0",
    ],
)
def test_what_is_not_one_plain_address_is_refused_before_anything_leaves(address: str) -> None:
    for addresses in ((address, "jane@a.example", None), ("sales@acme.example", address, None)):
        with pytest.raises(InvalidArgument, match="can't be written so that") as refused:
            letter(addresses[0], addresses[1], "Hello", "Text", addresses[2])
        assert refused.value.wrote is False
    with pytest.raises(InvalidArgument):
        letter("sales@acme.example", "jane@a.example", "Hello", "Text", address)


@pytest.mark.parametrize("text", ["half \ud83d", "\udc00"])
def test_half_a_character_is_refused_before_anything_leaves(text: str) -> None:
    for subject, body in ((text, "Text"), ("Hello", text)):
        with pytest.raises(InvalidArgument, match="can't be written so that") as refused:
            letter("sales@acme.example", "jane@a.example", subject, body, None)
        assert refused.value.wrote is False


def test_lines_are_short_where_words_allow_it() -> None:
    ordinary = letter("a@b.example", "c@d.example", "word " * 39 + "end", "x " * 5000, None)
    encoded = letter("a@b.example", "c@d.example", "漢é😀 =?" * 28, "é" * 5000, None)

    for mail in (ordinary, encoded):
        assert all(len(line) <= 78 for line in mail.content.split(b"\r\n"))
    assert b"=?" not in ordinary.content
