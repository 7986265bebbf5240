"""What the adapter makes of GetSales' refusals and failures."""

from __future__ import annotations

from typing import Any

import pytest

from crm_mcp.errors import (
    Busy,
    CrmError,
    Forbidden,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    PaymentRequired,
    Unauthorized,
    VendorError,
)
from crm_mcp.model import LeadDraft, LeadFilter, LeadUpdate, NoteDraft, Slice
from crm_mcp.sandbox.getsales import GetSalesEmulator
from crm_mcp.text import rendered

from .conftest import Opened, Work

CANARY = "vendor words that nobody may read"
SEARCH, UPSERT, SEND = "/leads/api/leads/search", "/leads/api/leads/upsert", "/emails/api/emails/send-email"
JANE = LeadDraft(first_name="Jane", last_name="Whitfield", email="jane@acme.example")


def envelope(status: int, reason: str, **data: list[str]) -> dict[str, Any]:
    return {"error": {"reason": reason, "message": CANARY, "data": data}, "message": CANARY, "code": status}


def silent(error: CrmError) -> bool:
    """Whether an error says nothing of what the vendor said, and nothing of the key."""
    return CANARY not in str(error) and GetSalesEmulator.key not in str(error) + error.detail


@pytest.mark.parametrize("key", ["wrong", GetSalesEmulator.revoked_key])
async def test_a_key_that_is_wrong_or_revoked_is_unauthorized(opened: Opened, key: str):
    async with opened(key=key) as work:
        with pytest.raises(Unauthorized, match=r"CRM_MCP_API_KEY.*revoked or expired"):
            await work.crm.check()
        with pytest.raises(Unauthorized):
            await work.crm.create_lead(JANE)


