"""Searching many leads through the real server, beside reading one lead through the same server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import people
from benchmarks.people import ACCENTED_SURNAME, NARROW_TAG, RARE_SURNAME, WIDE_TAG, Person
from benchmarks.process import COMMAND, Server, run
from benchmarks.report import Figure, Size, median, mib, ms, quantile

TITLE = "Search: search_leads on stdio"
NARROW = 1_000
"""Up to how many matches a query is narrow."""
MOST_RATIO = 5.0
MOST_SECONDS = 0.150
MOST_MEMORY = 120 * 1024
_WARM_UPS = 3
_DAY = 24 * 3600 * 1000
_LONG_AGO = 1_750_000_000_000

Arguments = Mapping[str, Any]


@dataclass
class Query:
    """A kind of search: its arguments by the person who is looked for, and what its calls took."""

    name: str
    arguments: Callable[[Person], Arguments]
    seconds: list[float] = field(default_factory=list[float])
    total: int | None = 0
    """The most that it found; None: more than are counted."""
    newest_first: bool = True

    def run(self, server: Server, person: Person, *, counts: bool) -> None:
        """Search once."""
        arguments = self.arguments(person)
        result, seconds = server.call("search_leads", arguments)
        if counts:
            self.seconds.append(seconds)
        total: int | None = result["total"]
        self.total = None if total is None or self.total is None else max(self.total, total)
        numbers = [int(lead["id"][1:]) for lead in result["leads"]]
        if "sort" not in arguments and numbers != sorted(numbers, reverse=True):
            self.newest_first = False

    def found(self) -> str:
        """Return how many it finds, in words."""
        return "more than 10,000" if self.total is None else f"{self.total:,}"


def _fixed(**arguments: Any) -> Callable[[Person], Arguments]:
    return lambda _: arguments


def _surname(person: Person) -> str:
    return person.name.split()[1]


def narrow() -> list[Query]:
    """Return the searches that find few leads."""
    return [
        Query("full e-mail", lambda person: {"query": person.email}),
        Query("last 4 digits of a phone", lambda person: {"query": person.phone[-4:]}),
        Query("last 7 digits of a phone", lambda person: {"query": person.phone[-8:]}),
        Query("first and last name", lambda person: {"query": person.name}),
        Query("surname", lambda person: {"query": _surname(person)}),
        Query("prefix of a rare surname", _fixed(query=RARE_SURNAME[:6].lower())),
        Query("accented word, unaccented", _fixed(query=ACCENTED_SURNAME.lower().replace("ñ", "n"))),
        Query("word of a company", lambda person: {"query": person.company.split()[0]}),
        Query("two common words", _fixed(query="maria logistics")),
        Query("three common words", _fixed(query="consult mar example alder")),
        Query("narrow tag", _fixed(tag=NARROW_TAG)),
        Query("narrow tag + a", _fixed(tag=NARROW_TAG, query="a")),
    ]


def broad() -> list[Query]:
    """Return the searches that find many leads."""
    return [
        Query("a", _fixed(query="a")),
        Query("prefix of a first name", _fixed(query="mar")),
        Query("word of an eighth", _fixed(query="international")),
        Query("word of all leads", _fixed(query="example")),
        Query("two wide words", _fixed(query="a logistics")),
        Query("status + a", _fixed(status="working", query="a")),
        Query("tag + a", _fixed(tag=WIDE_TAG, query="a")),
        Query("a, by name", _fixed(query="a", sort="name")),
        Query("tag + status + a, by name", _fixed(tag=WIDE_TAG, status="working", query="a", sort="name")),
        Query("no query", _fixed()),
        Query("no query, by name", _fixed(sort="name")),
        Query("status", _fixed(status="working")),
        Query("not contacted since", _fixed(not_contacted_since="2025-08-01")),
        Query("not contacted since, + a", _fixed(not_contacted_since="2025-08-01", query="a")),
        Query("100 a page", _fixed(query="a", limit=100)),
    ]


def measure(size: Size, folder: Path) -> Iterator[Figure]:
    """Fill a CRM with the real import, and search it."""
    _fill(size.leads, folder)
    persons = people.some(size.leads, size.rounds + _WARM_UPS)
    queries, wide = narrow(), broad()
    reads: list[float] = []
    with Server([COMMAND], folder) as server:
        for turn, person in enumerate(persons):
            counts = turn >= _WARM_UPS
            for place, query in enumerate(queries):
                # A read beside each search, so that both meet the same disturbances.
                _, seconds = server.call("get_lead", {"lead": f"L{1 + (turn * 97 + place * 7919) % size.leads}"})
                if counts:
                    reads.append(seconds)
                query.run(server, person, counts=counts)
            for query in wide:
                query.run(server, person, counts=counts)
        yield from _narrow_figures(queries, reads)
        yield from _broad_figures(wide, reads)
        yield Figure("get_lead, p50 / p95", f"{ms(median(reads))} / {ms(quantile(reads, 0.95))}")
        yield _memory("memory after the searches", server)
        yield from _writes(size, server)
        yield _memory("memory after the writes", server)


def _narrow_figures(queries: list[Query], reads: list[float]) -> Iterator[Figure]:
    p50, p95 = median(reads), quantile(reads, 0.95)
    baseline, target = f"{ms(p50)} / {ms(p95)}", f"p95 <= {MOST_RATIO:.0f} x"
    together = [each for query in queries for each in query.seconds]
    for name, seconds in (
        (f"all narrow ones (at most {max(query.total or 0 for query in queries):,} found)", together),
        *((f"{query.name} ({query.found()})", query.seconds) for query in queries),
    ):
        ratio = quantile(seconds, 0.95) / p95
        measured = f"{ms(median(seconds))} / {ms(quantile(seconds, 0.95))}"
        yield Figure(name, measured, baseline, ratio, target, ratio <= MOST_RATIO)
    wrong = [query.name for query in queries if query.total is None or query.total > NARROW or not query.total]
    if wrong:
        yield Figure("not narrow, or found nothing", ", ".join(wrong), ok=False)


def _broad_figures(queries: list[Query], reads: list[float]) -> Iterator[Figure]:
    p95_read = quantile(reads, 0.95)
    for query in queries:
        p95 = quantile(query.seconds, 0.95)
        measured = f"{ms(median(query.seconds))} / {ms(p95)}"
        good = p95 <= MOST_SECONDS and query.newest_first
        name = f"broad: {query.name} ({query.found()})"
        yield Figure(name, measured, ms(p95_read), p95 / p95_read, f"p95 <= {ms(MOST_SECONDS)}", good)
    ordered = all(query.newest_first for query in queries)
    yield Figure("broad, without sort: newest first", "yes" if ordered else "no", target="yes", ok=ordered)


def _memory(name: str, server: Server) -> Figure:
    peak = server.peak()
    ok = None if peak is None else peak < MOST_MEMORY
    return Figure(name, mib(peak), target=f"< {mib(MOST_MEMORY)}", ok=ok)


def _writes(size: Size, server: Server) -> Iterator[Figure]:
    """Write and read in turn: a write is recorded, and on the disk, before it is answered."""
    reads: list[float] = []
    notes: list[float] = []
    for turn in range(size.rounds + _WARM_UPS):
        lead = f"L{1 + turn * 89 % size.leads}"
        _, note = server.call("log_note", {"lead": lead, "content": f"Asked for the revised quote, the {turn}. time."})
        _, read = server.call("get_lead", {"lead": lead})
        if turn >= _WARM_UPS:
            notes.append(note)
            reads.append(read)
    for part, name in ((0.5, "p50"), (0.95, "p95")):
        note, read = quantile(notes, part), quantile(reads, part)
        yield Figure(f"log_note beside get_lead, {name}", ms(note), ms(read), note / read)


def _fill(count: int, folder: Path) -> None:
    file = folder / "people.csv"
    people.write(file, count)
    run([COMMAND, "import", str(file), "--yes"], folder)
    # An import knows no contacts. Two thirds get one here, the older the lead the longer ago, so that the newest lead
    # that was not contacted lately stands far behind the newest lead.
    db = sqlite3.connect(folder / "data" / "crm.sqlite3")
    with db:
        step = 400 * _DAY // count
        db.execute(f"UPDATE leads SET last_contacted_at = {_LONG_AGO} + n * {step} WHERE n % 3 > 0 OR n > {count} / 2")
    db.close()
