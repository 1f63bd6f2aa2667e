"""Rows by their names: every row has one, ids in texts are found as whole words, and other words stay."""

from __future__ import annotations

import pytest

from resteutils.evidence.names import in_words, method
from resteutils.recipes import ITEMS


@pytest.mark.parametrize("item", [name for name, item in ITEMS.items() if item.rows])
def test_every_row_has_a_name_of_its_own(item: str) -> None:
    names = {row: method(row) for row in ITEMS[item].rows}
    assert len(set(names.values())) == len(names)
    assert not [row for row, name in names.items() if row == name]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ReSTE above ste-gain-clip after 10 epochs", "ReSTE above STE with gain and clip after 10 epochs"),
        ("ede's s is larger than ste's", "EDE's s is larger than STE's"),
        ("o10 scores below o3.", "o = 10 scores below o = 3."),
        ("resnet20-o1.5, resnet20-o1 and resnet18-fp", "ResNet-20 at o = 1.5, ResNet-20 at o = 1 and ResNet-18 float"),
        *[(same, same) for same in ("run resnet20-1w1a-ste-cifar10-10ep", "results/ste.json", "tested on digits")],
    ],
)  # fmt: skip
def test_ids_in_a_text_are_whole_words(text: str, named: str) -> None:
    assert in_words(text) == named


def test_a_row_that_is_not_known_keeps_its_id() -> None:
    assert method("my-own") == "my-own"
