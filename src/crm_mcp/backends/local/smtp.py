"""E-mail out of the door: one letter, one SMTP dialogue, at most once."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, make_msgid
from ipaddress import ip_address
from urllib.parse import parse_qs, unquote, urlsplit

from crm_mcp.address import email_address
from crm_mcp.errors import CrmError, InvalidArgument, SettingsError, TimedOut, Unreachable, VendorError
from crm_mcp.model import now

SECONDS = 15.0
FALLBACK_SENDER = "crm@localhost"
_NEXT = "check CRM_MCP_SMTP_URL and the mail server; nothing was sent"


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


def letter(sender: str, to: str, subject: str, body: str, reply_to: str | None) -> EmailMessage:
    """Return an e-mail of plain text; line breaks in the subject become spaces."""
    international = not (sender + to + (reply_to or "")).isascii()
    found = EmailMessage(policy=SMTPUTF8 if international else SMTP)
    found["From"] = _address(sender)
    found["To"] = _address(to)
    if reply_to:
        found["Reply-To"] = _address(reply_to)
    found["Subject"] = " ".join(subject.split())
    found["Date"] = format_datetime(now())
    found["Message-ID"] = make_msgid(domain=_domain(sender))
    found.set_content(body)
    return found


def _address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(username=local, domain=domain)


def _domain(address: str) -> str:
    # A host name in a header must be ASCII, and says nothing about this machine.
    return address.rpartition("@")[2].encode("idna").decode()


def post(at: Post, mail: EmailMessage, sender: str, to: str) -> None:
    """Hand in one e-mail.

    Raises:
        Unreachable, VendorError: it was not sent (`wrote` is False).
        TimedOut: it was handed in and the answer never came (`wrote` is None).
    """
    try:
        server = _connected(at, _domain(sender))
    except (OSError, smtplib.SMTPException) as error:
        raise _not_sent(at, error) from error
    try:
        try:
            payload = _introduced(server, at, mail, sender, to)
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
    context = ssl.create_default_context()
    if at.encrypted:
        return smtplib.SMTP_SSL(at.host, at.port, local_hostname=name, timeout=SECONDS, context=context)
    server = smtplib.SMTP(at.host, at.port, local_hostname=name, timeout=SECONDS)
    try:
        server.ehlo_or_helo_if_needed()
        if server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
    except BaseException:
        _goodbye(server)
        raise
    return server


def _introduced(server: smtplib.SMTP, at: Post, mail: EmailMessage, sender: str, to: str) -> bytes:
    """Go through the dialogue up to the text; return the text with its end mark."""
    if at.user and at.password is not None:
        keep_password(at, encrypted=isinstance(server.sock, ssl.SSLSocket))
        server.login(at.user, at.password)
    server.ehlo_or_helo_if_needed()
    international = not (sender + to).isascii()
    if international and not server.has_extn("smtputf8"):
        raise smtplib.SMTPNotSupportedError("no SMTPUTF8")
    _expect(server.mail(sender, ["SMTPUTF8"] if international else []), 250)
    _expect(server.rcpt(to), 250, 251)
    _expect(server.docmd("DATA"), 354)
    text = mail.as_bytes().replace(b"\r\n.", b"\r\n..")
    text = b"." + text if text.startswith(b".") else text
    return text + (b"" if text.endswith(b"\r\n") else b"\r\n") + b".\r\n"


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
