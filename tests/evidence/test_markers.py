"""Blocks between markers: replaced by name, everything else untouched, broken markers refused."""

from __future__ import annotations

import pytest

from resteutils.evidence.markers import blocks, replaced

TEXT = "before\n<!-- begin one -->\nold\n<!-- end one -->\nbetween\n<!-- begin two -->\n<!-- end two -->\nafter\n"


def test_a_block_is_replaced_and_the_rest_stays() -> None:
    again = replaced(TEXT, {"one": "| new |\n", "three": "nowhere"})
    assert again == TEXT.replace("old", "| new |")
    assert replaced(again, {"one": "| new |"}) == again
    assert blocks(again) == {"one": "| new |\n", "two": ""}


def test_text_that_looks_like_a_pattern_is_kept() -> None:
    assert "\\1 \\g<0>" in replaced(TEXT, {"two": "\\1 \\g<0>"})


@pytest.mark.parametrize(
    "text",
    ["<!-- begin a -->\n", "<!-- end a -->\n", "<!-- begin a -->\n<!-- end b -->\n", TEXT + TEXT],
)
def test_a_marker_without_its_partner_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="marker '(a|one)'"):
        replaced(text, {})
