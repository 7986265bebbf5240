"""The catalogue of operations: what it says is checked, and so are the arguments that an operation is called with."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from crm_mcp.backends.catalog import Catalog, Operation, load
from crm_mcp.config import VENDORS
from crm_mcp.errors import InvalidArgument

REMOTE = sorted(each for each in VENDORS if each != "local")


def operation(**more: Any) -> Operation:
    given: dict[str, Any] = {
        "name": "tag_lead",
        "summary": "Tag",
        "method": "POST",
        "path": "/leads/{lead}/tags",
        "parameters": [
            {"name": "lead", "in": "path", "about": "id of the lead"},
            {"name": "tags", "in": "body", "type": "array", "required": True, "values": ["hot", "cold"]},
            {"name": "size", "in": "body", "type": "integer", "values": ["1", "2"]},
            {"name": "share", "in": "body", "type": "number"},
            {"name": "loud", "in": "query", "type": "boolean"},
            {"name": "extra", "in": "body", "type": "object"},
            {"name": "whatever", "in": "body", "type": "any"},
        ],
    }
    return Operation.model_validate({**given, **more})


RIGHT: dict[str, Any] = {"lead": "7", "tags": ["hot"]}


@pytest.mark.parametrize(
    "more",
    [
        *({}, {"size": 2}, {"share": 0.5}, {"share": 1}, {"loud": False}, {"extra": {"a": 1}}, {"whatever": None}),
        *({"tags": []}, {"tags": ["hot", "cold"]}),
    ],
)
def test_right_arguments_are_taken_as_they_are(more: dict[str, Any]):
    assert operation().check({**RIGHT, **more}) == {**RIGHT, **more}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"tag": 1}, 'tag_lead has no parameter "tag"; valid: .*nearest: "tags"'),
        ({"tags": "hot"}, r"tags is no array; give a list, in \[\]"),
        ({"tags": ["warm"]}, 'tags is "warm"; valid: hot, cold'),
        ({"tags": [["hot"]]}, "tags is"),
        ({"size": True}, "size is no integer"),
        ({"size": 1.0}, "size is no integer"),
        ({"size": 3}, 'size is "3"; valid: 1, 2'),
        ({"share": "1"}, "share is no number; give a number"),
        ({"share": True}, "share is no number"),
        ({"loud": "yes"}, "loud is no boolean; give true or false"),
        ({"extra": []}, "extra is no object; give an object, in {}"),
        ({"lead": 7}, "lead is no string"),
        ({"lead": None}, "lead is no string"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_right(more: dict[str, Any], told: str):
    with pytest.raises(InvalidArgument, match=told):
        operation().check({**RIGHT, **more})


@pytest.mark.parametrize("lead", ["", " ", ".", ".."])
def test_an_id_that_none_could_be_is_refused(lead: str):
    with pytest.raises(InvalidArgument, match="id of the lead"):
        operation().check({**RIGHT, "lead": lead})


def test_what_a_path_needs_is_needed_even_where_nobody_says_so():
    with pytest.raises(InvalidArgument, match="tag_lead needs lead; give text: id of the lead"):
        operation().check({"tags": []})


def test_unknown_arguments_pass_where_the_body_is_not_documented():
    assert operation(more=True).check({**RIGHT, "new": 1}) == {**RIGHT, "new": 1}


EFFECT = {"by": "type", "tag": "write", "send": "outward", "count": "read"}


@pytest.mark.parametrize(
    ("arguments", "effect"),
    [
        ({"type": "tag"}, "write"),
        ({"type": "send"}, "outward"),
        ({"type": "count"}, "read"),
        ({"type": "wipe"}, "destructive"),
        ({}, "destructive"),
        ({"type": None}, "destructive"),
        ({"type": ["count"]}, "destructive"),
        ({"type": {"count": 1}}, "destructive"),
        ({"type": "by"}, "destructive"),
    ],
)
def test_an_effect_by_an_argument_is_destructive_where_it_is_not_classified(arguments: dict[str, Any], effect: str):
    assert operation(effect=EFFECT).effect_of(arguments) == effect


def test_what_is_not_classified_is_destructive():
    assert operation().effect_of({}) == "destructive"


@pytest.mark.parametrize(
    "wrong",
    [
        {"effect": "harmless"},
        {"effect": {"tag": "write"}},
        {"why": {"tag": "it tags"}},
        {"parameters": [{"name": "x", "in": "body", "holds": "uuid"}]},
        {"effect": {"by": "type", "tag": "harmless"}},
        {"method": "HEAD"},
        {"off": "danger"},
        {"colour": "red"},
        {"parameters": [{"name": "x", "in": "header"}]},
        {"parameters": [{"name": "x", "in": "body", "type": "date"}]},
        {"recipient": {"lead": "lead", "channel": "pigeon"}},
    ],
)
def test_an_entry_that_means_nothing_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        operation(**wrong)


def test_an_operation_that_is_not_there_is_refused_with_the_nearest():
    catalog = Catalog(source="x", operation=(operation(),))

    assert catalog.get("tag_lead").summary == "Tag"
    with pytest.raises(
        InvalidArgument, match=r'there is no operation "tag_leads"; .*nearest: "tag_lead"; find_operation'
    ):
        catalog.get("tag_leads")


@pytest.mark.parametrize("vendor", REMOTE)
def test_every_catalogue_holds_together(vendor: str):
    catalog = load(vendor)
    names = [each.name for each in catalog.operation]

    assert catalog.source
    assert len(names) == len(set(names))
    assert [each.name for each in catalog.operation if not re.fullmatch("[a-z][a-z0-9_]*", each.name)] == []
    assert load(vendor) is catalog


@pytest.mark.parametrize("vendor", REMOTE)
def test_every_argument_of_another_type_is_refused_with_what_to_give(vendor: str):
    silent: list[str] = []
    for each in load(vendor).operation:
        right: dict[str, Any] = {"string": "x", "integer": 1, "number": 1, "boolean": True, "object": {}, "array": []}
        given = {
            known.name: known.values[0] if known.values and known.type == "string" else right.get(known.type)
            for known in each.parameters
        }
        for parameter in each.parameters:
            if parameter.type != "any":
                with pytest.raises(InvalidArgument, match=f"^{parameter.name} is no ") as caught:
                    each.check({**given, parameter.name: None})
                if not caught.value.fix.startswith("give "):
                    silent.append(f"{each.name}: {caught.value}")
    assert silent == []


@pytest.mark.parametrize("vendor", REMOTE)
def test_every_path_has_its_parameters_and_every_parameter_one_place(vendor: str):
    wrong: list[str] = []
    for each in load(vendor).operation:
        names = [parameter.name for parameter in each.parameters]
        in_path = {parameter.name for parameter in each.parameters if parameter.place == "path"}
        if set(re.findall(r"{(\w+)}", each.path)) != in_path or re.sub(r"{\w+}", "", each.path).count("{"):
            wrong.append(f"{each.name}: {each.path} has {sorted(in_path)}")
        if len(names) != len(set(names)):
            wrong.append(f"{each.name}: a parameter twice")
        places = [parameter.place for parameter in each.parameters]
        if places.count("items") > 1 or ("items" in places and "body" in places):
            wrong.append(f"{each.name}: more than one body")
        if each.method == "GET" and {"body", "items"} & set(places):
            wrong.append(f"{each.name}: a GET with a body")

    assert wrong == []


@pytest.mark.parametrize("vendor", REMOTE)
def test_what_goes_out_names_arguments_that_are_there(vendor: str):
    wrong: list[str] = []
    for each in load(vendor).operation:
        known = {parameter.name for parameter in each.parameters}
        named = [each.text, *((each.recipient.lead, each.recipient.address) if each.recipient else ())]
        named += [*each.copies, *each.prose, *each.records]
        if isinstance(each.effect, dict):
            named.append(each.effect["by"])
        wrong += [f"{each.name}: {name}" for name in named if name and name.split(".")[0] not in known]
        if each.effect_of({}) == "read" and each.recipient:
            wrong.append(f"{each.name}: a read that reaches somebody")

    assert wrong == []
