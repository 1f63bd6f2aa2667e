"""The committed look inside a pair of networks: ``python -m resteutils.explorer.pair`` trains both on the digits that
scikit-learn ships, unless they are there, and writes ``static/inside.json``.
"""

from __future__ import annotations

from pathlib import Path

from resteutils.explorer.compact import dumps
from resteutils.explorer.sights import sights
from resteutils.recipes import recipe
from resteutils.runs.store import load_or_train
from resteutils.system.files import write_atomic

__all__ = ["write_pair"]

PAIR, EPOCHS = ("table1/resnet20-1w1a", "table1/resnet20-fp"), 30
TARGET = Path(__file__).parent / "static" / "inside.json"


def write_pair() -> Path:
    """Train the binary network and its float twin, and write what the page shows of them."""
    run, twin = (load_or_train(recipe(name, "demo", epochs=EPOCHS), device="cpu") for name in PAIR)
    return write_atomic(TARGET, dumps(sights(run, twin)) + "\n")


if __name__ == "__main__":
    print(write_pair())
