"""`crm-mcp import` gives a lead no more custom fields than any other way does."""

from __future__ import annotations

import csv
from pathlib import Path

from .running import names, run, write_csv


def test_a_row_with_too_much_in_its_custom_fields_is_rejected(tmp_path: Path) -> None:
    columns = [f"Note {n}" for n in range(11)]
    rows = [["name", *columns], ["Ann", *["v" * 19_000] * 11], ["Bob", *["v" * 1_000] * 11]]
    file = write_csv(tmp_path / "leads.csv", rows)
    maps = [part for each in columns for part in ("--map", f"{each}=custom_fields.{each}")]

    result = run(tmp_path, "import", str(file), *maps, "--yes")

    assert "1 created, 0 updated, 0 skipped, 1 rejected" in result.stdout
    assert names(tmp_path) == ["Bob"]
    with (tmp_path / "leads.rejected.csv").open(newline="") as rejected:
        assert "characters in all; give at most 200000" in [*csv.reader(rejected)][1][-1]
