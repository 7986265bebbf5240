from __future__ import annotations

from crm_mcp.backends.base import Backend, DeletesRecords, FindsLeads, ImportsLeads, TagsLeads, WritesLeads
from crm_mcp.model import ImportRow, LeadDraft, LeadFilter, LeadUpdate, Slice


class Crm(ImportsLeads, FindsLeads, WritesLeads, TagsLeads, DeletesRecords, Backend):
    """What these tests need."""


def row(key: str | None, **fields: object) -> ImportRow:
    return ImportRow(key=key, draft=LeadDraft.model_validate(fields))


async def test_new_rows_become_leads_with_all_their_fields(crm: Crm):
    given = row(
        "k1", first_name="Jane", last_name="Doe", email="jane@a.example", phone="+14155552671", company="Acme",
        title="CTO", status="working", owner="Tom", tags=("vip",), custom_fields={"seats": 3}, list="Fair",
    )  # fmt: skip

    (outcome,) = await crm.import_leads([given], "skip")

    assert outcome.outcome == "created"
    assert outcome.id
    lead = await crm.get_lead(outcome.id)
    assert (lead.name, lead.title, lead.status, lead.owner) == ("Jane Doe", "CTO", "working", "Tom")
    assert (lead.tags, lead.custom_fields) == (("vip",), {"seats": 3})
    assert (await crm.search_leads(LeadFilter(query="jane", list="fair"), Slice())).items == (lead,)


async def test_known_rows_follow_what_is_asked_for(crm: Crm):
    made = await crm.create_lead(LeadDraft(name="Jane", email="Jane@a.example", phone="+14155552671"))
    rows = [row("k1", name="By mail", email="jane@A.example"), row("k2", name="By phone", phone="+14155552671")]

    skipped = await crm.import_leads(rows, "skip")
    failed = await crm.import_leads(rows, "error")
    assert await crm.get_lead(made.id) == made
    updated = await crm.import_leads(rows, "update")

    assert [(each.outcome, each.id) for each in skipped] == [("skipped", made.id)] * 2
    assert [(each.outcome, each.id) for each in failed] == [("failed", made.id)] * 2
    assert all(each.reason for each in failed)
    assert [(each.outcome, each.id) for each in updated] == [("updated", made.id)] * 2
    assert (await crm.get_lead(made.id)).name == "By phone"


async def test_a_second_import_of_the_same_rows_changes_nothing(crm: Crm):
    rows = [row("k1", name="Nameless"), row("k2", name="Jane", email="jane@a.example")]
    first = await crm.import_leads(rows, "error")

    for if_exists in ("skip", "error"):
        again = await crm.import_leads(rows, if_exists)
        assert [(each.outcome, each.id) for each in again] == [("skipped", each.id) for each in first]
    assert (await crm.search_leads(LeadFilter(), Slice())).total == 2


async def test_a_row_that_was_changed_since_is_still_known_by_its_key(crm: Crm):
    (first,) = await crm.import_leads([row("k1", name="Jane", email="jane@a.example")], "skip")
    assert first.id
    await crm.update_lead(first.id, LeadUpdate(email="new@a.example"))

    (again,) = await crm.import_leads([row("k1", name="Jane", email="jane@a.example")], "skip")

    assert (again.outcome, again.id) == ("skipped", first.id)


async def test_rows_of_one_batch_with_one_address_are_one_lead(crm: Crm):
    rows = [row(None, name="A", email="a@a.example"), row(None, name="B", email="A@a.example", company="Acme")]

    skipped = await crm.import_leads(rows, "skip")
    (lead,) = (await crm.search_leads(LeadFilter(), Slice())).items
    updated = await crm.import_leads(
        [row(None, name="C", email="c@a.example"), row(None, name="D", email="c@a.example")], "update"
    )

    assert [each.outcome for each in skipped] == ["created", "skipped"]
    assert lead.name == "A"
    assert [each.outcome for each in updated] == ["created", "updated"]
    assert [each.name for each in (await crm.search_leads(LeadFilter(query="c@a.example"), Slice())).items] == ["D"]


async def test_a_row_that_fails_leaves_the_others_and_itself_unwritten(crm: Crm):
    await crm.create_lead(LeadDraft(name="Bob", phone="+14155552671"))
    jane = await crm.create_lead(LeadDraft(name="Jane", email="jane@a.example", tags=("old",)))
    rows = [
        row("k1", title="CTO"),
        row("k2", name="Other", email="jane@a.example", phone="+14155552671", tags=("new",)),
        row("k3", name="Good"),
    ]

    outcomes = await crm.import_leads(rows, "update")

    assert [each.outcome for each in outcomes] == ["failed", "failed", "created"]
    assert all(each.reason for each in outcomes[:2])
    assert await crm.get_lead(jane.id) == jane


async def test_an_address_that_a_row_has_freed_is_free_in_the_same_batch(crm: Crm):
    (first,) = await crm.import_leads([row("k1", name="Jane", email="old@a.example")], "update")
    rows = [row("k1", name="Jane", email="new@a.example"), row("k2", name="Bob", email="old@a.example")]

    moved, other = await crm.import_leads(rows, "update")

    assert (moved.outcome, moved.id) == ("updated", first.id)
    assert other.outcome == "created"


async def test_an_empty_import_is_no_error(crm: Crm):
    assert await crm.import_leads([], "skip") == ()


async def test_ids_of_deleted_leads_are_not_given_again(crm: Crm):
    (first,) = await crm.import_leads([row("k1", name="Jane")], "skip")
    assert first.id
    await crm.delete("lead", first.id)

    (again,) = await crm.import_leads([row("k1", name="Jane")], "skip")
    made = await crm.create_lead(LeadDraft(name="Bob"))

    assert again.outcome == "created"
    assert len({first.id, again.id, made.id}) == 3
