"""The long tail: what a vendor documents and no tool serves, found by words, read, and carried out under every rule.

An operation says in its catalogue what it does, whom it reaches and where its text stands, so that it goes the same
road as a tool: its effect decides the verdict, the people it reaches are read from the CRM, and every rule is tested
for each of them. A message that a tool has sent is the same message here. What has a tool is done by that tool, whose
guard knows more.

`[policy.operations]` gives a verdict to one operation by name. `deny` refuses it; `confirm` asks even where its effect
is allowed; `allow` lifts what is refused by default (see `Operation.off`, and operations that reach people whom they
can't name). It never loosens anything else: the verdicts of the effect and of the tools still count, and the strictest
of them wins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Effect
from crm_mcp.actions.enrolment.run import ENROLLED_FOR, enrolment_key
from crm_mcp.actions.guards import rules
from crm_mcp.actions.guards.addresses import addresses_in, moves_clock
from crm_mcp.actions.intent import Outcome, Preview, Reach
from crm_mcp.actions.messages import message_key
from crm_mcp.actions.offload import offload
from crm_mcp.actions.redaction import masked, part_of
from crm_mcp.actions.summary import indent_block, is_cut, quote, quote_json
from crm_mcp.actions.vendor_operations.places import sequences_in, tells_people, texts_of, unnamed, values_at
from crm_mcp.actions.vendor_operations.recipients import Reached, reached, touched
from crm_mcp.actions.vendor_operations.sizes import MORE_THAN_ANY, records_of
from crm_mcp.backends.base import HasOperations
from crm_mcp.backends.verbs import Way
from crm_mcp.channels import ROWS
from crm_mcp.errors import Forbidden, InvalidArgument, Unsupported
from crm_mcp.model import CustomValue, Lead, Line, fold
from crm_mcp.store import Address, DedupKey
from crm_mcp.text import rendered

if TYPE_CHECKING:  # a catalogue is read when it is used; start-up counts
    from crm_mcp.backends.catalog import Operation, Parameter

MOST_FOUND = 15
MOST_ARGUMENTS = 50_000
"""Characters of the arguments of one call, as JSON."""
MOST_ANSWER = 14_000
"""Characters of an answer that is shown."""
DEEPEST = 20
IN_FULL = 4
"""Up to so many operations are described with what is said about each parameter."""

_EMPTY_WORDS = frozenset(
    ("a", "an", "and", "by", "do", "for", "from", "how", "in", "into", "of", "on", "or", "the", "to", "with")
)
_LATER = ConfigDict(defer_build=True)
_LEAF: TypeAdapter[Any] = TypeAdapter(CustomValue, config=_LATER)
_NAME: TypeAdapter[str] = TypeAdapter(Line, config=_LATER)


# Finding


def find(context: Context, query: str) -> list[Operation]:
    """Return the operations that fit these words, the best first; one, where it is named."""
    operations = context.crm(HasOperations).catalog.operation
    for each in operations:
        if each.name == query.strip():
            return [each]
    words = [word for word in _words(query) if word not in _EMPTY_WORDS] or _words(query)
    scored = [(score, place, each) for place, each in enumerate(operations) if any(score := _score(each, words))]
    scored.sort(key=lambda found: (-found[0][0], -found[0][1], found[1]))
    # What has less than half of the words that the best one has is something else.
    return [each for score, _, each in scored if score[0] * 2 >= scored[0][0][0]]


def described(context: Context, operation: Operation, *, full: bool) -> dict[str, Any]:
    """Return an operation as it is listed; `full` says of each parameter what is known about it."""
    effect = operation.effect
    if not isinstance(effect, str):
        known = [f"{value or 'left out'}: {what}" for value, what in effect.items() if value != "by"]
        effect = f"by {effect['by']} ({', '.join([*known, 'others: destructive'])})"
    row = {
        "name": operation.name,
        "summary": operation.summary,
        "method": operation.method,
        "path": operation.path,
        "effect": effect,
        "parameters": ", ".join(
            [*(_parameter(each, full=full) for each in operation.parameters), *(["..."] if operation.more else [])]
        ),
    }
    if operation.tool:
        row["tool"] = operation.tool
    if why := _refused(context, operation):
        row["off"] = why
    elif operation.names_nobody and _verdict(context, operation) is None:
        row["off"] = "it can't name whom it reaches"
    if full and operation.note:
        row["note"] = operation.note
    return row


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\w+", fold(text).replace("_", " "))))


def _score(operation: Operation, words: Iterable[str]) -> tuple[int, int]:
    """Return how many of the words an operation has, and how well they fit."""
    places = (
        (12, _words(operation.name)),
        (10, _words(operation.tool or "")),
        (6, _words(operation.summary)),
        (3, _words(operation.path)),
    )
    hits = best = 0
    for word in words:
        found = max((weight * _likeness(word, own) for weight, owns in places for own in owns), default=0)
        hits += found > 0
        best += found
    return hits, best


def _likeness(word: str, own: str) -> int:
    """Return how much a word of the query is like one of an operation: 3 the same, 2 its beginning, 1 a part."""
    if word == own:
        return 3
    if own.startswith(word) or (len(own) > 2 and word.startswith(own)):
        return 2
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, own, strict=False)))
    return int((len(word) > 2 and word in own) or common >= max(4, min(len(word), len(own)) - 1))


def _parameter(each: Parameter, *, full: bool) -> str:
    values = "|".join(each.values)
    about = f" ({each.about})" if full and each.about else ""
    kind = f": {values or each.type}" if values or each.type != "string" else ""
    return f"{each.name}{'*' if each.required else ''}{kind}{about}"


# Reading


async def read(context: Context, name: str, arguments: Mapping[str, Any]) -> Any:
    """Carry out an operation that only reads; returns its answer without secrets, cut to what a result has room for.

    Raises:
        InvalidArgument: it does not only read, there is none of this name, or an argument is not what it must be.
        Forbidden: it is refused by default or by the policy.
    """
    operation = _allowed(context, name)
    checked = _checked(operation, arguments)
    if (effect := operation.effect_of(checked)) != "read":
        instead = f"use {operation.tool}" if operation.tool else "use call_operation"
        raise InvalidArgument(f"{operation.name} does not only read, its effect is {effect}", instead)
    answer = await context.crm(HasOperations).operate(operation, checked)
    return await offload(answer, _clean, context, answer)


# Acting


async def preview_operation(context: Context, name: str, arguments: Mapping[str, Any]) -> Reach:
    """Check a call, read whom it reaches, and say what would be done.

    Raises:
        Unsupported: a tool serves it, which is named.
        InvalidArgument: it only reads, there is none of this name, an argument is not what it must be, or it reaches
            people whom it does not name.
        Forbidden: it is refused by default or by the policy, or writes a field that holds consent.
        NotFound: a lead that it names is not there.
    """
    operation, checked, effect = _acting(context, name, arguments)
    also = operation.akin_to(checked)
    people = Reached()
    size = records_of(operation, checked)
    if effect is Effect.WRITE and (unnamed(operation, checked) or (operation.records and size == MORE_THAN_ANY)):
        effect = Effect.DESTRUCTIVE  # nobody can take back a change of records that were never named
    if effect is Effect.OUTWARD:
        people = await reached(context, operation, checked, allowed=_verdict(context, operation) is not None)
        only = people.channels if len(people.channels) == 1 else ()
        also += context.tools.that(lambda each: each.reaches in only)
    elif effect is Effect.DESTRUCTIVE:
        people = await touched(context, operation, checked)
        also += context.tools.that(lambda each: each.deletes)
    summary, details = _said(context, operation, checked, effect, people)
    lifts = operation.off == "blacklist"
    zoned = effect is not Effect.OUTWARD and moves_clock(checked)
    shown = Preview(
        summary=summary,
        details=details,
        facts=people.facts,
        lead=people.leads[0].id if len(people.leads) == 1 else None,
        size=max(len(people.leads), size),
        dedup_keys=_dedup_keys(context, operation, checked, people) if effect is Effect.OUTWARD else (),
        writes=_addresses(context, operation, checked, effect),
        written=checked,
        confirm=lifts or zoned,
        person_only=lifts,
        effect=effect,
        also=also,
        operation=operation.name,
    )
    found = Reach.of(shown, people.decisions, new=people.new, rule="time_zone" if zoned else "")
    return replace(found, given=checked)


async def carry_out(context: Context, shown: Preview, name: str, arguments: Mapping[str, Any]) -> Outcome:
    """Carry out an operation with exactly these arguments; `shown` is the preview made of it just before."""
    operation, checked, _ = _acting(context, name, arguments)
    answer = await context.crm(HasOperations).operate(operation, checked)
    leads = [each[0] for each in shown.facts.get("leads", ())]
    return Outcome(
        f"did {operation.name}: {shown.summary}",
        {} if answer is None else {"result": {"answer": await offload(answer, _clean, context, answer)}},
        shown.lead,
        tuple(("lead", each) for each in leads),
        size=shown.size,
    )


def _acting(context: Context, name: str, arguments: Mapping[str, Any]) -> tuple[Operation, dict[str, Any], Effect]:
    """Return an operation that does something, its arguments, checked, and what it does."""
    operation = _allowed(context, name)
    effect = operation.effect_of(arguments)
    if effect == "read":
        raise InvalidArgument(f"{operation.name} only reads", "use read_operation")
    if operation.tool:
        raise Unsupported(f"{operation.name} is done by a tool", f"use {operation.tool}")
    checked = _checked(operation, arguments)
    if effect != "outward" and (told := tells_people(operation, checked)):
        # What the CRM does with it is not documented, and it may be to write to them.
        raise InvalidArgument(
            f"{told} may tell people of it, which {operation.name} is not known to do", "leave it out"
        )
    return operation, checked, Effect(effect)


def _addresses(
    context: Context, operation: Operation, arguments: Mapping[str, Any], effect: Effect
) -> tuple[Address, ...]:
    """Return the addresses that a call may put into the CRM. Those that it only sends to are there already."""
    akin = context.tools.of(operation.akin_to(arguments))
    if effect is Effect.OUTWARD and not any(each.writes_addresses for each in akin):
        return ()
    return addresses_in(arguments, context.settings.country)


def _dedup_keys(
    context: Context, operation: Operation, arguments: Mapping[str, Any], people: Reached
) -> tuple[DedupKey, ...]:
    """Return what this call does to each person, so that neither it nor a tool does the same again.

    A message is known by its text, a call by its number, an enrolment by its sequences. What has none of them, as a
    template, is known by the whole call. A change that may only bring leads into a sequence is a change as any other.
    """
    text = "\n".join(rendered(str(each)) for each in values_at(arguments, operation.text)).strip()
    subject = str(arguments.get("subject") or "")
    whole = json.dumps([operation.name, arguments], sort_keys=True, ensure_ascii=False)
    only_enrols = [each.reaches for each in context.tools.of(operation.akin_to(arguments))] == [rules.ENROLMENT]
    found: dict[str, DedupKey] = {}

    def dedup_key(channel: Way, lead: Lead, key: str) -> None:
        seconds = ENROLLED_FOR if channel == rules.ENROLMENT else ROWS[channel].repeat_seconds
        address = rules.reached_at(context, lead, channel)
        found[key] = DedupKey(key=key, seconds=seconds, channel=channel, address=address)

    for lead in people.leads:
        if people.enrols:
            for each in sequences_in(arguments):
                dedup_key(rules.ENROLMENT, lead, enrolment_key(context.connection, each, lead.id))
            if only_enrols and not sequences_in(arguments):
                dedup_key(rules.ENROLMENT, lead, enrolment_key(context.connection, whole, lead.id))
            continue
        for channel in people.channels:
            address = rules.reached_at(context, lead, channel)
            if address is None:
                continue
            if channel == "call":
                dedup_key(channel, lead, f"call:{address}")
            elif text:
                texts = (subject, text) if channel == "email" else (text,)
                dedup_key(channel, lead, message_key(channel, address, *texts))
            else:
                dedup_key(channel, lead, message_key(channel, address, whole))
    return tuple(found.values())


def _said(
    context: Context, operation: Operation, arguments: Mapping[str, Any], effect: Effect, people: Reached
) -> tuple[str, str]:
    """Return what a person is shown: one line, and what it has no room for."""
    given = json.dumps(_masked(context, arguments), ensure_ascii=False)
    text = "\n".join(str(each) for each in values_at(arguments, operation.text)) if effect is Effect.OUTWARD else ""
    what = f"{operation.name} ({operation.method} {operation.path})"
    to = f" to {people.shown}" if people.leads and effect is Effect.OUTWARD else ""
    of = f" of {people.shown}" if people.leads and not to else ""
    channel = f"{' or '.join(people.channels)}{to}: " if to else ""
    summary = f"{channel}{quote(text) + ', by ' if text else ''}{what}{of} with {quote_json(given)}"
    why = operation.why_of(arguments) if effect is not Effect.WRITE else ""
    details = [operation.summary, *([why] if why else []), *people.remarks]
    if operation.note:
        details.append(operation.note)
    if effect is not Effect.WRITE:
        details.append("can't be undone")
    details += people.listed
    if is_cut(text):
        details.append(f"the whole text:\n{indent_block(text)}")
    details += _further(operation, arguments)
    if is_cut(given):
        details.append(f"all arguments:\n{indent_block(given)}")
    return summary, "\n".join(details)


def _further(operation: Operation, arguments: Mapping[str, Any]) -> list[str]:
    """Return the further texts of a call that a line has no room for, each whole."""
    named = ((".".join(each), values_at(arguments, ".".join(each))) for each in sorted(texts_of(operation)))
    texts = ((name, str(text)) for name, found in named if name != operation.text for text in found)
    return [f"{name}:\n{indent_block(text)}" for name, text in texts if is_cut(text)]


# What is allowed, and with what


def _allowed(context: Context, name: str) -> Operation:
    operation = context.crm(HasOperations).catalog.get(name)
    if why := _refused(context, operation):
        raise Forbidden(
            f"{operation.name} is refused: {why}",
            "a person can allow it by name in [policy.operations] of the settings",
        )
    return operation


def _refused(context: Context, operation: Operation) -> str | None:
    """Return why an operation is refused whatever its arguments are, else None."""
    verdict = _verdict(context, operation)
    if verdict == "deny":
        return "the policy denies it"
    if operation.off and verdict is None:
        return f"it touches {operation.off}"
    return None


def _verdict(context: Context, operation: Operation) -> str | None:
    return context.policy.operation(operation.name)


def _checked(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, which are those of the catalogue, not too long, and without control characters."""
    _look(operation.name, arguments, 0)
    size = len(json.dumps(arguments, ensure_ascii=False))
    if size > MOST_ARGUMENTS:
        raise InvalidArgument(f"arguments have {size} characters", f"give at most {MOST_ARGUMENTS}")
    return operation.check(arguments)


