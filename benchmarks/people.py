"""Made-up people, the same ones in every run, shaped so that each kind of search has something to find."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SEED = 20260728


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FIRST = _words("""
    Maria Marco Mark Martin Marta Anna Andrea Anders Alan Amir Aisha Beatrix Boris Bruno Carla Carlos Chen Clara Daniel
    David Diana Elena Emma Erik Fatima Felix Frank Grace Greta Hannah Hugo Ines Ivan James Jane John Jonas Julia Karim
    Kenji Laura Lena Leo Lin Louis Lucia Luis Mia Nadia Nils Noah Nora Olga Omar Oscar Paul Petra Priya Rosa Ruth Samir
    Sara Simon Sofia Stefan Susan Tariq Thomas Tim Ursula Victor Wei Yusuf Zoe
""")
_ONSETS = _words("Bak Bel Bor Bran Cal Dal Der Dor Fal Fen Gar Gol Har Hol Jan Kar Kel Kov Lan Lor Mal Mor Nor Per Ros")
_ENDS = _words("""
    aldi ander arsen ecki el eman enko er eri ert ez hoff ic ida ikov in ing ini land ler man mann ner o off ov ova
    owski sen shi ski son stein ström ton ura vic ward
""")
_PLACES = _words("""
    Aber Alder Amber Arrow Ash Birch Blue Bright Cedar Clear Copper
""")
_THINGS = _words("bridge brook field ford gate haven hill lake point port ridge stone vale wind")
_TRADES = _words("Logistics Robotics Foods International Consulting Software Medical Energy")
_TITLES = ("Buyer", "Head of Purchasing", "Chief Executive", "Office Manager", "Engineer", "Owner", "Sales Director")
_AREAS = _words("212 213 404 415 503 512 602 617 702 713 801 813 901 916")
_STATUSES = _words("new new new working working nurturing unresponsive disqualified")

HEADER = ("name", "email", "phone", "company", "title", "tags", "status")
RARE_SURNAME = "Zwetajewa"
ACCENTED_SURNAME = "Peñaloza"
NARROW_TAG = "vip board"
WIDE_TAG = "newsletter"


class Person(NamedTuple):
    """A line of the CSV."""

    name: str
    email: str
    phone: str
    company: str
    title: str
    tags: str
    status: str


def people(count: int) -> Iterator[Person]:
    """Make up people."""
    choose = random.Random(SEED)
    for number in range(count):
        first, last = choose.choice(_FIRST), _surname(number, choose)
        place = choose.choice(_PLACES) + choose.choice(_THINGS)
        # Nothing but the last four begins with a 3: a search for those finds no area code, which many share.
        digits = f"{200 + number // 1_000 % 100}{3_000 + number % 1_000}"
        yield Person(
            name=f"{first} {last}",
            email=f"{first}.{last}{number}@{place}.example".lower().replace("ñ", "n").replace("ö", "o"),
            phone=f"+1 {choose.choice(_AREAS)} {digits[:3]} {digits[3:]}",
            company=f"{place} {choose.choice(_TRADES)}",
            title=choose.choice(_TITLES),
            tags="; ".join(_tags(number, choose)),
            status=choose.choice(_STATUSES),
        )


def write(path: Path, count: int, columns: Sequence[str] = HEADER) -> None:
    """Write people to a CSV file."""
    places = [HEADER.index(column) for column in columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([person[place] for place in places] for person in people(count))


def some(count: int, wanted: int) -> list[Person]:
    """Return `wanted` of the people, evenly spread."""
    step = max(1, count // wanted)
    return [person for number, person in enumerate(people(count)) if number % step == 0][:wanted]


def _surname(number: int, choose: random.Random) -> str:
    if number % 4_000 == 7:
        return RARE_SURNAME
    if number % 500 == 3:
        return ACCENTED_SURNAME
    return choose.choice(_ONSETS) + choose.choice(_ENDS)


def _tags(number: int, choose: random.Random) -> Iterator[str]:
    if choose.random() < 0.3:
        yield WIDE_TAG
    if choose.random() < 0.02:
        yield "trade fair"
    if number % 600 == 11:
        yield NARROW_TAG
