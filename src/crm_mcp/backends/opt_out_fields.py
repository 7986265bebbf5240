"""Fields by which CRMs say that somebody must not be contacted: known by their names, in the words of the usual CRMs.

A vendor's record may have such a field, and so may a file or a row that is imported: `doNotCall`, `HasOptedOutOfEmail`,
`Unsubscribed from all email`, `DND`, `Person - Marketing status`. What it says is read strictly: yes, no, or neither.
Where a field of another name says so in its value, as a status "Do Not Contact" does, the value is known by the same
words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from crm_mcp.channels import CHANNELS, ROWS, Channel, in_order, with_addresses_of
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import Lead, fold


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NOT_OURS = _set("fax faxes post postal letter letters whatsapp push parcel")
"""Ways to reach somebody that no tool here has."""
_CHANNEL_WORDS = frozenset[str]().union(*(row.words for row in ROWS.values()))
_OVER_THE_AIR = _set("email emails newsletter correo courriel")
_ACTIONS = _set("contact disturb market solicit send reach ring allow bulk process kontakt werbung")
_TARGETS = _CHANNEL_WORDS | NOT_OURS | _ACTIONS
"""What follows `do not`."""
_BE = _set("contacted called emailed mailed texted phoned messaged reached rung disturbed solicited marketed")
"""What follows `must not be`; alone it tells what happened."""
_NO_TARGETS = _set(
    "contact marketing emails email sms text texts texting mailings solicitation solicitations call calls calling"
    " newsletter"
)
"""What follows `no`, at the end of a name."""
_NUMBERED = _set("phone phones telephone tel mobile cell mail mails message messages")
"""What follows `no` as well, where it may also stand for a number, or for how many there were."""
_BETWEEN = _set(
    "be to ever longer more further any cold marketing promotional unsolicited sales phone please"
    " want wants wish wishes"
)
"""What may stand between a no and what it is said of."""
_NOT_AFTER = _set("do does must may should shall can please asked asks prefers wants requested requests")
_NEGATING = _set("no not never non without cannot dont kein keine keinen sin sans senza geen sem nao")
_CLEARED = _set("clean cleared clear safe ok okay free passed removed")
"""What turns a register or a list round that it is said of: `DNC clean`."""
_REFUSED = _set("longer more marketing solicitation solicitations")
"""What follows a `no` that can only be a refusal."""
_KEIN = _set("kein keine keinen keinerlei")
_GROUPS = _CHANNEL_WORDS | _set(
    "marketing contact contacts list lists mailings campaign campaigns communication communications outreach"
    " promotional solicitation solicitations automation newsletters"
)
"""What somebody is excluded from who must not be contacted."""
_ALONE = _set(
    "unsubscribed unsubscribe unsubscribes unsub unsubbed dnc dnd blacklist blacklisted blocklist blocklisted blocked"
    " suppressed suppression donotcontact optout optouts stoplist"
)
_FROM = _set("exclude excluded excluding exclusion remove removed removal omit omitted")
"""What is followed by `from`."""
_ENDED = _set("withdrawn revoked denied refused declined")
"""What ends a consent."""
_ELSEWHERE: Mapping[str, tuple[Channel, ...]] = {
    **dict.fromkeys(
        _set(
            "nichtkontaktier nichtmehrkontaktier nichtzulassen keinewerbung werbesperre kontaktsperre abgemeldet"
            " abbestellt einwilligungwiderrufen widerspruch gesperrt nepascontacter nepluscontacter desabonn desinscri"
            " nepasderanger nocontactar nomolestar dadodebaja dadadebaja noncontattare disiscritt nondisturbare"
            " nietcontacteren nietmeercontacteren nietbenaderen uitgeschreven afgemeld naocontatar naocontactar"
            " naoperturb descadastrad notwanttobecontacted"
        ),
        CHANNELS,
    ),
    **dict.fromkeys(
        _set(
            "nichtanrufen nichtmehranrufen anrufsperre telefonsperre nepasappeler neplusappeler nollamar nonchiamare"
            " nietbellen nietmeerbellen naoligar"
        ),
        ("call", "sms"),
    ),
    **dict.fromkeys(
        _set(
            "emailsperre mailsperre nietmailen nietmeermailen geenemail geenmail nichtanschreiben nichtmailen"
            " noenviarcorreo noenviaremail naoenviaremail neplusenvoyer nepasenvoyer noninviareemail"
        ),
        ("email",),
    ),
}
"""What such a field is called in other languages, somewhere in its letters alone."""
_REGISTERS = _set("tps ctps")
"""Those of Britain; what is said of somebody by a field of this name may be more than yes or no."""
_POLITE = _set("bitte please pls svp porfavor perfavore")
_CONSENT = _set(
    "consent consented consents optin optins subscribed permission contactable callable emailable mailable textable"
    " einwilligung zustimmung consentement consentimiento consenso toestemming consentimento"
)
_ALLOWING = _set("accepts accept allow allows allowed may can ok okay send receive receives")
_DETAILS = _set(
    "reason reasons mode link links url source note notes comment comments page count token rate history title id"
    " preference preferences method ip tracking renewal scrub scrubbed activity"
)
"""What says something about an opt-out, and not that there is one."""
_DATED = _set("at on date time timestamp datetime am datum")
_DATED_ELSEWHERE = _set("le il el op em fecha data")
"""What ends the names of such fields that hold a date, in other languages."""
_FILLERS = _set(
    "is has was lead leads contact contacts person people customer customers account prospect subscriber member user"
    " client company global globally hs crm primary work personal field custom address number of from for to via be"
    " all any every bulk marketing promotional commercial list lists or and status flag yn the our updates offers"
    " communication communications materials given granted gdpr dsgvo subscription allow send opt opted out outs in ins"
    " do does not dont no never must should disturb market solicit reach ring double"
)
_KNOWN = (
    _FILLERS
    | _TARGETS
    | _BE
    | _BETWEEN
    | _KEIN
    | _ALONE
    | _FROM
    | _ENDED
    | _CONSENT
    | _ALLOWING
    | _DETAILS
    | _DATED
    | _NOT_AFTER
    | _set("again anymore stop")
)
_LONGEST_NAME = 120
_LONGEST_VALUE = 60
_LONGEST_WORD = max(map(len, _KNOWN))
_PIECE = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])|\d+")
_ONE_NAME = re.compile("(?i)linkedin|whatsapp")
_SUFFIX = re.compile("__c$")
"""Of Salesforce's custom fields."""
_NUMBER_SIGN = re.compile(r"(?i)\bno\.")
"""As in "No. of calls"."""
_MAY_REFUSE = re.compile(
    r"(?i)\b(?:do|does|must|please|pls|bitte|no|not|never|ne|n[aã]o|niet|kein\w*|nicht|d\.?\s?n\.?\s?[cd]|un.?subs?|opt"
    r"|opted|global|black|block|suppress|exclude|excluded|removed?|abgemeldet|abbestellt|d[eé]s|disiscritt|afgemeld"
    r"|uitgeschreven|email|e-mail|sms|call|calls|phone|text|consent|marketing|widerspruch|werbe\w*|\w+sperre|dad[oa]"
    r"|descadastrad|asked|wants|prefers|request)"
)
"""What a value that refuses by itself has in it: few have, and to look is less work than to read."""
_PART = re.compile(r"[;,|/:()\[\]]|\s[-\u2010-\u2015]\s")
"""What stands between the parts of a value."""
_STATUSES = _set(
    "status stage disposition outcome result tag tags label labels list lists segment segments lifecycle substatus"
    " category reply sentiment"
)
"""The words of fields that hold a state, or marks."""
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
        *("nee", "onwaar", "allow", "allowed", "send", "opted in", "opt in", "subscribed", "not opted out"),
    )
)
_NOTHING = frozenset(
    ("", "-", "--", "\u2013", "\u2014", "n/a", "na", "#n/a", "none", "null", "nil", "undefined", "not set")
)
_GRANTED = (_YES - {"do not allow", "do not send", "blocked", "revoked", "withdrawn"}) | {
    *("given", "granted", "opted in", "opt in", "optin", "subscribed", "accepted", "agreed", "allowed", "consented"),
    *("explicit", "express", "allow", "send", "double opt in"),
} - {"opted out", "opt out", "optout", "unsubscribed", "unsubscribe"}
_DENIED = (_NO - {"allow", "allowed", "send", "opted in", "opt in", "subscribed", "not opted out"}) | {
    *("denied", "refused", "withdrawn", "revoked", "declined", "rejected", "opted out", "opt out", "optout"),
    *("unsubscribed", "unsubscribe", "no consent", "not given", "not granted", "do not contact", "not allowed"),
    *("do not allow", "not subscribed", "do not send"),
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
    unsure: bool = False
    """Its name may mean something else: what it says besides a plain yes or no is no answer to this."""

    def refuses(self, value: object) -> bool | None:
        """Return whether it says that somebody must not be contacted; None where that can't be read. What says nothing
        refuses nothing."""
        said = " ".join(str("" if value is None else value).split())
        words = fold(said).strip(" .!'\"").replace("-", " ").replace("_", " ") if said not in _NOTHING else ""
        if words in _NOTHING or fold(said) in _NOTHING:
            return False
        undecided = False if self.unsure else None
        if self.consent:
            return True if words in _DENIED else False if words in _GRANTED else undecided
        if words in _YES or (self.dated and _DATE.fullmatch(said)):
            return True
        if words in _NO or (self.dated and words == "never"):
            return False
        known = opt_out_field(said)  # it repeats its own name, or that of another one: "DNC"
        return True if known and not known.consent else undecided


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


def refusal_in(value: str, name: str) -> tuple[Channel, ...]:
    """Return the channels on which a value refuses by itself, whatever its field is for: a status "Lost - Do Not
    Contact", a tag "unsubscribed"; those of the field's name where it has one and the value has none, as in "Email
    status". Empty for any other value."""
    return _refusal_in(value, name) if len(value) <= _LONGEST_VALUE and _MAY_REFUSE.search(value) else ()


@lru_cache(maxsize=4096)
def _refusal_in(value: str, name: str) -> tuple[Channel, ...]:
    found: set[Channel] = set()
    status = not _STATUSES.isdisjoint(words_of(name[:_LONGEST_NAME]))
    for part in (value, *_PART.split(value)):
        found.update(_refused_by(part, status=status))
    if found != set(CHANNELS) or len(name) > _LONGEST_NAME:
        return in_order(found)
    return _channels(words_of(name))


def _refused_by(value: str, *, status: bool) -> tuple[Channel, ...]:
    """Return the channels that one part of a value rules out. In a field of a status, a tag or the like any word may
    stand beside the refusal; elsewhere it is a sentence then, about something else perhaps."""
    words = [each for each in words_of(value) if not each.isdigit()]
    # "No contact" so far, "No email" on file, a sale that is "Blocked", what is "Allowed".
    unclear = words in (["blocked"], ["do", "not", "allow"], ["gesperrt"]) or (
        words[:1] == ["no"] and not _REFUSED.issuperset(words[1:2]) and not _elsewhere(words)
    )
    said = None if unclear else opt_out_field(" ".join(words))
    if said is None or said.consent or said.unsure or said.dated:
        return ()
    return said.channels if status or _KNOWN.issuperset(words) or _elsewhere(words) else ()


@lru_cache(maxsize=4096)
def _opt_out_field(name: str) -> OptOutField | None:
    # HubSpot's "Opted out of email: One to One" tells behind it which kind of e-mail, and "Contact: Do Not Call" whose
    # field it is before it.
    before, _, behind = name.partition(":")
    return _named(before) or (_named(behind) if behind else None)


def _named(name: str) -> OptOutField | None:
    words = [each for each in words_of(name) if each not in _POLITE]
    if not words or _DETAILS.intersection(words) or words[-1] == "by":
        return None
    if "".join(words) == "donotallowmails":  # of Dynamics, in which that is what a postman brings
        return None
    dated, status = words[-1] in _DATED, words[-1] == "status"
    found = _channels(words)
    if not found:
        return None
    if channels := _elsewhere(words):
        dated = dated or words[-1] in _DATED_ELSEWHERE
        return OptOutField(found if channels == CHANNELS else channels, dated=dated, status=status)
    numbered = _NUMBER_SIGN.search(name) is not None
    if _says_not(words, numbered=numbered):
        turned = _is_turned(words)
        return OptOutField(found, consent=turned, dated=dated and not turned, status=status)
    if not _REGISTERS.isdisjoint(words):
        return OptOutField(with_addresses_of("call"), unsure=True)
    if not numbered and _may_say_not(words):
        return OptOutField(found, unsure=True)
    if dated or not (may := _says_may(words)):
        return None
    if _negates(words):
        return OptOutField(found, status=status)
    return OptOutField(found, consent=True, status=status, unsure=may == "perhaps")


def _elsewhere(words: list[str]) -> tuple[Channel, ...]:
    letters = "".join(words)
    return next((channels for phrase, channels in _ELSEWHERE.items() if phrase in letters), ())


def _is_set(field: OptOutField, value: object) -> bool:
    refuses = field.refuses(value)
    return refuses is True or (refuses is None and not field.status)


def _says_not(words: list[str], *, numbered: bool) -> bool:
    """Whether these are the words of a refusal, or of its contrary; `numbered`: a "no" in it is that of a number."""
    alone = _ALONE - {"blocked"} if not _KNOWN.issuperset(words) else _ALONE
    if not alone.isdisjoint(words) or set(pairwise(words)) & {("opt", "out"), ("opted", "out"), ("opt", "outs")}:
        return True
    if not _ENDED.isdisjoint(words) and not _CONSENT.isdisjoint(words):
        return True
    if words[-2:-1] in (["contact"], ["communication"]) and words[-1] in ("restriction", "restrictions"):
        return True
    for place, word in enumerate(words):
        rest = words[place + 1 :]
        if word in _FROM and rest[:1] == ["from"]:
            return not _GROUPS.isdisjoint(rest)
        behind = word == "not" and (words[place - 1] in _NOT_AFTER if place else "be" in rest)
        if behind or word in ("dont", "never", "cannot"):
            if _is_said_of(rest):
                return True
        elif ((word == "no" and not numbered) or word in _KEIN) and _is_refused(word, rest):
            return True
    return False


def _is_refused(no: str, words: list[str]) -> bool:
    """Whether these words, behind a "no", say no to one way of being reached and end there."""
    if words[:1] == ["longer"] and _is_said_of(words):
        return True
    said = [each for each in words if each not in ("more", "further", "cold", "marketing")] or words
    if len(said) > 1 and said[0] == "phone":
        said = said[1:]
    return len(said) == 1 and said[0] in (_NO_TARGETS if no == "no" else _TARGETS)


def _is_turned(words: list[str]) -> bool:
    """Whether a refusal is turned round: "Not on DNC", "Not opted out", "DNC clean"."""
    marks = [place for place, each in enumerate(words) if each in _ALONE or each in ("opt", "opted")]
    if not marks:
        return False
    before, behind = words[: marks[0]], words[marks[0] + 1 :]
    return not _NEGATING.isdisjoint(before) or not _CLEARED.isdisjoint(behind)


def _negates(words: list[str]) -> bool:
    """Whether these words of consent say that there is none: "No consent", "Not subscribed", "Calls not allowed"."""
    return not _NEGATING.isdisjoint(words) and words[0] != "can"


def _is_said_of(words: list[str]) -> bool:
    """Whether these words, behind a "not", begin with what must not be done."""
    between = [each for each in words if each not in _BETWEEN or each == "phone"]
    first = between[0] if between else ""
    return first in _TARGETS or (first in _BE and "be" in words)


def _may_say_not(words: list[str]) -> bool:
    """Whether these words may be a refusal, and may be a number or a mark of something else: "No phone", "Stop"."""
    if words[0] == "no" and len(words) == 2:
        return words[1] in _NUMBERED
    return "stop" in words and set(words) <= {"stop", *_CHANNEL_WORDS, *_ACTIONS, "list", "marketing", "all"}


def _says_may(words: list[str]) -> Literal["plainly", "perhaps"] | None:
    """Whether these are the words of a consent; `perhaps` where they may be those of something else."""
    there = set(words)
    pairs = set(pairwise(words))
    known = _KNOWN.issuperset(words)
    if not there.isdisjoint(_CONSENT) or pairs & {("opt", "in"), ("opt", "ins"), ("opted", "in")}:
        return "plainly" if known else "perhaps"
    if not known:
        return None
    if ("marketing", "status") in pairs:
        return "plainly"
    if pairs & {("subscription", "status"), *((each, "subscription") for each in ("email", "sms", "newsletter"))}:
        return "perhaps"
    allowed = there & _ALLOWING and there & (_CHANNEL_WORDS | _BE | {"contact", "marketing"})
    return "plainly" if allowed else None


def _channels(words: list[str]) -> tuple[Channel, ...]:
    """Return the channels that a name tells of, all where it tells of none; who says no to calls says no to the
    number."""
    there = set(words)
    found = {channel for channel, row in ROWS.items() if there & row.words}
    if there & NOT_OURS and not (found - {"email"}) and not there & _OVER_THE_AIR:
        return ()
    if "call" in found:
        found.update(with_addresses_of("call"))
    return in_order(found) or CHANNELS


def words_of(name: str) -> list[str]:
    """Return the words of a name, folded: those that stand apart, and within them those that are written as one."""
    plain = _SUFFIX.sub("", name).replace("'", "").replace("\u2019", "")
    pieces = [fold(each) for each in _PIECE.findall(_ONE_NAME.sub(lambda found: f" {found[0].lower()} ", plain))]
    return [word for each in _joined(pieces) for word in (_segments(each) or [each])]


def _joined(pieces: list[str]) -> Iterator[str]:
    """Yield pieces, those as one that are one word: `e` and `mail`, `un` and `subscribed`, the letters of `D.N.C.`"""
    rest = list(reversed(pieces))
    while rest:
        piece = rest.pop()
        if rest and ((piece == "e" and rest[-1].startswith("mail")) or piece + rest[-1] in _ALONE):
            piece += rest.pop()
        elif len(piece) == 1:
            while rest and len(rest[-1]) == 1 and not (rest[-1] == "e" and rest[-2:-1] and rest[-2].startswith("mail")):
                piece += rest.pop()
        yield piece


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
