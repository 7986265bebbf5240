"""Every documented operation of each vendor, as data: one readable file a vendor, `VENDOR.toml`.

    source = "where the facts are from"

    [[operation]]
    name = "add_lead_to_flow"
    summary = "Create a lead and put it into a flow"
    method = "POST"
    path = "/flows/api/flows/{flow}/add-new-lead"
    effect = "outward"                       # read, write, outward, destructive; left out: destructive
    why = "the flow begins to write to them" # why it has this effect: everything that is not read says so
    tool = "enroll_in_sequence"              # where a tool serves it; `call_operation` then refuses it
    recipient = { lead = "lead_uuid", channel = "linkedin" }
    copies = ["cc", "bcc"]                   # where further addresses stand
    text = "message"
    prose = ["subject"]                      # further texts, in which an address is a word as any other
    at = "schedule_at"                       # when it goes out, where that is later than now
    records = ["uuids"]                      # where it names the records it is about; without them it may be about all
    every = true                             # it is about as many records as a file, a flow or a list has
    off = "webhooks"                         # refused unless the policy allows it by name
    parameters = [
        { name = "flow", in = "path", type = "string", required = true, about = "id of the flow" },
        { name = "limit", in = "query", type = "integer", about = "1-100" },
        { name = "attachments", in = "body", type = "array", holds = ["uuid"], about = "each {uuid}" },
    ]

What changes what, when or to whom something that runs will send is outward; what only stops, pauses or takes out is a
write. An effect that depends on an argument is written `effect = { by = "type", contact_mark_read = "write" }`, and so
is its `why`; a value that is not named there is destructive, and `""` is the argument left out. What has no tool and
yet does the work of some names them: `akin = ["move_stage"]`, or
`akin = { by = "type", contact_change_pipeline_stage = ["move_stage"] }`.

Whatever stands elsewhere in the arguments of what goes out is looked at for addresses: see `actions.places`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, Field, TypeAdapter

from crm_mcp.channels import Channel
from crm_mcp.errors import InvalidArgument, choices
from crm_mcp.model import Record

OperationEffect = Literal["read", "write", "outward", "destructive"]
Place = Literal["path", "query", "filter", "body", "items"]
"""`filter` is the query parameter `filter[name]`; `items` is a body that is this array itself."""
Kind = Literal["string", "integer", "number", "boolean", "object", "array", "any"]
Off = Literal["keys", "credentials", "webhooks", "browsers", "blacklist"]

_ID = re.compile(r"(?!\.{1,2}$)[^\s/\\?#%]{1,200}")
"""What a part of a path may be: nothing that could lead to another one."""
_CHECKS: dict[str, type] = {"string": str, "boolean": bool, "object": dict, "array": list}
_WANTED = {
    "any": "a value",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object, in {}",
    "array": "a list, in []",
}


class Parameter(Record):
    """One parameter of an operation."""

    name: str
    place: Annotated[Place, Field(alias="in")]
    type: Kind = "string"
    required: bool = False
    values: tuple[str, ...] = ()
    """The valid values, where they are known."""
    holds: tuple[str, ...] = ()
    """The fields of an object, or of each object of an array, that are known to name no person."""
    about: str = ""


class Recipient(Record):
    """Where an operation names the people whom it reaches: dotted names of its arguments."""

    lead: str | None = None
    """The id of a lead, or a list of ids."""
    address: str | None = None
    """An address, or a list of addresses."""
    channel: Channel


def _by_an_argument(effect: dict[str, str]) -> dict[str, str]:
    if "by" not in effect or not {value for name, value in effect.items() if name != "by"} <= {
        *get_args(OperationEffect)
    }:
        raise ValueError(
            "an effect by an argument names it in `by`, and gives each value read, write, outward or destructive"
        )
    return effect


def _of_values(why: dict[str, str]) -> dict[str, str]:
    if "by" not in why:
        raise ValueError("a reason by an argument names it in `by`")
    return why


class Operation(Record):
    """One documented operation of a vendor."""

    name: str
    summary: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    effect: OperationEffect | Annotated[dict[str, str], AfterValidator(_by_an_argument)] = "destructive"
    parameters: tuple[Parameter, ...] = ()
    why: str | Annotated[dict[str, str], AfterValidator(_of_values)] = ""
    """Why it has this effect, in a sentence; by the argument that decides the effect, where one does."""
    tool: str | None = None
    """The tool that serves it."""
    akin: tuple[str, ...] | dict[str, str | tuple[str, ...]] = ()
    """Tools whose work it does as well, by an argument where that decides: their verdicts count for it, too."""
    recipient: Recipient | None = None
    copies: tuple[str, ...] = ()
    """Where further addresses stand: dotted names of its arguments."""
    text: str | None = None
    """Where it names the text that goes out: a dotted name of its arguments."""
    prose: tuple[str, ...] = ()
    """Where further texts stand, in which an address is a word as any other: likewise."""
    records: tuple[str, ...] = ()
    """Where it names the records that it is about, likewise; where none stands there, it may be about all."""
    every: bool = False
    """It is about as many records as a file, a flow or a list has."""
    at: str | None = None
    """Where it names the time when it goes out, likewise."""
    off: Off | None = None
    """Why it is refused unless the policy allows it by name."""
    bulk: bool = False
    """It counts against the vendor's limit of bulk calls."""
    more: bool = False
    """Its body is not documented in full: other fields are passed on."""
    note: str = ""
    """What is unusual, or not certain, about it."""

    @property
    def names_nobody(self) -> bool:
        """Whether it always reaches people and has no place where it names them."""
        return self.effect == "outward" and self.recipient is None and self.tool is None

    def effect_of(self, arguments: Mapping[str, Any]) -> OperationEffect:
        """Return the effect of a call with these arguments; what is not classified is destructive."""
        if isinstance(self.effect, str):
            return self.effect
        by = self.effect["by"]
        value = str(arguments.get(by, ""))
        return "destructive" if value == "by" else cast("OperationEffect", self.effect.get(value, "destructive"))

    def akin_to(self, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the tools whose work a call with these arguments does."""
        if not isinstance(self.akin, dict):
            return self.akin
        value = str(arguments.get(str(self.akin["by"]), ""))
        found = self.akin.get(value, ()) if value != "by" else ()
        return (found,) if isinstance(found, str) else found

    def why_of(self, arguments: Mapping[str, Any]) -> str:
        """Return why a call with these arguments has the effect that it has; empty where it is not classified."""
        if isinstance(self.why, str):
            return self.why
        value = str(arguments.get(self.why["by"], ""))
        return "" if value == "by" else self.why.get(value, "")

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments, checked.

        Raises:
            InvalidArgument: one is unknown, missing or of another type; the valid ones are listed.
        """
        known = {each.name: each for each in self.parameters}
        for name in arguments:
            if name not in known and not self.more:
                raise InvalidArgument(f'{self.name} has no parameter "{name[:80]}"', choices(name, known))
        for each in self.parameters:
            if each.name not in arguments:
                if each.required or each.place == "path":
                    raise InvalidArgument(f"{self.name} needs {each.name}", _wanted(each))
                continue
            _check(each, arguments[each.name])
        return dict(arguments)


class Catalog(Record):
    """The operations of one vendor, and where they are documented."""

    source: str
    operation: tuple[Operation, ...]

    def get(self, name: str) -> Operation:
        """Return the operation with this name.

        Raises:
            InvalidArgument: there is none; the nearest is named.
        """
        for each in self.operation:
            if each.name == name:
                return each
        raise InvalidArgument(
            f'there is no operation "{name[:80]}"',
            choices(name, [each.name for each in self.operation]) + "; find_operation finds them by words",
        )


@cache
def load(vendor: str) -> Catalog:
    """Return a vendor's catalogue."""
    text = files(__name__).joinpath(f"{vendor}.toml").read_text(encoding="utf-8")
    return TypeAdapter(Catalog).validate_python(tomllib.loads(text))


def _wanted(parameter: Parameter) -> str:
    """Return what to do where a parameter is missing, or is something else."""
    return f"give {_WANTED[parameter.type]}" + (f": {parameter.about}" if parameter.about else "")


def _check(parameter: Parameter, value: Any) -> None:
    right = {
        "any": lambda: True,
        "integer": lambda: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda: isinstance(value, int | float) and not isinstance(value, bool),
    }.get(parameter.type, lambda: isinstance(value, _CHECKS[parameter.type]))
    if not right():
        raise InvalidArgument(f"{parameter.name} is no {parameter.type}", _wanted(parameter))
    shown = str(value)
    given = cast("list[Any]", value) if isinstance(value, list) else [value]
    for each in map(str, given if parameter.values else ()):
        if each not in parameter.values:
            raise InvalidArgument(f'{parameter.name} is "{each[:80]}"', choices(each, parameter.values))
    if parameter.place == "path" and not _ID.fullmatch(shown):
        raise InvalidArgument(f'{parameter.name} is "{shown[:80]}"', f"give {parameter.about or 'an id'}")
