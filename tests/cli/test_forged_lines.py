"""Nothing from outside begins a line of its own in what the commands print: of any value they print the lines that they
print of a harmless one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from crm_mcp.actions.audit import denied
from crm_mcp.cli.approvals import list_waiting, show
from crm_mcp.cli.auditing import print_log
from crm_mcp.cli.checking import check_all
from crm_mcp.cli.importing import run_import
from crm_mcp.config import Connection, Settings
from crm_mcp.model import ImportOutcome, ImportRow
from crm_mcp.sandbox.emulator import Answer, Call, route
from crm_mcp.sandbox.salessheet import SalesSheetEmulator
from crm_mcp.sandbox.serving import serving
from crm_mcp.server.app import Application
from crm_mcp.store import Action, NewAction
from tests.hostile import FORGED, LINE_ENDS, MOVES, WORST, lines_of, values

from .running import run

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
OFTEN = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
TYPED = "x" + "".join(f"{end}FAULT: forged" for end in (*LINE_ENDS, "\x1b[2K\r", "\x1bE")) + "\u202e\b"
"""What a person could be made to type or paste."""


def printed(work: Any, *arguments: Any) -> list[str]:
    out = io.StringIO()
    with redirect_stdout(out):
        anyio.run(work, *arguments)
    return lines_of(out.getvalue())


def waiting(caller: str, summary: str, preview: str | None, tool: str = "send_sms") -> NewAction:
    return NewAction(
        caller=caller,
        connection="local",
        tool=tool,
        effect="outward",
        arguments={},
        digest=f"{caller}{summary}",
        summary=summary,
        preview=preview,
        asked="approval",
    )


def shown(new: NewAction) -> list[str]:
    """Return the entry of an action that waits."""
    row = Action.model_construct(
        **dict(new), id="a_real", status="pending_approval", created_at=NOON, expires_at=NOON + timedelta(days=3)
    )
    out = io.StringIO()
    with redirect_stdout(out):
        show(row)
    return lines_of(out.getvalue())


@given(caller=values, summary=values, preview=st.none() | values, tool=values)
@example(caller=WORST, summary=WORST, preview=None, tool=WORST)
@example(caller="ann via x", summary="SMS", preview=WORST, tool="send_sms")
def test_an_entry_of_the_queue_has_one_heading_and_the_rest_behind_a_margin(
    caller: str, summary: str, preview: str | None, tool: str
):
    heading, *rest = shown(waiting(caller, summary, preview, tool))
    harmless, *one = shown(waiting("ann via x", "SMS", None))

    assert heading.startswith("a_real  ")
    assert heading.endswith(", since 2026-03-20T12:00:00Z, until 2026-03-23T12:00:00Z")
    assert harmless.startswith('a_real  send_sms on local, asked by "ann via x", since ')
    assert all(line.startswith("    ") or not line for line in rest)
    assert heading.count('"') == harmless.count('"') + tool.count('"') or len(tool) > 60
    assert preview or len(rest) <= len(one) or len(summary.splitlines()) > 1


def test_what_an_earlier_version_has_kept_forges_no_entry_either(tmp_path: Path):
    application = Application(Settings(data_dir=tmp_path))

    async def propose() -> list[str]:
        rows = [waiting(WORST, WORST, WORST), waiting("ann via x", "SMS to Jane", None)]
        try:
            made = [
                await application.store.actions.propose(each, timedelta(days=3), "pending_approval") for each in rows
            ]
            return [each.id for each in made]
        finally:
            await application.aclose()

    ids = anyio.run(propose)

    lines = printed(list_waiting, Application(Settings(data_dir=tmp_path)))

    assert [line.split()[0] for line in lines if line and not line.startswith("    ")] == ids


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@OFTEN
@given(caller=values, tool=values, reason=values, arguments=st.dictionaries(values, values, max_size=2))
@example(caller=WORST, tool=WORST, reason=WORST, arguments={WORST: WORST})
def test_an_entry_of_the_log_is_one_line(log: Path, caller: str, tool: str, reason: str, arguments: dict[str, str]):
    application = Application(Settings(data_dir=log))

    async def record() -> int:
        await application.store.audit.record(denied(caller, tool, arguments, reason, WORST))
        return len(await application.store.audit.entries(None, 0, 10_000))

    entries = anyio.run(record)
    lines = printed(lambda: print_log(application, None, as_json=False))
    objects = printed(lambda: print_log(application, None, as_json=True))

    assert [line.split()[0] for line in lines] == [str(number + 1) for number in range(entries)]
    assert [json.loads(line)["no"] for line in objects] == [*range(1, entries + 1)]


class Boastful(SalesSheetEmulator):
    """Its organisation, user and plan have names that try to be more."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @route("GET", "/v1/me")
    def me(self, _: Call) -> Answer:
        told = {"user": {"name": self.name}, "organization": {"name": self.name, "plan": self.name}}
        return self._enveloped(told, "")


@pytest.mark.parametrize("name", [WORST.replace("\ud800", ""), *(f"x{end}{FORGED[6]}" for end in (*LINE_ENDS, *MOVES))])
def test_what_a_vendor_calls_itself_stays_in_its_line(tmp_path: Path, name: str):
    found: list[list[str]] = []
    for each in (name, "Fern and Field"):
        emulator = Boastful(each)
        with serving(emulator) as url:
            connection = Connection.model_validate(
                {"vendor": "salessheet", "name": "away", "api_key": emulator.key, "base_url": url}
            )
            found.append(printed(check_all, Application(Settings(data_dir=tmp_path, connections=(connection,)))))

    assert len(found[0]) == len(found[1])
    assert found[0][0] == "away (salessheet): ok"
    assert all(line.startswith("  ") for line in found[0][1:])


