"""E-mail out of the door: one letter, one SMTP dialogue, at most once.

What was confirmed is what goes. The header lines are written here, because the library reads (and several of its
versions decode) what is set as a header; what is finished is then read as receivers read it, and compared.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_string, policy
from email.errors import MessageError
from email.header import decode_header, make_header
from email.utils import format_datetime, getaddresses, make_msgid
from ipaddress import ip_address
from textwrap import wrap
from urllib.parse import parse_qs, unquote, urlsplit

from crm_mcp.address import LONGEST, email_address
from crm_mcp.errors import CrmError, InvalidArgument, SettingsError, TimedOut, Unreachable, VendorError
from crm_mcp.model import now
from crm_mcp.text import unseen

SECONDS = 15.0
FALLBACK_SENDER = "crm@localhost"
_NEXT = "check CRM_MCP_SMTP_URL and the mail server; nothing was sent"

_LINE = 69
"""Characters of the first line of a subject: 78 with its name."""
_PART = 39
"""Bytes of the text of an encoded word: 64 characters as it is written, 73 with the name of the header."""
_ORDINARY = re.compile(r"[!-~]{1,900}(?: [!-~]{1,900})*")
_BREAKS = re.compile(r"[\r\n]+")
_LINE_END = re.compile(r"\r\n|\r|\n")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_ADDRESS = re.compile(r'(?:[^\s"(),:;<>@\[\\\]]+|"(?:[^"\\\r\n]|\\[ -~])*")@[^\s"(),:;<>@\\]+')
"""One address as it stands in a header and in a command: a word or a quoted one, and a domain."""


@dataclass(frozen=True)
class Post:
    """Where e-mail is handed in."""

    host: str
    port: int
    encrypted: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sender: str | None = None
    """The address that the URL itself speaks for."""

    @classmethod
    def at(cls, url: str) -> Post:
        """Read an SMTP URL. Raises SettingsError, without the password, where it is none."""
        bad = SettingsError("CRM_MCP_SMTP_URL is not an SMTP address such as smtp://user:pass@mail.example.com:587")
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            raise bad from None
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise bad
        encrypted = parts.scheme == "smtps"
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        stated = parse_qs(parts.query).get("from", [])
        try:
            sender = email_address(stated[0]) if stated else None
        except InvalidArgument:
            raise SettingsError("from= in CRM_MCP_SMTP_URL is no e-mail address") from None
        return cls(parts.hostname, port or (465 if encrypted else 587), encrypted, user, password, sender or _own(user))


def _own(user: str | None) -> str | None:
    try:
        return email_address(user) if user else None
    except InvalidArgument:
        return None


@dataclass(frozen=True)
class Letter:
    """An e-mail of plain text as it goes over the line."""

    sender: str
    to: str
    message_id: str
    content: bytes

    @property
    def international(self) -> bool:
        """Whether an address has letters beyond ASCII; nothing else in it does."""
        return not (self.content.isascii() and self.to.isascii())


def letter(sender: str, to: str, subject: str, body: str, reply_to: str | None) -> Letter:
    """Return an e-mail in which every receiver reads exactly this; line breaks in the subject become spaces, those of
    the body are those of mail, one at its end.

    Raises:
        InvalidArgument: it can't be written so that nobody reads anything else in it.
    """
    try:
        headers = {"From": _plain(sender), "To": _plain(to), **({"Reply-To": _plain(reply_to)} if reply_to else {})}
        headers |= {
            "Subject": _BREAKS.sub(" ", subject),
            "Date": format_datetime(now()),
            "Message-ID": make_msgid(domain=_domain(sender)),
            "MIME-Version": "1.0",
            "Content-Type": 'text/plain; charset="utf-8"',
            "Content-Transfer-Encoding": "quoted-printable",
        }
        text = (_LINE_END.sub("\r\n", body).removesuffix("\r\n") + "\r\n").encode()
        lines = (f"{name}: {_encoded(value) if name == 'Subject' else value}\r\n" for name, value in headers.items())
        content = "".join(lines).encode() + b"\r\n" + b2a_qp(text)
        same = _reads_as(content, headers, text)
    except (ValueError, LookupError, MessageError) as error:  # as an address that is none, half of a surrogate pair
        raise _unwritable(repr(error)) from None
    if not same:
        raise _unwritable(repr(content[:2000]))
    return Letter(sender, to, headers["Message-ID"], content)


def _unwritable(detail: str) -> InvalidArgument:
    what = "this e-mail can't be written so that its receiver reads exactly what was given"
    return InvalidArgument(what, "check the addresses", detail=detail, wrote=False)


def _plain(address: str) -> str:
    """Return an address, which is exactly one and has no room for anything else. Raises ValueError."""
    if len(address) > LONGEST or not _ADDRESS.fullmatch(address) or "=?" in address or unseen(address) is not None:
        raise ValueError(address)
    return address


def _encoded(subject: str) -> str:
    """Return a subject as it stands in its header, in lines of at most 78 characters where words allow it.

    What a reader could take for something else (letters beyond ASCII, what looks like an encoded word, white space that
    could be folded away) stands there as encoded words of whole characters (RFC 2047).
    """
    if _ORDINARY.fullmatch(subject) and "=?" not in subject:
        return "\r\n ".join(wrap(subject, _LINE, break_long_words=False, break_on_hyphens=False))
    return "\r\n ".join(f"=?utf-8?b?{b64encode(part).decode()}?=" for part in _parts(subject))


def _parts(text: str) -> Iterator[bytes]:
    """Yield a text in UTF-8 in parts of at most `_PART` bytes, no character parted."""
    part = b""
    for each in text:
        if len(part) + len(coded := each.encode()) > _PART:
            yield part
            part = b""
        part += coded
    yield part


def _reads_as(content: bytes, headers: Mapping[str, str], text: bytes) -> bool:
    """Whether a finished e-mail has exactly these headers and this text: line by line, and as the standard library
    reads it in both its ways, which are those of many receivers."""
    lines = content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").split(b"\r\n")
    if any(_CONTROL.search(line) for line in lines) or len(lines) != len(headers):
        return False
    old = message_from_string(content.decode(), policy=policy.compat32)
    new = message_from_string(content.decode(), policy=policy.default)
    return (
        [(name, _decoded(value)) for name, value in old.items()] == [*headers.items()]
        and [(name, str(value)) for name, value in new.items()] == [*headers.items()]
        and all(
            [_mailbox(each) for _, each in getaddresses([old[name]])] == [_mailbox(headers[name])]
            and [(each.username, each.domain) for each in new[name].addresses] == [_mailbox(headers[name])]
            for name in ("From", "To", "Reply-To")
            if name in headers
        )
        and all(
            each.get_content_type() == "text/plain" and each.get_payload(decode=True) == text for each in (old, new)
        )
    )


def _decoded(header: str) -> str:
    """Return a header as programs read it that decode it by themselves."""
    return str(make_header(decode_header(_FOLD.sub("", header))))


def _mailbox(address: str) -> tuple[str, str]:
    """Return the two parts of an address, the first as it is meant where it is quoted."""
    local, _, domain = address.rpartition("@")
    return (re.sub(r"\\(.)", r"\1", local[1:-1]) if local.startswith('"') else local), domain


def _domain(address: str) -> str:
    # A host name in a header must be ASCII, and says nothing about this machine.
    return address.rpartition("@")[2].encode("idna").decode()


def post(at: Post, mail: Letter) -> None:
    """Hand in one e-mail.

    Raises:
        Unreachable, VendorError: it was not sent (`wrote` is False).
        TimedOut: it was handed in and the answer never came (`wrote` is None).
    """
    try:
        server = _connected(at, _domain(mail.sender))
    except (OSError, smtplib.SMTPException) as error:
        raise _not_sent(at, error) from error
    try:
        try:
            payload = _introduced(server, at, mail)
        except (OSError, smtplib.SMTPException, UnicodeError) as error:
            raise _not_sent(at, error) from error
        try:
            server.send(payload)
            code, text = server.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise TimedOut(
                "the mail server took the e-mail and never answered",
                "it may have been sent: look into the mailbox before sending it again",
                detail=_said(at, error),
            ) from error
        if code != 250:
            raise _not_sent(at, smtplib.SMTPDataError(code, text))
    finally:
        _goodbye(server)


def _connected(at: Post, name: str) -> smtplib.SMTP:
    if at.encrypted:
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(at.host, at.port, local_hostname=name, timeout=SECONDS, context=context)
    server = smtplib.SMTP(at.host, at.port, local_hostname=name, timeout=SECONDS)
    try:
        server.ehlo_or_helo_if_needed()
        if server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
            server.ehlo()
    except BaseException:
        _goodbye(server)
        raise
    return server


def _introduced(server: smtplib.SMTP, at: Post, mail: Letter) -> bytes:
    """Go through the dialogue up to the text; return the text with its end mark."""
    if at.user and at.password is not None:
        keep_password(at, encrypted=isinstance(server.sock, ssl.SSLSocket))
        server.login(at.user, at.password)
    server.ehlo_or_helo_if_needed()
    option = ""
    if mail.international:
        if not server.has_extn("smtputf8"):
            raise smtplib.SMTPNotSupportedError("no SMTPUTF8")
        server.command_encoding, option = "utf-8", " SMTPUTF8"
    # Not by `mail` and `rcpt`, which read an address before they write it.
    _expect(server.docmd("MAIL", f"FROM:<{mail.sender}>{option}"), 250)
    _expect(server.docmd("RCPT", f"TO:<{mail.to}>"), 250, 251)
    _expect(server.docmd("DATA"), 354)
    return mail.content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def keep_password(at: Post, *, encrypted: bool) -> None:
    """Raise VendorError where the password would travel in the clear to another machine."""
    if not encrypted and not _loopback(at.host):
        raise VendorError(
            "the mail server offers no encryption, so the password was kept back", "use smtps://", wrote=False
        )


def _expect(reply: tuple[int, bytes], *codes: int) -> None:
    if reply[0] not in codes:
        raise smtplib.SMTPResponseException(reply[0], reply[1].decode("utf-8", "replace"))


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _goodbye(server: smtplib.SMTP) -> None:
    try:
        if server.sock is not None:
            server.sock.settimeout(1)
            server.quit()
    except (OSError, smtplib.SMTPException):
        pass
    finally:
        server.close()


def _said(at: Post, error: Exception) -> str:
    text = repr(error)
    return text.replace(at.password, "***") if at.password else text


def _not_sent(at: Post, error: Exception) -> CrmError:
    """Return the error for a letter that was not taken; what the server said goes to the log alone."""
    detail = _said(at, error)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return VendorError("the mail server does not accept the user or password", _NEXT, detail=detail, wrote=False)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return VendorError("the mail server can't do what this e-mail needs", _NEXT, detail=detail, wrote=False)
    if isinstance(error, smtplib.SMTPResponseException) and not isinstance(error, smtplib.SMTPConnectError):
        what = f"the mail server refused the e-mail with code {error.smtp_code}"
        return VendorError(what, "check the address and the mailbox; nothing was sent", detail=detail, wrote=False)
    return Unreachable(f"the mail server {at.host}:{at.port} can't be reached", _NEXT, detail=detail, wrote=False)
