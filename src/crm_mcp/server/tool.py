"""A tool is declared once: schema, annotations, effect, guard, record and documentation follow from the function.

    class SendSms(Arguments):
        lead: LeadKey
        message: Sms

    async def ask_send_sms(context: Context, call: SendSms) -> Reach: ...

    @tool(Effect.OUTWARD, needs=SendsSms, reaches="sms", ask=ask_send_sms)
    async def send_sms(context: Context, call: SendSms) -> Done:
        \"\"\"Send one SMS ...\"\"\"

`needs` hides the tool where the CRM lacks the capability. `ask` reads the records and returns the preview; outward
and destructive tools must have one, and that of an outward tool returns what the rules found, a `Reach`. `reconcile` is
asked whether a call whose answer was lost was done: it returns what the CRM's own history shows, or None. `bulk` says
how a call for many is done item by item. `across` lets a reading tool ask all connections at once. What the rest of the
program asks about a tool (whether it creates, deletes, reaches somebody ...) is declared here, too: see `Declared`. The
toolset is the name of the file that the tool stands in.

A tool alone takes its arguments one by one; one with an `ask`, a `reconcile` or a `bulk` lists them in a class of its
own, which all of them take. Besides, each function gets what it has a parameter for: `context`, `contexts` (of all
connections that are asked), `client`, `shown` (the preview made just before), `pipeline`, and `row` (the action that a
`reconcile` is about). None of these is part of the schema.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypedDict, Unpack, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from crm_mcp.actions.context import Context
from crm_mcp.actions.declared import Created, Declared, Effect
from crm_mcp.actions.intent import Client, Intent, Reach
from crm_mcp.actions.pipeline import intent
from crm_mcp.backends.verbs import Way
from crm_mcp.server.argument_errors import argument_error

GIVEN = ("context", "contexts", "pipeline", "client", "shown", "row")
UNSHOWN = ("$defs", "propertyNames", "minLength", "maxLength", "pattern", "minItems", "maxItems")
"""Left out of schemas: a model does not count characters, and an error says the limit."""
Function = Callable[..., Awaitable[Any]]


class Arguments:
    """The arguments of a tool, listed once for all its functions: a field each, with its default.

    The model that checks them is made of it when a call comes: start-up counts.
    """

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)


@dataclass(frozen=True, kw_only=True)
class Tool(Declared):
    """One tool, as it was declared."""

    toolset: str
    needs: tuple[type, ...]
    run: Function
    ask: Function | None
    reconcile: Function | None
    bulk: Function | None
    always: bool = False
    """It belongs to every toolset."""
    outside: bool = False
    """It may reach somebody outside, whatever its effect is."""
    may_confirm: bool = False
    """It is confirmed sometimes, even where the policy allows its effect."""
    across: str | None = None
    """It may ask all connections at once; the name of the list in its result."""
    decides: bool = False
    """Its `ask` is heard before every call, because the arguments decide; else only where the policy confirms."""

    @cached_property
    def description(self) -> str:
        """What a model reads about it."""
        return inspect.cleandoc(self.run.__doc__ or "")

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """The model that its arguments are checked by; built on the first use, because start-up counts."""
        fields: dict[str, Any] = {}
        if self._listed:
            listed = self._listed[1]
            # Not in the class's own names: a field `list` would stand for the type there.
            known = vars(sys.modules[listed.__module__])
            hints = typing.get_type_hints(listed, known, {}, include_extras=True)
            # What must be given stands first, whichever class it comes from.
            for name in sorted(hints, key=lambda each: hasattr(listed, each)):
                fields[name] = (hints[name], getattr(listed, name, ...))
        else:
            hints = typing.get_type_hints(self.run, include_extras=True)
            for name, parameter in inspect.signature(self.run).parameters.items():
                default = ... if parameter.default is inspect.Parameter.empty else parameter.default
                if name not in GIVEN:
                    fields[name] = (hints[name], default)
        config = ConfigDict(extra="forbid", protected_namespaces=())
        return create_model(self.name, __config__=config, **fields)

    @cached_property
    def _listed(self) -> tuple[str, type[Arguments]] | None:
        """The parameter that takes all arguments as one, and their class; None: each has its own."""
        hints = typing.get_type_hints(self.run).items()
        found = [(name, hint) for name, hint in hints if isinstance(hint, type) and issubclass(hint, Arguments)]
        return found[0] if found else None

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Its input schema: flat, closed, without titles or references."""
        raw = self.arguments.model_json_schema()
        plain = _compact(raw, raw.get("$defs", {}))
        return {"type": "object", "properties": {}, **plain, "additionalProperties": False}

    @cached_property
    def annotations(self) -> dict[str, bool]:
        """All four hints of the protocol."""
        reads = self.effect is Effect.READ
        return {
            "readOnlyHint": reads,
            "destructiveHint": self.effect is Effect.DESTRUCTIVE,
            "idempotentHint": reads or self.idempotent,
            "openWorldHint": self.effect is Effect.OUTWARD or self.answers or self.outside,
        }

    def served_by(self, context: Context) -> bool:
        """Whether the CRM can do what it needs."""
        return context.can(*self.needs)

    def check(self, arguments: Mapping[str, Any], *also: str) -> BaseModel:
        """Check arguments; `also` are parameters that were taken out of them, and that an error lists with the rest.

        Raises:
            InvalidArgument: one is unknown, missing or not what it must be; all of them are named.
        """
        try:
            return self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise argument_error(self.name, error, [*self.arguments.model_fields, *also]) from None

    @property
    def looks_at_all(self) -> bool:
        """Whether it is given all contexts and puts their answers together by itself."""
        return "contexts" in _parameters(self.run)

    async def call(self, checked: BaseModel, contexts: Sequence[Context], client: Client, **more: object) -> Any:
        """Call the function itself, with checked arguments; `more` is what it takes besides."""
        offered = self._offered(checked, contexts, client)
        return await _call(self.run, offered | more)

    def _offered(self, checked: BaseModel, contexts: Sequence[Context], client: Client) -> dict[str, Any]:
        """Return all that its functions may take."""
        values: dict[str, Any] = {name: getattr(checked, name) for name in type(checked).model_fields}
        if self._listed:
            name, listed = self._listed
            values = {name: listed(**values)}
        return values | {"context": contexts[0], "contexts": tuple(contexts), "client": client}

    def intent(self, context: Context, checked: BaseModel, client: Client) -> Intent:
        """Return a call with checked arguments as the pipeline takes it."""
        offered = self._offered(checked, (context,), client)
        ask, reconcile, bulk = self.ask, self.reconcile, self.bulk
        return intent(
            context,
            self,
            checked.model_dump(mode="json", exclude_none=True, exclude_unset=True),
            lambda preview: _call(self.run, offered | {"shown": preview}),
            ask=(lambda: _call(ask, offered)) if ask else None,
            always_ask=self.decides or self.effect is not Effect.WRITE,
            reconcile=(lambda row: _call(reconcile, offered | {"row": row})) if reconcile else None,
            bulk=(lambda: _call(bulk, offered)) if bulk else None,
            dry_run=bool(getattr(checked, "dry_run", False)),
        )


