"""Every result fits, in both forms, and both forms say the same; lists go on without loss or repetition."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_mcp.server.cap import cap
from crm_mcp.server.rendering import MOST, as_json, fits, lines_of

from .talk import Talk, inside, text_in

quick = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def talker(shared: Talk) -> str:
    """Return a lead that has said a lot: a note of 20,000 characters and forty of 1,900."""
    lead = shared.lead(name="Talker " + "x" * 190, custom_fields={f"Field {n}": "v" * 10_000 for n in range(5)})
    shared.ok("log_note", lead=lead, content="|".join(f"cell {n}\n" for n in range(1800))[:20_000])
    for n in range(40):
        shared.ok("log_note", lead=lead, content=f"note {n}: " + "é\n" * 950)
    for n in range(12):
        shared.ok("create_deal", lead=lead, name=f"deal {n} " + "d" * 190)
        shared.ok("create_task", lead=lead, title=f"task {n} " + "t" * 190)
    return lead


def walk(crm: Talk, tool: str, name: str, limit: int, **arguments: Any) -> list[str]:
    """Return the ids of a whole list, followed by its cursor."""
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = crm.ok(tool, limit=limit, **arguments, **cursor)
        assert len(page[name]) <= limit
        ids += [each["id"] for each in page[name]]
        if page["next_cursor"] is None:
            return ids
        assert page[name], "a page without rows goes on"
        cursor = {"cursor": page["next_cursor"]}


def test_a_lead_that_said_a_lot_fits_and_says_where_the_rest_is(crm: Talk, talker: str) -> None:
    found = crm.read(talker, "notes", "tasks", "deals", "messages", "calls")

    assert len(found["notes"]) == 10
    for text in (*found["lead"]["custom_fields"].values(), *(each["content"] for each in found["notes"])):
        assert f"crm://leads/{talker}/activity]" in text


def test_every_list_of_it_fits(crm: Talk, talker: str) -> None:
    for tool, arguments in (
        ("list_activity", {"lead": talker}),
        ("search_leads", {"query": "talker"}),
        ("search_leads", {}),
        ("list_deals", {"lead": talker}),
        ("list_tasks", {"lead": talker}),
        ("list_actions", {"lead": talker}),
        ("list_changes", {"since": "2020-01-01"}),
    ):
        crm.ok(tool, limit=100, **arguments)


@quick
@given(limit=st.integers(1, 100))
def test_activity_goes_on_without_loss_or_repetition(crm: Talk, talker: str, limit: int) -> None:
    ids = walk(crm, "list_activity", "items", max(limit, 5), lead=talker)

    assert len(ids) == len(set(ids)) == 41 + 12
    assert walk(crm, "list_activity", "items", 100, lead=talker) == ids


@quick
@given(limit=st.integers(3, 100), kind=st.sampled_from(["deals", "tasks"]))
def test_deals_and_tasks_go_on_without_loss_or_repetition(crm: Talk, talker: str, limit: int, kind: str) -> None:
    ids = walk(crm, f"list_{kind}", kind, limit, lead=talker)

    assert len(ids) == len(set(ids)) == 12


@quick
@given(limit=st.integers(20, 100), sort=st.sampled_from(["created_at", "-created_at", "name", "-last_contacted_at"]))
def test_a_search_goes_on_without_loss_or_repetition(crm: Talk, limit: int, sort: str) -> None:
    ids = walk(crm, "search_leads", "leads", limit, sort=sort, created_after="2020-01-01", stage="Qualified")

    total = crm.ok("search_leads", stage="Qualified", created_after="2020-01-01", limit=1)["total"]
    assert len(ids) == len(set(ids)) == total


def test_long_messages_and_their_previews_fit(crm: Talk) -> None:
    done = crm.ok("send_email", lead=crm.lead(), subject="s" * 200, body='"\n' * 9_999)

    assert done["status"] == "done"


def test_an_action_that_waits_fits_though_its_text_is_long(mute: Talk) -> None:
    waiting = mute.ok("send_email", lead=mute.lead(), subject="Long", body="b" * 20_000)

    assert waiting["status"] == "confirmation_required"
    assert waiting["preview"].endswith("]")
    assert mute.ok("confirm_action", action_id=waiting["action_id"], summary=waiting["summary"])["status"] == "done"


def test_a_thousand_bad_rows_fit(crm: Talk) -> None:
    rows = [{"email": f"no address {n}"} for n in range(999)]

    done = crm.ok("import_leads", leads=[*rows, {"name": "Good"}])

    assert done["counts"] == {"created": 1, "updated": 0, "skipped": 0, "failed": 999}
    assert len(done["failed"]) + done["left_out"]["failed"] == 999


def test_many_tags_and_fields_fit(crm: Talk) -> None:
    tags = [f"tag {n} " + "t" * 150 for n in range(300)]
    lead = crm.ok("create_lead", name="Tagged", tags=tags, custom_fields={f"f{n}" + "f" * 99: n for n in range(300)})

    assert lead["left_out"]["tags"] + len(lead["lead"]["tags"]) == 300
    assert crm.read(lead["lead"]["id"])["left_out"]["custom_fields"] > 0
    crm.ok("tag_lead", lead=lead["lead"]["id"], add=["one more"])
    assert crm.ok("list_options", kind="tags")["left_out"]["options"] > 0
    crm.ok("delete_record", kind="lead", id=lead["lead"]["id"])


def test_failures_of_a_batch_fit(crm: Talk) -> None:
    crm.ok(
        "enroll_in_sequence", sequence="Follow-up", leads=[*(f"nobody {n} {'x' * 300}" for n in range(99)), crm.lead()]
    )


# The text form, read back

awkward = st.text(st.characters(codec="utf-8") | st.sampled_from('|;,="\\\n\r\t\u2028\x85 '), max_size=30)
scalars = awkward | st.integers() | st.booleans() | st.none()
cells = awkward | st.lists(awkward, min_size=1, max_size=3) | st.dictionaries(awkward, awkward, min_size=1, max_size=3)
tables = st.lists(
    st.dictionaries(st.sampled_from(["id", "name", "tags", "extra"]), cells, min_size=1), min_size=1, max_size=4
)


def plain(value: object) -> str:
    return {None: "none", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def taken(line: str, place: int, *stops: str) -> tuple[str, int]:
    """Read one text from a line: a JSON string, or what stands before the next stop."""
    if line.startswith('"', place):
        return cast("tuple[str, int]", json.JSONDecoder().raw_decode(line, place))
    end = min((found for stop in stops if (found := line.find(stop, place)) >= 0), default=len(line))
    return line[place:end], end


def read_cell(line: str, place: int, like: object) -> tuple[object, int]:
    """Read the cell that starts here, of the same kind as `like`."""
    if isinstance(like, dict):
        pairs: dict[str, str] = {}
        while True:
            name, place = taken(line, place, "=")
            pairs[name], place = taken(line, place + 1, "; ", "|")
            if not line.startswith("; ", place):
                return pairs, place
            place += 2
    if isinstance(like, list):
        several: list[str] = []
        while True:
            one, place = taken(line, place, ", ", "|")
            several.append(one)
            if not line.startswith(", ", place):
                return several, place
            place += 2
    return taken(line, place, "|")


@given(tables)
def test_no_text_of_a_record_can_look_like_another_cell_line_or_field(rows: list[dict[str, Any]]) -> None:
    header, columns, *lines = lines_of({"rows": rows}).splitlines()

    assert header == f"rows ({len(rows)}):"
    names = columns.split("|")
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        place = 0
        for number, name in enumerate(names):
            if number:
                assert line[place] == "|"
                place += 1
            if name in row:
                value, place = read_cell(line, place, row[name])
                assert value == row[name]
        assert place == len(line)


@given(st.dictionaries(st.sampled_from(["crm", "status", "summary", "reason"]), scalars, min_size=1))
def test_each_field_is_one_line_that_reads_back(fields: dict[str, Any]) -> None:
    lines = lines_of(fields).splitlines()

    assert len(lines) == len(fields)
    for line, (name, value) in zip(lines, fields.items(), strict=True):
        text = line.removeprefix(f"{name}: ")
        assert (json.loads(text) if text.startswith('"') else text) == plain(value)


sized = st.integers(0, 30_000).map(lambda size: "é|\n" * (size // 3))
parts = st.recursive(
    sized | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), parts, max_size=5), st.text(max_size=300))
def test_whatever_is_capped_fits(structured: dict[str, Any], rest: str) -> None:
    small = fits(structured)
    before = as_json(structured)

    result = cap(structured, rest)

    assert fits(result)
    assert (as_json(result) == before) == small


def test_a_long_list_is_capped_and_says_what_is_left_out() -> None:
    result = cap({"failed": [{"item": f"line {n}", "reason": "no name"} for n in range(5000)]}, "see")

    assert len(result["failed"]) + result["left_out"]["failed"] == 5000
    assert len(as_json(result)) > MOST // 2


def test_a_text_that_looks_as_if_it_were_cut_is_not_lost() -> None:
    result = cap({"text": "... [" + "x" * 30_000 + "]"}, "see elsewhere")

    assert len(result["text"]) > MOST // 2
    assert result["text"].endswith("... [cut: see elsewhere]")


def test_the_text_form_of_a_result_has_every_id_of_the_structured_form(crm: Talk) -> None:
    result = crm.call("search_leads", limit=25)

    rows = inside(text_in(result)).splitlines()
    for lead in result.structured_content["leads"]:
        assert sum(row.startswith(f"{lead['id']}|") for row in rows) == 1
