from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from crm_mcp.backends.local import Local, database
from crm_mcp.backends.local.database import File
from crm_mcp.errors import CrmError, Internal, Unreachable
from crm_mcp.model import ImportRow, LeadDraft, LeadFilter, NoteDraft, Slice

WORKER = """
import sys, anyio
from pathlib import Path
from typing import Any
from crm_mcp.backends.local import Local
from crm_mcp.model import ImportRow, LeadDraft

async def main(folder, name, size, batches):
    crm = Local(Path(folder), sample=name == "sample")
    await crm.check()
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in range(batches):
        rows = [ImportRow(draft=LeadDraft(name=f"{name} {batch} {i}", tags=("t",))) for i in range(size)]
        await crm.import_leads(rows, "skip")
        print(batch, flush=True)
    await crm.aclose()

anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
"""


def worker(folder: Path, name: str, size: int, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(folder), name, str(size), str(batches)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def plain(folder: Path) -> File:
    return File(folder, needed=lambda _: False, prepare=lambda _: None)


async def refused(crm: Local) -> CrmError:
    with pytest.raises(Unreachable) as caught:
        await crm.create_lead(LeadDraft(name="Jane"))
    await crm.aclose()
    assert caught.value.wrote is False
    assert caught.value.fix
    return caught.value


async def test_construction_touches_nothing(tmp_path: Path):
    crm = Local(tmp_path / "data", sample=True, mailbox="me@acme.example")

    await crm.aclose()
    assert [each async for each in anyio.Path(tmp_path).iterdir()] == []


async def test_only_the_user_can_read_what_is_kept(crm: Local, tmp_path: Path):
    await crm.create_lead(LeadDraft(name="Jane"))

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "data").iterdir()} == {0o600}


async def test_what_was_written_is_there_when_opened_again(crm: Local, tmp_path: Path):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    await crm.aclose()
    again = Local(tmp_path / "data")

    assert await again.get_lead(lead.id) == lead
    assert (await again.check()).found == f"1 lead, 0 deals; file {tmp_path / 'data' / 'crm.sqlite3'}"
    await again.aclose()


async def test_the_file_waits_syncs_and_keeps_its_references(tmp_path: Path):
    def pragmas(db: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "user_version")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    file = plain(tmp_path)
    assert await file.read(pragmas) == ["wal", 2, 1, 5000, 1]
    await file.aclose()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "crm.sqlite3").write_text("dear diary " * 500)

    error = await refused(Local(tmp_path))

    assert "is no SQLite database" in str(error)
    assert (tmp_path / "crm.sqlite3").read_text() == "dear diary " * 500


async def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path):
    with sqlite3.connect(tmp_path / "crm.sqlite3") as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = (tmp_path / "crm.sqlite3").read_bytes()

    error = await refused(Local(tmp_path))

    assert "another program" in str(error)
    assert (tmp_path / "crm.sqlite3").read_bytes() == before


async def test_a_file_of_a_newer_version_is_refused(crm: Local, tmp_path: Path):
    await crm.create_lead(LeadDraft(name="Jane"))
    await crm.aclose()
    with sqlite3.connect(tmp_path / "data" / "crm.sqlite3") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()

    error = await refused(Local(tmp_path / "data"))

    assert "newer version" in str(error)
    assert "upgrade" in str(error)


async def test_a_damaged_file_is_refused(crm: Local, tmp_path: Path):
    await crm.import_leads([ImportRow(draft=LeadDraft(name=f"Jane {i}")) for i in range(500)], "skip")
    await crm.aclose()
    path = tmp_path / "data" / "crm.sqlite3"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    assert "is damaged" in str(await refused(Local(tmp_path / "data")))


async def test_a_folder_that_can_not_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("x")

    assert "CRM_MCP_DATA_DIR" in str(await refused(Local(tmp_path / "file" / "data")))


async def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path):
    (tmp_path / "crm.sqlite3").mkdir()

    assert "can't be opened" in str(await refused(Local(tmp_path)))


async def test_a_read_only_disk_is_refused(small_disk: Path):
    crm = Local(small_disk / "data")
    await crm.create_lead(LeadDraft(name="Jane"))
    await crm.aclose()
    await anyio.run_process(["mount", "-o", "remount,ro", str(small_disk)])

    for folder in (small_disk / "data", small_disk / "new"):
        assert await refused(Local(folder))


