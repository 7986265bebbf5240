"""`crm-mcp import` on the terminal, with a small sink in the CRM's place."""

from __future__ import annotations

import asyncio
import csv
import io
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from crm_mcp.cli import importing
from crm_mcp.cli.importing import Totals, run_import
from crm_mcp.errors import InvalidArgument, Unreachable
from crm_mcp.model import IfExists, ImportOutcome, ImportRow


class Crm:
    """Knows rows by their keys, as a backend does; `each` happens with every batch."""

    def __init__(self, each: Callable[[int], None] = lambda _: None) -> None:
        self.batches: list[list[ImportRow]] = []
        self.keys: set[str | None] = set()
        self._each = each

    @property
    def names(self) -> list[str | None]:
        return [row.draft.name for batch in self.batches for row in batch]

    async def take(self, rows: Sequence[ImportRow]) -> tuple[ImportOutcome, ...]:
        self._each(len(self.batches))
        self.batches.append(list(rows))
        outcomes: list[ImportOutcome] = []
        for row in rows:
            if row.key in self.keys:
                outcomes.append(ImportOutcome(outcome="skipped"))
            elif row.draft.company == "refused":
                outcomes.append(ImportOutcome(outcome="failed", reason="L7 has this address already"))
            else:
                outcomes.append(ImportOutcome(outcome="updated" if row.draft.company == "known" else "created"))
                self.keys.add(row.key)
        return tuple(outcomes)


def run(
    path: Path,
    crm: Crm,
    *mappings: str,
    batch: int = 2,
    if_exists: IfExists = "skip",
    terminal: bool = False,
    ask: Callable[[str], bool] | None = None,
    dry_run: bool = False,
) -> tuple[Totals, str]:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal, color_system=None)
    totals = asyncio.run(
        run_import(
            path,
            mappings,
            if_exists,
            sink=crm.take,
            batch=batch,
            country=None,
            console=console,
            ask=ask,
            dry_run=dry_run,
        )
    )
    return totals, out.getvalue()


def leads(folder: Path, text: str = "name,company\nAnn,A\nBob,B\nCid,C\nDan,D\nEve,E\n") -> Path:
    path = folder / "leads.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def rejected(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def test_all_rows_go_to_the_crm_in_batches_and_are_counted(tmp_path: Path):
    crm = Crm()

    totals, shown = run(leads(tmp_path, "name,company\nAnn,A\nBob,known\nAnn,A\n"), crm)

    assert [len(batch) for batch in crm.batches] == [2, 1]
    assert (totals.created, totals.updated, totals.skipped, totals.rejected, totals.exit_code) == (1, 1, 1, 0, 0)
    assert "leads.csv: 1 created, 1 updated, 1 skipped, 0 rejected; " in shown
    assert list(tmp_path.iterdir()) == [tmp_path / "leads.csv"]


def test_the_plan_shows_encoding_delimiter_mapping_samples_and_what_is_ignored(tmp_path: Path):
    path = leads(tmp_path, "Full Name;Firma;Budget\nAnn;[bold]A;5\nBob\x1b[2J;B;6\n")

    shown = run(path, Crm())[1]

    assert "leads.csv: utf-8, semicolon, 3 columns; rows that exist already are skipped" in shown
    assert "Full Name │ name    │ Ann, Bob·[2J" in shown
    assert "Firma     │ company │ [bold]A, B" in shown
    assert 'Not imported: Budget.\nTo keep one: --map "Budget=custom_fields.Budget"' in shown


def test_nothing_is_imported_where_the_answer_is_no(tmp_path: Path):
    crm, asked = Crm(), list[str]()

    totals, _ = run(leads(tmp_path), crm, ask=lambda question: bool(asked.append(question)))

    assert (crm.batches, totals.refused, totals.rows, asked) == ([], True, 0, ["Import it?"])


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path):
    crm = Crm()

    totals, shown = run(leads(tmp_path, "name,email\nAnn,a@example.com\nBob,b@\n"), crm, dry_run=True)

    assert (crm.batches, totals.ready, totals.rejected) == ([], 1, 1)
    assert "1 could be imported, 1 rejected" in shown
    assert list(tmp_path.iterdir()) == [tmp_path / "leads.csv"]


def test_a_header_alone_is_said_to_have_no_rows(tmp_path: Path):
    totals, shown = run(leads(tmp_path, "name\n"), Crm())

    assert (totals.rows, totals.exit_code) == (0, 0)
    assert "The file has a header and no rows: there is nothing to import." in shown


def test_a_file_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path: Path):
    crm = Crm()

    with pytest.raises(InvalidArgument, match="no column says who the leads are"):
        run(leads(tmp_path, "colour\nred\n"), crm)

    assert crm.batches == []


def test_rejected_rows_are_in_a_file_beside_it_with_line_and_reason_in_order(tmp_path: Path):
    path = leads(tmp_path, "name;company;email\nAnn;refused;\nBob;B;b@\nCid;C\nDan;D;;extra\nEve;E;\n=1+1;F;x\n")
    (tmp_path / "leads.rejected.csv").write_text("of an earlier run")

    totals, shown = run(path, Crm(), batch=10)

    assert totals.rejects == tmp_path / "leads.rejected.csv"
    assert rejected(tmp_path / "leads.rejected.csv", ";") == [
        ["name", "company", "email", "line", "reason"],
        ["Ann", "refused", "", "2", "L7 has this address already"],
        ["Bob", "B", "b@", "3", 'email: "b@" is no e-mail address'],
        ["Cid", "C", "", "4", "2 of 3 columns: cut off?"],
        ["Dan", "D", "", "5", "4 cells for 3 columns: a cell with the delimiter in it must be quoted", "extra"],
        ["=1+1", "F", "x", "7", 'email: "x" is no e-mail address'],
    ]
    assert (totals.created, totals.rejected, totals.exit_code) == (1, 5, 0)
    assert 'line 3: email: "b@" is no e-mail address' in shown
    assert "and 2 more" in shown


