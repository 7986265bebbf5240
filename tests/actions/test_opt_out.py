"""Whether what somebody wrote asks for no more messages, or may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.actions.opt_out import HEARD, STOP_WORDS, is_stop, may_be_stop, names_of
from crm_mcp.model import CHANNELS, Channel, Lead

ANN = names_of(Lead(id="1", name="Ann Lee", company="Acme Ltd"))
PLAIN = st.text(".,;:!?-\"'()[]*/ \t\n", max_size=8)
COURTESY = st.sampled_from(["please", "Please,", "thanks", "Thank you!", "pls", "Hi", "hello,", "danke", "sorry..."])
SIGNATURES = st.sampled_from(
    [
        *("", "\nAnn", "\nann lee", "\nAnn Lee\nAcme Ltd", "\n\n-- \nann\n+1 415 555 0171", "\nBest regards,\nAnnie"),
        *(" - Ann", " -AL", ", Ann Lee", " ann", " Ann Lee", "\nSent from my iPhone", "\n\nGet Outlook for iOS"),
        *(
            "\n\nAnn Lee | Acme Ltd | +1 415 555 0171",
            "\n\nMike Brown\nVP of Sales, Acme\nmike@acme.example\nwww.acme.example\n+1",
        ),
        *("\nVon meinem iPhone gesendet", "\nMike Brown\nmike@acme.example", "\n~ Mike"),
    ]
)


@pytest.mark.parametrize(
    "text",
    [
        *("STOP", "stop", " Stop. ", "\u00abSTOP!\u00bb", "S.T.O.P", "STOPALL", "\tquit\n", "\uff33top", "end\u200b"),
        *("opt-out", "OptOut", "opt out", "OPT  OUT", "Opt\nout.", "REVOKE"),
        *("please stop", "STOP please", "Stop, thanks!", "Thank you. STOP.", "stop...thanks", "STOP STOP STOP"),
        *("STOP \U0001f6d1", "Stop :-)", "S.T.O.P. please"),
        *("STOP \u2764\ufe0f", "STOP, unsubscribe", "OPT OUT OPT OUT"),
        *("S T O P", "s t o p !", "Stop, thank you very much"),
    ],
)
def test_a_stop_word_is_known_however_it_is_written(text: str) -> None:
    assert is_stop(text, "sms")
    assert not may_be_stop(text, "sms")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "please stop texting me",
            "stop it",
            "stop all",
            "don't stop",
            "the end",
            "Stop Texting Me",
            "STOP\nTexting me",
        ),
        *("I want to opt out of this", "Cancel my order", "STOP? Why?", "who is this? stop", "STOP 2", "opt out now"),
        *("Cancel\n---\nNo wait, I want the offer, call me", "Cancel - Tuesday", "Cancel, Monday Demo", "Cancel, Yes"),
        *("Stop\nSent by mistake, sorry, please go on", "End\n31.12.2026", "Stop!\n\nWait\nhow much is it?"),
        *("Liked \u201cReply STOP to end this\u201d", "unsubscribe me", "un-subscribe me now", "No more. END."),
    ],
)
def test_a_text_that_has_such_a_word_may_be_one_and_is_none(text: str) -> None:
    assert not is_stop(text, "sms")
    assert may_be_stop(text, "sms")


@pytest.mark.parametrize(
    "text", ["", "ok", "STOPS", "nonstop", "weekend", "we stopped by", "opting out", "please", "Ann"]
)
def test_other_texts_are_neither(text: str) -> None:
    assert not is_stop(text, "sms", names=ANN)
    assert not may_be_stop(text, "sms", names=ANN)


@pytest.mark.parametrize(
    "text",
    [
        "Unsubscribe\n\nJane\n-- \nSent from my phone",
        "\n\n  STOP  \n> On Monday you wrote:\n> Hello",
        "On Monday Bob wrote:\n> Hello\n\nstop",
        "On Mon, Jan 5, 2026 at 10:00 AM Bob <bob@ours.example>\nwrote:\n> Hello\n\nSTOP",
        "> Hello\n\nQUIT!",
        "Please unsubscribe.\nThanks",
        "opt out - Ann\n\nFrom: Bob\nSent: Monday\nSubject: Offer",
        "<html><body><style>p {}</style><p>Unsubscribe</p><blockquote>Hello</blockquote></body></html>",
        "<blockquote>Hello Jane</blockquote><div>STOP<br>Jane</div>",
        '<html><body dir="auto">Stop<br id="line"><div dir="ltr">Sent from my iPhone</div></body></html>',
        "<html><body>Stop<div>Ann</div></body></html>",
        "<table><tr><td>Stop</td><td>Ann Lee</td></tr></table>",
        "<html><head><meta charset=utf-8><body><p>Stop</p></body></html>",
        "<html><head/><body><p>Stop</p></body></html>",
        "<blockquote>a<blockquote>b</blockquote>c</blockquote><p>Stop</p>",
        "<html><body><!--[if gte mso 9]><xml>x</xml><![endif]--><p>Stop</p></body></html>",
    ],
)
def test_of_an_e_mail_the_first_line_that_is_no_quotation_counts(text: str) -> None:
    assert is_stop(text, "email")


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        ("Hello,\nSTOP", True),
        ("> STOP", False),
        ("> STOP\nThanks, let us talk", False),
        ("You wrote:\n> unsubscribe\nNo, I like it", False),
        ("<p>Fine.</p><blockquote>STOP</blockquote>", False),
        ("Fine!\n\nOn Mon, 2 Mar 2026 at 10:00, Bob <bob@ours.example> wrote:\nReply STOP to end this", False),
        ("Fine!\n-----Original Message-----\nFrom: Bob\nReply STOP to end this", False),
        ("Fine!\n\nVon: Bob\nGesendet: Montag\nBetreff: Angebot\n\nReply STOP to end this", False),
        ("Take me off your list.\nI want to opt out.", True),
        ("<p>Please <b>un</b>subscribe me</p>", True),
    ],
)
def test_what_an_e_mail_quotes_counts_for_nothing_and_what_it_says_later_may_be_one(text: str, doubtful: bool) -> None:
    assert not is_stop(text, "email")
    assert may_be_stop(text, "email") is doubtful


@pytest.mark.parametrize(
    ("text", "subject", "expected"),
    [
        ("", "Unsubscribe", (True, False)),
        ("Sent from my iPhone", "unsubscribe", (True, False)),
        ("", "Re: Stop losing leads", (False, False)),
        ("Good!", "AW: Stop", (False, False)),
        ("This message was made by a program.", "unsubscribe", (True, False)),
        ("Good!", "Cancel", (False, True)),
        ("Good!", "The end of the contract", (False, True)),
    ],
)
def test_the_subject_of_an_e_mail_counts_where_it_is_its_writer_s_own(
    text: str, subject: str, expected: tuple[bool, bool]
) -> None:
    assert (is_stop(text, "email", subject), may_be_stop(text, "email", subject)) == expected


@given(st.sampled_from([*sorted(STOP_WORDS), "opt out"]), PLAIN, PLAIN, st.data())
def test_neither_case_nor_punctuation_nor_white_space_around_it_hides_a_stop(
    word: str, before: str, after: str, data: st.DataObject
) -> None:
    mixed = "".join(c.upper() if data.draw(st.booleans()) else c for c in word)

    assert is_stop(f"{before}{mixed}{after}", "sms")


@given(st.sampled_from(sorted(STOP_WORDS)), st.lists(COURTESY, max_size=2), st.lists(COURTESY, max_size=2), SIGNATURES)
def test_neither_courtesy_nor_a_signature_hides_a_stop(
    word: str, before: list[str], after: list[str], signature: str
) -> None:
    text = " ".join([*before, word, *after]) + signature

    assert is_stop(text, "sms", names=ANN)
    assert not may_be_stop(text, "sms", names=ANN)


@given(
    st.sampled_from(sorted(STOP_WORDS)),
    st.sampled_from(
        ["texting me", "by any time", "the meeting", "now or else", "it, it is annoying", "me from this list"]
    ),
    PLAIN.filter(lambda each: not each.strip() or each.strip() == "."),
    st.sampled_from(HEARD),
)
def test_a_word_with_more_behind_it_blocks_nothing_and_is_doubtful(
    word: str, more: str, end: str, channel: Channel
) -> None:
    text = f"{word} {more}{end}"

    assert not is_stop(text, channel, names=ANN)
    assert may_be_stop(text, channel, names=ANN)


@given(st.text(max_size=60), st.sampled_from(CHANNELS))
def test_a_text_is_a_stop_or_may_be_one_only_where_it_has_such_a_word(text: str, channel: Channel) -> None:
    found = is_stop(text, channel), may_be_stop(text, channel)

    assert found != (True, True)
    if channel not in HEARD:
        assert found == (False, False)


@given(st.text("<>pblockquotedivr/ \n:STOP", max_size=300))
def test_no_markup_breaks_the_reading_of_an_e_mail(text: str) -> None:
    is_stop(text, "email")
    may_be_stop(text, "email")
