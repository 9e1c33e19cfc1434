"""Names in plots: letters that no font has become boxes, the others stay."""

from __future__ import annotations

from cnn2gnn.drawing.lettering import plain_name


def test_letters_beyond_ascii_are_looked_up_in_the_fonts_at_hand() -> None:
    assert plain_name("Lauf ü #2") == "Lauf ü #2"
    assert plain_name("a\ue000b") == "a□b"  # for private use: no font at hand draws it