async def test_a_full_disk_loses_nothing_and_writes_no_half(small_disk: Path):
    crm = Local(small_disk / "data")
    written: list[str | None] = []

    async def fill() -> None:
        for batch in range(100):
            rows = [ImportRow(draft=LeadDraft(name=f"Jane {batch} {i}", company="Acme")) for i in range(200)]
            written.extend(each.id for each in await crm.import_leads(rows, "skip"))

    with pytest.raises(Unreachable) as caught:
        await fill()

    assert caught.value.wrote is False
    assert "nothing was written" in str(caught.value)
    assert (await crm.search_leads(LeadFilter(query="jane"), Slice())).total == len(written)
    await crm.aclose()
    again = Local(small_disk / "data")
    assert (await again.search_leads(LeadFilter(), Slice())).total == len(written)
    await again.aclose()


async def test_a_lock_that_is_not_let_go_is_an_error_that_says_so(
    crm: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    await crm.check()
    holder = sqlite3.connect(tmp_path / "data" / "crm.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unreachable, match="another process") as caught:
        await crm.create_lead(LeadDraft(name="Jane"))
    assert (await crm.search_leads(LeadFilter(), Slice())).total == 0
    holder.execute("ROLLBACK")
    holder.close()

    assert caught.value.wrote is False
    assert await crm.create_lead(LeadDraft(name="Jane"))


async def test_a_call_that_is_cancelled_leaves_no_transaction_open(crm: Local, tmp_path: Path):
    rows = [ImportRow(draft=LeadDraft(name=f"Jane {i}")) for i in range(3_000)]
    await crm.check()

    async with anyio.create_task_group() as group:
        group.start_soon(crm.import_leads, rows, "skip")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    assert await crm.create_lead(LeadDraft(name="Bob"))
    assert (await crm.search_leads(LeadFilter(query="jane"), Slice())).total in (0, len(rows))


async def test_a_verb_that_fails_in_the_middle_writes_nothing(crm: Local, tmp_path: Path):
    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO mailboxes (address) VALUES ('half@acme.example')")
        db.execute("INSERT INTO notes (lead, content, kind, occurred_at) VALUES (99, 'x', 'note', 0)")

    file = plain(tmp_path / "data")
    with pytest.raises(Internal):
        await file.write(half)
    await file.aclose()

    assert [each.address for each in await crm.mailboxes()] == ["crm@localhost"]


def test_processes_that_start_at_once_make_one_crm_with_one_sample(tmp_path: Path):
    started = [worker(tmp_path / "data", "sample", 1, 0) for _ in range(4)]
    ended = [each.communicate("go\n", timeout=50) for each in started]

    assert [each.returncode for each in started] == [0] * 4, ended
    with sqlite3.connect(tmp_path / "data" / "crm.sqlite3") as db:
        counts = [
            db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("leads", "stages", "mailboxes")
        ]
    db.close()
    assert counts == [300, 9, 2]


def test_two_processes_write_at_once_and_nothing_is_lost(tmp_path: Path):
    started = [worker(tmp_path / "data", name, 50, 40) for name in ("left", "right")]
    for each in started:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in started:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    ended = [each.communicate(timeout=50) for each in started]

    assert [each.returncode for each in started] == [0, 0], ended
    with sqlite3.connect(tmp_path / "data" / "crm.sqlite3") as db:
        names = [row[0] for row in db.execute("SELECT name FROM leads")]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM labels WHERE kind = 'tag'").fetchone() == (1,)
    db.close()
    assert len(names) == len(set(names)) == 4_000


@pytest.mark.parametrize("after", [1, 3, 6])
async def test_a_process_killed_in_the_middle_leaves_no_half_batch(tmp_path: Path, after: int):
    process = worker(tmp_path / "data", "jane", 700, 10_000)
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    told = [process.stdout.readline() for _ in range(after + 1)]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)

    crm = Local(tmp_path / "data")
    file = plain(tmp_path / "data")
    found = await file.read(_counts)
    await file.aclose()
    made = await crm.create_lead(LeadDraft(name="Next"))
    await crm.log_note(made.id, NoteDraft(content="still works"))
    await crm.aclose()

    assert told[-1] == f"{after - 1}\n"
    assert found["leads"] >= 700 * after
    assert found["leads"] % 700 == 0
    assert found["words"] == found["tagged"] == found["leads"]
    assert found["integrity"] == "ok"


def _counts(db: sqlite3.Connection) -> dict[str, Any]:
    return {
        "leads": db.execute("SELECT count(*) FROM leads").fetchone()[0],
        "words": db.execute("SELECT count(*) FROM lead_words WHERE lead_words MATCH 'jane'").fetchone()[0],
        "tagged": db.execute("SELECT count(*) FROM lead_labels").fetchone()[0],
        "integrity": db.execute("PRAGMA integrity_check").fetchone()[0],
    }
