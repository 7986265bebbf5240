"""What the emulators share: routes, the journal, switches, faults, limits, and a real HTTP server around them.

An emulator answers as its vendor is documented to; where the documentation is silent or contradicts itself, a switch
chooses between the readings. Everything that arrives stands in the journal, and what reached people because of it in
the ledger, whatever was answered. Faults are injected by route: a status, a delay, a dropped connection, silence, an
answer that is cut, malformed, empty or far too large.

Over HTTP the same is reached at `/_sandbox/journal`, `/_sandbox/ledger`, `/_sandbox/switches`, `/_sandbox/faults`,
`/_sandbox/inbound` and `/_sandbox/reset`.
"""

from __future__ import annotations

import inspect
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, cast
from urllib.parse import parse_qsl, unquote

import anyio
from anyio.lowlevel import checkpoint

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
FaultKind = Literal[
    "status", "html", "huge", "redirect", "drop_before", "silent_before",
    "delay", "drop_after", "silent_after", "status_after", "cut", "malformed", "empty", "drip",
]  # fmt: skip
"""Those of the first line keep the request from being processed. The others do not: `delay` lets it be processed late,
also when the client has given up by then; after the rest it has been."""
AFTER = frozenset({"delay", "drop_after", "silent_after", "status_after", "cut", "malformed", "empty", "drip"})
SILENCE = 60.0
"""Seconds for which nothing is said, where a fault does not tell how many."""


@dataclass(frozen=True)
class Call:
    """One request, as a route's function is given it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """The JSON, None where there is none."""

    def whole(self, name: str, default: int) -> int:
        """Return a number of the query; the default where it is none."""
        text = self.query.get(name, "")
        return int(text) if text.isdecimal() else default


@dataclass(frozen=True)
class Answer:
    """What a route answers; `body` None is an empty one."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Refusal(Exception):
    """Ends a request with an error; the emulator words it as its vendor does."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.more = more


@dataclass
class Entry:
    """A request in the journal, with the status that it was answered with; 0 is none."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    status: int = 0
    at: float = 0.0


@dataclass(frozen=True)
class Sent:
    """What was taken to reach somebody: a message, a call, or an enrolment in a sequence."""

    channel: str
    """`email`, `sms`, `linkedin`, `call` or `enrolment`."""
    lead: str | None
    to: str | None
    """The address or number."""
    text: str
    """The message as text, white space made plain; of an enrolment the id of the sequence."""
    subject: str | None
    record: str
    """The id that the vendor gave it."""
    at: float


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose method and path match."""

    kind: FaultKind
    method: str = ".*"
    path: str = ".*"
    times: int = 1
    status: int = 500
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0
    size: int = 60_000_000

    @property
    def answered(self) -> int:
        """The status that it answers with, where it answers by itself."""
        return {"huge": 200, "redirect": 302 if self.status == 500 else self.status}.get(self.kind, self.status)

    def strikes(self, call: Call) -> bool:
        """Whether it happens to this request."""
        return bool(self.times > 0 and re.fullmatch(self.method, call.method) and re.fullmatch(self.path, call.path))


class Window:
    """A limit of calls in a window of seconds: a fixed one by the clock, or one that slides."""

    def __init__(self, calls: int, seconds: float, *, sliding: bool = False) -> None:
        self.calls = calls
        self.seconds = seconds
        self.sliding = sliding
        self._taken: list[float] = []

    def take(self, now: float) -> bool:
        """Count a call; False where it is one too many, which is not counted."""
        self._forget(now)
        if len(self._taken) >= self.calls:
            return False
        self._taken.append(now)
        return True

    def remaining(self, now: float) -> int:
        """Return how many calls are left."""
        self._forget(now)
        return self.calls - len(self._taken)

    def resets(self, now: float) -> float:
        """Return when calls are free again."""
        if self.sliding:
            return (self._taken[0] if self._taken else now) + self.seconds
        return (now // self.seconds + 1) * self.seconds

    def _forget(self, now: float) -> None:
        since = now - self.seconds if self.sliding else now // self.seconds * self.seconds
        self._taken = [each for each in self._taken if each > since or (not self.sliding and each == since)]


Handler = Callable[..., Answer | Awaitable[Answer]]


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Mark a method as the one that answers `GET`, `/leads/{id}`: it is given the call and the ids in order."""

    def mark(function: Handler) -> Handler:
        routes: list[tuple[str, str]] = getattr(function, "routes", [])
        function.routes = [*routes, (method, path)]  # type: ignore[attr-defined]
        return function

    return mark


