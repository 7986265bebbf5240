"""Fields that hold the consent to be reached: no tool may write one."""

from __future__ import annotations

import contextlib
import json
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from crm_mcp.actions.context import Context
from crm_mcp.actions.guards.addresses import empties_custom_fields
from crm_mcp.actions.guards.quiet_hours import field_key
from crm_mcp.backends.base import ListsOptions
from crm_mcp.errors import Forbidden

_JSON = re.compile(r"\s*[\[{]")
_field_ids: weakref.WeakKeyDictionary[Context, tuple[datetime, dict[str, str]]] = weakref.WeakKeyDictionary()
"""The folded names of each CRM's custom fields by their folded ids, and when they were read."""
_KNOWN_FOR = timedelta(minutes=10)


async def refuse_consent_fields(context: Context, arguments: Any) -> None:
    """Refuse arguments of a writing call that name a field which holds consent, by its name or by its id.

    Raises:
        Forbidden: they do.
    """
    needed = context.settings.policy.require_consent
    names = {field_key(field): field for field in needed.values()}
    if not names:
        return
    given = {part for text in _named(arguments) for part in map(field_key, (text, *re.split(r"[.\[\]/]", text)))}
    if empties_custom_fields(arguments):
        given |= names.keys()
    for key in sorted({*names, *(ids := await _ids_of(context, names))} & given):
        field = names.get(key) or names[ids[key]]
        channels = " and ".join(channel for channel, each in needed.items() if each == field)
        raise Forbidden(
            f'"{field}" holds the consent to be reached by {channels}, and no tool can write it',
            "a person sets it in the CRM",
        )


def _named(value: Any) -> Iterator[str]:
    """Return what could name a field: keys, short texts, the columns of a table, and the same within JSON as text."""
    if isinstance(value, Mapping):
        for name, inner in cast("Mapping[str, Any]", value).items():
            yield name
            yield from _named(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[Any]", value):
            yield from _named(inner)
    elif isinstance(value, str):
        if _JSON.match(value):
            with contextlib.suppress(ValueError, RecursionError):
                yield from _named(json.loads(value))
        first, _, rest = value.lstrip("\ufeff\r\n").partition("\n")
        yield first
        if rest:
            yield from (column.strip(" \r\"'") for column in re.split("[,;\t|]", first))


async def _ids_of(context: Context, names: Iterable[str]) -> dict[str, str]:
    """Return the folded names of these custom fields by their folded ids, where the CRM lists its fields."""
    crm = context.crm_if(ListsOptions)
    if crm is None or "custom_fields" not in crm.option_kinds:
        return {}
    known = _field_ids.get(context)
    if known is None or context.clock() - known[0] > _KNOWN_FOR:
        options = await crm.list_options("custom_fields")
        known = _field_ids[context] = context.clock(), {field_key(each.id): field_key(each.name) for each in options}
    return {key: name for key, name in known[1].items() if name in names}
