"""Whether what somebody wrote asks for no more messages, or may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.actions.guards.opt_out import STOP_WORDS, is_stop, may_be_stop, names_of
from crm_mcp.channels import CHANNELS, HEARD, Channel
from crm_mcp.model import Lead

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
        *(
            "_STOP_",
            "STOP\u2122",
            "S\u0336T\u0336O\u0336P\u0336",
            "S\u20dfTOP",
            "\u24c8\u24c9\u24c4\u24c5",
            "STOP\u3164",
        ),
        *(
            "ST\u041eP",
            "\u0405\u0422\u041e\u0420",
            "\u0395\u039d\u0044",
            "\ua731\u1d1b\u1d0f\u1d18",
            "UNSUBSCR\u0130BE",
        ),
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
        *("please _STOP_ texting me", "stop_texting", "S.T.O.P. texting me", "s t o p texting me", "please S-TOP it"),
        *("opt.out of this", "opt me out", "opt us all out", "opting out", "He has opted out", "unsubscribed already"),
        *(
            "STOP2END",
            "STOP\u00b2",
            "ST\u041eP texting",
            "S\u0336T\u0336O\u0336P\u0336 it",
            "ST\u00d3P",
            "END\u3164this",
        ),
        *("Liked \u201cReply STOP to end this\u201d", "unsubscribe me", "un-subscribe me now", "No more. END."),
    ],
)
def test_a_text_that_has_such_a_word_may_be_one_and_is_none(text: str) -> None:
    assert not is_stop(text, "sms")
    assert may_be_stop(text, "sms")


@pytest.mark.parametrize(
    "text",
    [
        *("", "ok", "STOPS", "nonstop", "weekend", "append", "friend", "we stopped by", "please", "Ann"),
        *(
            "it's top",
            "that is top notch",
            "opt for it",
            "adopt out",
            "a b c d e f",
            "\u0441\u0442\u043e\u043f",
        ),
    ],
)
def test_other_texts_are_neither(text: str) -> None:
    assert not is_stop(text, "sms", names=ANN)
    assert not may_be_stop(text, "sms", names=ANN)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Stop - Mike",
            "Stop, Mike",
            "Stop - Mike\nSent from my iPhone",
            "Unsubscribe - John Smith",
            "OPT OUT\nJohn Smith",
        ),
        *(
            "Stop. Thanks, Mike Brown",
            "Cancel. Thanks\nMike",
            "Stop\nBest,\nMike\n+1 415 555 0171",
            "Stop\nplease - Mike",
        ),
        *(
            "Cancel\n~ Mike",
            "End\n\u2014 Mike Brown",
            "Stop\n\nMike",
            "Cancel - AL",
            "Please cancel, Ann Lee",
            "STOP\nTHX",
        ),
        *("STOP\n+1 415 555 0171", "STOP\n415-555-0171", "Stop\nAnn Lee\n\nAcme Ltd\nwww.acme.example"),
        "STOP\n--\nMike Brown\nSales at Acme\n\nthis message is confidential, and\nmore so\n" + "and more\n" * 9,
    ],
)
def test_a_name_behind_a_stop_is_a_signature_where_it_is_the_writer_s_or_set_off(text: str) -> None:
    assert is_stop(text, "sms", names=ANN)


@pytest.mark.parametrize(
    "text",
    [
        *("End\nTomorrow", "End - June", "End, Q3", "End\n\nTomorrow", "End - ALL", "End\n2026 12 31"),
        *("Stop\nSearching", "Stop - Boston Office", "Stop\nWill you?", "STOP\n\nBut I want\nthe offer", "Stop\nMike"),
        *(
            "Cancel\nThe Meeting",
            "Cancel - Berlin",
            "Cancel\n- Berlin",
            "Cancel, Acme Invoice",
            "Please cancel, John Smith",
        ),
        *("Cancel\n--\nthat one\u2026", "Cancel\n10 - 12", "Cancel\n12345678", "Cancel\nhttps://meet.example/12"),
        *("Cancel\nThe Meeting\n+1 415 555 0171", "Cancel\nMike Brown\njohn@acme.example"),
    ],
)
def test_what_is_to_be_ended_is_no_signature(text: str) -> None:
    assert not is_stop(text, "sms", names=ANN)
    assert may_be_stop(text, "sms", names=ANN)


def test_a_company_of_everyday_words_signs_with_none_of_them() -> None:
    names = names_of(Lead(id="1", name="Ann Lee", company="Stop The Meeting Ltd"))

    assert not is_stop("Stop the meeting", "sms", names=names | {"ann"})
    assert is_stop("Stop\nAnn Lee", "sms", names=names)


def test_names_are_read_as_the_message_is() -> None:
    names = names_of(Lead(id="1", name="\u0410\u043d\u043d\u0430 \u041f\u0435\u0442\u0440\u043e\u0432\u0430"))

    assert is_stop("STOP\n\u0430\u043d\u043d\u0430 \u043f\u0435\u0442\u0440\u043e\u0432\u0430", "sms", names=names)


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
        "STOP:\n> Our offer",
        "> Our <b>offer</b>\n\nSTOP",
        "pon., 2 mar 2026 o 10:00 Bob <bob@ours.example>\nnapisa\u0142(a):\n> Hello\nSTOP",
        "<div>On Monday Bob wrote:<blockquote>Hello</blockquote><div>STOP</div><blockquote>Bye</blockquote></div>",
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
        ("Please stop sending me this:\n> Our offer", True),
        ("Please stop what in 2025 you wrote:\n> Our offer", True),
        ("On 5 March I said stop\nBob wrote:\n> Our offer", True),
        ("<p>stop\ntexting me</p>", True),
        ("<p>Fine.</p><blockquote>a&#10;STOP</blockquote>", False),
        ("<p>No.</p><blockquote style='border: none'>Please stop</blockquote>", True),
        ("<p>Please <b>un</b>subscribe me</p>", True),
    ],
)
def test_what_an_e_mail_quotes_counts_for_nothing_and_what_it_says_later_may_be_one(text: str, doubtful: bool) -> None:
    assert not is_stop(text, "email")
    assert may_be_stop(text, "email") is doubtful


@pytest.mark.parametrize(
    "line",
    [
        "On Mon, 2 Mar 2026 at 10:00, Bob <bob@ours.example>\nwrote:",
        "Em seg., 2 de mar. de 2026 \u00e0s 10:00, Bob escreveu:",
        "pon., 2 mar 2026 o 10:00 Bob napisa\u0142(a):",
        "Den m\u00e5n 2 mars 2026 kl 10:00 skrev Bob:",
        "ma 2. maalisk. 2026 klo 10.00 Bob kirjoitti:",
        "po 2. 3. 2026 v 10:00 odes\u00edlatel Bob napsal:",
        "2 мар. 2026 г. в 10:00, Bob пишет:",
        "02.03.2026 10:00, Bob написал(а):",
        "пн, 2 бер. 2026 р. о 10:00 Bob пише:",
        "Bob, 2 Mar 2026 Pzt, 10:00 tarihinde \u015funu yazd\u0131:",
        "2026年3月2日(月) 10:00 Bob <bob@ours.example>:",
        "2026年3月2日(月) 10:00 Bobさんのメール\uff1a",
        "于2026年3月2日周一 10:00写道\uff1a",
        "2026년 3월 2일 (월) 오전 10:00, Bob님이 작성:",
        "Bob ezt \u00edrta (id\u0151pont: 2026. m\u00e1rc. 2., H, 10:00):",
        "\u00cen lun., 2 mar. 2026 la 10:00, Bob a scris:",
        "Στις Δευ 2 Μαρ 2026 στις 10:00 π.μ., ο χρήστης Bob έγραψε:",
        "Od: Bob\nWys\u0142ano: 2 marca",
        "От: Bob\nДата: 2 марта",
    ],
)
def test_what_mail_programs_write_above_an_earlier_mail_is_known_in_many_languages(line: str) -> None:
    assert not may_be_stop(f"Fine!\n\n{line}\n\nReply STOP to end this", "email")
    assert may_be_stop(f"Please do stop\nthis\n\n{line}\n\nHello", "email")
    assert is_stop(f"STOP\n\n{line}\n\nHello", "email")


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "Re:",
            "RE :",
            "Re[2]:",
            "Re: AW:",
            "[EXT] Re:",
            "Odp:",
            "VS:",
            "Antwort:",
            "R\u00e9f\u00a0:",
            "SV:",
            "Ynt:",
            "V\u00e1:",
        ),
        *("ΑΠ:", "RES:", "Отв:", "回复:", "回复\uff1a", "答复\uff1a", "RIF:", "I:", "Doorst:", "ENC:", "PD:", "FW:"),
    ],
)
def test_the_subject_of_an_answer_is_known_in_many_languages(prefix: str) -> None:
    assert not may_be_stop("Good!", "email", f"{prefix} Stop losing leads")
    assert not may_be_stop("Good!", "email", f"{prefix} STOP")
    assert not is_stop("", "email", f"{prefix} STOP")
    assert may_be_stop("", "email", f"{prefix} STOP")


@pytest.mark.parametrize("subject", ["Stop: losing leads", "Note: stop", "Stop", "Final re: stop"])
def test_another_subject_is_the_writer_s_own(subject: str) -> None:
    assert may_be_stop("Good!", "email", subject)


@pytest.mark.parametrize(
    ("text", "subject", "expected"),
    [
        ("> Hello", "Re: STOP", (False, True)),
        ("Sent from my iPhone", "AW: AW: stop", (False, True)),
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
