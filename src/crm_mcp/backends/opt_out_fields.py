"""Fields by which CRMs say that somebody must not be contacted: known by their names, in the words of the usual CRMs.

A vendor's record may have such a field, and so may a file or a row that is imported: `doNotCall`, `HasOptedOutOfEmail`,
`Unsubscribed from all email`, `DND`, `Person - Marketing status`. What it says is read strictly: yes, no, or neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from crm_mcp.errors import InvalidArgument
from crm_mcp.model import CHANNELS, Channel, Lead, fold

NOT_OURS = frozenset(("fax", "faxes", "post", "postal", "letter", "letters", "whatsapp", "push", "parcel"))
"""Ways to reach somebody that no tool here has."""
_WORDS: Mapping[Channel, frozenset[str]] = {
    "email": frozenset(("email", "emails", "emailing", "mail", "mails", "mailing", "mailings", "newsletter")),
    "sms": frozenset(("sms", "text", "texts", "texting", "message", "messages", "messaging", "mms")),
    "call": frozenset(
        ("call", "calls", "calling", "phone", "phones", "telephone", "tel", "mobile", "cell", "voice", "dial")
    ),
    "linkedin": frozenset(("linkedin", "inmail")),
}
_CHANNEL_WORDS = frozenset[str]().union(*_WORDS.values())
_TARGETS = (
    _CHANNEL_WORDS | NOT_OURS | {"contact", "disturb", "market", "solicit", "send", "reach", "ring", "allow", "bulk"}
)
"""What follows `do not`."""
_NO_TARGETS = frozenset(("contact", "marketing", "emails", "email", "sms", "texts", "mailings", "solicitation"))
"""What follows `no`; `No calls` is more often how many there were."""
_ALONE = frozenset(
    (
        *("unsubscribed", "unsubscribe", "unsubscribes", "unsub", "unsubbed", "dnc", "dnd", "blacklist", "blacklisted"),
        *("blocklist", "blocklisted", "suppressed", "suppression", "donotcontact"),
    )
)
_ELSEWHERE: Mapping[str, tuple[Channel, ...]] = {
    **dict.fromkeys(
        (
            *("nichtkontaktieren", "keinewerbung", "werbesperre", "kontaktsperre", "abgemeldet", "abbestellt"),
            *("nepascontacter", "desabonne", "desinscrit", "nepasderanger", "nocontactar", "nomolestar", "dadodebaja"),
            *("noncontattare", "disiscritto", "nondisturbare", "nietcontacteren", "nietbenaderen", "uitgeschreven"),
            *("afgemeld", "naocontatar", "naocontactar", "naoperturbe", "descadastrado"),
            *("widerspruch", "werbewiderspruch", "nevercontact", "dontcontact", "stoplist"),
        ),
        CHANNELS,
    ),
    **dict.fromkeys(
        (
            *("nichtanrufen", "anrufsperre", "telefonsperre", "nepasappeler", "nollamar", "nonchiamare", "nietbellen"),
            *("naoligar", "keineanrufe", "dontcall", "nophonecalls"),
        ),
        ("call", "sms"),
    ),
    **dict.fromkeys(
        ("keineemails", "keinemails", "emailsperre", "mailsperre", "newsletterabgemeldet", "nietmailen", "dontemail"),
        ("email",),
    ),
}
"""What such a field is called in other languages, or with an apostrophe, in its letters alone."""
_CONSENT_ELSEWHERE = frozenset(
    ("einwilligung", "zustimmung", "consentement", "consentimiento", "consenso", "toestemming", "consentimento")
)
_CONSENT = frozenset(("consent", "consented", "consents", "optin", "subscribed", "permission"))
_ALLOWING = frozenset(("accepts", "accept", "allow", "allows", "allowed", "may", "can"))
_DETAILS = frozenset(
    (
        *("reason", "reasons", "mode", "link", "links", "url", "source", "by", "note", "notes", "comment", "comments"),
        *("page", "count", "token", "rate", "history", "preference", "preferences", "method", "ip"),
    )
)
"""What says something about an opt-out, and not that there is one."""
_DATED = frozenset(("at", "on", "date", "time", "timestamp", "datetime"))
_FILLERS = frozenset(
    (
        *("is", "has", "was", "lead", "leads", "contact", "contacts", "person", "people", "customer", "customers"),
        *(
            "account",
            "prospect",
            "subscriber",
            "member",
            "user",
            "client",
            "company",
            "global",
            "globally",
            "hs",
            "crm",
        ),
        *("primary", "work", "personal", "field", "custom", "address", "number", "of", "from", "for", "to", "via"),
        *(
            "all",
            "any",
            "every",
            "bulk",
            "marketing",
            "promotional",
            "commercial",
            "list",
            "lists",
            "or",
            "and",
            "status",
        ),
        *("flag", "yn", "the", "our", "updates", "offers", "communication", "communications", "materials", "given"),
        *(
            "granted",
            "gdpr",
            "dsgvo",
            "subscription",
            "allow",
            "send",
            "opt",
            "opted",
            "out",
            "in",
            "do",
            "not",
            "dont",
        ),
        *("no", "disturb", "market", "solicit", "reach", "ring"),
    )
)
_KNOWN = _FILLERS | _CHANNEL_WORDS | NOT_OURS | _ALONE | _CONSENT | _ALLOWING | _DETAILS | _DATED
_LONGEST_NAME = 120
_LONGEST_WORD = max(map(len, _KNOWN))
_PIECE = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])|\d+")
_ONE_NAME = re.compile("(?i)linkedin|whatsapp")
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?(?!\d).*|\d\d?[./]\d\d?[./]\d{2,4}(?!\d).*|\d{10}|\d{13}", re.DOTALL)

_YES = frozenset(
    (
        *("true", "t", "yes", "y", "1", "1.0", "on", "x", "✓", "✔", "☑", "checked", "wahr", "ja", "j", "oui", "vrai"),
        *("si", "sim", "s", "vero", "verdadero", "waar", "do not allow", "do not send", "blocked", "revoked"),
        *("withdrawn", "opted out", "opt out", "optout", "unsubscribed", "unsubscribe"),
    )
)
_NO = frozenset(
    (
        *("false", "f", "no", "n", "0", "0.0", "off", "unchecked", "falsch", "nein", "non", "faux", "nao", "falso"),
        *("nee", "onwaar", "never", "allow", "allowed", "send", "opted in", "opt in", "subscribed", "not opted out"),
    )
)
_NOTHING = frozenset(
    ("", "-", "--", "\u2013", "\u2014", "n/a", "na", "#n/a", "none", "null", "nil", "undefined", "not set")
)
_GRANTED = (_YES - {"do not allow", "do not send", "blocked", "revoked", "withdrawn"}) | {
    *("given", "granted", "opted in", "opt in", "optin", "subscribed", "accepted", "agreed", "allowed", "consented"),
    *("explicit", "express", "allow", "send", "double opt in"),
} - {"opted out", "opt out", "optout", "unsubscribed", "unsubscribe"}
_DENIED = (_NO - {"never", "allow", "allowed", "send", "opted in", "opt in", "subscribed", "not opted out"}) | {
    *("denied", "refused", "withdrawn", "revoked", "declined", "rejected", "opted out", "opt out", "optout"),
    *("unsubscribed", "unsubscribe", "no consent", "not given", "not granted", "do not contact", "not allowed"),
    *("do not allow", "not subscribed"),
}


@dataclass(frozen=True, slots=True)
class OptOutField:
    """A field that says whether somebody may be contacted on these channels."""

    channels: tuple[Channel, ...]
    consent: bool = False
    """It says who may be contacted, and not who must not."""
    dated: bool = False
    """It holds the time of it: a date is a yes."""
    status: bool = False
    """It holds one word of several, which each CRM has of its own."""

    def refuses(self, value: object) -> bool | None:
        """Return whether it says that somebody must not be contacted; None where that can't be read. What says nothing
        refuses nothing."""
        said = " ".join(str("" if value is None else value).split())
        words = fold(said).strip(" .!'\"").replace("-", " ").replace("_", " ") if said not in _NOTHING else ""
        if words in _NOTHING or fold(said) in _NOTHING:
            return False
        if self.consent:
            return True if words in _DENIED else False if words in _GRANTED else None
        if words in _YES or (self.dated and _DATE.fullmatch(said)):
            return True
        if words in _NO:
            return False
        known = opt_out_field(said)  # it repeats its own name, or that of another one: "DNC"
        return True if known and not known.consent else None


def refused_channels(fields: Mapping[str, object] | None) -> tuple[Channel, ...] | None:
    """Return the channels that flags among a record's further fields rule out; None where none does. Of a flag whose
    value can't be read it is not known that it allows anything."""
    found: set[Channel] = set()
    for name, value in (fields or {}).items():
        field = opt_out_field(name)
        if field and not field.consent and _is_set(field, value):
            found.update(field.channels)
    return tuple(sorted(found)) or None


