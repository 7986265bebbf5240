"""HTML as the lines that a browser shows of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_mcp.text import rendered


@pytest.mark.parametrize(
    "text", ["a < b", "<jane@example.com>", "a\n  b\n", "1 <2, 3> 1", "<b@a.example> wrote:", "x <i and y", "<!-- a"]
)
def test_what_is_no_html_stays_as_it_is(text: str) -> None:
    assert rendered(text) == text


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<p>a</p><p>b</p>c", "a\nb\nc"),
        ("<div>a<br></div><div>b</div>", "a\nb"),
        ("a<br><br/>b<BR>", "a\n\nb"),
        ("<div>a</div><div><br></div><div>b</div>", "a\n\nb"),
        ("<p>one\n  two\t<b>thr</b>ee</p>", "one two three"),
        ("<pre>\na\n\n  b\n</pre>c\nd", "a\n\n  b\nc d"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a\nb"),
        ("<ul><li>a<li>b</ul>", "a\nb"),
        ("<p>a &lt; b &amp;lt; c&nbsp;d</p>", "a < b &lt; c\xa0d"),
        ("<p>a < b</p><p><jane@example.com></p>", "a < b\n<jane@example.com>"),
        ('<a href="x>y" title=\'a"b>\'>c</a>', "c"),
        ('<p title="never ends>a</p>', "a"),
        ("<p data-x=it's>a</p>", "a"),
        ("<head><meta charset=utf-8><title>t</title><style>p {}</style><body>a", "a"),
        ("<title/><style/><p>a</p>", "a"),
        ("<p>a</p><script>if (a < b) '<p>'</script >b", "a\nb"),
        ("<p>a</p><style>never ends <p>b</p>", "a"),
        ("<p>a<!-- > b --></p><!-->c<!--[if mso]>d<![endif]--><![if !mso]>e<![endif]><!DOCTYPE html><?xml?>", "a\nce"),
        ("<p>a</p><!-- never ends <p>b</p>", "a"),
        ("<o:p>a</o:p><p>b", "a\nb"),
        ("<styled>a</styled><p>b", "a\nb"),
    ],
)
def test_html_becomes_the_lines_that_are_seen(html: str, shown: str) -> None:
    assert rendered(html) == shown


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("a<blockquote>b<br><br>c</blockquote>d", "a\n> b\n> \n> c\nd"),
        ("<blockquote>a<blockquote>b</blockquote>c</blockquote>d", "> a\n> b\n> c\nd"),
        ("</blockquote>a<blockquote>b", "a\n> b"),
        ("> a <b>b</b>\n> c\nd\n", "> a b\n> c\nd"),
        ("a <b>b</b>\nc > d\n", "a b c > d"),
        ("<blockquote><pre>a\nb\u2028c</pre></blockquote>", "> a\n> b\n> c"),
        ("<blockquote>a&#10;b&#x2028;c\x85d</blockquote>", "> a b c d"),
        ('<blockquote style="margin: 0; border: none">a</blockquote>', "a"),
        ('<blockquote style="border:none;border-left:solid 1pt">a</blockquote>', "> a"),
    ],
)
def test_what_is_quoted_is_marked_line_by_line(html: str, shown: str) -> None:
    assert rendered(html) == shown


@given(st.text("<>!-/'\"= pbrqstyle&#1;\n", max_size=200))
def test_no_markup_breaks_the_reading(text: str) -> None:
    rendered(f"<p>{text}")


@given(st.lists(st.sampled_from(["<p>", "</p>", "<br>", "<pre>", "</pre>", "a", "\n", "\u2028", "&#13;", "<td>"])))
def test_no_line_of_a_quotation_is_without_its_mark(pieces: list[str]) -> None:
    lines = rendered(f"<blockquote>{''.join(pieces)}").splitlines()

    assert all(line.startswith(">") for line in lines)
