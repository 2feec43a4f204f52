"""Texts of users in Markdown: they stay text, and tables and blocks stay whole."""

import re
from html import unescape

from hypothesis import given, settings
from hypothesis import strategies as st

from golf.submission.markdown import ENVIRONMENT, block, one_line, plain

TEXTS = st.text(st.sampled_from(list("ab |`*_[]()<>&#~!\\\n\r\t$@\u202e\u2028\x00é")), max_size=30)


def read(escaped: str) -> str:
    """What a reader of Markdown makes of escapes and entities."""
    return unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped))


@given(TEXTS)
@settings(max_examples=200)
def test_a_text_stays_itself_on_one_line(text: str) -> None:
    """Fault: a name becomes markup or HTML, breaks a table's row, or is shown as something else."""
    escaped = plain(text)
    assert read(escaped) == one_line(text)
    bare = re.sub(r"\\.", "", escaped)
    assert not set("|`*_[]<>#~!\\$@").intersection(bare)
    assert "\n" not in escaped
    assert "\u202e" not in escaped


@given(TEXTS)
@settings(max_examples=200)
def test_blocks_and_tables_hold_any_text(text: str) -> None:
    """Fault: a text ends its fence or its cell early."""
    lines = block(text).split("\n")
    assert lines[0] == lines[-1]
    assert lines[0] not in lines[1:-1]
    row = ENVIRONMENT.from_string("| {{ text }} | `x` |").render(text=text)
    assert "\n" not in row
    assert len(re.findall(r"(?<!\\)\|", re.sub(r"\\\\", "", row))) == 3
