"""Class names are the user's: every sign is visible, and no two are alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn2gnn.drawing.classnames import apart, distinct, in_line, readable, short_names, shortened

NAMES = st.lists(st.text(st.characters(), max_size=12), max_size=8)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["Ba$$in", "<b>", "a,b", "قطة", "🐱", "猫"], ["Ba$$in", "<b>", "a,b", "قطة", "🐱", "猫"]),
        (["crane", "dog", "crane"], ["crane (1)", "dog", "crane (2)"]),
        (["crane", "crane (1)", "crane"], ["crane (2)", "crane (1)", "crane (3)"]),
        (["a\nb", "a\\nb", "\x00"], [r"a\nb (1)", r"a\nb (2)", r"\x00"]),
        (["caf\udce9"], [r"caf\udce9"]),  # a folder's name that is no UTF-8
        (["e\u0301", "\u00e9"], ["\u00e9 (1)", "\u00e9 (2)"]),  # alike to the eye
        (["", "  "], ["''", "'  '"]),
        (["\u202egnp"], [r"\u202egnp"]),
    ],
)
def test_names_are_shown_as_they_are_and_once(given, shown):
    assert list(readable(given)) == shown


@given(NAMES)
def test_whatever_names_hold_they_can_be_written_and_told_apart(names):
    shown = readable(names)
    assert len(set(shown)) == len(names)
    for name in shown:
        assert name.encode("utf-8")
        assert name.strip() and "\n" not in name and "\x00" not in name


@given(NAMES)
def test_names_that_differ_stay_as_they_are(names):
    different = list(dict.fromkeys(names))
    assert list(distinct(different)) == different


def test_a_long_name_keeps_its_beginning_and_its_end():
    name = "a" * 100 + "b" * 100
    assert shortened(name, 12) == "aaaaaaa…bbbb"
    assert shortened("short", 12) == "short"
    assert short_names([name, name + "b"], 12) == ("aaaaaaa…bbbb (1)", "aaaaaaa…bbbb (2)")


def test_a_word_of_ours_gives_way_to_a_class():
    assert apart("bank", ["cafe"]) == "bank"
    assert apart("bank", ["bank", "(bank)"]) == "((bank))"


def test_a_name_within_a_line_leaves_the_order_of_the_rest():
    assert in_line("قطة") == "\u2068قطة\u2069"
