"""A server that is killed at work leaves nothing half-written, and what it has answered is not lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from .test_lines import lines


@pytest.mark.parametrize("answered", [0, 1, 3, 7, 12])
def test_what_was_answered_before_a_kill_is_there_after_it(tmp_path: Path, answered: int) -> None:
    with lines(tmp_path) as crm:
        crm.initialize("2025-06-18")
        crm.call("crm_status")
        for number in range(40):
            arguments = {"name": f"Zqkim {number}", "email": f"kim{number}@example.com", "tags": ["kept"]}
            crm.send(
                {"id": 1000 + number, "method": "tools/call", "params": {"name": "create_lead", "arguments": arguments}}
            )
        known = [crm.next()["result"]["structuredContent"] for _ in range(answered)]
        crm.process.kill()
        crm.process.wait(timeout=10)

    with lines(tmp_path) as crm:
        crm.initialize("2025-06-18")
        actions = crm.call("list_actions", limit=100)["structuredContent"]["actions"]
        leads = crm.call("search_leads", query="zqkim", limit=100)["structuredContent"]["leads"]
        created = {lead["id"]: lead for lead in leads}
        done = {action["action_id"]: action["status"] for action in actions}

        for each in known:
            assert created[each["lead"]["id"]]["tags"] == ["kept"]
            assert done[each["action_id"]] == "done"
        assert all(lead["tags"] == ["kept"] for lead in leads)
        # A lead is written only after its action: what was not finished can be seen, and is at most what was under way.
        assert len(leads) <= len(actions)
        assert set(done.values()) <= {"done", "running"}
        # The same call again is told of the lead that is there, or makes it: never a second one.
        again = crm.call("create_lead", name="Zqkim 0", email="kim0@example.com", if_exists="skip")["structuredContent"]
        assert again["outcome"] == ("skipped" if any(lead["name"] == "Zqkim 0" for lead in leads) else "created")

    for name in ("crm.sqlite3", "state.sqlite3"):
        with sqlite3.connect(tmp_path / name) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