class Said(TypedDict, total=False):
    """What a tool may say of itself besides; see `Tool` and `Declared` for what each means."""

    always: bool
    idempotent: bool
    outside: bool
    may_confirm: bool
    decides: bool
    across: str
    creates: Created
    many: bool
    writes_addresses: bool
    deletes: bool
    reaches: Way
    resends: bool
    ends_enrolments: bool
    undoes: bool
    answers: bool
    by_action: bool
    instead: str | Callable[[Mapping[str, Any]], str]


def tool(
    effect: Effect,
    *,
    needs: type | tuple[type, ...] = (),
    ask: Function | None = None,
    reconcile: Function | None = None,
    bulk: Function | None = None,
    **said: Unpack[Said],
) -> Callable[[Function], Tool]:
    """Declare a tool; see the module.

    Raises:
        TypeError: what is said does not fit together (see `_wrong`), or the function has no docstring.
    """

    def declare(function: Function) -> Tool:
        if wrong := _wrong(effect, ask, bulk, said):
            raise TypeError(f"{function.__name__} {wrong}")
        if not function.__doc__:
            raise TypeError(f"{function.__name__} has no description")
        return Tool(
            function.__name__,
            effect,
            toolset=function.__module__.rpartition(".")[2],
            needs=needs if isinstance(needs, tuple) else (needs,),
            run=function,
            ask=ask,
            reconcile=reconcile,
            bulk=bulk,
            **said,
        )

    return declare


def _wrong(effect: Effect, ask: Function | None, bulk: Function | None, said: Said) -> str | None:
    """Return what does not fit together in a declaration; None: all does."""
    if effect in (Effect.OUTWARD, Effect.DESTRUCTIVE) and ask is None and not said.get("answers"):
        return f"is {effect.value} and must say with ask= what a person is shown"
    if effect is Effect.OUTWARD:
        returned = getattr(ask, "__annotations__", {}).get("return")
        if getattr(returned, "__name__", str(returned)).rpartition(".")[2] != Reach.__name__:
            named = getattr(ask, "__name__", "its ask")
            return f"is outward, and {named} must return a Reach: what the rules found of everybody whom it reaches"
    if (effect is Effect.OUTWARD) != ("reaches" in said):
        must = "must say with reaches= how it reaches somebody" if effect is Effect.OUTWARD else "reaches somebody"
        return f"is {effect.value} and {must}"
    if said.get("deletes") and effect is not Effect.DESTRUCTIVE:
        return f"is {effect.value} and deletes"
    if bulk and effect is Effect.WRITE and not said.get("decides"):
        return "is for many, and must say with decides= that its ask tells when it is a job"
    return None


@cache
def _parameters(function: Function) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


async def _call(function: Function, offered: Mapping[str, Any]) -> Any:
    """Call a function with those of the values that it has a parameter for."""
    return await function(**{name: offered[name] for name in _parameters(function) if name in offered})


def _compact(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema without what a model does not need: titles, references, nulls that mean absence."""
    if isinstance(schema, list):
        return [_compact(each, definitions) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    source = cast("dict[str, Any]", schema)
    if "$ref" in source:
        return _compact(
            definitions[source["$ref"].rpartition("/")[2]] | {k: v for k, v in source.items() if k != "$ref"},
            definitions,
        )
    if "anyOf" in source:
        variants = [each for each in source["anyOf"] if each != {"type": "null"}]
        rest = {name: value for name, value in source.items() if name != "anyOf"}
        if len(variants) == 1:
            return _compact({**variants[0], **rest}, definitions)
        types = [each.get("type") for each in variants if len(each) == 1]
        source = {**rest, "type": types} if len(types) == len(variants) else {**rest, "anyOf": variants}
    compact: dict[str, Any] = {}
    for name, value in source.items():
        if (
            name in UNSHOWN
            or (name == "additionalProperties" and isinstance(value, dict))
            or (name == "default" and value in (None, [], ()))
        ):
            continue
        if name == "title" and isinstance(value, str):
            continue
        if name == "properties":
            inner = cast("dict[str, Any]", value)
            compact[name] = {each: _compact(inner[each], definitions) for each in inner}
        else:
            compact[name] = _compact(value, definitions)
    return compact
