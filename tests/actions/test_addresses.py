"""Which calls move a lead's clock, and what an import gives to leads, whatever its text looks like."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from crm_mcp.actions.guards.addresses import addresses_in, moves_clock
from crm_mcp.actions.imports import lead_import
from crm_mcp.errors import Forbidden
from crm_mcp.model import LeadDraft
from crm_mcp.store import Address
from tests.harness.app import NUMBER, App
from tests.harness.person import Person

pytestmark = pytest.mark.anyio

EMAIL = "jane@doe.example"
ODD: tuple[Any, ...] = ("", None, True, 1.5, [], {}, {"at": None})
"""What no time zone is, and yet empties the field of one."""


@pytest.fixture
def free(open_app: Callable[..., App]) -> Callable[..., App]:
    """Start processes in which messages need no answer, under these rules besides."""

    def opened(**policy: Any) -> App:
        return open_app({"outward": "allow", **policy})

    return opened


async def jane(app: App, **custom: Any) -> str:
    """Return the id of a lead that a person has made."""
    draft = LeadDraft(name="Jane Doe", phone=NUMBER, email=EMAIL, custom_fields=custom)
    return (await app.crm.create_lead(draft)).id


# Time zones


@pytest.mark.parametrize(
    "arguments",
    [
        {"custom_fields": {"time_zone": "Asia/Tokyo"}},
        {"custom_fields": {"clock": " Asia/Tokyo "}},
        *({"custom_fields": {"Time Zone": value}} for value in ODD),
        {"leads": [{"name": "Jane"}, {"custom_fields.timeZone": None}]},
        {"clear": ["custom_fields.time_zone"]},
        {"clear": ["title", "custom_fields"]},
    ],
)
def test_who_sets_or_empties_a_time_zone_moves_the_clock(arguments: dict[str, Any]) -> None:
    assert moves_clock(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {
            "custom_fields": {
                "zone": None,
                "notes": "her time zone is Asia/Tokyo, as far as anybody knows",
            }
        },
        {"custom_fields": {}, "clear": ["title"]},
        {"list": "custom_fields"},
    ],
)
def test_other_changes_do_not(arguments: dict[str, Any]) -> None:
    assert not moves_clock(arguments)


@pytest.mark.parametrize(
    ("tool", "change"),
    [
        *(("update_lead", {"custom_fields": {"time_zone": value}}) for value in (None, True, 1.5)),
        ("update_lead", {"clear": ["custom_fields"]}),
        ("create_lead", {"email": EMAIL, "custom_fields": {"time_zone": None}, "if_exists": "update"}),
    ],
)
async def test_a_time_zone_that_a_tool_took_away_is_told_before_a_text(
    free: Callable[..., App], tool: str, change: dict[str, Any]
) -> None:
    app = free()
    lead = await jane(app, time_zone="Asia/Tokyo")

    changed = await app.call(tool, Person(), **({"lead": lead} if tool == "update_lead" else {}), **change)
    asked = await app.call("send_sms", Person(), lead=lead, message="On my way")

    assert (changed["status"], asked["status"]) == ("done", "confirmation_required")
    assert f"the time zone was set by ann via tests with {tool} 0 min ago" in asked["preview"]


@pytest.mark.parametrize("value", [None, True, 1.5, ""])
async def test_an_import_that_takes_a_time_zone_away_is_confirmed(free: Callable[..., App], value: Any) -> None:
    app = free()
    await jane(app, time_zone="Asia/Tokyo")
    row = {"email": EMAIL, "custom_fields": {"time_zone": value}}

    asked = await app.call("import_leads", Person(), leads=[row], if_exists="update")

    assert asked["status"] == "confirmation_required"
    assert "it sets the time zone of leads that exist" in asked["preview"]


# Consent


@pytest.mark.parametrize(
    "text",
    [
        f"email,labels\n{EMAIL},optin\n",
        f"\n \nemail,tags\n{EMAIL},optin\n",
        f"sep=;\nemail;tags\n{EMAIL};optin\n",
        f"email,tags\r{EMAIL},optin\r",
    ],
)
async def test_no_csv_writes_the_field_that_holds_consent(free: Callable[..., App], text: str) -> None:
    app = free(require_consent={"sms": "tags"})
    await jane(app)

    with pytest.raises(Forbidden, match='"tags" holds the consent'):
        await app.call("import_leads", Person(), csv=text, if_exists="update")


async def test_what_a_row_holds_is_no_field(free: Callable[..., App]) -> None:
    app = free(require_consent={"sms": "tags"})

    done = await app.call("import_leads", Person(), csv="name,company\nJane,Tags\ntags,Doe\n")

    assert (done["status"], done["counts"]["created"]) == ("done", 2)


# Imports


async def test_an_import_writes_the_addresses_of_its_leads_and_no_others(
    free: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = free()
    seen: list[Address] = []
    on_the_loop: list[bool] = []

    def found(arguments: Any, country: str | None) -> tuple[Address, ...]:
        seen.extend(addresses := addresses_in(arguments, country))
        on_the_loop.append(threading.current_thread() is threading.main_thread())
        return addresses

    monkeypatch.setattr(lead_import, "addresses_in", found)
    notes = "call +1 415 555 0199 or mail me@else.example"
    rows = f"name,phone,tags,notes\nJane,{NUMBER},+14155550198,{notes}\nJo,not a number {notes},,\n,none {notes},,\n"

    done = await app.call("import_leads", Person(), csv=rows)

    assert (len(done["created"]), len(done["failed"])) == (2, 1)
    assert done["created"][1]["reason"].startswith("phone left out: ")
    # Looked for in the question and in the hook of the CRM, both off the event loop.
    assert (seen, on_the_loop) == ([Address(channel="sms", address=NUMBER)] * 2, [False, False])