class Emulator(ABC):
    """One vendor's API. An ASGI application; `clock` gives Unix seconds, `minute` is how long a limit's minute is."""

    vendor: ClassVar[str]
    prefix: ClassVar[str] = ""
    """The path that the vendor's base URL ends in, which the settings need."""
    key: ClassVar[str]
    """The key that is accepted, invented."""
    choices: ClassVar[Mapping[str, Any]] = {}
    """The switches and the reading that each has at first."""

    def __init__(
        self, *, sample: bool = False, clock: Callable[[], float] = time.time, minute: float = 60.0, **switches: Any
    ) -> None:
        self.clock = clock
        self.minute = minute
        self.sample = sample
        self.journal: list[Entry] = []
        self.ledger: list[Sent] = []
        self.faults: list[Fault] = []
        self.switches: dict[str, Any] = {}
        self._given = switches
        routes = [
            (path, method, cast("Handler", getattr(self, name)))
            for name, function in inspect.getmembers(type(self), callable)
            for method, path in getattr(function, "routes", [])
        ]
        # A path that is spelled out goes before one with an id in its place.
        routes.sort(key=lambda each: [part.startswith("{") for part in each[0].split("/")])
        self._routes = [(method, _pattern(path), handler) for path, method, handler in routes]
        self.reset()

    def reset(self) -> None:
        """Begin anew: switches as at first, no faults, an empty journal, the records of the beginning."""
        self.switches = dict(self.choices)
        self.switch(**self._given)
        self.faults.clear()
        self.journal.clear()
        self.begin()
        self.ledger.clear()  # what the sample begins with was sent long ago

    def switch(self, **switches: Any) -> None:
        """Choose readings.

        Raises:
            ValueError: there is no such switch.
        """
        for name in switches:
            if name not in self.choices:
                raise ValueError(f'{self.vendor} has no switch "{name}"; valid: {", ".join(self.choices)}')
        self.switches.update(switches)

    def fail(self, kind: FaultKind, **how: Any) -> Fault:
        """Inject a fault; see `Fault`."""
        fault = Fault(kind, **how)
        self.faults.append(fault)
        return fault

    def calls(self, method: str = ".*", path: str = ".*") -> list[Entry]:
        """Return the requests of the journal that match."""
        return [each for each in self.journal if re.fullmatch(method, each.method) and re.fullmatch(path, each.path)]

    def sent(self, channel: str | None = None, lead: str | None = None, text: str | None = None) -> list[Sent]:
        """Return what was taken to reach people, oldest first: on this channel, to this lead, with this text."""
        wanted = None if text is None else " ".join(text.split())
        return [
            each
            for each in self.ledger
            if channel in (None, each.channel) and lead in (None, each.lead) and wanted in (None, each.text)
        ]

    def accept(
        self,
        channel: str,
        lead: str | None,
        record: str,
        *,
        to: str | None = None,
        text: str = "",
        subject: str | None = None,
    ) -> None:
        """Note in the ledger that something will reach somebody; a route does so at the moment in which it is taken."""
        self.ledger.append(Sent(channel, lead, to, " ".join(text.split()), subject, record, self.clock()))

    def receive(self, channel: str, lead: str, text: str, subject: str | None = None) -> str:
        """Let a message of a lead come in now; returns its id.

        Raises:
            ValueError: this vendor's API knows no message that comes in on this channel.
            Refusal: there is no such lead.
        """
        raise ValueError(f"{self.vendor} takes in no {channel}: {lead}, {text[:20]}, {subject}")

    @abstractmethod
    def begin(self) -> None:
        """Make the records of the beginning: the sample's where `self.sample`, else those that an account has."""

    @abstractmethod
    def admit(self, call: Call) -> dict[str, str]:
        """Check key and limits; returns headers that every answer to this call has.

        Raises:
            Refusal: the call is not allowed.
        """

    @abstractmethod
    def worded(self, refusal: Refusal) -> Any:
        """Return the body of an error, as the vendor words it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        raw = await _body(receive)
        call = _call(scope, raw)
        if call.path.startswith("/_sandbox/"):
            await _reply(send, self._control(call))
            return
        entry = Entry(call.method, call.path, call.query, call.headers, call.body, at=self.clock())
        self.journal.append(entry)
        fault = next((each for each in self.faults if each.strikes(call)), None)
        if fault:
            fault.times -= 1
        if fault and fault.kind not in AFTER:
            entry.status = 0 if fault.kind.endswith("_before") else fault.answered
            await _strike(receive, send, scope, fault)
            return
        if fault:
            await anyio.sleep(fault.seconds if fault.kind == "delay" else 0)
        answer = await self._answer(call)
        entry.status = answer.status
        if fault and fault.kind == "status_after":
            entry.status = fault.status
            await _reply(send, Answer(fault.body, fault.status, fault.headers))
        elif fault and fault.kind != "delay":
            await _spoil(receive, send, scope, fault, answer)
        else:
            await _reply(send, answer)

    async def _answer(self, call: Call) -> Answer:
        headers: dict[str, str] = {}
        try:
            headers = self.admit(call)
            answer = await self._routed(call)
        except Refusal as refusal:
            headers = {**headers, **refusal.more.pop("headers", {})}
            answer = Answer(self.worded(refusal), refusal.status)
        return Answer(answer.body, answer.status, {**headers, **answer.headers})

    async def _routed(self, call: Call) -> Answer:
        others = False
        for method, pattern, handler in self._routes:
            if found := pattern.fullmatch(call.path):
                if method == call.method:
                    answer = handler(call, *(unquote(each) for each in found.groups()))
                    return answer if isinstance(answer, Answer) else await answer
                others = True
        raise Refusal(405, "Method not allowed") if others else Refusal(404, "Not found")

    def _control(self, call: Call) -> Answer:
        try:
            return self._controlled(call)
        except (TypeError, ValueError, Refusal) as error:
            return Answer({"error": str(error)}, 400)

    def _controlled(self, call: Call) -> Answer:
        match call.method, call.path.removeprefix("/_sandbox/"):
            case "GET", "journal":
                return Answer([asdict(each) for each in self.journal])
            case "GET", "ledger":
                return Answer([asdict(each) for each in self.ledger])
            case "POST", "inbound":
                return Answer({"id": self.receive(**cast("dict[str, Any]", call.body))})
            case "GET", "switches":
                return Answer(self.switches)
            case (("PUT" | "POST"), "switches"):
                self.switch(**cast("dict[str, Any]", call.body or {}))
                return Answer(self.switches)
            case "POST", "faults":
                return Answer(asdict(self.fail(**cast("dict[str, Any]", call.body))))
            case "POST", "reset":
                self.reset()
                return Answer({"reset": True})
            case _:
                return Answer({"paths": ["journal", "ledger", "switches", "faults", "inbound", "reset"]}, 404)


def identity(kind: int, number: int) -> str:
    """Return the UUID of the n-th record of a kind: the same in every run."""
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", path)
    return re.compile("([^/]+)".join(re.escape(part) for part in parts))


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _call(scope: Scope, raw: bytes) -> Call:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        body = raw.decode("utf-8", "replace")
    # Not the decoded path: an id with a slash in it, rightly escaped, is one part.
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
    return Call(scope["method"], path, query, headers, body)


async def _reply(send: Send, answer: Answer) -> None:
    body = b"" if answer.body is None else json.dumps(answer.body, ensure_ascii=False).encode()
    await _start(send, answer.status, {"content-type": "application/json", **answer.headers}, len(body))
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, headers: Mapping[str, str], length: int | None) -> None:
    given = {**headers, **({"content-length": str(length)} if length is not None else {})}
    if status == 204:
        given.pop("content-length", None)
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _strike(receive: Receive, send: Send, scope: Scope, fault: Fault) -> None:
    """Answer with what went wrong instead of doing anything."""
    match fault.kind:
        case "drop_before":
            _drop(scope)
        case "silent_before":
            await _say_nothing(receive, scope, fault)
        case "html":
            page = b"<html><head><title>Error</title></head><body><h1>Internal Server Error</h1></body></html>"
            await _start(send, fault.status, {"content-type": "text/html"}, len(page))
            await send({"type": "http.response.body", "body": page})
        case "huge":
            await _start(send, 200, {"content-type": "application/json", **fault.headers}, None)
            await send({"type": "http.response.body", "body": b'{"data": "', "more_body": True})
            for _ in range(fault.size // 1_000_000):
                await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
                await checkpoint()  # so that the server notices who has hung up, and writes no more
            await send({"type": "http.response.body", "body": b'"}'})
        case "redirect":
            await _start(send, fault.answered, fault.headers, 0)
            await send({"type": "http.response.body", "body": b""})
        case _:
            await _reply(send, Answer(fault.body, fault.status, fault.headers))


async def _spoil(receive: Receive, send: Send, scope: Scope, fault: Fault, answer: Answer) -> None:
    """Send an answer to what was done, but not as it should be."""
    body = json.dumps(answer.body).encode()
    kind = {"content-type": "application/json", **answer.headers}
    match fault.kind:
        case "drop_after":
            _drop(scope)
        case "silent_after":
            await _say_nothing(receive, scope, fault)
        case "cut":
            await _start(send, answer.status, kind, len(body) + 100)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            _drop(scope)
        case "drip":
            await _start(send, answer.status, kind, len(body))
            for byte in body:
                await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
                await anyio.sleep(fault.seconds or 0.2)
            await send({"type": "http.response.body", "body": b""})
        case "malformed":
            spoiled = body[: len(body) // 2] + b"]]"
            await _start(send, answer.status, kind, len(spoiled))
            await send({"type": "http.response.body", "body": spoiled})
        case _:
            await _start(send, answer.status, kind, 0)
            await send({"type": "http.response.body", "body": b""})


async def _say_nothing(receive: Receive, scope: Scope, fault: Fault) -> None:
    """Answer nothing, until the client has left or for the seconds of the fault; then break off."""
    with anyio.move_on_after(fault.seconds or SILENCE):
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    _drop(scope)


def _drop(scope: Scope) -> None:
    """Break off the connection that a request came over, as `serving` allows."""
    scope["state"]["drop"](tuple(scope["client"]))
