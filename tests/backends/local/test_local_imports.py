"""Imports into the embedded CRM: rows are known by their key as well."""

from __future__ import annotations

from crm_mcp.backends.local import Local
from crm_mcp.model import ImportRow, LeadDraft, LeadFilter, LeadUpdate, Slice


def row(key: str | None, **fields: object) -> ImportRow:
    return ImportRow(key=key, draft=LeadDraft.model_validate(fields))


async def test_new_rows_become_leads_with_all_their_fields(crm: Local):
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


async def test_a_second_import_of_the_same_rows_changes_nothing(crm: Local):
    rows = [row("k1", name="Nameless"), row("k2", name="Jane", email="jane@a.example")]
    first = await crm.import_leads(rows, "error")

    for if_exists in ("skip", "error"):
        again = await crm.import_leads(rows, if_exists)
        assert [(each.outcome, each.id) for each in again] == [("skipped", each.id) for each in first]
    assert (await crm.search_leads(LeadFilter(), Slice())).total == 2


async def test_a_row_that_was_changed_since_is_still_known_by_its_key(crm: Local):
    (first,) = await crm.import_leads([row("k1", name="Jane", email="jane@a.example")], "skip")
    assert first.id
    await crm.update_lead(first.id, LeadUpdate(email="new@a.example"))

    (again,) = await crm.import_leads([row("k1", name="Jane", email="jane@a.example")], "skip")

    assert (again.outcome, again.id) == ("skipped", first.id)


ANN = row("k1", name="Ann Lee", email="ann@a.example", phone="+14155552671", title="CTO")
BOB = LeadUpdate(name="Bob Ray", email="bob@a.example", phone="+14155552672", title="CEO")


async def test_an_old_row_does_not_reach_whoever_the_lead_is_now(crm: Local):
    (first,) = await crm.import_leads([ANN], "skip")
    bob = await crm.update_lead(first.id or "", BOB)
    blocking = ANN.model_copy(update={"blocked": ("email",)})

    for if_exists in ("update", "skip", "error"):
        (again,) = await crm.import_leads([blocking], if_exists)
        assert (again.outcome, again.id) == ("skipped", None)
        assert again.reason == "this very row was imported before, and L1 (Bob Ray) is somebody else now"
    assert await crm.get_lead(bob.id) == bob


async def test_an_old_row_changes_whoever_is_its_person_now_by_address(crm: Local):
    (first,) = await crm.import_leads([ANN], "skip")
    bob = await crm.update_lead(first.id or "", BOB)
    ann = await crm.create_lead(LeadDraft(name="Ann Lee", email="ann@a.example"))

    (skipped,) = await crm.import_leads([ANN], "skip")
    (found,) = await crm.import_leads([ANN], "update")

    assert [(each.outcome, each.id) for each in (skipped, found)] == [("skipped", ann.id), ("updated", ann.id)]
    assert (await crm.get_lead(ann.id)).title == "CTO"
    assert await crm.get_lead(bob.id) == bob


async def test_of_whoever_has_the_address_and_got_another_name_an_old_row_fills_what_is_empty(crm: Local):
    (first,) = await crm.import_leads([ANN], "skip")
    zed = await crm.update_lead(first.id or "", LeadUpdate(name="Zed Quist", clear=("title",)))

    (found,) = await crm.import_leads([ANN], "update")

    after = await crm.get_lead(zed.id)
    assert (found.outcome, after.name, after.title) == ("updated", "Zed Quist", "CTO")
    assert "other name; filled: title" in (found.reason or "")


async def test_an_old_row_still_changes_its_person_who_has_another_address_now(crm: Local):
    nameless = row("k2", name="Nameless", title="CTO")
    made = await crm.import_leads([ANN, nameless], "skip")
    await crm.update_lead(made[0].id or "", LeadUpdate(name="Ann Lee-Ray", email="ray@a.example", phone="+14155552673"))
    await crm.update_lead(made[1].id or "", LeadUpdate(title="CEO"))

    found = await crm.import_leads([ANN, nameless], "update")

    assert [(each.outcome, each.id) for each in found] == [("updated", each.id) for each in made]
    assert [(await crm.get_lead(each.id or "")).title for each in made] == ["CTO", "CTO"]


async def test_addresses_of_letters_that_fold_to_the_same_are_two_people(crm: Local):
    await crm.create_lead(LeadDraft(name="A Weg", email="info@fu\u00df.example"))
    await crm.create_lead(LeadDraft(name="B Gasse", email="info@fuss.example"))

    (again,) = await crm.import_leads([row(None, name="B Gasse", email="INFO@fuss.example", title="CTO")], "update")

    assert (again.outcome, again.id) == ("updated", "L2")


async def test_colleagues_whose_first_names_stand_beside_a_name_are_two_and_shown_with_both(crm: Local):
    rows = [row(None, name="Roth", first_name=first, phone="+14155552671") for first in ("Hans", "Eva")]

    made = await crm.import_leads(rows, "update")
    again = await crm.import_leads(rows, "update")

    assert [each.outcome for each in (*made, *again)] == ["created", "created", "updated", "updated"]
    assert [each.whom for each in again] == ["L1 (Hans Roth)", "L2 (Eva Roth)"]


async def test_a_row_that_fails_leaves_the_others_and_itself_unwritten(crm: Local):
    await crm.create_lead(LeadDraft(name="Bob", phone="+14155552671"))
    jane = await crm.create_lead(LeadDraft(name="Jane", email="jane@a.example", tags=("old",)))
    odd = LeadDraft.model_construct(name="Jane", email="jane@a.example", title="CEO", custom_fields={"x": float("inf")})
    rows = [
        row("k1", title="CTO"),
        ImportRow(key="k2", draft=odd),
        row("k3", name="Good"),
    ]

    outcomes = await crm.import_leads(rows, "update")

    assert [each.outcome for each in outcomes] == ["failed", "failed", "created"]
    assert all(each.reason for each in outcomes[:2])
    assert await crm.get_lead(jane.id) == jane


async def test_an_address_that_a_row_has_freed_is_free_in_the_same_batch(crm: Local):
    (first,) = await crm.import_leads([row("k1", name="Jane", email="old@a.example")], "update")
    rows = [row("k1", name="Jane", email="new@a.example"), row("k2", name="Bob", email="old@a.example")]

    moved, other = await crm.import_leads(rows, "update")

    assert (moved.outcome, moved.id) == ("updated", first.id)
    assert other.outcome == "created"


async def test_ids_of_deleted_leads_are_not_given_again(crm: Local):
    (first,) = await crm.import_leads([row("k1", name="Jane")], "skip")
    assert first.id
    await crm.delete("lead", first.id)

    (again,) = await crm.import_leads([row("k1", name="Jane")], "skip")
    made = await crm.create_lead(LeadDraft(name="Bob"))

    assert again.outcome == "created"
    assert len({first.id, again.id, made.id}) == 3


async def test_whom_a_row_says_must_not_be_contacted_is_blocked_whatever_becomes_of_the_row(crm: Local):
    there = await crm.create_lead(LeadDraft(name="Jane", email="jane@a.example", phone="+14155552671"))
    met = row("k1", name="Jane", email="jane@a.example").model_copy(update={"blocked": ("sms", "call")})
    new = row("k2", name="Bob").model_copy(update={"blocked": ("email",)})

    skipped, made = await crm.import_leads([met, new], "skip")

    assert (skipped.outcome, made.outcome) == ("skipped", "created")
    assert (await crm.get_lead(there.id)).do_not_contact == ("call", "sms")
    assert (await crm.get_lead(made.id or "")).do_not_contact == ("email",)
