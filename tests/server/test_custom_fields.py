"""Custom fields are limited when they are written, wherever that is; a lead that has more is read as it is."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from crm_mcp.actions.undo import deletion
from crm_mcp.model import LeadDraft

from .talk import Talk

MANY: dict[str, Any] = {f"Field {n}": n for n in range(501)}
LONG: dict[str, Any] = {f"Field {n}": "v" * 19_990 for n in range(11)}
TOO_MANY = "501 fields; give at most 500"
TOO_LONG = "characters in all; give at most 200000"


def put(crm: Talk, lead: str, fields: dict[str, Any]) -> None:
    """Let a lead have these fields, as one of an earlier version may."""
    (file,) = crm.folder.rglob("crm.sqlite3")
    with closing(sqlite3.connect(file, timeout=20)) as db, db:
        kept = db.execute("UPDATE leads SET custom_fields = ? WHERE n = ?", (json.dumps(fields), int(lead[1:])))
        assert kept.rowcount == 1


@pytest.mark.parametrize(("fields", "why"), [(MANY, TOO_MANY), (LONG, TOO_LONG)], ids=["many", "long"])
def test_a_lead_is_given_no_more_than_the_limit(crm: Talk, fields: dict[str, Any], why: str) -> None:
    lead = crm.lead()

    for line in (
        crm.refused("create_lead", name="Ann Example", custom_fields=fields),
        crm.refused("update_lead", lead=lead, custom_fields=fields),
    ):
        assert line.startswith("invalid_argument: custom_fields has ")
        assert why in line
    assert "custom_fields" not in crm.read(lead)["lead"]


@pytest.mark.parametrize(("fields", "why"), [(MANY, TOO_MANY), (LONG, TOO_LONG)], ids=["many", "long"])
def test_a_row_of_an_import_is_given_no_more_than_the_limit(crm: Talk, fields: dict[str, Any], why: str) -> None:
    done = crm.ok("import_leads", leads=[{"name": "Ann", "custom_fields": fields}, {"name": f"Bob {len(fields)}"}])

    assert done["counts"]["created"] == 1
    (failed,) = done["failed"]
    assert failed["row"] == "item 1"
    assert why in failed["reason"]


def test_what_a_lead_would_have_with_a_change_counts(crm: Talk) -> None:
    lead = crm.lead(custom_fields={name: MANY[name] for name in list(MANY)[:300]})
    long = crm.lead(custom_fields={name: LONG[name] for name in list(LONG)[:6]})

    more = crm.refused("update_lead", lead=lead, custom_fields={f"More {n}": n for n in range(201)})
    longer = crm.refused("update_lead", lead=long, custom_fields={f"More {n}": "v" * 19_000 for n in range(6)})

    assert more.startswith(f"invalid_argument: custom_fields would have {TOO_MANY}; clear some first")
    assert TOO_LONG in longer
    assert crm.ok("update_lead", lead=lead, custom_fields={f"More {n}": n for n in range(200)})["status"] == "done"
    assert crm.ok("update_lead", lead=lead, custom_fields={"More 1": None, "Field 1": "x"})["status"] == "done"


def test_an_import_that_updates_counts_what_is_there(crm: Talk) -> None:
    lead = crm.lead(email="many.fields@acme.example", custom_fields={f"Field {n}": n for n in range(400)})
    row = {"email": "many.fields@acme.example", "custom_fields": {f"More {n}": n for n in range(101)}}

    done = crm.ok("import_leads", leads=[row, {"name": "Cid Example"}], if_exists="update")

    assert TOO_MANY in done["failed"][0]["reason"]
    assert len(crm.read(lead)["lead"]["custom_fields"]) == 400


def test_a_lead_that_has_more_is_read_and_changed_and_shrinks(crm: Talk) -> None:
    lead = crm.lead()
    put(crm, lead, {f"Field {n}": "v" * 1_000 for n in range(600)})

    found = crm.read(lead)
    assert len(found["lead"]["custom_fields"]) + found["left_out"]["custom_fields"] == 600
    assert crm.ok("update_lead", lead=lead, title="Buyer")["status"] == "done"
    assert crm.ok("update_lead", lead=lead, custom_fields={"Field 1": "shorter"})["status"] == "done"
    assert crm.ok("update_lead", lead=lead, clear=["custom_fields.Field 2"])["status"] == "done"
    assert TOO_LONG in crm.refused("update_lead", lead=lead, custom_fields={"Field 1": "v" * 5_000})
    assert "600 fields" in crm.refused("update_lead", lead=lead, custom_fields={"New 1": 1})


@pytest.mark.parametrize(("fields", "kept"), [(MANY, 500), (LONG, 10), ({**MANY, "Field 3": "\x1b[8m"}, 499)])
def test_of_a_lead_that_had_more_as_much_comes_back_as_may_be_written(fields: dict[str, Any], kept: int) -> None:
    values = {"name": "Ann Example", "title": "\x07", "tags": ["vip"], "custom_fields": fields}

    taken = deletion._taken(LeadDraft, values)  # pyright: ignore[reportPrivateUsage]

    assert taken.keys() == {"name", "tags", "custom_fields"}
    assert len(LeadDraft.model_validate(taken).custom_fields or ()) == kept
