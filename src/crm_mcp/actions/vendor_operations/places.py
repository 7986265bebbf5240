"""Where the arguments of an operation name people, and where an address may hide. Pure.

The catalogue says where leads, addresses, copies and texts stand. What stands anywhere else in what goes out is looked
at with the eyes of a CRM that takes more for an address than we do: names of fields too, other spellings, JSON within
a text. Nothing is passed over because it can't be read: what may be an address must be one, exactly.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from crm_mcp.errors import InvalidArgument
from crm_mcp.text import normal, unescaped

if TYPE_CHECKING:  # a catalogue is read when it is used; start-up counts
    from crm_mcp.backends.catalog import Operation

Place = tuple[str, ...]
"""The names that lead to a value; lists on the way have none."""

_ESCAPED = re.compile(
    r"\\u(?:0000)?([0-9a-f]{4})|\\u\{0*([0-9a-f]{1,5})\}|\\x([0-9a-f]{2})|=([0-9a-f]{2})|%u([0-9a-f]{4})", re.IGNORECASE
)
"""Characters that are written as their numbers: in JSON, in strings of programs, in mails, in old addresses."""
_MOST_WRAPPINGS = 8
_MAIL = re.compile(r"@|=\?|\+AEA-|\\100|mailto\s*:|&commat", re.IGNORECASE)
"""What an e-mail address, or a word that is written in mails as another, has; `+AEA-` is the sign in UTF-7."""
_CALLED = re.compile(
    r"(?:\+|\b00)[\s().-]*\d(?:[\s().-]*\d){5,}|^\s*\+[\s\w().-]+$|\b(?:tel|sms|callto|whatsapp)\s*:"
    r"|\d{3}\)?[\s.-]\s*\d{3}[\s.-]\d{4}"
)
_DIGITS = re.compile(r"[\s\d().,;/x#*_-]*")
_DATE = re.compile(r"(?:19|20|21)\d\d-[01]\d-[0-3]\d", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PROFILE = re.compile(
    r"linkedin\.\w|lnkd\.in|/in/|/pub/|urn:li:|\b(?:wa|t|m|fb)\.me/|\b(?:facebook|twitter|instagram|x|telegram)\.(?:com|org)/"
)
_SHORTEST_NUMBER = 7
"""Digits of the shortest phone number that is told from another number."""
_ID = re.compile(r"(?=\D*\d)[\w.:~-]{1,200}")
"""What the id of a lead may look like: it has a digit."""

_SENDERS = frozenset({"from", "sender", "senders", "mailbox", "mailboxes"})
_PEOPLE = frozenset(
    (
        *("to", "cc", "bcc", "recipient", "recipients", "reply", "attendee", "attendees", "participant"),
        *("participants", "guest", "guests", "invitee", "invitees", "watcher", "watchers", "follower", "followers"),
        *("notify", "notification", "notifications", "subscriber", "subscribers", "member", "members", "lead", "leads"),
        *("contact", "contacts", "person", "persons", "people", "prospect", "prospects", "customer", "customers"),
        *("email", "emails", "mail", "mails", "phone", "phones", "mobile", "tel", "telephone", "whatsapp", "fax"),
        *("linkedin", "profile", "profiles", "address", "addresses", "everybody", "everyone"),
    )
)
"""Nouns under which a person or an address stands, where nobody says what else."""
_TOLD = frozenset(
    (
        *("cc", "bcc", "recipient", "recipients", "attendee", "attendees", "participant", "participants", "guest"),
        *("guests", "invitee", "invitees", "invite", "invites", "watcher", "watchers", "follower", "followers"),
        *("notify", "notification", "notifications", "subscriber", "subscribers", "send", "deliver", "enroll", "enrol"),
    )
)
"""Words for those whom a CRM tells of what it writes down, and for its doing so."""
_COMPOSED = ("object", "array", "any")
_CUSTOM = ["custom", "fields"]
"""The field whose fields are a person's own, whatever they are called."""
_COUNTED = frozenset(("count", "counts", "number", "total", "limit", "at", "status"))
"""Nouns of what is known about such people, and tells them nothing."""
_OF_IDS = frozenset(("id", "ids", "uuid", "uuids", "guid", "guids", "list", "lists", "array"))
"""Words behind a noun that say how it is given."""


