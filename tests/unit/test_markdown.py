"""Text of strangers stays text."""

from __future__ import annotations

import mistune
import pytest

from foreshard.markdown import plain

ODD = [
    "<script>alert(1)</script>",
    "a|b",
    "`code` and ``more``",
    "[click](http://example.com)",
    "![x](http://example.com/x.png)",
    "*bold* __bold__ _it_ ~~gone~~",
    "b_0001_x",
    "&lt;b&gt; &amp;",
    "C:\\temp\\|",
    "# heading",
    "$x$ {y}",
    'it\'s "so"',
]


@pytest.mark.parametrize("text", ODD)
def test_it_is_shown_letter_for_letter_in_a_cell(text: str) -> None:
    render = mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])
    html = str(render(f"| a | b |\n|---|---|\n| {plain(text)} | end |\n"))
    shown = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert f"<td>{shown}</td>\n" in html
    assert html.count("<td>") == 2


def test_it_stays_in_its_line() -> None:
    assert plain("a\nb") == "a b"


def test_names_are_left_as_they_are() -> None:
    assert plain("rows_flights b0001, id=7") == "rows_flights b0001, id=7"
