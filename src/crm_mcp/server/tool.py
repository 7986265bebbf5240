"""A tool is declared once: schema, annotations, effect, guard, record and documentation follow from the function.

    @tool(Effect.OUTWARD, needs=SendsSms, ask=ask_send_sms)
    async def send_sms(context: Context, lead: LeadKey, message: Sms) -> Done:
        \"\"\"Send one SMS ...\"\"\"

`needs` hides the tool where the CRM lacks the capability. `ask` reads the records and returns the preview; outward
and destructive tools must have one, and that of an outward tool returns what the rules found, a `Reach`. The toolset is
the name of the file that the tool stands in. Parameters named `context`, `contexts` (of all connections that are
asked), `client`, `shown` (the preview made just before) and `pipeline` are given by the server and not part of the
schema. `across` lets a reading tool ask all connections at once. `look` is asked whether a call whose answer was lost
was done: it gets the call's arguments and `row`, and returns what the CRM's own history shows, or None. `bulk` says how
a call for many is done item by item.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from crm_mcp.actions.context import Context
from crm_mcp.actions.intent import Client, Deed, Reach
from crm_mcp.actions.pipeline import deed
from crm_mcp.actions.policy import Effect
from crm_mcp.server.refusal import refused

GIVEN = ("context", "contexts", "pipeline", "client", "shown")
UNSHOWN = ("$defs", "propertyNames", "minLength", "maxLength", "pattern", "minItems", "maxItems")
"""Left out of schemas: a model does not count characters, and an error says the limit."""
MOST_FAULTS = 10
"""Faults of one call that are told at once."""
Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Tool:
    """One tool, as it was declared."""

    name: str
    toolset: str
    effect: Effect
    needs: tuple[type, ...]
    run: Function
    ask: Function | None
    look: Function | None
    bulk: Function | None
    always: bool
    """It belongs to every toolset."""
    direct: bool
    """It takes its own road and returns an action result (`confirm_action`)."""
    idempotent: bool
    outside: bool
    """It may reach somebody outside, whatever its effect is."""
    may_confirm: bool
    """It is confirmed sometimes, even where the policy allows its effect."""
    across: str | None
    """It may ask all connections at once; the name of the list in its result."""
    decides: bool
    """Its `ask` is heard before every call, because the arguments decide; else only where the policy confirms."""

    @cached_property
    def description(self) -> str:
        """What a model reads about it."""
        return inspect.cleandoc(self.run.__doc__ or "")

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """The model that its arguments are checked by; built on the first use, because start-up counts."""
        hints = typing.get_type_hints(self.run, include_extras=True)
        fields: dict[str, Any] = {}
        for name, parameter in inspect.signature(self.run).parameters.items():
            if name in GIVEN:
                continue
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints[name], default)
        return create_model(self.name, __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)

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
            "openWorldHint": self.effect is Effect.OUTWARD or self.direct or self.outside,
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
            raise refused(self.name, error, [*self.arguments.model_fields, *also]) from None

    @property
    def looks_at_all(self) -> bool:
        """Whether it is given all contexts and puts their answers together by itself."""
        return "contexts" in self._parameters

    def given(self, checked: BaseModel, contexts: Sequence[Context], client: Client) -> dict[str, Any]:
        """Return what the function is called with."""
        values: dict[str, Any] = {name: getattr(checked, name) for name in type(checked).model_fields}
        given = {"context": contexts[0], "contexts": tuple(contexts), "client": client}
        return values | {name: value for name, value in given.items() if name in self._parameters}

    @cached_property
    def _parameters(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.run).parameters)

    def deed(self, context: Context, checked: BaseModel, client: Client) -> Deed:
        """Return a call with checked arguments as the pipeline takes it."""
        values = self.given(checked, (context,), client)
        ask, look, bulk = self.ask, self.look, self.bulk
        return deed(
            context,
            self.name,
            self.effect,
            checked.model_dump(mode="json", exclude_none=True, exclude_unset=True),
            lambda preview: self.run(**values, **({"shown": preview} if "shown" in self._parameters else {})),
            ask=(lambda: ask(**values)) if ask else None,
            always_ask=self.decides or self.effect is not Effect.WRITE,
            look=(lambda row: look(**values, row=row)) if look else None,
            bulk=(lambda: bulk(**values)) if bulk else None,
            dry_run=bool(values.get("dry_run")),
        )


def tool(
    effect: Effect,
    *,
    needs: type | tuple[type, ...] = (),
    ask: Function | None = None,
    look: Function | None = None,
    bulk: Function | None = None,
    always: bool = False,
    direct: bool = False,
    idempotent: bool = False,
    outside: bool = False,
    may_confirm: bool = False,
    decides: bool = False,
    across: str | None = None,
) -> Callable[[Function], Tool]:
    """Declare a tool; see the module.

    Raises:
        TypeError: an outward or destructive tool has no `ask`, that of an outward one returns no `Reach`, or the
            function has no docstring.
    """

    def declare(function: Function) -> Tool:
        if effect in (Effect.OUTWARD, Effect.DESTRUCTIVE) and ask is None and not direct:
            raise TypeError(f"{function.__name__} is {effect.value} and must say with ask= what a person is shown")
        if effect is Effect.OUTWARD and ask and ask.__annotations__.get("return") not in (Reach, Reach.__name__):
            raise TypeError(
                f"{function.__name__} is outward, and {ask.__name__} must return a Reach: what the rules found of "
                "everybody whom it reaches"
            )
        if not function.__doc__:
            raise TypeError(f"{function.__name__} has no description")
        return Tool(
            name=function.__name__,
            toolset=function.__module__.rpartition(".")[2],
            effect=effect,
            needs=needs if isinstance(needs, tuple) else (needs,),
            run=function,
            ask=ask,
            look=look,
            bulk=bulk,
            always=always,
            direct=direct,
            idempotent=idempotent,
            outside=outside,
            may_confirm=may_confirm,
            decides=decides,
            across=across,
        )

    return declare


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
