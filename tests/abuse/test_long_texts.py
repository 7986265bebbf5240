"""Whatever a stranger writes, each reader of it comes to an end in time.

Nothing is timed: a text is so long that work which grows with the square of its length would take hours, and that which
grows with the length alone a moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr

from crm_mcp.actions import audit, redaction
from crm_mcp.actions.guards import opt_out
from crm_mcp.actions.guards.addresses import addresses_in, moves_clock
from crm_mcp.actions.guards.quiet_hours import field_key
from crm_mcp.actions.imports.columns import map_columns
from crm_mcp.actions.imports.csv_reader import read_csv
from crm_mcp.actions.imports.opt_outs import refused_by_object
from crm_mcp.actions.imports.rows import rows
from crm_mcp.actions.intent import Preview
from crm_mcp.actions.messages import message_key, segments
from crm_mcp.actions.summary import (
    differences,
    fit_summary,
    full_texts,
    humanize,
    indent_block,
    quote_json,
    same_words,
    show_exactly,
)
from crm_mcp.actions.vendor_operations.places import may_be_address, named_in, tells_people, unnamed
from crm_mcp.actions.vendor_operations.sizes import records_of
from crm_mcp.address import email_address, one_email, phone_number, profile_key
from crm_mcp.backends.catalog import load
from crm_mcp.backends.dialsheet import codec as dialsheet
from crm_mcp.backends.getsales import codec as getsales
from crm_mcp.backends.http import Api, ApiProfile
from crm_mcp.backends.http_errors import faulty, says_opted_out, told_in
from crm_mcp.backends.identity import People, person_of
from crm_mcp.backends.local import words
from crm_mcp.backends.local.smtp import letter
from crm_mcp.backends.opt_out_fields import opt_out_field, refused_channels
from crm_mcp.backends.rate_limit import Limits, RateLimit
from crm_mcp.channels import address_of
from crm_mcp.errors import CrmError, choices
from crm_mcp.model import Activity, Lead, fold
from crm_mcp.server import resources
from crm_mcp.server.cap import cap
from crm_mcp.server.rendering import fits, set_apart, text_of
from crm_mcp.text import neutral, neutral_json, normal, one_line, rendered, unescaped, unmarked, unseen

LENGTH = 100_000
CLOSED = load("getsales").get("delete_list")
SEEDS = (
    *("a", "1", "1 ", "+1 ", "-", "\\", '"', "(", ", ", "\n", "\r", "> ", "a:\n>", "sep=,\n", '"\n'),
    *("<", "<p>", "<br ", "<style>", "</style ", "<style></style ", "&", "&#9", "]("),
    *("<!-- ", "<p a='", "<p \"'", "<![", "<pre>\n", "<blockquote>a<br>", "s t o p", "opt a ", "stop\n", "stop,"),
    *("@", "a@", "a@.", "a@b.c, ", "linkedin.com/", "\x1b]", "\x1b[0", "\x90a", "a\u200d", "\u200b"),
    *("\u0316\u0301", "\uff9e", "가", "(call, outcome: ", "\n(call, at ", "a was ", "contact", "stop ", '{"a":'),
)


def texts(length: int) -> list[str]:
    """Return what strangers could write, at this length."""
    ends = [f"{seed * (length // len(seed))}@a.b" for seed in ("a", ".", "a@", "a@.", "1 ")]
    return [*(seed * (length // len(seed)) for seed in SEEDS), *ends]


QUICK = frozenset(
    (
        *("unescaped", "normal", "email_address", "phone_number", "address_of", "one_email"),
        *("message_key", "rendered", "part_of", "told_in", "GetSales' note", "GetSales' profile"),
        *("Dialsheet's note", "choices", "an address of a letter"),
    )
)
"""The readers that take so little time for each character that they are given ten times as many."""
READERS: dict[str, Callable[[str], object]] = {
    "neutral": neutral,
    "unseen": unseen,
    "one_line": one_line,
    "unmarked": unmarked,
    "unescaped": unescaped,
    "normal": lambda text: [normal(form, text) for form in ("NFC", "NFKC", "NFKD")],
    "fold": fold,
    "neutral_json": lambda text: neutral_json({text: [text]}),
    "email_address": email_address,
    "phone_number": lambda text: phone_number(text, "US"),
    "address_of": lambda text: [address_of(channel, text, "US") for channel in ("email", "sms", "linkedin")],
    "addresses_in": lambda text: addresses_in({"note": text}, "US"),
    "moves_clock": lambda text: moves_clock({text: text}),
    "one_email": one_email,
    "may_be_address": may_be_address,
    "field_key": field_key,
    "message_key": lambda text: message_key("email", "jane@a.example", text, text),
    "segments": segments,
    "said": lambda text: humanize({text: [text]}),
    "lined": indent_block,
    "exactly": show_exactly,
    "quoted_json": quote_json,
    "same_words": lambda text: same_words(text, f"{text} "),
    "whole": lambda text: full_texts({"a": [text]}),
    "bounded": lambda text: fit_summary(Preview(text, text)),
    "differences": lambda text: differences({"a": {text: text}}, {"a": {text: "other"}}),
    "a stop": lambda text: [opt_out.is_stop(text, channel, text, {text}) for channel in ("sms", "email")],
    "perhaps a stop": lambda text: [opt_out.may_be_stop(text, channel, text, {text}) for channel in ("sms", "email")],
    "names": lambda text: opt_out.names_of(Lead(id="1", name=text, company=text)),
    "masked": lambda text: redaction.masked({text: text}, "secret"),
    "part_of": lambda text: redaction.part_of({text: text}, 14_000),
    "redactor": lambda text: audit.redactor(False, ["secret"])({text: text}),
    "reworder": lambda text: audit.reworder(False, ["secret"])(f'it "{text}" was {text}'),
    "refused_channels": lambda text: refused_channels({text: text, "do not call": text}),
    "a refusal": lambda text: refused_by_object({"status": text, "custom_fields": {text: "no", "DND": "no"}}),
    "an opt-out": opt_out_field,
    "people": lambda text: People([person_of(Lead(id="1", name=text, company=text, phone="+1"))]).alike(
        person_of(Lead(id="2", name=f"{text} b", phone="+1", custom_fields={text: text}))
    ),
    "faulty": lambda text: faulty({"error": text, "errors": [text]}, {f"field_{n}": text for n in range(50)}),
    "an opt-out that is told": lambda text: says_opted_out({"error": text, "errors": [text]}),
    "told_in": lambda text: told_in(json.dumps({text: text})),
    "rendered": lambda text: rendered(f"<p>{text}"),
    "GetSales' note": lambda text: getsales.note_of({"uuid": "1", "note": text}),
    "GetSales' profile": getsales.handles,
    "a profile": profile_key,
    "Dialsheet's note": dialsheet._parsed,  # pyright: ignore[reportPrivateUsage]
    "Dialsheet's status": lambda text: dialsheet._status(text, ("open",)),  # pyright: ignore[reportPrivateUsage]
    "tokens": words.tokens,
    "terms": words.terms,
    "choices": lambda text: choices(text, [text, f"{text}x", *(f"{text[:80]}{n}" for n in range(300))]),
    "a letter": lambda text: letter("a@b.example", "c@d.example", text[:200], text, None),
    "an address of a letter": lambda text: letter("a@b.example", text, "Hello", "Text", None),
    "set_apart": lambda text: set_apart(f"[outside data a: not instructions]\n{text}", "| "),
    "text_of": lambda text: text_of({"lead": {text: text}, "rows": [{"a": text}, {text: 1}]}),
    "capped": lambda text: fits(cap(neutral_json({"lead": {text: text}, "rows": [{text: text}]}), "see there")),
    "a lead's page": lambda text: resources._value({text: [text]}),  # pyright: ignore[reportPrivateUsage]
    "an activity": lambda text: resources._entry(Activity(kind="note", id="1", text=text, outcome=text)),  # pyright: ignore[reportPrivateUsage]
    "a csv": lambda text: [*read_csv(text)],
    "a csv of leads": lambda text: [*rows(table := read_csv(f"name,email\n{text}"), map_columns(table.header), "US")],
    "records_of": lambda text: records_of(CLOSED, {"options": {text: text}}),
    "named_in": lambda text: named_in(CLOSED, {"options": {text: text}}),
    "unnamed": lambda text: (unnamed(CLOSED, {text: text}), tells_people(CLOSED, {text: text})),
    "a label": lambda text: Lead(id="1", custom_fields={text: text}).label,
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_strangers_texts_comes_to_an_end(name: str) -> None:
    read, length = READERS[name], LENGTH * 10 if name in QUICK else LENGTH

    for text in texts(length):
        with suppress(CrmError):
            read(text)


@pytest.mark.parametrize("form", ["NFC", "NFKC", "NFKD"])
@pytest.mark.parametrize("marks", ["\u0316\u0301", "\u0301\u0316\u0327", "\uff9e", "\u05b0\u05b1\u05b2", "\u0344"])
def test_marks_without_end_are_sorted_in_time(form: Any, marks: str) -> None:
    normal(form, "a" + marks * (1_000_000 // len(marks)))


def test_an_email_with_a_number_without_end_is_read() -> None:
    body = f"<p>&#{'9' * 5000};</p><p>STOP</p>"

    assert not opt_out.is_stop(body, "email")
    assert opt_out.is_stop("<p>S&#00000000084;OP</p>", "email")
    assert may_be_address(f"jane&#{'0' * 5000}64;a.example &#{'9' * 5000};")
    assert rendered(body) == "\ufffd\nSTOP"


def test_the_last_line_of_a_note_says_what_it_is() -> None:
    for text, kind, content in (
        ("Talked\n\n(call, inbound, 60 seconds, outcome: (good))", "call", "Talked"),
        ("(meeting)", "meeting", ""),
        ("\n" * 100 + "(call", "note", "(call"),
        ("Rang (call)", "note", "Rang (call)"),
        ("(call)\n", "call", ""),
    ):
        note = getsales.note_of({"uuid": "1", "note": text})
        assert (note.kind, note.content) == (kind, content)


def test_a_key_is_found_in_an_error_without_end(tmp_path: Any) -> None:
    pace = RateLimit("key", Limits(per_minute=1000), tmp_path / "pace.sqlite3")
    api = Api(ApiProfile("Tiny", "http://127.0.0.1:9", SecretStr("aaa\\a1")), pace)

    for text in texts(LENGTH * 10):
        assert "aaa\\a1" not in api._clean(f"{text}aaa\\a1")  # pyright: ignore[reportPrivateUsage]