def test_the_rejected_rows_once_repaired_can_be_imported_themselves(tmp_path: Path):
    crm = Crm()
    first, _ = run(leads(tmp_path, "name,email\nAnn,ann@\n"), crm)
    assert first.rejects is not None
    first.rejects.write_text(first.rejects.read_text().replace("ann@,", "ann@example.com,"))

    second, _ = run(first.rejects, crm)

    assert (first.exit_code, second.exit_code, second.created) == (1, 0, 1)
    assert crm.batches[0][0].draft.email == "ann@example.com"


ROWS = st.tuples(st.text('aé," \n;', max_size=6), st.sampled_from(["", "a@example.com", "b@", 'c"@x,y']))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(table=st.lists(ROWS, max_size=8))
def test_every_row_is_either_in_the_crm_or_in_the_rejects_with_its_reason(tmp_path: Path, table: list[tuple[str, str]]):
    out = io.StringIO()
    csv.writer(out).writerows([("name", "email"), *table])
    wanted = [row for row in table if "".join(row).strip()]
    crm = Crm()

    totals, _ = run(leads(tmp_path, out.getvalue()), crm, batch=3)

    refused = rejected(totals.rejects)[1:] if totals.rejects else []
    assert len(crm.names) + len(refused) == len(wanted) == totals.rows
    assert all(reason.startswith("email: ") for *_, reason in refused)
    assert [row[1] for row in refused] == [email for _, email in wanted if email.startswith(("b", "c"))]


def test_where_the_rejects_cannot_be_written_they_are_listed_on_the_terminal(tmp_path: Path):
    (tmp_path / "leads.rejected.csv").mkdir()

    totals, shown = run(leads(tmp_path, "name,email\nAnn,a@\nBob,b@\nCid,c@\nDan,d@\nEve,\n"), Crm())

    assert (totals.rejects, totals.rejected, totals.created) == (None, 4, 1)
    assert "leads.rejected.csv can't be written" in shown
    for line, name in enumerate("abcd", 2):
        assert f'line {line}: email: "{name}@" is no e-mail address' in shown


def test_a_folder_that_is_read_only_is_said_before_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(path: Path, mode: int) -> bool:  # in the system's place: root may write everywhere
        return False

    monkeypatch.setattr("os.access", denied)

    totals, shown = run(leads(tmp_path, "name,email\nAnn,a@\nBob,\n"), Crm())

    assert (totals.rejects, totals.created) == (None, 1)
    assert shown.index("can't be written (no permission)") < shown.index('line 2: email: "a@" is no e-mail address')


def test_rejects_of_an_earlier_run_are_left_and_said_to_be_old(tmp_path: Path):
    (tmp_path / "leads.rejected.csv").write_text("mine")

    shown = run(leads(tmp_path), Crm())[1]

    assert "leads.rejected.csv is of an earlier run." in shown
    assert (tmp_path / "leads.rejected.csv").read_text() == "mine"


def test_ctrl_c_stops_after_the_batch_and_running_it_again_goes_on_without_duplicates(tmp_path: Path):
    crm = Crm(lambda number: signal.raise_signal(signal.SIGINT) if number == 0 else None)
    before = signal.getsignal(signal.SIGINT)

    first, shown = run(leads(tmp_path), crm)
    second, _ = run(leads(tmp_path), crm)

    assert (first.interrupted, first.created, first.line, first.exit_code) == (True, 2, 3, 130)
    assert "Interrupted after line 3. Running it again goes on there, without duplicates." in shown
    assert (second.interrupted, second.skipped, second.created) == (False, 2, 3)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_the_last_batch_interrupts_nothing(tmp_path: Path):
    totals, _ = run(leads(tmp_path), Crm(lambda _: signal.raise_signal(signal.SIGINT)), batch=10)

    assert (totals.interrupted, totals.created) == (False, 5)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path):
    def twice(number: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(leads(tmp_path), Crm(twice))


def test_an_edited_file_imports_what_is_new_in_it(tmp_path: Path):
    crm = Crm()
    run(leads(tmp_path), crm)

    totals, _ = run(leads(tmp_path, "company;name\nE;Eve\nZ; Zoe\nA;Ann\n"), crm)

    assert (totals.created, totals.skipped) == (1, 2)


def test_an_error_of_the_crm_says_how_far_it_got(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def break_down(number: int) -> None:
        if number == 1:
            raise Unreachable("the CRM can't be reached", "try again later")

    crm = Crm(break_down)
    console = Console(width=100)

    with pytest.raises(Unreachable):
        asyncio.run(run_import(leads(tmp_path), [], "skip", sink=crm.take, batch=2, country=None, console=console))

    assert "Stopped after line 3: 2 created, 0 updated, 0 skipped, 0 rejected." in capsys.readouterr().out
    assert crm.names == ["Ann", "Bob"]


def test_without_a_terminal_progress_is_plain_lines_and_with_one_a_bar(tmp_path: Path):
    path = leads(tmp_path)

    plain = run(path, Crm(), batch=10)[1]
    bar = run(path, Crm(), terminal=True)[1]

    assert "100%: 5 rows\n" in plain
    assert "\x1b" not in plain
    assert "━" in bar.rsplit("Company", 1)[-1]
    assert "5 rows" in bar


def test_a_batch_of_long_cells_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importing, "BATCH_CHARACTERS", 100)
    crm = Crm()

    run(leads(tmp_path, "name,notes\n" + f"Ann,{'x' * 60}\n" * 4), crm, batch=1_000)

    assert [len(batch) for batch in crm.batches] == [2, 2]