def _look(where: str, value: Any, depth: int) -> None:
    """Refuse what can't be sent, or what would show something else than it is."""
    if depth > DEEPEST:
        raise InvalidArgument(f"{where[:80]} is nested too deep", f"give at most {DEEPEST} levels")
    if isinstance(value, Mapping):
        for name, each in cast("Mapping[str, Any]", value).items():
            _fits(_NAME, where, name)
            _look(f"{where}.{name}" if depth else name, each, depth + 1)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            _look(where, each, depth + 1)
    else:
        _fits(_LEAF, where, value)


def _fits(kind: TypeAdapter[Any], where: str, value: Any) -> None:
    try:
        kind.validate_python(value)
    except ValidationError as error:
        told = error.errors(include_url=False)
        # Each kind that it could be says why it is not: the one that it is says more than the others.
        best = next((each for each in told if not each["type"].endswith(("_type", "_parsing"))), told[0])
        why = best["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise InvalidArgument(f"{where[:80]} is not right: {why}", "correct it") from None


# What comes back


def _masked(context: Context, value: Any) -> Any:
    key = next((each.api_key for each in context.settings.connections if each.name == context.connection), None)
    return masked(value, key.get_secret_value() if key else None)


def _clean(context: Context, answer: Any) -> Any:
    return part_of(_masked(context, answer), MOST_ANSWER)
