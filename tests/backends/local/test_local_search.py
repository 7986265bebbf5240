from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_mcp.backends.local import Local, search, words
from crm_mcp.model import ImportRow, Lead, LeadDraft, LeadFilter, NoteDraft, Slice, fold, now
from crm_mcp.text import unseen

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
NAMES = st.text(st.characters(categories=["L", "N", "P", "S", "Zs", "Mn"]), min_size=1, max_size=30).filter(
    lambda name: words.tokens(name) != [] and unseen(name) is None
)


async def ids(crm: Local, **wanted: object) -> list[str]:
    page = await crm.search_leads(LeadFilter.model_validate(wanted), Slice(limit=100))
    return [each.id for each in page.items]


@given(name=NAMES, data=st.data())
@SETTINGS
async def test_a_stored_name_is_found_by_any_prefix_of_any_of_its_words(crm: Local, name: str, data: st.DataObject):
    lead = await crm.create_lead(LeadDraft(name=name))
    word = data.draw(st.sampled_from(fold(name).split()))
    prefix = word[: data.draw(st.integers(1, len(word)))]

    for query in (prefix, prefix.upper(), name):
        found = await ids(crm, query=query)
        assert (lead.id in found) == (words.terms(query) is not None), query


@given(query=st.one_of(st.text(), st.text(alphabet='"*^:()-+{}ANDORNEAT _words.0123456789@\x00\ud800', max_size=40)))
@SETTINGS
async def test_nothing_that_a_user_types_is_syntax(crm: Local, query: str):
    page = await crm.search_leads(LeadFilter(query=query), Slice())

    assert page.items == ()


@given(
    first=st.text("ab", min_size=1, max_size=7),
    second=st.text("ab1", min_size=1, max_size=7),
    query=st.lists(st.text("ab1", min_size=1, max_size=6), min_size=1, max_size=3),
)
@SETTINGS
async def test_each_word_of_a_query_must_begin_a_word_of_the_lead(
    crm: Local, first: str, second: str, query: list[str]
):
    lead = await crm.create_lead(LeadDraft(first_name=first, last_name=second))

    expected = all(first.startswith(each) or second.startswith(each) for each in query)
    assert (lead.id in await ids(crm, query="-".join(query))) == expected


@pytest.mark.parametrize(
    ("stored", "query"),
    [
        ("Straßenbau Müller", "strasse"),
        ("Straßenbau Müller", "STRAẞE"),
        ("Strassen", "straße"),
        ("Ångström", "angstrom"),
        ("Łódź", "lodz"),
        ("Søren", "soren"),
        ("Œuvre", "oeuvre"),
        ("İstanbul", "istanbul"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ｆｕｌｌ", "full"),
        ("Jose\u0301", "josé"),
        ("ﬁne", "fine"),
        ("서울", "서"),
        ("東京タワー", "東京"),
        ("O'Brien-Smith", "o'brien"),
        ("jane_doe", "doe"),
        ("AT&T", "at t"),
        ("C3PO 2049", "c3po 2049"),
        ("Bau4711 Süd", "bau4711"),
        ("Room 12 345 678", "12 345"),
    ],
)
async def test_case_accents_and_punctuation_do_not_matter(crm: Local, stored: str, query: str):
    lead = await crm.create_lead(LeadDraft(name="X", company=stored))

    assert await ids(crm, query=query) == [lead.id]


@pytest.mark.parametrize(
    ("phone", "query"),
    [
        ("+14155552671", query)
        for query in (
            *("+14155552671", "+1 (415) 555-2671", "415-555-2671", "415.555.2671", "4155552671", "(415) 555 2671"),
            *("555-2671", "5552671", "2671", "001 415 555 2671", "415 555", "1415", "jane 555-2671", "2671 jane"),
        )
    ]
    + [("+447700900123", query) for query in ("07700 900123", "+44 (0)7700 900 123", "0044 7700 900123", "0123")]
    + [("+37167222333", query) for query in ("67222333", "+371 67 222 333", "2333")],
)
async def test_a_number_is_found_however_it_is_written(crm: Local, phone: str, query: str):
    lead = await crm.create_lead(LeadDraft(name="Jane", phone=phone))
    await crm.create_lead(LeadDraft(name="Jane", phone="+14155550000"))

    assert lead.id in await ids(crm, query=query)


@pytest.mark.parametrize("query", ["555-2672", "+1 415 555 2672", "1555", "26711", "2671 bob"])
async def test_another_number_is_not(crm: Local, query: str):
    await crm.create_lead(LeadDraft(name="Jane", phone="+14155552671"))

    assert await ids(crm, query=query) == []


@pytest.mark.parametrize(
    "query", ["jane.doe@acme.com", "JANE.DOE@ACME.COM", "jane.doe", "acme.com", "doe@acme", "acme"]
)
async def test_an_address_is_found_by_its_parts(crm: Local, query: str):
    lead = await crm.create_lead(LeadDraft(name="X", email="jane.doe@acme.com"))

    assert await ids(crm, query=query) == [lead.id]


@pytest.mark.parametrize("query", ["!!!", "@", '"', "***", "-", "()", "\x00", "\ud800", "'; --"])
async def test_a_query_without_a_word_matches_nothing(crm: Local, query: str):
    await crm.create_lead(LeadDraft(name="Jane"))

    page = await crm.search_leads(LeadFilter(query=query), Slice())
    assert (page.items, page.total, page.next) == ((), 0, None)


async def test_blanks_alone_are_no_query(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))

    assert await ids(crm, query="  ") == [lead.id]


