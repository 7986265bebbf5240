"""No two texts share a summary, whatever tool and channel they go by: what comes back with a yes names exactly one."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crm_mcp.actions.intent import Preview
from crm_mcp.actions.messages import preview_linkedin
from crm_mcp.actions.summary import fit_summary, humanize, quote, quote_json, same_words, show_exactly
from crm_mcp.actions.vendor_operations.call import preview_operation
from crm_mcp.config import PolicySettings
from crm_mcp.errors import InvalidArgument
from crm_mcp.model import LeadDraft, NoteDraft, Sender
from crm_mcp.server.tools import TOOLS
from crm_mcp.text import one_line
from tests.harness.app import NUMBER, App
from tests.harness.clock import Clock
from tests.harness.small_vendor import VendorApp, small_vendor

PIECES = (
    *("a", "b", "x" * 140, "nothing", "yes", "1"),
    *(" ", "  ", "\n", "\n\n", "\r\n", "\r", "\t", "\u2028", "\u00a0", "\u3000"),
    *('"', "'", "\\", "\\n", "<b", "< b", "](", "] (", "&amp;", "& amp;"),
    *(", ", ": ", "; ", " (", ")", "{", "}", '", "', '": "', "': \"", "title: ", 'title: "b"', "..."),
    '" (3 characters in all, fingerprint 0123456789)',
    '" ... (700 characters in all, fingerprint 0123456789)',
)
"""What texts that look alike are made of."""
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join) | st.text(max_size=8)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """Two texts, most of them alike: one piece is another, or they differ behind what a summary has of them."""
    pieces = draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=7))
    place = draw(st.integers(0, len(pieces) - 1))
    other = [*pieces[:place], draw(st.sampled_from(PIECES)), *pieces[place + 1 :]]
    front = draw(st.sampled_from(["", "", "y" * 198, "y" * 490, "y  " * 200]))
    return front + "".join(pieces), front + "".join(other)


LEAD, DEAL, TASK = "L181", "D1", "T1"
CALLS: Mapping[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "an SMS": lambda text: ("send_sms", {"lead": LEAD, "message": text}),
    "a subject": lambda text: ("send_email", {"lead": LEAD, "subject": text[-150:], "body": "Hello"}),
    "a mail": lambda text: ("send_email", {"lead": LEAD, "subject": "Hello", "body": text}),
    "a subject and a mail": lambda text: (
        "send_email",
        {"lead": LEAD, "subject": text[: len(text) // 2][-150:] or "a", "body": text[len(text) // 2 :]},
    ),
    "a note": lambda text: ("log_note", {"lead": LEAD, "content": text}),
    "an outcome": lambda text: ("log_note", {"lead": LEAD, "content": "a", "outcome": text[-150:]}),
    "a task": lambda text: ("create_task", {"title": text[-150:], "lead": LEAD}),
    "a changed task": lambda text: ("update_task", {"task": TASK, "title": text[-150:]}),
    "a deal": lambda text: ("create_deal", {"name": text[-150:], "lead": LEAD}),
    "a changed deal": lambda text: ("update_deal", {"deal": DEAL, "name": text[-150:]}),
    "a tag": lambda text: ("tag_lead", {"lead": LEAD, "add": [text[-150:], "b"]}),
    "tags": lambda text: ("tag_lead", {"lead": LEAD, "add": [part[-150:] for part in text.split("b")]}),
    "a name": lambda text: ("create_lead", {"name": text[-150:], "title": "b"}),
    "a custom field": lambda text: ("create_lead", {"name": "a", "custom_fields": {"Story": text, "title": 1}}),
    "the name of a custom field": lambda text: (
        "create_lead",
        {"name": "a", "custom_fields": {text[-150:]: "b", "Size": None}, "list": "b"},
    ),
    "a lead that is there": lambda text: (
        "create_lead",
        {"phone": NUMBER, "title": text[-150:], "custom_fields": {"a": text}, "if_exists": "update"},
    ),
    "a changed field": lambda text: ("update_lead", {"lead": LEAD, "custom_fields": {"Story": text}}),
    "the name of a changed field": lambda text: ("update_lead", {"lead": LEAD, "custom_fields": {text[-150:]: "b"}}),
    "the reason of a block": lambda text: (
        "set_do_not_contact",
        {"lead": LEAD, "blocked": True, "reason": text[-150:]},
    ),
    "rows": lambda text: ("import_leads", {"leads": [{"name": "a", "custom_fields": {"Story": text}}]}),
    "the field of a column": lambda text: (
        "import_leads",
        {"csv": "name,note\na,b\n", "map": {"note": f"custom_fields.{text[-150:]}"}},
    ),
    "a file": lambda text: ("import_leads", {"csv": f"name,note\na,{json.dumps(text)}\n"}),
}
"""A call that has the text, for every place where a tool takes one."""
OPERATIONS: Mapping[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "a text of an operation": lambda text: ("plan_text", {"lead": "p1", "message": {"body": text}}),
    "a name in an operation": lambda text: ("rename_folder", {"folder": "f1", "name": text}),
    "an option of an operation": lambda text: ("rename_folder", {"folder": "f1", "name": "a", "options": {"b": text}}),
    "the name of an option": lambda text: ("rename_folder", {"folder": "f1", "name": "a", "options": {text: "b"}}),
}
POLICY = PolicySettings.model_validate({"operations": {"rename_folder": "confirm"}})
PATIENT = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[App]:
    made = App(tmp_path_factory.mktemp("summaries"), Clock(), sample=True)
    yield made
    await made.close()


def test_every_tool_that_takes_a_text_is_tried():
    tried = {make("a")[0] for make in CALLS.values()}
    elsewhere = {
        *("send_linkedin_message", "call_operation", "delete_record", "undo_action", "move_stage"),
        *("confirm_action", "start_call", "enroll_in_sequence", "unenroll_from_sequence"),
    }

    assert tried | elsewhere == {each.name for each in TOOLS if each.effect.value != "read"}


@pytest.mark.parametrize("place", CALLS)
@PATIENT
@given(pair=pairs() | st.tuples(texts, texts))
@example(pair=("a\nb", "a  b"))
@example(pair=('say "a"', "say 'a'"))
@example(pair=("y" * 600 + "a", "y" * 600 + "b"))
@example(pair=('a", title: "b', "a', title: 'b"))
async def test_two_texts_never_share_a_summary(app: App, place: str, pair: tuple[str, str]):
    shown: list[tuple[Any, str]] = []
    for text in pair:
        tool, fields = CALLS[place](text)
        try:
            arguments, preview = await app.preview(tool, **fields)
            shown.append((arguments, preview.summary))
        except InvalidArgument:
            return  # it is no text that could be sent

    (one, summary), (other, another) = shown
    assert (summary == another) == (one == other)
    assert same_words(summary, another) == (one == other)
    assert one_line(summary) == summary


FORGED = "FAULT: forged"
FORGING = f"{FORGED} {'y' * 600}\n{FORGED}\r\n\n{FORGED}\u2028{FORGED}"
"""A long text that would have lines of its own."""


@pytest.mark.parametrize("place", CALLS)
async def test_no_line_of_a_question_is_begun_by_a_text(app: App, place: str):
    tool, fields = CALLS[place](FORGING)
    _, preview = await app.preview(tool, **fields)

    assert not [line for line in preview.text.splitlines() if line.startswith(FORGED)]


async def test_no_line_of_a_question_is_begun_by_the_name_of_a_field(app: App):
    _, preview = await app.preview("update_lead", lead=LEAD, custom_fields={FORGED: FORGING, f"{FORGED}\n": "x"})
    _, imported = await app.preview("import_leads", leads=[{"name": "a"}, {"name": "b", "email": f"x\n{FORGED}"}])

    for text in (preview.text, imported.text):
        assert not [line for line in text.splitlines() if line.startswith(FORGED)]
    assert "not item 2: " in imported.details


@pytest.fixture(scope="module")
async def vendor_app(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[VendorApp]:
    async with small_vendor(tmp_path_factory.mktemp("small"), POLICY) as made:
        yield made


@pytest.mark.parametrize("place", OPERATIONS)
@PATIENT
@given(pair=pairs() | st.tuples(texts, texts))
@example(pair=("it's", 'it"s'))
async def test_two_texts_of_operations_never_share_a_summary(vendor_app: VendorApp, place: str, pair: tuple[str, str]):
    try:
        previews = [fit_summary(await preview_operation(vendor_app.context, *OPERATIONS[place](text))) for text in pair]
    except InvalidArgument:
        return

    assert (previews[0].summary == previews[1].summary) == (pair[0] == pair[1])


@pytest.mark.parametrize("place", OPERATIONS)
async def test_no_line_of_a_question_is_begun_by_what_an_operation_is_given(vendor_app: VendorApp, place: str):
    name, arguments = OPERATIONS[place](FORGING[:150] if "name" in place else FORGING)

    preview = fit_summary(await preview_operation(vendor_app.context, name, arguments))

    assert not [line for line in preview.text.splitlines() if line.startswith(FORGED)]


@PATIENT
@given(pair=pairs())
async def test_two_linkedin_messages_never_share_a_summary(app: App, pair: tuple[str, str]):
    lead = await app.context.lead(LEAD)
    previews = [await preview_linkedin(app.context, lead, Sender(id="7", name="Ann"), text) for text in pair]

    assert (fit_summary(previews[0]).summary == fit_summary(previews[1]).summary) == (pair[0] == pair[1])


@settings(PATIENT, max_examples=10)
@given(pair=pairs())
async def test_two_texts_that_an_undo_puts_back_never_share_a_summary(app: App, pair: tuple[str, str]):
    summaries: list[str] = []
    for text in pair:
        try:
            lead = await app.crm.create_lead(LeadDraft(name="Ann", custom_fields={"Story": text}))
        except ValueError:
            return
        changed = await app.call("update_lead", lead=lead.id, custom_fields={"Story": "new"})
        _, undoing = await app.preview("undo_action", action_id=changed["action_id"])
        summaries.append(undoing.summary.replace(lead.id, "L"))

    assert (summaries[0] == summaries[1]) == (pair[0] == pair[1])


@settings(PATIENT, max_examples=10)
@given(pair=pairs())
async def test_two_notes_that_are_deleted_never_share_a_summary(app: App, pair: tuple[str, str]):
    summaries: list[str] = []
    for text in pair:
        try:
            note = await app.crm.log_note(LEAD, NoteDraft(content=text))
        except ValueError:
            return
        _, deletion = await app.preview("delete_record", kind="note", id=note.id)
        summaries.append(deletion.summary.replace(note.id, "N"))

    assert (summaries[0] == summaries[1]) == (pair[0] == pair[1])


@given(pair=pairs())
@example(pair=("Won  now", "Won now"))
def test_two_names_are_never_shown_alike_where_no_quotation_marks_stand(pair: tuple[str, str]):
    assert (show_exactly(pair[0]) == show_exactly(pair[1])) == (pair[0] == pair[1])


@given(pair=pairs() | st.tuples(texts, texts))
@example(pair=("it's", 'it"s'))
def test_two_objects_are_never_shown_alike(pair: tuple[str, str]):
    one, other = (json.dumps({"name": text}, ensure_ascii=False) for text in pair)

    assert (quote_json(one) == quote_json(other)) == (pair[0] == pair[1])


NAMES = st.sampled_from(["name", "title", "custom"])
VALUES = st.dictionaries(
    NAMES, st.integers(0, 1) | texts | st.dictionaries(NAMES | texts, st.integers(0, 1) | texts, max_size=2)
)


@given(one=VALUES, other=VALUES)
@example(one={"custom": {"name": "a", "title": "b"}}, other={"custom": {"name": "a"}, "title": "b"})
@example(one={"custom": {"name": "a", "title": "b"}}, other={"custom": {'name: "a", title': "b"}})
@example(one={"name": ["a", "b"]}, other={"name": ['a", "b']})
def test_two_records_are_never_said_alike(one: dict[str, Any], other: dict[str, Any]):
    def bare_of_nothing(values: Any) -> Any:
        return "nothing at all" if values == {} else values

    same = [(name, bare_of_nothing(each)) for name, each in one.items()] == [
        (name, bare_of_nothing(each)) for name, each in other.items()
    ]
    assert (humanize(one) == humanize(other)) == (same or not (one or other))


@given(one=texts, other=texts, white=st.sampled_from([" ", "  ", "\n", "\t ", "\r\n"]))
def test_a_summary_is_given_back_with_other_white_space_between_its_words_alone(one: str, other: str, white: str):
    own = fit_summary(Preview(f"SMS to +1, {quote('Ann Bell')} (L1): {quote(one)}")).summary
    parts = own.split('"')
    spaced = '"'.join(part if n % 2 else part.replace(" ", white) for n, part in enumerate(parts))

    assert same_words(f"{white}{spaced}{white}", own)
    assert same_words(own.replace(quote(one), quote(other)), own) == (one == other)
    assert not same_words(own.replace("Ann Bell", f"Ann{white}Bell"), own) or white == " "
