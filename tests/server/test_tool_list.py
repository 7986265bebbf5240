"""The tool list: as the snapshot has it, small, and in a form that every client takes."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .talk import Talk

SNAPSHOT = Path(__file__).parent / "snapshots" / "tools.json"
RENEW = "CRM_MCP_TEST_RENEW"
ALL, EACH = 6_000, 400


def listed(crm: Talk) -> list[dict[str, Any]]:
    """Return the tools as they go over the wire."""
    return [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in crm.tools().values()]


def tokens(tool: dict[str, Any]) -> int:
    seen = {name: tool[name] for name in ("name", "description", "inputSchema")}
    encoding: Any = importlib.import_module("rs_bpe.bpe")
    return encoding.openai.o200k_base().count(json.dumps(seen, ensure_ascii=False, separators=(",", ":")))


def schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and all within it."""
    yield schema
    for each in schema.get("properties", {}).values():
        yield from schemas(each)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from schemas(schema[name])
    for each in schema.get("anyOf", []):
        yield from schemas(each)


def test_the_tool_list_is_that_of_the_snapshot(crm: Talk) -> None:
    kept: list[dict[str, Any]] = json.loads(SNAPSHOT.read_text(encoding="utf-8")) if SNAPSHOT.exists() else []
    if os.environ.get(RENEW) and listed(crm) != kept:
        kept = listed(crm)
        SNAPSHOT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    assert listed(crm) == kept, (
        f"the tool list has changed: if that is meant, renew {SNAPSHOT.name}: {RENEW}=1 make test"
    )


def test_the_tool_list_is_small(crm: Talk) -> None:
    sizes = {each["name"]: tokens(each) for each in listed(crm)}

    assert sum(sizes.values()) <= ALL, sizes
    assert {name: size for name, size in sizes.items() if size > EACH} == {}


def test_the_order_is_stable(crm: Talk) -> None:
    assert list(crm.tools()) == [each["name"] for each in json.loads(SNAPSHOT.read_text(encoding="utf-8"))]


def test_all_four_annotations_are_given(crm: Talk) -> None:
    for tool in listed(crm):
        hints = tool["annotations"]
        assert set(hints) >= {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
        assert all(isinstance(each, bool) for each in hints.values())
        assert not (hints["readOnlyHint"] and hints["destructiveHint"])


@pytest.mark.parametrize(
    ("tool", "reads", "destroys", "reaches_out"),
    [
        ("search_leads", True, False, False),
        ("update_lead", False, False, False),
        ("send_sms", False, False, True),
        ("delete_record", False, True, False),
        ("confirm_action", False, True, True),
    ],
)
def test_hints_follow_from_the_effect(crm: Talk, tool: str, reads: bool, destroys: bool, reaches_out: bool) -> None:
    hints = crm.tools()[tool].annotations

    assert hints
    assert (hints.read_only_hint, hints.destructive_hint, hints.open_world_hint) == (reads, destroys, reaches_out)


def test_schemas_are_plain(crm: Talk) -> None:
    for tool in listed(crm):
        schema = tool["inputSchema"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert not {"anyOf", "oneOf", "allOf", "$ref", "$defs"} & set(schema)
        assert "$ref" not in json.dumps(schema)
        assert set(schema.get("required", [])) <= set(schema["properties"])
        for each in schemas(schema):
            assert all(re.fullmatch(r"[A-Za-z0-9_]{1,64}", name) for name in each.get("properties", {}))


def test_names_and_descriptions_are_there(crm: Talk) -> None:
    for name, tool in crm.tools().items():
        assert re.fullmatch(r"[a-z][a-z_]{1,63}", name)
        assert (tool.description or "").endswith(".")