def imported(folder: Path, file: str, header: str, cell: str, told: str) -> list[str]:
    """Return what is printed of an import with such a file, header and cell, into a CRM that tells this of each row."""
    path = folder / file
    with path.open("w", encoding="utf-8", newline="") as text:
        rows = [["Ann", f"{each}@example.com", "x"] for each in ("failed", "updated", "skipped", "created")]
        csv.writer(text).writerows([["name", "email", header], [cell, "b@", cell], [cell, cell, "x"], *rows])
    out = io.StringIO()
    console = Console(file=out, width=500, color_system=None)

    async def take(rows: Sequence[ImportRow]) -> tuple[ImportOutcome, ...]:
        outcomes = [(row.draft.email or "").split("@")[0] for row in rows]
        return tuple(
            ImportOutcome.model_validate({"outcome": each, "id": "L1", "whom": told, "reason": told})
            for each in outcomes
        )

    async def work() -> None:
        await run_import(path, [], "skip", sink=take, batch=10, country=None, console=console)

    try:
        anyio.run(work)
    finally:
        for each in folder.iterdir():
            each.unlink()
    return lines_of("\n".join(line.rstrip() for line in out.getvalue().split("\n")))


def _without(text: str, *characters: str) -> str:
    for each in characters:
        text = text.replace(each, "")
    return text


names = values.map(lambda each: _without(each, "/", "\x00", "\ud800", ".")[:50])


@OFTEN
@given(file=names, header=values, cell=values, told=values)
@example(file="x", header="Notes\nforged", cell=WORST, told=WORST)
def test_an_import_prints_what_it_would_of_a_harmless_file(
    tmp_path: Path, file: str, header: str, cell: str, told: str
):
    header, cell = (_without(each, "\x00", "\ud800") for each in (header, cell))
    if not header.strip() or not cell.strip():
        return

    harmless = imported(tmp_path, "leads.csv", "Colour", "Ann", "no")
    lines = imported(tmp_path, f"{file}.csv", f"Colour {header}", f"Ann {cell}", told)

    assert len(lines) == len(harmless)
    assert "Skipped, because they are there:" in harmless
    assert not [line for line in lines if line.startswith(FORGED)]


HARMLESS = "zzz"
COMMANDS: list[tuple[list[str], dict[str, str]]] = [
    (["approvals", "VALUE"], {}),
    (["approvals", "approve", "--yes", "VALUE"], {}),
    (["approvals", "decline", "VALUE", "a_1"], {}),
    (["outbound", "VALUE"], {}),
    (["audit", "--since", "VALUE"], {}),
    (["audit", "--verify", "--head", "VALUE"], {}),
    (["import", "VALUE"], {}),
    (["import", "leads.csv", "--map", "VALUE"], {}),
    (["import", "leads.csv", "--map", "VALUE=VALUE"], {}),
    (["import", "leads.csv", "--crm", "VALUE"], {}),
    (["import", "leads.csv", "--if-exists", "VALUE"], {}),
    (["call", "VALUE"], {}),
    (["call", "get_lead", "VALUE"], {}),
    (["call", "get_lead", "lead=VALUE"], {}),
    (["call", "get_lead", "VALUE=1"], {}),
    (["call", "get_lead", "--json", "VALUE"], {}),
    (["call", "get_lead", "lead=VALUE", "--output", "json"], {}),
    (["call", "search_leads", "query=VALUE"], {}),
    (["call", "log_note", "lead=L1", "content=Met. VALUE"], {}),
    (["sandbox", "VALUE"], {}),
    (["sandbox", "--switch", "VALUE"], {}),
    (["check", "VALUE"], {}),
    (["check", "--VALUE"], {}),
    (["VALUE"], {}),
    (["serve", "--http", "VALUE"], {}),
    (["serve"], {"CRM_MCP_VENDOR": "VALUE"}),
    (["check"], {"CRM_MCP_VENDOR": "VALUE"}),
    (["check"], {"CRM_MCP_COUNTRY": "VALUE"}),
    (["check"], {"CRM_MCP_CONFIG": "VALUE"}),
    (["check"], {"CRM_MCP_TOOLS": "VALUE"}),
    (["check"], {"CRM_MCP_TOOLSETS": "VALUE"}),
    (["check"], {"CRM_MCP_BASE_URL": "VALUE"}),
    (["check"], {"CRM_MCP_READ_ONLY": "VALUE"}),
    (["check"], {"CRM_MCP_VALUE": "x"}),
    (["check"], {"CRM_MCP_DATA_DIR": "/dev/null/VALUE"}),
    (["import", "leads.csv"], {"CRM_MCP_DATA_DIR": "/dev/null/VALUE"}),
]


@pytest.mark.parametrize(("words", "variables"), COMMANDS, ids=lambda each: " ".join(each))
def test_a_command_says_in_as_many_lines_what_is_wrong_with_any_value(
    tmp_path: Path, words: list[str], variables: dict[str, str]
):
    (tmp_path / "leads.csv").write_text("name\nAnn\n")

    said: list[tuple[int, list[int]]] = []
    for value in (HARMLESS, TYPED):
        given_so = {name.replace("VALUE", value): each.replace("VALUE", value) for name, each in variables.items()}
        result = run(tmp_path, *(each.replace("VALUE", value) for each in words), **given_so)
        lines = [lines_of(stream) for stream in (result.stdout, result.stderr)]
        said.append((result.returncode, [*map(len, lines)]))
        assert not [line for each in lines for line in each if line.startswith(FORGED)]

    assert said[0] == said[1]