@dataclass
class Named:
    """What the arguments of a call name, as they are written."""

    leads: list[str] = field(default_factory=list[str])
    """Ids, where the operation says whom it reaches."""
    addresses: list[str] = field(default_factory=list[str])
    """Addresses, where it says so."""
    further: list[str] = field(default_factory=list[str])
    """What must be exactly an address on file, or one of ours."""
    senders: list[str] = field(default_factory=list[str])
    """What must be exactly an address of ours."""
    people: list[str] = field(default_factory=list[str])
    """What must be exactly an address on file, one of ours, or the id of a lead."""
    ids: list[str] = field(default_factory=list[str])
    """What may be the id of a lead."""
    wrong: list[str] = field(default_factory=list[str])
    """What can't be anything of this, and may be read as an address."""

    def once(self) -> Named:
        """Return it with each text once."""
        return Named(*(list(dict.fromkeys(each)) for each in vars(self).values()))


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Return every value with its place; an empty object or list is one."""
    if isinstance(value, Mapping) and value:
        for name, each in cast("Mapping[str, Any]", value).items():
            yield from leaves(each, (*place, name))
    elif isinstance(value, list) and value:
        for each in cast("list[Any]", value):
            yield from leaves(each, place)
    else:
        yield place, value


def values_at(arguments: Mapping[str, Any], dotted: str | None) -> list[Any]:
    """Return the values at a dotted name, whatever lists they stand in; what stands deeper comes as an object."""
    target = _split(dotted)
    found: list[Any] = []
    for place, value in leaves(arguments):
        if not target or place[: len(target)] != target or value is None or value == [] or value == {}:
            continue
        found.append(value if place == target else {".".join(place[len(target) :]): value})
    return found


def texts_of(operation: Operation) -> frozenset[Place]:
    """Return where texts stand in which an address is a word as any other."""
    return frozenset(tuple(each.split(".")) for each in (operation.text, *operation.prose) if each)


def unnamed(operation: Operation, arguments: Mapping[str, Any]) -> str | None:
    """Return the argument that selects records otherwise than by naming them, a filter or all; None where none does."""
    named = operation.recipient
    dotted = (named.lead, named.address) if named else ()
    own = texts_of(operation) | {tuple(each.split(".")) for each in (*dotted, *operation.records) if each}
    for place, value in leaves(arguments):
        parts = [part.casefold() for part in place]
        filters = [part for part in parts if "filter" in part]
        # An empty filter leaves nobody out; an empty choice within a filter chooses nobody.
        empty = not value and not (value == {} and filters[-1:] == parts[-1:])
        if place not in own and not empty and (filters or {"all", "everyone"}.intersection(parts)):
            return ".".join(place)
    return None


def tells_people(operation: Operation, arguments: Mapping[str, Any]) -> str | None:
    """Return the argument, one that the catalogue does not know, by which a CRM may tell people of what is written."""
    known = {each.name for each in operation.parameters}
    for place, value in leaves(arguments):
        unknown = place[1:] if place[:1] and place[0] in known else place
        said = value not in (None, "", False, [], {}) and not any(_words(part) == _CUSTOM for part in place)
        if said and any(_TOLD.intersection(_words(part)) and _noun(part) not in _COUNTED for part in unknown):
            return ".".join(place)
    return None


def sequences_in(arguments: Mapping[str, Any]) -> list[str]:
    """Return the sequences that an enrolment names."""
    found = [
        str(value)
        for place, value in leaves(arguments)
        if place and re.search("flow|sequence", place[-1].casefold()) and isinstance(value, str | int) and value
    ]
    return list(dict.fromkeys(found))


def named_in(operation: Operation, arguments: Mapping[str, Any]) -> Named:
    """Return whom the arguments of what goes out name, and what in them may be an address.

    Raises:
        InvalidArgument: what stands where ids or addresses belong is none.
    """
    reading = _Reading(operation)
    reading.read(arguments)
    return reading.found.once()


class _Reading:
    """One look at the arguments of a call."""

    def __init__(self, operation: Operation) -> None:
        named = operation.recipient
        self.operation = operation
        self.found = Named()
        self.known = {each.name: each for each in operation.parameters}
        self.lead = _split(named.lead if named else None)
        self.address = _split(named.address if named else None)
        # Where one address of an object is declared, as `to.to_email`, the others of the object are read alike.
        beside = [self.address[:1]] if len(self.address) > 1 else []
        self.copies = [*(_split(each) for each in operation.copies), *beside]
        self.texts = texts_of(operation)
        # What can't name whom it reaches has many more values, and is refused or allowed as a whole.
        self.may_be = may_be_address if named else may_be_mail

    def read(self, value: Any, place: Place = (), *, within: bool = False) -> None:
        """Read what stands at a place; `within`: in a text."""
        if isinstance(value, Mapping):
            for name, each in cast("Mapping[str, Any]", value).items():
                at = (*place, name)
                self._name(name, at, within)
                self.read(each, at, within=within)
        elif isinstance(value, list):
            for each in cast("list[Any]", value):
                self.read(each, place, within=within)
        elif value is not None:
            self._value(value, place, within)

    def _name(self, name: str, place: Place, within: bool) -> None:
        """Look at the name of a field, which a CRM may read as whom the value is about."""
        if len(place) == 1 and not within and name in self.known:
            return
        if self.may_be(name) or (self._among_copies(place) and not re.fullmatch("[A-Za-z_]+", name)):
            self.found.wrong.append(name)
        elif self._unknown(place, within) and _ID.fullmatch(name):
            self.found.ids.append(name)

    def _value(self, value: Any, place: Place, within: bool) -> None:
        text = value if isinstance(value, str) else str(value)
        if not within and isinstance(value, str) and place in self.texts:
            if place[-1] == "subject" and len(text.splitlines()) > 1:
                raise InvalidArgument(f"{'.'.join(place)} has several lines", "give it in one")
        elif not within and self._is_declared(value, text, place):
            pass
        elif not isinstance(value, bool):
            self._elsewhere(text, place, within)
            if text.lstrip()[:1] in ("{", "[", '"'):
                with contextlib.suppress(ValueError, RecursionError):
                    self.read(json.loads(text), place, within=True)

    def _is_declared(self, value: Any, text: str, place: Place) -> bool:
        """Take a value that stands where ids or addresses belong; returns whether it does."""
        for target, found in ((self.lead, self.found.leads), (self.address, self.found.addresses)):
            if target and place[: len(target)] == target:
                if place != target or isinstance(value, bool | float) or not text.strip():
                    raise InvalidArgument(
                        f"{self.operation.name} can't be told whom it reaches", "give ids or addresses as text"
                    )
                found.append(text)
                return True
        if not self._among_copies(place):
            return False
        if len(place) > 1 and place not in self.copies and _noun(place[-1]) == "name":
            if may_be_mail(text) or set("<>") & set(text) or len(text.splitlines()) > 1:
                self.found.wrong.append(text)
        elif not isinstance(value, bool):
            self.found.further.append(text)
        return True

    def _among_copies(self, place: Place) -> bool:
        return any(place[: len(root)] == root for root in self.copies)

    def _elsewhere(self, text: str, place: Place, within: bool) -> None:
        """Take a value of which the catalogue does not say that a person stands there."""
        unknown = self._unknown(place, within)
        of_sender = bool(_SENDERS.intersection(_words(place[-1]) if place else ()))
        if self.may_be(text) if unknown else may_be_mail(text):
            (self.found.senders if of_sender else self.found.further).append(text)
        elif unknown and text and not of_sender and place and _noun(place[-1]) in _PEOPLE:
            self.found.people.append(text)
        elif unknown and _ID.fullmatch(text):
            self.found.ids.append(text)

    def _unknown(self, place: Place, within: bool) -> bool:
        """Whether the catalogue does not say what stands at a place."""
        if within or not place:
            return True
        parameter = self.known.get(place[0])
        if parameter is None:
            return place != _split(self.operation.at)
        inner = place[1:]
        return tuple(inner) not in {(each,) for each in parameter.holds} if inner else parameter.type in _COMPOSED


# What may be an address


def may_be_mail(text: str) -> bool:
    """Whether a text may be, or have in it, an e-mail address, however it is spelt."""
    return any(_MAIL.search(form) for form in _forms(text))


def may_be_address(text: str) -> bool:
    """Whether a text may be, or have in it, an e-mail address, a phone number or a profile, however it is spelt."""
    return may_be_mail(text) or any(_is_number(form) or _PROFILE.search(form.casefold()) for form in _forms(text))


def _is_number(text: str) -> bool:
    whole = text.strip()
    if _UUID.fullmatch(whole) or _DATE.fullmatch(whole):
        return False
    if _CALLED.search(whole.casefold()):
        return True
    return _DIGITS.fullmatch(whole) is not None and sum(c.isdigit() for c in whole) >= _SHORTEST_NUMBER


def _forms(text: str) -> list[str]:
    """Return a text as it is, and unwrapped from every way of writing signs as others that a CRM may undo."""
    found = [normal("NFKC", text)]
    for _ in range(_MOST_WRAPPINGS):
        plain = unescaped(unquote(found[-1])).strip("\"'` \t\r\n")
        plain = normal("NFKC", _ESCAPED.sub(_sign, plain))
        if plain == found[-1]:
            break
        found.append(plain)
    return found


def _sign(found: re.Match[str]) -> str:
    return chr(int(next(filter(None, found.groups())), 16))


def _words(name: str) -> list[str]:
    """Return the words of a field's name, as `reply`, `to` of `replyTo`."""
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).casefold())


def _noun(name: str) -> str:
    """Return the word that says what a field holds: the last one that does not say how it is given."""
    words = _words(name)
    while len(words) > 1 and words[-1] in _OF_IDS:
        words.pop()
    return words[-1] if words else ""


def _split(dotted: str | None) -> Place:
    return tuple(dotted.split(".")) if dotted else ()
