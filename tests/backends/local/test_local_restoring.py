"""A deleted record comes back exactly as it was, or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.backends.local import Local
from crm_mcp.errors import Conflict, CrmError, InvalidArgument, NotFound
from crm_mcp.model import (
    DealFields,
    ImportRow,
    Lead,
    LeadDraft,
    LeadFilter,
    NoteDraft,
    RecordKind,
    Slice,
    TaskFields,
    now,
)


def everything(folder: Path) -> dict[str, list[Any]]:
    """Return all rows of the file by table, the words that leads are found by among them."""
    db = sqlite3.connect(folder / "data" / "crm.sqlite3")
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'lead_words_%'")
    found = {name: sorted(db.execute(f"SELECT rowid, * FROM {name}"), key=repr) for name in _with_rowid(db, tables)}
    found |= {
        name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in ("lead_labels", "steps", "blocked")
    }
    db.close()
    return found


def _with_rowid(db: sqlite3.Connection, tables: sqlite3.Cursor) -> list[str]:
    return [name for (name,) in tables.fetchall() if name not in ("lead_labels", "steps", "blocked")]


async def a_full_lead(crm: Local) -> Lead:
    """Return a lead that has something of all there is."""
    draft = LeadDraft(
        first_name="Jane",
        last_name="Ødegård",
        email="Jane@acme.example",
        phone="+12125550101",
        company="Acme",
        title="Head of Line 4",
        status="working",
        owner="Robin Vale",
        tags=("vip", "fair"),
        list="Spring",
        custom_fields={"seats": 3, "rate": 0.1, "note": "é\n<b>"},
    )
    (made,) = await crm.import_leads([ImportRow(draft=draft, key="file:7")], "error")
    assert made.id
    lead = await crm.get_lead(made.id)
    (mailbox, *_) = await crm.mailboxes()
    await crm.send_email(lead, mailbox, "Hello", "How are you?", None)
    await crm.send_sms(lead, "Call me")
    await crm.log_note(lead.id, NoteDraft(content="xylophone", kind="call", occurred_at=now() - timedelta(days=2)))
    await crm.log_note(lead.id, NoteDraft(content="plain", outcome="fine"))
    await crm.create_task(lead.id, TaskFields(title="Ring", due_at=now(), priority="high"))
    await crm.create_deal(lead.id, DealFields(name="Line 4", value=4.5, closes_at=now()), None)
    (sequence,) = await crm.sequences()
    await crm.enroll(sequence.id, lead.id)
    await crm.unenroll(sequence.id, lead.id)
    await crm.enroll(sequence.id, lead.id)
    await crm.block(lead, ["sms"], "asked for it")
    return await crm.get_lead(lead.id)


async def deleted(crm: Local, kind: RecordKind, record: str) -> dict[str, Any]:
    """Delete a record; returns its image as it comes out of a file of text."""
    image = json.loads(json.dumps(await crm.image(kind, record)))
    await crm.delete(kind, record)
    return image


async def refused(crm: Local, folder: Path, kind: RecordKind, image: Mapping[str, Any], error: type[CrmError]) -> str:
    """Return why an image is not brought back, after looking that nothing was written."""
    before = everything(folder)
    with pytest.raises(error) as found:
        await crm.restore(kind, image)
    assert everything(folder) == before
    assert found.value.wrote is False
    return str(found.value)


async def test_a_deleted_lead_comes_back_with_all_that_it_had(crm: Local, tmp_path: Path):
    lead = await a_full_lead(crm)
    other = await crm.create_lead(LeadDraft(name="Bob", tags=("vip",)))
    before = everything(tmp_path)

    image = await deleted(crm, "lead", lead.id)
    with pytest.raises(NotFound):
        await crm.get_lead(lead.id)
    await crm.restore("lead", image)

    assert everything(tmp_path) == before
    assert await crm.get_lead(lead.id) == lead
    for query in ("jane", "ødegård", "5550101", "xylophone"):
        assert [each.id for each in (await crm.search_leads(LeadFilter(query=query), Slice())).items] == [lead.id]
    assert (await crm.search_leads(LeadFilter(tag="vip"), Slice())).total == 2
    assert await crm.get_lead(other.id) == other


async def test_single_records_come_back_as_they_were(crm: Local, tmp_path: Path):
    lead = await a_full_lead(crm)
    call = next(each for each in (await crm.list_notes(lead.id, Slice())).items if each.kind == "call")
    loose = await crm.create_task(None, TaskFields(title="Tidy up"))
    (task, *_) = (await crm.list_tasks(lead.id, None, None, Slice())).items
    deal = await crm.create_deal(None, DealFields(name="Nobody's"), None)
    newest = await crm.log_note(lead.id, NoteDraft(content="just now", kind="meeting"))
    before = everything(tmp_path)

    records: list[tuple[RecordKind, str]] = [
        *(("note", call.id), ("note", newest.id)),
        *(("task", task.id), ("task", loose.id), ("deal", deal.id)),
    ]
    images: list[tuple[RecordKind, Any]] = [(kind, await deleted(crm, kind, record)) for kind, record in records]
    for kind, image in images:
        await crm.restore(kind, image)

    assert everything(tmp_path) == before


async def test_what_is_there_is_not_brought_back_a_second_time(crm: Local, tmp_path: Path):
    lead = await a_full_lead(crm)
    (note, *_) = (await crm.list_notes(lead.id, Slice())).items
    of_note = await crm.image("note", note.id)
    image = await deleted(crm, "lead", lead.id)
    await crm.restore("lead", image)

    assert f"{lead.id} is there already" in await refused(crm, tmp_path, "lead", image, Conflict)
    assert f"{note.id} is there already" in await refused(crm, tmp_path, "note", of_note, Conflict)


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (LeadDraft(name="Jane", email="jane@ACME.example"), "e-mail address belongs to L2 (Jane)"),
        (LeadDraft(name="Jane", phone="+12125550101"), "number belongs to L2 (Jane)"),
        (LeadDraft(name="Jane"), "imported again meanwhile, as L2"),
    ],
)
async def test_a_lead_does_not_come_back_beside_another_with_its_address(
    crm: Local, tmp_path: Path, again: LeadDraft, said: str
):
    lead = await a_full_lead(crm)
    image = await deleted(crm, "lead", lead.id)
    await crm.import_leads(
        [ImportRow(draft=again, key="file:7" if not (again.email or again.phone) else None)], "error"
    )

    assert said in await refused(crm, tmp_path, "lead", image, Conflict)


async def test_a_record_does_not_come_back_without_its_lead(crm: Local, tmp_path: Path):
    lead = await a_full_lead(crm)
    note = await crm.log_note(lead.id, NoteDraft(content="x"))
    task = await crm.create_task(lead.id, TaskFields(title="x"))
    records: list[tuple[RecordKind, str]] = [("note", note.id), ("task", task.id)]
    images: list[tuple[RecordKind, Any]] = [(kind, await deleted(crm, kind, record)) for kind, record in records]
    await crm.delete("lead", lead.id)

    for kind, image in images:
        assert f"{lead.id}, is gone" in await refused(crm, tmp_path, kind, image, Conflict)


async def test_all_of_a_lead_comes_back_or_nothing(crm: Local, tmp_path: Path):
    lead = await a_full_lead(crm)
    image = await deleted(crm, "lead", lead.id)
    image["rows"]["deals"][0]["stage"] = 99

    assert "stage or sequence" in await refused(crm, tmp_path, "lead", image, Conflict)


async def test_what_is_no_image_of_this_kind_is_refused(crm: Local, tmp_path: Path):
    lead = await a_full_lead(crm)
    image = await deleted(crm, "lead", lead.id)
    table, extra, columns = (json.loads(json.dumps(image)) for _ in range(3))
    table["rows"]["blocked"] = [{"n": 1}]
    extra["rows"]["leads"].append({**extra["rows"]["leads"][0], "n": 77})
    columns["rows"]["notes"][0]["n) VALUES (1); --"] = 1

    others: list[dict[str, Any]] = [{}, {**image, "form": 2}, {**image, "rows": []}]
    for bad in (*others, table, extra, columns):
        await refused(crm, tmp_path, "lead", bad, InvalidArgument)
    await refused(crm, tmp_path, "task", image, InvalidArgument)


async def test_an_image_is_of_what_is_there_alone(crm: Local):
    for kind in sorted(crm.deletes):
        with pytest.raises(NotFound):
            await crm.image(kind, "X9")


async def test_a_message_of_which_nobody_knows_whether_it_left_is_not_recalled(crm: Local, tmp_path: Path):
    lead = await a_full_lead(crm)
    db = sqlite3.connect(tmp_path / "data" / "crm.sqlite3")
    for status in ("sending", "unknown", "failed"):
        db.execute("UPDATE messages SET status = ?", (status,))
        db.commit()
        assert await crm.sent_message(lead, "sms", "Call me", None, now() - timedelta(hours=1), frozenset()) is None
    db.execute("UPDATE messages SET status = 'sent'")
    db.commit()
    db.close()

    assert await crm.sent_message(lead, "sms", "Call me", None, now() - timedelta(hours=1), frozenset())