async def test_the_newest_notes_are_found_and_a_huge_history_does_not_hide_them(crm: Local):
    lead = await crm.create_lead(LeadDraft(name="Jane"))
    await crm.log_note(lead.id, NoteDraft(content="oldest", occurred_at=now() - timedelta(days=9)))
    for number in range(2):
        await crm.log_note(lead.id, NoteDraft(content=f"newest{number} " + "filler " * 2_000))

    assert await ids(crm, query="newest1 filler") == [lead.id]
    assert await ids(crm, query="oldest") == []
    assert await ids(crm, query="jane") == [lead.id]


# From here on: the ways that a search takes, made to differ at small numbers, against a plain search in memory.

SORTS: dict[str, Callable[[Lead], Any]] = {
    "-created_at": lambda lead: -int(lead.id[1:]),
    "created_at": lambda lead: int(lead.id[1:]),
    "name": lambda lead: (fold(lead.name or ""), int(lead.id[1:])),
    "-updated_at": lambda lead: (-lead.updated_at.timestamp() if lead.updated_at else 0, -int(lead.id[1:])),
    "-last_contacted_at": lambda lead: (_contact(lead) * -1, -int(lead.id[1:])),
    "last_contacted_at": lambda lead: (_contact(lead), int(lead.id[1:])),
}
QUERIES = (None, "ann", "annabe", "annabella", "group", "ann group", "example a", "annabella1 group", "zzz", "1555")
FILTERS: tuple[dict[str, object], ...] = (
    {},
    {"status": "working"},
    {"tag": "rare"},
    {"tag": "often", "status": "new"},
    {"list": "fair", "owner": "tom"},
    {"stage": "new", "not_contacted_since": now() - timedelta(days=2)},
    {"created_after": now() - timedelta(days=1)},
    {"created_after": now() + timedelta(days=1)},
)


def _contact(lead: Lead) -> float:
    return lead.last_contacted_at.timestamp() if lead.last_contacted_at else 0


def _draft(i: int) -> LeadDraft:
    return LeadDraft(
        name=f"{('Anna', 'Bob', 'Annabella')[i % 3]}{i % 5} {['Zoë', 'Ivo', 'Ann'][i % 3]}",
        email=f"a{i}@example.com" if i % 4 else None,
        phone=f"+1555{2000000 + i}" if i % 7 == 0 else None,
        company="Acme Group" if i % 2 else "Other",
        status="working" if i % 3 == 0 else "new",
        owner="Tom" if i % 2 else "Ann",
        tags=("often", "rare") if i % 20 == 0 else ("often",),
        list="Fair" if i % 5 == 0 else None,
    )