def lifted_channels(written: Mapping[str, object]) -> dict[str, tuple[Channel, ...]]:
    """Return the flags among fields that are about to be written as not set, with their channels."""
    return {
        name: field.channels
        for name, value in written.items()
        if (field := opt_out_field(name)) and not field.consent and not _is_set(field, value)
    }


def refuse_lifting(before: Lead, written: Mapping[str, object]) -> None:
    """Raise where a write of further fields would take away a flag that says that a lead must not be contacted.

    Raises:
        InvalidArgument: it would; nothing is written then.
    """
    if lifted := lifted_channels(written):
        refused = set(refused_channels(before.custom_fields) or ())
        for name, channels in lifted.items():
            if refused & set(channels):
                raise still_refused(name, before.label)


def still_refused(name: str, who: str) -> InvalidArgument:
    """Return the error for a flag that would be taken away."""
    return InvalidArgument(
        f'"{name[:80]}" says that {who} must not be contacted', "a person can lift that, in the CRM itself", wrote=False
    )


def opt_out_field(name: str) -> OptOutField | None:
    """Return what a field of this name says about who may be contacted; None where it says nothing, or is about a way
    that no tool here has."""
    return _opt_out_field(name) if len(name) <= _LONGEST_NAME else None


@lru_cache(maxsize=4096)
def _opt_out_field(name: str) -> OptOutField | None:
    # HubSpot: "Opted out of email: One to One"; what follows tells which kind of e-mail.
    letters = "".join(c for c in fold(name) if c.isalpha())
    if found := _ELSEWHERE.get(letters):
        return OptOutField(found)
    if letters in _CONSENT_ELSEWHERE:
        return OptOutField(CHANNELS, consent=True)
    words = _split(name.partition(":")[0])
    if not words or _DETAILS.intersection(words):
        return None
    found = _channels(words)
    if not found:
        return None
    dated, status = words[-1] in _DATED, words[-1] == "status"
    if _says_not(words):
        return OptOutField(found, dated=dated, status=status)
    if not dated and _says_may(words):
        return OptOutField(found, consent=True, status=status)
    return None