async def test_a_missing_team_is_told_with_the_setting_that_it_needs(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(GetSalesEmulator, "key", "no-jwt")
    async with opened(key="no-jwt", strict_team=True) as work:
        with pytest.raises(InvalidArgument, match="set CRM_MCP_TEAM_ID to the id of the workspace"):
            await work.crm.check()
        assert "team-id" not in work.there.journal[0].headers
    async with opened(key="no-jwt", strict_team=True, team_id="4711") as work:
        assert (await work.crm.check()).found == "the workspace 4711"


async def test_a_wrong_team_is_forbidden_and_names_the_setting(opened: Opened):
    async with opened(team_id="4712") as work:
        with pytest.raises(Forbidden, match="check CRM_MCP_TEAM_ID"):
            await work.crm.check()


async def test_a_key_without_access_to_outreach_is_forbidden_there_alone(opened: Opened):
    async with opened(key=GetSalesEmulator.limited_key) as work:
        lead = await work.crm.create_lead(JANE)

        with pytest.raises(Forbidden):
            await work.crm.mailboxes()
        with pytest.raises(Forbidden):
            await work.crm.enroll("f1", lead.id)


@pytest.mark.parametrize("path", [SEARCH, UPSERT])
async def test_missing_credits_are_payment_required(work: Work, path: str):
    work.there.fail("status", path=path, status=402, body=envelope(402, "payment_required"))

    with pytest.raises(PaymentRequired, match="the credits of the workspace do not cover it") as caught:
        await (work.crm.search_leads(LeadFilter(), Slice()) if path == SEARCH else work.crm.create_lead(JANE))

    assert silent(caught.value)
    assert caught.value.wrote is False


async def test_a_field_that_is_refused_is_named_if_it_is_ours(work: Work):
    body = envelope(422, "validation_error", **{"lead.work_email": [CANARY], "ghost": [CANARY]})
    work.there.fail("status", path=UPSERT, status=422, body=body)

    with pytest.raises(InvalidArgument) as caught:
        await work.crm.create_lead(JANE)

    assert str(caught.value) == "GetSales does not accept the values: lead, work_email; check them"
    assert silent(caught.value)
    assert CANARY in caught.value.detail


@pytest.mark.parametrize("wrong", ["", "..", "L0", "a/b", "x" * 201, "\ud800", "L12?x=1"])
async def test_an_id_that_is_not_there_is_not_found(work: Work, wrong: str):
    with pytest.raises(NotFound):
        await work.crm.get_lead(wrong)
    with pytest.raises(NotFound):
        await work.crm.update_lead(wrong, LeadUpdate(name="Jane"))
    with pytest.raises(NotFound):
        await work.crm.tag_lead(wrong, ["hot"], [])
    with pytest.raises(NotFound):
        await work.crm.delete("note", wrong)


@pytest.mark.parametrize(("read", "path"), [("search", SEARCH), ("notes", "/leads/api/notes")])
async def test_a_server_error_page_is_a_vendor_error_and_says_nothing_of_it(work: Work, read: str, path: str):
    work.there.fail("html", path=path, status=500, times=9)

    with pytest.raises(VendorError, match=r"GetSales failed \(500\)") as caught:
        await (work.crm.search_leads(LeadFilter(), Slice()) if read == "search" else work.crm.list_notes("x", Slice()))

    assert "<html>" not in str(caught.value)
    assert len(work.there.journal) == 1


async def test_a_window_that_is_too_large_is_never_asked_for(work: Work):
    with pytest.raises(InvalidArgument, match="narrow it"):
        await work.crm.search_leads(LeadFilter(), Slice(position="12345"))
    assert work.there.journal == []


@pytest.mark.parametrize("fault", ["empty", "malformed", "cut", "drop_before"])
async def test_an_answer_that_is_none_is_asked_for_again(work: Work, fault: Any):
    work.there.fail(fault, path=SEARCH)

    assert (await work.crm.search_leads(LeadFilter(), Slice())).items == ()
    assert len([each for each in work.there.journal if each.path == SEARCH]) == 2


@pytest.mark.parametrize("answer", [[1, 2], {"data": ["x"]}, {"total": 3}, "text", {"data": [{"lead": {"name": "x"}}]}])
async def test_an_answer_that_makes_no_sense_is_a_vendor_error(work: Work, answer: Any):
    work.there.fail("status", path=SEARCH, status=200, body=answer)

    with pytest.raises(VendorError):
        await work.crm.search_leads(LeadFilter(), Slice())


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_read_is_made_again_after_a_failure_on_the_way(work: Work, status: int):
    work.there.fail("status", path=SEARCH, status=status, body="x", times=2)

    assert (await work.crm.search_leads(LeadFilter(), Slice())).total == 0


@pytest.mark.parametrize("fault", ["drop_after", "empty", "malformed", "html"])
async def test_a_lead_whose_answer_is_lost_is_not_known_to_be_written(work: Work, fault: Any):
    work.there.fail(fault, path=UPSERT)

    with pytest.raises(OutcomeUnknown) as caught:
        await work.crm.create_lead(JANE)

    assert caught.value.wrote is None
    assert len([each for each in work.there.journal if each.path == UPSERT]) == 1


async def test_an_answer_without_the_new_lead_s_id_is_not_known_to_be_written(work: Work):
    work.there.fail("status", path=UPSERT, status=200, body={"message": "ok"})

    with pytest.raises(OutcomeUnknown, match="did not say its id"):
        await work.crm.create_lead(JANE)


@pytest.mark.parametrize("fault", ["drop_after", "html"])
async def test_an_email_whose_answer_is_lost_is_never_sent_again(work: Work, fault: Any):
    lead = await work.crm.create_lead(JANE)
    (mailbox,) = await work.crm.mailboxes()
    work.there.fail(fault, path=SEND, times=9)

    with pytest.raises(OutcomeUnknown):
        await work.crm.send_email(lead, mailbox, "Hi", "text", None)

    assert len([each for each in work.there.journal if each.path == SEND]) == 1


async def test_an_email_whose_answer_has_no_id_was_sent_all_the_same(work: Work):
    lead = await work.crm.create_lead(JANE)
    (mailbox,) = await work.crm.mailboxes()
    work.there.fail("empty", path=SEND)

    delivery = await work.crm.send_email(lead, mailbox, "Hi", "text", None)

    assert (delivery.message.id, delivery.delivered) == ("unknown", True)


async def test_a_note_whose_answer_is_empty_is_not_claimed_with_an_id_that_is_none(work: Work):
    lead = await work.crm.create_lead(JANE)
    work.there.fail("empty", path="/leads/api/notes")

    with pytest.raises(OutcomeUnknown):
        await work.crm.log_note(lead.id, NoteDraft(content="x"))


async def test_a_failure_after_a_part_was_written_says_so(work: Work):
    made = await work.crm.create_lead(JANE)
    work.there.fail("status", path="/leads/api/custom-field-values", status=422, body=envelope(422, "validation_error"))

    with pytest.raises(InvalidArgument) as caught:
        await work.crm.update_lead(made.id, LeadUpdate(title="CEO", custom_fields={"budget": "1"}))

    assert caught.value.wrote is True
    assert (await work.crm.get_lead(made.id)).title == "CEO"


async def test_a_limit_that_is_used_up_tells_the_seconds(opened: Opened):
    async with opened(retry_after=120) as work:
        work.there.switch(per_minute=0)

        with pytest.raises(Busy) as caught:
            await work.crm.check()

        assert 118 <= caught.value.retry_after <= 120


async def test_a_limit_without_headers_is_waited_for(opened: Opened):
    async with opened(minute=6.0) as work:
        work.there.fail("status", status=429, body=envelope(429, "too_many_requests"), times=2)

        assert (await work.crm.check()).user == "robin@sandbox.example"
        assert [each.status for each in work.there.journal] == [429, 429, 200]


async def test_a_write_is_made_again_after_429_alone(opened: Opened):
    async with opened(minute=6.0) as work:
        work.there.fail("status", path=UPSERT, status=429, body=envelope(429, "too_many_requests"))

        made = await work.crm.create_lead(JANE)

        assert made.email == "jane@acme.example"
        assert [each.status for each in work.there.journal if each.path == UPSERT] == [429, 200]


@pytest.mark.parametrize("piece", ["<style ", "<", "<br ", "<script>x</script>", "</p> ", "&amp;", "<style></style>"])
def test_a_long_message_of_a_stranger_is_read_in_a_moment(piece: str):
    rendered(piece * 20_000)  # with a quadratic reading this takes minutes, and the test's limit ends it


def test_html_becomes_the_text_that_is_seen():
    page = "<STYLE>p{}</style><p>Hi&nbsp;Jane &lt;3</p>one<br/>two<script>alert(1)</script><b>!</b><style>never ends"

    assert rendered(page) == "Hi\xa0Jane <3\none\ntwo!"
