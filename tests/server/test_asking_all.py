"""One question to all connections: each answers or says what is wrong, and one cursor goes on in all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from crm_mcp.sandbox.dialsheet import DialsheetEmulator
from crm_mcp.sandbox.emulator import Emulator
from crm_mcp.sandbox.people import PEOPLE
from crm_mcp.sandbox.salespulse import SalesPulseEmulator

from .several import NOBODY, Several, several

NAMES = ["work", "calls", "home"]
OK = [{"crm": name, "status": "ok"} for name in NAMES]
EACH = len(PEOPLE)
"""Leads in either vendor's sample."""
OWN = 5
ALL = 2 * EACH + OWN


def emulators() -> dict[str, Emulator]:
    return {
        "work": DialsheetEmulator(sample=True, minute=0.5),
        "calls": SalesPulseEmulator(sample=True, minute=0.5),
    }


def fill(crms: Several) -> None:
    for n in range(OWN):
        crms.ok("create_lead", crm="home", name=f"Own {n}", email=f"own{n}@example.com", tags=["vip"])


@pytest.fixture(scope="module")
def crms(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Generator[Several]:
    """`work` (Dialsheet) and `calls` (SalesPulse) with twelve leads each, `home` (embedded) with five."""
    with several(portal, tmp_path_factory.mktemp("all"), emulators(), sample=False) as crms:
        fill(crms)
        yield crms


@pytest.fixture
def sound(crms: Several) -> Generator[Several]:
    """The same, whole again afterwards."""
    yield crms
    for each in crms.emulators.values():
        each.faults.clear()


def ids(pages: list[dict[str, Any]], name: str = "leads") -> list[tuple[str, str]]:
    return [(row["crm"], row["id"]) for page in pages for row in page[name]]


def test_each_row_says_whose_it_is_and_each_connection_that_it_answered(crms: Several) -> None:
    found = crms.ok("search_leads", limit=100)

    assert Counter(each["crm"] for each in found["leads"]) == {"work": EACH, "calls": EACH, "home": OWN}
    assert (found["connections"], found["next_cursor"], found["total"]) == (OK, None, ALL)
    assert "crm" not in found


@pytest.mark.parametrize("limits", [(1,), (2,), (3,), (4,), (7,), (100,), (1, 9, 2), (5, 1)])
def test_one_cursor_goes_through_all_with_every_row_once(crms: Several, limits: tuple[int, ...]) -> None:
    pages = crms.pages("search_leads", "leads", *limits)

    found = ids(pages)
    assert len(found) == len(set(found)) == ALL
    assert Counter(crm for crm, _ in found) == {"work": EACH, "calls": EACH, "home": OWN}


def test_a_page_is_shared_out_to_the_last_row(crms: Several) -> None:
    page = crms.ok("search_leads", limit=5)

    assert Counter(each["crm"] for each in page["leads"]) == {"work": 2, "calls": 2, "home": 1}


def test_the_total_is_that_of_all_or_none(crms: Several) -> None:
    totals = [page["total"] for page in crms.pages("search_leads", "leads", 1)]

    assert set(totals[:2]) == {None}
    assert set(totals[2:]) == {ALL}
    assert {page["total"] for page in crms.pages("search_leads", "leads", 7)} == {ALL}


def test_filters_hold_in_all(crms: Several) -> None:
    pages = crms.pages("search_leads", "leads", 1, query=PEOPLE[0].email)

    assert [crm for crm, _ in ids(pages)] == ["work", "calls"]
    assert crms.refused("search_leads", query="other", cursor=pages[0]["next_cursor"]).startswith(
        "invalid_argument: cursor is not one of this list"
    )


@pytest.mark.parametrize("cursor", ["x", "AAAA", "W10", "\u00e9"])
def test_a_cursor_that_is_none_is_refused_for_all(crms: Several, cursor: str) -> None:
    assert crms.refused("search_leads", cursor=cursor).startswith("invalid_argument: cursor is not one of this list")


def test_a_wrong_argument_is_refused_before_anybody_is_asked(crms: Several) -> None:
    before = len(crms.emulators["work"].journal)

    assert crms.refused("search_leads", limit=0).startswith("invalid_argument: ")
    assert crms.refused("search_leads", limit=101).startswith("invalid_argument: ")
    assert crms.refused("search_leads", quer="x").startswith("invalid_argument: ")
    assert crms.refused("list_activity").startswith("invalid_argument: ")
    assert len(crms.emulators["work"].journal) == before


def test_what_one_connection_cannot_do_is_its_own_answer(crms: Several) -> None:
    deals = crms.ok("list_deals", limit=100)
    tasks = crms.ok("list_tasks")
    options = crms.ok("list_options", kind="statuses")
    filtered = crms.ok("search_leads", tag="vip")

    assert deals["connections"] == OK
    assert {each["crm"] for each in deals["deals"]} == {"work", "calls"}
    for found in (tasks, options, filtered):
        status = {each["crm"]: each for each in found["connections"]}
        assert status["home"] == {"crm": "home", "status": "ok"}
        assert status["calls"]["status"] == "error"
        assert status["calls"]["error"].startswith("unsupported: ")
    [refused] = [each["error"] for each in tasks["connections"] if each["crm"] == "calls"]
    assert refused == "unsupported: calls (salespulse) can't do list_tasks; it can in work, home"
    assert {each["crm"] for each in options["options"]} >= {"work"}
    assert "next_cursor" not in options


def test_activity_is_listed_for_those_that_have_the_lead(crms: Several) -> None:
    found = crms.ok("list_activity", lead=PEOPLE[0].email, limit=100)

    status = {each["crm"]: each for each in found["connections"]}
    assert (status["work"]["status"], status["calls"]["status"]) == ("ok", "ok")
    assert status["home"]["error"].startswith("not_found: no lead has ")
    assert {each["crm"] for each in found["items"]} >= {"work"}
    once = ids(crms.pages("list_activity", "items", 1, lead=PEOPLE[0].email), "items")
    assert sorted(once) == sorted(ids([found], "items"))


def test_the_status_of_all_and_of_one(crms: Several) -> None:
    of_all = crms.ok("crm_status")
    of_one = crms.ok("crm_status", crm="calls")

    assert [(each["crm"], each["vendor"], each["status"]) for each in of_all["connections"]] == [
        ("work", "dialsheet", "ok"),
        ("calls", "salespulse", "ok"),
        ("home", "local", "ok"),
    ]
    assert "crm" not in of_all
    assert (of_one["crm"], [each["crm"] for each in of_one["connections"]]) == ("calls", ["calls"])


def test_who_cannot_serve_a_tool_takes_no_part_of_the_page_and_is_named_on_each(crms: Several) -> None:
    for n in range(4):
        crms.ok("create_task", crm="home", title=f"Task {n}", due_at="2030-01-02T10:00:00Z")

    pages = crms.pages("list_tasks", "tasks", 4)

    assert Counter(each["crm"] for each in pages[0]["tasks"]) == {"work": 2, "home": 2}
    assert len(pages) > 1
    for page in pages:
        status = {each["crm"]: each.get("error", "") for each in page["connections"]}
        assert status["calls"].startswith("unsupported: calls (salespulse) can't do list_tasks; ")
    first = crms.ok("list_tasks", limit=1)
    assert len(first["tasks"]) == 1


def test_a_refused_parameter_lists_crm_among_the_valid_ones(crms: Several) -> None:
    for tool, arguments in (
        ("search_leads", {}),
        ("get_lead", {"crm": "home", "lead": "x"}),
        ("create_lead", {"crm": "home"}),
    ):
        line = crms.refused(tool, **arguments, colour="x")
        valid = line.partition("; valid: ")[2].partition(";")[0].split(", ")
        assert f'{tool} has no parameter "colour"' in line
        assert "crm" in valid, line
    assert crms.refused("list_activity").endswith(", crm")


# When one fails


def test_one_that_failed_for_good_is_named_on_every_page_after(portal: BlockingPortal, tmp_path: Path) -> None:
    with several(portal, tmp_path, emulators(), keys={"work": "ds_a_wrong_key"}, sample=False) as crms:
        fill(crms)
        pages = crms.pages("search_leads", "leads", 4)
        again = crms.ok("search_leads", limit=4)

    assert len(pages) > 2
    for page in pages:
        assert page["connections"][0]["crm"] == "work"
        assert page["connections"][0]["error"].startswith("unauthorized: Dialsheet does not accept the key")
        assert len({each["crm"] for each in page["connections"]}) == len(page["connections"])
    assert Counter(crm for crm, _ in ids(pages)) == {"calls": EACH, "home": OWN}
    assert again["connections"][0]["status"] == "error"


def test_one_that_fails_does_not_fail_the_rest(sound: Several) -> None:
    sound.emulators["work"].fail("html", times=1)

    found = sound.ok("search_leads", limit=100)

    assert found["connections"][0]["crm"] == "work"
    assert found["connections"][0]["error"].startswith("vendor_error: Dialsheet failed (500)")
    assert found["connections"][1:] == OK[1:]
    assert Counter(each["crm"] for each in found["leads"]) == {"calls": EACH, "home": OWN}
    assert found["total"] is None
    rest = sound.ok("search_leads", limit=100, cursor=found["next_cursor"])
    assert {each["crm"] for each in rest["leads"]} == {"work"}
    assert (rest["connections"], rest["total"], rest["next_cursor"]) == (OK[:1], ALL, None)


@pytest.mark.parametrize("limits", [(3,), (1,), (2, 6)])
def test_one_that_fails_for_a_moment_goes_on_where_it_was(sound: Several, limits: tuple[int, ...]) -> None:
    first = sound.ok("search_leads", limit=6)
    sound.emulators["calls"].fail("html", times=1)

    pages: list[dict[str, Any]] = [first]
    while (cursor := pages[-1]["next_cursor"]) is not None:
        pages.append(sound.ok("search_leads", limit=limits[len(pages) % len(limits)], cursor=cursor))
        assert len(pages) < 100

    found = ids(pages)
    assert len(found) == len(set(found)) == ALL
    said = [each["status"] for page in pages for each in page["connections"] if each["crm"] == "calls"]
    assert said.count("error") == 1


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_one_that_fails_for_good_does_not_keep_the_list_from_ending(sound: Several, limit: int) -> None:
    sound.emulators["work"].fail("html", times=1_000)

    pages = sound.pages("search_leads", "leads", limit)

    found = ids(pages)
    assert len(found) == len(set(found)) == EACH + OWN
    assert {crm for crm, _ in found} == {"calls", "home"}
    assert {page.get("total") for page in pages} == {None}
    assert sum(each["crm"] == "work" for page in pages for each in page["connections"]) == 2


def test_the_last_page_can_be_asked_for_again(sound: Several) -> None:
    first = sound.ok("search_leads", limit=12)
    second = sound.ok("search_leads", limit=12, cursor=first["next_cursor"])
    for each in sound.emulators.values():
        each.fail("html", times=2)
    failed = sound.pages("search_leads", "leads", 100, cursor=second["next_cursor"])

    again = sound.ok("search_leads", limit=100, cursor=second["next_cursor"])

    assert [[each["status"] for each in page["connections"]] for page in failed] == [["error"] * 2] * 2
    found = ids([first, second, again])
    assert len(found) == len(set(found)) == ALL


def test_a_wrong_key_and_a_vendor_that_is_away_are_told_apart(portal: BlockingPortal, tmp_path: Path) -> None:
    wrong, away = {"work": "ds_canary_of_a_wrong_key"}, {"calls": f"{NOBODY}/api/v1"}
    with several(portal, tmp_path, emulators(), keys=wrong, addresses=away, sample=False) as crms:
        fill(crms)
        found = crms.ok("search_leads", limit=100)
        status = crms.ok("crm_status")
        refused = crms.refused("get_lead", crm="work", lead=PEOPLE[0].email)

    errors = {each["crm"]: each.get("error", "") for each in found["connections"]}
    assert errors["work"].startswith("unauthorized: Dialsheet does not accept the key")
    assert errors["calls"].startswith("unreachable: SalesPulse can't be reached")
    assert [crm for crm, _ in ids([found])] == ["home"] * OWN
    assert [(each["crm"], each["status"]) for each in status["connections"]] == [
        ("work", "error"),
        ("calls", "error"),
        ("home", "ok"),
    ]
    assert refused.startswith("unauthorized: ")
    assert "canary" not in f"{found}{status}{refused}"
    for log in tmp_path.glob("stderr-*"):
        assert "canary" not in log.read_text()


def test_the_actions_of_a_lead_are_listed_though_one_connection_could_not_be_asked_for_it(sound: Several) -> None:
    sound.emulators["work"].fail("html", times=1)

    found = sound.ok("list_actions", lead="own1@example.com")

    assert [each["crm"] for each in found["actions"]] == ["home"]
    [failed] = found["connections"]
    assert (failed["crm"], failed["status"], failed["error"].split(":")[0]) == ("work", "error", "vendor_error")