@pytest.fixture
async def many(crm: Local) -> tuple[Local, list[tuple[Lead, LeadDraft]]]:
    drafts = [_draft(i) for i in range(60)]
    outcomes = await crm.import_leads([ImportRow(draft=draft) for draft in drafts], "skip")
    for outcome in outcomes[::4]:
        when = now() - timedelta(days=int(str(outcome.id)[1:]) % 6, hours=1)
        await crm.log_note(str(outcome.id), NoteDraft(content="called", kind="call", occurred_at=when))
    return crm, [(await crm.get_lead(str(each.id)), draft) for each, draft in zip(outcomes, drafts, strict=True)]


def _fits(lead: Lead, draft: LeadDraft, wanted: dict[str, object], query: str | None) -> bool:
    if query:
        said = words.lead_words((lead.name, lead.email, lead.company), lead.phone, "called" if _contact(lead) else "")
        if not words.holding(words.terms(query) or ())(said):
            return False
    since, after = wanted.get("not_contacted_since"), wanted.get("created_after")
    return (
        wanted.get("status") in (None, lead.status)
        and wanted.get("tag") in (None, *(lead.tags or ()))
        and str(wanted.get("owner") or lead.owner).casefold() == str(lead.owner).casefold()
        and (not wanted.get("list") or draft.list == "Fair")
        and (since is None or _contact(lead) < since.timestamp())  # type: ignore[union-attr]
        and (after is None or (lead.created_at is not None and lead.created_at > after))  # type: ignore[operator]
    )


@pytest.mark.parametrize("narrow", [2, 12, 1_000])
@pytest.mark.parametrize("counted", [3, 25, 10_000])
async def test_every_way_to_search_finds_the_same(
    many: tuple[Local, list[tuple[Lead, LeadDraft]]], monkeypatch: pytest.MonkeyPatch, narrow: int, counted: int
):
    crm, leads = many
    monkeypatch.setattr(search, "NARROW", narrow)
    monkeypatch.setattr(search, "COUNTED", counted)

    for query, wanted, sort in itertools.product(QUERIES, FILTERS, SORTS):
        expected = [lead.id for lead in sorted((x for x, d in leads if _fits(x, d, wanted, query)), key=SORTS[sort])]
        found: list[str] = []
        part: Slice | None = Slice(limit=23)
        while part:
            page = await crm.search_leads(LeadFilter.model_validate({**wanted, "query": query, "sort": sort}), part)
            found.extend(each.id for each in page.items)
            part = Slice(limit=23, position=page.next) if page.next else None
            assert page.total == len(expected) or (page.total is None and len(expected) > counted)
        assert found == expected, (query, wanted, sort)


@pytest.mark.parametrize("rows", [10_000, 10_001])
async def test_totals_are_exact_up_to_ten_thousand(tmp_path: Path, rows: int):
    crm = Local(tmp_path)
    drafts = [ImportRow(draft=LeadDraft(name=f"Jane {i}")) for i in range(rows)]
    await crm.import_leads(drafts, "skip")

    everyone = await crm.search_leads(LeadFilter(), Slice())
    janes = await crm.search_leads(LeadFilter(query="jane", stage="new"), Slice())
    await crm.aclose()

    assert everyone.total == janes.total == (rows if rows == 10_000 else None)
    assert everyone.items[0].id == janes.items[0].id == f"L{rows}"


async def test_the_zeros_of_last_digits_are_digits_too(crm: Local):
    zeros = await crm.create_lead(LeadDraft(name="Jane", phone="+14155550002"))
    await crm.create_lead(LeadDraft(name="Bob", phone="+14155552671"))

    assert await ids(crm, query="0002") == [zeros.id]
    assert await ids(crm, query="0014155550002") == [zeros.id]
