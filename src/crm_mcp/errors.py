"""What can go wrong, named by what the caller can do about it.

`str(error)` is one line, `what is wrong; what to do about it`, made of our words, the caller's own values and ids only.
What else a vendor said stays in `detail`, which is for the log and never reaches a client.

    CrmMcpError
        SettingsError        the settings can't be right: the start stops
        CrmError             a call failed; `code` is the contract's word for it
            InvalidArgument  invalid_argument: say it otherwise
                Undecided        invalid_argument: say what is meant before anything is done
            NotFound         not_found: look for it first
            Ambiguous        ambiguous: choose one of the candidates
            Unauthorized     unauthorized: the key is wrong
            Forbidden        forbidden: policy or permission
            PaymentRequired  payment_required: the plan or credit does not cover it
            Busy             rate_limited: wait
            Conflict         conflict: the record changed, or exists already
            Unsupported      unsupported: this CRM can't; others or another tool can
            VendorError      vendor_error: the CRM failed
                OtherRecord      vendor_error: the CRM shows another record than the one asked for
                OutcomeUnknown   vendor_error: a write left, and whether it was done is not known
                    OtherWritten     vendor_error: a write was answered with another record
            Unreachable      unreachable: the CRM, or the file it lives in, can't be reached
            TimedOut         timeout: no answer in time
            Internal         internal: a fault of this program
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from itertools import islice
from typing import ClassVar

_NAMED = "the answer named "
_ID = re.compile(r"(?a:\w[\w.:-]{0,63})")
"""An id of a vendor's that can be told: words that somebody has put in its place are none."""


class CrmMcpError(Exception):
    """The root of everything that this project raises on purpose."""


class SettingsError(CrmMcpError):
    """A setting is unknown, malformed or not allowed; the text names it and the nearest valid one."""


class CrmError(CrmMcpError):
    """A call failed: `what` is wrong, and `fix` says what to do about it.

    `detail` is for the log alone. `wrote` says whether anything was written before it failed, where a write was tried.
    """

    code: ClassVar[str] = "internal"
    status: int | None = None
    """The HTTP status that the CRM refused with, where it did."""
    told: object = None
    """The JSON that the CRM refused with, for the backend alone: it says which rows of a batch were at fault."""

    def __init__(self, what: str, fix: str = "", *, detail: str = "", wrote: bool | None = None) -> None:
        self.what = what
        self.fix = fix
        self.detail = detail
        self.wrote = wrote
        super().__init__(f"{what}; {fix}" if fix else what)


@contextmanager
def saying(*, wrote: bool) -> Generator[None]:
    """Let what fails inside say whether anything was written before it."""
    try:
        yield
    except CrmError as error:
        error.wrote = wrote
        raise


class InvalidArgument(CrmError):
    """An argument is not what it must be."""

    code = "invalid_argument"


class Undecided(InvalidArgument):
    """It can't be read what is meant; nothing is done until somebody says it."""


class NotFound(CrmError):
    """The thing named does not exist."""

    code = "not_found"


class Ambiguous(CrmError):
    """The name fits several things; the text lists them."""

    code = "ambiguous"


class Unauthorized(CrmError):
    """The CRM does not accept the key."""

    code = "unauthorized"


class Forbidden(CrmError):
    """A policy, or the key's permissions, forbid it."""

    code = "forbidden"


class PaymentRequired(CrmError):
    """The CRM's plan or credit does not cover it."""

    code = "payment_required"


class Busy(CrmError):
    """A limit of calls is used up; `retry_after` seconds from now it works again."""

    code = "rate_limited"

    def __init__(self, what: str, fix: str = "", *, retry_after: float, detail: str = "") -> None:
        super().__init__(what, fix or f"wait {retry_after:.0f} seconds", detail=detail, wrote=False)
        self.retry_after = retry_after


class Conflict(CrmError):
    """The record has changed since, or exists already."""

    code = "conflict"


class Unsupported(CrmError):
    """This CRM can't do it; the text names what it can do instead."""

    code = "unsupported"


class VendorError(CrmError):
    """The CRM failed, or answered something that makes no sense."""

    code = "vendor_error"


class OtherRecord(VendorError):
    """The CRM answered with another record than the one asked for: nothing is decided by it, and nothing written.

    `shown` is the id of the other one; empty where there is none.
    """

    def __init__(self, what: str, fix: str, *, shown: str, detail: str = "") -> None:
        super().__init__(what, fix, detail=detail, wrote=False)
        self.shown = shown


class OutcomeUnknown(VendorError):
    """A write left for the CRM, and what came back, if anything, does not say whether it was done."""


class OtherWritten(OutcomeUnknown):
    """A write was answered with another record than the one it was for: which one was written is not known.

    What to do about it names the other one by its id, where it is one (`shown`), and is found again by `other_named`.
    """

    def __init__(self, what: str, shown: str, *, detail: str = "") -> None:
        other = shown if _ID.fullmatch(shown) else "another record"
        super().__init__(
            what, f"{_NAMED}{other}: a person may look in the CRM whether that one was changed", detail=detail
        )


class Unreachable(CrmError):
    """The CRM, or the file that it lives in, can't be reached."""

    code = "unreachable"


class TimedOut(CrmError):
    """No answer came in time."""

    code = "timeout"


class Internal(CrmError):
    """A fault of this program; the log has the rest."""

    code = "internal"


def other_named(said: str) -> str | None:
    """Return what an `OtherWritten` has said of the other record, found in what is kept of it; None: nothing."""
    found = re.search(rf"{_NAMED}[^;]+", said)
    return found[0] if found else None


MOST_LISTED = 25
MOST_COMPARED = 1_000
LONGEST_COMPARED = 80
"""How many valid values, and how many characters of each, are looked at for the nearest: to compare two takes the
square of their length, and many are named by strangers."""


def nearest(value: str, valid: Iterable[str]) -> str | None:
    """Return the valid value that looks most like `value`, or None where none does."""
    import difflib

    by_fold = {each.casefold(): each for each in islice(valid, MOST_COMPARED) if len(each) <= LONGEST_COMPARED}
    found = difflib.get_close_matches(value[:LONGEST_COMPARED].casefold(), by_fold, n=1, cutoff=0.5)
    return by_fold[found[0]] if found else None


def choices(value: str, valid: Iterable[str]) -> str:
    """Return the second half of an error: the valid values (at most 25) and the one nearest to `value`."""
    names = list(valid)
    if not names:
        return "there are none"
    listed = ", ".join(names[:MOST_LISTED]) + (
        f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    )
    near = nearest(value, names)
    return f'valid: {listed}; nearest: "{near}"' if near else f"valid: {listed}"
