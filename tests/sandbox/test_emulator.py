"""What all emulators share: routes, refusals, the journal, switches, faults and limits."""

from __future__ import annotations

import socket
import time
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.sandbox.emulator import FaultKind, Window, identity
from crm_mcp.sandbox.serving import serving

from .conftest import Served, Small

# Routes


def test_a_route_answers_with_status_headers_and_body(small: Served):
    found = small.http.get("/rows/1")
    kept = small.http.put("/rows/2", json={"a": "é"})

    assert (found.status_code, found.json(), found.headers["x-left"]) == (200, "first", "999")
    assert (kept.status_code, kept.content, kept.headers["x-kept"]) == (204, b"", "2")
    assert small.there.rows["2"] == {"a": "é"}


def test_one_function_may_answer_several_routes(small: Served):
    assert [small.http.request(verb, "/rows/2", json=1).status_code for verb in ("PUT", "PATCH")] == [204, 204]


def test_a_path_that_is_spelled_out_goes_before_an_id(small: Served):
    assert small.http.get("/rows/count").json() == 1


def test_an_id_is_one_part_of_the_path_whatever_is_in_it(small: Served):
    small.there.rows["a/b c?"] = "odd"

    assert small.http.get("/rows/a%2Fb%20c%3F").json() == "odd"


def test_an_unknown_path_and_an_unknown_verb_are_told_apart(small: Served):
    assert small.http.get("/nowhere").status_code == 404
    assert small.http.delete("/rows/1").status_code == 405


def test_a_refusal_is_worded_as_the_vendor_does_with_the_headers_of_every_answer(small: Served):
    refused = small.http.get("/rows/7")

    assert (refused.status_code, refused.json()) == (404, {"error": "no such row", "row": "7"})
    assert refused.headers["x-left"] == "999"


def test_who_is_not_admitted_reaches_no_route(small: Served):
    refused = small.http.put("/rows/1", json="changed", headers={"authorization": "Bearer other"})

    assert refused.status_code == 401
    assert small.there.rows["1"] == "first"


def test_a_body_that_is_no_json_arrives_as_text(small: Served):
    small.http.put("/rows/2", content=b"not json")

    assert small.there.rows["2"] == "not json"


@pytest.mark.parametrize(("asked", "rows"), [("1", 1), ("x", 2), ("-1", 2), ("", 2)])
def test_a_number_of_the_query_has_a_default(asked: str, rows: int):
    with serving(Small(sample=True)) as url:
        answer = httpx2.get(f"{url}/rows", params={"limit": asked}, headers={"authorization": "Bearer small_key"})

    assert len(answer.json()["rows"]) == rows


# The journal


def test_everything_that_arrives_stands_in_the_journal(small: Served):
    small.http.put("/rows/2?x=1&x=2&y=", json={"a": 1})
    small.http.get("/rows/9")

    put, get = small.there.journal
    assert (put.method, put.path, put.query, put.body, put.status) == (
        "PUT",
        "/api/rows/2",
        {"x": "2", "y": ""},
        {"a": 1},
        204,
    )
    assert put.headers["authorization"] == "Bearer small_key"
    assert (get.status, get.body) == (404, None)
    assert small.there.calls("GET") == [get]
    assert small.there.calls(path=r"/api/rows/\d") == [put, get]


def test_a_status_stands_in_the_journal_before_the_answer_arrives(small: Served):
    kinds: tuple[FaultKind, ...] = ("status", "html", "redirect", "huge", "empty", "malformed")
    for kind in kinds:
        small.there.fail(kind, status=503, size=1_000_000)
        status = small.http.get("/rows").status_code

        assert small.there.journal[-1].status == status


# Switches


def test_a_switch_chooses_a_reading():
    with serving(Small(envelope="bare")) as url:
        assert httpx2.get(f"{url}/rows", headers={"authorization": "Bearer small_key"}).json() == ["first"]


def test_an_unknown_switch_is_refused():
    with pytest.raises(ValueError, match='small has no switch "envelop"; valid: envelope, per_minute'):
        Small(envelop="bare")


def test_a_new_beginning_forgets_all_but_what_it_was_made_with(small: Served):
    there = Small(sample=True, envelope="bare")
    there.switch(envelope="named", per_minute=5)
    there.fail("empty")
    there.rows.clear()

    there.reset()

    assert there.switches == {"envelope": "bare", "per_minute": 1000}
    assert (there.faults, there.journal, list(there.rows)) == ([], [], ["1", "2"])


def test_all_of_it_is_reached_over_http(small: Served):
    root = small.url.removesuffix("/api")
    small.http.get("/rows")

    assert [each["path"] for each in httpx2.get(f"{root}/_sandbox/journal").json()] == ["/api/rows"]
    assert httpx2.put(f"{root}/_sandbox/switches", json={"envelope": "bare"}).json()["envelope"] == "bare"
    assert httpx2.get(f"{root}/_sandbox/switches").json() == small.there.switches
    assert httpx2.post(f"{root}/_sandbox/faults", json={"kind": "status", "status": 418}).json()["status"] == 418
    assert small.http.get("/rows").status_code == 418
    assert httpx2.post(f"{root}/_sandbox/reset").json() == {"reset": True}
    assert small.there.journal == []