def _is_set(field: OptOutField, value: object) -> bool:
    refuses = field.refuses(value)
    return refuses is True or (refuses is None and not field.status)


def _says_not(words: list[str]) -> bool:
    pairs = list(zip(words, [*words[1:], ""], strict=True))
    for place, (word, following) in enumerate(pairs):
        if word in _ALONE or (word in ("opt", "opted") and following == "out"):
            return True
        before = words[place - 1] if place else ""
        if following in _TARGETS and (word == "dont" or (word == "not" and before == "do")):
            return True
        if word == "no" and following in _NO_TARGETS and place + 2 == len(words):
            return True
    return False


def _says_may(words: list[str]) -> bool:
    if not _KNOWN.issuperset(words):
        return False
    there = set(words)
    pairs = set(pairwise(words))
    if there & _CONSENT or pairs & {
        ("opt", "in"),
        ("opted", "in"),
        ("marketing", "status"),
        ("subscription", "status"),
    }:
        return True
    return bool(there & _ALLOWING and there & (_CHANNEL_WORDS | {"contact", "marketing"}))


def _channels(words: list[str]) -> tuple[Channel, ...]:
    """Return the channels that a name tells of, all where it tells of none; who says no to calls says no to the
    number."""
    there = set(words)
    found = {channel for channel, names in _WORDS.items() if there & names}
    if there & NOT_OURS and not (found - {"email"}) and not there & {"email", "emails", "newsletter"}:
        return ()
    if "call" in found:
        found.add("sms")
    return tuple(each for each in CHANNELS if each in found) or CHANNELS


def _split(name: str) -> list[str]:
    """Return the words of a name, folded: those that stand apart, and within them those that are written as one."""
    pieces = [fold(each) for each in _PIECE.findall(_ONE_NAME.sub(lambda found: f" {found[0].lower()} ", name))]
    return [word for each in _joined(pieces) for word in (_segments(each) or [each])]


def _joined(pieces: list[str]) -> Iterator[str]:
    """Yield pieces, `e` and `mail` as one."""
    rest = iter(pieces)
    for each in rest:
        if each == "e" and (following := next(rest, "")):
            yield each + following if following.startswith("mail") else following
        else:
            yield each


def _segments(piece: str) -> list[str] | None:
    """Return the known words that a piece is made of, as few as can be; None where it is not made of them."""
    best: list[list[str] | None] = [[], *([None] * len(piece))]
    for end in range(1, len(piece) + 1):
        for start in range(max(0, end - _LONGEST_WORD), end):
            before, word = best[start], piece[start:end]
            now = best[end]
            if before is not None and word in _KNOWN and (now is None or len(before) + 1 < len(now)):
                best[end] = [*before, word]
    return best[-1]
