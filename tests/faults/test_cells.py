"""Each tool under each fault at each moment: never twice, never lost, never falsely done, never without its yes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from crm_mcp.actions import outbox
from crm_mcp.backends import http
from crm_mcp.backends.http import Api

from .cells import PAIRS, Trials, cells_of, table
from .report import Report
from .served import CONFIRMATIONS, Confirmation, made_state
from .wire import ONE_TRY, Wires


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_state(tmp_path_factory.mktemp("template")).parent


@pytest.fixture
def trials(wires: Wires, template: Path, tmp_path: Path) -> Trials:
    return Trials(wires, template, tmp_path)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("vendor", "tool"), PAIRS)
async def test_a_fault_at_any_moment_leaves_one_effect_and_the_truth(
    trials: Trials, report: Report, monkeypatch: pytest.MonkeyPatch, vendor: str, tool: str
) -> None:
    made: dict[Confirmation, tuple[list[tuple[str, str]], Counter[Any]]] = {
        by: await trials.requests(vendor, tool, by) for by in CONFIRMATIONS
    }
    cells = cells_of(vendor, tool, {by: each[0] for by, each in made.items()})
    monkeypatch.setattr(http, "ONE_TRY", ONE_TRY)
    monkeypatch.setattr(http, "ALL_TRIES", 3 * ONE_TRY)
    monkeypatch.setattr(Api, "first_pause", 0.02)
    monkeypatch.setattr(outbox, "LOOK_PAUSES", (0.0, 0.3))

    outcomes = await trials.all(cells, {by: each[1] for by, each in made.items()})

    report.cells(table(outcomes), slowest=max(each.slowest for each in outcomes))
    assert {str(each.cell): each.wrong for each in outcomes if each.wrong} == {}
    assert len(outcomes) >= 22