@pytest.mark.parametrize(
    ("verb", "path", "body", "status"),
    [
        ("PUT", "switches", {"envelop": 1}, 400),
        ("PUT", "switches", [1], 400),
        ("POST", "faults", {"kind": "status", "colour": "red"}, 400),
        ("POST", "faults", {}, 400),
        ("GET", "nothing", None, 404),
        ("DELETE", "journal", None, 404),
    ],
)
def test_a_wrong_wish_is_refused(small: Served, verb: str, path: str, body: Any, status: int):
    root = small.url.removesuffix("/api")

    assert httpx2.request(verb, f"{root}/_sandbox/{path}", json=body).status_code == status
    assert small.http.get("/rows").status_code == 200


# Faults


def test_a_fault_strikes_so_often_where_it_is_meant_to(small: Served):
    small.there.fail("status", method="GET", path="/api/rows/.*", times=2, status=502, body={"x": 1})

    assert small.http.get("/rows").status_code == 200
    assert [small.http.get("/rows/1").status_code for _ in range(3)] == [502, 502, 200]


def test_a_connection_is_dropped_before_or_after_the_work(small: Served):
    kinds: tuple[tuple[FaultKind, bool], ...] = (("drop_before", False), ("drop_after", True))
    for kind, done in kinds:
        small.there.rows.pop("2", None)
        small.there.fail(kind)
        with pytest.raises(httpx2.TransportError):
            small.http.put("/rows/2", json="kept")

        assert ("2" in small.there.rows) is done


def test_an_answer_is_cut(small: Served):
    small.there.fail("cut")

    with pytest.raises(httpx2.RemoteProtocolError):
        small.http.get("/rows")


def test_an_answer_is_spoiled(small: Served):
    small.there.fail("malformed")
    small.there.fail("empty")
    small.there.fail("html", status=500)
    malformed, empty, page = (small.http.get("/rows") for _ in range(3))

    with pytest.raises(ValueError, match=r"Expecting|Extra|delimiter"):
        malformed.json()
    assert (malformed.status_code, empty.status_code, empty.content) == (200, 200, b"")
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html")


def test_an_answer_is_late_or_drips(small: Served):
    kinds: tuple[tuple[FaultKind, float, float], ...] = (("delay", 0.2, 0.2), ("drip", 0.01, 0.1))
    for kind, seconds, least in kinds:
        small.there.fail(kind, seconds=seconds)
        began = time.monotonic()

        assert small.http.get("/rows").json() == {"rows": ["first"]}
        assert time.monotonic() - began >= least


def test_an_answer_is_huge(small: Served):
    small.there.fail("huge", size=3_000_000)

    assert len(small.http.get("/rows").content) == 3_000_000 + len('{"data": ""}')


def test_an_answer_leads_elsewhere(small: Served):
    small.there.fail("redirect", headers={"location": "https://crm.example/"})
    small.there.fail("redirect", status=308, headers={"location": "/rows"})
    found, permanent = (small.http.get("/rows") for _ in range(2))

    assert (found.status_code, found.headers["location"]) == (302, "https://crm.example/")
    assert permanent.status_code == 308


# Limits


def test_a_limit_is_kept_and_lifted():
    now = 600.0
    there = Small(per_minute=2, clock=lambda: now, minute=30.0)
    with (
        serving(there) as url,
        httpx2.Client(base_url=url, headers={"authorization": "Bearer small_key"}) as http,
    ):
        assert [http.get("/rows").status_code for _ in range(3)] == [200, 200, 429]
        assert http.get("/rows").headers["retry-after"] == "9"
        now = 630.0
        assert http.get("/rows").status_code == 200


@given(gaps=st.lists(st.floats(0, 40), min_size=1, max_size=60), calls=st.integers(1, 6), sliding=st.booleans())
def test_a_window_takes_as_many_calls_as_it_has(gaps: list[float], calls: int, sliding: bool):
    window = Window(calls, 60.0, sliding=sliding)
    taken: list[float] = []
    now = 1_000_000.0

    for gap in gaps:
        now += gap
        inside = [each for each in taken if (each > now - 60 if sliding else each // 60 == now // 60)]
        assert window.remaining(now) == calls - len(inside)
        assert window.take(now) is (len(inside) < calls)
        if len(inside) < calls:
            taken.append(now)
        assert window.resets(now) > now


@pytest.mark.parametrize(("sliding", "resets"), [(False, 660.0), (True, 675.0)])
def test_a_full_window_has_places_again_when_it_says(sliding: bool, resets: float):
    window = Window(1, 60.0, sliding=sliding)
    window.take(615.0)

    assert window.resets(620.0) == resets
    assert (window.remaining(resets - 0.001), window.remaining(resets)) == (0, 1)


def test_ids_are_the_same_in_every_run():
    assert identity(1, 255) == "00000001-0000-4000-8000-0000000000ff"


# Serving


def test_a_port_that_is_taken_is_an_error(small: Served):
    port = int(small.url.removesuffix("/api").rpartition(":")[2])

    with pytest.raises(OSError, match=r"in use|Only one usage"), serving(Small(), port):
        pass


def test_an_emulator_is_gone_when_its_block_ends():
    with serving(Small()) as url:
        address = ("127.0.0.1", int(url.removesuffix("/api").rpartition(":")[2]))
        socket.create_connection(address).close()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
